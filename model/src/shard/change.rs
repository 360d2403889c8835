//! Changing a message that was appended: edits, redactions, reactions.
//!
//! A change moves the message's revision and the conversation's, and no seq. It takes the hash of the
//! record that was out of the content hash and puts that of the new one in.

use bytes::Bytes;
use prost::Message;

use super::append::{Now, content_of};
use super::{Machine, ReactionId, Sink, View, collision, invalid};
use crate::command::{
    Answer, ChangeMessage, Edit, How, MessageChanged, NewMessage, React, Reason, Redact, Refusal,
    Reply,
};
use crate::hash;
use crate::id::ConversationKey;
use crate::limits::{REACTION_KINDS_MAX, REACTIONS_MAX};
use crate::mutant;
use crate::state::{Conversation, Dedup, Made, Reaction, ReactionCount, Reactions, Stored};

/// Bytes of an edit's salt, at least: gateways draw as many.
const SALT_BYTES: usize = 16;

/// A message while a command changes it.
pub(super) struct Target {
    pub(super) key: ConversationKey,
    pub(super) head: Conversation,
    pub(super) stored: Stored,
    pub(super) record: Bytes,
    pub(super) reactions: Option<Reactions>,
}

/// What a change came to.
pub(super) struct Done {
    /// Set when anything changed.
    revision: Option<u64>,
    count: u32,
}

impl Machine {
    /// Changes a message, or answers the same request again as the first time.
    pub(super) fn change<S>(
        &mut self,
        state: &mut S,
        change: ChangeMessage,
    ) -> Result<Reply, <S as View>::Error>
    where
        S: View + Sink,
    {
        let key = match self.locate(&change.conversation) {
            Ok(key) => key,
            Err(refused) => return Ok(refused),
        };
        if let Some(wrong) = wrong(&change) {
            return Ok(invalid(wrong));
        }
        let Some(head) = state.conversation(&key)? else {
            return Ok(no_conversation(&change.conversation));
        };
        if head.name != change.conversation {
            return Ok(collision(&change.conversation, &head.name));
        }
        let id = hash::request_id(&change.request_id);
        if let Some(dedup) = self.remembered(state, &key, &id)? {
            return again(state, &key, &change, &dedup);
        }
        if head.is_deleted() {
            return Ok(no_conversation(&change.conversation));
        }
        let Some(target) = Target::read(state, key, head, change.seq)? else {
            return Ok(not_found(&change));
        };
        if let Some(expected) = change.expected_revision
            && expected != target.revision()
        {
            return Ok(Reply::new(Answer::Refused(mismatch(target.revision()))));
        }
        self.carry_out(state, target, &id, change)
    }

    /// What is remembered of a request and has not expired.
    pub(super) fn remembered<S: View>(
        &self,
        state: &mut S,
        key: &ConversationKey,
        id: &[u8; 16],
    ) -> Result<Option<Dedup>, S::Error> {
        let now: Now = self.now();
        let found = state.dedup(key, id)?;
        Ok(found
            .filter(|_| !mutant!("edit-loses-to-a-retry"))
            .filter(|dedup| dedup.kept || !now.expires(dedup)))
    }

    fn carry_out<S>(
        &mut self,
        state: &mut S,
        mut target: Target,
        id: &[u8; 16],
        change: ChangeMessage,
    ) -> Result<Reply, <S as View>::Error>
    where
        S: View + Sink,
    {
        let redacted = target.stored.is_tombstone();
        let plain = without_condition(&change);
        let (made, done) = match change.how {
            Some(How::Redact(_)) if redacted => (Made::Redaction, Done::nothing()),
            Some(How::Edit(_) | How::React(_)) if redacted => return Ok(erased(change.seq)),
            // Without one its hash would tell what was erased, and be another with the next edit.
            Some(How::Edit(edit)) if edit.salt.len() < SALT_BYTES => {
                return Ok(invalid("an edit needs a salt"));
            }
            Some(How::Edit(edit)) => (Made::Edit, self.edit(state, &mut target, edit)),
            Some(How::Redact(how)) => (Made::Redaction, self.redact(state, &mut target, how)?),
            Some(How::React(react)) => match self.react(state, &mut target, react)? {
                Ok(done) => (Made::Reaction, done),
                Err(refusal) => return Ok(Reply::new(Answer::Refused(refusal))),
            },
            None => return Ok(invalid("a change of no known kind")),
        };
        let salt = salt_for(made, &target.stored);
        let dedup = Dedup {
            format: 1,
            seq: target.stored.seq,
            revision: done.revision.unwrap_or(target.revision()),
            time_ms: self.time_ms.max(target.stored.create_time_ms),
            request_hash: hash::salted_hash(salt, &plain),
            kept: change.import,
            passed_ms: self.passed_ms,
            made: made as i32,
            create_time_ms: target.stored.create_time_ms,
            count: done.count,
        };
        let answer = answered(&dedup, false);
        state.put_request(&target.key, id, dedup);
        if let Some(revision) = done.revision {
            target.head.revision = revision;
            target.head.change_revision = revision;
            state.put_conversation(&target.key, target.head, false);
        }
        Ok(answer)
    }

