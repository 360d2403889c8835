//! Following a conversation: every message from a position on, then each new one.
//!
//! What is delivered is a dense run (promise O): from the start's seq on, no gap, no repeat. It
//! comes from a replica as that applies, so a replica that lags delivers later and never less.
//! When a replica cannot go on (the node is going away, the replica is moved or broken), the
//! caller gets Reconnect and goes on with its cursor at any other node.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _};
use model::id::{ConversationName, NodeId, ShardId};
use model::limits;
use model::state::Conversation;
use proto::net::serve::said;
use proto::v1;
use proto::v1::messages_client::MessagesClient;
use proto::v1::tail_response::Event;
use store::engine::Order;
use store::state::{ShardState, Shown, Wanted};
use tokio::sync::watch;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::{Code, Status, Streaming};

use crate::check::{Checker, Wanted as Fresh};
use crate::convert;
use crate::deadline::{Call, Deadline, forward};
use crate::error::{Failure, passed};
use crate::gateway::Gateway;
use crate::read::{is_passing, nearest, no_replica};
use crate::service::conversations;
use crate::token::{Kind, Token};

/// Messages read at once.
const READ_MAX: usize = 256;
/// Bytes read at once: about what an answer takes up at once ([`proto::net::guard`] counts that). More
/// would wait here, decoded, for a reader that stands still.
const READ_BYTES_MAX: usize = 32 * 1024;
/// How often a tail that waits looks whether its replica still works.
const REPLICA_CHECK_EVERY: Duration = Duration::from_secs(5);

/// How long one question may take whether a cursor can be right, and the wait before the next.
const VERIFY_MAX: Duration = Duration::from_secs(1);

/// Within this time, ms, the tails of a node that goes away come back elsewhere.
const RECONNECT_SPREAD_MS: u64 = 500;

/// The events of a tail.
pub type Events = BoxStream<'static, Result<v1::TailResponse, Status>>;

/// Where a tail begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Start {
    incarnation: u64,
    next: u64,
    known: Known,
}

/// Up to which revision the caller knows the messages before the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// Up to this one, which some replica has shown.
    To(u64),
    /// Up to this one, says the caller.
    Since(u64),
    /// As they are at the first read.
    Now,
    /// As the last of them was when it was appended: a cursor from before messages could change.
    WhenAppended,
}

/// Opens a tail.
///
/// # Errors
/// [`Failure`], before the first event.
pub async fn open(
    gateway: Arc<Gateway>,
    request: v1::TailRequest,
    call: Call,
) -> Result<Events, Failure> {
    if *gateway.stopping.borrow() {
        return Err(Failure::Stopping);
    }
    let mut check = Checker::of(&call, 0);
    let name = check.conversation("parent", &request.parent);
    let cursor = match &name {
        Some(name) if !request.cursor.is_empty() => {
            Token::decode(&request.cursor, true, name.key())
                .map_err(|error| check.add("cursor", error))
                .ok()
        }
        Some(_) | None => None,
    };
    let name = check.or(name)?;
    let shard = gateway
        .shard_of(name.key().slot())
        .ok_or(Failure::NotReady)?;
    let Some(state) = gateway.raft.state(shard) else {
        return relay(&gateway, shard, request, call).await;
    };
    let (start, sure) = match cursor {
        Some(token) => {
            let start = Start {
                incarnation: token.incarnation,
                next: token.next_seq,
                known: token.revision.map_or(Known::WhenAppended, Known::To),
            };
            (start, holds(&state, &name, start)?)
        }
        None => (begin(&gateway, &state, &name, &request, call).await?, true),
    };
    Ok(follow(gateway, shard, state, name, start, sure))
}

/// Whether this replica has the message before a cursor's position. One that lags does not, though the
/// cursor is right.
fn holds(state: &ShardState, name: &ConversationName, start: Start) -> Result<bool, Failure> {
    let head = state.conversation(name)?;
    Ok(head.is_some_and(|head| {
        head.incarnation == start.incarnation && start.next <= head.last_seq.saturating_add(1)
    }))
}

