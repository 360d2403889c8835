//! What the nodes say of themselves through the admin API, as far as a run must wait for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use client::Client;
use client::v1::GetStatusResponse;

/// How long one node may take to say how it is.
const STATUS_LIMIT: Duration = Duration::from_secs(2);

/// What every node says of itself.
///
/// # Errors
/// When one of `nodes` does not answer or does not know the others and the shards yet.
pub async fn statuses(client: &Client, nodes: u32) -> Result<Vec<GetStatusResponse>, String> {
    let reports = client.status_all(STATUS_LIMIT).await;
    let reports = reports.map_err(|error| error.to_string())?;
    let mut statuses = Vec::new();
    for report in reports {
        let status = report.status;
        let status = status.map_err(|error| format!("{}: {error}", report.address))?;
        if status.map_epoch == 0 || status.nodes.len() < nodes as usize {
            return Err(format!("{} does not know the cluster yet", report.address));
        }
        statuses.push(status);
    }
    if statuses.len() < nodes as usize {
        return Err(format!("{} of {nodes} nodes are known", statuses.len()));
    }
    Ok(statuses)
}

/// The replicas of each shard, by node id.
pub fn replicas(statuses: &[GetStatusResponse]) -> BTreeMap<u32, BTreeSet<u64>> {
    let newest = statuses.iter().max_by_key(|status| status.map_epoch);
    let shards = newest.into_iter().flat_map(|status| &status.shards);
    shards
        .map(|shard| (shard.shard, shard.replicas.iter().copied().collect()))
        .collect()
}

/// host:port of each node.
pub fn addresses(statuses: &[GetStatusResponse]) -> BTreeMap<u64, String> {
    let nodes = statuses.iter().flat_map(|status| &status.nodes);
    nodes
        .map(|node| (node.node_id, node.address.clone()))
        .collect()
}

/// Whether each shard has a replica that says it leads, and none is broken.
///
/// # Errors
/// The first that has none.
pub fn all_led(statuses: &[GetStatusResponse]) -> Result<(), String> {
    let own = || statuses.iter().flat_map(|status| &status.replicas);
    if let Some(broken) = own().find(|replica| replica.state == "broken") {
        return Err(format!("s{}: {}", broken.shard, broken.broken_reason));
    }
    for shard in replicas(statuses).keys() {
        if !own().any(|replica| replica.shard == *shard && replica.state == "leader") {
            return Err(format!("nobody leads s{shard}"));
        }
    }
    Ok(())
}
