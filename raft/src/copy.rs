//! Copies a shard's state to a replica, and goes on where it broke off: both ends keep what has come, the
//! receiver its files, the sender its read point and the file that was on its way. One file at a time
//! needs room on the sender's disk. Chunks wait for their turn on the line (`crate::outbox`), one
//! snapshot to a node at a time, a few from each.
//!
//! ```text
//!   sender                                receiver
//!   head (id of the read point) ────────►
//!         ◄──────── files, bytes that have come of it: none of another
//!   file_at, data …, file_end, data … ──► kept, for ten minutes behind a break
//!   end ────────────────────────────────► installs
//!         ◄──────── vote
//! ```

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use model::id::{NodeId, ShardId};
use model::limits;
use model::mutant;
use parking_lot::Mutex;
use proto::node as wire;
use proto::node::peer_client::PeerClient;
use proto::node::snapshot_chunk::Part;
use store::engine::{IncomingFile, SortedFile};
use store::snapshot::{Export, ReadPoint};
use store::state::{Applied, ShardState};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tonic::{Code, Status, Streaming};

use crate::group::Group;
use crate::link::Link;
use crate::snapshot;
use crate::state_machine::SnapshotData;
use crate::trust;
use crate::types::{SnapshotMeta, Vote};

/// What has come of a snapshot that broke off is kept for so long.
const KEPT: Duration = Duration::from_millis(limits::SNAPSHOT_KEPT_MS);
/// Whoever has got a snapshot has what was written meanwhile within this.
const FOLLOWS: Duration = Duration::from_secs(60);
/// For the receiver to say what has come already.
const CAME_MAX: Duration = Duration::from_secs(30);
/// Chunks that wait for the network.
const CHUNKS_AHEAD: usize = 1;
/// Smallest chunk.
const CHUNK_BYTES_MIN: u64 = 2 * 1024;

/// Numbers of read points of this process.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// The snapshot that a shard's replica is sending, or would go on with.
#[derive(Default)]
pub(crate) struct Held {
    holding: Mutex<Option<Holding>>,
    /// Up to where the last one reached that has arrived, and when it had.
    arrived: Mutex<Option<(u64, Instant)>>,
}

struct Holding {
    meta: SnapshotMeta,
    outgoing: Arc<Outgoing>,
    used: Instant,
}

/// A snapshot to send.
pub(crate) struct Outgoing {
    number: u64,
    meta: SnapshotMeta,
    held: Weak<Held>,
    sending: tokio::sync::Mutex<Sending>,
}

struct Sending {
    export: Export,
    /// The last file that was made, and its number.
    file: Option<(usize, Box<dyn SortedFile>)>,
}

impl Held {
    /// What is being sent, or was a while ago.
    pub(crate) fn get(&self) -> Option<(SnapshotMeta, Arc<Outgoing>)> {
        let held = self.holding.lock();
        let held = held.as_ref().filter(|held| held.used.elapsed() < KEPT)?;
        Some((held.meta.clone(), held.outgoing.clone()))
    }

    /// The entry behind which the log is kept for one whose snapshot is on its way, or has arrived a
    /// moment ago: without that it would need another one, and another.
    pub(crate) fn followed_from(&self) -> Option<u64> {
        let index = |meta: &SnapshotMeta| meta.last_log_id.map_or(0, |last| last.index());
        let held = self.get().map(|(meta, _)| index(&meta));
        let arrived = *self.arrived.lock();
        let arrived = arrived.filter(|(_, at)| at.elapsed() < FOLLOWS);
        let arrived = arrived.map(|(index, _)| index);
        held.into_iter().chain(arrived).min()
    }

    /// Lets go of what nobody has asked for in a while.
    pub(crate) fn tidy(&self) {
        let mut held = self.holding.lock();
        let old = held
            .take_if(|held| Arc::strong_count(&held.outgoing) == 1 && held.used.elapsed() >= KEPT);
        drop(held);
        drop(old);
    }
}

