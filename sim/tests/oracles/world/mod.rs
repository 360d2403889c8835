//! Correct histories: conversations that are atomic logs, seen through random delays, unknown
//! outcomes, messages that are sent again, stale reads that tell their age, tails, slow clocks and
//! replaced disks. No oracle may find anything in them.

mod reads;
mod rest;

use std::collections::BTreeMap;

use firebreak_sim::dice::dice;
use firebreak_sim::history::{
    Append, AppendEnd, Change, ChangeEnd, Cover, DrillSeen, Fade, Faded, Feed, FeedChange, Final,
    History, Level, Look, Observed, Read, ReplicaSeen, SeenMessage, Shown, Tail, VoteSeen,
    VoterSeen, What,
};
use firebreak_sim::oracle::{self, NAMES};
use firebreak_sim::plan::Fault;
use rand::Rng as _;
use rand::rngs::StdRng;

use crate::support::{DCS, Setting, event, page, plan};

/// When the load of a correct history begins, µs.
const BEGAN_US: u64 = 2_000_000;
const SHARDS: u32 = 2;

/// How much happens.
#[derive(Clone, Copy)]
pub struct Size {
    pub rooms: u32,
    pub senders: u32,
    pub appends: u32,
    pub readers: u32,
    pub reads: u32,
    pub page: u32,
}

/// Much in few rooms.
pub const SMALL: Size = Size {
    rooms: 2,
    senders: 4,
    appends: 6,
    readers: 5,
    reads: 5,
    page: 6,
};

/// A correct history, and what really happened.
pub struct World {
    pub setting: Setting,
    /// Each conversation as it was at the end.
    pub logs: BTreeMap<u32, Vec<SeenMessage>>,
    /// When each message took effect.
    times: BTreeMap<u32, Vec<u64>>,
}

/// An append that took effect.
struct Effect {
    at_us: u64,
    append: usize,
}

/// By sender and id.
type Effects = BTreeMap<(String, String), Effect>;

impl World {
    pub fn new(seed: u64, size: Size) -> World {
        let mut dice = dice(seed, "correct history");
        let dice = &mut dice;
        let mut plan = plan();
        if dice.random_range(0..4) == 0 {
            let hosts = vec!["busan-1".to_owned()];
            plan.events.push(event(
                0,
                Fault::ClockDrift {
                    hosts,
                    ppm: -200_000,
                },
            ));
        }
        let mut world = World {
            setting: Setting {
                plan,
                history: History::default(),
                observed: Observed::default(),
            },
            logs: BTreeMap::new(),
            times: BTreeMap::new(),
        };
        world.append_all(size, dice);
        world.read_all(size, dice);
        world.tail_all(size, dice);
        world.rest(dice);
        world.vote(dice);
        world.drill(dice);
        world.live(dice);
        world
    }

    /// How many messages a room had at a moment; what happened in that very instant is in it or
    /// not.
    fn length(&self, room: u32, at_us: u64, dice: &mut StdRng) -> u64 {
        let Some(times) = self.times.get(&room) else {
            return 0;
        };
        let inclusive = dice.random();
        let length = times.partition_point(|time| *time < at_us || (inclusive && *time == at_us));
        length as u64
    }

    fn append_all(&mut self, size: Size, dice: &mut StdRng) {
        let mut effects = Effects::new();
        let mut appends = Vec::new();
        for session in 0..size.senders {
            let mut now = BEGAN_US + dice.random_range(0..30_000);
            for number in 0..dice.random_range(1..=size.appends) {
                let room = dice.random_range(0..size.rooms);
                let new = Append {
                    session,
                    site: site(dice),
                    room,
                    sender: format!("s{session}"),
                    id: format!("m{number}"),
                    body: dice.random(),
                    invoked_us: now,
                    returned_us: None,
                    end: AppendEnd::Unknown {
                        why: "DEADLINE_EXCEEDED".to_owned(),
                    },
                    repeats: false,
                    created_ms: None,
                };
                for _ in 0..3 {
                    let again = Append {
                        site: site(dice),
                        invoked_us: now,
                        ..new.clone()
                    };
                    let acked = send(&mut appends, &mut effects, again, dice);
                    now = appends
                        .last()
                        .and_then(|one: &Append| one.returned_us)
                        .unwrap_or(now);
                    now += pause(dice);
                    if dice.random_range(0..100) >= if acked { 15 } else { 40 } {
                        break;
                    }
                }
            }
        }
        self.setting.history = History {
            began_us: BEGAN_US,
            ended_us: appends
                .iter()
                .filter_map(|one| one.returned_us)
                .max()
                .unwrap_or(BEGAN_US),
            ..History::default()
        };
        self.number(appends, effects);
    }

