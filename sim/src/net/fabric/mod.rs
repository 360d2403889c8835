//! Connections between simulated hosts, as TCP keeps them: bytes in order, lost ones sent again,
//! cuts that delay when they are short and end connections when they are long.
//!
//! A segment is on the line until its arrival; nothing that is done to a host or a link before that
//! moment is missed. What reaches a dark host or a cut link is sent again with Linux's backoff, and
//! when it could not be delivered for [`GIVE_UP_US`] the connection times out. What reaches a host
//! that does not know the connection (its process ended, the machine came back) is answered with a
//! reset. The kernels of paused processes go on accepting and buffering.

mod conn;
mod delivery;
mod ends;
mod handshake;
mod time;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::io::ErrorKind;
use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;
use rand::rngs::StdRng;

use super::link::{GroupId, Links, backoff_us};
use crate::plan::Link;
use crate::trace::{Trace, What};
use conn::{Conn, Side, Stage};
use time::{Due, Timed};

pub(super) use conn::End;

/// A connection that could deliver nothing for this long is over, as with TCP_USER_TIMEOUT.
const GIVE_UP_US: u64 = 60_000_000;
/// Bytes on their way or unread, per direction; then writers wait.
const WINDOW_BYTES: usize = 2 * 1024 * 1024;
/// Header bytes of a segment, for bandwidth.
const HEADER_BYTES: u64 = 60;

/// The shared fabric.
pub(super) type Shared = Arc<Mutex<Fabric>>;
pub(super) type HostId = usize;

/// What a cut does with what is sent into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Open,
    Silent,
    Reset,
}

/// What a node does to its own connections, for a drill.
pub(super) struct Bend {
    /// With whom; none = with everyone.
    pub peers: Option<Vec<HostId>>,
    /// What it sends does not arrive.
    pub sends: bool,
    /// What is sent to it does not.
    pub hears: bool,
}

struct HostState {
    name: String,
    group: GroupId,
    /// Silent: its machine is off, and nothing answers for it.
    dark: bool,
    listeners: BTreeMap<u16, Listener>,
    /// Where its node is, once it has moved.
    at: Option<(String, u16)>,
}

#[derive(Default)]
struct Listener {
    waiting: VecDeque<End>,
    waker: Option<Waker>,
}

/// All hosts, links and connections.
pub(super) struct Fabric {
    now_us: u64,
    hosts: Vec<HostState>,
    by_name: BTreeMap<String, HostId>,
    groups: Vec<String>,
    links: Links,
    /// Between hosts; what is not in it is open.
    cuts: BTreeMap<(HostId, HostId), Way>,
    /// What nodes do to their own connections.
    bent: BTreeMap<HostId, Vec<Bend>>,
    /// Who opens no connections to whom.
    blocked: BTreeSet<(HostId, HostId)>,
    conns: BTreeMap<u64, Conn>,
    conn_last: u64,
    due: BinaryHeap<Reverse<Timed>>,
    order: u64,
    dice: StdRng,
    /// Where heads of calls are put together for the trace.
    head: Vec<u8>,
    pub(super) trace: Trace,
}

impl Fabric {
    pub(super) fn new(dice: StdRng, local: Link, wan: Link) -> Fabric {
        Fabric {
            now_us: 0,
            hosts: Vec::new(),
            by_name: BTreeMap::new(),
            groups: Vec::new(),
            links: Links::new(local, wan),
            cuts: BTreeMap::new(),
            bent: BTreeMap::new(),
            blocked: BTreeSet::new(),
            conns: BTreeMap::new(),
            conn_last: 0,
            due: BinaryHeap::new(),
            order: 0,
            dice,
            head: Vec::new(),
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
            at: None,
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
        self.links.set_usual(pair, link);
    }

    /// How packets go from now on; none = as usual.
    pub(super) fn set_link(&mut self, from: &str, to: &str, link: Option<Link>) {
        let pair = (self.group(from), self.group(to));
        let direction = self.links.direction(pair);
        direction.now = link.unwrap_or(direction.usual);
    }

    pub(super) fn set_way(&mut self, from: HostId, to: HostId, way: Way) {
        match way {
            Way::Open => self.cuts.remove(&(from, to)),
            way => self.cuts.insert((from, to), way),
        };
    }

    /// Whether a host's calls for connections to another get lost.
    pub(super) fn block(&mut self, from: HostId, to: HostId, block: bool) {
        match block {
            true => self.blocked.insert((from, to)),
            false => self.blocked.remove(&(from, to)),
        };
    }

    fn way(&self, from: HostId, to: HostId) -> Way {
        if from == to {
            return Way::Open;
        }
        if self.hosts[from].dark || self.hosts[to].dark {
            return Way::Silent;
        }
        if self.bends(from, to, |bend| bend.sends) || self.bends(to, from, |bend| bend.hears) {
            return Way::Silent;
        }
        self.cuts.get(&(from, to)).copied().unwrap_or(Way::Open)
    }

    /// Whether a node does something to its connections with another host.
    fn bends(&self, node: HostId, other: HostId, how: impl Fn(&Bend) -> bool) -> bool {
        let with = |bend: &Bend| {
            bend.peers
                .as_ref()
                .is_none_or(|peers| peers.contains(&other))
        };
        let bends = self.bent.get(&node);
        bends.is_some_and(|bends| bends.iter().any(|bend| how(bend) && with(bend)))
    }

    /// What a node does to its own connections from now on.
    pub(super) fn bend(&mut self, node: HostId, bends: Vec<Bend>) {
        match bends.is_empty() {
            true => drop(self.bent.remove(&node)),
            false => drop(self.bent.insert(node, bends)),
        }
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

    /// The process ended and its kernel resets its connections, but for those that it had closed: what
    /// was sent over them still arrives.
    pub(super) fn process_ended(&mut self, host: HostId) {
        self.forget(host, true);
    }

    fn forget(&mut self, host: HostId, tell: bool) {
        self.bent.remove(&host);
        self.hosts[host].listeners.clear();
        let mut told = Vec::new();
        for (id, conn) in &mut self.conns {
            for side in 0..2 {
                let spared = match conn.sides[side].stage {
                    Stage::Gone => true,
                    Stage::Closed => tell,
                    Stage::Opening | Stage::Open => false,
                };
                if conn.sides[side].host != host || spared {
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
        let bytes = bytes as u64 + HEADER_BYTES;
        self.links
            .direction(pair)
            .arrival_us(now, bytes, &mut self.dice)
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

    /// Whether packets go both ways between two hosts.
    pub(super) fn joined(&self, a: HostId, b: HostId) -> bool {
        self.way(a, b) == Way::Open && self.way(b, a) == Way::Open
    }

    /// The host of a name.
    pub(super) fn host(&self, name: &str) -> Option<HostId> {
        self.by_name.get(name).copied()
    }

    /// The name of a host.
    pub(super) fn name(&self, host: HostId) -> String {
        self.hosts[host].name.clone()
    }

    /// Who is at the other end of a connection; of one that is over, nobody that there is.
    pub(super) fn peer(&self, end: End) -> HostId {
        self.sides(end).map_or(HostId::MAX, |(_, peer)| peer)
    }

    /// The names of all hosts.
    pub(super) fn host_names(&self) -> Vec<String> {
        self.hosts.iter().map(|host| host.name.clone()).collect()
    }
}
