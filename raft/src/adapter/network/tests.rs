//! A leader's client against a replica over loopback TCP that answers when it is told to.

use std::collections::BTreeSet;

use futures::stream::BoxStream;
use model::cluster::{ClusterState, Node};
use openraft::EntryPayload;
use proto::net::{Network as _, Tcp};
use proto::node::peer_server::{Peer, PeerServer};
use store::engine::memory::Memory;
use store::{Log, Position};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::*;
use crate::adapter::fault::Fault;
use crate::adapter::log_store::Traced;
use crate::adapter::types::LogId;
use crate::api::{Identity, Secret};
use crate::link::Reach;
use crate::link::frame;
use crate::link::hello::{Doorkeeper, Hello};
use crate::link::vitals::Vitals;
use crate::link::whereabouts::Whereabouts;
use crate::time::Steady;

const PATIENCE: Duration = Duration::from_secs(30);
const ME: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);
const TERM: u64 = 3;
/// Where the leader's log was cut.
const CUT: u64 = 5;

/// A replica that never sleeps.
struct Awake;

impl Wake for Awake {
    fn wake(&self) {}
}

/// A replica that hears of no read window.
struct NoWindows;

impl ReadWindows for NoWindows {
    fn told(&self, _: u64, _: Duration) {}

    fn gave_up(&self, _: u64) -> bool {
        false
    }
}

/// A replica whose appends arrive at the test, which says what is answered.
struct Scripted {
    /// Who answers.
    hello: Hello,
    arrived: mpsc::UnboundedSender<(wire::Frame, mpsc::UnboundedSender<wire::Frame>)>,
}

#[tonic::async_trait]
impl Peer for Scripted {
    type LinkStream = BoxStream<'static, Result<wire::Frames, Status>>;
    type WatchClusterStream = BoxStream<'static, Result<wire::ClusterView, Status>>;
    type CopySnapshotStream = BoxStream<'static, Result<wire::SnapshotCame, Status>>;

    async fn link(
        &self,
        request: Request<Streaming<wire::Frames>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let (out, answers) = mpsc::unbounded_channel();
        let arrived = self.arrived.clone();
        tokio::spawn(async move {
            let mut incoming = request.into_inner();
            while let Ok(Some(batch)) = incoming.message().await {
                for frame in batch.frames {
                    let _ = match frame.body {
                        Some(Body::Ping(ping)) => {
                            let pong = Body::Pong(wire::Pong {
                                sent_us: ping.sent_us,
                                ..wire::Pong::default()
                            });
                            out.send(frame::single(frame.id, 0, pong)).is_ok()
                        }
                        Some(Body::Append(_)) => arrived.send((frame, out.clone())).is_ok(),
                        _ => false,
                    };
                }
            }
        });
        let frames = UnboundedReceiverStream::new(answers).map(|frame| {
            Ok(wire::Frames {
                format: crate::link::FORMAT,
                frames: vec![frame],
            })
        });
        Ok(self.hello.response(frames.boxed()))
    }

    async fn install_snapshot(
        &self,
        _: Request<Streaming<wire::SnapshotChunk>>,
    ) -> Result<Response<wire::SnapshotDone>, Status> {
        Err(Status::unimplemented("not in this script"))
    }

    async fn copy_snapshot(
        &self,
        _: Request<Streaming<wire::SnapshotChunk>>,
    ) -> Result<Response<Self::CopySnapshotStream>, Status> {
        Err(Status::unimplemented("not in this script"))
    }

    async fn watch_cluster(
        &self,
        _: Request<wire::WatchClusterRequest>,
    ) -> Result<Response<Self::WatchClusterStream>, Status> {
        Err(Status::unimplemented("not in this script"))
    }

    async fn who(&self, _: Request<wire::WhoRequest>) -> Result<Response<wire::WhoAnswer>, Status> {
        Err(Status::unimplemented("not in this script"))
    }
}

struct Script {
    client: Client,
    acks: Arc<Acks>,
    arrived: mpsc::UnboundedReceiver<(wire::Frame, mpsc::UnboundedSender<wire::Frame>)>,
}

