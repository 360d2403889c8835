//! `firebreak whatif --lose …`: what would be left, asked before the fire.

use std::collections::BTreeSet;
use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use comfy_table::{Cell, CellAlignment};
use model::placement::{NodeAfter, Report, ShardAfter, whatif};

use super::map::Map;
use super::target::{Target, new_table};

const EXAMPLES: &str = "\
Examples:
  firebreak whatif --lose dc=seoul
  firebreak whatif --lose node=busan-1 --lose node=n7 --json

Nothing is changed. Exit codes: 0 all would still be served and could be repaired, 1 it would not, or no node
answers, 2 wrong arguments or unknown names.";

/// How long to look for a node that answers.
const DEADLINE: Duration = Duration::from_secs(3);

/// Show what would be left if data centers or nodes were lost.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What is lost; may be given several times
    #[arg(long, value_name = "dc=NAME|node=NAME", required = true, value_parser = lost)]
    lose: Vec<Lost>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// What is lost, as the command line has it.
#[derive(Clone, Debug)]
enum Lost {
    Dc(String),
    Node(String),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lost::Dc(name) => write!(f, "dc={name}"),
            Lost::Node(name) => write!(f, "node={name}"),
        }
    }
}

fn lost(text: &str) -> Result<Lost, String> {
    match text.split_once('=') {
        Some(("dc", name)) if !name.is_empty() => Ok(Lost::Dc(name.to_owned())),
        Some(("node", name)) if !name.is_empty() => Ok(Lost::Node(name.to_owned())),
        Some(_) | None => Err("say dc=NAME or node=NAME".to_owned()),
    }
}

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// Wrong arguments, or no node answers.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.target.client(DEADLINE).await?;
        let map = Map::ask(&client, &self.target).await?;
        let mut lost = BTreeSet::new();
        for one in &self.lose {
            match one {
                Lost::Dc(name) => lost.extend(map.dc(name)?),
                Lost::Node(name) => drop(lost.insert(map.node(name)?.node_id)),
            }
        }
        // Who is dead already takes nothing over.
        let gone: Vec<u64> = map
            .gone()
            .into_iter()
            .filter(|id| !lost.contains(id))
            .collect();
        lost.extend(&gone);
        let report = whatif(&map.state(), &lost, &map.facts(), &map.leaders());
        let gone: Vec<String> = gone.iter().map(|id| map.name(*id)).collect();
        let names: Vec<String> = self.lose.iter().map(ToString::to_string).collect();
        let mut what = names.join(" and ");
        if !gone.is_empty() {
            what = format!("{what}, and {} that do not answer now", gone.join(", "));
        }
        if self.json {
            println!("{}", serde_json::to_string_pretty(&json(&map, &report))?);
        } else {
            print(&map, &report, &what);
        }
        Ok(match report.is_bad() {
            true => ExitCode::FAILURE,
            false => ExitCode::SUCCESS,
        })
    }
}

fn json(map: &Map, report: &Report) -> serde_json::Value {
    let shard = |one: &ShardAfter| {
        serde_json::json!({
            "shard": one.shard.0,
            "replicas_left": one.left,
            "replicas": one.of,
            "quorum_lost": one.quorum_lost,
            "leader_lost": one.leader_lost,
            "degraded": one.degraded,
        })
    };
    let node = |one: &NodeAfter| {
        serde_json::json!({
            "node": map.name(one.node),
            "replicas": [one.replicas.0, one.replicas.1],
            "leaders": [one.leaders.0, one.leaders.1],
            "takes_bytes": one.takes_bytes,
            "disk_free_after_bytes": one.free_bytes,
            "appends_per_s": [one.appends_per_s.0, one.appends_per_s.1],
        })
    };
    serde_json::json!({
        "bad": report.is_bad(),
        "quorums_lost": report.quorums_lost,
        "leaders_lost": report.leaders_lost,
        "shards_in_all": map.newest().shards.len(),
        "unplaced_replicas": report.unplaced,
        "degraded_shards": report.degraded,
        "disks_short": report.disks_short,
        "shards": report.shards.iter().map(shard).collect::<Vec<_>>(),
        "nodes": report.nodes.iter().map(node).collect::<Vec<_>>(),
    })
}

fn print(map: &Map, report: &Report, what: &str) {
    let mut nodes = new_table(&[
        "what remains",
        "leaders",
        "replicas",
        "takes over",
        "disk free after",
        "appends/s (average)",
    ]);
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    for one in &report.nodes {
        let told = |bytes: Option<i64>| bytes.map_or_else(|| "?".to_owned(), gib);
        let takes = one
            .takes_bytes
            .map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
        let rate = format!("{:.0} → {:.0}", one.appends_per_s.0, one.appends_per_s.1);
        nodes.add_row([
            Cell::new(map.name(one.node)),
            right(format!("{} → {}", one.leaders.0, one.leaders.1)),
            right(format!("{} → {}", one.replicas.0, one.replicas.1)),
            right(told(takes)),
            right(told(one.free_bytes)),
            right(rate),
        ]);
    }
    println!("{nodes}");
    let name = |one: &ShardAfter| match one.shard.is_meta() {
        true => "meta".to_owned(),
        false => one.shard.0.to_string(),
    };
    let list = |bad: fn(&ShardAfter) -> bool| {
        let names = report.shards.iter().filter(|one| bad(one)).map(name);
        names.collect::<Vec<_>>().join(", ")
    };
    println!(
        "without {what}: {} of {} shards lose a replica, {} their leader (the meta shard counts as one)",
        report.shards.len(),
        map.newest().shards.len(),
        report.leaders_lost
    );
    if report.quorums_lost > 0 {
        println!("NOT SERVED, no quorum: {}", list(|one| one.quorum_lost));
    }
    if report.degraded > 0 {
        println!(
            "degraded until another data center comes (one would hold a majority): {}",
            list(|one| one.degraded && !one.quorum_lost)
        );
    }
    if report.unplaced > 0 {
        println!(
            "{} replicas find no node that can take them over",
            report.unplaced
        );
    }
    if report.disks_short > 0 {
        println!(
            "{} nodes have no room for what they would take over",
            report.disks_short
        );
    }
    if !report.is_bad() {
        println!("everything stays served, and can be repaired on what remains");
    }
}

/// `-1.5 GiB`.
#[allow(clippy::cast_precision_loss, reason = "a size for people")]
fn gib(bytes: i64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}
