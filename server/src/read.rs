//! Where a read is answered: here, or by one other node.
//!
//! LINEARIZABLE (promise L): by this node's replica, told by the leader how far it must be, or as
//! the leader; without a replica the same call is forwarded to the leader once, marked, and it
//! answers or refuses. SESSION: by a replica that has reached the token, this node's or the nearest.
//! BOUNDED: by one that is not older than the bound. Both otherwise as LINEARIZABLE, which satisfies
//! them. LOCAL: by this node's replica, else by one that can be reached. Every answer says how old it
//! is at most, and who gave it (promise S).
//!
//! Whatever fails on the way is tried again until the deadline; what a replica answered, success or
//! not, is given on. Without the shard's quorum for long ([`raft::Node::lacks_quorum`]) what needs it
//! gets one short try, and is refused.

use std::time::Duration;

use model::id::{NodeId, ShardId, Slot};
use model::limits;
use model::mutant;
use model::session::{Floor, Token};
use proto::net::Channel;
use proto::v1;
use raft::{ReadError, Replica, Steady};
use store::state::ShardState;
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::check::{Level, Wanted};
use crate::convert;
use crate::deadline::{Call, name_of};
use crate::error::{Failure, passed};
use crate::gateway::Gateway;
use crate::gateway::retry::{MAPLESS_MAX, backoff};

/// Rounds to the node that is farthest away that come on top of what follows: with continents in between they
/// are what a read takes.
const ROUNDS: u32 = 4;
/// The longest that one attempt at another node may take.
const FORWARD_MAX: Duration = Duration::from_secs(2);
/// The longest that a leader waits for its quorum before it says that it has none.
const BARRIER_MAX: Duration = Duration::from_secs(1);
/// How long a replica is given to reach a session's token before the leader is asked.
const SESSION_MAX: Duration = Duration::from_millis(150);
/// The same where the leader is out of reach.
const SESSION_CUT_OFF_MAX: Duration = Duration::from_millis(40);
/// A replica that does not know itself to be younger than this has not caught up with its leader.
/// Those that sleep know it every 200 ms as well.
const LAGS_AFTER: Duration = Duration::from_secs(1);
/// How long the one try takes at most where a quorum is out of reach.
pub const CUT_OFF_MAX: Duration = Duration::from_millis(120);

const _: () = assert!(
    SESSION_CUT_OFF_MAX.as_millis() + CUT_OFF_MAX.as_millis() < limits::REFUSAL_MS_MAX as u128
);

/// What a replica found, and the revision that it shows.
pub type Found<T> = (T, u64);

/// An answer that says where it is from.
pub trait Informed {
    /// Sets that.
    fn inform(&mut self, info: v1::ResponseInfo);
}

impl Informed for v1::ListMessagesResponse {
    fn inform(&mut self, info: v1::ResponseInfo) {
        self.info = Some(info);
    }
}

impl Informed for v1::ListConversationsResponse {
    fn inform(&mut self, info: v1::ResponseInfo) {
        self.info = Some(info);
    }
}

impl Informed for v1::ListReactionsResponse {
    fn inform(&mut self, info: v1::ResponseInfo) {
        self.info = Some(info);
    }
}

impl Informed for v1::GetMessageResponse {
    fn inform(&mut self, info: v1::ResponseInfo) {
        self.info = Some(info);
    }
}

impl Informed for v1::Conversation {
    fn inform(&mut self, info: v1::ResponseInfo) {
        self.info = Some(info);
    }
}

/// How an attempt ended without an answer.
enum Again {
    /// Nobody could answer now; said when the time is up.
    Later(Failure),
    /// An answer to give on.
    Final(Failure),
}

impl Again {
    /// What a replica of this node said. One that is corrupt stops for good; the others have the same
    /// records whole.
    fn of(failure: Failure) -> Again {
        match failure {
            Failure::Corrupt(_) => Again::Later(failure),
            failure => Again::Final(failure),
        }
    }
}

