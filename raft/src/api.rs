//! What a node offers to the server above it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::cluster::ClusterState;
use model::command::Reply;
use model::id::{NodeId, ShardId};
use proto::net::Dialer;
use store::{Log, state::ShardState, state::State};
use thiserror::Error;
use tokio::sync::watch;
use tonic::transport::Channel;

/// Wall-clock time, a parameter so that the simulator can bend it.
pub trait Clock: Send + Sync + 'static {
    /// Unix milliseconds. May jump; nothing but message times depends on it.
    fn unix_ms(&self) -> u64;
}

/// Who this node is, as it proves to its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's id, hex.
    pub cluster_id: String,
    /// The node's number.
    pub node: NodeId,
    /// The node's name.
    pub name: String,
    /// 16 random bytes, written to the disk when the node joined.
    pub disk_id: [u8; 16],
    /// Starts of this node so far, this one included; synced before anyone hears of it.
    pub boot: u64,
    /// Drawn at this start: the same counter with another nonce is an old disk that came back.
    pub boot_nonce: u64,
}

/// Timing of the groups, milliseconds.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// Between heartbeats of an idle leader.
    pub heartbeat_ms: u64,
    /// Lower bound of the election timeout.
    pub election_min_ms: u64,
    /// Upper bound of the election timeout, and the leader's lease.
    pub election_max_ms: u64,
    /// How old a quorum's confirmation may be for a LINEARIZABLE read without a round (R).
    pub read_lease_ms: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning { heartbeat_ms: 500, election_min_ms: 1_500, election_max_ms: 2_000, read_lease_ms: 150 }
    }
}

/// What a node is started with.
pub struct Options {
    /// Who it is.
    pub identity: Identity,
    /// host:port where others reach it.
    pub address: String,
    /// How to reach others.
    pub dialer: Dialer,
    /// Time for messages.
    pub clock: Arc<dyn Clock>,
    /// Seed of its random choices.
    pub seed: u64,
    /// raftdb.
    pub log: Log,
    /// msgdb.
    pub state: State,
    /// Timing.
    pub tuning: Tuning,
    /// Addresses to ask for the cluster's view when nothing is known yet.
    pub seeds: Vec<String>,
    /// Set on the founder's first start: the cluster to found, this node in it.
    pub found: Option<ClusterState>,
}

/// Why one attempt to propose did not give a reply. All but [`ProposeError::Unknown`] say that
/// nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProposeError {
    /// The node asked does not lead the shard.
    #[error("not the leader of {shard}")]
    NotLeader {
        /// The shard.
        shard: ShardId,
        /// Who leads, when known.
        leader: Option<NodeId>,
    },
    /// The shard map was stale; a newer one may have come by now.
    #[error("the shard map was stale")]
    WrongShard,
    /// The leader's queue is full.
    #[error("the leader of the shard is overloaded")]
    Overloaded,
    /// The leader's disk is below its reserve.
    #[error("the disk of the shard's leader is below its reserve")]
    DiskFull,
    /// The node to ask cannot be reached; it had not been sent.
    #[error("node {0} cannot be reached")]
    Unreachable(NodeId),
    /// It may or may not have been done: the time was up, or the connection or the leadership
    /// was lost after it was sent. Retrying under the same id is safe.
    #[error("the outcome is not known: {0}")]
    Unknown(String),
}

/// Why a LINEARIZABLE read cannot be answered here.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// Another node leads, perhaps this one.
    #[error("not the leader of {shard}")]
    NotLeader {
        /// The shard.
        shard: ShardId,
        /// Who leads, when known.
        leader: Option<NodeId>,
    },
    /// No quorum confirmed in time.
    #[error("no quorum of {0} confirmed the leader in time")]
    NoQuorum(ShardId),
}

