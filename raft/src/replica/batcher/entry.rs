//! One entry: which commands go into it, how it is proposed, and what its callers are told.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use model::command::{
    self, Command, Entry, FORMAT_WITHOUT_CHANGES, FORMAT_WITHOUT_PASSED, FORMAT_WITHOUT_RULES,
    Reply,
};
use model::id::{NodeId, ShardId};
use model::{limits, mutant};
use openraft::error::{ClientWriteError, ForwardReason};
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResponse;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Item;
use super::command_time::{CommandTime, able};
use super::done::Done;
use super::waiting::Held;
use crate::adapter::types::{Payload, Traces, Types};
use crate::api::{Event, Events, Piece, ProposeError, Span};
use crate::replica::leaders::{Leaders, Leadership};
use crate::time::stamp::Stamp;

/// What became of an entry.
pub(super) struct Answered {
    waiting: Vec<(Done, Held)>,
    replies: Result<Vec<Reply>, ProposeError>,
    /// Bytes of its commands.
    bytes: u64,
    /// When the oldest of them was queued.
    oldest: Instant,
}

impl Answered {
    /// Answers all who wait, and tells of it.
    pub(super) fn give(self, shard: ShardId, events: &dyn Events) {
        let decided = self.replies.is_ok();
        let commands = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        answer(self.waiting, self.replies);
        events.note(Event::Decided {
            shard,
            commands,
            bytes: self.bytes,
            took: self.oldest.elapsed(),
            decided,
        });
    }
}

pub(super) fn answer(waiting: Vec<(Done, Held)>, replies: Result<Vec<Reply>, ProposeError>) {
    match replies {
        Ok(replies) => {
            assert_eq!(
                replies.len(),
                waiting.len(),
                "every command is answered once"
            );
            for ((done, _held), reply) in waiting.into_iter().zip(replies) {
                done.answer(Ok(reply));
            }
        }
        Err(error) => {
            for (done, _held) in waiting {
                done.answer(Err(error.clone()));
            }
        }
    }
}

/// What becomes the next entry.
#[derive(Default)]
pub(super) struct Batch {
    items: Vec<Item>,
    bytes: usize,
    /// Did not fit any more: the first of the entry after.
    kept: Option<Item>,
}

impl Batch {
    fn add(&mut self, item: Item) {
        if !self.items.is_empty() && self.bytes + item.command.len() > limits::ENTRY_BYTES_MAX {
            self.kept = Some(item);
        } else {
            self.bytes += item.command.len();
            self.items.push(item);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.kept.is_some() || self.items.len() >= limits::ENTRY_MESSAGES_MAX
    }

    /// Takes what is there, up to one entry's bounds, once there are `worth_it` commands.
    /// Cancel-safe: what was taken stays. `false` when no more can come.
    pub(super) async fn fill(
        &mut self,
        items: &mut mpsc::UnboundedReceiver<Box<Item>>,
        worth_it: usize,
    ) -> bool {
        while self.items.len() < worth_it && !self.is_full() {
            match items.recv().await {
                Some(item) => self.add(*item),
                None => return !self.items.is_empty(),
            }
        }
        while !self.is_full() {
            let Ok(item) = items.try_recv() else { break };
            self.add(*item);
        }
        true
    }

    /// The commands of the entry; what did not fit begins the next.
    pub(super) fn take(&mut self) -> Vec<Item> {
        self.bytes = 0;
        let items = std::mem::take(&mut self.items);
        if let Some(item) = self.kept.take() {
            self.add(item);
        }
        items
    }
}

/// The commands that go into one entry, and who waits for them.
struct Proposal {
    commands: Vec<Bytes>,
    waiting: Vec<(Done, Held)>,
    /// Bytes of the commands.
    bytes: u64,
    /// When the oldest of them was queued.
    oldest: Instant,
    traces: Traces,
    /// When they were taken together.
    begun: Instant,
}

impl Proposal {
    /// Takes the commands that are in time, of formats that all replicas read: up to `newest`. The
    /// others are answered.
    pub(super) fn of(
        items: Vec<Item>,
        newest: u32,
        leadership: &Leadership,
        events: &dyn Events,
    ) -> Proposal {
        let begun = Instant::now();
        let mut proposal = Proposal {
            commands: Vec::with_capacity(items.len()),
            waiting: Vec::with_capacity(items.len()),
            bytes: 0,
            oldest: begun,
            traces: Traces::new(),
            begun,
        };
        for item in items {
            if item.expires <= begun {
                item.done.answer(Err(ProposeError::Expired));
            } else if Command::format_of(&item.command) > newest.max(FORMAT_WITHOUT_PASSED) {
                let why = "some replica of the shard is of a version that does not know this yet";
                item.done
                    .answer(Ok(Reply::refused(command::Reason::NodesOlder, why)));
            } else {
                proposal.add(item, leadership, events);
            }
        }
        proposal
    }

