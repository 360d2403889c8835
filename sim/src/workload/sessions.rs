//! Who takes part in a load: the numbers of all sessions and the sites at which they live. Both
//! follow from the plan alone, never from who comes first in a run.

use crate::history::Level;
use crate::plan::{Readers, Workload};

/// The sessions of a load, numbered: senders, readers, tails, movers, and one prober of each room.
#[derive(Clone, Copy, Debug)]
pub struct Sessions {
    senders: u32,
    readers: u32,
    tails: u32,
    movers: u32,
}

impl Sessions {
    /// Those of `workload`.
    pub fn of(workload: &Workload) -> Sessions {
        let readers = workload.readers;
        Sessions {
            senders: workload.senders,
            readers: readers.linearizable + readers.session + readers.bounded + readers.local,
            tails: workload.tails,
            movers: workload.movers,
        }
    }

    /// Of sender `k`.
    pub fn sender(self, k: u32) -> u32 {
        k
    }

    /// Of reader `k`, in the order of [`levels`].
    pub fn reader(self, k: u32) -> u32 {
        self.senders + k
    }

    /// Of tail `k`.
    pub fn tail(self, k: u32) -> u32 {
        self.reader(self.readers) + k
    }

    /// Of mover `k`.
    pub fn mover(self, k: u32) -> u32 {
        self.tail(self.tails) + k
    }

    /// Of the prober of `room`.
    pub fn prober(self, room: u32) -> u32 {
        self.mover(self.movers) + room
    }
}

/// The level of each reader.
pub fn levels(readers: &Readers) -> Vec<Level> {
    let bounded = Level::Bounded {
        bound_ms: readers.bound_ms,
    };
    let kinds = [
        (Level::Linearizable, readers.linearizable),
        (Level::Session, readers.session),
        (bounded, readers.bounded),
        (Level::Local, readers.local),
    ];
    let each = kinds.into_iter();
    each.flat_map(|(level, count)| (0..count).map(move |_| level))
        .collect()
}

/// Those of `count` that live at the site in place `site` of `sites`: they are dealt out in turn.
pub fn living_at(site: usize, sites: usize, count: u32) -> impl Iterator<Item = u32> {
    (0..count).skip(site).step_by(sites.max(1))
}

/// Whether sender `k` sends on its site's stream: `stream_percent` of each site's senders do, and
/// what is left over at one site counts on at the next.
pub fn streams(workload: &Workload, k: u32) -> bool {
    let sites = u32::try_from(workload.sites.len()).unwrap_or(1).max(1);
    let (site, place) = (k % sites, k / sites);
    let before: u32 = (0..site)
        .map(|site| workload.senders.saturating_sub(site).div_ceil(sites))
        .sum();
    let share =
        |senders: u32| u64::from(senders) * u64::from(workload.stream_percent.min(100)) / 100;
    share(before + place + 1) > share(before + place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::tests::plan;

    #[test]
    fn no_two_sessions_have_one_number() {
        let workload = plan(1).workload;
        let sessions = Sessions::of(&workload);
        let readers = levels(&workload.readers).len();
        let mut numbers: Vec<u32> = (0..workload.senders).map(|k| sessions.sender(k)).collect();
        numbers.extend((0..u32::try_from(readers).unwrap()).map(|k| sessions.reader(k)));
        numbers.extend((0..workload.tails).map(|k| sessions.tail(k)));
        numbers.extend((0..workload.movers).map(|k| sessions.mover(k)));
        numbers.extend((0..workload.rooms).map(|room| sessions.prober(room)));
        let expect: Vec<u32> = (0..u32::try_from(numbers.len()).unwrap()).collect();
        assert_eq!(numbers, expect);
    }

    #[test]
    fn everyone_lives_at_exactly_one_site() {
        let mut all: Vec<u32> = (0..3).flat_map(|site| living_at(site, 3, 11)).collect();
        all.sort_unstable();
        assert_eq!(all, (0..11).collect::<Vec<_>>());
        assert_eq!(living_at(1, 3, 8).collect::<Vec<_>>(), [1, 4, 7]);
    }

    #[test]
    fn the_share_of_streaming_senders_is_that_of_the_plan_at_every_site() {
        let check = |senders, stream_percent, expect: [usize; 2]| {
            let workload = Workload {
                senders,
                stream_percent,
                ..plan(1).workload
            };
            let at = |site| living_at(site, 2, senders).filter(|k| streams(&workload, *k));
            assert_eq!(
                [at(0).count(), at(1).count()],
                expect,
                "{senders} {stream_percent}"
            );
        };
        assert_eq!(plan(1).workload.sites.len(), 2);
        check(8, 0, [0, 0]);
        check(8, 100, [4, 4]);
        check(8, 50, [2, 2]);
        check(2, 50, [0, 1]);
        check(20, 30, [3, 3]);
    }
}
