//! `firebreak node drain|undrain` and `firebreak dc drain|undrain`: leaders move off nodes and their
//! clients go elsewhere, or the nodes serve again. Any node that is left takes the command.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use client::Client;
use client::v1::ShardStatus;
use model::id::ShardId;
use serde::Serialize;
use server::drill::verb::Verb;

use super::map::Map;
use super::rehearsed::{Go, Rehearsed};
use super::target::{ProgressOutput, Target, verb_failed, wait_seconds};

/// Of both drains.
pub const DRAIN_EXAMPLES: &str = "\
Examples:
  firebreak node drain seoul-1
  firebreak dc drain seoul --target busan-1:7101
  firebreak dc drain seoul --rehearse            what would happen, by the simulator; --yes does it then

A drained node stays a voter and keeps its data; it leads nothing, and its clients are sent elsewhere. It
stays drained until `undrain`, also over a restart. One that does not answer is drained for when it is back.

Exit codes: 0 done, 1 refused, or not done within --wait, 2 wrong arguments or an unknown name.";

/// Of both undrains.
pub const UNDRAIN_EXAMPLES: &str = "\
Examples:
  firebreak node undrain seoul-1
  firebreak dc undrain seoul --target busan-1:7101

The nodes take clients at once. Leaders return to them within minutes: a shard moves once a minute at most.
For one that is not drained nothing changes.

Exit codes: 0 done, 1 refused, or no node answers, 2 wrong arguments or an unknown name.";

/// Take a data center out of service, or back.
#[derive(clap::Subcommand, Debug)]
pub enum Dc {
    /// Move the leaders off all its nodes and send their clients elsewhere
    #[command(after_help = DRAIN_EXAMPLES)]
    Drain(Drain<DcName>),
    /// Let its nodes lead and take clients again
    #[command(after_help = UNDRAIN_EXAMPLES)]
    Undrain(Undrain<DcName>),
}

/// A data center as the command line has it.
#[derive(clap::Args, Clone, Debug)]
pub struct DcName {
    /// Name of the data center: all nodes that it has now
    #[arg(value_name = "DC")]
    name: String,
}

/// A node as the command line has it.
#[derive(clap::Args, Clone, Debug)]
pub struct NodeName {
    /// Name of the node, or its number as n3
    #[arg(value_name = "NODE")]
    name: String,
}

/// What a name names.
pub trait Whom: clap::Args {
    /// The nodes, and how the cluster is told.
    ///
    /// # Errors
    /// Usage, when nobody has the name.
    fn find(&self, map: &Map) -> anyhow::Result<(Vec<u64>, client::Drain)>;
}

impl Whom for DcName {
    fn find(&self, map: &Map) -> anyhow::Result<(Vec<u64>, client::Drain)> {
        Ok((map.dc(&self.name)?, client::Drain::Dc(self.name.clone())))
    }
}

impl Whom for NodeName {
    fn find(&self, map: &Map) -> anyhow::Result<(Vec<u64>, client::Drain)> {
        let node = map.node(&self.name)?;
        let drain = client::Drain::Node(node.name.clone());
        Ok((vec![node.node_id], drain))
    }
}

/// Whom to drain, and how long to wait for it.
#[derive(clap::Args, Debug)]
pub struct Drain<W: Whom> {
    #[command(flatten)]
    whom: W,
    /// Wait so long, s, until the nodes lead nothing; 0 does not wait
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = wait_seconds())]
    wait: u64,
    #[command(flatten)]
    rehearsed: Rehearsed,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// Whom to take back.
#[derive(clap::Args, Debug)]
pub struct Undrain<W: Whom> {
    #[command(flatten)]
    whom: W,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// How long a call may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Between two looks what the node still leads.
const DRAIN_CHECK_EVERY: Duration = Duration::from_millis(200);

/// What became of it.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Outcome {
    draining: bool,
    nodes: Vec<String>,
    /// Of these, those that do not answer.
    silent: Vec<String>,
    /// Shards that they still lead, by their own word.
    leads: usize,
    /// Shards that have a replica on one that does not answer, and that no other node is known to lead.
    perhaps_led: usize,
    took_ms: u128,
}

