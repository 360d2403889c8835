//! The recorder's files: a ring of segments, the oldest of which goes when there are too many bytes.
//!
//! ```text
//!   segment  "FBREC" version 0 0 │ frame │ frame │ …        the first frames: who, and the cluster
//!   frame    length u32 │ CRC-32C of the payload u32 │ payload: a `Record`, protobuf    (little endian)
//! ```
//!
//! Nothing is synced: a process that is killed loses what it had not written, and a power cut also what
//! the system had not. So a file may end within a frame; that and what is behind it is skipped and
//! counted. Each start begins a new file, so that nothing is ever written behind a torn end.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use prost::Message as _;
use proto::v1::Record;
use proto::v1::record::What;

use super::tape::Tape;

/// What a file begins with: the name of the format, and its version.
pub const MAGIC: [u8; 8] = *b"FBREC\x01\0\0";
/// Where a file ends and the next one begins, bytes.
pub const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;
/// The largest record, bytes.
pub const RECORD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Files that are kept, however small they are.
const SEGMENTS_MAX: usize = 512;
/// Of a file, what tells when it begins.
const HEAD_BYTES: usize = 256 * 1024;
/// Of a frame, in front of its payload.
const FRAME_HEAD: usize = 8;
/// Shards whose leaders before are told.
const HEAD_MAX: usize = 8_192;
/// By how much clocks may have moved between two files, ms.
const SLACK_MS: u64 = 10 * 60_000;

/// The writing end.
pub struct Ring {
    tape: Arc<dyn Tape>,
    bytes_max: u64,
    /// What there is, once it has been looked at.
    segments: Option<BTreeMap<u64, u64>>,
    /// The file that is written to.
    open: Option<u64>,
}

impl Ring {
    /// Of these files, `bytes_max` in all at most.
    pub fn new(tape: Arc<dyn Tape>, bytes_max: u64) -> Ring {
        Ring {
            tape,
            bytes_max,
            segments: None,
            open: None,
        }
    }

    /// Writes records; `head` goes in front where they begin a file.
    ///
    /// # Errors
    /// As the disk has. The next call begins a new file then.
    pub fn append(&mut self, head: &[Record], records: &[Record]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for record in records {
            frame(record, &mut bytes);
        }
        let written = self.write(head, bytes);
        if written.is_err() {
            (self.open, self.segments) = (None, None);
        }
        written
    }

    fn write(&mut self, head: &[Record], bytes: Vec<u8>) -> io::Result<()> {
        let tape = self.tape.clone();
        let segments = match &mut self.segments {
            Some(segments) => segments,
            None => self.segments.insert(tape.segments()?),
        };
        let size = self.open.and_then(|open| segments.get(&open).copied());
        let (segment, bytes) = match (self.open, size) {
            (Some(open), Some(size))
                if size + bytes.len() as u64 <= segment_bytes(self.bytes_max) =>
            {
                (open, bytes)
            }
            _ => {
                let next = segments.keys().next_back().map_or(1, |last| last + 1);
                let mut whole = MAGIC.to_vec();
                head.iter().for_each(|record| frame(record, &mut whole));
                whole.extend(bytes);
                (next, whole)
            }
        };
        // First, so that the bound holds at every moment.
        let has: u64 = segments.values().sum();
        let mut over = (has + bytes.len() as u64).saturating_sub(self.bytes_max);
        while over > 0 || segments.len() >= SEGMENTS_MAX {
            let oldest = segments
                .first_key_value()
                .map(|(number, size)| (*number, *size));
            let Some((oldest, size)) = oldest.filter(|(oldest, _)| *oldest != segment) else {
                break;
            };
            tape.remove(oldest)?;
            segments.remove(&oldest);
            over = over.saturating_sub(size);
        }
        tape.append(segment, &bytes)?;
        *segments.entry(segment).or_default() += bytes.len() as u64;
        self.open = Some(segment);
        Ok(())
    }
}

/// A small ring has small files, so that what goes is a part of it.
fn segment_bytes(bytes_max: u64) -> u64 {
    SEGMENT_BYTES.min(bytes_max / 4)
}

/// Adds a record to bytes of a file; one that is too large is left out.
pub fn frame(record: &Record, bytes: &mut Vec<u8>) {
    let payload = record.encode_to_vec();
    let Some(length) = u32::try_from(payload.len())
        .ok()
        .filter(|_| payload.len() <= RECORD_BYTES_MAX)
    else {
        return;
    };
    bytes.extend(length.to_le_bytes());
    bytes.extend(crc32c::crc32c(&payload).to_le_bytes());
    bytes.extend(payload);
}

/// When a record was noted, Unix milliseconds, as most clocks said where that was known.
pub fn at_ms(record: &Record) -> u64 {
    match record.agreed {
        true => record.unix_ms.saturating_add_signed(record.ahead_ms),
        false => record.unix_ms,
    }
}

/// What a file holds, as far as it can be read.
#[derive(Debug, Default, PartialEq)]
pub struct Segment {
    /// Its records, each with where it ends in the file.
    pub records: Vec<(u64, Record)>,
    /// Bytes behind the last of them that are none.
    pub torn_bytes: u64,
}

