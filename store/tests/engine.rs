//! The memory engine through the one suite, and its faults. (RocksDB: `rocks.rs`.)

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it cannot go on"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use firebreak_store::Error;
use firebreak_store::engine::conformance::{Bench, suite};
use firebreak_store::engine::memory::{Disk, Fault, Memory};
use firebreak_store::engine::{Batch, Engine, Read};

/// Stores in memory whose power cuts keep a rotating share of the unsynced batches.
#[derive(Default)]
struct InMemory {
    open: Vec<(Arc<dyn Engine>, Disk)>,
    cuts: usize,
}

impl InMemory {
    fn open(&mut self, disk: Disk) -> Arc<dyn Engine> {
        let engine: Arc<dyn Engine> = Arc::new(Memory::open(&disk));
        self.open.push((Arc::clone(&engine), disk));
        engine
    }

    fn disk(&self, engine: &dyn Engine) -> Disk {
        let same =
            |(open, _): &&(Arc<dyn Engine>, Disk)| std::ptr::addr_eq(Arc::as_ptr(open), engine);
        self.open.iter().find(same).unwrap().1.clone()
    }
}

impl Bench for InMemory {
    fn create(&mut self) -> Arc<dyn Engine> {
        self.open(Disk::new())
    }

    fn power_cut(&mut self, engine: Arc<dyn Engine>) -> Arc<dyn Engine> {
        let disk = self.disk(engine.as_ref());
        self.cuts += 1;
        let cuts = self.cuts;
        disk.power_cut_with(|unsynced| cuts % (unsynced + 1));
        assert!(
            engine.write(Batch::new()).is_err(),
            "an engine dies with its power"
        );
        self.open(disk)
    }

    fn checkpoint_directory(&mut self) -> PathBuf {
        PathBuf::from("/checkpoint")
    }

    fn open_checkpoint(&mut self, engine: &dyn Engine, directory: &Path) -> Arc<dyn Engine> {
        let copy = self.disk(engine).checkpointed(directory).unwrap();
        self.open(copy)
    }
}

#[tokio::test]
async fn the_memory_engine_conforms() {
    suite(&mut InMemory::default()).await;
}

fn put(key: &str, value: &str) -> Batch {
    let mut batch = Batch::new();
    batch.put(key.to_owned(), value.to_owned());
    batch
}

#[tokio::test(start_paused = true)]
async fn a_memory_disk_takes_the_time_it_was_told_and_can_be_held() {
    let memory = Memory::new();
    let disk = memory.disk();
    disk.set_sync_latency(Duration::from_millis(4));
    let before = tokio::time::Instant::now();
    memory.write(put("a", "1")).unwrap();
    memory.sync().await.unwrap();
    assert_eq!(before.elapsed(), Duration::from_millis(4));

    disk.hold_syncs(true);
    memory.write(put("b", "1")).unwrap();
    let held = tokio::spawn(memory.sync());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!held.is_finished() && disk.unsynced() == 1);
    disk.hold_syncs(false);
    held.await.unwrap().unwrap();
    assert_eq!(disk.unsynced(), 0);
}

#[tokio::test]
async fn injected_faults_and_decay_show() {
    let memory = Memory::new();
    let disk = memory.disk();
    memory.write(put("a", "1")).unwrap();
    memory.sync().await.unwrap();
    disk.set_fault(Some(Fault::Full));
    assert!(matches!(
        memory.write(put("b", "1")),
        Err(Error::NoSpace { .. })
    ));
    disk.set_fault(Some(Fault::Write));
    assert!(matches!(
        memory.write(put("b", "1")),
        Err(Error::Disk {
            operation: "write",
            ..
        })
    ));
    disk.set_fault(Some(Fault::Read));
    assert!(memory.get(b"a").is_err());
    disk.set_fault(None);
    memory.write(put("b", "1")).unwrap();
    disk.set_fault(Some(Fault::Sync));
    assert!(memory.sync().await.is_err());
    assert_eq!(disk.unsynced(), 1, "a failed sync makes nothing durable");
    disk.set_fault(None);
    assert!(disk.corrupt(b"a", |value| value[0] ^= 1));
    assert!(
        !disk.corrupt(b"b", |_| ()),
        "what is not durable cannot decay"
    );
    disk.power_cut(0);
    let memory = Memory::open(&disk);
    assert_eq!(memory.get(b"a").unwrap().as_deref(), Some(&b"0"[..]));
    assert_eq!(memory.get(b"b").unwrap(), None);
}

#[tokio::test]
async fn files_are_not_ingested_over_unsynced_writes() {
    let source = Memory::new();
    source.write(put("b", "1")).unwrap();
    let export = || source.export(source.snapshot(), b"a".to_vec(), b"z".to_vec(), 100);
    let target = Memory::new();
    target.write(put("b", "0")).unwrap();
    assert!(target.ingest(export().await.unwrap()).await.is_err());
    target.sync().await.unwrap();
    target.ingest(export().await.unwrap()).await.unwrap();
    assert_eq!(target.get(b"b").unwrap().as_deref(), Some(&b"1"[..]));
}

#[tokio::test]
async fn a_disk_that_fails_keeps_no_file() {
    let source = Memory::new();
    source.write(put("b", "1")).unwrap();
    let export = || source.export(source.snapshot(), b"a".to_vec(), b"z".to_vec(), 100);
    let target = Memory::new();
    for fault in [Fault::Write, Fault::Sync, Fault::Full] {
        target.disk().set_fault(Some(fault));
        assert!(target.keep(export().await.unwrap()).await.is_err());
        assert_eq!(target.disk().kept(), 0, "{fault:?}");
    }
    target.disk().set_fault(None);
    let keep = target.keep(export().await.unwrap());
    target.disk().power_cut(0);
    assert!(keep.await.is_err(), "what was begun before a power cut");
    assert_eq!(target.disk().kept(), 0);
}
