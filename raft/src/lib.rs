//! How replicas agree. The only crate that names openraft.
//!
//! ```text
//!  propose ─► batcher (one Raft entry of many commands) ─► group (openraft) ─► log_store ─► store::log
//!                                                             │  ▲
//!                     link (one stream per pair of nodes) ◄───┘  │  committed
//!                        │                                       ▼
//!                     inbound (other node) ─► its group     state_machine ─► store::state ─► replies
//! ```

mod acks;
mod age;
mod api;
mod balance;
mod batcher;
mod copy;
mod dropped;
mod fault;
mod frame;
mod granted;
mod gray;
mod group;
mod handover;
mod heal;
mod hello;
mod inbound;
mod incarnation;
mod index;
mod kept;
mod leaders;
mod link;
mod liveness;
mod log_store;
mod meta;
mod moves;
mod network;
mod news;
mod node;
mod outbox;
mod pace;
mod peers;
mod pulse;
mod quorum;
mod read;
mod room;
mod rtt;
mod runtime;
mod scrub;
mod search;
mod sleep;
mod snapshot;
mod state_machine;
mod time;
mod trust;
mod types;
mod vitals;
mod whereabouts;
mod windows;

pub use api::*;
pub use meta::newest_view;
pub use node::{Node, ask_again, last_view, refusal};
pub use room::Room;
pub use runtime::interleave;
