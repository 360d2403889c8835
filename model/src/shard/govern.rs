//! The rules of a conversation: who may append, how long messages live, and whether the law wants them kept.
//!
//! A fence token makes one writer of many: once it is set, an append that does not carry it is refused. Who
//! takes over sets another one, and what the former writer still has on its way comes too late.

use bytes::Bytes;
use prost::Message;

use super::change::{no_conversation, reused};
use super::configure::answered;
use super::{Machine, Sink, View, collision, invalid};
use crate::command::{Answer, Govern, Reason, Refusal, Reply};
use crate::hash;
use crate::id::ConversationKey;
use crate::limits::TTL_MS_MAX;
use crate::state::{Conversation, Dedup, Made};

impl Machine {
    /// Sets rules, or answers the same request again as the first time.
    pub(super) fn govern<S>(
        &mut self,
        state: &mut S,
        govern: Govern,
    ) -> Result<Reply, <S as View>::Error>
    where
        S: View + Sink,
    {
        let key = match self.locate(&govern.conversation) {
            Ok(key) => key,
            Err(refused) => return Ok(refused),
        };
        if let Some(wrong) = wrong(&govern) {
            return Ok(invalid(wrong));
        }
        let name = &govern.conversation;
        let Some(head) = state.conversation(&key)? else {
            return Ok(no_conversation(name));
        };
        if head.name != *name {
            return Ok(collision(name, &head.name));
        }
        let id = hash::request_id(&govern.request_id);
        let request_hash = hash::salted_hash(&[], &content(&govern).encode_to_vec());
        if let Some(dedup) = self.remembered(state, &key, &id)? {
            let same = dedup.made() == Made::Rules && dedup.request_hash == request_hash;
            return Ok(match same {
                true => answered(&dedup, true),
                false => reused(&govern.request_id),
            });
        }
        if head.is_deleted() {
            return Ok(no_conversation(name));
        }
        if let Some(refusal) = overtaken(&govern, &head) {
            return Ok(Reply::new(Answer::Refused(refusal)));
        }
        let dedup = self.request(&head, Made::Rules, request_hash);
        self.set_rules(state, &key, head, govern);
        let dedup = Dedup {
            revision: self.revision,
            ..dedup
        };
        let answer = answered(&dedup, false);
        state.put_request(&key, &id, dedup);
        Ok(answer)
    }

    fn set_rules<S: Sink>(
        &mut self,
        state: &mut S,
        key: &ConversationKey,
        mut head: Conversation,
        govern: Govern,
    ) {
        self.revision += 1;
        head.revision = self.revision;
        head.settings_revision = self.revision;
        if let Some(attributes) = govern.attributes {
            head.attributes = attributes.values;
        }
        if let Some(fence) = govern.fence {
            head.fence_token = fence.token;
        }
        head.ttl_ms = govern.ttl_ms.unwrap_or(head.ttl_ms);
        head.hold = govern.hold.unwrap_or(head.hold);
        if head.ttl_ms > 0 && !head.expiring {
            head.expiring = true;
            state.put_expiring(key, true);
        }
        state.renew_conversation(key, head);
    }
}

/// What makes two requests the same.
fn content(govern: &Govern) -> Govern {
    Govern {
        conversation: String::new(),
        request_id: Bytes::new(),
        ..govern.clone()
    }
}

fn wrong(govern: &Govern) -> Option<&'static str> {
    let nothing = govern.attributes.is_none()
        && govern.fence.is_none()
        && govern.ttl_ms.is_none()
        && govern.hold.is_none();
    if govern.request_id.is_empty() {
        return Some("a change of a conversation without request_id");
    }
    if nothing {
        return Some("a change of a conversation that changes nothing");
    }
    let long = govern.ttl_ms.is_some_and(|ttl_ms| ttl_ms > TTL_MS_MAX);
    long.then_some("a time to live of more than a hundred years")
}

/// Why a fence token is not set: it was not the one that was expected.
fn overtaken(govern: &Govern, head: &Conversation) -> Option<Refusal> {
    let expected = govern.fence.as_ref()?.expected.as_ref()?;
    let text = "the conversation's fence token is not the one expected: another writer was faster";
    (*expected != head.fence_token).then(|| Refusal::new(Reason::Fenced, text))
}
