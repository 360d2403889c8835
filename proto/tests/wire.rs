//! Every message that crosses the wire, as the first version wrote it. The lines of
//! `golden/wire.txt` are never changed: what one version sends, every later one reads.
//!
//! Samples fill every field and name each one, so a new field does not compile here until its
//! sample decides: the old sample leaves it at its default, which adds no bytes, and a new sample
//! under a new name fills it. `GOLDEN_WRITE=1 cargo test --release -p firebreak-proto --test wire`
//! adds the lines that are missing, and only those.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it cannot go on"
)]

use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::path::PathBuf;

use bytes::Bytes;
use firebreak_proto::node::frame::Body;
use firebreak_proto::node::{self, append_answer, failed, snapshot_chunk};
use firebreak_proto::v1::{self, append_result, read_options::Level, tail_response};
use prost::Message;
use prost_types::{Duration, Timestamp};

/// The samples of one run, each checked against the file's line of that name.
struct Golden {
    path: PathBuf,
    lines: BTreeMap<String, String>,
    seen: Vec<String>,
    added: bool,
}

impl Golden {
    fn open() -> Golden {
        let path = PathBuf::from("tests/golden/wire.txt");
        let text = match std::fs::read_to_string(&path) {
            Err(error) if writes() && error.kind() == std::io::ErrorKind::NotFound => String::new(),
            read => read.unwrap(),
        };
        let mut lines = BTreeMap::new();
        for line in text.lines() {
            let (name, hex) = line.split_once(' ').expect("a name and its bytes in hex");
            let before = lines.insert(name.to_owned(), hex.to_owned());
            assert!(before.is_none(), "{name} is in the file twice");
        }
        Golden {
            path,
            lines,
            seen: Vec::new(),
            added: false,
        }
    }

    /// Checks that the line's bytes read as `value`, and that `value` is written as these bytes.
    #[track_caller]
    fn check<M: Message + Default + PartialEq + Debug>(&mut self, name: &str, value: &M) {
        assert!(!self.seen.iter().any(|seen| seen == name), "{name} twice");
        self.seen.push(name.to_owned());
        let written = value.encode_to_vec();
        assert!(!written.is_empty(), "{name} shows nothing");
        if writes() && !self.lines.contains_key(name) {
            self.lines.insert(name.to_owned(), hex(&written));
            self.added = true;
        }
        let line = self.lines.get(name).unwrap_or_else(|| {
            panic!("{name} has no line: GOLDEN_WRITE=1 adds it (see this file's head)")
        });
        assert_eq!(&hex(&written), line, "{name} is written differently");
        let read = M::decode(unhex(line)).unwrap();
        assert_eq!(&read, value, "{name} reads differently");
    }

    /// Checks that the file holds nothing else, and writes what was added.
    fn close(self) {
        let left: Vec<_> = self
            .lines
            .keys()
            .filter(|n| !self.seen.contains(n))
            .collect();
        assert!(left.is_empty(), "lines that nothing checks: {left:?}");
        if self.added {
            let text: String = self
                .lines
                .iter()
                .fold(String::new(), |mut text, (name, hex)| {
                    writeln!(text, "{name} {hex}").expect("memory takes it");
                    text
                });
            std::fs::write(self.path, text).unwrap();
        }
    }
}

fn writes() -> bool {
    std::env::var_os("GOLDEN_WRITE").is_some()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Bytes {
    let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16).unwrap()).collect();
    let byte = |pair: &[u32]| u8::try_from(pair[0] * 16 + pair[1]).unwrap();
    digits.chunks_exact(2).map(byte).collect()
}

#[test]
fn every_wire_message_is_written_and_read_as_by_the_first_version() {
    let mut golden = Golden::open();
    appends(&mut golden);
    streams(&mut golden);
    reads(&mut golden);
    conversations(&mut golden);
    changes(&mut golden);
    imports(&mut golden);
    feed(&mut golden);
    settings(&mut golden);
    rules(&mut golden);
    follows(&mut golden);
    tenants(&mut golden);
    admin(&mut golden);
    faults(&mut golden);
    access(&mut golden);
    frames(&mut golden);
    snapshots_and_views(&mut golden);
    golden.close();
}

const PARENT: &str = "tenants/acme/conversations/room-1";

fn tenants(golden: &mut Golden) {
    let tenant = v1::Tenant {
        name: "tenants/acme".into(),
        display_name: "Acme Chat".into(),
        create_time: time(1_665_800_000),
        update_time: time(1_665_800_001),
        revision: 9,
        quotas: Some(v1::Quotas {
            messages_per_second: 1_000,
            bytes_per_second: 2_000_000,
            conversations: 3_000,
            user_messages_per_second: 4,
            conversation_messages_per_second: 5,
        }),
        ttl: Some(Duration {
            seconds: 86_400,
            nanos: 0,
        }),
        min_client_versions: [("rust".to_owned(), "0.2.0".to_owned())].into(),
        upgrade_url: "https://example.org".into(),
        removal: Some(v1::Removal {
            delete_time: time(1_665_800_002),
            shards: 4,
            shards_done: 1,
            conversations_removed: 7,
        }),
    };
    let request_id = || "r-1".to_owned();
    golden.check(
        "create_tenant_request",
        &v1::CreateTenantRequest {
            tenant_id: "acme".into(),
            tenant: Some(tenant.clone()),
            request_id: request_id(),
        },
    );
    let name = || "tenants/acme".to_owned();
    golden.check("get_tenant_request", &v1::GetTenantRequest { name: name() });
    golden.check(
        "list_tenants_request",
        &v1::ListTenantsRequest {
            page_size: 50,
            page_token: "token".into(),
        },
    );
    golden.check(
        "list_tenants_response",
        &v1::ListTenantsResponse {
            tenants: vec![tenant.clone()],
            next_page_token: "next".into(),
        },
    );
    golden.check(
        "update_tenant_request",
        &v1::UpdateTenantRequest {
            tenant: Some(tenant.clone()),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["quotas".into(), "ttl".into()],
            }),
            request_id: request_id(),
            expected_revision: Some(9),
        },
    );
    golden.check(
        "delete_tenant_request",
        &v1::DeleteTenantRequest {
            name: name(),
            request_id: request_id(),
            expected_revision: Some(9),
            allow_missing: true,
        },
    );
    golden.check(
        "tenant_response",
        &v1::TenantResponse {
            tenant: Some(tenant),
            deduplicated: true,
        },
    );
    quotas(golden);
}

