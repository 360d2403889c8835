//! What goes on beside the calls: nodes tell the keepers of quotas what they gave out, and leaders count the
//! conversations of tenants that may have so many only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::cluster::ClusterState;
use model::id::{ConversationKey, ShardId};
use proto::node as wire;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::keep;
use super::quota::Quota;
use crate::deadline::Deadline;
use crate::gateway::Gateway;

/// Between two tellings of what was given out.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// Tellings between two questions whether a tenant has all its conversations.
const ASK_EVERY: u32 = 5;
/// Between two counts of conversations.
const COUNT_EVERY: Duration = Duration::from_secs(10);
/// How long a tenant counts as active behind its last call.
const ACTIVE: Duration = Duration::from_secs(10);
/// For one telling.
const TELL_MAX: Duration = Duration::from_millis(500);
/// Heads that are looked at together.
const TOGETHER_MAX: usize = 1_000;
/// Counts of shards in one request.
const COUNTS_MAX: usize = 1_000;

/// Tells keepers what this node gave out; never ends.
pub async fn tell(gateway: Arc<Gateway>) {
    let mut ticks = interval(TELL_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut turn = 0_u32;
    loop {
        ticks.tick().await;
        turn = turn.wrapping_add(1);
        let view = gateway.view();
        if view.tenants.is_none() {
            continue;
        }
        let is_one = |tenant: &str| view.tenant(tenant).is_some_and(|one| one.quotas.is_some());
        let tenancy = &gateway.tenancy;
        tenancy.shares.keep(is_one);
        tenancy.keeper.keep(is_one);
        tenancy.existing.lock().retain(|tenant, _| is_one(tenant));
        let since = Instant::now().checked_sub(ACTIVE);
        let active = since.map_or_else(Vec::new, |since| tenancy.shares.active(since));
        for id in active {
            let Some(tenant) = view.tenant(&id) else {
                continue;
            };
            let asks = Quota::Conversations.limit(tenant) > 0 && turn.is_multiple_of(ASK_EVERY);
            let told = tenancy.shares.untold(&id);
            if told.used.is_empty() && told.returned.is_empty() && !asks {
                continue;
            }
            let request = wire::TakeRequest {
                tenant: id.clone(),
                used: told.used.iter().map(keep::to_wire).collect(),
                returned: told.returned.iter().map(keep::to_wire).collect(),
                ..wire::TakeRequest::default()
            };
            let answer = gateway
                .tell_keeper(request, Deadline::after(TELL_MAX))
                .await;
            if answer.is_none() {
                tenancy.shares.tell_again(&id, &told);
            }
        }
    }
}

/// Counts the conversations of the shards that this node leads; never ends.
pub async fn count(gateway: Arc<Gateway>) {
    let mut ticks = interval(COUNT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let view = gateway.view();
        let limited = limited(&view);
        if limited.is_empty() {
            continue;
        }
        let mut counts: BTreeMap<String, Vec<wire::ShardCount>> = BTreeMap::new();
        for (shard, _) in gateway.raft.replicas_together().led {
            if shard.is_meta() {
                continue;
            }
            for (tenant, conversations) in of_shard(&gateway, shard, &limited).await {
                let shard = shard.0;
                counts.entry(tenant).or_default().push(wire::ShardCount {
                    shard,
                    conversations,
                });
            }
        }
        for (tenant, counts) in counts {
            for some in counts.chunks(COUNTS_MAX) {
                let request = wire::TakeRequest {
                    tenant: tenant.clone(),
                    counts: some.to_vec(),
                    ..wire::TakeRequest::default()
                };
                // What does not arrive is told with the next count.
                let _ = gateway
                    .tell_keeper(request, Deadline::after(TELL_MAX))
                    .await;
            }
        }
    }
}

/// Tenants whose conversations are counted.
fn limited(view: &ClusterState) -> BTreeSet<String> {
    let tenants = view.tenants.iter().flat_map(|tenants| &tenants.all);
    let limited = tenants.filter(|tenant| Quota::Conversations.limit(tenant) > 0);
    limited.map(|tenant| tenant.id.clone()).collect()
}

/// What one shard has of these tenants: all of them are named.
async fn of_shard(
    gateway: &Gateway,
    shard: ShardId,
    limited: &BTreeSet<String>,
) -> BTreeMap<String, u64> {
    let mut counts: BTreeMap<String, u64> = limited.iter().map(|id| (id.clone(), 0)).collect();
    let mut from = Some(ConversationKey([0; 16]));
    while let (Some(at), Some(state)) = (from, gateway.raft.state(shard)) {
        let looked = state.heads(&at, TOGETHER_MAX, |head| {
            let name = head.name.strip_prefix("tenants/").unwrap_or_default();
            let tenant = name.split('/').next().unwrap_or_default();
            if let Some(count) = counts.get_mut(tenant).filter(|_| !head.is_deleted()) {
                *count += 1;
            }
            true
        });
        match looked {
            Ok(next) => from = next,
            // It is healed by others; half a count says too little.
            Err(_) => return BTreeMap::new(),
        }
        // Others of this thread have their turn.
        tokio::task::yield_now().await;
    }
    counts
}
