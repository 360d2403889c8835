//! The bytes of a far connection: written at once, read when they are due.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::transport::server::{Connected as _, TcpConnectInfo};

use super::Io;
use crate::net::faulty::Abort as _;

/// Most that is read at once, bytes.
const READ_BYTES_MAX: usize = 256 * 1024;
/// Reads on their way: with small ones the reader gathers more each time, so this limits nothing.
const ON_THE_WAY_MAX: usize = 1_024;

/// What one read of the socket gave.
struct Arrival {
    due: Instant,
    /// Nothing: the other end has closed.
    what: io::Result<Bytes>,
}

/// A connection to somebody far.
pub struct Far {
    info: TcpConnectInfo,
    delay: Duration,
    pub(super) out: OwnedWriteHalf,
    arrivals: mpsc::Receiver<Arrival>,
    next: Option<Arrival>,
    timer: Pin<Box<Sleep>>,
    /// Due already.
    bytes: Bytes,
    /// The end has been read.
    ended: bool,
    /// The socket refuses what is written, which becomes known here only then.
    broken: Option<Instant>,
}

impl Far {
    pub(super) fn new(stream: TcpStream, delay: Duration) -> Far {
        let info = stream.connect_info();
        let (from, out) = stream.into_split();
        let (to, arrivals) = mpsc::channel(ON_THE_WAY_MAX);
        tokio::spawn(pump(from, delay, to));
        Far {
            info,
            delay,
            out,
            arrivals,
            next: None,
            timer: Box::pin(sleep_until(Instant::now())),
            bytes: Bytes::new(),
            ended: false,
            broken: None,
        }
    }

    pub(super) fn connect_info(&self) -> TcpConnectInfo {
        self.info.clone()
    }

    pub(super) fn abort(&self) {
        self.out.as_ref().abort();
    }

    /// A write that failed shows what became of the other end; here nobody can know that before
    /// the time it takes to hear of it. Until then it is lost on the way.
    fn written(
        &mut self,
        outcome: Poll<io::Result<usize>>,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        match outcome {
            Poll::Ready(Err(error)) => {
                let known = *self.broken.get_or_insert(Instant::now() + self.delay);
                if self.ended || known <= Instant::now() {
                    Poll::Ready(Err(error))
                } else {
                    Poll::Ready(Ok(length))
                }
            }
            other => other,
        }
    }
}

/// Reads what comes and stamps it, until the end or until nobody reads any more.
async fn pump(mut from: OwnedReadHalf, delay: Duration, to: mpsc::Sender<Arrival>) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_BYTES_MAX);
        let read = tokio::select! {
            biased;
            () = to.closed() => return,
            read = from.read_buf(&mut buffer) => read,
        };
        let what = read.map(|_| buffer.split().freeze());
        let ended = what.as_ref().map_or(true, Bytes::is_empty);
        let due = Instant::now() + delay;
        if to.send(Arrival { due, what }).await.is_err() || ended {
            return;
        }
    }
}

impl AsyncRead for Far {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let far = &mut *self;
        while far.bytes.is_empty() && !far.ended {
            let arrival = match far.next.take() {
                Some(arrival) => arrival,
                None => match ready!(far.arrivals.poll_recv(context)) {
                    Some(arrival) => {
                        far.timer.as_mut().reset(arrival.due);
                        arrival
                    }
                    None => break,
                },
            };
            if arrival.due > Instant::now() && far.timer.as_mut().poll(context).is_pending() {
                far.next = Some(arrival);
                return Poll::Pending;
            }
            far.ended = arrival.what.as_ref().map_or(true, Bytes::is_empty);
            far.bytes = arrival.what?;
        }
        let length = far.bytes.len().min(buffer.remaining());
        buffer.put_slice(&far.bytes[..length]);
        far.bytes.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Far {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.out).poll_write(context, bytes);
        self.written(outcome, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.out).poll_write_vectored(context, parts);
        self.written(outcome, parts.iter().map(|part| part.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        self.out.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.out).poll_flush(context);
        self.written(outcome.map_ok(|()| 0), 0).map_ok(drop)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.out).poll_shutdown(context);
        self.written(outcome.map_ok(|()| 0), 0).map_ok(drop)
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Near(stream) => Pin::new(stream).poll_read(context, buffer),
            Io::Far(far) => Pin::new(far).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Io::Near(stream) => Pin::new(stream).poll_write(context, bytes),
            Io::Far(far) => Pin::new(far).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Io::Near(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Io::Far(far) => Pin::new(far).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Io::Near(stream) => stream.is_write_vectored(),
            Io::Far(far) => far.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Near(stream) => Pin::new(stream).poll_flush(context),
            Io::Far(far) => Pin::new(far).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Near(stream) => Pin::new(stream).poll_shutdown(context),
            Io::Far(far) => Pin::new(far).poll_shutdown(context),
        }
    }
}
