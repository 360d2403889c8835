//! Replicas that are brought back: each shard's leader sees to it that all who should vote do, and that
//! each of them is whole.
//!
//! ```text
//!   the leader                                    a node whose replica is broken
//!   ◄──────────────────────── says so with its pings ──┤ it has stopped: no vote, no acknowledgement
//!   takes it out of the voters ───────────────────────►│
//!   asks it to begin anew ────────────────────────────►│ wiped; a new incarnation, empty
//!   ◄──────────────────────── where its log ends ──────┤
//!   adds it as a learner ─────────────────────────────►│ log or snapshot
//!   asks again where its log ends; then a voter
//! ```
//!
//! *Why this is safe*: who begins anew is another member than the one before; see
//! [`crate::adapter::incarnation`]. It is wiped only once it is no member any more, so that, should the others be
//! lost meanwhile, what is left of it is still there to look at.
//!
//! *What it costs*: nothing. Of three voters one of which is broken, both others are needed for a
//! quorum, as they are of the two that are left; of five, three either way. So a shard never gets by
//! with fewer than before. None is taken out unless all the others are there and well, and nobody is
//! left to vote alone.
//!
//! *How fast*: a node has few replicas at a time that begin anew ([`limits::MOVES_TO_NODE_MAX`]).
//!
//! Moves of the meta shard's ([`crate::tasks::moves`]) go the same way with the replica that is to come.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::cluster::ClusterState;
use model::id::{NodeId, ShardId};
use model::{limits, mutant};
use openraft::ChangeMembers;
use openraft::raft::Precondition;
use proto::node as wire;
use proto::node::frame::Body;
use proto::node::replica::State;
use tokio::time::timeout;

use crate::adapter::incarnation::Member;
use crate::adapter::told;
use crate::adapter::types::{self, LogId, StoredMembership};
use crate::api::{Event, MoveStep};
use crate::replica::group::Group;
use crate::shared::Shared;
use crate::tasks::STEP_MAX;
use crate::tasks::moves;

/// For a replica to say how it is.
const ASK_MAX: Duration = Duration::from_secs(1);

/// What is to be decided elsewhere before the voters of a shard become others.
pub(crate) trait Permit {
    /// Whether they may now; asked each time.
    async fn permit(&self) -> Result<(), String>;
}

/// Nothing is.
pub(crate) struct Free;

impl Permit for Free {
    async fn permit(&self) -> Result<(), String> {
        Ok(())
    }
}

/// One step towards these voters, all of them whole; `Ok` when it is so, and committed.
///
/// # Errors
/// What it waits for, or what was done now: it goes on later.
pub(crate) async fn restore(
    node: &Arc<Shared>,
    group: &Group,
    wanted: &BTreeSet<u64>,
    permit: &impl Permit,
) -> Result<(), String> {
    group.leadership.rouse().await;
    // Read before anybody is asked: what is asked for counts for this membership only.
    let members = moves::membership(group);
    let configs = members.get_joint_config();
    let voters: BTreeSet<u64> = members.voter_ids().collect();
    if let [_, .., goal] = &configs[..] {
        // Begun by a leader before, perhaps, and it needs an end before anything else.
        if goal == wanted {
            permit.permit().await?;
        }
        return change_voters(group, &members, goal.clone()).await;
    }
    if let Some(unfit) = voters.iter().copied().find(|id| unfit(node, group, *id)) {
        // Who is to go goes with the change.
        if wanted.contains(&unfit) {
            return let_go(node, group, &members, unfit).await;
        }
    }
    if voters == *wanted {
        return match is_committed(group, &members)? {
            true => Ok(()),
            false => Err("its voters are not committed yet".into()),
        };
    }
    for new in wanted.difference(&voters) {
        bring(node, group, &members, *new).await?;
    }
    permit.permit().await?;
    change_voters(group, &members, wanted.clone()).await
}

/// Whether the replica of a node cannot be counted on, as the node says itself.
fn unfit(node: &Shared, group: &Group, id: u64) -> bool {
    id != node.id().0 && node.peers().vitals().unfit(NodeId(id), group.shard)
}