fn quotas(golden: &mut Golden) {
    let take = |quota, of: &str, amount| node::Take {
        quota,
        of: of.to_owned(),
        amount,
    };
    golden.check(
        "take_request",
        &node::TakeRequest {
            tenant: "acme".into(),
            takes: vec![take(1, "", 300), take(3, "ann", 1)],
            ahead: vec![take(1, "", 20)],
            used: vec![take(2, "", 5_000)],
            returned: vec![take(4, PARENT, 1)],
            counts: vec![node::ShardCount {
                shard: 300,
                conversations: 70_000,
            }],
        },
    );
    golden.check(
        "take_response",
        &node::TakeResponse {
            granted: true,
            quota: 3,
            wait_us: 250_000,
            conversations_full: true,
            ahead: true,
        },
    );
    golden.check(
        "health_with_tenants",
        &node::Health {
            tenants: true,
            ..node::Health::default()
        },
    );
}

fn attributes() -> BTreeMap<String, String> {
    let pairs = [("color", "red"), ("lang", "한국어")];
    pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
}

fn time(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp {
        seconds,
        nanos: 123_000_000,
    })
}

fn span(seconds: i64) -> Option<Duration> {
    Some(Duration {
        seconds,
        nanos: 500_000_000,
    })
}

fn message() -> v1::Message {
    v1::Message {
        name: format!("{PARENT}/messages/300"),
        seq: 300,
        revision: 70_000,
        sender: "alice".into(),
        client_message_id: "m-1".into(),
        r#type: "text".into(),
        body: Bytes::from_static(b"\x00hello\xff"),
        attributes: attributes(),
        reply_to_seq: 299,
        silent: true,
        create_time: time(1_665_800_000),
        edit_time: None,
        redaction: None,
        reactions: Vec::new(),
        original_time: time(1_262_304_000),
        ..v1::Message::default()
    }
}

/// The change feed.
fn feed(golden: &mut Golden) {
    use v1::change::What;
    golden.check(
        "read_changes_request",
        &v1::ReadChangesRequest {
            parent: "tenants/acme".into(),
            cursor: "cursor".into(),
            page_size: 50,
            read: Some(read_options(Level::Local)),
        },
    );
    let change = |what| v1::Change {
        id: "id".into(),
        conversation: PARENT.into(),
        incarnation: 2,
        revision: 70_000,
        what: Some(what),
    };
    let head = v1::Conversation {
        name: PARENT.into(),
        attributes: attributes(),
        ..v1::Conversation::default()
    };
    golden.check(
        "read_changes_response",
        &v1::ReadChangesResponse {
            changes: vec![
                change(What::Message(message())),
                change(What::Settings(head.clone())),
                change(What::Deleted(head)),
                change(What::Trimmed(9)),
            ],
            cursor: "cursor".into(),
            caught_up: true,
            info: info(),
        },
    );
}

/// What came with exports and imports.
fn imports(golden: &mut Golden) {
    let imported = v1::Message {
        original_edit_time: time(1_262_305_000),
        redaction: Some(v1::Redaction {
            redact_time: None,
            original_time: time(1_262_306_000),
            ..v1::Redaction::default()
        }),
        ..v1::Message::default()
    };
    golden.check("message_with_original_times", &imported);
    golden.check(
        "list_messages_request_of_an_incarnation",
        &v1::ListMessagesRequest {
            incarnation: 2,
            ..v1::ListMessagesRequest::default()
        },
    );
    golden.check(
        "edit_message_request_of_an_import",
        &v1::EditMessageRequest {
            original_time: time(1_262_305_000),
            ..v1::EditMessageRequest::default()
        },
    );
    golden.check(
        "redact_message_request_of_an_import",
        &v1::RedactMessageRequest {
            original_time: time(1_262_306_000),
            ..v1::RedactMessageRequest::default()
        },
    );
    golden.check(
        "list_reactions_request",
        &v1::ListReactionsRequest {
            parent: PARENT.into(),
            first_seq: 1,
            last_seq: 300,
            page_size: 50,
            page_token: "page".into(),
            read: Some(read_options(Level::Local)),
        },
    );
    golden.check(
        "list_reactions_response",
        &v1::ListReactionsResponse {
            reactions: vec![v1::Reaction {
                seq: 300,
                user: "bob".into(),
                kind: "👍".into(),
            }],
            next_page_token: "page".into(),
            info: info(),
        },
    );
}

/// The same, with what came with changes.
fn changed_message() -> v1::Message {
    v1::Message {
        edit_time: time(1_665_800_100),
        redaction: Some(v1::Redaction {
            redact_time: time(1_665_800_200),
            ..v1::Redaction::default()
        }),
        reactions: vec![v1::ReactionCount {
            kind: "👍".into(),
            count: 7,
            mine: true,
        }],
        ..message()
    }
}

fn precondition() -> Option<v1::Precondition> {
    // Present though 0: "the conversation is empty" is not "no precondition".
    Some(v1::Precondition {
        expected_last_seq: Some(0),
        ..v1::Precondition::default()
    })
}

fn info() -> Option<v1::ResponseInfo> {
    Some(v1::ResponseInfo {
        session_token: "token".into(),
        served_by: "seoul-1 (seoul)".into(),
        staleness: span(1),
    })
}

fn read_options(level: Level) -> v1::ReadOptions {
    v1::ReadOptions {
        level: level as i32,
        session_token: "token".into(),
        max_staleness: span(2),
    }
}

fn appends(golden: &mut Golden) {
    golden.check("message", &message());
    golden.check(
        "append_message_request",
        &v1::AppendMessageRequest {
            parent: PARENT.into(),
            message: Some(message()),
            precondition: precondition(),
            return_body: true,
        },
    );
    golden.check(
        "append_message_response",
        &v1::AppendMessageResponse {
            message: Some(message()),
            deduplicated: true,
            info: info(),
        },
    );
    golden.check(
        "batch_append_messages_request",
        &v1::BatchAppendMessagesRequest {
            parent: PARENT.into(),
            messages: vec![message(), message()],
            precondition: precondition(),
        },
    );
    golden.check(
        "batch_append_messages_response",
        &v1::BatchAppendMessagesResponse {
            messages: vec![message(), message()],
            deduplicated: true,
            info: info(),
        },
    );
}

