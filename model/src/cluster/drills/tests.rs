//! Drills by hand.

use super::*;
use crate::cluster::{Change, ChangeBody, Changed, Node, decide_at};
use crate::command::Answer;

const DAY: u64 = DAY_MS;

pub(super) fn cluster() -> ClusterState {
    ClusterState {
        epoch: 1,
        nodes: vec![Node {
            id: 1,
            name: "a".into(),
            ..Node::default()
        }],
        ..ClusterState::default()
    }
}

pub(super) fn make(state: &mut ClusterState, body: DrillBody, now_ms: u64) -> Result<u64, String> {
    let before = state.clone();
    let change = Change::from(ChangeBody::Drill(DrillChange { body: Some(body) }));
    match decide_at(state, &change, now_ms).answer {
        Some(Answer::Meta(Changed { node_id, .. })) => {
            let changed = before != *state;
            assert_eq!(state.epoch, before.epoch + u64::from(changed));
            Ok(node_id)
        }
        Some(Answer::Refused(refusal)) => {
            assert_eq!(*state, before, "a refused change has no effect");
            Err(refusal.message)
        }
        answer => panic!("{answer:?}"),
    }
}

#[track_caller]
fn refuses(state: &mut ClusterState, body: DrillBody, now_ms: u64, says: &str) {
    let why = make(state, body, now_ms).unwrap_err();
    assert!(why.contains(says), "{why}");
}

fn digest(file: &str) -> Bytes {
    Bytes::copy_from_slice(blake3::hash(file.as_bytes()).as_bytes())
}

pub(super) fn store(id: &str) -> DrillBody {
    DrillBody::Store(Store {
        id: id.into(),
        plan: format!("plan of {id}"),
        scenario: "dc-silent".into(),
        target: "seoul".into(),
        who: "ann".into(),
        ..Store::default()
    })
}

pub(super) fn approve(id: &str, who: &str) -> DrillBody {
    DrillBody::Approve(Approve {
        id: id.into(),
        who: who.into(),
        digest: digest(&format!("plan of {id}")),
    })
}

pub(super) fn begin(id: &str, who: &str) -> DrillBody {
    DrillBody::Begin(Begin {
        id: id.into(),
        who: who.into(),
        plan_digest: digest(&format!("plan of {id}")),
    })
}

pub(super) fn beat(id: &str, number: u64, note: &str) -> DrillBody {
    DrillBody::Beat(Beat {
        id: id.into(),
        number,
        note: note.into(),
    })
}

pub(super) fn conclude(id: &str, number: u64, end: End) -> DrillBody {
    DrillBody::Conclude(Conclude {
        id: id.into(),
        number,
        end: end as i32,
        why: "so it is".into(),
        summary: "{}".into(),
    })
}

pub(super) fn claim(id: &str, who: &str) -> DrillBody {
    DrillBody::Claim(Claim {
        id: id.into(),
        who: who.into(),
    })
}

pub(super) fn abort(id: &str) -> DrillBody {
    DrillBody::Abort(Abort {
        id: id.into(),
        who: "bob".into(),
        why: "enough".into(),
    })
}

/// A cluster in which a drill runs since 1,000, by the controller of the number 1.
fn running() -> ClusterState {
    let mut state = cluster();
    for body in [store("d"), approve("d", "ann"), approve("d", "bob")] {
        make(&mut state, body, 1_000).unwrap();
    }
    assert_eq!(make(&mut state, begin("d", "c1"), 1_000), Ok(1));
    state
}

fn drill(state: &ClusterState) -> &Drill {
    state.drills.as_ref().and_then(|all| all.get("d")).unwrap()
}

#[test]
fn a_drill_goes_its_way_and_every_step_may_be_repeated() {
    let mut state = cluster();
    for body in [store("d"), store("d"), approve("d", "ann")] {
        make(&mut state, body, 10).unwrap();
    }
    assert!(drill(&state).is(State::Planned));
    make(&mut state, approve("d", "bob"), 10).unwrap();
    assert!(drill(&state).is(State::Approved));
    assert_eq!(make(&mut state, begin("d", "c1"), 20), Ok(1));
    assert_eq!(make(&mut state, begin("d", "c1"), 21), Ok(1));
    make(&mut state, beat("d", 1, "silence begins"), 30).unwrap();
    make(&mut state, beat("d", 1, "silence begins"), 31).unwrap();
    assert_eq!(drill(&state).notes.len(), 1);
    make(&mut state, conclude("d", 1, End::Passed), 40).unwrap();
    make(&mut state, conclude("d", 1, End::Missed), 41).unwrap();
    let ended = drill(&state);
    assert_eq!(
        (ended.end(), ended.ended_ms, ended.plan.as_str()),
        (End::Passed, 40, "")
    );
    refuses(&mut state, begin("d", "c2"), 50, "has ended: so it is");
    refuses(&mut state, approve("d", "cat"), 50, "has ended already");
}

