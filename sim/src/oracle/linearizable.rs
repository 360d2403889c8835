//! `linearizable`, L: appends and LINEARIZABLE reads of each conversation behave as one copy, and
//! whatever a weaker read or a tail showed was, by then, in that copy.
//!
//! # The property
//!
//! A conversation is a log. An append of a new id puts a message at its end and returns its seq;
//! of an id that is there, it returns that seq. A read returns the log's length and a page of it.
//! The history must be explained by one log on which every operation takes effect in one instant
//! between its invocation and its return, where
//!
//! - an append without an answer, or with an unknown outcome, takes effect at any time after its
//!   invocation, or never; a refused one never;
//! - a LINEARIZABLE read takes effect between invocation and return; any other read, being allowed
//!   to be stale, at any time before its return, and so does each message that a tail gives; a
//!   final may be as stale as it likes.
//!
//! Four oracles look at content: `seq-function`, `one-seq-per-id`, `no-phantom`, `gap-free`. When
//! these are silent, every page agrees with one function seq → message, injective, whose values
//! were sent and not refused. What is left, and judged here, is time and the seqs that nobody is
//! known to hold. The five together are silent if and only if the history is linearizable.
//!
//! # Conditions
//!
//! Let P(i) be the instant at which the log came to have length i, and n the largest length known.
//! Each fact bounds it, lo(i) ≤ P(i) ≤ hi(i):
//!
//! | fact | bound |
//! |---|---|
//! | the message at i was first invoked at t | lo(i) ≥ t |
//! | its append returned i at t | hi(i) ≤ t |
//! | a read that returned at t said last_seq = i; a tail gave i at t | hi(i) ≤ t |
//! | a LINEARIZABLE read that was invoked at t said last_seq = i | lo(i + 1) ≥ t |
//!
//! 1. For all j ≤ i: lo(j) ≤ hi(i).
//! 2. Seqs up to n at which no message is known are held by distinct appends of unknown outcome
//!    that are known nowhere, each invoked at or before D(i) = min over k ≥ i of hi(k).
//!
//! *Necessary*: P is not decreasing, so lo(j) ≤ P(j) ≤ P(i) ≤ hi(i); and what holds i was invoked
//! at or before P(i) ≤ D(i).
//!
//! *Sufficient*: give the appends of 2 to their seqs; that raises lo(i) to an invocation that is
//! ≤ D(i), so 1 still holds. Let P(i) = max over j ≤ i of lo(j): not decreasing, ≥ lo(i), and
//! ≤ hi(i) by 1. Each operation now finds an instant in its interval. The append that brought the
//! message of i: at P(i), where lo(i) is the first invocation of its id, and hi(i) ≤ each of its
//! answers. Any further append of that id: between the later of its invocation and P(i), and its
//! return, which is not before P(i). A LINEARIZABLE read [s, t] with last_seq k: P(k) ≤ t and
//! s ≤ P(k + 1) and P(k) ≤ P(k + 1) and s ≤ t, so [max(s, P(k)), min(t, P(k + 1))] is not empty.
//! Any other read, and a tail's message: at P(k). Instants that are equal are put in the order of
//! the log, reads of length k behind the append of k. ∎
//!
//! Invocation and return at the same microsecond count as overlapping.
//!
//! # Cost
//!
//! Facts sorted by seq; 1 is a sweep with a running maximum of lo, 2 one with the suffix minimum D,
//! which does not decrease, so that counting suffices (Hall's condition for nested sets). O(n log
//! n); the positions being given is what makes it easy (Gibbons and Korach, "Testing Shared
//! Memories", 1997: in general it is NP-complete). Cross-checked against the search of Wing and
//! Gong ("Testing and Verifying Concurrent Objects", 1993) in `sim/tests/oracles`.

use std::collections::BTreeSet;

use super::Case;
use super::evidence::Found;
use super::facts::Room;
use crate::history::{AppendEnd, Level};
use crate::outcome::{Finding, Promise};

/// See the [module](self). Looks at acknowledged appends and answered LINEARIZABLE reads.
pub fn linearizable(case: &Case<'_>) -> Finding {
    let mut found = Found::of("linearizable", Promise::L);
    for room in case.facts.rooms() {
        let bounds = Bounds::of(case, room, &mut found);
        in_time(case, room, &bounds, &mut found);
        no_hole(case, room, &bounds, &mut found);
    }
    found.finding()
}

