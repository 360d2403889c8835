//! One call: the bytes of its request until they are understood, and of its answer until they are taken.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep};
use tonic::Status;
use tonic::body::Body;

use super::framing::Framing;
use super::{Connection, Refused};

/// An answer is handed over in pieces of this size, so that what HTTP/2 holds of one that nobody takes
/// is small.
pub(super) const PIECE_BYTES: usize = 32 * 1024;
/// How often one who waits for bytes looks whether there are any.
const WAIT: Duration = Duration::from_millis(25);

/// Bytes that an answer has before it is encoded: put into the extensions of a response.
#[derive(Clone, Copy, Debug)]
pub struct Weight(pub usize);

/// Who calls, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A client.
    Client,
    /// A client, through another node.
    Forwarded,
    /// An operator, or a health check.
    Operator,
    /// Another node.
    Peer,
}

impl Kind {
    pub(super) fn is_of_nodes(self) -> bool {
        match self {
            Kind::Forwarded | Kind::Peer => true,
            Kind::Client | Kind::Operator => false,
        }
    }
}

/// A call that is open. It counts until it is dropped.
pub struct Call {
    connection: Arc<Connection>,
    id: u64,
    kind: Kind,
    /// The largest message that it may be sent, bytes.
    max: usize,
    /// Bytes of its request.
    request: AtomicUsize,
    /// Bytes that its handler holds.
    held: AtomicUsize,
    answer: Mutex<Answer>,
    given_up: AtomicBool,
}

#[derive(Default)]
struct Answer {
    body: Option<Body>,
    /// Of a message that was encoded: what is still to be handed over.
    rest: Bytes,
    /// Bytes that count for it.
    weight: usize,
    /// Since when something is to be taken, and is not.
    waits_since: Option<Instant>,
}

impl Call {
    pub(super) fn new(connection: Arc<Connection>, id: u64, kind: Kind, max: usize) -> Call {
        Call {
            connection,
            id,
            kind,
            max,
            request: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            answer: Mutex::default(),
            given_up: AtomicBool::new(false),
        }
    }

    /// Sets how many bytes of what it was sent a handler still holds, beyond the message that it is
    /// reading.
    pub fn hold(&self, bytes: usize) {
        let before = self.held.swap(bytes, Ordering::Relaxed);
        if bytes >= before {
            self.connection.charge(bytes - before);
        } else {
            self.connection.give(before - bytes);
        }
    }

