//! The state on RocksDB: replay after a kill, snapshots between real databases.
#![cfg(feature = "rocksdb")]

mod support;

use std::path::Path;
use std::sync::Arc;

use store::engine::rocks::Rocks;
use store::state::Applied;
use support::*;

use firebreak_store as store;

fn start(disks: &Disks, path: &Path) -> Node {
    disks.start_on(
        Arc::new(Rocks::open_state(path).unwrap()),
        disks.start_log(),
    )
}

#[tokio::test]
async fn what_no_flush_covered_is_gone_after_a_kill_and_comes_back_by_replay() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("msgdb");
    let disks = Disks::default();
    let node = start(&disks, &path);
    for index in 1..=30 {
        node.run(vec![chat(index)]).await;
        if index == 20 {
            node.state.flush().await.unwrap();
            assert_eq!(node.shard.flushed().position, Some(at(20)));
        }
    }
    let before = node.seen();
    drop(node);
    let node = start(&disks, &path);
    assert_eq!(node.shard.applied().position, Some(at(20)));
    node.replay();
    assert_eq!(node.seen(), before);
}

#[tokio::test]
async fn a_snapshot_goes_from_one_database_to_another_and_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let donor = start(&Disks::default(), &directory.path().join("donor"));
    for index in 1..=200 {
        donor.run(vec![chat(index)]).await;
    }
    let disks = Disks::default();
    let path = directory.path().join("msgdb");
    let node = start(&disks, &path);
    node.run(vec![chat(1)]).await;
    for _ in 0..2 {
        let point = donor.shard.read_point().unwrap();
        let applied = point.applied.clone();
        let mut files = Vec::new();
        for file in point.export().await.unwrap() {
            // As over the network.
            let mut incoming = node.shard.receive().unwrap();
            let len = usize::try_from(file.len()).unwrap();
            incoming.append(&file.read_at(0, len).unwrap()).unwrap();
            files.push(incoming.finish().unwrap());
        }
        node.shard.install(applied, files).await.unwrap();
        assert_eq!(node.seen(), donor.seen());
    }
    drop(node);
    let node = start(&disks, &path);
    assert_eq!(node.seen(), donor.seen());
    assert_eq!(node.state.undone(), []);
    node.shard.clear().await.unwrap();
    assert_eq!(node.seen(), (Applied::default(), vec![]));
}
