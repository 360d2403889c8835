//! `firebreak status`: how the cluster stands, from every node's own mouth.
//!
//! Leaders and lag are what the replicas themselves report: a leader counts only when its own node
//! answers and says that it leads, in the highest term that any replica has seen. A node notices within
//! a second that it has lost others; so where a leader's majority does not answer, it is asked again
//! then, and only that answer counts.

mod print;
mod verdict;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use client::v1::{GetStatusResponse, NodeStatus, ReplicaStatus, ShardStatus};
use client::{Client, NodeReport};
use serde::Serialize;
use tokio::time::{Instant, sleep, sleep_until};

use self::verdict::Judged;
use super::resources::{self, Resource};
use super::target::{Target, printable};
use crate::stop::Stop;

const EXAMPLES: &str = "\
Examples:
  firebreak status
  firebreak status --target seoul-1:7001,busan-1:7001 --json
  firebreak status --watch            again every 2 s, until Ctrl-C
  firebreak status --watch 10 | tee -a status.log    where that is no terminal: a line for each look

The first line is how it stands and why; the second says who told so and how old that is at most.
Exit codes: 0 whole, 1 not serving (a shard has no leader, every append is refused, no node answers, or the
cluster is forming), 2 wrong arguments, 3 degraded, but serving (a node does not answer, a replica is not
in its place). --watch ends with the code of its last look.";

/// Show how the cluster stands: in a sentence, and by nodes and shards.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Print as JSON; with --watch, a line for each look
    #[arg(long)]
    json: bool,
    /// Look again every so many seconds, until Ctrl-C
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    watch: Option<u64>,
    #[command(flatten)]
    target: Target,
}

/// How long a node may take to say how it is.
const LIMIT: Duration = Duration::from_secs(1);
/// Within this a node notices that it has lost others; see `raft/src/rtt.rs`.
const NOTICED_WITHIN: Duration = Duration::from_millis(1_500);
/// Clears the terminal and begins at its top.
const CLEARED: &str = "\x1b[2J\x1b[H";
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
    /// For how long others have not reached it, ms, of one that did not answer.
    gone_ms: Option<u64>,
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
    /// What it has only so much of.
    resources: Vec<Resource>,
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

/// What a look came to.
struct Look {
    /// None: no node answers.
    view: Option<View>,
    judged: Judged,
    /// When it was made, UTC.
    at: String,
    /// How old what it says was then, at most.
    age: Duration,
}

/// A look, as JSON has it.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    judged: &'a Judged,
    exit_code: u8,
    looked_at: &'a str,
    age_ms: u128,
    #[serde(flatten)]
    view: Option<&'a View>,
}

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// Wrong arguments.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.target.client(DEADLINE).await?;
        let Some(every) = self.watch else {
            let look = look(&client, &self.target).await?;
            self.show(&look)?;
            return Ok(look.exit_code());
        };
        let mut stop = Stop::listen().context("cannot listen for signals")?;
        let mut last = ExitCode::FAILURE;
        loop {
            let looked = async {
                let look = look(&client, &self.target).await?;
                self.show_again(&look)?;
                last = look.exit_code();
                sleep(Duration::from_secs(every)).await;
                anyhow::Ok(())
            };
            tokio::select! {
                biased;
                () = stop.asked() => return Ok(last),
                ended = looked => ended?,
            }
        }
    }

    fn show(&self, look: &Look) -> anyhow::Result<()> {
        if self.json {
            println!("{}", serde_json::to_string_pretty(&look.document())?);
            return Ok(());
        }
        look.print();
        Ok(())
    }

    /// One look of many: the whole screen, or a line where there is none.
    fn show_again(&self, look: &Look) -> anyhow::Result<()> {
        if self.json {
            println!("{}", serde_json::to_string(&look.document())?);
        } else if io::stdout().is_terminal() {
            print!("{CLEARED}");
            look.print();
        } else {
            println!("{} {}", look.at, look.judged.sentence);
        }
        io::stdout().flush()?;
        Ok(())
    }
}

impl Look {
    fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.judged.verdict.exit_code())
    }

    fn document(&self) -> Document<'_> {
        Document {
            judged: &self.judged,
            exit_code: self.judged.verdict.exit_code(),
            looked_at: &self.at,
            age_ms: self.age.as_millis(),
            view: self.view.as_ref(),
        }
    }

    fn print(&self) {
        print::sentence(&self.judged);
        let Some(view) = &self.view else { return };
        println!(
            "cluster {}, told by {} of its {} nodes, at {}, at most {} ms old",
            printable(&view.cluster_id),
            view.nodes.iter().filter(|node| node.reachable).count(),
            view.nodes.len(),
            self.at,
            self.age.as_millis().max(1)
        );
        print::tables(view);
        print::problems(&self.judged);
    }
}

/// Asks all nodes, and again where leaders call themselves so whose majority does not answer.
async fn look(client: &Client, target: &Target) -> anyhow::Result<Look> {
    let at = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let begun = Instant::now();
    let mut reports = client.status_all(LIMIT).await;
    if let Ok(first) = &reports
        && view(first).shards.iter().any(Shard::is_doubtful)
    {
        sleep_until(begun + NOTICED_WITHIN).await;
        reports = client.status_all(LIMIT).await;
    }
    let Ok(reports) = reports else {
        return Ok(Look {
            view: None,
            judged: Judged::silent(&target.asked()),
            at,
            age: Duration::ZERO,
        });
    };
    let view = view(&reports);
    Ok(Look {
        judged: Judged::view(&view),
        view: Some(view),
        at,
        // All were asked at once, so that nothing is older than the slowest took.
        age: reports
            .iter()
            .map(|report| report.took)
            .max()
            .unwrap_or_default(),
    })
}

impl Shard {
    /// Whether its leader is one by its own word alone: most of its replicas did not answer.
    fn is_doubtful(&self) -> bool {
        let answer = |replica: &&Replica| replica.state != "unreachable";
        let answered = self.replicas.iter().filter(answer).count();
        self.leader.is_some() && answered * 2 <= self.replicas.len()
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
    report: &NodeReport,
    shards: &[Shard],
    answers: &BTreeMap<u64, &GetStatusResponse>,
) -> Node {
    let name = printable(&listed.name);
    let stats = report
        .status
        .as_ref()
        .ok()
        .and_then(|status| status.stats.as_ref());
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

#[cfg(test)]
mod tests {
    use client::{Code, Error, Refusal};

    use super::verdict::clock_off;
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
