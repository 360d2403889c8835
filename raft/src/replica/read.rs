//! LINEARIZABLE reads at a leader (promise L); what other replicas ask of it is in [`crate::tasks::read_index`].
//!
//! ```text
//!  read ─► confirm (shared) ─► look at the state ─► does the lease still hold? ─► answer
//!             │ by lease: a quorum acknowledged        │ no
//!             │           what was sent ≤ R ago        ▼
//!             └ by a round: … what was sent since     once more, by a round
//!                           (then: is its vote still its own?)
//! ```
//!
//! *By lease.* A quorum acknowledged, in this term, what was sent at `acked` or later. Up to
//! `acked + R` nobody else answers: a quorum followed this leader at some moment behind `acked`, so
//! who leads next won later than that, and tells nobody anything, neither what it read nor that a
//! message is written, until 1.05 R after it won; or this leader has handed over, and gave up its
//! lease before it did ([`crate::replica::leaders`]). The state must have been looked at within that
//! time, and a process can be stopped between any two lines: so the clock is looked at again behind
//! it. Nothing is given out before.
//!
//! *By a round.* A quorum acknowledged, in this term, what was sent after the read had begun: when
//! it began, nobody could have been leader of a later term, for one of those who made it so would
//! not have acknowledged. So whatever was acknowledged to anybody before the read is committed here
//! or by a leader before, and applied before the state is looked at. However late that is, the
//! answer is right for a moment behind the read's beginning: no clock is needed. Unless the state
//! holds more by then: what a later leader has decided, and may not have told anybody yet. This
//! replica gives its vote before it takes any of that, so its vote is looked at behind the state.
//!
//! Sending times are taken before requests are sent and never later, answers count for their own
//! requests only ([`crate::adapter::acks`]), and all times are of one steady clock ([`crate::time`]), which
//! counts what the machine was suspended for. openraft is asked for the log id to wait for and to send heartbeats; its own word on the quorum is not relied on.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use model::id::NodeId;
use model::mutant;
use openraft::LinearizerOption;
use openraft::async_runtime::watch::WatchReceiver;
use store::state::ShardState;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::adapter::told;
use crate::api::ReadError;
use crate::replica::group::Group;
use crate::time::Steady;

/// How long the first entry of a new leader is waited for before heartbeats are sent.
const FIRST_ACK_MAX: Duration = Duration::from_millis(100);
/// How long the state may take to reach what is committed.
const LEADER_APPLY_MAX: Duration = Duration::from_secs(1);

/// Reads that wait for the next confirmation of the leader; one serves them all.
#[derive(Default)]
pub(crate) struct Reads {
    running: bool,
    /// Whether one of those who wait needs more than a lease.
    by_round: bool,
    waiting: Vec<oneshot::Sender<Result<Confirmed, ReadError>>>,
}

/// What a read may rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Confirmed {
    by: By,
    /// The term that this node leads.
    term: u64,
    /// What the state must have applied.
    index: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// The lease of the term, if it still holds behind the read.
    Lease,
    /// A round, if this node still votes for itself behind the read.
    Round,
}

/// What a replica may be read at, and who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadIndex {
    /// Of the leader that says so.
    pub(crate) term: u64,
    /// Everything that was acknowledged before the question lies at or before it.
    pub(crate) index: u64,
}

/// Who has given its last vote for this node, in this term.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Follower {
    pub(crate) node: NodeId,
    pub(crate) term: u64,
}

/// This node as a leader.
pub(crate) struct Standing {
    /// The term that it leads.
    pub(crate) term: u64,
    /// When what a quorum has acknowledged in it was sent.
    pub(crate) acked: Option<Steady>,
}

impl Standing {
    /// Whether a quorum has acknowledged, in `term`, what was sent at `since` or later.
    pub(crate) fn covers(&self, term: u64, since: Steady) -> bool {
        self.term == term && self.acked.is_some_and(|acked| acked >= since)
    }
}

impl Group {
    /// This node as the leader that it takes itself for, at `now`.
    pub(crate) fn standing(&self, now: Steady) -> Option<Standing> {
        self.standing_with(None, now)
    }

