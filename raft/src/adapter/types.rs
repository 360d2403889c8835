//! openraft's types as Firebreak uses them, and their two encodings: in the log (`Record`) and on
//! the wire between nodes. A log record is `tag byte, bytes`; tags are permanent.

mod record;
mod wire;

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use model::command::Reply;
use model::trace::Context;
use openraft::EntryPayload;
use openraft::impls::leader_id_std;
use prost::Message;
use store::Position;

use self::record::TAG_COMMANDS;
use crate::adapter::incarnation::Member;

pub(crate) use self::record::{decode_entry, decode_membership, encode_entry, encode_membership};
pub(crate) use self::wire::{
    append_answer_from_wire, append_answer_to_wire, append_from_wire, append_to_wire,
    log_id_from_wire, log_id_to_wire, required_vote, traces_from_wire, traces_to_wire,
    vote_from_wire, vote_to_wire,
};

/// The bytes of one command entry, tag included, so that log and wire carry them as they are.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Payload {
    record: Bytes,
    /// Calls whose commands are in it and are traced; not in the log.
    traces: Traces,
}

/// The traced calls of an entry, at most [`TRACES_MAX`].
pub(crate) type Traces = Vec<Context>;

/// Of one entry; the others of a busy one are not followed further.
pub(crate) const TRACES_MAX: usize = 16;

impl Payload {
    /// Encodes an entry once, for the log, the wire and the state machine.
    pub(crate) fn encode(entry: &model::command::Entry, mut traces: Traces) -> Payload {
        traces.truncate(TRACES_MAX);
        let mut record = BytesMut::with_capacity(1 + entry.encoded_len());
        record.put_u8(TAG_COMMANDS);
        // A growing buffer cannot run out of room.
        entry.encode_raw(&mut record);
        Payload {
            record: record.freeze(),
            traces,
        }
    }

    /// The encoded `model::command::Entry`.
    pub(crate) fn entry(&self) -> Bytes {
        self.record.slice(1..)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.record.len())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

openraft::declare_raft_types!(
    /// Standard terms: one leader per term (promise U).
    pub(crate) Types:
        D = Payload,
        R = Vec<Reply>,
        NodeId = u64,
        Node = Member,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = crate::adapter::runtime::Runtime,
);

pub(crate) type LogId = openraft::alias::LogIdOf<Types>;
pub(crate) type Vote = openraft::alias::VoteOf<Types>;
pub(crate) type Entry = openraft::alias::EntryOf<Types>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;
pub(crate) type Snapshot =
    openraft::alias::SnapshotOf<Types, crate::adapter::state_machine::SnapshotData>;

/// What was read is not what this version writes.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) String);

impl From<Malformed> for std::io::Error {
    fn from(error: Malformed) -> Self {
        std::io::Error::new(std::io::ErrorKind::InvalidData, error)
    }
}

/// The index of a position in a log; 0 before its first entry.
pub(crate) fn index(id: &Option<LogId>) -> u64 {
    id.as_ref().map_or(0, LogId::index)
}

pub(crate) fn position(id: &LogId) -> Position {
    Position {
        term: id.committed_leader_id().term,
        index: id.index(),
    }
}

pub(crate) fn log_id(position: Position) -> LogId {
    LogId::new_term_index(position.term, position.index)
}

/// The traced calls of an entry.
pub(crate) fn traces_of(entry: &Entry) -> &[Context] {
    match &entry.payload {
        EntryPayload::Normal(payload) => &payload.traces,
        EntryPayload::Blank | EntryPayload::Membership(_) => &[],
    }
}

/// Puts the traced calls of an entry back to it.
pub(crate) fn set_traces(entry: &mut Entry, traces: Traces) {
    if let EntryPayload::Normal(payload) = &mut entry.payload {
        payload.traces = traces;
    }
}

#[cfg(test)]
mod tests;
