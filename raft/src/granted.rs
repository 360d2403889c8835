//! Where voters' logs end, as they said when they made this node the leader: from there it goes on.
//!
//! openraft looks for the end of each follower's log by halving, a round for each step, and takes no
//! write before the first of these was answered. Over a wide area that is most of what a hand-over,
//! or an election, costs: 200 ms at 30 ms round trip and a thousand entries. But who gives its vote
//! says where its log ends, so what openraft would ask first can be answered here:
//!
//! - *The answer is true.* The voter's last entry was looked up in this node's log, and two logs that
//!   share an entry share all before it (Raft's log matching). The voter keeps it for as long as it
//!   follows this vote, since a leader's own entries are all that it would be overwritten with.
//! - *It commits nothing.* A leader counts copies of entries of its own term only, and none of these
//!   is. What it then sends begins where the voter is said to end, and is checked there as ever.
//! - *It confirms nothing.* No read rests on it: what these need is counted in [`crate::acks`],
//!   which hears of answers of others only. openraft takes the answer for a sign of life, and takes
//!   writes from then on; that a majority would follow is what the votes said a moment before.
//! - *It is forgotten* with the first append that begins there, or behind it: a replica that is given up later, and
//!   comes back empty to the same leader, is asked.
//!
//! A leader that hands over often has taken entries that reached nobody else. Its log is longer than
//! its heir's, so it gives no vote, and would be searched: its replica, and who reads at it, would lag
//! for half a second. But where the longer log ends in the term of the shorter one's end it holds that
//! end, or held it a moment before: what one leader wrote is the same everywhere. So it is asked for
//! just that, by an append without entries. Once that is answered, all of the above is true of it.

use model::id::NodeId;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};
use parking_lot::Mutex;

use crate::types::{LogId, Types, Vote};

/// The ends of the voters' logs in the last term that this node stood for.
#[derive(Default)]
pub(crate) struct Granted(Mutex<Book>);

#[derive(Default)]
struct Book {
    term: u64,
    /// A handful, so that a list is as good as any map.
    ends: Vec<(NodeId, LogId)>,
    /// Those who are likely to hold this entry, and were not asked yet.
    likely: Vec<(NodeId, LogId)>,
}

impl Book {
    /// The book of `term`; `None` when that is over.
    fn of(&mut self, term: u64) -> Option<&mut Book> {
        if term > self.term {
            *self = Book {
                term,
                ..Book::default()
            };
        }
        (term == self.term).then_some(self)
    }
}

impl Granted {
    /// `by` gave `vote` to this node, its log ending with `end`, which this node's log holds too.
    pub(crate) fn note(&self, by: NodeId, vote: &Vote, end: LogId) {
        if let Some(book) = self.0.lock().of(vote.leader_id().term) {
            book.ends.retain(|(node, _)| *node != by);
            book.ends.push((by, end));
        }
    }

    /// `by` gave no vote to `vote`, whose candidate's log ends with `ours`, its own with `theirs`.
    pub(crate) fn denied(&self, by: NodeId, vote: &Vote, ours: LogId, theirs: LogId) {
        let longer = ours.committed_leader_id() == theirs.committed_leader_id() && ours <= theirs;
        if let Some(book) = self.0.lock().of(vote.leader_id().term)
            && longer
        {
            book.likely.retain(|(node, _)| *node != by);
            book.likely.push((by, ours));
        }
    }

    /// What `target` should be asked for before `request`, which begins before it: once.
    pub(crate) fn to_ask(
        &self,
        target: NodeId,
        request: &AppendEntriesRequest<Types>,
    ) -> Option<LogId> {
        let mut book = self.0.lock();
        if book.term != request.vote.leader_id().term {
            return None;
        }
        let place = book.likely.iter().position(|(node, _)| *node == target)?;
        let (_, end) = book.likely.swap_remove(place);
        (request.prev_log_id < Some(end)).then_some(end)
    }

    /// What `target` would answer to an append that begins before the end of its log: how far that
    /// matches, and that what is behind it is not there. `None` when it must be asked.
    pub(crate) fn answer(
        &self,
        target: NodeId,
        request: &AppendEntriesRequest<Types>,
    ) -> Option<Vec<StreamAppendResult<Types>>> {
        let end = {
            let mut book = self.0.lock();
            if book.term != request.vote.leader_id().term {
                return None;
            }
            let place = book.ends.iter().position(|(node, _)| *node == target)?;
            let (_, end) = book.ends[place];
            // Also one without entries: the voter may have been found before it was heard.
            if request.prev_log_id >= Some(end) {
                book.ends.swap_remove(place);
                return None;
            }
            end
        };
        let last = request.entries.last()?.log_id;
        if end.index() >= last.index() {
            return Some(vec![Ok(Some(last))]);
        }
        let matches = request.entries.iter().any(|entry| entry.log_id == end);
        let behind = Err(StreamAppendError::Conflict(last));
        matches.then(|| vec![Ok(Some(end)), behind])
    }
}

