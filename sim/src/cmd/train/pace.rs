//! Virtual time goes on as fast as real time, or so many times as fast.

use std::io::BufRead as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use firebreak_sim::interpose::real_elapsed;

use super::super::stop::Stop;

/// What whoever is trained types to end it.
const DONE: &str = "done";

/// Says when whoever is trained is done.
#[derive(Clone)]
pub(super) struct Done {
    typed: Arc<AtomicBool>,
    stop: Stop,
}

impl Done {
    /// Listens to standard input, and for Ctrl-C.
    pub(super) fn listen() -> Done {
        let typed = Arc::new(AtomicBool::new(false));
        let said = typed.clone();
        let listening = move || {
            let lines = std::io::stdin().lock().lines();
            for line in lines.map_while(Result::ok) {
                if line.trim().eq_ignore_ascii_case(DONE) {
                    return said.store(true, Ordering::Relaxed);
                }
            }
        };
        // Without it Ctrl-C ends it all the same.
        let _ = thread::Builder::new().spawn(listening);
        Done {
            typed,
            stop: Stop::after(None),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.typed.load(Ordering::Relaxed) || self.stop.interrupted()
    }
}

/// The pace of a run.
pub(super) struct Pace {
    speed: f64,
    done: Done,
    began: Option<Duration>,
    /// By how much virtual time was behind at most.
    pub late: Duration,
    /// When whoever is trained was done, microseconds of the load.
    pub done_at_us: Option<u64>,
    /// How far the load is, microseconds.
    pub at_us: u64,
}

impl Pace {
    /// So many virtual seconds to a real one.
    pub(super) fn new(speed: f64, done: Done) -> Pace {
        Pace {
            speed,
            done,
            began: None,
            late: Duration::ZERO,
            done_at_us: None,
            at_us: 0,
        }
    }

    /// Virtual seconds to a real one.
    pub(super) fn speed(&self) -> f64 {
        self.speed
    }

    /// Waits until real time is as far as the load is.
    pub(super) fn wait(&mut self, load_us: u64) {
        self.at_us = load_us;
        if self.done_at_us.is_some() {
            return;
        }
        if self.done.is_done() {
            self.done_at_us = Some(load_us);
            return;
        }
        let now = real_elapsed();
        let began = *self.began.get_or_insert(now);
        let due = began + Duration::from_micros(load_us).div_f64(self.speed);
        match due.checked_sub(now) {
            Some(early) => thread::sleep(early),
            None => self.late = self.late.max(now - due),
        }
    }
}
