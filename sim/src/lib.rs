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
pub mod catalogue;
pub mod dice;
pub mod history;
pub mod host;
pub mod interpose;
pub mod net;
pub mod oracle;
pub mod outcome;
pub mod plan;
pub mod reports;
pub mod run;
pub mod shrink;
pub mod trace;
pub mod watch;
pub mod workload;

pub use outcome::{Outcome, Verdict};
pub use plan::Plan;
pub use run::run;
