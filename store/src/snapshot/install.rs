//! Installing a snapshot: the old state or the new one, whenever the power fails.
//!
//! ```text
//!   keep the files (synced) ─► marker that names them (raftdb, synced) ─► clear the range ─► flush
//!     ─► ingest ─► check, applied position and `whole` note ─► flush ─► remove the marker
//!     ─► remove the files
//! ```
//!
//! Rule 4 of the crate is kept here. Before the marker is durable a crash leaves the old state, and
//! files that no marker names, which the next start removes. From then on the next start has all
//! that the install needs, and repeats it from the clearing until it has removed the marker
//! ([`crate::state::State::finish_installs`]); nothing is applied to the shard before. Reads see
//! the old state until the new one is whole.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use model::id::ShardId;
use model::mutant;
use model::shard::Scope;

use super::marker::{self, Marker};
use crate::engine::{Batch, Engine, SortedFile};
use crate::state::record::{self, Arena, FILE};
use crate::state::{Applied, ShardState, Shared, applied, erase};
use crate::{Error, HardState, Position, key};

/// Between two looks whether an install has ended.
const INSTALL_CHECK_EVERY: Duration = Duration::from_millis(50);
/// Looks until it counts as failed.
const LOOKS_MAX: u32 = 200;

impl ShardState {
    /// Puts what another replica exported in place of this shard's state; durable on completion.
    /// Of `applied` the position and the membership count, and the position must be that of the
    /// files. Nothing may be applied meanwhile.
    ///
    /// # Errors
    /// [`Error`]; when the files are not what they should be, the shard serves nothing new until
    /// an install succeeds, and after a restart it is refused.
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
            let (shared, shard) = (&state.shared, state.shard.id);
            state.hold(marker::clearing(shard, &state.shard.scope))?;
            Arc::clone(shared).flush().await?;
            if let Some(failed) = Marker::of(&shared.log, shard)? {
                settle(shared, shard, &failed).await?;
            }
            state.reload(None)
        })
    }

    async fn install_files(
        &self,
        applied: Applied,
        files: Vec<Box<dyn SortedFile>>,
    ) -> Result<(), Error> {
        let (shared, shard) = (&self.shared, self.shard.id);
        let names = shared.engine.keep(files).await?;
        let marker = Marker::new(&self.shard.scope, &applied, names);
        // From the marker on a crash leads to the snapshot: what is applied now would be lost.
        self.shard.core.lock().stopped = Some(installing());
        let failed = Marker::of(&shared.log, shard)?;
        marker.put(&shared.log, shard).await?;
        if let Some(failed) = failed {
            shared.engine.forget(&failed.files)?;
        }
        let files = marker.open_files(&*shared.engine, shard)?;
        self.hold(marker.clearing(shard))?;
        let had = self.applied().position.is_some();
        fill(shared, shard, &marker, (files, had)).await?;
        settle(shared, shard, &marker).await?;
        self.reload(applied.position)
    }

    /// Clears the shard on disk while reads go on with what was there, and stops applying.
    fn hold(&self, clearing: Batch) -> Result<(), Error> {
        let shard = &*self.shard;
        let mut core = shard.core.lock();
        let mut serving = shard.serving.write();
        if serving.old.is_none() {
            serving.old = Some(self.shared.engine.snapshot());
        }
        serving.heads.lock().clear();
        serving.progress.lock().installing = true;
        core.stopped = Some(installing());
        self.shared.engine.write(clearing)
    }
}

/// Removes all that a shard holds, whatever its records say.
pub(crate) async fn wipe(
    shared: &Arc<Shared>,
    shard: ShardId,
    slots: RangeInclusive<u16>,
) -> Result<(), Error> {
    let open = shared.shards.lock().get(&shard).cloned();
    if let Some(open) = &open {
        // A group that has stopped may still be ending the install of a snapshot.
        let mut looks = 0;
        while looks < LOOKS_MAX && open.serving.read().progress.lock().installing {
            looks += 1;
            tokio::time::sleep(INSTALL_CHECK_EVERY).await;
        }
    }
    let scope = match shard.is_meta() {
        true => Scope::Meta,
        false => Scope::Data(slots),
    };
    {
        let mut core = open.as_ref().map(|open| open.core.lock());
        if let Some(core) = &mut core {
            core.stopped = Some(wiped());
        }
        // No flush may take a position of it from here on.
        let _no_flush_between = shared.switch.write();
        shared.shards.lock().remove(&shard);
        shared.engine.write(marker::clearing(shard, &scope))?;
    }
    Arc::clone(shared).flush().await?;
    let failed = Marker::of(&shared.log, shard);
    // One that cannot be read names no files that anybody could find again.
    let files = failed.ok().flatten().map(|failed| failed.files);
    Marker::remove(&shared.log, shard).await?;
    shared.unfinished.lock().remove(&shard);
    shared.engine.forget(&files.unwrap_or_default())
}

