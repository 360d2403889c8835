//! The commands, one file each, and what they share.
//!
//! ```text
//!  run, replay ─► here: a run on a thread of this process
//!  sweep, prove, shrink, mutants, bench ─► pool ─► worker (a process per run) ─► here
//! ```
//!
//! Exit codes: 0 everything that was asked for held, 1 an expectation on time, gaps or failed calls
//! was missed (or a file could not be written), 2 unusable input, 3 a safety promise was broken, the
//! product panicked, or a promise of the simulator itself was.

mod alarms;
mod bench;
mod cases;
mod control;
mod drill;
mod files;
mod here;
mod list;
mod mutants;
mod outage;
mod pool;
mod prove;
mod replay;
mod run;
mod seeds;
mod show;
mod shrink;
mod stop;
mod sweep;
mod train;
mod worker;

use std::fmt;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use firebreak_sim::catalogue::Refused;

/// A run makes and frees small things all the time, on one thread. Where they lie is nothing that a
/// run can see.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXIT_CODES: &str = "\
Exit codes: 0 everything held, 1 an expectation on time, gaps or failed calls was missed, 2 unusable \
input, 3 a safety promise was broken or the product panicked.
FIREBREAK_LOG=info shows what nodes log, in virtual time. Colour is off when NO_COLOR is set or the output \
is not a terminal.";

const EXAMPLES: &str = "\
Examples:
  firebreak sim list                                 what can be run
  firebreak sim run dc-silent --seed 7               one run, judged
  firebreak sim sweep --seeds 0..20 --html report    every scenario, twenty seeds each, with pages
  firebreak sim prove calm --seeds 0..10             the same seed makes the same run
  firebreak sim shrink target/sim/calm-7.plan.json   the smallest plan that still fails

";

/// Burns data centers in virtual time, with the real server and the real client.
#[derive(Parser)]
#[command(
    name = "firebreak-sim",
    version,
    after_help = format!("{EXAMPLES}{EXIT_CODES}"),
    propagate_version = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(Box<run::Args>),
    List(list::Args),
    Show(show::Args),
    Sweep(Box<sweep::Args>),
    Swarm(Box<sweep::SwarmArgs>),
    Prove(Box<prove::Args>),
    Replay(Box<replay::Args>),
    Shrink(Box<shrink::Args>),
    Mutants(Box<mutants::Args>),
    Bench(bench::Args),
    #[command(subcommand, hide = true)]
    Outage(outage::Outage),
    #[command(subcommand, hide = true)]
    Drill(drill::Drill),
    Alarms(alarms::Args),
    Train(train::Args),
    /// Makes the run of a plan from stdin; what the others start for each of their runs.
    #[command(hide = true)]
    Worker,
}

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Unusable input; nothing was tried. Exit code 2.
    Usage(String),
    /// It went wrong on the way. Exit code 1.
    Failed(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(why) | Failure::Failed(why) => f.write_str(why),
        }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Failure {
        Failure::Usage(refused.to_string())
    }
}

/// What a command gives.
pub(crate) type Ended = Result<ExitCode, Failure>;

/// Runs the command that the program was started for.
pub(crate) fn main() -> ExitCode {
    here::set_panic_hook();
    let ended = match Cli::parse().command {
        Command::Run(args) => args.run(),
        Command::List(args) => args.run(),
        Command::Show(args) => args.run(),
        Command::Sweep(args) => args.run(),
        Command::Swarm(args) => args.run(),
        Command::Prove(args) => args.run(),
        Command::Replay(args) => args.run(),
        Command::Shrink(args) => args.run(),
        Command::Mutants(args) => args.run(),
        Command::Bench(args) => args.run(),
        Command::Outage(command) => command.run(),
        Command::Drill(command) => command.run(),
        Command::Alarms(args) => args.run(),
        Command::Train(args) => args.run(),
        Command::Worker => worker::live(),
    };
    ended.unwrap_or_else(|failure| {
        eprintln!("error: {failure}");
        ExitCode::from(match failure {
            Failure::Usage(_) => 2,
            Failure::Failed(_) => 1,
        })
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
