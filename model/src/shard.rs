//! The deterministic state machine of a shard: command in, changes and a reply out.
//!
//! Promises O and E are kept here: sequence numbers are dense from 1, and an id has one effect
//! and one answer. Time comes with the command, state through a [`View`], changes go to a
//! [`Sink`]. One object is both, so that the commands of an entry, and the entries of a batch,
//! see each other's changes before any of them is written:
//!
//! ```text
//!   Entry { time, commands } ──► Machine::apply ──► one Reply for each command
//!                                  │        │
//!            View: head, dedup ◄───┘        └───► Sink: message, dedup, head
//! ```
//!
//! A command is refused wholly or has its whole effect; nothing is emitted for a refused one.

use std::ops::RangeInclusive;

use bytes::Bytes;
use prost::Message;

use crate::cluster::{self, ClusterState};
use crate::command::{Body, Command, Entry, FORMAT, Reason, Reply};
use crate::hash;
use crate::id::{self, ConversationKey};
use crate::state::{Conversation, Dedup, Reaction, Reactions};

mod append;
mod change;
mod configure;
mod create;
mod expire;
mod govern;

/// What names (sender, client message id) inside a conversation: [`hash::dedup_id`].
pub type DedupId = [u8; 16];

/// What names (user, kind) among the reactions to a message: [`hash::reaction_id`].
pub type ReactionId = [u8; 32];

/// The state before a command, with the changes of all commands before it.
pub trait View {
    /// Why a read failed; the machine stops at the first.
    type Error;

    /// The head of a conversation.
    ///
    /// # Errors
    /// Whatever the state below it says.
    fn conversation(&mut self, key: &ConversationKey) -> Result<Option<Conversation>, Self::Error>;

    /// What is remembered of an id, expired or not.
    ///
    /// # Errors
    /// Whatever the state below it says.
    fn dedup(&mut self, key: &ConversationKey, id: &DedupId) -> Result<Option<Dedup>, Self::Error>;

    /// The encoded [`crate::state::Stored`] of a message that is not behind the last seq.
    ///
    /// # Errors
    /// Whatever the state below it says.
    fn message(&mut self, key: &ConversationKey, seq: u64) -> Result<Option<Bytes>, Self::Error>;

    /// The reactions to a message, counted.
    ///
    /// # Errors
    /// Whatever the state below it says.
    fn reactions(
        &mut self,
        key: &ConversationKey,
        seq: u64,
    ) -> Result<Option<Reactions>, Self::Error>;

    /// One reaction to a message.
    ///
    /// # Errors
    /// Whatever the state below it says.
    fn reaction(
        &mut self,
        key: &ConversationKey,
        seq: u64,
        id: &ReactionId,
    ) -> Result<Option<Reaction>, Self::Error>;

    /// The cluster's own state, on the meta shard.
    fn cluster(&mut self) -> Option<&mut ClusterState>;
}

/// Where changes go. Each is seen by the next call of the [`View`].
pub trait Sink {
    /// Adds a message; `record` is an encoded [`crate::state::Stored`].
    fn put_message(&mut self, key: &ConversationKey, seq: u64, record: &[u8]);

    /// Remembers the id of a message, in place of what was remembered of it. `first` when there was never
    /// one in the conversation, nor in one of this name before.
    fn put_dedup(&mut self, key: &ConversationKey, id: &DedupId, dedup: Dedup, first: bool);

    /// Writes a message that was there anew; `record` is an encoded [`crate::state::Stored`].
    fn replace_message(&mut self, key: &ConversationKey, seq: u64, record: &[u8]);

    /// Notes that the change of this revision was one of this message, or forgets it.
    fn put_changed(&mut self, key: &ConversationKey, revision: u64, seq: Option<u64>);

    /// Sets the counted reactions to a message.
    fn put_reactions(&mut self, key: &ConversationKey, reactions: Reactions);

    /// Sets one reaction to a message, or removes it.
    fn put_reaction(
        &mut self,
        key: &ConversationKey,
        seq: u64,
        id: &ReactionId,
        reaction: Option<Reaction>,
    );

