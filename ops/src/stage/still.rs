//! A standstill: each worker of the runtime is given a task that does not let go of it.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;

/// Holds up the workers of a runtime, and whatever else runs on it with them.
pub struct Still {
    runtime: Handle,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Until when the workers are held.
    until: Option<Instant>,
    /// The standstill that goes on, if any; each has a number.
    number: u64,
}

impl Still {
    /// Of a runtime.
    pub fn of(runtime: Handle) -> Still {
        Still {
            runtime,
            shared: Arc::default(),
        }
    }

    /// Holds them until then, or lets go. They go on by themselves when that time has come.
    pub fn until(&self, until: Option<Instant>) {
        let until = until.filter(|until| *until > Instant::now());
        let mut state = self.shared.state.lock();
        let held = state.until.is_some_and(|until| until > Instant::now());
        state.until = until;
        match until {
            None => drop(self.shared.changed.notify_all()),
            Some(_) if held => {}
            Some(_) => {
                state.number += 1;
                for _ in 0..self.runtime.metrics().num_workers() {
                    let (shared, number) = (self.shared.clone(), state.number);
                    drop(self.runtime.spawn(async move { shared.hold(number) }));
                }
            }
        }
    }
}

impl Shared {
    /// Returns when the standstill of this number is over. Blocks its thread on purpose.
    fn hold(&self, number: u64) {
        let mut state = self.state.lock();
        while state.number == number {
            match state.until {
                Some(until) if until > Instant::now() => {
                    self.changed.wait_until(&mut state, until);
                }
                Some(_) | None => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;

    /// Longer than anything here takes, and more than a standstill that ends by itself.
    const LONG: Duration = Duration::from_secs(60);

    /// A runtime on which two tasks count without end.
    fn counting() -> (tokio::runtime::Runtime, Arc<AtomicU64>) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .build()
            .unwrap();
        let count = Arc::<AtomicU64>::default();
        for _ in 0..2 {
            let count = count.clone();
            runtime.spawn(async move {
                loop {
                    count.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            });
        }
        (runtime, count)
    }

    fn goes_on(count: &AtomicU64) {
        let before = count.load(Ordering::Relaxed);
        while count.load(Ordering::Relaxed) < before + 10 {
            std::thread::yield_now();
        }
    }

    /// Waits until nothing counts any more: so many looks in a row saw the same.
    fn stands(count: &AtomicU64) {
        let mut before = count.load(Ordering::Relaxed);
        let mut same = 0;
        while same < 50 {
            std::thread::sleep(Duration::from_millis(1));
            let now = count.load(Ordering::Relaxed);
            same = if now == before { same + 1 } else { 0 };
            before = now;
        }
    }

    #[test]
    fn all_workers_stand_still_and_go_on_when_they_are_let_go() {
        let (runtime, count) = counting();
        let still = Still::of(runtime.handle().clone());
        goes_on(&count);
        for _ in 0..3 {
            still.until(Some(Instant::now() + LONG));
            stands(&count);
            // Renewed: it is the same one.
            still.until(Some(Instant::now() + LONG));
            stands(&count);
            still.until(None);
            goes_on(&count);
        }
        runtime.shutdown_background();
    }

    #[test]
    fn a_standstill_ends_by_itself() {
        let (runtime, count) = counting();
        let still = Still::of(runtime.handle().clone());
        still.until(Some(Instant::now() + Duration::from_millis(300)));
        stands(&count);
        goes_on(&count);
        runtime.shutdown_background();
    }
}
