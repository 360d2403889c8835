//! What one process gives to all that comes over its network: descriptors, connections, calls and
//! bytes. Whoever wants some asks here, and is refused at once where there is none.
//!
//! ```text
//!  accept ─► connect ──► Connection ─► Watched io: cut when silent, or when nothing is taken
//!                            │
//!  request ─► Guarded ─► Call ─► Incoming: bytes of a message that is not whole yet
//!                            └─► Outgoing: bytes of an answer that is not taken yet
//!
//!  sweep, each second: silent connections, answers that nobody takes
//! ```
//!
//! Bytes are counted three times: for the connection, its address and the node. One half of them is
//! for what is under way, the other for open calls, which count as the bytes that they cost. What
//! nodes say to each other is counted and never refused: a leader must not be silenced by clients.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::Status;

pub use call::{Call, Kind, Weight};
pub use connection::Connection;
pub use layer::{Guarded, Guarding};
pub use told::setting;
pub use watched::Watched;

mod call;
mod connection;
mod framing;
mod layer;
mod told;
mod watched;

/// What a call costs while it is open, bytes: its tasks, its HTTP/2 stream, its buffers.
pub const CALL_BYTES: usize = 12 * 1024;
/// What a connection costs while it is open, bytes.
pub const CONNECTION_BYTES: usize = 32 * 1024;
/// Percent of the bytes of a node at which clients are refused; the rest is for calls of other
/// nodes and of operators.
const CLIENTS_PERCENT: usize = 85;
/// Where bytes are short, who takes nothing for this long is given up before its time.
const SHORT_PATIENCE: Duration = Duration::from_secs(2);
/// How often connections and calls are looked at.
pub const LOOK: Duration = Duration::from_secs(1);

/// The bounds of a node's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections that are taken at once. Above it the one that was silent longest is closed.
    pub connections_max: usize,
    /// Connections above that, for other nodes only.
    pub connections_spare: usize,
    /// Calls of one connection at once.
    pub calls_per_connection_max: usize,
    /// Bytes: one half for unfinished requests and for answers that were not taken, the other for open
    /// calls, [`CALL_BYTES`] each.
    pub bytes_max: usize,
    /// Of these, what one connection may have, percent.
    pub connection_percent: usize,
    /// Of these, what one address may have, percent.
    pub address_percent: usize,
    /// How long a connection may take for its first bytes (the HTTP/2 preface).
    pub preface_timeout: Duration,
    /// How long a message may take from its first byte to its last.
    pub receive_timeout: Duration,
    /// How long nothing of an answer may be taken.
    pub take_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 4_096,
            connections_spare: 64,
            calls_per_connection_max: 4_096,
            bytes_max: 256 * 1024 * 1024,
            connection_percent: 50,
            address_percent: 75,
            preface_timeout: Duration::from_secs(5),
            receive_timeout: Duration::from_secs(30),
            take_timeout: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// Bytes that may be under way.
    pub fn buffers_max(&self) -> usize {
        self.bytes_max / 2
    }

    /// Calls that may be open.
    pub fn calls_max(&self) -> usize {
        (self.bytes_max / 2 / CALL_BYTES).max(1)
    }
}

/// Why something was refused, with the bound that it met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The node has all the connections that it takes.
    Connections(usize),
    /// The connection has all the calls that it may.
    Calls(usize),
    /// The address has all the calls that it may.
    CallsOfAddress(usize),
    /// The node has all the calls that it takes.
    CallsOfNode(usize),
    /// The connection has all the bytes that it may.
    BytesOfConnection(usize),
    /// The address has all the bytes that it may.
    BytesOfAddress(usize),
    /// The node has no bytes left.
    Bytes(usize),
    /// A message is larger than its method takes.
    TooLarge {
        /// The most that the method takes, bytes.
        max: usize,
        /// What the message says it has, bytes.
        has: usize,
    },
    /// A message was not whole in time.
    Unfinished(Duration),
    /// Nothing of an answer was taken in time.
    NotTaken(Duration),
}

/// How much of its bounds a node uses now, and what it refused since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Connections that are open.
    pub connections: usize,
    /// The most that are taken.
    pub connections_max: usize,
    /// Calls that are open.
    pub calls: usize,
    /// The most that are taken.
    pub calls_max: usize,
    /// Bytes of unfinished requests, and of answers that were not taken.
    pub bytes: usize,
    /// The most of them.
    pub bytes_max: usize,
    /// Connections that were refused.
    pub connections_refused: u64,
    /// Connections that were closed because they were silent, or took nothing.
    pub connections_closed: u64,
    /// Calls that were refused.
    pub calls_refused: u64,
    /// Calls that were given up because their answers were not taken.
    pub answers_given_up: u64,
}

/// What the guard leaves to those who know the methods.
pub trait Rules: Send + Sync + 'static {
    /// A refusal as it is said on the wire.
    fn say(&self, refused: Refused) -> Status;

    /// What the method of this path takes.
    fn takes(&self, path: &str) -> Takes;
}

/// What a method takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Takes {
    /// The largest message, bytes.
    pub bytes_max: usize,
    /// Whether it takes more than one.
    pub many: bool,
}

/// The guard of a node's network. Clones share it.
#[derive(Clone)]
pub struct Guard {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.usage().fmt(f)
    }
}

struct Shared {
    /// As they were at first; [`Guard::limits`] says what they are.
    limits: Limits,
    bytes_max: AtomicUsize,
    rules: Arc<dyn Rules>,
    bytes: AtomicUsize,
    calls: AtomicUsize,
    open: Mutex<Open>,
    told: told::Told,
}

