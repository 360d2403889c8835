//! What goes back into the window, or ends in it: broken streams, deadlines, refusals.

use tokio::time::Instant;

use super::Window;
use super::entry::{Entry, entry};
use crate::error::{Error, Refusal};

impl Window {
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
    pub(super) fn fail_behind(&mut self, at: usize, id: u64) -> usize {
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
}
