//! Every choice of nodes that may hold the replicas of a shard: those that data shards may be laid
//! out on (one in each of as many data centers as there are replicas), and those that may be the
//! meta shard's voters (five where there are five nodes, spread as far as they can be, at most two
//! in a data center).

use crate::plan::{NodeSpec, Topology};

/// Voters of the meta shard, where there are as many nodes.
const META_VOTERS: usize = 5;
/// Most of them in one data center.
const META_IN_DC_MAX: usize = 2;

/// A set of nodes: bit n is the nth of the topology.
pub(super) type Set = u64;

/// Most nodes that a set can hold.
pub(super) const NODES_MAX: usize = 64;

/// The choices.
pub(super) struct Choices(Vec<Set>);

impl Choices {
    /// Those of a topology. A node that joins later holds nothing that anybody has to wait for.
    pub fn of(topology: &Topology) -> Choices {
        let founder = |node: &NodeSpec| node.joins_at_ms.is_none();
        Choices::among(topology, &founder)
    }

    /// Those on the nodes that may be chosen, as if there were no others.
    pub fn among(topology: &Topology, may: &dyn Fn(&NodeSpec) -> bool) -> Choices {
        let mut number = 0;
        let mut dcs: Vec<Vec<Set>> = Vec::new();
        for dc in &topology.dcs {
            let mut nodes = Vec::new();
            for node in &dc.nodes {
                nodes.extend((may(node) && number < NODES_MAX).then(|| 1 << number));
                number += 1;
            }
            dcs.push(nodes);
        }
        dcs.retain(|nodes| !nodes.is_empty());
        let mut choices = Vec::new();
        let data = |count: &[usize]| count.iter().all(|count| *count <= 1);
        spread(&dcs, topology.replicas as usize, &data, &mut choices);
        let there: usize = dcs
            .iter()
            .map(|nodes| nodes.len().min(META_IN_DC_MAX))
            .sum();
        let voters = if there >= META_VOTERS { META_VOTERS } else { 3 };
        let used = voters.min(dcs.len());
        let meta = |count: &[usize]| {
            let most = if voters == META_VOTERS {
                META_IN_DC_MAX
            } else {
                1
            };
            let in_use = count.iter().filter(|count| **count > 0).count();
            count.iter().all(|count| *count <= most) && in_use == used
        };
        spread(&dcs, voters, &meta, &mut choices);
        choices.sort_unstable();
        choices.dedup();
        Choices(choices)
    }

    /// A choice of which no replica reaches a majority. `reach[n]` are the nodes that n and that
    /// reach each other, itself included; none when n does not serve.
    pub fn stuck(&self, reach: &[Set]) -> Option<Set> {
        let leads = |choice: Set, leader: usize| {
            let is_one = choice & (1 << leader) != 0;
            is_one && (reach[leader] & choice).count_ones() > choice.count_ones() / 2
        };
        let led = |choice: Set| (0..reach.len()).any(|leader| leads(choice, leader));
        self.0.iter().copied().find(|choice| !led(*choice))
    }
}

/// All ways to take `size` nodes so that the count of each data center is allowed.
fn spread(
    dcs: &[Vec<Set>],
    size: usize,
    allowed: &dyn Fn(&[usize]) -> bool,
    choices: &mut Vec<Set>,
) {
    let mut counts = vec![0; dcs.len()];
    loop {
        if counts.iter().sum::<usize>() == size && allowed(&counts) {
            let mut taken: Vec<Set> = vec![0];
            for (nodes, count) in dcs.iter().zip(&counts) {
                let some = subsets(nodes, *count);
                let joined = taken
                    .iter()
                    .flat_map(|before| some.iter().map(move |more| before | more));
                taken = joined.collect();
            }
            choices.extend(taken);
        }
        // The next combination of counts, 0 to 2 in each data center.
        let Some(next) = counts.iter().position(|count| *count < META_IN_DC_MAX) else {
            return;
        };
        counts[next] += 1;
        counts[..next].fill(0);
    }
}

/// All subsets of a size.
fn subsets(nodes: &[Set], size: usize) -> Vec<Set> {
    if size == 0 {
        return vec![0];
    }
    let mut all = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        all.extend(
            subsets(&nodes[at + 1..], size - 1)
                .into_iter()
                .map(|rest| rest | node),
        );
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::links::{LOCAL, WAN};
    use crate::plan::Dc;

    fn choices(nodes: &[usize], replicas: u32) -> (usize, usize) {
        let dc = |(at, count): (usize, &usize)| Dc {
            name: format!("d{at}"),
            region: String::new(),
            building: format!("d{at}"),
            nodes: (0..*count)
                .map(|n| NodeSpec {
                    name: format!("d{at}-{n}"),
                    rack: String::new(),
                    joins_at_ms: None,
                    read_lease_ms: None,
                })
                .collect(),
        };
        let topology = Topology {
            dcs: nodes.iter().enumerate().map(dc).collect(),
            local: LOCAL,
            wan: WAN,
            links: Vec::new(),
            shards: 0,
            replicas,
            replace_after_ms: 0,
            scrub_every_ms: 0,
            prefer: Vec::new(),
        };
        let all = Choices::of(&topology).0;
        let of = |size| all.iter().filter(|set| set.count_ones() == size).count();
        (of(replicas), of(5))
    }

    #[test]
    fn data_shards_have_one_replica_in_a_data_center_and_the_meta_shard_two_at_most() {
        assert_eq!(choices(&[1, 1, 1], 3), (1, 0));
        // Two nodes each: which one of each for data, which one is no voter for meta.
        assert_eq!(choices(&[2, 2, 2], 3), (8, 6));
        assert_eq!(choices(&[3, 3, 3], 3), (27, 81));
        // Any three of five data centers for data, one voter in each.
        assert_eq!(choices(&[1, 1, 1, 1, 1], 3), (10, 1));
        assert_eq!(choices(&[1, 1, 2], 3), (2, 0));
    }

    #[test]
    fn a_choice_is_stuck_when_nobody_reaches_a_majority_that_serves() {
        let choices = Choices(vec![0b111]);
        assert_eq!(choices.stuck(&[0b101, 0, 0b101]), None);
        assert_eq!(choices.stuck(&[0b001, 0, 0b100]), Some(0b111));
        // A bridge: 0 and 2 do not hear each other, 1 hears both.
        assert_eq!(choices.stuck(&[0b011, 0b111, 0b110]), None);
        assert_eq!(choices.stuck(&[0b001, 0, 0b100]), Some(0b111));
    }
}
