//! The order of one AppendStream, without IO: items in, commands out; outcomes in, answers out.
//!
//! Each conversation has a lane with at most one command in flight. Items that come meanwhile wait
//! and leave together as the next command. So the order within a conversation holds through any
//! retry and failover (promise O as a sender sees it), and a slow conversation holds up no other.
//!
//! A lane's deadlines never decrease: an item is answered after those before it, so it lives at
//! least as long. A command lives until the deadline of its first item. When a command fails, all
//! its items get that failure, since all of them may have been done, or none; those still waiting
//! behind it were not tried and get PREDECESSOR_FAILED. An item that is invalid, or that a rule
//! refuses, fails alone.

#![allow(
    clippy::disallowed_types,
    reason = "a hash map that is only looked up, never walked: its order is not seen"
)]

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::cluster::access::Role;
use model::command::{Answer, Append, AppendWith, NewMessage, Reply};
use model::id::{ConversationName, Slot};
use model::limits;
use proto::v1;
use tokio::time::Instant;
use v1::append_result::Outcome;

use crate::access::Caller;
use crate::check::{self, At, Checker};
use crate::convert;
use crate::deadline::{self, Deadline};
use crate::error::Failure;
use crate::sight::traffic::{Appending, Tenant, Traffic, Way};

/// Bytes of one command; two fit into a Raft entry.
const COMMAND_BYTES_MAX: usize = limits::ENTRY_BYTES_MAX / 2;
/// Bytes of unanswered items; reading from the stream waits above that.
const UNANSWERED_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Lanes kept, idle ones among them, so that a name is parsed and hashed once and not per item.
const LANES_KEPT_MAX: usize = 2 * limits::STREAM_UNANSWERED_MAX;

/// A command to send now.
#[derive(Debug)]
pub struct Dispatch {
    /// To be given back with the outcome.
    pub lane: usize,
    /// Its conversation.
    pub name: ConversationName,
    /// Where it goes.
    pub slot: Slot,
    /// An encoded `model::command::Command`.
    pub command: Bytes,
    /// How long it may be tried.
    pub deadline: Deadline,
}

/// All conversations of one stream.
#[derive(Debug)]
pub struct Lanes {
    by_name: HashMap<String, usize>,
    lanes: Vec<Option<Lane>>,
    free: Vec<usize>,
    ready: VecDeque<usize>,
    answers: Vec<v1::AppendResult>,
    unanswered: usize,
    unanswered_bytes: usize,
    body_bytes_max: usize,
    /// Whether the stream is of an import.
    imports: bool,
    traffic: Traffic,
    caller: Caller,
}

#[derive(Debug)]
struct Lane {
    name: ConversationName,
    slot: Slot,
    tenant: Arc<Tenant>,
    /// Since when the first of those that wait does.
    since: Instant,
    /// What is in flight, for the counters.
    appending: Option<Appending>,
    waiting: VecDeque<Waiting>,
    in_flight: Vec<InFlight>,
    busy: bool,
    deadline: Option<Deadline>,
}

#[derive(Debug)]
struct Waiting {
    correlation_id: u64,
    bytes: usize,
    deadline: Deadline,
    fence_token: String,
    given: Result<NewMessage, Box<v1::ItemError>>,
}

/// What goes into one command.
struct Packed {
    messages: Vec<NewMessage>,
    fence_token: String,
    /// Of the first.
    deadline: Option<Deadline>,
}

#[derive(Debug)]
struct InFlight {
    correlation_id: u64,
    bytes: usize,
    /// Set for an invalid item that waits for its turn to be answered.
    invalid: Option<Box<v1::ItemError>>,
}

impl Lanes {
    /// With the bound on bodies that the node is configured with, bytes. What becomes of the items is
    /// counted in `traffic`.
    pub fn new(body_bytes_max: usize, imports: bool, traffic: Traffic, caller: Caller) -> Lanes {
        Lanes {
            by_name: HashMap::new(),
            lanes: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            answers: Vec::new(),
            unanswered: 0,
            unanswered_bytes: 0,
            body_bytes_max,
            imports,
            traffic,
            caller,
        }
    }

    /// Whether one more frame may be read.
    pub fn has_room(&self) -> bool {
        self.unanswered + limits::STREAM_FRAME_ITEMS_MAX <= limits::STREAM_UNANSWERED_MAX
            && self.unanswered_bytes < UNANSWERED_BYTES_MAX
    }

    /// Bytes of the items that are not answered.
    pub fn unanswered_bytes(&self) -> usize {
        self.unanswered_bytes
    }

    /// Whether every item has been answered.
    pub fn is_idle(&self) -> bool {
        self.unanswered == 0
    }

    /// The answers that are ready, in order within each conversation.
    pub fn take_answers(&mut self) -> Vec<v1::AppendResult> {
        std::mem::take(&mut self.answers)
    }

    /// The conversation that an item names, if its caller may see it.
    fn named(&self, parent: &str) -> Result<ConversationName, Failure> {
        self.caller.needs(Role::Writer)?;
        let mut checker = Checker::new(&self.caller, self.body_bytes_max);
        let name = checker.conversation("parent", parent);
        checker.or(name)
    }

