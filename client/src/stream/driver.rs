//! Keeps a stream of appends on some node: opens it, takes in answers, and moves it when the node
//! is silent, breaks off, goes away, or cannot reach a quorum.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use futures::future::BoxFuture;
use proto::v1;
use tokio::time::{Instant, sleep_until};

use super::Shared;
use super::live::{self, Failed, Live, Opening};
use super::window::Summary;
use crate::builder::Inner;
use crate::error::{Failure, Fault, Refusal};
use crate::nodes::{Lease, Tried};
use crate::options::{
    MOVE_FORGET, MOVE_INTERVAL_MAX, MOVE_INTERVAL_MIN, NEARER_INTERVAL, STUCK_AFTER, TICK,
};
use crate::retry::Backoff;
use crate::silence::{self, ASK_AFTER};
use crate::stats::add;

/// A node is left.
struct Left {
    lease: Lease,
    fault: Fault,
    /// Whether it had answered anything.
    worked: bool,
    retry_after: Duration,
}

/// When a stream may move although nothing forces it to: at once, then ever more slowly while
/// moving does not help.
struct Moves {
    last: Option<Instant>,
    interval: Duration,
}

impl Moves {
    fn may(&mut self, now: Instant) -> bool {
        let since = self.last.map(|last| now - last);
        if since.is_none_or(|since| since > MOVE_FORGET) {
            self.interval = Duration::ZERO;
        }
        if since.is_some_and(|since| since < self.interval) {
            return false;
        }
        self.last = Some(now);
        self.interval = (self.interval * 2).clamp(MOVE_INTERVAL_MIN, MOVE_INTERVAL_MAX);
        true
    }
}

/// Runs until the stream is closed and everything in it is answered.
pub(crate) async fn run(shared: Arc<Shared>, inner: Arc<Inner>) {
    let mut tried = Tried::default();
    let mut backoff = Backoff::default();
    let mut moves = Moves {
        last: None,
        interval: Duration::ZERO,
    };
    let mut failures = 0_u32;
    while shared.work().await {
        let opening = live::open(
            shared.clone(),
            inner.clone(),
            inner.nodes.choose(&tried),
            shared.begin(),
        );
        let ended = match shared.ticking(&inner, opening).await {
            Ok(live) => Session::new(&shared, &inner, live).run(&mut moves).await,
            Err(failed) => broke(&shared, &inner, failed.lease, &failed.failure, false),
        };
        let Some(Left {
            lease,
            fault,
            worked,
            retry_after,
        }) = ended
        else {
            break;
        };
        lease.failed(fault);
        if worked {
            tried.forget();
            backoff.reset();
            failures = 0;
        }
        tried.ended(&lease, fault);
        drop(lease);
        failures += 1;
        add(&inner.counters.failovers, 1);
        if failures > 1 || !inner.nodes.has_fresh(&tried) {
            let wait = inner.pause(&mut backoff, retry_after, Duration::MAX);
            shared.ticking(&inner, tokio::time::sleep(wait)).await;
        }
    }
}

impl Shared {
    /// Waits until there is something to send; false when there never will be.
    async fn work(&self) -> bool {
        loop {
            {
                let state = self.state.lock();
                if !state.window.is_empty() {
                    return true;
                }
                if state.closed {
                    return false;
                }
            }
            self.changed.notified().await;
        }
    }

