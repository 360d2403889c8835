//! Numbers for promises G and P: how long clients waited, what failed, how soon all went on. Pure
//! functions of the history; whether a number is good enough is the scenario's to say.
//!
//! The run's own probes do not count. Milliseconds are rounded up, so that nothing is told better
//! than it was. Clients inside a data center share its fate: [`fated`] names the sites that a plan
//! harms along with the servers, and each function is told which sites count.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Append, AppendEnd, History};
use crate::outcome::Second;
use crate::plan::{Fault, Plan};
use crate::workload::PROBER;

/// The longest wait of a client for an acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// How long it waited, ms: the time in calls, without its pauses between them.
    pub longest_ms: u64,
    /// From when to when, ms after the load began; pauses between its calls lie in it.
    pub at_ms: (u64, u64),
    /// Whose.
    pub session: u32,
    /// The site of the first of its calls.
    pub site: String,
    /// Of how many calls; all but the last were not acknowledged.
    pub calls: u32,
}

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// When it ended, ms after the load began.
    pub at_ms: u64,
    /// For people.
    pub text: String,
}

/// What until a moment was not acknowledged again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Each {
    /// Every session that sends.
    Sender,
    /// Every conversation that is sent to.
    Room,
}

/// The client sites that share the fate of a data center that the plan takes away: it burns or
/// loses its power as a whole, at once or bit by bit, or is cut off from all others; or the plan
/// does so to the site itself. How long their clients wait is no one's failure.
pub fn fated(plan: &Plan) -> BTreeSet<String> {
    let inside = plan.workload.sites.iter().filter(|site| site.inside);
    let fated = inside.filter(|site| {
        let mut own = BTreeSet::new();
        let mut others = BTreeSet::new();
        for (dc, node) in plan.topology.nodes() {
            let side = if dc.name == site.dc {
                &mut own
            } else {
                &mut others
            };
            side.insert(node.name.as_str());
        }
        let site = BTreeSet::from([site.name.as_str()]);
        taken(plan, &own, &others) || taken(plan, &site, &others)
    });
    fated.map(|site| site.name.clone()).collect()
}

/// Whether all of `own` lose their power at some time, or are cut off from each of `others`.
fn taken(plan: &Plan, own: &BTreeSet<&str>, others: &BTreeSet<&str>) -> bool {
    let (mut dark, mut cut) = (BTreeSet::new(), BTreeSet::new());
    for event in &plan.events {
        match &event.fault {
            Fault::Burn { hosts } | Fault::PowerCut { hosts } | Fault::Crash { hosts, .. } => {
                dark.extend(hosts.iter().map(String::as_str));
            }
            Fault::Cut { from, to, .. } => {
                for (from, to) in [(from, to), (to, from)] {
                    if own.iter().all(|own| from.iter().any(|host| host == own)) {
                        cut.extend(to.iter().map(String::as_str));
                    }
                }
            }
            // Takes neither the power of a host nor its way to the others.
            _ => {}
        }
    }
    let isolated = !others.is_empty() && others.is_subset(&cut);
    isolated || (!own.is_empty() && own.is_subset(&dark))
}

