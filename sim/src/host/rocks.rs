//! A host's disks as RocksDB databases in a folder: the engine of production under the simulated
//! node.
//!
//! ```text
//!   write ─► RocksDB, and for the log the simulated disk too
//!   sync  ─► RocksDB syncs while virtual time stands still ─► the simulated device takes its time
//!   open  ─► RocksDB recovers; how far it came is what the simulated disk keeps; both must be equal
//! ```
//!
//! RocksDB's threads end at moments that no seed repeats, so every call waits for them on the spot;
//! what they do behind that (compactions) changes no record. The simulated disks are there for what
//! is the same with either kind: how long a sync takes, and telling the observer what became
//! durable. That of the log holds the same batches, so every start checks the one against the other.
//!
//! Nothing relies on a real fsync, so the folder is in memory where there is such a place. A power
//! cut takes away what a sync had not answered for (see [`crash`]); of `msgdb`, a flush that was
//! done and not yet answered for stays, as it does on a disk.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::{fs, io, process};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::executor::block_on;
use futures::future::{BoxFuture, ready};
use parking_lot::Mutex;
use rand::Rng as _;
use rand::rngs::StdRng;
use store::engine::memory::{DiskImage, Memory};
use store::engine::rocks::Rocks;
use store::engine::rocks::crash::{self, LogLengths};
use store::engine::{Batch, Engine, IncomingFile, Order, Read, Snapshot, SortedFile, Stats, Visit};
use store::{Error, Sizes};
use tempfile::TempDir;

use super::disks::{Devices, Disks, Engines};
use crate::interpose::outside;

/// Blocks of state kept in memory for each host.
const CACHE_BYTES: usize = 8 << 20;

/// A host's folder, with its databases.
pub(super) struct Folder {
    name: String,
    devices: Devices,
    root: TempDir,
    image: Mutex<Option<DiskImage>>,
    log: Arc<Mutex<Log>>,
    /// Gone when nothing of the last start holds its databases.
    holder: Mutex<Weak<()>>,
}

/// What is known of the log's files.
#[derive(Default)]
struct Log {
    /// How long they were at the last sync that was answered.
    synced: LogLengths,
    /// RocksDB's number behind each batch that is not synced.
    unsynced: VecDeque<u64>,
}

impl Folder {
    /// An empty one, removed when it is dropped.
    pub(super) fn new(name: &str, devices: &Devices) -> Result<Folder, String> {
        let prefix = format!("firebreak-sim-{}-{name}-", process::id());
        let named = || {
            let mut named = tempfile::Builder::new();
            named.prefix(&prefix);
            named
        };
        let root = outside(|| {
            let root = named().tempdir_in("/dev/shm");
            root.or_else(|_| named().tempdir())
        });
        Ok(Folder {
            name: name.to_owned(),
            devices: devices.clone(),
            root: root.map_err(|error| format!("{name}: no folder for RocksDB: {error}"))?,
            image: Mutex::default(),
            log: Arc::default(),
            holder: Mutex::default(),
        })
    }

    /// The folder of the databases.
    fn now(&self) -> PathBuf {
        self.root.path().join("now")
    }

    /// The folder of the image.
    fn then(&self) -> PathBuf {
        self.root.path().join("image")
    }

    /// Nobody may hold the databases.
    fn let_go(&self) -> Result<(), String> {
        match self.held() {
            false => Ok(()),
            true => Err(format!("{}: its databases are still open", self.name)),
        }
    }

    fn failed(&self, doing: &str) -> impl Fn(io::Error) -> String {
        let what = format!("{}: cannot {doing} its databases", self.name);
        move |error| format!("{what}: {error}")
    }

    /// The simulated log keeps what RocksDB found, and must hold the same then.
    fn agree(&self, rocks: &Rocks) -> Result<Memory, String> {
        let found = rocks.sequence();
        let mut log = self.log.lock();
        let kept = log.unsynced.iter().take_while(|last| **last <= found);
        self.devices.raftdb.power_cut(kept.count());
        *log = Log::default();
        let memory = Memory::open(&self.devices.raftdb);
        let (there, expected) = (records(rocks), records(&memory));
        let (there, expected) = (there?, expected?);
        if there == expected {
            return Ok(memory);
        }
        let differs = there.iter().zip(&expected).position(|(a, b)| a != b);
        let at = differs.unwrap_or(there.len().min(expected.len()));
        let key = expected.get(at).or(there.get(at));
        let key = key.map_or_else(String::new, |(key, _)| store::key::log::readable(key));
        Err(format!(
            "{}: RocksDB recovered {} records of its log and the simulated disk has {}; they differ at {key}",
            self.name,
            there.len(),
            expected.len()
        ))
    }
}