/// What bounds P(seq), and why.
struct Bound {
    seq: u64,
    at_us: u64,
    why: Why,
}

#[derive(Clone, Copy)]
enum Why {
    /// The append that brought it was invoked.
    Sent(usize),
    /// A LINEARIZABLE read was invoked that does not have it.
    Missed(usize),
    /// An append returned it.
    Acked(usize),
    /// A read has it.
    Read(usize),
    /// A tail gave it.
    Told(usize),
}

/// All bounds of a conversation, from below and from above, each sorted by seq and time.
struct Bounds {
    lo: Vec<Bound>,
    hi: Vec<Bound>,
}

impl Bounds {
    fn of(case: &Case<'_>, room: &Room<'_>, found: &mut Found) -> Bounds {
        let history = case.history;
        let (mut lo, mut hi) = (sent(case, room), Vec::new());
        for &at in &room.appends {
            let append = &history.appends[at];
            let AppendEnd::Acked { seq } = append.end else {
                continue;
            };
            found.looked_at(1);
            let at_us = append.returned_us.unwrap_or(u64::MAX);
            if seq == 0 {
                found.add(1, at_us, || {
                    format!("room {}: {}; seqs begin at 1", room.room, case.append(at))
                });
                continue;
            }
            hi.push(Bound {
                seq,
                at_us,
                why: Why::Acked(at),
            });
        }
        for &at in &room.reads {
            let read = &history.reads[at];
            let (Ok(page), Some(returned)) = (&read.end, read.returned_us) else {
                continue;
            };
            if page.last_seq > 0 {
                hi.push(Bound {
                    seq: page.last_seq,
                    at_us: returned,
                    why: Why::Read(at),
                });
            }
            if read.level == Level::Linearizable {
                found.looked_at(1);
                let seq = page.last_seq.saturating_add(1);
                lo.push(Bound {
                    seq,
                    at_us: read.invoked_us,
                    why: Why::Missed(at),
                });
            }
        }
        for &at in &room.tails {
            let events = history.tails[at].events.iter();
            let told = events.filter(|(_, seen)| seen.seq > 0);
            hi.extend(told.map(|(at_us, seen)| Bound {
                seq: seen.seq,
                at_us: *at_us,
                why: Why::Told(at),
            }));
        }
        lo.sort_by_key(|bound| (bound.seq, bound.at_us));
        hi.sort_by_key(|bound| (bound.seq, bound.at_us));
        Bounds { lo, hi }
    }
}

/// For each known seq: when its message was first sent. Where several claim a seq, the one that
/// bounds least.
fn sent(case: &Case<'_>, room: &Room<'_>) -> Vec<Bound> {
    let mut all = Vec::new();
    for claims in room.claims.chunk_by(|a, b| a.seq == b.seq) {
        let invoked = claims.iter().map(|claim| {
            let appends = room.sent(claim.sender, claim.id).iter().map(|one| one.2);
            let possible = appends.filter(|at| possible(case, *at));
            possible
                .map(|at| (case.history.appends[at].invoked_us, at))
                .min()
        });
        // None is less than any: a message that nobody sent bounds nothing.
        if let Some((at_us, at)) = invoked.min().flatten()
            && claims[0].seq > 0
        {
            all.push(Bound {
                seq: claims[0].seq,
                at_us,
                why: Why::Sent(at),
            });
        }
    }
    all
}

fn possible(case: &Case<'_>, at: usize) -> bool {
    !matches!(case.history.appends[at].end, AppendEnd::Refused { .. })
}