    /// The same, `follower` having just said that it follows this node in that term.
    pub(crate) fn standing_with(
        &self,
        follower: Option<Follower>,
        now: Steady,
    ) -> Option<Standing> {
        let metrics = told::server(&self.raft);
        if metrics.current_leader != Some(self.node.0) {
            return None;
        }
        let term = metrics.vote.leader_id().term;
        // Its own vote may have gone to another that the metrics do not know of yet.
        if !self.follows(term, self.node) {
            return None;
        }
        let configs = metrics.membership_config.get_joint_config();
        let follower = follower.filter(|follower| follower.term == term);
        let present = [self.node, follower.map_or(self.node, |one| one.node)];
        let acked = self.acks.quorum_acked_at(term, &present, configs, now);
        Some(Standing { term, acked })
    }

    /// What `look` finds in the state, this node being confirmed as the leader and having applied
    /// what was committed when this was called. `look` may be asked twice, and what it found the
    /// first time is thrown away.
    pub(crate) async fn read<T>(
        self: &Arc<Self>,
        limit: Duration,
        look: impl Fn(&ShardState) -> T,
    ) -> Result<T, ReadError> {
        self.surely(limit, |_| look(&self.state)).await
    }

    /// Where another replica may be read: this node being confirmed as the leader, everything that
    /// was acknowledged when this was called lies at or before it.
    pub(crate) async fn read_index(
        self: &Arc<Self>,
        limit: Duration,
    ) -> Result<ReadIndex, ReadError> {
        self.leadership.sleep.begin();
        let at = |Confirmed { term, index, .. }| ReadIndex { term, index };
        self.surely(limit, at).await
    }

    /// What `look` gives, nobody else having been able to answer anything until behind it.
    async fn surely<T>(
        self: &Arc<Self>,
        limit: Duration,
        look: impl Fn(Confirmed) -> T,
    ) -> Result<T, ReadError> {
        let deadline = Instant::now() + limit;
        let mut by_round = false;
        loop {
            let confirmed = self.confirmed(by_round, deadline).await?;
            let found = look(confirmed);
            match confirmed.by {
                By::Lease if self.lease_holds(confirmed.term) => return Ok(found),
                By::Round if self.follows(confirmed.term, self.node) => return Ok(found),
                By::Round if mutant!("lease-kept-after-step-down") => return Ok(found),
                // Who leads no more is told so by the next round.
                By::Lease | By::Round => by_round = true,
            }
        }
    }

    /// Whether nobody else can have answered anything until now, this node leading in `term`.
    pub(crate) fn lease_holds(&self, term: u64) -> bool {
        if self.leadership.leaders.lock().gave_up_lease(term) {
            return false;
        }
        let lease = Duration::from_millis(self.tuning.read_lease_ms);
        let now = self.time.now();
        self.standing(now).is_some_and(|standing| {
            standing.term == term && standing.acked.is_some_and(|acked| now < acked + lease)
        })
    }

