//! The changes of one apply before they are written: what the machine reads through and adds to.
//!
//! ```text
//!   Machine ──► Overlay: heads, ids of this apply ──► heads in memory ──► msgdb
//!                  └──► Batch: messages and ids at once, heads at the end
//! ```
//!
//! A head is written when it is new and at every [`HEAD_EVERY`]th message. In between it is what
//! was written and what its last messages add, which [`head_of`] reads; so each batch still leaves
//! a whole state, and a message costs two writes rather than three.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use model::cluster::ClusterState;
use model::hash;
use model::id::{ConversationKey, ShardId};
use model::mutant;
use model::shard::{DedupId, ReactionId, Sink, View};
use model::state::{Changed, Conversation, Dedup, Expiring, Reaction, Reactions, Stored};

use super::heads::{Heads, Map};
use super::ids::Ids;
use super::record::{self, Arena, Record};
use super::written::Written;
use crate::engine::{Batch, Order, Read};
use crate::{Error, key};

/// How often a head is written, messages: at most one less is read to know a head that is not in
/// memory.
const HEAD_EVERY: u64 = 16;

/// What an apply reads and changes.
pub(crate) struct Overlay<'s> {
    engine: &'s dyn Read,
    cached: &'s parking_lot::Mutex<Heads>,
    ids: &'s mut Ids,
    arena: &'s mut Arena,
    seen: &'s mut ApplyChanges,
    batch: Batch,
    cluster: Option<ClusterState>,
    messages: u64,
    /// The conversations of which something is to leave no trace.
    erased: Vec<ConversationKey>,
    /// Something was noted that may expire.
    expires: bool,
    shard: ShardId,
    /// For changes of messages, of which most entries have none.
    written: Written,
}

/// Messages of an apply for which there is room in the next.
const SEEN_KEPT: usize = 16;

/// What the commands of an apply have changed, for those behind them. Kept from apply to apply for
/// its capacity alone.
#[derive(Default)]
pub(crate) struct ApplyChanges {
    heads: Map<ConversationKey, Arc<Conversation>>,
    changed: Vec<ConversationKey>,
    /// The conversations whose heads are to be written.
    due: Map<ConversationKey, ()>,
    dedups: Map<(ConversationKey, DedupId), Dedup>,
}

impl ApplyChanges {
    fn clear(&mut self) {
        self.heads.clear();
        self.changed.clear();
        self.due.clear();
        self.dedups.clear();
        // Each of thousands of shards has one.
        self.heads.shrink_to(SEEN_KEPT);
        self.changed.shrink_to(SEEN_KEPT);
        self.due.shrink_to(SEEN_KEPT);
        self.dedups.shrink_to(SEEN_KEPT);
    }
}

/// What an apply comes to.
pub(crate) struct Changes {
    pub(crate) batch: Batch,
    /// Each changed conversation once.
    pub(crate) heads: Vec<(ConversationKey, Arc<Conversation>)>,
    pub(crate) cluster: Option<ClusterState>,
    pub(crate) messages: u64,
    /// The conversations of which something is to leave no trace.
    pub(crate) erased: Vec<ConversationKey>,
    /// Something was noted that may expire.
    pub(crate) expires: bool,
}

impl<'s> Overlay<'s> {
    /// Nothing of the shard changed yet. `cluster` on the meta shard only.
    pub(crate) fn new(
        shard: ShardId,
        engine: &'s dyn Read,
        cached: &'s parking_lot::Mutex<Heads>,
        ids: &'s mut Ids,
        arena: &'s mut Arena,
        seen: &'s mut ApplyChanges,
        cluster: Option<ClusterState>,
    ) -> Overlay<'s> {
        seen.clear(); // an apply that failed leaves what it had seen
        Overlay {
            engine,
            cached,
            ids,
            arena,
            seen,
            batch: Batch::new(),
            cluster,
            messages: 0,
            erased: Vec::new(),
            expires: false,
            shard,
            written: Written::default(),
        }
    }

    /// A record, as the commands before leave it.
    fn read(&mut self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        match self.written.look(&self.batch, key) {
            Some(found) => Ok(found),
            None => self.engine.get(key),
        }
    }

    fn decoded<R: Record>(&mut self, key: &[u8]) -> Result<Option<R>, Error> {
        let value = self.read(key)?;
        value.map(|value| record::decode(key, value)).transpose()
    }

    fn put<R: Record>(&mut self, key: &[u8], record: Option<&R>) {
        let key_bytes = self.arena.key(key);
        match record {
            Some(record) => self
                .batch
                .put(key_bytes, self.arena.seal_message(key, record)),
            None => self.batch.delete(key_bytes),
        }
    }

    /// Ends it: the heads that are due go into the batch, each once.
    pub(crate) fn finish(mut self) -> Changes {
        let mut heads = Vec::with_capacity(self.seen.changed.len());
        for conversation in self.seen.changed.drain(..) {
            let Some(head) = self.seen.heads.remove(&conversation) else {
                continue; // noted before: it changed more than once
            };
            if self.seen.due.contains_key(&conversation) {
                let key = key::state::head(&conversation);
                let value = self.arena.seal_message(&key, &*head);
                self.batch.put(self.arena.key(&key), value);
            }
            heads.push((conversation, head));
        }
        Changes {
            batch: self.batch,
            heads,
            cluster: self.cluster,
            messages: self.messages,
            erased: self.erased,
            expires: self.expires,
        }
    }
}

