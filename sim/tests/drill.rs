//! `drill` as `firebreak drill` goes on as it: a plan is rehearsed on a small cluster, and a paper is told.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "the program runs in the real world, and is waited for there"
)]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

const PLAN: &str = r#"
format = 1
id = "2026-12-01-dc-silent-seoul-3f2a"
scenario = "dc-silent"
about = "A data center falls silent."
hypothesis = "No call fails, and none waits longer than 1.5 s."
target = "seoul"
cluster_id = "c"
map_epoch = 3
made_ms = 1796000000000
before_ms = 1000
after_ms = 8000
[caps]
failed = 0
[goals]
failed = 0
gap_ms = 2500
[[step]]
at_ms = 0
for_ms = 3000
action = "silence"
nodes = ["seoul-1"]
"#;

/// Three data centers of one node, as their recorders have them.
fn cluster() -> Value {
    let dcs = [(1, "seoul"), (2, "busan"), (3, "tokyo")];
    let nodes = dcs.map(|(id, dc)| {
        json!({"node_id": id, "name": format!("{dc}-1"), "region": "kr", "dc": dc, "rack": ""})
    });
    let shards =
        [0, 1, 2].map(|shard| json!({"shard": shard, "replicas": [1, 2, 3], "prefer": []}));
    let links = json!({"links": [
        {"peer": 2, "up": true, "round_us": 5_000, "limit_ms": 300},
        {"peer": 3, "up": true, "round_us": 20_000, "limit_ms": 300},
    ]});
    json!({
        "kind": "firebreak-night", "format": 1, "from_ms": 1_796_000_000_000_u64,
        "to_ms": 1_796_000_060_000_u64,
        "cluster": {"cluster_id": "c", "epoch": 3, "nodes": nodes, "shards": shards},
        "nodes": [{"node_id": 1, "name": "seoul-1", "head": [
            {"unix_ms": 1_796_000_000_000_u64, "what": {"links": links}},
        ]}],
    })
}

fn run(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firebreak-sim"));
    command
        .args(args)
        .current_dir(folder)
        .env_remove("FIREBREAK_LOG");
    command.output().unwrap()
}

fn words(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("plan.toml"), PLAN).unwrap();
    std::fs::write(folder.path().join("cluster.json"), cluster().to_string()).unwrap();
    folder
}

#[test]
fn a_plan_is_rehearsed_calm_beside_a_fire_and_in_one_building() {
    let folder = folder();
    let args = "drill rehearse plan.toml --cluster cluster.json --seeds 4 --tier direct --jobs 1 --json r.json \
                --layout-digest c1a5";
    let ended = run(folder.path(), &args.split(' ').collect::<Vec<_>>());
    let said = words(&ended);
    assert_eq!(ended.status.code(), Some(0), "{said}");
    assert!(
        said.contains("beside a real fire") && said.contains("The simulator does not know"),
        "{said}"
    );
    let made: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("r.json")).unwrap()).unwrap();
    assert_eq!(
        (&made["calm"]["ran"], &made["beside_a_fire"]["ran"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(made["calm"]["broken"], 0);
    assert_eq!(
        made["beside_a_fire"]["broken"], 0,
        "a fire beside a drill breaks no promise of safety"
    );
    assert_eq!(made["calm"]["failed"]["max"], 0.0);
    let gap = made["calm"]["gap_ms"]["max"].as_f64().unwrap();
    assert!((100.0..=2_500.0).contains(&gap), "{gap}");

    assert!(
        made["twin"]["gap_ms"].as_f64().unwrap() > 3_000.0,
        "{}",
        made["twin"]
    );
    assert_eq!(made["layout_digest"], "c1a5");
    let digest = blake3::hash(PLAN.as_bytes()).to_hex().to_string();
    assert_eq!(made["plan_digest"], digest.as_str());
}

#[test]
fn a_verb_is_rehearsed_and_says_how_the_leaders_move() {
    let folder = folder();
    let verb = json!({"verb": "drain", "nodes": ["seoul-1"]});
    std::fs::write(folder.path().join("verb.json"), verb.to_string()).unwrap();
    let args = "drill rehearse-verb verb.json --cluster cluster.json --seeds 2 --jobs 1";
    let ended = run(folder.path(), &args.split(' ').collect::<Vec<_>>());
    let said = words(&ended);
    assert_eq!(ended.status.code(), Some(0), "{said}");
    assert!(said.contains("longest gap"), "{said}");
}

#[test]
fn what_cannot_be_rehearsed_ends_with_2_and_says_why() {
    let folder = folder();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("other.toml", &PLAN.replace("seoul-1", "jeju-1"));
    write("none.toml", "format = 1");
    let check = |plan: &str, cluster: &str, part: &str| {
        let ended = run(
            folder.path(),
            &["drill", "rehearse", plan, "--cluster", cluster],
        );
        let said = words(&ended);
        assert_eq!(ended.status.code(), Some(2), "{said}");
        assert!(said.contains(part), "{said}");
    };
    check(
        "other.toml",
        "cluster.json",
        "jeju-1, which the cluster does not have",
    );
    check("none.toml", "cluster.json", "is no plan of a drill");
    check("plan.toml", "plan.toml", "is not JSON");
    check("plan.toml", "missing.json", "cannot be read");
}

#[test]
fn what_is_no_paper_is_refused() {
    let folder = folder();
    let ended = run(folder.path(), &["drill", "report", "cluster.json"]);
    let said = words(&ended);
    assert_eq!(ended.status.code(), Some(2), "{said}");
    assert!(said.contains("is no paper of a drill"), "{said}");
}

/// What a drill does to itself and beside a fire breaks no promise beyond what the fire costs.
#[test]
fn a_drill_whose_controller_dies_and_one_beside_a_fire_keep_every_promise() {
    for (scenario, seed) in [("drill-controller-dies", "1"), ("drill-while-fire", "1")] {
        let output = Command::new(env!("CARGO_BIN_EXE_firebreak-sim"))
            .args([
                "run", scenario, "--seed", seed, "--tier", "direct", "--json", "-",
            ])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{scenario}: {told}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["verdict"], "held", "{scenario}: {report:#}");
    }
}
