//! What applying costs. Run by hand:
//! `cargo test --release -p firebreak-store --features rocksdb --test state_bench -- --ignored --nocapture`

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "a measurement of real time on this machine, which fails where it cannot go on"
)]
#![cfg(feature = "rocksdb")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use firebreak_store as store;
use model::command::{Answer, Append, Command};
use model::limits::STATE_FLUSH_BYTES;
use store::engine::rocks::Rocks;
use store::state::{State, ToApply};
use support::*;

const MESSAGES: u64 = 1_000_000;
const ENTRY_MESSAGES: u64 = 256;
const CONVERSATIONS: u64 = 1_000;
const BODY_BYTES: usize = 256;

/// CPU time of the whole process, flush and compaction threads included.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// CPU time of this thread alone, whatever else the machine does.
fn own_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split_whitespace().next().unwrap().parse().unwrap())
}

fn batch(index: u64, seed: &mut u64) -> ToApply {
    let commands: Vec<Command> = (0..ENTRY_MESSAGES)
        .map(|i| {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let conversation = (*seed >> 33) % CONVERSATIONS;
            let body: Vec<u8> = (0..BODY_BYTES as u64 / 8)
                .flat_map(|word| (word ^ (*seed >> 40)).to_le_bytes())
                .collect();
            Command::append(Append {
                conversation: room(&format!("room-{conversation}")).to_string(),
                messages: vec![message(&format!("{index}-{i}"), &body)],
                ..Append::default()
            })
        })
        .collect();
    entry(index, START_MS + index, &commands)
}

#[tokio::test(flavor = "current_thread")]
#[ignore = "a measurement"]
async fn microseconds_for_each_applied_message() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let engine = Arc::new(Rocks::open_state(&directory.path().join("msgdb")).unwrap());
    let log = Disks::default().start_log();
    let state = State::open(engine, log.clone()).unwrap();
    let shard = state.shard(SHARD, ALL).unwrap();
    let node = Node { log, state, shard };
    let mut seed = 7;
    let (mut applying, mut applying_cpu, mut making_cpu, mut flushing) = (
        Duration::ZERO,
        Duration::ZERO,
        Duration::ZERO,
        Duration::ZERO,
    );
    let cpu_before = cpu();
    for index in 1..=MESSAGES / ENTRY_MESSAGES {
        let start_cpu = own_cpu();
        let entry = batch(index, &mut seed);
        let logged = ToApply {
            payload: None,
            ..entry.clone()
        };
        node.submit(&[logged]).await.unwrap();
        making_cpu += own_cpu() - start_cpu;
        let (start, start_cpu) = (Instant::now(), own_cpu());
        let replies = node.shard.apply(vec![entry]).unwrap();
        applying += start.elapsed();
        applying_cpu += own_cpu() - start_cpu;
        assert_eq!(replies[0].len(), ENTRY_MESSAGES as usize);
        if let Some(Answer::Appended(appended)) = &replies[0][0].answer {
            assert!(!appended.outcomes[0].deduplicated);
        }
        if node.state.unflushed_bytes() >= STATE_FLUSH_BYTES {
            let start = Instant::now();
            node.state.flush().await.unwrap();
            flushing += start.elapsed();
        }
    }
    let each = |time: Duration| time.as_secs_f64() * 1e6 / MESSAGES as f64;
    let stats = node.state.stats();
    eprintln!(
        "each message: apply {:.2} us, {:.2} us CPU; with flush and compaction {:.2} us CPU; \
         waiting for flushes {:.2} us; all: written {} MB, to disk {} MB",
        each(applying),
        each(applying_cpu),
        each(cpu() - cpu_before - making_cpu),
        each(flushing),
        stats.bytes_written >> 20,
        stats.bytes_to_disk >> 20,
    );
}
