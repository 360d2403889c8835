//! The two disks of a host, which outlive its node: simulated ones, or RocksDB in a folder. What
//! crashes leave of them is decided here, and which plans the one or the other cannot play.

use std::sync::Arc;

use parking_lot::Mutex;
use rand::Rng as _;
use rand::rngs::StdRng;
use store::engine::Engine;
use store::engine::memory::{Disk, DiskImage, Memory, Volume};

use crate::plan::{DiskKind, Fault, Plan};

/// What a node's two databases are opened on.
#[derive(Clone)]
pub(super) struct Devices {
    /// Under the Raft log.
    pub raftdb: Disk,
    /// Under the state.
    pub msgdb: Disk,
    /// What simulated ones are on.
    pub volume: Volume,
}

/// The databases of one start.
pub(super) struct Engines {
    pub raftdb: Arc<dyn Engine>,
    pub msgdb: Arc<dyn Engine>,
}

/// A host's disks. Its node is stopped whenever something other than [`Disks::open`] and
/// [`Disks::take_image`] is done to them.
pub(super) trait Disks: Send + Sync {
    /// Whether a node still holds them, so that they cannot be opened.
    fn held(&self) -> bool;

    /// Opens what the disks hold. An engine that was open on them is dead from now on.
    fn open(&self) -> Result<Engines, String>;

    /// The power goes: what was synced stays, of what was not a drawn part from its beginning.
    fn cut_power(&self, dice: &mut StdRng) -> Result<(), String>;

    /// The process was killed: what it had written to its log stays.
    fn process_killed(&self);

    /// Empty disks.
    fn wipe(&self) -> Result<(), String>;

    /// Takes an image of what is durable.
    fn take_image(&self) -> Result<(), String>;

    /// Puts the image back that was taken last, if any was.
    fn put_image_back(&self) -> Result<(), String>;
}

/// The disks of a host, of a kind.
pub(super) fn of(name: &str, kind: DiskKind, devices: &Devices) -> Result<Box<dyn Disks>, String> {
    match kind {
        DiskKind::Memory => {
            devices.raftdb.put_on(&devices.volume, true);
            devices.msgdb.put_on(&devices.volume, false);
            Ok(Box::new(Simulated {
                devices: devices.clone(),
                image: Mutex::default(),
            }))
        }
        #[cfg(feature = "rocksdb")]
        DiskKind::Rocksdb => Ok(Box::new(super::rocks::Folder::new(name, devices)?)),
        #[cfg(not(feature = "rocksdb"))]
        DiskKind::Rocksdb => Err(format!("{name}: {WITHOUT}")),
    }
}

// With the whole workspace RocksDB's C++ is the one that the firebreak command has, already compiled.
#[cfg(not(feature = "rocksdb"))]
const WITHOUT: &str = "this build of the simulator has no RocksDB, so disks can only be memory. One \
    that has it: cargo build --release --workspace --bin firebreak-sim --features \
    firebreak-sim/rocksdb";

/// Why the disks that a plan asks for cannot play it; none when they can.
pub fn refuse(plan: &Plan) -> Option<String> {
    if plan.disk == DiskKind::Memory {
        return None;
    }
    #[cfg(not(feature = "rocksdb"))]
    return Some(WITHOUT.to_owned());
    #[cfg(feature = "rocksdb")]
    plan.events.iter().find_map(|event| {
        let what = only_simulated(&event.fault)?;
        Some(format!(
            "{what} (at {} ms, {}) is something that only simulated disks can do: run it with \
             `--disk memory`",
            event.at_ms,
            event.fault.kind()
        ))
    })
}

/// What a fault does that RocksDB's files cannot be made to do. Slow and hanging syncs they can: a
/// sync ends when the simulated device says so.
#[cfg_attr(
    not(feature = "rocksdb"),
    allow(dead_code, reason = "without RocksDB every plan for it is refused")
)]
fn only_simulated(fault: &Fault) -> Option<&'static str> {
    match fault {
        Fault::FailSync { fail: true, .. } => Some("a sync that fails"),
        Fault::DiskRoom {
            free_percent: Some(0),
            ..
        } => Some("a full disk"),
        Fault::SmallDisk {
            left_bytes: Some(_),
            ..
        } => Some("a disk that is small"),
        Fault::BitFlip { .. } => Some("a flipped bit"),
        Fault::LoseRecord { .. } => Some("a record that vanishes"),
        Fault::Compact { .. } => Some("a compaction at a moment of one's choice"),
        _ => None,
    }
}

/// Room for an opening of the databases, as the product keeps it.
pub(super) fn ballast(volume: &Volume) -> u64 {
    volume.sizes().log_memtable_bytes() * 3
}

/// Simulated disks.
struct Simulated {
    devices: Devices,
    image: Mutex<Option<(DiskImage, DiskImage)>>,
}

impl Disks for Simulated {
    fn held(&self) -> bool {
        false
    }

    fn open(&self) -> Result<Engines, String> {
        let Devices {
            raftdb,
            msgdb,
            volume,
        } = &self.devices;
        if volume
            .space()
            .is_some_and(|(free, _)| free < ballast(volume))
        {
            volume.give_up_ballast();
        }
        for disk in [raftdb, msgdb] {
            disk.make_ready().map_err(|error| error.to_string())?;
        }
        Ok(Engines {
            raftdb: Arc::new(Memory::open(&self.devices.raftdb)),
            msgdb: Arc::new(Memory::open(&self.devices.msgdb)),
        })
    }

    fn cut_power(&self, dice: &mut StdRng) -> Result<(), String> {
        let Devices { raftdb, msgdb, .. } = &self.devices;
        raftdb.power_cut_with(|unsynced| dice.random_range(0..=unsynced));
        // Without a write-ahead log nothing unflushed is on the disk.
        if model::mutant!("torn-tail-accepted") {
            msgdb.power_cut_torn(|_| 0, |writes| dice.random_range(0..=writes));
        } else {
            msgdb.power_cut(0);
        }
        Ok(())
    }

    fn process_killed(&self) {
        self.devices.raftdb.process_killed_with(|unsynced| unsynced);
        self.devices.msgdb.process_killed(0);
    }

    fn wipe(&self) -> Result<(), String> {
        self.devices.raftdb.wipe();
        self.devices.msgdb.wipe();
        Ok(())
    }

    fn take_image(&self) -> Result<(), String> {
        let Devices { raftdb, msgdb, .. } = &self.devices;
        *self.image.lock() = Some((raftdb.image(), msgdb.image()));
        Ok(())
    }

    fn put_image_back(&self) -> Result<(), String> {
        if let Some((raftdb, msgdb)) = &*self.image.lock() {
            self.devices.raftdb.restore(raftdb);
            self.devices.msgdb.restore(msgdb);
        }
        Ok(())
    }
}

#[cfg(all(test, not(feature = "rocksdb")))]
mod tests {
    use super::*;
    use crate::catalogue::{self, Variant};
    use crate::plan::Tier;

    #[test]
    fn a_build_without_rocksdb_says_how_to_build_with_it() {
        let calm = catalogue::load("calm").unwrap();
        let mut plan = calm.plan(1, Variant::Ours, Tier::Direct);
        assert_eq!(refuse(&plan), None);
        plan.disk = DiskKind::Rocksdb;
        let why = refuse(&plan).unwrap();
        assert!(why.contains("--features firebreak-sim/rocksdb"), "{why}");
        assert_eq!(crate::run(&plan).stopped, Some(why));
    }
}
