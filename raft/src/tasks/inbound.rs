//! What other nodes ask of this one. Frames of all shards come in on one stream per node; a frame
//! that cannot be read, or that is for a replica that is not here, is answered and harms nothing.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use model::command::{Command, Reason, Reply};
use model::id::{NodeId, ShardId};
use model::{limits, mutant, rules};
use openraft::raft::{
    AppendEntriesRequest, TransferLeaderError, TransferLeaderRequest, VoteRequest,
};
use prost::Message;
use proto::node as wire;
use proto::node::frame::Body;
use proto::node::peer_server::{Peer, PeerServer};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use crate::adapter::trust;
use crate::adapter::types::{self, Types};
use crate::link;
use crate::link::frame;
use crate::link::hello;
use crate::link::out::Out;
use crate::replica::batcher::Done;
use crate::replica::group::Group;
use crate::replica::incoming;
use crate::shared::Shared;
use crate::tasks::election;
use crate::tasks::handover;
use crate::tasks::heal;
use crate::tasks::news;
use crate::tasks::read_index;
use crate::tasks::scrub;
use crate::tasks::sleep;

/// Why entries are refused.
const NO_ROOM: &str = "this node's disk has no room for entries";
/// Appends of one stream that wait for its group.
const APPENDS_WAITING_MAX: usize = 256;
/// Streams of appends of one connection: one for each shard, and those that are about to end.
const STREAMS_MAX: usize = 2 * limits::SHARDS_MAX as usize;

/// The node-to-node service.
pub(crate) struct Inbound {
    node: Arc<Shared>,
}

/// The service, ready to be served.
pub(crate) fn service(node: Arc<Shared>) -> PeerServer<Inbound> {
    PeerServer::new(Inbound { node })
        .max_decoding_message_size(limits::FRAME_BYTES_MAX)
        .max_encoding_message_size(limits::FRAME_BYTES_MAX)
}

type Answers<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl Peer for Inbound {
    type LinkStream = Answers<wire::Frames>;
    type WatchClusterStream = Answers<wire::ClusterView>;
    type CopySnapshotStream = Answers<wire::SnapshotCame>;

    async fn link(
        &self,
        request: Request<Streaming<wire::Frames>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let from = self.node.admit(request.metadata()).await?;
        if let Some(link) = self.node.peers().link(from) {
            link.knock();
        }
        let (out, answers) = Out::new();
        let (removed, end) = oneshot::channel();
        let connection = Connection {
            node: self.node.clone(),
            from,
            out,
            streams: BTreeMap::new(),
        };
        tokio::spawn(connection.run(request.into_inner(), removed));
        let end = futures::stream::once(end);
        let end = end.filter_map(|end| futures::future::ready(end.ok().map(Err)));
        let answers = futures::stream::select(answers.batches().map(Ok), end);
        Ok(self.node.hello().response(answers.boxed()))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<wire::SnapshotChunk>>,
    ) -> Result<Response<wire::SnapshotDone>, Status> {
        let Opened {
            from,
            group,
            head,
            mut chunks,
        } = self.opened(request, |head| head.files).await?;
        let shard = group.shard;
        tracing::info!(%shard, %from, "receiving a snapshot");
        let data = incoming::receive_files(&head, &group.state, &mut chunks).await?;
        let vote = Some(incoming::install(&group, head.vote, data).await?);
        Ok(self.node.hello().response(wire::SnapshotDone { vote }))
    }

    async fn copy_snapshot(
        &self,
        request: Request<Streaming<wire::SnapshotChunk>>,
    ) -> Result<Response<Self::CopySnapshotStream>, Status> {
        // How many files there are its end tells.
        let Opened {
            from,
            group,
            head,
            chunks,
        } = self.opened(request, |_| 1).await?;
        let (out, answers) = mpsc::channel(1);
        tokio::spawn(async move {
            if let Err(status) = incoming::receive(&group, from, head, chunks, &out).await {
                let _ = out.send(Err(status)).await;
            }
        });
        let answers = tokio_stream::wrappers::ReceiverStream::new(answers);
        Ok(self.node.hello().response(answers.boxed()))
    }

    async fn watch_cluster(
        &self,
        request: Request<wire::WatchClusterRequest>,
    ) -> Result<Response<Self::WatchClusterStream>, Status> {
        // One that has just joined asks again, or others: what members know is for members.
        self.node.admit(request.metadata()).await?;
        let known = request.into_inner().known_epoch;
        let views = tokio_stream::wrappers::WatchStream::new(self.node.view());
        let views = views.filter(move |view| futures::future::ready(view.epoch > known));
        let views = views.map(|view| {
            Ok(wire::ClusterView {
                state: view.encode_to_vec().into(),
            })
        });
        Ok(Response::new(views.boxed()))
    }

    async fn who(
        &self,
        request: Request<wire::WhoRequest>,
    ) -> Result<Response<wire::WhoAnswer>, Status> {
        let node = &self.node;
        let here = Some(node.place());
        if node.hello().wrote(request.metadata()) {
            let others = Vec::new();
            return Ok(Response::new(wire::WhoAnswer { here, others }));
        }
        let others = match node.admit(request.metadata()).await {
            Ok(_) => node.peers().whereabouts().all(),
            // A node that has joined and is not known here yet.
            Err(status) if status.code() == tonic::Code::Unavailable => Vec::new(),
            Err(status) => return Err(status),
        };
        Ok(Response::new(wire::WhoAnswer { here, others }))
    }
}

