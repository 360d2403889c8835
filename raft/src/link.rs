//! The way from this node to one other: a single stream that carries the frames of all shards,
//! many to a gRPC message. It connects by itself, keeps trying, and answers pings, so that its
//! state is also what this node knows of the other's being alive. Pings and pongs also tell how far
//! their sender's disk is synced (`hello`).
//!
//! A request has an id and one answer; an append stream has an id and an answer for each frame, in
//! order. When the connection breaks, whatever was unanswered fails at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::Stream;
use model::cluster::ClusterState;
use model::command::Reply;
use model::id::NodeId;
use model::limits;
use parking_lot::Mutex;
use prost::Message;
use proto::net::Channel;
use proto::node as wire;
use proto::node::frame::Body;
use proto::node::peer_client::PeerClient;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::api::ProposeError;
use crate::frame;
use crate::hello::{Hello, Marks};

/// Format of a `Frames` message.
pub(crate) const FORMAT: u32 = 1;
/// Between pings.
const PING_INTERVAL: Duration = Duration::from_millis(250);
/// Without any frame from the other for this long, the connection is given up.
const SILENCE_MAX: Duration = Duration::from_millis(1_200);
/// First and longest pause before connecting again.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// Why a request over a link got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LinkError {
    /// It was never sent.
    #[error("not connected")]
    Down,
    /// It was sent, and the connection broke or the time was up.
    #[error("no answer")]
    NoAnswer,
    /// The other said no.
    #[error("refused: {0}")]
    Refused(String),
}

enum Waiting {
    Once(oneshot::Sender<wire::Frame>),
    Propose(oneshot::Sender<Result<Reply, ProposeError>>),
    Stream(mpsc::UnboundedSender<wire::Frame>),
}

/// The connection there is now, and who waits for answers on it.
#[derive(Default)]
struct Current {
    out: Option<mpsc::Sender<wire::Frame>>,
    waiting: BTreeMap<u64, Waiting>,
    next_id: u64,
}

struct Shared {
    node: NodeId,
    channel: Channel,
    hello: Hello,
    /// Where the other's mark is noted.
    marks: Marks,
    current: Mutex<Current>,
    up: watch::Sender<bool>,
    /// The other's epoch of the cluster's view, as last heard.
    peer_epoch: AtomicU64,
    /// A reset or a refused connection was the last thing heard.
    reset: AtomicBool,
    /// When the last frames came.
    heard: Mutex<Instant>,
}

/// A cheap handle; the connection lives in a task of its own until the last handle is dropped.
#[derive(Clone)]
pub(crate) struct Link {
    shared: Arc<Shared>,
}

impl Link {
    /// Starts connecting. `view` is this node's own, its epoch told in pings; `marks` is told what
    /// the other's pongs say; `refused` hears why the other refuses this node's identity.
    pub(crate) fn start(
        node: NodeId,
        channel: Channel,
        hello: Hello,
        marks: Marks,
        view: watch::Receiver<Arc<ClusterState>>,
        refused: mpsc::UnboundedSender<(NodeId, tonic::Status)>,
    ) -> Link {
        let shared = Arc::new(Shared {
            node,
            channel,
            hello,
            marks,
            current: Mutex::default(),
            up: watch::Sender::new(false),
            peer_epoch: AtomicU64::new(0),
            reset: AtomicBool::new(false),
            heard: Mutex::new(Instant::now()),
        });
        tokio::spawn(keep_connected(Arc::downgrade(&shared), view, refused));
        Link { shared }
    }

    /// The other node.
    pub(crate) fn node(&self) -> NodeId {
        self.shared.node
    }

    /// Whether frames get through, as far as is known.
    pub(crate) fn is_up(&self) -> bool {
        *self.shared.up.borrow()
    }

