//! Keeps a stream of appends on some node: opens it, takes in answers, and moves it when the node
//! is silent, breaks off, or cannot reach a quorum.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use http::uri::PathAndQuery;
use model::limits;
use proto::v1;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::Shared;
use super::frame::{Frame, Outgoing};
use super::window::Summary;
use crate::builder::Inner;
use crate::error::{Failure, Fault, Refusal};
use crate::nodes::{Lease, Tried};
use crate::options::{MOVE_FORGET, MOVE_INTERVAL_MAX, MOVE_INTERVAL_MIN, STUCK_AFTER, TICK};
use crate::retry::Backoff;
use crate::silence::{self, ASK_AFTER};
use crate::stats::add;

/// How one stream to one node ended.
enum Ended {
    /// Closed, and everything answered.
    Done,
    /// The node is left; whether it had answered anything.
    Left {
        fault: Fault,
        worked: bool,
        retry_after: Duration,
    },
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
        let lease = inner.nodes.choose(&tried);
        let stream = Session {
            shared: &shared,
            inner: &inner,
            lease: &lease,
        };
        let Ended::Left {
            fault,
            worked,
            retry_after,
        } = stream.run(&mut moves).await
        else {
            break;
        };
        lease.failed(fault);
        if worked {
            tried.forget();
            backoff.reset();
            failures = 0;
        }
        tried.failed(&lease);
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

    /// Begins a new stream: everything unanswered is to be sent again.
    fn begin(&self) -> u64 {
        let mut state = self.state.lock();
        state.epoch += 1;
        state.waker = None;
        state.window.rewind();
        state.epoch
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

/// One stream to one node.
struct Session<'a> {
    shared: &'a Arc<Shared>,
    inner: &'a Arc<Inner>,
    lease: &'a Lease,
}

impl Session<'_> {
    async fn run(&self, moves: &mut Moves) -> Ended {
        let patience = self.inner.attempt_timeout;
        let mut answers = match self
            .shared
            .ticking(self.inner, timeout(patience, self.open()))
            .await
        {
            Ok(Ok(answers)) => answers,
            Ok(Err(status)) => return self.broke(&Failure::from_status(&status), false),
            Err(_) => return self.broke(&Failure::silent(patience), false),
        };
        let mut worked = false;
        let mut heard = Instant::now();
        let mut asking = None;
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
                return Ended::Done;
            }
            let tick = Instant::now() + TICK;
            let wake = next_wake.map_or(tick, |wake| wake.min(tick));
            tokio::select! {
                biased;
                answer = answers.message() => match answer {
                    Ok(Some(frame)) => {
                        let now = Instant::now();
                        (heard, asking) = (now, None);
                        let summary = self.shared.answer(self.inner, frame.results, now);
                        if summary.acked > 0 && !worked {
                            worked = true;
                            self.lease.succeeded(None);
                        }
                        if summary.unavailable > 0 && moves.may(now) {
                            return left(Fault::Refused, worked);
                        }
                    }
                    Ok(None) => return left(Fault::None, worked),
                    Err(status) => return self.broke(&Failure::from_status(&status), worked),
                },
                there = silence::answer(&mut asking), if asking.is_some() => {
                    asking = None;
                    if !there {
                        return self.broke(&Failure::silent(heard.elapsed()), worked);
                    }
                    heard = Instant::now();
                }
                () = self.shared.changed.notified(), if empty => heard = Instant::now(),
                () = sleep_until(wake), if !empty => {
                    let now = Instant::now();
                    self.shared.expire(self.inner, now);
                    let oldest = self.shared.state.lock().window.oldest_in_flight();
                    let Some(oldest) = oldest else { continue };
                    let silent = now - heard.max(oldest);
                    if silent >= patience {
                        return self.broke(&Failure::silent(patience), worked);
                    }
                    if silent >= ASK_AFTER && asking.is_none() {
                        asking = Some(silence::ask(self.lease));
                    }
                    if now - oldest >= STUCK_AFTER && moves.may(now) {
                        return left(Fault::Refused, worked);
                    }
                }
            }
        }
    }

    async fn open(&self) -> Result<Streaming<v1::AppendStreamResponse>, Status> {
        let outgoing = Outgoing {
            shared: self.shared.clone(),
            epoch: self.shared.begin(),
            inner: self.inner.clone(),
        };
        let mut service = tonic::client::Grpc::new(self.lease.channel.clone())
            .max_decoding_message_size(limits::FRAME_BYTES_MAX);
        service.ready().await.map_err(Status::from_error)?;
        let path = PathAndQuery::from_static("/firebreak.v1.Messages/AppendStream");
        let codec: ProstCodec<Frame, v1::AppendStreamResponse> = ProstCodec::default();
        Ok(service
            .streaming(Request::new(outgoing), path, codec)
            .await?
            .into_inner())
    }

    fn broke(&self, failure: &Failure, worked: bool) -> Ended {
        tracing::debug!(node = %self.lease.address, why = %failure.refusal, "a stream of appends broke");
        if !failure.refusal.retryable() {
            self.shared.refuse(self.inner, &failure.refusal);
        }
        let retry_after = failure.refusal.retry_after.unwrap_or_default();
        Ended::Left {
            fault: failure.fault,
            worked,
            retry_after,
        }
    }
}

fn left(fault: Fault, worked: bool) -> Ended {
    Ended::Left {
        fault,
        worked,
        retry_after: Duration::ZERO,
    }
}
