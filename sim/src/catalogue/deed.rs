//! What an action does: the faults at its beginning, and those that end it.

use std::collections::BTreeSet;

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use super::draw::within;
use super::file::{Action, Line, LinkChange, Target};
use super::stage::Stage;
use crate::plan::{Drill, Fault, Link};

/// What an action does at its beginning and at its end.
#[derive(Default)]
pub(super) struct Deed {
    pub begin: Vec<Fault>,
    pub end: Vec<Fault>,
}

impl Deed {
    fn of(begin: Fault, end: Option<Fault>) -> Deed {
        Deed {
            begin: vec![begin],
            end: end.into_iter().collect(),
        }
    }
}

/// What a line does to some hosts, or between the places that it names.
pub(super) fn deed(stage: &Stage<'_>, line: &Line, hosts: &[String], dice: &mut StdRng) -> Deed {
    let target = &line.target;
    match &line.action {
        Action::Silence { reset } => {
            let groups = (hosts.to_vec(), stage.all_but(hosts));
            between(&line.action, groups, *reset)
        }
        Action::Cut { reset } => {
            let ways = stage.ways(target, dice);
            all(ways.map(|ways| between(&line.action, ways, *reset)))
        }
        Action::Block | Action::Heal | Action::Reset => {
            let ways = stage.ways(target, dice);
            all(ways.map(|ways| between(&line.action, ways, false)))
        }
        Action::Link(change) => relink(stage, target, change, dice),
        action @ (Action::SlowSync { .. }
        | Action::HangSync
        | Action::FailSync
        | Action::DiskRoom { .. }
        | Action::SmallDisk { .. }
        | Action::BitFlip { .. }
        | Action::LoseRecord
        | Action::Compact
        | Action::WipeDisk
        | Action::ImageDisk
        | Action::OldDisk) => to_disks(action, hosts, dice),
        action @ (Action::ClockJump { .. } | Action::ClockDrift { .. }) => {
            to_clocks(action, hosts, dice)
        }
        Action::Drill { ttl_ms, renews_ms } => {
            let drill = Drill {
                ttl_ms: within(dice, *ttl_ms),
                renews_ms: renews_ms.map(|renews| within(dice, renews)),
            };
            let of = |drill| Fault::Drill {
                hosts: hosts.to_vec(),
                drill,
            };
            Deed::of(of(Some(drill)), Some(of(None)))
        }
        action => to_machines(action, hosts),
    }
}

fn to_machines(action: &Action, hosts: &[String]) -> Deed {
    let h = || hosts.to_vec();
    let start = Some(Fault::Start { hosts: h() });
    match action {
        Action::Burn => Deed::of(Fault::Burn { hosts: h() }, None),
        Action::PowerCut => Deed::of(Fault::PowerCut { hosts: h() }, start),
        Action::Crash { disks_lost } => {
            let disks_lost = *disks_lost;
            let crash = Fault::Crash {
                hosts: h(),
                disks_lost,
            };
            Deed::of(crash, start.filter(|_| !disks_lost))
        }
        Action::Kill => Deed::of(Fault::Kill { hosts: h() }, start),
        Action::Stop => Deed::of(Fault::Stop { hosts: h() }, start),
        Action::Start => Deed::of(Fault::Start { hosts: h() }, None),
        Action::Pause { clocks } => {
            let resume = Fault::Resume { hosts: h() };
            let (hosts, clocks) = (h(), *clocks);
            Deed::of(Fault::Pause { hosts, clocks }, Some(resume))
        }
        Action::Resume => Deed::of(Fault::Resume { hosts: h() }, None),
        Action::Starve(starved) => {
            let starve = |starved| Fault::Starve {
                hosts: h(),
                starved,
            };
            Deed::of(starve(Some(*starved)), Some(starve(None)))
        }
        Action::Drain => {
            let drain = |drain| Fault::Drain { hosts: h(), drain };
            Deed::of(drain(true), Some(drain(false)))
        }
        Action::Undrain => Deed::of(
            Fault::Drain {
                hosts: h(),
                drain: false,
            },
            None,
        ),
        Action::Move { swap } => {
            let swap = *swap;
            Deed::of(Fault::Move { hosts: h(), swap }, None)
        }
        Action::Remove => Deed::of(Fault::Remove { hosts: h() }, None),
        Action::Forge => Deed::of(Fault::Forge { hosts: h() }, None),
        Action::MoveTo => {
            let go = |back| Fault::MoveTo { hosts: h(), back };
            Deed::of(go(false), Some(go(true)))
        }
        Action::Stampede => Deed::of(Fault::Stampede { hosts: h() }, None),
        _ => Deed::default(),
    }
}

