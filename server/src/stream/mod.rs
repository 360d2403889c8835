//! AppendStream: the throughput path. One task serves one stream; its commands are futures in
//! that task, one per conversation, and what is ready leaves in one frame.
//!
//! Reading waits while too much is unanswered, or while the caller does not take its answers.
//!
//! A node that goes away says so and goes on for a while, so that the caller can open its next stream
//! before it closes this one; who does not is sent away then.

pub mod lanes;

use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use model::command::Reply;
use model::limits;
use proto::net::guard;
use proto::net::serve::said;
use proto::v1;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::deadline::Call;
use crate::error::Failure;
use crate::gateway::{Gateway, Target};
use lanes::{Dispatch, Lanes};

/// Frames of answers that wait for the caller to take them.
const ANSWERS_WAITING_MAX: usize = 4;
/// How long a stream goes on whose caller was told to go elsewhere.
const NOTICE: Duration = Duration::from_secs(1);

/// The answers of a stream.
pub type Answers = ReceiverStream<Result<v1::AppendStreamResponse, Status>>;

/// Serves a stream until the caller has closed its half and everything is answered.
pub fn serve(
    gateway: Arc<Gateway>,
    items: Streaming<v1::AppendStreamRequest>,
    lanes: Lanes,
    (opened, call): (Call, Option<Arc<guard::Call>>),
) -> Answers {
    let (answers, receiver) = mpsc::channel(ANSWERS_WAITING_MAX);
    let calls = gateway.calls.clone();
    calls.spawn(run(gateway, items, answers, lanes, (opened, Room(call))));
    ReceiverStream::new(receiver)
}

/// What the node has for one stream; without a bound where nobody guards its network.
struct Room(Option<Arc<guard::Call>>);

impl Room {
    /// Whether one more frame may be read. What is unanswered counts; a stream that has nothing
    /// unanswered always goes on, so that each of them gets through.
    fn has(&self, lanes: &Lanes) -> bool {
        let short = self.0.as_ref().is_some_and(|call| {
            call.hold(lanes.unanswered_bytes());
            call.is_short()
        });
        lanes.has_room() && (!short || lanes.is_idle())
    }
}

async fn run(
    gateway: Arc<Gateway>,
    mut items: Streaming<v1::AppendStreamRequest>,
    answers: mpsc::Sender<Result<v1::AppendStreamResponse, Status>>,
    mut lanes: Lanes,
    (opened, room): (Call, Room),
) {
    let opened = Arc::new(opened);
    let mut stopping = gateway.stopping.clone();
    let mut flights = FuturesUnordered::new();
    // Why nothing is read any more, once that is so; `Ok` when the caller has closed its half.
    let mut end: Option<Result<(), Failure>> = None;
    // Until when this goes on, once the caller should go elsewhere; and whether it is still to be told.
    let (mut until, mut going_away) = (None, false);
    loop {
        // What has come meanwhile goes along with the next commands.
        while end.is_none() && room.has(&lanes) {
            match items.next().now_or_never() {
                Some(frame) => end = accept(&mut lanes, frame),
                None => break,
            }
        }
        while let Some(dispatch) = lanes.next_command() {
            flights.push(decided(gateway.clone(), dispatch, opened.clone()));
        }
        let results = lanes.take_answers();
        if !results.is_empty() || going_away {
            // The commands just made must not wait for a caller that is slow to take answers.
            while let Some(Some((lane, outcome))) = flights.next().now_or_never() {
                lanes.finish(lane, outcome);
            }
            let frame = v1::AppendStreamResponse {
                results,
                going_away: std::mem::take(&mut going_away),
            };
            if answers.send(Ok(frame)).await.is_err() {
                return;
            }
            continue;
        }
        if flights.is_empty() && end.is_some() {
            break;
        }
        tokio::select! {
            biased;
            Some((lane, outcome)) = flights.next(), if !flights.is_empty() => {
                lanes.finish(lane, outcome);
                while let Some(Some((lane, outcome))) = flights.next().now_or_never() {
                    lanes.finish(lane, outcome);
                }
            }
            frame = items.next(), if end.is_none() && room.has(&lanes) => {
                end = accept(&mut lanes, frame);
            }
            () = said(&mut stopping), if until.is_none() => {
                (until, going_away) = (Some(Instant::now() + NOTICE), true);
            }
            () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() && end.is_none() => {
                end = Some(Err(Failure::Stopping));
            }
            () = answers.closed() => return,
        }
    }
    if let Some(Err(failure)) = end {
        // A caller that is gone does not need the reason.
        let _ = answers.send(Err(failure.into())).await;
    }
}

/// Has the commands of one conversation decided.
async fn decided(
    gateway: Arc<Gateway>,
    dispatch: Dispatch,
    opened: Arc<Call>,
) -> (usize, Result<Reply, Failure>) {
    let Dispatch {
        lane,
        name,
        slot,
        command,
        deadline,
    } = dispatch;
    let may = async {
        gateway.may_call(name.tenant(), &opened)?;
        gateway.pay(&name, &command, deadline).await
    };
    if let Err(failure) = may.await {
        return (lane, Err(failure));
    }
    // Of an item of a stream no caller names the trace.
    let open = gateway.trace_of("append", None);
    let (asked, target) = (gateway.clone(), Target::Slot(slot));
    let outcome = asked
        .propose_traced(target, command, deadline, open.as_ref())
        .await;
    if let Some(open) = open {
        open.end(gateway.shard_of(slot), outcome.as_ref().err());
    }
    (lane, outcome)
}

/// Takes a frame in; says why when it was the last.
fn accept(
    lanes: &mut Lanes,
    frame: Option<Result<v1::AppendStreamRequest, Status>>,
) -> Option<Result<(), Failure>> {
    match frame {
        None => Some(Ok(())),
        Some(Err(status)) => Some(Err(Failure::Passed(status))),
        Some(Ok(frame)) if frame.items.len() > limits::STREAM_FRAME_ITEMS_MAX => {
            let (max, has) = (limits::STREAM_FRAME_ITEMS_MAX, frame.items.len());
            let wrong = format!("must be at most {max}; there are {has}");
            Some(Err(Failure::field("items", wrong)))
        }
        Some(Ok(frame)) => {
            for item in frame.items {
                lanes.accept(item);
            }
            None
        }
    }
}
