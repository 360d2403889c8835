//! The debrief: of each event when it was seen, when something was decided and when it was done, and what
//! clients felt, beside other runs of the same seed.

use std::collections::BTreeSet;

use serde::Serialize;

use super::notes::{Note, What};
use crate::outcome::{Outcome, Verdict};
use crate::plan::{self, Plan};

/// What an event does to what operators see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shows {
    /// Nodes are not reached any more.
    Gone,
    /// Nodes are reached again.
    Back,
    /// Nothing by itself: a disk is slow, clients come back.
    Nothing,
}

/// Something that the scenario does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When it begins, ms after the load began.
    pub at_ms: u64,
    /// What, for people.
    pub what: String,
    /// The nodes that are gone by it, or back, and were not before.
    pub nodes: BTreeSet<String>,
    /// Whether that can be seen.
    pub shows: Shows,
}

/// An event, and what was done about it; moments are ms after the load began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// It.
    #[serde(flatten)]
    pub event: Event,
    /// When an answer first showed it, or a node's silence did.
    pub saw_at_ms: Option<u64>,
    /// When first a change was asked for behind that, or what one would do.
    pub decided_at_ms: Option<u64>,
    /// When the first change behind that was done.
    pub acted_at_ms: Option<u64>,
}

impl Step {
    /// From the event until it was seen, ms.
    pub fn to_see_ms(&self) -> Option<u64> {
        Some(self.saw_at_ms? - self.event.at_ms)
    }

    /// From there until something was decided, ms.
    pub fn to_decide_ms(&self) -> Option<u64> {
        Some(self.decided_at_ms? - self.saw_at_ms?)
    }

    /// From there until it was done, ms.
    pub fn to_act_ms(&self) -> Option<u64> {
        Some(self.acted_at_ms? - self.decided_at_ms?)
    }
}

/// What clients felt in one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Felt {
    /// Whose run it is.
    pub run: String,
    /// How it ended.
    pub verdict: Verdict,
    /// Why it stopped before its end, if it did.
    pub stopped: Option<String>,
    /// The longest wait of one sender between two acknowledgements, ms.
    pub gap_ms: u64,
    /// Calls that failed.
    pub failed_calls: u64,
    /// Messages acknowledged.
    pub acked: u64,
    /// Of those lost.
    pub lost: u64,
}

impl Felt {
    /// Of a run.
    pub fn of(run: impl Into<String>, outcome: &Outcome) -> Felt {
        Felt {
            run: run.into(),
            verdict: outcome.verdict,
            stopped: outcome.stopped.clone(),
            gap_ms: outcome.longest_gap_ms,
            failed_calls: outcome.failed_calls,
            acked: outcome.acked,
            lost: outcome.lost,
        }
    }

    /// Less is better.
    fn harm(&self) -> (Verdict, u64, u64, u64, std::cmp::Reverse<u64>) {
        let acked = std::cmp::Reverse(self.acked);
        (
            self.verdict,
            self.lost,
            self.failed_calls,
            self.gap_ms,
            acked,
        )
    }
}

/// How a training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// The scenario was over.
    Over,
    /// Whoever is trained was done before; the rest ran without them.
    Done,
}

/// All that is told at the end.
#[derive(Clone, Debug, Serialize)]
pub struct Debrief {
    /// Which scenario.
    pub scenario: String,
    /// Which run of it.
    pub seed: u64,
    /// Virtual seconds to a real one, as asked for.
    pub speed: f64,
    /// By how much the virtual clock was behind at most, ms of real time.
    pub late_ms: u64,
    /// How it ended.
    pub ended: Ended,
    /// When, ms after the load began.
    pub ended_at_ms: u64,
    /// What happened, and what was done about it.
    pub steps: Vec<Step>,
    /// What was asked for, and what became of it.
    pub asked: Vec<Note>,
    /// What clients felt.
    pub felt: Felt,
    /// The same in other runs of the seed.
    pub others: Vec<Felt>,
    /// The run among those that hurt least, and why it is right.
    pub best: Option<Best>,
}

/// The best run of a seed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Best {
    /// Which.
    pub run: String,
    /// What is to be learned from it.
    pub why: String,
    /// When its change was asked for, ms after the load began; none where it needs none.
    pub acts_at_ms: Option<u64>,
}

impl Debrief {
    /// 3 when a promise of safety broke, 1 when a goal was missed or what could be seen was not, else 0.
    pub fn exit_code(&self) -> u8 {
        let code = self.felt.verdict.exit_code();
        code.max(u8::from(!self.saw_all()))
    }

