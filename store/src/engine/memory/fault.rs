//! What fails on a disk, and for how long.

use std::collections::BTreeMap;

use super::Disk;

/// What an injected failure hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Reads fail.
    Read,
    /// Writes fail, and nothing of them is there.
    Write,
    /// Syncs fail. What such a sync should have made durable never becomes so in place, whatever
    /// later syncs say: a kernel that could not write a page marks it clean and forgets it. It can
    /// still be read, and survives the process.
    Sync,
    /// Writes find no space.
    Full,
}

/// The faults that are on, each with how often it still strikes; `None` is without end.
#[derive(Default)]
pub(super) struct Faults(BTreeMap<Fault, Option<u64>>);

impl Faults {
    /// Whether this operation fails. Counts it.
    pub(super) fn strikes(&mut self, fault: Fault) -> bool {
        match self.0.get_mut(&fault) {
            None => false,
            Some(None) => true,
            Some(Some(left)) => {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    self.0.remove(&fault);
                }
                true
            }
        }
    }
}

impl Disk {
    /// What fails from now on: this alone, or nothing.
    pub fn set_fault(&self, fault: Option<Fault>) {
        let faults = fault.map(|fault| (fault, None)).into_iter().collect();
        self.shared.state.lock().faults = Faults(faults);
    }

    /// Makes the next `times` operations of the kind fail, beside what fails already.
    pub fn fail_next(&self, fault: Fault, times: u64) {
        let mut state = self.shared.state.lock();
        match times {
            0 => state.faults.0.remove(&fault),
            times => state.faults.0.insert(fault, Some(times)),
        };
    }

    /// Makes all operations of the kind fail (`true`) or none (`false`); other faults stay.
    pub fn fail(&self, fault: Fault, on: bool) {
        let mut state = self.shared.state.lock();
        match on {
            true => state.faults.0.insert(fault, None),
            false => state.faults.0.remove(&fault),
        };
    }

    /// How many bytes of records and kept files fit on it; `None` is without end. A write that
    /// does not fit finds no space. What is there stays, also when it is more.
    pub fn set_capacity_bytes(&self, capacity_bytes: Option<u64>) {
        self.shared.state.lock().capacity_bytes = capacity_bytes;
    }

    /// Bytes of keys and values and of kept files on it. What is deleted is free at once, as it
    /// is not before a compaction in RocksDB.
    pub fn used_bytes(&self) -> u64 {
        self.shared.state.lock().used_bytes()
    }
}
