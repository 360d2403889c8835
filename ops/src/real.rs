//! The world as it is: TCP, RocksDB, the system's clock, its random numbers, its disk.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use proto::net::faulty::{Faulty, Switch};
use proto::net::{Distances, FarTcp};
use raft::Keep;
use server::budget::Budget;
use server::world::{
    Background, DiskSpace, Entropy, Gauge, Metrics, NoDebug, NoStage, Space, Stage,
};
use server::{Config, World};
use store::Sizes;
use store::engine::rocks::{Memory, Rocks};

use crate::ballast::Ballast;
use crate::data_dir::{DataDir, Presence};
use crate::itself::Itself;
use crate::machine;
use crate::stage::Process;
use crate::tape::Files;
use crate::tls::{self, Own};

/// The world of a node whose data is in `directory`, which speaks TLS with `own`.
///
/// # Errors
/// When a database cannot be opened.
pub fn world(config: &Config, directory: &DataDir, own: Own) -> anyhow::Result<World> {
    let (raftdb_path, msgdb_path) = (directory.raftdb(), directory.msgdb());
    let mut disk = Disk::new(config, directory)?;
    disk.make_way().context("the ballast cannot be given up")?;
    let sizes = disk.sizes;
    let machine = machine::look().context("cannot see what this process may use")?;
    let budget = Budget::of(config, machine);
    let shares = budget.divide(0);
    let memory = |cache_bytes| Memory {
        cache_bytes,
        memtable_bytes: budget.log_memtable_bytes,
        files_max: budget.files,
    };
    let entropy = Os;
    let mut seed = [0; 8];
    entropy.fill(&mut seed).context("no random bytes")?;
    let cannot = |path: &Path| format!("cannot open {}", path.display());
    let raftdb = Rocks::open_log_with(&raftdb_path, memory(shares.log_cache_bytes), sizes)
        .with_context(|| cannot(&raftdb_path))?;
    let msgdb = Rocks::open_state_with(&msgdb_path, memory(shares.cache_bytes), sizes)
        .with_context(|| cannot(&msgdb_path))?;
    // In a fresh directory they have just been made.
    disk.presence = Some(directory.presence()?);
    let seed = u64::from_le_bytes(seed);
    let (network, stage): (_, Arc<dyn Stage>) = match config.drill.allowed {
        true => {
            let switch = Switch::new(seed);
            let network = Faulty::new(network(config), switch.clone());
            (network, Arc::new(Process::new(switch)))
        }
        false => (Faulty::never(network(config)), Arc::new(NoStage)),
    };
    Ok(World {
        network: Arc::new(tls::network(config, own, network)),
        stage,
        raftdb: Arc::new(raftdb),
        msgdb: Arc::new(msgdb),
        clock: Arc::new(Os),
        seed,
        entropy: Arc::new(entropy),
        pid: std::process::id(),
        gauge: Gauge::default(),
        metrics: Metrics::default(),
        process: Arc::new(Itself::default()),
        traces: crate::traces::of(config)?,
        console: Some(server::sight::console::router()),
        local: None,
        authority: None,
        tape: Arc::new(Files::of(directory.path())),
        debug: Arc::new(NoDebug),
        disk: Arc::new(disk),
        background: Arc::new(Os),
        machine,
    })
}

/// TCP, with the distances that the configuration makes up.
fn network(config: &Config) -> FarTcp {
    let delays = &config.network.delay_ms;
    let listen = config.listen.parse().ok();
    let listen = listen.map(|listen: SocketAddr| listen.ip());
    if delays.is_empty() {
        // Nodes of one machine know each other by their addresses, where these differ.
        let from = listen.filter(|ip| config.drill.allowed && ip.is_loopback());
        return FarTcp::from(from);
    }
    let late = |(address, ms): (&IpAddr, &u64)| (*address, Duration::from_millis(*ms));
    let distances = Distances {
        from: listen,
        delays: delays.iter().map(late).collect(),
    };
    FarTcp::new(distances)
}

