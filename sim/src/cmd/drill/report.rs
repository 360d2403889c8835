//! `drill report`: the paper of a drill as files for people, for CI, for machines and for a regulator.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use firebreak_sim::drill::report::{NIGHT_BYTES_MAX, files};
use server::drill::paper::{FORMAT, KIND, Kept, Paper};
use server::night::Night;

use super::super::files::{self as disk, Console};
use super::super::{Ended, Failure};

/// The largest paper that is read, bytes.
const PAPER_BYTES_MAX: u64 = 256 << 20;

const EXAMPLES: &str = "\
Examples:
  firebreak drill report drills/2026-12-01-dc-silent-seoul-3f2a/paper.json
  firebreak drill report paper.json --dir report

Writes report.md, report.html, report.json, report.xml (JUnit), regulator.ko.md and regulator.en.md. The
lanes of the flight recorders are drawn from the night that the paper names, beside it.

Exit codes: 0 written, 1 a file cannot be written, 2 wrong arguments or an unusable paper.";

/// Tells what a drill showed
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What `firebreak drill run` wrote
    paper: PathBuf,
    /// Where the report goes; beside the paper when not given
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Prints which files were written as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Writes the report.
    pub(crate) fn run(self) -> Ended {
        let paper = read(&self.paper)?;
        let beside = self.paper.parent().unwrap_or(Path::new(""));
        let night = match &paper.night {
            Some(kept) => night(beside, kept, self.json)?,
            None => None,
        };
        let made = files(&paper, night.as_ref()).map_err(Failure::Failed)?;
        let folder = self.dir.as_deref().unwrap_or(beside);
        let mut written = Vec::new();
        for file in made {
            let path = folder.join(file.name);
            disk::write(&path, &file.text)?;
            written.push(path);
        }
        let console = Console::beside(&[]);
        match self.json {
            true => {
                let document = serde_json::json!({
                    "drill": paper.plan.id, "end": paper.end, "files": written,
                });
                console.say(&format!("{document:#}"));
            }
            false => {
                console.say(&format!("{}: {}", paper.plan.id, paper.end.word()));
                for path in written {
                    console.say(&format!("  {}", path.display()));
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Reads a paper.
fn read(path: &Path) -> Result<Paper, Failure> {
    let text = super::text_of(path, PAPER_BYTES_MAX, "paper of a drill")?;
    let refused = |why: String| Failure::Usage(format!("{}: {why}", path.display()));
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| refused(format!("is not JSON: {error}")))?;
    let kind = value.get("kind").and_then(serde_json::Value::as_str);
    let format = value.get("format").and_then(serde_json::Value::as_u64);
    if kind != Some(KIND) || format != Some(u64::from(FORMAT)) {
        return Err(refused(format!(
            "is no paper of a drill of format {FORMAT}: `firebreak drill run` writes one, as paper.json"
        )));
    }
    serde_json::from_value(value).map_err(|error| refused(format!("cannot be read: {error}")))
}

/// The night beside a paper; without it the page has no lanes, which is said.
fn night(beside: &Path, kept: &Kept, quiet: bool) -> Result<Option<Night>, Failure> {
    let without = |why: String| {
        if !quiet {
            eprintln!("no lanes: {}: {why}", kept.file);
        }
        Ok(None)
    };
    // A paper may have come from anywhere, and names a file of its own folder only.
    let name = Path::new(&kept.file);
    if name.file_name() != Some(name.as_os_str()) {
        return without("is no plain name of a file".to_owned());
    }
    let path = beside.join(name);
    let size = match std::fs::metadata(&path) {
        Ok(found) => found.len(),
        Err(error) => return without(format!("cannot be read: {error}")),
    };
    if size > NIGHT_BYTES_MAX {
        return without("is larger than a GiB".to_owned());
    }
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => return without(format!("cannot be read: {error}")),
    };
    match Night::parse(&text) {
        Ok(night) => Ok(Some(night)),
        Err(why) => without(why),
    }
}
