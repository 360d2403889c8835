//! The two queues of one connection, and how far what was sent has come.

use std::collections::VecDeque;
use std::sync::Arc;

use model::{limits, mutant};
use proto::node as wire;
use proto::node::frame::Body;

use super::queued::Queued;
use super::{CONTROL_FRAMES_MAX, PINGS_MAX, PINGS_OF_WINDOW};
use crate::link::pace::Pace;

#[derive(Default)]
pub(super) struct Inner {
    pub(super) control: VecDeque<wire::Frame>,
    pub(super) rest: VecDeque<Waiting>,
    pub(super) waiting_bytes: u64,
    pub(super) all: Arc<Queued>,
    /// Bytes of the rest, ever: put in, sent, and known to have arrived.
    put: u64,
    sent: u64,
    pub(super) arrived: u64,
    /// The same of what can wait; it is let in before it is put in.
    pub(super) bulk_let_in: u64,
    pub(super) bulk_sent: u64,
    pub(super) bulk_arrived: u64,
    /// Of the rest what is no bulk, sent.
    live_sent: u64,
    pub(super) live_arrived: u64,
    pub(super) pings: VecDeque<Pinged>,
    pub(super) pace: Pace,
    pub(super) closed: bool,
}

pub(super) struct Waiting {
    frame: wire::Frame,
    bytes: u64,
    bulk: bool,
}

/// A ping on its way, and what had been sent before it.
#[derive(Clone, Copy, Default)]
pub(super) struct Pinged {
    pub(super) sent_us: u64,
    pub(super) sent: u64,
    pub(super) bulk_sent: u64,
    pub(super) live_sent: u64,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.all.remove(self.waiting_bytes);
    }
}

impl Inner {
    pub(super) fn push(&mut self, frame: wire::Frame, bytes: u64, bulk: bool) -> u64 {
        self.put += bytes;
        self.waiting_bytes += bytes;
        self.all.add(bytes);
        self.rest.push_back(Waiting { frame, bytes, bulk });
        self.put
    }

    pub(super) fn take(&mut self) -> Vec<wire::Frame> {
        if mutant!("bulk-before-control") {
            let frames = self.take_rest(Vec::new());
            return if frames.is_empty() {
                self.take_control()
            } else {
                frames
            };
        }
        let control = self.take_control();
        self.take_rest(control)
    }

    fn take_control(&mut self) -> Vec<wire::Frame> {
        let control = self.control.len().min(CONTROL_FRAMES_MAX);
        let frames: Vec<wire::Frame> = self.control.drain(..control).collect();
        for frame in &frames {
            self.pinged(frame);
        }
        frames
    }

    /// What else may go, behind `frames`.
    fn take_rest(&mut self, mut frames: Vec<wire::Frame>) -> Vec<wire::Frame> {
        let mut bytes = 0;
        while let Some(next) = self.rest.front() {
            let more = next.bytes;
            let full = frames.len() >= wire::FRAMES_MAX - 1;
            if full || bytes > 0 && bytes + more > limits::LINK_BATCH_BYTES_MAX as u64 {
                break;
            }
            if !self.pace.all.admits(self.sent - self.arrived, more) {
                break;
            }
            let Some(Waiting { frame, bulk, .. }) = self.rest.pop_front() else {
                break;
            };
            bytes += more;
            self.waiting_bytes -= more;
            self.all.remove(more);
            self.sent += more;
            match bulk {
                true => self.bulk_sent += more,
                false => self.live_sent += more,
            }
            frames.push(frame);
        }
        frames
    }

    /// Notes what was sent before a frame, if it is a ping.
    pub(super) fn pinged(&mut self, frame: &wire::Frame) {
        let Some(Body::Ping(ping)) = &frame.body else {
            return;
        };
        if ping.sent_us == 0 {
            return;
        }
        self.pings.push_back(Pinged {
            sent_us: ping.sent_us,
            sent: self.sent,
            bulk_sent: self.bulk_sent,
            live_sent: self.live_sent,
        });
        if self.pings.len() > PINGS_MAX {
            self.pings.pop_front();
        }
    }

    /// Whether so much was sent behind the last ping that its arrival should be asked for.
    pub(super) fn is_ping_due(&self) -> bool {
        let (sent, bulk_sent) = self
            .pings
            .back()
            .map_or((self.arrived, self.bulk_arrived), |last| {
                (last.sent, last.bulk_sent)
            });
        (self.sent - sent) * PINGS_OF_WINDOW >= self.pace.all.bytes()
            || (self.bulk_sent - bulk_sent) * PINGS_OF_WINDOW >= self.pace.bulk.bytes()
    }
}
