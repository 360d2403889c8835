//! A connection that faults can hold up.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::transport::server::Connected;

use super::Abort;
use super::switch::{Chance, Effects, Slow, Switch, Whom};

/// What is read of a slow connection at once, bytes.
const PIECE_BYTES: usize = 16 * 1024;
/// What is on its way over a slow connection at most, bytes, each way: a second at 64 Mbit/s.
const SLOW_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What is taken for a way that is cut, as a kernel would take it, bytes.
const CUT_BYTES_MAX: usize = 1024 * 1024;

/// One connection. Without a switch, or with nothing on, it is the connection below it.
pub struct Stream<Io: Abort> {
    /// None only while it is dropped.
    io: Option<Io>,
    info: Io::ConnectInfo,
    line: Option<Box<Line>>,
}

/// What is known of a connection that faults may hold up.
pub(super) struct Line {
    switch: Switch,
    whom: Whom,
    number: u64,
    chance: Chance,
    /// Of its reader and its writer, as the switch has them.
    wakers: [Option<std::task::Waker>; 2],
    /// The number of the rules that `effects` are of.
    seen: u64,
    effects: Effects,
    /// It was reset, and stays so.
    dead: bool,
    inward: Way,
    outward: Way,
    scratch: Vec<u8>,
}

/// What is on its way, one way.
#[derive(Default)]
struct Way {
    pieces: VecDeque<Piece>,
    bytes: usize,
    timer: Option<Pin<Box<Sleep>>>,
}

struct Piece {
    due: Instant,
    /// Nothing: the end.
    what: io::Result<Bytes>,
}

impl Way {
    fn push(&mut self, late: Option<std::time::Duration>, what: io::Result<Bytes>) {
        let due = Instant::now() + late.unwrap_or_default();
        // In order, whatever is late: what is behind a lost piece waits for it.
        let due = self.pieces.back().map_or(due, |before| due.max(before.due));
        self.bytes += what.as_ref().map_or(0, Bytes::len);
        self.pieces.push_back(Piece { due, what });
    }

    /// Ready when the first piece is due; pending with none.
    fn poll_due(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(first) = self.pieces.front() else {
            return Poll::Pending;
        };
        if first.due <= Instant::now() {
            return Poll::Ready(());
        }
        let due = first.due;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        timer.as_mut().poll(context)
    }

    fn took(&mut self, count: usize) {
        self.bytes -= count;
        if let Some(Piece {
            what: Ok(bytes), ..
        }) = self.pieces.front_mut()
        {
            bytes.advance(count);
            if bytes.is_empty() {
                self.pieces.pop_front();
            }
        }
    }

    /// Nothing is late any more.
    fn hurry(&mut self) {
        let now = Instant::now();
        self.pieces.iter_mut().for_each(|piece| piece.due = now);
    }
}

impl Line {
    pub(super) fn new(switch: Switch, whom: Whom) -> Box<Line> {
        let (number, chance) = switch.line();
        Box::new(Line {
            switch,
            whom,
            number,
            chance,
            wakers: [None, None],
            seen: 0,
            effects: Effects::default(),
            dead: false,
            inward: Way::default(),
            outward: Way::default(),
            scratch: Vec::new(),
        })
    }

    /// Whether nothing is on, and nothing is left of what was.
    fn is_calm(&self) -> bool {
        self.switch.state() == 0
            && self.seen == 0
            && !self.dead
            && self.inward.pieces.is_empty()
            && self.outward.pieces.is_empty()
    }

    /// Looks what is on now.
    fn look(&mut self) {
        let state = self.switch.state();
        if state == self.seen {
            return;
        }
        self.effects = self.switch.effects(&self.whom);
        self.seen = state;
        self.dead |= self.effects.reset;
        if self.effects.slow_in.is_none() {
            self.inward.hurry();
        }
        if self.effects.slow_out.is_none() {
            self.outward.hurry();
        }
    }

    /// Has whoever polls woken when faults begin or end; a side keeps its waker mostly.
    fn note(&mut self, side: usize, context: &Context<'_>) {
        let kept = &mut self.wakers[side];
        if !kept
            .as_ref()
            .is_some_and(|waker| waker.will_wake(context.waker()))
        {
            *kept = Some(context.waker().clone());
            let key = 2 * self.number + side as u64;
            self.switch.keep(key, context.waker());
        }
    }

