//! What was done in one second, added up: a call is never a record of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use model::id::ShardId;
use proto::v1::{AskedSecond, SecondRecord, ShardSecond};
use tokio::time::Instant;

/// Shards of a second that are kept apart; a node that leads more adds up the first ones.
const SHARDS_MAX: usize = 16_384;

/// One second that goes on.
#[derive(Debug)]
pub struct Second {
    /// Its begin.
    pub began: Instant,
    led: BTreeMap<u32, Led>,
    asked: BTreeMap<u32, Asked>,
    /// Rounds for reads.
    pub read_rounds: u64,
    /// Records that were lost.
    pub dropped: u64,
}

#[derive(Debug)]
struct Led {
    messages: u64,
    bytes: u64,
    entries: u64,
    failed: u64,
    took: Times,
    first: Instant,
    last: Instant,
    gap: Duration,
}

#[derive(Debug, Default)]
struct Asked {
    failed: u64,
    reason: &'static str,
    took: Times,
}

impl Second {
    /// Begins now.
    pub fn new(now: Instant) -> Second {
        Second {
            began: now,
            led: BTreeMap::new(),
            asked: BTreeMap::new(),
            read_rounds: 0,
            dropped: 0,
        }
    }

    /// An entry was answered, of a shard that this node leads.
    pub fn decided(
        &mut self,
        shard: ShardId,
        (commands, bytes): (u32, u64),
        took: Duration,
        decided: bool,
        now: Instant,
    ) {
        if self.led.len() >= SHARDS_MAX && !self.led.contains_key(&shard.0) {
            self.dropped += 1;
            return;
        }
        let led = self.led.entry(shard.0).or_insert_with(|| Led {
            messages: 0,
            bytes: 0,
            entries: 0,
            failed: 0,
            took: Times::default(),
            first: now,
            last: now,
            gap: Duration::ZERO,
        });
        if !decided {
            led.failed += u64::from(commands);
            return;
        }
        if led.entries == 0 {
            (led.first, led.last) = (now, now);
        }
        led.gap = led.gap.max(now - led.last);
        led.last = now;
        led.entries += 1;
        led.messages += u64::from(commands);
        led.bytes += bytes;
        led.took.add(took, u64::from(commands));
    }

    /// A client's command was answered here.
    pub fn asked(&mut self, shard: Option<ShardId>, took: Duration, failed: Option<&'static str>) {
        let shard = shard.map_or(u32::MAX, |shard| shard.0);
        if self.asked.len() >= SHARDS_MAX && !self.asked.contains_key(&shard) {
            self.dropped += 1;
            return;
        }
        let asked = self.asked.entry(shard).or_default();
        match failed {
            None => asked.took.add(took, 1),
            Some(reason) => {
                asked.failed += 1;
                asked.reason = reason;
            }
        }
    }

    /// What is kept of it; `None` where nothing was done and nothing lost.
    pub fn record(
        self,
        syncs: u64,
        sync_max: Duration,
        lateness: Duration,
    ) -> Option<SecondRecord> {
        let nothing = self.led.is_empty() && self.asked.is_empty() && self.read_rounds == 0;
        if nothing && self.dropped == 0 {
            return None;
        }
        let ms = |at: Instant| u32::try_from((at - self.began).as_millis()).unwrap_or(u32::MAX);
        let led = self.led.iter().map(|(shard, led)| ShardSecond {
            shard: *shard,
            messages: led.messages,
            bytes: led.bytes,
            entries: led.entries,
            failed: led.failed,
            p50_us: led.took.at_percent(50),
            p99_us: led.took.at_percent(99),
            max_us: led.took.max_us,
            first_ms: ms(led.first),
            last_ms: ms(led.last),
            gap_ms: u32::try_from(led.gap.as_millis()).unwrap_or(u32::MAX),
        });
        let asked = self.asked.iter().map(|(shard, asked)| AskedSecond {
            shard: *shard,
            answered: asked.took.count,
            failed: asked.failed,
            p50_us: asked.took.at_percent(50),
            p99_us: asked.took.at_percent(99),
            max_us: asked.took.max_us,
            reason: asked.reason.to_owned(),
        });
        Some(SecondRecord {
            shards: led.collect(),
            asked: asked.collect(),
            syncs,
            sync_max_us: micros(sync_max),
            lateness_us: micros(lateness),
            read_rounds: self.read_rounds,
            dropped: self.dropped,
        })
    }
}

