//! One shard's replica on this node: its Raft group, its batcher, and what is known of its leaders.
//! How it answers reads as the leader is in [`crate::replica::read`].

mod core;
mod log;
mod status;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use model::command::Reply;
use model::id::{NodeId, ShardId};
use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::metrics::RaftServerMetrics;
use parking_lot::Mutex;
use store::state::ShardState;
use store::{Position, ShardLog};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use self::core::Core;
use crate::adapter::acks::Acks;
use crate::adapter::copy::Held;
use crate::adapter::fault::Fault;
use crate::adapter::incarnation::Place;
use crate::adapter::state_machine::StateMachine;
use crate::adapter::told;
use crate::adapter::types::{Types, Vote};
use crate::adapter::vote_log_ends::Granted;
use crate::api::{Events, Tuning};
use crate::link::peers::Peers;
use crate::link::room::SharedRoom;
use crate::replica::age::Known;
use crate::replica::batcher::{Batcher, CommandTime, Waiting};
use crate::replica::incoming::Coming;
use crate::replica::leaders::Leadership;
use crate::replica::questions::Questions;
use crate::replica::read::Reads;
use crate::time::Time;

/// What a group is opened with.
pub(crate) struct Opening {
    pub(crate) node: NodeId,
    pub(crate) shard: ShardId,
    pub(crate) tuning: Tuning,
    pub(crate) log: ShardLog,
    pub(crate) state: ShardState,
    pub(crate) peers: Peers,
    pub(crate) room: SharedRoom,
    /// What commands take in memory, on this node.
    pub(crate) waiting: Arc<Waiting>,
    /// Where the log ended that this node had of the shard and gave up.
    pub(crate) floor: Option<Position>,
    /// Which of this node's replicas of the shard it is.
    pub(crate) incarnation: u64,
}

/// Why a group did not open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// This replica is broken; the others of the node are not.
    #[error("{0}")]
    Broken(String),
    /// The node cannot go on.
    #[error("{0}")]
    Node(String),
}

pub(crate) struct Group {
    pub(crate) shard: ShardId,
    pub(crate) raft: Raft<Types, StateMachine>,
    pub(crate) state: ShardState,
    pub(crate) batcher: Batcher,
    pub(crate) fault: Fault,
    pub(crate) node: NodeId,
    pub(crate) tuning: Tuning,
    pub(crate) time: Time,
    pub(crate) reads: Mutex<Reads>,
    /// What this replica asks its leader for those who read here.
    pub(crate) questions: Mutex<Questions>,
    /// As of when this replica is known to hold everything.
    pub(crate) known: Mutex<Known>,
    /// What the others have acknowledged to this node as their leader.
    pub(crate) acks: Arc<Acks>,
    pub(crate) leadership: Leadership,
    /// The last term that another has stood for whose log is shorter than this one.
    pub(crate) outlogged: AtomicU64,
    /// What became of the votes that this node asked for last.
    pub(crate) granted: Arc<Granted>,
    /// The disk's.
    pub(crate) room: SharedRoom,
    /// Told what happens.
    pub(crate) events: Arc<dyn Events>,
    /// What has come of a snapshot of the shard.
    pub(crate) coming: Coming,
    /// The snapshot that this replica sends.
    held: Arc<Held>,
    log: ShardLog,
    vote: Arc<Mutex<Option<Vote>>>,
    floor: Option<Position>,
    /// Which replica this is, and whether the shard's membership names it.
    pub(crate) place: Arc<Place>,
    /// The replica is given up: its end is wanted.
    pub(crate) closing: CancellationToken,
}

impl Group {
    /// Opens a replica from what is on disk.
    pub(crate) async fn open(opening: Opening) -> Result<Arc<Group>, OpenError> {
        let core = Core::start(&opening).await?;
        let time = opening.peers.vitals().time().clone();
        let events = opening.peers.events().clone();
        let batcher = Batcher::start(
            core.leadership.clone(),
            CommandTime::new(time.clone(), opening.state.clone()),
            opening.room.clone(),
            opening.waiting,
            events.clone(),
        );
        // Only what has no number is told from what there was before by it.
        let floor = opening.floor.filter(|_| opening.incarnation == 0);
        Ok(Arc::new(Group {
            shard: opening.shard,
            raft: core.raft,
            state: opening.state,
            batcher,
            fault: core.fault,
            node: opening.node,
            tuning: opening.tuning,
            time,
            reads: Mutex::default(),
            questions: Mutex::default(),
            known: Mutex::default(),
            acks: core.acks,
            leadership: core.leadership,
            outlogged: AtomicU64::default(),
            granted: core.granted,
            room: opening.room,
            events,
            coming: Coming::default(),
            held: core.held,
            log: opening.log,
            vote: core.vote,
            floor,
            place: core.place,
            closing: CancellationToken::new(),
        }))
    }

