//! Power cuts: nothing acknowledged is missing, the state never knows more than the log, and each
//! rule of two databases is needed (what happens without it is done by hand).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::reversed_empty_ranges,
    reason = "a test fails where it cannot go on; an empty range is a shard without slots"
)]

mod support;

use std::sync::Arc;

use futures::FutureExt;
use model::id::ShardId;
use store::engine::memory::Memory;
use store::engine::{Batch, Engine, Read};
use store::key;
use store::state::{Applied, ConversationHash, State};
use store::{Error, Log};
use support::reference::Reference;
use support::tripwire::{Fuse, Tripwire};
use support::*;

use firebreak_store as store;

const ENTRIES: u64 = 12;

/// A node whose every disk operation burns the fuse, from its start on.
async fn start_with(disks: &Disks, fuse: &Fuse) -> Result<Node, Error> {
    let trip = |disk| {
        Arc::new(Tripwire {
            inner: Arc::new(Memory::open(disk)),
            fuse: fuse.clone(),
        })
    };
    let (log, writer) = Log::open(trip(&disks.log))?;
    tokio::spawn(writer);
    recover_on(trip(&disks.state), log).await
}

/// Writes, syncs, applies, flushes and cuts the log until the power fails. Says the last index
/// acknowledged.
async fn work(node: &Node) -> u64 {
    let mut acknowledged = 0;
    for index in 1..=ENTRIES {
        let entries = vec![chat(index)];
        if node.submit(&entries).await.is_err() || node.shard.apply(entries).is_err() {
            return acknowledged;
        }
        acknowledged = index;
        if index % 4 == 0 && node.state.flush().await.is_err() {
            return acknowledged;
        }
        if index % 5 == 0 {
            let flushed = node.shard.flushed().position.unwrap();
            if node.log.shard(SHARD).unwrap().purge(flushed).await.is_err() {
                return acknowledged;
            }
        }
    }
    acknowledged
}

#[tokio::test]
async fn whatever_the_moment_of_a_power_cut_nothing_acknowledged_is_missing() {
    for log_keep in [0, usize::MAX] {
        let mut at = 0;
        loop {
            let disks = Disks::default();
            let fuse = Fuse::new(&disks, at, log_keep);
            let acknowledged = work(&start_with(&disks, &fuse).await.unwrap()).await;
            disks.power_cut(0);
            let node = disks.start();
            let survived = node.shard.applied().position.map_or(0, |p| p.index);
            let logged = node.log.shard(SHARD).unwrap().last().map_or(0, |p| p.index);
            assert!(
                survived <= logged,
                "cut {at}: state at {survived}, log at {logged}"
            );
            node.replay();
            let (applied, _) = node.seen();
            let reached = applied.position.map_or(0, |p| p.index);
            assert!(
                reached >= acknowledged,
                "cut {at}: {acknowledged} answered, {reached} there"
            );
            let mut reference = Reference::default();
            (1..=reached).for_each(|i| drop(reference.apply(&chat(i).payload.unwrap())));
            assert_eq!(applied.revision, reference.revision(), "cut {at}");
            if acknowledged == ENTRIES {
                assert!(at > 30, "the power was cut at {at} moments only");
                break;
            }
            at += 1;
        }
    }
}

#[tokio::test]
async fn rule_1_what_no_flush_covered_is_gone_and_comes_back_by_replay() {
    let disks = Disks::default();
    let node = disks.start();
    for index in 1..=3 {
        node.run(vec![chat(index)]).await;
    }
    let before = node.seen();
    assert_eq!(
        node.state.stats().syncs,
        0,
        "nothing but a flush syncs the state"
    );
    disks.power_cut(0);
    let node = disks.start();
    assert_eq!(node.shard.applied(), Applied::default());
    node.replay();
    assert_eq!(node.seen(), before);
}

