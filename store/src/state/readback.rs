//! Reading a shard back from disk and hashing it, to compare replicas (promise H): conversation by
//! conversation ([`ShardState::hash`]), or all in one, in slices ([`Scrub`]).

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use model::hash;
use model::id::{ConversationKey, ConversationName};
use model::shard::Scope;
use model::state::Conversation;

use super::{Applied, ShardState, overlay, record};
use crate::engine::Order;
use crate::key::state::{Named, conversations, parse, shard_records};
use crate::snapshot::ReadPoint;
use crate::{Error, engine};

/// What a conversation is said to hold, and what was found on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationHash {
    /// The whole name.
    pub name: String,
    /// Its last message's number.
    pub last_seq: u64,
    /// The first that has not expired.
    pub min_seq: u64,
    /// Messages found on disk.
    pub messages: u64,
    /// The sum that the commands kept, 16 bytes little-endian; for the messages since the head was
    /// written last (less than 16) it is what their records add.
    pub running_hash: Bytes,
    /// The sum over the records read back, 16 bytes little-endian.
    pub disk_hash: Bytes,
}

impl ConversationHash {
    /// How many messages must be on disk: numbers are dense, and those before the first have expired.
    pub fn counted(&self) -> u64 {
        (self.last_seq + 1).saturating_sub(self.min_seq.max(1))
    }
}

/// The read of all records of a shard at one read point, in slices, so that it can be as slow as it
/// should. What it verifies is what [`ShardState::hash`] does, and the records of ids beside.
pub struct Scrub {
    point: ReadPoint,
    /// Where the next slice begins.
    next: Vec<u8>,
    end: Vec<u8>,
    open: Option<Open>,
    digest: Digest,
}

/// All records of a shard in a few numbers, the same for equal replicas whatever their order on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest {
    /// Records read.
    pub records: u64,
    /// Bytes read.
    pub bytes: u64,
    /// The sum of their hashes.
    pub sum: u128,
}

impl Digest {
    fn add(&mut self, key: &[u8], record: &[u8]) {
        self.records += 1;
        self.bytes += (key.len() + record.len()) as u64;
        let of_both = hash::record_hash(key) ^ hash::record_hash(record).rotate_left(1);
        self.sum = self.sum.wrapping_add(of_both);
    }
}

impl Scrub {
    /// Begins to read a shard back, with what it knows of itself.
    ///
    /// # Errors
    /// As [`Scrub::slice`].
    pub fn new(point: ReadPoint) -> Result<Scrub, Error> {
        let (from, to) = shard_records(point.shard);
        let read: &dyn engine::Read = &*point.snapshot;
        read.scan(&from, &to, Order::Ascending, &mut |key, value| {
            record::check(key, value)?;
            Ok(ControlFlow::Continue(()))
        })?;
        let (next, end) = match &point.scope {
            Scope::Data(slots) => conversations(slots),
            Scope::Meta => (Vec::new(), Vec::new()),
        };
        Ok(Scrub {
            point,
            next,
            end,
            open: None,
            digest: Digest::default(),
        })
    }

