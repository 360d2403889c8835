//! What is changed in a tenant reaches whoever follows it, whatever node dies meanwhile: nothing is missing,
//! nothing is made up, and a cursor is good on every node.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails where it cannot go on; the processes it starts and waits for run on the real clock"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use client::v1::change::What;
use client::{Client, Edit, Level, Message, v1};
use firebreak::cluster::Cluster;
use firebreak_tests::{LIMIT, binary, client, client_of, cluster};
use tokio::time::Instant;

const ROOMS: usize = 20;

fn room(n: usize) -> String {
    format!("tenants/acme/conversations/room-{n}")
}

/// What a follower has taken in.
#[derive(Default)]
struct Taken {
    ids: BTreeSet<String>,
    /// Revision and body of each message, as it was told last.
    messages: BTreeMap<(String, u64), (u64, Vec<u8>)>,
    settings: BTreeMap<String, BTreeMap<String, String>>,
    deleted: BTreeSet<String>,
    repeated: usize,
}

impl Taken {
    fn take(&mut self, change: v1::Change) {
        if !self.ids.insert(change.id) {
            self.repeated += 1;
            return;
        }
        match change.what.expect("every change is something") {
            What::Message(message) => {
                let at = (change.conversation, message.seq);
                let told = (change.revision, message.body.to_vec());
                let before = self.messages.insert(at, told);
                assert!(
                    before.is_none_or(|before| before.0 < change.revision),
                    "goes back"
                );
            }
            What::Settings(head) => {
                drop(self.settings.insert(change.conversation, head.attributes))
            }
            What::Deleted(_) => drop(self.deleted.insert(change.conversation)),
            What::Trimmed(_) => unreachable!("nothing expires here"),
        }
    }
}

/// Everything that there is, from a cursor on, asked through one client.
async fn drain(client: &Client, cursor: &str, taken: &mut Taken) -> String {
    let mut changes = client.changes("acme", cursor);
    loop {
        for change in changes.poll(&Level::Linearizable).await.unwrap() {
            taken.take(change);
        }
        if changes.caught_up() {
            return changes.cursor().to_owned();
        }
    }
}

/// What is in the rooms now, as reads show it.
async fn there(client: &Client) -> BTreeMap<(String, u64), (u64, Vec<u8>)> {
    let mut all = BTreeMap::new();
    for n in 0..ROOMS {
        let pages = client.pages(&room(n), client::ListOptions::default());
        let Ok(messages) = pages.collect().await else {
            continue;
        };
        for message in messages {
            all.insert(
                (room(n), message.seq),
                (message.revision, message.body.to_vec()),
            );
        }
    }
    all
}