/// Takes a voter that is broken out, if the others can do without it.
async fn let_go(
    node: &Shared,
    group: &Group,
    members: &StoredMembership,
    broken: u64,
) -> Result<(), String> {
    if mutant!("votes-before-it-is-whole") {
        return ask(node, group.shard, broken, true).await.map(drop);
    }
    let others: BTreeSet<u64> = members.voter_ids().filter(|id| *id != broken).collect();
    let well = |id: &u64| node.peers().reachable(NodeId(*id)) && !unfit(node, group, *id);
    if others.len() < 2 || !others.iter().all(well) {
        return Err(format!("n{broken} is broken, and the others are too few"));
    }
    // What its pings say may be old.
    let replica = ask(node, group.shard, broken, false).await?;
    let named = members.get_node(&broken).map(|member| member.incarnation);
    if replica.state() == State::Runs && named == Some(replica.incarnation) {
        return Err(format!("n{broken} is well again"));
    }
    tracing::warn!(shard = %group.shard, node = broken, "a broken replica is taken out, to be rebuilt");
    change_voters(group, members, others).await
}

/// One step towards a learner that is whole; `Ok` when it is, as it has said just now.
async fn bring(
    node: &Arc<Shared>,
    group: &Group,
    members: &StoredMembership,
    id: u64,
) -> Result<(), String> {
    let named = members.get_node(&id).copied();
    let replica = ask(node, group.shard, id, named.is_none()).await?;
    let forgetful = mutant!("learner-that-remembers");
    match replica.state() {
        State::Absent => return Err(format!("n{id} has no replica yet")),
        State::Beginning => return Err(format!("n{id} begins anew")),
        State::Broken if named.is_some() => {
            return forget(group, members, BTreeSet::from([id])).await;
        }
        State::Broken => return Err(format!("the replica of n{id} is broken: {}", replica.why)),
        State::Runs => {}
    }
    let incarnation = replica.incarnation;
    match named {
        None => {
            tracing::info!(shard = %group.shard, to = id, incarnation, "a replica learns");
            let added = group.raft.add_learner(id, Member { incarnation }, false);
            let added = timeout(STEP_MAX, added).await.map_err(|_| "no quorum")?;
            added.map_err(|e| e.to_string())?;
            note_learning(node, group, id);
            Err(format!("n{id} learns"))
        }
        Some(member) if member.incarnation != incarnation && !forgetful => {
            // What the leader remembers is of the one before.
            forget(group, members, BTreeSet::from([id])).await
        }
        Some(_) if forgetful => match remembered(group, id) {
            true => Ok(()),
            false => Err(format!("n{id} is behind")),
        },
        Some(_) => match has_nearly_all(group, &replica) {
            true => Ok(()),
            false => Err(format!("n{id} is behind")),
        },
    }
}

/// Tells that a replica learns: of a move, or to be whole again where it was.
fn note_learning(node: &Shared, group: &Group, to: u64) {
    let view = node.current_view();
    let going = view.move_of(group.shard).filter(|going| going.to == to);
    node.note(Event::Move {
        shard: group.shard,
        from: NodeId(going.map_or(to, |going| going.from)),
        to: NodeId(to),
        step: MoveStep::Learning,
    });
}

/// Whether a log that ends so has nearly all of this leader's.
fn has_nearly_all(group: &Group, replica: &wire::Replica) -> bool {
    let Some(end) = replica.end.as_ref().map(types::log_id_from_wire) else {
        return false;
    };
    end.index() + limits::MOVE_LAG_MAX >= group.last_index() && group.holds(&end)
}

/// What a mutant goes by: how far the leader remembers a learner to have come.
fn remembered(group: &Group, learner: u64) -> bool {
    let matched = told::data(&group.raft, |told| {
        let followers = told.replication.as_ref();
        followers.and_then(|followers| followers.get(&learner)?.as_ref().map(LogId::index))
    });
    matched.is_some_and(|index| index + limits::MOVE_LAG_MAX >= group.last_index())
}

/// Asks a node about its replica of a shard.
async fn ask(
    node: &Shared,
    shard: ShardId,
    id: u64,
    begin_anew: bool,
) -> Result<wire::Replica, String> {
    let unreached = || format!("n{id} cannot be reached");
    let link = node.peers().link(NodeId(id)).ok_or_else(unreached)?;
    let question = Body::AskReplica(wire::AskReplica { begin_anew });
    let limit = ASK_MAX.max(link.round() * 2);
    match link.call(shard.0, question, limit).await {
        Ok(Body::Replica(replica)) => Ok(replica),
        Ok(_) => Err(format!("n{id} answers something else")),
        Err(error) => Err(format!("n{id}: {error}")),
    }
}

