//! Reports: what runs, sweeps, proofs and mutants came to, for people, CI jobs and machines.
//!
//! ```text
//!  Outcome ─┬─ json    machines: documented keys, see [`json`]
//!           ├─ junit   CI: a suite per run, a case per promise and goal
//!           ├─ text    the terminal
//!           └─ html    one self-contained page (lanes, [`crate::reigns`] ─► panels, load ─► chart ─► page)
//!  Sweep ───┬─ sweep_json, sweep_junit
//!           └─ index_html   scenario × promise, fault × phase
//!  Proof ──── prove_json      MutantResult ──── mutants_json
//! ```
//!
//! All of it is a pure function of its input: no clock, no file, no terminal is looked at. Every
//! text of a plan or of an outcome is escaped where it enters a page.

pub(crate) mod chart;
mod control;
pub mod coverage;
mod html;
mod index;
mod json;
mod junit;
mod lanes;
mod load;
mod matrix;
pub(crate) mod night;
pub(crate) mod page;
mod panels;
mod setup;
mod standing;
mod svg;
mod sweep_junit;
mod text;
pub(crate) mod words;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::outcome::{Outcome, Promise, Verdict};
use coverage::Covered;
use standing::{Standing, standing};

pub use html::html;
pub use index::index_html;
pub use json::{json, mutants_json, prove_json, sweep_json};
pub use junit::junit;
pub use standing::failures;
pub use sweep_junit::sweep_junit;
pub use text::text;

/// A sweep: many runs, and how to make them again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// The command that makes the sweep again.
    pub command: String,
    /// What was run, in any order.
    pub runs: Vec<SweptRun>,
    /// What was asked for and not run, by scenario.
    #[serde(default)]
    pub skipped: Vec<Skipped>,
    /// Seconds that the sweep took, over all its jobs together.
    pub wall_seconds: f64,
}

/// Runs of a scenario that were asked for and not made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// The scenario's name.
    pub scenario: String,
    /// How many runs were made.
    pub made: u64,
    /// How many were not; none where as many were asked for as there is time for, and none was made.
    pub left: Option<u64>,
    /// Why, for people.
    pub why: String,
}

/// What a sweep keeps of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweptRun {
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// How it ended.
    pub verdict: Verdict,
    /// Why it stopped before its end, when it did.
    pub stopped: Option<String>,
    /// Every promise: whether it held, none when it was not judged.
    pub promises: BTreeMap<Promise, Option<bool>>,
    /// What the run failed on, one for each promise, goal or stop; empty when it held.
    pub failures: Vec<Failure>,
    /// What waits for work to come and was missed: promises' letters and goals' names.
    pub pending: Vec<String>,
    /// The longest wait between two acknowledgements of one sender, ms.
    pub longest_gap_ms: u64,
    /// Calls that failed.
    pub failed_calls: u64,
    /// Messages acknowledged.
    pub acked: u64,
    /// The running hash of everything that happened, hex.
    pub trace_hash: String,
    /// Simulated seconds.
    pub sim_seconds: f64,
    /// Seconds that it took.
    pub wall_seconds: f64,
    /// In which phase which faults began.
    pub coverage: Vec<Covered>,
    /// Where the run's page is, as seen from the index page; none when it was not written.
    pub page: Option<String>,
    /// The command that makes the run again.
    pub command: String,
}

/// One thing that a run failed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The promise; none when the run stopped or hardly anything was acknowledged.
    pub promise: Option<Promise>,
    /// The oracle's or the goal's name, or `stopped`.
    pub oracle: String,
    /// The smallest evidence, for people.
    pub evidence: String,
}

/// What `sim prove` came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    /// The command that makes the proof again.
    pub command: String,
    /// Seeds that were run again.
    pub seeds: u64,
    /// Runs made for it.
    pub runs: u64,
    /// Where two runs of one seed differed.
    pub mismatches: Vec<Mismatch>,
    /// Seeds that were asked for and not proved, by scenario.
    #[serde(default)]
    pub skipped: Vec<Skipped>,
    /// Seconds that it took.
    pub wall_seconds: f64,
}

