//! Log lines of a node on their way to standard error, which must never stop the node: it may be full,
//! closed, or a pipe that nobody reads.
//!
//! Lines go through a bounded queue to a thread of their own. What does not fit into the queue, and what
//! cannot be written, is lost and counted; the next line that can be written behind it says how many were.
//! The last lines are kept in memory too, for `firebreak debug bundle`.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use server::telemetry::{self, Format};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

use crate::evidence::Kept;

/// Lines that wait to be written.
const LINES_MAX: usize = 4_096;
/// How often lost lines are looked for.
const LOST_LINES_CHECK_EVERY: Duration = Duration::from_secs(5);

/// The way of log lines; dropped, it waits a second at most until those that wait are written.
pub struct Lines {
    lost: Lost,
    kept: Kept,
    _worker: WorkerGuard,
}

/// How many lines were lost. Cheap to clone.
#[derive(Clone)]
pub struct Lost {
    unwritten: Arc<AtomicU64>,
    unqueued: ErrorCounter,
}

/// A writer whose faults are counted, and told to nobody.
struct Counting<W> {
    to: W,
    unwritten: Arc<AtomicU64>,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.to.write_all(line).is_err() {
            self.unwritten.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // Standard error has no buffer.
        Ok(())
    }
}

/// Sends lines on their way, and keeps them.
struct Tee {
    to: NonBlocking,
    kept: Kept,
}

impl Write for Tee {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.kept.add(line);
        self.to.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl Lost {
    /// Since the process started.
    pub fn lines(&self) -> u64 {
        let unqueued = u64::try_from(self.unqueued.dropped_lines()).unwrap_or(u64::MAX);
        self.unwritten
            .load(Ordering::Relaxed)
            .saturating_add(unqueued)
    }
}

impl Lines {
    /// How many were lost.
    pub fn lost(&self) -> Lost {
        self.lost.clone()
    }

    /// The last of them.
    pub fn kept(&self) -> Kept {
        self.kept.clone()
    }
}

/// Sends the logs of this process to standard error, and panics as [`end_on_panic`] says.
///
/// # Errors
/// As [`telemetry::install`].
pub fn install(level: &str, format: Format) -> Result<Lines, String> {
    let unwritten = Arc::new(AtomicU64::new(0));
    let counting = Counting {
        to: io::stderr(),
        unwritten: unwritten.clone(),
    };
    let (writer, worker) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES_MAX)
        .thread_name("log lines")
        .finish(counting);
    let lost = Lost {
        unwritten,
        unqueued: writer.error_counter(),
    };
    let kept = Kept::default();
    let lines = kept.clone();
    telemetry::install(level, format, move || Tee {
        to: writer.clone(),
        kept: lines.clone(),
    })?;
    Ok(Lines {
        lost,
        kept,
        _worker: worker,
    })
}

impl Lines {
    /// Says from time to time how many lines were lost. Needs a tokio runtime.
    pub fn tell_lost(&self) {
        let lost = self.lost.clone();
        tokio::spawn(async move {
            let mut told = 0;
            loop {
                tokio::time::sleep(LOST_LINES_CHECK_EVERY).await;
                let lines = lost.lines();
                if lines > told {
                    tracing::warn!(
                        lines = lines - told,
                        "log lines were lost: standard error could not be written, or not fast enough"
                    );
                    told = lines;
                }
            }
        });
    }
}

/// Has any panic of this process end it with `code`, but for those that [`server::contained`] answers:
/// a task that is just gone would leave a node that looks alive and does half of its work.
pub fn end_on_panic(code: u8) {
    std::panic::set_hook(Box::new(move |info| {
        let text = info.payload_as_str().unwrap_or("no text");
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        if server::contained::is_contained() {
            tracing::error!(%place, text, "a call panicked; its caller is told INTERNAL");
            return;
        }
        tracing::error!(%place, text, "a task panicked: the node stops at once");
        // The line is on its way on another thread, and this process must not hang on it.
        std::thread::sleep(Duration::from_millis(200));
        crate::exit::end(code);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many writes, and then none.
    struct Full(usize);

    impl Write for Full {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_cannot_be_written_is_counted_and_fails_nobody() {
        let unwritten = Arc::new(AtomicU64::new(0));
        let mut writer = Counting {
            to: Full(2),
            unwritten: unwritten.clone(),
        };
        for _ in 0..5 {
            assert_eq!(writer.write(b"line\n").unwrap(), 5);
        }
        assert_eq!(unwritten.load(Ordering::Relaxed), 3);
    }
}
