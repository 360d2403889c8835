//! How votes, log ids, entries and answers go over the wire between nodes.

use bytes::Bytes;
use model::trace::{CONTEXT_BYTES, Context};
use proto::node as wire;
use store::{Position, Record};

use super::record::{decode_entry, encode_entry};
use super::{LogId, Malformed, TRACES_MAX, Traces, Types, Vote, log_id, set_traces, traces_of};

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
