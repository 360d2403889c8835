//! Serving, each connection by itself, so that each can be ended politely by itself.
//!
//! A node that drains goes on answering, and its clients should go elsewhere. Each connection that a
//! client calls over is told so by HTTP/2's GOAWAY, and ends behind the calls in progress; one that is
//! opened later, behind its first call, so that who knows no other node is served all the same.
//! Connections of other nodes, of operators and of health checks are left alone.

use std::any::Any;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, sleep_until, timeout};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::codegen::http::{Extensions, HeaderValue, Request};
use tonic::service::Routes;
use tonic::transport::server::{Connected, TcpConnectInfo};
use tower::util::MapRequestLayer;

use super::greet::{Greet, Greeted, Plainly};
use super::guard::{self, Connection, Guard, Guarding, Watched};
use super::http2_server;
use crate::{CERTIFIED, FORWARDED};

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

/// How long nothing is accepted once descriptors or memory have run out: until some are given back.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Whether an accept failed because the process or the machine has no more of something.
fn is_exhausted(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| {
        [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM].contains(&code)
    })
}

/// Runs `serve` for each connection that comes in, until `closing` says so or `stop` completes; and
/// behind `stop` until all of them have ended: each is told, by its receiver, that it should. Where
/// descriptors have run out it pauses, closes who is silent, and says so.
pub async fn accept<Io, Served>(
    mut incoming: impl Stream<Item = io::Result<Io>> + Unpin,
    mut closing: watch::Receiver<bool>,
    stop: impl Future<Output = ()>,
    guard: &Guard,
    serve: impl Fn(Io, watch::Receiver<bool>) -> Served,
) where
    Served: Future<Output = ()> + Send + 'static,
{
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    let mut over = false;
    let mut paused = None;
    let mut look = tokio::time::interval(guard::LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => {
                over = true;
                break;
            }
            () = said(&mut closing) => break,
            now = look.tick() => guard.sweep(now),
            () = sleep_until(paused.unwrap_or_else(Instant::now)), if paused.is_some() => paused = None,
            accepted = incoming.next(), if paused.is_none() => match accepted {
                Some(Ok(io)) => drop(connections.spawn(serve(io, stopped.clone()))),
                Some(Err(error)) if is_exhausted(&error) => {
                    guard.exhausted(&error);
                    paused = Some(Instant::now() + EXHAUSTED_PAUSE);
                }
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
    guard: Guard,
) where
    Io: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    serve_greeting(incoming, routes, stop, ending, guard, Plainly).await;
}

/// The same, with connections that begin as `greet` has them begin.
pub async fn serve_greeting<Io>(
    incoming: impl Stream<Item = io::Result<Io>> + Unpin,
    routes: Routes,
    stop: impl Future<Output = ()>,
    ending: Ending,
    guard: Guard,
    greet: impl Greet<Watched<Io>>,
) where
    Io: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let routes = routes.prepare();
    let serve = |io, stopped| {
        let (routes, ending, guard) = (routes.clone(), ending.clone(), guard.clone());
        connection(io, routes, stopped, ending, guard, greet.clone())
    };
    accept(incoming, ending.closing.clone(), stop, &guard, serve).await;
}

/// Serves one connection until it ends, or until it should and its calls have ended.
async fn connection<Io>(
    io: Io,
    routes: Routes,
    mut stopped: watch::Receiver<bool>,
    ending: Ending,
    guard: Guard,
    greet: impl Greet<Watched<Io>>,
) where
    Io: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let known = address(&io);
    let Some(guarded) = guard.connect(known.map(|known| known.ip().to_canonical()), true) else {
        return;
    };
    let io = Watched::new(io, guarded.clone());
    let greeted = tokio::select! {
        greeted = timeout(guard.limits().preface_timeout, greet.greet(io)) => greeted,
        () = said(&mut stopped) => return,
    };
    let Ok(Ok(Greeted { io, certified })) = greeted else {
        return;
    };
    let info = TcpConnectInfo {
        local_addr: None,
        remote_addr: known,
    };
    // What else the connection says of itself, its calls have as ever.
    let said = io.connect_info();
    let says: Says = Arc::new(move |extensions| drop(extensions.insert(said.clone())));
    let io = Box::new(io);
    served(
        Begun {
            io,
            info,
            says,
            certified,
        },
        routes,
        stopped,
        ending,
        guarded,
    )
    .await;
}

/// A connection that has begun, whatever its bytes go over.
struct Begun {
    io: Box<dyn Bytes>,
    info: TcpConnectInfo,
    says: Says,
    certified: Option<HeaderValue>,
}

/// Adds what a connection says of itself to a call.
type Says = Arc<dyn Fn(&mut Extensions) + Send + Sync>;

/// Serves its calls. Boxed, so that it is compiled here, once, and not in each program for its network.
fn served(
    begun: Begun,
    routes: Routes,
    mut stopped: watch::Receiver<bool>,
    ending: Ending,
    guarded: Arc<Connection>,
) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let Begun {
            io,
            info,
            says,
            certified,
        } = begun;
        let guarding = Guarding(guarded.clone());
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
        let note = MapRequestLayer::new(move |mut request: Request<tonic::body::Body>| {
            // Only the connection itself says who was certified on it.
            match &certified {
                Some(certified) => drop(request.headers_mut().insert(CERTIFIED, certified.clone())),
                None => drop(request.headers_mut().remove(CERTIFIED)),
            }
            says(request.extensions_mut());
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
                () = guarded.should_leave() => {}
                // Its sender goes with the connection.
                _ = closed.changed() => {}
            }
        };
        let io = Ok::<_, io::Error>(Open {
            io,
            info,
            _open: open,
        });
        let only = futures::stream::iter([io]).chain(futures::stream::pending());
        let server = http2_server()
            .layer(note)
            .layer(guarding)
            .add_routes(routes);
        // How a connection ended is its other end's business.
        let _ = server.serve_with_incoming_shutdown(only, leave).await;
        drop(caller);
    })
}

/// Who is at the other end of a connection, where that is known.
fn address<Io: Connected>(io: &Io) -> Option<SocketAddr> {
    let info = io.connect_info();
    let info = (&info as &dyn Any).downcast_ref::<TcpConnectInfo>()?;
    info.remote_addr()
}

/// Bytes both ways.
trait Bytes: AsyncRead + AsyncWrite + Unpin + Send {}

impl<Io: AsyncRead + AsyncWrite + Unpin + Send> Bytes for Io {}

/// A connection, and what is dropped with it.
struct Open {
    io: Box<dyn Bytes>,
    info: TcpConnectInfo,
    _open: watch::Sender<()>,
}

impl Connected for Open {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.info.clone()
    }
}

impl AsyncRead for Open {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, into)
    }
}

impl AsyncWrite for Open {
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
pub(in crate::net) mod tests;
