//! The Raft logs and hard states of all shards, in `raftdb`, with a few records of the node itself.
//!
//! ```text
//!   shard 1  ShardLog::append, save, truncate_after, purge ─┐
//!   shard 2  …                                              ├─► queue ─► writer ─► one batch,
//!   node     Log::local_put, sync, remove_shard ────────────┘            one write, one sync
//! ```
//!
//! What it keeps:
//! - what a callback or future called durable is found again after any crash;
//! - a shard's operations take effect, and become durable, in the order of the calls;
//! - a shard's log never has a hole; a damaged one is refused when it is opened, or read;
//! - after the first error of the disk nothing is acknowledged any more;
//! - the mark ([`Log::mark`]) never goes back on a disk that nobody has exchanged.
//!
//! All of a shard that can be asked for without reading an entry (ends, terms, sizes, hard states)
//! is in memory, and so are its last entries, so that replication reads no disk.

mod record;
mod shard;
mod tail;
mod writer;

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use model::id::ShardId;
use parking_lot::Mutex;

use crate::engine::{self, Engine};
use crate::key::log as key;
use crate::key::log::Kind;
use crate::{Error, Share};
pub use record::{Record, SEAL_BYTES, unseal};
use shard::Shard;
pub use shard::ShardLog;
pub use writer::SyncFigures;
use writer::{Queue, Until, Writer};

/// Bytes of entries that one shard keeps in memory at most, beside those not yet written.
pub const TAIL_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of entries that all shards keep in memory, unless said otherwise; above that each keeps
/// [`TAIL_BYTES_MIN`], or an equal share where they are many.
pub const TAILS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of entries that a shard keeps in memory whatever the others do.
pub const TAIL_BYTES_MIN: usize = 128 * 1024;

const _: () = {
    assert!(TAIL_BYTES_MIN < TAIL_BYTES_MAX && TAIL_BYTES_MAX < TAILS_BYTES_MAX);
    assert!(model::limits::ENTRY_BYTES_MAX * 4 <= TAIL_BYTES_MAX);
};

/// The node's own record that the writer counts its rounds in; no one else's name.
const MARK: &str = "mark";

/// The records that a shard has one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HardState {
    /// Whom it voted for; durable before it is told to anyone.
    Vote,
    /// The position known to be committed; may be lost.
    Committed,
    /// Whatever else the layer above must find again; durable like a vote.
    Extra,
}

impl HardState {
    fn kind(self) -> Kind {
        match self {
            HardState::Vote => Kind::Vote,
            HardState::Committed => Kind::Committed,
            HardState::Extra => Kind::Extra,
        }
    }
}

/// The logs of all shards of a node. Clones share them.
#[derive(Clone)]
pub struct Log {
    handle: Arc<Handle>,
}

/// What all handles share. The writer ends when the last is dropped.
struct Handle {
    engine: Arc<dyn Engine>,
    queue: Arc<Queue>,
    /// The node's own records. Locked before the queue.
    local: Mutex<BTreeMap<String, Bytes>>,
    /// The mark that was found.
    mark_at_open: u64,
    tails: Arc<Tails>,
}

/// What the entries in memory take, over all shards.
struct Tails {
    bytes: AtomicUsize,
    max: Share,
    /// Those that are open.
    shards: Mutex<BTreeMap<ShardId, Arc<Shard>>>,
    count: AtomicUsize,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Log {
    /// Opens the logs on `engine`. The future is the writer: the caller runs it; it completes when
    /// every [`Log`] and [`ShardLog`] is dropped and all is written, or with the error that ended
    /// it, after which the node must stop. Nothing completes unless it runs.
    ///
    /// # Errors
    /// [`Error`] when the node's own records cannot be read.
    pub fn open(
        engine: Arc<dyn Engine>,
    ) -> Result<
        (
            Log,
            impl Future<Output = Result<(), Error>> + Send + 'static,
        ),
        Error,
    > {
        Log::open_within(engine, Share::of(TAILS_BYTES_MAX))
    }

    /// Opens the logs as [`Log::open`] does, and keeps `tails_max` of entries in memory, over all
    /// shards. After it has become less, [`Log::trim`] gives back what is too much.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open_within(
        engine: Arc<dyn Engine>,
        tails_max: Share,
    ) -> Result<
        (
            Log,
            impl Future<Output = Result<(), Error>> + Send + 'static,
        ),
        Error,
    > {
        let mut local = load_local(engine.as_ref())?;
        let mark_at_open = take_mark(&mut local)?;
        let queue = Arc::new(Queue::default());
        let tails = Arc::new(Tails {
            bytes: AtomicUsize::new(0),
            max: tails_max,
            shards: Mutex::default(),
            count: AtomicUsize::new(0),
        });
        let writer = Writer::new(
            Arc::clone(&engine),
            Arc::clone(&queue),
            Arc::clone(&tails),
            mark_at_open,
        );
        let handle = Handle {
            local: Mutex::new(local),
            mark_at_open,
            engine,
            queue,
            tails,
        };
        Ok((
            Log {
                handle: Arc::new(handle),
            },
            writer.run(),
        ))
    }

