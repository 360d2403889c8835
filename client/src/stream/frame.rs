//! The frames of an AppendStream as this client writes them: items that are encoded once, when they
//! are enqueued, and never copied into a message of their own again, however often they are sent.

use std::cmp::Ordering;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use prost::Message;
use tokio::time::Instant;

use super::Shared;
use crate::options::{FRAME_BYTES, FRAME_ITEMS_MAX};
use crate::stats::add;

/// `AppendStreamRequest`, with its items already encoded: the bytes on the wire are the same.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Frame {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(crate) items: Vec<Bytes>,
}

/// The frames of one stream: each holds whatever may go out at the moment it is asked for, so they
/// grow with the load and no timer is needed. None before the stream's turn; behind it they end.
pub(crate) struct Outgoing {
    pub(crate) shared: Arc<Shared>,
    pub(crate) epoch: u64,
    pub(crate) inner: Arc<crate::builder::Inner>,
}

impl Stream for Outgoing {
    type Item = Frame;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Frame>> {
        let mut state = self.shared.state.lock();
        match self.epoch.cmp(&state.epoch) {
            Ordering::Less => return Poll::Ready(None),
            Ordering::Equal => {}
            Ordering::Greater => {
                state.next_waker = Some(context.waker().clone());
                return Poll::Pending;
            }
        }
        let taken = state
            .window
            .take(self.epoch, Instant::now(), FRAME_ITEMS_MAX, FRAME_BYTES);
        if !taken.items.is_empty() {
            drop(state);
            add(&self.inner.counters.retries, taken.again);
            return Poll::Ready(Some(Frame { items: taken.items }));
        }
        if state.closed && state.window.is_empty() {
            return Poll::Ready(None);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use proto::v1;

    use super::*;

    #[test]
    fn a_frame_of_encoded_items_is_an_append_stream_request() {
        let items: Vec<v1::AppendItem> = (1..4)
            .map(|correlation_id| v1::AppendItem {
                correlation_id,
                parent: "tenants/t/conversations/c".to_owned(),
                timeout_ms: 10,
                ..v1::AppendItem::default()
            })
            .collect();
        let frame = Frame {
            items: items
                .iter()
                .map(|item| Bytes::from(item.encode_to_vec()))
                .collect(),
        };
        let request = v1::AppendStreamRequest::decode(&*frame.encode_to_vec()).unwrap();
        assert_eq!(request.items, items);
    }
}
