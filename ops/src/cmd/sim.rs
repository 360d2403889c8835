//! `firebreak sim`: the simulator, which is a program of its own, because it needs no RocksDB and
//! replaces the clocks and the chance of its process.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::anyhow;

use crate::exit::Usage;

/// The program.
const PROGRAM: &str = "firebreak-sim";
/// What it calls itself in its own help.
const CALLED: &str = "firebreak sim";

/// Burn data centers in virtual time: runs scenarios, sweeps seeds, proves, shrinks. See `sim --help`.
#[derive(clap::Args)]
#[command(disable_help_flag = true, disable_version_flag = true)]
pub struct Args {
    /// What the simulator is to do, as `list`, `run dc-silent --seed 7` or `sweep --help`
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGS"
    )]
    args: Vec<OsString>,
}

impl Args {
    /// Goes on as the simulator, whose exit codes are 0, 1, 2 and 3.
    ///
    /// # Errors
    /// [`Usage`] when it is not there; anything else that keeps it from being started.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        go_on(self.args)
    }
}

/// Goes on as the simulator with these arguments.
///
/// # Errors
/// As [`Args::run`].
pub fn go_on(args: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let (program, missing) = program();
    let error = Command::new(&program).arg0(CALLED).args(args).exec();
    if error.kind() == io::ErrorKind::NotFound {
        return Err(Usage(missing).into());
    }
    Err(anyhow!(error).context(format!("cannot start {}", program.display())))
}

/// Where the simulator is, and what is told where it is not.
pub fn program() -> (PathBuf, String) {
    let exe = std::env::current_exe().ok();
    let beside = exe.as_deref().map(|exe| exe.with_file_name(PROGRAM));
    (chosen(beside), missing(exe.as_deref()))
}

/// The one beside this program, if it is there, or else whichever is in PATH.
fn chosen(beside: Option<PathBuf>) -> PathBuf {
    beside
        .filter(|program| program.is_file())
        .unwrap_or_else(|| PathBuf::from(PROGRAM))
}

fn missing(exe: Option<&Path>) -> String {
    let folder = exe.and_then(Path::parent);
    let folder = folder.map_or_else(String::new, |folder| {
        format!("in {} nor ", folder.display())
    });
    format!(
        "{PROGRAM} is neither {folder}in PATH; cargo build --release -p {PROGRAM} makes it, without \
         RocksDB"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_simulator_beside_this_program_is_preferred_to_the_one_in_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let beside = folder.path().join(PROGRAM);
        assert_eq!(chosen(Some(beside.clone())), PathBuf::from(PROGRAM));
        std::fs::write(&beside, "").unwrap();
        assert_eq!(chosen(Some(beside.clone())), beside);
        assert_eq!(chosen(None), PathBuf::from(PROGRAM));
    }

    #[test]
    fn who_misses_it_is_told_how_to_build_it() {
        let text = missing(Some(Path::new("/opt/firebreak/firebreak")));
        assert!(text.contains("/opt/firebreak"), "{text}");
        assert!(
            text.contains("cargo build --release -p firebreak-sim"),
            "{text}"
        );
    }
}
