//! Copies a shard's state to a replica, and goes on where it broke off: both ends keep what has come, the
//! receiver its files, the sender its read point and the file that was on its way. One file at a time
//! needs room on the sender's disk. Chunks wait for their turn on the line (`crate::link::outbox`), one
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

use model::id::ShardId;
use model::limits;
use parking_lot::Mutex;
use proto::node as wire;
use proto::node::peer_client::PeerClient;
use proto::node::snapshot_chunk::Part;
use store::engine::SortedFile;
use store::snapshot::{Export, ReadPoint};
use store::state::Applied;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tonic::Code;

use crate::adapter::snapshot;
use crate::adapter::trust;
use crate::adapter::types::{SnapshotMeta, Vote};
use crate::link::Link;

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
