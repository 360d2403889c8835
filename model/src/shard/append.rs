//! Appending messages: dense numbers, and one effect for each id.

use bytes::Bytes;
use prost::Message;

use super::{DedupId, Machine, Sink, View, collision, invalid};
use crate::command::{
    Answer, Append, AppendWith, Appended, NewMessage, Outcome, Reason, Refusal, Reply,
};
use crate::hash;
use crate::id::ConversationKey;
use crate::limits::{DEDUP_WINDOW_MS, IMPORT_ID_PREFIX, KEYS_MAX};
use crate::mutant;
use crate::state::{Conversation, Dedup, KeySeq, Stored};

/// A conversation while a command appends to it.
struct Open {
    key: ConversationKey,
    head: Conversation,
    /// Whether there was a head before the command. Without one nothing can be remembered.
    existed: bool,
    /// Whether that was one of a former life.
    renewed: bool,
    content: u128,
    appended: u64,
    refuse_replies_ahead: bool,
    /// Why messages that are new are refused, whatever they say.
    refused: Option<Refusal>,
    /// The messages count as the last of this key.
    counts_for: Bytes,
    /// Its head must be written, since it says what no message does.
    due: bool,
}

/// When a command is decided.
#[derive(Clone, Copy)]
pub(super) struct Now {
    time_ms: u64,
    passed_ms: u64,
}

impl Now {
    /// Whether an id is too old to be remembered (promise E). By the time that has passed since,
    /// which no clock that jumps can hasten; by command time only where that was never counted. An id
    /// from before it was counts as of when counting began.
    pub(super) fn expires(self, dedup: &Dedup) -> bool {
        let (now_ms, then_ms) = match self.passed_ms {
            0 => (self.time_ms, dedup.time_ms),
            passed_ms => (passed_ms, dedup.passed_ms),
        };
        now_ms > then_ms.saturating_add(DEDUP_WINDOW_MS)
    }
}

impl Machine {
    pub(super) fn now(&self) -> Now {
        Now {
            time_ms: self.time_ms,
            passed_ms: self.passed_ms,
        }
    }

    /// Appends messages to one conversation, creating it when it does not exist.
    pub(super) fn append<S>(
        &mut self,
        state: &mut S,
        append: Append,
    ) -> Result<Reply, <S as View>::Error>
    where
        S: View + Sink,
    {
        let append = Some(append);
        let with = AppendWith {
            append,
            ..AppendWith::default()
        };
        self.append_with(state, with)
    }

    /// The same, with what the first versions did not know.
    pub(super) fn append_with<S>(
        &mut self,
        state: &mut S,
        with: AppendWith,
    ) -> Result<Reply, <S as View>::Error>
    where
        S: View + Sink,
    {
        let append = with.append.unwrap_or_default();
        let key = match self.locate(&append.conversation) {
            Ok(key) => key,
            Err(refused) => return Ok(refused),
        };
        if append.messages.is_empty() {
            return Ok(invalid("an append without messages"));
        }
        let lacks_id = |m: &NewMessage| m.sender.is_empty() || m.client_message_id.is_empty();
        if append.messages.iter().any(lacks_id) {
            return Ok(invalid("a message without sender or client_message_id"));
        }
        let head = state.conversation(&key)?;
        if let Some(held) = head.as_ref().filter(|h| h.name != append.conversation) {
            return Ok(collision(&append.conversation, &held.name));
        }
        let mut open = Open::new(key, head, append.conversation, self.time_ms);
        open.refuse_replies_ahead = append.refuse_replies_ahead;
        open.refused = fenced(&open.head, &with.fence_token)
            .or_else(|| mismatch_unless(append.expected_last_seq, open.head.last_seq))
            .or_else(|| key_mismatch(&open.head, &with.key, with.expected_last_seq_of_key));
        open.counts_for = with.key;
        if append.atomic {
            self.append_batch(state, open, append.messages)
        } else {
            self.append_each(state, open, append.messages)
        }
    }

