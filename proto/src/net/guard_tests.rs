//! What the guard takes, what it refuses, and that it gets everything back.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt as _, Stream, StreamExt as _};
use http_body::{Body as _, Frame};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};

use super::*;

struct Plain;

impl Rules for Plain {
    fn say(&self, refused: Refused) -> Status {
        Status::resource_exhausted(format!("{refused:?}"))
    }

    fn takes(&self, path: &str) -> Takes {
        Takes {
            bytes_max: 1_000,
            many: path.ends_with("Stream"),
        }
    }
}

fn guard(change: impl FnOnce(&mut Limits)) -> Guard {
    let mut limits = Limits {
        connections_max: 3,
        connections_spare: 1,
        calls_per_connection_max: 5,
        // Four thousand bytes under way, and calls as many as there are.
        bytes_max: 2_000_000,
        connection_percent: 50,
        address_percent: 75,
        ..Limits::default()
    };
    change(&mut limits);
    Guard::new(limits, Arc::new(Plain))
}

fn ip(last: u8) -> Option<IpAddr> {
    Some(IpAddr::from([10, 0, 0, last]))
}

fn connect(guard: &Guard, last: u8) -> Arc<Connection> {
    guard.connect(ip(last), true).expect("a place")
}

fn begin(connection: &Arc<Connection>, kind: Kind) -> Result<Arc<Call>, Refused> {
    connection.begin(kind, 1_000)
}

#[tokio::test(start_paused = true)]
async fn who_never_said_a_word_goes_first_then_who_was_idle_longest_and_never_who_calls() {
    let guard = guard(|_| {});
    let idle = connect(&guard, 1);
    idle.speaks();
    tokio::time::advance(Duration::from_secs(1)).await;
    let silent = connect(&guard, 2);
    let busy = connect(&guard, 3);
    busy.speaks();
    let call = begin(&busy, Kind::Client).unwrap();
    let fourth = connect(&guard, 4);
    assert!(silent.is_cut() && !idle.is_cut() && !busy.is_cut());
    drop(silent);
    fourth.speaks();
    let fifth = connect(&guard, 5);
    assert!(idle.is_cut() && !fourth.is_cut());
    drop((idle, call));
    let usage = guard.usage();
    assert_eq!((usage.connections, usage.calls), (3, 0));
    drop((busy, fourth, fifth));
    assert_eq!(guard.usage().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn beyond_the_bound_there_is_a_place_for_nodes_and_none_for_clients() {
    let guard = guard(|_| {});
    let busy: Vec<_> = (0..3).map(|i| connect(&guard, i)).collect();
    let calls: Vec<_> = busy.iter().map(|one| begin(one, Kind::Client)).collect();
    let spare = connect(&guard, 9);
    assert_eq!(
        begin(&spare, Kind::Client).err(),
        Some(Refused::Connections(3))
    );
    assert!(begin(&spare, Kind::Peer).is_ok());
    assert!(begin(&spare, Kind::Forwarded).is_ok());
    let peer = begin(&spare, Kind::Peer).unwrap();
    assert!(guard.connect(ip(8), true).is_none(), "nobody is silent");
    drop((peer, calls));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_speaks_is_closed_after_seconds() {
    let guard = guard(|_| {});
    let (silent, speaks) = (connect(&guard, 1), connect(&guard, 2));
    speaks.speaks();
    tokio::time::advance(Duration::from_secs(4)).await;
    guard.sweep(Instant::now());
    assert!(!silent.is_cut());
    tokio::time::advance(Duration::from_secs(1)).await;
    guard.sweep(Instant::now());
    assert!(silent.is_cut() && !speaks.is_cut());
    assert_eq!(guard.usage().connections_closed, 1);
}

#[tokio::test(start_paused = true)]
async fn calls_are_counted_for_the_connection_the_address_and_the_node() {
    let guard = guard(|limits| {
        limits.connections_max = 10;
        limits.bytes_max = 2 * 10 * CALL_BYTES;
    });
    let (one, two, other) = (connect(&guard, 1), connect(&guard, 1), connect(&guard, 2));
    let calls: Vec<_> = (0..5).map(|_| begin(&one, Kind::Client).unwrap()).collect();
    assert_eq!(begin(&one, Kind::Client).err(), Some(Refused::Calls(5)));
    let more: Vec<_> = (0..2).map(|_| begin(&two, Kind::Client).unwrap()).collect();
    assert_eq!(
        begin(&two, Kind::Client).err(),
        Some(Refused::CallsOfAddress(7))
    );
    let last = begin(&other, Kind::Client).unwrap();
    assert_eq!(
        begin(&other, Kind::Client).err(),
        Some(Refused::CallsOfNode(8))
    );
    let nodes: Vec<_> = (0..9).map(|_| begin(&other, Kind::Peer).unwrap()).collect();
    let third = connect(&guard, 3);
    let refused = begin(&third, Kind::Operator).err();
    assert_eq!(refused, Some(Refused::CallsOfNode(10)));
    assert_eq!(guard.usage().calls, 17);
    drop((calls, more, last, nodes));
    assert_eq!(guard.usage().calls, 0);
    assert!(begin(&one, Kind::Client).is_ok());
}

/// A request whose body is what is sent.
fn request(
    path: &str,
) -> (
    futures::channel::mpsc::UnboundedSender<Bytes>,
    Request<Body>,
) {
    let (send, parts) = futures::channel::mpsc::unbounded::<Bytes>();
    let frames = parts.map(|data| Ok::<_, Status>(Frame::data(data)));
    let body = Body::new(Parts(frames));
    (send, Request::builder().uri(path).body(body).unwrap())
}

/// A body of frames as they come.
struct Parts<S>(S);

impl<S: Stream<Item = Result<Frame<Bytes>, Status>> + Unpin> http_body::Body for Parts<S> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.0.poll_next_unpin(context)
    }
}

async fn next(body: &mut Body) -> Option<Result<Bytes, Status>> {
    let frame = futures::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
    frame.map(|frame| frame.map(|frame| frame.into_data().unwrap_or_default()))
}

/// Gives back what it gets.
#[derive(Clone)]
struct Echo(usize);

impl Service<Request<Body>> for Echo {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut answer = Response::new(request.into_body());
        answer.extensions_mut().insert(Weight(self.0));
        std::future::ready(Ok(answer))
    }
}

