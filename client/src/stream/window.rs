//! The unanswered messages of a stream and what may be sent of them: no IO and no waiting in here.
//!
//! Invariant: of each conversation either nothing is in flight, or what is in flight is older than
//! everything of it that waits. A lane is in exactly one of: in flight, ready, delayed.

#![allow(
    clippy::disallowed_types,
    reason = "a hash map that is only looked up, never walked: its order is not seen"
)]

mod entry;
mod lane;
mod setbacks;

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use proto::v1;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::Code;

use self::entry::{Entry, SLOT_BITS, entry, slot_of, timed};
use self::lane::Lane;
use super::Outcome;
use crate::error::{Error, Refusal};
use crate::message::Appended;
use crate::options::{BACKOFF_MAX, BACKOFF_MIN, RETRY_AFTER_MAX};

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

#[cfg(test)]
mod tests;
