//! In front of each leader: many commands become one Raft entry. While a few entries are on their
//! way, everything that arrives waits and goes together, so that batches grow with the load and a
//! lone command waits for nobody. What is on its way for long, over a wide area, is not waited for:
//! a few milliseconds behind it the next entry follows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use model::cluster::{Change, ChangeBody, Join};
use model::command::{
    self, Command, Entry, FORMAT, FORMAT_WITHOUT_CHANGES, FORMAT_WITHOUT_PASSED,
    FORMAT_WITHOUT_RULES, Reply,
};
use model::id::{NodeId, ShardId};
use model::trace::Context;
use model::{hash, limits, mutant};
use openraft::error::{ClientWriteError, ForwardReason};
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResponse;
use parking_lot::Mutex;
use prost::Message;
use proto::node as wire;
use proto::node::frame::Body;
use store::Share;
use store::state::ShardState;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::adapter::told;
use crate::adapter::types::{Payload, Traces, Types};
use crate::api::{Event, Events, Piece, ProposeError, Span};
use crate::link::frame;
use crate::link::out::Out;
use crate::link::room::SharedRoom;
use crate::replica::leaders::{Leaders, Leadership};
use crate::time::Time;
use crate::time::stamp::{Clocks, Stamp, Stamps};

/// How long commands wait for an entry that is on its way.
const SPACING: Duration = Duration::from_millis(limits::ENTRY_SPACING_MS);

/// Where an answer goes.
pub(crate) enum Done {
    /// To a caller on this node.
    Here(oneshot::Sender<Result<Reply, ProposeError>>),
    /// To another node, over the stream that the command came by.
    There {
        /// The frame it came in.
        id: u64,
        /// The shard it is for.
        shard: ShardId,
        /// The stream's way back.
        out: Out,
    },
}

impl Done {
    pub(crate) fn answer(self, result: Result<Reply, ProposeError>) {
        match self {
            // A caller that is gone has stopped waiting.
            Done::Here(caller) => drop(caller.send(result)),
            Done::There { id, shard, out } => {
                let body = match result {
                    Ok(reply) => Body::ForwardAnswer(wire::ForwardAnswer {
                        replies: vec![reply.encode_to_vec().into()],
                    }),
                    Err(error) => failed(&error),
                };
                out.send(frame::single(id, shard.0, body));
            }
        }
    }
}

/// A failed attempt as the wire says it.
fn failed(error: &ProposeError) -> Body {
    use wire::failed::Reason;
    let (reason, leader) = match error {
        ProposeError::NotLeader { leader, .. } => (Reason::NotLeader, *leader),
        ProposeError::WrongShard => (Reason::WrongShard, None),
        ProposeError::Overloaded => (Reason::Overloaded, None),
        ProposeError::Expired => (Reason::Expired, None),
        ProposeError::DiskFull => (Reason::DiskFull, None),
        ProposeError::Unreachable(_) | ProposeError::Unknown(_) => (Reason::UnknownOutcome, None),
    };
    frame::failed(reason, leader, error.to_string())
}

/// What the commands of all shards that are not answered take in memory.
pub(crate) struct Waiting {
    bytes: AtomicUsize,
    max: Share,
}

impl Waiting {
    /// At most so many bytes, of all shards: this is what bounds their queues.
    pub(crate) fn new(max: Share) -> Waiting {
        Waiting {
            bytes: AtomicUsize::new(0),
            max,
        }
    }

    /// Bytes of the commands that wait now.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Room for one command; `None` where there is none.
    fn take(self: &Arc<Self>, command: usize) -> Option<Held> {
        let bytes = command + ITEM_BYTES;
        let held = Held {
            bytes,
            of: self.clone(),
        };
        let all = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (all <= self.max.bytes()).then_some(held)
    }
}

/// What a command takes until it is answered.
struct Held {
    bytes: usize,
    of: Arc<Waiting>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What a command takes beside its bytes.
const ITEM_BYTES: usize = 256;

/// A command that waits.
struct Item {
    command: Bytes,
    queued: Instant,
    expires: Instant,
    done: Done,
    held: Held,
    trace: Option<Context>,
}

/// A cheap handle to a shard's batcher.
#[derive(Clone)]
pub(crate) struct Batcher {
    /// Of boxes: a channel has room for 32 from its beginning on, in each of thousands of shards. Its
    /// bound is that of all shards' bytes, see [`Waiting`].
    queue: mpsc::UnboundedSender<Box<Item>>,
    leadership: Leadership,
    room: SharedRoom,
    /// What joins are looked at by, in the meta shard.
    state: ShardState,
    waiting: Arc<Waiting>,
}

impl Batcher {
    /// Starts the batcher of a group. Without `room`, its own or a quorum's, it
    /// refuses appends while this node leads.
    pub(crate) fn start(
        leadership: Leadership,
        time: CommandTime,
        room: SharedRoom,
        waiting: Arc<Waiting>,
        events: Arc<dyn Events>,
    ) -> Batcher {
        let (queue, items) = mpsc::unbounded_channel();
        let state = time.state.clone();
        tokio::spawn(run(leadership.clone(), time, items, events));
        Batcher {
            queue,
            leadership,
            room,
            state,
            waiting,
        }
    }

