//! What hosts know to be committed stays in their logs: entries go from the end of a log because
//! another leader wrote others there, which it never does up to the position that the log's owner
//! has noted as committed. They may go from its beginning at any time.

use std::collections::BTreeMap;

use proto::node::LogId;

/// One shard's log on one host's disk.
pub(super) type Replica = (usize, u32);

/// The terms of the entries on disks, and what is noted there as committed. All of it is durable.
#[derive(Default)]
pub(super) struct Committed {
    /// By index.
    terms: BTreeMap<Replica, BTreeMap<u64, u64>>,
    noted: BTreeMap<Replica, LogId>,
    /// Up to where each log was cut.
    cuts: BTreeMap<Replica, u64>,
    /// The highest position that anybody has noted, by shard.
    highest: BTreeMap<u32, u64>,
}

impl Committed {
    /// An entry is durable.
    pub(super) fn entry(&mut self, replica: Replica, index: u64, term: u64) {
        self.terms.entry(replica).or_default().insert(index, term);
    }

    /// The last entry of each log on a host's disk, by shard: its index.
    pub(super) fn lasts(&self, host: usize) -> impl Iterator<Item = (u32, u64)> + '_ {
        let logs = self.terms.range((host, 0)..(host + 1, 0));
        logs.filter_map(|((_, shard), terms)| Some((*shard, *terms.last_key_value()?.0)))
    }

    /// The last entry of a log, or where it was cut; 0 when there is nothing.
    pub(super) fn last(&self, replica: Replica) -> u64 {
        let entries = self.terms.get(&replica).and_then(BTreeMap::last_key_value);
        let cut = self.cuts.get(&replica).copied().unwrap_or(0);
        entries.map_or(cut, |(last, _)| cut.max(*last))
    }

    /// What is known of a shard to be committed.
    pub(super) fn highest(&self, shard: u32) -> u64 {
        self.highest.get(&shard).copied().unwrap_or(0)
    }

    /// The note of what is committed is durable.
    pub(super) fn note(&mut self, replica: Replica, id: LogId) {
        let highest = self.highest.entry(replica.1).or_default();
        *highest = (*highest).max(id.index);
        self.noted.insert(replica, id);
    }

    /// Entries up to here went from the beginning.
    pub(super) fn cut(&mut self, replica: Replica, upto: u64) {
        self.cuts.insert(replica, upto);
        let terms = self.terms.entry(replica).or_default();
        *terms = upto
            .checked_add(1)
            .map_or_else(BTreeMap::new, |next| terms.split_off(&next));
    }

    /// Entries from here on went from the end. Gives what was noted as committed, if that was among
    /// them: the very entry, for a note that came with a snapshot tells nothing of the entries before.
    pub(super) fn truncated(&mut self, replica: Replica, from: u64) -> Option<LogId> {
        let gone = self.terms.entry(replica).or_default().split_off(&from);
        let noted = self.noted.get(&replica)?;
        (gone.get(&noted.index) == Some(&noted.term)).then_some(*noted)
    }

    /// A host gives its replica up: it holds nothing of it any more, and nobody counts on it.
    pub(super) fn given_up(&mut self, replica: Replica) {
        self.terms.remove(&replica);
        self.noted.remove(&replica);
        self.cuts.remove(&replica);
    }

    /// A host has other disks now.
    pub(super) fn forget(&mut self, host: usize) {
        self.terms.retain(|replica, _| replica.0 != host);
        self.noted.retain(|replica, _| replica.0 != host);
        self.cuts.retain(|replica, _| replica.0 != host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Replica = (0, 3);

    /// Entries 1 to 9, of term 1 up to 5 and of term 2 behind, with a note of the last committed.
    fn noted(index: u64, term: u64) -> Committed {
        let mut committed = Committed::default();
        for index in 1..=9 {
            committed.entry(HERE, index, if index <= 5 { 1 } else { 2 });
        }
        committed.note(HERE, LogId { term, index });
        committed
    }

    #[test]
    fn what_is_not_known_to_be_committed_may_go_from_the_end() {
        assert_eq!(noted(7, 2).truncated(HERE, 8), None);
        assert_eq!(noted(7, 2).truncated((1, 3), 1), None);
        assert_eq!(Committed::default().truncated(HERE, 1), None);
    }

    #[test]
    fn what_is_known_to_be_committed_may_not() {
        let last = Some(LogId { term: 2, index: 7 });
        assert_eq!(noted(7, 2).truncated(HERE, 7), last);
        assert_eq!(noted(7, 2).truncated(HERE, 2), last);
    }

    #[test]
    fn a_note_that_passed_the_log_with_a_snapshot_says_nothing_of_the_log() {
        assert_eq!(noted(20, 3).truncated(HERE, 6), None);
        assert_eq!(noted(8, 3).truncated(HERE, 6), None);
    }

    #[test]
    fn the_beginning_may_go_and_other_disks_begin_anew() {
        let mut committed = noted(7, 2);
        committed.cut(HERE, 7);
        assert_eq!(committed.truncated(HERE, 8), None);
        let mut committed = noted(7, 2);
        committed.forget(0);
        assert_eq!(committed.truncated(HERE, 1), None);
        let mut committed = noted(7, 2);
        committed.given_up(HERE);
        assert_eq!(committed.truncated(HERE, 1), None);
    }
}
