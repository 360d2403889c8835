//! Whether the cluster is whole again after a drill.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use client::v1;
use model::id::ShardId;
use server::drill::paper::Moment;
use server::sight::report::answers;

use super::Run;
use super::after::ASK;
use crate::cmd::map::{Map, told};

/// How long the cluster may take until every replica is whole again.
const WHOLE_LIMIT: Duration = Duration::from_secs(120);
/// Between two looks whether the cluster is whole.
const WHOLE_CHECK_EVERY: Duration = Duration::from_millis(500);

/// Waits until every node answers, every shard is led and every replica is whole, and goes on being heard
/// by the meta shard meanwhile.
pub async fn again(run: &mut Run<'_>) -> Result<(), String> {
    let began = Instant::now();
    let mut beat = Instant::now();
    loop {
        let asked = run.client.status_all(ASK).await;
        let map = asked
            .ok()
            .and_then(|all| Map::of(all.into_iter().map(told).collect()).ok());
        if map.as_ref().is_some_and(|map| unled(map).is_none()) {
            run.healing.led();
        }
        let why = map.map_or(Some("no node answers".to_owned()), |map| unwhole(&map));
        let Some(why) = why else {
            let text = "every replica is whole again".to_owned();
            run.happened(Moment::FullyReplicated, text);
            return Ok(());
        };
        if began.elapsed() > WHOLE_LIMIT {
            let text = format!("not whole after {} s: {why}", WHOLE_LIMIT.as_secs());
            run.deviations.push(text.clone());
            return Err(text);
        }
        if beat.elapsed() > super::RENEW {
            beat = Instant::now();
            // One that was ended by others is concluded all the same.
            let _ = run.beat().await;
        }
        tokio::time::sleep(WHOLE_CHECK_EVERY).await;
    }
}

/// A shard that nobody leads.
pub fn unled(map: &Map) -> Option<u32> {
    let leaders = map.leaders();
    let mut shards = map.newest().shards.iter().map(|one| one.shard);
    shards.find(|shard| !leaders.contains_key(&ShardId(*shard)))
}

/// What is not whole yet.
fn unwhole(map: &Map) -> Option<String> {
    if let Some(node) = map.gone().first() {
        return Some(format!("{} does not answer", map.name(*node)));
    }
    let unrestored = answers(&map.reports).flat_map(|one| &one.unrestored).next();
    if let Some(one) = unrestored {
        return Some(format!("shard {}: {}", one.shard, one.why));
    }
    if let Some(shard) = unled(map) {
        return Some(format!("shard {shard} has no leader"));
    }
    // A replica that lacks what its leader has committed is still coming back.
    let mut committed: BTreeMap<u32, u64> = BTreeMap::new();
    for replica in answers(&map.reports).flat_map(|one| &one.replicas) {
        if replica.state == "leader" {
            committed.insert(replica.shard, replica.committed_index);
        }
    }
    answers(&map.reports).find_map(|status| {
        let behind = |one: &&v1::ReplicaStatus| {
            let due = committed.get(&one.shard).copied().unwrap_or(0);
            one.applied_index + 1_000 < due
        };
        let one = status.replicas.iter().find(behind)?;
        Some(format!(
            "{} is behind in shard {}",
            status.node_name, one.shard
        ))
    })
}
