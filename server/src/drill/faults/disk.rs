//! Faults of a node's disk: syncs that are slow or stall, and a disk that counts as full.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use store::Error;
use store::engine::{Batch, Engine, IncomingFile, Order, Read, Snapshot, SortedFile, Stats, Visit};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// How syncs are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Syncs {
    /// As the disk has it.
    #[default]
    Usual,
    /// So much longer.
    Slow(Duration),
    /// They do not end.
    Stalled,
}

/// What is wrong with the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wrong {
    /// How syncs are.
    pub syncs: Syncs,
    /// It counts as full but for its reserve.
    pub full: bool,
}

/// Turns faults of a disk on and off. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct DiskSwitch {
    now: watch::Sender<Wrong>,
}

impl DiskSwitch {
    /// From now on this is wrong, and nothing else.
    pub fn set(&self, wrong: Wrong) {
        self.now.send_if_modified(|now| {
            let changes = *now != wrong;
            *now = wrong;
            changes
        });
    }

    /// Whether the disk counts as full.
    pub fn is_full(&self) -> bool {
        self.now.borrow().full
    }

    /// Completes at the next change.
    pub async fn changed(changes: &mut watch::Receiver<Wrong>) {
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Tells of changes.
    pub fn subscribe(&self) -> watch::Receiver<Wrong> {
        self.now.subscribe()
    }

    /// Completes when a sync that has ended may be told of.
    async fn hold(&self) {
        let began = Instant::now();
        let mut changes = self.now.subscribe();
        loop {
            let syncs = changes.borrow_and_update().syncs;
            match syncs {
                Syncs::Usual => return,
                Syncs::Stalled => DiskSwitch::changed(&mut changes).await,
                Syncs::Slow(by) if Instant::now() >= began + by => return,
                Syncs::Slow(by) => tokio::select! {
                    biased;
                    () = sleep_until(began + by) => return,
                    () = DiskSwitch::changed(&mut changes) => {}
                },
            }
        }
    }
}

/// A database whose syncs a [`DiskSwitch`] can hold up. What was written is durable when the disk says
/// so; only the word of it is late.
pub struct Held {
    below: Arc<dyn Engine>,
    switch: DiskSwitch,
}

impl Held {
    /// Over a database.
    pub fn new(below: Arc<dyn Engine>, switch: DiskSwitch) -> Held {
        Held { below, switch }
    }
}

impl Read for Held {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.below.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visit<'_>) -> Result<(), Error> {
        self.below.scan(from, to, order, visit)
    }
}

impl Engine for Held {
    fn write(&self, batch: Batch) -> Result<(), Error> {
        self.below.write(batch)
    }

    fn sync(&self) -> BoxFuture<'static, Result<(), Error>> {
        let (synced, switch) = (self.below.sync(), self.switch.clone());
        Box::pin(async move {
            synced.await?;
            switch.hold().await;
            Ok(())
        })
    }

    fn snapshot(&self) -> Snapshot {
        self.below.snapshot()
    }

    fn export(
        &self,
        read_point: Snapshot,
        from: Vec<u8>,
        to: Vec<u8>,
        file_bytes_max: usize,
    ) -> BoxFuture<'static, Result<Vec<Box<dyn SortedFile>>, Error>> {
        self.below.export(read_point, from, to, file_bytes_max)
    }

    fn receive(&self) -> Result<Box<dyn IncomingFile>, Error> {
        self.below.receive()
    }

    fn keep(
        &self,
        files: Vec<Box<dyn SortedFile>>,
    ) -> BoxFuture<'static, Result<Vec<String>, Error>> {
        self.below.keep(files)
    }

    fn kept(&self) -> Result<Vec<String>, Error> {
        self.below.kept()
    }

    fn open_kept(&self, name: &str) -> Result<Box<dyn SortedFile>, Error> {
        self.below.open_kept(name)
    }

    fn forget(&self, names: &[String]) -> Result<(), Error> {
        self.below.forget(names)
    }

    fn ingest(&self, files: Vec<Box<dyn SortedFile>>) -> BoxFuture<'static, Result<(), Error>> {
        self.below.ingest(files)
    }

    fn checkpoint(&self, directory: &Path) -> BoxFuture<'static, Result<(), Error>> {
        self.below.checkpoint(directory)
    }

    fn compact(&self, may: bool) {
        self.below.compact(may);
    }

    fn scour(&self, ranges: Vec<(Vec<u8>, Vec<u8>)>) -> BoxFuture<'static, Result<(), Error>> {
        self.below.scour(ranges)
    }

    fn resize(&self, blocks_bytes: usize) {
        self.below.resize(blocks_bytes);
    }

    fn stats(&self) -> Stats {
        self.below.stats()
    }
}
