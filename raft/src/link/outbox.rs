//! What waits to be sent to another node over one connection, in two queues: control (pings, votes,
//! questions, heartbeats) goes first and waits for nothing; calls and entries go behind it, in the order
//! in which they came, while the line is not full of them (`crate::link::pace`). What can wait (entries that a
//! replica lacks, snapshots) is let in only while little of its kind is on the way, so that it never
//! stands in a queue in front of anybody.
//!
//! ```text
//!   control ────────────────────────────────► ┐
//!   calls, new entries ─► queue ─► all window ─┼─► one stream ─► line ─► the other, whose pongs say
//!   old entries ─► bulk window ─► queue ───────┘                          how far it has come
//!   snapshots ───► bulk window ─► a stream of their own
//! ```

mod queued;
mod queues;

use std::sync::Arc;
use std::time::Duration;

use model::limits;
use parking_lot::Mutex;
use prost::Message;
use proto::node as wire;
use proto::node::frame::Body;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::queues::Inner;
use crate::link::pace::Pace;

pub(crate) use self::queued::Queued;

/// Pings whose answers are waited for, to tell how far things have come.
const PINGS_MAX: usize = 256;
/// A ping follows each of these parts of a window.
const PINGS_OF_WINDOW: u64 = 4;
/// Entries wait outside while so much waits inside, bytes.
const ENTRIES_WAIT_ABOVE: u64 = 4 * limits::ENTRY_BYTES_MAX as u64;
/// Control frames of one message.
const CONTROL_FRAMES_MAX: usize = 4_096;
/// Pieces of what can wait: of a window a quarter, within these bytes.
const PIECE: (u64, u64) = (2 * 1024, 256 * 1024);

const _: () = assert!(ENTRIES_WAIT_ABOVE < limits::LINK_QUEUE_BYTES_MAX as u64);

/// The connection is over, or, for calls, too much waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

/// Whether entries can wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// They are new.
    No,
    /// A replica lacks them.
    Yes,
    /// The same, and its shard has no majority without it.
    Needed,
}

/// What waits for one connection.
#[derive(Default)]
pub(crate) struct Outbox {
    inner: Mutex<Inner>,
    /// Told when something can be taken.
    ready: Notify,
    /// Told when there is room, or none will ever be.
    room: Notify,
    /// Those who wait for room do so one after the other.
    turn: tokio::sync::Mutex<()>,
    /// Those whose bytes can wait have a queue of their own: nothing else stands behind them.
    bulk_turn: tokio::sync::Mutex<()>,
}

/// Whether a frame goes in front of calls and entries. Such as may overtake them: none of these is
/// about anything that was sent just before it.
fn is_control(body: &Body) -> bool {
    match body {
        Body::Append(append) => append.entries.is_empty(),
        Body::Forward(_) => false,
        Body::Ping(_)
        | Body::Pong(_)
        | Body::Vote(_)
        | Body::Transfer(_)
        | Body::LastLog(_)
        | Body::AskPositions(_)
        | Body::Following(_)
        | Body::Leads(_)
        | Body::Sleep(_)
        | Body::AskReplica(_)
        | Body::Replica(_)
        | Body::AskScrub(_)
        | Body::Scrubbed(_)
        | Body::AppendAnswer(_)
        | Body::VoteAnswer(_)
        | Body::TransferAnswer(_)
        | Body::LastLogAnswer(_)
        | Body::ForwardAnswer(_)
        | Body::Positions(_)
        | Body::Failed(_) => true,
    }
}

impl Outbox {
    /// Of a line of which something is known; it counts among `all` of the node.
    pub(crate) fn over(pace: Pace, all: Arc<Queued>) -> Outbox {
        let outbox = Outbox::default();
        {
            let mut inner = outbox.inner.lock();
            (inner.pace, inner.all) = (pace, all);
        }
        outbox
    }

    /// What is known of the line; it is for the next connection.
    pub(crate) fn pace(&self) -> Pace {
        std::mem::take(&mut self.inner.lock().pace)
    }

