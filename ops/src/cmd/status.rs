//! `firebreak status`: what the cluster looks like, from every node's own mouth.
//!
//! Leaders and lag are what the replicas themselves report: a leader counts only when its own node
//! answers and says that it leads, in the highest term that any replica has seen.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use client::NodeReport;
use client::v1::{GetStatusResponse, NodeStatus, ReplicaStatus, ShardStatus};
use comfy_table::{Cell, CellAlignment, Color};
use serde::Serialize;

use super::target::{Target, colour, new_table, printable};

const EXAMPLES: &str = "\
Examples:
  firebreak status
  firebreak status --target seoul-1:7001,busan-1:7001 --json

Exit codes: 0 every shard is led, 1 a shard has no leader, a replica is broken or no node answers, 2 wrong arguments.";

/// Show the nodes and the shards.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// Lines about replicas that are not restored; JSON has them all.
const UNRESTORED_SHOWN: usize = 12;
/// How long a node may take to say how it is.
const LIMIT: Duration = Duration::from_secs(1);
/// How long to look for a node that answers at all.
const DEADLINE: Duration = Duration::from_secs(5);

/// The cluster, put together from all answers.
#[derive(Debug, PartialEq, Serialize)]
struct View {
    cluster_id: String,
    map_epoch: u64,
    nodes_expected: u32,
    nodes: Vec<Node>,
    shards: Vec<Shard>,
    /// Replicas that are not where or as they should be.
    unrestored: Vec<Unrestored>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Unrestored {
    shard: u32,
    node: String,
    why: String,
}

#[derive(Debug, PartialEq, Serialize)]
struct Node {
    node_id: u64,
    name: String,
    dc: String,
    address: String,
    /// It answered this command.
    reachable: bool,
    /// Its leaders move elsewhere, and its clients.
    draining: bool,
    /// Shards that it leads.
    leads: usize,
    /// Replicas that it holds.
    replicas: usize,
    disk_free_bytes: Option<u64>,
    disk_reserve_reached: bool,
    /// By how much its wall clock is ahead of what most clocks say; 0: it is right, or not known.
    clock_off_ms: i64,
    problem: Option<String>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Shard {
    shard: u32,
    slot_first: u32,
    slot_last: u32,
    /// None: nobody who answers leads it.
    leader: Option<String>,
    leader_dc: Option<String>,
    term: u64,
    replicas: Vec<Replica>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Replica {
    node: String,
    /// leader, follower, learner, candidate, broken; or unreachable, missing.
    state: String,
    /// Entries that the leader has committed and this replica has not applied.
    lag: Option<u64>,
    broken_reason: Option<String>,
}

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// Wrong arguments, or no node answers.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.target.client(DEADLINE)?;
        let reports = client
            .status_all(LIMIT)
            .await
            .with_context(|| format!("no node answers; {}", self.target.asked()))?;
        let view = view(&reports);
        let leaderless = view
            .shards
            .iter()
            .filter(|shard| shard.leader.is_none())
            .count();
        let laid_out = view.map_epoch > 0;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&view)?);
        } else {
            print(&view);
        }
        let broken = view
            .shards
            .iter()
            .flat_map(|shard| &shard.replicas)
            .filter(|replica| replica.broken_reason.is_some())
            .count();
        if broken > 0 && !self.json {
            eprintln!("{broken} replicas are broken and stay stopped; `--json` says why");
        }
        if leaderless > 0 || broken > 0 || !laid_out {
            if !self.json && leaderless > 0 {
                eprintln!(
                    "{leaderless} of {} shards have no leader",
                    view.shards.len()
                );
            }
            return Ok(ExitCode::FAILURE);
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn view(reports: &[NodeReport]) -> View {
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
            ..node(listed, report, &shards)
        })
        .collect();
    View {
        cluster_id: newest
            .map(|status| status.cluster_id.clone())
            .unwrap_or_default(),
        map_epoch: newest.map_or(0, |status| status.map_epoch),
        nodes_expected: newest.map_or(0, |status| status.nodes_expected),
        unrestored: newest.map_or_else(Vec::new, |status| unrestored(status, &names)),
        nodes,
        shards,
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

fn node(listed: &NodeStatus, report: &NodeReport, shards: &[Shard]) -> Node {
    let name = printable(&listed.name);
    let stats = report
        .status
        .as_ref()
        .ok()
        .and_then(|status| status.stats.as_ref());
    let placed = shards.iter().flat_map(|shard| &shard.replicas);
    Node {
        node_id: listed.node_id,
        dc: printable(&listed.dc),
        address: printable(&report.address),
        reachable: report.status.is_ok(),
        draining: listed.draining,
        leads: shards
            .iter()
            .filter(|shard| shard.leader.as_ref() == Some(&name))
            .count(),
        replicas: placed.filter(|replica| replica.node == name).count(),
        disk_free_bytes: stats.map(|stats| stats.disk_free_bytes),
        disk_reserve_reached: stats.is_some_and(|stats| stats.disk_reserve_reached),
        clock_off_ms: 0,
        problem: report.status.as_ref().err().map(ToString::to_string),
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

fn print(view: &View) {
    let colours = colour();
    let paint = |text: String, colour: Color| {
        if colours {
            Cell::new(text).fg(colour)
        } else {
            Cell::new(text)
        }
    };
    let mut nodes = new_table(&[
        "node",
        "dc",
        "address",
        "reachable",
        "leads",
        "replicas",
        "disk free",
    ]);
    for node in &view.nodes {
        let reachable = match node.reachable {
            true if node.draining && node.leads > 0 => {
                paint("yes, draining".to_owned(), Color::Yellow)
            }
            true if node.draining => paint("yes, drained".to_owned(), Color::Yellow),
            true => paint("yes".to_owned(), Color::Green),
            false => paint("no".to_owned(), Color::Red),
        };
        let disk = match node.disk_free_bytes {
            Some(free) if node.disk_reserve_reached => {
                paint(format!("{} (reserve reached)", bytes(free)), Color::Red)
            }
            Some(free) => Cell::new(bytes(free)),
            None => Cell::new("?"),
        };
        nodes.add_row(vec![
            Cell::new(&node.name),
            Cell::new(&node.dc),
            Cell::new(&node.address),
            reachable,
            Cell::new(node.leads).set_alignment(CellAlignment::Right),
            Cell::new(node.replicas).set_alignment(CellAlignment::Right),
            disk.set_alignment(CellAlignment::Right),
        ]);
    }
    println!("cluster {}", printable(&view.cluster_id));
    println!("{nodes}");
    for node in view.nodes.iter().filter(|node| node.clock_off_ms != 0) {
        println!("{}", clock_off(&node.name, node.clock_off_ms));
    }
    if view.map_epoch == 0 {
        println!(
            "the cluster is forming: {} of {} nodes have joined, the shards are not laid out yet",
            view.nodes.len(),
            view.nodes_expected
        );
        for one in &view.unrestored {
            println!("  {}", one.why);
        }
        return;
    }
    let mut shards = new_table(&[
        "shard",
        "slots",
        "leader",
        "dc",
        "term",
        "replicas (entries behind)",
    ]);
    for shard in &view.shards {
        let leader = match &shard.leader {
            Some(leader) => Cell::new(leader),
            None => paint("none".to_owned(), Color::Red),
        };
        let meta = shard.shard == 0;
        let troubled = shard
            .replicas
            .iter()
            .any(|one| one.lag.is_none() || one.broken_reason.is_some());
        let replicas: Vec<String> = shard.replicas.iter().map(describe).collect();
        let replicas = replicas.join(", ");
        shards.add_row(vec![
            Cell::new(if meta {
                "meta".to_owned()
            } else {
                shard.shard.to_string()
            })
            .set_alignment(CellAlignment::Right),
            Cell::new(if meta {
                String::new()
            } else {
                format!("{}–{}", shard.slot_first, shard.slot_last)
            }),
            leader,
            Cell::new(shard.leader_dc.as_deref().unwrap_or("")),
            Cell::new(shard.term).set_alignment(CellAlignment::Right),
            if troubled {
                paint(replicas, Color::Yellow)
            } else {
                Cell::new(replicas)
            },
        ]);
    }
    println!("{shards}");
    for one in view.unrestored.iter().take(UNRESTORED_SHOWN) {
        println!("shard {} is not restored: {}", one.shard, one.why);
    }
    if view.unrestored.len() > UNRESTORED_SHOWN {
        let more = view.unrestored.len() - UNRESTORED_SHOWN;
        println!("and {more} more; `--json` shows all");
    }
}

/// Says whose clock is off, and what that means.
fn clock_off(node: &str, off_ms: i64) -> String {
    let way = if off_ms < 0 { "behind" } else { "ahead of" };
    let off = Duration::from_millis(off_ms.unsigned_abs());
    let off = match off.as_secs() {
        0..10 => off,
        // Whole seconds say enough.
        s => Duration::from_secs(s),
    };
    let off = humantime::format_duration(off);
    format!(
        "the clock of {node} is {off} {way} the others': it leads nothing until it is set right"
    )
}

fn describe(replica: &Replica) -> String {
    if let Some(reason) = &replica.broken_reason {
        return format!("{} broken: {reason}", replica.node);
    }
    match (replica.lag, replica.state.as_str()) {
        (Some(_), "leader") => replica.node.clone(),
        (Some(lag), "follower") => format!("{} {lag}", replica.node),
        (Some(lag), state) => format!("{} {lag} ({state})", replica.node),
        (None, state) => format!("{} ({state})", replica.node),
    }
}

/// `12.3 GiB`.
#[allow(clippy::cast_precision_loss, reason = "a size for people")]
fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1_024.0 {
            return format!("{value:.1} {unit}");
        }
        value /= 1_024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use client::{Code, Error, Refusal};

    use super::*;

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
    fn report(id: u64, own: Option<ReplicaStatus>) -> NodeReport {
        let listed = NodeStatus {
            node_id: id,
            name: format!("node-{id}"),
            dc: format!("dc-{id}"),
            ..NodeStatus::default()
        };
        let silent = Error::Refused(Refusal {
            code: Code::DeadlineExceeded,
            reason: String::new(),
            message: "no answer".to_owned(),
            violations: Vec::new(),
            metadata: BTreeMap::new(),
            retry_after: None,
            outcome_unknown: false,
        });
        NodeReport {
            address: String::new(),
            listed: Some(listed),
            status: own.ok_or(silent).map(|own| GetStatusResponse {
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
        let view = view(&[
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
        let view = view(&[told, report(3, None)]);
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
        let silent = view(&[
            report(1, None),
            report(2, Some(replica("follower", 4, 9, 9))),
            report(3, Some(replica("follower", 4, 9, 9))),
        ]);
        assert_eq!(silent.shards[0].leader, None);
        let old = view(&[
            report(1, Some(replica("leader", 4, 9, 9))),
            report(2, Some(replica("candidate", 5, 9, 9))),
            report(3, Some(replica("follower", 5, 9, 9))),
        ]);
        assert_eq!(old.shards[0].leader, None);
        let new = view(&[
            report(1, Some(replica("leader", 4, 9, 9))),
            report(2, Some(replica("leader", 5, 9, 9))),
            report(3, Some(replica("follower", 5, 9, 9))),
        ]);
        assert_eq!(new.shards[0].leader.as_deref(), Some("node-2"));
    }
}
