//! How this node does and whom it reaches, as it tells in pings and pongs, and what the others tell
//! of themselves: the rows of the liveness matrix. Row A says from whom A gets answers, so with a
//! cut of one direction, or with a bridge, A's word on B and B's word on A differ. (There is no
//! entry for hearing without being answered: connections need both ways, and one that has lost
//! either is soon given up by both ends.)

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::id::{NodeId, ShardId};
use model::limits;
use parking_lot::Mutex;
use proto::node as wire;
use store::Log;
use tokio::time::Instant;

use crate::link::pulse::Pulse;
use crate::link::room::{Room, SharedRoom};
use crate::link::windows::Windows;
use crate::time::Time;

/// A log whose sync runs for this long is stalled.
pub(crate) const STALLED: Duration = Duration::from_millis(1_000);
/// A replica that was addressed as another is unfit for so long.
const MISADDRESSED_VALID: Duration = Duration::from_secs(2);
/// Replicas that a node calls unfit at a time: more are healed later anyway.
const UNFIT_MAX: usize = 256;
/// What a node tells counts for this long.
const TOLD_VALID: Duration = Duration::from_secs(2);

/// Shared by the links, the groups' elections and the watch over gray failures.
#[derive(Clone)]
pub(crate) struct Vitals {
    inner: Arc<Inner>,
}

struct Inner {
    me: NodeId,
    log: Log,
    pulse: Pulse,
    time: Time,
    windows: Windows,
    room: SharedRoom,
    rows: Mutex<Rows>,
}

#[derive(Default)]
struct Rows {
    /// Nodes that were reached before and are not now.
    unreached: BTreeSet<NodeId>,
    told: BTreeMap<NodeId, (wire::Health, Instant)>,
    /// Own replicas that are broken.
    broken: BTreeSet<ShardId>,
    /// Own replicas that somebody takes for earlier ones, and when.
    misaddressed: BTreeMap<ShardId, Instant>,
}

impl Vitals {
    /// Of the node `me`, whose log, clocks and room these are.
    pub(crate) fn new(
        me: NodeId,
        log: Log,
        time: Time,
        windows: Windows,
        room: SharedRoom,
    ) -> Vitals {
        Vitals {
            inner: Arc::new(Inner {
                me,
                log,
                pulse: Pulse::start(),
                time,
                windows,
                room,
                rows: Mutex::default(),
            }),
        }
    }

    /// Whether this process runs.
    pub(crate) fn pulse(&self) -> &Pulse {
        &self.inner.pulse
    }

    /// This node's clocks, and what is known of the others'.
    pub(crate) fn time(&self) -> &Time {
        &self.inner.time
    }

    /// The read windows of all nodes.
    pub(crate) fn windows(&self) -> &Windows {
        &self.inner.windows
    }

    /// What this node tells.
    pub(crate) fn mine(&self) -> wire::Health {
        let (running, usual) = self.inner.log.syncs();
        let us = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        let mut rows = self.inner.rows.lock();
        let lately = |at: &mut Instant| at.elapsed() < MISADDRESSED_VALID;
        rows.misaddressed.retain(|_, at| lately(at));
        let unfit = rows.broken.iter().chain(rows.misaddressed.keys());
        wire::Health {
            unreached: rows.unreached.iter().map(|node| node.0).collect(),
            unfit: unfit.take(UNFIT_MAX).map(|shard| shard.0).collect(),
            sync_running_ms: u32::try_from(running.as_millis()).unwrap_or(u32::MAX),
            sync_us: usual.map_or(0, us),
            lag_us: us(self.inner.pulse.lag()),
            late_us: us(self.inner.pulse.late()),
            room: self.inner.room.own().step().into(),
            drills: true,
            tenants: true,
            access: true,
        }
    }

    /// The own replica of a shard is broken, or is not any more.
    pub(crate) fn is_broken(&self, shard: ShardId, broken: bool) {
        let mut rows = self.inner.rows.lock();
        match broken {
            true => rows.broken.insert(shard),
            false => rows.broken.remove(&shard),
        };
    }

    /// Somebody has taken the own replica of a shard for another.
    pub(crate) fn misaddressed(&self, shard: ShardId) {
        let mut rows = self.inner.rows.lock();
        rows.misaddressed.insert(shard, Instant::now());
    }

    /// The own replica of a shard was addressed as what it is.
    pub(crate) fn well_addressed(&self, shard: ShardId) {
        self.inner.rows.lock().misaddressed.remove(&shard);
    }