fn code(answer: &Response<Body>) -> Option<&str> {
    answer
        .headers()
        .get("grpc-status")
        .map(|code| code.to_str().unwrap())
}

const CLIENTS: &str = "/firebreak.v1.Messages/";

#[tokio::test(start_paused = true)]
async fn an_answer_counts_until_it_is_taken_and_goes_when_nobody_takes_it() {
    let guard = guard(|limits| limits.bytes_max = 400_000);
    let connection = guard.connect(ip(1), false).unwrap();
    let mut service = Guarded::new(Echo(90_000), connection.clone());
    let (send, call) = request(&format!("{CLIENTS}AppendStream"));
    let mut answer = service.call(call).await.unwrap().into_body();
    assert_eq!(guard.usage().bytes, 90_000);
    // A message of 900 bytes in a frame, and one of none: both whole.
    let message = [&[0, 0, 0, 3, 132][..], &[7; 900]].concat();
    send.unbounded_send(message.clone().into()).unwrap();
    assert_eq!(next(&mut answer).await.unwrap().unwrap().len(), 905);
    assert_eq!(guard.usage().bytes, 90_000 - 905);
    tokio::time::advance(Duration::from_secs(29)).await;
    guard.sweep(Instant::now());
    assert_eq!(guard.usage().answers_given_up, 0);
    tokio::time::advance(Duration::from_secs(1)).await;
    guard.sweep(Instant::now());
    let usage = guard.usage();
    assert_eq!((usage.answers_given_up, usage.bytes), (1, 0));
    assert!(send.is_closed(), "what made it is gone");
    // Who comes for it after all is told, in trailers.
    assert!(next(&mut answer).await.unwrap().unwrap().is_empty());
    drop(answer);
    assert_eq!(guard.usage().calls, 0);
}

