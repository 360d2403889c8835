//! What would be left if some nodes were lost: the question before the fire.

use std::collections::{BTreeMap, BTreeSet};

use super::{Health, Policy, fits, majority_in, plan};
use crate::cluster::{Change, ChangeBody, ClusterState, decide};
use crate::id::{NodeId, ShardId};

/// What is known of a node beside the map.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Facts {
    /// Free on its disk, bytes.
    pub disk_free_bytes: u64,
    /// Its disk, bytes; 0 = not known.
    pub disk_total_bytes: u64,
    /// What its databases take of that, bytes; 0 = not known.
    pub stored_bytes: u64,
    /// Messages it applies in a second.
    pub appends_per_s: f64,
}

/// What would be left.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Every shard that would lose a replica, by number; the meta shard is 0.
    pub shards: Vec<ShardAfter>,
    /// Every node that would be left.
    pub nodes: Vec<NodeAfter>,
    /// Shards that would have no quorum: nothing of them is served or can be changed.
    pub quorums_lost: usize,
    /// Shards whose leader would be lost; another replica would lead them.
    pub leaders_lost: usize,
    /// Replicas that the nodes left could not take over.
    pub unplaced: usize,
    /// Shards of which one data center would come to hold a majority.
    pub degraded: usize,
    /// Nodes whose disk would not have room for what they would take over.
    pub disks_short: usize,
}

impl Report {
    /// Whether it would be a disaster: something would not be served, or could not be repaired.
    pub fn is_bad(&self) -> bool {
        self.quorums_lost > 0 || self.unplaced > 0 || self.disks_short > 0
    }
}

/// A shard that would lose a replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardAfter {
    /// The shard.
    pub shard: ShardId,
    /// Replicas that would be left.
    pub left: usize,
    /// Replicas.
    pub of: usize,
    /// Its leader would be lost.
    pub leader_lost: bool,
    /// Too few would be left.
    pub quorum_lost: bool,
    /// Replacements would give one data center a majority.
    pub degraded: bool,
}

/// A node that would be left.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeAfter {
    /// Its number.
    pub node: u64,
    /// Replicas, the meta shard's among them: now, and once all is replaced.
    pub replicas: (usize, usize),
    /// Shards that it leads, the meta shard among them: now, and then.
    pub leaders: (usize, usize),
    /// Bytes that it would take over, as the databases of the lost are now; `None` when nobody has
    /// told what a replica takes.
    pub takes_bytes: Option<u64>,
    /// What would stay free on its disk, were it all put there; below 0 it has no room.
    pub free_bytes: Option<i64>,
    /// Messages applied in a second: now and then, as the replicas grow.
    pub appends_per_s: (f64, f64),
}

/// Who leads each shard now, as far as that is known.
pub type Leaders = BTreeMap<ShardId, u64>;

/// What would be left if the nodes `lost` were. Nothing is changed. Shards of which `leaders` says
/// nothing count as led by the first of their replicas.
pub fn whatif(
    state: &ClusterState,
    lost: &BTreeSet<u64>,
    facts: &BTreeMap<u64, Facts>,
    leaders: &Leaders,
) -> Report {
    let (after, unplaced) = replaced(state, lost);
    let mut report = Report {
        unplaced,
        ..Report::default()
    };
    let left: Vec<u64> = state
        .nodes
        .iter()
        .map(|n| n.id)
        .filter(|n| !lost.contains(n))
        .collect();
    for id in state.shard_ids() {
        let replicas = state.replicas_of(id);
        let of = replicas.len();
        let up = replicas.iter().filter(|node| !lost.contains(node)).count();
        if up == of {
            continue;
        }
        let shard = ShardAfter {
            shard: id,
            left: up,
            of,
            leader_lost: leaders
                .get(&id)
                .or(replicas.first())
                .is_some_and(|leader| lost.contains(leader)),
            quorum_lost: up < of / 2 + 1,
            degraded: match id.is_meta() {
                true => !fits(state, &left, of),
                false => majority_in(&after, after.replicas_of(id)).is_some(),
            },
        };
        report.quorums_lost += usize::from(shard.quorum_lost);
        report.leaders_lost += usize::from(shard.leader_lost);
        report.degraded += usize::from(shard.degraded && !shard.quorum_lost);
        report.shards.push(shard);
    }
    let replica_bytes = replica_bytes(state, lost, facts);
    for node in left {
        let mut one = node_after(state, &after, node, facts.get(&node), replica_bytes);
        one.leaders = (
            led(state, &BTreeSet::new(), leaders, node),
            led(&after, lost, leaders, node),
        );
        report.disks_short += usize::from(one.free_bytes.is_some_and(|free| free < 0));
        report.nodes.push(one);
    }
    report
}