#[cfg(test)]
mod tests {
    use openraft::EntryPayload;
    use store::Position;

    use super::*;
    use crate::types;

    const ME: u64 = 1;
    const VOTER: NodeId = NodeId(2);

    fn id(index: u64) -> LogId {
        types::log_id(Position { term: 3, index })
    }

    fn append(term: u64, prev: u64, last: u64) -> AppendEntriesRequest<Types> {
        let entry = |index| types::Entry {
            log_id: id(index),
            payload: EntryPayload::Blank,
        };
        AppendEntriesRequest {
            vote: Vote::new_committed(term, ME),
            prev_log_id: (prev > 0).then(|| id(prev)),
            entries: (prev + 1..=last).map(entry).collect(),
            leader_commit: None,
        }
    }

    /// How far the answer matches, and whether it says that more is not there.
    fn answer(granted: &Granted, request: AppendEntriesRequest<Types>) -> Option<(u64, bool)> {
        let answer = granted.answer(VOTER, &request)?;
        let matched = answer.first()?.as_ref().ok()?.as_ref()?.index();
        Some((matched, answer.len() > 1))
    }

    #[test]
    fn a_voter_matches_up_to_the_end_that_it_named_and_is_asked_from_there_on() {
        let granted = Granted::default();
        assert_eq!(answer(&granted, append(4, 0, 8)), None, "it said nothing");
        granted.note(VOTER, &Vote::new(4, ME), id(20));
        assert_eq!(answer(&granted, append(4, 0, 8)), Some((8, false)));
        assert_eq!(answer(&granted, append(4, 12, 20)), Some((20, false)));
        assert_eq!(answer(&granted, append(4, 16, 24)), Some((20, true)));
        assert_eq!(answer(&granted, append(4, 8, 8)), None, "a heartbeat");
        assert_eq!(answer(&granted, append(5, 20, 21)), None, "another term");
        assert_eq!(answer(&granted, append(4, 0, 8)), Some((8, false)), "still");
        assert_eq!(answer(&granted, append(4, 20, 21)), None, "news");
        assert_eq!(answer(&granted, append(4, 0, 8)), None, "it comes back");
        granted.note(VOTER, &Vote::new(4, ME), id(20));
        assert_eq!(answer(&granted, append(4, 21, 21)), None, "found already");
        assert_eq!(answer(&granted, append(4, 0, 8)), None, "it comes back");
    }

    #[test]
    fn who_denies_its_vote_for_a_longer_log_of_the_same_term_is_asked_for_the_end_once() {
        let granted = Granted::default();
        let vote = Vote::new(4, ME);
        let other = types::log_id(Position { term: 2, index: 30 });
        granted.denied(VOTER, &vote, id(20), other);
        assert_eq!(
            granted.to_ask(VOTER, &append(4, 0, 8)),
            None,
            "another term"
        );
        granted.denied(VOTER, &vote, id(20), id(19));
        assert_eq!(granted.to_ask(VOTER, &append(4, 0, 8)), None, "shorter");
        granted.denied(VOTER, &vote, id(20), id(23));
        assert_eq!(granted.to_ask(NodeId(3), &append(4, 0, 8)), None);
        assert_eq!(granted.to_ask(VOTER, &append(5, 0, 8)), None);
        assert_eq!(granted.to_ask(VOTER, &append(4, 0, 8)), Some(id(20)));
        assert_eq!(granted.to_ask(VOTER, &append(4, 0, 8)), None, "once");
        granted.denied(VOTER, &vote, id(20), id(23));
        assert_eq!(
            granted.to_ask(VOTER, &append(4, 20, 21)),
            None,
            "found already"
        );
        granted.denied(VOTER, &Vote::new(3, ME), id(20), id(23));
        assert_eq!(granted.to_ask(VOTER, &append(3, 0, 8)), None, "over");
    }

    #[test]
    fn only_the_last_term_that_was_stood_for_counts() {
        let granted = Granted::default();
        granted.note(VOTER, &Vote::new(6, ME), id(20));
        granted.note(VOTER, &Vote::new(5, ME), id(24));
        assert_eq!(answer(&granted, append(5, 16, 24)), None);
        assert_eq!(answer(&granted, append(6, 16, 24)), Some((20, true)));
        granted.note(NodeId(3), &Vote::new(7, ME), id(24));
        assert_eq!(answer(&granted, append(6, 16, 24)), None);
        assert_eq!(answer(&granted, append(7, 16, 24)), None, "of another");
    }
}
