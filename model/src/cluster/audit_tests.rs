use proptest::prelude::*;

use super::*;
use crate::cluster::{Named, SetDraining, decide_at};

fn state() -> ClusterState {
    ClusterState {
        epoch: 5,
        ..ClusterState::default()
    }
}

fn actor() -> Option<Actor> {
    Some(Actor {
        who: "0a0a0a0a0a0a (ann)".into(),
        role: "operator".into(),
        from: "10.0.0.7".into(),
    })
}

/// Makes a change as the machine does.
fn apply(state: &mut ClusterState, change: &Change, now_ms: u64) -> Added {
    let before = state.epoch;
    let reply = decide_at(state, change, now_ms);
    record(state, change, (before, &reply), now_ms)
}

fn draining(dc: &str, actor: Option<Actor>) -> Change {
    Change {
        body: Some(ChangeBody::Draining(SetDraining {
            dc: dc.into(),
            draining: true,
            ..SetDraining::default()
        })),
        actor,
    }
}

fn notes(count: usize) -> Change {
    let note = Note {
        actor: actor(),
        what: "call".into(),
        outcome: "ROLE_MISSING".into(),
        ..Note::default()
    };
    Change {
        body: Some(ChangeBody::Notes(Notes {
            notes: vec![note; count],
            node: 3,
        })),
        actor: None,
    }
}

#[test]
fn an_act_is_told_whatever_becomes_of_it_and_what_nobody_asked_for_is_not() {
    let mut state = state();
    assert_eq!(
        apply(&mut state, &draining("seoul", None), 7),
        Added::default()
    );
    assert_eq!(state.trail, None);
    let added = apply(&mut state, &draining("seoul", actor()), 7);
    let [(1, encoded)] = &added.records[..] else {
        panic!("{added:?}");
    };
    let told = Record::decode(&encoded[..]).unwrap();
    assert_eq!(
        (told.what.as_str(), told.target.as_str()),
        ("drain", "dc seoul")
    );
    assert!(told.outcome.starts_with("refused: "), "{}", told.outcome);
    assert_eq!((told.time_ms, told.who.as_str()), (7, "0a0a0a0a0a0a (ann)"));
    let trail = state.trail.clone().unwrap();
    assert_eq!(trail.head, hash_of(encoded));
    assert_eq!(state.epoch, 5, "the map did not change");
}

#[test]
fn notes_become_records_and_too_many_of_them_none() {
    let mut state = state();
    let added = apply(&mut state, &notes(2), 9);
    assert_eq!(added.records.len(), 2);
    let told = Record::decode(&added.records[1].1[..]).unwrap();
    assert_eq!((told.number, told.node, told.count), (2, 3, 1));
    assert!(
        apply(&mut state, &notes(AUDIT_NOTES_MAX + 1), 9)
            .records
            .is_empty()
    );
    assert!(apply(&mut state, &notes(0), 9).records.is_empty());
}

#[test]
fn a_token_and_a_hash_never_stand_in_a_record() {
    let token = ChangeBody::JoinToken(crate::cluster::JoinToken {
        token: "fb-secret".into(),
        expires_ms: 0,
    });
    let (_, target) = described(&token).unwrap();
    assert!(!target.contains("secret"));
}

#[test]
fn a_chain_is_followed_and_whatever_was_changed_in_it_is_found() {
    let mut state = state();
    let mut records = Vec::new();
    for at in 0..5 {
        records.extend(apply(&mut state, &notes(1), at).records);
    }
    let trail = state.trail.clone().unwrap();
    let verify = |records: &[(u64, Vec<u8>)]| {
        let mut verifier = Verifier::default();
        for (_, encoded) in records {
            verifier.take(encoded)?;
        }
        verifier.end(&trail)
    };
    assert_eq!(verify(&records), Ok(5));
    assert_eq!(
        verify(&records[2..]),
        Ok(3),
        "what is dropped is not missed"
    );
    assert!(verify(&records[..4]).is_err(), "the end was cut off");
    let mut without = records.clone();
    without.remove(2);
    assert!(verify(&without).is_err());
    for place in 0..5 {
        let mut forged = records.clone();
        let mut record = Record::decode(&forged[place].1[..]).unwrap();
        record.who = "nobody".into();
        forged[place].1 = record.encode_to_vec();
        assert!(verify(&forged).is_err(), "record {place}");
    }
}

#[test]
fn old_days_are_dropped_and_their_records_with_them() {
    let mut state = state();
    for day in 0..AUDIT_DAYS_MAX + 1 {
        let added = apply(&mut state, &notes(2), day * DAY_MS);
        assert_eq!(added.dropped, None, "day {day}");
    }
    let added = apply(&mut state, &notes(1), (AUDIT_DAYS_MAX + 1) * DAY_MS);
    assert_eq!(added.dropped, Some((1, 2)));
    let trail = state.trail.clone().unwrap();
    assert_eq!(trail.first, 3);
    assert!(trail.days.len() as u64 <= AUDIT_DAYS_MAX + 1);
    let added = apply(&mut state, &notes(1), 10 * AUDIT_DAYS_MAX * DAY_MS);
    assert_eq!(added.dropped, Some((3, trail.last)));
}

#[test]
fn there_are_never_more_records_than_may_be() {
    let mut state = state();
    apply(&mut state, &notes(1), 0);
    state.trail.as_mut().unwrap().last = AUDIT_RECORDS_MAX - 1;
    assert_eq!(apply(&mut state, &notes(1), 0).dropped, None);
    assert_eq!(apply(&mut state, &notes(1), 0).dropped, Some((1, 1)));
    assert_eq!(apply(&mut state, &notes(3), 0).dropped, Some((2, 4)));
}

proptest! {
    #[test]
    fn a_record_reads_back(who in ".{0,40}", target in ".{0,600}", count in any::<u64>()) {
        let mut state = state();
        let revoke = Change {
            body: Some(ChangeBody::RevokeKey(Named { name: target })),
            actor: Some(Actor { who, ..Actor::default() }),
        };
        let added = apply(&mut state, &revoke, count);
        let told = Record::decode(&added.records[0].1[..]).unwrap();
        prop_assert!(told.target.len() <= AUDIT_TEXT_BYTES_MAX);
        prop_assert_eq!(told.time_ms, count);
    }
}
