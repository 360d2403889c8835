//! The simulator: the very same `server`, `raft`, `store` and `client` in virtual time.
//!
//! ```text
//!  Scenario ─► run ─► net::Field (turmoil): hosts, links, virtual time ─► Report ─► exit code
//!               │        ├─ host × n   server::node::{init, join, run} on two memory disks
//!               │        └─ client     load (the Rust client) ─► ledger
//!               └─ timeline: burn, return                          │
//!                                        readback + judge ◄────────┘
//! ```
//!
//! What is swapped is what [`server::World`] names and nothing else: the network ([`net`]), the
//! wall clock, entropy, the databases' disks and where long reads run ([`host`]).
//!
//! # Fault model
//!
//! - **Fire**: every host of a data center falls silent in one instant. No FIN, no RST and no
//!   refused connection leaves it: its links are cut first, connections opened to it hang until
//!   they time out, and only then do its hosts stop.
//! - **Power cut**: the hosts of a burned data center come back with their disks. `raftdb` keeps
//!   all that was synced and a drawn prefix of the batches that were not; `msgdb`, which has no
//!   write-ahead log, keeps only what was flushed.
//! - **Slow**: links take whole milliseconds with jitter, a sync takes 1 to 4 ms, drawn per disk.
//! - **Chance**: all of these, and the load, are drawn from one seed.
//!
//! # Not simulated yet
//!
//! - Partitions that leave hosts running, lossy, slow or asymmetric links, connections that are
//!   reset. turmoil sends nothing again after a cut, so a cut that heals under live connections
//!   would be harsher than TCP is; a fire ends both sides' connections.
//! - A handshake's way back: turmoil completes a connect as soon as the other side accepts it.
//! - Bandwidth. CPU time: virtual time stands still while code runs.
//! - Disks that fail, fill, hang, forget what was synced, or come back old or empty. RocksDB.
//! - Clocks that drift or jump; processes that pause.
//! - **Runs are seeded but not proved equal bit for bit**: hash maps inside dependencies and
//!   openraft's own randomness are still seeded by the operating system. The same seed draws the
//!   same faults and the same load, and mostly, but not always, the same run.

pub mod catalogue;
pub mod dice;
pub mod history;
pub mod host;
pub mod interpose;
pub mod net;
pub mod oracle;
pub mod outcome;
pub mod plan;
<<<<<<< HEAD
=======
pub mod readback;
pub mod report;
pub mod reports;
>>>>>>> h-report
pub mod run;
pub mod trace;
pub mod watch;
pub mod workload;

pub use outcome::{Outcome, Verdict};
pub use plan::Plan;
pub use run::run;
