//! What has expired is removed: the leader of each shard looks for it and has it decided, so that all replicas
//! remove the same. Reads do not wait for that: they show a tombstone from the moment on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::command::{Answer, Command, Expire};
use model::id::{ConversationKey, ShardId};
use model::limits::EXPIRE_MAX;
use store::state::Overdue;
use tokio::time::{MissedTickBehavior, interval};

use crate::replica::group::Group;
use crate::shared::Shared;
use crate::tasks::STEP_MAX;

/// Between two looks at what has expired.
const LOOK_EXPIRED: Duration = Duration::from_secs(10);
/// Conversations of one shard that a look goes through; the next goes on behind them.
const TOGETHER_MAX: usize = 1_000;
/// Commands for one conversation in a look: much that expires at once does not hold up the others.
const COMMANDS_MAX: usize = 64;

/// Removes what has expired until the node stops.
pub(crate) async fn keep(node: Arc<Shared>) {
    let mut look = interval(LOOK_EXPIRED);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next: BTreeMap<ShardId, ConversationKey> = BTreeMap::new();
    loop {
        look.tick().await;
        // Without a time that most agree on nothing is removed.
        let Some(now_ms) = node.time().agreed_ms() else {
            continue;
        };
        for group in node.groups() {
            if !group.leads() || !group.state.may_expire() {
                next.remove(&group.shard);
                continue;
            }
            let from = next
                .remove(&group.shard)
                .unwrap_or(ConversationKey([0; 16]));
            if let Some(behind) = remove(&group, &from, now_ms).await {
                next.insert(group.shard, behind);
            }
        }
    }
}

/// Removes what has expired of some conversations; gives where to go on.
async fn remove(group: &Group, from: &ConversationKey, now_ms: u64) -> Option<ConversationKey> {
    // A replica that cannot be read is healed by others.
    let found = group.state.overdue(from, now_ms, TOGETHER_MAX).ok()?;
    for overdue in found.overdue {
        if let Err(why) = remove_of(group, overdue).await {
            tracing::debug!(shard = %group.shard, why, "what has expired is removed later");
            return Some(*from);
        }
    }
    found.next
}

async fn remove_of(group: &Group, overdue: Overdue) -> Result<(), String> {
    let Overdue { name, due, prefix } = overdue;
    let prefix_max = match prefix {
        true => (EXPIRE_MAX - due.len()) as u64,
        false => 0,
    };
    let mut expire = Expire {
        conversation: name,
        due,
        prefix_max,
        tenant_ttl_ms: 0,
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
