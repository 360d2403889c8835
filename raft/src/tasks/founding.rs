//! Founding: the cluster by its first node, and each shard by its first replica.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::cluster::{Change, ChangeBody, ClusterState, Shard};
use model::command::Command;
use model::id::ShardId;
use openraft::metrics::RaftServerMetrics;
use tokio::time::{Instant, sleep};

use crate::adapter::incarnation::Member;
use crate::adapter::types::Types;
use crate::replica::group::Group;
use crate::shared::Shared;
use crate::tasks::{DUTIES_CHECK_EVERY, STEP_MAX};

/// A shard is founded by its first replica; each next one waits this much longer.
const FOUND_TURN: Duration = Duration::from_secs(3);

/// Founds the cluster, once: the meta shard with this node alone, and its first record.
pub(crate) async fn found_cluster(node: Arc<Shared>, cluster: ClusterState) {
    let Some(meta) = node.group(ShardId::META) else {
        return;
    };
    while meta.state.cluster().epoch == 0 {
        if !meta.raft.is_initialized().await.unwrap_or(true) {
            let members = BTreeMap::from([(node.id().0, Member::default())]);
            if let Err(error) = meta.raft.initialize(members).await {
                tracing::warn!(%error, "founding the cluster");
            }
        }
        if meta.leads() {
            let change = Change {
                body: Some(ChangeBody::Found(Box::new(cluster.clone()))),
                actor: None,
            };
            if let Err(error) = meta.propose(&Command::meta(change), STEP_MAX).await {
                tracing::warn!(%error, "founding the cluster");
            }
        }
        sleep(DUTIES_CHECK_EVERY).await;
    }
}

/// Lets a replica that was just opened begin. A shard that was laid out just now is founded: by its
/// first replica at once, by the others only if that one does not. All give the same members, so
/// that doing it twice does no harm.
pub(crate) async fn begin_shard(node: Arc<Shared>, group: Arc<Group>, founded: Option<Shard>) {
    let first = async {
        if let Some(shard) = founded {
            found_shard(&node, &group, &shard).await;
        }
    };
    let begins = crate::tasks::sleep::begin(&node, &group, first);
    node.stop.run_until_cancelled(begins).await;
}

async fn found_shard(node: &Shared, group: &Group, shard: &Shard) {
    let mut replicas = shard.replicas.iter();
    let rank = replicas.position(|id| *id == node.id().0).unwrap_or(0);
    if rank > 0 {
        let turn = FOUND_TURN * u32::try_from(rank).unwrap_or(u32::MAX);
        let leader = |now: &RaftServerMetrics<Types>| now.current_leader;
        if group.seen(Instant::now() + turn, leader).await.is_some() {
            return;
        }
    }
    if group.raft.is_initialized().await.unwrap_or(true) {
        return;
    }
    let members = shard.replicas.iter().map(|id| (*id, Member::default()));
    let members: BTreeMap<u64, Member> = members.collect();
    if let Err(error) = group.raft.initialize(members).await {
        tracing::debug!(%error, shard = shard.id, "the shard was founded by another replica");
    }
}
