//! The hashes of a replica, read back from its disk.

use proto::v1;
use store::state::{ConversationHash, ShardState};
use tokio::sync::oneshot;

use crate::error::Failure;
use crate::world::Background;

/// Conversations in one response of HashReplica.
const HASHES_MAX: usize = 1_000;

/// Reads the whole replica back, in the background, since that takes as long as its disk does.
pub(super) async fn hash_replica(
    background: &dyn Background,
    state: ShardState,
) -> Result<Vec<v1::HashReplicaResponse>, Failure> {
    let (done, result) = oneshot::channel();
    background.run(Box::new(move || {
        let mut hashes = Vec::new();
        let applied = state.hash(|hash| hashes.push(hash));
        // Nobody waits when the caller is gone.
        let _ = done.send(applied.map(|applied| (applied, hashes)));
    }));
    let gone = |_| Failure::Internal("the read of the replica ended without a result".into());
    let (applied, hashes) = result.await.map_err(gone)??;
    let response = |conversations| v1::HashReplicaResponse {
        applied_index: applied.position.map_or(0, |position| position.index),
        revision: applied.revision,
        conversations,
    };
    if hashes.is_empty() {
        return Ok(vec![response(Vec::new())]);
    }
    let pieces = hashes.chunks(HASHES_MAX);
    Ok(pieces
        .map(|piece| response(piece.iter().map(conversation_hash).collect()))
        .collect())
}

fn conversation_hash(hash: &ConversationHash) -> v1::ConversationHash {
    v1::ConversationHash {
        name: hash.name.clone(),
        last_seq: hash.last_seq,
        messages: hash.messages,
        running_hash: hash.running_hash.clone(),
        disk_hash: hash.disk_hash.clone(),
        min_seq: hash.min_seq,
    }
}
