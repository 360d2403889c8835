//! Votes and replicas: U and H.

use firebreak_sim::history::{DrillSeen, WipedSeen};
use firebreak_sim::plan::Standstill;

use super::*;

#[test]
fn two_leaders_of_a_term_or_a_vote_taken_back_are_told() {
    let votes =
        |change: fn(&mut Vec<VoteSeen>)| move |it: &mut Setting| change(&mut it.observed.votes);
    let second = votes(|votes| {
        votes.push(VoteSeen {
            host: "tokyo-1".to_owned(),
            node: 3,
            ..votes[4].clone()
        })
    });
    rejects(
        "one-leader",
        second,
        "shard 1: busan-1 in term 3 for node 2, which won, at 45.000 ms, then tokyo-1 in term 3 \
         for node 3, which won, at 45.000 ms",
    );
    let lower = votes(|votes| {
        votes.push(VoteSeen {
            term: 2,
            ..votes[4].clone()
        })
    });
    rejects(
        "votes-never-regress",
        lower,
        "shard 1: busan-1 in term 3 for node 2, which won, at 45.000 ms, then busan-1 in term 2 \
         for node 2, which won, at 45.000 ms",
    );
    let other = votes(|votes| {
        votes.push(VoteSeen {
            node: 1,
            committed: false,
            ..votes[4].clone()
        })
    });
    rejects(
        "votes-never-regress",
        other,
        "shard 1: busan-1 in term 3 for node 2 at 44.000 ms, then busan-1 in term 3 for node 1 \
         at 45.000 ms",
    );
    let leap = votes(|votes| {
        votes.push(VoteSeen {
            term: 1 << 40,
            ..votes[4].clone()
        })
    });
    rejects(
        "votes-never-regress",
        leap,
        "shard 1: busan-1 voted in term 1099511627776 at 45.000 ms, the highest before was 3",
    );
    // Who voted for a loser notes the winner, and votes for no other then.
    accepts(|it| it.observed.votes[3].node = 1);
    let after = |it: &mut Setting| it.observed.votes.swap(3, 4);
    accepts(after);
    rejects(
        "votes-never-regress",
        |it| {
            after(it);
            it.observed.votes[4].node = 1;
        },
        "shard 1: busan-1 in term 3 for node 2, which won, at 45.000 ms, then busan-1 in term 3 \
         for node 1 at 44.000 ms",
    );
    // An empty disk knows nothing of the votes of the one before; an old one must not vote again.
    let replaced = |fault: fn(Vec<String>) -> Fault, vote: VoteSeen| {
        move |it: &mut Setting| {
            it.plan
                .events
                .insert(0, event(44, fault(vec!["busan-1".to_owned()])));
            it.observed.votes.truncate(4);
            it.observed.votes.insert(
                3,
                VoteSeen {
                    at_us: 1_043_000,
                    term: 3,
                    ..vote.clone()
                },
            );
            it.observed.votes[4].term = vote.term;
        }
    };
    let vote = VoteSeen {
        term: 2,
        ..observed().votes[3].clone()
    };
    accepts(replaced(|hosts| Fault::WipeDisk { hosts }, vote.clone()));
    accepts(replaced(|hosts| Fault::OldDisk { hosts }, vote.clone()));
    let again = VoteSeen {
        term: 3,
        node: 3,
        ..vote
    };
    accepts(replaced(|hosts| Fault::WipeDisk { hosts }, again.clone()));
    rejects(
        "votes-never-regress",
        replaced(|hosts| Fault::OldDisk { hosts }, again),
        "shard 1: busan-1 in term 3 for node 3 at 43.000 ms, then busan-1 in term 3 for node 2 \
         at 44.000 ms",
    );
    // A fault that happens a little late leaves time for a last vote on the old disk.
    accepts(|it| {
        let hosts = vec!["busan-1".to_owned()];
        let fault = Fault::WipeDisk {
            hosts: hosts.clone(),
        };
        it.plan.events = vec![event(40, fault), event(50, Fault::Start { hosts })];
        let late = it.observed.votes[4].clone();
        it.observed.votes.push(VoteSeen {
            at_us: 1_051_000,
            term: 2,
            node: 3,
            ..late
        });
    });
}

