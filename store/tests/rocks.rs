//! RocksDB in both roles through the one suite, and what only RocksDB can get wrong.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "a test fails where it cannot go on, and its numbers are small"
)]
#![cfg(feature = "rocksdb")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use firebreak_store::engine::conformance::{Bench, suite};
use firebreak_store::engine::rocks::{Rocks, crash};
use firebreak_store::engine::{Batch, Engine, Order, Read, check_lost};
use firebreak_store::key::state::{conversations, message};
use firebreak_store::{Error, Sizes};
use model::id::ConversationKey;
use support::ondisk::Role;

fn open(role: Role, path: &Path) -> Arc<dyn Engine> {
    match role {
        Role::Log => Arc::new(Rocks::open_log(path).unwrap()),
        Role::State => Arc::new(Rocks::open_state_sized(path, 8 << 20, Sizes::default()).unwrap()),
    }
}

/// Stores on disk. A power cut of the log takes what the files hold while the process lives (what
/// was not synced is in its memory); the state, which has no log, is closed.
struct OnDisk {
    role: Role,
    root: tempfile::TempDir,
    next: usize,
    /// Where each engine lies, by its address.
    open: BTreeMap<usize, PathBuf>,
}

impl OnDisk {
    fn new(role: Role) -> OnDisk {
        OnDisk {
            role,
            root: tempfile::tempdir().unwrap(),
            next: 0,
            open: BTreeMap::new(),
        }
    }

    fn path(&mut self) -> PathBuf {
        self.next += 1;
        self.root.path().join(self.next.to_string())
    }

    fn open(&mut self, path: PathBuf) -> Arc<dyn Engine> {
        let engine = open(self.role, &path);
        self.open.insert(Arc::as_ptr(&engine).addr(), path);
        engine
    }
}

impl Bench for OnDisk {
    fn create(&mut self) -> Arc<dyn Engine> {
        let path = self.path();
        self.open(path)
    }

    fn power_cut(&mut self, engine: Arc<dyn Engine>) -> Arc<dyn Engine> {
        let path = self.open.remove(&Arc::as_ptr(&engine).addr()).unwrap();
        let path = match self.role {
            Role::State => path,
            Role::Log => {
                let copy = self.path();
                crash::copy(&path, &copy).unwrap();
                copy
            }
        };
        assert_eq!(
            Arc::strong_count(&engine),
            1,
            "the suite must hold nothing else of it"
        );
        drop(engine);
        self.open(path)
    }

    fn checkpoint_directory(&mut self) -> PathBuf {
        self.path()
    }

    fn open_checkpoint(&mut self, _: &dyn Engine, directory: &Path) -> Arc<dyn Engine> {
        self.open(directory.to_owned())
    }
}

fn files(path: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    found.sort();
    found
}

fn put(key: &str, value: impl Into<Vec<u8>>) -> Batch {
    let mut batch = Batch::new();
    batch.put(key.to_owned(), value.into());
    batch
}

fn keys(read: &dyn Read) -> Vec<String> {
    let mut keys = Vec::new();
    read.scan(b"", &[0xff], Order::Ascending, &mut |key, _| {
        keys.push(String::from_utf8(key.to_vec()).unwrap());
        Ok(std::ops::ControlFlow::Continue(()))
    })
    .unwrap();
    keys
}

#[tokio::test]
async fn the_log_on_rocksdb_conforms() {
    suite(&mut OnDisk::new(Role::Log)).await;
}

#[tokio::test]
async fn the_state_on_rocksdb_conforms() {
    suite(&mut OnDisk::new(Role::State)).await;
}

/// Without `avoid_flush_during_shutdown`, with any size limit in reach, or with a sync that
/// flushes again to wait, something unsynced would be found here.
#[tokio::test]
async fn state_is_never_flushed_but_by_a_sync_and_as_of_its_call() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("msgdb");
    {
        let state = Rocks::open_state(&path).unwrap();
        for n in 0..200 {
            state
                .write(put(&format!("{n:03}"), vec![n; 1 << 20]))
                .unwrap();
        }
        assert_eq!(
            files(&path, "sst"),
            Vec::<PathBuf>::new(),
            "200 MiB, and no file"
        );
    }
    let state = Rocks::open_state(&path).unwrap();
    assert_eq!(keys(&state), Vec::<String>::new(), "closing must not flush");
    for round in 0..20 {
        state
            .write(put(&format!("before {round:02}"), vec![1; 100_000]))
            .unwrap();
        let sync = state.sync();
        state.write(put(&format!("after {round:02}"), "")).unwrap();
        if round < 19 {
            drop(sync);
        } else {
            sync.await.unwrap();
        }
    }
    drop(state);
    let state = Rocks::open_state(&path).unwrap();
    let found = keys(&state);
    assert_eq!(
        found.len(),
        39,
        "all but what was written after the last sync was asked for"
    );
    assert!(!found.contains(&"after 19".to_owned()));
}

