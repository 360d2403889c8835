//! Serving, each connection by itself, so that each can be ended politely by itself.
//!
//! A node that drains goes on answering, and its clients should go elsewhere. Each connection that a
//! client calls over is told so by HTTP/2's GOAWAY, and ends behind the calls in progress; one that is
//! opened later, behind its first call, so that who knows no other node is served all the same.
//! Connections of other nodes, of operators and of health checks are left alone.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::codegen::http::Request;
use tonic::service::Routes;
use tonic::transport::server::Connected;
use tower::util::MapRequestLayer;

use super::http2_server;
use crate::FORWARDED;

/// How the connections of clients end.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Once this says so, no connection is taken any more: who comes now finds the port closed, and
    /// is elsewhere before this node ends.
    pub closing: watch::Receiver<bool>,
    /// While this says so, they are ended behind their calls.
    pub elsewhere: watch::Receiver<bool>,
    /// Has a token for each, from its first call until it has ended: by then its other end has every
    /// answer, and no call of its own is still on its way here.
    pub callers: TaskTracker,
}

/// A token of [`Ending::callers`], taken with the first call.
pub type Caller = OnceLock<TaskTrackerToken>;

/// Whether a call is a client's own: no node's, no operator's, no health check's.
pub fn is_clients<B>(request: &Request<B>) -> bool {
    let path = request.uri().path();
    let of_clients = ["/firebreak.v1.Messages/", "/firebreak.v1.Conversations/"];
    of_clients.iter().any(|service| path.starts_with(service))
        && !request.headers().contains_key(FORWARDED)
}

/// Completes when `told` says so; never when whoever would say so is gone.
pub async fn said(told: &mut watch::Receiver<bool>) {
    if told.wait_for(|told| *told).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Runs `serve` for each connection that comes in, until `closing` says so or `stop` completes; and
/// behind `stop` until all of them have ended: each is told, by its receiver, that it should.
pub async fn accept<Io, Served>(
    mut incoming: impl Stream<Item = io::Result<Io>> + Unpin,
    mut closing: watch::Receiver<bool>,
    stop: impl Future<Output = ()>,
    serve: impl Fn(Io, watch::Receiver<bool>) -> Served,
) where
    Served: Future<Output = ()> + Send + 'static,
{
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    let mut over = false;
    loop {
        tokio::select! {
            biased;
            () = &mut stop => {
                over = true;
                break;
            }
            () = said(&mut closing) => break,
            accepted = incoming.next() => match accepted {
                Some(Ok(io)) => drop(connections.spawn(serve(io, stopped.clone()))),
                // A connection that was gone before it was taken.
                Some(Err(_)) => {}
                None => {
                    over = true;
                    break;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(incoming);
    if !over {
        stop.await;
    }
    stopping.send_replace(true);
    while connections.join_next().await.is_some() {}
}

/// Serves `routes` on `incoming` until `stop` completes, and then until the calls in progress have
/// ended.
pub async fn serve<Io>(
    incoming: impl Stream<Item = io::Result<Io>> + Unpin,
    routes: Routes,
    stop: impl Future<Output = ()>,
    ending: Ending,
) where
    Io: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let routes = routes.prepare();
    accept(incoming, ending.closing.clone(), stop, |io, stopped| {
        connection(io, routes.clone(), stopped, ending.clone())
    })
    .await;
}

/// Serves one connection until it ends, or until it should and its calls have ended.
async fn connection<Io>(io: Io, routes: Routes, mut stopped: watch::Receiver<bool>, ending: Ending)
where
    Io: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let (open, mut closed) = watch::channel(());
    let called = Arc::new(Notify::new());
    let noted = called.clone();
    let Ending {
        closing: _,
        mut elsewhere,
        callers,
    } = ending;
    let caller = Arc::new(Caller::new());
    let held = caller.clone();
    let note = MapRequestLayer::new(move |request: Request<tonic::body::Body>| {
        if is_clients(&request) {
            held.get_or_init(|| callers.token());
            noted.notify_one();
        }
        request
    });
    let leave = async move {
        let sent_away = async {
            called.notified().await;
            said(&mut elsewhere).await;
        };
        tokio::select! {
            () = said(&mut stopped) => {}
            () = sent_away => {}
            // Its sender goes with the connection.
            _ = closed.changed() => {}
        }
    };
    let io = Ok::<_, io::Error>(Open { io, _open: open });
    let only = futures::stream::iter([io]).chain(futures::stream::pending());
    let server = http2_server().layer(note).add_routes(routes);
    // How a connection ended is its other end's business.
    let _ = server.serve_with_incoming_shutdown(only, leave).await;
    drop(caller);
}

/// A connection, and what is dropped with it.
struct Open<Io> {
    io: Io,
    _open: watch::Sender<()>,
}

impl<Io: Connected> Connected for Open<Io> {
    type ConnectInfo = Io::ConnectInfo;

    fn connect_info(&self) -> Io::ConnectInfo {
        self.io.connect_info()
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Open<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, into)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Open<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
