//! Removing what has expired, by command only: so all replicas remove the same at the same place of the log.
//!
//! ```text
//!   seq      1   2   3   4   5   6   7
//!            x   x   x   .   x   .   .      x expired, . not
//!            └─ gone ─┘      └─ a tombstone: its number stays, so that there is no gap
//!                    min_seq = 4
//! ```
//!
//! Whether a message has expired is decided here by the time of the command, whatever its sender thought. Numbers
//! are dense (promise O), so that only what is expired from the first message on is removed wholly.

use super::change::{Target, no_conversation};
use super::{Machine, Sink, View, collision, invalid};
use crate::command::{Answer, Due, Expire, Expired, Reply};
use crate::hash;
use crate::id::ConversationKey;
use crate::limits::EXPIRE_MAX;
use crate::mutant;
use crate::state::{Conversation, Stored};

/// A conversation while what has expired of it is removed.
struct Open {
    key: ConversationKey,
    head: Conversation,
    done: Expired,
}

impl Machine {
    /// Removes what has expired of a conversation.
    pub(super) fn expire<S>(
        &mut self,
        state: &mut S,
        expire: Expire,
    ) -> Result<Reply, <S as View>::Error>
    where
        S: View + Sink,
    {
        let key = match self.locate(&expire.conversation) {
            Ok(key) => key,
            Err(refused) => return Ok(refused),
        };
        let prefix_max = usize::try_from(expire.prefix_max).unwrap_or(usize::MAX);
        if expire.due.len().saturating_add(prefix_max) > EXPIRE_MAX {
            return Ok(invalid("too much to remove in one command"));
        }
        let head = match state.conversation(&key)? {
            Some(head) if !head.is_deleted() => head,
            Some(_) | None => return Ok(no_conversation(&expire.conversation)),
        };
        if head.name != expire.conversation {
            return Ok(collision(&expire.conversation, &head.name));
        }
        let done = Expired::default();
        let mut open = Open { key, head, done };
        self.remove_prefix(state, &mut open, &expire)?;
        for due in &expire.due {
            self.expire_one(state, &mut open, *due)?;
        }
        let Open { head, mut done, .. } = open;
        done.min_seq = head.min_seq.max(1);
        if done.removed + done.tombstones > 0 {
            state.renew_conversation(&key, head);
        }
        Ok(Reply::new(Answer::Expired(done)))
    }

    /// Whether a message has expired at the time of the command.
    fn has_expired(&self, head: &Conversation, stored: &Stored, tenant_ttl_ms: u64) -> bool {
        if mutant!("expired-before-its-time") {
            return !head.hold;
        }
        let at_ms = head.expires_at(stored, tenant_ttl_ms);
        let past = at_ms.is_some_and(|at_ms| at_ms <= self.time_ms);
        // One that had expired by a time of its own stays so; a hold keeps its number.
        past || (stored.expired_ms.is_some() && !head.hold)
    }

    /// Removes the first messages for as long as they have expired.
    fn remove_prefix<S>(
        &mut self,
        state: &mut S,
        open: &mut Open,
        expire: &Expire,
    ) -> Result<(), <S as View>::Error>
    where
        S: View + Sink,
    {
        let from = open.head.min_seq.max(1);
        let mut next = from;
        while next - from < expire.prefix_max {
            let Some(mut target) = open.target(state, next)? else {
                break;
            };
            if !self.has_expired(&open.head, &target.stored, expire.tenant_ttl_ms) {
                break;
            }
            open.done.bytes += target.bytes();
            let stored = &target.stored;
            let ttl_ms = stored.message.as_ref().map_or(0, |message| message.ttl_ms);
            if ttl_ms > 0 {
                let at_ms = stored.create_time_ms.saturating_add(ttl_ms);
                state.put_expiry(&open.key, at_ms, next, false);
            }
            if stored.append_revision > 0 {
                state.put_changed(&open.key, stored.revision, None);
            }
            target.add_content(hash::record_hash(&target.record).wrapping_neg());
            target.drop_reactions(state);
            open.head = target.head;
            next += 1;
        }
        if next > from {
            state.remove_messages(&open.key, from, next - 1);
            self.revision += 1;
            open.head.revision = self.revision;
            open.head.min_seq = next;
            open.done.removed = next - from;
        }
        Ok(())
    }

    /// Makes a tombstone of a message that has expired by a time of its own.
    fn expire_one<S>(
        &mut self,
        state: &mut S,
        open: &mut Open,
        due: Due,
    ) -> Result<(), <S as View>::Error>
    where
        S: View + Sink,
    {
        let Due { at_ms, seq } = due;
        if at_ms > self.time_ms || open.head.hold {
            return Ok(());
        }
        let target = open.target(state, seq)?;
        // What the note said was true of a message that is gone, or is empty already.
        if let Some(mut target) = target.filter(|target| !target.stored.is_tombstone()) {
            if !self.has_expired(&open.head, &target.stored, 0) {
                return Ok(());
            }
            open.done.bytes += target.bytes();
            target.empty(state)?;
            let stored = &mut target.stored;
            stored.expired_ms = Some(self.time_ms.max(stored.create_time_ms));
            self.replace(state, &mut target);
            open.head = target.head;
            open.head.revision = self.revision;
            open.head.change_revision = self.revision;
            open.done.tombstones += 1;
        }
        state.put_expiry(&open.key, at_ms, seq, false);
        Ok(())
    }
}

impl Open {
    /// A message of it, if it is there.
    fn target<S: View>(&self, state: &mut S, seq: u64) -> Result<Option<Target>, S::Error> {
        Target::read(state, self.key, self.head.clone(), seq)
    }
}
