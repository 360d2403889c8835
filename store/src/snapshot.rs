//! Snapshots of one shard: read points, their bytes on demand, and installing them.
//!
//! ```text
//!   ReadPoint ── export ──► sorted files ── (network) ──► ShardState::install
//!
//!   install: marker (raftdb, synced) ─► clear the range ─► flush ─► ingest ─► check the files,
//!            applied position and `whole` note ─► flush ─► remove the marker
//! ```
//!
//! Rule 4 of the crate is kept here. A crash before the clearing is flushed leaves the old state
//! or none, one behind the last flush the new one; in between the marker tells the next start to
//! clear what there is. Reads see the old state until the new one is whole.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use model::id::ShardId;
use model::limits::SNAPSHOT_FILE_BYTES_MAX;
use model::shard::Scope;
use prost::Message;

use crate::engine::{Batch, Engine, Read, Snapshot, SortedFile};
use crate::state::applied::{self, PositionRecord};
use crate::state::record::{self, Arena, FILE, FORMAT, Record};
use crate::state::{Applied, ShardState};
use crate::{Error, Log, key};

/// Names of install markers in `raftdb`; the shard's number follows.
const MARKERS: &str = "install/";

/// A read point of one shard.
pub struct ReadPoint {
    /// What had been applied at this very read point.
    pub applied: Applied,
    pub(crate) snapshot: Snapshot,
    engine: Arc<dyn Engine>,
    shard: ShardId,
    pub(crate) scope: Scope,
}

impl ReadPoint {
    /// Writes the shard's records to files that another replica can install.
    pub fn export(self) -> BoxFuture<'static, Result<Vec<Box<dyn SortedFile>>, Error>> {
        Box::pin(async move {
            let (from, to) = key::state::shard_records_sent(self.shard);
            let snapshot = Arc::clone(&self.snapshot);
            let export = self.engine.export(
                snapshot,
                from.to_vec(),
                to.to_vec(),
                SNAPSHOT_FILE_BYTES_MAX,
            );
            let mut files = export.await?;
            if let Scope::Data(slots) = &self.scope {
                let (from, to) = key::state::conversations(slots);
                let export = self
                    .engine
                    .export(self.snapshot, from, to, SNAPSHOT_FILE_BYTES_MAX);
                files.extend(export.await?);
            }
            Ok(files)
        })
    }
}

impl ShardState {
    /// A read point of all that is applied now.
    ///
    /// # Errors
    /// [`Error`] when a snapshot is being installed.
    pub fn read_point(&self) -> Result<ReadPoint, Error> {
        let shard = &*self.shard;
        let core = shard.core.lock();
        if shard.serving.read().progress.lock().installing {
            return Err(core.stopped.clone().unwrap_or_else(installing));
        }
        Ok(ReadPoint {
            applied: self.applied(),
            snapshot: self.shared.engine.snapshot(),
            engine: Arc::clone(&self.shared.engine),
            shard: shard.id,
            scope: shard.scope.clone(),
        })
    }

    /// Begins to receive one of the files that another replica exported.
    ///
    /// # Errors
    /// [`Error`] when the disk does.
    pub fn receive(&self) -> Result<Box<dyn crate::engine::IncomingFile>, Error> {
        self.shared.engine.receive()
    }

    /// Puts what another replica exported in place of this shard's state; durable on completion.
    /// Of `applied` the position and the membership count, and the position must be that of the
    /// files. Nothing may be applied meanwhile.
    ///
    /// # Errors
    /// [`Error`]; when the files are not what they should be, the shard serves nothing new until
    /// an install succeeds, and after a crash it is empty.
    pub fn install(
        &self,
        applied: Applied,
        files: Vec<Box<dyn SortedFile>>,
    ) -> BoxFuture<'static, Result<(), Error>> {
        let state = self.clone();
        Box::pin(async move { state.install_files(applied, files).await })
    }

    /// Removes everything of the shard; durable on completion.
    pub fn clear(&self) -> BoxFuture<'static, Result<(), Error>> {
        let state = self.clone();
        Box::pin(async move {
            let shared = &state.shared;
            let mut batch = Batch::new();
            clear_range(&mut batch, state.shard.id, &state.shard.scope);
            state.hold(batch)?;
            Arc::clone(shared).flush().await?;
            shared.unsettle(state.shard.id);
            remove_marker(&shared.log, state.shard.id).await?;
            state.reload(None)
        })
    }

    async fn install_files(
        &self,
        applied: Applied,
        files: Vec<Box<dyn SortedFile>>,
    ) -> Result<(), Error> {
        let shard = &*self.shard;
        let shared = &self.shared;
        let marker = Marker::new(&shard.scope, &applied);
        shared.unsettle(shard.id);
        let name = marker_name(shard.id);
        shared
            .log
            .local_put(&name, Some(marker.encode_to_vec().into()))
            .await?;

        let mut batch = Batch::new();
        clear_range(&mut batch, shard.id, &shard.scope);
        self.hold(batch)?;
        Arc::clone(shared).flush().await?;

        // One by one: taken together they would span the ranges of other shards, whose unflushed
        // writes they must not touch. The marker makes one of all.
        for file in files {
            shared.engine.ingest(vec![file]).await?;
        }
        let batch = self.accept(&marker, applied.clone())?;
        shared.engine.write(batch)?;
        Arc::clone(shared).flush().await?;

        remove_marker(&shared.log, shard.id).await?;
        self.reload(applied.position)
    }

    /// Clears the shard on disk while reads go on with what was there, and stops applying.
    fn hold(&self, batch: Batch) -> Result<(), Error> {
        let shard = &*self.shard;
        let mut core = shard.core.lock();
        let mut serving = shard.serving.write();
        if serving.old.is_none() {
            serving.old = Some(self.shared.engine.snapshot());
        }
        serving.heads.lock().clear();
        serving.progress.lock().installing = true;
        core.stopped = Some(installing());
        self.shared.engine.write(batch)
    }

    /// Checks what was ingested, and what makes it this replica's own.
    fn accept(&self, marker: &Marker, wanted: Applied) -> Result<Batch, Error> {
        let id = self.shard.id;
        let found = applied::read(&*self.shared.engine, id)?;
        let applied_key = key::state::applied(id);
        if found.position != wanted.position {
            return Err(record::corrupt(
                &applied_key,
                format!(
                    "the files are of position {:?}, the snapshot of {:?}",
                    found.position, wanted.position
                ),
            ));
        }
        let mut arena = Arena::default();
        let mut batch = Batch::new();
        let applied = Applied {
            membership: wanted.membership,
            ..found
        };
        batch.put(
            arena.key(&applied_key),
            applied::seal(&mut arena, &applied_key, &applied),
        );
        let whole = key::state::whole(id);
        batch.put(arena.key(&whole), arena.seal_message(&whole, marker));
        Ok(batch)
    }
}

