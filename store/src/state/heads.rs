//! The heads of the conversations used last, so that a busy conversation costs no read.
//!
//! Two generations: what is used moves to the young one; when that is full it becomes the old one
//! and the old one is dropped. Lookups are by key alone, so no order can be seen.

#![allow(
    clippy::disallowed_types,
    reason = "hash maps that are never iterated: a lookup of each message's head and id"
)]

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use model::id::ConversationKey;
use model::state::Conversation;

/// Heads of one shard that are kept in memory, most; about 400 bytes each.
pub(crate) const HEADS_MAX: usize = 32_768;

/// Of these, what each takes beside its texts: its record, its place in the map.
const ENTRY_BYTES: usize = size_of::<Conversation>() + 64;

/// A map whose keys are hashes already.
pub(crate) type Map<K, V> = HashMap<K, V, BuildHasherDefault<Fold>>;

/// Folds keys that are cryptographic hashes: any part of them is as good as all.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fold(u64);

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.rchunks_exact(8) {
            let part = part
                .first_chunk::<8>()
                .map_or(0, |part| u64::from_le_bytes(*part));
            self.0 = (self.0.rotate_left(5) ^ part).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }

    fn write_usize(&mut self, _: usize) {}
}

/// A bounded map of heads.
#[derive(Default)]
pub(crate) struct Heads {
    young: Map<ConversationKey, Arc<Conversation>>,
    old: Map<ConversationKey, Arc<Conversation>>,
    young_bytes: usize,
    old_bytes: usize,
}

/// What a head takes in memory, bytes, about.
fn weight(head: &Conversation) -> usize {
    let attributes = head.attributes.iter();
    let attributes: usize = attributes
        .map(|one| one.key.len() + one.value.len() + 64)
        .sum();
    ENTRY_BYTES + head.name.len() + attributes
}

impl Heads {
    /// The head, if it is in memory.
    pub(crate) fn get(&mut self, key: &ConversationKey) -> Option<Arc<Conversation>> {
        if let Some(head) = self.young.get(key) {
            return Some(Arc::clone(head));
        }
        let head = self.old.remove(key)?;
        self.old_bytes = self.old_bytes.saturating_sub(weight(&head));
        self.insert(*key, Arc::clone(&head));
        Some(head)
    }

    /// Keeps a head in place of the one that was kept.
    pub(crate) fn insert(&mut self, key: ConversationKey, head: Arc<Conversation>) {
        if self.young.len() >= HEADS_MAX / 2 && !self.young.contains_key(&key) {
            self.age();
        }
        self.young_bytes += weight(&head);
        if let Some(before) = self.young.insert(key, head) {
            self.young_bytes = self.young_bytes.saturating_sub(weight(&before));
        }
    }

    /// Forgets what was not used since this was last done.
    pub(crate) fn age(&mut self) {
        self.old = std::mem::take(&mut self.young);
        self.old_bytes = std::mem::take(&mut self.young_bytes);
    }

    /// What they take in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.young_bytes + self.old_bytes
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        *self = Heads::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(i: u64) -> ConversationKey {
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&i.to_be_bytes());
        ConversationKey(bytes)
    }

    fn head(last_seq: u64) -> Arc<Conversation> {
        Arc::new(Conversation {
            last_seq,
            ..Conversation::default()
        })
    }

    #[test]
    fn what_is_used_stays_and_what_is_not_goes_and_a_newer_head_wins() {
        let mut heads = Heads::default();
        for i in 0..3 * HEADS_MAX as u64 {
            heads.insert(key(i), head(i));
            if i >= 5 {
                assert_eq!(
                    heads.get(&key(5)).unwrap().last_seq,
                    if i > 5 { 99 } else { 5 }
                );
                heads.insert(key(5), head(99));
            }
            assert!(heads.young.len() + heads.old.len() <= HEADS_MAX);
        }
        assert_eq!(heads.get(&key(6)), None);
        let kept = heads.young.values().chain(heads.old.values());
        assert_eq!(heads.bytes(), kept.map(|head| weight(head)).sum::<usize>());
        heads.age();
        assert!(heads.get(&key(5)).is_some(), "used");
        heads.age();
        heads.age();
        assert_eq!((heads.get(&key(5)), heads.bytes()), (None, 0));
        heads.clear();
        assert_eq!(heads.get(&key(5)), None);
    }
}