async fn script() -> Script {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let incoming = Tcp.listen(&address).await.unwrap();
    let (sender, arrived) = mpsc::unbounded_channel();
    let service = PeerServer::new(Scripted {
        hello: Hello::new(Arc::new(identity(OTHER)), written()),
        arrived: sender,
    });
    tokio::spawn(async move {
        let server = tonic::transport::Server::builder().add_service(service);
        server.serve_with_incoming(incoming).await
    });
    let view = watch::Sender::new(Arc::default());
    let (refused, _) = mpsc::unbounded_channel();
    let (log, _writer) = Log::open(Arc::new(Memory::new())).unwrap();
    let shard_log = log.shard(ShardId(1)).unwrap();
    drop(shard_log.purge(Position {
        term: TERM,
        index: CUT,
    }));
    let vitals = Vitals::of_tests(ME, log.clone());
    let places = Whereabouts::open(log.clone()).unwrap();
    let hello = Hello::new(Arc::new(identity(ME)), log);
    let doorkeeper = Doorkeeper::open("c1".into(), ME, Secret::default(), written()).unwrap();
    let (doorkeeper, dialer) = (Arc::new(doorkeeper), Tcp.dialer());
    let view = view.subscribe();
    let queued = Arc::default();
    let events = Arc::new(crate::api::Nobody);
    let peers = Peers::new(
        ME, dialer, places, hello, doorkeeper, vitals, view, queued, refused, events,
    );
    let links = peers.update(&ClusterState {
        nodes: vec![Node {
            id: OTHER.0,
            address,
            disk_id: vec![2; 16].into(),
            ..Node::default()
        }],
        ..ClusterState::default()
    });
    let mut up = links[0].watch();
    timeout(PATIENCE, up.wait_for(|reach| *reach == Reach::Up))
        .await
        .unwrap()
        .unwrap();
    let acks = Arc::new(Acks::default());
    let traced = Traced::new(ME, ShardId(1), Arc::new(crate::api::Nobody));
    let store = LogStore::open(shard_log, Arc::new(|| None), Fault::new(), traced).unwrap();
    let group = Network {
        shard: ShardId(1),
        peers,
        acks: acks.clone(),
        windows: Arc::new(NoWindows),
        log: store,
        granted: Arc::default(),
        place: Arc::new(Place::new(ME, 0)),
        timers: Arc::new(Awake),
    };
    let client = Client {
        group,
        target: OTHER,
        incarnation: 0,
        told: None,
    };
    Script {
        client,
        acks,
        arrived,
    }
}

fn identity(node: NodeId) -> Identity {
    Identity {
        cluster_id: "c1".into(),
        node,
        name: node.to_string(),
        disk_id: [u8::try_from(node.0).unwrap(); 16],
        boot: 1,
        boot_nonce: 1,
        address: "here:1".into(),
        rack: String::new(),
        secret: Secret::default(),
    }
}

/// A log whose writer runs.
fn written() -> Log {
    let (log, writer) = Log::open(Arc::new(Memory::new())).unwrap();
    tokio::spawn(writer);
    log
}

fn id(index: u64) -> LogId {
    types::log_id(Position { term: TERM, index })
}

/// An append behind entry 1 of the entries up to `last`.
fn append(last: u64) -> AppendEntriesRequest<Types> {
    AppendEntriesRequest {
        vote: Vote::new_committed(TERM, ME.0),
        prev_log_id: Some(id(1)),
        entries: (2..=last)
            .map(|index| types::Entry {
                log_id: id(index),
                payload: EntryPayload::Blank,
            })
            .collect(),
        leader_commit: None,
    }
}

impl Script {
    async fn arrived(&mut self) -> (wire::Frame, mpsc::UnboundedSender<wire::Frame>) {
        timeout(PATIENCE, self.arrived.recv())
            .await
            .unwrap()
            .unwrap()
    }

    fn now(&self) -> Steady {
        self.client.group.peers.vitals().time().now()
    }