    /// Waits for a confirmation that begins after this call. All who wait share it.
    async fn confirmed(
        self: &Arc<Self>,
        by_round: bool,
        deadline: Instant,
    ) -> Result<Confirmed, ReadError> {
        if !self.leads() && self.leadership.expected() == Some(self.node) {
            // About to lead by a hand-over: what is said when it does not come to that is below.
            let _ = timeout_at(deadline, self.leadership.ready()).await;
        }
        if !self.leads() {
            if mutant!("lease-kept-after-step-down") && self.has_led() {
                return Ok(Confirmed {
                    by: By::Round,
                    term: 0,
                    index: 0,
                });
            }
            return Err(self.not_leader());
        }
        if self.leadership.expected() != Some(self.node) {
            // It has given its lease up, and a round would be lost to the election under way.
            return Err(self.not_leader());
        }
        let (confirmed, wait) = oneshot::channel();
        let start = {
            let mut reads = self.reads.lock();
            reads.waiting.push(confirmed);
            reads.by_round |= by_round;
            !std::mem::replace(&mut reads.running, true)
        };
        if start {
            tokio::spawn(confirm_reads(self.clone()));
        }
        match timeout_at(deadline, wait).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(ReadError::NoQuorum(self.shard)),
        }
    }

    pub(crate) fn not_leader(&self) -> ReadError {
        ReadError::NotLeader {
            shard: self.shard,
            leader: self
                .leadership
                .expected()
                .filter(|leader| *leader != self.node),
        }
    }

    async fn confirm(&self, by_round: bool) -> Result<Confirmed, ReadError> {
        let Some(Standing { term, .. }) = self.standing(self.time.now()) else {
            return Err(self.not_leader());
        };
        sleep_until(self.may_tell_at(term)).await;
        if mutant!("read-index-without-quorum") {
            return Ok(Confirmed {
                by: By::Round,
                term,
                index: self.state.reached().index(),
            });
        }
        let (start, since) = (Instant::now(), self.time.now());
        // A heartbeat may be on its way, and the next is sent when it is answered.
        let wait = Duration::from_millis(2 * self.tuning.heartbeat_ms);
        if !by_round {
            // Its first entry was sent when it won, and is answered before any heartbeat from now on.
            // Where it is not, a round finds out.
            let acked = |standing: &Standing| standing.acked.is_some();
            let _ = self.stands(term, start + FIRST_ACK_MAX, acked).await;
        }
        let by_lease = !by_round && self.lease_holds(term);
        // By lease, any age will do: openraft counts at least what is counted here, and allows its
        // own, longer lease, so that it answers at once. Age zero makes it send heartbeats now.
        let age = if by_lease { None } else { Some(Duration::ZERO) };
        let option = LinearizerOption::new(age, true).with_wait_timeout(wait);
        let asked = self.raft.get_read_linearizer(option).await;
        let linearizer = asked.map_err(|error| match error.forward_to_leader() {
            Some(_) => self.not_leader(),
            None => ReadError::NoQuorum(self.shard),
        })?;
        if !by_lease {
            self.acked_since(term, since, start + wait).await?;
        }
        let ready = linearizer.try_await_ready(&self.raft, Some(LEADER_APPLY_MAX));
        match ready.await {
            Ok(Ok(ready)) => Ok(Confirmed {
                by: if by_lease { By::Lease } else { By::Round },
                term,
                index: ready.read_log_id().index(),
            }),
            Ok(Err(_)) | Err(_) => Err(ReadError::NoQuorum(self.shard)),
        }
    }

    /// Waits until a quorum has acknowledged, in `term`, what was sent at `since` or later. What is
    /// sent in that very moment may count: it takes a message to win a vote behind it.
    async fn acked_since(
        &self,
        term: u64,
        since: Steady,
        deadline: Instant,
    ) -> Result<(), ReadError> {
        self.stands(term, deadline, |standing| standing.covers(term, since))
            .await
    }

    /// Waits until this node stands as it should, leading in `term`.
    async fn stands(
        &self,
        term: u64,
        deadline: Instant,
        as_it_should: impl Fn(&Standing) -> bool,
    ) -> Result<(), ReadError> {
        let mut metrics = self.raft.server_metrics();
        loop {
            let mut acked = pin!(self.acks.changed());
            // Before looking, so that nothing is missed in between.
            acked.as_mut().enable();
            drop(metrics.borrow_and_update());
            match self.standing(self.time.now()) {
                Some(standing) if standing.term != term => return Err(self.not_leader()),
                Some(standing) if as_it_should(&standing) => return Ok(()),
                Some(_) => {}
                None => return Err(self.not_leader()),
            }
            tokio::select! {
                biased;
                () = acked => {}
                // It may lead no longer. Without openraft, it does not.
                changed = metrics.changed() => if changed.is_err() {
                    return Err(self.not_leader());
                },
                () = sleep_until(deadline) => return Err(ReadError::NoQuorum(self.shard)),
            }
        }
    }
}

async fn confirm_reads(group: Arc<Group>) {
    loop {
        let (waiting, by_round) = {
            let mut reads = group.reads.lock();
            reads.running = !reads.waiting.is_empty();
            let by_round = std::mem::take(&mut reads.by_round);
            (std::mem::take(&mut reads.waiting), by_round)
        };
        if waiting.is_empty() {
            return;
        }
        let result = group.confirm(by_round).await;
        for reader in waiting {
            // A reader that is gone has stopped waiting.
            let _ = reader.send(result.clone());
        }
    }
}
