//! Every persisted and wire record of this crate, as the first version wrote it. These files are
//! never changed: what was once written must be read for ever.
//!
//! A new record gets a new file: `GOLDEN_WRITE=1 cargo test --release -p firebreak-model --test
//! golden` writes those that are missing, and only those.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it cannot go on"
)]

mod support;

use std::path::Path;

use bytes::Bytes;
use firebreak_model as model;
use model::cluster::drills::{self, Drill, DrillBody, DrillChange, Drills};
use model::cluster::tokens::{NewToken, Token};
use model::cluster::{
    Announce, Change, ChangeBody, Changed, ClusterState, ForgetBoot, Join, JoinToken, Layout,
    Leave, Locality, MetaReplicas, Move, MoveStep, Named, Node, Pardon, Policies, Policy, Relocate,
    SetDraining, SetPolicy, Shard, ShardPolicy, Survive,
};
use model::cluster::{access, audit};
use model::command::{
    Answer, Append, AppendWith, Appended, Attribute, Attributes, ChangeMessage, Command, Create,
    Created, Due, Edit, Entry, Expire, Expired, Fence, Govern, How, MessageChanged, NewMessage,
    Outcome, React, Reason, Redact, Refusal, Reply,
};
use model::shard::{Machine, Scope};
use model::state::{self, Conversation, Dedup, Made, Reaction, ReactionCount, Reactions, Stored};
use prost::Message;

fn hashed() -> Token {
    Token {
        hash: Bytes::from_static(&[10; 32]),
        label: "rack 7".into(),
        created_ms: 1_700_000_000_000,
        expires_ms: 300,
        node: "busan-2".into(),
        host: "10.0.0.7".into(),
    }
}

fn token() -> JoinToken {
    JoinToken {
        token: "fb-secret".into(),
        expires_ms: 300,
    }
}

/// Checks that the record reads as `value` and is written as it was.
#[track_caller]
fn check<M: Message + Default + PartialEq + std::fmt::Debug>(name: &str, value: &M) {
    let bytes = golden(name, &value.encode_to_vec());
    assert_eq!(
        &M::decode(bytes.clone()).unwrap(),
        value,
        "{name} reads differently"
    );
    assert_eq!(
        value.encode_to_vec(),
        bytes,
        "{name} is written differently"
    );
}

#[track_caller]
fn golden(name: &str, written: &[u8]) -> Bytes {
    let directory = Path::new("tests/golden");
    let path = directory.join(format!("{name}.hex"));
    if !path.exists() && std::env::var_os("GOLDEN_WRITE").is_some() {
        let hex: Vec<String> = written.iter().map(|byte| format!("{byte:02x}")).collect();
        let lines: Vec<String> = hex.chunks(32).map(|line| line.join(" ")).collect();
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    }
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let bytes = text
        .split_ascii_whitespace()
        .map(|hex| u8::from_str_radix(hex, 16).unwrap());
    bytes.collect::<Vec<u8>>().into()
}

fn attributes() -> Vec<Attribute> {
    vec![
        Attribute {
            key: "color".into(),
            value: "빨강".into(),
        },
        Attribute {
            key: "lang".into(),
            value: "ko".into(),
        },
    ]
}

fn message() -> NewMessage {
    NewMessage {
        sender: Bytes::from_static(b"kim"),
        client_message_id: Bytes::from_static(b"m-1"),
        kind: Bytes::from_static(b"text"),
        body: Bytes::from_static("안녕".as_bytes()),
        attributes: attributes(),
        reply_to_seq: 7,
        silent: true,
        original_time_ms: Some(-5),
        ..NewMessage::default()
    }
}

fn append() -> Append {
    Append {
        conversation: "tenants/acme/conversations/room-1".into(),
        messages: vec![message()],
        atomic: true,
        expected_last_seq: Some(0),
        map_epoch: 3,
        refuse_replies_ahead: false,
    }
}

