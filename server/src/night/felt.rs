//! What was done to the cluster, as far as the nodes felt it.
//!
//! A node that is dead says nothing, so this is told from what it said before and after, and from what the
//! others said of it:
//!
//! ```text
//!  it says itself                                            it was
//!   stops as asked, perhaps starts again ──────────────────► asked to stop
//!   a start without a stop before; others: reset ──────────► killed      │ others: silent ─► without power
//!   stood still ───────────────────────────────────────────► still, its clocks going on or suspended
//!  it says nothing any more, and others: reset or silent ──► killed, or without power, for good
//!  none of these, and two nodes do not hear each other ────► cut off, in pairs that are put together
//! ```

use std::collections::{BTreeMap, BTreeSet};

use proto::v1::record::What;
use serde::Serialize;

use super::Night;

/// A shorter standstill is lateness and no fault, ms.
const STOOD_MIN_MS: u64 = 700;
/// What befell several nodes within this was one thing, ms.
const TOGETHER_MS: u64 = 2_500;
/// Around a node's being down, others' not hearing it needs no other reason, ms.
const AROUND_MS: u64 = 3_000;
/// By how much agreed times of two nodes may differ, ms.
const CLOCKS_MS: u64 = 100;

/// What befell nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// They were asked to stop.
    Stopped,
    /// Their processes ended, and their machines said so.
    Killed,
    /// They fell silent, and started again or not.
    PowerLost,
    /// No instruction ran; their clocks went on.
    Still,
    /// Their machines were suspended.
    Suspended,
    /// They and others did not hear each other.
    CutOff,
    /// Their logs waited for their disks.
    DiskStalled,
    /// An operator had them give away what they led.
    Drained,
    /// Their wall clocks were off.
    ClockOff,
}

/// Something that befell nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Felt {
    /// What.
    pub kind: Kind,
    /// Whom: node ids.
    pub nodes: BTreeSet<u64>,
    /// From whom they were cut off; empty for everything else.
    pub others: BTreeSet<u64>,
    /// When it began, Unix milliseconds.
    pub from_ms: u64,
    /// When it ended; none where it had not by the end of the time.
    pub to_ms: Option<u64>,
    /// By how much clocks were off, ms.
    pub off_ms: i64,
    /// How that is known, for people.
    pub evidence: String,
}

/// What was felt, by time.
pub fn felt(night: &Night) -> Vec<Felt> {
    let mut felt = Vec::new();
    for node in night.names().into_keys() {
        felt.extend(by_itself(night, node));
        felt.extend(down(night, node));
    }
    let cuts = cuts(night, &felt);
    felt.extend(cuts);
    // A sync that a standstill held up says nothing of its disk.
    let stood = felt.clone();
    felt.retain(|one| one.kind != Kind::DiskStalled || !stood.iter().any(|s| held_up(one, s)));
    felt.sort_by_key(|one| (one.from_ms, one.kind, one.nodes.clone()));
    together(night, felt)
}

/// Whether a disk that did not answer was that of a node that stood still.
fn held_up(stall: &Felt, stood: &Felt) -> bool {
    let still = matches!(stood.kind, Kind::Still | Kind::Suspended);
    let to = stood.to_ms.unwrap_or(u64::MAX).saturating_add(AROUND_MS);
    still && stood.nodes == stall.nodes && (stood.from_ms..=to).contains(&stall.from_ms)
}

fn one(kind: Kind, node: u64, from_ms: u64, to_ms: Option<u64>, evidence: &str) -> Felt {
    Felt {
        kind,
        nodes: [node].into(),
        others: BTreeSet::new(),
        from_ms,
        to_ms,
        off_ms: 0,
        evidence: evidence.to_owned(),
    }
}

/// What a node says of itself: standstills, its disk, its clock, drains.
fn by_itself(night: &Night, node: u64) -> Vec<Felt> {
    let mut felt: Vec<Felt> = Vec::new();
    let end = |felt: &mut Vec<Felt>, kind: Kind, at: u64| {
        let open = felt.iter_mut().rev().find(|one| one.kind == kind);
        if let Some(open) = open.filter(|open| open.to_ms.is_none()) {
            open.to_ms = Some(at);
        }
    };
    for (at, what) in night.records(node) {
        match what {
            What::Stood(stood) if stood.lasted_ms >= STOOD_MIN_MS => {
                let kind = match stood.suspended {
                    true => Kind::Suspended,
                    false => Kind::Still,
                };
                let from = at.saturating_sub(stood.lasted_ms);
                felt.push(one(kind, node, from, Some(at), "it says so itself"));
            }
            What::Stall(stall) if stall.node_id == node && stall.stalled => {
                // A second has passed by then.
                let from = at.saturating_sub(1_000);
                felt.push(one(
                    Kind::DiskStalled,
                    node,
                    from,
                    None,
                    "it says so itself",
                ));
            }
            What::Stall(stall) if stall.node_id == node => end(&mut felt, Kind::DiskStalled, at),
            What::Clock(clock) if clock.node_id == node && clock.off => felt.push(Felt {
                off_ms: clock.off_ms,
                ..one(Kind::ClockOff, node, at, None, "it says so itself")
            }),
            What::Clock(clock) if clock.node_id == node => end(&mut felt, Kind::ClockOff, at),
            What::Drain(drain) if drain.step == "begun" => {
                felt.push(one(Kind::Drained, node, at, None, "it says so itself"));
            }
            What::Drain(drain) if drain.step == "ended" => end(&mut felt, Kind::Drained, at),
            _ => {}
        }
    }
    felt
}

