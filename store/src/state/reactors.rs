//! Who has set which reactions, message after message.

use std::ops::ControlFlow;

use bytes::Bytes;
use model::id::ConversationName;
use model::shard::ReactionId;
use model::state::{Conversation, Reaction};

use super::overlay::head_of;
use super::record;
use super::shard::ShardState;
use crate::engine::{Order, Read};
use crate::key::state::Named;
use crate::{Error, key};

/// Where a list of reactions goes on: behind this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    /// The message's number.
    pub seq: u64,
    /// The reaction's name.
    pub id: ReactionId,
}

/// Reactions to messages of one conversation.
#[derive(Clone, Debug)]
pub struct Reacted {
    /// The head.
    pub head: Conversation,
    /// Those to one message follow each other.
    pub reactions: Vec<Reaction>,
    /// Where to go on; none at the end.
    pub next: Option<Behind>,
}

impl ShardState {
    /// The reactions to the messages `seqs` of a conversation, `limit` of them at most, from `behind` on.
    /// `None` when there is no such conversation. What it gives is of one read point.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a reaction cannot be read back.
    pub fn reactors(
        &self,
        name: &ConversationName,
        seqs: (u64, u64),
        behind: Option<Behind>,
        limit: usize,
    ) -> Result<Option<Reacted>, Error> {
        self.noted(self.read_reactors(name, seqs, behind, limit))
    }

    fn read_reactors(
        &self,
        name: &ConversationName,
        (first, last): (u64, u64),
        behind: Option<Behind>,
        limit: usize,
    ) -> Result<Option<Reacted>, Error> {
        let snapshot = self.point_of(&self.shard.serving.read());
        let key = name.key();
        let head = head_of(&*snapshot, &key)?;
        let Some(head) = head.filter(|head| head.name == name.as_str() && !head.is_deleted())
        else {
            return Ok(None);
        };
        let mut found = Reacted {
            head,
            reactions: Vec::new(),
            next: None,
        };
        if found.head.reaction_revision == 0 || first > last || limit == 0 {
            return Ok(Some(found));
        }
        let mut from = key::state::reactions(&key, first).0;
        if let Some(behind) = behind {
            let mut after = key::state::reaction(&key, behind.seq, &behind.id).to_vec();
            after.push(0);
            from = from.max(after);
        }
        let to = key::state::reactions(&key, last).1;
        if from < to {
            scan(&*snapshot, (&from, &to), limit, &mut found)?;
        }
        Ok(Some(found))
    }
}

fn scan(
    read: &dyn Read,
    (from, to): (&[u8], &[u8]),
    limit: usize,
    found: &mut Reacted,
) -> Result<(), Error> {
    let mut last = None;
    read.scan(from, to, Order::Ascending, &mut |at, value| {
        let Some(Named::Reaction(_, seq, id)) = key::state::parse(at) else {
            return Err(record::corrupt(at, "it is no reaction".into()));
        };
        if found.reactions.len() == limit {
            found.next = last;
            return Ok(ControlFlow::Break(()));
        }
        let one: Reaction = record::decode(at, Bytes::copy_from_slice(value))?;
        found.reactions.push(one);
        last = Some(Behind { seq, id });
        Ok(ControlFlow::Continue(()))
    })
}
