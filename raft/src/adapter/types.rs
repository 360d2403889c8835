//! openraft's types as Firebreak uses them, and their two encodings: in the log (`Record`) and on
//! the wire between nodes. A log record is `tag byte, bytes`; tags are permanent.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use model::command::Reply;
use model::trace::{CONTEXT_BYTES, Context};
use openraft::impls::leader_id_std;
use openraft::{EntryPayload, Membership};
use prost::Message;
use proto::node as wire;
use store::{Position, Record};

use crate::adapter::incarnation::Member;

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

const TAG_BLANK: u8 = 0;
const TAG_COMMANDS: u8 = 1;
const TAG_MEMBERSHIP: u8 = 2;

/// What was read is not what this version writes.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) String);

impl From<Malformed> for std::io::Error {
    fn from(error: Malformed) -> Self {
        std::io::Error::new(std::io::ErrorKind::InvalidData, error)
    }
}

#[derive(Clone, PartialEq, Message)]
struct MembershipRecord {
    #[prost(message, repeated, tag = "1")]
    configs: Vec<ConfigRecord>,
    #[prost(uint64, repeated, tag = "2")]
    nodes: Vec<u64>,
    /// Set where the membership is stored with the log id it came from.
    #[prost(message, optional, tag = "3")]
    log_id: Option<wire::LogId>,
    /// Those of `nodes` whose incarnation is not 0.
    #[prost(message, repeated, tag = "4")]
    incarnations: Vec<IncarnationRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct IncarnationRecord {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(uint64, tag = "2")]
    incarnation: u64,
}

#[derive(Clone, PartialEq, Message)]
struct ConfigRecord {
    #[prost(uint64, repeated, tag = "1")]
    voters: Vec<u64>,
}

fn membership_record(membership: &Membership<u64, Member>) -> MembershipRecord {
    MembershipRecord {
        configs: membership
            .get_joint_config()
            .iter()
            .map(|c| ConfigRecord {
                voters: c.iter().copied().collect(),
            })
            .collect(),
        nodes: membership.nodes().map(|(id, _)| *id).collect(),
        log_id: None,
        incarnations: membership
            .nodes()
            .filter(|(_, member)| member.incarnation > 0)
            .map(|(id, member)| IncarnationRecord {
                node: *id,
                incarnation: member.incarnation,
            })
            .collect(),
    }
}

fn membership_from(record: MembershipRecord) -> Result<Membership<u64, Member>, Malformed> {
    let configs: Vec<BTreeSet<u64>> = record
        .configs
        .into_iter()
        .map(|c| c.voters.into_iter().collect())
        .collect();
    let mut nodes: BTreeMap<u64, Member> = record
        .nodes
        .into_iter()
        .map(|id| (id, Member::default()))
        .collect();
    for named in record.incarnations {
        let incarnation = named.incarnation;
        nodes.insert(named.node, Member { incarnation });
    }
    Membership::new(configs, nodes).map_err(|e| Malformed(format!("membership: {e}")))
}

/// A membership with the log id it came from, as the state machine stores it.
pub(crate) fn encode_membership(stored: &StoredMembership) -> Bytes {
    let mut record = membership_record(stored.membership());
    record.log_id = stored.log_id().as_ref().map(log_id_to_wire);
    record.encode_to_vec().into()
}

