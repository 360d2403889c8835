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
use tokio::sync::oneshot;

use crate::engine::{Engine, IncomingFile, Order, Read, Snapshot, SortedFile, Visit};
use crate::key::state::Named;
use crate::state::{Applied, ShardState};
use crate::{Error, key};

/// Bytes of records that are looked at without giving others a turn.
const LOOK_BYTES: usize = 1024 * 1024;

mod install;
mod marker;

pub(crate) use install::{finish, wipe};
pub(crate) use marker::Marker;

/// A read point of one shard.
pub struct ReadPoint {
    /// What had been applied at this very read point.
    pub applied: Applied,
    pub(crate) snapshot: Snapshot,
    engine: Arc<dyn Engine>,
    pub(crate) shard: ShardId,
    pub(crate) scope: Scope,
}

impl ReadPoint {
    /// Writes the shard's records to files that another replica can install, all at once.
    pub fn export(self) -> BoxFuture<'static, Result<Vec<Box<dyn SortedFile>>, Error>> {
        Box::pin(async move {
            let mut export = self.exporting();
            let mut files = Vec::new();
            while let Some(file) = export.next().await? {
                files.push(file);
            }
            Ok(files)
        })
    }

    /// The same, file by file.
    pub fn exporting(self) -> Export {
        let (from, to) = key::state::shard_records_sent(self.shard);
        let mut ranges = vec![(from.to_vec(), to.to_vec())];
        if let Scope::Data(slots) = &self.scope {
            ranges.push(key::state::conversations(slots));
        }
        ranges.retain(|(from, to)| from < to);
        let begin = ranges.first().map(|(from, _)| (0, from.clone()));
        Export {
            point: self,
            ranges,
            begins: begin.into_iter().collect(),
            next: 0,
        }
    }
}

/// A read point on its way into files, one after the other, so that no more than one needs room on the
/// disk. The same file begins and ends at the same records however often it is made.
pub struct Export {
    point: ReadPoint,
    ranges: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where files begin: in which range, and at which key.
    begins: Vec<(usize, Vec<u8>)>,
    next: usize,
}

impl Export {
    /// What had been applied at its read point.
    pub fn applied(&self) -> &Applied {
        &self.point.applied
    }

    /// Makes file `number` the next one; those before it must have been made once. Whether it can be.
    pub fn go_back_to(&mut self, number: usize) -> bool {
        let known = number <= self.next;
        if known {
            self.next = number;
        }
        known
    }

    /// The next file; none when all were made.
    ///
    /// # Errors
    /// [`Error`] when the disk does.
    pub async fn next(&mut self) -> Result<Option<Box<dyn SortedFile>>, Error> {
        loop {
            let Some((range, from)) = self.begins.get(self.next).cloned() else {
                return Ok(None);
            };
            let Some((_, end)) = self.ranges.get(range) else {
                return Ok(None);
            };
            let to = self.part_end(&from, end).await?;
            let behind = match &to {
                Some(to) => Some((range, to.clone())),
                None => self
                    .ranges
                    .get(range + 1)
                    .map(|next| (range + 1, next.0.clone())),
            };
            let to = to.unwrap_or_else(|| end.clone());
            let export = self.point.engine.export(
                self.records(range),
                from,
                to,
                // One file, however its records are packed.
                usize::MAX,
            );
            let file = export.await?.into_iter().next();
            match (file, behind) {
                (Some(file), behind) => {
                    self.begins.truncate(self.next + 1);
                    self.begins.extend(behind);
                    self.next += 1;
                    return Ok(Some(file));
                }
                // A range without records.
                (None, Some(behind)) => {
                    self.begins.truncate(self.next);
                    self.begins.push(behind);
                }
                (None, None) => {
                    self.begins.truncate(self.next);
                    return Ok(None);
                }
            }
        }
    }

    fn records(&self, range: usize) -> Snapshot {
        let snapshot = Arc::clone(&self.point.snapshot);
        if range > 0 && mutant!("dedup-table-missing-from-the-snapshot") {
            return Arc::new(WithoutDedups(snapshot));
        }
        snapshot
    }

    /// The key behind the records of one file from `from` on; none when the range ends before.
    async fn part_end(&self, from: &[u8], end: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let mut from = from.to_vec();
        let mut bytes = 0;
        while bytes < SNAPSHOT_FILE_BYTES_MAX {
            let (mut looked_at, mut last) = (0, None);
            let snapshot = &self.point.snapshot;
            snapshot.scan(&from, end, Order::Ascending, &mut |key, value| {
                looked_at += key.len() + value.len();
                if looked_at < LOOK_BYTES {
                    return Ok(ControlFlow::Continue(()));
                }
                last = Some(key.to_vec());
                Ok(ControlFlow::Break(()))
            })?;
            let Some(mut behind) = last else {
                return Ok(None);
            };
            behind.push(0);
            from = behind;
            bytes += looked_at;
            tokio::task::yield_now().await;
        }
        Ok(Some(from))
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
        Ok(self.point())
    }

    /// As [`ShardState::read_point`], of exactly what is applied up to the entry at `index`, once it is:
    /// what replicas are compared at. `None` when more is applied already, when a snapshot passes it, or
    /// when another is wanted meanwhile.
    ///
    /// # Errors
    /// [`Error`] when a snapshot is being installed.
    pub async fn read_point_at(&self, index: u64) -> Result<Option<ReadPoint>, Error> {
        let (out, point) = oneshot::channel();
        {
            let shard = &*self.shard;
            let mut core = shard.core.lock();
            if shard.serving.read().progress.lock().installing {
                return Err(core.stopped.clone().unwrap_or_else(install::installing));
            }
            if self.applied().position.is_some_and(|at| at.index > index) {
                return Ok(None);
            }
            core.wanted = Some((index, out));
            self.give_point(&mut core);
        }
        let point = point.await.ok();
        Ok(point.filter(|point| point.applied.position.is_some_and(|at| at.index == index)))
    }

    /// A read point while nothing is applied.
    pub(crate) fn point(&self) -> ReadPoint {
        ReadPoint {
            applied: self.applied(),
            snapshot: self.shared.engine.snapshot(),
            engine: Arc::clone(&self.shared.engine),
            shard: self.shard.id,
            scope: self.shard.scope.clone(),
        }
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
                Some(
                    Named::Head(_)
                    | Named::Message(..)
                    | Named::Change(..)
                    | Named::Counts(..)
                    | Named::Reaction(..)
                    | Named::Expiry(..),
                )
                | None => visit(key, value),
            },
        )
    }
}