    /// Each message stands for itself. What is asked of the conversation is asked of it before the
    /// command, so the messages of one command do not refuse each other.
    fn append_each<S>(
        &mut self,
        state: &mut S,
        mut open: Open,
        messages: Vec<NewMessage>,
    ) -> Result<Reply, <S as View>::Error>
    where
        S: View + Sink,
    {
        let mut outcomes = Vec::with_capacity(messages.len());
        for message in messages {
            let id = hash::dedup_id(&message.sender, &message.client_message_id);
            let known = open.known(state, &id, &message, self.now())?;
            if mutant!("seq-allocated-before-commit") && known.is_some() && open.existed {
                open.head.last_seq += 1;
                open.appended += 1;
            }
            let outcome = match known {
                Some(dedup) if is_of(&dedup, &message) => repeat(&dedup),
                Some(_) => refuse(reused(&message)),
                None if open.refused.is_some() => refuse(open.refused.clone().unwrap_or_default()),
                None if open.is_ahead(&message, open.head.last_seq) => {
                    refuse(ahead(&message, open.head.last_seq))
                }
                None => self.put(state, &mut open, &id, message),
            };
            outcomes.push(outcome);
        }
        open.close(state);
        Ok(Reply::new(Answer::Appended(Appended { outcomes })))
    }

    /// All messages or none.
    fn append_batch<S>(
        &mut self,
        state: &mut S,
        mut open: Open,
        messages: Vec<NewMessage>,
    ) -> Result<Reply, <S as View>::Error>
    where
        S: View + Sink,
    {
        let ids: Vec<DedupId> = messages
            .iter()
            .map(|m| hash::dedup_id(&m.sender, &m.client_message_id))
            .collect();
        if let Some(message) = repeated(&ids, &messages) {
            return Ok(Reply::refused(
                Reason::RepeatedInBatch,
                format!("{} is in the batch twice", shown(message)),
            ));
        }
        let mut outcomes = Vec::with_capacity(messages.len());
        for (id, message) in ids.iter().zip(&messages) {
            let Some(dedup) = open.known(state, id, message, self.now())? else {
                continue;
            };
            if !is_of(&dedup, message) {
                return Ok(Reply::new(Answer::Refused(reused(message))));
            }
            outcomes.push(repeat(&dedup));
        }
        if outcomes.is_empty() {
            if let Some(refused) = open.refused {
                return Ok(Reply::new(Answer::Refused(refused)));
            }
            // A message may answer one before it in the batch.
            for (last_seq, message) in (open.head.last_seq..).zip(&messages) {
                if open.is_ahead(message, last_seq) {
                    return Ok(Reply::new(Answer::Refused(ahead(message, last_seq))));
                }
            }
            for (id, message) in ids.iter().zip(messages) {
                outcomes.push(self.put(state, &mut open, id, message));
            }
            open.close(state);
        } else if outcomes.len() < messages.len() {
            return Ok(Reply::refused(
                Reason::MixedBatch,
                format!(
                    "{} of the batch's {} messages were appended before",
                    outcomes.len(),
                    messages.len()
                ),
            ));
        }
        Ok(Reply::new(Answer::Appended(Appended { outcomes })))
    }

