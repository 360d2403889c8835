//! All that changed in a range of slots, in the order of revisions within each slot.
//!
//! What is told is what there is now: of several changes of one message the last, and of a conversation that
//! was deleted and created again its present life. So a position needs no more than one revision for a range of
//! slots, and no position is ever too old.
//!
//! ```text
//!   after ──► heads with a later revision ──► new messages from the first that was appended behind `after`,
//!             (of late: kept in mind;           changed ones by the notes of changes, settings, deletions
//!              else all of the range)           └──► sorted; cut where a conversation was not read to its end
//! ```

use std::collections::BTreeMap;
use std::ops::{ControlFlow, RangeInclusive};

use model::id::{ConversationKey, Slot};
use model::mutant;
use model::shard::Scope;
use model::state::{Conversation, Stored};

use super::overlay::head_of;
use super::pages::{self, Page, Shown, Wanted};
use super::record;
use super::shard::ShardState;
use crate::engine::{Order, Read};
use crate::{Error, key};

/// Something that was changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Fed {
    /// The shard's revision at the change.
    pub revision: u64,
    /// The conversation.
    pub name: String,
    /// Which life of it.
    pub incarnation: u64,
    /// How long its messages live, milliseconds; 0 = for ever.
    pub ttl_ms: u64,
    /// A legal hold keeps them.
    pub hold: bool,
    /// What became of it.
    pub what: What,
}

impl Fed {
    /// About how long it is.
    fn bytes(&self) -> usize {
        let message = match &self.what {
            What::Message(shown) => shown.stored.message.as_ref(),
            What::Settings(_) | What::Deleted(_) | What::Trimmed(_) => None,
        };
        256 + message.map_or(0, prost::Message::encoded_len)
    }
}

/// What was changed.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A message, as it is now.
    Message(Box<Shown>),
    /// The conversation's settings, or it was created with some.
    Settings(Box<Conversation>),
    /// It was deleted.
    Deleted(Box<Conversation>),
    /// Messages before this one have expired; told with each change of such a conversation.
    Trimmed(u64),
}

/// Part of what was changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Feed {
    /// What was changed, slot after slot.
    pub changes: Vec<Fed>,
    /// Up to which revision all that was asked for is in it, for each range of slots.
    pub reached: Vec<(RangeInclusive<u16>, u64)>,
}

/// What a feed is to hold.
pub struct Ask<'a> {
    /// Of which slots.
    pub slots: RangeInclusive<u16>,
    /// Behind which revision.
    pub after: u64,
    /// Of which conversations, by their names.
    pub belongs: &'a dyn Fn(&str) -> bool,
    /// It ends behind the slot with which it has so many changes.
    pub limit: usize,
    /// Or behind that with which their messages have so many bytes.
    pub bytes_max: usize,
    /// It ends behind the slot for which so many heads were looked at.
    pub heads_max: usize,
}

impl ShardState {
    /// What was changed. Of a slot at least one change is told when there is any, and the ranges that come
    /// back cover all slots that were asked for and are of this shard.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a record cannot be read back.
    pub fn feed(&self, ask: &Ask<'_>) -> Result<Feed, Error> {
        self.noted(self.read_feed(ask))
    }

    fn read_feed(&self, ask: &Ask<'_>) -> Result<Feed, Error> {
        let Scope::Data(own) = &self.shard.scope else {
            return Ok(Feed::default());
        };
        let (first, last) = (
            *ask.slots.start().max(own.start()),
            *ask.slots.end().min(own.end()),
        );
        if first > last {
            return Ok(Feed::default());
        }
        let was_followed = self.shard.recent.is_begun();
        self.note_recent();
        // Before the read point: it holds all up to here.
        let to = self.reached().revision;
        let mut feed = Feed::default();
        if to <= ask.after {
            feed.reached.push((first..=last, ask.after));
            return Ok(feed);
        }
        if mutant!("feed-skips-after-a-move") && !was_followed && ask.after > 0 {
            feed.reached.push((first..=last, to));
            return Ok(feed);
        }
        let recent = self.shard.recent.since(ask.after);
        let snapshot = self.point_of(&self.shard.serving.read());
        let mut slots = Slots {
            read: &*snapshot,
            ask,
            to,
            looked_at: 0,
            bytes: 0,
        };
        let mut recent = recent.map(|keys| {
            let mut by_slot: BTreeMap<u16, Vec<ConversationKey>> = BTreeMap::new();
            for key in keys {
                by_slot.entry(key.slot().0).or_default().push(key);
            }
            by_slot
        });
        let mut at = Some(first);
        while let Some(slot) = at.filter(|slot| *slot <= last) {
            let is_full = feed.changes.len() >= ask.limit || slots.bytes >= ask.bytes_max;
            if is_full || slots.looked_at >= ask.heads_max {
                break;
            }
            let (upto, keys) = match &mut recent {
                Some(recent) => {
                    let next = recent.range(slot..=last).next().map(|(slot, _)| *slot);
                    let upto = next.unwrap_or(last);
                    (upto, recent.remove(&upto).unwrap_or_default())
                }
                None => slots.next_slot(slot, last)?,
            };
            if upto > slot {
                feed.reached.push((slot..=upto - 1, to));
            }
            let reached = slots.one(&keys, &mut feed.changes)?;
            feed.reached.push((upto..=upto, reached));
            at = upto.checked_add(1);
        }
        if let Some(slot) = at.filter(|slot| *slot <= last) {
            feed.reached.push((slot..=last, ask.after));
        }
        feed.reached = merged(feed.reached);
        Ok(feed)
    }

