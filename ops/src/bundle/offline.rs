//! What the disk of a stopped node has. Nothing is locked or written: a node that hangs may hold it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use server::config::Config;
use server::recorder::ring::{self, Position, Segment};
use server::secrets;
use server::sight::api::jobs;
use server::world::{Piece, Tape};

use super::archive::{Entry, part};
use super::gather::{EVENTS, Gathered};
use super::json::Shape;
use super::manifest::Missing;
use super::when::Range;
use crate::evidence::{self, MSGDB_LOG, RAFTDB_LOG};
use crate::tape::Files;

/// Bytes of records that are read from the disk.
const RECORDS_BYTES: u64 = 16 << 20;
/// Of a file of configuration, or of FORMAT.
const TEXT_BYTES: u64 = 1 << 20;
/// Files that a listing of a folder names.
const LISTED_MAX: usize = 10_000;

/// From data directories, and from those that configurations name.
pub fn gather(directories: &[PathBuf], configs: &[PathBuf], range: Range) -> Vec<Gathered> {
    let mut all = Vec::new();
    let mut done = Vec::new();
    for file in configs {
        let (name, directory, mut gathered) = config(file);
        if let Some(directory) = directory {
            disk(&directory, range, &mut gathered);
            done.push(directory);
        }
        place(&mut gathered, &name, all.len());
        all.push(gathered);
    }
    for directory in directories.iter().filter(|one| !done.contains(one)) {
        let mut gathered = Gathered::default();
        disk(directory, range, &mut gathered);
        let name = node_of(directory);
        place(&mut gathered, &name, all.len());
        all.push(gathered);
    }
    all
}

/// Puts what was found under the node's name; two of one name stay apart.
fn place(gathered: &mut Gathered, name: &str, number: usize) {
    gathered.node = format!("{name} (on disk)");
    let folder = format!("disk/{}-{}", number + 1, part(name));
    for entry in &mut gathered.entries {
        entry.path = format!("{folder}/{}", entry.path);
    }
    for missing in &mut gathered.missing {
        missing.of(&gathered.node);
    }
}

fn keep(gathered: &mut Gathered, file: &str, piece: Piece) {
    gathered.entries.push(Entry {
        path: file.to_owned(),
        data: secrets::clean(piece.data),
        left_out_bytes: piece.left_out_bytes,
    });
}

/// Keeps a file, or why it is not there.
fn try_keep(gathered: &mut Gathered, file: &str, from: &Path, read: io::Result<Piece>) {
    match read {
        Ok(piece) => keep(gathered, file, piece),
        Err(error) => {
            let why = format!("{}: {error}", from.display());
            gathered.missing.push(Missing::file("", file, why));
        }
    }
}

/// The node's name, where its data is, and how it is set.
fn config(file: &Path) -> (String, Option<PathBuf>, Gathered) {
    let mut gathered = Gathered::default();
    match Config::load(file) {
        Ok(config) => {
            let values = jobs::settings(&config);
            match serde_json::to_vec_pretty(&values) {
                Ok(data) => keep(&mut gathered, "config.json", whole(data)),
                Err(error) => {
                    let missing = Missing::file("", "config.json", error.to_string());
                    gathered.missing.push(missing);
                }
            }
            gathered.dc = config.locality.dc.clone();
            (config.name.clone(), Some(config.data_dir), gathered)
        }
        Err(errors) => {
            // Why the node does not start may be just this.
            let missing = Missing::file("", "config.json", errors.to_string());
            gathered.missing.push(missing);
            let text = evidence::end_of(file, TEXT_BYTES).map(without_secrets);
            try_keep(&mut gathered, "node.toml", file, text);
            let name = file.file_stem().unwrap_or_default();
            (name.display().to_string(), None, gathered)
        }
    }
}

fn whole(data: Vec<u8>) -> Piece {
    Piece {
        data,
        left_out_bytes: 0,
    }
}

/// A text of TOML that cannot be read as such, without what may be secret.
fn without_secrets(text: Piece) -> Piece {
    let lines = String::from_utf8_lossy(&text.data).into_owned();
    let shown = lines.lines().map(|line| match line.split_once('=') {
        Some((key, _)) if secrets::is_secret(key) => format!("{key}= {}\n", secrets::REMOVED),
        // What goes on over lines has no key on each.
        _ if secrets::is_secret(line) => format!("{}\n", secrets::REMOVED),
        _ => format!("{line}\n"),
    });
    whole(shown.collect::<String>().into_bytes())
}

/// What a data directory has.
fn disk(directory: &Path, range: Range, gathered: &mut Gathered) {
    if !directory.is_dir() {
        let why = format!("there is no data directory {}", directory.display());
        gathered.missing.push(Missing::node("", why));
        return;
    }
    let format = directory.join("FORMAT");
    try_keep(
        gathered,
        "FORMAT.txt",
        &format,
        evidence::end_of(&format, TEXT_BYTES),
    );
    keep(gathered, "files.txt", whole(listing(directory)));
    for (file, database) in [(RAFTDB_LOG, "raftdb"), (MSGDB_LOG, "msgdb")] {
        let from = directory.join(database);
        let read = evidence::database_log(&from, evidence::LOG_BYTES);
        try_keep(gathered, file, &from, read);
    }
    let tape = Files::of(directory);
    match events(&tape, range) {
        Ok((piece, None)) => keep(gathered, EVENTS, piece),
        Ok((piece, Some(why))) => {
            keep(gathered, EVENTS, piece);
            gathered.missing.push(Missing::file("", EVENTS, why));
        }
        Err(error) => {
            let why = format!("{}: {error:#}", tape.folder().display());
            gathered.missing.push(Missing::file("", EVENTS, why));
        }
    }
}

