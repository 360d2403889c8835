//! The node's clocks, and the time that the nodes agree on ([`agree`]).
//!
//! ```text
//!  wall clock ──┐                      ┌─► agreed time ─► command time ([`stamp`])
//!  steady clock ┼─► look, 5 a second ──┤
//!  pongs ───────┘   (the others')      └─► whose clock is off ─► it gives up what it leads
//! ```
//!
//! The *steady clock* is the monotonic one together with the time for which the machine was
//! suspended, which the monotonic one leaves out. Leases and ages are measured on it: a machine that
//! wakes up must not take for fresh what is from before it slept (promises L and S). What cannot be
//! seen at all is a virtual machine that is stopped as a whole, all its clocks with it: for such
//! there is `raft.read_lease_ms = 0`, with which each LINEARIZABLE read asks a quorum.

pub(crate) mod agree;
pub(crate) mod stamp;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use model::id::NodeId;
use model::mutant;
use parking_lot::Mutex;
use proto::node as wire;
use tokio::time::Instant;

use self::agree::{PeerClock, Sight};
use crate::api::Clock;

/// A moment of the steady clock: how long after the node's start it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Steady(Duration);

impl Steady {
    /// The moment so long after the start.
    pub(crate) const fn after(start: Duration) -> Steady {
        Steady(start)
    }

    /// What passed between an earlier moment and this one; zero for a later one.
    pub(crate) fn since(self, earlier: Steady) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::ops::Add<Duration> for Steady {
    type Output = Steady;

    fn add(self, later: Duration) -> Steady {
        Steady(self.0.saturating_add(later))
    }
}

/// Between two looks at this node's clocks and the others'.
pub(crate) const CLOCK_CHECK_EVERY: Duration = Duration::from_millis(200);
/// What a node tells of its clock counts for this long.
const TOLD_VALID: Duration = Duration::from_secs(10);
/// A reading that took longer does not replace a better one that is younger than this.
const BETTER_FOR: Duration = Duration::from_secs(3);
/// For so long a clock must be off before its node gives up what it leads.
const OFF_FOR: Duration = Duration::from_secs(1);
/// For so long it must be right again before the node leads again.
const RIGHT_FOR: Duration = Duration::from_secs(5);
/// What is shorter than this is not worth a line: the two clocks are read one behind the other.
pub(crate) const SUSPENDED_MS_TOLD: u128 = 50;
/// Nothing is agreed on yet.
const UNKNOWN: i64 = i64::MIN;

/// A node's clocks. Clones share them.
#[derive(Clone)]
pub(crate) struct Time {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Arc<dyn Clock>,
    began: Instant,
    /// For how long the machine was suspended since `began`, microseconds. Never less than before.
    suspended_us: AtomicU64,
    suspended_before: Duration,
    /// The offset of the agreed time, ms.
    agreed_ms: AtomicI64,
    others: Mutex<BTreeMap<NodeId, Reading>>,
    known: Mutex<Known>,
}

/// What another node told, and when that came.
#[derive(Clone, Copy)]
struct Reading {
    told: PeerClock,
    at: Steady,
    /// The newest format of entries that it reads, as told last.
    entry_format: u32,
}

/// What the looks have found.
#[derive(Default)]
struct Known {
    /// The first and the last look.
    looked: Option<(Steady, Steady)>,
    /// Nodes whose clocks are off, by how much.
    off: BTreeMap<NodeId, i64>,
    /// Since when each of these has been off, or right again.
    since: BTreeMap<NodeId, Steady>,
    /// Nodes that are not to lead.
    unfit: BTreeSet<NodeId>,
    /// Whether the agreed time is on its way to what most clocks say.
    drawn: bool,
}

impl Time {
    /// By this machine's clocks.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Time {
        let suspended_before = clock.suspended();
        Time {
            inner: Arc::new(Inner {
                clock,
                began: Instant::now(),
                suspended_us: AtomicU64::new(0),
                suspended_before,
                agreed_ms: AtomicI64::new(UNKNOWN),
                others: Mutex::default(),
                known: Mutex::default(),
            }),
        }
    }

