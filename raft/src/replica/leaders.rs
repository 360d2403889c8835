//! What a replica knows of its shard's leaders: who has led, since when this node leads, whether
//! read windows of earlier leaders may still be open, and who is to lead next (promises L and U).
//!
//! *Read windows.* A leader answers reads by lease for up to R after a quorum last acknowledged it
//! ([`crate::replica::read`]). So whoever leads next tells nothing until 1.05 R after it won, R being the
//! largest that it or those who elected it know of ([`crate::link::windows`]). It need not wait when the window is known to be over, and a leader that hands over makes it so:
//!
//! 1. The leader of term T begins to hand over only when its own time of telling nothing is behind
//!    it: then the windows of all terms before T are over.
//! 2. It gives up its own: from the moment that [`Leaders::give_up`] was called, no read by lease
//!    is answered in T any more. A read looks for that *behind* its look at the state, and before
//!    anything is given out ([`crate::replica::read`]); so what a read gives that did not see it yet was
//!    read before it, and a write that the next leader acknowledges comes behind it. Where the
//!    process stands still in between does not matter: this is an order of events, not of times.
//! 3. Only then is the transfer sent, and it says so (`windows_over`). Who hears it knows that the
//!    windows of all terms up to T are over.
//! 4. If it leads T + 1, by whatever election, nobody led between the two, and it may tell at once.
//!    If it leads a later term, somebody may have led T + 1 of whom it knows nothing: it waits.
//!
//! A leader that has given up never takes it back in that term, whatever becomes of the hand-over;
//! and it leads no term twice, since a restart forgets leaderships.

use std::sync::Arc;
use std::time::Duration;

use model::id::{NodeId, ShardId};
use model::limits;
use model::mutant;
use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::adapter::network::ReadWindows;
use crate::adapter::state_machine::StateMachine;
use crate::adapter::told;
use crate::adapter::types::Types;
use crate::api::ProposeError;
use crate::link::windows::{self, Windows};
use crate::replica::sleep::Sleep;

/// For so long after the last word of a hand-over calls go to whom it names, leader or not.
const HEIR_MAX: Duration = Duration::from_millis(300);
/// A leader that has handed over for so long, to nobody, is as good as dead.
pub(crate) const LOST_AFTER: Duration = Duration::from_millis(500);

/// A hand-over as far as it is known here.
#[derive(Clone, Copy, Debug)]
struct HandOver {
    /// The term of the leader that hands over.
    term: u64,
    from: NodeId,
    to: NodeId,
    /// When it was first, and last, heard of.
    began: Instant,
    told: Instant,
}

/// Who has led, as acknowledged here.
pub(crate) struct Leaders {
    pub(crate) history: Vec<(u64, NodeId)>,
    /// The last term that this node won, and when.
    won: Option<(u64, Instant)>,
    windows: Windows,
    /// The last term that this node was elected in, and the largest window that its voters told.
    told: (u64, Duration),
    /// No leader of this term or an earlier one answers reads by lease any more; 0 = not known.
    windows_over: u64,
    hand_over: Option<HandOver>,
}

impl ReadWindows for Mutex<Leaders> {
    fn told(&self, term: u64, window: Duration) {
        self.lock().window_told(term, window);
    }

    fn gave_up(&self, term: u64) -> bool {
        self.lock().gave_up_lease(term)
    }
}

impl Leaders {
    /// For leaders with these read windows.
    pub(crate) fn new(windows: Windows) -> Leaders {
        Leaders {
            history: Vec::new(),
            won: None,
            windows,
            told: (0, Duration::ZERO),
            windows_over: 0,
            hand_over: None,
        }
    }

    /// Whoever has voted for this node in `term` knows of a window as large as this.
    pub(crate) fn window_told(&mut self, term: u64, window: Duration) {
        if term > self.told.0 {
            self.told = (term, window);
        } else if term == self.told.0 {
            self.told.1 = self.told.1.max(window);
        }
    }

    /// For how long this node answers nothing in `term`, which it has won.
    fn quiet(&self, term: u64) -> Duration {
        if mutant!("lease-of-its-own") {
            return windows::open_for(self.windows.own());
        }
        let told = match self.told {
            (of, window) if of == term => window,
            _ => Duration::ZERO,
        };
        let window = self.windows.largest().max(told);
        if mutant!("lease-ignores-clock-error") {
            return window;
        }
        windows::open_for(window)
    }

    /// When this node won `term`, which it leads.
    pub(crate) fn won_at(&mut self, term: u64) -> Instant {
        match self.won {
            Some((won, at)) if won >= term => at,
            // It has just won, so that nobody has noted it yet.
            Some(_) | None => self.won.insert((term, Instant::now())).1,
        }
    }

