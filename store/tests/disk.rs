//! What the simulated disk does when it fails, is cut off, is killed with its process, wears out,
//! or is exchanged. (That it allows what RocksDB does: `differential.rs`.)

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it cannot go on"
)]

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use firebreak_store::engine::memory::{Disk, Fault, Hit, Memory, Part};
use firebreak_store::engine::{Batch, Engine, Order, Read, Write};
use firebreak_store::key::{log, state};
use firebreak_store::{Error, HardState, Log, Position, Record};
use model::id::{ConversationKey, ShardId};
use parking_lot::Mutex;
use tokio::time::Instant;

fn put(key: &str, value: &str) -> Batch {
    let mut batch = Batch::new();
    batch.put(key.to_owned(), value.to_owned());
    batch
}

/// An engine on which `a` is synced, and `b`, `c`, `d` are written.
async fn one_synced_three_not(disk: &Disk) -> Memory {
    let memory = Memory::open(disk);
    memory.write(put("a", "1")).unwrap();
    memory.sync().await.unwrap();
    for key in ["b", "c", "d"] {
        memory.write(put(key, "1")).unwrap();
    }
    memory
}

fn keys(read: &dyn Read) -> String {
    let mut keys = String::new();
    read.scan(b"", &[0xff; 20], Order::Ascending, &mut |key, _| {
        keys.push_str(std::str::from_utf8(key).unwrap());
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    keys
}

fn opened(disk: &Disk) -> String {
    keys(&Memory::open(disk))
}

#[tokio::test]
async fn a_power_cut_puts_back_what_lost_batches_overwrote_and_removed() {
    for keep in 0..=3 {
        let disk = Disk::new();
        let memory = Memory::open(&disk);
        for key in ["a", "b", "c", "d"] {
            memory.write(put(key, "old")).unwrap();
        }
        memory.sync().await.unwrap();
        let used = disk.used_bytes();
        let mut twice = put("a", "new");
        twice.delete("a");
        twice.put("a", "newer");
        let mut removal = Batch::new();
        removal.delete_range("b", "d");
        removal.delete("never");
        for batch in [twice, removal, put("c", "again")] {
            memory.write(batch).unwrap();
        }
        disk.power_cut_with(|unsynced| {
            assert_eq!(unsynced, 3);
            keep
        });
        let memory = Memory::open(&disk);
        let expect = ["abcd", "abcd", "ad", "acd"][keep];
        assert_eq!(keys(&memory), expect);
        let newer = memory.get(b"a").unwrap().unwrap() == "newer";
        assert_eq!(newer, keep > 0);
        let again = memory.get(b"c").unwrap() == Some(Bytes::from("again"));
        assert_eq!(again, keep == 3);
        if keep == 0 {
            assert_eq!(disk.used_bytes(), used);
        }
    }
}

#[tokio::test]
async fn what_reached_the_system_survives_the_process_and_is_durable_once_opened() {
    for (reached, cut_before_opening, expect) in [
        (0, None, "a"),
        (2, None, "abc"),
        (9, None, "abcd"),
        (2, Some(1), "ab"),
        (2, Some(9), "abc"),
    ] {
        let disk = Disk::new();
        let memory = one_synced_three_not(&disk).await;
        disk.process_killed(reached);
        assert!(memory.write(put("e", "1")).is_err(), "its process is dead");
        assert!(memory.sync().await.is_err());
        if let Some(keep) = cut_before_opening {
            disk.power_cut(keep);
        }
        assert_eq!(opened(&disk), expect, "{reached}, {cut_before_opening:?}");
        disk.power_cut(0);
        assert_eq!(opened(&disk), expect, "recovery made it durable");
    }
}

#[tokio::test]
async fn a_second_kill_loses_nothing_that_the_first_left() {
    let disk = Disk::new();
    one_synced_three_not(&disk).await;
    disk.process_killed(2);
    disk.process_killed(0);
    assert_eq!(opened(&disk), "abc");
}

#[tokio::test]
async fn a_torn_tail_shows_the_first_writes_of_the_batch_behind_the_survivors() {
    for (keep, writes, expect) in [(0, 1, "ab"), (0, 2, "abc"), (1, 0, "abc"), (9, 9, "abcd")] {
        let disk = Disk::new();
        let memory = Memory::open(&disk);
        memory.write(put("a", "1")).unwrap();
        memory.sync().await.unwrap();
        let mut pair = put("b", "1");
        pair.extend(put("c", "1"));
        memory.write(pair).unwrap();
        memory.write(put("d", "1")).unwrap();
        disk.power_cut_torn(|_| keep, |_| writes);
        assert_eq!(opened(&disk), expect, "{keep}, {writes}");
    }
}

#[tokio::test]
async fn what_a_failed_sync_was_for_is_never_durable_though_later_syncs_succeed() {
    for keep in [0, 1, 9] {
        let disk = Disk::new();
        let memory = one_synced_three_not(&disk).await;
        disk.fail_next(Fault::Sync, 1);
        let error = memory.sync().await.unwrap_err();
        assert!(matches!(
            error,
            Error::Disk {
                operation: "sync",
                ..
            }
        ));
        memory.write(put("e", "1")).unwrap();
        memory.sync().await.unwrap();
        assert_eq!(keys(&memory), "abcde", "it can still be read");
        disk.power_cut_with(|can_survive| {
            assert_eq!(can_survive, 2, "at least the last of them is lost");
            keep
        });
        assert_eq!(opened(&disk), ["a", "ab", "abc"][keep.min(2)]);
    }
}

#[tokio::test]
async fn what_a_failed_sync_was_for_survives_a_killed_process() {
    let disk = Disk::new();
    let memory = one_synced_three_not(&disk).await;
    disk.fail_next(Fault::Sync, 1);
    memory.sync().await.unwrap_err();
    disk.process_killed_with(|unsynced| unsynced);
    let memory = Memory::open(&disk);
    memory.write(put("e", "1")).unwrap();
    memory.sync().await.unwrap();
    disk.power_cut(0);
    assert_eq!(opened(&disk), "abcde", "recovery wrote it again");
}

#[tokio::test]
async fn all_who_wait_for_a_sync_that_fails_are_told() {
    let memory = Memory::new();
    let disk = memory.disk();
    disk.hold_syncs(true);
    memory.write(put("a", "1")).unwrap();
    let first = tokio::spawn(memory.sync());
    memory.write(put("b", "1")).unwrap();
    let second = tokio::spawn(memory.sync());
    tokio::task::yield_now().await;
    disk.fail_next(Fault::Sync, 1);
    disk.hold_syncs(false);
    assert!(first.await.unwrap().is_err());
    assert!(second.await.unwrap().is_err());
    assert!(memory.sync().await.is_ok(), "asked for after the failure");
    assert_eq!(disk.unsynced(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_device_serves_one_sync_at_a_time_and_those_who_wait_together() {
    let memory = Memory::new();
    let mut next_ms = 0;
    memory.disk().draw_sync_latency(move || {
        next_ms += 10;
        Duration::from_millis(next_ms)
    });
    let begin = Instant::now();
    let timed = |after_ms: u64| {
        memory.write(put("a", "1")).unwrap();
        let sync = memory.sync();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            sync.await.unwrap();
            u64::try_from(begin.elapsed().as_millis()).unwrap()
        })
    };
    // 10 ms for the first, 20 for the two behind it, 30 for the one behind those, 40 for the last.
    let asked = [0, 4, 9, 11, 100].map(timed);
    let mut done = Vec::new();
    for one in asked {
        done.push(one.await.unwrap());
    }
    assert_eq!(done, [10, 30, 30, 60, 140]);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_was_busy_is_idle_after_a_crash() {
    let disk = Disk::new();
    let memory = Memory::open(&disk);
    disk.set_sync_latency(Duration::from_secs(3_600));
    let hung = tokio::spawn(memory.sync());
    tokio::time::sleep(Duration::from_millis(1)).await;
    disk.set_sync_latency(Duration::from_millis(2));
    disk.power_cut(0);
    let memory = Memory::open(&disk);
    let before = Instant::now();
    memory.sync().await.unwrap();
    assert_eq!(before.elapsed(), Duration::from_millis(2));
    assert!(hung.await.unwrap().is_err());
}

#[tokio::test]
async fn a_full_disk_takes_what_fits_and_has_room_again_when_something_goes() {
    let disk = Disk::named("raftdb");
    let memory = Memory::open(&disk);
    memory.write(put("a", "12345")).unwrap();
    assert_eq!(disk.used_bytes(), 6);
    memory.write(put("a", "123")).unwrap();
    assert_eq!(disk.used_bytes(), 4);
    disk.set_capacity_bytes(Some(10));
    memory.write(put("b", "12345")).unwrap();
    let error = memory.write(put("c", "1")).unwrap_err();
    assert!(matches!(&error, Error::NoSpace { file } if file == "raftdb"));
    assert_eq!((keys(&memory).as_str(), disk.used_bytes()), ("ab", 10));
    disk.set_capacity_bytes(Some(11));
    let mut removal = Batch::new();
    removal.delete("b");
    memory.write(removal).unwrap();
    memory.write(put("c", "1")).unwrap();
    // Files take room too.
    let export = || memory.export(memory.snapshot(), b"a".to_vec(), b"z".to_vec(), 1);
    memory.sync().await.unwrap();
    assert!(matches!(
        memory.keep(export().await.unwrap()).await,
        Err(Error::NoSpace { .. })
    ));
    disk.set_capacity_bytes(None);
    memory.keep(export().await.unwrap()).await.unwrap();
    let with_files = disk.used_bytes();
    memory.forget(&memory.kept().unwrap()).unwrap();
    assert_eq!(disk.used_bytes(), 6);
    assert!(with_files > 6);
}

#[tokio::test]
async fn faults_strike_as_often_as_told_and_side_by_side() {
    let memory = Memory::new();
    let disk = memory.disk();
    disk.fail_next(Fault::Write, 2);
    disk.fail(Fault::Read, true);
    assert!(memory.write(put("a", "1")).is_err());
    assert!(memory.write(put("a", "1")).is_err());
    memory.write(put("a", "1")).unwrap();
    let point = memory.snapshot();
    assert!(memory.get(b"a").is_err() && point.get(b"a").is_err());
    assert!(
        memory
            .export(point, b"a".to_vec(), b"z".to_vec(), 1)
            .await
            .is_err()
    );
    disk.fail(Fault::Read, false);
    assert!(memory.get(b"a").unwrap().is_some());
    disk.fail_next(Fault::Write, 7);
    disk.fail_next(Fault::Write, 0);
    memory.write(put("a", "1")).unwrap();
}

#[tokio::test]
async fn a_wiped_disk_is_empty_and_an_old_one_comes_back_as_it_was() {
    let disk = Disk::new();
    let memory = one_synced_three_not(&disk).await;
    let export = memory.export(memory.snapshot(), b"a".to_vec(), b"z".to_vec(), 100);
    memory.keep(export.await.unwrap()).await.unwrap();
    let old = disk.image();
    memory.sync().await.unwrap();
    memory.forget(&memory.kept().unwrap()).unwrap();
    disk.wipe();
    assert!(memory.write(put("e", "1")).is_err(), "it was on that disk");
    assert_eq!((opened(&disk).as_str(), disk.used_bytes()), ("", 0));
    let memory = Memory::open(&disk);
    memory.write(put("z", "1")).unwrap();
    memory.sync().await.unwrap();
    disk.restore(&old);
    assert_eq!((opened(&disk).as_str(), disk.kept()), ("a", 1));
    // Into another machine too, and each goes its own way.
    let other = Disk::new();
    other.restore(&old);
    let memory = Memory::open(&other);
    memory.write(put("b", "1")).unwrap();
    memory.sync().await.unwrap();
    assert_eq!(
        (opened(&other).as_str(), opened(&disk).as_str()),
        ("ab", "a")
    );
}

#[tokio::test]
async fn the_observer_sees_each_batch_when_it_becomes_durable() {
    let seen: Arc<Mutex<String>> = Arc::default();
    let disk = Disk::new();
    let watching = Arc::clone(&seen);
    disk.observe(Some(Arc::new(move |batch| {
        for write in batch.writes() {
            if let Write::Put(key, _) = write {
                watching.lock().push_str(std::str::from_utf8(key).unwrap());
            }
        }
    })));
    let memory = one_synced_three_not(&disk).await;
    let took = || std::mem::take(&mut *seen.lock());
    assert_eq!(took(), "a");
    let asked = memory.sync();
    memory.write(put("e", "1")).unwrap();
    assert_eq!(took(), "");
    asked.await.unwrap();
    assert_eq!(took(), "bcd", "as of its call");
    memory.write(put("f", "1")).unwrap();
    disk.power_cut(1);
    assert_eq!(took(), "e", "what survives a power cut");
    let memory = Memory::open(&disk);
    memory.write(put("g", "1")).unwrap();
    disk.process_killed(1);
    assert_eq!(took(), "");
    let memory = Memory::open(&disk);
    assert_eq!(took(), "g", "what recovery finds");
    let mut pair = put("h", "1");
    pair.extend(put("i", "1"));
    memory.write(pair).unwrap();
    disk.power_cut_torn(|_| 0, |_| 1);
    assert_eq!(took(), "h", "of a torn batch what survives");
    let memory = Memory::open(&disk);
    let source = Memory::new();
    source.write(put("j", "1")).unwrap();
    let files = source.export(source.snapshot(), b"a".to_vec(), b"z".to_vec(), 100);
    memory.ingest(files.await.unwrap()).await.unwrap();
    assert_eq!(took(), "j", "what is ingested");
}

#[tokio::test]
async fn a_damaged_record_is_an_error_until_it_is_written_over() {
    let disk = Disk::named("msgdb");
    let memory = one_synced_three_not(&disk).await;
    memory.write(put("a", "newer")).unwrap();
    let nothing = disk.flip_bit_where(|key| key == b"b", |_| 0);
    assert_eq!(nothing, None, "what is not durable cannot be hit");
    let hit = disk.flip_bit_where(
        |_| true,
        |count| {
            assert_eq!(count, 1);
            0
        },
    );
    assert_eq!(hit, Some(Hit::Record(Bytes::from("a"))));
    assert_eq!(
        memory.get(b"a").unwrap().as_deref(),
        Some(&b"newer"[..]),
        "read from memory"
    );
    disk.power_cut(0);
    let memory = Memory::open(&disk);
    let scanned = memory.scan(b"a", b"z", Order::Descending, &mut |_, _| {
        Ok(ControlFlow::Continue(()))
    });
    let exported = memory
        .export(memory.snapshot(), b"a".to_vec(), b"z".to_vec(), 100)
        .await;
    for error in [
        memory.get(b"a").unwrap_err(),
        scanned.unwrap_err(),
        exported.err().unwrap(),
    ] {
        let Error::Corrupt { file, key, .. } = error else {
            panic!("{error}")
        };
        assert_eq!((file.as_str(), key.as_str()), ("msgdb", "61"));
    }
    memory.write(put("a", "whole")).unwrap();
    assert_eq!(memory.get(b"a").unwrap().as_deref(), Some(&b"whole"[..]));
    disk.power_cut(0);
    assert!(Memory::open(&disk).get(b"a").is_err(), "not synced");
}

#[tokio::test]
async fn a_bit_flips_in_the_part_that_was_asked_for() {
    let disk = Disk::named("raftdb");
    assert_eq!(disk.flip_bit(Part::Entry, |_| 0), None);
    let (log_of_all, writer) = Log::open(Arc::new(Memory::open(&disk))).unwrap();
    tokio::spawn(writer);
    let shard = log_of_all.shard(ShardId(1)).unwrap();
    let record = |index| Record {
        position: Position { term: 1, index },
        data: Bytes::from("entry"),
    };
    shard.append(
        vec![record(0), record(1)],
        Box::new(|result| result.unwrap()),
    );
    shard
        .save(HardState::Vote, Bytes::from("vote"))
        .await
        .unwrap();
    log_of_all
        .local_put("identity", Some(Bytes::from("n1")))
        .await
        .unwrap();
    drop((shard, log_of_all));
    let image = disk.image();
    let refused = |part, hit: Vec<u8>| {
        disk.restore(&image);
        let last = |count| count - 1;
        let found = disk.flip_bit(part, last);
        assert_eq!(found, Some(Hit::Record(hit.into())), "{part:?}");
        let opened = Log::open(Arc::new(Memory::open(&disk)));
        opened.and_then(|(log, _)| log.shard(ShardId(1)).map(drop))
    };
    for (part, hit) in [
        (Part::Entry, log::entry(ShardId(1), 1).to_vec()),
        (Part::Vote, log::single(ShardId(1), log::Kind::Vote).into()),
        (
            Part::HardState,
            log::single(ShardId(1), log::Kind::Vote).into(),
        ),
        (Part::Local, log::local("mark")),
    ] {
        let refused = refused(part, hit);
        assert!(matches!(refused, Err(Error::Corrupt { .. })), "{part:?}");
    }
    let conversation = ConversationKey([7; 16]);
    assert!(Part::Applied.holds(&state::applied(ShardId(1))));
    assert!(Part::Conversation.holds(&state::message(&conversation, 1)));
    assert!(!Part::Applied.holds(&state::head(&conversation)));
    assert!(!Part::Conversation.holds(&state::applied(ShardId(1))));
}

#[tokio::test]
async fn a_bit_in_a_kept_file_refuses_its_ingestion_or_damages_a_record() {
    let source = Memory::new();
    for n in 0..10 {
        source
            .write(put(&format!("key{n}"), &"v".repeat(20)))
            .unwrap();
    }
    let disk = Disk::new();
    assert_eq!(disk.flip_bit(Part::KeptFile, |_| 0), None);
    let (mut refused, mut damaged) = (0, 0);
    for bit in (0..400 * 8).step_by(7) {
        disk.wipe();
        let memory = Memory::open(&disk);
        let files = source.export(source.snapshot(), b"a".to_vec(), b"z".to_vec(), 1 << 20);
        let names = memory.keep(files.await.unwrap()).await.unwrap();
        let mut draws = [0, bit].into_iter();
        let hit = disk.flip_bit(Part::KeptFile, |_| draws.next().unwrap());
        assert_eq!(hit, Some(Hit::File(names[0].clone())));
        let file = memory.open_kept(&names[0]).unwrap();
        match memory.ingest(vec![file]).await {
            Err(Error::Corrupt { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
            Ok(()) => {
                let scan = memory.scan(b"", &[0xff; 20], Order::Ascending, &mut |_, value| {
                    assert_eq!(value, "v".repeat(20).as_bytes(), "garbage was read");
                    Ok(ControlFlow::Continue(()))
                });
                assert!(matches!(scan, Err(Error::Corrupt { .. })), "bit {bit}");
                damaged += 1;
            }
        }
    }
    assert!(refused > 100 && damaged > 100, "{refused}, {damaged}");
}
