//! The way from this node to one other: a single stream that carries the frames of all shards,
//! many to a gRPC message. It connects by itself, keeps trying, and answers pings, so that its
//! state is also what this node knows of the other's being alive. Pings and pongs also tell how far
//! their sender's disk is synced (`hello`).
//!
//! A request has an id and one answer; an append stream has an id and an answer for each frame, in
//! order. When the connection breaks, whatever was unanswered fails at once.
//!
//! ```text
//!              first frame                silent for the limit (crate::link::rtt)
//!   New ─────────────────────► Up ──────────────────────────────────────────► Gone
//!                             ▲  │ reset, closed                             ▲  │
//!                             │  ▼                       refused, or silent  │  │
//!                             │ Doubted ─────────────────────────────────────┘  │
//!                             └──────────────── first frame ────────────────────┘
//! ```
//!
//! A reset is evidence, but of a connection: boxes between the nodes reset them too. So it is tried
//! again at once, and what a living node answers within a round or two decides.

pub(crate) mod frame;
pub(crate) mod hello;
pub(crate) mod out;
pub(crate) mod outbox;
mod pace;
pub(crate) mod peers;
pub(crate) mod pulse;
pub(crate) mod rtt;
pub(crate) mod vitals;
pub(crate) mod whereabouts;
pub(crate) mod windows;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::Stream;
use model::cluster::{ClusterState, Node};
use model::command::Reply;
use model::id::NodeId;
use model::limits;
use parking_lot::Mutex;
use prost::Message;
use proto::net::{Channel, Dialer};
use proto::node as wire;
use proto::node::frame::Body;
use proto::node::peer_client::PeerClient;
use tokio::sync::{MutexGuard, Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};
use tonic::metadata::MetadataMap;

use crate::api::ProposeError;
use crate::link::hello::{Doorkeeper, Hello, Proof};
use crate::link::outbox::{Closed, Outbox};
use crate::link::pulse::Moment;
use crate::link::rtt::{PING_INTERVAL, Rtt, STALL};
use crate::link::vitals::Vitals;
use crate::link::whereabouts::{Hint, Whereabouts};
use crate::time::Steady;

/// Format of a `Frames` message.
pub(crate) const FORMAT: u32 = 1;
/// Pings whose answers are waited for, to tell their time from.
const TIMED_MAX: usize = 256;
/// How often it is looked whether a request has arrived, whose answer has a time limit from then on.
const ARRIVAL_LOOK: Duration = Duration::from_millis(250);
/// First and longest pause before connecting again to a node that is gone.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));
/// Attempts in a row that must fail behind a reset connection: the first may still find the end of
/// the old one. One that nobody listens to suffices.
const REFUSED_GONE: u32 = 2;
/// Between these.
const REFUSED_PAUSE: Duration = Duration::from_millis(25);
/// On top of two rounds for a connection behind a reset one, whatever is left of the limit.
const AGAIN_MIN: Duration = Duration::from_millis(100);

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

/// What this node knows of the other's being alive; see the module's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It has not been reached yet.
    New,
    /// Frames get through.
    Up,
    /// The connection broke a moment ago, and it has not said no to another yet.
    Doubted,
    /// It does not answer.
    Gone {
        /// It refuses connections, rather than being silent.
        reset: bool,
    },
}

/// A ping whose answer is waited for.
struct Timed {
    /// What it says.
    sent_us: u64,
    /// When it was sent, to count waking time from.
    awake: Moment,
    /// The same, of the steady clock.
    sent: Steady,
    /// One of those that go out at intervals, from which the limit of silence is told.
    regular: bool,
}

/// The connection there is now, and who waits for answers on it.
#[derive(Default)]
struct Current {
    out: Option<Arc<Outbox>>,
    waiting: BTreeMap<u64, Waiting>,
    next_id: u64,
}

/// Where the other is looked for.
struct Spot {
    address: String,
    channel: Channel,
    /// The latest start of the other that was known of when this was chosen.
    boot: u64,
}

