//! What is known in memory of one shard's log: where it begins and ends, each entry's term and
//! size, and its last entries themselves.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::Record;
use super::record::ENTRY_OVERHEAD_BYTES;
use crate::Position;
use crate::key::log::Kind;

/// An entry in memory, sealed or not yet written.
#[derive(Debug)]
struct Cached {
    position: Position,
    data: Bytes,
    /// The writer's round that writes it; it may be forgotten when that is done.
    round: u64,
}

/// What an entry in memory takes beside its data: its place here, and that its bytes are counted.
const CACHED_BYTES: usize = size_of::<Cached>() + 72;

/// What an entry in memory takes with `data` bytes.
pub(super) fn cached_bytes(data: usize) -> usize {
    data + CACHED_BYTES
}

/// One shard's log and hard states. Disk may lag behind it by what waits for the writer.
#[derive(Debug, Default)]
pub(super) struct Tail {
    purged: Option<Position>,
    synced: Option<Position>,
    /// The size of each entry, from `first` on.
    sizes: VecDeque<u32>,
    first: u64,
    /// Where each term begins: (first index, term), both rising.
    terms: VecDeque<(u64, u64)>,
    bytes: u64,
    /// The last entries, without a gap, up to the end of the log.
    cache: VecDeque<Cached>,
    cache_bytes: usize,
    /// Rises with every removal of entries; a reader of the disk checks that it stayed.
    pub(super) generation: u64,
    /// The single records, without the purged position.
    pub(super) singles: BTreeMap<Kind, Bytes>,
}

/// Gives back most of the room for items that are gone.
fn give_back<T>(items: &mut VecDeque<T>) {
    if items.capacity() > 64 && items.capacity() / 4 > items.len() {
        items.shrink_to(items.len() * 2);
    }
}

impl Tail {
    /// An empty log that was purged up to `purged`.
    pub(super) fn new(purged: Option<Position>) -> Tail {
        Tail {
            purged,
            synced: purged,
            ..Tail::default()
        }
    }

    /// Forgets everything, hard states too.
    pub(super) fn clear(&mut self) {
        *self = Tail {
            generation: self.generation + 1,
            ..Tail::default()
        };
    }

    pub(super) fn purged(&self) -> Option<Position> {
        self.purged
    }

