//! The unanswered messages of a stream and what may be sent of them: no IO and no waiting in here.
//!
//! Invariant: of each conversation either nothing is in flight, or what is in flight is older than
//! everything of it that waits. A lane is in exactly one of: in flight, ready, delayed.

#![allow(
    clippy::disallowed_types,
    reason = "a hash map that is only looked up, never walked: its order is not seen"
)]

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::mutant;
use prost::Message;
use proto::v1;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::Code;

use super::Outcome;
use crate::error::{Error, Refusal};
use crate::message::Appended;
use crate::options::{BACKOFF_MAX, BACKOFF_MIN, RETRY_AFTER_MAX};

/// Bits of a correlation id that say in which slot the entry is; the rest counts.
const SLOT_BITS: u32 = 16;

const _: () = assert!(model::limits::STREAM_UNANSWERED_MAX <= 1 << SLOT_BITS);

struct Entry {
    id: u64,
    lane: usize,
    /// The encoded `AppendItem`.
    item: Bytes,
    started: Instant,
    deadline: Instant,
    /// When it was last sent.
    sent_at: Instant,
    /// On which stream.
    stream: u64,
    attempts: u32,
    last: Option<Refusal>,
    answer: oneshot::Sender<Outcome>,
}

/// One conversation with unanswered messages. Ids grow in the order of enqueueing.
struct Lane {
    parent: Arc<str>,
    waiting: VecDeque<u64>,
    in_flight: VecDeque<u64>,
    /// Refused for now; sent again once nothing is in flight.
    failed: Vec<u64>,
    /// Refusals in a row.
    refused: u32,
    delayed_until: Option<Instant>,
}

#[derive(Default)]
pub(crate) struct Window {
    slots: Vec<Option<Entry>>,
    free: Vec<usize>,
    lanes: Vec<Option<Lane>>,
    lanes_free: Vec<usize>,
    by_parent: HashMap<Arc<str>, usize, BuildHasherDefault<DefaultHasher>>,
    ready: VecDeque<usize>,
    delayed: BTreeSet<(Instant, usize)>,
    count: u64,
    in_flight: usize,
}

/// What goes into one frame.
#[derive(Default)]
pub(crate) struct Taken {
    pub(crate) items: Vec<Bytes>,
    /// How many of them had been sent before.
    pub(crate) again: usize,
}

/// What the results of one frame were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) acked: usize,
    pub(crate) deduplicated: usize,
    pub(crate) failed: usize,
    /// Refused because this node cannot reach a quorum: another may.
    pub(crate) unavailable: usize,
}

impl Summary {
    /// Places in the window that became free.
    pub(crate) fn freed(&self) -> usize {
        self.acked + self.failed
    }
}

