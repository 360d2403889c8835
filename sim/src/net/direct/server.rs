//! The serving side: takes connections, and makes a request of each call on them.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use http_body::Frame as BodyFrame;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tonic::body::Body;
use tonic::codegen::Service as _;
use tonic::service::Routes;

use super::{Frame, Part, Piece, Pulse, Received, broken, pump, receive, send, send_now};
use crate::net::stream::Io;

/// Serves until `stop`, and then until the calls in progress have ended.
pub(in super::super) async fn serve(
    mut incoming: impl Stream<Item = io::Result<Io>> + Unpin,
    routes: Routes,
    stop: impl Future<Output = ()>,
) {
    let routes = routes.prepare();
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = incoming.next() => match accepted {
                Some(Ok(io)) => {
                    connections.spawn(connection(io, routes.clone(), stopped.clone()));
                }
                Some(Err(_)) => {}
                None => break,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(incoming);
    stopping.send_replace(true);
    while connections.join_next().await.is_some() {}
}

struct Call {
    /// None once the request's body is complete.
    pieces: Option<mpsc::UnboundedSender<Piece>>,
    task: AbortHandle,
}

type Calls = Arc<Mutex<BTreeMap<u64, Call>>>;

async fn connection(io: Io, routes: Routes, mut stopped: watch::Receiver<bool>) {
    let io = Arc::new(io);
    let calls = Calls::default();
    let mut pulse = Pulse::new();
    let (ended, mut ends) = mpsc::unbounded_channel();
    let mut leaving = false;
    let why = loop {
        if leaving && calls.lock().is_empty() {
            break io::ErrorKind::ConnectionAborted.into();
        }
        let frame = tokio::select! {
            biased;
            frame = receive(&io) => frame,
            _ = ends.recv() => continue,
            _ = stopped.wait_for(|stopped| *stopped), if !leaving => {
                leaving = true;
                send_now(&io, 0, Part::GoAway);
                continue;
            }
            beat = pulse.beat(&io) => match beat {
                Ok(()) => continue,
                Err(error) => break error,
            },
        };
        match frame {
            Ok(Some(frame)) => {
                pulse.heard();
                take(frame, &io, &calls, &routes, &ended);
            }
            Ok(None) => break io::ErrorKind::UnexpectedEof.into(),
            Err(error) => break error,
        }
    };
    let calls = std::mem::take(&mut *calls.lock());
    for call in calls.into_values() {
        // As HTTP/2 does: a handler whose caller is gone is dropped.
        call.task.abort();
        if let Some(pieces) = call.pieces {
            let _ = pieces.send(Err(broken(&why)));
        }
    }
}

fn take(
    frame: Frame,
    io: &Arc<Io>,
    calls: &Calls,
    routes: &Routes,
    ended: &mpsc::UnboundedSender<()>,
) {
    let Frame { call, part } = frame;
    let mut open = calls.lock();
    match part {
        Part::Ping => send_now(io, 0, Part::Pong),
        Part::Request(head) => {
            let (pieces, received) = mpsc::unbounded_channel();
            let body = Body::new(Received {
                pieces: received,
                dropped: None,
            });
            let request = http::Request::from_parts(*head, body);
            let (io, routes) = (io.clone(), routes.clone());
            let done = Done {
                calls: calls.clone(),
                call,
                ended: ended.clone(),
            };
            let task = tokio::spawn(async move {
                let _done = done;
                answer(&io, call, routes, request).await;
            });
            let (pieces, task) = (Some(pieces), task.abort_handle());
            open.insert(call, Call { pieces, task });
        }
        Part::Data(data) => give(&mut open, call, Ok(BodyFrame::data(data))),
        Part::Trailers(trailers) => give(&mut open, call, Ok(BodyFrame::trailers(*trailers))),
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

fn give(open: &mut BTreeMap<u64, Call>, call: u64, piece: Piece) {
    if let Some(pieces) = open.get(&call).and_then(|call| call.pieces.as_ref()) {
        // A handler may have read enough.
        let _ = pieces.send(piece);
    }
}

/// Forgets a call when its task ends, however it does.
struct Done {
    calls: Calls,
    call: u64,
    ended: mpsc::UnboundedSender<()>,
}

impl Drop for Done {
    fn drop(&mut self) {
        self.calls.lock().remove(&self.call);
        let _ = self.ended.send(());
    }
}

async fn answer(io: &Io, call: u64, mut routes: Routes, request: http::Request<Body>) {
    let response = match routes.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let (head, body) = response.into_parts();
    let sent = async {
        send(io, call, Part::Response(Box::new(head))).await?;
        pump(io, call, body).await
    };
    // The connection's own loop sees its end.
    let _: Result<(), io::Error> = sent.await;
}
