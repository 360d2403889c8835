//! A process for each run, seen from both sides: a process makes one seeded run, and one that hangs
//! or dies takes no other with it.
//!
//! ```text
//!  Workers::run ── Order, a line of JSON ──► stdin of `firebreak-sim worker`
//!               ◄── Made, JSON ──────────── its stdout
//! ```
//!
//! The worker ends when its stdin does, so that none is left behind a command that was killed.

use std::io::{self, BufRead as _, Read, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{self, Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use firebreak_sim::interpose::real_elapsed;
use firebreak_sim::{Outcome, Plan, Verdict};
use serde::{Deserialize, Serialize};

use super::here::{self, Made};
use super::stop::Stop;
use super::{Ended, Failure};

/// Seconds that a run may take, unless the command line says otherwise. The longest stories take
/// half a minute alone.
pub(crate) const LIMIT_SECONDS: u64 = 600;

/// How often it is looked whether a worker is to be killed.
const KILL_CHECK_EVERY: Duration = Duration::from_millis(50);
/// What is kept of a worker's last words, bytes.
const WORDS_BYTES: usize = 2_000;
/// Exit code of a worker whose parent went away.
const ORPHANED: i32 = 4;
/// Signals that tell of somebody outside, not of the product.
const FROM_OUTSIDE: [i32; 2] = [libc::SIGKILL, libc::SIGTERM];

#[derive(Serialize, Deserialize)]
struct Order {
    plan: Plan,
    mutant: Option<String>,
}

/// A run that a worker made, or could not end.
pub(crate) struct Done {
    /// What it came to.
    pub outcome: Outcome,
    /// What it took of a core; nothing is known of a run that did not end.
    pub cpu_seconds: f64,
    /// Whether the worker died or was killed over it.
    pub lost: bool,
}

/// Starts workers.
#[derive(Clone)]
pub(crate) struct Workers {
    exe: PathBuf,
    limit: Duration,
    stop: Stop,
    /// Whether runs end with the time that `stop` gives, and not only when it is interrupted.
    punctual: bool,
}

impl Workers {
    /// Of this very program; each may take so long, and none goes on when `stop` is interrupted.
    pub(crate) fn new(limit_seconds: u64, stop: Stop) -> Result<Workers, Failure> {
        let exe = std::env::current_exe()
            .map_err(|error| Failure::Failed(format!("where this program is: {error}")))?;
        Ok(Workers {
            exe,
            limit: Duration::from_secs(limit_seconds),
            stop,
            punctual: false,
        })
    }

    /// The same, whose runs end when the time is up, too.
    pub(crate) fn punctual(self) -> Workers {
        Workers {
            punctual: true,
            ..self
        }
    }

    /// Makes a run in a process of its own; none when it was interrupted, or the time was up.
    pub(crate) fn run(&self, plan: &Plan, mutant: Option<&str>) -> Result<Option<Done>, Failure> {
        let began = real_elapsed();
        let failed = |error: io::Error| Failure::Failed(format!("a process for a run: {error}"));
        let order = serde_json::to_vec(&Order {
            plan: plan.clone(),
            mutant: mutant.map(str::to_owned),
        });
        let mut order =
            order.map_err(|error| Failure::Failed(format!("a plan as JSON: {error}")))?;
        order.push(b'\n');
        // In a group of its own, so that Ctrl-C reaches this process only and it can sum up.
        let mut child = Command::new(&self.exe)
            .arg("worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let answer = gather(child.stdout.take(), usize::MAX).map_err(failed)?;
        let words = gather(child.stderr.take(), WORDS_BYTES).map_err(failed)?;
        let mut stdin = child.stdin.take();
        if let Some(stdin) = &mut stdin {
            // A worker that is gone already says more by how it ended than by this error.
            let _ = stdin.write_all(&order).and_then(|()| stdin.flush());
        }
        let ended = self.wait(&mut child, &answer, began).map_err(failed)?;
        drop(stdin);
        let words = words.recv().unwrap_or_default();
        let words = String::from_utf8_lossy(&words).trim().to_owned();
        let wall = real_elapsed().saturating_sub(began);
        let lost = |verdict, why| Some(lost(plan, verdict, why, wall));
        match ended {
            Waited::Interrupted => Ok(None),
            Waited::TooLong => {
                let why = format!("killed: not done after {} s", self.limit.as_secs());
                Ok(lost(Verdict::GoalMissed, why))
            }
            Waited::Answered(status, answer) if status.success() => {
                let made: Made = serde_json::from_slice(&answer).map_err(|error| {
                    Failure::Failed(format!("a worker's answer: {error} {words}"))
                })?;
                Ok(Some(Done {
                    outcome: made.outcome,
                    cpu_seconds: made.cpu_seconds,
                    lost: false,
                }))
            }
            Waited::Answered(status, _) => match status.signal() {
                Some(signal) if FROM_OUTSIDE.contains(&signal) => {
                    let why = format!("killed from outside with signal {signal}");
                    Ok(lost(Verdict::GoalMissed, why))
                }
                Some(signal) => {
                    let why = format!("the process died of signal {signal}: {words}");
                    Ok(lost(Verdict::Broken, why))
                }
                None => Err(Failure::Failed(format!("a worker ended: {words}"))),
            },
        }
    }

    fn wait(
        &self,
        child: &mut Child,
        answer: &Receiver<Vec<u8>>,
        began: Duration,
    ) -> io::Result<Waited> {
        loop {
            match answer.recv_timeout(KILL_CHECK_EVERY) {
                Ok(answer) => return Ok(Waited::Answered(child.wait()?, answer)),
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(Waited::Answered(child.wait()?, Vec::new()));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            let interrupted = match self.punctual {
                true => self.stop.is_over(),
                false => self.stop.interrupted(),
            };
            if interrupted || real_elapsed().saturating_sub(began) > self.limit {
                child.kill()?;
                child.wait()?;
                return Ok(match interrupted {
                    true => Waited::Interrupted,
                    false => Waited::TooLong,
                });
            }
        }
    }
}

enum Waited {
    Answered(ExitStatus, Vec<u8>),
    TooLong,
    Interrupted,
}

/// Reads a pipe to its end on a thread, keeping the first bytes of it, so that it never fills.
fn gather(
    pipe: Option<impl Read + Send + 'static>,
    bytes_max: usize,
) -> io::Result<Receiver<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel();
    let reading = move || {
        let mut kept = Vec::new();
        if let Some(mut pipe) = pipe {
            let mut first = (&mut pipe).take(bytes_max as u64);
            // What was read until an error is all that there is.
            let _ = first.read_to_end(&mut kept);
            let _ = io::copy(&mut pipe, &mut io::sink());
        }
        let _ = sender.send(kept);
    };
    thread::Builder::new().spawn(reading)?;
    Ok(receiver)
}

/// What is known of a run that did not end.
fn lost(plan: &Plan, verdict: Verdict, why: String, wall: Duration) -> Done {
    let outcome = Outcome {
        stopped: Some(why),
        wall_seconds: wall.as_secs_f64(),
        ..Outcome::unseen(plan.clone(), verdict)
    };
    Done {
        outcome,
        cpu_seconds: 0.0,
        lost: true,
    }
}

/// The worker's side.
pub(crate) fn live() -> Ended {
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    read.map_err(|error| Failure::Usage(format!("no order: {error}")))?;
    let order: Order = serde_json::from_str(&line)
        .map_err(|error| Failure::Usage(format!("not an order: {error}")))?;
    let watching = || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        process::exit(ORPHANED);
    };
    let watch = thread::Builder::new().spawn(watching);
    watch.map_err(|error| Failure::Failed(format!("a thread: {error}")))?;
    let made = here::make(&order.plan, order.mutant.as_deref())?;
    let mut out = io::stdout().lock();
    let written = serde_json::to_writer(&mut out, &made).map_err(io::Error::from);
    written
        .and_then(|()| out.flush())
        .map_err(|error| Failure::Failed(format!("the answer: {error}")))?;
    Ok(ExitCode::SUCCESS)
}