    /// Queues a command, in the order of calls. `done` is always answered.
    pub(crate) fn submit(
        &self,
        command: Bytes,
        expires: Instant,
        done: Done,
        trace: Option<Context>,
    ) {
        self.leadership.sleep.begin();
        if !self.leadership.shard.is_meta() && self.lacks_room() {
            // Whoever asks must find the next leader when this one has given its place away.
            let leader = self.leadership.expected();
            return done.answer(Err(match leader == Some(self.leadership.node) {
                true => ProposeError::DiskFull,
                false => self.leadership.led_by(leader),
            }));
        }
        let command = match self.leadership.shard.is_meta() {
            true => match self.looked_at(command) {
                Ok(command) => command,
                Err(refused) => return done.answer(Ok(refused)),
            },
            false => command,
        };
        let Some(held) = self.waiting.take(command.len()) else {
            return done.answer(Err(ProposeError::Overloaded));
        };
        let item = Box::new(Item {
            command,
            queued: Instant::now(),
            expires,
            done,
            held,
            trace,
        });
        if let Err(mpsc::error::SendError(item)) = self.queue.send(item) {
            item.done.answer(Err(self.leadership.led_by(None)));
        }
    }
}

impl Batcher {
    /// Whether an append is refused for want of room: on this node's disk, or on so many of the voters'
    /// that the others are no quorum.
    fn lacks_room(&self) -> bool {
        let voters = || {
            let members = told::server(&self.leadership.raft).membership_config;
            members.get_joint_config().clone()
        };
        self.room.is_full() || self.room.lacks_quorum(self.leadership.node, voters)
    }

    /// A join becomes an entry only with the right token, and without it: what is decided names its
    /// hash. Other changes stay as they are.
    fn looked_at(&self, command: Bytes) -> Result<Bytes, Reply> {
        let Ok(decoded) = Command::decode(command.clone()) else {
            return Ok(command);
        };
        let (join, actor) = match decoded.body {
            Some(command::Body::Meta(Change {
                body: Some(ChangeBody::Join(join)),
                actor,
            })) => (join, actor),
            Some(_) | None => return Ok(command),
        };
        if self.leadership.expected() != Some(self.leadership.node) {
            // Whoever leads looks at it.
            return Ok(command);
        }
        let hash = hash::token_hash(&join.token);
        let cluster = self.state.cluster();
        if cluster.epoch > 0 && !cluster.takes_token(&hash) {
            let why = match join.token.is_empty() {
                true => {
                    "a join came without its token: the node that was asked is of an older version"
                }
                false => "the join token is not this cluster's",
            };
            return Err(Reply::refused(command::Reason::Invalid, why));
        }
        let join = Join {
            token_hash: hash,
            token: String::new(),
            ..join
        };
        let body = Some(ChangeBody::Join(join));
        Ok(Command::meta(Change { body, actor }).encode_to_vec().into())
    }
}

/// The time that the leader stamps.
pub(crate) struct CommandTime {
    time: Time,
    state: ShardState,
    stamps: Stamps,
    /// The newest format of entries that all replicas read, as far as that is known.
    format: u32,
}

impl CommandTime {
    /// By the node's clocks, and never before what `state` has applied.
    pub(crate) fn new(time: Time, state: ShardState) -> CommandTime {
        CommandTime {
            time,
            state,
            stamps: Stamps::default(),
            format: 0,
        }
    }

    /// The next stamp. `able` says whether all replicas know of time that passed.
    fn next(&mut self, able: impl FnOnce(&Time) -> bool) -> Stamp {
        let applied = self.state.applied();
        let applied = Stamp {
            time_ms: applied.time_ms,
            passed_ms: applied.passed_ms,
        };
        let clocks = Clocks {
            now: self.time.now(),
            agreed_ms: self.time.agreed_ms(),
            wall_ms: self.time.wall_ms(),
        };
        // Once it is counted there is no way back: a version that cannot stops at such an entry.
        let counts = applied.passed_ms > 0 || able(&self.time);
        self.stamps.next(applied, clocks, counts)
    }