    /// Removes all reactions to a message, and their counts.
    fn clear_reactions(&mut self, key: &ConversationKey, seq: u64);

    /// Remembers the id of a request that is no append, or what is left of one that was.
    fn put_request(&mut self, key: &ConversationKey, id: &DedupId, dedup: Dedup);

    /// What this command removes or overwrites of the conversation is to leave no trace on the disk.
    fn erase(&mut self, key: &ConversationKey);

    /// Notes that the message expires at this command time, or forgets it.
    fn put_expiry(&mut self, key: &ConversationKey, at_ms: u64, seq: u64, set: bool);

    /// Notes that something of the conversation may expire, or forgets it.
    fn put_expiring(&mut self, key: &ConversationKey, set: bool);

    /// Removes the messages `from <= seq <= to`.
    fn remove_messages(&mut self, key: &ConversationKey, from: u64, to: u64);

    /// Removes all of a conversation but its head and the ids.
    fn clear_conversation(&mut self, key: &ConversationKey);

    /// Sets the head of a conversation that begins or ends a life; there was one of this name before.
    fn renew_conversation(&mut self, key: &ConversationKey, head: Conversation);

    /// Sets the head of a conversation. `created` when it had none.
    fn put_conversation(&mut self, key: &ConversationKey, head: Conversation, created: bool);

    /// Adds a record of the audit, on the meta shard; `record` is an encoded [`cluster::audit::Record`].
    fn put_audit(&mut self, number: u64, record: &[u8]);

    /// Removes the records of the audit `from <= number <= to`.
    fn remove_audit(&mut self, from: u64, to: u64);
}

/// What a shard may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The cluster's own state and no conversation.
    Meta,
    /// The conversations whose slots lie in the range.
    Data(RangeInclusive<u16>),
}

/// Why the machine stopped. The replica must not go on, since it would come to differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop<E> {
    /// The state could not be read.
    View(E),
    /// The entry was written by a later version, in this format.
    Format(u32),
}

/// Applies entries in their order. Holds the numbers that belong to the shard as a whole.
#[derive(Clone, Debug)]
pub struct Machine {
    scope: Scope,
    revision: u64,
    time_ms: u64,
    passed_ms: u64,
    format: u32,
    /// Where records are encoded; kept for its capacity alone.
    record: Vec<u8>,
}

impl Machine {
    /// A machine that goes on after `revision` changes, the last at command time `time_ms`. What has
    /// passed was not counted, unless [`Machine::with_passed`] says otherwise.
    pub fn new(scope: Scope, revision: u64, time_ms: u64) -> Machine {
        Machine {
            scope,
            revision,
            time_ms,
            passed_ms: 0,
            format: 0,
            record: Vec::new(),
        }
    }

    /// The same, so much time having passed for the shard.
    #[must_use]
    pub fn with_passed(self, passed_ms: u64) -> Machine {
        Machine { passed_ms, ..self }
    }

    /// The same, the newest entry having been of this format.
    #[must_use]
    pub fn with_format(self, format: u32) -> Machine {
        Machine { format, ..self }
    }

    /// The newest format of an applied entry; 0 before the first, and where that was not noted yet.
    pub fn format(&self) -> u32 {
        self.format
    }

    /// The count of applied changes.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The latest command time, Unix milliseconds.
    pub fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// How much time has passed for the shard, at least, milliseconds; 0 when it was never counted.
    pub fn passed_ms(&self) -> u64 {
        self.passed_ms
    }

