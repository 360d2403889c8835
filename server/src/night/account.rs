//! Who led, how long nothing was acknowledged, and how much was sent.

use std::collections::{BTreeMap, BTreeSet};

use proto::v1::record::What;
use serde::Serialize;

use super::Night;
use super::felt::{Felt, Kind, felt};

/// Around a standstill, ms.
const AROUND_MS: u64 = 2_000;

/// A night, told.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Account {
    /// What was felt.
    pub felt: Vec<Felt>,
    /// Who led from when on, by their own word.
    pub leaders: Vec<Led>,
    /// Pauses of shards between acknowledgements of two leaders, the longest first.
    pub gaps: Vec<Gap>,
    /// The longest wait of a call that was answered.
    pub longest_wait: Option<Wait>,
    /// Calls of clients that were answered, and that failed.
    pub answered: u64,
    /// As above.
    pub failed: u64,
    /// Why they failed, of each second the last.
    pub reasons: BTreeMap<String, u64>,
    /// The load, second by second from the begin.
    pub seconds: Vec<Second>,
    /// How often a node thought another silent, reset or refused.
    pub verdicts: BTreeMap<String, u64>,
    /// Elections that ended with a leader, by their cause, and the longest of each, ms.
    pub elections: BTreeMap<String, (u64, u64)>,
    /// Hand-overs, by their cause.
    pub hand_overs: BTreeMap<String, u64>,
    /// The longest sync of a log, ms, and whose.
    pub slowest_sync: Option<(u64, u64)>,
    /// By how much tasks ran late at most, ms, and whose.
    pub latest: Option<(u64, u64)>,
}

/// Who leads a shard from a moment on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Led {
    /// Unix milliseconds; the begin of the time where it led before.
    pub at_ms: u64,
    /// The shard.
    pub shard: u32,
    /// Who.
    pub node: u64,
    /// In which term; 0 where it led before.
    pub term: u64,
}

/// A pause between the acknowledgements of two leaders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The shard.
    pub shard: u32,
    /// When the last was acknowledged, Unix milliseconds.
    pub from_ms: u64,
    /// When the next was.
    pub to_ms: u64,
    /// By whom the last was.
    pub before: u64,
    /// By whom the next was.
    pub after: u64,
    /// How long it took.
    pub ms: u64,
}

/// A call that waited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wait {
    /// How long, ms.
    pub ms: u64,
    /// Where it was asked.
    pub node: u64,
    /// For which shard.
    pub shard: u32,
    /// The end of the second in which it was answered, Unix milliseconds.
    pub at_ms: u64,
}

/// A second of the load.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Second {
    /// Answered calls, by the node that was asked.
    pub answered: BTreeMap<u64, u64>,
    /// Calls that failed.
    pub failed: u64,
    /// Of those answered: of the node where it was worst, ms.
    pub p50_ms: Option<u64>,
    /// As above.
    pub p99_ms: Option<u64>,
    /// As above.
    pub max_ms: Option<u64>,
}

/// When entries of a shard were decided on a node within one second.
struct Stretch {
    node: u64,
    from_ms: u64,
    to_ms: u64,
    gap_ms: u64,
}

impl Account {
    /// Of a night.
    pub fn of(night: &Night) -> Account {
        let mut account = Account {
            felt: felt(night),
            leaders: Vec::new(),
            gaps: Vec::new(),
            longest_wait: None,
            answered: 0,
            failed: 0,
            reasons: BTreeMap::new(),
            seconds: Vec::new(),
            verdicts: BTreeMap::new(),
            elections: BTreeMap::new(),
            hand_overs: BTreeMap::new(),
            slowest_sync: None,
            latest: None,
        };
        let length = (night.to_ms - night.from_ms).div_ceil(1_000);
        account.seconds = vec![Second::default(); usize::try_from(length).unwrap_or(0)];
        let mut stretches: BTreeMap<u32, Vec<Stretch>> = BTreeMap::new();
        for (at, node, what) in night.events() {
            account.add(night, at, node, what);
            if let What::Second(second) = what {
                for led in second.shards.iter().filter(|led| led.entries > 0) {
                    stretches.entry(led.shard).or_default().push(Stretch {
                        node,
                        from_ms: at + u64::from(led.first_ms),
                        to_ms: at + u64::from(led.last_ms),
                        gap_ms: u64::from(led.gap_ms),
                    });
                }
            }
        }
        account.before(night, &stretches);
        account.gaps = gaps(stretches);
        account
    }

