use bytes::Bytes;

use super::*;
use crate::cluster::{Shard, decide_at};
use crate::command::{Answer, Reason};
use crate::limits::DEDUP_WINDOW_MS;

const NOW_MS: u64 = 1_000_000;

fn cluster() -> ClusterState {
    let shard = |id| Shard {
        id,
        ..Shard::default()
    };
    ClusterState {
        epoch: 5,
        shards: vec![shard(1), shard(2), shard(3)],
        ..ClusterState::default()
    }
}

fn tenant(id: &str) -> Tenant {
    Tenant {
        id: id.to_owned(),
        display_name: format!("the {id}"),
        ..Tenant::default()
    }
}

/// The tenant that a change answers, and whether it was made before; else why it is refused.
fn ask(
    state: &mut ClusterState,
    request_id: &str,
    body: TenantBody,
    now_ms: u64,
) -> Result<(Tenant, bool), Reason> {
    let change = TenantChange {
        request_id: Bytes::from(request_id.to_owned()),
        body: Some(body),
    };
    match decide_at(state, &change.into_change(), now_ms).answer {
        Some(Answer::Meta(changed)) => Ok((
            changed.tenant.map(|tenant| *tenant).unwrap_or_default(),
            changed.deduplicated,
        )),
        Some(Answer::Refused(refusal)) => Err(refusal.reason()),
        other => panic!("{other:?}"),
    }
}

fn create(state: &mut ClusterState, request_id: &str, id: &str) -> Result<(Tenant, bool), Reason> {
    ask(state, request_id, TenantBody::Create(tenant(id)), NOW_MS)
}

fn set(
    state: &mut ClusterState,
    request_id: &str,
    wanted: Tenant,
    paths: &[&str],
) -> Result<(Tenant, bool), Reason> {
    let update = Update {
        tenant: Some(wanted),
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        expected_revision: None,
    };
    ask(state, request_id, TenantBody::Update(update), NOW_MS)
}

fn delete(state: &mut ClusterState, request_id: &str, id: &str) -> Result<(Tenant, bool), Reason> {
    let delete = Delete {
        id: id.to_owned(),
        ..Delete::default()
    };
    ask(state, request_id, TenantBody::Delete(delete), NOW_MS)
}

fn swept(state: &mut ClusterState, epoch: u64, shards: &[u32]) -> (Tenant, bool) {
    let swept = Swept {
        id: "acme".into(),
        epoch,
        shards: shards.to_vec(),
        removed: 10,
    };
    ask(state, "", TenantBody::Swept(swept), NOW_MS).unwrap()
}

#[test]
fn a_tenant_is_created_once_and_a_retry_gets_the_first_answer() {
    let mut state = cluster();
    let (first, repeated) = create(&mut state, "r1", "acme").unwrap();
    assert_eq!((repeated, first.revision, state.epoch), (false, 6, 6));
    assert_eq!((first.create_ms, first.update_ms), (NOW_MS, NOW_MS));
    assert_eq!(state.tenant("acme"), Some(&first));
    assert_eq!(create(&mut state, "r1", "acme"), Ok((first.clone(), true)));
    assert_eq!(
        create(&mut state, "r1", "other"),
        Err(Reason::RequestIdReused)
    );
    assert_eq!(create(&mut state, "r2", "acme"), Err(Reason::TenantExists));
    // What is answered again is the first answer, whatever has changed since.
    let wanted = Tenant {
        ttl_ms: 5_000,
        ..tenant("acme")
    };
    set(&mut state, "r3", wanted, &["ttl"]).unwrap();
    assert_eq!(create(&mut state, "r1", "acme"), Ok((first, true)));
    assert_eq!(state.epoch, 7);
    // An id is forgotten in time.
    let late = NOW_MS + DEDUP_WINDOW_MS + 1;
    let again = ask(&mut state, "r1", TenantBody::Create(tenant("acme")), late);
    assert_eq!(again, Err(Reason::TenantExists));
    let other = ask(&mut state, "r1", TenantBody::Create(tenant("b")), late);
    assert!(!other.unwrap().1);
    assert_eq!(state.tenants.as_ref().unwrap().asked.len(), 1);
}