    /// From now on it is noted which conversations are changed.
    fn note_recent(&self) {
        if !self.shard.recent.is_begun() {
            // Nothing is applied while this is held.
            let _core = self.shard.core.lock();
            self.shard.recent.begin(self.applied().revision);
        }
    }
}

/// Neighbours that are equally far, as one.
fn merged(reached: Vec<(RangeInclusive<u16>, u64)>) -> Vec<(RangeInclusive<u16>, u64)> {
    let mut merged: Vec<(RangeInclusive<u16>, u64)> = Vec::with_capacity(reached.len());
    for (slots, revision) in reached {
        match merged.last_mut() {
            Some((before, same)) if *same == revision => *before = *before.start()..=*slots.end(),
            _ => merged.push((slots, revision)),
        }
    }
    merged
}

/// The slots of a feed.
struct Slots<'r> {
    read: &'r dyn Read,
    ask: &'r Ask<'r>,
    to: u64,
    looked_at: usize,
    /// Of the messages told so far.
    bytes: usize,
}

impl Slots<'_> {
    /// The next slot from `from` on that has conversations, and these; the last slot when there is none.
    fn next_slot(&self, from: u16, last: u16) -> Result<(u16, Vec<ConversationKey>), Error> {
        let (start, end) = key::state::conversations(&(from..=last));
        let mut keys: Vec<ConversationKey> = Vec::new();
        let mut next = start;
        loop {
            let mut found = None;
            self.read
                .scan(&next, &end, Order::Ascending, &mut |key, _| {
                    found = key::state::parse(key).map(|named| named.conversation());
                    Ok(ControlFlow::Break(()))
                })?;
            let slot = keys.first().map(ConversationKey::slot);
            let Some(key) = found.filter(|key| slot.is_none_or(|slot| key.slot() == slot)) else {
                let slot = slot.unwrap_or(Slot(last));
                return Ok((slot.0, keys));
            };
            keys.push(key);
            next = key::state::conversation(&key).1;
        }
    }

    /// Adds what was changed in one slot; gives up to which revision that is all.
    fn one(&mut self, keys: &[ConversationKey], changes: &mut Vec<Fed>) -> Result<u64, Error> {
        let mut cut = self.to;
        let mut of_slot = Vec::new();
        for key in keys {
            self.looked_at += 1;
            let Some(head) = head_of(self.read, key)? else {
                let at = key::state::head(key);
                return Err(record::corrupt(&at, "it is missing".into()));
            };
            if head.revision > self.ask.after && (self.ask.belongs)(&head.name) {
                // Whatever a slot holds, all of it together is about one page.
                let part = (self.ask.limit / keys.len(), self.ask.bytes_max / keys.len());
                cut = cut.min(self.conversation(key, head, part, &mut of_slot)?);
            }
        }
        of_slot.retain(|one: &Fed| one.revision <= cut);
        of_slot.sort_by_key(|one| one.revision);
        self.bytes += of_slot.iter().map(Fed::bytes).sum::<usize>();
        changes.append(&mut of_slot);
        Ok(cut)
    }

    /// Adds what was changed in one conversation; gives up to which revision that is all.
    fn conversation(
        &self,
        key: &ConversationKey,
        head: Conversation,
        (limit, bytes_max): (usize, usize),
        changes: &mut Vec<Fed>,
    ) -> Result<u64, Error> {
        let after = self.ask.after;
        let (name, incarnation) = (head.name.clone(), head.incarnation);
        let (ttl_ms, hold) = (head.ttl_ms, head.hold);
        let fed = |revision, what| Fed {
            revision,
            name: name.clone(),
            incarnation,
            ttl_ms,
            hold,
            what,
        };
        if head.is_deleted() {
            changes.push(fed(head.revision, What::Deleted(Box::new(head))));
            return Ok(u64::MAX);
        }
        let created = (!head.request_id.is_empty()).then_some(head.create_revision);
        let set = created
            .max(Some(head.settings_revision))
            .filter(|at| *at > after);
        if let Some(revision) = set {
            changes.push(fed(revision, What::Settings(Box::new(head.clone()))));
        }
        if head.min_seq > 1 {
            changes.push(fed(head.revision, What::Trimmed(head.min_seq)));
        }
        let told = |stored: &Stored| stored.appended_at() <= after;
        let first_new = pages::first_not(self.read, key, &head, told)?;
        let wanted = Wanted {
            start_seq: first_new,
            order: Order::Ascending,
            limit: limit.max(1),
            bytes_max: bytes_max.max(1),
            reader: None,
            changed_after: Some(after),
        };
        let mut page = Page {
            messages: pages::messages(self.read, key, &head, &wanted)?,
            changed: Vec::new(),
            changed_to: head.revision,
            head,
        };
        let (head, last) = (&page.head, page.messages.last());
        // What was not read was appended later.
        let mut cut = match last.filter(|one| one.stored.seq < head.last_seq) {
            Some(last) => last.stored.appended_at(),
            None => u64::MAX,
        };
        if head.reaction_revision > 0 {
            pages::add_reactions(self.read, key, &mut page.messages, None)?;
        }
        if page.head.change_revision > after {
            pages::add_changes(self.read, key, &mut page, after, &wanted)?;
        }
        if page.changed_to < page.head.revision {
            cut = cut.min(page.changed_to);
        }
        // A message that was changed behind the cut is told then, as one that was changed.
        for shown in page.messages.into_iter().chain(page.changed) {
            changes.push(fed(shown.revision, What::Message(Box::new(shown))));
        }
        Ok(cut)
    }
}
