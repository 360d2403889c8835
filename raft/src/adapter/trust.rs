//! What a peer says is looked at before it counts. A node that has been let in may still be broken, or
//! of another version, or somebody else with its disk's id, and some words do harm for good: a term
//! that leaps is on the disk the moment it is heard, and the next one overflows; a log that is not
//! one is applied; an answer about what was never sent commits it.
//!
//! Refused is what no node of this cluster says:
//! - *in another's name*: who leads, stands or hands over says so itself;
//! - *a leap*: elections raise terms by one, and no replica misses [`limits::TERM_LEAP_MAX`] of them;
//! - *numbers that nobody reaches*, one more than which may overflow;
//! - *what contradicts itself*: entries that do not follow each other, log ids of terms behind the
//!   vote's, answers to what was not asked.
//!
//! Nothing here knows whether what is left is true.

use model::cluster::ClusterState;
use model::id::NodeId;
use model::{limits, mutant};
use proto::node as wire;
use proto::node::append_answer::Result as Answer;
use store::Position;

use crate::adapter::types::{self, Malformed, Vote};

fn refuse<T>(why: impl Into<String>) -> Result<T, Malformed> {
    Err(Malformed(why.into()))
}

/// Whether `term` may be heard of by a replica that has heard of `known`.
pub(crate) fn term(term: u64, known: u64) -> Result<(), Malformed> {
    let most = known.saturating_add(limits::TERM_LEAP_MAX);
    if term <= most.min(limits::TERM_MAX) || mutant!("term-leap-believed") {
        return Ok(());
    }
    refuse(format!(
        "term {term} leaps: {known} is the highest that is known here, and elections raise it by one"
    ))
}

/// A log id of a term up to `term`.
fn log_id(id: Option<&wire::LogId>, term: u64) -> Result<Option<Position>, Malformed> {
    let Some(wire::LogId { term: of, index }) = id.copied() else {
        return Ok(None);
    };
    if of > term {
        return refuse(format!("log id {of}-{index} is of a term after {term}"));
    }
    if index > limits::INDEX_MAX {
        return refuse(format!("log id {of}-{index} is further than any log goes"));
    }
    Ok(Some(Position { term: of, index }))
}

/// The vote of `from` itself.
fn own_vote(
    vote: Option<&wire::VoteId>,
    from: NodeId,
    known: u64,
    committed: bool,
) -> Result<u64, Malformed> {
    let Some(vote) = vote else {
        return refuse("a frame lacks its vote");
    };
    if vote.node != from.0 {
        return refuse(format!("{from} speaks in the name of n{}", vote.node));
    }
    if vote.committed != committed {
        return refuse(match committed {
            true => "who leads has a committed vote",
            false => "who stands has no committed vote",
        });
    }
    term(vote.term, known)?;
    Ok(vote.term)
}

/// What a leader sends.
pub(crate) fn append(
    append: &wire::AppendEntries,
    from: NodeId,
    known: u64,
) -> Result<(), Malformed> {
    let vote = own_vote(append.vote.as_ref(), from, known, true)?;
    log_id(append.commit.as_ref(), vote)?;
    let mut before = log_id(append.prev.as_ref(), vote)?;
    for entry in &append.entries {
        let Some(id) = log_id(entry.id.as_ref(), vote)? else {
            return refuse("an entry lacks its log id");
        };
        let (term, index) = before.map_or((0, 0), |before| (before.term, before.index + 1));
        if id.index != index || id.term < term {
            return refuse(format!(
                "entry {}-{} does not follow what is before it ({before:?})",
                id.term, id.index
            ));
        }
        before = Some(id);
    }
    Ok(())
}

/// What a candidate sends.
pub(crate) fn asks_for_vote(vote: &wire::Vote, from: NodeId, known: u64) -> Result<(), Malformed> {
    let term = own_vote(vote.vote.as_ref(), from, known, false)?;
    log_id(vote.last.as_ref(), term).map(drop)
}

