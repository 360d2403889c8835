//! One shard's log and hard states.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use model::id::ShardId;
use model::mutant;
use parking_lot::Mutex;

use super::record::{self, Record, corrupt};
use super::tail::{Tail, cached_bytes};
use super::writer::{Done, Progress, Until};
use super::{Handle, HardState, TAIL_BYTES_MAX, TAIL_BYTES_MIN, Tails};
use crate::engine::{self, Engine, Order};
use crate::key::log as key;
use crate::key::log::Kind;
use crate::{Error, Position};

/// A shard's log as all its handles and the writer share it.
pub(super) struct Shard {
    pub(super) id: ShardId,
    /// Locked before the writer's queue, so that both have one order.
    pub(super) tail: Mutex<Tail>,
}

/// One shard's log and hard states. Clones share it.
///
/// Within a shard everything is written, and becomes durable, in the order of the calls: a vote
/// and an append never overtake each other.
#[derive(Clone)]
pub struct ShardLog {
    pub(super) handle: Arc<Handle>,
    pub(super) shard: Arc<Shard>,
}

impl Tails {
    /// Whether they are beyond their bound, but for what is not written.
    pub(super) fn are_too_much(&self, unwritten: usize) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.max.bytes().saturating_add(unwritten)
    }

    /// Counts what a tail has more of and keeps all within their bounds, but for entries that are not
    /// among the `written` rounds.
    pub(super) fn evict(&self, tail: &mut Tail, added: usize, written: u64) {
        self.bytes.fetch_add(added, Ordering::Relaxed);
        self.evict_to(tail, self.max.bytes(), written);
    }

    fn evict_to(&self, tail: &mut Tail, all_max: usize, written: u64) {
        let before = tail.cache_bytes();
        // What others add meanwhile, they evict.
        let others = self.bytes.load(Ordering::Relaxed).saturating_sub(before);
        let count = self.count.load(Ordering::Relaxed).max(1);
        let least = TAIL_BYTES_MIN.min(all_max / count);
        while tail.cache_bytes() > TAIL_BYTES_MAX
            || (tail.cache_bytes() > least && others + tail.cache_bytes() > all_max)
        {
            if !tail.evict(written) {
                break;
            }
        }
        self.bytes
            .fetch_sub(before - tail.cache_bytes(), Ordering::Relaxed);
    }

    /// Takes from those that have more than their equal share, where all have too much: down to a
    /// little less, so that it is not done for each entry.
    pub(super) fn trim(&self, unwritten: usize, written: u64) {
        if !self.are_too_much(unwritten) {
            return;
        }
        let max = self.max.bytes();
        let shards: Vec<Arc<Shard>> = self.shards.lock().values().cloned().collect();
        for shard in shards {
            self.evict_to(&mut shard.tail.lock(), max - max / 32, written);
        }
    }
}

impl ShardLog {
    /// The last entry; the purged position when there is none.
    pub fn last(&self) -> Option<Position> {
        self.shard.tail.lock().last()
    }

    /// Up to where entries were purged, inclusive.
    pub fn purged(&self) -> Option<Position> {
        self.shard.tail.lock().purged()
    }

    /// The last durable position. It follows the callbacks of [`ShardLog::append`]: it is updated
    /// before they are called.
    pub fn synced(&self) -> Option<Position> {
        self.shard.tail.lock().synced()
    }

    /// Bytes of the entries kept, with their keys.
    pub fn bytes_kept(&self) -> u64 {
        self.shard.tail.lock().bytes()
    }

    /// Appends entries behind the last; they are readable when this returns. `done` is called
    /// once, from the writer, when they are durable or the log has failed.
    ///
    /// # Panics
    /// When the entries do not follow the last one without a gap, which Raft never does.
    pub fn append(&self, records: Vec<Record>, done: Box<dyn FnOnce(Result<(), Error>) + Send>) {
        let id = self.shard.id;
        let sealed: Vec<(Position, Bytes, Bytes)> = records
            .iter()
            .map(|record| {
                let key = key::entry(id, record.position.index);
                let value = record::seal_entry(&key, record);
                (record.position, Bytes::copy_from_slice(&key), value)
            })
            .collect();
        drop(records);
        let rejected = {
            let mut tail = self.shard.tail.lock();
            let before = tail.cache_bytes();
            let rejected = self.append_sealed(&mut tail, sealed, done);
            let added = tail.cache_bytes() - before;
            let written = self.handle.queue.written();
            self.handle.tails.evict(&mut tail, added, written);
            rejected
        };
        if let Some((done, error)) = rejected {
            done(Err(error));
        }
    }

