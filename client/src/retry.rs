//! One unary call: attempts on one node after another until the deadline, all with the same id.

use std::future::Future;
use std::time::Duration;

use proto::net::Channel;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Request, Response, Status};

use crate::builder::Client;
use crate::error::{Error, Failure, Fault, Refusal};
use crate::nodes::Tried;
use crate::options::{ATTEMPT_TIMEOUT_MAX, BACKOFF_MAX, BACKOFF_MIN, RETRY_AFTER_MAX};
use crate::random::Random;
use crate::silence;
use crate::stats::add;

/// One attempt of a call.
pub(crate) struct Attempt {
    pub(crate) channel: Channel,
    timeout: Duration,
}

impl Attempt {
    /// The request, with the attempt's deadline on it.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        request
    }
}

/// An answer, and what it took.
pub(crate) struct Answer<T> {
    pub(crate) value: T,
    pub(crate) attempts: u32,
    pub(crate) latency: Duration,
    pub(crate) at: Instant,
}

/// Waits between attempts: 10 ms, doubling to 200 ms, each between half of that and the whole.
#[derive(Default)]
pub(crate) struct Backoff(u32);

impl Backoff {
    pub(crate) fn next(&mut self, random: &Random) -> Duration {
        let wait = (BACKOFF_MIN * 2_u32.saturating_pow(self.0)).min(BACKOFF_MAX);
        self.0 = (self.0 + 1).min(16);
        random.jitter(wait)
    }

    pub(crate) fn reset(&mut self) {
        self.0 = 0;
    }
}

/// What a call that was sent and not answered may have left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing: it reads.
    None,
    /// Perhaps what it asked for.
    Perhaps,
}

impl Client {
    /// Calls `attempt` on nodes until one answers, an answer is final, or the deadline passes.
    pub(crate) async fn call<T, F, R>(&self, effect: Effect, attempt: F) -> Result<Answer<T>, Error>
    where
        F: Fn(Attempt) -> R,
        R: Future<Output = Result<Response<T>, Status>>,
    {
        let counters = &self.inner.counters;
        add(&counters.calls, 1);
        let outcome = self.attempts(effect, attempt).await;
        if outcome.is_err() {
            add(&counters.failed, 1);
        }
        outcome
    }

    async fn attempts<T, F, R>(&self, effect: Effect, attempt: F) -> Result<Answer<T>, Error>
    where
        F: Fn(Attempt) -> R,
        R: Future<Output = Result<Response<T>, Status>>,
    {
        let inner = &self.inner;
        let started = Instant::now();
        let deadline = started + self.deadline;
        let mut tried = Tried::default();
        let mut backoff = Backoff::default();
        let mut patience = inner.attempt_timeout;
        let mut attempts = 0;
        let mut maybe_done = false;
        loop {
            let lease = inner.nodes.choose(&tried);
            let begun = Instant::now();
            let until = deadline.min(begun + patience);
            attempts += 1;
            if attempts > 1 {
                add(&inner.counters.retries, 1);
            }
            let one = Attempt {
                channel: lease.channel.clone(),
                timeout: until - begun,
            };
            let work = silence::watched(&lease, attempt(one));
            let failure = match timeout_at(until, work).await {
                Ok(Some(Ok(response))) => {
                    let at = Instant::now();
                    lease.succeeded(Some(at - begun));
                    let latency = at - started;
                    return Ok(Answer {
                        value: response.into_inner(),
                        attempts,
                        latency,
                        at,
                    });
                }
                Ok(Some(Err(status))) => Failure::from_status(&status),
                Ok(None) => Failure::silent(begun.elapsed()),
                Err(_) => {
                    patience = (patience * 3 / 2).min(ATTEMPT_TIMEOUT_MAX);
                    Failure::silent(until - begun)
                }
            };
            // A caller in a hurry says nothing about the node.
            let hurried = until == deadline && until - begun < inner.attempt_timeout;
            if failure.fault == Fault::None {
                lease.succeeded(None);
            } else if !hurried {
                lease.failed(failure.fault);
            }
            if !failure.refusal.retryable() {
                let mut refusal = failure.refusal;
                refusal.outcome_unknown = maybe_done && !refusal.settles();
                return Err(Error::Refused(refusal));
            }
            maybe_done |= failure.sent && effect == Effect::Perhaps;
            tracing::debug!(node = %lease.address, why = %failure.refusal, attempts, "an attempt failed");
            tried.failed(&lease);
            drop(lease);

            let wait = if attempts == 1 && inner.nodes.has_fresh(&tried) {
                Duration::ZERO
            } else {
                let hint = failure
                    .refusal
                    .retry_after
                    .unwrap_or_default()
                    .min(RETRY_AFTER_MAX);
                backoff.next(&inner.random).max(hint)
            };
            if Instant::now() + wait >= deadline {
                return Err(too_late(maybe_done, attempts, failure.refusal));
            }
            if wait > Duration::ZERO {
                sleep(wait).await;
            }
            add(&inner.counters.failovers, 1);
        }
    }
}

fn too_late(outcome_unknown: bool, attempts: u32, last: Refusal) -> Error {
    Error::Deadline {
        outcome_unknown,
        attempts,
        last: Some(Box::new(last)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_from_10_ms_to_200_ms() {
        let random = Random::new(Some(1));
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..40).map(|_| backoff.next(&random)).collect();
        assert!(waits[0] <= BACKOFF_MIN && waits[0] >= BACKOFF_MIN / 2);
        assert!(
            waits[10..]
                .iter()
                .all(|wait| *wait >= BACKOFF_MAX / 2 && *wait <= BACKOFF_MAX)
        );
    }
}