    /// Whoever waits for the connection below is woken by faults, too.
    fn after_calm(&mut self, side: usize, context: &Context<'_>, waits: bool) {
        if waits {
            self.note(side, context);
            // One that has begun before this was noted woke nobody.
            if self.switch.is_on() {
                context.waker().wake_by_ref();
            }
        }
    }

    fn begin(&mut self, side: usize, context: &Context<'_>) -> io::Result<()> {
        // Noted first: what begins behind the look wakes.
        self.note(side, context);
        self.look();
        match self.dead {
            true => Err(io::ErrorKind::ConnectionReset.into()),
            false => Ok(()),
        }
    }

    fn late(&mut self, slow: Option<Slow>) -> Option<std::time::Duration> {
        slow.map(|slow| self.chance.lateness(&slow))
    }

    /// Whether what is written must wait.
    fn holds_out(&self) -> bool {
        self.effects.cut_out || self.effects.slow_out.is_some() || !self.outward.pieces.is_empty()
    }

    fn holds_in(&self) -> bool {
        self.effects.cut_in || self.effects.slow_in.is_some() || !self.inward.pieces.is_empty()
    }

    /// Writes what is due; ready when nothing waits.
    fn drive<Io: AsyncWrite + Unpin>(
        &mut self,
        io: &mut Io,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.outward.pieces.is_empty() {
            if self.effects.cut_out {
                return Poll::Pending;
            }
            ready!(self.outward.poll_due(context));
            let Some(piece) = self.outward.pieces.front() else {
                break;
            };
            match &piece.what {
                Ok(bytes) if !bytes.is_empty() => {
                    let written = ready!(Pin::new(&mut *io).poll_write(context, bytes))?;
                    if written == 0 {
                        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                    }
                    self.outward.took(written);
                }
                _ => {
                    ready!(Pin::new(&mut *io).poll_shutdown(context))?;
                    self.outward.pieces.pop_front();
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes what has come and stamps it.
    fn pull<Io: AsyncRead + Unpin>(&mut self, io: &mut Io, context: &mut Context<'_>) {
        while self.inward.bytes < SLOW_BYTES_MAX
            && !self.inward.pieces.back().is_some_and(Piece::is_end)
        {
            self.scratch.resize(PIECE_BYTES, 0);
            let mut buffer = ReadBuf::new(&mut self.scratch);
            let what = match Pin::new(&mut *io).poll_read(context, &mut buffer) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) => Ok(Bytes::copy_from_slice(buffer.filled())),
                Poll::Ready(Err(error)) => Err(error),
            };
            let late = self.late(self.effects.slow_in);
            self.inward.push(late, what);
        }
    }

    fn poll_read<Io: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        io: &mut Io,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.begin(0, context)?;
        // An error comes back when the next is written.
        let _ = self.drive(io, context);
        if !self.holds_in() {
            return Pin::new(io).poll_read(context, buffer);
        }
        if self.effects.cut_in {
            // What is not read fills the sender's buffers, as it would on a wire that is cut.
            return Poll::Pending;
        }
        self.pull(io, context);
        ready!(self.inward.poll_due(context));
        let Some(first) = self.inward.pieces.front_mut() else {
            return Poll::Pending;
        };
        match &mut first.what {
            Ok(bytes) if bytes.is_empty() => Poll::Ready(Ok(())),
            Ok(bytes) => {
                let count = bytes.len().min(buffer.remaining());
                buffer.put_slice(&bytes[..count]);
                self.inward.took(count);
                Poll::Ready(Ok(()))
            }
            Err(error) => {
                let kind = error.kind();
                Poll::Ready(Err(kind.into()))
            }
        }
    }

    fn poll_write<Io: AsyncWrite + Unpin>(
        &mut self,
        io: &mut Io,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.begin(1, context)?;
        if let Poll::Ready(Err(error)) = self.drive(io, context) {
            return Poll::Ready(Err(error));
        }
        if !self.holds_out() {
            return Pin::new(io).poll_write(context, bytes);
        }
        let most = match self.effects.cut_out {
            true => CUT_BYTES_MAX,
            false => SLOW_BYTES_MAX,
        };
        let room = most.saturating_sub(self.outward.bytes);
        if room == 0 {
            return Poll::Pending;
        }
        let count = bytes.len().min(room);
        if count > 0 {
            let late = self.late(self.effects.slow_out);
            self.outward
                .push(late, Ok(Bytes::copy_from_slice(&bytes[..count])));
            // Has whoever writes woken when it is due.
            if let Poll::Ready(Err(error)) = self.drive(io, context) {
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush<Io: AsyncWrite + Unpin>(
        &mut self,
        io: &mut Io,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.begin(1, context)?;
        match self.drive(io, context) {
            Poll::Ready(Ok(())) => Pin::new(io).poll_flush(context),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // It has left the program, as what a kernel holds.
            Poll::Pending => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown<Io: AsyncWrite + Unpin>(
        &mut self,
        io: &mut Io,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.begin(1, context)?;
        let _ = self.drive(io, context);
        if !self.holds_out() {
            return Pin::new(io).poll_shutdown(context);
        }
        if !self.outward.pieces.back().is_some_and(Piece::is_end) {
            let late = self.late(self.effects.slow_out);
            self.outward.push(late, Ok(Bytes::new()));
        }
        Poll::Ready(Ok(()))
    }

    /// Completes when nothing is held back any more of a connection that nobody holds.
    fn poll_gone<Io: AsyncWrite + Unpin>(
        &mut self,
        io: &mut Io,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        if self.begin(1, context).is_err() {
            return Poll::Ready(());
        }
        match self.drive(io, context) {
            Poll::Ready(Ok(())) if self.effects.cut_out => Poll::Pending,
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Piece {
    fn is_end(&self) -> bool {
        self.what.as_ref().map_or(true, Bytes::is_empty)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        for side in 0..2 {
            if self.wakers[side].is_some() {
                self.switch.forget(2 * self.number + side as u64);
            }
        }
    }
}

// Nothing in it is pinned where it is.
impl<Io: Abort> Unpin for Stream<Io> {}

impl<Io: Abort> Stream<Io> {
    pub(super) fn new(io: Io, line: Option<Box<Line>>) -> Stream<Io> {
        let info = io.connect_info();
        Stream {
            io: Some(io),
            info,
            line,
        }
    }
}

impl<Io: Abort> Drop for Stream<Io> {
    fn drop(&mut self) {
        let (Some(io), Some(mut line)) = (self.io.take(), self.line.take()) else {
            return;
        };
        line.look();
        if line.dead {
            io.abort();
        } else if line.holds_out() {
            linger(io, line);
        }
    }
}

/// Keeps a connection that nobody holds until all that was sent over it has left, and its end may.
fn linger<Io>(mut io: Io, mut line: Box<Line>)
where
    Io: AsyncWrite + Unpin + Send + 'static,
{
    let (Ok(runtime), Some(counted)) =
        (tokio::runtime::Handle::try_current(), line.switch.linger())
    else {
        return;
    };
    runtime.spawn(async move {
        let _counted = counted;
        std::future::poll_fn(|context| line.poll_gone(&mut io, context)).await;
    });
}

/// Polls the connection below; through its line where there is something to hold up.
macro_rules! through {
    ($stream:ident, $side:literal, $context:ident, $method:ident($($argument:expr),*)) => {{
        let Stream { io: Some(io), line, .. } = $stream.get_mut() else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        match line {
            None => Pin::new(io).$method($context, $($argument),*),
            Some(line) if line.is_calm() => {
                let polled = Pin::new(io).$method($context, $($argument),*);
                line.after_calm($side, $context, polled.is_pending());
                polled
            }
            Some(line) => line.$method(io, $context, $($argument),*),
        }
    }};
}

impl<Io: Abort> AsyncRead for Stream<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        through!(self, 0, context, poll_read(buffer))
    }
}

impl<Io: Abort> AsyncWrite for Stream<Io> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        through!(self, 1, context, poll_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Stream {
            io: Some(io), line, ..
        } = self.get_mut()
        else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        match line {
            None => Pin::new(io).poll_write_vectored(context, parts),
            Some(line) if line.is_calm() => {
                let polled = Pin::new(io).poll_write_vectored(context, parts);
                line.after_calm(1, context, polled.is_pending());
                polled
            }
            Some(line) => {
                let first = parts.iter().find(|part| !part.is_empty());
                line.poll_write(io, context, first.map_or(&[], |part| &part[..]))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        through!(self, 1, context, poll_flush())
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        through!(self, 1, context, poll_shutdown())
    }
}

impl<Io: Abort> Connected for Stream<Io> {
    type ConnectInfo = Io::ConnectInfo;

    fn connect_info(&self) -> Io::ConnectInfo {
        self.info.clone()
    }
}
