//! What was erased leaves the disk.
//!
//! An erased message is gone from every read at once. Its bytes are still in files: in records of `msgdb`
//! that newer ones cover, in entries of the log, in what a snapshot took the place of. So each erasure is
//! noted with the replica, in the batch that applies it, and the note stays until all of that is gone:
//!
//! ```text
//!   flush ─► cut the log behind the entry ─► rewrite the log's files, then the conversation's ─► remove the note
//! ```
//!
//! Whoever calls makes the cut ([`crate::ShardLog::purge`] through Raft). While files of `msgdb` are
//! rewritten RocksDB may flush it, so that nothing is applied meanwhile that the log has not synced.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::future::BoxFuture;
use model::id::{ConversationKey, ShardId};
use model::shard::Scope;
use prost::Message;

use super::record::{self, Arena, Record};
use super::{ShardState, State, Waits};
use crate::engine::{Batch, Order, Read};
use crate::{Error, key};

/// What is noted of an erasure. A disk format: tags are permanent.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct ErasureRecord {
    /// Format of the record, 1.
    #[prost(uint32, tag = "1")]
    format: u32,
    /// It is about the whole shard: a snapshot was installed.
    #[prost(bool, tag = "2")]
    whole: bool,
}

impl Record for ErasureRecord {
    fn format(&self) -> u32 {
        self.format
    }
}

/// Something that is gone from reads and not yet from the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// The entry of the log that erased it; all up to it must leave the log.
    pub index: u64,
    /// Whose it was; none when it may be anywhere in the shard.
    pub conversation: Option<ConversationKey>,
}

const NOWHERE: ConversationKey = ConversationKey([0; 16]);

/// Notes erasures that an entry of the log makes.
pub(crate) fn note(
    batch: &mut Batch,
    arena: &mut Arena,
    shard: ShardId,
    index: u64,
    erased: &[ConversationKey],
) {
    for conversation in erased {
        put(
            batch,
            arena,
            &key::state::erasure(shard, index, conversation),
            false,
        );
    }
}

/// Notes that anything of the shard may be left of what was there before a snapshot.
pub(crate) fn note_whole(batch: &mut Batch, arena: &mut Arena, shard: ShardId, index: u64) {
    put(
        batch,
        arena,
        &key::state::erasure(shard, index, &NOWHERE),
        true,
    );
}

fn put(batch: &mut Batch, arena: &mut Arena, key: &[u8], whole: bool) {
    let record = ErasureRecord { format: 1, whole };
    let value = arena.seal_message(key, &record);
    batch.put(arena.key(key), value);
}

impl ShardState {
    /// Whether [`ShardState::erasures`] may find any; costs no look at the disk.
    pub fn may_have_erasures(&self) -> bool {
        self.shard.erases.load(Ordering::SeqCst)
    }

    /// What is erased and may still be found on the disk, at most `limit` of it, the oldest first.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a note cannot be read back.
    pub fn erasures(&self, limit: usize) -> Result<Vec<Erasure>, Error> {
        let (from, to) = key::state::erasures(self.shard.id);
        let mut found = Vec::new();
        // One that is noted meanwhile sets it again.
        self.shard.erases.store(false, Ordering::SeqCst);
        let read: &dyn Read = &*self.shared.engine;
        let scanned = read.scan(&from, &to, Order::Ascending, &mut |key, value| {
            let strange = || record::corrupt(key, "it is no note of an erasure".into());
            let (index, conversation) = key::state::parse_erasure(key).ok_or_else(strange)?;
            let noted: ErasureRecord = record::decode(key, Bytes::copy_from_slice(value))?;
            found.push(Erasure {
                index,
                conversation: (!noted.whole).then_some(conversation),
            });
            Ok(match found.len() < limit {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            })
        });
        if scanned.is_err() || !found.is_empty() {
            self.shard.erases.store(true, Ordering::SeqCst);
        }
        self.noted(scanned)?;
        Ok(found)
    }

    /// Rewrites all files that may hold what these erasures left, and forgets the erasures. The log must
    /// be cut behind all of them, and what they erased must be flushed; durable on completion.
    ///
    /// # Errors
    /// [`Error`] when a disk refuses; the erasures stay noted.
    pub fn scour(&self, erasures: Vec<Erasure>) -> BoxFuture<'static, Result<(), Error>> {
        let state = self.clone();
        Box::pin(async move { state.rewrite(&erasures).await })
    }

    async fn rewrite(&self, erasures: &[Erasure]) -> Result<(), Error> {
        let (shared, shard) = (&self.shared, self.shard.id);
        let Some(last) = erasures.iter().map(|one| one.index).max() else {
            return Ok(());
        };
        shared.log.scour(shard, last).await?;
        {
            let _only_what_is_synced = Waits::new(&shared.flush_waits);
            // What was applied before this is synced and flushed by it.
            Arc::clone(shared).flush().await?;
            shared.engine.scour(self.ranges(erasures)).await?;
        }
        let mut batch = Batch::new();
        for one in erasures {
            let conversation = one.conversation.unwrap_or(NOWHERE);
            batch.delete(key::state::erasure(shard, one.index, &conversation));
        }
        let bytes = batch.bytes() as u64;
        let _no_flush_between = shared.switch.read();
        shared.engine.write(batch)?;
        shared.unflushed_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn ranges(&self, erasures: &[Erasure]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut conversations = Vec::new();
        for one in erasures {
            match (one.conversation, &self.shard.scope) {
                (Some(conversation), _) => conversations.push(conversation),
                (None, Scope::Data(slots)) => return vec![key::state::conversations(slots)],
                (None, Scope::Meta) => {}
            }
        }
        conversations.sort_unstable();
        conversations.dedup();
        conversations.iter().map(key::state::conversation).collect()
    }
}

impl State {
    /// Erasures whose traces are still on the disk, over the shards that are open.
    ///
    /// # Errors
    /// As [`ShardState::erasures`].
    pub fn erasures(&self) -> Result<usize, Error> {
        let shards: Vec<_> = self.shared.shards.lock().values().cloned().collect();
        let mut count = 0;
        for shard in shards {
            let state = ShardState {
                shard,
                shared: Arc::clone(&self.shared),
            };
            count += state.erasures(usize::MAX)?.len();
        }
        Ok(count)
    }
}