/// Condition 1.
fn in_time(case: &Case<'_>, room: &Room<'_>, bounds: &Bounds, found: &mut Found) {
    let mut lo = bounds.lo.iter().enumerate().peekable();
    let mut max: Option<(usize, &Bound)> = None;
    // One piece of evidence for each bound from below: the lowest seq is the nearest to see.
    let mut told = BTreeSet::new();
    for hi in &bounds.hi {
        while let Some(next) = lo.next_if(|(_, lo)| lo.seq <= hi.seq) {
            if max.is_none_or(|(_, max)| next.1.at_us > max.at_us) {
                max = Some(next);
            }
        }
        if let Some((at, lo)) = max
            && lo.at_us > hi.at_us
            && told.insert(at)
        {
            found.add(2, lo.at_us, || {
                let (was, was_not) = (why(case, hi), why(case, lo));
                format!(
                    "room {}: seq {} was there by {} ({was}), but seq {} was not before {} \
                     ({was_not})",
                    room.room,
                    hi.seq,
                    case.ms(hi.at_us),
                    lo.seq,
                    case.ms(lo.at_us)
                )
            });
        }
    }
}

fn why(case: &Case<'_>, bound: &Bound) -> String {
    match bound.why {
        Why::Sent(at) | Why::Acked(at) => case.append(at),
        Why::Missed(at) | Why::Read(at) => case.read(at),
        Why::Told(at) => case.tail(at),
    }
}

/// Condition 2.
fn no_hole(case: &Case<'_>, room: &Room<'_>, bounds: &Bounds, found: &mut Found) {
    let claimed: BTreeSet<u64> = room.claims.iter().map(|claim| claim.seq).collect();
    let known = claimed
        .iter()
        .copied()
        .chain(bounds.hi.iter().map(|bound| bound.seq));
    let marks: BTreeSet<u64> = known.filter(|seq| *seq > 0).collect();
    let spare = spare(case, room);
    let deadlines = deadlines(&marks, &bounds.hi);
    let (mut before, mut open) = (0, 0_u64);
    for (mark, deadline) in marks.into_iter().zip(deadlines) {
        let holes = mark - before - u64::from(claimed.contains(&mark));
        let by_us = deadline.map_or(u64::MAX, |bound| bound.at_us);
        let ready = spare.partition_point(|sent| *sent <= by_us) as u64;
        open += holes;
        if holes > 0 && ready < open {
            found.add(3, by_us, || {
                let when = deadline.map_or_else(
                    || "at the end".to_owned(),
                    |bound| format!("by {} ({})", case.ms(by_us), why(case, bound)),
                );
                format!(
                    "room {}: seqs up to {mark} were there {when}; {open} of them, as seq {}, are \
                     of nobody known, and of those sent by then only {ready} can be there unseen",
                    room.room,
                    before + 1
                )
            });
            // From here on every seq would tell the same.
            return;
        }
        before = mark;
    }
}

/// When each message of unknown outcome that is known nowhere was first sent, sorted.
fn spare(case: &Case<'_>, room: &Room<'_>) -> Vec<u64> {
    // An acknowledged one has a place by that; of the others, the few that somebody saw have one.
    let unacked = room.claims.iter().filter(|claim| claim.acked.is_none());
    let seen: BTreeSet<(&str, &str)> = unacked.map(|claim| (claim.sender, claim.id)).collect();
    let acked = |one: &(&str, &str, usize)| {
        matches!(case.history.appends[one.2].end, AppendEnd::Acked { .. })
    };
    let ids = room.ids().filter(|all| !all.iter().any(acked));
    let ids = ids.filter(|all| !seen.contains(&(all[0].0, all[0].1)));
    let mut spare: Vec<u64> = ids
        .filter_map(|all| {
            let possible = all.iter().filter(|one| possible(case, one.2));
            possible
                .map(|one| case.history.appends[one.2].invoked_us)
                .min()
        })
        .collect();
    spare.sort_unstable();
    spare
}

/// D(mark) for each of `marks`, ascending: the least bound from above of it and all behind it.
fn deadlines<'b>(marks: &BTreeSet<u64>, hi: &'b [Bound]) -> Vec<Option<&'b Bound>> {
    let mut hi = hi.iter().rev().peekable();
    let mut least: Option<&Bound> = None;
    let backwards = marks.iter().rev().map(|mark| {
        while let Some(bound) = hi.next_if(|bound| bound.seq >= *mark) {
            if least.is_none_or(|least| bound.at_us < least.at_us) {
                least = Some(bound);
            }
        }
        least
    });
    let mut all: Vec<Option<&Bound>> = backwards.collect();
    all.reverse();
    all
}
