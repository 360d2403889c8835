//! What is looked at for one scrape.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use model::cluster::ClusterState;
use model::id::NodeId;
use proto::v1;
use raft::{LinkStatus, Replicas};
use serde::Serialize;
use store::engine::Stats;

use crate::room::DiskRoom;
use crate::service::admin::Admin;
use crate::sight::local::Local;

/// What the process takes of its machine; a parameter, since the simulator's nodes share one process.
pub trait Process: Send + Sync + 'static {
    /// What it takes now; `None` where that cannot be known.
    fn figures(&self) -> Option<ProcessFigures>;
}

/// What a process takes of its machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ProcessFigures {
    /// For how long the node's certificate holds from now on, seconds; 0 while it has none.
    pub certificate_s: u64,
    /// Of all its threads since its start.
    pub cpu_seconds: f64,
    /// In memory now.
    pub resident_bytes: u64,
    /// Open now.
    pub descriptors: u64,
    /// That it may open.
    pub descriptors_max: u64,
    /// Threads.
    pub threads: u64,
    /// Threads of the async runtime.
    pub runtime_workers: u64,
    /// Tasks of the async runtime that have not ended.
    pub runtime_tasks: u64,
    /// Tasks that wait for a worker.
    pub runtime_queued: u64,
    /// The time workers have worked, all together.
    pub runtime_busy_seconds: f64,
    /// Log lines that could not be written.
    pub log_lines_lost: u64,
}

/// Where it looks.
#[derive(Clone)]
pub struct Sources {
    /// The node, as it answers operators.
    pub admin: Arc<Admin>,
    /// Its process.
    pub process: Arc<dyn Process>,
}

/// A node at one moment.
pub(super) struct NodeSnapshot<'a> {
    pub local: &'a Local,
    pub admin: &'a Admin,
    pub view: Arc<ClusterState>,
    pub replicas: Replicas,
    pub links: Vec<LinkStatus>,
    pub resources: Vec<v1::Resource>,
    pub disk: DiskRoom,
    pub raftdb: Stats,
    pub msgdb: Stats,
    pub process: Option<ProcessFigures>,
    names: BTreeMap<u64, (String, String)>,
}

impl NodeSnapshot<'_> {
    pub fn of(sources: &Sources) -> NodeSnapshot<'_> {
        let admin = &*sources.admin;
        let local = &admin.local;
        let raft = &local.gateway.raft;
        let view = local.gateway.view();
        let dc = |node: &model::cluster::Node| {
            let locality = node.locality.as_ref();
            locality.map_or_else(String::new, |place| place.dc.clone())
        };
        let names = view.nodes.iter();
        let names = names.map(|node| (node.id, (node.name.clone(), dc(node))));
        NodeSnapshot {
            names: names.collect(),
            local,
            admin,
            replicas: raft.replicas_together(),
            links: raft.links(),
            resources: admin.resources(),
            disk: *admin.disk.borrow(),
            raftdb: admin.log.stats(),
            msgdb: admin.state.stats(),
            process: sources.process.figures(),
            view,
        }
    }

    /// What people call a node, and its data center.
    pub fn name(&self, node: NodeId) -> (String, String) {
        let known = self.names.get(&node.0).cloned();
        known.unwrap_or_else(|| (node.to_string(), String::new()))
    }

    /// How many shards with a replica here have a quorum, as heard from here, that the loss of one
    /// more data center would take.
    pub fn at_risk(&self) -> usize {
        let me = self.local.gateway.me().0;
        let gone = self.links.iter();
        let gone = gone.filter(|link| matches!(link.state, "silent" | "reset"));
        let gone: BTreeSet<u64> = gone.map(|link| link.node.0).collect();
        let dcs = self.names.iter();
        let dcs: BTreeMap<u64, &str> = dcs.map(|(node, (_, dc))| (*node, dc.as_str())).collect();
        let data = self.view.shards.iter().map(|shard| &shard.replicas[..]);
        let shards = data.chain([&self.view.meta_replicas[..]]);
        let here = shards.filter(|replicas| replicas.contains(&me));
        here.filter(|replicas| loss_stops(replicas, |node| !gone.contains(&node), &dcs))
            .count()
    }
}

