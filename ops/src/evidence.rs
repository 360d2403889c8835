//! What only this process knows of itself, for `firebreak debug bundle`: its last log lines, the ends of
//! RocksDB's own logs, its limits, its machine.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use server::world::{Debug, Piece};

/// Bytes of log lines that are kept in memory.
const KEPT_BYTES: usize = 4 << 20;
/// Of one log line.
const LINE_BYTES: usize = 16 << 10;
/// Of the end of one of RocksDB's logs.
pub const LOG_BYTES: u64 = 2 << 20;
/// Of one file of `/proc`.
const PROC_BYTES: u64 = 64 << 10;

const LIMITS: &str = "limits.txt";
const MACHINE: &str = "machine.txt";
const LINES: &str = "log.txt";
/// The end of the log of the database of Raft logs.
pub const RAFTDB_LOG: &str = "raftdb.LOG";
/// The same of the database of state.
pub const MSGDB_LOG: &str = "msgdb.LOG";

/// What tells of the process and its machine.
const PROC: [&str; 7] = [
    "/proc/version",
    "/proc/loadavg",
    "/proc/pressure/cpu",
    "/proc/pressure/io",
    "/proc/pressure/memory",
    "/proc/self/status",
    "/proc/meminfo",
];

/// The last log lines of a process. Clones share them.
#[derive(Clone, Default)]
pub struct Kept(Arc<Mutex<Lines>>);

#[derive(Default)]
struct Lines {
    bytes: VecDeque<u8>,
    left_out_bytes: u64,
}

impl Kept {
    /// Keeps one more; the oldest go when there are too many.
    pub fn add(&self, line: &[u8]) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let plain = plain(line);
        let cut = plain.len() > LINE_BYTES;
        lines.bytes.extend(&plain[..plain.len().min(LINE_BYTES)]);
        if cut {
            lines.bytes.extend(b" (cut)\n");
        }
        let over = lines.bytes.len().saturating_sub(KEPT_BYTES);
        if over > 0 {
            let rest = lines.bytes.iter().skip(over);
            let whole = rest.take_while(|byte| **byte != b'\n').count();
            let gone = (over + whole + 1).min(lines.bytes.len());
            lines.bytes.drain(..gone);
            lines.left_out_bytes += gone as u64;
        }
    }

    fn end(&self, bytes_max: u64) -> Piece {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let skipped = lines.bytes.len().saturating_sub(bytes_max);
        Piece {
            data: lines.bytes.iter().skip(skipped).copied().collect(),
            left_out_bytes: lines.left_out_bytes + skipped as u64,
        }
    }
}

/// A line without the colours of a terminal.
fn plain(line: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.iter().position(|byte| *byte == 0x1b) {
        plain.extend_from_slice(&rest[..at]);
        let ends = rest[at..].iter().position(|byte| *byte == b'm');
        rest = ends.map_or(&[], |length| &rest[at + length + 1..]);
    }
    plain.extend_from_slice(rest);
    plain
}

/// What this process knows of itself.
pub struct Evidence {
    data_dir: PathBuf,
    lines: Kept,
}

impl Evidence {
    /// Of a process that works in `data_dir` and keeps `lines`.
    pub fn of(data_dir: &Path, lines: Kept) -> Evidence {
        Evidence {
            data_dir: data_dir.to_owned(),
            lines,
        }
    }
}