fn conversation() -> Conversation {
    Conversation {
        format: 1,
        name: "tenants/acme/conversations/room-1".into(),
        last_seq: 300,
        min_seq: 2,
        incarnation: 1,
        create_time_ms: 1_700_000_000_000,
        last_time_ms: 1_700_000_000_900,
        content_hash: Bytes::from_static(&[9; 16]),
        attributes: attributes(),
        request_id: Bytes::from_static(b"r-1"),
        revision: 4_000,
        create_revision: 17,
        ..Conversation::default()
    }
}

fn node() -> Node {
    Node {
        id: 2,
        name: "seoul-2".into(),
        address: "10.0.0.2:7000".into(),
        locality: Some(Locality {
            region: "kr".into(),
            dc: "seoul".into(),
            rack: "r7".into(),
        }),
        disk_id: Bytes::from_static(&[3; 16]),
        address_boot: 0,
    }
}

fn shard() -> Shard {
    Shard {
        id: 1,
        slot_first: 0,
        slot_last: 65_535,
        replicas: vec![2, 5, 8],
        ..Shard::default()
    }
}

fn cluster() -> ClusterState {
    ClusterState {
        format: 1,
        cluster_id: "00ff".into(),
        epoch: 9,
        nodes: vec![node()],
        shards: vec![shard()],
        token_hash: Bytes::from_static(&[4; 32]),
        nodes_expected: 9,
        shards_wanted: 12,
        replicas: 3,
        meta_replicas: vec![1, 4, 7],
        next_node_id: 10,
        ..ClusterState::default()
    }
}

fn moving() -> Move {
    Move {
        shard: 1,
        from: 2,
        to: 300,
        epoch: 9,
        changing: true,
        degraded: true,
    }
}

fn policy() -> Policy {
    Policy {
        prefer: vec!["seoul".into(), "busan".into()],
        replicas: 5,
        survive: Survive::Region as i32,
    }
}

fn drills() -> Drills {
    let approval = drills::Approval {
        who: "ann".into(),
        at_ms: 300,
    };
    Drills {
        drills: vec![Drill {
            id: "d-1".into(),
            state: drills::State::Running as i32,
            plan: "format = 1".into(),
            plan_digest: Bytes::from_static(&[5; 32]),
            layout_digest: Bytes::from_static(&[6; 32]),
            scenario: "dc-silent".into(),
            target: "seoul".into(),
            planned_by: "ann".into(),
            planned_ms: 301,
            approvals: vec![approval.clone()],
            controller: Some(drills::Controller {
                number: 7,
                who: "host/1".into(),
                since_ms: 302,
                heard_ms: 303,
            }),
            began_ms: 304,
            ended_ms: 305,
            end: drills::End::Aborted as i32,
            why: "a cap".into(),
            notes: vec![drills::Note {
                at_ms: 306,
                text: "silence".into(),
            }],
            summary: "{}".into(),
            standing: "weekly".into(),
            recipe_digest: Bytes::from_static(&[7; 32]),
        }],
        lever: Some(drills::Lever {
            who: "bob".into(),
            why: "smoke".into(),
            at_ms: 307,
        }),
        windows: vec![window()],
        standing: vec![drills::Standing {
            name: "weekly".into(),
            recipe: "format = 1".into(),
            recipe_digest: Bytes::from_static(&[7; 32]),
            next_ms: 308,
            every_ms: 309,
            until_ms: 310,
            approvals: vec![approval],
            last_ms: 311,
        }],
        proofs: vec![drills::Proof {
            promise: "D".into(),
            shown_ms: 312,
            by: "d-1".into(),
            evidence: "9 messages".into(),
            limit_ms: 313,
            broken_ms: 314,
            broken_by: "d-0".into(),
        }],
        operators_needed: 1,
        signing_seed: Bytes::from_static(&[8; 32]),
        controllers: 7,
    }
}

fn window() -> drills::Window {
    drills::Window {
        name: "sale".into(),
        from_ms: 400,
        to_ms: 401,
        every_ms: 402,
        why: "sale".into(),
    }
}

