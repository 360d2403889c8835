//! A node: its groups, its links, and its view of the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use model::cluster::ClusterState;
use model::command::Reply;
use model::id::{NodeId, ShardId};
#[cfg(doc)]
use model::limits;
use model::placement::{Health, Policy};
use parking_lot::{Mutex, RwLock};
use proto::net::Channel;
use proto::node as wire;
use store::state::{ShardState, State};
use store::{Error, Log};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::age::{Replica, age_since};
use crate::api::{
    Identity, Keep, Options, ProposeError, ReadError, Refused, ReplicaStatus, Tuning,
};
use crate::batcher::Waiting;
use crate::group::Group;
use crate::hello::{Doorkeeper, Hello};
use crate::index::Stamps;
use crate::link::Reach;
use crate::outbox::Queued;
use crate::peers::Peers;
use crate::quorum::Quorums;
use crate::room::{Room, SharedRoom};
use crate::time::{Steady, Time};
use crate::vitals::Vitals;
use crate::whereabouts::Whereabouts;
use crate::windows::Windows;
use crate::{balance, dropped, hello, inbound, index, meta, scrub, sleep};

mod replicas;
mod routing;

/// Local record: the last view, so that a restarted node knows whom to ask.
const VIEW: &str = "view";
/// Local records: why a shard's replica must not run until it is rebuilt.
const BROKEN: &str = "broken/";
/// Local record: why the cluster refused this disk; it stays refused.
const REFUSED: &str = "refused";

/// Forgets that the cluster has refused a disk, so that its node may ask again: why it was refused, if
/// it was. Durable on completion. The other nodes decide as ever.
///
/// # Errors
/// As the disk has.
pub async fn ask_again(log: &Log) -> Result<Option<String>, Error> {
    let why = log.local_get(REFUSED)?;
    if why.is_some() {
        log.local_put(REFUSED, None).await?;
    }
    Ok(why.map(|why| String::from_utf8_lossy(&why).into_owned()))
}

/// One node: its groups, its links to the others, its view of the cluster.
pub struct Node {
    inner: Arc<Inner>,
}

/// A replica that has stopped for good.
#[derive(Clone)]
struct Broken {
    why: String,
    /// Nothing of it runs any more.
    stopped: bool,
}

/// What the node's tasks share.
pub(crate) struct Inner {
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
    pub(crate) scrubs: scrub::Scrubs,
    pub(crate) quorums: Quorums,
    pub(crate) stamps: Stamps,
    /// Shards in which this node elects.
    pub(crate) electing: Mutex<BTreeSet<ShardId>>,
    /// Shards that leave this node because it is slow.
    pub(crate) moving: Mutex<BTreeSet<ShardId>>,
    /// For replicas that nobody uses to be awake; see [`crate::sleep`].
    pub(crate) turns: Semaphore,
    /// Nodes whose logs wait for their disks, perhaps this one.
    pub(crate) stalled: watch::Sender<BTreeSet<NodeId>>,
    /// Changes when somebody is heard of as a new leader.
    leaders: watch::Sender<()>,
    won: mpsc::UnboundedSender<(ShardId, u64)>,
    pub(crate) stop: CancellationToken,
}

/// What the cluster has said for good of the node whose log this is, if it does not want it any more.
///
/// # Errors
/// As the disk has.
pub fn refusal(log: &Log) -> Result<Option<String>, Error> {
    let why = log.local_get(REFUSED)?;
    Ok(why.map(|why| String::from_utf8_lossy(&why).into_owned()))
}

/// The cluster as the node whose log this is knew it last.
///
/// # Errors
/// Text for people, when it cannot be read.
pub fn last_view(log: &Log) -> Result<Option<ClusterState>, String> {
    let view = log.local_get(VIEW).map_err(|error| error.to_string())?;
    view.map(meta::decode_view).transpose()
}

