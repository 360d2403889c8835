//! How a connection begins once it is taken: with TLS, or with nothing at all.

use std::future::Future;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tonic::codegen::http::HeaderValue;
use tonic::transport::server::Connected;

/// Turns what was accepted into what is served.
pub trait Greet<Io>: Clone + Send + Sync + 'static {
    /// What is served.
    type Io: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static;

    /// Begins a connection. An error ends it.
    fn greet(&self, io: Io) -> impl Future<Output = io::Result<Greeted<Self::Io>>> + Send;
}

/// A connection that has begun.
pub struct Greeted<Io> {
    /// Its bytes, as calls see them.
    pub io: Io,
    /// What its requests say of it in [`CERTIFIED`](crate::CERTIFIED).
    pub certified: Option<HeaderValue>,
}

/// Begins with nothing.
#[derive(Clone, Copy, Debug)]
pub struct Plainly;

impl<Io> Greet<Io> for Plainly
where
    Io: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    type Io = Io;

    async fn greet(&self, io: Io) -> io::Result<Greeted<Io>> {
        Ok(Greeted {
            io,
            certified: None,
        })
    }
}
