//! Who holds what: pure functions from the nodes of a cluster to the replicas of its shards.
//!
//! No fire domain (`dc`) ever holds a majority of a shard, and load is even: over the data
//! centers, and over the nodes inside each.

use std::collections::BTreeMap;

use thiserror::Error as ThisError;

use crate::cluster::{ClusterState, Node, Shard};
use crate::id::{NodeId, ShardId, Slot};
use crate::limits::SHARDS_MAX;
use crate::mutant;

mod plan;
mod whatif;

pub use plan::{Health, PlacementPlan, Policy, Unrestored, Why, plan};
pub use whatif::{Facts, Leaders, NodeAfter, Report, ShardAfter, whatif};

/// Why a layout was refused. None helps to try again without other nodes or other numbers.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum Error {
    /// There is nobody to hold anything.
    #[error("there are no nodes")]
    NoNodes,
    /// Nothing is known of what this node burns with.
    #[error("node {0} has no data center")]
    NoDc(String),
    /// The count of shards cannot be laid out.
    #[error("{0} shards were asked for, 1 to {max} can be laid out", max = SHARDS_MAX)]
    Shards(u32),
    /// No replica at all.
    #[error("0 replicas were asked for, at least 1 must be")]
    NoReplicas,
    /// Each replica needs a data center of its own.
    #[error(
        "{replicas} replicas need {replicas} data centers, there are {dcs}: the loss of one that held two could take the majority"
    )]
    TooFewDcs {
        /// Asked for.
        replicas: u32,
        /// Known.
        dcs: usize,
    },
    /// With two replicas the loss of either data center leaves no quorum.
    #[error("2 replicas do not survive the loss of a data center: ask for 1, or for 3")]
    Two,
}

/// The first layout of a cluster whose nodes are all there.
///
/// # Errors
/// As [`layout`].
pub fn first_layout(view: &ClusterState) -> Result<Vec<Shard>, Error> {
    let shards = match view.shards_wanted {
        // One for each node.
        0 => u32::try_from(view.nodes.len()).unwrap_or(u32::MAX),
        shards => shards,
    };
    layout(&view.nodes, shards, view.replicas)
}

/// Lays out `shards` shards of `replicas` replicas each over the nodes: even slot ranges, replicas
/// of a shard in distinct data centers, the first the preferred leader. Leaders go round the data
/// centers, then round the nodes of each. A single node holds one replica of every shard,
/// whatever `replicas` says.
///
/// # Errors
/// [`Error`] saying why it cannot be done.
pub fn layout(nodes: &[Node], shards: u32, replicas: u32) -> Result<Vec<Shard>, Error> {
    if shards == 0 || shards > SHARDS_MAX {
        return Err(Error::Shards(shards));
    }
    if replicas == 0 {
        return Err(Error::NoReplicas);
    }
    let mut dcs = domains(nodes)?;
    let replicas = if nodes.len() == 1 { 1 } else { replicas };
    if replicas == 2 {
        return Err(Error::Two);
    }
    if replicas as usize > dcs.len() {
        return Err(Error::TooFewDcs {
            replicas,
            dcs: dcs.len(),
        });
    }
    let mut leads = Vec::with_capacity(shards as usize);
    for shard in 0..shards as usize {
        let dc = shard % dcs.len();
        leads.push((dc, dcs[dc].place()));
    }
    let mut placed = Vec::with_capacity(shards as usize);
    let mut led: BTreeMap<u64, usize> = BTreeMap::new();
    for (shard, (lead_dc, lead)) in (0..shards).zip(leads) {
        let mut others: Vec<usize> = (0..dcs.len()).filter(|&dc| dc != lead_dc).collect();
        // Behind the leader's in turn among equals, so that the same two are not always together.
        let turn = |dc: usize| (dc + dcs.len() - lead_dc) % dcs.len();
        others.sort_by_key(|&dc| (dcs[dc].replicas, turn(dc)));
        let mut members = vec![lead];
        for &dc in &others[..replicas as usize - 1] {
            members.push(if mutant!("all-replicas-in-one-dc") {
                dcs[lead_dc].place_beside(&members)
            } else {
                dcs[dc].place()
            });
        }
        // Who is next takes over: not all that one node leads to the same other.
        if let [_, others @ ..] = members.as_mut_slice()
            && !others.is_empty()
        {
            let led = led.entry(lead).or_default();
            others.rotate_left(*led % others.len());
            *led += 1;
        }
        placed.push(Shard {
            id: shard + 1,
            slot_first: cut(shard, shards),
            slot_last: cut(shard + 1, shards) - 1,
            replicas: members,
            changes: 0,
        });
    }
    Ok(placed)
}

