//! One simulated host: two disks that outlive it, and a node that is started on them again and
//! again. Everything that a node takes from its [`World`] is made here.

mod disks;
mod drill;
#[cfg(feature = "rocksdb")]
mod rocks;

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::Router;
use disks::{Devices, Disks, Engines};
use parking_lot::Mutex;
use proto::v1::Record;
use proto::v1::record::What;
use raft::Keep;
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _};
use server::budget::MEMORY_BYTES_MIN;
use server::memory::Account;
use server::night::NodeNight;
use server::node::{self, InitOptions, RunError};
use server::recorder::ring::{self, Position};
use server::world::{
    Background, DiskSpace, Entropy, Gauge, Machine, Metrics, NoDebug, Process, ProcessFigures,
    Space, Traces, tape,
};
use server::{Config, World};
use store::Sizes;
use store::engine::memory::{self, Disk, Volume};
use store::engine::{Engine, Snapshot};
use store::key::state::Named;
use tokio::sync::{oneshot, watch};

use crate::alarms::recording::Scraped;
use crate::dice::{derive, dice};
use crate::history::DrillSeen;
use crate::net::Net;
use crate::net::field::Clocks;
use crate::plan::{Event, Fault, NodeSpec, Part, Plan};
pub use disks::refuse;
pub use drill::Order as DrillOrder;

/// What each host gives to its node.
const MACHINE: Machine = Machine {
    memory_bytes: 2 * 1024 * 1024 * 1024,
    descriptors: 65_536,
};

/// The port that every node listens on.
pub const PORT: u16 = 7_400;
/// Wall-clock time when a run begins, Unix milliseconds: 15 October 2022, 15:19 in Seoul.
pub const EPOCH_MS: i64 = crate::interpose::EPOCH_S * 1_000;
/// How long a sync of a disk takes, milliseconds; the bounds are drawn per host.
const SYNC_MS: std::ops::RangeInclusive<u64> = 1..=4;
/// Room on every disk, bytes.
const DISK_BYTES: u64 = 1 << 40;
/// Of it free, percent, unless a fault says otherwise.
const FREE_PERCENT: u32 = 50;
/// What databases let grow on a disk that is small, as a share of what was left on it.
const SMALL_DISK_UNITS: u64 = 64;
/// Between two attempts to become a member.
const ENROL_RETRY: Duration = Duration::from_millis(200);
/// How often other tasks of a host go first, until its disks are let go.
const TURNS_MAX: u32 = 1_000;

/// What the hosts of a cluster share while it is founded: the first founds it, the others wait
/// for its token.
pub struct Founding {
    /// Nodes in all.
    pub nodes: u32,
    /// Data shards; 0 lets the product choose.
    pub shards: u32,
    /// Replicas of a shard.
    pub replicas: u32,
    /// host:port of the founder.
    pub founder: String,
    /// host:port of a node in each data center, for those who join later.
    pub peers: Vec<String>,
    /// What others join with, once there is one.
    pub token: Mutex<Option<String>>,
    /// Whether the cluster serves.
    pub founded: AtomicBool,
}

/// A host.
pub struct Host {
    /// Its name, that of its node and the one that others reach it by.
    pub name: String,
    /// What it burns with.
    pub dc: String,
    config: Mutex<Config>,
    /// How often it has moved.
    moves: AtomicU32,
    /// The cluster does not know it any more, or refuses its disk.
    refused: AtomicBool,
    seed: u64,
    clocks: Mutex<Clocks>,
    devices: Devices,
    disks: Box<dyn Disks>,
    destroyed: AtomicBool,
    starts: AtomicU64,
    member: AtomicBool,
    free_percent: Arc<AtomicU32>,
    stop: watch::Sender<bool>,
    ended: Mutex<Option<Result<(), String>>>,
    /// The state's database, as long as a node holds it.
    state: Mutex<Option<Weak<dyn Engine>>>,
    /// What its node keeps in memory.
    gauge: Gauge,
    /// What its node lets scrapers read.
    metrics: Metrics,
    /// Where drills tell its node what to do.
    desk: Arc<drill::Desk>,
    /// What its flight recorder wrote; burns with its disks.
    tape: Arc<tape::Memory>,
    /// The pages that its node serves to browsers.
    console: Option<Router>,
    /// What it answers to them, and the series that they want; none when nobody scrapes.
    scraped: Option<(Scraped, Arc<BTreeSet<String>>)>,
}