    fn acked_at(&self) -> Option<Steady> {
        let config = BTreeSet::from([ME.0, OTHER.0]);
        self.acks
            .quorum_acked_at(TERM, &[ME], &[config], self.now())
    }
}

/// The answer to a frame of a stream.
fn answer(frame: &wire::Frame, result: StreamAppendResult<Types>) -> wire::Frame {
    let body = Body::AppendAnswer(types::append_answer_to_wire(result));
    frame::streamed(frame.stream, frame.shard, Some(body), false)
}

#[tokio::test]
async fn the_answer_to_an_entry_says_nothing_of_an_empty_append_sent_after_it() {
    let mut script = script().await;
    let (requests, queue) = mpsc::unbounded_channel();
    let mut results = script
        .client
        .pipeline(UnboundedReceiverStream::new(queue))
        .unwrap();
    let begun = script.now();
    requests.send(append(2)).unwrap();
    let (first, out) = script.arrived().await;
    let between = script.now();
    let empty = AppendEntriesRequest {
        prev_log_id: Some(id(2)),
        ..append(1)
    };
    requests.send(empty).unwrap();
    let (second, _) = script.arrived().await;
    assert_eq!(script.acked_at(), None);

    // Both have the same last log id.
    out.send(answer(&first, Ok(Some(id(2))))).unwrap();
    let result = timeout(PATIENCE, results.next()).await.unwrap().unwrap();
    assert_eq!(result.unwrap().unwrap(), Some(id(2)));
    let acked = script.acked_at().unwrap();
    assert!(begun <= acked && acked <= between, "as of the first");

    out.send(answer(&second, Ok(Some(id(2))))).unwrap();
    timeout(PATIENCE, results.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(between <= script.acked_at().unwrap(), "as of the second");
}

#[tokio::test]
async fn a_conflict_confirms_its_leader_and_a_higher_vote_does_not() {
    let mut script = script().await;
    for (result, confirms) in [
        (
            Err(StreamAppendError::HigherVote(Vote::new(TERM + 1, OTHER.0))),
            false,
        ),
        (Err(StreamAppendError::Conflict(id(1))), true),
    ] {
        let queue = futures::stream::iter([append(2)]).chain(futures::stream::pending());
        let mut results = script.client.pipeline(queue).unwrap();
        let (frame, out) = script.arrived().await;
        out.send(answer(&frame, result)).unwrap();
        let result = timeout(PATIENCE, results.next()).await.unwrap().unwrap();
        assert!(result.unwrap().is_err());
        assert_eq!(script.acked_at().is_some(), confirms);
    }
}

/// What openraft learns of a replica that gave no vote, and that answers so when it is asked for
/// entry 7, where the leader's log ended when it stood.
async fn found(
    result: StreamAppendResult<Types>,
    end: Option<LogId>,
) -> Vec<StreamAppendResult<Types>> {
    let mut script = script().await;
    let granted = script.client.group.granted.clone();
    granted.stands(&Vote::new(TERM, ME.0), Some(id(7)));
    let (requests, queue) = mpsc::unbounded_channel();
    requests.send(append(8)).unwrap();
    let search = tokio::spawn(async move {
        let option = RPCOption::new(PATIENCE);
        let queue = UnboundedReceiverStream::new(queue);
        let results = script.client.stream_append(queue, option).await.unwrap();
        results.map(Result::unwrap).collect::<Vec<_>>().await
    });
    let arrived = timeout(PATIENCE, script.arrived.recv()).await.unwrap();
    let (frame, out) = arrived.unwrap();
    let Some(Body::Append(question)) = frame.body else {
        panic!("an append was expected");
    };
    assert_eq!(question.prev.as_ref().map(|prev| prev.index), Some(7));
    assert!(question.entries.is_empty());
    let body = Body::AppendAnswer(wire::AppendAnswer {
        end: end.as_ref().map(types::log_id_to_wire),
        ..types::append_answer_to_wire(result)
    });
    out.send(frame::single(frame.id, frame.shard, body))
        .unwrap();
    timeout(PATIENCE, search).await.unwrap().unwrap()
}

#[tokio::test]
async fn who_gave_no_vote_is_asked_for_the_end_of_its_log_instead_of_searched() {
    let behind = Err(StreamAppendError::Conflict(id(8)));
    let longer = found(Ok(Some(id(7))), None).await;
    assert_eq!(longer, [Ok(Some(id(7))), behind.clone()]);
    let shorter = found(Err(StreamAppendError::Conflict(id(7))), Some(id(CUT))).await;
    assert_eq!(shorter, [Ok(Some(id(CUT))), behind]);
}

#[tokio::test]
async fn a_commit_between_two_steps_of_the_search_costs_no_round_and_a_heartbeat_is_sent() {
    let mut script = script().await;
    let granted = script.client.group.granted.clone();
    granted.stands(&Vote::new(TERM, ME.0), Some(id(9)));
    granted.note(OTHER, &Vote::new(TERM, ME.0), Some(id(9)));
    let mut heartbeats = Client {
        group: script.client.group.clone(),
        target: OTHER,
        incarnation: 0,
        told: None,
    };
    let commit = AppendEntriesRequest {
        prev_log_id: Some(id(4)),
        ..append(1)
    };
    for (request, answer) in [
        (append(4), Ok(Some(id(4)))),
        (commit.clone(), Ok(Some(id(4)))),
        (commit.clone(), Ok(Some(id(4)))),
    ] {
        let queue = futures::stream::iter([request]);
        let option = RPCOption::new(PATIENCE);
        let results = script.client.stream_append(queue, option).await.unwrap();
        let results: Vec<_> = results.map(Result::unwrap).collect().await;
        assert_eq!(results, [answer]);
    }
    assert!(script.arrived.try_recv().is_err(), "nothing was sent");

    let beat = tokio::spawn(async move {
        let queue = futures::stream::iter([commit]);
        let option = RPCOption::new(PATIENCE);
        drop(heartbeats.stream_append(queue, option).await);
    });
    let (frame, _) = script.arrived().await;
    assert!(matches!(frame.body, Some(Body::Append(_))));
    beat.abort();
}

#[tokio::test]
async fn a_heartbeat_confirms_as_of_a_moment_before_it_was_sent() {
    let mut script = script().await;
    let begun = script.now();
    let client = Client {
        group: script.client.group.clone(),
        target: OTHER,
        incarnation: 0,
        told: None,
    };
    let beat = tokio::spawn(async move {
        let option = RPCOption::new(PATIENCE);
        client.append(append(1), &option).await
    });
    let (frame, out) = script.arrived().await;
    let arrived = script.now();
    assert_eq!(script.acked_at(), None);
    let body = Body::AppendAnswer(types::append_answer_to_wire(Ok(Some(id(1)))));
    out.send(frame::single(frame.id, frame.shard, body))
        .unwrap();
    timeout(PATIENCE, beat)
        .await
        .unwrap()
        .unwrap()
        .unwrap()
        .unwrap();
    let acked = script.acked_at().unwrap();
    assert!(begun <= acked && acked <= arrived);
}

#[tokio::test]
async fn answers_that_cannot_be_are_errors_and_reach_nobody() {
    let mut script = script().await;
    let leaps = Vote::new_committed(u64::MAX, OTHER.0);
    for result in [
        Err(StreamAppendError::HigherVote(leaps)),
        Ok(Some(id(3))),
        Err(StreamAppendError::Conflict(id(7))),
    ] {
        let queue = futures::stream::iter([append(2)]).chain(futures::stream::pending());
        let mut results = script.client.pipeline(queue).unwrap();
        let (frame, out) = script.arrived().await;
        out.send(answer(&frame, result)).unwrap();
        let result = timeout(PATIENCE, results.next()).await.unwrap().unwrap();
        assert!(matches!(result, Err(RPCError::Network(_))), "{result:?}");
    }
    assert_eq!(script.acked_at(), None);
}
