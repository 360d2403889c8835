//! How replicas agree. The only crate that names openraft.
//!
//! ```text
//!  propose ─► batcher (one Raft entry of many commands) ─► group (openraft) ─► log_store ─► store::log
//!                                                             │  ▲
//!                     link (one stream per pair of nodes) ◄───┘  │  committed
//!                        │                                       ▼
//!                     inbound (other node) ─► its group     state_machine ─► store::state ─► replies
//! ```

mod adapter;
mod api;
mod link;
mod node;
mod replica;
mod shared;
mod tasks;
mod time;

pub use adapter::runtime::interleave;
pub use api::*;
pub use link::room::Room;
pub use node::Node;
pub use replica::age::Replica;
pub use shared::{ask_again, last_view, refusal};
pub use tasks::view::newest_view;
pub use time::Steady;
