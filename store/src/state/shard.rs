//! One shard's state: applying to it, and reading from it.
//!
//! ```text
//!   apply ── core lock: one at a time ──► Overlay ──► write ──► publish: applied, heads ──► watchers
//!   reads ── never wait for an apply: the published heads, then the database
//! ```
//!
//! How a page is one consistent read although messages change: [`super::pages`].

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use model::cluster::ClusterState;
use model::command::Reply;
use model::id::{ConversationKey, ConversationName, ShardId};
use model::mutant;
use model::shard::{Machine, Scope, Stop};
use model::state::Conversation;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{oneshot, watch};

use super::heads::Heads;
use super::ids::Ids;
use super::overlay::{ApplyChanges, Changes, Overlay, head_of};
use super::recent::Recent;
use super::record::{self, Arena, FILE, FORMAT};
use super::watch::{Touched, Watchers};
use super::{Applied, Shared, ToApply, applied, erase};
use crate::engine::{self, Order, Read, Snapshot};
use crate::snapshot::ReadPoint;
use crate::{Error, Position, ShardLog, key};

/// Records of the audit: their numbers, and what they say, encoded.
pub type Audited = Vec<(u64, Bytes)>;

/// One shard's state. Clones share it.
#[derive(Clone)]
pub struct ShardState {
    pub(crate) shard: Arc<Shard>,
    pub(crate) shared: Arc<Shared>,
}

/// How far what reads see has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// The last entry that is applied and shown.
    pub position: Option<Position>,
    /// Changes applied and shown.
    pub revision: u64,
}

impl Reached {
    /// The index of [`Reached::position`]; 0 before the first.
    pub fn index(&self) -> u64 {
        self.position.map_or(0, |position| position.index)
    }
}

impl From<&Applied> for Reached {
    fn from(applied: &Applied) -> Reached {
        Reached {
            position: applied.position,
            revision: applied.revision,
        }
    }
}

/// Holds nothing that holds it: the databases are closed when the last handle is dropped.
pub(crate) struct Shard {
    pub(crate) id: ShardId,
    pub(crate) scope: Scope,
    log: ShardLog,
    pub(crate) core: Mutex<Core>,
    pub(crate) serving: RwLock<Serving>,
    watchers: Watchers,
    pub(super) recent: Recent,
    reached: watch::Sender<Reached>,
    /// What it keeps in memory, bytes, as it was last counted.
    cached: AtomicUsize,
    /// It may have erasures; set behind each that is noted.
    pub(super) erases: AtomicBool,
    /// Something of it may expire; set behind each note of that.
    pub(super) expires: AtomicBool,
    /// The first error that a read met.
    read_error: watch::Sender<Option<Error>>,
}

/// What only one apply at a time may touch.
pub(crate) struct Core {
    pub(crate) machine: Machine,
    pub(crate) ids: Ids,
    arena: Arena,
    seen: ApplyChanges,
    /// Why nothing is applied any more, or for now.
    pub(crate) stopped: Option<Error>,
    /// Who wants a read point at which entry.
    pub(crate) wanted: Option<(u64, oneshot::Sender<ReadPoint>)>,
}

/// What reads see.
pub(crate) struct Serving {
    /// While a snapshot is installed: what was there before.
    pub(crate) old: Option<Snapshot>,
    pub(crate) heads: Mutex<Heads>,
    pub(crate) progress: Mutex<Progress>,
    pub(crate) cluster: Arc<ClusterState>,
}

/// How far the shard has come.
#[derive(Clone, Default)]
pub(crate) struct Progress {
    pub(crate) applied: Applied,
    pub(crate) flushed: Applied,
    /// The position of the last snapshot installed: its own proof, whatever the log holds.
    pub(crate) installed: Option<Position>,
    pub(crate) installing: bool,
}

/// What goes on from there.
fn machine(scope: Scope, applied: &Applied) -> Machine {
    Machine::new(scope, applied.revision, applied.time_ms)
        .with_passed(applied.passed_ms)
        .with_format(applied.entry_format)
}