    /// Whether a node says that its replica of a shard is broken, or another than is taken for it.
    pub(crate) fn unfit(&self, node: NodeId, shard: ShardId) -> bool {
        self.of(node, |health| health.unfit.contains(&shard.0))
            .unwrap_or(false)
    }

    /// All replicas that are said to be so, by node; those of this one too.
    pub(crate) fn all_unfit(&self) -> BTreeSet<(NodeId, ShardId)> {
        let rows = self.inner.rows.lock();
        let told = rows
            .told
            .iter()
            .filter(|(_, (_, at))| at.elapsed() < TOLD_VALID)
            .flat_map(|(node, (health, _))| {
                let shards = health.unfit.iter();
                shards.map(|shard| (*node, ShardId(*shard)))
            });
        let own = rows.broken.iter().map(|shard| (self.inner.me, *shard));
        told.chain(own).collect()
    }

    /// What another tells; absent from versions without.
    pub(crate) fn note(&self, from: NodeId, health: Option<wire::Health>) {
        if let Some(mut health) = health {
            health.unreached.truncate(limits::NODES_MAX);
            self.inner.room.note(from, Room::of_step(health.room));
            let told = (health, Instant::now());
            self.inner.rows.lock().told.insert(from, told);
        }
    }

    /// A link was lost, or is back.
    pub(crate) fn reaches(&self, node: NodeId, reached: bool) {
        self.inner.room.reaches(node, reached);
        let unreached = &mut self.inner.rows.lock().unreached;
        match reached {
            true => unreached.remove(&node),
            false => unreached.insert(node),
        };
    }

    /// What `look` finds in what a node has told lately; of this node, in what it would tell.
    fn of<T>(&self, node: NodeId, look: impl FnOnce(&wire::Health) -> T) -> Option<T> {
        if node == self.inner.me {
            return Some(look(&self.mine()));
        }
        let rows = self.inner.rows.lock();
        let (health, at) = rows.told.get(&node)?;
        (at.elapsed() < TOLD_VALID).then(|| look(health))
    }

    /// Whether a node is of a version that knows drills, as it says itself.
    pub(crate) fn knows_drills(&self, node: NodeId) -> bool {
        self.of(node, |health| health.drills).unwrap_or(false)
    }

    /// Whether a node is of a version that knows tenants, as it says itself.
    pub(crate) fn knows_tenants(&self, node: NodeId) -> bool {
        self.of(node, |health| health.tenants).unwrap_or(false)
    }

    /// Whether a node is of a version that knows keys, issuers and the audit, as it says itself.
    pub(crate) fn knows_access(&self, node: NodeId) -> bool {
        self.of(node, |health| health.access).unwrap_or(false)
    }

    /// Whether a node's disk is full up to its reserve, as it says itself.
    pub(crate) fn short_of_room(&self, node: NodeId) -> bool {
        match node == self.inner.me {
            true => self.inner.room.is_full(),
            false => self.inner.room.is_short(node),
        }
    }

    /// Whether a node's log waits for its disk, as it says itself.
    pub(crate) fn stalled(&self, node: NodeId) -> bool {
        if node == self.inner.me {
            // Asked for every command.
            return self.inner.log.syncs().0 >= STALLED;
        }
        let stalled = |health: &wire::Health| {
            Duration::from_millis(u64::from(health.sync_running_ms)) >= STALLED
        };
        self.of(node, stalled).unwrap_or(false)
    }

    /// Whether `from` has told lately how it does, and does not say that it has lost `to`. One that
    /// has never reached it says nothing of it either.
    pub(crate) fn says_reached(&self, from: NodeId, to: NodeId) -> bool {
        self.of(from, |health| !health.unreached.contains(&to.0))
            .unwrap_or(false)
    }

    /// Whether `from` says that it does not reach `to`.
    pub(crate) fn says_unreached(&self, from: NodeId, to: NodeId) -> bool {
        self.of(from, |health| health.unreached.contains(&to.0))
            .unwrap_or(false)
    }

    /// For how long any of these nodes stands still again and again, as far as they have told.
    pub(crate) fn lateness(&self, nodes: impl IntoIterator<Item = NodeId>) -> Duration {
        let late = |node| self.of(node, |health| health.late_us);
        let late = nodes.into_iter().filter_map(late).max();
        Duration::from_micros(u64::from(late.unwrap_or(0)))
    }

