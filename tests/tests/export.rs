//! Exports and imports with the real command and real nodes: what was exported and imported elsewhere is exported
//! there byte for byte as before, whatever was done to it, and however often the commands are killed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails where it cannot go on; the processes it starts and waits for run on the real clock"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use client::{Client, Edit, Level, ListOptions, Message, v1};
use firebreak::cluster::process::Process;
use firebreak::cluster::{Cluster, ClusterPlan};
use firebreak_tests::{LIMIT, Place, binary, client};

const TENANT: &str = "tenants/acme";

async fn one_node() -> (Place, Cluster) {
    let place = Place::new();
    let mut plan = ClusterPlan::three_dcs(place.path(), &binary(), 1);
    plan.places.truncate(1);
    plan.replicas = 1;
    let cluster = Cluster::start(plan).await.expect("the node comes up");
    (place, cluster)
}

fn command(cluster: &Cluster, args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command
        .args(args)
        .env("FIREBREAK_TARGET", cluster.addresses().join(","))
        .env("FIREBREAK_TENANT", "acme");
    command
}

#[track_caller]
fn run(cluster: &Cluster, args: &[&str], code: i32) -> String {
    let output: Output = command(cluster, args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let all = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {all}");
    all
}

/// The files of an export.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap();
    let file = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read(&path).unwrap())
    };
    entries.map(file).collect()
}

#[track_caller]
fn same(one: &Path, other: &Path) {
    let (one, other) = (files(one), files(other));
    assert!(
        one.keys().eq(other.keys()),
        "{:?} {:?}",
        one.keys(),
        other.keys()
    );
    for (name, bytes) in &one {
        let found = &other[name];
        let differs = bytes
            .split(|b| *b == b'\n')
            .zip(found.split(|b| *b == b'\n'));
        if let Some((a, b)) = differs.into_iter().find(|(a, b)| a != b) {
            let text = |line: &[u8]| String::from_utf8_lossy(line).into_owned();
            panic!("{name}:\n{}\n{}", text(a), text(b));
        }
        assert_eq!(bytes.len(), found.len(), "{name}");
    }
}

