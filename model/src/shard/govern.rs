//! The rules of a conversation: who may append, how long messages live, and whether the law wants them kept.
//!
//! A fence token makes one writer of many: once it is set, an append that does not carry it is refused. Who
//! takes over sets another one, and what the former writer still has on its way comes too late.

use bytes::Bytes;
use prost::Message;

use super::{Machine, Sink, View, invalid};
use crate::command::{Answer, Govern, Reason, Refusal, Reply};
use crate::id::ConversationKey;
use crate::limits::TTL_MS_MAX;
use crate::state::{Conversation, Made};

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
        if let Some(wrong) = wrong(&govern) {
            return Ok(invalid(wrong));
        }
        let of = (&govern.conversation[..], &govern.request_id);
        let content = content(&govern).encode_to_vec();
        let (head, asked) = match self.asked(state, of, Made::Rules, &content)? {
            Ok(new) => new,
            Err(reply) => return Ok(reply),
        };
        if let Some(refusal) = overtaken(&govern, &head) {
            return Ok(Reply::new(Answer::Refused(refusal)));
        }
        self.set_rules(state, &asked.key, head, govern);
        Ok(self.done(state, asked))
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
