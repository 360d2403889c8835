//! `firebreak train`: an operator in a simulated fire. The simulator does it, which is a program of its own.

use std::ffi::OsString;
use std::process::ExitCode;

use super::sim;

/// Train in a simulated fire, with this command and the console: kakao-2022 --seed ?. See `train --help`.
#[derive(clap::Args)]
#[command(disable_help_flag = true, disable_version_flag = true)]
pub struct Args {
    /// Which scenario, and how, as `kakao-2022 --seed ?`
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGS"
    )]
    args: Vec<OsString>,
}

impl Args {
    /// Goes on as the simulator's trainer, whose exit codes are 0, 1, 2 and 3.
    ///
    /// # Errors
    /// As [`sim::Args::run`].
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let train = std::iter::once(OsString::from("train"));
        sim::go_on(train.chain(self.args).collect())
    }
}
