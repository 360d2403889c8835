//! The proof: reads everything back and compares it with the ledger, and the replicas with each
//! other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use client::{Client, Level, ListOptions};
use firebreak::cluster::view::{self, ReplicaHashes};
use firebreak::cluster::{Cluster, Node};
use futures::{StreamExt as _, TryStreamExt as _};
use proto::v1;

use super::import::{Run, TailRead, lock};
use super::script::content;
use super::timed::{Op, Timed, violation};
use firebreak::ledger::{Faults, Found, Sent, judge};

/// How long one page may take to come; the cluster is at rest.
const READ_LIMIT: Duration = Duration::from_secs(30);
/// Conversations read at once.
const READERS: usize = 16;

/// A client that knows this node only.
///
/// # Errors
/// When its address is none.
pub fn only(node: &Node, deadline: Duration) -> anyhow::Result<Client> {
    let builder = Client::builder()
        .endpoints([node.address.clone()])
        .discover(false);
    Ok(builder.deadline(deadline).build()?)
}

/// Reads every conversation at LINEARIZABLE through each of two groups of nodes and judges both
/// readings against the ledger. `read` is called after each conversation.
///
/// # Errors
/// When a conversation cannot be read.
pub async fn read_back(
    run: &Arc<Run>,
    groups: &[Vec<Client>],
    read: impl Fn(),
) -> anyhow::Result<(Faults, Vec<Vec<Found>>)> {
    let read = &read;
    let judged: Vec<(Faults, Vec<Found>)> = futures::stream::iter(0..run.script.chats.len())
        .map(|index| async move {
            let name = run.script.chats[index].name.as_str();
            let mut worst = Faults::default();
            let mut found = Vec::new();
            for group in groups {
                found = read_one(&group[index % group.len()], name).await?;
                let faults = judge(name, &lock(&run.ledger[index]), &found);
                worst = worst.worse(faults);
            }
            read();
            anyhow::Ok((worst, found))
        })
        .buffered(READERS)
        .try_collect()
        .await?;
    let mut sum = Faults::default();
    let mut all = Vec::with_capacity(judged.len());
    for (faults, found) in judged {
        sum.add(faults);
        all.push(found);
    }
    Ok((sum, all))
}

async fn read_one(client: &Client, name: &str) -> anyhow::Result<Vec<Found>> {
    let messages = read_all(&client.with_deadline(READ_LIMIT), name).await?;
    Ok(messages.into_iter().map(found).collect())
}

/// All messages of a conversation; none when there is no such one, for then everything acknowledged
/// in it is lost, which is the ledger's to say.
///
/// # Errors
/// When it cannot be read.
pub async fn read_all(client: &Client, name: &str) -> anyhow::Result<Vec<v1::Message>> {
    let options = ListOptions {
        page_size: 1_000,
        level: Level::Linearizable,
        ..ListOptions::default()
    };
    match client.pages(name, options).collect().await {
        Ok(messages) => Ok(messages),
        Err(e) if e.is_not_found() => Ok(Vec::new()),
        Err(e) => Err(e).with_context(|| format!("cannot read {name} back")),
    }
}

