//! The verbs as a newcomer and as an SRE use them: wrong values of flags, how the cluster stands while
//! nodes die, what is printed for machines.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails where it cannot go on; the processes it starts and waits for run on the real clock"
)]

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use firebreak::cluster::Cluster;
use firebreak_tests::{LIMIT, Place, binary, cluster};
use serde_json::Value;

fn run(cluster: &Cluster, args: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(args);
    command.env("FIREBREAK_TARGET", cluster.addresses().join(","));
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// Runs a verb that must end with `code`, and gives what it printed on standard output.
#[track_caller]
fn check(cluster: &Cluster, args: &[&str], code: i32) -> String {
    let output = run(cluster, args);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn json(cluster: &Cluster, args: &[&str], code: i32) -> Value {
    let out = check(cluster, args, code);
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{args:?}: {error}: {out}"))
}

/// What cannot be right, and a part of the reason.
const WRONG: &[(&[&str], &str)] = &[
    (
        &["read", "room", "--target", "http://127.0.0.1:1"],
        "leave out what stands before ://",
    ),
    (&["status", "--target", ""], "no endpoint was given"),
    (&["status", "--target", "here"], "it has no port"),
    (&["status", "--target", "here:http"], "a number up to 65535"),
    (
        &["tail", "room", "--target", "::1:7001"],
        "stands in brackets",
    ),
    (&["status", "--watch", "0"], "--watch"),
    (&["read", "a room"], "a room"),
    (&["tail", "a room"], "a room"),
    (&["read", "room", "--limit", "0"], "--limit"),
    (&["read", "room", "--level", "bounded"], "--max-staleness"),
    (
        &["read", "room", "--max-staleness", "5"],
        "a bound of --level bounded",
    ),
    (
        &["read", "room", "--session", "x"],
        "a token for --level session",
    ),
    (
        &["read", "room", "--level", "session", "--session", "garbage"],
        "is not a session token",
    ),
    (&["import", "/no/such/file"], "/no/such/file"),
    (&["import", "-", "--deadline", "0"], "--deadline"),
    (&["import", "-", "--tenant", "a b"], "--tenant"),
    (&["policy", "set"], "nothing to set"),
    (&["policy", "set", "--replicas", "4"], "say 3 or 5"),
    (&["policy", "set", "--survive", "planet"], "planet"),
    (
        &["policy", "set", "--clear", "--survive", "dc"],
        "--survive",
    ),
    (&["whatif", "--lose", "seoul"], "say dc=NAME or node=NAME"),
    (&["whatif", "--lose", "dc="], "say dc=NAME or node=NAME"),
    (
        &["shard", "move", "one", "--from", "a", "--to", "b"],
        "by its number",
    ),
    (
        &["shard", "move", "meta", "--from", "a", "--to", "b"],
        "data shards are 1 and up",
    ),
    (&["node", "drain", "a", "--wait", "999999999999"], "--wait"),
    (&["node", "undrain", "a", "--wait", "1"], "--wait"),
    (&["node", "remove", "a", "--timeout", "x"], "--timeout"),
    (
        &["init", "--config", "/no/such.toml", "--shards", "0"],
        "--shards",
    ),
    (&["serve", "--config", "/no/such.toml"], "/no/such.toml"),
];

#[test]
fn a_wrong_value_of_any_flag_ends_with_code_2_and_says_why_before_anybody_is_asked() {
    for (args, says) in WRONG {
        let mut command = Command::new(binary());
        // Nobody listens there: who asked would wait for seconds and end with 1.
        command.args(*args).env("FIREBREAK_TARGET", "127.0.0.1:1");
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(
            said.starts_with("error: ") && said.contains(says),
            "{args:?}: {said}"
        );
        assert!(output.stdout.is_empty(), "{args:?}: {}", text(&output));
        // It is told once.
        let reason = said.lines().next().unwrap_or_default();
        assert_eq!(reason.matches(says).count().max(1), 1, "{args:?}: {said}");
    }
}

#[test]
fn a_log_level_that_is_none_is_refused_with_what_would_be_right() {
    let place = Place::new();
    let config = place.path().join("node.toml");
    let serve = |level: &str, variable: Option<&str>| {
        let text_of = format!(
            "name = \"n\"\nlisten = \"127.0.0.1:1\"\ndata_dir = \"d\"\n[locality]\nregion = \"r\"\n\
             dc = \"d\"\n[log]\nlevel = \"{level}\"\n"
        );
        std::fs::write(&config, text_of).unwrap();
        let mut command = Command::new(binary());
        command.args(["serve", "--config"]).arg(&config);
        command.env_remove("FIREBREAK_LOG");
        command.envs(variable.map(|level| ("FIREBREAK_LOG", level)));
        let output = command.stdin(Stdio::null()).output().unwrap();
        (output.status.code(), text(&output))
    };
    let (code, said) = serve("inf", None);
    assert_eq!(code, Some(2), "{said}");
    for part in ["log.level", "\"inf\" is no level", "did you mean \"info\"?"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let (code, said) = serve("info", Some("debg"));
    assert_eq!(code, Some(2), "{said}");
    let says = "FIREBREAK_LOG: \"debg\" is no level: did you mean \"debug\"?";
    assert!(said.contains(says), "{said}");
}

#[test]
fn undrain_has_a_help_of_its_own() {
    let help = |args: &[&str]| {
        let mut command = Command::new(binary());
        let output = command.args(args).arg("--help").output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    for whom in ["node", "dc"] {
        let (drain, undrain) = (help(&[whom, "drain"]), help(&[whom, "undrain"]));
        assert!(drain.contains("--wait") && drain.contains(&format!("{whom} drain seoul")));
        assert!(!undrain.contains("--wait"), "{undrain}");
        assert!(!undrain.contains(" drain seoul"), "{undrain}");
        assert!(
            undrain.contains(&format!("{whom} undrain seoul")),
            "{undrain}"
        );
    }
}

/// Looks until the cluster stands so; gives what was printed then.
fn until_status(cluster: &Cluster, code: i32) -> String {
    let began = Instant::now();
    loop {
        let output = run(cluster, &["status"]);
        if output.status.code() == Some(code) {
            return String::from_utf8(output.stdout).unwrap();
        }
        assert!(began.elapsed() < LIMIT, "not {code}: {}", text(&output));
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn first(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_in_its_first_line_and_its_code_how_the_cluster_stands() {
    let (_place, mut cluster) = cluster(1).await;
    let whole = until_status(&cluster, 0);
    let says = "whole: all 4 shards are led, 3 nodes in 3 data centers answer";
    assert!(first(&whole).starts_with(says), "{whole}");
    let second = whole.lines().nth(1).unwrap_or_default();
    for part in ["told by 3 of its 3 nodes", "s old"] {
        assert!(second.contains(part), "{part}: {whole}");
    }

    let dead = cluster.nodes()[1].name.clone();
    cluster.kill(&[1]).unwrap();
    let degraded = until_status(&cluster, 3);
    let says = format!("DEGRADED, but serving: 1 of 3 nodes does not answer: {dead}");
    assert!(first(&degraded).starts_with(&says), "{degraded}");
    let report = json(&cluster, &["status", "--json"], 3);
    assert_eq!(
        (&report["verdict"], &report["exit_code"]),
        (&"degraded".into(), &3.into())
    );
    assert!(
        report["age_ms"].is_u64() && report["looked_at"].is_string(),
        "{report}"
    );
    assert_eq!(report["problems"][0]["stops"], false, "{report}");

    // The very first look behind the second loss must not believe the leader that is left.
    cluster.kill(&[2]).unwrap();
    let lost = check(&cluster, &["status"], 1);
    assert!(first(&lost).starts_with("NOT SERVING: "), "{lost}");
    assert!(
        first(&lost).contains("of 4 shards are not served"),
        "{lost}"
    );
    let report = json(&cluster, &["status", "--json"], 1);
    let shards = report["shards"].as_array().unwrap();
    assert!(
        shards.iter().all(|shard| shard["leader"].is_null()),
        "{report}"
    );

    cluster.kill(&[0]).unwrap();
    let silent = json(&cluster, &["status", "--json"], 1);
    assert_eq!(silent["verdict"], "not-serving");
    let sentence = silent["sentence"].as_str().unwrap();
    assert!(sentence.contains("no node answers"), "{silent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_warns_of_a_lost_quorum_by_names_and_a_clean_stop_is_no_error() {
    let (_place, mut cluster) = cluster(1).await;
    until_status(&cluster, 0);
    let log = cluster.nodes()[0].log.clone();
    let log = || std::fs::read_to_string(&log).unwrap();
    let others: Vec<String> = cluster.nodes()[1..]
        .iter()
        .map(|node| node.name.clone())
        .collect();
    cluster.kill(&[1, 2]).unwrap();
    let began = Instant::now();
    let lost = loop {
        let log = log();
        let mut lines = log
            .lines()
            .filter(|line| line.contains("no quorum of these shards is heard"));
        if let Some(line) = lines.next() {
            break line.to_owned();
        }
        assert!(began.elapsed() < LIMIT, "{log}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(lost.contains(" WARN "), "{lost}");
    for name in &others {
        assert!(lost.contains(&format!("{name} (n")), "{name}: {lost}");
    }
    let ended = cluster.terminate(0, LIMIT).unwrap();
    assert_eq!(ended.code(), Some(0));
    assert!(!log().contains("ERROR"), "{}", log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_each_look_and_ends_with_the_code_of_the_last() {
    let (_place, mut cluster) = cluster(1).await;
    until_status(&cluster, 0);
    let mut watch = Command::new(binary());
    watch.args(["status", "--watch", "1"]);
    watch.env("FIREBREAK_TARGET", cluster.addresses().join(","));
    let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert!(next().contains("Z whole: all 4 shards are led"));
    cluster.kill(&[2]).unwrap();
    let began = Instant::now();
    while !next().contains("Z DEGRADED, but serving: ") {
        assert!(began.elapsed() < LIMIT);
    }
    let mut interrupt = Command::new("kill");
    interrupt.args(["-INT", &watch.id().to_string()]);
    assert!(interrupt.status().unwrap().success());
    assert_eq!(watch.wait().unwrap().code(), Some(3));
}

fn count(value: &Value) -> usize {
    value.as_array().map_or(0, Vec::len)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_speaks_json_and_a_dead_node_is_not_called_drained() {
    let (_place, mut cluster) = cluster(1).await;
    until_status(&cluster, 0);
    let one = cluster.nodes()[1].name.clone();
    let other = cluster.nodes()[2].name.clone();
    assert_eq!(count(&json(&cluster, &["node", "list", "--json"], 0)), 3);
    assert_eq!(count(&json(&cluster, &["shard", "list", "--json"], 0)), 4);
    assert!(json(&cluster, &["node", "add", "--json"], 0)["commands"].is_array());
    let stays = ["node", "remove", &one, "--cancel", "--json"];
    assert_eq!(json(&cluster, &stays, 0)["outcome"], "stays");
    // Both have a replica of it: nothing that could be moved, and no document for what is refused.
    let moved = [
        "shard", "move", "1", "--from", &one, "--to", &other, "--json",
    ];
    assert_eq!(check(&cluster, &moved, 1), "");
    let policies = json(&cluster, &["policy", "show", "--json"], 0);
    assert!(policies["default"].is_object(), "{policies}");
    // Tokyo alone is a region that could not lose the other one: refused, with the reason.
    let refused = run(&cluster, &["policy", "set", "--survive", "region"]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(text(&refused).contains("region"), "{}", text(&refused));

    whatif_counts_as_status_does(&cluster, &other);

    let drained = json(&cluster, &["node", "drain", &one, "--json"], 0);
    assert_eq!(
        (&drained["leads"], count(&drained["silent"])),
        (&0.into(), 0)
    );
    let back = json(&cluster, &["node", "undrain", &one, "--json"], 0);
    assert_eq!(back["draining"], false);
    cluster.kill(&[1]).unwrap();
    until_status(&cluster, 3);
    let drained = check(&cluster, &["node", "drain", &one], 0);
    let says = format!("{one} does not answer");
    assert!(drained.contains(&says), "{drained}");
    assert!(!drained.contains("drained, nothing is led"), "{drained}");
    let list = check(&cluster, &["node", "list"], 0);
    assert!(list.contains("gone for"), "{list}");
}

/// The same shards, the meta shard among them, and the same leaders.
fn whatif_counts_as_status_does(cluster: &Cluster, lost: &str) {
    let lost = format!("node={lost}");
    let began = Instant::now();
    loop {
        let before = json(cluster, &["status", "--json"], 0);
        let after = json(cluster, &["whatif", "--lose", &lost, "--json"], 1);
        assert_eq!(after["shards_in_all"], count(&before["shards"]), "{after}");
        let nodes = before["nodes"].as_array().unwrap().iter();
        let same = |node: &Value| {
            let mut left = after["nodes"].as_array().unwrap().iter();
            left.find(|one| one["node"] == node["name"])
                .is_none_or(|one| {
                    one["leaders"][0] == node["leads"] && one["replicas"][0] == node["replicas"]
                })
        };
        if nodes.clone().all(same) {
            return;
        }
        // A leader may have moved between the two looks.
        assert!(began.elapsed() < LIMIT, "{before} {after}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_read_prints_can_be_imported_and_what_is_left_out_is_counted() {
    let (place, cluster) = cluster(1).await;
    let lines = [
        r#"{"conversation":"room","sender":"ann","timestamp":"2018-05-02T19:38:15Z","text":"Hi","mood":"good"}"#,
        r#"{"conversation":"room","sender":"bob","timestamp":"2018-05-02T19:38:16Z","type":"image","body_base64":"/w==","mood":"bad","attributes":{"k":"v"},"silent":true}"#,
    ];
    let file = place.path().join("room.jsonl");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let file = file.display().to_string();
    let summary = json(&cluster, &["import", &file, "--json"], 0);
    assert_eq!(summary["dropped_fields"]["mood"], 2, "{summary}");
    let said = check(&cluster, &["import", &file], 0);
    assert!(said.contains("not imported: mood (2 lines)"), "{said}");

    let read = |tenant: &str| check(&cluster, &["read", "room", "--tenant", tenant, "--json"], 0);
    let printed = read("demo");
    let again = place.path().join("again.jsonl");
    std::fs::write(&again, &printed).unwrap();
    let again = again.display().to_string();
    let summary = json(
        &cluster,
        &["import", &again, "--tenant", "copy", "--json"],
        0,
    );
    assert_eq!(summary["dropped_fields"]["seq"], 2, "{summary}");
    let kept = |printed: &str| -> Vec<Value> {
        let lines = printed.lines();
        let lines = lines.map(|line| serde_json::from_str(line).unwrap());
        lines
            .map(|mut line: Value| {
                line["create_time"] = Value::Null;
                line
            })
            .collect()
    };
    assert_eq!(kept(&read("copy")), kept(&printed));

    // The token of another conversation says nothing of this one.
    let read = run(&cluster, &["read", "room", "--level", "session"]);
    let said = text(&read);
    let mut tokens = said
        .lines()
        .filter_map(|line| line.strip_prefix("session token: "));
    let token = tokens.next().unwrap_or_else(|| panic!("{said}"));
    let with = |room| ["read", room, "--level", "session", "--session", token];
    check(&cluster, &with("room"), 0);
    let refused = run(&cluster, &with("other"));
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
    let said = text(&refused);
    assert!(said.contains("of another conversation"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_to_a_message_that_there_is_not_is_refused_on_every_path() {
    let (_place, cluster) = cluster(1).await;
    let client = firebreak_tests::client(&cluster);
    let name = "tenants/test/conversations/room";
    let replying = |id: &str, to: u64| client::Message {
        reply_to_seq: to,
        ..client::Message::text("ann", "hi").id(id)
    };
    client.append(name, replying("a", 0)).await.unwrap();
    let stream = client.append_stream(&client::StreamOptions::default());
    let unary = client.append(name, replying("b", 2)).await.unwrap_err();
    let streamed = stream.send(name, replying("c", 9)).await.unwrap_err();
    for error in [unary, streamed] {
        assert_eq!(error.reason(), Some("AHEAD_OF_HEAD"), "{error}");
    }
    assert_eq!(stream.send(name, replying("d", 1)).await.unwrap().seq, 2);
}
