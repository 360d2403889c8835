//! How what was sent arrives: at once, again after a stall, or never.

use std::io::ErrorKind;
use std::task::Waker;

use super::conn::{End, Payload, Side, Stage};
use super::time::Due;
use super::{Fabric, GIVE_UP_US, Way, backoff_us};
use crate::trace::What;

impl Fabric {
    pub(super) fn arrive(&mut self, from: End) {
        let Some(payload) = self.side(from).and_then(|side| side.on_line.pop_front()) else {
            return;
        };
        let Some((sender, receiver)) = self.sides(from) else {
            return;
        };
        let waiting = self.side(from).is_some_and(|side| !side.stalled.is_empty());
        let way = self.way(sender, receiver);
        if way == Way::Reset {
            self.fail(from, ErrorKind::ConnectionReset);
            return self.fail(from.other(), ErrorKind::ConnectionReset);
        }
        if way == Way::Silent || waiting {
            let now = self.now_us;
            if let Some(side) = self.side(from) {
                side.stalled.push_back(payload);
            }
            if !waiting {
                self.stall(from, now);
            }
            return;
        }
        self.deliver(from, payload);
    }

    pub(super) fn stall(&mut self, from: End, now: u64) {
        let Some(side) = self.side(from) else { return };
        side.stalled_since_us = now;
        side.attempt = 0;
        self.at(now + backoff_us(0), Due::Retry { from });
    }

    pub(super) fn retry(&mut self, from: End) {
        let Some((sender, receiver)) = self.sides(from) else {
            return;
        };
        let there = self.way(sender, receiver);
        let back = self.way(receiver, sender);
        let now = self.now_us;
        let Some(side) = self.side(from) else { return };
        if side.error.is_some() || (side.stalled.is_empty() && side.unheard == 0) {
            return;
        }
        if side.stage == Stage::Gone {
            return side.stalled.clear();
        }
        if there == Way::Reset {
            return self.fail(from, ErrorKind::ConnectionReset);
        }
        if there == Way::Open {
            for payload in std::mem::take(&mut side.stalled) {
                self.deliver(from, payload);
            }
        }
        let Some(side) = self.side(from) else { return };
        if there == Way::Open && back == Way::Open {
            side.outstanding = side
                .outstanding
                .saturating_sub(std::mem::take(&mut side.unheard));
            side.writers.drain(..).for_each(Waker::wake);
            return;
        }
        if now - side.stalled_since_us >= GIVE_UP_US {
            return self.fail(from, ErrorKind::TimedOut);
        }
        side.attempt += 1;
        let again = now + backoff_us(side.attempt);
        self.at(again, Due::Retry { from });
    }

    pub(super) fn deliver(&mut self, from: End, payload: Payload) {
        let now = self.now_us;
        let side = from.side as u64;
        match &payload {
            Payload::Bytes(bytes) => {
                self.trace
                    .add(now, What::Delivery, [from.conn, side], bytes);
            }
            Payload::Frame(frame) => {
                let (call_and_kind, content) = frame.said(&mut self.head);
                let numbers = [from.conn, call_and_kind << 1 | side];
                self.trace.add(now, What::Delivery, numbers, content);
            }
            Payload::Fin => {
                self.trace
                    .add(now, What::Delivery, [from.conn, side], b"fin");
            }
        }
        let Some(to) = self.side(from.other()) else {
            return;
        };
        match to.stage {
            Stage::Closed | Stage::Gone => {
                if !matches!(payload, Payload::Fin) {
                    self.answer_reset(from, ErrorKind::ConnectionReset);
                }
            }
            Stage::Opening | Stage::Open => {
                if matches!(payload, Payload::Fin) {
                    to.ended = true;
                } else {
                    to.received.push_back(payload);
                }
                if let Some(waker) = to.reader.take() {
                    waker.wake();
                }
            }
        }
        self.sweep(from.conn);
    }

    /// The reader at `end` has taken `bytes`: the sender hears of it, unless the way back is cut.
    pub(super) fn heard(&mut self, end: End, bytes: usize) {
        let Some((reader, sender)) = self.sides(end) else {
            return;
        };
        let open = self.way(reader, sender) == Way::Open;
        let now = self.now_us;
        let from = end.other();
        let Some(side) = self.side(from) else { return };
        if open {
            side.outstanding = side.outstanding.saturating_sub(bytes);
            side.writers.drain(..).for_each(Waker::wake);
            return;
        }
        let first = side.unheard == 0 && side.stalled.is_empty();
        side.unheard += bytes;
        if first {
            self.stall(from, now);
        }
    }

    /// Drops a connection that nobody holds any more.
    pub(super) fn sweep(&mut self, conn: u64) {
        let over = |side: &Side| {
            matches!(side.stage, Stage::Closed | Stage::Gone)
                && side.on_line.is_empty()
                && side.stalled.is_empty()
        };
        if self
            .conns
            .get(&conn)
            .is_some_and(|c| c.sides.iter().all(over))
        {
            self.conns.remove(&conn);
        }
    }
}
