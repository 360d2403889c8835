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

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use model::cluster::{ClusterState, Node};
use model::id::NodeId;
use model::{limits, mutant};
use prost::Message;
use proto::CERTIFIED;
use proto::node as wire;
use store::Log;
use tokio::sync::Mutex;
use tonic::codegen::http::HeaderMap;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Request, Response, Status};

use crate::api::{Identity, PROOF, Secret, prove};
use crate::link::vitals::Vitals;
pub(crate) use marks::Marks;

mod marks;

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
    /// The epoch of the last pardon that let it come back ([`model::cluster::Pardon`]), 0 = none.
    #[prost(uint64, tag = "4")]
    pardoned: u64,
}

impl Seen {
    /// Whether both are the same start.
    fn is(&self, other: &Seen) -> bool {
        (self.boot, self.nonce) == (other.boot, other.nonce)
    }
}

/// How an answer says who gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// It is the node that was called, on the disk that it should have.
    Given,
    /// It does not say: a version without this. Its pongs name its start, which counts once that has
    /// called this node and was let in.
    Later,
}

/// Who may call this node.
pub(crate) struct Doorkeeper {
    cluster_id: String,
    me: NodeId,
    secret: Secret,
    log: Log,
    seen: Mutex<BTreeMap<NodeId, Seen>>,
    marks: Marks,
    /// The starts of answerers that were refused, to tell of each once.
    outcasts: parking_lot::Mutex<BTreeMap<NodeId, u64>>,
}

