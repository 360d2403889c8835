//! When a quorum last confirmed that this node leads: what LINEARIZABLE reads rest on (promise L).
//!
//! openraft keeps such an account too, but books an answer by its log id, on everything that was
//! sent up to that id: the answer to an entry also acknowledges an empty append sent long after it,
//! which may have reached nobody. A leader that was stopped for seconds and finds old answers in its
//! sockets would so be confirmed as of now. Here each answer counts for its own request and no
//! other, as of a moment before that was sent, and only in the term that it was sent in.

use std::collections::{BTreeSet, VecDeque};

use model::id::NodeId;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::time::Steady;

use crate::adapter::trust::Said;

/// A request on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    /// The term that its sender leads.
    pub(crate) term: u64,
    /// A moment before it was sent.
    pub(crate) at: Steady,
}

/// The requests of one stream that have no answer yet, and what they said. Answers come in their
/// order.
#[derive(Default)]
pub(crate) struct Unanswered(Mutex<VecDeque<(Sent, Said)>>);

impl Unanswered {
    /// Notes a request; to be called before it is sent.
    pub(crate) fn push(&self, sent: Sent, said: Said) {
        self.0.lock().push_back((sent, said));
    }

    /// The request that the next answer belongs to.
    pub(crate) fn pop(&self) -> Option<(Sent, Said)> {
        self.0.lock().pop_front()
    }

    /// Whether all have their answer.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

/// One group's account.
#[derive(Default)]
pub(crate) struct Acks {
    book: Mutex<Book>,
    changed: Notify,
}

/// The latest term in which anything was acknowledged to this node, and the sending time of what
/// each of the others acknowledged in it; a handful, so that a list is as good as any map.
#[derive(Default)]
struct Book {
    term: u64,
    latest: Vec<(NodeId, Steady)>,
}

impl Acks {
    /// `by` has acknowledged `sent` as the leader's of its term.
    pub(crate) fn confirmed(&self, by: NodeId, sent: Sent) {
        self.book.lock().confirmed(by, sent);
        self.changed.notify_waiters();
    }

    /// Resolves with the next [`Acks::confirmed`], once it was polled or enabled.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// The latest moment of which holds: in each of `configs`, a majority has acknowledged requests
    /// of `term` sent then or later. Those who are `present` acknowledge at `now`: who leads, and
    /// who has just said that it follows.
    pub(crate) fn quorum_acked_at(
        &self,
        term: u64,
        present: &[NodeId],
        configs: &[BTreeSet<u64>],
        now: Steady,
    ) -> Option<Steady> {
        let book = self.book.lock();
        book.quorum_acked_at(term, present, configs, now)
    }
}

impl Book {
    fn confirmed(&mut self, by: NodeId, sent: Sent) {
        if sent.term > self.term {
            self.term = sent.term;
            self.latest.clear();
        }
        if sent.term < self.term {
            return;
        }
        match self.latest.iter_mut().find(|(node, _)| *node == by) {
            Some((_, at)) => *at = sent.at.max(*at),
            None => self.latest.push((by, sent.at)),
        }
    }

