//! `replay`: the run of a plan from a file.

use super::cases::check_disk;
use super::files::{self, quoted};
use super::run::Documents;
use super::{EXIT_CODES, Ended, here};

const EXAMPLES: &str = "\
Examples:
  firebreak sim replay target/sim/dc-silent-7.plan.json
  firebreak sim replay small.plan.json --html page.html
  firebreak sim run bridge --seed 3 --plan bridge.json     a plan to begin with

";

/// Makes the run of a plan: what a failing run wrote, what `shrink` left of it, or yours
#[derive(clap::Args)]
#[command(after_help = format!("{EXAMPLES}{EXIT_CODES}"))]
pub(crate) struct Args {
    /// The plan
    file: String,
    /// The known bug to run with
    #[arg(long, hide = true)]
    mutant: Option<String>,
    #[command(flatten)]
    documents: Documents,
}

impl Args {
    /// Runs the command.
    pub(crate) fn run(self) -> Ended {
        let plan = files::read_plan(&self.file)?;
        check_disk(&plan)?;
        let console = self.documents.ready()?;
        let mut outcome = here::make(&plan, self.mutant.as_deref())?.outcome;
        let (program, mutant) = match &self.mutant {
            None => ("firebreak sim", String::new()),
            Some(mutant) => ("firebreak-sim-mutants", format!(" --mutant {mutant}")),
        };
        let file = quoted(&self.file);
        outcome.repeat = Some(format!("{program} replay {file}{mutant}"));
        self.documents.tell(&outcome, console, Some(&self.file))
    }
}
