//! Smaller plans that may fail as a plan does: what `shrink` tries, the most radical first.
//!
//! ```text
//!  Plan ─► stage ─► candidates ─► the first that still shows the Symptom ─► the same stage again
//!            ▲                          none ─► the next stage                     │
//!            └──────────── all stages again, until none makes it smaller ◄─────────┘
//! ```
//!
//! After Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input" (2002), over
//! faults first, then over everything else that a plan holds.

mod cast;
mod events;
mod load;

use std::fmt;

use crate::outcome::{Outcome, Promise};
use crate::plan::{Expect, Plan};
use crate::reports::failures;

/// What a run failed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symptom {
    /// The promise; none for a panic, a run that stopped, or too few acknowledgements.
    pub promise: Option<Promise>,
    /// The oracle's or the goal's name, `panic` or `stopped`.
    pub oracle: String,
    /// Where a panic was, how a run stopped; empty otherwise.
    pub detail: String,
}

/// A plan that is smaller than another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smaller {
    /// It.
    pub plan: Plan,
    /// What was taken away, for people.
    pub what: String,
}

/// How much there is in a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Faults and their ends.
    pub events: usize,
    /// Nodes.
    pub nodes: usize,
    /// Senders, readers, tails and movers.
    pub clients: u64,
    /// How long the load lasts, ms.
    pub load_ms: u64,
}

/// Makes candidates of a plan, the most radical first.
pub type Stage = fn(&Plan) -> Vec<Smaller>;

/// All of them, in the order that makes the later ones cheap.
pub const STAGES: [Stage; 9] = [
    events::lines,
    events::units,
    load::time,
    load::clients,
    cast::nodes,
    cast::sites,
    cast::shards,
    load::shape,
    events::times,
];

impl Symptom {
    /// Everything that a run failed with, the gravest first; empty when it held.
    pub fn all(outcome: &Outcome) -> Vec<Symptom> {
        let mut all: Vec<Symptom> = Vec::new();
        for failure in failures(outcome) {
            let mut add = |oracle: &str, detail: &str| {
                let symptom = Symptom {
                    promise: failure.promise,
                    oracle: oracle.to_owned(),
                    detail: detail.to_owned(),
                };
                if !all.contains(&symptom) {
                    all.push(symptom);
                }
            };
            match (failure.promise, failure.oracle.as_str()) {
                (None, "stopped") => match failure.evidence.strip_prefix("panic: ") {
                    Some(text) => add("panic", place(text)),
                    // Behind the colon is what depends on the plan.
                    None => add("stopped", failure.evidence.split(':').next().unwrap_or("")),
                },
                (Some(promise), oracle) => {
                    let judged = outcome.promises.get(&promise);
                    for broken in judged.iter().flat_map(|judged| &judged.broken) {
                        add(&broken.oracle, "");
                    }
                    add(oracle, "");
                }
                (None, oracle) => add(oracle, ""),
            }
        }
        all.sort_by_key(Symptom::rank);
        all
    }

    fn rank(&self) -> u8 {
        match (self.promise, self.oracle.as_str()) {
            (None, "panic") => 0,
            (Some(promise), _) if promise.safety() => 1,
            (None, "stopped") => 2,
            _ => 3,
        }
    }

    /// The plan that asks for nothing but what it fails with.
    pub fn alone(&self, plan: &Plan) -> Smaller {
        let mut smaller = plan.clone();
        let is = |goal: &str| self.oracle == goal;
        let downtime = self.promise == Some(Promise::G);
        let recovery = self.promise == Some(Promise::P);
        let old = &plan.expect;
        smaller.expect = Expect {
            promises: self
                .promise
                .map_or_else(String::new, |p| p.letter().to_string()),
            gap_max_ms: old.gap_max_ms.filter(|_| is("gap")),
            read_max_ms: old.read_max_ms.filter(|_| is("reads")),
            tail_max_ms: old.tail_max_ms.filter(|_| is("tails")),
            failed_calls_max: old.failed_calls_max.filter(|_| downtime),
            recovery_max_ms: old.recovery_max_ms.filter(|_| recovery),
            refusal_max_ms: old
                .refusal_max_ms
                .filter(|_| is("refusals") || is("cut-off-reads")),
            age_p99_max_ms: old.age_p99_max_ms.filter(|_| is("age-p99")),
            leaderless_max_ms: old.leaderless_max_ms.filter(|_| is("leaderless")),
            rest_max_ms: old.rest_max_ms.filter(|_| is("rest")),
            snapshots_max: old.snapshots_max.filter(|_| is("snapshots")),
            acked_min: if is("acked") { old.acked_min } else { 0 },
            pending: Vec::new(),
        };
        Smaller {
            plan: smaller,
            what: "other expectations".to_owned(),
        }
    }
}

impl fmt::Display for Symptom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(promise) = self.promise {
            write!(f, "{} {}: ", promise.letter(), promise.word())?;
        }
        f.write_str(&self.oracle)?;
        match self.detail.is_empty() {
            true => Ok(()),
            false => write!(f, " ({})", self.detail),
        }
    }
}