/// The node that a directory says it is of, or else its own name.
fn node_of(directory: &Path) -> String {
    let format = fs::read_to_string(directory.join("FORMAT")).unwrap_or_default();
    let named = format
        .trim()
        .rsplit_once("node ")
        .map(|(_, name)| name.trim());
    let folder = || {
        directory
            .file_name()
            .unwrap_or_default()
            .display()
            .to_string()
    };
    named
        .filter(|name| !name.is_empty())
        .map_or_else(folder, str::to_owned)
}

/// Sizes and names, folder by folder.
fn listing(directory: &Path) -> Vec<u8> {
    let mut lines = Vec::new();
    for folder in ["", "raftdb", "msgdb", "recorder"] {
        let Ok(entries) = fs::read_dir(directory.join(folder)) else {
            lines.push(format!("{folder}: cannot be read"));
            continue;
        };
        let mut names: Vec<String> = entries
            .flatten()
            .take(LISTED_MAX)
            .map(|entry| {
                let bytes = entry.metadata().map_or(0, |data| data.len());
                let name = entry.file_name();
                format!("{bytes:>14}  {}", Path::new(folder).join(name).display())
            })
            .collect();
        names.sort_by(|a, b| a[14..].cmp(&b[14..]));
        lines.append(&mut names);
    }
    (lines.join("\n") + "\n").into_bytes()
}

/// Records as lines of JSON, and why some are missing. Ages are counted from the last record: the node
/// may have stopped long ago.
fn events(tape: &Files, range: Range) -> anyhow::Result<(Piece, Option<String>)> {
    let segments = tape.segments()?;
    anyhow::ensure!(!segments.is_empty(), "the recorder has written nothing");
    let mut last_ms = 0;
    for number in segments.keys().rev() {
        let records = Segment::read(&tape.read(*number, usize::MAX)?).records;
        if let Some((_, record)) = records.last() {
            last_ms = ring::at_ms(record);
            break;
        }
    }
    let found = ring::read(tape, range.at(last_ms), Position::default(), RECORDS_BYTES)?;
    let shape = Shape::of("Record")?;
    let mut data = Vec::new();
    for (_, record) in &found.records {
        shape.write(record, false, &mut data)?;
        data.push(b'\n');
    }
    let why = match (found.more, found.torn_bytes) {
        (true, _) => Some("its end: there is more; ask for less time".to_owned()),
        (false, 0) => None,
        (false, bytes) => Some(format!("{bytes} bytes of its files cannot be read")),
    };
    Ok((whole(data), why))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use client::v1;
    use server::recorder::ring::Ring;

    use super::*;

    fn node(place: &Path) {
        fs::write(
            place.join("FORMAT"),
            "firebreak data, format 1, node busan-1\n",
        )
        .unwrap();
        for database in ["raftdb", "msgdb"] {
            fs::create_dir(place.join(database)).unwrap();
            fs::write(place.join(database).join("LOG"), "compacted\n").unwrap();
        }
        let record = |minute: u64| v1::Record {
            unix_ms: minute * 60_000,
            boot: minute,
            ..v1::Record::default()
        };
        let records: Vec<v1::Record> = (100..130).map(record).collect();
        let tape = Arc::new(Files::of(place));
        Ring::new(tape, 1 << 20).append(&[], &records).unwrap();
    }

    #[test]
    fn a_stopped_node_gives_what_its_disk_has_of_its_last_minutes() {
        let place = tempfile::tempdir().unwrap();
        node(place.path());
        let range = Range::parse("15m", None, SystemTime::now()).unwrap();
        let all = gather(&[place.path().to_owned()], &[], range);
        let [gathered] = &all[..] else {
            panic!("{all:?}")
        };
        assert_eq!(gathered.node, "busan-1 (on disk)");
        assert!(gathered.missing.is_empty(), "{:?}", gathered.missing);
        let of = |file: &str| {
            let path = format!("disk/1-busan-1/{file}");
            let found = gathered.entries.iter().find(|one| one.path == path);
            String::from_utf8(found.unwrap().data.clone()).unwrap()
        };
        assert_eq!(of(EVENTS).lines().count(), 16);
        assert!(
            of(EVENTS).starts_with("{\"unix_ms\":6840000,"),
            "{}",
            of(EVENTS)
        );
        assert_eq!(of(RAFTDB_LOG), "compacted\n");
        assert!(
            of("files.txt").contains("  raftdb/LOG\n"),
            "{}",
            of("files.txt")
        );
    }

    #[test]
    fn a_directory_that_there_is_not_and_a_wrong_configuration_are_told() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("node.toml");
        fs::write(&file, "name = \"x\"\n[http]\npassword = \"hush\"\n").unwrap();
        let range = Range::parse("15m", None, SystemTime::now()).unwrap();
        let all = gather(&[place.path().join("none")], &[file], range);
        let text = String::from_utf8(all[0].entries[0].data.clone()).unwrap();
        assert!(
            text.contains("password = (removed)") && !text.contains("hush"),
            "{text}"
        );
        let lines: Vec<String> = all
            .iter()
            .flat_map(|one| &one.missing)
            .map(Missing::line)
            .collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[1].contains("there is no data directory"), "{lines:?}");
    }
}
