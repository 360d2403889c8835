//! What every [`Engine`] must do, as one suite that each is run through.
//!
//! The checks panic with what is wrong. After a power cut a store must hold the writes of some
//! number of batches, at least those before the last completed sync; everything is judged by that.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::batch::Write;
use super::{Batch, Engine, Order, Read, SortedFile};
use crate::Error;

/// Gives the suite its stores. Dropping an engine must release what it holds.
pub trait Bench: Send {
    /// A new, empty store.
    fn create(&mut self) -> Arc<dyn Engine>;
    /// Cuts the power of a store (the suite holds nothing else of it) and opens it again.
    fn power_cut(&mut self, engine: Arc<dyn Engine>) -> Arc<dyn Engine>;
    /// A directory that does not exist, where a checkpoint can be made.
    fn checkpoint_directory(&mut self) -> PathBuf;
    /// Opens the checkpoint that `engine` made at `directory`.
    fn open_checkpoint(&mut self, engine: &dyn Engine, directory: &Path) -> Arc<dyn Engine>;
}

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// Runs everything.
///
/// # Panics
/// When the engine does not do what it must.
pub async fn suite(bench: &mut dyn Bench) {
    writes_of_a_batch_take_effect_in_order(bench);
    a_range_delete_removes_its_range_and_no_more(bench);
    scans_go_both_ways_within_their_bounds(bench);
    a_snapshot_does_not_change(bench);
    what_is_synced_survives_a_power_cut(bench).await;
    a_batch_survives_as_a_whole_or_not_at_all(bench).await;
    removals_survive_a_power_cut(bench).await;
    many_syncs_at_once_all_complete(bench).await;
    files_carry_a_range_to_another_store(bench).await;
    an_export_shows_its_read_point(bench).await;
    files_replace_a_cleared_range(bench).await;
    kept_files_stay_until_they_are_forgotten(bench).await;
    a_checkpoint_opens_as_a_store(bench).await;
    counters_count(bench).await;
    for seed in 1..=8 {
        random_work_with_power_cuts_agrees_with_the_model(bench, seed).await;
    }
}

/// All records of a store.
fn all(read: &dyn Read) -> Records {
    scanned(read, &[], &[0xff; 64], Order::Ascending)
        .into_iter()
        .collect()
}

fn scanned(read: &dyn Read, from: &[u8], to: &[u8], order: Order) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    let result = read.scan(from, to, order, &mut |key, value| {
        found.push((key.to_vec(), value.to_vec()));
        Ok(ControlFlow::Continue(()))
    });
    assert!(result.is_ok(), "scan: {result:?}");
    found
}

fn keys(read: &dyn Read, from: &str, to: &str, order: Order) -> String {
    let found = scanned(read, from.as_bytes(), to.as_bytes(), order);
    let keys: Vec<_> = found
        .iter()
        .map(|(key, _)| String::from_utf8_lossy(key))
        .collect();
    keys.join(" ")
}

fn get(read: &dyn Read, key: &str) -> Option<Bytes> {
    match read.get(key.as_bytes()) {
        Ok(value) => value,
        Err(error) => panic!("get {key}: {error}"),
    }
}

fn batch(puts: &[(&str, &str)]) -> Batch {
    let mut batch = Batch::new();
    for (key, value) in puts {
        batch.put(key.as_bytes().to_vec(), value.as_bytes().to_vec());
    }
    batch
}

fn write(engine: &dyn Engine, batch: Batch) {
    let result = engine.write(batch);
    assert!(result.is_ok(), "write: {result:?}");
}

async fn sync(engine: &dyn Engine) {
    let result = engine.sync().await;
    assert!(result.is_ok(), "sync: {result:?}");
}