#[derive(Default)]
struct Open {
    next: u64,
    connections: BTreeMap<u64, Weak<Connection>>,
    addresses: BTreeMap<Option<IpAddr>, Address>,
}

/// What one address has.
struct Address {
    connections: usize,
    has: Arc<Has>,
}

/// What is counted for an address.
#[derive(Default)]
struct Has {
    calls: AtomicUsize,
    bytes: AtomicUsize,
}

impl Guard {
    /// With these bounds and rules.
    pub fn new(limits: Limits, rules: Arc<dyn Rules>) -> Guard {
        Guard {
            shared: Arc::new(Shared {
                bytes_max: AtomicUsize::new(limits.bytes_max),
                limits,
                rules,
                bytes: AtomicUsize::new(0),
                calls: AtomicUsize::new(0),
                open: Mutex::default(),
                told: told::Told::default(),
            }),
        }
    }

    /// The bounds as they are now.
    pub fn limits(&self) -> Limits {
        Limits {
            bytes_max: self.shared.bytes_max.load(Ordering::Relaxed),
            ..self.shared.limits.clone()
        }
    }

    /// Changes [`Limits::bytes_max`]. What is open stays; who comes next meets the new bound.
    pub fn resize(&self, bytes_max: usize) {
        self.shared.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// How much is used now.
    pub fn usage(&self) -> Usage {
        let (shared, limits) = (&self.shared, self.limits());
        let usage = Usage {
            connections: shared.open.lock().connections.len(),
            connections_max: limits.connections_max,
            calls: shared.calls.load(Ordering::Relaxed),
            bytes: shared.bytes.load(Ordering::Relaxed),
            calls_max: limits.calls_max(),
            bytes_max: limits.buffers_max(),
            ..Usage::default()
        };
        shared.told.count(usage)
    }

    /// Takes a connection in; `None` where there is no place for it: it is to be closed. `written`
    /// says that its bytes are counted as they are written ([`Watched`]).
    pub fn connect(&self, address: Option<IpAddr>, written: bool) -> Option<Arc<Connection>> {
        let shared = &self.shared;
        let limits = &shared.limits;
        let has = shared.open.lock().connections.len();
        if has >= limits.connections_max + limits.connections_spare {
            self.close_most_silent();
            shared.told.refused_connection(limits.connections_max);
            return None;
        }
        let spare = has >= limits.connections_max && !self.close_most_silent();
        let mut open = shared.open.lock();
        open.next += 1;
        let id = open.next;
        let of = open.addresses.entry(address).or_insert_with(|| Address {
            connections: 0,
            has: Arc::default(),
        });
        of.connections += 1;
        let has = of.has.clone();
        let connection = Connection::new(self.clone(), id, address, has, spare, written);
        let connection = Arc::new(connection);
        open.connections.insert(id, Arc::downgrade(&connection));
        Some(connection)
    }

    /// Descriptors or memory have run out: somebody who is silent has to go.
    pub fn exhausted(&self, error: &io::Error) {
        let closed = self.close_most_silent();
        self.shared.told.exhausted(error, closed);
    }

    /// Closes the connection that was silent longest: who never said a word goes before who has no
    /// call. `false` when all of them talk.
    pub fn close_most_silent(&self) -> bool {
        let silent = self.connections().into_iter().filter_map(|connection| {
            let silence = connection.silence()?;
            Some((silence, connection))
        });
        let Some((_, connection)) = silent.min_by_key(|(silence, _)| *silence) else {
            return false;
        };
        connection.cut();
        let max = self.shared.limits.connections_max;
        self.shared.told.closed_for_room(max, connection.address);
        true
    }

    /// Never to be dropped while `open` is held, which the last one's end takes.
    fn connections(&self) -> Vec<Arc<Connection>> {
        let open = self.shared.open.lock();
        let connections = open.connections.values();
        connections.filter_map(Weak::upgrade).collect()
    }

    /// Looks at every connection and call: what was silent for too long is closed, what nobody takes
    /// is dropped. To be called each [`LOOK`].
    pub fn sweep(&self, now: Instant) {
        let shared = &self.shared;
        let patience = match self.is_short() {
            true => SHORT_PATIENCE.min(shared.limits.take_timeout),
            false => shared.limits.take_timeout,
        };
        for connection in self.connections() {
            connection.sweep(now, patience, &shared.limits, &shared.told);
        }
    }

    /// Whether clients get no more bytes.
    fn is_short(&self) -> bool {
        self.shared.bytes.load(Ordering::Relaxed) >= self.clients_bytes_max()
    }

    fn clients_bytes_max(&self) -> usize {
        share(self.limits().buffers_max(), CLIENTS_PERCENT)
    }

    /// Puts a refusal into words, and counts it.
    fn say(&self, refused: Refused) -> Status {
        self.shared.told.refused_call(refused);
        self.shared.rules.say(refused)
    }

    fn disconnected(&self, connection: &Connection) {
        let mut open = self.shared.open.lock();
        open.connections.remove(&connection.id);
        if let Some(of) = open.addresses.get_mut(&connection.address) {
            of.connections -= 1;
            if of.connections == 0 {
                open.addresses.remove(&connection.address);
            }
        }
    }
}

/// So many percent of something.
fn share(of: usize, percent: usize) -> usize {
    of / 100 * percent + of % 100 * percent / 100
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
