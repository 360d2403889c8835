//! Carries a shard's state from its leader to a replica that the log cannot catch up any more:
//! sorted files, in chunks, each file with its length and checksum, on a stream of its own. This is the
//! way that begins anew when it breaks off, for nodes of versions that do not know `crate::adapter::copy`.

use model::id::ShardId;
use model::limits;
use proto::node as wire;
use proto::node::peer_client::PeerClient;
use proto::node::snapshot_chunk::Part;
use store::engine::SortedFile;
use store::state::Applied;
use tokio::sync::mpsc;

use crate::adapter::copy::Outgoing;
use crate::adapter::trust;
use crate::adapter::types::{self, Vote};
use crate::link::Link;

/// Chunks that wait for the network.
const CHUNKS_AHEAD: usize = 8;

/// The head of a snapshot of which this had been applied, for this replica of a shard.
pub(crate) fn head(
    (shard, incarnation): (ShardId, u64),
    vote: &Vote,
    applied: &Applied,
) -> wire::SnapshotHead {
    wire::SnapshotHead {
        format: 1,
        files: 0,
        shard: shard.0,
        vote: Some(types::vote_to_wire(vote)),
        last: applied.position.map(|p| wire::LogId {
            term: p.term,
            index: p.index,
        }),
        membership: applied.membership.clone(),
        revision: applied.revision,
        time_ms: applied.time_ms,
        passed_ms: applied.passed_ms,
        entry_format: applied.entry_format,
        incarnation,
        id: None,
    }
}

/// Sends a snapshot. Returns the receiver's vote once it has installed it.
pub(crate) async fn send(
    link: &Link,
    (shard, incarnation): (ShardId, u64),
    vote: Vote,
    outgoing: &Outgoing,
) -> Result<Vote, String> {
    let (applied, files) = outgoing.whole().await.map_err(|e| e.to_string())?;
    let mut head = head((shard, incarnation), &vote, &applied);
    head.files = u32::try_from(files.len()).map_err(|e| e.to_string())?;
    tracing::info!(%shard, to = %link.node(), files = files.len(), "sending a snapshot");
    let (out, chunks) = mpsc::channel(CHUNKS_AHEAD);
    let reading = read(head, files, out);
    let chunks = tokio_stream::wrappers::ReceiverStream::new(chunks);
    let request = link.hello().request_to(link.node(), chunks);
    let mut client = PeerClient::new(link.channel());
    let (read, installed) = tokio::join!(reading, client.install_snapshot(request));
    // Why the files could not be read says more than that the stream ended.
    read?;
    let done = installed.map_err(|status| status.to_string())?;
    let of = link.admit(done.metadata()).await;
    of.map_err(|status| status.to_string())?;
    trust::vote(done.into_inner().vote, vote.leader_id().term).map_err(|e| e.to_string())
}

async fn read(
    head: wire::SnapshotHead,
    files: Vec<Box<dyn SortedFile>>,
    out: mpsc::Sender<wire::SnapshotChunk>,
) -> Result<(), String> {
    let send = async |part| {
        out.send(wire::SnapshotChunk { part: Some(part) })
            .await
            .is_ok()
    };
    if !send(Part::Head(head)).await {
        return Ok(());
    }
    for file in files {
        let (mut offset, mut crc) = (0, 0);
        while offset < file.len() {
            let data = file
                .read_at(offset, limits::SNAPSHOT_CHUNK_BYTES)
                .map_err(|e| e.to_string())?;
            if data.is_empty() {
                return Err(format!(
                    "an exported file ended at {offset} of {}",
                    file.len()
                ));
            }
            offset += data.len() as u64;
            crc = crc32c::crc32c_append(crc, &data);
            // A receiver that is gone says why in its answer.
            if !send(Part::Data(data)).await {
                return Ok(());
            }
        }
        if !send(Part::FileEnd(wire::SnapshotFileEnd {
            bytes: offset,
            crc32c: crc,
        }))
        .await
        {
            return Ok(());
        }
    }
    Ok(())
}

/// What had been applied at the read point of a snapshot.
pub(crate) fn applied(head: &wire::SnapshotHead) -> Applied {
    let position = head.last.map(|id| store::Position {
        term: id.term,
        index: id.index,
    });
    Applied {
        position,
        membership: head.membership.clone(),
        revision: head.revision,
        time_ms: head.time_ms,
        passed_ms: head.passed_ms,
        entry_format: head.entry_format,
    }
}
