//! Which seq a message has here, by its number where it comes from.

use std::collections::BTreeMap;

/// Numbers of one conversation. Where both sides count on by one, a run takes the room of one entry.
#[derive(Debug, Default)]
pub struct Seqs {
    /// First number → (first seq, how many).
    runs: BTreeMap<u64, (u64, u64)>,
}

impl Seqs {
    /// Notes where a message is.
    pub fn add(&mut self, key: u64, seq: u64) {
        if let Some((first, (at, count))) = self.runs.range_mut(..=key).next_back()
            && first + *count == key
            && *at + *count == seq
        {
            *count += 1;
            return;
        }
        self.runs.insert(key, (seq, 1));
    }

    /// Where a message is.
    pub fn get(&self, key: u64) -> Option<u64> {
        let (first, (at, count)) = self.runs.range(..=key).next_back()?;
        let behind = key - first;
        (behind < *count).then(|| at + behind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_and_runs_take_one_entry() {
        let mut seqs = Seqs::default();
        for key in 5..1_000 {
            seqs.add(key, key - 4);
        }
        assert_eq!(seqs.runs.len(), 1);
        seqs.add(2_000, 2_000);
        seqs.add(2_001, 2_002);
        assert_eq!(seqs.runs.len(), 3);
        assert_eq!((seqs.get(5), seqs.get(999)), (Some(1), Some(995)));
        assert_eq!((seqs.get(4), seqs.get(1_000)), (None, None));
        assert_eq!(
            (seqs.get(2_000), seqs.get(2_001)),
            (Some(2_000), Some(2_002))
        );
    }
}
