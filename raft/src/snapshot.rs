//! Carries a shard's state from its leader to a replica that the log cannot catch up any more:
//! sorted files, in chunks, each file with its length and checksum, on a stream of its own. This is the
//! way that begins anew when it breaks off, for nodes of versions that do not know `crate::copy`.

use futures::StreamExt;
use model::id::ShardId;
use model::limits;
use proto::node as wire;
use proto::node::peer_client::PeerClient;
use proto::node::snapshot_chunk::Part;
use store::engine::{IncomingFile, SortedFile};
use store::state::{Applied, ShardState};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::copy::Outgoing;
use crate::group::Group;
use crate::link::Link;
use crate::state_machine::SnapshotData;
use crate::trust;
use crate::types::{self, Snapshot, Vote};

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

/// Reads the head of an incoming snapshot.
pub(crate) async fn receive_head(
    chunks: &mut Streaming<wire::SnapshotChunk>,
) -> Result<wire::SnapshotHead, Status> {
    match chunks.next().await.transpose()?.and_then(|c| c.part) {
        Some(Part::Head(head)) if head.format == 1 => Ok(head),
        Some(Part::Head(head)) => Err(Status::failed_precondition(format!(
            "snapshot format {} is not known here",
            head.format
        ))),
        _ => Err(Status::invalid_argument("a snapshot begins with its head")),
    }
}

/// Receives the files behind the head.
pub(crate) async fn receive_files(
    head: &wire::SnapshotHead,
    state: &ShardState,
    chunks: &mut Streaming<wire::SnapshotChunk>,
) -> Result<SnapshotData, Status> {
    let disk = |e: store::Error| Status::internal(e.to_string());
    let mut files = Vec::new();
    let mut current: Option<(Box<dyn IncomingFile>, u64, u32)> = None;
    while let Some(chunk) = chunks.next().await.transpose()? {
        match chunk.part {
            Some(Part::Data(data)) => {
                let (file, bytes, crc) = match &mut current {
                    Some(current) => current,
                    None => current.insert((state.receive().map_err(disk)?, 0, 0)),
                };
                file.append(&data).map_err(disk)?;
                *bytes += data.len() as u64;
                *crc = crc32c::crc32c_append(*crc, &data);
            }
            Some(Part::FileEnd(end)) => {
                let Some((file, bytes, crc)) = current.take() else {
                    return Err(Status::invalid_argument("an empty snapshot file"));
                };
                if (bytes, crc) != (end.bytes, end.crc32c) {
                    return Err(Status::data_loss("a snapshot file came damaged"));
                }
                files.push(file.finish().map_err(disk)?);
                if files.len() as u64 > u64::from(head.files) {
                    return Err(Status::invalid_argument("more files than the head names"));
                }
            }
            Some(Part::Head(_) | Part::FileAt(_) | Part::End(_)) | None => {
                return Err(Status::invalid_argument(
                    "a snapshot has one head, and no empty chunk",
                ));
            }
        }
    }
    if current.is_some() {
        return Err(Status::invalid_argument("the snapshot ended within a file"));
    }
    if files.len() as u64 != u64::from(head.files) {
        return Err(Status::data_loss(format!(
            "{} of {} files came",
            files.len(),
            head.files
        )));
    }
    let applied = applied(head);
    Ok(SnapshotData::Received { applied, files })
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
    }
}

/// Installs what was received. This replica's vote.
pub(crate) async fn install(
    group: &Group,
    vote: Option<wire::VoteId>,
    data: SnapshotData,
) -> Result<wire::VoteId, Status> {
    let invalid = |e: types::Malformed| Status::invalid_argument(e.to_string());
    let vote = types::required_vote(vote).map_err(invalid)?;
    let meta = match &data {
        SnapshotData::Received { applied, .. } => {
            crate::state_machine::meta(applied).map_err(invalid)?
        }
        SnapshotData::Outgoing(_) => return Err(Status::internal("only files are received")),
    };
    let snapshot = Snapshot {
        meta,
        snapshot: data,
    };
    let installed = group
        .raft
        .install_full_snapshot(vote, snapshot)
        .await
        .map_err(|e| Status::unavailable(e.to_string()))?;
    group.leadership.sleep.wake();
    Ok(types::vote_to_wire(&installed.vote))
}
