//! One connection of another node: its frames, and the streams of appends among them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use model::command::{Command, Reason, Reply};
use model::id::{NodeId, ShardId};
use model::trace::Context;
use model::{limits, rules};
use openraft::raft::AppendEntriesRequest;
use prost::Message;
use proto::node as wire;
use proto::node::frame::Body;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tonic::{Status, Streaming};

use crate::adapter::types::{self, Types};
use crate::link::out::Out;
use crate::link::{self, frame, hello};
use crate::replica::batcher::Done;
use crate::replica::group::Group;
use crate::shared::Shared;
use crate::tasks::{election, handover, heal, news, read_index, scrub, sleep};

use super::answers::{NO_ROOM, believable, believable_append, meant, no_replica, refused, unary};

/// Appends of one stream that wait for its group.
const APPENDS_WAITING_MAX: usize = 256;
/// Streams of appends of one connection: one for each shard, and those that are about to end.
const STREAMS_MAX: usize = 2 * limits::SHARDS_MAX as usize;

/// One connection of another node.
pub(super) struct Connection {
    node: Arc<Shared>,
    from: NodeId,
    out: Out,
    streams: BTreeMap<u64, Stream>,
}

/// A stream of appends, and the way to its group.
struct Stream {
    group: Arc<Group>,
    /// Of boxes: it has room for 32 from its beginning on, for each shard that is followed.
    requests: mpsc::Sender<Box<AppendEntriesRequest<Types>>>,
}

impl Connection {
    /// Of `from`, whose answers go to `out`.
    pub(super) fn new(node: Arc<Shared>, from: NodeId, out: Out) -> Connection {
        Connection {
            node,
            from,
            out,
            streams: BTreeMap::new(),
        }
    }

