//! Changes of policies and drains. What cannot keep its promise is refused with the reason.

use std::collections::BTreeMap;

use crate::cluster::decide::refused;
use crate::cluster::{
    ClusterState, Node, Policies, Policy, SetDraining, SetPolicy, ShardPolicy, Survive,
};
use crate::command::Refusal;
use crate::id::{NodeId, ShardId};

/// Sets a policy, or takes a shard's own away.
pub(super) fn set(state: &mut ClusterState, wanted: &SetPolicy) -> Result<u64, Refusal> {
    if let Some(policy) = &wanted.policy {
        check(state, policy)?;
    }
    let mut policies = state.policies.clone().unwrap_or_default();
    match wanted.shard {
        None => policies.default.clone_from(&wanted.policy),
        Some(shard) => {
            if !ShardId(shard).is_meta() && state.shard(ShardId(shard)).is_none() {
                return Err(refused(format!("there is no shard {shard}")));
            }
            set_own(&mut policies, shard, wanted.policy.clone());
        }
    }
    let policies = (policies != Policies::default()).then_some(policies);
    if state.policies != policies {
        state.policies = policies;
        state.epoch += 1;
    }
    Ok(0)
}

fn set_own(policies: &mut Policies, shard: u32, policy: Option<Policy>) {
    policies.shards.retain(|own| own.shard != shard);
    if policy.is_some() {
        let at = policies.shards.partition_point(|own| own.shard < shard);
        policies.shards.insert(at, ShardPolicy { shard, policy });
    }
}

fn check(state: &ClusterState, policy: &Policy) -> Result<(), Refusal> {
    for (at, dc) in policy.prefer.iter().enumerate() {
        if state.nodes.iter().all(|node| node.dc() != dc) {
            let mut known: Vec<&str> = state.nodes.iter().map(Node::dc).collect();
            known.sort_unstable();
            known.dedup();
            let known = known.join(", ");
            return Err(refused(format!(
                "no node is in data center {dc:?}; there are: {known}"
            )));
        }
        if policy.prefer[..at].contains(dc) {
            return Err(refused(format!("data center {dc:?} is preferred twice")));
        }
    }
    let survive = Survive::try_from(policy.survive)
        .map_err(|_| refused("what is to be survived is dc or region"))?;
    let replicas = match policy.replicas {
        0 => state.replicas,
        3 | 5 => policy.replicas,
        1 | 2 | 4 => {
            let replicas = policy.replicas;
            return Err(refused(format!(
                "{replicas} replicas do not survive the loss of any one data center better than \
                 fewer do: ask for 3 or 5"
            )));
        }
        more => return Err(refused(format!("{more} replicas: ask for 3 or 5"))),
    };
    if replicas != state.replicas {
        let laid_out = state.replicas;
        return Err(refused(format!(
            "{replicas} replicas cannot be had: the shards of this cluster were laid out with \
             {laid_out} each when it was founded, and that count is not changed afterwards; leave \
             the count away, or found another cluster with --replicas {replicas}"
        )));
    }
    if policy.replicas != 0 || survive == Survive::Region {
        survives(state, replicas, survive)?;
    }
    Ok(())
}

/// Whether so many replicas can be put so that the loss of any one fire domain leaves a majority.
fn survives(state: &ClusterState, replicas: u32, survive: Survive) -> Result<(), Refusal> {
    let mut domains: BTreeMap<&str, usize> = BTreeMap::new();
    for node in &state.nodes {
        let domain = match survive {
            Survive::Dc => node.dc(),
            Survive::Region => node.locality.as_ref().map_or("", |l| &l.region),
        };
        *domains.entry(domain).or_default() += 1;
    }
    let wanted = replicas as usize;
    // A domain that held more would take the majority with it.
    let most = wanted.saturating_sub(1) / 2;
    let held: usize = domains.values().map(|nodes| (*nodes).min(most)).sum();
    if held >= wanted {
        return Ok(());
    }
    let (one, many) = match survive {
        Survive::Dc => ("data center", "data centers"),
        Survive::Region => ("region", "regions"),
    };
    let names: Vec<&str> = domains.keys().copied().collect();
    Err(refused(format!(
        "{wanted} replicas cannot survive the loss of any one {one}: none may hold more than \
         {most} of them, so that the {} {many} ({}) hold {held}",
        domains.len(),
        names.join(", ")
    )))
}

