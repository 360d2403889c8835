//! Leaders where they belong. Each node looks after the shards that it leads:
//!
//! - a node that drains, stops, whose disk is below its reserve, or whose clock is off, gives all of
//!   them away, to nodes of which that is not known;
//! - else each goes to whom the policies want (`model::cluster::leaders`): one move for a shard in a
//!   minute, to nodes that have been reachable for a while.
//!
//! Nobody directs it. A leader knows the policies, and when it won; what another leader did before
//! it won, it need not know. Nodes that see the cluster differently for a while disagree about the
//! best leader, and then move a shard once a minute at most.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use model::cluster::{self, ClusterState};
use model::id::{NodeId, ShardId};
use model::limits;
use tokio::time::{Instant, sleep, timeout};

use crate::api::{DrainStep, Event, HandOverCause, HandOverError};
use crate::replica::group::Group;

use crate::shared::Shared;
use crate::tasks::handover::hand_over;
use crate::tasks::slow_nodes;

/// Between two looks who leads too much.
const BALANCE_CHECK_EVERY: Duration = Duration::from_secs(1);
/// Between two looks while leaders are to be given away.
const BALANCE_CHECK_AGAIN: Duration = Duration::from_millis(100);
/// How long a node must have been reachable without a break before leaders come to it.
const STEADY: Duration = Duration::from_secs(10);
/// How long a node that stops looks for heirs that nobody has seen so far.
const NO_HEIR_MAX: Duration = Duration::from_millis(500);
/// How long a node that stops waits for the others that its shards cannot do without, should one of
/// them be on its way back.
const OTHERS_MAX: Duration = Duration::from_secs(1);
/// Between two looks for them.
const OTHERS_LOOK: Duration = Duration::from_millis(10);
/// How long a node that drains and leads nothing more keeps its clients for the sake of others that
/// still hand over: who is sent elsewhere meanwhile pays for both at once.
const OTHERS_DRAIN_MAX: Duration = Duration::from_secs(2);
/// Least time between two moves of a shard.
const MOVE_INTERVAL: Duration = Duration::from_millis(limits::LEADER_MOVE_INTERVAL_MS);

/// Since when each node has been reachable.
#[derive(Default)]
struct Reachable(BTreeMap<u64, Instant>);

impl Reachable {
    fn look(&mut self, node: &Shared, view: &ClusterState) {
        let now = Instant::now();
        for other in &view.nodes {
            if node.peers().reachable(NodeId(other.id)) {
                self.0.entry(other.id).or_insert(now);
            } else {
                self.0.remove(&other.id);
            }
        }
    }

    fn steady(&self, node: NodeId) -> bool {
        let since = self.0.get(&node.0);
        since.is_some_and(|since| since.elapsed() >= STEADY)
    }
}

/// What came of giving leaders away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Given {
    /// Shards that had somebody to go to.
    moved: usize,
    /// Shards that had nobody.
    stuck: usize,
}

/// Moves leaders for as long as the node runs.
pub(crate) async fn keep(node: Arc<Shared>) {
    let mut views = node.view();
    let mut reachable = Reachable::default();
    let mut pause = BALANCE_CHECK_EVERY;
    // Since when it drains and leads nothing.
    let mut empty_since = None;
    let mut drains = false;
    loop {
        tokio::select! {
            () = sleep(pause) => {}
            () = node.room_changed.notified() => {}
            changed = views.changed() => if changed.is_err() {
                return;
            }
        }
        let view = views.borrow_and_update().clone();
        reachable.look(&node, &view);
        // One that is to be removed sends its clients elsewhere while it gives up what it holds: behind
        // that it reaches nobody.
        let leaves = view.leaving.contains(&node.id().0);
        let wanted = leaves || view.is_draining(node.id());
        if std::mem::replace(&mut drains, wanted) != wanted {
            note_drain(&node, wanted);
        }
        if !wanted {
            node.set_aside(false);
            (pause, empty_since) = (BALANCE_CHECK_EVERY, None);
            let full = node.disk_is_full();
            if full || node.time().is_unfit(node.id()) {
                let cause = match full {
                    true => HandOverCause::DiskFull,
                    false => HandOverCause::Clock,
                };
                // Nobody to give it to: their disks are full, too, or their clocks off.
                let given = give_away(&node, &view, cause).await;
                pause = if given.stuck > 0 {
                    BALANCE_CHECK_EVERY
                } else {
                    BALANCE_CHECK_AGAIN
                };
            } else if !node.is_leaving() {
                prefer(&node, &view, &reachable).await;
            }
            continue;
        }
        give_away(&node, &view, HandOverCause::Drain).await;
        let now = Instant::now();
        match led(&node).is_empty() {
            true => drop(empty_since.get_or_insert(now)),
            false => empty_since = None,
        }
        let done = empty_since.is_some_and(|since| {
            // Once it has sent its clients away they are not called back for others' sake.
            node.is_aside() || now - since >= OTHERS_DRAIN_MAX || !others_drain(&node, &view)
        });
        node.set_aside(done);
        pause = if done {
            BALANCE_CHECK_EVERY
        } else {
            BALANCE_CHECK_AGAIN
        };
    }
}

