//! `firebreak debug bundle` and `firebreak top` on the night when they are needed: one of three nodes has
//! been killed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails where it cannot go on; the processes it starts and waits for run on the real clock"
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use firebreak::cluster::Cluster;
use firebreak_tests::{LIMIT, Place, binary, client, cluster};
use serde_json::Value;

/// What a node gives.
const FILES: [&str; 11] = [
    "config.json",
    "events.jsonl",
    "limits.txt",
    "log.txt",
    "machine.txt",
    "metrics.txt",
    "msgdb.LOG",
    "process.json",
    "raftdb.LOG",
    "shards.txt",
    "status.json",
];

fn run(targets: &str, args: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(args).env("FIREBREAK_TARGET", targets);
    command.stdin(Stdio::null()).output().unwrap()
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// The files of an archive, by their paths in its folder.
fn files(archive: &Path) -> BTreeMap<String, Vec<u8>> {
    let gzip = flate2::read::GzDecoder::new(File::open(archive).unwrap());
    let mut tar = tar::Archive::new(gzip);
    let mut files = BTreeMap::new();
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let (_folder, path) = path.split_once('/').unwrap();
        let path = path.to_owned();
        let mut data = Vec::new();
        entry.read_to_end(&mut data).unwrap();
        files.insert(path, data);
    }
    files
}

fn json(data: &[u8]) -> Value {
    serde_json::from_slice(data).unwrap()
}