/// A snapshot that comes, behind its head.
struct Opened {
    from: NodeId,
    group: Arc<Group>,
    head: wire::SnapshotHead,
    chunks: Streaming<wire::SnapshotChunk>,
}

impl Inbound {
    /// Looks at who sends a snapshot, and at its head: before anything of it is kept, it must be for a
    /// replica that is here and has room for it. `files` says how many files the head stands for.
    async fn opened(
        &self,
        request: Request<Streaming<wire::SnapshotChunk>>,
        files: impl FnOnce(&wire::SnapshotHead) -> u32,
    ) -> Result<Opened, Status> {
        let node = &self.node;
        let from = node.admit(request.metadata()).await?;
        let mut chunks = request.into_inner();
        let head = incoming::receive_head(&mut chunks).await?;
        let shard = ShardId(head.shard);
        let here = node.group(shard);
        let group = here.ok_or_else(|| Status::not_found(format!("no replica of {shard} here")))?;
        let files = files(&head);
        let named = wire::SnapshotHead {
            files,
            ..head.clone()
        };
        let invalid = |e: types::Malformed| Status::invalid_argument(e.to_string());
        trust::snapshot(&named, from, group.known_term()).map_err(invalid)?;
        meant(node, &group, head.incarnation).map_err(Status::not_found)?;
        if node.disk_is_tight() && !shard.is_meta() {
            return Err(Status::resource_exhausted(
                "this node's disk has no room for a snapshot",
            ));
        }
        Ok(Opened {
            from,
            group,
            head,
            chunks,
        })
    }
}