/// The nodes that should replicate the meta shard, the first its preferred leader: five where
/// there are five nodes, else three, else one, and no data center with a majority of them if that
/// can be avoided (three rather than five, if that avoids it). Members of `current` stay where
/// they can; given its own answer it answers the same.
pub fn meta_replicas(nodes: &[Node], current: &[u64]) -> Vec<u64> {
    let sizes = [5, 3, 1].into_iter().filter(|&size| size <= nodes.len());
    let spread = sizes
        .clone()
        .filter(|&size| size > 1)
        .map(|size| members(nodes, current, size, size / 2))
        .find(|(members, size)| members.len() == *size);
    let largest = sizes.clone().next().unwrap_or(0);
    match spread {
        Some((members, _)) => members,
        None => members(nodes, current, largest, largest).0,
    }
}

/// The nodes that should replicate the meta shard now that `current` do, of those that may: as
/// [`meta_replicas`], but three or more never become fewer than three, unless shards have fewer
/// replicas, too. What one node alone holds is lost with it; two of three wait for a third.
pub fn meta_wanted(state: &ClusterState, may: &[Node], current: &[u64]) -> Vec<u64> {
    let wanted = meta_replicas(may, current);
    let least = current.len().min(3).min(state.replicas as usize);
    match wanted.len() < least {
        true => current.to_vec(),
        false => wanted,
    }
}

/// Up to `size` members with at most `dc_max` in one data center, and `size`.
fn members(nodes: &[Node], current: &[u64], size: usize, dc_max: usize) -> (Vec<u64>, usize) {
    let mut held: BTreeMap<&str, usize> = nodes.iter().map(|n| (n.dc(), 0)).collect();
    let mut members = Vec::with_capacity(size);
    for id in current {
        let Some(node) = nodes.iter().find(|n| n.id == *id) else {
            continue;
        };
        let count = held.entry(node.dc()).or_default();
        if members.len() < size && *count < dc_max && !members.contains(id) {
            *count += 1;
            members.push(*id);
        }
    }
    while members.len() < size {
        let free = nodes.iter().filter(|n| !members.contains(&n.id));
        let Some(node) = free.min_by_key(|n| (held.get(n.dc()).copied(), n.dc(), n.id)) else {
            break;
        };
        let count = held.entry(node.dc()).or_default();
        if *count >= dc_max {
            break;
        }
        *count += 1;
        members.push(node.id);
    }
    (members, size)
}

/// The data center that holds a majority of these replicas, if one does. A lone replica is one by
/// itself, which nothing can help.
pub fn majority_in<'s>(state: &'s ClusterState, replicas: &[u64]) -> Option<&'s str> {
    let held = counts(state, replicas);
    let most = held.into_iter().max_by_key(|(_, count)| *count)?;
    (replicas.len() > 1 && most.1 > replicas.len() / 2).then_some(most.0)
}

/// How many of these nodes are in each data center.
fn counts<'s>(state: &'s ClusterState, nodes: &[u64]) -> BTreeMap<&'s str, usize> {
    let mut held = BTreeMap::new();
    for node in nodes {
        *held.entry(state.dc_of(*node)).or_default() += 1;
    }
    held
}

/// Most replicas of a shard that one data center may hold without holding a majority.
fn dc_max(replicas: usize) -> usize {
    replicas.saturating_sub(replicas / 2 + 1).max(1)
}