/// Drains nodes, or takes them back.
pub(super) fn drain(state: &mut ClusterState, wanted: &SetDraining) -> Result<u64, Refusal> {
    let named = named(state, wanted)?;
    let mut draining = state.draining.clone();
    draining.retain(|id| !named.contains(id));
    if wanted.draining {
        draining.extend(&named);
        draining.sort_unstable();
        let stuck = |shard: &ShardId| {
            let replicas = state.replicas_of(*shard);
            !replicas.is_empty() && replicas.iter().all(|id| draining.contains(id))
        };
        if let Some(shard) = state.shard_ids().find(stuck) {
            return Err(refused(format!(
                "all nodes that could lead {shard} would be drained; take some back first"
            )));
        }
    }
    if state.draining != draining {
        state.draining = draining;
        state.epoch += 1;
    }
    Ok(named.first().copied().unwrap_or(0))
}

fn named(state: &ClusterState, wanted: &SetDraining) -> Result<Vec<u64>, Refusal> {
    if wanted.node.is_empty() {
        let nodes = state.nodes.iter().filter(|node| node.dc() == wanted.dc);
        let nodes: Vec<u64> = nodes.map(|node| node.id).collect();
        if wanted.dc.is_empty() || nodes.is_empty() {
            return Err(refused(format!(
                "no node is in data center {:?}",
                wanted.dc
            )));
        }
        return Ok(nodes);
    }
    let id = wanted.node.strip_prefix('n').unwrap_or(&wanted.node);
    let by_id = id.parse().ok().and_then(|id| state.node(NodeId(id)));
    let by_name = state.nodes.iter().find(|node| node.name == wanted.node);
    match by_name.or(by_id) {
        Some(node) => Ok(vec![node.id]),
        None => Err(refused(format!("there is no node {:?}", wanted.node))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Change, ChangeBody, Locality, Shard, decide};
    use crate::command::Answer;

    /// Nodes 1, 2, …, so many in each data center, two data centers to a region, one shard on the
    /// first of each.
    fn cluster(per_dc: &[usize]) -> ClusterState {
        let mut nodes = Vec::new();
        let mut firsts = Vec::new();
        for (dc, count) in per_dc.iter().enumerate() {
            firsts.push(nodes.len() as u64 + 1);
            for _ in 0..*count {
                let id = nodes.len() as u64 + 1;
                nodes.push(Node {
                    id,
                    name: format!("node-{id}"),
                    locality: Some(Locality {
                        region: format!("r{}", dc / 2),
                        dc: format!("dc{dc}"),
                        rack: String::new(),
                    }),
                    ..Node::default()
                });
            }
        }
        ClusterState {
            epoch: 5,
            replicas: 3,
            nodes,
            meta_replicas: firsts.clone(),
            shards: vec![Shard {
                id: 1,
                slot_first: 0,
                slot_last: 65_535,
                replicas: firsts,
                ..Shard::default()
            }],
            ..ClusterState::default()
        }
    }

    fn changes(state: &mut ClusterState, body: ChangeBody) -> Result<u64, String> {
        let before = state.clone();
        match decide(state, &Change::from(body)).answer {
            Some(Answer::Meta(changed)) => Ok(changed.epoch),
            Some(Answer::Refused(refusal)) => {
                assert_eq!(*state, before, "a refused change has no effect");
                Err(refusal.message)
            }
            other => panic!("{other:?}"),
        }
    }

    fn policy(prefer: &[&str], replicas: u32, survive: Survive) -> Policy {
        Policy {
            prefer: prefer.iter().map(|dc| (*dc).to_owned()).collect(),
            replicas,
            survive: survive as i32,
        }
    }

    fn setting(shard: Option<u32>, policy: Option<Policy>) -> ChangeBody {
        ChangeBody::Policy(SetPolicy { shard, policy })
    }

    #[test]
    fn a_policy_that_cannot_hold_is_refused_with_the_reason() {
        for (per_dc, wanted, says) in [
            (
                &[1, 1, 1][..],
                policy(&["mars"], 0, Survive::Dc),
                "\"mars\"; there are: dc0, dc1, dc2",
            ),
            (
                &[1, 1, 1],
                policy(&["dc1", "dc1"], 0, Survive::Dc),
                "preferred twice",
            ),
            (&[1, 1, 1], policy(&[], 2, Survive::Dc), "ask for 3 or 5"),
            (&[1, 1, 1], policy(&[], 7, Survive::Dc), "ask for 3 or 5"),
            (
                &[2, 2, 1],
                policy(&[], 5, Survive::Dc),
                "were laid out with 3 each",
            ),
            (
                &[3, 3],
                policy(&[], 3, Survive::Dc),
                "2 data centers (dc0, dc1) hold 2",
            ),
            (
                &[3, 3, 3],
                policy(&[], 3, Survive::Region),
                "2 regions (r0, r1) hold 2",
            ),
        ] {
            let refused = changes(&mut cluster(per_dc), setting(None, Some(wanted)));
            let message = refused.unwrap_err();
            assert!(message.contains(says), "{message}");
        }
        let five = |per_dc| {
            let mut state = cluster(per_dc);
            state.replicas = 5;
            let five = policy(&["dc2"], 5, Survive::Dc);
            changes(&mut state, setting(None, Some(five)))
        };
        assert!(five(&[2, 2, 1]).is_ok());
        let message = five(&[1, 1, 1]).unwrap_err();
        assert!(message.contains("hold 3"), "{message}");
        let region = policy(&[], 3, Survive::Region);
        assert!(changes(&mut cluster(&[1; 5]), setting(None, Some(region))).is_ok());
        let none = setting(Some(9), Some(policy(&["dc0"], 0, Survive::Dc)));
        let message = changes(&mut cluster(&[1, 1, 1]), none).unwrap_err();
        assert!(message.contains("no shard 9"), "{message}");
    }

    #[test]
    fn a_shards_own_policy_goes_before_the_default_until_it_is_taken_away() {
        let mut state = cluster(&[1, 1, 1]);
        let default = policy(&["dc1"], 0, Survive::Dc);
        let own = policy(&["dc2"], 0, Survive::Dc);
        assert_eq!(state.policy_of(ShardId(1)), Policy::default());
        assert_eq!(
            changes(&mut state, setting(None, Some(default.clone()))),
            Ok(6)
        );
        assert_eq!(
            changes(&mut state, setting(None, Some(default.clone()))),
            Ok(6)
        );
        assert_eq!(state.policy_of(ShardId(1)), default);
        assert_eq!(
            changes(&mut state, setting(Some(1), Some(own.clone()))),
            Ok(7)
        );
        assert_eq!(state.policy_of(ShardId(1)), own);
        assert_eq!(state.policy_of(ShardId::META), default);
        assert_eq!(changes(&mut state, setting(Some(1), None)), Ok(8));
        assert_eq!(changes(&mut state, setting(None, None)), Ok(9));
        assert_eq!(state.policies, None);
    }

    #[test]
    fn a_drain_names_a_node_or_a_data_center_and_leaves_somebody_to_lead() {
        let drain = |node: &str, dc: &str, draining| {
            ChangeBody::Draining(SetDraining {
                node: node.into(),
                dc: dc.into(),
                draining,
            })
        };
        let mut state = cluster(&[2, 2, 2]);
        assert_eq!(changes(&mut state, drain("", "dc1", true)), Ok(6));
        assert_eq!(changes(&mut state, drain("", "dc1", true)), Ok(6), "again");
        assert_eq!(state.draining, [3, 4]);
        assert_eq!(changes(&mut state, drain("node-1", "", true)), Ok(7));
        let message = changes(&mut state, drain("n5", "", true)).unwrap_err();
        assert!(message.contains("could lead s0"), "{message}");
        assert_eq!(changes(&mut state, drain("6", "", true)), Ok(8));
        assert_eq!(state.draining, [1, 3, 4, 6]);
        assert!(state.is_draining(NodeId(6)) && !state.is_draining(NodeId(5)));
        assert_eq!(changes(&mut state, drain("", "dc1", false)), Ok(9));
        assert_eq!(state.draining, [1, 6]);
        for (node, dc, says) in [
            ("moon", "", "no node \"moon\""),
            ("", "mars", "data center \"mars\""),
            ("", "", "data center \"\""),
        ] {
            let message = changes(&mut state, drain(node, dc, true)).unwrap_err();
            assert!(message.contains(says), "{message}");
        }
    }
}
