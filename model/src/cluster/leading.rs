//! Who should lead a shard: pure functions of the cluster's state and of who is fit to lead.

use std::collections::BTreeMap;

use crate::cluster::ClusterState;
use crate::id::{NodeId, ShardId};

/// Whether a node is to lead this shard no more: it drains, leaves the cluster, or gives its replica
/// up.
fn goes(state: &ClusterState, shard: ShardId, node: NodeId) -> bool {
    state.is_draining(node)
        || state.leaving.contains(&node.0)
        || state.move_of(shard).is_some_and(|m| m.from == node.0)
}

/// The replicas of a shard, best leader first: nodes that stay before those that drain or go, then the
/// policy's data centers in their order, then the order of the layout.
pub fn leader_order(state: &ClusterState, shard: ShardId) -> Vec<NodeId> {
    let policy = state.policy_of(shard);
    let rank = |node: NodeId| {
        let dc = state.dc_of(node.0);
        let preferred = policy.prefer.iter().position(|name| name == dc);
        (
            goes(state, shard, node),
            preferred.unwrap_or(policy.prefer.len()),
        )
    };
    let replicas = state.replicas_of(shard).iter();
    let mut order: Vec<NodeId> = replicas.map(|id| NodeId(*id)).collect();
    // Stable: among equals the layout decides.
    order.sort_by_key(|node| rank(*node));
    order
}

/// Who should lead each shard, of those that are `fit`; shards that nobody fit replicates are left
/// out. The best data center that has a fit replica of a shard leads it; its nodes share what it
/// leads evenly, the layout's order deciding among equals.
pub fn leaders(state: &ClusterState, fit: impl Fn(NodeId) -> bool) -> BTreeMap<ShardId, NodeId> {
    let mut leads: BTreeMap<NodeId, usize> = BTreeMap::new();
    let mut chosen = BTreeMap::new();
    for shard in state.shard_ids() {
        let mut order = leader_order(state, shard);
        order.retain(|node| fit(*node) && !goes(state, shard, *node));
        let Some(first) = order.first() else { continue };
        let dc = state.dc_of(first.0);
        let near = order.iter().filter(|node| state.dc_of(node.0) == dc);
        let Some(node) = near.min_by_key(|node| leads.get(*node)) else {
            continue;
        };
        *leads.entry(*node).or_default() += 1;
        chosen.insert(shard, *node);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Locality, Node, Policies, Policy, Shard, ShardPolicy};

    /// Six nodes, two in each of a, b and c; two replicas of each shard in one data center.
    fn cluster() -> ClusterState {
        let node = |id: u64, dc: &str| Node {
            id,
            locality: Some(Locality {
                dc: dc.into(),
                ..Locality::default()
            }),
            ..Node::default()
        };
        let dcs = ["a", "b", "c", "a", "b", "c"];
        let shard = |id: u32, replicas: &[u64]| Shard {
            id,
            replicas: replicas.to_vec(),
            ..Shard::default()
        };
        ClusterState {
            epoch: 1,
            nodes: (1..).zip(dcs).map(|(id, dc)| node(id, dc)).collect(),
            meta_replicas: vec![1, 2, 3],
            shards: vec![
                shard(1, &[1, 2, 3, 4, 5]),
                shard(2, &[1, 2, 3, 4, 5]),
                shard(3, &[2, 3, 4]),
            ],
            ..ClusterState::default()
        }
    }

    fn prefer(dcs: &[&str]) -> Option<Policy> {
        Some(Policy {
            prefer: dcs.iter().map(|dc| (*dc).to_owned()).collect(),
            ..Policy::default()
        })
    }

    fn led(state: &ClusterState, down: &[u64]) -> Vec<(u32, u64)> {
        let leaders = leaders(state, |node| !down.contains(&node.0));
        leaders.iter().map(|(s, n)| (s.0, n.0)).collect()
    }

    #[test]
    fn the_best_data_center_that_can_leads_and_its_nodes_share_it() {
        let mut state = cluster();
        assert_eq!(led(&state, &[]), [(0, 1), (1, 4), (2, 1), (3, 2)]);
        assert_eq!(led(&state, &[1]), [(0, 2), (1, 5), (2, 2), (3, 2)]);
        assert_eq!(led(&state, &[1, 2, 3]), [(1, 4), (2, 4), (3, 4)]);
        state.policies = Some(Policies {
            default: prefer(&["c", "b"]),
            shards: vec![ShardPolicy {
                shard: 2,
                policy: prefer(&["b"]),
            }],
        });
        assert_eq!(led(&state, &[]), [(0, 3), (1, 3), (2, 2), (3, 3)]);
        assert_eq!(led(&state, &[3]), [(0, 2), (1, 5), (2, 2), (3, 2)]);
        state.draining = vec![2, 3];
        assert_eq!(led(&state, &[]), [(0, 1), (1, 5), (2, 5), (3, 4)]);
    }

    #[test]
    fn drained_replicas_come_last_and_the_layout_decides_among_equals() {
        let mut state = cluster();
        let order = |state: &ClusterState| -> Vec<u64> {
            let order = leader_order(state, ShardId(1));
            order.into_iter().map(|node| node.0).collect()
        };
        assert_eq!(order(&state), [1, 2, 3, 4, 5]);
        state.policies = Some(Policies {
            default: prefer(&["b", "a"]),
            shards: vec![],
        });
        assert_eq!(order(&state), [2, 5, 1, 4, 3]);
        state.draining = vec![2];
        assert_eq!(order(&state), [5, 1, 4, 3, 2]);
    }
}