impl Window {
    pub(crate) fn new() -> Window {
        Window::default()
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a message in, for a conversation and with its fence token, if it has one; true when it may go out at once.
    pub(crate) fn push(
        &mut self,
        (parent, fence_token): (&str, String),
        message: v1::Message,
        started: Instant,
        deadline: Duration,
        answer: oneshot::Sender<Outcome>,
    ) -> bool {
        let lane = self.lane(parent);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.count += 1;
        let id = self.count << SLOT_BITS | slot as u64;
        let item = v1::AppendItem {
            correlation_id: id,
            parent: parent.to_owned(),
            message: Some(message),
            timeout_ms: u32::try_from(deadline.as_millis())
                .unwrap_or(u32::MAX)
                .max(1),
            fence_token,
        };
        self.slots[slot] = Some(Entry {
            id,
            lane,
            item: Bytes::from(item.encode_to_vec()),
            started,
            deadline: started + deadline,
            sent_at: started,
            stream: 0,
            attempts: 0,
            last: None,
            answer,
        });
        #[allow(clippy::expect_used, reason = "the lane was found or made above")]
        let state = self.lanes[lane]
            .as_mut()
            .expect("a lane that was just found");
        state.waiting.push_back(id);
        let fresh = state.waiting.len() == 1
            && state.in_flight.is_empty()
            && state.failed.is_empty()
            && state.delayed_until.is_none();
        if fresh {
            self.ready.push_back(lane);
        }
        fresh
    }

    fn lane(&mut self, parent: &str) -> usize {
        if let Some(lane) = self.by_parent.get(parent) {
            return *lane;
        }
        let parent: Arc<str> = parent.into();
        let lane = Lane {
            parent: parent.clone(),
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            failed: Vec::new(),
            refused: 0,
            delayed_until: None,
        };
        let at = match self.lanes_free.pop() {
            Some(at) => {
                self.lanes[at] = Some(lane);
                at
            }
            None => {
                self.lanes.push(Some(lane));
                self.lanes.len() - 1
            }
        };
        self.by_parent.insert(parent, at);
        at
    }

    /// The next frame of `stream`: all that may go out, up to `items_max` items and past `bytes` no
    /// more.
    pub(crate) fn take(
        &mut self,
        stream: u64,
        now: Instant,
        items_max: usize,
        bytes: usize,
    ) -> Taken {
        let mut taken = Taken::default();
        let mut size = 0;
        while taken.items.len() < items_max && size < bytes {
            let Some(at) = self.ready.pop_front() else {
                break;
            };
            let Some(lane) = self.lanes[at].as_mut() else {
                continue;
            };
            while taken.items.len() < items_max && size < bytes {
                let Some(id) = lane.waiting.pop_front() else {
                    break;
                };
                let Some(entry) = entry(&mut self.slots, id) else {
                    continue;
                };
                let item = timed(entry, now);
                size += item.len();
                taken.again += usize::from(entry.attempts > 0);
                taken.items.push(item);
                entry.attempts += 1;
                entry.sent_at = now;
                entry.stream = stream;
                lane.in_flight.push_back(id);
                self.in_flight += 1;
            }
            // Everything that waited here may have expired.
            if lane.in_flight.is_empty() && lane.waiting.is_empty() {
                self.drop_lane(at);
            }
        }
        taken
    }

    /// Takes in the results of one frame.
    pub(crate) fn answer(&mut self, results: Vec<v1::AppendResult>, now: Instant) -> Summary {
        use v1::append_result::Outcome as Wire;
        let mut summary = Summary::default();
        for result in results {
            let id = result.correlation_id;
            let Some(entry) = entry(&mut self.slots, id) else {
                continue;
            };
            let at = entry.lane;
            if !self.land(at, id) {
                continue;
            }
            match result.outcome {
                Some(Wire::Appended(appended)) => {
                    summary.acked += 1;
                    summary.deduplicated += usize::from(appended.deduplicated);
                    if let Some(lane) = self.lanes[at].as_mut() {
                        lane.refused = 0;
                    }
                    self.resolve(id, |entry| {
                        Ok(Appended {
                            seq: appended.seq,
                            revision: appended.revision,
                            create_time_ms: appended.create_time_ms,
                            deduplicated: appended.deduplicated,
                            acked_at: now,
                            latency: now - entry.started,
                            attempts: entry.attempts,
                        })
                    });
                }
                Some(Wire::Error(error)) => {
                    let refusal = Refusal::from_item(error);
                    if refusal.retryable() {
                        summary.unavailable += usize::from(refusal.code == Code::Unavailable);
                        self.refused(at, id, refusal);
                    } else {
                        // It may have been done or not, and may yet be: nothing may overtake it.
                        let open = refusal.code == Code::Internal;
                        summary.failed += 1;
                        self.resolve(id, |entry| {
                            let mut refusal = refusal;
                            refusal.outcome_unknown = entry.attempts > 1 && !refusal.settles();
                            Err(Error::Refused(refusal))
                        });
                        if open {
                            summary.failed += self.fail_behind(at, id);
                        }
                    }
                }
                None => {
                    let mut refusal = Refusal::silent(now - self.sent_at(id, now));
                    refusal.message = "the answer was empty".to_owned();
                    self.refused(at, id, refusal);
                }
            }
            self.settle(at, now);
        }
        summary
    }

    fn sent_at(&mut self, id: u64, now: Instant) -> Instant {
        entry(&mut self.slots, id).map_or(now, |entry| entry.sent_at)
    }

    /// Takes `id` off what is in flight; false when it was not.
    fn land(&mut self, at: usize, id: u64) -> bool {
        let Some(lane) = self.lanes[at].as_mut() else {
            return false;
        };
        // Answers come in order, so it is nearly always the first.
        let Some(position) = lane.in_flight.iter().position(|one| *one == id) else {
            return false;
        };
        lane.in_flight.remove(position);
        self.in_flight -= 1;
        true
    }

    fn refused(&mut self, at: usize, id: u64, refusal: Refusal) {
        if let Some(lane) = self.lanes[at].as_mut() {
            lane.failed.push(id);
        }
        if let Some(entry) = entry(&mut self.slots, id) {
            entry.last = Some(refusal);
        }
    }

    fn resolve(&mut self, id: u64, outcome: impl FnOnce(&Entry) -> Outcome) {
        let slot = slot_of(id);
        if let Some(entry) = self.slots.get_mut(slot).and_then(Option::take) {
            self.free.push(slot);
            let outcome = outcome(&entry);
            // The caller may have stopped listening.
            let _ = entry.answer.send(outcome);
        }
    }

    /// Brings a lane with nothing in flight to where it belongs: delayed, ready or gone.
    fn settle(&mut self, at: usize, now: Instant) {
        let Some(lane) = self.lanes[at].as_mut() else {
            return;
        };
        if !lane.in_flight.is_empty() {
            return;
        }
        if !lane.failed.is_empty() {
            let hint = lane
                .failed
                .iter()
                .filter_map(|id| entry(&mut self.slots, *id)?.last.as_ref()?.retry_after)
                .max()
                .unwrap_or_default();
            let wait = (BACKOFF_MIN * 2_u32.saturating_pow(lane.refused.min(16))).min(BACKOFF_MAX);
            lane.refused += 1;
            lane.recall();
            let until = now + wait.max(hint.min(RETRY_AFTER_MAX));
            lane.delayed_until = Some(until);
            self.delayed.insert((until, at));
        } else if lane.delayed_until.is_some() {
        } else if !lane.waiting.is_empty() {
            self.ready.push_back(at);
        } else {
            self.drop_lane(at);
        }
    }

    fn drop_lane(&mut self, at: usize) {
        if let Some(lane) = self.lanes[at].take() {
            self.by_parent.remove(&lane.parent);
            self.lanes_free.push(at);
        }
    }

    /// Makes what is in flight on `stream` wait again, in the order of enqueueing: that one broke, and
    /// another has taken over. True when there was any.
    pub(crate) fn rewind_one(&mut self, stream: u64) -> bool {
        let mut order: Vec<(u64, usize)> = Vec::new();
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            let Some(lane) = lane else { continue };
            // All that a conversation has in flight went out together.
            let first = lane.in_flight.front();
            let first = first.and_then(|id| entry(&mut self.slots, *id));
            if first.is_some_and(|entry| entry.stream == stream) {
                self.in_flight -= lane.in_flight.len();
                lane.recall();
                order.extend(lane.waiting.front().map(|first| (*first, at)));
            }
        }
        order.sort_unstable();
        self.ready.extend(order.iter().map(|(_, at)| at));
        !order.is_empty()
    }

