//! Connections between simulated hosts, as TCP keeps them: bytes in order, lost ones sent again,
//! cuts that delay when they are short and end connections when they are long.
//!
//! A segment is on the line until its arrival; nothing that is done to a host or a link before that
//! moment is missed. What reaches a dark host or a cut link is sent again with Linux's backoff, and
//! when it could not be delivered for [`GIVE_UP_US`] the connection times out. What reaches a host
//! that does not know the connection (its process ended, the machine came back) is answered with a
//! reset. The kernels of paused processes go on accepting and buffering.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, Bytes, BytesMut};
use parking_lot::Mutex;
use rand::rngs::StdRng;

use super::direct::Frame;
use super::link::{Direction, backoff_us};
use crate::plan::Link;
use crate::trace::{Trace, What};

/// A connection that could deliver nothing for this long is over, as with TCP_USER_TIMEOUT.
const GIVE_UP_US: u64 = 60_000_000;
/// Bytes on their way or unread, per direction; then writers wait.
const WINDOW_BYTES: usize = 2 * 1024 * 1024;
/// Header bytes of a segment, for bandwidth.
const HEADER_BYTES: u64 = 60;

/// The shared fabric.
pub(super) type Shared = Arc<Mutex<Fabric>>;
pub(super) type HostId = usize;
type GroupId = usize;

/// What a cut does with what is sent into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Open,
    Silent,
    Reset,
}

struct HostState {
    name: String,
    group: GroupId,
    /// Silent: its machine is off, and nothing answers for it.
    dark: bool,
    listeners: BTreeMap<u16, Listener>,
}

