//! What a node offers to the server above it.

mod events;
mod proof;
mod spans;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::cluster::ClusterState;
use model::id::{NodeId, ShardId};
use model::limits;
use proto::net::Dialer;
use store::{Log, Share, state::State};
use thiserror::Error;

pub use events::*;
pub(crate) use proof::PROOF;
pub use proof::{Secret, prove, proven};
pub use spans::{Piece, Span};

/// What a machine's clocks show beside the monotonic one of the runtime; a parameter so that the
/// simulator can bend it.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock, Unix milliseconds. May jump; it is held against those of the other nodes.
    fn unix_ms(&self) -> u64;

    /// For how long the machine has been suspended, in all: what its monotonic clock leaves out. Never
    /// decreases. Zero where that cannot be known.
    fn suspended(&self) -> Duration {
        Duration::ZERO
    }
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
    /// host:port where others reach it since this start.
    pub address: String,
    /// Its rack.
    pub rack: String,
    /// What the nodes of the cluster prove themselves with to each other.
    pub secret: Secret,
}

/// Why this node is not of the cluster any more: it must stop, and does not start again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// An operator has removed it; otherwise its disk is not the one that its peers know.
    pub removed: bool,
    /// In words, and what to do.
    pub why: String,
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
    /// When state is flushed and how much log is kept.
    pub keep: Keep,
    /// How long a node is gone before its replicas are replaced; counts on the meta shard's leader.
    pub replace_after_ms: u64,
    /// How often everything is read back and replicas are compared.
    pub scrub: Scrubbing,
}

/// How often a shard is read back from all disks and compared, and how fast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scrubbing {
    /// From one time to the next, milliseconds; 0 = never.
    pub every_ms: u64,
    /// How much a node reads for it at most, bytes a second.
    pub bytes_per_s: u64,
}

impl Default for Scrubbing {
    fn default() -> Self {
        Scrubbing {
            every_ms: limits::SCRUB_EVERY_MS,
            bytes_per_s: limits::SCRUB_BYTES_PER_S,
        }
    }
}

/// The least [`Tuning::heartbeat_ms`] with which answers come in time over a `round` like this: openraft
/// waits for them for as long as from one heartbeat to the next, and a fifth of that is left for jitter
/// and the nodes themselves.
pub fn heartbeat_ms_min(round: Duration) -> u64 {
    u64::try_from((round.as_millis() * 5).div_ceil(4)).unwrap_or(u64::MAX)
}

/// When state is flushed, and how much log is kept behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// State written since the last flush at which the next one starts, bytes.
    pub flush_bytes: u64,
    /// State that is not flushed for this long is, however little it is: it bounds the replay.
    pub flush_age_ms: u64,
    /// Log of all shards together that is kept for absent replicas, bytes.
    pub log_bytes_max: u64,
    /// How long the log is kept for an absent replica.
    pub absent_ms_max: u64,
    /// Entries that stay in the log behind what everybody has, so that a short absence needs no
    /// snapshot; few, since a new leader that is not told where a follower's log ends searches it by
    /// halving.
    pub log_entries: u64,
}

impl Default for Keep {
    fn default() -> Self {
        Keep {
            flush_bytes: limits::STATE_FLUSH_BYTES,
            flush_age_ms: 60_000,
            log_bytes_max: limits::LOG_KEPT_BYTES_MAX,
            absent_ms_max: 10 * 60_000,
            log_entries: 256,
        }
    }
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning {
            heartbeat_ms: 500,
            election_min_ms: 1_500,
            election_max_ms: 2_000,
            read_lease_ms: 150,
            keep: Keep::default(),
            replace_after_ms: limits::REPLACE_AFTER_MS,
            scrub: Scrubbing::default(),
        }
    }
}

/// What all replicas of a node come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replicas {
    /// Those that lead with a quorum: the shard, and the changes that it has applied.
    pub led: Vec<(ShardId, u64)>,
    /// How many are in which state; see [`ReplicaStatus::state`].
    pub states: BTreeMap<&'static str, u64>,
    /// How many sleep.
    pub asleep: u64,
    /// Those that know of no leader.
    pub leaderless: Vec<ShardId>,
    /// Those whose quorum has not been heard for [`limits::QUORUM_LACK_MS_MAX`].
    pub without_quorum: Vec<ShardId>,
    /// The most entries that one has committed and not applied.
    pub unapplied_max: u64,
    /// The most entries that one keeps in its log.
    pub log_entries_max: u64,
}

/// How a node feels another one over its link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// The other.
    pub node: NodeId,
    /// up, new (never reached yet), doubted (its connection broke a moment ago), silent, reset
    /// (it refuses connections).
    pub state: &'static str,
    /// What a round to it takes at most, as it usually is; none before it was measured.
    pub round: Option<Duration>,
    /// For how long nothing has come from it, in time that this process was awake.
    pub silent: Duration,
    /// The silence after which it is given up.
    pub limit: Duration,
}

/// What a node is started with.
pub struct Options {
    /// Who it is.
    pub identity: Identity,
    /// How to reach others.
    pub dialer: Dialer,
    /// Time for messages.
    pub clock: Arc<dyn Clock>,
    /// raftdb.
    pub log: Log,
    /// msgdb.
    pub state: State,
    /// Timing.
    pub tuning: Tuning,
    /// The largest body of a message, bytes: of what others forward, no more is decided.
    pub body_bytes_max: usize,
    /// Bytes of commands that may wait for their leaders; above that callers are told so.
    pub queue_bytes_max: Share,
    /// Bytes that may wait to be sent to other nodes, beside entries.
    pub links_bytes_max: Share,
    /// Told what happens on the node.
    pub events: Arc<dyn Events>,
    /// Told how many replicas are open, whenever that changes.
    pub opened: Arc<dyn Fn(usize) + Send + Sync>,
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
    /// The time was up while it waited for its turn.
    #[error("the time was up before the leader tried it")]
    Expired,
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
    /// The leader did not answer.
    #[error("{0} cannot be asked as the leader")]
    Unreachable(NodeId),
    /// This node's replica has not applied yet what the leader has.
    #[error("the replica of {0} here is behind")]
    Behind(ShardId),
}

/// Why a shard was not handed over.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HandOverError {
    /// This node does not lead it (any more); who does, when known.
    #[error("this node does not lead the shard")]
    NotLeader(Option<NodeId>),
    /// Nobody who may is alive and has the whole log. The leader goes on as before.
    #[error("no other voter is alive and caught up")]
    NoHeir,
    /// It was handed over and nobody took it. The others elect.
    #[error("nobody took the leadership over")]
    Lost,
}

/// This node's replica of a shard, as `firebreak status` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// The shard.
    pub shard: ShardId,
    /// leader, unconfirmed (calls itself leader, without a quorum), follower, learner, candidate,
    /// broken.
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
    /// When it was last read back and compared with the others, Unix milliseconds; 0 = not yet.
    pub scrubbed_ms: u64,
    /// Why it is broken.
    pub broken_reason: Option<String>,
    /// (term, leader) as acknowledged here, oldest first.
    pub leader_history: Vec<(u64, NodeId)>,
    /// Nobody uses it, so that it sends and expects no heartbeats.
    pub asleep: bool,
}
