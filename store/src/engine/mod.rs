//! One ordered key-value store on one disk, at batch level.
//!
//! The fault model that everything above relies on, and that every implementation is tested for
//! ([`conformance`]): a batch is atomic; batches become durable in the order they were written;
//! after a power cut the store holds everything written before the last completed
//! [`Engine::sync`] and a prefix, possibly empty, of what was written after it.
//!
//! For `raftdb` a sync is an fsync of the write-ahead log; for `msgdb`, which has none, it is a
//! flush of the memtables. Nothing blocks: a sync is submitted and completes later.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

pub mod batch;
pub mod conformance;
pub mod memory;
#[cfg(feature = "rocksdb")]
pub mod rocks;

pub use batch::{Batch, Write};

use crate::Error;

/// The direction of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// From the lowest key of the range up.
    Ascending,
    /// From the highest key of the range down.
    Descending,
}

/// Called for each record of a scan; `Break` ends it, and so does an error, which the scan returns.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, Error>;

/// Reading, from the store as it is or from a [`Snapshot`].
pub trait Read: Send + Sync {
    /// The value of `key`.
    ///
    /// # Errors
    /// [`Error`] naming the store's file and the key when the disk gives back something corrupt.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error>;

    /// Visits the records with `from <= key < to` in order.
    ///
    /// # Errors
    /// As [`Read::get`], and what `visit` returns.
    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visit<'_>) -> Result<(), Error>;
}

/// A read point; later writes do not change what it shows.
pub type Snapshot = Arc<dyn Read>;

/// Whether records were lost in a range of keys; see [`crate::key::lost`].
///
/// # Errors
/// [`Error::Corrupt`] when some were, and as [`Read::scan`].
pub fn check_lost(read: &dyn Read, file: &str, from: &[u8], to: &[u8]) -> Result<(), Error> {
    let (from, to) = crate::key::lost::notes(from, to);
    read.scan(&from, &to, Order::Ascending, &mut |key, _| {
        Err(Error::Corrupt {
            file: file.to_owned(),
            key: crate::key::readable(key),
            reason: "a block that a compaction met was damaged, and its records are lost"
                .to_owned(),
        })
    })
}

/// A file of sorted records, on its way from one replica to another.
pub trait SortedFile: Send + Sync {
    /// Its length in bytes.
    fn len(&self) -> u64;
    /// Whether it holds nothing.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Reads up to `len` bytes at `offset`.
    ///
    /// # Errors
    /// [`Error`] when the disk does.
    fn read_at(&self, offset: u64, len: usize) -> Result<Bytes, Error>;
    /// Where it lies, when it is a file of its own that can be moved.
    fn path(&self) -> Option<&Path> {
        None
    }
}

/// A file being received.
pub trait IncomingFile: Send {
    /// Adds bytes at its end.
    ///
    /// # Errors
    /// [`Error`] when the disk does.
    fn append(&mut self, data: &[u8]) -> Result<(), Error>;
    /// Ends it; it can be ingested now. Dropping it (or the result) instead removes it.
    ///
    /// # Errors
    /// [`Error`] when the disk does.
    fn finish(self: Box<Self>) -> Result<Box<dyn SortedFile>, Error>;
}

/// The store.
pub trait Engine: Read {
    /// Writes a batch: atomic, and visible on return, but durable only after a later
    /// [`Engine::sync`].
    ///
    /// # Errors
    /// [`Error`]; the node must stop, since what is in memory and on disk may differ from now on.
    fn write(&self, batch: Batch) -> Result<(), Error>;

    /// Makes everything durable that was written before this call.
    ///
    /// # Errors
    /// [`Error`]; fatal, and never retried.
    fn sync(&self) -> BoxFuture<'static, Result<(), Error>>;

    /// A read point.
    fn snapshot(&self) -> Snapshot;

    /// Writes the records `from <= key < to` of a read point to files of about `file_bytes_max`.
    fn export(
        &self,
        read_point: Snapshot,
        from: Vec<u8>,
        to: Vec<u8>,
        file_bytes_max: usize,
    ) -> BoxFuture<'static, Result<Vec<Box<dyn SortedFile>>, Error>>;

    /// Begins to receive a file that another replica exported.
    ///
    /// # Errors
    /// [`Error`] when the disk does.
    fn receive(&self) -> Result<Box<dyn IncomingFile>, Error>;

    /// Makes finished files durable under names of the engine's choice, in the order of the files.
    /// From completion on they outlive the engine and power cuts, until [`Engine::forget`]; a power
    /// cut before completion may leave any of them.
    fn keep(
        &self,
        files: Vec<Box<dyn SortedFile>>,
    ) -> BoxFuture<'static, Result<Vec<String>, Error>>;

    /// The names of all kept files, sorted.
    ///
    /// # Errors
    /// [`Error`] when the disk does.
    fn kept(&self) -> Result<Vec<String>, Error>;

    /// Opens a kept file. It stays kept when it is dropped, and when it is ingested.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when there is none of that name, [`Error`] when the disk refuses.
    fn open_kept(&self, name: &str) -> Result<Box<dyn SortedFile>, Error>;

    /// Removes kept files; a name that there is not is passed over. A power cut may bring them back.
    ///
    /// # Errors
    /// [`Error`] when the disk does.
    fn forget(&self, names: &[String]) -> Result<(), Error>;

    /// Adds the records of finished files. Durable on completion; not atomic with any batch.
    fn ingest(&self, files: Vec<Box<dyn SortedFile>>) -> BoxFuture<'static, Result<(), Error>>;

    /// A consistent copy of everything synced, at `directory`, which must not exist.
    fn checkpoint(&self, directory: &Path) -> BoxFuture<'static, Result<(), Error>>;

    /// Whether compactions may begin from now on: for a while each needs room for all that it
    /// rewrites. They may until this is called.
    fn compact(&self, may: bool);

    /// Rewrites the files that overlap with these ranges (from, to), until no file holds what was
    /// overwritten or removed in them before this call. It may make durable whatever is written
    /// meanwhile, as [`Engine::sync`] does. Done at once by one that has no files.
    fn scour(&self, ranges: Vec<(Vec<u8>, Vec<u8>)>) -> BoxFuture<'static, Result<(), Error>>;

    /// Keeps at most so many bytes of blocks in memory from now on. One that keeps none ignores it.
    fn resize(&self, blocks_bytes: usize) {
        let _ = blocks_bytes;
    }

    /// Counters since it was opened, and what it takes.
    fn stats(&self) -> Stats;
}

/// Counters of an [`Engine`] since it was opened, and what it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Completed syncs.
    pub syncs: u64,
    /// Bytes handed to [`Engine::write`].
    pub bytes_written: u64,
    /// Bytes the engine wrote to disk for them (log, flush, compaction); 0 when not known.
    pub bytes_to_disk: u64,
    /// Bytes that it takes on the disk now, with what is yet to be put into files; about right, and
    /// 0 when not known.
    pub stored_bytes: u64,
    /// Memtables and blocks in memory.
    pub memory_bytes: u64,
}
