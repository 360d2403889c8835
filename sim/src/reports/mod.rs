//! Reports: what runs, sweeps, proofs and mutants came to, for people, CI jobs and machines.
//!
//! ```text
//!  Outcome ─┬─ json    machines: documented keys, see [`json`]
//!           ├─ junit   CI: a suite per run, a case per promise and goal
//!           ├─ text    the terminal
//!           └─ html    one self-contained page (lanes ─► svg ─► html)
//!  Sweep ───┬─ sweep_json
//!           └─ index_html   scenario × promise, fault × phase
//!  Proof ──── prove_json      MutantResult ──── mutants_json
//! ```
//!
//! All of it is a pure function of its input: no clock, no file, no terminal is looked at. Every
//! text of a plan or of an outcome is escaped where it enters a page ([`escape`]).

pub mod coverage;
mod html;
mod index;
mod json;
mod junit;
pub mod lanes;
mod panels;
mod svg;
mod text;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::outcome::{Broken, Goal, Outcome, Promise, Verdict};
use coverage::Covered;

pub use html::html;
pub use index::index_html;
pub use json::{json, mutants_json, prove_json, sweep_json};
pub use junit::junit;
pub use text::text;

/// A sweep: many runs, and how to make them again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// The command that makes the sweep again.
    pub command: String,
    /// What was run, in any order.
    pub runs: Vec<SweptRun>,
    /// Seconds that the sweep took, over all its jobs together.
    pub wall_seconds: f64,
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
    /// The oracle that must catch it.
    pub oracle: String,
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
    for promise in Promise::ALL {
        if standing(outcome, promise) != Standing::Failed {
            continue;
        }
        let first = evidence(outcome, promise).first();
        failures.push(Failure {
            promise: Some(promise),
            oracle: first.map_or_else(String::new, |b| b.oracle.clone()),
            evidence: first.map_or_else(String::new, |b| b.evidence.clone()),
        });
    }
    for goal in &outcome.goals {
        let promise = promise_of(&goal.name);
        let told = promise.is_some() && failures.iter().any(|f| f.promise == promise);
        if goal_standing(goal) == Standing::Failed && !told {
            failures.push(Failure {
                promise,
                oracle: goal.name.clone(),
                evidence: format!("{}, {} asked for", goal.measured, goal.limit),
            });
        }
    }
    failures
}

/// The promise that a goal's number belongs to.
fn promise_of(goal: &str) -> Option<Promise> {
    match goal {
        "gap" | "failed-calls" => Some(Promise::G),
        "recovery" => Some(Promise::P),
        _ => None,
    }
}

/// One line that says how a run ended and why.
pub(crate) fn headline(outcome: &Outcome) -> String {
    let failures = failures(outcome);
    let list = |failures: &[Failure]| {
        let words = failures.iter().map(|failure| match failure.promise {
            Some(promise) => format!("{} {}", promise.letter(), promise.word()),
            None => failure.oracle.clone(),
        });
        words.collect::<Vec<_>>().join(", ")
    };
    match (&outcome.stopped, outcome.verdict) {
        (Some(why), _) => format!("stopped before its end: {why}"),
        (None, Verdict::Broken) => format!("a promise was broken: {}", list(&failures)),
        (None, Verdict::GoalMissed) => format!("a goal was missed: {}", list(&failures)),
        (None, Verdict::Held) => {
            let held = Promise::ALL.into_iter();
            let held = held.filter(|p| standing(outcome, *p) == Standing::Held);
            let held: Vec<String> = held.map(|p| p.letter().to_string()).collect();
            match held.is_empty() {
                true => "nothing was broken, and no promise was judged".to_owned(),
                false => format!("every promise judged here held: {}", held.join(" ")),
            }
        }
    }
}

/// `text` for XML and HTML, in elements and in quoted attributes. What XML 1.0 cannot hold becomes
/// U+FFFD.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\t' | '\n' | '\r' => escaped.push(c),
            '\0'..' ' | '\u{7f}'..'\u{a0}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            _ => escaped.push(c),
        }
    }
    escaped
}

/// A whole number with a comma between thousands.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A span of time as people say it: `412 ms`, `1.25 s`, `18.4 s`, `3 min 05 s`.
pub(crate) fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..10_000 => format!("{}.{:02} s", ms / 1_000, ms % 1_000 / 10),
        10_000..120_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} min {:02} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

/// A moment after the load began: `20.41 s`, `3:05.2`.
pub(crate) fn moment(ms: u64) -> String {
    match ms {
        0..120_000 => format!("{}.{:02} s", ms / 1_000, ms % 1_000 / 10),
        _ => format!(
            "{}:{:02}.{}",
            ms / 60_000,
            ms % 60_000 / 1_000,
            ms % 1_000 / 100
        ),
    }
}