fn writes_of_a_batch_take_effect_in_order(bench: &mut dyn Bench) {
    let engine = bench.create();
    let mut one = batch(&[("a", "1"), ("a", "2"), ("b", "1"), ("c", "1"), ("d", "1")]);
    one.delete("b");
    one.delete_range("c", "e");
    one.put("d", "2");
    one.delete("never");
    write(engine.as_ref(), one);
    assert_eq!(keys(engine.as_ref(), "a", "z", Order::Ascending), "a d");
    assert_eq!(get(engine.as_ref(), "a").as_deref(), Some(&b"2"[..]));
    assert_eq!(get(engine.as_ref(), "d").as_deref(), Some(&b"2"[..]));
    assert_eq!(get(engine.as_ref(), "b"), None);
    write(engine.as_ref(), batch(&[("a", "")]));
    assert_eq!(
        get(engine.as_ref(), "a").as_deref(),
        Some(&b""[..]),
        "an empty value is a value"
    );
    write(engine.as_ref(), Batch::new());
}

fn a_range_delete_removes_its_range_and_no_more(bench: &mut dyn Bench) {
    let engine = bench.create();
    write(
        engine.as_ref(),
        batch(&[("a", ""), ("b", ""), ("ba", ""), ("c", ""), ("d", "")]),
    );
    let mut delete = Batch::new();
    delete.delete_range("b", "c");
    delete.delete_range("d", "d");
    delete.delete_range("z", "a");
    write(engine.as_ref(), delete);
    assert_eq!(keys(engine.as_ref(), "a", "z", Order::Ascending), "a c d");
    write(engine.as_ref(), batch(&[("ba", "again")]));
    assert_eq!(
        keys(engine.as_ref(), "a", "z", Order::Ascending),
        "a ba c d"
    );
}

fn scans_go_both_ways_within_their_bounds(bench: &mut dyn Bench) {
    let engine = bench.create();
    let read = engine.as_ref();
    assert_eq!(
        keys(read, "a", "z", Order::Descending),
        "",
        "an empty store"
    );
    write(
        read,
        batch(&[("b", ""), ("d", ""), ("c", ""), ("ca", ""), ("e", "")]),
    );
    for (from, to, expect) in [
        ("a", "z", "b c ca d e"),
        ("c", "d", "c ca"),
        ("c", "c\0", "c"),
        ("bb", "cb", "c ca"),
        ("d", "c", ""),
        ("c", "c", ""),
        ("x", "z", ""),
    ] {
        assert_eq!(
            keys(read, from, to, Order::Ascending),
            expect,
            "{from} to {to}"
        );
        let mut back: Vec<_> = expect.split(' ').collect();
        back.reverse();
        assert_eq!(
            keys(read, from, to, Order::Descending),
            back.join(" "),
            "{to} to {from}"
        );
    }
    for (order, expect) in [(Order::Ascending, "b"), (Order::Descending, "e")] {
        let mut seen = Vec::new();
        let result = read.scan(b"a", b"z", order, &mut |key, _| {
            seen.push(String::from_utf8_lossy(key).into_owned());
            Ok(ControlFlow::Break(()))
        });
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(seen, [expect], "a scan ends at Break");
        let mut visits = 0;
        let result = read.scan(b"a", b"z", order, &mut |key, _| {
            visits += 1;
            let (file, reason) = ("bench".to_owned(), "refused".to_owned());
            let key = String::from_utf8_lossy(key).into_owned();
            Err(Error::Corrupt { file, key, reason })
        });
        assert!(
            matches!(&result, Err(Error::Corrupt { key, .. }) if key == expect),
            "a scan returns its visitor's error: {result:?}"
        );
        assert_eq!(visits, 1, "and ends at it");
    }
}

fn a_snapshot_does_not_change(bench: &mut dyn Bench) {
    let engine = bench.create();
    write(
        engine.as_ref(),
        batch(&[("a", "1"), ("b", "1"), ("c", "1")]),
    );
    let snapshot = engine.snapshot();
    let mut later = batch(&[("a", "2"), ("d", "2")]);
    later.delete_range("b", "c");
    later.delete("c");
    write(engine.as_ref(), later);
    assert_eq!(keys(snapshot.as_ref(), "a", "z", Order::Ascending), "a b c");
    assert_eq!(
        keys(snapshot.as_ref(), "a", "z", Order::Descending),
        "c b a"
    );
    assert_eq!(get(snapshot.as_ref(), "a").as_deref(), Some(&b"1"[..]));
    assert_eq!(get(snapshot.as_ref(), "d"), None);
    assert_eq!(keys(engine.as_ref(), "a", "z", Order::Ascending), "a d");
}

