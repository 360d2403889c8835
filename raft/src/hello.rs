//! How nodes recognize each other. Every call between nodes carries who the caller is; a node that
//! is not of this cluster, not known to it, or on an older disk than was seen before is refused.
//!
//! An older disk shows in two ways. Its boot counter is not above the last one seen; that is
//! persisted here. Or, for a copy taken within the last start, its mark (`store::Log::mark`) as
//! found at the start is below one that the node told in pings and pongs before; that is kept in
//! memory, so whoever has restarted since knows nothing of it and lets the node pass. Only durable
//! marks are told, so neither a killed process nor a power cut brings a healthy node below them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use model::cluster::ClusterState;
use model::id::NodeId;
use model::mutant;
use prost::Message;
use proto::node as wire;
use store::Log;
use tokio::sync::Mutex;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Request, Status};

use crate::api::Identity;
use crate::vitals::Vitals;

const CLUSTER: &str = "firebreak-cluster";
const NODE: &str = "firebreak-node";
const BOOT: &str = "firebreak-boot";
const TO: &str = "firebreak-to";
const NONCE: &str = "firebreak-nonce";
const DISK: &str = "firebreak-disk";
/// The mark that the caller's start found on its disk; absent from versions without marks.
const MARK: &str = "firebreak-mark";
/// Where the caller is since this start: a `Place`. Absent from versions whose addresses never change.
const PLACE: &str = "firebreak-place-bin";
/// Set on a refusal that waiting does not heal: the caller's disk is not the one it should have.
const REFUSED: &str = "firebreak-refused";
/// Its value for a node that was removed.
const REMOVED: &str = "removed";
/// Local records: the newest boot seen of each node.
const SEEN: &str = "peer/";

/// The metadata that this node sends with every call to another.
#[derive(Clone)]
pub(crate) struct Hello {
    identity: Arc<Identity>,
    log: Log,
}

impl Hello {
    pub(crate) fn new(identity: Arc<Identity>, log: Log) -> Hello {
        Hello { identity, log }
    }

    /// The ping of this node, which is sent at `sent_us` (0: it is not to tell how long a round
    /// takes), whose view has this epoch, and which does as `vitals` says.
    pub(crate) fn ping(&self, sent_us: u64, map_epoch: u64, vitals: &Vitals) -> wire::Ping {
        wire::Ping {
            sent_us,
            map_epoch,
            mark: self.log.mark(),
            boot_nonce: self.identity.boot_nonce,
            health: Some(vitals.mine()),
            clock: Some(vitals.time().told()),
            read_window_ms: Some(vitals.windows().own_ms()),
        }
    }

    /// The answer to a ping.
    pub(crate) fn pong(&self, ping: &wire::Ping, map_epoch: u64, vitals: &Vitals) -> wire::Pong {
        wire::Pong {
            sent_us: ping.sent_us,
            map_epoch,
            mark: self.log.mark(),
            boot_nonce: self.identity.boot_nonce,
            health: Some(vitals.mine()),
            clock: Some(vitals.time().told()),
        }
    }

    /// A request that says who asks, and whom: another node may have come to its address.
    pub(crate) fn request_to<T>(&self, node: NodeId, message: T) -> Request<T> {
        let mut request = self.request(message);
        request.metadata_mut().insert(TO, node.0.into());
        request
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
            (MARK, self.log.mark_at_open().to_string()),
        ];
        for (key, value) in fields {
            // Digits and hex are valid in a header.
            if let Ok(value) = value.parse() {
                request.metadata_mut().insert(key, value);
            }
        }
        let place = wire::Place {
            node: 0,
            boot: 0,
            ..self.place()
        };
        let place = MetadataValue::from_bytes(&place.encode_to_vec());
        request.metadata_mut().insert_bin(PLACE, place);
        request
    }

    /// Where this node is.
    pub(crate) fn place(&self) -> wire::Place {
        let identity = &self.identity;
        wire::Place {
            node: identity.node.0,
            boot: identity.boot,
            address: identity.address.clone(),
            rack: identity.rack.clone(),
        }
    }
}

