//! `firebreak shard list|move`: where the shards are.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use client::v1::{MoveReplicaRequest, ShardStatus};
use tokio::time::{Instant, sleep};

use super::map::Map;
use super::target::{Target, new_table, printable};
use crate::exit::Usage;

const MOVE_EXAMPLES: &str = "\
Examples:
  firebreak shard move 3 --from busan-1 --to busan-2
  firebreak shard move 3 --from n4 --to n5 --no-wait

Exit codes: 0 moved (or on its way), 1 refused or not yet done, 2 wrong arguments.";

/// How long to look for a node that answers.
const DEADLINE: Duration = Duration::from_secs(5);
/// Between two looks whether a replica has arrived.
const LOOK: Duration = Duration::from_millis(500);

/// Show and move the replicas of shards.
#[derive(clap::Subcommand, Debug)]
pub enum Shard {
    /// Show the shards.
    List(List),
    /// Move a replica from one node to another.
    Move(Move),
}

/// Show the shards.
#[derive(clap::Args, Debug)]
pub struct List {
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// Move a replica from one node to another.
#[derive(clap::Args, Debug)]
#[command(after_help = MOVE_EXAMPLES)]
pub struct Move {
    /// The shard's number.
    shard: u32,
    /// The node that gives its replica up: its name, or its number as n3.
    #[arg(long, value_name = "NODE")]
    from: String,
    /// The node that gets it.
    #[arg(long, value_name = "NODE")]
    to: String,
    /// Do not wait until it has arrived.
    #[arg(long)]
    no_wait: bool,
    /// Give up waiting after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    #[command(flatten)]
    target: Target,
}

impl Shard {
    /// Runs the subcommand.
    ///
    /// # Errors
    /// As exit codes tell.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Shard::List(args) => args.run().await,
            Shard::Move(args) => args.run().await,
        }
    }
}

impl List {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.target.client(DEADLINE)?;
        let map = Map::ask(&client, &self.target).await?;
        let status = map.newest();
        let names = |shard: &ShardStatus| -> Vec<String> {
            shard.replicas.iter().map(|node| map.name(*node)).collect()
        };
        let notes = |shard: u32| -> Vec<String> {
            let told = status.unrestored.iter().filter(|one| one.shard == shard);
            told.map(|one| printable(&one.why)).collect()
        };
        if self.json {
            let shard = |shard: &ShardStatus| {
                serde_json::json!({
                    "shard": shard.shard,
                    "slot_first": shard.slot_first,
                    "slot_last": shard.slot_last,
                    "replicas": names(shard),
                    "leader": map.leader(shard.shard).map(|leader| map.name(leader)),
                    "degraded_dc": shard.degraded_dc,
                    "unrestored": notes(shard.shard),
                })
            };
            let shards: Vec<_> = status.shards.iter().map(shard).collect();
            println!("{}", serde_json::to_string_pretty(&shards)?);
            return Ok(ExitCode::SUCCESS);
        }
        let mut table = new_table(&["shard", "slots", "replicas", "leader", "not restored"]);
        for shard in &status.shards {
            let (name, slots) = match shard.shard {
                0 => ("meta".to_owned(), String::new()),
                id => (
                    id.to_string(),
                    format!("{}–{}", shard.slot_first, shard.slot_last),
                ),
            };
            let leader = map.leader(shard.shard);
            let leader = leader.map_or_else(|| "none".to_owned(), |leader| map.name(leader));
            let (replicas, notes) = (names(shard).join(", "), notes(shard.shard).join("; "));
            table.add_row([name, slots, replicas, leader, notes]);
        }
        println!("{table}");
        Ok(ExitCode::SUCCESS)
    }
}

impl Move {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.target.client(DEADLINE)?;
        let map = Map::ask(&client, &self.target).await?;
        let (from, to) = (map.node(&self.from)?.node_id, map.node(&self.to)?.node_id);
        let known = map.newest().shards.iter().any(|s| s.shard == self.shard);
        if !known || self.shard == 0 {
            let last = map.newest().shards.iter().map(|shard| shard.shard).max();
            return Err(anyhow!(Usage(format!(
                "there is no shard {} to move; there are 1 to {}",
                self.shard,
                last.unwrap_or(0)
            ))));
        }
        let request = MoveReplicaRequest {
            shard: self.shard,
            from,
            to,
        };
        let asked = client.move_replica(request).await;
        asked.with_context(|| format!("shard {} cannot be moved", self.shard))?;
        let (from_name, to_name) = (map.name(from), map.name(to));
        let what = format!("the replica of shard {} on {from_name}", self.shard);
        if self.no_wait {
            println!("{what} is on its way to {to_name}.");
            return Ok(ExitCode::SUCCESS);
        }
        let begun = Instant::now();
        loop {
            let map = Map::ask(&client, &self.target).await?;
            let shard = map.newest().shards.iter().find(|s| s.shard == self.shard);
            let replicas = shard.map(|shard| &shard.replicas[..]).unwrap_or_default();
            if replicas.contains(&to) && !replicas.contains(&from) {
                println!("{what} has moved to {to_name}.");
                return Ok(ExitCode::SUCCESS);
            }
            if begun.elapsed() > Duration::from_secs(self.timeout) {
                return Err(anyhow!(
                    "{what} has not arrived on {to_name} yet; `firebreak shard list` shows why"
                ));
            }
            sleep(LOOK).await;
        }
    }
}
