//! The rule by which nodes agree on the time, a pure function of what clocks say.
//!
//! Every clock is told as its *offset*: what it shows minus this node's steady clock, which no
//! setting of a clock moves. While nothing is set, an offset stays as it is.
//!
//! - *Agreed time* goes on by the steady clock. No reading of a wall clock makes it leap.
//! - It is drawn to the median of the clocks of a majority of the nodes: at once where that is within
//!   [`TOLERANCE_MS`], else at twice its speed forward, or half of it back. So when all clocks leap
//!   for an hour and leap back, it is off by an hour at most, and never stands still.
//! - Of two clocks that differ there is no median but a range between them. Agreed time stays where
//!   it is as long as it lies in it: two clocks cannot say which of them leapt.
//! - A node that has just started takes over what the others agree on. When nobody knows, since all
//!   have started, it is what the clocks of a majority say that show the same: time may have passed
//!   while all were off, and then all clocks tell.

/// How far a clock may be off the others' median and still counts as right.
pub(crate) const TOLERANCE_MS: i64 = 250;
/// After so long without a majority of equal clocks the median of the known ones must do.
const SETTLE_MS: i64 = 10_000;

/// What another node tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerClock {
    /// The offset of its wall clock.
    pub(crate) wall_ms: i64,
    /// The offset of what it takes for the agreed time; none when it does not know.
    pub(crate) agreed_ms: Option<i64>,
    /// By how much both may be wrong, for the time that the message took.
    pub(crate) error_ms: i64,
}

/// What a node sees of all clocks.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    /// The offset of its own wall clock.
    pub(crate) own_ms: i64,
    /// What others told lately.
    pub(crate) others: Vec<PeerClock>,
    /// How many nodes the cluster has, this one included.
    pub(crate) members: usize,
}

impl Sight {
    fn walls(&self) -> Vec<i64> {
        let others = self.others.iter().map(|told| told.wall_ms);
        sorted(others.chain([self.own_ms]))
    }

    fn is_majority(&self, count: usize) -> bool {
        count * 2 > self.members
    }

    /// By how much clocks that agree may seem to differ.
    fn slack_ms(&self) -> i64 {
        let errors = self.others.iter().map(|told| told.error_ms);
        TOLERANCE_MS.saturating_add(errors.max().unwrap_or(0).max(0))
    }

    /// What the clocks of a majority say, `agreed_ms` being agreed on; none without a majority.
    pub(crate) fn median_ms(&self, agreed_ms: i64) -> Option<i64> {
        let walls = self.walls();
        let (low, high) = middle(&walls)?;
        let known = self.is_majority(walls.len());
        known.then(|| agreed_ms.clamp(low, high))
    }

    /// The agreed time, `before` having been agreed on `elapsed_ms` ago; `waited_ms` after the first
    /// look. None when that is not known yet.
    pub(crate) fn agree(
        &self,
        before: Option<i64>,
        elapsed_ms: i64,
        waited_ms: i64,
    ) -> Option<i64> {
        let Some(before) = self.with_others(before) else {
            return self.first(waited_ms);
        };
        let Some(median) = self.median_ms(before) else {
            return Some(before);
        };
        let own_is_right = self.own_ms.abs_diff(median) <= TOLERANCE_MS.unsigned_abs();
        let target = if own_is_right { self.own_ms } else { median };
        let step = target.saturating_sub(before);
        let step = match step.unsigned_abs() <= TOLERANCE_MS.unsigned_abs() {
            true => step,
            false => step.clamp(-elapsed_ms.max(0) / 2, elapsed_ms.max(0)),
        };
        Some(before.saturating_add(step))
    }

    /// What this node goes on from: what it has agreed to, unless most others have another time.
    fn with_others(&self, own: Option<i64>) -> Option<i64> {
        let others = self.others.iter().filter_map(|told| told.agreed_ms);
        let all = sorted(others.chain(own));
        let (low, high) = middle(&all)?;
        Some(match own {
            None => low,
            Some(own) if !self.is_majority(all.len()) => own,
            Some(own) => {
                let near = own.clamp(low, high);
                let apart = own.abs_diff(near) > self.slack_ms().unsigned_abs();
                if apart { near } else { own }
            }
        })
    }

    /// What the clocks of a majority say that show the same.
    fn first(&self, waited_ms: i64) -> Option<i64> {
        let walls = self.walls();
        let most = self.members / 2 + 1;
        let apart_max = self.slack_ms().saturating_mul(2);
        let alike = walls
            .windows(most)
            .find(|alike| alike[most - 1].saturating_sub(alike[0]) <= apart_max);
        match alike {
            Some(alike) => Some(alike[most / 2]),
            None if waited_ms < SETTLE_MS => None,
            None => self
                .is_majority(walls.len())
                .then(|| middle(&walls))?
                .map(|(low, _)| low),
        }
    }