impl Node {
    /// Starts the groups of this node and its links to the others. Must run on a tokio runtime.
    ///
    /// # Errors
    /// Text for people: what was found on disk and why the node cannot start from it.
    pub async fn start(options: Options) -> Result<Arc<Node>, String> {
        let disk = |e: Error| e.to_string();
        let log = options.log;
        if let Some(why) = refusal(&log).map_err(disk)? {
            return Err(why);
        }
        let identity = Arc::new(options.identity);
        let view = watch::Sender::new(Arc::default());
        let (refused, refusals) = mpsc::unbounded_channel();
        let (won, wins) = mpsc::unbounded_channel();
        let hello = Hello::new(identity.clone(), log.clone());
        let time = Time::new(options.clock);
        let window = Duration::from_millis(options.tuning.read_lease_ms);
        let windows = Windows::open(window, log.clone()).map_err(disk)?;
        let room = SharedRoom::default();
        let (me, clock) = (identity.node, time.clone());
        let vitals = Vitals::new(me, log.clone(), clock, windows, room.clone());
        let doorkeeper = Doorkeeper::open(identity.cluster_id.clone(), identity.node, log.clone());
        let doorkeeper = Arc::new(doorkeeper.map_err(disk)?);
        let inner_vitals = vitals.clone();
        let peers = Peers::new(
            identity.node,
            options.dialer.clone(),
            Whereabouts::open(log.clone()).map_err(disk)?,
            hello.clone(),
            doorkeeper.clone(),
            vitals,
            view.subscribe(),
            Arc::new(Queued::new(options.links_bytes_max)),
            refused,
        );
        let mut broken = BTreeMap::new();
        for (key, why) in log.local_scan(BROKEN).map_err(disk)? {
            if let Some(shard) = key.strip_prefix(BROKEN).and_then(|id| id.parse().ok()) {
                let why = String::from_utf8_lossy(&why).into_owned();
                inner_vitals.is_broken(ShardId(shard), true);
                broken.insert(ShardId(shard), Broken { why, stopped: true });
            }
        }
        let inner = Arc::new(Inner {
            stamps: Stamps::new(identity.boot_nonce, time.clone()),
            identity,
            hello: hello.clone(),
            tuning: options.tuning,
            log: log.clone(),
            state: options.state,
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
            waiting: Arc::new(Waiting::new(options.queue_bytes_max)),
            opened: options.opened,
            room_changed: Notify::new(),
            absent: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            aside: watch::Sender::new(false),
            leaving: AtomicBool::new(false),
            scrubs: scrub::Scrubs::default(),
            quorums: Quorums::default(),
            electing: Mutex::default(),
            moving: Mutex::default(),
            turns: Semaphore::new(sleep::TURNS),
            stalled: watch::Sender::default(),
            leaders: watch::Sender::default(),
            won,
            stop: CancellationToken::new(),
        });
        let node = Arc::new(Node {
            inner: inner.clone(),
        });
        inner.state.finish_installs().await.map_err(disk)?;
        dropped::finish_all(&inner.log, &inner.state)
            .await
            .map_err(disk)?;
        inner.open(ShardId::META, 0..=0, true).await?;
        if let Some(view) = last_view(&log)? {
            inner.learn(view).await;
        }
        let tasks = meta::Tasks {
            node: inner,
            hello,
            dialer: options.dialer,
            refusals,
            wins,
        };
        tasks.start(options.seeds, options.found);
        Ok(node)
    }

    /// The node-to-node service, to be added to the node's gRPC server.
    pub fn peer_service(
        &self,
    ) -> wire::peer_server::PeerServer<impl wire::peer_server::Peer + use<>> {
        inbound::service(self.inner.clone())
    }

    /// Who this node is.
    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// The cluster as this node sees it; epoch 0 until something is known.
    pub fn view(&self) -> watch::Receiver<Arc<ClusterState>> {
        self.inner.view()
    }

