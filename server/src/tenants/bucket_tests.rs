use proptest::prelude::*;

use super::*;

/// The bucket of the books: rational numbers, kept as fractions of the same denominator, one step for each
/// nanosecond's worth that has come.
struct Model {
    rate: u64,
    parts: u64,
    /// In tokens × parts × 10^9, as refills and takes say.
    spent: i128,
    since: Instant,
}

impl Model {
    fn holds(&self, now: Instant, amount: u64) -> bool {
        let capacity = i128::from(self.rate) * NANOS;
        let needs = (i128::from(amount) * i128::from(self.parts) * NANOS).min(capacity);
        capacity - self.spent_at(now) >= needs
    }

    fn spent_at(&self, now: Instant) -> i128 {
        let elapsed = i128::try_from((now - self.since).as_nanos()).unwrap();
        (self.spent - elapsed * i128::from(self.rate)).max(0)
    }

    fn take(&mut self, now: Instant, amount: u64) {
        let cost = i128::from(amount) * i128::from(self.parts) * NANOS;
        self.spent = self.spent_at(now) + cost;
        self.since = now;
    }
}

proptest! {
    #[test]
    fn it_gives_what_the_model_gives_however_it_is_asked(
        rate in 1_u64..2_000,
        parts in 1_u64..10,
        steps in prop::collection::vec((0_u64..2_000_000_000, 0_u64..3_000), 1..80),
    ) {
        let begun = Instant::now();
        let mut now = begun;
        let mut bucket = Bucket::full(rate, parts, now);
        let mut model = Model { rate, parts, spent: 0, since: now };
        for (nanos, amount) in steps {
            now += Duration::from_nanos(nanos);
            // Asking changes nothing.
            bucket.settle(rate, parts, now);
            let wait = bucket.wait(amount);
            prop_assert_eq!(wait.is_zero(), model.holds(now, amount));
            if wait.is_zero() {
                bucket.take(amount);
                model.take(now, amount);
            } else {
                let mut later = bucket;
                later.settle(rate, parts, now + wait);
                prop_assert!(later.wait(amount).is_zero(), "the wait is long enough");
                later = bucket;
                later.settle(rate, parts, now + wait - Duration::from_nanos(1));
                prop_assert!(!later.wait(amount).is_zero(), "and no longer than it must be");
            }
        }
    }

    #[test]
    fn over_any_time_no_more_than_the_rate_and_a_burst_is_given(
        rate in 1_u64..500,
        gaps in prop::collection::vec(0_u64..400_000_000, 50..400),
    ) {
        let begun = Instant::now();
        let mut now = begun;
        let mut bucket = Bucket::full(rate, 1, now);
        let mut given = 0_u64;
        for nanos in gaps {
            now += Duration::from_nanos(nanos);
            bucket.settle(rate, 1, now);
            if bucket.wait(1).is_zero() {
                bucket.take(1);
                given += 1;
            }
            let nanos = (now - begun).as_nanos();
            let most = u128::from(rate) + nanos * u128::from(rate) / 1_000_000_000;
            prop_assert!(u128::from(given) <= most, "{given} of {most}");
        }
    }

    #[test]
    fn who_keeps_to_the_rate_is_never_refused(
        rate in 1_u64..500,
        more in prop::collection::vec(0_u64..1_000_000, 1..200),
    ) {
        let mut now = Instant::now();
        let mut bucket = Bucket::full(rate, 1, now);
        for nanos in more {
            now += Duration::from_nanos(1_000_000_000_u64.div_ceil(rate) + nanos);
            bucket.settle(rate, 1, now);
            prop_assert!(bucket.wait(1).is_zero());
            bucket.take(1);
        }
    }
}

#[test]
fn what_is_larger_than_the_bucket_passes_when_it_is_full_and_is_paid_back() {
    let now = Instant::now();
    let mut bucket = Bucket::full(10, 1, now);
    assert!(bucket.wait(35).is_zero() && !bucket.holds(35));
    bucket.take(35);
    assert_eq!(bucket.wait(1), Duration::from_millis(2_600));
    bucket.settle(10, 1, now + Duration::from_millis(2_600));
    assert!(bucket.wait(1).is_zero());
    assert!(!bucket.is_full());
}

#[test]
fn another_rate_holds_from_then_on() {
    let now = Instant::now();
    let mut bucket = Bucket::full(10, 1, now);
    bucket.take(10);
    bucket.settle(100, 1, now);
    assert_eq!(bucket.wait(1), Duration::from_millis(10));
    bucket.settle(100, 4, now);
    assert_eq!(bucket.wait(1), Duration::from_millis(40));
    // A clock that stands still, or that is behind, gives nothing.
    bucket.settle(100, 4, now);
    assert_eq!(bucket.wait(1), Duration::from_millis(40));
}

#[test]
fn what_is_given_back_can_be_taken_again() {
    let now = Instant::now();
    let mut bucket = Bucket::full(2, 1, now);
    bucket.take(2);
    bucket.give_back(1);
    assert!(bucket.wait(1).is_zero() && !bucket.wait(2).is_zero());
    bucket.give_back(100);
    assert!(bucket.is_full() && !bucket.holds(3));
}
