//! What unanswered commands take in memory, and the bound of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use store::Share;

/// What the commands of all shards that are not answered take in memory.
pub(crate) struct Waiting {
    bytes: AtomicUsize,
    max: Share,
}

impl Waiting {
    /// At most so many bytes, of all shards: this is what bounds their queues.
    pub(crate) fn new(max: Share) -> Waiting {
        Waiting {
            bytes: AtomicUsize::new(0),
            max,
        }
    }

    /// Bytes of the commands that wait now.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Room for one command; `None` where there is none.
    pub(super) fn take(self: &Arc<Self>, command: usize) -> Option<Held> {
        let bytes = command + ITEM_BYTES;
        let held = Held {
            bytes,
            of: self.clone(),
        };
        let all = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (all <= self.max.bytes()).then_some(held)
    }
}

/// What a command takes until it is answered.
pub(super) struct Held {
    bytes: usize,
    of: Arc<Waiting>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What a command takes beside its bytes.
const ITEM_BYTES: usize = 256;