/// The longest wait of each session, worst first.
///
/// A wait begins with the invocation of the first append behind an acknowledgement (or behind the
/// begin) and ends with the next acknowledgement, or with the end of the load. Its length is the
/// time that the session spent in calls meanwhile, failed ones included; the pauses that it makes
/// of its own will do not count, so it is the time between two acknowledgements less the pauses,
/// and for an append that succeeds at once the latency of that append. O(n log n).
pub fn gaps(history: &History, counts: impl Fn(&str) -> bool) -> Vec<Gap> {
    #[derive(Default)]
    struct Wait<'a> {
        waited_us: u64,
        calls: u32,
        first: Option<&'a Append>,
        worst: Option<(u64, Gap)>,
    }
    let mut waits: BTreeMap<u32, Wait<'_>> = BTreeMap::new();
    let appends = sent(history).filter(|append| counts(&append.site));
    let appends: Vec<&Append> = appends.collect();
    let places = appends.iter().enumerate();
    let last_of: BTreeMap<u32, usize> = places.map(|(at, append)| (append.session, at)).collect();
    for (at, &append) in appends.iter().enumerate() {
        let wait = waits.entry(append.session).or_default();
        let ended_us = ended(history, append);
        wait.waited_us += ended_us - append.invoked_us;
        wait.calls += 1;
        let first = *wait.first.get_or_insert(append);
        let is_last = last_of.get(&append.session) == Some(&at);
        if !matches!(append.end, AppendEnd::Acked { .. }) && !is_last {
            continue;
        }
        if wait
            .worst
            .as_ref()
            .is_none_or(|(us, _)| wait.waited_us > *us)
        {
            let gap = Gap {
                longest_ms: wait.waited_us.div_ceil(1_000),
                at_ms: (since(history, first.invoked_us), since(history, ended_us)),
                session: append.session,
                site: first.site.clone(),
                calls: wait.calls,
            };
            wait.worst = Some((wait.waited_us, gap));
        }
        (wait.waited_us, wait.calls, wait.first) = (0, 0, None);
    }
    let mut worst: Vec<(u64, Gap)> = waits.into_values().filter_map(|wait| wait.worst).collect();
    worst.sort_by_key(|(us, gap)| (std::cmp::Reverse(*us), gap.at_ms, gap.session));
    worst.into_iter().map(|(_, gap)| gap).collect()
}

/// Every call that failed: appends refused or without a known outcome, reads without an answer,
/// tails that ended before the load; in the order of time.
pub fn failed(history: &History, counts: impl Fn(&str) -> bool) -> Vec<Failed> {
    let mut failed = Vec::new();
    for append in sent(history).filter(|append| counts(&append.site)) {
        let (AppendEnd::Refused { why } | AppendEnd::Unknown { why }) = &append.end else {
            continue;
        };
        let Append {
            sender,
            id,
            session,
            site,
            room,
            ..
        } = append;
        let end = ended(history, append);
        let what = format!("append of {sender}/{id} to room {room} by session {session} at {site}");
        failed.push((end, append.invoked_us, format!("{what}: {why}")));
    }
    for read in history.reads.iter().filter(|read| counts(&read.site)) {
        let Err(why) = &read.end else { continue };
        let level = super::evidence::level(read.level);
        let end = read
            .returned_us
            .unwrap_or(history.ended_us)
            .max(read.invoked_us);
        let (room, session, site) = (read.room, read.session, &read.site);
        let what = format!("{level} read of room {room} by session {session} at {site}");
        failed.push((end, read.invoked_us, format!("{what}: {why}")));
    }
    for tail in history.tails.iter().filter(|tail| counts(&tail.site)) {
        let Some(why) = &tail.error else { continue };
        let end = tail.events.last().map_or(history.began_us, |(at, _)| *at);
        let (room, session, site) = (tail.room, tail.session, &tail.site);
        failed.push((
            end,
            end,
            format!("tail of room {room} by session {session} at {site}: {why}"),
        ));
    }
    failed.sort();
    let told = failed.into_iter().map(|(end, began, text)| Failed {
        at_ms: since(history, end),
        text: format!("{text} (after {} ms)", (end - began).div_ceil(1_000)),
    });
    told.collect()
}

/// The longest that a tail left out a message that was acknowledged, ms: from its acknowledgement, or from
/// what the tail gave before it, until it was given. None when no tail gave two. The first of a tail may be
/// old when that begins, so it says nothing.
pub fn tails(history: &History, counts: impl Fn(&str) -> bool) -> Option<u64> {
    let mut acked: BTreeMap<(u32, u64), u64> = BTreeMap::new();
    for append in sent(history) {
        if let (AppendEnd::Acked { seq }, Some(at)) = (&append.end, append.returned_us) {
            let first = acked.entry((append.room, *seq)).or_insert(at);
            *first = at.min(*first);
        }
    }
    let mut longest = None;
    for tail in history.tails.iter().filter(|tail| counts(&tail.site)) {
        for pair in tail.events.windows(2) {
            let [(before_us, _), (at_us, seen)] = pair else {
                continue;
            };
            let acked = acked.get(&(tail.room, seen.seq));
            if let Some(acked) = acked.filter(|_| *at_us <= history.ended_us) {
                let waited = at_us.saturating_sub(*acked.max(before_us));
                longest = longest.max(Some(waited.div_ceil(1_000)));
            }
        }
    }
    longest
}

