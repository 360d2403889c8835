//! Words that no node of a cluster says, and those that all of them say.

use std::collections::{BTreeMap, BTreeSet};

use openraft::Membership;

use super::*;
use crate::adapter::incarnation::Member;
use crate::adapter::types::StoredMembership;

const LEADER: NodeId = NodeId(2);
/// What the hearer knows.
const KNOWN: u64 = 7;

fn id(term: u64, index: u64) -> Option<wire::LogId> {
    Some(wire::LogId { term, index })
}

fn vote_id(term: u64, node: u64, committed: bool) -> Option<wire::VoteId> {
    Some(wire::VoteId {
        term,
        node,
        committed,
    })
}

fn entries(ids: &[(u64, u64)]) -> Vec<wire::Entry> {
    let entry = |(term, index): &(u64, u64)| wire::Entry {
        id: id(*term, *index),
        record: vec![0].into(),
        ..wire::Entry::default()
    };
    ids.iter().map(entry).collect()
}

/// An append as leaders send them.
fn good() -> wire::AppendEntries {
    wire::AppendEntries {
        vote: vote_id(8, LEADER.0, true),
        prev: id(6, 20),
        entries: entries(&[(7, 21), (8, 22)]),
        commit: id(6, 20),
        incarnation: 0,
    }
}

#[track_caller]
fn check(result: Result<(), Malformed>, expect: Option<&str>) {
    match (result, expect) {
        (Ok(()), None) => {}
        (Err(why), Some(expect)) => assert!(why.0.contains(expect), "{why}"),
        (found, expect) => panic!("{found:?} is not {expect:?}"),
    }
}

#[track_caller]
fn check_append(change: impl FnOnce(&mut wire::AppendEntries), expect: Option<&str>) {
    let mut changed = good();
    change(&mut changed);
    check(append(&changed, LEADER, KNOWN), expect);
}

#[test]
fn what_leaders_send_is_taken() {
    check_append(|_| (), None);
    check_append(|a| a.entries.clear(), None);
    check_append(|a| a.commit = id(8, 9_000), None);
    check_append(
        |a| (a.prev, a.entries, a.commit) = (None, entries(&[(0, 0), (1, 1)]), None),
        None,
    );
    check_append(|a| a.vote = vote_id(3, LEADER.0, true), Some("after 3"));
}

#[test]
fn terms_rise_and_do_not_leap() {
    let most = KNOWN + limits::TERM_LEAP_MAX;
    for (term, expect) in [
        (most, None),
        (most + 1, Some("leaps")),
        (u64::MAX, Some("leaps")),
    ] {
        check_append(|a| a.vote = vote_id(term, LEADER.0, true), expect);
    }
    // Nor from a place that is high already.
    for known in [limits::TERM_MAX, u64::MAX] {
        check(term(limits::TERM_MAX, known), None);
        check(term(limits::TERM_MAX + 1, known), Some("leaps"));
    }
}

#[test]
fn nobody_speaks_in_anothers_name() {
    check_append(
        |a| a.vote = vote_id(8, 1, true),
        Some("n2 speaks in the name of n1"),
    );
    check_append(
        |a| a.vote = vote_id(8, LEADER.0, false),
        Some("who leads has a committed vote"),
    );
    check_append(|a| a.vote = None, Some("lacks its vote"));
    let ask = |vote, last| wire::Vote {
        vote,
        last,
        ..wire::Vote::default()
    };
    let asks = |vote: wire::Vote| asks_for_vote(&vote, LEADER, KNOWN);
    check(asks(ask(vote_id(8, 2, false), id(7, 20))), None);
    check(asks(ask(vote_id(8, 2, false), None)), None);
    check(asks(ask(vote_id(8, 3, false), None)), Some("in the name"));
    check(asks(ask(vote_id(8, 2, true), None)), Some("who stands"));
    check(asks(ask(vote_id(8, 2, false), id(9, 1))), Some("after 8"));
    check(
        asks(ask(vote_id(u64::MAX, 2, false), None)),
        Some("term 18446744073709551615 leaps"),
    );
    let hands = |from, last| wire::TransferLeader {
        from,
        to: 3,
        last,
        windows_over: true,
    };
    let hands = |from, last| transfer(&hands(from, last), LEADER, KNOWN);
    check(hands(vote_id(8, 2, true), id(8, 20)), None);
    check(hands(vote_id(8, 1, true), id(8, 20)), Some("in the name"));
    check(hands(vote_id(u64::MAX, 2, true), None), Some("leaps"));
}

