//! A write-ahead log whose last batch was torn by a power cut.
//!
//! RocksDB cuts off an incomplete last record by itself, but not one whose length reached the disk
//! while some of its sectors did not: that reads as a wrong checksum, and the database refuses to
//! open. Recovery modes that go on regardless would also cut acknowledged entries after a flipped
//! bit. So the two are told apart here, from what is known of this log: it has one writer that
//! syncs each batch before it writes the next, and its files are never recycled.
//!
//! - The last batch is torn when it holds a sector of zeros, which is how a sector reads that was
//!   never written, and no batch begins after it. It was not synced; it is cut off.
//! - Everything else is damage, and the error stands.
//!
//! Format: <https://github.com/facebook/rocksdb/wiki/Write-Ahead-Log-File-Format>, blocks of
//! 32 KiB with records `[masked crc32c u32][length u16][type u8][payload]`, little-endian.

use std::fs;
use std::path::{Path, PathBuf};

use super::from_io;
use crate::Error;

const BLOCK_BYTES: usize = 32 * 1024;
const HEADER_BYTES: usize = 7;
const SECTOR_BYTES: usize = 512;

const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// Cuts a torn last batch off the newest write-ahead log in `database`. Says how many bytes it cut,
/// `None` when there is no such thing.
pub(super) fn cut_off(database: &Path) -> Result<Option<u64>, Error> {
    let mut logs = logs(database)?;
    while let Some(path) = logs.pop() {
        let bytes = fs::read(&path).map_err(|error| from_io("read", &path, &error))?;
        if bytes.iter().all(|byte| *byte == 0) {
            continue;
        }
        let Some(start) = torn_from(&bytes) else {
            return Ok(None);
        };
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|file| {
                file.set_len(start as u64)?;
                file.sync_all()
            })
            .map_err(|error| from_io("cut off a torn batch", &path, &error))?;
        return Ok(Some((bytes.len() - start) as u64));
    }
    Ok(None)
}

/// The first record of the write-ahead logs in `database` that cannot be read: its file, and where it
/// begins.
pub(super) fn first_damage(database: &Path) -> Result<Option<(PathBuf, u64)>, Error> {
    for path in logs(database)? {
        let bytes = fs::read(&path).map_err(|error| from_io("read", &path, &error))?;
        let mut at = 0;
        while at + HEADER_BYTES <= bytes.len() {
            let block_end = bytes.len().min((at / BLOCK_BYTES + 1) * BLOCK_BYTES);
            if block_end - at < HEADER_BYTES {
                at = block_end;
                continue;
            }
            match record(&bytes[at..block_end]) {
                Some((_, len)) => at += len,
                None => return Ok(Some((path, at as u64))),
            }
        }
    }
    Ok(None)
}

/// The write-ahead logs in `database`, oldest first.
fn logs(database: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |error: std::io::Error| from_io("read", database, &error);
    let mut logs = Vec::new();
    for entry in fs::read_dir(database).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let number = path
            .file_stem()
            .and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        if let (Some(number), Some("log")) = (number, path.extension().and_then(|e| e.to_str())) {
            logs.push((number, path));
        }
    }
    logs.sort();
    Ok(logs.into_iter().map(|(_, path)| path).collect())
}

/// Where the torn last batch of a write-ahead log begins; `None` when nothing is torn, or when it
/// is damage of another kind.
fn torn_from(log: &[u8]) -> Option<usize> {
    let mut at = 0;
    // Where the batch being read began.
    let mut batch = None;
    let mut torn = None;
    while at + HEADER_BYTES <= log.len() {
        let block_end = log.len().min((at / BLOCK_BYTES + 1) * BLOCK_BYTES);
        if block_end - at < HEADER_BYTES {
            at = block_end;
            continue;
        }
        let Some((kind, end)) = record(&log[at..block_end]) else {
            torn = torn.or(Some(batch.unwrap_or(at)));
            // The next place where a record begins for certain.
            at = block_end;
            continue;
        };
        if matches!(kind, FULL | FIRST) {
            if torn.is_some() {
                return None;
            }
            batch = Some(at);
        }
        at += end;
        if matches!(kind, FULL | LAST) {
            batch = None;
        }
    }
    torn.filter(|start| has_unwritten_sector(log, *start))
}

/// The kind and length of the whole record at the beginning of what is left of a block.
fn record(block: &[u8]) -> Option<(u8, usize)> {
    let (header, rest) = block.split_at_checked(HEADER_BYTES)?;
    let stored = u32::from_le_bytes(header[..4].try_into().ok()?);
    let len = usize::from(u16::from_le_bytes([header[4], header[5]]));
    let kind = header[6];
    let payload = rest.get(..len)?;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload);
    let masked = crc.rotate_right(15).wrapping_add(0xa282_ead8);
    (masked == stored && matches!(kind, FULL..=LAST)).then_some((kind, HEADER_BYTES + len))
}

/// Whether a whole sector behind `start` is zero, or the rest of the file is.
fn has_unwritten_sector(log: &[u8], start: usize) -> bool {
    let first = start.next_multiple_of(SECTOR_BYTES).min(log.len());
    let zero = |bytes: &[u8]| !bytes.is_empty() && bytes.iter().all(|byte| *byte == 0);
    log[first..].chunks(SECTOR_BYTES).any(zero)
}

const _: () = assert!(MIDDLE < LAST && BLOCK_BYTES.is_multiple_of(SECTOR_BYTES));
