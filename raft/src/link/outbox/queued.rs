//! What waits for all connections of a node, and the bound of it.

use std::sync::atomic::{AtomicUsize, Ordering};

use store::Share;

/// What waits for all connections of a node.
pub(crate) struct Queued {
    bytes: AtomicUsize,
    max: Share,
}

impl Queued {
    /// At most so much; entries, which have a bound of their own for each connection, are counted only.
    pub(crate) fn new(max: Share) -> Queued {
        let bytes = AtomicUsize::new(0);
        Queued { bytes, max }
    }

    /// Bytes that wait now.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.bytes() as u64 + bytes <= self.max.bytes() as u64
    }

    #[allow(clippy::cast_possible_truncation, reason = "bytes in memory")]
    pub(super) fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes as usize, Ordering::Relaxed);
    }

    #[allow(clippy::cast_possible_truncation, reason = "bytes in memory")]
    pub(super) fn remove(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes as usize, Ordering::Relaxed);
    }
}

impl Default for Queued {
    fn default() -> Queued {
        Queued::new(Share::of(usize::MAX))
    }
}
