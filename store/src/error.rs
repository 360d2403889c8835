//! What can go wrong with a disk.

use thiserror::Error as ThisError;

/// An error of the store. None of them may be retried: the caller stops the shard's replica
/// ([`Error::Corrupt`]) or the node (all others).
#[derive(Clone, Debug, ThisError)]
pub enum Error {
    /// What was read back is not what was written. Only this shard's replica must stop.
    #[error("corrupt record in {file}, key {key}: {reason}")]
    Corrupt {
        /// The database or file.
        file: String,
        /// The key, readable.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A write-ahead log is damaged where it was synced: the node does not start from it.
    #[error(
        "the write-ahead log {file} is damaged at byte {offset} ({reason}): what was acknowledged may be missing, \
         so this disk is not started from. Remove this node through another one (`firebreak node remove NAME`), \
         wipe its data directory and join under a new name; the other replicas have it all"
    )]
    Damaged {
        /// The log's file.
        file: String,
        /// Where its first unreadable record begins, bytes.
        offset: u64,
        /// What the database said.
        reason: String,
    },
    /// The disk or the database refused; the node must stop.
    #[error("{operation} failed in {file}: {reason}")]
    Disk {
        /// What was tried.
        operation: &'static str,
        /// The database or file.
        file: String,
        /// What it said.
        reason: String,
    },
    /// No room left; the node must stop, and can start again for reads.
    #[error("no space left in {file}")]
    NoSpace {
        /// The database or file.
        file: String,
    },
    /// Written by a later version.
    #[error("{file} holds format {found}, this version reads up to {known}")]
    Format {
        /// The database or file.
        file: String,
        /// The format found.
        found: u32,
        /// The latest format this version reads.
        known: u32,
    },
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        std::io::Error::other(error)
    }
}
