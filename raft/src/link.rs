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

mod connection;
pub(crate) mod frame;
pub(crate) mod hello;
pub(crate) mod out;
pub(crate) mod outbox;
mod pace;
pub(crate) mod peers;
pub(crate) mod pulse;
pub(crate) mod room;
pub(crate) mod rtt;
mod stream;
pub(crate) mod vitals;
pub(crate) mod whereabouts;
pub(crate) mod windows;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use model::cluster::{ClusterState, Node};
use model::command::Reply;
use model::id::NodeId;
use parking_lot::Mutex;
use proto::net::{Channel, Dialer};
use proto::node as wire;
use proto::node::frame::Body;
use tokio::sync::{MutexGuard, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tonic::metadata::MetadataMap;

use crate::api::{Events, LinkStatus, ProposeError};
use crate::link::connection::{Connection, Spot, Waiting, keep_connected};
use crate::link::hello::{Doorkeeper, Hello};
use crate::link::outbox::{Closed, Queued, Wait};
use crate::link::rtt::PING_INTERVAL;
pub(crate) use crate::link::stream::{AppendSender, AppendStream};
use crate::link::vitals::Vitals;
use crate::link::whereabouts::{Hint, Whereabouts};

/// Format of a `Frames` message.
pub(crate) const FORMAT: u32 = 1;
/// How often it is looked whether a request has arrived, whose answer has a time limit from then on.
const ARRIVAL_LOOK: Duration = Duration::from_millis(250);
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

/// A cheap handle; the connection lives in a task of its own until the last handle is dropped.
#[derive(Clone)]
pub(crate) struct Link {
    shared: Arc<Connection>,
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
        queued: Arc<Queued>,
        refused: mpsc::UnboundedSender<(NodeId, tonic::Status)>,
        events: Arc<dyn Events>,
    ) -> std::io::Result<Link> {
        let node = NodeId(member.id);
        let hints = whereabouts.hints(node);
        let best = hints.first().ok_or(std::io::ErrorKind::AddrNotAvailable)?;
        let spot = Spot {
            channel: connection::dial(&*dialer, &hello, &member, &best.address)?,
            address: best.address.clone(),
            boot: best.boot,
        };
        let shared = Arc::new(Connection {
            node,
            member,
            dialer,
            whereabouts,
            spot: Mutex::new(spot),
            moved: watch::Sender::default(),
            hello,
            doorkeeper,
            view,
            queued,
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
            pace: Mutex::default(),
            vitals,
            events,
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
        // A copy: nothing is asked while it is held.
        let reach = *self.shared.reach.borrow();
        match reach {
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

    /// How this node feels the other.
    pub(crate) fn status(&self) -> LinkStatus {
        let shared = &self.shared;
        let reach = *shared.reach.borrow();
        let state = match reach {
            Reach::New => "new",
            Reach::Up => "up",
            Reach::Doubted => "doubted",
            Reach::Gone { reset: true } => "reset",
            Reach::Gone { reset: false } => "silent",
        };
        LinkStatus {
            node: shared.node,
            state,
            round: self.usual_round(),
            silent: self.unheard_for(),
            limit: shared.silence_max(),
        }
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
        let Connection {
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

    /// Waits until `bytes` may be sent on a stream of their own; unless they are `needed` they can wait.
    ///
    /// # Errors
    /// [`LinkError::Down`] when the connection is not there, or breaks meanwhile.
    pub(crate) async fn send_bulk(&self, bytes: u64, needed: bool) -> Result<(), LinkError> {
        let out = self.shared.current.lock().out.clone();
        let out = out.ok_or(LinkError::Down)?;
        let ping = || self.shared.ping(true, false);
        out.send_bulk(bytes, needed, ping)
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
        let put = out.put_entries(frame, Wait::No).await;
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
    shared: &'a Connection,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.shared.current.lock().waiting.remove(&self.id);
    }
}