/// Where `node` says that it is, in the metadata of a call with which it was let in.
pub(crate) fn place_of(node: NodeId, metadata: &MetadataMap) -> Option<wire::Place> {
    let bytes = metadata.get_bin(PLACE)?.to_bytes().ok()?;
    let boot = metadata.get(BOOT)?.to_str().ok()?.parse().ok()?;
    Some(wire::Place {
        node: node.0,
        boot,
        ..wire::Place::decode(bytes).ok()?
    })
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

/// How far the other nodes' disks were synced at least, as they said. In memory only.
#[derive(Clone, Default)]
pub(crate) struct Marks {
    told: Arc<parking_lot::Mutex<BTreeMap<NodeId, Told>>>,
}

/// What one node has told.
#[derive(Default)]
struct Told {
    /// The start that was let in last; only it is believed.
    nonce: u64,
    /// The highest mark, over all starts.
    mark: u64,
}

impl Marks {
    /// Remembers a mark that a node tells. One of a start that was not let in (yet) says nothing:
    /// held against that start's own disk as it was found, it would be too high.
    pub(crate) fn note(&self, node: NodeId, nonce: u64, mark: u64) {
        if let Some(told) = self.told.lock().get_mut(&node)
            && told.nonce == nonce
        {
            told.mark = told.mark.max(mark);
        }
    }

    /// The highest mark that a node has told; 0 when nothing is known.
    fn highest(&self, node: NodeId) -> u64 {
        self.told.lock().get(&node).map_or(0, |told| told.mark)
    }

    /// A start of a node is let in: from now on it is the one that is believed.
    fn let_in(&self, node: NodeId, nonce: u64) {
        self.told.lock().entry(node).or_default().nonce = nonce;
    }
}

/// Who may call this node.
pub(crate) struct Doorkeeper {
    cluster_id: String,
    me: NodeId,
    log: Log,
    seen: Mutex<BTreeMap<NodeId, Seen>>,
    marks: Marks,
}

impl Doorkeeper {
    /// Of node `me`. Reads back the boots seen before. `marks` are those that the node's links hear.
    pub(crate) fn open(
        cluster_id: String,
        me: NodeId,
        log: Log,
        marks: Marks,
    ) -> Result<Doorkeeper, store::Error> {
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
            me,
            log,
            seen: Mutex::new(seen),
            marks,
        })
    }

    /// Who calls, if it may. What is newly seen is durable before the caller is let in.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` without an identity, `PERMISSION_DENIED` for another cluster or an older
    /// disk, `UNAVAILABLE` for a node that this one does not know yet, `FAILED_PRECONDITION` when
    /// another node was meant: it must not answer, or vote, in that one's place.
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
        if metadata.contains_key(TO) {
            let meant = NodeId(number(TO)?);
            if meant != self.me && !mutant!("address-believed") {
                return Err(Status::failed_precondition(format!(
                    "this is node {}, not {meant}: two nodes have one address",
                    self.me
                )));
            }
        }
        let node = NodeId(number(NODE)?);
        if view.was_removed(node) {
            return Err(removal(node));
        }
        let Some(known) = view.node(node) else {
            return Err(Status::unavailable(format!(
                "node {node} is not known here (yet)"
            )));
        };
        if hex(&known.disk_id) != text(DISK)? {
            return Err(refusal(format!(
                "node {node} ({name}) joined with another disk; a replaced disk joins as a new node: \
                 under a new name, or under this one once `firebreak node remove {name}` is done",
                name = known.name
            )));
        }
        let start = Seen {
            format: 1,
            boot: number(BOOT)?,
            nonce: number(NONCE)?,
        };
        let mark = metadata.contains_key(MARK).then(|| number(MARK));
        self.start(node, start, mark.transpose()?).await?;
        Ok(node)
    }

    /// Marks that this node was told by others.
    pub(crate) fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Whether a start of a node may come in, whose disk had this mark when it was found.
    async fn start(&self, node: NodeId, now: Seen, mark: Option<u64>) -> Result<(), Status> {
        let boot = now.boot;
        let mut seen = self.seen.lock().await;
        match seen.get(&node) {
            Some(before) if *before == now => {
                self.marks.let_in(node, now.nonce);
                return Ok(());
            }
            Some(before) if before.boot >= boot && !mutant!("boot-counter-ignored") => {
                return Err(refusal(format!(
                    "node {node} says it starts for the {boot}th time, but its start {} was seen \
                     before: an old copy of its disk has come back",
                    before.boot
                )));
            }
            Some(_) | None => {}
        }
        let told = self.marks.highest(node);
        if let Some(mark) = mark
            && mark < told
            && !mutant!("boot-counter-ignored")
            && !mutant!("mark-ignored")
        {
            return Err(refusal(format!(
                "node {node} found its disk synced up to mark {mark}, but has told mark {told} \
                 before: an old copy of its disk has come back"
            )));
        }
        let record = Bytes::from(now.encode_to_vec());
        self.log
            .local_put(&format!("{SEEN}{}", node.0), Some(record))
            .await
            .map_err(|e| Status::internal(e.to_string()))?;
        seen.insert(node, now);
        self.marks.let_in(node, now.nonce);
        Ok(())
    }
}

fn refusal(message: String) -> Status {
    refused("disk", message)
}

/// What is told to a node that is not of the cluster any more.
pub(crate) fn removal(node: NodeId) -> Status {
    refused(
        REMOVED,
        format!(
            "node {node} was removed from the cluster, and its disk is not used again: to come back, \
             empty its data directory and join as a new node; its old name is free"
        ),
    )
}

fn refused(what: &'static str, message: String) -> Status {
    let mut status = Status::permission_denied(message);
    let what = MetadataValue::from_static(what);
    status.metadata_mut().insert(REFUSED, what);
    status
}

/// Whether a refusal says that this node was removed.
pub(crate) fn is_removal(status: &Status) -> bool {
    let what = status.metadata().get(REFUSED);
    is_refusal(status) && what.is_some_and(|what| what == REMOVED)
}

/// Bytes as lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests;
