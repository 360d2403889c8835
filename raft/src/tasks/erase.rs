//! What was erased leaves the files of this node: [`store::state::Erasure`] says what that takes.
//!
//! Within [`WITHIN`] of an erasure, while the node runs, its bytes are in no file any more: not in the
//! state, not in the log, not in a snapshot. A follower that is behind is waited for at first; after
//! [`PATIENCE`] the log is cut all the same, and it gets a snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::id::ShardId;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::replica::group::Group;
use crate::shared::Shared;

/// Between two looks at what is to be erased.
const LOOK_ERASE: Duration = Duration::from_secs(5);
/// For so long followers are waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// The bound that is told to operators, for a node that has room on its disk.
pub(crate) const WITHIN: Duration = Duration::from_secs(120);
/// Erasures of one shard that are carried out together.
const TOGETHER_MAX: usize = 1_024;

const _: () = assert!(PATIENCE.as_secs() + 4 * LOOK_ERASE.as_secs() < WITHIN.as_secs());

/// Erases until the node stops.
pub(crate) async fn keep(node: Arc<Shared>) {
    let mut look = interval(LOOK_ERASE);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waiting: BTreeMap<ShardId, Waiting> = BTreeMap::new();
    loop {
        look.tick().await;
        // Rewriting takes room.
        if node.disk_is_full() {
            continue;
        }
        for group in node.groups() {
            if let Err(error) = erase(&node, &group, &mut waiting).await {
                return node.die(error.to_string());
            }
        }
    }
}

/// What a shard's erasures wait for.
struct Waiting {
    /// The last of them when they were seen first.
    upto: u64,
    since: Instant,
}

async fn erase(
    node: &Shared,
    group: &Group,
    waiting: &mut BTreeMap<ShardId, Waiting>,
) -> Result<(), store::Error> {
    let state = &group.state;
    // There may be thousands, of which few ever have any.
    if !state.may_have_erasures() {
        return Ok(());
    }
    // A replica that cannot be read is healed by others.
    let Ok(erasures) = state.erasures(TOGETHER_MAX) else {
        return Ok(());
    };
    let Some(last) = erasures.iter().map(|one| one.index).max() else {
        waiting.remove(&group.shard);
        return Ok(());
    };
    let since = waiting.entry(group.shard).or_insert_with(|| Waiting {
        upto: last,
        since: Instant::now(),
    });
    let now = since.since.elapsed() >= PATIENCE;
    let upto = since.upto;
    let due: Vec<_> = erasures
        .into_iter()
        .filter(|one| one.index <= upto)
        .collect();
    if state
        .flushed()
        .position
        .is_none_or(|flushed| flushed.index < upto)
    {
        node.state().flush().await?;
    }
    if !group.cut_erased(upto, now).await {
        return Ok(());
    }
    let began = Instant::now();
    let count = due.len();
    state.scour(due).await?;
    waiting.remove(&group.shard);
    let (shard, took_ms) = (group.shard, began.elapsed().as_millis());
    tracing::info!(%shard, count, took_ms, "what was erased is in no file any more");
    Ok(())
}
