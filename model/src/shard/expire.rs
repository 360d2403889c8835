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

use bytes::Bytes;
use prost::Message;

use super::append::content_of;
use super::change::no_conversation;
use super::{Machine, Sink, View, collision, invalid};
use crate::command::{Answer, Due, Expire, Expired, Reply};
use crate::hash;
use crate::id::ConversationKey;
use crate::limits::EXPIRE_MAX;
use crate::mutant;
use crate::state::{Conversation, Dedup, Stored};

/// A conversation while what has expired of it is removed.
struct Open {
    key: ConversationKey,
    head: Conversation,
    content: u128,
    done: Expired,
    changed: bool,
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
        let mut open = Open {
            key,
            content: content_of(&head),
            head,
            done: Expired::default(),
            changed: false,
        };
        self.remove_prefix(state, &mut open, &expire)?;
        for due in &expire.due {
            self.expire_one(state, &mut open, *due)?;
        }
        open.done.min_seq = open.head.min_seq.max(1);
        let done = open.done;
        if open.changed {
            open.head.content_hash = Bytes::copy_from_slice(&open.content.to_le_bytes());
            state.renew_conversation(&open.key, open.head);
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
        while next <= open.head.last_seq && next - from < expire.prefix_max {
            let Some(record) = state.message(&open.key, next)? else {
                break;
            };
            // The view has checked its sum.
            let Ok(stored) = Stored::decode(record.clone()) else {
                break;
            };
            if !self.has_expired(&open.head, &stored, expire.tenant_ttl_ms) {
                break;
            }
            let ttl_ms = stored.message.as_ref().map_or(0, |message| message.ttl_ms);
            if ttl_ms > 0 {
                let at_ms = stored.create_time_ms.saturating_add(ttl_ms);
                state.put_expiry(&open.key, at_ms, next, false);
            }
            if stored.append_revision > 0 {
                state.put_changed(&open.key, stored.revision, None);
            }
            open.take_out(&record);
            open.clear_reactions(state, next)?;
            next += 1;
        }
        if next > from {
            state.remove_messages(&open.key, from, next - 1);
            open.head.min_seq = next;
            open.done.removed = next - from;
            open.note(&mut self.revision);
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
        let within = (open.head.min_seq.max(1)..=open.head.last_seq).contains(&seq);
        let record = match within {
            true => state.message(&open.key, seq)?,
            false => None,
        };
        let stored = record.as_ref().map(|record| Stored::decode(record.clone()));
        // What it said of the future was true of a message that is gone.
        if let (Some(record), Some(Ok(stored))) = (record, stored)
            && !stored.is_tombstone()
        {
            if !self.has_expired(&open.head, &stored, 0) {
                return Ok(());
            }
            open.take_out(&record);
            open.clear_reactions(state, seq)?;
            self.bury(state, open, stored)?;
        }
        state.put_expiry(&open.key, at_ms, seq, false);
        Ok(())
    }

    /// Writes the tombstone of a message; as with one that was erased, what is remembered of its id says
    /// nothing of its content.
    fn bury<S>(
        &mut self,
        state: &mut S,
        open: &mut Open,
        mut stored: Stored,
    ) -> Result<(), <S as View>::Error>
    where
        S: View + Sink,
    {
        let message = stored.message.take().unwrap_or_default();
        let id = hash::dedup_id(&message.sender, &message.client_message_id);
        let appended = state.dedup(&open.key, &id)?;
        if let Some(appended) = appended.filter(|d| d.revision == stored.appended_at()) {
            let request_hash = Bytes::new();
            let dedup = Dedup {
                request_hash,
                ..appended
            };
            state.put_request(&open.key, &id, dedup);
        }
        match stored.append_revision {
            0 => stored.append_revision = stored.revision,
            _ => state.put_changed(&open.key, stored.revision, None),
        }
        open.note(&mut self.revision);
        stored.revision = self.revision;
        stored.message = Some(Default::default());
        stored.salt = Bytes::new();
        stored.edit_time_ms = None;
        stored.expired_ms = Some(self.time_ms.max(stored.create_time_ms));
        self.record.clear();
        stored.encode_raw(&mut self.record);
        open.content = open.content.wrapping_add(hash::record_hash(&self.record));
        open.head.change_revision = self.revision;
        open.done.tombstones += 1;
        state.replace_message(&open.key, stored.seq, &self.record);
        state.put_changed(&open.key, self.revision, Some(stored.seq));
        Ok(())
    }
}

impl Open {
    /// One change more.
    fn note(&mut self, revision: &mut u64) {
        *revision += 1;
        self.head.revision = *revision;
        self.changed = true;
    }

    /// Takes a record out of the sum.
    fn take_out(&mut self, record: &[u8]) {
        self.content = self.content.wrapping_sub(hash::record_hash(record));
        self.done.bytes += record.len() as u64;
    }

    fn clear_reactions<S>(&mut self, state: &mut S, seq: u64) -> Result<(), <S as View>::Error>
    where
        S: View + Sink,
    {
        if self.head.reaction_revision == 0 {
            return Ok(());
        }
        if let Some(reactions) = state.reactions(&self.key, seq)? {
            self.take_out(&reactions.encode_to_vec());
            let sum = <[u8; 16]>::try_from(reactions.sum.as_ref());
            let sum = sum.map_or(0, u128::from_le_bytes);
            self.content = self.content.wrapping_sub(sum);
            state.put_changed(&self.key, reactions.revision, None);
            state.clear_reactions(&self.key, seq);
        }
        Ok(())
    }
}