impl Debug for Evidence {
    fn files(&self) -> &'static [&'static str] {
        &[LIMITS, MACHINE, LINES, RAFTDB_LOG, MSGDB_LOG]
    }

    fn read(&self, file: &str, bytes_max: u64) -> io::Result<Piece> {
        match file {
            LIMITS => end_of(Path::new("/proc/self/limits"), bytes_max),
            MACHINE => Ok(machine(bytes_max)),
            LINES => Ok(self.lines.end(bytes_max)),
            RAFTDB_LOG => database_log(&self.data_dir.join("raftdb"), bytes_max),
            MSGDB_LOG => database_log(&self.data_dir.join("msgdb"), bytes_max),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// What `/proc` says, each file under its name.
fn machine(bytes_max: u64) -> Piece {
    let mut data = Vec::new();
    for path in PROC {
        data.extend_from_slice(format!("== {path}\n").as_bytes());
        match end_of(Path::new(path), PROC_BYTES) {
            Ok(piece) => data.extend(piece.data),
            // Kernels are built without some of them.
            Err(error) => data.extend_from_slice(format!("{error}\n").as_bytes()),
        }
    }
    data.truncate(usize::try_from(bytes_max).unwrap_or(usize::MAX));
    Piece {
        data,
        left_out_bytes: 0,
    }
}

/// The end of what a database logs: of its LOG, and in front of that of the one before the last start.
///
/// # Errors
/// As the disk has.
pub fn database_log(database: &Path, bytes_max: u64) -> io::Result<Piece> {
    let bytes_max = bytes_max.min(LOG_BYTES);
    let last = end_of(&database.join("LOG"), bytes_max)?;
    let room = bytes_max.saturating_sub(last.data.len() as u64);
    let before = newest_old_log(database)?;
    let Some(before) = before.filter(|_| last.left_out_bytes == 0 && room > 0) else {
        return Ok(last);
    };
    let mut piece = end_of(&before, room)?;
    let name = before.file_name().unwrap_or_default().display();
    let data = format!("== the end of {name}, of the start before\n").into_bytes();
    let old = std::mem::replace(&mut piece.data, data);
    piece.data.extend(old);
    piece.data.extend_from_slice(b"\n== LOG\n");
    piece.data.extend(last.data);
    Ok(piece)
}

/// `LOG.old.N` of the largest N, which is a time.
fn newest_old_log(database: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest: Option<(u64, PathBuf)> = None;
    for entry in fs::read_dir(database)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_prefix("LOG.old."));
        let number = number.and_then(|number| number.parse::<u64>().ok());
        if let Some(number) = number
            && newest.as_ref().is_none_or(|(known, _)| number > *known)
        {
            newest = Some((number, path));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// The last bytes of a file.
///
/// # Errors
/// As the disk has.
pub fn end_of(path: &Path, bytes_max: u64) -> io::Result<Piece> {
    let mut file = File::open(path)?;
    // Files of /proc say that they have none.
    let length = file.metadata()?.len();
    let left_out_bytes = length.saturating_sub(bytes_max);
    file.seek(SeekFrom::Start(left_out_bytes))?;
    let mut data = Vec::new();
    file.take(bytes_max).read_to_end(&mut data)?;
    Ok(Piece {
        data,
        left_out_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_whole_and_without_colours() {
        let kept = Kept::default();
        kept.add(b"\x1b[2mfirst\x1b[0m line\n");
        assert_eq!(kept.end(99).data, b"first line\n");
        let long = [&[b'x'; LINE_BYTES + 9][..], b"\n"].concat();
        for n in 0..400 {
            kept.add(format!("{n} ").as_bytes());
            kept.add(&long);
        }
        let piece = kept.end(u64::MAX);
        assert!(piece.data.len() <= KEPT_BYTES, "{}", piece.data.len());
        assert!(piece.data.len() > KEPT_BYTES - 2 * LINE_BYTES);
        let text = String::from_utf8(piece.data).unwrap();
        assert!(text.ends_with("x (cut)\n"));
        let first = text.split_once(' ').unwrap().0;
        assert!(first.parse::<u32>().unwrap() > 100, "{first}");
        assert!(piece.left_out_bytes > 0);
    }

    #[test]
    fn a_database_log_is_bounded_and_begins_with_that_of_the_start_before() {
        let place = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(place.path().join(name), text).unwrap();
        write("LOG", "now\n");
        assert_eq!(database_log(place.path(), 99).unwrap().data, b"now\n");
        write("LOG.old.7", "long ago\n");
        write("LOG.old.10", "before\n");
        let piece = database_log(place.path(), 99).unwrap();
        let text = String::from_utf8(piece.data).unwrap();
        assert!(text.contains("LOG.old.10") && text.contains("before\n\n== LOG\nnow\n"));
        assert!(!text.contains("long ago"));
        let piece = database_log(place.path(), 2).unwrap();
        assert_eq!((&piece.data[..], piece.left_out_bytes), (&b"w\n"[..], 2));
        assert!(database_log(&place.path().join("none"), 9).is_err());
    }

    #[test]
    fn this_process_tells_every_file_that_it_names() {
        let place = tempfile::tempdir().unwrap();
        for name in ["raftdb", "msgdb"] {
            fs::create_dir(place.path().join(name)).unwrap();
            fs::write(place.path().join(name).join("LOG"), "said\n").unwrap();
        }
        let kept = Kept::default();
        kept.add(b"a line\n");
        let evidence = Evidence::of(place.path(), kept);
        for file in evidence.files() {
            let piece = evidence.read(file, 1 << 20).unwrap();
            assert!(!piece.data.is_empty(), "{file}");
        }
        assert!(evidence.read("../FORMAT", 9).is_err());
    }
}
