//! `firebreak node list|add|remove`: who is in the cluster.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use client::v1::{RelocateNodeRequest, RemoveNodeRequest};
use server::drill::verb::Verb;
use tokio::time::{Instant, sleep};

use super::map::Map;
use super::rehearsed::{Go, Rehearsed};
use super::target::{
    ProgressOutput, Target, Waits, new_table, printable, verb_failed, wait_seconds,
};

const REMOVE_EXAMPLES: &str = "\
Examples:
  firebreak node remove busan-2              its replicas move to others, then it is removed;
                                             says of each what it waits for
  firebreak node remove busan-2 --no-wait
  firebreak node remove busan-2 --rehearse   what would happen, by the simulator; --yes does it then
  firebreak node remove busan-2 --cancel     it stays after all

The node may be dead. Its number is never used again, nor is its disk: to come back it joins as a new node.
Exit codes: 0 removed (or asked for), 1 refused or not yet done, 2 wrong arguments or an unknown name.";

/// How long to look for a node that answers.
const DEADLINE: Duration = Duration::from_secs(5);
/// Between two looks at what is left to do.
const MEMBERS_CHECK_EVERY: Duration = Duration::from_secs(1);

/// Show the nodes.
#[derive(clap::Args, Debug)]
pub struct List {
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// Show how a node is added.
#[derive(clap::Args, Debug)]
pub struct Add {
    /// Print the commands as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// Have a node give up all it holds, and remove it.
#[derive(clap::Args, Debug)]
#[command(after_help = REMOVE_EXAMPLES)]
pub struct Remove {
    /// Its name, or its number as n3.
    node: String,
    /// Do not wait until it is removed.
    #[arg(long)]
    no_wait: bool,
    /// Give up waiting after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = wait_seconds())]
    timeout: u64,
    /// Take it back.
    #[arg(long, conflicts_with_all = ["no_wait", "rehearse"])]
    cancel: bool,
    #[command(flatten)]
    rehearsed: Rehearsed,
    /// Print what became of it as JSON, and what it waits for on standard error
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

const RELOCATE_EXAMPLES: &str = "\
Examples:
  firebreak node relocate busan-2 --region kr --dc seoul      then set locality.dc in its node.toml

What burns together decides where replicas stand, so a node's data center changes by this word alone: a node
whose configuration says another one does not start. Replicas that must not share a data center move apart.
Exit codes: 0 done, 1 refused, 2 wrong arguments or an unknown name.";

/// Say that a node stands in another data center.
#[derive(clap::Args, Debug)]
#[command(after_help = RELOCATE_EXAMPLES)]
pub struct Relocate {
    /// Its name, or its number as n3.
    node: String,
    /// The region of that data center
    #[arg(long)]
    region: String,
    /// The data center: what burns together
    #[arg(long)]
    dc: String,
    /// Print what became of it as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Relocate {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.target.client(DEADLINE).await?;
        let status = client.status().await;
        let status = status.map_err(|error| anyhow!(error).context(self.target.asked()))?;
        let node = super::map::node_in(&status, &self.node)?;
        let name = printable(&node.name);
        let request = RelocateNodeRequest {
            node_id: node.node_id,
            region: self.region.clone(),
            dc: self.dc.clone(),
        };
        let refused = |error| {
            let refused = format!("{name} cannot be relocated");
            verb_failed(error, refused, "firebreak node list")
        };
        client.relocate_node(request).await.map_err(refused)?;
        let stands = format!(
            "{name} stands in region={},dc={} now. Set that in its configuration before it starts again: \
             with another it does not start.",
            self.region, self.dc
        );
        let document = serde_json::json!({
            "node": name,
            "node_id": node.node_id,
            "region": self.region,
            "dc": self.dc,
        });
        ProgressOutput::new(self.json).end(&stands, &document, ExitCode::SUCCESS)
    }
}

impl List {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.target.client(DEADLINE).await?;
        let map = Map::ask(&client, &self.target).await?;
        let status = map.newest();
        if self.json {
            let node = |node: &client::v1::NodeStatus| {
                serde_json::json!({
                    "node_id": node.node_id,
                    "name": node.name,
                    "region": node.region,
                    "dc": node.dc,
                    "rack": node.rack,
                    "address": node.address,
                    "reachable": node.reachable,
                    "gone_ms": node.gone_ms,
                    "leaving": node.leaving,
                    "draining": node.draining,
                    "replicas": map.held(node.node_id),
                })
            };
            let nodes: Vec<_> = status.nodes.iter().map(node).collect();
            println!("{}", serde_json::to_string_pretty(&nodes)?);
            return Ok(ExitCode::SUCCESS);
        }
        let mut table = new_table(&[
            "node", "", "region", "dc", "rack", "address", "state", "replicas",
        ]);
        for node in &status.nodes {
            let up = match node.reachable {
                true => "up".to_owned(),
                false => format!("gone for {} s", node.gone_ms / 1_000),
            };
            let state = match (node.leaving, node.draining) {
                (true, _) => format!("{up}, leaving"),
                (false, true) if node.reachable => format!("{up}, draining"),
                (false, _) => up,
            };
            table.add_row([
                printable(&node.name),
                format!("n{}", node.node_id),
                printable(&node.region),
                printable(&node.dc),
                printable(&node.rack),
                printable(&node.address),
                state,
                map.held(node.node_id).to_string(),
            ]);
        }
        println!("{table}");
        Ok(ExitCode::SUCCESS)
    }
}

impl Add {
    /// A node is added from its own machine: only there is its disk.
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let peers = self.target.target.join(" ");
        let join = format!("firebreak node join --config NODE.toml --token fb-… --peer {peers}");
        let serve = "firebreak serve --config NODE.toml";
        let text = format!(
            "A node is added from its own machine, with the token that `firebreak init` printed:\n\n\
             \x20 {join}\n\x20 {serve}\n\n\
             It gets replicas as nodes are lost or leave, or by `firebreak shard move`."
        );
        let commands = serde_json::json!({ "commands": [join, serve] });
        ProgressOutput::new(self.json).end(&text, &commands, ExitCode::SUCCESS)
    }
}

