//! What an append costs. Run by name, on a quiet machine:
//!
//! ```text
//! cargo test --release -p firebreak-store --features rocksdb --test log_bench -- --ignored --nocapture
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "a measurement of real time on this machine, which fails where it cannot go on"
)]
#![cfg(feature = "rocksdb")]

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use firebreak_store::engine::rocks::Rocks;
use firebreak_store::engine::{Batch, Engine, Read};
use firebreak_store::{Log, Position, Record};
use futures::channel::oneshot;
use model::id::ShardId;

const ENTRY_BYTES: usize = 64 * (256 + 60);

/// CPU time of this process.
fn cpu() -> Duration {
    let own: u64 = fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
        .filter_map(|stat| stat.split(' ').next()?.parse::<u64>().ok())
        .sum();
    Duration::from_nanos(own)
}

/// CPU time of this thread.
fn thread_cpu() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

/// Bytes that compress like text, and differ.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut data = Vec::with_capacity(len + 8);
    while data.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        data.extend(state.to_le_bytes().map(|byte| b'a' + (byte & 15)));
    }
    data.truncate(len);
    data
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn append_64_messages_of_256_bytes() {
    for (shards, in_flight) in [(1, 1), (1, 4), (16, 1), (16, 4), (100, 1)] {
        let root = tempfile::tempdir().unwrap();
        let engine = Arc::new(Rocks::open_log(&root.path().join("raftdb")).unwrap());
        let (log, writer) = Log::open(engine).unwrap();
        let writer = tokio::spawn(writer);
        let data = Bytes::from(noise(1, ENTRY_BYTES));
        let rounds = 8_000 / shards / in_flight;
        let (begun, cpu_before) = (Instant::now(), cpu());
        let tasks: Vec<_> = (0..shards)
            .map(|n| {
                let shard = log.shard(ShardId(n as u32)).unwrap();
                let data = data.clone();
                tokio::spawn(async move {
                    for round in 0..rounds {
                        let mut waiting = Vec::new();
                        for n in 0..in_flight {
                            let index = (round * in_flight + n) as u64;
                            let position = Position { term: 1, index };
                            let record = Record {
                                position,
                                data: data.clone(),
                            };
                            let (sender, receiver) = oneshot::channel();
                            shard.append(vec![record], Box::new(move |r| drop(sender.send(r))));
                            waiting.push(receiver);
                        }
                        for done in waiting {
                            done.await.unwrap().unwrap();
                        }
                        // As after a flush of the state.
                        if round % 100 == 99 {
                            let last = shard.last().unwrap();
                            shard.purge(last).await.unwrap();
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let (wall, cpu) = (begun.elapsed(), cpu() - cpu_before);
        let appends = (rounds * shards * in_flight) as u128;
        let stats = log.stats();
        println!(
            "{shards:>3} shards × {in_flight}: {:>6} µs wall, {:>4} µs CPU for an append of 64 × 256 B; \
             {} appends for a sync; {:.2} bytes to disk for each",
            wall.as_micros() / appends,
            cpu.as_micros() / appends,
            appends / u128::from(stats.syncs.max(1)),
            stats.bytes_to_disk as f64 / stats.bytes_written as f64,
        );
        drop(log);
        writer.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn write_and_flush_state() {
    let root = tempfile::tempdir().unwrap();
    let engine = Rocks::open_state(&root.path().join("msgdb")).unwrap();
    let (begun, cpu_before) = (Instant::now(), cpu());
    let caller_before = thread_cpu();
    let messages = 1_000_000u64;
    let mut unflushed = 0;
    let mut flush = None;
    for batch_number in 0..messages / 64 {
        let mut batch = Batch::new();
        for n in 0..64 {
            let number = batch_number * 64 + n;
            let conversation = (number * 7919) % 1_000;
            let hash = conversation
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .to_be_bytes();
            // A message and its dedup record, after a lookup that misses.
            let dedup = [&hash[..], b"d", &noise(number, 16)].concat();
            assert!(engine.get(&dedup).unwrap().is_none());
            batch.put(
                [&hash[..], b"m", &number.to_be_bytes()].concat(),
                noise(number, 300),
            );
            batch.put(dedup, noise(number, 40));
        }
        unflushed += batch.bytes();
        engine.write(batch).unwrap();
        if unflushed > 32 << 20 {
            unflushed = 0;
            if let Some(flush) = flush.replace(engine.sync()) {
                flush.await.unwrap();
            }
        }
    }
    engine.sync().await.unwrap();
    let stats = engine.stats();
    let caller = (thread_cpu() - caller_before).as_secs_f64() * 1e6 / messages as f64;
    println!(
        "state: {caller:.2} µs CPU in the caller, {:.2} µs wall, {:.2} µs CPU a message; {:.2} bytes to disk for each; {} flushes",
        begun.elapsed().as_secs_f64() * 1e6 / messages as f64,
        (cpu() - cpu_before).as_secs_f64() * 1e6 / messages as f64,
        stats.bytes_to_disk as f64 / stats.bytes_written as f64,
        stats.syncs,
    );
    let before = thread_cpu();
    for number in 0..100_000u64 {
        let conversation = (number * 7919) % 1_000;
        let hash = conversation
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .to_be_bytes();
        let key = [&hash[..], b"d", &noise(number + messages, 16)].concat();
        assert!(engine.get(&key).unwrap().is_none());
    }
    let lookup = (thread_cpu() - before).as_secs_f64() * 10.0;
    println!("state: {lookup:.2} µs CPU for a lookup that misses");
    let status = fs::read_to_string("/proc/self/status").unwrap();
    println!(
        "{}",
        status
            .lines()
            .find(|line| line.starts_with("VmRSS"))
            .unwrap()
    );
}
