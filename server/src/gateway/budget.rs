//! How fast this node may try calls again, so that a failover does not become a storm of them: one
//! budget for everything it forwards.
//!
//! A token bucket, filled by time and by what succeeds. While it has tokens, calls that wait for a
//! leader look for one often; when it is empty, as rarely as the longest wait says. No call fails
//! for lack of a token.

use parking_lot::Mutex;
use tokio::time::Instant;

/// What it holds at most, and at first.
const TOKENS_MAX: f64 = 2_000.0;
/// Tokens that come by time.
const TOKENS_PER_S: f64 = 500.0;
/// Tokens that a call earns which succeeds.
const TOKENS_PER_SUCCESS: f64 = 0.1;

/// The bucket.
#[derive(Debug)]
pub struct Budget(Mutex<Bucket>);

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Budget {
    /// A full one.
    pub fn new(now: Instant) -> Budget {
        Budget(Mutex::new(Bucket {
            tokens: TOKENS_MAX,
            filled: now,
        }))
    }

    /// A call succeeded.
    pub fn earn(&self) {
        let mut bucket = self.0.lock();
        bucket.tokens = (bucket.tokens + TOKENS_PER_SUCCESS).min(TOKENS_MAX);
    }

    /// Takes a token for another attempt; false when there is none.
    pub fn spend(&self, now: Instant) -> bool {
        let mut bucket = self.0.lock();
        let since = now.saturating_duration_since(bucket.filled).as_secs_f64();
        bucket.filled = now;
        bucket.tokens = (bucket.tokens + since * TOKENS_PER_S).min(TOKENS_MAX);
        let any = bucket.tokens >= 1.0;
        if any {
            bucket.tokens -= 1.0;
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_storm_empties_it_and_time_and_success_fill_it_again() {
        let now = Instant::now();
        let budget = Budget::new(now);
        let spent = (0..10_000).filter(|_| budget.spend(now)).count();
        assert_eq!(spent as f64, TOKENS_MAX);
        (0..11).for_each(|_| budget.earn());
        assert!(budget.spend(now) && !budget.spend(now));
        let later = now + Duration::from_millis(100);
        let spent = (0..10_000).filter(|_| budget.spend(later)).count();
        assert!((49..=51).contains(&spent), "{spent}");
    }
}
