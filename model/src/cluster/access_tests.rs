use super::*;
use crate::command::Refusal;

const NOW_MS: u64 = 1_000;

fn state() -> ClusterState {
    ClusterState {
        epoch: 5,
        ..ClusterState::default()
    }
}

fn key(id: u64) -> Key {
    let id = format!("{id:012x}");
    Key {
        hash: key_hash("c1", &id),
        id,
        label: "backend".into(),
        tenant: "kakao".into(),
        roles: vec![Role::Writer as i32],
        ..Key::default()
    }
}

fn issuer() -> Issuer {
    Issuer {
        name: "https://login.example".into(),
        audience: "chat".into(),
        keys: vec![IssuerKey {
            kid: "k1".into(),
            key: "pem".into(),
        }],
        roles: vec![Role::Reader as i32, Role::Writer as i32],
        ..Issuer::default()
    }
}

#[track_caller]
fn refuses(given: Result<u64, Refusal>, says: &str) {
    let refusal = given.expect_err("it is refused");
    assert!(refusal.message.contains(says), "{}", refusal.message);
}

#[test]
fn a_key_is_taken_in_once_and_revoked_for_good() {
    let mut state = state();
    let one = key(1);
    create(&mut state, &one, NOW_MS).unwrap();
    create(&mut state, &one, NOW_MS + 1).unwrap();
    assert_eq!(state.epoch, 6);
    let other = Key {
        hash: key_hash("c1", "other"),
        ..one.clone()
    };
    refuses(create(&mut state, &other, NOW_MS), "already");
    revoke(&mut state, &one.id, NOW_MS + 5).unwrap();
    revoke(&mut state, &one.id, NOW_MS + 9).unwrap();
    assert_eq!(state.epoch, 7);
    let held = state.access.as_ref().unwrap().key(&one.id).unwrap();
    assert_eq!((held.created_ms, held.revoked_ms), (NOW_MS, NOW_MS + 5));
    refuses(revoke(&mut state, "ffffffffffff", NOW_MS), "no key");
}

#[test]
fn keys_that_say_too_little_or_too_much_are_refused() {
    let mut state = state();
    let mut check = |change: &dyn Fn(&mut Key), says: &str| {
        let mut wrong = key(1);
        change(&mut wrong);
        refuses(create(&mut state, &wrong, NOW_MS), says);
    };
    check(&|key| key.id = "x".into(), "hexadecimal");
    check(&|key| key.hash = Bytes::new(), "hash");
    check(&|key| key.label = String::new(), "label");
    check(&|key| key.tenant = "a/b".into(), "tenant");
    check(&|key| key.roles.clear(), "at least one role");
    check(&|key| key.roles = vec![2, 1], "sorted");
    check(&|key| key.roles = vec![0], "no role");
    check(&|key| key.roles = vec![77], "no role");
    check(
        &|key| key.roles = vec![Role::Operator as i32],
        "without a tenant",
    );
    check(&|key| key.expires_ms = NOW_MS, "expired");
    assert!(state.access.is_none_or(|access| access.keys.is_empty()));
}

#[test]
fn dead_keys_make_room_and_living_ones_do_not() {
    let mut state = state();
    for id in 0..API_KEYS_MAX as u64 {
        create(&mut state, &key(id), NOW_MS + id).unwrap();
    }
    refuses(create(&mut state, &key(999_999), NOW_MS), "revoke some");
    let second = key(1).id;
    revoke(&mut state, &second, NOW_MS).unwrap();
    create(&mut state, &key(999_999), NOW_MS).unwrap();
    let access = state.access.unwrap();
    assert_eq!(access.keys.len(), API_KEYS_MAX);
    assert!(access.key(&second).is_none());
}

#[test]
fn an_issuer_is_replaced_by_name_and_removed() {
    let mut state = state();
    believe(&mut state, &issuer()).unwrap();
    believe(&mut state, &issuer()).unwrap();
    assert_eq!(state.epoch, 6);
    let mut rotated = issuer();
    rotated.keys.push(IssuerKey {
        kid: "k2".into(),
        key: "pem".into(),
    });
    believe(&mut state, &rotated).unwrap();
    assert_eq!(state.epoch, 7);
    let access = state.access.as_ref().unwrap();
    assert_eq!(access.issuer(&rotated.name), Some(&rotated));
    rotated.keys[1].kid = "k1".into();
    refuses(believe(&mut state, &rotated), "kid");
    disbelieve(&mut state, &issuer().name).unwrap();
    disbelieve(&mut state, &issuer().name).unwrap();
    assert_eq!(state.epoch, 8);
}

#[test]
fn a_key_is_known_by_its_form_and_its_hash_is_the_clusters_own() {
    let text = format!("fbk_{}_{}", "0a".repeat(6), "1b".repeat(32));
    assert_eq!(key_id(&text), Some("0a0a0a0a0a0a"));
    for wrong in [
        "",
        "fbk_",
        "fbk_0a_1b",
        &text[..text.len() - 1],
        &format!("{text}0"),
        &text.to_uppercase(),
    ] {
        assert_eq!(key_id(wrong), None, "{wrong}");
    }
    assert!(same_hash(&key_hash("c1", &text), &key_hash("c1", &text)));
    assert!(!same_hash(&key_hash("c1", &text), &key_hash("c2", &text)));
    assert!(!same_hash(&key_hash("c1", &text), b""));
}

#[test]
fn a_role_includes_those_below_it_and_no_other() {
    for (has, may) in [
        (Role::Reader, vec![Role::Reader]),
        (Role::Writer, vec![Role::Reader, Role::Writer]),
        (
            Role::TenantAdmin,
            vec![Role::Reader, Role::Writer, Role::TenantAdmin],
        ),
        (Role::Viewer, vec![Role::Viewer]),
        (Role::Operator, vec![Role::Viewer, Role::Operator]),
        (Role::DrillApprover, vec![Role::Viewer, Role::DrillApprover]),
    ] {
        for needed in Role::ALL {
            assert_eq!(
                has.includes(needed),
                may.contains(&needed),
                "{has:?} {needed:?}"
            );
        }
        assert_eq!(Role::parse(has.name()), Some(has));
    }
}