/// Asks the leader, for as long as that takes, whether a cursor's position can have been given; what to
/// tell the caller if not.
async fn verify(gateway: Arc<Gateway>, name: ConversationName, start: Start) -> Option<Failure> {
    loop {
        let call = Call::within(Deadline::after(VERIFY_MAX));
        let wanted = Fresh::linearizable();
        match conversations::get(&gateway, &name, &wanted, &call).await {
            Ok(head) if head.incarnation != start.incarnation => {
                return Some(Failure::OtherIncarnation);
            }
            Ok(head) if start.next > head.last_seq.saturating_add(1) => {
                return Some(Failure::AheadOfHead {
                    last_seq: head.last_seq,
                });
            }
            Ok(_) => return None,
            Err(failure @ Failure::ConversationNotFound(_)) => return Some(failure),
            Err(Failure::Passed(status)) if status.code() == Code::NotFound => {
                return Some(Failure::Passed(status));
            }
            // Without a leader nobody knows; the replica may still catch up by itself.
            Err(_) => tokio::time::sleep(VERIFY_MAX).await,
        }
    }
}

/// Finds where a tail without a cursor begins.
async fn begin(
    gateway: &Gateway,
    state: &ShardState,
    name: &ConversationName,
    request: &v1::TailRequest,
    call: Call,
) -> Result<Start, Failure> {
    let start_seq = request.start_seq;
    let known = match request.start_revision {
        0 => Known::Now,
        revision => Known::Since(revision),
    };
    // What this replica has is enough to know that a message is there to start from.
    if start_seq > 0
        && let Some(head) = state.conversation(name)?
        && start_seq <= head.last_seq + 1
    {
        return Ok(Start {
            incarnation: head.incarnation,
            next: start_seq,
            known,
        });
    }
    // The head is a call of its own, so it may be forwarded even if this one was.
    let call = Call {
        forwarded: false,
        ..call
    };
    let head = conversations::get(gateway, name, &Fresh::linearizable(), &call).await?;
    if start_seq > head.last_seq + 1 {
        return Err(Failure::AheadOfHead {
            last_seq: head.last_seq,
        });
    }
    Ok(Start {
        incarnation: head.incarnation,
        next: if start_seq == 0 {
            head.last_seq + 1
        } else {
            start_seq
        },
        known,
    })
}

/// Gives on the events of another node's replica.
async fn relay(
    gateway: &Gateway,
    shard: ShardId,
    request: v1::TailRequest,
    call: Call,
) -> Result<Events, Failure> {
    if call.forwarded {
        return Err(no_replica(shard));
    }
    let mut failure = no_replica(shard);
    for step in 0..3 {
        let Some(node) = nearest(gateway, shard, step) else {
            break;
        };
        match relay_from(gateway, node, request.clone(), &call).await {
            Ok(events) => return Ok(events),
            Err(Failure::Passed(status)) if !is_passing(&status) => {
                return Err(Failure::Passed(status));
            }
            Err(why) => failure = why,
        }
    }
    Err(failure)
}

async fn relay_from(
    gateway: &Gateway,
    node: NodeId,
    request: v1::TailRequest,
    call: &Call,
) -> Result<Events, Failure> {
    let unreachable = || Failure::NoReplica(format!("{} cannot be reached", gateway.name_of(node)));
    let channel = gateway.raft.channel(node).ok_or_else(unreachable)?;
    let mut client =
        MessagesClient::new(channel).max_decoding_message_size(limits::FRAME_BYTES_MAX);
    let request_cursor = request.cursor.clone();
    let opened = client.tail(forward(request, None));
    let events = match tokio::time::timeout(call.deadline.remaining(), opened).await {
        Err(_) => return Err(unreachable()),
        Ok(Err(status)) if status.details().is_empty() => return Err(unreachable()),
        Ok(Err(status)) => return Err(passed(&status)),
        Ok(Ok(response)) => response.into_inner(),
    };
    let relay = Relay {
        events,
        cursor: request_cursor,
        ended: false,
        stopping: gateway.stopping.clone(),
        after_ms: spread(gateway),
        _call: gateway.calls.token(),
    };
    Ok(stream::unfold(relay, |mut relay| async move {
        let event = relay.event().await?;
        Some((event, relay))
    })
    .boxed())
}

/// Another node's events on their way through this one.
struct Relay {
    events: Streaming<v1::TailResponse>,
    /// That of the last event given on.
    cursor: String,
    ended: bool,
    stopping: watch::Receiver<bool>,
    /// The caller's wait when it has to go elsewhere.
    after_ms: u32,
    _call: TaskTrackerToken,
}

