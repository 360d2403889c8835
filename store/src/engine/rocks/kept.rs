//! Kept files: synced, under names of their own, in a directory beside the database.
//!
//! ```text
//!   sync each file ─► move it to NAME.kept/NNNNNN.sst ─► sync the directory
//! ```

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::files::{Finished, Transfer, beside};
use super::from_io;
use crate::Error;
use crate::engine::SortedFile;

/// The directory `NAME.kept` beside the database.
pub(super) struct Kept {
    directory: PathBuf,
    next: AtomicU64,
}

impl Kept {
    /// Finds what is kept.
    pub(super) fn open(database: &Path) -> Result<Kept, Error> {
        let kept = Kept {
            directory: beside(database, ".kept"),
            next: AtomicU64::new(0),
        };
        let last = kept.names()?.iter().filter_map(|name| number(name)).max();
        let next = last.map_or(0, |last| last.saturating_add(1));
        kept.next.store(next, Ordering::Relaxed);
        Ok(kept)
    }

    /// The names of all kept files, sorted.
    pub(super) fn names(&self) -> Result<Vec<String>, Error> {
        let failed = |error: std::io::Error| from_io("list", &self.directory, &error);
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name().into_string();
            names.extend(name.ok().filter(|name| number(name).is_some()));
        }
        names.sort();
        Ok(names)
    }

    /// Keeps files; a power cut from here on finds each of them.
    pub(super) fn keep(
        &self,
        transfer: &Transfer,
        files: Vec<Box<dyn SortedFile>>,
    ) -> Result<Vec<String>, Error> {
        let mut names = Vec::with_capacity(files.len());
        if files.is_empty() {
            return Ok(names);
        }
        fs::create_dir_all(&self.directory)
            .map_err(|error| from_io("create", &self.directory, &error))?;
        // Every time: a process that died may have made it and not come so far.
        match self.directory.parent() {
            Some(parent) if parent != Path::new("") => sync(parent)?,
            Some(_) | None => sync(Path::new("."))?,
        }
        for file in files {
            let file = transfer.adopt(file)?;
            let path = file.path().unwrap_or(Path::new(""));
            sync(path)?;
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let name = format!("{number:06}.sst");
            fs::rename(path, self.directory.join(&name))
                .map_err(|error| from_io("rename", path, &error))?;
            names.push(name);
        }
        sync(&self.directory)?;
        Ok(names)
    }

    /// Opens a kept file.
    pub(super) fn open_file(&self, name: &str) -> Result<Box<dyn SortedFile>, Error> {
        let path = self.path(name)?;
        if !path.is_file() {
            return Err(self.missing(name, "there is no kept file of this name"));
        }
        Ok(Box::new(Finished::open(path)?))
    }

    /// Removes kept files.
    pub(super) fn forget(&self, names: &[String]) -> Result<(), Error> {
        for name in names {
            let path = self.path(name)?;
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(from_io("remove", &path, &error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Whether the file is a kept one.
    pub(super) fn holds(&self, path: &Path) -> bool {
        path.parent() == Some(self.directory.as_path())
    }

    /// Names come back from a database, and must not lead out of the directory.
    fn path(&self, name: &str) -> Result<PathBuf, Error> {
        match number(name) {
            Some(_) => Ok(self.directory.join(name)),
            None => Err(self.missing(name, "this is no name of a kept file")),
        }
    }

    fn missing(&self, name: &str, reason: &str) -> Error {
        Error::Corrupt {
            file: self.directory.display().to_string(),
            key: name.to_owned(),
            reason: reason.to_owned(),
        }
    }
}

fn number(name: &str) -> Option<u64> {
    name.strip_suffix(".sst")?.parse().ok()
}

/// Syncs a file, or a directory's list of names.
fn sync(path: &Path) -> Result<(), Error> {
    fs::File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|error| from_io("sync", path, &error))
}