/// All nodes are of one process.
struct NoProcess;

impl Process for NoProcess {
    fn figures(&self) -> Option<ProcessFigures> {
        None
    }
}

impl Host {
    /// A host of `plan` with empty disks.
    ///
    /// # Errors
    /// When the names make no configuration, or this build has no such disks.
    pub fn new(spec: &NodeSpec, (dc, region): (&str, &str), plan: &Plan) -> Result<Host, String> {
        let (name, seed) = (&spec.name, plan.seed);
        let text = format!(
            "name = \"{name}\"\nlisten = \"0.0.0.0:{PORT}\"\nadvertise = \"{name}:{PORT}\"\n\
             data_dir = \"/simulated\"\n[http]\ncanary = false\n[locality]\nregion = \"{region}\"\ndc = \"{dc}\"\n\
             rack = \"{}\"\n",
            spec.rack
        );
        let mut config = Config::parse(&text, name).map_err(|errors| errors.to_string())?;
        let drills = |event: &Event| matches!(event.fault, Fault::Drill { .. });
        config.drill.allowed = plan.events.iter().any(drills);
        keep(&mut config, seed);
        config.raft.read_lease_ms = read_lease(spec, seed, config.raft.read_lease_ms);
        if plan.topology.replace_after_ms > 0 {
            config.raft.replace_after_ms = plan.topology.replace_after_ms;
        }
        if plan.topology.scrub_every_ms > 0 {
            config.raft.scrub.every_ms = plan.topology.scrub_every_ms;
        }
        let devices = Devices {
            raftdb: Disk::named(&format!("{name}/raftdb")),
            msgdb: Disk::named(&format!("{name}/msgdb")),
            volume: Volume::default(),
        };
        let host = Host {
            name: name.clone(),
            dc: dc.to_owned(),
            config: Mutex::new(config),
            moves: AtomicU32::new(0),
            refused: AtomicBool::new(false),
            seed,
            clocks: Mutex::default(),
            disks: disks::of(name, plan.disk, &devices)?,
            devices,
            destroyed: AtomicBool::new(false),
            starts: AtomicU64::new(0),
            member: AtomicBool::new(false),
            free_percent: Arc::new(AtomicU32::new(FREE_PERCENT)),
            stop: watch::Sender::new(false),
            ended: Mutex::default(),
            state: Mutex::default(),
            gauge: Gauge::default(),
            metrics: Metrics::default(),
            desk: Arc::default(),
            tape: Arc::default(),
            console: None,
            scraped: None,
        };
        host.usual_syncs();
        Ok(host)
    }

    /// Has its node sing its canaries and answer scrapes of these series.
    pub fn record(&mut self, wanted: Arc<BTreeSet<String>>) {
        self.config.lock().http.canary = true;
        self.scraped = Some((Scraped::default(), wanted));
    }

    /// Has its node serve these pages, and try its canaries as nodes do in production.
    pub fn show(&mut self, pages: Router) {
        self.config.lock().http.canary = true;
        self.console = Some(pages);
    }

    /// What its node answers to scrapes, if it does.
    pub fn scraped(&self) -> Option<&Scraped> {
        self.scraped.as_ref().map(|(scraped, _)| scraped)
    }

    /// host:port of its node.
    pub fn address(&self) -> String {
        self.config.lock().advertise.clone()
    }

    /// A new address for its node: another port, since its machine stays.
    pub fn fresh_address(&self) -> String {
        let moves = self.moves.fetch_add(1, Ordering::Relaxed) + 1;
        let port = PORT.saturating_add(u16::try_from(moves).unwrap_or(u16::MAX));
        format!("{}:{port}", self.name)
    }

