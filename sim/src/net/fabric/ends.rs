//! What a program does with its end of a connection: writes, reads, lets go.

use std::io::{self, ErrorKind};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};

use super::conn::{End, Payload, Side, Stage};
use super::time::Due;
use super::{Fabric, WINDOW_BYTES};
use crate::net::direct::Frame;

impl Fabric {
    /// The program lets go of an end.
    pub(in crate::net) fn close(&mut self, end: End) {
        self.finish(end);
        let Some(side) = self.side(end) else { return };
        if side.stage == Stage::Gone {
            return self.sweep(end.conn);
        }
        let opening = side.stage == Stage::Opening;
        let unread = !side.received.is_empty();
        side.stage = Stage::Closed;
        side.received.clear();
        if opening || unread {
            self.answer_reset(end.other(), ErrorKind::ConnectionReset);
        }
        self.sweep(end.conn);
    }

    /// Nothing more will be sent from an end.
    pub(in crate::net) fn finish(&mut self, end: End) {
        let Some(side) = self.side(end) else { return };
        if !side.fin_sent && side.stage == Stage::Open && side.error.is_none() {
            side.fin_sent = true;
            self.send(end, Payload::Fin);
        }
    }

    pub(super) fn send(&mut self, end: End, payload: Payload) {
        let Some((from, to)) = self.sides(end) else {
            return;
        };
        let due = self.arrival_us(from, to, payload.bytes());
        let now = self.now_us;
        let Some(side) = self.side(end) else { return };
        let due = due.max(side.last_due_us);
        side.last_due_us = due;
        side.last_sent_us = now;
        side.outstanding += payload.bytes();
        side.on_line.push_back(payload);
        self.at(due, Due::Arrive { from: end });
    }

    fn poll_room(&mut self, end: End, context: &mut Context<'_>) -> Poll<io::Result<&mut Side>> {
        let Some(side) = self.side(end) else {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        };
        if let Some(kind) = side.error {
            return Poll::Ready(Err(kind.into()));
        }
        if side.stage != Stage::Open || side.fin_sent {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        if side.outstanding >= WINDOW_BYTES {
            side.writers.push(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(side))
    }

    /// Sends bytes; gives how many were taken.
    pub(in crate::net) fn poll_write(
        &mut self,
        end: End,
        buffers: &[io::IoSlice<'_>],
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let now = self.now_us;
        let side = ready!(self.poll_room(end, context))?;
        let count = buffers.iter().map(|buffer| buffer.len()).sum();
        // What a program writes in one instant leaves as one segment.
        if side.last_sent_us == now
            && let Some(Payload::Bytes(open)) = side.on_line.back_mut()
        {
            for buffer in buffers {
                open.extend_from_slice(buffer);
            }
            side.outstanding += count;
            return Poll::Ready(Ok(count));
        }
        let mut bytes = BytesMut::with_capacity(count);
        for buffer in buffers {
            bytes.extend_from_slice(buffer);
        }
        if count > 0 {
            self.send(end, Payload::Bytes(bytes));
        }
        Poll::Ready(Ok(count))
    }

    /// Sends a frame whatever is on its way; lost when the connection is over.
    pub(in crate::net) fn send_now(&mut self, end: End, frame: Frame) {
        let Some(side) = self.side(end) else { return };
        if side.error.is_none() && side.stage == Stage::Open && !side.fin_sent {
            self.send(end, Payload::Frame(frame));
        }
    }

    /// Sends a frame.
    pub(in crate::net) fn poll_send(
        &mut self,
        end: End,
        frame: &mut Option<Frame>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_room(end, context))?;
        if let Some(frame) = frame.take() {
            self.send(end, Payload::Frame(frame));
        }
        Poll::Ready(Ok(()))
    }

    /// Whether there is something to read; false at the end.
    fn poll_readable(&mut self, end: End, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let Some(side) = self.side(end) else {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        };
        if !side.received.is_empty() {
            return Poll::Ready(Ok(true));
        }
        if let Some(kind) = side.error {
            return Poll::Ready(Err(kind.into()));
        }
        if side.ended {
            return Poll::Ready(Ok(false));
        }
        side.reader = Some(context.waker().clone());
        Poll::Pending
    }

    /// Reads bytes, at most `most`; none at the end.
    pub(in crate::net) fn poll_read(
        &mut self,
        end: End,
        most: usize,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Bytes>>> {
        if !ready!(self.poll_readable(end, context))? {
            return Poll::Ready(Ok(None));
        }
        let Some(side) = self.side(end) else {
            return Poll::Ready(Ok(None));
        };
        let bytes = match side.received.front_mut() {
            Some(Payload::Bytes(bytes)) => {
                let part = bytes.split_to(bytes.len().min(most)).freeze();
                if !bytes.has_remaining() {
                    side.received.pop_front();
                }
                part
            }
            _ => return Poll::Ready(Err(ErrorKind::InvalidData.into())),
        };
        self.heard(end, bytes.len());
        Poll::Ready(Ok(Some(bytes)))
    }

    /// Reads a frame; none at the end.
    pub(in crate::net) fn poll_receive(
        &mut self,
        end: End,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Frame>>> {
        if !ready!(self.poll_readable(end, context))? {
            return Poll::Ready(Ok(None));
        }
        let received = self.side(end).and_then(|side| side.received.pop_front());
        match received {
            Some(Payload::Frame(frame)) => {
                self.heard(end, frame.bytes());
                Poll::Ready(Ok(Some(frame)))
            }
            _ => Poll::Ready(Err(ErrorKind::InvalidData.into())),
        }
    }
}
