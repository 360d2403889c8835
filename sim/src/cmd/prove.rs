//! `prove`: the same seed makes the same run, in whichever process and beside whatever else.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use firebreak_sim::interpose::real_elapsed;
use firebreak_sim::plan::Tier;
use firebreak_sim::reports::{self, Mismatch, Proof, Skipped};
use firebreak_sim::{Outcome, Plan};
use serde_json::Value;

use super::cases::{Scenario, Tiers, chosen};
use super::files::{self, Console};
use super::seeds::Seeds;
use super::stop::Stop;
use super::sweep::{minutes, skipped};
use super::worker::{Done, LIMIT_SECONDS, Workers};
use super::{Ended, Failure, pool};

/// Seeds that are proved together; their runs are kept until then.
const CHUNK_PER_JOB: usize = 8;
/// Keys of an outcome that no seed decides.
const REAL: [&str; 2] = ["wall_seconds", "laps"];
/// What is shown of values that differ, characters.
const SHOWN_MAX: usize = 120;
/// Exit code when a seed did not repeat itself: a promise of the simulator was broken.
const NOT_REPEATED: u8 = 3;

const EXAMPLES: &str = "\
Examples:
  firebreak sim prove --seeds 0..3                           every scenario
  firebreak sim prove dc-silent --seeds 0..1000 --jobs 2     a thousand seeds of one
  firebreak sim prove --seeds 0..50 --json proof.json

What was asked for and not proved, since the time was up, is named at the end.
Exit codes: 0 every seed repeated itself, 1 none was proved, or with --all-or-fail not all, 2 unusable \
input, 3 one did not.";

/// Makes each run three times and compares all that happened in it
///
/// Twice in separate processes, and a third time with more processes than cores beside it, which run
/// other seeds. Where two differ, the first differing simulated second is named.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Names that `list` shows, or paths of files that end in .toml; all that ship when none is given
    scenarios: Vec<String>,
    /// Seeds: A..B from A up to B without B, A..=B with B, or one
    #[arg(long, value_name = "A..B", default_value = "0..3")]
    seeds: Seeds,
    /// Runs at once, the third time more than twice as many; 1 makes the first two alone. As many
    /// as the machine has cores when it is not given
    #[arg(long, short, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Proves no more seeds after so many minutes
    #[arg(long, value_name = "N", value_parser = minutes)]
    minutes: Option<f64>,
    /// Ends with 1 when a seed that was asked for was not proved
    #[arg(long)]
    all_or_fail: bool,
    /// What carries calls
    #[arg(long, value_enum, default_value_t = Tiers::Auto)]
    tier: Tiers,
    /// Writes the report for machines there; - is stdout
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = files::STDOUT)]
    json: Option<String>,
    /// Seconds after which a run is killed and proves nothing
    #[arg(long, value_name = "SECONDS", default_value_t = LIMIT_SECONDS)]
    limit: u64,
}

/// A seed to be proved.
struct Case {
    plan: Plan,
    command: String,
    runs: [Option<Done>; 3],
}

/// Which run of a case.
const FIRST: usize = 0;
const AGAIN: usize = 1;
const BESIDE: usize = 2;

impl Args {
    /// Runs the command.
    pub(crate) fn run(self) -> Ended {
        let scenarios = chosen(&self.scenarios)?;
        files::ready(self.json.as_deref())?;
        let console = Console::beside(&[self.json.as_deref()]);
        let began = real_elapsed();
        let stop = Stop::after(self.minutes);
        let workers = Workers::new(self.limit, stop.clone())?;
        let jobs = self.jobs.map_or_else(pool::cores, usize::from);
        let mut proof = Proof {
            command: self.command(),
            ..Proof::default()
        };
        let mut proved = BTreeMap::new();
        let mut cases = self.cases(&scenarios);
        loop {
            let chunk: Vec<Case> = cases.by_ref().take(CHUNK_PER_JOB * jobs).collect();
            if chunk.is_empty() || stop.is_over() {
                break;
            }
            prove(chunk, jobs, &workers, &mut proof, &mut proved)?;
            let seconds = real_elapsed().saturating_sub(began).as_secs();
            eprintln!(
                "{} seeds proved, {} mismatches, {seconds} s",
                proof.seeds,
                proof.mismatches.len()
            );
        }
        let proved = |scenario: &str| proved.get(scenario).copied().unwrap_or(0);
        let names = scenarios.iter().map(|one| one.file.name.as_str());
        proof.skipped = Skipped::of(names, self.seeds.bounded(), proved, stop.why());
        proof.wall_seconds = real_elapsed().saturating_sub(began).as_secs_f64();
        if let Some(path) = &self.json {
            files::write(Path::new(path), &reports::prove_json(&proof))?;
        }
        console.say(&text(&proof));
        let all = proof.skipped.is_empty() || !self.all_or_fail;
        match (proof.seeds, proof.mismatches.is_empty()) {
            (0, _) => Err(Failure::Failed("no seed was proved".to_owned())),
            (_, true) if all => Ok(ExitCode::SUCCESS),
            (_, true) => Ok(ExitCode::FAILURE),
            (_, false) => Ok(ExitCode::from(NOT_REPEATED)),
        }
    }

