//! The serving side: takes connections, and makes a request of each call on them.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::Arc;

use futures::Stream;
use http_body::Frame as BodyFrame;
use parking_lot::Mutex;
use proto::net::guard::Guarded;
use proto::net::serve::{Caller, accept, is_clients, said};
use proto::net::{Ending, Guard};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::codegen::Service as _;
use tonic::service::Routes;

use super::flow::Flow;
use super::pieces::{self, Piece, Pieces};
use super::{Frame, Part, Pulse, broken, pump, receive, send, send_now};
use crate::net::stream::Io;

/// Serves until `stop`, and then until the calls in progress have ended.
pub(in super::super) async fn serve(
    incoming: impl Stream<Item = io::Result<Io>> + Unpin,
    routes: Routes,
    stop: impl Future<Output = ()>,
    ending: Ending,
    guard: Guard,
) {
    let routes = routes.prepare();
    let serve = |io, stopped| {
        let (routes, ending, guard) = (routes.clone(), ending.clone(), guard.clone());
        connection(io, routes, stopped, ending, guard)
    };
    accept(incoming, ending.closing.clone(), stop, &guard, serve).await;
}

struct Call {
    /// None once the request's body is complete.
    pieces: Option<Pieces>,
    task: AbortHandle,
}

type Open = BTreeMap<u64, Call>;

/// The calls of a connection.
struct Calls {
    open: Mutex<Open>,
    /// Told when the last of them has ended.
    none: Notify,
    /// Told when a client has made one.
    called: Notify,
    callers: TaskTracker,
    /// Held from then on.
    caller: Caller,
}

impl Calls {
    fn of(callers: TaskTracker) -> Calls {
        Calls {
            open: Mutex::default(),
            none: Notify::new(),
            called: Notify::new(),
            callers,
            caller: Caller::new(),
        }
    }
}

async fn connection(
    io: Io,
    routes: Routes,
    mut stopped: watch::Receiver<bool>,
    ending: Ending,
    guard: Guard,
) {
    let Some(guarded) = guard.connect(None, false) else {
        return;
    };
    let routes = Guarded::new(routes, guarded);
    let flow = Arc::new(Flow::new(io));
    let Ending {
        closing: _,
        mut elsewhere,
        callers,
    } = ending;
    let calls = Arc::new(Calls::of(callers));
    let mut pulse = Pulse::new();
    let (mut leaving, mut known) = (false, false);
    let clients = calls.clone();
    let mut leave = std::pin::pin!(async move {
        let sent_away = async {
            clients.called.notified().await;
            said(&mut elsewhere).await;
        };
        tokio::select! {
            biased;
            () = said(&mut stopped) => {}
            () = sent_away => {}
        }
    });
    let why = loop {
        // Calls that were on their way when it was told are answered, as with HTTP/2.
        if known && calls.open.lock().is_empty() {
            break io::ErrorKind::ConnectionAborted.into();
        }
        let frame = tokio::select! {
            biased;
            frame = receive(flow.io()) => frame,
            () = calls.none.notified(), if known => continue,
            () = &mut leave, if !leaving => {
                leaving = true;
                send_now(flow.io(), 0, Part::GoAway);
                continue;
            }
            error = pulse.silent(flow.io()) => break error,
        };
        match frame {
            Ok(Some(frame)) => {
                pulse.heard();
                known |= matches!(frame.part, Part::GoAway);
                take(frame, &flow, &calls, &routes);
            }
            Ok(None) => break io::ErrorKind::UnexpectedEof.into(),
            Err(error) => break error,
        }
    };
    let open = std::mem::take(&mut *calls.open.lock());
    for call in open.into_values() {
        // As HTTP/2 does: a handler whose caller is gone is dropped.
        call.task.abort();
        if let Some(pieces) = call.pieces {
            pieces.give(Err(broken(&why)));
        }
    }
}

fn take(frame: Frame, flow: &Arc<Flow>, calls: &Arc<Calls>, routes: &Guarded<Routes>) {
    let Frame { call, part } = frame;
    let mut open = calls.open.lock();
    match part {
        Part::Ping => send_now(flow.io(), 0, Part::Pong),
        Part::Request(head) => {
            let (pieces, body) = pieces::body(flow, call, None);
            let request = http::Request::from_parts(*head, Body::new(body));
            if is_clients(&request) {
                calls.caller.get_or_init(|| calls.callers.token());
                calls.called.notify_one();
            }
            let (flow, routes) = (flow.clone(), routes.clone());
            let done = Done {
                calls: calls.clone(),
                call,
            };
            let task = tokio::spawn(async move {
                let _done = done;
                answer(&flow, call, routes, request).await;
            });
            let (pieces, task) = (Some(pieces), task.abort_handle());
            open.insert(call, Call { pieces, task });
        }
        Part::Data(data) => {
            let bytes = data.len();
            if !give(&mut open, call, Ok(BodyFrame::data(data))) {
                flow.read(bytes);
            }
        }
        Part::Trailers(trailers) => {
            give(&mut open, call, Ok(BodyFrame::trailers(*trailers)));
        }
        Part::Window(bytes) => flow.credited(call, bytes),
        Part::End => {
            if let Some(call) = open.get_mut(&call) {
                call.pieces = None;
            }
        }
        Part::Cancel => {
            if let Some(call) = open.remove(&call) {
                call.task.abort();
            }
        }
        Part::Response(_) | Part::Pong | Part::GoAway => {}
    }
}

/// Whether somebody may read it.
fn give(open: &mut Open, call: u64, piece: Piece) -> bool {
    let pieces = open.get(&call).and_then(|call| call.pieces.as_ref());
    let Some(pieces) = pieces else { return false };
    pieces.give(piece);
    true
}

/// Forgets a call when its task ends, however it does.
struct Done {
    calls: Arc<Calls>,
    call: u64,
}

impl Drop for Done {
    fn drop(&mut self) {
        let mut open = self.calls.open.lock();
        let ended = open.remove(&self.call);
        let none = open.is_empty();
        drop(open);
        drop(ended);
        if none {
            self.calls.none.notify_one();
        }
    }
}

async fn answer(flow: &Flow, call: u64, mut routes: Guarded<Routes>, request: http::Request<Body>) {
    let response = match routes.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let (head, body) = response.into_parts();
    let sent = async {
        send(flow.io(), call, Part::Response(Box::new(head))).await?;
        pump(flow, call, body).await
    };
    // The connection's own loop sees its end.
    let _: Result<(), io::Error> = sent.await;
}
