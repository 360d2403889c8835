//! `firebreak verify`: all replicas of all shards are read back from their disks and compared.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use client::v1::{ConversationHash, ProvePromise, change_drill_request::Change};
use client::{Client, ReplicaHash};
use futures::future::join_all;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::map::Map;
use super::target::{ProgressOutput, Target, printable};

/// How long to look for a node that answers.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often replicas are read again that were not at one position.
const TRIES: u32 = 3;
/// Between two of these.
const AGAIN: Duration = Duration::from_millis(500);
/// Conversations that are named at most.
const NAMED_MAX: usize = 20;
/// Exit code of replicas that differ: a promise of safety is broken.
const DIFFERENT: u8 = 3;

const EXAMPLES: &str = "\
Examples:
  firebreak verify
  firebreak verify --shard 3 --json

Each replica is read back from its disk, shard after shard, while the cluster serves. Two replicas are compared
in each conversation that both have to the same message; those that went on meanwhile are read again.
When every replica of every shard was compared, the proof of promise H is noted (`firebreak promises`).

Exit codes: 0 all are equal, 1 not all could be compared, 2 wrong arguments, 3 two replicas differ.";

/// Compare all replicas, read back from their disks.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Only this shard
    #[arg(long, value_name = "SHARD")]
    shard: Option<u32>,
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// What was found of one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// Which.
    shard: u32,
    /// Replicas that were read.
    replicas: usize,
    /// Conversations that all of them have alike.
    same: usize,
    /// Of conversations that went on while they were read.
    not_compared: Vec<String>,
    /// What differs, for people.
    different: Vec<String>,
    /// Replicas that could not be read, for people.
    unread: Vec<String>,
}

impl Args {
    /// Compares.
    ///
    /// # Errors
    /// When no node answers.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.target.client(DEADLINE).await?;
        let map = Map::ask(&client, &self.target).await?;
        if let Some(shard) = self.shard {
            map.shard(shard)?;
        }
        let shards = map.newest().shards.iter().map(|shard| shard.shard);
        let shards = shards.filter(|shard| self.shard.is_none_or(|only| only == *shard));
        let shards: Vec<u32> = shards.collect();
        let bar = self.progress(shards.len() as u64);
        let mut found = Vec::new();
        for shard in shards {
            bar.set_message(format!("shard {shard}"));
            found.push(look(&client, &map, shard).await);
            bar.inc(1);
        }
        bar.finish_and_clear();
        let sum = Sum::of(&found);
        let noted = match self.shard {
            None => sum.note(&client).await,
            Some(_) => Noted::No("one shard alone proves nothing of the others".to_owned()),
        };
        let told = ProgressOutput::new(self.json);
        for line in lines(&found) {
            told.say(&line);
        }
        let document = serde_json::json!({ "shards": found, "sum": sum, "noted": noted });
        let words = format!("{}; {}", sum.words(), noted.words());
        told.end(&words, &document, sum.code())
    }

    fn progress(&self, shards: u64) -> ProgressBar {
        if self.json {
            return ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        }
        let bar = ProgressBar::new(shards);
        let style = ProgressStyle::with_template(
            "comparing {bar:30} {pos}/{len} shards · {msg} · {elapsed}",
        );
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar
    }
}

/// Reads all replicas of a shard at once, until those that could be compared were.
async fn look(client: &Client, map: &Map, shard: u32) -> Compared {
    let mut best = Compared::default();
    for attempt in 0..TRIES {
        if attempt > 0 {
            tokio::time::sleep(AGAIN).await;
        }
        let found = read(client, map, shard).await;
        let whole = found.not_compared.is_empty() && found.unread.is_empty();
        // What differs once has differed.
        if whole || !found.different.is_empty() {
            return found;
        }
        let better = |one: &Compared| (one.unread.len(), one.not_compared.len());
        if attempt == 0 || better(&found) < better(&best) {
            best = found;
        }
    }
    best
}

