//! The cluster as this node sees it.

use std::collections::BTreeMap;

use model::cluster::{ClusterState, Move, Node};
use model::id::{NodeId, ShardId};
use model::placement;
use proto::v1;
use raft::Room;

use super::Admin;
use crate::sight::metrics;

/// The state of a replica that leads, and of one that calls itself leader without a quorum.
const LEADER: &str = "leader";
const UNCONFIRMED: &str = "unconfirmed";

/// What a client needs of the cluster: which nodes there are, and who leads what.
pub(super) fn of_clients(status: v1::GetStatusResponse) -> v1::GetStatusResponse {
    v1::GetStatusResponse {
        cluster_id: status.cluster_id,
        node_id: status.node_id,
        node_name: status.node_name,
        map_epoch: status.map_epoch,
        nodes: status.nodes,
        shards: status.shards,
        version: status.version,
        now_ms: status.now_ms,
        ..v1::GetStatusResponse::default()
    }
}

fn replica_move(going: &Move) -> v1::ReplicaMove {
    v1::ReplicaMove {
        shard: going.shard,
        from: going.from,
        to: going.to,
        changing: going.changing,
    }
}

fn replica_status(replica: raft::ReplicaStatus) -> v1::ReplicaStatus {
    let history = replica.leader_history.into_iter();
    v1::ReplicaStatus {
        shard: replica.shard.0,
        state: replica.state.to_owned(),
        leader: replica.leader.map_or(0, |node| node.0),
        term: replica.term,
        last_log_index: replica.last_log_index,
        committed_index: replica.committed_index,
        applied_index: replica.applied_index,
        purged_index: replica.purged_index,
        revision: replica.revision,
        broken_reason: replica.broken_reason.unwrap_or_default(),
        asleep: replica.asleep,
        scrubbed_ms: replica.scrubbed_ms,
        leader_history: history
            .map(|(term, leader)| v1::LeaderTerm {
                term,
                leader: leader.0,
            })
            .collect(),
    }
}

impl Admin {
    /// The cluster as this node sees it.
    pub fn status(&self, asked: v1::GetStatusRequest) -> v1::GetStatusResponse {
        let identity = self.gateway.raft.identity();
        let view = self.gateway.view();
        let replicas = self.replicas(&view);
        let mut status = v1::GetStatusResponse {
            cluster_id: identity.cluster_id.clone(),
            node_id: identity.node.0,
            node_name: identity.name.clone(),
            map_epoch: if view.shards.is_empty() {
                0
            } else {
                view.epoch
            },
            nodes: self.nodes(&view),
            shards: self.shards(&view, &replicas),
            replicas: replicas.into_iter().map(replica_status).collect(),
            nodes_expected: view.nodes_expected,
            moves: view.moves.iter().map(replica_move).collect(),
            unrestored: self.unrestored(&view),
            figures: Some(self.local.figures(self.log.syncs().1)),
            links: self.local.links(),
            health: Some(self.local.health()),
            version: self.local.version.to_owned(),
            http: self.local.http.clone().unwrap_or_default(),
            now_ms: self.local.now_ms(),
            // What cannot be read stops its replica elsewhere.
            erasures: match asked.with_erasures {
                true => self.state.erasures().ok().map(|count| count as u64),
                false => None,
            },
            heat: match asked.with_heat {
                true => self.local.heat(),
                false => Vec::new(),
            },
            stats: Some(self.stats(&view)),
            ..v1::GetStatusResponse::default()
        };
        if let Some(faults) = &self.faults {
            faults.tell(&mut status);
        }
        status
    }

    /// This node's replicas. One that calls itself leader without a majority is not confirmed.
    fn replicas(&self, view: &ClusterState) -> Vec<raft::ReplicaStatus> {
        let mut replicas = self.gateway.raft.replicas();
        for replica in &mut replicas {
            if replica.state == LEADER && !self.reaches_majority(view, replica.shard) {
                replica.state = UNCONFIRMED;
            }
        }
        replicas
    }

    /// The shards of the map, the meta shard first, with terms from this node's `own` replicas.
    fn shards(&self, view: &ClusterState, own: &[raft::ReplicaStatus]) -> Vec<v1::ShardStatus> {
        let terms = own.iter().map(|one| (one.shard.0, one.term));
        let terms: BTreeMap<u32, u64> = terms.collect();
        let status = |shard: u32, (slot_first, slot_last), replicas: &[u64]| {
            let leader = self.gateway.raft.leader(ShardId(shard));
            let degraded = placement::majority_in(view, replicas);
            v1::ShardStatus {
                shard,
                slot_first,
                slot_last,
                replicas: replicas.to_vec(),
                leader: leader.map_or(0, |node| node.0),
                term: terms.get(&shard).copied().unwrap_or(0),
                degraded_dc: degraded.unwrap_or_default().to_owned(),
            }
        };
        let mut shards = vec![status(ShardId::META.0, (0, 0), &view.meta_replicas)];
        shards.extend(view.shards.iter().map(|shard| {
            let slots = (shard.slot_first, shard.slot_last);
            status(shard.id, slots, &shard.replicas)
        }));
        shards
    }

