//! The way back of one connection: answers that wait for its other end to take them. How many there
//! are is counted, so that who asks and never listens is not read from any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::Stream;
use model::limits;
use proto::node as wire;
use tokio::sync::{Notify, mpsc};

use crate::link;

/// Sends answers. Clones share the way.
#[derive(Clone)]
pub(crate) struct Out {
    queue: mpsc::UnboundedSender<wire::Frame>,
    waiting: Arc<Waiting>,
}

/// Answers that were sent and not taken.
#[derive(Default)]
pub(super) struct Waiting {
    frames: AtomicUsize,
    taken: Notify,
}

/// The end at which answers are taken.
pub(crate) struct Answers {
    queue: mpsc::UnboundedReceiver<wire::Frame>,
    waiting: Arc<Waiting>,
}

impl Out {
    pub(crate) fn new() -> (Out, Answers) {
        let (queue, answers) = mpsc::unbounded_channel();
        let waiting = Arc::<Waiting>::default();
        let out = Out {
            queue,
            waiting: waiting.clone(),
        };
        let queue = answers;
        (out, Answers { queue, waiting })
    }

    /// Sends an answer; `false` when nobody can take it any more. The other end of a broken
    /// connection has been told by the break.
    pub(crate) fn send(&self, frame: wire::Frame) -> bool {
        self.waiting.frames.fetch_add(1, Ordering::SeqCst);
        self.queue.send(frame).is_ok()
    }

    /// Completes once there is room for more answers, or nobody takes any.
    pub(crate) async fn room(&self) {
        loop {
            let taken = self.waiting.taken.notified();
            let full = self.waiting.frames.load(Ordering::SeqCst) >= limits::LINK_ANSWERS_MAX;
            if !full || self.queue.is_closed() {
                return;
            }
            tokio::select! {
                () = taken => {}
                () = self.queue.closed() => return,
            }
        }
    }
}

impl Answers {
    /// Gathers what waits into one message after the other, without waiting for more.
    pub(crate) fn batches(self) -> impl Stream<Item = wire::Frames> + Send + 'static {
        futures::stream::unfold((self, Vec::new()), |(mut this, mut buffer)| async move {
            let most = limits::STREAM_FRAME_ITEMS_MAX;
            let taken = this.queue.recv_many(&mut buffer, most).await;
            if taken == 0 {
                return None;
            }
            this.waiting.frames.fetch_sub(taken, Ordering::SeqCst);
            this.waiting.taken.notify_one();
            let batch = wire::Frames {
                format: link::FORMAT,
                frames: std::mem::take(&mut buffer),
            };
            Some((batch, (this, buffer)))
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _};

    use super::*;

    #[tokio::test]
    async fn who_takes_no_answers_leaves_no_room_for_more() {
        let (out, answers) = Out::new();
        let mut answers = std::pin::pin!(answers.batches());
        for _ in 0..limits::LINK_ANSWERS_MAX {
            assert_eq!(out.room().now_or_never(), Some(()));
            assert!(out.send(wire::Frame::default()));
        }
        let mut room = std::pin::pin!(out.room());
        assert_eq!(room.as_mut().now_or_never(), None);
        let batch = answers.next().await.unwrap();
        assert_eq!(batch.frames.len(), limits::STREAM_FRAME_ITEMS_MAX);
        room.await;
    }

    #[tokio::test]
    async fn nobody_waits_for_room_on_a_connection_that_is_gone() {
        let (out, answers) = Out::new();
        for _ in 0..limits::LINK_ANSWERS_MAX {
            out.send(wire::Frame::default());
        }
        drop(answers);
        out.room().await;
        assert!(!out.send(wire::Frame::default()));
    }
}
