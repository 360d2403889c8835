//! Who may call this node, and whose answers count.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::cluster::{ClusterState, Node};
use model::id::NodeId;
use model::{limits, mutant};
use prost::Message;
use proto::CERTIFIED;
use store::Log;
use tokio::sync::Mutex;
use tonic::Status;
use tonic::codegen::http::HeaderMap;
use tonic::metadata::MetadataMap;

use super::refusal::{refusal, removal};
use super::{BOOT, CLUSTER, DISK, MARK, Marks, Metadata, NODE, NONCE, SEEN, TO, hex};
use crate::api::{PROOF, Secret};

/// The newest boot of a node that this one has seen. Persisted: tags are permanent.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct SeenBoot {
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

impl SeenBoot {
    /// Whether both are the same start.
    fn is(&self, other: &SeenBoot) -> bool {
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
    pub(super) log: Log,
    seen: Mutex<BTreeMap<NodeId, SeenBoot>>,
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
        let mut seen: BTreeMap<NodeId, SeenBoot> = BTreeMap::new();
        for (key, value) in log.local_scan(SEEN)? {
            let node = key
                .strip_prefix(SEEN)
                .and_then(|id| id.parse().ok())
                .map(NodeId);
            if let (Some(node), Ok(boot)) = (node, SeenBoot::decode(value)) {
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
        let start = SeenBoot {
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
        mut now: SeenBoot,
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