/// The operating system.
struct Os;

impl raft::Clock for Os {
    fn unix_ms(&self) -> u64 {
        // A clock before 1970 is one that was never set.
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    #[cfg(target_os = "linux")]
    fn suspended(&self) -> Duration {
        use rustix::time::{ClockId, clock_gettime};
        let since_boot = |clock| {
            let time = clock_gettime(clock);
            let s = u64::try_from(time.tv_sec).unwrap_or(0);
            Duration::new(s, u32::try_from(time.tv_nsec).unwrap_or(0))
        };
        // Both begin at the boot, and only the first counts what the machine is suspended for. In this
        // order nothing is counted that is not so, if this thread must wait between the two.
        let boot = since_boot(ClockId::Boottime);
        boot.saturating_sub(since_boot(ClockId::Monotonic))
    }
}

impl Entropy for Os {
    fn fill(&self, bytes: &mut [u8]) -> io::Result<()> {
        getrandom::fill(bytes).map_err(io::Error::other)
    }
}

impl Background for Os {
    fn run(&self, job: Box<dyn FnOnce() + Send>) {
        // Without a thread the job is dropped, which whoever waits for it notices.
        if let Err(error) = std::thread::Builder::new()
            .name("background".into())
            .spawn(job)
        {
            tracing::warn!(%error, "no thread for a background job");
        }
    }
}

/// The file system that holds a data directory, and the directory.
struct Disk {
    path: PathBuf,
    /// What must stay where it is, once the databases are open.
    presence: Option<Presence>,
    /// How large the databases let things grow on it.
    sizes: Sizes,
    ballast: Ballast,
}

impl Disk {
    fn new(config: &Config, directory: &DataDir) -> anyhow::Result<Disk> {
        let path = directory.path();
        let total = space(path).context("the disk's room cannot be seen")?.total;
        let sizes = Sizes::of_disk(total);
        let kept = config.limits.disk_reserve.bytes(total, sizes.needs_bytes());
        // Who keeps nothing keeps no ballast.
        let usual = if kept > 0 { sizes.opening_bytes() } else { 0 };
        let bytes = config.limits.disk_ballast_bytes.unwrap_or(usual);
        Ok(Disk {
            path: path.to_owned(),
            presence: None,
            sizes,
            ballast: Ballast::new(path, bytes),
        })
    }

    /// Gives the ballast up where the databases might not find the room that opening them takes.
    fn make_way(&self) -> io::Result<()> {
        let free = self.space()?.free;
        if free >= self.sizes.opening_bytes() {
            return Ok(());
        }
        let mib = |bytes: u64| bytes >> 20;
        let (free_mib, given_mib) = (mib(free), mib(self.ballast.give_up()?));
        if given_mib > 0 {
            tracing::warn!(
                directory = %self.path.display(), free_mib, given_mib,
                "the disk is full: the ballast is given up so that the node can start and serve reads"
            );
        }
        Ok(())
    }
}

impl DiskSpace for Disk {
    fn space(&self) -> io::Result<Space> {
        space(&self.path)
    }

    fn needs(&self) -> u64 {
        self.sizes.needs_bytes()
    }

    fn fit(&self, keep: &mut Keep) {
        keep.flush_bytes = keep.flush_bytes.min(self.sizes.state_flush_bytes());
        keep.log_bytes_max = keep.log_bytes_max.min(self.sizes.log_kept_bytes());
    }

    fn restock(&self, free: u64, reserve: u64) {
        self.ballast.restock(free, reserve);
    }

    fn present(&self) -> Result<(), String> {
        self.presence.as_ref().map_or(Ok(()), Presence::check)
    }
}

fn space(directory: &Path) -> io::Result<Space> {
    let stats = fs2::statvfs(directory)?;
    Ok(Space {
        free: stats.available_space(),
        total: stats.total_space(),
    })
}
