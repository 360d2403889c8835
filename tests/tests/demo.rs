//! `firebreak demo` and `firebreak bench` as people and scripts run them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails where it cannot go on; the processes it starts and waits for run on the real clock"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use firebreak::cluster::process::{Process, send_signal};
use firebreak_tests::{LIMIT, Place, binary};
use serde_json::Value;

fn keys(value: &Value) -> BTreeSet<&str> {
    let object = value.as_object().unwrap();
    object.keys().map(String::as_str).collect()
}

fn corpus(place: &Place, conversations: usize, lines: usize) -> String {
    let path = place.path().join("corpus.jsonl");
    let mut text = String::new();
    for n in 0..lines {
        for c in 0..conversations {
            text += &format!(
                "{{\"conversation\":\"room-{c}\",\"sender\":\"s{}\",\"timestamp\":\
                 \"2018-05-02T19:38:15Z\",\"text\":\"{n}\"}}\n",
                n % 2
            );
        }
    }
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn a_demo_proves_its_promises_and_says_so_in_json() {
    let place = Place::new();
    let corpus = corpus(&place, 60, 60);
    let json = place.path().join("result.json");
    let json = json.display().to_string();
    let dir = place.path().join("demo").display().to_string();
    let output = Command::new(binary())
        .args([
            "demo",
            "--nodes-per-dc",
            "1",
            "--senders",
            "32",
            "--rate",
            "700",
        ])
        .args(["--corpus", &corpus, "--json", &json, "--dir", &dir])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // On a machine that is busy with other things G and P may be missed, as they are about time;
    // then the exit code says so.
    assert!(matches!(output.status.code(), Some(0 | 1)), "{said}");
    let result: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let fields = "acked duplicated failed_calls hashes_equal leaders_restored_ms longest_gap_ms \
                  lost promises reordered replication_restored_ms worst_conversation_gap_ms";
    assert_eq!(keys(&result), fields.split_whitespace().collect());
    assert_eq!(
        keys(&result["promises"]),
        "D O E L U H G P".split(' ').collect()
    );
    assert_eq!(result["acked"], 3_600);
    for field in ["lost", "duplicated", "reordered"] {
        assert_eq!(result[field], 0, "{field}: {said}");
    }
    for promise in ["D", "O", "E", "L", "U", "H"] {
        assert_eq!(
            result["promises"][promise], true,
            "{promise}: {result} {said}"
        );
    }
    let promises = result["promises"].as_object().unwrap();
    let held = promises.values().all(|held| held == true);
    assert_eq!(output.status.code(), Some(i32::from(!held)), "{result}");
    // The ledger is the demo's own and holds every acknowledgement.
    let ledger = std::fs::read_to_string(place.path().join("demo/ledger.jsonl")).unwrap();
    assert_eq!(ledger.lines().count(), 3_600);
}

#[test]
fn a_demo_that_is_killed_leaves_no_process_behind() {
    let place = Place::new();
    let dir = place.path().join("demo");
    let mut demo = Command::new(binary());
    demo.args(["demo", "--nodes-per-dc", "1", "--dir"])
        .arg(&dir);
    let mut demo = Process::start(demo, &place.path().join("demo.log"), false).unwrap();
    let begun = Instant::now();
    // Its nodes are its children; all three run once the last one's log is there.
    let nodes = loop {
        assert!(
            demo.ended().is_none() && begun.elapsed() < LIMIT,
            "no nodes are started"
        );
        let nodes = children(demo.pid());
        if nodes.len() == 3 && dir.join("tokyo-1.log").exists() {
            break nodes;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    drop(demo);
    while nodes.iter().any(|&pid| runs(pid)) {
        assert!(begun.elapsed() < LIMIT, "some of {nodes:?} still run");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn children(of: u32) -> Vec<u32> {
    let parent_of = |pid: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit(')')
            .next()?
            .split_whitespace()
            .nth(1)?
            .parse()
            .ok()
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| parent_of(pid) == Some(of)).collect()
}

/// A process that was killed stays in the table until somebody collects it.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .trim_start()
        .to_owned();
    send_signal(pid, 0).is_ok() && !state.is_empty() && !state.starts_with('Z')
}

#[test]
fn a_bench_measures_every_path_and_gives_rows() {
    let place = Place::new();
    let dir = place.path().join("bench");
    let output = Command::new(binary())
        .args([
            "bench",
            "--duration",
            "1s",
            "--warmup",
            "300ms",
            "--conversations",
            "20",
        ])
        .args([
            "--concurrency",
            "16",
            "--batch",
            "10",
            "--json",
            "-",
            "--dir",
        ])
        .arg(&dir)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // On a machine that is busy with other things G and P may be missed, as they are about time;
    // then the exit code says so.
    assert!(matches!(output.status.code(), Some(0 | 1)), "{said}");
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let paths: Vec<&str> = rows.iter().filter_map(|row| row["path"].as_str()).collect();
    assert_eq!(paths, ["unary", "batch", "stream", "list"]);
    let fields = "concurrency conversations msgs_per_s p50_ms p999_ms p99_ms path \
                  server_cpu_us_per_msg size write_amplification";
    for row in &rows {
        assert_eq!(keys(row), fields.split_whitespace().collect());
        assert!(row["msgs_per_s"].as_f64().unwrap() > 1.0, "{row}");
        assert!(
            row["server_cpu_us_per_msg"].as_f64().unwrap() > 0.0,
            "{row}"
        );
        assert!(row["p50_ms"].as_f64() <= row["p99_ms"].as_f64(), "{row}");
        let wrote = row["write_amplification"].as_f64();
        assert_eq!(wrote.is_some(), row["path"] != "list", "{row}");
    }
}

#[test]
fn a_bench_refuses_a_directory_in_memory() {
    let memory = Path::new("/dev/shm");
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    if !mounts
        .lines()
        .any(|line| line.split(' ').nth(1) == memory.to_str())
    {
        eprintln!("nothing is mounted at {}: skipped", memory.display());
        return;
    }
    let output = Command::new(binary())
        .arg("bench")
        .arg("--dir")
        .arg(memory)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("tmpfs"));
}