/// One of each kind of change.
fn drill_changes() -> Vec<(&'static str, DrillBody)> {
    let (id, who, why) = ("d-1".to_owned(), "ann".to_owned(), "smoke".to_owned());
    let digest = Bytes::from_static(&[5; 32]);
    let named = drills::Named {
        name: "sale".into(),
    };
    let approve = drills::Approve {
        id: id.clone(),
        who: who.clone(),
        digest: digest.clone(),
    };
    let store = drills::Store {
        id: id.clone(),
        plan: "format = 1".into(),
        scenario: "dc-silent".into(),
        target: "seoul".into(),
        who: who.clone(),
        standing: "weekly".into(),
        recipe_digest: digest.clone(),
    };
    let begin = drills::Begin {
        id: id.clone(),
        who: who.clone(),
        plan_digest: digest.clone(),
    };
    let claim = drills::Claim {
        id: id.clone(),
        who: who.clone(),
    };
    let beat = drills::Beat {
        id: id.clone(),
        number: 300,
        note: "silence".into(),
    };
    let conclude = drills::Conclude {
        id: id.clone(),
        number: 300,
        end: drills::End::Missed as i32,
        why: why.clone(),
        summary: "{}".into(),
    };
    let abort = drills::Abort {
        id: id.clone(),
        who: who.clone(),
        why: why.clone(),
    };
    let stand = drills::Stand {
        name: "weekly".into(),
        recipe: "format = 1".into(),
        first_ms: 400,
        every_ms: 401,
        until_ms: 402,
    };
    let prove = drills::Prove {
        promise: "H".into(),
        held: Some(false),
        by: "verify".into(),
        evidence: "9 replicas".into(),
        limit_ms: Some(0),
    };
    vec![
        ("store", DrillBody::Store(store)),
        ("approve", DrillBody::Approve(approve.clone())),
        ("begin", DrillBody::Begin(begin)),
        ("claim", DrillBody::Claim(claim)),
        ("beat", DrillBody::Beat(beat)),
        ("conclude", DrillBody::Conclude(conclude)),
        ("abort", DrillBody::Abort(abort)),
        ("lost", DrillBody::Lost(drills::Lost { id, number: 300 })),
        (
            "pull",
            DrillBody::Pull(drills::Pull {
                who: who.clone(),
                why,
            }),
        ),
        ("release", DrillBody::Release(drills::Release { who })),
        ("block", DrillBody::Block(window())),
        ("unblock", DrillBody::Unblock(named.clone())),
        ("stand", DrillBody::Stand(stand)),
        ("approve_standing", DrillBody::ApproveStanding(approve)),
        ("unstand", DrillBody::Unstand(named)),
        (
            "operators",
            DrillBody::Operators(drills::Operators { needed: 1 }),
        ),
        ("prove", DrillBody::Prove(prove)),
        ("seed", DrillBody::Seed(drills::Seed { seed: digest })),
    ]
}

#[test]
fn drills_are_read_and_written_as_ever() {
    let state = ClusterState {
        drills: Some(drills()),
        ..ClusterState::default()
    };
    check("cluster_state_drills", &state);
    for (kind, body) in drill_changes() {
        let body = ChangeBody::Drill(DrillChange { body: Some(body) });
        check(&format!("command_meta_drill_{kind}"), &change(body));
    }
}

