//! `firebreak node drain|undrain` and `firebreak dc drain|undrain`: leaders move off nodes and their
//! clients go elsewhere, or the nodes serve again. Any node that is left takes the command.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use client::{Drain, NodeReport};
use serde::Serialize;

use super::map::Map;
use super::target::{Target, verb_failed};

const EXAMPLES: &str = "\
Examples:
  firebreak node drain seoul-1
  firebreak dc drain seoul --target busan-1:7101
  firebreak dc undrain seoul

A drained node stays a voter and keeps its data; it leads nothing, and its clients are sent elsewhere.

Exit codes: 0 done, 1 refused, or not done within --wait, 2 wrong arguments or an unknown name.";

/// Take a data center out of service, or back.
#[derive(clap::Subcommand, Debug)]
pub enum Dc {
    /// Move the leaders off all its nodes and send their clients elsewhere.
    Drain(Args),
    /// Let its nodes lead and take clients again.
    Undrain(Args),
}

/// Whom, and how long to wait for it.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Name of the data center (of `dc`), name or id of the node (of `node`)
    #[arg(value_name = "NAME")]
    name: String,
    /// Wait so long, s, until the nodes lead nothing; 0 does not wait
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    wait: u64,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// What a name names.
#[derive(Clone, Copy, Debug)]
pub enum Whom {
    /// All nodes that a data center has now.
    Dc,
    /// A node.
    Node,
}

/// How long a call may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long a node may take to say how it is.
const LIMIT: Duration = Duration::from_secs(1);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// What became of it.
#[derive(Debug, PartialEq, Serialize)]
struct Outcome {
    draining: bool,
    nodes: Vec<String>,
    /// Shards that they still lead.
    leads: usize,
    took_ms: u128,
}

impl Dc {
    /// Runs the subcommand.
    ///
    /// # Errors
    /// The cluster refuses it, or no node answers.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Dc::Drain(args) => args.run(Whom::Dc, true).await,
            Dc::Undrain(args) => args.run(Whom::Dc, false).await,
        }
    }
}

impl Args {
    /// Drains whom the name names, or takes them back.
    ///
    /// # Errors
    /// Usage, when nobody has the name; the cluster refuses it, or no node answers.
    pub async fn run(self, whom: Whom, draining: bool) -> anyhow::Result<ExitCode> {
        let client = self.target.client(DEADLINE)?;
        let begun = Instant::now();
        let map = Map::ask(&client, &self.target).await?;
        let (nodes, drain) = match whom {
            Whom::Dc => (map.dc(&self.name)?, Drain::Dc(self.name.clone())),
            Whom::Node => {
                let node = map.node(&self.name)?;
                (vec![node.node_id], Drain::Node(node.name.clone()))
            }
        };
        let refused = |error| verb_failed(error, self.target.asked(), "firebreak status");
        let asked = client.set_draining(&drain, draining).await;
        asked.map_err(refused)?;
        let until = begun + Duration::from_secs(self.wait);
        let leads = loop {
            let reports = client.status_all(LIMIT).await.context("no node answers")?;
            let leads = led(&reports, &nodes);
            if leads == 0 || !draining || Instant::now() >= until {
                break leads;
            }
            tokio::time::sleep(LOOK).await;
        };
        let nodes = nodes.iter().map(|node| map.name(*node)).collect();
        let outcome = Outcome {
            draining,
            nodes,
            leads,
            took_ms: begun.elapsed().as_millis(),
        };
        if self.json {
            println!("{}", serde_json::to_string_pretty(&outcome)?);
        } else {
            println!("{}", told(&outcome));
        }
        Ok(match draining && leads > 0 {
            true => ExitCode::FAILURE,
            false => ExitCode::SUCCESS,
        })
    }
}

/// How many shards these nodes lead by their own word.
fn led(reports: &[NodeReport], nodes: &[u64]) -> usize {
    let meant = |report: &&NodeReport| {
        let listed = report.listed.as_ref();
        listed.is_some_and(|listed| nodes.contains(&listed.node_id))
    };
    let said = reports.iter().filter(meant).flat_map(|one| &one.status);
    let replicas = said.flat_map(|status| &status.replicas);
    replicas.filter(|one| one.state == "leader").count()
}

fn told(outcome: &Outcome) -> String {
    let nodes = outcome.nodes.join(", ");
    match (outcome.draining, outcome.leads) {
        (false, _) => format!("{nodes}: in service again; leaders return within minutes"),
        (true, 0) => format!("{nodes}: drained, nothing is led there any more"),
        (true, leads) => {
            format!("{nodes}: draining, {leads} shards are still led there; `firebreak status`")
        }
    }
}

#[cfg(test)]
mod tests {
    use client::v1::{GetStatusResponse, NodeStatus, ReplicaStatus};

    use super::*;

    fn report(id: u64, dc: &str, states: &[&str]) -> NodeReport {
        let replicas = states.iter().map(|state| ReplicaStatus {
            state: (*state).to_owned(),
            ..ReplicaStatus::default()
        });
        NodeReport {
            address: String::new(),
            listed: Some(NodeStatus {
                node_id: id,
                name: format!("{dc}-{id}"),
                dc: dc.to_owned(),
                ..NodeStatus::default()
            }),
            status: Ok(GetStatusResponse {
                replicas: replicas.collect(),
                ..GetStatusResponse::default()
            }),
            took: Duration::ZERO,
        }
    }

    #[test]
    fn only_what_the_drained_nodes_lead_counts() {
        let reports = [
            report(1, "seoul", &["leader", "follower"]),
            report(2, "seoul", &["leader"]),
            report(3, "busan", &["leader"]),
        ];
        assert_eq!(led(&reports, &[1, 2]), 2);
        assert_eq!(led(&reports, &[3]), 1);
        assert_eq!(led(&reports, &[]), 0);
    }
}