#[test]
fn two_operators_read_the_same_plan_for_the_same_map_within_a_day() {
    let mut state = cluster();
    refuses(&mut state, approve("d", "ann"), 10, "no drill d");
    make(&mut state, store("d"), 10).unwrap();
    make(&mut state, approve("d", "ann"), 10).unwrap();
    refuses(&mut state, approve("d", "ann"), 11, "another operator's");
    refuses(&mut state, approve("d", "a\nb"), 11, "control");
    refuses(
        &mut state,
        begin("d", "c1"),
        12,
        "needs 2 approvals and has 1",
    );
    let other = DrillBody::Approve(Approve {
        id: "d".into(),
        who: "bob".into(),
        digest: digest("another plan"),
    });
    refuses(&mut state, other, 12, "that bob has read");
    make(&mut state, approve("d", "bob"), 10 + DAY / 2).unwrap();
    refuses(
        &mut state,
        begin("d", "c1"),
        10 + DAY,
        "has 1 (1 more than a day old)",
    );
    make(&mut state, approve("d", "ann"), 10 + DAY).unwrap();
    let mut moved = state.clone();
    moved.draining.push(1);
    refuses(&mut moved, begin("d", "c1"), 10 + DAY, "map has changed");
    refuses(&mut moved, approve("d", "cat"), 10 + DAY, "map has changed");
    // Another address is no other map.
    state.nodes[0].address = "elsewhere:1".into();
    assert_eq!(make(&mut state, begin("d", "c1"), 10 + DAY), Ok(1));
}

#[test]
fn one_operator_is_enough_where_the_cluster_says_so() {
    let mut state = cluster();
    let operators = |needed| DrillBody::Operators(Operators { needed });
    refuses(&mut state, operators(0), 10, "1 or 2");
    refuses(&mut state, operators(3), 10, "1 or 2");
    make(&mut state, operators(1), 10).unwrap();
    make(&mut state, store("d"), 10).unwrap();
    make(&mut state, approve("d", "ann"), 10).unwrap();
    make(&mut state, operators(2), 10).unwrap();
    refuses(&mut state, begin("d", "c1"), 10, "needs 2 approvals");
    make(&mut state, operators(1), 10).unwrap();
    assert_eq!(make(&mut state, begin("d", "c1"), 10), Ok(1));
}

#[test]
fn one_drill_runs_at_a_time() {
    let mut state = running();
    for body in [store("e"), approve("e", "ann"), approve("e", "bob")] {
        make(&mut state, body, 1_000).unwrap();
    }
    refuses(&mut state, begin("e", "c1"), 1_001, "d runs already, by c1");
    refuses(&mut state, begin("d", "c2"), 1_001, "d runs already, by c1");
    make(&mut state, abort("d"), 1_002).unwrap();
    assert_eq!(make(&mut state, begin("e", "c2"), 1_003), Ok(2));
    refuses(&mut state, beat("d", 1, ""), 1_004, "ended by bob: enough");
}

#[test]
fn who_takes_over_gets_the_next_number_and_the_earlier_controllers_writes_are_refused() {
    let mut state = running();
    make(&mut state, beat("d", 1, ""), 5_000).unwrap();
    refuses(&mut state, claim("d", "c2"), 5_001, "was heard 1 ms ago");
    assert_eq!(
        make(&mut state, claim("d", "c2"), 5_000 + TAKEOVER_MS),
        Ok(2)
    );
    assert_eq!(
        make(&mut state, claim("d", "c2"), 5_001 + TAKEOVER_MS),
        Ok(2)
    );
    for late in [beat("d", 1, "late"), conclude("d", 1, End::Passed)] {
        refuses(
            &mut state,
            late,
            5_002 + TAKEOVER_MS,
            "was replaced by c2, of number 2",
        );
    }
    make(&mut state, conclude("d", 2, End::Inconclusive), 30_000).unwrap();
    refuses(&mut state, claim("d", "c3"), 90_000, "has ended");
}