impl Relay {
    async fn event(&mut self) -> Option<Result<v1::TailResponse, Status>> {
        if self.ended {
            return None;
        }
        let event = tokio::select! {
            biased;
            () = said(&mut self.stopping) => Ok(None),
            event = self.events.message() => event,
        };
        match event {
            Ok(Some(event)) => {
                self.ended = matches!(event.event, Some(Event::Reconnect(_)));
                self.cursor.clone_from(&event.cursor);
                Some(Ok(event))
            }
            Err(status) if !is_passing(&status) => {
                self.ended = true;
                Some(Err(passed(&status).into()))
            }
            // The other node was lost, or its replica turned out corrupt, or this one goes away.
            Ok(None) | Err(_) => {
                self.ended = true;
                Some(Ok(reconnect(
                    std::mem::take(&mut self.cursor),
                    self.after_ms,
                )))
            }
        }
    }
}

/// The events of a replica of this node.
fn follow(
    gateway: Arc<Gateway>,
    shard: ShardId,
    state: ShardState,
    name: ConversationName,
    start: Start,
    sure: bool,
) -> Events {
    let unsure = (!sure).then(|| verify(gateway.clone(), name.clone(), start).boxed());
    let tail = Tail {
        last_seq: state.watch(&name),
        stopping: gateway.stopping.clone(),
        _call: gateway.calls.token(),
        gateway,
        shard,
        state,
        name,
        incarnation: start.incarnation,
        next: start.next,
        known: start.known,
        caught_up: false,
        ended: false,
        events: VecDeque::new(),
        unsure,
    };
    stream::unfold(tail, |mut tail| async move {
        let event = tail.event().await?;
        Some((event, tail))
    })
    .boxed()
}

struct Tail {
    gateway: Arc<Gateway>,
    shard: ShardId,
    state: ShardState,
    name: ConversationName,
    incarnation: u64,
    /// The seq of the next message to deliver.
    next: u64,
    known: Known,
    caught_up: bool,
    ended: bool,
    events: VecDeque<v1::TailResponse>,
    last_seq: watch::Receiver<u64>,
    stopping: watch::Receiver<bool>,
    /// While it is not known whether the cursor was ever given: what asks the leader.
    unsure: Option<BoxFuture<'static, Option<Failure>>>,
    /// A graceful stop waits until the caller has been told to go elsewhere.
    _call: TaskTrackerToken,
}