/// That the token, or a part of it, is nowhere.
fn assert_no_secret(files: &BTreeMap<String, Vec<u8>>, cluster: &Cluster) {
    let token = cluster.token();
    assert!(token.len() > 20, "{token}");
    let part = &token.as_bytes()[3..19];
    for (path, data) in files {
        let found = data.windows(part.len()).any(|window| window == part);
        assert!(!found, "the join token is in {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_node_killed_the_bundle_has_all_of_the_living_and_lists_what_is_missing() {
    let (place, mut cluster) = cluster(1).await;
    let messages = client(&cluster);
    for n in 0..20 {
        let message = client::Message::text("ann", format!("message {n}"));
        let chat = "tenants/test/conversations/night";
        messages.append(chat, message).await.unwrap();
    }
    a_stranger_joins_with_nearly_the_token(&place, &cluster);
    let dead = cluster.nodes()[1].name.clone();
    let alive: Vec<String> = [0, 2].map(|at| cluster.nodes()[at].name.clone()).into();
    cluster.kill(&[1]).unwrap();
    cluster.wait_ready(LIMIT).await.unwrap();

    let targets = cluster.addresses().join(",");
    let out = place.path().join("night.tar.gz");
    let path = out.display().to_string();
    let output = run(&targets, &["debug", "bundle", "--out", &path]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let told = said(&output);
    assert!(
        told.contains(&format!("missing: {dead}: it does not answer")),
        "{told}"
    );

    let files = files(&out);
    for node in &alive {
        for file in FILES {
            let data = files.get(&format!("nodes/{node}/{file}"));
            assert!(
                data.is_some_and(|data| !data.is_empty()),
                "{node}: {file}: {told}"
            );
        }
        let of = |file: &str| &files[&format!("nodes/{node}/{file}")];
        let text = |file: &str| String::from_utf8_lossy(of(file)).into_owned();
        assert_eq!(json(of("status.json"))["node_name"], node.as_str());
        assert!(
            text("metrics.txt").contains("firebreak_"),
            "{}",
            text("metrics.txt")
        );
        assert!(text("log.txt").contains("starting"), "{}", text("log.txt"));
        assert!(
            text("events.jsonl")
                .lines()
                .all(|line| json(line.as_bytes()).is_object())
        );
        assert!(
            text("events.jsonl").contains("\"started\""),
            "{}",
            text("events.jsonl")
        );
        assert!(text("limits.txt").contains("Max open files"));
        assert_eq!(json(of("config.json"))["node"], node.as_str());
        assert!(json(of("process.json"))["figures"]["resident_bytes"].as_u64() > Some(0));
        for log in ["raftdb.LOG", "msgdb.LOG"] {
            assert!(text(log).contains("RocksDB"), "{log}");
        }
    }
    let manifest = json(&files["manifest.json"]);
    assert_eq!(manifest["complete"], false);
    assert_eq!(
        manifest["missing"].as_array().unwrap().len(),
        1,
        "{manifest}"
    );
    assert_eq!(manifest["missing"][0]["node"], dead.as_str());
    assert_eq!(json(&files["cluster.json"])["verdict"], "degraded");
    assert_no_secret(&files, &cluster);

    // It is never overwritten.
    let before = std::fs::read(&out).unwrap();
    let output = run(&targets, &["debug", "bundle", "--out", &path]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(
        said(&output).contains("is there already"),
        "{}",
        said(&output)
    );
    assert_eq!(std::fs::read(&out).unwrap(), before);

    let output = run(&targets, &["top", "--json"]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    let top = json(&output.stdout);
    assert_eq!(top["now"]["verdict"], "degraded");
    assert_eq!(top["now"]["seen_by"]["answered"], 2);
    assert_eq!(top["now"]["nodes"].as_array().unwrap().len(), 3);
    assert!(top["shards"]["shards"].as_array().unwrap().len() > 1);
    assert!(top["jobs"]["jobs"].is_array());
    let output = run(&targets, &["top"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(
        said(&output).contains("`firebreak status --watch`"),
        "{}",
        said(&output)
    );

    a_dead_cluster_is_told_and_disks_still_tell(&place, &mut cluster, &targets);
}

/// What it said is in the nodes' hands, and must be in no file that they give.
fn a_stranger_joins_with_nearly_the_token(place: &Place, cluster: &Cluster) {
    let config = place.path().join("stranger.toml");
    let data = place.path().join("stranger");
    let text = format!(
        "name = \"stranger\"\nlisten = \"127.0.0.1:1\"\ndata_dir = {data:?}\n[locality]\n\
         region = \"r\"\ndc = \"d\"\n"
    );
    std::fs::write(&config, text).unwrap();
    let config = config.display().to_string();
    let nearly = cluster.token().to_owned() + "0";
    let peer = &cluster.nodes()[0].address;
    let output = run(
        peer,
        &[
            "node", "join", "--config", &config, "--token", &nearly, "--peer", peer,
        ],
    );
    assert!(!output.status.success(), "{}", said(&output));
}

/// The rest is killed too: nothing answers, and a disk has what it has.
fn a_dead_cluster_is_told_and_disks_still_tell(
    place: &Place,
    cluster: &mut Cluster,
    targets: &str,
) {
    cluster.kill(&[0, 2]).unwrap();
    let out = place.path().join("dead.tar.gz");
    let path = out.display().to_string();
    let output = run(
        targets,
        &["debug", "bundle", "--limit", "1", "--out", &path],
    );
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("no node answers"),
        "{}",
        said(&output)
    );
    assert!(said(&output).contains("--data-dir"), "{}", said(&output));
    let left: Vec<String> = std::fs::read_dir(place.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().display().to_string())
        .filter(|name| name.starts_with("dead"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let output = run(targets, &["top", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(json(&output.stdout)["verdict"], "not-serving");

    let config = cluster.nodes()[1].config.display().to_string();
    let args = [
        "debug", "bundle", "--json", "--limit", "1", "--out", &path, "--config", &config,
    ];
    let output = run(targets, &args);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let document = json(&output.stdout);
    assert_eq!(document["complete"], false, "{document}");
    let files = files(&out);
    let folder = format!("disk/1-{}", cluster.nodes()[1].name);
    for file in [
        "config.json",
        "events.jsonl",
        "raftdb.LOG",
        "msgdb.LOG",
        "FORMAT.txt",
    ] {
        let data = files.get(&format!("{folder}/{file}"));
        assert!(
            data.is_some_and(|data| !data.is_empty()),
            "{file}: {document}"
        );
    }
    assert_no_secret(&files, cluster);
}
