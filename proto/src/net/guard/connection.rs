//! One connection: who is at its other end, what it has, and whether it says anything.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::call::{Call, Kind, PIECE_BYTES};
use super::told::Told;
use super::{CLIENTS_PERCENT, Guard, Has, Limits, Refused, share};

/// A connection that was taken in. It counts until it is dropped.
pub struct Connection {
    guard: Guard,
    pub(super) id: u64,
    pub(super) address: Option<IpAddr>,
    /// Taken above the bound: only nodes may use it.
    spare: bool,
    /// Whether what is written to it is counted.
    written: bool,
    bytes: AtomicUsize,
    of_address: Arc<Has>,
    state: Mutex<State>,
    cut: AtomicBool,
    /// Whether its other end takes no more bytes now.
    blocked: AtomicBool,
    /// Who reads or writes it, to be woken when it is cut.
    pub(super) waker: AtomicWaker,
    /// Told when it should end behind its calls.
    leave: Notify,
}

struct State {
    /// Whether its other end has said that it speaks HTTP/2.
    speaks: bool,
    /// Since when it has no call.
    idle_since: Instant,
    next: u64,
    calls: BTreeMap<u64, Weak<Call>>,
    /// Bytes of answers that were handed over and not written yet.
    unwritten: usize,
    /// When the last of them were written, or the first handed over.
    written_at: Instant,
    /// Since when every call is one that was given up.
    given_up_since: Option<Instant>,
}

impl Connection {
    pub(super) fn new(
        guard: Guard,
        id: u64,
        address: Option<IpAddr>,
        of_address: Arc<Has>,
        spare: bool,
        written: bool,
    ) -> Connection {
        let now = Instant::now();
        Connection {
            guard,
            id,
            address,
            spare,
            written,
            bytes: AtomicUsize::new(0),
            of_address,
            state: Mutex::new(State {
                speaks: !written,
                idle_since: now,
                next: 0,
                calls: BTreeMap::new(),
                unwritten: 0,
                written_at: now,
                given_up_since: None,
            }),
            cut: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            leave: Notify::new(),
        }
    }

    pub(super) fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Completes when it should end behind its calls.
    pub async fn should_leave(&self) {
        self.leave.notified().await;
    }

