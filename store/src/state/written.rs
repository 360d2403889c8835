//! What a batch writes, by key, for commands that read what those before them in the same apply wrote.
//!
//! Appends never do, so that it is made of the batch only when a command asks, and of each write once.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::engine::{Batch, Write};

/// The writes of a batch up to a point.
#[derive(Default)]
pub(crate) struct Written {
    /// Writes of the batch that are in here.
    taken: usize,
    /// None where the record was removed.
    records: BTreeMap<Bytes, Option<Bytes>>,
    /// Ranges that were removed, from and to.
    removed: Vec<(Bytes, Bytes)>,
}

impl Written {
    /// What the batch leaves of a record; none when it says nothing of it.
    pub(crate) fn look(&mut self, batch: &Batch, key: &[u8]) -> Option<Option<Bytes>> {
        let writes = batch.writes();
        for write in writes.get(self.taken..).unwrap_or_default() {
            self.take(write);
        }
        self.taken = writes.len();
        if let Some(found) = self.records.get(key) {
            return Some(found.clone());
        }
        let gone = |(from, to): &(Bytes, Bytes)| (&from[..]..&to[..]).contains(&key);
        self.removed.iter().any(gone).then_some(None)
    }

    fn take(&mut self, write: &Write) {
        match write {
            Write::Put(key, value) => {
                self.records.insert(key.clone(), Some(value.clone()));
            }
            Write::Delete(key) => {
                self.records.insert(key.clone(), None);
            }
            Write::DeleteRange(from, to) => {
                let inside: Vec<Bytes> = self
                    .records
                    .range(from.clone()..to.clone())
                    .map(|(key, _)| key.clone())
                    .collect();
                for key in inside {
                    self.records.insert(key, None);
                }
                self.removed.push((from.clone(), to.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_write_of_a_record_counts_and_a_range_that_is_removed_is_empty() {
        let mut batch = Batch::new();
        let mut written = Written::default();
        batch.put("b", "1");
        assert_eq!(written.look(&batch, b"b"), Some(Some("1".into())));
        assert_eq!(written.look(&batch, b"a"), None);
        batch.put("b", "2");
        batch.delete("c");
        assert_eq!(written.look(&batch, b"b"), Some(Some("2".into())));
        assert_eq!(written.look(&batch, b"c"), Some(None));
        batch.delete_range("b", "d");
        batch.put("c", "3");
        assert_eq!(written.look(&batch, b"b"), Some(None));
        assert_eq!(written.look(&batch, b"bb"), Some(None));
        assert_eq!(written.look(&batch, b"c"), Some(Some("3".into())));
        assert_eq!(written.look(&batch, b"d"), None);
    }
}
