//! How far the other nodes' disks were synced at least, as they said themselves: whoever comes back with
//! less has an older disk.
//!
//! It outlives a restart without a sync of its own. A mark goes along with the next batch that this node
//! syncs anyway ([`Log::local_note`]), so whatever this node has durably taken or promised, it knows with
//! it what it had been told until then. A node that syncs nothing itself writes its marks down within
//! [`SETTLE`]. That sync raises no mark, or two idle nodes would keep each other busy.
//!
//! So a power cut takes what was told in the last [`SETTLE`] at most, and only from a node that took no
//! entry and gave no vote since.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::id::NodeId;
use model::mutant;
use parking_lot::Mutex;
use prost::Message;
use store::Log;

/// Until what was told is durable, where nothing else is synced.
const SETTLE: Duration = Duration::from_secs(1);
/// Marks that a disk cannot have come further since it was found: a thousand syncs each second for
/// seven weeks.
const MARK_LEAP_MAX: u64 = 1 << 32;
/// Local records: the highest mark that each node has told.
const TOLD: &str = "told/";

/// What a node has told. Persisted: tags are permanent.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Record {
    #[prost(uint32, tag = "1")]
    format: u32,
    /// The highest, over all starts.
    #[prost(uint64, tag = "2")]
    mark: u64,
}

/// The marks of the others, as told.
#[derive(Clone)]
pub(crate) struct Marks {
    log: Log,
    told: Arc<Mutex<BTreeMap<NodeId, ToldMark>>>,
}

/// What one node has told.
#[derive(Default)]
struct ToldMark {
    /// The start that was let in last; only it is believed.
    nonce: u64,
    /// The mark that it found on its disk.
    found: u64,
    /// The highest mark, over all starts.
    mark: u64,
}

impl Marks {
    /// Reads back what was told before. `nonces` names the start of each node that was let in last.
    pub(super) fn open(
        log: Log,
        nonces: impl Iterator<Item = (NodeId, u64)>,
    ) -> Result<Marks, store::Error> {
        let mut told = BTreeMap::new();
        for (node, nonce) in nonces {
            let record = log.local_get(&key(node))?;
            // One that cannot be read says as much as none, as with starts.
            let record = record.and_then(|record| Record::decode(record).ok());
            let mark = record.map_or(0, |record| record.mark);
            let found = mark;
            told.insert(node, ToldMark { nonce, found, mark });
        }
        Ok(Marks {
            log,
            told: Arc::new(Mutex::new(told)),
        })
    }

    /// Remembers a mark that a node tells. One of a start that was not let in (yet) says nothing:
    /// held against that start's own disk as it was found, it would be too high.
    pub(crate) fn note(&self, node: NodeId, nonce: u64, mark: u64) {
        let mut all = self.told.lock();
        let Some(told) = all.get_mut(&node) else {
            return;
        };
        let believed =
            told.nonce == nonce && mark <= told.found.max(told.mark).saturating_add(MARK_LEAP_MAX);
        if !believed || mark <= told.mark {
            return;
        }
        told.mark = mark;
        if mutant!("marks-in-memory") {
            return;
        }
        let record = Record { format: 1, mark };
        // Under the lock, or an earlier one might be written over it.
        self.log
            .local_note(&key(node), Bytes::from(record.encode_to_vec()));
    }

    /// Sees to it, for ever, that what was told becomes durable; ends when the log does.
    pub(crate) async fn keep(&self) {
        while self.log.settle().await.is_ok() {
            tokio::time::sleep(SETTLE).await;
        }
    }

    /// Whether this start of a node is the one that is believed.
    pub(super) fn believes(&self, node: NodeId, nonce: u64) -> bool {
        let told = self.told.lock();
        told.get(&node).is_some_and(|told| told.nonce == nonce)
    }

    /// The highest mark that a node has told; 0 when nothing is known.
    pub(super) fn highest(&self, node: NodeId) -> u64 {
        self.told.lock().get(&node).map_or(0, |told| told.mark)
    }

    /// A start of a node is let in, whose disk had this mark when it was found: from now on it is the
    /// one that is believed.
    pub(super) fn let_in(&self, node: NodeId, nonce: u64, found: Option<u64>) {
        let mut all = self.told.lock();
        let told = all.entry(node).or_default();
        told.nonce = nonce;
        told.found = found.unwrap_or(told.found);
    }

    /// What a node has told counts no more; durable on completion.
    pub(super) async fn forget(&self, node: NodeId) -> Result<(), store::Error> {
        let forgotten = {
            let mut all = self.told.lock();
            all.remove(&node);
            self.log.local_put(&key(node), None)
        };
        forgotten.await
    }
}

fn key(node: NodeId) -> String {
    format!("{TOLD}{}", node.0)
}
