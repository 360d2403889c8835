//! `firebreak node drain|undrain` and `firebreak dc drain|undrain`: leaders move off nodes and their
//! clients go elsewhere, or the nodes serve again. Any node that is left takes the command.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use client::{Client, Drain, NodeReport};
use serde::Serialize;

use super::target::{Target, printable};

const EXAMPLES: &str = "\
Examples:
  firebreak node drain seoul-1
  firebreak dc drain seoul --target busan-1:7101
  firebreak dc undrain seoul

A drained node stays a voter and keeps its data; it leads nothing, and its clients are sent elsewhere.

Exit codes: 0 done, 1 refused, or not done within --wait, 2 wrong arguments.";

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
    /// Name of the data center, or name or id of the node
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
            Dc::Drain(args) => args.run(Drain::Dc, true).await,
            Dc::Undrain(args) => args.run(Drain::Dc, false).await,
        }
    }
}

impl Args {
    /// Drains whom `whom` makes of the name, or takes them back.
    ///
    /// # Errors
    /// The cluster refuses it, or no node answers.
    pub async fn run(
        self,
        whom: impl FnOnce(String) -> Drain,
        draining: bool,
    ) -> anyhow::Result<ExitCode> {
        let client = self.target.client(DEADLINE)?;
        let begun = Instant::now();
        let whom = whom(self.name.clone());
        client
            .set_draining(&whom, draining)
            .await
            .with_context(|| self.target.asked())?;
        let until = begun + Duration::from_secs(self.wait);
        let (nodes, leads) = loop {
            let (nodes, leads) = look(&client, &whom).await?;
            if leads == 0 || !draining || Instant::now() >= until {
                break (nodes, leads);
            }
            tokio::time::sleep(LOOK).await;
        };
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

/// The nodes that are meant, and how many shards they lead by their own word.
async fn look(client: &Client, whom: &Drain) -> anyhow::Result<(Vec<String>, usize)> {
    let reports = client.status_all(LIMIT).await.context("no node answers")?;
    Ok(count(&reports, whom))
}

fn count(reports: &[NodeReport], whom: &Drain) -> (Vec<String>, usize) {
    let (mut nodes, mut leads) = (Vec::new(), 0);
    for report in reports {
        let Some(listed) = &report.listed else {
            continue;
        };
        let meant = match whom {
            Drain::Dc(dc) => listed.dc == *dc,
            Drain::Node(node) => {
                let id = listed.node_id.to_string();
                listed.name == *node || *node == id || *node == format!("n{id}")
            }
        };
        if !meant {
            continue;
        }
        nodes.push(printable(&listed.name));
        let own = report.status.iter().flat_map(|status| &status.replicas);
        leads += own.filter(|replica| replica.state == "leader").count();
    }
    (nodes, leads)
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
    fn only_what_the_drained_nodes_lead_counts_and_a_node_has_three_names() {
        let reports = [
            report(1, "seoul", &["leader", "follower"]),
            report(2, "seoul", &["leader"]),
            report(3, "busan", &["leader"]),
        ];
        let (nodes, leads) = count(&reports, &Drain::Dc("seoul".into()));
        assert_eq!((nodes.len(), leads), (2, 2));
        for name in ["busan-3", "n3", "3"] {
            let found = count(&reports, &Drain::Node(name.into()));
            assert_eq!(found, (vec!["busan-3".to_owned()], 1), "{name}");
        }
    }
}