fn streams(golden: &mut Golden) {
    let item = |correlation_id| v1::AppendItem {
        correlation_id,
        parent: PARENT.into(),
        message: Some(message()),
        timeout_ms: 10_000,
        ..v1::AppendItem::default()
    };
    golden.check(
        "append_stream_request",
        &v1::AppendStreamRequest {
            items: vec![item(1), item(u64::MAX)],
        },
    );
    let appended = append_result::Outcome::Appended(v1::Appended {
        seq: 300,
        revision: 70_000,
        create_time_ms: 1_665_800_000_123,
        deduplicated: true,
    });
    let error = append_result::Outcome::Error(v1::ItemError {
        code: 14,
        reason: "NO_QUORUM".into(),
        message: "no leader was found in time".into(),
        retry_after_ms: 500,
    });
    let result = |correlation_id, outcome| v1::AppendResult {
        correlation_id,
        outcome: Some(outcome),
    };
    golden.check(
        "append_stream_response",
        &v1::AppendStreamResponse {
            results: vec![result(1, appended), result(u64::MAX, error)],
            going_away: false,
        },
    );
    golden.check(
        "append_stream_response_going_away",
        &v1::AppendStreamResponse {
            results: Vec::new(),
            going_away: true,
        },
    );
}

fn reads(golden: &mut Golden) {
    for (name, level) in [
        ("linearizable", Level::Linearizable),
        ("session", Level::Session),
        ("bounded", Level::Bounded),
        ("local", Level::Local),
    ] {
        golden.check(&format!("read_options_{name}"), &read_options(level));
    }
    golden.check(
        "list_messages_request",
        &v1::ListMessagesRequest {
            parent: PARENT.into(),
            page_size: 50,
            page_token: "page".into(),
            descending: true,
            start_seq: 300,
            read: Some(read_options(Level::Local)),
            reader: String::new(),
            ..v1::ListMessagesRequest::default()
        },
    );
    golden.check(
        "list_messages_response",
        &v1::ListMessagesResponse {
            messages: vec![message(), message()],
            next_page_token: "page".into(),
            min_seq: 2,
            last_seq: 300,
            info: info(),
            ..v1::ListMessagesResponse::default()
        },
    );
    golden.check(
        "tail_request",
        &v1::TailRequest {
            parent: PARENT.into(),
            cursor: "cursor".into(),
            start_seq: 300,
            start_revision: 0,
        },
    );
    for (name, event) in [
        ("message", tail_response::Event::Message(message())),
        (
            "caught_up",
            tail_response::Event::CaughtUp(v1::CaughtUp { last_seq: 300 }),
        ),
        (
            "reconnect",
            tail_response::Event::Reconnect(v1::Reconnect { after_ms: 250 }),
        ),
    ] {
        golden.check(
            &format!("tail_response_{name}"),
            &v1::TailResponse {
                event: Some(event),
                cursor: "cursor".into(),
            },
        );
    }
}

fn conversations(golden: &mut Golden) {
    let conversation = v1::Conversation {
        name: PARENT.into(),
        last_seq: 300,
        min_seq: 2,
        incarnation: 3,
        create_time: time(1_665_800_000),
        attributes: attributes(),
        shard: 4,
        content_hash: Bytes::from_static(&[0xab; 16]),
        info: None,
        revision: 0,
        delete_time: None,
        ..v1::Conversation::default()
    };
    golden.check("conversation", &conversation);
    golden.check(
        "conversation_with_info",
        &v1::Conversation {
            info: info(),
            ..conversation.clone()
        },
    );
    golden.check(
        "create_conversation_request",
        &v1::CreateConversationRequest {
            parent: "tenants/acme".into(),
            conversation_id: "room-1".into(),
            conversation: Some(conversation),
            request_id: "r-1".into(),
        },
    );
    golden.check(
        "get_conversation_request",
        &v1::GetConversationRequest {
            name: PARENT.into(),
            read: Some(read_options(Level::Linearizable)),
        },
    );
}

fn changes(golden: &mut Golden) {
    let name = || format!("{PARENT}/messages/300");
    golden.check("message_changed", &changed_message());
    golden.check(
        "get_message_request",
        &v1::GetMessageRequest {
            name: name(),
            read: Some(read_options(Level::Local)),
            reader: "bob".into(),
        },
    );
    golden.check(
        "get_message_response",
        &v1::GetMessageResponse {
            message: Some(changed_message()),
            info: info(),
        },
    );
    golden.check(
        "list_messages_request_of_a_reader",
        &v1::ListMessagesRequest {
            parent: PARENT.into(),
            page_size: 0,
            page_token: String::new(),
            descending: false,
            start_seq: 0,
            read: None,
            reader: "bob".into(),
            ..v1::ListMessagesRequest::default()
        },
    );
    golden.check(
        "edit_message_request",
        &v1::EditMessageRequest {
            name: name(),
            request_id: "r-2".into(),
            expected_revision: Some(0),
            body: Some(Bytes::from_static(b"\x00other\xff")),
            attributes: Some(v1::Attributes {
                values: attributes(),
            }),
            original_time: None,
        },
    );
    golden.check(
        "edit_message_response",
        &v1::EditMessageResponse {
            message: Some(changed_message()),
            deduplicated: true,
            info: info(),
        },
    );
    golden.check(
        "redact_message_request",
        &v1::RedactMessageRequest {
            name: name(),
            request_id: "r-3".into(),
            expected_revision: Some(70_000),
            original_time: None,
        },
    );
    golden.check(
        "redact_message_response",
        &v1::RedactMessageResponse {
            message: Some(changed_message()),
            deduplicated: true,
            info: info(),
        },
    );
    golden.check(
        "react_request",
        &v1::ReactRequest {
            name: name(),
            request_id: "r-4".into(),
            user: "bob".into(),
            kind: "👍".into(),
            remove: true,
        },
    );
    golden.check(
        "react_response",
        &v1::ReactResponse {
            message: Some(changed_message()),
            deduplicated: true,
            info: info(),
        },
    );
    golden.check(
        "tail_request_since",
        &v1::TailRequest {
            parent: PARENT.into(),
            cursor: String::new(),
            start_seq: 300,
            start_revision: 70_000,
        },
    );
    golden.check(
        "tail_response_changed",
        &v1::TailResponse {
            event: Some(tail_response::Event::Changed(changed_message())),
            cursor: "cursor".into(),
        },
    );
}

