//! openraft's state machine over one shard's state. A snapshot here is a read point; its bytes are
//! produced only when a replica asks for them, and the log is cut by what is flushed, not by it.

use std::io;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use store::engine::SortedFile;
use store::state::{Applied, ShardState, ToApply};

use crate::adapter::copy::{Held, Outgoing};
use crate::adapter::fault::Fault;
use crate::adapter::types::{self, LogId, Snapshot, SnapshotMeta, StoredMembership, Types};

/// Entries applied with one write to the state's database.
const APPLY_ENTRIES_MAX: usize = 64;
/// Bytes of commands applied with one write, beyond the first entry.
const APPLY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What a snapshot consists of, on either side.
pub(crate) enum SnapshotData {
    /// The sender's view of its state, exported as it is sent.
    Outgoing(Arc<Outgoing>),
    /// What the receiver got, not yet installed.
    Received {
        /// The position, revision and time of the sender's read point.
        applied: Applied,
        /// Its records.
        files: Vec<Box<dyn SortedFile>>,
    },
}

/// The state of one shard's replica.
#[derive(Clone)]
pub(crate) struct StateMachine {
    state: ShardState,
    fault: Fault,
    held: Arc<Held>,
}

impl StateMachine {
    pub(crate) fn new(state: ShardState, fault: Fault) -> StateMachine {
        let held = Arc::default();
        StateMachine { state, fault, held }
    }

    /// The snapshot that is being sent.
    pub(crate) fn held(&self) -> Arc<Held> {
        self.held.clone()
    }

    /// Applies a run of entries with one write, and answers those who wait for them.
    async fn apply_run(&self, run: &mut Run) -> io::Result<()> {
        run.bytes = 0;
        let Some(last) = run.entries.last().map(|entry| entry.position) else {
            return Ok(());
        };
        // A flush that waits for the log must not wait for ever.
        self.fault.note(self.state.ready(last).await)?;
        let entries = std::mem::take(&mut run.entries);
        let replies = self.fault.note(self.state.apply(entries))?;
        for (responder, replies) in run.responders.drain(..).zip(replies) {
            if let Some(responder) = responder {
                responder.send(replies);
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Run {
    entries: Vec<ToApply>,
    responders: Vec<Option<openraft::storage::ApplyResponder<Types>>>,
    bytes: usize,
}

/// The metadata that openraft wants of an applied position.
pub(crate) fn meta(applied: &Applied) -> Result<SnapshotMeta, types::Malformed> {
    Ok(SnapshotMeta {
        last_log_id: applied.position.map(types::log_id),
        last_membership: types::decode_membership(&applied.membership)?,
    })
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let meta = meta(&self.state.applied())?;
        Ok((meta.last_log_id, meta.last_membership))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut run = Run::default();
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let position = types::position(&entry.log_id);
            let (membership, payload) = match entry.payload {
                EntryPayload::Blank => (None, None),
                EntryPayload::Normal(payload) => (None, Some(payload.entry())),
                EntryPayload::Membership(membership) => {
                    let stored = StoredMembership::new(Some(entry.log_id), membership);
                    (Some(types::encode_membership(&stored)), None)
                }
            };
            run.bytes += payload.as_ref().map_or(0, bytes::Bytes::len);
            run.entries.push(ToApply {
                position,
                membership,
                payload,
            });
            run.responders.push(responder);
            if run.entries.len() >= APPLY_ENTRIES_MAX || run.bytes >= APPLY_BYTES_MAX {
                self.apply_run(&mut run).await?;
                tokio::task::yield_now().await;
            }
        }
        self.apply_run(&mut run).await
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        match snapshot {
            SnapshotData::Received { applied, files } => {
                let position = meta.last_log_id.as_ref().map(types::position);
                assert_eq!(
                    applied.position, position,
                    "a snapshot is installed as what it is"
                );
                Ok(self.fault.note(self.state.install(applied, files).await)?)
            }
            SnapshotData::Outgoing(outgoing) => {
                let (applied, files) = self.fault.note(outgoing.whole().await)?;
                Ok(self.fault.note(self.state.install(applied, files).await)?)
            }
        }
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        if let Some((meta, outgoing)) = self.held.get() {
            let snapshot = SnapshotData::Outgoing(outgoing);
            return Ok(Some(Snapshot { meta, snapshot }));
        }
        let snapshot = self.build_snapshot().await?;
        Ok(snapshot.meta.last_log_id.is_some().then_some(snapshot))
    }
}

impl RaftSnapshotBuilder<Types> for StateMachine {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let read_point = self.fault.note(self.state.read_point())?;
        let meta = meta(&read_point.applied)?;
        let outgoing = Outgoing::new(read_point, meta.clone(), &self.held);
        Ok(Snapshot {
            meta,
            snapshot: SnapshotData::Outgoing(Arc::new(outgoing)),
        })
    }
}
