//! The times of messages, against the clocks that the plan sets.

use std::collections::{BTreeMap, BTreeSet};

use super::Case;
use super::evidence::Found;
use crate::history::AppendEnd;
use crate::outcome::{Finding, Promise};
use crate::plan::{Event, Fault};

/// Between two looks at the plan's clocks.
const STEP_MS: i64 = 100;
/// What the nodes may be off the middle clock without anything being wrong: what they tolerate, and
/// what long lines and slow machines add.
const SLACK_MS: i64 = 1_000;
/// By how much time may lag besides: a shard that lacked its quorum goes on where it was, for as long
/// as its new leader has heard of no clock.
const LAG_MS: i64 = 60_000;
/// For so long after a start a node may have forgotten what was agreed on.
const YOUNG_MS: i64 = 20_000;

/// `create-time`, O: in a conversation a message is not older than one before it, and its time is what
/// the clocks of most nodes say at some moment between call and answer. Where the clocks of most leap,
/// time follows at twice its speed at most, and falls back at half of it, unless most nodes have started
/// again: then nobody knows better than the clocks. O(n log n), and a step for each 100 ms.
pub fn create_time(case: &Case<'_>) -> Finding {
    let mut found = Found::of("create-time", Promise::O);
    let reach = Reach::of(case);
    for room in case.facts.rooms() {
        // By seq: the time, and the append that was told it.
        let mut times: BTreeMap<u64, (i64, usize)> = BTreeMap::new();
        for &at in &room.appends {
            let append = &case.history.appends[at];
            let (AppendEnd::Acked { seq }, Some(created_ms), Some(returned_us)) =
                (&append.end, append.created_ms, append.returned_us)
            else {
                continue;
            };
            times.entry(*seq).or_insert((created_ms, at));
            if append.repeats {
                continue;
            }
            found.looked_at(1);
            let (least, most) = reach.between(ms(append.invoked_us), ms(returned_us));
            if !(least..=most).contains(&created_ms) {
                found.add(1, returned_us, || {
                    let off_ms = match created_ms > most {
                        true => created_ms - most,
                        false => least - created_ms,
                    };
                    let way = if created_ms > most { "ahead" } else { "behind" };
                    let append = case.append(at);
                    format!("room {}: {append}, is stamped {off_ms} ms {way}", room.room)
                });
            }
        }
        let pairs = times.values().zip(times.values().skip(1));
        for ((before_ms, before), (after_ms, after)) in pairs {
            found.looked_at(1);
            if after_ms < before_ms {
                let at_us = case.history.appends[*after].returned_us;
                found.add(2, at_us.unwrap_or(u64::MAX), || {
                    let back_ms = before_ms - after_ms;
                    let (before, after) = (case.append(*before), case.append(*after));
                    format!(
                        "room {}: {before}, then {after}, is {back_ms} ms older",
                        room.room
                    )
                });
            }
        }
    }
    found.finding()
}

fn ms(us: u64) -> i64 {
    i64::try_from(us / 1_000).unwrap_or(i64::MAX)
}

/// What agreed time may be ahead of true time, ms, step by step.
struct Reach {
    steps: Vec<(i64, i64)>,
}

impl Reach {
    fn of(case: &Case<'_>) -> Reach {
        let began_ms = ms(case.history.began_us);
        let mut world = World::of(case);
        let mut events = case.plan.events.iter().peekable();
        let (mut least, mut most) = (-SLACK_MS, SLACK_MS);
        let mut steps = Vec::new();
        let end_ms = ms(case.history.ended_us) + 60_000;
        let mut now_ms = 0;
        while now_ms <= end_ms {
            let due = |event: &&Event| ms(event.at_ms * 1_000) + began_ms <= now_ms;
            while let Some(event) = events.next_if(due) {
                world.befalls(&event.fault, now_ms);
            }
            world.drift();
            let (low, high) = world.middle();
            let (low, high) = (low - SLACK_MS, high + SLACK_MS);
            if world.most_are_young(now_ms) {
                (least, most) = (least.min(low), most.max(high));
            }
            most += (high - most).clamp(0, STEP_MS);
            least -= (least - low).clamp(0, STEP_MS / 2);
            steps.push((least, most));
            // When all have started anew and nothing has happened since, all know what clocks say.
            if world.has_settled(now_ms) {
                least = least.max(low);
            }
            now_ms += STEP_MS;
        }
        Reach { steps }
    }

