//! What comes over the network may be anything: garbage, half of something, a node of another
//! cluster. None of it stops a node or changes what it holds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it cannot go on"
)]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use firebreak::cluster::Cluster;
use firebreak_tests::{LIMIT, Load, client, cluster};
use proto::node::peer_client::PeerClient;
use proto::node::{Frames, WatchClusterRequest};
use proto::v1;
use proto::v1::messages_client::MessagesClient;
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

fn send(address: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    // The node may close while we still write; that is its right.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = [0; 1024];
    while matches!(stream.read(&mut answer), Ok(n) if n > 0) {}
}

/// Every node runs on in its old process, and messages are still taken.
async fn unharmed(cluster: &mut Cluster, pids: &[u32]) {
    cluster.check().unwrap();
    assert_eq!(cluster.pids(), pids);
    cluster.wait_ready(LIMIT).await.unwrap();
    let load = Load::start(&client(cluster), "after", 6);
    load.more(60).await;
    let ledger = load.stop().await;
    ledger.assert_no_call_failed();
    ledger.assert_kept(&client(cluster)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_cut_off_frames_stop_no_node() {
    let (_place, mut cluster) = cluster(1).await;
    let pids = cluster.pids();
    let mut random = StdRng::seed_from_u64(11);
    let mut garbage = |len: usize| {
        let mut bytes = vec![0; len];
        random.fill_bytes(&mut bytes);
        bytes
    };
    let mut payloads = vec![
        Vec::new(),
        vec![0],
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        PREFACE[..10].to_vec(),
        PREFACE.to_vec(),
        [PREFACE, SETTINGS].concat(),
        // A frame that says it has 16 MiB and has not.
        [
            PREFACE,
            SETTINGS,
            &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1, 1, 2, 3],
        ]
        .concat(),
        // Headers that end in the middle.
        [PREFACE, SETTINGS, &[0, 0, 40, 1, 4, 0, 0, 0, 1, 0x83, 0x86]].concat(),
    ];
    for len in [1, 100, 10_000, 1_000_000] {
        payloads.push(garbage(len));
        payloads.push([PREFACE, SETTINGS, &garbage(len)].concat());
    }
    for address in cluster.addresses() {
        for payload in &payloads {
            send(&address, payload);
        }
    }
    unharmed(&mut cluster, &pids).await;
}

/// Sends bytes as they are where a message belongs.
#[derive(Clone, Copy, Default)]
struct Raw;

impl tonic::codec::Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = usize;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl tonic::codec::Encoder for Raw {
    type Item = Vec<u8>;
    type Error = tonic::Status;

    fn encode(
        &mut self,
        item: Vec<u8>,
        buffer: &mut tonic::codec::EncodeBuf<'_>,
    ) -> Result<(), tonic::Status> {
        bytes::BufMut::put_slice(buffer, &item);
        Ok(())
    }
}

impl tonic::codec::Decoder for Raw {
    type Item = usize;
    type Error = tonic::Status;

    fn decode(
        &mut self,
        buffer: &mut tonic::codec::DecodeBuf<'_>,
    ) -> Result<Option<usize>, tonic::Status> {
        use bytes::Buf as _;
        let len = buffer.remaining();
        buffer.advance(len);
        Ok(Some(len))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_none_are_answered_with_an_error_by_every_method() {
    let (_place, mut cluster) = cluster(1).await;
    let pids = cluster.pids();
    let mut random = StdRng::seed_from_u64(12);
    let whole = prost::Message::encode_to_vec(&v1::AppendMessageRequest {
        parent: "tenants/test/conversations/raw".into(),
        message: Some(v1::Message {
            sender: "s".into(),
            ..v1::Message::default()
        }),
        ..v1::AppendMessageRequest::default()
    });
    let methods = [
        "/firebreak.v1.Messages/AppendMessage",
        "/firebreak.v1.Messages/BatchAppendMessages",
        "/firebreak.v1.Messages/AppendStream",
        "/firebreak.v1.Messages/ListMessages",
        "/firebreak.v1.Messages/Tail",
        "/firebreak.v1.Conversations/CreateConversation",
        "/firebreak.v1.Conversations/GetConversation",
        "/firebreak.v1.Admin/JoinNode",
        "/firebreak.v1.Admin/HashReplica",
        "/firebreak.node.v1.Peer/Link",
        "/firebreak.node.v1.Peer/InstallSnapshot",
        "/firebreak.node.v1.Peer/WatchCluster",
        "/firebreak.v1.Messages/NoSuchMethod",
    ];
    for method in methods {
        let mut payloads: Vec<Vec<u8>> = (1..whole.len())
            .step_by(5)
            .map(|end| whole[..end].to_vec())
            .collect();
        for _ in 0..10 {
            let mut bytes = vec![0; random.random_range(1..300)];
            random.fill_bytes(&mut bytes);
            // A field number of 0 is no message in any schema.
            bytes[0] = 0;
            payloads.push(bytes);
        }
        for payload in payloads {
            let garbage = payload[0] == 0;
            let mut grpc = tonic::client::Grpc::new(cluster.nodes()[0].channel());
            grpc.ready().await.unwrap();
            let path = method.parse().unwrap();
            let call = grpc.unary(Request::new(payload), path, Raw);
            let answer = tokio::time::timeout(LIMIT, call)
                .await
                .expect("is answered in time");
            // Half of a message may by chance be a whole other one; garbage never is.
            assert!(answer.is_err() || !garbage, "{method} took garbage");
        }
    }
    unharmed(&mut cluster, &pids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_another_cluster_or_without_an_identity_is_refused() {
    let (_place, mut cluster) = cluster(1).await;
    let pids = cluster.pids();
    let own = cluster.statuses().await[0].cluster_id.clone();
    let check = async |cluster_id: Option<&str>, disk: &str, expect: &[Code]| {
        let mut peer = PeerClient::new(cluster.nodes()[0].channel());
        let fields = [
            ("firebreak-cluster", cluster_id.unwrap_or_default()),
            ("firebreak-node", "2"),
            ("firebreak-boot", "99"),
            ("firebreak-nonce", "1"),
            ("firebreak-disk", disk),
        ];
        let mut watch = Request::new(WatchClusterRequest { known_epoch: 0 });
        let mut link = Request::new(futures::stream::iter([Frames::default()]));
        for (key, value) in fields.iter().filter(|_| cluster_id.is_some()) {
            watch.metadata_mut().insert(*key, value.parse().unwrap());
            link.metadata_mut().insert(*key, value.parse().unwrap());
        }
        link.metadata_mut()
            .insert("firebreak-to", "1".parse().unwrap());
        let watched = match peer.watch_cluster(watch).await {
            Ok(answers) => answers.into_inner().message().await.err(),
            Err(status) => Some(status),
        };
        let linked = match peer.link(link).await {
            Ok(answers) => answers.into_inner().message().await.err(),
            Err(status) => Some(status),
        };
        for status in [watched, linked] {
            let status = status.expect("a stranger is refused");
            assert!(expect.contains(&status.code()), "{status:?}");
        }
    };
    let disk = "00".repeat(16);
    check(None, &disk, &[Code::Unauthenticated]).await;
    check(Some(&"ab".repeat(16)), &disk, &[Code::PermissionDenied]).await;
    check(Some(&own), &disk, &[Code::Unauthenticated]).await;
    check(Some(&own), "not hex", &[Code::Unauthenticated]).await;

    // A whole cluster whose configuration names this one as its peer stays apart.
    let other = firebreak_tests::cluster(1).await;
    let mut other_cluster = other.1;
    let config = other_cluster.nodes()[0].config.display().to_string();
    let peer = cluster.nodes()[0].address.clone();
    let join = [
        "node",
        "join",
        "--config",
        &config,
        "--token",
        other_cluster.token(),
        "--peer",
        &peer,
    ];
    assert!(!other_cluster.run(&join).unwrap().status.success());
    other_cluster.check().unwrap();
    drop(other_cluster);
    unharmed(&mut cluster, &pids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_request_is_told_everything_that_is_wrong_with_it() {
    let (_place, cluster) = cluster(1).await;
    let mut messages = MessagesClient::new(cluster.nodes()[0].channel());
    let bad = v1::AppendMessageRequest {
        parent: "tenants/x".into(),
        message: Some(v1::Message {
            body: vec![0; 70_000].into(),
            ..v1::Message::default()
        }),
        ..v1::AppendMessageRequest::default()
    };
    let status = messages.append_message(bad).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let details = status.get_error_details();
    let fields: Vec<&str> = details
        .bad_request()
        .expect("the violations are listed")
        .field_violations
        .iter()
        .map(|v| v.field.as_str())
        .collect();
    for part in ["parent", "sender", "client_message_id", "body"] {
        assert!(
            fields.iter().any(|f| f.contains(part)),
            "{part} is not in {fields:?}"
        );
    }
    let unknown = v1::ListMessagesRequest {
        parent: "tenants/test/conversations/nobody-wrote-here".into(),
        ..v1::ListMessagesRequest::default()
    };
    assert_eq!(
        messages.list_messages(unknown).await.unwrap_err().code(),
        Code::NotFound
    );
    let token = v1::ListMessagesRequest {
        parent: "tenants/test/conversations/c".into(),
        page_token: "no token".into(),
        ..v1::ListMessagesRequest::default()
    };
    assert_eq!(
        messages.list_messages(token).await.unwrap_err().code(),
        Code::InvalidArgument
    );
}
