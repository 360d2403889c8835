//! openraft's log storage over one shard's log. Keeps rule 3 of the store: the log is cut only up
//! to a flushed position.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::Stream;
use model::id::{NodeId, ShardId};
use model::mutant;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use prost::Message;
use proto::node as wire;
use store::{HardState, ShardLog};
use tokio::time::Instant;

use crate::adapter::fault::Fault;
use crate::adapter::types::{self, Entry, LogId, Traces, Types, Vote};
use crate::api::{Events, Piece, Span};

/// Bytes of entries that one read returns at most, beyond the first entry.
const READ_BYTES_MAX: usize = 1024 * 1024;
/// The same for a replica: what is read waits in memory for its turn on the line, for each shard.
const SEND_BYTES_MAX: usize = 256 * 1024;

/// Up to which index the log may be cut: what is flushed of the state.
pub(crate) type Cuttable = Arc<dyn Fn() -> Option<u64> + Send + Sync>;

/// The log of one shard's replica.
#[derive(Clone)]
pub(crate) struct LogStore {
    log: ShardLog,
    cuttable: Cuttable,
    fault: Fault,
    vote: Arc<Mutex<Option<Vote>>>,
    traced: Arc<Traced>,
}

/// Entries of this log whose commands are traced, the latest of them: they are read from the log to be sent,
/// which knows nothing of traces.
pub(crate) struct Traced {
    node: NodeId,
    shard: ShardId,
    events: Arc<dyn Events>,
    /// Whether there are any, so that the others cost one look.
    any: AtomicBool,
    entries: Mutex<VecDeque<(u64, Traces)>>,
}

/// Entries that are remembered: more than are on their way.
const TRACED_MAX: usize = 256;

impl Traced {
    /// Of this node's replica of a shard; `events` hears of syncs.
    pub(crate) fn new(node: NodeId, shard: ShardId, events: Arc<dyn Events>) -> Traced {
        Traced {
            node,
            shard,
            events,
            any: AtomicBool::new(false),
            entries: Mutex::default(),
        }
    }

    /// Notes an entry that is to be written, where it is traced, and its calls in `all`.
    fn note(&self, entry: &Entry, all: &mut Traces) {
        let traces = types::traces_of(entry);
        if traces.is_empty() {
            return;
        }
        all.extend_from_slice(traces);
        let mut kept = self.entries.lock();
        kept.push_back((entry.log_id.index(), traces.to_vec()));
        if kept.len() > TRACED_MAX {
            kept.pop_front();
        }
        self.any.store(true, Ordering::Relaxed);
    }

    /// Puts traces back to entries that were read.
    fn mark(&self, entries: &mut [Entry]) {
        if !self.any.load(Ordering::Relaxed) {
            return;
        }
        let kept = self.entries.lock();
        for entry in entries {
            let index = entry.log_id.index();
            if let Some((_, traces)) = kept.iter().find(|(at, _)| *at == index) {
                types::set_traces(entry, traces.clone());
            }
        }
    }

    /// Entries with these calls were synced.
    fn synced(&self, traces: Traces, began: Instant) {
        for trace in traces {
            let span = Span::within(trace, self.node, Piece::Sync, (began, self.shard));
            self.events.span(span);
        }
    }
}

impl LogStore {
    /// Reads the vote, which stays in memory from then on.
    pub(crate) fn open(
        log: ShardLog,
        cuttable: Cuttable,
        fault: Fault,
        traced: Traced,
    ) -> io::Result<LogStore> {
        if mutant!("committed-log-truncated")
            && let Some(bytes) = fault.note(log.load(HardState::Committed))?
        {
            drop(log.truncate_after(Some(decode::<wire::LogId>(bytes)?.index)));
        }
        let vote = match fault.note(log.load(HardState::Vote))? {
            Some(bytes) => Some(types::vote_from_wire(&decode::<wire::VoteId>(bytes)?)),
            None => None,
        };
        Ok(LogStore {
            log,
            cuttable,
            fault,
            vote: Arc::new(Mutex::new(vote)),
            traced: Arc::new(traced),
        })
    }

    /// The last vote that was saved, at any time: no answer that rests on a vote, and no entry of
    /// its leader, leaves or enters this replica before it is here.
    pub(crate) fn vote(&self) -> Arc<Mutex<Option<Vote>>> {
        self.vote.clone()
    }

    /// The term of that vote; 0 before the first.
    pub(crate) fn known_term(&self) -> u64 {
        self.vote.lock().map_or(0, |vote| vote.leader_id().term)
    }

    fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let records = self.fault.note(self.log.read(from, to, bytes_max))?;
        let entries = records.into_iter().map(types::decode_entry);
        let mut entries: Vec<Entry> = entries.collect::<Result<_, _>>()?;
        self.traced.mark(&mut entries);
        Ok(entries)
    }

    /// The index of the last entry; 0 when there is none.
    pub(crate) fn last_index(&self) -> u64 {
        self.log.last().map_or(0, |last| last.index)
    }

    /// Whether this is where the log was cut, or an entry of it.
    pub(crate) fn holds(&self, id: &LogId) -> bool {
        let found = self.log.position_at(id.index());
        found.is_ok_and(|found| found.map(types::log_id) == Some(*id))
    }

    fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(to) => *to,
            Bound::Unbounded => u64::MAX,
        };
        (from, to)
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = Self::bounds(&range);
        self.read(from, to, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, SEND_BYTES_MAX)
    }

    // In pieces, so that applying a long log again at start-up holds little of it in memory.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = Self::bounds(&range);
        let pieces =
            futures::stream::unfold((self.clone(), from), move |(store, from)| async move {
                if from >= to {
                    return None;
                }
                match store.read(from, to, READ_BYTES_MAX) {
                    Ok(entries) => {
                        let next = entries.last()?.log_id.index() + 1;
                        let items: Vec<io::Result<Entry>> = entries.into_iter().map(Ok).collect();
                        Some((items, (store, next)))
                    }
                    Err(error) => Some((vec![Err(error)], (store, to))),
                }
            });
        Box::pin(futures::StreamExt::flat_map(pieces, futures::stream::iter))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(*self.vote.lock())
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        Ok(LogState {
            last_purged_log_id: self.log.purged().map(types::log_id),
            last_log_id: self.log.last().map(types::log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        if !mutant!("hard-state-and-log-in-the-wrong-order") {
            let bytes = types::vote_to_wire(vote).encode_to_vec();
            self.fault
                .note(self.log.save(HardState::Vote, bytes.into()).await)?;
        }
        *self.vote.lock() = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let bytes = committed
            .as_ref()
            .map(types::log_id_to_wire)
            .unwrap_or_default()
            .encode_to_vec();
        self.fault
            .note(self.log.save(HardState::Committed, bytes.into()).await)?;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        let Some(bytes) = self.fault.note(self.log.load(HardState::Committed))? else {
            return Ok(None);
        };
        let id = decode::<wire::LogId>(bytes)?;
        // Term 0 has no leader, so all zeros says that nothing was committed.
        if id == wire::LogId::default() {
            return Ok(None);
        }
        // It is written without a sync of its own, together with later appends: after a power cut
        // it never names an entry that is not in the log, but a snapshot may have passed it.
        Ok(Some(types::log_id_from_wire(&id)))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let (traced, began) = (self.traced.clone(), Instant::now());
        let mut traces = Traces::new();
        let encode = |entry: Entry| {
            traced.note(&entry, &mut traces);
            types::encode_entry(&entry)
        };
        let records = entries.into_iter().map(encode).collect();
        let fault = self.fault.clone();
        let late = mutant!("hard-state-and-log-in-the-wrong-order")
            .then(|| (self.log.clone(), *self.vote.lock()));
        self.log.append(
            records,
            Box::new(move |result| {
                traced.synced(traces, began);
                if let Some((log, Some(vote))) = late {
                    let bytes = types::vote_to_wire(&vote).encode_to_vec();
                    drop(log.save(HardState::Vote, bytes.into()));
                }
                callback.io_completed(fault.note(result).map_err(Into::into));
            }),
        );
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let done = self.log.truncate_after(last.map(|id| id.index())).await;
        Ok(self.fault.note(done)?)
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let flushed = (self.cuttable)();
        assert!(
            flushed >= Some(upto.index()),
            "the log must not be cut at {upto}, state is flushed only up to {flushed:?}"
        );
        Ok(self
            .fault
            .note(self.log.purge(types::position(&upto)).await)?)
    }
}

fn decode<M: Message + Default>(bytes: Bytes) -> io::Result<M> {
    M::decode(bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

#[cfg(test)]
mod tests {
    use openraft::StorageError;
    use openraft::testing::log::{StoreBuilder, Suite};
    use store::Log;
    use store::engine::memory::Memory;
    use store::state::State;

    use super::*;
    use crate::adapter::state_machine::StateMachine;

    struct Builder;

    impl StoreBuilder<Types, LogStore, StateMachine, ()> for Builder {
        async fn build(&self) -> Result<((), LogStore, StateMachine), StorageError<Types>> {
            let (log, writer) = Log::open(Arc::new(Memory::new())).unwrap();
            tokio::spawn(writer);
            let state = State::open(Arc::new(Memory::new()), log.clone()).unwrap();
            let shard = model::id::ShardId(1);
            let fault = Fault::new();
            let state = state.shard(shard, 0..=u16::MAX).unwrap();
            // The suite cuts logs of which it applied nothing.
            let cuttable: Cuttable = Arc::new(|| Some(u64::MAX));
            let traced = Traced::new(NodeId(1), shard, Arc::new(crate::api::Nobody));
            let log = log.shard(shard).unwrap();
            let log = LogStore::open(log, cuttable, fault.clone(), traced).unwrap();
            Ok(((), log, StateMachine::new(state, fault)))
        }
    }

    #[tokio::test]
    async fn openrafts_own_storage_suite_passes() {
        Suite::test_all(Builder).await.unwrap();
    }
}
