//! Where connections come from and go to. Production uses TCP; the simulator brings its own.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::codegen::http::HeaderMap;
use tonic::codegen::http::header::CONTENT_TYPE;
use tonic::service::Routes;
use tonic::transport::server::Connected;
use tonic::transport::{Endpoint, Server};

pub use any::{AnyNetwork, Listener};
pub use channel::{Channel, Transport};
pub use connect::Connects;
pub use far::{Distances, FarTcp};
pub use guard::Guard;
pub use serve::Ending;

mod any;
mod channel;
mod connect;
pub mod far;
pub mod faulty;
pub mod greet;
pub mod guard;
#[cfg(feature = "tls")]
pub mod secure;
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
/// Streams of one connection that a server announces. It serves fewer ([`guard::Limits`]): a client
/// keeps back what is above the announced, and what is above the served is refused at once, with a
/// reason.
pub const CONCURRENT_STREAMS_MAX: u32 = 16_384;

/// Resets that one connection takes at once. Each call that runs out is one: behind a pause of half a
/// second a server finds all that were begun and given up meanwhile, and a client finds the answers to
/// them. With less (HTTP/2's libraries take 20 and 1,024) the connection would end, with all other
/// calls on it.
pub const RESETS_MAX: usize = 4 * CONCURRENT_STREAMS_MAX as usize;
/// For how long a client knows a call that it has reset, so that a late answer to it is passed over.
pub const RESET_KEPT: Duration = Duration::from_secs(10);

/// Opens channels. Cheap to clone and to share.
pub trait Dial: Send + Sync + 'static {
    /// A channel to `host:port` that connects when first used and reconnects by itself.
    ///
    /// # Errors
    /// `InvalidInput` when `address` is not `host:port`.
    fn dial(&self, address: &str) -> io::Result<Channel>;

    /// The same, to the node of a name. Where connections prove who is at their other end, nobody
    /// else is connected to; elsewhere, the node's answers have to tell.
    ///
    /// # Errors
    /// `InvalidInput` when `address` is not `host:port`.
    fn dial_node(&self, address: &str, name: &str) -> io::Result<Channel> {
        let _ = name;
        self.dial(address)
    }
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
    /// have ended, their connections as `ending` says; no more of them than `guard` allows.
    fn serve(
        &self,
        incoming: Self::Incoming,
        routes: Routes,
        stop: impl Future<Output = ()> + Send,
        ending: Ending,
        guard: Guard,
    ) -> impl Future<Output = ()> + Send {
        serve::serve(incoming, routes, stop, ending, guard)
    }
}

/// Whether a request is a call of gRPC, by its content type: of application/grpc-web and others there is
/// no server.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE);
    let rest = kind.and_then(|kind| kind.as_bytes().strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// The options of every server of Firebreak.
pub fn http2_server() -> Server {
    Server::builder()
        // Browsers and scrapers speak that; calls do not.
        .accept_http1(true)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(CONCURRENT_STREAMS_MAX)
        .http2_max_pending_accept_reset_streams(Some(RESETS_MAX))
        .http2_max_local_error_reset_streams(Some(RESETS_MAX))
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

impl Connects for Tcp {
    async fn connect(&self, host: &str, port: u16) -> io::Result<tokio::net::TcpStream> {
        let stream = tokio::net::TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
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

/// What is wrong with an address, if anything: what follows "host:port". An URI takes more than hosts
/// and ports, and would look for a host that nobody has.
fn wrong(address: &str) -> Option<&'static str> {
    if address.contains("://") {
        return Some(": leave out what stands before ://");
    }
    let Some((host, port)) = address.rsplit_once(':') else {
        return Some(": it has no port");
    };
    if port.parse::<u16>().is_err() {
        return Some(": its port must be a number up to 65535");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match bracketed {
        Some(host) if host.parse::<std::net::Ipv6Addr>().is_ok() => None,
        Some(_) => Some(": what stands in brackets is no IPv6 address"),
        None if host.is_empty() => Some(": it has no host"),
        None if host.contains(':') => Some(": an IPv6 address stands in brackets"),
        None if !host.chars().all(plain) => Some(": its host is no name and no IP address"),
        None => None,
    }
}

/// The channel options that every connection of Firebreak uses; the simulator adds its connector.
///
/// # Errors
/// `InvalidInput` when `address` is not `host:port`.
pub fn endpoint(address: &str) -> io::Result<Endpoint> {
    let invalid = |why: &str| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{address:?} is not an address of the form host:port{why}"),
        )
    };
    if let Some(why) = wrong(address) {
        return Err(invalid(why));
    }
    Ok(Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| invalid(""))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_max_concurrent_reset_streams(RESETS_MAX)
        .http2_reset_stream_duration(RESET_KEPT)
        // They are counted for as long as the connection lasts, and an answer that came too late says
        // nothing against the server.
        .http2_max_local_error_reset_streams(None))
}

#[cfg(test)]
#[path = "net/resets_tests.rs"]
mod resets_tests;
#[cfg(test)]
mod rooms;

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

    #[tokio::test]
    async fn an_address_is_a_host_and_a_port_and_nothing_else() {
        for right in [
            "a:1",
            "10.0.0.1:7001",
            "my-host_2.local:65535",
            "[::1]:7001",
        ] {
            assert!(endpoint(right).is_ok(), "{right}");
        }
        for (wrong, why) in [
            ("http://a:7001", "before ://"),
            ("a", "no port"),
            ("", "no port"),
            ("a:http", "a number"),
            ("a:70000", "a number"),
            (":7001", "no host"),
            ("::1:7001", "in brackets"),
            ("[::x]:7001", "no IPv6"),
            ("user@a:7001", "no name"),
            ("a/b:7001", "no name"),
            ("a b:7001", "no name"),
        ] {
            let error = endpoint(wrong).err().map(|error| error.to_string());
            assert!(
                error.as_ref().is_some_and(|e| e.contains(why)),
                "{wrong}: {error:?}"
            );
        }
    }
}