/// Tells that a drain of this node begins or ends.
fn note_drain(node: &Shared, begins: bool) {
    let (step, told) = match begins {
        true => (
            DrainStep::Begun,
            "this node is to give away all that it leads",
        ),
        false => (DrainStep::Ended, "this node may lead again"),
    };
    tracing::info!("{told}");
    node.note(Event::Drain { step });
}

/// Whether another node that drains is known to lead a shard still.
fn others_drain(node: &Shared, view: &ClusterState) -> bool {
    let leads = |leader: NodeId| leader != node.id() && view.is_draining(leader);
    let mut shards = view.shards.iter().map(|shard| ShardId(shard.id));
    shards.any(|shard| node.leader(shard).is_some_and(leads))
}

/// Gives away everything that this node leads, within `limit`. Gives how many shards it could not.
pub(crate) async fn step_aside(node: &Shared, limit: Duration) -> usize {
    let others = async {
        while !dispensable(node) {
            sleep(OTHERS_LOOK).await;
        }
    };
    if timeout(OTHERS_MAX, others).await.is_err() {
        tracing::warn!("a shard of this node has no quorum without it");
    }
    let work = async {
        let mut stuck_since = None;
        while !led(node).is_empty() {
            let given = give_away(node, &node.current_view(), HandOverCause::Shutdown).await;
            let now = Instant::now();
            match given.moved {
                0 if now - *stuck_since.get_or_insert(now) >= NO_HEIR_MAX => return,
                0 => {}
                _ => stuck_since = None,
            }
            if given.stuck > 0 {
                sleep(BALANCE_CHECK_AGAIN).await;
            }
        }
    };
    // What is left is counted below.
    let _ = timeout(limit, work).await;
    led(node).len()
}

/// Whether every shard with other voters has a majority that can be reached without this node.
fn dispensable(node: &Shared) -> bool {
    node.groups().iter().all(|group| {
        let voters = group.voters();
        let up = |id: &&u64| **id != node.id().0 && node.peers().reachable(NodeId(**id));
        let alone = voters.len() <= 2 || !voters.contains(&node.id().0);
        alone || voters.iter().filter(up).count() > voters.len() / 2
    })
}

/// What this node leads.
pub(crate) fn led(node: &Shared) -> Vec<Arc<Group>> {
    let mut groups = node.groups();
    groups.retain(|group| group.leads());
    groups
}

/// Hands everything that this node leads to others; to nodes that drain only when it stops.
async fn give_away(node: &Shared, view: &ClusterState, cause: HandOverCause) -> Given {
    let last_resort = cause == HandOverCause::Shutdown;
    let vitals = node.peers().vitals();
    let right = |other| !node.time().is_unfit(other) && !vitals.short_of_room(other);
    let best = cluster::leaders(view, |other| {
        other != node.id() && node.peers().reachable(other) && right(other)
    });
    let moves = futures::stream::iter(led(node)).map(|group| {
        let order = cluster::leader_order(view, group.shard);
        let others = order
            .into_iter()
            .filter(|other| *other != node.id())
            .filter(|other| last_resort || (!view.is_draining(*other) && right(*other)));
        let mut targets: Vec<NodeId> = best.get(&group.shard).copied().into_iter().collect();
        targets.extend(others.filter(|other| best.get(&group.shard) != Some(other)));
        async move { hand_over(node, &group, &targets, cause).await }
    });
    let mut moves = moves.buffer_unordered(limits::HAND_OVERS_AT_ONCE_MAX);
    let mut given = Given::default();
    while let Some(moved) = moves.next().await {
        match moved {
            Ok(_) | Err(HandOverError::NotLeader(_) | HandOverError::Lost) => given.moved += 1,
            Err(HandOverError::NoHeir) => given.stuck += 1,
        }
    }
    given
}

/// Hands to others what they should rather lead, one after the other.
async fn prefer(node: &Shared, view: &ClusterState, reachable: &Reachable) {
    let me = node.id();
    let mut due = led(node);
    due.retain(|group| {
        let (term, _) = group.leadership.now();
        group.won_at(term).elapsed() >= MOVE_INTERVAL
    });
    if due.is_empty() {
        return;
    }
    let vitals = node.peers().vitals();
    let quick = |other| vitals.burden(other).unwrap_or_default() < slow_nodes::SLOW_MIN;
    let fit = |other| {
        let right = !node.time().is_unfit(other) && !vitals.short_of_room(other);
        let well = !vitals.stalled(other) && quick(other) && right;
        reachable.steady(other) && well
    };
    let wanted = cluster::leaders(view, |other| other == me || fit(other));
    for group in due {
        let Some(to) = wanted.get(&group.shard).filter(|to| **to != me) else {
            continue;
        };
        match hand_over(node, &group, &[*to], HandOverCause::Balance).await {
            Ok(_) | Err(HandOverError::NotLeader(_) | HandOverError::NoHeir) => {}
            Err(error @ HandOverError::Lost) => {
                tracing::warn!(shard = %group.shard, %to, %error, "a leader was to be moved");
            }
        }
    }
}