#[test]
fn who_votes_without_what_counts_is_told_and_who_was_wiped_votes_anew() {
    let oracle = "whole-before-it-votes";
    rejects(
        oracle,
        |it| it.observed.voters[0].last = 20,
        "shard 1: tokyo-1 is made a voter at 60.000 ms with entries up to 20 only; it needs 90",
    );
    rejects(
        oracle,
        |it| {
            it.observed.voters[0].voted = true;
            it.observed.voters[0].last = 0;
        },
        "shard 1: tokyo-1 votes at 60.000 ms with entries up to 0 only; it needs 90",
    );
    let lower = |it: &mut Setting| {
        let vote = VoteSeen {
            at_us: us(47),
            term: 2,
            ..it.observed.votes[4].clone()
        };
        it.observed.votes.push(vote);
    };
    accepts(|it| {
        lower(it);
        it.observed.wiped.push(WipedSeen {
            at_us: us(46),
            host: "busan-1".to_owned(),
            shard: 1,
        });
    });
    rejects(
        "votes-never-regress",
        |it| {
            lower(it);
            it.observed.wiped.push(WipedSeen {
                at_us: us(48),
                host: "busan-1".to_owned(),
                shard: 1,
            });
        },
        "shard 1: busan-1 in term 3 for node 2, which won, at 45.000 ms, then busan-1 in term 2 \
         for node 2, which won, at 47.000 ms",
    );
}

#[test]
fn replicas_that_differ_break_replicas_equal() {
    let oracle = "replicas-equal";
    rejects(
        oracle,
        |it| it.observed.replicas[2].rooms[1].3 = "cc".to_owned(),
        "shard 1 on seoul-1 at revision 7 and shard 1 on tokyo-1 at revision 7: room-1: 5 \
         messages, last seq 5, hash bb; 5 messages, last seq 5, hash cc",
    );
    rejects(
        oracle,
        |it| drop(it.observed.replicas[1].rooms.remove(0)),
        "shard 1 on seoul-1 at revision 7 and shard 1 on busan-1 at revision 7: room-0: 0 \
         messages, last seq 0, hash aa; none",
    );
    rejects(
        oracle,
        |it| it.observed.replicas[1].revision = 6,
        "shard 1 on seoul-1 at revision 7 and shard 1 on busan-1 at revision 6 differ at rest",
    );
    rejects(
        oracle,
        |it| it.observed.replicas[0].rooms[1].1 = 6,
        "shard 1 on seoul-1 at revision 7: room-1 has 5 messages of 6",
    );
    rejects(
        oracle,
        |it| it.observed.unsettled = Some("nobody leads shard 2".to_owned()),
        "not at rest: nobody leads shard 2",
    );
    accepts(|it| it.observed.replicas[2].rooms.reverse());
}

#[test]
fn a_drills_fault_that_outlives_what_its_controller_let_it_is_told() {
    let oracle = "drill-ends";
    rejects(
        oracle,
        |it| it.observed.drills[0].ended_us = Some(us(5_171)),
        "a drill's fault on tokyo-1, since 70.000 ms, was to live until 5070.000 ms and was on until \
         5171.000 ms",
    );
    rejects(
        oracle,
        |it| it.observed.drills[0].ended_us = None,
        "a drill's fault on tokyo-1, since 70.000 ms, was to live until 5070.000 ms and was on at the end \
         of the run",
    );
    // A stopped process counts time when it goes on.
    accepts(|it| {
        it.observed.drills[0].ended_us = None;
        it.observed.drills.push(DrillSeen {
            host: "busan-1".to_owned(),
            ended_us: Some(us(4_000)),
            ..it.observed.drills[0].clone()
        });
        let hosts = vec!["tokyo-1".to_owned()];
        let clocks = Standstill::GoOn;
        it.plan.events = vec![event(40, Fault::Pause { hosts, clocks })];
    });
}