    /// Makes everything unanswered wait again, in the order of enqueueing: the stream broke.
    pub(crate) fn rewind(&mut self) {
        self.ready.clear();
        self.delayed.clear();
        self.in_flight = 0;
        let mut order: Vec<(u64, usize)> = Vec::new();
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            let Some(lane) = lane else { continue };
            lane.recall();
            lane.delayed_until = None;
            if let Some(first) = lane.waiting.front() {
                order.push((*first, at));
            }
        }
        order.sort_unstable();
        self.ready.extend(order.into_iter().map(|(_, at)| at));
    }

    /// Ends what was enqueued behind `id` in its conversation: with the outcome of that unknown,
    /// whatever came behind it might come before it. Gives how many.
    fn fail_behind(&mut self, at: usize, id: u64) -> usize {
        let Some(lane) = self.lanes[at].as_mut() else {
            return 0;
        };
        let flying = lane.in_flight.len();
        let mut behind: Vec<u64> = Vec::new();
        let mut keep = |one: &u64| {
            let before = *one <= id;
            if !before {
                behind.push(*one);
            }
            before
        };
        lane.in_flight.retain(&mut keep);
        lane.failed.retain(&mut keep);
        lane.waiting.retain(&mut keep);
        self.in_flight -= flying - lane.in_flight.len();
        behind.sort_unstable();
        for one in &behind {
            self.resolve(*one, |entry| {
                Err(Error::Refused(Refusal::predecessor(entry.attempts > 0)))
            });
        }
        behind.len()
    }

    /// Ends everything whose deadline has passed; gives how many.
    pub(crate) fn expire(&mut self, now: Instant) -> usize {
        let mut late: Vec<u64> = self
            .slots
            .iter()
            .flatten()
            .filter(|entry| entry.deadline <= now)
            .map(|entry| entry.id)
            .collect();
        // In the order of enqueueing.
        late.sort_unstable();
        let mut ended = 0;
        for id in &late {
            let Some(Entry { lane, attempts, .. }) = entry(&mut self.slots, *id) else {
                continue;
            };
            let (at, sent) = (*lane, *attempts > 0);
            let Some(lane) = self.lanes[at].as_mut() else {
                continue;
            };
            if let Some(position) = lane.in_flight.iter().position(|one| one == id) {
                lane.in_flight.remove(position);
                self.in_flight -= 1;
            }
            lane.waiting.retain(|one| one != id);
            lane.failed.retain(|one| one != id);
            self.resolve(*id, |entry| {
                Err(Error::Deadline {
                    outcome_unknown: entry.attempts > 0,
                    attempts: entry.attempts,
                    last: entry.last.clone().map(Box::new),
                })
            });
            ended += 1;
            if sent {
                ended += self.fail_behind(at, *id);
            }
            let Some(lane) = self.lanes[at].as_ref() else {
                continue;
            };
            // A lane that is ready or delayed stays where it is, even when it is empty now.
            let placed = lane.delayed_until.is_some() || self.ready.contains(&at);
            if !placed {
                self.settle(at, now);
            }
        }
        ended
    }

    /// Ends everything in flight with one error: the whole stream was refused for good.
    pub(crate) fn refuse_in_flight(&mut self, refusal: &Refusal, now: Instant) -> usize {
        let mut ids: Vec<u64> = Vec::new();
        let mut emptied: Vec<usize> = Vec::new();
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            let Some(lane) = lane else { continue };
            if !lane.in_flight.is_empty() {
                ids.extend(lane.in_flight.drain(..).chain(lane.failed.drain(..)));
                emptied.push(at);
            }
        }
        self.in_flight = 0;
        ids.sort_unstable();
        for id in &ids {
            let mut refusal = refusal.clone();
            refusal.outcome_unknown = true;
            self.resolve(*id, |_| Err(Error::Refused(refusal)));
        }
        for at in emptied {
            self.settle(at, now);
        }
        ids.len()
    }

    /// Makes delayed lanes ready whose time has come; true when there were any.
    pub(crate) fn wake(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some((until, at)) = self.delayed.first().copied() {
            if until > now {
                break;
            }
            self.delayed.pop_first();
            if let Some(lane) = self.lanes[at].as_mut() {
                lane.delayed_until = None;
                if lane.waiting.is_empty() {
                    self.drop_lane(at);
                } else {
                    self.ready.push_back(at);
                    any = true;
                }
            }
        }
        any
    }

    /// When the first delayed lane becomes ready.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.delayed.first().map(|(until, _)| *until)
    }

    /// When the message that has been in flight longest over `stream` was sent.
    pub(crate) fn oldest_in_flight(&self, stream: u64) -> Option<Instant> {
        if self.in_flight == 0 {
            return None;
        }
        self.lanes
            .iter()
            .flatten()
            .filter_map(|lane| self.slots[slot_of(*lane.in_flight.front()?)].as_ref())
            .filter(|entry| entry.stream == stream)
            .map(|entry| entry.sent_at)
            .min()
    }
}