    /// Whether it gets no more bytes now.
    pub fn is_short(&self) -> bool {
        self.kind == Kind::Client && self.connection.is_short()
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Whether its answer was dropped.
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Takes bytes of its request.
    fn receive(&self, bytes: usize) -> Result<(), Refused> {
        self.connection.take(bytes, self.kind)?;
        self.request.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Its request counts for no more than this.
    fn received(&self, left: usize) {
        let before = self.request.load(Ordering::Relaxed);
        if before > left {
            self.request.store(left, Ordering::Relaxed);
            self.connection.give(before - left);
        }
    }

    /// Takes its answer; that is refused where there are no bytes for it.
    pub(super) fn answer(self: &Arc<Self>, body: Body, weight: usize) -> Result<Body, Refused> {
        self.received(0);
        if weight > 0 {
            self.connection.take(weight, self.kind)?;
        }
        let mut answer = self.answer.lock();
        answer.body = Some(body);
        answer.weight = weight;
        answer.waits_since = Some(Instant::now());
        drop(answer);
        Ok(Body::new(Outgoing {
            call: self.clone(),
            wait: Wait::default(),
        }))
    }

    /// Drops its answer when nothing of it was taken for `patience`. Whoever comes for it after all is
    /// told so.
    pub(super) fn give_up_if_not_taken(&self, now: Instant, patience: Duration) -> bool {
        if self.kind == Kind::Peer {
            return false;
        }
        let mut answer = self.answer.lock();
        let late = answer
            .waits_since
            .is_some_and(|since| now.saturating_duration_since(since) >= patience);
        if !late || answer.body.is_none() {
            return false;
        }
        let dropped = std::mem::take(&mut *answer);
        self.given_up.store(true, Ordering::Relaxed);
        drop(answer);
        self.connection.give(dropped.weight);
        true
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let answer = std::mem::take(self.answer.get_mut());
        let bytes = *self.request.get_mut() + *self.held.get_mut() + answer.weight;
        self.connection.give(bytes);
        self.connection.end(self.id);
    }
}

/// The wait of one for whom there are no bytes now.
#[derive(Default)]
struct Wait(Option<Pin<Box<Sleep>>>);

impl Wait {
    /// Whether it goes on.
    fn goes_on(&mut self, call: &Call, context: &mut Context<'_>) -> bool {
        while call.is_short() {
            let wait = self.0.get_or_insert_with(|| Box::pin(sleep(WAIT)));
            if wait.as_mut().poll(context).is_pending() {
                return true;
            }
            self.0 = None;
        }
        self.0 = None;
        false
    }
}

/// The body of a request on its way in.
pub(super) struct Incoming {
    pub(super) body: Body,
    pub(super) call: Arc<Call>,
    framing: Framing,
    /// Whether more than one message may come.
    streams: bool,
    /// Ends a message that is not whole in time.
    late: Option<Pin<Box<Sleep>>>,
    /// While there are no bytes for it.
    wait: Wait,
    done: bool,
}

impl Incoming {
    pub(super) fn new(body: Body, call: Arc<Call>, streams: bool) -> Incoming {
        let framing = Framing::new(call.max);
        Incoming {
            body,
            call,
            framing,
            streams,
            late: None,
            wait: Wait::default(),
            done: false,
        }
    }

    /// Whether a message is awaited: of one that may come at any time, once it has begun.
    fn owes(&self) -> bool {
        !self.streams || self.framing.unfinished() > 0
    }

    /// Completes once a message is not whole in time.
    fn late(&mut self, context: &mut Context<'_>) -> Poll<Refused> {
        if !self.owes() || self.call.kind == Kind::Peer {
            return Poll::Pending;
        }
        let limit = self.call.connection.guard().limits().receive_timeout;
        let late = self.late.get_or_insert_with(|| Box::pin(sleep(limit)));
        late.as_mut()
            .poll(context)
            .map(|()| Refused::Unfinished(limit))
    }

    /// Nothing more comes now; refused once that is late.
    fn waits(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.late(context) {
            Poll::Ready(refused) => self.refuse(refused),
            Poll::Pending => Poll::Pending,
        }
    }

    fn refuse(&mut self, refused: Refused) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.done = true;
        self.body = Body::empty();
        self.call.received(0);
        Poll::Ready(Some(Err(self.call.connection.guard().say(refused))))
    }

    fn take(&mut self, bytes: &Bytes) -> Result<(), Refused> {
        self.framing.advance(bytes)?;
        if self.call.kind == Kind::Peer {
            return Ok(());
        }
        self.call.receive(bytes.len())?;
        if self.streams {
            self.call.received(self.framing.unfinished());
        }
        if self.framing.unfinished() == 0 {
            self.late = None;
        }
        Ok(())
    }
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.done {
            return Poll::Ready(None);
        }
        // A stream waits for bytes; HTTP/2 then holds up its sender.
        let this = &mut *self;
        if this.streams && this.wait.goes_on(&this.call, context) {
            return self.waits(context);
        }
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Pending => self.waits(context),
            Poll::Ready(Some(Ok(frame))) => match frame.data_ref().map(|data| self.take(data)) {
                Some(Err(refused)) => self.refuse(refused),
                Some(Ok(())) | None => Poll::Ready(Some(Ok(frame))),
            },
            Poll::Ready(end) => {
                self.done = true;
                Poll::Ready(end)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.done || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer on its way out.
struct Outgoing {
    call: Arc<Call>,
    /// While there are no bytes for more of it.
    wait: Wait,
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let call = self.call.clone();
        let mut answer = call.answer.lock();
        answer.waits_since = None;
        if !answer.rest.is_empty() {
            return Poll::Ready(Some(Ok(answer.piece(&call))));
        }
        // What was counted as a whole is there already; what is still to be made waits.
        if answer.weight == 0 && self.wait.goes_on(&call, context) {
            return Poll::Pending;
        }
        let Some(body) = &mut answer.body else {
            drop(answer);
            let guard = call.connection.guard();
            let not_taken = Refused::NotTaken(guard.limits().take_timeout);
            let status = guard.shared.rules.say(not_taken);
            return Poll::Ready(Some(end(&status)));
        };
        let Some(frame) = ready!(Pin::new(body).poll_frame(context)) else {
            return Poll::Ready(None);
        };
        Poll::Ready(Some(match frame?.into_data() {
            Ok(data) => Ok(answer.data(&call, data)),
            Err(trailers) => Ok(trailers),
        }))
    }

    fn is_end_stream(&self) -> bool {
        let answer = self.call.answer.lock();
        let ended = answer.body.as_ref().is_some_and(Body::is_end_stream);
        answer.rest.is_empty() && ended
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        let dropped = std::mem::take(&mut *self.call.answer.lock());
        self.call.connection.give(dropped.weight);
    }
}

impl Answer {
    /// A message that was just encoded.
    fn data(&mut self, call: &Call, data: Bytes) -> Frame<Bytes> {
        if data.len() <= PIECE_BYTES || call.kind == Kind::Peer {
            return self.handed(call, data);
        }
        if let Some(more) = data.len().checked_sub(self.weight) {
            call.connection.charge(more);
            self.weight += more;
        }
        self.rest = data;
        self.piece(call)
    }

    fn piece(&mut self, call: &Call) -> Frame<Bytes> {
        let piece = self.rest.split_to(self.rest.len().min(PIECE_BYTES));
        // A part of the whole would keep all of it.
        self.handed(call, Bytes::copy_from_slice(&piece))
    }

    fn handed(&mut self, call: &Call, data: Bytes) -> Frame<Bytes> {
        let less = data.len().min(self.weight);
        self.weight -= less;
        call.connection.give(less);
        call.connection.hand(data.len());
        self.waits_since = Some(Instant::now());
        Frame::data(data)
    }
}

/// A status where an answer ends.
fn end(status: &Status) -> Result<Frame<Bytes>, Status> {
    let mut trailers = tonic::codegen::http::HeaderMap::new();
    status.add_header(&mut trailers)?;
    Ok(Frame::trailers(trailers))
}