#[tokio::test]
async fn rule_2_a_flush_waits_until_the_log_is_synced_past_all_that_is_applied() {
    let disks = Disks::default();
    let node = disks.start();
    disks.log.hold_syncs(true);
    let _durable = node.submit(&[chat(1)]);
    node.shard.apply(vec![chat(1)]).unwrap(); // committed by the others' disks
    let flush = tokio::spawn(node.state.flush());
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!flush.is_finished());
    assert_eq!(node.state.stats().syncs, 0);
    assert_eq!(node.shard.flushed().position, None);
    disks.log.hold_syncs(false);
    flush.await.unwrap().unwrap();
    assert_eq!(node.shard.flushed().position, Some(at(1)));

    // Without the rule: the state is flushed first, and knows what the log has lost.
    let disks = Disks::default();
    let engine = Arc::new(Memory::open(&disks.state));
    let node = disks.start_on(engine.clone(), disks.start_log());
    disks.log.hold_syncs(true);
    let _durable = node.submit(&[chat(1)]);
    node.shard.apply(vec![chat(1)]).unwrap();
    engine.sync().await.unwrap();
    disks.power_cut(0);
    let node = disks.start();
    let logged = node.log.shard(SHARD).unwrap().last();
    assert!(
        node.shard.applied().position > logged,
        "the rule would not be needed"
    );
}

#[tokio::test]
async fn rule_2_a_flush_comes_to_its_end_though_the_log_is_always_behind() {
    let disks = Disks::default();
    let node = disks.start();
    disks
        .log
        .set_sync_latency(std::time::Duration::from_millis(1));
    let mut flush = None;
    for index in 1..10_000 {
        let _durable = node.submit(&[chat(index)]); // never waited for
        node.shard.ready(at(index)).await.unwrap();
        node.shard.apply(vec![chat(index)]).unwrap();
        let flush = flush.get_or_insert_with(|| tokio::spawn(node.state.flush()));
        tokio::task::yield_now().await;
        if let Some(result) = flush.now_or_never() {
            result.unwrap().unwrap();
            assert!(node.shard.flushed().position >= Some(at(1)));
            return;
        }
    }
    panic!("the flush never found its moment");
}

#[tokio::test]
async fn rule_3_a_log_cut_up_to_the_flushed_position_replays_to_the_same_state() {
    let disks = Disks::default();
    let node = disks.start();
    node.run(vec![chat(1), chat(2)]).await;
    node.state.flush().await.unwrap();
    node.run(vec![chat(3)]).await;
    let before = node.seen();
    let log = node.log.shard(SHARD).unwrap();
    log.purge(node.shard.flushed().position.unwrap())
        .await
        .unwrap();
    node.log.sync().await.unwrap();
    disks.power_cut(0);
    let node = disks.start();
    node.replay();
    assert_eq!(node.seen(), before);

    // Without the rule: cut up to what is applied, entry 3 is in neither database.
    let log = node.log.shard(SHARD).unwrap();
    log.purge(node.shard.applied().position.unwrap())
        .await
        .unwrap();
    node.log.sync().await.unwrap();
    disks.power_cut(0);
    let node = disks.start();
    let next = node.shard.applied().position.unwrap().index + 1;
    let purged = node.log.shard(SHARD).unwrap().purged();
    assert!(purged >= Some(at(next)), "the rule would not be needed");
    assert_ne!(node.seen(), before, "the rule would not be needed");
}

/// A replica that is ahead: its files and how far it is.
async fn donor() -> Node {
    let node = Disks::default().start();
    for index in 1..=40 {
        node.run(vec![chat(index)]).await;
    }
    node
}

type Seen = (Applied, Vec<ConversationHash>);

/// What is seen of a shard, were it half or whole.
fn raw(node: &Node) -> (Option<store::Position>, Vec<ConversationHash>) {
    let mut found = Vec::new();
    let applied = node.shard.hash(|hash| found.push(hash));
    (applied.ok().and_then(|applied| applied.position), found)
}

/// The membership is not that of the files, as it is not when the donor's has moved on.
fn this_replicas(applied: Applied) -> Applied {
    let membership = bytes::Bytes::from_static(b"this replica's");
    Applied {
        membership,
        ..applied
    }
}