/// What a leader sends that hands over.
pub(crate) fn transfer(
    transfer: &wire::TransferLeader,
    from: NodeId,
    known: u64,
) -> Result<(), Malformed> {
    let term = own_vote(transfer.from.as_ref(), from, known, true)?;
    log_id(transfer.last.as_ref(), term).map(drop)
}

/// What a leader sends in front of a snapshot. One without files, or a position, is of nothing:
/// installing it would leave nothing.
pub(crate) fn snapshot(
    head: &wire::SnapshotHead,
    from: NodeId,
    known: u64,
) -> Result<(), Malformed> {
    let term = own_vote(head.vote.as_ref(), from, known, true)?;
    if log_id(head.last.as_ref(), term)?.is_none() {
        return refuse("the snapshot is of no position");
    }
    if head.files == 0 || head.files > limits::SNAPSHOT_FILES_MAX {
        return refuse(format!(
            "a snapshot has 1 to {} files; this one names {}",
            limits::SNAPSHOT_FILES_MAX,
            head.files
        ));
    }
    let membership = types::decode_membership(&head.membership)?;
    if membership.membership().voter_ids().next().is_none() {
        return refuse("the snapshot names no voters");
    }
    let of = membership.log_id().as_ref().map(types::log_id_to_wire);
    let last = head.last.as_ref().map(|last| last.index);
    if of.as_ref().map(|of| of.index) > last {
        return refuse("the snapshot's voters are of an entry behind it");
    }
    log_id(of.as_ref(), term).map(drop)
}

/// A vote that comes with an answer, whoever's it is.
pub(crate) fn vote(vote: Option<wire::VoteId>, known: u64) -> Result<Vote, Malformed> {
    let vote = types::required_vote(vote)?;
    term(vote.leader_id().term, known)?;
    Ok(vote)
}

/// An answer to a vote for `asked`.
pub(crate) fn vote_answer(
    answer: &wire::VoteAnswer,
    asked: &Vote,
    known: u64,
) -> Result<(), Malformed> {
    let given = vote(answer.vote, known.max(asked.leader_id().term))?;
    // The log of who votes may end in any term up to that of its vote.
    log_id(answer.last.as_ref(), given.leader_id().term).map(drop)
}

/// What one append said: between which log ids its answer must lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// In front of its entries.
    pub(crate) prev: Option<Position>,
    /// The last of them, or that.
    pub(crate) last: Option<Position>,
}

/// An answer to an append of a leader of `term`, which has heard of `known`.
pub(crate) fn append_answer(
    answer: &wire::AppendAnswer,
    said: Said,
    term: u64,
    known: u64,
) -> Result<(), Malformed> {
    let of = |id: &wire::LogId| Position {
        term: id.term,
        index: id.index,
    };
    match &answer.result {
        Some(Answer::Matched(id)) if Some(of(id)) > said.last => refuse(format!(
            "log id {}-{} is said to match, which was not sent",
            id.term, id.index
        )),
        Some(Answer::Conflict(id)) if Some(of(id)) != said.prev => refuse(format!(
            "log id {}-{} is said to conflict, which was not asked for",
            id.term, id.index
        )),
        Some(Answer::HigherVote(vote)) => self::term(vote.term, known.max(term)),
        Some(Answer::Matched(_) | Answer::Conflict(_) | Answer::MatchedNone(_)) => {
            // It ends where another leader's entries end, perhaps.
            log_id(answer.end.as_ref(), limits::TERM_MAX).map(drop)
        }
        None => refuse("an append was answered with nothing"),
    }
}

/// A view of the cluster, told to a node that knows one of epoch `known`.
pub(crate) fn view(view: &ClusterState, cluster_id: &str, known: u64) -> Result<(), Malformed> {
    if view.cluster_id != cluster_id {
        return refuse(format!(
            "the view is of cluster {}, this node of {cluster_id}",
            view.cluster_id
        ));
    }
    if view.epoch > known.saturating_add(limits::EPOCH_LEAP_MAX) {
        return refuse(format!(
            "epoch {} of the view leaps: {known} is known here",
            view.epoch
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
