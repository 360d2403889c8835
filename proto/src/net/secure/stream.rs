//! The bytes of connections that may have TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;
use tonic::transport::server::Connected;

use super::Certified;

/// A connection whose first byte was looked at, and is read again.
pub struct Again<Io> {
    first: Option<u8>,
    io: Io,
}

impl<Io> Again<Io> {
    /// `first` stands before what `io` has left.
    pub(super) fn new(first: u8, io: Io) -> Again<Io> {
        Again {
            first: Some(first),
            io,
        }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Again<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if into.remaining() > 0
            && let Some(first) = self.first.take()
        {
            into.put_slice(&[first]);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(context, into)
    }
}

/// Passes writes on to what a pattern finds.
macro_rules! writes {
    ($($pattern:pat => $io:expr),+) => {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            match &mut *self { $($pattern => Pin::new($io).poll_write(context, bytes),)+ }
        }

        fn poll_flush(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<io::Result<()>> {
            match &mut *self { $($pattern => Pin::new($io).poll_flush(context),)+ }
        }

        fn poll_shutdown(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<io::Result<()>> {
            match &mut *self { $($pattern => Pin::new($io).poll_shutdown(context),)+ }
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            slices: &[io::IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            match &mut *self {
                $($pattern => Pin::new($io).poll_write_vectored(context, slices),)+
            }
        }

        fn is_write_vectored(&self) -> bool {
            match self { $($pattern => $io.is_write_vectored(),)+ }
        }
    };
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Again<Io> {
    writes!(Again { io, .. } => io);
}

impl<Io: Connected> Connected for Again<Io> {
    type ConnectInfo = Io::ConnectInfo;

    fn connect_info(&self) -> Io::ConnectInfo {
        self.io.connect_info()
    }
}

/// A connection that may have TLS.
pub enum Secured<Io> {
    /// Without it.
    Plain(Io),
    /// With it.
    Tls(Box<TlsStream<Io>>),
}

impl<Io> Secured<Io> {
    /// Who is at its other end.
    pub(super) fn certified(&self) -> io::Result<Certified> {
        match self {
            Secured::Plain(_) => Ok(Certified::Nobody),
            Secured::Tls(io) => Certified::of(io.get_ref().1.peer_certificates()),
        }
    }
}

impl<Io: Connected> Connected for Secured<Io> {
    type ConnectInfo = Io::ConnectInfo;

    fn connect_info(&self) -> Io::ConnectInfo {
        match self {
            Secured::Plain(io) => io.connect_info(),
            Secured::Tls(io) => io.get_ref().0.connect_info(),
        }
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncRead for Secured<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Secured::Plain(io) => Pin::new(io).poll_read(context, into),
            Secured::Tls(io) => Pin::new(io).poll_read(context, into),
        }
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Secured<Io> {
    writes!(Secured::Plain(io) => io, Secured::Tls(io) => io);
}
