//! How a drill ended: the promises, held against the ledger, and the goals.

use std::time::Duration;

use firebreak::ledger::Faults;
use server::drill::paper::{End, Measured, Oracle};

use super::canary::Stale;
use super::healing::Healing;
use crate::canary::who::Who;

/// A shard with a quorum serves within this after a heal: promise P.
const SERVES: Duration = Duration::from_secs(10);

/// What promises are held against.
pub struct DrillEvidence<'a> {
    /// What reads and tails showed wrongly.
    pub stale: &'a Stale,
    /// What was read back; none when that could not be.
    pub faults: Option<&'a Faults>,
    /// Conversations whose replicas were compared, or why not.
    pub alike: &'a Result<u64, String>,
    /// The goal on waits.
    pub gap_goal: Option<u64>,
    /// Shards and terms with a leader, and one with two; none without recorders.
    pub terms: Option<(u64, Option<String>)>,
    /// How long it took after the last heal until every shard was led.
    pub healing: Healing,
    /// Answers of nodes that the plan leaves alone, and how many came too late.
    pub asked: (u64, u64),
}

/// Each promise that a drill can tell of.
pub fn oracles(measured: &Measured, seen: &DrillEvidence<'_>) -> Vec<Oracle> {
    let mut all = by_ledger(measured, seen);
    all.extend(by_nodes(seen));
    all
}

fn oracle(promise: &str, held: Option<bool>, checked: u64, text: String) -> Oracle {
    Oracle {
        promise: promise.to_owned(),
        held,
        checked,
        text,
    }
}

/// Those that the canaries' ledger tells of.
fn by_ledger(measured: &Measured, seen: &DrillEvidence<'_>) -> Vec<Oracle> {
    let (stale, faults, gap_goal) = (seen.stale, seen.faults, seen.gap_goal);
    let sends: u64 = measured
        .clients
        .iter()
        .filter(|one| Who::of(&one.client).sends())
        .map(|one| one.calls)
        .sum();
    let reads = measured.calls - sends.min(measured.calls);
    let none = |count: u64, what: &str| format!("{count} {what}");
    let of = |count: fn(&Faults) -> u64| faults.map(count);
    let told = |count: Option<u64>, what: &str| {
        count.map_or_else(
            || "could not be read back".to_owned(),
            |count| none(count, what),
        )
    };
    let lost = of(|faults| faults.lost);
    let reordered = of(|faults| faults.reordered);
    let twice = of(|faults| faults.duplicated);
    let served = measured.failed == 0 && gap_goal.is_none_or(|goal| measured.gap_ms <= goal);
    vec![
        oracle(
            "D",
            lost.map(|n| n == 0),
            sends,
            told(lost, "acknowledged messages are lost"),
        ),
        oracle(
            "O",
            reordered.map(|n| n == 0),
            sends,
            told(reordered, "are out of order"),
        ),
        oracle(
            "E",
            twice.map(|n| n == 0),
            sends,
            told(twice, "are there more often than sent"),
        ),
        oracle(
            "L",
            Some(stale.linearizable == 0),
            reads,
            none(
                stale.linearizable,
                "reads at LINEARIZABLE missed what was acknowledged before",
            ),
        ),
        oracle(
            "S",
            Some(stale.others == 0),
            reads,
            none(
                stale.others,
                "reads and tails showed less than their level promises",
            ),
        ),
        oracle(
            "G",
            Some(served),
            measured.calls,
            format!(
                "{} calls failed, the longest wait was {} ms",
                measured.failed, measured.gap_ms
            ),
        ),
    ]
}

/// Those that the nodes themselves tell of.
fn by_nodes(seen: &DrillEvidence<'_>) -> Vec<Oracle> {
    let u = match &seen.terms {
        None | Some((0, None)) => oracle("U", None, 0, "no election was recorded".to_owned()),
        Some((checked, None)) => {
            let text = "no shard had two leaders in one term".to_owned();
            oracle("U", Some(true), *checked, text)
        }
        Some((checked, Some(two))) => oracle("U", Some(false), *checked, two.clone()),
    };
    let h = match seen.alike {
        Ok(0) => oracle("H", None, 0, "no replica was compared".to_owned()),
        Ok(checked) => oracle("H", Some(true), *checked, "replicas are alike".to_owned()),
        Err(why) if why.contains("differs") => oracle("H", Some(false), 1, why.clone()),
        Err(why) => oracle("H", None, 0, why.clone()),
    };
    let p = match seen.healing.took() {
        None => oracle("P", None, 0, "nothing had to heal".to_owned()),
        Some(None) => {
            let text = "not every shard was led again".to_owned();
            oracle("P", Some(false), 1, text)
        }
        Some(Some(took)) => {
            let ms = took.as_millis();
            let text = format!("every shard is led {ms} ms after the last fault ended, at most");
            oracle("P", Some(took <= SERVES), 1, text)
        }
    };
    // One that goes on being silent ends the drill as a real fault.
    let (answered, late) = seen.asked;
    let a = match answered {
        0 => oracle(
            "A",
            None,
            0,
            "every node was at one time in the plan".to_owned(),
        ),
        _ => {
            let text = format!(
                "nodes that were left alone answered operators {answered} times; {late} answers were late"
            );
            oracle("A", Some(true), answered, text)
        }
    };
    vec![u, h, p, a]
}

/// Whether a broken promise is one of safety: the others are goals that were missed.
fn is_safety(promise: &str) -> bool {
    !matches!(promise, "G" | "P" | "A")
}