    fn quorum_acked_at(
        &self,
        term: u64,
        present: &[NodeId],
        configs: &[BTreeSet<u64>],
        now: Steady,
    ) -> Option<Steady> {
        let acked = |voter: &u64| match NodeId(*voter) {
            node if present.contains(&node) => Some(now),
            _ if term != self.term => None,
            node => self.latest.iter().find(|(n, _)| *n == node).map(|l| l.1),
        };
        let majority = |config: &BTreeSet<u64>| {
            let mut acked: Vec<Option<Steady>> = config.iter().map(acked).collect();
            // The latest first, those who said nothing last.
            acked.sort_unstable_by(|a, b| b.cmp(a));
            acked.get(config.len() / 2).copied().flatten()
        };
        // `None`, from any of them, is the smallest.
        configs.iter().map(majority).min().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const ME: NodeId = NodeId(1);

    fn ms(ms: u64) -> Steady {
        Steady::after(Duration::from_millis(ms))
    }

    /// What a quorum acknowledged, in ms, behind `answers` of (node, term, sent at); asked in
    /// `term` at 1,000 ms.
    fn acked(answers: &[(u64, u64, u64)], term: u64, configs: &[&[u64]]) -> Option<u64> {
        let acks = Acks::default();
        for (node, term, at) in answers {
            let at = ms(*at);
            acks.confirmed(NodeId(*node), Sent { term: *term, at });
        }
        let configs: Vec<BTreeSet<u64>> = configs
            .iter()
            .map(|config| config.iter().copied().collect())
            .collect();
        let at = acks.quorum_acked_at(term, &[ME], &configs, ms(1_000))?;
        Some(u64::try_from(at.since(ms(0)).as_millis()).unwrap())
    }

    #[test]
    fn a_majority_counts_as_of_what_it_has_acknowledged_and_oneself_as_of_now() {
        let three: &[&[u64]] = &[&[1, 2, 3]];
        let five: &[&[u64]] = &[&[1, 2, 3, 4, 5]];
        assert_eq!(acked(&[], 1, &[&[1]]), Some(1_000), "alone");
        assert_eq!(acked(&[], 1, three), None);
        assert_eq!(acked(&[(2, 1, 10)], 1, three), Some(10));
        assert_eq!(acked(&[(2, 1, 10), (3, 1, 30)], 1, three), Some(30));
        assert_eq!(acked(&[(2, 1, 10)], 1, five), None);
        assert_eq!(acked(&[(2, 1, 10), (3, 1, 30)], 1, five), Some(10));
        assert_eq!(acked(&[(9, 1, 10)], 1, three), None, "no voter");
        assert_eq!(
            acked(&[(2, 1, 10)], 1, &[&[2, 3]]),
            None,
            "led from outside"
        );
        assert_eq!(acked(&[(2, 1, 10)], 1, &[]), None);
        assert_eq!(acked(&[(2, 1, 10)], 1, &[&[]]), None);
    }

    #[test]
    fn both_halves_of_a_joint_configuration_must_acknowledge() {
        let joint: &[&[u64]] = &[&[1, 2, 3], &[1, 4, 5]];
        assert_eq!(acked(&[(2, 1, 20)], 1, joint), None);
        assert_eq!(acked(&[(2, 1, 20), (4, 1, 10)], 1, joint), Some(10));
        assert_eq!(acked(&[], 1, &[&[1], &[1, 2, 3]]), None);
    }

    #[test]
    fn an_older_term_neither_counts_for_a_newer_one_nor_comes_back() {
        let three: &[&[u64]] = &[&[1, 2, 3]];
        assert_eq!(acked(&[(2, 1, 10)], 2, three), None);
        assert_eq!(acked(&[(2, 2, 10), (3, 1, 30)], 2, three), Some(10));
        assert_eq!(acked(&[(2, 1, 30), (3, 2, 10)], 2, three), Some(10));
        assert_eq!(acked(&[(2, 1, 30), (3, 2, 10)], 1, three), None);
    }

    #[test]
    fn an_answer_that_comes_late_takes_nothing_back() {
        assert_eq!(acked(&[(2, 1, 30), (2, 1, 10)], 1, &[&[1, 2, 3]]), Some(30));
    }

    #[tokio::test]
    async fn an_acknowledgement_wakes_who_waits() {
        let acks = Acks::default();
        let mut changed = std::pin::pin!(acks.changed());
        assert!(!changed.as_mut().enable());
        let at = ms(1);
        acks.confirmed(NodeId(2), Sent { term: 1, at });
        changed.await;
    }

    /// By the words of [`Acks::quorum_acked_at`], trying every moment there is.
    fn naive(
        answers: &[(u64, u64, u64)],
        term: u64,
        present: &[NodeId],
        configs: &[BTreeSet<u64>],
        now: u64,
    ) -> Option<u64> {
        let newest = answers.iter().map(|(_, term, _)| *term).max();
        let since = |voter: u64, moment: u64| {
            (present.contains(&NodeId(voter)) && now >= moment)
                || answers.iter().any(|(node, t, at)| {
                    !present.contains(&NodeId(*node))
                        && (*node, *t) == (voter, term)
                        && newest == Some(term)
                        && *at >= moment
                })
        };
        (0..=now).rev().find(|moment| {
            !configs.is_empty()
                && configs.iter().all(|config| {
                    let acked = config.iter().filter(|voter| since(**voter, *moment));
                    acked.count() * 2 > config.len()
                })
        })
    }

    proptest! {
        #[test]
        fn the_account_agrees_with_its_definition(
            answers in prop::collection::vec((1..7u64, 1..4u64, 0..40u64), 0..30),
            term in 1..4u64,
            follower in 1..7u64,
            configs in prop::collection::vec(prop::collection::btree_set(1..7u64, 0..6), 0..3),
        ) {
            let now = 50;
                let acks = Acks::default();
            for (node, term, at) in &answers {
                let at = ms(*at);
                acks.confirmed(NodeId(*node), Sent { term: *term, at });
            }
            let present = [ME, NodeId(follower)];
            let found = acks.quorum_acked_at(term, &present, &configs, ms(now));
            let expect = naive(&answers, term, &present, &configs, now).map(ms);
            prop_assert_eq!(found, expect);
        }
    }
}
