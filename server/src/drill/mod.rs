//! Drills: a data center burns on purpose, on the live cluster, and ends by itself.
//!
//! ```text
//!  scenario ─► Plan ─► preflight ─► rehearse ─► approve ─► run ─► verify ─► report, certificate
//!                │                     │                    │
//!                │                  Rehearsal               │  Faults of each node, with a time to live
//!                └──── what the meta shard keeps ───────────┴─► Paper: all that was seen
//! ```
//!
//! Here is what all parts share: the plan, the rehearsal, the paper and its [`certificate`]; and the
//! [`faults`] of a node.

pub mod certificate;
pub mod check;
pub mod faults;
pub mod live;
pub mod paper;
pub mod plan;
pub mod rehearsal;
pub mod sign;
pub mod verb;
