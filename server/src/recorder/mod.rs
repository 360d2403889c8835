//! The flight recorder: what happened on this node, kept in a ring on its disk, so that the morning after
//! can be told what the night was like. It holds no bodies and no names of users or conversations.
//!
//! ```text
//!  events ─► note ─► queue, or added up by the second ─► once a second, in the background ─► ring ─► tape
//!            (never waits)                                                                     │
//!  Admin.GetEvents ◄───────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! It never hurts the node: what does not fit into the queue, or what the disk does not take, is dropped
//! and counted; where the disk has little room nothing is written.

pub mod record;
pub mod ring;
pub mod seconds;
pub mod tape;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use model::cluster::ClusterState;
use model::id::ShardId;
use parking_lot::Mutex;
use proto::v1::record::What;
use proto::v1::{self, Record};
use raft::{Clock, Event as Raft, Node, Room, Tuning};
use store::Log;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::events::{Event, Events};
use crate::world::Background;
use ring::{Found, Position, Ring};
use seconds::{Second, micros};
use tape::Tape;

/// Between two writes, and the length of what is added up.
const SECOND: Duration = Duration::from_secs(1);
/// Records that wait to be written.
const NOTES_MAX: usize = 32_768;
/// Ticks between two looks at the ways to the others.
const LINKS_TICKS: u32 = 10;
/// A tick that is later by this much was a standstill.
const STOOD: Duration = Duration::from_millis(300);
/// How long an end waits for the last write.
pub const LAST_WRITE_MAX: Duration = Duration::from_millis(500);

/// The recorder of a node. Clones share it.
#[derive(Clone)]
pub struct Recorder {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Arc<dyn Clock>,
    background: Arc<dyn Background>,
    tape: Arc<dyn Tape>,
    /// None where it is off.
    ring: Option<Arc<Mutex<Ring>>>,
    started: Instant,
    boot: AtomicU64,
    queue: Mutex<Queue>,
    /// A write is under way.
    writing: watch::Sender<bool>,
    /// Records that were lost.
    dropped: AtomicU64,
    /// The disk has so little room that nothing is written.
    mute: AtomicBool,
    known: OnceLock<Known>,
    head: Mutex<Head>,
}

/// What is looked at once the node has started.
struct Known {
    raft: Weak<Node>,
    log: Log,
    tuning: Tuning,
}

struct Queue {
    notes: VecDeque<(Instant, What)>,
    second: Second,
}

/// What each file begins with, as it was told last.
#[derive(Default)]
struct Head {
    started: Option<What>,
    cluster: Option<What>,
    links: Option<v1::LinksRecord>,
}

/// What was looked at before.
#[derive(Default)]
struct Before {
    stopped: Duration,
    syncs: u64,
    epoch: Option<u64>,
    ticks: u32,
}

impl Recorder {
    /// Writes to `tape`, `bytes_max` at most; 0 = not at all.
    pub fn new(
        clock: Arc<dyn Clock>,
        background: Arc<dyn Background>,
        tape: Arc<dyn Tape>,
        bytes_max: u64,
    ) -> Recorder {
        let now = Instant::now();
        let ring =
            (bytes_max > 0).then(|| Arc::new(Mutex::new(Ring::new(tape.clone(), bytes_max))));
        Recorder {
            inner: Arc::new(Inner {
                clock,
                background,
                tape,
                ring,
                started: now,
                boot: AtomicU64::new(0),
                queue: Mutex::new(Queue {
                    notes: VecDeque::new(),
                    second: Second::new(now),
                }),
                writing: watch::Sender::new(false),
                dropped: AtomicU64::new(0),
                mute: AtomicBool::new(false),
                known: OnceLock::new(),
                head: Mutex::default(),
            }),
        }
    }

    /// Who is recorded.
    pub fn named(&self, node: u64, name: &str) {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let name = name.to_owned();
        let started = What::Started(v1::StartedRecord {
            version,
            node_id: node,
            name,
        });
        self.inner.head.lock().started = Some(started.clone());
        self.inner.push(started);
    }

    /// The node that is recorded, once it has started.
    pub fn of(&self, raft: &Arc<Node>, log: &Log, tuning: Tuning) {
        let raft = Arc::downgrade(raft);
        let log = log.clone();
        // Once for each start.
        let _ = self.inner.known.set(Known { raft, log, tuning });
    }

    /// Whether it is off.
    pub fn is_off(&self) -> bool {
        self.inner.ring.is_none()
    }

    /// Records that were lost since the start.
    pub fn dropped(&self) -> u64 {
        self.inner.dropped.load(Ordering::Relaxed)
    }

    /// By how much what most clocks say is ahead of the own wall clock, ms, and that clock; `None` where it
    /// is not known.
    pub fn clocks(&self) -> (u64, Option<i64>) {
        let wall = self.inner.clock.unix_ms();
        let raft = self.inner.raft();
        let agreed = raft.and_then(|raft| raft.agreed_ms());
        let ahead = agreed.map(|agreed| agreed.wrapping_sub(wall).cast_signed());
        (wall, ahead)
    }

