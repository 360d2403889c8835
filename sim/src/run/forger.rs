//! A peer that is not one: it calls a node with the identity of another member, as that one's disk has
//! it, and tells it of a term that no election has led to. So would a member with a bug, or anybody who
//! has read that disk.

use std::time::Duration;

use futures::StreamExt as _;
use model::id::NodeId;
use proto::net::Dialer;
use proto::node::frame::Body;
use proto::node::peer_client::PeerClient;
use proto::node::{AppendEntries, Frame, Frames, VoteId};
use server::identity::Record;
use tokio::time::timeout;
use tonic::Request;
use tonic::metadata::MetadataMap;

use super::operator::OperatorChannel;

/// Beyond all that elections lead to, and far from overflowing.
const TERM: u64 = 1 << 40;
/// How long the answers are waited for.
const ANSWERS_MAX: Duration = Duration::from_secs(2);

/// What is to be forged.
pub(super) struct Forgery {
    /// host:port of the node that hears it.
    pub victim: String,
    /// Its number.
    pub node: u64,
    /// In whose name.
    pub peer: Record,
    /// The shards that it is told of.
    pub shards: u32,
}

/// Sends forgeries, one after the other.
pub(super) async fn live(told: OperatorChannel, dialer: Dialer) {
    loop {
        let forgery = told.forgery().await;
        match timeout(ANSWERS_MAX, send(&forgery, &dialer)).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(why)) => tracing::info!(victim = forgery.victim, %why, "a forgery is refused"),
        }
    }
}

/// Sends one, and listens until its victim hangs up or answers no more.
async fn send(forgery: &Forgery, dialer: &Dialer) -> Result<(), String> {
    let channel = dialer
        .dial(&forgery.victim)
        .map_err(|error| error.to_string())?;
    let frames = Frames {
        format: 1,
        frames: (1..=forgery.shards)
            .map(|shard| of(forgery, shard))
            .collect(),
    };
    let sent = futures::stream::iter([frames]).chain(futures::stream::pending());
    let mut request = Request::new(sent);
    sign(request.metadata_mut(), forgery)?;
    let answers = PeerClient::new(channel).link(request).await;
    let mut answers = answers.map_err(|status| status.to_string())?.into_inner();
    while let Ok(Some(_)) = answers.message().await {}
    Ok(())
}

fn of(forgery: &Forgery, shard: u32) -> Frame {
    let vote = VoteId {
        term: TERM,
        node: forgery.peer.node,
        committed: true,
    };
    let append = AppendEntries {
        vote: Some(vote),
        ..AppendEntries::default()
    };
    Frame {
        id: u64::from(shard),
        shard,
        body: Some(Body::Append(append)),
        ..Frame::default()
    }
}

/// As nodes sign their calls.
fn sign(metadata: &mut MetadataMap, forgery: &Forgery) -> Result<(), String> {
    let (peer, to) = (&forgery.peer, forgery.node);
    let disk: String = peer.disk_id.iter().map(|b| format!("{b:02x}")).collect();
    let fields = [
        ("firebreak-cluster", peer.cluster_id.clone()),
        ("firebreak-node", peer.node.to_string()),
        ("firebreak-to", to.to_string()),
        ("firebreak-boot", peer.boot.to_string()),
        ("firebreak-nonce", peer.boot_nonce.to_string()),
        ("firebreak-disk", disk),
    ];
    let secret = raft::Secret::from(peer.secret.clone());
    let start = (NodeId(peer.node), peer.boot, peer.boot_nonce);
    let proof = raft::prove(&secret, &peer.cluster_id, start, NodeId(to));
    let proof = proof.map(|proof| ("firebreak-proof", proof));
    for (key, value) in fields.into_iter().chain(proof) {
        let value = value.parse();
        metadata.insert(key, value.map_err(|_| format!("{key} is no header"))?);
    }
    Ok(())
}