#[test]
fn only_what_is_named_is_set() {
    let mut state = cluster();
    create(&mut state, "r1", "acme").unwrap();
    let wanted = Tenant {
        id: "acme".into(),
        quotas: Some(Quotas {
            messages_per_s: 10,
            bytes_per_s: 20,
            ..Quotas::default()
        }),
        ttl_ms: 9,
        min_clients: vec![
            MinClient {
                client: "rust".into(),
                version: "1".into(),
            },
            MinClient {
                client: "node".into(),
                version: "0.2".into(),
            },
        ],
        upgrade_url: "https://new".into(),
        ..Tenant::default()
    };
    let one = ["quotas.messages_per_second"];
    let (now, _) = set(&mut state, "r2", wanted.clone(), &one).unwrap();
    assert_eq!(now.display_name, "the acme");
    assert_eq!(
        (now.limits().messages_per_s, now.limits().bytes_per_s),
        (10, 0)
    );
    let rest = ["quotas", "ttl", "min_client_versions", "upgrade_url"];
    let (now, _) = set(&mut state, "r3", wanted, &rest).unwrap();
    assert_eq!((now.limits().bytes_per_s, now.ttl_ms), (20, 9));
    assert_eq!(now.min_clients[0].client, "node", "sorted");
    assert_eq!(now.upgrade_url, "https://new");
    assert_eq!(state.tenant_ttl_ms("acme"), 9);
    assert_eq!(state.tenant_ttl_ms("other"), 0);
    let none = ["quotas"];
    let (now, _) = set(&mut state, "r4", tenant("acme"), &none).unwrap();
    assert_eq!(now.quotas, None);
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let mut state = cluster();
    create(&mut state, "r1", "acme").unwrap();
    let before = state.clone();
    let with = |change: fn(&mut Tenant)| {
        let mut wanted = tenant("b");
        change(&mut wanted);
        wanted
    };
    let client = |client: &str, version: &str| MinClient {
        client: client.into(),
        version: version.into(),
    };
    let mut wrong = vec![
        with(|one| one.id = "a b".into()),
        with(|one| one.id = "firebreak-own".into()),
        with(|one| one.display_name = "\u{202e}x".into()),
        with(|one| one.upgrade_url = "x".repeat(TEXT_BYTES_MAX + 1)),
        with(|one| one.ttl_ms = u64::MAX),
        with(|one| one.quotas.get_or_insert_default().bytes_per_s = u64::MAX),
    ];
    for clients in [
        vec![client("Rust", "1")],
        vec![client("", "1")],
        vec![client("rust", "one")],
        vec![client("rust", "1"), client("rust", "2")],
        vec![client("rust", "1"); CLIENTS_MAX + 1],
    ] {
        wrong.push(Tenant {
            min_clients: clients,
            ..tenant("b")
        });
    }
    for (at, wanted) in wrong.into_iter().enumerate() {
        let body = TenantBody::Create(wanted);
        let refused = ask(&mut state, &format!("w{at}"), body, NOW_MS);
        assert_eq!(refused, Err(Reason::Invalid), "{at}");
    }
    assert_eq!(create(&mut state, "", "b"), Err(Reason::Invalid));
    assert_eq!(
        create(&mut state, &"x".repeat(129), "b"),
        Err(Reason::Invalid)
    );
    assert_eq!(
        set(&mut state, "u", tenant("b"), &["ttl"]),
        Err(Reason::TenantUnknown)
    );
    assert_eq!(
        set(&mut state, "u", tenant("acme"), &[]),
        Err(Reason::Invalid)
    );
    assert_eq!(
        set(&mut state, "u", tenant("acme"), &["name"]),
        Err(Reason::Invalid)
    );
    assert_eq!(delete(&mut state, "d", "b"), Err(Reason::TenantUnknown));
    let late = Update {
        tenant: Some(tenant("acme")),
        paths: vec!["ttl".into()],
        expected_revision: Some(3),
    };
    let refused = ask(&mut state, "u", TenantBody::Update(late), NOW_MS);
    assert_eq!(refused, Err(Reason::RevisionMismatch));
    assert_eq!(state, before);
    let mut unfounded = ClusterState::default();
    assert!(create(&mut unfounded, "r", "acme").is_err());
}

#[test]
fn a_tenant_that_is_deleted_keeps_its_name_until_every_shard_is_swept() {
    let mut state = cluster();
    create(&mut state, "r1", "acme").unwrap();
    let (going, _) = delete(&mut state, "r2", "acme").unwrap();
    let epoch = going.removal.clone().unwrap().epoch;
    assert_eq!(epoch, state.epoch);
    assert_eq!(delete(&mut state, "r2", "acme"), Ok((going.clone(), true)));
    assert!(!delete(&mut state, "r3", "acme").unwrap().1);
    assert_eq!(
        create(&mut state, "r4", "acme"),
        Err(Reason::TenantDeleting)
    );
    assert_eq!(
        set(&mut state, "r5", tenant("acme"), &["ttl"]),
        Err(Reason::TenantDeleting)
    );
    swept(&mut state, epoch, &[2, 2, 77]);
    let removal = state.tenant("acme").unwrap().removal.clone().unwrap();
    assert_eq!((removal.swept, removal.removed), (vec![2], 10));
    // What is told of another removal does not count.
    swept(&mut state, epoch + 1, &[1, 3]);
    assert!(state.tenant("acme").unwrap().is_deleting());
    swept(&mut state, epoch, &[1]);
    swept(&mut state, epoch, &[3, 1]);
    assert_eq!(state.tenant("acme"), None);
    let before = state.clone();
    swept(&mut state, epoch, &[3]);
    assert_eq!(state, before, "told again it changes nothing");
    let (again, _) = create(&mut state, "r6", "acme").unwrap();
    swept(&mut state, epoch, &[1, 2, 3]);
    assert_eq!(state.tenant("acme"), Some(&again));
    // The first removal is answered as it was.
    assert_eq!(delete(&mut state, "r2", "acme"), Ok((going, true)));
    assert!(!state.tenant("acme").unwrap().is_deleting());
}

#[test]
fn what_was_never_created_can_be_removed_where_that_is_asked_for() {
    let mut state = cluster();
    let missing = Delete {
        id: "demo".into(),
        allow_missing: true,
        ..Delete::default()
    };
    let (going, _) = ask(&mut state, "r", TenantBody::Delete(missing), NOW_MS).unwrap();
    assert!(going.is_deleting());
    assert_eq!(state.tenants.as_ref().unwrap().deleting().count(), 1);
}

#[test]
fn tenants_and_their_changes_are_bounded() {
    let mut state = cluster();
    for n in 0..TENANTS_MAX {
        create(&mut state, &format!("r{n}"), &format!("t{n}")).unwrap();
    }
    assert_eq!(create(&mut state, "more", "more"), Err(Reason::TenantsFull));
    for n in TENANTS_MAX..ASKED_MAX {
        set(&mut state, &format!("r{n}"), tenant("t1"), &["ttl"]).unwrap();
    }
    assert_eq!(
        set(&mut state, "more", tenant("t1"), &["ttl"]),
        Err(Reason::TenantsFull)
    );
    assert!(
        create(&mut state, "r0", "t0").unwrap().1,
        "it is still known"
    );
}
