//! A stream of appends to one replica whose answers come in order, while later ones are on their way.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt};
use model::id::{NodeId, ShardId};
use model::limits;
use openraft::AnyError;
use openraft::error::{NetworkError, RPCError};
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use parking_lot::Mutex;
use proto::node as wire;
use proto::node::frame::Body;
use store::Position;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{AppendResults, Client, Wake, follows, malformed, unreachable};
use crate::adapter::acks::{Acks, Sent, Unanswered};
use crate::adapter::log_store::LogStore;
use crate::adapter::trust::{self, Said};
use crate::adapter::types::{self, Traces, Types};
use crate::api::{Events, Piece, Span};
use crate::link::outbox::{Closed, Wait};
use crate::link::peers::Peers;
use crate::link::{AppendSender, AppendStream};
use crate::time::Time;

/// An append that has arrived may wait for a slow fsync; a link that is silent is given up long before.
const APPEND_ANSWER_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether one has arrived.
const ARRIVAL_LOOK: Duration = Duration::from_millis(500);
/// A target that lacks more entries than these is behind, and what it gets can wait until it has caught
/// up: whoever is needed for what is proposed now lacks less.
const BEHIND_ENTRIES: u64 = 4 * limits::ENTRIES_SPACED_MAX as u64;

impl Client {
    /// A stream of appends whose answers come in order, while later ones are on their way.
    pub(super) fn pipeline<'s, S>(&self, requests: S) -> Result<AppendResults<'s>, RPCError<Types>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        let down = || RPCError::Unreachable(unreachable(format!("{} is down", self.target)));
        let stream = self
            .link()?
            .open_stream(self.group.shard.0)
            .ok_or_else(down)?;
        let pumped = Arc::new(Pumped::default());
        let pump = Pump {
            out: stream.sender(),
            pumped: pumped.clone(),
            timers: self.group.timers.clone(),
            log: self.group.log.clone(),
            time: self.group.peers.vitals().time().clone(),
            incarnation: self.incarnation,
            peers: self.group.peers.clone(),
            shard: self.group.shard,
            node: self.group.place.node,
            target: self.target,
            behind: false,
        };
        let pump = tokio::spawn(pump.run(requests));
        let answers = Answers {
            stream,
            pumped,
            shard: self.group.shard,
            node: self.group.place.node,
            target: self.target,
            events: self.group.peers.events().clone(),
            acks: self.group.acks.clone(),
            log: self.group.log.clone(),
            arrived: None,
            _pump: AbortOnDrop(pump),
        };
        let results = futures::stream::unfold(Some(answers), |answers| async move {
            let mut answers = answers?;
            let item = answers.next().await?;
            let more = matches!(item, Ok(Ok(_))).then_some(answers);
            Some((item, more))
        });
        Ok(results.boxed())
    }
}

/// What became of the requests of a stream. Only those that were sent and not answered have a time
/// limit, from when they have arrived.
#[derive(Default)]
struct Pumped {
    unanswered: Unanswered,
    /// Of those that were sent, where they stand in what the link sends, and their bytes.
    on_the_way: Mutex<OnTheWay>,
    ended: AtomicBool,
    changed: Notify,
    /// Told when one is answered.
    answered: Notify,
}

#[derive(Default)]
struct OnTheWay {
    requests: VecDeque<Request>,
    bytes: u64,
}

/// One that was sent.
struct Request {
    /// Where it stands in what the link sends.
    position: u64,
    bytes: u64,
    /// Calls whose commands are in it and are traced, and when it was sent.
    traced: Option<Box<(Instant, Traces)>>,
}

impl Pumped {
    fn has_room(&self) -> bool {
        let way = self.on_the_way.lock();
        way.requests.len() < limits::APPENDS_UNANSWERED_MAX
            && way.bytes < limits::APPENDS_UNANSWERED_BYTES_MAX
    }

    /// Where the request stands that the next answer is for.
    fn next_position(&self) -> Option<u64> {
        let way = self.on_the_way.lock();
        way.requests.front().map(|request| request.position)
    }

