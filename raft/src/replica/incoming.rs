//! Snapshots that come: their files are kept for a while when one breaks off, so that it goes on from
//! there ([`crate::adapter::copy`]). Older nodes send all of one in a row ([`crate::adapter::snapshot`]).

use std::time::Duration;

use futures::StreamExt;
use model::id::NodeId;
use model::{limits, mutant};
use parking_lot::Mutex;
use proto::node as wire;
use proto::node::snapshot_chunk::Part;
use store::engine::{IncomingFile, SortedFile};
use store::state::ShardState;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Status, Streaming};

use crate::adapter::snapshot;
use crate::adapter::state_machine::SnapshotData;
use crate::adapter::types::{self, Snapshot};
use crate::api::Event;
use crate::replica::group::Group;

/// What has come of a snapshot that broke off is kept for so long.
const KEPT: Duration = Duration::from_millis(limits::SNAPSHOT_KEPT_MS);

/// What has come of a snapshot of one shard.
#[derive(Default)]
pub(crate) struct Coming(Mutex<Came>);

#[derive(Default)]
struct Came {
    id: Option<wire::SnapshotId>,
    /// Who receives: one that came before has been given up by its sender.
    owner: u64,
    files: Vec<Box<dyn SortedFile>>,
    current: Option<Current>,
    at: Option<Instant>,
}

struct Current {
    file: Box<dyn IncomingFile>,
    bytes: u64,
    crc: u32,
}

impl Coming {
    /// Lets go of what nobody has gone on with.
    pub(crate) fn tidy(&self) {
        let mut came = self.0.lock();
        if came.at.is_some_and(|at| at.elapsed() >= KEPT) {
            came.forget();
        }
    }

    /// Goes on with a snapshot, or begins it.
    fn begin(&self, id: Option<wire::SnapshotId>) -> (u64, wire::SnapshotCame) {
        let mut came = self.0.lock();
        let again = id.is_some() && came.id == id && !mutant!("snapshot-begins-anew");
        if !again {
            came.forget();
            came.id = id;
        }
        came.owner += 1;
        came.at = Some(Instant::now());
        let told = wire::SnapshotCame {
            files: u32::try_from(came.files.len()).unwrap_or(u32::MAX),
            bytes: came.current.as_ref().map_or(0, |current| current.bytes),
            vote: None,
        };
        (came.owner, told)
    }

    fn of<T>(
        &self,
        owner: u64,
        act: impl FnOnce(&mut Came) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let mut came = self.0.lock();
        if came.owner != owner {
            return Err(Status::aborted("the snapshot is received elsewhere"));
        }
        came.at = Some(Instant::now());
        act(&mut came)
    }
}

fn disk(error: &store::Error) -> Status {
    Status::internal(error.to_string())
}

impl Came {
    fn forget(&mut self) {
        self.id = None;
        self.files.clear();
        self.current = None;
        self.at = None;
    }

    fn go_on_at(&mut self, at: wire::SnapshotFileAt) -> Result<(), Status> {
        if at.offset == 0 {
            self.current = None;
        }
        let have = self.current.as_ref().map_or(0, |current| current.bytes);
        if (at.file as usize, at.offset) != (self.files.len(), have) {
            return Err(Status::invalid_argument(
                "the snapshot goes on where it did not break off",
            ));
        }
        Ok(())
    }

    fn append(&mut self, state: &ShardState, data: &[u8]) -> Result<(), Status> {
        let current = match &mut self.current {
            Some(current) => current,
            None => self.current.insert(Current {
                file: state.receive().map_err(|e| disk(&e))?,
                bytes: 0,
                crc: 0,
            }),
        };
        current.file.append(data).map_err(|e| disk(&e))?;
        current.bytes += data.len() as u64;
        current.crc = crc32c::crc32c_append(current.crc, data);
        Ok(())
    }

    fn end_file(&mut self, end: wire::SnapshotFileEnd) -> Result<(), Status> {
        let Some(current) = self.current.take() else {
            return Err(Status::invalid_argument("an empty snapshot file"));
        };
        if (current.bytes, current.crc) != (end.bytes, end.crc32c) {
            return Err(Status::data_loss("a snapshot file came damaged"));
        }
        if self.files.len() >= limits::SNAPSHOT_FILES_MAX as usize {
            return Err(Status::invalid_argument("a snapshot of too many files"));
        }
        self.files
            .push(current.file.finish().map_err(|e| disk(&e))?);
        Ok(())
    }

    /// All files.
    fn end(&mut self, end: wire::SnapshotEnd) -> Result<Vec<Box<dyn SortedFile>>, Status> {
        if self.current.is_some() || end.files as usize != self.files.len() || end.files == 0 {
            let have = self.files.len();
            let message = format!(
                "the snapshot ended with {have} of {} whole files",
                end.files
            );
            return Err(Status::invalid_argument(message));
        }
        let files = std::mem::take(&mut self.files);
        self.forget();
        Ok(files)
    }
}