    /// Its node is at another address from its next start on.
    pub fn move_to(&self, address: String) {
        let port = address.rsplit_once(':').map_or("", |(_, port)| port);
        let mut config = self.config.lock();
        config.listen = format!("0.0.0.0:{port}");
        config.advertise = address;
    }

    /// Whether its node was ever told to move.
    pub fn has_moved(&self) -> bool {
        self.config.lock().advertise != format!("{}:{PORT}", self.name)
    }

    /// Whom its node asks about the cluster from its next start on.
    pub fn ask(&self, peers: &[String]) {
        self.config.lock().peers = peers.to_vec();
    }

    /// Whether the cluster has told it that it is not of it any more: nobody starts it again.
    pub fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// The disk of Raft logs and votes; under RocksDB the simulated one beside it, which tells the
    /// same to an observer.
    pub fn raftdb(&self) -> &Disk {
        &self.devices.raftdb
    }

    /// Files of snapshots that were installed on its disk.
    pub fn snapshots(&self) -> u64 {
        self.devices.msgdb.ingests()
    }

    /// The clocks that its node's wall clock follows.
    pub fn follow(&self, clocks: Clocks) {
        *self.clocks.lock() = clocks;
    }

    /// One start of the host, until it is stopped from outside or by itself: founds or joins the
    /// cluster when it has not yet, then serves. How it ended is told by [`Host::ended`].
    pub async fn live(self: Arc<Self>, net: Net, founding: Arc<Founding>) {
        self.stop.send_replace(false);
        let ended = self.serve(net, &founding).await;
        *self.ended.lock() = Some(ended);
    }

    /// How the node ended by itself, once.
    pub fn ended(&self) -> Option<Result<(), String>> {
        self.ended.lock().take()
    }

    /// Tells its node something about a drill, whatever is wrong on the network.
    pub fn drill(&self, order: DrillOrder) -> oneshot::Receiver<Result<(), String>> {
        self.desk.post(order)
    }

    /// When faults of drills were on its nodes.
    pub fn drilled(&self) -> Vec<DrillSeen> {
        self.desk.seen()
    }

    /// Asks the node to stop, as SIGTERM does.
    pub fn ask_to_stop(&self) {
        self.stop.send_replace(true);
    }

    async fn serve(&self, net: Net, founding: &Founding) -> Result<(), String> {
        if !self.member.load(Ordering::Relaxed) {
            self.enrol(&net, founding).await?;
            self.member.store(true, Ordering::Relaxed);
        }
        let mut stop = self.stop.subscribe();
        let stopped = async move {
            // The sender lives in the host.
            let _ = stop.wait_for(|stop| *stop).await;
        };
        let world = self.world(net).await?;
        let config = self.config.lock().clone();
        let run = node::run(world, config, stopped, || ());
        let ended = match &self.scraped {
            None => run.await,
            Some((scraped, wanted)) => tokio::select! {
                biased;
                ended = run => ended,
                never = scraped.answer(&self.metrics, wanted) => match never {},
            },
        };
        if matches!(ended, Err(RunError::Refused(_))) {
            self.refused.store(true, Ordering::Relaxed);
        }
        ended.map_err(|error| error.to_string())
    }

    async fn enrol(&self, net: &Net, founding: &Founding) -> Result<(), String> {
        if self.address() == founding.founder {
            let options = InitOptions {
                nodes_expected: founding.nodes,
                shards: founding.shards,
                replicas: founding.replicas,
                token_valid_ms: 0,
            };
            let world = self.world(net.clone()).await?;
            let config = self.config.lock().clone();
            let founded = node::init(&world, &config, options).await;
            let founded = founded.map_err(|error| error.to_string())?;
            *founding.token.lock() = Some(founded.token);
            return Ok(());
        }
        // While the cluster is founded only its founder is a member.
        let first = [founding.founder.clone()];
        loop {
            let token = founding.token.lock().clone();
            if let Some(token) = token {
                let world = self.world(net.clone()).await?;
                let peers = match founding.founded.load(Ordering::Relaxed) {
                    true => &founding.peers[..],
                    false => &first,
                };
                let config = self.config.lock().clone();
                match node::join(&world, &config, &token, peers, bytes::Bytes::new()).await {
                    Ok(_) => return Ok(()),
                    Err(node::FoundError::Unanswered(_)) => {}
                    Err(error) => return Err(error.to_string()),
                }
            }
            tokio::time::sleep(ENROL_RETRY).await;
        }
    }