/// Why a replica that was looked at gives no answer.
enum Look {
    /// It has not reached the session's token, which names this revision.
    Behind(u64),
    /// An answer to give on.
    Final(Failure),
}

/// Reads as fresh as `wanted`: `here` from a replica of this node, `there` from another node, with
/// the time it may take.
///
/// # Errors
/// What the replica answered; or why none could be asked in time.
pub async fn read<T, H, R>(
    gateway: &Gateway,
    slot: Slot,
    wanted: &Wanted,
    call: &Call,
    here: H,
    there: impl Fn(Channel, Duration) -> R,
) -> Result<T, Failure>
where
    T: Informed,
    H: Fn(ShardId, &ShardState) -> Result<Found<T>, Failure>,
    R: Future<Output = Result<T, Status>>,
{
    if call.deadline.remaining().is_zero() {
        return Err(Failure::TimeUp("before the first attempt".into()));
    }
    let mut step = 0;
    loop {
        let attempt = match gateway.shard_of(slot) {
            None => Err(Again::Later(Failure::NotReady)),
            Some(shard) => {
                let reading = Reading {
                    gateway,
                    shard,
                    slot,
                    wanted,
                    call,
                    began: gateway.raft.now(),
                    here: &here,
                    there: &there,
                };
                reading.attempt(step).await
            }
        };
        let failure = match attempt {
            Ok(answer) => return Ok(answer),
            Err(Again::Final(failure)) => return Err(failure),
            Err(Again::Later(failure)) => failure,
        };
        let wait = backoff(step, gateway.random());
        let mapless = step + 1 >= MAPLESS_MAX
            && matches!(failure, Failure::NotReady)
            && !gateway.is_founded();
        // Whoever forwarded the call tries again, knowing more than a node that guessed wrong.
        if call.forwarded || mapless || call.deadline.remaining() <= wait {
            return Err(failure);
        }
        tracing::debug!(%slot, step, ?failure, "a read is tried again");
        match gateway.shard_of(slot) {
            // A new leader is no reason to wait any longer.
            Some(shard) => gateway.raft.other_leader(shard, wait).await,
            None => tokio::time::sleep(wait).await,
        }
        step += 1;
    }
}

/// One attempt.
struct Reading<'a, H, F> {
    gateway: &'a Gateway,
    shard: ShardId,
    slot: Slot,
    wanted: &'a Wanted,
    call: &'a Call,
    began: Steady,
    here: &'a H,
    there: &'a F,
}

