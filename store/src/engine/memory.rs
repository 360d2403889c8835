//! The store in memory: ordered batches and a watermark of what is synced, so that a power cut can
//! be played exactly.
//!
//! ```text
//!   visible = durable + every batch written since        (what reads see)
//!   durable   ── sync: moves the batches written before it over ──►
//!   power cut: durable + a chosen prefix of the unsynced batches is what the next open finds
//! ```
//!
//! The [`Disk`] outlives the engine, as a disk outlives a process. No threads and no clock: a sync
//! completes when its future is polled, unless the disk was given a latency or told to hold syncs.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Bound, ControlFlow};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::batch::Write;
use super::{Batch, Engine, IncomingFile, Order, Read, Snapshot, SortedFile, Stats, Visit};
use crate::Error;
use files::{File, Incoming, decode, encode};

mod files;

const FILE: &str = "memory";

type Records = BTreeMap<Bytes, Bytes>;

/// What an injected failure hits. It lasts until another is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Reads fail.
    Read,
    /// Writes fail.
    Write,
    /// Syncs fail, and what they should have made durable is not.
    Sync,
    /// Writes find no space.
    Full,
}

/// The disk under a [`Memory`]; it survives the engine. Clones share it.
#[derive(Clone)]
pub struct Disk {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Whether syncs wait; see [`Disk::hold_syncs`].
    held: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    durable: Arc<Records>,
    /// Written and not synced, oldest first.
    unsynced: VecDeque<Batch>,
    /// Batches written since the disk was made; `unsynced` holds the last ones of them.
    written: u64,
    /// Which opening of the disk may write to it; older engines are dead.
    life: u64,
    latency: Duration,
    fault: Option<Fault>,
    checkpoints: BTreeMap<PathBuf, Disk>,
    /// Kept files; each is durable from the moment it is in here.
    kept: BTreeMap<String, Bytes>,
    /// The number that the last of them was named by.
    kept_last: u64,
    stats: Stats,
}

impl Default for Disk {
    fn default() -> Self {
        Disk::new()
    }
}

impl Disk {
    /// An empty disk.
    pub fn new() -> Disk {
        Disk {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                held: watch::Sender::new(false),
            }),
        }
    }

    /// Cuts the power: what is synced survives, and the oldest `keep` of the unsynced batches (all
    /// of them when there are fewer). Engines open on the disk are dead from now on; open it again
    /// with [`Memory::open`].
    pub fn power_cut(&self, keep: usize) {
        self.power_cut_with(|_| keep);
    }

    /// As [`Disk::power_cut`]; `keep` is told how many batches are unsynced and says how many of
    /// them survive.
    pub fn power_cut_with(&self, keep: impl FnOnce(usize) -> usize) {
        let mut state = self.shared.state.lock();
        state.life += 1;
        let keep = keep(state.unsynced.len()).min(state.unsynced.len());
        state.make_durable(keep);
        state.unsynced.clear();
    }

    /// Batches written and not synced.
    pub fn unsynced(&self) -> usize {
        self.shared.state.lock().unsynced.len()
    }

    /// How long a sync takes from now on; none by default. It is waited for on tokio's timer.
    pub fn set_sync_latency(&self, latency: Duration) {
        self.shared.state.lock().latency = latency;
    }

    /// Makes syncs wait (`true`) or lets all waiting ones go on (`false`).
    pub fn hold_syncs(&self, hold: bool) {
        self.shared.held.send_replace(hold);
    }

    /// What fails from now on.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.shared.state.lock().fault = fault;
    }

    /// Changes the durable value of `key`, as a decaying disk would; seen by the next
    /// [`Memory::open`]. Says whether the key was there.
    pub fn corrupt(&self, key: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.shared.state.lock();
        let Some(value) = state.durable.get(key) else {
            return false;
        };
        let mut value = value.to_vec();
        change(&mut value);
        let key = Bytes::copy_from_slice(key);
        Arc::make_mut(&mut state.durable).insert(key, Bytes::from(value));
        true
    }

    /// How many files are kept on it.
    pub fn kept(&self) -> usize {
        self.shared.state.lock().kept.len()
    }

    /// The copy that [`Engine::checkpoint`] made at `directory`.
    pub fn checkpointed(&self, directory: &Path) -> Option<Disk> {
        self.shared.state.lock().checkpoints.get(directory).cloned()
    }
}

impl State {
    /// Moves the oldest `count` unsynced batches over.
    fn make_durable(&mut self, count: usize) {
        let durable = Arc::make_mut(&mut self.durable);
        for batch in self.unsynced.drain(..count) {
            apply(durable, &batch);
        }
    }

    /// The error of an engine whose disk has gone on without it.
    fn alive(&self, life: u64, operation: &'static str) -> Result<(), Error> {
        if self.life == life {
            return Ok(());
        }
        Err(disk_error(operation, "the power was cut"))
    }