impl Shard {
    /// Reads how far the shard has come.
    pub(super) fn open(shared: &Shared, id: ShardId, scope: Scope) -> Result<Shard, Error> {
        let (from, to) = key::state::shard_records(id);
        engine::check_lost(&*shared.engine, FILE, &from, &to)?;
        if let Scope::Data(slots) = &scope {
            let (from, to) = key::state::conversations(slots);
            engine::check_lost(&*shared.engine, FILE, &from, &to)?;
        }
        let applied = applied::read(&*shared.engine, id)?;
        let cluster = read_cluster(&*shared.engine, id)?;
        let log = shared.log.shard(id)?;
        let machine = machine(scope.clone(), &applied);
        let reached = watch::Sender::new(Reached::from(&applied));
        let progress = Progress {
            flushed: applied.clone(),
            applied,
            ..Progress::default()
        };
        Ok(Shard {
            id,
            scope,
            log,
            core: Mutex::new(Core {
                machine,
                ids: Ids::default(),
                arena: Arena::default(),
                seen: ApplyChanges::default(),
                stopped: None,
                wanted: None,
            }),
            serving: RwLock::new(Serving {
                old: None,
                heads: Mutex::default(),
                progress: Mutex::new(progress),
                cluster: Arc::new(cluster),
            }),
            watchers: Watchers::default(),
            recent: Recent::default(),
            reached,
            cached: AtomicUsize::new(0),
            erases: AtomicBool::new(true),
            expires: AtomicBool::new(true),
            read_error: watch::Sender::new(None),
        })
    }

    /// What a flush that switches now makes durable; `None` while a snapshot is installed.
    pub(super) fn to_flush(&self) -> Option<Applied> {
        let serving = self.serving.read();
        let progress = serving.progress.lock();
        (!progress.installing).then(|| progress.applied.clone())
    }

    /// Whether the position is durable without this state: by the log, or by what is flushed or was
    /// installed already.
    pub(super) fn is_proved(&self, position: Option<Position>) -> bool {
        let Some(position) = position else {
            return true;
        };
        let reaches = |proof: Option<Position>| proof.is_some_and(|p| position.index <= p.index);
        let serving = self.serving.read();
        let progress = serving.progress.lock();
        reaches(progress.flushed.position)
            || reaches(progress.installed)
            || reaches(self.log.synced())
    }

    /// Counts what it keeps in memory, and what all shards keep with it. Passed over while somebody
    /// applies to it, who counts then.
    pub(super) fn count_cached(&self, all: &AtomicUsize) {
        let Some(core) = self.core.try_lock() else {
            return;
        };
        let now = core.ids.bytes() + self.serving.read().heads.lock().bytes();
        let before = self.cached.swap(now, Ordering::Relaxed);
        if now >= before {
            all.fetch_add(now - before, Ordering::Relaxed);
        } else {
            all.fetch_sub(before - now, Ordering::Relaxed);
        }
    }

    /// Forgets what it used least.
    pub(super) fn age_cached(&self) {
        if let Some(mut core) = self.core.try_lock() {
            core.ids.age();
            self.serving.read().heads.lock().age();
        }
    }

    /// Notes what a flush made durable.
    pub(super) fn set_flushed(&self, applied: Applied) {
        let serving = self.serving.read();
        let mut progress = serving.progress.lock();
        if !progress.installing {
            progress.flushed = applied;
        }
    }
}

impl ShardState {
    /// Which shard this is.
    pub fn id(&self) -> ShardId {
        self.shard.id
    }

    /// How far it has come.
    pub fn applied(&self) -> Applied {
        self.shard.serving.read().progress.lock().applied.clone()
    }

    /// How far it has come on disk: what a restart begins with.
    pub fn flushed(&self) -> Applied {
        self.shard.serving.read().progress.lock().flushed.clone()
    }

    /// Waits, while a flush waits for the log, until the log is synced up to `last`. To be awaited
    /// before the [`ShardState::apply`] of entries up to `last`; otherwise, with a disk that is
    /// always behind, no flush would find a moment at which all that is applied is synced. Done at
    /// once when no flush is waiting.
    ///
    /// # Errors
    /// [`Error`] when the log has failed.
    pub async fn ready(&self, last: Position) -> Result<(), Error> {
        let shared = &self.shared;
        while shared.flush_waits.load(Ordering::SeqCst) > 0 && !self.shard.is_proved(Some(last)) {
            shared.log.sync().await?;
        }
        Ok(())
    }

