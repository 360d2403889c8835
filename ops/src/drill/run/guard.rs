//! A guard over what a drill does to processes by real signals. A fault in a node ends by itself when its
//! controller dies; a stopped process does not go on by itself, and a killed one does not come back.
//!
//! ```text
//!  controller ── on NODE, off NODE ──► guard (a process of its own)
//!      dies: its end of the pipe closes ─► the faults' time to live ─► SIGCONT, start
//! ```
//!
//! A controller that takes over sends the guard away and starts its own.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context as _, anyhow};
use serde::{Deserialize, Serialize};
use server::drill::plan::Action;

use super::hands::TTL;
use super::process::{Found, words_of};

/// What the verb is called.
pub const VERB: &str = "guard";
/// The file in a drill's folder by which another controller finds the guard and the processes.
const FILE: &str = "processes.json";

/// What is done to a process, as the guard must undo it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Done {
    /// It was stopped: it is to go on.
    Stopped,
    /// It was ended: it is to be started.
    Ended,
}

impl Done {
    /// By an action; none where that does nothing to processes.
    pub fn by(action: &Action) -> Option<Done> {
        match action {
            Action::Sigstop => Some(Done::Stopped),
            Action::Sigkill | Action::Restart => Some(Done::Ended),
            Action::Silence
            | Action::Cut { .. }
            | Action::Slow { .. }
            | Action::Refuse
            | Action::Reset
            | Action::SlowSync { .. }
            | Action::FullDisk
            | Action::StandStill
            | Action::Drain => None,
        }
    }
}

/// A line to the guard.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum GuardLine {
    /// It is about to be done to a process.
    On { found: Found, done: Done },
    /// It was undone.
    Off { node: String },
}

/// What another controller needs to know.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Kept {
    guard: u32,
    /// The nodes' processes, as they were before anything was done to them.
    pub processes: BTreeMap<String, Found>,
}

impl Kept {
    /// What an earlier controller kept in the drill's folder; none where that is not there.
    pub fn read(dir: &Path) -> Option<Kept> {
        let text = fs::read_to_string(dir.join(FILE)).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Sends the earlier controller's guard away: what it would undo is looked after by another one.
    pub fn relieve(&self, drill: &str) {
        // Another process may have its number by now.
        let words = words_of(self.guard).unwrap_or_default();
        let is = |word: &str| words.iter().any(|one| one == word);
        if is(VERB) && is(drill) {
            // Fails only when it has ended.
            let _ = firebreak::cluster::process::send_signal(self.guard, libc::SIGKILL);
        }
    }
}

/// The controller's side.
pub struct Guard {
    child: Child,
    pipe: Option<ChildStdin>,
}

impl Guard {
    /// Starts one.
    ///
    /// # Errors
    /// When that cannot be, or the folder takes no file.
    pub fn start(
        drill: &str,
        start_with: Option<&str>,
        processes: &BTreeMap<String, Found>,
        dir: &Path,
    ) -> anyhow::Result<Guard> {
        let program = std::env::current_exe().context("cannot find this program itself")?;
        let mut command = Command::new(program);
        command.args(["drill", VERB, drill]);
        if let Some(with) = start_with {
            command.args(["--start-with", with]);
        }
        // Ctrl-C is for the controller alone.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("the guard over processes cannot be started")?;
        let kept = Kept {
            guard: child.id(),
            processes: processes.clone(),
        };
        let pipe = child.stdin.take();
        super::save(dir, FILE, &serde_json::to_string_pretty(&kept)?)?;
        Ok(Guard { child, pipe })
    }

    fn tell(&mut self, told: &GuardLine) -> anyhow::Result<()> {
        let line = serde_json::to_string(told)? + "\n";
        let pipe = self.pipe.as_mut();
        let pipe = pipe.context("the guard over processes has ended")?;
        pipe.write_all(line.as_bytes())
            .context("the guard over processes has ended")
    }

    /// Says that something is about to be done to a process.
    ///
    /// # Errors
    /// When the guard is gone: it must not be done then.
    pub fn on(&mut self, found: &Found, done: Done) -> anyhow::Result<()> {
        let found = found.clone();
        self.tell(&GuardLine::On { found, done })
    }

    /// Says that it was undone.
    pub fn off(&mut self, node: &str) {
        let node = node.to_owned();
        // A guard that is gone undoes nothing either.
        let _ = self.tell(&GuardLine::Off { node });
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // With nothing left to undo it ends at once, and nobody has to wait for it otherwise.
        drop(self.pipe.take());
        let _ = self.child.try_wait();
    }
}

/// The guard's own side: reads until the controller's end closes, and undoes what is left.
///
/// # Errors
/// When a line is none of a controller's, or something cannot be undone.
pub async fn keep(start_with: Option<&str>, lines: impl BufRead) -> anyhow::Result<()> {
    let left = read(lines)?;
    if left.is_empty() {
        return Ok(());
    }
    // As long as a fault in a node lives: until then another controller may take over.
    tokio::time::sleep(TTL).await;
    let mut wrong = Vec::new();
    for (node, (found, done)) in left {
        let undone = match done {
            Done::Stopped => found.signal(libc::SIGCONT),
            Done::Ended => match found.gone().await {
                Ok(()) => found.start(start_with),
                Err(why) => Err(why),
            },
        };
        wrong.extend(undone.err().map(|why| format!("{node}: {why:#}")));
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(anyhow!(wrong.join("; "))),
    }
}

fn read(lines: impl BufRead) -> anyhow::Result<BTreeMap<String, (Found, Done)>> {
    let mut left = BTreeMap::new();
    for line in lines.lines() {
        let line = match line {
            Ok(line) => line,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // What broke the pipe is the controller's end, too.
            Err(_) => break,
        };
        match serde_json::from_str(&line).context("no line of a drill's controller")? {
            GuardLine::On { found, done } => {
                left.insert(found.name.clone(), (found, done));
            }
            GuardLine::Off { node } => {
                left.remove(&node);
            }
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_undone_is_not_undone_again() {
        let found = |name: &str| Found::named(name);
        let told = [
            GuardLine::On {
                found: found("a"),
                done: Done::Stopped,
            },
            GuardLine::On {
                found: found("b"),
                done: Done::Ended,
            },
            GuardLine::Off { node: "a".into() },
        ];
        let lines = told.map(|one| serde_json::to_string(&one).unwrap() + "\n");
        let left = read(lines.concat().as_bytes()).unwrap();
        let left: Vec<(&String, Done)> =
            left.iter().map(|(node, (_, done))| (node, *done)).collect();
        assert_eq!(left, [(&"b".to_owned(), Done::Ended)]);
        assert!(read(&b"undo everything\n"[..]).is_err());
    }
}
