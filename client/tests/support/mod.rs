//! A cluster in this process: nodes that speak the real API over connections in memory, with one
//! simple store behind them all, and faults that a test orders or draws from a seed.
//!
//! Fault model: a node may refuse before or after it has done something, do it late, cut the
//! connection with or without having done it, fall silent (bytes stop, nothing is closed), or be
//! gone (connections are reset and refused). What a node has taken in goes on after its
//! connection is cut, so a message sent twice may be carried out twice, in any order: exactly-once
//! and order have to come from ids and from what the client sends when.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses a part of it"
)]

pub mod net;
pub mod node;
pub mod store;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use client::Client;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use self::net::Net;
use self::store::Store;

/// What goes wrong with one append, list or stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// UNAVAILABLE with a reason; nothing was done.
    Refuse,
    /// It is done, and the answer is UNAVAILABLE all the same.
    DoAndRefuse,
    /// All connections of the node are cut; nothing was done.
    Cut,
    /// It is done, and the connections are cut before the answer.
    DoAndCut,
    /// It is done after this long, and then answered.
    Slow(Duration),
    /// Only this stream is reset.
    Reset,
}

/// A cluster in memory.
pub struct Cluster {
    pub net: Arc<Net>,
    pub store: Mutex<Store>,
    /// Sent at each append.
    pub changed: tokio::sync::watch::Sender<u64>,
    /// Ordered by a test: the next operations, on any node, fail like this.
    pub script: Mutex<VecDeque<Fault>>,
    /// Addresses of nodes whose answers say that they go away.
    pub going_away: Mutex<BTreeSet<String>>,
    chance: Mutex<Chance>,
    pub nodes: Vec<Info>,
}

/// Who a node is.
#[derive(Clone, Debug)]
pub struct Info {
    pub id: u64,
    pub address: String,
    pub dc: String,
}

struct Chance {
    random: StdRng,
    /// Faults in a thousand operations, until `until`.
    per_mille: u32,
    until: Instant,
    /// Longest time that a node takes for an operation without a fault.
    delay_ms: u64,
}

impl Cluster {
    /// Starts `per_dc` nodes in each of three data centers.
    pub async fn start(seed: u64, per_dc: usize) -> Arc<Cluster> {
        let net = Net::new();
        let mut nodes = Vec::new();
        for dc in ["seoul", "busan", "tokyo"] {
            for number in 1..=per_dc {
                let id = nodes.len() as u64 + 1;
                let address = format!("{dc}-{number}:7001");
                nodes.push(Info {
                    id,
                    address,
                    dc: dc.to_owned(),
                });
            }
        }
        let cluster = Arc::new(Cluster {
            net,
            store: Mutex::default(),
            changed: tokio::sync::watch::channel(0).0,
            script: Mutex::default(),
            going_away: Mutex::default(),
            chance: Mutex::new(Chance {
                random: StdRng::seed_from_u64(seed),
                per_mille: 0,
                until: Instant::now(),
                delay_ms: 3,
            }),
            nodes,
        });
        for info in &cluster.nodes {
            node::serve(cluster.clone(), info.clone());
        }
        cluster
    }

    /// A client that begins with one node of each data center.
    pub fn client(&self, seed: u64, deadline: Duration) -> Client {
        let mut endpoints: Vec<String> = Vec::new();
        for dc in ["seoul", "busan", "tokyo"] {
            endpoints.extend(
                self.nodes
                    .iter()
                    .find(|n| n.dc == dc)
                    .map(|n| n.address.clone()),
            );
        }
        Client::builder()
            .endpoints(endpoints)
            .dialer(self.net.dialer())
            .deadline(deadline)
            .seed(seed)
            .build()
            .unwrap()
    }

    /// From now on `per_mille` of the operations fail, for `length`.
    pub fn trouble(&self, per_mille: u32, length: Duration, delay_ms: u64) {
        let mut chance = self.chance.lock();
        chance.per_mille = per_mille;
        chance.until = Instant::now() + length;
        chance.delay_ms = delay_ms;
    }

    pub fn order(&self, faults: &[Fault]) {
        self.script.lock().extend(faults.iter().copied());
    }

    /// What happens to the next operation, and how long it takes.
    pub fn draw(&self) -> (Option<Fault>, Duration) {
        if let Some(fault) = self.script.lock().pop_front() {
            return (Some(fault), Duration::ZERO);
        }
        let chance = &mut *self.chance.lock();
        let delay = Duration::from_micros(chance.random.random_range(0..=chance.delay_ms * 1_000));
        if Instant::now() >= chance.until
            || chance.random.random_range(0..1_000) >= chance.per_mille
        {
            return (None, delay);
        }
        let fault = match chance.random.random_range(0..12) {
            0..4 => Fault::Refuse,
            4..6 => Fault::DoAndRefuse,
            6 => Fault::Cut,
            7 => Fault::DoAndCut,
            8..10 => Fault::Slow(Duration::from_millis(chance.random.random_range(5..2_500))),
            _ => Fault::Reset,
        };
        (Some(fault), delay)
    }

    /// Whether faults are being drawn now.
    pub fn troubled(&self) -> bool {
        let chance = self.chance.lock();
        Instant::now() < chance.until && chance.per_mille > 0
    }

    pub fn number(&self, below: usize) -> usize {
        self.chance.lock().random.random_range(0..below)
    }

    /// The bodies of a conversation, in order.
    pub fn bodies(&self, parent: &str) -> Vec<String> {
        self.store.lock().bodies(parent)
    }
}

/// Runs `test` with virtual time, once for each seed; `FIREBREAK_SEED` picks a single one,
/// `FIREBREAK_SEEDS` says how many instead of `count`.
pub fn with_seeds<F>(name: &str, count: u64, test: impl Fn(u64) -> F)
where
    F: Future<Output = ()>,
{
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let count = number("FIREBREAK_SEEDS").unwrap_or(count);
    for seed in number("FIREBREAK_SEED").map_or(0..count, |seed| seed..seed + 1) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runtime.block_on(test(seed));
        }));
        if let Err(panic) = run {
            eprintln!(
                "repeat with: FIREBREAK_SEED={seed} cargo test --release -p firebreak-client {name}"
            );
            std::panic::resume_unwind(panic);
        }
    }
}

pub const ROOM: &str = "tenants/t/conversations/room";

pub fn room(number: usize) -> String {
    format!("tenants/t/conversations/room-{number}")
}
