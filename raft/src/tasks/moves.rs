//! Moving a replica: the meta shard says what is wanted, the shard's own leader makes it so.
//!
//! ```text
//!   meta shard            the shard's leader
//!   BeginMove ──────────► adds the new replica as a learner, until it says that it has caught up
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
use prost::Message;
use tokio::time::sleep;

use crate::adapter::told;
use crate::adapter::types::StoredMembership;
use crate::api::{Event, HandOverCause, MoveStep};
use crate::replica::group::Group;
use crate::shared::Shared;
use crate::tasks::handover;
use crate::tasks::heal::{self, Permit};
use crate::tasks::{DUTIES_CHECK_EVERY, STEP_MAX};

/// Looks between two searches for learners that nobody wants.
const SWEEP_LOOKS: u32 = 40;

/// Carries out the moves of the shards that this node leads.
pub(crate) async fn carry_out(node: Arc<Shared>) {
    let mut look = 0_u32;
    loop {
        sleep(DUTIES_CHECK_EVERY).await;
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
        heal::look(&node, &view, look >= SWEEP_LOOKS).await;
        if look >= SWEEP_LOOKS {
            look = 0;
            sweep(&node, &view).await;
        }
    }
}

/// One step of a move, from whatever is found.
async fn step(
    node: &Arc<Shared>,
    group: &Group,
    shard: &Shard,
    going: &Move,
) -> Result<(), String> {
    let wanted: BTreeSet<u64> = going.after(&shard.replicas).into_iter().collect();
    if going.from == node.id().0 && group.voters() != wanted {
        let others = |id| wanted.contains(&id) && id != going.to;
        return hand_over(node, group, others).await;
    }
    heal::restore(node, group, &wanted, &Decided { node, going }).await?;
    let (from, to) = (NodeId(going.from), NodeId(going.to));
    ask(node, ChangeBody::FinishMove(going.step())).await?;
    tracing::info!(shard = %group.shard, %from, %to, "a replica has moved");
    node.note(event(going, MoveStep::Ended));
    Ok(())
}

/// What is told of a move.
pub(crate) fn event(going: &Move, step: MoveStep) -> Event {
    Event::Move {
        shard: ShardId(going.shard),
        from: NodeId(going.from),
        to: NodeId(going.to),
        step,
    }
}

/// The meta shard decides when the voters may change.
struct Decided<'a> {
    node: &'a Arc<Shared>,
    going: &'a Move,
}

impl Permit for Decided<'_> {
    async fn permit(&self) -> Result<(), String> {
        ask(self.node, ChangeBody::ChangeVoters(self.going.step())).await?;
        if !self.going.changing {
            let (shard, to) = (ShardId(self.going.shard), NodeId(self.going.to));
            tracing::info!(%shard, %to, "the voters may change");
            self.node.note(event(self.going, MoveStep::Changing));
        }
        Ok(())
    }
}

/// The membership in effect, committed or not.
pub(crate) fn membership(group: &Group) -> StoredMembership {
    told::server(&group.raft).membership_config.as_ref().clone()
}

/// Hands the lead of a group to one of those that it may go to.
pub(crate) async fn hand_over(
    node: &Shared,
    group: &Group,
    may: impl Fn(u64) -> bool,
) -> Result<(), String> {
    let mut targets = cluster::leader_order(&node.current_view(), group.shard);
    targets.retain(|id| may(id.0) && node.peers().reachable(*id));
    let handed = handover::hand_over(node, group, &targets, HandOverCause::Move).await;
    handed.map(drop).map_err(|error| error.to_string())
}

/// Has the meta shard decide a step.
pub(crate) async fn ask(node: &Arc<Shared>, body: ChangeBody) -> Result<(), String> {
    let command = Command::meta(Change::from(body));
    let command = Bytes::from(command.encode_to_vec());
    let asked = node
        .clone()
        .propose(ShardId::META, (command, None), STEP_MAX);
    match asked.await.map_err(|e| e.to_string())?.answer {
        Some(Answer::Meta(_)) => Ok(()),
        Some(Answer::Refused(refusal)) => Err(refusal.message),
        Some(
            Answer::Appended(_)
            | Answer::Created(_)
            | Answer::Changed(_)
            | Answer::Configured(_)
            | Answer::Expired(_),
        )
        | None => Err("the meta shard answered something else".into()),
    }
}

/// Removes learners whose move was taken back.
async fn sweep(node: &Shared, view: &ClusterState) {
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
        group.leadership.rouse().await;
        // The next sweep tries again.
        let _ = heal::forget(&group, &members, unwanted).await;
    }
}
