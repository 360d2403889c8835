//! Changing a conversation itself: its attributes, and its end.
//!
//! What is left of a deleted conversation is a tombstone under its name and what is remembered of ids, so
//! that retries get their first answers. Whoever appends to it, or creates it, begins its next life.

use bytes::Bytes;
use prost::Message;

use super::append::content_of;
use super::change::{no_conversation, reused};
use super::{Machine, Sink, View, collision, invalid};
use crate::command::{Answer, Attributes, Configure, Configured, Reply, Setting};
use crate::hash;
use crate::id::ConversationKey;
use crate::state::{Conversation, Dedup, Made};

impl Machine {
    /// Changes a conversation, or answers the same request again as the first time.
    pub(super) fn configure<S>(
        &mut self,
        state: &mut S,
        configure: Configure,
    ) -> Result<Reply, <S as View>::Error>
    where
        S: View + Sink,
    {
        let key = match self.locate(&configure.conversation) {
            Ok(key) => key,
            Err(refused) => return Ok(refused),
        };
        let name = &configure.conversation;
        let (made, content) = match &configure.setting {
            _ if configure.request_id.is_empty() => {
                return Ok(invalid("a change of a conversation without request_id"));
            }
            None => return Ok(invalid("a change of a conversation of no known kind")),
            Some(Setting::Attributes(given)) => (Made::Attributes, given.encode_to_vec()),
            Some(Setting::Delete(_)) => (Made::Deletion, Vec::new()),
        };
        let Some(head) = state.conversation(&key)? else {
            return Ok(no_conversation(name));
        };
        if head.name != *name {
            return Ok(collision(name, &head.name));
        }
        let id = hash::request_id(&configure.request_id);
        let request_hash = hash::salted_hash(&[], &content);
        if let Some(dedup) = self.remembered(state, &key, &id)? {
            return Ok(
                match dedup.made() == made && dedup.request_hash == request_hash {
                    true => answered(&dedup, true),
                    false => reused(&configure.request_id),
                },
            );
        }
        if head.is_deleted() {
            return Ok(no_conversation(name));
        }
        let dedup = self.request(&head, made, request_hash);
        match configure.setting {
            Some(Setting::Attributes(given)) => self.set(state, &key, head, given),
            Some(Setting::Delete(_)) | None => self.delete(state, &key, head),
        }
        let dedup = Dedup {
            revision: self.revision,
            ..dedup
        };
        let answer = answered(&dedup, false);
        state.put_request(&key, &id, dedup);
        Ok(answer)
    }

    /// What is to be remembered of a request to a conversation.
    pub(super) fn request(&self, head: &Conversation, made: Made, request_hash: Bytes) -> Dedup {
        Dedup {
            format: 1,
            seq: head.incarnation,
            revision: self.revision,
            time_ms: self.time_ms.max(head.create_time_ms),
            request_hash,
            kept: false,
            passed_ms: self.passed_ms,
            made: made as i32,
            create_time_ms: head.create_time_ms,
            count: 0,
        }
    }

    fn set<S: Sink>(
        &mut self,
        state: &mut S,
        key: &ConversationKey,
        head: Conversation,
        given: Attributes,
    ) {
        self.revision += 1;
        let head = Conversation {
            attributes: given.values,
            revision: self.revision,
            settings_revision: self.revision,
            ..head
        };
        // As at the beginning of a life, the whole head is written.
        state.renew_conversation(key, head);
    }

    fn delete<S: Sink>(&mut self, state: &mut S, key: &ConversationKey, head: Conversation) {
        self.revision += 1;
        debug_assert!(head.last_seq > 0 || content_of(&head) == 0);
        state.clear_conversation(key);
        state.erase(key);
        if head.expiring {
            state.put_expiring(key, false);
        }
        let tombstone = Conversation {
            format: 1,
            name: head.name,
            min_seq: 1,
            incarnation: head.incarnation,
            create_time_ms: head.create_time_ms,
            last_time_ms: head.last_time_ms.max(self.time_ms),
            content_hash: Bytes::from_static(&[0; 16]),
            revision: self.revision,
            create_revision: head.create_revision,
            delete_time_ms: Some(self.time_ms.max(head.create_time_ms)),
            ..Conversation::default()
        };
        state.renew_conversation(key, tombstone);
    }
}

/// The answer to a request that changed a conversation.
pub(super) fn answered(dedup: &Dedup, deduplicated: bool) -> Reply {
    Reply::new(Answer::Configured(Configured {
        revision: dedup.revision,
        time_ms: dedup.time_ms,
        create_time_ms: dedup.create_time_ms,
        incarnation: dedup.seq,
        deduplicated,
    }))
}