    fn add(&mut self, item: Item, leadership: &Leadership, events: &dyn Events) {
        self.bytes += item.command.len() as u64;
        self.oldest = self.oldest.min(item.queued);
        if let Some(trace) = item.trace {
            let at = (item.queued, leadership.shard);
            events.span(Span::within(trace, leadership.node, Piece::Queue, at));
            self.traces.push(trace);
        }
        self.commands.push(item.command);
        self.waiting.push((item.done, item.held));
    }

    /// The entry, stamped, in the newest format that all replicas read.
    fn entry(&mut self, newest: u32, stamp: Stamp) -> Entry {
        let Stamp { time_ms, passed_ms } = stamp;
        Entry {
            format: match (newest, passed_ms) {
                (FORMAT_WITHOUT_RULES.., _) => newest,
                (_, 1..) => FORMAT_WITHOUT_CHANGES,
                (_, 0) => FORMAT_WITHOUT_PASSED,
            },
            time_ms,
            commands: std::mem::take(&mut self.commands),
            passed_ms,
        }
    }

    /// What became of it, with a span for each command that is traced.
    fn decided(
        self,
        (node, shard): (NodeId, ShardId),
        replies: Result<Vec<Reply>, ProposeError>,
        events: &dyn Events,
    ) -> Answered {
        for trace in self.traces {
            let span = Span::within(trace, node, Piece::Decide, (self.begun, shard));
            let failed = replies.as_ref().err().map(ToString::to_string);
            events.span(Span { failed, ..span });
        }
        Answered {
            waiting: self.waiting,
            replies,
            bytes: self.bytes,
            oldest: self.oldest,
        }
    }
}

/// Proposes one entry; `None` when there was nothing (left) to propose. Where this node is about to
/// lead, the commands wait until it does.
pub(super) async fn propose(
    leadership: &Leadership,
    time: &mut CommandTime,
    batch: &mut Batch,
    events: &Arc<dyn Events>,
) -> Option<BoxFuture<'static, Answered>> {
    let ready = leadership.ready().await;
    if ready.is_ok() {
        leadership.rouse().await;
    }
    let newest = time.format(leadership);
    let mut proposal = Proposal::of(batch.take(), newest, leadership, &**events);
    if proposal.waiting.is_empty() {
        return None;
    }
    if let Err(error) = ready {
        answer(proposal.waiting, Err(error));
        return None;
    }
    let entry = proposal.entry(newest, time.next(|time| able(leadership, time)));
    let (node, shard) = (leadership.node, leadership.shard);
    let within = { proposal.traces.iter() }.map(|trace| Piece::Decide.of(*trace, node));
    let payload = Payload::encode(&entry, within.collect());
    let (responder, result) = ProgressResponder::complete_only();
    let proposed = leadership.raft.client_write_ff(payload, Some(responder));
    if proposed.await.is_err() {
        answer(proposal.waiting, Err(not_leader(shard, None)));
        return None;
    }
    let (leaders, events) = (leadership.leaders.clone(), events.clone());
    Some(Box::pin(async move {
        let replies = match result.await {
            Ok(Ok(response)) => Ok(tellable(shard, response, &leaders).await),
            Ok(Err(error)) => Err(write_error(shard, error)),
            Err(_) => Err(ProposeError::Unknown("the replica stopped".into())),
        };
        proposal.decided((node, shard), replies, &*events)
    }))
}

/// The replies of an entry, once they may be told to anybody.
async fn tellable(
    shard: ShardId,
    mut response: ClientWriteResponse<Types>,
    leaders: &Mutex<Leaders>,
) -> Vec<Reply> {
    let term = response.log_id.committed_leader_id().term;
    let may_tell_at = leaders.lock().may_tell_at(term);
    // In the past but for a leader that has just won.
    if may_tell_at > Instant::now() {
        tokio::time::sleep_until(may_tell_at).await;
    }
    if mutant!("answers-swapped") && !shard.is_meta() {
        response.data.reverse();
    }
    response.data
}

pub(super) fn write_error(shard: ShardId, error: ClientWriteError<Types>) -> ProposeError {
    match error {
        ClientWriteError::ForwardToLeader(forward) => match forward.reason {
            // Refused before anything was appended.
            ForwardReason::LeadershipTransfer | ForwardReason::LeaseExpired => {
                not_leader(shard, forward.leader_id)
            }
            // Whether the entry was appended before the leadership was lost is not said.
            ForwardReason::NotLeader => ProposeError::Unknown("the leadership was lost".into()),
        },
        // It is not in this replica's log any more. Another leader may have committed it all the
        // same: a snapshot that holds it has the same effect.
        ClientWriteError::LogEntryDiscarded(_) => {
            ProposeError::Unknown("its entry gave way to what another leader had decided".into())
        }
        error @ (ClientWriteError::ChangeMembershipError(_)
        | ClientWriteError::PreconditionFailed(_)) => ProposeError::Unknown(error.to_string()),
    }
}

pub(super) fn not_leader(shard: ShardId, leader: Option<u64>) -> ProposeError {
    ProposeError::NotLeader {
        shard,
        leader: leader.map(NodeId),
    }
}
