//! `firebreak drill all`: nine real processes on this machine, clients in three languages, and one drill
//! after the other, each from its plan to its report.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::canary::foreign::{Kit, Language};
use crate::drill::course::{self, Course, SCENARIOS};
use crate::exit::Usage;
use crate::stop::Stop;

/// Exit code when all that was judged held, and something was missing.
const INCONCLUSIVE: u8 = 5;

const EXAMPLES: &str = "\
Examples:
  firebreak drill all                                          each once, about 7 minutes
  firebreak drill all --scenario dc-crash --runs 5 --seeds 2   one of them, five times
  firebreak drill all --scenario dc-silent --no-timing         on a machine that is busy

Nine processes, three to a data center, with 30 ms of round trip between data centers. Each drill goes the usual
way: plan, preflight, rehearse, two approvals, run, report, certificate. It befalls the data center that leads
most shards then. In the folder: one folder for each drill, drills.json and drills.md with the table.

Exit codes: 0 each passed, 1 a goal was missed, 2 wrong arguments, 3 a promise broke, 4 one was aborted,
5 what could be judged held, but a language was missing or something could not be told.";

/// Play the drills that real processes are held to, on this machine.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Scenarios to play; all of those when not given
    #[arg(long = "scenario", value_name = "NAME", value_parser = SCENARIOS)]
    scenarios: Vec<String>,
    /// How often each is played
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Seeds of the simulator on which each is rehearsed before
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(2..=1_000))]
    seeds: u64,
    /// Where the drills' folders go; those of earlier drills there are replaced
    #[arg(long, value_name = "DIR", default_value = "target/drill")]
    dir: PathBuf,
    /// Use gRPC for Python and Node only when it is installed already
    #[arg(long)]
    no_install: bool,
    /// Judge failed calls, losses and repetitions, not waits: for machines that are busy
    #[arg(long)]
    no_timing: bool,
    /// Leave the nodes' configurations, logs and data where they are, and say where
    #[arg(long)]
    keep_logs: bool,
}

impl Args {
    /// Plays them.
    ///
    /// # Errors
    /// When one cannot be played to its end; else as exit codes tell.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let folder = |error: std::io::Error| Usage(format!("{}: {error}", self.dir.display()));
        std::fs::create_dir_all(&self.dir).map_err(folder)?;
        let dir = std::fs::canonicalize(&self.dir).map_err(folder)?;
        let languages = self.languages();
        let complete = languages.len() == Language::ALL.len();
        let scenarios = match self.scenarios.is_empty() {
            true => SCENARIOS.map(str::to_owned).to_vec(),
            false => self.scenarios.clone(),
        };
        let course = Course {
            scenarios,
            runs: self.runs,
            seeds: self.seeds,
            dir,
            languages,
            timing: !self.no_timing,
        };
        let place = tempfile::Builder::new()
            .prefix("firebreak-drills-")
            .tempdir()?;
        let stop = Stop::listen().context("cannot listen for signals")?;
        let played = course::play(&course, place.path(), stop).await;
        if played.is_err() || self.keep_logs {
            let kept = place.keep();
            eprintln!("Configurations, logs and data are in {}", kept.display());
        }
        let code = course::code(&played?);
        Ok(ExitCode::from(match code {
            0 if !complete => INCONCLUSIVE,
            code => code,
        }))
    }

    /// The other languages that can be had.
    fn languages(&self) -> Vec<Language> {
        let had = |language: &Language| match Kit::find(*language, !self.no_install) {
            Ok(_) => true,
            Err(why) => {
                eprintln!("✘ no clients in {}: {why}", language.name());
                false
            }
        };
        Language::ALL.into_iter().filter(had).collect()
    }
}
