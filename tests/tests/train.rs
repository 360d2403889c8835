//! `firebreak train`: the real command against a simulated cluster, and what it is told at the end.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails where it cannot go on; the processes it starts and waits for run on the real clock"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use firebreak_tests::{LIMIT, binary};
use serde_json::Value;

/// Between two looks at the simulated cluster.
const CLUSTER_CHECK_EVERY: Duration = Duration::from_millis(100);

/// A training on its way, ended when it is not waited for.
struct Training {
    child: Child,
    words: BufReader<ChildStdout>,
    target: String,
}

impl Drop for Training {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Training {
    /// Starts one; its debrief goes to `json`.
    fn start(args: &[&str], json: &std::path::Path) -> Training {
        let mut child = Command::new(binary())
            .arg("train")
            .args(args)
            .args(["--port", "0", "--json", json.to_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let words = BufReader::new(child.stdout.take().unwrap());
        let mut training = Training {
            child,
            words,
            target: String::new(),
        };
        let said = training.says("FIREBREAK_TARGET=");
        training.target = said.split_once('=').unwrap().1.trim().to_owned();
        training
    }

    /// The next line in which it says something.
    fn says(&mut self, what: &str) -> String {
        let mut said = String::new();
        loop {
            let mut line = String::new();
            let read = self.words.read_line(&mut line).unwrap();
            assert!(read > 0, "it ended without {what:?}: {said}");
            if line.contains(what) {
                return line;
            }
            said.push_str(&line);
        }
    }

    fn command(&self, args: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(args).env("FIREBREAK_TARGET", &self.target);
        command.output().unwrap()
    }

    /// Looks until the cluster stands as this exit code says.
    fn stands(&self, code: i32) -> Value {
        let until = Instant::now() + LIMIT;
        loop {
            let output = self.command(&["status", "--json"]);
            if output.status.code() == Some(code) {
                return serde_json::from_slice(&output.stdout).unwrap();
            }
            assert!(Instant::now() < until, "{output:?}");
            std::thread::sleep(CLUSTER_CHECK_EVERY);
        }
    }

    /// A page of one of its nodes, as a browser gets it.
    fn page(&self, path: &str) -> String {
        let address = self.target.split(',').next().unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until it has ended; its exit code, and all that it said since.
    fn ends(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.words.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

fn debrief(file: &std::path::Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

#[test]
fn whoever_is_trained_sees_the_fire_acts_and_is_told_how_long_it_took() {
    let place = firebreak_tests::Place::new();
    let json = place.path().join("debrief.json");
    // The rest of the building burns later, so that there is time to act on any machine.
    let args = [
        "kakao-2022",
        "--seed",
        "7",
        "--speed",
        "2",
        "--set",
        "power_cut_after=30s",
    ];
    let mut training = Training::start(&args, &json);
    let whole = training.stands(0);
    assert_eq!(whole["verdict"], "whole", "{whole:#}");
    assert!(
        training.page("/").contains("200 OK"),
        "the console is served"
    );
    assert!(
        training.page("/api/now").contains("\"verdict\""),
        "and its API"
    );
    let burning = training.stands(3);
    assert!(burning.to_string().contains("pangyo-1"), "{burning:#}");
    let drained = training.command(&["dc", "drain", "pangyo", "--wait", "0"]);
    assert!(
        String::from_utf8_lossy(&drained.stdout).contains("pangyo"),
        "{drained:?}"
    );
    training
        .child
        .stdin
        .take()
        .unwrap()
        .write_all(b"done\n")
        .unwrap();
    training.says("The rest of the scenario runs by itself");
    let (code, said) = training.ends();
    let debrief = debrief(&json);
    assert_eq!(code, Some(0), "{said}\n{debrief:#}");
    assert!(
        said.contains("kakao-2022, seed 7, until you were done"),
        "{said}"
    );
    let fire = &debrief["steps"][0];
    assert!(fire["what"].to_string().contains("15:19 fire"), "{fire:#}");
    let at = |key: &str| {
        fire[key]
            .as_u64()
            .unwrap_or_else(|| panic!("{key}: {fire:#}"))
    };
    assert!(at("at_ms") <= at("saw_at_ms"), "{fire:#}");
    assert!(at("saw_at_ms") <= at("decided_at_ms"), "{fire:#}");
    assert!(at("decided_at_ms") <= at("acted_at_ms"), "{fire:#}");
    assert_eq!(debrief["ended"], "done");
    assert!(
        debrief["asked"].to_string().contains("drain"),
        "{debrief:#}"
    );
    let runs: Vec<&str> = debrief["others"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["run"].as_str().unwrap())
        .collect();
    assert_eq!(runs, ["left alone", "drain of pangyo"]);
    assert!(debrief["best"]["why"].is_string(), "{debrief:#}");
    assert_eq!(debrief["felt"]["lost"], 0);
}

#[test]
fn a_fire_that_nobody_looks_at_is_told_as_not_seen_and_the_drawn_seed_at_the_end() {
    let place = firebreak_tests::Place::new();
    let json = place.path().join("debrief.json");
    let training = Training::start(&["dc-silent", "--seed", "?", "--speed", "50"], &json);
    let (code, said) = training.ends();
    let debrief = debrief(&json);
    assert_eq!(code, Some(1), "{said}\n{debrief:#}");
    assert!(said.contains("You did not see"), "{said}");
    let seed = debrief["seed"].as_u64().unwrap();
    assert!(
        said.contains(&format!("dc-silent, seed {seed}, to its end")),
        "{said}"
    );
    assert_eq!(debrief["steps"][0]["saw_at_ms"], Value::Null);
}

#[test]
fn what_makes_no_training_is_refused_with_the_reason() {
    let refused = |args: &[&str], says: &str| {
        let output = Command::new(binary())
            .arg("train")
            .args(args)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        assert!(text.contains(says), "{args:?}: {text}");
    };
    refused(&["kakao-2033"], "kakao-2022");
    refused(&["kakao-2022", "--seed", "x"], "or ? for one that is drawn");
    refused(&["kakao-2022", "--speed", "0"], "0.05 to 100");
    refused(
        &["moved-all-at-once", "--port", "0"],
        "nobody outside could follow",
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    refused(&["dc-silent", "--port", &port], "0 takes free ones");
}