    /// The least and the most that a message may be stamped that was sent and acknowledged then.
    fn between(&self, from_ms: i64, to_ms: i64) -> (i64, i64) {
        let step = |ms: i64| usize::try_from(ms / STEP_MS).unwrap_or(0);
        let last = self.steps.len().saturating_sub(1);
        let (from, to) = (step(from_ms).min(last), (step(to_ms) + 1).min(last));
        let span = self.steps.get(from..=to).unwrap_or_default();
        let least = span.iter().map(|(least, _)| *least).min().unwrap_or(0);
        let most = span.iter().map(|(_, most)| *most).max().unwrap_or(0);
        (from_ms + least - LAG_MS, to_ms + most)
    }
}

/// The clocks of the plan.
#[derive(Default)]
struct World {
    /// Of each host, how far its wall clock is ahead, ms, and its drift, ppm.
    clocks: BTreeMap<String, (f64, f64)>,
    /// Hosts that do not run.
    down: BTreeSet<String>,
    /// When hosts started last.
    started_ms: BTreeMap<String, i64>,
    /// Whether none ran, and nothing has been known since.
    forgotten: bool,
    /// When anything happened last.
    last_ms: i64,
}

impl World {
    fn of(case: &Case<'_>) -> World {
        let nodes = case.plan.topology.nodes();
        World {
            clocks: nodes
                .map(|(_, node)| (node.name.clone(), (0.0, 0.0)))
                .collect(),
            ..World::default()
        }
    }

    fn befalls(&mut self, fault: &Fault, now_ms: i64) {
        self.last_ms = now_ms;
        for host in fault.hosts().iter() {
            let Some((ahead_ms, ppm)) = self.clocks.get_mut(host) else {
                continue;
            };
            match fault {
                Fault::ClockJump { by_ms, .. } => *ahead_ms += *by_ms as f64,
                Fault::ClockDrift { ppm: now, .. } => *ppm = *now as f64,
                Fault::Start { .. } if self.down.remove(host) => {
                    self.started_ms.insert(host.clone(), now_ms);
                }
                Fault::Burn { .. }
                | Fault::PowerCut { .. }
                | Fault::Crash { .. }
                | Fault::Kill { .. }
                | Fault::Stop { .. }
                | Fault::FailSync { fail: true, .. }
                | Fault::DiskRoom {
                    free_percent: Some(0),
                    ..
                }
                | Fault::BitFlip { .. } => {
                    self.down.insert(host.clone());
                }
                // Neither a clock nor whether the node runs.
                _ => {}
            }
        }
        self.forgotten |= self.down.len() == self.clocks.len();
    }

    fn drift(&mut self) {
        for (ahead_ms, ppm) in self.clocks.values_mut() {
            *ahead_ms += *ppm * STEP_MS as f64 / 1e6;
        }
    }

    /// The clocks in the middle.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "months in ms, of which parts of one do not count"
    )]
    fn middle(&self) -> (i64, i64) {
        let mut ahead: Vec<i64> = self.clocks.values().map(|(ms, _)| *ms as i64).collect();
        ahead.sort_unstable();
        let at = |place: usize| ahead.get(place).copied().unwrap_or(0);
        (at(ahead.len().saturating_sub(1) / 2), at(ahead.len() / 2))
    }

    /// Whether most nodes may have forgotten what was agreed on.
    fn most_are_young(&self, now_ms: i64) -> bool {
        let young = |at: &&i64| now_ms - **at < YOUNG_MS;
        let young = self.started_ms.values().filter(young).count();
        (young + self.down.len()) * 2 > self.clocks.len()
    }

    /// Whether all know again, after all had forgotten.
    fn has_settled(&mut self, now_ms: i64) -> bool {
        let settled = self.forgotten && self.down.is_empty() && now_ms - self.last_ms >= YOUNG_MS;
        self.forgotten &= !settled;
        settled
    }
}
