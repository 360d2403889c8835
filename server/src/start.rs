//! How a node begins: it counts the start, and looks whether it stands where the cluster knows it.

use model::cluster::{ClusterState, Locality};
use model::id::NodeId;
use raft::Identity;
use store::Log;

use crate::World;
use crate::config::Config;
use crate::found;
use crate::identity::Record;
use crate::node::RunError;

/// Counts this start and syncs the count, before anyone hears of it.
pub(crate) async fn count_start(
    world: &World,
    log: &Log,
    record: &mut Record,
) -> Result<(), RunError> {
    let mut nonce = [0; 8];
    world.entropy.fill(&mut nonce).map_err(RunError::Entropy)?;
    record.boot += 1;
    record.boot_nonce = u64::from_le_bytes(nonce);
    Ok(record.save(log).await?)
}

/// Whether the node stands where the cluster knows it. Asks others when it seems not to: an operator may
/// have said so while it was down. What was to be founded, and is not yet, is as the configuration says.
pub(crate) async fn stands(
    world: &World,
    config: &Config,
    log: &Log,
    record: &mut Record,
) -> Result<(), RunError> {
    let known = raft::last_view(log).map_err(RunError::Start)?;
    let disk_id = record.disk_id.clone();
    let founded = record.found.as_mut().filter(|_| known.is_none());
    if let Some(first) = founded.and_then(|founded| founded.nodes.first_mut()) {
        let id = first.id;
        *first = model::cluster::Node {
            id,
            ..found::this_node(config, disk_id)
        };
        return Ok(());
    }
    let place = &config.locality;
    let known = known.unwrap_or_default();
    let differs = |view: &ClusterState| {
        let listed = view.node(NodeId(record.node))?.locality.clone()?;
        (listed.region != place.region || listed.dc != place.dc).then_some(listed)
    };
    if known.epoch > 0 && differs(&known).is_none() {
        return Ok(());
    }
    let (identity, dialer) = (identity(config, record)?, world.network.dialer());
    let seeds = seeds(config, record);
    let newest = raft::newest_view(&identity, log, &dialer, &seeds, known).await;
    let Some(listed) = differs(&newest) else {
        return Ok(());
    };
    let configured = Locality {
        region: place.region.clone(),
        dc: place.dc.clone(),
        rack: String::new(),
    };
    let listed = Locality {
        rack: String::new(),
        ..listed
    };
    Err(RunError::Elsewhere {
        name: record.name.clone(),
        configured: configured.to_string(),
        known: listed.to_string(),
        region: configured.region,
        dc: configured.dc,
    })
}

/// Whom to ask about the cluster.
pub(crate) fn seeds(config: &Config, record: &Record) -> Vec<String> {
    let mut seeds = config.peers.clone();
    seeds.extend(record.seeds.iter().cloned());
    seeds.sort_unstable();
    seeds.dedup();
    seeds.retain(|seed| *seed != config.advertise);
    seeds
}

pub(crate) fn identity(config: &Config, record: &Record) -> Result<Identity, RunError> {
    Ok(Identity {
        cluster_id: record.cluster_id.clone(),
        node: NodeId(record.node),
        name: record.name.clone(),
        disk_id: record.disk_id()?,
        boot: record.boot,
        boot_nonce: record.boot_nonce,
        address: config.advertise.clone(),
        rack: config.locality.rack.clone(),
        secret: record.secret.clone().into(),
    })
}
