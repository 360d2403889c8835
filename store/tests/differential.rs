//! The simulated disk against RocksDB: whatever RocksDB comes back with after a crash is one of the
//! states that the simulated disk allows, which are everything synced and a prefix of what was
//! written after. Random work, in both of the product's configurations.
//!
//! Fault model. RocksDB's files are copied at the moment of the crash while its process lives on, so
//! what is in its memory is lost. A killed process leaves the files as they are. A power cut leaves
//! of the write-ahead log (`raftdb`) what was synced and a share of the rest, cut short anywhere or
//! with sectors of zeros; of `msgdb`, which has no such log, it leaves of the manifest what was
//! synced and a share of the rest. A sync that no one heard the end of is the rest. After an
//! opening nothing counts as synced of the log: what recovery found must be durable without it.
//!
//! More cases: `FIREBREAK_DIFFERENTIAL_CASES=5000`; others: `FIREBREAK_DIFFERENTIAL_SEED=2`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "a test fails where it cannot go on, and its numbers are small"
)]
#![cfg(feature = "rocksdb")]

mod support;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::{AddAssign, ControlFlow};
use std::sync::Arc;

use firebreak_store as store;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use store::engine::memory::{Disk, DiskImage, Memory};
use store::engine::{Batch, Engine, Order, Read};
use support::ondisk::{Heard, Machine, Role};

const CASES: u32 = 150;

/// One thing that is done to both stores.
#[derive(Clone, Debug)]
enum Step {
    Write(Vec<Change>),
    Sync,
    /// A sync that comes to its end unheard: the crash may have been before.
    SyncUnheard,
    /// Keeps the records of a range as files.
    Keep(u8, u8),
    Forget(u8),
    /// Ingests a kept file over whatever there is, while something else is unsynced.
    IngestKept(u8),
    /// Exports a range, clears it, and ingests it, as an install does.
    Replace(u8, u8),
    Kill,
    /// Leaves this share of 255 of what was not synced.
    PowerCut {
        left: u8,
        zeros: bool,
    },
}

/// One write of a batch.
#[derive(Clone, Debug)]
enum Change {
    Put(u8, u32),
    Delete(u8),
    DeleteRange(u8, u8),
}