/// This node's replica of a shard, as `firebreak status` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// The shard.
    pub shard: ShardId,
    /// leader, follower, learner, candidate, broken.
    pub state: &'static str,
    /// Who leads, when known.
    pub leader: Option<NodeId>,
    /// Its term.
    pub term: u64,
    /// Last entry of its log.
    pub last_log_index: u64,
    /// Highest it knows to be committed.
    pub committed_index: u64,
    /// Applied.
    pub applied_index: u64,
    /// Cut off the log.
    pub purged_index: u64,
    /// Changes applied.
    pub revision: u64,
    /// Why it is broken.
    pub broken_reason: Option<String>,
    /// (term, leader) as acknowledged here, oldest first.
    pub leader_history: Vec<(u64, NodeId)>,
}

/// One node: its groups, its links to the others, its view of the cluster.
pub struct Node {
    _private: (),
}

#[allow(unused_variables, clippy::unused_async, reason = "being built")]
impl Node {
    /// Starts the groups of this node and its links to the others. Must run on a tokio runtime.
    ///
    /// # Errors
    /// Text for people: what was found on disk and why the node cannot start from it.
    pub async fn start(options: Options) -> Result<Arc<Node>, String> {
        unimplemented!()
    }

    /// The node-to-node service, to be added to the node's gRPC server.
    pub fn peer_service(
        self: &Arc<Self>,
    ) -> proto::node::peer_server::PeerServer<impl proto::node::peer_server::Peer> {
        proto::node::peer_server::PeerServer::new(Placeholder)
    }

    /// Who this node is.
    pub fn identity(&self) -> &Identity {
        unimplemented!()
    }

    /// The cluster as this node sees it; epoch 0 until something is known.
    pub fn view(&self) -> watch::Receiver<Arc<ClusterState>> {
        unimplemented!()
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
        async { unimplemented!() }
    }

    /// After this, what [`Node::state`] reads of `shard` is linearizable. Only the leader can.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read_barrier(&self, shard: ShardId, timeout: Duration) -> Result<(), ReadError> {
        unimplemented!()
    }

    /// This node's replica of a shard, if it has one that works.
    pub fn state(&self, shard: ShardId) -> Option<ShardState> {
        unimplemented!()
    }

    /// The best guess at who leads a shard.
    pub fn leader(&self, shard: ShardId) -> Option<NodeId> {
        unimplemented!()
    }

    /// A shared channel to another node; `None` when its address is not known.
    pub fn channel(&self, node: NodeId) -> Option<Channel> {
        unimplemented!()
    }

    /// Whether the link to a node is up (this node itself always is).
    pub fn reachable(&self, node: NodeId) -> bool {
        unimplemented!()
    }

    /// This node's replicas, by shard.
    pub fn replicas(&self) -> Vec<ReplicaStatus> {
        unimplemented!()
    }

    /// Refuses new appends (the disk is below its reserve), or takes them again.
    pub fn set_disk_full(&self, full: bool) {
        unimplemented!()
    }

    /// Set once the node must stop (a failed fsync, say), to the reason.
    pub fn fatal(&self) -> watch::Receiver<Option<String>> {
        unimplemented!()
    }

    /// Stops the groups and flushes what is in memory.
    pub async fn shutdown(&self) {
        unimplemented!()
    }
}

struct Placeholder;

#[tonic::async_trait]
impl proto::node::peer_server::Peer for Placeholder {
    type LinkStream = futures::stream::Empty<Result<proto::node::Frames, tonic::Status>>;
    type WatchClusterStream = futures::stream::Empty<Result<proto::node::ClusterView, tonic::Status>>;
    async fn link(
        &self,
        _: tonic::Request<tonic::Streaming<proto::node::Frames>>,
    ) -> Result<tonic::Response<Self::LinkStream>, tonic::Status> {
        unimplemented!()
    }
    async fn install_snapshot(
        &self,
        _: tonic::Request<tonic::Streaming<proto::node::SnapshotChunk>>,
    ) -> Result<tonic::Response<proto::node::SnapshotDone>, tonic::Status> {
        unimplemented!()
    }
    async fn watch_cluster(
        &self,
        _: tonic::Request<proto::node::WatchClusterRequest>,
    ) -> Result<tonic::Response<Self::WatchClusterStream>, tonic::Status> {
        unimplemented!()
    }
}
