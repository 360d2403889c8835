//! A node, for the server: what it is asked for, answered by what the tasks and their shared state do.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::cluster::ClusterState;
use model::command::Reply;
use model::id::{NodeId, ShardId};
#[cfg(doc)]
use model::limits;
use model::placement::{Health, Policy};
use model::trace::Context;
use proto::net::Channel;
use proto::node as wire;
use store::Error;
use store::state::ShardState;
use tokio::sync::watch;
use tonic::codegen::http::HeaderMap;

use crate::api::{
    Identity, LinkStatus, Options, ProposeError, ReadError, Refused, ReplicaStatus, Replicas,
};
use crate::link::room::Room;
use crate::link::{Link, Reach};
use crate::replica::age::{Replica, age_since};
use crate::shared::{Shared, dropped, last_view, refusal};
use crate::tasks::{self, balance, inbound, read_index, scrub};
use crate::time::Steady;

/// One node: its groups, its links to the others, its view of the cluster.
pub struct Node {
    inner: Arc<Shared>,
}

impl Node {
    /// Starts the groups of this node and its links to the others. Must run on a tokio runtime.
    ///
    /// # Errors
    /// Text for people: what was found on disk and why the node cannot start from it.
    pub async fn start(options: Options) -> Result<Arc<Node>, String> {
        let disk = |e: Error| e.to_string();
        if let Some(why) = refusal(&options.log).map_err(disk)? {
            return Err(why);
        }
        let (inner, inboxes) = Shared::open(&options).map_err(disk)?;
        inner.state().finish_installs().await.map_err(disk)?;
        let finished = dropped::finish_all(inner.log(), inner.state());
        finished.await.map_err(disk)?;
        let tasks = tasks::begin(&inner, inboxes.opened);
        inner.open_replica(ShardId::META, 0..=0, true).await?;
        if let Some(view) = last_view(inner.log())? {
            inner.learn(view).await;
        }
        tasks.start(
            inboxes.refusals,
            &options.dialer,
            options.seeds,
            options.found,
        );
        Ok(Arc::new(Node { inner }))
    }

    /// The node-to-node service, to be added to the node's gRPC server.
    pub fn peer_service(
        &self,
    ) -> wire::peer_server::PeerServer<impl wire::peer_server::Peer + use<>> {
        inbound::service(self.inner.clone())
    }

    /// Who this node is.
    pub fn identity(&self) -> &Identity {
        self.inner.identity()
    }

    /// The node that makes a call with these headers, if one of this cluster does: by its certificate
    /// and by its proof. n0 in a cluster whose nodes have neither, which takes calls at their word.
    pub fn vouches(&self, headers: &HeaderMap) -> Option<NodeId> {
        self.inner.vouches(headers)
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
        self.propose_traced(shard, (command, None), timeout)
    }

    /// As [`Node::propose`], for a call that may be traced.
    pub fn propose_traced(
        &self,
        shard: ShardId,
        command: (Bytes, Option<Context>),
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
        let result = read_index::read(&self.inner, &group, timeout, look).await;
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
        let mut heard = inner.leaders();
        let before = inner.leader(shard);
        let other =
            async { while heard.changed().await.is_ok() && inner.leader(shard) == before {} };
        // Either way the wait is over.
        let _ = tokio::time::timeout(limit, other).await;
    }

    /// A shared channel to another node; `None` when its address is not known.
    pub fn channel(&self, node: NodeId) -> Option<Channel> {
        self.inner.peers().channel(node)
    }

    /// Where a node is reached from here; `None` where it is not.
    pub fn address(&self, node: NodeId) -> Option<String> {
        let peers = self.inner.peers();
        peers.reachable(node).then(|| peers.address(node)).flatten()
    }

    /// Whether the link to a node is up (this node itself always is).
    pub fn reachable(&self, node: NodeId) -> bool {
        self.inner.peers().reachable(node)
    }

