//! `shrink`: the smallest plan that still fails as a plan does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use firebreak_sim::interpose::real_elapsed;
use firebreak_sim::shrink::{STAGES, Size, Smaller, Symptom};
use firebreak_sim::{Outcome, Plan};
use xxhash_rust::xxh3::xxh3_64;

use super::cases::check_disk;
use super::files::{self, Console, quoted};
use super::stop::Stop;
use super::sweep::minutes;
use super::worker::{LIMIT_SECONDS, Workers};
use super::{Ended, Failure, pool, show};

/// A smaller plan takes no longer than the whole one did, but for so many times and seconds.
const SLOWER_TIMES: f64 = 5.0;
const SLOWER_SECONDS: f64 = 30.0;

const EXAMPLES: &str = "\
Examples:
  firebreak sim shrink target/sim/dc-silent-7.plan.json
  firebreak sim shrink dc-silent-7.plan.json --oracle tail-suffix --minutes 5 --out small.plan.json

Exit codes: 0 a plan was written, the smallest one or the smallest until the time was up, 1 the time was \
up before the plan had been run once, 2 unusable input: that plan does not fail, or not with that oracle.";

/// Takes faults, load and nodes out of a failing plan as long as it fails in the same way
///
/// In the same way: the same oracle on the same promise, the same goal, or a panic at the same place.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The plan that fails
    file: String,
    /// Where the smallest plan goes; beside FILE when it is not given
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Ends after so many minutes with the smallest plan until then
    #[arg(long, value_name = "N", value_parser = minutes)]
    minutes: Option<f64>,
    /// Which of its failures to keep; the gravest when it is not given
    #[arg(long, value_name = "NAME")]
    oracle: Option<String>,
    /// Runs at once; as many as the machine has cores when it is not given
    #[arg(long, short, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Writes what was found there, for machines; - is stdout
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = files::STDOUT)]
    json: Option<String>,
    /// The known bug to run with
    #[arg(long, hide = true)]
    mutant: Option<String>,
}

/// What is being made smaller.
struct Shrinking<'a> {
    workers: Workers,
    stop: Stop,
    jobs: usize,
    console: Console,
    mutant: Option<&'a str>,
    symptom: Symptom,
    plan: Plan,
    /// Plans that were tried and did not fail.
    tried: BTreeSet<u64>,
    /// Whether something was not tried, since the time was up.
    cut_short: bool,
    runs: u64,
}

