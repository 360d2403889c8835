//! The room on the disk, and what a node still does as it goes: it must run out of appends before its
//! databases run out of room.
//!
//! ```text
//!   free │ appends are taken, compactions run
//!        ├─ the reserve: max(a share of the disk, what the databases may need at once) ─────────
//!        │ appends are refused (DISK_FULL), leaders go to nodes that have room; reads go on
//!        ├─ four fifths of what they may need ──────────────────────────────────────────────────
//!        │ no compaction begins
//!        ├─ a quarter of it ────────────────────────────────────────────────────────────────────
//!        │ nor a flush, and nothing is taken from leaders elsewhere, but for the meta shard's
//!      0 │ a write that finds no room stops the node; the ballast lets it start again for reads
//! ```
//!
//! The disk may be filled by others, and leaders elsewhere that have room go on: hence the steps below
//! the first. What is given up comes back a little above where it went.

use std::sync::Arc;
use std::time::Duration;

use model::mutant;
use raft::{Node, Room};
use store::engine::Engine;
use store::state::State;
use tokio::sync::watch;

use crate::config::Reserve;
use crate::drill::faults::DiskSwitch;
use crate::events::{Event, Told};
use crate::telemetry;
use crate::world::{DiskSpace, Space};

/// Between two looks at the room, and while little more than the reserve is left.
const ROOM_CHECK_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(100));
/// Of what is free above the reserve, what may be written between two looks.
const FAST_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// What is given up comes back at so many hundredths of where it went.
const BACK_PERCENT: u128 = 110;

/// What was seen of the disk last.
#[derive(Clone, Copy, Debug)]
pub struct DiskRoom {
    /// Its room.
    pub space: Space,
    /// What of it is kept.
    pub reserve: u64,
    /// What follows.
    pub room: Room,
}

impl Reserve {
    /// How much room is kept on a disk of so many bytes, whose databases may need that much at once.
    pub fn bytes(&self, total: u64, needs: u64) -> u64 {
        let share = u128::from(total) * u128::from(self.percent) / 100;
        let share = u64::try_from(share).unwrap_or(u64::MAX);
        match self.bytes {
            Some(bytes) => share.max(bytes),
            // Whoever wants none shares the disk with others, for a while.
            None if self.percent == 0 || mutant!("reserve-of-a-share-alone") => share,
            None => share.max(needs),
        }
    }
}

/// What a node may do with so much room, after it could do `before`.
fn judge(free: u64, reserve: u64, needs: u64, before: Room) -> Room {
    let needs = needs.min(reserve);
    let below = |line: u64, given_up: bool| {
        let line = u128::from(line) * if given_up { BACK_PERCENT } else { 100 } / 100;
        u128::from(free) < line
    };
    if below(needs / 4, before >= Room::Spent) {
        Room::Spent
    } else if below(needs / 5 * 4, before >= Room::Tight) {
        Room::Tight
    } else if below(reserve, before >= Room::Reserved) {
        Room::Reserved
    } else {
        Room::Enough
    }
}

/// What is seen now, after `before`, while so many bytes of state wait to be flushed: their room is
/// taken already.
fn look(
    disk: &dyn DiskSpace,
    reserve: &Reserve,
    unflushed: u64,
    before: Room,
) -> std::io::Result<DiskRoom> {
    let (space, needs) = (disk.space()?, disk.needs());
    let reserve = reserve.bytes(space.total, needs);
    let free = match reserve {
        0 => space.free,
        _ => space.free.saturating_sub(unflushed),
    };
    Ok(DiskRoom {
        space,
        reserve,
        room: judge(free, reserve, needs, before),
    })
}

/// Looks at the disk for as long as the node runs; the first time before this returns its future.
pub fn watch(
    disk: Arc<dyn DiskSpace>,
    databases: Vec<Arc<dyn Engine>>,
    state: State,
    raft: Arc<Node>,
    reserve: Reserve,
    told: Told,
    drill: DiskSwitch,
) -> (watch::Receiver<DiskRoom>, impl Future<Output = ()> + Send) {
    let none = DiskRoom {
        space: Space { free: 0, total: 0 },
        reserve: 0,
        room: Room::Enough,
    };
    let seen = watch::Sender::new(none);
    let looked = seen.subscribe();
    let mut watching = Watching {
        disk,
        databases,
        state,
        raft,
        reserve,
        seen,
        blind: false,
        told,
        drill,
    };
    // Before anything is taken.
    watching.look();
    let mut drilled = watching.drill.subscribe();
    let forever = async move {
        loop {
            tokio::select! {
                biased;
                () = DiskSwitch::changed(&mut drilled) => {}
                () = tokio::time::sleep(watching.pause()) => {}
            }
            watching.look();
        }
    };
    (looked, forever)
}

