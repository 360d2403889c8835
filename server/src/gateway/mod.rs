//! From a conversation to its shard's leader, and again until it worked or the time is up.
//!
//! Any node takes any call. A command keeps its ids through all attempts, so that whatever became
//! of an earlier one, there is one effect and one answer (promise E).

pub mod budget;
pub mod retry;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use model::cluster::ClusterState;
use model::command::{Answer, Reason, Reply};
use model::id::{NodeId, ShardId, Slot};
use model::limits;
use model::trace::Context;
use proto::GOING_AWAY;
use raft::{Node, ProposeError};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tonic::Response;
use tonic::metadata::MetadataValue;

use crate::convert::Moment;
use crate::deadline::{Call, Deadline};
use crate::error::Failure;
use crate::events::{Event, Told};
use crate::follow::Hub;
use crate::read::CUT_OFF_MAX;
use crate::sight::traces::Open;
use crate::sight::traffic::Traffic;
use crate::telemetry;
use crate::tenants::{Settings, Tenancy};
use budget::Budget;
use retry::{Next, Retry};

/// The longest one attempt may take, so that a leader that fell silent without anyone's noticing
/// does not use up the caller's time.
const ATTEMPT_MAX: Duration = Duration::from_secs(2);

/// What all services share.
pub struct Gateway {
    /// The node below.
    pub raft: Arc<Node>,
    /// Set while clients should go elsewhere: the node drains and leads nothing, or it stops.
    pub stopping: watch::Receiver<bool>,
    /// Calls and streams being answered; a graceful stop waits for them.
    pub calls: TaskTracker,
    /// What callers ask, and how it goes.
    pub traffic: Traffic,
    /// Who follows which conversations.
    pub follows: Hub,
    /// What tenants may do.
    pub tenancy: Tenancy,
    view: watch::Receiver<Arc<ClusterState>>,
    served_by: String,
    random: AtomicU64,
    budget: Budget,
    told: Told,
}

/// Where a command goes.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// To whichever shard holds the slot.
    Slot(Slot),
    /// To this one.
    Shard(ShardId),
}

impl Gateway {
    /// In front of `raft`; `dc` is this node's, and `told` hears of each command's end.
    /// `tenants` is what the node is configured with about them.
    pub fn new(
        raft: Arc<Node>,
        dc: &str,
        seed: u64,
        stopping: watch::Receiver<bool>,
        (told, tenants): (Told, Settings),
    ) -> Arc<Gateway> {
        let served_by = format!("{} ({dc})", raft.identity().name);
        let view = raft.view();
        Arc::new(Gateway {
            raft,
            stopping,
            calls: TaskTracker::new(),
            traffic: Traffic::default(),
            follows: Hub::default(),
            tenancy: Tenancy::new(tenants),
            view,
            served_by,
            random: AtomicU64::new(seed),
            budget: Budget::new(Instant::now()),
            told,
        })
    }

    /// "name (dc)" of this node.
    pub fn served_by(&self) -> &str {
        &self.served_by
    }

    /// An answer, which says so if its caller should go elsewhere from now on.
    pub fn answer<T>(&self, message: T) -> Response<T> {
        let mut response = Response::new(message);
        if *self.stopping.borrow() {
            let yes = MetadataValue::from_static("1");
            response.metadata_mut().insert(GOING_AWAY, yes);
        }
        response
    }

    /// What most clocks say, Unix milliseconds; 0 until that is known, when nothing counts as expired.
    pub fn now_ms(&self) -> u64 {
        self.raft.agreed_ms().unwrap_or(0)
    }

    /// By what it is judged now whether messages of a tenant have expired.
    pub fn moment(&self, tenant: &str) -> Moment {
        Moment {
            now_ms: self.now_ms(),
            tenant_ttl_ms: self.view.borrow().tenant_ttl_ms(tenant),
        }
    }

    /// Whether clients should go elsewhere: an operator drains this node, or it stops.
    pub fn sends_away(&self) -> bool {
        *self.stopping.borrow() || self.view.borrow().is_draining(self.me())
    }