    /// Waits for `work` while deadlines go on passing.
    async fn ticking<T>(&self, inner: &Inner, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = tokio::time::sleep(TICK) => self.expire(inner, Instant::now()),
            }
        }
    }

    /// Begins a new stream at once: everything unanswered is to be sent again.
    fn begin(&self) -> u64 {
        let mut state = self.state.lock();
        state.last_epoch += 1;
        state.epoch = state.last_epoch;
        (state.waker, state.next_waker) = (None, None);
        state.window.rewind();
        state.epoch
    }

    /// A number for a stream whose turn is to come.
    fn reserve(&self) -> u64 {
        let mut state = self.state.lock();
        state.last_epoch += 1;
        state.last_epoch
    }

    /// From now on messages go out on stream `epoch`; what is in flight stays with the one before.
    fn switch(&self, epoch: u64) {
        let wakers = {
            let mut state = self.state.lock();
            state.epoch = epoch;
            [state.waker.take(), state.next_waker.take()]
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// What stream `epoch` owes is to be sent again.
    fn recall(&self, epoch: u64) {
        let waker = {
            let mut state = self.state.lock();
            if state.window.rewind_one(epoch) {
                state.waker.take()
            } else {
                None
            }
        };
        waker.into_iter().for_each(Waker::wake);
    }

    fn answer(&self, inner: &Inner, results: Vec<v1::AppendResult>, now: Instant) -> Summary {
        let (summary, waker) = {
            let mut state = self.state.lock();
            (state.window.answer(results, now), state.waker.take())
        };
        self.count(inner, summary);
        // Answers let the next messages of their conversations go.
        waker.into_iter().for_each(Waker::wake);
        summary
    }

    fn expire(&self, inner: &Inner, now: Instant) {
        let (failed, waker) = {
            let mut state = self.state.lock();
            let failed = state.window.expire(now);
            let woken = state.window.wake(now) || failed > 0;
            (failed, if woken { state.waker.take() } else { None })
        };
        self.count(
            inner,
            Summary {
                failed,
                ..Summary::default()
            },
        );
        waker.into_iter().for_each(Waker::wake);
    }

    fn refuse(&self, inner: &Inner, refusal: &Refusal) {
        let failed = self
            .state
            .lock()
            .window
            .refuse_in_flight(refusal, Instant::now());
        self.count(
            inner,
            Summary {
                failed,
                ..Summary::default()
            },
        );
    }

    fn count(&self, inner: &Inner, summary: Summary) {
        self.room.add_permits(summary.freed());
        add(&inner.counters.acked, summary.acked);
        inner.budget.earn(summary.acked);
        add(&inner.counters.deduplicated, summary.deduplicated);
        add(&inner.counters.failed, summary.failed);
    }
}

/// The stream in use, and those before and behind it.
struct Session<'a> {
    shared: &'a Arc<Shared>,
    inner: &'a Arc<Inner>,
    live: Live,
    /// Whether it has answered anything.
    worked: bool,
    /// When it was heard of last.
    heard: Instant,
    /// When it was looked for a nearer node last, or moved.
    settled: Instant,
    /// When to look for what is late.
    next_look: Instant,
    /// Whether its node is there, when that is being asked.
    asking: Option<BoxFuture<'static, bool>>,
    /// The streams before, while they owe answers, and until when that is waited for. More than one
    /// where nodes send their clients on and on, as those of a data center that drains do.
    old: Vec<(Live, Instant)>,
    /// The stream that takes over when it is open.
    next: Option<Opening>,
}

