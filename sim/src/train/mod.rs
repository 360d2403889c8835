//! Somebody is trained: a run whose nodes are called from the real world, and what is seen of that.
//!
//! ```text
//!  firebreak, browser ──TCP──► a real port for each node     (cmd/train/port.rs, a thread of its own)
//!                                 │ Wire: bytes both ways
//!                    host "trainee" ──► simulated connection ──► node      (carry)
//!                                                 │ each call, asked and answered
//!                                                 ▼
//!                                  notes: looked, asked for, applied ─► debrief
//! ```

pub mod carry;
pub mod debrief;
pub mod notes;
mod shown;

use axum::Router;
use bytes::Bytes;
use tokio::sync::mpsc;

pub use debrief::Debrief;
pub use notes::{Note, Notes};

/// What goes back over a real connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// What the node sent.
    Bytes(Bytes),
    /// The connection is reset, or there is none.
    Reset,
}

/// A real connection, as the simulation has it.
pub struct Wire {
    /// host:port that was called, which is a node's in the simulation, too.
    pub to: String,
    /// What comes from outside; ends when nothing more does.
    pub incoming: mpsc::Receiver<Bytes>,
    /// What goes out; dropped when nothing more does.
    pub outgoing: mpsc::Sender<Piece>,
}

/// What a run takes part of the real world with.
pub struct Training {
    /// host:port of each node, in the order of the plan's topology.
    pub addresses: Vec<String>,
    /// The real connections, as they come.
    pub wires: mpsc::UnboundedReceiver<Wire>,
    /// What is seen of them.
    pub notes: Notes,
    /// The pages that nodes serve.
    pub console: Router,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The load goes on, for so long already, microseconds. The first time 0: the cluster serves.
    Load(u64),
    /// The load is over.
    Rest,
}
