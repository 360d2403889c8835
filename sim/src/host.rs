//! One simulated host: two disks that outlive it, and a node that is started on them again and
//! again. Everything that a node takes from its [`World`] is made here.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _};
use server::node::{self, InitOptions};
use server::world::{Background, DiskSpace, Entropy, Space};
use server::{Config, World};
use store::engine::memory::{Disk, Memory};

use crate::dice::{derive, dice};
use crate::net::{self, Net};

/// The port that every node listens on.
pub const PORT: u16 = 7_400;
/// Wall-clock time when a run begins, Unix milliseconds: 15 October 2022, 15:19 in Seoul.
pub const EPOCH_MS: u64 = 1_665_814_740_000;
/// How long a sync of `raftdb` takes, milliseconds; drawn per host.
const SYNC_MS: std::ops::RangeInclusive<u64> = 1..=4;
/// Room on every disk, bytes.
const DISK_BYTES: u64 = 1 << 40;
/// Between two attempts to become a member.
const ENROL_RETRY: Duration = Duration::from_millis(200);

/// What the hosts of a cluster share while it is founded: the first founds it, the others wait
/// for its token.
pub struct Founding {
    /// Nodes in all.
    nodes: u32,
    /// host:port of the founder.
    founder: String,
    token: Mutex<Option<String>>,
}

impl Founding {
    /// Of a cluster of `nodes` that the node at `founder`, host:port, founds.
    pub fn new(nodes: u32, founder: String) -> Founding {
        Founding {
            nodes,
            founder,
            token: Mutex::new(None),
        }
    }
}

/// A host.
pub struct Host {
    /// Its name, that of its node and the one that others reach it by.
    pub name: String,
    /// What it burns with.
    pub dc: String,
    config: Config,
    seed: u64,
    raftdb: Disk,
    msgdb: Disk,
    starts: AtomicU64,
    member: AtomicBool,
}

impl Host {
    /// A host with empty disks.
    ///
    /// # Errors
    /// When the names make no configuration.
    pub fn new(name: &str, dc: &str, seed: u64) -> Result<Host, String> {
        let text = format!(
            "name = \"{name}\"\nlisten = \"0.0.0.0:{PORT}\"\nadvertise = \"{name}:{PORT}\"\n\
             data_dir = \"/simulated\"\n[locality]\nregion = \"kr\"\ndc = \"{dc}\"\n"
        );
        let config = Config::parse(&text, name).map_err(|errors| errors.to_string())?;
        let (raftdb, msgdb) = (Disk::new(), Disk::new());
        let sync = dice(seed, &format!("{name} sync")).random_range(SYNC_MS);
        raftdb.set_sync_latency(Duration::from_millis(sync));
        msgdb.set_sync_latency(Duration::from_millis(sync));
        Ok(Host {
            name: name.to_owned(),
            dc: dc.to_owned(),
            config,
            seed,
            raftdb,
            msgdb,
            starts: AtomicU64::new(0),
            member: AtomicBool::new(false),
        })
    }

    /// host:port of its node.
    pub fn address(&self) -> String {
        format!("{}:{PORT}", self.name)
    }

    /// Cuts the power of a stopped host: what was synced stays, of what was not a drawn prefix.
    pub fn cut_power(&self) {
        let start = self.starts.load(Ordering::Relaxed);
        let mut dice = dice(self.seed, &format!("{} power {start}", self.name));
        self.raftdb
            .power_cut_with(|unsynced| dice.random_range(0..=unsynced));
        // Without a write-ahead log nothing unflushed is on the disk.
        self.msgdb.power_cut(0);
    }

    /// One start of the host, until it is stopped from outside: founds or joins the cluster when
    /// it has not yet, then serves.
    ///
    /// # Errors
    /// When the node stops by itself, or is not let in for good.
    pub async fn live(self: Arc<Self>, net: Net, founding: Arc<Founding>) -> net::field::Ended {
        if !self.member.load(Ordering::Relaxed) {
            self.enrol(&net, &founding).await?;
            self.member.store(true, Ordering::Relaxed);
        }
        let ended = node::run(
            self.world(net),
            self.config.clone(),
            std::future::pending(),
            || (),
        );
        ended.await.map_err(|error| self.says(&error))?;
        Ok(())
    }

    async fn enrol(&self, net: &Net, founding: &Founding) -> Result<(), String> {
        if self.address() == founding.founder {
            let options = InitOptions {
                nodes_expected: founding.nodes,
                shards: 0,
                replicas: 3,
            };
            let founded = node::init(&self.world(net.clone()), &self.config, options).await;
            let founded = founded.map_err(|error| self.says(&error))?;
            *founding.token.lock() = Some(founded.token);
            return Ok(());
        }
        let peers = [founding.founder.clone()];
        loop {
            let token = founding.token.lock().clone();
            if let Some(token) = token {
                let world = self.world(net.clone());
                match node::join(&world, &self.config, &token, &peers).await {
                    Ok(_) => return Ok(()),
                    Err(node::FoundError::Unanswered(_)) => {}
                    Err(error) => return Err(self.says(&error)),
                }
            }
            tokio::time::sleep(ENROL_RETRY).await;
        }
    }

    fn says(&self, error: &impl std::fmt::Display) -> String {
        format!("{}: {error}", self.name)
    }

    /// The world of one start.
    fn world(&self, network: Net) -> World<Net> {
        let start = self.starts.fetch_add(1, Ordering::Relaxed) + 1;
        let stream = |what| format!("{} {what} {start}", self.name);
        World {
            network,
            raftdb: Arc::new(Memory::open(&self.raftdb)),
            msgdb: Arc::new(Memory::open(&self.msgdb)),
            clock: Arc::new(Clock),
            seed: derive(self.seed, &stream("choices")),
            entropy: Arc::new(Seeded(Mutex::new(dice(self.seed, &stream("entropy"))))),
            disk: Arc::new(Room),
            background: Arc::new(Inline),
        }
    }
}

/// Virtual time since a fixed moment; the same on every host.
struct Clock;

impl raft::Clock for Clock {
    fn unix_ms(&self) -> u64 {
        EPOCH_MS + u64::try_from(net::now().as_millis()).unwrap_or(u64::MAX - EPOCH_MS)
    }
}

struct Seeded(Mutex<StdRng>);

impl Entropy for Seeded {
    fn fill(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.0.lock().fill_bytes(bytes);
        Ok(())
    }
}

/// A disk with room.
struct Room;

impl DiskSpace for Room {
    fn space(&self) -> io::Result<Space> {
        Ok(Space {
            free: DISK_BYTES / 2,
            total: DISK_BYTES,
        })
    }
}

/// Runs jobs at once: a thread of its own would not know virtual time.
struct Inline;

impl Background for Inline {
    fn run(&self, job: Box<dyn FnOnce() + Send>) {
        job();
    }
}
