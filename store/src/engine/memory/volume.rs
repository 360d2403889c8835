//! A volume that several disks are on, and what databases take of it: more than their records, and for
//! a while even more, as RocksDB does.
//!
//! ```text
//!   log:    write ─► write-ahead file and memtable ─ full ─► flush: a file of it, then the
//!   state:  write ─► memtable ─────────────────────── sync ─►        write-ahead file is gone
//!                         some files ─► compaction: written anew, then the old ones are gone
//! ```
//!
//! What a flush or a compaction writes is there beside what it replaces until it is done. One that
//! finds no room fails the database for good, until it is opened again; and an opening flushes what
//! it finds in the write-ahead file first.

use std::sync::Arc;

use parking_lot::Mutex;

use super::Disk;
use crate::Error;
use crate::Sizes;

/// Files that begin a compaction, of the log and of the state.
const FILES_MAX: [usize; 2] = [4, 16];

/// A volume. Clones share it.
#[derive(Clone, Default)]
pub struct Volume {
    room: Arc<Mutex<Room>>,
}

#[derive(Default)]
struct Room {
    /// `None` is without end.
    capacity: Option<u64>,
    sizes: Sizes,
    /// What each disk takes.
    taken: Vec<u64>,
    ballast: u64,
}

impl Room {
    fn used(&self) -> u64 {
        self.taken.iter().sum::<u64>() + self.ballast
    }

    fn free(&self) -> u64 {
        self.capacity
            .map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()))
    }
}

impl Volume {
    /// Only so many bytes are left from now on, and databases take what they do on such a disk;
    /// `None` is without end again.
    pub fn leave(&self, bytes: Option<u64>, sizes: Sizes) {
        let mut room = self.room.lock();
        room.ballast = 0;
        room.capacity = bytes.map(|bytes| room.used() + bytes);
        room.sizes = sizes;
    }

    /// Bytes free and in all; `None` is without end.
    pub fn space(&self) -> Option<(u64, u64)> {
        let room = self.room.lock();
        room.capacity.map(|capacity| (room.free(), capacity))
    }

    /// How large things grow on it.
    pub fn sizes(&self) -> Sizes {
        self.room.lock().sizes
    }

    /// Takes a ballast of so many bytes, if `reserve` is left beside it.
    pub fn restock(&self, bytes: u64, reserve: u64) {
        let mut room = self.room.lock();
        if room.ballast == 0 && room.free() >= reserve + bytes {
            room.ballast = bytes;
        }
    }

    /// Gives the ballast up.
    pub fn give_up_ballast(&self) {
        self.room.lock().ballast = 0;
    }
}

/// How a disk's database lies on its volume.
pub(super) struct Layout {
    volume: Volume,
    place: usize,
    /// Whether it has a write-ahead file.
    log: bool,
    write_ahead: u64,
    memtable: u64,
    /// Flushed since the last compaction.
    files: Vec<u64>,
    /// What that wrote.
    base: u64,
    /// Kept files.
    kept: u64,
    may_compact: bool,
    failed: bool,
}

/// There is no room.
pub(super) struct NoRoom;

impl Layout {
    /// So many bytes of files are kept now.
    pub(super) fn keeps(&mut self, kept: u64) {
        self.kept = kept;
        self.tell();
    }

    pub(super) fn compact(&mut self, may: bool) {
        self.may_compact = may;
    }

    /// A batch of `bytes` is written, of which `live` stays in all.
    pub(super) fn write(&mut self, bytes: u64, live: u64) -> Result<(), NoRoom> {
        if self.log {
            self.need(bytes)?;
            self.write_ahead += bytes;
            self.tell();
        }
        self.memtable += bytes;
        match self.log && self.memtable >= self.volume.sizes().log_memtable_bytes() {
            true => self.flush(live),
            false => Ok(()),
        }
    }

    /// A sync: of the state it is a flush.
    pub(super) fn sync(&mut self, live: u64) -> Result<(), NoRoom> {
        match self.log || self.memtable == 0 {
            true => self.works(),
            false => self.flush(live),
        }
    }

    /// Files are added as they are.
    pub(super) fn add(&mut self, bytes: u64, live: u64) -> Result<(), NoRoom> {
        self.need(bytes)?;
        self.files.push(bytes);
        self.tell();
        self.compacts(live)
    }

    /// Opens what a process has left.
    pub(super) fn open(&mut self, live: u64) -> Result<(), NoRoom> {
        self.failed = false;
        self.memtable = self.write_ahead;
        match self.memtable {
            0 => Ok(()),
            _ => self.flush(live),
        }
    }

    /// Another disk is in its place.
    pub(super) fn exchanged(&mut self, live: u64, kept: u64) {
        (self.write_ahead, self.memtable, self.base) = (0, 0, live);
        self.files.clear();
        self.keeps(kept);
    }

    fn flush(&mut self, live: u64) -> Result<(), NoRoom> {
        self.need(self.memtable)?;
        self.files.push(self.memtable);
        (self.write_ahead, self.memtable) = (0, 0);
        self.tell();
        self.compacts(live)
    }

    fn compacts(&mut self, live: u64) -> Result<(), NoRoom> {
        let most = FILES_MAX[usize::from(!self.log)];
        if !self.may_compact || self.files.len() < most {
            return Ok(());
        }
        let written = self.files.iter().sum::<u64>() + self.base;
        let bound = self.volume.sizes().compaction_bytes_max();
        self.need(written.min(bound))?;
        self.files.clear();
        self.base = live;
        self.tell();
        Ok(())
    }