fn change() -> impl Strategy<Value = Change> {
    let key = || 0..24u8;
    let len = prop_oneof![
        8 => 0..200u32,
        2 => 200..40_000u32,
        // More than the log's buffer, so that it reaches the system before any sync.
        1 => 1_100_000..1_200_000u32,
    ];
    prop_oneof![
        6 => (key(), len).prop_map(|(key, len)| Change::Put(key, len)),
        2 => key().prop_map(Change::Delete),
        1 => (key(), key()).prop_map(|(a, b)| Change::DeleteRange(a.min(b), a.max(b))),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..24u8;
    prop_oneof![
        24 => prop::collection::vec(change(), 1..5).prop_map(Step::Write),
        4 => Just(Step::Sync),
        6 => Just(Step::SyncUnheard),
        1 => (key(), key()).prop_map(|(a, b)| Step::Keep(a.min(b), a.max(b))),
        1 => any::<u8>().prop_map(Step::Forget),
        1 => any::<u8>().prop_map(Step::IngestKept),
        1 => (key(), key()).prop_map(|(a, b)| Step::Replace(a.min(b), a.max(b))),
        1 => Just(Step::Kill),
        4 => (any::<u8>(), any::<bool>()).prop_map(|(left, zeros)| Step::PowerCut { left, zeros }),
    ]
}

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

fn records(read: &dyn Read) -> Records {
    let mut found = Records::new();
    let visited = read.scan(b"", &[0xff; 20], Order::Ascending, &mut |key, value| {
        found.insert(key.to_vec(), value.to_vec());
        Ok(ControlFlow::Continue(()))
    });
    visited.unwrap();
    found
}

fn key(n: u8) -> Vec<u8> {
    format!("k{n:02}").into_bytes()
}

/// A batch whose values tell which it was and which of its writes.
fn batch(changes: &[Change], number: usize) -> Batch {
    let mut batch = Batch::new();
    for (at, change) in changes.iter().enumerate() {
        match change {
            Change::Put(n, len) => {
                let mut value = format!("{number}.{at} ").into_bytes();
                value.resize(value.len() + *len as usize, b'a' + (number % 26) as u8);
                batch.put(key(*n), value);
            }
            Change::Delete(n) => batch.delete(key(*n)),
            Change::DeleteRange(a, b) => batch.delete_range(key(*a), key(*b)),
        }
    }
    batch
}

/// Does a step that is no crash. `heard` is called when something is known to be durable.
async fn perform(
    engine: &dyn Engine,
    (number, step): &(usize, Step),
    is_real: bool,
    heard: &mut dyn FnMut(Heard),
) -> Result<(), store::Error> {
    match step {
        Step::Write(changes) => engine.write(batch(changes, *number))?,
        Step::Sync => {
            engine.sync().await?;
            heard(Heard::Sync);
        }
        Step::SyncUnheard if is_real => engine.sync().await?,
        Step::SyncUnheard => {}
        Step::Keep(a, b) => {
            // One file: each engine has lengths of its own.
            let files = engine.export(engine.snapshot(), key(*a), key(*b), usize::MAX);
            engine.keep(files.await?).await?;
        }
        Step::Forget(n) => {
            let names = engine.kept()?;
            if let Some(name) = names.get(usize::from(*n) % names.len().max(1)) {
                engine.forget(std::slice::from_ref(name))?;
            }
        }
        Step::IngestKept(n) => {
            let names = engine.kept()?;
            if let Some(name) = names.get(usize::from(*n) % names.len().max(1)) {
                engine.sync().await?;
                heard(Heard::Sync);
                elsewhere(engine, *number)?;
                let file = engine.open_kept(name)?;
                engine.ingest(vec![file]).await?;
                heard(Heard::Ingest);
            }
        }
        Step::Replace(a, b) => {
            let files = engine.export(engine.snapshot(), key(*a), key(*b), 2_000);
            let files = files.await?;
            engine.write(batch(&[Change::DeleteRange(*a, *b)], *number))?;
            engine.sync().await?;
            heard(Heard::Sync);
            elsewhere(engine, *number)?;
            for file in files {
                engine.ingest(vec![file]).await?;
                heard(Heard::Ingest);
            }
        }
        Step::Kill | Step::PowerCut { .. } => {}
    }
    Ok(())
}

/// A write outside of all ranges that files have.
fn elsewhere(engine: &dyn Engine, number: usize) -> Result<(), store::Error> {
    let mut batch = Batch::new();
    batch.put(&b"z"[..], format!("{number}").into_bytes());
    engine.write(batch)
}

/// The simulated disk since it was opened: what was there, and what was done.
struct Life {
    opened: DiskImage,
    steps: Vec<(usize, Step)>,
}

impl Life {
    fn new(disk: &Disk) -> Life {
        Life {
            opened: disk.image(),
            steps: Vec::new(),
        }
    }

    /// Another disk to which the same was done.
    async fn again(&self) -> Disk {
        let disk = Disk::new();
        disk.restore(&self.opened);
        let memory = Memory::open(&disk);
        for step in &self.steps {
            perform(&memory, step, false, &mut |_| ()).await.unwrap();
        }
        disk
    }

    /// The disk that is allowed by a crash and holds what was found, and how many of how many
    /// unsynced batches it kept; `None` when there is none.
    async fn allowed(&self, crash: &Step, found: &Records) -> Option<(Disk, usize, usize)> {
        let unsynced = self.again().await.unsynced();
        for keep in 0..=unsynced {
            let disk = self.again().await;
            match crash {
                Step::Kill => disk.process_killed(keep),
                _ => disk.power_cut(keep),
            }
            if records(&Memory::open(&disk)) == *found {
                return Some((disk, keep, unsynced));
            }
        }
        None
    }
}

/// How often crashes ended how.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    crashes: u64,
    lost_all: u64,
    lost_some: u64,
    lost_none: u64,
}

impl AddAssign<(usize, usize)> for Ends {
    fn add_assign(&mut self, (kept, unsynced): (usize, usize)) {
        self.crashes += 1;
        if unsynced > 0 {
            self.lost_all += u64::from(kept == 0);
            self.lost_some += u64::from(kept > 0 && kept < unsynced);
            self.lost_none += u64::from(kept == unsynced);
        }
    }
}

/// Runs the steps on both. What is wrong, if anything.
async fn run(role: Role, steps: &[Step], ends: &RefCell<Ends>) -> Result<(), String> {
    let mut machine = Machine::new(role);
    let mut memory = Memory::new();
    let mut life = Life::new(&memory.disk());
    let last = Step::PowerCut {
        left: 100,
        zeros: false,
    };
    for (number, step) in steps.iter().chain([&last]).enumerate() {
        let place = format!("step {number}, {step:?}");
        let numbered = (number, step.clone());
        if !matches!(step, Step::Kill | Step::PowerCut { .. }) {
            let engine = Arc::clone(machine.engine());
            let real = perform(&*engine, &numbered, true, &mut |what| machine.note(what)).await;
            let simulated = perform(&memory, &numbered, false, &mut |_| ()).await;
            if let (Err(error), _) | (_, Err(error)) = (&real, &simulated) {
                return Err(format!("{place}: {error}; {real:?}, {simulated:?}"));
            }
            life.steps.push(numbered);
            continue;
        }
        let (found, allowed) = (records(&**machine.engine()), records(&memory));
        if found != allowed {
            return Err(format!("{place}: reads differ before the crash"));
        }
        match step {
            Step::PowerCut { left, zeros } => machine.cut_power(*left, *zeros),
            _ => machine.kill(),
        }
        .map_err(|error| format!("{place}: RocksDB does not open: {error}"))?;
        let found = records(&**machine.engine());
        let Some((disk, kept, unsynced)) = life.allowed(step, &found).await else {
            return Err(format!(
                "{place}: RocksDB came back with what the simulated disk does not allow: {:?}",
                short(&found)
            ));
        };
        *ends.borrow_mut() += (kept, unsynced);
        let files = (machine.engine().kept().unwrap().len(), disk.kept());
        if files.0 != files.1 {
            return Err(format!(
                "{place}: kept files (RocksDB, simulated): {files:?}"
            ));
        }
        memory = Memory::open(&disk);
        life = Life::new(&disk);
    }
    Ok(())
}