fn settings(golden: &mut Golden) {
    let conversation = || {
        Some(v1::Conversation {
            name: PARENT.into(),
            incarnation: 3,
            revision: 70_000,
            delete_time: time(1_665_800_300),
            ..v1::Conversation::default()
        })
    };
    golden.check(
        "update_conversation_request",
        &v1::UpdateConversationRequest {
            name: PARENT.into(),
            request_id: "r-5".into(),
            attributes: Some(v1::Attributes {
                values: attributes(),
            }),
            ..v1::UpdateConversationRequest::default()
        },
    );
    golden.check(
        "update_conversation_response",
        &v1::UpdateConversationResponse {
            conversation: conversation(),
            deduplicated: true,
            info: info(),
        },
    );
    golden.check(
        "delete_conversation_request",
        &v1::DeleteConversationRequest {
            name: PARENT.into(),
            request_id: "r-6".into(),
        },
    );
    golden.check(
        "delete_conversation_response",
        &v1::DeleteConversationResponse {
            conversation: conversation(),
            deduplicated: true,
            info: info(),
        },
    );
    golden.check(
        "list_conversations_request",
        &v1::ListConversationsRequest {
            parent: "tenants/acme".into(),
            page_size: 50,
            page_token: "page".into(),
            read: Some(read_options(Level::Local)),
        },
    );
    golden.check(
        "list_conversations_response",
        &v1::ListConversationsResponse {
            conversations: conversation().into_iter().collect(),
            next_page_token: "page".into(),
            info: info(),
        },
    );
}

/// What came with the rules of conversations and with anchors.
fn rules(golden: &mut Golden) {
    let expiring = v1::Message {
        expire_time: time(1_665_800_400),
        ttl: span(86_400),
        redaction: Some(v1::Redaction {
            redact_time: time(1_665_800_400),
            expired: true,
            ..v1::Redaction::default()
        }),
        ..message()
    };
    golden.check("message_expiring", &expiring);
    golden.check(
        "precondition_of_a_key",
        &v1::Precondition {
            expected_last_seq: None,
            key: "mls-commit".into(),
            expected_last_seq_of_key: Some(7),
            fence_token: "writer-2".into(),
        },
    );
    golden.check(
        "append_item_fenced",
        &v1::AppendItem {
            correlation_id: 7,
            fence_token: "writer-2".into(),
            ..v1::AppendItem::default()
        },
    );
    golden.check(
        "list_messages_request_anchored",
        &v1::ListMessagesRequest {
            parent: PARENT.into(),
            start_time: time(1_665_800_000),
            unread_after: Some(41),
            context_before: 10,
            ..v1::ListMessagesRequest::default()
        },
    );
    golden.check(
        "list_messages_response_anchored",
        &v1::ListMessagesResponse {
            prev_page_token: "before".into(),
            anchor_seq: 42,
            ..v1::ListMessagesResponse::default()
        },
    );
    golden.check(
        "conversation_ruled",
        &v1::Conversation {
            fence_token: "writer-2".into(),
            ttl: span(604_800),
            legal_hold: true,
            keys: vec![v1::KeySeq {
                key: "mls-commit".into(),
                last_seq: 300,
            }],
            ..v1::Conversation::default()
        },
    );
    golden.check(
        "update_conversation_request_ruled",
        &v1::UpdateConversationRequest {
            name: PARENT.into(),
            request_id: "r-7".into(),
            fence: Some(v1::Fence {
                token: "writer-2".into(),
                expected_token: Some("writer-1".into()),
            }),
            ttl: span(604_800),
            legal_hold: Some(true),
            ..v1::UpdateConversationRequest::default()
        },
    );
}

fn follows(golden: &mut Golden) {
    golden.check(
        "follow_request",
        &v1::FollowRequest {
            cursor: "cursor".into(),
            add: vec![v1::FollowAdd {
                parent: PARENT.into(),
                start_seq: 7,
            }],
            remove: vec![PARENT.into()],
            more: true,
        },
    );
    let event = |event| v1::FollowEvent { event: Some(event) };
    let gap = v1::FollowGap {
        parent: PARENT.into(),
        min_seq: 42,
    };
    let conversation = v1::Conversation {
        name: PARENT.into(),
        ..v1::Conversation::default()
    };
    golden.check(
        "follow_response",
        &v1::FollowResponse {
            events: vec![
                event(v1::follow_event::Event::Message(message())),
                event(v1::follow_event::Event::Changed(changed_message())),
                event(v1::follow_event::Event::Settings(conversation)),
                event(v1::follow_event::Event::Deleted(PARENT.into())),
                event(v1::follow_event::Event::Trimmed(gap)),
            ],
            cursor: "cursor".into(),
            caught_up: true,
            reconnect: Some(v1::Reconnect { after_ms: 250 }),
        },
    );
}

fn member() -> v1::NodeStatus {
    v1::NodeStatus {
        node_id: 1,
        name: "seoul-1".into(),
        address: "10.0.0.1:7100".into(),
        region: "kr".into(),
        dc: "seoul".into(),
        rack: "r1".into(),
        reachable: true,
        ..v1::NodeStatus::default()
    }
}

