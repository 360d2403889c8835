//! The store in memory: ordered batches and a watermark of what is synced, so that every crash and
//! every failure of a disk can be played exactly.
//!
//! ```text
//!   visible = durable + every batch written since        (what reads see)
//!   durable   ── sync: moves the batches written before it over ──►
//!   power cut: durable + a chosen prefix of the unsynced batches is what the next open finds
//! ```
//!
//! The [`Disk`] outlives the engine, as a disk outlives a process. No threads and no clock: a sync
//! completes when its future is polled, unless the disk was given a latency or told to hold syncs.
//!
//! What can be played, beside power cuts: killed processes, torn tails, wiped and old disks
//! ([`Disk::process_killed`], [`Disk::power_cut_torn`], [`Disk::wipe`], [`Disk::restore`]); slow and
//! hung syncs ([`Disk::draw_sync_latency`], [`Disk::hold_syncs`]); reads, writes and syncs that fail
//! and disks that fill up ([`Fault`], [`Disk::set_capacity_bytes`], [`Volume`]); flipped bits ([`Disk::flip_bit`]).
//! That it allows whatever RocksDB does after a crash is tested in `tests/differential.rs`.
//!
//! It is harsher than RocksDB in one thing: after a failed write or sync RocksDB refuses everything,
//! this engine goes on, so that who ignores the error is found out.

mod crash;
mod damage;
mod device;
mod engine;
mod fault;
mod files;
mod records;
mod state;
mod volume;

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::Batch;
pub use crash::DiskImage;
pub use damage::{Hit, Part};
pub use engine::Memory;
pub use fault::Fault;
use state::State;
pub use volume::Volume;

/// Called with each batch at the moment when it becomes durable; see [`Disk::observe`].
pub type Observer = Arc<dyn Fn(&Batch) + Send + Sync>;

/// The disk under a [`Memory`]; it survives the engine. Clones share it.
#[derive(Clone)]
pub struct Disk {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Whether syncs wait; see [`Disk::hold_syncs`].
    held: watch::Sender<bool>,
}

impl Default for Disk {
    fn default() -> Self {
        Disk::new()
    }
}

impl Disk {
    /// An empty disk.
    pub fn new() -> Disk {
        Disk::of(State::default())
    }

    /// An empty disk that errors call by this name.
    pub fn named(name: &str) -> Disk {
        Disk::of(State {
            name: Arc::from(name),
            ..State::default()
        })
    }

    fn of(state: State) -> Disk {
        Disk {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                held: watch::Sender::new(false),
            }),
        }
    }

    /// Batches written and not synced.
    pub fn unsynced(&self) -> usize {
        self.shared.state.lock().unsynced.len()
    }

    /// How many files are kept on it.
    pub fn kept(&self) -> usize {
        self.shared.state.lock().kept.len()
    }

    /// How often files were ingested into it, by all engines that it had.
    pub fn ingests(&self) -> u64 {
        self.shared.state.lock().ingests
    }

    /// The copy that [`super::Engine::checkpoint`] made at `directory`.
    pub fn checkpointed(&self, directory: &Path) -> Option<Disk> {
        self.shared.state.lock().checkpoints.get(directory).cloned()
    }

    /// Has `observer` called with each batch at the moment when it becomes durable, in their order:
    /// by a sync, by surviving a crash (of a torn one, what survives of it), or as what an ingest
    /// adds. It must not use the disk. `None` ends it.
    pub fn observe(&self, observer: Option<Observer>) {
        self.shared.state.lock().observer = observer;
    }
}