impl<'a> Session<'a> {
    fn new(shared: &'a Arc<Shared>, inner: &'a Arc<Inner>, live: Live) -> Session<'a> {
        Session {
            shared,
            inner,
            live,
            worked: false,
            heard: Instant::now(),
            settled: Instant::now(),
            next_look: Instant::now() + TICK,
            asking: None,
            old: Vec::new(),
            next: None,
        }
    }

    /// Serves until the node is left; `None` when everything is done.
    async fn run(mut self, moves: &mut Moves) -> Option<Left> {
        loop {
            let (next_wake, empty, closed) = {
                let state = self.shared.state.lock();
                (
                    state.window.next_wake(),
                    state.window.is_empty(),
                    state.closed,
                )
            };
            if empty && closed {
                return None;
            }
            let wake = next_wake.map_or(self.next_look, |wake| wake.min(self.next_look));
            tokio::select! {
                biased;
                // First, so that what is late is seen however much else there is.
                () = sleep_until(wake), if !empty => {
                    if let Some(left) = self.look(moves) {
                        return left;
                    }
                }
                answer = self.live.answers.message() => match answer {
                    Ok(Some(frame)) => if self.heard(frame, moves) {
                        return Some(self.left(Fault::Refused));
                    },
                    Ok(None) => return Some(self.left(Fault::None)),
                    Err(status) => return self.broke(&Failure::from_status(&status)),
                },
                (of, answer) = live::owed(&mut self.old), if !self.old.is_empty() => match answer {
                    Some(results) => drop(self.shared.answer(self.inner, results, Instant::now())),
                    None => self.forget(of),
                },
                opened = live::opened(&mut self.next), if self.next.is_some() => self.turn(opened),
                there = silence::answer(&mut self.asking), if self.asking.is_some() => {
                    self.asking = None;
                    if !there {
                        return self.broke(&Failure::silent(self.heard.elapsed()));
                    }
                    self.heard = Instant::now();
                }
                () = self.shared.changed.notified(), if empty => self.heard = Instant::now(),
            }
        }
    }

    /// Takes a frame in; true when another node may do better.
    fn heard(&mut self, frame: v1::AppendStreamResponse, moves: &mut Moves) -> bool {
        let now = Instant::now();
        (self.heard, self.asking) = (now, None);
        let summary = self.shared.answer(self.inner, frame.results, now);
        if summary.acked > 0 && !self.worked {
            self.worked = true;
            self.live.lease.succeeded(None);
        }
        if frame.going_away {
            self.live.lease.failed(Fault::Leaving);
            self.look_elsewhere();
        }
        summary.unavailable > 0 && moves.may(now)
    }

    /// Opens a stream to another node while this one goes on.
    fn look_elsewhere(&mut self) {
        let mut tried = Tried::default();
        tried.left(&self.live.lease);
        let lease = self.inner.nodes.choose(&tried);
        // With nobody better, the node says when it is over.
        if self.next.is_none() && !lease.is_leaving() {
            let (shared, inner) = (self.shared.clone(), self.inner.clone());
            let epoch = self.shared.reserve();
            self.next = Some(Box::pin(live::open(shared, inner, lease, epoch)));
        }
    }

    /// The next stream's turn, if it is open.
    fn turn(&mut self, opened: Result<Live, Box<Failed>>) {
        self.next = None;
        match opened {
            Ok(next) => {
                let (from, to) = (&self.live.lease.address, &next.lease.address);
                tracing::debug!(%from, %to, "a stream of appends moves");
                self.shared.switch(next.epoch);
                let leaves = self.live.lease.is_leaving();
                add(&self.inner.counters.failovers, usize::from(leaves));
                let now = Instant::now();
                let before = std::mem::replace(&mut self.live, next);
                self.old.push((before, now + self.inner.attempt_timeout));
                (self.worked, self.heard, self.asking) = (false, now, None);
                self.settled = now;
            }
            Err(failed) => failed.lease.failed(failed.failure.fault),
        }
    }

    /// What an old stream still owed is sent again.
    fn forget(&mut self, at: usize) {
        let (old, _) = self.old.swap_remove(at);
        self.shared.recall(old.epoch);
    }

    /// Looks for what is late; why the node is left, if it is.
    fn look(&mut self, moves: &mut Moves) -> Option<Option<Left>> {
        let now = Instant::now();
        self.next_look = now + TICK;
        self.shared.expire(self.inner, now);
        while let Some(at) = self.overdue(now) {
            self.forget(at);
        }
        if self.live.lease.is_leaving() {
            // The node that was tried before could not be reached.
            self.look_elsewhere();
        }
        if self.settled + NEARER_INTERVAL <= now && self.is_calm() {
            self.settled = now;
            if self.inner.nodes.has_nearer(&self.live.lease) {
                self.look_elsewhere();
            }
        }
        let oldest = self.oldest_of(self.live.epoch)?;
        let silent = now - self.heard.max(oldest);
        if silent >= self.inner.attempt_timeout {
            return Some(self.broke(&Failure::silent(silent)));
        }
        if silent >= ASK_AFTER && self.asking.is_none() {
            self.asking = Some(silence::ask(&self.live.lease));
        }
        if now - oldest >= STUCK_AFTER && moves.may(now) {
            return Some(Some(self.left(Fault::Refused)));
        }
        None
    }

    /// An old stream that is no longer waited for.
    fn overdue(&self, now: Instant) -> Option<usize> {
        self.old.iter().position(|(old, until)| {
            let oldest = self.oldest_of(old.epoch);
            *until <= now || oldest.is_some_and(|oldest| now - oldest >= STUCK_AFTER)
        })
    }

    /// Whether no move to another stream is under way.
    fn is_calm(&self) -> bool {
        self.next.is_none() && self.old.is_empty()
    }

    fn oldest_of(&self, stream: u64) -> Option<Instant> {
        self.shared.state.lock().window.oldest_in_flight(stream)
    }

    fn left(&self, fault: Fault) -> Left {
        Left {
            lease: self.live.lease.again(),
            fault,
            worked: self.worked,
            retry_after: Duration::ZERO,
        }
    }

    fn broke(&self, failure: &Failure) -> Option<Left> {
        let lease = self.live.lease.again();
        broke(self.shared, self.inner, lease, failure, self.worked)
    }
}

fn broke(
    shared: &Shared,
    inner: &Inner,
    lease: Lease,
    failure: &Failure,
    worked: bool,
) -> Option<Left> {
    tracing::debug!(node = %lease.address, why = %failure.refusal, "a stream of appends broke");
    if !failure.refusal.retryable() {
        shared.refuse(inner, &failure.refusal);
    }
    Some(Left {
        lease,
        fault: failure.fault,
        worked,
        retry_after: failure.refusal.retry_after.unwrap_or_default(),
    })
}
