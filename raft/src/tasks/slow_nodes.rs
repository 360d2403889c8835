//! Nodes that are neither well nor dead: whose disk takes writes and completes no sync, or whose
//! disk or processor is much slower than its peers'. Each measures itself and tells it in pings
//! ([`crate::link::vitals`]); whoever compares, compares itself, so any number of nodes may be slow at
//! once, a whole data center's among them.
//!
//! *Stalled*: a sync has been running for a second. Its leader could commit by the others' disks,
//! but can hand over nothing, as it cannot note another's vote. The others vote it out, as if it
//! were dead, if a majority of them is well.
//!
//! *Slow*: what a sync takes, with what tasks are late, is three times another voter's and
//! over 50 ms, for a second. The leader hands over to the quickest voter that has the log, a few
//! shards at a time: hand-overs cost what is short, and thousands at once would make their heirs
//! slow, who would hand them back. Shards that sleep stay; whoever uses one wakes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::id::NodeId;
use model::limits;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use crate::adapter::told;
use crate::adapter::types::index;
use crate::api::{Event, HandOverCause};
use crate::link::Link;
use crate::replica::group::Group;
use crate::shared::Shared;
use crate::tasks::election;
use crate::tasks::handover::hand_over;

/// Between two looks which nodes are slow.
const SLOWNESS_CHECK_EVERY: Duration = Duration::from_millis(100);
/// Below this nobody is slow, whatever the others are.
pub(crate) const SLOW_MIN: Duration = Duration::from_millis(50);
/// How many times as quick another must be.
const QUICKER: u32 = 3;
/// For how long it must be so.
const SLOW_FOR: Duration = Duration::from_secs(1);
/// Entries that the next leader may be behind: what is on its way.
const BEHIND_MAX: u64 = 64;
/// Until a shard is looked at again.
const AGAIN: Duration = Duration::from_secs(5);

/// Since when other nodes have been much quicker than this one.
type Quicker = BTreeMap<NodeId, Instant>;

/// Looks for gray failures until the node stops.
pub(crate) async fn watch(node: Arc<Shared>) {
    let mut quicker = Quicker::new();
    let moves = Arc::new(Semaphore::new(limits::HAND_OVERS_AT_ONCE_MAX));
    loop {
        sleep(SLOWNESS_CHECK_EVERY).await;
        let vitals = node.peers().vitals();
        let links = node.peers().all();
        let nodes = links.iter().map(|link| link.node()).chain([node.id()]);
        let stalled: BTreeSet<NodeId> = nodes.filter(|id| vitals.stalled(*id)).collect();
        for peer in stalled.iter().filter(|id| **id != node.id()) {
            if election::elect_all(&node, *peer) > 0 {
                tracing::debug!(%peer, "a leader's log waits for its disk");
            }
        }
        let stalled_here = stalled.contains(&node.id());
        node.stalled.send_if_modified(|known| {
            let changed = *known != stalled;
            if changed {
                tracing::warn!(?stalled, "the disks of these nodes do not answer");
                for (of, stalled) in known
                    .difference(&stalled)
                    .map(|id| (*id, false))
                    .chain(stalled.difference(known).map(|id| (*id, true)))
                {
                    node.note(Event::DiskStalled { node: of, stalled });
                }
                *known = stalled;
            }
            changed
        });
        let burden = vitals.burden(node.id()).unwrap_or_default();
        let now = Instant::now();
        let slower = |theirs| theirs * QUICKER <= burden && burden >= SLOW_MIN;
        quicker = links
            .iter()
            .map(Link::node)
            .filter(|peer| !stalled_here && vitals.burden(*peer).is_some_and(slower))
            .map(|peer| (peer, quicker.get(&peer).copied().unwrap_or(now)))
            .collect();
        let mut heirs = quicker.clone();
        heirs.retain(|_, since| now - *since >= SLOW_FOR);
        if !heirs.is_empty() {
            unburden(&node, &heirs, burden, &moves);
        }
    }
}

/// Begins to move what this node, whose burden is given, leads and somebody uses.
fn unburden(node: &Arc<Shared>, heirs: &Quicker, burden: Duration, moves: &Arc<Semaphore>) {
    let mut used = node.groups();
    used.retain(|group| group.leads() && !group.leadership.sleep.is_asleep());
    for group in used {
        let Ok(permit) = moves.clone().try_acquire_owned() else {
            return;
        };
        let Some(to) = heir(node, &group, heirs) else {
            continue;
        };
        if node.moving.lock().insert(group.shard) {
            tracing::info!(shard = %group.shard, %to, ?burden, "this node is slow: its shard moves");
            tokio::spawn(move_away(node.clone(), group, to, permit));
        }
    }
}

/// The voter of `heirs` to lead instead of this node.
fn heir(node: &Shared, group: &Group, heirs: &Quicker) -> Option<NodeId> {
    let matched: Vec<(u64, u64)> = told::data(&group.raft, |told| {
        let followers = told.replication.iter().flatten();
        followers
            .map(|(id, matched)| (*id, index(matched)))
            .collect()
    });
    let (voters, last) = (group.voters(), group.last_index());
    let able = matched.into_iter().filter(|(id, matched)| {
        heirs.contains_key(&NodeId(*id))
            && voters.contains(id)
            && matched + BEHIND_MAX >= last
            && node.peers().may_serve(NodeId(*id))
    });
    let burdens = able.filter_map(|(id, _)| {
        let id = NodeId(id);
        Some((node.peers().vitals().burden(id)?, id))
    });
    burdens.min().map(|(_, id)| id)
}

async fn move_away(node: Arc<Shared>, group: Arc<Group>, to: NodeId, permit: OwnedSemaphorePermit) {
    let stop = node.stop.clone();
    let moved = async {
        if let Err(error) = hand_over(&node, &group, &[to], HandOverCause::Slow).await {
            tracing::info!(shard = %group.shard, %to, %error, "a slow node's shard did not move");
        }
        drop(permit);
        sleep(AGAIN).await;
    };
    stop.run_until_cancelled(moved).await;
    node.moving.lock().remove(&group.shard);
}