    /// Changes when the link goes up or down.
    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.shared.up.subscribe()
    }

    /// Whether the other's end was closed or refused, rather than merely silent.
    pub(crate) fn was_reset(&self) -> bool {
        self.shared.reset.load(Ordering::Relaxed)
    }

    /// When the other was last heard: answers on this link; before the first, when it was made.
    pub(crate) fn heard(&self) -> Instant {
        *self.shared.heard.lock()
    }

    /// The other's epoch of the cluster's view, as last heard.
    pub(crate) fn peer_epoch(&self) -> u64 {
        self.shared.peer_epoch.load(Ordering::Relaxed)
    }

    /// The shared channel, for calls that have a stream of their own.
    pub(crate) fn channel(&self) -> Channel {
        self.shared.channel.clone()
    }

    /// What identifies this node to the other.
    pub(crate) fn hello(&self) -> &Hello {
        &self.shared.hello
    }

    /// Registers who waits and sends, in one step, so that a break fails it or never knew it.
    fn send_new(&self, shard: u32, body: Body, waiting: Waiting) -> Result<u64, LinkError> {
        let mut current = self.shared.current.lock();
        current.next_id += 1;
        let id = current.next_id;
        let frame = frame::single(id, shard, body);
        let out = current.out.as_ref();
        if out.is_none_or(|out| out.try_send(frame).is_err()) {
            return Err(LinkError::Down);
        }
        current.waiting.insert(id, waiting);
        Ok(id)
    }

    /// Sends a request and awaits its answer.
    pub(crate) async fn call(
        &self,
        shard: u32,
        body: Body,
        limit: Duration,
    ) -> Result<Body, LinkError> {
        let (answer, answered) = oneshot::channel();
        let id = self.send_new(shard, body, Waiting::Once(answer))?;
        let _forget = Forget {
            shared: &self.shared,
            id,
        };
        match timeout(limit, answered).await {
            Ok(Ok(wire::Frame {
                body: Some(Body::Failed(failed)),
                ..
            })) => Err(LinkError::Refused(failed.message)),
            Ok(Ok(wire::Frame {
                body: Some(body), ..
            })) => Ok(body),
            Ok(Ok(wire::Frame { body: None, .. }) | Err(_)) | Err(_) => Err(LinkError::NoAnswer),
        }
    }

    /// Sends a command to the leader that the other is thought to be. Sent in the order of calls.
    /// Whoever drops the receiver early leaves an entry that the answer, or a break, removes.
    pub(crate) fn propose(
        &self,
        shard: u32,
        forward: wire::Forward,
    ) -> Result<oneshot::Receiver<Result<Reply, ProposeError>>, ProposeError> {
        let (answer, answered) = oneshot::channel();
        self.send_new(shard, Body::Forward(forward), Waiting::Propose(answer))
            .map_err(|_| ProposeError::Unreachable(self.node()))?;
        Ok(answered)
    }

    /// Opens a stream of appends for `shard`; `None` when not connected.
    pub(crate) fn open_stream(&self, shard: u32) -> Option<AppendStream> {
        let (answers, received) = mpsc::unbounded_channel();
        let mut current = self.shared.current.lock();
        let out = current.out.clone()?;
        current.next_id += 1;
        let id = current.next_id;
        current.waiting.insert(id, Waiting::Stream(answers));
        let sender = AppendSender { out, shard, id };
        Some(AppendStream {
            shared: self.shared.clone(),
            sender,
            received,
        })
    }
}

/// Forgets a request when its caller stops waiting.
struct Forget<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.shared.current.lock().waiting.remove(&self.id);
    }
}

/// One shard's stream of appends over one connection; closes when dropped.
pub(crate) struct AppendStream {
    shared: Arc<Shared>,
    sender: AppendSender,
    received: mpsc::UnboundedReceiver<wire::Frame>,
}

/// Sends on an [`AppendStream`] from another task.
#[derive(Clone)]
pub(crate) struct AppendSender {
    out: mpsc::Sender<wire::Frame>,
    shard: u32,
    id: u64,
}

impl AppendStream {
    pub(crate) fn sender(&self) -> AppendSender {
        self.sender.clone()
    }