/// What is being installed. A disk format: tags are permanent.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Marker {
    /// Format of the record, 1.
    #[prost(uint32, tag = "1")]
    format: u32,
    /// First slot; both are absent for the meta shard.
    #[prost(uint32, optional, tag = "2")]
    slot_first: Option<u32>,
    /// Last slot, inclusive.
    #[prost(uint32, optional, tag = "3")]
    slot_last: Option<u32>,
    /// The snapshot's position.
    #[prost(message, optional, tag = "4")]
    position: Option<PositionRecord>,
}

impl Record for Marker {
    fn format(&self) -> u32 {
        self.format
    }
}

impl Marker {
    fn new(scope: &Scope, applied: &Applied) -> Marker {
        let slots = match scope {
            Scope::Data(slots) => Some(slots),
            Scope::Meta => None,
        };
        Marker {
            format: FORMAT,
            slot_first: slots.map(|slots| u32::from(*slots.start())),
            slot_last: slots.map(|slots| u32::from(*slots.end())),
            position: applied.position.map(PositionRecord::from),
        }
    }

    /// What the shard holds.
    pub(crate) fn scope(&self) -> Scope {
        let slot = |slot: Option<u32>| u16::try_from(slot?).ok();
        match (slot(self.slot_first), slot(self.slot_last)) {
            (Some(first), Some(last)) => Scope::Data(RangeInclusive::new(first, last)),
            (None, None) | (Some(_), None) | (None, Some(_)) => Scope::Meta,
        }
    }

    /// Whether the install of this marker came to its end, but for the marker's removal.
    pub(crate) fn whole(&self, engine: &dyn Read, shard: ShardId) -> Result<bool, Error> {
        let key = key::state::whole(shard);
        let Some(value) = engine.get(&key)? else {
            return Ok(false);
        };
        let whole: Marker = record::decode(&key, value)?;
        Ok(whole == *self)
    }
}

/// The markers found in `raftdb`.
pub(crate) fn markers(log: &Log) -> Result<Vec<(ShardId, Marker)>, Error> {
    let mut markers = Vec::new();
    for (name, value) in log.local_scan(MARKERS)? {
        let corrupt = |reason: String| Error::Corrupt {
            file: "raftdb".into(),
            key: name.clone(),
            reason,
        };
        let shard = name[MARKERS.len()..]
            .parse()
            .map_err(|_| corrupt("it names no shard".into()))?;
        let marker = Marker::decode(value).map_err(|error| corrupt(error.to_string()))?;
        if marker.format > FORMAT {
            return Err(Error::Format {
                file: FILE.into(),
                found: marker.format,
                known: FORMAT,
            });
        }
        markers.push((ShardId(shard), marker));
    }
    Ok(markers)
}

/// Removes the marker of a shard, if there is one; submitted at once, done when it completes.
pub(crate) fn remove_marker(log: &Log, shard: ShardId) -> BoxFuture<'static, Result<(), Error>> {
    log.local_put(&marker_name(shard), None)
}

/// Removes all that a shard holds.
pub(crate) fn clear_range(batch: &mut Batch, shard: ShardId, scope: &Scope) {
    let (from, to) = key::state::shard_records(shard);
    batch.delete_range(Bytes::copy_from_slice(&from), Bytes::copy_from_slice(&to));
    if let Scope::Data(slots) = scope {
        let (from, to) = key::state::conversations(slots);
        if from < to {
            batch.delete_range(from, to);
        }
    }
}

fn marker_name(shard: ShardId) -> String {
    format!("{MARKERS}{}", shard.0)
}

fn installing() -> Error {
    Error::Disk {
        operation: "apply",
        file: FILE.into(),
        reason: "a snapshot is being installed in this shard".into(),
    }
}