#[test]
fn a_drill_whose_controller_is_not_heard_ends_and_history_says_so() {
    let mut state = running();
    let lost = |number| {
        DrillBody::Lost(Lost {
            id: "d".into(),
            number,
        })
    };
    refuses(&mut state, lost(1), 1_000 + LOST_MS - 1, "is heard");
    refuses(
        &mut state,
        lost(2),
        1_000 + LOST_MS,
        "number 2 was replaced",
    );
    make(&mut state, lost(1), 1_000 + LOST_MS).unwrap();
    make(&mut state, lost(1), 1_000 + LOST_MS).unwrap();
    assert_eq!(drill(&state).end(), End::Inconclusive);
    assert!(drill(&state).why.contains("c1 was lost"));
}

#[test]
fn of_a_drill_that_others_ended_its_controller_says_what_came_out_and_no_more() {
    for (said, end) in [(End::Passed, End::Aborted), (End::Broken, End::Broken)] {
        let mut state = running();
        make(&mut state, abort("d"), 2_000).unwrap();
        make(&mut state, abort("d"), 2_001).unwrap();
        make(&mut state, conclude("d", 1, said), 3_000).unwrap();
        let ended = drill(&state);
        assert_eq!((ended.end(), ended.ended_ms), (end, 2_000));
        assert_eq!(ended.summary, "{}");
    }
}

#[test]
fn the_lever_ends_what_runs_and_bars_what_would_begin() {
    let mut state = running();
    let pull = |who: &str| {
        DrillBody::Pull(Pull {
            who: who.into(),
            why: "smoke".into(),
        })
    };
    make(&mut state, pull("bob"), 2_000).unwrap();
    make(&mut state, pull("cat"), 2_001).unwrap();
    assert_eq!(drill(&state).end(), End::Aborted);
    for body in [store("e"), approve("e", "ann"), approve("e", "bob")] {
        make(&mut state, body, 3_000).unwrap();
    }
    refuses(
        &mut state,
        begin("e", "c2"),
        3_000,
        "bob pulled the lever (smoke)",
    );
    let release = DrillBody::Release(Release { who: "bob".into() });
    make(&mut state, release.clone(), 4_000).unwrap();
    make(&mut state, release, 4_000).unwrap();
    assert_eq!(make(&mut state, begin("e", "c2"), 4_000), Ok(2));
}

#[test]
fn no_drill_begins_within_a_blocked_window() {
    let mut state = cluster();
    let window = |from_ms, to_ms, every_ms| {
        DrillBody::Block(Window {
            name: "sale".into(),
            from_ms,
            to_ms,
            every_ms,
            why: "the great sale".into(),
        })
    };
    refuses(&mut state, window(10, 10, 0), 1, "ends after it begins");
    refuses(&mut state, window(10, 20, 10), 1, "only after it has ended");
    make(&mut state, window(1_000, 2_000, 10_000), 1).unwrap();
    for body in [store("d"), approve("d", "ann"), approve("d", "bob")] {
        make(&mut state, body, 1).unwrap();
    }
    for blocked in [1_000, 1_999, 11_000, 91_500] {
        refuses(
            &mut state,
            begin("d", "c"),
            blocked,
            "sale (the great sale)",
        );
    }
    for free in [999, 2_000, 10_999, 92_000] {
        assert_eq!(make(&mut state.clone(), begin("d", "c"), free), Ok(1));
    }
    let unblock = DrillBody::Unblock(Named {
        name: "sale".into(),
    });
    make(&mut state, unblock.clone(), 1_000).unwrap();
    refuses(&mut state, unblock, 1_000, "no blocked window sale");
    assert_eq!(make(&mut state, begin("d", "c"), 1_000), Ok(1));
}

