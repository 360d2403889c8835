//! A damaged block that a compaction meets stops RocksDB, and would again after each start, although all
//! other records are sound. So the next opening copies those into a new database, which takes the place
//! of the old one, and notes what is lost ([`crate::key::lost`]).
//!
//! ```text
//!   a compaction fails: Corruption ─► NAME.damaged ─► the node stops
//!   opening: old, read only ─► NAME.salvage (records, notes; synced) ─► NAME.salvaged
//!     ─► NAME is removed, NAME.salvage becomes NAME ─► NAME.damaged, NAME.salvaged are removed
//! ```
//!
//! Before `NAME.salvaged` is there a crash leaves the old database, and the copy is made again; from then
//! on the new one is whole, and the steps behind it are repeated.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use model::limits;
use rocksdb::{DB, Direction, IteratorMode, Options, WriteBatch, WriteOptions};

use super::files::beside;
use super::{from_io, from_rocks};
use crate::Error;
use crate::key::lost;

/// Bytes copied with one write.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Bytes copied into one file.
const FLUSH_BYTES: usize = 64 * 1024 * 1024;
/// Of RocksDB's log file, what its last words are looked for in.
const LOG_TAIL_BYTES: usize = 64 * 1024;

/// What RocksDB says of a background error, if it is that a block is damaged; then it is noted that the
/// next opening must salvage.
pub(super) fn is_needed(path: &Path) -> Option<String> {
    let log = fs::read(path.join("LOG")).ok()?;
    let tail = &log[log.len().saturating_sub(LOG_TAIL_BYTES)..];
    let tail = String::from_utf8_lossy(tail);
    let line = tail
        .lines()
        .rev()
        .find(|line| line.contains("Corruption:"))?;
    let said = &line[line.find("Corruption:")?..];
    let said = said.split(", Accumulated").next().unwrap_or(said);
    let noted = note(&beside(path, ".damaged"));
    if let Err(error) = noted {
        tracing::error!(path = %path.display(), %error, "it cannot be noted that a block is damaged");
    }
    Some(said.to_owned())
}

