//! The cluster, put together from what its nodes say of themselves.
//!
//! Leaders and lag are what the replicas themselves report: a leader counts only when its own node
//! answers and says that it leads, in the highest term that any replica has seen.

use std::collections::BTreeMap;

use model::text::printable;
use proto::v1;
use proto::v1::{GetStatusResponse, NodeStatus, ReplicaStatus, ShardStatus};
use serde::Serialize;

use super::report::Report;
use super::resources::{self, Resource};

/// The cluster, put together from all answers.
#[derive(Debug, PartialEq, Serialize)]
pub struct View {
    /// The cluster's id.
    pub cluster_id: String,
    /// Of the newest map that was told; 0 until the shards are laid out.
    pub map_epoch: u64,
    /// Nodes that were promised when it was founded.
    pub nodes_expected: u32,
    /// Its nodes.
    pub nodes: Vec<Node>,
    /// Its shards; 0 is the meta shard.
    pub shards: Vec<Shard>,
    /// Replicas that are not where or as they should be.
    pub unrestored: Vec<Unrestored>,
}

/// A replica that is not where or as it should be.
#[derive(Debug, PartialEq, Serialize)]
pub struct Unrestored {
    /// The shard.
    pub shard: u32,
    /// The node, by name.
    pub node: String,
    /// Why, for people.
    pub why: String,
}

/// A node, as it says itself or others say of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Node {
    /// The node's number.
    pub node_id: u64,
    /// What people call it.
    pub name: String,
    /// Its region.
    pub region: String,
    /// Its data center.
    pub dc: String,
    /// Its rack; may be empty.
    pub rack: String,
    /// host:port that was asked.
    pub address: String,
    /// host:port of its console and metrics; none where it serves none, or is of an earlier version.
    pub http: Option<String>,
    /// It answered this command.
    pub reachable: bool,
    /// For how long others have not reached it, ms, of one that did not answer.
    pub gone_ms: Option<u64>,
    /// Its leaders move elsewhere, and its clients.
    pub draining: bool,
    /// Shards that it leads.
    pub leads: usize,
    /// Replicas that it holds.
    pub replicas: usize,
    /// What can be written to its disk.
    pub disk_free_bytes: Option<u64>,
    /// Less is free than the reserve: appends are refused there.
    pub disk_reserve_reached: bool,
    /// By how much its wall clock is ahead of what most clocks say; 0: it is right, or not known.
    pub clock_off_ms: i64,
    /// What it has only so much of.
    pub resources: Vec<Resource>,
    /// Why it did not answer.
    pub problem: Option<String>,
    /// It gives up all it holds, to be removed.
    pub leaving: bool,
    /// Its disk in all.
    pub disk_total_bytes: Option<u64>,
    /// Of its program.
    pub version: Option<String>,
    /// Since its start.
    pub uptime_ms: Option<u64>,
    /// What its callers ask and wait; none of a node that does not answer.
    #[serde(flatten)]
    pub figures: Option<Figures>,
    /// Whether a client can append through it.
    pub health: Option<Health>,
}

/// What the callers of a node ask, and how long they wait.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Messages acknowledged through it a second, over the last 10 s.
    pub acks_per_s: f64,
    /// Reads answered a second.
    pub reads_per_s: f64,
    /// What 99 of 100 appends took at most; none where there were none.
    pub p99_ms: Option<f64>,
    /// The longest that an append waited within 5 minutes.
    pub gap_5m_ms: f64,
    /// Whose that was.
    pub gap_5m_whose: String,
    /// Calls that were not served within 5 minutes.
    pub failed_5m: u64,
    /// Tails that are open.
    pub tails: u64,
    /// What a sync of its log takes; none where there was none lately.
    pub sync_ms: Option<f64>,
    /// By how much its tasks run late.
    pub lateness_ms: f64,
}

/// Whether a client can append through a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Health {
    /// It can.
    pub ok: bool,
    /// When not; for people.
    pub why: String,
}

