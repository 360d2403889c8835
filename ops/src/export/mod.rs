//! Exports: what is asked for, as JSON lines in parts, with a manifest that counts and hashes them.
//!
//! ```text
//!   walk ──► units, in the order of the tenant's list ──► one fetch each, a few at once
//!                                                              │ chunks of lines
//!   parts ◄── writer: one unit after the other, rotates, hashes ◄┘
//!     └──► position: after each second, what is written is synced and noted
//! ```
//!
//! A *unit* is a thousand seqs of one conversation. What a unit's lines are depends on the data alone, and
//! parts end between units only. So the same data gives the same bytes, whichever nodes answer and however
//! often an export is killed. What is in memory does not grow with what is exported.

mod fetch;
pub mod line;
pub mod manifest;
mod part;
mod position;
mod run;
pub mod verify;
mod walk;

pub use position::Selection;
pub use run::{Outcome, run};

use serde::{Deserialize, Serialize};

/// The format of parts, manifests and positions that this version writes and reads.
pub const FORMAT: u32 = 1;

/// What was exported, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Conversations.
    pub conversations: u64,
    /// Messages, those that were erased among them.
    pub messages: u64,
    /// Of these, edited ones.
    pub edited: u64,
    /// Of these, erased ones.
    pub redacted: u64,
    /// Reactions, one for each user and kind.
    pub reactions: u64,
    /// Conversations that ended while they were exported.
    pub ended: u64,
}

impl Counts {
    /// Adds what a part of the work came to.
    pub fn add(&mut self, other: Counts) {
        self.conversations += other.conversations;
        self.messages += other.messages;
        self.edited += other.edited;
        self.redacted += other.redacted;
        self.reactions += other.reactions;
        self.ended += other.ended;
    }
}
