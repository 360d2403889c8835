//! How replicas agree. The only crate that names openraft.
//!
//! ```text
//!  propose ─► batcher (one Raft entry of many commands) ─► group (openraft) ─► log_store ─► store::log
//!                                                             │  ▲
//!                     link (one stream per pair of nodes) ◄───┘  │  committed
//!                        │                                       ▼
//!                     inbound (other node) ─► its group     state_machine ─► store::state ─► replies
//! ```

mod api;

pub use api::*;
