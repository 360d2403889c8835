//! Requests that stand for themselves: what is believed of them, and what is answered.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::id::NodeId;
use model::mutant;
use openraft::raft::{TransferLeaderError, TransferLeaderRequest, VoteRequest};
use proto::node as wire;
use proto::node::frame::Body;

use crate::adapter::trust;
use crate::adapter::types::{self, Types};
use crate::link::frame;
use crate::replica::group::Group;
use crate::shared::Shared;
use crate::tasks::{election, sleep};

/// Why entries are refused.
pub(super) const NO_ROOM: &str = "this node's disk has no room for entries";

/// Whether what a peer says may be so, as far as this replica can tell.
pub(super) fn believable(body: &Body, from: NodeId, group: &Group) -> Result<(), types::Malformed> {
    let known = group.known_term();
    match body {
        Body::Append(append) => believable_append(append, from, group),
        Body::Vote(vote) => trust::asks_for_vote(vote, from, known),
        Body::Transfer(transfer) => trust::transfer(transfer, from, known),
        // They only ask, or are looked at where they are answered.
        _ => Ok(()),
    }
}

pub(super) fn believable_append(
    append: &wire::AppendEntries,
    from: NodeId,
    group: &Group,
) -> Result<(), types::Malformed> {
    trust::append(append, from, group.known_term())?;
    match group.contradicts(append) {
        Some(store::Position { term, index }) => Err(types::Malformed(format!(
            "entry {term}-{index} is not the one that is decided"
        ))),
        None => Ok(()),
    }
}

/// Whether what is for the `incarnation` of a replica is for this one; see [`crate::adapter::incarnation`].
pub(super) fn meant(node: &Shared, group: &Group, incarnation: u64) -> Result<(), String> {
    let own = group.place.incarnation;
    if own == incarnation || mutant!("votes-before-it-is-whole") {
        node.peers().vitals().well_addressed(group.shard);
        return Ok(());
    }
    node.peers().vitals().misaddressed(group.shard);
    Err(format!(
        "this replica of {} is incarnation {own}, not {incarnation}",
        group.shard
    ))
}

pub(super) fn refused(message: String) -> Body {
    frame::failed(wire::failed::Reason::Refused, None, message)
}

pub(super) fn no_replica(shard: u32) -> Body {
    let message = format!("no replica of s{shard} here");
    frame::failed(wire::failed::Reason::NoReplica, None, message)
}

/// Answers a request that stands for itself.
pub(super) async fn unary(
    node: &Arc<Shared>,
    group: &Arc<Group>,
    body: Body,
) -> Result<Body, String> {
    match body {
        Body::Append(asked) => append(node, group, asked).await,
        Body::Vote(asked) => vote(node, group, asked).await,
        Body::Transfer(asked) => transfer(node, group, asked).await,
        // Asked of nobody's death: whether this node could lead.
        Body::LastLog(asked) if asked.dead == 0 && node.is_leaving() => {
            Err("this node is going away".into())
        }
        Body::LastLog(asked) if asked.dead == 0 && node.disk_is_full() => {
            Err("this node's disk is full".into())
        }
        Body::LastLog(asked) if asked.dead == 0 && node.time().is_unfit(node.id()) => {
            Err("this node's clock is off".into())
        }
        Body::LastLog(asked) => {
            // What it says of the dead is what it has read.
            node.peers().vitals().pulse().settled().await;
            let answer = election::asked(node, group, NodeId(asked.dead));
            Ok(Body::LastLogAnswer(answer))
        }
        Body::AppendAnswer(_)
        | Body::VoteAnswer(_)
        | Body::TransferAnswer(_)
        | Body::LastLogAnswer(_)
        | Body::ForwardAnswer(_)
        | Body::Forward(_)
        | Body::Failed(_)
        | Body::Leads(_)
        | Body::Ping(_)
        | Body::Pong(_)
        | Body::AskPositions(_)
        | Body::Positions(_)
        | Body::Following(_)
        | Body::AskReplica(_)
        | Body::Replica(_)
        | Body::AskScrub(_)
        | Body::Scrubbed(_)
        | Body::Sleep(_) => Err("an answer is not a question".into()),
    }
}

/// Looks again once what came while this process stood still has been read: until then it holds everybody
/// alive, and to refuse a vote for that costs a term.
async fn passes_once_settled(node: &Shared, passes: impl Fn() -> bool) -> bool {
    if model::mutant!("votes-before-it-has-read") {
        return false;
    }
    node.peers().vitals().pulse().settled().await;
    passes()
}

