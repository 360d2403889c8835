//! What is wrong on a network now, shared by all of its connections.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

/// Connections that their holders have let go of and whose bytes or end a fault still holds back.
const LINGERING_MAX: usize = 4_096;

/// How late pieces are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slow {
    /// Each piece, one way.
    pub delay: Duration,
    /// Added to it, 0 to this, drawn for each piece.
    pub jitter: Duration,
    /// Of a million pieces so many are lost and sent again, which takes as long as TCP would need.
    pub loss_ppm: u32,
}

impl Slow {
    /// Both, one behind the other.
    fn and(self, other: Slow) -> Slow {
        Slow {
            delay: self.delay + other.delay,
            jitter: self.jitter + other.jitter,
            loss_ppm: self.loss_ppm.max(other.loss_ppm),
        }
    }
}

/// What a fault does to a connection, as this end has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// Bytes do not get through, nor does the connection's end. Both come when that is mended.
    Cut {
        /// What this end sends.
        sends: bool,
        /// What this end gets.
        hears: bool,
    },
    /// Bytes are late.
    Slow {
        /// What this end sends.
        sends: bool,
        /// What this end gets.
        hears: bool,
        /// How late.
        by: Slow,
    },
    /// New connections are refused.
    Refuse,
    /// Connections are reset, and new ones refused.
    Reset,
}

/// The other ends that a fault is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// host:port as this end dials them.
    pub addresses: BTreeSet<String>,
    /// Where they listen. Who connects from one of these IP addresses is taken for that peer.
    pub sockets: BTreeSet<SocketAddr>,
}

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// With whom; none = with everyone.
    pub peers: Option<Peers>,
    /// What is wrong.
    pub harm: Harm,
}

/// The other end of a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Whom {
    /// As it was dialled; none where it was it that connected.
    pub dialled: Option<String>,
    /// Its socket, where that is known.
    pub socket: Option<SocketAddr>,
}

impl Peers {
    pub(super) fn has(&self, whom: &Whom) -> bool {
        if let Some(address) = &whom.dialled {
            let known = whom.socket.is_some_and(|at| self.sockets.contains(&at));
            return known || self.addresses.contains(address);
        }
        let ip = whom.socket.map(|at| at.ip().to_canonical());
        ip.is_some_and(|ip| self.sockets.iter().any(|at| at.ip().to_canonical() == ip))
    }
}

/// What faults do to one connection, taken together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Effects {
    pub cut_out: bool,
    pub cut_in: bool,
    pub slow_out: Option<Slow>,
    pub slow_in: Option<Slow>,
    pub refuse: bool,
    pub reset: bool,
}

impl Effects {
    fn add(&mut self, harm: Harm) {
        match harm {
            Harm::Cut { sends, hears } => {
                self.cut_out |= sends;
                self.cut_in |= hears;
            }
            Harm::Slow { sends, hears, by } => {
                let with = |one: &mut Option<Slow>| *one = Some(one.map_or(by, |one| one.and(by)));
                if sends {
                    with(&mut self.slow_out);
                }
                if hears {
                    with(&mut self.slow_in);
                }
            }
            Harm::Refuse => self.refuse = true,
            Harm::Reset => (self.reset, self.refuse) = (true, true),
        }
    }
}

/// Turns faults on and off for all connections of a network. Clones share it.
///
/// While no fault is on a connection looks at one atomic number each time it is polled, and at no more.
#[derive(Clone, Debug)]
pub struct Switch {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The number of the rules that hold now; 0 = there are none.
    state: AtomicU64,
    /// The last number given.
    last: watch::Sender<u64>,
    rules: Mutex<Vec<Rule>>,
    wakers: Mutex<BTreeMap<u64, Waker>>,
    lines: AtomicU64,
    lingering: AtomicUsize,
    seed: u64,
}

impl Switch {
    /// With no fault on; `seed` is that of jitter and losses.
    pub fn new(seed: u64) -> Switch {
        Switch {
            shared: Arc::new(Shared {
                state: AtomicU64::new(0),
                last: watch::Sender::new(0),
                rules: Mutex::default(),
                wakers: Mutex::default(),
                lines: AtomicU64::new(0),
                lingering: AtomicUsize::new(0),
                seed,
            }),
        }
    }

