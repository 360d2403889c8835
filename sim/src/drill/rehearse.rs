//! What the runs of a drill say, as `server::drill::rehearsal` has it.

use std::fmt::Write as _;

use server::drill::rehearsal::{Rehearsal, Seeds, Spread, Twin};

use crate::outcome::{Outcome, Promise, Verdict};

/// Seeds of which there is a note, the worst first.
const NOTES_MAX: usize = 5;

/// What several runs gave.
pub fn seeds(made: &[&Outcome]) -> Seeds {
    let spread = |of: &dyn Fn(&Outcome) -> u64| {
        // Whole numbers far below 2^52.
        Spread::of(made.iter().map(|outcome| of(outcome) as f64).collect())
    };
    Seeds {
        ran: made.len() as u64,
        broken: made.iter().filter(|outcome| broken(outcome)).count() as u64,
        unsettled: made.iter().filter(|outcome| unsettled(outcome)).count() as u64,
        gap_ms: spread(&|outcome| outcome.longest_gap_ms),
        failed: spread(&|outcome| outcome.failed_calls),
        moves: spread(&|outcome| outcome.moves),
        notes: notes(made),
    }
}

/// Whether a promise of safety broke.
pub fn broken(outcome: &Outcome) -> bool {
    outcome.verdict == Verdict::Broken
}

/// Whether it did not come to rest, or did not serve again in time.
pub fn unsettled(outcome: &Outcome) -> bool {
    let progress = outcome.promises.get(&Promise::P);
    outcome.stopped.is_some() || progress.is_some_and(|judged| judged.held == Some(false))
}

/// The worst runs: what broke first, then the longest gaps.
fn notes(made: &[&Outcome]) -> Vec<String> {
    let mut order: Vec<&&Outcome> = made.iter().collect();
    order.sort_by_key(|outcome| {
        let calm = (!broken(outcome), !unsettled(outcome));
        (
            calm,
            std::cmp::Reverse((outcome.failed_calls, outcome.longest_gap_ms)),
        )
    });
    let notes = order.into_iter().take(NOTES_MAX);
    notes.map(|outcome| note(outcome)).collect()
}

/// A run in a sentence.
fn note(outcome: &Outcome) -> String {
    let (from, to) = outcome.longest_gap_at_ms;
    let seconds = |ms: u64| ms as f64 / 1_000.0;
    let mut text = format!(
        "seed {}: longest gap {} ms, from {:.1} to {:.1} s; {} calls failed",
        outcome.plan.seed,
        outcome.longest_gap_ms,
        seconds(from),
        seconds(to),
        outcome.failed_calls
    );
    for (promise, judged) in &outcome.promises {
        let told = judged.broken.first();
        let asked = outcome.plan.expect.promises.contains(promise.letter());
        if let Some(broken) = told.filter(|_| asked) {
            // Writing to a String cannot fail.
            let _ = write!(text, "; {} broke: {}", promise.letter(), broken.evidence);
        }
    }
    if let Some(why) = &outcome.stopped {
        let _ = write!(text, "; stopped: {why}");
    }
    text
}

/// What one building would have cost.
pub fn twin(outcome: &Outcome) -> Twin {
    let story = match (&outcome.stopped, outcome.lost, outcome.failed_calls) {
        (Some(why), ..) => format!("In one building the cluster does not come back: {why}."),
        (None, 0, 0) => format!(
            "In one building everything waits {} s, and no call fails.",
            outcome.longest_gap_ms / 1_000
        ),
        (None, lost, failed) => format!(
            "In one building nothing is served for {} s: {failed} calls fail and {lost} acknowledged \
             messages are lost.",
            outcome.longest_gap_ms / 1_000
        ),
    };
    Twin {
        gap_ms: outcome.longest_gap_ms,
        failed: outcome.failed_calls,
        lost: outcome.lost,
        story,
    }
}

/// Whether the rehearsal says that the plan's goals would be missed, and which.
pub fn missed(rehearsal: &Rehearsal, plan: &server::drill::plan::DrillPlan) -> Vec<String> {
    let calm = &rehearsal.calm;
    let mut missed = Vec::new();
    let goals = plan.goals;
    if let Some(most) = goals.gap_ms
        && calm.gap_ms.p99 > most as f64
    {
        missed.push(format!(
            "a gap of {} ms, where {most} ms is the goal",
            calm.gap_ms.p99
        ));
    }
    if calm.failed.p99 > goals.failed as f64 {
        missed.push(format!(
            "{} failed calls, where {} is the goal",
            calm.failed.p99, goals.failed
        ));
    }
    missed
}
