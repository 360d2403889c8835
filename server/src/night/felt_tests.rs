use proto::v1::{DrainRecord, StartedRecord, StoodRecord, StopRecord, VerdictRecord};

use super::*;
use crate::night::tests::{START, night};

fn verdict(peer: u64, verdict: &str) -> What {
    What::Verdict(VerdictRecord {
        peer,
        verdict: verdict.to_owned(),
        round_us: 500,
        limit_ms: 300,
    })
}

fn stall(stalled: bool) -> What {
    let node_id = 1;
    What::Stall(proto::v1::StallRecord { node_id, stalled })
}

fn started() -> What {
    What::Started(StartedRecord::default())
}

type Seen = (Kind, Vec<u64>, Vec<u64>, u64, Option<u64>);

#[track_caller]
fn check(records: Vec<(u64, u64, What)>, expect: &[Seen]) {
    check_night(&night(records), expect);
}

#[track_caller]
fn check_night(night: &Night, expect: &[Seen]) {
    let seen: Vec<Seen> = felt(night)
        .into_iter()
        .map(|one| {
            let (nodes, others) = (one.nodes, one.others);
            let to = one.to_ms.map(|to| to - START);
            let sides = (nodes.into_iter().collect(), others.into_iter().collect());
            (one.kind, sides.0, sides.1, one.from_ms - START, to)
        })
        .collect();
    assert_eq!(seen, expect);
}

#[test]
fn nothing_happens_in_a_quiet_night() {
    check(vec![(1, 10, started()), (2, 5_000, verdict(1, "up"))], &[]);
}

#[test]
fn who_stood_still_says_so_and_the_others_verdicts_need_no_cut() {
    let stood = What::Stood(StoodRecord {
        lasted_ms: 20_000,
        suspended: false,
    });
    check(
        vec![
            (2, 10_300, verdict(1, "silent")),
            (3, 10_310, verdict(1, "silent")),
            (1, 30_000, stood),
            (1, 30_010, stall(true)),
            (1, 30_100, stall(false)),
            (1, 30_010, verdict(2, "reset")),
            (2, 30_200, verdict(1, "up")),
            (3, 30_300, verdict(1, "up")),
        ],
        &[(Kind::Still, vec![1], vec![], 10_000, Some(30_000))],
    );
}

#[test]
fn who_starts_again_without_a_stop_was_killed_when_its_connections_were_reset() {
    let mut night = night(vec![
        (1, 9_000, verdict(2, "up")),
        (2, 10_000, verdict(1, "reset")),
        (3, 10_005, verdict(1, "reset")),
        (2, 10_030, verdict(1, "refused")),
        (1, 20_000, started()),
        (2, 20_100, verdict(1, "up")),
        (3, 20_100, verdict(1, "up")),
    ]);
    night.nodes[0].records[1].boot = 2;
    check_night(
        &night,
        &[(Kind::Killed, vec![1], vec![], 10_000, Some(20_000))],
    );
}

#[test]
fn a_new_file_is_no_new_start() {
    check(
        vec![(1, 10_000, verdict(2, "up")), (1, 20_000, started())],
        &[],
    );
}

#[test]
fn who_is_gone_for_good_fell_silent_or_was_killed() {
    check(
        vec![
            (2, 10_300, verdict(1, "silent")),
            (3, 10_400, verdict(1, "silent")),
        ],
        &[(Kind::PowerLost, vec![1], vec![], 10_000, None)],
    );
    check(
        vec![
            (2, 10_300, verdict(1, "reset")),
            (2, 10_350, verdict(1, "refused")),
            (3, 10_350, verdict(1, "refused")),
        ],
        &[(Kind::Killed, vec![1], vec![], 10_300, None)],
    );
}

#[test]
fn who_was_asked_to_stop_or_to_drain_says_so() {
    let drain = |step: &str| {
        What::Drain(DrainRecord {
            step: step.to_owned(),
        })
    };
    let mut night = night(vec![
        (1, 1_000, drain("begun")),
        (1, 8_000, drain("ended")),
        (1, 10_000, What::Stop(StopRecord::default())),
        (2, 10_500, verdict(1, "refused")),
        (1, 20_000, started()),
        (2, 20_500, verdict(1, "up")),
    ]);
    night.nodes[0].records[3].boot = 2;
    check_night(
        &night,
        &[
            (Kind::Drained, vec![1], vec![], 1_000, Some(8_000)),
            (Kind::Stopped, vec![1], vec![], 10_000, Some(20_000)),
        ],
    );
}

#[test]
fn living_nodes_that_do_not_hear_each_other_are_cut_off_in_two_sides() {
    check(
        vec![
            (1, 10_300, verdict(2, "silent")),
            (1, 10_300, verdict(3, "silent")),
            (2, 10_310, verdict(1, "silent")),
            (3, 10_320, verdict(1, "silent")),
            (1, 20_000, verdict(2, "up")),
            (1, 20_100, verdict(3, "up")),
        ],
        &[(Kind::CutOff, vec![1], vec![2, 3], 10_000, Some(20_100))],
    );
}

#[test]
fn sides_are_found_only_where_all_pairs_are_cut() {
    let pairs = |pairs: &[(u64, u64)]| split(&pairs.iter().copied().collect());
    assert_eq!(
        pairs(&[(1, 3), (1, 4), (2, 3), (2, 4)]),
        Some(([1, 2].into(), [3, 4].into()))
    );
    assert_eq!(pairs(&[(1, 3), (1, 4), (2, 3)]), None);
    assert_eq!(pairs(&[(1, 2), (2, 3), (1, 3)]), None);
}