#[test]
fn tenants_are_read_and_written_as_ever() {
    use model::cluster::tenants::{
        Asked, Delete, MinClient, Quotas, Removal, Swept, Tenant, TenantBody, TenantChange,
        Tenants, Update,
    };
    let active = Tenant {
        id: "acme".into(),
        display_name: "Acme Chat".into(),
        create_ms: 1_700_000_000_000,
        update_ms: 1_700_000_001_000,
        revision: 9,
        quotas: Some(Quotas {
            messages_per_s: 1_000,
            bytes_per_s: 2_000_000,
            conversations: 3_000,
            user_messages_per_s: 4,
            conversation_messages_per_s: 5,
        }),
        ttl_ms: 86_400_000,
        min_clients: vec![MinClient {
            client: "rust".into(),
            version: "0.2.0".into(),
        }],
        upgrade_url: "https://example.org".into(),
        removal: None,
    };
    let deleting = Tenant {
        id: "gone".into(),
        removal: Some(Removal {
            since_ms: 1_700_000_002_000,
            epoch: 11,
            swept: vec![1, 300],
            removed: 77,
        }),
        ..Tenant::default()
    };
    let asked = Asked {
        request_id: Bytes::from_static(b"r1"),
        content: Bytes::from_static(&[7; 16]),
        time_ms: 1_700_000_000_000,
        tenant: Some(active.clone()),
    };
    let state = ClusterState {
        format: 1,
        epoch: 12,
        tenants: Some(Tenants {
            all: vec![active.clone(), deleting],
            asked: vec![asked],
        }),
        ..ClusterState::default()
    };
    check("cluster_state_tenants", &state);
    let update = Update {
        tenant: Some(active.clone()),
        paths: vec!["quotas".into(), "ttl".into()],
        expected_revision: Some(9),
    };
    let delete = Delete {
        id: "acme".into(),
        expected_revision: Some(10),
        allow_missing: true,
    };
    let swept = Swept {
        id: "gone".into(),
        epoch: 11,
        shards: vec![2, 3],
        removed: 5,
    };
    for (kind, body) in [
        ("create", TenantBody::Create(active.clone())),
        ("update", TenantBody::Update(update)),
        ("delete", TenantBody::Delete(delete)),
        ("swept", TenantBody::Swept(swept)),
    ] {
        let change = TenantChange {
            request_id: Bytes::from_static(b"r2"),
            body: Some(body),
        };
        let command = Command::meta(change.into_change());
        check(&format!("command_meta_tenant_{kind}"), &command);
    }
    let changed = Changed {
        node_id: 0,
        epoch: 12,
        tenant: Some(Box::new(active)),
        deduplicated: true,
    };
    check("reply_meta_tenant", &Reply::new(Answer::Meta(changed)));
}

fn api_key() -> access::Key {
    access::Key {
        id: "0a1b2c3d4e5f".into(),
        hash: Bytes::from_static(&[7; 32]),
        label: "chat".into(),
        tenant: "kakao".into(),
        roles: vec![access::Role::Reader as i32, access::Role::Writer as i32],
        created_ms: 1_700_000_000_000,
        expires_ms: 1_800_000_000_000,
        revoked_ms: 1_750_000_000_000,
    }
}

fn issuer() -> access::Issuer {
    access::Issuer {
        name: "https://login.example".into(),
        audience: "chat".into(),
        keys: vec![access::IssuerKey {
            kid: "k1".into(),
            key: "-----BEGIN PUBLIC KEY-----".into(),
        }],
        tenant: "kakao".into(),
        roles: vec![access::Role::TenantAdmin as i32],
        enforce_sender: true,
    }
}

#[test]
fn keys_issuers_and_the_audit_are_read_and_written_as_ever() {
    let actor = audit::Actor {
        who: "key 0a1b2c3d4e5f (ann)".into(),
        role: "operator".into(),
        from: "10.0.0.7".into(),
    };
    let state = ClusterState {
        access: Some(access::Access {
            keys: vec![api_key()],
            issuers: vec![issuer()],
        }),
        trail: Some(audit::Trail {
            head: Bytes::from_static(&[9; 32]),
            last: 300,
            first: 2,
            days: vec![audit::Day {
                day: 20_000,
                first: 2,
            }],
        }),
        ..ClusterState::default()
    };
    check("cluster_state_access", &state);
    let note = audit::Note {
        actor: Some(actor.clone()),
        what: "/firebreak.v1.Messages/AppendMessage".into(),
        target: "kakao".into(),
        outcome: "TENANT_FORBIDDEN".into(),
        count: 300,
    };
    let named = |name: &str| Named { name: name.into() };
    for (kind, body) in [
        ("create_key", ChangeBody::CreateKey(api_key())),
        ("revoke_key", ChangeBody::RevokeKey(named("0a1b2c3d4e5f"))),
        ("issuer", ChangeBody::Issuer(issuer())),
        ("remove_issuer", ChangeBody::RemoveIssuer(named("login"))),
        (
            "notes",
            ChangeBody::Notes(audit::Notes {
                notes: vec![note],
                node: 3,
            }),
        ),
    ] {
        let change = Change {
            body: Some(body),
            actor: Some(actor.clone()),
        };
        check(&format!("command_meta_{kind}"), &Command::meta(change));
    }
    let record = audit::Record {
        format: 1,
        number: 300,
        time_ms: 1_700_000_000_000,
        who: actor.who,
        role: actor.role,
        what: "policy set".into(),
        target: "default".into(),
        from: actor.from,
        outcome: "done".into(),
        count: 1,
        node: 3,
        before: Bytes::from_static(&[8; 32]),
    };
    check("audit_record", &record);
}

