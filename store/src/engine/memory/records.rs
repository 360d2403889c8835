//! What a disk holds, as an ordered map that is copied in no time, and how writes are taken back.
//!
//! There is one map, that of everything written. What is durable follows from it: each unsynced
//! batch keeps what it overwrote, so a sync forgets that and a power cut puts it back. Copies
//! (read points, images) share their nodes with the map and cost nothing until either changes.

use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use imbl::OrdMap;

use crate::Error;
use crate::engine::batch::Write;
use crate::engine::{Order, Visit};

/// A value, or `None` where the disk cannot give it back any more.
pub(super) type Value = Option<Bytes>;

/// The records of a disk, and their size.
#[derive(Clone, Default)]
pub(super) struct Records {
    map: OrdMap<Bytes, Value>,
    bytes: u64,
}

/// What was under the keys that a batch changed, in the order of its changes.
#[derive(Default)]
pub(super) struct Undo(Vec<(Bytes, Option<Value>)>);

impl Undo {
    /// What was under the key before the batch; `None` when the batch did not touch it.
    pub(super) fn before(&mut self, key: &[u8]) -> Option<&mut Option<Value>> {
        let mut changes = self.0.iter_mut();
        changes.find(|(k, _)| *k == key).map(|(_, value)| value)
    }
}

impl Records {
    /// Keys and values together, bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Value> {
        self.map.get(key)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.map.keys()
    }

    /// The keys whose values are lost.
    pub(super) fn damaged(&self) -> impl Iterator<Item = &Bytes> {
        let lost = self.map.iter().filter(|(_, value)| value.is_none());
        lost.map(|(key, _)| key)
    }

    /// Sets the value of a key, or removes it; gives what was there.
    pub(super) fn set(&mut self, key: Bytes, value: Option<Value>) -> Option<Value> {
        let key_len = key.len();
        let size = |value: &Value| (key_len + value.as_ref().map_or(0, Bytes::len)) as u64;
        self.bytes += value.as_ref().map_or(0, size);
        let before = match value {
            Some(value) => self.map.insert(key, value),
            None => self.map.remove(&key),
        };
        self.bytes -= before.as_ref().map_or(0, size);
        before
    }

    /// Makes the writes, in their order.
    pub(super) fn apply(&mut self, writes: &[Write]) -> Undo {
        let mut undo = Vec::with_capacity(writes.len());
        for write in writes {
            match write {
                Write::Put(key, value) => {
                    let before = self.set(key.clone(), Some(Some(value.clone())));
                    undo.push((key.clone(), before));
                }
                Write::Delete(key) => {
                    if let Some(before) = self.set(key.clone(), None) {
                        undo.push((key.clone(), Some(before)));
                    }
                }
                Write::DeleteRange(from, to) => {
                    for key in self.keys_in(from, to) {
                        let before = self.set(key.clone(), None);
                        undo.push((key, before));
                    }
                }
            }
        }
        Undo(undo)
    }

    /// Takes a batch back; those after it must have been taken back before.
    pub(super) fn take_back(&mut self, undo: &Undo) {
        for (key, before) in undo.0.iter().rev() {
            self.set(key.clone(), before.clone());
        }
    }

    fn keys_in(&self, from: &[u8], to: &[u8]) -> Vec<Bytes> {
        if from >= to {
            return Vec::new();
        }
        let range = (Bound::Included(from), Bound::Excluded(to));
        let found = self.map.range::<_, [u8]>(range);
        found.map(|(key, _)| key.clone()).collect()
    }

    /// As [`crate::engine::Read::scan`]; `damaged` is the error for a key whose value is lost.
    pub(super) fn scan(
        &self,
        (from, to): (&[u8], &[u8]),
        order: Order,
        visit: Visit<'_>,
        damaged: impl Fn(&[u8]) -> Error,
    ) -> Result<(), Error> {
        if from >= to {
            return Ok(());
        }
        let range = (Bound::Included(from), Bound::Excluded(to));
        let mut range = self.map.range::<_, [u8]>(range);
        let mut next = || match order {
            Order::Ascending => range.next(),
            Order::Descending => range.next_back(),
        };
        while let Some((key, value)) = next() {
            let value = value.as_ref().ok_or_else(|| damaged(key))?;
            if let ControlFlow::Break(()) = visit(key, value)? {
                break;
            }
        }
        Ok(())
    }
}
