//! The commands that people use, against a real cluster: what they print, and their exit codes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails where it cannot go on; the processes it starts and waits for run on the real clock"
)]

use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use client::{Level, ListOptions};
use firebreak::cluster::process::Process;
use firebreak::cluster::{Cluster, ClusterPlan};
use firebreak_tests::{LIMIT, Place, binary, client, cluster};

fn run(cluster: &Cluster, args: &[&str]) -> Output {
    let target = cluster.addresses().join(",");
    Command::new(binary())
        .args(args)
        .env("FIREBREAK_TARGET", target)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

fn line(conversation: &str, n: usize) -> String {
    format!(
        "{{\"conversation\":\"{conversation}\",\"sender\":\"s{}\",\"timestamp\":\
         \"2018-05-02T19:38:15Z\",\"text\":\"line {n}\"}}\n",
        n % 3
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_was_killed_and_is_started_again_creates_no_duplicate() {
    const CONVERSATIONS: usize = 50;
    const LINES: usize = 800;
    let (place, cluster) = cluster(1).await;
    let corpus = place.path().join("corpus.jsonl");
    let mut lines = String::new();
    for n in 0..LINES {
        for c in 0..CONVERSATIONS {
            lines += &line(&format!("room-{c}"), n);
        }
    }
    std::fs::write(&corpus, lines).unwrap();
    let corpus = corpus.display().to_string();

    let mut first = Command::new(binary());
    first
        .args(["import", &corpus])
        .env("FIREBREAK_TARGET", cluster.addresses().join(","));
    let mut first = Process::start(first, &place.path().join("import.log"), false).unwrap();
    let client = client(&cluster);
    let name = |c: usize| format!("tenants/demo/conversations/room-{c}");
    let begun = std::time::Instant::now();
    while client
        .get_conversation(&name(0), &Level::Linearizable)
        .await
        .is_err()
    {
        assert!(begun.elapsed() < LIMIT, "the import does not begin");
        assert!(first.ended().is_none(), "the import ended at once");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(first);
    let mut before = 0;
    for c in 0..CONVERSATIONS {
        let head = client
            .get_conversation(&name(c), &Level::Linearizable)
            .await;
        before += head.map_or(0, |head| head.last_seq);
    }
    let all = (CONVERSATIONS * LINES) as u64;
    assert!(
        (1..all).contains(&before),
        "{before} of {all} had been imported"
    );

    let second = run(&cluster, &["import", &corpus]);
    assert_eq!(second.status.code(), Some(0), "{}", text(&second));
    for c in 0..CONVERSATIONS {
        let options = ListOptions {
            page_size: 1_000,
            ..ListOptions::default()
        };
        let messages = client.pages(&name(c), options).collect().await.unwrap();
        let bodies: Vec<String> = messages
            .iter()
            .map(|m| String::from_utf8_lossy(&m.body).into_owned())
            .collect();
        let expected: Vec<String> = (0..LINES).map(|n| format!("line {n}")).collect();
        assert_eq!(bodies, expected, "{}", name(c));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_imported_is_read_tailed_and_counted() {
    let (place, mut cluster) = cluster(1).await;
    let corpus = place.path().join("corpus.jsonl");
    let bad = "{\"conversation\":\"room\"}\n";
    std::fs::write(
        &corpus,
        line("room", 0) + bad + &line("room", 1) + &line("room", 2),
    )
    .unwrap();
    let imported = run(&cluster, &["import", &corpus.display().to_string()]);
    assert_eq!(imported.status.code(), Some(1), "{}", text(&imported));
    assert!(text(&imported).contains("line 2"), "{}", text(&imported));

    let read = run(&cluster, &["read", "room", "--json"]);
    assert_eq!(read.status.code(), Some(0), "{}", text(&read));
    let found: BTreeMap<u64, String> = String::from_utf8_lossy(&read.stdout)
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|m| {
            (
                m["seq"].as_u64().unwrap(),
                m["text"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    let expected = [(1, "line 0"), (2, "line 1"), (3, "line 2")];
    assert_eq!(
        found,
        expected.map(|(seq, text)| (seq, text.to_owned())).into()
    );
    let nobody = run(&cluster, &["read", "no-such-room"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(text(&nobody).contains("no-such-room"));

    tail_goes_on_when_its_node_dies(&place, &mut cluster).await;

    // A node that has just come back may still open its replicas.
    let begun = std::time::Instant::now();
    let said = loop {
        let status = run(&cluster, &["status"]);
        let said = text(&status);
        if status.status.code() == Some(0) {
            break said;
        }
        assert!(begun.elapsed() < LIMIT, "{said}");
    };
    for node in cluster.nodes() {
        assert!(said.contains(&node.name), "{} is not in\n{said}", node.name);
    }
}

async fn tail_goes_on_when_its_node_dies(place: &Place, cluster: &mut Cluster) {
    let log = place.path().join("tail.log");
    let mut tail = Command::new(binary());
    tail.args(["tail", "room", "--from", "1", "--json"])
        .env("FIREBREAK_TARGET", cluster.addresses().join(","));
    let mut tail = Process::start(tail, &log, false).unwrap();
    let client = client(cluster);
    let mut shown = 3;
    for node in 0..3 {
        cluster.kill(&[node]).unwrap();
        let message = client::Message::text("ann", "one more").id(format!("tail-{node}"));
        client
            .append("tenants/demo/conversations/room", message)
            .await
            .unwrap();
        shown += 1;
        let begun = std::time::Instant::now();
        loop {
            let text = std::fs::read_to_string(&log).unwrap();
            let seqs: Vec<u64> = text
                .lines()
                .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
                .filter_map(|m| m["seq"].as_u64())
                .collect();
            let expected: Vec<u64> = (1..=shown).collect();
            assert!(expected.starts_with(&seqs), "{text}");
            if seqs == expected {
                break;
            }
            assert!(begun.elapsed() < LIMIT && tail.ended().is_none(), "{text}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        cluster.start_node(node).unwrap();
        cluster.wait_ready(LIMIT).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_there_is_not_is_a_wrong_argument_to_every_verb_and_what_cannot_be_is_refused() {
    let (_place, cluster) = cluster(1).await;
    let (one, other) = (&cluster.nodes()[0].name, &cluster.nodes()[1].name);
    let check = |args: &[&str], code: i32, says: &str| {
        let output = run(&cluster, args);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(says), "{args:?}: {said}");
        output
    };
    let node = "no node \"moon\"; there are";
    let dc = "no data center \"mars\"; there are";
    let shard = "no shard 99; there are";
    for verb in ["drain", "undrain", "remove"] {
        check(&["node", verb, "moon"], 2, node);
    }
    for verb in ["drain", "undrain"] {
        check(&["dc", verb, "mars"], 2, dc);
    }
    for (from, to) in [(one.as_str(), "moon"), ("moon", one.as_str())] {
        check(&["shard", "move", "1", "--from", from, "--to", to], 2, node);
    }
    let moved = ["shard", "move", "99", "--from", one, "--to", other];
    check(&moved, 2, shard);
    check(&["policy", "set", "--prefer", "seoul,mars"], 2, dc);
    let own = ["policy", "set", "--prefer", "seoul", "--shard", "99"];
    check(&own, 2, shard);
    check(&["policy", "set", "--replicas", "4"], 2, "say 3 or 5");
    let planet = ["policy", "set", "--prefer", "seoul", "--survive", "planet"];
    check(&planet, 2, "planet");
    check(&["whatif", "--lose", "node=moon"], 2, node);
    check(&["whatif", "--lose", "dc=mars"], 2, dc);
    check(
        &["policy", "set", "--replicas", "5"],
        1,
        "laid out with 3 each",
    );
    check(&["node", "remove", one], 1, "cannot be removed");
    // Nobody is left to take over what seoul has; but what that would be, the nodes tell.
    let asked = check(&["whatif", "--lose", "dc=seoul", "--json"], 1, "\"bad\"");
    let told: serde_json::Value = serde_json::from_slice(&asked.stdout).unwrap();
    let left = told["nodes"].as_array().unwrap();
    assert_eq!(left.len(), 2, "{told}");
    assert!(left.iter().all(|n| n["takes_bytes"].is_u64()), "{told}");
}

#[test]
fn a_wrong_configuration_ends_with_code_2_and_names_file_key_and_reason() {
    let place = Place::new();
    let config = place.path().join("node.toml");
    let check = |toml: &str, expect: &[&str]| {
        std::fs::write(&config, toml).unwrap();
        let config = config.display().to_string();
        let output = Command::new(binary())
            .args(["serve", "--config", &config])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        for part in expect.iter().chain(&[config.as_str()]) {
            assert!(said.contains(part), "{part} is not in\n{said}");
        }
    };
    check("name = ", &["node.toml:1"]);
    check(
        "nmae = \"x\"\n",
        &["nmae", "is not a key", "listen", "is required"],
    );
    check(
        "name = \"n\"\nlisten = \"nowhere\"\ndata_dir = \"d\"\n[locality]\nregion = \"r\"\ndc = \"d\"\n",
        &["listen", "host:port"],
    );
    let missing = Command::new(binary())
        .args(["serve", "--config", "/no/such.toml"])
        .output();
    let missing = missing.unwrap();
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing).contains("/no/such.toml"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_lets_nobody_in() {
    let place = Place::new();
    let plan = ClusterPlan::three_dcs(place.path(), &binary(), 1);
    let mut cluster = Cluster::found(plan).await.unwrap();
    let config = cluster.nodes()[1].config.display().to_string();
    let peer = cluster.nodes()[0].address.clone();
    let join = |token: &str| {
        let args = [
            "node", "join", "--config", &config, "--token", token, "--peer", &peer,
        ];
        cluster.run(&args).unwrap()
    };
    let refused = join("fb-not-the-token");
    assert!(!refused.status.success());
    assert!(text(&refused).contains("token"), "{}", text(&refused));
    for _ in 0..2 {
        let joined = join(cluster.token());
        assert!(joined.status.success(), "{}", text(&joined));
    }
    cluster.check().unwrap();
}