    /// Applies committed entries, in one write: the replies to the commands of each, in order.
    /// Readers and watchers see all of them on return; they are durable after the next flush, and
    /// until then by the log.
    ///
    /// # Errors
    /// [`Error`]; nothing of the entries is visible, and this shard applies nothing any more.
    pub fn apply(&self, entries: Vec<ToApply>) -> Result<Vec<Vec<Reply>>, Error> {
        let mut core = self.shard.core.lock();
        if let Some(error) = &core.stopped {
            return Err(error.clone());
        }
        let result = self.apply_in_turn(&mut core, entries);
        if let Err(error) = &result {
            tracing::error!(shard = %self.shard.id, %error, "the shard's replica stops");
            core.stopped = Some(error.clone());
        }
        drop(core);
        self.shared.note_cached(&self.shard);
        result
    }

    /// Stops for a moment at the entry at which somebody wants a read point.
    fn apply_in_turn(
        &self,
        core: &mut Core,
        mut entries: Vec<ToApply>,
    ) -> Result<Vec<Vec<Reply>>, Error> {
        let Some(wanted) = core.wanted.as_ref().map(|(index, _)| *index) else {
            return self.apply_next(core, entries);
        };
        let rest = entries.split_off(entries.partition_point(|one| one.position.index <= wanted));
        let mut replies = self.apply_next(core, entries)?;
        self.give_point(core);
        if !rest.is_empty() {
            replies.extend(self.apply_next(core, rest)?);
        }
        Ok(replies)
    }

    /// Gives the read point that is wanted, if this is the entry; one that was passed is given to
    /// nobody.
    pub(crate) fn give_point(&self, core: &mut Core) {
        let applied = self.applied().position.map_or(0, |position| position.index);
        if let Some((_, out)) = core.wanted.take_if(|(index, _)| applied >= *index) {
            // Who wanted it may be gone.
            let _ = out.send(self.point());
        }
    }

    fn apply_next(&self, core: &mut Core, entries: Vec<ToApply>) -> Result<Vec<Vec<Reply>>, Error> {
        let shard = &*self.shard;
        let Core {
            machine,
            ids,
            arena,
            seen,
            stopped: _,
            wanted: _,
        } = core;
        let serving = shard.serving.read();
        let mut applied = serving.progress.lock().applied.clone();
        let cluster = (shard.scope == Scope::Meta).then(|| ClusterState::clone(&serving.cluster));
        let engine: &dyn Read = &*self.shared.engine;
        let mut overlay = Overlay::new(shard.id, engine, &serving.heads, ids, arena, seen, cluster);
        let mut replies = Vec::with_capacity(entries.len());
        for entry in entries {
            if mutant!("snapshot-index-off-by-one") && applied.position >= Some(entry.position) {
                replies.push(Vec::new());
                continue;
            }
            assert!(
                applied
                    .position
                    .is_none_or(|last| last.index < entry.position.index),
                "entries are applied in the order of the log: {:?} behind {:?}",
                entry.position,
                applied.position
            );
            applied.position = Some(entry.position);
            if let Some(membership) = entry.membership {
                applied.membership = membership;
            }
            replies.push(match &entry.payload {
                Some(payload) => machine.apply(&mut overlay, payload).map_err(stopped)?,
                None => Vec::new(),
            });
        }
        let changes = overlay.finish();
        drop(serving);
        applied.revision = machine.revision();
        applied.time_ms = machine.time_ms();
        applied.passed_ms = machine.passed_ms();
        applied.entry_format = applied::noted(machine.format());
        self.write(arena, applied, changes)?;
        arena.rest();
        Ok(replies)
    }