async fn what_is_synced_survives_a_power_cut(bench: &mut dyn Bench) {
    let engine = bench.create();
    write(engine.as_ref(), batch(&[("a", "1")]));
    sync(engine.as_ref()).await;
    write(engine.as_ref(), batch(&[("b", "1")]));
    // Written after the sync was asked for: it may be lost, and what was before may not.
    let asked = engine.sync();
    write(engine.as_ref(), batch(&[("c", "1")]));
    write(engine.as_ref(), batch(&[("d", "1")]));
    assert!(asked.await.is_ok());
    let engine = bench.power_cut(engine);
    let found = keys(engine.as_ref(), "a", "z", Order::Ascending);
    assert!(
        ["a b", "a b c", "a b c d"].contains(&found.as_str()),
        "{found}"
    );
    // And it goes on working.
    write(engine.as_ref(), batch(&[("e", "1")]));
    sync(engine.as_ref()).await;
    let engine = bench.power_cut(engine);
    assert_eq!(
        keys(engine.as_ref(), "a", "z", Order::Ascending),
        format!("{found} e")
    );
}

async fn a_batch_survives_as_a_whole_or_not_at_all(bench: &mut dyn Bench) {
    let engine = bench.create();
    sync(engine.as_ref()).await;
    let mut large = Batch::new();
    for n in 0..5_000u32 {
        large.put(n.to_be_bytes().to_vec(), vec![7; 1_000]);
    }
    write(engine.as_ref(), large);
    let engine = bench.power_cut(engine);
    let left = all(engine.as_ref()).len();
    assert!(left == 0 || left == 5_000, "{left} of 5000");
}

async fn removals_survive_a_power_cut(bench: &mut dyn Bench) {
    let engine = bench.create();
    write(
        engine.as_ref(),
        batch(&[("a", ""), ("b", ""), ("c", ""), ("d", ""), ("e", "")]),
    );
    sync(engine.as_ref()).await;
    let mut removal = Batch::new();
    removal.delete("a");
    removal.delete_range("c", "e");
    write(engine.as_ref(), removal);
    sync(engine.as_ref()).await;
    let engine = bench.power_cut(engine);
    assert_eq!(keys(engine.as_ref(), "a", "z", Order::Ascending), "b e");
}

async fn many_syncs_at_once_all_complete(bench: &mut dyn Bench) {
    let engine = bench.create();
    let mut waiting = Vec::new();
    for n in 0..100u8 {
        let mut one = Batch::new();
        one.put(vec![n], vec![n]);
        write(engine.as_ref(), one);
        waiting.push(engine.sync());
    }
    for result in futures::future::join_all(waiting).await {
        assert!(result.is_ok(), "{result:?}");
    }
    let engine = bench.power_cut(engine);
    assert_eq!(all(engine.as_ref()).len(), 100);
}

/// A store with 2,000 records, `k0000` to `k1999`, and what they are.
async fn filled(bench: &mut dyn Bench) -> (Arc<dyn Engine>, Records) {
    let engine = bench.create();
    let mut records = Records::new();
    let mut one = Batch::new();
    let mut chance = Chance(7);
    for n in 0..2_000 {
        let key = format!("k{n:04}").into_bytes();
        // Noise, so that compression leaves several files.
        let value: Vec<u8> = (0..100)
            .map(|_| chance.below(256).to_le_bytes()[0])
            .collect();
        one.put(key.clone(), value.clone());
        records.insert(key, value);
    }
    write(engine.as_ref(), one);
    sync(engine.as_ref()).await;
    (engine, records)
}

