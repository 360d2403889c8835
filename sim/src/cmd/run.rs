//! `run`: one run of a scenario, judged and reported.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use firebreak_sim::plan::Tier;
use firebreak_sim::{Outcome, Verdict, reports};

use super::cases::{DiskName, Scenario, TierName, check_disk, parameter};
use super::control;
use super::files::{self, Console, quoted};
use super::here;
use super::stop::Stop;
use super::worker::{LIMIT_SECONDS, Workers};
use super::{EXIT_CODES, Ended, Failure};

const EXAMPLES: &str = "\
Examples:
  firebreak sim run calm --seed 1
  firebreak sim run dc-silent --seed 7 --html page.html    a page to look at
  firebreak sim run my-scenario.toml --json - | jq .verdict
  firebreak sim run kakao-2022 --set power_cut_after=20s   another value for one of its parameters

";

/// Makes one run of a scenario and judges every promise
///
/// A scenario with a control layout is run a second time in that one, which must visibly fail.
#[derive(clap::Args)]
#[command(after_help = format!("{EXAMPLES}{EXIT_CODES}"))]
pub(crate) struct Args {
    /// A name that `list` shows, or the path of a file that ends in .toml
    scenario: String,
    /// Where all chance of the run comes from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What carries calls
    #[arg(long, value_enum, default_value_t = TierName::Grpc)]
    tier: TierName,
    /// What is under the nodes, if not what the scenario says
    #[arg(long, value_enum)]
    disk: Option<DiskName>,
    /// Another value for one of the scenario's parameters
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parameter)]
    set: Vec<(String, String)>,
    /// Writes the drawn plan there, before the run
    #[arg(long, value_name = "FILE")]
    plan: Option<String>,
    /// The known bug to run with
    #[arg(long, hide = true)]
    mutant: Option<String>,
    #[command(flatten)]
    documents: Documents,
}

/// What is written of a run.
#[derive(clap::Args)]
pub(crate) struct Documents {
    /// Writes the report for machines there; - is stdout
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = files::STDOUT)]
    json: Option<String>,
    /// Writes the report for CI there; - is stdout
    #[arg(long, value_name = "FILE")]
    junit: Option<String>,
    /// Writes the page there
    #[arg(long, value_name = "FILE")]
    html: Option<String>,
    /// Where the plan of a failing run goes
    #[arg(long, value_name = "DIR", default_value = files::OUT)]
    out: PathBuf,
    /// Shows where the product panicked, if it did
    #[arg(long, short)]
    verbose: bool,
}

impl Documents {
    /// Makes sure that all of them can be written, and says where words for people go.
    pub(crate) fn ready(&self) -> Result<Console, Failure> {
        let documents = [&self.json, &self.junit, &self.html].map(Option::as_deref);
        for document in documents {
            files::ready(document)?;
        }
        if self.verbose {
            here::be_verbose();
        }
        here::log()?;
        Ok(Console::beside(&documents))
    }

    /// Writes them, says what there is to say, and gives the exit code. `written` is where the
    /// run's plan is already, if it is.
    pub(crate) fn tell(&self, outcome: &Outcome, console: Console, written: Option<&str>) -> Ended {
        let document = |path: &Option<String>, text: &dyn Fn() -> String| match path {
            Some(path) => files::write(Path::new(path), &text()),
            None => Ok(()),
        };
        document(&self.json, &|| reports::json(outcome))?;
        document(&self.junit, &|| reports::junit(&[outcome]))?;
        document(&self.html, &|| reports::html(outcome))?;
        console.say(&reports::text(outcome, console.colour()));
        if outcome.verdict != Verdict::Held {
            let file = match written {
                Some(file) => quoted(file),
                None => {
                    let path = files::plan_path(&self.out, &outcome.plan);
                    files::write(&path, &files::plan_text(&outcome.plan)?)?;
                    quoted(&path.to_string_lossy())
                }
            };
            console.say(&format!(
                "plan: {file}\nreplay: firebreak sim replay {file}\n\
                 shrink: firebreak sim shrink {file}"
            ));
        }
        Ok(ExitCode::from(outcome.verdict.exit_code()))
    }
}

impl Args {
    /// Runs the command.
    pub(crate) fn run(self) -> Ended {
        let tier = Tier::from(self.tier);
        let scenario = Scenario::load(&self.scenario, &self.set, self.disk)?;
        let plan = scenario.plan(self.seed, tier);
        check_disk(&plan)?;
        files::ready(self.plan.as_deref())?;
        let console = self.documents.ready()?;
        if let Some(path) = &self.plan {
            files::write(Path::new(path), &files::plan_text(&plan)?)?;
        }
        let mut outcome = here::make(&plan, self.mutant.as_deref())?.outcome;
        outcome.repeat = match &self.mutant {
            None => scenario.repeat(self.seed, tier),
            Some(mutant) => Some(with_mutant(&outcome, mutant)),
        };
        if let Some(plan) = scenario.control(self.seed, tier) {
            let workers = Workers::new(LIMIT_SECONDS, Stop::after(None))?;
            let made = workers.run(&plan, self.mutant.as_deref())?;
            let Some(made) = made else {
                return Err(Failure::Failed("interrupted".to_owned()));
            };
            control::attach(&mut outcome, made);
        }
        self.documents.tell(&outcome, console, self.plan.as_deref())
    }
}

/// The command that makes a run again, with its mutant.
pub(crate) fn with_mutant(outcome: &Outcome, mutant: &str) -> String {
    let command = outcome.command();
    let rest = command.strip_prefix("firebreak sim ").unwrap_or(&command);
    format!("firebreak-sim-mutants {rest} --mutant {mutant}")
}