/// Copies what is sound, if the last process has noted that a block is damaged.
pub(super) fn if_needed(path: &Path, options: &Options) -> Result<(), Error> {
    let (damaged, salvaged) = (beside(path, ".damaged"), beside(path, ".salvaged"));
    if !damaged.exists() {
        return Ok(());
    }
    let copy = beside(path, ".salvage");
    if !salvaged.exists() {
        tracing::warn!(path = %path.display(), "copying what can be read of a damaged database");
        remove(&copy)?;
        let lost = copy_sound(path, &copy, options)?;
        note(&salvaged)?;
        tracing::warn!(path = %path.display(), lost, "the database is copied, but for damaged ranges");
    }
    if copy.exists() {
        remove(path)?;
        fs::rename(&copy, path).map_err(|error| from_io("rename", &copy, &error))?;
        sync_parent(path)?;
    }
    for file in [damaged, salvaged] {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(from_io("remove", &file, &error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    sync_parent(path)
}

/// Copies all records that lie together with none that cannot be read; gives how many groups are lost.
fn copy_sound(from: &Path, to: &Path, options: &Options) -> Result<usize, Error> {
    let refused = |path: &Path, error: &rocksdb::Error| from_rocks("salvage", path, error, &[]);
    let old = DB::open_for_read_only(options, from, false).map_err(|e| refused(from, &e))?;
    let new = DB::open(options, to).map_err(|e| refused(to, &e))?;
    let mut writes = WriteOptions::default();
    writes.disable_wal(true);
    let mut lost_groups = 0;
    let mut next: Vec<u8> = Vec::new();
    while let Some(last) = copy_from(&old, &new, &next, &writes).map_err(|e| refused(to, &e))? {
        let groups = damaged(&old, &last);
        let Some(end) = groups.last().and_then(|group| behind(group)) else {
            break;
        };
        let mut batch = WriteBatch::default();
        for group in &groups {
            // What was copied of it lies beside what is lost.
            let end = behind(group).unwrap_or_default();
            batch.delete_range(group.as_slice(), end.as_slice());
            batch.put(lost::note(group), b"");
        }
        new.write_opt(batch, &writes).map_err(|e| refused(to, &e))?;
        lost_groups += groups.len();
        next = end;
    }
    new.flush().map_err(|e| refused(to, &e))?;
    drop(new);
    sync_parent(to)?;
    Ok(lost_groups)
}

/// Copies from a key on. Gives the last key before what cannot be read; `None` when everything could.
fn copy_from(
    old: &DB,
    new: &DB,
    from: &[u8],
    options: &WriteOptions,
) -> Result<Option<Vec<u8>>, rocksdb::Error> {
    let mut batch = WriteBatch::default();
    let mut last = from.to_vec();
    let mut unflushed = 0;
    for record in old.iterator(IteratorMode::From(from, Direction::Forward)) {
        let Ok((key, value)) = record else {
            new.write_opt(batch, options)?;
            return Ok(Some(last));
        };
        batch.put(&key, &value);
        last = key.into_vec();
        if batch.size_in_bytes() >= BATCH_BYTES {
            unflushed += batch.size_in_bytes();
            new.write_opt(std::mem::take(&mut batch), options)?;
        }
        // The memtable of a state is never full by itself.
        if unflushed >= FLUSH_BYTES {
            new.flush()?;
            unflushed = 0;
        }
    }
    new.write_opt(batch, options)?;
    Ok(None)
}

/// The groups that the damaged block behind a key may have records of. An iterator says only that the
/// next record cannot be read, not where it lies; but from behind the block it can go on.
fn damaged(old: &DB, last: &[u8]) -> Vec<Vec<u8>> {
    let (mut low, mut high) = (number(last), u64::MAX >> 24);
    // What is asked for from `low` on begins in the block, from `high` on behind it.
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        let from = key_of(middle);
        let mut found = old.iterator(IteratorMode::From(&from, Direction::Forward));
        match found.next() {
            Some(Err(_)) => low = middle,
            Some(Ok(_)) | None => high = middle,
        }
    }
    let upto = lost::group(&key_of(low)).to_vec();
    let mut group = lost::group(&key_of(number(last))).to_vec();
    // The block may begin with the next group, but nothing tells that for certain: this one counts as lost.
    let mut groups = Vec::new();
    while group < upto {
        let next = next_group(&group);
        groups.push(std::mem::replace(&mut group, next));
    }
    groups.push(upto);
    groups
}

/// The first five bytes of a key as a number: as many as a group has.
fn number(key: &[u8]) -> u64 {
    let first = key.iter().chain(&[0; 5]).take(5);
    first.fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn key_of(number: u64) -> Vec<u8> {
    number.to_be_bytes()[3..].to_vec()
}

/// The group behind one, in a table of so many that can be; then the first of the next table.
fn next_group(group: &[u8]) -> Vec<u8> {
    let shard = group.get(1..5).and_then(|shard| shard.try_into().ok());
    let known = lost::TABLES.contains(&group[0]);
    let many = shard.is_some_and(|shard| u32::from_be_bytes(shard) >= limits::SHARDS_MAX);
    let next = match many || !known {
        true => vec![group[0].saturating_add(1)],
        false => behind(group).unwrap_or_default(),
    };
    lost::group(&key_of(number(&next))).to_vec()
}

/// The first key behind all that begin with these bytes.
fn behind(group: &[u8]) -> Option<Vec<u8>> {
    let mut end = group.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

fn note(path: &Path) -> Result<(), Error> {
    let file = fs::File::create(path).map_err(|error| from_io("create", path, &error))?;
    file.sync_all()
        .map_err(|error| from_io("sync", path, &error))?;
    sync_parent(path)
}

fn remove(directory: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(from_io("remove", directory, &error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn sync_parent(path: &Path) -> Result<(), Error> {
    let Some(parent) = path.parent().filter(|parent| *parent != Path::new("")) else {
        return Ok(());
    };
    fs::File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| from_io("sync", parent, &error))
}
