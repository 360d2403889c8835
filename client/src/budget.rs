//! What may be sent again, so that a failover does not become a storm: one budget for all calls of a
//! client.
//!
//! A token bucket. Answers earn a tenth of a token each; an attempt after a call's second, a stream's
//! second move in a row, and a hedge cost one. The second attempt is free: many calls lose their node at once, and each must be
//! able to move. An empty bucket fails no call, it makes waits longer.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::options::{HEDGE_MIN, LATENCIES_KEPT, LATENCIES_MIN, RETRY_TOKENS_MAX};

/// A token, in what the bucket counts.
const TOKEN: i64 = 10;
/// What it holds at most.
const FULL: i64 = RETRY_TOKENS_MAX * TOKEN;

/// The bucket; full at first.
pub(crate) struct Budget(AtomicI64);

impl Default for Budget {
    fn default() -> Self {
        Budget(AtomicI64::new(FULL))
    }
}

impl Budget {
    /// So many calls or streamed messages were answered.
    pub(crate) fn earn(&self, count: usize) {
        let earned = i64::try_from(count).unwrap_or(FULL).min(FULL);
        self.change(|held| (held < FULL && earned > 0).then(|| (held + earned).min(FULL)));
    }

    /// Takes a token for an attempt; false when there is none.
    pub(crate) fn spend(&self) -> bool {
        self.change(|held| (held >= TOKEN).then(|| held - TOKEN))
    }

    /// Takes a token for a hedge: only while half of all are left, for retries need them more.
    pub(crate) fn spend_spare(&self) -> bool {
        self.change(|held| (held >= FULL / 2 + TOKEN).then(|| held - TOKEN))
    }

    fn change(&self, change: impl Fn(i64) -> Option<i64>) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, change)
            .is_ok()
    }
}

/// How long reads take, as far as hedging needs to know.
#[derive(Default)]
pub(crate) struct Latencies(Mutex<Ring>);

#[derive(Default)]
struct Ring {
    kept: Vec<Duration>,
    next: usize,
    /// Sorted out anew once in a while.
    p95: Option<Duration>,
}

impl Latencies {
    /// A read took this long.
    pub(crate) fn note(&self, latency: Duration) {
        let mut ring = self.0.lock();
        if ring.kept.len() < LATENCIES_KEPT {
            ring.kept.push(latency);
        } else {
            let at = ring.next;
            ring.kept[at] = latency;
        }
        ring.next = (ring.next + 1) % LATENCIES_KEPT;
        if ring.kept.len() >= LATENCIES_MIN && ring.next.is_multiple_of(LATENCIES_MIN) {
            let mut sorted = ring.kept.clone();
            sorted.sort_unstable();
            ring.p95 = sorted.get(sorted.len() * 95 / 100).copied();
        }
    }

    /// How long to wait for a read before another node is asked, too; `None` while too little is
    /// known.
    pub(crate) fn hedge_after(&self) -> Option<Duration> {
        self.0.lock().p95.map(|p95| p95.max(HEDGE_MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_of_retries_empties_the_bucket_and_answers_fill_it_again() {
        let budget = Budget::default();
        let spent = (0..10 * RETRY_TOKENS_MAX)
            .filter(|_| budget.spend())
            .count();
        assert_eq!(spent as i64, RETRY_TOKENS_MAX);
        budget.earn(10);
        assert_eq!(TOKEN, 10);
        assert!(budget.spend() && !budget.spend());
    }

    #[test]
    fn hedges_leave_half_of_the_tokens_to_retries() {
        let budget = Budget::default();
        let hedges = (0..10 * RETRY_TOKENS_MAX)
            .filter(|_| budget.spend_spare())
            .count();
        assert_eq!(hedges as i64, RETRY_TOKENS_MAX / 2);
        assert!(budget.spend());
    }

    #[test]
    fn a_hedge_waits_for_what_19_of_20_reads_take() {
        let latencies = Latencies::default();
        assert_eq!(latencies.hedge_after(), None);
        for ms in 1..=100 {
            latencies.note(Duration::from_millis(ms));
        }
        let after = latencies.hedge_after().unwrap();
        assert!(
            after >= Duration::from_millis(80) && after <= Duration::from_millis(96),
            "{after:?}"
        );
        for _ in 0..LATENCIES_KEPT {
            latencies.note(Duration::from_micros(5));
        }
        assert_eq!(latencies.hedge_after(), Some(HEDGE_MIN));
    }
}