/// The map once everything that can be replaced is, and how many replicas cannot be.
fn replaced(state: &ClusterState, lost: &BTreeSet<u64>) -> (ClusterState, usize) {
    let mut after = state.clone();
    let health = Health {
        gone_ms: lost.iter().map(|node| (*node, u64::MAX)).collect(),
        ..Health::default()
    };
    // What is on its way now is as if it were at rest: it either gets there or is replaced, too.
    after.moves.clear();
    let policy = Policy {
        moves_max: crate::limits::MOVES_MAX,
        moves_to_node_max: crate::limits::MOVES_MAX,
        ..Policy::default()
    };
    loop {
        let plan = plan(&after, &health, &policy);
        let begun = plan.begin.len();
        for wanted in plan.begin {
            decide(&mut after, &change(ChangeBody::BeginMove(wanted)));
        }
        for step in after.moves.clone().iter().map(crate::cluster::Move::step) {
            decide(&mut after, &change(ChangeBody::ChangeVoters(step)));
            decide(&mut after, &change(ChangeBody::FinishMove(step)));
        }
        if begun == 0 {
            break;
        }
    }
    let replicas = after.shards.iter().flat_map(|shard| &shard.replicas);
    let unplaced = replicas.filter(|node| lost.contains(node)).count();
    (after, unplaced)
}

fn change(body: ChangeBody) -> Change {
    Change::from(body)
}

/// What a replica takes on a disk: as the lost nodes tell, the largest average among them. Where
/// all of them are silent, as the others do: they hold replicas of the same shards.
fn replica_bytes(
    state: &ClusterState,
    lost: &BTreeSet<u64>,
    facts: &BTreeMap<u64, Facts>,
) -> Option<u64> {
    let average = |(node, facts): (&u64, &Facts)| {
        let replicas = held(state, *node) as u64;
        (facts.stored_bytes > 0 && replicas > 0).then(|| facts.stored_bytes / replicas)
    };
    let told = facts.iter();
    let of_lost = told.clone().filter(|(node, _)| lost.contains(node));
    let most = of_lost.filter_map(average).max();
    most.or_else(|| told.filter_map(average).max())
}

/// Replicas of data shards on a node.
fn held(state: &ClusterState, node: u64) -> usize {
    let replicas = state.shards.iter().flat_map(|shard| &shard.replicas);
    replicas.filter(|replica| **replica == node).count()
}

/// Shards that a node leads when each that has a quorum is led by who leads it now or, where that one
/// is lost, by the first of its replicas that is up.
fn led(state: &ClusterState, lost: &BTreeSet<u64>, leaders: &Leaders, node: u64) -> usize {
    let leads = |id: &ShardId| {
        let replicas = state.replicas_of(*id);
        let up: Vec<u64> = replicas
            .iter()
            .copied()
            .filter(|replica| !lost.contains(replica))
            .collect();
        let stays = leaders.get(id).filter(|leader| up.contains(leader));
        up.len() * 2 > replicas.len() && stays.or(up.first()) == Some(&node)
    };
    state.shard_ids().filter(leads).count()
}

/// Replicas on a node, the meta shard's among them.
fn all_held(state: &ClusterState, node: u64) -> usize {
    let held = |id: &ShardId| state.replicas_of(*id).contains(&node);
    state.shard_ids().filter(held).count()
}

#[allow(
    clippy::cast_precision_loss,
    reason = "counts of replicas, for an estimate"
)]
fn node_after(
    state: &ClusterState,
    after: &ClusterState,
    node: u64,
    facts: Option<&Facts>,
    replica_bytes: Option<u64>,
) -> NodeAfter {
    let data = (held(state, node), held(after, node));
    let more = data.1.saturating_sub(data.0) as u64;
    let takes_bytes = replica_bytes.map(|bytes| bytes.saturating_mul(more));
    let known = facts.filter(|facts| facts.disk_total_bytes > 0);
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let free_bytes = known
        .zip(takes_bytes)
        .map(|(facts, takes)| signed(facts.disk_free_bytes).saturating_sub(signed(takes)));
    let rate = facts.map_or(0.0, |facts| facts.appends_per_s);
    let grown = data.1 as f64 / data.0.max(1) as f64;
    debug_assert!(state.node(NodeId(node)).is_some());
    NodeAfter {
        node,
        replicas: (all_held(state, node), all_held(after, node)),
        leaders: (0, 0),
        takes_bytes,
        free_bytes,
        appends_per_s: (rate, rate * grown),
    }
}
