//! A node's memory while it runs: what is accounted of it, and how it is divided anew as shards are
//! opened.
//!
//! ```text
//!   memory.max_mb ── memtables ── open shards ──► what remains ─┬─ network
//!                                                               ├─ heads and ids, log entries
//!                                                               ├─ blocks of state
//!                                                               └─ commands, links
//! ```
//!
//! An open shard takes what it takes, so everything else gets less for each: caches and queues keep to
//! shares that are changed while they run. Below a floor nothing shrinks any more; the node then says
//! that the budget is too small for its shards, and which would be right.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use model::limits;
use parking_lot::{Mutex, RwLock};
use proto::net::guard::{CALL_BYTES, Guard};
use proto::v1;
use raft::Node;
use store::engine::Engine;
use store::state::State;
use store::{Log, Share};

use crate::budget::{Budget, Shares};

const MIB: u64 = 1024 * 1024;
const SETTING: &str = "memory.max_mb";

/// Something that a node keeps in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is called in `firebreak status`.
    pub name: &'static str,
    /// Bytes that are kept now, and cannot but be kept, or are to be given back.
    pub used: usize,
    /// Bytes of its share; none where it only counts in the whole.
    pub max: Option<usize>,
}

/// What a node keeps in memory at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// All that is counted.
    pub parts: Vec<Part>,
    /// All of them together.
    pub used: usize,
    /// The node's budget, bytes.
    pub max: usize,
    /// The budget that would be right for its shards, bytes, where this one is too small.
    pub wanted: Option<usize>,
}

/// Where whoever runs a node looks at what it keeps in memory. Clones look at one.
#[derive(Clone, Default)]
pub struct Gauge(Arc<RwLock<Option<Look>>>);

/// Looks at what a node keeps in memory.
type Look = Box<dyn Fn() -> Account + Send + Sync>;

impl Gauge {
    /// What the node keeps now; none before it has begun and after it has ended.
    pub fn look(&self) -> Option<Account> {
        self.0.read().as_ref().map(|look| look())
    }
}

/// Takes the look away when the node has ended: it holds the databases.
pub struct Gauging(Gauge);

impl Drop for Gauging {
    fn drop(&mut self) {
        self.0.0.write().take();
    }
}

/// The memory of a node. Clones are one.
#[derive(Clone)]
pub struct Memory {
    shared: Arc<Shared>,
}

struct Shared {
    budget: Budget,
    shares: Held,
    guard: Guard,
    raftdb: Arc<dyn Engine>,
    msgdb: Arc<dyn Engine>,
    open: AtomicUsize,
    too_small: AtomicBool,
    /// The blocks that the state's database was told last.
    blocks: Mutex<usize>,
    caches: Mutex<Option<(Log, State)>>,
}

/// Shares that their holders look at.
struct Held {
    heads: Share,
    tails: Share,
    queue: Share,
    links: Share,
}

impl Memory {
    /// Divides `budget` for a node without a shard.
    pub fn new(
        budget: Budget,
        guard: Guard,
        raftdb: Arc<dyn Engine>,
        msgdb: Arc<dyn Engine>,
    ) -> Memory {
        let shares = budget.divide(0);
        let memory = Memory {
            shared: Arc::new(Shared {
                shares: Held {
                    heads: Share::of(shares.heads_bytes),
                    tails: Share::of(shares.tails_bytes),
                    queue: Share::of(shares.queue_bytes),
                    links: Share::of(shares.links_bytes),
                },
                budget,
                guard,
                raftdb,
                msgdb,
                open: AtomicUsize::new(0),
                too_small: AtomicBool::new(false),
                blocks: Mutex::new(shares.cache_bytes),
                caches: Mutex::default(),
            }),
        };
        memory.opened(0);
        memory
    }

    /// The share of the heads and ids of conversations.
    pub fn heads(&self) -> Share {
        self.shared.shares.heads.clone()
    }

    /// The share of the last entries of the logs.
    pub fn tails(&self) -> Share {
        self.shared.shares.tails.clone()
    }

    /// The share of the commands that wait for their leaders.
    pub fn queue(&self) -> Share {
        self.shared.shares.queue.clone()
    }

    /// The share of what waits to be sent to other nodes.
    pub fn links(&self) -> Share {
        self.shared.shares.links.clone()
    }

    /// Those whose caches give back what their shares have lost.
    pub fn has(&self, log: Log, state: State) {
        *self.shared.caches.lock() = Some((log, state));
    }

