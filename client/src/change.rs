//! Messages one by one: getting, editing, erasing them, and reacting to them.

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::v1;

use crate::append::messages;
use crate::builder::Client;
use crate::error::Error;
use crate::message::{timestamp, unix_ms};
use crate::read::{Level, read_options};
use crate::retry::Effect;

/// What a message is to say from now on; what is not set stays.
///
/// ```
/// use firebreak_client::Edit;
/// let edit = Edit::text("Hello Ann").id("ann-2").expected_revision(17);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    request_id: String,
    body: Option<Bytes>,
    attributes: Option<BTreeMap<String, String>>,
    expected_revision: Option<u64>,
    original_time_ms: Option<i64>,
}

impl Edit {
    /// Another text.
    pub fn text(text: impl Into<String>) -> Edit {
        Edit::default().body(text.into())
    }

    /// Another body: 1 byte to 64 KiB.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Edit {
        self.body = Some(body.into());
        self
    }

    /// Other attributes, in place of all that there are: at most 16, 4 KiB together.
    #[must_use]
    pub fn attributes(mut self, attributes: BTreeMap<String, String>) -> Edit {
        self.attributes = Some(attributes);
        self
    }

    /// Only if the message's revision is still this one; else `REVISION_MISMATCH`.
    #[must_use]
    pub fn expected_revision(mut self, revision: u64) -> Edit {
        self.expected_revision = Some(revision);
        self
    }

    /// When it was edited where it comes from, Unix milliseconds; only of a client for an import
    /// ([`crate::Builder::imports`]).
    #[must_use]
    pub fn original_time_ms(mut self, unix_ms: i64) -> Edit {
        self.original_time_ms = Some(unix_ms);
        self
    }

    /// Under this id, 1 to 128 bytes, so that a program that starts again can send it again. The client
    /// draws one otherwise.
    #[must_use]
    pub fn id(mut self, request_id: impl Into<String>) -> Edit {
        self.request_id = request_id.into();
        self
    }
}

/// The acknowledgement of a change: it is durable on a quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The message's number.
    pub seq: u64,
    /// Its revision after the change.
    pub revision: u64,
    /// When it was appended, Unix milliseconds.
    pub create_time_ms: i64,
    /// Of a reaction: users who have set this kind.
    pub count: u32,
    /// An earlier attempt (of this client or another) had done it; the numbers are its.
    pub deduplicated: bool,
    /// For reads at [`Level::Session`] that must see the change.
    pub session_token: String,
}

impl Changed {
    fn of(
        message: Option<v1::Message>,
        deduplicated: bool,
        info: Option<v1::ResponseInfo>,
    ) -> Changed {
        let message = message.unwrap_or_default();
        Changed {
            seq: message.seq,
            revision: message.revision,
            create_time_ms: message.create_time.as_ref().map_or(0, unix_ms),
            count: message.reactions.first().map_or(0, |one| one.count),
            deduplicated,
            session_token: info.unwrap_or_default().session_token,
        }
    }
}

impl Client {
    /// Message `seq` of `parent`, `tenants/{t}/conversations/{c}`, as it is now.
    ///
    /// # Errors
    /// [`Error::Refused`] (NOT_FOUND when there is none) or [`Error::Deadline`].
    pub async fn get_message(
        &self,
        parent: &str,
        seq: u64,
        level: &Level,
    ) -> Result<v1::Message, Error> {
        let request = v1::GetMessageRequest {
            name: name_of(parent, seq),
            read: Some(read_options(level)),
            reader: String::new(),
        };
        let answer = self
            .call(Effect::None, |attempt| {
                let request = attempt.request(request.clone());
                async move { messages(attempt.channel).get_message(request).await }
            })
            .await?;
        Ok(answer.value.message.unwrap_or_default())
    }