    /// Gives a message its number and emits it.
    fn put<S: Sink>(
        &mut self,
        state: &mut S,
        open: &mut Open,
        id: &DedupId,
        message: NewMessage,
    ) -> Outcome {
        self.revision += 1;
        open.appended += 1;
        let head = &mut open.head;
        head.last_seq += 1;
        head.last_time_ms = head.last_time_ms.max(self.time_ms);
        head.revision = self.revision;
        let message_bytes = message.encoded_len();
        let expires_ms = match message.ttl_ms {
            0 => None,
            ttl_ms => Some(head.last_time_ms.saturating_add(ttl_ms)),
        };
        let kept = message.client_message_id.starts_with(IMPORT_ID_PREFIX);
        let stored = Stored {
            format: 1,
            seq: head.last_seq,
            revision: self.revision,
            create_time_ms: head.last_time_ms,
            message: Some(message),
            ..Stored::default()
        };
        self.record.clear();
        stored.encode_raw(&mut self.record);
        open.content = open.content.wrapping_add(hash::record_hash(&self.record));
        // The message is the record's last field: its bytes are the request's, encoded once.
        let request = &self.record[self.record.len() - message_bytes..];
        let request_hash = Bytes::copy_from_slice(&hash::record_hash(request).to_le_bytes());
        state.put_message(&open.key, stored.seq, &self.record);
        let dedup = Dedup {
            format: 1,
            seq: stored.seq,
            revision: stored.revision,
            time_ms: stored.create_time_ms,
            request_hash,
            kept,
            passed_ms: self.passed_ms,
            ..Dedup::default()
        };
        let first = stored.seq == 1 && !open.renewed;
        state.put_dedup(&open.key, id, dedup, first);
        if let Some(at_ms) = expires_ms {
            state.put_expiry(&open.key, at_ms, stored.seq, true);
            open.note_expiring(state);
        }
        Outcome {
            seq: stored.seq,
            revision: stored.revision,
            create_time_ms: stored.create_time_ms,
            deduplicated: false,
            refusal: None,
        }
    }
}

impl Open {
    fn new(key: ConversationKey, head: Option<Conversation>, name: String, now_ms: u64) -> Open {
        let existed = head.is_some();
        let renewed = head.as_ref().is_some_and(Conversation::is_deleted);
        let head = match head {
            Some(head) if !renewed => head,
            before => born(name, before.as_ref(), now_ms),
        };
        Open {
            key,
            content: content_of(&head),
            head,
            existed,
            renewed,
            appended: 0,
            refuse_replies_ahead: false,
            refused: None,
            counts_for: Bytes::new(),
            due: false,
        }
    }

    /// That something of it may expire.
    fn note_expiring<S: Sink>(&mut self, state: &mut S) {
        if !self.head.expiring {
            self.head.expiring = true;
            self.due = true;
            state.put_expiring(&self.key, true);
        }
    }

    /// That the last message counts for the key.
    fn note_key(&mut self) {
        if self.counts_for.is_empty() {
            return;
        }
        let key = std::mem::take(&mut self.counts_for);
        let (seq, keys) = (self.head.last_seq, &mut self.head.keys);
        match keys.binary_search_by(|one| one.key.cmp(&key)) {
            Ok(at) => keys[at].seq = seq,
            Err(at) => keys.insert(at, KeySeq { key, seq }),
        }
        self.due = true;
    }

    /// Whether a message that would come behind `last_seq` answers one that there is not.
    fn is_ahead(&self, message: &NewMessage, last_seq: u64) -> bool {
        self.refuse_replies_ahead && message.reply_to_seq > last_seq
    }

    /// What is remembered of an id and has not expired.
    fn known<S: View>(
        &self,
        state: &mut S,
        id: &DedupId,
        message: &NewMessage,
        now: Now,
    ) -> Result<Option<Dedup>, S::Error> {
        if !self.existed && self.appended == 0 {
            return Ok(None);
        }
        let kept = message.client_message_id.starts_with(IMPORT_ID_PREFIX);
        Ok(state
            .dedup(&self.key, id)?
            .filter(|_| !mutant!("retry-gets-a-new-seq"))
            .filter(|dedup| kept || !now.expires(dedup)))
    }

    fn close<S: Sink>(mut self, state: &mut S) {
        if self.appended == 0 {
            return;
        }
        if !self.existed || self.renewed {
            self.head.create_revision = self.head.revision - (self.appended - 1);
        }
        self.note_key();
        self.head.content_hash = Bytes::copy_from_slice(&self.content.to_le_bytes());
        match self.existed && (self.renewed || self.due) {
            true => state.renew_conversation(&self.key, self.head),
            false => state.put_conversation(&self.key, self.head, !self.existed),
        }
    }
}

