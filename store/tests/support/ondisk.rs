//! RocksDB on files that survive crashes as real ones do: what was synced, and a share of the rest.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use firebreak_store::engine::Engine;
use firebreak_store::engine::rocks::{Rocks, crash};
use firebreak_store::{Error, Sizes};

/// What a disk writes as a whole or not at all.
const SECTOR_BYTES: u64 = 512;

/// Which of the product's two databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Log,
    State,
}

/// What is known to have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    Sync,
    /// It syncs files and the manifest, and no log.
    Ingest,
}

/// A database, and what of its files is known to be synced.
pub struct Machine {
    role: Role,
    root: tempfile::TempDir,
    path: PathBuf,
    starts: usize,
    engine: Option<Arc<dyn Engine>>,
    /// The synced length of each file that is appended to, by name.
    synced: BTreeMap<String, u64>,
}

impl Machine {
    /// An empty database. In memory where there is such a place: nothing here relies on a real
    /// fsync, and the test is faster.
    pub fn new(role: Role) -> Machine {
        let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let root = root.unwrap();
        let mut machine = Machine {
            role,
            path: root.path().join("0"),
            root,
            starts: 0,
            engine: None,
            synced: BTreeMap::new(),
        };
        machine.open().unwrap();
        machine
    }

    /// The open engine.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        self.engine.as_ref().expect("an engine that opened")
    }

    /// To be called when something is known to be durable.
    pub fn note(&mut self, what: Heard) {
        for (name, len) in appended(&self.path) {
            if what == Heard::Sync || !name.ends_with(".log") {
                self.synced.insert(name, len);
            }
        }
    }

    /// Kills the process: the files are as they were handed to the system.
    pub fn kill(&mut self) -> Result<(), Error> {
        let next = self.copy();
        self.reopen(next)
    }

    /// Cuts the power. Of what was not synced of a file `left` of 255 parts survive; with `zeros`
    /// the log keeps its length and the sectors behind are empty.
    pub fn cut_power(&mut self, left: u8, zeros: bool) -> Result<(), Error> {
        let next = self.copy();
        let share = |synced: u64, len: u64| synced + (len - synced) * u64::from(left) / 255;
        let mut whole = Vec::new();
        for (name, len) in appended(&next) {
            let is_log = name.ends_with(".log");
            // The manifest of a database with a log follows what is done aloud.
            if is_log != (self.role == Role::Log) {
                continue;
            }
            let path = next.join(&name);
            let synced = self.synced.get(&name).copied().unwrap_or(0).min(len);
            let mut cut = share(synced, len);
            if is_log && zeros {
                // A sector is there as it was or as it is.
                cut = (cut / SECTOR_BYTES * SECTOR_BYTES).max(synced);
            }
            if !is_log {
                whole.push((path.clone(), fs::read(&path).unwrap()));
            }
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(cut).unwrap();
            if is_log && zeros {
                file.set_len(len).unwrap();
            }
        }
        match self.reopen(next) {
            // A compaction removes its inputs when the manifest is synced behind it, so this cut was
            // none that can be.
            Err(Error::Corrupt { reason, .. }) if reason.contains("No such file") => {
                for (path, bytes) in whole {
                    fs::write(path, bytes).unwrap();
                }
                self.open()
            }
            opened => opened,
        }
    }

    fn open(&mut self) -> Result<(), Error> {
        let engine: Arc<dyn Engine> = match self.role {
            Role::Log => Arc::new(Rocks::open_log(&self.path)?),
            Role::State => Arc::new(Rocks::open_state_sized(
                &self.path,
                8 << 20,
                Sizes::default(),
            )?),
        };
        self.engine = Some(engine);
        // Recovery syncs the files that it writes and the manifest; no log counts from before.
        self.synced = appended(&self.path)
            .into_iter()
            .filter(|(name, _)| !name.ends_with(".log"))
            .collect();
        Ok(())
    }

    fn copy(&mut self) -> PathBuf {
        self.starts += 1;
        let next = self.root.path().join(self.starts.to_string());
        crash::copy(&self.path, &next).unwrap();
        next
    }

    fn reopen(&mut self, next: PathBuf) -> Result<(), Error> {
        self.engine = None;
        fs::remove_dir_all(&self.path).unwrap();
        self.path = next;
        self.open()
    }
}

/// The files that are appended to, and their lengths.
fn appended(path: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name.ends_with(".log") || name.starts_with("MANIFEST-") {
            // One that was just removed needs no length.
            found.extend(entry.metadata().ok().map(|data| (name, data.len())));
        }
    }
    found
}