    /// One attempt to have `command` (an encoded `model::command::Command`) decided by the leader
    /// of `shard`, here or over a link. Ends within `timeout`. Calls made one after another from
    /// one task for one shard keep their order unless one of them fails.
    pub fn propose(
        &self,
        shard: ShardId,
        command: Bytes,
        timeout: Duration,
    ) -> impl Future<Output = Result<Reply, ProposeError>> + Send + 'static {
        self.inner.clone().propose(shard, command, timeout)
    }

    /// What `look` finds in this node's replica of `shard`: a linearizable read, which the leader
    /// answers when it is sure of itself, and any other replica when it was told by the leader how
    /// far it must be, within `timeout`. `look` may be asked several times; what it found last is
    /// given.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read<T>(
        &self,
        shard: ShardId,
        timeout: Duration,
        look: impl Fn(&ShardState) -> T,
    ) -> Result<T, ReadError> {
        let Some(group) = self.inner.group(shard) else {
            return Err(ReadError::NotLeader {
                shard,
                leader: self.inner.leader(shard),
            });
        };
        let result = index::read(&self.inner, &group, timeout, look).await;
        if result.is_ok() {
            self.inner.quorums.served(shard);
        }
        result
    }

    /// This node's replica of a shard, if it has one that works. It may be behind;
    /// [`Node::read`] is not.
    pub fn state(&self, shard: ShardId) -> Option<ShardState> {
        self.inner.group(shard).map(|group| group.state.clone())
    }

    /// As [`Node::state`], with how old it is at most.
    pub fn replica(&self, shard: ShardId) -> Option<Replica> {
        self.inner.group(shard).map(|group| group.replica())
    }

    /// Whether this node has heard no majority of a shard's replicas for
    /// [`limits::QUORUM_LACK_MS_MAX`], nor been answered by a leader that has one.
    pub fn lacks_quorum(&self, shard: ShardId) -> bool {
        self.inner.quorums.lacks(shard)
    }

    /// Resolves when [`Node::lacks_quorum`] becomes true, at once when it is.
    pub async fn quorum_lost(&self, shard: ShardId) {
        self.inner.quorums.lost(shard).await;
    }

    /// Tells that a leader of `shard` with a quorum has answered this node.
    pub fn served(&self, shard: ShardId) {
        self.inner.quorums.served(shard);
    }

    /// The best guess at who leads a shard.
    pub fn leader(&self, shard: ShardId) -> Option<NodeId> {
        self.inner.leader(shard)
    }

    /// Tells that `asked` did not answer as the leader of `shard`, so that [`Node::leader`] guesses
    /// another the next time.
    pub fn not_leader(&self, shard: ShardId, asked: NodeId) {
        self.inner
            .guess(shard, self.inner.replica_after(shard, asked));
    }

    /// Waits until somebody else is heard of as the leader of `shard` than when this is called, no
    /// longer than `limit`.
    pub async fn other_leader(&self, shard: ShardId, limit: Duration) {
        let inner = &self.inner;
        let mut heard = inner.leaders.subscribe();
        let before = inner.leader(shard);
        let other =
            async { while heard.changed().await.is_ok() && inner.leader(shard) == before {} };
        // Either way the wait is over.
        let _ = tokio::time::timeout(limit, other).await;
    }

    /// A shared channel to another node; `None` when its address is not known.
    pub fn channel(&self, node: NodeId) -> Option<Channel> {
        self.inner.peers.channel(node)
    }

    /// Where a node is reached from here; `None` where it is not.
    pub fn address(&self, node: NodeId) -> Option<String> {
        let peers = &self.inner.peers;
        peers.reachable(node).then(|| peers.address(node)).flatten()
    }

    /// Whether the link to a node is up (this node itself always is).
    pub fn reachable(&self, node: NodeId) -> bool {
        self.inner.peers.reachable(node)
    }

    /// Completes once the link to another node is down: at once when it is, else when it breaks.
    pub async fn unreachable(&self, node: NodeId) {
        if let Some(link) = self.inner.peers.link(node) {
            // A link that is gone is down for good.
            let _ = link.watch().wait_for(|reach| *reach != Reach::Up).await;
        }
    }

    /// Now, by the clock that ages are measured on.
    pub fn now(&self) -> Steady {
        self.inner.time().now()
    }

    /// How old an answer is that was right at `then`, at most.
    pub fn age_since(&self, then: Steady) -> Duration {
        age_since(self.inner.time(), then)
    }

    /// Who cannot be reached from here, and for how long.
    pub fn health(&self) -> Health {
        self.inner.health()
    }

    /// By how much a node's wall clock is off what most clocks say, ms, as seen from here; `None` when
    /// it is right, or not known.
    pub fn clock_off_ms(&self, node: NodeId) -> Option<i64> {
        self.inner.time().off_ms(node)
    }

    /// When and how fast replicas are replaced, were this node the meta shard's leader.
    pub fn placement_policy(&self) -> Policy {
        self.inner.placement_policy()
    }

    /// This node's replicas, by shard.
    pub fn replicas(&self) -> Vec<ReplicaStatus> {
        let view = self.inner.current_view();
        let me = self.inner.identity.node;
        let groups = self.inner.groups();
        let working = groups.iter().filter(|g| view.holds(me, g.shard));
        let mut broken = self.inner.broken.lock().clone();
        broken.retain(|shard, _| view.holds(me, *shard));
        let broken = broken.into_iter().map(|(shard, broken)| ReplicaStatus {
            shard,
            state: "broken",
            broken_reason: Some(broken.why),
            ..ReplicaStatus::default()
        });
        let scrubbed = |mut replica: ReplicaStatus| {
            replica.scrubbed_ms = scrub::last_ms(&self.inner, replica.shard).unwrap_or(0);
            replica
        };
        let replicas = working.map(|group| group.status()).chain(broken);
        replicas.map(scrubbed).collect()
    }

    /// Bytes of the commands that wait for their leader here, or for what it decides.
    pub fn waiting_bytes(&self) -> usize {
        self.inner.waiting.bytes()
    }

    /// How many replicas are open here.
    pub fn open_shards(&self) -> usize {
        self.inner.groups.read().len()
    }

    /// Bytes that wait to be sent to other nodes.
    pub fn links_bytes(&self) -> usize {
        self.inner.peers.queued_bytes()
    }

    /// Gives up what there is no room for on the disk, or takes it up again.
    pub fn set_room(&self, room: Room) {
        self.inner.room.set(room);
        self.inner.room_changed.notify_one();
    }

    /// Stops the node at once: it must not go on, for this reason.
    pub fn die(&self, why: String) {
        self.inner.die(why);
    }

    /// Set once the node must stop (a failed fsync, say), to the reason.
    pub fn fatal(&self) -> watch::Receiver<Option<String>> {
        self.inner.fatal.subscribe()
    }

    /// Set once the cluster does not want this node any more: it must stop, and not start again.
    pub fn refused(&self) -> watch::Receiver<Option<Refused>> {
        self.inner.refused.subscribe()
    }

    /// Whether this node drains, and it and the others that do have given away all that they led, as far
    /// as it can tell: its clients should go elsewhere.
    pub fn aside(&self) -> watch::Receiver<bool> {
        self.inner.aside.subscribe()
    }

    /// Hands over all that this node leads, within `limit`, before it stops; from now on nobody
    /// hands it anything. Gives how many shards it leads all the same.
    pub async fn step_aside(&self, limit: Duration) -> usize {
        self.inner.leaving.store(true, Ordering::Relaxed);
        balance::step_aside(&self.inner, limit).await
    }

    /// Stops the groups and flushes what is in memory.
    pub async fn shutdown(&self) {
        let inner = &self.inner;
        inner.stop.cancel();
        let groups = std::mem::take(&mut *inner.groups.write());
        for group in groups.into_values() {
            group.stop().await;
        }
        inner.peers.close();
        if let Err(error) = inner.state.flush().await {
            tracing::error!(%error, "the last flush failed; it will be replayed from the log");
        }
    }
}

