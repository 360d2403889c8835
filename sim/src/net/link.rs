//! How long packets take: latency, jitter, loss and bandwidth of one direction between two groups
//! of hosts.

use std::collections::BTreeMap;

use rand::Rng as _;
use rand::rngs::StdRng;

use crate::plan::Link;

/// The first retransmission of a lost segment comes this late, as Linux's least RTO.
pub(super) const RETRANSMIT_US: u64 = 200_000;
/// The longest pause between two retransmissions.
const RETRANSMIT_MAX_US: u64 = 15_000_000;

/// A group of hosts, by number.
pub(super) type GroupId = usize;

/// All directions between groups of hosts.
pub(super) struct Links {
    /// Within a group, and between groups, that nothing else was said of.
    local: Link,
    wan: Link,
    directions: BTreeMap<(GroupId, GroupId), Direction>,
}

impl Links {
    pub(super) fn new(local: Link, wan: Link) -> Links {
        Links {
            local,
            wan,
            directions: BTreeMap::new(),
        }
    }

    /// How packets usually go from the one group to the other.
    pub(super) fn set_usual(&mut self, pair: (GroupId, GroupId), link: Link) {
        self.directions.insert(pair, Direction::new(link));
    }

    /// From the one group to the other.
    pub(super) fn direction(&mut self, pair: (GroupId, GroupId)) -> &mut Direction {
        let usual = match pair.0 == pair.1 {
            true => self.local,
            false => self.wan,
        };
        self.directions
            .entry(pair)
            .or_insert_with(|| Direction::new(usual))
    }
}

/// One direction between two groups of hosts.
#[derive(Clone, Debug)]
pub(super) struct Direction {
    /// As the topology says.
    pub usual: Link,
    /// As it is now.
    pub now: Link,
    /// Until when the bytes before are on the line.
    busy_until_us: u64,
}

impl Direction {
    pub(super) fn new(usual: Link) -> Direction {
        Direction {
            usual,
            now: usual,
            busy_until_us: 0,
        }
    }

    /// When `bytes` that are sent at `now_us` arrive, microseconds. Losses cost retransmissions.
    pub(super) fn arrival_us(&mut self, now_us: u64, bytes: u64, dice: &mut StdRng) -> u64 {
        let mut sent = now_us;
        if let Some(on_line) = (bytes * 1_000_000).checked_div(self.now.bandwidth_bytes) {
            sent = sent.max(self.busy_until_us) + on_line;
            self.busy_until_us = sent;
        }
        let (least, most) = self.now.latency_us;
        let mut delay = dice.random_range(least..=most.max(least));
        if self.now.jitter_us > 0 {
            delay += dice.random_range(0..=self.now.jitter_us);
        }
        let mut attempt = 0;
        while self.now.loss_ppm > 0 && dice.random_range(0..1_000_000) < self.now.loss_ppm {
            // Every second loss is noticed by what follows it, and costs a round trip only.
            let noticed = attempt == 0 && dice.random_bool(0.5);
            delay += if noticed {
                2 * most
            } else {
                backoff_us(attempt)
            };
            attempt += 1;
        }
        sent + delay
    }
}

/// The pause before retransmission `attempt`, 0 being the first.
pub(super) fn backoff_us(attempt: u32) -> u64 {
    (RETRANSMIT_US << attempt.min(10)).min(RETRANSMIT_MAX_US)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::dice;

    fn link() -> Link {
        Link {
            latency_us: (15_000, 15_000),
            jitter_us: 0,
            loss_ppm: 0,
            bandwidth_bytes: 0,
        }
    }

    #[test]
    fn a_plain_link_takes_its_latency() {
        let mut direction = Direction::new(link());
        let mut dice = dice(1, "link");
        assert_eq!(direction.arrival_us(1_000, 9_000, &mut dice), 16_000);
    }

    #[test]
    fn bytes_wait_for_the_bytes_before_them() {
        let mut direction = Direction::new(Link {
            bandwidth_bytes: 1_000_000,
            ..link()
        });
        let mut dice = dice(1, "link");
        assert_eq!(direction.arrival_us(0, 1_000, &mut dice), 16_000);
        assert_eq!(direction.arrival_us(0, 1_000, &mut dice), 17_000);
        assert_eq!(direction.arrival_us(50_000, 1_000, &mut dice), 66_000);
    }

    #[test]
    fn a_lossy_link_delivers_late_as_often_as_it_loses() {
        let mut direction = Direction::new(Link {
            loss_ppm: 50_000,
            ..link()
        });
        let mut dice = dice(7, "link");
        let late = (0..10_000)
            .filter(|_| direction.arrival_us(0, 1, &mut dice) > 15_000)
            .count();
        assert!((400..600).contains(&late), "{late}");
    }

    #[test]
    fn retransmissions_back_off_to_a_bound() {
        assert_eq!(backoff_us(0), 200_000);
        assert_eq!(backoff_us(3), 1_600_000);
        assert_eq!(backoff_us(60), RETRANSMIT_MAX_US);
    }
}
