//! `sweep`: many scenarios over many seeds, a process per run, summed up and resumable.

mod progress;
mod state;
mod summary;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use firebreak_sim::interpose::real_elapsed;
use firebreak_sim::plan::Tier;
use firebreak_sim::reports::{self, Skipped, Sweep, SweptRun};
use firebreak_sim::{Outcome, Verdict};

use super::cases::{Scenario, Tiers, chosen};
use super::files::{self, Console};
use super::seeds::Seeds;
use super::stop::Stop;
use super::worker::{LIMIT_SECONDS, Workers};
use super::{EXIT_CODES, Ended, Failure, control, pool};
use progress::Progress;
use state::State;
pub(crate) use summary::skipped;

/// Seeds of a sweep that is told neither which ones nor how long.
const SEEDS: Seeds = Seeds { from: 0, to: 20 };
/// Seeds of one that is only told how long.
const ALL_SEEDS: Seeds = Seeds {
    from: 0,
    to: u64::MAX,
};

const EXAMPLES: &str = "\
Examples:
  firebreak sim sweep --seeds 0..20 --jobs 2 --html report      every scenario, with pages
  firebreak sim sweep bridge flap-3s --seeds 100..200 --json sweep.json
  firebreak sim sweep --minutes 480 --resume night.jsonl        until the morning; goes on tomorrow
  firebreak sim sweep --minutes 20 --all-or-fail                fails when there was no time for a scenario

";

/// Runs scenarios over seeds, a process per run, and sums up
///
/// Runs on the direct tier, and every twentieth seed through the whole gRPC stack. A failing run
/// writes its plan. Ctrl-C ends it early and still sums up. What was asked for and not run, since the time
/// was up, is named at the end and is skipped in the reports.
#[derive(clap::Args)]
#[command(after_help = format!("{EXAMPLES}{EXIT_CODES}"))]
pub(crate) struct Args {
    /// Names that `list` shows, or paths of files that end in .toml; all that ship when none is given
    scenarios: Vec<String>,
    #[command(flatten)]
    how: How,
}

/// Runs the swarm scenario, in which each seed switches random kinds of faults on, over seeds
#[derive(clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct SwarmArgs {
    #[command(flatten)]
    how: How,
}

#[derive(clap::Args)]
struct How {
    /// Seeds: A..B from A up to B without B, A..=B with B, A.. or one; 0..20, or with --minutes as many
    /// as there is time for
    #[arg(long, value_name = "A..B")]
    seeds: Option<Seeds>,
    /// Runs at once; as many as the machine has cores when it is not given
    #[arg(long, short, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Begins no run after so many minutes
    #[arg(long, value_name = "N", value_parser = minutes)]
    minutes: Option<f64>,
    /// Ends with 1 when a run that was asked for was not made; with --minutes alone, when a scenario had none
    #[arg(long)]
    all_or_fail: bool,
    /// Writes pages there: an index, each failing run, and one run of each scenario
    #[arg(long, value_name = "DIR")]
    html: Option<PathBuf>,
    /// Writes the report for machines there; - is stdout
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = files::STDOUT)]
    json: Option<String>,
    /// Writes the report for CI there; - is stdout
    #[arg(long, value_name = "FILE")]
    junit: Option<String>,
    /// Notes each run there, and skips those that are there already
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// What carries calls
    #[arg(long, value_enum, default_value_t = Tiers::Auto)]
    tier: Tiers,
    /// Where plans of failing runs go
    #[arg(long, value_name = "DIR", default_value = files::OUT)]
    out: PathBuf,
    /// Seconds after which a run is killed and counts as failed
    #[arg(long, value_name = "SECONDS", default_value_t = LIMIT_SECONDS)]
    limit: u64,
}

/// A positive number of minutes.
pub(crate) fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse::<f64>();
    let minutes = minutes.map_err(|_| format!("{text:?} is not a number of minutes"))?;
    match minutes > 0.0 {
        true => Ok(minutes),
        false => Err("there must be time for a run".to_owned()),
    }
}

/// A run to be made.
struct Case<'s> {
    scenario: &'s Scenario,
    seed: u64,
    tier: Tier,
}

impl Args {
    /// Runs the command.
    pub(crate) fn run(self) -> Ended {
        self.how.run(&self.scenarios)
    }
}

impl SwarmArgs {
    /// Runs the command.
    pub(crate) fn run(self) -> Ended {
        self.how.run(&["swarm".to_owned()])
    }
}

impl How {
    fn run(&self, names: &[String]) -> Ended {
        let scenarios = chosen(names)?;
        for file in [&self.json, &self.junit] {
            files::ready(file.as_deref())?;
        }
        for folder in [self.html.as_deref(), Some(self.out.as_path())] {
            folder.map_or(Ok(()), files::ready_folder)?;
        }
        let mut state = State::open(self.resume.as_deref())?;
        let console = Console::beside(&[self.json.as_deref(), self.junit.as_deref()]);
        let mut sweep = self.sweep(names, &scenarios, &mut state)?;
        sweep
            .runs
            .sort_by(|a, b| (&a.scenario, a.seed).cmp(&(&b.scenario, b.seed)));
        let write = |path: Option<&Path>, text: String| match path {
            Some(path) => files::write(path, &text),
            None => Ok(()),
        };
        let index = self.html.as_ref().map(|folder| folder.join("index.html"));
        write(index.as_deref(), reports::index_html(&sweep))?;
        write(
            self.json.as_deref().map(Path::new),
            reports::sweep_json(&sweep),
        )?;
        write(
            self.junit.as_deref().map(Path::new),
            reports::sweep_junit(&sweep),
        )?;
        console.say(&summary::text(&sweep, &self.out, console.colour()));
        if let Some(index) = index {
            console.say(&format!("pages: {}", index.display()));
        }
        let worst = sweep.runs.iter().map(|run| run.verdict).max();
        let Some(worst) = worst else {
            return Err(Failure::Failed("no run was made".to_owned()));
        };
        let skipped = self.all_or_fail && !sweep.skipped.is_empty();
        let least = match skipped {
            true => Verdict::GoalMissed,
            false => Verdict::Held,
        };
        Ok(ExitCode::from(worst.max(least).exit_code()))
    }

