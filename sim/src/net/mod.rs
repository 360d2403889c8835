//! The simulated network, as seen from inside a host: [`proto::net::Network`] over turmoil's TCP.
//! This module and [`field`] are the only ones that know turmoil.

pub mod field;

use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{BoxStream, unfold};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use proto::net::{Dial, Dialer, Network, endpoint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::Channel;
use tonic::transport::server::Connected;
use turmoil::net::{TcpListener, TcpStream};

pub use field::Field;

/// Virtual time since the run began, for code that runs on a host; it goes on while the host is
/// down.
pub fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

/// The network of one host.
#[derive(Clone)]
pub struct Net {
    host: String,
    /// Hosts that nothing reaches and that reach nothing.
    cut: Cut,
}

type Cut = Arc<Mutex<BTreeSet<String>>>;

impl Net {
    fn cut_from(&self, other: &str) -> bool {
        let cut = self.cut.lock();
        cut.contains(&self.host) || cut.contains(other)
    }

    async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let connected = TcpStream::connect((host, port)).await;
        // turmoil refuses a connection whose SYN it dropped, but what burns refuses nothing.
        if connected.is_err() && self.cut_from(host) {
            std::future::pending::<()>().await;
        }
        connected
    }
}

impl Network for Net {
    type Io = Io;
    type Incoming = BoxStream<'static, io::Result<Io>>;

    async fn listen(&self, address: &str) -> io::Result<Self::Incoming> {
        let listener = TcpListener::bind(address).await?;
        let accept = |listener: TcpListener| async {
            let accepted = listener.accept().await.map(|(stream, _)| Io(stream));
            Some((accepted, listener))
        };
        Ok(unfold(listener, accept).boxed())
    }

    fn dialer(&self) -> Dialer {
        Arc::new(self.clone())
    }
}

impl Dial for Net {
    fn dial(&self, address: &str) -> io::Result<Channel> {
        let net = self.clone();
        let connector = tower::service_fn(move |uri: http::Uri| {
            let net = net.clone();
            async move {
                let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else {
                    return Err(io::Error::from(io::ErrorKind::InvalidInput));
                };
                net.connect(host, port).await.map(TokioIo::new)
            }
        });
        Ok(endpoint(address)?.connect_with_connector_lazy(connector))
    }
}

/// An accepted connection.
pub struct Io(TcpStream);

impl Connected for Io {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