#[test]
fn entries_follow_each_other_and_are_not_of_the_future() {
    for wrong in [
        &[(8, 22)][..],
        &[(8, 21), (8, 23)],
        &[(8, 21), (7, 22)],
        &[(5, 21)],
        &[(8, 20)],
    ] {
        check_append(|a| a.entries = entries(wrong), Some("does not follow"));
    }
    check_append(|a| a.entries = entries(&[(9, 21)]), Some("after 8"));
    check_append(|a| a.entries[0].id = None, Some("lacks its log id"));
    check_append(|a| a.commit = id(9, 20), Some("after 8"));
    check_append(|a| a.prev = id(9, 20), Some("after 8"));
    for far in [limits::INDEX_MAX + 1, u64::MAX] {
        check_append(|a| a.prev = id(6, far), Some("further than any log"));
        check_append(|a| a.commit = id(6, far), Some("further than any log"));
        check_append(
            |a| (a.prev, a.entries) = (None, entries(&[(1, far)])),
            Some("further than any log"),
        );
    }
}

fn head(voters: &[u64]) -> wire::SnapshotHead {
    let voters: BTreeSet<u64> = voters.iter().copied().collect();
    let nodes: BTreeMap<u64, Member> = voters.iter().map(|v| (*v, Member::default())).collect();
    let membership = Membership::new(vec![voters], nodes).unwrap();
    let of = types::log_id(Position { term: 1, index: 1 });
    wire::SnapshotHead {
        format: 1,
        shard: 1,
        vote: vote_id(8, LEADER.0, true),
        last: id(7, 20),
        membership: types::encode_membership(&StoredMembership::new(Some(of), membership)),
        files: 1,
        ..wire::SnapshotHead::default()
    }
}

#[test]
fn a_snapshot_of_nothing_is_refused_before_its_first_file() {
    let check_head = |change: fn(&mut wire::SnapshotHead), expect| {
        let mut changed = head(&[1, 2, 3]);
        change(&mut changed);
        check(snapshot(&changed, LEADER, KNOWN), expect);
    };
    check_head(|_| (), None);
    check_head(|h| h.files = 0, Some("names 0"));
    check_head(|h| h.files = u32::MAX, Some("1 to"));
    check_head(|h| h.last = None, Some("no position"));
    check_head(|h| h.last = id(7, u64::MAX), Some("further than any log"));
    check_head(|h| h.last = id(9, 20), Some("after 8"));
    check_head(|h| h.last = id(7, 0), Some("behind it"));
    check_head(|h| h.membership.clear(), Some("names no voters"));
    check_head(|h| h.membership = vec![0xff].into(), Some("membership"));
    check_head(|h| h.vote = vote_id(8, 3, true), Some("in the name"));
    check_head(|h| h.vote = vote_id(u64::MAX, 2, true), Some("leaps"));
}

#[test]
fn answers_speak_of_what_was_asked() {
    let said = Said {
        prev: Some(Position { term: 6, index: 20 }),
        last: Some(Position { term: 8, index: 22 }),
    };
    let check = |result, expect| {
        let answer = wire::AppendAnswer {
            result: Some(result),
            end: id(6, 9),
        };
        check(append_answer(&answer, said, 8, KNOWN), expect);
    };
    let log = |term, index| wire::LogId { term, index };
    check(Answer::Matched(log(8, 22)), None);
    check(Answer::Matched(log(6, 20)), None);
    check(Answer::Matched(log(8, 23)), Some("was not sent"));
    check(Answer::Matched(log(9, 1)), Some("was not sent"));
    check(Answer::MatchedNone(true), None);
    check(Answer::Conflict(log(6, 20)), None);
    check(Answer::Conflict(log(6, 19)), Some("not asked for"));
    let higher = |term| Answer::HigherVote(vote_id(term, 3, true).unwrap());
    check(higher(9), None);
    check(higher(u64::MAX), Some("leaps"));
    let asked = Vote::new(8, LEADER.0);
    let answer = |term, last| wire::VoteAnswer {
        vote: vote_id(term, 3, false),
        granted: false,
        last,
        ..wire::VoteAnswer::default()
    };
    let votes = |term, last| vote_answer(&answer(term, last), &asked, KNOWN);
    super::tests::check(votes(8, id(7, 1)), None);
    super::tests::check(votes(9, id(9, 1)), None);
    super::tests::check(votes(u64::MAX, None), Some("leaps"));
    super::tests::check(votes(8, id(8, u64::MAX)), Some("further than any log"));
}
