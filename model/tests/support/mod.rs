//! State in ordered maps, for tests of the machine, and of replicas that are compared with it.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use bytes::Bytes;

use super::model::cluster::ClusterState;
use super::model::id::ConversationKey;
use super::model::shard::{DedupId, ReactionId, Sink, View};
use super::model::state::{Conversation, Dedup, Reaction, Reactions};

/// All records of a shard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    pub heads: BTreeMap<ConversationKey, Conversation>,
    pub messages: BTreeMap<(ConversationKey, u64), Bytes>,
    pub dedups: BTreeMap<(ConversationKey, DedupId), Dedup>,
    pub changes: BTreeMap<(ConversationKey, u64), u64>,
    pub reactions: BTreeMap<(ConversationKey, u64), Reactions>,
    pub reacted: BTreeMap<(ConversationKey, u64, ReactionId), Reaction>,
    pub expiries: BTreeSet<(ConversationKey, u64, u64)>,
    pub expiring: BTreeSet<ConversationKey>,
    pub cluster: Option<ClusterState>,
    pub audit: BTreeMap<u64, Bytes>,
}

impl View for Records {
    type Error = Infallible;

    fn conversation(&mut self, key: &ConversationKey) -> Result<Option<Conversation>, Infallible> {
        Ok(self.heads.get(key).cloned())
    }

    fn dedup(&mut self, key: &ConversationKey, id: &DedupId) -> Result<Option<Dedup>, Infallible> {
        Ok(self.dedups.get(&(*key, *id)).cloned())
    }

    fn message(&mut self, key: &ConversationKey, seq: u64) -> Result<Option<Bytes>, Infallible> {
        Ok(self.messages.get(&(*key, seq)).cloned())
    }

    fn reactions(
        &mut self,
        key: &ConversationKey,
        seq: u64,
    ) -> Result<Option<Reactions>, Infallible> {
        Ok(self.reactions.get(&(*key, seq)).cloned())
    }

    fn reaction(
        &mut self,
        key: &ConversationKey,
        seq: u64,
        id: &ReactionId,
    ) -> Result<Option<Reaction>, Infallible> {
        Ok(self.reacted.get(&(*key, seq, *id)).cloned())
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

    fn put_dedup(&mut self, key: &ConversationKey, id: &DedupId, dedup: Dedup, _first: bool) {
        self.dedups.insert((*key, *id), dedup);
    }

    fn replace_message(&mut self, key: &ConversationKey, seq: u64, record: &[u8]) {
        let before = self
            .messages
            .insert((*key, seq), Bytes::copy_from_slice(record));
        assert!(before.is_some(), "what is changed was there");
    }

    fn put_changed(&mut self, key: &ConversationKey, revision: u64, seq: Option<u64>) {
        match seq {
            Some(seq) => self.changes.insert((*key, revision), seq),
            None => self.changes.remove(&(*key, revision)),
        };
    }

    fn put_reactions(&mut self, key: &ConversationKey, reactions: Reactions) {
        self.reactions.insert((*key, reactions.seq), reactions);
    }

    fn put_reaction(
        &mut self,
        key: &ConversationKey,
        seq: u64,
        id: &ReactionId,
        reaction: Option<Reaction>,
    ) {
        match reaction {
            Some(reaction) => self.reacted.insert((*key, seq, *id), reaction),
            None => self.reacted.remove(&(*key, seq, *id)),
        };
    }

    fn clear_reactions(&mut self, key: &ConversationKey, seq: u64) {
        self.reactions.remove(&(*key, seq));
        self.reacted.retain(|at, _| (at.0, at.1) != (*key, seq));
    }

    fn erase(&mut self, _: &ConversationKey) {}

    fn put_audit(&mut self, number: u64, record: &[u8]) {
        self.audit.insert(number, Bytes::copy_from_slice(record));
    }

    fn remove_audit(&mut self, from: u64, to: u64) {
        self.audit.retain(|number, _| !(from..=to).contains(number));
    }

    fn put_expiry(&mut self, key: &ConversationKey, at_ms: u64, seq: u64, set: bool) {
        match set {
            true => self.expiries.insert((*key, at_ms, seq)),
            false => self.expiries.remove(&(*key, at_ms, seq)),
        };
    }

    fn put_expiring(&mut self, key: &ConversationKey, set: bool) {
        match set {
            true => self.expiring.insert(*key),
            false => self.expiring.remove(key),
        };
    }

    fn remove_messages(&mut self, key: &ConversationKey, from: u64, to: u64) {
        self.messages
            .retain(|at, _| at.0 != *key || !(from..=to).contains(&at.1));
    }

    fn clear_conversation(&mut self, key: &ConversationKey) {
        self.messages.retain(|at, _| at.0 != *key);
        self.changes.retain(|at, _| at.0 != *key);
        self.reactions.retain(|at, _| at.0 != *key);
        self.reacted.retain(|at, _| at.0 != *key);
        self.expiries.retain(|at| at.0 != *key);
    }

    fn renew_conversation(&mut self, key: &ConversationKey, head: Conversation) {
        assert!(self.heads.insert(*key, head).is_some());
    }

    fn put_request(&mut self, key: &ConversationKey, id: &DedupId, dedup: Dedup) {
        self.dedups.insert((*key, *id), dedup);
    }

    fn put_conversation(&mut self, key: &ConversationKey, head: Conversation, created: bool) {
        let before = self.heads.insert(*key, head);
        assert_eq!(before.is_none(), created);
    }
}
