//! One open AppendStream to one node.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use http::uri::PathAndQuery;
use model::limits;
use proto::v1;
use tokio::time::{Instant, timeout};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::Shared;
use super::frame::{Frame, Outgoing};
use crate::builder::Inner;
use crate::error::Failure;
use crate::nodes::Lease;

/// A stream that was opened.
pub(crate) struct Live {
    pub(crate) lease: Lease,
    /// Its number.
    pub(crate) epoch: u64,
    pub(crate) answers: Streaming<v1::AppendStreamResponse>,
}

/// A stream that could not be opened.
pub(crate) struct Failed {
    pub(crate) lease: Lease,
    pub(crate) failure: Failure,
}

/// A stream that is being opened.
pub(crate) type Opening = BoxFuture<'static, Result<Live, Box<Failed>>>;

/// Opens stream `epoch` to the node of `lease`, within what an attempt may take.
pub(crate) async fn open(
    shared: Arc<Shared>,
    inner: Arc<Inner>,
    lease: Lease,
    epoch: u64,
) -> Result<Live, Box<Failed>> {
    let patience = inner.attempt_timeout;
    let outgoing = Outgoing {
        shared,
        epoch,
        inner: inner.clone(),
    };
    let request = inner.marked(Request::new(outgoing));
    let channel = lease.channel.clone();
    let opening = async move {
        let mut service =
            tonic::client::Grpc::new(channel).max_decoding_message_size(limits::FRAME_BYTES_MAX);
        service.ready().await.map_err(Status::from_error)?;
        let path = PathAndQuery::from_static("/firebreak.v1.Messages/AppendStream");
        let codec: ProstCodec<Frame, v1::AppendStreamResponse> = ProstCodec::default();
        let answers = service.streaming(request, path, codec).await?;
        Ok(answers.into_inner())
    };
    let failure = match timeout(patience, opening).await {
        Ok(Ok(answers)) => {
            return Ok(Live {
                lease,
                epoch,
                answers,
            });
        }
        Ok(Err(status)) => Failure::from_status(&status),
        Err(_) => Failure::silent(patience),
    };
    Err(Box::new(Failed { lease, failure }))
}

/// What `opening` comes to; never, while nothing is opened.
pub(crate) async fn opened(opening: &mut Option<Opening>) -> Result<Live, Box<Failed>> {
    match opening {
        Some(opening) => opening.await,
        None => std::future::pending().await,
    }
}

/// The next answers of one of the streams before, and which; `None` when it has ended, however it did.
/// Never, while there is none.
pub(crate) async fn owed(old: &mut [(Live, Instant)]) -> (usize, Option<Vec<v1::AppendResult>>) {
    poll_fn(|context| {
        for (at, (live, _)) in old.iter_mut().enumerate() {
            if let Poll::Ready(frame) = live.answers.poll_next_unpin(context) {
                let results = frame.and_then(Result::ok).map(|frame| frame.results);
                return Poll::Ready((at, results));
            }
        }
        Poll::Pending
    })
    .await
}