    /// The world of one start.
    async fn world(&self, network: Net) -> Result<World, String> {
        // Tasks of the process before, which founded or joined, may just be ending.
        for _ in 0..TURNS_MAX {
            if !self.disks.held() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let Engines { raftdb, msgdb } = self.disks.open()?;
        *self.state.lock() = Some(Arc::downgrade(&msgdb));
        let start = self.starts.fetch_add(1, Ordering::Relaxed) + 1;
        let stream = |what| format!("{} {what} {start}", self.name);
        Ok(World {
            network: Arc::new(network.clone()),
            raftdb,
            msgdb,
            clock: Arc::new(Wall(self.clocks.lock().clone())),
            seed: derive(self.seed, &stream("choices")),
            entropy: Arc::new(Seeded(Mutex::new(dice(self.seed, &stream("entropy"))))),
            disk: Arc::new(Room {
                free_percent: self.free_percent.clone(),
                volume: self.devices.volume.clone(),
            }),
            background: Arc::new(Inline),
            machine: MACHINE,
            gauge: self.gauge.clone(),
            metrics: self.metrics.clone(),
            process: Arc::new(NoProcess),
            traces: Traces::default(),
            console: self.console.clone(),
            local: None,
            authority: None,
            tape: self.tape.clone(),
            debug: Arc::new(NoDebug),
            stage: Arc::new(drill::Simulated {
                host: self.name.clone(),
                net: network.clone(),
                desk: self.desk.clone(),
            }),
            pid: u32::try_from(start).unwrap_or(u32::MAX),
        })
    }

    /// The chance of one of its disks' mishaps.
    fn mishap(&self, what: &str) -> StdRng {
        let start = self.starts.load(Ordering::Relaxed);
        let now = crate::net::now_us();
        dice(self.seed, &format!("{} {what} {start} {now}", self.name))
    }

    /// Cuts the power of a stopped host: what was synced stays, of what was not a drawn part.
    ///
    /// # Errors
    /// When its folder refuses, as all that is done to its disks; simulated ones never do.
    pub fn cut_power(&self) -> Result<(), String> {
        self.disks.cut_power(&mut self.mishap("power"))
    }

    /// The process of a stopped host was killed: what it had written to its log stays.
    pub fn process_killed(&self) {
        self.disks.process_killed();
    }

    /// Destroys the disks: the host never starts again.
    ///
    /// # Errors
    /// As [`Host::cut_power`].
    pub fn destroy(&self) -> Result<(), String> {
        self.destroyed.store(true, Ordering::Relaxed);
        self.tape.wipe();
        self.disks.wipe()
    }

    /// Whether its disks are destroyed.
    pub fn is_destroyed(&self) -> bool {
        self.destroyed.load(Ordering::Relaxed)
    }

    /// Replaces the disks by empty ones. The identity is gone with them, so that the host has to
    /// join again.
    ///
    /// # Errors
    /// As [`Host::cut_power`].
    pub fn wipe(&self) -> Result<(), String> {
        self.member.store(false, Ordering::Relaxed);
        self.refused.store(false, Ordering::Relaxed);
        self.tape.wipe();
        self.disks.wipe()
    }

    /// What its flight recorder wrote; none where that burned.
    pub fn recorded(&self) -> Option<NodeNight> {
        let found = ring::read(&*self.tape, (0, u64::MAX), Position::default(), u64::MAX);
        let records = found.ok()?.records.into_iter().map(|(_, record)| record);
        let records: Vec<Record> = records.collect();
        let node_id = records.iter().find_map(|record| match &record.what {
            Some(What::Started(started)) => Some(started.node_id),
            _ => None,
        })?;
        Some(NodeNight {
            node_id,
            name: self.name.clone(),
            records,
            ..NodeNight::default()
        })
    }

    /// Takes an image of the disks.
    ///
    /// # Errors
    /// As [`Host::cut_power`].
    pub fn take_image(&self) -> Result<(), String> {
        self.disks.take_image()
    }

    /// Puts the image back that was taken last.
    ///
    /// # Errors
    /// As [`Host::cut_power`].
    pub fn put_image_back(&self) -> Result<(), String> {
        self.refused.store(false, Ordering::Relaxed);
        self.disks.put_image_back()
    }

    /// How long syncs take from now on.
    pub fn slow_syncs(&self, bounds_ms: (u64, u64)) {
        for disk in [&self.devices.raftdb, &self.devices.msgdb] {
            let mut dice = self.mishap("syncs");
            let (least, most) = bounds_ms;
            disk.draw_sync_latency(move || {
                Duration::from_millis(dice.random_range(least..=most.max(least)))
            });
        }
    }

    /// Syncs take as long as they do on this host's disks.
    pub fn usual_syncs(&self) {
        let most = dice(self.seed, &format!("{} sync", self.name)).random_range(SYNC_MS);
        self.slow_syncs((*SYNC_MS.start(), most));
    }

    /// Holds syncs, or lets them complete.
    pub fn hang_syncs(&self, hang: bool) {
        self.devices.raftdb.hold_syncs(hang);
        self.devices.msgdb.hold_syncs(hang);
    }

    /// Makes syncs fail, or succeed again.
    pub fn fail_syncs(&self, fail: bool) {
        self.devices.raftdb.fail(memory::Fault::Sync, fail);
        self.devices.msgdb.fail(memory::Fault::Sync, fail);
    }

    /// Room left; none = as usual. With none left at all, writes fail.
    pub fn leave_room(&self, free_percent: Option<u32>) {
        let percent = free_percent.unwrap_or(FREE_PERCENT);
        self.free_percent.store(percent, Ordering::Relaxed);
        self.devices.raftdb.fail(memory::Fault::Full, percent == 0);
        self.devices.msgdb.fail(memory::Fault::Full, percent == 0);
    }

    /// So many bytes are left from now on; none = without end.
    pub fn leave_bytes(&self, left: Option<u64>) {
        let unit = left.unwrap_or(DISK_BYTES) / SMALL_DISK_UNITS;
        self.devices.volume.leave(left, Sizes::of_unit(unit));
    }

    /// Flips a bit; says where, or none when there is nothing of the kind.
    pub fn flip_bit(&self, part: Part) -> Option<String> {
        let mut dice = self.mishap("bit");
        let (disk, part) = match part {
            Part::Log => (&self.devices.raftdb, memory::Part::Entry),
            Part::Vote => (&self.devices.raftdb, memory::Part::Vote),
            Part::State => (&self.devices.msgdb, memory::Part::Conversation),
            Part::Snapshot => (&self.devices.msgdb, memory::Part::KeptFile),
        };
        // RocksDB's own checksums find most of them; those of our records must find the others.
        let hit = match dice.random_bool(0.5) {
            true => disk.flip_bit(part, |count| dice.random_range(0..count))?,
            false => disk.flip_bit_unseen(part, |count| dice.random_range(0..count))?,
        };
        Some(match hit {
            memory::Hit::Record(key) => store::key::log::readable(&key),
            memory::Hit::File(name) => name,
        })
    }

    /// Takes a record away without a trace, one that remembers an id or a message; says which.
    pub fn lose_record(&self) -> Option<String> {
        let mut dice = self.mishap("record");
        let named = |key: &[u8]| {
            let named = store::key::state::parse(key);
            matches!(named, Some(Named::Dedup(..) | Named::Message(..)))
        };
        let lost = self
            .devices
            .msgdb
            .lose(named, |count| dice.random_range(0..count));
        lost.map(|key| store::key::state::readable(&key))
    }

    /// What its node keeps in memory now; none when none runs.
    pub fn memory(&self) -> Option<Account> {
        self.gauge.look()
    }

    /// Compacts the state: what is damaged in it is met.
    pub fn compact(&self) {
        self.devices.msgdb.compact();
    }

    /// A read point of the state's database as the running node has it; none when none runs.
    pub fn state(&self) -> Option<Snapshot> {
        let engine = self.state.lock().as_ref()?.upgrade()?;
        Some(engine.snapshot())
    }

    /// A look at the log's disk as the next start will find it. Whatever runs on it is dead then.
    ///
    /// # Errors
    /// When it cannot be opened, or RocksDB recovered what the simulated disk does not allow.
    pub fn inspect(&self) -> Result<Arc<dyn Engine>, String> {
        Ok(self.disks.open()?.raftdb)
    }
}

/// The read window of a node. Where nothing is said of it, in one of four runs each node has one of its
/// own, as large as the product's at most: how long a new leader is silent is judged elsewhere.
fn read_lease(spec: &NodeSpec, seed: u64, usual_ms: u64) -> u64 {
    if let Some(ms) = spec.read_lease_ms {
        return ms;
    }
    match dice(seed, "read leases").random_bool(0.25) {
        true => dice(seed, &format!("{} read lease", spec.name)).random_range(0..=usual_ms),
        false => usual_ms,
    }
}

/// Half of the runs flush state and cut the log as production does; in the others it happens often
/// enough that a short run restarts from flushed state and catches up from snapshots, at each node by
/// settings of its own.
fn keep(config: &mut Config, seed: u64) {
    // In a quarter so little that what is known of conversations is forgotten all the time.
    let mut heads = dice(seed, "heads");
    if heads.random_bool(0.25) {
        config.memory.heads_bytes = heads.random_range(4_096..=65_536);
    }
    // In a quarter each node has the least budget, and next to no last entries in memory.
    if dice(seed, "memory").random_bool(0.25) {
        let mut dice = dice(seed, &format!("memory of {}", config.name));
        config.memory.max_bytes = MEMORY_BYTES_MIN;
        config.memory.tails_bytes = dice.random_range(2_048..=65_536);
        config.memory.queue_bytes = dice.random_range(1 << 20..=4 << 20);
    }
    if dice(seed, "keep").random_bool(0.5) {
        return;
    }
    let mut dice = dice(seed, &format!("keep at {}", config.name));
    let keep = &mut config.raft.keep;
    keep.flush_age_ms = dice.random_range(300..=5_000);
    keep.flush_bytes = dice.random_range(16_384..=262_144);
    keep.log_bytes_max = dice.random_range(8_192..=131_072);
    keep.absent_ms_max = dice.random_range(1_000..=10_000);
    keep.log_entries = dice.random_range(4..=64);
}

/// The host's wall clock.
struct Wall(Clocks);

impl raft::Clock for Wall {
    fn unix_ms(&self) -> u64 {
        u64::try_from(EPOCH_MS + self.0.wall_us() / 1_000).unwrap_or(0)
    }

