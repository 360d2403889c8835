//! The one writer of `raftdb`: takes what all shards submitted since its last round, makes one
//! batch of it, adds the round's number as the disk's mark, writes it, syncs once, and tells
//! everyone.
//!
//! ```text
//!   append, vote, truncate, purge, local ──► round n (open) ─┐ in the order submitted
//!                                            round n-1       ├─► write ─► sync ─► done, done, …
//! ```
//!
//! Submitting adds to the open round under one lock, so the order of submission is the order in
//! the batch. The first error ends it: all who wait and all who come later get that error.
//!
//! Notes go along with a round that somebody waits for, at its end; of each there is one at most. A
//! round of notes alone has no number: marks tell how much would be lost with an older disk, and notes
//! about others' marks would raise each other for ever.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use model::durations::Durations;
use model::mutant;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::record::{self, FILE};
use super::shard::Shard;
use super::{MARK, Tails};
use crate::engine::{Batch, Engine};
use crate::key::log as key;
use crate::{Error, Position};

/// Bytes at which a round is closed and the next one opened.
const ROUND_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Called once with the outcome.
pub(super) type Done = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// What must be there before a submission counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// On disk, synced.
    Durable,
    /// Handed to the engine; it becomes durable with the next sync.
    Written,
    /// Whenever: it goes with the next round that someone waits for.
    Whenever,
}

/// Where a shard's log ends once a round is durable.
pub(super) struct Progress {
    pub(super) shard: Arc<Shard>,
    pub(super) position: Position,
}

/// What is written together.
#[derive(Default)]
pub(super) struct Round {
    pub(super) batch: Batch,
    pub(super) progress: Vec<Progress>,
    /// By key: records that go along.
    notes: BTreeMap<Bytes, Bytes>,
    /// There is more to it than notes.
    counts: bool,
    /// What its entries take in the tails.
    pub(super) tail_bytes: usize,
    written: Vec<Done>,
    durable: Vec<Done>,
}

/// Everything submitted and not yet taken.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    work: Notify,
    /// Rounds handed to the engine.
    written: AtomicU64,
    /// The mark that is durable; 0 before this start's first sync.
    mark: AtomicU64,
    syncs: Mutex<Syncs>,
}

/// What syncs of the log came to since it was opened.
#[derive(Debug, Default)]
pub struct SyncFigures {
    /// What each took.
    pub durations: Durations,
    /// How many appends, votes and notes were waited for: those that share a sync count one each.
    pub waited: AtomicU64,
}

/// How the disk has been syncing.
#[derive(Default)]
struct Syncs {
    /// What each took, and how many waited for it.
    figures: Arc<SyncFigures>,
    /// When the sync that runs began.
    running: Option<Instant>,
    /// What syncs take, smoothed, and when the last ended.
    usual: Option<(Duration, Instant)>,
    /// The longest of each tenth of a second, by their ends.
    longest: VecDeque<(Instant, Duration)>,
}

/// For how long, and how finely, the longest syncs are known.
const LONGEST_VALID: Duration = Duration::from_secs(8);
const LONGEST_STEP: Duration = Duration::from_millis(100);

/// Until when the last sync's end says something about the next.
const USUAL_VALID: Duration = Duration::from_secs(5);

impl Syncs {
    fn begin(&mut self) {
        self.running = Some(Instant::now());
    }

    fn end(&mut self, waited: usize) {
        let now = Instant::now();
        if let Some(began) = self.running.take() {
            let took = now - began;
            self.figures.durations.add(took);
            let waited = u64::try_from(waited).unwrap_or(u64::MAX);
            self.figures.waited.fetch_add(waited, Ordering::Relaxed);
            let usual = match self.usual {
                Some((usual, at)) if now - at < USUAL_VALID => (usual * 3 + took) / 4,
                Some(_) | None => took,
            };
            self.usual = Some((usual, now));
            match self.longest.back_mut() {
                Some((at, longest)) if now - *at < LONGEST_STEP => *longest = took.max(*longest),
                Some(_) | None => self.longest.push_back((now, took)),
            }
            while self
                .longest
                .front()
                .is_some_and(|(at, _)| now - *at >= LONGEST_VALID)
            {
                self.longest.pop_front();
            }
        }
    }

    fn longest(&self, over: Duration) -> Duration {
        let now = Instant::now();
        let running = self.running.map_or(Duration::ZERO, |began| now - began);
        let ended = self.longest.iter().filter(|(at, _)| now - *at <= over);
        let longest = ended.map(|(_, took)| *took).max().unwrap_or_default();
        longest.max(running)
    }
}

