//! What is left of a disk: after a power cut, a killed process, another disk in its place.
//!
//! ```text
//!   written, unsynced    b1 b2 b3 b4 b5
//!   process killed       b1 b2 b3        reached the operating system, a power cut may take them
//!   power cut            b1 b2           durable, and the next opening finds them
//!   torn tail            b1 b2 b3/2      what no opening of RocksDB shows
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Disk;
use super::records::Records;
use super::state::State;

/// All that is durable on a disk at one moment, to be put back later. Cheap to take and to clone.
#[derive(Clone)]
pub struct DiskImage {
    records: Records,
    kept: BTreeMap<String, Bytes>,
    kept_last: u64,
}

impl Disk {
    /// Cuts the power: what is synced survives, and the oldest `keep` of the unsynced batches (all
    /// that can when there are fewer). Engines open on the disk are dead from now on; open it again
    /// with [`super::Memory::open`].
    pub fn power_cut(&self, keep: usize) {
        self.power_cut_with(|_| keep);
    }

    /// As [`Disk::power_cut`]; `keep` is told how many unsynced batches can survive and says how
    /// many do. Batches that a failed sync was for, and those after them, are not all among them.
    pub fn power_cut_with(&self, keep: impl FnOnce(usize) -> usize) {
        self.shared.state.lock().power_cut(keep);
    }

    /// As [`Disk::power_cut_with`], but of the batch behind the surviving ones the first writes
    /// survive too: `writes` is told how many it has and says how many do. This is what a store
    /// would show that accepts a torn tail. RocksDB never does: a batch is one record of its
    /// write-ahead log, or is in one file of a flush, and a record whose checksum does not fit is
    /// cut off. Only for the mutant that takes that rule away.
    pub fn power_cut_torn(
        &self,
        keep: impl FnOnce(usize) -> usize,
        writes: impl FnOnce(usize) -> usize,
    ) {
        let mut state = self.shared.state.lock();
        let torn = state.power_cut(keep);
        if let Some(mut torn) = torn {
            let writes = writes(torn.writes().len());
            torn.truncate(writes);
            state.write_durably(&torn);
        }
    }

    /// Kills the process and not its machine: the oldest `keep` of the unsynced batches (all when
    /// there are fewer) had reached the operating system. The next opening finds them and, as
    /// RocksDB's recovery does, makes them durable; a power cut before it may take them. The rest
    /// dies with the process: everything unflushed of an engine without a write-ahead log
    /// (`msgdb`: `keep` is 0), and what such a log had not yet handed over.
    pub fn process_killed(&self, keep: usize) {
        self.process_killed_with(|_| keep);
    }

    /// As [`Disk::process_killed`]; `keep` is told how many batches are unsynced and says how many
    /// of them survive.
    pub fn process_killed_with(&self, keep: impl FnOnce(usize) -> usize) {
        self.shared.state.lock().process_killed(keep);
    }

    /// Puts an empty disk in its place. Engines open on it are dead from now on.
    pub fn wipe(&self) {
        self.restore(&DiskImage {
            records: Records::default(),
            kept: BTreeMap::new(),
            kept_last: 0,
        });
    }

    /// What is durable now: what a power cut that keeps nothing would leave.
    pub fn image(&self) -> DiskImage {
        let state = self.shared.state.lock();
        DiskImage {
            records: state.durable(),
            kept: state.kept.clone(),
            kept_last: state.kept_last,
        }
    }

    /// Puts back what was on it, or on another disk, when the image was taken. Engines open on it
    /// are dead from now on; the faults that are on stay.
    pub fn restore(&self, image: &DiskImage) {
        let mut state = self.shared.state.lock();
        state.power_cut(|_| 0);
        state.visible = image.records.clone();
        state.kept = image.kept.clone();
        state.kept_last = image.kept_last;
        let live = state.visible.bytes();
        let kept = state.kept.values().map(|file| file.len() as u64).sum();
        if let Some(layout) = &mut state.layout {
            layout.exchanged(live, kept);
        }
        state.checkpoints.clear();
    }
}

impl State {
    /// Ends the running life; gives the first of the batches that are lost.
    fn power_cut(&mut self, keep: impl FnOnce(usize) -> usize) -> Option<crate::engine::Batch> {
        self.life += 1;
        let can = self.can_survive();
        let keep = keep(can).min(can);
        let lost = self.roll_back(keep);
        self.make_durable(keep);
        self.end_life();
        lost
    }

    fn process_killed(&mut self, keep: impl FnOnce(usize) -> usize) {
        self.life += 1;
        let unsynced = self.unsynced.len();
        // What an earlier kill left is no process's to lose.
        self.cached = keep(unsynced).min(unsynced).max(self.cached);
        self.roll_back(self.cached);
    }

    /// Begins a life: what reached the operating system is made durable, the rest is gone.
    pub(super) fn open(&mut self) -> u64 {
        self.life += 1;
        self.roll_back(self.cached);
        self.make_durable(self.cached);
        self.end_life();
        if std::mem::take(&mut self.compaction_failed) {
            self.salvage();
        }
        self.life
    }

    fn end_life(&mut self) {
        self.cached = 0;
        self.lost_by_sync = None;
        self.device.reset();
    }
}
