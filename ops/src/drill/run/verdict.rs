//! How a drill ended: the promises, held against the ledger, and the goals.

use firebreak::ledger::Faults;
use server::drill::paper::{End, Measured, Oracle};

use super::canary::Stale;
use crate::canary::who::Who;

/// Each promise that a drill can tell of.
pub fn oracles(
    measured: &Measured,
    stale: &Stale,
    faults: Option<&Faults>,
    alike: &Result<u64, String>,
    gap_goal: Option<u64>,
) -> Vec<Oracle> {
    let sends: u64 = measured
        .clients
        .iter()
        .filter(|one| Who::of(&one.client).sends())
        .map(|one| one.calls)
        .sum();
    let reads = measured.calls - sends.min(measured.calls);
    let oracle = |promise: &str, held: Option<bool>, checked: u64, text: String| Oracle {
        promise: promise.to_owned(),
        held,
        checked,
        text,
    };
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
        match alike {
            Ok(0) => oracle("H", None, 0, "no replica was compared".to_owned()),
            Ok(checked) => oracle("H", Some(true), *checked, "replicas are alike".to_owned()),
            Err(why) if why.contains("differs") => oracle("H", Some(false), 1, why.clone()),
            Err(why) => oracle("H", None, 0, why.clone()),
        },
    ]
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
        plan: &server::drill::plan::Plan,
    ) -> (End, String) {
        let broken = oracles
            .iter()
            .find(|one| one.held == Some(false) && one.promise != "G");
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
        let plan = server::drill::plan::Plan {
            goals: Goals {
                failed: 0,
                gap_ms: Some(1_500),
            },
            ..tests_plan()
        };
        let all = oracles(
            measured,
            &Stale::default(),
            Some(faults),
            &Ok(9),
            Some(1_500),
        );
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
}
