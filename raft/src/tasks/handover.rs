//! Giving a shard's leadership away, to a voter that is alive and has the whole log.
//!
//! ```text
//!  survey ─► wait until this leader may tell ─► give up the lease ─► transfer ─► somebody leads
//!   who answers, with how much log                    ▲                  │ nobody after 2 RTT + 50 ms
//!                                                     └── next turn ◄────┘
//! ```
//!
//! From the first transfer on openraft takes no writes and sends no heartbeats in this term, for
//! good: there is no way back, only forward to somebody else. So the survey comes first, each
//! candidate is tried twice, and who has heard of a hand-over that went nowhere for 500 ms elects as
//! if the leader were dead ([`crate::tasks::election`]). Why the next leader may tell at once what it
//! decides: [`crate::replica::leaders`].

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use model::id::NodeId;
use openraft::metrics::RaftServerMetrics;
use proto::node as wire;
use proto::node::frame::Body;
use tokio::time::{Instant, sleep, sleep_until};

use crate::adapter::types::Types;
use crate::api::{Event, HandOverCause, HandOverError};
use crate::replica::group::Group;
use crate::shared::Shared;
use crate::tasks::election;

/// For a candidate to say how far its log is.
const SURVEY_MAX: Duration = Duration::from_millis(500);
/// Entries that a candidate's log may be behind: what is on its way while one asks.
const BEHIND_MAX: u64 = 16;
/// Beyond two round trips, and what the machines are late as they tell, for what the disks take.
const SLACK: Duration = Duration::from_millis(50);
/// Turns of each candidate before the next one's.
const TURNS: usize = 2;
/// When to stop trying: everybody else has elected long before, or there is no quorum.
const TRIES_MAX: Duration = Duration::from_secs(5);

/// A voter that could lead.
#[derive(Clone, Copy, Debug)]
struct Heir {
    node: NodeId,
    /// To it and back.
    round_trip: Duration,
}

/// Hands `group` over to the first of `targets` that is fit for it, or another of them. Gives who
/// leads now.
///
/// # Errors
/// [`HandOverError`].
pub(crate) async fn hand_over(
    node: &Shared,
    group: &Group,
    targets: &[NodeId],
    cause: HandOverCause,
) -> Result<NodeId, HandOverError> {
    let began = Instant::now();
    let handed = give(node, group, targets).await;
    // Who does not lead, or finds nobody, has not begun; that is looked for again and again.
    if let Ok(_) | Err(HandOverError::Lost) = &handed {
        node.note(Event::HandedOver {
            shard: group.shard,
            cause,
            took: began.elapsed(),
            to: handed.as_ref().ok().copied(),
        });
    }
    handed
}

async fn give(node: &Shared, group: &Group, targets: &[NodeId]) -> Result<NodeId, HandOverError> {
    let (term, leader) = group.leadership.now();
    if leader != Some(group.node) {
        return Err(HandOverError::NotLeader(leader));
    }
    group.leadership.rouse().await;
    let heirs = survey(node, group, targets).await;
    if heirs.is_empty() {
        return Err(HandOverError::NoHeir);
    }
    // Behind it the windows of leaders before are over.
    sleep_until(group.may_tell_at(term)).await;
    if group.leadership.now() != (term, leader) {
        return Err(HandOverError::NotLeader(group.leader()));
    }
    let began = Instant::now();
    for heir in turns(&heirs) {
        if began.elapsed() >= TRIES_MAX {
            break;
        }
        let to = heir.node;
        group
            .leadership
            .leaders
            .lock()
            .give_up(term, group.node, to);
        tracing::info!(shard = %group.shard, term, %to, "a shard is handed over");
        // A group that has stopped leads nothing any more.
        let sent = group.raft.trigger().transfer_leader(to.0).await;
        sent.map_err(|_| HandOverError::NotLeader(None))?;
        // Its disk and its processor, and those of the voters, may be late.
        let vitals = node.peers().vitals();
        let voters = group.voters().into_iter().map(NodeId);
        let late = vitals.burden(to).unwrap_or_default() + vitals.lateness(voters);
        let until = Instant::now() + heir.round_trip * 2 + late * 2 + SLACK;
        if let Some(leader) = succeeded(group, term, until).await {
            let ms = began.elapsed().as_millis();
            tracing::info!(shard = %group.shard, %leader, ms, "a shard was handed over");
            return Ok(leader);
        }
    }
    Err(HandOverError::Lost)
}

/// Each candidate a few times, and then all over again.
fn turns(heirs: &[Heir]) -> impl Iterator<Item = Heir> {
    let each = heirs.iter().flat_map(|heir| [*heir; TURNS]);
    each.cycle()
}

/// Who leads a later term than `term`, as soon as somebody does.
async fn succeeded(group: &Group, term: u64, until: Instant) -> Option<NodeId> {
    let later = |now: &RaftServerMetrics<Types>| {
        let leader = now.current_leader.map(NodeId);
        leader.filter(|_| now.vote.leader_id().term > term)
    };
    group.seen(until, later).await
}

/// Those of `targets` that vote, answer, and have all but what is on its way; in their order.
async fn survey(node: &Shared, group: &Group, targets: &[NodeId]) -> Vec<Heir> {
    let (voters, needed) = (group.voters(), group.last_index());
    let asked = targets
        .iter()
        .enumerate()
        .map(|(place, target)| async move {
            let link = node.peers().link(*target)?;
            let question = Body::LastLog(wire::LastLog { dead: 0 });
            let began = Instant::now();
            let answer = link.call(group.shard.0, question, SURVEY_MAX).await.ok()?;
            let Body::LastLogAnswer(answer) = answer else {
                return None;
            };
            let has = answer.last.map_or(0, |last| last.index);
            let heir = Heir {
                node: *target,
                round_trip: began.elapsed(),
            };
            (has.saturating_add(BEHIND_MAX) >= needed).then_some((place, heir))
        });
    let able = |target: &NodeId| *target != group.node && voters.contains(&target.0);
    let asked: FuturesUnordered<_> = asked
        .zip(targets)
        .filter(|(_, target)| able(target))
        .map(|(asked, _)| asked)
        .collect();
    let mut heirs: Vec<(usize, Heir)> = asked.filter_map(std::future::ready).collect().await;
    heirs.sort_by_key(|(place, _)| *place);
    heirs.into_iter().map(|(_, heir)| heir).collect()
}

/// Watches a hand-over that this replica was told of; when it goes nowhere, elects.
pub(crate) async fn watch(
    node: std::sync::Arc<Shared>,
    group: std::sync::Arc<Group>,
    from: NodeId,
) {
    let late = node.peers().vitals().lateness([node.id(), from]);
    sleep(crate::replica::leaders::LOST_AFTER + late * 2).await;
    if group.lost_by_hand_over(from, late) {
        tracing::warn!(shard = %group.shard, %from, "a hand-over was lost");
        election::elect(node, group, from).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_heir_has_two_turns_and_then_all_have_again() {
        let heir = |node| Heir {
            node: NodeId(node),
            round_trip: Duration::ZERO,
        };
        let heirs = [heir(4), heir(7)];
        let nodes: Vec<u64> = turns(&heirs).take(6).map(|heir| heir.node.0).collect();
        assert_eq!(nodes, [4, 4, 7, 7, 4, 4]);
    }
}
