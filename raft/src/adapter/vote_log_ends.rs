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
//! - *It confirms nothing.* No read rests on it: what these need is counted in [`crate::adapter::acks`],
//!   which hears of answers of others only. openraft takes the answer for a sign of life, and takes
//!   writes from then on; that a majority would follow is what the votes said a moment before.
//! - *It is forgotten* with the first append that begins there, or behind it, and after a few seconds:
//!   a replica that is given up later, and comes back empty to the same leader, is searched.
//!
//! Others gave no vote: they were not reached, or were late, or their log is longer. That is often so
//! of a leader that hands over, which has taken entries that reached nobody else, and of a node that
//! has just started; their replicas, and who reads at them, would lag for half a second. So each is
//! asked, until it answers once, by an append without entries, for the end that this node's log had
//! when it stood. Who holds that has all that counts; who does not says where its own log ends on its
//! disk. Both come with the word that it follows this leader, so that all of the above is true of it.

use std::time::Duration;

use model::id::NodeId;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::adapter::types::{LogId, Types, Vote};

/// How long an end is remembered: its follower is sent the first append at once.
const END_VALID: Duration = Duration::from_secs(5);

/// The ends of the followers' logs in the last term that this node stood for.
#[derive(Default)]
pub(crate) struct Granted(Mutex<Book>);

#[derive(Default)]
struct Book {
    term: u64,
    /// Where this node's own log ended when it stood.
    own: Option<LogId>,
    /// What is known of whom; a handful, so that a list is as good as any map.
    known: Vec<(NodeId, Known)>,
    /// What became of the votes that were asked for, for people.
    votes: Vec<(NodeId, String)>,
}

/// What is known of a follower.
#[derive(Clone, Copy)]
enum Known {
    /// Where its log ended, and since when that is known.
    End(LogId, Instant),
    /// It was found, or its answer was of no use: openraft goes on.
    Found,
}

/// What a follower would answer.
pub(crate) struct Answer {
    /// How far its log matches.
    pub(crate) matched: LogId,
    pub(crate) results: Vec<StreamAppendResult<Types>>,
}

impl Book {
    /// The book of this very term.
    fn of(&mut self, vote: &Vote) -> Option<&mut Book> {
        (vote.leader_id().term == self.term).then_some(self)
    }

    fn known(&mut self, node: NodeId) -> Option<&mut Known> {
        let known = self.known.iter_mut().find(|(of, _)| *of == node);
        known.map(|(_, known)| known)
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
                known: Vec::new(),
                votes: Vec::new(),
            };
        }
    }

    /// What became of a vote that `voter` was asked for.
    pub(crate) fn voted(&self, voter: NodeId, vote: &Vote, what: String) {
        if let Some(book) = self.0.lock().of(vote) {
            book.votes.retain(|(of, _)| *of != voter);
            book.votes.push((voter, what));
        }
    }

    /// What became of the votes for this node in `term`: `n2 granted it, n3 no answer`.
    pub(crate) fn votes(&self, term: u64) -> String {
        let book = self.0.lock();
        if book.term != term {
            return "this node did not stand".to_owned();
        }
        let votes = book.votes.iter();
        let votes: Vec<String> = votes.map(|(of, what)| format!("{of} {what}")).collect();
        match votes.is_empty() {
            true => "nobody has answered yet".to_owned(),
            false => votes.join(", "),
        }
    }

    /// `by` follows this node in `vote`. Its log ends with `end`, which this node's log holds too;
    /// `None` when the two do not end so.
    pub(crate) fn note(&self, by: NodeId, vote: &Vote, end: Option<LogId>) {
        let mut book = self.0.lock();
        let Some(book) = book.of(vote) else {
            return;
        };
        let end = end.filter(|end| Some(*end) <= book.own);
        let news = end.map_or(Known::Found, |end| Known::End(end, Instant::now()));
        match book.known(by) {
            None => book.known.push((by, news)),
            Some(known @ Known::End(..)) if end.is_some() => *known = news,
            Some(Known::End(..) | Known::Found) => {}
        }
    }

    /// What `target` should be asked for before `request`, which looks for the end of its log.
    pub(crate) fn to_ask(
        &self,
        target: NodeId,
        request: &AppendEntriesRequest<Types>,
    ) -> Option<LogId> {
        let mut book = self.0.lock();
        let book = book.of(&request.vote)?;
        let own = book.own.filter(|own| request.prev_log_id < Some(*own))?;
        // Heartbeats have their own time limit, and openraft does not search by them.
        (!request.entries.is_empty() && book.known(target).is_none()).then_some(own)
    }

    /// What `target` would answer to an append that begins before the end of its log: how far that
    /// matches, and that what is behind it is not there. `None` when it must be asked.
    pub(crate) fn answer(
        &self,
        target: NodeId,
        request: &AppendEntriesRequest<Types>,
    ) -> Option<Answer> {
        let end = {
            let mut book = self.0.lock();
            let known = book.of(&request.vote)?.known(target)?;
            let Known::End(end, since) = *known else {
                return None;
            };
            // Also one without entries: the follower may have been found before it was heard.
            if request.prev_log_id >= Some(end) || since.elapsed() > END_VALID {
                *known = Known::Found;
                return None;
            }
            end
        };
        let last = request.entries.last()?.log_id;
        if end.index() >= last.index() {
            let results = vec![Ok(Some(last))];
            return Some(Answer {
                matched: last,
                results,
            });
        }
        let matches = request.entries.iter().any(|entry| entry.log_id == end);
        let results = vec![Ok(Some(end)), Err(StreamAppendError::Conflict(last))];
        matches.then_some(Answer {
            matched: end,
            results,
        })
    }
}