/// Conversations in which all that there is happens.
async fn live(client: &Client, corpus: &Path) {
    let room = format!("{TENANT}/conversations/room");
    let attributes = [("title".to_owned(), "Our \"room\"\n".trim().to_owned())];
    let created = v1::Conversation {
        attributes: attributes.into(),
        ..v1::Conversation::default()
    };
    client
        .create_conversation("acme", "room", created.clone(), "c1")
        .await
        .unwrap();
    client
        .create_conversation("acme", "empty", created, "c2")
        .await
        .unwrap();
    for n in 1..=20 {
        let mut message = Message::text("ann", format!("안녕 {n}\u{1F44D}")).id(format!("m{n}"));
        message.attributes = [("n".to_owned(), n.to_string())].into();
        message.reply_to_seq = n / 2;
        message.silent = n % 3 == 0;
        client.append(&room, message).await.unwrap();
    }
    let mut binary = Message::text("ben", "").id("x".repeat(128));
    binary.body = vec![0xff, 0, 1].into();
    binary.kind = String::new();
    client.append(&room, binary).await.unwrap();
    client.edit(&room, 3, Edit::text("edited")).await.unwrap();
    client
        .edit(&room, 4, Edit::default().attributes(BTreeMap::new()))
        .await
        .unwrap();
    for (seq, user, kind) in [
        (1, "ben", "👍"),
        (1, "ann", "👍"),
        (1, "ben", "x"),
        (5, "ben", "y"),
        (6, "ann", "z"),
    ] {
        client
            .react(&room, seq, (user, kind, false), "")
            .await
            .unwrap();
    }
    client
        .react(&room, 5, ("ben", "y", true), "")
        .await
        .unwrap();
    client.redact(&room, 6, "").await.unwrap();
    client.redact(&room, 2, "").await.unwrap();
    let mut lines = String::new();
    for n in 0..2_500 {
        for c in 0..3 {
            lines += &format!(
                "{{\"conversation\":\"c{c}\",\"sender\":\"s{}\",\"timestamp\":\"2018-05-02T19:38:15.25Z\",\"text\":\"line {n}\"}}\n",
                n % 3
            );
        }
    }
    std::fs::write(corpus, lines).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_imported_elsewhere_is_exported_as_it_was() {
    let (place, cluster) = one_node().await;
    let dir = |name: &str| place.path().join(name);
    let text = |name: &str| dir(name).display().to_string();
    live(&client(&cluster), &dir("corpus.jsonl")).await;
    run(&cluster, &["import", &text("corpus.jsonl")], 0);
    run(&cluster, &["export", &text("first")], 0);
    run(&cluster, &["export", &text("again")], 0);
    same(&dir("first"), &dir("again"));
    let told = run(&cluster, &["export", "verify", &text("first"), "--json"], 0);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let count = |of: &str| told["counts"][of].as_u64().unwrap();
    assert_eq!((count("conversations"), count("messages")), (5, 7_521));
    assert_eq!(
        (count("edited"), count("redacted"), count("reactions")),
        (2, 2, 3)
    );
    assert!(run(&cluster, &["export", &text("first")], 2).contains("whole export"));

    let (_other_place, other) = one_node().await;
    let report = text("report.json");
    let imported = run(&other, &["import", &text("first"), "--report", &report], 0);
    assert!(imported.contains("7521"), "{imported}");
    run(&other, &["export", &text("second")], 0);
    same(&dir("first"), &dir("second"));
    times_are_kept(&client(&cluster), &client(&other)).await;

    // Again: everything is there, and what was changed here since stays.
    let other_client = client(&other);
    let room = format!("{TENANT}/conversations/room");
    other_client
        .react(&room, 1, ("ben", "👍", true), "")
        .await
        .unwrap();
    run(&other, &["import", &text("first")], 0);
    let again = std::fs::read_to_string(&report).unwrap();
    assert!(again.contains("\"imported\": 7521"), "{again}");
    let message = other_client
        .get_message(&room, 1, &Level::Linearizable)
        .await
        .unwrap();
    let counts: Vec<u32> = message.reactions.iter().map(|one| one.count).collect();
    assert_eq!(counts, [1, 1]);
    let head = other_client
        .get_conversation(&room, &Level::Linearizable)
        .await
        .unwrap();
    assert_eq!(head.last_seq, 21);
}

/// What differs between the clusters is when it came there; when it was said, edited and erased does not.
async fn times_are_kept(one: &Client, other: &Client) {
    let room = format!("{TENANT}/conversations/room");
    for seq in [1, 2, 3] {
        let there = one
            .get_message(&room, seq, &Level::Linearizable)
            .await
            .unwrap();
        let here = other
            .get_message(&room, seq, &Level::Linearizable)
            .await
            .unwrap();
        assert_eq!(here.original_time, there.create_time, "{seq}");
        assert_eq!(here.original_edit_time, there.edit_time, "{seq}");
        let erased = here.redaction.map(|one| one.original_time);
        assert_eq!(erased, there.redaction.map(|one| one.redact_time), "{seq}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_export_goes_on_and_gives_the_same_bytes() {
    let (place, cluster) = one_node().await;
    let dir = |name: &str| place.path().join(name);
    let text = |name: &str| dir(name).display().to_string();
    let client = client(&cluster);
    let room = format!("{TENANT}/conversations/long");
    let stream = client.append_stream(&client::StreamOptions::default());
    let mut acks = Vec::new();
    for n in 0..200_000 {
        let message = Message::text("ann", format!("message {n} {}", "x".repeat(200)));
        acks.push(stream.enqueue(&room, message.id(format!("m{n}"))).await);
    }
    for ack in acks {
        ack.await.unwrap();
    }
    run(&cluster, &["export", &text("whole")], 0);

    // Killed again and again, each time behind some more of it.
    let position = dir("killed").join("export.position.json");
    let mut kills = 0;
    for _ in 0..50 {
        let before = std::fs::read(&position).ok();
        let log = dir(&format!("export-{kills}.log"));
        let killed = command(&cluster, &["export", &text("killed")]);
        let mut process = Process::start(killed, &log, false).unwrap();
        let begun = std::time::Instant::now();
        let went_on = loop {
            if process.ended().is_some() {
                break false;
            }
            if std::fs::read(&position).ok() != before {
                break true;
            }
            assert!(begun.elapsed() < LIMIT, "the export does not go on");
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        if !went_on {
            break;
        }
        kills += 1;
        drop(process);
    }
    assert!(kills > 0, "it ended before it could be killed");
    if position.exists() {
        run(&cluster, &["export", &text("killed")], 0);
    }
    same(&dir("whole"), &dir("killed"));

    // A byte that was changed is found, and named.
    let part = dir("killed").join("part-000001.jsonl");
    let mut bytes = std::fs::read(&part).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&part, bytes).unwrap();
    let told = run(&cluster, &["export", "verify", &text("killed")], 1);
    assert!(
        told.contains("part-000001.jsonl is not as it was written"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_conversation_and_what_one_user_sent_are_exported_alone() {
    let (place, cluster) = one_node().await;
    let text = |name: &str| place.path().join(name).display().to_string();
    live(&client(&cluster), &place.path().join("corpus.jsonl")).await;
    run(&cluster, &["import", &text("corpus.jsonl")], 0);
    let counts = |dir: &str| {
        let told = run(&cluster, &["export", "verify", &text(dir), "--json"], 0);
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        let count = |of: &str| told["counts"][of].as_u64().unwrap();
        (
            count("conversations"),
            count("messages"),
            count("reactions"),
        )
    };
    run(
        &cluster,
        &["export", &text("room"), "--conversation", "room"],
        0,
    );
    assert_eq!(counts("room"), (1, 21, 3));
    run(&cluster, &["export", &text("ann"), "--user", "ann"], 0);
    assert_eq!(counts("ann"), (1, 18, 3));
    run(&cluster, &["export", &text("s0"), "--user", "s0"], 0);
    assert_eq!(counts("s0"), (3, 2_502, 0));
    run(&cluster, &["export", &text("none"), "--user", "nobody"], 0);
    assert_eq!(counts("none"), (0, 0, 0));
    let missing = run(
        &cluster,
        &["export", &text("missing"), "--conversation", "not"],
        1,
    );
    assert!(missing.contains("there is no conversation"), "{missing}");
    let other = run(&cluster, &["export", &text("missing"), "--user", "ann"], 2);
    assert!(other.contains("unfinished export"), "{other}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kakaotalk_chat_is_imported_once_and_what_is_wrong_is_reported() {
    let (place, cluster) = one_node().await;
    let chat = place.path().join("KakaoTalkChats.txt");
    let report = place.path().join("report.json");
    let lines = "홍길동 님과 카카오톡 대화\n저장한 날짜 : 2022년 10월 15일 오후 3:05\n\n\
                 2022년 10월 14일 오후 2:01, 홍길동 : 안녕\n둘째 줄\n\
                 2022년 13월 14일 오후 2:02, 홍길동 : 틀림\n\
                 2022년 10월 14일 오후 2:03, 회원님 : 응\n";
    std::fs::write(&chat, lines).unwrap();
    let (chat, report) = (chat.display().to_string(), report.display().to_string());
    let args = [
        "import",
        &chat,
        "--conversation",
        "family",
        "--report",
        &report,
    ];
    let told = run(&cluster, &args, 1);
    assert!(
        told.contains("KakaoTalkChats.txt:6: not imported"),
        "{told}"
    );
    let written = std::fs::read_to_string(&report).unwrap();
    let written: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert_eq!(written["bad_records"][0]["line"], 6);
    run(&cluster, &args, 1);
    let client = client(&cluster);
    let room = format!("{TENANT}/conversations/family");
    let messages = client
        .pages(&room, ListOptions::default())
        .collect()
        .await
        .unwrap();
    let bodies: Vec<&[u8]> = messages.iter().map(|one| &one.body[..]).collect();
    assert_eq!(bodies, ["안녕\n둘째 줄".as_bytes(), "응".as_bytes()]);
    let time = messages[0].original_time.unwrap();
    assert_eq!(time.to_string(), "2022-10-14T05:01:00Z");
    let head = client
        .get_conversation(&room, &Level::Linearizable)
        .await
        .unwrap();
    assert_eq!(head.attributes["title"], "홍길동");
}