    fn add(&mut self, night: &Night, at: u64, node: u64, what: &What) {
        match what {
            What::Led(led) if led.own => self.leaders.push(Led {
                at_ms: at,
                shard: led.shard,
                node,
                term: led.term,
            }),
            What::Verdict(verdict) if verdict.verdict != "up" => {
                *self.verdicts.entry(verdict.verdict.clone()).or_default() += 1;
            }
            What::Election(e) if !e.begins && e.won == node => {
                let of = self.elections.entry(e.cause.clone()).or_default();
                *of = (of.0 + 1, of.1.max(e.took_us / 1_000));
            }
            What::HandOver(h) if h.to != 0 => {
                *self.hand_overs.entry(h.cause.clone()).or_default() += 1;
            }
            What::Second(second) => self.second(night, at, node, second),
            _ => {}
        }
    }

    /// Whether a node stood still in a second: what took long then was that.
    fn stood(&self, node: u64, at: u64) -> bool {
        self.felt.iter().any(|felt| {
            let still = matches!(felt.kind, Kind::Still | Kind::Suspended);
            let to = felt.to_ms.unwrap_or(u64::MAX).saturating_add(AROUND_MS);
            let around = felt.from_ms.saturating_sub(AROUND_MS)..=to;
            still && felt.nodes.contains(&node) && around.contains(&at)
        })
    }

    fn second(&mut self, night: &Night, at: u64, node: u64, second: &proto::v1::SecondRecord) {
        let most = |known: Option<(u64, u64)>, us: u64| {
            let now = (us / 1_000, node);
            Some(known.map_or(now, |known| if now.0 > known.0 { now } else { known }))
        };
        if !self.stood(node, at) {
            self.slowest_sync = most(self.slowest_sync, second.sync_max_us);
            self.latest = most(self.latest, second.lateness_us);
        }
        let index = usize::try_from((at - night.from_ms.min(at)) / 1_000).unwrap_or(usize::MAX);
        for asked in &second.asked {
            self.answered += asked.answered;
            self.failed += asked.failed;
            if asked.failed > 0 {
                *self.reasons.entry(asked.reason.clone()).or_default() += asked.failed;
            }
            let ms = asked.max_us / 1_000;
            // Who calls a node that stands still waits for that node; its shards may be served elsewhere.
            let own = self.stood(node, at);
            let longer = self.longest_wait.as_ref().is_none_or(|known| ms > known.ms);
            if longer && !own && asked.answered > 0 {
                self.longest_wait = Some(Wait {
                    ms,
                    node,
                    shard: asked.shard,
                    at_ms: at + 1_000,
                });
            }
            let Some(of) = self.seconds.get_mut(index) else {
                continue;
            };
            of.failed += asked.failed;
            if asked.answered > 0 {
                *of.answered.entry(node).or_default() += asked.answered;
                let most = |known: Option<u64>, us: u64| known.max(Some(us / 1_000));
                of.p50_ms = most(of.p50_ms, asked.p50_us);
                of.p99_ms = most(of.p99_ms, asked.p99_us);
                of.max_ms = most(of.max_ms, asked.max_us);
            }
        }
    }

    /// Who led from the begin on: whoever decided entries first, or was replaced first.
    fn before(&mut self, night: &Night, stretches: &BTreeMap<u32, Vec<Stretch>>) {
        let mut first: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        let mut before: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for (shard, all) in stretches {
            if let Some(one) = all.first() {
                first.insert(*shard, (one.from_ms, one.node));
            }
        }
        for (at, _, what) in night.events() {
            if let What::Election(e) = what
                && e.old != 0
                && first.get(&e.shard).is_none_or(|known| at < known.0)
            {
                first.insert(e.shard, (at, e.old));
            }
        }
        for (node, what) in night.heads() {
            if let What::Led(led) = what
                && led.own
            {
                let known = before.get(&led.shard);
                if known.is_none_or(|known: &(u64, u64)| known.0 < led.term) {
                    before.insert(led.shard, (led.term, node));
                }
            }
        }
        for (shard, (_, node)) in before {
            first.entry(shard).or_insert((night.from_ms, node));
        }
        for (shard, (at, node)) in first {
            let led = self.leaders.iter().filter(|led| led.shard == shard);
            if led
                .map(|led| led.at_ms)
                .min()
                .is_none_or(|begun| begun > at)
            {
                self.leaders.push(Led {
                    at_ms: night.from_ms,
                    shard,
                    node,
                    term: 0,
                });
            }
        }
        self.leaders
            .sort_by_key(|led| (led.at_ms, led.shard, led.term));
    }

    /// Shards that somebody else led than before.
    pub fn changed(&self) -> BTreeSet<u32> {
        let mut last: BTreeMap<u32, u64> = BTreeMap::new();
        let mut changed = BTreeSet::new();
        for led in &self.leaders {
            if last
                .insert(led.shard, led.node)
                .is_some_and(|before| before != led.node)
            {
                changed.insert(led.shard);
            }
        }
        changed
    }
}