    /// The log of a shard, empty when there is none yet. It is read and verified as a whole the
    /// first time; later calls give the same log.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a record is damaged or missing, which concerns this shard only: its
    /// replica must not vote until [`Log::remove_shard`] and a rebuild. Others as the disk has.
    pub fn shard(&self, shard: ShardId) -> Result<ShardLog, Error> {
        let tails = &self.handle.tails;
        let mut shards = tails.shards.lock();
        let shard = match shards.get(&shard) {
            Some(known) => Arc::clone(known),
            None => {
                let count = tails.count.fetch_add(1, Ordering::Relaxed) + 1;
                let max = tails.max.bytes();
                let left = max.saturating_sub(tails.bytes.load(Ordering::Relaxed));
                let room = (max / count).min(TAIL_BYTES_MAX).min(left);
                let tail = shard::load(self.handle.engine.as_ref(), shard, room)?;
                let bytes = tail.cache_bytes();
                tails.bytes.fetch_add(bytes, Ordering::Relaxed);
                let new = Arc::new(Shard {
                    id: shard,
                    tail: Mutex::new(tail),
                });
                shards.insert(shard, Arc::clone(&new));
                new
            }
        };
        Ok(ShardLog {
            handle: Arc::clone(&self.handle),
            shard,
        })
    }