/// Exports a range and hands the bytes over, as the network would.
async fn receive(
    from: &dyn Engine,
    to: &dyn Engine,
    range: (&str, &str),
) -> Vec<Box<dyn SortedFile>> {
    let (first, last) = (range.0.as_bytes().to_vec(), range.1.as_bytes().to_vec());
    let files = match from.export(from.snapshot(), first, last, 40_000).await {
        Ok(files) => files,
        Err(error) => panic!("export: {error}"),
    };
    let mut received = Vec::new();
    for file in &files {
        assert!(!file.is_empty());
        let copied: Result<_, crate::Error> = (|| {
            let mut incoming = to.receive()?;
            let mut at = 0;
            while at < file.len() {
                let chunk = file.read_at(at, 7_777)?;
                assert!(!chunk.is_empty(), "a file has the length that it says");
                at += chunk.len() as u64;
                incoming.append(&chunk)?;
            }
            assert_eq!(at, file.len());
            incoming.finish()
        })();
        match copied {
            Ok(file) => received.push(file),
            Err(error) => panic!("receive: {error}"),
        }
    }
    received
}

/// Receives a range and ingests it; says how many files it took.
async fn carry(from: &dyn Engine, to: &dyn Engine, range: (&str, &str)) -> usize {
    let received = receive(from, to, range).await;
    let count = received.len();
    let result = to.ingest(received).await;
    assert!(result.is_ok(), "ingest: {result:?}");
    count
}

async fn files_carry_a_range_to_another_store(bench: &mut dyn Bench) {
    let (source, records) = filled(bench).await;
    let target = bench.create();
    write(target.as_ref(), batch(&[("a", "kept"), ("z", "kept")]));
    sync(target.as_ref()).await;
    let files = carry(source.as_ref(), target.as_ref(), ("k0100", "k1900")).await;
    assert!(files > 1, "the range was to be larger than one file");
    let mut expect: Records = records
        .range(b"k0100".to_vec()..b"k1900".to_vec())
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    expect.insert(b"a".to_vec(), b"kept".to_vec());
    expect.insert(b"z".to_vec(), b"kept".to_vec());
    assert!(
        all(target.as_ref()) == expect,
        "ingested records are not those exported"
    );
    let target = bench.power_cut(target);
    assert!(
        all(target.as_ref()) == expect,
        "an ingestion is durable when it completes"
    );
    // Files that were received and never ingested, and an empty range, leave nothing.
    assert_eq!(carry(source.as_ref(), target.as_ref(), ("x", "z")).await, 0);
    if let Ok(mut incoming) = target.receive() {
        assert!(incoming.append(b"abandoned").is_ok());
    }
    assert!(all(target.as_ref()) == expect);
}

async fn an_export_shows_its_read_point(bench: &mut dyn Bench) {
    let engine = bench.create();
    write(engine.as_ref(), batch(&[("a", "1"), ("b", "1")]));
    let snapshot = engine.snapshot();
    let mut later = batch(&[("a", "2"), ("c", "2")]);
    later.delete("b");
    write(engine.as_ref(), later);
    let files = engine
        .export(snapshot, b"a".to_vec(), b"z".to_vec(), 1 << 20)
        .await;
    let Ok(files) = files else {
        panic!("export failed")
    };
    let target = bench.create();
    let result = target.ingest(files).await;
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(keys(target.as_ref(), "a", "z", Order::Ascending), "a b");
    assert_eq!(get(target.as_ref(), "a").as_deref(), Some(&b"1"[..]));
}

