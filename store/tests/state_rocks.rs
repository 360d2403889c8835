//! The state on RocksDB: replay after a kill, snapshots between real databases.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it cannot go on"
)]
#![cfg(feature = "rocksdb")]

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use store::engine::SortedFile;
use store::engine::memory::Memory;
use store::engine::rocks::Rocks;
use store::state::Applied;
use store::{Error, Log};
use support::tripwire::{Fuse, Tripwire};
use support::*;

use firebreak_store as store;

fn start(disks: &Disks, path: &Path) -> Node {
    disks.start_on(
        Arc::new(Rocks::open_state(path).unwrap()),
        disks.start_log(),
    )
}

/// Files kept beside a database.
fn kept(path: &Path) -> usize {
    fs::read_dir(path.with_extension("kept")).map_or(0, Iterator::count)
}

/// A snapshot of the donor, as over the network.
async fn receive(donor: &Node, node: &Node) -> (Applied, Vec<Box<dyn SortedFile>>) {
    let point = donor.shard.read_point().unwrap();
    let applied = point.applied.clone();
    let mut files = Vec::new();
    for file in point.export().await.unwrap() {
        let mut incoming = node.shard.receive().unwrap();
        let len = usize::try_from(file.len()).unwrap();
        incoming.append(&file.read_at(0, len).unwrap()).unwrap();
        files.push(incoming.finish().unwrap());
    }
    (applied, files)
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
        let (applied, files) = receive(&donor, &node).await;
        node.shard.install(applied, files).await.unwrap();
        assert_eq!(node.seen(), donor.seen());
    }
    drop(node);
    let node = start(&disks, &path);
    assert_eq!(node.seen(), donor.seen());
    assert_eq!(kept(&path), 0);
    node.shard.clear().await.unwrap();
    assert_eq!(node.seen(), (Applied::default(), vec![]));
}

/// A node whose every disk operation burns the fuse, from its start on.
async fn start_with(disks: &Disks, path: &Path, fuse: &Fuse) -> Result<Node, Error> {
    let state = Arc::new(Tripwire {
        inner: Arc::new(Rocks::open_state(path)?),
        fuse: fuse.clone(),
    });
    let (log, writer) = Log::open(Arc::new(Tripwire {
        inner: Arc::new(Memory::open(&disks.log)),
        fuse: fuse.clone(),
    }))?;
    tokio::spawn(writer);
    recover_on(state, log).await
}

async fn recover(disks: &Disks, path: &Path) -> Node {
    let engine = Arc::new(Rocks::open_state(path).unwrap());
    recover_on(engine, disks.start_log()).await.unwrap()
}

/// The process dies at every operation of an install, and again at one of the start behind it.
#[tokio::test]
async fn an_install_that_is_killed_at_any_step_leaves_old_or_new() {
    let directory = tempfile::tempdir().unwrap();
    let donor = start(&Disks::default(), &directory.path().join("donor"));
    for index in 1..=40 {
        donor.run(vec![chat(index)]).await;
    }
    let new = donor.seen();
    let (mut olds, mut news, mut second_kills) = (0, 0, 0);
    for at in 0.. {
        let path = directory.path().join(format!("msgdb-{at}"));
        let disks = Disks::default();
        let node = start(&disks, &path);
        node.run(vec![chat(1), chat(2)]).await;
        node.state.flush().await.unwrap();
        let old = node.seen();
        drop(node);

        let log_keep = [0, usize::MAX][at % 2];
        let fuse = Fuse::new(&disks, at, log_keep);
        let node = start_with(&disks, &path, &fuse).await.unwrap();
        let (applied, files) = receive(&donor, &node).await;
        let installed = node.shard.install(applied, files).await.is_ok();
        disks.power_cut(log_keep);
        drop(node);

        let fuse = Fuse::new(&disks, at * 5 % 16, log_keep);
        let started = start_with(&disks, &path, &fuse).await;
        assert_eq!(started.is_err(), fuse.is_burnt(), "cut {at}");
        second_kills += u32::from(fuse.is_burnt());
        drop(started);
        disks.power_cut(0);

        let node = recover(&disks, &path).await;
        match node.seen() {
            found if found == old => olds += 1,
            found if found == new => news += 1,
            found => panic!("cut {at}: neither old nor new: {found:?}"),
        }
        assert_eq!(kept(&path), 0, "cut {at}: files are left");
        if installed {
            assert_eq!(node.seen(), new);
            break;
        }
    }
    assert!(
        olds > 2 && news > 10 && second_kills > 4,
        "{olds} old, {news} new, {second_kills} starts killed"
    );
}