    /// Handles what comes until the connection ends; `removed` hears what to tell a node that is not of
    /// the cluster any more.
    pub(super) async fn run(
        mut self,
        mut incoming: Streaming<wire::Frames>,
        removed: oneshot::Sender<Status>,
    ) {
        let stop = self.node.stop.clone();
        let mut views = self.node.view();
        // It may have changed since the caller was let in.
        views.mark_changed();
        loop {
            let batch = tokio::select! {
                () = stop.cancelled() => return,
                Ok(()) = views.changed() => {
                    if views.borrow_and_update().was_removed(self.from) {
                        // Nobody hears it whose connection has just ended.
                        let _ = removed.send(hello::removal(self.from));
                        return;
                    }
                    continue;
                }
                batch = incoming.message() => batch,
            };
            match batch {
                Ok(Some(batch)) if batch.frames.len() > wire::FRAMES_MAX => {
                    let max = wire::FRAMES_MAX;
                    tracing::warn!(from = %self.from, max, "too many frames in one message");
                    return;
                }
                Ok(Some(batch)) if batch.format == link::FORMAT => {
                    if !self.handle_all(batch.frames).await {
                        return;
                    }
                    // Who takes no answers is asked nothing more either.
                    let room = self.out.room();
                    if stop.run_until_cancelled(room).await.is_none() {
                        return;
                    }
                }
                Ok(Some(batch)) => {
                    tracing::warn!(from = %self.from, format = batch.format, "unknown frames");
                    return;
                }
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn answer(&self, id: u64, shard: u32, body: Body) {
        self.out.send(frame::single(id, shard, body));
    }

    /// Of pings that came together the last one is answered: it tells all that the others did.
    /// Whether the connection goes on.
    async fn handle_all(&mut self, frames: Vec<wire::Frame>) -> bool {
        let is_ping = |frame: &wire::Frame| matches!(frame.body, Some(Body::Ping(_)));
        let last_ping = frames.iter().rposition(is_ping);
        for (at, frame) in frames.into_iter().enumerate() {
            if let Some(Body::Ping(ping)) = &frame.body {
                if !self.hear(ping).await {
                    return false;
                }
                if Some(at) != last_ping {
                    continue;
                }
            }
            self.handle(frame);
        }
        true
    }

    /// Notes the other's read window before anything behind it is answered; whether it could.
    async fn hear(&self, ping: &wire::Ping) -> bool {
        let windows = self.node.peers().vitals().windows();
        let noted = windows.note(self.from, ping.read_window_ms).await;
        if let Err(error) = &noted {
            tracing::warn!(from = %self.from, %error, "a read window could not be noted");
        }
        noted.is_ok()
    }

    fn handle(&mut self, frame: wire::Frame) {
        let (id, shard) = (frame.id, frame.shard);
        if frame.stream != 0 {
            return self.handle_stream(frame);
        }
        match frame.body {
            Some(Body::Ping(ping)) => {
                let pong = pong(&self.node, self.from, &ping);
                self.answer(id, 0, Body::Pong(pong));
            }
            Some(Body::Leads(leads)) => news::hear(&self.node, self.from, &leads),
            Some(Body::Forward(forward)) => self.forward(id, ShardId(shard), forward),
            Some(Body::Following(asked)) => {
                let answer = read_index::still_follows(&self.node, self.from, &asked);
                self.answer(id, shard, answer);
            }
            Some(Body::Sleep(asked)) => {
                let answer = sleep::lie_down(&self.node, self.from, &asked);
                self.answer(id, shard, answer);
            }
            Some(Body::AskReplica(ask)) => {
                let (node, out) = (self.node.clone(), self.out.clone());
                tokio::spawn(async move {
                    let answer = heal::tell(&node, ShardId(shard), &ask);
                    out.send(frame::single(id, shard, Body::Replica(answer)));
                });
            }
            Some(Body::AskScrub(ask)) => {
                let answer = scrub::tell(&self.node, self.from, ShardId(shard), &ask);
                self.answer(id, shard, Body::Scrubbed(answer));
            }
            Some(Body::AskPositions(ask)) => {
                let (node, from, out) = (self.node.clone(), self.from, self.out.clone());
                tokio::spawn(async move {
                    let answer = read_index::tell(&node, from, ask).await;
                    out.send(frame::single(id, shard, answer));
                });
            }
            Some(body) => {
                let Some(group) = self.node.group(ShardId(shard)) else {
                    return self.answer(id, shard, no_replica(shard));
                };
                if let Err(why) = believable(&body, self.from, &group) {
                    tracing::warn!(from = %self.from, shard = %group.shard, %why, "a peer's word is refused");
                    return self.answer(id, shard, refused(why.to_string()));
                }
                if let Body::Transfer(transfer) = &body {
                    // At once: calls for the next leader may follow on this very stream.
                    self.told(&group, transfer);
                }
                let out = self.out.clone();
                let node = self.node.clone();
                tokio::spawn(async move {
                    let body = unary(&node, &group, body).await;
                    let body = body.unwrap_or_else(refused);
                    out.send(frame::single(id, shard, body));
                });
            }
            None => {}
        }
    }

    /// Notes a hand-over, and watches over it.
    fn told(&self, group: &Arc<Group>, transfer: &wire::TransferLeader) {
        let Some(from) = &transfer.from else { return };
        let (leader, to) = (NodeId(from.node), NodeId(transfer.to));
        let mut leaders = group.leadership.leaders.lock();
        let news = leaders.told(from.term, leader, to, transfer.windows_over);
        drop(leaders);
        if news {
            let watch = handover::watch(self.node.clone(), group.clone(), leader);
            let stop = self.node.stop.clone();
            tokio::spawn(async move { stop.run_until_cancelled(watch).await });
        }
    }

    fn forward(&self, id: u64, shard: ShardId, forward: wire::Forward) {
        let expires = Instant::now() + Duration::from_millis(u64::from(forward.timeout_ms));
        let Some(group) = self.node.group(shard) else {
            return self.answer(id, shard.0, no_replica(shard.0));
        };
        if self.node.quorums.lacks(shard) {
            let message = "the quorum is lost as seen from here".to_owned();
            let reason = wire::failed::Reason::NotLeader;
            return self.answer(id, shard.0, frame::failed(reason, None, message));
        }
        let trace = Context::from_bytes(&forward.trace);
        // One command a frame: the frames are what is batched.
        let mut commands = forward.commands.into_iter();
        let (Some(command), None) = (commands.next(), commands.next()) else {
            return self.answer(id, shard.0, refused("a forward holds one command".into()));
        };
        let done = Done::There {
            id,
            shard,
            out: self.out.clone(),
        };
        // As the gateway has looked at it, if it is one of this version.
        let kept = Command::decode(command.clone()).map_err(|error| format!("command: {error}"));
        let kept = kept.and_then(|command| rules::forwarded(&command, self.node.body_bytes_max));
        if let Err(why) = kept {
            tracing::warn!(from = %self.from, %shard, %why, "a forwarded command is refused");
            return done.answer(Ok(Reply::refused(Reason::Invalid, why)));
        }
        // Sent on now, so that the order stays that of the frames.
        let passed = match forward.pass_on {
            true => self.node.pass_on(shard, (&command, trace), expires),
            false => None,
        };
        match passed {
            Some(answered) => drop(tokio::spawn(async move { done.answer(answered.await) })),
            None => group.batcher.submit(command, expires, done, trace),
        }
    }

    fn handle_stream(&mut self, frame: wire::Frame) {
        let (stream, shard) = (frame.stream, frame.shard);
        if frame.end {
            self.streams.remove(&stream);
            return;
        }
        let Some(Body::Append(append)) = frame.body else {
            return;
        };
        if let Err(message) = self.append(stream, shard, append) {
            self.streams.remove(&stream);
            let body = Some(refused(message));
            self.out.send(frame::streamed(stream, shard, body, true));
        }
    }

    /// Passes an append on to its stream's group.
    fn append(
        &mut self,
        stream: u64,
        shard: u32,
        append: wire::AppendEntries,
    ) -> Result<(), String> {
        let from = self.from;
        let incarnation = append.incarnation;
        let to = self.stream(stream, shard, incarnation)?;
        if let Err(why) = believable_append(&append, from, &to.group) {
            tracing::warn!(%from, shard = %to.group.shard, %why, "a peer's word is refused");
            return Err(why.to_string());
        }
        let request = types::append_from_wire(append).map_err(|e| e.to_string())?;
        if !request.entries.is_empty() && to.group.takes_no_entries() {
            return Err(NO_ROOM.to_owned());
        }
        to.requests
            .try_send(Box::new(request))
            .map_err(|e| e.to_string())
    }

    /// The way to the group of a stream, opened by its first frame.
    fn stream(&mut self, stream: u64, shard: u32, incarnation: u64) -> Result<&Stream, String> {
        if !self.streams.contains_key(&stream) && self.streams.len() >= STREAMS_MAX {
            return Err(format!("a connection has at most {STREAMS_MAX} streams"));
        }
        match self.streams.entry(stream) {
            Entry::Occupied(there) => Ok(there.into_mut()),
            Entry::Vacant(place) => {
                let group = self.node.group(ShardId(shard));
                let group = group.ok_or_else(|| format!("no replica of s{shard} here"))?;
                // A group is of one incarnation, and a stream of one group.
                meant(&self.node, &group, incarnation)?;
                let (requests, received) = mpsc::channel(APPENDS_WAITING_MAX);
                let received = tokio_stream::wrappers::ReceiverStream::new(received);
                let answered = answer_stream(group.clone(), received, stream, self.out.clone());
                tokio::spawn(answered);
                Ok(place.insert(Stream { group, requests }))
            }
        }
    }
}

/// Answers a node's ping, and notes what it tells.
fn pong(node: &Arc<Shared>, from: NodeId, ping: &wire::Ping) -> wire::Pong {
    let marks = node.marks();
    marks.note(from, ping.boot_nonce, ping.mark);
    let vitals = node.peers().vitals();
    vitals.note(from, ping.health.clone());
    let unfit = ping.health.iter().flat_map(|health| &health.unfit);
    for group in unfit.filter_map(|shard| node.group(ShardId(*shard))) {
        // Its node lives on, so that nothing else says that it leads no more.
        if group.leader() == Some(from) {
            tokio::spawn(election::elect(node.clone(), group, from));
        }
    }
    let epoch = node.current_view().epoch;
    node.hello().pong(ping, epoch, vitals)
}

/// Runs one stream of appends through its group, answering in order.
async fn answer_stream(
    group: Arc<Group>,
    requests: tokio_stream::wrappers::ReceiverStream<Box<AppendEntriesRequest<Types>>>,
    stream: u64,
    out: Out,
) {
    let shard = group.shard.0;
    let mut results = std::pin::pin!(group.raft.stream_append(requests.map(|request| *request)));
    while let Some(result) = results.next().await {
        // Behind the append, which renews the leader's lease: who wakes past it would stand.
        group.leadership.sleep.wake();
        let (body, end) = match result {
            Ok(result) => {
                let end = result.is_err();
                (
                    Body::AppendAnswer(types::append_answer_to_wire(result)),
                    end,
                )
            }
            Err(fatal) => (refused(fatal.to_string()), true),
        };
        let frame = frame::streamed(stream, shard, Some(body), end);
        if !out.send(frame) || end {
            return;
        }
    }
}
