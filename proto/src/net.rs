//! Where connections come from and go to. Production uses TCP; the simulator brings its own.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::service::Routes;
use tonic::transport::server::Connected;
use tonic::transport::{Endpoint, Server};

pub use channel::{Channel, Transport};
pub use far::{Cuts, Distances, FarTcp};
pub use serve::Ending;

mod channel;
pub mod far;
pub mod serve;

/// HTTP/2 pings on a connection with calls in flight: a peer that answers none is gone.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// How long a keepalive ping may go unanswered.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a connection may take to open.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// HTTP/2 flow control of one stream, both ways.
pub const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// HTTP/2 flow control of one connection, both ways.
pub const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// Streams of one connection that a server takes at once.
pub const CONCURRENT_STREAMS_MAX: u32 = 4_096;

/// Opens channels. Cheap to clone and to share.
pub trait Dial: Send + Sync + 'static {
    /// A channel to `host:port` that connects when first used and reconnects by itself.
    ///
    /// # Errors
    /// `InvalidInput` when `address` is not `host:port`.
    fn dial(&self, address: &str) -> io::Result<Channel>;
}

/// A shared [`Dial`].
pub type Dialer = Arc<dyn Dial>;

/// A network: listens for connections and opens them.
pub trait Network: Clone + Send + Sync + 'static {
    /// One accepted connection.
    type Io: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static;
    /// The accepted connections of one listener.
    type Incoming: Stream<Item = io::Result<Self::Io>> + Send + Unpin + 'static;

    /// Listens on `host:port`.
    fn listen(&self, address: &str) -> impl Future<Output = io::Result<Self::Incoming>> + Send;

    /// How to reach others over this network.
    fn dialer(&self) -> Dialer;

    /// Serves `routes` on what `listen` gave, until `stop` completes and the calls in progress
    /// have ended, their connections as `ending` says.
    fn serve(
        &self,
        incoming: Self::Incoming,
        routes: Routes,
        stop: impl Future<Output = ()> + Send,
        ending: Ending,
    ) -> impl Future<Output = ()> + Send {
        serve::serve(incoming, routes, stop, ending)
    }
}

/// The options of every server of Firebreak.
pub fn http2_server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(CONCURRENT_STREAMS_MAX)
}

/// TCP, with Nagle's delay off.
#[derive(Clone, Debug, Default)]
pub struct Tcp;

impl Network for Tcp {
    type Io = tokio::net::TcpStream;
    type Incoming = TcpIncoming;

    async fn listen(&self, address: &str) -> io::Result<TcpIncoming> {
        Ok(TcpIncoming(tokio::net::TcpListener::bind(address).await?))
    }

    fn dialer(&self) -> Dialer {
        Arc::new(Tcp)
    }
}

/// Accepts TCP connections.
pub struct TcpIncoming(tokio::net::TcpListener);

impl Stream for TcpIncoming {
    type Item = io::Result<tokio::net::TcpStream>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_accept(context).map(|accepted| {
            Some(accepted.map(|(stream, _)| {
                // A socket that refuses the option still works, only slower.
                let _ = stream.set_nodelay(true);
                stream
            }))
        })
    }
}

impl Dial for Tcp {
    fn dial(&self, address: &str) -> io::Result<Channel> {
        Ok(endpoint(address)?.connect_lazy().into())
    }
}

/// Checks an address that others are told to come to: `host:port` that leads somewhere, so neither a
/// wildcard nor port 0.
///
/// # Errors
/// `InvalidInput`, with what is wrong.
pub fn destination(address: &str) -> io::Result<()> {
    endpoint(address)?;
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    // Resolvers take 0 and 0x0 for 0.0.0.0, and no name ends with a number.
    let last = host.trim_end_matches('.').rsplit('.').next();
    let nowhere = match host.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(IpAddr::V4(ip)) => ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast(),
        Ok(IpAddr::V6(ip)) => ip.is_unspecified() || ip.is_multicast(),
        Err(_) => host == "*" || last.is_some_and(is_number),
    };
    if nowhere || port.parse() == Ok(0_u16) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{address} is no address that others can reach"),
        ));
    }
    Ok(())
}

/// Whether a resolver may take a part of a host for a number.
fn is_number(part: &str) -> bool {
    let digits = part.strip_prefix("0x").or_else(|| part.strip_prefix("0X"));
    match digits {
        Some(digits) => digits.chars().all(|digit| digit.is_ascii_hexdigit()),
        None => part.chars().all(|digit| digit.is_ascii_digit()),
    }
}

/// The channel options that every connection of Firebreak uses; the simulator adds its connector.
///
/// # Errors
/// `InvalidInput` when `address` is not `host:port`.
pub fn endpoint(address: &str) -> io::Result<Endpoint> {
    let invalid = || {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{address:?} is not an address of the form host:port"),
        )
    };
    if !address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    {
        return Err(invalid());
    }
    Ok(Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| invalid())?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_leads_somewhere() {
        let ok = |address: &str| destination(address).is_ok();
        for good in [
            "127.0.0.1:7001",
            "[::1]:7001",
            "seoul-1:7001",
            "db1.example.com:65535",
            "3com.example:1",
        ] {
            assert!(ok(good), "{good}");
        }
        for bad in [
            "0.0.0.0:0",
            "0.0.0.0:7001",
            "127.0.0.1:0",
            "[::]:7001",
            "[::ffff:0.0.0.0]:7001",
            "0:7001",
            "0x0:7001",
            "0.0:7001",
            "10.0.0:7001",
            "255.255.255.255:7001",
            "224.0.0.1:7001",
            "[ff02::1]:7001",
            "*:7001",
            "seoul-1:0",
            "seoul-1",
            ":7001",
            "seoul-1:70000",
        ] {
            assert!(!ok(bad), "{bad}");
        }
    }
}