impl Tail {
    async fn event(&mut self) -> Option<Result<v1::TailResponse, Status>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(Ok(event));
            }
            if self.ended {
                return None;
            }
            // Seen before the read, so that a change after the read wakes this up.
            self.last_seq.borrow_and_update();
            let step = match self.read() {
                Ok(()) if self.events.is_empty() => self.wait().await,
                read => read,
            };
            if let Err(failure) = step {
                self.ended = true;
                return Some(Err(failure.into()));
            }
        }
    }

    /// Puts what there is to deliver into `events`.
    fn read(&mut self) -> Result<(), Failure> {
        let wanted = Wanted {
            start_seq: self.next,
            order: Order::Ascending,
            limit: READ_MAX,
            bytes_max: READ_BYTES_MAX,
            reader: None,
            changed_after: self.known_to()?,
        };
        let page = self.state.page(&self.name, &wanted)?;
        // A replica that lags may not know the conversation yet, or only its former life.
        let Some(page) = page.filter(|page| page.head.incarnation >= self.incarnation) else {
            return self.deleted();
        };
        // What it would give of messages to come may be from before a change that counts as delivered.
        if matches!(self.known, Known::To(known) if page.head.revision < known) {
            return Ok(());
        }
        let head = page.head;
        check(&head, self.incarnation, self.next)?;
        if self.next <= head.last_seq.saturating_add(1) {
            self.unsure = None;
        }
        let moment = self.gateway.moment(self.name.tenant());
        let mut changed = page.changed.into_iter().peekable();
        for shown in page.messages {
            if shown.stored.seq != self.next {
                let what = format!("message {} of {} is missing", self.next, self.name);
                return Err(Failure::Corrupt(what));
            }
            while let Some(before) = changed.next_if(|one| one.revision < shown.revision) {
                self.push_changed(&head, before)?;
            }
            let message =
                convert::shown(&self.name, &head, shown, moment).map_err(Failure::Corrupt)?;
            self.next += 1;
            self.push(Event::Message(message));
        }
        for behind in changed {
            self.push_changed(&head, behind)?;
        }
        self.known = Known::To(page.changed_to);
        if let Some(last) = self.events.back_mut() {
            last.cursor = cursor_of(&self.name, self.incarnation, self.next, self.known);
        }
        let all = page.changed_to >= head.revision;
        if !self.caught_up && all && self.next == head.last_seq + 1 {
            self.caught_up = true;
            self.push(Event::CaughtUp(v1::CaughtUp {
                last_seq: head.last_seq,
            }));
        }
        Ok(())
    }

    async fn wait(&mut self) -> Result<(), Failure> {
        let verified = async {
            match &mut self.unsure {
                Some(unsure) => unsure.await,
                None => std::future::pending().await,
            }
        };
        let goes_on = tokio::select! {
            biased;
            () = said(&mut self.stopping) => false,
            verdict = verified => {
                self.unsure = None;
                if let Some(failure) = verdict {
                    return Err(failure);
                }
                true
            }
            changed = self.last_seq.changed() => changed.is_ok(),
            () = tokio::time::sleep(REPLICA_CHECK_EVERY) => self.gateway.raft.state(self.shard).is_some(),
        };
        if !goes_on {
            self.ended = true;
            let cursor = self.cursor();
            let after_ms = spread(&self.gateway);
            self.events.push_back(reconnect(cursor, after_ms));
        }
        Ok(())
    }

    /// Ends the tail when the life that it follows is over.
    fn deleted(&self) -> Result<(), Failure> {
        let left = self.state.remembered(&self.name)?;
        let over = |head: &Conversation| head.is_deleted() && head.incarnation >= self.incarnation;
        match left.filter(over) {
            Some(head) => Err(Failure::ConversationNotFound(head.name)),
            None => Ok(()),
        }
    }

    /// The revision after which changes are to be delivered; none when there is nothing before `next`.
    fn known_to(&self) -> Result<Option<u64>, Failure> {
        match self.known {
            Known::To(revision) | Known::Since(revision) => Ok(Some(revision)),
            Known::Now => Ok(None),
            Known::WhenAppended if self.next <= 1 => Ok(None),
            Known::WhenAppended => {
                let (at, order) = (self.next - 1, Order::Ascending);
                let page = self.state.list(&self.name, at, order, 1, READ_BYTES_MAX)?;
                let last = page.and_then(|(_, messages)| messages.into_iter().next());
                Ok(last.map(|stored| stored.appended_at()))
            }
        }
    }

    fn push_changed(&mut self, head: &Conversation, shown: Shown) -> Result<(), Failure> {
        let revision = shown.revision;
        let moment = self.gateway.moment(self.name.tenant());
        let message = convert::shown(&self.name, head, shown, moment).map_err(Failure::Corrupt)?;
        self.known = Known::To(revision);
        self.push(Event::Changed(message));
        Ok(())
    }

    fn push(&mut self, event: Event) {
        let cursor = self.cursor();
        self.events.push_back(v1::TailResponse {
            event: Some(event),
            cursor,
        });
    }

    fn cursor(&self) -> String {
        cursor_of(&self.name, self.incarnation, self.next, self.known)
    }
}

fn cursor_of(name: &ConversationName, incarnation: u64, next_seq: u64, known: Known) -> String {
    let revision = match known {
        Known::To(revision) => Some(revision),
        Known::Since(_) | Known::Now | Known::WhenAppended => None,
    };
    Token {
        kind: Kind::Cursor,
        key: name.key(),
        incarnation,
        next_seq,
        revision,
    }
    .encode()
}

/// Whether what is left of a conversation still holds the next message of a tail.
fn check(head: &Conversation, incarnation: u64, next: u64) -> Result<(), Failure> {
    if head.incarnation != incarnation {
        return Err(Failure::OtherIncarnation);
    }
    if next < head.min_seq {
        return Err(Failure::CursorTrimmed {
            min_seq: head.min_seq,
        });
    }
    Ok(())
}

/// A wait of a caller that has to go elsewhere, ms: not all are to come there at once.
/// When a caller whose stream ends here is to come back elsewhere, ms from now.
pub fn spread(gateway: &Gateway) -> u32 {
    u32::try_from(gateway.random() % RECONNECT_SPREAD_MS).unwrap_or(0)
}

fn reconnect(cursor: String, after_ms: u32) -> v1::TailResponse {
    v1::TailResponse {
        event: Some(Event::Reconnect(v1::Reconnect { after_ms })),
        cursor,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_that_has_expired_or_was_of_another_life_is_told_and_never_skipped() {
        let head = Conversation {
            incarnation: 2,
            min_seq: 5,
            last_seq: 9,
            ..Default::default()
        };
        assert!(check(&head, 2, 5).is_ok());
        assert!(check(&head, 2, 10).is_ok());
        assert!(matches!(
            check(&head, 2, 4),
            Err(Failure::CursorTrimmed { min_seq: 5 })
        ));
        assert!(matches!(check(&head, 1, 5), Err(Failure::OtherIncarnation)));
    }
}
