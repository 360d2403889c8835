//! What the tasks of a node share: its replicas, its links, its view of the cluster, and what is known of
//! its disk. Tasks are above: they take a `Shared`, and nothing here calls one. What is opened or learned
//! here is told through [`Opened`], so that a task can go on with it.

pub(crate) mod dropped;
pub(crate) mod quorums;
mod records;
mod replicas;
mod routing;
pub(crate) mod scrubs;
pub(crate) mod stamps;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use model::cluster::{ClusterState, Shard};
use model::id::{NodeId, ShardId};
use model::placement::{Health, Policy};
use parking_lot::{Mutex, RwLock};
use proto::node as wire;
use store::state::State;
use store::{Error, Log};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::codegen::http::HeaderMap;
use tonic::metadata::MetadataMap;

use self::records::{Broken, REFUSED};
use crate::api::{DrainStep, Event, Identity, Keep, Options, Refused, Tuning};
use crate::link::Link;
use crate::link::hello::{self, Doorkeeper, Hello};
use crate::link::outbox::Queued;
use crate::link::peers::Peers;
use crate::link::room::{Room, SharedRoom};
use crate::link::vitals::Vitals;
use crate::link::whereabouts::Whereabouts;
use crate::link::windows::Windows;
use crate::replica::batcher::Waiting;
use crate::replica::group::Group;
use crate::shared::quorums::Quorums;
use crate::shared::scrubs::Scrubs;
use crate::shared::stamps::Stamps;
use crate::time::Time;

pub(crate) use self::records::decode_view;
pub use self::records::{ask_again, last_view, refusal};

/// Replicas of a node that may be awake at a time because it is their turn.
const TURNS: usize = 2_048;

/// What the node's tasks share.
pub(crate) struct Shared {
    identity: Arc<Identity>,
    hello: Hello,
    tuning: Tuning,
    log: Log,
    state: State,
    peers: Peers,
    doorkeeper: Arc<Doorkeeper>,
    view: watch::Sender<Arc<ClusterState>>,
    groups: RwLock<BTreeMap<ShardId, Arc<Group>>>,
    broken: Mutex<BTreeMap<ShardId, Broken>>,
    /// Shards that this node leads and that are being healed.
    ailing: Mutex<BTreeSet<ShardId>>,
    hints: Mutex<BTreeMap<ShardId, NodeId>>,
    fatal: watch::Sender<Option<String>>,
    refused: watch::Sender<Option<Refused>>,
    /// The largest body of a message, bytes.
    pub(crate) body_bytes_max: usize,
    room: SharedRoom,
    waiting: Arc<Waiting>,
    /// Rounds that were asked for reads, since they were told last.
    pub(crate) read_rounds: AtomicU64,
    /// Told how many of `groups` there are.
    opened: Arc<dyn Fn(usize) + Send + Sync>,
    /// Told when the disk has become full, or has room again.
    pub(crate) room_changed: Notify,
    /// Since when each node has not been reached, on this node's own clock.
    absent: Mutex<BTreeMap<u64, Instant>>,
    opening: tokio::sync::Mutex<()>,
    /// Whether it drains and leads nothing any more.
    aside: watch::Sender<bool>,
    /// Whether it is about to stop, so that nobody hands it anything.
    leaving: AtomicBool,
    /// Reads of everything that are under way here.
    pub(crate) scrubs: Scrubs,
    pub(crate) quorums: Quorums,
    pub(crate) stamps: Stamps,
    /// Shards in which this node elects.
    pub(crate) electing: Mutex<BTreeSet<ShardId>>,
    /// Shards that leave this node because it is slow.
    pub(crate) moving: Mutex<BTreeSet<ShardId>>,
    /// For replicas that nobody uses to be awake; see [`crate::tasks::sleep`].
    pub(crate) turns: Semaphore,
    /// Nodes whose logs wait for their disks, perhaps this one.
    pub(crate) stalled: watch::Sender<BTreeSet<NodeId>>,
    /// Changes when somebody is heard of as a new leader.
    leaders: watch::Sender<()>,
    opens: mpsc::UnboundedSender<Opened>,
    pub(crate) stop: CancellationToken,
}

/// What a node has opened, for the tasks that go on with it.
pub(crate) enum Opened {
    /// The link to a node that is new in the view.
    Link(Link),
    /// A replica; it runs, and nobody looks after it yet.
    Replica(Arc<Group>),
    /// A replica that may begin, and what its shard was laid out as if it is this node that founds it.
    Begins(Arc<Group>, Option<Shard>),
}

/// What comes in for the tasks of a node.
pub(crate) struct Inboxes {
    /// Nodes that refuse this one, and what they say.
    pub(crate) refusals: mpsc::UnboundedReceiver<(NodeId, Status)>,
    /// What this node opens.
    pub(crate) opened: mpsc::UnboundedReceiver<Opened>,
}

