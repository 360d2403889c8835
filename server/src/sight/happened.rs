//! What happened on this node since its start, counted for metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::durations::{Counted, Durations};
use parking_lot::Mutex;
use raft::{ElectionCause, Event as Raft, HandOverCause, MoveStep, Verdict};

use crate::events::{Event, Events};

/// How an election ended, as metrics name it.
pub const ENDS: [&str; 3] = ["replaced", "kept", "nobody"];

/// Counts what happens. Clones count in one.
#[derive(Clone, Default)]
pub struct Happened(Arc<Inner>);

#[derive(Default)]
struct Inner {
    elections: Mutex<BTreeMap<(ElectionCause, &'static str), u64>>,
    election_durations: Durations,
    hand_overs: Mutex<BTreeMap<(HandOverCause, bool), u64>>,
    hand_over_durations: Durations,
    verdicts: Mutex<BTreeMap<Verdict, u64>>,
    moves: Mutex<BTreeMap<MoveStep, u64>>,
    snapshots_sent: AtomicU64,
    snapshots_installed: AtomicU64,
    read_rounds: AtomicU64,
    stalls: AtomicU64,
    quorums_lost: AtomicU64,
    replicas_broken: AtomicU64,
}

impl Happened {
    /// Elections that ended here, by why they began and how: another leads, the old one leads on, or nobody does.
    pub fn elections(&self) -> Vec<(&'static str, &'static str, u64)> {
        let elections = self.0.elections.lock();
        let all = ElectionCause::ALL.iter().flat_map(|cause| {
            let count = |end: &&'static str| elections.get(&(*cause, *end)).copied().unwrap_or(0);
            let ends = ENDS.iter().map(move |end| (cause.name(), *end, count(end)));
            ends.collect::<Vec<_>>()
        });
        all.collect()
    }

    /// What those took in which somebody won.
    pub fn election_durations(&self) -> Counted {
        self.0.election_durations.counted()
    }

    /// Hand-overs by this node, by why, and whether somebody took over.
    pub fn hand_overs(&self) -> Vec<(&'static str, &'static str, u64)> {
        let hand_overs = self.0.hand_overs.lock();
        let all = HandOverCause::ALL.iter().flat_map(|cause| {
            let count = |taken| hand_overs.get(&(*cause, taken)).copied().unwrap_or(0);
            [
                (cause.name(), "taken", count(true)),
                (cause.name(), "refused", count(false)),
            ]
        });
        all.collect()
    }

    /// What those took that somebody took over.
    pub fn hand_over_durations(&self) -> Counted {
        self.0.hand_over_durations.counted()
    }

    /// How often another node was thought of so.
    pub fn verdicts(&self) -> Vec<(&'static str, u64)> {
        let verdicts = self.0.verdicts.lock();
        let count = |verdict: &Verdict| verdicts.get(verdict).copied().unwrap_or(0);
        Verdict::ALL
            .iter()
            .map(|one| (one.name(), count(one)))
            .collect()
    }

    /// How often a move of a replica took this step, as this node knows.
    pub fn moves(&self) -> Vec<(&'static str, u64)> {
        let moves = self.0.moves.lock();
        let count = |step: &MoveStep| moves.get(step).copied().unwrap_or(0);
        MoveStep::ALL
            .iter()
            .map(|one| (one.name(), count(one)))
            .collect()
    }

    /// Snapshots sent, and installed.
    pub fn snapshots(&self) -> [(&'static str, u64); 2] {
        let inner = &self.0;
        [
            ("sent", inner.snapshots_sent.load(Ordering::Relaxed)),
            (
                "installed",
                inner.snapshots_installed.load(Ordering::Relaxed),
            ),
        ]
    }

    /// Rounds among followers so that reads could be answered.
    pub fn read_rounds(&self) -> u64 {
        self.0.read_rounds.load(Ordering::Relaxed)
    }

    /// How often a node's log began to wait for its disk, as seen from here.
    pub fn stalls(&self) -> u64 {
        self.0.stalls.load(Ordering::Relaxed)
    }

    /// How often a shard's majority was not heard any more.
    pub fn quorums_lost(&self) -> u64 {
        self.0.quorums_lost.load(Ordering::Relaxed)
    }

    /// How often a replica of this node broke.
    pub fn replicas_broken(&self) -> u64 {
        self.0.replicas_broken.load(Ordering::Relaxed)
    }
}

impl Events for Happened {
    fn note(&self, event: &Event) {
        let Event::Raft(event) = event else {
            return;
        };
        let inner = &self.0;
        let one_more = |counter: &AtomicU64| {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        match event {
            Raft::ElectionEnded {
                cause,
                took,
                won,
                old,
                ..
            } => {
                let end = match won {
                    None => "nobody",
                    Some(won) if Some(*won) == *old => "kept",
                    Some(_) => "replaced",
                };
                *inner.elections.lock().entry((*cause, end)).or_default() += 1;
                if won.is_some() {
                    inner.election_durations.add(*took);
                }
            }
            Raft::HandedOver {
                cause, took, to, ..
            } => {
                let key = (*cause, to.is_some());
                *inner.hand_overs.lock().entry(key).or_default() += 1;
                if to.is_some() {
                    inner.hand_over_durations.add(*took);
                }
            }
            Raft::Verdict { verdict, .. } => {
                *inner.verdicts.lock().entry(*verdict).or_default() += 1;
            }
            Raft::Move { step, .. } => *inner.moves.lock().entry(*step).or_default() += 1,
            Raft::SnapshotSent { .. } => one_more(&inner.snapshots_sent),
            Raft::SnapshotInstalled { .. } => one_more(&inner.snapshots_installed),
            Raft::ReadRounds { rounds } => {
                inner.read_rounds.fetch_add(*rounds, Ordering::Relaxed);
            }
            Raft::DiskStalled { stalled: true, .. } => one_more(&inner.stalls),
            Raft::Quorum { lost: true, .. } => one_more(&inner.quorums_lost),
            Raft::ReplicaBroken { .. } => one_more(&inner.replicas_broken),
            Raft::ReplicaOpened { .. }
            | Raft::ReplicaClosed { .. }
            | Raft::ReplicaRebuilt { .. }
            | Raft::Voted { .. }
            | Raft::Led { .. }
            | Raft::Leaderless { .. }
            | Raft::ElectionBegan { .. }
            | Raft::DiskStalled { stalled: false, .. }
            | Raft::ClockOff { .. }
            | Raft::Suspended { .. }
            | Raft::Drain { .. }
            | Raft::Quorum { lost: false, .. }
            | Raft::Decided { .. } => {}
        }
    }
}