/// The pauses at changes of leaders, and those of one leader that are longer than a fifth of a second.
fn gaps(stretches: BTreeMap<u32, Vec<Stretch>>) -> Vec<Gap> {
    const OWN_MIN_MS: u64 = 200;
    let mut gaps = Vec::new();
    for (shard, mut all) in stretches {
        all.sort_by_key(|stretch| stretch.from_ms);
        // Up to where anybody has decided entries, and who. One that stood still answers what others have
        // decided long before when it goes on: that lies within.
        let mut last: Option<(u64, u64)> = None;
        for stretch in &all {
            if let Some((until, before)) = last
                && stretch.from_ms > until
                && stretch.node != before
            {
                gaps.push(Gap {
                    shard,
                    from_ms: until,
                    to_ms: stretch.from_ms,
                    before,
                    after: stretch.node,
                    ms: stretch.from_ms - until,
                });
            }
            if last.is_none_or(|(until, _)| stretch.to_ms > until) {
                last = Some((stretch.to_ms, stretch.node));
            }
        }
        let own = all.iter().filter(|stretch| stretch.gap_ms >= OWN_MIN_MS);
        gaps.extend(own.map(|stretch| Gap {
            shard,
            from_ms: stretch.from_ms,
            to_ms: stretch.to_ms,
            before: stretch.node,
            after: stretch.node,
            ms: stretch.gap_ms,
        }));
    }
    gaps.sort_by_key(|gap| std::cmp::Reverse(gap.ms));
    gaps
}

#[cfg(test)]
mod tests {
    use proto::v1::{AskedSecond, ElectionRecord, LedRecord, SecondRecord, ShardSecond};

    use super::*;
    use crate::night::tests::{START, night};

    fn second(first_ms: u32, last_ms: u32, max_us: u64, failed: u64) -> What {
        What::Second(SecondRecord {
            shards: vec![ShardSecond {
                shard: 1,
                entries: 3,
                first_ms,
                last_ms,
                ..ShardSecond::default()
            }],
            asked: vec![AskedSecond {
                shard: 1,
                answered: 10,
                failed,
                max_us,
                reason: "NO_QUORUM".to_owned(),
                ..AskedSecond::default()
            }],
            sync_max_us: 7_000,
            ..SecondRecord::default()
        })
    }

    #[test]
    fn what_a_node_answers_that_went_on_is_no_pause_of_its_shard() {
        let stood = proto::v1::StoodRecord {
            lasted_ms: 5_000,
            suspended: false,
        };
        let account = Account::of(&night(vec![
            (1, 0, second(0, 900, 5_000, 0)),
            (2, 1_000, second(400, 990, 5_000, 0)),
            (2, 5_000, second(0, 990, 5_000, 0)),
            (1, 5_500, second(100, 100, 5_000_000, 0)),
            (1, 5_550, What::Stood(stood)),
            (2, 6_000, second(10, 990, 5_000, 0)),
        ]));
        let gaps: Vec<_> = account
            .gaps
            .iter()
            .map(|g| (g.ms, g.before, g.after))
            .collect();
        assert_eq!(gaps, [(500, 1, 2)]);
        assert_eq!(account.slowest_sync, Some((7, 2)), "not of who stood still");
    }

    #[test]
    fn a_failover_has_its_gap_its_wait_and_its_leaders() {
        let led = LedRecord {
            shard: 1,
            term: 5,
            leader: 2,
            own: true,
        };
        let election = ElectionRecord {
            shard: 1,
            old: 1,
            cause: "silent".to_owned(),
            took_us: 80_000,
            won: 2,
            ..ElectionRecord::default()
        };
        let account = Account::of(&night(vec![
            (1, 0, second(10, 990, 5_000, 0)),
            (1, 1_000, second(0, 400, 6_000, 0)),
            (2, 1_780, What::Led(led)),
            (2, 1_790, What::Election(election)),
            (2, 1_500, second(350, 900, 460_000, 2)),
        ]));
        let gap = &account.gaps[0];
        assert_eq!((gap.ms, gap.before, gap.after), (450, 1, 2));
        assert_eq!(gap.from_ms, START + 1_400);
        assert_eq!(account.longest_wait.as_ref().map(|wait| wait.ms), Some(460));
        assert_eq!((account.answered, account.failed), (30, 2));
        assert_eq!(account.reasons["NO_QUORUM"], 2);
        let led: Vec<_> = account
            .leaders
            .iter()
            .map(|l| (l.at_ms - START, l.node))
            .collect();
        assert_eq!(led, [(0, 1), (1_780, 2)]);
        assert_eq!(account.changed(), [1].into());
        assert_eq!(account.elections["silent"], (1, 80));
        assert_eq!(account.slowest_sync, Some((7, 1)));
        assert_eq!(
            account.seconds[1].answered,
            BTreeMap::from([(1, 10), (2, 10)])
        );
    }
}
