//! What a leader stamps on its entries: command time, and how much time has passed for the shard.
//!
//! *Command time* is the agreed time ([`super::agree`]) and never goes back. Where the shard's last
//! stamp is ahead of it, it goes on at half of its speed until it is met. Where nothing is agreed on,
//! as in the first moments behind a start, it goes on by the steady clock.
//!
//! *What has passed* is counted, by the steady clock of whoever leads, from one of its entries to the
//! next. What passes between the last entry of a leader and the first of the next is left out, and so
//! is what passes while all are off. So it is never more than what really passed, whatever any wall
//! clock says: ids that are kept for seven days of it are kept for seven days at least (promise E).
//! Some is left out on purpose, for steady clocks that run fast.

use std::time::Duration;

use model::mutant;

use super::Steady;

/// Of the time that the steady clock shows, so many hundredths are counted.
const COUNTED_PERCENT: u32 = 95;

/// What an entry says of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Command time, Unix milliseconds.
    pub(crate) time_ms: u64,
    /// What has passed, ms; 0 = not counted.
    pub(crate) passed_ms: u64,
}

/// The clocks of a leader at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    /// The steady clock.
    pub(crate) now: Steady,
    /// The agreed time, Unix milliseconds, if it is known.
    pub(crate) agreed_ms: Option<u64>,
    /// The wall clock, Unix milliseconds.
    pub(crate) wall_ms: u64,
}

/// Where command time goes on by itself.
#[derive(Clone, Copy, Debug)]
struct Own {
    from_ms: u64,
    at: Steady,
    /// By half: it is ahead.
    slowly: bool,
}

/// One shard's stamps on one node.
#[derive(Debug, Default)]
pub(crate) struct Stamps {
    time_ms: u64,
    own: Option<Own>,
    passed: Duration,
    /// When the last stamp was given.
    at: Option<Steady>,
    wall_ms: u64,
}

impl Stamps {
    /// The next stamp; `applied` is the last that this node has applied. `counts` says whether what
    /// passes is to be counted where it was not before.
    pub(crate) fn next(&mut self, applied: Stamp, clocks: Clocks, counts: bool) -> Stamp {
        self.time_ms = self.command_time(applied.time_ms, clocks);
        if counts || applied.passed_ms > 0 {
            self.pass(Duration::from_millis(applied.passed_ms), clocks);
        }
        self.wall_ms = clocks.wall_ms;
        self.at = Some(clocks.now);
        Stamp {
            time_ms: self.time_ms,
            passed_ms: u64::try_from(self.passed.as_millis()).unwrap_or(u64::MAX),
        }
    }

    fn command_time(&mut self, applied_ms: u64, clocks: Clocks) -> u64 {
        let last = self.time_ms.max(applied_ms);
        if mutant!("clock-believed") {
            return last.max(clocks.wall_ms);
        }
        let slowly = match clocks.agreed_ms {
            Some(agreed) if agreed >= last => {
                self.own = None;
                return agreed;
            }
            None if last == 0 => return clocks.wall_ms,
            agreed => agreed.is_some(),
        };
        // Another may have led meanwhile, whose time is further.
        let goes_on = |own: &Own| own.slowly == slowly && self.time_ms >= applied_ms;
        let own = self.own.filter(goes_on).unwrap_or(Own {
            from_ms: last,
            at: clocks.now,
            slowly,
        });
        self.own = Some(own);
        let since = clocks.now.since(own.at);
        let since = if slowly { since / 2 } else { since };
        let since_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        last.max(own.from_ms.saturating_add(since_ms))
    }

