//! `mutants`: known bugs, each of which the simulator must catch.

mod hunt;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use firebreak_sim::interpose::real_elapsed;
use firebreak_sim::plan::Tier;
use firebreak_sim::reports::{self, MutantResult};
use firebreak_sim::{Verdict, catalogue};
use model::mutants::{self, Mutant};

use super::cases::{Scenario, TierName};
use super::files::{self, Console};
use super::run::with_mutant;
use super::stop::Stop;
use super::sweep::minutes;
use super::worker::{LIMIT_SECONDS, Workers};
use super::{Ended, Failure, pool};
use hunt::{ANY, Attempt, Hunt, Shown, showing};
use table::table;

/// The program that has mutants.
const PROGRAM: &str = "firebreak-sim-mutants";
/// Exit code when a mutant was not caught: a promise of the simulator was broken.
const NOT_CAUGHT: u8 = 3;

const EXAMPLES: &str = "\
Examples:
  firebreak-sim-mutants mutants --list
  firebreak-sim-mutants mutants --seeds-max 200 --json mutants.json
  firebreak-sim-mutants mutants ack-before-fsync vote-not-synced --seeds-max 20

Mutants are not in the usual build: `cargo build --release -p firebreak-sim --features mutants --bin \
firebreak-sim-mutants` makes the program that has them.
Exit codes: 0 every mutant that is ready was caught, 2 unusable input, 3 one was not.";

/// Switches known bugs on, one at a time, until an oracle that is named for it catches each
///
/// A seed counts only if it holds without the mutant. What else a mutant breaks is told, and the hunt
/// for it goes on.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Which ones; all when none is given
    names: Vec<String>,
    /// Lists them, with what each breaks and what it waits for
    #[arg(long)]
    list: bool,
    /// Runs that each may take
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    seeds_max: u64,
    /// Begins no runs after so many minutes; what is not caught then was not caught
    #[arg(long, value_name = "N", value_parser = minutes)]
    minutes: Option<f64>,
    /// Runs at once; as many as the machine has cores when it is not given
    #[arg(long, short, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// What carries calls
    #[arg(long, value_enum, default_value_t = TierName::Direct)]
    tier: TierName,
    /// Writes the report for machines there; - is stdout
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = files::STDOUT)]
    json: Option<String>,
    /// Seconds after which a run is killed and catches nothing
    #[arg(long, value_name = "SECONDS", default_value_t = LIMIT_SECONDS)]
    limit: u64,
}

impl Args {
    /// Runs the command.
    pub(crate) fn run(self) -> Ended {
        let chosen = self.chosen()?;
        if self.list {
            return self.list(&chosen);
        }
        if !mutants::are_built() {
            return Err(elsewhere());
        }
        files::ready(self.json.as_deref())?;
        let console = Console::beside(&[self.json.as_deref()]);
        let scenarios = scenarios(&chosen)?;
        let mut hunts: Vec<Hunt<'_>> = chosen
            .iter()
            .map(|mutant| Hunt::new(mutant, &scenarios))
            .collect();
        self.hunt(&mut hunts)?;
        let results: Vec<MutantResult> = hunts.iter().map(|hunt| hunt.result()).collect();
        if let Some(path) = &self.json {
            files::write(Path::new(path), &reports::mutants_json(&results))?;
        }
        console.say(&table(&hunts, console.colour()));
        let escaped = hunts.iter().filter(|hunt| hunt.is_open()).count();
        match escaped {
            0 => Ok(ExitCode::SUCCESS),
            _ => Ok(ExitCode::from(NOT_CAUGHT)),
        }
    }

