//! Creating a conversation.

use bytes::Bytes;
use prost::Message;

use super::append::born;
use super::change::reused;
use super::{Machine, Sink, View, collision, invalid};
use crate::command::{Answer, Attributes, Create, Created, FORMAT_WITHOUT_RULES, Reason, Reply};
use crate::hash;
use crate::state::{Conversation, Dedup, Made};

impl Machine {
    /// Creates a conversation, or answers the same request again as the first time.
    pub(super) fn create<S>(
        &mut self,
        state: &mut S,
        create: Create,
    ) -> Result<Reply, <S as View>::Error>
    where
        S: View + Sink,
    {
        let key = match self.locate(&create.conversation) {
            Ok(key) => key,
            Err(refused) => return Ok(refused),
        };
        if create.request_id.is_empty() {
            return Ok(invalid("a creation without request_id"));
        }
        let id = hash::request_id(&create.request_id);
        let request_hash = content_of(&create);
        let before = state.conversation(&key)?;
        if let Some(head) = &before {
            if head.name != create.conversation {
                return Ok(collision(&create.conversation, &head.name));
            }
            if let Some(dedup) = self.remembered(state, &key, &id)? {
                let same = dedup.made() == Made::Creation && dedup.request_hash == request_hash;
                return Ok(match same {
                    true => first(create, &dedup),
                    // As before requests had a table.
                    false if dedup.made() == Made::Creation => other_attributes(&create),
                    false => reused(&create.request_id),
                });
            }
            if !head.is_deleted() {
                return Ok(again(&create, head.clone()));
            }
        }
        self.revision += 1;
        let head = Conversation {
            content_hash: Bytes::from_static(&[0; 16]),
            attributes: create.attributes,
            request_id: create.request_id,
            revision: self.revision,
            create_revision: self.revision,
            ..born(create.conversation, before.as_ref(), self.time_ms)
        };
        let head = Conversation {
            last_time_ms: head.create_time_ms,
            ..head
        };
        // Versions before remember no requests; all replicas are to hold the same.
        if self.format >= FORMAT_WITHOUT_RULES {
            let dedup = self.request(&head, Made::Creation, request_hash);
            state.put_request(&key, &id, dedup);
        }
        match before {
            Some(_) => state.renew_conversation(&key, head.clone()),
            None => state.put_conversation(&key, head.clone(), true),
        }
        Ok(created(head, false))
    }
}

fn content_of(create: &Create) -> Bytes {
    let attributes = Attributes {
        values: create.attributes.clone(),
    };
    hash::salted_hash(&[], &attributes.encode_to_vec())
}

/// The first answer, of a request that is remembered.
fn first(create: Create, dedup: &Dedup) -> Reply {
    let head = Conversation {
        format: 1,
        name: create.conversation,
        min_seq: 1,
        incarnation: dedup.seq,
        create_time_ms: dedup.create_time_ms,
        last_time_ms: dedup.create_time_ms,
        content_hash: Bytes::from_static(&[0; 16]),
        attributes: create.attributes,
        request_id: create.request_id,
        revision: dedup.revision,
        create_revision: dedup.revision,
        ..Conversation::default()
    };
    created(head, true)
}

fn other_attributes(create: &Create) -> Reply {
    Reply::refused(
        Reason::ClientMessageIdReused,
        format!(
            "the request that created {} had other attributes",
            create.conversation
        ),
    )
}

/// The answer when the conversation exists, as its head tells.
fn again(create: &Create, head: Conversation) -> Reply {
    if head.request_id != create.request_id {
        return Reply::refused(
            Reason::AlreadyExists,
            format!("{} exists, created by another request", head.name),
        );
    }
    if head.attributes != create.attributes && head.settings_revision == 0 {
        return other_attributes(create);
    }
    let first = Conversation {
        last_seq: 0,
        min_seq: 1,
        last_time_ms: head.create_time_ms,
        content_hash: Bytes::from_static(&[0; 16]),
        attributes: create.attributes.clone(),
        revision: head.create_revision,
        reaction_revision: 0,
        change_revision: 0,
        settings_revision: 0,
        ..head
    };
    created(first, true)
}

fn created(conversation: Conversation, deduplicated: bool) -> Reply {
    Reply::new(Answer::Created(Box::new(Created {
        conversation: Some(conversation),
        deduplicated,
    })))
}