struct Connection {
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
    /// Handles what comes until the connection ends; `removed` hears what to tell a node that is not of
    /// the cluster any more.
    async fn run(
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
            true => self.node.pass_on(shard, &command, expires),
            false => None,
        };
        match passed {
            Some(answered) => drop(tokio::spawn(async move { done.answer(answered.await) })),
            None => group.batcher.submit(command, expires, done),
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

/// Whether what a peer says may be so, as far as this replica can tell.
fn believable(body: &Body, from: NodeId, group: &Group) -> Result<(), types::Malformed> {
    let known = group.known_term();
    match body {
        Body::Append(append) => believable_append(append, from, group),
        Body::Vote(vote) => trust::asks_for_vote(vote, from, known),
        Body::Transfer(transfer) => trust::transfer(transfer, from, known),
        // They only ask, or are looked at where they are answered.
        _ => Ok(()),
    }
}

fn believable_append(
    append: &wire::AppendEntries,
    from: NodeId,
    group: &Group,
) -> Result<(), types::Malformed> {
    trust::append(append, from, group.known_term())?;
    match group.contradicts(append) {
        Some(store::Position { term, index }) => Err(types::Malformed(format!(
            "entry {term}-{index} is not the one that is decided"
        ))),
        None => Ok(()),
    }
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

/// Whether what is for the `incarnation` of a replica is for this one; see [`crate::adapter::incarnation`].
fn meant(node: &Shared, group: &Group, incarnation: u64) -> Result<(), String> {
    let own = group.place.incarnation;
    if own == incarnation || mutant!("votes-before-it-is-whole") {
        node.peers().vitals().well_addressed(group.shard);
        return Ok(());
    }
    node.peers().vitals().misaddressed(group.shard);
    Err(format!(
        "this replica of {} is incarnation {own}, not {incarnation}",
        group.shard
    ))
}

fn refused(message: String) -> Body {
    frame::failed(wire::failed::Reason::Refused, None, message)
}

fn no_replica(shard: u32) -> Body {
    let message = format!("no replica of s{shard} here");
    frame::failed(wire::failed::Reason::NoReplica, None, message)
}

/// Answers a request that stands for itself.
async fn unary(node: &Arc<Shared>, group: &Arc<Group>, body: Body) -> Result<Body, String> {
    match body {
        Body::Append(append) => {
            meant(node, group, append.incarnation)?;
            let request = types::append_from_wire(append).map_err(|e| e.to_string())?;
            if !request.entries.is_empty() && group.takes_no_entries() {
                return Err(NO_ROOM.to_owned());
            }
            let prev = request.prev_log_id;
            let last = request.entries.last().map(|e| e.log_id).or(prev);
            let answer = group
                .raft
                .append_entries(request)
                .await
                .map_err(|e| e.to_string())?;
            group.leadership.sleep.wake();
            if answer.is_conflict() && prev.is_none() {
                return Err("a conflict before the first entry".into());
            }
            let end = group.last_synced().filter(|_| answer.is_conflict());
            let result = answer.into_stream_result(prev, last);
            Ok(Body::AppendAnswer(wire::AppendAnswer {
                end: end.map(|end| types::log_id_to_wire(&types::log_id(end))),
                ..types::append_answer_to_wire(result)
            }))
        }
        Body::Vote(vote) => {
            meant(node, group, vote.incarnation)?;
            group.leadership.sleep.begin();
            let mut request = VoteRequest::<Types> {
                vote: types::required_vote(vote.vote).map_err(|e| e.to_string())?,
                last_log_id: vote.last.as_ref().map(types::log_id_from_wire),
                leadership_transfer: vote.transfer,
            };
            if mutant!("vote-for-a-shorter-log") {
                request.last_log_id = group.last_log().map(types::log_id);
            }
            let (asked, last) = (request.vote, request.last_log_id);
            let candidate = request.vote.leader_id().voted_for;
            if !group.may_elect(request.last_log_id.as_ref()) {
                return Err("this node once had more of the shard".into());
            }
            let passes = || election::may_pass_lease(node, group, candidate);
            if vote.transfer && !passes() && !passes_once_settled(node, passes).await {
                return Err("the leader is alive as seen from here".into());
            }
            if !vote.transfer && !sleep::may_vote(node, group, candidate) {
                return Err("the shard sleeps, and its leader is alive as seen from here".into());
            }
            let answer = if vote.pre {
                group.raft.pre_vote(request).await
            } else {
                if last.as_ref().map(types::position) < group.last_log() {
                    let term = asked.leader_id().term;
                    group.outlogged.fetch_max(term, Ordering::Relaxed);
                }
                group.raft.vote(request).await
            };
            let mut answer = answer.map_err(|e| e.to_string())?;
            if mutant!("two-votes-in-a-term")
                && answer.vote.leader_id().term == asked.leader_id().term
                && answer.last_log_id <= last
            {
                (answer.vote, answer.vote_granted) = (asked, true);
            }
            Ok(Body::VoteAnswer(wire::VoteAnswer {
                vote: Some(types::vote_to_wire(&answer.vote)),
                granted: answer.vote_granted,
                last: answer.last_log_id.as_ref().map(types::log_id_to_wire),
                read_window_ms: Some(node.peers().vitals().windows().largest_ms()),
            }))
        }
        Body::Transfer(transfer) => {
            if transfer.to == node.id().0 && !group.place.counts() {
                return Err("this replica is no member yet".into());
            }
            let request = TransferLeaderRequest::<Types>::new(
                types::required_vote(transfer.from).map_err(|e| e.to_string())?,
                transfer.to,
                transfer.last.as_ref().map(types::log_id_from_wire),
            );
            let answer = group
                .raft
                .handle_transfer_leader(request)
                .await
                .map_err(|e| e.to_string())?;
            Ok(Body::TransferAnswer(transfer_answer(answer)))
        }
        // Asked of nobody's death: whether this node could lead.
        Body::LastLog(asked) if asked.dead == 0 && node.is_leaving() => {
            Err("this node is going away".into())
        }
        Body::LastLog(asked) if asked.dead == 0 && node.disk_is_full() => {
            Err("this node's disk is full".into())
        }
        Body::LastLog(asked) if asked.dead == 0 && node.time().is_unfit(node.id()) => {
            Err("this node's clock is off".into())
        }
        Body::LastLog(asked) => {
            // What it says of the dead is what it has read.
            node.peers().vitals().pulse().settled().await;
            let answer = election::asked(node, group, NodeId(asked.dead));
            Ok(Body::LastLogAnswer(answer))
        }
        Body::AppendAnswer(_)
        | Body::VoteAnswer(_)
        | Body::TransferAnswer(_)
        | Body::LastLogAnswer(_)
        | Body::ForwardAnswer(_)
        | Body::Forward(_)
        | Body::Failed(_)
        | Body::Leads(_)
        | Body::Ping(_)
        | Body::Pong(_)
        | Body::AskPositions(_)
        | Body::Positions(_)
        | Body::Following(_)
        | Body::AskReplica(_)
        | Body::Replica(_)
        | Body::AskScrub(_)
        | Body::Scrubbed(_)
        | Body::Sleep(_) => Err("an answer is not a question".into()),
    }
}

/// Looks again once what came while this process stood still has been read: until then it holds everybody
/// alive, and to refuse a vote for that costs a term.
async fn passes_once_settled(node: &Shared, passes: impl Fn() -> bool) -> bool {
    if model::mutant!("votes-before-it-has-read") {
        return false;
    }
    node.peers().vitals().pulse().settled().await;
    passes()
}

fn transfer_answer(answer: Result<(), TransferLeaderError<Types>>) -> wire::TransferAnswer {
    let log = |id: &Option<types::LogId>| id.as_ref().map(types::log_id_to_wire);
    match answer {
        Ok(()) => wire::TransferAnswer {
            accepted: true,
            ..Default::default()
        },
        Err(TransferLeaderError::VoteChanged { expected, actual }) => wire::TransferAnswer {
            expected_vote: Some(types::vote_to_wire(&expected)),
            actual_vote: Some(types::vote_to_wire(&actual)),
            ..Default::default()
        },
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => wire::TransferAnswer {
            expected_log: log(&expected),
            actual_log: log(&actual),
            ..Default::default()
        },
    }
}
