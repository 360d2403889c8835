//! What a node takes from the world around it. Nothing in this crate finds time, chance, disk or
//! network anywhere else, so that the simulator can bend all of them.

use std::io;
use std::sync::Arc;

use futures::stream::BoxStream;
use proto::net::AnyNetwork;
use raft::{Clock, Keep};
use store::engine::Engine;

pub use crate::budget::Machine;
pub use crate::drill::faults::{NoStage, Stage};
pub use crate::memory::Gauge;
pub use crate::recorder::tape::{self, Tape};
pub use crate::sight::metrics::{Metrics, Process, ProcessFigures};
pub use crate::sight::traces::{Spans, Traces};

/// The world of one node.
pub struct World {
    /// Listens and dials.
    pub network: Arc<dyn AnyNetwork>,
    /// The database of Raft logs and hard states: synced.
    pub raftdb: Arc<dyn Engine>,
    /// The database of the shards' state: no write-ahead log.
    pub msgdb: Arc<dyn Engine>,
    /// Wall-clock time, for message times only.
    pub clock: Arc<dyn Clock>,
    /// Seed of choices that nobody must be unable to guess: backoff, election times.
    pub seed: u64,
    /// Bytes that nobody may guess: ids, the join token, the boot nonce.
    pub entropy: Arc<dyn Entropy>,
    /// The room on the disk of the data directory.
    pub disk: Arc<dyn DiskSpace>,
    /// Where long reads of the disk run.
    pub background: Arc<dyn Background>,
    /// The process's id, which status tells operators.
    pub pid: u32,
    /// What the machine gives to this process.
    pub machine: Machine,
    /// Where it lets others look at what it keeps in memory.
    pub gauge: Gauge,
    /// Where it lets others read its metrics.
    pub metrics: Metrics,
    /// What its process takes of the machine.
    pub process: Arc<dyn Process>,
    /// Where traced calls are told.
    pub traces: Traces,
    /// The pages of the console, where the program has them.
    pub console: Option<axum::Router>,
    /// Where the flight recorder writes.
    pub tape: Arc<dyn Tape>,
    /// What its process knows of itself, for `firebreak debug bundle`.
    pub debug: Arc<dyn Debug>,
    /// What drills can do to its process.
    pub stage: Arc<dyn Stage>,
    /// Connections of operators on this machine, who are let in whatever keys and certificates say.
    pub local: Option<LocalConnections>,
    /// Who signs certificates of nodes that join, where this node may.
    pub authority: Option<Arc<dyn Authority>>,
}

/// Signs certificates of nodes that join.
pub trait Authority: Send + Sync + 'static {
    /// Signs what a node asks for (PKCS #10, DER), in its name and for its host. Reads small files.
    ///
    /// # Errors
    /// Why not, for people: what is asked for is no request, or this node's files are of no use.
    fn sign(&self, name: &str, host: &str, request: &[u8]) -> Result<Certificates, String>;
}

/// A signed certificate, and whom to trust with it; both PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificates {
    /// The node's.
    pub own: String,
    /// The authorities'.
    pub authorities: String,
}

/// Accepted connections of the node's local socket.
pub type LocalConnections = BoxStream<'static, io::Result<tokio::net::UnixStream>>;

/// What only a node's process knows of itself: its log lines, its databases' own logs, its limits.
pub trait Debug: Send + Sync + 'static {
    /// The files there are, by plain names; those that a slow disk cannot hold up come first.
    fn files(&self) -> &'static [&'static str];

    /// Reads a file, or its last `bytes_max` bytes. May wait for a disk.
    ///
    /// # Errors
    /// As the disk has; [`io::ErrorKind::NotFound`] for a file that is none of [`Debug::files`].
    fn read(&self, file: &str, bytes_max: u64) -> io::Result<Piece>;
}

/// The end of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Its last bytes.
    pub data: Vec<u8>,
    /// Bytes in front of them, which are left out.
    pub left_out_bytes: u64,
}

/// A process that tells nothing, as a simulated node's.
pub struct NoDebug;

impl Debug for NoDebug {
    fn files(&self) -> &'static [&'static str] {
        &[]
    }

    fn read(&self, _: &str, _: u64) -> io::Result<Piece> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// Runs what would hold up everything else: in production on a thread of its own, in the
/// simulator at once.
pub trait Background: Send + Sync + 'static {
    /// Runs `job`, now or soon.
    fn run(&self, job: Box<dyn FnOnce() + Send>);
}

/// Unguessable bytes.
pub trait Entropy: Send + Sync + 'static {
    /// Fills `bytes`.
    ///
    /// # Errors
    /// When the system has none.
    fn fill(&self, bytes: &mut [u8]) -> io::Result<()>;
}

/// The room on a disk.
pub trait DiskSpace: Send + Sync + 'static {
    /// Looks now; called ten times a second, so it must be quick.
    ///
    /// # Errors
    /// When the file system does not answer.
    fn space(&self) -> io::Result<Space>;

    /// Whether what the node works in is still where it was; called each second too. What is written
    /// into a folder that was removed is lost with the process.
    ///
    /// # Errors
    /// What is gone, in words.
    fn present(&self) -> Result<(), String> {
        Ok(())
    }

    /// What the databases may need at once for work that must not fail.
    fn needs(&self) -> u64;

    /// Fits what is kept to the disk.
    fn fit(&self, keep: &mut Keep);

    /// There is room, `free` in all of which `reserve` is kept: what was given up so that the node
    /// could start may be made again.
    fn restock(&self, free: u64, reserve: u64);
}

/// The room on a disk at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that can be written.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
}