/// Microseconds of a time.
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// How long things took, in buckets a sixteenth wide.
#[derive(Debug, Default)]
struct Times {
    count: u64,
    max_us: u64,
    buckets: BTreeMap<u32, u64>,
}

impl Times {
    fn add(&mut self, took: Duration, count: u64) {
        let us = micros(took);
        self.count += count;
        self.max_us = self.max_us.max(us);
        *self.buckets.entry(bucket(us)).or_default() += count;
    }

    /// What so many percent were at most; a sixteenth too much at most.
    fn at_percent(&self, percent: u64) -> u64 {
        let wanted = (self.count * percent).div_ceil(100);
        let mut seen = 0;
        for (bucket, count) in &self.buckets {
            seen += count;
            if seen >= wanted {
                return top(*bucket).min(self.max_us);
            }
        }
        self.max_us
    }
}

/// Sixteen to each power of two.
fn bucket(us: u64) -> u32 {
    let bits = us.max(1).ilog2();
    if bits < 4 {
        return u32::try_from(us).unwrap_or(0);
    }
    let step = u32::try_from((us >> (bits - 4)) & 15).unwrap_or(0);
    (bits - 3) * 16 + step
}

/// The largest of a bucket.
fn top(bucket: u32) -> u64 {
    if bucket < 16 {
        return u64::from(bucket);
    }
    let (bits, step) = (bucket / 16 + 3, u64::from(bucket % 16));
    let next = u128::from(17 + step) << (bits - 4);
    u64::try_from(next - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_second_without_anything_is_no_record() {
        let second = Second::new(Instant::now());
        assert_eq!(second.record(5, ms(1), ms(0)), None);
    }

    #[test]
    fn a_second_says_how_much_how_long_and_where_it_stood_still() {
        let began = Instant::now();
        let mut second = Second::new(began);
        let mut decide = |at, commands, took, decided| {
            let shard = ShardId(3);
            second.decided(shard, (commands, 100), ms(took), decided, began + ms(at));
        };
        decide(10, 99, 2, true);
        decide(20, 1, 400, true);
        decide(700, 100, 2, true);
        decide(800, 7, 900, false);
        second.asked(Some(ShardId(3)), ms(5), None);
        second.asked(Some(ShardId(3)), ms(9), Some("NO_QUORUM"));
        let record = second.record(4, ms(3), ms(1)).unwrap();
        let led = &record.shards[0];
        assert_eq!(
            (led.messages, led.entries, led.failed, led.bytes),
            (200, 3, 7, 300)
        );
        assert_eq!((led.first_ms, led.last_ms, led.gap_ms), (10, 700, 680));
        assert!((2_000..2_130).contains(&led.p99_us), "{}", led.p99_us);
        assert_eq!(led.max_us, 400_000);
        let asked = &record.asked[0];
        assert_eq!(
            (asked.answered, asked.failed, asked.reason.as_str()),
            (1, 1, "NO_QUORUM")
        );
        assert_eq!((record.syncs, record.sync_max_us), (4, 3_000));
    }

    proptest! {
        #[test]
        fn a_bucket_is_a_sixteenth_wide_and_holds_what_is_put_into_it(us in 0..u64::MAX / 2) {
            let top = top(bucket(us));
            prop_assert!(top >= us);
            prop_assert!(top - us <= us / 16 + 1, "{us} {top}");
        }
    }
}
