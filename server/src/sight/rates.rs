//! How much the shards that this node leads are used, over the last half hour.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use model::id::ShardId;
use parking_lot::Mutex;
use tokio::time::Instant;

/// Between two looks at the counters that rates are told from.
pub const RATES_CHECK_EVERY: Duration = Duration::from_secs(5);
/// Looks that are added up to one cell of the heat map: half a minute.
const LOOKS_OF_CELL: u32 = 6;
/// Cells that are kept: half an hour.
pub const CELLS_MAX: usize = 60;
/// Shards that are told of, the busiest first.
pub const SHARDS_MAX: usize = 1_000;

/// The changes of shards, counted. Clones are one.
#[derive(Clone, Default)]
pub struct Rates(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    last: Option<Instant>,
    /// Of each shard led at the last look: its revision then.
    revisions: BTreeMap<ShardId, u64>,
    per_s: BTreeMap<ShardId, f64>,
    looks: u32,
    cell: BTreeMap<ShardId, u64>,
    cells: VecDeque<(u64, BTreeMap<ShardId, u64>)>,
}

/// What was changed in half a minute.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cell {
    /// When it ended, Unix milliseconds.
    pub at_ms: u64,
    /// Changes of each shard that had any.
    pub changes: BTreeMap<ShardId, u64>,
}

impl Rates {
    /// Takes in the shards that are led now, and how many changes each has applied.
    pub fn look(&self, led: &[(ShardId, u64)], unix_ms: u64) {
        let mut inner = self.0.lock();
        let inner = &mut *inner;
        let now = Instant::now();
        let since = inner.last.replace(now).map(|last| now - last);
        inner.per_s.clear();
        let before = std::mem::take(&mut inner.revisions);
        for (shard, revision) in led {
            inner.revisions.insert(*shard, *revision);
            // One that is led anew may have been led elsewhere meanwhile.
            let (Some(before), Some(since)) = (before.get(shard), since) else {
                continue;
            };
            let changes = revision.saturating_sub(*before);
            if changes == 0 || since.is_zero() {
                continue;
            }
            #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
            let per_s = changes as f64 / since.as_secs_f64();
            inner.per_s.insert(*shard, per_s);
            *inner.cell.entry(*shard).or_default() += changes;
        }
        inner.looks += 1;
        if inner.looks >= LOOKS_OF_CELL {
            inner.looks = 0;
            let mut cell: Vec<(ShardId, u64)> =
                std::mem::take(&mut inner.cell).into_iter().collect();
            cell.sort_by_key(|(_, changes)| std::cmp::Reverse(*changes));
            cell.truncate(SHARDS_MAX);
            inner.cells.push_back((unix_ms, cell.into_iter().collect()));
            if inner.cells.len() > CELLS_MAX {
                inner.cells.pop_front();
            }
        }
    }

    /// Changes a second of those that had any, the busiest first, at most [`SHARDS_MAX`].
    pub fn busiest(&self) -> Vec<(ShardId, f64)> {
        let inner = self.0.lock();
        let mut rates: Vec<(ShardId, f64)> = inner.per_s.iter().map(|(s, r)| (*s, *r)).collect();
        rates.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        rates.truncate(SHARDS_MAX);
        rates
    }

    /// The last half hour, oldest first.
    pub fn cells(&self) -> Vec<Cell> {
        let inner = self.0.lock();
        let cells = inner.cells.iter();
        cells
            .map(|(at_ms, changes)| Cell {
                at_ms: *at_ms,
                changes: changes.clone(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_what_was_led_from_look_to_look_counts() {
        let rates = Rates::default();
        let (one, two) = (ShardId(1), ShardId(2));
        rates.look(&[(one, 100)], 0);
        assert!(rates.busiest().is_empty());
        tokio::time::advance(RATES_CHECK_EVERY).await;
        rates.look(&[(one, 150), (two, 9_000)], 5_000);
        assert_eq!(rates.busiest(), [(one, 10.0)]);
        tokio::time::advance(RATES_CHECK_EVERY).await;
        rates.look(&[(one, 150), (two, 9_100)], 10_000);
        assert_eq!(rates.busiest(), [(two, 20.0)]);
        for look in 3..500 {
            tokio::time::advance(RATES_CHECK_EVERY).await;
            rates.look(&[(one, 150), (two, 9_100)], look * 5_000);
        }
        let cells = rates.cells();
        assert_eq!(cells.len(), CELLS_MAX);
        assert!(cells.iter().all(|cell| cell.changes.is_empty()));
    }
}
