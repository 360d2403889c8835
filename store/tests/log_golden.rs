//! Records that earlier versions wrote to `raftdb`, read for ever.
//!
//! Each file in `golden/` named `raftdb-N.txt` holds every kind of record as format N wrote it, a
//! line each: key and value in hex, then what it is. A file, once released, is never changed. After
//! a new format is added, write its file with
//!
//! ```text
//! cargo test -p firebreak-store --test log_golden -- --ignored write_the_golden_file
//! ```
//!
//! which refuses to touch a file that exists.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it cannot go on"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use firebreak_store::engine::memory::{Disk, Memory};
use firebreak_store::engine::{Batch, Engine, Order, Read};
use firebreak_store::key::log::readable;
use firebreak_store::{Error, HardState, Log, Position, Record};
use model::id::ShardId;

/// The format that this version writes.
const FORMAT: u32 = 1;

fn directory() -> PathBuf {
    PathBuf::from("tests/golden")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn position(term: u64, index: u64) -> Position {
    Position { term, index }
}

fn entry(term: u64, index: u64, data: &'static [u8]) -> Record {
    Record {
        position: position(term, index),
        data: Bytes::from_static(data),
    }
}

/// The shards whose records are in the file: what they must be read as.
fn shards() -> [(ShardId, Vec<Record>); 2] {
    [
        (ShardId::META, vec![entry(1, 0, b"first"), entry(1, 1, b"")]),
        (
            ShardId(0x0102_0304),
            vec![
                entry(2, 0x0a0b_0c0d_0e0f_1012, b"\x00\xff"),
                entry(0x1122_3344_5566_7788, 0x0a0b_0c0d_0e0f_1013, b"last"),
            ],
        ),
    ]
}

const PURGED: Position = Position {
    term: 2,
    index: 0x0a0b_0c0d_0e0f_1011,
};
const STATES: [(HardState, &[u8]); 3] = [
    (HardState::Vote, b"a vote"),
    (HardState::Committed, b"a position"),
    (HardState::Extra, b"more"),
];

/// Writes every kind of record and gives what is on disk.
async fn written() -> BTreeMap<Vec<u8>, Vec<u8>> {
    let disk = Disk::new();
    let (log, writer) = Log::open(Arc::new(Memory::open(&disk))).unwrap();
    tokio::spawn(writer);
    log.local_put("identity/node", Some(Bytes::from_static(b"n1")))
        .await
        .unwrap();
    for (n, (id, records)) in shards().into_iter().enumerate() {
        let shard = log.shard(id).unwrap();
        if n == 1 {
            shard.purge(PURGED).await.unwrap();
            for (what, value) in STATES {
                shard.save(what, Bytes::from_static(value)).await.unwrap();
            }
        }
        shard.append(records, Box::new(|result| result.unwrap()));
    }
    log.sync().await.unwrap();
    let mut found = BTreeMap::new();
    Memory::open(&disk)
        .scan(&[], &[0xff], Order::Ascending, &mut |key, value| {
            found.insert(key.to_vec(), value.to_vec());
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
    found
}

fn records_of(text: &str) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split(' ');
            (unhex(words.next().unwrap()), unhex(words.next().unwrap()))
        })
        .collect()
}

#[tokio::test]
async fn records_of_every_format_are_read_for_ever() {
    for format in 1..=FORMAT {
        let path = directory().join(format!("raftdb-{format}.txt"));
        let memory = Memory::new();
        let mut batch = Batch::new();
        for (key, value) in records_of(&fs::read_to_string(&path).unwrap()) {
            batch.put(key, value);
        }
        memory.write(batch).unwrap();
        let (log, _writer) = Log::open(Arc::new(memory)).unwrap();
        let identity = log.local_get("identity/node").unwrap();
        assert_eq!(identity.as_deref(), Some(&b"n1"[..]), "format {format}");
        assert_eq!(log.mark_at_open(), 0, "no marks before the first");
        for (id, records) in shards() {
            let shard = log.shard(id).unwrap();
            assert_eq!(
                shard.read(0, u64::MAX, usize::MAX).unwrap(),
                records,
                "format {format}"
            );
        }
        let shard = log.shard(shards()[1].0).unwrap();
        assert_eq!(shard.purged(), Some(PURGED));
        for (what, value) in STATES {
            assert_eq!(
                shard.load(what).unwrap().as_deref(),
                Some(value),
                "{what:?}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_written_is_what_the_golden_file_of_this_format_says() {
    let path = directory().join(format!("raftdb-{FORMAT}.txt"));
    let golden = records_of(&fs::read_to_string(path).unwrap());
    let mut found = written().await;
    // Added to the format later; disks without it, as in the file, are read too.
    let mark = found.remove(&firebreak_store::key::log::local("mark"));
    assert_eq!(hex(&mark.unwrap()), "017de724cd0000000000000005");
    for (key, value) in found {
        let expect = golden.get(&key).map(|value| hex(value));
        assert_eq!(Some(hex(&value)), expect, "{}", readable(&key));
    }
    assert_eq!(golden.len(), 9, "and nothing else");
}

#[tokio::test]
async fn a_record_of_a_later_format_is_refused_by_name() {
    let memory = Memory::new();
    let mut batch = Batch::new();
    // As any later format would be: format, checksum over key, format and body, body.
    let key = firebreak_store::key::log::local("identity/node");
    let format = 200;
    let crc = crc32c::crc32c(&[&key[..], &[format], b"body"].concat());
    batch.put(key, [&[format][..], &crc.to_be_bytes(), b"body"].concat());
    memory.write(batch).unwrap();
    let error = Log::open(Arc::new(memory)).err().unwrap();
    assert!(
        matches!(
            error,
            Error::Format {
                found: 200,
                known: FORMAT,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
#[ignore = "writes the golden file of a new format; run it by name"]
async fn write_the_golden_file() {
    let mark = firebreak_store::key::log::local("mark");
    let mut text = format!("# Records of raftdb in format {FORMAT}. Never change this file.\n");
    for (key, value) in written().await {
        if FORMAT == 1 && key == mark {
            continue;
        }
        let _ = writeln!(text, "{} {} {}", hex(&key), hex(&value), readable(&key));
    }
    let path = directory().join(format!("raftdb-{FORMAT}.txt"));
    fs::create_dir_all(directory()).unwrap();
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path);
    std::io::Write::write_all(&mut file.unwrap(), text.as_bytes()).unwrap();
}
