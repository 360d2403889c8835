//! The connection of a link: dialed, kept, given up and dialed again, and what comes over it.

mod answers;
mod line;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use model::cluster::{ClusterState, Node};
use model::command::Reply;
use model::id::NodeId;
use parking_lot::Mutex;
use proto::net::{Channel, Dial, Dialer};
use proto::node as wire;
use proto::node::frame::Body;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use self::answers::reply_of;
use self::line::connect_once;
use crate::api::{Event, Events, PROOF, ProposeError, Verdict};
use crate::link::hello::{Doorkeeper, Hello};
use crate::link::outbox::{Outbox, Queued};
use crate::link::pace::Pace;
use crate::link::pulse::Moment;
use crate::link::rtt::{Rtt, STALL};
use crate::link::vitals::Vitals;
use crate::link::whereabouts::{Hint, Whereabouts};
use crate::link::{Reach, frame};
use crate::time::Steady;

/// Pings whose answers are waited for, to tell their time from.
const TIMED_MAX: usize = 256;
/// First and longest pause before connecting again to a node that is gone.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));
/// Attempts in a row that must fail behind a reset connection: the first may still find the end of
/// the old one. One that nobody listens to suffices.
const REFUSED_GONE: u32 = 2;
/// Between these.
const REFUSED_PAUSE: Duration = Duration::from_millis(25);
/// On top of two rounds for a connection behind a reset one, whatever is left of the limit.
const AGAIN_MIN: Duration = Duration::from_millis(100);

/// Who waits for an answer.
pub(super) enum Waiting {
    Once(oneshot::Sender<wire::Frame>),
    Propose(oneshot::Sender<Result<Reply, ProposeError>>),
    Stream(mpsc::UnboundedSender<wire::Frame>),
}

/// A ping whose answer is waited for.
pub(super) struct Timed {
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
pub(super) struct Current {
    pub(super) out: Option<Arc<Outbox>>,
    pub(super) waiting: BTreeMap<u64, Waiting>,
    pub(super) next_id: u64,
}

/// Where the other is looked for.
pub(super) struct Spot {
    pub(super) address: String,
    pub(super) channel: Channel,
    /// The latest start of the other that was known of when this was chosen.
    pub(super) boot: u64,
}

/// One node's link, shared by its handles and the task that keeps it connected.
pub(super) struct Connection {
    pub(super) node: NodeId,
    /// As the cluster knows it: what answers must prove to be it.
    pub(super) member: Node,
    pub(super) dialer: Dialer,
    pub(super) whereabouts: Whereabouts,
    pub(super) spot: Mutex<Spot>,
    /// Changes when the other is looked for elsewhere: what leads to the place before ends.
    pub(super) moved: watch::Sender<()>,
    pub(super) hello: Hello,
    /// Whether the other counts, and where its mark is noted.
    pub(super) doorkeeper: Arc<Doorkeeper>,
    /// This node's own, whose epoch pings tell.
    pub(super) view: watch::Receiver<Arc<ClusterState>>,
    /// How the others do is noted there.
    pub(super) vitals: Vitals,
    /// What waits for all links of the node.
    pub(super) queued: Arc<Queued>,
    pub(super) current: Mutex<Current>,
    pub(super) reach: watch::Sender<Reach>,
    /// What pings tell their time from.
    pub(super) began: Instant,
    pub(super) rtt: Mutex<Rtt>,
    /// Pings of this connection that tell how long a round takes.
    pub(super) timed: Mutex<VecDeque<Timed>>,
    /// When something came last, or was last begun to be waited for.
    pub(super) heard: Mutex<Moment>,
    /// The other's epoch of the cluster's view, as last heard.
    pub(super) peer_epoch: AtomicU64,
    /// When the last frames came.
    pub(super) answered: Mutex<Moment>,
    /// Told when the other connects to this node: it is there.
    pub(super) knocked: Arc<Notify>,
    /// Snapshots go to it one after the other.
    pub(super) snapshots: tokio::sync::Mutex<()>,
    /// Told of verdicts.
    pub(super) events: Arc<dyn Events>,
    /// What the last connection has shown of the line.
    pub(super) pace: Mutex<Pace>,
}

/// A channel to `member`, over which each call says who makes it.
pub(super) fn dial(
    dialer: &dyn Dial,
    hello: &Hello,
    member: &Node,
    address: &str,
) -> std::io::Result<Channel> {
    let channel = dialer.dial_node(address, &member.name)?;
    Ok(match hello.proof(NodeId(member.id)) {
        Some(proof) => channel.with_header(PROOF, &proof),
        None => channel,
    })
}

/// Connects, again and again, until the last handle is gone.
pub(super) async fn keep_connected(
    link: Weak<Connection>,
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

impl Connection {
    pub(super) fn address(&self) -> String {
        self.spot.lock().address.clone()
    }

    pub(super) fn channel(&self) -> Channel {
        self.spot.lock().channel.clone()
    }

    /// Looks for the other at a place; whether that is another than now.
    pub(super) fn go_to(&self, hint: &Hint) -> bool {
        {
            let mut spot = self.spot.lock();
            spot.boot = spot.boot.max(hint.boot);
            if spot.address == hint.address {
                return false;
            }
            // Only usable addresses are kept.
            let Ok(channel) = dial(&*self.dialer, &self.hello, &self.member, &hint.address) else {
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
    pub(super) fn look_elsewhere(&self) {
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
    pub(super) fn ping(&self, timed: bool, regular: bool) -> wire::Frame {
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
    pub(super) fn now_us(&self) -> u64 {
        let us = self.began.elapsed().as_micros();
        u64::try_from(us).unwrap_or(u64::MAX).max(1)
    }

    /// How long the other may be silent. Its rounds are measured without the time in which this
    /// process stood still, which may be more than what is allowed for on top.
    pub(super) fn silence_max(&self) -> Duration {
        let late = self.vitals.pulse().late();
        self.rtt.lock().silence_max() + late.saturating_sub(STALL)
    }

    /// For how long it has been.
    pub(super) fn silence(&self) -> Duration {
        let heard = *self.heard.lock();
        self.vitals.pulse().running_since(heard)
    }

    /// How long it may be silent still; who has just stood still reads first what came meanwhile.
    pub(super) fn silence_left(&self) -> Duration {
        let left = self.silence_max().saturating_sub(self.silence());
        left.max(self.vitals.pulse().unsettled().unwrap_or_default())
    }

    /// A connection begins: how long it may take to open. The other's silence goes on where a
    /// connection was reset, and begins anew where it had been given up.
    fn begin(&self) -> Duration {
        let again = self.rtt.lock().round() * 2 + AGAIN_MIN;
        let reach = *self.reach.borrow();
        let left = match reach {
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
        let changed = self.reach.send_if_modified(|reach| {
            let changed = *reach != next;
            *reach = next;
            changed
        });
        if changed {
            self.tell(next);
        }
    }

    /// Tells what this node thinks of the other now.
    fn tell(&self, reach: Reach) {
        let verdict = match reach {
            Reach::New => return,
            Reach::Up => Verdict::Up,
            Reach::Doubted => Verdict::Reset,
            Reach::Gone { reset: true } => Verdict::Refused,
            Reach::Gone { reset: false } => Verdict::Silent,
        };
        let (peer, round) = (self.node, self.rtt.lock().round());
        self.events.note(Event::Verdict {
            peer,
            verdict,
            round,
            limit: self.silence_max(),
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