struct Watching {
    disk: Arc<dyn DiskSpace>,
    databases: Vec<Arc<dyn Engine>>,
    state: State,
    raft: Arc<Node>,
    reserve: Reserve,
    seen: watch::Sender<DiskRoom>,
    /// A drill's word on it.
    drill: DiskSwitch,
    /// The disk did not say how much room there is, and that was told.
    blind: bool,
    told: Told,
}

impl Watching {
    fn look(&mut self) {
        if let Err(why) = self.disk.present() {
            self.raft.die(why);
        }
        telemetry::know(&self.raft.view().borrow());
        let before = self.seen.borrow().room;
        let unflushed = self.state.unflushed_bytes();
        match look(&*self.disk, &self.reserve, unflushed, before) {
            Ok(mut now) => {
                self.blind = false;
                if self.drill.is_full() {
                    now.room = now.room.max(Room::Reserved);
                }
                if now.room != before {
                    tell(&now);
                    self.told.tell(&Event::Room {
                        room: now.room,
                        free: now.space.free,
                    });
                    let may = now.room < Room::Tight;
                    self.databases.iter().for_each(|one| one.compact(may));
                    self.raft.set_room(now.room);
                }
                if now.room == Room::Enough {
                    self.disk.restock(now.space.free, now.reserve);
                }
                self.seen.send_replace(now);
            }
            Err(error) if !self.blind => {
                self.blind = true;
                tracing::warn!(%error, "the disk's room cannot be seen");
            }
            Err(_) => {}
        }
    }

    /// Until the next look: more can be written in a second than is left above the reserve.
    fn pause(&self) -> Duration {
        let DiskRoom { space, reserve, .. } = *self.seen.borrow();
        let fast = space.total > 0 && space.free < reserve.saturating_add(FAST_BYTES_MAX);
        if fast {
            ROOM_CHECK_EVERY.1
        } else {
            ROOM_CHECK_EVERY.0
        }
    }
}

fn tell(now: &DiskRoom) {
    let mib = |bytes: u64| bytes >> 20;
    let (free, reserve) = (mib(now.space.free), mib(now.reserve));
    match now.room {
        Room::Enough => tracing::info!(
            free_mib = free,
            reserve_mib = reserve,
            "there is room on the disk: appends are taken"
        ),
        Room::Reserved | Room::Tight => tracing::warn!(
            free_mib = free,
            reserve_mib = reserve,
            "the disk is full but for its reserve: appends are refused with DISK_FULL and reads go \
             on; give it room, or remove what others keep there"
        ),
        Room::Spent => tracing::error!(
            free_mib = free,
            reserve_mib = reserve,
            "the disk's reserve is nearly spent: nothing is taken any more, reads go on; give it \
             room, or the node will stop"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_comes_back_a_little_above_where_it_went() {
        let check = |free, before, expect| {
            assert_eq!(judge(free, 200, 100, before), expect, "{free} {before:?}");
        };
        check(200, Room::Enough, Room::Enough);
        check(199, Room::Enough, Room::Reserved);
        check(210, Room::Reserved, Room::Reserved);
        check(220, Room::Reserved, Room::Enough);
        check(79, Room::Reserved, Room::Tight);
        check(85, Room::Tight, Room::Tight);
        check(88, Room::Tight, Room::Reserved);
        check(24, Room::Enough, Room::Spent);
        check(26, Room::Spent, Room::Spent);
        check(28, Room::Spent, Room::Tight);
        check(999, Room::Spent, Room::Enough);
        // Without a reserve nothing is ever given up.
        assert_eq!(judge(0, 0, 100, Room::Enough), Room::Enough);
    }

    #[test]
    fn the_reserve_is_a_share_of_the_disk_and_never_less_than_what_the_databases_may_need() {
        let bytes = |percent, bytes| Reserve { percent, bytes }.bytes(1_000, 80);
        assert_eq!(bytes(5, None), 80);
        assert_eq!(bytes(20, None), 200);
        assert_eq!(bytes(0, None), 0, "a disk that is shared on purpose");
        assert_eq!(bytes(5, Some(10)), 50);
        assert_eq!(bytes(5, Some(600)), 600);
        assert_eq!(bytes(0, Some(7)), 7);
        let whole = Reserve {
            percent: 50,
            bytes: None,
        };
        assert_eq!(whole.bytes(u64::MAX, 1), u64::MAX / 2);
    }
}
