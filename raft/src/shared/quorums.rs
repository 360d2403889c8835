//! Of which shards this node has lost the quorum, as far as it can tell; who looks is a task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::id::ShardId;
use model::limits;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// How long a majority must be silent.
pub(crate) const LACK_MAX: Duration = Duration::from_millis(limits::QUORUM_LACK_MS_MAX);

/// What is known of the quorums of all shards.
#[derive(Debug)]
pub(crate) struct Quorums {
    /// Shards of which no majority was heard for long.
    pub(crate) unheard: watch::Sender<Arc<BTreeSet<ShardId>>>,
    /// When a leader last did something for this node, of those in `unheard`.
    pub(crate) served: Mutex<BTreeMap<ShardId, Instant>>,
}

impl Default for Quorums {
    fn default() -> Quorums {
        Quorums {
            unheard: watch::Sender::new(Arc::default()),
            served: Mutex::default(),
        }
    }
}

impl Quorums {
    /// Whether the quorum of `shard` is lost, as seen from here.
    pub(crate) fn lacks(&self, shard: ShardId) -> bool {
        // Nobody is missed nearly always: one look.
        self.unheard.borrow().contains(&shard) && self.served_until(shard).is_none()
    }

    /// Resolves when the quorum of `shard` is lost, at once when it is.
    pub(crate) async fn lost(&self, shard: ShardId) {
        let mut unheard = self.unheard.subscribe();
        loop {
            let there = unheard.borrow_and_update().contains(&shard);
            match (there, self.served_until(shard)) {
                (true, None) => return,
                (true, Some(until)) => sleep_until(until).await,
                // The sender lives as long as this.
                (false, _) => drop(unheard.changed().await),
            }
        }
    }

    /// Notes that a leader of `shard`, confirmed by its quorum, has answered this node.
    pub(crate) fn served(&self, shard: ShardId) {
        if self.unheard.borrow().contains(&shard) {
            self.served.lock().insert(shard, Instant::now());
        }
    }

    /// Until when that a leader answered says more than that no majority is heard.
    fn served_until(&self, shard: ShardId) -> Option<Instant> {
        let until = *self.served.lock().get(&shard)? + LACK_MAX;
        (until > Instant::now()).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_was_answered_by_a_leader_does_not_lack_it_for_a_while() {
        let shard = ShardId(1);
        let quorums = Quorums::default();
        assert!(!quorums.lacks(shard));
        quorums.served(shard);
        quorums.unheard.send_replace(Arc::new([shard].into()));
        assert!(quorums.lacks(shard), "what was before counts no more");
        quorums.lost(shard).await;
        quorums.served(shard);
        assert!(!quorums.lacks(shard));
        let began = Instant::now();
        quorums.lost(shard).await;
        assert_eq!(began.elapsed(), LACK_MAX);
        assert!(!quorums.lacks(ShardId(2)));
    }
}