/// A log of ten synced batches and then three large ones, each synced; where each of them ends.
async fn torn_candidates(path: &Path) -> (Rocks, PathBuf, Vec<u64>) {
    let log = Rocks::open_log(path).unwrap();
    for n in 0..10 {
        log.write(put(&format!("small {n}"), vec![7; 500])).unwrap();
    }
    log.sync().await.unwrap();
    let wal = files(path, "log").pop().unwrap();
    let mut ends = vec![fs::metadata(&wal).unwrap().len()];
    for n in 0..3 {
        log.write(put(&format!("large {n}"), vec![n + 1; 80_000]))
            .unwrap();
        log.sync().await.unwrap();
        ends.push(fs::metadata(&wal).unwrap().len());
    }
    assert!(ends[0] > 5_000 && ends[3] > 240_000, "{ends:?}");
    (log, wal, ends)
}

/// Copies a log, changes its WAL, and opens the copy.
fn reopened(
    path: &Path,
    wal: &Path,
    change: impl FnOnce(&mut Vec<u8>),
) -> Result<Vec<String>, Error> {
    let copy = path.with_extension("copy");
    crash::copy(path, &copy).unwrap();
    let wal = copy.join(wal.file_name().unwrap());
    let mut bytes = fs::read(&wal).unwrap();
    change(&mut bytes);
    fs::write(&wal, bytes).unwrap();
    let found = Rocks::open_log(&copy).map(|log| keys(&log));
    fs::remove_dir_all(&copy).unwrap();
    found
}

#[tokio::test]
async fn a_log_torn_anywhere_after_its_synced_length_keeps_all_that_was_synced() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("raftdb");
    let (_log, wal, ends) = torn_candidates(&path).await;
    for cut in (ends[0]..=ends[3])
        .step_by(4_001)
        .chain(ends.iter().flat_map(|e| [*e, e + 1]))
    {
        let cut = cut.min(ends[3]);
        // The batches that are whole, hence perhaps synced, and where they end.
        let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
        let expect: Vec<String> = (0..whole)
            .map(|n| format!("large {n}"))
            .chain((0..10).map(|n| format!("small {n}")))
            .collect();
        let cut_at = cut as usize;
        let batch_end = ends.get(whole + 1).map_or(cut_at, |end| *end as usize);
        let short = reopened(&path, &wal, |bytes| bytes.truncate(cut_at));
        assert_eq!(short.unwrap(), expect, "cut at {cut} of {ends:?}");
        // The length reached the disk, the last sectors did not.
        let zeros = reopened(&path, &wal, |bytes| {
            bytes.truncate(cut_at);
            bytes.resize(batch_end + 3_000, 0);
        });
        assert_eq!(zeros.unwrap(), expect, "zeros from {cut} of {ends:?}");
        // Sectors reach the disk in any order: some in the middle did not.
        let sector = cut_at.next_multiple_of(512);
        if sector + 512 < batch_end {
            let gap = reopened(&path, &wal, |bytes| {
                bytes.truncate(batch_end);
                bytes[sector..sector + 512].fill(0);
            });
            assert_eq!(
                gap.unwrap(),
                expect,
                "a sector of zeros at {sector} of {ends:?}"
            );
        }
    }
}

#[tokio::test]
async fn damage_in_what_was_synced_is_refused_not_cut() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("raftdb");
    let (_log, wal, ends) = torn_candidates(&path).await;
    let name = wal.file_name().unwrap().to_str().unwrap();
    let refused = |found: Result<Vec<String>, Error>, what: &str| match found {
        Err(Error::Damaged { file, .. }) => assert!(file.ends_with(name), "{what}: {file}"),
        Err(other) => panic!("{what}: {other}"),
        Ok(found) => panic!("{what}: opened with {found:?}"),
    };
    for at in (20..ends[3] as usize).step_by(9_973) {
        // A flipped bit, in the last batch too: that is not how a torn one looks.
        refused(
            reopened(&path, &wal, |bytes| bytes[at] ^= 1),
            &format!("a bit at {at}"),
        );
        // A lost sector with a later batch behind it.
        if (at as u64) < ends[1] {
            let sector = at / 512 * 512;
            let lost = reopened(&path, &wal, |bytes| bytes[sector..sector + 512].fill(0));
            refused(lost, &format!("a sector at {sector}"));
        }
    }
}