    /// Completes once the link to another node is down: at once when it is, else when it breaks.
    pub async fn unreachable(&self, node: NodeId) {
        if let Some(link) = self.inner.peers().link(node) {
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

    /// Whether a node is of a version that knows drills, as it has said lately.
    pub fn knows_drills(&self, node: NodeId) -> bool {
        self.inner.peers().vitals().knows_drills(node)
    }

    /// Whether a node is of a version that knows tenants, as it has said lately.
    pub fn knows_tenants(&self, node: NodeId) -> bool {
        self.inner.peers().vitals().knows_tenants(node)
    }

    /// Whether this node, and all that it reaches, have said that they know the cluster as of this epoch.
    pub fn heard_by_reachable(&self, epoch: u64) -> bool {
        let links = self.inner.peers().all();
        let mut up = links.iter().filter(|link| link.is_up());
        self.inner.current_view().epoch >= epoch && up.all(|link| link.peer_epoch() >= epoch)
    }

    /// Whether a node is of a version that knows keys, issuers and the audit, as it has said lately.
    pub fn knows_access(&self, node: NodeId) -> bool {
        self.inner.peers().vitals().knows_access(node)
    }

    /// What most clocks say, Unix milliseconds; `None` until that is known.
    pub fn agreed_ms(&self) -> Option<u64> {
        self.inner.time().agreed_ms()
    }

    /// The longest round, as it usually is, to a node that can be reached.
    pub fn longest_round(&self) -> Duration {
        self.inner.longest_round()
    }

    /// By how much tasks of this process run late now.
    pub fn lateness(&self) -> Duration {
        let pulse = self.inner.peers().vitals().pulse();
        pulse.lag().max(pulse.late())
    }

    /// For how long this process was stopped since its start: standstills of more than a second.
    pub fn stopped(&self) -> Duration {
        self.inner.peers().vitals().pulse().stopped()
    }

    /// When and how fast replicas are replaced, were this node the meta shard's leader.
    pub fn placement_policy(&self) -> Policy {
        self.inner.placement_policy()
    }

    /// This node's replicas, by shard.
    pub fn replicas(&self) -> Vec<ReplicaStatus> {
        let view = self.inner.current_view();
        let me = self.inner.id();
        let groups = self.inner.groups();
        let working = groups.iter().filter(|g| view.holds(me, g.shard));
        let mut broken = self.inner.all_broken();
        broken.retain(|shard, _| view.holds(me, *shard));
        let broken = broken.into_iter().map(|(shard, why)| ReplicaStatus {
            shard,
            state: "broken",
            broken_reason: Some(why),
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
        self.inner.waiting().bytes()
    }

    /// What this node's replicas come to; cheaper than [`Node::replicas`].
    pub fn replicas_together(&self) -> Replicas {
        let view = self.inner.current_view();
        let me = self.inner.id();
        let mut all = Replicas::default();
        for group in self.inner.groups() {
            if !view.holds(me, group.shard) {
                continue;
            }
            group.add_to(&mut all);
            if self.inner.quorums.lacks(group.shard) {
                all.without_quorum.push(group.shard);
            }
        }
        let mut broken = self.inner.all_broken();
        broken.retain(|shard, _| view.holds(me, *shard));
        if !broken.is_empty() {
            let count = u64::try_from(broken.len()).unwrap_or(u64::MAX);
            all.states.insert("broken", count);
        }
        all
    }

    /// How this node feels each other one, by their numbers.
    pub fn links(&self) -> Vec<LinkStatus> {
        let mut links: Vec<LinkStatus> =
            self.inner.peers().all().iter().map(Link::status).collect();
        links.sort_by_key(|link| link.node);
        links
    }

    /// Whether this node's log waits for its disk.
    pub fn is_stalled(&self) -> bool {
        self.inner.peers().vitals().stalled(self.inner.id())
    }

    /// How many replicas are open here.
    pub fn open_shards(&self) -> usize {
        self.inner.open_shards()
    }

    /// Bytes that wait to be sent to other nodes.
    pub fn links_bytes(&self) -> usize {
        self.inner.peers().queued_bytes()
    }

    /// Gives up what there is no room for on the disk, or takes it up again.
    pub fn set_room(&self, room: Room) {
        self.inner.set_room(room);
    }

    /// Stops the node at once: it must not go on, for this reason.
    pub fn die(&self, why: String) {
        self.inner.die(why);
    }

    /// Set once the node must stop (a failed fsync, say), to the reason.
    pub fn fatal(&self) -> watch::Receiver<Option<String>> {
        self.inner.fatal()
    }

    /// Set once the cluster does not want this node any more: it must stop, and not start again.
    pub fn refused(&self) -> watch::Receiver<Option<Refused>> {
        self.inner.refusals()
    }

    /// Whether this node drains, and it and the others that do have given away all that they led, as far
    /// as it can tell: its clients should go elsewhere.
    pub fn aside(&self) -> watch::Receiver<bool> {
        self.inner.aside()
    }

    /// Hands over all that this node leads, within `limit`, before it stops; from now on nobody
    /// hands it anything. Gives how many shards it leads all the same.
    pub async fn step_aside(&self, limit: Duration) -> usize {
        self.inner.leave();
        balance::step_aside(&self.inner, limit).await
    }

    /// Stops the groups and flushes what is in memory.
    pub async fn shutdown(&self) {
        let inner = &self.inner;
        inner.stop.cancel();
        for group in inner.take_groups() {
            group.stop().await;
        }
        inner.peers().close();
        if let Err(error) = inner.state().flush().await {
            tracing::error!(%error, "the last flush failed; it will be replayed from the log");
        }
    }
}
