//! Records of Slack's export: a ZIP with a folder for each conversation, in it a file for each day.
//!
//! ```text
//! channels.json groups.json dms.json mpims.json      ids, names, topics
//! users.json                                         ids and names
//! general/2022-10-14.json                            [{"type":"message","user":"U1","ts":"1665705660.000100",…}]
//! ```
//!
//! A conversation's id here is its id there. Messages keep senders' ids; their names are attributes. Replies
//! go to the first message of their thread. Files are not in the export: their names become an attribute.

mod day;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, anyhow};
use zip::ZipArchive;

use super::record::{At, Bad, Begin, Record};
use crate::exit::Usage;
use names::Names;

type Archive = ZipArchive<BufReader<File>>;

/// Longest file of a day that is read, bytes: a whole one is in memory.
const DAY_BYTES_MAX: u64 = 256 << 20;

/// The records of one export.
pub struct Slack {
    archive: Archive,
    names: Names,
    /// Folder and files of the days that are left, the last first.
    days: Vec<(String, String)>,
    /// The folder that is being read.
    folder: Option<String>,
    ready: std::vec::IntoIter<Result<Record, Bad>>,
    read: Arc<AtomicU64>,
}

impl Slack {
    /// Of a file. `read` counts bytes; also gives how many there are.
    ///
    /// # Errors
    /// Usage, when it is no such export; when it cannot be read.
    pub fn open(path: &Path, read: Arc<AtomicU64>) -> anyhow::Result<(Slack, u64)> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let usage = |why: String| anyhow!(Usage(format!("{}: {why}", path.display())));
        let mut archive = ZipArchive::new(BufReader::new(file))
            .map_err(|error| usage(format!("is no ZIP file that can be read: {error}")))?;
        let mut bad = Vec::new();
        let names = Names::read(&mut archive, &mut bad);
        let mut days = BTreeSet::new();
        for name in archive.file_names() {
            if let Some((folder, day)) = name.rsplit_once('/')
                && is_day(day)
            {
                days.insert((folder.to_owned(), day.to_owned()));
            }
        }
        if days.is_empty() && names.is_empty() {
            return Err(usage(
                "is no export of Slack: it has neither channels.json nor a folder of days".into(),
            ));
        }
        let mut bytes = 0;
        for (folder, day) in &days {
            let file = archive.by_name(&format!("{folder}/{day}"));
            bytes += file.map_or(0, |file| file.size());
        }
        let slack = Slack {
            archive,
            names,
            days: days.into_iter().rev().collect(),
            folder: None,
            ready: bad.into_iter().map(Err).collect::<Vec<_>>().into_iter(),
            read,
        };
        Ok((slack, bytes))
    }

    /// The records of one day.
    fn day(&mut self, folder: &str, day: &str) -> Vec<Result<Record, Bad>> {
        let path = format!("{folder}/{day}");
        let at = At {
            file: Arc::from(path.as_str()),
            line: 0,
        };
        let mut records = Vec::new();
        let channel = self.names.channel(folder);
        if self.folder.as_deref() != Some(folder) {
            self.folder = Some(folder.to_owned());
            records.push(Ok(Record::Begin(Begin {
                conversation: channel.id.clone(),
                attributes: channel.attributes.clone(),
                is_empty: false,
                at: at.clone(),
            })));
        }
        match text(&mut self.archive, &path, &self.read) {
            Ok(text) => day::records(&text, &channel.id, &self.names, &at, &mut records),
            Err(reason) => records.push(Err(Bad { at, reason })),
        }
        records
    }
}

/// `2022-10-14.json`.
fn is_day(name: &str) -> bool {
    let Some(day) = name.strip_suffix(".json") else {
        return false;
    };
    let bytes = day.as_bytes();
    let digit = |at: &usize| bytes[*at].is_ascii_digit();
    bytes.len() == 10
        && bytes[4] == b'-'
        && bytes[7] == b'-'
        && [0, 3, 5, 6, 8, 9].iter().all(digit)
}

/// A file of the export.
fn text(archive: &mut Archive, name: &str, read: &AtomicU64) -> Result<Vec<u8>, String> {
    let file = archive
        .by_name(name)
        .map_err(|error| format!("cannot be opened: {error}"))?;
    let mut bytes = Vec::new();
    let taken = file.take(DAY_BYTES_MAX + 1).read_to_end(&mut bytes);
    taken.map_err(|error| format!("cannot be unpacked: {error}"))?;
    if bytes.len() as u64 > DAY_BYTES_MAX {
        return Err(format!("is longer than {DAY_BYTES_MAX} bytes"));
    }
    read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    Ok(bytes)
}

impl Iterator for Slack {
    type Item = Result<Record, Bad>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(ready) = self.ready.next() {
                return Some(ready);
            }
            let (folder, day) = self.days.pop()?;
            self.ready = self.day(&folder, &day).into_iter();
        }
    }
}

/// What is known of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Channel {
    id: String,
    attributes: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests;