async fn files_replace_a_cleared_range(bench: &mut dyn Bench) {
    let (source, records) = filled(bench).await;
    let target = bench.create();
    write(
        target.as_ref(),
        batch(&[("k0000", "old"), ("k1", "old"), ("z", "kept")]),
    );
    sync(target.as_ref()).await;
    let mut clear = Batch::new();
    clear.delete_range("k", "l");
    write(target.as_ref(), clear);
    sync(target.as_ref()).await;
    // Unsynced writes elsewhere neither hinder it nor become durable by it.
    write(target.as_ref(), batch(&[("y", "unsynced")]));
    carry(source.as_ref(), target.as_ref(), ("k", "l")).await;
    let mut expect = records;
    expect.insert(b"z".to_vec(), b"kept".to_vec());
    expect.insert(b"y".to_vec(), b"unsynced".to_vec());
    assert!(
        all(target.as_ref()) == expect,
        "the cleared range holds the ingested records only"
    );
    let target = bench.power_cut(target);
    let mut found = all(target.as_ref());
    expect.remove(&b"y"[..]);
    found.remove(&b"y"[..]);
    assert!(found == expect, "… after a power cut too");
}

fn kept(engine: &dyn Engine) -> Vec<String> {
    match engine.kept() {
        Ok(names) => names,
        Err(error) => panic!("kept: {error}"),
    }
}

async fn keep(engine: &dyn Engine, files: Vec<Box<dyn SortedFile>>) -> Vec<String> {
    match engine.keep(files).await {
        Ok(names) => names,
        Err(error) => panic!("keep: {error}"),
    }
}

async fn kept_files_stay_until_they_are_forgotten(bench: &mut dyn Bench) {
    let (source, records) = filled(bench).await;
    let mut target = bench.create();
    assert_eq!(kept(target.as_ref()), Vec::<String>::new());
    assert!(keep(target.as_ref(), Vec::new()).await.is_empty());
    let files = receive(source.as_ref(), target.as_ref(), ("k", "l")).await;
    let names = keep(target.as_ref(), files).await;
    assert!(names.len() > 1, "the range was to be larger than one file");
    // A file of an engine's own need not have been received.
    let exported = source.export(source.snapshot(), b"k0000".to_vec(), b"k0002".to_vec(), 9);
    let Ok(exported) = exported.await else {
        panic!("export failed")
    };
    let other = keep(target.as_ref(), exported).await;
    target = bench.power_cut(target);
    let mut all_names = [names.clone(), other.clone()].concat();
    all_names.sort();
    assert_eq!(kept(target.as_ref()), all_names, "after a power cut");
    assert!(all(target.as_ref()).is_empty(), "kept is not ingested");
    assert!(target.forget(&other).is_ok());
    assert!(target.forget(&other).is_ok(), "it is gone already");
    assert!(target.open_kept(&other[0]).is_err());
    for name in ["", "..", "/", "../1.sst", "never"] {
        assert!(target.open_kept(name).is_err(), "{name:?}");
    }
    // Ingested as often as is needed, here over the same records and over none.
    for clear in [false, false, true] {
        if clear {
            let mut one = Batch::new();
            one.delete_range("k", "l");
            write(target.as_ref(), one);
            sync(target.as_ref()).await;
        }
        for name in &names {
            let file = match target.open_kept(name) {
                Ok(file) => file,
                Err(error) => panic!("{name}: {error}"),
            };
            let result = target.ingest(vec![file]).await;
            assert!(result.is_ok(), "ingest: {result:?}");
        }
        assert!(all(target.as_ref()) == records);
        target = bench.power_cut(target);
        assert!(all(target.as_ref()) == records);
        let left = kept(target.as_ref());
        assert!(names.iter().all(|name| left.contains(name)), "{left:?}");
    }
    // New ones take no name of one that is there.
    let files = receive(source.as_ref(), target.as_ref(), ("k0000", "k0001")).await;
    let more = keep(target.as_ref(), files).await;
    assert!(more.iter().all(|name| !names.contains(name)), "{more:?}");
    let left = kept(target.as_ref());
    assert!(target.forget(&left).is_ok());
    assert_eq!(kept(target.as_ref()), Vec::<String>::new());
    assert!(all(target.as_ref()) == records, "what was ingested stays");
}