    /// Whether the first event that could be seen was.
    pub fn saw_all(&self) -> bool {
        let mut gone = self.steps.iter();
        let first = gone.find(|step| step.event.shows == Shows::Gone);
        first.is_none_or(|step| step.saw_at_ms.is_some())
    }
}

/// The run that hurts least; the first of those that are alike.
pub fn least(runs: &[Felt]) -> Option<&Felt> {
    runs.iter().min_by_key(|run| run.harm())
}

/// What a plan does, in the order of time.
pub fn events(plan: &Plan) -> Vec<Event> {
    let names: BTreeSet<&str> = plan
        .topology
        .nodes()
        .map(|(_, node)| node.name.as_str())
        .collect();
    let mut order: Vec<&plan::Event> = plan.events.iter().collect();
    order.sort_by_key(|event| event.at_ms);
    let mut events: Vec<Event> = Vec::new();
    let (mut gone, mut last) = (BTreeSet::new(), None);
    for event in order {
        let key = (event.at_ms, event.line, event.fault.ends());
        if last.replace(key) == Some(key) {
            // The same seen from its other side.
            continue;
        }
        let touched = touched(&event.fault, &names);
        let (nodes, shows) = match shows(event.fault.kind()) {
            Shows::Gone => (&touched - &gone, Shows::Gone),
            Shows::Back => (&touched & &gone, Shows::Back),
            Shows::Nothing => (BTreeSet::new(), Shows::Nothing),
        };
        match shows {
            Shows::Gone => gone.extend(nodes.iter().cloned()),
            Shows::Back => gone.retain(|node| !nodes.contains(node)),
            Shows::Nothing => {}
        }
        let whom: Vec<&str> = touched.iter().map(String::as_str).collect();
        let what = format!("{} of {}", event.fault.kind(), whom.join(", "));
        events.push(Event {
            at_ms: event.at_ms,
            what: event.label.clone().unwrap_or(what),
            shows: match nodes.is_empty() {
                true => Shows::Nothing,
                false => shows,
            },
            nodes,
        });
    }
    events
}

fn shows(kind: &str) -> Shows {
    match kind {
        "burn" | "power-cut" | "crash" | "kill" | "stop" | "pause" | "cut" => Shows::Gone,
        "start" | "resume" | "heal" => Shows::Back,
        _ => Shows::Nothing,
    }
}

/// The nodes that a fault befalls; of one between two sides those of the smaller one.
fn touched(fault: &plan::Fault, names: &BTreeSet<&str>) -> BTreeSet<String> {
    let (one, other) = fault.whom();
    let nodes = |side: Vec<&str>| -> BTreeSet<String> {
        let nodes = side.into_iter().filter(|name| names.contains(name));
        nodes.map(str::to_owned).collect()
    };
    let (one, other) = (nodes(one), nodes(other));
    match other.is_empty() || one.len() <= other.len() {
        true => one,
        false => other,
    }
}

/// What was done about each event, by what was seen.
pub fn steps(events: &[Event], notes: &[Note]) -> Vec<Step> {
    let of = |event: &Event| {
        let first = |from_ms: u64, which: &dyn Fn(&Note) -> bool| {
            let mut later = notes.iter().filter(|note| note.at_ms >= from_ms);
            later.find(|note| which(note)).map(|note| note.at_ms)
        };
        let saw_at_ms = first(event.at_ms, &|note| sees(event, note));
        let decides =
            |note: &Note| matches!(note.what, What::Asked { .. } | What::Rehearsed { .. });
        let decided_at_ms = saw_at_ms
            .filter(|_| event.shows == Shows::Gone)
            .and_then(|saw| first(saw, &decides));
        let done = |note: &Note| matches!(note.what, What::Applied { .. });
        let acted_at_ms = decided_at_ms.and_then(|decided| first(decided, &done));
        Step {
            event: event.clone(),
            saw_at_ms,
            decided_at_ms,
            acted_at_ms,
        }
    };
    events.iter().map(of).collect()
}

/// Whether whoever got this could see the event in it.
fn sees(event: &Event, note: &Note) -> bool {
    match (&note.what, event.shows) {
        (What::Looked { troubled }, Shows::Gone) => !troubled.is_disjoint(&event.nodes),
        (What::Looked { troubled }, Shows::Back) => troubled.is_disjoint(&event.nodes),
        (
            What::Silent {
                node,
                asked_ms_before,
            },
            Shows::Gone,
        ) => {
            // What it was asked before it was gone, it may have owed for other reasons.
            let asked_at_ms = note.at_ms.saturating_sub(*asked_ms_before);
            asked_at_ms >= event.at_ms && event.nodes.contains(node)
        }
        _ => false,
    }
}

#[cfg(test)]
#[path = "debrief_tests.rs"]
mod tests;
