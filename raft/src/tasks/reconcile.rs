//! The leader of the meta shard makes what is match what should be: its own members, the first layout,
//! addresses that changed, moves that begin and nodes that leave.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::cluster::drills::{self, DrillBody, DrillChange, Drills, Lost};
use model::cluster::{Change, ChangeBody, ClusterState, Layout, Leave, MetaReplicas, Move, Node};
use model::command::Command;
use model::id::{NodeId, ShardId};
use model::placement;
use tokio::time::sleep;

use crate::api::MoveStep;
use crate::replica::group::Group;
use crate::shared::Shared;
use crate::tasks::{DUTIES_CHECK_EVERY, STEP_MAX, heal, moves, search};

/// While this node leads the meta shard: makes what is match what should be.
pub(crate) async fn keep(node: Arc<Shared>) {
    loop {
        sleep(DUTIES_CHECK_EVERY).await;
        let Some(meta) = node.group(ShardId::META) else {
            continue;
        };
        let view = meta.state.cluster();
        // One that is cut off takes all others for lost.
        if !meta.leads() || !meta.is_confirmed() || view.epoch == 0 {
            continue;
        }
        if let Err(why) = reconcile_once(&node, &meta, &view).await {
            tracing::warn!(%why, "the meta shard's work goes on later");
            sleep(DUTIES_CHECK_EVERY * 2).await;
        }
    }
}

async fn reconcile_once(
    node: &Arc<Shared>,
    meta: &Group,
    view: &ClusterState,
) -> Result<(), String> {
    let voters = meta.voters();
    let current: Vec<u64> = voters.iter().copied().collect();
    let wanted = placement::meta_wanted(view, &candidates(node, view, &voters), &current);
    let wanted_set: BTreeSet<u64> = wanted.iter().copied().collect();
    let mut new = wanted_set.difference(&voters);
    let ready = new.all(|id| node.peers().reachable(NodeId(*id)));
    let me = node.id().0;
    if wanted_set != voters && ready && voters.contains(&me) && !wanted_set.contains(&me) {
        let may = |id| wanted_set.contains(&id) && voters.contains(&id);
        return moves::hand_over(node, meta, may).await;
    }
    let unfit = voters.iter().any(|id| {
        let vitals = node.peers().vitals();
        vitals.unfit(NodeId(*id), ShardId::META)
    });
    let change = (wanted_set != voters && ready) || meta.is_joint();
    if change || unfit {
        tracing::debug!(
            ?voters,
            ?wanted,
            unfit,
            "the meta shard changes its members"
        );
        if let Err(why) = heal::restore(node, meta, &wanted_set, &heal::Free).await {
            tracing::debug!(%why, "the members of the meta shard change later");
        }
        if change {
            return Ok(());
        }
    }
    if !current.is_empty() && current != sorted(&view.meta_replicas) {
        let change = ChangeBody::MetaReplicas(MetaReplicas { nodes: current });
        return decide(meta, change).await;
    }
    if let Some(said) = search::to_announce(node, view, &voters) {
        let name = view.node(NodeId(said.node)).map_or("", |node| &node.name);
        tracing::info!(%name, address = %said.address, rack = %said.rack, "a node has moved");
        return decide(meta, ChangeBody::Announce(said)).await;
    }
    let whole = wanted.iter().all(|id| node.peers().reachable(NodeId(*id)));
    if view.awaits_layout() && whole {
        let shards = placement::first_layout(view);
        let shards = shards.map_err(|e| format!("the shards cannot be laid out: {e}"))?;
        tracing::info!(shards = shards.len(), "laying out the shards");
        return decide(meta, ChangeBody::Layout(Layout { shards })).await;
    }
    if let Some(change) = lost_controller(node, view) {
        return decide(meta, change).await;
    }
    place(node, meta, view).await
}

/// A drill whose controller is not heard any more ends. Its faults have ended by themselves before.
fn lost_controller(node: &Shared, view: &ClusterState) -> Option<ChangeBody> {
    let running = view.drills.as_ref().and_then(Drills::running)?;
    let now_ms = node.time().agreed_ms()?;
    let number = running.controller.as_ref().map_or(0, |one| one.number);
    running.unheard(drills::LOST_MS, now_ms).then(|| {
        tracing::warn!(drill = %running.id, "the controller of a drill is lost");
        let id = running.id.clone();
        let body = Some(DrillBody::Lost(Lost { id, number }));
        ChangeBody::Drill(DrillChange { body })
    })
}

/// The nodes that may replicate the meta shard: not those that are lost or leaving; and while it is
/// being repaired not those either that cannot be reached just now.
fn candidates(node: &Shared, view: &ClusterState, voters: &BTreeSet<u64>) -> Vec<Node> {
    let after = Duration::from_millis(node.placement_policy().replace_after_ms);
    let lost = |id: u64| {
        view.leaving.contains(&id) || node.absent_for(id).is_some_and(|absent| absent >= after)
    };
    let repair = voters.iter().any(|id| lost(*id));
    let may = |n: &&Node| {
        let usable = voters.contains(&n.id) || !repair || node.peers().reachable(NodeId(n.id));
        !lost(n.id) && usable
    };
    view.nodes.iter().filter(may).cloned().collect()
}

/// Begins what should move, and takes back what cannot get there any more. The shards' leaders
/// carry it out.
async fn place(node: &Shared, meta: &Group, view: &ClusterState) -> Result<(), String> {
    let plan = placement::plan(view, &node.health(), &node.placement_policy());
    for step in plan.drop {
        tracing::info!(shard = %ShardId(step.shard), "a move is taken back");
        let going = view.move_of(ShardId(step.shard)).cloned();
        decide(meta, ChangeBody::DropMove(step)).await?;
        if let Some(going) = going {
            node.note(moves::event(&going, MoveStep::Cancelled));
        }
    }
    for wanted in plan.begin {
        let Move {
            shard, from, to, ..
        } = wanted;
        tracing::info!(
            shard = %ShardId(shard),
            from = %NodeId(from),
            to = %NodeId(to),
            degraded = wanted.degraded,
            "a replica moves"
        );
        let begun = moves::event(&wanted, MoveStep::Begun);
        decide(meta, ChangeBody::BeginMove(wanted)).await?;
        node.note(begun);
    }
    for node in placement::PlacementPlan::removable(view) {
        tracing::info!(node = %NodeId(node), "a node is removed");
        let leave = Leave { node, stays: false };
        decide(meta, ChangeBody::Remove(leave)).await?;
    }
    Ok(())
}

fn sorted(ids: &[u64]) -> Vec<u64> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids
}

async fn decide(meta: &Group, change: ChangeBody) -> Result<(), String> {
    let command = Command::meta(Change::from(change));
    let reply = meta
        .propose(&command, STEP_MAX)
        .await
        .map_err(|e| e.to_string())?;
    match reply.answer {
        Some(model::command::Answer::Refused(refusal)) => Err(refusal.message),
        _ => Ok(()),
    }
}
