//! How much room the node's disk has, as the server above tells it, what the others say of theirs, and
//! what is not done for want of it.
//!
//! An append takes room on a quorum of disks. Nodes tell their room in pings and pongs, and a leader
//! refuses before it proposes when no quorum has more than its reserve: nobody may propose what the
//! others then refuse to take, or its caller never learns what became of it. Where some are not
//! reached, the rest goes on into its reserves, until no quorum of them is sure to take an entry.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use model::id::NodeId;
use model::mutant;
use parking_lot::Mutex;

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

impl Room {
    const ALL: [Room; 4] = [Room::Enough, Room::Reserved, Room::Tight, Room::Spent];

    /// As it is told to others; permanent.
    pub fn step(self) -> u8 {
        match self {
            Room::Enough => 0,
            Room::Reserved => 1,
            Room::Tight => 2,
            Room::Spent => 3,
        }
    }

    /// What another tells. Versions that do not tell, and steps that a later one adds, count as the
    /// nearest that is known.
    pub(crate) fn of_step(step: u32) -> Room {
        let step = usize::try_from(step).unwrap_or(usize::MAX);
        Room::ALL[step.min(Room::ALL.len() - 1)]
    }
}

/// The room as it is now, shared by whatever depends on it.
#[derive(Clone, Default)]
pub(crate) struct SharedRoom(Arc<Inner>);

#[derive(Default)]
struct Inner {
    own: AtomicU8,
    /// Whether any of the others has less than enough.
    short: AtomicBool,
    others: Mutex<Others>,
}

#[derive(Default)]
struct Others {
    /// What each has told last and is less than enough. It counts until it says something else: who
    /// falls silent has no more room for that.
    short: BTreeMap<NodeId, Room>,
    /// Who was reached before and is not now.
    unreached: BTreeSet<NodeId>,
}

impl SharedRoom {
    pub(crate) fn set(&self, room: Room) {
        self.0.own.store(room.step(), Ordering::Relaxed);
    }

    /// This node's own.
    pub(crate) fn own(&self) -> Room {
        Room::of_step(self.0.own.load(Ordering::Relaxed).into())
    }

    /// Whether appends are refused.
    pub(crate) fn is_full(&self) -> bool {
        self.own() > Room::Enough
    }

    /// Whether there may be no room for what is large.
    pub(crate) fn is_tight(&self) -> bool {
        self.own() > Room::Reserved
    }

    /// Whether nothing is written that can wait.
    pub(crate) fn is_spent(&self) -> bool {
        self.own() > Room::Tight
    }

    /// What another node tells of its disk.
    pub(crate) fn note(&self, node: NodeId, room: Room) {
        let mut others = self.0.others.lock();
        let before = match room {
            Room::Enough => others.short.remove(&node),
            less => others.short.insert(node, less),
        };
        self.0
            .short
            .store(!others.short.is_empty(), Ordering::Relaxed);
        drop(others);
        let before = before.unwrap_or_default();
        if (before > Room::Enough) != (room > Room::Enough) {
            tracing::info!(peer = %node, ?room, "the disk of another node changes");
        }
    }

    /// A node was lost, or is back.
    pub(crate) fn reaches(&self, node: NodeId, reached: bool) {
        let unreached = &mut self.0.others.lock().unreached;
        match reached {
            true => unreached.remove(&node),
            false => unreached.insert(node),
        };
    }

    /// Whether another node has said that its disk is full up to its reserve.
    pub(crate) fn is_short(&self, node: NodeId) -> bool {
        // There is room nearly always: one look.
        self.0.short.load(Ordering::Relaxed) && self.0.others.lock().short.contains_key(&node)
    }

    /// Whether a leader, `me`, must refuse what takes room on a quorum of these voters, as far as they
    /// have told.
    pub(crate) fn lacks_quorum(
        &self,
        me: NodeId,
        configs: impl FnOnce() -> Vec<BTreeSet<u64>>,
    ) -> bool {
        if !self.0.short.load(Ordering::Relaxed) || mutant!("room-of-its-own") {
            return false;
        }
        let (own, configs) = (self.own(), configs());
        let others = self.0.others.lock();
        configs.iter().any(|voters| others.lack(me, own, voters))
    }
}

impl Others {
    fn lack(&self, me: NodeId, own: Room, voters: &BTreeSet<u64>) -> bool {
        let (mut roomy, mut reached, mut able) = (0, 0, 0);
        for node in voters.iter().map(|id| NodeId(*id)) {
            let room = match node == me {
                true => own,
                false => self.short.get(&node).copied().unwrap_or_default(),
            };
            roomy += usize::from(room == Room::Enough);
            if !self.unreached.contains(&node) {
                reached += 1;
                able += usize::from(room < Room::Tight);
            }
        }
        let quorum = voters.len() / 2 + 1;
        // Without a quorum that is reached, room is not what is wanting.
        roomy < quorum || reached >= quorum && able < quorum
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
            assert_eq!(Room::of_step(step.step().into()), step);
        }
        assert_eq!(Room::of_step(u32::MAX), Room::Spent);
    }

    /// Whether node 1 refuses, of voters 1, 2 and 3 or of those two configurations.
    fn check(told: &[(u64, Room)], unreached: &[u64], expect: bool) {
        let room = SharedRoom::default();
        for (node, told) in told {
            room.note(NodeId(*node), *told);
        }
        for node in unreached {
            room.reaches(NodeId(*node), false);
        }
        let one = || vec![BTreeSet::from([1, 2, 3])];
        let joint = || vec![BTreeSet::from([1, 4, 5]), BTreeSet::from([1, 2, 3])];
        assert_eq!(room.lacks_quorum(NodeId(1), one), expect, "{told:?}");
        assert_eq!(room.lacks_quorum(NodeId(1), joint), expect, "{told:?}");
        // It comes back with the room.
        for (node, _) in told {
            room.note(NodeId(*node), Room::Enough);
        }
        assert!(!room.lacks_quorum(NodeId(1), one));
    }

    #[test]
    fn a_leader_refuses_when_no_quorum_has_more_than_its_reserve() {
        check(&[], &[2, 3], false);
        check(&[(2, Room::Spent)], &[], false);
        check(&[(2, Room::Reserved), (3, Room::Reserved)], &[], true);
        check(&[(2, Room::Spent), (3, Room::Reserved)], &[], true);
        // Who was full and is gone is so still.
        check(&[(2, Room::Reserved), (3, Room::Reserved)], &[3], true);
    }

    #[test]
    fn while_one_is_gone_the_rest_goes_on_until_it_might_not_take_an_entry() {
        check(&[(2, Room::Reserved)], &[3], false);
        check(&[(2, Room::Tight)], &[3], true);
        check(&[(2, Room::Tight)], &[2, 3], false);
    }

    #[test]
    fn a_leader_whose_own_disk_is_full_counts_itself() {
        let room = SharedRoom::default();
        room.set(Room::Reserved);
        room.note(NodeId(2), Room::Reserved);
        let voters = || vec![BTreeSet::from([1, 2, 3])];
        assert!(room.lacks_quorum(NodeId(1), voters));
        assert!(room.is_short(NodeId(2)) && !room.is_short(NodeId(3)));
        room.set(Room::Enough);
        assert!(!room.lacks_quorum(NodeId(1), voters));
    }
}