impl<T, H, F, R> Reading<'_, H, F>
where
    T: Informed,
    H: Fn(ShardId, &ShardState) -> Result<Found<T>, Failure>,
    F: Fn(Channel, Duration) -> R,
    R: Future<Output = Result<T, Status>>,
{
    async fn attempt(&self, step: u32) -> Result<T, Again> {
        match self.wanted.level {
            Level::Linearizable if !mutant!("linearizable-read-at-any-replica") => {
                self.with_quorum(self.sure(step)).await
            }
            Level::Linearizable | Level::Local => self.nearby(step).await,
            Level::Session | Level::Bounded(_) => {
                if let Some(answer) = self.fresh_here().await {
                    return answer.map_err(Again::of);
                }
                // A replica that is near may be fresh enough, or become it, as this one might.
                let away = !self.call.forwarded && self.gateway.raft.state(self.shard).is_none();
                match away.then(|| nearest(self.gateway, self.shard, step / 2)) {
                    Some(Some(near)) if step.is_multiple_of(2) => {
                        self.with_quorum(self.forward(near)).await
                    }
                    Some(_) | None => self.with_quorum(self.sure(step)).await,
                }
            }
        }
    }

    /// From this node's replica, if there is one that is fresh enough or becomes it shortly.
    async fn fresh_here(&self) -> Option<Result<T, Failure>> {
        let mut replica = self.gateway.raft.replica(self.shard)?;
        match self.wanted.level {
            Level::Session => {
                let Floor::Revision(floor) = self.wanted.token.floor(self.slot) else {
                    return None;
                };
                if replica.state.reached().revision < floor {
                    self.await_revision(&replica, floor).await?;
                    replica = self.gateway.raft.replica(self.shard)?;
                }
            }
            Level::Bounded(bound) if replica.age().is_some_and(|age| age <= bound) => {}
            Level::Linearizable | Level::Bounded(_) | Level::Local => return None,
        }
        let found = (self.here)(self.shard, &replica.state);
        // It has grown older meanwhile, much if this process was stopped.
        let age = replica.age();
        if let Level::Bounded(bound) = self.wanted.level
            && age.is_none_or(|age| age > bound)
        {
            return None;
        }
        Some(found.map(|found| self.informed(found, age)))
    }

    async fn await_revision(&self, replica: &Replica, floor: u64) -> Option<()> {
        let limit = match self.gateway.raft.lacks_quorum(self.shard) {
            true => SESSION_CUT_OFF_MAX,
            false => SESSION_MAX,
        };
        let limit = limit.min(self.call.deadline.remaining());
        let mut reached = replica.state.watch_applied();
        let there = reached.wait_for(|reached| reached.revision >= floor);
        matches!(timeout(limit, there).await, Ok(Ok(_))).then_some(())
    }

    /// What needs the shard's quorum: in full while it may be there, else one short try.
    async fn with_quorum(
        &self,
        attempt: impl Future<Output = Result<T, Again>>,
    ) -> Result<T, Again> {
        let raft = &self.gateway.raft;
        if raft.lacks_quorum(self.shard) {
            return match timeout(CUT_OFF_MAX, attempt).await {
                Ok(Err(Again::Later(_))) | Err(_) => Err(Again::Final(self.cut_off())),
                Ok(result) => result,
            };
        }
        tokio::select! {
            biased;
            result = attempt => result,
            () = raft.quorum_lost(self.shard) => Err(Again::Final(self.cut_off())),
        }
    }

    fn cut_off(&self) -> Failure {
        let why = self.gateway.lost_quorum(self.shard);
        match self.wanted.level {
            Level::Bounded(bound) => {
                let replica = self.gateway.raft.replica(self.shard);
                Failure::StalenessUnmet {
                    age: replica.and_then(|replica| replica.age()),
                    bound,
                    why,
                }
            }
            Level::Linearizable | Level::Session | Level::Local => Failure::NoQuorum(why),
        }
    }

    /// Everything acknowledged before this call: from this node's replica, or by the leader; where
    /// those do not reach each other, by other replicas in turn with each step.
    async fn sure(&self, step: u32) -> Result<T, Again> {
        let forwarded = self.call.forwarded;
        let replica = self.gateway.raft.replica(self.shard);
        // In turns, since the leader may be out of reach.
        let away = !forwarded && step.is_multiple_of(2);
        let lags = away && replica.as_ref().is_some_and(|replica| self.lags(replica));
        if (forwarded || (replica.is_some() && !lags))
            && let Some(answer) = self.by_replica(step).await
        {
            return answer;
        }
        // As long as the replica would have had.
        let limit = if lags { BARRIER_MAX } else { FORWARD_MAX };
        self.by_leader(limit + self.rounds()).await
    }

    /// By this node's replica, told by the leader how far it must be, or as the leader; `None` where
    /// another leader is to be asked itself.
    async fn by_replica(&self, step: u32) -> Option<Result<T, Again>> {
        let (gateway, shard, forwarded) = (self.gateway, self.shard, self.call.forwarded);
        let timeout = self.call.deadline.remaining();
        let timeout = timeout.min(BARRIER_MAX + self.rounds());
        let looked = gateway.raft.read(shard, timeout, |state| self.look(state));
        let failure = match looked.await {
            Ok(Ok((found, replica))) => return self.young_enough(found, replica),
            Ok(Err(Look::Final(failure))) => return Some(Err(Again::of(failure))),
            // Whoever gave the token had applied that revision, so it was committed, and what a
            // linearizable read shows has all that was: it is of another history.
            Ok(Err(Look::Behind(revision))) => {
                return Some(Err(Again::Final(Failure::SessionAhead { revision })));
            }
            Err(ReadError::Behind(_)) if !forwarded => return None,
            Err(ReadError::NotLeader { .. } | ReadError::Unreachable(_))
                if !forwarded && step > 0 =>
            {
                return Some(match nearest(gateway, shard, step - 1) {
                    Some(node) => self.forward(node).await,
                    None => Err(Again::Later(no_replica(shard))),
                });
            }
            Err(error @ ReadError::NotLeader { leader, .. }) => {
                let why = format!("{error}; leader: {}", name_of(leader));
                Failure::LeaderChanging(gateway.words(&why))
            }
            Err(
                error @ (ReadError::NoQuorum(_) | ReadError::Unreachable(_) | ReadError::Behind(_)),
            ) => Failure::NoQuorum(gateway.words(&error.to_string())),
        };
        Some(Err(Again::Later(failure)))
    }

    /// The answer of this node's replica. One that is older than the bound is none, where another
    /// leader may know better.
    fn young_enough(&self, found: Found<T>, replica: Option<Replica>) -> Option<Result<T, Again>> {
        let raft = &self.gateway.raft;
        // As of the beginning at least; a leader may know better.
        let age = raft.age_since(self.began);
        let known = replica.and_then(|replica| replica.age());
        let age = known.map_or(age, |known| known.min(age));
        match self.wanted.level {
            Level::Bounded(bound) if age > bound => {
                let unmet = Failure::StalenessUnmet {
                    age: Some(age),
                    bound,
                    why: "asking its leader took longer".to_owned(),
                };
                let leads = raft.leader(self.shard) == Some(self.gateway.me());
                (self.call.forwarded || leads).then_some(Err(Again::Later(unmet)))
            }
            Level::Linearizable | Level::Session | Level::Bounded(_) | Level::Local => {
                Some(Ok(self.informed(found, Some(age))))
            }
        }
    }

    /// By the leader, on another node.
    async fn by_leader(&self, limit: Duration) -> Result<T, Again> {
        let (gateway, shard) = (self.gateway, self.shard);
        let Some(leader) = gateway.raft.leader(shard).filter(|l| *l != gateway.me()) else {
            let why = format!(
                "no leader of {} is known to {}",
                shard.told(),
                gateway.served_by()
            );
            return Err(Again::Later(Failure::LeaderChanging(why)));
        };
        let attempt = self.forward_within(leader, limit).await;
        match &attempt {
            // It does not lead, or cannot say so: the next attempt asks another replica.
            Err(Again::Later(_)) => gateway.raft.not_leader(shard, leader),
            Ok(_) | Err(Again::Final(_)) => gateway.raft.served(shard),
        }
        attempt
    }

    /// Whether the leader answers sooner than this node's replica can: it has just started, or has
    /// lost touch, and is about to take in what it missed.
    fn lags(&self, replica: &Replica) -> bool {
        let raft = &self.gateway.raft;
        let leads = raft.leader(self.shard) == Some(self.gateway.me());
        // Without a quorum there is one short try, which is the replica's.
        !leads && !raft.lacks_quorum(self.shard) && replica.age().is_none_or(|age| age > LAGS_AFTER)
    }

    /// Looks at the state, and before that at how old it is where that matters.
    fn look(&self, state: &ShardState) -> Result<(Found<T>, Option<Replica>), Look> {
        if let Floor::Revision(floor) = self.wanted.token.floor(self.slot)
            && self.wanted.level.keeps_sessions()
            && state.reached().revision < floor
        {
            return Err(Look::Behind(floor));
        }
        let replica = match self.wanted.level {
            Level::Bounded(_) => self.gateway.raft.replica(self.shard),
            Level::Linearizable | Level::Session | Level::Local => None,
        };
        let found = (self.here)(self.shard, state).map_err(Look::Final)?;
        Ok((found, replica))
    }

    async fn nearby(&self, step: u32) -> Result<T, Again> {
        if let Some(replica) = self.gateway.raft.replica(self.shard) {
            let found = (self.here)(self.shard, &replica.state).map_err(Again::of)?;
            return Ok(self.informed(found, replica.age()));
        }
        match nearest(self.gateway, self.shard, step).filter(|_| !self.call.forwarded) {
            Some(node) => self.forward(node).await,
            None => Err(Again::Later(no_replica(self.shard))),
        }
    }

    /// What the way to and from other nodes takes.
    fn rounds(&self) -> Duration {
        self.gateway.raft.longest_round() * ROUNDS
    }

    async fn forward(&self, node: NodeId) -> Result<T, Again> {
        self.forward_within(node, FORWARD_MAX + self.rounds()).await
    }

    async fn forward_within(&self, node: NodeId, limit: Duration) -> Result<T, Again> {
        let gateway = self.gateway;
        let remaining = self.call.deadline.remaining().min(limit);
        let Some(channel) = gateway.raft.channel(node).filter(|_| !remaining.is_zero()) else {
            let why = format!("{} cannot be reached", gateway.name_of(node));
            return Err(Again::Later(Failure::NoQuorum(why)));
        };
        let outcome = tokio::select! {
            biased;
            outcome = (self.there)(channel, remaining) => outcome,
            // Nothing will come any more, whatever time is left.
            () = gateway.raft.unreachable(node) => Err(Status::unavailable("the link broke")),
        };
        match outcome {
            Ok(answer) => Ok(answer),
            Err(status) if is_passing(&status) => {
                tracing::debug!(%node, %status, "a forwarded read failed");
                Err(Again::Later(match status.details().is_empty() {
                    true => Failure::NoQuorum(format!(
                        "{}: {}",
                        gateway.name_of(node),
                        status.message()
                    )),
                    false => passed(&status),
                }))
            }
            Err(status) => Err(Again::Final(passed(&status))),
        }
    }

    fn informed(&self, (mut answer, revision): Found<T>, age: Option<Duration>) -> T {
        let mut token = self.wanted.token.clone();
        token.merge(&Token::of(self.slot, revision));
        answer.inform(v1::ResponseInfo {
            session_token: token.encode(),
            served_by: self.gateway.served_by().to_owned(),
            staleness: age.map(convert::duration),
        });
        answer
    }
}

