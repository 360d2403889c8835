//! The store on RocksDB, in its two roles.
//!
//! | | `raftdb` ([`Rocks::open_log`]) | `msgdb` ([`Rocks::open_state`]) |
//! |---|---|---|
//! | write-ahead log | on | off |
//! | a sync is | one fsync of it for all who wait | a flush of the memtable as of the call |
//! | memtables are flushed | when full | by a sync only, never by RocksDB itself |
//!
//! Each is one column family, so a batch is atomic, flushed or not. Any error of a write, a flush
//! or in the background is kept and returned by every later write and sync: the node must stop.

pub mod crash;
mod files;
mod kept;
mod options;
mod salvage;
mod torn;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::statistics::Ticker;
use rocksdb::{
    BottommostLevelCompaction, Cache, CompactOptions, DB, ErrorKind, FlushOptions, Options,
    ReadOptions, SnapshotWithThreadMode, WriteBatch, WriteOptions, properties,
};

use super::batch::Write;
use super::{Batch, Engine, IncomingFile, Order, Read, Snapshot, SortedFile, Stats, Visit};
use crate::key::readable;
use crate::{Error, Sizes};
use files::Transfer;
use kept::Kept;
use worker::{Job, Worker};

/// Blocks of the log kept in memory: hardly ever read, see the tail that the log itself keeps.
pub const LOG_BLOCK_CACHE_BYTES: usize = 8 * 1024 * 1024;
/// Blocks of state kept in memory, unless said otherwise.
pub const STATE_BLOCK_CACHE_BYTES: usize = 64 * 1024 * 1024;

/// What a database may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Blocks, indexes and filters, bytes.
    pub cache_bytes: usize,
    /// The log's memtable at most, bytes; the state's is flushed from above.
    pub memtable_bytes: usize,
    /// Files that are kept open.
    pub files_max: i32,
}

