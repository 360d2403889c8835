//! The simulator: the very same `server`, `raft`, `store` and `client` in virtual time.
//!
//! ```text
//!  catalogue: file + seed ─► Plan ─► run ─► net::Field, a step at a time
//!                                     │        ├─ host × n   server::node on two memory disks
//!                                     │        ├─ site × n   workload: the real client library
//!                                     │        └─ operator   looks, probes, reads everything back
//!                                     └─ timeline of faults        │
//!      Outcome ◄── oracle::judge ◄── History (clients) + Observed (watch: disks) ◄┘
//!         └─► reports
//! ```
//!
//! What is swapped is what [`server::World`] names and nothing else: the network ([`net`]), the
//! wall clock, entropy, the databases' disks and where long reads run ([`host`]). Chance and clocks
//! that dependencies take from the C library are taken over by [`interpose`], so that the same
//! [`Plan`] makes the same run; [`trace`] is how that is checked. Why it is built so:
//! docs/internals/simulator.md.
//!
//! # Fault model
//!
//! - *Machines* burn and lose power in one silent instant; crash behind living switches, which
//!   reset; are killed, asked to stop, stopped and continued (SIGSTOP: the kernel goes on accepting
//!   and buffering). A node that stops by itself is started again after 1 s.
//! - *Disks*: a power cut leaves all that was synced, a drawn prefix of the rest of `raftdb`, and of
//!   `msgdb` what was flushed. Syncs are slow, hang or fail; disks fill up; a bit flips in the log, a
//!   vote, the state or a snapshot, and checksums find it; disks are wiped, or old ones come back.
//!   After a failed sync the disk goes on, unlike RocksDB.
//! - *Connections* behave as TCP's: bytes in order, lost ones sent again from 200 ms on with Linux's
//!   backoff, given up after 60 s. Each direction of each link has latency, jitter, loss and
//!   bandwidth. Cuts swallow or reset, one way or both ways; a handshake needs both.
//! - *Clocks* of a machine: its wall clock jumps; all its clocks run fast or slow; its monotonic clock
//!   stands still while it is suspended, and the machine knows for how long, or does not.
//! - *Clients* resend, move between data centers and come back all at once; those inside a data center
//!   share its fate.
//! - *Tasks*: machines take their turns in an order drawn for each step, and openraft's tasks let
//!   others go first now and then.
//!
//! # What is not simulated
//!
//! - *Threads.* A node runs on one thread, and its background jobs run inline: no data races, no lock
//!   that is held across cores. The tests in `tests/` run real processes.
//! - *The cost of computing.* Code takes no virtual time, so nothing is slow by load, and no queue
//!   grows because a core is busy. `firebreak bench` measures that.
//! - *Time below a step*: 1 ms on the gRPC tier, 4 ms on the direct one. Arrivals are ordered by the
//!   microsecond, but machines see them at the end of a step.
//! - *RocksDB's own code*: compaction, stalls, its files. `store/tests/differential.rs` shows that the
//!   memory disk allows whatever RocksDB recovers to.
//! - *Lying disks*: a sync that was acknowledged is durable, and damage never passes a checksum.
//!   Reads take no time and have no bandwidth.
//! - *The rest of TCP/IP*: congestion control, DNS, TLS, NAT, packets that arrive twice or altered.
//!   On the direct tier HTTP/2 too, and its flow control for each call.
//! - *Memory and descriptors* never run out.
//! - *Malice*: nodes crash, stand still and err about the time, but follow the protocol.
//! - *Clients' machines* have no clocks of their own to go wrong.

pub mod alarms;
pub mod catalogue;
pub mod dice;
pub mod drill;
pub mod history;
pub mod host;
pub mod interpose;
pub mod net;
pub mod night;
pub mod oracle;
pub mod outcome;
pub mod plan;
pub mod reigns;
pub mod reports;
pub mod run;
pub mod shrink;
pub mod trace;
pub mod train;
pub mod watch;
pub mod workload;

pub use outcome::{Outcome, Verdict};
pub use plan::Plan;
pub use run::{record, run, train as run_training};