async fn a_checkpoint_opens_as_a_store(bench: &mut dyn Bench) {
    let (engine, records) = filled(bench).await;
    let directory = bench.checkpoint_directory();
    let result = engine.checkpoint(&directory).await;
    assert!(result.is_ok(), "checkpoint: {result:?}");
    let mut later = batch(&[("later", "")]);
    later.delete("k0000");
    write(engine.as_ref(), later);
    sync(engine.as_ref()).await;
    let copy = bench.open_checkpoint(engine.as_ref(), &directory);
    assert!(
        all(copy.as_ref()) == records,
        "a checkpoint holds what was synced"
    );
    assert!(
        engine.checkpoint(&directory).await.is_err(),
        "its directory must not exist"
    );
}

async fn counters_count(bench: &mut dyn Bench) {
    let engine = bench.create();
    let before = engine.stats();
    write(engine.as_ref(), batch(&[("key", "value")]));
    sync(engine.as_ref()).await;
    let after = engine.stats();
    assert_eq!(after.bytes_written - before.bytes_written, 8);
    assert_eq!(after.syncs - before.syncs, 1);
    // Bytes that no compression makes fewer.
    let mut chance = Chance(7);
    let value: Vec<u8> = (0..1 << 20)
        .map(|_| chance.below(256).to_le_bytes()[0])
        .collect();
    let mut large = Batch::new();
    large.put(b"large".to_vec(), value);
    write(engine.as_ref(), large);
    sync(engine.as_ref()).await;
    let stored = engine.stats().stored_bytes;
    assert!(
        (1 << 20..8 << 20).contains(&stored),
        "{stored} bytes are said to be stored of 1 MiB"
    );
}

/// Numbers that look random; the same ones for a seed (xorshift64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn key(&mut self) -> Vec<u8> {
        format!("{:02}", self.below(40)).into_bytes()
    }
}

fn apply(model: &mut Records, batch: &Batch) {
    for write in &batch.writes {
        match write {
            Write::Put(key, value) => drop(model.insert(key.to_vec(), value.to_vec())),
            Write::Delete(key) => drop(model.remove(&key[..])),
            Write::DeleteRange(from, to) => {
                model.retain(|key, _| key[..] < from[..] || key[..] >= to[..])
            }
        }
    }
}

async fn random_work_with_power_cuts_agrees_with_the_model(bench: &mut dyn Bench, seed: u64) {
    let mut chance = Chance(seed);
    let mut engine = bench.create();
    // The store after each batch since the last sync, the first being what is synced.
    let mut after = vec![Records::new()];
    for step in 0..300u64 {
        let place = format!("seed {seed}, step {step}");
        match chance.below(20) {
            0..=14 => {
                let mut one = Batch::new();
                let mut model = after.last().cloned().unwrap_or_default();
                for _ in 0..=chance.below(4) {
                    match chance.below(6) {
                        0 => one.delete(chance.key()),
                        1 => {
                            let (a, b) = (chance.key(), chance.key());
                            one.delete_range(a.clone().min(b.clone()), a.max(b));
                        }
                        _ => one.put(chance.key(), format!("{step}").into_bytes()),
                    }
                }
                apply(&mut model, &one);
                write(engine.as_ref(), one);
                after.push(model);
            }
            15..=17 => {
                sync(engine.as_ref()).await;
                after.drain(..after.len() - 1);
            }
            18 => {
                let model = after.last().cloned().unwrap_or_default();
                assert!(all(engine.as_ref()) == model, "{place}: reads");
                let snapshot = engine.snapshot();
                let (from, to) = (chance.key(), chance.key());
                let mut expect: Vec<_> = model
                    .into_iter()
                    .filter(|(k, _)| *k >= from && *k < to)
                    .collect();
                expect.reverse();
                let found = scanned(snapshot.as_ref(), &from, &to, Order::Descending);
                assert!(found == expect, "{place}: scan back");
            }
            _ => {
                engine = bench.power_cut(engine);
                let found = all(engine.as_ref());
                assert!(
                    after.contains(&found),
                    "{place}: after a power cut the store holds no prefix of its batches"
                );
                after = vec![found];
            }
        }
    }
}