/// Reads what [`encode_membership`] wrote; empty bytes are the empty membership.
pub(crate) fn decode_membership(bytes: &Bytes) -> Result<StoredMembership, Malformed> {
    if bytes.is_empty() {
        return Ok(StoredMembership::default());
    }
    let record = MembershipRecord::decode(bytes.clone())
        .map_err(|e| Malformed(format!("membership: {e}")))?;
    let log_id = record.log_id.map(|id| log_id_from_wire(&id));
    Ok(StoredMembership::new(log_id, membership_from(record)?))
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

/// An entry as a log record, and as the wire carries it.
pub(crate) fn encode_entry(entry: &Entry) -> Record {
    let data = match &entry.payload {
        EntryPayload::Blank => Bytes::from_static(&[TAG_BLANK]),
        EntryPayload::Normal(payload) => payload.record.clone(),
        EntryPayload::Membership(membership) => {
            let record = membership_record(membership);
            let mut data = BytesMut::with_capacity(1 + record.encoded_len());
            data.put_u8(TAG_MEMBERSHIP);
            record.encode_raw(&mut data);
            data.freeze()
        }
    };
    Record {
        position: position(&entry.log_id),
        data,
    }
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

pub(crate) fn traces_to_wire(traces: &[Context]) -> Bytes {
    if traces.is_empty() {
        return Bytes::new();
    }
    let bytes = traces.iter().flat_map(|trace| trace.to_bytes());
    bytes.collect()
}

/// What cannot be read is left out: nothing depends on it.
pub(crate) fn traces_from_wire(bytes: &[u8]) -> Traces {
    let contexts = bytes.chunks_exact(CONTEXT_BYTES).take(TRACES_MAX);
    contexts.filter_map(Context::from_bytes).collect()
}

/// Reads what [`encode_entry`] wrote.
pub(crate) fn decode_entry(record: Record) -> Result<Entry, Malformed> {
    let payload = match record.data.first() {
        Some(&TAG_BLANK) => EntryPayload::Blank,
        Some(&TAG_COMMANDS) => EntryPayload::Normal(Payload {
            record: record.data,
            traces: Traces::new(),
        }),
        Some(&TAG_MEMBERSHIP) => {
            let membership = MembershipRecord::decode(record.data.slice(1..)).map_err(|e| {
                Malformed(format!("membership entry {}: {e}", record.position.index))
            })?;
            EntryPayload::Membership(membership_from(membership)?)
        }
        tag => {
            return Err(Malformed(format!(
                "entry {} has the unknown tag {tag:?}",
                record.position.index
            )));
        }
    };
    Ok(Entry {
        log_id: log_id(record.position),
        payload,
    })
}

pub(crate) fn log_id_to_wire(id: &LogId) -> wire::LogId {
    wire::LogId {
        term: id.committed_leader_id().term,
        index: id.index(),
    }
}

pub(crate) fn log_id_from_wire(id: &wire::LogId) -> LogId {
    log_id(Position {
        term: id.term,
        index: id.index,
    })
}

pub(crate) fn vote_to_wire(vote: &Vote) -> wire::VoteId {
    wire::VoteId {
        term: vote.leader_id().term,
        node: vote.leader_id().voted_for,
        committed: vote.is_committed(),
    }
}

pub(crate) fn vote_from_wire(vote: &wire::VoteId) -> Vote {
    if vote.committed {
        Vote::new_committed(vote.term, vote.node)
    } else {
        Vote::new(vote.term, vote.node)
    }
}

/// A vote is required where `None` cannot be meant.
pub(crate) fn required_vote(vote: Option<wire::VoteId>) -> Result<Vote, Malformed> {
    vote.as_ref()
        .map(vote_from_wire)
        .ok_or_else(|| Malformed("a frame lacks its vote".into()))
}

pub(crate) fn append_to_wire(
    rpc: openraft::raft::AppendEntriesRequest<Types>,
    incarnation: u64,
) -> wire::AppendEntries {
    wire::AppendEntries {
        vote: Some(vote_to_wire(&rpc.vote)),
        prev: rpc.prev_log_id.as_ref().map(log_id_to_wire),
        entries: rpc
            .entries
            .iter()
            .map(|entry| {
                let record = encode_entry(entry);
                wire::Entry {
                    id: Some(wire::LogId {
                        term: record.position.term,
                        index: record.position.index,
                    }),
                    record: record.data,
                    traces: traces_to_wire(traces_of(entry)),
                }
            })
            .collect(),
        commit: rpc.leader_commit.as_ref().map(log_id_to_wire),
        incarnation,
    }
}

pub(crate) fn append_from_wire(
    rpc: wire::AppendEntries,
) -> Result<openraft::raft::AppendEntriesRequest<Types>, Malformed> {
    let mut entries = Vec::with_capacity(rpc.entries.len());
    for entry in rpc.entries {
        let id = entry
            .id
            .ok_or_else(|| Malformed("an entry lacks its log id".into()))?;
        let traces = traces_from_wire(&entry.traces);
        let mut decoded = decode_entry(Record {
            position: Position {
                term: id.term,
                index: id.index,
            },
            data: entry.record,
        })?;
        set_traces(&mut decoded, traces);
        entries.push(decoded);
    }
    Ok(openraft::raft::AppendEntriesRequest {
        vote: required_vote(rpc.vote)?,
        prev_log_id: rpc.prev.as_ref().map(log_id_from_wire),
        entries,
        leader_commit: rpc.commit.as_ref().map(log_id_from_wire),
    })
}

/// What a follower answers to one append of a stream.
pub(crate) fn append_answer_to_wire(
    result: openraft::raft::StreamAppendResult<Types>,
) -> wire::AppendAnswer {
    use wire::append_answer::Result as Answer;
    let answer = match result {
        Ok(Some(id)) => Answer::Matched(log_id_to_wire(&id)),
        Ok(None) => Answer::MatchedNone(true),
        Err(openraft::raft::StreamAppendError::Conflict(id)) => {
            Answer::Conflict(log_id_to_wire(&id))
        }
        Err(openraft::raft::StreamAppendError::HigherVote(vote)) => {
            Answer::HigherVote(vote_to_wire(&vote))
        }
    };
    wire::AppendAnswer {
        result: Some(answer),
        end: None,
    }
}

pub(crate) fn append_answer_from_wire(
    answer: wire::AppendAnswer,
) -> Result<openraft::raft::StreamAppendResult<Types>, Malformed> {
    use openraft::raft::StreamAppendError;
    use wire::append_answer::Result as Answer;
    Ok(match answer.result {
        Some(Answer::Matched(id)) => Ok(Some(log_id_from_wire(&id))),
        Some(Answer::MatchedNone(_)) => Ok(None),
        Some(Answer::Conflict(id)) => Err(StreamAppendError::Conflict(log_id_from_wire(&id))),
        Some(Answer::HigherVote(vote)) => Err(StreamAppendError::HigherVote(vote_from_wire(&vote))),
        None => return Err(Malformed("an append was answered with nothing".into())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was written once must be read for ever: change a line here only together with a
    /// format that readers can tell apart.
    const GOLDEN: &str = include_str!("../../tests/golden/records.txt");

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    fn samples() -> Vec<(&'static str, Vec<u8>)> {
        let position = Position {
            term: 3,
            index: 700,
        };
        let membership = Membership::new(
            vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4])],
            BTreeMap::from([1, 2, 3, 4, 5].map(|id| (id, Member::default()))),
        )
        .unwrap();
        let commands = model::command::Entry {
            format: model::command::FORMAT_WITHOUT_PASSED,
            time_ms: 1_700_000_000_000,
            commands: vec![Bytes::from_static(b"command")],
            passed_ms: 0,
        };
        let payload = |payload| {
            encode_entry(&Entry {
                log_id: log_id(position),
                payload,
            })
            .data
        };
        let stored = StoredMembership::new(Some(log_id(position)), membership.clone());
        let member = |id| {
            (
                id,
                Member {
                    incarnation: id - 1,
                },
            )
        };
        let nodes = BTreeMap::from([1, 2, 300].map(member));
        let begun_anew = Membership::new(vec![BTreeSet::from([1, 2])], nodes).unwrap();
        let begun_anew = payload(EntryPayload::Membership(begun_anew));
        vec![
            ("entry blank", payload(EntryPayload::Blank).to_vec()),
            (
                "entry commands",
                payload(EntryPayload::Normal(Payload::encode(
                    &commands,
                    Traces::new(),
                )))
                .to_vec(),
            ),
            (
                "entry membership",
                payload(EntryPayload::Membership(membership)).to_vec(),
            ),
            ("stored membership", encode_membership(&stored).to_vec()),
            ("entry membership with incarnations", begun_anew.to_vec()),
            (
                "vote",
                vote_to_wire(&Vote::new_committed(3, 2)).encode_to_vec(),
            ),
            (
                "committed",
                log_id_to_wire(&log_id(position)).encode_to_vec(),
            ),
        ]
    }

    #[test]
    fn golden_records_are_written_and_read_as_ever() {
        let written: String = samples()
            .iter()
            .map(|(name, bytes)| format!("{name}: {}\n", hex(bytes)))
            .collect();
        assert_eq!(
            written, GOLDEN,
            "a record of the log or the hard state has another encoding"
        );
        for (name, bytes) in samples() {
            let bytes = Bytes::from(bytes);
            if name.starts_with("entry") {
                let position = Position {
                    term: 3,
                    index: 700,
                };
                let entry = decode_entry(Record {
                    position,
                    data: bytes.clone(),
                })
                .unwrap();
                assert_eq!(encode_entry(&entry).data, bytes, "{name}");
            }
            if name == "stored membership" {
                assert_eq!(
                    encode_membership(&decode_membership(&bytes).unwrap()),
                    bytes
                );
            }
        }
    }

    #[test]
    fn malformed_records_are_errors() {
        let position = Position { term: 1, index: 1 };
        for data in [&b""[..], b"\x07", b"\x02\xff\xff"] {
            let record = Record {
                position,
                data: Bytes::copy_from_slice(data),
            };
            assert!(decode_entry(record).is_err(), "{data:?}");
        }
        assert!(decode_membership(&Bytes::from_static(b"\xff")).is_err());
        assert!(append_from_wire(wire::AppendEntries::default()).is_err());
    }
}
