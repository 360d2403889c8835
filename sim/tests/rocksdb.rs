//! Scenarios on the real engine: RocksDB in the simulated hosts. `cargo nextest run` makes each run
//! in a process of its own.

#![allow(
    clippy::unwrap_used,
    reason = "a test that is surprised should stop where it is"
)]

use std::collections::BTreeSet;

use firebreak_sim::catalogue::{self, Variant};
use firebreak_sim::plan::{DiskKind, Fault, Part, Plan, Tier};
use firebreak_sim::{Verdict, host, run};

/// A shipped scenario on RocksDB.
fn on_rocksdb(scenario: &str, seed: u64) -> Plan {
    let mut plan = catalogue::load(scenario)
        .unwrap()
        .plan(seed, Variant::Ours, Tier::Direct);
    plan.disk = DiskKind::Rocksdb;
    plan
}

/// Makes a scenario's run on RocksDB and demands all that the scenario does.
fn holds(scenario: &str, seed: u64) {
    let outcome = run(&on_rocksdb(scenario, seed));
    let broken: Vec<_> = outcome
        .promises
        .values()
        .flat_map(|judged| &judged.broken)
        .collect();
    assert_eq!(outcome.stopped, None);
    assert_eq!(outcome.verdict, Verdict::Held, "{broken:#?}");
    assert!(outcome.acked > 0);
}

#[test]
fn calm_holds() {
    holds("calm", 1);
}

#[test]
fn a_data_center_that_loses_its_disks_takes_nothing_with_it() {
    holds("dc-crash", 1);
}

#[test]
fn everything_acknowledged_survives_a_power_cut_of_everything() {
    holds("all-power-cut", 1);
}

#[test]
fn a_data_center_comes_back_with_what_its_disks_kept() {
    holds("dc-power-unsynced", 1);
}

#[test]
fn what_only_simulated_disks_can_do_is_refused() {
    let plan = on_rocksdb("dc-power-unsynced", 1);
    assert_eq!(host::refuse(&plan), None);
    let hosts = vec!["seoul-1".to_owned()];
    let faults = [
        Fault::FailSync {
            hosts: hosts.clone(),
            fail: true,
        },
        Fault::DiskRoom {
            hosts: hosts.clone(),
            free_percent: Some(0),
        },
        Fault::BitFlip {
            hosts,
            part: Part::Log,
        },
    ];
    let mut told = BTreeSet::new();
    for fault in faults {
        let mut plan = plan.clone();
        plan.events[0].fault = fault;
        let why = host::refuse(&plan).unwrap();
        assert!(why.contains("--disk memory"), "{why}");
        told.insert(why);
        let refused = run(&plan).stopped;
        assert!(refused.is_some_and(|stopped| stopped.contains("--disk memory")));
    }
    assert_eq!(told.len(), 3);
}

/// The hash of everything that happens in a run, which a process of its own makes.
fn trace(scenario: &str, disk: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("outcome.json");
    let made = std::process::Command::new(env!("CARGO_BIN_EXE_firebreak-sim"))
        .args(["run", scenario, "--seed", "1", "--tier", "direct"])
        .args(["--disk", disk, "--json"])
        .arg(&json)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let outcome = std::fs::read(json).unwrap();
    let outcome: serde_json::Value = serde_json::from_slice(&outcome).unwrap();
    outcome["trace_hash"].as_str().unwrap().to_owned()
}

/// RocksDB's threads leave no trace, and neither does the difference of the two engines, unless a
/// power cut finds something that is not synced.
#[test]
fn rocksdb_and_the_simulated_disk_make_the_same_run() {
    for scenario in ["calm", "dc-crash"] {
        let simulated = trace(scenario, "memory");
        assert_eq!(trace(scenario, "rocksdb"), simulated, "{scenario}");
    }
}
