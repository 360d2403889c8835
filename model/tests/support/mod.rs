//! State in ordered maps, for tests of the machine.

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::Bytes;
use firebreak_model as model;
use model::cluster::ClusterState;
use model::id::ConversationKey;
use model::shard::{DedupId, Sink, View};
use model::state::{Conversation, Dedup};

/// All records of a shard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    pub heads: BTreeMap<ConversationKey, Conversation>,
    pub messages: BTreeMap<(ConversationKey, u64), Bytes>,
    pub dedups: BTreeMap<(ConversationKey, DedupId), Dedup>,
    pub cluster: Option<ClusterState>,
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
        self.cluster.as_mut()
    }
}

impl Sink for Records {
    fn put_message(&mut self, key: &ConversationKey, seq: u64, record: &[u8]) {
        let before = self
            .messages
            .insert((*key, seq), Bytes::copy_from_slice(record));
        assert_eq!(before, None, "a message is written once");
    }

    fn put_dedup(&mut self, key: &ConversationKey, id: &DedupId, dedup: Dedup) {
        self.dedups.insert((*key, *id), dedup);
    }

    fn put_conversation(&mut self, key: &ConversationKey, head: Conversation, created: bool) {
        let before = self.heads.insert(*key, head);
        assert_eq!(before.is_none(), created);
    }
}
