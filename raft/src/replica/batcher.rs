//! In front of each leader: many commands become one Raft entry. While a few entries are on their
//! way, everything that arrives waits and goes together, so that batches grow with the load and a
//! lone command waits for nobody. What is on its way for long, over a wide area, is not waited for:
//! a few milliseconds behind it the next entry follows.

mod command_time;
mod done;
mod entry;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use model::cluster::{Change, ChangeBody, Join};
use model::command::{self, Command, Reply};
use model::trace::Context;
use model::{hash, limits};
use prost::Message;
use store::state::ShardState;
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::entry::{Answered, Batch, propose};
use self::waiting::Held;
use crate::adapter::told;
use crate::api::{Events, ProposeError};
use crate::link::room::SharedRoom;
use crate::replica::leaders::Leadership;

pub(crate) use self::command_time::CommandTime;
pub(crate) use self::done::Done;
pub(crate) use self::waiting::Waiting;

/// How long commands wait for an entry that is on its way.
const SPACING: Duration = Duration::from_millis(limits::ENTRY_SPACING_MS);

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

#[cfg(test)]
mod tests;
