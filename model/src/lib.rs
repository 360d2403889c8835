//! The nouns of Firebreak and the rules between them.
//!
//! Nothing in this crate does IO, reads a clock, draws a random number or depends on a hash map's
//! order, so every rule is testable on its own and every replica decides alike:
//!
//! ```text
//! request ──► command::Command ──► (Raft) ──► shard::decide(view, command, time) ──► changes + reply
//! ```

pub mod cluster;
pub mod command;
pub mod durations;
pub mod hash;
pub mod id;
pub mod limits;
pub mod mutants;
pub mod placement;
pub mod rules;
pub mod session;
pub mod shard;
pub mod state;
pub mod text;
pub mod trace;