    /// Completes when everything submitted before, by any shard, is durable.
    pub fn sync(&self) -> BoxFuture<'static, Result<(), Error>> {
        self.handle.queue.submit_and_wait(Until::Durable, |_, _| {})
    }

    /// Rewrites the files that hold entries of a shard up to `upto`, which must have been purged:
    /// nothing of them is left in any file on completion.
    ///
    /// # Errors
    /// [`Error`] when the disk refuses.
    pub fn scour(&self, shard: ShardId, upto: u64) -> BoxFuture<'static, Result<(), Error>> {
        let from = key::entry(shard, 0).to_vec();
        let to = key::entry(shard, upto.saturating_add(1)).to_vec();
        self.handle.engine.scour(vec![(from, to)])
    }

    /// Gives back what shards keep in memory beyond their shares, where all of them keep too much.
    pub fn trim(&self) {
        let queue = &self.handle.queue;
        self.handle
            .tails
            .trim(queue.unwritten_bytes(), queue.written());
    }

    /// Bytes of entries in memory, over all shards.
    pub fn tails_bytes(&self) -> usize {
        self.handle.tails.bytes.load(Ordering::Relaxed)
    }

    /// What the entries take in memory that wait for the writer: they stay whatever the bound.
    pub fn unwritten_bytes(&self) -> usize {
        self.handle.queue.unwritten_bytes()
    }

    /// What is known in memory of all entries (sizes, terms) and of each shard beside the entries
    /// themselves, bytes, about. Looks at every shard.
    pub fn index_bytes(&self) -> usize {
        let shards = self.handle.tails.shards.lock();
        let of = |shard: &Arc<Shard>| shard.tail.lock().index_bytes();
        shards.values().map(of).sum()
    }

    /// How far this disk has been synced: the number of the writer's last round, over all starts,
    /// that is durable; 0 until this start's first sync. Every round writes its number in its own
    /// batch, so no crash leaves less than was given here, and an older copy of the disk has less.
    /// Rounds of notes alone ([`Log::local_note`]) have no number.
    pub fn mark(&self) -> u64 {
        self.handle.queue.mark()
    }

    /// The mark on the disk when the log was opened: at least all that [`Log::mark`] gave in
    /// earlier starts. 0 on a fresh disk, and on one of a version that had no marks.
    pub fn mark_at_open(&self) -> u64 {
        self.handle.mark_at_open
    }

    /// A record of the node itself: its identity, boot counter, markers.
    ///
    /// # Errors
    /// None at present; all of them were read and verified when the log was opened.
    pub fn local_get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        Ok(self.handle.local.lock().get(key).cloned())
    }

    /// Sets a record of the node itself, or removes it (`None`). Read at once, durable when the
    /// future completes.
    pub fn local_put(
        &self,
        key: &str,
        value: Option<Bytes>,
    ) -> BoxFuture<'static, Result<(), Error>> {
        let disk_key = Bytes::from(key::local(key));
        let mut local = self.handle.local.lock();
        match &value {
            Some(value) => local.insert(key.to_owned(), value.clone()),
            None => local.remove(key),
        };
        self.handle
            .queue
            .submit_and_wait(Until::Durable, |round, _| {
                round.unnote(&disk_key);
                match &value {
                    Some(value) => {
                        let sealed = record::seal(&disk_key, [value, &[]]);
                        round.batch.put(disk_key, sealed);
                    }
                    None => round.batch.delete(disk_key),
                }
            })
    }

    /// Sets a record of the node itself that may be lost: read at once, and written along with the
    /// first batch that somebody waits for, or by [`Log::settle`]. It costs no sync of its own, and of
    /// many values for one name the last is written.
    pub fn local_note(&self, key: &str, value: Bytes) {
        let disk_key = Bytes::from(key::local(key));
        let sealed = record::seal(&disk_key, [&value, &[]]);
        let mut local = self.handle.local.lock();
        local.insert(key.to_owned(), value);
        self.handle.queue.note(disk_key, sealed);
    }

    /// Completes when all that was noted ([`Log::local_note`]) is durable. It syncs only if that is not
    /// so yet, and does not raise the mark.
    pub fn settle(&self) -> BoxFuture<'static, Result<(), Error>> {
        self.handle.queue.settle()
    }

    /// The node's own records whose names begin with `prefix`, sorted by name.
    ///
    /// # Errors
    /// As [`Log::local_get`].
    pub fn local_scan(&self, prefix: &str) -> Result<Vec<(String, Bytes)>, Error> {
        let local = self.handle.local.lock();
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let found = local
            .range::<str, _>(from)
            .take_while(|(name, _)| name.starts_with(prefix));
        Ok(found
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect())
    }

    /// Removes everything of a shard, damaged or not; durable when the future completes. Its
    /// [`ShardLog`]s are empty logs from now on.
    pub fn remove_shard(&self, shard: ShardId) -> BoxFuture<'static, Result<(), Error>> {
        let shards = self.handle.tails.shards.lock();
        let mut tail = shards.get(&shard).map(|shard| shard.tail.lock());
        if let Some(tail) = &mut tail {
            let bytes = tail.cache_bytes();
            self.handle.tails.bytes.fetch_sub(bytes, Ordering::Relaxed);
            tail.clear();
        }
        self.handle
            .queue
            .submit_and_wait(Until::Durable, |round, _| {
                let (from, to) = key::shard(shard);
                let (lost_from, lost_to) = crate::key::lost::notes(&from, &to);
                round.batch.delete_range(from, to);
                round.batch.delete_range(lost_from, lost_to);
            })
    }

    /// How the disk does: for how long the sync that runs now has been running (0 when none does),
    /// and what a sync has taken lately, smoothed over the last few; `None` when there was none.
    pub fn syncs(&self) -> (Duration, Option<Duration>) {
        self.handle.queue.syncs()
    }

    /// What syncs came to since this was opened; goes on counting.
    pub fn sync_figures(&self) -> Arc<SyncFigures> {
        self.handle.queue.sync_figures()
    }

    /// What the longest sync took of those that ended within the last `over`, 8 s at most, or runs now.
    pub fn slowest_sync(&self, over: Duration) -> Duration {
        self.handle.queue.slowest_sync(over)
    }

    /// Counters of the engine since it was opened.
    pub fn stats(&self) -> engine::Stats {
        self.handle.engine.stats()
    }
}

/// Takes the mark out of the node's own records; it is the writer's.
fn take_mark(local: &mut BTreeMap<String, Bytes>) -> Result<u64, Error> {
    let Some(body) = local.remove(MARK) else {
        return Ok(0);
    };
    match body.as_ref().try_into() {
        Ok(mark) => Ok(u64::from_be_bytes(mark)),
        Err(_) => Err(record::corrupt(
            &key::local(MARK),
            format!("{} bytes", body.len()),
        )),
    }
}

fn load_local(engine: &dyn Engine) -> Result<BTreeMap<String, Bytes>, Error> {
    let mut found = BTreeMap::new();
    let (from, to) = key::locals();
    engine::check_lost(engine, "raftdb", &from, &to)?;
    engine.scan(&from, &to, engine::Order::Ascending, &mut |key, value| {
        let name = key::local_name(key)
            .ok_or_else(|| record::corrupt(key, "its name is not UTF-8".to_owned()))?;
        let body = record::unseal(key, value)?;
        found.insert(name.to_owned(), Bytes::copy_from_slice(body));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}