    fn pass(&mut self, applied: Duration, clocks: Clocks) {
        let since = self.at.map(|at| clocks.now.since(at));
        let mut since = since.unwrap_or_default() * COUNTED_PERCENT / 100;
        if mutant!("age-by-wall-clock") && self.wall_ms > 0 {
            since = Duration::from_millis(clocks.wall_ms.saturating_sub(self.wall_ms));
        }
        // Both are less than what has passed. Of a count that is not begun, 0 would say so.
        let own = self.passed.saturating_add(since);
        self.passed = own.max(applied).max(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY_MS: u64 = 86_400_000;
    const START_MS: u64 = 1_700_000_000_000;

    fn clocks(ms: u64, agreed_ms: Option<u64>) -> Clocks {
        Clocks {
            now: Steady::after(Duration::from_millis(ms)),
            agreed_ms,
            wall_ms: START_MS + 30 * DAY_MS,
        }
    }

    #[test]
    fn command_time_is_the_agreed_one_and_goes_on_at_half_speed_where_it_is_ahead() {
        let mut stamps = Stamps::default();
        let mut last = Stamp::default();
        let mut at = |ms, agreed_ms| {
            last = stamps.next(last, clocks(ms, agreed_ms), true);
            last.time_ms - START_MS
        };
        assert_eq!(at(0, Some(START_MS + 5_000)), 5_000);
        assert_eq!(at(1_000, Some(START_MS + 2_000)), 5_000);
        assert_eq!(at(1_001, Some(START_MS + 2_001)), 5_000);
        assert_eq!(at(3_000, Some(START_MS + 4_000)), 6_000, "2 s later");
        assert_eq!(at(5_000, Some(START_MS + 5_500)), 7_000);
        assert_eq!(at(7_000, Some(START_MS + 8_500)), 8_500, "it is met");
        assert_eq!(at(8_000, None), 8_500, "nothing is known");
        assert_eq!(at(8_500, None), 9_000);
        assert_eq!(at(9_000, Some(START_MS + DAY_MS)), DAY_MS);
    }

    #[test]
    fn a_new_leader_goes_on_from_what_is_applied() {
        let mut stamps = Stamps::default();
        let applied = |time_ms, passed_ms| Stamp { time_ms, passed_ms };
        let first = stamps.next(applied(START_MS, 700), clocks(0, None), false);
        assert_eq!(first, applied(START_MS, 700));
        let next = stamps.next(first, clocks(1_000, None), false);
        assert_eq!(next, applied(START_MS + 1_000, 1_650));
        // Another has led meanwhile.
        let led = applied(START_MS + 60_000, 50_000);
        let next = stamps.next(led, clocks(2_000, None), false);
        assert_eq!(next, led);
        let next = stamps.next(next, clocks(3_000, None), false);
        assert_eq!(next, applied(START_MS + 61_000, 50_950));
        let mut unborn = Stamps::default();
        let wall = unborn.next(Stamp::default(), clocks(0, None), false);
        assert_eq!(wall, applied(START_MS + 30 * DAY_MS, 0), "it has no other");
    }

    #[derive(Clone, Copy, Debug)]
    struct Step {
        passes_ms: u64,
        agreed_ms: Option<u64>,
        wall_ms: u64,
        leader: usize,
        applied_late: bool,
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let time = || {
            prop_oneof![
                START_MS - 31 * DAY_MS..START_MS + 31 * DAY_MS,
                START_MS..START_MS + 10_000,
            ]
        };
        let passes = prop_oneof![0..3u64, 0..20_000u64, Just(3 * DAY_MS)];
        let steps = (
            passes,
            prop::option::of(time()),
            time(),
            0..3usize,
            any::<bool>(),
        );
        steps.prop_map(
            |(passes_ms, agreed_ms, wall_ms, leader, applied_late)| Step {
                passes_ms,
                agreed_ms,
                wall_ms,
                leader,
                applied_late,
            },
        )
    }

    proptest! {
        #[test]
        fn whatever_the_clocks_say_no_more_passes_than_did_and_time_never_goes_back(
            steps in prop::collection::vec(any_step(), 1..60),
        ) {
                let mut nodes: [Stamps; 3] = Default::default();
            // What the shard has applied, and before its last entry.
            let (mut applied, mut before) = (Stamp::default(), Stamp::default());
            let mut now_ms = 0;
            for step in steps {
                now_ms += step.passes_ms;
                let clocks = Clocks {
                    now: Steady::after(Duration::from_millis(now_ms)),
                    agreed_ms: step.agreed_ms,
                    wall_ms: step.wall_ms,
                };
                // Who goes on leading may have entries on their way.
                let seen = if step.applied_late { before } else { applied };
                let stamp = nodes[step.leader].next(seen, clocks, true);
                prop_assert!(stamp.passed_ms <= now_ms + 1, "{stamp:?} of {now_ms}");
                prop_assert!(stamp.time_ms >= seen.time_ms && stamp.passed_ms >= seen.passed_ms);
                before = applied;
                applied.time_ms = applied.time_ms.max(stamp.time_ms);
                applied.passed_ms = applied.passed_ms.max(stamp.passed_ms);
            }
        }
    }
}
