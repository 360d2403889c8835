//! Writes that become visible, and durable, together.

use bytes::Bytes;

/// An ordered list of writes, applied atomically.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub(crate) writes: Vec<Write>,
    bytes: usize,
}

/// One write of a [`Batch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    Put(Bytes, Bytes),
    Delete(Bytes),
    /// From the first key, inclusive, to the second, exclusive.
    DeleteRange(Bytes, Bytes),
}

#[cfg(feature = "rocksdb")]
impl Write {
    /// The key, or the first key of a range.
    pub(crate) fn key(&self) -> &[u8] {
        match self {
            Write::Put(key, _) | Write::Delete(key) | Write::DeleteRange(key, _) => key,
        }
    }
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        self.bytes += key.len() + value.len();
        self.writes.push(Write::Put(key, value));
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: impl Into<Bytes>) {
        let key = key.into();
        self.bytes += key.len();
        self.writes.push(Write::Delete(key));
    }

    /// Removes all keys with `from <= key < to`.
    pub fn delete_range(&mut self, from: impl Into<Bytes>, to: impl Into<Bytes>) {
        let (from, to) = (from.into(), to.into());
        self.bytes += from.len() + to.len();
        self.writes.push(Write::DeleteRange(from, to));
    }

    /// Keys and values together, bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Adds the writes of `other` behind its own.
    pub fn extend(&mut self, other: Batch) {
        self.bytes += other.bytes;
        self.writes.extend(other.writes);
    }
}
