//! How one node is doing, and which node is the best to ask.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proto::net::Channel;
use tokio::sync::watch;
use tokio::time::Instant;

use super::lease::Tried;
use crate::options::{DC_SUSPECT, LATENCY_VALID, LEAVING_VALID, MAINTAIN_INTERVAL, WARM_VALID};

/// A node that the client knows.
pub(super) struct Node {
    pub(super) address: Arc<str>,
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) dc: Arc<str>,
    pub(super) channel: Channel,
    /// Breaks ties between equal nodes: clients spread over them, each by its own seed.
    pub(super) rank: u64,
    pub(super) active: u32,
    pub(super) lost: Option<Lost>,
    pub(super) refusals: u32,
    /// When it said last that it drains or stops.
    pub(super) leaving: Option<Instant>,
    /// When it answered last: its connection is open.
    pub(super) answered: Option<Instant>,
    pub(super) latency: Option<(Duration, Instant)>,
    /// A running mean over what it takes to be answered by the node itself.
    pub(super) round: Option<Duration>,
    /// The shortest of these lately: how far it is, without what it waits for now and then.
    pub(super) nearness: Option<Duration>,
    /// Streams that are followed there.
    pub(super) followed: u32,
    /// Tells those that it fell silent.
    pub(super) silences: watch::Sender<()>,
}

/// Rounds to the data centers.
pub(super) type Rounds<'a> = BTreeMap<&'a str, Duration>;

#[derive(Clone, Copy)]
pub(super) struct Lost {
    pub(super) since: Instant,
    pub(super) next_probe: Instant,
    pub(super) interval: Duration,
}

impl Node {
    pub(super) fn lose(&mut self, now: Instant) {
        // Many calls in flight fail together: that is one loss.
        if self.lost.is_none() {
            let interval = MAINTAIN_INTERVAL;
            self.lost = Some(Lost {
                since: now,
                next_probe: now + interval,
                interval,
            });
        }
    }

    pub(super) fn is_leaving(&self, now: Instant) -> bool {
        self.leaving.is_some_and(|at| now - at < LEAVING_VALID)
    }

    /// Whether its connection is likely to be open.
    pub(super) fn is_warm(&self, now: Instant) -> bool {
        self.answered.is_some_and(|at| now - at < WARM_VALID)
    }

    /// Whether its answers take long, whatever the reason: coarse, so that noise does not move calls
    /// about.
    pub(super) fn slowness(&self, now: Instant) -> u8 {
        match self.latency {
            Some((mean, at)) if now - at < LATENCY_VALID => match mean.as_millis() {
                0..250 => 0,
                250..1_000 => 1,
                _ => 2,
            },
            _ => 0,
        }
    }

    /// How far away it is: as its data center, when it was never asked itself. Unknown is near, so
    /// that it becomes known.
    pub(super) fn distance(&self, rounds: &Rounds<'_>) -> u8 {
        let round = self.nearness.or_else(|| rounds.get(&*self.dc).copied());
        round.map_or(0, distance)
    }
}

/// How far away a node is with this round: a metropolis, a country, a continent, the world. Coarse,
/// so that calls spread over nodes that are as good as each other.
fn distance(round: Duration) -> u8 {
    match round.as_millis() {
        0..10 => 0,
        10..60 => 1,
        60..150 => 2,
        _ => 3,
    }
}

/// The shortest round to a node of each data center that answers.
pub(super) fn rounds(list: &[Node]) -> Rounds<'_> {
    let mut rounds = Rounds::new();
    for node in list {
        if let Some(round) = node.nearness
            && node.lost.is_none()
            && !node.dc.is_empty()
        {
            let best = rounds.entry(&node.dc).or_insert(round);
            *best = round.min(*best);
        }
    }
    rounds
}

/// The position of the best node for a call that has tried some; `None` in an empty list.
pub(super) fn best(list: &[Node], tried: &Tried, now: Instant) -> Option<usize> {
    let suspects: Vec<&Arc<str>> = list
        .iter()
        .filter(|node| node.lost.is_some_and(|lost| now - lost.since < DC_SUSPECT))
        .map(|node| &node.dc)
        .filter(|dc| !dc.is_empty())
        .collect();
    let retries = !tried.addresses.is_empty();
    let rounds = rounds(list);
    let score = |node: &Node| {
        let tries = tried.addresses.iter();
        let times = tries.filter(|one| **one == node.address).count();
        let shunned = tried.avoid_dc.as_ref() == Some(&node.dc) || suspects.contains(&&node.dc);
        (
            node.lost.is_some(),
            node.is_leaving(now),
            times,
            shunned,
            node.slowness(now),
            node.distance(&rounds),
            // Whoever is in a hurry needs an open connection.
            retries && !node.is_warm(now),
            node.active,
            node.rank,
        )
    };
    (0..list.len()).min_by_key(|at| score(&list[*at]))
}