impl Doorkeeper {
    /// Of node `me`, in a cluster whose nodes prove themselves with `secret`. Reads back the boots seen
    /// before.
    pub(crate) fn open(
        cluster_id: String,
        me: NodeId,
        secret: Secret,
        log: Log,
    ) -> Result<Doorkeeper, store::Error> {
        let mut seen: BTreeMap<NodeId, Seen> = BTreeMap::new();
        for (key, value) in log.local_scan(SEEN)? {
            let node = key
                .strip_prefix(SEEN)
                .and_then(|id| id.parse().ok())
                .map(NodeId);
            if let (Some(node), Ok(boot)) = (node, Seen::decode(value)) {
                seen.insert(node, boot);
            }
        }
        let nonces = seen.iter().map(|(node, seen)| (*node, seen.nonce));
        Ok(Doorkeeper {
            cluster_id,
            me,
            secret,
            marks: Marks::open(log.clone(), nonces)?,
            log,
            seen: Mutex::new(seen),
            outcasts: parking_lot::Mutex::default(),
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
        let told = Metadata(metadata);
        self.of_this_cluster(told)?;
        if metadata.contains_key(TO) {
            let meant = NodeId(told.number(TO)?);
            if meant != self.me && !mutant!("address-believed") {
                return Err(Status::failed_precondition(format!(
                    "this is node {}, not {meant}: two nodes have one address",
                    self.me
                )));
            }
        }
        let node = NodeId(told.number(NODE)?);
        self.proven(node, told, Way::Calls)?;
        if node == self.me && !mutant!("address-believed") {
            return Err(Status::failed_precondition(format!(
                "this is node {node} itself: no node calls itself"
            )));
        }
        if view.was_removed(node) {
            return Err(removal(node));
        }
        let Some(known) = view.node(node) else {
            return Err(Status::unavailable(format!(
                "node {node} is not known here (yet)"
            )));
        };
        certified(known, metadata.as_ref())?;
        self.started(known, told, view).await?;
        Ok(node)
    }

    /// Whether the answer with this metadata is that of `member`, on the disk that it should have.
    /// As for callers, what is newly seen is durable before it counts.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION`: nothing that it says may count.
    pub(crate) async fn admit_answerer(
        &self,
        member: &Node,
        metadata: &MetadataMap,
        view: &ClusterState,
    ) -> Result<Proof, Status> {
        if !metadata.contains_key(NODE) {
            return Ok(Proof::Later);
        }
        if mutant!("outcast-votes") {
            return Ok(Proof::Given);
        }
        let told = Metadata(metadata);
        let admitted = async {
            self.of_this_cluster(told)?;
            let node = told.number(NODE)?;
            if mutant!("address-believed") && node != member.id {
                return Ok(());
            }
            if node != member.id {
                return Err(Status::failed_precondition(format!(
                    "n{node} answers in the place of n{}: two nodes have one address",
                    member.id
                )));
            }
            self.proven(NodeId(node), told, Way::Answers)?;
            self.started(member, told, view).await
        };
        let Err(status) = admitted.await else {
            return Ok(Proof::Given);
        };
        let nonce = told.number(NONCE).unwrap_or(0);
        let node = NodeId(member.id);
        if self.outcasts.lock().insert(node, nonce) != Some(nonce) {
            tracing::warn!(peer = %node, name = %member.name, why = status.message(),
                "what a node answers does not count");
        }
        // Without the mark of a refusal: that would be one of this node's own disk.
        Err(Status::failed_precondition(status.message()))
    }

    /// Whether the start of a node that its pongs name has been let in as a caller.
    pub(crate) fn has_let_in(&self, node: NodeId, nonce: u64) -> bool {
        nonce != 0 && self.marks.believes(node, nonce)
    }

    /// The node that makes a call with this metadata, one of this cluster's: by its certificate, where
    /// the call came over TLS, and by its proof, where nodes have a secret. Where there is neither, a
    /// node is taken for what it says it is.
    pub(crate) fn vouches(&self, headers: &HeaderMap, view: &ClusterState) -> Option<NodeId> {
        let text = |key| headers.get(key).and_then(|value| value.to_str().ok());
        let claim = text(PROOF).and_then(|proof| self.secret.check(&self.cluster_id, proof));
        let claim = claim.filter(|claim| claim.to == self.me);
        let by_name = text(CERTIFIED).and_then(|who| who.strip_prefix("node/"));
        let by_name = by_name.and_then(|name| view.nodes.iter().find(|node| node.name == name));
        match (self.secret.is_none(), claim) {
            (false, None) => None,
            (false, Some(claim)) => {
                let known = view.node(claim.node)?;
                certified(known, headers).ok().map(|()| claim.node)
            }
            (true, _) if headers.contains_key(CERTIFIED) => by_name.map(|node| NodeId(node.id)),
            (true, _) => Some(NodeId(0)),
        }
    }

    /// Whether a call with this metadata says whom it is for, as those must that change anything.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when it does not, and nodes prove themselves.
    pub(crate) fn meant(&self, metadata: &MetadataMap) -> Result<(), Status> {
        match self.secret.is_none() || metadata.contains_key(TO) {
            true => Ok(()),
            false => Err(Status::unauthenticated(format!("the call must carry {TO}"))),
        }
    }

    /// Whether `node` proves that it is one of this cluster's.
    fn proven(&self, node: NodeId, told: Metadata<'_>, way: Way) -> Result<(), Status> {
        if self.secret.is_none() {
            return Ok(());
        }
        let wrong = || Status::unauthenticated(format!("{PROOF} proves nothing"));
        let claim = self.secret.check(&self.cluster_id, told.text(PROOF)?);
        let claim = claim.ok_or_else(wrong)?;
        let start = (node, told.number(BOOT)?, told.number(NONCE)?);
        // A call that names nobody may still come over a link, whose calls are all for this node.
        let to_whom = match way {
            Way::Calls if told.0.contains_key(TO) => claim.to == self.me,
            Way::Calls => claim.to == self.me || claim.to == NodeId(0),
            Way::Answers => claim.to == NodeId(0),
        };
        match to_whom && (claim.node, claim.boot, claim.nonce) == start {
            true => Ok(()),
            false => Err(wrong()),
        }
    }

    fn of_this_cluster(&self, told: Metadata<'_>) -> Result<(), Status> {
        let cluster = told.text(CLUSTER)?;
        if cluster != self.cluster_id {
            return Err(Status::permission_denied(format!(
                "this node is of cluster {}, the other of {cluster}",
                self.cluster_id
            )));
        }
        Ok(())
    }

    /// Whether `known` is on its own disk, in a start that may come in.
    async fn started(
        &self,
        known: &Node,
        told: Metadata<'_>,
        view: &ClusterState,
    ) -> Result<(), Status> {
        let node = NodeId(known.id);
        if hex(&known.disk_id) != told.text(DISK)? {
            return Err(refusal(format!(
                "node {node} ({name}) joined with another disk; a replaced disk joins as a new node: \
                 under a new name, or under this one once `firebreak node remove {name}` is done",
                name = known.name
            )));
        }
        let start = Seen {
            format: 1,
            boot: told.number(BOOT)?,
            nonce: told.number(NONCE)?,
            pardoned: 0,
        };
        let mark = told.0.contains_key(MARK).then(|| told.number(MARK));
        self.start(node, start, mark.transpose()?, view).await
    }

    /// Marks that this node was told by others.
    pub(crate) fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Whether a start of a node may come in, whose disk had this mark when it was found.
    async fn start(
        &self,
        node: NodeId,
        mut now: Seen,
        mark: Option<u64>,
        view: &ClusterState,
    ) -> Result<(), Status> {
        let boot = now.boot;
        let mut seen = self.seen.lock().await;
        let before = seen.get(&node).copied();
        let last = before.map_or(0, |before| before.boot);
        now.pardoned = before.map_or(0, |before| before.pardoned);
        if before.is_some_and(|before| before.is(&now)) {
            self.marks.let_in(node, now.nonce, mark);
            return Ok(());
        }
        let pardon = view.pardon_of(node).filter(|pardon| {
            pardon.epoch > now.pardoned && boot > pardon.boot && last > pardon.boot
        });
        if let Some(pardon) = pardon {
            // What was seen and told of it until then counts no more: it was forged.
            now.pardoned = pardon.epoch;
            let forgotten = self.marks.forget(node).await;
            forgotten.map_err(|e| Status::internal(e.to_string()))?;
        }
        let last = pardon.map_or(last, |pardon| pardon.boot);
        if before.is_some() && last >= boot && !mutant!("boot-counter-ignored") {
            return Err(refusal(format!(
                "node {node} says it starts for the {boot}th time, but its start {last} was seen \
                 before: an old copy of its disk has come back"
            )));
        }
        if boot > last.saturating_add(limits::BOOT_LEAP_MAX) {
            return Err(Status::failed_precondition(format!(
                "node {node} says it starts for the {boot}th time, and its start {last} is the \
                 last that was seen: no node starts so often"
            )));
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
        self.marks.let_in(node, now.nonce, mark);
        Ok(())
    }
}

/// Whether a node was called, or has answered.
#[derive(Clone, Copy)]
enum Way {
    Calls,
    Answers,
}

/// Whether a call that came over TLS came with the certificate of the node that it says makes it.
fn certified(known: &Node, headers: &HeaderMap) -> Result<(), Status> {
    let Some(certified) = headers.get(CERTIFIED) else {
        return Ok(());
    };
    match certified
        .to_str()
        .ok()
        .and_then(|who| who.strip_prefix("node/"))
        == Some(&*known.name)
    {
        true => Ok(()),
        false => Err(Status::permission_denied(format!(
            "a call of node {} came with the certificate of {certified:?}",
            known.name
        ))),
    }
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
