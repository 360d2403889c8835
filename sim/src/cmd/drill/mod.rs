//! `drill rehearse` and `drill report`: a drill before it is run, and what there is to show for it.
//! `firebreak drill` goes on as this.

mod rehearse;
mod report;
mod verb;

use std::path::Path;

use server::drill::check;
use server::drill::plan::DrillPlan;

use super::{Ended, Failure};

/// The largest plan of a drill that is read, bytes.
const PLAN_BYTES_MAX: u64 = 4 << 20;

/// Drills: rehearsed before, told afterwards
#[derive(clap::Subcommand)]
pub(crate) enum Drill {
    /// Rehearses a drill on seeds of the simulator
    Rehearse(Box<rehearse::Args>),
    /// Rehearses what an operator is about to do
    #[command(hide = true)]
    RehearseVerb(verb::Args),
    /// Tells what a drill showed
    Report(report::Args),
}

impl Drill {
    /// Runs the verb.
    pub(crate) fn run(self) -> Ended {
        match self {
            Drill::Rehearse(args) => args.run(),
            Drill::RehearseVerb(args) => args.run(),
            Drill::Report(args) => args.run(),
        }
    }
}

/// A file's text; `what` is what it should be.
fn text_of(path: &Path, bytes_max: u64, what: &str) -> Result<String, Failure> {
    let refused = |why: String| Failure::Usage(format!("{}: {why}", path.display()));
    let unread = |error: std::io::Error| refused(format!("cannot be read: {error}"));
    let size = std::fs::metadata(path).map_err(unread)?.len();
    if size > bytes_max {
        return Err(refused(format!(
            "is {size} bytes; no {what} is larger than {bytes_max}"
        )));
    }
    std::fs::read_to_string(path).map_err(unread)
}

/// A drill's plan, and the digest of its file.
fn plan(path: &Path) -> Result<(DrillPlan, String), Failure> {
    let text = text_of(path, PLAN_BYTES_MAX, "plan of a drill")?;
    let plan = check::read(&text).map_err(|why| {
        Failure::Usage(format!(
            "{}: is no plan of a drill: {why}; `firebreak drill plan` writes one",
            path.display()
        ))
    })?;
    let digest = blake3::hash(text.as_bytes()).to_hex().to_string();
    Ok((plan, digest))
}
