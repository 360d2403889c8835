//! Pages of a conversation, each of one read point although messages change.
//!
//! A scan is one read point of the database. It may be later than the head that was read before it. What
//! lies behind the head is left out; and where nothing that was found is of a later revision than the
//! head, nothing of what was found has changed since: the page is as of the head. Otherwise, and where
//! a page takes more than one scan, all of it is read through one snapshot of the database.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use model::id::{ConversationKey, ConversationName};
use model::mutant;
use model::shard::Scope;
use model::state::{Changed, Conversation, Reaction, ReactionCount, Reactions, Stored};

use super::overlay::head_of;
use super::record;
use super::shard::ShardState;
use crate::engine::{Order, Read};
use crate::key::state::Named;
use crate::{Error, key};

/// What a page is to hold.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'w> {
    /// Where it begins; 0 = at the first message, or at the last when descending.
    pub start_seq: u64,
    /// Its direction.
    pub order: Order,
    /// It ends at so many messages, or when it has reached `bytes_max`.
    pub limit: usize,
    /// When there is a message at all, it holds at least one.
    pub bytes_max: usize,
    /// Whose reactions are told from others'.
    pub reader: Option<&'w [u8]>,
    /// Of the messages before `start_seq`, also those that were changed after this revision.
    pub changed_after: Option<u64>,
}

/// A message with its reactions.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// The message.
    pub stored: Stored,
    /// Sorted by kind; true where the reader has set it.
    pub reactions: Vec<(ReactionCount, bool)>,
    /// That of its last change, whatever it was.
    pub revision: u64,
}

/// A page of a conversation; all of it is of one read point.
#[derive(Clone, Debug)]
pub struct Page {
    /// The head.
    pub head: Conversation,
    /// The messages, in the order asked for.
    pub messages: Vec<Shown>,
    /// Messages that were changed, in the order of revisions.
    pub changed: Vec<Shown>,
    /// All changes that were asked for up to this revision are in it.
    pub changed_to: u64,
}

impl Page {
    /// How far the replica had come that shows this, at least.
    pub fn revision(&self) -> u64 {
        self.head.revision
    }

    fn newest(&self) -> u64 {
        let all = self.messages.iter().chain(&self.changed);
        all.map(|shown| shown.revision).max().unwrap_or(0)
    }
}

/// The most changes of which a page holds the messages.
const CHANGES_MAX: usize = 256;

impl ShardState {
    /// A page of a conversation; `None` when there is no such conversation.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a message cannot be read back, or is missing.
    pub fn page(
        &self,
        name: &ConversationName,
        wanted: &Wanted<'_>,
    ) -> Result<Option<Page>, Error> {
        self.noted(self.read_page(name, wanted))
    }