/// When others stopped hearing a node within a time: the first that did, what it said, and since when it
/// had heard nothing.
fn lost(night: &Night, node: u64, (from, to): (u64, u64)) -> Option<(u64, bool)> {
    let events = night.events();
    let verdicts = events.iter().filter_map(|(at, by, what)| match what {
        What::Verdict(v) if v.peer == node && *by != node => Some((*at, v)),
        _ => None,
    });
    let within = verdicts.filter(|(at, _)| (from..=to).contains(at));
    let found = within.filter_map(|(at, v)| match v.verdict.as_str() {
        "reset" | "refused" => Some((at, true)),
        "silent" => Some((at.saturating_sub(v.limit_ms), false)),
        _ => None,
    });
    found.min_by_key(|(at, _)| *at)
}

/// When a node was down: between its starts, and behind its last word.
fn down(night: &Night, node: u64) -> Vec<Felt> {
    let mut felt = Vec::new();
    // Its last word, and whether that was that it stops.
    let (mut last, mut stopping) = (None, None);
    for (at, what) in night.records(node) {
        match what {
            What::Started(_) => {
                let asked = stopping.take();
                // At the head of each file it says again who it is.
                let fresh = asked.is_some() || began_anew(night, node, at);
                if let Some(before) = last.filter(|_| fresh) {
                    felt.push(death(night, node, (before, at), asked, Some(at)));
                } else if last.is_none() && is_start(night, node, at) {
                    // What it had said before was lost with it; others know when.
                    let before = (night.from_ms, at);
                    if lost(night, node, before).is_some() {
                        felt.push(death(night, node, before, asked, Some(at)));
                    }
                }
            }
            What::Stop(stop) if !stop.done => stopping = Some(at),
            _ => {}
        }
        last = Some(at);
    }
    match (last, stopping) {
        (_, Some(asked)) => felt.push(one(Kind::Stopped, node, asked, None, "it says so itself")),
        (last, None) => {
            let from = last.map_or(night.from_ms, |last| last.saturating_sub(AROUND_MS));
            let silent = ends_unheard(night, node);
            // One that noted something well behind that lived on.
            let dead = |at: u64| last.is_none_or(|last| at + CLOCKS_MS >= last);
            let found = lost(night, node, (from, night.to_ms));
            if let Some((at, _)) = found.filter(|(at, _)| silent && dead(*at)) {
                felt.push(death(night, node, (at, night.to_ms), None, None));
            }
        }
    }
    felt
}

/// Whether a node began to run at this moment, rather than say again who it is.
fn is_start(night: &Night, node: u64, at: u64) -> bool {
    const BEGUN_US: u64 = 1_000_000;
    let nodes = night.nodes.iter().filter(|one| one.node_id == node);
    let mut records = nodes.flat_map(|one| &one.records);
    records.any(|record| {
        let starts = matches!(record.what, Some(What::Started(_)));
        starts && record.run_us < BEGUN_US && super::at_ms(record) == at
    })
}

/// Whether the record of a start at this moment is of another start than what was before.
fn began_anew(night: &Night, node: u64, at: u64) -> bool {
    let nodes = night.nodes.iter().filter(|one| one.node_id == node);
    let records: Vec<_> = nodes.flat_map(|one| &one.records).collect();
    let here = records.iter().position(|record| {
        super::at_ms(record) == at && matches!(record.what, Some(What::Started(_)))
    });
    here.is_some_and(|here| here > 0 && records[here - 1].boot != records[here].boot)
}

/// Whether nobody hears a node at the end of the time.
fn ends_unheard(night: &Night, node: u64) -> bool {
    let mut says: BTreeMap<u64, bool> = BTreeMap::new();
    for (_, by, what) in night.events() {
        if let What::Verdict(v) = what
            && v.peer == node
            && by != node
        {
            says.insert(by, v.verdict == "up");
        }
    }
    !says.is_empty() && says.values().all(|up| !up)
}

/// A node that went down between its last word and its next, or the end of the time.
fn death(
    night: &Night,
    node: u64,
    (last, next): (u64, u64),
    asked: Option<u64>,
    back: Option<u64>,
) -> Felt {
    if let Some(at) = asked {
        return one(Kind::Stopped, node, at, back, "it says so itself");
    }
    let around = (last.saturating_sub(AROUND_MS), next);
    match lost(night, node, around) {
        Some((at, true)) => one(Kind::Killed, node, at, back, "its connections were reset"),
        Some((at, false)) => one(Kind::PowerLost, node, at, back, "it fell silent"),
        None => one(
            Kind::Killed,
            node,
            last,
            back,
            "it started again without a stop",
        ),
    }
}

