//! Whether this process itself runs: a task that should wake every 25 ms looks by how much it was
//! late. Time in which it was not run (a machine that has no core to give, SIGSTOP, a frozen
//! virtual machine) is no time in which others were silent: who wakes up must not accuse them. What a
//! machine is suspended for is not in it at all, since the monotonic clock leaves it out; for that see
//! [`crate::time`].

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// Between beats.
const BEAT: Duration = Duration::from_millis(25);
/// A beat that is later than this was a stall.
const LATE: Duration = Duration::from_millis(50);

/// This process's pulse. Clones share it; it ends with the last.
#[derive(Clone)]
pub(crate) struct Pulse {
    beats: Arc<Mutex<Beats>>,
}

struct Beats {
    last: Instant,
    /// All stalls together.
    lost: Duration,
    /// How late a beat is, smoothed.
    lag: Duration,
}

/// A moment to count waking time from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    at: Instant,
    lost: Duration,
}

impl Pulse {
    /// Begins to beat, on the present runtime.
    pub(crate) fn start() -> Pulse {
        let beats = Arc::new(Mutex::new(Beats::new(Instant::now())));
        tokio::spawn(beat(Arc::downgrade(&beats)));
        Pulse { beats }
    }

    /// Now.
    pub(crate) fn now(&self) -> Moment {
        self.beats.lock().moment(Instant::now())
    }

    /// For how long this process has been running since a moment, stalls left out.
    pub(crate) fn awake_since(&self, moment: Moment) -> Duration {
        self.beats.lock().awake_since(moment, Instant::now())
    }

    /// By how much tasks run late, smoothed.
    pub(crate) fn lag(&self) -> Duration {
        self.beats.lock().lag
    }

    /// `work`, unless it takes longer than `limit` of waking time.
    pub(crate) async fn timeout<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let began = self.now();
        let mut work = std::pin::pin!(work);
        loop {
            let left = limit.saturating_sub(self.awake_since(began));
            match tokio::time::timeout(left, &mut work).await {
                Ok(done) => return Some(done),
                Err(_) if self.awake_since(began) >= limit => return None,
                Err(_) => {}
            }
        }
    }
}

async fn beat(beats: Weak<Mutex<Beats>>) {
    while let Some(beats) = beats.upgrade() {
        let next = beats.lock().beat(Instant::now());
        drop(beats);
        sleep_until(next).await;
    }
}

impl Beats {
    fn new(now: Instant) -> Beats {
        Beats {
            last: now,
            lost: Duration::ZERO,
            lag: Duration::ZERO,
        }
    }

    /// Notes a beat; when the next one is due.
    fn beat(&mut self, now: Instant) -> Instant {
        self.lost += self.stall(now);
        let late = now.saturating_duration_since(self.last + BEAT);
        self.lag = (self.lag * 15 + late.min(Duration::from_secs(1))) / 16;
        self.last = now;
        now + BEAT
    }

    /// The stall that `now` would end.
    fn stall(&self, now: Instant) -> Duration {
        let late = now.saturating_duration_since(self.last + BEAT);
        if late > LATE { late } else { Duration::ZERO }
    }

    fn moment(&self, now: Instant) -> Moment {
        Moment {
            at: now,
            lost: self.lost + self.stall(now),
        }
    }

    fn awake_since(&self, moment: Moment, now: Instant) -> Duration {
        let lost = (self.lost + self.stall(now)).saturating_sub(moment.lost);
        now.saturating_duration_since(moment.at)
            .saturating_sub(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn time_in_which_the_process_stood_still_does_not_count() {
        let start = Instant::now();
        let mut beats = Beats::new(start);
        let moment = beats.moment(start);
        beats.beat(start + ms(25));
        assert_eq!(beats.awake_since(moment, start + ms(40)), ms(40));
        // Stopped for 30 s; asked before the next beat has run, and after it.
        let woken = start + ms(30_050);
        assert_eq!(beats.awake_since(moment, woken), ms(50));
        beats.beat(woken);
        assert_eq!(beats.awake_since(moment, woken), ms(50));
        assert_eq!(beats.awake_since(moment, woken + ms(20)), ms(70));
        let later = beats.moment(woken);
        assert_eq!(beats.awake_since(later, woken + ms(25)), ms(25));
    }

    #[test]
    fn beats_that_are_a_little_late_make_lag_and_no_stall() {
        let start = Instant::now();
        let mut beats = Beats::new(start);
        let mut now = start;
        for _ in 0..200 {
            now += BEAT + ms(16);
            beats.beat(now);
        }
        assert!(beats.lag > ms(14) && beats.lag <= ms(16), "{:?}", beats.lag);
        assert_eq!(beats.lost, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_of_waking_time_ends_what_takes_longer() {
        let pulse = Pulse::start();
        assert_eq!(pulse.timeout(ms(100), async { 7 }).await, Some(7));
        let never = std::future::pending::<()>();
        let began = Instant::now();
        assert_eq!(pulse.timeout(ms(100), never).await, None);
        assert!(began.elapsed() >= ms(100));
    }
}
