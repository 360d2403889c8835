//! What a node said of itself when it was asked, or that it did not.

use std::collections::BTreeMap;
use std::time::Duration;

use model::cluster::{ClusterState, Locality, Move, Node, Shard};
use model::id::ShardId;
use model::placement::{Facts, Leaders};
use proto::v1::{GetStatusResponse, NodeStatus};

/// What one node said.
#[derive(Clone, Debug)]
pub struct Report {
    /// host:port that was asked.
    pub address: String,
    /// As the cluster lists it; `None` for an address that no answer mentions.
    pub listed: Option<NodeStatus>,
    /// What it answered, or why it did not.
    pub status: Result<GetStatusResponse, String>,
    /// How long that took.
    pub took: Duration,
}

/// The answers among them.
pub fn answers(reports: &[Report]) -> impl Iterator<Item = &GetStatusResponse> {
    let said = reports.iter().map(|report| report.status.as_ref());
    said.filter_map(Result::ok)
}

/// The newest map that was told. Among equals it is the meta shard's leader's: what that sees of the others
/// decides what moves.
pub fn newest(reports: &[Report]) -> Option<&GetStatusResponse> {
    answers(reports).max_by_key(|status| {
        let mut replicas = status.replicas.iter();
        let leads = replicas.any(|one| one.shard == 0 && one.state == "leader");
        (status.map_epoch, leads)
    })
}

/// Who leads each shard by its own word; what others remember may be long over.
pub fn leaders(reports: &[Report]) -> Leaders {
    let mut newest: BTreeMap<u32, (u64, bool, u64)> = BTreeMap::new();
    for status in answers(reports) {
        for replica in &status.replicas {
            let told = (replica.term, replica.state == "leader", status.node_id);
            let known = newest.entry(replica.shard).or_insert(told);
            *known = told.max(*known);
        }
    }
    let led = newest.into_iter().filter(|(_, (_, leads, _))| *leads);
    led.map(|(shard, (_, _, node))| (ShardId(shard), node))
        .collect()
}

/// The map as the model has it.
pub fn state(status: &GetStatusResponse) -> ClusterState {
    let node = |node: &NodeStatus| Node {
        id: node.node_id,
        name: node.name.clone(),
        address: node.address.clone(),
        locality: Some(Locality {
            region: node.region.clone(),
            dc: node.dc.clone(),
            rack: node.rack.clone(),
        }),
        ..Node::default()
    };
    let data = status.shards.iter().filter(|shard| shard.shard != 0);
    let meta = status.shards.iter().find(|shard| shard.shard == 0);
    let leaving = status.nodes.iter().filter(|node| node.leaving);
    let highest = status.nodes.iter().map(|node| node.node_id).max();
    ClusterState {
        epoch: status.map_epoch,
        nodes: status.nodes.iter().map(node).collect(),
        shards: data
            .map(|shard| Shard {
                id: shard.shard,
                slot_first: shard.slot_first,
                slot_last: shard.slot_last,
                replicas: shard.replicas.clone(),
                changes: 0,
            })
            .collect(),
        meta_replicas: meta.map(|meta| meta.replicas.clone()).unwrap_or_default(),
        next_node_id: highest.unwrap_or(0) + 1,
        moves: status
            .moves
            .iter()
            .map(|going| Move {
                shard: going.shard,
                from: going.from,
                to: going.to,
                changing: going.changing,
                ..Move::default()
            })
            .collect(),
        leaving: leaving.map(|node| node.node_id).collect(),
        ..ClusterState::default()
    }
}

/// What the nodes that answer say of their disks and their load.
pub fn facts(reports: &[Report]) -> BTreeMap<u64, Facts> {
    let facts = answers(reports).filter_map(|status| {
        let stats = status.stats.as_ref()?;
        let facts = Facts {
            disk_free_bytes: stats.disk_free_bytes,
            disk_total_bytes: stats.disk_total_bytes,
            stored_bytes: stats.stored_bytes,
            appends_per_s: rate(stats.appended_messages, stats.uptime_ms),
        };
        Some((status.node_id, facts))
    });
    facts.collect()
}

/// Messages a second since the start.
#[allow(clippy::cast_precision_loss, reason = "a rate for people")]
fn rate(messages: u64, uptime_ms: u64) -> f64 {
    messages as f64 * 1_000.0 / uptime_ms.max(1) as f64
}