    fn edit<S: Sink>(&mut self, state: &mut S, target: &mut Target, edit: Edit) -> Done {
        let stored = &mut target.stored;
        let message = stored.message.get_or_insert_default();
        if let Some(body) = edit.body {
            message.body = body;
        }
        if let Some(attributes) = edit.attributes {
            message.attributes = attributes.values;
        }
        if stored.salt.is_empty() {
            stored.salt = edit.salt;
        }
        stored.edit_time_ms = Some(self.time_ms.max(stored.create_time_ms));
        stored.original_edit_time_ms = edit.original_time_ms;
        self.replace(state, target)
    }

    fn redact<S>(
        &mut self,
        state: &mut S,
        target: &mut Target,
        how: Redact,
    ) -> Result<Done, <S as View>::Error>
    where
        S: View + Sink,
    {
        let message = target.empty(state)?;
        let stored = &mut target.stored;
        let original_time_ms = message.original_time_ms.filter(|_| how.keep_original_time);
        stored.message = Some(match mutant!("redacted-body-still-read") {
            true => message,
            false => NewMessage {
                original_time_ms,
                ..NewMessage::default()
            },
        });
        state.erase(&target.key);
        stored.original_redact_time_ms = how.original_time_ms;
        stored.redact_time_ms = Some(self.time_ms.max(stored.create_time_ms));
        Ok(self.replace(state, target))
    }

    /// Writes the message as it is now.
    pub(super) fn replace<S: Sink>(&mut self, state: &mut S, target: &mut Target) -> Done {
        self.revision += 1;
        let (key, stored) = (target.key, &mut target.stored);
        match stored.append_revision {
            0 => stored.append_revision = stored.revision,
            _ => state.put_changed(&key, stored.revision, None),
        }
        stored.revision = self.revision;
        let seq = stored.seq;
        self.record.clear();
        stored.encode_raw(&mut self.record);
        let before = hash::record_hash(&target.record);
        let after = hash::record_hash(&self.record);
        target.add_content(after.wrapping_sub(before));
        state.replace_message(&key, seq, &self.record);
        state.put_changed(&key, self.revision, Some(seq));
        Done {
            revision: Some(self.revision),
            count: 0,
        }
    }

    fn react<S>(
        &mut self,
        state: &mut S,
        target: &mut Target,
        react: React,
    ) -> Result<Result<Done, Refusal>, <S as View>::Error>
    where
        S: View + Sink,
    {
        let (key, seq) = (target.key, target.stored.seq);
        let id = hash::reaction_id(&react.user, &react.kind);
        let held = state.reaction(&key, seq, &id)?;
        let mut reactions = target.reactions.clone().unwrap_or_else(|| Reactions {
            format: 1,
            seq,
            ..Reactions::default()
        });
        if held.is_some() != react.remove {
            let count = reactions.count(&react.kind);
            return Ok(Ok(Done {
                revision: None,
                count,
            }));
        }
        if !react.remove
            && let Some(full) = full(&reactions, &react.kind)
        {
            return Ok(Err(full));
        }
        self.revision += 1;
        let set = Reaction {
            format: 1,
            seq,
            user: react.user,
            kind: react.kind,
            revision: self.revision,
        };
        let count = reactions.add(&set.kind, react.remove);
        let difference = self.place(state, target, &id, held, set);
        let sum = sum_of(&reactions.sum).wrapping_add(difference);
        reactions.sum = Bytes::copy_from_slice(&sum.to_le_bytes());
        reactions.revision = self.revision;
        let mut content = difference;
        if let Some(before) = &target.reactions {
            content = content.wrapping_sub(hash::record_hash(&before.encode_to_vec()));
            state.put_changed(&key, before.revision, None);
        }
        content = content.wrapping_add(hash::record_hash(&reactions.encode_to_vec()));
        target.add_content(content);
        target.head.reaction_revision = self.revision;
        state.put_changed(&key, self.revision, Some(seq));
        state.put_reactions(&key, reactions);
        Ok(Ok(Done {
            revision: Some(self.revision),
            count,
        }))
    }

