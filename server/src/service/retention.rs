//! What would have expired at a time, of the shards that this node leads. Nothing is removed.

use std::sync::Arc;

use model::id::ShardId;
use proto::v1;
use store::state::{Forecast, WhatIf};
use tokio::sync::oneshot;

use crate::check::Checker;
use crate::convert;
use crate::deadline::Call;
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::world::Background;

/// Counts it, shard by shard.
///
/// # Errors
/// [`Failure::Invalid`], and what a replica says that cannot be read.
pub async fn plan(
    gateway: &Arc<Gateway>,
    background: &dyn Background,
    request: v1::PlanRetentionRequest,
    call: &Call,
) -> Result<v1::PlanRetentionResponse, Failure> {
    let mut check = Checker::of(call, 0);
    let name = match request.conversation.is_empty() {
        true => None,
        false => check.conversation("conversation", &request.conversation),
    };
    if let Some(time) = &request.at {
        check.time("at", time);
    }
    match (&request.ttl, &name) {
        (Some(ttl), _) => check.ttl("ttl", ttl, true),
        (None, Some(_)) => check.add("ttl", "is required with conversation"),
        (None, None) => {}
    }
    if request.ttl.is_some() && request.conversation.is_empty() {
        check.add("conversation", "is required with ttl");
    }
    check.finish()?;
    let at_ms = request.at.as_ref().map(convert::millis);
    let at_ms = at_ms.map_or_else(|| gateway.now_ms(), |ms| u64::try_from(ms).unwrap_or(0));
    let ttl_ms = request.ttl.as_ref().map_or(0, convert::millis_of);
    let what_if = name.map(|name| WhatIf { name, ttl_ms });
    let only = what_if.as_ref().map(|one| one.name.key().slot());
    let only = only.and_then(|slot| gateway.shard_of(slot));
    let mut shards = Vec::new();
    for (shard, _) in gateway.raft.replicas_together().led {
        if shard.is_meta() || only.is_some_and(|only| only != shard) {
            continue;
        }
        if let Some(found) = count(gateway, background, (shard, at_ms, what_if.clone())).await? {
            shards.push(v1::ShardRetention {
                shard: shard.0,
                conversations: found.conversations,
                messages: found.messages,
                bytes: found.bytes,
                held: found.held,
            });
        }
    }
    Ok(v1::PlanRetentionResponse { shards })
}

/// Counts one shard's, where reading takes nobody's turn.
async fn count(
    gateway: &Gateway,
    background: &dyn Background,
    (shard, at_ms, what_if): (ShardId, u64, Option<WhatIf>),
) -> Result<Option<Forecast>, Failure> {
    let Some(state) = gateway.raft.state(shard) else {
        return Ok(None);
    };
    let (done, result) = oneshot::channel();
    background.run(Box::new(move || {
        // Who asked may be gone.
        let _ = done.send(state.forecast(at_ms, what_if.as_ref()));
    }));
    let gone = |_| Failure::Internal("the read of what expires was given up".into());
    Ok(Some(result.await.map_err(gone)??))
}