    fn read_page(
        &self,
        name: &ConversationName,
        wanted: &Wanted<'_>,
    ) -> Result<Option<Page>, Error> {
        let serving = self.shard.serving.read();
        let key = name.key();
        let Some(head) = self.head(&serving, &key)? else {
            return Ok(None);
        };
        if head.name != name.as_str() || head.is_deleted() {
            return Ok(None);
        }
        let changed = wanted
            .changed_after
            .is_some_and(|after| head.change_revision > after);
        if head.reaction_revision == 0 && !changed {
            let found = read(self.source(&serving), &key, &head, wanted);
            if let Ok(page) = found
                && page.newest() <= page.head.revision
            {
                return Ok(Some(page));
            }
        }
        let snapshot = self.point_of(&serving);
        let found = read(&*snapshot, &key, &head, wanted);
        if let Ok(page) = found
            && page.newest() <= page.head.revision
        {
            return Ok(Some(page));
        }
        // The snapshot is later than the head that is shown.
        match head_of(&*snapshot, &key)? {
            Some(head) if head.name == name.as_str() && !head.is_deleted() => {
                read(&*snapshot, &key, &Arc::new(head), wanted).map(Some)
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Gives the heads of the conversations from this key on to `visit`, in the order of keys, tombstones
    /// too, for as long as it returns true, and `limit` of them at most. Returns where to go on, or none
    /// at the shard's end. What it gives is of one read point.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a head cannot be read back.
    pub fn heads(
        &self,
        from: &ConversationKey,
        limit: usize,
        visit: impl FnMut(Conversation) -> bool,
    ) -> Result<Option<ConversationKey>, Error> {
        self.noted(self.read_heads(from, limit, visit))
    }

    fn read_heads(
        &self,
        from: &ConversationKey,
        limit: usize,
        mut visit: impl FnMut(Conversation) -> bool,
    ) -> Result<Option<ConversationKey>, Error> {
        let Scope::Data(slots) = &self.shard.scope else {
            return Ok(None);
        };
        let snapshot = self.point_of(&self.shard.serving.read());
        let (start, end) = key::state::conversations(slots);
        let mut next = key::state::head(from).to_vec().max(start);
        for _ in 0..limit {
            let mut found = None;
            snapshot.scan(&next, &end, Order::Ascending, &mut |key, _| {
                found = key::state::parse(key).map(|named| named.conversation());
                Ok(ControlFlow::Break(()))
            })?;
            let Some(key) = found else { return Ok(None) };
            let Some(head) = head_of(&*snapshot, &key)? else {
                let at = key::state::head(&key);
                return Err(record::corrupt(&at, "it is missing".into()));
            };
            let Some(behind) = u128::from_be_bytes(key.0).checked_add(1) else {
                visit(head);
                return Ok(None);
            };
            let behind = ConversationKey(behind.to_be_bytes());
            next = key::state::head(&behind).to_vec();
            if !visit(head) {
                return Ok(Some(behind));
            }
        }
        let named = key::state::parse(&next).map(|named| named.conversation());
        Ok(named)
    }

    /// The messages of a page, without their reactions.
    ///
    /// # Errors
    /// As [`ShardState::page`].
    pub fn list(
        &self,
        name: &ConversationName,
        start_seq: u64,
        order: Order,
        limit: usize,
        bytes_max: usize,
    ) -> Result<Option<(Conversation, Vec<Stored>)>, Error> {
        let wanted = Wanted {
            start_seq,
            order,
            limit,
            bytes_max,
            reader: None,
            changed_after: None,
        };
        let page = self.page(name, &wanted)?;
        Ok(page.map(|page| {
            let stored = page.messages.into_iter().map(|shown| shown.stored);
            (page.head, stored.collect())
        }))
    }
}

/// What `read` has of a page that ends at this head.
fn read(
    read: &dyn Read,
    key: &ConversationKey,
    head: &Arc<Conversation>,
    wanted: &Wanted<'_>,
) -> Result<Page, Error> {
    let mut page = Page {
        head: Conversation::clone(head),
        messages: messages(read, key, head, wanted)?,
        changed: Vec::new(),
        changed_to: head.revision,
    };
    if head.reaction_revision > 0 {
        add_reactions(read, key, &mut page.messages, wanted.reader)?;
    }
    if let Some(after) = wanted.changed_after
        && head.change_revision > after
    {
        add_changes(read, key, &mut page, after, wanted)?;
        let to = page.changed_to;
        if let Some(later) = page.messages.iter().position(|one| one.revision > to) {
            page.messages.truncate(later);
        }
    }
    Ok(page)
}

/// The first message for which `before` does not hold, which it does for all up to some message and for none from
/// there on; behind the last when there is none. The head and `read` are of one read point.
pub(super) fn first_not(
    read: &dyn Read,
    key: &ConversationKey,
    head: &Conversation,
    before: impl Fn(&Stored) -> bool,
) -> Result<u64, Error> {
    let (mut from, mut to) = (head.min_seq.max(1), head.last_seq.saturating_add(1));
    while from < to {
        let middle = from + (to - from) / 2;
        let at = key::state::message(key, middle);
        let Some(value) = read.get(&at)? else {
            return Err(record::corrupt(&at, "it is missing".into()));
        };
        match before(&record::decode(&at, value)?) {
            true => from = middle + 1,
            false => to = middle,
        }
    }
    Ok(from)
}

pub(super) fn messages(
    read: &dyn Read,
    key: &ConversationKey,
    head: &Conversation,
    wanted: &Wanted<'_>,
) -> Result<Vec<Shown>, Error> {
    let (order, limit, bytes_max) = (wanted.order, wanted.limit, wanted.bytes_max);
    let (first, last) = match order {
        Order::Ascending => (wanted.start_seq.max(head.min_seq).max(1), head.last_seq),
        Order::Descending if wanted.start_seq == 0 => (head.min_seq.max(1), head.last_seq),
        Order::Descending => (head.min_seq.max(1), head.last_seq.min(wanted.start_seq)),
    };
    let mut page = Vec::new();
    if first > last || limit == 0 {
        return Ok(page);
    }
    let (from, to) = key::state::messages(key, first, last);
    let mut next = match order {
        Order::Ascending => first,
        Order::Descending => last,
    };
    let mut bytes = 0;
    read.scan(&from, &to, order, &mut |found, value| {
        // What takes numbers too early must live with holes.
        if mutant!("seq-allocated-before-commit")
            && let Some(Named::Message(_, seq)) = key::state::parse(found)
        {
            next = seq;
        }
        bytes += value.len();
        page.push(Shown::plain(message(found, value, key, next)?));
        next = match order {
            Order::Ascending => next + 1,
            Order::Descending => next - 1,
        };
        Ok(if page.len() < limit && bytes < bytes_max {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        })
    })?;
    let count = (last - first + 1).min(limit as u64);
    let whole = page.len() as u64 >= count || mutant!("seq-allocated-before-commit");
    if !whole && bytes < bytes_max {
        let missing = key::state::message(key, next);
        return Err(record::corrupt(&missing, "it is missing".into()));
    }
    Ok(page)
}

/// Adds their reactions to messages that follow each other.
pub(super) fn add_reactions(
    read: &dyn Read,
    key: &ConversationKey,
    messages: &mut [Shown],
    reader: Option<&[u8]>,
) -> Result<(), Error> {
    let (Some(one), Some(other)) = (messages.first(), messages.last()) else {
        return Ok(());
    };
    let (a, b) = (one.stored.seq, other.stored.seq);
    let (from, to) = key::state::counts_of(key, a.min(b), a.max(b));
    let mut all: Vec<Reactions> = Vec::new();
    read.scan(&from, &to, Order::Ascending, &mut |found, value| {
        all.push(record::decode(found, Bytes::copy_from_slice(value))?);
        Ok(ControlFlow::Continue(()))
    })?;
    for shown in messages {
        let found = all.binary_search_by_key(&shown.stored.seq, |one| one.seq);
        if let Ok(at) = found {
            shown.react(
                read,
                key,
                std::mem::take(&mut all[at].counts),
                all[at].revision,
                reader,
            )?;
        }
    }
    Ok(())
}

/// Adds the messages before the page that were changed after a revision, as they are now.
pub(super) fn add_changes(
    read: &dyn Read,
    key: &ConversationKey,
    page: &mut Page,
    after: u64,
    wanted: &Wanted<'_>,
) -> Result<(), Error> {
    let (from, to) = key::state::changes(key, after, page.head.revision);
    let mut notes: Vec<(u64, u64)> = Vec::new();
    read.scan(&from, &to, Order::Ascending, &mut |found, value| {
        let Some(Named::Change(_, revision)) = key::state::parse(found) else {
            return Err(record::corrupt(found, "it is no note of a change".into()));
        };
        let changed: Changed = record::decode(found, Bytes::copy_from_slice(value))?;
        notes.push((revision, changed.seq));
        Ok(match notes.len() < CHANGES_MAX {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        })
    })?;
    if notes.len() == CHANGES_MAX {
        page.changed_to = notes.last().map_or(after, |note| note.0);
    }
    let mut bytes = 0;
    for (revision, seq) in notes {
        if bytes >= wanted.bytes_max {
            page.changed_to = revision - 1;
            break;
        }
        // What has expired is gone, and what is to come is read when it comes.
        if seq < page.head.min_seq || seq >= wanted.start_seq.max(1) {
            continue;
        }
        let at = key::state::message(key, seq);
        let Some(value) = read.get(&at)? else {
            return Err(record::corrupt(&at, "it is missing".into()));
        };
        let mut shown = Shown::plain(message(&at, &value, key, seq)?);
        let at = key::state::counts(key, seq);
        if let Some(value) = read.get(&at)? {
            let found: Reactions = record::decode(&at, value)?;
            shown.react(read, key, found.counts, found.revision, wanted.reader)?;
        }
        // An earlier change of a message that has changed again is told with the last.
        if shown.revision == revision {
            bytes += value.len();
            page.changed.push(shown);
        }
    }
    Ok(())
}

impl Shown {
    fn plain(stored: Stored) -> Shown {
        Shown {
            revision: stored.revision,
            stored,
            reactions: Vec::new(),
        }
    }

    fn react(
        &mut self,
        read: &dyn Read,
        key: &ConversationKey,
        counts: Vec<ReactionCount>,
        revision: u64,
        reader: Option<&[u8]>,
    ) -> Result<(), Error> {
        let mut own: Vec<Bytes> = Vec::new();
        if let Some(user) = reader.filter(|_| !counts.is_empty()) {
            let (from, to) = key::state::reactions_of(key, self.stored.seq, user);
            read.scan(&from, &to, Order::Ascending, &mut |found, value| {
                let one: Reaction = record::decode(found, Bytes::copy_from_slice(value))?;
                own.push(one.kind);
                Ok(ControlFlow::Continue(()))
            })?;
        }
        self.revision = self.revision.max(revision);
        self.reactions = counts
            .into_iter()
            .map(|one| {
                let mine = own.contains(&one.kind);
                (one, mine)
            })
            .collect();
        Ok(())
    }
}

/// The message in a record that must be `seq` of the conversation.
fn message(
    found: &[u8],
    value: &[u8],
    conversation: &ConversationKey,
    seq: u64,
) -> Result<Stored, Error> {
    let expected = key::state::message(conversation, seq);
    if found != expected {
        return Err(record::corrupt(&expected, "it is missing".into()));
    }
    let stored: Stored = record::decode(found, Bytes::copy_from_slice(value))?;
    if stored.seq != seq {
        return Err(record::corrupt(
            found,
            format!("it calls itself {}", stored.seq),
        ));
    }
    Ok(stored)
}
