//! The pieces of a body, between the connection that they come on and who reads them. Most bodies
//! have one or two, so there is no room for more until more come, as tokio's channels have.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::Frame;
use parking_lot::Mutex;
use tonic::Status;

use super::flow::{CallRead, Flow};

/// A piece, or what broke the body off.
pub(super) type Piece = Result<Frame<Bytes>, Status>;

#[derive(Default)]
struct Waiting {
    pieces: VecDeque<Piece>,
    /// None will follow.
    complete: bool,
    /// Nobody reads any more.
    unread: bool,
    reader: Option<Waker>,
}

/// What puts pieces in. Dropped, it completes the body.
pub(super) struct Pieces {
    flow: Arc<Flow>,
    waiting: Arc<Mutex<Waiting>>,
}

/// A body that is being received. Dropping it unfinished tells `dropped`.
pub(super) struct Received {
    flow: Arc<Flow>,
    call: u64,
    read: CallRead,
    waiting: Arc<Mutex<Waiting>>,
    dropped: Option<Box<dyn FnOnce() + Send + Sync>>,
}

/// A body of `call` without pieces yet.
pub(super) fn body(
    flow: &Arc<Flow>,
    call: u64,
    dropped: Option<Box<dyn FnOnce() + Send + Sync>>,
) -> (Pieces, Received) {
    let waiting = Arc::<Mutex<Waiting>>::default();
    let pieces = Pieces {
        flow: flow.clone(),
        waiting: waiting.clone(),
    };
    let received = Received {
        flow: flow.clone(),
        call,
        read: CallRead::default(),
        waiting,
        dropped,
    };
    (pieces, received)
}

fn data_bytes(piece: &Piece) -> usize {
    let data = piece.as_ref().ok().and_then(Frame::data_ref);
    data.map_or(0, Bytes::len)
}

impl Pieces {
    /// Adds a piece, unless the reader has read enough.
    pub(super) fn give(&self, piece: Piece) {
        let mut waiting = self.waiting.lock();
        if waiting.unread {
            return self.flow.read(data_bytes(&piece));
        }
        waiting.pieces.push_back(piece);
        let reader = waiting.reader.take();
        drop(waiting);
        reader.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        let mut waiting = self.waiting.lock();
        waiting.complete = true;
        let reader = waiting.reader.take();
        drop(waiting);
        reader.into_iter().for_each(Waker::wake);
    }
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Piece>> {
        let received = &mut *self;
        let mut waiting = received.waiting.lock();
        if let Some(piece) = waiting.pieces.pop_front() {
            drop(waiting);
            received
                .read
                .add(&received.flow, received.call, data_bytes(&piece));
            return Poll::Ready(Some(piece));
        }
        if !waiting.complete {
            waiting.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        drop(waiting);
        received.dropped = None;
        Poll::Ready(None)
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        let unread = {
            let mut waiting = self.waiting.lock();
            waiting.unread = true;
            std::mem::take(&mut waiting.pieces)
        };
        self.flow.read(unread.iter().map(data_bytes).sum());
        drop(unread);
        if let Some(dropped) = self.dropped.take() {
            dropped();
        }
    }
}