    /// The steady clock.
    pub(crate) fn now(&self) -> Steady {
        // In this order: a machine that is suspended between the two is one that is suspended behind
        // this call, and nothing is counted twice.
        let suspended = match mutant!("suspended-time-forgotten") {
            true => Duration::ZERO,
            false => self.suspended(),
        };
        Steady(self.inner.began.elapsed().saturating_add(suspended))
    }

    /// The time since a moment of the steady clock.
    pub(crate) fn since(&self, then: Steady) -> Duration {
        self.now().since(then)
    }

    /// For how long the machine has been suspended since this began.
    pub(crate) fn suspended(&self) -> Duration {
        let inner = &self.inner;
        let now = inner.clock.suspended();
        let since = now.saturating_sub(inner.suspended_before);
        let us = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        let before = inner.suspended_us.fetch_max(us, Ordering::Relaxed);
        Duration::from_micros(before.max(us))
    }

    /// The wall clock, Unix milliseconds.
    pub(crate) fn wall_ms(&self) -> u64 {
        self.inner.clock.unix_ms()
    }

    /// Milliseconds of the steady clock.
    fn steady_ms(&self) -> i64 {
        i64::try_from(self.now().0.as_millis()).unwrap_or(i64::MAX)
    }

    fn offset_ms(&self, unix_ms: u64) -> i64 {
        let unix_ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
        unix_ms.saturating_sub(self.steady_ms())
    }

    fn agreed_offset_ms(&self) -> Option<i64> {
        let agreed = self.inner.agreed_ms.load(Ordering::Relaxed);
        (agreed != UNKNOWN).then_some(agreed)
    }

    /// The agreed time, Unix milliseconds; none until it is known.
    pub(crate) fn agreed_ms(&self) -> Option<u64> {
        let agreed = self.agreed_offset_ms()?.saturating_add(self.steady_ms());
        Some(u64::try_from(agreed).unwrap_or(0))
    }

    /// What this node tells of its clocks.
    pub(crate) fn told(&self) -> wire::Clock {
        wire::Clock {
            wall_ms: self.wall_ms(),
            agreed_ms: self.agreed_ms().unwrap_or(0),
            entry_format: model::command::FORMAT,
        }
    }

    /// `from` answered so to what was sent at `sent`, of the steady clock.
    pub(crate) fn note(&self, from: NodeId, clock: Option<wire::Clock>, sent: Steady) {
        let Some(clock) = clock else { return };
        let now = self.now();
        let round = now.since(sent);
        let error_ms = i64::try_from(round.as_millis() / 2).unwrap_or(i64::MAX);
        // Somewhere within the round it was read; most likely in the middle.
        let offset = |unix_ms| self.offset_ms(unix_ms).saturating_add(error_ms);
        let told = PeerClock {
            wall_ms: offset(clock.wall_ms),
            agreed_ms: (clock.agreed_ms > 0).then(|| offset(clock.agreed_ms)),
            error_ms,
        };
        let entry_format = clock.entry_format;
        let mut others = self.inner.others.lock();
        if let Some(before) = others.get_mut(&from) {
            before.entry_format = entry_format;
        }
        let better = others.get(&from).is_some_and(|before| {
            before.told.error_ms.saturating_mul(2).saturating_add(10) < error_ms
                && now.since(before.at) < BETTER_FOR
        });
        if !better {
            let at = now;
            others.insert(
                from,
                Reading {
                    told,
                    at,
                    entry_format,
                },
            );
        }
    }

    /// Whether a node has ever told of its clock, as those do that know of time that passed.
    pub(crate) fn has_told(&self, node: NodeId) -> bool {
        self.inner.others.lock().contains_key(&node)
    }

    /// The newest format of entries that a node has told that it reads; 0 = it told of none.
    pub(crate) fn reads(&self, node: NodeId) -> u32 {
        let others = self.inner.others.lock();
        others.get(&node).map_or(0, |one| one.entry_format)
    }

    /// By how much a node's clock is off, ms, as seen from here; none when it is right, or unknown.
    pub(crate) fn off_ms(&self, node: NodeId) -> Option<i64> {
        self.inner.known.lock().off.get(&node).copied()
    }

