//! The bytes of a connection, as they come and go: whether its other end speaks, what was written, and
//! its end when it is cut.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

use super::Connection;

/// Bytes of the HTTP/2 preface, with which everybody begins.
const PREFACE_BYTES: usize = 24;

/// A connection's bytes, under its guard's eyes.
pub struct Watched<Io> {
    io: Io,
    connection: Arc<Connection>,
    /// Bytes of the preface that are still to come.
    missing: usize,
}

impl<Io> Watched<Io> {
    /// Those of `connection`.
    pub fn new(io: Io, connection: Arc<Connection>) -> Watched<Io> {
        Watched {
            io,
            connection,
            missing: PREFACE_BYTES,
        }
    }

    fn check(&self, context: &Context<'_>) -> io::Result<()> {
        self.connection.waker.register(context.waker());
        match self.connection.is_cut() {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => Ok(()),
        }
    }

    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_pending() {
            self.connection.is_blocked();
        }
        let bytes = ready!(written)?;
        self.connection.wrote(bytes);
        Poll::Ready(Ok(bytes))
    }
}

impl<Io: Connected> Connected for Watched<Io> {
    type ConnectInfo = Io::ConnectInfo;

    fn connect_info(&self) -> Io::ConnectInfo {
        self.io.connect_info()
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Watched<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        let before = into.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, into))?;
        if self.missing > 0 {
            let came = into.filled().len() - before;
            self.missing = self.missing.saturating_sub(came);
            if self.missing == 0 {
                self.connection.speaks();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Watched<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.wrote(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Not waited for where it was cut: its other end may never answer.
        match self.connection.is_cut() {
            true => Poll::Ready(Ok(())),
            false => Pin::new(&mut self.io).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        let written = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
