//! What has expired is removed: the leader of each shard looks for it and has it decided, so that all replicas
//! remove the same. Reads do not wait for that: they show a tombstone from the moment on.
//!
//! How long a tenant has messages live is no part of a shard: the leader says it in the command.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::cluster::ClusterState;
use model::command::{Answer, Command, Expire};
use model::id::{ConversationKey, ShardId};
use model::limits::EXPIRE_MAX;
use store::state::{Look, Overdue};
use tokio::time::{MissedTickBehavior, interval};

use crate::replica::group::Group;
use crate::shared::Shared;
use crate::tasks::STEP_MAX;

/// Between two looks at what has expired.
const LOOK_EXPIRED: Duration = Duration::from_secs(10);
/// Conversations of one shard that a look goes through; the next goes on behind them.
const TOGETHER_MAX: usize = 1_000;
/// The same where a tenant says how long messages live: most of them are only looked at.
const OF_TENANTS_MAX: usize = 10 * TOGETHER_MAX;
/// Commands for one conversation in a look: much that expires at once does not hold up the others.
const COMMANDS_MAX: usize = 64;

/// Where the next look at a shard begins.
#[derive(Default)]
struct Places {
    noted: BTreeMap<ShardId, ConversationKey>,
    by_tenant: BTreeMap<ShardId, ConversationKey>,
}

/// Removes what has expired until the node stops.
pub(crate) async fn keep(node: Arc<Shared>) {
    let mut look = interval(LOOK_EXPIRED);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next = Places::default();
    loop {
        look.tick().await;
        // Without a time that most agree on nothing is removed.
        let Some(now_ms) = node.time().agreed_ms() else {
            continue;
        };
        let view = node.current_view();
        for group in node.groups() {
            look_at(&group, &view, now_ms, &mut next).await;
        }
    }
}

/// Removes what has expired of some conversations of a shard that this node leads.
async fn look_at(group: &Group, view: &ClusterState, now_ms: u64, next: &mut Places) {
    let shard = group.shard;
    let ttl_of = |name: &str| ttl_of(view, name);
    let noted = next
        .noted
        .remove(&shard)
        .unwrap_or(ConversationKey([0; 16]));
    let by_tenant = next.by_tenant.remove(&shard);
    if !group.leads() || shard.is_meta() {
        return;
    }
    // A replica that cannot be read is healed by others.
    if group.state.may_expire()
        && let Ok(found) = group.state.overdue(&noted, now_ms, TOGETHER_MAX, ttl_of)
        && let Some(behind) = remove(group, &noted, found).await
    {
        next.noted.insert(shard, behind);
    }
    let tenants = view.tenants.iter().flat_map(|tenants| &tenants.all);
    if !tenants.into_iter().any(|tenant| tenant.ttl_ms > 0) {
        return;
    }
    let mut from = by_tenant.unwrap_or(ConversationKey([0; 16]));
    for _ in 0..OF_TENANTS_MAX / TOGETHER_MAX {
        let found = group
            .state
            .overdue_by_tenant(&from, now_ms, TOGETHER_MAX, ttl_of);
        let Ok(found) = found else { return };
        match remove(group, &from, found).await {
            Some(behind) if behind != from => from = behind,
            Some(_) => break,
            None => return,
        }
        // Others of this thread have their turn.
        tokio::task::yield_now().await;
    }
    next.by_tenant.insert(shard, from);
}

/// How long the tenant of a conversation has messages live, milliseconds; 0 = it does not say.
fn ttl_of(view: &ClusterState, name: &str) -> u64 {
    let tenant = name
        .strip_prefix("tenants/")
        .and_then(|rest| rest.split_once('/'));
    tenant.map_or(0, |(tenant, _)| view.tenant_ttl_ms(tenant))
}

/// Removes what was found; gives where to go on.
async fn remove(group: &Group, from: &ConversationKey, found: Look) -> Option<ConversationKey> {
    for overdue in found.overdue {
        if let Err(why) = remove_of(group, overdue).await {
            tracing::debug!(shard = %group.shard, why, "what has expired is removed later");
            return Some(*from);
        }
    }
    found.next
}

async fn remove_of(group: &Group, overdue: Overdue) -> Result<(), String> {
    let Overdue {
        name,
        due,
        prefix,
        tenant_ttl_ms,
    } = overdue;
    let prefix_max = match prefix {
        true => (EXPIRE_MAX - due.len()) as u64,
        false => 0,
    };
    let mut expire = Expire {
        conversation: name,
        due,
        prefix_max,
        tenant_ttl_ms,
    };
    for _ in 0..COMMANDS_MAX {
        let decided = group
            .propose(&Command::expire(expire.clone()), STEP_MAX)
            .await;
        let reply = decided.map_err(|error| error.to_string())?;
        let removed = match reply.answer {
            Some(Answer::Expired(done)) => done.removed,
            // It was deleted meanwhile.
            _ => return Ok(()),
        };
        if removed < expire.prefix_max || expire.prefix_max == 0 {
            break;
        }
        expire.due.clear();
        expire.prefix_max = EXPIRE_MAX as u64;
    }
    Ok(())
}
