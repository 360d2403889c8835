//! The subcommands, one file each.

pub mod audit;
pub mod cert;
pub mod changes;
pub mod drain;
pub mod drill;
pub mod erase;
pub mod export;
pub mod forget;
pub mod generate;
pub mod import;
pub mod init;
pub mod issuer;
pub mod join;
pub mod key;
pub mod map;
pub mod members;
pub mod outage;
pub mod outages;
pub mod policy;
pub mod promises;
pub mod read;
pub mod rehearsed;
pub mod retention;
pub mod serve;
pub mod shard;
pub mod sim;
pub mod status;
pub mod tail;
pub mod target;
pub mod tenant;
pub mod token;
pub mod train;
pub mod verify;
pub mod whatif;

use std::future::Future;

use anyhow::Context as _;

/// Runs a subcommand on a runtime of its own.
///
/// # Errors
/// What the subcommand gives; or that threads cannot be started.
pub fn block_on<T>(run: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime's threads")?
        .block_on(run)
}