async fn read(client: &Client, map: &Map, shard: u32) -> Compared {
    let newest = map.newest();
    let of = newest.shards.iter().filter(|one| one.shard == shard);
    let nodes = of.flat_map(|one| one.replicas.iter().copied());
    let reads = nodes.map(|id| async move {
        let node = newest.nodes.iter().find(|node| node.node_id == id);
        let name = map.name(id);
        let address = node.map_or("", |node| node.address.as_str());
        let read = client.hash_replica(address, shard).await;
        (name, read.map_err(|error| error.to_string()))
    });
    let (mut whole, mut unread) = (Vec::new(), Vec::new());
    for (name, read) in join_all(reads).await {
        match read {
            Ok(read) => whole.push((name, read)),
            Err(why) => unread.push(format!("{name}: {}", printable(&why))),
        }
    }
    Compared {
        unread,
        ..compare(shard, &whole)
    }
}

/// Compares replicas of a shard, conversation by conversation, where they have the same last message.
pub fn compare(shard: u32, replicas: &[(String, ReplicaHash)]) -> Compared {
    let mut found = Compared {
        shard,
        replicas: replicas.len(),
        ..Compared::default()
    };
    let mut all: BTreeMap<&str, Vec<(&str, &ConversationHash)>> = BTreeMap::new();
    for (node, replica) in replicas {
        for one in &replica.conversations {
            all.entry(&one.name).or_default().push((node, one));
        }
    }
    for (name, held) in all {
        let name = printable(name);
        let torn = held
            .iter()
            .filter(|(_, one)| one.running_hash != one.disk_hash);
        found.different.extend(torn.map(|(node, _)| {
            format!("shard {shard}, {name}: what {node} has on its disk is not what was written")
        }));
        let mut compared = held.len() == replicas.len();
        for pair in held.windows(2) {
            let [(a, one), (b, other)] = pair else {
                continue;
            };
            match one.last_seq == other.last_seq {
                false => compared = false,
                true if one.running_hash != other.running_hash
                    || one.messages != other.messages =>
                {
                    found.different.push(format!(
                        "shard {shard}, {name}: {a} and {b} differ at message {}",
                        one.last_seq
                    ));
                }
                true => {}
            }
        }
        match compared {
            true => found.same += 1,
            false => found.not_compared.push(name),
        }
    }
    found
}

/// All shards together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Sum {
    shards: usize,
    replicas: usize,
    conversations: usize,
    not_compared: usize,
    unread: usize,
    different: usize,
    /// The first thing that differs.
    first: Option<String>,
}

impl Sum {
    fn of(found: &[Compared]) -> Sum {
        let sum = |of: fn(&Compared) -> usize| found.iter().map(of).sum();
        Sum {
            shards: found.len(),
            replicas: sum(|one| one.replicas),
            conversations: sum(|one| one.same),
            not_compared: sum(|one| one.not_compared.len()),
            unread: sum(|one| one.unread.len()),
            different: sum(|one| one.different.len()),
            first: found.iter().find_map(|one| one.different.first().cloned()),
        }
    }

    fn whole(&self) -> bool {
        self.not_compared == 0 && self.unread == 0
    }

    fn code(&self) -> ExitCode {
        match (self.different, self.whole()) {
            (0, true) => ExitCode::SUCCESS,
            (0, false) => ExitCode::FAILURE,
            _ => ExitCode::from(DIFFERENT),
        }
    }

    fn words(&self) -> String {
        let head = match (self.different, self.whole()) {
            (0, true) => "all are equal",
            (0, false) => "no difference, and not all could be compared",
            _ => "REPLICAS DIFFER",
        };
        format!(
            "{head}: {} conversations on {} replicas of {} shards; {} went on meanwhile, {} replicas were not read",
            self.conversations, self.replicas, self.shards, self.not_compared, self.unread
        )
    }

