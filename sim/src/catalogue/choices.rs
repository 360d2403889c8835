//! Every choice of nodes that may hold the replicas of a shard: those that data shards may be laid
//! out on (one in each of as many data centers as there are replicas), and those that may be the
//! meta shard's voters (five where there are five nodes, spread as far as they can be, at most two
//! in a data center).

use crate::plan::Topology;

/// Voters of the meta shard, where there are as many nodes.
const META_VOTERS: usize = 5;
/// Most of them in one data center.
const META_IN_DC_MAX: usize = 2;

/// The choices; nodes are numbers in the topology's order.
pub(super) struct Choices(Vec<Vec<usize>>);

impl Choices {
    /// Those of a topology. A node that joins later holds nothing that anybody has to wait for.
    pub fn of(topology: &Topology) -> Choices {
        let mut number = 0;
        let mut dcs: Vec<Vec<usize>> = Vec::new();
        for dc in &topology.dcs {
            let mut nodes = Vec::new();
            for node in &dc.nodes {
                nodes.extend(node.joins_at_ms.is_none().then_some(number));
                number += 1;
            }
            dcs.push(nodes);
        }
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
        Choices(choices)
    }

    /// A choice of which no replica serves and reaches a majority that serves.
    pub fn stuck(
        &self,
        serves: impl Fn(usize) -> bool,
        joined: impl Fn(usize, usize) -> bool,
    ) -> Option<&[usize]> {
        let leads = |nodes: &[usize], leader: usize| {
            let reached =
                |node: &&usize| serves(**node) && (**node == leader || joined(leader, **node));
            serves(leader) && nodes.iter().filter(reached).count() > nodes.len() / 2
        };
        let led = |nodes: &Vec<usize>| nodes.iter().any(|leader| leads(nodes, *leader));
        self.0.iter().find(|nodes| !led(nodes)).map(Vec::as_slice)
    }
}

/// All ways to take `size` nodes so that the count of each data center is allowed.
fn spread(
    dcs: &[Vec<usize>],
    size: usize,
    allowed: &dyn Fn(&[usize]) -> bool,
    choices: &mut Vec<Vec<usize>>,
) {
    let mut counts = vec![0; dcs.len()];
    loop {
        if counts.iter().sum::<usize>() == size && allowed(&counts) {
            let mut taken = vec![Vec::new()];
            for (nodes, count) in dcs.iter().zip(&counts) {
                let some = subsets(nodes, *count);
                let joined = taken.iter().flat_map(|before: &Vec<usize>| {
                    some.iter().map(|more| [&before[..], &more[..]].concat())
                });
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
fn subsets(nodes: &[usize], size: usize) -> Vec<Vec<usize>> {
    if size == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        for mut rest in subsets(&nodes[at + 1..], size - 1) {
            rest.insert(0, *node);
            all.push(rest);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::topology::{LOCAL, WAN};
    use crate::plan::{Dc, NodeSpec};

    fn choices(nodes: &[usize], replicas: u32) -> Vec<Vec<usize>> {
        let dc = |(at, count): (usize, &usize)| Dc {
            name: format!("d{at}"),
            region: String::new(),
            building: format!("d{at}"),
            nodes: (0..*count)
                .map(|n| NodeSpec {
                    name: format!("d{at}-{n}"),
                    rack: String::new(),
                    joins_at_ms: None,
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
        };
        Choices::of(&topology).0
    }

    #[test]
    fn data_shards_have_one_replica_in_a_data_center_and_the_meta_shard_two_at_most() {
        assert_eq!(choices(&[1, 1, 1], 3), [[0, 1, 2], [0, 1, 2]]);
        // Two nodes each: 2 * 2 * 2 for data; which data center has one voter, and which, for meta.
        let of = |size, all: &[Vec<usize>]| all.iter().filter(|c| c.len() == size).count();
        let all = choices(&[2, 2, 2], 3);
        assert_eq!((of(3, &all), of(5, &all)), (8, 6));
        let all = choices(&[3, 3, 3], 3);
        assert_eq!((of(3, &all), of(5, &all)), (27, 81));
        // Five data centers: any three of them for data, one voter in each.
        let all = choices(&[1, 1, 1, 1, 1], 3);
        assert_eq!((of(3, &all), of(5, &all)), (10, 1));
    }

    #[test]
    fn a_choice_is_stuck_when_nobody_reaches_a_majority_that_serves() {
        let choices = Choices(vec![vec![0, 1, 2]]);
        let all = |_: usize, _: usize| true;
        assert_eq!(choices.stuck(|at| at != 1, all), None);
        assert!(choices.stuck(|at| at == 1, all).is_some());
        // A bridge: 0 and 2 do not hear each other, 1 hears both.
        let bridge = |a: usize, b: usize| a + b != 2;
        assert_eq!(choices.stuck(|_| true, bridge), None);
        assert!(choices.stuck(|at| at != 1, bridge).is_some());
    }
}
