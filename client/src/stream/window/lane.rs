//! A conversation in the window: what of it waits, is on its way, or was refused for now.

use std::collections::VecDeque;
use std::sync::Arc;

use model::mutant;
use tokio::time::Instant;

/// One conversation with unanswered messages. Ids grow in the order of enqueueing.
pub(super) struct Lane {
    pub(super) parent: Arc<str>,
    pub(super) waiting: VecDeque<u64>,
    pub(super) in_flight: VecDeque<u64>,
    /// Refused for now; sent again once nothing is in flight.
    pub(super) failed: Vec<u64>,
    /// Refusals in a row.
    pub(super) refused: u32,
    pub(super) delayed_until: Option<Instant>,
}

impl Lane {
    /// Puts what is in flight or refused back in front of what waits, in order.
    pub(super) fn recall(&mut self) {
        if self.in_flight.is_empty() && self.failed.is_empty() {
            return;
        }
        let mut back: Vec<u64> = self
            .in_flight
            .drain(..)
            .chain(self.failed.drain(..))
            .collect();
        back.sort_unstable();
        if mutant!("stream-resend-out-of-order") {
            back.reverse();
        }
        for id in back.into_iter().rev() {
            self.waiting.push_front(id);
        }
    }
}
