//! openraft's network over the links. One of these exists per group and target; all of a target's
//! share its link.

mod pipeline;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt};
use model::id::{NodeId, ShardId};
use model::mutant;
use openraft::base::{BoxFuture, BoxStream};
use openraft::error::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError,
    StreamAppendResult, TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::{AnyError, OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use proto::node as wire;
use proto::node::frame::Body;
use tokio::time::Instant;

use crate::adapter::acks::{Acks, Sent};
use crate::adapter::copy;
use crate::adapter::incarnation::{Member, Place};
use crate::adapter::log_store::LogStore;
use crate::adapter::state_machine::SnapshotData;
use crate::adapter::trust::{self, Said};
use crate::adapter::types::{self, LogId, Snapshot, Types, Vote};
use crate::adapter::vote_log_ends::Granted;
use crate::api::Event;
use crate::link::peers::Peers;
use crate::link::windows;
use crate::link::{Link, LinkError};
use crate::time::Time;

/// What a replica's openraft timers do. Who sends an append is awake.
pub(crate) trait Wake: Send + Sync {
    /// Lets the timers run again.
    fn wake(&self);
}

/// What a replica knows of read windows.
pub(crate) trait ReadWindows: Send + Sync {
    /// A voter that has voted for this node in `term` knows of a window as large as this.
    fn told(&self, term: u64, window: Duration);

    /// Whether this node has given up its own window in `term`, which a hand-over tells.
    fn gave_up(&self, term: u64) -> bool;
}

/// Makes the clients of one group.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) shard: ShardId,
    pub(crate) peers: Peers,
    /// Where answers to appends are noted.
    pub(crate) acks: Arc<Acks>,
    pub(crate) windows: Arc<dyn ReadWindows>,
    pub(crate) timers: Arc<dyn Wake>,
    /// What is known of others' logs is looked up in it.
    pub(crate) log: LogStore,
    /// What voters said of theirs.
    pub(crate) granted: Arc<Granted>,
    /// Whether this replica may ask for votes.
    pub(crate) place: Arc<Place>,
}

/// One group's way to one replica. openraft has one for entries and one for heartbeats.
pub(crate) struct Client {
    group: Network,
    target: NodeId,
    /// Which replica of the target's the membership names.
    incarnation: u64,
    /// How far the target's log was last said to match without asking it.
    told: Option<LogId>,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, member: &Member) -> Client {
        Client {
            group: self.clone(),
            target: NodeId(target),
            incarnation: member.incarnation,
            told: None,
        }
    }
}

fn unreachable(why: impl std::fmt::Display) -> Unreachable<Types> {
    Unreachable::new(&AnyError::error(why))
}

fn malformed(error: types::Malformed) -> RPCError<Types> {
    RPCError::Network(NetworkError::new(&AnyError::error(error)))
}

impl Client {
    fn link(&self) -> Result<Link, RPCError<Types>> {
        self.group
            .peers
            .link(self.target)
            .filter(Link::is_up)
            .ok_or_else(|| RPCError::Unreachable(unreachable(format!("{} is down", self.target))))
    }

    async fn call(&self, body: Body, option: &RPCOption) -> Result<Body, RPCError<Types>> {
        self.call_over(&self.link()?, body, option).await
    }

    async fn call_over(
        &self,
        link: &Link,
        body: Body,
        option: &RPCOption,
    ) -> Result<Body, RPCError<Types>> {
        // openraft's limit is for heartbeats, whatever the distance.
        let limit = option.soft_ttl().max(link.round() * 2);
        let shard = self.group.shard.0;
        let answer = match body {
            Body::Append(append) if !append.entries.is_empty() => {
                link.call_with_entries(shard, append, limit).await
            }
            body => link.call(shard, body, limit).await,
        };
        answer.map_err(|error| match error {
            LinkError::Down | LinkError::Refused(_) => RPCError::Unreachable(unreachable(error)),
            LinkError::NoAnswer => RPCError::Network(NetworkError::new(&AnyError::error(error))),
        })
    }

    /// One append that stands for itself.
    async fn append(
        &self,
        request: AppendEntriesRequest<Types>,
        option: &RPCOption,
    ) -> Result<StreamAppendResult<Types>, RPCError<Types>> {
        let (result, _) = self.append_or_end(request, option).await?;
        Ok(result)
    }

