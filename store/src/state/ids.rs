//! Which ids are surely new, so that a new message costs no lookup on disk.
//!
//! Layers of Bloom filters, each of blocks of one cache line (Putze, Sanders and Singler, "Cache-,
//! Hash- and Space-Efficient Bloom Filters", 2007), to which every id is added. A conversation
//! whose first message was seen is *complete* since the layer of that time: an id that is in no
//! layer since then was never appended to it. A conversation that is not known to be complete (it
//! was written before the start, or too long ago) asks the disk. Never the other way round: a
//! filter may say "perhaps" for a new id, and never "new" for one that is remembered.

use std::collections::VecDeque;

use model::id::ConversationKey;
use model::shard::DedupId;

use super::heads::Map;

/// Ids of the first layer; each next one takes four times as many, up to [`LAYER_IDS_MAX`].
const LAYER_IDS_MIN: usize = 1 << 10;
/// Ids of a full-grown layer.
const LAYER_IDS_MAX: usize = 1 << 20;
/// Layers kept: with [`BITS_PER_ID`] at most 16 MiB a shard.
const LAYERS_MAX: usize = 8;
/// Memory for each id. With [`PROBES`] about 1 of 500 new ids costs a lookup.
const BITS_PER_ID: usize = 16;
const PROBES: u32 = 6;
/// Conversations known to be complete, most; about 32 bytes each.
const COMPLETE_MAX: usize = 1 << 17;

/// What each of them takes in memory.
const COMPLETE_BYTES: usize = 32;

const BLOCK_WORDS: usize = 8;

/// The filter of one shard.
#[derive(Default)]
pub(crate) struct Ids {
    layers: VecDeque<Layer>,
    /// The number of the first of `layers`.
    first: u32,
    /// Complete conversations and since which layer, in two generations.
    young: Map<ConversationKey, u32>,
    old: Map<ConversationKey, u32>,
}

impl Ids {
    /// Whether the id was surely never appended to the conversation.
    pub(crate) fn surely_new(&mut self, conversation: &ConversationKey, id: &DedupId) -> bool {
        let Some(since) = self.complete_since(conversation) else {
            return false;
        };
        let Some(skip) = since.checked_sub(self.first) else {
            return false; // layers of its time are gone
        };
        let spot = Spot::new(conversation, id);
        let layers = self.layers.iter().skip(skip as usize);
        layers.into_iter().all(|layer| !layer.has(spot))
    }

    /// Notes an id. `first` when it is of the first message that there ever was under the
    /// conversation's name.
    pub(crate) fn add(&mut self, conversation: &ConversationKey, id: &DedupId, first: bool) {
        if self.layers.back().is_none_or(|layer| layer.room == 0) {
            self.grow();
        }
        if first {
            self.created(conversation);
        }
        if let Some(layer) = self.layers.back_mut() {
            layer.add(Spot::new(conversation, id));
        }
    }

    /// Notes a conversation that has no message yet, or whose first one is being added.
    pub(crate) fn created(&mut self, conversation: &ConversationKey) {
        if self.complete_since(conversation).is_some() {
            return;
        }
        let newest = self.layers.len().saturating_sub(1);
        let since = self.first + u32::try_from(newest).unwrap_or(0);
        self.complete(*conversation, since);
    }

    /// What it takes in memory, bytes, about.
    pub(crate) fn bytes(&self) -> usize {
        let layers: usize = self
            .layers
            .iter()
            .map(|layer| layer.blocks.len() * 64)
            .sum();
        layers + (self.young.len() + self.old.len()) * COMPLETE_BYTES
    }

    /// Forgets the older half of the layers, and the conversations that were not used since this was
    /// last done. What is forgotten is looked up on disk.
    pub(crate) fn age(&mut self) {
        let gone = self.layers.len().div_ceil(2);
        self.layers.drain(..gone);
        self.first += u32::try_from(gone).unwrap_or(0);
        self.old = std::mem::take(&mut self.young);
    }

    fn complete_since(&mut self, conversation: &ConversationKey) -> Option<u32> {
        if let Some(since) = self.young.get(conversation) {
            return Some(*since);
        }
        let since = self.old.remove(conversation)?;
        self.complete(*conversation, since);
        Some(since)
    }

    fn complete(&mut self, conversation: ConversationKey, since: u32) {
        if self.young.len() >= COMPLETE_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(conversation, since);
    }

    fn grow(&mut self) {
        let ids = self
            .layers
            .back()
            .map_or(LAYER_IDS_MIN, |layer| (layer.ids() * 4).min(LAYER_IDS_MAX));
        if self.layers.len() == LAYERS_MAX {
            self.layers.pop_front();
            self.first += 1;
        }
        self.layers.push_back(Layer::new(ids));
    }
}

/// Where an id lies in any layer.
#[derive(Clone, Copy)]
struct Spot {
    block: u64,
    bits: u64,
}

