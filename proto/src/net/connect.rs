//! Channels over networks whose connections are opened one by one.

use std::future::Future;
use std::io;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::codegen::http;

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
    let network = network.clone();
    dial_by(address, move |host, port| {
        let network = network.clone();
        async move { network.connect(&host, port).await }
    })
}

/// A channel to `host:port` whose connections `open` opens: to a name, or an IP address without
/// brackets, and a port.
///
/// # Errors
/// `InvalidInput` when `address` is not `host:port`.
pub(super) fn dial_by<Io, Opening>(
    address: &str,
    open: impl Fn(String, u16) -> Opening + Clone + Send + Sync + 'static,
) -> io::Result<Channel>
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    Opening: Future<Output = io::Result<Io>> + Send + 'static,
{
    let endpoint = endpoint(address)?;
    let target = address.rsplit_once(':');
    let target = target.and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, address.to_owned());
    let (host, port): (&str, u16) = target.ok_or_else(invalid)?;
    let host = host.trim_matches(['[', ']']).to_owned();
    let connector = tower::service_fn(move |_: http::Uri| {
        let opening = open(host.clone(), port);
        async move { opening.await.map(TokioIo::new) }
    });
    Ok(endpoint.connect_with_connector_lazy(connector).into())
}
