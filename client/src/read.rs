//! Reading: pages of a conversation, and the conversation itself.

use std::collections::BTreeMap;
use std::time::Duration;

use model::limits;
use proto::net::Channel;
use proto::v1;
use proto::v1::conversations_client::ConversationsClient;

use crate::append::messages;
use crate::builder::Client;
use crate::error::Error;
use crate::message::{duration, timestamp};
use crate::retry::Effect;

/// How fresh a read must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Everything acknowledged before the read began.
    #[default]
    Linearizable,
    /// At least what this token has seen; [`crate::Session`] keeps it.
    Session(String),
    /// Not older than this.
    Bounded(Duration),
    /// Whatever the nearest replica has; its age is labelled.
    Local,
}

/// What a list asks for.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Messages of one page; 0 = 50, at most [`limits::PAGE_SIZE_MAX`].
    pub page_size: u32,
    /// Where the page before ended.
    pub page_token: String,
    /// Newest first.
    pub descending: bool,
    /// Where to begin, the anchor; 0 = the first, or when descending the last.
    pub start_seq: u64,
    /// Instead: at the first message of this create time or later, descending at the last of it or earlier;
    /// Unix milliseconds.
    pub start_time_ms: Option<i64>,
    /// Instead: at the first unread message, behind this seq.
    pub unread_after: Option<u64>,
    /// Messages before the anchor, in the list's order, that the first page holds too; at most 1,000.
    pub context_before: u32,
    /// How fresh.
    pub level: Level,
    /// A user, whose own reactions are marked; empty for nobody.
    pub reader: String,
    /// Refuse when the conversation is in another life than this; 0 = whichever.
    pub incarnation: u64,
}

/// A page of a conversation.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The messages, in the order asked for.
    pub messages: Vec<v1::Message>,
    /// Where the next page begins; empty at the end.
    pub next_page_token: String,
    /// Where the page before this one begins; empty at the beginning.
    pub prev_page_token: String,
    /// On the first page: where the list begins, without its context; 0 where it begins at an end.
    pub anchor_seq: u64,
    /// Older ones have expired.
    pub min_seq: u64,
    /// The conversation's last seq.
    pub last_seq: u64,
    /// Node and data center that answered.
    pub served_by: String,
    /// How old this may be, at most; None when unknown.
    pub staleness: Option<Duration>,
    /// For reads at [`Level::Session`] that must see at least this.
    pub session_token: String,
}

pub(crate) fn read_options(level: &Level) -> v1::ReadOptions {
    use v1::read_options::Level as Wire;
    let (wire, session_token, max_staleness) = match level {
        Level::Linearizable => (Wire::Linearizable, String::new(), None),
        Level::Session(token) => (Wire::Session, token.clone(), None),
        Level::Bounded(bound) => (
            Wire::Bounded,
            String::new(),
            prost_types::Duration::try_from(*bound).ok(),
        ),
        Level::Local => (Wire::Local, String::new(), None),
    };
    v1::ReadOptions {
        level: wire.into(),
        session_token,
        max_staleness,
    }
}

pub(crate) fn conversations(channel: Channel) -> ConversationsClient<Channel> {
    ConversationsClient::new(channel).max_decoding_message_size(limits::FRAME_BYTES_MAX)
}

impl Client {
    /// A page of `parent`'s messages.
    ///
    /// # Errors
    /// [`Error::Refused`] (NOT_FOUND when there is no such conversation) or [`Error::Deadline`].
    pub async fn list(&self, parent: &str, options: &ListOptions) -> Result<Page, Error> {
        let request = v1::ListMessagesRequest {
            parent: parent.to_owned(),
            page_size: i32::try_from(options.page_size).unwrap_or(i32::MAX),
            page_token: options.page_token.clone(),
            descending: options.descending,
            start_seq: options.start_seq,
            start_time: options.start_time_ms.map(timestamp),
            unread_after: options.unread_after,
            context_before: i32::try_from(options.context_before).unwrap_or(i32::MAX),
            read: Some(read_options(&options.level)),
            reader: options.reader.clone(),
            incarnation: options.incarnation,
        };
        let answer = self
            .call(Effect::None, |attempt| {
                let request = attempt.request(request.clone());
                async move { messages(attempt.channel).list_messages(request).await }
            })
            .await?;
        let response = answer.value;
        let info = response.info.unwrap_or_default();
        Ok(Page {
            messages: response.messages,
            next_page_token: response.next_page_token,
            prev_page_token: response.prev_page_token,
            anchor_seq: response.anchor_seq,
            min_seq: response.min_seq,
            last_seq: response.last_seq,
            served_by: info.served_by,
            staleness: info.staleness.and_then(|age| Duration::try_from(age).ok()),
            session_token: info.session_token,
        })
    }