    /// What this node's process and disk have done and hold.
    fn stats(&self, view: &ClusterState) -> v1::NodeStats {
        let disk = *self.disk.borrow();
        let (log, state) = (self.log.stats(), self.state.stats());
        let resources = self.resources().into_iter();
        v1::NodeStats {
            pid: u64::from(self.pid),
            fsyncs: log.syncs,
            log_bytes: log.bytes_written,
            state_bytes: state.bytes_written,
            appended_messages: self.state.appended_messages(),
            disk_free_bytes: disk.space.free,
            disk_total_bytes: disk.space.total,
            stored_bytes: log.stored_bytes + state.stored_bytes,
            disk_reserve_reached: disk.room > Room::Enough,
            disk_reserve_bytes: disk.reserve,
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            resources: resources.chain([self.series(view)]).collect(),
        }
    }

    /// What is bounded, and how much of it is used.
    pub fn resources(&self) -> Vec<v1::Resource> {
        let raft = &self.gateway.raft;
        let memory = self.memory.resources(raft, &self.log, &self.state);
        self.budget.resources(&self.guard, memory)
    }

    /// How many series a scraper gets, and how many it can get at most.
    fn series(&self, view: &ClusterState) -> v1::Resource {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        v1::Resource {
            name: "metric series".to_owned(),
            used: count(self.metrics.series()),
            max: count(metrics::budget(view.nodes.len().max(1))),
            setting: "http.enabled".to_owned(),
            ..v1::Resource::default()
        }
    }

    /// Whether this node reaches a majority of a shard's replicas, itself among them. A leader that has
    /// lost them calls itself leader for seconds, until none of them has acknowledged anything for long.
    fn reaches_majority(&self, view: &ClusterState, shard: ShardId) -> bool {
        let replicas = match shard.is_meta() {
            true => Some(&view.meta_replicas),
            false => view.shard(shard).map(|shard| &shard.replicas),
        };
        // Of a shard that the map does not have yet nothing is known.
        replicas.is_none_or(|replicas| {
            let reached = replicas
                .iter()
                .filter(|node| self.gateway.raft.reachable(NodeId(**node)));
            reached.count() * 2 > replicas.len()
        })
    }

    /// The nodes of the cluster as this one sees them.
    pub fn nodes(&self, view: &ClusterState) -> Vec<v1::NodeStatus> {
        let raft = &self.gateway.raft;
        let health = raft.health();
        let status = |node: &Node| {
            let locality = node.locality.clone().unwrap_or_default();
            v1::NodeStatus {
                node_id: node.id,
                name: node.name.clone(),
                address: self.address(node),
                region: locality.region,
                dc: locality.dc,
                rack: locality.rack,
                reachable: raft.reachable(NodeId(node.id)),
                draining: view.is_draining(NodeId(node.id)),
                leaving: view.leaving.contains(&node.id),
                gone_ms: health.gone_ms.get(&node.id).copied().unwrap_or(0),
                clock_off_ms: raft.clock_off_ms(NodeId(node.id)).unwrap_or(0),
            }
        };
        view.nodes.iter().map(status).collect()
    }

    /// Where a node is: where it is reached from here, else where the cluster knows it.
    pub(crate) fn address(&self, node: &Node) -> String {
        let reached = self.gateway.raft.address(NodeId(node.id));
        reached.unwrap_or_else(|| node.address.clone())
    }

    /// What is not as it should be, as the meta shard's leader would see it from here.
    fn unrestored(&self, view: &ClusterState) -> Vec<v1::UnrestoredReplica> {
        let raft = &self.gateway.raft;
        if view.awaits_layout() {
            let nodes = view.nodes.iter();
            let lost = nodes.filter(|node| !raft.reachable(NodeId(node.id)));
            let lost = lost.map(|node| (node.id, format!("{} does not answer", node.name)));
            let why = placement::first_layout(view).err();
            let why = why.map(|error| (0, format!("the shards cannot be laid out: {error}")));
            return lost
                .chain(why)
                .map(|(node_id, why)| v1::UnrestoredReplica {
                    shard: 0,
                    node_id,
                    why,
                })
                .collect();
        }
        let plan = placement::plan(view, &raft.health(), &raft.placement_policy());
        let unrestored = plan.unrestored.into_iter();
        unrestored
            .map(|one| v1::UnrestoredReplica {
                shard: one.shard.0,
                node_id: one.node,
                why: one.to_string(),
            })
            .collect()
    }
}
