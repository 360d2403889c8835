//! What the simulated disk costs. Run by hand:
//! `cargo test --release -p firebreak-store --test disk_bench -- --ignored --nocapture`

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a measurement of real time on this machine, which fails where it cannot go on"
)]

use std::time::Instant;

use firebreak_store::engine::memory::{Disk, Memory};
use firebreak_store::engine::{Batch, Engine, Read};

const BATCHES: u32 = 100_000;
const RECORDS: u32 = 3;

/// A batch of new records among those of a thousand conversations.
fn batch(n: u32) -> Batch {
    let mut batch = Batch::new();
    for kind in 0..RECORDS {
        let key = [n % 1_000, kind, n].map(u32::to_be_bytes).concat();
        batch.put(key, vec![7; 200]);
    }
    batch
}

fn timed(what: &str, times: u32, mut work: impl FnMut()) {
    let before = Instant::now();
    work();
    println!("{what}: {:.2?} each", before.elapsed() / times);
}

#[tokio::test]
#[ignore = "a measurement"]
async fn what_operations_cost() {
    let disk = Disk::new();
    let memory = Memory::open(&disk);
    let before = Instant::now();
    for n in 0..BATCHES {
        memory.write(batch(n)).unwrap();
        memory.sync().await.unwrap();
    }
    println!(
        "write of {RECORDS} records and sync: {:.2?}",
        before.elapsed() / BATCHES
    );
    timed("get", BATCHES, || {
        for n in 0..BATCHES {
            let key = [n % 1_000, 1, n].map(u32::to_be_bytes).concat();
            assert!(memory.get(&key).unwrap().is_some());
        }
    });
    timed("read point, then a write", 100, || {
        for n in 0..100 {
            let point = memory.snapshot();
            memory.write(batch(BATCHES + n)).unwrap();
            drop(point);
        }
    });
    memory.sync().await.unwrap();
    timed("opening, then a write", 100, || {
        for n in 0..100 {
            let memory = Memory::open(&disk);
            memory.write(batch(BATCHES + 100 + n)).unwrap();
        }
    });
}