    /// Sets a reaction, or takes back the one that is held; gives what that adds to the sum of hashes.
    fn place<S: Sink>(
        &mut self,
        state: &mut S,
        target: &Target,
        id: &ReactionId,
        held: Option<Reaction>,
        set: Reaction,
    ) -> u128 {
        let (key, seq) = (&target.key, target.stored.seq);
        if let Some(held) = held {
            state.put_reaction(key, seq, id, None);
            return hash::record_hash(&held.encode_to_vec()).wrapping_neg();
        }
        let difference = hash::record_hash(&set.encode_to_vec());
        state.put_reaction(key, seq, id, Some(set));
        difference
    }
}

impl Target {
    /// The message that is to be changed, if it is there.
    pub(super) fn read<S: View>(
        state: &mut S,
        key: ConversationKey,
        head: Conversation,
        seq: u64,
    ) -> Result<Option<Target>, S::Error> {
        if !(head.min_seq.max(1)..=head.last_seq).contains(&seq) {
            return Ok(None);
        }
        let Some(record) = state.message(&key, seq)? else {
            return Ok(None);
        };
        // The view has checked its sum.
        let Ok(stored) = Stored::decode(record.clone()) else {
            return Ok(None);
        };
        let reactions = match head.reaction_revision {
            0 => None,
            _ => state.reactions(&key, seq)?,
        };
        Ok(Some(Target {
            key,
            head,
            stored,
            record,
            reactions,
        }))
    }

    /// Leaves nothing of the content: not in the message, in reactions to it, nor in what is remembered of its
    /// id. Gives what it said.
    pub(super) fn empty<S>(&mut self, state: &mut S) -> Result<NewMessage, <S as View>::Error>
    where
        S: View + Sink,
    {
        let stored = &mut self.stored;
        let message = stored.message.replace(NewMessage::default());
        let message = message.unwrap_or_default();
        let id = hash::dedup_id(&message.sender, &message.client_message_id);
        let appended = state.dedup(&self.key, &id)?;
        if let Some(appended) = appended.filter(|d| d.revision == stored.appended_at()) {
            let request_hash = Bytes::new();
            let dedup = Dedup {
                request_hash,
                ..appended
            };
            state.put_request(&self.key, &id, dedup);
        }
        stored.edit_time_ms = None;
        stored.original_edit_time_ms = None;
        stored.salt = Bytes::new();
        self.drop_reactions(state);
        Ok(message)
    }

    /// Removes the reactions, and takes them out of the content hash.
    pub(super) fn drop_reactions<S: Sink>(&mut self, state: &mut S) {
        if let Some(reactions) = self.reactions.take() {
            let gone = hash::record_hash(&reactions.encode_to_vec());
            let gone = gone.wrapping_add(sum_of(&reactions.sum));
            self.add_content(gone.wrapping_neg());
            state.put_changed(&self.key, reactions.revision, None);
            state.clear_reactions(&self.key, reactions.seq);
        }
    }

    /// Bytes of the records of the message and of the counts of its reactions.
    pub(super) fn bytes(&self) -> u64 {
        let counts = self.reactions.as_ref().map_or(0, Message::encoded_len);
        (self.record.len() + counts) as u64
    }

    /// That of the last change of it, whatever it was.
    fn revision(&self) -> u64 {
        let reacted = self.reactions.as_ref().map_or(0, |all| all.revision);
        self.stored.revision.max(reacted)
    }

    pub(super) fn add_content(&mut self, hash: u128) {
        let sum = content_of(&self.head).wrapping_add(hash);
        self.head.content_hash = Bytes::copy_from_slice(&sum.to_le_bytes());
    }
}

impl Done {
    fn nothing() -> Done {
        Done {
            revision: None,
            count: 0,
        }
    }
}

impl Reactions {
    /// Users who have set a kind.
    pub fn count(&self, kind: &[u8]) -> u32 {
        let found = self.counts.binary_search_by(|one| (*one.kind).cmp(kind));
        found.map_or(0, |at| self.counts[at].count)
    }

    /// One more of a kind, or one less; gives how many there are now.
    fn add(&mut self, kind: &Bytes, less: bool) -> u32 {
        match self.counts.binary_search_by(|one| one.kind.cmp(kind)) {
            Ok(at) => {
                let count = &mut self.counts[at].count;
                *count = match less {
                    true => count.saturating_sub(1),
                    false => count.saturating_add(1),
                };
                let count = *count;
                if count == 0 {
                    self.counts.remove(at);
                }
                count
            }
            Err(_) if less => 0,
            Err(at) => {
                let kind = kind.clone();
                self.counts.insert(at, ReactionCount { kind, count: 1 });
                1
            }
        }
    }
}

