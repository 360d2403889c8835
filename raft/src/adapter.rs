//! What openraft asks of us, and what is known of its entries, votes and members.

pub(crate) mod acks;
pub(crate) mod copy;
pub(crate) mod fault;
pub(crate) mod incarnation;
pub(crate) mod log_store;
pub(crate) mod network;
pub(crate) mod runtime;
pub(crate) mod snapshot;
pub(crate) mod state_machine;
pub(crate) mod told;
pub(crate) mod trust;
pub(crate) mod types;
pub(crate) mod vote_log_ends;