impl Outgoing {
    pub(crate) fn new(read_point: ReadPoint, meta: SnapshotMeta, held: &Arc<Held>) -> Outgoing {
        let export = read_point.exporting();
        Outgoing {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            meta,
            held: Arc::downgrade(held),
            sending: tokio::sync::Mutex::new(Sending { export, file: None }),
        }
    }

    /// All of it at once: what had been applied, and the files.
    pub(crate) async fn whole(&self) -> Result<(Applied, Vec<Box<dyn SortedFile>>), store::Error> {
        let mut sending = self.sending.lock().await;
        sending.export.go_back_to(0);
        let mut files = Vec::new();
        while let Some(file) = sending.export.next().await? {
            files.push(file);
        }
        Ok((sending.export.applied().clone(), files))
    }

    /// From now on whoever wants a snapshot of the shard gets this one.
    fn hold(self: &Arc<Self>) {
        if let Some(held) = self.held.upgrade() {
            let holding = Holding {
                meta: self.meta.clone(),
                outgoing: self.clone(),
                used: Instant::now(),
            };
            let before = held.holding.lock().replace(holding);
            drop(before);
        }
    }

    /// It has been sent: the next one is a new one.
    fn done(self: &Arc<Self>) {
        if let Some(held) = self.held.upgrade() {
            let upto = self.meta.last_log_id.map_or(0, |last| last.index());
            *held.arrived.lock() = Some((upto, Instant::now()));
            let mut held = held.holding.lock();
            let mine = held.take_if(|held| Arc::ptr_eq(&held.outgoing, self));
            drop(held);
            drop(mine);
        }
    }
}

/// Sends a snapshot, or what is missing of it there. The receiver's vote once it has installed it. While
/// it is `needed`, it does not wait as what can wait.
pub(crate) async fn send(
    (link, turns): (&Link, &Semaphore),
    needed: impl Fn() -> bool,
    (shard, incarnation): (ShardId, u64),
    vote: Vote,
    outgoing: &Arc<Outgoing>,
) -> Result<Vote, String> {
    let _of_link = link.snapshot_turn().await;
    // It is never closed.
    let _of_node = turns.acquire().await.map_err(|e| e.to_string())?;
    let mut sending = outgoing.sending.lock().await;
    outgoing.hold();
    let mut head = snapshot::head((shard, incarnation), &vote, sending.export.applied());
    head.id = Some(wire::SnapshotId {
        boot_nonce: link.hello().boot_nonce(),
        number: outgoing.number,
    });
    let (out, chunks) = mpsc::channel(CHUNKS_AHEAD);
    let part = Some(Part::Head(head));
    let _ = out.send(wire::SnapshotChunk { part }).await;
    let chunks = tokio_stream::wrappers::ReceiverStream::new(chunks);
    let request = link.hello().request_to(link.node(), chunks);
    let mut client = PeerClient::new(link.channel());
    let mut answers = match client.copy_snapshot(request).await {
        Ok(answers) => {
            let of = link.admit(answers.metadata()).await;
            of.map_err(|status| status.to_string())?;
            answers.into_inner()
        }
        Err(status) if status.code() == Code::Unimplemented => {
            drop(sending);
            let done = snapshot::send(link, (shard, incarnation), vote, outgoing).await;
            outgoing.done();
            return done;
        }
        Err(status) => return Err(status.to_string()),
    };
    let came = timeout(CAME_MAX, answers.message()).await;
    let came = came.map_err(|_| "the receiver did not say what it has")?;
    let came = came.map_err(|status| status.to_string())?;
    let came = came.ok_or("the receiver hung up")?;
    tracing::info!(
        %shard, to = %link.node(), files = came.files, bytes = came.bytes,
        "sending a snapshot, behind what has come already"
    );
    let answered = async {
        let done = answers
            .message()
            .await
            .map_err(|status| status.to_string())?;
        done.ok_or_else(|| "the receiver hung up".to_owned())
    };
    let mut answered = std::pin::pin!(answered);
    let fed = tokio::select! {
        biased;
        // Only to say what went wrong, before it has all of it.
        answer = &mut answered => return answer.and_then(|_| Err("an answer too early".into())),
        fed = sending.feed((link, needed), &came, out) => fed,
    };
    fed?;
    let done = answered.await?;
    outgoing.done();
    trust::vote(done.vote, vote.leader_id().term).map_err(|e| e.to_string())
}

