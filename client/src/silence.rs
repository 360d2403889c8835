//! Whether the node that owes an answer is there at all. A gateway that waits for a shard's next
//! leader says as little as one that burns, and only the second is to be left. So while an answer is
//! owed for long, the node is asked something that it answers at once and by itself: the head of an
//! AppendStream without items. (HTTP/2's own pings would do, but their times are fixed for a
//! connection, and a proxy answers them in the node's stead.)
//!
//! The limit is fitted to the node, as `raft`'s links fit theirs: two of its rounds, for one that is
//! longer than usual, and 400 ms for processes that wait for a core and for a lost segment.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use http::uri::PathAndQuery;
use proto::net::Channel;
use proto::v1;
use tokio::time::{Instant, sleep, timeout};
use tonic::Request;
use tonic_prost::ProstCodec;

use crate::nodes::{Lease, Nodes};

/// An answer that is owed for this long is worth asking.
pub(crate) const ASK_AFTER: Duration = Duration::from_millis(250);
/// On top of two rounds.
const STALL: Duration = Duration::from_millis(400);
/// What a round is taken for before the first.
const ROUND_UNKNOWN: Duration = Duration::from_millis(75);
/// A timer that is later than this tells of a process that stood still.
const LATE: Duration = Duration::from_millis(50);
/// Longest limit.
const SILENT_MAX: Duration = Duration::from_secs(1);

/// How long a node with this round may take.
fn limit(round: Option<Duration>) -> Duration {
    (round.unwrap_or(ROUND_UNKNOWN) * 2 + STALL).min(SILENT_MAX)
}

/// Asks the node that a lease is of; false when it is silent.
pub(crate) fn ask(lease: &Lease) -> BoxFuture<'static, bool> {
    let (nodes, address) = lease.node();
    ask_at(nodes, address, lease.channel.clone())
}

/// Asks the node at `address`, and notes how long a round to it takes; false when it is silent.
pub(crate) fn ask_at(
    nodes: Arc<Nodes>,
    address: Arc<str>,
    channel: Channel,
) -> BoxFuture<'static, bool> {
    Box::pin(async move {
        let began = Instant::now();
        let head = async {
            let mut service = tonic::client::Grpc::new(channel);
            if service.ready().await.is_err() {
                return false;
            }
            let path = PathAndQuery::from_static("/firebreak.v1.Messages/AppendStream");
            let codec: ProstCodec<v1::AppendStreamRequest, v1::AppendStreamResponse> =
                ProstCodec::default();
            let nothing = Request::new(futures::stream::empty());
            service.streaming(nothing, path, codec).await.is_ok()
        };
        let mut head = std::pin::pin!(head);
        let limit = limit(nodes.round(&address));
        let mut answer = timeout(limit, &mut head).await;
        if answer.is_err() && began.elapsed() > limit + LATE {
            // This process stood still itself: the answer may have come meanwhile.
            answer = timeout(LATE, &mut head).await;
        }
        // Whatever it says, somebody says it.
        if answer.is_ok() {
            nodes.note_round(&address, began.elapsed());
        }
        // A connection that fails at once is not near.
        if answer == Ok(true) {
            nodes.note_nearness(&address, began.elapsed());
        }
        answer.is_ok()
    })
}

/// What `ask` finds out; never, while nothing is asked.
pub(crate) async fn answer(asking: &mut Option<BoxFuture<'static, bool>>) -> bool {
    match asking {
        Some(asked) => asked.await,
        None => std::future::pending().await,
    }
}

/// `work`; `None` when the node that does it is found silent meanwhile.
pub(crate) async fn watched<T>(lease: &Lease, work: impl Future<Output = T>) -> Option<T> {
    let silent = async {
        loop {
            sleep(ASK_AFTER).await;
            if !ask(lease).await {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        done = work => Some(done),
        () = silent => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_grows_with_the_round_up_to_a_second() {
        let limit_ms = |round_ms| limit(Some(Duration::from_millis(round_ms))).as_millis();
        assert_eq!([1, 30, 200, 900].map(limit_ms), [402, 460, 800, 1_000]);
        assert_eq!(limit(None), Duration::from_millis(550));
    }
}