impl Memory {
    /// What a database has when nothing else is said, beside its cache.
    pub fn with_cache(cache_bytes: usize) -> Memory {
        Memory {
            cache_bytes,
            memtable_bytes: usize::MAX,
            files_max: 400,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Log,
    State,
}

/// A RocksDB database. Dropping it waits for its two threads; the files are closed when its
/// snapshots are dropped too.
pub struct Rocks {
    // Dropped first, so that their threads give back the database before it is closed.
    syncer: Worker<oneshot::Sender<Result<(), Error>>>,
    worker: Worker<Job>,
    transfer: Arc<Transfer>,
    kept: Arc<Kept>,
    /// Options that files are exported with; they share the statistics.
    options: Arc<Options>,
    write_options: WriteOptions,
    cache: Cache,
    db: Arc<Db>,
}

/// What the threads share.
struct Db {
    rocks: DB,
    role: Role,
    path: PathBuf,
    failed: OnceLock<Error>,
    syncs: AtomicU64,
    bytes_written: AtomicU64,
}

impl Rocks {
    /// Opens or creates `raftdb` at `path`.
    ///
    /// # Errors
    /// [`Error`] when the disk or RocksDB refuses; [`Error::Damaged`] when its write-ahead log is
    /// damaged before its tail.
    pub fn open_log(path: &Path) -> Result<Rocks, Error> {
        Rocks::open_log_sized(path, Sizes::default())
    }

    /// As [`Rocks::open_log`], on a disk for which things must not grow larger than this.
    ///
    /// # Errors
    /// As [`Rocks::open_log`].
    pub fn open_log_sized(path: &Path, sizes: Sizes) -> Result<Rocks, Error> {
        Rocks::open_log_with(path, Memory::with_cache(LOG_BLOCK_CACHE_BYTES), sizes)
    }

    /// As [`Rocks::open_log_sized`], within these bounds.
    ///
    /// # Errors
    /// As [`Rocks::open_log`].
    pub fn open_log_with(path: &Path, memory: Memory, sizes: Sizes) -> Result<Rocks, Error> {
        Rocks::open(path, Role::Log, memory, sizes)
    }

    /// Opens or creates `msgdb` at `path`, with [`STATE_BLOCK_CACHE_BYTES`].
    ///
    /// # Errors
    /// As [`Rocks::open_log`].
    pub fn open_state(path: &Path) -> Result<Rocks, Error> {
        Rocks::open_state_sized(path, STATE_BLOCK_CACHE_BYTES, Sizes::default())
    }

    /// Opens or creates `msgdb` at `path`, keeping at most `block_cache_bytes` of blocks, indexes
    /// and filters in memory, on a disk for which things must not grow larger than `sizes`.
    ///
    /// # Errors
    /// As [`Rocks::open_log`].
    pub fn open_state_sized(
        path: &Path,
        block_cache_bytes: usize,
        sizes: Sizes,
    ) -> Result<Rocks, Error> {
        Rocks::open_state_with(path, Memory::with_cache(block_cache_bytes), sizes)
    }

    /// As [`Rocks::open_state_sized`], within these bounds.
    ///
    /// # Errors
    /// As [`Rocks::open_log`].
    pub fn open_state_with(path: &Path, memory: Memory, sizes: Sizes) -> Result<Rocks, Error> {
        Rocks::open(path, Role::State, memory, sizes)
    }

    /// How many writes (not batches) were ever made to the database and are there, synced or not:
    /// the number of the last one. After a crash it tells which batches survived.
    pub fn sequence(&self) -> u64 {
        self.db.rocks.latest_sequence_number()
    }

    fn open(path: &Path, role: Role, memory: Memory, sizes: Sizes) -> Result<Rocks, Error> {
        let refused = |error: rocksdb::Error| from_rocks("open", path, &error, &[]);
        let (options, cache) = options::of(role, memory, sizes).map_err(refused)?;
        salvage::if_needed(path, &options)?;
        let rocks = match DB::open(&options, path) {
            Err(error) if role == Role::Log && error.kind() == ErrorKind::Corruption => {
                let Some(bytes) = torn::cut_off(path)? else {
                    return Err(match torn::first_damage(path)? {
                        Some((file, offset)) => Error::Damaged {
                            file: file.display().to_string(),
                            offset,
                            reason: error.into_string(),
                        },
                        None => refused(error),
                    });
                };
                tracing::warn!(
                    path = %path.display(),
                    bytes,
                    %error,
                    "cut off a batch that a power cut left torn; it was never acknowledged"
                );
                DB::open(&options, path)
            }
            opened => opened,
        }
        .map_err(refused)?;
        // The database is locked from here on, so what lies beside it is no other process's.
        let transfer = Arc::new(Transfer::open(path)?);
        let kept = Arc::new(Kept::open(path)?);
        let mut write_options = WriteOptions::default();
        write_options.disable_wal(role == Role::State);
        let db = Arc::new(Db {
            rocks,
            role,
            path: path.to_owned(),
            failed: OnceLock::new(),
            syncs: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
        });
        Ok(Rocks {
            syncer: Worker::syncer(&db)?,
            worker: Worker::long(&db)?,
            transfer,
            kept,
            options: Arc::new(options),
            write_options,
            cache,
            db,
        })
    }
}

impl Db {
    fn error(&self, operation: &'static str, error: &rocksdb::Error, key: &[u8]) -> Error {
        from_rocks(operation, &self.path, error, key)
    }

    fn disk_error(&self, operation: &'static str, reason: &str) -> Error {
        Error::Disk {
            operation,
            file: self.path.display().to_string(),
            reason: reason.to_owned(),
        }
    }

    /// Why a write or a flush was refused: RocksDB repeats what a flush or a compaction has met, which
    /// is no matter of the shard that happens to write.
    fn refused(&self, operation: &'static str, error: &rocksdb::Error) -> Error {
        let background = self.check_background().err();
        let error = background.unwrap_or_else(|| self.error(operation, error, &[]));
        self.fail(&error);
        error
    }

    /// Keeps the first error.
    fn fail(&self, error: &Error) {
        let _ = self.failed.set(error.clone());
    }

    fn check_failed(&self) -> Result<(), Error> {
        self.failed.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Whether a flush or compaction has failed.
    fn check_background(&self) -> Result<(), Error> {
        self.check_failed()?;
        if self.property(properties::BACKGROUND_ERRORS)? == 0 {
            return Ok(());
        }
        let reason = match salvage::is_needed(&self.path) {
            Some(met) => format!(
                "{met}; the next start copies what can be read, and the shards whose records cannot \
                 are rebuilt from other nodes"
            ),
            None => "see the file LOG in the database".to_owned(),
        };
        let error = self.disk_error("flush or compact", &reason);
        self.fail(&error);
        Err(error)
    }

    /// Memtables switched and not yet in a file.
    fn unflushed_memtables(&self) -> Result<u64, Error> {
        self.property(properties::NUM_IMMUTABLE_MEM_TABLE)
    }

    /// Bytes in its files, and in memtables that will be files; 0 when RocksDB does not say.
    fn stored_bytes(&self) -> u64 {
        let files = self.property(properties::LIVE_SST_FILES_SIZE);
        let memtables = self.property(properties::CUR_SIZE_ALL_MEM_TABLES);
        files.and_then(|files| Ok(files + memtables?)).unwrap_or(0)
    }

    /// Memtables and blocks in memory; 0 when RocksDB does not say.
    fn memory_bytes(&self) -> u64 {
        let memtables = self.property(properties::SIZE_ALL_MEM_TABLES);
        let blocks = self.property(properties::BLOCK_CACHE_USAGE);
        memtables
            .and_then(|memtables| Ok(memtables + blocks?))
            .unwrap_or(0)
    }

    fn property(&self, name: &properties::PropName) -> Result<u64, Error> {
        match self.rocks.property_int_value(name) {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(self.disk_error("read a property", name.as_str())),
            Err(error) => Err(self.error("read a property", &error, &[])),
        }
    }
}

/// Finds out what RocksDB means; it says it in words.
fn from_rocks(operation: &'static str, path: &Path, error: &rocksdb::Error, key: &[u8]) -> Error {
    let reason: &str = error.as_ref();
    // "… in /data/msgdb/000012.sst offset 0 size 4096"
    let named = reason
        .split_whitespace()
        .map(|word| word.trim_matches(|c: char| matches!(c, ':' | ',' | '"' | '\'')))
        .find(|word| word.starts_with('/') || word.ends_with(".sst") || word.ends_with(".log"));
    let file = named.map_or_else(|| path.display().to_string(), str::to_owned);
    if error.kind() == ErrorKind::Corruption {
        let key = if key.is_empty() {
            "unknown".to_owned()
        } else {
            readable(key)
        };
        return Error::Corrupt {
            file,
            key,
            reason: reason.to_owned(),
        };
    }
    if reason.contains("No space left") || reason.contains("space limit reached") {
        return Error::NoSpace { file };
    }
    Error::Disk {
        operation,
        file,
        reason: reason.to_owned(),
    }
}

fn from_io(operation: &'static str, path: &Path, error: &std::io::Error) -> Error {
    let file = path.display().to_string();
    if error.kind() == std::io::ErrorKind::StorageFull {
        return Error::NoSpace { file };
    }
    Error::Disk {
        operation,
        file,
        reason: error.to_string(),
    }
}

impl Read for Rocks {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let value = self
            .db
            .rocks
            .get_pinned(key)
            .map_err(|e| self.db.error("read", &e, key))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visit<'_>) -> Result<(), Error> {
        scan(&self.db, ReadOptions::default(), (from, to), order, visit)
    }
}

fn scan(
    db: &Db,
    mut options: ReadOptions,
    (from, to): (&[u8], &[u8]),
    order: Order,
    visit: Visit<'_>,
) -> Result<(), Error> {
    if from >= to {
        return Ok(());
    }
    options.set_iterate_lower_bound(from);
    options.set_iterate_upper_bound(to);
    let mut iterator = db.rocks.raw_iterator_opt(options);
    match order {
        Order::Ascending => iterator.seek_to_first(),
        Order::Descending => iterator.seek_to_last(),
    }
    while let Some((key, value)) = iterator.item() {
        if visit(key, value)?.is_break() {
            return Ok(());
        }
        match order {
            Order::Ascending => iterator.next(),
            Order::Descending => iterator.prev(),
        }
    }
    iterator
        .status()
        .map_err(|error| db.error("scan", &error, from))
}

/// A read point that keeps its database open.
struct Point {
    // Dropped before `db`, which it points into.
    snapshot: SnapshotWithThreadMode<'static, DB>,
    db: Arc<Db>,
}

impl Point {
    fn new(db: &Arc<Db>) -> Point {
        let snapshot = db.rocks.snapshot();
        // SAFETY: the snapshot borrows `db.rocks`, which lies inside the `Arc` that the field keeps
        // alive, so its address is stable; fields are dropped in order, the snapshot
        // before `db`; and the field is private and never moved out.
        #[allow(
            unsafe_code,
            reason = "rocksdb offers no snapshot that owns its database"
        )]
        let snapshot = unsafe {
            std::mem::transmute::<SnapshotWithThreadMode<'_, DB>, SnapshotWithThreadMode<'static, DB>>(
                snapshot,
            )
        };
        Point {
            snapshot,
            db: Arc::clone(db),
        }
    }
}