fn admin(golden: &mut Golden) {
    // It has no fields; its bytes are none, for now.
    assert_eq!(v1::GetStatusRequest::default().encode_to_vec(), b"");
    golden.check("get_status_response", &status());
    golden.check(
        "node_status_draining",
        &v1::NodeStatus {
            draining: true,
            ..member()
        },
    );
    let join = v1::JoinNodeRequest {
        token: "secret".into(),
        name: "seoul-1".into(),
        address: "10.0.0.1:7100".into(),
        region: "kr".into(),
        dc: "seoul".into(),
        rack: "r1".into(),
        disk_id: Bytes::from_static(&[0xcd; 16]),
        cluster_id: String::new(),
        node_id: 0,
        certificate_request: Bytes::new(),
    };
    golden.check("join_node_request", &join);
    golden.check(
        "node_status_clock_off",
        &v1::NodeStatus {
            clock_off_ms: -2_592_000_000,
            ..v1::NodeStatus::default()
        },
    );
    golden.check(
        "join_node_request_again",
        &v1::JoinNodeRequest {
            cluster_id: "cluster".into(),
            node_id: 7,
            ..join
        },
    );
    golden.check(
        "join_node_request_certificate",
        &v1::JoinNodeRequest {
            name: "seoul-1".into(),
            certificate_request: Bytes::from_static(&[7; 9]),
            ..v1::JoinNodeRequest::default()
        },
    );
    golden.check(
        "relocate_node_request",
        &v1::RelocateNodeRequest {
            node_id: 300,
            region: "kr".into(),
            dc: "seoul".into(),
        },
    );
    golden.check(
        "relocate_node_response",
        &v1::RelocateNodeResponse { epoch: 14 },
    );
    assert_eq!(v1::GetJoinTokenRequest {}.encode_to_vec(), b"");
    golden.check(
        "rotate_join_token_request",
        &v1::RotateJoinTokenRequest { valid_ms: 300 },
    );
    golden.check(
        "join_token",
        &v1::JoinToken {
            token: "secret".into(),
            expires_ms: 300,
            expired: true,
            ..v1::JoinToken::default()
        },
    );
    let listed = || v1::JoinToken {
        expires_ms: 300,
        id: "0a0a0a0a".into(),
        label: "rack 7".into(),
        created_ms: 200,
        node: "busan-2".into(),
        host: "10.0.0.7".into(),
        ..v1::JoinToken::default()
    };
    golden.check("join_token_listed", &listed());
    golden.check(
        "create_join_token_request",
        &v1::CreateJoinTokenRequest {
            label: "rack 7".into(),
            valid_ms: 300,
            node: "busan-2".into(),
            host: "10.0.0.7".into(),
        },
    );
    assert_eq!(v1::ListJoinTokensRequest {}.encode_to_vec(), b"");
    golden.check(
        "list_join_tokens_response",
        &v1::ListJoinTokensResponse {
            tokens: vec![listed()],
        },
    );
    golden.check(
        "revoke_join_token_request",
        &v1::RevokeJoinTokenRequest {
            id: "0a0a0a0a".into(),
        },
    );
    golden.check(
        "revoke_join_token_response",
        &v1::RevokeJoinTokenResponse { epoch: 14 },
    );
    golden.check(
        "join_node_response",
        &v1::JoinNodeResponse {
            cluster_id: "cluster".into(),
            node_id: 7,
            nodes: vec![member()],
            secret: Bytes::new(),
            ..v1::JoinNodeResponse::default()
        },
    );
    golden.check(
        "join_node_response_with_secret",
        &v1::JoinNodeResponse {
            node_id: 7,
            secret: Bytes::from_static(&[9; 32]),
            ..v1::JoinNodeResponse::default()
        },
    );
    golden.check(
        "join_node_response_with_certificate",
        &v1::JoinNodeResponse {
            node_id: 7,
            certificate: "own".into(),
            authorities: "trusted".into(),
            ..v1::JoinNodeResponse::default()
        },
    );
    let policy = || v1::Policy {
        prefer: vec!["seoul".into(), "busan".into()],
        replicas: 5,
        survive: "dc".into(),
    };
    assert_eq!(v1::GetPoliciesRequest {}.encode_to_vec(), b"");
    golden.check(
        "get_policies_response",
        &v1::GetPoliciesResponse {
            default: Some(policy()),
            shards: vec![v1::ShardPolicy {
                shard: 3,
                policy: Some(policy()),
            }],
            map_epoch: 12,
        },
    );
    golden.check(
        "set_policy_request",
        &v1::SetPolicyRequest {
            shard: Some(0),
            policy: Some(policy()),
        },
    );
    let map_epoch = 12;
    golden.check("set_policy_response", &v1::SetPolicyResponse { map_epoch });
    golden.check(
        "set_draining_request",
        &v1::SetDrainingRequest {
            node: "seoul-1".into(),
            dc: "seoul".into(),
            draining: true,
        },
    );
    golden.check(
        "set_draining_response",
        &v1::SetDrainingResponse { map_epoch },
    );
    let place = (
        v1::NodeStatus {
            leaving: true,
            gone_ms: 180_000,
            ..v1::NodeStatus::default()
        },
        v1::ShardStatus {
            degraded_dc: "busan".into(),
            ..v1::ShardStatus::default()
        },
        v1::NodeStats {
            disk_total_bytes: 16_000_000_000,
            ..v1::NodeStats::default()
        },
    );
    golden.check(
        "get_status_response_placing",
        &v1::GetStatusResponse {
            nodes: vec![place.0],
            shards: vec![place.1],
            stats: Some(place.2),
            moves: vec![v1::ReplicaMove {
                shard: 4,
                from: 1,
                to: 300,
                changing: true,
            }],
            unrestored: vec![v1::UnrestoredReplica {
                shard: 4,
                node_id: 1,
                why: "waiting".into(),
            }],
            ..v1::GetStatusResponse::default()
        },
    );
    golden.check(
        "get_status_response_stored",
        &v1::GetStatusResponse {
            stats: Some(v1::NodeStats {
                stored_bytes: 3_000_000_000,
                ..v1::NodeStats::default()
            }),
            ..v1::GetStatusResponse::default()
        },
    );
    let (shard, from, to) = (4, 1, 300);
    golden.check(
        "move_replica_request",
        &v1::MoveReplicaRequest {
            shard,
            from,
            to,
            back: false,
        },
    );
    golden.check(
        "move_replica_response",
        &v1::MoveReplicaResponse { epoch: 13 },
    );
    golden.check(
        "remove_node_request",
        &v1::RemoveNodeRequest {
            node_id: 300,
            stays: true,
        },
    );
    golden.check(
        "remove_node_response",
        &v1::RemoveNodeResponse { epoch: 14 },
    );
    golden.check("hash_replica_request", &v1::HashReplicaRequest { shard: 4 });
    golden.check(
        "hash_replica_response",
        &v1::HashReplicaResponse {
            applied_index: 1_000,
            revision: 70_000,
            conversations: vec![v1::ConversationHash {
                name: PARENT.into(),
                last_seq: 300,
                messages: 299,
                running_hash: Bytes::from_static(&[1; 16]),
                disk_hash: Bytes::from_static(&[2; 16]),
                ..v1::ConversationHash::default()
            }],
        },
    );
}