    /// Whether a node's clock has been off for too long for it to lead.
    pub(crate) fn is_unfit(&self, node: NodeId) -> bool {
        self.inner.known.lock().unfit.contains(&node)
    }

    /// Looks at all clocks. `members` are the nodes of the cluster, `me` is this one. Gives those that
    /// are off since now, and by how much, and those that are right again.
    pub(crate) fn look(
        &self,
        me: NodeId,
        members: &BTreeSet<NodeId>,
    ) -> Vec<(NodeId, Option<i64>)> {
        let now = self.now();
        let own_ms = self.offset_ms(self.wall_ms());
        let told: BTreeMap<NodeId, PeerClock> = {
            let mut others = self.inner.others.lock();
            others.retain(|node, _| members.contains(node));
            let fresh = |reading: &Reading| now.since(reading.at) < TOLD_VALID;
            let fresh = others.iter().filter(|(_, reading)| fresh(reading));
            fresh.map(|(node, reading)| (*node, reading.told)).collect()
        };
        let sight = Sight {
            own_ms,
            others: told.values().copied().collect(),
            members: members.len().max(1),
        };
        let mut known = self.inner.known.lock();
        let (first, last) = known.looked.unwrap_or((now, now));
        known.looked = Some((first, now));
        let ms = |then: Steady| i64::try_from(now.since(then).as_millis()).unwrap_or(i64::MAX);
        let before = self.agreed_offset_ms();
        let Some(agreed) = sight.agree(before, ms(last), ms(first)) else {
            return Vec::new();
        };
        self.inner.agreed_ms.store(agreed, Ordering::Relaxed);
        if before.is_none() {
            tracing::info!(ahead_of_own_ms = agreed - own_ms, "the time is agreed on");
        }
        known.drawn(sight.median_ms(agreed), agreed);
        let clocks = told.iter().map(|(node, told)| (*node, *told));
        let own = PeerClock {
            wall_ms: own_ms,
            agreed_ms: Some(agreed),
            // The others' words on this clock are as late as these.
            error_ms: sight
                .others
                .iter()
                .map(|one| one.error_ms)
                .max()
                .unwrap_or(0),
        };
        let off: BTreeMap<NodeId, i64> = clocks
            .chain([(me, own)])
            .filter_map(|(node, told)| {
                Some((node, sight.off_ms(told.wall_ms, told.error_ms, agreed)?))
            })
            .collect();
        known.see(off, now)
    }
}

impl Known {
    /// Notes whether the agreed time is far from what most clocks say.
    fn drawn(&mut self, median_ms: Option<i64>, agreed_ms: i64) {
        let Some(ahead_ms) = median_ms.map(|median| median.saturating_sub(agreed_ms)) else {
            return;
        };
        let drawn = ahead_ms.unsigned_abs() > agree::TOLERANCE_MS.unsigned_abs();
        if drawn && !self.drawn {
            tracing::warn!(
                by = by(ahead_ms),
                "the clocks of most nodes have leapt; time follows them slowly"
            );
        }
        self.drawn = drawn;
    }

    /// Notes whose clocks are off; gives what is news.
    fn see(&mut self, off: BTreeMap<NodeId, i64>, now: Steady) -> Vec<(NodeId, Option<i64>)> {
        let mut news = Vec::new();
        for (node, by_ms) in &off {
            if !self.off.contains_key(node) {
                tracing::warn!(%node, by = by(*by_ms), "a node's clock is off");
                self.since.insert(*node, now);
                news.push((*node, Some(*by_ms)));
            }
        }
        for node in self.off.keys() {
            if !off.contains_key(node) {
                tracing::info!(%node, "a node's clock is right again");
                self.since.insert(*node, now);
                news.push((*node, None));
            }
        }
        self.off = off;
        let (known, unfit) = (&self.off, &mut self.unfit);
        self.since.retain(|node, since| {
            let lasts = now.since(*since);
            match known.contains_key(node) {
                true if lasts >= OFF_FOR => {
                    unfit.insert(*node);
                    true
                }
                false if lasts >= RIGHT_FOR => {
                    unfit.remove(node);
                    false
                }
                true | false => true,
            }
        });
        news
    }
}

