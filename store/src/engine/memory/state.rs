//! What a disk holds and what is durable of it.
//!
//! ```text
//!   batch number     0 … ──── durable ──── first_unsynced … ──── unsynced ──── written
//!                                             ▲ the oldest `cached` of them survive the process
//!                                             ▲ from `lost_by_sync` on a power cut takes all
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::device::Device;
use super::fault::{Fault, Faults};
use super::records::{Records, Undo};
use super::volume::{Layout, NoRoom};
use super::{Disk, Observer};
use crate::Error;
use crate::engine::{Batch, Stats};

/// What a disk is called in errors unless it is named.
const NAME: &str = "memory";

pub(super) struct State {
    pub(super) name: Arc<str>,
    /// Everything written.
    pub(super) visible: Records,
    /// Written and not synced, oldest first.
    pub(super) unsynced: VecDeque<Unsynced>,
    /// The number that the next batch gets.
    pub(super) written: u64,
    /// How many of the unsynced reached the operating system before their process was killed.
    pub(super) cached: usize,
    /// The number of the last batch that a failed sync was for: lost on the disk, and with it
    /// everything behind it, since recovery ends there.
    pub(super) lost_by_sync: Option<u64>,
    pub(super) failed_syncs: u64,
    /// Which opening of the disk may write to it; older engines are dead.
    pub(super) life: u64,
    pub(super) device: Device,
    pub(super) faults: Faults,
    pub(super) capacity_bytes: Option<u64>,
    /// A compaction has met what is damaged: nothing is written until the next opening.
    pub(super) compaction_failed: bool,
    pub(super) checkpoints: BTreeMap<PathBuf, Disk>,
    /// Kept files; each is durable from the moment it is in here.
    pub(super) kept: BTreeMap<String, Bytes>,
    /// The number that the last of them was named by.
    pub(super) kept_last: u64,
    /// How its database lies on a volume, if it is on one.
    pub(super) layout: Option<Layout>,
    pub(super) observer: Option<Observer>,
    /// How often files were ingested.
    pub(super) ingests: u64,
    pub(super) stats: Stats,
}

/// A batch, and what it overwrote.
pub(super) struct Unsynced {
    batch: Batch,
    pub(super) undo: Undo,
}

impl Unsynced {
    pub(super) fn batch(&self) -> &Batch {
        &self.batch
    }
}

impl Default for State {
    fn default() -> State {
        State {
            name: Arc::from(NAME),
            visible: Records::default(),
            unsynced: VecDeque::new(),
            written: 0,
            cached: 0,
            lost_by_sync: None,
            failed_syncs: 0,
            life: 0,
            device: Device::default(),
            faults: Faults::default(),
            capacity_bytes: None,
            compaction_failed: false,
            checkpoints: BTreeMap::new(),
            kept: BTreeMap::new(),
            kept_last: 0,
            layout: None,
            observer: None,
            ingests: 0,
            stats: Stats::default(),
        }
    }
}

impl State {
    /// A disk with these records, all durable.
    pub(super) fn with_records(name: Arc<str>, records: Records) -> State {
        State {
            name,
            visible: records,
            ..State::default()
        }
    }

    fn first_unsynced(&self) -> u64 {
        self.written - self.unsynced.len() as u64
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.visible.bytes()
            + self
                .kept
                .values()
                .map(|file| file.len() as u64)
                .sum::<u64>()
    }

    /// What is durable.
    pub(super) fn durable(&self) -> Records {
        let mut records = self.visible.clone();
        for unsynced in self.unsynced.iter().rev() {
            records.take_back(&unsynced.undo);
        }
        records
    }

    /// The error of a volume that has no room for what `work` does on it, which is told how many
    /// bytes of records there are.
    pub(super) fn lay_out(
        &mut self,
        work: impl FnOnce(&mut Layout, u64) -> Result<(), NoRoom>,
    ) -> Result<(), Error> {
        let live = self.visible.bytes();
        let Some(layout) = &mut self.layout else {
            return Ok(());
        };
        work(layout, live).map_err(|NoRoom| Error::NoSpace {
            file: self.name.to_string(),
        })
    }

    /// Notes on the volume how much is kept.
    pub(super) fn note_kept(&mut self) {
        let kept = self.kept.values().map(|file| file.len() as u64).sum();
        if let Some(layout) = &mut self.layout {
            layout.keeps(kept);
        }
    }

    /// Writes a batch; not durable yet.
    pub(super) fn write(&mut self, batch: Batch) {
        let undo = self.visible.apply(batch.writes());
        self.stats.bytes_written += batch.bytes() as u64;
        self.written += 1;
        self.unsynced.push_back(Unsynced { batch, undo });
    }

