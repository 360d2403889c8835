//! What an operator sees of a node and of its cluster.
//!
//! ```text
//!   services ─► traffic ─┐
//!   canary ─► health ────┼─► local ─► Admin.GetStatus ─► view, verdict ─► api (JSON), `firebreak status`
//!   raft, store, budget ─┘       └──► metrics (Prometheus) ─► alerts
//! ```
//!
//! All of it is of this node and of those that answer it: it needs no quorum and no leader.

pub mod alerts;
pub mod api;
pub mod console;
pub mod happened;
pub mod health;
pub mod http;
pub mod local;
pub mod login;
pub mod metrics;
pub mod outages;
pub mod rates;
pub mod report;
pub mod resources;
pub mod traces;
pub mod traffic;
pub mod verdict;
pub mod view;
