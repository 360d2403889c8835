//! Pipelined appends to many conversations over one stream, which moves between nodes.
//!
//! ```text
//! send ──► Window ──► frames of whatever waits ──► node          Window: lanes, one a conversation
//!   ▲         ▲                                      │           Driver: opens, watches, moves
//!   └─ acks ──┴──────────── answers ◄────────────────┘
//! ```
//!
//! Order in a conversation holds through every failure because of one rule: new messages of a
//! conversation go out only when none of its earlier ones is unanswered. What came in meanwhile
//! goes out together, so a busy conversation costs frames of many messages and not waiting.
//! When a stream breaks, all unanswered messages go out again elsewhere, each under its own id and
//! before anything that came after it. A node that goes away says so first: then the next stream is
//! opened before this one is closed, and takes each conversation as soon as this one owes it nothing.

mod driver;
mod frame;
mod live;
mod window;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use model::limits;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::Instant;

use self::window::Window;
use crate::builder::Client;
use crate::error::Error;
use crate::message::{Appended, Message};
use crate::options::StreamOptions;

type Outcome = Result<Appended, Error>;

/// Pipelined appends. Cheap to clone; clones share the stream. When the last clone is dropped, what
/// was enqueued is still sent.
#[derive(Clone)]
pub struct AppendStream {
    handle: Arc<Handle>,
}

struct Handle {
    client: Client,
    shared: Arc<Shared>,
    deadline: Duration,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.shared.state.lock();
            state.closed = true;
            state.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
        self.shared.changed.notify_one();
    }
}

/// What callers, the frames going out and the driver share.
struct Shared {
    state: Mutex<State>,
    /// Room in the window.
    room: Semaphore,
    /// Tells the driver that an empty window filled, or that the stream was closed.
    changed: Notify,
}

struct State {
    window: Window,
    /// The stream whose turn it is: frames of an older one end.
    epoch: u64,
    /// The last number that was given to a stream.
    last_epoch: u64,
    /// Of the frames going out, when they wait for messages.
    waker: Option<Waker>,
    /// Of those of the stream whose turn is next.
    next_waker: Option<Waker>,
    closed: bool,
}

impl Client {
    /// Opens a stream of appends; it connects with the first message. Must be called inside a
    /// tokio runtime.
    pub fn append_stream(&self, options: &StreamOptions) -> AppendStream {
        let room = options
            .unanswered_max
            .clamp(1, limits::STREAM_UNANSWERED_MAX);
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                window: Window::new(),
                epoch: 0,
                last_epoch: 0,
                waker: None,
                next_waker: None,
                closed: false,
            }),
            room: Semaphore::new(room),
            changed: Notify::new(),
        });
        tokio::spawn(driver::run(shared.clone(), self.inner.clone()));
        let deadline = options.deadline.unwrap_or(self.deadline);
        AppendStream {
            handle: Arc::new(Handle {
                client: self.clone(),
                shared,
                deadline,
            }),
        }
    }
}

impl AppendStream {
    /// Appends one message: [`AppendStream::enqueue`] and then its answer. Messages to one
    /// conversation keep the order in which their sends were first polled.
    ///
    /// # Errors
    /// As [`Client::append`].
    pub async fn send(&self, parent: &str, message: Message) -> Outcome {
        self.enqueue(parent, message).await.await
    }

    /// Waits for room in the window and puts the message into it; its place in the conversation is
    /// settled when this returns. The [`Ack`] gives the answer; dropping it does not call the
    /// message back. The deadline begins here.
    pub async fn enqueue(&self, parent: &str, message: Message) -> Ack {
        let handle = &*self.handle;
        let started = Instant::now();
        // The semaphore is never closed.
        if let Ok(permit) = handle.shared.room.acquire().await {
            permit.forget();
        }
        self.put(parent, message, started)
    }

    /// [`AppendStream::enqueue`] without waiting.
    ///
    /// # Errors
    /// Gives the message back when the window is full.
    #[allow(
        clippy::result_large_err,
        reason = "the caller gets its message back as it was"
    )]
    pub fn try_enqueue(&self, parent: &str, message: Message) -> Result<Ack, Message> {
        match self.handle.shared.room.try_acquire() {
            Ok(permit) => permit.forget(),
            Err(_) => return Err(message),
        }
        Ok(self.put(parent, message, Instant::now()))
    }

    fn put(&self, parent: &str, mut message: Message, started: Instant) -> Ack {
        let handle = &*self.handle;
        let fence_token = std::mem::take(&mut message.fence_token);
        let message = handle.client.wire(message);
        let (answer, receiver) = oneshot::channel();
        let (waker, wake_driver) = {
            let mut state = handle.shared.state.lock();
            let was_empty = state.window.is_empty();
            let ready = state.window.push(
                (parent, fence_token),
                message,
                started,
                handle.deadline,
                answer,
            );
            (if ready { state.waker.take() } else { None }, was_empty)
        };
        waker.into_iter().for_each(Waker::wake);
        if wake_driver {
            handle.shared.changed.notify_one();
        }
        Ack(receiver)
    }

    /// Messages that are not answered yet.
    pub fn unanswered(&self) -> usize {
        self.handle.shared.state.lock().window.len()
    }
}

/// The answer to one enqueued message.
pub struct Ack(oneshot::Receiver<Outcome>);

impl Future for Ack {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|outcome| outcome.unwrap_or(Err(Error::Closed)))
    }
}
