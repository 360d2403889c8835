//! How much room the node's disk has, as the server above tells it, and what is not done for want of
//! it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// How much room there is on the disk; each step gives up what those before it do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// More than the reserve.
    #[default]
    Enough,
    /// Less: appends are refused while this node leads, and its leaders are given away.
    Reserved,
    /// Not all of what the databases may need at once: no compaction begins, and no snapshot is taken.
    Tight,
    /// Hardly any: nothing is flushed, and no entry is taken but the meta shard's.
    Spent,
}

/// The room as it is now, shared by whatever depends on it.
#[derive(Clone, Default)]
pub(crate) struct SharedRoom(Arc<AtomicU8>);

impl SharedRoom {
    pub(crate) fn set(&self, room: Room) {
        let step = match room {
            Room::Enough => 0,
            Room::Reserved => 1,
            Room::Tight => 2,
            Room::Spent => 3,
        };
        self.0.store(step, Ordering::Relaxed);
    }

    /// Whether appends are refused.
    pub(crate) fn is_full(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// Whether there may be no room for what is large.
    pub(crate) fn is_tight(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 1
    }

    /// Whether nothing is written that can wait.
    pub(crate) fn is_spent(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_gives_up_what_those_before_it_do() {
        let room = SharedRoom::default();
        for (step, is) in [
            (Room::Reserved, (true, false, false)),
            (Room::Tight, (true, true, false)),
            (Room::Spent, (true, true, true)),
            (Room::Enough, (false, false, false)),
        ] {
            room.set(step);
            let found = (room.is_full(), room.is_tight(), room.is_spent());
            assert_eq!(found, is, "{step:?}");
        }
    }
}