struct Shared {
    node: NodeId,
    /// As the cluster knows it: what answers must prove to be it.
    member: Node,
    dialer: Dialer,
    whereabouts: Whereabouts,
    spot: Mutex<Spot>,
    /// Changes when the other is looked for elsewhere: what leads to the place before ends.
    moved: watch::Sender<()>,
    hello: Hello,
    /// Whether the other counts, and where its mark is noted.
    doorkeeper: Arc<Doorkeeper>,
    /// This node's own, whose epoch pings tell.
    view: watch::Receiver<Arc<ClusterState>>,
    /// How the others do is noted there.
    vitals: Vitals,
    current: Mutex<Current>,
    reach: watch::Sender<Reach>,
    /// What pings tell their time from.
    began: Instant,
    rtt: Mutex<Rtt>,
    /// Pings of this connection that tell how long a round takes.
    timed: Mutex<VecDeque<Timed>>,
    /// When something came last, or was last begun to be waited for.
    heard: Mutex<Moment>,
    /// The other's epoch of the cluster's view, as last heard.
    peer_epoch: AtomicU64,
    /// When the last frames came.
    answered: Mutex<Moment>,
    /// Told when the other connects to this node: it is there.
    knocked: Arc<Notify>,
    /// Snapshots go to it one after the other.
    snapshots: tokio::sync::Mutex<()>,
}

/// A cheap handle; the connection lives in a task of its own until the last handle is dropped.
#[derive(Clone)]
pub(crate) struct Link {
    shared: Arc<Shared>,
}