    /// Adds up and writes, second by second, for as long as the node runs.
    pub async fn run(self) {
        if self.is_off() {
            return;
        }
        let mut before = Before::default();
        let mut due = Instant::now() + SECOND;
        loop {
            sleep_until(due).await;
            let late = due.elapsed();
            self.inner.stood(&mut before, late);
            due = (due + SECOND).max(Instant::now());
            self.inner.tick(&mut before, late);
            if !*self.inner.writing.borrow() {
                self.write();
            }
        }
    }

    /// Writes what waits. Completes when it is written, or cannot be.
    pub async fn flush(&self) {
        let mut writing = self.inner.writing.subscribe();
        // The sender lives in this. What is noted while a write is under way goes with the next one.
        for _ in 0..2 {
            let _ = writing.wait_for(|writing| !writing).await;
            self.write();
        }
        let _ = writing.wait_for(|writing| !writing).await;
    }

    /// Begins to write what waits, if nothing is being written.
    fn write(&self) {
        let inner = &self.inner;
        let Some(ring) = inner.ring.clone() else {
            return;
        };
        if inner.writing.send_replace(true) {
            return;
        }
        let notes = std::mem::take(&mut inner.queue.lock().notes);
        let mut writing = Writing {
            inner: inner.clone(),
            lost: notes.len(),
        };
        if notes.is_empty() || inner.mute.load(Ordering::Relaxed) {
            return;
        }
        let (now, clocks) = (Instant::now(), self.clocks());
        let stamp = |(at, what)| inner.stamp(now, clocks, at, what);
        let records: Vec<Record> = notes.into_iter().map(stamp).collect();
        let head = inner.head.lock().records().into_iter();
        let head: Vec<Record> = head.map(|what| stamp((now, what))).collect();
        inner.background.run(Box::new(move || {
            match ring.lock().append(&head, &records) {
                Ok(()) => writing.lost = 0,
                Err(error) => tracing::debug!(%error, "the recorder cannot write"),
            }
            drop(writing);
        }));
    }

    /// What there is of a time, as agreed, behind a position.
    ///
    /// # Errors
    /// As the disk has, in words.
    pub async fn read(
        &self,
        between_ms: (u64, u64),
        after: Position,
        bytes_max: u64,
    ) -> Result<Found, String> {
        let Some(ring) = self.inner.ring.clone() else {
            return Ok(Found::default());
        };
        let tape = self.inner.tape.clone();
        let (done, found) = oneshot::channel();
        self.inner.background.run(Box::new(move || {
            // Nothing is written meanwhile.
            let _ring = ring.lock();
            let found = ring::read(&*tape, between_ms, after, bytes_max);
            let _ = done.send(found.map_err(|error| error.to_string()));
        }));
        let found = found.await;
        found.unwrap_or_else(|_| Err("no thread for the read".to_owned()))
    }
}

impl Events for Recorder {
    fn note(&self, event: &Event) {
        let inner = &self.inner;
        if inner.ring.is_none() {
            return;
        }
        match event {
            Event::Raft(Raft::Decided {
                shard,
                commands,
                bytes,
                took,
                decided,
            }) => {
                let now = Instant::now();
                let second = &mut inner.queue.lock().second;
                second.decided(*shard, (*commands, *bytes), *took, *decided, now);
            }
            Event::Raft(Raft::ReadRounds { rounds }) => {
                inner.queue.lock().second.read_rounds += rounds;
            }
            Event::Asked {
                shard,
                took,
                failed,
            } => inner.queue.lock().second.asked(*shard, *took, *failed),
            Event::Started { boot, .. } => {
                inner.boot.store(*boot, Ordering::Relaxed);
            }
            Event::Room { room, .. } => {
                // What is short is for what was acknowledged.
                let mute = *room >= Room::Tight;
                inner.mute.store(mute, Ordering::Relaxed);
                record::of(event)
                    .into_iter()
                    .for_each(|what| inner.push(what));
            }
            other => record::of(other)
                .into_iter()
                .for_each(|what| inner.push(what)),
        }
    }
}

impl Inner {
    fn raft(&self) -> Option<Arc<Node>> {
        self.known.get()?.raft.upgrade()
    }

