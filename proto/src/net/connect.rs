//! Channels over networks whose connections are opened one by one.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tonic::codegen::{Service, http};

use super::{Channel, Network, endpoint};

/// A network whose connections can be opened one by one.
pub trait Connects: Network {
    /// Opens a connection to a host, a name or an IP address without brackets.
    fn connect(&self, host: &str, port: u16) -> impl Future<Output = io::Result<Self::Io>> + Send;
}

/// A channel to `host:port` whose connections `network` opens.
///
/// # Errors
/// `InvalidInput` when `address` is not `host:port`.
pub fn dial<N: Connects>(network: &N, address: &str) -> io::Result<Channel> {
    let endpoint = endpoint(address)?;
    let target = address.rsplit_once(':');
    let target = target.and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, address.to_owned());
    let (host, port): (&str, u16) = target.ok_or_else(invalid)?;
    let connector = Connector {
        network: network.clone(),
        host: host.trim_matches(['[', ']']).to_owned(),
        port,
    };
    Ok(endpoint.connect_with_connector_lazy(connector).into())
}

/// Opens connections to one address, as tonic asks for them.
#[derive(Clone)]
struct Connector<N> {
    network: N,
    host: String,
    port: u16,
}

impl<N: Connects> Service<http::Uri> for Connector<N> {
    type Response = TokioIo<N::Io>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<N::Io>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let Connector {
            network,
            host,
            port,
        } = self.clone();
        Box::pin(async move { network.connect(&host, port).await.map(TokioIo::new) })
    }
}