fn found(message: v1::Message) -> Found {
    let original_time_ms = message
        .original_time
        .as_ref()
        .map(|t| t.seconds * 1_000 + i64::from(t.nanos) / 1_000_000);
    Found {
        seq: message.seq,
        content: content(&message.r#type, &message.body, original_time_ms),
        id: message.client_message_id,
        sender: message.sender,
    }
}

/// Judges L over one conversation: real time, and that what a timed read saw is what is there.
///
/// # Errors
/// The violation, for people.
pub fn linearizable(
    name: &str,
    sent: &[Sent],
    found: &[Found],
    reads: &[&TailRead],
) -> Result<(), String> {
    let seq_of: BTreeMap<&str, u64> = found.iter().map(|f| (f.id.as_str(), f.seq)).collect();
    let mut history: Vec<Timed> = reads.iter().map(|read| read.timed).collect();
    for one in sent {
        let known = one
            .ack
            .map(|a| a.seq)
            .or_else(|| seq_of.get(one.id.as_str()).copied());
        let Some(seq) = known else { continue };
        let answered_us = one.ack.map_or(u64::MAX, |a| a.at_us);
        history.push(Timed {
            op: Op::Append(seq),
            invoked_us: one.sent_us,
            answered_us,
        });
    }
    if let Some((before, after)) = violation(&history) {
        return Err(format!(
            "{name}: {before:?} was over before {after:?} began"
        ));
    }
    for read in reads {
        let Op::Read(head) = read.timed.op else {
            continue;
        };
        let mut expected = head;
        for (seq, id) in &read.seen {
            if *seq != expected || seq_of.get(id.as_str()) != Some(seq) {
                return Err(format!(
                    "{name}: a read with head {head} saw {id} at seq {seq}"
                ));
            }
            expected = expected.saturating_sub(1);
        }
        if head > 0 && read.seen.is_empty() {
            return Err(format!("{name}: a read with head {head} saw nothing"));
        }
    }
    Ok(())
}

/// What all replicas hold on their disks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// What differs between replicas of a shard, or cannot be read; empty when all are equal.
    pub differences: Vec<String>,
    /// Replicas with a hole in the numbers of a conversation.
    pub holes: usize,
}

/// Has every replica of every data shard read back from disk, and compares those of each.
pub async fn compare_replicas(cluster: &Cluster, compared: impl Fn()) -> Comparison {
    let statuses = cluster.statuses().await;
    let mut differences = Vec::new();
    let mut holes = 0;
    for (shard, replicas) in view::shard_replicas(&statuses) {
        if shard == 0 {
            continue;
        }
        let mut first: Option<(u64, ReplicaHashes)> = None;
        for id in replicas {
            let hashes = match hash(cluster, &statuses, shard, id).await {
                Ok(hashes) => hashes,
                Err(why) => {
                    differences.push(format!("s{shard} on n{id} cannot be read back: {why}"));
                    continue;
                }
            };
            differences.extend(alone(shard, id, &hashes));
            holes += usize::from(hashes.conversations.values().any(has_hole));
            match &first {
                None => first = Some((id, hashes)),
                Some((other, expected)) => {
                    differences.extend(differ(shard, *other, expected, id, &hashes));
                }
            }
        }
        compared();
    }
    if statuses.is_empty() {
        differences.push("no node answers".to_owned());
    }
    Comparison { differences, holes }
}

/// Numbers are dense, so there are as many messages as the first that has not expired and the last say.
fn has_hole(conversation: &v1::ConversationHash) -> bool {
    let expired = conversation.min_seq.saturating_sub(1);
    conversation.messages + expired != conversation.last_seq
}

async fn hash(
    cluster: &Cluster,
    statuses: &[v1::GetStatusResponse],
    shard: u32,
    id: u64,
) -> Result<ReplicaHashes, String> {
    let status = statuses.iter().find(|s| s.node_id == id);
    let node = status.and_then(|s| cluster.nodes().iter().find(|n| n.name == s.node_name));
    let channel = node.ok_or("the node does not answer")?.channel();
    view::hash_replica(channel, shard)
        .await
        .map_err(|e| e.message().to_owned())
}

/// What is wrong with a replica whatever the others hold: holes, or a disk that says something
/// else than the commands did.
fn alone(shard: u32, id: u64, hashes: &ReplicaHashes) -> Option<String> {
    let wrong = hashes
        .conversations
        .values()
        .find(|c| has_hole(c) || c.running_hash != c.disk_hash)?;
    Some(format!(
        "s{shard} on n{id}: {} has {} messages up to seq {}, hash on disk {}",
        wrong.name,
        wrong.messages,
        wrong.last_seq,
        if wrong.running_hash == wrong.disk_hash {
            "as kept"
        } else {
            "differs from the one kept"
        }
    ))
}