fn wiped() -> Error {
    Error::Disk {
        operation: "apply",
        file: FILE.into(),
        reason: "this replica was wiped".into(),
    }
}

/// Brings to its end what a crash interrupted. The shard must not be open.
///
/// # Errors
/// [`Error::Corrupt`] when what is needed for it is not there; nothing is removed then.
pub(crate) async fn finish(
    shared: &Arc<Shared>,
    shard: ShardId,
    marker: &Marker,
) -> Result<(), Error> {
    let again = mutant!("snapshot-over-a-newer-log");
    if again {
        let log = shared.log.shard(shard)?;
        log.truncate_after(marker.position().map(|p| p.index))
            .await?;
        // What was committed is as if it had never been noted.
        log.save(HardState::Committed, Bytes::new()).await?;
    }
    if again || !marker.whole(&*shared.engine, shard)? {
        let files = marker.open_files(&*shared.engine, shard)?;
        shared.engine.write(marker.clearing(shard))?;
        fill(shared, shard, marker, (files, true)).await?;
    }
    settle(shared, shard, marker).await
}

/// From the clearing, which is written, to the whole new state, which is flushed.
async fn fill(
    shared: &Arc<Shared>,
    shard: ShardId,
    marker: &Marker,
    (files, had): (Vec<Box<dyn SortedFile>>, bool),
) -> Result<(), Error> {
    Arc::clone(shared).flush().await?;
    // One by one: taken together they would span the ranges of other shards, whose unflushed
    // writes they must not touch. The marker makes one of all.
    for file in files {
        shared.engine.ingest(vec![file]).await?;
    }
    let accepted = accept(&*shared.engine, shard, marker, had)?;
    shared.engine.write(accepted)?;
    Arc::clone(shared).flush().await
}

/// Checks what was ingested, and what makes it this replica's own. `had` when there was something before.
fn accept(engine: &dyn Engine, shard: ShardId, marker: &Marker, had: bool) -> Result<Batch, Error> {
    let found = applied::read(engine, shard)?;
    let applied_key = key::state::applied(shard);
    if found.position != marker.position() {
        return Err(record::corrupt(
            &applied_key,
            format!(
                "the files are of position {:?}, the snapshot of {:?}",
                found.position,
                marker.position()
            ),
        ));
    }
    let mut arena = Arena::default();
    let mut batch = Batch::new();
    let skipped = u64::from(mutant!("snapshot-index-off-by-one"));
    let applied = Applied {
        position: found.position.map(|p| Position {
            index: p.index + skipped,
            ..p
        }),
        membership: marker.membership.clone(),
        ..found
    };
    batch.put(
        arena.key(&applied_key),
        applied::seal(&mut arena, &applied_key, &applied),
    );
    if let Some(position) = found.position.filter(|_| had) {
        // The files of what was there before hold it still.
        erase::note_whole(&mut batch, &mut arena, shard, position.index);
    }
    let whole = key::state::whole(shard);
    batch.put(arena.key(&whole), arena.seal_message(&whole, marker));
    Ok(batch)
}

/// Removes the marker and then the files, in this order: without a file a marker is not finished.
async fn settle(shared: &Shared, shard: ShardId, marker: &Marker) -> Result<(), Error> {
    if mutant!("snapshot-over-a-newer-log") {
        return Ok(());
    }
    Marker::remove(&shared.log, shard).await?;
    shared.engine.forget(&marker.files)
}

pub(super) fn installing() -> Error {
    Error::Disk {
        operation: "apply",
        file: FILE.into(),
        reason: "a snapshot is being installed in this shard".into(),
    }
}