    /// This node.
    pub fn me(&self) -> NodeId {
        self.raft.identity().node
    }

    /// The cluster as this node sees it now.
    pub fn view(&self) -> Arc<ClusterState> {
        self.view.borrow().clone()
    }

    /// The shard that holds a slot, as far as this node knows.
    pub fn shard_of(&self, slot: Slot) -> Option<ShardId> {
        self.view
            .borrow()
            .shard_of(slot)
            .map(|shard| ShardId(shard.id))
    }

    /// A call begins; what is open is told of when it is traced.
    pub fn trace(&self, name: &'static str, call: &Call) -> Option<Open> {
        self.trace_of(name, call.trace)
    }

    /// The same, of a call that brings this trace.
    pub fn trace_of(&self, name: &'static str, brings: Option<Context>) -> Option<Open> {
        let brings = (self.me().0, brings);
        self.told.traces().begin(name, brings, || self.random())
    }

    /// Whether this node has heard of its cluster.
    pub fn is_founded(&self) -> bool {
        self.view.borrow().epoch > 0
    }

    /// A number for jitter (splitmix64); nothing depends on nobody's guessing it.
    pub fn random(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self
            .random
            .fetch_add(STEP, Ordering::Relaxed)
            .wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Has `command` decided by the leader of its shard, trying until it worked or the time is up.
    ///
    /// # Errors
    /// [`Failure::DeadlineExceeded`] when it may have been done; any other says that it was not.
    pub async fn propose(
        self: Arc<Self>,
        target: Target,
        command: Bytes,
        deadline: Deadline,
    ) -> Result<Reply, Failure> {
        self.propose_traced(target, command, deadline, None).await
    }

    /// As [`Gateway::propose`], for a call that may be traced.
    ///
    /// # Errors
    /// The same.
    pub async fn propose_traced(
        self: Arc<Self>,
        target: Target,
        command: Bytes,
        deadline: Deadline,
        open: Option<&Open>,
    ) -> Result<Reply, Failure> {
        let began = Instant::now();
        let answered = self.decided(target, command, deadline, open).await;
        let shard = match target {
            Target::Shard(shard) => Some(shard),
            Target::Slot(slot) => self.shard_of(slot),
        };
        self.told.tell(&Event::Asked {
            shard,
            took: began.elapsed(),
            failed: answered.as_ref().err().map(Failure::reason),
        });
        answered
    }

    async fn decided(
        &self,
        target: Target,
        command: Bytes,
        deadline: Deadline,
        open: Option<&Open>,
    ) -> Result<Reply, Failure> {
        let mut retry = Retry::default();
        let mut attempts = 0;
        loop {
            let remaining = deadline.remaining();
            let shard = match target {
                Target::Shard(shard) => Some(shard),
                Target::Slot(slot) => self.shard_of(slot),
            };
            if remaining.is_zero() {
                return Err(self.explain(shard, retry.out_of_time()));
            }
            let next = match shard {
                None => retry.without_map(remaining, self.random(), self.is_founded()),
                Some(shard) => {
                    let part = open.map(|open| open.part("attempt", self.me().0, attempts));
                    attempts += 1;
                    let trace = part.as_ref().map(Open::context);
                    let command = (command.clone(), trace);
                    let outcome = settled(self.attempt(shard, command, remaining).await);
                    if let Some(part) = part {
                        let failed = outcome.as_ref().err().map(ToString::to_string);
                        part.end_with(Some(shard), failed);
                    }
                    match outcome {
                        Ok(reply) => {
                            self.budget.earn();
                            return Ok(reply);
                        }
                        Err(error) => {
                            tracing::debug!(%shard, %error, "an attempt failed");
                            let paid = self.budget.spend(Instant::now());
                            let next =
                                retry.after(error, deadline.remaining(), self.random(), paid);
                            if self.raft.lacks_quorum(shard) {
                                return Err(self.cut_off(shard, retry.out_of_time()));
                            }
                            next
                        }
                    }
                }
            };
            match next {
                Next::Now => {}
                Next::After(wait) => match shard {
                    // A new leader is no reason to wait any longer.
                    Some(shard) => self.raft.other_leader(shard, wait).await,
                    None => tokio::time::sleep(wait).await,
                },
                Next::Fail(failure) => return Err(self.explain(shard, failure)),
            }
        }
    }

    /// One attempt: in full while the shard's quorum may be there, else a short one.
    async fn attempt(
        &self,
        shard: ShardId,
        command: (Bytes, Option<Context>),
        remaining: Duration,
    ) -> Result<Reply, ProposeError> {
        if self.raft.lacks_quorum(shard) {
            let short = remaining.min(CUT_OFF_MAX);
            return self.raft.propose_traced(shard, command, short).await;
        }
        let limit = remaining.min(ATTEMPT_MAX);
        let attempt = self.raft.propose_traced(shard, command, limit);
        tokio::select! {
            biased;
            outcome = attempt => outcome,
            () = self.raft.quorum_lost(shard) => {
                Err(ProposeError::Unknown("the quorum was lost on the way".to_owned()))
            }
        }
    }

    /// What a caller is told who cannot be served from here, unless it must hear something worse.
    fn cut_off(&self, shard: ShardId, failure: Failure) -> Failure {
        match failure {
            Failure::LeaderChanging(_) | Failure::NoQuorum(_) => {
                Failure::NoQuorum(self.lost_quorum(shard))
            }
            told => told,
        }
    }

    /// What people call a node.
    pub fn name_of(&self, node: NodeId) -> String {
        let view = self.view();
        let known = view.node(node);
        known.map_or_else(|| node.to_string(), |known| known.name.clone())
    }

    /// A text for people, in which nodes and shards have ids.
    pub fn words(&self, text: &str) -> String {
        let view = self.view();
        let names = view.nodes.iter().map(|node| (node.id, node.name.clone()));
        telemetry::named(text, &names.collect())
    }

    /// How many replicas of `shard` can be reached, and how many there are.
    fn reached(&self, shard: ShardId) -> (usize, usize) {
        let view = self.view();
        let replicas = view.replicas_of(shard);
        let up = |id: &&u64| self.raft.reachable(NodeId(**id));
        (replicas.iter().filter(up).count(), replicas.len())
    }

    /// Why `shard` is not served from here: for people.
    pub fn lost_quorum(&self, shard: ShardId) -> String {
        let (reached, of) = self.reached(shard);
        format!(
            "{} has not heard a majority of the {of} replicas of {} for {} ms; {reached} can be \
             reached",
            self.served_by,
            shard.told(),
            limits::QUORUM_LACK_MS_MAX
        )
    }

    /// A leader that is awaited in vain is one thing, and one that cannot be elected another.
    fn explain(&self, shard: Option<ShardId>, failure: Failure) -> Failure {
        let failure = match failure {
            Failure::NoQuorum(why) => Failure::NoQuorum(self.words(&why)),
            Failure::LeaderChanging(why) => Failure::LeaderChanging(self.words(&why)),
            other => other,
        };
        let (Some(shard), Failure::LeaderChanging(_)) = (shard, &failure) else {
            return failure;
        };
        let (reached, of) = self.reached(shard);
        if reached > of / 2 {
            return failure;
        }
        Failure::NoQuorum(format!(
            "{reached} of {of} replicas of {} can be reached from {}",
            shard.told(),
            self.served_by
        ))
    }
}

/// A stale map may also be found out by the state machine; then nothing was done either.
fn settled(outcome: Result<Reply, ProposeError>) -> Result<Reply, ProposeError> {
    if let Ok(reply) = &outcome
        && let Some(Answer::Refused(refusal)) = &reply.answer
        && refusal.reason() == Reason::WrongShard
    {
        return Err(ProposeError::WrongShard);
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_for_a_stale_map_counts_as_an_attempt_without_effect() {
        let stale = Reply::refused(Reason::WrongShard, "not mine");
        assert_eq!(settled(Ok(stale)), Err(ProposeError::WrongShard));
        let other = Reply::refused(Reason::SeqMismatch, "no");
        assert_eq!(settled(Ok(other.clone())), Ok(other));
    }
}