    /// The same; with a conflict comes where the target's log ends.
    async fn append_or_end(
        &self,
        request: AppendEntriesRequest<Types>,
        option: &RPCOption,
    ) -> Result<(StreamAppendResult<Types>, Option<LogId>), RPCError<Types>> {
        // openraft goes on trying one that is down.
        let link = self.link()?;
        self.group.timers.wake();
        let time = self.group.peers.vitals().time();
        let (sent, said) = (sending(&request, time), said(&request));
        let append = Body::Append(types::append_to_wire(request, self.incarnation));
        let Body::AppendAnswer(answer) = self.call_over(&link, append, option).await? else {
            return Err(malformed(types::Malformed(
                "an append was answered otherwise".into(),
            )));
        };
        let known = self.group.log.known_term();
        trust::append_answer(&answer, said, sent.term, known).map_err(malformed)?;
        let end = answer.end.as_ref().map(types::log_id_from_wire);
        let result = types::append_answer_from_wire(answer).map_err(malformed)?;
        if follows(&result) {
            self.group.acks.confirmed(self.target, sent);
        }
        Ok((result, end))
    }

    /// Asks the target, as its leader, whether it holds `own`, and notes how far its log matches.
    async fn ask_for_end(
        &self,
        own: LogId,
        vote: Vote,
        option: &RPCOption,
    ) -> Result<(), RPCError<Types>> {
        let question = AppendEntriesRequest {
            vote,
            prev_log_id: Some(own),
            entries: Vec::new(),
            leader_commit: None,
        };
        let end = match self.append_or_end(question, option).await? {
            (Ok(held), _) => held.filter(|held| *held == own),
            (Err(StreamAppendError::Conflict(_)), end) => {
                end.filter(|end| self.group.log.holds(end))
            }
            // What follows is answered so too.
            (Err(StreamAppendError::HigherVote(_)), _) => return Ok(()),
        };
        self.group.granted.note(self.target, &vote, end);
        Ok(())
    }

    async fn send_snapshot(
        &self,
        link: &Link,
        vote: Vote,
        snapshot: Snapshot,
    ) -> Result<Vote, String> {
        let over = (link, self.group.peers.snapshot_turns());
        match snapshot.snapshot {
            SnapshotData::Outgoing(outgoing) => {
                let of = (self.group.shard, self.incarnation);
                let needed = || self.group.peers.needs(self.group.shard, self.target);
                let began = Instant::now();
                let sent = copy::send(over, needed, of, vote, &outgoing).await;
                if sent.is_ok() {
                    let (shard, to) = (self.group.shard, self.target);
                    let took = began.elapsed();
                    tracing::info!(%shard, %to, ms = took.as_millis(), "a snapshot was sent");
                    let event = Event::SnapshotSent { shard, to, took };
                    self.group.peers.events().note(event);
                }
                sent
            }
            SnapshotData::Received { .. } => Err("only a read point can be sent".into()),
        }
    }

    async fn ask_vote(
        &self,
        rpc: VoteRequest<Types>,
        pre: bool,
        option: &RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let asked = rpc.vote;
        if !self.group.place.counts() && !mutant!("votes-before-it-is-whole") {
            // Of a membership from before this replica began anew.
            return Err(RPCError::Unreachable(unreachable("it is no member yet")));
        }
        if !pre {
            self.group.granted.stands(&asked, rpc.last_log_id);
        }
        let vote = wire::Vote {
            vote: Some(types::vote_to_wire(&rpc.vote)),
            last: rpc.last_log_id.as_ref().map(types::log_id_to_wire),
            pre,
            transfer: rpc.leadership_transfer,
            incarnation: self.incarnation,
        };
        let answer = self.call(Body::Vote(vote), option).await;
        if !pre {
            let what = ballot(&answer);
            self.group.granted.voted(self.target, &asked, what);
        }
        match answer? {
            Body::VoteAnswer(answer) => {
                let known = self.group.log.known_term();
                trust::vote_answer(&answer, &asked, known).map_err(malformed)?;
                let vote = types::required_vote(answer.vote).map_err(malformed)?;
                let last = answer.last.as_ref().map(types::log_id_from_wire);
                let given = !pre && answer.granted && vote == asked;
                if given {
                    let window = windows::said(answer.read_window_ms);
                    let term = asked.leader_id().term;
                    self.group.windows.told(term, window);
                }
                if let Some(end) = last.filter(|end| given && self.group.log.holds(end)) {
                    self.group.granted.note(self.target, &asked, Some(end));
                }
                Ok(VoteResponse::<Types>::new(vote, last, answer.granted))
            }
            _ => Err(malformed(types::Malformed(
                "a vote was answered with something else".into(),
            ))),
        }
    }
}

