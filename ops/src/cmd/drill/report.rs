//! `firebreak drill report`: what there is to show for a drill. The simulator draws it.

use std::ffi::OsString;
use std::path::Path;
use std::process::{ExitCode, Stdio};

use anyhow::{Context as _, anyhow};

use crate::cmd::sim;

const EXAMPLES: &str = "\
Examples:
  firebreak drill report drills/2026-12-01-dc-silent-seoul-3f2a/paper.json
  firebreak drill report paper.json --dir report

Writes report.md, report.html, report.json, report.xml (JUnit), regulator.ko.md and regulator.en.md.

Exit codes: 0 written, 1 a file cannot be written, 2 wrong arguments or an unusable paper.";

/// Tell what a drill showed: Markdown, a page, JSON, JUnit, and a form for the regulator.
#[derive(clap::Args)]
#[command(disable_help_flag = true, after_help = EXAMPLES)]
pub struct Args {
    /// The paper, and where the report goes; see `firebreak drill report --help`
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGS"
    )]
    args: Vec<OsString>,
}

impl Args {
    /// Goes on as the simulator.
    ///
    /// # Errors
    /// When that is not there.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let words = ["drill", "report"].map(OsString::from);
        sim::go_on(words.into_iter().chain(self.args).collect())
    }
}

/// Has the simulator write the report of the paper in a folder.
///
/// # Errors
/// When it is not there, or says what is wrong.
pub async fn write(folder: &Path) -> anyhow::Result<()> {
    let (program, missing) = sim::program();
    let mut command = tokio::process::Command::new(&program);
    command
        .args(["drill", "report"])
        .arg(folder.join("paper.json"));
    command.stdin(Stdio::null()).kill_on_drop(true);
    let ended = command.output().await.with_context(|| missing)?;
    match ended.status.success() {
        true => Ok(()),
        false => Err(anyhow!("{}", String::from_utf8_lossy(&ended.stderr).trim())),
    }
}