    fn seeds(&self) -> Seeds {
        match (self.seeds, self.minutes) {
            (Some(seeds), _) => seeds,
            (None, None) => SEEDS,
            (None, Some(_)) => ALL_SEEDS,
        }
    }

    fn sweep(
        &self,
        names: &[String],
        scenarios: &[Scenario],
        state: &mut State,
    ) -> Result<Sweep, Failure> {
        let began = real_elapsed();
        let stop = Stop::after(self.minutes);
        let workers = Workers::new(self.limit, stop.clone())?;
        let jobs = self.jobs.map_or_else(pool::cores, usize::from);
        let seeds = self.seeds();
        let done = state.done().clone();
        let runs = state.runs(|scenario, seed, tier| {
            let asked = scenarios.iter().any(|one| one.file.name == scenario);
            asked && seeds.from <= seed && seed < seeds.to && tier == self.tier.of(seed)
        });
        let to_do = seeds
            .count()
            .saturating_mul(scenarios.len() as u64)
            .saturating_sub(runs.len() as u64);
        let endless = self.minutes.is_some() || seeds.to == u64::MAX;
        let progress = Progress::new(Some(to_do).filter(|_| !endless));
        if !runs.is_empty() {
            progress.say(&format!("{} runs were made before", runs.len()));
        }
        let cases = seeds.iter().flat_map(|seed| {
            let tier = self.tier.of(seed);
            scenarios.iter().map(move |scenario| Case {
                scenario,
                seed,
                tier,
            })
        });
        let cases = cases
            .filter(|case| !done.contains(&(case.scenario.file.name.clone(), case.seed, case.tier)))
            .take_while(|_| !stop.is_over());
        let mut sweep = Sweep {
            command: self.command(names),
            runs,
            skipped: Vec::new(),
            wall_seconds: 0.0,
        };
        let mut shown = BTreeSet::new();
        let mut finished = |outcome: Option<Outcome>| {
            let Some(outcome) = outcome else {
                return Ok(());
            };
            let run = self.keep(&outcome, &mut shown)?;
            state.add(&run, outcome.plan.tier)?;
            progress.add(&run);
            sweep.runs.push(run);
            Ok(())
        };
        let made = pool::each(jobs, cases, |case| make(&workers, &case), &mut finished);
        progress.end();
        made?;
        let made = |scenario: &str| {
            let runs = sweep.runs.iter();
            runs.filter(|run| run.scenario == scenario).count() as u64
        };
        let names = scenarios.iter().map(|one| one.file.name.as_str());
        sweep.skipped = Skipped::of(names, seeds.bounded(), made, stop.why());
        sweep.wall_seconds = real_elapsed().saturating_sub(began).as_secs_f64();
        Ok(sweep)
    }

    /// Writes what is kept of a run: its page and, if it failed, its plan.
    fn keep(&self, outcome: &Outcome, shown: &mut BTreeSet<String>) -> Result<SweptRun, Failure> {
        let plan = &outcome.plan;
        let failed = outcome.verdict != Verdict::Held;
        if failed {
            let path = files::plan_path(&self.out, plan);
            files::write(&path, &files::plan_text(plan)?)?;
        }
        let mut page = None;
        if let Some(folder) = &self.html
            && (shown.insert(plan.scenario.clone()) || failed)
        {
            let name = format!("{}.html", files::run_name(plan));
            files::write(&folder.join(&name), &reports::html(outcome))?;
            page = Some(name);
        }
        Ok(SweptRun::of(outcome, page))
    }

    /// The command that makes this sweep again.
    fn command(&self, names: &[String]) -> String {
        let mut command = "firebreak sim sweep".to_owned();
        for name in names {
            command.push_str(&format!(" {}", files::quoted(name)));
        }
        match (self.seeds, self.minutes) {
            (Some(seeds), _) => command.push_str(&format!(" --seeds {seeds}")),
            (None, Some(minutes)) => command.push_str(&format!(" --minutes {minutes}")),
            (None, None) => command.push_str(&format!(" --seeds {SEEDS}")),
        }
        match self.tier {
            Tiers::Auto => {}
            Tiers::Grpc => command.push_str(" --tier grpc"),
            Tiers::Direct => command.push_str(" --tier direct"),
        }
        command
    }
}

/// Makes a run, and that of the control layout where there is one; none when it was interrupted.
fn make(workers: &Workers, case: &Case<'_>) -> Result<Option<Outcome>, Failure> {
    let plan = case.scenario.plan(case.seed, case.tier);
    let Some(done) = workers.run(&plan, None)? else {
        return Ok(None);
    };
    let mut outcome = done.outcome;
    outcome.repeat = case.scenario.repeat(case.seed, case.tier);
    if let Some(plan) = case.scenario.control(case.seed, case.tier) {
        let Some(done) = workers.run(&plan, None)? else {
            return Ok(None);
        };
        control::attach(&mut outcome, done);
    }
    Ok(Some(outcome))
}
