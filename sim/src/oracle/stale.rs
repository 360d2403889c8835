//! Honest staleness, in true time. For each conversation the acknowledgements are put in the order
//! of time with the highest seq so far, in which each read is looked up: O(n log n).

use super::Case;
use super::evidence::Found;
use super::facts::Room;
use crate::history::{AppendEnd, History, Level, Page, Read};
use crate::outcome::{Finding, Promise};
use crate::plan::Fault;

/// `bounded-staleness`, S: a BOUNDED read misses nothing that was acknowledged, to anyone, more
/// than its bound before it was invoked, in true time; and it does not admit to an age above its
/// bound.
///
/// The server measures at some moment behind the invocation, so what was acknowledged a bound
/// before the *invocation* is the most that can be asked for. A clock that the plan lets run slow
/// measures less time than goes by; the bound is stretched by the worst of them.
pub fn bounded_staleness(case: &Case<'_>) -> Finding {
    let mut found = Found::of("bounded-staleness", Promise::S);
    each_read(case, |acks, read, page, at| {
        let Level::Bounded { bound_ms } = read.level else {
            return;
        };
        found.looked_at(1);
        let at_us = read.returned_us.unwrap_or(u64::MAX);
        if let Some(age_ms) = page.age_ms.filter(|age_ms| *age_ms > bound_ms) {
            found.add(1, at_us, || {
                format!(
                    "room {}: an age of {age_ms} ms is admitted by {}",
                    read.room,
                    case.read(at)
                )
            });
        }
        let by_us = read.invoked_us.saturating_sub(stretched_us(case, bound_ms));
        if let Some(missed) = acks.missed(page.last_seq, by_us) {
            found.add(2, at_us, || {
                let append = case.append(missed);
                format!(
                    "room {}: {append}, is missed by {}",
                    read.room,
                    case.read(at)
                )
            });
        }
    });
    found.finding()
}

/// `age-honest`, S: a read whose answer admits to an age misses nothing that was acknowledged, to
/// anyone, more than that age before it was invoked, in true time.
///
/// The age is measured at some moment between invocation and return, and claims everything that was
/// acknowledged an age before *that moment*; when it was is not known to the client, so the
/// earliest is taken: the weakest statement, and the strongest that cannot be wrong. One
/// millisecond is granted for an age cut to whole milliseconds, and drift as in
/// [`bounded_staleness`].
pub fn age_honest(case: &Case<'_>) -> Finding {
    let mut found = Found::of("age-honest", Promise::S);
    each_read(case, |acks, read, page, at| {
        let Some(age_ms) = page.age_ms else { return };
        found.looked_at(1);
        let age_us = stretched_us(case, age_ms.saturating_add(1));
        let by_us = read.invoked_us.saturating_sub(age_us);
        if let Some(missed) = acks.missed(page.last_seq, by_us) {
            found.add(2, read.returned_us.unwrap_or(u64::MAX), || {
                let append = case.append(missed);
                let read = format!("{}, age {age_ms} ms", case.read(at));
                let room = case.history.reads[at].room;
                format!("room {room}: {append}, is missed by {read}")
            });
        }
    });
    found.finding()
}

/// The ages of LOCAL reads that found their conversation, ms, sorted; one of unknown age is as old as
/// can be. That there is no conversation is told by an error, which has no age.
pub fn local_ages(history: &History) -> Vec<u64> {
    let local = history
        .reads
        .iter()
        .filter(|read| read.level == Level::Local);
    let pages = local.filter_map(|read| read.end.as_ref().ok());
    let found = pages.filter(|page| page.last_seq > 0);
    let mut ages: Vec<u64> = found.map(|page| page.age_ms.unwrap_or(u64::MAX)).collect();
    ages.sort_unstable();
    ages
}

/// Every answered read, with the acknowledgements of its conversation.
fn each_read(case: &Case<'_>, mut look: impl FnMut(&Acks, &Read, &Page, usize)) {
    for room in case.facts.rooms() {
        let acks = Acks::of(case, room);
        for &at in &room.reads {
            let read = &case.history.reads[at];
            if let Ok(page) = &read.end {
                look(&acks, read, page, at);
            }
        }
    }
}

/// The longest true time, microseconds, that the slowest clock of the plan takes for `ms`.
fn stretched_us(case: &Case<'_>, ms: u64) -> u64 {
    const MILLION: u64 = 1_000_000;
    let slow = case.plan.events.iter().map(|event| match event.fault {
        Fault::ClockDrift { ppm, .. } if ppm < 0 => ppm.unsigned_abs(),
        _ => 0,
    });
    let slow = slow.max().unwrap_or_default().min(MILLION - 1);
    let us = u128::from(ms) * 1_000 * u128::from(MILLION);
    u64::try_from(us.div_ceil((MILLION - slow).into())).unwrap_or(u64::MAX)
}

/// The acknowledgements of a conversation in the order of time.
struct Acks {
    /// When it came, the highest seq so far, the append's place.
    by_time: Vec<(u64, u64, usize)>,
}

impl Acks {
    fn of(case: &Case<'_>, room: &Room<'_>) -> Acks {
        let acks = room.appends.iter().filter_map(|&at| {
            let append = &case.history.appends[at];
            let AppendEnd::Acked { seq } = append.end else {
                return None;
            };
            Some((append.returned_us?, seq, at))
        });
        let mut by_time: Vec<(u64, u64, usize)> = acks.collect();
        by_time.sort_unstable();
        let mut highest = 0;
        for (_, seq, _) in &mut by_time {
            highest = highest.max(*seq);
            *seq = highest;
        }
        Acks { by_time }
    }

    /// The first append with a seq above `last_seq`, when it was acknowledged before `by_us`.
    fn missed(&self, last_seq: u64, by_us: u64) -> Option<usize> {
        let first = self
            .by_time
            .partition_point(|(_, highest, _)| *highest <= last_seq);
        let (at_us, _, append) = self.by_time.get(first)?;
        (*at_us < by_us).then_some(*append)
    }
}