#[derive(Default)]
struct State {
    rounds: VecDeque<Round>,
    taken: u64,
    /// Someone waits, so the writer must not.
    wanted: bool,
    /// The writer has taken notes that no sync has followed.
    notes_unsynced: bool,
    /// No one can submit any more.
    closed: bool,
    failed: Option<Error>,
}

impl Queue {
    /// Adds to the open round what `fill` puts into it, given the round's number (from 1). `done`
    /// is called by the writer. When the writer has failed `fill` is not called and `done` is
    /// given back with the error, to be called when no lock is held.
    pub(super) fn submit(
        &self,
        until: Until,
        done: Option<Done>,
        fill: impl FnOnce(&mut Round, u64),
    ) -> Option<(Done, Error)> {
        let mut state = self.state.lock();
        if let Some(error) = state.failed.clone() {
            return done.map(|done| (done, error));
        }
        let number = state.open();
        if let Some(round) = state.rounds.back_mut() {
            round.counts = true;
            fill(round, number);
            match until {
                Until::Durable => round.durable.extend(done),
                Until::Written | Until::Whenever => round.written.extend(done),
            }
        }
        if until != Until::Whenever && !state.wanted {
            state.wanted = true;
            drop(state);
            self.work.notify_one();
        }
        None
    }

    /// Has a record go along with the open round, or the first that somebody waits for; lost with it,
    /// or when the writer has failed.
    pub(super) fn note(&self, key: Bytes, value: Bytes) {
        let mut state = self.state.lock();
        if state.failed.is_none() {
            state.open();
            if let Some(round) = state.rounds.back_mut() {
                round.notes.insert(key, value);
            }
        }
    }

    /// Completes when all that was noted is durable; without a sync where it is.
    pub(super) fn settle(&self) -> BoxFuture<'static, Result<(), Error>> {
        let mut state = self.state.lock();
        if let Some(error) = state.failed.clone() {
            return std::future::ready(Err(error)).boxed();
        }
        let waits = state.rounds.iter().any(|round| !round.notes.is_empty());
        if !waits && !state.notes_unsynced {
            return std::future::ready(Ok(())).boxed();
        }
        let (sender, receiver) = oneshot::channel();
        let done: Done = Box::new(move |result| drop(sender.send(result)));
        state.open();
        if let Some(round) = state.rounds.back_mut() {
            round.durable.push(done);
        }
        let asleep = !std::mem::replace(&mut state.wanted, true);
        drop(state);
        if asleep {
            self.work.notify_one();
        }
        async move { receiver.await.unwrap_or_else(|_| Err(ended())) }.boxed()
    }

    /// As [`Queue::submit`], giving the outcome as a future.
    pub(super) fn submit_and_wait(
        &self,
        until: Until,
        fill: impl FnOnce(&mut Round, u64),
    ) -> BoxFuture<'static, Result<(), Error>> {
        let (sender, receiver) = oneshot::channel();
        let done: Done = Box::new(move |result| drop(sender.send(result)));
        if let Some((done, error)) = self.submit(until, Some(done), fill) {
            done(Err(error));
        }
        async move { receiver.await.unwrap_or_else(|_| Err(ended())) }.boxed()
    }

    /// How many rounds the engine has got.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// What the entries that wait to be written take in the tails.
    pub(super) fn unwritten_bytes(&self) -> usize {
        let state = self.state.lock();
        state.rounds.iter().map(|round| round.tail_bytes).sum()
    }

    /// How far the disk has been synced.
    pub(super) fn mark(&self) -> u64 {
        self.mark.load(Ordering::Acquire)
    }

    /// The longest sync of the last `over`.
    pub(super) fn slowest_sync(&self, over: Duration) -> Duration {
        self.syncs.lock().longest(over)
    }

    /// For how long the present sync has been running, and what syncs take.
    pub(super) fn syncs(&self) -> (Duration, Option<Duration>) {
        let syncs = self.syncs.lock();
        let now = Instant::now();
        let running = syncs.running.map_or(Duration::ZERO, |began| now - began);
        let usual = syncs.usual.filter(|(_, at)| now - *at < USUAL_VALID);
        (running, usual.map(|(usual, _)| usual))
    }

    /// What syncs came to since the log was opened.
    pub(super) fn sync_figures(&self) -> Arc<SyncFigures> {
        self.syncs.lock().figures.clone()
    }

    /// Lets the writer end when it has written what there is.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.work.notify_one();
    }

    /// The next round; `None` when no one submits any more.
    async fn next(&self) -> Option<(Round, u64)> {
        loop {
            {
                let mut state = self.state.lock();
                if state.wanted || state.closed {
                    let round = state.rounds.pop_front();
                    state.wanted = !state.rounds.is_empty();
                    match round {
                        Some(round) => {
                            state.taken += 1;
                            state.notes_unsynced |= !round.notes.is_empty();
                            return Some((round, state.taken));
                        }
                        None if state.closed => return None,
                        None => {}
                    }
                }
            }
            self.work.notified().await;
        }
    }

    /// Ends everything with `error`.
    fn fail(&self, error: &Error) {
        let rounds = {
            let mut state = self.state.lock();
            state.failed.get_or_insert_with(|| error.clone());
            std::mem::take(&mut state.rounds)
        };
        for mut round in rounds {
            round.fail(error);
        }
    }
}