/// Everything that a database holds.
fn records(engine: &dyn Engine) -> Result<Vec<(Bytes, Bytes)>, String> {
    let mut found = Vec::new();
    let scanned = engine.scan(&[], &[0xff; 64], Order::Ascending, &mut |key, value| {
        found.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        Ok(ControlFlow::Continue(()))
    });
    scanned.map_err(|error| error.to_string())?;
    Ok(found)
}

/// Removes a folder that may not be there.
fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    remove(to)?;
    fs::create_dir_all(to)?;
    for database in ["raftdb", "msgdb"] {
        crash::copy(&from.join(database), &to.join(database))?;
    }
    Ok(())
}

impl Disks for Folder {
    fn held(&self) -> bool {
        self.holder.lock().strong_count() > 0
    }

    fn open(&self) -> Result<Engines, String> {
        self.let_go()?;
        let folder = self.now();
        fs::create_dir_all(&folder).map_err(self.failed("open"))?;
        let refused = |error: Error| format!("{}: {error}", self.name);
        let path = folder.join("raftdb");
        let rocks = outside(|| Rocks::open_log(&path)).map_err(refused)?;
        let holder = Arc::new(());
        *self.holder.lock() = Arc::downgrade(&holder);
        let raftdb = OnDisk {
            device: self.agree(&rocks)?,
            rocks,
            log: Some((path, self.log.clone())),
            holder: holder.clone(),
        };
        let msgdb = OnDisk {
            rocks: outside(|| {
                Rocks::open_state_sized(&folder.join("msgdb"), CACHE_BYTES, Sizes::default())
            })
            .map_err(refused)?,
            device: Memory::open(&self.devices.msgdb),
            log: None,
            holder,
        };
        Ok(Engines {
            raftdb: Arc::new(raftdb),
            msgdb: Arc::new(msgdb),
        })
    }

    fn cut_power(&self, dice: &mut StdRng) -> Result<(), String> {
        self.let_go()?;
        let synced = &self.log.lock().synced;
        let keep = |unsynced| dice.random_range(0..=unsynced);
        crash::cut_log(&self.now().join("raftdb"), synced, keep).map_err(self.failed("cut"))
    }

    /// Closing the database handed everything to the system, and flushed nothing.
    fn process_killed(&self) {}

    fn wipe(&self) -> Result<(), String> {
        self.let_go()?;
        remove(&self.now()).map_err(self.failed("remove"))?;
        self.devices.raftdb.wipe();
        *self.log.lock() = Log::default();
        Ok(())
    }

    fn take_image(&self) -> Result<(), String> {
        let image = self.then();
        let synced = &self.log.lock().synced;
        copy(&self.now(), &image)
            .and_then(|()| crash::cut_log(&image.join("raftdb"), synced, |_| 0))
            .map_err(self.failed("copy"))?;
        *self.image.lock() = Some(self.devices.raftdb.image());
        Ok(())
    }

    fn put_image_back(&self) -> Result<(), String> {
        self.let_go()?;
        if let Some(image) = &*self.image.lock() {
            copy(&self.then(), &self.now()).map_err(self.failed("put back"))?;
            self.devices.raftdb.restore(image);
            *self.log.lock() = Log::default();
        }
        Ok(())
    }
}

/// A database that is open.
struct OnDisk {
    // Closed before the holder is gone.
    rocks: Rocks,
    /// The simulated disk beside it.
    device: Memory,
    /// Where the log lies, and what is known of it; none for the state.
    log: Option<(PathBuf, Arc<Mutex<Log>>)>,
    holder: Arc<()>,
}