/// Pairs that did not hear each other, and neither of which was down or still.
fn cuts(night: &Night, felt: &[Felt]) -> Vec<Felt> {
    let down = |node: u64, at: u64| {
        felt.iter().any(|one| {
            let is_down = !matches!(one.kind, Kind::Drained | Kind::ClockOff | Kind::DiskStalled);
            let to = one.to_ms.unwrap_or(u64::MAX).saturating_add(AROUND_MS);
            is_down
                && one.nodes.contains(&node)
                && (one.from_ms.saturating_sub(AROUND_MS)..=to).contains(&at)
        })
    };
    let mut open: BTreeMap<(u64, u64), Felt> = BTreeMap::new();
    let mut ended = Vec::new();
    for (at, by, what) in night.events() {
        let What::Verdict(v) = what else { continue };
        let pair = (by.min(v.peer), by.max(v.peer));
        match v.verdict.as_str() {
            "silent" | "refused" if !down(by, at) && !down(v.peer, at) => {
                let from = at.saturating_sub(v.limit_ms);
                let (a, b) = pair;
                let why = "neither was down, and they did not hear each other";
                open.entry(pair).or_insert_with(|| Felt {
                    others: [b].into(),
                    ..one(Kind::CutOff, a, from, None, why)
                });
            }
            "up" => {
                if let Some(mut cut) = open.remove(&pair) {
                    cut.to_ms = Some(at);
                    ended.push(cut);
                }
            }
            _ => {}
        }
    }
    ended.extend(open.into_values());
    ended.sort_by_key(|cut| cut.from_ms);
    sides(ended)
}

/// Cuts that began together as one, between two sides, where all pairs of the two are cut; whatever does
/// not fit stays a pair.
fn sides(cuts: Vec<Felt>) -> Vec<Felt> {
    let mut waves: Vec<Vec<Felt>> = Vec::new();
    for cut in cuts {
        match waves.last_mut() {
            Some(wave) if cut.from_ms - wave[0].from_ms <= TOGETHER_MS => wave.push(cut),
            Some(_) | None => waves.push(vec![cut]),
        }
    }
    let mut sides = Vec::new();
    for wave in waves {
        let pair = |cut: &Felt| {
            let (a, b) = (cut.nodes.first(), cut.others.first());
            Some((*a?, *b?))
        };
        let pairs: BTreeSet<(u64, u64)> = wave.iter().filter_map(pair).collect();
        let Some((a, b)) = split(&pairs) else {
            sides.extend(wave);
            continue;
        };
        let first = wave.iter().map(|cut| cut.from_ms).min().unwrap_or(0);
        let ends: Option<Vec<u64>> = wave.iter().map(|cut| cut.to_ms).collect();
        sides.push(Felt {
            nodes: a,
            others: b,
            to_ms: ends.and_then(|ends| ends.into_iter().max()),
            ..one(Kind::CutOff, 0, first, None, &wave[0].evidence)
        });
    }
    sides
}

/// The two sides of a cut: every node of one is cut from every node of the other.
fn split(pairs: &BTreeSet<(u64, u64)>) -> Option<(BTreeSet<u64>, BTreeSet<u64>)> {
    let first = pairs.first()?;
    let cut = |a: u64, b: u64| pairs.contains(&(a.min(b), a.max(b)));
    let all: BTreeSet<u64> = pairs.iter().flat_map(|(a, b)| [*a, *b]).collect();
    let far: BTreeSet<u64> = all.iter().copied().filter(|n| cut(first.0, *n)).collect();
    let near: BTreeSet<u64> = all.difference(&far).copied().collect();
    let whole = near.iter().all(|a| far.iter().all(|b| cut(*a, *b)));
    (whole && near.len() * far.len() == pairs.len()).then_some((near, far))
}

/// What befell nodes of one data center at the same time was one thing.
fn together(night: &Night, felt: Vec<Felt>) -> Vec<Felt> {
    let mut merged: Vec<Felt> = Vec::new();
    for one in felt {
        let dc = |felt: &Felt| felt.nodes.first().map(|node| night.dc_of(*node).to_owned());
        let near = |a: u64, b: u64| a.abs_diff(b) <= TOGETHER_MS;
        let same = |known: &&mut Felt| {
            let ends = match (known.to_ms, one.to_ms) {
                (Some(a), Some(b)) => near(a, b),
                (None, None) => true,
                _ => false,
            };
            let alike = known.kind == one.kind && known.off_ms == one.off_ms;
            alike
                && one.others.is_empty()
                && dc(known) == dc(&one)
                && ends
                && near(known.from_ms, one.from_ms)
        };
        match merged.iter_mut().rev().find(same) {
            Some(known) => known.nodes.extend(one.nodes),
            None => merged.push(one),
        }
    }
    merged
}

#[cfg(test)]
#[path = "felt_tests.rs"]
mod tests;