    /// Divides anew for so many open shards.
    pub fn opened(&self, shards: usize) {
        let shared = &self.shared;
        shared.open.store(shards, Ordering::Relaxed);
        let shares = shared.budget.divide(shards);
        shared.set(&shares);
        let was_too_small = shared
            .too_small
            .swap(shares.wanted.is_some(), Ordering::Relaxed);
        if let Some(wanted) = shares.wanted.filter(|_| !was_too_small) {
            tracing::warn!(
                shards,
                max_mb = shared.budget.memory_bytes / MIB,
                wanted_mb = wanted as u64 / MIB,
                "memory.max_mb is too small for the shards that this node holds"
            );
        }
        // Its lock is not held meanwhile: caches have locks of their own.
        let caches = shared.caches.lock().clone();
        if let Some((log, state)) = caches {
            log.trim();
            state.trim();
        }
    }

    /// What is kept now.
    pub fn account(&self, raft: &Node, log: &Log, state: &State) -> Account {
        let shared = &self.shared;
        let shares = shared.budget.divide(shared.open.load(Ordering::Relaxed));
        let usage = shared.guard.usage();
        let unwritten = log.unwritten_bytes();
        let part = |name, used, max| Part { name, used, max };
        let engines = log.stats().memory_bytes + state.stats().memory_bytes;
        let open = limits::OPEN_SHARD_BYTES * raft.open_shards() + log.index_bytes();
        let parts = vec![
            part(
                "network",
                usage.bytes + usage.calls * CALL_BYTES,
                // What nodes say to each other is counted, and never refused.
                None,
            ),
            part(
                "commands",
                raft.waiting_bytes(),
                Some(shared.shares.queue.bytes()),
            ),
            part("links", raft.links_bytes(), None),
            part(
                "heads and ids",
                state.cached_bytes(),
                Some(shares.heads_bytes),
            ),
            part(
                "log entries",
                log.tails_bytes().saturating_sub(unwritten),
                Some(shares.tails_bytes),
            ),
            part("log being written", unwritten, None),
            part("databases", usize::try_from(engines).unwrap_or(0), None),
            part("open shards", open, Some(shares.shards_bytes)),
        ];
        Account {
            used: parts.iter().map(|part| part.used).sum(),
            parts,
            max: usize::try_from(shared.budget.memory_bytes).unwrap_or(usize::MAX),
            wanted: shares.wanted,
        }
    }

    /// As `firebreak status` tells it.
    pub fn resources(&self, raft: &Node, log: &Log, state: &State) -> Vec<v1::Resource> {
        let account = self.account(raft, log, state);
        let wanted = account.wanted.map_or(0, |wanted| wanted as u64);
        let resource = |name: &str, used: usize, max: usize, wanted| v1::Resource {
            name: name.to_owned(),
            used: used as u64,
            max: max as u64,
            setting: SETTING.to_owned(),
            wanted,
            ..v1::Resource::default()
        };
        let parts = account.parts.iter();
        let bounded = parts.filter_map(|part| Some((part, part.max?)));
        let mut all: Vec<v1::Resource> = bounded
            .map(|(part, max)| resource(part.name, part.used, max, 0))
            .collect();
        all.push(resource("memory", account.used, account.max, wanted));
        all
    }

    /// Lets `gauge` look at it, until what this gives is dropped.
    pub fn gauge(&self, gauge: &Gauge, raft: &Arc<Node>, log: &Log, state: &State) -> Gauging {
        let memory = self.clone();
        let (raft, log, state) = (raft.clone(), log.clone(), state.clone());
        let look = move || memory.account(&raft, &log, &state);
        *gauge.0.write() = Some(Box::new(look));
        Gauging(gauge.clone())
    }
}

impl Shared {
    fn set(&self, shares: &Shares) {
        self.shares.heads.set(shares.heads_bytes);
        self.shares.tails.set(shares.tails_bytes);
        self.shares.queue.set(shares.queue_bytes);
        self.shares.links.set(shares.links_bytes);
        self.guard.resize(shares.network_bytes);
        // RocksDB is told of steps only.
        let mut blocks = self.blocks.lock();
        if shares.cache_bytes.abs_diff(*blocks) > *blocks / 16 {
            *blocks = shares.cache_bytes;
            self.msgdb.resize(shares.cache_bytes);
            self.raftdb.resize(shares.log_cache_bytes);
        }
    }
}