    /// All pages of `parent` from `options` on, one after another.
    pub fn pages(&self, parent: &str, options: ListOptions) -> Pages {
        Pages {
            client: self.clone(),
            parent: parent.to_owned(),
            options: Some(options),
        }
    }

    /// The conversation: its head, its shard, its content hash.
    ///
    /// # Errors
    /// [`Error::Refused`] (NOT_FOUND when there is none) or [`Error::Deadline`].
    pub async fn get_conversation(
        &self,
        name: &str,
        level: &Level,
    ) -> Result<v1::Conversation, Error> {
        let request = v1::GetConversationRequest {
            name: name.to_owned(),
            read: Some(read_options(level)),
        };
        let answer = self
            .call(Effect::None, |attempt| {
                let request = attempt.request(request.clone());
                async move {
                    conversations(attempt.channel)
                        .get_conversation(request)
                        .await
                }
            })
            .await?;
        Ok(answer.value)
    }

    /// Creates a conversation; only needed for settings, since the first append creates it too.
    /// `request_id` makes a retry by the caller safe; empty, the client draws one.
    ///
    /// # Errors
    /// [`Error::Refused`] (ALREADY_EXISTS when another request created it) or [`Error::Deadline`].
    pub async fn create_conversation(
        &self,
        tenant: &str,
        conversation_id: &str,
        conversation: v1::Conversation,
        request_id: &str,
    ) -> Result<v1::Conversation, Error> {
        let request_id = if request_id.is_empty() {
            self.inner.random.id()
        } else {
            request_id.to_owned()
        };
        let request = v1::CreateConversationRequest {
            parent: format!("tenants/{tenant}"),
            conversation_id: conversation_id.to_owned(),
            conversation: Some(conversation),
            request_id,
        };
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let request = self.inner.marked(attempt.request(request.clone()));
                async move {
                    conversations(attempt.channel)
                        .create_conversation(request)
                        .await
                }
            })
            .await?;
        Ok(answer.value)
    }
}

impl Client {
    /// Sets the attributes of the conversation `name`, in place of all that there are. `request_id` makes
    /// a retry by the caller safe; empty, the client draws one.
    ///
    /// # Errors
    /// [`Error::Refused`] (NOT_FOUND when there is none) or [`Error::Deadline`].
    pub async fn update_conversation(
        &self,
        name: &str,
        attributes: BTreeMap<String, String>,
        request_id: &str,
    ) -> Result<v1::UpdateConversationResponse, Error> {
        let rules = Rules::default().attributes(attributes).id(request_id);
        self.set_rules(name, rules).await
    }

    /// Sets what `rules` gives of the conversation `name`, all of it at once; the rest stays.
    ///
    /// # Errors
    /// As [`Client::update_conversation`]; `FENCED` when another writer has taken over.
    pub async fn set_rules(
        &self,
        name: &str,
        rules: Rules,
    ) -> Result<v1::UpdateConversationResponse, Error> {
        let request = v1::UpdateConversationRequest {
            name: name.to_owned(),
            request_id: self.request_id(rules.request_id),
            attributes: rules.attributes.map(|values| v1::Attributes { values }),
            fence: rules.fence,
            ttl: rules.ttl.map(duration),
            legal_hold: rules.legal_hold,
        };
        let answer = self.call(Effect::Perhaps, |attempt| {
            let request = self.inner.marked(attempt.request(request.clone()));
            let mut service = conversations(attempt.channel);
            async move { service.update_conversation(request).await }
        });
        Ok(answer.await?.value)
    }