    /// The next answer; `None` when the connection or the stream is gone.
    pub(crate) async fn next(&mut self) -> Option<wire::Frame> {
        self.received.recv().await
    }
}

impl AppendSender {
    /// Waits for room; `Err` when the connection is gone.
    pub(crate) async fn send(&self, append: wire::AppendEntries) -> Result<(), LinkError> {
        let frame = frame::streamed(self.id, self.shard, Some(Body::Append(append)), false);
        self.out.send(frame).await.map_err(|_| LinkError::NoAnswer)
    }
}

impl Drop for AppendStream {
    fn drop(&mut self) {
        self.shared.current.lock().waiting.remove(&self.sender.id);
        // Best effort: a connection that is gone has closed the stream already.
        let AppendSender { out, shard, id } = &self.sender;
        let _ = out.try_send(frame::streamed(*id, *shard, None, true));
    }
}

/// Connects, again and again, until the last handle is gone.
async fn keep_connected(
    link: Weak<Shared>,
    view: watch::Receiver<Arc<ClusterState>>,
    refused: mpsc::UnboundedSender<(NodeId, tonic::Status)>,
) {
    let mut pause = RECONNECT.0;
    loop {
        let began = Instant::now();
        let ended = connect_once(&link, &view).await;
        let Some(shared) = link.upgrade() else { return };
        shared.break_off();
        if let Err(status) = ended {
            let reset = status.code() != tonic::Code::DeadlineExceeded;
            shared.reset.store(reset, Ordering::Relaxed);
            tracing::debug!(peer = %shared.node, %status, "link down");
            if crate::hello::is_refusal(&status) {
                // Nobody listens only while the node is stopping.
                let _ = refused.send((shared.node, status));
            }
        }
        drop(shared);
        // A connection that held for a while was worth something: short pauses again.
        if began.elapsed() > RECONNECT.1 * 4 {
            pause = RECONNECT.0;
        }
        sleep(pause).await;
        pause = (pause * 2).min(RECONNECT.1);
    }
}

/// One connection, from dialing to its end.
async fn connect_once(
    link: &Weak<Shared>,
    view: &watch::Receiver<Arc<ClusterState>>,
) -> Result<(), tonic::Status> {
    let silent = || tonic::Status::deadline_exceeded("the other node is silent");
    let (out, queue) = mpsc::channel(limits::LINK_QUEUE_MAX);
    let ping = |hello: &Hello| {
        let ping = hello.ping(view.borrow().epoch);
        frame::single(0, 0, Body::Ping(ping))
    };
    let mut answers = {
        let Some(shared) = link.upgrade() else {
            return Ok(());
        };
        // The other answers this one with its first frame.
        let _ = out.try_send(ping(&shared.hello));
        let request = shared.hello.request(batches(queue));
        let mut client = PeerClient::new(shared.channel.clone())
            .max_decoding_message_size(limits::FRAME_BYTES_MAX)
            .max_encoding_message_size(limits::FRAME_BYTES_MAX);
        drop(shared);
        let opened = timeout(SILENCE_MAX, client.link(request)).await;
        opened.map_err(|_| silent())??.into_inner()
    };
    let mut next_ping = Instant::now() + PING_INTERVAL;
    let mut heard = Instant::now();
    let mut out = Some(out);
    loop {
        let answer = tokio::select! {
            biased;
            answer = answers.message() => Some(answer?),
            () = tokio::time::sleep_until(next_ping.min(heard + SILENCE_MAX)) => None,
        };
        let Some(shared) = link.upgrade() else {
            return Ok(());
        };
        match answer {
            Some(Some(batch)) => {
                heard = Instant::now();
                *shared.heard.lock() = heard;
                if let Some(out) = out.take() {
                    shared.go_up(out);
                }
                shared.received(batch);
            }
            Some(None) => {
                return Err(tonic::Status::unavailable("the other node closed the link"));
            }
            None if Instant::now() >= heard + SILENCE_MAX => return Err(silent()),
            None => {
                next_ping = Instant::now() + PING_INTERVAL;
                let current = shared.current.lock();
                if let Some(out) = current.out.as_ref().or(out.as_ref()) {
                    // A full queue is a sign of life of its own kind: the silence will tell.
                    let _ = out.try_send(ping(&shared.hello));
                }
            }
        }
    }
}

