//! In which phase of a run its faults began: what a sweep has tried, and what it has not.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::outcome::{Led, Mark, Outcome};
use crate::plan::closes;

/// The kinds of faults that begin something, as [`crate::plan::Fault::kind`] names them: the rows
/// of the coverage matrix.
pub const KINDS: [&str; 31] = [
    "burn",
    "power-cut",
    "crash",
    "kill",
    "stop",
    "pause",
    "starve",
    "cut",
    "block",
    "reset",
    "link",
    "slow-sync",
    "hang-sync",
    "fail-sync",
    "disk-room",
    "small-disk",
    "bit-flip",
    "lose-record",
    "compact",
    "wipe-disk",
    "image-disk",
    "old-disk",
    "move",
    "remove",
    "forge",
    "clock-jump",
    "clock-drift",
    "drain",
    "move-to",
    "drill",
    "stampede",
];

/// How long after another fault's begin a fault hits its failover, ms.
pub const FAILOVER_MS: u64 = 3_000;
/// How long after a fault's end a fault hits the recovery from it, ms: promise P's bound.
pub const RECOVERY_MS: u64 = 10_000;
/// How long after the load's begin the cluster counts as new, ms.
pub const FOUNDING_MS: u64 = 1_000;

/// What a run was doing when a fault began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Not every shard has been led yet, or the load has just begun.
    Founding,
    /// Nothing is wrong, and has not been for a while.
    Steady,
    /// Another fault has been going on for a while.
    UnderFault,
    /// Another fault began within [`FAILOVER_MS`].
    Failover,
    /// A fault ended within [`RECOVERY_MS`].
    Recovery,
    /// The load is over.
    AtRest,
}

impl Phase {
    /// All of them, as a run passes through them.
    pub const ALL: [Phase; 6] = [
        Phase::Founding,
        Phase::Steady,
        Phase::Failover,
        Phase::UnderFault,
        Phase::Recovery,
        Phase::AtRest,
    ];

    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Founding => "founding",
            Phase::Steady => "steady",
            Phase::UnderFault => "under-fault",
            Phase::Failover => "failover",
            Phase::Recovery => "recovery",
            Phase::AtRest => "at-rest",
        }
    }
}

/// How often faults of a kind began in a phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Covered {
    /// The fault's kind.
    pub kind: String,
    /// The phase.
    pub phase: Phase,
    /// How often.
    pub times: u64,
}

/// What `outcome` covered: each fault that was begun, under the phase that it hit.
pub fn of(outcome: &Outcome) -> Vec<Covered> {
    let marks = &outcome.timeline;
    let founded_ms = founded_ms(&outcome.leaders);
    let load_ms = outcome.plan.workload.duration_ms;
    let begun = marks.iter().enumerate().filter(|(_, mark)| !mark.ends);
    let each: Vec<Covered> = begun
        .map(|(at, mark)| Covered {
            kind: mark.kind.clone(),
            phase: phase(&marks[..at], mark, founded_ms, load_ms),
            times: 1,
        })
        .collect();
    sum(&each)
}

/// Adds up, ordered by kind and phase.
pub fn sum<'a>(covered: impl IntoIterator<Item = &'a Covered>) -> Vec<Covered> {
    let mut sums: BTreeMap<(&str, Phase), u64> = BTreeMap::new();
    for one in covered {
        *sums.entry((&one.kind, one.phase)).or_default() += one.times;
    }
    let sums = sums.into_iter();
    sums.map(|((kind, phase), times)| Covered {
        kind: kind.to_owned(),
        phase,
        times,
    })
    .collect()
}

/// When the last shard got its first leader, ms after the load began.
fn founded_ms(leaders: &[Led]) -> u64 {
    let mut first: BTreeMap<u32, i64> = BTreeMap::new();
    for led in leaders {
        let at = first.entry(led.shard).or_insert(led.at_ms);
        *at = led.at_ms.min(*at);
    }
    let last = first.values().max().copied().unwrap_or(0);
    u64::try_from(last).unwrap_or(0)
}

/// The phase that `mark` hit; `before` is what was done before it. Faults of its own line do not
/// count as others when they began in the same instant.
fn phase(before: &[Mark], mark: &Mark, founded_ms: u64, load_ms: u64) -> Phase {
    let at = mark.at_ms;
    if at < FOUNDING_MS || at < founded_ms {
        return Phase::Founding;
    }
    if load_ms > 0 && at >= load_ms {
        return Phase::AtRest;
    }
    let other = |m: &&Mark| m.line != mark.line || m.at_ms != at;
    let since = |ends: bool, within_ms: u64| {
        let near = move |m: &Mark| m.ends == ends && at - m.at_ms.min(at) < within_ms;
        before.iter().filter(other).any(near)
    };
    if since(false, FAILOVER_MS) {
        Phase::Failover
    } else if since(true, RECOVERY_MS) {
        Phase::Recovery
    } else if going_on(before.iter().filter(other)) {
        Phase::UnderFault
    } else {
        Phase::Steady
    }
}

