//! Which shards this node has lost the quorum of: for some time it has heard no majority of their
//! replicas, and nobody who leads them has answered it either. Until then calls are tried again;
//! from then on they are refused at once, for that is what a data center that is cut off has to tell.
//!
//! What counts as hearing is an answer on this node's own link, so that both directions work.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::cluster::ClusterState;
use model::id::{NodeId, ShardId};
use tokio::time::sleep;

use crate::api::Event;
use crate::shared::Shared;
use crate::shared::quorums::LACK_MAX;

/// Between two looks which shards lack a quorum.
const QUORUM_CHECK_EVERY: Duration = Duration::from_millis(50);

/// Looks after the links.
pub(crate) async fn watch(node: Arc<Shared>) {
    let mut silent = BTreeSet::new();
    let mut epoch = 0;
    loop {
        sleep(QUORUM_CHECK_EVERY).await;
        let links = node.peers().all();
        let unheard = links.iter().filter(|link| link.unheard_for() >= LACK_MAX);
        let now_silent: BTreeSet<NodeId> = unheard.map(|link| link.node()).collect();
        let view = node.current_view();
        if now_silent == silent && view.epoch == epoch {
            continue;
        }
        (silent, epoch) = (now_silent, view.epoch);
        let lost = lost(&view, &silent);
        let shards = lost.len();
        match (shards, node.quorums.unheard.borrow().len()) {
            (0, 0) => {}
            (0, _) => tracing::info!("a quorum of every shard is heard again"),
            _ => tracing::warn!(
                ?silent,
                shards,
                of = view.shard_ids().count(),
                "no quorum of these shards is heard: calls to them are refused here"
            ),
        }
        node.quorums
            .served
            .lock()
            .retain(|shard, _| lost.contains(shard));
        let before = node.quorums.unheard.send_replace(Arc::new(lost.clone()));
        note(&node, &before, &lost);
    }
}

/// Tells what has changed.
fn note(node: &Shared, before: &BTreeSet<ShardId>, now: &BTreeSet<ShardId>) {
    for shard in now.symmetric_difference(before) {
        let (shard, lost) = (*shard, now.contains(shard));
        node.note(Event::Quorum { shard, lost });
    }
}

/// The shards that have no majority left without `silent`.
fn lost(view: &ClusterState, silent: &BTreeSet<NodeId>) -> BTreeSet<ShardId> {
    if silent.is_empty() {
        return BTreeSet::new();
    }
    view.shard_ids()
        .filter(|shard| {
            let replicas = view.replicas_of(*shard);
            let heard = replicas.iter().filter(|id| !silent.contains(&NodeId(**id)));
            !replicas.is_empty() && heard.count() <= replicas.len() / 2
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use model::cluster::Shard;

    use super::*;

    #[test]
    fn a_shard_is_lost_when_no_majority_of_its_replicas_is_heard() {
        let shard = |id, replicas: &[u64]| Shard {
            id,
            replicas: replicas.to_vec(),
            ..Shard::default()
        };
        let view = ClusterState {
            shards: vec![shard(1, &[1, 2, 3]), shard(2, &[1, 4, 5])],
            meta_replicas: vec![1, 2, 3, 4, 5],
            ..ClusterState::default()
        };
        let check = |silent: &[u64], expect: &[u32]| {
            let silent = silent.iter().copied().map(NodeId).collect();
            let lost: Vec<u32> = lost(&view, &silent)
                .into_iter()
                .map(|shard| shard.0)
                .collect();
            assert_eq!(lost, expect, "{silent:?}");
        };
        check(&[], &[]);
        check(&[2], &[]);
        check(&[2, 3], &[1]);
        check(&[2, 4], &[]);
        check(&[2, 3, 4], &[0, 1]);
        check(&[2, 3, 4, 5], &[0, 1, 2]);
    }
}
