//! One shard's replica on this node: its Raft group, its batcher, and what is known of its leaders.
//! How it answers reads as the leader is in [`crate::replica::read`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use model::command::Reply;
use model::id::{NodeId, ShardId};
use model::{limits, mutant};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::metrics::RaftServerMetrics;
use openraft::{Config, Raft, SnapshotPolicy};
use parking_lot::Mutex;
use store::state::ShardState;
use store::{Error, Position, ShardLog};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::adapter::acks::Acks;
use crate::adapter::copy::Held;
use crate::adapter::fault::Fault;
use crate::adapter::incarnation::Place;
use crate::adapter::log_store::{LogStore, Traced};
use crate::adapter::network::Network;
use crate::adapter::state_machine::StateMachine;
use crate::adapter::told;
use crate::adapter::types::{LogId, Types, Vote, index};
use crate::adapter::vote_log_ends::Granted;
use crate::api::{Events, ReplicaStatus, Replicas, Tuning};
use crate::link::peers::Peers;
use crate::link::room::SharedRoom;
use crate::replica::age::Known;
use crate::replica::batcher::{Batcher, CommandTime, Waiting};
use crate::replica::incoming::Coming;
use crate::replica::leaders::{Leaders, Leadership};
use crate::replica::questions::Questions;
use crate::replica::read::Reads;
use crate::replica::sleep::Sleep;
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

/// A Raft core that runs, and what its group keeps of what it runs by.
struct Core {
    raft: Raft<Types, StateMachine>,
    fault: Fault,
    acks: Arc<Acks>,
    granted: Arc<Granted>,
    place: Arc<Place>,
    held: Arc<Held>,
    vote: Arc<Mutex<Option<Vote>>>,
    leadership: Leadership,
}

impl Core {
    /// Starts openraft over what is on disk.
    async fn start(opening: &Opening) -> Result<Core, OpenError> {
        let (node, shard, peers) = (opening.node, opening.shard, &opening.peers);
        let fault = Fault::new();
        let fail = |error: &dyn std::fmt::Display| match &*fault.watch().borrow() {
            Some(corrupt @ Error::Corrupt { .. }) => OpenError::Broken(corrupt.to_string()),
            Some(other) => OpenError::Node(other.to_string()),
            None => OpenError::Broken(error.to_string()),
        };
        let flushed = opening.state.clone();
        let cuttable = Arc::new(move || flushed.flushed().position.map(|p| p.index));
        let traced = Traced::new(node, shard, peers.events().clone());
        let store = LogStore::open(opening.log.clone(), cuttable, fault.clone(), traced);
        let store = store.map_err(|e| fail(&e))?;
        let vote = store.vote();
        let config = config(shard, &opening.tuning, opening.incarnation);
        let config = Arc::new(config.map_err(OpenError::Node)?);
        let windows = peers.vitals().windows().clone();
        let leaders = Arc::new(Mutex::new(Leaders::new(windows)));
        let sleep = Arc::new(Sleep::default());
        let (acks, granted) = (Arc::<Acks>::default(), Arc::<Granted>::default());
        let place = Arc::new(Place::new(node, opening.incarnation));
        let network = Network {
            shard,
            peers: peers.clone(),
            acks: acks.clone(),
            windows: leaders.clone(),
            timers: sleep.clone(),
            log: store.clone(),
            granted: granted.clone(),
            place: place.clone(),
        };
        let machine = StateMachine::new(opening.state.clone(), fault.clone());
        let held = machine.held();
        let raft = Raft::new(node.0, config, network, store, machine)
            .await
            .map_err(|e| fail(&e))?;
        sleep.of(raft.clone());
        place.of(raft.clone());
        let leadership = Leadership {
            shard,
            node,
            raft: raft.clone(),
            leaders,
            sleep,
            patience: Duration::from_millis(opening.tuning.heartbeat_ms),
        };
        Ok(Core {
            raft,
            fault,
            acks,
            granted,
            place,
            held,
            vote,
            leadership,
        })
    }
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

    /// The index of the last entry of the log; 0 when there is none.
    pub(crate) fn last_index(&self) -> u64 {
        self.log.last().map_or(0, |last| last.index)
    }

    /// Lets go of snapshots that broke off long ago.
    pub(crate) fn tidy_snapshots(&self) {
        self.held.tidy();
        self.coming.tidy();
    }