impl Args {
    /// Runs the command.
    pub(crate) fn run(self) -> Ended {
        let began = real_elapsed();
        let plan = files::read_plan(&self.file)?;
        check_disk(&plan)?;
        let out = match &self.out {
            Some(out) => out.clone(),
            None => small(&self.file),
        };
        files::ready(out.to_str())?;
        files::ready(self.json.as_deref())?;
        let console = Console::beside(&[self.json.as_deref()]);
        let stop = Stop::after(self.minutes);
        let mutant = self.mutant.as_deref();
        let workers = Workers::new(LIMIT_SECONDS, stop.clone())?.punctual();
        let whole = workers.run(&plan, mutant)?.ok_or_else(|| {
            Failure::Failed(match stop.interrupted() {
                true => "interrupted".to_owned(),
                false => "the time was up before the plan had been run once".to_owned(),
            })
        })?;
        let symptom = self.symptom(&whole.outcome)?;
        console.say(&format!("{symptom}\n  {}", Size::of(&plan)));
        let limit = whole.outcome.wall_seconds * SLOWER_TIMES + SLOWER_SECONDS;
        let limit = Duration::from_secs_f64(limit).as_secs() + 1;
        let mut shrinking = Shrinking {
            workers: Workers::new(limit, stop.clone())?.punctual(),
            stop,
            jobs: self.jobs.map_or_else(pool::cores, usize::from),
            console,
            mutant,
            symptom,
            plan,
            tried: BTreeSet::new(),
            cut_short: false,
            runs: 1,
        };
        let smallest = shrinking.go()?;
        let plan = &shrinking.plan;
        files::write(&out, &files::plan_text(plan)?)?;
        let file = quoted(&out.to_string_lossy());
        let seconds = real_elapsed().saturating_sub(began).as_secs();
        let found = match smallest {
            true => "the smallest plan that fails",
            false => "ended early: not all smaller plans were tried; this one fails",
        };
        let replay = match mutant {
            None => format!("firebreak sim replay {file}"),
            Some(mutant) => format!("firebreak-sim-mutants replay {file} --mutant {mutant}"),
        };
        console.say(&format!(
            "\n{}\n{found} with {}: {} runs, {seconds} s\nreplay: {replay}",
            show::text(plan),
            shrinking.symptom,
            shrinking.runs
        ));
        if let Some(path) = &self.json {
            let size = Size::of(plan);
            let document = serde_json::json!({
                "symptom": shrinking.symptom.to_string(),
                "smallest": smallest,
                "runs": shrinking.runs,
                "wall_seconds": seconds,
                "events": size.events,
                "nodes": size.nodes,
                "clients": size.clients,
                "load_ms": size.load_ms,
                "plan": out.to_string_lossy(),
                "command": replay,
            });
            files::write(Path::new(path), &format!("{document:#}\n"))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn symptom(&self, outcome: &Outcome) -> Result<Symptom, Failure> {
        let mut symptoms = Symptom::all(outcome);
        let Some(first) = symptoms.first().cloned() else {
            let why = format!("{}: holds; there is nothing to shrink", self.file);
            return Err(Failure::Usage(why));
        };
        let Some(oracle) = &self.oracle else {
            return Ok(first);
        };
        let names: Vec<String> = symptoms.iter().map(|one| one.oracle.clone()).collect();
        symptoms.retain(|symptom| symptom.oracle == *oracle);
        symptoms.into_iter().next().ok_or_else(|| {
            let names = names.join(", ");
            Failure::Usage(format!(
                "{} does not fail with {oracle:?}; it fails with: {names}",
                self.file
            ))
        })
    }
}

impl Shrinking<'_> {
    /// Makes the plan smaller; whether nothing that was left to try makes it smaller still.
    fn go(&mut self) -> Result<bool, Failure> {
        let alone = self.symptom.alone(&self.plan);
        self.take(vec![alone])?;
        loop {
            let before = self.plan.clone();
            for stage in STAGES {
                while self.take(stage(&self.plan))? {}
            }
            // The time may be up behind the last run, when all was tried.
            match (self.cut_short, self.plan == before) {
                (true, _) => return Ok(false),
                (false, true) => return Ok(true),
                (false, false) => {}
            }
        }
    }

    /// Goes on with the first of them that still fails; whether there is one.
    fn take(&mut self, mut candidates: Vec<Smaller>) -> Result<bool, Failure> {
        let mut known = self.tried.clone();
        known.insert(hash(&self.plan));
        candidates.retain(|candidate| known.insert(hash(&candidate.plan)));
        for some in candidates.chunks(self.jobs) {
            if self.stop.is_over() {
                self.cut_short = true;
                return Ok(false);
            }
            let (mut failing, mut ended) = (None, true);
            let work = |at: usize| {
                let done = self.workers.run(&some[at].plan, self.mutant)?;
                let fails = done.as_ref().is_some_and(|done| {
                    let symptoms = Symptom::all(&done.outcome);
                    symptoms.contains(&self.symptom)
                });
                Ok((at, done.is_some(), fails))
            };
            pool::each(self.jobs, 0..some.len(), work, |(at, done, fails)| {
                ended &= done;
                if fails && failing.is_none_or(|before| at < before) {
                    failing = Some(at);
                }
                Ok(())
            })?;
            self.cut_short |= !ended;
            self.runs += some.len() as u64;
            if let Some(at) = failing {
                let smaller = &some[at];
                self.plan = smaller.plan.clone();
                let size = Size::of(&self.plan);
                let line = format!("  {size:<44}  without {}", smaller.what);
                self.console.say(&line);
                return Ok(true);
            }
            if ended {
                self.tried.extend(some.iter().map(|one| hash(&one.plan)));
            }
        }
        Ok(false)
    }
}

fn hash(plan: &Plan) -> u64 {
    // A plan is whole numbers and names: it has a JSON.
    serde_json::to_vec(plan).map_or(0, |bytes| xxh3_64(&bytes))
}

/// Beside a plan, as `a.small.plan.json` of `a.plan.json`.
fn small(file: &str) -> PathBuf {
    let stem = file.strip_suffix(".json").unwrap_or(file);
    let stem = stem.strip_suffix(".plan").unwrap_or(stem);
    Path::new(&format!("{stem}.small.plan.json")).to_owned()
}
