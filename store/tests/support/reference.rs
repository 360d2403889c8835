//! The machine on ordered maps, to compare a replica with.

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::Bytes;
use model::cluster::ClusterState;
use model::command::Reply;
use model::id::ConversationKey;
use model::shard::{DedupId, Machine, Scope, Sink, View};
use model::state::{Conversation, Dedup};

/// A replica without a disk.
pub struct Reference {
    machine: Machine,
    pub records: Records,
}

#[derive(Default)]
pub struct Records {
    pub heads: BTreeMap<ConversationKey, Conversation>,
    pub messages: BTreeMap<(ConversationKey, u64), Bytes>,
    dedups: BTreeMap<(ConversationKey, DedupId), Dedup>,
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

impl View for Records {
    type Error = Infallible;

    fn conversation(&mut self, key: &ConversationKey) -> Result<Option<Conversation>, Infallible> {
        Ok(self.heads.get(key).cloned())
    }

    fn dedup(&mut self, key: &ConversationKey, id: &DedupId) -> Result<Option<Dedup>, Infallible> {
        Ok(self.dedups.get(&(*key, *id)).cloned())
    }

    fn cluster(&mut self) -> Option<&mut ClusterState> {
        None
    }
}

impl Sink for Records {
    fn put_message(&mut self, key: &ConversationKey, seq: u64, record: &[u8]) {
        self.messages
            .insert((*key, seq), Bytes::copy_from_slice(record));
    }

    fn put_dedup(&mut self, key: &ConversationKey, id: &DedupId, dedup: Dedup) {
        self.dedups.insert((*key, *id), dedup);
    }

    fn put_conversation(&mut self, key: &ConversationKey, head: Conversation, _created: bool) {
        self.heads.insert(*key, head);
    }
}
