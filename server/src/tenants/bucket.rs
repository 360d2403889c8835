//! A token bucket: how often something may be done, with a burst of one second.
//!
//! It holds whole numbers only, so that nothing is lost by rounding however often it is asked. What is larger
//! than the bucket passes when the bucket is full, and is paid back by what comes behind it: so a batch of any
//! size gets through, and over time no more than the rate does.
//!
//! ```text
//!  level:  capacity ──┐      take 3      ┌──── full again
//!                     └──────┐     ┌─────┘
//!          0 ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄│┄┄┄┄┄│┄┄┄┄┄  below 0: nothing is given until it is paid back
//! ```

use std::time::Duration;

use tokio::time::Instant;

const NANOS: i128 = 1_000_000_000;

/// A bucket of `rate / parts` tokens a second, which holds one second's worth.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    rate: u64,
    parts: u64,
    /// Tokens × 10^9 × parts.
    level: i128,
    at: Instant,
}

impl Bucket {
    /// A full one: so many tokens a second, of which this is one of so many parts.
    pub fn full(rate: u64, parts: u64, now: Instant) -> Bucket {
        let (rate, parts) = (rate.max(1), parts.max(1));
        Bucket {
            rate,
            parts,
            level: i128::from(rate) * NANOS,
            at: now,
        }
    }

    /// Has it hold what has come until now, at another rate from now on if it is another.
    pub fn settle(&mut self, rate: u64, parts: u64, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at).as_nanos();
        let elapsed = i128::try_from(elapsed).unwrap_or(i128::MAX / (1 << 64));
        self.at = self.at.max(now);
        let refill = elapsed.saturating_mul(i128::from(self.rate));
        self.level = self.level.saturating_add(refill).min(self.capacity());
        let (rate, parts) = (rate.max(1), parts.max(1));
        if (rate, parts) != (self.rate, self.parts) {
            // The same share of it is full.
            let full = self.level.clamp(-self.capacity(), self.capacity());
            self.level = full / i128::from(self.rate) * i128::from(rate);
            (self.rate, self.parts) = (rate, parts);
        }
    }

    /// How long it takes until so much can be taken; zero when it can be now. Settle it first.
    pub fn wait(&self, amount: u64) -> Duration {
        let needs = self.cost(amount).min(self.capacity());
        let lacks = needs.saturating_sub(self.level);
        if lacks <= 0 {
            return Duration::ZERO;
        }
        let rate = i128::from(self.rate);
        let nanos = lacks / rate + i128::from(lacks % rate > 0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Whether it holds so much, and needs no credit for it.
    pub fn holds(&self, amount: u64) -> bool {
        self.level >= self.cost(amount)
    }

    /// Takes so much, whatever it holds.
    pub fn take(&mut self, amount: u64) {
        self.level = self.level.saturating_sub(self.cost(amount));
    }

    /// Gives back what was taken and not used.
    pub fn give_back(&mut self, amount: u64) {
        let level = self.level.saturating_add(self.cost(amount));
        self.level = level.min(self.capacity());
    }

    /// Whether it is as one that was never used.
    pub fn is_full(&self) -> bool {
        self.level >= self.capacity()
    }

    fn capacity(&self) -> i128 {
        i128::from(self.rate) * NANOS
    }

    fn cost(&self, amount: u64) -> i128 {
        i128::from(amount) * i128::from(self.parts) * NANOS
    }
}

#[cfg(test)]
#[path = "bucket_tests.rs"]
mod tests;
