//! The log against a simple model, with power cuts at any point; and its promises one by one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "a test fails where it cannot go on, and its numbers are small"
)]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use firebreak_store::engine::memory::{Disk, Fault, Memory};
use firebreak_store::engine::{Batch, Engine, Order, Read};
use firebreak_store::key::log as key;
use firebreak_store::log::{TAIL_BYTES_MAX, TAIL_BYTES_MIN, TAILS_BYTES_MAX};
use firebreak_store::{Error, HardState, Log, Position, Record, ShardLog, Share};
use futures::channel::oneshot;
use model::id::ShardId;
use proptest::prelude::*;
use tokio::task::JoinHandle;

type Writer = JoinHandle<Result<(), Error>>;

fn open(disk: &Disk) -> (Log, Writer) {
    let (log, writer) = Log::open(Arc::new(Memory::open(disk))).unwrap();
    (log, tokio::spawn(writer))
}

fn record(term: u64, index: u64, data: impl Into<Bytes>) -> Record {
    Record {
        position: Position { term, index },
        data: data.into(),
    }
}

fn at(term: u64, index: u64) -> Option<Position> {
    Some(Position { term, index })
}

/// Appends, giving the outcome as a future.
fn append(log: &ShardLog, records: Vec<Record>) -> oneshot::Receiver<Result<(), Error>> {
    let (sender, receiver) = oneshot::channel();
    log.append(records, Box::new(move |result| drop(sender.send(result))));
    receiver
}

fn indexes(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| record.position.index).collect()
}

/// What a shard must look like.
#[derive(Clone, Debug, Default, PartialEq)]
struct ShardModel {
    entries: Vec<Record>,
    purged: Option<Position>,
    states: BTreeMap<HardState, Bytes>,
}

/// What the node must look like.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    shards: [ShardModel; 3],
    local: BTreeMap<String, Bytes>,
}

impl ShardModel {
    fn last(&self) -> Option<Position> {
        self.entries
            .last()
            .map(|entry| entry.position)
            .or(self.purged)
    }

    fn of(log: &ShardLog) -> ShardModel {
        let states = [HardState::Vote, HardState::Committed, HardState::Extra];
        ShardModel {
            entries: log.read(0, u64::MAX, usize::MAX).unwrap(),
            purged: log.purged(),
            states: states
                .into_iter()
                .filter_map(|s| Some((s, log.load(s).unwrap()?)))
                .collect(),
        }
    }
}