impl Link {
    /// Starts connecting to where `member` is, by what `whereabouts` knows. `view` is this
    /// node's own, its epoch told in pings; `doorkeeper` says whether it is that one who answers, and is
    /// told what its pongs say of its disk, `vitals` what they say of its health; `refused` hears why the
    /// other refuses this node's identity.
    ///
    /// # Errors
    /// When there is no usable address.
    #[allow(
        clippy::too_many_arguments,
        reason = "what all links of a node share, once"
    )]
    pub(crate) fn start(
        member: Node,
        dialer: Dialer,
        whereabouts: Whereabouts,
        hello: Hello,
        doorkeeper: Arc<Doorkeeper>,
        vitals: Vitals,
        view: watch::Receiver<Arc<ClusterState>>,
        refused: mpsc::UnboundedSender<(NodeId, tonic::Status)>,
    ) -> std::io::Result<Link> {
        let node = NodeId(member.id);
        let hints = whereabouts.hints(node);
        let best = hints.first().ok_or(std::io::ErrorKind::AddrNotAvailable)?;
        let spot = Spot {
            channel: dialer.dial(&best.address)?,
            address: best.address.clone(),
            boot: best.boot,
        };
        let shared = Arc::new(Shared {
            node,
            member,
            dialer,
            whereabouts,
            spot: Mutex::new(spot),
            moved: watch::Sender::default(),
            hello,
            doorkeeper,
            view,
            current: Mutex::default(),
            reach: watch::Sender::new(Reach::New),
            began: Instant::now(),
            rtt: Mutex::default(),
            timed: Mutex::default(),
            heard: Mutex::new(vitals.pulse().now()),
            peer_epoch: AtomicU64::new(0),
            answered: Mutex::new(vitals.pulse().now()),
            knocked: Arc::default(),
            snapshots: tokio::sync::Mutex::default(),
            vitals,
        });
        tokio::spawn(keep_connected(Arc::downgrade(&shared), refused));
        Ok(Link { shared })
    }

    /// Where the other is looked for now.
    pub(crate) fn address(&self) -> String {
        self.shared.address()
    }

    /// Something was heard of where the other is. One that is reached is left where it is, unless it
    /// says itself, or the cluster, that it has started elsewhere since: what answers is then an old
    /// process.
    pub(crate) fn look_again(&self) {
        let hints = self.shared.whereabouts.hints(self.node());
        let up = self.is_up();
        let boot = self.shared.spot.lock().boot;
        let newer = |hint: &&Hint| !up || hint.sure && hint.boot > boot;
        if let Some(hint) = hints.iter().find(newer)
            && self.shared.go_to(hint)
        {
            self.knock();
        }
    }

    /// The other node.
    pub(crate) fn node(&self) -> NodeId {
        self.shared.node
    }

    /// The other has connected to this node: if this link waits to try again, it does so now.
    pub(crate) fn knock(&self) {
        self.shared.knocked.notify_waiters();
    }

    /// Whether frames get through, as far as is known.
    pub(crate) fn is_up(&self) -> bool {
        *self.shared.reach.borrow() == Reach::Up
    }

    /// What is known of the other's being alive, and when that changes.
    pub(crate) fn watch(&self) -> watch::Receiver<Reach> {
        self.shared.reach.subscribe()
    }

    /// Whether this node holds the other alive. Not any more when the silence is within a ping's
    /// interval of its limit: who asks has reached it, and the phases of pings differ by that much.
    pub(crate) fn seems_alive(&self) -> bool {
        match *self.shared.reach.borrow() {
            Reach::Up => {
                let shared = &self.shared;
                shared.silence() + PING_INTERVAL < shared.silence_max()
                    || shared.vitals.pulse().unsettled().is_some()
            }
            Reach::Doubted => true,
            Reach::New | Reach::Gone { .. } => false,
        }
    }

    /// What a round to the other takes at most, as it usually is.
    pub(crate) fn round(&self) -> Duration {
        self.shared.rtt.lock().round()
    }

    /// What a round to the other usually takes, when that has been measured.
    pub(crate) fn usual_round(&self) -> Option<Duration> {
        self.shared.rtt.lock().usual_round()
    }

    /// Sends what has no answer; lost when not connected.
    pub(crate) fn tell(&self, body: Body) {
        if let Some(out) = &self.shared.current.lock().out {
            let _ = out.put(frame::single(0, 0, body));
        }
    }

    /// For how long no frames have come from the other, in time that this process was awake; before
    /// the first, since the link was made.
    pub(crate) fn unheard_for(&self) -> Duration {
        let answered = *self.shared.answered.lock();
        self.shared.vitals.pulse().awake_since(answered)
    }

    /// The other's epoch of the cluster's view, as last heard.
    pub(crate) fn peer_epoch(&self) -> u64 {
        self.shared.peer_epoch.load(Ordering::Relaxed)
    }

    /// The shared channel, for calls that have a stream of their own.
    pub(crate) fn channel(&self) -> Channel {
        self.shared.channel()
    }

    /// Whether an answer with this metadata, of a call of its own, is the other's, on the disk that it
    /// should have. A version that does not say so is known by its link.
    pub(crate) async fn admit(&self, metadata: &MetadataMap) -> Result<(), tonic::Status> {
        let Shared {
            doorkeeper,
            member,
            view,
            ..
        } = &*self.shared;
        let now = view.borrow().clone();
        let proof = doorkeeper.admit_answerer(member, metadata, &now).await;
        proof.map(drop)
    }

    /// Waits for its turn to send a snapshot; it lasts until what this gives is dropped.
    pub(crate) async fn snapshot_turn(&self) -> MutexGuard<'_, ()> {
        self.shared.snapshots.lock().await
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
        if out.is_none_or(|out| out.put(frame).is_err()) {
            return Err(LinkError::Down);
        }
        current.waiting.insert(id, waiting);
        Ok(id)
    }

    /// Waits until `bytes` that can wait may be sent on a stream of their own.
    ///
    /// # Errors
    /// [`LinkError::Down`] when the connection is not there, or breaks meanwhile.
    pub(crate) async fn send_bulk(&self, bytes: u64) -> Result<(), LinkError> {
        let out = self.shared.current.lock().out.clone();
        let out = out.ok_or(LinkError::Down)?;
        let ping = || self.shared.ping(true, false);
        out.send_bulk(bytes, ping)
            .await
            .map_err(|Closed| LinkError::Down)
    }

    /// How large a piece of what can wait should be now, bytes.
    pub(crate) fn piece_bytes(&self) -> u64 {
        let out = self.shared.current.lock().out.clone();
        out.map_or(0, |out| out.piece_bytes())
    }

    /// As [`Link::call`], for entries, which go behind what waits: the limit counts from when they
    /// have arrived. Until then the link's silence is the limit.
    pub(crate) async fn call_with_entries(
        &self,
        shard: u32,
        append: wire::AppendEntries,
        limit: Duration,
    ) -> Result<Body, LinkError> {
        let (answer, mut answered) = oneshot::channel();
        let (out, id) = {
            let mut current = self.shared.current.lock();
            let out = current.out.clone().ok_or(LinkError::Down)?;
            current.next_id += 1;
            let id = current.next_id;
            current.waiting.insert(id, Waiting::Once(answer));
            (out, id)
        };
        let _forget = Forget {
            shared: &self.shared,
            id,
        };
        let frame = frame::single(id, shard, Body::Append(append));
        let put = out.put_entries(frame, false).await;
        let position = put.map_err(|Closed| LinkError::NoAnswer)?;
        while !out.has_arrived(position) {
            if let Ok(answered) = timeout(ARRIVAL_LOOK.min(limit), &mut answered).await {
                return body_of(answered);
            }
        }
        match timeout(limit, answered).await {
            Ok(answered) => body_of(answered),
            Err(_) => Err(LinkError::NoAnswer),
        }
    }

    /// Sends a request and awaits its answer, no longer than `limit`; who stood still at its end looks
    /// into its sockets first.
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
        match self.shared.vitals.pulse().within(limit, answered).await {
            Some(answered) => body_of(answered),
            None => Err(LinkError::NoAnswer),
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

/// What an answer holds.
fn body_of(answered: Result<wire::Frame, oneshot::error::RecvError>) -> Result<Body, LinkError> {
    match answered.map(|frame| frame.body) {
        Ok(Some(Body::Failed(failed))) => Err(LinkError::Refused(failed.message)),
        Ok(Some(body)) => Ok(body),
        Ok(None) | Err(_) => Err(LinkError::NoAnswer),
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
    out: Arc<Outbox>,
    shard: u32,
    id: u64,
}

impl AppendStream {
    pub(crate) fn sender(&self) -> AppendSender {
        self.sender.clone()
    }

    /// Whether what stood at a position is known to have arrived.
    pub(crate) fn has_arrived(&self, position: u64) -> bool {
        self.sender.out.has_arrived(position)
    }

    /// The next answer; `None` when the connection or the stream is gone.
    pub(crate) async fn next(&mut self) -> Option<wire::Frame> {
        self.received.recv().await
    }
}

impl AppendSender {
    /// Waits for room; `bulk` are entries that can wait. Where they stand in what is sent.
    ///
    /// # Errors
    /// [`Closed`] when the connection is gone.
    pub(crate) async fn send(
        &self,
        append: wire::AppendEntries,
        bulk: bool,
    ) -> Result<u64, Closed> {
        let frame = frame::streamed(self.id, self.shard, Some(Body::Append(append)), false);
        self.out.put_entries(frame, bulk).await
    }

    /// How large a piece of what can wait should be now, bytes.
    pub(crate) fn piece_bytes(&self) -> u64 {
        self.out.piece_bytes()
    }
}

impl Drop for AppendStream {
    fn drop(&mut self) {
        self.shared.current.lock().waiting.remove(&self.sender.id);
        // Best effort: a connection that is gone has closed the stream already.
        let AppendSender { out, shard, id } = &self.sender;
        let _ = out.put(frame::streamed(*id, *shard, None, true));
    }
}

/// Connects, again and again, until the last handle is gone.
async fn keep_connected(
    link: Weak<Shared>,
    refused: mpsc::UnboundedSender<(NodeId, tonic::Status)>,
) {
    let mut pause = RECONNECT.0;
    let mut refusals = 0;
    loop {
        let Some(tried) = link.upgrade().map(|shared| shared.address()) else {
            return;
        };
        let ended = connect_once(&link).await;
        let Some(shared) = link.upgrade() else { return };
        let before = shared.break_off();
        let Err(status) = ended else { return };
        tracing::debug!(peer = %shared.node, %status, "link down");
        let silent = status.code() == tonic::Code::DeadlineExceeded;
        let refused_at_once = never_connected(&status);
        if crate::link::hello::is_refusal(&status) {
            // Nobody listens only while the node is stopping.
            let _ = refused.send((shared.node, status));
        }
        refusals = if before == Reach::Up { 0 } else { refusals + 1 };
        let next = match before {
            Reach::New => Reach::New,
            Reach::Up if !silent => Reach::Doubted,
            Reach::Doubted if !silent && !refused_at_once && refusals < REFUSED_GONE => {
                Reach::Doubted
            }
            Reach::Up | Reach::Doubted => Reach::Gone { reset: !silent },
            Reach::Gone { .. } => before,
        };
        let moved = shared.address() != tried;
        if next == before && !moved {
            shared.look_elsewhere();
        }
        shared.turn(next);
        let knocked = shared.knocked.clone();
        drop(shared);
        match (before, next) {
            _ if moved => {}
            (Reach::Up, Reach::Doubted) => {}
            (_, Reach::Doubted) => sleep(REFUSED_PAUSE).await,
            (Reach::Up | Reach::Doubted, _) => {
                let _ = timeout(RECONNECT.0, knocked.notified()).await;
                pause = RECONNECT.0;
            }
            (Reach::New | Reach::Gone { .. }, _) => {
                // Cut short, or not.
                let _ = timeout(pause, knocked.notified()).await;
                pause = (pause * 2).min(RECONNECT.1);
            }
        }
    }
}

/// Whether the machine of the other said no to a connection, for want of a listener.
fn never_connected(status: &tonic::Status) -> bool {
    let first = std::error::Error::source(status);
    let mut sources = std::iter::successors(first, |error| error.source());
    sources.any(|error| error.is::<tonic::ConnectError>())
}

/// One connection, from dialing to its end; `Ok` when the last handle is gone.
async fn connect_once(link: &Weak<Shared>) -> Result<(), tonic::Status> {
    let silent = || tonic::Status::deadline_exceeded("the other node is silent");
    let elsewhere = || tonic::Status::unavailable("the other node is looked for elsewhere");
    let outbox = Arc::new(Outbox::default());
    let _closed = CloseOnDrop(outbox.clone());
    let (mut answers, vitals, mut moved, mut proof) = {
        let Some(shared) = link.upgrade() else {
            return Ok(());
        };
        let mut moved = shared.moved.subscribe();
        let limit = shared.begin();
        // The other answers this one with its first frame. It waits for the connection, so its
        // time says nothing about a round.
        let _ = outbox.put(shared.ping(false, false));
        let frames = batches(outbox.clone(), link.clone());
        let request = shared.hello.request_to(shared.node, frames);
        let mut client = PeerClient::new(shared.channel())
            .max_decoding_message_size(limits::FRAME_BYTES_MAX)
            .max_encoding_message_size(limits::FRAME_BYTES_MAX);
        let (vitals, door) = (shared.vitals.clone(), shared.doorkeeper.clone());
        let (member, view) = (shared.member.clone(), shared.view.clone());
        drop(shared);
        let opened = tokio::select! {
            biased;
            _ = moved.changed() => return Err(elsewhere()),
            opened = vitals.pulse().timeout(limit, client.link(request)) => opened,
        };
        let opened = opened.ok_or_else(silent)??;
        // Before anything that it says counts.
        let now = view.borrow().clone();
        let proof = door
            .admit_answerer(&member, opened.metadata(), &now)
            .await?;
        (opened.into_inner(), vitals, moved, proof)
    };
    let mut next_ping = Instant::now() + PING_INTERVAL;
    let mut out = Some(outbox.clone());
    loop {
        let Some(left) = link.upgrade().map(|shared| shared.silence_left()) else {
            return Ok(());
        };
        let wake = next_ping.min(Instant::now() + left);
        let answer = tokio::select! {
            biased;
            // The sender lives in the link.
            _ = moved.changed() => return Err(elsewhere()),
            answer = answers.message() => Some(answer?),
            () = tokio::time::sleep_until(wake) => None,
        };
        let Some(shared) = link.upgrade() else {
            return Ok(());
        };
        match answer {
            Some(Some(batch)) if batch.frames.len() > wire::FRAMES_MAX => {
                return Err(tonic::Status::out_of_range(
                    "too many frames in one message",
                ));
            }
            Some(Some(batch)) => {
                let now = vitals.pulse().now();
                *shared.heard.lock() = now;
                if proof == Proof::Later && shared.is_proven_by(&batch) {
                    proof = Proof::Given;
                }
                if proof == Proof::Later {
                    continue;
                }
                *shared.answered.lock() = now;
                if let Some(out) = out.take() {
                    shared.go_up(out);
                }
                shared.received(batch);
            }
            Some(None) => {
                return Err(tonic::Status::unavailable("the other node closed the link"));
            }
            None if shared.silence_left().is_zero() => return Err(silent()),
            None if Instant::now() >= next_ping => {
                next_ping = Instant::now() + PING_INTERVAL;
                let _ = outbox.put(shared.ping(out.is_none(), true));
            }
            None => {}
        }
    }
}

/// Ends what waits for a connection with it, so that who waits for room there learns of it.
struct CloseOnDrop(Arc<Outbox>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Shared {
    fn address(&self) -> String {
        self.spot.lock().address.clone()
    }

    fn channel(&self) -> Channel {
        self.spot.lock().channel.clone()
    }

    /// Looks for the other at a place; whether that is another than now.
    fn go_to(&self, hint: &Hint) -> bool {
        {
            let mut spot = self.spot.lock();
            spot.boot = spot.boot.max(hint.boot);
            if spot.address == hint.address {
                return false;
            }
            // Only usable addresses are kept.
            let Ok(channel) = self.dialer.dial(&hint.address) else {
                return false;
            };
            tracing::debug!(peer = %self.node, from = %spot.address, to = %hint.address,
                "looking for a node elsewhere");
            spot.address.clone_from(&hint.address);
            spot.channel = channel;
        }
        self.moved.send_replace(());
        true
    }

    /// Nobody answers as the other where it is looked for: it is looked for at the next place, round
    /// and round.
    fn look_elsewhere(&self) {
        let hints = self.whereabouts.hints(self.node);
        let here = self.spot.lock().address.clone();
        let at = hints.iter().position(|hint| hint.address == here);
        let next = at.map_or(0, |at| (at + 1) % hints.len());
        if let Some(hint) = hints.get(next) {
            let _moved = self.go_to(hint);
        }
    }

    /// A ping, with the time when it is to say how long a round takes; `regular` are those that go out
    /// at intervals.
    fn ping(&self, timed: bool, regular: bool) -> wire::Frame {
        let sent_us = if timed { self.now_us() } else { 0 };
        if timed {
            let mut pings = self.timed.lock();
            pings.push_back(Timed {
                sent_us,
                awake: self.vitals.pulse().now(),
                sent: self.vitals.time().now(),
                regular,
            });
            if pings.len() > TIMED_MAX {
                pings.pop_front();
            }
        }
        let map_epoch = self.view.borrow().epoch;
        let ping = self.hello.ping(sent_us, map_epoch, &self.vitals);
        frame::single(0, 0, Body::Ping(ping))
    }

    /// The ping that said `sent_us`, if its time was to be told.
    fn ping_of(&self, sent_us: u64) -> Option<Timed> {
        let mut pings = self.timed.lock();
        // Answers come in the order of pings.
        pings.retain(|ping| ping.sent_us >= sent_us);
        pings.pop_front_if(|ping| ping.sent_us == sent_us)
    }

    /// Microseconds since the link began; never 0.
    fn now_us(&self) -> u64 {
        let us = self.began.elapsed().as_micros();
        u64::try_from(us).unwrap_or(u64::MAX).max(1)
    }

    /// How long the other may be silent. Its rounds are measured without the time in which this
    /// process stood still, which may be more than what is allowed for on top.
    fn silence_max(&self) -> Duration {
        let late = self.vitals.pulse().late();
        self.rtt.lock().silence_max() + late.saturating_sub(STALL)
    }

    /// For how long it has been.
    fn silence(&self) -> Duration {
        let heard = *self.heard.lock();
        self.vitals.pulse().running_since(heard)
    }

    /// How long it may be silent still; who has just stood still reads first what came meanwhile.
    fn silence_left(&self) -> Duration {
        let left = self.silence_max().saturating_sub(self.silence());
        left.max(self.vitals.pulse().unsettled().unwrap_or_default())
    }

    /// A connection begins: how long it may take to open. The other's silence goes on where a
    /// connection was reset, and begins anew where it had been given up.
    fn begin(&self) -> Duration {
        let again = self.rtt.lock().round() * 2 + AGAIN_MIN;
        let left = match *self.reach.borrow() {
            Reach::Doubted => self.silence_left().max(again),
            Reach::New | Reach::Up | Reach::Gone { .. } => self.silence_max().max(again),
        };
        *self.heard.lock() = self.vitals.pulse().now();
        left
    }

    fn go_up(&self, out: Arc<Outbox>) {
        self.current.lock().out = Some(out);
        // Those of the connection before have no answer any more.
        self.timed.lock().clear();
        self.turn(Reach::Up);
    }

    fn turn(&self, next: Reach) {
        let gone = matches!(next, Reach::Gone { .. });
        self.vitals.reaches(self.node, !gone);
        self.reach.send_if_modified(|reach| {
            let changed = *reach != next;
            *reach = next;
            changed
        });
    }

    /// Fails everything that waits; what the link was before.
    fn break_off(&self) -> Reach {
        let mut current = self.current.lock();
        current.out = None;
        current.waiting.clear();
        *self.reach.borrow()
    }

    /// Whether a pong among these names a start of the other that was let in.
    fn is_proven_by(&self, batch: &wire::Frames) -> bool {
        batch.frames.iter().any(|frame| match &frame.body {
            Some(Body::Pong(pong)) => self.doorkeeper.has_let_in(self.node, pong.boot_nonce),
            Some(_) | None => false,
        })
    }

    /// A ping is answered.
    fn ponged(&self, out: Option<&Outbox>, pong: &wire::Pong) {
        let Some(ping) = self.ping_of(pong.sent_us) else {
            return;
        };
        // Time in which this process stood still does not count: one that was stopped, or is busy with
        // its start, finds answers in its sockets that tell nothing of the link, and would miss the next
        // silence for long.
        let round = self.vitals.pulse().awake_since(ping.awake);
        if ping.regular {
            self.rtt.lock().sample(round, Instant::now());
        }
        self.vitals.time().note(self.node, pong.clock, ping.sent);
        if let Some(out) = out {
            let lag = self.vitals.pulse().lag() + self.vitals.lag(self.node);
            out.answered(pong.sent_us, round, lag);
        }
    }

    fn received(&self, batch: wire::Frames) {
        let mut current = self.current.lock();
        let Current { out, waiting, .. } = &mut *current;
        for frame in batch.frames {
            if let Some(Body::Pong(pong)) = &frame.body {
                self.peer_epoch.store(pong.map_epoch, Ordering::Relaxed);
                let marks = self.doorkeeper.marks();
                marks.note(self.node, pong.boot_nonce, pong.mark);
                self.vitals.note(self.node, pong.health.clone());
                self.ponged(out.as_deref(), pong);
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

/// Takes what waits in an outbox, one message after the other.
fn batches(
    outbox: Arc<Outbox>,
    link: Weak<Shared>,
) -> impl Stream<Item = wire::Frames> + Send + 'static {
    futures::stream::unfold((outbox, link), |(outbox, link)| async move {
        let ping = || Some(link.upgrade()?.ping(true, false));
        let frames = outbox.take(ping).await?;
        let format = FORMAT;
        Some((wire::Frames { format, frames }, (outbox, link)))
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
                Reason::Expired => ProposeError::Expired,
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