    /// Ends it at once.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        self.waker.wake();
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst)
    }

    /// Its other end speaks HTTP/2.
    pub(super) fn speaks(&self) {
        self.state.lock().speaks = true;
    }

    /// How it is silent, and since when: who never said a word goes before who has no call. `None`
    /// when it has one.
    pub(super) fn silence(&self) -> Option<(bool, Instant)> {
        let state = self.state.lock();
        let silent = state.calls.is_empty() && !self.is_cut();
        silent.then_some((state.speaks, state.idle_since))
    }

    /// Begins a call.
    ///
    /// # Errors
    /// The bound that it met.
    pub(super) fn begin(self: &Arc<Self>, kind: Kind, max: usize) -> Result<Arc<Call>, Refused> {
        let limits = self.guard.limits();
        if self.spare && !kind.is_of_nodes() {
            self.leave.notify_one();
            return Err(Refused::Connections(limits.connections_max));
        }
        let calls_max = limits.calls_per_connection_max;
        let mut state = self.state.lock();
        if state.calls.len() >= calls_max && !kind.is_of_nodes() {
            return Err(Refused::Calls(calls_max));
        }
        let address_max = share(limits.calls_max(), limits.address_percent).max(1);
        let of_address = self.of_address.calls.load(Ordering::Relaxed);
        if of_address >= address_max && kind == Kind::Client {
            return Err(Refused::CallsOfAddress(address_max));
        }
        let calls = &self.guard.shared.calls;
        let node_max = match kind {
            Kind::Client => share(limits.calls_max(), CLIENTS_PERCENT).max(1),
            Kind::Forwarded | Kind::Operator => limits.calls_max(),
            Kind::Peer => usize::MAX,
        };
        if calls.load(Ordering::Relaxed) >= node_max {
            return Err(Refused::CallsOfNode(node_max));
        }
        calls.fetch_add(1, Ordering::Relaxed);
        self.of_address.calls.fetch_add(1, Ordering::Relaxed);
        state.next += 1;
        let id = state.next;
        let call = Arc::new(Call::new(self.clone(), id, kind, max));
        state.calls.insert(id, Arc::downgrade(&call));
        Ok(call)
    }

    /// Ends a call.
    pub(super) fn end(&self, id: u64) {
        let mut state = self.state.lock();
        state.calls.remove(&id);
        if state.calls.is_empty() {
            state.idle_since = Instant::now();
        }
        drop(state);
        self.of_address.calls.fetch_sub(1, Ordering::Relaxed);
        self.guard.shared.calls.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes bytes, if there are any left for this kind of call.
    ///
    /// # Errors
    /// The bound that they met.
    pub(super) fn take(&self, bytes: usize, kind: Kind) -> Result<(), Refused> {
        let refused = self.charge(bytes);
        let refused = match kind {
            Kind::Peer => return Ok(()),
            Kind::Forwarded | Kind::Operator => refused.node,
            Kind::Client => refused.any(),
        };
        match refused {
            None => Ok(()),
            Some(refused) => {
                self.give(bytes);
                Err(refused)
            }
        }
    }

    /// Takes bytes that are there already; says which bounds they met.
    pub(super) fn charge(&self, bytes: usize) -> Met {
        let limits = self.guard.limits();
        let over = |counter: &AtomicUsize, max: usize| {
            counter.fetch_add(bytes, Ordering::Relaxed) + bytes > max
        };
        let max = limits.buffers_max();
        let connection_max = share(max, limits.connection_percent);
        let address_max = share(max, limits.address_percent);
        let node = &self.guard.shared.bytes;
        let before = node.fetch_add(bytes, Ordering::Relaxed);
        let clients_max = self.guard.clients_bytes_max();
        Met {
            connection: over(&self.bytes, connection_max)
                .then_some(Refused::BytesOfConnection(connection_max)),
            address: over(&self.of_address.bytes, address_max)
                .then_some(Refused::BytesOfAddress(address_max)),
            clients: (before + bytes > clients_max).then_some(Refused::Bytes(clients_max)),
            node: (before + bytes > max).then_some(Refused::Bytes(max)),
        }
    }

    /// Gives bytes back.
    pub(super) fn give(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.of_address.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.guard.shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether a client's call on it gets no more bytes.
    pub(super) fn is_short(&self) -> bool {
        let limits = self.guard.limits();
        let reached = |counter: &AtomicUsize, percent: usize| {
            counter.load(Ordering::Relaxed) >= share(limits.buffers_max(), percent)
        };
        self.guard.is_short()
            || reached(&self.bytes, limits.connection_percent)
            || reached(&self.of_address.bytes, limits.address_percent)
    }

    /// Bytes of an answer are handed over to be written; they count until they are.
    pub(super) fn hand(&self, bytes: usize) {
        if !self.written {
            return;
        }
        self.charge(bytes);
        let mut state = self.state.lock();
        if state.unwritten == 0 {
            state.written_at = Instant::now();
        }
        state.unwritten += bytes;
    }

    /// Its other end takes no more bytes for now.
    pub(super) fn is_blocked(&self) {
        self.blocked.store(true, Ordering::Relaxed);
    }

    /// Bytes were written: of answers, and what HTTP/2 puts around them.
    pub(super) fn wrote(&self, bytes: usize) {
        self.blocked.store(false, Ordering::Relaxed);
        let mut state = self.state.lock();
        state.written_at = Instant::now();
        let answered = bytes.min(state.unwritten);
        state.unwritten -= answered;
        drop(state);
        self.give(answered);
    }

    /// Looks at it: ends it, or calls on it, when they have been silent for too long.
    pub(super) fn sweep(&self, now: Instant, patience: Duration, limits: &Limits, told: &Told) {
        let mut state = self.state.lock();
        let calls: Vec<Arc<Call>> = state.calls.values().filter_map(Weak::upgrade).collect();
        let silent = !state.speaks
            && now.saturating_duration_since(state.idle_since) >= limits.preface_timeout;
        let stuck = state.unwritten > 0
            && now.saturating_duration_since(state.written_at) >= limits.take_timeout;
        let given_up = !calls.is_empty() && calls.iter().all(|call| call.is_given_up());
        let since = match (given_up, state.given_up_since) {
            (false, _) => None,
            (true, None) => Some(now),
            (true, since) => since,
        };
        state.given_up_since = since;
        // What can be written is, unless the other end takes nothing: left is what waits for room in the
        // windows of open calls. The rest was of calls that were reset.
        let mut dropped = 0;
        if !self.blocked.load(Ordering::Relaxed) {
            let waits = state.unwritten.min(calls.len() * PIECE_BYTES);
            dropped = std::mem::replace(&mut state.unwritten, waits) - waits;
        }
        drop(state);
        self.give(dropped);
        let dead = since.is_some_and(|since| now.duration_since(since) >= limits.take_timeout);
        let why = match (silent, stuck, dead) {
            (true, _, _) => "they never said a word of HTTP/2 (limits.preface_ms)",
            (_, true, _) => "nothing that was written to them was taken (limits.take_ms)",
            (_, _, true) => "no answer on them was taken (limits.take_ms)",
            (false, false, false) => {
                for call in calls {
                    if call.give_up_if_not_taken(now, patience) {
                        told.gave_up_answer(self.address);
                    }
                }
                return;
            }
        };
        if !self.is_cut() {
            told.closed_silent(self.address, why);
            self.cut();
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let unwritten = std::mem::take(&mut self.state.get_mut().unwritten);
        self.give(unwritten);
        self.guard.disconnected(self);
    }
}

/// The bounds that bytes met.
#[derive(Clone, Copy, Debug)]
pub(super) struct Met {
    connection: Option<Refused>,
    address: Option<Refused>,
    clients: Option<Refused>,
    node: Option<Refused>,
}

impl Met {
    pub(super) fn any(self) -> Option<Refused> {
        self.connection.or(self.address).or(self.clients)
    }
}