/// The records with which batch wrote them.
fn short(records: &Records) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(8)]).into_owned();
    let pairs = records.iter();
    pairs
        .map(|(key, value)| format!("{}={}", text(key), text(value)))
        .collect()
}

fn from_env(name: &str, default: u32) -> u32 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

fn compare(role: Role) -> Ends {
    let cases = from_env("FIREBREAK_DIFFERENTIAL_CASES", CASES);
    let seed = from_env("FIREBREAK_DIFFERENTIAL_SEED", 1);
    let mut bytes = [role as u8; 32];
    bytes[..4].copy_from_slice(&seed.to_be_bytes());
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.unwrap();
    let ends = RefCell::<Ends>::default();
    let strategy = prop::collection::vec(step(), 5..60);
    let result = TestRunner::new_with_rng(config, rng).run(&strategy, |steps| {
        let wrong = runtime.block_on(run(role, &steps, &ends));
        wrong.map_err(TestCaseError::fail)
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, steps)) => panic!(
            "{reason}\nsteps: {steps:?}\nagain: FIREBREAK_DIFFERENTIAL_SEED={seed} \
             FIREBREAK_DIFFERENTIAL_CASES={cases} cargo test --release -p firebreak-store \
             --features rocksdb --test differential"
        ),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
    let ends = ends.into_inner();
    println!("{role:?}: {cases} cases, {ends:?}");
    ends
}

/// Both ends and the middle of what is allowed were seen, unless only a few cases were asked for.
fn saw_all(ends: Ends) {
    if from_env("FIREBREAK_DIFFERENTIAL_CASES", CASES) >= CASES {
        let seen = [ends.lost_all, ends.lost_some, ends.lost_none];
        assert!(seen.iter().all(|count| *count > 5), "{ends:?}");
        assert!(ends.crashes > 2 * u64::from(CASES), "{ends:?}");
    }
}

#[test]
fn whatever_the_log_on_rocksdb_recovers_to_the_simulated_disk_allows() {
    saw_all(compare(Role::Log));
}

#[test]
fn whatever_the_state_on_rocksdb_recovers_to_the_simulated_disk_allows() {
    saw_all(compare(Role::State));
}

/// Were everything allowed, the comparison would prove nothing.
#[tokio::test]
async fn half_a_batch_a_gap_and_a_loss_of_what_was_synced_are_not_allowed() {
    let write = |keys: [u8; 2]| Step::Write(keys.map(|key| Change::Put(key, 1)).to_vec());
    let steps = [write([1, 2]), Step::Sync, write([3, 4]), write([5, 6])];
    let life = Life {
        opened: Disk::new().image(),
        steps: steps.into_iter().enumerate().collect(),
    };
    let whole = records(&Memory::open(&{
        let disk = life.again().await;
        disk.process_killed(9);
        disk
    }));
    for (keys, expect) in [
        (&[1, 2][..], Some((0, 2))),
        (&[1, 2, 3, 4], Some((1, 2))),
        (&[1, 2, 3, 4, 5, 6], Some((2, 2))),
        (&[1, 2, 3], None),
        (&[1, 2, 3, 4, 6], None),
        (&[1, 2, 5, 6], None),
        (&[1], None),
        (&[], None),
        (&[3, 4, 5, 6], None),
    ] {
        let found: Records = keys
            .iter()
            .map(|n| (key(*n), whole[&key(*n)].clone()))
            .collect();
        for crash in [
            Step::Kill,
            Step::PowerCut {
                left: 0,
                zeros: false,
            },
        ] {
            let allowed = life.allowed(&crash, &found).await;
            let allowed = allowed.map(|(_, kept, unsynced)| (kept, unsynced));
            assert_eq!(allowed, expect, "{keys:?} after {crash:?}");
        }
    }
}
