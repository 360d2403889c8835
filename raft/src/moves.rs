//! Moving a replica: the meta shard says what is wanted, the shard's own leader makes it so.
//!
//! ```text
//!   meta shard            the shard's leader
//!   BeginMove ──────────► adds the new replica as a learner, until it has caught up
//!   ChangeVoters ◄─────── asks, each time before it changes the voters (joint, by openraft)
//!   FinishMove ◄───────── once the new voters alone are in effect, and that is committed
//! ```
//!
//! Whoever comes to lead the shard in the middle goes on from what it finds in the shard's own
//! membership. A leader whose map is old, or that slept for a while, harms nothing: the membership
//! it has seen is read before it asks, and the change is made only if that is still the last one.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use model::cluster::{self, Change, ChangeBody, ClusterState, Move, Shard};
use model::command::{Answer, Command};
use model::id::{NodeId, ShardId};
use model::limits;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::Precondition;
use openraft::{ChangeMembers, EmptyNode};
use prost::Message;
use tokio::time::{sleep, timeout};

use crate::group::Group;
use crate::handover;
use crate::meta::{LOOK, STEP_MAX};
use crate::node::Inner;
use crate::types::{self, LogId, StoredMembership};

/// Looks between two searches for learners that nobody wants.
const SWEEP_LOOKS: u32 = 40;

/// Carries out the moves of the shards that this node leads.
pub(crate) async fn carry_out(node: Arc<Inner>) {
    let mut look = 0_u32;
    loop {
        sleep(LOOK).await;
        let view = node.current_view();
        let led = view.moves.iter().filter_map(|going| {
            let group = node.group(ShardId(going.shard))?;
            let shard = view.shard(ShardId(going.shard))?;
            group.leads().then_some((group, shard, going))
        });
        let steps = led.map(|(group, shard, going)| {
            let node = &node;
            async move {
                if let Err(why) = step(node, &group, shard, going).await {
                    let shard = group.shard;
                    tracing::debug!(%shard, to = going.to, %why, "a move goes on later");
                }
            }
        });
        futures::future::join_all(steps).await;
        look += 1;
        if look >= SWEEP_LOOKS {
            look = 0;
            sweep(&node, &view).await;
        }
    }
}

/// One step of a move, from whatever is found.
async fn step(node: &Arc<Inner>, group: &Group, shard: &Shard, going: &Move) -> Result<(), String> {
    group.leadership.rouse().await;
    // Read before anybody is asked: what is asked for counts for this membership only.
    let members = membership(group);
    let configs = members.get_joint_config();
    let wanted: BTreeSet<u64> = going.after(&shard.replicas).into_iter().collect();
    if configs.len() == 1 && configs[0] == wanted {
        if is_committed(group, &members)? {
            let (from, to) = (NodeId(going.from), NodeId(going.to));
            tracing::info!(shard = %group.shard, %from, %to, "a replica has moved");
            ask(node, ChangeBody::FinishMove(going.step())).await?;
        }
        return Ok(());
    }
    if going.from == node.id().0 {
        let others = |id| wanted.contains(&id) && id != going.to;
        return hand_over(node, group, others).await;
    }
    if members.get_node(&going.to).is_none() {
        if !node.peers().reachable(NodeId(going.to)) {
            return Err("its node cannot be reached".into());
        }
        tracing::info!(shard = %group.shard, to = %NodeId(going.to), "a replica learns");
        let added = group.raft.add_learner(going.to, EmptyNode::new(), false);
        let added = timeout(STEP_MAX, added).await.map_err(|_| "no quorum")?;
        return added.map(drop).map_err(|e| e.to_string());
    }
    // A joint configuration was begun by a leader before: nothing can be waited for.
    if configs.len() == 1 && !caught_up(group, going.to) {
        return Err("it is behind".into());
    }
    ask(node, ChangeBody::ChangeVoters(going.step())).await?;
    let unchanged = Precondition::LastMembershipLogId {
        last_membership_log_id: *members.log_id(),
    };
    let changed = group.raft.change_membership_if(wanted, false, [unchanged]);
    let changed = timeout(STEP_MAX, changed).await.map_err(|_| "no quorum")?;
    changed.map(drop).map_err(|e| e.to_string())
}

/// The membership in effect, committed or not.
fn membership(group: &Group) -> StoredMembership {
    let metrics = group.raft.server_metrics();
    let metrics = metrics.borrow_watched();
    metrics.membership_config.as_ref().clone()
}

/// Whether a membership is committed: what was applied is.
fn is_committed(group: &Group, members: &StoredMembership) -> Result<bool, String> {
    let applied = types::decode_membership(&group.state.applied().membership);
    Ok(applied.map_err(|e| e.to_string())?.log_id() == members.log_id())
}

/// Whether a learner of a group that this node leads has nearly all of the log.
fn caught_up(group: &Group, learner: u64) -> bool {
    let last = group.last_index();
    let metrics = group.raft.data_metrics();
    let metrics = metrics.borrow_watched();
    let followers = metrics.replication.as_ref();
    let matched = followers.and_then(|followers| followers.get(&learner)?.as_ref());
    matched.is_some_and(|id: &LogId| id.index() + limits::MOVE_LAG_MAX >= last)
}

/// Hands the lead of a group to one of those that it may go to.
pub(crate) async fn hand_over(
    node: &Inner,
    group: &Group,
    may: impl Fn(u64) -> bool,
) -> Result<(), String> {
    let mut targets = cluster::leader_order(&node.current_view(), group.shard);
    targets.retain(|id| may(id.0) && node.peers().reachable(*id));
    let handed = handover::hand_over(node, group, &targets).await;
    handed.map(drop).map_err(|error| error.to_string())
}

/// Has the meta shard decide a step.
async fn ask(node: &Arc<Inner>, body: ChangeBody) -> Result<(), String> {
    let command = Command::meta(Change { body: Some(body) });
    let command = Bytes::from(command.encode_to_vec());
    let asked = node.clone().propose(ShardId::META, command, STEP_MAX);
    match asked.await.map_err(|e| e.to_string())?.answer {
        Some(Answer::Meta(_)) => Ok(()),
        Some(Answer::Refused(refusal)) => Err(refusal.message),
        Some(Answer::Appended(_) | Answer::Created(_)) | None => {
            Err("the meta shard answered something else".into())
        }
    }
}

/// Removes learners whose move was taken back.
async fn sweep(node: &Inner, view: &ClusterState) {
    for group in node.groups() {
        if group.shard.is_meta() || !group.leads() || view.move_of(group.shard).is_some() {
            continue;
        }
        let members = membership(&group);
        let replicas = view.replicas_of(group.shard);
        let learners = members.membership().learner_ids();
        let unwanted: BTreeSet<u64> = learners.filter(|id| !replicas.contains(id)).collect();
        if unwanted.is_empty() {
            continue;
        }
        let unchanged = Precondition::LastMembershipLogId {
            last_membership_log_id: *members.log_id(),
        };
        let named: Vec<NodeId> = unwanted.iter().copied().map(NodeId).collect();
        tracing::info!(shard = %group.shard, unwanted = ?named, "learners are let go");
        group.leadership.rouse().await;
        let change = ChangeMembers::RemoveNodes(unwanted);
        let changed = group.raft.change_membership_if(change, true, [unchanged]);
        // The next sweep tries again.
        let _ = timeout(STEP_MAX, changed).await;
    }
}