/// The head of a conversation that begins; `before` is what is left of a former life.
pub(super) fn born(name: String, before: Option<&Conversation>, now_ms: u64) -> Conversation {
    // Its times go on, too, so that they never go back under one name.
    let last_time_ms = before.map_or(0, |head| head.last_time_ms);
    Conversation {
        format: 1,
        name,
        min_seq: 1,
        incarnation: before.map_or(1, |head| head.incarnation + 1),
        create_time_ms: now_ms.max(last_time_ms),
        last_time_ms,
        ..Conversation::default()
    }
}

/// The sum of a head's message hashes; none is 0.
pub(super) fn content_of(head: &Conversation) -> u128 {
    <[u8; 16]>::try_from(head.content_hash.as_ref()).map_or(0, u128::from_le_bytes)
}

/// Whether an id was used for this message, as far as that is known: of one that was erased there is
/// nothing left to compare with.
fn is_of(dedup: &Dedup, message: &NewMessage) -> bool {
    dedup.request_hash.is_empty() || dedup.request_hash == hash::request_hash(message)
}

fn repeat(dedup: &Dedup) -> Outcome {
    Outcome {
        seq: dedup.seq,
        revision: dedup.revision,
        create_time_ms: dedup.time_ms,
        deduplicated: true,
        refusal: None,
    }
}

fn refuse(refusal: Refusal) -> Outcome {
    Outcome {
        refusal: Some(refusal),
        ..Outcome::default()
    }
}

fn reused(message: &NewMessage) -> Refusal {
    Refusal::new(
        Reason::ClientMessageIdReused,
        format!("{} was used for other content", shown(message)),
    )
}

fn mismatch(last_seq: u64) -> Refusal {
    Refusal {
        last_seq,
        ..Refusal::new(Reason::SeqMismatch, format!("the last seq is {last_seq}"))
    }
}

fn mismatch_unless(expected: Option<u64>, last_seq: u64) -> Option<Refusal> {
    let other = expected.is_some_and(|seq| seq != last_seq);
    other.then(|| mismatch(last_seq))
}

/// Why a writer with this token may not append.
fn fenced(head: &Conversation, token: &[u8]) -> Option<Refusal> {
    if head.fence_token.is_empty() || head.fence_token == token {
        return None;
    }
    let why = match token.is_empty() {
        true => "the conversation has a fence token; the append gives none",
        false => "the conversation has another fence token: another writer has taken over",
    };
    Some(Refusal::new(Reason::Fenced, why))
}

/// Why an append under this key is refused.
fn key_mismatch(head: &Conversation, key: &[u8], expected: Option<u64>) -> Option<Refusal> {
    let last_seq = head.last_seq_of(key);
    if let Some(expected) = expected
        && expected != last_seq
    {
        let text = format!("the last seq of the key is {last_seq}");
        return Some(Refusal {
            last_seq,
            ..Refusal::new(Reason::KeySeqMismatch, text)
        });
    }
    let is_new = !key.is_empty() && last_seq == 0;
    (is_new && head.keys.len() >= KEYS_MAX).then(|| {
        let text = format!("the conversation has {KEYS_MAX} keys, the most that it may have");
        Refusal::new(Reason::KeysFull, text)
    })
}

fn ahead(message: &NewMessage, last_seq: u64) -> Refusal {
    let to = message.reply_to_seq;
    Refusal {
        last_seq,
        ..Refusal::new(
            Reason::AheadOfHead,
            format!("reply_to_seq is {to}, and the last seq is {last_seq}"),
        )
    }
}

fn shown(message: &NewMessage) -> String {
    format!(
        "client_message_id {:?} of {:?}",
        String::from_utf8_lossy(&message.client_message_id),
        String::from_utf8_lossy(&message.sender)
    )
}

/// A message whose id another one of the batch has too.
fn repeated<'m>(ids: &[DedupId], messages: &'m [NewMessage]) -> Option<&'m NewMessage> {
    let mut order: Vec<usize> = (0..ids.len()).collect();
    order.sort_unstable_by_key(|&i| ids[i]);
    let pair = order.windows(2).find(|pair| ids[pair[0]] == ids[pair[1]])?;
    messages.get(pair[0])
}
