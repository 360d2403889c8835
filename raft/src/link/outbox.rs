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

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use model::{limits, mutant};
use parking_lot::Mutex;
use prost::Message;
use proto::node as wire;
use proto::node::frame::Body;
use store::Share;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::link::pace::Pace;

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

/// What waits for all connections of a node.
pub(crate) struct Queued {
    bytes: AtomicUsize,
    max: Share,
}

impl Queued {
    /// At most so much; entries, which have a bound of their own for each connection, are counted only.
    pub(crate) fn new(max: Share) -> Queued {
        let bytes = AtomicUsize::new(0);
        Queued { bytes, max }
    }

    /// Bytes that wait now.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.bytes() as u64 + bytes <= self.max.bytes() as u64
    }

    #[allow(clippy::cast_possible_truncation, reason = "bytes in memory")]
    fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes as usize, Ordering::Relaxed);
    }

    #[allow(clippy::cast_possible_truncation, reason = "bytes in memory")]
    fn remove(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes as usize, Ordering::Relaxed);
    }
}

impl Default for Queued {
    fn default() -> Queued {
        Queued::new(Share::of(usize::MAX))
    }
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

#[derive(Default)]
struct Inner {
    control: VecDeque<wire::Frame>,
    rest: VecDeque<Waiting>,
    waiting_bytes: u64,
    all: Arc<Queued>,
    /// Bytes of the rest, ever: put in, sent, and known to have arrived.
    put: u64,
    sent: u64,
    arrived: u64,
    /// The same of what can wait; it is let in before it is put in.
    bulk_let_in: u64,
    bulk_sent: u64,
    bulk_arrived: u64,
    /// Of the rest what is no bulk, sent.
    live_sent: u64,
    live_arrived: u64,
    pings: VecDeque<Pinged>,
    pace: Pace,
    closed: bool,
}

struct Waiting {
    frame: wire::Frame,
    bytes: u64,
    bulk: bool,
}

/// A ping on its way, and what had been sent before it.
#[derive(Clone, Copy, Default)]
struct Pinged {
    sent_us: u64,
    sent: u64,
    bulk_sent: u64,
    live_sent: u64,
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

impl Drop for Inner {
    fn drop(&mut self) {
        self.all.remove(self.waiting_bytes);
    }
}

impl Inner {
    fn push(&mut self, frame: wire::Frame, bytes: u64, bulk: bool) -> u64 {
        self.put += bytes;
        self.waiting_bytes += bytes;
        self.all.add(bytes);
        self.rest.push_back(Waiting { frame, bytes, bulk });
        self.put
    }