/// A difference as people say it.
fn by(ms: i64) -> String {
    let way = if ms < 0 { "behind" } else { "ahead" };
    let s = ms.unsigned_abs() / 1_000;
    let size = match s {
        0..10 => format!("{} ms", ms.unsigned_abs()),
        10..7_200 => format!("{s} s"),
        7_200..172_800 => format!("{} h", s / 3_600),
        _ => format!("{} d", s / 86_400),
    };
    format!("{size} {way}")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const ME: NodeId = NodeId(1);
    const DAY_MS: u64 = 86_400_000;
    const START_MS: u64 = 1_700_000_000_000;

    /// A machine's clocks, which a test sets.
    #[derive(Default)]
    struct Set {
        wall_ms: AtomicU64,
        suspended_ms: AtomicU64,
    }

    impl Clock for Set {
        fn unix_ms(&self) -> u64 {
            self.wall_ms.load(Ordering::Relaxed)
        }

        fn suspended(&self) -> Duration {
            Duration::from_millis(self.suspended_ms.load(Ordering::Relaxed))
        }
    }

    /// Clocks of a machine that are right.
    pub(crate) fn right() -> Time {
        clocks().1
    }

    fn clocks() -> (Arc<Set>, Time) {
        let set = Arc::new(Set::default());
        set.wall_ms.store(START_MS, Ordering::Relaxed);
        set.suspended_ms.store(7, Ordering::Relaxed);
        (set.clone(), Time::new(set))
    }

    #[tokio::test(start_paused = true)]
    async fn the_steady_clock_counts_what_the_monotonic_one_leaves_out() {
        let (set, time) = clocks();
        let then = time.now();
        tokio::time::advance(Duration::from_millis(30)).await;
        assert_eq!(time.since(then), Duration::from_millis(30));
        set.suspended_ms.store(60_007, Ordering::Relaxed);
        assert_eq!(time.since(then), Duration::from_millis(60_030));
        set.suspended_ms.store(0, Ordering::Relaxed);
        assert_eq!(
            time.since(then),
            Duration::from_millis(60_030),
            "never back"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_off_is_named_and_its_node_does_not_lead_for_a_while() {
        let (set, time) = clocks();
        let others = [NodeId(2), NodeId(3)];
        let members: BTreeSet<NodeId> = others.into_iter().chain([ME]).collect();
        let mut wall_ms = START_MS;
        let mut look = async |off_ms: u64| {
            tokio::time::advance(CLOCK_CHECK_EVERY).await;
            wall_ms += 200;
            set.wall_ms.store(wall_ms + off_ms, Ordering::Relaxed);
            for node in others {
                let clock = wire::Clock {
                    wall_ms,
                    agreed_ms: wall_ms,
                    entry_format: 0,
                };
                time.note(node, Some(clock), time.now());
            }
            time.look(ME, &members);
            (time.off_ms(ME), time.is_unfit(ME))
        };
        assert_eq!(look(0).await, (None, false));
        let off = i64::try_from(DAY_MS).unwrap();
        for _ in 0..5 {
            assert_eq!(look(DAY_MS).await, (Some(off), false));
        }
        assert_eq!(look(DAY_MS).await, (Some(off), true));
        for _ in 0..25 {
            assert_eq!(look(0).await, (None, true));
        }
        assert_eq!(look(0).await, (None, false));
        assert_eq!(time.agreed_ms(), Some(wall_ms), "as the others say");
        assert!(time.off_ms(NodeId(2)).is_none() && time.has_told(NodeId(2)));
    }

    #[test]
    fn differences_are_told_in_units_of_their_size() {
        for (ms, text) in [
            (251, "251 ms ahead"),
            (-61_000, "61 s behind"),
            (10_800_000, "3 h ahead"),
            (2_592_000_000, "30 d ahead"),
        ] {
            assert_eq!(by(ms), text);
        }
    }
}