    fn append_sealed(
        &self,
        tail: &mut Tail,
        sealed: Vec<(Position, Bytes, Bytes)>,
        done: Done,
    ) -> Option<(Done, Error)> {
        let mut next = tail.next();
        for (position, ..) in &sealed {
            assert!(
                next.is_none_or(|next| next == position.index),
                "{}: entry {position} does not follow {:?}",
                self.shard.id,
                tail.last()
            );
            next = Some(position.index + 1);
        }
        let until = if mutant!("ack-before-fsync") {
            Until::Written
        } else {
            Until::Durable
        };
        self.handle
            .queue
            .submit(until, Some(done), |round, number| {
                let Some((last, ..)) = sealed.last() else {
                    return;
                };
                round.progress.push(Progress {
                    shard: Arc::clone(&self.shard),
                    position: *last,
                });
                for (position, key, value) in sealed {
                    round.tail_bytes += cached_bytes(value.len() - record::DATA_AT);
                    tail.push(position, value.slice(record::DATA_AT..), number);
                    round.batch.put(key, value);
                }
            })
    }

    /// The entries `from <= index < to` that there are, consecutive, until they hold `bytes_max`;
    /// at least one when there is any. What was purged is passed over.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when an entry is missing or is not what was written; other errors of
    /// the disk.
    pub fn read(&self, from: u64, to: u64, bytes_max: usize) -> Result<Vec<Record>, Error> {
        let mut out = Vec::new();
        let mut generation = None;
        loop {
            let (next, disk_to) = {
                let tail = self.shard.tail.lock();
                // Entries were removed meanwhile: what was read may not be part of the log.
                if generation != Some(tail.generation) {
                    out.clear();
                    generation = Some(tail.generation);
                }
                let (first, end) = tail.range();
                let to = to.min(end);
                let next = out
                    .last()
                    .map_or(from.max(first), |r: &Record| r.position.index + 1);
                if next >= to {
                    return Ok(out);
                }
                let cached_from = tail.cached_from();
                if next >= cached_from {
                    tail.read_cached(next, to, bytes_max, &mut out);
                    return Ok(out);
                }
                (next, to.min(cached_from))
            };
            let found = self.read_disk(next, disk_to, bytes_max, &mut out)?;
            let tail = self.shard.tail.lock();
            if generation != Some(tail.generation) {
                continue;
            }
            if let Some(wrong) = out
                .iter()
                .find(|r| tail.position_at(r.position.index) != Some(r.position))
            {
                let key = key::entry(self.shard.id, wrong.position.index);
                return Err(corrupt(
                    &key,
                    format!("it is of term {}", wrong.position.term),
                ));
            }
            match found {
                Found::Enough => return Ok(out),
                Found::All => {}
                Found::Hole(index) => {
                    let key = key::entry(self.shard.id, index);
                    return Err(corrupt(&key, "it is missing".to_owned()));
                }
            }
        }
    }

    /// Reads entries back from the disk, from the one at `from` on and about `bytes`, whatever is in
    /// memory; gives where to go on, `None` at the end. Those that are cut meanwhile are passed over.
    ///
    /// # Errors
    /// As [`ShardLog::read`]; the caller stops the replica.
    pub fn verify(&self, from: u64, bytes: usize) -> Result<Option<u64>, Error> {
        let (from, to, generation) = {
            let tail = self.shard.tail.lock();
            // What is not written yet is nowhere to be read.
            let synced = tail.synced().map_or(0, |synced| synced.index);
            let (first, end) = tail.range();
            (from.max(first), end.min(synced + 1), tail.generation)
        };
        if from >= to {
            return Ok(None);
        }
        let mut read = Vec::new();
        let found = self.read_disk(from, to, bytes, &mut read)?;
        let next = read.last().map_or(from, |last| last.position.index + 1);
        let changed = self.shard.tail.lock().generation != generation;
        match found {
            Found::All => Ok(None),
            Found::Enough => Ok(Some(next)),
            // It went while it was read.
            Found::Hole(_) if changed => Ok(Some(next + 1)),
            Found::Hole(index) => {
                let key = key::entry(self.shard.id, index);
                Err(corrupt(&key, "it is missing".to_owned()))
            }
        }
    }

