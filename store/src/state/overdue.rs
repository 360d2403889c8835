//! What of a shard has expired and is to be removed by a command, and where a time lies in a conversation.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use model::command::Due;
use model::id::{ConversationKey, ConversationName};
use model::limits::EXPIRE_MAX;
use model::state::{Conversation, Expiring, Stored};

use super::overlay::head_of;
use super::pages;
use super::record;
use super::shard::ShardState;
use crate::engine::{Order, Read};
use crate::key::state::Named;
use crate::{Error, key};

/// A conversation of which something has expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overdue {
    /// The whole name.
    pub name: String,
    /// Messages that expire by a time of their own and are still there.
    pub due: Vec<Due>,
    /// Whether its first message has expired.
    pub prefix: bool,
    /// How long its tenant has messages live, milliseconds, as it was said; 0 = it does not say.
    pub tenant_ttl_ms: u64,
}

/// What one look at a shard's conversations found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// What has expired, in the order of keys.
    pub overdue: Vec<Overdue>,
    /// Where to look next; none behind the last.
    pub next: Option<ConversationKey>,
}

/// What would have expired at a time, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forecast {
    /// Conversations of which something would have.
    pub conversations: u64,
    /// Messages.
    pub messages: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// Conversations that a legal hold keeps.
    pub held: u64,
}

/// Another time to live for one conversation, to see what it would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhatIf {
    /// The conversation.
    pub name: ConversationName,
    /// Milliseconds; 0 = none.
    pub ttl_ms: u64,
}

impl ShardState {
    /// What would have expired at a time, Unix milliseconds, of all conversations, or of one with another time to
    /// live. It reads what would go.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a record cannot be read back.
    pub fn forecast(&self, at_ms: u64, what_if: Option<&WhatIf>) -> Result<Forecast, Error> {
        self.noted(self.foresee(at_ms, what_if))
    }

    fn foresee(&self, at_ms: u64, what_if: Option<&WhatIf>) -> Result<Forecast, Error> {
        let snapshot = self.point_of(&self.shard.serving.read());
        let read: &dyn Read = &*snapshot;
        let mut keys = Vec::new();
        match what_if {
            Some(one) => keys.push(one.name.key()),
            None => {
                let first = ConversationKey([0; 16]);
                let (from, to) = key::state::expirings(self.shard.id, &first);
                read.scan(&from, &to, Order::Ascending, &mut |found, _| {
                    keys.extend(key::state::parse_expiring(found));
                    Ok(ControlFlow::Continue(()))
                })?;
            }
        }
        let mut forecast = Forecast::default();
        for key in keys {
            let Some(mut head) = head_of(read, &key)? else {
                continue;
            };
            if head.is_deleted() || what_if.is_some_and(|one| head.name != one.name.as_str()) {
                continue;
            }
            head.ttl_ms = what_if.map_or(head.ttl_ms, |one| one.ttl_ms);
            forecast.held += u64::from(head.hold);
            let before = forecast.messages;
            add_expired(read, &key, &head, at_ms, &mut forecast)?;
            forecast.conversations += u64::from(forecast.messages > before);
        }
        Ok(forecast)
    }

    /// Whether [`ShardState::overdue`] may find any, at whatever time; costs no look at the disk.
    pub fn may_expire(&self) -> bool {
        self.shard.expires.load(Ordering::SeqCst)
    }

    /// What has expired at a command time, Unix milliseconds, in `limit` of the conversations that are noted
    /// for that, from this key on. What a hold keeps is left out. `ttl_of` says how long the tenant of a
    /// conversation of this name has messages live, milliseconds; 0 = it does not say.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a record cannot be read back.
    pub fn overdue(
        &self,
        from: &ConversationKey,
        now_ms: u64,
        limit: usize,
        ttl_of: impl Fn(&str) -> u64,
    ) -> Result<Look, Error> {
        self.noted(self.look_for_overdue(from, now_ms, limit, ttl_of))
    }

    /// The same of any conversations whose tenant says how long messages live: none of them is noted, so that
    /// heads are looked at one after the other.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a record cannot be read back.
    pub fn overdue_by_tenant(
        &self,
        from: &ConversationKey,
        now_ms: u64,
        limit: usize,
        ttl_of: impl Fn(&str) -> u64,
    ) -> Result<Look, Error> {
        let mut heads = Vec::new();
        let next = self.heads(from, limit, |head| {
            if !head.hold && !head.is_deleted() && head.min_seq <= head.last_seq {
                let ttl_ms = ttl_of(&head.name);
                heads.extend((ttl_ms > 0).then_some((head, ttl_ms)));
            }
            true
        })?;
        let snapshot = self.point_of(&self.shard.serving.read());
        let mut overdue = Vec::new();
        for (head, ttl_ms) in heads {
            let Ok(name) = ConversationName::parse(&head.name) else {
                continue;
            };
            let found = overdue_of(&*snapshot, &name.key(), &head, now_ms, ttl_ms);
            overdue.extend(self.noted(found)?);
        }
        Ok(Look { overdue, next })
    }

