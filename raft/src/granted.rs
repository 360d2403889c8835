//! Where followers' logs end, as they said when this node became the leader: from there it goes on.
//!
//! openraft looks for the end of each follower's log by halving, a round for each step, and takes no
//! write before the first of these was answered. Over a wide area that is most of what a hand-over,
//! or an election, costs: 200 ms at 30 ms round trip and a thousand entries. But who gives its vote
//! says where its log ends, so what openraft would ask first can be answered here:
//!
//! - *The answer is true.* The follower's last entry was looked up in this node's log, and two logs
//!   that share an entry share all before it (Raft's log matching). The follower keeps it for as long
//!   as it follows this vote, since a leader's own entries are all that it would be overwritten with.
//! - *It commits nothing.* A leader counts copies of entries of its own term only, and none of these
//!   is: they lie at or before the end that its own log had when it stood. What it then sends begins
//!   where the follower is said to end, and is checked there as ever.
//! - *It confirms nothing.* No read rests on it: what these need is counted in [`crate::acks`],
//!   which hears of answers of others only. openraft takes the answer for a sign of life, and takes
//!   writes from then on; that a majority would follow is what the votes said a moment before.
//! - *It is forgotten* with the first append that begins there, or behind it: a replica that is given
//!   up later, and comes back empty to the same leader, is asked.
//!
//! Others gave no vote: they were not reached, or were late, or their log is longer. That is often so
//! of a leader that hands over, which has taken entries that reached nobody else, and of a node that
//! has just started; their replicas, and who reads at them, would lag for half a second. So each is
//! asked once, by an append without entries, for the end that this node's log had when it stood. Who
//! holds that has all that counts; who does not says where its own log ends. Both come with the word
//! that it follows this leader, so that all of the above is true of it.

use model::id::NodeId;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};
use parking_lot::Mutex;

use crate::types::{LogId, Types, Vote};

/// The ends of the followers' logs in the last term that this node stood for.
#[derive(Default)]
pub(crate) struct Granted(Mutex<Book>);

#[derive(Default)]
struct Book {
    term: u64,
    /// Where this node's own log ended when it stood.
    own: Option<LogId>,
    /// A handful, so that a list is as good as any map.
    ends: Vec<(NodeId, LogId)>,
    /// Those who were asked for their ends.
    asked: Vec<NodeId>,
}

impl Book {
    /// The book of this very term.
    fn of(&mut self, vote: &Vote) -> Option<&mut Book> {
        (vote.leader_id().term == self.term).then_some(self)
    }

    fn end_of(&self, node: NodeId) -> Option<usize> {
        self.ends.iter().position(|(of, _)| *of == node)
    }
}

impl Granted {
    /// This node, whose log ends with `own`, asks for votes for `vote`.
    pub(crate) fn stands(&self, vote: &Vote, own: Option<LogId>) {
        let mut book = self.0.lock();
        if vote.leader_id().term > book.term {
            *book = Book {
                term: vote.leader_id().term,
                own,
                ..Book::default()
            };
        }
    }

    /// `by` follows this node in `vote`, its log ending with `end`, which this node's log holds too.
    pub(crate) fn note(&self, by: NodeId, vote: &Vote, end: LogId) {
        let mut book = self.0.lock();
        if let Some(book) = book.of(vote)
            && Some(end) <= book.own
        {
            book.ends.retain(|(node, _)| *node != by);
            book.ends.push((by, end));
        }
    }

    /// What `target` should be asked for before `request`, which begins before it: once.
    pub(crate) fn to_ask(
        &self,
        target: NodeId,
        request: &AppendEntriesRequest<Types>,
    ) -> Option<LogId> {
        let mut book = self.0.lock();
        let book = book.of(&request.vote)?;
        let own = book.own.filter(|own| request.prev_log_id < Some(*own))?;
        let known = book.end_of(target).is_some() || book.asked.contains(&target);
        if !known {
            book.asked.push(target);
        }
        (!known).then_some(own)
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
            let book = book.of(&request.vote)?;
            let place = book.end_of(target)?;
            let (_, end) = book.ends[place];
            // Also one without entries: the follower may have been found before it was heard.
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

    /// Of a node that stood in `term`, its log ending at `last`.
    fn stood(term: u64, last: u64) -> Granted {
        let granted = Granted::default();
        granted.stands(&Vote::new(term, ME), Some(id(last)));
        granted
    }

    /// How far the answer matches, and whether it says that more is not there.
    fn answer(granted: &Granted, request: AppendEntriesRequest<Types>) -> Option<(u64, bool)> {
        let answer = granted.answer(VOTER, &request)?;
        let matched = answer.first()?.as_ref().ok()?.as_ref()?.index();
        Some((matched, answer.len() > 1))
    }

    #[test]
    fn a_voter_matches_up_to_the_end_that_it_named_and_is_asked_from_there_on() {
        let granted = stood(4, 20);
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
    fn who_gave_no_vote_is_asked_for_the_end_once() {
        let granted = stood(4, 20);
        assert_eq!(
            granted.to_ask(VOTER, &append(5, 0, 8)),
            None,
            "not its term"
        );
        assert_eq!(granted.to_ask(VOTER, &append(4, 20, 21)), None, "found");
        assert_eq!(granted.to_ask(VOTER, &append(4, 0, 8)), Some(id(20)));
        assert_eq!(granted.to_ask(VOTER, &append(4, 0, 8)), None, "once");
        assert_eq!(granted.to_ask(NodeId(3), &append(4, 0, 8)), Some(id(20)));
        granted.note(NodeId(4), &Vote::new(4, ME), id(18));
        assert_eq!(granted.to_ask(NodeId(4), &append(4, 0, 8)), None, "it said");
    }

    #[test]
    fn an_end_behind_what_this_node_had_when_it_stood_does_not_count() {
        let granted = stood(4, 20);
        granted.note(VOTER, &Vote::new(4, ME), id(21));
        assert_eq!(answer(&granted, append(4, 16, 24)), None);
    }

    #[test]
    fn only_the_last_term_that_was_stood_for_counts() {
        let granted = stood(6, 24);
        granted.note(VOTER, &Vote::new(6, ME), id(20));
        granted.stands(&Vote::new(5, ME), Some(id(24)));
        granted.note(VOTER, &Vote::new(5, ME), id(24));
        assert_eq!(answer(&granted, append(5, 16, 24)), None);
        assert_eq!(answer(&granted, append(6, 16, 24)), Some((20, true)));
        granted.stands(&Vote::new(7, ME), Some(id(24)));
        granted.note(NodeId(3), &Vote::new(7, ME), id(24));
        assert_eq!(answer(&granted, append(6, 16, 24)), None);
        assert_eq!(answer(&granted, append(7, 16, 24)), None, "of another");
    }
}
