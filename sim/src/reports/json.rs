//! The machine's reports. Keys stay: what reads them is written elsewhere.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Failure, MutantResult, Proof, Skipped, Sweep, SweptRun, coverage};
use crate::outcome::{Broken, Goal, Led, Mark, Outcome, Promise, Second, Verdict};

/// A run, as `sim run --json` writes it.
///
/// | key | |
/// |---|---|
/// | `scenario`, `seed`, `tier`, `disk` | what was run |
/// | `verdict`, `exit_code` | `held` 0, `goal-missed` 1, `broken` 3 |
/// | `stopped` | why it stopped before its end, or null |
/// | `promises` | `D` `O` `E` `L` `S` `U` `H` `G` `P` `A`: true, false, or null when not judged |
/// | `longest_gap_ms`, `longest_gap_at_ms` | the worst sender's longest wait; its begin and end |
/// | `failed_calls`, `failed` | how many; a few of them, for people |
/// | `recovery_ms` | from the last heal until every shard served, or null |
/// | `lost`, `rto_ms` | recovery point in acknowledged messages; recovery time, or null |
/// | `acked`, `reads`, `tailed`, `retries` | what the load did |
/// | `goals` | `name`, `limit`, `measured`, `held`, `pending` each |
/// | `pending` | what waits for work to come: `what`, `why` each |
/// | `evidence` | `promise`, `oracle`, `evidence` each |
/// | `oracles` | `oracle`, `looked_at` each |
/// | `timeline` | `at_ms`, `kind`, `ends`, `line`, `text` each; `hosts` and `story` where there are any |
/// | `leaders`, `seconds` | as in [`Led`] and [`Second`] |
/// | `trace_hash`, `trace`, `trace_events` | at the end, per simulated second, and of how much |
/// | `sim_seconds`, `wall_seconds` | virtual and real time |
/// | `command` | makes the run again |
/// | `control` | the other layout's summary, or null: the keys above down to `evidence` |
///
/// Times are ms after the load began.
pub fn json(outcome: &Outcome) -> String {
    let plan = &outcome.plan;
    pretty(&Run {
        summary: Summary::of(outcome),
        oracles: outcome.oracles.iter().map(Oracle::of).collect(),
        timeline: &outcome.timeline,
        leaders: &outcome.leaders,
        seconds: &outcome.seconds,
        trace_hash: &outcome.trace_hash,
        trace: &outcome.trace,
        trace_events: outcome.trace_events,
        sim_seconds: outcome.sim_seconds,
        wall_seconds: outcome.wall_seconds,
        command: outcome.command(),
        control: outcome.control.as_deref().map(|control| Control {
            layout: &control.plan.about,
            summary: Summary::of(control),
        }),
        tier: plan.tier,
        disk: plan.disk,
    })
}

#[derive(Serialize)]
struct Run<'a> {
    #[serde(flatten)]
    summary: Summary<'a>,
    tier: crate::plan::Tier,
    disk: crate::plan::DiskKind,
    oracles: Vec<Oracle<'a>>,
    timeline: &'a [Mark],
    leaders: &'a [Led],
    seconds: &'a [Second],
    trace_hash: &'a str,
    trace: &'a [String],
    trace_events: u64,
    sim_seconds: f64,
    wall_seconds: f64,
    command: String,
    control: Option<Control<'a>>,
}

#[derive(Serialize)]
struct Control<'a> {
    layout: &'a str,
    #[serde(flatten)]
    summary: Summary<'a>,
}

#[derive(Serialize)]
struct Summary<'a> {
    scenario: &'a str,
    seed: u64,
    verdict: Verdict,
    exit_code: u8,
    stopped: Option<&'a str>,
    promises: BTreeMap<Promise, Option<bool>>,
    longest_gap_ms: u64,
    longest_gap_at_ms: (u64, u64),
    failed_calls: u64,
    failed: &'a [String],
    recovery_ms: Option<u64>,
    lost: u64,
    rto_ms: Option<u64>,
    acked: u64,
    reads: u64,
    tailed: u64,
    retries: u64,
    goals: &'a [Goal],
    pending: Vec<Waiting<'a>>,
    evidence: Vec<&'a Broken>,
}

#[derive(Serialize)]
struct Waiting<'a> {
    what: String,
    why: &'a str,
}

#[derive(Serialize)]
struct Oracle<'a> {
    oracle: &'a str,
    looked_at: u64,
}

impl Oracle<'_> {
    fn of((oracle, looked_at): &(String, u64)) -> Oracle<'_> {
        let looked_at = *looked_at;
        Oracle { oracle, looked_at }
    }
}

impl Summary<'_> {
    fn of(outcome: &Outcome) -> Summary<'_> {
        let judged = |promise| outcome.promises.get(&promise);
        let promises = Promise::ALL.into_iter();
        let pending = promises.filter_map(|promise| {
            let why = judged(promise)?.pending.as_deref()?;
            let what = promise.letter().to_string();
            Some(Waiting { what, why })
        });
        let goals = outcome.goals.iter().filter_map(|goal| {
            let why = goal.pending.as_deref()?;
            let what = goal.name.clone();
            Some(Waiting { what, why })
        });
        Summary {
            scenario: &outcome.plan.scenario,
            seed: outcome.plan.seed,
            verdict: outcome.verdict,
            exit_code: outcome.verdict.exit_code(),
            stopped: outcome.stopped.as_deref(),
            promises: Promise::ALL
                .map(|p| (p, judged(p).and_then(|j| j.held)))
                .into(),
            longest_gap_ms: outcome.longest_gap_ms,
            longest_gap_at_ms: outcome.longest_gap_at_ms,
            failed_calls: outcome.failed_calls,
            failed: &outcome.failed,
            recovery_ms: outcome.recovery_ms,
            lost: outcome.lost,
            rto_ms: outcome.rto_ms,
            acked: outcome.acked,
            reads: outcome.reads,
            tailed: outcome.tailed,
            retries: outcome.retries,
            goals: &outcome.goals,
            pending: pending.chain(goals).collect(),
            evidence: Promise::ALL
                .into_iter()
                .filter_map(judged)
                .flat_map(|judged| &judged.broken)
                .collect(),
        }
    }
}