    fn chosen(&self) -> Result<Vec<&'static Mutant>, Failure> {
        if self.names.is_empty() {
            return Ok(mutants::ALL.iter().collect());
        }
        let mut seen = BTreeSet::new();
        let names = self.names.iter().filter(|name| seen.insert(*name));
        let named = names.map(|name| {
            mutants::named(name).map_err(|refused| Failure::Usage(refused.to_string()))
        });
        named.collect()
    }

    fn list(&self, chosen: &[&'static Mutant]) -> Ended {
        let none: Vec<Scenario> = Vec::new();
        let hunts: Vec<Hunt<'_>> = chosen
            .iter()
            .map(|mutant| Hunt::new(mutant, &none))
            .collect();
        if let Some(path) = &self.json {
            let results: Vec<MutantResult> = hunts.iter().map(|hunt| hunt.result()).collect();
            files::write(Path::new(path), &reports::mutants_json(&results))?;
            return Ok(ExitCode::SUCCESS);
        }
        for mutant in chosen {
            let waits = mutant.pending.map(|why| format!("\n    pending: {why}"));
            println!(
                "{}  ({})\n    {}\n    caught by: {}{}",
                mutant.name,
                mutant.promise,
                mutant.bug,
                mutant.oracles.join(", "),
                waits.unwrap_or_default()
            );
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Goes round the mutants that are not caught, an attempt or a few for each, until none is left.
    fn hunt<'s>(&self, hunts: &mut [Hunt<'s>]) -> Result<(), Failure> {
        let stop = Stop::after(self.minutes);
        let workers = Workers::new(self.limit, stop.clone())?;
        let jobs = self.jobs.map_or_else(pool::cores, usize::from);
        let tier = Tier::from(self.tier);
        // Whether a seed of a scenario holds without any mutant.
        let mut sound: BTreeMap<(String, u64), bool> = BTreeMap::new();
        while !stop.is_over() {
            let attempts = self.attempts(hunts, jobs);
            if attempts.is_empty() {
                break;
            }
            let mut shown = Vec::new();
            let work = |attempt: Attempt<'s>| try_once(&workers, attempt, tier, hunts);
            let mut made = Vec::new();
            pool::each(jobs, attempts.into_iter(), work, |done| {
                made.push(done);
                Ok(())
            })?;
            for (hunt, number, spent, found) in made.into_iter().flatten() {
                hunts[hunt].tried = hunts[hunt].tried.max(number);
                hunts[hunt].spent += spent;
                shown.extend(found);
            }
            shown.sort_by_key(|shown: &Shown<'_>| (shown.attempt.hunt, shown.attempt.number));
            check_sound(&workers, jobs, tier, &shown, &mut sound)?;
            for shown in shown {
                let key = key(&shown.attempt);
                hunts[shown.attempt.hunt].note(shown, sound.get(&key).copied());
            }
            let open = hunts.iter().filter(|hunt| hunt.is_open()).count();
            let caught = hunts.iter().filter(|hunt| hunt.caught.is_some()).count();
            eprintln!("{caught} caught, {open} to go");
        }
        Ok(())
    }

    /// The next attempts: one for each that is open, more while that leaves jobs idle.
    fn attempts<'s>(&self, hunts: &[Hunt<'s>], jobs: usize) -> Vec<Attempt<'s>> {
        let open = hunts.iter().filter(|hunt| hunt.is_open()).count();
        let each = jobs.div_ceil(open.max(1)) as u64;
        let mut attempts = Vec::new();
        for round in 0..each {
            for (at, hunt) in hunts.iter().enumerate() {
                let number = hunt.tried + round;
                let count = hunt.scenarios.len() as u64;
                if !hunt.is_open() || number >= self.seeds_max || count == 0 {
                    continue;
                }
                let turn = usize::try_from(number % count).unwrap_or(0);
                attempts.push(Attempt {
                    hunt: at,
                    number: number + 1,
                    scenario: hunt.scenarios[turn],
                    seed: number / count,
                });
            }
        }
        attempts
    }
}

/// Of an attempt: the hunt, its number, how long it took, and what showed.
type Tried<'s> = Option<(usize, u64, Duration, Option<Shown<'s>>)>;

fn try_once<'s>(
    workers: &Workers,
    attempt: Attempt<'s>,
    tier: Tier,
    hunts: &[Hunt<'_>],
) -> Result<Tried<'s>, Failure> {
    let began = real_elapsed();
    let mutant = hunts[attempt.hunt].mutant;
    let plan = attempt.scenario.plan(attempt.seed, tier);
    let Some(done) = workers.run(&plan, Some(mutant.name))? else {
        return Ok(None);
    };
    let outcome = &done.outcome;
    let found = showing(outcome, mutant).map(|showing| Shown {
        attempt,
        showing,
        command: with_mutant(outcome, mutant.name),
    });
    let spent = real_elapsed().saturating_sub(began);
    Ok(Some((attempt.hunt, attempt.number, spent, found)))
}

fn key(attempt: &Attempt<'_>) -> (String, u64) {
    (attempt.scenario.file.name.clone(), attempt.seed)
}

/// Runs the seeds on which something showed without any mutant, each once.
fn check_sound(
    workers: &Workers,
    jobs: usize,
    tier: Tier,
    shown: &[Shown<'_>],
    sound: &mut BTreeMap<(String, u64), bool>,
) -> Result<(), Failure> {
    let mut unknown: BTreeMap<(String, u64), Attempt<'_>> = BTreeMap::new();
    for shown in shown {
        let key = key(&shown.attempt);
        if !sound.contains_key(&key) {
            unknown.insert(key, shown.attempt);
        }
    }
    let work = |(key, attempt): ((String, u64), Attempt<'_>)| {
        let plan = attempt.scenario.plan(attempt.seed, tier);
        let done = workers.run(&plan, None)?;
        Ok((key, done.map(|done| done.outcome.verdict)))
    };
    pool::each(jobs, unknown.into_iter(), work, |(key, verdict)| {
        if let Some(verdict) = verdict {
            sound.insert(key, verdict == Verdict::Held);
        }
        Ok(())
    })
}

/// The scenarios in which the mutants show, as far as they ship.
fn scenarios(chosen: &[&'static Mutant]) -> Result<Vec<Scenario>, Failure> {
    let ready = chosen.iter().filter(|mutant| mutant.pending.is_none());
    let named: BTreeSet<&str> = ready
        .flat_map(|mutant| mutant.scenarios.iter().copied())
        .chain([ANY])
        .collect();
    let shipped = catalogue::all().iter().map(|shipped| shipped.name);
    let loaded = shipped
        .filter(|name| named.contains(name))
        .map(|name| Scenario::load(name, &[], None));
    loaded.collect()
}

/// Goes on as the program that has mutants, where it stands beside this one.
fn elsewhere() -> Failure {
    let beside = std::env::current_exe().ok();
    let beside = beside.map(|exe| exe.with_file_name(PROGRAM));
    if let Some(program) = beside.filter(|program| program.exists()) {
        let error = Command::new(&program)
            .args(std::env::args_os().skip(1))
            .exec();
        return Failure::Failed(format!("{}: {error}", program.display()));
    }
    Failure::Usage(format!(
        "this build has no mutants; cargo build --release -p firebreak-sim --features mutants --bin \
         {PROGRAM} makes one that has them"
    ))
}