impl View for Overlay<'_> {
    type Error = Error;

    fn conversation(&mut self, key: &ConversationKey) -> Result<Option<Conversation>, Error> {
        if let Some(head) = self.seen.heads.get(key) {
            return Ok(Some(Conversation::clone(head)));
        }
        let cached = self.cached.lock().get(key);
        let head = match cached {
            Some(head) => head,
            None => match head_of(self.engine, key)? {
                Some(head) => {
                    let head = Arc::new(head);
                    self.cached.lock().insert(*key, Arc::clone(&head));
                    head
                }
                None => return Ok(None),
            },
        };
        Ok(Some(Conversation::clone(&head)))
    }

    fn dedup(&mut self, key: &ConversationKey, id: &DedupId) -> Result<Option<Dedup>, Error> {
        if let Some(dedup) = self.seen.dedups.get(&(*key, *id))
            && !mutant!("dedup-outside-the-apply-batch")
        {
            return Ok(Some(dedup.clone()));
        }
        if self.ids.surely_new(key, id) {
            return Ok(None);
        }
        let key = key::state::dedup(key, id);
        let value = self.engine.get(&key)?;
        value.map(|value| record::decode(&key, value)).transpose()
    }

    fn message(&mut self, key: &ConversationKey, seq: u64) -> Result<Option<Bytes>, Error> {
        let key = key::state::message(key, seq);
        let value = self.read(&key)?;
        value.map(|value| record::open(&key, value)).transpose()
    }

    fn reactions(&mut self, key: &ConversationKey, seq: u64) -> Result<Option<Reactions>, Error> {
        self.decoded(&key::state::counts(key, seq))
    }

    fn reaction(
        &mut self,
        key: &ConversationKey,
        seq: u64,
        id: &ReactionId,
    ) -> Result<Option<Reaction>, Error> {
        self.decoded(&key::state::reaction(key, seq, id))
    }

    fn cluster(&mut self) -> Option<&mut ClusterState> {
        self.cluster.as_mut()
    }
}