    /// Applies one encoded [`Entry`]; replies in the order of its commands. An entry that cannot
    /// be decoded has no effect and one reply, [`Reason::Invalid`].
    ///
    /// # Errors
    /// [`Stop`]; what was emitted since the last whole entry must then be dropped.
    pub fn apply<S>(
        &mut self,
        state: &mut S,
        payload: &Bytes,
    ) -> Result<Vec<Reply>, Stop<<S as View>::Error>>
    where
        S: View + Sink,
    {
        let entry = match Entry::decode(payload.clone()) {
            Ok(entry) => entry,
            Err(error) => return Ok(vec![invalid(format!("entry: {error}"))]),
        };
        if entry.format > FORMAT {
            return Err(Stop::Format(entry.format));
        }
        self.time_ms = self.time_ms.max(entry.time_ms);
        self.passed_ms = self.passed_ms.max(entry.passed_ms);
        self.format = self.format.max(entry.format);
        let mut replies = Vec::with_capacity(entry.commands.len());
        for command in entry.commands {
            replies.push(self.decide(state, command).map_err(Stop::View)?);
        }
        Ok(replies)
    }

    /// Applies one encoded [`Command`] at the machine's time.
    ///
    /// # Errors
    /// Those of the [`View`].
    pub fn decide<S>(&mut self, state: &mut S, command: Bytes) -> Result<Reply, <S as View>::Error>
    where
        S: View + Sink,
    {
        match Command::decode(command) {
            Err(error) => Ok(invalid(format!("command: {error}"))),
            Ok(Command { body: None }) => Ok(invalid("a command of no known kind")),
            Ok(Command {
                body: Some(Body::Append(append)),
            }) => self.append(state, append),
            Ok(Command {
                body: Some(Body::Create(create)),
            }) => self.create(state, create),
            Ok(Command {
                body: Some(Body::Change(change)),
            }) => self.change(state, change),
            Ok(Command {
                body: Some(Body::Configure(configure)),
            }) => self.configure(state, configure),
            Ok(Command {
                body: Some(Body::AppendWith(with)),
            }) => self.append_with(state, with),
            Ok(Command {
                body: Some(Body::Govern(govern)),
            }) => self.govern(state, govern),
            Ok(Command {
                body: Some(Body::Expire(expire)),
            }) => self.expire(state, expire),
            Ok(Command {
                body: Some(Body::Meta(change)),
            }) => Ok(self.meta(state, &change)),
        }
    }

    fn meta<S: View + Sink>(&mut self, state: &mut S, change: &cluster::Change) -> Reply {
        let Some(cluster) = state.cluster() else {
            return invalid("a change of the cluster belongs to the meta shard");
        };
        let before = cluster.epoch;
        let reply = cluster::decide_at(cluster, change, self.time_ms);
        self.revision += cluster.epoch - before;
        let added = cluster::audit::record(cluster, change, (before, &reply), self.time_ms);
        if let Some((from, to)) = added.dropped {
            state.remove_audit(from, to);
        }
        for (number, record) in added.records {
            state.put_audit(number, &record);
        }
        reply
    }

    /// Where the conversation's records live, if they belong to this shard.
    fn locate(&self, name: &str) -> Result<ConversationKey, Reply> {
        let slots = match &self.scope {
            Scope::Data(slots) => slots,
            Scope::Meta => return Err(invalid("the meta shard holds no conversations")),
        };
        let Some(key) = key_of(name) else {
            return Err(invalid("not the name of a conversation"));
        };
        if !slots.contains(&key.slot().0) {
            return Err(Reply::refused(
                Reason::WrongShard,
                format!(
                    "slot {} is outside of {} to {}",
                    key.slot(),
                    slots.start(),
                    slots.end()
                ),
            ));
        }
        Ok(key)
    }
}

/// The key of a whole name, without making an owned one of it; `None` when it is not valid.
fn key_of(name: &str) -> Option<ConversationKey> {
    let (tenant, conversation) = name
        .strip_prefix("tenants/")?
        .split_once("/conversations/")?;
    id::segment("tenant", tenant).ok()?;
    id::segment("conversation", conversation).ok()?;
    Some(hash::conversation_key(tenant, conversation))
}

fn invalid(message: impl Into<String>) -> Reply {
    Reply::refused(Reason::Invalid, message)
}

fn collision(name: &str, held: &str) -> Reply {
    Reply::refused(
        Reason::KeyCollision,
        format!("{name} and {held} share a key"),
    )
}