/// Two runs of one seed that differed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mismatch {
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// Which run differed from the first, as `alone again` or `beside others`.
    pub how: String,
    /// The first simulated second whose hashes differ; none when only the ends do.
    pub first_second: Option<u64>,
    /// The hash that the first run had there, hex.
    pub expected: String,
    /// The hash that the other had, hex.
    pub found: String,
    /// The command that makes the run again.
    pub command: String,
}

/// What became of one mutant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MutantResult {
    /// The mutant's name.
    pub name: String,
    /// The named oracle that caught it; the main one of them while none did.
    pub oracle: String,
    /// The oracles that are named for it, the main one first; no other counts.
    pub oracles: Vec<String>,
    /// The promise and the oracle that caught it.
    pub caught_by: Option<String>,
    /// By what else it showed before, and on how many seeds.
    pub broken_instead: BTreeMap<String, u64>,
    /// Seeds until that oracle caught it, the catching one included; none when it did not.
    pub seeds_needed: Option<u64>,
    /// Seeds that were tried.
    pub seeds_tried: u64,
    /// The scenario that caught it, or that was to.
    pub scenario: String,
    /// What it waits for, when it cannot be caught yet.
    pub pending: Option<String>,
    /// What the oracle said.
    pub evidence: Option<String>,
    /// The command that makes the catching run again.
    pub command: String,
    /// How long its runs took together, ms.
    pub wall_ms: u64,
}

impl Skipped {
    /// What is left of each scenario of which `each` runs were asked for (as many as there is time for
    /// when none) and `made` says how many were made.
    pub fn of<'s>(
        scenarios: impl IntoIterator<Item = &'s str>,
        each: Option<u64>,
        made: impl Fn(&str) -> u64,
        why: &str,
    ) -> Vec<Skipped> {
        let skipped = scenarios.into_iter().filter_map(|scenario| {
            let made = made(scenario);
            let left = each.map(|each| each.saturating_sub(made));
            let all = left.map_or(made > 0, |left| left == 0);
            (!all).then(|| Skipped {
                scenario: scenario.to_owned(),
                made,
                left,
                why: why.to_owned(),
            })
        });
        skipped.collect()
    }

    /// What was not made, for people.
    pub fn what(&self) -> String {
        match (self.made, self.left) {
            (_, None) => "no run was made".to_owned(),
            (0, Some(1)) => "its run was not made".to_owned(),
            (0, Some(left)) => format!("none of its {left} runs was made"),
            (made, Some(left)) => {
                format!(
                    "{left} of its {} runs were not made",
                    left.saturating_add(made)
                )
            }
        }
    }
}

impl SweptRun {
    /// What a sweep keeps of `outcome`, whose page is at `page`.
    pub fn of(outcome: &Outcome, page: Option<String>) -> SweptRun {
        let held = |promise| outcome.promises.get(&promise).and_then(|j| j.held);
        let pending_promises = Promise::ALL
            .into_iter()
            .filter(|p| held(*p) != Some(true) && standing(outcome, *p) == Standing::Pending)
            .map(|p| p.letter().to_string());
        let pending_goals = outcome.goals.iter().filter(|g| !g.held);
        let pending_goals = pending_goals.filter(|g| g.pending.is_some());
        SweptRun {
            scenario: outcome.plan.scenario.clone(),
            seed: outcome.plan.seed,
            verdict: outcome.verdict,
            stopped: outcome.stopped.clone(),
            promises: Promise::ALL.map(|p| (p, held(p))).into(),
            failures: failures(outcome),
            pending: pending_promises
                .chain(pending_goals.map(|g| g.name.clone()))
                .collect(),
            longest_gap_ms: outcome.longest_gap_ms,
            failed_calls: outcome.failed_calls,
            acked: outcome.acked,
            trace_hash: outcome.trace_hash.clone(),
            sim_seconds: outcome.sim_seconds,
            wall_seconds: outcome.wall_seconds,
            coverage: coverage::of(outcome),
            page,
            command: outcome.command(),
        }
    }
}