    /// When what is decided in `term`, which this node leads or has led, may be told.
    pub(crate) fn may_tell_at(&mut self, term: u64) -> Instant {
        let won = self.won_at(term);
        match self.windows_over {
            over if over > 0 && over + 1 == term => won,
            _ => won + self.quiet(term),
        }
    }

    /// Whether the leader of `term` has promised to answer no more reads by lease.
    pub(crate) fn gave_up_lease(&self, term: u64) -> bool {
        self.windows_over >= term
    }

    /// From now on this node, which leads `term`, answers no reads by lease; `to` is to lead. Only
    /// behind [`Leaders::may_tell_at`].
    pub(crate) fn give_up(&mut self, term: u64, me: NodeId, to: NodeId) {
        self.windows_over = self.windows_over.max(term);
        self.note(term, me, to);
    }

    /// `from`, who leads `term`, hands over to `to`, and has given up its lease or not. Whether
    /// that was not known.
    pub(crate) fn told(&mut self, term: u64, from: NodeId, to: NodeId, windows_over: bool) -> bool {
        if windows_over {
            self.windows_over = self.windows_over.max(term);
        }
        self.note(term, from, to)
    }

    fn note(&mut self, term: u64, from: NodeId, to: NodeId) -> bool {
        let now = Instant::now();
        let known = self.hand_over.filter(|known| known.term >= term);
        if known.is_some_and(|known| known.term > term) {
            return false;
        }
        self.hand_over = Some(HandOver {
            term,
            from,
            to,
            began: known.map_or(now, |known| known.began),
            told: now,
        });
        known.is_none()
    }

    /// Who is about to lead, `leader` leading `term` or nobody yet: the last hand-over says, for a
    /// while.
    fn heir(&self, term: u64, leader: Option<NodeId>) -> Option<NodeId> {
        let known = self.hand_over?;
        let open = term == known.term || (term == known.term + 1 && leader.is_none());
        (open && known.told.elapsed() < HEIR_MAX).then_some(known.to)
    }

    /// Whether a leader of `term` or later was heard of as handing over within `lease`.
    pub(crate) fn handing_over(&self, lease: Duration) -> bool {
        self.hand_over
            .is_some_and(|known| known.told.elapsed() < lease)
    }

    /// Whether `from` handed over in `term` so long ago that it must have gone wrong, if it still
    /// leads, on machines that are so `late` at each step.
    pub(crate) fn lost(&self, term: u64, from: NodeId, late: Duration) -> bool {
        let limit = LOST_AFTER + late * 2;
        self.hand_over.is_some_and(|known| {
            (known.term, known.from) == (term, from) && known.began.elapsed() >= limit
        })
    }

    /// Notes who leads; whether this is news.
    pub(crate) fn see(&mut self, shard: ShardId, me: NodeId, term: u64, leader: NodeId) -> bool {
        let news = self.history.last() != Some(&(term, leader));
        if news {
            tracing::info!(%shard, term, %leader, "a shard is led");
            self.history.push((term, leader));
            if self.history.len() > limits::LEADER_HISTORY_MAX {
                self.history.remove(0);
            }
        }
        // Kept when it is over: answers to what was decided in it may still be on their way.
        if leader == me && self.won.is_none_or(|(won, _)| won < term) {
            self.won = Some((term, Instant::now()));
        }
        news
    }
}

/// A replica's place among its shard's leaders. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Leadership {
    pub(crate) shard: ShardId,
    pub(crate) node: NodeId,
    pub(crate) raft: Raft<Types, StateMachine>,
    pub(crate) leaders: Arc<Mutex<Leaders>>,
    /// Whether its shard sleeps.
    pub(crate) sleep: Arc<Sleep>,
    /// How long a new leader waits for its first acknowledgement before it tries all the same.
    pub(crate) patience: Duration,
}

impl Leadership {
    /// The term as known here, and who leads it.
    pub(crate) fn now(&self) -> (u64, Option<NodeId>) {
        let told = told::server(&self.raft);
        (told.vote.leader_id().term, told.current_leader.map(NodeId))
    }

    /// Whom to send calls to: who leads, or is about to by a hand-over.
    pub(crate) fn expected(&self) -> Option<NodeId> {
        let (term, leader) = self.now();
        self.leaders.lock().heir(term, leader).or(leader)
    }

