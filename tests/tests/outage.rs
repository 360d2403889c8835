//! A night is recorded from real nodes, told and replayed: `firebreak outage`. Everything waits for what nodes
//! and clients say; no time below is an expectation, only a limit.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails where it cannot go on; the processes it starts and waits for run on the real clock"
)]

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use firebreak::cluster::Cluster;
use firebreak_tests::{LIMIT, Load, Place, binary, busiest_leader, client, cluster};
use serde_json::Value;

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// A moment as the command takes it.
fn moment(ms: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms)).to_string()
}

fn run(cluster: Option<&Cluster>, args: &[&str]) -> Output {
    let target = cluster.map_or("127.0.0.1:9".to_owned(), |c| c.addresses().join(","));
    let mut command = Command::new(binary());
    command.args(args).env("FIREBREAK_TARGET", target);
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(output)))
}

/// Records from a moment to now into a file.
fn record(cluster: &Cluster, from_ms: u64, file: &Path) -> Value {
    let (from, to) = (moment(from_ms), moment(now_ms() + 1));
    let file = file.to_str().unwrap();
    let args = [
        "outage", "record", "--from", &from, "--to", &to, "--out", file,
    ];
    let recorded = run(Some(cluster), &[&args[..], &["--json"]].concat());
    assert_eq!(recorded.status.code(), Some(0), "{}", text(&recorded));
    json(&recorded)
}

fn show(file: &Path) -> Value {
    let shown = run(None, &["outage", "show", file.to_str().unwrap(), "--json"]);
    assert_eq!(shown.status.code(), Some(0), "{}", text(&shown));
    json(&shown)
}

/// Kinds of what was felt by a node.
fn felt(shown: &Value, node: &str) -> Vec<String> {
    let ids = shown["nodes"].as_object().unwrap().iter();
    let id = { ids }.find(|(_, name)| *name == node).unwrap().0;
    let id: u64 = id.parse().unwrap();
    let felt = shown["felt"].as_array().unwrap().iter();
    let of = felt.filter(|felt| felt["nodes"].as_array().unwrap().contains(&id.into()));
    of.map(|felt| felt["kind"].as_str().unwrap().to_owned())
        .collect()
}