    fn push(&self, what: What) {
        let mut queue = self.queue.lock();
        if queue.notes.len() >= NOTES_MAX {
            queue.second.dropped += 1;
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.notes.push_back((Instant::now(), what));
    }

    fn lose(&self, count: usize) {
        if count > 0 {
            let count = count as u64;
            self.dropped.fetch_add(count, Ordering::Relaxed);
            self.queue.lock().second.dropped += count;
        }
    }

    /// Tells of a standstill: the node's pulse knows those of more than a second to the beat, and of shorter
    /// ones a late tick tells.
    fn stood(&self, before: &mut Before, late: Duration) {
        let stopped = self.raft().map_or(Duration::ZERO, |raft| raft.stopped());
        let more = stopped.saturating_sub(before.stopped);
        before.stopped = before.stopped.max(stopped);
        let lasted = more.max(late);
        if lasted >= STOOD {
            self.push(What::Stood(v1::StoodRecord {
                lasted_ms: micros(lasted) / 1_000,
                suspended: false,
            }));
        }
    }

    /// Ends the second, and looks at what is told from time to time.
    fn tick(&self, before: &mut Before, late: Duration) {
        let now = Instant::now();
        let second = std::mem::replace(&mut self.queue.lock().second, Second::new(now));
        let began = second.began;
        let (mut syncs, mut slowest, mut lateness) = (0, Duration::ZERO, late);
        if let Some(known) = self.known.get() {
            let all = known.log.stats().syncs;
            syncs = all.saturating_sub(std::mem::replace(&mut before.syncs, all));
            slowest = known.log.slowest_sync(now - began);
        }
        if let Some(raft) = self.raft() {
            lateness = lateness.max(raft.lateness());
            self.look(&raft, before);
        }
        if let Some(record) = second.record(syncs, slowest, lateness) {
            let mut queue = self.queue.lock();
            queue.notes.push_back((began, What::Second(record)));
        }
    }

    /// The cluster and the ways to the others, where they have changed.
    fn look(&self, raft: &Node, before: &mut Before) {
        let view = raft.view().borrow().clone();
        if before.epoch.replace(view.epoch) != Some(view.epoch) && view.epoch > 0 {
            let what = self.known.get();
            let what = what.map(|known| cluster_record(&view, &known.tuning));
            self.head.lock().cluster.clone_from(&what);
            what.into_iter().for_each(|what| self.push(what));
        }
        before.ticks += 1;
        if before.ticks % LINKS_TICKS == 1 {
            let links = links_record(raft);
            let known = self.head.lock().links.replace(links.clone());
            if known.is_none_or(|known| differ(&known, &links)) {
                self.push(What::Links(links));
            }
        }
    }

    /// A record of what was noted `at`, by the clocks as they are `now`: a leap in between does not tear
    /// what was noted apart.
    fn stamp(
        &self,
        now: Instant,
        (wall, ahead): (u64, Option<i64>),
        at: Instant,
        what: What,
    ) -> Record {
        let ago_ms = micros(now - at) / 1_000;
        Record {
            unix_ms: wall.saturating_sub(ago_ms),
            ahead_ms: ahead.unwrap_or(0),
            agreed: ahead.is_some(),
            boot: self.boot.load(Ordering::Relaxed),
            run_us: micros(at - self.started),
            what: Some(what),
        }
    }
}

/// A write that goes on; ends when it is dropped, with a job that never ran too.
struct Writing {
    inner: Arc<Inner>,
    /// Records that are lost if it ends now.
    lost: usize,
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.inner.lose(self.lost);
        self.inner.writing.send_replace(false);
    }
}

impl Head {
    fn records(&self) -> Vec<What> {
        let links = self.links.clone().map(What::Links);
        let told = [self.started.clone(), self.cluster.clone(), links];
        told.into_iter().flatten().collect()
    }
}

/// The cluster, without what is secret in it.
fn cluster_record(view: &ClusterState, tuning: &Tuning) -> What {
    let nodes = view.nodes.iter().map(|node| {
        let place = node.locality.clone().unwrap_or_default();
        v1::RecordedNode {
            node_id: node.id,
            name: node.name.clone(),
            region: place.region,
            dc: place.dc,
            rack: place.rack,
        }
    });
    let shard = |shard: ShardId| v1::RecordedShard {
        shard: shard.0,
        replicas: view.replicas_of(shard).to_vec(),
        prefer: view.policy_of(shard).prefer,
    };
    What::Cluster(v1::ClusterRecord {
        cluster_id: view.cluster_id.clone(),
        epoch: view.epoch,
        nodes: nodes.collect(),
        shards: view.shard_ids().map(shard).collect(),
        tuning: Some(v1::RecordedTuning {
            heartbeat_ms: tuning.heartbeat_ms,
            election_min_ms: tuning.election_min_ms,
            election_max_ms: tuning.election_max_ms,
            read_lease_ms: tuning.read_lease_ms,
            replace_after_ms: tuning.replace_after_ms,
        }),
    })
}

fn links_record(raft: &Node) -> v1::LinksRecord {
    let links = raft.links().into_iter().map(|link| v1::RecordedLink {
        peer: link.node.0,
        up: link.state == "up",
        round_us: u32::try_from(micros(link.round.unwrap_or_default())).unwrap_or(u32::MAX),
        limit_ms: u32::try_from(link.limit.as_millis()).unwrap_or(u32::MAX),
    });
    v1::LinksRecord {
        links: links.collect(),
    }
}

/// Whether it is worth telling: another link, another state, or rounds that differ by a half.
fn differ(known: &v1::LinksRecord, now: &v1::LinksRecord) -> bool {
    let same = |a: &v1::RecordedLink, b: &v1::RecordedLink| {
        let (less, more) = (a.round_us.min(b.round_us), a.round_us.max(b.round_us));
        let near = more - less <= 1_000.max(less / 2);
        (a.peer, a.up) == (b.peer, b.up) && near
    };
    let mut pairs = known.links.iter().zip(&now.links);
    known.links.len() != now.links.len() || !pairs.all(|(a, b)| same(a, b))
}

#[cfg(test)]
#[path = "recorder_tests.rs"]
mod tests;