/// An approval is given for it: a digest that changes makes all of them void.
#[test]
fn the_digest_of_a_layout_stays_what_it_was() {
    let told: String = (cluster().layout_digest().iter())
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        told,
        "e9270d4f3d24e3a1a7771b5a8e4567c411f00851b50b58a706f715151a2fc4ed"
    );
}

fn message_change(how: How) -> ChangeMessage {
    ChangeMessage {
        conversation: "tenants/acme/conversations/room-1".into(),
        seq: 300,
        request_id: Bytes::from_static(b"r-2"),
        expected_revision: Some(4_000),
        how: Some(how),
        import: false,
    }
}

fn edit() -> Edit {
    Edit {
        body: Some(Bytes::from_static("잘 가".as_bytes())),
        attributes: Some(Attributes {
            values: attributes(),
        }),
        salt: Bytes::from_static(&[6; 16]),
        original_time_ms: None,
    }
}

fn imported_edit() -> Edit {
    Edit {
        original_time_ms: Some(1_262_305_000_000),
        ..edit()
    }
}

fn imported_redaction() -> Redact {
    Redact {
        original_time_ms: Some(1_262_306_000_000),
        keep_original_time: true,
    }
}

fn react() -> React {
    React {
        user: Bytes::from_static(b"lee"),
        kind: Bytes::from_static("👍".as_bytes()),
        remove: true,
    }
}

fn change(body: ChangeBody) -> Command {
    Command::meta(Change::from(body))
}