impl Read for Point {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let value = self
            .snapshot
            .get_pinned(key)
            .map_err(|e| self.db.error("read", &e, key))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visit<'_>) -> Result<(), Error> {
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.snapshot);
        scan(&self.db, options, (from, to), order, visit)
    }
}

/// Sorts the writes by key, where that changes nothing: neighbours then share most of their way
/// down the memtable's skip list, which is half of what a write costs.
fn sort(writes: &mut [Write]) {
    let ranges = writes
        .iter()
        .any(|write| matches!(write, Write::DeleteRange(..)));
    if !ranges {
        // Stable: of two writes of one key the later one stays the later one.
        writes.sort_by(|a, b| a.key().cmp(b.key()));
    }
}

impl Engine for Rocks {
    fn write(&self, mut batch: Batch) -> Result<(), Error> {
        self.db.check_failed()?;
        if self.db.role == Role::State {
            sort(&mut batch.writes);
        }
        // RocksDB adds a tag and lengths to each write.
        let capacity = batch.bytes() + 16 * batch.writes.len() + 16;
        let mut writes = WriteBatch::with_capacity_bytes(capacity);
        for write in &batch.writes {
            match write {
                Write::Put(key, value) => writes.put(key, value),
                Write::Delete(key) => writes.delete(key),
                Write::DeleteRange(from, to) if from < to => writes.delete_range(from, to),
                Write::DeleteRange(..) => {}
            }
        }
        self.db
            .bytes_written
            .fetch_add(batch.bytes() as u64, Ordering::Relaxed);
        self.db
            .rocks
            .write_opt(writes, &self.write_options)
            .map_err(|error| self.db.refused("write", &error))
    }