    fn look_for_overdue(
        &self,
        from: &ConversationKey,
        now_ms: u64,
        limit: usize,
        ttl_of: impl Fn(&str) -> u64,
    ) -> Result<Look, Error> {
        let first = ConversationKey([0; 16]);
        if *from == first {
            // One that is noted meanwhile sets it again.
            self.shard.expires.store(false, Ordering::SeqCst);
        }
        let (start, end) = key::state::expirings(self.shard.id, from);
        let serving = self.shard.serving.read();
        let read = self.source(&serving);
        let mut noted = Vec::new();
        read.scan(&start, &end, Order::Ascending, &mut |found, value| {
            let strange = || record::corrupt(found, "it is no note of what may expire".into());
            let _: Expiring = record::decode(found, Bytes::copy_from_slice(value))?;
            noted.push(key::state::parse_expiring(found).ok_or_else(strange)?);
            Ok(match noted.len() > limit {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            })
        })?;
        if !noted.is_empty() || *from != first {
            self.shard.expires.store(true, Ordering::SeqCst);
        }
        let next = noted.get(limit).copied();
        noted.truncate(limit);
        let mut overdue = Vec::new();
        for key in noted {
            let Some(head) = self.head(&serving, &key)? else {
                continue;
            };
            if !head.hold && !head.is_deleted() {
                let ttl_ms = ttl_of(&head.name);
                overdue.extend(overdue_of(read, &key, &head, now_ms, ttl_ms)?);
            }
        }
        Ok(Look { overdue, next })
    }

    /// The first message of a conversation that was appended at this time or later, Unix milliseconds; the
    /// number behind the last when there is none. None when there is no such conversation.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a message cannot be read back, or is missing.
    pub fn first_since(&self, name: &ConversationName, ms: i64) -> Result<Option<u64>, Error> {
        let before = |stored: &Stored| {
            i64::try_from(stored.create_time_ms).is_ok_and(|created| created < ms)
        };
        self.first_not(name, before)
    }

    /// The first message of a conversation that was appended behind this revision, else as
    /// [`ShardState::first_since`].
    ///
    /// # Errors
    /// As [`ShardState::first_since`].
    pub fn first_behind(
        &self,
        name: &ConversationName,
        revision: u64,
    ) -> Result<Option<u64>, Error> {
        self.first_not(name, |stored| stored.appended_at() <= revision)
    }

    /// The first message that is not `before`, which all are up to some message and none from there on.
    fn first_not(
        &self,
        name: &ConversationName,
        before: impl Fn(&Stored) -> bool,
    ) -> Result<Option<u64>, Error> {
        let (key, snapshot) = (name.key(), self.point_of(&self.shard.serving.read()));
        let found = head_of(&*snapshot, &key).and_then(|head| {
            let own = |head: &Conversation| head.name == name.as_str() && !head.is_deleted();
            let head = head.filter(own);
            head.map(|head| pages::first_not(&*snapshot, &key, &head, before))
                .transpose()
        });
        self.noted(found)
    }
}

/// Adds what of one conversation would have expired.
fn add_expired(
    read: &dyn Read,
    key: &ConversationKey,
    head: &Conversation,
    at_ms: u64,
    forecast: &mut Forecast,
) -> Result<(), Error> {
    let past = |stored: &Stored| head.expires_at(stored, 0).is_some_and(|ms| ms <= at_ms);
    let mut next = head.min_seq.max(1);
    let (from, to) = key::state::messages(key, next, head.last_seq);
    read.scan(&from, &to, Order::Ascending, &mut |found, value| {
        let stored: Stored = record::decode(found, Bytes::copy_from_slice(value))?;
        if !past(&stored) && (stored.expired_ms.is_none() || head.hold) {
            return Ok(ControlFlow::Break(()));
        }
        next = stored.seq + 1;
        forecast.messages += 1;
        forecast.bytes += value.len() as u64;
        Ok(ControlFlow::Continue(()))
    })?;
    // Behind the first that lives only those with a time of their own.
    let (from, to) = key::state::expiries(key, at_ms);
    let mut own = Vec::new();
    read.scan(&from, &to, Order::Ascending, &mut |found, _| {
        if let Some(Named::Expiry(_, _, seq)) = key::state::parse(found)
            && seq >= next
            && !head.hold
        {
            own.push(seq);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    for seq in own {
        let at = key::state::message(key, seq);
        if let Some(value) = read.get(&at)? {
            forecast.bytes += value.len() as u64;
            let stored: Stored = record::decode(&at, value)?;
            forecast.messages += u64::from(!stored.is_tombstone());
        }
    }
    Ok(())
}

/// What of one conversation has expired.
fn overdue_of(
    read: &dyn Read,
    key: &ConversationKey,
    head: &Conversation,
    now_ms: u64,
    tenant_ttl_ms: u64,
) -> Result<Option<Overdue>, Error> {
    let (from, to) = key::state::expiries(key, now_ms);
    let mut due = Vec::new();
    read.scan(&from, &to, Order::Ascending, &mut |found, _| {
        let Some(Named::Expiry(_, at_ms, seq)) = key::state::parse(found) else {
            return Err(record::corrupt(found, "it is no note of an expiry".into()));
        };
        due.push(Due { at_ms, seq });
        Ok(match due.len() < EXPIRE_MAX / 2 {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        })
    })?;
    let at = key::state::message(key, head.min_seq.max(1));
    let first = match read.get(&at)? {
        Some(value) => Some(record::decode::<Stored>(&at, value)?),
        None => None,
    };
    let prefix = first.is_some_and(|first| {
        let past = |at_ms: u64| at_ms <= now_ms;
        let at_ms = head.expires_at(&first, tenant_ttl_ms);
        first.expired_ms.is_some() || at_ms.is_some_and(past)
    });
    Ok((prefix || !due.is_empty()).then(|| Overdue {
        name: head.name.clone(),
        due,
        prefix,
        tenant_ttl_ms,
    }))
}
