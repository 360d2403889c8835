//! What the commands read and write, and where their words go.

use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};

use firebreak_sim::Plan;
use firebreak_sim::plan::FORMAT;

use super::Failure;

/// The largest plan that is read, bytes.
const PLAN_BYTES_MAX: u64 = 64 << 20;

/// Where files of runs go, unless the command line says otherwise.
pub(crate) const OUT: &str = "target/sim";

/// The name that means stdout.
pub(crate) const STDOUT: &str = "-";

/// Reads a plan, as a failing run writes it.
pub(crate) fn read_plan(path: &str) -> Result<Plan, Failure> {
    let refused = |why: String| Failure::Usage(format!("{path}: {why}"));
    let unread = |error: io::Error| refused(format!("cannot be read: {error}"));
    let mut text = String::new();
    let file = fs::File::open(path).map_err(unread)?;
    let mut file = file.take(PLAN_BYTES_MAX + 1);
    let size = file.read_to_string(&mut text).map_err(unread)?;
    if size as u64 > PLAN_BYTES_MAX {
        return Err(refused(format!(
            "is larger than {PLAN_BYTES_MAX} bytes; no plan is"
        )));
    }
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| refused(format!("is not JSON: {error}")))?;
    let format = value.get("format").and_then(serde_json::Value::as_u64);
    if format != Some(u64::from(FORMAT)) {
        let found = format.map_or_else(|| "none".to_owned(), |format| format.to_string());
        return Err(refused(format!(
            "is not a plan of format {FORMAT} (its format is {found}); failing runs write plans"
        )));
    }
    // From the text, so that an error names its line.
    let plan: Plan =
        serde_json::from_str(&text).map_err(|error| refused(format!("is no plan: {error}")))?;
    if plan.topology.nodes().next().is_none() || plan.workload.sites.is_empty() {
        return Err(refused("has no nodes or no client sites".to_owned()));
    }
    Ok(plan)
}

/// A plan as files hold it.
pub(crate) fn plan_text(plan: &Plan) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(plan);
    let mut text = text.map_err(|error| Failure::Failed(format!("a plan as JSON: {error}")))?;
    text.push('\n');
    Ok(text)
}

/// Makes sure that a file can be written before hours are spent on what goes into it.
pub(crate) fn ready(path: Option<&str>) -> Result<(), Failure> {
    let Some(path) = path.filter(|path| *path != STDOUT) else {
        return Ok(());
    };
    let refused = |error: io::Error| Failure::Usage(format!("{path}: cannot be written: {error}"));
    folder_of(Path::new(path)).map_err(refused)?;
    let mut options = OpenOptions::new();
    options
        .create(true)
        .append(true)
        .open(path)
        .map_err(refused)?;
    Ok(())
}

/// Makes sure that a folder is there.
pub(crate) fn ready_folder(path: &Path) -> Result<(), Failure> {
    fs::create_dir_all(path)
        .map_err(|error| Failure::Usage(format!("{}: cannot be made: {error}", path.display())))
}

fn folder_of(path: &Path) -> io::Result<()> {
    match path.parent().filter(|folder| *folder != Path::new("")) {
        Some(folder) => fs::create_dir_all(folder),
        None => Ok(()),
    }
}

/// Writes a file, or to stdout.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let failed =
        |error: io::Error| Failure::Failed(format!("{}: not written: {error}", path.display()));
    if path == Path::new(STDOUT) {
        let mut out = io::stdout().lock();
        let ended = if text.ends_with('\n') { "" } else { "\n" };
        let written = out.write_all(text.as_bytes());
        return written
            .and_then(|()| out.write_all(ended.as_bytes()))
            .map_err(failed);
    }
    folder_of(path).map_err(failed)?;
    fs::write(path, text).map_err(failed)
}

/// Where the plan of a run goes. A scenario's name may come from a file that anybody wrote.
pub(crate) fn plan_path(folder: &Path, plan: &Plan) -> PathBuf {
    folder.join(format!("{}.plan.json", run_name(plan)))
}

/// What files of a run are called.
pub(crate) fn run_name(plan: &Plan) -> String {
    let plain = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' => c,
        _ => '_',
    };
    let name: String = plan.scenario.chars().take(64).map(plain).collect();
    let layout = if plan.control { "-control" } else { "" };
    format!("{name}-{}{layout}", plan.seed)
}

/// A word as a shell needs it.
pub(crate) fn quoted(word: &str) -> String {
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '=' | ':' | ',');
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Where words for people go: stdout, unless a document goes there.
#[derive(Clone, Copy)]
pub(crate) struct Console {
    on_stderr: bool,
}

impl Console {
    /// For a command whose documents go to these.
    pub(crate) fn beside(documents: &[Option<&str>]) -> Console {
        Console {
            on_stderr: documents.contains(&Some(STDOUT)),
        }
    }

    /// Says something.
    pub(crate) fn say(self, text: &str) {
        match self.on_stderr {
            true => eprintln!("{text}"),
            false => println!("{text}"),
        }
    }

    /// Whether colours are wanted there.
    pub(crate) fn colour(self) -> bool {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let terminal = match self.on_stderr {
            true => io::stderr().is_terminal(),
            false => io::stdout().is_terminal(),
        };
        wanted && terminal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_a_shell_as_they_are() {
        assert_eq!(quoted("dc-silent"), "dc-silent");
        assert_eq!(quoted("my file"), "'my file'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
