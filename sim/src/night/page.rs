//! Pages of a recorded night: its lanes, and below them those of a run.

use super::compare::Compared;
use crate::outcome::Outcome;
use crate::reports::night;

/// The page of what was recorded. `title` is its time, `facts` are lines for people.
pub fn show(title: &str, recorded: &Outcome, facts: &[String]) -> String {
    night::page(title, &[("What was recorded", recorded)], None, facts)
}

/// The page of what was recorded and what a run made of it.
pub fn replay(title: &str, recorded: &Outcome, run: &Outcome, compared: &Compared) -> String {
    let charts = [("Recorded", recorded), ("Simulated", run)];
    let facts = &compared.not_explained;
    night::page(title, &charts, Some(compared), facts)
}