impl Model {
    fn of(log: &Log) -> Model {
        Model {
            shards: [0, 1, 2].map(|n| ShardModel::of(&log.shard(ShardId(n)).unwrap())),
            local: log.local_scan("").unwrap().into_iter().collect(),
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Append {
        shard: usize,
        count: u64,
        new_term: bool,
    },
    Save {
        shard: usize,
        what: HardState,
    },
    Truncate {
        shard: usize,
        back: u64,
    },
    Purge {
        shard: usize,
        ahead: u64,
    },
    Local {
        name: u8,
        set: bool,
    },
    Remove {
        shard: usize,
    },
    Sync,
    /// Lets the writer run for so many of its steps.
    Run {
        steps: usize,
    },
    Hold {
        hold: bool,
    },
    PowerCut {
        keep: prop::sample::Index,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let shard = 0..3usize;
    let what = prop::sample::select(vec![
        HardState::Vote,
        HardState::Committed,
        HardState::Extra,
    ]);
    prop_oneof![
        8 => (shard.clone(), 0..4u64, prop::bool::weighted(0.2))
            .prop_map(|(shard, count, new_term)| Op::Append { shard, count, new_term }),
        3 => (shard.clone(), what).prop_map(|(shard, what)| Op::Save { shard, what }),
        2 => (shard.clone(), 0..5u64).prop_map(|(shard, back)| Op::Truncate { shard, back }),
        2 => (shard.clone(), 0..8u64).prop_map(|(shard, ahead)| Op::Purge { shard, ahead }),
        1 => (0..3u8, any::<bool>()).prop_map(|(name, set)| Op::Local { name, set }),
        1 => shard.prop_map(|shard| Op::Remove { shard }),
        1 => Just(Op::Sync),
        6 => (1..6usize).prop_map(|steps| Op::Run { steps }),
        1 => any::<bool>().prop_map(|hold| Op::Hold { hold }),
        2 => any::<prop::sample::Index>().prop_map(|keep| Op::PowerCut { keep }),
    ]
}

/// The node under test beside what it must look like after each operation since the last cut.
struct Run {
    disk: Disk,
    log: Log,
    writer: Writer,
    /// After each operation, the first being what the disk held when it was opened.
    models: Vec<Model>,
    /// The operations that were said to be durable: all up to this one.
    durable: Arc<AtomicUsize>,
    step: u64,
}

impl Run {
    fn new() -> Run {
        let disk = Disk::new();
        let (log, writer) = open(&disk);
        let models = vec![Model::default()];
        Run {
            disk,
            log,
            writer,
            models,
            durable: Arc::default(),
            step: 0,
        }
    }

    /// Notes the operation when it is said to be durable.
    fn watch(&self, done: impl Future<Output = Result<(), Error>> + Send + 'static) {
        let (durable, number) = (Arc::clone(&self.durable), self.models.len() - 1);
        tokio::spawn(async move {
            if done.await.is_ok() {
                durable.fetch_max(number, Ordering::SeqCst);
            }
        });
    }

    async fn apply(&mut self, op: Op) {
        self.step += 1;
        let value = Bytes::from(self.step.to_string());
        let mut model = self.models.last().unwrap().clone();
        match op {
            Op::Append {
                shard,
                count,
                new_term,
            } => {
                let last = model.shards[shard].last();
                let term = last.map_or(1, |last| last.term) + u64::from(new_term);
                let next = last.map_or(0, |last| last.index + 1);
                let records: Vec<_> = (next..next + count)
                    .map(|index| record(term, index, value.clone()))
                    .collect();
                model.shards[shard].entries.extend(records.clone());
                self.models.push(model);
                let done = append(&self.shard(shard), records);
                self.watch(async { done.await.unwrap() });
            }
            Op::Save { shard, what } => {
                model.shards[shard].states.insert(what, value.clone());
                self.models.push(model);
                let done = self.shard(shard).save(what, value);
                if what != HardState::Committed {
                    self.watch(done);
                }
            }
            Op::Truncate { shard, back } => {
                let entries = &mut model.shards[shard].entries;
                entries.truncate(entries.len().saturating_sub(back as usize));
                let upto = model.shards[shard].last().map(|last| last.index);
                self.models.push(model);
                let done = self.shard(shard).truncate_after(upto);
                self.watch(done);
            }
            Op::Purge { shard, ahead } => {
                let first = model.shards[shard]
                    .entries
                    .first()
                    .map(|entry| entry.position.index);
                let last = model.shards[shard].last().unwrap_or_default();
                let from = first.unwrap_or(last.index + 1);
                let entries = &mut model.shards[shard].entries;
                let upto = entries
                    .iter()
                    .map(|entry| entry.position)
                    .find(|position| position.index == from + ahead)
                    .unwrap_or(Position {
                        term: last.term + 1,
                        index: from + ahead,
                    });
                entries.retain(|entry| entry.position.index > upto.index);
                model.shards[shard].purged = Some(upto);
                self.models.push(model);
                // Its future says that it is written, not that it is durable.
                drop(self.shard(shard).purge(upto));
            }
            Op::Local { name, set } => {
                let name = format!("name-{name}");
                let value = set.then_some(value);
                match value.clone() {
                    Some(value) => drop(model.local.insert(name.clone(), value)),
                    None => drop(model.local.remove(&name)),
                }
                self.models.push(model);
                self.watch(self.log.local_put(&name, value));
            }
            Op::Remove { shard } => {
                model.shards[shard] = ShardModel::default();
                self.models.push(model);
                self.watch(self.log.remove_shard(ShardId(shard as u32)));
            }
            Op::Sync => self.watch(self.log.sync()),
            Op::Run { steps } => {
                for _ in 0..steps {
                    tokio::task::yield_now().await;
                }
            }
            Op::Hold { hold } => self.disk.hold_syncs(hold),
            Op::PowerCut { keep } => self.power_cut(|unsynced| keep.index(unsynced + 1)).await,
        }
        assert_eq!(
            Model::of(&self.log),
            *self.models.last().unwrap(),
            "as the callers see it"
        );
    }

    fn shard(&self, shard: usize) -> ShardLog {
        self.log.shard(ShardId(shard as u32)).unwrap()
    }

    async fn power_cut(&mut self, keep: impl FnOnce(usize) -> usize) {
        self.disk.power_cut_with(keep);
        let durable = self.durable.swap(0, Ordering::SeqCst);
        self.writer.abort();
        let _ = (&mut self.writer).await;
        self.disk.hold_syncs(false);
        (self.log, self.writer) = open(&self.disk);
        let found = Model::of(&self.log);
        for shard in 0..3 {
            let log = self.shard(shard);
            assert_eq!(log.synced(), log.last(), "what is found on disk is durable");
        }
        let fits = self.models.iter().rposition(|model| *model == found);
        assert!(
            fits.is_some_and(|fits| fits >= durable),
            "operations up to {durable} of {} were called durable; found after the cut: {found:#?}",
            self.models.len() - 1
        );
        self.models = vec![found];
        self.durable = Arc::default();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn nothing_called_durable_is_lost_and_what_is_found_is_a_state_that_was(
        ops in prop::collection::vec(op(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut run = Run::new();
            for op in ops {
                run.apply(op).await;
            }
            // At the end all is let through, and nothing at all may be missing.
            run.disk.hold_syncs(false);
            run.log.sync().await.unwrap();
            run.durable.fetch_max(run.models.len() - 1, Ordering::SeqCst);
            run.power_cut(|_| 0).await;
        });
    }
}

#[tokio::test]
async fn many_shards_share_one_sync() {
    let disk = Disk::new();
    let (log, _writer) = open(&disk);
    let shards: Vec<_> = (0..50).map(|n| log.shard(ShardId(n)).unwrap()).collect();
    let mut waiting = Vec::new();
    for index in 0..2 {
        for shard in &shards {
            waiting.push(append(shard, vec![record(1, index, "entry")]));
        }
    }
    for done in futures::future::join_all(waiting).await {
        done.unwrap().unwrap();
    }
    assert!((1..=2).contains(&log.stats().syncs), "{:?}", log.stats());
}

#[tokio::test]
async fn what_is_submitted_during_a_sync_shares_the_next_one() {
    let disk = Disk::new();
    let (log, _writer) = open(&disk);
    let shard = log.shard(ShardId(1)).unwrap();
    disk.hold_syncs(true);
    let first = append(&shard, vec![record(1, 0, "a")]);
    while disk.unsynced() == 0 {
        tokio::task::yield_now().await;
    }
    let rest: Vec<_> = (1..20)
        .map(|index| append(&shard, vec![record(1, index, "b")]))
        .collect();
    assert_eq!(
        (shard.last(), shard.synced()),
        (at(1, 19), None),
        "readable, not durable"
    );
    assert_eq!(shard.read(0, 100, usize::MAX).unwrap().len(), 20);
    disk.hold_syncs(false);
    first.await.unwrap().unwrap();
    for done in rest {
        done.await.unwrap().unwrap();
    }
    assert_eq!(log.stats().syncs, 2);
    assert_eq!(shard.synced(), at(1, 19));
}

#[tokio::test]
async fn commit_positions_and_purges_cost_no_sync_of_their_own() {
    let disk = Disk::new();
    let (log, _writer) = open(&disk);
    let shard = log.shard(ShardId(1)).unwrap();
    let records = (0..10).map(|index| record(1, index, "x")).collect();
    append(&shard, records).await.unwrap().unwrap();
    for index in 0..5 {
        shard
            .save(HardState::Committed, Bytes::from(vec![index]))
            .await
            .unwrap();
        shard
            .purge(Position {
                term: 1,
                index: index.into(),
            })
            .await
            .unwrap();
    }
    assert_eq!(log.stats().syncs, 1);
    log.sync().await.unwrap();
    assert_eq!(log.stats().syncs, 2);
    disk.power_cut(0);
    let (log, _writer) = open(&disk);
    let shard = log.shard(ShardId(1)).unwrap();
    assert_eq!(shard.purged(), at(1, 4));
    assert_eq!(
        shard.load(HardState::Committed).unwrap().as_deref(),
        Some(&[4][..])
    );
    assert_eq!(
        indexes(&shard.read(0, 100, usize::MAX).unwrap()),
        [5, 6, 7, 8, 9]
    );
}

#[tokio::test]
async fn the_mark_rises_by_one_a_round_and_a_power_cut_brings_no_told_one_back() {
    let disk = Disk::new();
    for start in 0..3 {
        let (log, _writer) = open(&disk);
        assert_eq!((log.mark_at_open(), log.mark()), (start * 4, 0));
        let shard = log.shard(ShardId(1)).unwrap();
        for round in 1..=4 {
            let index = start * 4 + round;
            append(&shard, vec![record(1, index, "entry")])
                .await
                .unwrap()
                .unwrap();
            assert_eq!(log.mark(), index);
        }
        disk.hold_syncs(true);
        drop(append(&shard, vec![record(1, start * 4 + 5, "unsynced")]));
        while disk.unsynced() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(log.mark(), start * 4 + 4, "not durable yet");
        disk.power_cut(0);
        disk.hold_syncs(false);
    }
    let (log, _writer) = open(&disk);
    assert_eq!(log.local_scan("").unwrap(), [], "and it is no one's record");
}

/// What is noted of others costs no sync while this node syncs anyway, and one when it does not.
#[tokio::test]
async fn a_note_goes_along_with_what_is_synced_or_is_settled_and_raises_no_mark() {
    let disk = Disk::new();
    let note = |log: &Log, value: &'static str| log.local_note("note", value.into());
    let found = |log: &Log| log.local_get("note").unwrap();
    {
        let (log, _writer) = open(&disk);
        log.settle().await.unwrap();
        assert_eq!(log.stats().syncs, 0, "nothing was noted");
        note(&log, "1");
        note(&log, "2");
        assert_eq!(found(&log).as_deref(), Some(&b"2"[..]));
        log.sync().await.unwrap();
        log.settle().await.unwrap();
        assert_eq!((log.stats().syncs, log.mark()), (1, 1), "it went along");
        note(&log, "3");
        log.settle().await.unwrap();
        assert_eq!((log.stats().syncs, log.mark()), (2, 1));
        note(&log, "4");
        disk.power_cut(0);
    }
    {
        let (log, _writer) = open(&disk);
        assert_eq!(log.mark_at_open(), 1);
        assert_eq!(found(&log).as_deref(), Some(&b"3"[..]), "4 was lost");
        // Written with a round that nobody has synced, it is not settled.
        note(&log, "5");
        let shard = log.shard(ShardId(1)).unwrap();
        shard.purge(Position { term: 1, index: 4 }).await.unwrap();
        assert_eq!(log.stats().syncs, 0);
        log.settle().await.unwrap();
        assert_eq!(log.stats().syncs, 1);
        // What is put is newer than what was noted before it, and older than what is noted after.
        note(&log, "6");
        log.local_put("note", Some("7".into())).await.unwrap();
        disk.power_cut(0);
    }
    let (log, _writer) = open(&disk);
    assert_eq!(found(&log).as_deref(), Some(&b"7"[..]));
    let put = log.local_put("note", None);
    note(&log, "8");
    put.await.unwrap();
    disk.power_cut(0);
    let (log, _writer) = open(&disk);
    assert_eq!(found(&log).as_deref(), Some(&b"8"[..]));
}

#[derive(Clone, Copy, Debug)]
enum Kept {
    /// Of one of two records.
    Note(bool),
    Put(bool),
    Remove(bool),
    /// An entry, awaited.
    Append,
    /// Written, and synced by nobody.
    Purge,
    Settle,
    /// So many of the unsynced batches survive.
    PowerCut(usize),
}

fn kept() -> impl Strategy<Value = Kept> {
    prop_oneof![
        4 => any::<bool>().prop_map(Kept::Note),
        1 => any::<bool>().prop_map(Kept::Put),
        1 => any::<bool>().prop_map(Kept::Remove),
        2 => Just(Kept::Append),
        2 => Just(Kept::Purge),
        1 => Just(Kept::Settle),
        2 => (0..3_usize).prop_map(Kept::PowerCut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn what_was_noted_before_anything_durable_is_found_again_or_what_replaced_it(
        ops in prop::collection::vec(kept(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let disk = Disk::new();
            let (mut log, mut writer) = open(&disk);
            // All that each record has been since what must be found at least.
            let mut values: [Vec<Option<Bytes>>; 2] = [vec![None], vec![None]];
            let (mut index, mut told) = (0, 0);
            for (number, op) in ops.into_iter().chain([Kept::PowerCut(0)]).enumerate() {
                let value = Bytes::from(number.to_string());
                let name = |which: bool| ["a", "b"][usize::from(which)];
                let mut durable = true;
                match op {
                    Kept::Note(which) => {
                        log.local_note(name(which), value.clone());
                        values[usize::from(which)].push(Some(value));
                        durable = false;
                    }
                    Kept::Put(which) => {
                        values[usize::from(which)].push(Some(value.clone()));
                        log.local_put(name(which), Some(value)).await.unwrap();
                    }
                    Kept::Remove(which) => {
                        values[usize::from(which)].push(None);
                        log.local_put(name(which), None).await.unwrap();
                    }
                    Kept::Append => {
                        index += 1;
                        let shard = log.shard(ShardId(1)).unwrap();
                        let entry = vec![record(1, index, "entry")];
                        append(&shard, entry).await.unwrap().unwrap();
                    }
                    Kept::Purge => {
                        let shard = log.shard(ShardId(1)).unwrap();
                        shard.purge(Position { term: 1, index }).await.unwrap();
                        durable = false;
                    }
                    Kept::Settle => log.settle().await.unwrap(),
                    Kept::PowerCut(keep) => {
                        disk.power_cut(keep);
                        writer.abort();
                        (log, writer) = open(&disk);
                        prop_assert!(log.mark_at_open() >= told);
                        for (which, values) in values.iter_mut().enumerate() {
                            let found = log.local_get(name(which == 1)).unwrap();
                            prop_assert!(values.contains(&found), "{found:?} of {values:?}");
                            // What survived is durable now.
                            *values = vec![found];
                        }
                        durable = false;
                    }
                }
                told = told.max(log.mark());
                if durable {
                    for values in &mut values {
                        values.drain(..values.len() - 1);
                    }
                }
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_round_that_no_one_waits_for_is_marked_by_the_next_sync() {
    let (log, _writer) = open(&Disk::new());
    let shard = log.shard(ShardId(1)).unwrap();
    shard.purge(Position { term: 1, index: 4 }).await.unwrap();
    assert_eq!(log.mark(), 0);
    log.sync().await.unwrap();
    assert_eq!(log.mark(), 2);
}

#[tokio::test]
async fn a_log_goes_on_behind_a_purge_past_its_end() {
    let (log, _writer) = open(&Disk::new());
    let shard = log.shard(ShardId(1)).unwrap();
    drop(append(&shard, vec![record(1, 0, "x"), record(1, 1, "x")]));
    shard
        .purge(Position {
            term: 3,
            index: 100,
        })
        .await
        .unwrap();
    assert_eq!((shard.last(), shard.purged()), (at(3, 100), at(3, 100)));
    assert_eq!(shard.bytes_kept(), 0);
    append(&shard, vec![record(3, 101, "y")])
        .await
        .unwrap()
        .unwrap();
    assert_eq!(shard.synced(), at(3, 101));
    for (index, expect) in [
        (99, None),
        (100, at(3, 100)),
        (101, at(3, 101)),
        (102, None),
    ] {
        assert_eq!(shard.position_at(index).unwrap(), expect, "{index}");
    }
    shard.truncate_after(None).await.unwrap();
    assert_eq!((shard.last(), shard.synced()), (at(3, 100), at(3, 100)));
    shard.purge(Position { term: 2, index: 50 }).await.unwrap();
    assert_eq!(shard.purged(), at(3, 100), "a purge never goes back");
}

/// A shard with `count` entries of 1 MiB, all durable, most of them not in memory.
async fn long(log: &Log, shard: u32, count: u64) -> ShardLog {
    let shard = log.shard(ShardId(shard)).unwrap();
    for index in 0..count {
        let data = vec![u8::try_from(index % 251).unwrap(); 1 << 20];
        append(&shard, vec![record(1 + index / 10, index, data)])
            .await
            .unwrap()
            .unwrap();
    }
    shard
}

#[tokio::test]
async fn entries_that_are_no_longer_in_memory_are_read_from_disk() {
    let memory = Arc::new(Memory::new());
    let (log, writer) = Log::open(memory.clone()).unwrap();
    let _writer = tokio::spawn(writer);
    let shard = long(&log, 1, 30).await;
    for (from, to, bytes_max, expect) in [
        (0, 30, usize::MAX, 0..30),
        (0, 30, 5 << 20, 0..5),
        (3, 5, usize::MAX, 3..5),
        (3, 5, 0, 3..4),
        (20, 30, 5 << 20, 20..25),
        (29, 99, usize::MAX, 29..30),
        (30, 99, usize::MAX, 30..30),
    ] {
        let records = shard.read(from, to, bytes_max).unwrap();
        assert_eq!(
            indexes(&records),
            expect.collect::<Vec<_>>(),
            "{from}..{to}, {bytes_max}"
        );
        for Record {
            position: Position { term, index },
            data,
        } in records
        {
            assert_eq!(term, 1 + index / 10);
            assert!(data.len() == 1 << 20 && data.iter().all(|byte| u64::from(*byte) == index));
        }
    }
    // The last ones need no disk.
    memory.disk().set_fault(Some(Fault::Read));
    assert_eq!(shard.read(25, 30, usize::MAX).unwrap().len(), 5);
    assert!(shard.read(0, 30, usize::MAX).is_err());
    assert_eq!(shard.position_at(3).unwrap(), at(1, 3), "nor do positions");
    memory.disk().set_fault(None);
    let kept = shard.bytes_kept();
    assert!(kept > 30 << 20 && kept < (30 << 20) + 2_000, "{kept}");
    shard.truncate_after(Some(20)).await.unwrap();
    drop(append(&shard, vec![record(9, 21, "new")]));
    let records = shard.read(15, 99, usize::MAX).unwrap();
    assert_eq!(indexes(&records), (15..22).collect::<Vec<_>>());
    assert_eq!(records[6], record(9, 21, "new"));
    shard.purge(Position { term: 2, index: 10 }).await.unwrap();
    assert_eq!(indexes(&shard.read(0, 13, usize::MAX).unwrap()), [11, 12]);
    assert!(shard.bytes_kept() < 10 << 20 | 2_000);
}

#[tokio::test]
async fn all_tails_in_memory_together_are_bounded() {
    const { assert!(TAILS_BYTES_MAX / TAIL_BYTES_MAX == 8 && TAIL_BYTES_MIN < 1 << 20) };
    let memory = Arc::new(Memory::new());
    let (log, writer) = Log::open(memory.clone()).unwrap();
    let _writer = tokio::spawn(writer);
    let mut shards = Vec::new();
    for n in 0..20 {
        shards.push(long(&log, n, 9).await);
    }
    memory.disk().set_fault(Some(Fault::Read));
    // How many of the 180 MiB can be read without the disk.
    let mut cached = 0;
    for shard in &shards {
        cached += (0..9)
            .filter(|index| shard.read(*index, index + 1, 0).is_ok())
            .count();
    }
    assert!((60..=64 + 20).contains(&cached), "{cached} MiB");
}

#[tokio::test]
async fn what_all_keep_is_within_the_share_as_soon_as_it_is_written_and_when_it_shrinks() {
    let share = Share::of(400_000);
    let (log, writer) = Log::open_within(Arc::new(Memory::new()), share.clone()).unwrap();
    tokio::spawn(writer);
    // One has nearly all, and rests from then on; each of the others appends once and rests.
    for (shard, entries) in [(1, 300), (2, 50), (3, 50), (4, 50), (5, 50)] {
        let shard = log.shard(ShardId(shard)).unwrap();
        for index in 1..=entries {
            append(&shard, vec![record(1, index, vec![1; 1_000])])
                .await
                .unwrap()
                .unwrap();
            assert!(log.tails_bytes() <= share.bytes(), "{}", log.tails_bytes());
        }
    }
    assert_eq!(log.unwritten_bytes(), 0);
    let before = log.tails_bytes();
    share.set(50_000);
    log.trim();
    assert!(before > 200_000 && log.tails_bytes() <= 50_000);
    assert_eq!(log.shard(ShardId(1)).unwrap().last(), at(1, 300));
}

#[tokio::test]
async fn an_error_of_the_disk_reaches_everyone_and_ends_the_writer() {
    for fault in [Fault::Write, Fault::Sync, Fault::Full] {
        let disk = Disk::new();
        let (log, writer) = open(&disk);
        let shard = log.shard(ShardId(1)).unwrap();
        append(&shard, vec![record(1, 0, "x")])
            .await
            .unwrap()
            .unwrap();
        disk.set_fault(Some(fault));
        let waiting = append(&shard, vec![record(1, 1, "x")]);
        let vote = shard.save(HardState::Vote, Bytes::from_static(b"vote"));
        assert!(waiting.await.unwrap().is_err());
        assert!(vote.await.is_err());
        let error = writer.await.unwrap().unwrap_err();
        // The disk is well again; what is on it may not be what was said.
        disk.set_fault(None);
        let later = append(&shard, vec![record(1, 2, "x")])
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(later.to_string(), error.to_string());
        assert!(log.sync().await.is_err());
        assert!(log.local_put("a", None).await.is_err());
        assert_eq!(shard.synced(), at(1, 0));
    }
}

#[tokio::test]
async fn a_writer_that_is_dropped_fails_those_who_wait_and_one_that_has_no_users_ends() {
    let disk = Disk::new();
    let (log, writer) = open(&disk);
    let shard = log.shard(ShardId(1)).unwrap();
    disk.hold_syncs(true);
    let waiting = append(&shard, vec![record(1, 0, "x")]);
    while disk.unsynced() == 0 {
        tokio::task::yield_now().await;
    }
    let queued = append(&shard, vec![record(1, 1, "x")]);
    writer.abort();
    assert!(waiting.await.unwrap().is_err());
    assert!(queued.await.unwrap().is_err());
    assert!(
        append(&shard, vec![record(1, 2, "x")])
            .await
            .unwrap()
            .is_err()
    );

    disk.hold_syncs(false);
    let (log, writer) = open(&disk);
    let shard = log.shard(ShardId(1)).unwrap();
    shard
        .save(HardState::Committed, Bytes::from_static(b"7"))
        .await
        .unwrap();
    drop(log);
    tokio::task::yield_now().await;
    assert!(!writer.is_finished(), "a shard's log still uses it");
    drop(shard);
    writer.await.unwrap().unwrap();
    disk.power_cut(0);
    let (log, _writer) = open(&disk);
    let found = log
        .shard(ShardId(1))
        .unwrap()
        .load(HardState::Committed)
        .unwrap();
    assert_eq!(
        found.as_deref(),
        Some(&b"7"[..]),
        "what rides along is written at the end"
    );
}

/// Two shards with three entries and a vote each, and a record of the node.
async fn small() -> Disk {
    let disk = Disk::new();
    let (log, _writer) = open(&disk);
    for n in 1..=2 {
        let shard = log.shard(ShardId(n)).unwrap();
        drop(append(
            &shard,
            (0..4).map(|index| record(1, index, "entry")).collect(),
        ));
        drop(shard.purge(Position { term: 1, index: 0 }));
        shard
            .save(HardState::Vote, Bytes::from_static(b"vote"))
            .await
            .unwrap();
    }
    log.local_put("identity", Some(Bytes::from_static(b"n1")))
        .await
        .unwrap();
    disk
}

fn keys_of(disk: &Disk, shard: u32) -> Vec<Vec<u8>> {
    let (from, to) = key::shard(ShardId(shard));
    let mut keys = Vec::new();
    Memory::open(disk)
        .scan(&from, &to, Order::Ascending, &mut |key, _| {
            keys.push(key.to_vec());
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
    keys
}

#[tokio::test]
async fn a_flipped_bit_stops_its_shard_only_and_is_named() {
    let keys = keys_of(&small().await, 1);
    assert_eq!(keys.len(), 5, "vote, purged position and three entries");
    for bad in keys {
        let disk = small().await;
        assert!(disk.corrupt(&bad, |value| {
            let at = value.len() - 1;
            value[at] ^= 0x10;
        }));
        let (log, _writer) = open(&disk);
        let error = log.shard(ShardId(1)).err().unwrap();
        let Error::Corrupt { file, key, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(
            (file.as_str(), key.as_str()),
            ("raftdb", key::readable(&bad).as_str())
        );
        assert_eq!(
            log.shard(ShardId(2)).unwrap().last(),
            at(1, 3),
            "the other goes on"
        );
        log.remove_shard(ShardId(1)).await.unwrap();
        assert_eq!(
            log.shard(ShardId(1)).unwrap().last(),
            None,
            "and it can be rebuilt"
        );
        assert_eq!(keys_of(&disk, 1), Vec::<Vec<u8>>::new());
    }
}

#[tokio::test]
async fn a_damaged_record_of_the_node_refuses_the_start() {
    for name in ["identity", "mark"] {
        let disk = small().await;
        disk.corrupt(&key::local(name), |value| value[5] ^= 1);
        let error = Log::open(Arc::new(Memory::open(&disk))).err().unwrap();
        assert!(
            matches!(&error, Error::Corrupt { key, .. } if *key == format!("local/{name}")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_missing_entry_is_found_when_opened_and_when_read() {
    for gone in [1, 2] {
        let disk = small().await;
        let memory = Memory::open(&disk);
        let mut batch = Batch::new();
        batch.delete(key::entry(ShardId(1), gone).to_vec());
        memory.write(batch).unwrap();
        memory.sync().await.unwrap();
        let (log, _writer) = open(&disk);
        let error = log.shard(ShardId(1)).err().unwrap();
        let named = format!("s1/entry/{}", gone + 1);
        assert!(
            matches!(&error, Error::Corrupt { key, .. } if *key == named),
            "{error}"
        );
    }
    let memory = Arc::new(Memory::new());
    let (log, writer) = Log::open(memory.clone()).unwrap();
    let _writer = tokio::spawn(writer);
    let shard = long(&log, 1, 20).await;
    let mut batch = Batch::new();
    batch.delete(key::entry(ShardId(1), 4).to_vec());
    memory.write(batch).unwrap();
    let error = shard.read(0, 10, usize::MAX).unwrap_err();
    assert!(
        matches!(&error, Error::Corrupt { key, .. } if key == "s1/entry/4"),
        "{error}"
    );
}

#[tokio::test]
async fn the_nodes_own_records_are_listed_by_prefix() {
    let disk = Disk::new();
    let (log, _writer) = open(&disk);
    for name in ["marker/2", "marker/1", "boot", "markers"] {
        log.local_put(name, Some(Bytes::from(name.to_owned())))
            .await
            .unwrap();
    }
    log.local_put("marker/2", None).await.unwrap();
    disk.power_cut(0);
    let (log, _writer) = open(&disk);
    let found = log.local_scan("marker/").unwrap();
    assert_eq!(
        found,
        [("marker/1".to_owned(), Bytes::from_static(b"marker/1"))]
    );
    assert_eq!(
        log.local_get("boot").unwrap().as_deref(),
        Some(&b"boot"[..])
    );
    assert_eq!(log.local_get("marker/2").unwrap(), None);
}

#[test]
#[should_panic(expected = "does not follow")]
fn an_append_that_would_leave_a_hole_is_refused() {
    let (log, _writer) = Log::open(Arc::new(Memory::new())).unwrap();
    let shard = log.shard(ShardId(1)).unwrap();
    drop(append(&shard, vec![record(1, 0, "x")]));
    drop(append(&shard, vec![record(1, 2, "x")]));
}