/// Whether a fault that lasts has begun and not ended for all whom it befell. What ends it need not
/// be of its line: what counts is whom the two concern.
fn going_on<'a>(marks: impl Iterator<Item = &'a Mark>) -> bool {
    let mut open: BTreeSet<(&str, Befallen<'_>)> = BTreeSet::new();
    for mark in marks.filter(|mark| !momentary(&mark.kind)) {
        let whom = befallen(mark);
        match mark.ends {
            true => open.retain(|(kind, one)| !closes(&mark.kind, kind) || !whom.contains(one)),
            false => open.extend(whom.into_iter().map(|one| (mark.kind.as_str(), one))),
        }
    }
    !open.is_empty()
}

/// One whom a fault befalls.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Befallen<'a> {
    Host(&'a str),
    /// From one host, or data center, to another.
    Way(&'a str, &'a str),
    /// Where no more is known: whomever the timeline's line names.
    Line(u32),
}

fn befallen(mark: &Mark) -> Vec<Befallen<'_>> {
    if let Some((from, to)) = &mark.between {
        let ways = from.iter().flat_map(|from| {
            let to = to.iter();
            to.map(move |to| Befallen::Way(from, to))
        });
        return ways.collect();
    }
    if mark.hosts.is_empty() {
        return vec![Befallen::Line(mark.line)];
    }
    mark.hosts.iter().map(|host| Befallen::Host(host)).collect()
}

/// Whether a fault of this kind is over in the moment that it happens.
pub fn momentary(kind: &str) -> bool {
    matches!(
        kind,
        "reset"
            | "bit-flip"
            | "lose-record"
            | "compact"
            | "wipe-disk"
            | "image-disk"
            | "old-disk"
            | "move"
            | "remove"
            | "forge"
            | "clock-jump"
            | "stampede"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(at_ms: u64, kind: &str, ends: bool, line: u32) -> Mark {
        let (kind, text) = (kind.to_owned(), String::new());
        Mark {
            at_ms,
            kind,
            ends,
            line,
            hosts: Vec::new(),
            between: None,
            story: None,
            text,
        }
    }

    fn check(before: &[Mark], at_ms: u64, expect: Phase) {
        let mark = mark(at_ms, "cut", false, 99);
        assert_eq!(phase(before, &mark, 2_000, 60_000), expect, "{before:?}");
    }

    #[test]
    fn the_phase_is_what_the_run_was_doing_when_the_fault_began() {
        let burn = mark(20_000, "burn", false, 0);
        let back = mark(30_000, "start", true, 0);
        let both = [burn.clone(), back];
        check(&[], 1_500, Phase::Founding);
        check(&[], 2_500, Phase::Steady);
        check(std::slice::from_ref(&burn), 22_999, Phase::Failover);
        check(std::slice::from_ref(&burn), 23_000, Phase::UnderFault);
        check(&both, 39_999, Phase::Recovery);
        check(&both, 40_000, Phase::Steady);
        check(&both, 60_000, Phase::AtRest);
    }

    #[test]
    fn a_fault_goes_on_until_all_whom_it_befell_are_back_by_whichever_line() {
        let of = |mut mark: Mark, hosts: &[&str]| {
            mark.hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
            mark
        };
        let cut = of(mark(10_000, "power-cut", false, 0), &["a", "b"]);
        let one = of(mark(15_000, "start", true, 1), &["a"]);
        let both = of(mark(15_000, "start", true, 1), &["a", "b"]);
        let part = of(mark(15_000, "start", true, 0), &["a"]);
        check(&[cut.clone(), both], 30_000, Phase::Steady);
        check(&[cut.clone(), one], 30_000, Phase::UnderFault);
        check(&[cut, part], 30_000, Phase::UnderFault);
    }

    #[test]
    fn a_way_is_cut_until_it_is_healed_and_another_ones_heal_does_not_help() {
        let of = |mut mark: Mark, from: &str, to: &[&str]| {
            let to = to.iter().map(|host| (*host).to_owned()).collect();
            mark.between = Some((vec![from.to_owned()], to));
            mark
        };
        let cut = of(mark(10_000, "cut", false, 0), "a", &["b", "c"]);
        let back = of(mark(15_000, "heal", true, 1), "a", &["c", "b"]);
        let part = of(mark(15_000, "heal", true, 0), "a", &["c"]);
        let other = of(mark(15_000, "heal", true, 0), "b", &["a"]);
        check(&[cut.clone(), back], 30_000, Phase::Steady);
        check(&[cut.clone(), part], 30_000, Phase::UnderFault);
        check(&[cut, other], 30_000, Phase::UnderFault);
    }

    #[test]
    fn a_momentary_fault_leaves_nothing_going_on() {
        check(
            &[mark(10_000, "clock-jump", false, 0)],
            20_000,
            Phase::Steady,
        );
        check(
            &[mark(10_000, "pause", false, 0)],
            20_000,
            Phase::UnderFault,
        );
    }

    /// serde lists the variants when it meets one that it does not know.
    #[test]
    fn the_matrix_has_a_row_for_every_fault_that_begins_something() {
        let unknown = serde_json::from_str::<crate::plan::Fault>(r#"{"action":"?"}"#);
        let error = unknown.unwrap_err().to_string();
        let (_, listed) = error.split_once("expected one of ").unwrap();
        let names = listed.split('`').skip(1).step_by(2);
        let begins: Vec<&str> = names
            .filter(|n| !matches!(*n, "start" | "resume" | "heal"))
            .collect();
        assert_eq!(begins, KINDS);
    }
}
