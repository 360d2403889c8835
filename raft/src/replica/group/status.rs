//! What a replica shows of itself to operators.

use model::id::NodeId;

use super::Group;
use crate::adapter::told;
use crate::adapter::types::index;
use crate::api::{ReplicaStatus, Replicas};

impl Group {
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
}
