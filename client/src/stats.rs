//! What the client counts, for those who want to show it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the client was built, over all its calls and streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Unary calls begun.
    pub calls: u64,
    /// Messages acknowledged, unary and streamed.
    pub acked: u64,
    /// Of these, how many had been appended by an earlier attempt.
    pub deduplicated: u64,
    /// Attempts after the first: of unary calls, and messages sent again on streams.
    pub retries: u64,
    /// Moves of a call, stream or tail from one node to another.
    pub failovers: u64,
    /// Calls and streamed messages that ended with an error.
    pub failed: u64,
    /// Reads sent to a second node because the first was slow.
    pub hedges: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) calls: AtomicU64,
    pub(crate) acked: AtomicU64,
    pub(crate) deduplicated: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) failovers: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) hedges: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn snapshot(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            calls: read(&self.calls),
            acked: read(&self.acked),
            deduplicated: read(&self.deduplicated),
            retries: read(&self.retries),
            failovers: read(&self.failovers),
            failed: read(&self.failed),
            hedges: read(&self.hedges),
        }
    }
}
