//! Keeping the databases in order: state is flushed by size and by age, and the logs are cut behind it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::id::NodeId;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::api::heartbeat_ms_min;
use crate::shared::Shared;
use crate::tasks::{DUTIES_CHECK_EVERY, kept};

/// Looks of housekeeping to one at a shard that sleeps.
const ASLEEP_LOOKS: u32 = 16;

/// Tells of nodes that have become too far for heartbeats, once each time.
fn note_far(node: &Shared, far: &mut BTreeSet<NodeId>) {
    let heartbeat_ms = node.tuning().heartbeat_ms;
    for link in node.peers().all() {
        let round = link.usual_round().filter(|_| link.is_up());
        let Some(round) = round.filter(|round| heartbeat_ms_min(*round) > heartbeat_ms) else {
            far.remove(&link.node());
            continue;
        };
        if far.insert(link.node()) {
            tracing::warn!(
                peer = %link.node(),
                round_trip_ms = round.as_millis(),
                heartbeat_ms,
                "a node is so far that its answers to heartbeats may come too late for shards to be \
                 led: give all nodes a larger raft.heartbeat_ms, and election timeouts to match"
            );
        }
    }
}

/// Flushes state by size and by age, and cuts the logs behind it.
pub(crate) async fn keep(node: Arc<Shared>) {
    let keep = node.keep().clone();
    let flush_age_max = Duration::from_millis(keep.flush_age_ms);
    let absent_max = Duration::from_millis(keep.absent_ms_max);
    let mut look = interval(DUTIES_CHECK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut flushed_at = Instant::now();
    let mut far = BTreeSet::new();
    for looks in 0_u32.. {
        look.tick().await;
        note_far(&node, &mut far);
        let unflushed = node.state().unflushed_bytes();
        let old = unflushed > 0 && flushed_at.elapsed() > flush_age_max;
        // What finds no room is fatal; the log keeps what is not flushed.
        if (unflushed >= keep.flush_bytes || old) && !node.has_no_room() {
            if let Err(error) = node.state().flush().await {
                return node.die(error.to_string());
            }
            flushed_at = Instant::now();
        }
        node.note_absent();
        let view = node.current_view();
        let groups = node.groups();
        let kept = groups.iter().map(|group| group.log_bytes()).collect();
        let bytes_max = kept::cap(kept, keep.log_bytes_max);
        for group in groups {
            // Where nothing is written little is to be cut, and there may be thousands.
            if group.leadership.sleep.is_still() && looks % ASLEEP_LOOKS != 0 {
                continue;
            }
            group.tidy_snapshots();
            let absent_for = |id: &u64| node.absent_for(*id);
            let waits_for = |id: &u64| absent_for(id).is_some_and(|absent| absent < absent_max);
            let absent = view.replicas_of(group.shard).iter().any(waits_for);
            let given_up = |id: &u64| absent_for(id).is_some_and(|absent| absent >= absent_max);
            group.cut_log(absent, given_up, bytes_max).await;
        }
    }
}