    fn take(&mut self) -> Vec<wire::Frame> {
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
    fn pinged(&mut self, frame: &wire::Frame) {
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
    fn is_ping_due(&self) -> bool {
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

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::link::frame;

    fn ping(sent_us: u64) -> wire::Frame {
        let ping = wire::Ping {
            sent_us,
            ..wire::Ping::default()
        };
        frame::single(0, 0, Body::Ping(ping))
    }

    fn call(id: u64, bytes: usize) -> wire::Frame {
        let forward = wire::Forward {
            commands: vec![vec![0; bytes].into()],
            ..wire::Forward::default()
        };
        frame::single(id, 1, Body::Forward(forward))
    }

    fn entries(stream: u64, bytes: usize) -> wire::Frame {
        let entry = wire::Entry {
            id: None,
            record: vec![0; bytes].into(),
            ..wire::Entry::default()
        };
        let append = wire::AppendEntries {
            entries: vec![entry],
            ..wire::AppendEntries::default()
        };
        frame::streamed(stream, 1, Some(Body::Append(append)), false)
    }

    /// What is taken at once, as kind and number.
    fn taken(outbox: &Outbox) -> Vec<(char, u64)> {
        let frames = outbox.take(|| Some(ping(9))).now_or_never().flatten();
        let told = |frame: wire::Frame| match frame.body {
            Some(Body::Ping(ping)) => ('p', ping.sent_us),
            Some(Body::Forward(_)) => ('c', frame.id),
            Some(Body::Append(_)) => ('e', frame.stream),
            _ => ('?', 0),
        };
        frames.unwrap_or_default().into_iter().map(told).collect()
    }

    #[test]
    fn control_goes_in_front_of_calls_and_entries_which_keep_their_order() {
        let outbox = Outbox::default();
        outbox.put(call(1, 10)).unwrap();
        outbox
            .put_entries(entries(2, 10), Wait::No)
            .now_or_never()
            .unwrap()
            .unwrap();
        outbox
            .put_entries(entries(3, 10), Wait::Yes)
            .now_or_never()
            .unwrap()
            .unwrap();
        outbox.put(call(4, 10)).unwrap();
        outbox.put(ping(5)).unwrap();
        assert_eq!(
            taken(&outbox),
            [('p', 5), ('c', 1), ('e', 2), ('e', 3), ('c', 4)]
        );
        assert_eq!(taken(&outbox), []);
    }

    #[test]
    fn what_can_wait_does_so_until_what_was_sent_has_arrived_and_nothing_else_waits_with_it() {
        let outbox = Outbox::default();
        let bulk = |stream| outbox.put_entries(entries(stream, 40_000), Wait::Yes);
        bulk(1).now_or_never().unwrap().unwrap();
        let mut second = std::pin::pin!(bulk(2));
        assert!(second.as_mut().now_or_never().is_none());
        outbox.put(call(3, 10)).unwrap();
        assert_eq!(taken(&outbox), [('e', 1), ('c', 3), ('p', 9)]);
        assert!(second.as_mut().now_or_never().is_none());
        outbox.answered(9, Duration::from_millis(10), Duration::ZERO);
        second.now_or_never().unwrap().unwrap();
        assert_eq!(taken(&outbox), [('e', 2), ('p', 9)]);
    }

    #[test]
    fn a_full_line_takes_control_only() {
        let outbox = Outbox::default();
        for id in 1..=5 {
            outbox.put(call(id, 300_000)).unwrap();
        }
        let mut sent = Vec::new();
        for _ in 0..5 {
            sent.extend(taken(&outbox).into_iter().filter(|(kind, _)| *kind == 'c'));
        }
        assert_eq!(sent, [('c', 1), ('c', 2), ('c', 3)]);
        outbox.put(ping(7)).unwrap();
        assert_eq!(taken(&outbox)[0], ('p', 7));
        outbox.answered(9, Duration::from_millis(10), Duration::ZERO);
        assert_eq!(taken(&outbox)[0], ('c', 4));
    }

    #[test]
    fn calls_beyond_the_bound_are_refused_and_nothing_goes_into_one_that_is_closed() {
        let outbox = Outbox::default();
        let fit = limits::LINK_QUEUE_BYTES_MAX / 1_048_576;
        for id in 0..fit as u64 - 1 {
            outbox.put(call(id, 1_048_576)).unwrap();
        }
        assert_eq!(outbox.put(call(99, 1_048_576)), Err(Closed));
        let mut waits = std::pin::pin!(outbox.put_entries(entries(1, 10), Wait::No));
        assert!(waits.as_mut().now_or_never().is_none());
        outbox.put(ping(1)).unwrap();
        outbox.close();
        assert_eq!(waits.now_or_never(), Some(Err(Closed)));
        assert_eq!(outbox.put(ping(1)), Err(Closed));
        assert_eq!(taken(&outbox), []);
    }

    #[test]
    fn what_stood_before_an_answered_ping_has_arrived() {
        let outbox = Outbox::default();
        let put = |stream| {
            outbox
                .put_entries(entries(stream, 10), Wait::No)
                .now_or_never()
        };
        let first = put(1).unwrap().unwrap();
        taken(&outbox);
        outbox.put(ping(3)).unwrap();
        let second = put(2).unwrap().unwrap();
        taken(&outbox);
        assert!(!outbox.has_arrived(first));
        outbox.answered(3, Duration::from_millis(10), Duration::ZERO);
        assert!(outbox.has_arrived(first) && !outbox.has_arrived(second));
    }
}
