//! `firebreak outage`: what the nodes' flight recorders have of a time: gathered, told, replayed.

pub mod record;
mod show;
pub mod when;

use std::ffi::OsString;
use std::process::ExitCode;

use super::{block_on, sim};

const REPLAY_EXAMPLES: &str = "\
Examples:
  firebreak outage replay night.json
  firebreak outage replay night.json --seeds 20 --html replay.html
  firebreak outage replay night.json --policy prefer=busan     and if Busan had led
  firebreak outage replay night.json --replicas 5              and if there had been five replicas

Exit codes: 0 the seeds were run, 1 a run failed or a file could not be written, 2 wrong arguments or an
unusable file.";

/// Tell what a night was like, from the nodes' flight recorders, and replay it in the simulator.
#[derive(clap::Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one, once in a process")]
pub enum Outage {
    Record(record::Args),
    Show(show::Args),
    /// Replay a night in the simulator: recorded and simulated side by side.
    #[command(disable_help_flag = true, after_help = REPLAY_EXAMPLES)]
    Replay {
        /// The file, and what the simulator is to do with it; see `firebreak outage replay --help`
        #[arg(
            trailing_var_arg = true,
            allow_hyphen_values = true,
            value_name = "ARGS"
        )]
        args: Vec<OsString>,
    },
}

impl Outage {
    /// Runs the verb.
    ///
    /// # Errors
    /// As exit codes tell.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Outage::Record(args) => block_on(args.run()),
            Outage::Show(args) => args.run(),
            Outage::Replay { args } => {
                let words = ["outage", "replay"].map(OsString::from);
                sim::go_on(words.into_iter().chain(args).collect())
            }
        }
    }
}
