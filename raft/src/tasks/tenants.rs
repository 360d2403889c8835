//! What is in a tenant that was deleted is removed: the leader of each shard looks for its conversations and
//! has each deleted, as a caller would. When a whole pass finds none, the meta shard is told; with the last
//! shard the tenant is gone.
//!
//! ```text
//!  deleted ─► pass: conversations found ─► each is deleted ─┐
//!                ▲                                          │
//!                └──────────────────────────────────────────┘
//!             pass: none found ─► Swept { shards } ─► meta shard ─► the name is free
//! ```
//!
//! A pass reads at the leader, confirmed by a quorum, so that a leader of former times tells nothing. A pass
//! counts once the deletion has been known here for [`HEARD_BY_ALL`]: by then every node that reaches the
//! others refuses calls for the tenant.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::cluster::tenants::{Swept, TenantBody, TenantChange};
use model::cluster::{ChangeBody, ClusterState};
use model::command::{Answer, Command, Configure, Delete, Setting};
use model::id::{ConversationKey, ShardId};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::replica::group::Group;
use crate::shared::Shared;
use crate::tasks::{STEP_MAX, moves};

/// Between two looks at what is to be removed.
const LOOK_DELETED: Duration = Duration::from_secs(1);
/// Until every node that reaches the others has heard of a deletion.
const HEARD_BY_ALL: Duration = Duration::from_secs(2);
/// Conversations of one shard that are looked at together.
const LOOKED_AT_MAX: usize = 1_000;
/// Conversations that are deleted together.
const TOGETHER_MAX: usize = 128;
/// Conversations of one shard that a look deletes, about: other work has its turn.
const DELETED_MAX: u64 = 2_000;
/// Steps of one shard in a look: much of other tenants does not hold up the rest.
const STEPS_MAX: u32 = 32;
/// How often what was removed is told while there is more, in looks: each telling goes to all nodes.
const TOLD_EVERY: u32 = 10;

/// A removal, and a shard that it is carried out in.
type Place = (u64, ShardId);

/// How far one is.
struct Pass {
    /// When this node saw the deletion first as the shard's leader.
    since: Instant,
    /// Where the pass goes on.
    next: ConversationKey,
    /// When the pass began, if it has found nothing.
    clean: Option<Instant>,
    /// Conversations deleted and not told of.
    removed: u64,
    swept: bool,
}

/// Removes what is in deleted tenants until the node stops.
pub(crate) async fn keep(node: Arc<Shared>) {
    let mut look = interval(LOOK_DELETED);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut passes: BTreeMap<Place, Pass> = BTreeMap::new();
    let mut looks = 0_u32;
    loop {
        look.tick().await;
        let view = node.current_view();
        let removals = removals(&view);
        let is_one = |epoch: u64| removals.iter().any(|one| one.epoch == epoch);
        passes.retain(|(epoch, _), _| is_one(*epoch));
        looks = looks.wrapping_add(1);
        for removal in removals {
            for group in node.groups() {
                carry_out(&group, &removal, &mut passes).await;
            }
            let often = looks.is_multiple_of(TOLD_EVERY);
            tell(&node, &removal, &mut passes, often).await;
        }
    }
}

/// A tenant that is being removed.
struct Deleted {
    id: String,
    epoch: u64,
    swept: Vec<u32>,
}

fn removals(view: &ClusterState) -> Vec<Deleted> {
    let tenants = view.tenants.iter();
    let deleting = tenants.flat_map(|tenants| tenants.deleting());
    let deleted = deleting.map(|(tenant, removal)| Deleted {
        id: tenant.id.clone(),
        epoch: removal.epoch,
        swept: removal.swept.clone(),
    });
    deleted.collect()
}

/// Removes some of what one shard has of a tenant, where this node leads it.
async fn carry_out(group: &Arc<Group>, removal: &Deleted, passes: &mut BTreeMap<Place, Pass>) {
    let place = (removal.epoch, group.shard);
    if group.shard.is_meta() || removal.swept.binary_search(&group.shard.0).is_ok() {
        passes.remove(&place);
        return;
    }
    if !group.leads() {
        if let Some(pass) = passes.get_mut(&place) {
            // Who leads next begins anew.
            (pass.swept, pass.clean) = (false, None);
        }
        return;
    }
    let now = Instant::now();
    let pass = passes.entry(place).or_insert_with(|| Pass::new(now));
    let mut deleted = 0;
    for _ in 0..STEPS_MAX {
        if pass.swept || deleted >= DELETED_MAX {
            return;
        }
        match step(group, removal, pass).await {
            Ok(count) => deleted += count,
            Err(why) => {
                tracing::debug!(shard = %group.shard, tenant = removal.id, why, "it is removed later");
                return;
            }
        }
        if pass.at_start() && !pass.swept {
            // A pass has ended: the next one is for the next look.
            return;
        }
    }
}