impl Lane {
    /// Puts what is in flight or refused back in front of what waits, in order.
    fn recall(&mut self) {
        if self.in_flight.is_empty() && self.failed.is_empty() {
            return;
        }
        let mut back: Vec<u64> = self
            .in_flight
            .drain(..)
            .chain(self.failed.drain(..))
            .collect();
        back.sort_unstable();
        if mutant!("stream-resend-out-of-order") {
            back.reverse();
        }
        for id in back.into_iter().rev() {
            self.waiting.push_front(id);
        }
    }
}

fn slot_of(id: u64) -> usize {
    (id & ((1 << SLOT_BITS) - 1)) as usize
}

fn entry(slots: &mut [Option<Entry>], id: u64) -> Option<&mut Entry> {
    slots
        .get_mut(slot_of(id))?
        .as_mut()
        .filter(|entry| entry.id == id)
}

/// The item, with what is left of its time when much of it is gone: of a field that is there twice,
/// the last counts.
fn timed(entry: &Entry, now: Instant) -> Bytes {
    const WORTH_TELLING: Duration = Duration::from_millis(100);
    if mutant!("client-retry-with-a-new-id") && entry.attempts > 0 {
        return renamed(entry);
    }
    if now - entry.started < WORTH_TELLING {
        return entry.item.clone();
    }
    let left = entry.deadline.saturating_duration_since(now).as_millis();
    let mut item = entry.item.to_vec();
    let timeout_ms = u32::try_from(left).unwrap_or(u32::MAX).max(1);
    item.extend(
        v1::AppendItem {
            timeout_ms,
            ..v1::AppendItem::default()
        }
        .encode_to_vec(),
    );
    Bytes::from(item)
}

/// What a mutant sends again: the same message under another id. Of a message that is there twice,
/// the fields are merged.
fn renamed(entry: &Entry) -> Bytes {
    let message = v1::Message {
        client_message_id: format!("{}-{}", entry.id, entry.attempts),
        ..v1::Message::default()
    };
    let other = v1::AppendItem {
        message: Some(message),
        ..v1::AppendItem::default()
    };
    Bytes::from([&entry.item[..], &other.encode_to_vec()].concat())
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
