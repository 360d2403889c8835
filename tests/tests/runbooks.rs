//! What `firebreak generate` writes is so on real nodes: the commands of the runbooks that change nothing for
//! good are run, and what Prometheus would scrape is what the alerts and dashboards ask for.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails where it cannot go on; the processes it starts and waits for run on the real clock"
)]

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use firebreak::cluster::Cluster;
use firebreak_tests::{LIMIT, Place, binary, cluster};
use serde_json::Value;

/// The verbs that are run, each with the exit codes that a whole cluster of three nodes gives.
const RUN: &[(&str, &[i32])] = &[
    ("status", &[0]),
    ("node list", &[0]),
    ("shard list", &[0]),
    ("policy show", &[0]),
    ("token create", &[0]),
    // One node in each data center: what is lost could not be put elsewhere.
    ("whatif", &[0, 1]),
    ("node drain", &[0]),
    ("node undrain", &[0]),
    ("dc drain", &[0]),
    ("dc undrain", &[0]),
    ("policy set", &[0]),
];

fn generate(args: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.arg("generate").args(args).stdin(Stdio::null());
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// The lines of the shell's blocks of all runbooks, each once.
fn lines(folder: &Path) -> BTreeSet<String> {
    let told = generate(&["runbooks", "--json", "--out", folder.to_str().unwrap()]);
    assert!(told.status.success(), "{}", said(&told));
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    let mut lines = BTreeSet::new();
    for file in told["files"].as_array().unwrap() {
        assert_eq!(file["fate"], "written");
        let text = std::fs::read_to_string(file["path"].as_str().unwrap()).unwrap();
        let blocks = text.split("```").skip(1).step_by(2);
        let commands = blocks.filter_map(|block| block.strip_prefix("sh\n"));
        lines.extend(commands.flat_map(str::lines).map(str::to_owned));
    }
    lines
}

/// What a node answers to a browser.
fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let asked = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(asked.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// Puts the addresses of this cluster's nodes in.
fn filled(cluster: &Cluster, line: &str) -> String {
    let mut line = line.replace("127.0.0.1:7101", "seoul-1:7101");
    for (at, name) in ["seoul-1", "busan-1", "tokyo-1"].iter().enumerate() {
        line = line.replace(&format!("{name}:7101"), &cluster.addresses()[at]);
    }
    line
}

/// Runs a command of a runbook, if it is one that is run; says whether it is.
fn run(cluster: &Cluster, line: &str) -> bool {
    let Some(args) = line.strip_prefix("firebreak ") else {
        return false;
    };
    let Some((_, codes)) = RUN.iter().find(|(verb, _)| args.starts_with(verb)) else {
        return false;
    };
    let mut command = Command::new(binary());
    command.args(args.split_whitespace()).stdin(Stdio::null());
    command.env("FIREBREAK_TARGET", cluster.addresses().join(","));
    let output = command.output().unwrap();
    let code = output.status.code().unwrap();
    assert!(codes.contains(&code), "{line}: {code}: {}", said(&output));
    assert!(
        !said(&output).starts_with("error"),
        "{line}: {}",
        said(&output)
    );
    true
}

/// What the series of a name are of: a family is told also while it has no series yet.
fn family(name: &str) -> &str {
    let ends = ["_total", "_bucket", "_sum", "_count"];
    let end = ends.iter().find_map(|end| name.strip_suffix(end));
    end.unwrap_or(name)
}

/// Asks what a runbook asks with curl, and finds what it looks for.
fn ask(line: &str) -> bool {
    let Some(rest) = line.strip_prefix("curl -sS ") else {
        return false;
    };
    let (url, looked_for) = rest.split_once(" | grep ").unwrap_or((rest, ""));
    let url = url.trim_matches('\'').strip_prefix("http://").unwrap();
    let (address, path) = url.split_once('/').unwrap();
    let (status, body) = get(address, &format!("/{path}"));
    assert_eq!(status, 200, "{line}: {body}");
    let name = looked_for
        .trim_matches('\'')
        .split(".*")
        .next()
        .unwrap_or_default();
    assert!(body.contains(family(name)), "{line}: {body}");
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_runbooks_do_what_they_say_and_nodes_tell_what_is_asked() {
    let place = Place::new();
    let lines = lines(&place.path().join("runbooks"));
    let (_place, mut cluster) = cluster(1).await;
    cluster.wait_replicated(LIMIT).await.unwrap();

    // Drains come before what ends them: in the order of letters they do.
    let mut count = 0;
    for line in &lines {
        let line = filled(&cluster, line);
        // A canary is appended each 2 s; a drained node says so.
        if line.contains("/healthz") {
            continue;
        }
        count += usize::from(run(&cluster, &line) || ask(&line));
    }
    assert!(count > 15, "only {count} commands were run: {lines:?}");

    let (status, metrics) = get(&cluster.addresses()[0], "/metrics");
    assert_eq!(status, 200);
    let rules = generate(&["alerts"]);
    let boards = generate(&["dashboards", "--json"]);
    let asked = said(&rules) + &said(&boards);
    for (at, _) in asked.match_indices("firebreak_") {
        let name = asked[at..].split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let name = name.into_iter().next().unwrap();
        let told = metrics.contains(&format!("# HELP {} ", family(name)));
        assert!(told, "no node tells {name}");
    }
    promtool(&metrics);
}

/// Has promtool look at a node's text, where it is installed.
fn promtool(metrics: &str) {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        println!("promtool is not installed: a node's metrics were not checked by it");
        return;
    };
    let mut input = child.stdin.take().unwrap();
    input.write_all(metrics.as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    // `check metrics` reads the older text format. In OpenMetrics, which Prometheus asks a node for, the help of
    // a counter stands under its name without `_total`.
    let said = said(&output);
    let wrong = |line: &&str| !line.is_empty() && !line.ends_with("_total no help text");
    let wrong: Vec<&str> = said.lines().filter(wrong).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_that_are_there_are_kept_and_wrong_names_are_told() {
    let place = Place::new();
    let folder = place.path().to_str().unwrap();
    let code = |args: &[&str], code: i32| {
        let output = generate(args);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{args:?}: {}",
            said(&output)
        );
        said(&output)
    };
    assert!(code(&["alerts", "--out", folder], 0).starts_with("written "));
    assert!(code(&["alerts", "--out", folder], 0).starts_with("unchanged "));
    let file = place.path().join("firebreak-alerts.yml");
    std::fs::write(&file, "mine").unwrap();
    let told = code(&["alerts", "--out", folder], 2);
    assert!(
        told.contains("firebreak-alerts.yml") && told.contains("--force"),
        "{told}"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    assert!(code(&["alerts", "--out", folder, "--force"], 0).starts_with("replaced "));

    assert!(code(&["runbooks", "no-such"], 2).contains("no-quorum"));
    assert!(code(&["runbooks"], 2).contains("--out DIR"));
    assert!(code(&["dashboards", "no-such"], 2).contains("firebreak-gray"));
    assert!(code(&["man", "no", "such"], 2).contains("node drain"));
    assert!(code(&["completions", "csh"], 2).contains("bash"));
    assert!(code(&["alerts", "--force"], 2).contains("--out"));
    // A folder that is a file cannot be written to.
    assert!(code(&["alerts", "--out", file.to_str().unwrap()], 1).contains("firebreak-alerts.yml"));
}
