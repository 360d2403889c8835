//! TCP over a distance that is made up, for drills and tests on one machine.
//!
//! What comes from certain IP addresses is late: bytes, closes and resets alike, whatever became of
//! the sender meanwhile. Both ends set the same delay, so each way takes it once and a round trip
//! twice. Connecting takes a round trip, too, and so does being refused. Nothing else changes:
//! delays overlap, so throughput is not limited, and all other connections are plain TCP.
//!
//! ```text
//!  far socket ──► pump: stamps what comes ──► queue ──► poll_read: gives it out when it is due
//!  far socket ◄──────────────────────────────────────── poll_write: at once, late at the far end
//! ```
//!
//! What cuts ways altogether are the faults of drills, in [`super::faulty`].

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::Stream;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::sleep;
use tonic::transport::server::{Connected, TcpConnectInfo};

use self::stream::Far;
use super::connect::{Connects, dial};
use super::faulty::Abort;
use super::{Channel, Dial, Dialer, Network, Tcp, TcpIncoming};

mod stream;

/// How far others are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distances {
    /// The address that connections are opened from, by which others know how far this end is.
    pub from: Option<IpAddr>,
    /// How late what comes from each of these is, one way.
    pub delays: BTreeMap<IpAddr, Duration>,
}

/// TCP, late where [`Distances`] say so.
#[derive(Clone, Debug)]
pub struct FarTcp {
    distances: Arc<Distances>,
}

impl FarTcp {
    /// With these distances.
    pub fn new(distances: Distances) -> FarTcp {
        FarTcp {
            distances: Arc::new(distances),
        }
    }

    /// Plain TCP, with connections opened from an address, or from whichever the system takes.
    pub fn from(from: Option<IpAddr>) -> FarTcp {
        let distances = Distances {
            from,
            ..Distances::default()
        };
        FarTcp::new(distances)
    }

    fn wrap(&self, stream: TcpStream, peer: IpAddr) -> Io {
        match self.distances.delays.get(&peer.to_canonical()) {
            None => Io::Near(stream),
            Some(delay) => Io::Far(Far::new(stream, *delay)),
        }
    }

    async fn open(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let stream = match self.distances.from {
            Some(from) if from.is_ipv4() == address.is_ipv4() => {
                let socket = match from {
                    IpAddr::V4(_) => TcpSocket::new_v4()?,
                    IpAddr::V6(_) => TcpSocket::new_v6()?,
                };
                socket.bind((from, 0).into())?;
                socket.connect(address).await?
            }
            Some(_) | None => TcpStream::connect(address).await?,
        };
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl Network for FarTcp {
    type Io = Io;
    type Incoming = Incoming;

    async fn listen(&self, address: &str) -> io::Result<Incoming> {
        Ok(Incoming {
            plain: Tcp.listen(address).await?,
            network: self.clone(),
        })
    }

    fn dialer(&self) -> Dialer {
        match self.distances.delays.is_empty() && self.distances.from.is_none() {
            true => Tcp.dialer(),
            false => Arc::new(self.clone()),
        }
    }
}

impl Dial for FarTcp {
    fn dial(&self, address: &str) -> io::Result<Channel> {
        dial(self, address)
    }
}

impl Connects for FarTcp {
    async fn connect(&self, host: &str, port: u16) -> io::Result<Io> {
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in tokio::net::lookup_host((host, port)).await? {
            let peer = address.ip().to_canonical();
            let opened = match self.distances.delays.get(&peer) {
                None => self.open(address).await,
                Some(delay) => {
                    sleep(*delay).await;
                    let opened = self.open(address).await;
                    sleep(*delay).await;
                    opened
                }
            };
            match opened {
                Ok(stream) => return Ok(self.wrap(stream, peer)),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

impl Abort for Io {
    fn abort(&self) {
        match self {
            Io::Near(stream) => stream.abort(),
            Io::Far(far) => far.abort(),
        }
    }
}

/// Accepts connections.
pub struct Incoming {
    pub(super) plain: TcpIncoming,
    network: FarTcp,
}

impl Stream for Incoming {
    type Item = io::Result<Io>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let accepted = ready!(Pin::new(&mut self.plain).poll_next(context));
        Poll::Ready(accepted.map(|accepted| {
            let stream = accepted?;
            // A connection that is gone already is told of when it is read.
            match stream.peer_addr() {
                Ok(peer) => Ok(self.network.wrap(stream, peer.ip())),
                Err(_) => Ok(Io::Near(stream)),
            }
        }))
    }
}

/// One connection.
pub enum Io {
    /// To somebody near.
    Near(TcpStream),
    /// To somebody far.
    Far(Far),
}

impl Connected for Io {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        match self {
            Io::Near(stream) => stream.connect_info(),
            Io::Far(far) => far.connect_info(),
        }
    }
}

#[cfg(test)]
#[path = "far_tests.rs"]
mod tests;