    fn cases<'s>(&self, scenarios: &'s [Scenario]) -> impl Iterator<Item = Case> + use<'s> {
        let tiers = self.tier;
        self.seeds.iter().flat_map(move |seed| {
            let tier = tiers.of(seed);
            scenarios
                .iter()
                .map(move |scenario| case(scenario, seed, tier))
        })
    }

    fn command(&self) -> String {
        let mut command = "firebreak sim prove".to_owned();
        for name in &self.scenarios {
            command.push_str(&format!(" {}", files::quoted(name)));
        }
        command.push_str(&format!(" --seeds {}", self.seeds));
        match self.tier {
            Tiers::Auto => {}
            Tiers::Grpc => command.push_str(" --tier grpc"),
            Tiers::Direct => command.push_str(" --tier direct"),
        }
        command
    }
}

fn case(scenario: &Scenario, seed: u64, tier: Tier) -> Case {
    let tier_flag = match tier {
        Tier::Grpc => " --tier grpc",
        Tier::Direct => " --tier direct",
    };
    Case {
        plan: scenario.plan(seed, tier),
        command: format!(
            "firebreak sim prove {} --seeds {seed}{tier_flag}",
            files::quoted(&scenario.named)
        ),
        runs: [None, None, None],
    }
}

/// Makes the three runs of each case and notes where they differ.
fn prove(
    mut cases: Vec<Case>,
    jobs: usize,
    workers: &Workers,
    proof: &mut Proof,
    proved: &mut BTreeMap<String, u64>,
) -> Result<(), Failure> {
    let plans: Vec<Plan> = cases.iter().map(|case| case.plan.clone()).collect();
    let work = |(at, which): (usize, usize)| Ok((at, which, workers.run(&plans[at], None)?));
    let mut done = |(at, which, done): (usize, usize, Option<Done>)| {
        cases[at].runs[which] = done;
        Ok(())
    };
    let apart = (0..plans.len()).flat_map(|at| [(at, FIRST), (at, AGAIN)]);
    pool::each(jobs, apart, work, &mut done)?;
    // The other way round, so that each has other neighbours than before.
    let beside = (0..plans.len()).rev().map(|at| (at, BESIDE));
    pool::each(2 * jobs + 1, beside, work, &mut done)?;
    for case in cases {
        let [Some(first), Some(again), Some(beside)] = &case.runs else {
            // Interrupted.
            continue;
        };
        proof.seeds += 1;
        *proved.entry(case.plan.scenario.clone()).or_default() += 1;
        proof.runs += 3;
        for (other, how) in [(again, "alone again"), (beside, "beside others")] {
            if let Some(found) = compare(first, other) {
                proof.mismatches.push(Mismatch {
                    scenario: case.plan.scenario.clone(),
                    seed: case.plan.seed,
                    how: how.to_owned(),
                    first_second: found.second,
                    expected: found.expected,
                    found: found.found,
                    command: case.command.clone(),
                });
                break;
            }
        }
    }
    Ok(())
}

/// A difference of two runs.
#[derive(Debug, PartialEq, Eq)]
struct Difference {
    second: Option<u64>,
    expected: String,
    found: String,
}

/// The first difference of two runs of a seed.
fn compare(first: &Done, other: &Done) -> Option<Difference> {
    let lost = |done: &Done| match done.lost {
        true => done.outcome.stopped.clone().unwrap_or_default(),
        false => "it ended".to_owned(),
    };
    if first.lost || other.lost {
        // Nothing is proved by runs that were not seen to their ends.
        return Some(Difference {
            second: None,
            expected: lost(first),
            found: lost(other),
        });
    }
    seconds(&first.outcome, &other.outcome).or_else(|| ends(&first.outcome, &other.outcome))
}

/// The first simulated second, 0 being the first, whose hashes differ.
fn seconds(first: &Outcome, other: &Outcome) -> Option<Difference> {
    let hash = |outcome: &Outcome, second: usize| {
        let hash = outcome.trace.get(second).cloned();
        hash.unwrap_or_else(|| "it was over".to_owned())
    };
    let longer = first.trace.len().max(other.trace.len());
    let second = (0..longer).find(|second| hash(first, *second) != hash(other, *second))?;
    Some(Difference {
        second: Some(second as u64),
        expected: hash(first, second),
        found: hash(other, second),
    })
}

/// What differs of what two runs came to, where their seconds are alike.
fn ends(first: &Outcome, other: &Outcome) -> Option<Difference> {
    let value = |outcome: &Outcome| serde_json::to_value(outcome).unwrap_or(Value::Null);
    let (Value::Object(first), Value::Object(other)) = (value(first), value(other)) else {
        return None;
    };
    let keys = first.keys().filter(|key| !REAL.contains(&key.as_str()));
    let mut differing = keys.filter(|key| first.get(*key) != other.get(*key));
    let key = differing.next()?;
    let show = |value: Option<&Value>| {
        let text = value.map_or_else(String::new, Value::to_string);
        let text: String = text.chars().take(SHOWN_MAX).collect();
        format!("{key}: {text}")
    };
    Some(Difference {
        second: None,
        expected: show(first.get(key)),
        found: show(other.get(key)),
    })
}

fn text(proof: &Proof) -> String {
    let mut text = String::new();
    for mismatch in &proof.mismatches {
        let second = match mismatch.first_second {
            Some(second) => format!("from second {second} on"),
            None => "in what it came to".to_owned(),
        };
        text.push_str(&format!(
            "✗ {} seed {} differs {second}, run {}\n    first: {}\n    other: {}\n    again: {}\n",
            mismatch.scenario,
            mismatch.seed,
            mismatch.how,
            mismatch.expected,
            mismatch.found,
            mismatch.command
        ));
    }
    text.push_str(&format!(
        "{} seeds, {} runs, {} mismatches, {:.0} s",
        proof.seeds,
        proof.runs,
        proof.mismatches.len(),
        proof.wall_seconds
    ));
    text.push_str(&skipped(&proof.skipped));
    text
}