/// Whether another replica may do better, for reads and tails alike: the node says so, its replica
/// has just turned out corrupt, or it was the connection that spoke, whose errors carry no details.
pub fn is_passing(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DataLoss) || status.details().is_empty()
}

/// A node that has a replica and can be reached, this data center's first; others in turn with
/// each step.
pub fn nearest(gateway: &Gateway, shard: ShardId, step: u32) -> Option<NodeId> {
    let view = gateway.view();
    let dc_of = |node: NodeId| view.node(node).map(|node| node.dc().to_owned());
    let own = dc_of(gateway.me());
    let mut nodes: Vec<NodeId> = view
        .replicas_of(shard)
        .iter()
        .map(|id| NodeId(*id))
        .filter(|node| *node != gateway.me() && gateway.raft.reachable(*node))
        .collect();
    nodes.sort_by_key(|node| (dc_of(*node) != own, *node));
    nodes
        .get((step as usize).checked_rem(nodes.len())?)
        .copied()
}

/// That nobody near has one.
pub fn no_replica(shard: ShardId) -> Failure {
    Failure::NoReplica(format!(
        "no working replica of {} can be reached from here",
        shard.told()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_connection_says_is_tried_again_and_what_a_replica_says_is_given_on() {
        assert!(is_passing(&Status::unknown("connection closed")));
        assert!(is_passing(&Status::cancelled("Timeout expired")));
        assert!(is_passing(&Failure::LeaderChanging("x".into()).into()));
        assert!(
            is_passing(&Failure::Corrupt("x".into()).into()),
            "here only"
        );
        assert!(!is_passing(
            &Failure::ConversationNotFound("x".into()).into()
        ));
        assert!(!is_passing(&Failure::MessageNotFound("x".into()).into()));
        assert!(!is_passing(&Failure::CursorTrimmed { min_seq: 3 }.into()));
    }
}
