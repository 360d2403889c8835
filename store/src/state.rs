//! The replicated state of all shards of a node, in `msgdb`.
//!
//! ```text
//!   committed entries ──► ShardState::apply ──► one batch: messages, ids, heads, applied position
//!                                                  │ no write-ahead log: lost in a crash, and
//!                                                  ▼ replayed from the Raft log
//!   State::flush: sync raftdb ──► all applied positions synced? ──► flush msgdb ──► flushed()
//! ```
//!
//! What is kept here: state and its applied position are one batch, so that a replay begins where
//! the state ends; and `msgdb` is flushed only when `raftdb` is synced past every applied position
//! (rule 2 of the crate), so that state never knows more than the log can prove.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use model::id::ShardId;
use model::mutant;
use model::shard::Scope;
use parking_lot::{Mutex, RwLock};

use crate::engine::{self, Engine};
use crate::snapshot::{self, Marker};
use crate::{Error, Log, Position, Share};

pub(crate) mod applied;
pub(crate) mod erase;
mod feed;
mod heads;
mod ids;
mod overdue;
mod overlay;
mod pages;
mod reactors;
mod readback;
mod recent;
pub(crate) mod record;
mod shard;
mod watch;
mod written;

pub use erase::Erasure;
pub use feed::{Ask, Fed, Feed, What};
pub use overdue::{Forecast, Look, Overdue, WhatIf};
pub use pages::{Page, Shown, Wanted};
pub use reactors::{Behind, Reacted};
pub use readback::{ConversationHash, Digest, Scrub};
pub use record::SUM_BYTES;
pub use shard::{Audited, Reached, ShardState};
pub use watch::Touched;

use shard::Shard;

/// Rounds in which shards forget: one for what was not used of late, the others for all the rest.
const CACHE_ROUNDS: usize = 5;

/// How far a shard's state has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The last entry applied; `None` when there is none.
    pub position: Option<Position>,
    /// The last membership applied; opaque to the store.
    pub membership: Bytes,
    /// The count of changes applied.
    pub revision: u64,
    /// The latest command time applied, Unix milliseconds.
    pub time_ms: u64,
    /// How much time has passed for the shard, at least, milliseconds; 0 when it was never counted.
    pub passed_ms: u64,
    /// The newest format of an applied entry; 0 when that was not noted yet.
    pub entry_format: u32,
}

/// A committed entry of a shard's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToApply {
    /// Where it stands in the log.
    pub position: Position,
    /// The membership it sets; opaque to the store.
    pub membership: Option<Bytes>,
    /// An encoded [`model::command::Entry`]; `None` for entries that Raft makes for itself.
    pub payload: Option<Bytes>,
}

/// The state of all shards of a node. Clones share it.
#[derive(Clone)]
pub struct State {
    shared: Arc<Shared>,
}

/// What the shards of a node share.
pub(crate) struct Shared {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) log: Log,
    pub(crate) shards: Mutex<BTreeMap<ShardId, Arc<Shard>>>,
    /// Held for reading while a batch is written and its position noted, for writing while a
    /// flush notes all positions and switches.
    pub(crate) switch: RwLock<()>,
    /// One flush at a time.
    flushing: tokio::sync::Mutex<()>,
    /// Those that wait for the log: flushes and erasures; see [`ShardState::ready`].
    pub(crate) flush_waits: AtomicUsize,
    pub(crate) unflushed_bytes: AtomicU64,
    pub(crate) appended_messages: AtomicU64,
    /// What heads and ids of all shards take in memory, bytes, and the most.
    cached: AtomicUsize,
    cached_max: Share,
    /// The installs that a crash interrupted, until they are finished.
    pub(crate) unfinished: Mutex<BTreeMap<ShardId, Unfinished>>,
    /// One [`State::finish_installs`] at a time.
    finishing: tokio::sync::Mutex<()>,
}

/// An install that a crash interrupted.
pub(crate) struct Unfinished {
    marker: Marker,
    /// Why its shard cannot be opened.
    refused: Error,
}

impl State {
    /// Opens the state. Snapshot installs that a crash interrupted are found, and files that none
    /// of them needs are removed; [`State::finish_installs`] is to be awaited before the first
    /// [`State::shard`].
    ///
    /// # Errors
    /// [`Error`] when a database refuses or an install marker is corrupt.
    pub fn open(engine: Arc<dyn Engine>, log: Log) -> Result<State, Error> {
        State::open_within(engine, log, Share::of(usize::MAX))
    }

