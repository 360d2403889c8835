//! One `firebreak serve` child: started so that it cannot outlive its parent by accident.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

/// Lines of a log shown when its node died.
const TAIL_LINES: usize = 30;
/// Bytes of a log looked at for them.
const TAIL_BYTES: i64 = 16 * 1024;
/// How often a child is asked whether it has ended.
const POLL: Duration = Duration::from_millis(5);

type Job = (Command, Sender<io::Result<Child>>);

/// The kernel sends a child its death signal when the *thread* that started it ends, so all are
/// started by one thread that lives as long as the process.
#[allow(
    clippy::expect_used,
    reason = "without its thread no node could be started at all"
)]
static STARTER: LazyLock<Sender<Job>> = LazyLock::new(|| {
    let (jobs, queue) = channel::<Job>();
    std::thread::Builder::new()
        .name("starter".into())
        .spawn(move || {
            for (mut command, answer) in queue {
                // A caller who is gone wants no answer.
                let _ = answer.send(command.spawn());
            }
        })
        .expect("a thread can be started");
    jobs
});

/// A running child.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `command` with stdout and stderr appended to `log`, in a process group of its own
    /// (so that Ctrl-C reaches only the parent). Unless `outlive`, the kernel kills it when this
    /// process ends, however that happens.
    ///
    /// # Errors
    /// When the log cannot be opened or the command cannot be started.
    pub fn start(mut command: Command, log: &Path, outlive: bool) -> io::Result<Process> {
        let output = File::options().create(true).append(true).open(log)?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0);
        if !outlive {
            die_with_parent(&mut command);
        }
        let (answer, started) = channel();
        let gone = || io::Error::other("the thread that starts processes has ended");
        STARTER.send((command, answer)).map_err(|_| gone())?;
        Ok(Process {
            child: started.recv().map_err(|_| gone())??,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, once it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: libc::c_int) -> io::Result<()> {
        send_signal(self.pid(), signal)
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// `TimedOut` when it has not within `limit`; it then still runs.
    pub fn wait(&mut self, limit: Duration) -> io::Result<ExitStatus> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if started.elapsed() >= limit {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("process {} had not ended after {limit:?}", self.pid()),
                ));
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Lets it run on when this value goes.
    pub fn release(self) {
        // Without running Drop; the handle holds no resource but the pid.
        std::mem::forget(self);
    }
}

/// Sends `signal` to the process `pid`.
///
/// # Errors
/// When there is no such process or it is another user's.
#[allow(
    unsafe_code,
    reason = "kill takes two numbers and touches no memory of ours"
)]
pub fn send_signal(pid: u32, signal: libc::c_int) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "not a process id"))?;
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(target_os = "linux")]
#[allow(
    unsafe_code,
    reason = "the closure only makes two system calls, both safe after fork"
)]
fn die_with_parent(command: &mut Command) {
    let parent = std::process::id();
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before the line above.
            if u32::try_from(libc::getppid()) != Ok(parent) {
                return Err(io::Error::from(io::ErrorKind::BrokenPipe));
            }
            Ok(())
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_: &mut Command) {}

/// The last lines of a log, for people.
pub fn tail_of(log: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = i64::try_from(fs::metadata(log)?.len()).unwrap_or(i64::MAX);
        file.seek(SeekFrom::End(-length.min(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        Ok(lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n"))
    };
    read().unwrap_or_else(|e| format!("(cannot read {}: {e})", log.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_a_child_prints_is_in_the_tail_of_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let script = "i=0; while [ $i -lt 50 ]; do echo line $i; i=$((i+1)); done; exit 3";
        let mut process = Process::start(shell(script), &log, false).unwrap();
        assert_eq!(
            process.wait(Duration::from_secs(20)).unwrap().code(),
            Some(3)
        );
        let tail = tail_of(&log);
        assert!(
            tail.ends_with("line 49") && tail.starts_with("line 20"),
            "{tail}"
        );
    }

    #[test]
    fn a_child_is_killed_when_its_handle_goes() {
        let dir = tempfile::tempdir().unwrap();
        let process = Process::start(shell("sleep 600"), &dir.path().join("log"), false).unwrap();
        let pid = process.pid();
        assert!(send_signal(pid, 0).is_ok());
        drop(process);
        assert!(send_signal(pid, 0).is_err());
    }

    #[test]
    fn a_child_that_stays_is_reported_after_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let mut process =
            Process::start(shell("sleep 600"), &dir.path().join("log"), false).unwrap();
        let error = process.wait(Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