    /// Takes an item in.
    pub fn accept(&mut self, item: v1::AppendItem) {
        let index = match self.by_name.get(item.parent.as_str()) {
            Some(index) => *index,
            None => match self.named(&item.parent) {
                Ok(name) => self.open(name),
                Err(failure) => {
                    self.answers
                        .push(failed(item.correlation_id, failure.to_item()));
                    return;
                }
            },
        };
        let mut checker = Checker::new(&self.caller, self.body_bytes_max).imports(self.imports);
        checker.message(At("message", None), item.message.as_ref());
        checker.fence_token("fence_token", &item.fence_token);
        let bytes = item.message.as_ref().map_or(0, check::size);
        let given = match checker.finish() {
            Ok(()) => Ok(convert::new_message(item.message.unwrap_or_default())),
            Err(failure) => Err(Box::new(failure.to_item())),
        };
        let own = Deadline::after(match item.timeout_ms {
            0 => deadline::DEFAULT,
            ms => Duration::from_millis(u64::from(ms)).min(deadline::MAX),
        });
        let Some(lane) = self.lanes.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        let deadline = lane.deadline.map_or(own, |before| own.max(before));
        lane.deadline = Some(deadline);
        if lane.waiting.is_empty() {
            lane.since = Instant::now();
            if !lane.busy {
                self.ready.push_back(index);
            }
        }
        // An invalid item's content is gone already.
        let bytes = if given.is_ok() { bytes } else { 0 };
        lane.waiting.push_back(Waiting {
            correlation_id: item.correlation_id,
            bytes,
            deadline,
            fence_token: item.fence_token,
            given,
        });
        self.unanswered += 1;
        self.unanswered_bytes += bytes;
    }

    /// The next command to send, if a conversation has one waiting and none in flight.
    pub fn next_command(&mut self) -> Option<Dispatch> {
        while let Some(index) = self.ready.pop_front() {
            let Some(lane) = self.lanes.get_mut(index).and_then(Option::as_mut) else {
                continue;
            };
            let Packed {
                messages,
                fence_token,
                deadline,
            } = lane.pack();
            if let (Some(deadline), false) = (deadline, messages.is_empty()) {
                lane.busy = true;
                let (tenant, since) = (lane.tenant.clone(), lane.since);
                let appending = self.traffic.append(tenant, lane.slot, Way::Stream, since);
                lane.appending = Some(appending);
                // What did not fit waits for the next.
                lane.since = Instant::now();
                let append = Append {
                    conversation: lane.name.as_str().to_owned(),
                    messages,
                    ..Append::default()
                };
                let command = convert::append_with(AppendWith {
                    append: Some(append),
                    fence_token: Bytes::from(fence_token),
                    ..AppendWith::default()
                });
                return Some(Dispatch {
                    lane: index,
                    name: lane.name.clone(),
                    slot: lane.slot,
                    command,
                    deadline,
                });
            }
            // Only invalid ones: they can be answered, and more of them may wait.
            self.settle(index, |_| None);
        }
        None
    }

    /// Takes in what became of a lane's command.
    pub fn finish(&mut self, index: usize, outcome: Result<Reply, Failure>) {
        self.count(index, &outcome);
        let failure = match outcome {
            Ok(Reply {
                answer: Some(Answer::Appended(appended)),
            }) => {
                let mut outcomes = appended.outcomes.into_iter();
                self.settle(index, |_| {
                    let outcome = outcomes.next()?;
                    Some(match outcome.refusal {
                        Some(refusal) => Outcome::Error(Failure::Refused(refusal).to_item()),
                        None => Outcome::Appended(v1::Appended {
                            seq: outcome.seq,
                            revision: outcome.revision,
                            create_time_ms: i64::try_from(outcome.create_time_ms)
                                .unwrap_or(i64::MAX),
                            deduplicated: outcome.deduplicated,
                        }),
                    })
                });
                return;
            }
            // A rule refused the whole command, and would again: those behind stand for themselves.
            Ok(Reply {
                answer: Some(Answer::Refused(refusal)),
            }) => {
                let error = Failure::Refused(refusal).to_item();
                self.settle(index, |_| Some(Outcome::Error(error.clone())));
                return;
            }
            Ok(reply) => {
                tracing::error!(?reply, "the answer to an append is of another kind");
                Failure::Internal("the answer to an append is of another kind".into())
            }
            Err(failure) => failure,
        };
        let error = failure.to_item();
        self.fail_waiting(index);
        self.settle(index, |_| Some(Outcome::Error(error.clone())));
    }

