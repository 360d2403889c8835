//! Fewer faults, and rounder times.

use std::collections::{BTreeMap, BTreeSet};

use super::{Smaller, changed, chunks};
use crate::plan::{Event, Fault, Plan};

/// A moment of load before the first fault is enough, ms.
const QUIET_MS: u64 = 1_000;

/// Without lines of the timeline. A line that ends what another one began goes with it.
pub(super) fn lines(plan: &Plan) -> Vec<Smaller> {
    let events = &plan.events;
    let mut labels = together(events);
    for (at, event) in events.iter().enumerate() {
        let first = events.iter().position(|other| other.line == event.line);
        merge(&mut labels, at, first.unwrap_or(at));
    }
    without(plan, &groups(&labels))
}

/// Without single faults of a line that has several, each with its end.
pub(super) fn units(plan: &Plan) -> Vec<Smaller> {
    without(plan, &groups(&together(&plan.events)))
}

fn without(plan: &Plan, groups: &[Vec<usize>]) -> Vec<Smaller> {
    let without = chunks(groups.len()).filter_map(|range| {
        let gone: BTreeSet<usize> = groups[range].iter().flatten().copied().collect();
        let kinds: BTreeSet<&str> = gone
            .iter()
            .map(|at| plan.events[*at].fault.kind())
            .collect();
        let kinds: Vec<&str> = kinds.into_iter().collect();
        changed(plan, &kinds.join(", "), |plan| {
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

/// For each event, the first one of those that it belongs together with: a fault and what ends it.
fn together(events: &[Event]) -> Vec<usize> {
    let mut labels: Vec<usize> = (0..events.len()).collect();
    for (at, begin) in events.iter().enumerate() {
        let (hosts, others) = begin.fault.whom();
        // One fault of many hosts may end for one after the other.
        for host in hosts {
            let ends = |end: &Event| {
                let (from, to) = end.fault.whom();
                let meets = others.is_empty() || others.iter().any(|other| to.contains(other));
                end.fault.closes(&begin.fault) && from.contains(&host) && meets
            };
            let mut later = events.iter().enumerate().skip(at + 1);
            if let Some((end, _)) = later.find(|(_, end)| ends(end)) {
                merge(&mut labels, at, end);
            }
        }
    }
    labels
}

fn merge(labels: &mut [usize], one: usize, other: usize) {
    let (low, high) = (
        labels[one].min(labels[other]),
        labels[one].max(labels[other]),
    );
    for label in labels.iter_mut().filter(|label| **label == high) {
        *label = low;
    }
}

fn groups(labels: &[usize]) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (at, label) in labels.iter().enumerate() {
        groups.entry(*label).or_default().push(at);
    }
    groups.into_values().collect()
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
        Fault::Cut { from, to, .. }
        | Fault::Block { from, to, .. }
        | Fault::Heal { from, to }
        | Fault::Reset { from, to } => vec![from, to],
        // Between data centers, which stay.
        Fault::Link { .. } => Vec::new(),
        one_by_one => one_by_one.hosts_mut().into_iter().collect(),
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
        let groups = groups(&together(&events));
        assert_eq!(groups, [vec![0, 3], vec![1, 2], vec![4]]);
    }

    #[test]
    fn hosts_that_fall_together_and_rise_one_by_one_stay_together() {
        let down = |at, line, names: &[&str]| {
            let hosts = hosts(names);
            event(at, line, Fault::PowerCut { hosts })
        };
        let up = |at, line, names: &[&str]| {
            let hosts = hosts(names);
            event(at, line, Fault::Start { hosts })
        };
        let events = [
            down(1, 0, &["a", "b"]),
            down(2, 1, &["c"]),
            up(3, 2, &["b"]),
            up(4, 3, &["a"]),
        ];
        assert_eq!(groups(&together(&events)), [vec![0, 2, 3], vec![1]]);
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