    fn sent(&self, request: Request) {
        let mut way = self.on_the_way.lock();
        way.bytes += request.bytes;
        way.requests.push_back(request);
    }

    fn pop(&self) -> Option<(Sent, Said, Option<Request>)> {
        let mut way = self.on_the_way.lock();
        let request = way.requests.pop_front();
        way.bytes -= request.as_ref().map_or(0, |request| request.bytes);
        drop(way);
        self.answered.notify_one();
        let (sent, said) = self.unanswered.pop()?;
        Some((sent, said, request))
    }
}

/// Sends the requests of a stream.
struct Pump {
    out: AppendSender,
    pumped: Arc<Pumped>,
    timers: Arc<dyn Wake>,
    log: LogStore,
    time: Time,
    /// Which replica of the target's the membership names.
    incarnation: u64,
    peers: Peers,
    shard: ShardId,
    node: NodeId,
    target: NodeId,
    /// The target lacks many entries, so that what it gets can wait.
    behind: bool,
}

impl Pump {
    async fn run<S>(mut self, mut requests: S)
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Unpin,
    {
        while let Some(request) = requests.next().await {
            self.timers.wake();
            let last = request.entries.last().map(|entry| entry.log_id.index());
            let after = last.map_or(0, |last| self.log.last_index().saturating_sub(last));
            self.behind |= after + request.entries.len() as u64 > BEHIND_ENTRIES;
            if self.send(request).await.is_err() {
                return;
            }
            // It has all of it once this has arrived.
            self.behind &= after > 0;
        }
        self.pumped.ended.store(true, Ordering::SeqCst);
        self.pumped.changed.notify_one();
    }

    /// Whether so many bytes of entries can wait.
    fn wait(&self, bytes: u64) -> Wait {
        match self.behind && bytes > 0 {
            false => Wait::No,
            true if self.peers.needs(self.shard, self.target) => Wait::Needed,
            true => Wait::Yes,
        }
    }

    /// Names the way to the target in what is traced; what was there before.
    fn traced(&self, append: &mut wire::AppendEntries) -> Option<Box<(Instant, Traces)>> {
        let mut all = Traces::new();
        let traced = append.entries.iter_mut();
        for entry in traced.filter(|entry| !entry.traces.is_empty()) {
            let traces = types::traces_from_wire(&entry.traces);
            let piece = Piece::Replicate(self.target);
            let below = traces.iter().map(|trace| piece.of(*trace, self.node));
            entry.traces = types::traces_to_wire(&below.collect::<Traces>());
            all.extend(traces);
        }
        (!all.is_empty()).then(|| Box::new((Instant::now(), all)))
    }

    /// Sends a request, in pieces when it can wait: each is a request of its own, with an answer.
    async fn send(&self, request: AppendEntriesRequest<Types>) -> Result<(), Closed> {
        let term = request.vote.leader_id().term;
        let mut whole = types::append_to_wire(request, self.incarnation);
        loop {
            let rest = match self.behind {
                true => split_off(&mut whole, self.out.piece_bytes()),
                false => None,
            };
            while !self.pumped.has_room() {
                self.pumped.answered.notified().await;
            }
            // Before it is sent, as is said of it.
            let at = self.time.now();
            self.pumped
                .unanswered
                .push(Sent { term, at }, said_of(&whole));
            let bytes = bytes_of(&whole);
            let traced = self.traced(&mut whole);
            let position = self.out.send(whole, self.wait(bytes)).await?;
            self.pumped.sent(Request {
                position,
                bytes,
                traced,
            });
            self.pumped.changed.notify_one();
            match rest {
                Some(rest) => whole = rest,
                None => return Ok(()),
            }
        }
    }
}

/// What an append says of logs.
fn said_of(append: &wire::AppendEntries) -> Said {
    let position = |id: &wire::LogId| Position {
        term: id.term,
        index: id.index,
    };
    let prev = append.prev.as_ref().map(position);
    let last = append.entries.last().and_then(|last| last.id.as_ref());
    Said {
        prev,
        last: last.map(position).or(prev),
    }
}

