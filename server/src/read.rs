//! Where a read is answered: here, or by one other node.
//!
//! LINEARIZABLE (promise L): by the leader, sure of being it; when that is another node, the same
//! call is forwarded to it once, marked, and it answers or refuses. LOCAL: by this node's replica,
//! else by one that can be reached. Whatever fails on the way is tried again until the deadline;
//! what a replica answered, success or not, is given on.

use std::time::Duration;

use model::id::{NodeId, ShardId, Slot};
use model::mutant;
use proto::net::Channel;
use raft::ReadError;
use store::state::ShardState;
use tonic::{Code, Status};

use crate::check::Level;
use crate::deadline::{Call, name_of};
use crate::error::{Failure, passed};
use crate::gateway::Gateway;
use crate::gateway::retry::backoff;

/// The longest that one attempt at another node may take.
const FORWARD_MAX: Duration = Duration::from_secs(2);
/// The longest that a leader waits for its quorum before it says that it has none.
const BARRIER_MAX: Duration = Duration::from_secs(1);

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

/// Reads at `level`: `here` from a replica of this node, `there` from another node, with the time
/// it may take.
///
/// # Errors
/// What the replica answered; or why none could be asked in time.
pub async fn read<T, H, R>(
    gateway: &Gateway,
    slot: Slot,
    level: Level,
    call: Call,
    here: H,
    there: impl Fn(Channel, Duration) -> R,
) -> Result<T, Failure>
where
    H: Fn(ShardId, &ShardState) -> Result<T, Failure>,
    R: Future<Output = Result<T, Status>>,
{
    let mut step = 0;
    loop {
        let attempt = match gateway.shard_of(slot) {
            None => Err(Again::Later(Failure::NotReady)),
            Some(shard) => match level {
                Level::Linearizable if !mutant!("linearizable-read-at-any-replica") => {
                    at_leader(gateway, shard, call, &here, &there).await
                }
                Level::Linearizable | Level::Local => {
                    nearby(gateway, shard, call, step, &here, &there).await
                }
            },
        };
        let failure = match attempt {
            Ok(answer) => return Ok(answer),
            Err(Again::Final(failure)) => return Err(failure),
            Err(Again::Later(failure)) => failure,
        };
        let wait = backoff(step, gateway.random());
        // Whoever forwarded the call tries again, knowing more than a node that guessed wrong.
        if call.forwarded || call.deadline.remaining() <= wait {
            return Err(failure);
        }
        tokio::time::sleep(wait).await;
        step += 1;
    }
}

async fn at_leader<T, H, R>(
    gateway: &Gateway,
    shard: ShardId,
    call: Call,
    here: &H,
    there: &impl Fn(Channel, Duration) -> R,
) -> Result<T, Again>
where
    H: Fn(ShardId, &ShardState) -> Result<T, Failure>,
    R: Future<Output = Result<T, Status>>,
{
    let mut leader = gateway.raft.leader(shard);
    if call.forwarded || leader.is_none_or(|leader| leader == gateway.me()) {
        let timeout = call.deadline.remaining().min(BARRIER_MAX);
        let look = |state: &ShardState| here(shard, state);
        match gateway.raft.read(shard, timeout, look).await {
            Ok(answer) => return answer.map_err(Again::of),
            Err(error @ ReadError::NoQuorum(_)) => {
                return Err(Again::Later(Failure::NoQuorum(error.to_string())));
            }
            Err(ReadError::NotLeader { leader: named, .. }) => {
                leader = named.filter(|named| *named != gateway.me());
            }
        }
    }
    match leader {
        Some(leader) if !call.forwarded => {
            let attempt = forward(gateway, leader, call, there).await;
            if let Err(Again::Later(_)) = &attempt {
                // It does not lead, or cannot say so: the next attempt asks another replica.
                gateway.raft.not_leader(shard, leader);
            }
            attempt
        }
        named => Err(Again::Later(Failure::LeaderChanging(format!(
            "{} does not lead {shard}; leader: {}",
            gateway.served_by(),
            name_of(named)
        )))),
    }
}

async fn nearby<T, H, R>(
    gateway: &Gateway,
    shard: ShardId,
    call: Call,
    step: u32,
    here: &H,
    there: &impl Fn(Channel, Duration) -> R,
) -> Result<T, Again>
where
    H: Fn(ShardId, &ShardState) -> Result<T, Failure>,
    R: Future<Output = Result<T, Status>>,
{
    if call.forwarded || gateway.raft.state(shard).is_some() {
        return answer(gateway, shard, here);
    }
    match nearest(gateway, shard, step) {
        Some(node) => forward(gateway, node, call, there).await,
        None => Err(Again::Later(no_replica(shard))),
    }
}

fn answer<T, H>(gateway: &Gateway, shard: ShardId, here: &H) -> Result<T, Again>
where
    H: Fn(ShardId, &ShardState) -> Result<T, Failure>,
{
    match gateway.raft.state(shard) {
        Some(state) => here(shard, &state).map_err(Again::of),
        None => Err(Again::Later(no_replica(shard))),
    }
}

async fn forward<T, R>(
    gateway: &Gateway,
    node: NodeId,
    call: Call,
    there: &impl Fn(Channel, Duration) -> R,
) -> Result<T, Again>
where
    R: Future<Output = Result<T, Status>>,
{
    let remaining = call.deadline.remaining().min(FORWARD_MAX);
    let Some(channel) = gateway.raft.channel(node).filter(|_| !remaining.is_zero()) else {
        let why = format!("{node} cannot be reached");
        return Err(Again::Later(Failure::NoQuorum(why)));
    };
    match there(channel, remaining).await {
        Ok(answer) => Ok(answer),
        Err(status) if is_passing(&status) => {
            tracing::debug!(%node, %status, "a forwarded read failed");
            Err(Again::Later(match status.details().is_empty() {
                true => Failure::NoQuorum(format!("{node}: {}", status.message())),
                false => passed(&status),
            }))
        }
        Err(status) => Err(Again::Final(passed(&status))),
    }
}

/// Whether another attempt may do better: the node says so, its replica has just turned out corrupt,
/// or it was the connection that spoke, whose errors carry no details.
fn is_passing(status: &Status) -> bool {
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
        "no working replica of {shard} can be reached from here"
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
        assert!(!is_passing(
            &Failure::ConversationNotFound("x".into()).into()
        ));
        assert!(!is_passing(&Failure::CursorTrimmed { min_seq: 3 }.into()));
    }
}
