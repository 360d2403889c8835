//! Faults on any network whose connections are bytes, for drills.
//!
//! ```text
//!  Switch ── one number: 0 = nothing is on ──┐ looked at in each poll
//!                                            ▼
//!  caller ──► Stream ── calm: straight on ──► the connection below
//!                │ cut out:  what is written is kept, and sent when that is mended
//!                │ cut in:   nothing is read, not even an end
//!                │ slow:     pieces are stamped and go on when they are due, in their order
//!                └ reset:    an error here, a reset at the other end
//! ```
//!
//! A connection that is dropped while it is cut lingers: its other end must not hear of that. What is
//! accepted is known by its IP address alone, and what is dialled by its address, too. While everyone's
//! words are cut off, nothing is accepted: as with a process that stands still, the kernel takes
//! connections in its backlog, and says nothing on them.

use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::Stream as Incomings;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tonic::transport::server::{Connected, TcpConnectInfo};

pub use stream::Stream;
pub use switch::{Harm, Peers, Rule, Slow, Switch};

use self::stream::Line;
use self::switch::Whom;
use super::connect::{Connects, dial};
use super::{Channel, Dial, Dialer, Network};

mod stream;
mod switch;

/// A connection that can end with a reset.
pub trait Abort: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static {
    /// Has it end so when it is dropped.
    fn abort(&self);
}

impl Abort for TcpStream {
    fn abort(&self) {
        // One that refuses the option ends politely, which the other end takes for an end, too.
        let _ = self.set_zero_linger();
    }
}

/// A network on which a [`Switch`] puts faults.
#[derive(Clone)]
pub struct Faulty<N> {
    below: N,
    /// None: this process may have no faults, and nothing looks for them.
    switch: Option<Switch>,
}

impl<N> Faulty<N> {
    /// `below`, with the faults of `switch`.
    pub fn new(below: N, switch: Switch) -> Faulty<N> {
        Faulty {
            below,
            switch: Some(switch),
        }
    }

    /// `below`, as it is.
    pub fn never(below: N) -> Faulty<N> {
        Faulty {
            below,
            switch: None,
        }
    }
}

/// Who is at the other end of a connection, where that is known.
fn socket(io: &impl Connected) -> Option<SocketAddr> {
    let info = io.connect_info();
    (&info as &dyn Any)
        .downcast_ref::<TcpConnectInfo>()?
        .remote_addr()
}

impl<N: Connects> Network for Faulty<N>
where
    N::Io: Abort,
{
    type Io = Stream<N::Io>;
    type Incoming = Incoming<N>;

    async fn listen(&self, address: &str) -> io::Result<Incoming<N>> {
        Ok(Incoming {
            below: self.below.listen(address).await?,
            switch: self.switch.clone(),
            gate: None,
        })
    }

    fn dialer(&self) -> Dialer {
        match self.switch {
            None => self.below.dialer(),
            Some(_) => std::sync::Arc::new(self.clone()),
        }
    }
}

impl<N: Connects> Dial for Faulty<N>
where
    N::Io: Abort,
{
    fn dial(&self, address: &str) -> io::Result<Channel> {
        dial(self, address)
    }
}

impl<N: Connects> Connects for Faulty<N>
where
    N::Io: Abort,
{
    async fn connect(&self, host: &str, port: u16) -> io::Result<Stream<N::Io>> {
        let Some(switch) = &self.switch else {
            return Ok(Stream::new(self.below.connect(host, port).await?, None));
        };
        let brackets = if host.contains(':') {
            ("[", "]")
        } else {
            ("", "")
        };
        let mut whom = Whom {
            dialled: Some(format!("{}{host}{}:{port}", brackets.0, brackets.1)),
            socket: socket_of(host, port),
        };
        // It takes both ways, and being refused takes them, too.
        let open = |effects: &switch::Effects| !effects.cut_in && !effects.cut_out;
        let effects = switch.until(&whom, open).await;
        for slow in [effects.slow_out, effects.slow_in].into_iter().flatten() {
            sleep(slow.delay).await;
        }
        let effects = switch.until(&whom, open).await;
        if effects.refuse {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let io = self.below.connect(host, port).await?;
        whom.socket = socket(&io).or(whom.socket);
        Ok(Stream::new(io, Some(Line::new(switch.clone(), whom))))
    }
}

/// The socket of a host that is an IP address.
fn socket_of(host: &str, port: u16) -> Option<SocketAddr> {
    let ip = host.parse::<std::net::IpAddr>().ok()?;
    Some(SocketAddr::new(ip, port))
}

/// Accepts connections.
pub struct Incoming<N: Network> {
    below: N::Incoming,
    switch: Option<Switch>,
    /// While nothing is accepted.
    gate: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<N: Connects> Incomings for Incoming<N>
where
    N::Io: Abort,
{
    type Item = io::Result<Stream<N::Io>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let incoming = &mut *self;
        let Some(switch) = &incoming.switch else {
            let accepted = ready!(Pin::new(&mut incoming.below).poll_next(context));
            return Poll::Ready(accepted.map(|io| Ok(Stream::new(io?, None))));
        };
        loop {
            if let Some(gate) = &mut incoming.gate {
                ready!(gate.as_mut().poll(context));
                incoming.gate = None;
            }
            if switch.is_deaf() {
                let switch = switch.clone();
                incoming.gate = Some(Box::pin(async move { switch.until_hears().await }));
                continue;
            }
            let Some(accepted) = ready!(Pin::new(&mut incoming.below).poll_next(context)) else {
                return Poll::Ready(None);
            };
            let io = match accepted {
                Ok(io) => io,
                Err(error) => return Poll::Ready(Some(Err(error))),
            };
            let whom = Whom {
                dialled: None,
                socket: socket(&io),
            };
            if switch.effects(&whom).refuse {
                io.abort();
                continue;
            }
            let line = Line::new(switch.clone(), whom);
            return Poll::Ready(Some(Ok(Stream::new(io, Some(line)))));
        }
    }
}

#[cfg(test)]
#[path = "faulty_tests.rs"]
mod tests;