    /// Opens the state as [`State::open`] does. Of the heads and ids of conversations it keeps what
    /// fits into `cached_max`, over all shards. After it has become less, [`State::trim`] forgets.
    ///
    /// # Errors
    /// As [`State::open`].
    pub fn open_within(
        engine: Arc<dyn Engine>,
        log: Log,
        cached_max: Share,
    ) -> Result<State, Error> {
        let mut unfinished = BTreeMap::new();
        let mut unnamed = engine.kept()?;
        for (shard, marker) in Marker::all(&log)? {
            unnamed.retain(|name| !marker.files.contains(name));
            let refused = unfinished_yet();
            unfinished.insert(shard, Unfinished { marker, refused });
        }
        engine.forget(&unnamed)?;
        Ok(State {
            shared: Arc::new(Shared {
                engine,
                log,
                shards: Mutex::default(),
                switch: RwLock::new(()),
                flushing: tokio::sync::Mutex::new(()),
                flush_waits: AtomicUsize::new(0),
                unflushed_bytes: AtomicU64::new(0),
                appended_messages: AtomicU64::new(0),
                cached: AtomicUsize::new(0),
                cached_max,
                unfinished: Mutex::new(unfinished),
                finishing: tokio::sync::Mutex::new(()),
            }),
        })
    }

    /// Brings the snapshot installs that a crash interrupted to their end; durable on completion.
    /// One that cannot be, because what it needs is damaged, leaves its shard refused; the others
    /// are none the worse for it. May be repeated.
    ///
    /// # Errors
    /// [`Error`] when the disk refuses, but never [`Error::Corrupt`].
    pub fn finish_installs(&self) -> BoxFuture<'static, Result<(), Error>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { shared.finish_installs().await })
    }

    /// One shard's state; the same one for every call. `slots` is not looked at for the meta
    /// shard, which holds no conversations.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when what is known of the shard itself cannot be read, or an interrupted
    /// install cannot be finished; [`Error::Disk`] while it only is not.
    pub fn shard(&self, shard: ShardId, slots: RangeInclusive<u16>) -> Result<ShardState, Error> {
        if let Some(install) = self.shared.unfinished.lock().get(&shard) {
            return Err(install.refused.clone());
        }
        let mut shards = self.shared.shards.lock();
        let open = match shards.get(&shard) {
            Some(open) => Arc::clone(open),
            None => {
                let scope = match shard.is_meta() {
                    true => Scope::Meta,
                    false => Scope::Data(slots),
                };
                let open = Arc::new(Shard::open(&self.shared, shard, scope)?);
                shards.insert(shard, Arc::clone(&open));
                open
            }
        };
        Ok(ShardState {
            shard: open,
            shared: Arc::clone(&self.shared),
        })
    }

    /// Removes everything of a shard, damaged or not; durable on completion. Its [`ShardState`]s apply
    /// nothing and are to be given up; the next [`State::shard`] gives an empty one.
    ///
    /// # Errors
    /// [`Error`] when the disk refuses.
    pub fn wipe(
        &self,
        shard: ShardId,
        slots: RangeInclusive<u16>,
    ) -> BoxFuture<'static, Result<(), Error>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { snapshot::wipe(&shared, shard, slots).await })
    }

    /// Makes everything applied so far durable; on completion every [`ShardState::flushed`] has
    /// moved at least to what was applied when this was called.
    ///
    /// # Errors
    /// [`Error`]; fatal for the node.
    pub fn flush(&self) -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(Arc::clone(&self.shared).flush())
    }

    /// Bytes applied since the last flush began.
    pub fn unflushed_bytes(&self) -> u64 {
        self.shared.unflushed_bytes.load(Ordering::Relaxed)
    }

    /// Counters of the database.
    pub fn stats(&self) -> engine::Stats {
        self.shared.engine.stats()
    }

    /// What the heads and ids of conversations take in memory, bytes, about.
    pub fn cached_bytes(&self) -> usize {
        self.shared.cached.load(Ordering::Relaxed)
    }

    /// Forgets heads and ids, those used least first, where there are more of them than may be.
    pub fn trim(&self) {
        self.shared.trim();
    }

    /// Messages applied since the start, over all shards.
    pub fn appended_messages(&self) -> u64 {
        self.shared.appended_messages.load(Ordering::Relaxed)
    }
}