    /// Changes what message `seq` of `parent` says. However often it is sent on the way, it has one
    /// effect.
    ///
    /// # Errors
    /// [`Error::Refused`]: `MESSAGE_NOT_FOUND`, `MESSAGE_REDACTED`, `REVISION_MISMATCH`, or
    /// `REQUEST_ID_REUSED`. [`Error::Deadline`] says whether it may have been done all the same.
    pub async fn edit(&self, parent: &str, seq: u64, edit: Edit) -> Result<Changed, Error> {
        let request = v1::EditMessageRequest {
            name: name_of(parent, seq),
            request_id: self.request_id(edit.request_id),
            expected_revision: edit.expected_revision,
            body: edit.body,
            attributes: edit.attributes.map(|values| v1::Attributes { values }),
            original_time: edit.original_time_ms.map(timestamp),
        };
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let request = self.inner.marked(attempt.request(request.clone()));
                async move { messages(attempt.channel).edit_message(request).await }
            })
            .await?
            .value;
        Ok(Changed::of(
            answer.message,
            answer.deduplicated,
            answer.info,
        ))
    }

    /// Erases message `seq` of `parent`: a tombstone keeps its number. `request_id` makes a retry by the
    /// caller safe; empty, the client draws one.
    ///
    /// # Errors
    /// As [`Client::edit`]; what is erased already is no error.
    pub async fn redact(&self, parent: &str, seq: u64, request_id: &str) -> Result<Changed, Error> {
        self.redact_as_of(parent, seq, None, request_id).await
    }

    /// As [`Client::redact`], of a message that was erased where it comes from, at this time, Unix
    /// milliseconds; only of a client for an import ([`crate::Builder::imports`]).
    ///
    /// # Errors
    /// As [`Client::redact`].
    pub async fn redact_as_of(
        &self,
        parent: &str,
        seq: u64,
        original_time_ms: Option<i64>,
        request_id: &str,
    ) -> Result<Changed, Error> {
        let request = v1::RedactMessageRequest {
            name: name_of(parent, seq),
            request_id: self.request_id(request_id.to_owned()),
            expected_revision: None,
            original_time: original_time_ms.map(timestamp),
        };
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let request = self.inner.marked(attempt.request(request.clone()));
                async move { messages(attempt.channel).redact_message(request).await }
            })
            .await?
            .value;
        Ok(Changed::of(
            answer.message,
            answer.deduplicated,
            answer.info,
        ))
    }

    /// Sets a reaction of `user` to message `seq` of `parent`, or takes it back. `request_id` as in
    /// [`Client::redact`].
    ///
    /// # Errors
    /// As [`Client::edit`]; also `REACTIONS_FULL`.
    pub async fn react(
        &self,
        parent: &str,
        seq: u64,
        (user, kind, remove): (&str, &str, bool),
        request_id: &str,
    ) -> Result<Changed, Error> {
        let request = v1::ReactRequest {
            name: name_of(parent, seq),
            request_id: self.request_id(request_id.to_owned()),
            user: user.to_owned(),
            kind: kind.to_owned(),
            remove,
        };
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let request = self.inner.marked(attempt.request(request.clone()));
                async move { messages(attempt.channel).react(request).await }
            })
            .await?
            .value;
        Ok(Changed::of(
            answer.message,
            answer.deduplicated,
            answer.info,
        ))
    }

    /// A page of who has set which reactions to the messages `seqs` (first, last; 0 = the last) of `parent`,
    /// and the token of the next page; empty at the end.
    ///
    /// # Errors
    /// [`Error::Refused`] (NOT_FOUND when there is no such conversation) or [`Error::Deadline`].
    pub async fn list_reactions(
        &self,
        parent: &str,
        (first_seq, last_seq): (u64, u64),
        page_token: &str,
        level: &Level,
    ) -> Result<(Vec<v1::Reaction>, String), Error> {
        let request = v1::ListReactionsRequest {
            parent: parent.to_owned(),
            first_seq,
            last_seq,
            page_size: i32::try_from(model::limits::PAGE_SIZE_MAX).unwrap_or(i32::MAX),
            page_token: page_token.to_owned(),
            read: Some(read_options(level)),
        };
        let answer = self.call(Effect::None, |attempt| {
            let request = attempt.request(request.clone());
            async move { messages(attempt.channel).list_reactions(request).await }
        });
        let page = answer.await?.value;
        Ok((page.reactions, page.next_page_token))
    }

    /// The given id, or one of the client's own.
    pub(crate) fn request_id(&self, given: String) -> String {
        match given.is_empty() {
            true => self.inner.random.id(),
            false => given,
        }
    }
}

fn name_of(parent: &str, seq: u64) -> String {
    format!("{parent}/messages/{seq}")
}
