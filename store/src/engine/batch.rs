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
pub enum Write {
    /// Sets a key to a value.
    Put(Bytes, Bytes),
    /// Removes a key.
    Delete(Bytes),
    /// Removes the keys from the first, inclusive, to the second, exclusive.
    DeleteRange(Bytes, Bytes),
}

impl Write {
    /// Keys and value together.
    fn bytes(&self) -> usize {
        match self {
            Write::Delete(key) => key.len(),
            Write::Put(a, b) | Write::DeleteRange(a, b) => a.len() + b.len(),
        }
    }

    /// The key, or the first key of a range.
    #[cfg(feature = "rocksdb")]
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

    /// What is in it, in its order.
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// Cuts off all but its first `count` writes.
    pub(crate) fn truncate(&mut self, count: usize) {
        self.writes.truncate(count);
        self.bytes = self.writes.iter().map(Write::bytes).sum();
    }

    /// Adds the writes of `other` behind its own.
    pub fn extend(&mut self, other: Batch) {
        self.bytes += other.bytes;
        self.writes.extend(other.writes);
    }
}