    /// What the log takes, bytes.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.log.bytes_kept()
    }

    /// Reads entries back from the disk; see [`ShardLog::verify`].
    pub(crate) fn verify_log(&self, from: u64, bytes: usize) -> Result<Option<u64>, Error> {
        self.log.verify(from, bytes)
    }

    /// Whether this is where the log was cut, or an entry of it.
    pub(crate) fn holds(&self, id: &LogId) -> bool {
        let found = self.log.position_at(id.index());
        found.is_ok_and(|found| found.map(crate::adapter::types::log_id) == Some(*id))
    }

    /// The last entry of the log.
    pub(crate) fn last_log(&self) -> Option<Position> {
        self.log.last()
    }

    /// The last entry of the log that is on the disk.
    pub(crate) fn last_synced(&self) -> Option<Position> {
        self.log.synced()
    }

    /// Whether a candidate whose log ends there lacks nothing that this replica has ever
    /// acknowledged. What it once gave up is not in its log any more, so the log alone cannot tell.
    pub(crate) fn may_elect(&self, last: Option<&LogId>) -> bool {
        self.floor <= last.map(crate::adapter::types::position)
    }

    /// Whether entries are refused, since the disk has no room for them. The meta shard's are few,
    /// and operators need it most then.
    pub(crate) fn takes_no_entries(&self) -> bool {
        self.room.is_spent() && !self.shard.is_meta()
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

    /// Whether entries differ from what this replica has applied: no leader has such, whatever its
    /// term, since it would have been elected without them.
    pub(crate) fn contradicts(&self, append: &proto::node::AppendEntries) -> Option<Position> {
        let applied = self.state.reached().position?;
        let ids = append.entries.iter().filter_map(|entry| entry.id);
        let decided = ids.take_while(|id| id.index <= applied.index);
        let differs = |id: &proto::node::LogId| {
            let here = match id.index == applied.index {
                true => Some(applied),
                false => self.log.position_at(id.index).ok().flatten(),
            };
            here.is_some_and(|here| here.term != id.term)
        };
        let found = { decided }.find(differs);
        found.map(|id| Position {
            term: id.term,
            index: id.index,
        })
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

    /// Cuts the log up to what is flushed and, while nobody is absent, what the followers have.
    /// For an absent replica it is kept, within bounds; one that was given up gets a snapshot when it
    /// comes back.
    pub(crate) async fn cut_log(
        &self,
        absent: bool,
        given_up: impl Fn(&u64) -> bool,
        bytes_max: u64,
    ) {
        let Some(flushed) = self.state.flushed().position.map(|p| p.index) else {
            return;
        };
        // Looked at often and for every group: what is needed is read, nothing is copied.
        let (stated, purged, matched) = told::data(&self.raft, |told| {
            let followers = told.replication.as_ref();
            let matched = followers.and_then(|followers| {
                let waited_for = followers.iter().filter(|(id, _)| !given_up(id));
                waited_for.map(|(_, matched)| index(matched)).min()
            });
            let stated = told.snapshot.as_ref().map(LogId::index);
            (stated, index(&told.purged), matched)
        });
        if stated < Some(flushed) {
            // For the next look; state that is flushed all the time must not put off the cut.
            // Stopped groups need no housekeeping.
            let _ = self.raft.trigger().snapshot().await;
        }
        let Some(flushed) = stated.map(|stated| stated.min(flushed)) else {
            return;
        };
        let kept_for_others = match matched {
            _ if self.log.bytes_kept() > bytes_max => self.followed_from(matched).min(flushed),
            _ if absent => return,
            Some(matched) => matched.min(flushed),
            None => flushed,
        };
        let entries = self.tuning.keep.log_entries;
        let upto = kept_for_others.saturating_sub(entries);
        if upto > purged + entries {
            let _ = self.raft.trigger().purge_log(upto).await;
        }
    }

    /// Cuts the log up to an entry that erased something, once that is flushed; not while a follower that is
    /// there lacks it, unless `now`. Whether all up to it is cut.
    pub(crate) async fn cut_erased(&self, upto: u64, now: bool) -> bool {
        if self.log.purged().is_some_and(|purged| purged.index >= upto) {
            return true;
        }
        let flushed = self.state.flushed().position.map_or(0, |p| p.index);
        let (stated, matched) = told::data(&self.raft, |told| {
            let followers = told.replication.as_ref();
            let matched = followers.and_then(|all| all.values().map(index).min());
            (told.snapshot.as_ref().map_or(0, LogId::index), matched)
        });
        if flushed < upto {
            return false;
        }
        if stated < upto {
            let _ = self.raft.trigger().snapshot().await;
        } else if now || matched.is_none_or(|matched| matched >= upto) {
            let _ = self.raft.trigger().purge_log(upto).await;
        }
        false
    }

    /// From where on the log is kept whatever the budget says: for one that is getting a snapshot.
    fn followed_from(&self, matched: Option<u64>) -> u64 {
        let follows = self.held.followed_from();
        let follows = follows.filter(|_| {
            self.log.bytes_kept() <= limits::LOG_BEHIND_SNAPSHOT_BYTES_MAX
                && !mutant!("snapshot-without-its-log")
        });
        follows.map_or(u64::MAX, |follows| follows.max(matched.unwrap_or(0)))
    }

    /// Its state, as [`ReplicaStatus::state`] has it.
    fn state_name(&self) -> &'static str {
        // Whether it leads is asked of these everywhere else; the others follow a moment later.
        match told::server(&self.raft).state {
            openraft::ServerState::Leader if !self.is_confirmed() => "unconfirmed",
            openraft::ServerState::Leader => "leader",
            openraft::ServerState::Candidate => "candidate",
            openraft::ServerState::Follower => "follower",
            openraft::ServerState::Learner => "learner",
            openraft::ServerState::Shutdown => "stopped",
        }
    }

    /// Adds it to what all replicas of the node come to.
    pub(crate) fn add_to(&self, all: &mut Replicas) {
        let state = self.state_name();
        let applied = self.state.applied();
        *all.states.entry(state).or_default() += 1;
        if state == "leader" {
            all.led.push((self.shard, applied.revision));
        }
        if self.leadership.sleep.is_asleep() {
            all.asleep += 1;
        }
        let (leader, committed, last, purged) = told::all(&self.raft, |told| {
            let (committed, purged) = (index(&told.local_committed), index(&told.purged));
            (told.current_leader, committed, told.last_log_index, purged)
        });
        if leader.is_none() || state == "unconfirmed" {
            all.leaderless.push(self.shard);
        }
        let applied = applied.position.map_or(0, |position| position.index);
        all.unapplied_max = all.unapplied_max.max(committed.saturating_sub(applied));
        let kept = last.unwrap_or(0).saturating_sub(purged);
        all.log_entries_max = all.log_entries_max.max(kept);
    }

    /// As `firebreak status` shows it.
    pub(crate) fn status(&self) -> ReplicaStatus {
        let metrics = told::all(&self.raft, Clone::clone);
        let confirmed = self.is_confirmed();
        let state = self.state_name();
        let applied = self.state.applied();
        ReplicaStatus {
            shard: self.shard,
            state,
            leader: metrics
                .current_leader
                .map(NodeId)
                .filter(|l| confirmed || *l != self.node),
            term: metrics.current_term,
            last_log_index: metrics.last_log_index.unwrap_or(0),
            committed_index: index(&metrics.local_committed),
            applied_index: applied.position.map_or(0, |p| p.index),
            purged_index: index(&metrics.purged),
            revision: applied.revision,
            scrubbed_ms: 0,
            broken_reason: None,
            leader_history: self.leadership.leaders.lock().history.clone(),
            asleep: self.leadership.sleep.is_asleep(),
        }
    }

    /// Stops the replica; nothing of it runs afterwards.
    pub(crate) async fn stop(&self) {
        // Its core may have stopped by itself.
        let _ = self.raft.shutdown().await;
    }
}

fn config(shard: ShardId, tuning: &Tuning, incarnation: u64) -> Result<Config, String> {
    let config = Config {
        cluster_name: format!("firebreak-{shard}"),
        heartbeat_interval: tuning.heartbeat_ms,
        election_timeout_min: tuning.election_min_ms,
        election_timeout_max: tuning.election_max_ms,
        enable_pre_vote: Some(true),
        // Else it would stand by a membership of the past; see `Group::let_stand`.
        enable_elect: incarnation == 0,
        // Unsafe with state that is not flushed, and documented so.
        enable_leader_restore: Some(false),
        // SEND_BYTES_MAX bounds their bytes.
        max_payload_entries: 512,
        // Housekeeping decides when state is flushed and how much log is kept.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        purge_batch_size: 1,
        install_snapshot_timeout: 60_000,
        // Of a feature that is off; openraft takes memory for them all the same.
        log_stage_capacity: Some(1),
        ..Config::default()
    };
    config.validate().map_err(|e| e.to_string())
}