    fn suspended(&self) -> Duration {
        self.0.suspended()
    }
}

struct Seeded(Mutex<StdRng>);

impl Entropy for Seeded {
    fn fill(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.0.lock().fill_bytes(bytes);
        Ok(())
    }
}

/// A disk with the room that the run leaves it.
struct Room {
    free_percent: Arc<AtomicU32>,
    volume: Volume,
}

impl DiskSpace for Room {
    fn space(&self) -> io::Result<Space> {
        if let Some((free, total)) = self.volume.space() {
            return Ok(Space { free, total });
        }
        let percent = u64::from(self.free_percent.load(Ordering::Relaxed));
        Ok(Space {
            free: DISK_BYTES / 100 * percent,
            total: DISK_BYTES,
        })
    }

    fn needs(&self) -> u64 {
        match self.volume.space() {
            Some(_) => self.volume.sizes().needs_bytes(),
            None => 0,
        }
    }

    // What is kept is drawn.
    fn fit(&self, _: &mut Keep) {}

    fn restock(&self, _: u64, reserve: u64) {
        self.volume.restock(disks::ballast(&self.volume), reserve);
    }
}

/// Runs jobs at once: a thread of its own would not know virtual time.
struct Inline;

impl Background for Inline {
    fn run(&self, job: Box<dyn FnOnce() + Send>) {
        job();
    }
}
