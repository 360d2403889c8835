//! Disasters, and how soon who is told.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;

use server::sight::alerts::ALERTS;

use crate::{promtool, says};

/// A run, and what must ring in it whatever else does.
struct Run {
    scenario: &'static str,
    /// What is done, in a few words.
    about: &'static str,
    /// Whether its faults end.
    ends: bool,
    must: &'static [&'static str],
}

/// Every run lasts so long, seconds.
const SECONDS: &str = "60";
const SEED: &str = "1";

const fn quiet(scenario: &'static str, about: &'static str) -> Run {
    Run {
        scenario,
        about,
        ends: true,
        must: &[],
    }
}

const fn run(scenario: &'static str, about: &'static str, must: &'static [&'static str]) -> Run {
    Run {
        scenario,
        about,
        ends: false,
        must,
    }
}

/// What is shown.
const RUNS: &[Run] = &[
    quiet("calm", "nothing happens"),
    quiet(
        "rolling-restart",
        "every node is restarted, one after the other",
    ),
    quiet("drain-dc", "a data center is drained, and taken back"),
    run(
        "dc-silent",
        "a data center falls silent",
        &[
            "FirebreakNodeDown",
            "FirebreakLinkDown",
            "FirebreakNextLossStops",
        ],
    ),
    run(
        "dc-crash",
        "the machines of a data center die, disks and all",
        &[
            "FirebreakNodeDown",
            "FirebreakLinkDown",
            "FirebreakNextLossStops",
        ],
    ),
    run(
        "two-dc-return",
        "two data centers of three go dark",
        &[
            "FirebreakNodeNotHealthy",
            "FirebreakShardsWithoutQuorum",
            "FirebreakAppendsFail",
        ],
    ),
    run(
        "process-pause-30s",
        "a node's process stands still",
        &["FirebreakNodeDown", "FirebreakLinkDown"],
    ),
    run(
        "asymmetric-send",
        "nothing that a data center sends arrives",
        &["FirebreakLinkDown"],
    ),
    run(
        "bridge",
        "two data centers do not hear each other, the third hears both",
        &["FirebreakLinkOneSided"],
    ),
    run(
        "disk-full",
        "the disk of a node fills up",
        &["FirebreakDiskFull"],
    ),
    run(
        "small-disks",
        "the load fills all disks",
        &["FirebreakDiskFull", "FirebreakAppendsFail"],
    ),
    run(
        "fsync-stall",
        "the disk of a node completes no sync",
        &["FirebreakDiskStalls"],
    ),
    run(
        "dc-all-disks-slow",
        "all disks of a data center become slow",
        &["FirebreakFsyncSlow"],
    ),
    run(
        "rot",
        "records on a disk go bad, and a scrub finds it",
        &["FirebreakReplicaBroken"],
    ),
    run(
        "clock-jump-1h",
        "clocks jump by an hour",
        &["FirebreakClockOff"],
    ),
    run(
        "starved-dc-crash",
        "machines get a third of the time that they want, then a data center dies",
        &["FirebreakTasksLate"],
    ),
];

/// Seconds after the first fault, by alert.
type Rang = BTreeMap<String, i64>;

/// Makes a run in a process of its own: what runs before it in the same one could change it.
fn made(run: &Run) -> Rang {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_firebreak-sim"));
    command.args(["alarms", run.scenario, "--seed", SEED, "--seconds", SECONDS]);
    command.arg("--json").arg("--promtool").arg(folder.path());
    if !run.ends {
        command.arg("--lasting");
    }
    command.env_remove("FIREBREAK_LOG");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", run.scenario);
    promtool(folder.path(), run.scenario);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let alarms = told["alarms"].as_array().unwrap().iter();
    alarms
        .map(|one| {
            let name = one["alert"].as_str().unwrap().to_owned();
            (name, one["after_s"].as_i64().unwrap())
        })
        .collect()
}

/// All of them, two at a time.
fn all() -> Vec<Rang> {
    let next = Mutex::new(0..RUNS.len());
    let made_all = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(at) = next.lock().unwrap().next() else {
                        return;
                    };
                    let rang = made(&RUNS[at]);
                    made_all.lock().unwrap().insert(at, rang);
                }
            });
        }
    });
    made_all.into_inner().unwrap().into_values().collect()
}

#[test]
fn alarms_ring_as_soon_as_the_page_says_and_only_then() {
    let rang = all();
    for (run, rang) in RUNS.iter().zip(&rang) {
        for alert in run.must {
            assert!(
                rang.contains_key(*alert),
                "{}: {alert} does not ring, but {rang:?}",
                run.scenario
            );
        }
        assert!(!run.ends || rang.is_empty(), "{}: {rang:?}", run.scenario);
    }
    let mut text = String::from("| scenario | what happens | rings after |\n|---|---|---|\n");
    for (run, rang) in RUNS.iter().zip(&rang) {
        let mut rang: Vec<(&String, &i64)> = rang.iter().collect();
        rang.sort_by_key(|(name, after)| (**after, (*name).clone()));
        let rang: Vec<String> = rang
            .iter()
            .map(|(name, after)| format!("{} {after} s", name.trim_start_matches("Firebreak")))
            .collect();
        let rang = match rang.is_empty() {
            true => "*nothing*".to_owned(),
            false => rang.join(", "),
        };
        text.push_str(&format!(
            "| `{}` | {} | {rang} |\n",
            run.scenario, run.about
        ));
    }
    says("scenarios", &text);
}

#[test]
fn the_page_lists_every_alert() {
    let mut text =
        String::from("| alert | severity | after | what | runbook |\n|---|---|---|---|---|\n");
    for alert in ALERTS {
        let after = match alert.for_s {
            0 => "at once".to_owned(),
            s if s % 3_600 == 0 => format!("{} h", s / 3_600),
            s if s % 60 == 0 => format!("{} min", s / 60),
            s => format!("{s} s"),
        };
        let expr = alert.expr.replace('\n', " ").replace('|', "\\|");
        let expr = expr.split_whitespace().collect::<Vec<_>>().join(" ");
        text.push_str(&format!(
            "| {} | {} | {after} | `{expr}` | {} |\n",
            alert.name,
            alert.severity.name(),
            alert.runbook
        ));
    }
    says("alerts", &text);
}
