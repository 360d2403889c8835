//! An engine in front of another that cuts the power of the whole node at a chosen operation.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use store::Error;
use store::engine::{Batch, Engine, IncomingFile, Order, Read, Snapshot, SortedFile, Stats, Visit};

use firebreak_store as store;

use super::Disks;

/// Operations (writes, begins and ends of syncs, ingestions, files kept and forgotten) until the
/// power is cut; shared by both databases of a node.
#[derive(Clone)]
pub struct Fuse {
    left: Arc<AtomicUsize>,
    burnt: Arc<AtomicBool>,
    disks: Disks,
    log_keep: usize,
}

impl Fuse {
    /// Cuts at the operation `at`, counted from 0; it is not done any more.
    pub fn new(disks: &Disks, at: usize, log_keep: usize) -> Fuse {
        Fuse {
            left: Arc::new(AtomicUsize::new(at)),
            burnt: Arc::default(),
            disks: disks.clone(),
            log_keep,
        }
    }

    /// Whether the power was cut.
    pub fn is_burnt(&self) -> bool {
        self.burnt.load(Ordering::SeqCst)
    }

    fn burn(&self) -> Result<(), Error> {
        let left = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if left.is_ok() {
            return Ok(());
        }
        self.burnt.store(true, Ordering::SeqCst);
        self.disks.power_cut(self.log_keep);
        Err(Error::Disk {
            operation: "any",
            file: "tripwire".to_owned(),
            reason: "the power was cut".to_owned(),
        })
    }
}

/// Any engine: what is in memory alone dies with the process, that is when it is dropped.
pub struct Tripwire {
    pub inner: Arc<dyn Engine>,
    pub fuse: Fuse,
}

impl Read for Tripwire {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.inner.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visit<'_>) -> Result<(), Error> {
        self.inner.scan(from, to, order, visit)
    }
}

impl Engine for Tripwire {
    fn write(&self, batch: Batch) -> Result<(), Error> {
        self.fuse.burn()?;
        self.inner.write(batch)
    }

    fn sync(&self) -> BoxFuture<'static, Result<(), Error>> {
        if let Err(cut) = self.fuse.burn() {
            return Box::pin(async { Err(cut) });
        }
        let sync = self.inner.sync();
        let fuse = self.fuse.clone();
        Box::pin(async move {
            fuse.burn()?;
            sync.await
        })
    }

    fn snapshot(&self) -> Snapshot {
        self.inner.snapshot()
    }

    fn export(
        &self,
        read_point: Snapshot,
        from: Vec<u8>,
        to: Vec<u8>,
        file_bytes_max: usize,
    ) -> BoxFuture<'static, Result<Vec<Box<dyn SortedFile>>, Error>> {
        self.inner.export(read_point, from, to, file_bytes_max)
    }

    fn receive(&self) -> Result<Box<dyn IncomingFile>, Error> {
        self.inner.receive()
    }

    fn keep(
        &self,
        files: Vec<Box<dyn SortedFile>>,
    ) -> BoxFuture<'static, Result<Vec<String>, Error>> {
        let keep = self.inner.keep(files);
        let fuse = self.fuse.clone();
        Box::pin(async move {
            fuse.burn()?;
            let names = keep.await?;
            fuse.burn()?;
            Ok(names)
        })
    }

    fn kept(&self) -> Result<Vec<String>, Error> {
        self.inner.kept()
    }

    fn open_kept(&self, name: &str) -> Result<Box<dyn SortedFile>, Error> {
        self.inner.open_kept(name)
    }

    fn forget(&self, names: &[String]) -> Result<(), Error> {
        for name in names {
            self.fuse.burn()?;
            self.inner.forget(std::slice::from_ref(name))?;
        }
        Ok(())
    }

    fn ingest(&self, files: Vec<Box<dyn SortedFile>>) -> BoxFuture<'static, Result<(), Error>> {
        if let Err(cut) = self.fuse.burn() {
            return Box::pin(async { Err(cut) });
        }
        let ingest = self.inner.ingest(files);
        let fuse = self.fuse.clone();
        Box::pin(async move {
            ingest.await?;
            fuse.burn()
        })
    }

    fn checkpoint(&self, directory: &Path) -> BoxFuture<'static, Result<(), Error>> {
        self.inner.checkpoint(directory)
    }

    fn scour(&self, ranges: Vec<(Vec<u8>, Vec<u8>)>) -> BoxFuture<'static, Result<(), Error>> {
        self.inner.scour(ranges)
    }

    fn compact(&self, may: bool) {
        self.inner.compact(may);
    }

    fn stats(&self) -> Stats {
        self.inner.stats()
    }
}