impl OnDisk {
    /// Waits as long as the simulated device takes to sync files.
    fn served<T: Send + 'static>(
        &self,
        done: Result<T, Error>,
    ) -> BoxFuture<'static, Result<T, Error>> {
        let served = self.device.keep(Vec::new());
        async move {
            let done = done?;
            served.await?;
            Ok(done)
        }
        .boxed()
    }
}

/// A read point; the database is open as long as it lives.
struct Point {
    point: Snapshot,
    _holder: Arc<()>,
}

impl Read for Point {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.point.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visit<'_>) -> Result<(), Error> {
        self.point.scan(from, to, order, visit)
    }
}

impl Read for OnDisk {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.rocks.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visit<'_>) -> Result<(), Error> {
        self.rocks.scan(from, to, order, visit)
    }
}

impl Engine for OnDisk {
    fn write(&self, batch: Batch) -> Result<(), Error> {
        let Some((_, log)) = &self.log else {
            return self.rocks.write(batch);
        };
        self.rocks.write(batch.clone())?;
        self.device.write(batch)?;
        log.lock().unsynced.push_back(self.rocks.sequence());
        Ok(())
    }

    fn sync(&self) -> BoxFuture<'static, Result<(), Error>> {
        let log = self.log.clone();
        let synced = block_on(self.rocks.sync()).and_then(|()| match &log {
            None => Ok(LogLengths::new()),
            Some((path, _)) => crash::log_lengths(path).map_err(|error| Error::Disk {
                operation: "sync",
                file: path.display().to_string(),
                reason: error.to_string(),
            }),
        });
        let (timed, disk) = (self.device.sync(), self.device.disk());
        async move {
            let synced = synced?;
            timed.await?;
            if let Some((_, log)) = log {
                let mut log = log.lock();
                for (name, bytes) in synced {
                    let known = log.synced.entry(name).or_default();
                    *known = bytes.max(*known);
                }
                let done = log.unsynced.len().saturating_sub(disk.unsynced());
                log.unsynced.drain(..done);
            }
            Ok(())
        }
        .boxed()
    }

    fn snapshot(&self) -> Snapshot {
        Arc::new(Point {
            point: self.rocks.snapshot(),
            _holder: self.holder.clone(),
        })
    }

    fn export(
        &self,
        read_point: Snapshot,
        from: Vec<u8>,
        to: Vec<u8>,
        file_bytes_max: usize,
    ) -> BoxFuture<'static, Result<Vec<Box<dyn SortedFile>>, Error>> {
        let exported = self.rocks.export(read_point, from, to, file_bytes_max);
        ready(block_on(exported)).boxed()
    }

    fn receive(&self) -> Result<Box<dyn IncomingFile>, Error> {
        self.rocks.receive()
    }

    fn keep(
        &self,
        files: Vec<Box<dyn SortedFile>>,
    ) -> BoxFuture<'static, Result<Vec<String>, Error>> {
        self.served(block_on(self.rocks.keep(files)))
    }

    fn kept(&self) -> Result<Vec<String>, Error> {
        self.rocks.kept()
    }

    fn open_kept(&self, name: &str) -> Result<Box<dyn SortedFile>, Error> {
        self.rocks.open_kept(name)
    }

    fn forget(&self, names: &[String]) -> Result<(), Error> {
        self.rocks.forget(names)
    }

    fn ingest(&self, files: Vec<Box<dyn SortedFile>>) -> BoxFuture<'static, Result<(), Error>> {
        self.served(block_on(self.rocks.ingest(files)))
    }

    fn checkpoint(&self, directory: &Path) -> BoxFuture<'static, Result<(), Error>> {
        ready(block_on(self.rocks.checkpoint(directory))).boxed()
    }

    /// Of the log as the simulated disk counts: a sync when it is answered.
    // Nothing here is small.
    fn compact(&self, _: bool) {}

    fn scour(&self, ranges: Vec<(Vec<u8>, Vec<u8>)>) -> BoxFuture<'static, Result<(), Error>> {
        self.rocks.scour(ranges)
    }

    fn stats(&self) -> Stats {
        let stats = self.rocks.stats();
        match self.log {
            None => stats,
            Some(_) => Stats {
                bytes_to_disk: stats.bytes_to_disk,
                stored_bytes: stats.stored_bytes,
                ..self.device.stats()
            },
        }
    }
}