    fn sync(&self) -> BoxFuture<'static, Result<(), Error>> {
        if let Err(error) = self.db.check_failed() {
            return futures::future::ready(Err(error)).boxed();
        }
        if self.db.role == Role::State {
            // Switches the memtable and returns; later writes go to the next one.
            let mut options = FlushOptions::default();
            options.set_wait(false);
            if let Err(error) = self.db.rocks.flush_opt(&options) {
                let error = self.db.refused("flush", &error);
                return futures::future::ready(Err(error)).boxed();
            }
        }
        self.syncer.request(&self.db)
    }

    fn snapshot(&self) -> Snapshot {
        Arc::new(Point::new(&self.db))
    }

    fn export(
        &self,
        read_point: Snapshot,
        from: Vec<u8>,
        to: Vec<u8>,
        file_bytes_max: usize,
    ) -> BoxFuture<'static, Result<Vec<Box<dyn SortedFile>>, Error>> {
        let (transfer, options) = (Arc::clone(&self.transfer), Arc::clone(&self.options));
        self.worker.run(&self.db, "export", move |db| {
            files::export(
                db,
                &transfer,
                &options,
                &read_point,
                (&from, &to),
                file_bytes_max,
            )
        })
    }

    fn receive(&self) -> Result<Box<dyn IncomingFile>, Error> {
        Ok(Box::new(self.transfer.receive()?))
    }

    fn keep(
        &self,
        files: Vec<Box<dyn SortedFile>>,
    ) -> BoxFuture<'static, Result<Vec<String>, Error>> {
        let (transfer, kept) = (Arc::clone(&self.transfer), Arc::clone(&self.kept));
        self.worker
            .run(&self.db, "keep", move |_| kept.keep(&transfer, files))
    }

    fn kept(&self) -> Result<Vec<String>, Error> {
        self.kept.names()
    }

    fn open_kept(&self, name: &str) -> Result<Box<dyn SortedFile>, Error> {
        self.kept.open_file(name)
    }

    fn forget(&self, names: &[String]) -> Result<(), Error> {
        self.kept.forget(names)
    }

    fn ingest(&self, files: Vec<Box<dyn SortedFile>>) -> BoxFuture<'static, Result<(), Error>> {
        let (transfer, kept) = (Arc::clone(&self.transfer), Arc::clone(&self.kept));
        self.worker.run(&self.db, "ingest", move |db| {
            files::ingest(db, &transfer, &kept, files)
        })
    }

    fn checkpoint(&self, directory: &Path) -> BoxFuture<'static, Result<(), Error>> {
        let directory = directory.to_owned();
        self.worker.run(&self.db, "checkpoint", move |db| {
            // A limit that is never reached: the checkpoint must not flush. It takes the files
            // there are, and the write-ahead log where there is one.
            Checkpoint::new(&db.rocks)
                .and_then(|checkpoint| {
                    checkpoint.create_checkpoint_with_log_size(&directory, u64::MAX)
                })
                .map_err(|error| db.error("checkpoint", &error, &[]))
        })
    }

    fn compact(&self, may: bool) {
        let value = if may { "false" } else { "true" };
        // It writes a file, and is nobody's to wait for; without it compactions begin as before.
        drop(self.worker.run(&self.db, "set options", move |db| {
            let set = db.rocks.set_options(&[("disable_auto_compactions", value)]);
            if let Err(error) = &set {
                tracing::warn!(path = %db.path.display(), %error, "compactions cannot be held back");
            }
            Ok(())
        }));
    }

    fn scour(&self, ranges: Vec<(Vec<u8>, Vec<u8>)>) -> BoxFuture<'static, Result<(), Error>> {
        self.worker.run(&self.db, "erase", move |db| {
            if db.role == Role::Log {
                // The write-ahead log goes with the memtable that it is for.
                db.rocks
                    .flush()
                    .map_err(|error| db.refused("flush", &error))?;
            }
            let mut options = CompactOptions::default();
            options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
            // Beside others: the database has one thread for all of them.
            options.set_exclusive_manual_compaction(false);
            for (from, to) in &ranges {
                let (from, to) = (Some(&from[..]), Some(&to[..]));
                db.rocks.compact_range_opt(from, to, &options);
                db.check_background()?;
            }
            Ok(())
        })
    }

    fn resize(&self, blocks_bytes: usize) {
        self.cache.clone().set_capacity(blocks_bytes);
    }

    fn stats(&self) -> Stats {
        let to_disk = [
            Ticker::WalFileBytes,
            Ticker::FlushWriteBytes,
            Ticker::CompactWriteBytes,
        ];
        Stats {
            syncs: self.db.syncs.load(Ordering::Relaxed),
            bytes_written: self.db.bytes_written.load(Ordering::Relaxed),
            bytes_to_disk: to_disk
                .into_iter()
                .map(|t| self.options.get_ticker_count(t))
                .sum(),
            stored_bytes: self.db.stored_bytes(),
            memory_bytes: self.db.memory_bytes(),
        }
    }
}
