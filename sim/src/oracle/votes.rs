//! Votes, as they were seen on disks.

use std::collections::BTreeMap;

use super::Case;
use super::evidence::Found;
use crate::history::VoteSeen;
use crate::outcome::{Finding, Promise};
use crate::plan::Fault;

/// `one-leader`, U: for each shard and term, all disks that know who won name the same node. O(n
/// log n).
pub fn one_leader(case: &Case<'_>) -> Finding {
    let mut found = Found::of("one-leader", Promise::U);
    let mut leaders: BTreeMap<(u32, u64), &VoteSeen> = BTreeMap::new();
    for vote in case.observed.votes.iter().filter(|vote| vote.committed) {
        let first = *leaders.entry((vote.shard, vote.term)).or_insert(vote);
        if first.node != vote.node {
            found.add(2, vote.at_us, || two(case, first, vote));
        }
    }
    found.looked_at(leaders.len());
    found.finding()
}

/// `votes-never-regress`, U: on the disk of a host, the term of a shard's vote never falls, and
/// within a term the node that it is for never changes; power cuts and restarts included. A disk
/// that the plan replaces begins anew: an empty one with nothing, an old one with the terms that it
/// held, under which it may still not vote for another. O(n log n).
pub fn votes_never_regress(case: &Case<'_>) -> Finding {
    let mut found = Found::of("votes-never-regress", Promise::U);
    let replaced = replaced(case);
    let mut disks: BTreeMap<(&str, u32), Disk<'_>> = BTreeMap::new();
    for vote in &case.observed.votes {
        let disk = disks.entry((&vote.host, vote.shard)).or_default();
        let times = replaced
            .get(vote.host.as_str())
            .map(Vec::as_slice)
            .unwrap_or_default();
        while let Some((_, how)) = times.get(disk.replaced).filter(|(at, _)| *at <= vote.at_us) {
            disk.replaced += 1;
            disk.last = None;
            if *how == Replaced::Empty {
                disk.given.clear();
            }
        }
        found.looked_at(usize::from(disk.last.is_some()));
        if let Some(last) = disk.last.filter(|last| last.term > vote.term) {
            found.add(2, vote.at_us, || two(case, last, vote));
        } else {
            let given = *disk.given.entry(vote.term).or_insert(vote);
            if given.node != vote.node {
                found.add(2, vote.at_us, || two(case, given, vote));
            }
        }
        disk.last = Some(vote);
    }
    found.finding()
}

/// A shard's vote on a disk, as far as it was followed.
#[derive(Default)]
struct Disk<'a> {
    last: Option<&'a VoteSeen>,
    /// The first vote of each term.
    given: BTreeMap<u64, &'a VoteSeen>,
    /// How many of its replacements lie behind.
    replaced: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Replaced {
    Empty,
    Old,
}

/// When each host's disks were replaced. A fault happens a little after its time in the plan, so
/// the start that follows counts too: nothing votes in between.
fn replaced<'a>(case: &Case<'a>) -> BTreeMap<&'a str, Vec<(u64, Replaced)>> {
    let mut all: BTreeMap<&'a str, Vec<(u64, Replaced)>> = BTreeMap::new();
    let mut stopped: BTreeMap<&'a str, Replaced> = BTreeMap::new();
    for event in &case.plan.events {
        let at_us = case
            .history
            .began_us
            .saturating_add(event.at_ms.saturating_mul(1_000));
        let (hosts, how) = match &event.fault {
            Fault::Burn { hosts }
            | Fault::WipeDisk { hosts }
            | Fault::Crash {
                hosts,
                disks_lost: true,
            } => (hosts, Some(Replaced::Empty)),
            Fault::OldDisk { hosts } => (hosts, Some(Replaced::Old)),
            Fault::Start { hosts } => (hosts, None),
            _ => continue,
        };
        for host in hosts {
            let how = match how {
                Some(how) => {
                    stopped.insert(host, how);
                    Some(how)
                }
                None => stopped.remove(host.as_str()),
            };
            all.entry(host)
                .or_default()
                .extend(how.map(|how| (at_us, how)));
        }
    }
    all
}

fn two(case: &Case<'_>, first: &VoteSeen, second: &VoteSeen) -> String {
    let tell = |vote: &VoteSeen| {
        format!(
            "{} in term {} for node {}{} at {}",
            vote.host,
            vote.term,
            vote.node,
            if vote.committed { ", which won," } else { "" },
            case.ms(vote.at_us)
        )
    };
    format!(
        "shard {}: {}, then {}",
        first.shard,
        tell(first),
        tell(second)
    )
}