impl Spot {
    /// Both are cuts of cryptographic hashes, so mixing them is enough.
    fn new(conversation: &ConversationKey, id: &DedupId) -> Spot {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "each half of 128 bits is 64"
        )]
        let half = |bytes: &[u8; 16], high: bool| {
            let bytes = u128::from_le_bytes(*bytes);
            (if high { bytes >> 64 } else { bytes }) as u64
        };
        Spot {
            block: half(id, false) ^ half(&conversation.0, true),
            bits: half(id, true) ^ half(&conversation.0, true).rotate_left(32),
        }
    }

    /// The words and bits of its block, [`PROBES`] of them.
    fn probes(self) -> impl Iterator<Item = (usize, u64)> {
        (0..PROBES).map(move |probe| {
            let at = self.bits >> (9 * probe);
            ((at >> 6) as usize % BLOCK_WORDS, 1u64 << (at % 64))
        })
    }
}

struct Layer {
    /// A power of two of them.
    blocks: Vec<[u64; BLOCK_WORDS]>,
    /// Ids that still fit.
    room: usize,
}

impl Layer {
    fn new(ids: usize) -> Layer {
        let blocks = (ids * BITS_PER_ID)
            .div_ceil(64 * BLOCK_WORDS)
            .next_power_of_two();
        Layer {
            blocks: vec![[0; BLOCK_WORDS]; blocks],
            room: ids,
        }
    }

    fn ids(&self) -> usize {
        self.blocks.len() * BLOCK_WORDS * 64 / BITS_PER_ID
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "the mask keeps fewer bits than that"
    )]
    fn at(&self, spot: Spot) -> usize {
        (spot.block as usize) & (self.blocks.len() - 1)
    }

    fn has(&self, spot: Spot) -> bool {
        let block = &self.blocks[self.at(spot)];
        spot.probes().all(|(word, bit)| block[word] & bit != 0)
    }

    fn add(&mut self, spot: Spot) {
        let at = self.at(spot);
        for (word, bit) in spot.probes() {
            self.blocks[at][word] |= bit;
        }
        self.room = self.room.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::hash;

    fn id(i: u64) -> DedupId {
        hash::dedup_id(b"sender", &i.to_be_bytes())
    }

    #[test]
    fn an_id_that_was_added_is_never_called_new_however_many_follow() {
        let mut ids = Ids::default();
        let room = hash::conversation_key("t", "room");
        let count = 30_000;
        for i in 0..count {
            ids.add(&room, &id(i), i == 0);
        }
        assert!((0..count).all(|i| !ids.surely_new(&room, &id(i))));
        let wrong = (count..2 * count)
            .filter(|&i| !ids.surely_new(&room, &id(i)))
            .count();
        assert!(wrong < 600, "{wrong} of {count} new ids would be looked up");
    }

    #[test]
    fn a_conversation_whose_beginning_was_not_seen_asks_the_disk() {
        let mut ids = Ids::default();
        let room = hash::conversation_key("t", "room");
        ids.add(&room, &id(5), false);
        assert!(!ids.surely_new(&room, &id(6)));
        let other = hash::conversation_key("t", "other");
        ids.created(&other);
        assert!(ids.surely_new(&other, &id(6)));
        assert!(
            !ids.surely_new(&room, &id(6)),
            "what is known of one says nothing of another"
        );
    }

    #[test]
    fn what_was_forgotten_for_want_of_memory_asks_the_disk_and_what_comes_later_does_not() {
        let mut ids = Ids::default();
        let room = hash::conversation_key("t", "room");
        for i in 0..10_000 {
            ids.add(&room, &id(i), i == 0);
        }
        let before = ids.bytes();
        ids.age();
        assert!(ids.bytes() < before && !ids.surely_new(&room, &id(10_000)));
        let other = hash::conversation_key("t", "other");
        ids.add(&other, &id(1), true);
        assert!(ids.surely_new(&other, &id(2)) && !ids.surely_new(&other, &id(1)));
        for _ in 0..8 {
            ids.age();
        }
        assert_eq!(ids.bytes(), 0);
        assert!(!ids.surely_new(&other, &id(2)));
        ids.add(&other, &id(3), false);
        assert!(
            !ids.surely_new(&other, &id(4)),
            "its beginning is forgotten"
        );
        let third = hash::conversation_key("t", "third");
        ids.add(&third, &id(1), true);
        assert!(ids.surely_new(&third, &id(2)));
    }

    #[test]
    fn a_conversation_older_than_the_layers_asks_the_disk() {
        let mut ids = Ids::default();
        let room = hash::conversation_key("t", "room");
        ids.add(&room, &id(1), true);
        assert!(ids.surely_new(&room, &id(2)));
        for _ in 0..LAYERS_MAX {
            ids.grow();
        }
        assert!(!ids.surely_new(&room, &id(2)));
        assert!(!ids.surely_new(&room, &id(1)));
    }
}