    /// Reads on, about `bytes`; gives how many it read, and the digest once everything is read.
    ///
    /// # Errors
    /// As [`ShardState::hash`]; the caller stops the replica.
    pub fn slice(&mut self, bytes: u64) -> Result<(u64, Option<Digest>), Error> {
        let (before, snapshot) = (self.digest.bytes, Arc::clone(&self.point.snapshot));
        let (from, end) = (std::mem::take(&mut self.next), self.end.clone());
        let read: &dyn engine::Read = &*snapshot;
        read.scan(&from, &end, Order::Ascending, &mut |key, value| {
            if self.digest.bytes - before >= bytes {
                self.next = key.to_vec();
                return Ok(ControlFlow::Break(()));
            }
            step(&mut self.open, key, value, &mut |_| {})?;
            // A head is written now and then, and derived from its messages in between.
            if !matches!(parse(key), Some(Named::Head(_))) {
                self.digest.add(key, record::check(key, value)?);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let done = self.next.is_empty().then_some(self.digest);
        Ok((self.digest.bytes - before, done))
    }
}

/// A conversation while its records pass by.
struct Open {
    key: ConversationKey,
    head: Conversation,
    messages: u64,
    sum: u128,
}

impl ShardState {
    /// Reads every record of the shard back through one read point; `visit` gets each conversation,
    /// in key order. Says what had been applied at that read point.
    ///
    /// # Errors
    /// [`Error::Corrupt`] at the first record whose sum does not fit, that is in the wrong place, or
    /// that belongs to no conversation.
    pub fn hash(&self, visit: impl FnMut(ConversationHash)) -> Result<Applied, Error> {
        self.noted(self.hash_all(visit))
    }

    fn hash_all(&self, mut visit: impl FnMut(ConversationHash)) -> Result<Applied, Error> {
        let point = self.read_point()?;
        let Scope::Data(slots) = &point.scope else {
            return Ok(point.applied);
        };
        let (from, to) = conversations(slots);
        let mut open: Option<Open> = None;
        let read: &dyn engine::Read = &*point.snapshot;
        read.scan(&from, &to, Order::Ascending, &mut |key, value| {
            step(&mut open, key, value, &mut visit)?;
            Ok(ControlFlow::Continue(()))
        })?;
        if let Some(last) = open {
            visit(last.hashed());
        }
        Ok(point.applied)
    }
}

fn step(
    open: &mut Option<Open>,
    key: &[u8],
    value: &[u8],
    visit: &mut impl FnMut(ConversationHash),
) -> Result<(), Error> {
    let record = record::check(key, value)?;
    let strange = |reason: &str| record::corrupt(key, reason.into());
    let named =
        parse(key).ok_or_else(|| strange("it is not the key of a conversation's record"))?;
    match (named, open) {
        (Named::Head(conversation), open) => {
            let head: Conversation = record::decode(key, Bytes::copy_from_slice(value))?;
            let name = ConversationName::parse(&head.name);
            if name.map_err(|error| strange(&error.to_string()))?.key() != conversation {
                return Err(strange("it is the head of another conversation"));
            }
            let next = Open {
                key: conversation,
                head,
                messages: 0,
                sum: 0,
            };
            if let Some(done) = open.replace(next) {
                visit(done.hashed());
            }
        }
        (Named::Message(conversation, seq), Some(open)) if open.key == conversation => {
            if seq > open.head.last_seq {
                // Behind the head as it was written last.
                overlay::add(&mut open.head, &conversation, key, value)?;
            }
            open.messages += 1;
            open.sum = open.sum.wrapping_add(hash::record_hash(record));
        }
        (Named::Counts(conversation, _) | Named::Reaction(conversation, ..), Some(open))
            if open.key == conversation =>
        {
            open.sum = open.sum.wrapping_add(hash::record_hash(record));
        }
        (
            Named::Dedup(conversation, _)
            | Named::Change(conversation, _)
            | Named::Expiry(conversation, ..),
            Some(open),
        ) if open.key == conversation => {}
        (
            Named::Message(..)
            | Named::Dedup(..)
            | Named::Change(..)
            | Named::Counts(..)
            | Named::Reaction(..)
            | Named::Expiry(..),
            _,
        ) => {
            return Err(strange("its conversation has no head"));
        }
    }
    Ok(())
}

impl Open {
    fn hashed(self) -> ConversationHash {
        let running = match self.head.content_hash.is_empty() {
            true => Bytes::from_static(&[0; 16]),
            false => self.head.content_hash,
        };
        ConversationHash {
            name: self.head.name,
            last_seq: self.head.last_seq,
            min_seq: self.head.min_seq.max(1),
            messages: self.messages,
            running_hash: running,
            disk_hash: Bytes::copy_from_slice(&self.sum.to_le_bytes()),
        }
    }
}