impl Shared {
    fn go_up(&self, out: mpsc::Sender<wire::Frame>) {
        self.current.lock().out = Some(out);
        self.reset.store(false, Ordering::Relaxed);
        self.up.send_replace(true);
    }

    fn break_off(&self) {
        {
            let mut current = self.current.lock();
            current.out = None;
            current.waiting.clear();
        }
        self.up.send_replace(false);
    }

    fn received(&self, batch: wire::Frames) {
        let mut current = self.current.lock();
        let waiting = &mut current.waiting;
        for frame in batch.frames {
            if let Some(Body::Pong(pong)) = &frame.body {
                self.peer_epoch.store(pong.map_epoch, Ordering::Relaxed);
                self.marks.note(self.node, pong.boot_nonce, pong.mark);
                continue;
            }
            if frame.stream != 0 {
                let (stream, end) = (frame.stream, frame.end);
                let gone = match waiting.get(&stream) {
                    Some(Waiting::Stream(answers)) => answers.send(frame).is_err() || end,
                    Some(Waiting::Once(_) | Waiting::Propose(_)) | None => false,
                };
                if gone {
                    waiting.remove(&stream);
                }
                continue;
            }
            match waiting.remove(&frame.id) {
                // A receiver that is gone has stopped waiting.
                Some(Waiting::Once(answer)) => drop(answer.send(frame)),
                Some(Waiting::Propose(answer)) => drop(answer.send(reply_of(frame))),
                Some(Waiting::Stream(_)) | None => {}
            }
        }
    }
}

/// Gathers what waits in a queue into one message after the other, without waiting for more.
pub(crate) fn batches(
    queue: mpsc::Receiver<wire::Frame>,
) -> impl Stream<Item = wire::Frames> + Send + 'static {
    futures::stream::unfold((queue, None), |(mut queue, kept)| async move {
        let first: wire::Frame = match kept {
            Some(frame) => frame,
            None => queue.recv().await?,
        };
        let mut bytes = first.encoded_len();
        let mut frames = vec![first];
        let mut kept = None;
        while let Ok(frame) = queue.try_recv() {
            bytes += frame.encoded_len();
            if bytes > limits::LINK_BATCH_BYTES_MAX {
                kept = Some(frame);
                break;
            }
            frames.push(frame);
        }
        Some((
            wire::Frames {
                format: FORMAT,
                frames,
            },
            (queue, kept),
        ))
    })
}

/// Reads the answer to a forwarded command.
fn reply_of(frame: wire::Frame) -> Result<Reply, ProposeError> {
    let shard = model::id::ShardId(frame.shard);
    match frame.body {
        Some(Body::ForwardAnswer(answer)) => answer
            .replies
            .into_iter()
            .next()
            .and_then(|bytes| Reply::decode(bytes).ok())
            .ok_or_else(|| ProposeError::Unknown("the leader's answer could not be read".into())),
        Some(Body::Failed(failed)) => {
            use wire::failed::Reason;
            let leader = (failed.leader != 0).then_some(NodeId(failed.leader));
            Err(match failed.reason() {
                Reason::NotLeader | Reason::NoReplica | Reason::Stopped => {
                    ProposeError::NotLeader { shard, leader }
                }
                Reason::WrongShard => ProposeError::WrongShard,
                Reason::Overloaded => ProposeError::Overloaded,
                Reason::DiskFull => ProposeError::DiskFull,
                Reason::UnknownOutcome | Reason::Unspecified | Reason::Refused => {
                    ProposeError::Unknown(failed.message)
                }
            })
        }
        _ => Err(ProposeError::Unknown(
            "the leader answered something else".into(),
        )),
    }
}