/// The time from `from_ms`, ms after the load began, until each sender, or room, was acknowledged
/// an append that it invoked after that. None when one that tried never was, or nobody tried. With
/// senders and the first fault it is the recovery time; with rooms and the last heal the progress
/// that P asks for.
pub fn until_acked(
    history: &History,
    from_ms: u64,
    each: Each,
    counts: impl Fn(&str) -> bool,
) -> Option<u64> {
    let from_us = history
        .began_us
        .saturating_add(from_ms.saturating_mul(1_000));
    let mut first: BTreeMap<u32, Option<u64>> = BTreeMap::new();
    let appends = sent(history).filter(|append| counts(&append.site));
    for append in appends.filter(|append| append.invoked_us >= from_us) {
        let of = match each {
            Each::Sender => append.session,
            Each::Room => append.room,
        };
        let first = first.entry(of).or_default();
        if let (AppendEnd::Acked { .. }, Some(at)) = (&append.end, append.returned_us) {
            *first = Some(first.map_or(at, |first| first.min(at)));
        }
    }
    let all: Option<Vec<u64>> = first.into_values().collect();
    all?.into_iter()
        .max()
        .map(|at| (at - from_us).div_ceil(1_000))
}

/// The load second by second, from its begin to its end: acknowledgements per site, their latency,
/// and calls that failed. Every site counts.
pub fn seconds(history: &History) -> Vec<Second> {
    const SECOND_MS: u64 = 1_000;
    let lasted = since(history, history.ended_us).div_ceil(SECOND_MS);
    let many = usize::try_from(lasted).unwrap_or_default();
    let mut seconds = vec![Second::default(); many];
    let mut latencies: Vec<Vec<u64>> = vec![Vec::new(); many];
    for append in sent(history) {
        let (AppendEnd::Acked { .. }, Some(returned)) = (&append.end, append.returned_us) else {
            continue;
        };
        let us = returned.saturating_sub(history.began_us);
        let place = usize::try_from(us / (SECOND_MS * 1_000)).unwrap_or(usize::MAX);
        if let (Some(second), Some(all)) = (seconds.get_mut(place), latencies.get_mut(place)) {
            *second.acked.entry(append.site.clone()).or_default() += 1;
            all.push((returned - append.invoked_us).div_ceil(1_000));
        }
    }
    for call in failed(history, |_| true) {
        let place = usize::try_from(call.at_ms / SECOND_MS).unwrap_or(usize::MAX);
        // What ends with the load belongs to its last second.
        if let Some(second) = seconds.get_mut(place.min(many.saturating_sub(1))) {
            second.failed += 1;
        }
    }
    for (second, mut all) in seconds.iter_mut().zip(latencies) {
        all.sort_unstable();
        second.p50_ms = rank(&all, 50);
        second.p99_ms = rank(&all, 99);
        second.max_ms = all.last().copied();
    }
    seconds
}

/// The nearest-rank percentile of sorted values.
pub fn rank(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

/// What clients sent; the run's own probes are tried again and again, and are nobody's wait.
fn sent(history: &History) -> impl Iterator<Item = &Append> {
    let appends = history.appends.iter();
    appends.filter(|append| append.sender != PROBER)
}

/// When an append ended, or the load did.
fn ended(history: &History, append: &Append) -> u64 {
    let ended = append.returned_us.unwrap_or(history.ended_us);
    ended.max(append.invoked_us)
}

/// ms after the load began, rounded up.
fn since(history: &History, at_us: u64) -> u64 {
    at_us.saturating_sub(history.began_us).div_ceil(1_000)
}