fn access(golden: &mut Golden) {
    let roles = || vec!["reader".to_owned(), "writer".to_owned()];
    golden.check(
        "who_am_i_response",
        &v1::WhoAmIResponse {
            who: "ann of login".into(),
            tenant: "kakao".into(),
            roles: roles(),
            sender: "ann".into(),
            expires_ms: 1_800_000_000_000,
            auth_required: true,
        },
    );
    let key = || v1::ApiKey {
        id: "0a1b2c3d4e5f".into(),
        label: "chat".into(),
        tenant: "kakao".into(),
        roles: roles(),
        created_ms: 1_700_000_000_000,
        expires_ms: 1_800_000_000_000,
        revoked_ms: 1_750_000_000_000,
    };
    golden.check(
        "create_key_request",
        &v1::CreateKeyRequest {
            label: "chat".into(),
            tenant: "kakao".into(),
            roles: roles(),
            valid_ms: 86_400_000,
        },
    );
    golden.check(
        "create_key_response",
        &v1::CreateKeyResponse {
            key: "fbk_".into(),
            about: Some(key()),
        },
    );
    golden.check(
        "list_keys_response",
        &v1::ListKeysResponse { keys: vec![key()] },
    );
    golden.check(
        "revoke_key_request",
        &v1::RevokeKeyRequest {
            id: "0a1b2c3d4e5f".into(),
        },
    );
    golden.check("revoke_key_response", &v1::RevokeKeyResponse { epoch: 300 });
    let issuer = || v1::Issuer {
        name: "https://login.example".into(),
        audience: "chat".into(),
        keys: vec![v1::IssuerKey {
            kid: "k1".into(),
            key: "pem".into(),
        }],
        tenant: "kakao".into(),
        roles: roles(),
        enforce_sender: true,
    };
    golden.check(
        "set_issuer_request",
        &v1::SetIssuerRequest {
            issuer: Some(issuer()),
        },
    );
    golden.check("set_issuer_response", &v1::SetIssuerResponse { epoch: 300 });
    golden.check(
        "list_issuers_response",
        &v1::ListIssuersResponse {
            issuers: vec![issuer()],
        },
    );
    golden.check(
        "remove_issuer_request",
        &v1::RemoveIssuerRequest {
            name: "login".into(),
        },
    );
    golden.check(
        "remove_issuer_response",
        &v1::RemoveIssuerResponse { epoch: 300 },
    );
    golden.check(
        "read_audit_request",
        &v1::ReadAuditRequest {
            from: 300,
            page_size: 50,
        },
    );
    golden.check(
        "read_audit_response",
        &v1::ReadAuditResponse {
            records: vec![Bytes::from_static(b"record")],
            next: 301,
            first: 2,
            last: 400,
            head: Bytes::from_static(&[7; 32]),
        },
    );
    golden.check(
        "audit_record",
        &v1::AuditRecord {
            format: 1,
            number: 300,
            time_ms: 1_700_000_000_000,
            who: "ann".into(),
            role: "operator".into(),
            what: "policy set".into(),
            target: "default".into(),
            from: "10.0.0.7".into(),
            outcome: "done".into(),
            count: 1,
            node: 3,
            before: Bytes::from_static(&[8; 32]),
        },
    );
}

fn faults(golden: &mut Golden) {
    let drill = || "drill".to_owned();
    let ids = || vec!["a".to_owned()];
    let slow = v1::Fault {
        id: "a".into(),
        kind: "slow".into(),
        peers: vec!["busan-1".into()],
        sends: true,
        hears: true,
        delay_ms: 70,
        jitter_ms: 20,
        loss_ppm: 10_000,
        sync_ms: Some(300),
        lasts_ms: 60_000,
        left_ms: 9_000,
    };
    golden.check(
        "get_status_response_drill",
        &v1::GetStatusResponse {
            drill_address: "10.0.0.1:7199".into(),
            drill_allowed: true,
            faults: vec![v1::Fault {
                id: "a".into(),
                kind: "silence".into(),
                left_ms: 9_000,
                ..v1::Fault::default()
            }],
            ..v1::GetStatusResponse::default()
        },
    );
    golden.check(
        "start_faults_request",
        &v1::StartFaultsRequest {
            drill: drill(),
            faults: vec![slow.clone()],
            ttl_ms: 15_000,
        },
    );
    golden.check(
        "renew_faults_request",
        &v1::RenewFaultsRequest {
            drill: drill(),
            ttl_ms: 15_000,
            ids: ids(),
        },
    );
    golden.check(
        "end_faults_request",
        &v1::EndFaultsRequest {
            drill: drill(),
            ids: ids(),
        },
    );
    golden.check(
        "get_faults_response",
        &v1::GetFaultsResponse {
            drill: drill(),
            faults: vec![slow],
            lever: "pulled".into(),
        },
    );
}

fn status() -> v1::GetStatusResponse {
    v1::GetStatusResponse {
        cluster_id: "cluster".into(),
        node_id: 1,
        node_name: "seoul-1".into(),
        map_epoch: 12,
        nodes: vec![member()],
        shards: vec![v1::ShardStatus {
            shard: 4,
            slot_first: 16_384,
            slot_last: 32_767,
            replicas: vec![1, 4, 300],
            leader: 4,
            term: 9,
            ..v1::ShardStatus::default()
        }],
        replicas: vec![v1::ReplicaStatus {
            shard: 4,
            state: "broken".into(),
            leader: 4,
            term: 9,
            last_log_index: 1_003,
            committed_index: 1_002,
            applied_index: 1_001,
            purged_index: 500,
            revision: 70_000,
            broken_reason: "msgdb/000012.sst".into(),
            leader_history: vec![v1::LeaderTerm { term: 8, leader: 1 }],
            ..v1::ReplicaStatus::default()
        }],
        nodes_expected: 9,
        stats: Some(v1::NodeStats {
            pid: 4_242,
            fsyncs: 10,
            log_bytes: 11_000,
            state_bytes: 12_000,
            appended_messages: 13,
            disk_free_bytes: 14_000_000_000,
            disk_reserve_reached: true,
            uptime_ms: 15_000,
            ..v1::NodeStats::default()
        }),
        ..v1::GetStatusResponse::default()
    }
}

