//! Whether this process itself runs: a task that should wake every 25 ms looks by how much it was
//! late. Who was not run (a machine that has no core to give, SIGSTOP, a frozen virtual machine) must
//! not accuse others when it wakes up: what they said meanwhile waits in its sockets.
//!
//! Two ways follow from that. A process that was *stopped*, once and for long, knows nothing of the
//! time in between: only time in which it was awake counts ([`Pulse::awake_since`]). One that is
//! *starved* stands still again and again, for tenths of a second; were that left out, it would need
//! three times as long to see that another is silent when it gets a third of the time it wants. So
//! such stalls count, but nobody is accused before a moment has passed behind the last one, in which
//! what came is read ([`Pulse::running_since`], [`Pulse::settled`]).
//!
//! What a machine is suspended for is not in it at all, since the monotonic clock leaves it out; for
//! that see [`crate::time`].

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// Between beats.
const BEAT: Duration = Duration::from_millis(25);
/// A beat that is later than this was a stall.
const LATE: Duration = Duration::from_millis(50);
/// A stall that is longer is a stop.
const STOP: Duration = Duration::from_secs(1);
/// For how long a stall tells of those to come.
const STALLS_TELL: Duration = Duration::from_secs(5);
/// Stalls that are remembered, and the longest that they count.
const STALLS_MAX: usize = 64;
const STALL_MAX: Duration = STOP;
/// Beats that one waits for in a process that stands still again and again.
const SETTLE_BEATS: u32 = 4;

/// This process's pulse. Clones share it; it ends with the last.
#[derive(Clone)]
pub(crate) struct Pulse {
    beats: Arc<Mutex<Beats>>,
}

struct Beats {
    last: Instant,
    /// All stalls together, and of these those that were stops.
    lost: Duration,
    stopped: Duration,
    /// How late a beat is, smoothed.
    lag: Duration,
    /// The last stalls, by their ends.
    stalls: VecDeque<(Instant, Duration)>,
}

/// A moment to count waking time from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    at: Instant,
    lost: Duration,
    stopped: Duration,
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

    /// For how long this process has been running since a moment, be it in slices; stops are left out.
    pub(crate) fn running_since(&self, moment: Moment) -> Duration {
        self.beats.lock().running_since(moment, Instant::now())
    }

    /// How long until what came while this process stood still is read, where it has just done so.
    pub(crate) fn unsettled(&self) -> Option<Duration> {
        let stalled = self.beats.lock().has_just_stalled(Instant::now());
        stalled.then_some(BEAT)
    }

    /// For how long this process was stopped, in all: standstills of more than a second.
    pub(crate) fn stopped(&self) -> Duration {
        self.beats.lock().moment(Instant::now()).stopped
    }

    /// By how much tasks run late, smoothed.
    pub(crate) fn lag(&self) -> Duration {
        self.beats.lock().lag
    }

    /// For how long this process stands still, as it has done again and again lately: the second
    /// longest of its last stalls, since one alone says nothing of the next.
    pub(crate) fn late(&self) -> Duration {
        self.beats.lock().late(Instant::now())
    }

    /// Waits, where this process has just stood still, until it has run for a moment: what came
    /// meanwhile is read by then, and who was late does not act on what was true before.
    pub(crate) async fn settled(&self) {
        for _ in 0..SETTLE_BEATS {
            if !self.beats.lock().has_just_stalled(Instant::now()) {
                return;
            }
            tokio::time::sleep(BEAT).await;
        }
    }

    /// `work`, unless it takes longer than `limit`; what came while this process stood still at the
    /// end of that is looked at first.
    pub(crate) async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut work = std::pin::pin!(work);
        if let Ok(done) = tokio::time::timeout(limit, &mut work).await {
            return Some(done);
        }
        tokio::select! {
            biased;
            done = &mut work => Some(done),
            () = self.settled() => None,
        }
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
            stopped: Duration::ZERO,
            lag: Duration::ZERO,
            stalls: VecDeque::new(),
        }
    }

    /// Notes a beat; when the next one is due.
    fn beat(&mut self, now: Instant) -> Instant {
        let stall = self.stall(now);
        if stall > Duration::ZERO {
            self.lost += stall;
            self.stopped += stop(stall);
            self.stalls.push_back((now, stall.min(STALL_MAX)));
            if self.stalls.len() > STALLS_MAX {
                self.stalls.pop_front();
            }
        }
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

    fn late(&self, now: Instant) -> Duration {
        let recent = |at: &Instant| now.saturating_duration_since(*at) < STALLS_TELL;
        let stalls = self.stalls.iter().filter(|(at, _)| recent(at));
        let (mut longest, mut second) = (Duration::ZERO, Duration::ZERO);
        for (_, stall) in stalls {
            second = second.max(*stall.min(&longest));
            longest = longest.max(*stall);
        }
        second
    }

    fn has_just_stalled(&self, now: Instant) -> bool {
        let ended = self.stalls.back().map(|(at, _)| *at);
        self.stall(now) > Duration::ZERO || ended.is_some_and(|at| now < at + BEAT)
    }

    fn moment(&self, now: Instant) -> Moment {
        let stall = self.stall(now);
        Moment {
            at: now,
            lost: self.lost + stall,
            stopped: self.stopped + stop(stall),
        }
    }

    fn running_since(&self, moment: Moment, now: Instant) -> Duration {
        let stopped = (self.stopped + stop(self.stall(now))).saturating_sub(moment.stopped);
        now.saturating_duration_since(moment.at)
            .saturating_sub(stopped)
    }

    fn awake_since(&self, moment: Moment, now: Instant) -> Duration {
        let lost = (self.lost + self.stall(now)).saturating_sub(moment.lost);
        now.saturating_duration_since(moment.at)
            .saturating_sub(lost)
    }
}