impl Dc {
    /// Runs the subcommand.
    ///
    /// # Errors
    /// The cluster refuses it, or no node answers.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Dc::Drain(args) => args.run().await,
            Dc::Undrain(args) => args.run().await,
        }
    }
}

impl<W: Whom> Drain<W> {
    /// Drains whom the name names.
    ///
    /// # Errors
    /// Usage, when nobody has the name; the cluster refuses it, or no node answers.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.target.client(DEADLINE).await?;
        let map = Map::ask(&client, &self.target).await?;
        let (nodes, drain) = self.whom.find(&map)?;
        let verb = || Verb::Drain {
            nodes: nodes.iter().map(|node| map.name(*node)).collect(),
        };
        if let Go::Stop(code) = self.rehearsed.first(verb, &self.target, self.json).await? {
            return Ok(code);
        }
        let begun = Instant::now();
        set(&client, &self.target, &drain, true).await?;
        let until = begun + Duration::from_secs(self.wait);
        let mut outcome = loop {
            let map = Map::ask(&client, &self.target).await?;
            let outcome = outcome(&map, &nodes);
            if outcome.is_done() || Instant::now() >= until {
                break outcome;
            }
            tokio::time::sleep(DRAIN_CHECK_EVERY).await;
        };
        outcome.took_ms = begun.elapsed().as_millis();
        let code = match outcome.is_done() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        };
        ProgressOutput::new(self.json).end(&told(&outcome), &serde_json::to_value(&outcome)?, code)
    }
}

impl<W: Whom> Undrain<W> {
    /// Takes back whom the name names.
    ///
    /// # Errors
    /// Usage, when nobody has the name; the cluster refuses it, or no node answers.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let begun = Instant::now();
        let client = self.target.client(DEADLINE).await?;
        let map = Map::ask(&client, &self.target).await?;
        let (nodes, drain) = self.whom.find(&map)?;
        set(&client, &self.target, &drain, false).await?;
        let outcome = Outcome {
            draining: false,
            took_ms: begun.elapsed().as_millis(),
            ..outcome(&map, &nodes)
        };
        let document = serde_json::to_value(&outcome)?;
        ProgressOutput::new(self.json).end(&told(&outcome), &document, ExitCode::SUCCESS)
    }
}

async fn set(
    client: &Client,
    target: &Target,
    whom: &client::Drain,
    draining: bool,
) -> anyhow::Result<()> {
    let asked = client.set_draining(whom, draining).await;
    let refused = |error| verb_failed(error, target.asked(), "firebreak status");
    asked.map(drop).map_err(refused)
}

/// How far the drain of these nodes is.
fn outcome(map: &Map, nodes: &[u64]) -> Outcome {
    let gone = map.gone();
    let leaders = map.leaders();
    let names = |some: &dyn Fn(&u64) -> bool| {
        let some = nodes.iter().filter(|node| some(node));
        some.map(|node| map.name(*node)).collect()
    };
    let on_silent = |shard: &&ShardStatus| {
        let mut replicas = shard.replicas.iter();
        replicas.any(|node| nodes.contains(node) && gone.contains(node))
    };
    let perhaps_led = map.newest().shards.iter().filter(on_silent);
    Outcome {
        draining: true,
        nodes: names(&|_| true),
        silent: names(&|node| gone.contains(node)),
        leads: leaders
            .values()
            .filter(|leader| nodes.contains(leader))
            .count(),
        perhaps_led: perhaps_led
            .filter(|shard| !leaders.contains_key(&ShardId(shard.shard)))
            .count(),
        took_ms: 0,
    }
}

impl Outcome {
    /// Whether nothing is led there.
    fn is_done(&self) -> bool {
        self.leads == 0 && self.perhaps_led == 0
    }
}