fn bytes_of(append: &wire::AppendEntries) -> u64 {
    let records = append.entries.iter().map(|entry| entry.record.len() as u64);
    records.sum()
}

/// Cuts an append behind about so many bytes; what is behind the cut is an append of its own.
fn split_off(append: &mut wire::AppendEntries, bytes: u64) -> Option<wire::AppendEntries> {
    let mut kept = 0;
    let cut = append.entries.iter().position(|entry| {
        let full = kept >= bytes;
        kept += entry.record.len() as u64;
        full
    })?;
    let entries = append.entries.split_off(cut);
    Some(wire::AppendEntries {
        vote: append.vote,
        prev: append.entries.last().and_then(|entry| entry.id),
        entries,
        commit: append.commit,
        incarnation: append.incarnation,
    })
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Answers {
    stream: AppendStream,
    pumped: Arc<Pumped>,
    shard: ShardId,
    node: NodeId,
    target: NodeId,
    events: Arc<dyn Events>,
    acks: Arc<Acks>,
    log: LogStore,
    /// Since when the request that the next answer is for is known to have arrived.
    arrived: Option<Instant>,
    _pump: AbortOnDrop,
}

impl Answers {
    async fn next(&mut self) -> Option<Result<StreamAppendResult<Types>, RPCError<Types>>> {
        loop {
            let ended = self.pumped.ended.load(Ordering::SeqCst);
            let waits = !self.pumped.unanswered.is_empty();
            if ended && !waits {
                return None;
            }
            let sent = self.pumped.next_position();
            let frame = tokio::select! {
                biased;
                frame = self.stream.next() => frame,
                () = self.pumped.changed.notified() => continue,
                () = tokio::time::sleep(ARRIVAL_LOOK), if sent.is_some() => {
                    if !self.is_late(sent) {
                        continue;
                    }
                    return Some(Err(RPCError::Network(NetworkError::new(&AnyError::error(
                        "an append was not answered in time",
                    )))));
                }
            };
            self.arrived = None;
            return match frame.and_then(|f| f.body) {
                Some(Body::AppendAnswer(answer)) => Some(self.answered(answer)),
                Some(Body::Failed(failed)) => {
                    Some(Err(RPCError::Unreachable(unreachable(failed.message))))
                }
                Some(_) => Some(Err(malformed(types::Malformed(
                    "not an append's answer".into(),
                )))),
                None => Some(Err(RPCError::Unreachable(unreachable("the link broke")))),
            };
        }
    }

    /// Whether the request at a position arrived long ago. On a thin line the way there takes its time;
    /// a link that is silent is given up.
    fn is_late(&mut self, position: Option<u64>) -> bool {
        if position.is_none_or(|position| !self.stream.has_arrived(position)) {
            return false;
        }
        self.arrived.get_or_insert_with(Instant::now).elapsed() >= APPEND_ANSWER_MAX
    }

    /// Each answer belongs to the oldest request that has none.
    fn answered(
        &self,
        answer: wire::AppendAnswer,
    ) -> Result<StreamAppendResult<Types>, RPCError<Types>> {
        let nothing = || types::Malformed("an answer to nothing".into());
        let sent = self.pumped.pop();
        let (sent, said, request) = sent.ok_or_else(nothing).map_err(malformed)?;
        if let Some(traced) = request.and_then(|request| request.traced) {
            let (began, traces) = *traced;
            for trace in traces {
                let piece = Piece::Replicate(self.target);
                let span = Span::within(trace, self.node, piece, (began, self.shard));
                let peer = Some(self.target);
                self.events.span(Span { peer, ..span });
            }
        }
        let known = self.log.known_term();
        trust::append_answer(&answer, said, sent.term, known).map_err(malformed)?;
        let result = types::append_answer_from_wire(answer).map_err(malformed)?;
        if follows(&result) {
            self.acks.confirmed(self.target, sent);
        }
        Ok(result)
    }
}
