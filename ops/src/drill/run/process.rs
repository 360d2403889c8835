//! Real signals to a node's process, where it runs on this machine.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use client::v1::GetStatusResponse;
use firebreak::cluster::process::send_signal;
use serde::{Deserialize, Serialize};

use super::guard::Done;

/// How long a process may take to end as asked.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A node's process as it was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Found {
    /// Its id.
    pub pid: u32,
    /// Of the node.
    pub name: String,
    words: Vec<String>,
    folder: PathBuf,
    output: Option<PathBuf>,
}

/// The process of a node that says how it is.
///
/// # Errors
/// Why it is not one of this machine, or not that node's.
pub fn of(status: &GetStatusResponse) -> Result<Found, String> {
    let pid = status.stats.as_ref().map_or(0, |stats| stats.pid);
    let pid = u32::try_from(pid).ok().filter(|pid| *pid > 1);
    let pid = pid.ok_or("it does not tell its process")?;
    let elsewhere = |error| format!("process {pid} is not one of this machine: {error}");
    let words = words_of(pid).map_err(elsewhere)?;
    let folder = fs::read_link(format!("/proc/{pid}/cwd")).map_err(elsewhere)?;
    let config = words.iter().position(|word| word == "--config");
    let config = config.and_then(|at| words.get(at + 1));
    let config = config.filter(|_| words.iter().any(|word| word == "serve"));
    let config = config.ok_or(format!(
        "process {pid} here is no `firebreak serve --config FILE`"
    ))?;
    let told = server::Config::load(&folder.join(config)).map_err(|error| error.to_string())?;
    if told.name != status.node_name {
        return Err(format!("process {pid} here is the node {}", told.name));
    }
    let output = fs::read_link(format!("/proc/{pid}/fd/2")).ok();
    Ok(Found {
        pid,
        name: status.node_name.clone(),
        words,
        folder,
        output: output.filter(|file| file.is_file()),
    })
}

/// The command line of a process.
///
/// # Errors
/// When there is none.
pub fn words_of(pid: u32) -> std::io::Result<Vec<String>> {
    let words = fs::read(format!("/proc/{pid}/cmdline"))?;
    let words = words
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty());
    Ok(words
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect())
}

impl Found {
    /// One for tests, of no process.
    #[cfg(test)]
    pub fn named(name: &str) -> Found {
        Found {
            pid: 0,
            name: name.to_owned(),
            words: Vec::new(),
            folder: PathBuf::new(),
            output: None,
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: libc::c_int) -> anyhow::Result<()> {
        let what = || format!("{} (process {})", self.name, self.pid);
        send_signal(self.pid, signal).with_context(what)
    }

    /// Waits until it is gone.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn gone(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.runs() {
            if began.elapsed() > STOP_LIMIT {
                return Err(anyhow!("{} (process {}) does not end", self.name, self.pid));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Whether it runs: one that nobody has waited for yet does not.
    fn runs(&self) -> bool {
        self.state()
            .is_some_and(|state| state != 'Z' && state != 'X')
    }

    /// Whether what was done to it still holds.
    pub fn is(&self, done: Done) -> bool {
        match done {
            Done::Stopped => matches!(self.state(), Some('T' | 't')),
            Done::Ended => !self.runs(),
        }
    }

    fn state(&self) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }

    /// Starts it: by `with`, in which `{node}` is its name, or as it was started before.
    ///
    /// # Errors
    /// When that cannot be started.
    pub fn start(&self, with: Option<&str>) -> anyhow::Result<()> {
        let mut command = match with {
            Some(with) => {
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(with.replace("{node}", &self.name));
                shell
            }
            None => {
                let (program, args) = self.words.split_first().context("no command line")?;
                let mut again = Command::new(program);
                again.args(args);
                again
            }
        };
        let output = |append: &PathBuf| fs::File::options().append(true).open(append).ok();
        let log = self.output.as_ref().and_then(output);
        let to = |file: Option<fs::File>| file.map_or_else(Stdio::null, Stdio::from);
        let second = log.as_ref().and_then(|file| file.try_clone().ok());
        // What comes of it is seen by what the node says.
        std::os::unix::process::CommandExt::process_group(&mut command, 0)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(to(second))
            .stderr(to(log))
            .spawn()
            .with_context(|| format!("{} cannot be started", self.name))?;
        Ok(())
    }
}
