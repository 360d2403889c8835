//! When to make no more runs: the time is up, or somebody pressed Ctrl-C.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use firebreak_sim::interpose::real_elapsed;
use tokio::signal::unix::{SignalKind, signal};

/// Exit code of a second Ctrl-C.
const INTERRUPTED: i32 = 128 + 2;

/// Whether to go on.
#[derive(Clone)]
pub(crate) struct Stop {
    interrupted: Arc<AtomicBool>,
    until: Option<Duration>,
}

impl Stop {
    /// Goes on for so many minutes, or without end; Ctrl-C and SIGTERM stop it, twice at once.
    pub(crate) fn after(minutes: Option<f64>) -> Stop {
        let budget = minutes.map(|minutes| Duration::try_from_secs_f64(minutes * 60.0));
        // More than a Duration holds is for ever.
        let budget = budget.and_then(Result::ok);
        let stop = Stop {
            interrupted: Arc::default(),
            until: budget.and_then(|budget| real_elapsed().checked_add(budget)),
        };
        let interrupted = stop.interrupted.clone();
        let watching = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                let (Ok(mut int), Ok(mut term)) = (
                    signal(SignalKind::interrupt()),
                    signal(SignalKind::terminate()),
                ) else {
                    return;
                };
                loop {
                    tokio::select! {
                        _ = int.recv() => {}
                        _ = term.recv() => {}
                    }
                    if interrupted.swap(true, Ordering::Relaxed) {
                        process::exit(INTERRUPTED);
                    }
                }
            });
        };
        // Without it Ctrl-C ends the command without a summary, as it would have anyway.
        let _ = thread::Builder::new().spawn(watching);
        stop
    }

    /// Whether somebody wants it to end now.
    pub(crate) fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Why no more runs begin, for people.
    pub(crate) fn why(&self) -> &'static str {
        match self.interrupted() {
            true => "interrupted",
            false => "the time was up",
        }
    }

    /// Whether no more runs are to begin.
    pub(crate) fn is_over(&self) -> bool {
        self.interrupted() || self.until.is_some_and(|until| real_elapsed() >= until)
    }
}
