//! What happens when a node falls silent: every shard that it led elects at once, instead of
//! waiting for openraft's own timers, which are slow on purpose.
//!
//! The verdict is about nodes, not shards: a link that was reset and refuses to come back, or that
//! was silent for its limit. Before electing, the survivors of a shard ask each other for their
//! last log ids and whether they too have lost the leader; a majority must agree, and the longest
//! log goes first. The way past the voters' leases is openraft's hand-over: votes marked as one
//! pass leases, so inbound marked votes are refused while their leader is seen alive here.

use std::sync::Arc;
use std::time::Duration;

use model::id::NodeId;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::TransferLeaderRequest;
use proto::node as wire;
use proto::node::frame::Body;
use tokio::time::{Instant, sleep};

use crate::group::Group;
use crate::link::Link;
use crate::node::Inner;
use crate::types::{self, Types, Vote};

/// A reset link that is not back after this is evidence enough.
const RESET_GRACE: Duration = Duration::from_millis(150);
/// How long the survivors keep asking each other.
const AGREE_MAX: Duration = Duration::from_secs(3);
/// Between two rounds of asking.
const AGREE_PAUSE: Duration = Duration::from_millis(50);
/// For the answer of one survivor.
const ANSWER_MAX: Duration = Duration::from_millis(300);
/// For the first candidate to win, before the next one tries.
const TURN: Duration = Duration::from_millis(300);

/// Watches one link and passes verdicts, until the link is dropped.
pub(crate) async fn watch(node: Arc<Inner>, link: Link) {
    let peer = link.node();
    let mut up = link.watch();
    drop(link);
    let mut silent = false;
    loop {
        // A link that has never been up has led nothing since this node started, or its shards
        // are waiting for openraft's timers as they must.
        if up.wait_for(|up| *up).await.is_err() {
            return;
        }
        if std::mem::take(&mut silent) {
            tracing::info!(%peer, "a node is back");
        }
        if up.wait_for(|up| !*up).await.is_err() {
            return;
        }
        let Some(link) = node.peers().link(peer) else {
            return;
        };
        if link.was_reset() {
            sleep(RESET_GRACE).await;
        }
        if link.is_up() {
            continue;
        }
        silent = true;
        let led: Vec<Arc<Group>> = node
            .groups()
            .into_iter()
            .filter(|g| g.leader() == Some(peer))
            .collect();
        tracing::warn!(%peer, shards = led.len(), reset = link.was_reset(), "a node is silent");
        for group in led {
            tokio::spawn(elect(node.clone(), group, peer));
        }
    }
}

/// What this node tells another survivor.
pub(crate) fn last_log(node: &Inner, group: &Group, dead: NodeId) -> wire::LastLogAnswer {
    let (vote, _) = leader_of(group);
    wire::LastLogAnswer {
        last: last(group).map(|(term, index)| wire::LogId { term, index }),
        vote: Some(types::vote_to_wire(&vote)),
        dead_here_too: !leads_alive(node, group, dead),
    }
}

/// Whether a vote marked as a hand-over may pass leases here: not while its leader is seen alive,
/// unless that leader hands over itself.
pub(crate) fn may_pass_lease(node: &Inner, group: &Group, candidate: u64) -> bool {
    match group.leader() {
        None => true,
        Some(leader) if leader.0 == candidate => true,
        Some(leader) => group.handing_over() || !node.peers().reachable(leader),
    }
}

/// Whether `leader` leads, is seen alive, and has not lost its leadership in a hand-over.
fn leads_alive(node: &Inner, group: &Group, leader: NodeId) -> bool {
    group.leader() == Some(leader)
        && node.peers().reachable(leader)
        && !group.lost_by_hand_over(leader)
}

fn leader_of(group: &Group) -> (Vote, Vec<u64>) {
    let metrics = group.raft.server_metrics();
    let metrics = metrics.borrow_watched();
    (
        metrics.vote,
        metrics.membership_config.voter_ids().collect(),
    )
}

fn last(group: &Group) -> Option<(u64, u64)> {
    group.last_log().map(|p| (p.term, p.index))
}

/// One survivor's part in electing a new leader of one shard.
pub(crate) async fn elect(node: Arc<Inner>, group: Arc<Group>, dead: NodeId) {
    let me = node.id();
    let (vote, voters) = leader_of(&group);
    if !vote.is_committed() || vote.leader_id().voted_for != dead.0 || !voters.contains(&me.0) {
        return;
    }
    let gone = |group: &Group| group.leader() == Some(dead) && !leads_alive(&node, group, dead);
    let began = Instant::now();
    while gone(&group) && began.elapsed() < AGREE_MAX {
        let Some(ranking) = agree(&node, &group, dead, &voters).await else {
            sleep(AGREE_PAUSE).await;
            continue;
        };
        for (turn, candidate) in ranking.iter().enumerate() {
            if !gone(&group) {
                return;
            }
            // Only the candidate's own group is told. The marked votes pass the others' leases by
            // themselves; told too, those would drop their leases, and stand for the same term.
            if *candidate == me {
                let request = TransferLeaderRequest::<Types>::new(vote, me.0, None);
                // A group that has stopped, or whose vote has moved on, needs no help from here.
                let Ok(Ok(())) = group.raft.handle_transfer_leader(request).await else {
                    return;
                };
                if turn > 0 {
                    // The first try may have used up its term.
                    let _ = group.raft.trigger().elect(false).await;
                }
            }
            sleep(TURN).await;
        }
    }
}

/// The survivors, the longest log first, once a majority has lost the leader.
async fn agree(
    node: &Arc<Inner>,
    group: &Group,
    dead: NodeId,
    voters: &[u64],
) -> Option<Vec<NodeId>> {
    let me = node.id();
    let others = voters
        .iter()
        .map(|id| NodeId(*id))
        .filter(|id| *id != me && *id != dead);
    let asked = others.map(|other| async move {
        let link = node.peers().link(other)?;
        let question = Body::LastLog(wire::LastLog { dead: dead.0 });
        match link.call(group.shard.0, question, ANSWER_MAX).await {
            Ok(Body::LastLogAnswer(answer)) if answer.dead_here_too => {
                Some((answer.last.map(|l| (l.term, l.index)), other))
            }
            _ => None,
        }
    });
    let mut survivors: Vec<_> = futures::future::join_all(asked)
        .await
        .into_iter()
        .flatten()
        .collect();
    survivors.push((last(group), me));
    if survivors.len() <= voters.len() / 2 {
        return None;
    }
    // Among equals the lower id, so that all survivors rank alike.
    survivors.sort_by_key(|(last, id)| (std::cmp::Reverse(*last), *id));
    Some(survivors.into_iter().map(|(_, id)| id).collect())
}