/// A flush that has switched: what it makes durable, and its end.
struct Switched {
    positions: Vec<(Arc<Shard>, Applied)>,
    synced: BoxFuture<'static, Result<(), Error>>,
}

impl Shared {
    pub(crate) async fn flush(self: Arc<Self>) -> Result<(), Error> {
        let _one = self.flushing.lock().await;
        // Nobody waits for this one: a disk that hangs must not hold up what is applied.
        self.log.sync().await?;
        let switched = match self.switch() {
            Some(switched) => switched,
            None => self.switch_when_synced().await?,
        };
        switched.synced.await?;
        self.log.trim();
        for (shard, applied) in switched.positions {
            shard.set_flushed(applied);
        }
        Ok(())
    }

    /// Switches for a log whose disk completes syncs and is behind all the same.
    async fn switch_when_synced(&self) -> Result<Switched, Error> {
        // From here on only synced entries are applied, by those who ask `ready` first, so the
        // first round passes; without it a slow log could stay behind for ever.
        let _waits = Waits::new(&self.flush_waits);
        loop {
            self.log.sync().await?;
            if let Some(switched) = self.switch() {
                return Ok(switched);
            }
            tokio::task::yield_now().await;
        }
    }

    async fn finish_installs(self: Arc<Self>) -> Result<(), Error> {
        let _one = self.finishing.lock().await;
        let installs: Vec<(ShardId, Marker)> = {
            let unfinished = self.unfinished.lock();
            unfinished
                .iter()
                .map(|(shard, install)| (*shard, install.marker.clone()))
                .collect()
        };
        for (shard, marker) in installs {
            match snapshot::finish(&self, shard, &marker).await {
                Ok(()) => {
                    tracing::info!(%shard, "finished the install of a snapshot");
                    self.unfinished.lock().remove(&shard);
                }
                Err(refused @ Error::Corrupt { .. }) => {
                    tracing::error!(%shard, error = %refused, "an install cannot be finished");
                    let install = Unfinished { marker, refused };
                    self.unfinished.lock().insert(shard, install);
                }
                Err(
                    error @ (Error::Disk { .. }
                    | Error::Damaged { .. }
                    | Error::NoSpace { .. }
                    | Error::Format { .. }),
                ) => {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Notes what a shard keeps in memory now; when all of them keep too much, all forget what they used
    /// least. To be called without a lock of any shard.
    pub(crate) fn note_cached(&self, shard: &Shard) {
        shard.count_cached(&self.cached);
        self.trim();
    }

    fn trim(&self) {
        let max = self.cached_max.bytes();
        if self.cached.load(Ordering::Relaxed) <= max || mutant!("cache-ignores-its-share") {
            return;
        }
        let shards: Vec<Arc<Shard>> = self.shards.lock().values().cloned().collect();
        // Down to a half, so that it is not done for each message.
        for _ in 0..CACHE_ROUNDS {
            for shard in &shards {
                shard.age_cached();
                shard.count_cached(&self.cached);
            }
            if self.cached.load(Ordering::Relaxed) <= max / 2 {
                return;
            }
        }
    }

    /// Starts the flush of `msgdb`, unless a position is applied that the log has not synced.
    fn switch(&self) -> Option<Switched> {
        let shards: Vec<Arc<Shard>> = self.shards.lock().values().cloned().collect();
        let _nothing_is_written = self.switch.write();
        let mut positions = Vec::with_capacity(shards.len());
        for shard in shards {
            let Some(applied) = shard.to_flush() else {
                continue; // a snapshot is being installed: it says itself when it is flushed
            };
            if !shard.is_proved(applied.position) {
                return None;
            }
            positions.push((shard, applied));
        }
        let synced = self.engine.sync();
        self.unflushed_bytes.store(0, Ordering::Relaxed);
        Some(Switched { positions, synced })
    }
}

fn unfinished_yet() -> Error {
    Error::Disk {
        operation: "open",
        file: record::FILE.into(),
        reason: "the install of a snapshot in this shard is not finished".into(),
    }
}

/// Says that a flush or an erasure waits for the log, until it is dropped.
pub(crate) struct Waits<'s>(&'s AtomicUsize);

impl<'s> Waits<'s> {
    pub(crate) fn new(waiting: &'s AtomicUsize) -> Waits<'s> {
        waiting.fetch_add(1, Ordering::SeqCst);
        Waits(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