/// Whether a shard of so many replicas finds room on these nodes, and no data center holds a
/// majority of it.
fn fits(state: &ClusterState, nodes: &[u64], replicas: usize) -> bool {
    let room = counts(state, nodes).into_values();
    room.map(|count| count.min(dc_max(replicas))).sum::<usize>() >= replicas
}

/// The shards of which a node has a replica, or is getting one; the meta shard first.
pub fn held_by(state: &ClusterState, node: u64) -> impl Iterator<Item = ShardId> {
    let all = state.shard_ids();
    all.filter(move |shard| state.holds(NodeId(node), *shard))
}

/// Whether a node can be spared: the others have room for all it holds.
///
/// # Errors
/// Text for people, why it cannot.
pub fn may_leave(state: &ClusterState, node: u64) -> Result<(), String> {
    if state.node(NodeId(node)).is_none() {
        return Err(format!("n{node} is not a node of this cluster"));
    }
    if state.shards.is_empty() {
        return Err("the shards are not laid out yet: every node is waited for".into());
    }
    let stays = |n: &&Node| !state.leaving.contains(&n.id);
    let before: Vec<u64> = state.nodes.iter().filter(stays).map(|n| n.id).collect();
    let after: Vec<u64> = before.iter().copied().filter(|id| *id != node).collect();
    let replicas = state.shards.iter().map(|s| s.replicas.len());
    let replicas = replicas.max().unwrap_or(1);
    if after.len() < replicas {
        return Err(format!(
            "{} nodes would be left for {replicas} replicas: shards on n{node} would lose their \
             quorum",
            after.len()
        ));
    }
    if fits(state, &before, replicas) && !fits(state, &after, replicas) {
        return Err(format!(
            "without n{node} some data center would hold a majority of {replicas} replicas, which \
             its loss would take: add a node to {} first",
            state.dc_of(node)
        ));
    }
    Ok(())
}

/// A data center while its nodes are given replicas.
struct Domain {
    nodes: Vec<u64>,
    /// Given so far; they go round the nodes.
    replicas: usize,
}

impl Domain {
    /// The node whose turn it is. Leaders are given first, so they are even by themselves.
    fn place(&mut self) -> u64 {
        let node = self.nodes[self.replicas % self.nodes.len()];
        self.replicas += 1;
        node
    }

    /// A node beside those; where there is none, the one whose turn it is.
    fn place_beside(&mut self, members: &[u64]) -> u64 {
        let free = self.nodes.iter().find(|node| !members.contains(node));
        free.copied().unwrap_or_else(|| self.place())
    }
}

/// The data centers in order of their names, the nodes of each in order of their numbers.
fn domains(nodes: &[Node]) -> Result<Vec<Domain>, Error> {
    if nodes.is_empty() {
        return Err(Error::NoNodes);
    }
    let mut dcs: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for node in nodes {
        if node.dc().is_empty() {
            return Err(Error::NoDc(node.name.clone()));
        }
        dcs.entry(node.dc()).or_default().push(node.id);
    }
    let domains = dcs.into_values().map(|mut nodes| {
        nodes.sort_unstable();
        Domain { nodes, replicas: 0 }
    });
    Ok(domains.collect())
}

