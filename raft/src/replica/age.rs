//! How old a replica is, at most, measured on this node's steady clock alone (promise S).
//!
//! A replica asks its leader how far it has come, and notes when it asked. The leader, confirmed by a
//! quorum after that, answers with a position: everything that anybody was told before the question
//! lies at or before it. Once that is applied, the replica holds everything as of the question.
//! At the leader itself it is as of now while its lease holds, and otherwise as of what a quorum
//! acknowledged last.

use std::collections::VecDeque;
use std::time::Duration;

use model::mutant;
use store::state::ShardState;

use crate::replica::group::Group;
use crate::time::{Steady, Time};

/// Answers that wait for being applied; of more, those in the middle are forgotten.
const WAITING_MAX: usize = 32;
/// Ages are told with this margin, in hundredths, for clocks that run slow: that of leases.
const MARGIN_PERCENT: u32 = 105;

/// As of when a replica is known to hold everything.
#[derive(Debug, Default)]
pub(crate) struct Known {
    at: Option<Steady>,
    /// What must be applied for later moments, both ascending.
    waiting: VecDeque<(u64, Steady)>,
}

impl Known {
    /// Everything as of `asked` lies at or before `index`.
    pub(crate) fn note(&mut self, index: u64, asked: Steady) {
        if self.at.is_some_and(|at| at >= asked) {
            return;
        }
        // What is reached later and says less is of no use.
        self.waiting.retain(|(i, at)| *i < index || *at > asked);
        if self
            .waiting
            .iter()
            .any(|(i, at)| *i <= index && *at >= asked)
        {
            return;
        }
        if self.waiting.len() >= WAITING_MAX {
            self.waiting.remove(WAITING_MAX / 2);
        }
        let place = self.waiting.partition_point(|(i, _)| *i < index);
        self.waiting.insert(place, (index, asked));
    }

    /// As of when everything lies at or before `applied`.
    pub(crate) fn at(&mut self, applied: u64) -> Option<Steady> {
        while let Some((_, asked)) = self.waiting.pop_front_if(|(index, _)| *index <= applied) {
            self.at = self.at.max(Some(asked));
        }
        self.at
    }
}

/// A replica of this node, to be read as it is.
#[derive(Clone)]
pub struct Replica {
    /// Its state.
    pub state: ShardState,
    as_of: Option<Steady>,
    time: Time,
}

impl Replica {
    /// How old what is read from it is, at most, if it was looked at before this; `None` when that
    /// is not known.
    pub fn age(&self) -> Option<Duration> {
        self.as_of.map(|as_of| age_since(&self.time, as_of))
    }
}

/// The time since `then`, with the margin of ages: an answer that was right at `then` is not older.
pub(crate) fn age_since(time: &Time, then: Steady) -> Duration {
    time.since(then) * MARGIN_PERCENT / 100
}

impl Group {
    /// Notes that everything as of `asked` lies at or before `index`, as the leader says.
    pub(crate) fn note_position(&self, index: u64, asked: Steady) {
        let asked = if mutant!("age-since-the-answer") {
            self.time.now()
        } else {
            asked
        };
        self.leadership.sleep.confirmed(self.time.since(asked));
        self.known.lock().note(index, asked);
    }

    /// This replica, as old as it is known to be now.
    pub(crate) fn replica(&self) -> Replica {
        // Before anybody looks at the state: it can only become younger.
        let reached = self.state.reached();
        let followed = self.known.lock().at(reached.index());
        let now = self.time.now();
        let led = self.standing(now).and_then(|standing| {
            // What it acknowledged itself is applied here, and what others did lies before the
            // first entry of its term.
            let complete = reached.position.is_some_and(|p| p.term == standing.term);
            if complete && self.lease_holds(standing.term) {
                return Some(now);
            }
            standing.acked.filter(|_| complete)
        });
        Replica {
            state: self.state.clone(),
            as_of: followed.max(led),
            time: self.time.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As of which ms a replica that has applied so much holds everything, behind answers of
    /// (index, asked at ms).
    fn check(answers: &[(u64, u64)], applied: u64, expect: Option<u64>) {
        let base = Steady::after(Duration::from_secs(1));
        let mut known = Known::default();
        for (index, ms) in answers {
            known.note(*index, base + Duration::from_millis(*ms));
        }
        let at = known.at(applied);
        let at = at.map(|at| u64::try_from(at.since(base).as_millis()).unwrap());
        assert_eq!(at, expect, "{answers:?} at {applied}");
    }

    #[test]
    fn a_replica_is_as_old_as_the_latest_question_whose_answer_it_has_applied() {
        check(&[], 9, None);
        check(&[(5, 10)], 4, None);
        check(&[(5, 10)], 5, Some(10));
        check(&[(5, 10), (7, 20), (9, 30)], 8, Some(20));
        check(&[(9, 30), (7, 20), (5, 10)], 8, Some(20));
        // The same position as of later.
        check(&[(5, 10), (5, 40)], 5, Some(40));
        check(&[(5, 40), (5, 10)], 5, Some(40));
        // A later question that was answered with less, by a leader that had come less far.
        check(&[(9, 10), (7, 20)], 8, Some(20));
        check(&[(7, 20), (9, 10)], 8, Some(20));
    }

    #[test]
    fn a_replica_that_is_far_behind_keeps_a_bounded_list_and_both_its_ends() {
        let base = Steady::after(Duration::from_secs(1));
        let mut known = Known::default();
        for i in 1..1_000 {
            known.note(i, base + Duration::from_millis(i));
        }
        assert!(known.waiting.len() <= WAITING_MAX);
        assert_eq!(known.at(1), Some(base + Duration::from_millis(1)));
        assert_eq!(known.at(2_000), Some(base + Duration::from_millis(999)));
    }
}
