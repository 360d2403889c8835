//! Snapshots of one shard: read points, their bytes on demand, and receiving them.
//!
//! ```text
//!   ReadPoint ── export ──► sorted files ── (network) ──► ShardState::install
//! ```

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use model::id::ShardId;
use model::limits::SNAPSHOT_FILE_BYTES_MAX;
use model::mutant;
use model::shard::Scope;

use crate::engine::{Engine, IncomingFile, Order, Read, Snapshot, SortedFile, Visit};
use crate::key::state::Named;
use crate::state::{Applied, ShardState};
use crate::{Error, key};

mod install;
mod marker;

pub(crate) use install::finish;
pub(crate) use marker::Marker;

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
                let conversations = if mutant!("dedup-table-missing-from-the-snapshot") {
                    Arc::new(WithoutDedups(self.snapshot))
                } else {
                    self.snapshot
                };
                let export = self
                    .engine
                    .export(conversations, from, to, SNAPSHOT_FILE_BYTES_MAX);
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
            return Err(core.stopped.clone().unwrap_or_else(install::installing));
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
    pub fn receive(&self) -> Result<Box<dyn IncomingFile>, Error> {
        self.shared.engine.receive()
    }
}

/// What a mutant exports: the read point as if nothing were remembered of any id.
struct WithoutDedups(Snapshot);

impl Read for WithoutDedups {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.0.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visit<'_>) -> Result<(), Error> {
        self.0.scan(
            from,
            to,
            order,
            &mut |key, value| match key::state::parse(key) {
                Some(Named::Dedup(..)) => Ok(ControlFlow::Continue(())),
                Some(Named::Head(_) | Named::Message(..)) | None => visit(key, value),
            },
        )
    }
}
