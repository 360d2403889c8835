//! A shorter, lighter and plainer load.

use super::{Smaller, changed};
use crate::plan::{Plan, Readers};

/// The shortest load that is tried, ms.
const LOAD_MIN_MS: u64 = 1_000;
/// How long the load goes on behind the last fault, at least, ms.
const BEHIND_MS: u64 = 1_000;

/// Shorter.
pub(super) fn time(plan: &Plan) -> Vec<Smaller> {
    let whole = plan.workload.duration_ms;
    let last = plan.events.iter().map(|event| event.at_ms).max();
    let least = last.map_or(LOAD_MIN_MS, |last| last + BEHIND_MS);
    let shorter = [least, whole / 2, whole - whole / 4].map(|ms| ms.max(least));
    let shorter = shorter.into_iter().filter(|ms| *ms < whole);
    let with =
        shorter.filter_map(|ms| changed(plan, "time", |plan| plan.workload.duration_ms = ms));
    with.collect()
}

/// With fewer senders, readers, tails and movers, in fewer rooms.
pub(super) fn clients(plan: &Plan) -> Vec<Smaller> {
    let mut smaller = Vec::new();
    let mut with = |what: &str, change: &dyn Fn(&mut Plan)| {
        smaller.extend(changed(plan, what, change));
    };
    with("all readers", &|plan| {
        let readers = &mut plan.workload.readers;
        *readers = Readers {
            linearizable: 0,
            session: 0,
            bounded: 0,
            local: 0,
            ..*readers
        };
    });
    with("all tails", &|plan| plan.workload.tails = 0);
    with("all movers", &|plan| plan.workload.movers = 0);
    with("all changers", &|plan| plan.workload.changers = 0);
    let counts: [(&str, Count, u32); 8] = [
        (
            "LINEARIZABLE readers",
            |plan| &mut plan.workload.readers.linearizable,
            0,
        ),
        (
            "SESSION readers",
            |plan| &mut plan.workload.readers.session,
            0,
        ),
        (
            "BOUNDED readers",
            |plan| &mut plan.workload.readers.bounded,
            0,
        ),
        ("LOCAL readers", |plan| &mut plan.workload.readers.local, 0),
        ("tails", |plan| &mut plan.workload.tails, 0),
        ("movers", |plan| &mut plan.workload.movers, 0),
        ("senders", |plan| &mut plan.workload.senders, 1),
        ("rooms", |plan| &mut plan.workload.rooms, 1),
    ];
    for (what, count, least) in counts {
        for fewer in [
            |_| 0,
            |n| n / 2,
            |n| n - n / 4,
            |n: u32| n.saturating_sub(1),
        ] {
            with(what, &|plan| {
                let least = match what {
                    "rooms" => least.max(plan.workload.rooms_needed()),
                    _ => least,
                };
                let count = count(plan);
                *count = fewer(*count).max(least).min(*count);
            });
        }
    }
    smaller
}

/// A number of a plan.
type Count = fn(&mut Plan) -> &mut u32;
/// What makes a plan plainer.
type Change = fn(&mut Plan);

/// Plainer: one way of sending, nothing sent again, small bodies, even rooms, plain links.
pub(super) fn shape(plan: &Plan) -> Vec<Smaller> {
    let changes: [(&str, Change); 8] = [
        ("what is sent again", |plan| {
            plan.workload.resend_percent = 0
        }),
        ("tails' resumes", |plan| plan.workload.tail_resume_ms = 0),
        ("favoured rooms", |plan| plan.workload.zipf_milli = 0),
        ("large bodies", |plan| {
            let least = plan.workload.body_bytes.0;
            plan.workload.body_bytes.1 = least;
        }),
        ("streams", |plan| plan.workload.stream_percent = 0),
        ("single calls", |plan| {
            // Only where it is mixed, or it would go back and forth with the one before.
            if plan.workload.stream_percent > 0 {
                plan.workload.stream_percent = 100;
            }
        }),
        ("links of their own", |plan| plan.topology.links.clear()),
        ("jitter and loss", |plan| {
            let topology = &mut plan.topology;
            let others = topology.links.iter_mut().map(|one| &mut one.link);
            for link in others.chain([&mut topology.local, &mut topology.wan]) {
                link.jitter_us = 0;
                link.loss_ppm = 0;
            }
        }),
    ];
    let smaller = changes.iter();
    smaller
        .filter_map(|(what, change)| changed(plan, what, change))
        .collect()
}