    fn read_disk(
        &self,
        from: u64,
        to: u64,
        bytes_max: usize,
        out: &mut Vec<Record>,
    ) -> Result<Found, Error> {
        let id = self.shard.id;
        let mut bytes: usize = out.iter().map(|record| record.data.len()).sum();
        let mut next = from;
        let mut found = Found::All;
        let (from_key, to_key) = (key::entry(id, from), key::entry(id, to));
        let engine = &self.handle.engine;
        engine.scan(&from_key, &to_key, Order::Ascending, &mut |key, value| {
            if key != key::entry(id, next) {
                return Ok(ControlFlow::Break(()));
            }
            let (term, data) = record::unseal_entry(key, value)?;
            bytes = bytes.saturating_add(data.len());
            if bytes > bytes_max && !out.is_empty() {
                found = Found::Enough;
                return Ok(ControlFlow::Break(()));
            }
            let position = Position { term, index: next };
            out.push(Record {
                position,
                data: Bytes::copy_from_slice(data),
            });
            next += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        match found {
            Found::All if next < to => Ok(Found::Hole(next)),
            found => Ok(found),
        }
    }

    /// The position of the entry at `index`; also that of the purged position. Reads no disk.
    ///
    /// # Errors
    /// None at present.
    pub fn position_at(&self, index: u64) -> Result<Option<Position>, Error> {
        Ok(self.shard.tail.lock().position_at(index))
    }

    /// Keeps a hard state. The future of a vote and of the extra record completes when it is
    /// durable; that of the committed position at once, and it rides along with the next sync.
    pub fn save(&self, what: HardState, value: Bytes) -> BoxFuture<'static, Result<(), Error>> {
        let key = key::single(self.shard.id, what.kind());
        let sealed = record::seal(&key, [&value, &[]]);
        let mut tail = self.shard.tail.lock();
        tail.singles.insert(what.kind(), value);
        let put = |round: &mut super::writer::Round, _| {
            round.batch.put(Bytes::copy_from_slice(&key), sealed);
        };
        match what {
            HardState::Vote if mutant!("vote-not-synced") => futures::future::ready(Ok(())).boxed(),
            HardState::Vote | HardState::Extra => {
                self.handle.queue.submit_and_wait(Until::Durable, put)
            }
            HardState::Committed => {
                // Nobody waits, so nothing can be given back; a failed log tells the next caller.
                let _ = self.handle.queue.submit(Until::Whenever, None, put);
                futures::future::ready(Ok(())).boxed()
            }
        }
    }

    /// The hard state saved last, durable or not.
    ///
    /// # Errors
    /// None at present; what was on disk was verified when the shard was opened.
    pub fn load(&self, what: HardState) -> Result<Option<Bytes>, Error> {
        Ok(self.shard.tail.lock().singles.get(&what.kind()).cloned())
    }

    /// Removes all entries above `index`, all when `None`. They are gone when this returns; the
    /// future completes when that is durable.
    pub fn truncate_after(&self, index: Option<u64>) -> BoxFuture<'static, Result<(), Error>> {
        let id = self.shard.id;
        let mut tail = self.shard.tail.lock();
        self.forget(&mut tail, |tail| tail.truncate_after(index));
        self.handle
            .queue
            .submit_and_wait(Until::Durable, |round, _| {
                let Some(from) = index.map_or(Some(0), |index| index.checked_add(1)) else {
                    return;
                };
                let (from, to) = key::entries_from(id, from);
                round
                    .batch
                    .delete_range(Bytes::copy_from_slice(&from), Bytes::copy_from_slice(&to));
            })
    }