    /// Writes the changes together with the position they lead to, then shows them.
    fn write(&self, arena: &mut Arena, applied: Applied, changes: Changes) -> Result<(), Error> {
        let shard = &*self.shard;
        let mut batch = changes.batch;
        let key = key::state::applied(shard.id);
        batch.put(arena.key(&key), applied::seal(arena, &key, &applied));
        if let Some(cluster) = &changes.cluster {
            let key = key::state::cluster(shard.id);
            batch.put(arena.key(&key), arena.seal_message(&key, cluster));
        }
        if let Some(position) = applied.position.filter(|_| !changes.erased.is_empty()) {
            erase::note(&mut batch, arena, shard.id, position.index, &changes.erased);
        }
        let reached = Reached::from(&applied);
        let bytes = batch.bytes() as u64;
        {
            let _no_flush_between = self.shared.switch.read();
            self.shared.engine.write(batch)?;
            shard.serving.read().progress.lock().applied = applied;
        }
        if !changes.erased.is_empty() {
            shard.erases.store(true, Ordering::SeqCst);
        }
        if changes.expires {
            shard.expires.store(true, Ordering::SeqCst);
        }
        self.shared
            .unflushed_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        self.shared
            .appended_messages
            .fetch_add(changes.messages, Ordering::Relaxed);
        if shard.recent.is_begun() {
            let changed = changes.heads.iter();
            shard
                .recent
                .note(changed.map(|(key, head)| (head.revision, *key)));
        }
        let mut touched = Vec::with_capacity(changes.heads.len());
        {
            let serving = shard.serving.read();
            let mut heads = serving.heads.lock();
            for (key, head) in changes.heads {
                touched.push((key, head.last_seq));
                heads.insert(key, head);
            }
        }
        if let Some(cluster) = changes.cluster {
            let mut serving = shard.serving.write();
            if *serving.cluster != cluster {
                serving.cluster = Arc::new(cluster);
            }
        }
        let keys = || Some(touched.iter().map(|(key, _)| *key).collect());
        shard.watchers.tell_listeners(reached.revision, keys);
        shard.watchers.tell(touched.into_iter());
        shard.reached.send_replace(reached);
        Ok(())
    }

    /// The head of a conversation; `None` when there is none, or it was deleted.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when it cannot be read back.
    pub fn conversation(&self, name: &ConversationName) -> Result<Option<Conversation>, Error> {
        let head = self.remembered(name)?;
        Ok(head.filter(|head| !head.is_deleted()))
    }

    /// The same, and the tombstone of one that was deleted.
    ///
    /// # Errors
    /// As [`ShardState::conversation`].
    pub fn remembered(&self, name: &ConversationName) -> Result<Option<Conversation>, Error> {
        let serving = self.shard.serving.read();
        let head = self.noted(self.head(&serving, &name.key()))?;
        Ok(head
            .map(Arc::unwrap_or_clone)
            .filter(|head| head.name == name.as_str()))
    }

    /// The conversation's last seq, now and after each apply that changes it; 0 while there is no
    /// such conversation.
    pub fn watch(&self, name: &ConversationName) -> watch::Receiver<u64> {
        let key = name.key();
        self.shard.watchers.watch(key, || self.last_seq(&key))
    }

    /// Whether this is the same opening of the same replica.
    pub fn is(&self, other: &ShardState) -> bool {
        Arc::ptr_eq(&self.shard, &other.shard)
    }

    /// Every change of the shard from now on, each told behind its publication for readers.
    pub fn listen(&self) -> tokio::sync::broadcast::Receiver<Touched> {
        self.shard.watchers.listen()
    }

    /// How far reads see, now and after each apply.
    pub fn watch_applied(&self) -> watch::Receiver<Reached> {
        self.shard.reached.subscribe()
    }

    /// How far every read that begins now sees, at least. [`ShardState::applied`] may be ahead of
    /// it for a moment.
    pub fn reached(&self) -> Reached {
        *self.shard.reached.borrow()
    }

    /// Set once a read has met an error: whoever looks after the replica must stop it, or the node,
    /// as for an error of an apply.
    pub fn watch_read_error(&self) -> watch::Receiver<Option<Error>> {
        self.shard.read_error.subscribe()
    }

    /// Passes what a read found on, remembering the first error.
    pub(crate) fn noted<T>(&self, found: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &found {
            self.shard.read_error.send_if_modified(|first| {
                let new = first.is_none();
                if new {
                    *first = Some(error.clone());
                }
                new
            });
        }
        found
    }