async fn say(client: &Client, rounds: std::ops::Range<usize>) {
    for round in rounds {
        for n in 0..ROOMS {
            let (room, text) = (room(n), format!("{n} {round}"));
            let message = Message::text("ann", text).id(format!("m{round}"));
            let seq = client.append(&room, message).await.unwrap().seq;
            let edit = Edit::text(format!("edited {round}"));
            match (round + n) % 5 {
                0 => drop(client.edit(&room, seq.div_ceil(2), edit).await.unwrap()),
                1 => drop(
                    client
                        .react(&room, seq, ("ben", "x", false), "")
                        .await
                        .unwrap(),
                ),
                _ => {}
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_is_whole_while_a_node_dies_and_its_cursor_is_good_everywhere() {
    let (_place, mut cluster) = cluster(1).await;
    let writer = client(&cluster);
    say(&writer, 0..10).await;
    let mut taken = Taken::default();
    let early = drain(&client_of(&cluster, 0), "", &mut taken).await;
    assert_eq!(taken.messages, there(&writer).await);

    let follower = client(&cluster);
    let following = tokio::spawn(async move {
        let (mut changes, mut taken) = (follower.changes("acme", ""), Taken::default());
        let all = ROOMS * 60;
        let begun = Instant::now();
        while taken.messages.len() < all {
            assert!(
                begun.elapsed() < 2 * LIMIT,
                "{} of {all}",
                taken.messages.len()
            );
            for change in changes.next().await.unwrap() {
                taken.take(change);
            }
        }
        (taken, changes.cursor().to_owned())
    });
    say(&writer, 10..30).await;
    cluster.kill(&[0]).unwrap();
    say(&writer, 30..60).await;
    let (mut followed, cursor) = following.await.unwrap();
    drain(&writer, &cursor, &mut followed).await;
    let expected = there(&writer).await;
    assert_eq!(expected.len(), ROOMS * 60);
    assert_eq!(followed.messages, expected);
    // From the early cursor, through each node that is left, comes what came since.
    for node in 1..cluster.nodes().len() {
        let mut later = Taken::default();
        drain(&client_of(&cluster, node), &early, &mut later).await;
        assert_eq!(later.repeated, 0);
        let changed =
            |(at, told): (&(String, u64), &(u64, Vec<u8>))| taken.messages.get(at) != Some(told);
        let since = expected.iter().filter(|one| changed(*one));
        let since: BTreeMap<_, _> = since.map(|(at, told)| (at.clone(), told.clone())).collect();
        assert_eq!(later.messages, since, "through node {node}");
    }
}

/// A node is removed while all goes on: each of its replicas moves to another node.
#[tokio::test(flavor = "multi_thread")]
async fn a_feed_is_whole_while_replicas_move() {
    let (_place, cluster) = cluster(2).await;
    let gone = 5;
    let name = cluster.nodes()[gone].name.clone();
    let writer = client(&cluster);
    say(&writer, 0..5).await;
    // A follower of the very node that goes.
    let mut taken = Taken::default();
    let early = drain(&client_of(&cluster, gone), "", &mut taken).await;
    let target = cluster.nodes()[0].address.clone();
    let mut remove = Command::new(binary());
    remove.args(["node", "remove", &name, "--target", &target]);
    let removing = tokio::task::spawn_blocking(move || remove.output().unwrap());
    let mut round = 5;
    let mut cursor = early.clone();
    while !removing.is_finished() {
        say(&writer, round..round + 1).await;
        round += 1;
        cursor = drain(&writer, &cursor, &mut taken).await;
    }
    let removed = removing.await.unwrap();
    assert!(removed.status.success(), "{removed:?}");
    say(&writer, round..round + 1).await;
    let expected = there(&writer).await;
    drain(&client_of(&cluster, 4), &cursor, &mut taken).await;
    assert_eq!(taken.messages, expected);
    // What the node that is gone gave out is good on the one that has its replicas now.
    let mut later = Taken::default();
    drain(&client_of(&cluster, 4), &early, &mut later).await;
    for (at, told) in &later.messages {
        assert_eq!(expected.get(at), Some(told));
    }
    let new = expected.keys().filter(|(_, seq)| *seq > 5);
    assert!(new.into_iter().all(|at| later.messages.contains_key(at)));
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_and_ends_of_conversations_are_told_and_the_command_prints_lines() {
    let (_place, cluster) = cluster(1).await;
    let client = client(&cluster);
    say(&client, 0..2).await;
    let mut taken = Taken::default();
    let cursor = drain(&client, "", &mut taken).await;
    let attributes: BTreeMap<String, String> = [("title".to_owned(), "x".to_owned())].into();
    client
        .update_conversation(&room(1), attributes.clone(), "")
        .await
        .unwrap();
    client.delete_conversation(&room(2), "").await.unwrap();
    client.redact(&room(3), 1, "").await.unwrap();
    let mut later = Taken::default();
    let end = drain(&client, &cursor, &mut later).await;
    assert_eq!(later.settings, [(room(1), attributes)].into());
    assert_eq!(later.deleted, [room(2)].into());
    assert_eq!(later.messages.len(), 1);

    let lines = changes(&cluster, &["--from", &cursor, "--once"]);
    assert_eq!(lines.len(), 4, "three changes and a cursor: {lines:?}");
    assert!(
        lines
            .iter()
            .any(|line| line["message"]["redact_time"].is_string())
    );
    let told = lines[3]["cursor"].as_str().unwrap();
    assert_eq!(changes(&cluster, &["--from", told, "--once"]).len(), 1);
    assert_eq!(changes(&cluster, &["--from", &end, "--once"]).len(), 1);
    // A cursor of another tenant, and none at all.
    for wrong in ["x", &end[..end.len() - 1]] {
        let output = command(&cluster, &["--from", wrong, "--once"]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
}

fn command(cluster: &Cluster, args: &[&str]) -> std::process::Output {
    Command::new(binary())
        .args(["changes", "--tenant", "acme"])
        .args(args)
        .env("FIREBREAK_TARGET", cluster.addresses().join(","))
        .output()
        .unwrap()
}

fn changes(cluster: &Cluster, args: &[&str]) -> Vec<serde_json::Value> {
    let output = command(cluster, args);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The example in Python finds what is said in Korean, edited or erased, and goes on at its cursor.
#[tokio::test(flavor = "multi_thread")]
async fn the_example_searches_korean() {
    let python = |args: &[&str], input: Vec<u8>| {
        use std::io::Write as _;
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/python/search.py");
        let mut command = Command::new("python3");
        command.arg(program).args(args);
        command
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped());
        let mut child = command.spawn().expect("python3 runs");
        child.stdin.take().unwrap().write_all(&input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{args:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let probe = "import sqlite3; sqlite3.connect(':memory:').execute(\
                 \"create virtual table t using fts5(x, tokenize='trigram')\")";
    let able = Command::new("python3").args(["-c", probe]).output();
    if !able.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: there is no python3 with SQLite's trigram tokenizer");
        return;
    }
    let (place, cluster) = cluster(1).await;
    let client = client(&cluster);
    let index = place.path().join("index.db").display().to_string();
    for (n, text) in [
        "안녕하세요 여러분",
        "내일 만나요",
        "Hello 안녕",
        "비밀 이야기",
    ]
    .iter()
    .enumerate()
    {
        client
            .append(&room(n % 2), Message::text("ann", *text))
            .await
            .unwrap();
    }
    let feed = |from: &str| command(&cluster, &["--from", from, "--once"]).stdout;
    python(&[&index], feed(""));
    let found = python(&[&index, "--find", "안녕"], Vec::new());
    assert_eq!(found.lines().count(), 2, "{found}");
    assert!(
        found.contains("안녕하세요") && found.contains("Hello"),
        "{found}"
    );
    client
        .edit(&room(1), 1, Edit::text("모레 만나요"))
        .await
        .unwrap();
    client.redact(&room(1), 2, "").await.unwrap();
    let cursor = python(&[&index, "--cursor"], Vec::new());
    let since = feed(cursor.trim());
    python(&[&index], since.clone());
    python(&[&index], since);
    let count = |text: &str| {
        python(&[&index, "--find", text], Vec::new())
            .lines()
            .count()
    };
    assert_eq!((count("내일"), count("모레"), count("비밀")), (0, 1, 0));
    assert_eq!(count("만나"), 1);
}
