//! Fewer faults, and rounder times.

use std::collections::BTreeSet;

use super::{Smaller, changed, chunks};
use crate::plan::{Event, Fault, Plan};

/// A moment of load before the first fault is enough, ms.
const QUIET_MS: u64 = 1_000;

/// Without lines of the timeline.
pub(super) fn lines(plan: &Plan) -> Vec<Smaller> {
    let lines: BTreeSet<u32> = plan.events.iter().map(|event| event.line).collect();
    let lines: Vec<u32> = lines.into_iter().collect();
    let without = chunks(lines.len()).filter_map(|range| {
        let gone = &lines[range];
        let names: Vec<String> = gone.iter().map(|line| name(plan, *line)).collect();
        changed(plan, &names.join(", "), |plan| {
            plan.events.retain(|event| !gone.contains(&event.line));
        })
    });
    without.collect()
}

/// Without single faults of a line that has several, each with its end.
pub(super) fn units(plan: &Plan) -> Vec<Smaller> {
    let units = pairs(&plan.events);
    let without = chunks(units.len()).filter_map(|range| {
        let gone: BTreeSet<usize> = units[range].iter().flatten().copied().collect();
        let what = format!("{} single events", gone.len());
        changed(plan, &what, |plan| {
            let mut at = 0..;
            plan.events
                .retain(|_| at.next().is_none_or(|at| !gone.contains(&at)));
        })
    });
    without.collect()
}

/// With everything earlier, and at rounder times.
pub(super) fn times(plan: &Plan) -> Vec<Smaller> {
    let mut smaller = Vec::new();
    let first = plan.events.first().map_or(0, |event| event.at_ms);
    let early = first.saturating_sub(QUIET_MS);
    smaller.extend(changed(plan, "the time before the first fault", |plan| {
        for event in &mut plan.events {
            event.at_ms -= early;
        }
        plan.workload.duration_ms -= early.min(plan.workload.duration_ms);
    }));
    for round in [1_000, 100] {
        smaller.extend(changed(plan, "odd milliseconds", |plan| {
            for event in &mut plan.events {
                event.at_ms -= event.at_ms % round;
            }
        }));
    }
    smaller
}

fn name(plan: &Plan, line: u32) -> String {
    let kind = plan.events.iter().find(|event| event.line == line);
    kind.map_or_else(String::new, |event| event.fault.kind().to_owned())
}

/// Which events belong together: a fault and its end.
fn pairs(events: &[Event]) -> Vec<Vec<usize>> {
    let mut units: Vec<Vec<usize>> = Vec::new();
    let mut taken = BTreeSet::new();
    for (at, event) in events.iter().enumerate() {
        if !taken.insert(at) {
            continue;
        }
        let mut unit = vec![at];
        let ends = |other: &Event| {
            other.line == event.line
                && other.fault.ends()
                && whom(&other.fault) == whom(&event.fault)
        };
        if !event.fault.ends() {
            let later = events.iter().enumerate().skip(at + 1);
            let end = later
                .filter(|(at, _)| !taken.contains(at))
                .find(|(_, other)| ends(other));
            if let Some((end, _)) = end {
                taken.insert(end);
                unit.push(end);
            }
        }
        units.push(unit);
    }
    units
}

/// Whom a fault befalls.
fn whom(fault: &Fault) -> (Vec<&str>, Vec<&str>) {
    fn names(hosts: &[String]) -> Vec<&str> {
        hosts.iter().map(String::as_str).collect()
    }
    match fault {
        Fault::Burn { hosts }
        | Fault::PowerCut { hosts }
        | Fault::Crash { hosts, .. }
        | Fault::Kill { hosts }
        | Fault::Stop { hosts }
        | Fault::Start { hosts }
        | Fault::Pause { hosts }
        | Fault::Resume { hosts }
        | Fault::SlowSync { hosts, .. }
        | Fault::HangSync { hosts, .. }
        | Fault::FailSync { hosts, .. }
        | Fault::DiskRoom { hosts, .. }
        | Fault::BitFlip { hosts, .. }
        | Fault::WipeDisk { hosts }
        | Fault::ImageDisk { hosts }
        | Fault::OldDisk { hosts }
        | Fault::ClockJump { hosts, .. }
        | Fault::ClockDrift { hosts, .. }
        | Fault::Stampede { hosts } => (names(hosts), Vec::new()),
        Fault::Cut { from, to, .. } | Fault::Heal { from, to } | Fault::Reset { from, to } => {
            (names(from), names(to))
        }
        Fault::Link { from, to, .. } => (vec![from], vec![to]),
    }
}

/// Takes a host out of all faults, and those out that are left without any.
pub(super) fn without_host(events: &mut Vec<Event>, host: &str) {
    events.retain_mut(|event| {
        let lists = lists(&mut event.fault);
        let mut left = true;
        for list in lists {
            list.retain(|name| name != host);
            left &= !list.is_empty();
        }
        left
    });
}

fn lists(fault: &mut Fault) -> Vec<&mut Vec<String>> {
    match fault {
        Fault::Burn { hosts }
        | Fault::PowerCut { hosts }
        | Fault::Crash { hosts, .. }
        | Fault::Kill { hosts }
        | Fault::Stop { hosts }
        | Fault::Start { hosts }
        | Fault::Pause { hosts }
        | Fault::Resume { hosts }
        | Fault::SlowSync { hosts, .. }
        | Fault::HangSync { hosts, .. }
        | Fault::FailSync { hosts, .. }
        | Fault::DiskRoom { hosts, .. }
        | Fault::BitFlip { hosts, .. }
        | Fault::WipeDisk { hosts }
        | Fault::ImageDisk { hosts }
        | Fault::OldDisk { hosts }
        | Fault::ClockJump { hosts, .. }
        | Fault::ClockDrift { hosts, .. }
        | Fault::Stampede { hosts } => vec![hosts],
        Fault::Cut { from, to, .. } | Fault::Heal { from, to } | Fault::Reset { from, to } => {
            vec![from, to]
        }
        // Between data centers, which stay.
        Fault::Link { .. } => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at_ms: u64, line: u32, fault: Fault) -> Event {
        Event {
            at_ms,
            line,
            fault,
            label: None,
        }
    }

    fn hosts(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn repeated_faults_of_a_line_go_with_their_own_ends() {
        let cut = |at, to| {
            let (from, to) = (hosts(&["a"]), hosts(&[to]));
            let reset = false;
            event(at, 0, Fault::Cut { from, to, reset })
        };
        let heal = |at, to| {
            let (from, to) = (hosts(&["a"]), hosts(&[to]));
            event(at, 0, Fault::Heal { from, to })
        };
        let events = [
            cut(1, "b"),
            cut(1, "c"),
            heal(2, "c"),
            heal(2, "b"),
            cut(3, "b"),
        ];
        assert_eq!(pairs(&events), [vec![0, 3], vec![1, 2], vec![4]]);
    }

    #[test]
    fn a_host_that_is_gone_is_gone_from_faults() {
        let both = hosts(&["a", "b"]);
        let one = hosts(&["a"]);
        let mut events = vec![
            event(1, 0, Fault::Burn { hosts: both }),
            event(2, 1, Fault::Kill { hosts: one }),
        ];
        without_host(&mut events, "a");
        let left = Fault::Burn {
            hosts: hosts(&["b"]),
        };
        assert_eq!(events, [event(1, 0, left)]);
    }
}