/// Whether replicas that have a quorum would have none without one of the data centers.
fn loss_stops(replicas: &[u64], up: impl Fn(u64) -> bool, dcs: &BTreeMap<u64, &str>) -> bool {
    let up: Vec<Option<&&str>> = replicas
        .iter()
        .filter(|node| up(**node))
        .map(|node| dcs.get(node))
        .collect();
    let quorum = |count: usize| 2 * count > replicas.len();
    let left = |dc| up.iter().filter(|other| **other != dc).count();
    quorum(up.len()) && up.iter().any(|dc| !quorum(left(*dc)))
}

/// The replicas of this node that have the most to apply, and the busiest, as series.
pub(super) fn shards(sources: &Sources, worst: usize) -> String {
    let raft = &sources.admin.local.gateway.raft;
    let rates: BTreeMap<u32, f64> = {
        let busiest = sources.admin.local.rates.busiest().into_iter();
        busiest.map(|(shard, rate)| (shard.0, rate)).collect()
    };
    let mut replicas = raft.replicas();
    let behind = |one: &raft::ReplicaStatus| one.committed_index.saturating_sub(one.applied_index);
    let rate = |one: &raft::ReplicaStatus| rates.get(&one.shard.0).copied().unwrap_or(0.0);
    replicas.sort_by(|a, b| {
        let broken = |one: &raft::ReplicaStatus| one.broken_reason.is_some();
        let worse = (broken(b), b.leader.is_none()).cmp(&(broken(a), a.leader.is_none()));
        worse
            .then(behind(b).cmp(&behind(a)))
            .then(rate(b).total_cmp(&rate(a)))
            .then(a.shard.cmp(&b.shard))
    });
    replicas.truncate(worst);
    let mut text = String::new();
    let mut family = |name: &str, help: &str, value: &dyn Fn(&raft::ReplicaStatus) -> String| {
        // A text takes all that is written to it.
        let _ = writeln!(text, "# HELP firebreak_shard_{name} {help}");
        let _ = writeln!(text, "# TYPE firebreak_shard_{name} gauge");
        for one in &replicas {
            let (shard, state) = (one.shard.0, one.state);
            let value = value(one);
            let _ = writeln!(
                text,
                "firebreak_shard_{name}{{shard=\"{shard}\",state=\"{state}\"}} {value}"
            );
        }
    };
    family(
        "unapplied_entries",
        "Committed and not applied here.",
        &|one| behind(one).to_string(),
    );
    family("term", "Its Raft term.", &|one| one.term.to_string());
    family(
        "changes_per_second",
        "Applied here as its leader.",
        &|one| rate(one).to_string(),
    );
    family("asleep", "1 while nobody uses it.", &|one| {
        u8::from(one.asleep).to_string()
    });
    family(
        "leader_known",
        "1 while its leader is known here.",
        &|one| u8::from(one.leader.is_some()).to_string(),
    );
    text.push_str("# EOF\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_at_risk_when_one_more_data_center_would_take_its_quorum() {
        let dcs = BTreeMap::from([(1, "a"), (2, "b"), (3, "c"), (4, "a"), (5, "b")]);
        let check = |replicas: &[u64], gone: &[u64], at_risk: bool| {
            let found = loss_stops(replicas, |node| !gone.contains(&node), &dcs);
            assert_eq!(found, at_risk, "{replicas:?} without {gone:?}");
        };
        check(&[1, 2, 3], &[], false);
        check(&[1, 2, 3], &[3], true);
        // It has no quorum any more: another alert says so.
        check(&[1, 2, 3], &[2, 3], false);
        check(&[1, 2, 3, 4, 5], &[], false);
        check(&[1, 2, 3, 4, 5], &[3], true);
        // Two of three in one data center: that one must not burn.
        check(&[1, 4, 3], &[], true);
    }
}