/// A sweep, as `sim sweep --json` writes it: `runs`, `safety_failures` and `goal_misses` are
/// numbers of runs; `failures` has one item for each promise, goal or stop that a run failed on,
/// with `scenario`, `seed`, `promise` (a letter, or null for a stop or for too few
/// acknowledgements), `oracle`, `evidence`, `page` and `command`; `scenarios` has the counts of
/// each scenario, also of those of which no run was made; `skipped` has one item for each scenario of
/// which not all runs were made that were asked for, with `scenario`, `made`, `left` (null where as many
/// were asked for as there is time for) and `why`; `coverage` says how often each kind of fault began in which phase.
pub fn sweep_json(sweep: &Sweep) -> String {
    let count = |verdict| sweep.runs.iter().filter(|r| r.verdict == verdict).count();
    let failures = sweep.runs.iter().flat_map(|run| {
        run.failures.iter().map(|failure| SweptFailure {
            scenario: &run.scenario,
            seed: run.seed,
            failure,
            page: run.page.as_deref(),
            command: &run.command,
        })
    });
    let mut scenarios: BTreeMap<&str, Scenario> = BTreeMap::new();
    for run in &sweep.runs {
        scenarios.entry(&run.scenario).or_default().add(run);
    }
    for skipped in &sweep.skipped {
        scenarios.entry(&skipped.scenario).or_default();
    }
    pretty(&SweepJson {
        runs: sweep.runs.len(),
        safety_failures: count(Verdict::Broken),
        goal_misses: count(Verdict::GoalMissed),
        failures: failures.collect(),
        skipped: &sweep.skipped,
        scenarios,
        coverage: coverage::sum(sweep.runs.iter().flat_map(|run| &run.coverage)),
        longest_gap_ms: sweep.runs.iter().map(|r| r.longest_gap_ms).max(),
        acked: sweep.runs.iter().map(|r| r.acked).sum(),
        sim_seconds: sweep.runs.iter().map(|r| r.sim_seconds).sum(),
        wall_seconds: sweep.wall_seconds,
        command: &sweep.command,
    })
}

#[derive(Serialize)]
struct SweepJson<'a> {
    runs: usize,
    safety_failures: usize,
    goal_misses: usize,
    failures: Vec<SweptFailure<'a>>,
    skipped: &'a [Skipped],
    scenarios: BTreeMap<&'a str, Scenario>,
    coverage: Vec<coverage::Covered>,
    longest_gap_ms: Option<u64>,
    acked: u64,
    sim_seconds: f64,
    wall_seconds: f64,
    command: &'a str,
}

#[derive(Serialize)]
struct SweptFailure<'a> {
    scenario: &'a str,
    seed: u64,
    #[serde(flatten)]
    failure: &'a Failure,
    page: Option<&'a str>,
    command: &'a str,
}

#[derive(Default, Serialize)]
struct Scenario {
    runs: u64,
    safety_failures: u64,
    goal_misses: u64,
    longest_gap_ms: u64,
    promises: BTreeMap<Promise, Counts>,
}

#[derive(Default, Serialize)]
struct Counts {
    held: u64,
    missed: u64,
    not_judged: u64,
}

impl Scenario {
    fn add(&mut self, run: &SweptRun) {
        self.runs += 1;
        match run.verdict {
            Verdict::Held => {}
            Verdict::GoalMissed => self.goal_misses += 1,
            Verdict::Broken => self.safety_failures += 1,
        }
        self.longest_gap_ms = self.longest_gap_ms.max(run.longest_gap_ms);
        for promise in Promise::ALL {
            let counts = self.promises.entry(promise).or_default();
            match run.promises.get(&promise).copied().flatten() {
                Some(true) => counts.held += 1,
                Some(false) => counts.missed += 1,
                None => counts.not_judged += 1,
            }
        }
    }
}

/// A proof, as `sim prove --json` writes it: `seeds` and `mismatches` are numbers, `runs` says how
/// many runs were compared, `differing` has one item for each mismatch, as [`super::Mismatch`],
/// `skipped` one for each scenario of which not all seeds were proved, as in [`sweep_json`].
pub fn prove_json(proof: &Proof) -> String {
    pretty(&serde_json::json!({
        "seeds": proof.seeds,
        "mismatches": proof.mismatches.len(),
        "runs": proof.runs,
        "differing": proof.mismatches,
        "skipped": proof.skipped,
        "wall_seconds": proof.wall_seconds,
        "command": proof.command,
    }))
}

/// Mutants, as `sim mutants --json` writes them: `mutants`, `caught` and `pending` are numbers,
/// `list` has one item for each, as [`MutantResult`]; a mutant whose `seeds_needed` is null was not
/// caught.
pub fn mutants_json(mutants: &[MutantResult]) -> String {
    let caught = mutants.iter().filter(|m| m.seeds_needed.is_some()).count();
    let waiting = |m: &&MutantResult| m.seeds_needed.is_none() && m.pending.is_some();
    pretty(&serde_json::json!({
        "mutants": mutants.len(),
        "caught": caught,
        "pending": mutants.iter().filter(waiting).count(),
        "list": mutants,
    }))
}

/// Numbers that JSON cannot hold become null; nothing else here can fail to be written.
fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|error| {
        let error = error.to_string();
        serde_json::json!({ "error": error }).to_string()
    })
}
