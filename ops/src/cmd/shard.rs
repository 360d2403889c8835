//! `firebreak shard list|move`: where the shards are.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use client::Client;
use client::v1::{GetStatusResponse, MoveReplicaRequest, ReplicaMove, ShardStatus};
use model::id::ShardId;
use server::drill::verb::Verb;
use tokio::time::{Instant, sleep};

use super::map::Map;
use super::rehearsed::{Go, Rehearsed};
use super::target::{
    ProgressOutput, Target, Waits, new_table, printable, verb_failed, wait_seconds,
};
use crate::exit::Usage;

const MOVE_EXAMPLES: &str = "\
Examples:
  firebreak shard move 3 --from busan-1 --to busan-2
  firebreak shard move 3 --from n4 --to n5 --no-wait
  firebreak shard move 3 --from n4 --to n5 --cancel
  firebreak shard move 3 --from n4 --to n5 --rehearse   what would happen, by the simulator; --yes does it then

A move is taken back with --cancel for as long as the shard's voters do not change, which is its last
step; a replica that has arrived is moved back by a move of its own.

Exit codes: 0 moved (or on its way, or taken back as asked), 1 refused, taken back or not yet done,
2 wrong arguments or an unknown name.";

/// How long to look for a node that answers.
const DEADLINE: Duration = Duration::from_secs(5);
/// Between two looks whether a replica has arrived.
const REPLICA_CHECK_EVERY: Duration = Duration::from_millis(500);

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
    #[arg(value_parser = number)]
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
    /// Take this move back.
    #[arg(long, conflicts_with_all = ["no_wait", "rehearse"])]
    cancel: bool,
    #[command(flatten)]
    rehearsed: Rehearsed,
    /// Give up waiting after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = wait_seconds())]
    timeout: u64,
    /// Print what became of it as JSON, and what it waits for on standard error
    #[arg(long)]
    json: bool,
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
        let client = self.target.client(DEADLINE).await?;
        let map = Map::ask(&client, &self.target).await?;
        let status = map.newest();
        let leaders = map.leaders();
        let leader = |shard: u32| {
            let leader = leaders.get(&ShardId(shard));
            leader.map(|leader| map.name(*leader))
        };
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
                    "leader": leader(shard.shard),
                    "degraded_dc": shard.degraded_dc,
                    "compared_ms": map.compared_ms(shard.shard),
                    "unrestored": notes(shard.shard),
                })
            };
            let shards: Vec<_> = status.shards.iter().map(shard).collect();
            println!("{}", serde_json::to_string_pretty(&shards)?);
            return Ok(ExitCode::SUCCESS);
        }
        let mut table = new_table(&[
            "shard",
            "slots",
            "replicas",
            "leader",
            "compared",
            "not restored",
        ]);
        for shard in &status.shards {
            let (name, slots) = match shard.shard {
                0 => ("meta".to_owned(), String::new()),
                id => (
                    id.to_string(),
                    format!("{}–{}", shard.slot_first, shard.slot_last),
                ),
            };
            let leader = leader(shard.shard).unwrap_or_else(|| "none".to_owned());
            let (replicas, notes) = (names(shard).join(", "), notes(shard.shard).join("; "));
            let compared = map.compared_ms(shard.shard).map_or_else(String::new, utc);
            table.add_row([name, slots, replicas, leader, compared, notes]);
        }
        println!("{table}");
        Ok(ExitCode::SUCCESS)
    }
}

impl Move {
    async fn run(self) -> anyhow::Result<ExitCode> {
        if self.shard == 0 {
            return Err(anyhow!(Usage(
                "the meta shard's replicas move by themselves; data shards are 1 and up".into()
            )));
        }
        let client = self.target.client(DEADLINE).await?;
        let map = Map::ask(&client, &self.target).await?;
        let (from, to) = (map.node(&self.from)?.node_id, map.node(&self.to)?.node_id);
        if from == to {
            let what = "--from and --to are the same node: a replica moves to another one";
            return Err(anyhow!(Usage(what.into())));
        }
        map.shard(self.shard)?;
        let request = MoveReplicaRequest {
            shard: self.shard,
            from,
            to,
            back: self.cancel,
        };
        let (from_name, to_name) = (map.name(from), map.name(to));
        let told = ProgressOutput::new(self.json);
        let outcome = |outcome: &str| {
            serde_json::json!({
                "shard": self.shard, "from": from_name, "to": to_name, "outcome": outcome,
            })
        };
        if self.cancel {
            let (said, word) = self.take_back(&client, &map, request).await?;
            return told.end(&said, &outcome(word), ExitCode::SUCCESS);
        }
        if stands(map.newest(), &request, 0) == Stands::Arrived {
            let there = format!(
                "shard {} has its replica on {to_name} and none on {from_name}.",
                self.shard
            );
            return told.end(&there, &outcome("was-there"), ExitCode::SUCCESS);
        }
        let verb = || Verb::Move {
            shard: self.shard,
            from: from_name.clone(),
            to: to_name.clone(),
        };
        if let Go::Stop(code) = self.rehearsed.first(verb, &self.target, self.json).await? {
            return Ok(code);
        }
        let refused = |error| {
            let refused = format!("shard {} cannot be moved", self.shard);
            verb_failed(error, refused, "firebreak shard list")
        };
        let epoch = client.move_replica(request).await.map_err(refused)?;
        let what = format!("the replica of shard {} on {from_name}", self.shard);
        if self.no_wait {
            let way = format!("{what} is on its way to {to_name}.");
            return told.end(&way, &outcome("on-its-way"), ExitCode::SUCCESS);
        }
        let begun = Instant::now();
        let mut waits = Waits::default();
        loop {
            let map = Map::ask(&client, &self.target).await?;
            match stands(map.newest(), &request, epoch) {
                Stands::Arrived => {
                    let moved = format!("{what} has moved to {to_name}.");
                    return told.end(&moved, &outcome("moved"), ExitCode::SUCCESS);
                }
                Stands::TakenBack => {
                    let why = format!(
                        "{what} does not move any more: {to_name} was lost or is leaving, and the \
                         move was taken back"
                    );
                    return told.fail(why, &outcome("taken-back"));
                }
                Stands::OnItsWay => {}
            }
            let left = format!("{what} is on its way to {to_name}");
            for line in waits.news(left, map.waits(from, Some(self.shard))) {
                told.say(&line);
            }
            if begun.elapsed() > Duration::from_secs(self.timeout) {
                let why = format!(
                    "{what} has not arrived on {to_name} yet, and goes on; `firebreak shard list` \
                     shows how far it is"
                );
                return told.fail(why, &outcome("on-its-way"));
            }
            sleep(REPLICA_CHECK_EVERY).await;
        }
    }
}

