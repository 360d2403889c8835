//! How promises and goals stand, and what a run failed on: told once, for every report.

use super::Failure;
use crate::outcome::{Broken, Goal, Outcome, Promise, Verdict};

/// How a promise stands in a run, as every report shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It held.
    Held,
    /// It did not, and had to.
    Failed,
    /// It did not, but this scenario does not ask for it.
    Tolerated,
    /// It waits for work to come.
    Pending,
    /// This run did not judge it.
    NotJudged,
}

impl Standing {
    /// The sign for it.
    pub(crate) fn sign(self) -> &'static str {
        match self {
            Standing::Held => "✓",
            Standing::Failed => "✗",
            Standing::Tolerated => "○",
            Standing::Pending => "…",
            Standing::NotJudged => "–",
        }
    }

    /// A word for it, which is a CSS class too.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Standing::Held => "held",
            Standing::Failed => "failed",
            Standing::Tolerated => "tolerated",
            Standing::Pending => "pending",
            Standing::NotJudged => "unjudged",
        }
    }

    /// What people read.
    pub(crate) fn label(self, promise: Promise) -> &'static str {
        match self {
            Standing::Held => "held",
            Standing::Failed if promise.safety() => "broken",
            Standing::Failed => "missed",
            Standing::Tolerated => "not kept, not asked for",
            Standing::Pending => "pending",
            Standing::NotJudged => "not judged",
        }
    }
}

/// How `promise` stands in `outcome`.
pub(crate) fn standing(outcome: &Outcome, promise: Promise) -> Standing {
    let Some(judged) = outcome.promises.get(&promise) else {
        return Standing::NotJudged;
    };
    let asked = outcome.plan.expect.promises.contains(promise.letter());
    // A run that was called broken must show what broke it, asked for or not.
    let blamed = promise.safety() && outcome.verdict == Verdict::Broken;
    match (judged.held, &judged.pending) {
        (Some(true), _) => Standing::Held,
        (Some(false) | None, Some(_)) => Standing::Pending,
        (Some(false), None) if asked || blamed => Standing::Failed,
        (Some(false), None) => Standing::Tolerated,
        (None, None) => Standing::NotJudged,
    }
}

/// How a goal stands.
pub(crate) fn goal_standing(goal: &Goal) -> Standing {
    match (goal.held, &goal.pending) {
        (true, _) => Standing::Held,
        (false, Some(_)) => Standing::Pending,
        (false, None) => Standing::Failed,
    }
}

/// What a promise's evidence is.
pub(crate) fn evidence(outcome: &Outcome, promise: Promise) -> &[Broken] {
    let judged = outcome.promises.get(&promise);
    judged.map_or(&[], |judged| &judged.broken)
}

/// Everything that `outcome` failed on: its stop, each failed promise once, each missed goal whose
/// promise is not told yet.
pub fn failures(outcome: &Outcome) -> Vec<Failure> {
    let mut failures: Vec<Failure> = Vec::new();
    if let Some(why) = &outcome.stopped {
        failures.push(Failure {
            promise: None,
            oracle: "stopped".to_owned(),
            evidence: why.clone(),
        });
    }
    let mut unproved: Vec<Promise> = Vec::new();
    for promise in Promise::ALL {
        if standing(outcome, promise) != Standing::Failed {
            continue;
        }
        let Some(first) = evidence(outcome, promise).first() else {
            unproved.push(promise);
            continue;
        };
        failures.push(Failure {
            promise: Some(promise),
            oracle: first.oracle.clone(),
            evidence: first.evidence.clone(),
        });
    }
    for goal in &outcome.goals {
        let promise = goal.promise();
        let told = promise.is_some() && failures.iter().any(|f| f.promise == promise);
        if goal_standing(goal) == Standing::Failed && !told {
            failures.push(Failure {
                promise,
                oracle: goal.name.clone(),
                evidence: format!("{}, {} asked for", goal.measured, goal.limit),
            });
        }
    }
    // A promise that failed without a word of evidence, of its own or of a goal.
    unproved.retain(|promise| failures.iter().all(|f| f.promise != Some(*promise)));
    failures.extend(unproved.into_iter().map(|promise| Failure {
        promise: Some(promise),
        oracle: String::new(),
        evidence: String::new(),
    }));
    failures.sort_by_key(|failure| failure.promise);
    failures
}

/// One line that says how a run ended and why.
pub(crate) fn headline(outcome: &Outcome) -> String {
    let with = |wanted: Standing| {
        let promises = Promise::ALL.into_iter();
        promises.filter(move |p| standing(outcome, *p) == wanted)
    };
    let failed = with(Standing::Failed).map(|p| format!("{} {}", p.letter(), p.word()));
    let failed = failed.collect::<Vec<_>>().join(", ");
    let missed = outcome
        .goals
        .iter()
        .filter(|g| goal_standing(g) == Standing::Failed);
    let missed = missed.map(|g| format!("{} {} (asked for: {})", g.name, g.measured, g.limit));
    let missed = missed.collect::<Vec<_>>().join(", ");
    let why = match (failed.is_empty(), missed.is_empty()) {
        (false, false) => format!("not kept: {failed}; missed: {missed}"),
        (false, true) => format!("not kept: {failed}"),
        (true, false) => format!("missed: {missed}"),
        (true, true) => String::new(),
    };
    match (&outcome.stopped, outcome.verdict) {
        (Some(stopped), _) if why.is_empty() => format!("before its end: {stopped}"),
        (Some(stopped), _) => format!("before its end: {stopped}; {why}"),
        (None, Verdict::Broken | Verdict::GoalMissed) if why.is_empty() => {
            "for no reason told".to_owned()
        }
        (None, Verdict::Broken | Verdict::GoalMissed) => why,
        (None, Verdict::Held) => {
            let held = with(Standing::Held).map(|p| p.letter().to_string());
            let held = held.collect::<Vec<_>>().join(" ");
            let pending = with(Standing::Pending).map(|p| p.letter().to_string());
            let pending = pending.collect::<Vec<_>>().join(" ");
            match (held.is_empty(), pending.is_empty()) {
                (true, _) => "nothing was seen broken, and no promise was judged".to_owned(),
                (false, true) => format!("every promise judged here: {held}"),
                (false, false) => format!("every promise judged here: {held}; pending: {pending}"),
            }
        }
    }
}
