//! `session`, S: what a session saw it sees again, wherever it goes.

use std::collections::BTreeMap;

use super::Case;
use super::evidence::Found;
use crate::history::{AppendEnd, Level};
use crate::outcome::{Finding, Promise};

/// Something that a session saw of a conversation.
#[derive(Clone, Copy)]
struct Floor {
    /// From when on it counts.
    at_us: u64,
    /// The highest seq seen by then.
    seq: u64,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    Append(usize),
    Read(usize),
}

/// `session`, S: a SESSION or LINEARIZABLE read has at least the seq of every append that its
/// session was acknowledged in that conversation before the read was invoked (read your writes),
/// and at least the last_seq of every such read that the session made before (monotonic reads), at
/// whichever sites. Pages being prefixes of one log (`seq-function`, `gap-free`), the last seq says
/// it all. LOCAL and BOUNDED reads neither promise this nor oblige those behind them. O(n log n): a
/// sort of each session by time.
pub fn session(case: &Case<'_>) -> Finding {
    let mut found = Found::of("session", Promise::S);
    let floors = floors(case);
    for (at, read) in case.history.reads.iter().enumerate() {
        let Some(floors) = floors.get(&(read.session, read.room)) else {
            continue;
        };
        let Some((page, returned)) = strong(case, at) else {
            continue;
        };
        // The first that had more than this read; all before it had less.
        let first = floors.partition_point(|floor| floor.seq <= page);
        // Those that could have broken it: what ended before.
        let before = floors.partition_point(|floor| floor.at_us <= read.invoked_us);
        found.looked_at(usize::from(before > 0));
        if first < before {
            found.add(2, returned, || {
                let saw = match floors[first].what {
                    What::Append(at) => case.append(at),
                    What::Read(at) => case.read(at),
                };
                format!("room {}: {saw}, then {}", read.room, case.read(at))
            });
        }
    }
    found.finding()
}

/// The last_seq and the time of return of a read that keeps sessions.
fn strong(case: &Case<'_>, at: usize) -> Option<(u64, u64)> {
    let read = &case.history.reads[at];
    match (read.level, &read.end) {
        (Level::Session | Level::Linearizable, Ok(page)) => {
            Some((page.last_seq, read.returned_us?))
        }
        _ => None,
    }
}

/// What each session saw of each conversation, in the order of time, with the highest seq so far.
fn floors(case: &Case<'_>) -> BTreeMap<(u32, u32), Vec<Floor>> {
    let mut floors: BTreeMap<(u32, u32), Vec<Floor>> = BTreeMap::new();
    // An operation that took no time does not precede another of the same instant.
    let from = |invoked: u64, returned: u64| returned + u64::from(returned == invoked);
    for (at, append) in case.history.appends.iter().enumerate() {
        let (AppendEnd::Acked { seq }, Some(returned)) = (&append.end, append.returned_us) else {
            continue;
        };
        floors
            .entry((append.session, append.room))
            .or_default()
            .push(Floor {
                at_us: from(append.invoked_us, returned),
                seq: *seq,
                what: What::Append(at),
            });
    }
    for (at, read) in case.history.reads.iter().enumerate() {
        let Some((seq, returned)) = strong(case, at) else {
            continue;
        };
        floors
            .entry((read.session, read.room))
            .or_default()
            .push(Floor {
                at_us: from(read.invoked_us, returned),
                seq,
                what: What::Read(at),
            });
    }
    for all in floors.values_mut() {
        all.sort_by_key(|floor| floor.at_us);
        let mut highest = 0;
        for floor in all {
            highest = highest.max(floor.seq);
            floor.seq = highest;
        }
    }
    floors
}