    /// The cluster's state, on the meta shard; of another shard an empty one.
    pub fn cluster(&self) -> Arc<ClusterState> {
        Arc::clone(&self.shard.serving.read().cluster)
    }

    /// Records of the audit from this number on, in order, until `limit` of them or about `bytes_max` are
    /// found: numbers and encoded [`model::cluster::audit::Record`]s.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when one cannot be read back.
    pub fn audit(&self, from: u64, limit: usize, bytes_max: usize) -> Result<Audited, Error> {
        let serving = self.shard.serving.read();
        let (from, to) = key::state::audits(self.shard.id, from, u64::MAX);
        let (mut found, mut bytes) = (Vec::new(), 0);
        if limit == 0 {
            return Ok(found);
        }
        let point = self.point_of(&serving);
        point.scan(&from, &to, Order::Ascending, &mut |key, value| {
            let record = record::check(key, value)?;
            if let Some(number) = key::state::parse_audit(key) {
                bytes += record.len();
                found.push((number, Bytes::copy_from_slice(record)));
            }
            Ok(match found.len() >= limit || bytes >= bytes_max {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            })
        })?;
        Ok(found)
    }

    fn last_seq(&self, key: &ConversationKey) -> Result<u64, Error> {
        let serving = self.shard.serving.read();
        Ok(self.head(&serving, key)?.map_or(0, |head| head.last_seq))
    }

    pub(super) fn head(
        &self,
        serving: &Serving,
        key: &ConversationKey,
    ) -> Result<Option<Arc<Conversation>>, Error> {
        let kept = serving.heads.lock().get(key);
        match kept {
            Some(head) => Ok(Some(head)),
            // Not kept from here: an apply might publish a newer one in between.
            // One read point, since a head is its record and what the messages behind it add.
            None => Ok(head_of(&*self.point_of(serving), key)?.map(Arc::new)),
        }
    }

    pub(super) fn source<'s>(&'s self, serving: &'s Serving) -> &'s dyn Read {
        match &serving.old {
            Some(old) => &**old,
            None => &*self.shared.engine,
        }
    }

    /// A read point of what reads see.
    pub(super) fn point_of(&self, serving: &Serving) -> Snapshot {
        match &serving.old {
            Some(old) => Arc::clone(old),
            None => self.shared.engine.snapshot(),
        }
    }

    /// Begins anew from what the database holds, after an install or a clearing.
    pub(crate) fn reload(&self, installed: Option<Position>) -> Result<(), Error> {
        let shard = &*self.shard;
        let engine: &dyn Read = &*self.shared.engine;
        let applied = applied::read(engine, shard.id)?;
        let cluster = read_cluster(engine, shard.id)?;
        let reached = Reached::from(&applied);
        {
            let mut core = shard.core.lock();
            core.machine = machine(shard.scope.clone(), &applied);
            core.ids = Ids::default();
            core.stopped = None;
            core.wanted = None;
            let mut serving = shard.serving.write();
            serving.old = None;
            serving.cluster = Arc::new(cluster);
            serving.heads.lock().clear();
            *serving.progress.lock() = Progress {
                flushed: applied.clone(),
                applied,
                installed,
                installing: false,
            };
        }
        let mut changed = Vec::new();
        for key in shard.watchers.keys() {
            changed.push((key, self.last_seq(&key)?));
        }
        shard.recent.clear();
        // What is left of the state before.
        shard.erases.store(true, Ordering::SeqCst);
        shard.expires.store(true, Ordering::SeqCst);
        shard.watchers.tell_listeners(reached.revision, || None);
        shard.watchers.tell(changed.into_iter());
        shard.reached.send_replace(reached);
        Ok(())
    }
}

fn read_cluster(engine: &dyn Read, shard: ShardId) -> Result<ClusterState, Error> {
    let key = key::state::cluster(shard);
    match engine.get(&key)? {
        Some(value) => record::decode(&key, value),
        None => Ok(ClusterState::default()),
    }
}

fn stopped(stop: Stop<Error>) -> Error {
    match stop {
        Stop::View(error) => error,
        Stop::Format(found) => Error::Format {
            file: FILE.into(),
            found,
            known: FORMAT,
        },
    }
}