#[test]
fn commands_are_read_and_written_as_ever() {
    check("command_append", &Command::append(append()));
    let create = Create {
        conversation: "tenants/acme/conversations/room-1".into(),
        request_id: Bytes::from_static(b"r-1"),
        attributes: attributes(),
    };
    check("command_create", &Command::create(create));
    let imported = ChangeMessage {
        import: true,
        ..message_change(How::React(react()))
    };
    check("command_react_imported", &Command::change(imported));
    for (name, how) in [
        ("edit", How::Edit(edit())),
        ("redact", How::Redact(Redact::default())),
        ("react", How::React(react())),
        ("edit_imported", How::Edit(imported_edit())),
        ("redact_imported", How::Redact(imported_redaction())),
    ] {
        let command = Command::change(message_change(how));
        check(&format!("command_{name}"), &command);
    }
    check(
        "command_meta_found",
        &change(ChangeBody::Found(Box::new(cluster()))),
    );
    let join = Join {
        token_hash: Bytes::from_static(&[4; 32]),
        node: Some(node()),
        ..Join::default()
    };
    check("command_meta_join", &change(ChangeBody::Join(join)));
    let with_token = Join {
        token: "fb-0102".into(),
        ..Join::default()
    };
    check(
        "command_meta_join_with_token",
        &change(ChangeBody::Join(with_token)),
    );
    let forget = ForgetBoot {
        node: 300,
        boot: 41,
        operator: "ann".into(),
    };
    check(
        "command_meta_forget_boot",
        &change(ChangeBody::ForgetBoot(forget)),
    );
    let pardoning = ClusterState {
        pardons: vec![Pardon {
            node: 300,
            boot: 41,
            operators: vec!["ann".into(), "bob".into()],
            epoch: 70_000,
        }],
        ..ClusterState::default()
    };
    check("cluster_state_pardoning", &pardoning);
    let layout = Layout {
        shards: vec![shard()],
    };
    check("command_meta_layout", &change(ChangeBody::Layout(layout)));
    let replicas = MetaReplicas {
        nodes: vec![1, 4, 7],
    };
    check(
        "command_meta_replicas",
        &change(ChangeBody::MetaReplicas(replicas)),
    );
    let policy = SetPolicy {
        shard: Some(3),
        policy: Some(policy()),
    };
    check("command_meta_policy", &change(ChangeBody::Policy(policy)));
    let draining = SetDraining {
        node: "seoul-1".into(),
        dc: "seoul".into(),
        draining: true,
    };
    check(
        "command_meta_draining",
        &change(ChangeBody::Draining(draining)),
    );
    let step = MoveStep {
        shard: 1,
        epoch: 9,
        lost: false,
    };
    let leave = Leave {
        node: 300,
        stays: true,
    };
    let announce = Announce {
        node: 300,
        disk_id: Bytes::from_static(&[3; 16]),
        boot: 7,
        address: "busan-2:7001".into(),
        rack: "r2".into(),
    };
    let relocate = Relocate {
        node: 300,
        locality: node().locality,
    };
    for (name, body) in [
        ("command_meta_begin_move", ChangeBody::BeginMove(moving())),
        ("command_meta_change_voters", ChangeBody::ChangeVoters(step)),
        ("command_meta_finish_move", ChangeBody::FinishMove(step)),
        ("command_meta_drop_move", ChangeBody::DropMove(step)),
        ("command_meta_leave", ChangeBody::Leave(leave)),
        ("command_meta_remove", ChangeBody::Remove(leave)),
        ("command_meta_announce", ChangeBody::Announce(announce)),
        ("command_meta_relocate", ChangeBody::Relocate(relocate)),
        ("command_meta_join_token", ChangeBody::JoinToken(token())),
        (
            "command_meta_create_token",
            ChangeBody::CreateToken(NewToken {
                token: Some(hashed()),
                alone: true,
            }),
        ),
        (
            "command_meta_revoke_token",
            ChangeBody::RevokeToken(Named {
                name: "0a0a0a0a".into(),
            }),
        ),
    ] {
        check(name, &change(body));
    }
    let moved = ClusterState {
        nodes: vec![Node {
            address_boot: 300,
            ..node()
        }],
        join_token: Some(token()),
        ..ClusterState::default()
    };
    check("cluster_state_moved", &moved);
    let tokens = ClusterState {
        tokens: vec![hashed()],
        ..ClusterState::default()
    };
    check("cluster_state_tokens", &tokens);
    let placing = ClusterState {
        shards: vec![Shard {
            changes: 3,
            ..shard()
        }],
        moves: vec![moving()],
        leaving: vec![4, 300],
        ..ClusterState::default()
    };
    check("cluster_state_placing", &placing);
    let entry = Entry {
        format: 1,
        time_ms: 1_700_000_000_000,
        commands: vec![
            Command::append(append()).encode_to_vec().into(),
            Bytes::new(),
        ],
        passed_ms: 0,
    };
    check("entry", &entry);
    let counted = Entry {
        format: 2,
        passed_ms: 86_400_000,
        ..entry
    };
    check("entry_with_passed", &counted);
}

