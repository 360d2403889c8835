//! A connection's end as tokio's readers and writers know it, and the listener.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

use super::fabric::{End, HostId, Shared};
use super::witness::Peer;

/// One end of a connection; closes it when dropped.
pub struct Io {
    fabric: Shared,
    end: End,
}

impl Io {
    pub(super) fn new(fabric: Shared, end: End) -> Io {
        Io { fabric, end }
    }

    /// Opens a connection to `host:port`.
    ///
    /// # Errors
    /// Refused when nobody listens, reset when the other side's process ends meanwhile. Nothing at
    /// all comes of a connection to a host that is silent; callers bring a timeout.
    pub(super) async fn connect(
        fabric: &Shared,
        from: HostId,
        host: &str,
        port: u16,
    ) -> io::Result<Io> {
        let end = fabric.lock().connect(from, host, port)?;
        // From here on dropping it closes it, also while it is opening.
        let io = Io::new(fabric.clone(), end);
        std::future::poll_fn(|context| io.fabric.lock().poll_connected(end, context)).await?;
        Ok(io)
    }

    pub(super) fn fabric(&self) -> &Shared {
        &self.fabric
    }

    pub(super) fn end(&self) -> End {
        self.end
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        self.fabric.lock().close(self.end);
    }
}

impl Connected for Io {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer(self.fabric.lock().peer(self.end))
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut fabric = self.fabric.lock();
        if let Some(bytes) = ready!(fabric.poll_read(self.end, buffer.remaining(), context))? {
            buffer.put_slice(&bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut fabric = self.fabric.lock();
        fabric.poll_write(self.end, buffers, context)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fabric.lock().finish(self.end);
        Poll::Ready(Ok(()))
    }
}

/// The connections that reach a port; stops listening when dropped.
pub struct Incoming {
    fabric: Shared,
    host: HostId,
    port: u16,
}

impl Incoming {
    pub(super) fn listen(fabric: &Shared, host: HostId, port: u16) -> io::Result<Incoming> {
        fabric.lock().listen(host, port)?;
        Ok(Incoming {
            fabric: fabric.clone(),
            host,
            port,
        })
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.fabric.lock().unlisten(self.host, self.port);
    }
}

impl Stream for Incoming {
    type Item = io::Result<Io>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Io>>> {
        let accepted = ready!(
            self.fabric
                .lock()
                .poll_accept(self.host, self.port, context)
        );
        Poll::Ready(accepted.map(|end| Ok(Io::new(self.fabric.clone(), end))))
    }
}
