//! Bits that flip on a disk, found by checksums as RocksDB finds them: what cannot be trusted is
//! never given back. Reading a damaged record is [`Error::Corrupt`](crate::Error::Corrupt) with the
//! disk's name and the key, in `get`, in a scan that reaches it, and in an export. Writing over it
//! or deleting it ends the damage. A kept file is read and sent as it lies there; ingesting it is
//! refused where its structure is hit, else the records that are hit are damaged ones.
//!
//! A compaction that meets a damaged record ends the engine, as RocksDB's background error does; the next
//! opening keeps what can be read and notes what is lost ([`crate::key::lost`]).

use bytes::Bytes;

use super::Disk;
use super::records::Value;
use super::state::State;
use crate::key;
use crate::key::log::Kind;

/// What a bit is to flip in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `raftdb`: an entry of a shard's log.
    Entry,
    /// `raftdb`: a shard's vote.
    Vote,
    /// `raftdb`: a record of a shard that is no entry: vote, committed, purged, extra.
    HardState,
    /// `raftdb`: a record of the node itself.
    Local,
    /// `msgdb`: what a shard knows of itself: applied position, cluster, whole note.
    Applied,
    /// `msgdb`: a record of a conversation: head, message, dedup.
    Conversation,
    /// A kept snapshot file.
    KeptFile,
}

/// Where a bit flipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hit {
    /// In the record of this key.
    Record(Bytes),
    /// In the kept file of this name.
    File(String),
}

impl Part {
    /// Whether it is this part that the key belongs to; the database is the one that has the part.
    pub fn holds(self, key: &[u8]) -> bool {
        let single = |kind: Kind| key.len() == 6 && key[0] == 0x02 && key[5] == kind as u8;
        match self {
            Part::Entry => key::log::entry_parts(key).is_some(),
            Part::Vote => single(Kind::Vote),
            Part::HardState => Kind::SINGLE.into_iter().any(single),
            Part::Local => key::log::local_name(key).is_some(),
            Part::Applied => key.len() == 6 && key[0] == 0x01,
            Part::Conversation => key::state::parse(key).is_some(),
            Part::KeptFile => false,
        }
    }
}

impl Disk {
    /// Flips a bit in a durable record of the part, or in a kept file. `draw` is told how many
    /// there are to choose from (never 0) and gives the number of one, from 0; for a file it is
    /// asked a second time, for one of its bits. Says where, and `None` when there is nothing of
    /// the part. Engines that are open find it as well as later ones.
    pub fn flip_bit(&self, part: Part, draw: impl FnMut(usize) -> usize) -> Option<Hit> {
        match part {
            Part::KeptFile => self.flip_bit_in_file(draw),
            Part::Entry
            | Part::Vote
            | Part::HardState
            | Part::Local
            | Part::Applied
            | Part::Conversation => self.flip_bit_where(|key| part.holds(key), draw),
        }
    }

    /// As [`Disk::flip_bit`], in a record whose key is one of those selected.
    pub fn flip_bit_where(
        &self,
        select: impl Fn(&[u8]) -> bool,
        mut draw: impl FnMut(usize) -> usize,
    ) -> Option<Hit> {
        let mut state = self.shared.state.lock();
        let durable = state.durable();
        let keys: Vec<&Bytes> = durable.keys().filter(|key| select(key)).collect();
        let count = keys.len();
        let key = (*keys.get(draw_below(&mut draw, count)?)?).clone();
        state.set_durable(&key, None);
        Some(Hit::Record(key))
    }

    fn flip_bit_in_file(&self, mut draw: impl FnMut(usize) -> usize) -> Option<Hit> {
        let mut state = self.shared.state.lock();
        let count = state.kept.len();
        let at = draw_below(&mut draw, count)?;
        let (name, content) = state.kept.iter_mut().nth(at)?;
        let bit = draw_below(&mut draw, content.len() * 8)?;
        let mut flipped = content.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        *content = Bytes::from(flipped);
        Some(Hit::File(name.clone()))
    }

    /// As [`Disk::flip_bit`], but the flipped bit is read as if nothing were: the database's own
    /// checksums missed it, and those of our records are all there is. `draw` is asked a second time,
    /// for one of the value's bits. Kept files have no other checksums than their own.
    pub fn flip_bit_unseen(&self, part: Part, mut draw: impl FnMut(usize) -> usize) -> Option<Hit> {
        if part == Part::KeptFile {
            return self.flip_bit_in_file(draw);
        }
        let keys: Vec<Bytes> = {
            let state = self.shared.state.lock();
            let durable = state.durable();
            let keys = durable.keys().filter(|key| part.holds(key));
            keys.cloned().collect()
        };
        let key = keys.get(draw_below(&mut draw, keys.len())?)?;
        let hit = self.corrupt(key, |value| {
            if let Some(bit) = draw_below(&mut draw, value.len() * 8) {
                value[bit / 8] ^= 1 << (bit % 8);
            }
        });
        hit.then(|| Hit::Record(key.clone()))
    }

    /// Changes the durable value of `key` and lets it be read, which no engine with checksums of its
    /// own does: what the records' own sums are for. Says whether the key was there.
    pub fn corrupt(&self, key: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.shared.state.lock();
        let Some(Some(value)) = state.durable().get(key).cloned() else {
            return false;
        };
        let mut value = value.to_vec();
        change(&mut value);
        state.set_durable(key, Some(Bytes::from(value)));
        true
    }
}

impl Disk {
    /// Compacts everything that is durable: what is damaged is met. Says whether something was.
    pub fn compact(&self) -> bool {
        let mut state = self.shared.state.lock();
        let durable = state.durable();
        let met = durable.damaged().next().is_some();
        state.compaction_failed |= met;
        met
    }

    /// Takes a record of this part away as if it had never been written. `draw` is told how many there
    /// are to choose from and gives the number of one. Gives its key.
    pub fn lose(
        &self,
        select: impl Fn(&[u8]) -> bool,
        mut draw: impl FnMut(usize) -> usize,
    ) -> Option<Bytes> {
        let mut state = self.shared.state.lock();
        let durable = state.durable();
        let keys: Vec<&Bytes> = durable.keys().filter(|key| select(key)).collect();
        let key = (*keys.get(draw_below(&mut draw, keys.len())?)?).clone();
        for unsynced in &mut state.unsynced {
            if let Some(before) = unsynced.undo.before(&key) {
                *before = None;
                return Some(key);
            }
        }
        state.visible.set(key.clone(), None);
        Some(key)
    }
}

fn draw_below(draw: &mut impl FnMut(usize) -> usize, count: usize) -> Option<usize> {
    (count > 0).then(|| draw(count) % count)
}

impl State {
    /// Keeps what can be read, and notes what is lost together with what cannot.
    pub(super) fn salvage(&mut self) {
        let damaged: Vec<Bytes> = self.visible.damaged().cloned().collect();
        for key in &damaged {
            let group = key::lost::group(key);
            let lost: Vec<Bytes> = self
                .visible
                .keys()
                .filter(|key| key.starts_with(group))
                .cloned()
                .collect();
            for key in lost {
                self.visible.set(key, None);
            }
            let note = Bytes::from(key::lost::note(group));
            self.visible.set(note, Some(Some(Bytes::new())));
        }
    }

    /// Changes the durable value of a key, which lies under an unsynced batch if one touched it.
    fn set_durable(&mut self, key: &[u8], value: Value) {
        for unsynced in &mut self.unsynced {
            if let Some(before) = unsynced.undo.before(key) {
                *before = Some(value);
                return;
            }
        }
        self.visible.set(Bytes::copy_from_slice(key), Some(value));
    }
}