    /// By how much a clock is off, if it is, `agreed_ms` being agreed on; `None` as well where no
    /// majority of clocks is known.
    pub(crate) fn off_ms(&self, wall_ms: i64, error_ms: i64, agreed_ms: i64) -> Option<i64> {
        let off = wall_ms.saturating_sub(self.median_ms(agreed_ms)?);
        let most = TOLERANCE_MS.saturating_add(error_ms.max(0));
        (off.unsigned_abs() > most.unsigned_abs()).then_some(off)
    }
}

fn sorted(offsets: impl Iterator<Item = i64>) -> Vec<i64> {
    let mut offsets: Vec<i64> = offsets.collect();
    offsets.sort_unstable();
    offsets
}

/// The two in the middle, which are the same one when there is one.
fn middle(sorted: &[i64]) -> Option<(i64, i64)> {
    let low = sorted.get(sorted.len().checked_sub(1)? / 2)?;
    Some((*low, *sorted.get(sorted.len() / 2)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 86_400_000;
    const CLOCK_CHECK_MS: i64 = 200;

    /// A cluster whose clocks are set as one likes; time passes by looks.
    struct Clocks {
        walls: Vec<i64>,
        agreed: Vec<Option<i64>>,
        up: Vec<bool>,
        looks: i64,
    }

    impl Clocks {
        fn new(nodes: usize) -> Clocks {
            Clocks {
                walls: vec![0; nodes],
                agreed: vec![Some(0); nodes],
                up: vec![true; nodes],
                looks: 0,
            }
        }

        fn sight(&self, of: usize) -> Sight {
            let others = (0..self.walls.len()).filter(|other| *other != of && self.up[*other]);
            let told = |other: usize| PeerClock {
                wall_ms: self.walls[other],
                agreed_ms: self.agreed[other],
                error_ms: 10,
            };
            Sight {
                own_ms: self.walls[of],
                others: others.map(told).collect(),
                members: self.walls.len(),
            }
        }

        fn pass(&mut self, ms: i64) {
            for _ in 0..ms / CLOCK_CHECK_MS {
                self.looks += 1;
                let seen: Vec<Sight> = (0..self.walls.len()).map(|of| self.sight(of)).collect();
                for (of, sight) in seen.iter().enumerate().filter(|(of, _)| self.up[*of]) {
                    self.agreed[of] =
                        sight.agree(self.agreed[of], CLOCK_CHECK_MS, self.looks * CLOCK_CHECK_MS);
                }
            }
        }

        fn of(&self, node: usize) -> i64 {
            self.agreed[node].unwrap()
        }
    }

    #[test]
    fn a_minority_of_clocks_moves_nothing_wherever_it_leaps() {
        for by in [30 * DAY, -30 * DAY, 3_000, -3_000] {
            for (nodes, off) in [(3, 1), (9, 3), (9, 4), (5, 2)] {
                let mut clocks = Clocks::new(nodes);
                clocks.walls[..off].fill(by);
                clocks.pass(3_600_000);
                assert_eq!(
                    clocks.agreed,
                    vec![Some(0); nodes],
                    "{off} of {nodes} by {by}"
                );
                let sight = clocks.sight(0);
                assert_eq!(sight.off_ms(sight.own_ms, 0, 0), Some(by));
                let sight = clocks.sight(nodes - 1);
                assert_eq!(sight.off_ms(sight.own_ms, 0, 0), None);
            }
        }
    }

    #[test]
    fn of_two_clocks_none_is_believed_that_leaps() {
        for by in [30 * DAY, -30 * DAY] {
            let mut clocks = Clocks::new(3);
            clocks.up[2] = false;
            clocks.walls[0] = by;
            clocks.pass(3_600_000);
            assert_eq!(clocks.agreed[..2], [Some(0); 2], "{by}");
            assert_eq!(clocks.sight(0).off_ms(by, 0, 0), Some(by));
        }
    }

    #[test]
    fn when_all_clocks_leap_time_follows_slowly_and_comes_back() {
        let mut clocks = Clocks::new(3);
        clocks.walls.fill(30 * DAY);
        clocks.pass(60_000);
        assert_eq!(clocks.of(0), 60_000, "twice as fast");
        clocks.walls.fill(0);
        clocks.pass(60_000);
        assert_eq!(clocks.of(0), 30_000, "half as fast");
        clocks.pass(60_000);
        assert_eq!(clocks.of(0), 0);
        clocks.walls.fill(-30 * DAY);
        clocks.pass(60_000);
        assert_eq!(clocks.of(0), -30_000);
        // A single node has nobody to ask, and holds its clock against what passed all the same.
        let mut alone = Clocks::new(1);
        alone.walls[0] = 30 * DAY;
        alone.pass(60_000);
        assert_eq!(alone.of(0), 60_000);
    }

    #[test]
    fn what_is_off_by_less_than_the_tolerance_is_followed_at_once() {
        let mut clocks = Clocks::new(3);
        clocks.walls.fill(200);
        clocks.pass(CLOCK_CHECK_MS);
        assert_eq!(clocks.agreed, vec![Some(200); 3]);
        clocks.walls[1] = 0;
        clocks.pass(CLOCK_CHECK_MS);
        assert_eq!(clocks.agreed, [Some(200), Some(0), Some(200)]);
    }

    #[test]
    fn who_has_started_takes_over_what_others_agree_on_and_all_together_what_most_clocks_say() {
        let mut clocks = Clocks::new(3);
        clocks.walls.fill(30 * DAY);
        clocks.agreed[0] = None;
        clocks.pass(CLOCK_CHECK_MS);
        assert!(
            clocks.of(0) <= CLOCK_CHECK_MS,
            "not by its clock, though all show it"
        );
        // All were off for days, and one clock has stood still meanwhile.
        for still in 0..3 {
            let mut clocks = Clocks::new(3);
            clocks.agreed.fill(None);
            clocks.walls.fill(5 * DAY);
            clocks.walls[still] = 0;
            // Its clock and one more are all that is known at first.
            clocks.up[(still + 1) % 3] = false;
            clocks.pass(2_000);
            assert_eq!(clocks.agreed[still], None);
            clocks.up[(still + 1) % 3] = true;
            clocks.pass(2_000);
            assert_eq!(clocks.agreed, vec![Some(5 * DAY); 3], "{still}");
        }
        let mut apart = Clocks::new(3);
        apart.agreed.fill(None);
        apart.walls = vec![-DAY, 0, DAY];
        apart.pass(SETTLE_MS - CLOCK_CHECK_MS);
        assert_eq!(apart.agreed, vec![None; 3]);
        apart.pass(2 * CLOCK_CHECK_MS);
        assert_eq!(apart.of(2), 0, "the median must do");
    }

    #[test]
    fn one_whose_time_stood_still_follows_the_others_at_once() {
        let mut clocks = Clocks::new(3);
        clocks.agreed[1] = Some(-3_600_000);
        clocks.pass(CLOCK_CHECK_MS);
        assert_eq!(clocks.agreed, vec![Some(0); 3]);
    }

    fn any_offset() -> impl Strategy<Value = i64> {
        prop_oneof![
            3 => -300..300i64,
            1 => -31 * DAY..31 * DAY,
            1 => Just(i64::MAX / 2),
            1 => Just(i64::MIN / 2),
        ]
    }

    proptest! {
        #[test]
        fn agreed_time_never_runs_faster_than_twice_nor_slower_than_half(
            own_ms in any_offset(),
            walls in prop::collection::vec(any_offset(), 0..8),
            before in any_offset(),
            members in 1..9usize,
            elapsed_ms in 0..60_000i64,
        ) {
            let told = |wall_ms| PeerClock { wall_ms, agreed_ms: Some(before), error_ms: 5 };
            let others = walls.into_iter().map(told).collect();
            let sight = Sight { own_ms, others, members };
            let agreed = sight.agree(Some(before), elapsed_ms, 0).unwrap();
            let step = agreed - before;
            prop_assert!(step <= elapsed_ms.max(TOLERANCE_MS), "{step}");
            prop_assert!(step >= -(elapsed_ms / 2).max(TOLERANCE_MS), "{step}");
        }

        #[test]
        fn it_is_drawn_towards_the_median_and_never_past_it(
            own_ms in any_offset(),
            walls in prop::collection::vec(any_offset(), 0..8),
            before in any_offset(),
            elapsed_ms in 0..60_000i64,
        ) {
            let told = |wall_ms| PeerClock { wall_ms, agreed_ms: None, error_ms: 5 };
            let others: Vec<PeerClock> = walls.into_iter().map(told).collect();
            let members = others.len() + 1;
            let sight = Sight { own_ms, others, members };
            let median = sight.median_ms(before).unwrap();
            let agreed = sight.agree(Some(before), elapsed_ms, 0).unwrap();
            let (was, is) = (before.abs_diff(median), agreed.abs_diff(median));
            prop_assert!(is <= was.max(TOLERANCE_MS.unsigned_abs()), "{was} then {is}");
        }

        #[test]
        fn most_clocks_being_right_it_is_right_whatever_the_others_say(
            nodes in 1..10usize,
            wrong in prop::collection::vec(any_offset(), 0..10),
            down in 0..10usize,
            rounds in 1..50i64,
        ) {
            let mut clocks = Clocks::new(nodes);
            let off = wrong.len().min((nodes - 1) / 2);
            clocks.walls[..off].copy_from_slice(&wrong[..off]);
            if down < nodes {
                clocks.up[down] = false;
            }
            clocks.pass(rounds * CLOCK_CHECK_MS);
            for agreed in clocks.agreed {
                prop_assert!(agreed.unwrap().abs() <= 2 * TOLERANCE_MS, "{agreed:?}");
            }
        }
    }
}