fn told(outcome: &Outcome) -> String {
    let nodes = outcome.nodes.join(", ");
    let silent = outcome.silent.join(", ");
    if !outcome.draining {
        let text = format!("{nodes}: in service again; leaders return within minutes");
        return match silent.is_empty() {
            true => text,
            false => format!("{text} ({silent} does not answer now)"),
        };
    }
    match (outcome.leads, outcome.perhaps_led) {
        (0, 0) if silent.is_empty() => format!("{nodes}: drained, nothing is led there any more"),
        (0, 0) => format!(
            "{nodes}: to be drained, and nothing is led there; {silent} does not answer: when it is \
             back it leads nothing and sends its clients elsewhere, until `undrain`"
        ),
        (0, perhaps) => format!(
            "{nodes}: to be drained, but {silent} does not answer, and of {perhaps} shards it is not \
             known who leads them; `firebreak status`"
        ),
        (leads, _) => {
            format!("{nodes}: draining, {leads} shards are still led there; `firebreak status`")
        }
    }
}

#[cfg(test)]
mod tests {
    use client::v1::{GetStatusResponse, NodeStatus, ReplicaStatus};
    use server::sight::report::Report;

    use super::*;

    /// One node of each data center; of each shard there is a replica on each. A node that is said to
    /// lead no shards at all does not answer.
    fn map(leads: [Option<&[u32]>; 3]) -> Map {
        let names = ["seoul-1", "busan-1", "tokyo-1"];
        let nodes: Vec<NodeStatus> = (1..)
            .zip(names)
            .map(|(node_id, name)| NodeStatus {
                node_id,
                name: name.to_owned(),
                ..NodeStatus::default()
            })
            .collect();
        let shard = |shard| ShardStatus {
            shard,
            replicas: vec![1, 2, 3],
            ..ShardStatus::default()
        };
        let replica = |shard, leads: &[u32]| ReplicaStatus {
            shard,
            term: 1,
            state: match leads.contains(&shard) {
                true => "leader".to_owned(),
                false => "follower".to_owned(),
            },
            ..ReplicaStatus::default()
        };
        let silent = || "silent".to_owned();
        let report = |(node, leads): (&NodeStatus, Option<&[u32]>)| Report {
            address: String::new(),
            listed: Some(node.clone()),
            status: leads.ok_or_else(silent).map(|leads| GetStatusResponse {
                node_id: node.node_id,
                map_epoch: 1,
                nodes: nodes.clone(),
                shards: (0..3).map(shard).collect(),
                replicas: (0..3).map(|shard| replica(shard, leads)).collect(),
                ..GetStatusResponse::default()
            }),
            took: Duration::ZERO,
        };
        Map::of(nodes.iter().zip(leads).map(report).collect()).unwrap()
    }

    #[track_caller]
    fn check(leads: [Option<&[u32]>; 3], nodes: &[u64], done: bool, says: &str) {
        let outcome = outcome(&map(leads), nodes);
        assert_eq!(outcome.is_done(), done, "{outcome:?}");
        assert!(told(&outcome).contains(says), "{}", told(&outcome));
    }

    #[test]
    fn only_what_the_drained_nodes_lead_counts() {
        let all: [Option<&[u32]>; 3] = [Some(&[0, 1]), Some(&[2]), Some(&[])];
        check(all, &[1, 2], false, "3 shards are still led there");
        check(all, &[2], false, "1 shards are still led there");
        check(all, &[3], true, "tokyo-1: drained, nothing is led there");
    }

    #[test]
    fn a_dead_node_is_not_said_to_be_drained() {
        let says = "busan-1 does not answer: when it is back it leads nothing";
        check([Some(&[0, 1]), None, Some(&[2])], &[2], true, says);
        let says = "busan-1 does not answer, and of 1 shards it is not known who leads them";
        check([Some(&[0, 1]), None, Some(&[])], &[2], false, says);
    }
}