#[test]
fn replies_are_read_and_written_as_ever() {
    let refusal = Refusal {
        last_seq: 41,
        ..Refusal::new(Reason::SeqMismatch, "the last seq is 41")
    };
    let outcome = Outcome {
        seq: 1,
        revision: 2,
        create_time_ms: 1_700_000_000_000,
        deduplicated: true,
        refusal: None,
    };
    let refused = Outcome {
        refusal: Some(refusal.clone()),
        ..Outcome::default()
    };
    let appended = Appended {
        outcomes: vec![outcome, refused],
    };
    check("reply_appended", &Reply::new(Answer::Appended(appended)));
    let created = Created {
        conversation: Some(conversation()),
        deduplicated: true,
    };
    check(
        "reply_created",
        &Reply::new(Answer::Created(Box::new(created))),
    );
    let changed = MessageChanged {
        seq: 300,
        revision: 5_000,
        time_ms: 1_700_000_001_000,
        create_time_ms: 1_700_000_000_000,
        deduplicated: true,
        count: 7,
    };
    check("reply_changed", &Reply::new(Answer::Changed(changed)));
    check("reply_refused", &Reply::new(Answer::Refused(refusal)));
    let changed = Changed {
        node_id: 2,
        epoch: 9,
        ..Changed::default()
    };
    check("reply_meta", &Reply::new(Answer::Meta(changed)));
}

#[test]
fn the_reasons_keep_their_numbers() {
    use Reason::*;
    let reasons = [
        Unspecified,
        ClientMessageIdReused,
        SeqMismatch,
        MixedBatch,
        AlreadyExists,
        WrongShard,
        Invalid,
        KeyCollision,
        RepeatedInBatch,
        AheadOfHead,
    ];
    for (number, reason) in reasons.into_iter().enumerate() {
        assert_eq!(reason as usize, number);
    }
}

#[test]
fn stored_records_are_read_and_written_as_ever() {
    check("conversation", &conversation());
    let stored = Stored {
        format: 1,
        seq: 300,
        revision: 4_000,
        create_time_ms: 1_700_000_000_900,
        message: Some(message()),
        ..Stored::default()
    };
    check("stored", &stored);
    let dedup = Dedup {
        format: 1,
        seq: 300,
        revision: 4_000,
        time_ms: 1_700_000_000_900,
        request_hash: Bytes::from_static(&[5; 16]),
        kept: true,
        passed_ms: 0,
        ..Dedup::default()
    };
    check("dedup", &dedup);
    let counted = Dedup {
        passed_ms: 86_400_000,
        ..dedup
    };
    check("dedup_with_passed", &counted);
    let of_a_change = Dedup {
        made: Made::Reaction as i32,
        create_time_ms: 1_700_000_000_000,
        count: 7,
        ..counted
    };
    check("dedup_of_a_change", &of_a_change);
    let edited = Stored {
        revision: 5_000,
        append_revision: 4_000,
        edit_time_ms: Some(1_700_000_001_000),
        redact_time_ms: Some(1_700_000_002_000),
        salt: Bytes::from_static(&[6; 16]),
        ..stored
    };
    check("stored_changed", &edited);
    let imported = Stored {
        original_edit_time_ms: Some(-1),
        original_redact_time_ms: Some(1_262_306_000_000),
        ..edited
    };
    check("stored_imported", &imported);
    let changed = Conversation {
        reaction_revision: 4_100,
        change_revision: 5_000,
        ..conversation()
    };
    check("conversation_changed", &changed);
    let kind = Bytes::from_static("👍".as_bytes());
    let reactions = Reactions {
        format: 1,
        seq: 300,
        revision: 4_100,
        counts: vec![ReactionCount {
            kind: kind.clone(),
            count: 7,
        }],
        sum: Bytes::from_static(&[8; 16]),
    };
    check("reactions", &reactions);
    let reaction = Reaction {
        format: 1,
        seq: 300,
        user: Bytes::from_static(b"lee"),
        kind,
        revision: 4_100,
    };
    check("reaction", &reaction);
    check(
        "changed",
        &state::Changed {
            format: 1,
            seq: 300,
        },
    );
    check("cluster_state", &cluster());
    let with_policies = ClusterState {
        policies: Some(Policies {
            default: Some(policy()),
            shards: vec![ShardPolicy {
                shard: 3,
                policy: Some(policy()),
            }],
        }),
        draining: vec![4, 300],
        ..cluster()
    };
    check("cluster_state_with_policies", &with_policies);
}

