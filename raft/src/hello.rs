//! How nodes recognize each other. Every call between nodes carries who the caller is; a node that
//! is not of this cluster, not known to it, or on an older disk than was seen before is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use model::cluster::ClusterState;
use model::id::NodeId;
use model::mutant;
use prost::Message;
use store::Log;
use tokio::sync::Mutex;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};

use crate::api::Identity;

const CLUSTER: &str = "firebreak-cluster";
const NODE: &str = "firebreak-node";
const BOOT: &str = "firebreak-boot";
const NONCE: &str = "firebreak-nonce";
const DISK: &str = "firebreak-disk";
/// Set on a refusal that waiting does not heal: the caller's disk is not the one it should have.
const REFUSED: &str = "firebreak-refused";
/// Local records: the newest boot seen of each node.
const SEEN: &str = "peer/";

/// The metadata that this node sends with every call to another.
#[derive(Clone)]
pub(crate) struct Hello {
    identity: Arc<Identity>,
}

impl Hello {
    pub(crate) fn new(identity: Arc<Identity>) -> Hello {
        Hello { identity }
    }

    /// A request that says who asks.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let identity = &self.identity;
        let fields = [
            (CLUSTER, identity.cluster_id.clone()),
            (NODE, identity.node.0.to_string()),
            (BOOT, identity.boot.to_string()),
            (NONCE, identity.boot_nonce.to_string()),
            (DISK, hex(&identity.disk_id)),
        ];
        for (key, value) in fields {
            // Digits and hex are valid in a header.
            if let Ok(value) = value.parse() {
                request.metadata_mut().insert(key, value);
            }
        }
        request
    }
}

/// Whether a status says that this node's own disk is refused.
pub(crate) fn is_refusal(status: &Status) -> bool {
    status.code() == Code::PermissionDenied && status.metadata().contains_key(REFUSED)
}

/// The newest boot of a node that this one has seen. Persisted: tags are permanent.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Seen {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(uint64, tag = "2")]
    boot: u64,
    #[prost(uint64, tag = "3")]
    nonce: u64,
}

/// Who may call this node.
pub(crate) struct Doorkeeper {
    cluster_id: String,
    log: Log,
    seen: Mutex<BTreeMap<NodeId, Seen>>,
}

impl Doorkeeper {
    /// Reads back the boots seen before.
    pub(crate) fn open(cluster_id: String, log: Log) -> Result<Doorkeeper, store::Error> {
        let mut seen = BTreeMap::new();
        for (key, value) in log.local_scan(SEEN)? {
            let node = key
                .strip_prefix(SEEN)
                .and_then(|id| id.parse().ok())
                .map(NodeId);
            if let (Some(node), Ok(boot)) = (node, Seen::decode(value)) {
                seen.insert(node, boot);
            }
        }
        Ok(Doorkeeper {
            cluster_id,
            log,
            seen: Mutex::new(seen),
        })
    }

    /// Who calls, if it may. What is newly seen is durable before the caller is let in.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` without an identity, `PERMISSION_DENIED` for another cluster or an older
    /// disk, `UNAVAILABLE` for a node that this one does not know yet.
    pub(crate) async fn admit(
        &self,
        metadata: &MetadataMap,
        view: &ClusterState,
    ) -> Result<NodeId, Status> {
        let text = |key: &str| -> Result<&str, Status> {
            metadata
                .get(key)
                .and_then(|v| v.to_str().ok())
                .ok_or_else(|| {
                    Status::unauthenticated(format!("calls between nodes must carry {key}"))
                })
        };
        let number = |key: &str| -> Result<u64, Status> {
            text(key)?
                .parse()
                .map_err(|_| Status::unauthenticated(format!("{key} must be a number")))
        };
        let cluster = text(CLUSTER)?;
        if cluster != self.cluster_id {
            return Err(Status::permission_denied(format!(
                "this node is of cluster {}, the caller of {cluster}",
                self.cluster_id
            )));
        }
        let node = NodeId(number(NODE)?);
        let Some(known) = view.node(node) else {
            return Err(Status::unavailable(format!(
                "node {node} is not known here (yet)"
            )));
        };
        if hex(&known.disk_id) != text(DISK)? {
            return Err(refusal(format!(
                "node {node} ({}) joined with another disk; a replaced disk joins as a new node \
                 under a new name",
                known.name
            )));
        }
        self.boot(node, number(BOOT)?, number(NONCE)?).await?;
        Ok(node)
    }

    async fn boot(&self, node: NodeId, boot: u64, nonce: u64) -> Result<(), Status> {
        let now = Seen {
            format: 1,
            boot,
            nonce,
        };
        let mut seen = self.seen.lock().await;
        match seen.get(&node) {
            Some(before) if *before == now => return Ok(()),
            Some(before) if before.boot >= boot && !mutant!("boot-counter-ignored") => {
                return Err(refusal(format!(
                    "node {node} says it starts for the {boot}th time, but its start {} was seen \
                     before: an old copy of its disk has come back",
                    before.boot
                )));
            }
            Some(_) | None => {}
        }
        let record = Bytes::from(now.encode_to_vec());
        self.log
            .local_put(&format!("{SEEN}{}", node.0), Some(record))
            .await
            .map_err(|e| Status::internal(e.to_string()))?;
        seen.insert(node, now);
        Ok(())
    }
}

fn refusal(message: String) -> Status {
    let mut status = Status::permission_denied(message);
    status
        .metadata_mut()
        .insert(REFUSED, tonic::metadata::MetadataValue::from_static("disk"));
    status
}

/// Bytes as lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