impl Move {
    /// Takes the move back; one that there is not needs nothing, unless it has arrived.
    async fn take_back(
        &self,
        client: &Client,
        map: &Map,
        request: MoveReplicaRequest,
    ) -> anyhow::Result<(String, &'static str)> {
        let (from, to) = (map.name(request.from), map.name(request.to));
        let what = format!("the replica of shard {} on {from}", self.shard);
        match stands(map.newest(), &request, 0) {
            Stands::Arrived => {
                return Err(anyhow!(
                    "{what} has moved to {to} already; `firebreak shard move {} --from {to} --to \
                     {from}` moves it back",
                    self.shard
                ));
            }
            Stands::TakenBack => {
                return Ok((format!("{what} is not on its way to {to}."), "was-not"));
            }
            Stands::OnItsWay => {}
        }
        let refused = |error| {
            let refused = format!("the move of shard {} cannot be taken back", self.shard);
            verb_failed(error, refused, "firebreak shard list")
        };
        client.move_replica(request).await.map_err(refused)?;
        let said = format!("{what} stays: its move to {to} is taken back.");
        Ok((said, "taken-back"))
    }
}

/// A moment for people, to the second.
fn utc(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1_000).unwrap_or(i64::MAX);
    prost_types::Timestamp { seconds, nanos: 0 }.to_string()
}

/// A shard's number, as people give it.
fn number(text: &str) -> Result<u32, String> {
    match text {
        "meta" => Ok(0),
        text => text.strip_prefix('s').unwrap_or(text).parse().map_err(|_| {
            "a shard is named by its number, as `firebreak shard list` shows it".to_owned()
        }),
    }
}

/// How far a move is.
#[derive(Debug, PartialEq, Eq)]
enum Stands {
    Arrived,
    OnItsWay,
    /// Its new node was lost before it had the replica.
    TakenBack,
}

/// How far a move is that was begun at `epoch` at the latest.
fn stands(status: &GetStatusResponse, asked: &MoveReplicaRequest, epoch: u64) -> Stands {
    let shard = status.shards.iter().find(|one| one.shard == asked.shard);
    let replicas = shard.map(|shard| &shard.replicas[..]).unwrap_or_default();
    if replicas.contains(&asked.to) && !replicas.contains(&asked.from) {
        return Stands::Arrived;
    }
    let this =
        |one: &ReplicaMove| (one.shard, one.from, one.to) == (asked.shard, asked.from, asked.to);
    // A map from before the move does not have it yet.
    match status.map_epoch < epoch || status.moves.iter().any(this) {
        true => Stands::OnItsWay,
        false => Stands::TakenBack,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_has_arrived_or_is_on_its_way_or_was_taken_back() {
        let asked = MoveReplicaRequest {
            shard: 3,
            from: 1,
            to: 4,
            back: false,
        };
        let check = |map_epoch, replicas: &[u64], moves: &[(u64, u64)], expect| {
            let status = GetStatusResponse {
                map_epoch,
                shards: vec![ShardStatus {
                    shard: 3,
                    replicas: replicas.to_vec(),
                    ..ShardStatus::default()
                }],
                moves: moves
                    .iter()
                    .map(|(from, to)| ReplicaMove {
                        shard: 3,
                        from: *from,
                        to: *to,
                        ..ReplicaMove::default()
                    })
                    .collect(),
                ..GetStatusResponse::default()
            };
            let found = stands(&status, &asked, 7);
            assert_eq!(found, expect, "{map_epoch} {replicas:?} {moves:?}");
        };
        check(6, &[1, 2, 3], &[], Stands::OnItsWay);
        check(7, &[1, 2, 3], &[(1, 4)], Stands::OnItsWay);
        check(8, &[4, 2, 3], &[], Stands::Arrived);
        check(8, &[1, 2, 3], &[], Stands::TakenBack);
        check(9, &[1, 2, 3], &[(1, 5)], Stands::TakenBack);
    }
}