    /// Counts what became of a lane's command.
    fn count(&mut self, index: usize, outcome: &Result<Reply, Failure>) {
        let Some(lane) = self.lanes.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        let Some(appending) = lane.appending.take() else {
            return;
        };
        let sent = lane.in_flight.iter().filter(|item| item.invalid.is_none());
        let sent = u64::try_from(sent.count()).unwrap_or(u64::MAX);
        match outcome {
            Ok(Reply {
                answer: Some(Answer::Appended(appended)),
            }) => {
                let (mut ok, mut old, mut rejected) = (0, 0, 0);
                for outcome in &appended.outcomes {
                    match outcome {
                        outcome if outcome.refusal.is_some() => rejected += 1,
                        outcome if outcome.deduplicated => old += 1,
                        _ => ok += 1,
                    }
                }
                appending.decided(ok, old, rejected);
            }
            Ok(Reply {
                answer: Some(Answer::Refused(refusal)),
            }) => appending.failed(&Failure::Refused(refusal.clone()), sent),
            Ok(_) => appending.failed(&Failure::Internal(String::new()), sent),
            Err(failure) => appending.failed(failure, sent),
        }
    }

    /// Answers what was in flight, in order; `outcome` gives that of each valid item.
    fn settle(&mut self, index: usize, mut outcome: impl FnMut(u64) -> Option<Outcome>) {
        let Some(lane) = self.lanes.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        lane.busy = false;
        let mut in_flight = std::mem::take(&mut lane.in_flight);
        self.answers.reserve(in_flight.len());
        for item in in_flight.drain(..) {
            self.unanswered -= 1;
            self.unanswered_bytes -= item.bytes;
            let outcome = match item.invalid {
                Some(error) => Outcome::Error(*error),
                None => outcome(item.correlation_id).unwrap_or_else(|| {
                    let what = "the answer to an append lacks an outcome";
                    Outcome::Error(Failure::Internal(what.into()).to_item())
                }),
            };
            self.answers.push(v1::AppendResult {
                correlation_id: item.correlation_id,
                outcome: Some(outcome),
            });
        }
        // Its memory serves the next command.
        lane.in_flight = in_flight;
        if lane.waiting.is_empty() {
            lane.deadline = None;
        } else {
            self.ready.push_back(index);
        }
    }

    /// Those behind a command that failed are answered right after it.
    fn fail_waiting(&mut self, index: usize) {
        let Some(lane) = self.lanes.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        let Lane {
            waiting, in_flight, ..
        } = lane;
        in_flight.extend(waiting.drain(..).map(|item| InFlight {
            correlation_id: item.correlation_id,
            bytes: item.bytes,
            invalid: Some(match item.given {
                Ok(_) => Box::new(Failure::PredecessorFailed.to_item()),
                Err(error) => error,
            }),
        }));
    }

    fn open(&mut self, name: ConversationName) -> usize {
        if self.by_name.len() >= LANES_KEPT_MAX {
            self.drop_idle();
        }
        let lane = Lane {
            slot: name.key().slot(),
            tenant: self.traffic.tenant(name.tenant()),
            since: Instant::now(),
            appending: None,
            name,
            waiting: VecDeque::new(),
            in_flight: Vec::new(),
            busy: false,
            deadline: None,
        };
        let text = lane.name.as_str().to_owned();
        let index = match self.free.pop() {
            Some(index) => {
                self.lanes[index] = Some(lane);
                index
            }
            None => {
                self.lanes.push(Some(lane));
                self.lanes.len() - 1
            }
        };
        self.by_name.insert(text, index);
        index
    }

    fn drop_idle(&mut self) {
        for (index, place) in self.lanes.iter_mut().enumerate() {
            if place
                .as_ref()
                .is_some_and(|lane| !lane.busy && lane.waiting.is_empty())
                && let Some(lane) = place.take()
            {
                self.by_name.remove(lane.name.as_str());
                self.free.push(index);
            }
        }
    }
}

impl Lane {
    /// Moves what fits into one command from waiting to in flight: items that give the same fence token.
    fn pack(&mut self) -> Packed {
        let count = self.waiting.len().min(limits::ENTRY_MESSAGES_MAX);
        let mut messages = Vec::with_capacity(count);
        let (mut bytes, mut deadline) = (0, None);
        let first = self.waiting.front();
        let fence_token = first.map_or_else(String::new, |first| first.fence_token.clone());
        while let Some(next) = self.waiting.front()
            && self.in_flight.len() < count
            && next.fence_token == fence_token
            && (messages.is_empty() || bytes + next.bytes <= COMMAND_BYTES_MAX)
        {
            let Some(item) = self.waiting.pop_front() else {
                break;
            };
            bytes += item.bytes;
            let invalid = match item.given {
                Ok(message) => {
                    deadline.get_or_insert(item.deadline);
                    messages.push(message);
                    None
                }
                Err(error) => Some(error),
            };
            self.in_flight.push(InFlight {
                correlation_id: item.correlation_id,
                bytes: item.bytes,
                invalid,
            });
        }
        Packed {
            messages,
            fence_token,
            deadline,
        }
    }
}

fn failed(correlation_id: u64, error: v1::ItemError) -> v1::AppendResult {
    v1::AppendResult {
        correlation_id,
        outcome: Some(Outcome::Error(error)),
    }
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
