//! The layout of a scenario that must visibly fail: when it does not, the scenario shows nothing.

use firebreak_sim::outcome::Goal;
use firebreak_sim::{Outcome, Verdict};

use super::worker::Done;

/// Attaches the control layout's run to ours, which fails unless the other did.
pub(crate) fn attach(ours: &mut Outcome, control: Done) {
    let measured = match (control.lost, control.outcome.verdict) {
        (true, _) => "did not end",
        (false, Verdict::Held) => "held",
        (false, Verdict::GoalMissed) => "goal missed",
        (false, Verdict::Broken) => "broken",
    };
    let visibly_failed = !control.lost && control.outcome.verdict != Verdict::Held;
    ours.goals.push(Goal {
        name: "control".to_owned(),
        limit: "must visibly fail".to_owned(),
        measured: measured.to_owned(),
        held: visibly_failed,
        pending: None,
    });
    if !visibly_failed {
        ours.verdict = ours.verdict.max(Verdict::GoalMissed);
    }
    ours.control = Some(Box::new(control.outcome));
}