    /// Puts a frame of its own in.
    ///
    /// # Errors
    /// [`Closed`] also when too much waits.
    pub(crate) fn put(&self, frame: wire::Frame) -> Result<(), Closed> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(Closed);
        }
        if frame.stream == 0 && frame.body.as_ref().is_none_or(is_control) {
            inner.control.push_back(frame);
        } else {
            let bytes = frame.encoded_len() as u64;
            let own = inner.waiting_bytes + bytes;
            if own > limits::LINK_QUEUE_BYTES_MAX as u64 || !inner.all.has_room(bytes) {
                return Err(Closed);
            }
            inner.push(frame, bytes, false);
        }
        drop(inner);
        self.ready.notify_one();
        Ok(())
    }

    /// Puts entries in behind those before them, once there is room. Where they stand in all that is
    /// sent.
    ///
    /// # Errors
    /// [`Closed`].
    pub(crate) async fn put_entries(&self, frame: wire::Frame, wait: Wait) -> Result<u64, Closed> {
        let bytes = frame.encoded_len() as u64;
        let bulk = wait != Wait::No;
        if bulk {
            self.let_in(bytes, wait == Wait::Needed).await?;
        }
        let fits = |inner: &mut Inner| bulk || inner.waiting_bytes <= ENTRIES_WAIT_ABOVE;
        if !self.look(fits)? {
            let _turn = self.turn.lock().await;
            self.until(fits).await?;
        }
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(Closed);
        }
        let position = inner.push(frame, bytes, bulk);
        drop(inner);
        self.ready.notify_one();
        Ok(position)
    }

    /// Waits until bytes may be sent on a stream of their own, and counts them as sent: such as can wait,
    /// or are `needed` as much as calls are.
    /// `ping` is put in when one is due.
    ///
    /// # Errors
    /// [`Closed`].
    pub(crate) async fn send_bulk(
        &self,
        bytes: u64,
        needed: bool,
        ping: impl FnOnce() -> wire::Frame,
    ) -> Result<(), Closed> {
        self.let_in(bytes, needed).await?;
        let due = {
            let mut inner = self.inner.lock();
            inner.bulk_sent += bytes;
            inner.is_ping_due()
        };
        if due { self.put(ping()) } else { Ok(()) }
    }

    /// How large a piece of what can wait should be now, bytes.
    pub(crate) fn piece_bytes(&self) -> u64 {
        let window = self.inner.lock().pace.bulk.bytes();
        (window / 4).clamp(PIECE.0, PIECE.1)
    }

    async fn let_in(&self, bytes: u64, needed: bool) -> Result<(), Closed> {
        let admits = |inner: &mut Inner| {
            let on_the_way = inner.bulk_let_in - inner.bulk_arrived;
            let admits = match needed {
                true => inner.pace.bulk.admits_needed(on_the_way, bytes),
                false => inner.pace.bulk.admits(on_the_way, bytes),
            };
            inner.bulk_let_in += if admits { bytes } else { 0 };
            admits
        };
        let _turn = self.bulk_turn.lock().await;
        self.until(admits).await
    }

    fn look(&self, look: impl Fn(&mut Inner) -> bool) -> Result<bool, Closed> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(Closed);
        }
        Ok(look(&mut inner))
    }

    /// Waits until `look` finds what it looks for.
    async fn until(&self, look: impl Fn(&mut Inner) -> bool) -> Result<(), Closed> {
        loop {
            let mut changed = std::pin::pin!(self.room.notified());
            changed.as_mut().enable();
            if self.look(&look)? {
                return Ok(());
            }
            changed.await;
        }
    }

    /// Whether what stood at a position is known to have arrived.
    pub(crate) fn has_arrived(&self, position: u64) -> bool {
        self.inner.lock().arrived >= position
    }

    /// A ping that said `sent_us` was answered after `round`.
    pub(crate) fn answered(&self, sent_us: u64, round: Duration, lag: Duration) {
        let mut inner = self.inner.lock();
        // Answers come in the order of pings.
        while let Some(pinged) = inner.pings.front().copied() {
            if pinged.sent_us > sent_us {
                break;
            }
            inner.pings.pop_front();
            inner.arrived = pinged.sent;
            inner.bulk_arrived = pinged.bulk_sent;
            let before = std::mem::replace(&mut inner.live_arrived, pinged.live_sent);
            inner.pace.arrived(pinged.live_sent - before);
            if pinged.sent_us == sent_us {
                break;
            }
        }
        inner.pace.sample(round, lag, Instant::now());
        drop(inner);
        self.ready.notify_one();
        self.room.notify_waiters();
    }

    /// Ends it: what waits is lost.
    pub(crate) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        let waiting = std::mem::take(&mut inner.waiting_bytes);
        inner.all.remove(waiting);
        let lost = (
            std::mem::take(&mut inner.control),
            std::mem::take(&mut inner.rest),
        );
        drop(inner);
        drop(lost);
        self.ready.notify_one();
        self.room.notify_waiters();
    }

    /// What goes next in one message, as soon as something may; `ping` makes a ping when one is due.
    /// `None` when it is closed.
    pub(crate) async fn take(
        &self,
        ping: impl Fn() -> Option<wire::Frame>,
    ) -> Option<Vec<wire::Frame>> {
        loop {
            let (mut frames, due) = {
                let mut inner = self.inner.lock();
                if inner.closed {
                    return None;
                }
                let frames = inner.take();
                (frames, inner.is_ping_due())
            };
            if frames.is_empty() {
                self.ready.notified().await;
                continue;
            }
            if let Some(ping) = due.then(&ping).flatten() {
                self.inner.lock().pinged(&ping);
                frames.push(ping);
            }
            self.room.notify_waiters();
            return Some(frames);
        }
    }
}

#[cfg(test)]
mod tests;
