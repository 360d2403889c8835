//! How openraft is started over what is on disk.

use std::sync::Arc;
use std::time::Duration;

use model::id::ShardId;
use openraft::{Config, Raft, SnapshotPolicy};
use parking_lot::Mutex;
use store::Error;

use super::{OpenError, Opening};
use crate::adapter::acks::Acks;
use crate::adapter::copy::Held;
use crate::adapter::fault::Fault;
use crate::adapter::incarnation::Place;
use crate::adapter::log_store::{LogStore, Traced};
use crate::adapter::network::Network;
use crate::adapter::state_machine::StateMachine;
use crate::adapter::types::{Types, Vote};
use crate::adapter::vote_log_ends::Granted;
use crate::api::Tuning;
use crate::replica::leaders::{Leaders, Leadership};
use crate::replica::sleep::Sleep;

/// A Raft core that runs, and what its group keeps of what it runs by.
pub(super) struct Core {
    pub(super) raft: Raft<Types, StateMachine>,
    pub(super) fault: Fault,
    pub(super) acks: Arc<Acks>,
    pub(super) granted: Arc<Granted>,
    pub(super) place: Arc<Place>,
    pub(super) held: Arc<Held>,
    pub(super) vote: Arc<Mutex<Option<Vote>>>,
    pub(super) leadership: Leadership,
}

impl Core {
    /// Starts openraft over what is on disk.
    pub(super) async fn start(opening: &Opening) -> Result<Core, OpenError> {
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