    /// Waits while this node is about to lead by a hand-over, and then until openraft counts a quorum
    /// behind it: before that it takes no entry. What is to be said instead when it does not come to
    /// that.
    pub(crate) async fn ready(&self) -> Result<(), ProposeError> {
        let mut metrics = self.raft.metrics();
        loop {
            let (term, leader, acked) = {
                let now = metrics.borrow_and_update();
                let (term, leader) = (now.vote.leader_id().term, now.current_leader.map(NodeId));
                (term, leader, now.last_quorum_acked.is_some())
            };
            let until = {
                let mut leaders = self.leaders.lock();
                match (leader, leaders.heir(term, leader)) {
                    (_, Some(heir)) if heir != self.node => return Err(self.led_by(Some(heir))),
                    (Some(leader), _) if leader == self.node => {
                        let until = leaders.won_at(term) + self.patience;
                        if acked || Instant::now() >= until {
                            return Ok(());
                        }
                        until
                    }
                    (_, Some(_)) => Instant::now() + HEIR_MAX,
                    (leader, None) => return Err(self.led_by(leader)),
                }
            };
            tokio::select! {
                biased;
                changed = metrics.changed() => if changed.is_err() {
                    return Err(self.led_by(None));
                },
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    pub(crate) fn led_by(&self, leader: Option<NodeId>) -> ProposeError {
        ProposeError::NotLeader {
            shard: self.shard,
            leader,
        }
    }
}

#[cfg(test)]
mod tests {
    use store::Log;
    use store::engine::memory::Memory;

    use super::*;

    const ME: NodeId = NodeId(1);
    const OLD: NodeId = NodeId(2);
    const LEASE: Duration = Duration::from_millis(100);
    const QUIET: Duration = Duration::from_millis(105);

    fn leaders() -> Leaders {
        let (log, _) = Log::open(Arc::new(Memory::new())).unwrap();
        Leaders::new(crate::link::windows::tests::alone(LEASE, log))
    }

    #[tokio::test(start_paused = true)]
    async fn the_largest_window_that_a_voter_tells_of_counts_in_that_term_alone() {
        let mut leaders = leaders();
        leaders.window_told(5, 10 * LEASE);
        leaders.window_told(4, 20 * LEASE);
        leaders.window_told(5, LEASE / 2);
        assert_eq!(won(&mut leaders, 5), 10 * QUIET);
        assert_eq!(won(&mut leaders, 6), QUIET, "no voter told of more");
    }

    fn won(leaders: &mut Leaders, term: u64) -> Duration {
        leaders.see(ShardId(1), ME, term, ME);
        leaders.may_tell_at(term) - Instant::now()
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_term_right_behind_one_that_gave_up_its_lease_may_tell_at_once() {
        for (told, windows_over, wins, waits) in [
            (None, false, 5, QUIET),
            (Some(4), true, 5, Duration::ZERO),
            (Some(4), false, 5, QUIET),
            (Some(4), true, 6, QUIET),
            (Some(3), true, 5, QUIET),
            (Some(5), true, 5, QUIET),
        ] {
            let mut leaders = leaders();
            if let Some(term) = told {
                leaders.told(term, OLD, ME, windows_over);
            }
            let case = format!("{told:?} {windows_over} {wins}");
            assert_eq!(won(&mut leaders, wins), waits, "{case}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_given_up_its_lease_has_none_in_that_term_and_one_in_the_next_it_wins() {
        let mut leaders = leaders();
        assert!(!leaders.gave_up_lease(3));
        leaders.give_up(3, ME, OLD);
        assert!(leaders.gave_up_lease(3));
        assert!(leaders.gave_up_lease(2));
        assert!(!leaders.gave_up_lease(4));
        leaders.told(2, OLD, ME, true);
        assert!(leaders.gave_up_lease(3), "an older word takes nothing back");
    }

    #[tokio::test(start_paused = true)]
    async fn calls_go_to_the_heir_for_a_while_and_until_somebody_leads() {
        let mut leaders = leaders();
        assert!(leaders.told(3, OLD, ME, true));
        assert!(
            !leaders.told(3, OLD, NodeId(7), true),
            "the second try is no news"
        );
        assert_eq!(leaders.heir(3, Some(OLD)), Some(NodeId(7)));
        assert_eq!(leaders.heir(4, None), Some(NodeId(7)));
        assert_eq!(leaders.heir(4, Some(ME)), None);
        assert_eq!(leaders.heir(5, None), None);
        assert!(
            !leaders.told(2, OLD, ME, true),
            "an older word changes nothing"
        );
        assert_eq!(leaders.heir(3, Some(OLD)), Some(NodeId(7)));
        tokio::time::advance(HEIR_MAX).await;
        assert_eq!(leaders.heir(3, Some(OLD)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hand_over_is_lost_when_its_leader_still_leads_long_after_it_began() {
        let mut leaders = leaders();
        leaders.told(3, OLD, ME, true);
        tokio::time::advance(LOST_AFTER / 2).await;
        leaders.told(3, OLD, NodeId(7), true);
        assert!(!leaders.lost(3, OLD, Duration::ZERO));
        tokio::time::advance(LOST_AFTER / 2).await;
        assert!(
            leaders.lost(3, OLD, Duration::ZERO),
            "counted from the first try"
        );
        assert!(!leaders.lost(4, OLD, Duration::ZERO));
        assert!(!leaders.lost(3, ME, Duration::ZERO));
    }
}