/// The replay of a night, on one seed.
fn replay(file: &Path, more: &[&str]) -> Value {
    let args = [
        "outage",
        "replay",
        file.to_str().unwrap(),
        "--seeds",
        "1",
        "--json",
    ];
    let replayed = run(None, &[&args[..], more].concat());
    assert_eq!(replayed.status.code(), Some(0), "{}", text(&replayed));
    json(&replayed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_is_told_as_such_and_the_night_is_replayed() {
    let (place, mut cluster) = cluster(1).await;
    let began = now_ms();
    let load = Load::start(&client(&cluster), "night", 8);
    load.more(300).await;
    let leader = busiest_leader(&cluster).await;
    let name = cluster.nodes()[leader].name.clone();
    cluster.kill(&[leader]).unwrap();
    load.more(300).await;

    let file = place.path().join("night.json");
    let recorded = record(&cluster, began, &file);
    assert_eq!(recorded["nodes"], 2);
    assert_eq!(recorded["missing"][0]["name"], name.as_str());
    // A second is recorded once it is over.
    let until = std::time::Instant::now() + LIMIT;
    let mut shown = show(&file);
    while shown["answered"].as_u64().unwrap() < 300 {
        assert!(std::time::Instant::now() < until, "{shown:#}");
        record(&cluster, began, &file);
        shown = show(&file);
    }
    assert!(
        felt(&shown, &name).contains(&"killed".to_owned()),
        "{shown:#}"
    );
    assert_eq!(shown["failed"], 0);
    let others = shown["leaders"].as_array().unwrap().len();
    assert!(others > 0, "somebody leads instead");

    // What it had written is there, too, once it is back.
    cluster.start_node(leader).unwrap();
    cluster.wait_ready(LIMIT).await.unwrap();
    let recorded = record(&cluster, began, &file);
    assert_eq!(
        (&recorded["nodes"], &recorded["missing"]),
        (&3.into(), &Value::Array(vec![]))
    );
    assert!(felt(&show(&file), &name).contains(&"killed".to_owned()));
    load.stop().await.assert_no_call_failed();

    let page = place.path().join("night.html");
    let page = page.to_str().unwrap();
    let drawn = run(
        None,
        &["outage", "show", file.to_str().unwrap(), "--html", page],
    );
    assert_eq!(drawn.status.code(), Some(0), "{}", text(&drawn));
    let drawn = std::fs::read_to_string(page).unwrap();
    assert!(
        drawn.contains(&format!("{name} is killed")),
        "the lanes name it"
    );
    let compared = &replay(&file, &[])["compared"];
    let run = &compared["runs"][0];
    assert_eq!(run["stopped"], Value::Null);
    assert!(run["changes"].as_u64().unwrap() > 0, "{compared:#}");
    assert!(!compared["not_explained"].as_array().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_stopped_and_went_on_is_told_as_such_from_its_files_alone() {
    let (place, mut cluster) = cluster(1).await;
    let began = now_ms();
    let load = Load::start(&client(&cluster), "still", 8);
    load.more(300).await;
    let leader = busiest_leader(&cluster).await;
    let name = cluster.nodes()[leader].name.clone();
    cluster.signal(&[leader], libc::SIGSTOP).unwrap();
    // So long it stands still: that is the fault, not a wait for something.
    tokio::time::sleep(Duration::from_secs(3)).await;
    load.more(500).await;
    cluster.signal(&[leader], libc::SIGCONT).unwrap();
    cluster.wait_ready(LIMIT).await.unwrap();
    load.more(200).await;
    load.stop().await.assert_no_call_failed();
    for node in 0..3 {
        cluster.terminate(node, LIMIT).unwrap();
    }

    // No node runs.
    let (from, to) = (moment(began), moment(now_ms() + 1));
    let file = place.path().join("still.json");
    let out = file.to_str().unwrap();
    let args = [
        "outage", "record", "--from", &from, "--to", &to, "--out", out,
    ];
    let refused = run(Some(&cluster), &args);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("--data-dir"), "{}", text(&refused));
    let folders: Vec<String> = cluster
        .nodes()
        .iter()
        .map(|n| n.data_dir.display().to_string())
        .collect();
    let folders: Vec<&str> = folders.iter().flat_map(|dir| ["--data-dir", dir]).collect();
    let recorded = run(None, &[&args[..], &folders[..]].concat());
    assert_eq!(recorded.status.code(), Some(0), "{}", text(&recorded));
    let felt = felt(&show(&file), &name);
    assert!(felt.contains(&"still".to_owned()), "{felt:?}");
}

#[test]
fn unusable_input_is_refused_with_code_2_and_what_would_be_right() {
    let place = Place::new();
    let check = |args: &[&str], part: &str| {
        let refused = run(None, args);
        let said = text(&refused);
        assert_eq!(refused.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(part), "{args:?}: {said}");
    };
    check(
        &["outage", "record", "--from", "03:25", "--to", "03:10"],
        "not before",
    );
    check(
        &["outage", "record", "--from", "3", "--to", "03:10"],
        "write 03:10",
    );
    let file = place.path().join("night.json");
    let night = file.to_str().unwrap();
    for (bytes, part) in [
        ("{\"kind\":\"firebreak-night\",\"form", "cut short"),
        ("{\"kind\":\"firebreak-night\",\"format\":9}", "format 9"),
        ("{}", "no record of a night"),
    ] {
        std::fs::write(&file, bytes).unwrap();
        check(&["outage", "show", night], part);
        check(&["outage", "replay", night], part);
    }
}