/// What became of a vote that was asked for, for people.
fn ballot(answer: &Result<Body, RPCError<Types>>) -> String {
    match answer {
        Ok(Body::VoteAnswer(answer)) if answer.granted => "granted it".to_owned(),
        Ok(Body::VoteAnswer(answer)) => {
            let term = answer.vote.as_ref().map_or(0, |vote| vote.term);
            format!("did not grant it, being in term {term}")
        }
        Ok(_) => "answered something else".to_owned(),
        Err(error) => error.to_string(),
    }
}

type AppendResults<'s> = BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>;

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let last = rpc.entries.last().map(|e| e.log_id).or(rpc.prev_log_id);
        Ok(match self.append(rpc, &option).await? {
            Ok(matched) if matched == last => AppendEntriesResponse::Success,
            Ok(matched) => AppendEntriesResponse::PartialSuccess(matched),
            Err(StreamAppendError::Conflict(_)) => AppendEntriesResponse::Conflict,
            Err(StreamAppendError::HigherVote(vote)) => AppendEntriesResponse::HigherVote(vote),
        })
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<AppendResults<'s>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        async move {
            // openraft's backoff sleeps inside the input: failing before it was polled would make
            // a hot loop.
            let Some(first) = input.next().await else {
                return Ok(futures::stream::empty().boxed());
            };
            if let Some(own) = self.group.granted.to_ask(self.target, &first) {
                self.ask_for_end(own, first.vote, &option).await?;
            }
            if let Some(answer) = self.group.granted.answer(self.target, &first) {
                self.told = Some(answer.matched);
                return Ok(futures::stream::iter(answer.results).map(Ok).boxed());
            }
            // openraft tells of commits between the steps of its search, which would make a round of
            // each. The entries that follow tell of them too: this leader's first is among these.
            let told = self.told.take();
            if first.entries.is_empty() && told.is_some() && first.prev_log_id == told {
                self.told = told;
                return Ok(futures::stream::iter([Ok(Ok(told))]).boxed());
            }
            match input.next().now_or_never() {
                // A heartbeat is a stream of one: a plain request is cheaper.
                Some(None) => {
                    let result = self.append(first, &option).await?;
                    Ok(futures::stream::iter([Ok(result)]).boxed())
                }
                Some(Some(second)) => {
                    self.pipeline(futures::stream::iter([first, second]).chain(input))
                }
                None => self.pipeline(futures::stream::iter([first]).chain(input)),
            }
        }
        .boxed()
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_vote(rpc, false, &option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_vote(rpc, true, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let link = self.link()?;
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(&link, vote, snapshot) => {
                Ok(SnapshotResponse::new(sent.map_err(|e| StreamingError::Unreachable(unreachable(e)))?))
            }
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let term = req.from_leader().leader_id().term;
        let transfer = wire::TransferLeader {
            windows_over: self.group.windows.gave_up(term),
            from: Some(types::vote_to_wire(req.from_leader())),
            to: *req.to_node_id(),
            last: req.last_log_id().map(types::log_id_to_wire),
        };
        let Body::TransferAnswer(answer) = self.call(Body::Transfer(transfer), &option).await?
        else {
            return Err(malformed(types::Malformed(
                "a transfer was answered otherwise".into(),
            )));
        };
        Ok(transfer_answer_from_wire(answer))
    }
}

fn transfer_answer_from_wire(answer: wire::TransferAnswer) -> TransferLeaderResponse<Types> {
    match (answer.expected_vote, answer.actual_vote) {
        _ if answer.accepted => Ok(()),
        (Some(expected), Some(actual)) => Err(TransferLeaderError::VoteChanged {
            expected: types::vote_from_wire(&expected),
            actual: types::vote_from_wire(&actual),
        }),
        _ => Err(TransferLeaderError::LogNotFlushed {
            expected: answer.expected_log.as_ref().map(types::log_id_from_wire),
            actual: answer.actual_log.as_ref().map(types::log_id_from_wire),
        }),
    }
}

/// A request that is about to be sent.
fn sending(request: &AppendEntriesRequest<Types>, time: &Time) -> Sent {
    Sent {
        term: request.vote.leader_id().term,
        at: time.now(),
    }
}

/// What it says of logs.
fn said(request: &AppendEntriesRequest<Types>) -> Said {
    let prev = request.prev_log_id.as_ref().map(types::position);
    let last = request.entries.last();
    Said {
        prev,
        last: last.map(|last| types::position(&last.log_id)).or(prev),
    }
}

/// Whether an answer says that its sender follows the leader that it answers. One whose log does
/// not match does: it looks at its vote first.
fn follows(result: &StreamAppendResult<Types>) -> bool {
    match result {
        Ok(_) | Err(StreamAppendError::Conflict(_)) => true,
        Err(StreamAppendError::HigherVote(_)) => false,
    }
}

#[cfg(test)]
mod tests;