impl Shared {
    /// What a node begins with: nothing is open yet but what the disk says of broken replicas.
    ///
    /// # Errors
    /// As the disk has.
    pub(crate) fn open(options: &Options) -> Result<(Arc<Shared>, Inboxes), Error> {
        let (identity, log) = (Arc::new(options.identity.clone()), options.log.clone());
        let view = watch::Sender::new(Arc::default());
        let (refused, refusals) = mpsc::unbounded_channel();
        let (opens, opened) = mpsc::unbounded_channel();
        let hello = Hello::new(identity.clone(), log.clone());
        let time = Time::new(options.clock.clone());
        let window = Duration::from_millis(options.tuning.read_lease_ms);
        let windows = Windows::open(window, log.clone())?;
        let room = SharedRoom::default();
        let (me, clock) = (identity.node, time.clone());
        let vitals = Vitals::new(me, log.clone(), clock, windows, room.clone());
        let (cluster, secret) = (identity.cluster_id.clone(), identity.secret.clone());
        let doorkeeper = Doorkeeper::open(cluster, me, secret, log.clone())?;
        let doorkeeper = Arc::new(doorkeeper);
        let broken = Broken::known(&log, &vitals)?;
        let peers = Peers::new(
            identity.node,
            options.dialer.clone(),
            Whereabouts::open(log.clone())?,
            hello.clone(),
            doorkeeper.clone(),
            vitals,
            view.subscribe(),
            Arc::new(Queued::new(options.links_bytes_max.clone())),
            refused,
            options.events.clone(),
        );
        let shared = Shared {
            stamps: Stamps::new(identity.boot_nonce, time),
            identity,
            hello,
            tuning: options.tuning.clone(),
            log,
            state: options.state.clone(),
            peers,
            doorkeeper,
            view,
            groups: RwLock::default(),
            broken: Mutex::new(broken),
            ailing: Mutex::default(),
            hints: Mutex::default(),
            fatal: watch::Sender::new(None),
            refused: watch::Sender::new(None),
            body_bytes_max: options.body_bytes_max,
            room,
            waiting: Arc::new(Waiting::new(options.queue_bytes_max.clone())),
            room_changed: Notify::new(),
            absent: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            aside: watch::Sender::new(false),
            leaving: AtomicBool::new(false),
            scrubs: Scrubs::default(),
            quorums: Quorums::default(),
            electing: Mutex::default(),
            moving: Mutex::default(),
            turns: Semaphore::new(TURNS),
            stalled: watch::Sender::default(),
            leaders: watch::Sender::default(),
            opens,
            read_rounds: AtomicU64::new(0),
            opened: options.opened.clone(),
            stop: CancellationToken::new(),
        };
        Ok((Arc::new(shared), Inboxes { refusals, opened }))
    }

    pub(crate) fn id(&self) -> NodeId {
        self.identity.node
    }

    pub(crate) fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// Tells what happened.
    pub(crate) fn note(&self, event: Event) {
        self.peers.events().note(event);
    }

    pub(crate) fn peers(&self) -> &Peers {
        &self.peers
    }

    pub(crate) fn time(&self) -> &Time {
        self.peers.vitals().time()
    }

    /// The longest round, as it usually is, to a node that can be reached.
    pub(crate) fn longest_round(&self) -> Duration {
        self.peers.longest_round()
    }

    pub(crate) fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    pub(crate) fn keep(&self) -> &Keep {
        &self.tuning.keep
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn view(&self) -> watch::Receiver<Arc<ClusterState>> {
        self.view.subscribe()
    }

    pub(crate) fn current_view(&self) -> Arc<ClusterState> {
        self.view.borrow().clone()
    }

    pub(crate) fn group(&self, shard: ShardId) -> Option<Arc<Group>> {
        self.groups.read().get(&shard).cloned()
    }

    pub(crate) fn groups(&self) -> Vec<Arc<Group>> {
        self.groups.read().values().cloned().collect()
    }

    /// Why each replica that is broken is, by shard.
    pub(crate) fn all_broken(&self) -> BTreeMap<ShardId, String> {
        let broken = self.broken.lock();
        let why = broken
            .iter()
            .map(|(shard, broken)| (*shard, broken.why.clone()));
        why.collect()
    }

    /// Takes all replicas out; nobody finds one any more.
    pub(crate) fn take_groups(&self) -> Vec<Arc<Group>> {
        std::mem::take(&mut *self.groups.write())
            .into_values()
            .collect()
    }

    /// Changes when somebody is heard of as a new leader.
    pub(crate) fn leaders(&self) -> watch::Receiver<()> {
        self.leaders.subscribe()
    }

    /// What the commands that wait take in memory.
    pub(crate) fn waiting(&self) -> &Waiting {
        &self.waiting
    }

    /// What is heard of the disk's room.
    pub(crate) fn set_room(&self, room: Room) {
        self.room.set(room);
        self.room_changed.notify_one();
    }

    /// Set once the node must stop, to the reason.
    pub(crate) fn fatal(&self) -> watch::Receiver<Option<String>> {
        self.fatal.subscribe()
    }

    /// Set once the cluster does not want this node any more.
    pub(crate) fn refusals(&self) -> watch::Receiver<Option<Refused>> {
        self.refused.subscribe()
    }

    /// Whether it drains and leads nothing any more.
    pub(crate) fn aside(&self) -> watch::Receiver<bool> {
        self.aside.subscribe()
    }

    /// From now on nobody hands it anything.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// What the others have told of their disks.
    pub(crate) fn marks(&self) -> &hello::Marks {
        self.doorkeeper.marks()
    }

    /// How many replicas are open here.
    pub(crate) fn open_shards(&self) -> usize {
        self.groups.read().len()
    }

    /// Whether the disk may not have room for what is large.
    pub(crate) fn disk_is_tight(&self) -> bool {
        self.room.is_tight()
    }

    /// Whether nothing is to be written that can wait.
    pub(crate) fn has_no_room(&self) -> bool {
        self.room.is_spent()
    }

    /// Whether the disk is below its reserve.
    pub(crate) fn disk_is_full(&self) -> bool {
        self.room.is_full()
    }

    /// Whether it is about to stop.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    pub(crate) fn is_aside(&self) -> bool {
        *self.aside.borrow()
    }