    /// The error of a disk that takes no writes.
    fn writable(&self, operation: &'static str) -> Result<(), Error> {
        match self.fault {
            Some(Fault::Write) => Err(disk_error(operation, "injected")),
            Some(Fault::Full) => Err(Error::NoSpace {
                file: FILE.to_owned(),
            }),
            Some(Fault::Read | Fault::Sync) | None => Ok(()),
        }
    }

    /// Names and keeps files, all of them or none.
    fn keep(&mut self, contents: Vec<Bytes>) -> Vec<String> {
        let mut names = Vec::with_capacity(contents.len());
        for content in contents {
            self.kept_last += 1;
            let name = format!("{:06}", self.kept_last);
            self.kept.insert(name.clone(), content);
            names.push(name);
        }
        names
    }
}

fn disk_error(operation: &'static str, reason: &str) -> Error {
    Error::Disk {
        operation,
        file: FILE.to_owned(),
        reason: reason.to_owned(),
    }
}

fn apply(records: &mut Records, batch: &Batch) {
    for write in &batch.writes {
        match write {
            Write::Put(key, value) => {
                records.insert(key.clone(), value.clone());
            }
            Write::Delete(key) => {
                records.remove(key);
            }
            Write::DeleteRange(from, to) => {
                if from >= to {
                    continue;
                }
                let gone: Vec<Bytes> = records
                    .range(from.clone()..to.clone())
                    .map(|(key, _)| key.clone())
                    .collect();
                for key in gone {
                    records.remove(&key);
                }
            }
        }
    }
}

/// An engine on a [`Disk`].
pub struct Memory {
    disk: Disk,
    life: u64,
    /// Locked before the disk's state.
    visible: RwLock<Arc<Records>>,
}

impl Default for Memory {
    fn default() -> Self {
        Memory::new()
    }
}

impl Memory {
    /// An empty store on a disk of its own.
    pub fn new() -> Memory {
        Memory::open(&Disk::new())
    }

    /// Opens what is durable on `disk`. An engine that was open on it is dead from now on, and
    /// what it had not synced is gone, as if its process had been killed.
    pub fn open(disk: &Disk) -> Memory {
        let mut state = disk.shared.state.lock();
        state.life += 1;
        state.unsynced.clear();
        let visible = RwLock::new(Arc::clone(&state.durable));
        Memory {
            disk: disk.clone(),
            life: state.life,
            visible,
        }
    }

    /// The disk under it.
    pub fn disk(&self) -> Disk {
        self.disk.clone()
    }

    fn point(&self) -> Result<Point, Error> {
        if self.disk.shared.state.lock().fault == Some(Fault::Read) {
            return Err(disk_error("read", "injected"));
        }
        Ok(Point {
            records: Arc::clone(&self.visible.read()),
        })
    }
}

/// A read point.
struct Point {
    records: Arc<Records>,
}

impl Read for Point {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        Ok(self.records.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visit<'_>) -> Result<(), Error> {
        if from >= to {
            return Ok(());
        }
        let mut range = self
            .records
            .range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        let mut next = || match order {
            Order::Ascending => range.next(),
            Order::Descending => range.next_back(),
        };
        while let Some((key, value)) = next() {
            if visit(key, value)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl Read for Memory {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.point()?.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visit<'_>) -> Result<(), Error> {
        self.point()?.scan(from, to, order, visit)
    }
}

impl Engine for Memory {
    fn write(&self, batch: Batch) -> Result<(), Error> {
        let mut visible = self.visible.write();
        let mut state = self.disk.shared.state.lock();
        state.alive(self.life, "write")?;
        state.writable("write")?;
        apply(Arc::make_mut(&mut visible), &batch);
        state.stats.bytes_written += batch.bytes() as u64;
        state.written += 1;
        state.unsynced.push_back(batch);
        Ok(())
    }

    fn sync(&self) -> BoxFuture<'static, Result<(), Error>> {
        let shared = Arc::clone(&self.disk.shared);
        let life = self.life;
        let (upto, latency) = {
            let state = shared.state.lock();
            (state.written, state.latency)
        };
        async move {
            if !latency.is_zero() {
                tokio::time::sleep(latency).await;
            }
            // The sender lives in `shared`, so waiting cannot fail.
            let _ = shared.held.subscribe().wait_for(|held| !held).await;
            let mut state = shared.state.lock();
            state.alive(life, "sync")?;
            if state.fault == Some(Fault::Sync) {
                return Err(disk_error("sync", "injected"));
            }
            let first_unsynced = state.written - state.unsynced.len() as u64;
            let count = upto.saturating_sub(first_unsynced);
            state.make_durable(usize::try_from(count).unwrap_or(usize::MAX));
            state.stats.syncs += 1;
            Ok(())
        }
        .boxed()
    }

    fn snapshot(&self) -> Snapshot {
        Arc::new(Point {
            records: Arc::clone(&self.visible.read()),
        })
    }

    fn export(
        &self,
        read_point: Snapshot,
        from: Vec<u8>,
        to: Vec<u8>,
        file_bytes_max: usize,
    ) -> BoxFuture<'static, Result<Vec<Box<dyn SortedFile>>, Error>> {
        async move {
            let mut files: Vec<Box<dyn SortedFile>> = Vec::new();
            let mut open = BytesMut::new();
            read_point.scan(&from, &to, Order::Ascending, &mut |key, value| {
                encode(&mut open, key, value);
                if open.len() >= file_bytes_max {
                    files.push(Box::new(File(open.split().freeze())));
                }
                Ok(ControlFlow::Continue(()))
            })?;
            if !open.is_empty() {
                files.push(Box::new(File(open.freeze())));
            }
            Ok(files)
        }
        .boxed()
    }