/// Why there is no room for another reaction of this kind.
fn full(reactions: &Reactions, kind: &[u8]) -> Option<Refusal> {
    let all: u32 = reactions.counts.iter().map(|one| one.count).sum();
    let text = if all >= REACTIONS_MAX {
        format!("the message has {all} reactions, which is all that it may have")
    } else if reactions.count(kind) == 0 && reactions.counts.len() >= REACTION_KINDS_MAX {
        format!(
            "the message has {REACTION_KINDS_MAX} kinds of reactions, which is all that it may have"
        )
    } else {
        return None;
    };
    Some(Refusal::new(Reason::ReactionsFull, text))
}

/// What no gateway lets through.
fn wrong(change: &ChangeMessage) -> Option<&'static str> {
    if change.request_id.is_empty() {
        return Some("a change without request_id");
    }
    match &change.how {
        None => Some("a change of no known kind"),
        Some(How::Edit(edit)) if edit.body.is_none() && edit.attributes.is_none() => {
            Some("an edit of nothing")
        }
        Some(How::Edit(edit)) if edit.body.as_ref().is_some_and(Bytes::is_empty) => {
            Some("an edit to an empty body")
        }
        Some(How::React(react)) if react.user.is_empty() || react.kind.is_empty() => {
            Some("a reaction without user or kind")
        }
        Some(How::Edit(_) | How::Redact(_) | How::React(_)) => None,
    }
}

/// The request as it is hashed: what it does, and to what.
fn without_condition(change: &ChangeMessage) -> Vec<u8> {
    let mut plain = ChangeMessage {
        expected_revision: None,
        ..change.clone()
    };
    if let Some(How::Edit(edit)) = &mut plain.how {
        edit.salt = Bytes::new();
    }
    plain.encode_to_vec()
}

/// Only what an edit says is nobody's business once it is erased.
fn salt_for(made: Made, stored: &Stored) -> &[u8] {
    match made {
        Made::Edit => &stored.salt,
        Made::Message
        | Made::Redaction
        | Made::Reaction
        | Made::Creation
        | Made::Attributes
        | Made::Deletion
        | Made::Rules => &[],
    }
}

/// The answer to a request that was answered before.
fn again<S: View>(
    state: &mut S,
    key: &ConversationKey,
    change: &ChangeMessage,
    dedup: &Dedup,
) -> Result<Reply, S::Error> {
    let asked = match change.how {
        Some(How::Edit(_)) => Made::Edit,
        Some(How::Redact(_)) => Made::Redaction,
        Some(How::React(_)) => Made::Reaction,
        None => Made::Message,
    };
    let reused = || Ok(reused(&change.request_id));
    if dedup.made() != asked || dedup.seq != change.seq {
        return reused();
    }
    let mut salt = Bytes::new();
    if asked == Made::Edit {
        let record = state.message(key, dedup.seq)?;
        let stored = record.and_then(|record| Stored::decode(record).ok());
        match stored {
            Some(stored) if !stored.is_tombstone() => salt = stored.salt,
            // What it said is gone, and with it what could tell one from the other.
            Some(_) | None => return Ok(answered(dedup, true)),
        }
    }
    if dedup.request_hash != hash::salted_hash(&salt, &without_condition(change)) {
        return reused();
    }
    Ok(answered(dedup, true))
}

fn answered(dedup: &Dedup, deduplicated: bool) -> Reply {
    Reply::new(Answer::Changed(MessageChanged {
        seq: dedup.seq,
        revision: dedup.revision,
        time_ms: dedup.time_ms,
        create_time_ms: dedup.create_time_ms,
        deduplicated,
        count: dedup.count,
    }))
}

fn sum_of(sum: &Bytes) -> u128 {
    <[u8; 16]>::try_from(sum.as_ref()).map_or(0, u128::from_le_bytes)
}

/// That there is no such conversation.
pub(super) fn no_conversation(name: &str) -> Reply {
    Reply::refused(Reason::ConversationNotFound, format!("there is no {name}"))
}

/// That a request id was used for something else.
pub(super) fn reused(request_id: &Bytes) -> Reply {
    let id = String::from_utf8_lossy(request_id);
    let text = format!("request_id {id:?} was used for another request");
    Reply::refused(Reason::RequestIdReused, text)
}

fn not_found(change: &ChangeMessage) -> Reply {
    let text = format!(
        "there is no {}/messages/{}",
        change.conversation, change.seq
    );
    Reply::refused(Reason::MessageNotFound, text)
}

fn erased(seq: u64) -> Reply {
    Reply::refused(Reason::MessageRedacted, format!("message {seq} was erased"))
}

fn mismatch(revision: u64) -> Refusal {
    Refusal {
        revision,
        ..Refusal::new(
            Reason::RevisionMismatch,
            format!("the message's revision is {revision}"),
        )
    }
}