    /// Who leads, as this replica knows.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        told::server(&self.raft).current_leader.map(NodeId)
    }

    /// Who votes, as this replica knows.
    pub(crate) fn voters(&self) -> BTreeSet<u64> {
        let members = told::server(&self.raft).membership_config;
        members.voter_ids().collect()
    }

    /// Who else has a replica, voting or learning, as this one knows.
    pub(crate) fn others(&self) -> Vec<NodeId> {
        let members = told::server(&self.raft).membership_config;
        let members = members.nodes().map(|(id, _)| NodeId(*id));
        members.filter(|id| *id != self.node).collect()
    }

    /// Whether its voters are about to change.
    pub(crate) fn is_joint(&self) -> bool {
        let members = told::server(&self.raft).membership_config;
        members.get_joint_config().len() > 1
    }

    /// What `look` finds in the metrics as soon as it finds something; `None` when that is not so
    /// until `until`, or when the group stops.
    pub(crate) async fn seen<T>(
        &self,
        until: Instant,
        look: impl Fn(&RaftServerMetrics<Types>) -> Option<T>,
    ) -> Option<T> {
        let mut metrics = self.raft.server_metrics();
        loop {
            let told = metrics.borrow_and_update().clone();
            let found = look(&told);
            if found.is_some() {
                return found;
            }
            match timeout_at(until, metrics.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return None,
            }
        }
    }

    /// Lets go of snapshots that broke off long ago.
    pub(crate) fn tidy_snapshots(&self) {
        self.held.tidy();
        self.coming.tidy();
    }

    /// Lets openraft stand by itself from when the membership names this replica.
    pub(crate) async fn let_stand(&self) {
        let mut metrics = self.raft.server_metrics();
        while !self.place.counts() {
            if metrics.changed().await.is_err() {
                return;
            }
        }
        self.raft.runtime_config().elect(true);
    }

    /// Whether a hand-over was heard of a moment ago: marked votes may pass the lease.
    pub(crate) fn handing_over(&self) -> bool {
        let lease = Duration::from_millis(self.tuning.election_max_ms);
        self.leadership.leaders.lock().handing_over(lease)
    }

    /// Whether `leader` leads as far as is known here, and handed over so long ago that it must
    /// have gone wrong, on machines that are so `late`: it takes no writes and sends no heartbeats
    /// any more.
    pub(crate) fn lost_by_hand_over(&self, leader: NodeId, late: Duration) -> bool {
        let (term, known) = self.leadership.now();
        known == Some(leader) && self.leadership.leaders.lock().lost(term, leader, late)
    }

    /// Whether a quorum has confirmed this node's lead lately; also while it does not lead. A leader
    /// that is cut off calls itself leader for as long as nobody tells it otherwise.
    pub(crate) fn is_confirmed(&self) -> bool {
        let lease = Duration::from_millis(self.tuning.election_max_ms);
        self.standing(self.time.now()).is_none_or(|standing| {
            let won = self.won_at(standing.term).elapsed();
            let acked = standing.acked.map(|acked| self.time.since(acked));
            acked.map_or(won, |acked| acked.min(won)) <= lease * 2
        })
    }

    /// Resolves, to the reason, when the Raft core has stopped by itself.
    pub(crate) async fn stopped(&self) -> String {
        let mut metrics = self.raft.metrics();
        loop {
            if let Err(fatal) = &metrics.borrow_and_update().running_state {
                return fatal.to_string();
            }
            if metrics.changed().await.is_err() {
                return "its metrics ended".into();
            }
        }
    }

    /// Whether the last vote of this replica is for `leader` in `term`: if so, it has neither let
    /// anybody else lead since nor applied anything of a later leader.
    pub(crate) fn follows(&self, term: u64, leader: NodeId) -> bool {
        self.follows_in(leader) == Some(term)
    }

    /// In which term it follows `leader`, in that sense.
    pub(crate) fn follows_in(&self, leader: NodeId) -> Option<u64> {
        let vote = (*self.vote.lock())?;
        (vote.leader_id().voted_for == leader.0).then_some(vote.leader_id().term)
    }

    /// The highest term that this replica has voted in or heard of.
    pub(crate) fn known_term(&self) -> u64 {
        self.vote.lock().map_or(0, |vote| vote.leader_id().term)
    }

    /// Whether this node leads, as it knows.
    pub(crate) fn leads(&self) -> bool {
        self.leader() == Some(self.node)
    }

    /// Whether this node is among the last that led.
    pub(crate) fn has_led(&self) -> bool {
        let leaders = self.leadership.leaders.lock();
        leaders.history.iter().any(|(_, node)| *node == self.node)
    }

    /// When this node won `term`, which it leads.
    pub(crate) fn won_at(&self, term: u64) -> Instant {
        self.leadership.leaders.lock().won_at(term)
    }

    /// When what is decided in `term`, which this node leads, may be told to anybody.
    pub(crate) fn may_tell_at(&self, term: u64) -> Instant {
        self.leadership.leaders.lock().may_tell_at(term)
    }

    /// Proposes a command of the node's own and awaits its reply.
    pub(crate) async fn propose(
        &self,
        command: &model::command::Command,
        limit: Duration,
    ) -> Result<Reply, crate::api::ProposeError> {
        let (done, answered) = oneshot::channel();
        let command = prost::Message::encode_to_vec(command).into();
        let expires = Instant::now() + limit;
        let done = crate::replica::batcher::Done::Here(done);
        self.batcher.submit(command, expires, done, None);
        match tokio::time::timeout_at(expires, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(crate::api::ProposeError::Unknown(
                "no answer in time".into(),
            )),
        }
    }

    /// Stops the replica; nothing of it runs afterwards.
    pub(crate) async fn stop(&self) {
        // Its core may have stopped by itself.
        let _ = self.raft.shutdown().await;
    }
}