impl Inner {
    pub(crate) fn id(&self) -> NodeId {
        self.identity.node
    }

    pub(crate) fn peers(&self) -> &Peers {
        &self.peers
    }

    pub(crate) fn time(&self) -> &Time {
        self.peers.vitals().time()
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

    /// Where this node is.
    pub(crate) fn place(&self) -> wire::Place {
        self.hello.place()
    }

    /// What identifies this node to others.
    pub(crate) fn hello(&self) -> &Hello {
        &self.hello
    }

    /// What the others have told of their disks.
    pub(crate) fn marks(&self) -> &hello::Marks {
        self.doorkeeper.marks()
    }

    /// Answers a node's ping, and notes what it tells.
    pub(crate) fn pong(self: &Arc<Self>, from: NodeId, ping: &wire::Ping) -> wire::Pong {
        self.marks().note(from, ping.boot_nonce, ping.mark);
        let vitals = self.peers.vitals();
        vitals.note(from, ping.health.clone());
        let unfit = ping.health.iter().flat_map(|health| &health.unfit);
        for group in unfit.filter_map(|shard| self.group(ShardId(*shard))) {
            // Its node lives on, so that nothing else says that it leads no more.
            if group.leader() == Some(from) {
                tokio::spawn(crate::liveness::elect(self.clone(), group, from));
            }
        }
        let epoch = self.view.borrow().epoch;
        self.hello.pong(ping, epoch, vitals)
    }
}