#[tokio::test(start_paused = true)]
async fn where_bytes_are_short_answers_that_nobody_takes_go_before_their_time() {
    let guard = guard(|limits| {
        limits.bytes_max = 400_000;
        limits.connection_percent = 100;
        limits.address_percent = 100;
    });
    let connection = guard.connect(ip(1), false).unwrap();
    let mut service = Guarded::new(Echo(100_000), connection.clone());
    let page = format!("{CLIENTS}ListMessages");
    let (_send, call) = request(&page);
    let first = service.call(call).await.unwrap();
    assert_eq!(code(&first), None);
    let (_send, call) = request(&page);
    let second = service.call(call).await.unwrap();
    assert_eq!(
        code(&second),
        Some("8"),
        "170,000 bytes are all for clients"
    );
    connection.charge(70_000);
    tokio::time::advance(Duration::from_secs(2)).await;
    guard.sweep(Instant::now());
    assert_eq!(guard.usage().bytes, 70_000);
    connection.give(70_000);
    let (_send, call) = request(&page);
    assert_eq!(code(&service.call(call).await.unwrap()), None);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_handed_over_in_pieces_and_counts_until_they_are_written() {
    let guard = guard(|_| {});
    let connection = guard.connect(ip(1), true).unwrap();
    let mut service = Guarded::new(Echo(0), connection.clone());
    let (send, call) = request("/firebreak.node.v1.Peer/Link");
    let mut of_node = service.call(call).await.unwrap().into_body();
    send.unbounded_send(vec![0; 100_000].into()).unwrap();
    assert_eq!(
        next(&mut of_node).await.unwrap().unwrap().len(),
        100_000,
        "as it is"
    );
    connection.wrote(100_000);
    assert_eq!(guard.usage().bytes, 0);

    // Something that its handler encoded.
    let call = begin(&connection, Kind::Client).unwrap();
    let (big, body) = request("/x");
    let mut answer = call.answer(body.into_body(), 0).unwrap();
    let sent: Vec<u8> = (0..=u8::MAX).cycle().take(100_000).collect();
    big.unbounded_send(sent.clone().into()).unwrap();
    drop(big);
    let mut whole = Vec::new();
    while let Some(piece) = next(&mut answer).await {
        let piece = piece.unwrap();
        assert!(piece.len() <= 32 * 1024);
        whole.extend_from_slice(&piece);
        assert_eq!(guard.usage().bytes, 100_000);
    }
    assert!(whole == sent);
    connection.wrote(60_000);
    assert_eq!(guard.usage().bytes, 40_000);
    drop((answer, call));
    // Its end was reset: what HTTP/2 dropped is not written any more.
    guard.sweep(Instant::now());
    assert_eq!(guard.usage().bytes, 32 * 1024, "of the call that is open");
    drop((of_node, service));
    guard.sweep(Instant::now());
    assert_eq!(guard.usage().bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_large_unfinished_or_without_room_ends_its_call() {
    // One percent of a half: a thousand bytes.
    let guard = guard(|limits| {
        limits.bytes_max = 200_000;
        limits.connection_percent = 1;
    });
    let connection = guard.connect(ip(1), false).unwrap();
    let body = |streams: bool| {
        let call = connection.begin(Kind::Client, 1_000).unwrap();
        let (send, request) = request("/x");
        let incoming = call::Incoming::new(request.into_body(), call, streams);
        (send, Body::new(incoming))
    };
    let (send, mut large) = body(false);
    send.unbounded_send(vec![0, 0, 0, 3, 233].into()).unwrap();
    let told = next(&mut large).await.unwrap().unwrap_err();
    assert!(told.message().contains("TooLarge"), "{told}");

    let (send, mut slow) = body(false);
    send.unbounded_send(vec![0, 0, 0, 3, 0, 1].into()).unwrap();
    assert!(next(&mut slow).await.unwrap().is_ok());
    assert_eq!(guard.usage().bytes, 6);
    let begun = Instant::now();
    let told = next(&mut slow).await.unwrap().unwrap_err();
    assert!(told.message().contains("Unfinished"), "{told}");
    assert_eq!(begun.elapsed().as_secs(), 30);
    assert_eq!(guard.usage().bytes, 0, "nothing of it is kept");

    // A thousand bytes are all that a connection may have.
    let part = [&[0, 0, 0, 3, 232][..], &[1; 800]].concat();
    let (one, mut first) = body(false);
    one.unbounded_send(part.clone().into()).unwrap();
    assert!(next(&mut first).await.unwrap().is_ok());
    let (two, mut second) = body(false);
    two.unbounded_send(part.clone().into()).unwrap();
    let told = next(&mut second).await.unwrap().unwrap_err();
    assert!(told.message().contains("BytesOfConnection(1000)"), "{told}");

    // A stream waits until there are some.
    connection.charge(200);
    let (three, mut stream) = body(true);
    three.unbounded_send(vec![0, 0, 0, 0, 1, 9].into()).unwrap();
    assert!(next(&mut stream).now_or_never().is_none());
    drop(first);
    assert!(next(&mut stream).await.unwrap().is_ok());
    connection.give(200);
    drop((large, slow, second, stream, one, two));
    assert_eq!(guard.usage().bytes, 0);
}
