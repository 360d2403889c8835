//! The command as people and CI jobs use it: the real program, its words, its files and its exit
//! codes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "the program runs in the real world, and is waited for there"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use firebreak_sim::Plan;
use firebreak_sim::catalogue::{self, Variant};
use firebreak_sim::plan::{Event, Fault, Tier};
use firebreak_sim::shrink::Size;
use serde_json::Value;

/// A folder to run in.
struct Here(tempfile::TempDir);

impl Here {
    fn new() -> Here {
        Here(tempfile::tempdir().unwrap())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firebreak-sim"));
        command.args(args).current_dir(self.0.path());
        command.env_remove("FIREBREAK_LOG");
        command
    }

    /// Runs the command, which must end with `code`.
    fn check(&self, code: i32, args: &[&str]) -> Output {
        let output = self.command(args).output().unwrap();
        let words = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{args:?}\n{words}");
        output
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn json(&self, name: &str) -> Value {
        json(&std::fs::read(self.path(name)).unwrap())
    }

    fn write(&self, name: &str, plan: &Plan) {
        std::fs::write(self.path(name), serde_json::to_vec(plan).unwrap()).unwrap();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{error}: {}", text(bytes)))
}

fn plan_in(path: &Path) -> Plan {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn drawn(seed: u64) -> Plan {
    let calm = catalogue::load("calm").unwrap();
    calm.plan(seed, Variant::Ours, Tier::Direct)
}

/// A short calm run of three nodes.
fn short(seed: u64) -> Plan {
    let mut plan = drawn(seed);
    for dc in &mut plan.topology.dcs {
        dc.nodes.truncate(1);
    }
    plan.workload.duration_ms = 4_000;
    plan.workload.senders = 6;
    plan.expect.acked_min = 1;
    plan
}

#[test]
fn a_calm_run_holds_and_says_what_repeats_it() {
    let here = Here::new();
    let files = [
        "--json", "run.json", "--junit", "run.xml", "--html", "run.html",
    ];
    let run = ["run", "calm", "--seed", "5", "--tier", "direct"];
    let output = here.check(0, &[&run[..], &files].concat());
    let words = text(&output.stdout);
    assert!(words.contains("again: firebreak sim run calm --seed 5 --tier direct"));
    assert!(!words.contains('\u{1b}'), "colour without a terminal");
    let report = here.json("run.json");
    for key in [
        "scenario",
        "seed",
        "verdict",
        "promises",
        "longest_gap_ms",
        "failed_calls",
        "recovery_ms",
        "trace_hash",
        "sim_seconds",
        "wall_seconds",
    ] {
        assert!(report.get(key).is_some(), "{key}");
    }
    assert_eq!(
        (&report["scenario"], &report["seed"]),
        (&"calm".into(), &5.into())
    );
    assert_eq!(report["verdict"], "held");
    for letter in ["D", "O", "E", "L", "S", "U", "H", "G", "P", "A"] {
        let held = &report["promises"][letter];
        assert!(held.is_null() || held == true, "{letter}: {held}");
    }
    for name in ["run.xml", "run.html"] {
        assert!(
            std::fs::metadata(here.path(name)).unwrap().len() > 500,
            "{name}"
        );
    }
    assert!(
        !here.path("target").exists(),
        "a run that held leaves a plan"
    );

    // The same run as a document on stdout, and nothing else there.
    let output = here.check(0, &[&run[..], &["--json", "-"]].concat());
    assert_eq!(json(&output.stdout)["trace_hash"], report["trace_hash"]);
}

#[test]
fn a_plan_that_show_writes_is_what_run_runs() {
    let here = Here::new();
    let show = ["show", "calm", "--seed", "6", "--tier", "direct"];
    let shown = here.check(0, &[&show[..], &["--json"]].concat());
    std::fs::write(here.path("plan.json"), &shown.stdout).unwrap();
    assert_eq!(plan_in(&here.path("plan.json")), drawn(6));
    assert!(text(&here.check(0, &show).stdout).contains("nothing happens"));
    let replayed = here.check(0, &["replay", "plan.json", "--json", "-"]);
    let run = [
        "run", "calm", "--seed", "6", "--tier", "direct", "--json", "-",
    ];
    let run = here.check(0, &run);
    let (replayed, run) = (json(&replayed.stdout), json(&run.stdout));
    assert_eq!(replayed["trace_hash"], run["trace_hash"]);
    assert_eq!(replayed["command"], "firebreak sim replay plan.json");
}

#[test]
fn every_scenario_that_ships_is_listed() {
    let here = Here::new();
    let list = json(&here.check(0, &["list", "--json"]).stdout);
    let names: Vec<&str> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    let shipped: Vec<&str> = catalogue::all().iter().map(|one| one.name).collect();
    assert_eq!(names, shipped);
    let table = text(&here.check(0, &["list"]).stdout);
    assert!(shipped.iter().all(|name| table.contains(name)), "{table}");
}

#[test]
fn a_seed_is_proved_in_three_processes() {
    let here = Here::new();
    let prove = [
        "prove",
        "calm",
        "--seeds",
        "3",
        "--tier",
        "direct",
        "--json",
        "proof.json",
    ];
    let words = text(&here.check(0, &prove).stdout);
    assert!(words.contains("1 seeds, 3 runs, 0 mismatches"), "{words}");
    let proof = here.json("proof.json");
    assert_eq!(
        (&proof["seeds"], &proof["mismatches"]),
        (&1.into(), &0.into())
    );
}

#[test]
fn unusable_input_is_refused_with_the_reason() {
    let here = Here::new();
    std::fs::write(here.path("old.json"), r#"{"format": 99}"#).unwrap();
    std::fs::write(here.path("odd.json"), r#"{"format": 1, "scenario": 3}"#).unwrap();
    std::fs::write(here.path("no.json"), "not JSON").unwrap();
    std::fs::write(here.path("bad.toml"), "about = 3\nnonsense = 1\n").unwrap();
    here.write("holds.json", &short(1));
    for (args, why) in [
        (&["run", "clam"][..], "did you mean \"calm\""),
        (&["run", "nowhere.toml"], "nowhere.toml"),
        (&["run", "bad.toml"], "bad.toml:2"),
        (&["run", "calm", "--seed", "x"], "--seed"),
        (&["run", "calm", "--disk", "rocksdb"], "no RocksDB"),
        (&["run", "calm", "--set", "speed=3"], "speed"),
        (
            &["run", "calm", "--json", "/proc/none/run.json"],
            "/proc/none/run.json",
        ),
        (&["show", "calm", "--control"], "no control layout"),
        (&["sweep", "--seeds", "9..1"], "no seeds"),
        (&["sweep", "calm", "calmer"], "calmer"),
        (&["sweep", "--minutes", "0"], "--minutes"),
        (
            &["sweep", "calm", "--resume", "no.json"],
            "is not what a sweep left",
        ),
        (&["prove", "calm", "--seeds", "a..b"], "not a seed"),
        (&["replay", "missing.json"], "missing.json"),
        (&["replay", "old.json"], "its format is 99"),
        (&["replay", "odd.json"], "is no plan"),
        (&["replay", "no.json"], "is not JSON"),
        (&["shrink", "old.json"], "its format is 99"),
        (&["shrink", "holds.json"], "nothing to shrink"),
        (&["mutants", "no-such-bug"], "ack-before-fsync"),
        (&["mutants", "--seeds-max", "0"], "--seeds-max"),
        (&["burn"], "unrecognized subcommand"),
    ] {
        if cfg!(feature = "rocksdb") && args.contains(&"rocksdb") {
            continue;
        }
        let output = here.check(2, args);
        let words = text(&output.stderr);
        assert!(words.contains(why), "{args:?}: {words}");
        assert!(text(&output.stdout).is_empty(), "{args:?}");
    }
    assert_eq!(std::fs::read(here.path("no.json")).unwrap(), b"not JSON");
}

#[test]
fn what_misses_a_goal_ends_with_1_and_shrinks_to_less_that_still_does() {
    let here = Here::new();
    let mut plan = short(2);
    plan.expect.gap_max_ms = Some(1);
    here.write("slow.plan.json", &plan);
    let replay = ["replay", "slow.plan.json", "--json", "slow.json"];
    let words = text(&here.check(1, &replay).stdout);
    // A longer wait than was asked for is no call that failed.
    assert!(words.contains("GOAL MISSED  missed: gap"), "{words}");
    assert_eq!(here.json("slow.json")["promises"]["G"], true, "{words}");
    assert!(
        words.contains("shrink: firebreak sim shrink slow.plan.json"),
        "{words}"
    );
    let shrink = [
        "shrink",
        "slow.plan.json",
        "--minutes",
        "0.5",
        "--oracle",
        "gap",
    ];
    let words = text(&here.check(0, &shrink).stdout);
    assert!(
        words.contains("replay: firebreak sim replay slow.small.plan.json"),
        "{words}"
    );
    let smaller = plan_in(&here.path("slow.small.plan.json"));
    let (whole, left) = (Size::of(&plan), Size::of(&smaller));
    assert!(
        left.clients < whole.clients && left.load_ms < whole.load_ms,
        "{left}"
    );
    here.check(1, &["replay", "slow.small.plan.json"]);
    here.check(
        2,
        &["shrink", "slow.plan.json", "--oracle", "acked-durable"],
    );
}

#[test]
fn a_shrink_keeps_its_time_and_does_not_call_the_smallest_what_may_not_be() {
    let here = Here::new();
    // Its run alone takes minutes.
    let mut plan = short(2);
    plan.workload.duration_ms = 3_600_000;
    plan.expect.gap_max_ms = Some(1);
    here.write("long.plan.json", &plan);
    let began = Instant::now();
    let shrink = ["shrink", "long.plan.json", "--minutes", "0.02"];
    let words = text(&here.check(1, &shrink).stderr);
    assert!(
        words.contains("the time was up before the plan had been run once"),
        "{words}"
    );
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );

    plan.workload.duration_ms = 4_000;
    here.write("slow.plan.json", &plan);
    // Time for the plan's own run, and not for all that are smaller.
    let shrink = [
        "shrink",
        "slow.plan.json",
        "--minutes",
        "0.1",
        "--jobs",
        "1",
        "--json",
        "shrunk.json",
    ];
    let words = text(&here.check(0, &shrink).stdout);
    assert_eq!(
        here.json("shrunk.json")["smallest"],
        words.contains("the smallest plan")
    );
    let (early, smallest) = (
        words.contains("ended early"),
        words.contains("the smallest plan"),
    );
    assert!(early != smallest, "{words}");
}

#[test]
fn what_a_sweep_had_no_time_for_is_told_and_fails_where_all_was_asked_for() {
    let here = Here::new();
    // Time for the first run, since that begins at once, and for no other.
    let sweep = [
        "sweep",
        "calm",
        "bridge",
        "--jobs",
        "1",
        "--minutes",
        "0.001",
        "--tier",
        "direct",
        "--json",
        "s.json",
        "--junit",
        "s.xml",
        "--html",
        "html",
    ];
    for (seeds, all, code) in [(None, false, 0), (None, true, 1), (Some("1..=3"), true, 1)] {
        let mut args = sweep.to_vec();
        args.extend(seeds.map(|seeds| ["--seeds", seeds]).into_iter().flatten());
        args.extend(all.then_some("--all-or-fail"));
        let words = text(&here.check(code, &args).stdout);
        for part in [
            "NOT RUN: the time was up",
            "1 scenarios were not run at all: bridge",
        ] {
            assert!(words.contains(part), "{part}: {words}");
        }
        let report = here.json("s.json");
        let left = |scenario: &str| {
            let skipped = report["skipped"].as_array().unwrap().iter();
            skipped
                .clone()
                .find(|one| one["scenario"] == scenario)
                .cloned()
        };
        assert_eq!(report["runs"], 1, "{words}");
        assert_eq!(report["scenarios"]["bridge"]["runs"], 0);
        let bridge = left("bridge").unwrap();
        assert_eq!(
            (&bridge["made"], &bridge["why"]),
            (&0.into(), &"the time was up".into())
        );
        match seeds {
            None => assert_eq!((&bridge["left"], left("calm")), (&Value::Null, None)),
            Some(_) => assert_eq!(left("calm").unwrap()["left"], 2),
        }
        let xml = std::fs::read_to_string(here.path("s.xml")).unwrap();
        let xml = roxmltree::Document::parse(&xml).unwrap();
        let mut suites = xml
            .descendants()
            .filter(|node| node.has_tag_name("testsuite"));
        let bridge = suites
            .find(|suite| suite.attribute("name") == Some("bridge"))
            .unwrap();
        assert_eq!(
            (bridge.attribute("tests"), bridge.attribute("skipped")),
            (Some("1"), Some("1"))
        );
        let index = std::fs::read_to_string(here.path("html/index.html")).unwrap();
        assert!(index.contains("Not run"));
    }
    let all = [
        "sweep",
        "calm",
        "--seeds",
        "1",
        "--tier",
        "direct",
        "--all-or-fail",
    ];
    assert!(!text(&here.check(0, &all).stdout).contains("NOT RUN"));
    let prove = [
        "prove",
        "calm",
        "bridge",
        "--seeds",
        "1..=20",
        "--minutes",
        "0.000001",
        "--json",
        "proof.json",
    ];
    let words = here.check(1, &prove);
    assert!(text(&words.stdout).contains("2 scenarios were not run at all: calm, bridge"));
    assert_eq!(here.json("proof.json")["skipped"][1]["left"], 20);
}

#[test]
fn what_breaks_a_promise_ends_with_3_and_leaves_its_plan() {
    let here = Here::new();
    let mut plan = short(4);
    let hosts = plan.topology.dcs[1..].iter().flat_map(|dc| &dc.nodes);
    // Two of three data centers: no system survives that, so the oracles must say so.
    plan.events = vec![Event {
        at_ms: 2_000,
        line: 0,
        fault: Fault::Burn {
            hosts: hosts.map(|node| node.name.clone()).collect(),
        },
        label: None,
    }];
    here.write("two.json", &plan);
    let words = text(&here.check(3, &["replay", "two.json"]).stdout);
    assert!(words.contains("BROKEN"), "{words}");
    assert!(words.contains("plan: two.json"), "{words}");
}

#[test]
fn a_run_that_hangs_is_killed_and_counts_as_failed() {
    let here = Here::new();
    let sweep = [
        "sweep",
        "calm",
        "--seeds",
        "1",
        "--limit",
        "0",
        "--json",
        "sweep.json",
    ];
    here.check(1, &sweep);
    let report = here.json("sweep.json");
    assert_eq!(
        (&report["runs"], &report["goal_misses"]),
        (&1.into(), &1.into())
    );
    let failure = &report["failures"][0];
    assert!(
        failure["evidence"].as_str().unwrap().contains("killed"),
        "{failure}"
    );
    assert_eq!(
        failure["command"],
        "firebreak sim run calm --seed 1 --tier direct"
    );
    let left = plan_in(&here.path("target/sim/calm-1.plan.json"));
    assert_eq!(left, drawn(1));
}

/// Seeds of the runs that a sweep noted.
fn noted(path: &Path) -> Vec<u64> {
    let lines = std::fs::read_to_string(path).unwrap_or_default();
    let whole = lines
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    let mut seeds: Vec<u64> = whole
        .skip(1)
        .map(|line| json(line.as_bytes())["run"]["seed"].as_u64().unwrap())
        .collect();
    seeds.sort_unstable();
    seeds
}

#[test]
fn a_sweep_goes_on_where_it_was_stopped() {
    let here = Here::new();
    let sweep = |seeds: &str| {
        let args = [
            "sweep",
            "calm",
            "--seeds",
            seeds,
            "--tier",
            "direct",
            "--resume",
            "state.jsonl",
        ];
        here.check(
            0,
            &[
                &args[..],
                &["--json", "-", "--junit", "s.xml", "--html", "html"],
            ]
            .concat(),
        )
    };
    let first = json(&sweep("1..3").stdout);
    for key in ["runs", "safety_failures", "goal_misses", "failures"] {
        assert!(first.get(key).is_some(), "{key}");
    }
    assert_eq!(first["runs"], 2);
    let state = here.path("state.jsonl");
    assert_eq!(noted(&state), [1, 2]);
    // As if the power had gone while the next run was being noted.
    let mut torn = std::fs::read(&state).unwrap();
    torn.extend_from_slice(b"{\"tier\":\"dir");
    std::fs::write(&state, torn).unwrap();
    let second = sweep("1..4");
    assert!(text(&second.stderr).contains("2 runs were made before"));
    assert_eq!(json(&second.stdout)["runs"], 3);
    assert_eq!(noted(&state), [1, 2, 3]);
    let xml = std::fs::read_to_string(here.path("s.xml")).unwrap();
    let xml = roxmltree::Document::parse(&xml).unwrap();
    let cases = xml
        .descendants()
        .filter(|node| node.has_tag_name("testcase"));
    assert_eq!(cases.count(), 3);
    assert!(here.path("html/index.html").exists());

    let other = std::fs::read_to_string(&state).unwrap();
    let (_, lines) = other.split_once('\n').unwrap();
    let head = r#"{"format":1,"program":"another"}"#;
    std::fs::write(&state, format!("{head}\n{lines}")).unwrap();
    let words = here.check(2, &["sweep", "calm", "--resume", "state.jsonl"]);
    assert!(text(&words.stderr).contains("another build"));
}

#[test]
fn a_sweep_that_is_interrupted_sums_up() {
    let here = Here::new();
    let args = [
        "sweep",
        "calm",
        "--seeds",
        "1..",
        "--jobs",
        "1",
        "--resume",
        "state.jsonl",
        "--json",
        "s.json",
    ];
    let mut sweep = here.command(&args);
    let mut sweep = sweep
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while noted(&here.path("state.jsonl")).is_empty() {
        assert!(
            began.elapsed() < Duration::from_secs(120),
            "no run was made"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let interrupt = Command::new("kill")
        .args(["-INT", &sweep.id().to_string()])
        .status();
    assert!(interrupt.unwrap().success());
    assert_eq!(sweep.wait().unwrap().code(), Some(0));
    let runs = here.json("s.json")["runs"].as_u64().unwrap();
    assert_eq!(runs, noted(&here.path("state.jsonl")).len() as u64);
}
