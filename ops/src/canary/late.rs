//! How late this machine is in running what is due: gaps include that, whoever causes it.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Between two looks how late this process wakes.
const LATENESS_CHECK_EVERY: Duration = Duration::from_millis(2);

/// A thread that sleeps and looks how much too late it is woken, until this is dropped.
pub struct Probe {
    wanted: Arc<()>,
    thread: JoinHandle<Duration>,
}

impl Probe {
    /// Begins to look.
    pub fn start() -> Probe {
        let wanted = Arc::new(());
        let still = Arc::downgrade(&wanted);
        let thread = thread::spawn(move || {
            let mut worst = Duration::ZERO;
            while still.strong_count() > 0 {
                let began = Instant::now();
                thread::sleep(LATENESS_CHECK_EVERY);
                worst = worst.max(began.elapsed().saturating_sub(LATENESS_CHECK_EVERY));
            }
            worst
        });
        Probe { wanted, thread }
    }

    /// The longest that it was late since it began.
    pub fn stop(self) -> Duration {
        drop(self.wanted);
        self.thread.join().unwrap_or_default()
    }
}
