//! One unary call: attempts on one node after another until the deadline, all with the same id. What
//! is slow is asked of a second node while the first may still answer: a node that is there and owes an
//! answer may be a round away from it, and the next one begins anew.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use proto::net::Channel;
use proto::{CLASS, CLIENT, GOING_AWAY};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status};

use crate::builder::{Class, Client, Inner};
use crate::error::{Error, Failure, Fault, Refusal};
use crate::nodes::{Lease, Tried};
use crate::options::{
    ATTEMPT_TIMEOUT_MAX, BACKOFF_EMPTY, BACKOFF_MAX, BACKOFF_MIN, RETRY_AFTER_MAX,
};
use crate::random::Random;
use crate::silence;
use crate::stats::add;

/// What this client calls itself.
const NAME: &str = concat!("rust/", env!("CARGO_PKG_VERSION"));

/// One attempt of a call.
pub(crate) struct Attempt {
    pub(crate) channel: Channel,
    timeout: Duration,
    class: Option<Class>,
}

impl Attempt {
    /// The request, with the attempt's deadline on it.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        if let Some(class) = self.class {
            let class = MetadataValue::from_static(class.name());
            request.metadata_mut().insert(CLASS, class);
        }
        named(request)
    }
}

/// The request, which says what this client is.
pub(crate) fn named<T>(mut request: Request<T>) -> Request<T> {
    let name = MetadataValue::from_static(NAME);
    request.metadata_mut().insert(CLIENT, name);
    request
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
    /// The same, under no condition: attempts that are on their way at once are told the same.
    Unconditional,
}

impl Inner {
    /// The wait before another attempt, at least as long as the last one's answer asked for: longer
    /// when the budget is used up, and then not so long that the attempt would have nothing of the
    /// time that is `left`.
    pub(crate) fn pause(&self, backoff: &mut Backoff, asked: Duration, left: Duration) -> Duration {
        let wait = backoff.next(&self.random).max(asked.min(RETRY_AFTER_MAX));
        if self.budget.spend() {
            return wait;
        }
        wait.max(self.random.jitter(BACKOFF_EMPTY).min(left / 2))
    }
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
        let class = self.inner.class;
        let attempt = |one: Attempt| attempt(Attempt { class, ..one });
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
        let mut call = Call::new(effect, deadline, inner.attempt_timeout);
        let (mut late, mut ended) = (None, None);
        loop {
            call.attempts += u32::from(ended.is_none());
            add(&inner.counters.retries, usize::from(call.attempts > 1));
            let until = deadline.min(Instant::now() + call.patience);
            let tried = &call.tried;
            let ran = match (ended.take(), effect) {
                (Some(ran), _) => ran,
                (None, Effect::None) => self.hedged(tried, until, &attempt).await,
                (None, Effect::Perhaps) => ran(inner.nodes.choose(tried), until, &attempt).await,
                (None, Effect::Unconditional) => {
                    let lease = inner.nodes.choose(tried);
                    let slow = lease.again();
                    let now = Box::pin(ran(lease, deadline, &attempt));
                    beside(&mut late, now, slow, until).await
                }
            };
            let failure = match ran.outcome {
                Ok(response) => {
                    let at = self.answered(effect, &ran.lease, ran.begun);
                    return Ok(Answer {
                        value: response.into_inner(),
                        attempts: call.attempts,
                        latency: at - started,
                        at,
                    });
                }
                Err(failure) => failure,
            };
            // A caller in a hurry says nothing about the node.
            let hurried = until == deadline && until - ran.begun < inner.attempt_timeout;
            let refusal = call.failed(&ran.lease, failure, hurried)?;
            drop(ran.lease);

            let wait = call.wait(inner, &refusal);
            if Instant::now() + wait >= deadline {
                return Err(too_late(call.maybe_done, call.attempts, refusal));
            }
            if wait > Duration::ZERO
                && let First::Late(ran) = first(&mut late, sleep(wait)).await
            {
                ended = Some(ran);
                continue;
            }
            add(&inner.counters.failovers, 1);
        }
    }

    /// Notes what an answer that came now says about its node; gives now.
    fn answered(&self, effect: Effect, lease: &Lease, begun: Instant) -> Instant {
        let at = Instant::now();
        lease.succeeded(Some(at - begun));
        self.inner.budget.earn(1);
        if effect == Effect::None {
            self.inner.read_latencies.note(at - begun);
        }
        at
    }

    /// One attempt of a read; after what 19 of 20 take, a second one on another node beside it. The
    /// first good answer counts.
    async fn hedged<T, F, R>(&self, tried: &Tried, until: Instant, attempt: &F) -> Ran<T>
    where
        F: Fn(Attempt) -> R,
        R: Future<Output = Result<Response<T>, Status>>,
    {
        let inner = &self.inner;
        let lease = inner.nodes.choose(tried);
        let mut others = tried.clone();
        others.failed(&lease);
        let slow = lease.again();
        let mut first = std::pin::pin!(ran(lease, until, attempt));
        let Some(after) = inner.read_latencies.hedge_after() else {
            return first.await;
        };
        tokio::select! {
            biased;
            done = &mut first => return done,
            () = sleep(after) => {}
        }
        if !inner.nodes.has_fresh(&others) || !inner.budget.spend_spare() {
            return first.await;
        }
        add(&inner.counters.hedges, 1);
        let mut second = std::pin::pin!(ran(inner.nodes.choose(&others), until, attempt));
        tokio::select! {
            biased;
            done = &mut first => match done.is_final() {
                true => done,
                false => second.await,
            },
            done = &mut second => match done.is_final() {
                // Three of these in a row, and the slow node is left alone.
                true => {
                    slow.failed(Fault::Refused);
                    done
                }
                false => first.await,
            },
        }
    }
}

