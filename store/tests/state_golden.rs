//! Every record of `msgdb` and the install marker, as the first version wrote them. The files are
//! never changed: what was once written must be read for ever.
//!
//! A new record gets a new file: `GOLDEN_WRITE=1 cargo test --release -p firebreak-store --test
//! state_golden` writes those that are missing, and only those.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it cannot go on"
)]

mod support;

use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use model::cluster::{Change, ChangeBody, ClusterState, Node as Member};
use model::command::{Append, Command, Create};
use model::hash;
use model::id::ShardId;
use store::Error;
use store::engine::memory::Memory;
use store::engine::{Batch, Engine, Order, Read};
use store::state::{Applied, ConversationHash};
use support::*;

use firebreak_store as store;

fn golden(name: &str, written: &str) -> String {
    let directory = Path::new("tests/golden");
    let path = directory.join(name);
    if !written.is_empty() && !path.exists() && std::env::var_os("GOLDEN_WRITE").is_some() {
        std::fs::create_dir_all(directory).unwrap();
        std::fs::write(&path, written).unwrap();
    }
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text
        .as_bytes()
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).unwrap());
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}

/// Each record as "key value", in key order.
fn dump(engine: &dyn Read) -> String {
    let mut text = String::new();
    engine
        .scan(&[], &[0xff], Order::Ascending, &mut |key, value| {
            writeln!(text, "{} {}", hex(key), hex(value)).unwrap();
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
    text
}

fn load(text: &str) -> Arc<Memory> {
    let engine = Memory::new();
    let mut batch = Batch::new();
    for line in text.lines() {
        let (key, value) = line.split_once(' ').unwrap();
        batch.put(unhex(key), unhex(value));
    }
    engine.write(batch).unwrap();
    Arc::new(engine)
}

fn founding() -> Command {
    Command::meta(Change {
        body: Some(ChangeBody::Found(Box::new(ClusterState {
            cluster_id: "00ff".into(),
            token_hash: hash::token_hash("secret"),
            nodes: vec![Member {
                id: 1,
                name: "seoul-1".into(),
                ..Member::default()
            }],
            ..ClusterState::default()
        }))),
        actor: None,
    })
}

/// A meta shard and a data shard with a created conversation, one of 17 messages (its head is that
/// of the 16th) and one of a retried import.
fn entries() -> (Vec<store::state::ToApply>, Vec<store::state::ToApply>) {
    let mut meta = entry(2, START_MS, &[founding()]);
    meta.membership = Some(Bytes::from_static(b"voters"));
    let create = Command::create(Create {
        conversation: room("made").to_string(),
        request_id: Bytes::from_static(b"r-1"),
        attributes: Vec::new(),
    });
    let mut data = vec![entry(
        1,
        START_MS,
        &[create, say("one", "import:1"), say("one", "import:1")],
    )];
    for index in 2..=18 {
        let message = message(&format!("m-{index}"), "안녕".as_bytes());
        data.push(entry(
            index,
            START_MS + index,
            &[Command::append(Append {
                conversation: room("many").to_string(),
                messages: vec![message],
                ..Append::default()
            })],
        ));
    }
    (vec![meta], data)
}

#[tokio::test]
async fn the_records_of_msgdb_are_written_as_ever() {
    let disks = Disks::default();
    let engine = Arc::new(Memory::open(&disks.state));
    let node = disks.start_on(engine.clone(), disks.start_log());
    let (meta, data) = entries();
    node.state
        .shard(ShardId::META, ALL)
        .unwrap()
        .apply(meta)
        .unwrap();
    for entry in data {
        node.shard.apply(vec![entry]).unwrap();
    }
    let written = dump(&*engine);
    assert_eq!(written, golden("msgdb.hex", &written));
}

#[tokio::test]
async fn the_records_of_msgdb_are_read_as_ever() {
    let engine = load(&golden("msgdb.hex", ""));
    let node = Disks::default().start_on(engine, Disks::default().start_log());
    let meta = node.state.shard(ShardId::META, ALL).unwrap();
    assert_eq!(meta.applied().membership, "voters");
    assert_eq!(
        (meta.cluster().cluster_id.as_str(), meta.cluster().epoch),
        ("00ff", 1)
    );
    let (applied, hashes) = node.seen();
    assert_eq!(applied.position, Some(at(18)));
    assert_eq!((applied.revision, applied.time_ms), (19, START_MS + 18));
    assert_eq!(hashes.len(), 3);
    let (head, page) = node
        .shard
        .list(&room("many"), 0, Order::Descending, 1, usize::MAX)
        .unwrap()
        .unwrap();
    assert_eq!((head.last_seq, head.revision), (17, 19));
    assert_eq!(page[0].message.as_ref().unwrap().body, "안녕".as_bytes());
    // Its ids are remembered.
    let (_, mut data) = entries();
    data[5].position = at(19);
    let reply = node
        .shard
        .apply(vec![data.remove(5)])
        .unwrap()
        .remove(0)
        .remove(0);
    let Some(model::command::Answer::Appended(appended)) = reply.answer else {
        panic!("not appended");
    };
    assert!(appended.outcomes[0].deduplicated);
    assert_eq!(appended.outcomes[0].seq, 5);
}

/// The marker of an install that a held sync of the log keeps from its end, and what is installed.
async fn marker(disks: &Disks) -> (Bytes, (Applied, Vec<ConversationHash>)) {
    let donor = Disks::default().start();
    donor.run(vec![chat(1), chat(2)]).await;
    let node = disks.start();
    let point = donor.shard.read_point().unwrap();
    let mut applied = point.applied.clone();
    applied.membership = Bytes::from_static(b"voters");
    let mut new = donor.seen();
    new.0.membership = applied.membership.clone();
    let files = point.export().await.unwrap();
    disks.log.hold_syncs(true);
    let install = tokio::spawn(node.shard.install(applied, files));
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!install.is_finished());
    let marker = node.log.local_get("install/1").unwrap().expect("a marker");
    install.abort();
    assert!(install.await.unwrap_err().is_cancelled());
    disks.log.hold_syncs(false);
    (marker, new)
}

#[tokio::test]
async fn an_install_marker_is_written_and_read_as_ever() {
    let disks = Disks::default();
    let (written, new) = marker(&disks).await;
    let text = golden("install_marker_files.hex", &format!("{}\n", hex(&written)));
    assert_eq!(text.trim(), hex(&written));
    disks.power_cut(0);
    let log = disks.start_log();
    log.local_put("install/1", Some(unhex(text.trim()).into()))
        .await
        .unwrap();
    let node = recover_on(Arc::new(Memory::open(&disks.state)), log).await;
    assert_eq!(node.unwrap().seen(), new);
}

/// The first version's markers name no files: nothing can be finished by them.
#[tokio::test]
async fn an_install_marker_without_files_is_read_as_ever_and_refuses_its_shard() {
    let disks = Disks::default();
    let log = disks.start_log();
    let text = golden("install_marker.hex", "");
    log.local_put("install/1", Some(unhex(text.trim()).into()))
        .await
        .unwrap();
    let engine = Arc::new(Memory::open(&disks.state));
    let refused = recover_on(engine, log).await.err();
    assert!(
        matches!(refused, Some(Error::Corrupt { .. })),
        "{refused:?}"
    );
}