    /// From now on these faults are on, and no others. Connections feel it at once.
    pub fn set(&self, rules: Vec<Rule>) {
        let shared = &*self.shared;
        {
            let mut now = shared.rules.lock();
            if *now == rules {
                return;
            }
            let number = *shared.last.borrow() + 1;
            let state = if rules.is_empty() { 0 } else { number };
            *now = rules;
            shared.state.store(state, Ordering::Release);
            shared.last.send_replace(number);
        }
        let wakers: Vec<Waker> = shared.wakers.lock().values().cloned().collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The number of the rules that hold now; 0 = there are none.
    pub(super) fn state(&self) -> u64 {
        self.shared.state.load(Ordering::Acquire)
    }

    /// Whether any fault is on.
    pub fn is_on(&self) -> bool {
        self.state() != 0
    }

    /// What the faults that are on do to a connection.
    pub(super) fn effects(&self, whom: &Whom) -> Effects {
        let mut effects = Effects::default();
        if self.is_on() {
            for rule in self.shared.rules.lock().iter() {
                if rule.peers.as_ref().is_none_or(|peers| peers.has(whom)) {
                    effects.add(rule.harm);
                }
            }
        }
        effects
    }

    /// Whether nothing that anybody sends is heard.
    pub(super) fn is_deaf(&self) -> bool {
        let deaf = |rule: &Rule| {
            rule.peers.is_none() && matches!(rule.harm, Harm::Cut { hears: true, .. })
        };
        self.is_on() && self.shared.rules.lock().iter().any(deaf)
    }

    /// Completes when not everything that anybody sends is cut off.
    pub(super) async fn until_hears(&self) {
        let mut changes = self.shared.last.subscribe();
        loop {
            changes.borrow_and_update();
            if !self.is_deaf() {
                return;
            }
            // Its sender lives in this switch.
            let _ = changes.changed().await;
        }
    }

    /// Completes when what faults do to a connection is as wanted.
    pub(super) async fn until(&self, whom: &Whom, wanted: impl Fn(&Effects) -> bool) -> Effects {
        let mut changes = self.shared.last.subscribe();
        loop {
            changes.borrow_and_update();
            let effects = self.effects(whom);
            if wanted(&effects) {
                return effects;
            }
            // Its sender lives in this switch.
            let _ = changes.changed().await;
        }
    }

    /// A number for a connection, and what its chance begins with.
    pub(super) fn line(&self) -> (u64, Chance) {
        let line = self.shared.lines.fetch_add(1, Ordering::Relaxed);
        (line, Chance::new(self.shared.seed, line))
    }

    /// Has `waker` woken at each change, in the place of what was kept under the key.
    pub(super) fn keep(&self, key: u64, waker: &Waker) {
        // Who lets go of the last waker of a task drops that with all that it holds, connections of this
        // switch among them: not under its lock.
        let before = self.shared.wakers.lock().insert(key, waker.clone());
        drop(before);
    }

    pub(super) fn forget(&self, key: u64) {
        let gone = self.shared.wakers.lock().remove(&key);
        drop(gone);
    }

    /// Counts a connection that lingers, unless there are too many.
    pub(super) fn linger(&self) -> Option<Lingering> {
        let count = &self.shared.lingering;
        let more = |now: usize| (now < LINGERING_MAX).then_some(now + 1);
        let counted = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        counted.ok().map(|_| Lingering(self.clone()))
    }

    /// Connections that are kept only because a fault holds their last bytes or their end back.
    pub fn lingering(&self) -> usize {
        self.shared.lingering.load(Ordering::Relaxed)
    }
}

/// One of [`Switch::lingering`] while it lives.
pub(super) struct Lingering(Switch);

impl Drop for Lingering {
    fn drop(&mut self) {
        self.0.shared.lingering.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Chance that a seed repeats: SplitMix64.
pub(super) struct Chance(u64);

impl Chance {
    fn new(seed: u64, line: u64) -> Chance {
        Chance(seed ^ line.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`; 0 when that is 0.
    fn below(&mut self, end: u64) -> u64 {
        self.next().checked_rem(end).unwrap_or(0)
    }

    /// How late the next piece is.
    pub(super) fn lateness(&mut self, slow: &Slow) -> Duration {
        /// Least time after which TCP sends again.
        const AGAIN_MIN: Duration = Duration::from_millis(200);
        let micros = u64::try_from(slow.jitter.as_micros()).unwrap_or(u64::MAX);
        let jitter = Duration::from_micros(self.below(micros.saturating_add(1)));
        let lost = self.below(1_000_000) < u64::from(slow.loss_ppm);
        let again = match lost {
            true => AGAIN_MIN.max(2 * (slow.delay + slow.jitter)),
            false => Duration::ZERO,
        };
        slow.delay + jitter + again
    }
}
