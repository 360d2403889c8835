//! How nodes recognize each other. Every call between nodes carries who the caller is, and what
//! answers for longer than a moment says who it is, too; a node that is not of this cluster, not known
//! to it, or on an older disk than was seen before is refused as a caller, and nothing that it answers
//! counts. Otherwise an old disk could give its vote before its own first call is refused, or for ever
//! where it can be called and cannot call.
//!
//! An older disk shows in two ways. Its boot counter is not above the last one seen; that is
//! persisted here. Or, for a copy taken within the last start, its mark (`store::Log::mark`) as
//! found at the start is below one that the node told in pings and pongs before (`marks`). Only
//! durable marks are told, so neither a killed process nor a power cut brings a healthy node below
//! them.
//!
//! What nobody who decides was told does not show: that the disk was written to, and then exchanged for
//! a copy, while this node did not reach it. Three nodes of which one is gone cannot know that.

mod doorkeeper;
mod marks;
mod refusal;

use std::sync::Arc;

use model::id::NodeId;
use prost::Message;
use proto::node as wire;
use store::Log;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Response, Status};

use crate::api::{Identity, PROOF, prove};
use crate::link::vitals::Vitals;

pub(crate) use self::doorkeeper::{Doorkeeper, Proof};
pub(crate) use self::marks::Marks;
pub(crate) use self::refusal::{is_refusal, is_removal, removal};

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

    /// What this start of the node is told from others by.
    pub(crate) fn boot_nonce(&self) -> u64 {
        self.identity.boot_nonce
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
        let mut request = Request::new(message);
        self.tell(request.metadata_mut(), node);
        request.metadata_mut().insert(TO, node.0.into());
        request
    }

    /// A request that says who asks.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        self.tell(request.metadata_mut(), NodeId(0));
        request
    }

    /// An answer that says who gives it.
    pub(crate) fn response<T>(&self, message: T) -> Response<T> {
        let mut response = Response::new(message);
        self.tell(response.metadata_mut(), NodeId(0));
        response
    }

    /// What proves that this node calls `to`, if the cluster has a secret.
    pub(crate) fn proof(&self, to: NodeId) -> Option<String> {
        let identity = &self.identity;
        let start = (identity.node, identity.boot, identity.boot_nonce);
        prove(&identity.secret, &identity.cluster_id, start, to)
    }

    fn tell(&self, metadata: &mut MetadataMap, to: NodeId) {
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
                metadata.insert(key, value);
            }
        }
        if let Some(proof) = self.proof(to).and_then(|proof| proof.parse().ok()) {
            metadata.insert(PROOF, proof);
        }
        let place = wire::Place {
            node: 0,
            boot: 0,
            ..self.place()
        };
        let place = MetadataValue::from_bytes(&place.encode_to_vec());
        metadata.insert_bin(PLACE, place);
    }

    /// The cluster that this node is of.
    pub(crate) fn cluster_id(&self) -> &str {
        &self.identity.cluster_id
    }

    /// Whether a call with this metadata is this very start's own: its address leads here.
    pub(crate) fn wrote(&self, metadata: &MetadataMap) -> bool {
        let identity = &self.identity;
        let says = |key: &str, value: u64| {
            let told = metadata.get(key).and_then(|told| told.to_str().ok());
            told.and_then(|told| told.parse().ok()) == Some(value)
        };
        says(NODE, identity.node.0) && says(BOOT, identity.boot) && says(NONCE, identity.boot_nonce)
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

/// What a call, or its answer, says of who sends it.
#[derive(Clone, Copy)]
struct Metadata<'a>(&'a MetadataMap);

impl<'a> Metadata<'a> {
    fn text(self, key: &str) -> Result<&'a str, Status> {
        let value = self.0.get(key).and_then(|value| value.to_str().ok());
        value
            .ok_or_else(|| Status::unauthenticated(format!("calls between nodes must carry {key}")))
    }

    fn number(self, key: &str) -> Result<u64, Status> {
        self.text(key)?
            .parse()
            .map_err(|_| Status::unauthenticated(format!("{key} must be a number")))
    }
}

/// Bytes as lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests;
