//! The machine on ordered maps, to compare a replica with.

use ::model;
use bytes::Bytes;
use model::command::Reply;
use model::shard::{Machine, Scope};

pub use records::Records;

#[path = "../../../model/tests/support/mod.rs"]
mod records;

/// A replica without a disk.
pub struct Reference {
    machine: Machine,
    pub records: Records,
}

impl Default for Reference {
    fn default() -> Self {
        Reference {
            machine: Machine::new(Scope::Data(0..=u16::MAX), 0, 0),
            records: Records::default(),
        }
    }
}

impl Reference {
    pub fn apply(&mut self, payload: &Bytes) -> Vec<Reply> {
        self.machine.apply(&mut self.records, payload).unwrap()
    }

    pub fn revision(&self) -> u64 {
        self.machine.revision()
    }
}