    pub(super) fn synced(&self) -> Option<Position> {
        self.synced
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn cache_bytes(&self) -> usize {
        self.cache_bytes
    }

    /// What it takes in memory beside its last entries, bytes, about.
    pub(super) fn index_bytes(&self) -> usize {
        let singles: usize = self.singles.values().map(|single| single.len() + 64).sum();
        size_of::<Tail>()
            + self.sizes.capacity() * size_of::<u32>()
            + self.terms.capacity() * size_of::<(u64, u64)>()
            + singles
    }

    /// The indexes of its entries: from, inclusive, to, exclusive.
    pub(super) fn range(&self) -> (u64, u64) {
        (self.first, self.first + self.sizes.len() as u64)
    }

    /// The first index of the entries in memory; the end of the log when there are none.
    pub(super) fn cached_from(&self) -> u64 {
        self.cache
            .front()
            .map_or(self.range().1, |cached| cached.position.index)
    }

    /// The last entry, or the purged position when there is none.
    pub(super) fn last(&self) -> Option<Position> {
        match self.sizes.len() {
            0 => self.purged,
            len => self.position_at(self.first + len as u64 - 1),
        }
    }

    /// The index that the next entry must have; any when the log has never had one.
    pub(super) fn next(&self) -> Option<u64> {
        self.last().map(|last| last.index + 1)
    }

    /// The position of the entry at `index`, or of the purged one there.
    pub(super) fn position_at(&self, index: u64) -> Option<Position> {
        let (from, to) = self.range();
        if index < from || index >= to {
            return self.purged.filter(|purged| purged.index == index);
        }
        let run = self.terms.partition_point(|(first, _)| *first <= index);
        let (_, term) = *self.terms.get(run.checked_sub(1)?)?;
        Some(Position { term, index })
    }

    /// Adds an entry that the writer's `round` writes (0: it is on disk).
    pub(super) fn push(&mut self, position: Position, data: Bytes, round: u64) {
        if self.sizes.is_empty() {
            self.first = position.index;
            self.terms.clear();
        }
        if self
            .terms
            .back()
            .is_none_or(|(_, term)| *term != position.term)
        {
            self.terms.push_back((position.index, position.term));
        }
        let size = u32::try_from(data.len() + ENTRY_OVERHEAD_BYTES).unwrap_or(u32::MAX);
        self.sizes.push_back(size);
        self.bytes += u64::from(size);
        self.cache_bytes += cached_bytes(data.len());
        self.cache.push_back(Cached {
            position,
            data,
            round,
        });
    }

    /// Forgets the oldest entry in memory when it is on disk, that is when the writer has done
    /// `written` rounds. Says whether it did.
    pub(super) fn evict(&mut self, written: u64) -> bool {
        match self.cache.pop_front_if(|cached| cached.round <= written) {
            Some(cached) => {
                self.cache_bytes -= cached_bytes(cached.data.len());
                give_back(&mut self.cache);
                true
            }
            None => false,
        }
    }

    /// Adds the entries in memory from `from` on, below `to`, until `out` holds `bytes_max`; at
    /// least one when `out` is empty. Gives the index to go on at.
    pub(super) fn read_cached(
        &self,
        from: u64,
        to: u64,
        bytes_max: usize,
        out: &mut Vec<Record>,
    ) -> u64 {
        let mut bytes: usize = out.iter().map(|record| record.data.len()).sum();
        let mut next = from;
        let skip = from.saturating_sub(self.cached_from());
        for cached in self
            .cache
            .iter()
            .skip(usize::try_from(skip).unwrap_or(usize::MAX))
        {
            bytes = bytes.saturating_add(cached.data.len());
            if cached.position.index >= to || (bytes > bytes_max && !out.is_empty()) {
                break;
            }
            out.push(Record {
                position: cached.position,
                data: cached.data.clone(),
            });
            next += 1;
        }
        next
    }

    /// Removes the entries above `index`, all when `None`.
    pub(super) fn truncate_after(&mut self, index: Option<u64>) {
        let keep_to = index.map_or(0, |index| index.saturating_add(1));
        while self.range().1 > keep_to {
            let Some(size) = self.sizes.pop_back() else {
                break;
            };
            self.bytes -= u64::from(size);
            if let Some(cached) = self.cache.pop_back() {
                self.cache_bytes -= cached_bytes(cached.data.len());
            }
        }
        let end = self.range().1;
        while self.terms.pop_back_if(|(first, _)| *first >= end).is_some() {}
        self.synced = self.synced.min(self.last());
        self.generation += 1;
    }

    /// Removes the entries up to and including `upto`, which may be past the last.
    pub(super) fn purge(&mut self, upto: Position) {
        while !self.sizes.is_empty() && self.first <= upto.index {
            let size = self.sizes.pop_front().unwrap_or_default();
            self.bytes -= u64::from(size);
            self.first += 1;
        }
        while let Some(cached) = self.cache.pop_front_if(|c| c.position.index <= upto.index) {
            self.cache_bytes -= cached_bytes(cached.data.len());
        }
        give_back(&mut self.cache);
        give_back(&mut self.sizes);
        let first = self.first;
        while self.terms.get(1).is_some_and(|(next, _)| *next <= first) {
            self.terms.pop_front();
        }
        self.purged = self.purged.max(Some(upto));
        self.generation += 1;
    }

    /// Notes that everything up to `position` is durable, if that is still part of the log.
    pub(super) fn note_synced(&mut self, position: Position) {
        let purged = self.purged.is_some_and(|purged| purged >= position);
        if purged || self.position_at(position.index) == Some(position) {
            self.synced = self.synced.max(Some(position));
        }
    }
}
