//! One node, as a library: the very same code runs in production and in the simulator, which
//! differ only in the [`World`] they hand in.
//!
//! ```text
//!  client ─► service/messages ─► check ─► gateway ─► raft::Node::propose ─► leader of the shard
//!                │                          │ retries under the same id until the deadline
//!                ├─► stream (many items, one command per conversation in flight) ─► gateway
//!                ├─► read ─► this replica after a barrier, or forwarded once to the leader
//!                └─► tail ─► this replica as it applies, or forwarded to a node that has one
//!  operator ─► service/admin ─► raft::Node's view, replicas; joins go to the meta shard
//! ```
//!
//! Everything a caller gives is checked at the edge ([`check`]) and every error leaves through one
//! file ([`error`]).

pub mod access;
pub mod budget;
pub mod check;
pub mod coalesce;
pub mod config;
pub mod contained;
pub mod convert;
pub mod cursor;
pub mod deadline;
pub mod drill;
pub mod error;
pub mod events;
pub mod follow;
pub mod found;
pub mod gateway;
mod guesses;
pub mod identity;
pub mod memory;
pub mod night;
pub mod node;
mod plain;
pub mod read;
pub mod recorder;
pub mod room;
pub mod sealed;
pub mod secrets;
pub mod service;
pub mod sight;
mod start;
pub mod stream;
pub mod tail;
pub mod telemetry;
pub mod tenants;
pub mod token;
pub mod world;

pub use config::Config;
pub use world::World;