/// What of a stall was a stop.
fn stop(stall: Duration) -> Duration {
    if stall > STOP { stall } else { Duration::ZERO }
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
    fn who_runs_in_slices_counts_all_the_time_and_who_was_stopped_does_not() {
        let start = Instant::now();
        let mut beats = Beats::new(start);
        let moment = beats.moment(start);
        let mut now = start;
        for _ in 0..10 {
            now += BEAT + ms(200);
            beats.beat(now);
        }
        assert_eq!(beats.running_since(moment, now), ms(2_250));
        assert_eq!(beats.awake_since(moment, now), ms(250));
        now += BEAT + ms(30_000);
        assert_eq!(beats.running_since(moment, now), ms(2_275));
        beats.beat(now);
        assert_eq!(beats.running_since(moment, now), ms(2_275));
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_while_it_stood_still_is_looked_at_before_a_limit_ends() {
        let pulse = Pulse::start();
        tokio::task::yield_now().await;
        let never = std::future::pending::<()>();
        assert_eq!(pulse.within(ms(50), never).await, None);
        let (told, heard) = tokio::sync::oneshot::channel();
        let waits = tokio::spawn({
            let pulse = pulse.clone();
            async move { pulse.within(ms(100), heard).await }
        });
        tokio::task::yield_now().await;
        tokio::time::advance(ms(400)).await;
        tokio::time::sleep(BEAT / 2).await;
        told.send(7).unwrap();
        assert_eq!(waits.await.unwrap(), Some(Ok(7)));
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

    #[test]
    fn who_stood_still_twice_is_late_and_who_did_once_is_not() {
        let start = Instant::now();
        let mut beats = Beats::new(start);
        let mut now = start;
        let mut after = |beats: &mut Beats, late: u64| {
            now += BEAT + ms(late);
            beats.beat(now);
            now
        };
        let at = after(&mut beats, 30_000);
        assert_eq!(beats.late(at), ms(0), "it was stopped once");
        let at = after(&mut beats, 300);
        assert_eq!(beats.late(at), ms(300));
        after(&mut beats, 200);
        let at = after(&mut beats, 10);
        assert_eq!(beats.late(at), ms(300));
        assert_eq!(beats.late(at + STALLS_TELL - ms(300)), ms(200));
        assert_eq!(beats.late(at + STALLS_TELL), ms(0), "long ago");
        assert!(!beats.has_just_stalled(at + BEAT));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_just_stood_still_runs_for_a_moment_first() {
        let pulse = Pulse::start();
        tokio::task::yield_now().await;
        let began = Instant::now();
        pulse.settled().await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        tokio::time::advance(ms(400)).await;
        pulse.settled().await;
        assert!(began.elapsed() >= ms(400) + BEAT);
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