/// A node with a flushed old state, whose power fails at operation `at` of an install from the
/// donor. The old state, and whether the install was done before.
async fn interrupted(donor: &Node, disks: &Disks, at: usize, log_keep: usize) -> (Seen, bool) {
    let node = disks.start();
    node.run(vec![chat(1), chat(2)]).await;
    node.state.flush().await.unwrap();
    let old = node.seen();
    drop(node);
    let node = start_with(disks, &Fuse::new(disks, at, log_keep)).await;
    let point = donor.shard.read_point().unwrap();
    let applied = this_replicas(point.applied.clone());
    let files = point.export().await.unwrap();
    let installed = node.unwrap().shard.install(applied, files).await;
    disks.power_cut(log_keep);
    (old, installed.is_ok())
}

#[tokio::test]
async fn rule_4_a_power_cut_at_any_step_of_an_install_leaves_old_or_new() {
    let donor = donor().await;
    let (applied, conversations) = donor.seen();
    let new = (this_replicas(applied), conversations);
    for log_keep in [0, usize::MAX] {
        let (mut olds, mut news, mut second_cuts) = (0, 0, 0);
        for at in 0.. {
            let disks = Disks::default();
            let (old, installed) = interrupted(&donor, &disks, at, log_keep).await;
            let found = disks.recover().await.seen();
            match &found {
                found if *found == old => olds += 1,
                found if *found == new => news += 1,
                found => panic!("cut {at}: neither old nor new: {found:?}"),
            }
            assert_eq!(disks.state.kept(), 0, "cut {at}: files are left");
            // What the start decided stands, with nothing left to do.
            disks.power_cut(0);
            assert_eq!(disks.start().seen(), found, "cut {at}");

            // And a power cut at any step of the start itself changes nothing of it.
            for again in 0.. {
                let disks = Disks::default();
                interrupted(&donor, &disks, at, log_keep).await;
                let fuse = Fuse::new(&disks, again, usize::MAX - log_keep);
                let started = start_with(&disks, &fuse).await;
                assert_eq!(started.is_err(), fuse.is_burnt(), "cuts {at}, {again}");
                drop(started);
                disks.power_cut(0);
                let node = disks.recover().await;
                assert_eq!(node.seen(), found, "cuts {at}, {again}");
                assert_eq!(disks.state.kept(), 0, "cuts {at}, {again}: files are left");
                if !fuse.is_burnt() {
                    break;
                }
                second_cuts += 1;
            }
            if installed {
                assert_eq!(found, new);
                break;
            }
        }
        assert!(
            olds > 2 && news > 10 && second_cuts > 100,
            "{olds} old, {news} new, {second_cuts} starts interrupted"
        );
    }
}

#[tokio::test]
async fn rule_4_without_the_marker_a_power_cut_leaves_half() {
    let donor = donor().await;
    let disks = Disks::default();
    let node = disks.start();
    node.run(vec![chat(1)]).await;
    node.state.flush().await.unwrap();
    drop(node);
    let engine = Memory::open(&disks.state);
    let mut batch = Batch::new();
    let (from, to) = key::state::shard_records(SHARD);
    batch.delete_range(from.to_vec(), to.to_vec());
    let (from, to) = key::state::conversations(&ALL);
    batch.delete_range(from, to);
    engine.write(batch).unwrap();
    engine.sync().await.unwrap();
    // The files of the conversations without that of the shard's own records.
    let files = donor.shard.read_point().unwrap().export().await.unwrap();
    engine
        .ingest(files.into_iter().skip(1).collect())
        .await
        .unwrap();
    disks.power_cut(0);
    let (applied, found) = raw(&disks.start());
    assert_eq!(applied, None);
    assert!(!found.is_empty(), "the rule would not be needed");
}