    fn works(&self) -> Result<(), NoRoom> {
        if self.failed { Err(NoRoom) } else { Ok(()) }
    }

    fn need(&mut self, bytes: u64) -> Result<(), NoRoom> {
        self.failed |= self.volume.room.lock().free() < bytes;
        self.works()
    }

    fn tell(&self) {
        let taken = self.write_ahead + self.files.iter().sum::<u64>() + self.base + self.kept;
        if let Some(told) = self.volume.room.lock().taken.get_mut(self.place) {
            *told = taken;
        }
    }
}

impl Disk {
    /// Puts the disk, which is empty, on a volume. `log` is one whose database has a write-ahead
    /// file.
    pub fn put_on(&self, volume: &Volume, log: bool) {
        let place = {
            let mut room = volume.room.lock();
            room.taken.push(0);
            room.taken.len() - 1
        };
        self.shared.state.lock().layout = Some(Layout {
            volume: volume.clone(),
            place,
            log,
            write_ahead: 0,
            memtable: 0,
            files: Vec::new(),
            base: 0,
            kept: 0,
            may_compact: true,
            failed: false,
        });
    }

    /// What an opening does with what it finds, before anything else.
    ///
    /// # Errors
    /// [`Error::NoSpace`] when there is no room for it.
    pub fn make_ready(&self) -> Result<(), Error> {
        self.shared.state.lock().lay_out(Layout::open)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::memory::Memory;
    use crate::engine::{Batch, Engine as _};

    const UNIT: u64 = 1_000;

    fn disks(left: u64) -> (Volume, Disk, Disk) {
        let volume = Volume::default();
        volume.leave(Some(left), Sizes::of_unit(UNIT));
        let (log, state) = (Disk::new(), Disk::new());
        log.put_on(&volume, true);
        state.put_on(&volume, false);
        (volume, log, state)
    }

    /// A batch of so many bytes of its own, or in place of the one before.
    fn batch(key: u32, bytes: usize) -> Batch {
        let mut batch = Batch::new();
        batch.put(key.to_be_bytes().to_vec(), vec![0; bytes - 4]);
        batch
    }

    fn free(volume: &Volume) -> u64 {
        volume.space().unwrap().0
    }

    #[tokio::test]
    async fn a_log_takes_room_at_once_and_its_flush_as_much_again() {
        let (volume, log, _) = disks(10 * UNIT);
        let engine = Memory::open(&log);
        for _ in 0..9 {
            engine.write(batch(1, 100)).unwrap();
        }
        assert_eq!(free(&volume), 10 * UNIT - 900);
        engine.write(batch(1, 100)).unwrap();
        assert_eq!(free(&volume), 9 * UNIT, "in a file instead");

        let (volume, log, _) = disks(UNIT + 500);
        let engine = Memory::open(&log);
        let fits = (0..10).take_while(|_| engine.write(batch(1, 100)).is_ok());
        assert_eq!(fits.count(), 9, "the flush found no room");
        assert!(
            engine.write(batch(1, 10)).is_err(),
            "nor does anything else"
        );
        drop(engine);
        assert!(log.make_ready().is_err(), "nor does an opening");
        volume.leave(Some(2 * UNIT), Sizes::of_unit(UNIT));
        log.make_ready().unwrap();
        Memory::open(&log).write(batch(1, 10)).unwrap();
    }

    #[tokio::test]
    async fn a_compaction_takes_room_for_a_while_and_gives_back_what_is_old() {
        let (volume, _, state) = disks(100 * UNIT);
        let engine = Arc::new(Memory::open(&state));
        for round in 1..=15_u64 {
            engine.write(batch(1, 500)).unwrap();
            assert_eq!(free(&volume), 100 * UNIT - 500 * (round - 1));
            engine.sync().await.unwrap();
        }
        engine.write(batch(1, 500)).unwrap();
        engine.sync().await.unwrap();
        assert_eq!(free(&volume), 100 * UNIT - 500);

        for _ in 0..15 {
            engine.write(batch(1, 500)).unwrap();
            engine.sync().await.unwrap();
        }
        // 8,000 are in files, 500 below: 6,000 of these are written anew at most.
        volume.leave(Some(6 * UNIT - 1), Sizes::of_unit(UNIT));
        engine.compact(false);
        engine.write(batch(1, 500)).unwrap();
        engine.sync().await.unwrap();
        engine.compact(true);
        engine.write(batch(1, 500)).unwrap();
        assert!(engine.sync().await.is_err());
    }

    #[test]
    fn a_ballast_takes_of_the_room_and_gives_it_back() {
        let (volume, ..) = disks(10 * UNIT);
        volume.restock(3 * UNIT, 8 * UNIT);
        assert_eq!(free(&volume), 10 * UNIT, "it would take of the reserve");
        volume.restock(3 * UNIT, 7 * UNIT);
        volume.restock(3 * UNIT, 0);
        assert_eq!(free(&volume), 7 * UNIT);
        volume.give_up_ballast();
        assert_eq!(free(&volume), 10 * UNIT);
        volume.leave(None, Sizes::default());
        assert_eq!(volume.space(), None);
    }
}