#[derive(Default)]
struct Listener {
    waiting: VecDeque<End>,
    waker: Option<Waker>,
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct End {
    conn: u64,
    side: usize,
}

impl End {
    fn other(self) -> End {
        End {
            conn: self.conn,
            side: 1 - self.side,
        }
    }
}

enum Payload {
    Bytes(BytesMut),
    Frame(Frame),
    Fin,
}

impl Payload {
    fn bytes(&self) -> usize {
        match self {
            Payload::Bytes(bytes) => bytes.len(),
            Payload::Frame(frame) => frame.bytes(),
            Payload::Fin => 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The handshake is on its way.
    Opening,
    Open,
    /// The program has let go of it.
    Closed,
    /// Its host knows nothing of it any more.
    Gone,
}

struct Side {
    host: HostId,
    stage: Stage,
    /// Why reads and writes fail.
    error: Option<ErrorKind>,
    // What this side sends.
    on_line: VecDeque<Payload>,
    last_due_us: u64,
    /// When the last segment was sent: more bytes of the same instant join it.
    last_sent_us: u64,
    stalled: VecDeque<Payload>,
    stalled_since_us: u64,
    attempt: u32,
    /// Sent and not known to be read.
    outstanding: usize,
    /// Read by the other side, whose word of it does not come through.
    unheard: usize,
    fin_sent: bool,
    /// Several calls share a connection.
    writers: Vec<Waker>,
    // What this side receives.
    received: VecDeque<Payload>,
    ended: bool,
    reader: Option<Waker>,
}

impl Side {
    fn new(host: HostId, stage: Stage) -> Side {
        Side {
            host,
            stage,
            error: None,
            on_line: VecDeque::new(),
            last_due_us: 0,
            last_sent_us: u64::MAX,
            stalled: VecDeque::new(),
            stalled_since_us: 0,
            attempt: 0,
            outstanding: 0,
            unheard: 0,
            fin_sent: false,
            writers: Vec::new(),
            received: VecDeque::new(),
            ended: false,
            reader: None,
        }
    }

    fn wake(&mut self) {
        self.reader.take().into_iter().for_each(Waker::wake);
        self.writers.drain(..).for_each(Waker::wake);
    }

    fn fail(&mut self, kind: ErrorKind) {
        self.error.get_or_insert(kind);
        self.on_line.clear();
        self.stalled.clear();
        self.wake();
    }
}

struct Conn {
    sides: [Side; 2],
    port: u16,
}

enum Due {
    Syn {
        end: End,
        attempt: u32,
    },
    SynAck {
        end: End,
        attempt: u32,
    },
    /// A refusal or reset reaches this end.
    Rst {
        end: End,
        kind: ErrorKind,
    },
    /// The next payload on the line from this end arrives.
    Arrive {
        from: End,
    },
    /// What is stalled from this end is tried again.
    Retry {
        from: End,
    },
}

struct Timed {
    due_us: u64,
    order: u64,
    due: Due,
}

impl PartialEq for Timed {
    fn eq(&self, other: &Timed) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Timed {}
impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Timed) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timed {
    fn cmp(&self, other: &Timed) -> std::cmp::Ordering {
        (self.due_us, self.order).cmp(&(other.due_us, other.order))
    }
}

/// All hosts, links and connections.
pub(super) struct Fabric {
    now_us: u64,
    hosts: Vec<HostState>,
    by_name: BTreeMap<String, HostId>,
    groups: Vec<String>,
    links: BTreeMap<(GroupId, GroupId), Direction>,
    /// Between hosts; what is not in it is open.
    cuts: BTreeMap<(HostId, HostId), Way>,
    local: Link,
    wan: Link,
    conns: BTreeMap<u64, Conn>,
    conn_last: u64,
    due: BinaryHeap<Reverse<Timed>>,
    order: u64,
    dice: StdRng,
    pub(super) trace: Trace,
}

impl Fabric {
    pub(super) fn new(dice: StdRng, local: Link, wan: Link) -> Fabric {
        Fabric {
            now_us: 0,
            hosts: Vec::new(),
            by_name: BTreeMap::new(),
            groups: Vec::new(),
            links: BTreeMap::new(),
            cuts: BTreeMap::new(),
            local,
            wan,
            conns: BTreeMap::new(),
            conn_last: 0,
            due: BinaryHeap::new(),
            order: 0,
            dice,
            trace: Trace::default(),
        }
    }

    pub(super) fn add_host(&mut self, name: &str, group: &str) -> HostId {
        let group = self.group(group);
        self.hosts.push(HostState {
            name: name.to_owned(),
            group,
            dark: false,
            listeners: BTreeMap::new(),
        });
        let id = self.hosts.len() - 1;
        self.by_name.insert(name.to_owned(), id);
        id
    }

    fn group(&mut self, name: &str) -> GroupId {
        if let Some(at) = self.groups.iter().position(|group| group == name) {
            return at;
        }
        self.groups.push(name.to_owned());
        self.groups.len() - 1
    }

    /// How packets usually go from a group to another.
    pub(super) fn set_usual(&mut self, from: &str, to: &str, link: Link) {
        let pair = (self.group(from), self.group(to));
        self.links.insert(pair, Direction::new(link));
    }

    /// How packets go from now on; none = as usual.
    pub(super) fn set_link(&mut self, from: &str, to: &str, link: Option<Link>) {
        let pair = (self.group(from), self.group(to));
        let direction = self.direction(pair);
        direction.now = link.unwrap_or(direction.usual);
    }

    fn direction(&mut self, pair: (GroupId, GroupId)) -> &mut Direction {
        let usual = if pair.0 == pair.1 {
            self.local
        } else {
            self.wan
        };
        self.links
            .entry(pair)
            .or_insert_with(|| Direction::new(usual))
    }

    pub(super) fn set_way(&mut self, from: HostId, to: HostId, way: Way) {
        match way {
            Way::Open => self.cuts.remove(&(from, to)),
            way => self.cuts.insert((from, to), way),
        };
    }

    fn way(&self, from: HostId, to: HostId) -> Way {
        if from == to {
            return Way::Open;
        }
        if self.hosts[from].dark || self.hosts[to].dark {
            return Way::Silent;
        }
        self.cuts.get(&(from, to)).copied().unwrap_or(Way::Open)
    }

    /// The machine is off: from now on it neither sends nor answers.
    pub(super) fn go_dark(&mut self, host: HostId) {
        self.hosts[host].dark = true;
        self.forget(host, false);
    }

    /// The machine is on again, and knows none of its old connections.
    pub(super) fn light(&mut self, host: HostId) {
        self.hosts[host].dark = false;
    }

    /// The process ended and its kernel resets its connections.
    pub(super) fn process_ended(&mut self, host: HostId) {
        self.forget(host, true);
    }

    fn forget(&mut self, host: HostId, tell: bool) {
        self.hosts[host].listeners.clear();
        let mut told = Vec::new();
        for (id, conn) in &mut self.conns {
            for side in 0..2 {
                if conn.sides[side].host != host || conn.sides[side].stage == Stage::Gone {
                    continue;
                }
                conn.sides[side].stage = Stage::Gone;
                conn.sides[side].fail(ErrorKind::ConnectionReset);
                told.push(End { conn: *id, side }.other());
            }
        }
        if tell {
            for end in told {
                self.answer_reset(end, ErrorKind::ConnectionReset);
            }
        }
    }

    /// Resets the connections between two hosts.
    pub(super) fn reset_between(&mut self, a: HostId, b: HostId) {
        let mut ends = Vec::new();
        for (id, conn) in &self.conns {
            let (x, y) = (conn.sides[0].host, conn.sides[1].host);
            if (x, y) == (a, b) || (x, y) == (b, a) {
                ends.extend([0, 1].map(|side| End { conn: *id, side }));
            }
        }
        for end in ends {
            self.fail(end, ErrorKind::ConnectionReset);
        }
    }

    fn fail(&mut self, end: End, kind: ErrorKind) {
        let now = self.now_us;
        self.trace
            .add(now, What::Connection, [end.conn, end.side as u64], b"reset");
        if let Some(conn) = self.conns.get_mut(&end.conn) {
            conn.sides[end.side].fail(kind);
        }
    }

    fn at(&mut self, due_us: u64, due: Due) {
        self.order += 1;
        let order = self.order;
        self.due.push(Reverse(Timed { due_us, order, due }));
    }

    fn sides(&self, end: End) -> Option<(HostId, HostId)> {
        let conn = self.conns.get(&end.conn)?;
        let (from, to) = (&conn.sides[end.side], &conn.sides[1 - end.side]);
        Some((from.host, to.host))
    }

    fn arrival_us(&mut self, from: HostId, to: HostId, bytes: usize) -> u64 {
        let pair = (self.hosts[from].group, self.hosts[to].group);
        let now = self.now_us;
        if from == to {
            return now;
        }
        // The dice must not be borrowed with the link.
        let mut dice = std::mem::replace(&mut self.dice, rand::SeedableRng::seed_from_u64(0));
        let due = self
            .direction(pair)
            .arrival_us(now, bytes as u64 + HEADER_BYTES, &mut dice);
        self.dice = dice;
        due
    }

    /// A reset goes out to `end`; a cut swallows it.
    fn answer_reset(&mut self, end: End, kind: ErrorKind) {
        let Some((to, from)) = self.sides(end) else {
            return;
        };
        if self.way(from, to) == Way::Open {
            let due = self.arrival_us(from, to, 0);
            self.at(due, Due::Rst { end, kind });
        }
    }

    /// Begins to open a connection.
    ///
    /// # Errors
    /// When there is no such host.
    pub(super) fn connect(&mut self, from: HostId, to: &str, port: u16) -> io::Result<End> {
        let to = *self.by_name.get(to).ok_or_else(|| {
            io::Error::new(ErrorKind::NotFound, format!("there is no host {to:?}"))
        })?;
        self.conn_last += 1;
        let conn = self.conn_last;
        let sides = [
            Side::new(from, Stage::Opening),
            Side::new(to, Stage::Opening),
        ];
        self.conns.insert(conn, Conn { sides, port });
        let end = End { conn, side: 0 };
        let due = self.arrival_us(from, to, 0);
        self.at(due, Due::Syn { end, attempt: 0 });
        Ok(end)
    }

    pub(super) fn poll_connected(
        &mut self,
        end: End,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(side) = self.side(end) else {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        };
        if let Some(kind) = side.error {
            return Poll::Ready(Err(kind.into()));
        }
        if side.stage == Stage::Open {
            return Poll::Ready(Ok(()));
        }
        side.reader = Some(context.waker().clone());
        Poll::Pending
    }

    pub(super) fn listen(&mut self, host: HostId, port: u16) -> io::Result<()> {
        let listeners = &mut self.hosts[host].listeners;
        if listeners.contains_key(&port) {
            return Err(ErrorKind::AddrInUse.into());
        }
        listeners.insert(port, Listener::default());
        Ok(())
    }

    pub(super) fn unlisten(&mut self, host: HostId, port: u16) {
        let listener = self.hosts[host].listeners.remove(&port);
        for end in listener.into_iter().flat_map(|listener| listener.waiting) {
            self.close(end);
        }
    }

    pub(super) fn poll_accept(
        &mut self,
        host: HostId,
        port: u16,
        context: &mut Context<'_>,
    ) -> Poll<Option<End>> {
        let Some(listener) = self.hosts[host].listeners.get_mut(&port) else {
            return Poll::Ready(None);
        };
        if let Some(end) = listener.waiting.pop_front() {
            return Poll::Ready(Some(end));
        }
        listener.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn side(&mut self, end: End) -> Option<&mut Side> {
        let conn = self.conns.get_mut(&end.conn)?;
        Some(&mut conn.sides[end.side])
    }

    /// Lets time go on to `now_us`; whatever is due by then arrives, in the order of its moments.
    pub(super) fn advance(&mut self, now_us: u64) {
        while let Some(Reverse(next)) = self.due.peek() {
            if next.due_us > now_us {
                break;
            }
            let Some(Reverse(next)) = self.due.pop() else {
                break;
            };
            self.now_us = self.now_us.max(next.due_us);
            match next.due {
                Due::Syn { end, attempt } => self.syn(end, attempt),
                Due::SynAck { end, attempt } => self.syn_ack(end, attempt),
                Due::Rst { end, kind } => self.fail(end, kind),
                Due::Arrive { from } => self.arrive(from),
                Due::Retry { from } => self.retry(from),
            }
        }
        self.now_us = now_us;
    }

    fn syn(&mut self, end: End, attempt: u32) {
        let Some((from, to)) = self.sides(end) else {
            return;
        };
        match self.way(from, to) {
            Way::Silent => {
                let again = self.now_us + 5 * backoff_us(attempt);
                let attempt = attempt + 1;
                return self.at(again, Due::Syn { end, attempt });
            }
            Way::Reset => return self.fail(end, ErrorKind::ConnectionRefused),
            Way::Open => {}
        }
        let port = self.conns[&end.conn].port;
        let Some(listener) = self.hosts[to].listeners.get_mut(&port) else {
            if let Some(side) = self.side(end.other()) {
                side.stage = Stage::Gone;
            }
            return self.answer_reset(end, ErrorKind::ConnectionRefused);
        };
        listener.waiting.push_back(end.other());
        let waker = listener.waker.take();
        waker.into_iter().for_each(Waker::wake);
        if let Some(side) = self.side(end.other()) {
            side.stage = Stage::Open;
        }
        let due = self.arrival_us(to, from, 0);
        self.at(due, Due::SynAck { end, attempt: 0 });
    }

    fn syn_ack(&mut self, end: End, attempt: u32) {
        let Some((from, to)) = self.sides(end) else {
            return;
        };
        match self.way(to, from) {
            Way::Silent => {
                let again = self.now_us + 5 * backoff_us(attempt);
                let attempt = attempt + 1;
                return self.at(again, Due::SynAck { end, attempt });
            }
            Way::Reset => return self.fail(end, ErrorKind::ConnectionReset),
            Way::Open => {}
        }
        let now = self.now_us;
        let pair = [from as u64, to as u64];
        self.trace.add(now, What::Connection, pair, b"open");
        match self.side(end) {
            Some(side) if side.stage == Stage::Opening => {
                side.stage = Stage::Open;
                side.wake();
            }
            // The caller has given up, or its host has ended.
            _ => self.answer_reset(end.other(), ErrorKind::ConnectionReset),
        }
    }

    fn arrive(&mut self, from: End) {
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

    fn stall(&mut self, from: End, now: u64) {
        let Some(side) = self.side(from) else { return };
        side.stalled_since_us = now;
        side.attempt = 0;
        self.at(now + backoff_us(0), Due::Retry { from });
    }

    fn retry(&mut self, from: End) {
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

    fn deliver(&mut self, from: End, payload: Payload) {
        let now = self.now_us;
        let numbers = [from.conn, from.side as u64];
        match &payload {
            Payload::Bytes(bytes) => self.trace.add(now, What::Delivery, numbers, bytes),
            Payload::Frame(frame) => {
                let size = (frame.bytes() as u64).to_le_bytes();
                self.trace.add(now, What::Delivery, numbers, &size);
            }
            Payload::Fin => self.trace.add(now, What::Delivery, numbers, b"fin"),
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

    /// Drops a connection that nobody holds any more.
    fn sweep(&mut self, conn: u64) {
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

    /// The program lets go of an end.
    pub(super) fn close(&mut self, end: End) {
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
    pub(super) fn finish(&mut self, end: End) {
        let Some(side) = self.side(end) else { return };
        if !side.fin_sent && side.stage == Stage::Open && side.error.is_none() {
            side.fin_sent = true;
            self.send(end, Payload::Fin);
        }
    }

    fn send(&mut self, end: End, payload: Payload) {
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
    pub(super) fn poll_write(
        &mut self,
        end: End,
        buffers: &[io::IoSlice<'_>],
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let now = self.now_us;
        let side = std::task::ready!(self.poll_room(end, context))?;
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

    /// Sends a frame.
    pub(super) fn poll_send(
        &mut self,
        end: End,
        frame: &mut Option<Frame>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_room(end, context))?;
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
    pub(super) fn poll_read(
        &mut self,
        end: End,
        most: usize,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Bytes>>> {
        if !std::task::ready!(self.poll_readable(end, context))? {
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
    pub(super) fn poll_receive(
        &mut self,
        end: End,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Frame>>> {
        if !std::task::ready!(self.poll_readable(end, context))? {
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

    /// The reader at `end` has taken `bytes`: the sender hears of it, unless the way back is cut.
    fn heard(&mut self, end: End, bytes: usize) {
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

    /// Whether packets go both ways between two hosts.
    pub(super) fn joined(&self, a: HostId, b: HostId) -> bool {
        self.way(a, b) == Way::Open && self.way(b, a) == Way::Open
    }

    /// The host of a name.
    pub(super) fn host(&self, name: &str) -> Option<HostId> {
        self.by_name.get(name).copied()
    }

    /// The names of all hosts.
    pub(super) fn host_names(&self) -> Vec<String> {
        self.hosts.iter().map(|host| host.name.clone()).collect()
    }
}