fn vote() -> Option<node::VoteId> {
    Some(node::VoteId {
        term: 9,
        node: 300,
        committed: true,
    })
}

fn log_id(index: u64) -> Option<node::LogId> {
    Some(node::LogId { term: 8, index })
}

fn bodies() -> Vec<(&'static str, Body)> {
    let answer = |result| {
        Body::AppendAnswer(node::AppendAnswer {
            result: Some(result),
            end: None,
        })
    };
    let matched = node::LogId { term: 8, index: 7 };
    let higher = node::VoteId {
        term: 10,
        node: 2,
        committed: false,
    };
    vec![
        (
            "ask_positions",
            Body::AskPositions(node::AskPositions {
                shards: vec![1, 300],
                reader: true,
                ..node::AskPositions::default()
            }),
        ),
        (
            "ask_positions_of_whom_it_follows",
            Body::AskPositions(node::AskPositions {
                shards: vec![1, 300],
                reader: false,
                terms: vec![8, 0],
                heard: Some(node::Stamp {
                    boot_nonce: 77,
                    at_us: 1_000_000,
                }),
            }),
        ),
        (
            "positions",
            Body::Positions(node::Positions {
                shards: vec![1, 300],
                terms: vec![8, 9],
                indexes: vec![7, 70_000],
                leader: 4,
                stamp: None,
            }),
        ),
        (
            "positions_with_a_stamp",
            Body::Positions(node::Positions {
                shards: vec![1],
                terms: vec![8],
                indexes: vec![7],
                leader: 0,
                stamp: Some(node::Stamp {
                    boot_nonce: 77,
                    at_us: 1_000_000,
                }),
            }),
        ),
        (
            "following",
            Body::Following(node::Following {
                shards: vec![1, 300],
                terms: vec![8, 9],
            }),
        ),
        (
            "sleep",
            Body::Sleep(node::Sleep {
                shards: vec![1, 300],
                terms: vec![8, 9],
                indexes: vec![7, 70_000],
            }),
        ),
        (
            "append",
            Body::Append(node::AppendEntries {
                vote: vote(),
                prev: log_id(999),
                entries: vec![node::Entry {
                    id: log_id(1_000),
                    record: Bytes::from_static(b"\x01record"),
                    ..node::Entry::default()
                }],
                commit: log_id(998),
                incarnation: 0,
            }),
        ),
        (
            "append_for_an_incarnation",
            Body::Append(node::AppendEntries {
                vote: vote(),
                incarnation: 7,
                ..node::AppendEntries::default()
            }),
        ),
        (
            "ask_replica",
            Body::AskReplica(node::AskReplica { begin_anew: true }),
        ),
        (
            "replica",
            Body::Replica(node::Replica {
                state: node::replica::State::Runs as i32,
                incarnation: 7,
                end: log_id(1_000),
                why: String::new(),
            }),
        ),
        (
            "ask_scrub",
            Body::AskScrub(node::AskScrub {
                index: 1_000,
                verdict: node::ask_scrub::Verdict::Differs as i32,
            }),
        ),
        (
            "scrubbed",
            Body::Scrubbed(node::Scrubbed {
                state: node::scrubbed::State::Done as i32,
                records: 70_000,
                bytes: 1_000,
                sum: Bytes::from_static(&[1; 16]),
            }),
        ),
        (
            "append_answer_matched",
            answer(append_answer::Result::Matched(matched)),
        ),
        (
            "append_answer_conflict",
            answer(append_answer::Result::Conflict(matched)),
        ),
        (
            "append_answer_conflict_and_end",
            Body::AppendAnswer(node::AppendAnswer {
                result: Some(append_answer::Result::Conflict(matched)),
                end: log_id(5),
            }),
        ),
        (
            "append_answer_higher_vote",
            answer(append_answer::Result::HigherVote(higher)),
        ),
        (
            "append_answer_matched_none",
            answer(append_answer::Result::MatchedNone(true)),
        ),
        (
            "vote",
            Body::Vote(node::Vote {
                vote: vote(),
                last: log_id(1_000),
                pre: true,
                transfer: true,
                incarnation: 0,
            }),
        ),
        (
            "vote_for_an_incarnation",
            Body::Vote(node::Vote {
                vote: vote(),
                incarnation: 7,
                ..node::Vote::default()
            }),
        ),
        (
            "vote_answer",
            Body::VoteAnswer(node::VoteAnswer {
                vote: vote(),
                granted: true,
                last: log_id(1_000),
                read_window_ms: None,
            }),
        ),
        (
            "vote_answer_with_window",
            Body::VoteAnswer(node::VoteAnswer {
                read_window_ms: Some(1_000),
                ..node::VoteAnswer::default()
            }),
        ),
        (
            "transfer",
            Body::Transfer(node::TransferLeader {
                from: vote(),
                to: 2,
                last: log_id(1_000),
                windows_over: false,
            }),
        ),
        (
            "transfer_windows_over",
            Body::Transfer(node::TransferLeader {
                from: vote(),
                to: 2,
                last: log_id(1_000),
                windows_over: true,
            }),
        ),
        (
            "transfer_answer",
            Body::TransferAnswer(node::TransferAnswer {
                accepted: true,
                expected_vote: vote(),
                actual_vote: vote(),
                expected_log: log_id(1_000),
                actual_log: log_id(1_001),
            }),
        ),
        (
            "forward",
            Body::Forward(node::Forward {
                map_epoch: 12,
                timeout_ms: 5_000,
                commands: vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")],
                pass_on: false,
                ..node::Forward::default()
            }),
        ),
        (
            "forward_traced",
            Body::Forward(node::Forward {
                timeout_ms: 5_000,
                commands: vec![Bytes::from_static(b"one")],
                trace: Bytes::from_static(&[7; 24]),
                ..node::Forward::default()
            }),
        ),
        (
            "append_traced",
            Body::Append(node::AppendEntries {
                entries: vec![node::Entry {
                    id: log_id(1_000),
                    record: Bytes::from_static(b"\x01record"),
                    traces: Bytes::from_static(&[7; 48]),
                }],
                ..node::AppendEntries::default()
            }),
        ),
        (
            "forward_to_pass_on",
            Body::Forward(node::Forward {
                timeout_ms: 5_000,
                commands: vec![Bytes::from_static(b"one")],
                pass_on: true,
                ..node::Forward::default()
            }),
        ),
        (
            "forward_answer",
            Body::ForwardAnswer(node::ForwardAnswer {
                replies: vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")],
            }),
        ),
        (
            "ping",
            Body::Ping(node::Ping {
                sent_us: 1_000_000,
                map_epoch: 12,
                mark: 0,
                boot_nonce: 0,
                health: None,
                clock: None,
                read_window_ms: None,
            }),
        ),
        (
            "ping_with_mark",
            Body::Ping(node::Ping {
                sent_us: 1_000_000,
                map_epoch: 12,
                mark: 70_000,
                boot_nonce: 0x0102_0304_0506_0708,
                health: None,
                clock: None,
                read_window_ms: None,
            }),
        ),
        (
            "pong",
            Body::Pong(node::Pong {
                sent_us: 1_000_000,
                map_epoch: 12,
                mark: 0,
                boot_nonce: 0,
                health: None,
                clock: None,
            }),
        ),
        (
            "pong_with_mark",
            Body::Pong(node::Pong {
                sent_us: 1_000_000,
                map_epoch: 12,
                mark: 70_000,
                boot_nonce: 0x0102_0304_0506_0708,
                health: None,
                clock: None,
            }),
        ),
        (
            "ping_with_health",
            Body::Ping(node::Ping {
                health: health(),
                ..node::Ping::default()
            }),
        ),
        (
            "pong_with_health",
            Body::Pong(node::Pong {
                health: health(),
                ..node::Pong::default()
            }),
        ),
        (
            "ping_with_access",
            Body::Ping(node::Ping {
                health: Some(node::Health {
                    access: true,
                    ..node::Health::default()
                }),
                ..node::Ping::default()
            }),
        ),
        (
            "ping_with_clock",
            Body::Ping(node::Ping {
                clock: clock(),
                read_window_ms: Some(0),
                ..node::Ping::default()
            }),
        ),
        (
            "pong_with_clock",
            Body::Pong(node::Pong {
                clock: clock(),
                ..node::Pong::default()
            }),
        ),
        (
            "leads",
            Body::Leads(node::Leads {
                led: vec![node::Led {
                    shard: 300,
                    term: 70_000,
                }],
            }),
        ),
        ("last_log", Body::LastLog(node::LastLog { dead: 300 })),
        (
            "last_log_answer",
            Body::LastLogAnswer(node::LastLogAnswer {
                last: log_id(1_000),
                vote: vote(),
                dead_here_too: true,
            }),
        ),
    ]
}