/// What the end hangs on.
pub struct Verdict {
    /// Why it ended early.
    pub aborted: Option<String>,
    /// Whether what was sent could be read back.
    pub read: Result<(), String>,
    /// A sender that was hardly served.
    pub cold: Option<String>,
    /// Whether the cluster was whole again in time.
    pub whole: Result<(), String>,
    /// Whether nobody watched for a while.
    pub unwatched: bool,
}

impl Verdict {
    /// How it ended, and why.
    pub fn end(
        &self,
        measured: &Measured,
        oracles: &[Oracle],
        plan: &server::drill::plan::DrillPlan,
    ) -> (End, String) {
        let broken = oracles
            .iter()
            .find(|one| one.held == Some(false) && is_safety(&one.promise));
        if let Some(one) = broken {
            return (
                End::Broken,
                format!("promise {}: {}", one.promise, one.text),
            );
        }
        if let Some(why) = &self.aborted {
            return (End::Aborted, why.clone());
        }
        if let Err(why) = &self.read {
            return (
                End::Inconclusive,
                format!("what was sent could not be read back: {why}"),
            );
        }
        if let Some(who) = &self.cold {
            return (End::Inconclusive, format!("{who} was hardly served"));
        }
        if self.unwatched {
            let why = "another controller took over, and nobody watched meanwhile";
            return (End::Inconclusive, why.to_owned());
        }
        let goals = plan.goals;
        let gap = goals.gap_ms.filter(|goal| measured.gap_ms > *goal);
        if measured.failed > goals.failed {
            let why = format!(
                "{} calls failed where {} may",
                measured.failed, goals.failed
            );
            return (End::Missed, why);
        }
        if let Some(goal) = gap {
            let why = format!(
                "{} waited {} ms, the goal is {goal} ms",
                measured.gap_whose, measured.gap_ms
            );
            return (End::Missed, why);
        }
        if let Err(why) = &self.whole {
            return (End::Missed, why.clone());
        }
        let late = oracles
            .iter()
            .find(|one| one.promise == "P" && one.held == Some(false));
        if let Some(one) = late {
            return (End::Missed, one.text.clone());
        }
        let why = format!(
            "every goal was met: {} failed calls, the longest wait {} ms",
            measured.failed, measured.gap_ms
        );
        (End::Passed, why)
    }
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::run::tests_plan;
    use server::drill::plan::Goals;

    fn verdict() -> Verdict {
        Verdict {
            aborted: None,
            read: Ok(()),
            cold: None,
            whole: Ok(()),
            unwatched: false,
        }
    }

    #[track_caller]
    fn check(verdict: &Verdict, measured: &Measured, faults: &Faults, expect: End) {
        let plan = server::drill::plan::DrillPlan {
            goals: Goals {
                failed: 0,
                gap_ms: Some(1_500),
            },
            ..tests_plan()
        };
        let seen = DrillEvidence {
            stale: &Stale::default(),
            faults: Some(faults),
            alike: &Ok(9),
            gap_goal: Some(1_500),
            terms: Some((3, None)),
            healing: Healing::default(),
            asked: (5, 0),
        };
        let all = oracles(measured, &seen);
        let (end, why) = verdict.end(measured, &all, &plan);
        assert_eq!(end, expect, "{why}");
    }

    #[test]
    fn the_end_is_the_worst_that_is_true() {
        let (fine, none) = (Measured::default(), Faults::default());
        let lost = Faults {
            lost: 1,
            ..Faults::default()
        };
        let slow = Measured {
            gap_ms: 1_501,
            ..Measured::default()
        };
        let failed = Measured {
            failed: 1,
            ..Measured::default()
        };
        check(&verdict(), &fine, &none, End::Passed);
        check(&verdict(), &slow, &none, End::Missed);
        check(&verdict(), &failed, &none, End::Missed);
        check(&verdict(), &fine, &lost, End::Broken);
        let aborted = Verdict {
            aborted: Some("a cap".into()),
            ..verdict()
        };
        check(&aborted, &slow, &none, End::Aborted);
        check(&aborted, &slow, &lost, End::Broken);
        let unread = Verdict {
            read: Err("no quorum".into()),
            ..verdict()
        };
        check(&unread, &fine, &none, End::Inconclusive);
        let unwatched = Verdict {
            unwatched: true,
            ..verdict()
        };
        check(&unwatched, &fine, &none, End::Inconclusive);
    }

    #[test]
    fn two_leaders_are_a_broken_promise_and_a_shard_that_is_not_led_is_a_missed_goal() {
        let mut healing = Healing::default();
        healing.healed();
        let end = |terms, healing| {
            let seen = DrillEvidence {
                stale: &Stale::default(),
                faults: Some(&Faults::default()),
                alike: &Ok(9),
                gap_goal: None,
                terms: Some(terms),
                healing,
                asked: (0, 0),
            };
            let measured = Measured::default();
            let all = oracles(&measured, &seen);
            let none = all.iter().find(|one| one.promise == "A").unwrap();
            assert_eq!(none.held, None, "nobody was asked");
            verdict().end(&measured, &all, &tests_plan()).0
        };
        let two = (2, Some("two".to_owned()));
        assert_eq!(end(two, Healing::default()), End::Broken);
        assert_eq!(end((2, None), healing), End::Missed);
        healing.led();
        assert_eq!(end((2, None), healing), End::Passed);
    }
}
