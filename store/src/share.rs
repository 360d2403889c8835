//! How much somebody may keep in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A part of a node's memory, bytes. Who divides the memory changes it while others keep to it: those
/// that look at it next see the new one. Clones are one share.
#[derive(Clone, Debug)]
pub struct Share(Arc<AtomicUsize>);

impl Share {
    /// So many bytes, until it is changed.
    pub fn of(bytes: usize) -> Share {
        Share(Arc::new(AtomicUsize::new(bytes)))
    }

    /// Bytes that may be kept now.
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Changes it.
    pub fn set(&self, bytes: usize) {
        self.0.store(bytes, Ordering::Relaxed);
    }
}
