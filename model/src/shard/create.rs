//! Creating a conversation.

use bytes::Bytes;

use super::{Machine, Sink, View, collision, invalid};
use crate::command::{Answer, Create, Created, Reason, Reply};
use crate::state::Conversation;

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
        if let Some(head) = state.conversation(&key)? {
            return Ok(again(&create, head));
        }
        self.revision += 1;
        let head = Conversation {
            format: 1,
            name: create.conversation,
            last_seq: 0,
            min_seq: 1,
            incarnation: 1,
            create_time_ms: self.time_ms,
            last_time_ms: self.time_ms,
            content_hash: Bytes::from_static(&[0; 16]),
            attributes: create.attributes,
            request_id: create.request_id,
            revision: self.revision,
            create_revision: self.revision,
            reaction_revision: 0,
            change_revision: 0,
        };
        state.put_conversation(&key, head.clone(), true);
        Ok(created(head, false))
    }
}

/// The answer when the conversation exists.
fn again(create: &Create, head: Conversation) -> Reply {
    if head.name != create.conversation {
        return collision(&create.conversation, &head.name);
    }
    if head.request_id != create.request_id {
        return Reply::refused(
            Reason::AlreadyExists,
            format!("{} exists, created by another request", head.name),
        );
    }
    if head.attributes != create.attributes {
        return Reply::refused(
            Reason::ClientMessageIdReused,
            format!(
                "the request that created {} had other attributes",
                head.name
            ),
        );
    }
    let first = Conversation {
        last_seq: 0,
        min_seq: 1,
        last_time_ms: head.create_time_ms,
        content_hash: Bytes::from_static(&[0; 16]),
        revision: head.create_revision,
        ..head
    };
    created(first, true)
}

fn created(conversation: Conversation, deduplicated: bool) -> Reply {
    Reply::new(Answer::Created(Created {
        conversation: Some(conversation),
        deduplicated,
    }))
}