impl State {
    /// Sees to it that a round is open; its number.
    fn open(&mut self) -> u64 {
        let full = |round: &Round| round.batch.bytes() >= ROUND_BYTES_MAX;
        if self.rounds.back().is_none_or(full) {
            self.rounds.push_back(Round::default());
        }
        self.taken + self.rounds.len() as u64
    }
}

impl Round {
    /// What was noted under a key before goes with no round: something newer is said of it.
    pub(super) fn unnote(&mut self, key: &Bytes) {
        self.notes.remove(key);
    }

    fn fail(&mut self, error: &Error) {
        for done in self.written.drain(..).chain(self.durable.drain(..)) {
            done(Err(error.clone()));
        }
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        self.fail(&ended());
    }
}

fn ended() -> Error {
    Error::Disk {
        operation: "write",
        file: FILE.to_owned(),
        reason: "the log's writer has ended".to_owned(),
    }
}

/// The writer, to be run once. Dropping it unfinished fails everyone who waits.
pub(super) struct Writer {
    engine: Arc<dyn Engine>,
    queue: Arc<Queue>,
    tails: Arc<Tails>,
    /// The number of the last round, over all starts.
    mark: u64,
}

impl Writer {
    /// `mark` is the one found on the disk.
    pub(super) fn new(
        engine: Arc<dyn Engine>,
        queue: Arc<Queue>,
        tails: Arc<Tails>,
        mark: u64,
    ) -> Writer {
        Writer {
            engine,
            queue,
            tails,
            mark,
        }
    }

    /// Writes until no one can submit any more, or something fails.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        let mark_key = Bytes::from(key::local(MARK));
        // What rounds that no one waited for have written since the last sync.
        let mut unsynced = false;
        let mut progress = Vec::new();
        while let Some((mut round, number)) = self.queue.next().await {
            for (key, value) in std::mem::take(&mut round.notes) {
                round.batch.put(key, value);
            }
            if round.counts {
                self.mark += 1;
                let mark = record::seal(&mark_key, [&self.mark.to_be_bytes(), &[]]);
                round.batch.put(mark_key.clone(), mark);
            }
            if let Err(error) = self.engine.write(std::mem::take(&mut round.batch)) {
                return self.stop(round, error);
            }
            self.queue.written.store(number, Ordering::Release);
            // What had to stay until it was written; its shards may not append again for long.
            self.tails.trim(self.queue.unwritten_bytes(), number);
            for done in round.written.drain(..) {
                done(Ok(()));
            }
            progress.append(&mut round.progress);
            unsynced = true;
            if round.durable.is_empty() {
                continue;
            }
            self.queue.syncs.lock().begin();
            let synced = self.engine.sync().await;
            self.queue.syncs.lock().end(round.durable.len());
            match synced {
                Ok(()) if round.counts => self.queue.mark.store(self.mark, Ordering::Release),
                // What this start has not written is durable only if the one before had synced it.
                Ok(()) => {}
                Err(_) if mutant!("fsync-error-ignored") => {}
                Err(error) => return self.stop(round, error),
            }
            unsynced = false;
            self.queue.state.lock().notes_unsynced = false;
            for Progress { shard, position } in progress.drain(..) {
                shard.tail.lock().note_synced(position);
            }
            for done in round.durable.drain(..) {
                done(Ok(()));
            }
        }
        if unsynced {
            self.engine.sync().await?;
        }
        Ok(())
    }

    fn stop(&self, mut round: Round, error: Error) -> Result<(), Error> {
        self.queue.fail(&error);
        round.fail(&error);
        Err(error)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.fail(&ended());
    }
}