impl Remove {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.target.client(DEADLINE).await?;
        let map = Map::ask(&client, &self.target).await?;
        let node = map.node(&self.node)?;
        let (node_id, name) = (node.node_id, printable(&node.name));
        let verb = || Verb::Remove {
            node: node.name.clone(),
        };
        if let Go::Stop(code) = self.rehearsed.first(verb, &self.target, self.json).await? {
            return Ok(code);
        }
        let request = RemoveNodeRequest {
            node_id,
            stays: self.cancel,
        };
        let refused = |error| {
            let refused = match self.cancel {
                false => format!("{name} cannot be removed"),
                true => format!("{name} cannot be taken back"),
            };
            verb_failed(error, refused, "firebreak node list")
        };
        client.remove_node(request).await.map_err(refused)?;
        let told = ProgressOutput::new(self.json);
        let outcome = |outcome: &str| serde_json::json!({ "node": name, "node_id": node_id, "outcome": outcome });
        if self.cancel {
            let stays = format!("{name} stays.");
            return told.end(&stays, &outcome("stays"), ExitCode::SUCCESS);
        }
        if self.no_wait {
            let leaving = format!(
                "{name} gives up what it holds; `firebreak node list` shows when it is gone."
            );
            return told.end(&leaving, &outcome("leaving"), ExitCode::SUCCESS);
        }
        let begun = Instant::now();
        let mut waits = Waits::default();
        loop {
            let map = Map::ask(&client, &self.target).await?;
            let status = map.newest();
            if status.nodes.iter().all(|one| one.node_id != node_id) {
                let removed = format!("{name} is removed.");
                return told.end(&removed, &outcome("removed"), ExitCode::SUCCESS);
            }
            let left = match map.held(node_id) {
                1 => format!("{name} still holds 1 replica"),
                held => format!("{name} still holds {held} replicas"),
            };
            for line in waits.news(left, map.waits(node_id, None)) {
                told.say(&line);
            }
            if begun.elapsed() > Duration::from_secs(self.timeout) {
                let why = format!(
                    "{name} is not removed yet, and goes on leaving; `firebreak node list` and \
                     `firebreak shard list` show how far it is"
                );
                return told.fail(why, &outcome("leaving"));
            }
            sleep(MEMBERS_CHECK_EVERY).await;
        }
    }
}