fn differ(
    shard: u32,
    one: u64,
    expected: &ReplicaHashes,
    other: u64,
    found: &ReplicaHashes,
) -> Option<String> {
    // Positions may differ: a leader that came in between adds an entry that changes nothing.
    if expected.conversations == found.conversations && expected.revision == found.revision {
        return None;
    }
    let names = expected
        .conversations
        .keys()
        .chain(found.conversations.keys());
    let name = names
        .into_iter()
        .find(|n| expected.conversations.get(*n) != found.conversations.get(*n));
    Some(match name {
        Some(name) => format!("s{shard}: {name} differs between n{one} and n{other}"),
        None => format!(
            "s{shard}: n{one} is at revision {}, n{other} at {}",
            expected.revision, found.revision
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebreak::ledger::Ack;

    fn hashes(messages: u64, disk: &'static [u8]) -> ReplicaHashes {
        let one = v1::ConversationHash {
            min_seq: 1,
            name: "c".into(),
            last_seq: 2,
            messages,
            running_hash: "x".into(),
            disk_hash: disk.into(),
        };
        ReplicaHashes {
            applied_index: 7,
            revision: 3,
            conversations: BTreeMap::from([("c".to_owned(), one)]),
        }
    }

    #[test]
    fn a_replica_with_a_hole_or_another_hash_on_disk_is_wrong_by_itself() {
        assert_eq!(alone(1, 1, &hashes(2, b"x")), None);
        assert!(
            alone(1, 1, &hashes(1, b"x"))
                .unwrap()
                .contains("1 messages up to seq 2")
        );
        assert!(alone(1, 1, &hashes(2, b"y")).unwrap().contains("differs"));
    }

    #[test]
    fn replicas_differ_by_a_conversation_or_by_their_revision() {
        let one = hashes(2, b"x");
        assert_eq!(differ(1, 1, &one, 2, &one), None);
        assert!(
            differ(1, 1, &one, 2, &hashes(2, b"y"))
                .unwrap()
                .contains("c differs")
        );
        assert!(
            differ(1, 1, &one, 2, &ReplicaHashes::default())
                .unwrap()
                .contains("c differs")
        );
        let ahead = ReplicaHashes {
            revision: 4,
            ..one.clone()
        };
        assert!(
            differ(1, 1, &one, 2, &ahead)
                .unwrap()
                .contains("revision 3")
        );
        let moved = ReplicaHashes {
            applied_index: 8,
            ..one.clone()
        };
        assert_eq!(differ(1, 1, &one, 2, &moved), None);
    }

    fn history() -> (Vec<Sent>, Vec<Found>) {
        let sent = |n: u64| Sent {
            id: format!("m{n}"),
            sender: "s".into(),
            content: 0,
            sent_us: 10 * n,
            ack: Some(Ack {
                seq: n,
                at_us: 10 * n + 5,
            }),
        };
        let found = |n: u64| Found {
            seq: n,
            id: format!("m{n}"),
            sender: "s".into(),
            content: 0,
        };
        ((1..=2).map(sent).collect(), (1..=2).map(found).collect())
    }

    fn read(head: u64, invoked_us: u64, seen: &[(u64, &str)]) -> TailRead {
        TailRead {
            chat: 0,
            timed: Timed {
                op: Op::Read(head),
                invoked_us,
                answered_us: invoked_us + 1,
            },
            seen: seen
                .iter()
                .map(|(seq, id)| (*seq, (*id).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn a_timed_read_must_fit_real_time_and_show_what_is_there() {
        let (sent, found) = history();
        let check = |read: TailRead, fits: bool| {
            let judged = linearizable("c", &sent, &found, &[&read]);
            assert_eq!(judged.is_ok(), fits, "{judged:?}");
        };
        check(read(2, 30, &[(2, "m2"), (1, "m1")]), true);
        check(read(1, 17, &[(1, "m1")]), true);
        check(read(0, 5, &[]), true);
        check(read(1, 30, &[(1, "m1")]), false);
        check(read(2, 30, &[(2, "m1"), (1, "m2")]), false);
        check(read(2, 30, &[(1, "m1")]), false);
        check(read(2, 30, &[]), false);
    }
}