fn to_disks(action: &Action, hosts: &[String], dice: &mut StdRng) -> Deed {
    let h = || hosts.to_vec();
    let start = Some(Fault::Start { hosts: h() });
    match action {
        Action::SlowSync { sync_ms } => {
            let slow = |sync_ms| Fault::SlowSync {
                hosts: h(),
                sync_ms,
            };
            Deed::of(slow(Some(*sync_ms)), Some(slow(None)))
        }
        Action::HangSync => {
            let hang = |hang| Fault::HangSync { hosts: h(), hang };
            Deed::of(hang(true), Some(hang(false)))
        }
        Action::FailSync => {
            let fail = |fail| Fault::FailSync { hosts: h(), fail };
            // The node has stopped itself.
            let end = [fail(false)].into_iter().chain(start).collect();
            Deed {
                begin: vec![fail(true)],
                end,
            }
        }
        Action::DiskRoom {
            free_percent: (low, high),
        } => {
            let free = dice.random_range(*low..=*high);
            let room = |free_percent| Fault::DiskRoom {
                hosts: h(),
                free_percent,
            };
            // Without any room left the node stops itself.
            let start = start.filter(|_| free == 0);
            let end = [room(None)].into_iter().chain(start).collect();
            Deed {
                begin: vec![room(Some(free))],
                end,
            }
        }
        Action::SmallDisk {
            left_bytes: (low, high),
        } => {
            let left = u64::from(dice.random_range(*low..=*high));
            let small = |left_bytes| Fault::SmallDisk {
                hosts: h(),
                left_bytes,
            };
            Deed::of(small(Some(left)), Some(small(None)))
        }
        Action::BitFlip { parts } => {
            let part = parts.choose(dice).copied();
            let flip = part.map(|part| Fault::BitFlip { hosts: h(), part });
            Deed {
                begin: flip.into_iter().collect(),
                end: Vec::new(),
            }
        }
        Action::LoseRecord => Deed::of(Fault::LoseRecord { hosts: h() }, None),
        Action::Compact => Deed::of(Fault::Compact { hosts: h() }, None),
        Action::WipeDisk => Deed::of(Fault::WipeDisk { hosts: h() }, None),
        Action::ImageDisk => Deed::of(Fault::ImageDisk { hosts: h() }, None),
        Action::OldDisk => Deed::of(Fault::OldDisk { hosts: h() }, None),
        _ => Deed::default(),
    }
}

fn to_clocks(action: &Action, hosts: &[String], dice: &mut StdRng) -> Deed {
    let h = || hosts.to_vec();
    match action {
        Action::ClockJump { by_ms } => {
            let by_ms = signed(dice, by_ms);
            let jump = |by_ms| Fault::ClockJump { hosts: h(), by_ms };
            Deed::of(jump(by_ms), Some(jump(-by_ms)))
        }
        Action::ClockDrift { ppm } => {
            let drift = |ppm| Fault::ClockDrift { hosts: h(), ppm };
            Deed::of(drift(signed(dice, ppm)), Some(drift(0)))
        }
        _ => Deed::default(),
    }
}

pub(super) fn signed(dice: &mut StdRng, windows: &[(i64, i64)]) -> i64 {
    let (low, high) = windows.choose(dice).copied().unwrap_or_default();
    dice.random_range(low..=high)
}

fn all(deeds: impl Iterator<Item = Deed>) -> Deed {
    deeds.fold(Deed::default(), |mut all, deed| {
        all.begin.extend(deed.begin);
        all.end.extend(deed.end);
        all
    })
}

/// What goes on between two groups. Silence goes both ways.
fn between(action: &Action, (from, to): (Vec<String>, Vec<String>), reset: bool) -> Deed {
    let way = |from: &[String], to: &[String]| (from.to_vec(), to.to_vec());
    let mut ways = vec![way(&from, &to)];
    if matches!(action, Action::Silence { .. }) {
        ways.push(way(&to, &from));
    }
    ways.retain(|(from, to)| !from.is_empty() && !to.is_empty());
    let mut deed = Deed::default();
    for (from, to) in ways {
        let heal = Fault::Heal {
            from: from.clone(),
            to: to.clone(),
        };
        match action {
            Action::Heal => deed.begin.push(heal),
            Action::Reset => deed.begin.push(Fault::Reset { from, to }),
            Action::Block => {
                let fault = |block| Fault::Block {
                    from: from.clone(),
                    to: to.clone(),
                    block,
                };
                deed.begin.push(fault(true));
                deed.end.push(fault(false));
            }
            _ => {
                deed.begin.push(Fault::Cut { from, to, reset });
                deed.end.push(heal);
            }
        }
    }
    deed
}

/// Links between data centers change.
fn relink(stage: &Stage<'_>, target: &Target, change: &LinkChange, dice: &mut StdRng) -> Deed {
    let (from, to) = stage.ends(target, dice);
    let loss = change
        .loss_ppm
        .map(|(low, high)| dice.random_range(low..=high));
    let mut pairs: BTreeSet<(String, String)> = BTreeSet::new();
    for from in &from {
        for to in to.iter().filter(|to| *to != from) {
            pairs.insert((from.clone(), to.clone()));
            pairs.extend(target.both.then(|| (to.clone(), from.clone())));
        }
    }
    let mut deed = Deed::default();
    for (from, to) in pairs {
        let usual = stage.usual(&from, &to);
        let link = Link {
            latency_us: change.latency_us.unwrap_or(usual.latency_us),
            jitter_us: change.jitter_us.unwrap_or(usual.jitter_us),
            loss_ppm: loss.unwrap_or(usual.loss_ppm),
            bandwidth_bytes: change.bandwidth_bytes.unwrap_or(usual.bandwidth_bytes),
        };
        let fault = |link| Fault::Link {
            from: from.clone(),
            to: to.clone(),
            link,
        };
        deed.begin.push(fault(Some(link)));
        deed.end.push(fault(None));
    }
    deed
}
