//! Votes, as they were seen on disks.

use std::collections::BTreeMap;

use super::Case;
use super::evidence::Found;
use crate::history::VoteSeen;
use crate::outcome::{Finding, Promise};
use crate::plan::Fault;

/// Elections that no run comes near.
const LEAP: u64 = 1 << 32;
/// Entries that a replica may lack: those on their way when it was asked, and those that came while the
/// change of the voters was decided.
const LAG_MAX: u64 = 2 * model::limits::MOVE_LAG_MAX;

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

/// `votes-never-regress`, U: on the disk of a host, the term of a shard's vote never falls; within a
/// term no second node is voted for; and once a node is known to have won it, no other is. A loser's
/// voter who learns of the winner does note it, so a vote for one node and then the victory of another
/// are in order. Power cuts and restarts are included. A disk that the plan replaces begins anew: an
/// empty one with nothing, an old one with the terms that it held, in which it may still not vote for
/// another. So does a replica that was wiped. And no term is far beyond all that were voted for in its
/// shard: an election raises it by one. O(n log n).
pub fn votes_never_regress(case: &Case<'_>) -> Finding {
    let mut found = Found::of("votes-never-regress", Promise::U);
    let replaced = replaced(case);
    let mut wipes: BTreeMap<(&str, u32), Vec<u64>> = BTreeMap::new();
    for wiped in &case.observed.wiped {
        let times = wipes.entry((&wiped.host, wiped.shard)).or_default();
        times.push(wiped.at_us);
    }
    let mut disks: BTreeMap<(&str, u32), Disk<'_>> = BTreeMap::new();
    let mut highest: BTreeMap<u32, u64> = BTreeMap::new();
    for vote in &case.observed.votes {
        let highest = highest.entry(vote.shard).or_default();
        if vote.term > highest.saturating_add(LEAP) {
            let (host, shard, term) = (&vote.host, vote.shard, vote.term);
            found.add(1, vote.at_us, || {
                let at = case.ms(vote.at_us);
                format!(
                    "shard {shard}: {host} voted in term {term} at {at}, the highest before was \
                     {highest}"
                )
            });
        }
        *highest = vote.term.max(*highest);
        let disk = disks.entry((&vote.host, vote.shard)).or_default();
        let times = replaced
            .get(vote.host.as_str())
            .map(Vec::as_slice)
            .unwrap_or_default();
        while let Some((_, how)) = times.get(disk.replaced).filter(|(at, _)| *at <= vote.at_us) {
            disk.replaced += 1;
            disk.last = None;
            if *how == Replaced::Empty {
                disk.terms.clear();
            }
        }
        let here = (vote.host.as_str(), vote.shard);
        let wiped = wipes.get(&here).map_or(0, |times| {
            times.partition_point(|at_us| *at_us <= vote.at_us)
        });
        if wiped > disk.wiped {
            // Another replica, to all the others as well.
            disk.wiped = wiped;
            disk.last = None;
            disk.terms.clear();
        }
        found.looked_at(usize::from(disk.last.is_some()));
        if let Some(last) = disk.last.filter(|last| last.term > vote.term) {
            found.add(2, vote.at_us, || two(case, last, vote));
        } else {
            let (given, won) = disk.terms.entry(vote.term).or_default();
            // A vote must agree with the one given and with a victory, a victory with another only.
            let given = if vote.committed {
                None
            } else {
                Some(*given.get_or_insert(vote))
            };
            let won = if vote.committed {
                Some(*won.get_or_insert(vote))
            } else {
                *won
            };
            let mut others = given.into_iter().chain(won);
            if let Some(other) = others.find(|other| other.node != vote.node) {
                found.add(2, vote.at_us, || two(case, other, vote));
            }
        }
        disk.last = Some(vote);
    }
    found.finding()
}

/// `whole-before-it-votes`, D: a replica that a membership names as a voter for the first time, or that
/// votes after it was wiped, has nearly all entries that count on its disk; one that is empty, as its
/// shard's leader may not know, could else elect who lacks what was acknowledged. One look at each.
pub fn whole_before_it_votes(case: &Case<'_>) -> Finding {
    let mut found = Found::of("whole-before-it-votes", Promise::D);
    for voter in &case.observed.voters {
        found.looked_at(1);
        if voter.last.saturating_add(LAG_MAX) >= voter.needed {
            continue;
        }
        found.add(1, voter.at_us, || {
            format!(
                "shard {}: {} {} at {} with entries up to {} only; it needs {}",
                voter.shard,
                voter.host,
                if voter.voted {
                    "votes"
                } else {
                    "is made a voter"
                },
                case.ms(voter.at_us),
                voter.last,
                voter.needed,
            )
        });
    }
    found.finding()
}

/// A shard's vote on a disk, as far as it was followed.
#[derive(Default)]
struct Disk<'a> {
    last: Option<&'a VoteSeen>,
    /// Of each term: the first vote given, and the first victory.
    terms: BTreeMap<u64, (Option<&'a VoteSeen>, Option<&'a VoteSeen>)>,
    /// How many of its replacements lie behind.
    replaced: usize,
    /// How often it was wiped.
    wiped: usize,
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