/// Looks at the next conversations of a shard and deletes those of the tenant; gives how many these were.
async fn step(group: &Arc<Group>, removal: &Deleted, pass: &mut Pass) -> Result<u64, String> {
    let began = Instant::now();
    if pass.at_start() {
        pass.clean = Some(began);
    }
    let prefix = format!("tenants/{}/conversations/", removal.id);
    let from = pass.next;
    let read = group.read(STEP_MAX, |state| {
        let mut found = Vec::new();
        let next = state.heads(&from, LOOKED_AT_MAX, |head| {
            if head.name.starts_with(&prefix) && !head.is_deleted() {
                found.push((head.name, head.incarnation));
            }
            found.len() < TOGETHER_MAX
        });
        next.map(|next| (found, next))
    });
    let read = read.await.map_err(|error| format!("{error:?}"))?;
    let (found, next) = read.map_err(|error| error.to_string())?;
    let deletions = found
        .iter()
        .map(|(name, incarnation)| delete(group, removal, name, *incarnation));
    for deleted in futures::future::join_all(deletions).await {
        deleted?;
    }
    let count = found.len() as u64;
    if count > 0 {
        pass.clean = None;
        pass.removed += count;
    }
    pass.next = next.unwrap_or(ConversationKey([0; 16]));
    if next.is_none() {
        let heard = |began: Instant| began >= pass.since + HEARD_BY_ALL;
        pass.swept = pass.clean.is_some_and(heard);
    }
    Ok(count)
}

/// Deletes one conversation. The id of the request is that of the life that ends, so that one which was
/// created meanwhile is deleted, too.
async fn delete(
    group: &Group,
    removal: &Deleted,
    name: &str,
    incarnation: u64,
) -> Result<(), String> {
    let request_id = format!("firebreak-tenant-{}-{incarnation}", removal.epoch);
    let command = Command::configure(Configure {
        conversation: name.to_owned(),
        request_id: Bytes::from(request_id),
        setting: Some(Setting::Delete(Delete {})),
    });
    let decided = group.propose(&command, STEP_MAX).await;
    match decided.map_err(|error| error.to_string())?.answer {
        // One that is gone is what is wanted; what else is refused is found again.
        Some(Answer::Configured(_) | Answer::Refused(_)) => Ok(()),
        _ => Err("the answer to a deletion is of another kind".to_owned()),
    }
}

/// Tells the meta shard what was removed, when a shard is done or `often` says so.
async fn tell(
    node: &Arc<Shared>,
    removal: &Deleted,
    passes: &mut BTreeMap<Place, Pass>,
    often: bool,
) {
    let range = (removal.epoch, ShardId(0))..=(removal.epoch, ShardId(u32::MAX));
    let mine = passes.range(range.clone());
    let removed: u64 = mine.map(|(_, pass)| pass.removed).sum();
    let done = passes.range(range.clone()).filter(|(_, pass)| pass.swept);
    let shards: Vec<u32> = done.map(|((_, shard), _)| shard.0).collect();
    if shards.is_empty() && (removed == 0 || !often) {
        return;
    }
    let swept = Swept {
        id: removal.id.clone(),
        epoch: removal.epoch,
        shards,
        removed,
    };
    let change = TenantChange {
        request_id: Bytes::new(),
        body: Some(TenantBody::Swept(swept)),
    };
    match moves::ask(node, ChangeBody::Tenant(Box::new(change))).await {
        Ok(()) => {
            for (_, pass) in passes.range_mut(range) {
                pass.removed = 0;
            }
        }
        // It is told again: then what was removed may be counted twice.
        Err(why) => tracing::debug!(tenant = removal.id, why, "a removal is told later"),
    }
}

impl Pass {
    fn new(since: Instant) -> Pass {
        Pass {
            since,
            next: ConversationKey([0; 16]),
            clean: None,
            removed: 0,
            swept: false,
        }
    }

    fn at_start(&self) -> bool {
        self.next == ConversationKey([0; 16])
    }
}