    pub(crate) fn set_aside(&self, aside: bool) {
        let changes = |now: &mut bool| std::mem::replace(now, aside) != aside;
        if self.aside.send_if_modified(changes) {
            tracing::info!(aside, "the node drains");
            if aside {
                let step = DrainStep::Aside;
                self.note(Event::Drain { step });
            }
        }
    }

    /// Looks who can be reached. Every node does, so that whoever comes to lead the meta shard has
    /// counted already.
    pub(crate) fn note_absent(&self) {
        let (view, now) = (self.current_view(), Instant::now());
        let mut absent = self.absent.lock();
        absent.retain(|id, _| view.node(NodeId(*id)).is_some());
        for other in &view.nodes {
            if self.peers.reachable(NodeId(other.id)) {
                absent.remove(&other.id);
            } else {
                absent.entry(other.id).or_insert(now);
            }
        }
    }

    /// For how long a node has been gone; `None` while it is there.
    pub(crate) fn absent_for(&self, node: u64) -> Option<Duration> {
        self.absent.lock().get(&node).map(Instant::elapsed)
    }

    /// Shards that this node leads and that are being healed, as `look` combines them.
    pub(crate) fn ailing<T>(&self, look: impl FnOnce(&BTreeSet<ShardId>) -> T) -> T {
        look(&self.ailing.lock())
    }

    pub(crate) fn set_ailing(&self, ailing: BTreeSet<ShardId>) {
        *self.ailing.lock() = ailing;
    }

    pub(crate) fn health(&self) -> Health {
        let broken = self.peers.vitals().all_unfit();
        let absent = self.absent.lock();
        let ms = |since: &Instant| u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        Health {
            gone_ms: absent.iter().map(|(id, at)| (*id, ms(at))).collect(),
            broken: broken.into_iter().map(|(node, id)| (node.0, id)).collect(),
        }
    }

    pub(crate) fn placement_policy(&self) -> Policy {
        Policy {
            replace_after_ms: self.tuning.replace_after_ms,
            ..Policy::default()
        }
    }

    pub(crate) fn die(&self, why: String) {
        tracing::error!(%why, "the node must stop");
        self.fatal.send_if_modified(|fatal| {
            let first = fatal.is_none();
            if first {
                *fatal = Some(why);
            }
            first
        });
    }

    /// Notes for ever that this disk is not to be used, and has the node stopped.
    pub(crate) async fn refused(&self, refused: Refused) {
        let why = Bytes::from(refused.why.clone());
        if let Err(error) = self.log.local_put(REFUSED, Some(why)).await {
            tracing::error!(%error, "the refusal could not be noted");
        }
        tracing::error!(removed = refused.removed, why = %refused.why, "the cluster refuses this node");
        self.refused.send_replace(Some(refused));
    }

    pub(crate) async fn admit(&self, metadata: &MetadataMap) -> Result<NodeId, Status> {
        let view = self.current_view();
        let node = self.doorkeeper.admit(metadata, &view).await?;
        if let Some(place) = hello::place_of(node, metadata) {
            let news = self.peers.whereabouts().said(place).await;
            if news.map_err(|error| Status::internal(error.to_string()))?
                && let Some(link) = self.peers.link(node)
            {
                link.look_again();
            }
        }
        Ok(node)
    }

    /// The same, of a call that is for this node and no other.
    pub(crate) async fn admit_here(&self, metadata: &MetadataMap) -> Result<NodeId, Status> {
        self.doorkeeper.meant(metadata)?;
        self.admit(metadata).await
    }

    /// The node of this cluster that makes a call with these headers.
    pub(crate) fn vouches(&self, headers: &HeaderMap) -> Option<NodeId> {
        self.doorkeeper.vouches(headers, &self.current_view())
    }

    /// Where this node is.
    pub(crate) fn place(&self) -> wire::Place {
        self.hello.place()
    }

    /// What identifies this node to others.
    pub(crate) fn hello(&self) -> &Hello {
        &self.hello
    }
}