#[tokio::test]
async fn readers_see_the_old_state_until_the_new_one_is_whole() {
    let donor = donor().await;
    let disks = Disks::default();
    let node = disks.start();
    node.run(vec![chat(1)]).await;
    let watch = node.shard.watch(&room("room0"));
    let point = donor.shard.read_point().unwrap();
    let applied = point.applied.clone();
    let files = point.export().await.unwrap();
    // Its files are kept; its marker waits until the state's disk hangs.
    disks.log.hold_syncs(true);
    let install = tokio::spawn(node.shard.install(applied.clone(), files));
    while disks.state.kept() == 0 {
        tokio::task::yield_now().await;
    }
    disks.state.hold_syncs(true);
    disks.log.hold_syncs(false);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!install.is_finished());
    let seqs = || {
        node.shard
            .conversation(&room("room0"))
            .unwrap()
            .unwrap()
            .last_seq
    };
    assert_eq!((seqs(), *watch.borrow()), (1, 1));
    assert!(
        node.shard.apply(vec![chat(2)]).is_err(),
        "nothing is applied meanwhile"
    );
    disks.state.hold_syncs(false);
    install.await.unwrap().unwrap();
    assert_eq!((seqs(), *watch.borrow()), (40, 40));
    assert_eq!(
        (node.shard.applied(), node.shard.flushed()),
        (applied.clone(), applied)
    );
    assert_eq!(node.seen(), donor.seen());
}

#[tokio::test]
async fn nothing_is_applied_from_the_marker_on() {
    let donor = donor().await;
    let disks = Disks::default();
    let node = disks.start();
    node.run(vec![chat(1)]).await;
    let files = donor.shard.read_point().unwrap().export().await.unwrap();
    disks.log.hold_syncs(true);
    let install = tokio::spawn(node.shard.install(donor.shard.applied(), files));
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(node.log.local_get("install/1").unwrap().is_some());
    assert_eq!(node.state.stats().syncs, 0, "not cleared yet");
    // It would be acknowledged, and gone after a crash that leaves the marker.
    assert!(node.shard.apply(vec![chat(2)]).is_err());
    disks.log.hold_syncs(false);
    install.await.unwrap().unwrap();
    assert_eq!(node.seen(), donor.seen());
}

#[tokio::test]
async fn a_snapshot_is_as_good_as_a_replay_also_for_retries_and_what_follows() {
    let donor = donor().await;
    let disks = Disks::default();
    let node = disks.start();
    let other = node.state.shard(ShardId(7), 1..=0).unwrap();
    other.apply(vec![quiet(1)]).unwrap(); // another shard's unflushed state is not in the way
    let log = node.log.shard(ShardId(7)).unwrap();
    let record = store::Record {
        position: at(1),
        data: bytes::Bytes::new(),
    };
    log.append(vec![record], Box::new(|result| result.unwrap()));
    let point = donor.shard.read_point().unwrap();
    let mut applied = point.applied.clone();
    applied.membership = bytes::Bytes::from_static(b"others");
    let files = point.export().await.unwrap();
    node.shard.install(applied, files).await.unwrap();
    assert_eq!(node.seen().1, donor.seen().1);
    assert_eq!(node.shard.applied().membership, "others");
    // Retries of everything, and something new, under the next index.
    for index in 1..=42 {
        let mut again = chat(index);
        again.position = at(40 + index);
        let expected = donor.shard.apply(vec![again.clone()]).unwrap();
        assert_eq!(node.shard.apply(vec![again]).unwrap(), expected);
    }
    assert_eq!(node.seen().1, donor.seen().1);
}

fn quiet(index: u64) -> store::state::ToApply {
    store::state::ToApply {
        position: at(index),
        membership: None,
        payload: None,
    }
}

#[tokio::test]
async fn files_of_another_position_are_refused_and_the_next_install_succeeds() {
    let donor = donor().await;
    let disks = Disks::default();
    let node = disks.start();
    for (position, works) in [(at(39), false), (at(40), true)] {
        let point = donor.shard.read_point().unwrap();
        let applied = Applied {
            position: Some(position),
            ..point.applied.clone()
        };
        let files = point.export().await.unwrap();
        assert_eq!(node.shard.install(applied, files).await.is_ok(), works);
        assert_eq!(disks.state.kept() == 0, works);
    }
    assert_eq!(node.seen(), donor.seen());
    disks.power_cut(0);
    assert_eq!(disks.start().seen(), donor.seen());
}