/// Answers an append that is in no stream.
async fn append(
    node: &Arc<Shared>,
    group: &Arc<Group>,
    append: wire::AppendEntries,
) -> Result<Body, String> {
    meant(node, group, append.incarnation)?;
    let request = types::append_from_wire(append).map_err(|e| e.to_string())?;
    if !request.entries.is_empty() && group.takes_no_entries() {
        return Err(NO_ROOM.to_owned());
    }
    let prev = request.prev_log_id;
    let last = request.entries.last().map(|e| e.log_id).or(prev);
    let answer = group
        .raft
        .append_entries(request)
        .await
        .map_err(|e| e.to_string())?;
    group.leadership.sleep.wake();
    if answer.is_conflict() && prev.is_none() {
        return Err("a conflict before the first entry".into());
    }
    let end = group.last_synced().filter(|_| answer.is_conflict());
    let result = answer.into_stream_result(prev, last);
    Ok(Body::AppendAnswer(wire::AppendAnswer {
        end: end.map(|end| types::log_id_to_wire(&types::log_id(end))),
        ..types::append_answer_to_wire(result)
    }))
}

/// Answers a candidate, once the vote is on the disk.
async fn vote(node: &Arc<Shared>, group: &Arc<Group>, vote: wire::Vote) -> Result<Body, String> {
    meant(node, group, vote.incarnation)?;
    group.leadership.sleep.begin();
    let mut request = VoteRequest::<Types> {
        vote: types::required_vote(vote.vote).map_err(|e| e.to_string())?,
        last_log_id: vote.last.as_ref().map(types::log_id_from_wire),
        leadership_transfer: vote.transfer,
    };
    if mutant!("vote-for-a-shorter-log") {
        request.last_log_id = group.last_log().map(types::log_id);
    }
    let (asked, last) = (request.vote, request.last_log_id);
    let candidate = request.vote.leader_id().voted_for;
    if !group.may_elect(request.last_log_id.as_ref()) {
        return Err("this node once had more of the shard".into());
    }
    let passes = || election::may_pass_lease(node, group, candidate);
    if vote.transfer && !passes() && !passes_once_settled(node, passes).await {
        return Err("the leader is alive as seen from here".into());
    }
    if !vote.transfer && !sleep::may_vote(node, group, candidate) {
        return Err("the shard sleeps, and its leader is alive as seen from here".into());
    }
    let answer = if vote.pre {
        group.raft.pre_vote(request).await
    } else {
        if last.as_ref().map(types::position) < group.last_log() {
            let term = asked.leader_id().term;
            group.outlogged.fetch_max(term, Ordering::Relaxed);
        }
        group.raft.vote(request).await
    };
    let mut answer = answer.map_err(|e| e.to_string())?;
    if mutant!("two-votes-in-a-term")
        && answer.vote.leader_id().term == asked.leader_id().term
        && answer.last_log_id <= last
    {
        (answer.vote, answer.vote_granted) = (asked, true);
    }
    Ok(Body::VoteAnswer(wire::VoteAnswer {
        vote: Some(types::vote_to_wire(&answer.vote)),
        granted: answer.vote_granted,
        last: answer.last_log_id.as_ref().map(types::log_id_to_wire),
        read_window_ms: Some(node.peers().vitals().windows().largest_ms()),
    }))
}

/// Takes over, where this replica can.
async fn transfer(
    node: &Arc<Shared>,
    group: &Arc<Group>,
    transfer: wire::TransferLeader,
) -> Result<Body, String> {
    if transfer.to == node.id().0 && !group.place.counts() {
        return Err("this replica is no member yet".into());
    }
    let request = TransferLeaderRequest::<Types>::new(
        types::required_vote(transfer.from).map_err(|e| e.to_string())?,
        transfer.to,
        transfer.last.as_ref().map(types::log_id_from_wire),
    );
    let answer = group
        .raft
        .handle_transfer_leader(request)
        .await
        .map_err(|e| e.to_string())?;
    Ok(Body::TransferAnswer(transfer_answer(answer)))
}

fn transfer_answer(answer: Result<(), TransferLeaderError<Types>>) -> wire::TransferAnswer {
    let log = |id: &Option<types::LogId>| id.as_ref().map(types::log_id_to_wire);
    match answer {
        Ok(()) => wire::TransferAnswer {
            accepted: true,
            ..Default::default()
        },
        Err(TransferLeaderError::VoteChanged { expected, actual }) => wire::TransferAnswer {
            expected_vote: Some(types::vote_to_wire(&expected)),
            actual_vote: Some(types::vote_to_wire(&actual)),
            ..Default::default()
        },
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => wire::TransferAnswer {
            expected_log: log(&expected),
            actual_log: log(&actual),
            ..Default::default()
        },
    }
}
