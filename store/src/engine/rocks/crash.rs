//! What crashes leave of a database's files; for tests and for the simulator.
//!
//! RocksDB syncs its tables and its manifest itself, in an order that any moment can be cut at. So
//! what a power cut takes is a tail of the write-ahead log: of `raftdb` what was written after the
//! last sync, of `msgdb`, which has no such log, nothing that is in a file.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::files::beside;

/// How often a directory is copied anew because RocksDB changed it meanwhile.
const COPIES_MAX: usize = 1_000;

/// The lengths of the write-ahead log's files, bytes, in the order in which they were written.
pub type LogLengths = BTreeMap<String, u64>;

/// How long the files of the write-ahead log are now. Right behind a completed sync this is what
/// the sync made durable. Empty when there is no database.
///
/// # Errors
/// When the disk refuses.
pub fn log_lengths(database: &Path) -> io::Result<LogLengths> {
    let listed = listed(database)?.into_iter();
    let named =
        listed.filter_map(|(path, bytes)| Some((path.file_name()?.to_str()?.into(), bytes)));
    Ok(named
        .filter(|(name, _): &(String, u64)| name.ends_with(".log"))
        .collect())
}

/// Cuts the write-ahead log of a closed database as a power cut does: it keeps `synced` and of the
/// bytes behind it the first few. `keep` is told how many bytes are not synced and says how many
/// stay.
///
/// # Errors
/// When the disk refuses.
pub fn cut_log(
    database: &Path,
    synced: &LogLengths,
    keep: impl FnOnce(u64) -> u64,
) -> io::Result<()> {
    let safe = |name: &str, bytes: u64| synced.get(name).copied().unwrap_or(0).min(bytes);
    let lengths = log_lengths(database)?;
    let unsynced = lengths
        .iter()
        .map(|(name, bytes)| bytes - safe(name, *bytes));
    let mut left = keep(unsynced.sum());
    for (name, bytes) in lengths {
        let safe = safe(&name, bytes);
        let stays = left.min(bytes - safe);
        left -= stays;
        let file = fs::OpenOptions::new()
            .write(true)
            .open(database.join(name))?;
        file.set_len(safe + stays)?;
    }
    Ok(())
}

/// Copies a database and its kept files as they are at one moment, also while it is open. Nothing
/// is copied when there is none at `from`; at `to` there must be none.
///
/// # Errors
/// When the disk refuses, or the database does not come to rest.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    copy_files(from, to)?;
    copy_files(&beside(from, ".kept"), &beside(to, ".kept"))
}

/// Copies the files of a directory until nothing changed meanwhile: RocksDB removes some in the
/// background.
fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    if !from.exists() {
        return Ok(());
    }
    let copied = || -> io::Result<bool> {
        let before = listed(from)?;
        for (path, _) in &before {
            fs::copy(path, to.join(path.file_name().unwrap_or_default()))?;
        }
        Ok(listed(from)? == before)
    };
    for _ in 0..COPIES_MAX {
        fs::create_dir_all(to)?;
        match copied() {
            Ok(true) => return Ok(()),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(false) | Err(_) => fs::remove_dir_all(to)?,
        }
    }
    let why = format!("{} does not come to rest", from.display());
    Err(io::Error::other(why))
}

/// The files of a directory and their lengths, sorted; none when there is no directory.
fn listed(directory: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        match entry.metadata() {
            Ok(data) => found.push((entry.path(), data.len())),
            // Removed just now.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    found.sort();
    Ok(found)
}