fn health() -> Option<node::Health> {
    Some(node::Health {
        unreached: vec![3, 300],
        sync_running_ms: 1_500,
        sync_us: 70_000,
        lag_us: 300,
        late_us: 0,
        unfit: Vec::new(),
        room: 0,
        drills: false,
        tenants: false,
        access: false,
    })
}

fn frames(golden: &mut Golden) {
    use failed::Reason;
    let reasons = [
        ("not_leader", Reason::NotLeader),
        ("wrong_shard", Reason::WrongShard),
        ("no_replica", Reason::NoReplica),
        ("overloaded", Reason::Overloaded),
        ("disk_full", Reason::DiskFull),
        ("unknown_outcome", Reason::UnknownOutcome),
        ("stopped", Reason::Stopped),
        ("refused", Reason::Refused),
    ];
    let failures = reasons.map(|(name, reason)| {
        let failed = node::Failed {
            reason: reason as i32,
            leader: 4,
            message: "why".into(),
        };
        (format!("failed_{name}"), Body::Failed(failed))
    });
    let others = bodies()
        .into_iter()
        .map(|(name, body)| (name.to_owned(), body));
    for (name, body) in others.chain(failures) {
        golden.check(
            &format!("frame_{name}"),
            &node::Frames {
                format: 1,
                frames: vec![node::Frame {
                    id: 500,
                    shard: 4,
                    body: Some(body),
                    stream: 600,
                    end: true,
                }],
            },
        );
    }
}

fn clock() -> Option<node::Clock> {
    Some(node::Clock {
        wall_ms: 1_665_800_000_123,
        agreed_ms: 1_665_800_000_000,
        entry_format: 0,
    })
}

fn snapshots_and_views(golden: &mut Golden) {
    use snapshot_chunk::Part;
    let head = node::SnapshotHead {
        format: 1,
        shard: 4,
        vote: vote(),
        last: log_id(1_000),
        membership: Bytes::from_static(b"members"),
        revision: 70_000,
        time_ms: 1_665_800_000_123,
        files: 2,
        passed_ms: 0,
        id: None,
        incarnation: 0,
        entry_format: 0,
    };
    let counted = node::SnapshotHead {
        passed_ms: 86_400_000,
        ..head.clone()
    };
    let end = node::SnapshotFileEnd {
        bytes: 4,
        crc32c: 0xdead_beef,
    };
    for (name, part) in [
        ("head", Part::Head(head)),
        ("head_with_passed", Part::Head(counted)),
        ("data", Part::Data(Bytes::from_static(b"data"))),
        ("file_end", Part::FileEnd(end)),
    ] {
        golden.check(
            &format!("snapshot_chunk_{name}"),
            &node::SnapshotChunk { part: Some(part) },
        );
    }
    golden.check("snapshot_done", &node::SnapshotDone { vote: vote() });
    let place = || node::Place {
        node: 7,
        boot: 300,
        address: "10.0.0.1:7100".into(),
        rack: "r1".into(),
    };
    assert_eq!(node::WhoRequest {}.encode_to_vec(), b"");
    golden.check("place", &place());
    golden.check(
        "who_answer",
        &node::WhoAnswer {
            here: Some(place()),
            others: vec![place()],
        },
    );
    golden.check(
        "watch_cluster_request",
        &node::WatchClusterRequest { known_epoch: 12 },
    );
    golden.check(
        "cluster_view",
        &node::ClusterView {
            state: Bytes::from_static(b"state"),
        },
    );
}