/// Receives a snapshot and installs it; what it has to say goes to `out`.
pub(crate) async fn receive(
    group: &Group,
    from: NodeId,
    head: wire::SnapshotHead,
    mut chunks: Streaming<wire::SnapshotChunk>,
    out: &mpsc::Sender<Result<wire::SnapshotCame, Status>>,
) -> Result<(), Status> {
    let (owner, came) = group.coming.begin(head.id);
    let shard = group.shard;
    tracing::info!(%shard, %from, files = came.files, bytes = came.bytes, "receiving a snapshot");
    // One that is gone is noticed by its chunks.
    let _ = out.send(Ok(came)).await;
    let files = loop {
        let chunk = chunks.message().await?;
        let Some(part) = chunk.and_then(|chunk| chunk.part) else {
            return Err(Status::invalid_argument(
                "the snapshot ended without its end",
            ));
        };
        let coming = &group.coming;
        match part {
            Part::FileAt(at) => coming.of(owner, |came| came.go_on_at(at))?,
            Part::Data(data) => coming.of(owner, |came| came.append(&group.state, &data))?,
            Part::FileEnd(end) => coming.of(owner, |came| came.end_file(end))?,
            Part::End(end) => break coming.of(owner, |came| came.end(end))?,
            Part::Head(_) => return Err(Status::invalid_argument("a snapshot has one head")),
        }
    };
    let applied = snapshot::applied(&head);
    let data = SnapshotData::Received { applied, files };
    let vote = Some(install(group, head.vote, data).await?);
    let came = wire::SnapshotCame {
        vote,
        ..wire::SnapshotCame::default()
    };
    let _ = out.send(Ok(came)).await;
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
    let applied = snapshot::applied(head);
    Ok(SnapshotData::Received { applied, files })
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
            crate::adapter::state_machine::meta(applied).map_err(invalid)?
        }
        SnapshotData::Outgoing(_) => return Err(Status::internal("only files are received")),
    };
    let index = meta.last_log_id.as_ref().map_or(0, |last| last.index());
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
    let shard = group.shard;
    tracing::info!(%shard, index, "a snapshot is installed");
    group.events.note(Event::SnapshotInstalled { shard, index });
    Ok(types::vote_to_wire(&installed.vote))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::id::ShardId;
    use store::Log;
    use store::engine::memory::Memory;
    use store::state::State;

    use super::*;

    fn id(number: u64) -> Option<wire::SnapshotId> {
        Some(wire::SnapshotId {
            boot_nonce: 7,
            number,
        })
    }

    fn state() -> ShardState {
        let (log, writer) = Log::open(Arc::new(Memory::new())).unwrap();
        tokio::spawn(writer);
        let state = State::open(Arc::new(Memory::new()), log).unwrap();
        state.shard(ShardId(1), 0..=u16::MAX).unwrap()
    }

    fn came(files: u32, bytes: u64) -> wire::SnapshotCame {
        wire::SnapshotCame {
            files,
            bytes,
            vote: None,
        }
    }

    fn file_end(bytes: &[u8]) -> wire::SnapshotFileEnd {
        wire::SnapshotFileEnd {
            bytes: bytes.len() as u64,
            crc32c: crc32c::crc32c(bytes),
        }
    }

    #[tokio::test]
    async fn what_has_come_is_kept_for_the_same_snapshot_and_for_no_other() {
        let (state, coming) = (state(), Coming::default());
        let (first, told) = coming.begin(id(1));
        assert_eq!(told, came(0, 0));
        let add = |owner, data: &[u8]| coming.of(owner, |came| came.append(&state, data));
        add(first, b"whole").unwrap();
        coming
            .of(first, |came| came.end_file(file_end(b"whole")))
            .unwrap();
        add(first, b"par").unwrap();

        let (second, told) = coming.begin(id(1));
        assert_eq!(told, came(1, 3));
        assert!(add(first, b"late").is_err(), "its sender has begun again");
        let go_on = |file, offset| {
            let at = wire::SnapshotFileAt { file, offset };
            coming.of(second, |came| came.go_on_at(at))
        };
        assert!(go_on(1, 2).is_err() && go_on(0, 3).is_err());
        go_on(1, 3).unwrap();
        add(second, b"tial").unwrap();
        coming
            .of(second, |came| came.end_file(file_end(b"partial")))
            .unwrap();
        let end = |files| coming.of(second, |came| came.end(wire::SnapshotEnd { files }));
        assert!(end(3).is_err());
        assert_eq!(end(2).unwrap().len(), 2);

        let (third, _) = coming.begin(id(2));
        add(third, b"of the second snapshot").unwrap();
        assert_eq!(coming.begin(id(3)).1, came(0, 0));
        assert_eq!(coming.begin(None).1, came(0, 0), "no version without ids");
    }

    #[tokio::test]
    async fn a_file_whose_sender_has_lost_it_begins_anew_and_damage_is_found() {
        let (state, coming) = (state(), Coming::default());
        let (owner, _) = coming.begin(id(1));
        let add = |data: &[u8]| coming.of(owner, |came| came.append(&state, data));
        add(b"half").unwrap();
        let at = wire::SnapshotFileAt { file: 0, offset: 0 };
        coming.of(owner, |came| came.go_on_at(at)).unwrap();
        add(b"whole").unwrap();
        let ended = coming.of(owner, |came| came.end_file(file_end(b"other")));
        assert!(ended.is_err());
        let nothing = coming.of(owner, |came| came.end(wire::SnapshotEnd { files: 0 }));
        assert!(
            nothing.is_err(),
            "a snapshot of nothing would leave nothing"
        );
    }
}