    /// Deletes the conversation `name` with all that is in it. `request_id` as in
    /// [`Client::update_conversation`].
    ///
    /// # Errors
    /// As [`Client::update_conversation`].
    pub async fn delete_conversation(
        &self,
        name: &str,
        request_id: &str,
    ) -> Result<v1::DeleteConversationResponse, Error> {
        let request = v1::DeleteConversationRequest {
            name: name.to_owned(),
            request_id: self.request_id(request_id.to_owned()),
        };
        let answer = self.call(Effect::Perhaps, |attempt| {
            let request = attempt.request(request.clone());
            let mut service = conversations(attempt.channel);
            async move { service.delete_conversation(request).await }
        });
        Ok(answer.await?.value)
    }

    /// A page of the conversations of `tenant`, and the token of the next page; empty at the end. A page
    /// may hold fewer than `page_size`, or none, before the last.
    ///
    /// # Errors
    /// [`Error::Refused`] or [`Error::Deadline`].
    pub async fn list_conversations(
        &self,
        tenant: &str,
        page_size: u32,
        page_token: &str,
        level: &Level,
    ) -> Result<(Vec<v1::Conversation>, String), Error> {
        let request = v1::ListConversationsRequest {
            parent: format!("tenants/{tenant}"),
            page_size: i32::try_from(page_size).unwrap_or(i32::MAX),
            page_token: page_token.to_owned(),
            read: Some(read_options(level)),
        };
        let answer = self.call(Effect::None, |attempt| {
            let request = attempt.request(request.clone());
            let mut service = conversations(attempt.channel);
            async move { service.list_conversations(request).await }
        });
        let page = answer.await?.value;
        Ok((page.conversations, page.next_page_token))
    }
}

/// What is to be set of a conversation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    request_id: String,
    attributes: Option<BTreeMap<String, String>>,
    fence: Option<v1::Fence>,
    ttl: Option<Duration>,
    legal_hold: Option<bool>,
}

impl Rules {
    /// With this request id, so that the program itself may send it again after it began anew.
    #[must_use]
    pub fn id(mut self, request_id: impl Into<String>) -> Rules {
        self.request_id = request_id.into();
        self
    }

    /// These attributes, in place of all that there are.
    #[must_use]
    pub fn attributes(mut self, attributes: BTreeMap<String, String>) -> Rules {
        self.attributes = Some(attributes);
        self
    }

    /// Appends must give this token from now on; empty = none.
    #[must_use]
    pub fn fence(mut self, token: impl Into<String>) -> Rules {
        let fence = self.fence.get_or_insert_default();
        fence.token = token.into();
        self
    }

    /// The fence token is set only if it was this one; empty = if there was none.
    #[must_use]
    pub fn expected_fence(mut self, token: impl Into<String>) -> Rules {
        let fence = self.fence.get_or_insert_default();
        fence.expected_token = Some(token.into());
        self
    }

    /// Messages expire so long after their append; zero = they do not.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Rules {
        self.ttl = Some(ttl);
        self
    }

    /// While it is set nothing expires.
    #[must_use]
    pub fn legal_hold(mut self, hold: bool) -> Rules {
        self.legal_hold = Some(hold);
        self
    }
}

/// The pages of a conversation, fetched as they are asked for.
pub struct Pages {
    client: Client,
    parent: String,
    /// Where the next page begins; None after the last.
    options: Option<ListOptions>,
}

impl Pages {
    /// The next page; None after the last.
    ///
    /// # Errors
    /// As [`Client::list`]; the same page can be asked for again.
    pub async fn next(&mut self) -> Result<Option<Page>, Error> {
        let Some(options) = &mut self.options else {
            return Ok(None);
        };
        let page = self.client.list(&self.parent, options).await?;
        if page.next_page_token.is_empty() {
            self.options = None;
        } else {
            if let Level::Session(token) = &mut options.level
                && !page.session_token.is_empty()
            {
                token.clone_from(&page.session_token);
            }
            options.page_token.clone_from(&page.next_page_token);
        }
        Ok(Some(page))
    }

    /// All messages that are left.
    ///
    /// # Errors
    /// As [`Client::list`].
    pub async fn collect(mut self) -> Result<Vec<v1::Message>, Error> {
        let mut all = Vec::new();
        while let Some(page) = self.next().await? {
            all.extend(page.messages);
        }
        Ok(all)
    }
}