impl Sink for Overlay<'_> {
    fn put_message(&mut self, conversation: &ConversationKey, seq: u64, record: &[u8]) {
        let key = key::state::message(conversation, seq);
        let value = self.arena.seal(&key, record);
        self.batch.put(self.arena.key(&key), value);
        self.messages += 1;
        if seq.is_multiple_of(HEAD_EVERY) {
            self.seen.due.insert(*conversation, ());
        }
    }

    fn put_dedup(
        &mut self,
        conversation: &ConversationKey,
        id: &DedupId,
        dedup: Dedup,
        first: bool,
    ) {
        let key = key::state::dedup(conversation, id);
        let value = self.arena.seal_message(&key, &dedup);
        self.batch.put(self.arena.key(&key), value);
        self.ids.add(conversation, id, first);
        self.seen.dedups.insert((*conversation, *id), dedup);
    }

    fn replace_message(&mut self, conversation: &ConversationKey, seq: u64, record: &[u8]) {
        let key = key::state::message(conversation, seq);
        let value = self.arena.seal(&key, record);
        self.batch.put(self.arena.key(&key), value);
    }

    /// The head is written with each change: what is added to it when it is read back are messages
    /// behind it only.
    fn put_changed(&mut self, conversation: &ConversationKey, revision: u64, seq: Option<u64>) {
        let changed = seq.map(|seq| Changed { format: 1, seq });
        self.put(
            &key::state::change(conversation, revision),
            changed.as_ref(),
        );
        self.seen.due.insert(*conversation, ());
    }

    fn put_reactions(&mut self, conversation: &ConversationKey, reactions: Reactions) {
        let key = key::state::counts(conversation, reactions.seq);
        self.put(&key, Some(&reactions));
    }

    fn put_reaction(
        &mut self,
        conversation: &ConversationKey,
        seq: u64,
        id: &ReactionId,
        reaction: Option<Reaction>,
    ) {
        let key = key::state::reaction(conversation, seq, id);
        self.put(&key, reaction.as_ref());
    }

    fn clear_reactions(&mut self, conversation: &ConversationKey, seq: u64) {
        self.put::<Reactions>(&key::state::counts(conversation, seq), None);
        let (from, to) = key::state::reactions(conversation, seq);
        self.batch.delete_range(from, to);
    }

    fn put_request(&mut self, conversation: &ConversationKey, id: &DedupId, dedup: Dedup) {
        self.put(&key::state::dedup(conversation, id), Some(&dedup));
        // Never as a first message: that would say that all ids of the conversation are known.
        self.ids.add(conversation, id, false);
        self.seen.dedups.insert((*conversation, *id), dedup);
    }

    fn erase(&mut self, conversation: &ConversationKey) {
        if !self.erased.contains(conversation) {
            self.erased.push(*conversation);
        }
    }

    fn put_expiry(&mut self, conversation: &ConversationKey, at_ms: u64, seq: u64, set: bool) {
        let note = set.then_some(Expiring { format: 1 });
        let key = key::state::expiry(conversation, at_ms, seq);
        self.put(&key, note.as_ref());
    }

    fn put_expiring(&mut self, conversation: &ConversationKey, set: bool) {
        let note = set.then_some(Expiring { format: 1 });
        self.put(
            &key::state::expiring(self.shard, conversation),
            note.as_ref(),
        );
        self.expires |= set;
    }

    fn remove_messages(&mut self, conversation: &ConversationKey, from: u64, to: u64) {
        let (from, to) = key::state::messages(conversation, from, to);
        self.batch.delete_range(from.to_vec(), to);
    }

    fn clear_conversation(&mut self, conversation: &ConversationKey) {
        for (from, to) in key::state::contents(conversation) {
            self.batch.delete_range(from, to);
        }
    }

    fn renew_conversation(&mut self, key: &ConversationKey, head: Conversation) {
        self.seen.due.insert(*key, ());
        self.put_conversation(key, head, false);
    }

    fn put_conversation(&mut self, key: &ConversationKey, head: Conversation, created: bool) {
        if created {
            self.ids.created(key);
            self.seen.due.insert(*key, ());
        }
        self.seen.changed.push(*key);
        self.seen.heads.insert(*key, Arc::new(head));
    }

    fn put_audit(&mut self, number: u64, record: &[u8]) {
        let key = key::state::audit(self.shard, number);
        let value = self.arena.seal(&key, record);
        self.batch.put(self.arena.key(&key), value);
    }

    fn remove_audit(&mut self, from: u64, to: u64) {
        let (from, to) = key::state::audits(self.shard, from, to);
        self.batch.delete_range(from, to);
    }
}

/// The head of a conversation, from disk: as written last, and what the messages behind it add.
pub(crate) fn head_of(
    engine: &dyn Read,
    conversation: &ConversationKey,
) -> Result<Option<Conversation>, Error> {
    let key = key::state::head(conversation);
    let Some(value) = engine.get(&key)? else {
        return Ok(None);
    };
    let mut head: Conversation = record::decode(&key, value)?;
    if mutant!("head-not-rebuilt-after-restart") {
        return Ok(Some(head));
    }
    let (from, to) = key::state::messages(conversation, head.last_seq + 1, u64::MAX);
    engine.scan(&from, &to, Order::Ascending, &mut |key, value| {
        add(&mut head, conversation, key, value)?;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(Some(head))
}

/// Adds what the next message changes in a head.
pub(crate) fn add(
    head: &mut Conversation,
    conversation: &ConversationKey,
    key: &[u8],
    value: &[u8],
) -> Result<(), Error> {
    let expected = key::state::message(conversation, head.last_seq + 1);
    if key != expected {
        return Err(record::corrupt(&expected, "it is missing".into()));
    }
    let encoded = record::check(key, value)?;
    let stored: Stored = record::decode(key, Bytes::copy_from_slice(value))?;
    let sum = <[u8; 16]>::try_from(head.content_hash.as_ref()).map_or(0, u128::from_le_bytes);
    let sum = sum.wrapping_add(hash::record_hash(encoded));
    head.content_hash = Bytes::copy_from_slice(&sum.to_le_bytes());
    head.last_seq += 1;
    head.last_time_ms = stored.create_time_ms;
    head.revision = stored.revision;
    Ok(())
}