#[cfg(test)]
mod tests {
    use openraft::EntryPayload;
    use store::Position;

    use super::*;
    use crate::adapter::types;

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
        assert_eq!(answer.results.first(), Some(&Ok(Some(answer.matched))));
        Some((answer.matched.index(), answer.results.len() > 1))
    }

    #[test]
    fn a_voter_matches_up_to_the_end_that_it_named_and_is_asked_from_there_on() {
        let granted = stood(4, 20);
        assert_eq!(answer(&granted, append(4, 0, 8)), None, "it said nothing");
        granted.note(VOTER, &Vote::new(4, ME), Some(id(20)));
        assert_eq!(answer(&granted, append(4, 0, 8)), Some((8, false)));
        assert_eq!(answer(&granted, append(4, 12, 20)), Some((20, false)));
        assert_eq!(answer(&granted, append(4, 16, 24)), Some((20, true)));
        assert_eq!(answer(&granted, append(4, 8, 8)), None, "a heartbeat");
        assert_eq!(answer(&granted, append(5, 20, 21)), None, "another term");
        assert_eq!(answer(&granted, append(4, 0, 8)), Some((8, false)), "still");
        assert_eq!(answer(&granted, append(4, 20, 21)), None, "news");
        assert_eq!(answer(&granted, append(4, 0, 8)), None, "it comes back");
        granted.note(VOTER, &Vote::new(4, ME), Some(id(20)));
        assert_eq!(answer(&granted, append(4, 0, 8)), None, "a late word");
    }

    #[test]
    fn who_was_found_before_it_said_anything_counts_as_found() {
        let granted = stood(4, 20);
        granted.note(VOTER, &Vote::new(4, ME), Some(id(20)));
        assert_eq!(answer(&granted, append(4, 21, 21)), None, "found already");
        assert_eq!(answer(&granted, append(4, 0, 8)), None, "it comes back");
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_is_not_remembered_for_long() {
        let granted = stood(4, 20);
        granted.note(VOTER, &Vote::new(4, ME), Some(id(20)));
        assert_eq!(answer(&granted, append(4, 0, 8)), Some((8, false)));
        tokio::time::advance(2 * END_VALID).await;
        assert_eq!(answer(&granted, append(4, 0, 8)), None, "it may be empty");
    }

    #[test]
    fn who_gave_no_vote_is_asked_for_the_end_until_it_answers() {
        let granted = stood(4, 20);
        let ask = |node, request| granted.to_ask(NodeId(node), &request);
        assert_eq!(ask(2, append(5, 0, 8)), None, "not its term");
        assert_eq!(ask(2, append(4, 20, 21)), None, "found");
        assert_eq!(ask(2, append(4, 8, 8)), None, "a heartbeat");
        assert_eq!(ask(2, append(4, 0, 8)), Some(id(20)));
        assert_eq!(ask(2, append(4, 0, 8)), Some(id(20)), "it was down");
        granted.note(VOTER, &Vote::new(4, ME), None);
        assert_eq!(ask(2, append(4, 0, 8)), None, "of no use");
        assert_eq!(ask(3, append(4, 0, 8)), Some(id(20)), "another");
        granted.note(NodeId(3), &Vote::new(4, ME), Some(id(18)));
        assert_eq!(ask(3, append(4, 0, 8)), None, "it said");
    }

    #[test]
    fn an_end_behind_what_this_node_had_when_it_stood_does_not_count() {
        let granted = stood(4, 20);
        granted.note(VOTER, &Vote::new(4, ME), Some(id(21)));
        assert_eq!(answer(&granted, append(4, 16, 24)), None);
    }

    #[test]
    fn only_the_last_term_that_was_stood_for_counts() {
        let granted = stood(6, 24);
        granted.note(VOTER, &Vote::new(6, ME), Some(id(20)));
        granted.stands(&Vote::new(5, ME), Some(id(24)));
        granted.note(VOTER, &Vote::new(5, ME), Some(id(24)));
        assert_eq!(answer(&granted, append(5, 16, 24)), None);
        assert_eq!(answer(&granted, append(6, 16, 24)), Some((20, true)));
        granted.stands(&Vote::new(7, ME), Some(id(24)));
        granted.note(NodeId(3), &Vote::new(7, ME), Some(id(24)));
        assert_eq!(answer(&granted, append(6, 16, 24)), None);
        assert_eq!(answer(&granted, append(7, 16, 24)), None, "of another");
    }
}