    /// Gives the messages their seqs, in the order in which they took effect.
    fn number(&mut self, mut appends: Vec<Append>, effects: Effects) {
        let mut in_time: Vec<Effect> = effects.into_values().collect();
        in_time.sort_by_key(|effect| (effect.at_us, effect.append));
        let mut seqs: BTreeMap<(String, String), u64> = BTreeMap::new();
        for effect in in_time {
            let Append {
                room,
                sender,
                id,
                body,
                ..
            } = appends[effect.append].clone();
            let log = self.logs.entry(room).or_default();
            let seq = log.len() as u64 + 1;
            seqs.insert((sender.clone(), id.clone()), seq);
            log.push(SeenMessage {
                seq,
                sender,
                id,
                body,
            });
            self.times.entry(room).or_default().push(effect.at_us);
        }
        for append in &mut appends {
            if let AppendEnd::Acked { seq } = &mut append.end {
                *seq = seqs[&(append.sender.clone(), append.id.clone())];
                let at = usize::try_from(*seq - 1).unwrap();
                let at_us = self.times[&append.room][at];
                append.created_ms = i64::try_from(at_us / 1_000).ok();
            }
        }
        appends.sort_by_key(|append| append.invoked_us);
        self.setting.history.appends = appends;
    }
}

/// Makes a call, and lets it take effect if it does; whether it was acknowledged.
fn send(
    appends: &mut Vec<Append>,
    effects: &mut Effects,
    mut append: Append,
    dice: &mut StdRng,
) -> bool {
    let key = (append.sender.clone(), append.id.clone());
    let invoked = append.invoked_us;
    let most = if dice.random_range(0..10) == 0 {
        300_000
    } else {
        40_000
    };
    let returned = invoked + dice.random_range(1..most);
    // A message is tried three times at most, one after the other.
    let was_acked = appends.iter().rev().take(2).any(|one| {
        (&one.sender, &one.id) == (&append.sender, &append.id)
            && matches!(one.end, AppendEnd::Acked { .. })
    });
    append.repeats = was_acked;
    append.returned_us = Some(returned);
    let effect_us = match dice.random_range(0..10) {
        0..7 => {
            append.end = AppendEnd::Acked { seq: 0 };
            Some(dice.random_range(invoked..=returned))
        }
        7 | 8 => (dice.random_range(0..3) > 0).then(|| invoked + dice.random_range(0..400_000)),
        _ => {
            append.end = AppendEnd::Refused {
                why: "UNAVAILABLE: no quorum".to_owned(),
            };
            None
        }
    };
    let acked = matches!(append.end, AppendEnd::Acked { .. });
    if let Some(at_us) = effect_us {
        let new = Effect {
            at_us,
            append: appends.len(),
        };
        let effect = effects.entry(key).or_insert(new);
        if at_us < effect.at_us {
            *effect = Effect {
                at_us,
                append: appends.len(),
            };
        }
    }
    appends.push(append);
    acked
}

fn site(dice: &mut StdRng) -> String {
    format!("client-{}", DCS[dice.random_range(0..DCS.len())])
}

fn pause(dice: &mut StdRng) -> u64 {
    if dice.random_range(0..4) == 0 {
        0
    } else {
        dice.random_range(0..30_000)
    }
}

#[test]
fn no_oracle_finds_anything_in_thousands_of_correct_histories() {
    let mut looked_at: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 0..5_000 {
        let world = World::new(seed, SMALL);
        let unsettled = world.setting.observed.unsettled.is_some();
        for finding in world.setting.judge() {
            *looked_at.entry(finding.oracle.clone()).or_default() += finding.looked_at;
            let broken: Vec<_> = finding.broken.iter().map(|one| &one.evidence).collect();
            let expect = usize::from(unsettled && finding.oracle == "replicas-equal");
            assert_eq!(
                broken.len(),
                expect,
                "seed {seed}, {}: {broken:#?}",
                finding.oracle
            );
        }
    }
    println!("looked at: {looked_at:#?}");
    let idle = NAMES.iter().find(|(name, ..)| looked_at[*name] == 0);
    // The one that is told what regressed has nothing to look at where no host is started.
    assert_eq!(idle.map(|(name, ..)| *name), Some("disk-never-regresses"));
}

#[test]
fn a_hundred_thousand_operations_are_judged_in_a_moment() {
    let size = Size {
        rooms: 24,
        senders: 600,
        appends: 200,
        readers: 400,
        reads: 200,
        page: 20,
    };
    let world = World::new(7, size);
    let History { appends, reads, .. } = &world.setting.history;
    let began = tokio::time::Instant::now();
    let findings = oracle::judge(
        &world.setting.plan,
        &world.setting.history,
        &world.setting.observed,
    );
    let took = began.elapsed();
    println!(
        "{} appends and {} reads in {took:?}",
        appends.len(),
        reads.len()
    );
    assert!(appends.len() + reads.len() > 90_000);
    assert!(findings.iter().any(|finding| finding.looked_at > 50_000));
    // A guard against the square of it, not a measurement.
    assert!(took.as_secs() < 5, "{took:?}");
}