/// The first slot of a shard, and the end of the one before it.
fn cut(shard: u32, shards: u32) -> u32 {
    let cut = u64::from(shard) * u64::from(Slot::COUNT) / u64::from(shards);
    u32::try_from(cut).unwrap_or(Slot::COUNT)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::cluster::Locality;
    use proptest::prelude::*;

    /// Nodes 1, 2, … with so many in each data center.
    fn nodes(per_dc: &[usize]) -> Vec<Node> {
        let mut nodes = Vec::new();
        for (dc, &count) in per_dc.iter().enumerate() {
            for _ in 0..count {
                let id = nodes.len() as u64 + 1;
                nodes.push(Node {
                    id,
                    name: format!("n{id}"),
                    address: format!("h{id}:1"),
                    locality: Some(Locality {
                        region: "r".into(),
                        dc: format!("dc{dc}"),
                        rack: String::new(),
                    }),
                    disk_id: bytes::Bytes::new(),
                    address_boot: 0,
                });
            }
        }
        nodes
    }

    fn dc_of(nodes: &[Node], id: u64) -> String {
        let node = nodes.iter().find(|n| n.id == id).unwrap();
        node.dc().to_owned()
    }

    fn spread(counts: impl Iterator<Item = usize> + Clone) -> usize {
        counts.clone().max().unwrap_or(0) - counts.min().unwrap_or(0)
    }

    proptest! {
        #[test]
        fn a_layout_covers_all_slots_evenly_and_balances_replicas_and_leaders(
            per_dc in proptest::collection::vec(1usize..5, 3..8),
            shards in 1u32..70,
            five in any::<bool>(),
        ) {
            let nodes = nodes(&per_dc);
            let replicas = if five && per_dc.len() >= 5 { 5 } else { 3 };
            let placed = layout(&nodes, shards, replicas).unwrap();
            prop_assert_eq!(placed.len(), shards as usize);
            let mut next = 0;
            for shard in &placed {
                prop_assert_eq!(shard.slot_first, next);
                next = shard.slot_last + 1;
                let mut dcs: Vec<_> = shard.replicas.iter().map(|&r| dc_of(&nodes, r)).collect();
                dcs.sort();
                dcs.dedup();
                prop_assert_eq!(dcs.len(), replicas as usize, "one replica in a data center");
            }
            prop_assert_eq!(next, Slot::COUNT);
            let sizes = placed.iter().map(|s| (s.slot_last - s.slot_first) as usize);
            prop_assert!(spread(sizes) <= 1);

            let replicas_on = |id| placed.iter().filter(|s| s.replicas.contains(&id)).count();
            let leads_on = |id| placed.iter().filter(|s| s.replicas[0] == id).count();
            let in_dc = |dc: usize, count: &dyn Fn(u64) -> usize| -> Vec<usize> {
                let of = nodes.iter().filter(|n| n.dc() == format!("dc{dc}"));
                of.map(|n| count(n.id)).collect()
            };
            for count in [&replicas_on as &dyn Fn(u64) -> usize, &leads_on] {
                let dcs: Vec<Vec<usize>> = (0..per_dc.len()).map(|dc| in_dc(dc, count)).collect();
                prop_assert!(spread(dcs.iter().map(|dc| dc.iter().sum())) <= 1, "{:?}", dcs);
                for dc in &dcs {
                    prop_assert!(spread(dc.iter().copied()) <= 1, "{:?}", dcs);
                }
            }
        }

        #[test]
        fn the_meta_shard_has_as_many_replicas_as_spread_well_and_keeps_its_members(
            per_dc in proptest::collection::vec(1usize..5, 1..6),
            current in proptest::collection::vec(1u64..25, 0..6),
        ) {
            let nodes = nodes(&per_dc);
            let chosen = meta_replicas(&nodes, &current);
            prop_assert!([1, 3, 5].contains(&chosen.len()));
            let mut unique = chosen.clone();
            unique.sort_unstable();
            unique.dedup();
            prop_assert_eq!(unique.len(), chosen.len());
            let fits = |size: usize| {
                per_dc.iter().map(|&n| n.min(size / 2)).sum::<usize>() >= size
            };
            let in_dc = |dc: &str| chosen.iter().filter(|&&id| dc_of(&nodes, id) == dc).count();
            let most = nodes.iter().map(|n| in_dc(n.dc())).max().unwrap();
            if fits(5) {
                prop_assert_eq!(chosen.len(), 5);
            }
            if fits(5) || fits(3) {
                prop_assert!(most <= chosen.len() / 2, "{:?} of {:?}", chosen, per_dc);
            }
            prop_assert_eq!(&meta_replicas(&nodes, &chosen), &chosen, "it is stable");
            if let Some(first) = current.iter().find(|c| nodes.iter().any(|n| n.id == **c)) {
                prop_assert_eq!(chosen[0], *first, "the preferred leader stays");
            }
        }
    }

    #[test]
    fn the_shards_that_one_node_leads_go_to_all_others_when_it_dies() {
        let placed = layout(&nodes(&[1, 1, 1]), 6, 3).unwrap();
        let placed: Vec<&[u64]> = placed.iter().map(|shard| &*shard.replicas).collect();
        let [first, again] = [placed[0], placed[3]];
        assert_eq!((first, again), (&[1, 2, 3][..], &[1, 3, 2][..]));
        let placed = layout(&nodes(&[2, 2, 2]), 24, 3).unwrap();
        for node in 1..=6 {
            let led = placed.iter().filter(|shard| shard.replicas[0] == node);
            let heirs: BTreeSet<u64> = led.map(|shard| shard.replicas[1]).collect();
            assert!(heirs.len() > 1, "{node}: {heirs:?}");
        }
    }

    #[test]
    fn nine_nodes_in_three_data_centers_put_the_meta_shard_two_two_one() {
        let nodes = nodes(&[3, 3, 3]);
        let chosen = meta_replicas(&nodes, &[1]);
        assert_eq!(chosen, [1, 4, 7, 2, 5]);
    }

    #[test]
    fn the_meta_shard_shrinks_to_three_and_never_to_one() {
        let wanted = |per_dc: &[usize], current: &[u64], replicas| {
            let state = ClusterState {
                replicas,
                ..ClusterState::default()
            };
            meta_wanted(&state, &nodes(per_dc), current)
        };
        assert_eq!(wanted(&[1, 1, 1], &[1, 2, 3, 4, 5], 3), [1, 2, 3]);
        assert_eq!(wanted(&[1, 1], &[1, 2, 3], 3), [1, 2, 3]);
        assert_eq!(wanted(&[1, 1], &[1, 2, 3], 1), [1], "as all shards");
        assert_eq!(wanted(&[1, 1], &[1], 3), [1]);
        assert_eq!(wanted(&[1, 1, 1], &[1], 3), [1, 2, 3]);
    }

    #[test]
    fn the_meta_shard_grows_from_one_to_three_to_five() {
        assert_eq!(meta_replicas(&nodes(&[1]), &[]), [1]);
        assert_eq!(meta_replicas(&nodes(&[1, 1]), &[1]), [1]);
        assert_eq!(meta_replicas(&nodes(&[1, 1, 1]), &[1]), [1, 2, 3]);
        assert_eq!(meta_replicas(&nodes(&[2, 1, 1]), &[1, 3, 4]), [1, 3, 4]);
        assert_eq!(
            meta_replicas(&nodes(&[2, 2, 1]), &[1, 3, 5]),
            [1, 3, 5, 2, 4]
        );
        assert_eq!(meta_replicas(&[], &[]), [0u64; 0]);
    }

    #[test]
    fn a_dc_that_would_hold_three_of_five_makes_the_meta_shard_three() {
        assert_eq!(meta_replicas(&nodes(&[3, 1, 1]), &[1]).len(), 3);
    }

    #[test]
    fn a_single_node_holds_one_replica_of_everything() {
        let placed = layout(&nodes(&[1]), 2, 3).unwrap();
        assert_eq!(placed[0].replicas, [1]);
        assert_eq!(
            (placed[1].slot_first, placed[1].slot_last),
            (32_768, 65_535)
        );
    }

    #[test]
    fn what_cannot_survive_a_fire_is_refused_with_the_reason() {
        for (per_dc, shards, replicas, says) in [
            (&[][..], 1, 3, "no nodes"),
            (&[2, 2], 1, 3, "need 3 data centers, there are 2"),
            (&[9], 1, 3, "there are 1"),
            (&[1, 1, 1], 1, 2, "ask for 1, or for 3"),
            (&[1, 1, 1], 0, 3, "0 shards"),
            (&[1, 1, 1], SHARDS_MAX + 1, 3, "16385 shards"),
            (&[1, 1, 1], 1, 0, "0 replicas"),
        ] {
            let error = layout(&nodes(per_dc), shards, replicas)
                .unwrap_err()
                .to_string();
            assert!(error.contains(says), "{error}");
        }
        assert_eq!(
            layout(&nodes(&[2, 2]), 4, 1).unwrap().len(),
            4,
            "one replica may be asked for"
        );
    }
}