#[test]
fn what_stands_approved_begins_when_it_is_due_and_not_before() {
    let mut state = cluster();
    let stand = DrillBody::Stand(Stand {
        name: "weekly".into(),
        recipe: "recipe".into(),
        first_ms: 100,
        every_ms: 1_000,
        until_ms: 5_000,
    });
    make(&mut state, stand.clone(), 1).unwrap();
    let planned = |recipe: &str| {
        let DrillBody::Store(plain) = store("d") else {
            unreachable!("it stores");
        };
        DrillBody::Store(Store {
            standing: "weekly".into(),
            recipe_digest: digest(recipe),
            ..plain
        })
    };
    refuses(
        &mut state,
        planned("another"),
        100,
        "not that of the standing drill weekly",
    );
    make(&mut state, planned("recipe"), 99).unwrap();
    let approves = |who: &str| {
        DrillBody::ApproveStanding(Approve {
            id: "weekly".into(),
            who: who.into(),
            digest: digest("recipe"),
        })
    };
    make(&mut state, approves("ann"), 99).unwrap();
    refuses(&mut state, approves("ann"), 99, "another operator's");
    refuses(
        &mut state,
        begin("d", "c"),
        100,
        "needs 2 approvals and has 1",
    );
    make(&mut state, approves("bob"), 99).unwrap();
    make(&mut state, stand, 99).unwrap();
    refuses(&mut state, begin("d", "c"), 99, "not due yet");
    refuses(&mut state, begin("d", "c"), 5_000, "hold no longer");
    assert_eq!(make(&mut state, begin("d", "c"), 2_150), Ok(1));
    let standing = &state.drills.as_ref().unwrap().standing[0];
    assert_eq!((standing.next_ms, standing.last_ms), (3_100, 2_150));
}

#[test]
fn proofs_keep_when_each_promise_was_last_shown() {
    let mut state = cluster();
    let prove = |promise: &str, held, limit_ms| {
        DrillBody::Prove(Prove {
            promise: promise.into(),
            held,
            by: "verify".into(),
            evidence: "9 replicas".into(),
            limit_ms,
        })
    };
    refuses(
        &mut state,
        prove("X", Some(true), None),
        10,
        "D O E L S U H G P A",
    );
    make(&mut state, prove("H", Some(true), None), 10).unwrap();
    make(&mut state, prove("D", None, Some(5)), 11).unwrap();
    make(&mut state, prove("H", Some(false), None), 12).unwrap();
    let proofs = &state.drills.as_ref().unwrap().proofs;
    let told: Vec<_> = proofs
        .iter()
        .map(|one| {
            (
                one.promise.as_str(),
                one.shown_ms,
                one.broken_ms,
                one.limit_ms,
            )
        })
        .collect();
    assert_eq!(told, [("D", 0, 0, 5), ("H", 10, 12, 0)]);
    assert!(limit_ms("H") < limit_ms("D"));
}

#[test]
fn the_first_seed_stays() {
    let mut state = cluster();
    let seed = |byte, len| {
        DrillBody::Seed(Seed {
            seed: vec![byte; len].into(),
        })
    };
    refuses(&mut state, seed(1, 31), 1, "32 bytes");
    make(&mut state, seed(1, 32), 1).unwrap();
    make(&mut state, seed(2, 32), 2).unwrap();
    assert_eq!(state.drills.as_ref().unwrap().signing_seed, vec![1; 32]);
}

#[test]
fn history_notes_and_texts_have_bounds() {
    let mut state = cluster();
    for at in 0..OPEN_MAX {
        make(&mut state, store(&format!("open-{at}")), 1).unwrap();
    }
    refuses(&mut state, store("more"), 1, "20 drills are planned");
    for at in 0..OPEN_MAX {
        make(&mut state, abort(&format!("open-{at}")), 1).unwrap();
    }
    for at in 0..HISTORY_MAX {
        make(&mut state, store(&format!("d-{at}")), 1).unwrap();
        make(&mut state, abort(&format!("d-{at}")), 1).unwrap();
    }
    let all = &state.drills.as_ref().unwrap().drills;
    assert_eq!((all.len(), all[0].id.as_str()), (HISTORY_MAX, "d-0"));
    let mut state = running();
    for at in 0..NOTES_MAX + 5 {
        make(&mut state, beat("d", 1, &at.to_string()), 1_000).unwrap();
    }
    let notes = &drill(&state).notes;
    assert_eq!(
        (notes.len(), notes[NOTES_MAX - 1].text.as_str()),
        (NOTES_MAX, "104")
    );
    let long = "x".repeat(TEXT_BYTES_MAX + 1);
    refuses(&mut state, beat("d", 1, &long), 1_000, "at most 1000 bytes");
}
