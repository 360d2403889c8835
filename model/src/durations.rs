//! How long something took, counted in buckets that many may add to at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets, microseconds; the last bucket has none. Each is about 1.6 times the one
/// before, so that a percentile is right to within a quarter.
pub const BOUNDS_US: [u64; 24] = [
    100, 160, 250, 400, 630, 1_000, 1_600, 2_500, 4_000, 6_300, 10_000, 16_000, 25_000, 40_000,
    63_000, 100_000, 160_000, 250_000, 400_000, 630_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000,
];

/// Buckets: those with a bound, and one above.
const BUCKETS: usize = BOUNDS_US.len() + 1;

/// A histogram of durations. Adding costs three atomic additions; it never blocks.
#[derive(Debug, Default)]
pub struct Durations {
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
    max_us: AtomicU64,
}

/// What a [`Durations`] held at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// How many fell into each bucket of [`BOUNDS_US`], and above the last.
    pub buckets: [u64; BUCKETS],
    /// All of them together, microseconds.
    pub sum_us: u64,
}

impl Durations {
    /// Adds one.
    pub fn add(&self, took: Duration) {
        self.add_many(took, 1);
    }

    /// Adds `count` that took as long each.
    pub fn add_many(&self, took: Duration, count: u64) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        self.buckets[bucket].fetch_add(count, Ordering::Relaxed);
        self.sum_us
            .fetch_add(us.saturating_mul(count), Ordering::Relaxed);
        self.max_us.fetch_max(us, Ordering::Relaxed);
    }

    /// What it holds.
    pub fn counted(&self) -> Counted {
        let mut counted = Counted {
            sum_us: self.sum_us.load(Ordering::Relaxed),
            ..Counted::default()
        };
        for (to, from) in counted.buckets.iter_mut().zip(&self.buckets) {
            *to = from.load(Ordering::Relaxed);
        }
        counted
    }

    /// The longest since this was asked last; zero when there was none.
    pub fn take_max(&self) -> Duration {
        Duration::from_micros(self.max_us.swap(0, Ordering::Relaxed))
    }
}

impl Counted {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// What has come since `before`, of the same histogram.
    #[must_use]
    pub fn since(&self, before: &Counted) -> Counted {
        let mut since = Counted {
            sum_us: self.sum_us.wrapping_sub(before.sum_us),
            ..Counted::default()
        };
        let both = self.buckets.iter().zip(&before.buckets);
        for (to, (now, then)) in since.buckets.iter_mut().zip(both) {
            *to = now.saturating_sub(*then);
        }
        since
    }

    /// Adds what another histogram holds.
    pub fn merge(&mut self, other: &Counted) {
        for (to, from) in self.buckets.iter_mut().zip(&other.buckets) {
            *to += from;
        }
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    /// What `percent` of them took at most: the bound of the bucket where that falls, and that of the
    /// last for what lies above it. `None` when there are none.
    pub fn percentile(&self, percent: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        #[allow(
            clippy::cast_precision_loss,
            reason = "a rank among fewer than 2^52 is exact enough"
        )]
        let rank = count as f64 * percent / 100.0;
        let mut below = 0_u64;
        let last = BOUNDS_US.len() - 1;
        for (at, held) in self.buckets.iter().enumerate() {
            below += held;
            #[allow(clippy::cast_precision_loss, reason = "as above")]
            if below as f64 >= rank {
                return Some(Duration::from_micros(BOUNDS_US[at.min(last)]));
            }
        }
        Some(Duration::from_micros(BOUNDS_US[last]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A percentile is never below what that many really took, and at most one bucket above.
        #[test]
        fn a_percentile_is_right_to_within_its_bucket(
            mut took_us in proptest::collection::vec(1_u64..9_000_000, 1..200),
            percent in 1_u32..=100,
        ) {
            let durations = Durations::default();
            for us in &took_us {
                durations.add(Duration::from_micros(*us));
            }
            took_us.sort_unstable();
            let rank = (took_us.len() * percent as usize).div_ceil(100).max(1);
            let real = took_us[rank - 1];
            let told = durations.counted().percentile(f64::from(percent)).unwrap();
            let bound = BOUNDS_US.iter().find(|bound| **bound >= real).unwrap();
            prop_assert_eq!(told, Duration::from_micros(*bound));
        }
    }

    #[test]
    fn what_came_since_is_told_apart_from_what_was_there() {
        let durations = Durations::default();
        durations.add(Duration::from_secs(20));
        let before = durations.counted();
        assert_eq!(before.percentile(99.0), Some(Duration::from_secs(10)));
        durations.add_many(Duration::from_micros(90), 3);
        let since = durations.counted().since(&before);
        assert_eq!((since.count(), since.sum_us), (3, 270));
        assert_eq!(durations.take_max(), Duration::from_secs(20));
        assert_eq!(durations.take_max(), Duration::ZERO);
        assert_eq!(Counted::default().percentile(50.0), None);
        let mut both = before;
        both.merge(&since);
        assert_eq!(both, durations.counted());
    }
}