impl Segment {
    /// Of a file's bytes.
    pub fn read(bytes: &[u8]) -> Segment {
        let mut segment = Segment::default();
        let mut at = MAGIC.len();
        if !bytes.starts_with(&MAGIC) {
            segment.torn_bytes = bytes.len() as u64;
            return segment;
        }
        while let Some((record, length)) = next(&bytes[at..]) {
            at += length;
            segment.records.push((at as u64, record));
        }
        segment.torn_bytes = (bytes.len() - at) as u64;
        segment
    }
}

/// The record that bytes begin with, and how many it takes.
fn next(bytes: &[u8]) -> Option<(Record, usize)> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    let payload = rest.get(..length)?;
    if length > RECORD_BYTES_MAX || crc32c::crc32c(payload) != u32::from_le_bytes(*crc) {
        return None;
    }
    let record = Record::decode(payload).ok()?;
    Some((record, FRAME_HEAD + length))
}

/// Where a reader goes on: behind this byte of this file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The file.
    pub segment: u64,
    /// What of it has been given.
    pub offset: u64,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset)
    }
}

impl std::str::FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Position, String> {
        let parts = text.split_once(':');
        let parts = parts.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        let (segment, offset) = parts.ok_or_else(|| {
            format!("{text:?} is no position of a recorder: take it from an earlier answer's next")
        })?;
        Ok(Position { segment, offset })
    }
}

/// What was found of a time.
#[derive(Debug, Default)]
pub struct Found {
    /// The records, oldest first, each with where one goes on behind it.
    pub records: Vec<(Position, Record)>,
    /// The last words before that time on who the node is, the cluster, the ways, and each shard that it
    /// led.
    pub head: Vec<Record>,
    /// There is more: `bytes_max` was reached.
    pub more: bool,
    /// Bytes of files that could not be read.
    pub torn_bytes: u64,
    /// When the oldest file begins.
    pub first_ms: u64,
}

/// What the files have of `from_ms..=to_ms` behind `after`, about `bytes_max` of it at most.
///
/// # Errors
/// As the disk has.
pub fn read(
    tape: &dyn Tape,
    (from_ms, to_ms): (u64, u64),
    after: Position,
    bytes_max: u64,
) -> io::Result<Found> {
    let mut found = Found::default();
    let numbers: Vec<u64> = tape.segments()?.into_keys().collect();
    let begins = numbers.iter().map(|number| begins_ms(tape, *number));
    let begins = begins.collect::<io::Result<Vec<_>>>()?;
    found.first_ms = begins.iter().flatten().next().copied().unwrap_or(0);
    let mut given = 0;
    let mut head = Head::default();
    for (at, number) in numbers.iter().enumerate() {
        let ends = begins.get(at + 1).copied().flatten();
        let before = ends.is_some_and(|ends| ends.saturating_add(SLACK_MS) < from_ms);
        let behind = begins[at].is_some_and(|begins| begins > to_ms.saturating_add(SLACK_MS));
        if before || behind || *number < after.segment {
            continue;
        }
        let bytes = match tape.read(*number, usize::MAX) {
            // It went meanwhile, as the oldest does.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            bytes => bytes?,
        };
        let segment = Segment::read(&bytes);
        found.torn_bytes += segment.torn_bytes;
        let mut from = MAGIC.len() as u64;
        for (offset, record) in segment.records {
            let size = offset - std::mem::replace(&mut from, offset);
            let position = Position {
                segment: *number,
                offset,
            };
            let at = at_ms(&record);
            if at < from_ms {
                head.note(record);
                continue;
            }
            if position <= after || at > to_ms {
                continue;
            }
            if given > 0 && given + size > bytes_max {
                found.more = true;
                found.head = head.records();
                return Ok(found);
            }
            given += size;
            found.records.push((position, record));
        }
    }
    found.head = head.records();
    Ok(found)
}

/// The last words of what a time begins with, by what they are about.
#[derive(Default)]
struct Head(BTreeMap<(&'static str, u32), Record>);

impl Head {
    fn note(&mut self, record: Record) {
        let about = match &record.what {
            Some(What::Started(_)) => ("started", 0),
            Some(What::Cluster(_)) => ("cluster", 0),
            Some(What::Links(_)) => ("links", 0),
            Some(What::Led(led)) if self.0.len() < HEAD_MAX => ("led", led.shard),
            _ => return,
        };
        self.0.insert(about, record);
    }

    fn records(self) -> Vec<Record> {
        let mut records: Vec<Record> = self.0.into_values().collect();
        records.sort_by_key(at_ms);
        records
    }
}

/// When a file begins; `None` where that cannot be read.
fn begins_ms(tape: &dyn Tape, number: u64) -> io::Result<Option<u64>> {
    let head = match tape.read(number, HEAD_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        head => head?,
    };
    let first = head.get(MAGIC.len()..).and_then(next);
    Ok(first
        .filter(|_| head.starts_with(&MAGIC))
        .map(|(record, _)| at_ms(&record)))
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