#[tokio::test]
async fn a_damaged_log_is_named_with_the_place_of_the_damage_and_what_to_do() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("raftdb");
    let (_log, wal, ends) = torn_candidates(&path).await;
    // In the second large batch, which begins at `ends[1]` and fills whole blocks of 32 KiB.
    let at = ends[1] as usize + 40_000;
    let error = reopened(&path, &wal, |bytes| bytes[at] ^= 1).unwrap_err();
    let Error::Damaged { offset, .. } = &error else {
        panic!("{error}")
    };
    assert!((ends[1]..=at as u64).contains(offset), "{offset} of {at}");
    assert!(at as u64 - offset < 32 * 1024, "{offset} of {at}");
    assert!(error.to_string().contains("node remove"), "{error}");
}

#[tokio::test]
async fn a_flipped_bit_in_a_file_is_named_with_its_file_and_key() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("msgdb");
    let state = Rocks::open_state(&path).unwrap();
    state.write(put("key", vec![7; 10_000])).unwrap();
    state.sync().await.unwrap();
    drop(state);
    let sst = files(&path, "sst").pop().unwrap();
    let mut bytes = fs::read(&sst).unwrap();
    bytes[20] ^= 1;
    fs::write(&sst, bytes).unwrap();
    let state = Rocks::open_state(&path).unwrap();
    let scanned = state.scan(b"a", b"z", Order::Ascending, &mut |_, _| {
        Ok(std::ops::ControlFlow::Continue(()))
    });
    for error in [state.get(b"key").unwrap_err(), scanned.unwrap_err()] {
        let Error::Corrupt { file, .. } = &error else {
            panic!("{error}")
        };
        assert!(
            file.contains(sst.file_name().unwrap().to_str().unwrap()),
            "{error}"
        );
    }
    let error = state.get(b"key").unwrap_err().to_string();
    assert!(error.contains("key 6b6579"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_block_that_a_compaction_meets_costs_what_lies_with_it_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("msgdb");
    let slot = |slot: u16| {
        let mut key = [0; 16];
        key[..2].copy_from_slice(&slot.to_be_bytes());
        ConversationKey(key)
    };
    let value = |round: u64, at: u16| format!("{round} {at} ").repeat(120);
    let mut failed = None;
    {
        let engine = open(Role::State, &path);
        for round in 0..60 {
            let mut batch = Batch::new();
            for at in 0..100 {
                batch.put(message(&slot(at), round).to_vec(), value(round, at));
            }
            let written = engine.write(batch);
            let synced = match written {
                Ok(()) => engine.sync().await,
                Err(error) => Err(error),
            };
            if let Err(error) = synced {
                failed = Some(error.to_string());
                break;
            }
            if round == 2 {
                let mut files: Vec<PathBuf> = fs::read_dir(&path)
                    .unwrap()
                    .map(|file| file.unwrap().path())
                    .filter(|file| file.extension().is_some_and(|ext| ext == "sst"))
                    .collect();
                files.sort();
                let mut bytes = fs::read(&files[0]).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(&files[0], bytes).unwrap();
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
    let failed = failed.expect("the compaction of sixteen files meets the damaged one");
    assert!(failed.contains("the next start copies"), "{failed}");
    let engine = open(Role::State, &path);
    let lost = |at: u16| {
        let (from, to) = conversations(&(at..=at));
        check_lost(&*engine, "msgdb", &from, &to).is_err()
    };
    let gone: Vec<u16> = (0..100).filter(|at| lost(*at)).collect();
    assert!(!gone.is_empty() && gone.len() < 40, "{gone:?}");
    for at in (0..100).filter(|at| !gone.contains(at)) {
        for round in 0..10 {
            let found = engine.get(&message(&slot(at), round)).unwrap();
            assert_eq!(
                found.as_deref(),
                Some(value(round, at).as_bytes()),
                "{at} {round}"
            );
        }
    }
    assert!(!folder.path().join("msgdb.damaged").exists());
    // It goes on, compactions too.
    for round in 100..140 {
        let mut batch = Batch::new();
        for at in 0..100 {
            batch.put(message(&slot(at), round).to_vec(), value(round, at));
        }
        engine.write(batch).unwrap();
        engine.sync().await.unwrap();
    }
}

#[tokio::test]
async fn most_of_a_log_that_is_cut_in_time_never_reaches_a_file() {
    let root = tempfile::tempdir().unwrap();
    let log = Rocks::open_log(&root.path().join("raftdb")).unwrap();
    // 400 MiB, cut every 32 MiB.
    let entry = |n: u64| format!("{n:08}");
    let mut cut = 0;
    for n in 0..400 {
        log.write(put(&entry(n), vec![(n % 251) as u8; 1 << 20]))
            .unwrap();
        if n % 32 == 31 {
            let mut batch = Batch::new();
            batch.delete_range(entry(0), entry(n - 16));
            cut = n - 16;
            log.write(batch).unwrap();
            log.sync().await.unwrap();
        }
    }
    log.sync().await.unwrap();
    assert_eq!(keys(&log).len() as u64, 400 - cut);
    let stats = log.stats();
    let amplification = stats.bytes_to_disk as f64 / stats.bytes_written as f64;
    println!("raftdb: {amplification:.2} bytes to disk for each byte written, {stats:?}");
    assert!(amplification < 1.6, "{amplification}");
    assert!(
        amplification >= 1.0,
        "everything goes through the write-ahead log"
    );
}

#[tokio::test]
async fn closing_ends_the_threads_and_frees_the_directory_though_a_sync_is_not_awaited() {
    let root = tempfile::tempdir().unwrap();
    for role in [Role::Log, Role::State] {
        let path = root
            .path()
            .join(if role == Role::Log { "raftdb" } else { "msgdb" });
        for _ in 0..5 {
            let engine = open(role, &path);
            engine.write(put("a", "1")).unwrap();
            let sync = engine.sync();
            drop(engine);
            sync.await.unwrap();
        }
        assert_eq!(keys(open(role, &path).as_ref()), ["a"]);
        assert!(
            threads()
                .iter()
                .all(|name| !name.starts_with("raftdb-") && !name.starts_with("msgdb-"))
        );
    }
}

/// The names of this process's threads. With nextest each test has a process of its own; with
/// `cargo test` the others of this file have engines open, so the names are looked for there only.
fn threads() -> Vec<String> {
    if std::env::var_os("NEXTEST").is_none() {
        return Vec::new();
    }
    fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .collect()
}

#[test]
fn a_directory_is_refused_to_a_second_opener() {
    let root = tempfile::tempdir().unwrap();
    let _open = Rocks::open_log(root.path()).unwrap();
    let error = Rocks::open_log(root.path()).err().unwrap();
    assert!(
        matches!(
            error,
            Error::Disk {
                operation: "open",
                ..
            }
        ),
        "{error}"
    );
}

/// With what the numbers of the batches say of each cut, as the simulator relies on it.
#[test]
fn a_power_cut_leaves_what_was_synced_and_the_first_of_the_batches_behind_it() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("whole");
    let engine = Rocks::open_log(&path).unwrap();
    let write = |number: u8| {
        let mut batch = Batch::new();
        batch.put(vec![number, 0], vec![number; 300]);
        batch.put(vec![number, 1], vec![number; 300]);
        engine.write(batch).unwrap();
        engine.sequence()
    };
    let mut numbers = vec![write(0)];
    futures::executor::block_on(engine.sync()).unwrap();
    let synced = crash::log_lengths(&path).unwrap();
    numbers.extend((1..5).map(write));
    drop(engine);
    let mut counts = Vec::new();
    for part in 0..=20 {
        let cut = root.path().join(part.to_string());
        crash::copy(&path, &cut).unwrap();
        crash::cut_log(&cut, &synced, |unsynced| unsynced * part / 20).unwrap();
        let engine = Rocks::open_log(&cut).unwrap();
        let survived = numbers.partition_point(|number| *number <= engine.sequence());
        for number in 0..5_u8 {
            for half in 0..2 {
                let found = engine.get(&[number, half]).unwrap();
                assert_eq!(found.is_some(), usize::from(number) < survived);
            }
        }
        counts.push(survived);
    }
    assert!(counts.is_sorted());
    counts.dedup();
    assert_eq!(counts, [1, 2, 3, 4, 5]);
}