impl Sending {
    async fn feed(
        &mut self,
        (link, needed): (&Link, impl Fn() -> bool),
        came: &wire::SnapshotCame,
        out: mpsc::Sender<wire::SnapshotChunk>,
    ) -> Result<(), String> {
        let disk = |e: store::Error| e.to_string();
        let send = async |part| {
            let chunk = wire::SnapshotChunk { part: Some(part) };
            let sent = out.send(chunk).await;
            sent.map_err(|_| "the receiver hung up".to_owned())
        };
        let mut number = came.files as usize;
        let kept = self
            .file
            .take()
            .filter(|(kept, file)| *kept == number && came.bytes <= file.len() && came.bytes > 0);
        let mut offset = if kept.is_some() { came.bytes } else { 0 };
        let begins = number + usize::from(kept.is_some());
        if !self.export.go_back_to(begins) {
            return Err(format!("{number} files have come, and fewer were sent"));
        }
        self.file = kept;
        send(Part::FileAt(wire::SnapshotFileAt {
            file: came.files,
            offset,
        }))
        .await?;
        loop {
            if self.file.is_none() {
                let next = self.export.next().await.map_err(disk)?;
                self.file = next.map(|file| (number, file));
            }
            let Some((_, file)) = &self.file else { break };
            let mut crc = sum(&**file, offset).map_err(disk)?;
            while offset < file.len() {
                let most = link.piece_bytes().max(CHUNK_BYTES_MIN);
                let most = usize::try_from(most).unwrap_or(usize::MAX);
                let most = most.min(limits::SNAPSHOT_CHUNK_BYTES);
                let data = file.read_at(offset, most).map_err(disk)?;
                if data.is_empty() {
                    return Err(format!("a file ended at {offset} of {}", file.len()));
                }
                let bytes = data.len() as u64;
                link.send_bulk(bytes, needed())
                    .await
                    .map_err(|e| e.to_string())?;
                crc = crc32c::crc32c_append(crc, &data);
                send(Part::Data(data)).await?;
                offset += bytes;
            }
            let end = wire::SnapshotFileEnd {
                bytes: offset,
                crc32c: crc,
            };
            send(Part::FileEnd(end)).await?;
            number += 1;
            (self.file, offset) = (None, 0);
        }
        let files = u32::try_from(number).map_err(|e| e.to_string())?;
        send(Part::End(wire::SnapshotEnd { files })).await
    }
}

/// The checksum of a file up to `end`.
fn sum(file: &dyn SortedFile, end: u64) -> Result<u32, store::Error> {
    let (mut at, mut crc) = (0, 0);
    while at < end {
        let most = (end - at).min(limits::SNAPSHOT_CHUNK_BYTES as u64);
        let data = file.read_at(at, usize::try_from(most).unwrap_or(usize::MAX))?;
        if data.is_empty() {
            break;
        }
        at += data.len() as u64;
        crc = crc32c::crc32c_append(crc, &data);
    }
    Ok(crc)
}

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
    let vote = Some(snapshot::install(group, head.vote, data).await?);
    let came = wire::SnapshotCame {
        vote,
        ..wire::SnapshotCame::default()
    };
    let _ = out.send(Ok(came)).await;
    Ok(())
}

#[cfg(test)]
mod tests {
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