    /// By how much a node's tasks run late, as it has told lately; zero when it has not.
    pub(crate) fn lag(&self, node: NodeId) -> Duration {
        let lag = self.of(node, |health| Duration::from_micros(health.lag_us.into()));
        lag.unwrap_or_default()
    }

    /// What a node's disk and processor add to each round: what a sync takes, or has taken so far,
    /// and its lag. `None` when it has told nothing lately.
    pub(crate) fn burden(&self, node: NodeId) -> Option<Duration> {
        self.of(node, |health| {
            let running = Duration::from_millis(u64::from(health.sync_running_ms));
            let usual = Duration::from_micros(u64::from(health.sync_us));
            running.max(usual) + Duration::from_micros(u64::from(health.lag_us))
        })
    }
}

#[cfg(test)]
mod tests {
    use store::engine::memory::{Disk, Memory};

    use super::*;

    const OTHER: NodeId = NodeId(2);

    fn vitals(disk: &Disk) -> Vitals {
        let (log, writer) = Log::open(Arc::new(Memory::open(disk))).unwrap();
        tokio::spawn(writer);
        Vitals::of_tests(NodeId(1), log)
    }

    impl Vitals {
        /// Those of a node whose clock is right and that has heard of nobody.
        pub(crate) fn of_tests(me: NodeId, log: Log) -> Vitals {
            let windows =
                crate::link::windows::tests::alone(Duration::from_millis(150), log.clone());
            let time = crate::time::tests::right();
            Vitals::new(me, log, time, windows, SharedRoom::default())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_node_tells_counts_while_it_is_fresh() {
        let vitals = vitals(&Disk::new());
        assert!(!vitals.stalled(OTHER) && vitals.burden(OTHER).is_none());
        let health = wire::Health {
            unreached: vec![3],
            sync_running_ms: 1_000,
            sync_us: 5,
            lag_us: 7,
            late_us: 9,
            unfit: vec![4],
            room: 1,
            ..wire::Health::default()
        };
        vitals.note(OTHER, Some(health));
        vitals.note(OTHER, None);
        assert!(vitals.stalled(OTHER) && vitals.short_of_room(OTHER));
        assert!(vitals.unfit(OTHER, ShardId(4)) && !vitals.unfit(OTHER, ShardId(5)));
        assert_eq!(vitals.all_unfit(), BTreeSet::from([(OTHER, ShardId(4))]));
        assert!(vitals.says_unreached(OTHER, NodeId(3)));
        assert!(!vitals.says_unreached(OTHER, NodeId(1)));
        assert!(vitals.says_reached(OTHER, NodeId(1)));
        assert!(!vitals.says_reached(OTHER, NodeId(3)));
        assert_eq!(vitals.burden(OTHER), Some(Duration::from_micros(1_000_007)));
        let nodes = [NodeId(1), OTHER, NodeId(3)];
        assert_eq!(vitals.lateness(nodes), Duration::from_micros(9));
        vitals.is_broken(ShardId(6), true);
        vitals.misaddressed(ShardId(7));
        assert_eq!(vitals.mine().unfit, [6, 7]);
        tokio::time::advance(TOLD_VALID).await;
        assert_eq!(vitals.mine().unfit, [6]);
        vitals.is_broken(ShardId(6), false);
        assert!(vitals.mine().unfit.is_empty() && vitals.all_unfit().is_empty());
        assert!(!vitals.stalled(OTHER) && !vitals.says_unreached(OTHER, NodeId(3)));
        assert!(!vitals.says_reached(OTHER, NodeId(1)), "it is silent");
        assert!(vitals.short_of_room(OTHER), "silence makes no room");
        vitals.inner.room.set(Room::Tight);
        assert_eq!(vitals.mine().room, 2);
        assert!(vitals.short_of_room(NodeId(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_shows_while_it_hangs_and_a_lost_link_until_it_is_back() {
        let disk = Disk::new();
        let vitals = vitals(&disk);
        disk.hold_syncs(true);
        let synced = tokio::spawn(vitals.inner.log.sync());
        tokio::time::sleep(STALLED + Duration::from_millis(1)).await;
        assert!(vitals.stalled(NodeId(1)));
        disk.hold_syncs(false);
        synced.await.unwrap().unwrap();
        assert!(!vitals.stalled(NodeId(1)));
        assert!(vitals.mine().sync_us >= 1_000_000);
        vitals.reaches(OTHER, false);
        assert_eq!(vitals.mine().unreached, [2]);
        vitals.reaches(OTHER, true);
        assert!(vitals.mine().unreached.is_empty());
    }
}