    /// Removes the entries up to and including `upto`, which may be past the last one (after a
    /// snapshot). They are gone when this returns; the future completes when that is written. It
    /// becomes durable with the next sync, in order with everything else.
    pub fn purge(&self, upto: Position) -> BoxFuture<'static, Result<(), Error>> {
        let id = self.shard.id;
        let mut tail = self.shard.tail.lock();
        if tail
            .purged()
            .is_some_and(|purged| purged.index >= upto.index)
        {
            return futures::future::ready(Ok(())).boxed();
        }
        self.forget(&mut tail, |tail| tail.purge(upto));
        self.handle
            .queue
            .submit_and_wait(Until::Written, |round, _| {
                // From 0 on, not from the last purge: it is one tombstone either way, and it holds
                // even if that purge were lost.
                let to = match upto.index.checked_add(1) {
                    Some(to) => Bytes::copy_from_slice(&key::entry(id, to)),
                    None => Bytes::copy_from_slice(&key::entries_from(id, 0).1),
                };
                round
                    .batch
                    .delete_range(Bytes::copy_from_slice(&key::entry(id, 0)), to);
                let key = key::single(id, Kind::Purged);
                let value = record::seal(&key, [&upto.to_bytes(), &[]]);
                round.batch.put(Bytes::copy_from_slice(&key), value);
                round.progress.push(Progress {
                    shard: Arc::clone(&self.shard),
                    position: upto,
                });
            })
    }

    /// Changes the tail so that it may lose entries, and counts what it keeps.
    fn forget(&self, tail: &mut Tail, change: impl FnOnce(&mut Tail)) {
        let before = tail.cache_bytes();
        change(tail);
        self.handle
            .tails
            .bytes
            .fetch_sub(before - tail.cache_bytes(), Ordering::Relaxed);
    }
}

enum Found {
    All,
    Enough,
    /// Nothing at this index.
    Hole(u64),
}

/// Reads and verifies everything that is on disk of a shard.
pub(super) fn load(engine: &dyn Engine, id: ShardId, room: usize) -> Result<Tail, Error> {
    let (from, to) = key::shard(id);
    engine::check_lost(engine, "raftdb", &from, &to)?;
    let single = |kind: Kind| -> Result<Option<Bytes>, Error> {
        let key = key::single(id, kind);
        let Some(value) = engine.get(&key)? else {
            return Ok(None);
        };
        record::unseal(&key, &value).map(|body| Some(value.slice_ref(body)))
    };
    let purged = match single(Kind::Purged)? {
        Some(body) => Some(Position::from_bytes(&body).ok_or_else(|| {
            corrupt(
                &key::single(id, Kind::Purged),
                format!("{} bytes", body.len()),
            )
        })?),
        None => None,
    };
    let mut tail = Tail::new(purged);
    for kind in [Kind::Vote, Kind::Committed, Kind::Extra] {
        if let Some(body) = single(kind)? {
            tail.singles.insert(kind, body);
        }
    }
    let (from, to) = key::entries_from(id, 0);
    engine.scan(&from, &to, Order::Ascending, &mut |key, value| {
        load_entry(&mut tail, room, key, value)?;
        Ok(ControlFlow::Continue(()))
    })?;
    if let Some(last) = tail.last() {
        tail.note_synced(last);
    }
    Ok(tail)
}

fn load_entry(tail: &mut Tail, room: usize, key: &[u8], value: &[u8]) -> Result<(), Error> {
    let Some((_, index)) = key::entry_parts(key) else {
        return Err(corrupt(key, "not the key of an entry".to_owned()));
    };
    let (term, data) = record::unseal_entry(key, value)?;
    let position = Position { term, index };
    if let Some(last) = tail.last() {
        if index != last.index + 1 {
            return Err(corrupt(
                key,
                format!("the entry before it is {last}: there is a hole"),
            ));
        }
        if position < last {
            return Err(corrupt(
                key,
                format!("its term {term} is below that of {last}"),
            ));
        }
    }
    tail.push(position, Bytes::copy_from_slice(data), 0);
    while tail.cache_bytes() > room && tail.evict(0) {}
    Ok(())
}