impl Figures {
    fn of(told: &v1::Figures) -> Figures {
        Figures {
            acks_per_s: told.acks_per_s,
            reads_per_s: told.reads_per_s,
            p99_ms: (told.p99_us > 0).then(|| ms(told.p99_us)),
            gap_5m_ms: ms(told.gap_5m_us),
            gap_5m_whose: printable(&told.gap_5m_whose),
            failed_5m: told.failed_5m,
            tails: told.tails,
            sync_ms: (told.sync_us > 0).then(|| ms(told.sync_us)),
            lateness_ms: ms(told.lateness_us),
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a time for people")]
fn ms(us: u64) -> f64 {
    us as f64 / 1_000.0
}

/// A shard, as its replicas say.
#[derive(Debug, PartialEq, Serialize)]
pub struct Shard {
    /// The shard.
    pub shard: u32,
    /// Its first slot, inclusive.
    pub slot_first: u32,
    /// Its last slot, inclusive.
    pub slot_last: u32,
    /// None: nobody who answers leads it.
    pub leader: Option<String>,
    /// The leader's data center.
    pub leader_dc: Option<String>,
    /// The highest term that a replica has told.
    pub term: u64,
    /// Its replicas, as the map has them.
    pub replicas: Vec<Replica>,
}

/// A replica of a shard.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Replica {
    /// The node, by name.
    pub node: String,
    /// leader, follower, learner, candidate, broken; or unreachable, missing.
    pub state: String,
    /// Entries that the leader has committed and this replica has not applied.
    pub lag: Option<u64>,
    /// Why it is broken.
    pub broken_reason: Option<String>,
}

impl Shard {
    /// Whether its leader is one by its own word alone: most of its replicas did not answer.
    pub fn is_doubtful(&self) -> bool {
        let answer = |replica: &&Replica| replica.state != "unreachable";
        let answered = self.replicas.iter().filter(answer).count();
        self.leader.is_some() && answered * 2 <= self.replicas.len()
    }
}

impl View {
    /// Of what the nodes said.
    pub fn of(reports: &[Report]) -> View {
        let answers: BTreeMap<u64, &GetStatusResponse> = reports
            .iter()
            .filter_map(|report| report.status.as_ref().ok())
            .map(|status| (status.node_id, status))
            .collect();
        // The newest map there is.
        let newest = answers.values().max_by_key(|status| status.map_epoch);
        let names: BTreeMap<u64, (String, String)> = reports
            .iter()
            .filter_map(|report| report.listed.as_ref())
            .map(|node| (node.node_id, (printable(&node.name), printable(&node.dc))))
            .collect();
        let shards: Vec<Shard> = newest
            .map(|status| {
                status
                    .shards
                    .iter()
                    .map(|one| shard(one, &answers, &names))
                    .collect()
            })
            .unwrap_or_default();
        let listed = reports
            .iter()
            .filter_map(|report| Some((report.listed.as_ref()?, report)));
        // Nodes know of each other's clocks; each says the same of them.
        let clocks: BTreeMap<u64, i64> = newest
            .map(|status| status.nodes.iter())
            .into_iter()
            .flatten()
            .map(|node| (node.node_id, node.clock_off_ms))
            .collect();
        let nodes = listed
            .map(|(listed, report)| Node {
                clock_off_ms: clocks.get(&listed.node_id).copied().unwrap_or(0),
                ..node(listed, report, &shards, &answers)
            })
            .collect();
        View {
            cluster_id: newest
                .map(|status| status.cluster_id.clone())
                .unwrap_or_default(),
            map_epoch: newest.map_or(0, |status| status.map_epoch),
            // A node that has just joined does not know it yet.
            nodes_expected: answers
                .values()
                .map(|status| status.nodes_expected)
                .max()
                .unwrap_or(0),
            unrestored: newest.map_or_else(Vec::new, |status| unrestored(status, &names)),
            nodes,
            shards,
        }
    }
}

fn unrestored(
    status: &GetStatusResponse,
    names: &BTreeMap<u64, (String, String)>,
) -> Vec<Unrestored> {
    let name = |node: u64| match names.get(&node) {
        Some((name, _)) => name.clone(),
        None => format!("n{node}"),
    };
    let unrestored = status.unrestored.iter();
    unrestored
        .map(|one| Unrestored {
            shard: one.shard,
            node: name(one.node_id),
            why: printable(&one.why),
        })
        .collect()
}

fn node(
    listed: &NodeStatus,
    report: &Report,
    shards: &[Shard],
    answers: &BTreeMap<u64, &GetStatusResponse>,
) -> Node {
    let name = printable(&listed.name);
    let status = report.status.as_ref().ok();
    let stats = status.and_then(|status| status.stats.as_ref());
    let figures = status.and_then(|status| status.figures.as_ref());
    let health = status.and_then(|status| status.health.as_ref());
    let told = |of: fn(&GetStatusResponse) -> &String| {
        let told = status.map(of).filter(|text| !text.is_empty());
        told.map(|text| printable(text))
    };
    // Who has missed it for the least time saw it last.
    let missed = answers.values().flat_map(|status| &status.nodes);
    let missed = missed.filter(|one| one.node_id == listed.node_id);
    let placed = shards.iter().flat_map(|shard| &shard.replicas);
    Node {
        node_id: listed.node_id,
        dc: printable(&listed.dc),
        address: printable(&report.address),
        reachable: report.status.is_ok(),
        gone_ms: match report.status.is_ok() {
            true => None,
            false => missed.map(|one| one.gone_ms).min(),
        },
        draining: listed.draining,
        leads: shards
            .iter()
            .filter(|shard| shard.leader.as_ref() == Some(&name))
            .count(),
        replicas: placed.filter(|replica| replica.node == name).count(),
        disk_free_bytes: stats.map(|stats| stats.disk_free_bytes),
        disk_reserve_reached: stats.is_some_and(|stats| stats.disk_reserve_reached),
        clock_off_ms: 0,
        resources: resources::of(stats),
        problem: report.status.as_ref().err().cloned(),
        region: printable(&listed.region),
        rack: printable(&listed.rack),
        http: told(|status| &status.http),
        version: told(|status| &status.version),
        leaving: listed.leaving,
        disk_total_bytes: stats.map(|stats| stats.disk_total_bytes),
        uptime_ms: stats.map(|stats| stats.uptime_ms),
        figures: figures.map(Figures::of),
        health: health.map(|health| Health {
            ok: health.ok,
            why: printable(&health.why),
        }),
        name,
    }
}

fn shard(
    status: &ShardStatus,
    answers: &BTreeMap<u64, &GetStatusResponse>,
    names: &BTreeMap<u64, (String, String)>,
) -> Shard {
    let own = |node: u64| -> Option<&ReplicaStatus> {
        answers
            .get(&node)?
            .replicas
            .iter()
            .find(|replica| replica.shard == status.shard)
    };
    let name = |node: u64| {
        names
            .get(&node)
            .map_or_else(|| format!("n{node}"), |(name, _)| name.clone())
    };
    let reports = || {
        status
            .replicas
            .iter()
            .filter_map(|node| Some((*node, own(*node)?)))
    };
    let term = reports()
        .map(|(_, replica)| replica.term)
        .max()
        .unwrap_or(status.term);
    let leader = reports().find(|(_, replica)| replica.state == "leader" && replica.term == term);
    let replicas = status.replicas.iter().map(|node| {
        let replica = own(*node);
        let state = match replica {
            Some(replica) => printable(&replica.state),
            None if answers.contains_key(node) => "missing".to_owned(),
            None => "unreachable".to_owned(),
        };
        let lag = leader.and_then(|(_, leader)| {
            Some(
                leader
                    .committed_index
                    .saturating_sub(replica?.applied_index),
            )
        });
        let broken_reason = replica
            .map(|replica| printable(&replica.broken_reason))
            .filter(|reason| !reason.is_empty());
        Replica {
            node: name(*node),
            state,
            lag,
            broken_reason,
        }
    });
    Shard {
        shard: status.shard,
        slot_first: status.slot_first,
        slot_last: status.slot_last,
        leader: leader.map(|(node, _)| name(node)),
        leader_dc: leader.and_then(|(node, _)| Some(names.get(&node)?.1.clone())),
        term,
        replicas: replicas.collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sight::verdict::clock_off;

    fn replica(state: &str, term: u64, committed: u64, applied: u64) -> ReplicaStatus {
        ReplicaStatus {
            shard: 1,
            state: state.to_owned(),
            term,
            committed_index: committed,
            applied_index: applied,
            ..ReplicaStatus::default()
        }
    }

    /// A report of node `id`; without a replica it is a node that did not answer.
    fn report(id: u64, own: Option<ReplicaStatus>) -> Report {
        let listed = NodeStatus {
            node_id: id,
            name: format!("node-{id}"),
            dc: format!("dc-{id}"),
            ..NodeStatus::default()
        };
        Report {
            address: String::new(),
            listed: Some(listed),
            status: own
                .ok_or("no answer".to_owned())
                .map(|own| GetStatusResponse {
                    node_id: id,
                    map_epoch: 1,
                    shards: vec![ShardStatus {
                        shard: 1,
                        replicas: vec![1, 2, 3],
                        leader: 1,
                        ..ShardStatus::default()
                    }],
                    replicas: vec![own],
                    ..GetStatusResponse::default()
                }),
            took: Duration::ZERO,
        }
    }

    #[test]
    fn lag_is_what_the_leader_committed_and_a_replica_has_not_applied() {
        let view = View::of(&[
            report(1, Some(replica("leader", 4, 100, 100))),
            report(2, Some(replica("follower", 4, 98, 90))),
            report(3, None),
        ]);
        let shard = &view.shards[0];
        assert_eq!((shard.leader.as_deref(), shard.term), (Some("node-1"), 4));
        let lags: Vec<_> = shard.replicas.iter().map(|replica| replica.lag).collect();
        assert_eq!(lags, [Some(0), Some(10), None]);
        assert_eq!(shard.replicas[2].state, "unreachable");
        assert_eq!((view.nodes[0].leads, view.nodes[2].reachable), (1, false));
    }

    #[test]
    fn a_clock_that_is_off_is_told_of_its_node_by_whoever_knows() {
        let mut told = report(1, Some(replica("leader", 4, 9, 9)));
        if let Ok(status) = &mut told.status {
            status.nodes = vec![NodeStatus {
                node_id: 3,
                clock_off_ms: -90_061_500,
                ..NodeStatus::default()
            }];
        }
        let view = View::of(&[told, report(3, None)]);
        let off: Vec<i64> = view.nodes.iter().map(|node| node.clock_off_ms).collect();
        assert_eq!(off, [0, -90_061_500]);
        assert_eq!(
            clock_off("node-3", -90_061_500),
            "the clock of node-3 is 1day 1h 1m 1s behind the others': it leads nothing until it is set right"
        );
        assert!(clock_off("a", 2_500).contains("is 2s 500ms ahead of the others'"));
    }

    #[test]
    fn a_leader_that_does_not_answer_or_was_followed_by_a_term_is_none() {
        let silent = View::of(&[
            report(1, None),
            report(2, Some(replica("follower", 4, 9, 9))),
            report(3, Some(replica("follower", 4, 9, 9))),
        ]);
        assert_eq!(silent.shards[0].leader, None);
        let old = View::of(&[
            report(1, Some(replica("leader", 4, 9, 9))),
            report(2, Some(replica("candidate", 5, 9, 9))),
            report(3, Some(replica("follower", 5, 9, 9))),
        ]);
        assert_eq!(old.shards[0].leader, None);
        let new = View::of(&[
            report(1, Some(replica("leader", 4, 9, 9))),
            report(2, Some(replica("leader", 5, 9, 9))),
            report(3, Some(replica("follower", 5, 9, 9))),
        ]);
        assert_eq!(new.shards[0].leader.as_deref(), Some("node-2"));
    }
}
