//! Answers in odd places: each says what is so, at once, and a call that is not one is refused.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it cannot go on"
)]

use std::time::Duration;

use firebreak_tests::{LIMIT, cluster};
use futures::StreamExt as _;
use model::id::ConversationName;
use model::session::Token;
use proto::v1;
use proto::v1::messages_client::MessagesClient;
use proto::v1::read_options::Level;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;

const ROOM: &str = "tenants/test/conversations/room";

fn append(id: &str) -> v1::AppendMessageRequest {
    v1::AppendMessageRequest {
        parent: ROOM.to_owned(),
        message: Some(v1::Message {
            sender: "ann".into(),
            client_message_id: id.into(),
            r#type: "text".into(),
            ..v1::Message::default()
        }),
        ..v1::AppendMessageRequest::default()
    }
}

fn within<T>(limit: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

fn is(status: &Status, code: Code, reason: &str) {
    let details = status.get_error_details();
    let found = details.error_info().map(|info| info.reason.as_str());
    assert_eq!((status.code(), found), (code, Some(reason)), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ahead_of_everything_is_told_as_one_through_every_node() {
    let (_place, cluster) = cluster(1).await;
    let mut first = MessagesClient::new(cluster.nodes()[0].channel());
    let appended = first.append_message(within(LIMIT, append("1"))).await;
    let good = appended.unwrap().into_inner().info.unwrap().session_token;
    let slot = ConversationName::parse(ROOM).unwrap().key().slot();
    let ahead = Token::of(slot, 1_000_000).encode();
    for node in cluster.nodes() {
        let mut messages = MessagesClient::new(node.channel());
        for level in [Level::Session, Level::Linearizable] {
            let list = |token: &str| v1::ListMessagesRequest {
                parent: ROOM.to_owned(),
                read: Some(v1::ReadOptions {
                    level: level.into(),
                    session_token: token.to_owned(),
                    ..v1::ReadOptions::default()
                }),
                ..v1::ListMessagesRequest::default()
            };
            let refused = messages.list_messages(within(LIMIT, list(&ahead))).await;
            is(
                &refused.unwrap_err(),
                Code::FailedPrecondition,
                "SESSION_AHEAD",
            );
            let page = messages.list_messages(within(LIMIT, list(&good))).await;
            assert_eq!(page.unwrap().into_inner().last_seq, 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_nobody_can_have_given_ends_its_tail_with_the_reason() {
    let (_place, cluster) = cluster(1).await;
    let mut first = MessagesClient::new(cluster.nodes()[0].channel());
    first
        .append_message(within(LIMIT, append("1")))
        .await
        .unwrap();
    let name = ConversationName::parse(ROOM).unwrap();
    let start = v1::TailRequest {
        parent: ROOM.to_owned(),
        start_seq: 1,
        ..v1::TailRequest::default()
    };
    let mut events = first.tail(start).await.unwrap().into_inner();
    let right = events.next().await.unwrap().unwrap().cursor;
    let right = server::token::Token::decode(&right, true, name.key()).unwrap();
    for node in cluster.nodes() {
        let mut messages = MessagesClient::new(node.channel());
        for (cursor, code, reason) in [
            (
                server::token::Token {
                    next_seq: 1_000,
                    ..right
                },
                Code::OutOfRange,
                "AHEAD_OF_HEAD",
            ),
            (
                server::token::Token {
                    next_seq: u64::MAX,
                    ..right
                },
                Code::OutOfRange,
                "AHEAD_OF_HEAD",
            ),
            (
                server::token::Token {
                    incarnation: right.incarnation + 1,
                    ..right
                },
                Code::FailedPrecondition,
                "OTHER_INCARNATION",
            ),
        ] {
            let request = v1::TailRequest {
                parent: ROOM.to_owned(),
                cursor: cursor.encode(),
                ..v1::TailRequest::default()
            };
            let told = async {
                match messages.tail(request).await {
                    Ok(events) => events.into_inner().message().await.unwrap_err(),
                    Err(status) => status,
                }
            };
            let told = tokio::time::timeout(LIMIT, told).await;
            is(&told.expect("is told, not silent"), code, reason);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_ids_and_deadlines_have_one_rule_whichever_way_they_come() {
    let (_place, cluster) = cluster(1).await;
    let mut messages = MessagesClient::new(cluster.nodes()[0].channel());
    let with = |change: fn(&mut v1::Message)| {
        let mut request = append("odd");
        change(request.message.as_mut().unwrap());
        request
    };
    for (what, request) in [
        (
            "C0 in the sender",
            with(|m| m.sender = "a\u{1b}[31m".into()),
        ),
        ("C1 in the sender", with(|m| m.sender = "a\u{9b}31m".into())),
        ("NEL in the type", with(|m| m.r#type = "t\u{85}".into())),
        (
            "an override in the id",
            with(|m| m.client_message_id = "a\u{202e}b".into()),
        ),
        (
            "NUL in an attribute",
            with(|m| drop(m.attributes.insert("k\0".into(), "v".into()))),
        ),
        (
            "ESC in an attribute",
            with(|m| drop(m.attributes.insert("k".into(), "\u{1b}c".into()))),
        ),
        (
            "an import's id",
            with(|m| m.client_message_id = "import:1".into()),
        ),
    ] {
        let message = request.message.clone().unwrap();
        let batch = v1::BatchAppendMessagesRequest {
            parent: ROOM.to_owned(),
            messages: vec![message.clone()],
            ..v1::BatchAppendMessagesRequest::default()
        };
        let frame = v1::AppendStreamRequest {
            items: vec![v1::AppendItem {
                correlation_id: 1,
                parent: ROOM.to_owned(),
                message: Some(message),
                timeout_ms: 0,
                ..v1::AppendItem::default()
            }],
        };
        let alone = messages.append_message(request).await.unwrap_err();
        is(&alone, Code::InvalidArgument, "INVALID_FIELDS");
        let batched = messages.batch_append_messages(batch).await.unwrap_err();
        is(&batched, Code::InvalidArgument, "INVALID_FIELDS");
        let stream = messages.append_stream(futures::stream::iter([frame])).await;
        let answer = stream
            .unwrap()
            .into_inner()
            .message()
            .await
            .unwrap()
            .unwrap();
        match &answer.results[0].outcome {
            Some(v1::append_result::Outcome::Error(error)) => {
                assert_eq!(error.reason, "INVALID_FIELDS", "{what}");
            }
            other => panic!("{what}: {other:?}"),
        }
    }
    let mut import = Request::new(append("import:1"));
    import
        .metadata_mut()
        .insert(proto::IMPORT, "1".parse().unwrap());
    messages.append_message(import).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unary_call_that_is_sent_a_second_message_is_refused_and_does_nothing() {
    let (_place, cluster) = cluster(1).await;
    let channel = cluster.nodes()[0].channel();
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let path = "/firebreak.v1.Messages/AppendMessage".parse().unwrap();
    let codec: ProstCodec<v1::AppendMessageRequest, v1::AppendMessageResponse> =
        ProstCodec::default();
    let two = futures::stream::iter([append("1"), append("2")]);
    let refused = grpc.client_streaming(Request::new(two), path, codec).await;
    is(
        &refused.unwrap_err(),
        Code::InvalidArgument,
        "SECOND_MESSAGE",
    );
    let list = v1::ListMessagesRequest {
        parent: ROOM.to_owned(),
        ..v1::ListMessagesRequest::default()
    };
    let none = MessagesClient::new(channel).list_messages(list).await;
    is(&none.unwrap_err(), Code::NotFound, "CONVERSATION_NOT_FOUND");
}