/// What this node says of its replica; it begins anew where that is asked for and it is broken.
pub(crate) fn tell(node: &Arc<Shared>, shard: ShardId, ask: &wire::AskReplica) -> wire::Replica {
    if let Some(why) = node.why_broken(shard) {
        let begins = ask.begin_anew && node.begin_anew(shard);
        let state = match begins {
            true => State::Beginning,
            false => State::Broken,
        };
        return wire::Replica {
            state: state as i32,
            why,
            ..wire::Replica::default()
        };
    }
    let Some(group) = node.group(shard) else {
        return wire::Replica::default();
    };
    wire::Replica {
        state: State::Runs as i32,
        incarnation: group.place.incarnation,
        end: group
            .last_synced()
            .map(|end| types::log_id_to_wire(&types::log_id(end))),
        why: String::new(),
    }
}

/// Changes the voters of the membership that was read, and of no other.
async fn change_voters(
    group: &Group,
    members: &StoredMembership,
    voters: BTreeSet<u64>,
) -> Result<(), String> {
    change(
        group,
        members,
        ChangeMembers::ReplaceAllVoters(voters),
        false,
    )
    .await?;
    Err("its voters change".into())
}

/// Takes learners out.
pub(crate) async fn forget(
    group: &Group,
    members: &StoredMembership,
    learners: BTreeSet<u64>,
) -> Result<(), String> {
    tracing::info!(shard = %group.shard, ?learners, "learners are let go");
    change(group, members, ChangeMembers::RemoveNodes(learners), true).await?;
    Err("learners are let go".into())
}

async fn change(
    group: &Group,
    members: &StoredMembership,
    change: ChangeMembers<u64, Member>,
    retain: bool,
) -> Result<(), String> {
    let unchanged = Precondition::LastMembershipLogId {
        last_membership_log_id: *members.log_id(),
    };
    let changed = group.raft.change_membership_if(change, retain, [unchanged]);
    let changed = timeout(STEP_MAX, changed).await.map_err(|_| "no quorum")?;
    changed.map(drop).map_err(|e| e.to_string())
}

/// Whether a membership is committed: what was applied is.
fn is_committed(group: &Group, members: &StoredMembership) -> Result<bool, String> {
    let applied = types::decode_membership(&group.state.applied().membership);
    Ok(applied.map_err(|e| e.to_string())?.log_id() == members.log_id())
}

/// Whether a data shard that this node leads, and that is in no move, has not the voters of the map, or
/// not all of them well.
fn ails(node: &Shared, group: &Group, wanted: &[u64]) -> bool {
    let members = told::server(&group.raft).membership_config;
    let configs = members.get_joint_config();
    let voters = |config: &BTreeSet<u64>| {
        config.len() == wanted.len() && wanted.iter().all(|id| config.contains(id))
    };
    !(configs.len() == 1 && voters(&configs[0])) || wanted.iter().any(|id| unfit(node, group, *id))
}

/// Heals the shards that this node leads; with `all` those that look whole are looked at, too.
pub(crate) async fn look(node: &Arc<Shared>, view: &ClusterState, all: bool) {
    let said = node.peers().vitals().all_unfit();
    let said: BTreeSet<ShardId> = said.into_iter().map(|(_, shard)| shard).collect();
    let ailing = node.ailing(|ailing| ailing.union(&said).copied().collect::<BTreeSet<_>>());
    let ailing = match all {
        true => view.shards.iter().map(|s| ShardId(s.id)).collect(),
        false => ailing,
    };
    let mut steps = Vec::new();
    for shard in ailing {
        let Some(group) = node.group(shard).filter(|group| group.leads()) else {
            continue;
        };
        let going = view.move_of(shard).is_some();
        let wanted = view.replicas_of(shard);
        if shard.is_meta() || going || !ails(node, &group, wanted) {
            continue;
        }
        let wanted: BTreeSet<u64> = wanted.iter().copied().collect();
        steps.push(async move {
            let step = restore(node, &group, &wanted, &Free).await;
            if let Err(why) = &step {
                tracing::debug!(%shard, %why, "a replica is healed later");
            }
            step.is_err().then_some(shard)
        });
    }
    let steps = futures::future::join_all(steps).await;
    let still: BTreeSet<ShardId> = steps.into_iter().flatten().collect();
    node.set_ailing(still);
}