    fn receive(&self) -> Result<Box<dyn IncomingFile>, Error> {
        Ok(Box::new(Incoming::default()))
    }

    fn keep(
        &self,
        files: Vec<Box<dyn SortedFile>>,
    ) -> BoxFuture<'static, Result<Vec<String>, Error>> {
        let (shared, life) = (Arc::clone(&self.disk.shared), self.life);
        async move {
            let contents: Result<Vec<Bytes>, Error> =
                files.iter().map(|file| files::all(&**file)).collect();
            let contents = contents?;
            let mut state = shared.state.lock();
            state.alive(life, "keep")?;
            state.writable("keep")?;
            if state.fault == Some(Fault::Sync) {
                return Err(disk_error("keep", "injected"));
            }
            Ok(state.keep(contents))
        }
        .boxed()
    }

    fn kept(&self) -> Result<Vec<String>, Error> {
        let state = self.disk.shared.state.lock();
        state.alive(self.life, "list")?;
        Ok(state.kept.keys().cloned().collect())
    }

    fn open_kept(&self, name: &str) -> Result<Box<dyn SortedFile>, Error> {
        let state = self.disk.shared.state.lock();
        state.alive(self.life, "open")?;
        match state.kept.get(name) {
            Some(content) => Ok(Box::new(File(content.clone()))),
            None => Err(Error::Corrupt {
                file: FILE.to_owned(),
                key: name.to_owned(),
                reason: "there is no kept file of this name".to_owned(),
            }),
        }
    }

    fn forget(&self, names: &[String]) -> Result<(), Error> {
        let mut state = self.disk.shared.state.lock();
        state.alive(self.life, "remove")?;
        for name in names {
            state.kept.remove(name);
        }
        Ok(())
    }

    fn ingest(&self, files: Vec<Box<dyn SortedFile>>) -> BoxFuture<'static, Result<(), Error>> {
        futures::future::ready(self.ingest_now(&files)).boxed()
    }

    fn checkpoint(&self, directory: &Path) -> BoxFuture<'static, Result<(), Error>> {
        let mut state = self.disk.shared.state.lock();
        let copy = Disk::new();
        copy.shared.state.lock().durable = Arc::clone(&state.durable);
        let result = if state.checkpoints.contains_key(directory) {
            Err(disk_error("checkpoint", "the directory exists"))
        } else {
            state.checkpoints.insert(directory.to_owned(), copy);
            Ok(())
        };
        futures::future::ready(result).boxed()
    }

    fn stats(&self) -> Stats {
        self.disk.shared.state.lock().stats
    }
}

impl Memory {
    fn ingest_now(&self, files: &[Box<dyn SortedFile>]) -> Result<(), Error> {
        let mut batch = Batch::new();
        for file in files {
            decode(files::all(&**file)?, &mut batch)?;
        }
        let mut visible = self.visible.write();
        let mut state = self.disk.shared.state.lock();
        state.alive(self.life, "ingest")?;
        if let (Some(Write::Put(first, _)), Some(Write::Put(last, _))) = (
            batch.writes.iter().min_by_key(put_key),
            batch.writes.iter().max_by_key(put_key),
        ) {
            let unsynced = state.unsynced.iter().flat_map(|batch| &batch.writes);
            if unsynced
                .into_iter()
                .any(|write| touches(write, first, last))
            {
                return Err(disk_error(
                    "ingest",
                    "unsynced writes in the range of the files",
                ));
            }
        }
        apply(Arc::make_mut(&mut visible), &batch);
        apply(Arc::make_mut(&mut state.durable), &batch);
        Ok(())
    }
}

fn put_key<'a>(write: &&'a Write) -> &'a Bytes {
    match write {
        Write::Put(key, _) | Write::Delete(key) | Write::DeleteRange(key, _) => key,
    }
}

/// Whether a write changes anything in `[first, last]`.
fn touches(write: &Write, first: &Bytes, last: &Bytes) -> bool {
    match write {
        Write::Put(key, _) | Write::Delete(key) => key >= first && key <= last,
        Write::DeleteRange(from, to) => from <= last && to > first,
    }
}