    /// Writes a batch that is durable at once. Unsynced batches must not touch its keys.
    pub(super) fn write_durably(&mut self, batch: &Batch) {
        self.visible.apply(batch.writes());
        if let Some(observer) = &self.observer {
            observer(batch);
        }
    }

    /// Makes the oldest `count` unsynced batches durable.
    pub(super) fn make_durable(&mut self, count: usize) {
        self.cached = self.cached.saturating_sub(count);
        for durable in self.unsynced.drain(..count) {
            if let Some(observer) = &self.observer {
                observer(&durable.batch);
            }
        }
    }

    /// Takes back all unsynced batches but the oldest `keep`; gives the first of them.
    pub(super) fn roll_back(&mut self, keep: usize) -> Option<Batch> {
        let mut last = None;
        while self.unsynced.len() > keep {
            let Some(lost) = self.unsynced.pop_back() else {
                break;
            };
            self.visible.take_back(&lost.undo);
            self.written -= 1;
            last = Some(lost.batch);
        }
        last
    }

    /// How many of the unsynced batches a power cut can leave.
    pub(super) fn can_survive(&self) -> usize {
        let all = self.unsynced.len();
        self.lost_by_sync.map_or(all, |lost| {
            usize::try_from(lost - self.first_unsynced()).map_or(all, |count| count.min(all))
        })
    }

    /// The end of a sync for all batches below the number `upto`, asked for when `failed_before`
    /// syncs had failed.
    pub(super) fn end_sync(&mut self, upto: u64, failed_before: u64) -> Result<(), Error> {
        if self.compaction_failed {
            return Err(self.error("sync", "a compaction has met a damaged block"));
        }
        let failed_meanwhile = self.failed_syncs != failed_before;
        if failed_meanwhile || self.faults.strikes(Fault::Sync) {
            if upto > self.first_unsynced() {
                let lost = self.lost_by_sync.unwrap_or(upto - 1);
                self.lost_by_sync = Some(lost);
            }
            self.failed_syncs += u64::from(!failed_meanwhile);
            return Err(self.error("sync", "injected"));
        }
        if self.lost_by_sync.is_none() {
            let count = upto.saturating_sub(self.first_unsynced());
            self.make_durable(usize::try_from(count).unwrap_or(usize::MAX));
        }
        self.stats.syncs += 1;
        Ok(())
    }

    pub(super) fn error(&self, operation: &'static str, reason: &str) -> Error {
        Error::Disk {
            operation,
            file: self.name.to_string(),
            reason: reason.to_owned(),
        }
    }

    /// The error of an engine whose disk has gone on without it.
    pub(super) fn alive(&self, life: u64, operation: &'static str) -> Result<(), Error> {
        if self.life == life {
            return Ok(());
        }
        Err(self.error(operation, "its process has ended"))
    }

    /// The error of a disk that does not read.
    pub(super) fn readable(&mut self, operation: &'static str) -> Result<(), Error> {
        match self.faults.strikes(Fault::Read) {
            true => Err(self.error(operation, "injected")),
            false => Ok(()),
        }
    }

    /// The error of a disk that does not take `bytes` more.
    pub(super) fn writable(&mut self, operation: &'static str, bytes: u64) -> Result<(), Error> {
        if self.compaction_failed {
            return Err(self.error(operation, "a compaction has met a damaged block"));
        }
        if self.faults.strikes(Fault::Write) {
            return Err(self.error(operation, "injected"));
        }
        let fits = |capacity| self.used_bytes().saturating_add(bytes) <= capacity;
        if !self.capacity_bytes.is_none_or(fits) || self.faults.strikes(Fault::Full) {
            return Err(Error::NoSpace {
                file: self.name.to_string(),
            });
        }
        Ok(())
    }

    /// The error of a disk that does not take a file of `bytes` and sync it.
    pub(super) fn durably_writable(
        &mut self,
        operation: &'static str,
        bytes: u64,
    ) -> Result<(), Error> {
        self.writable(operation, bytes)?;
        match self.faults.strikes(Fault::Sync) {
            true => Err(self.error(operation, "injected")),
            false => Ok(()),
        }
    }

    /// Names and keeps files, all of them or none.
    pub(super) fn keep(&mut self, contents: Vec<Bytes>) -> Vec<String> {
        let mut names = Vec::with_capacity(contents.len());
        for content in contents {
            self.kept_last += 1;
            let name = format!("{:06}", self.kept_last);
            self.kept.insert(name.clone(), content);
            names.push(name);
        }
        self.note_kept();
        names
    }
}
