//! Changing a conversation itself: its attributes, and its end.
//!
//! What is left of a deleted conversation is a tombstone under its name and what is remembered of ids, so
//! that retries get their first answers. Whoever appends to it, or creates it, begins its next life.

use bytes::Bytes;
use prost::Message;

use super::append::content_of;
use super::change::{no_conversation, reused};
use super::{DedupId, Machine, Sink, View, collision, invalid};
use crate::command::{Answer, Attributes, Configure, Configured, Reply, Setting};
use crate::hash;
use crate::id::ConversationKey;
use crate::state::{Conversation, Dedup, Made};

/// A request to a conversation that is new.
pub(super) struct Asked {
    pub(super) key: ConversationKey,
    id: DedupId,
    dedup: Dedup,
}

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
        let (made, content) = match &configure.setting {
            _ if configure.request_id.is_empty() => {
                return Ok(invalid("a change of a conversation without request_id"));
            }
            None => return Ok(invalid("a change of a conversation of no known kind")),
            Some(Setting::Attributes(given)) => (Made::Attributes, given.encode_to_vec()),
            Some(Setting::Delete(_)) => (Made::Deletion, Vec::new()),
        };
        let of = (&configure.conversation[..], &configure.request_id);
        let (head, asked) = match self.asked(state, of, made, &content)? {
            Ok(new) => new,
            Err(reply) => return Ok(reply),
        };
        match configure.setting {
            Some(Setting::Attributes(given)) => self.set(state, &asked.key, head, given),
            Some(Setting::Delete(_)) | None => self.delete(state, &asked.key, head),
        }
        Ok(self.done(state, asked))
    }

    /// The head of a conversation, and what is to be remembered of a request to it that is new; else what to
    /// answer: what it was answered before, or why it is refused.
    #[allow(clippy::type_complexity, reason = "it is taken apart at once")]
    pub(super) fn asked<S: View>(
        &self,
        state: &mut S,
        (name, request_id): (&str, &Bytes),
        made: Made,
        content: &[u8],
    ) -> Result<Result<(Conversation, Asked), Reply>, S::Error> {
        let key = match self.locate(name) {
            Ok(key) => key,
            Err(refused) => return Ok(Err(refused)),
        };
        let Some(head) = state.conversation(&key)? else {
            return Ok(Err(no_conversation(name)));
        };
        if head.name != name {
            return Ok(Err(collision(name, &head.name)));
        }
        let id = hash::request_id(request_id);
        let request_hash = hash::salted_hash(&[], content);
        if let Some(dedup) = self.remembered(state, &key, &id)? {
            let same = dedup.made() == made && dedup.request_hash == request_hash;
            return Ok(Err(match same {
                true => answered(&dedup, true),
                false => reused(request_id),
            }));
        }
        if head.is_deleted() {
            return Ok(Err(no_conversation(name)));
        }
        let dedup = self.request(&head, made, request_hash);
        Ok(Ok((head, Asked { key, id, dedup })))
    }

    /// Remembers a request that was just carried out, and answers it.
    pub(super) fn done<S: Sink>(&self, state: &mut S, asked: Asked) -> Reply {
        let dedup = Dedup {
            revision: self.revision,
            ..asked.dedup
        };
        let answer = answered(&dedup, false);
        state.put_request(&asked.key, &asked.id, dedup);
        answer
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

fn answered(dedup: &Dedup, deduplicated: bool) -> Reply {
    Reply::new(Answer::Configured(Configured {
        revision: dedup.revision,
        time_ms: dedup.time_ms,
        create_time_ms: dedup.create_time_ms,
        incarnation: dedup.seq,
        deduplicated,
    }))
}