/// What the attempts of a call have come to so far.
struct Call {
    effect: Effect,
    deadline: Instant,
    tried: Tried,
    backoff: Backoff,
    /// How long the next attempt may take.
    patience: Duration,
    attempts: u32,
    /// An attempt that was not answered may have done what it asked for.
    maybe_done: bool,
}

impl Call {
    fn new(effect: Effect, deadline: Instant, patience: Duration) -> Call {
        Call {
            effect,
            deadline,
            tried: Tried::default(),
            backoff: Backoff::default(),
            patience,
            attempts: 0,
            maybe_done: false,
        }
    }

    /// Notes an attempt that failed, and what that says about its node, unless the caller was
    /// `hurried`. Gives why it failed, when another attempt may do better.
    fn failed(&mut self, lease: &Lease, failure: Failure, hurried: bool) -> Result<Refusal, Error> {
        if failure.silent {
            self.patience = (self.patience * 3 / 2).min(ATTEMPT_TIMEOUT_MAX);
        }
        if failure.fault == Fault::None {
            lease.succeeded(None);
        } else if !hurried {
            lease.failed(failure.fault);
        }
        let mut refusal = failure.refusal;
        if !refusal.retryable() {
            refusal.outcome_unknown = self.maybe_done && !refusal.settles();
            return Err(Error::Refused(refusal));
        }
        self.maybe_done |= failure.sent && self.effect != Effect::None;
        let attempts = self.attempts;
        tracing::debug!(node = %lease.address, why = %refusal, attempts, "an attempt failed");
        self.tried.ended(lease, failure.fault);
        Ok(refusal)
    }

    /// How long to wait before the next attempt: not at all for the second one, on another node.
    fn wait(&mut self, inner: &Inner, refusal: &Refusal) -> Duration {
        if self.attempts == 1 && inner.nodes.has_fresh(&self.tried) {
            return Duration::ZERO;
        }
        let hint = refusal.retry_after.unwrap_or_default();
        let left = self.deadline.saturating_duration_since(Instant::now());
        inner.pause(&mut self.backoff, hint, left)
    }
}

/// An attempt and its end.
struct Ran<T> {
    lease: Lease,
    begun: Instant,
    outcome: Result<Response<T>, Failure>,
}

impl<T> Ran<T> {
    /// Whether another attempt would be told the same.
    fn is_final(&self) -> bool {
        let retryable = |failure: &Failure| failure.refusal.retryable();
        !self.outcome.as_ref().is_err_and(retryable)
    }
}

/// What ended first: a late attempt, with what is final, or something else.
#[allow(
    clippy::large_enum_variant,
    reason = "there is one at a time, and it is moved once"
)]
enum First<T, W> {
    Late(Ran<T>),
    Done(W),
}

/// Waits for `work`, or for what a late attempt has to say. One that only asks for another is forgotten.
async fn first<T, A, W>(late: &mut Option<Pin<Box<A>>>, work: W) -> First<T, W::Output>
where
    A: Future<Output = Ran<T>>,
    W: Future,
{
    let mut work = std::pin::pin!(work);
    loop {
        let Some(running) = late else {
            return First::Done(work.await);
        };
        let ran = tokio::select! {
            biased;
            done = &mut work => return First::Done(done),
            ran = running => ran,
        };
        *late = None;
        if ran.is_final() {
            return First::Late(ran);
        }
    }
}

/// An attempt, until it ends or is slow. One that is slow goes on beside the next; of two that are slow
/// the older one is given up.
async fn beside<T, A>(
    late: &mut Option<Pin<Box<A>>>,
    mut now: Pin<Box<A>>,
    slow: Lease,
    until: Instant,
) -> Ran<T>
where
    A: Future<Output = Ran<T>>,
{
    let begun = Instant::now();
    match first(late, timeout_at(until, &mut now)).await {
        First::Late(ran) | First::Done(Ok(ran)) => return ran,
        First::Done(Err(_)) => {}
    }
    *late = Some(now);
    Ran {
        lease: slow,
        begun,
        outcome: Err(Failure::silent(begun.elapsed())),
    }
}

async fn ran<T, F, R>(lease: Lease, until: Instant, attempt: &F) -> Ran<T>
where
    F: Fn(Attempt) -> R,
    R: Future<Output = Result<Response<T>, Status>>,
{
    let begun = Instant::now();
    let timeout = until.saturating_duration_since(begun);
    let one = Attempt {
        channel: lease.channel.clone(),
        timeout,
        class: None,
    };
    let work = silence::watched(&lease, attempt(one));
    let outcome = match timeout_at(until, work).await {
        Ok(Some(Ok(answer))) => {
            if answer.metadata().contains_key(GOING_AWAY) {
                lease.failed(Fault::Leaving);
            }
            Ok(answer)
        }
        Ok(Some(Err(status))) => Err(Failure::from_status(&status)),
        Ok(None) => Err(Failure::silent(begun.elapsed())),
        Err(_) => Err(Failure::silent(timeout)),
    };
    Ran {
        lease,
        begun,
        outcome,
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