/// Where a panic was, if its text says so: `(file:line:column)` at its end.
fn place(text: &str) -> &str {
    let last = text
        .split(';')
        .next()
        .and_then(|text| text.rsplit_once('('));
    last.map_or("", |(_, place)| place.trim_end_matches(')'))
}

impl Size {
    /// Of a plan.
    pub fn of(plan: &Plan) -> Size {
        let load = &plan.workload;
        let readers = &load.readers;
        let clients = [
            load.senders,
            readers.linearizable,
            readers.session,
            readers.bounded,
            readers.local,
            load.tails,
            load.movers,
        ];
        Size {
            events: plan.events.len(),
            nodes: plan.topology.nodes().count(),
            clients: clients.into_iter().map(u64::from).sum(),
            load_ms: plan.workload.duration_ms,
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} events, {} nodes, {} clients, {:.1} s",
            self.events,
            self.nodes,
            self.clients,
            self.load_ms as f64 / 1e3
        )
    }
}

/// `plan` changed, unless nothing changed.
fn changed(plan: &Plan, what: &str, change: impl FnOnce(&mut Plan)) -> Option<Smaller> {
    let mut smaller = plan.clone();
    change(&mut smaller);
    (smaller != *plan).then(|| Smaller {
        plan: smaller,
        what: what.to_owned(),
    })
}

/// Ranges of `count` things to take away: all, then halves, quarters, and at last each.
fn chunks(count: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let sizes = std::iter::successors(Some(count), |size| (*size > 1).then(|| size.div_ceil(2)));
    let sizes = sizes.filter(|size| *size > 0);
    sizes.flat_map(move |size| {
        let starts = (0..count).step_by(size);
        starts.map(move |start| start..count.min(start + size))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{Variant, load};
    use crate::plan::Tier;

    fn plan(scenario: &str, seed: u64) -> Plan {
        let file = load(scenario).unwrap();
        file.plan(seed, Variant::Ours, Tier::Direct)
    }

    /// Shrinks as the command does, with a test in place of runs.
    fn shrink(mut plan: Plan, fails: impl Fn(&Plan) -> bool) -> Plan {
        loop {
            let before = plan.clone();
            for stage in STAGES {
                while let Some(next) = stage(&plan).into_iter().find(|next| fails(&next.plan)) {
                    assert_ne!(next.plan, plan, "{}", next.what);
                    plan = next.plan;
                }
            }
            if plan == before {
                return plan;
            }
        }
    }

    #[test]
    fn what_fails_whatever_is_in_it_shrinks_to_next_to_nothing() {
        for scenario in ["dc-crash", "dc-silent", "calm"] {
            let smallest = shrink(plan(scenario, 3), |_| true);
            let size = Size::of(&smallest);
            assert_eq!((size.events, size.nodes), (0, 3), "{size}");
            assert!(size.clients <= 1 && size.load_ms <= 1_000, "{size}");
        }
    }

    #[test]
    fn what_it_takes_to_fail_stays_and_a_fault_keeps_its_end() {
        let whole = plan("all-power-cut", 2);
        let cut = |plan: &Plan| {
            let kinds = plan.events.iter().map(|event| event.fault.kind());
            kinds.clone().any(|kind| kind == "power-cut") && plan.workload.senders >= 4
        };
        let smallest = shrink(whole.clone(), cut);
        assert!(cut(&smallest));
        assert_eq!(smallest.workload.senders, 4);
        let (before, after) = (Size::of(&whole), Size::of(&smallest));
        assert!(after.events <= before.events && after.clients < before.clients);
        let hosts = |ends: bool| {
            let events = smallest.events.iter();
            let some = events.filter(move |event| event.fault.ends() == ends);
            let mut hosts: Vec<&str> = some.flat_map(|event| event.fault.whom().0).collect();
            hosts.sort_unstable();
            hosts
        };
        assert_eq!(hosts(true), hosts(false), "{:?}", smallest.events);
    }

    #[test]
    fn every_candidate_is_smaller_in_something_and_never_without_nodes() {
        for scenario in ["dc-crash", "all-power-cut"] {
            let whole = plan(scenario, 5);
            for candidate in STAGES.iter().flat_map(|stage| stage(&whole)) {
                assert_ne!(candidate.plan, whole, "{}", candidate.what);
                assert!(candidate.plan.topology.nodes().count() >= 3);
                assert!(!candidate.plan.workload.sites.is_empty());
                let times: Vec<u64> = candidate.plan.events.iter().map(|e| e.at_ms).collect();
                assert!(times.is_sorted(), "{}: {times:?}", candidate.what);
            }
        }
    }

    #[test]
    fn chunks_go_from_all_to_each() {
        let all: Vec<_> = chunks(4).collect();
        assert_eq!(all, [0..4, 0..2, 2..4, 0..1, 1..2, 2..3, 3..4]);
        assert_eq!(chunks(0).count(), 0);
        assert_eq!(chunks(1).collect::<Vec<_>>(), vec![0..1]);
    }

    #[test]
    fn a_panic_is_known_by_its_place() {
        assert_eq!(
            place("index out of (bounds) (server/src/a.rs:3:4)"),
            "server/src/a.rs:3:4"
        );
        assert_eq!(place("no place"), "");
    }
}
