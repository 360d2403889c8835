//! A process has only so much of everything: descriptors, memory, streams. Whoever takes too much of it
//! is refused with a reason, or closed, and nobody else notices.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails where it cannot go on, and looks at real processes on the real clock"
)]

use std::future::poll_fn;
use std::io::Read as _;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use firebreak::cluster::{Cluster, ClusterPlan};
use firebreak_tests::{LIMIT, Load, Place, binary, client};
use http_body::{Body as _, Frame};
use proto::v1;
use proto::v1::messages_client::MessagesClient;
use tokio::time::{Instant, sleep, timeout};
use tonic::body::Body;
use tonic::codegen::Service as _;
use tonic::codegen::http::Request;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

const ROOM: &str = "tenants/test/conversations/room";

/// A cluster whose nodes may open so many descriptors; `settings` are sections of `node.toml`.
async fn limited(nodes: usize, descriptors: u32, settings: &str) -> (Place, Cluster) {
    let place = Place::new();
    let limited = place.path().join("firebreak-limited");
    let program = binary().display().to_string();
    let script = format!("#!/bin/sh\nulimit -n {descriptors}\nexec '{program}' \"$@\"\n");
    std::fs::write(&limited, script).unwrap();
    std::fs::set_permissions(&limited, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut plan = ClusterPlan::three_dcs(place.path(), &limited, 1);
    plan.places.truncate(nodes);
    plan.replicas = if nodes < 3 { 1 } else { 3 };
    plan.settings = settings.to_owned();
    let cluster = Cluster::start(plan).await.expect("the cluster comes up");
    (place, cluster)
}

/// The memory that a node has, bytes.
fn memory(cluster: &Cluster, node: usize) -> u64 {
    let pid = cluster.nodes()[node].pid().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

/// What a status says of it.
fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info();
    info.unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"))
        .reason
        .clone()
}

fn message(id: &str, body: Bytes) -> v1::AppendMessageRequest {
    v1::AppendMessageRequest {
        parent: ROOM.into(),
        message: Some(v1::Message {
            sender: "ann".into(),
            client_message_id: id.into(),
            r#type: "text".into(),
            body,
            ..v1::Message::default()
        }),
        ..v1::AppendMessageRequest::default()
    }
}

/// A connection of its own to a node.
async fn connect(cluster: &Cluster, node: usize, window: Option<u32>) -> Channel {
    let address = format!("http://{}", cluster.nodes()[node].address);
    let endpoint = Endpoint::from_shared(address).unwrap();
    let endpoint = match window {
        None => endpoint,
        Some(window) => endpoint.initial_stream_window_size(window),
    };
    endpoint.connect().await.unwrap()
}

fn is_open(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let mut into = [0; 4096];
    loop {
        match stream.read(&mut into) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
}

const LIMITS: &str = "[limits]\ndisk_reserve_percent = 0\n";

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_take_nothing_from_those_who_talk() {
    let (_place, mut cluster) = limited(3, 256, LIMITS).await;
    let pids = cluster.pids();
    let load = Load::start(&client(&cluster), "talk", 6);
    load.more(30).await;
    let mut silent: Vec<TcpStream> = Vec::new();
    for address in cluster.addresses() {
        // More than the node may open.
        silent.extend((0..400).map_while(|_| TcpStream::connect(&address).ok()));
    }
    load.more(300).await;
    let ledger = load.stop().await;
    ledger.assert_no_call_failed();
    cluster.check().unwrap();
    assert_eq!(cluster.pids(), pids, "no node was started again");
    ledger.assert_kept(&client(&cluster)).await;
    timeout(LIMIT, async {
        while silent.iter_mut().any(is_open) {
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .expect("all of them are closed");
    let statuses = cluster.statuses().await;
    for stats in statuses.iter().filter_map(|status| status.stats.as_ref()) {
        let of_connections = stats.resources.iter().find(|one| one.name == "connections");
        assert!(of_connections.unwrap().refused > 0, "{stats:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_call_after_the_last_is_refused_with_a_reason_and_at_once() {
    let settings = "[limits]\ndisk_reserve_percent = 0\ncalls_per_connection_max = 20\n";
    let (_place, cluster) = limited(1, 1_024, settings).await;
    let mut messages = MessagesClient::new(connect(&cluster, 0, None).await);
    messages
        .append_message(message("1", Bytes::new()))
        .await
        .unwrap();
    let mut tails = Vec::new();
    for _ in 0..20 {
        let tail = v1::TailRequest {
            parent: ROOM.into(),
            start_seq: 1,
            ..v1::TailRequest::default()
        };
        tails.push(messages.tail(tail).await.unwrap().into_inner());
    }
    let begun = Instant::now();
    let refused = messages
        .append_message(message("2", Bytes::new()))
        .await
        .unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::ResourceExhausted, "TOO_MANY_CALLS")
    );
    assert!(refused.get_error_details().retry_info().is_some());
    // Another connection has room, and so has this one when a call of it ends.
    let mut other = MessagesClient::new(connect(&cluster, 0, None).await);
    other
        .append_message(message("2", Bytes::new()))
        .await
        .unwrap();
    tails.pop();
    timeout(LIMIT, async {
        while messages
            .append_message(message("3", Bytes::new()))
            .await
            .is_err()
        {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
}

/// A body whose message says that it has `has` bytes, of which some come and then no more.
struct Unfinished {
    head: Option<Bytes>,
    parts: usize,
}

const PART: &[u8] = &[0; 64 * 1024];

impl Unfinished {
    fn new(has: u32, sends: usize) -> Unfinished {
        Unfinished {
            head: Some([&[0][..], &has.to_be_bytes()].concat().into()),
            parts: sends / PART.len(),
        }
    }
}

impl http_body::Body for Unfinished {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(head) = self.head.take() {
            return Poll::Ready(Some(Ok(Frame::data(head))));
        }
        if self.parts == 0 {
            return Poll::Pending;
        }
        self.parts -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(PART)))))
    }
}

/// The status that a call ends with; it must end in time.
async fn status_of(channel: &mut Channel, method: &str, body: Unfinished) -> Option<Status> {
    poll_fn(|context| channel.poll_ready(context))
        .await
        .unwrap();
    let request = Request::post(format!("http://node/firebreak.v1.Messages/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(body))
        .unwrap();
    let response = timeout(LIMIT, channel.call(request))
        .await
        .expect("in time")
        .ok()?;
    let (head, mut body) = response.into_parts();
    if let Some(status) = Status::from_header_map(&head.headers) {
        return Some(status);
    }
    loop {
        let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context));
        let frame = timeout(LIMIT, frame).await.expect("in time")?;
        if let Ok(trailers) = frame.ok()?.into_trailers() {
            return Status::from_header_map(&trailers);
        }
    }
}

/// A node with little memory for what is under way, and patience for a second.
const LITTLE: &str =
    "[limits]\ndisk_reserve_percent = 0\nnetwork_mb = 32\nreceive_ms = 1000\ntake_ms = 1000\n";
/// What all that is under way may make it grow, bytes: its 32 MiB, what an allocator adds, and what
/// HTTP/2 holds of a connection before anybody reads it.
const GROWTH_MAX: u64 = 96 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_never_end_take_little_memory_and_are_told_why() {
    let (_place, mut cluster) = limited(1, 1_024, LITTLE).await;
    let mut messages = MessagesClient::new(connect(&cluster, 0, None).await);
    messages
        .append_message(message("1", Bytes::new()))
        .await
        .unwrap();
    let before = memory(&cluster, 0);
    let channel = connect(&cluster, 0, None).await;
    let calls = |method: &'static str, has: u32| {
        let channel = channel.clone();
        let all = (0..100).map(move |_| {
            let mut channel = channel.clone();
            async move { status_of(&mut channel, method, Unfinished::new(has, 15 << 20)).await }
        });
        futures::future::join_all(all)
    };
    // None: the connection's flow control ended it first.
    for status in calls("AppendMessage", 16_777_206)
        .await
        .into_iter()
        .flatten()
    {
        assert_eq!(reason(&status), "REQUEST_TOO_LARGE");
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    let mut seen = std::collections::BTreeSet::new();
    let stream = calls("AppendStream", 16_777_206).await;
    for status in stream.into_iter().flatten() {
        seen.insert(reason(&status));
    }
    // Together they are more than the node has room for; which comes first, its room or their time, is chance.
    let told = ["NODE_OVERLOADED", "REQUEST_UNFINISHED"];
    assert!(!seen.is_empty(), "nobody was told");
    assert!(
        seen.iter().all(|reason| told.contains(&reason.as_str())),
        "{seen:?}"
    );
    // One alone has the room, and a second to come whole.
    let mut alone = connect(&cluster, 0, None).await;
    let unfinished = Unfinished::new(16_777_206, 64 << 10);
    let status = status_of(&mut alone, "AppendStream", unfinished).await;
    assert_eq!(reason(&status.expect("is told")), "REQUEST_UNFINISHED");
    let growth = memory(&cluster, 0).saturating_sub(before);
    assert!(growth < GROWTH_MAX, "{growth} bytes more");
    messages
        .append_message(message("2", Bytes::new()))
        .await
        .unwrap();
    cluster.check().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_takes_take_little_memory_and_are_dropped() {
    let (_place, mut cluster) = limited(1, 1_024, LITTLE).await;
    let mut messages = MessagesClient::new(connect(&cluster, 0, None).await);
    for batch in 0..4 {
        let body = Bytes::from(vec![7; 60_000]);
        let one = |i: usize| {
            message(&format!("{batch}-{i}"), body.clone())
                .message
                .unwrap()
        };
        let batch = v1::BatchAppendMessagesRequest {
            parent: ROOM.into(),
            messages: (0..15).map(one).collect(),
            precondition: None,
        };
        messages.batch_append_messages(batch).await.unwrap();
    }
    let before = memory(&cluster, 0);
    // Answers fit into no window, so that none of them is ever taken.
    let channel = connect(&cluster, 0, Some(1)).await;
    let page = || v1::ListMessagesRequest {
        parent: ROOM.into(),
        page_size: 1_000,
        ..v1::ListMessagesRequest::default()
    };
    let mut pages = Vec::new();
    let mut refused = 0;
    for _ in 0..200 {
        let mut messages = MessagesClient::new(channel.clone());
        let call = async move { messages.list_messages(page()).await };
        pages.push(tokio::spawn(call));
    }
    let mut tails = Vec::new();
    for _ in 0..200 {
        let mut messages = MessagesClient::new(channel.clone());
        let tail = v1::TailRequest {
            parent: ROOM.into(),
            start_seq: 1,
            ..v1::TailRequest::default()
        };
        // The head of the answer comes; what follows is not taken.
        match timeout(LIMIT, messages.tail(tail)).await.expect("in time") {
            Ok(answer) => tails.push(answer),
            Err(status) => {
                assert_eq!(reason(&status), "NODE_OVERLOADED");
                refused += 1;
            }
        }
    }
    let mut given_up = 0;
    timeout(LIMIT, async {
        loop {
            let status = cluster.statuses().await.remove(0);
            let resources = status.stats.unwrap().resources;
            let bytes = resources
                .iter()
                .find(|one| one.name == "bytes under way")
                .unwrap();
            assert!(bytes.used <= bytes.max, "{bytes:?}");
            given_up = given_up.max(bytes.refused);
            if given_up > 0 && bytes.used < bytes.max / 2 {
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .expect("they are given up");
    let growth = memory(&cluster, 0).saturating_sub(before);
    assert!(
        growth < GROWTH_MAX,
        "{growth} bytes more; {refused} refused"
    );
    messages
        .list_messages(page())
        .await
        .expect("others are served");
    for page in pages {
        page.abort();
    }
    cluster.check().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_messages_are_wrong_plain_clients_can_read_the_answer() {
    let (_place, cluster) = limited(1, 1_024, LIMITS).await;
    let mut messages = MessagesClient::new(connect(&cluster, 0, None).await);
    let batch = v1::BatchAppendMessagesRequest {
        parent: ROOM.into(),
        messages: vec![v1::Message::default(); 1_000],
        precondition: None,
    };
    let status = messages.batch_append_messages(batch).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::InvalidArgument, "INVALID_FIELDS")
    );
    // What the smallest of the usual clients takes is 8 KiB, and details travel in base64.
    assert!(
        status.details().len() * 4 / 3 < 8 * 1024,
        "{}",
        status.details().len()
    );
    assert_eq!(
        status.get_error_details().error_info().unwrap().metadata["violations"],
        "3000"
    );
}
