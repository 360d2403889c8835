//! The reads of everything that are under way on a node; the task that does them is the scrub.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::id::ShardId;
use parking_lot::Mutex;
use store::state::Digest;
use tokio::sync::Semaphore;

/// What a read of a replica has come to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Read {
    Reading,
    Passed,
    Done(Digest),
}

/// One read.
pub(crate) struct Job {
    /// The entry as of which the replica is read.
    pub(crate) index: u64,
    pub(crate) read: Arc<Mutex<Read>>,
}

/// The reads that are under way on a node, and those that have ended, by shard.
pub(crate) struct Scrubs {
    pub(crate) jobs: Mutex<BTreeMap<ShardId, Job>>,
    pub(crate) turn: Arc<Semaphore>,
}

impl Default for Scrubs {
    fn default() -> Scrubs {
        Scrubs {
            jobs: Mutex::default(),
            turn: Arc::new(Semaphore::new(1)),
        }
    }
}
