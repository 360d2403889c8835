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
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use model::id::ShardId;
use model::shard::Scope;
use parking_lot::{Mutex, RwLock};

use crate::engine::{self, Batch, Engine};
use crate::{Error, Log, Position, snapshot};

pub(crate) mod applied;
mod heads;
mod ids;
mod overlay;
mod readback;
pub(crate) mod record;
mod shard;
mod watch;

pub use readback::ConversationHash;
pub use shard::{Page, ShardState};

use shard::Shard;

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
    shards: Mutex<BTreeMap<ShardId, Arc<Shard>>>,
    /// Held for reading while a batch is written and its position noted, for writing while a
    /// flush notes all positions and switches.
    pub(crate) switch: RwLock<()>,
    /// One flush at a time.
    flushing: tokio::sync::Mutex<()>,
    /// A flush waits for the log; see [`ShardState::ready`].
    pub(crate) flush_waits: AtomicBool,
    pub(crate) unflushed_bytes: AtomicU64,
    pub(crate) appended_messages: AtomicU64,
    /// Shards whose install marker is to be removed at the next flush; what it stood for is undone
    /// or done, but not yet flushed.
    settled: Mutex<Vec<ShardId>>,
    undone: Vec<ShardId>,
}

impl State {
    /// Opens the state. A snapshot install that a crash interrupted is finished when it was whole
    /// and undone otherwise: that shard is then empty. Never half.
    ///
    /// # Errors
    /// [`Error`] when a database refuses or an install marker is corrupt.
    pub fn open(engine: Arc<dyn Engine>, log: Log) -> Result<State, Error> {
        let mut settled = Vec::new();
        let mut undone = Vec::new();
        for (shard, marker) in snapshot::markers(&log)? {
            if !marker.whole(&*engine, shard)? {
                let mut batch = Batch::new();
                snapshot::clear_range(&mut batch, shard, &marker.scope());
                engine.write(batch)?;
                undone.push(shard);
            }
            settled.push(shard);
        }
        Ok(State {
            shared: Arc::new(Shared {
                engine,
                log,
                shards: Mutex::default(),
                switch: RwLock::new(()),
                flushing: tokio::sync::Mutex::new(()),
                flush_waits: AtomicBool::new(false),
                unflushed_bytes: AtomicU64::new(0),
                appended_messages: AtomicU64::new(0),
                settled: Mutex::new(settled),
                undone,
            }),
        })
    }

    /// The shards whose interrupted install was undone when this was opened: they are empty, and
    /// their logs may begin behind the start, so they need a snapshot before they serve or vote.
    pub fn undone(&self) -> &[ShardId] {
        &self.shared.undone
    }

    /// One shard's state; the same one for every call. `slots` is not looked at for the meta
    /// shard, which holds no conversations.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when what is known of the shard itself cannot be read.
    pub fn shard(&self, shard: ShardId, slots: RangeInclusive<u16>) -> Result<ShardState, Error> {
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

    /// Messages applied since the start, over all shards.
    pub fn appended_messages(&self) -> u64 {
        self.shared.appended_messages.load(Ordering::Relaxed)
    }
}

/// A flush that has switched: what it makes durable, and its end.
struct Switched {
    positions: Vec<(Arc<Shard>, Applied)>,
    settled: Vec<ShardId>,
    synced: BoxFuture<'static, Result<(), Error>>,
}

impl Shared {
    pub(crate) async fn flush(self: Arc<Self>) -> Result<(), Error> {
        let _one = self.flushing.lock().await;
        let switched = {
            // From here on only synced entries are applied, by those who ask `ready` first, so the
            // second round passes; without it a slow log could stay behind for ever.
            let _waits = Waits::new(&self.flush_waits);
            loop {
                self.log.sync().await?;
                if let Some(switched) = self.switch() {
                    break switched;
                }
                tokio::task::yield_now().await;
            }
        };
        switched.synced.await?;
        for (shard, applied) in switched.positions {
            shard.set_flushed(applied);
        }
        for shard in switched.settled {
            // Submitted under the lock: an install that begins now puts its marker behind this
            // removal, and one that has begun has taken its shard off the list. And it stays on
            // the list until it is done, should this future be dropped.
            let removal = {
                let settled = self.settled.lock();
                settled
                    .contains(&shard)
                    .then(|| snapshot::remove_marker(&self.log, shard))
            };
            if let Some(removal) = removal {
                removal.await?;
                self.unsettle(shard);
            }
        }
        Ok(())
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
        Some(Switched {
            positions,
            settled: self.settled.lock().clone(),
            synced,
        })
    }

    /// Forgets that the shard's install marker is to be removed: a new one stands in its place.
    pub(crate) fn unsettle(&self, shard: ShardId) {
        self.settled.lock().retain(|s| *s != shard);
    }
}

/// Says that a flush waits for the log, until it is dropped.
struct Waits<'s>(&'s AtomicBool);

impl<'s> Waits<'s> {
    fn new(flag: &'s AtomicBool) -> Waits<'s> {
        flag.store(true, Ordering::SeqCst);
        Waits(flag)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}
