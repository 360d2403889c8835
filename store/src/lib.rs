//! One replica's durable state.
//!
//! ```text
//!   appends, votes of all shards ──► log ──► raftdb  (WAL; one writer, one fsync for all)
//!   committed entries ─────────────► state ─► msgdb  (no WAL; written with its applied position,
//!                                                     replayed from the last flush after a crash)
//! ```
//!
//! The Raft log is the only write-ahead log. Rules that the two databases make:
//! 1. `msgdb` never flushes on its own; only [`state`] flushes it.
//! 2. Before a flush `raftdb` is synced past every applied position.
//! 3. The log is cut only up to a flushed position.
//! 4. Installing a snapshot: files kept and synced, marker that names them synced in `raftdb`, clear
//!    the range, flush, ingest, flush the applied position, remove the marker, then the files. A
//!    crash leaves the old state, or a marker by which the next start makes the new one.

pub mod engine;
pub mod key;
pub mod log;
pub mod snapshot;
pub mod state;

mod error;
mod position;
mod share;
mod sizes;

pub use error::Error;
pub use log::{HardState, Log, Record, ShardLog, SyncFigures};
pub use position::Position;
pub use share::Share;
pub use sizes::Sizes;