#[tokio::test]
async fn an_install_that_cannot_be_finished_leaves_its_shard_refused_and_no_other() {
    let donor = donor().await;
    // Cut when the marker is durable, and the clearing not.
    let mut at = 0;
    let disks = loop {
        let disks = Disks::default();
        interrupted(&donor, &disks, at, usize::MAX).await;
        if disks.start_log().local_get("install/1").unwrap().is_some() {
            break disks;
        }
        at += 1;
    };
    let engine = Arc::new(Memory::open(&disks.state));
    engine.forget(&engine.kept().unwrap()[..1]).unwrap();
    let state = State::open(engine, disks.start_log()).unwrap();
    let refused = |state: &State| state.shard(SHARD, ALL).err().unwrap();
    assert!(matches!(refused(&state), Error::Disk { .. }), "not tried");
    state.finish_installs().await.unwrap();
    assert!(matches!(refused(&state), Error::Corrupt { .. }), "tried");
    assert!(state.shard(ShardId(7), 1..=0).is_ok());
    // What cannot be replaced is not removed.
    let applied = Memory::open(&disks.state).get(&key::state::applied(SHARD));
    assert!(applied.unwrap().is_some());
}

#[tokio::test]
async fn files_that_no_marker_names_are_removed_and_others_are_not() {
    let donor = donor().await;
    let disks = Disks::default();
    let engine = Memory::open(&disks.state);
    for _ in 0..2 {
        let files = donor.shard.read_point().unwrap().export().await.unwrap();
        engine.keep(files).await.unwrap();
    }
    assert_eq!(disks.state.kept(), 4);
    let log = disks.start_log();
    // Format 1, all slots, files "000003" and "000004".
    let marker = [
        b"\x08\x01\x10\x00\x18\xff\xff\x03".as_slice(),
        b"\x32\x06000003\x32\x06000004",
    ];
    log.local_put("install/1", Some(marker.concat().into()))
        .await
        .unwrap();
    State::open(Arc::new(engine), log).unwrap();
    let left = Memory::open(&disks.state).kept().unwrap();
    assert_eq!(left, ["000003", "000004"]);
}

#[tokio::test]
async fn a_cleared_shard_is_empty_for_good() {
    let disks = Disks::default();
    let node = disks.start();
    node.run(vec![chat(1)]).await;
    node.state.flush().await.unwrap();
    node.shard.clear().await.unwrap();
    assert_eq!(node.seen(), (Applied::default(), vec![]));
    disks.power_cut(0);
    let node = disks.start();
    assert_eq!(node.seen(), (Applied::default(), vec![]));
    node.replay();
    assert_eq!(node.seen().0.position, Some(at(1)));
}

/// All bytes of a file.
fn bytes(file: &dyn store::engine::SortedFile) -> bytes::Bytes {
    file.read_at(0, usize::try_from(file.len()).unwrap())
        .unwrap()
}

#[tokio::test]
async fn an_export_goes_back_and_makes_the_same_file_again_whatever_was_written_since() {
    let donor = donor().await;
    let mut export = donor.shard.read_point().unwrap().exporting();
    assert!(!export.go_back_to(1), "nothing was made yet");
    let mut made = Vec::new();
    while let Some(file) = export.next().await.unwrap() {
        made.push(bytes(&*file));
    }
    assert!(
        made.len() > 1,
        "there is more than one file to go back over"
    );
    donor.run(vec![chat(41)]).await;
    for number in (0..made.len()).rev() {
        assert!(export.go_back_to(number));
        let again = export.next().await.unwrap().unwrap();
        assert_eq!(bytes(&*again), made[number], "file {number}");
    }
}
