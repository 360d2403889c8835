//! Whether a replica sleeps: what its openraft timers do. When it does so is decided by a task, and why
//! that is safe stands there ([`crate::tasks::sleep`]).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::{LinearizerOption, Raft};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::adapter::network::Wake;
use crate::adapter::state_machine::StateMachine;
use crate::adapter::types::Types;
use crate::replica::leaders::Leadership;

/// A follower whose leader was not confirmed for so long wakes, and may vote for another: longer
/// than links are silent before their verdict, and two rounds over the widest of them.
const UNCONFIRMED_MAX: Duration = Duration::from_millis(2_500);

/// What openraft's timers of a replica do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Timers {
    #[default]
    Run,
    /// They stand still until it is the replica's turn to begin.
    Wait,
    Sleep,
}

/// Whether a replica sleeps.
#[derive(Default)]
pub(crate) struct Sleep {
    raft: OnceLock<Raft<Types, StateMachine>>,
    /// Changed together with openraft's timers.
    timers: Mutex<Timers>,
    /// It waits for its turn to wake.
    pub(crate) queued: AtomicBool,
    /// It slept as the leader, and no quorum has answered openraft since.
    pub(crate) lapsed: AtomicBool,
    /// As of when the leader was last known to be one.
    confirmed: Mutex<Option<Instant>>,
}

impl Sleep {
    /// The group whose timers these are; until it is told nothing sleeps.
    pub(crate) fn of(&self, raft: Raft<Types, StateMachine>) {
        // It is told once.
        let _ = self.raft.set(raft);
    }

    pub(crate) fn is_asleep(&self) -> bool {
        *self.timers.lock() == Timers::Sleep
    }

    /// Whether its timers stand still, for either reason.
    pub(crate) fn is_still(&self) -> bool {
        *self.timers.lock() != Timers::Run
    }

    /// Lets the timers run again.
    pub(crate) fn wake(&self) {
        self.turn(Timers::Run, |now| now != Timers::Run);
    }

    /// Stops the timers of a replica that is to wait for its turn.
    pub(crate) fn hold(&self) {
        self.turn(Timers::Wait, |_| true);
    }

    /// Ends the waiting for a turn: it has come, or somebody wants something of the replica. Gives
    /// whether it waited.
    pub(crate) fn begin(&self) -> bool {
        self.turn(Timers::Run, |now| now == Timers::Wait)
    }

    /// It votes otherwise or follows another, or openraft has heard of its quorum: whatever lease ran
    /// out in sleep matters no more.
    pub(crate) fn begin_anew(&self) {
        // First: it may have fallen asleep again behind the heartbeats that woke it, and one that
        // sleeps has lapsed.
        self.wake();
        self.lapsed.store(false, Ordering::SeqCst);
    }

    /// Notes that the leader was confirmed so long ago.
    pub(crate) fn confirmed(&self, ago: Duration) {
        let mut confirmed = self.confirmed.lock();
        *confirmed = (*confirmed).max(Instant::now().checked_sub(ago));
    }

    pub(crate) fn fall_asleep(&self, leads: bool) {
        self.confirmed(Duration::ZERO);
        self.turn(Timers::Sleep, |_| true);
        // Behind it, so that whoever finds it has lapsed finds it asleep, or woken since.
        self.lapsed.fetch_or(leads, Ordering::SeqCst);
    }

    /// Changes what the timers do where `from` says so; whether it did.
    fn turn(&self, to: Timers, from: impl FnOnce(Timers) -> bool) -> bool {
        let mut timers = self.timers.lock();
        let turns = from(*timers);
        if turns {
            *timers = to;
            if let Some(raft) = self.raft.get() {
                raft.runtime_config().tick(to == Timers::Run);
            }
        }
        turns
    }

    pub(crate) fn is_unconfirmed(&self) -> bool {
        let confirmed = *self.confirmed.lock();
        confirmed.is_none_or(|at| at.elapsed() >= UNCONFIRMED_MAX)
    }
}

impl Wake for Sleep {
    fn wake(&self) {
        Sleep::wake(self);
    }
}

impl Leadership {
    /// Where this leader has slept: has openraft hear of its quorum, without which it takes no
    /// proposal. Gives up after a while; the proposal then says why.
    pub(crate) async fn rouse(&self) {
        if !self.sleep.lapsed.load(Ordering::SeqCst) {
            return;
        }
        let option = LinearizerOption::new(Some(Duration::ZERO), true);
        let option = option.with_wait_timeout(self.patience);
        // Its heartbeats wake all replicas, this one first.
        if self.raft.get_read_linearizer(option).await.is_ok() {
            self.sleep.begin_anew();
        }
    }
}
