//! What this node notes on its own disk about itself: the last view, broken replicas, a refusal.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::cluster::ClusterState;
use model::id::ShardId;
use prost::Message as _;
use store::{Error, Log};

use crate::link::vitals::Vitals;

/// Local record: the last view, so that a restarted node knows whom to ask.
pub(super) const VIEW: &str = "view";
/// Local records: why a shard's replica must not run until it is rebuilt.
pub(super) const BROKEN: &str = "broken/";
/// Local record: why the cluster refused this disk; it stays refused.
pub(crate) const REFUSED: &str = "refused";

/// A replica that has stopped for good.
#[derive(Clone)]
pub(super) struct Broken {
    pub(super) why: String,
    /// Nothing of it runs any more.
    pub(super) stopped: bool,
}

impl Broken {
    /// Those that the disk knows of, also told to the others.
    pub(super) fn known(log: &Log, vitals: &Vitals) -> Result<BTreeMap<ShardId, Broken>, Error> {
        let mut broken = BTreeMap::new();
        for (key, why) in log.local_scan(BROKEN)? {
            if let Some(shard) = key.strip_prefix(BROKEN).and_then(|id| id.parse().ok()) {
                let why = String::from_utf8_lossy(&why).into_owned();
                vitals.is_broken(ShardId(shard), true);
                broken.insert(ShardId(shard), Broken { why, stopped: true });
            }
        }
        Ok(broken)
    }
}

/// What the cluster has said for good of the node whose log this is, if it does not want it any more.
///
/// # Errors
/// As the disk has.
pub fn refusal(log: &Log) -> Result<Option<String>, Error> {
    let why = log.local_get(REFUSED)?;
    Ok(why.map(|why| String::from_utf8_lossy(&why).into_owned()))
}

/// The cluster as the node whose log this is knew it last.
///
/// # Errors
/// Text for people, when it cannot be read.
pub fn last_view(log: &Log) -> Result<Option<ClusterState>, String> {
    let view = log.local_get(VIEW).map_err(|error| error.to_string())?;
    view.map(decode_view).transpose()
}

/// Forgets that the cluster has refused a disk, so that its node may ask again: why it was refused, if
/// it was. Durable on completion. The other nodes decide as ever.
///
/// # Errors
/// As the disk has.
pub async fn ask_again(log: &Log) -> Result<Option<String>, Error> {
    let why = log.local_get(REFUSED)?;
    if why.is_some() {
        log.local_put(REFUSED, None).await?;
    }
    Ok(why.map(|why| String::from_utf8_lossy(&why).into_owned()))
}

/// Reads a view, from a peer or from the local record.
pub(crate) fn decode_view(bytes: Bytes) -> Result<ClusterState, String> {
    ClusterState::decode(bytes).map_err(|e| format!("the cluster's view: {e}"))
}
