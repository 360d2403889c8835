//! One shard's replica on this node, and what it keeps: nothing here knows of a task or of other shards.

pub(crate) mod age;
pub(crate) mod batcher;
pub(crate) mod group;
pub(crate) mod incoming;
pub(crate) mod leaders;
pub(crate) mod questions;
pub(crate) mod read;
pub(crate) mod sleep;