    /// Notes the proof of promise H, or that it is broken.
    async fn note(&self, client: &Client) -> Noted {
        let held = self.different == 0;
        if held && !self.whole() {
            return Noted::No("not all could be compared".to_owned());
        }
        let evidence = match &self.first {
            Some(first) => first.clone(),
            None => self.words(),
        };
        let change = Change::Prove(ProvePromise {
            promise: "H".to_owned(),
            held: Some(held),
            by: "verify".to_owned(),
            evidence: evidence.chars().take(300).collect(),
            limit_ms: None,
        });
        match client.change_drill(change).await {
            Ok(_) => Noted::Yes,
            Err(error) => Noted::No(error.to_string()),
        }
    }
}

/// Whether the proof was noted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Noted {
    Yes,
    No(String),
}

impl Noted {
    fn words(&self) -> String {
        match self {
            Noted::Yes => "noted for promise H".to_owned(),
            Noted::No(why) => format!("not noted for promise H: {why}"),
        }
    }
}

/// What is not equal, not compared or not read.
fn lines(found: &[Compared]) -> Vec<String> {
    let mut lines = Vec::new();
    for one in found {
        let different = one.different.iter();
        lines.extend(different.take(NAMED_MAX).map(|what| format!("✗ {what}")));
        let shard = one.shard;
        let unread = one.unread.iter();
        lines.extend(unread.map(|why| format!("! shard {shard}: not read: {why}")));
        if !one.not_compared.is_empty() {
            let names = one.not_compared.iter().take(3);
            let names: Vec<&str> = names.map(String::as_str).collect();
            lines.push(format!(
                "! shard {shard}: {} conversations went on while they were read, {} for one",
                one.not_compared.len(),
                names.join(", ")
            ));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(name: &str, last_seq: u64, hash: &'static str) -> ConversationHash {
        ConversationHash {
            name: name.to_owned(),
            last_seq,
            messages: last_seq,
            running_hash: hash.into(),
            disk_hash: hash.into(),
            ..ConversationHash::default()
        }
    }

    fn replica(node: &str, conversations: Vec<ConversationHash>) -> (String, ReplicaHash) {
        let hash = ReplicaHash {
            conversations,
            ..ReplicaHash::default()
        };
        (node.to_owned(), hash)
    }

    #[test]
    fn replicas_are_compared_where_they_are_at_the_same_message() {
        let found = compare(
            3,
            &[
                replica("a", vec![held("x", 7, "h7"), held("y", 2, "h2")]),
                replica("b", vec![held("x", 7, "h7"), held("y", 3, "h3")]),
            ],
        );
        assert_eq!((found.same, found.different.len()), (1, 0));
        assert_eq!(found.not_compared, ["y"]);
        assert!(!Sum::of(&[found]).whole());
    }

    #[test]
    fn what_differs_at_the_same_message_is_named_and_breaks_a_promise() {
        let found = compare(
            3,
            &[
                replica("a", vec![held("x", 7, "h7")]),
                replica("b", vec![held("x", 7, "other")]),
            ],
        );
        assert_eq!(found.different, ["shard 3, x: a and b differ at message 7"]);
        let sum = Sum::of(&[found]);
        assert_eq!(sum.code(), ExitCode::from(DIFFERENT));
        assert!(sum.words().starts_with("REPLICAS DIFFER"));
    }

    #[test]
    fn a_disk_that_is_other_than_what_was_written_is_named() {
        let mut wrong = held("x", 7, "h7");
        wrong.disk_hash = "h8".into();
        let found = compare(1, &[replica("a", vec![wrong])]);
        assert!(found.different[0].contains("what a has on its disk"));
    }

    #[test]
    fn a_conversation_that_a_replica_lacks_was_not_compared() {
        let found = compare(
            1,
            &[
                replica("a", vec![held("x", 1, "h")]),
                replica("b", Vec::new()),
            ],
        );
        assert_eq!(found.not_compared, ["x"]);
        assert_eq!(found.same, 0);
    }
}