    /// The newest format of entries that all replicas read. Once one is applied there is no way back.
    fn format(&mut self, leadership: &Leadership) -> u32 {
        if self.format < FORMAT {
            let applied = self.state.applied().entry_format;
            let mut told = FORMAT;
            others(leadership, |member| {
                told = told.min(self.time.reads(member))
            });
            self.format = self.format.max(applied).max(told);
        }
        self.format.min(FORMAT)
    }
}

/// Whether all other replicas are of versions that know of time that passed.
fn able(leadership: &Leadership, time: &Time) -> bool {
    let mut all = true;
    others(leadership, |member| all &= time.has_told(member));
    all
}

/// Visits all other replicas.
fn others(leadership: &Leadership, visit: impl FnMut(NodeId)) {
    let members = told::server(&leadership.raft).membership_config;
    let members = members.nodes().map(|(id, _)| NodeId(*id));
    members
        .filter(|one| *one != leadership.node)
        .for_each(visit);
}

/// What became of an entry.
struct Answered {
    waiting: Vec<(Done, Held)>,
    replies: Result<Vec<Reply>, ProposeError>,
    /// Bytes of its commands.
    bytes: u64,
    /// When the oldest of them was queued.
    oldest: Instant,
}

impl Answered {
    /// Answers all who wait, and tells of it.
    fn give(self, shard: ShardId, events: &dyn Events) {
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

async fn run(
    leadership: Leadership,
    mut time: CommandTime,
    mut items: mpsc::UnboundedReceiver<Box<Item>>,
    events: Arc<dyn Events>,
) {
    let shard = leadership.shard;
    let mut on_their_way: FuturesOrdered<BoxFuture<'static, Answered>> = FuturesOrdered::new();
    let mut batch = Batch::default();
    // When the next entry may follow however little it holds.
    let mut next_due = Instant::now();
    loop {
        let in_flight = on_their_way.len();
        let due = in_flight == 0 || Instant::now() >= next_due;
        let (worth_it, in_flight_max) = match due {
            true => (1, limits::ENTRIES_SPACED_MAX),
            false => (limits::ENTRY_MESSAGES_GOOD, limits::ENTRIES_IN_FLIGHT_MAX),
        };
        tokio::select! {
            biased;
            Some(answered) = on_their_way.next(), if in_flight > 0 => {
                answered.give(shard, &*events);
            }
            more = batch.fill(&mut items, worth_it), if in_flight < in_flight_max => {
                if !more {
                    break;
                }
                next_due = Instant::now() + SPACING;
                if let Some(entry) = propose(&leadership, &mut time, &mut batch, &events).await {
                    on_their_way.push_back(entry);
                }
            }
            () = tokio::time::sleep_until(next_due), if !due => {}
        }
    }
    while let Some(answered) = on_their_way.next().await {
        answered.give(shard, &*events);
    }
}

fn answer(waiting: Vec<(Done, Held)>, replies: Result<Vec<Reply>, ProposeError>) {
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
struct Batch {
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

    fn is_full(&self) -> bool {
        self.kept.is_some() || self.items.len() >= limits::ENTRY_MESSAGES_MAX
    }

    /// Takes what is there, up to one entry's bounds, once there are `worth_it` commands.
    /// Cancel-safe: what was taken stays. `false` when no more can come.
    async fn fill(
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
    fn take(&mut self) -> Vec<Item> {
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
    fn of(items: Vec<Item>, newest: u32, leadership: &Leadership, events: &dyn Events) -> Proposal {
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
async fn propose(
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

fn write_error(shard: ShardId, error: ClientWriteError<Types>) -> ProposeError {
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

fn not_leader(shard: ShardId, leader: Option<u64>) -> ProposeError {
    ProposeError::NotLeader {
        shard,
        leader: leader.map(NodeId),
    }
}

#[cfg(test)]
mod tests {
    use openraft::error::ForwardToLeader;

    use super::*;

    #[test]
    fn only_what_was_refused_before_it_was_appended_is_told_as_nothing_done() {
        let forward = |reason| ForwardToLeader::<Types> {
            leader_id: Some(2),
            leader_node: None,
            reason,
        };
        let told = |error| write_error(ShardId(1), error);
        for reason in [
            ForwardReason::LeadershipTransfer,
            ForwardReason::LeaseExpired,
        ] {
            let error = told(ClientWriteError::ForwardToLeader(forward(reason)));
            assert_eq!(error, not_leader(ShardId(1), Some(2)));
        }
        let lost = ClientWriteError::ForwardToLeader(forward(ForwardReason::NotLeader));
        assert!(matches!(told(lost), ProposeError::Unknown(_)));
        // Another leader may have committed it.
        let discarded = ClientWriteError::LogEntryDiscarded(forward(ForwardReason::NotLeader));
        assert!(matches!(told(discarded), ProposeError::Unknown(_)));
    }
}