#[test]
fn rules_of_conversations_are_read_and_written_as_ever() {
    let expiring = NewMessage {
        ttl_ms: 86_400_000,
        ..message()
    };
    let append = Append {
        messages: vec![expiring],
        ..append()
    };
    let with = AppendWith {
        append: Some(append),
        key: Bytes::from_static(b"mls-commit"),
        expected_last_seq_of_key: Some(7),
        fence_token: Bytes::from_static(b"writer-2"),
    };
    check("command_append_with", &Command::append_with(with));
    let govern = Govern {
        conversation: "tenants/acme/conversations/room-1".into(),
        request_id: Bytes::from_static(b"r-9"),
        attributes: Some(Attributes {
            values: attributes(),
        }),
        fence: Some(Fence {
            token: Bytes::from_static(b"writer-2"),
            expected: Some(Bytes::from_static(b"writer-1")),
        }),
        ttl_ms: Some(604_800_000),
        hold: Some(true),
    };
    check("command_govern", &Command::govern(govern));
    let expire = Expire {
        conversation: "tenants/acme/conversations/room-1".into(),
        due: vec![Due {
            at_ms: 1_700_000_000_000,
            seq: 300,
        }],
        prefix_max: 512,
        tenant_ttl_ms: 31_536_000_000,
    };
    check("command_expire", &Command::expire(expire));
    let expired = Expired {
        tombstones: 2,
        removed: 300,
        bytes: 70_000,
        min_seq: 301,
    };
    check("reply_expired", &Reply::new(Answer::Expired(expired)));
    let ruled = Conversation {
        settings_revision: 4_200,
        fence_token: Bytes::from_static(b"writer-2"),
        keys: vec![state::KeySeq {
            key: Bytes::from_static(b"mls-commit"),
            seq: 300,
        }],
        ttl_ms: 604_800_000,
        hold: true,
        expiring: true,
        ..conversation()
    };
    check("conversation_ruled", &ruled);
    let tombstone = Stored {
        format: 1,
        seq: 300,
        revision: 5_000,
        append_revision: 4_000,
        create_time_ms: 1_700_000_000_900,
        message: Some(NewMessage::default()),
        expired_ms: Some(1_700_000_086_400),
        ..Stored::default()
    };
    check("stored_expired", &tombstone);
    check("expiring", &state::Expiring { format: 1 });
}

/// The hashes are on disk: a change of any would orphan records or call equal replicas different.
#[test]
fn the_hashes_give_what_they_always_gave() {
    let hashes = [
        model::hash::conversation_key("acme", "room-1").0.to_vec(),
        model::hash::dedup_id(b"kim", b"m-1").to_vec(),
        model::hash::request_hash(&message()).to_vec(),
        model::hash::record_hash(b"record").to_le_bytes().to_vec(),
        model::hash::token_hash("secret").to_vec(),
    ];
    let hashes = hashes.concat();
    assert_eq!(golden("hashes", &hashes), hashes);
}

/// What the machine of the first version made of an entry; every later one must do the same.
#[test]
fn an_entry_is_applied_as_ever() {
    let mut first = append();
    first.expected_last_seq = None;
    let mut second = first.clone();
    second.messages[0].client_message_id = Bytes::from_static(b"import:2");
    let entry = Entry {
        format: 1,
        time_ms: 1_700_000_000_000,
        commands: vec![
            Command::append(first).encode_to_vec().into(),
            Command::append(second).encode_to_vec().into(),
        ],
        passed_ms: 0,
    };
    let mut records = support::Records::default();
    let mut machine = Machine::new(Scope::Data(0..=u16::MAX), 10, 0);
    let replies = machine
        .apply(&mut records, &entry.encode_to_vec().into())
        .unwrap();
    let mut made = Vec::new();
    for head in records.heads.values() {
        head.encode_length_delimited(&mut made).unwrap();
    }
    for message in records.messages.values() {
        made.extend_from_slice(message);
    }
    for dedup in records.dedups.values() {
        dedup.encode_length_delimited(&mut made).unwrap();
    }
    for reply in replies {
        reply.encode_length_delimited(&mut made).unwrap();
    }
    assert_eq!(golden("applied_entry", &made), made);
}
