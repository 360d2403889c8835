//! A node's data directory: whose it is, and that one process at a time works in it.
//!
//! ```text
//!   FORMAT   "firebreak data, format 1, node seoul-1": what this directory is, for people and us
//!   LOCK     locked while a process works here; holds its process id
//!   raftdb/  Raft logs, votes, who the node is
//!   msgdb/   the state of its shards
//!   recorder/ what happened here, for `firebreak outage` ([`crate::tape`])
//!   admin.sock the local socket of the node that runs ([`crate::local`])
//!   ballast  room, to be given back when the disk is full ([`crate::ballast`])
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::exit::Usage;

/// The format that this version writes and reads.
const FORMAT: u32 = 1;

/// A directory that is this process's while it lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// It was made by this process.
    fresh: bool,
    /// Unlocked by the system when it is closed, however the process ends.
    _lock: File,
}

/// What a directory consists of while a node works in it, to see whether it is still there.
#[derive(Debug)]
pub struct Presence {
    directory: PathBuf,
    /// Each part with what tells it from another at the same path; none where another is as good.
    parts: Vec<(PathBuf, Option<Mark>)>,
}

/// Device and number of a file: another one at the same path has another number.
type Mark = (u64, u64);

impl Presence {
    /// The first part that is gone, or another's, in words.
    ///
    /// # Errors
    /// Which, and what that means.
    pub fn check(&self) -> Result<(), String> {
        let gone = |(path, before): &&(PathBuf, Option<Mark>)| match mark(path) {
            Ok(now) => before.is_some_and(|before| now != before),
            // Whatever else a disk has to say, it says to the databases.
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        };
        let Some((path, _)) = self.parts.iter().find(gone) else {
            return Ok(());
        };
        Err(format!(
            "{} was removed or replaced while the node ran: what it writes to {} now is lost with \
             the process. Put the folder back as it was, or empty it and join as a new node",
            path.display(),
            self.directory.display()
        ))
    }
}

fn mark(path: &Path) -> std::io::Result<Mark> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

impl DataDir {
    /// What must stay where it is from now on: called once the databases are open.
    ///
    /// # Errors
    /// As the disk has.
    pub fn presence(&self) -> anyhow::Result<Presence> {
        let names = [self.path.join("FORMAT"), self.path.join("LOCK")];
        let places = [self.path.clone(), self.raftdb(), self.msgdb()];
        let marked = |path: PathBuf| match mark(&path) {
            Ok(mark) => Ok((path, Some(mark))),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let parts = places.into_iter().chain(names).map(marked);
        let mut parts = parts.collect::<anyhow::Result<Vec<_>>>()?;
        // A database without its CURRENT is none; it replaces the file now and then.
        let current = [self.raftdb(), self.msgdb()].map(|database| database.join("CURRENT"));
        let current = current.into_iter().filter(|path| path.exists());
        parts.extend(current.map(|path| (path, None)));
        Ok(Presence {
            directory: self.path.clone(),
            parts,
        })
    }

    /// Opens the directory of the node `name`; `create` makes it when there is none, or an empty
    /// one.
    ///
    /// # Errors
    /// [`Usage`] when it is no data directory, another node's or of a later version; others when
    /// another process works in it or the disk refuses.
    pub fn open(path: &Path, name: &str, create: bool) -> anyhow::Result<DataDir> {
        let shown = path.display();
        if create {
            // Messages and the secret of nodes are nobody else's to read; what is there stays as it is.
            let made = fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path);
            made.with_context(|| format!("cannot create {shown}"))?;
        }
        let format = path.join("FORMAT");
        match fs::read_to_string(&format) {
            Ok(text) => check(&text, name).map_err(|why| Usage(format!("{shown} {why}")))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if !create {
                    return Err(Usage(format!(
                        "{shown} is no data directory yet: `firebreak init` founds a cluster, \
                         `firebreak node join` joins one"
                    ))
                    .into());
                }
                if let Some(other) = foreign(path)? {
                    return Err(Usage(format!(
                        "{shown} is not empty (it has {other}) and is no data directory of \
                         Firebreak: name another, or empty it"
                    ))
                    .into());
                }
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", format.display()));
            }
        }
        let lock = lock(path)?;
        let fresh = create && !format.exists();
        if fresh {
            write_synced(path, "FORMAT", &text_of(name))?;
        }
        Ok(DataDir {
            path: path.to_owned(),
            fresh,
            _lock: lock,
        })
    }

    /// Empties the directory again if this process made it: what was to be in it came to nothing, and
    /// the next try may be under another name.
    ///
    /// # Errors
    /// As the disk has.
    pub fn take_back(self) -> anyhow::Result<()> {
        if !self.fresh {
            return Ok(());
        }
        let shown = self.path.display();
        let gone = |removed: std::io::Result<()>| match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        gone(fs::remove_dir_all(self.raftdb()))
            .and_then(|()| gone(fs::remove_dir_all(self.msgdb())))
            // Last: until then it is the directory of that node.
            .and_then(|()| gone(fs::remove_file(self.path.join("FORMAT"))))
            .with_context(|| format!("cannot empty {shown}"))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the database of Raft logs is.
    pub fn raftdb(&self) -> PathBuf {
        self.path.join("raftdb")
    }

    /// Where the database of state is.
    pub fn msgdb(&self) -> PathBuf {
        self.path.join("msgdb")
    }
}

fn text_of(name: &str) -> String {
    format!("firebreak data, format {FORMAT}, node {name}\n")
}

/// What is wrong with a directory's FORMAT, if anything.
fn check(text: &str, name: &str) -> Result<(), String> {
    let parts = text.trim_end().strip_prefix("firebreak data, format ");
    let Some((format, node)) = parts.and_then(|rest| rest.split_once(", node ")) else {
        return Err("has a FORMAT that this version does not understand".into());
    };
    if format != FORMAT.to_string() {
        return Err(format!(
            "has format {format}; this version reads format {FORMAT}"
        ));
    }
    if node != name {
        return Err(format!(
            "is the data directory of node {node:?}, the configuration says {name:?}: use the \
             right directory, or an empty one"
        ));
    }
    Ok(())
}

/// A file that has no business in a fresh data directory.
fn foreign(path: &Path) -> anyhow::Result<Option<String>> {
    let shown = path.display();
    for entry in fs::read_dir(path).with_context(|| format!("cannot read {shown}"))? {
        let name = entry
            .with_context(|| format!("cannot read {shown}"))?
            .file_name();
        let name = name.to_string_lossy().into_owned();
        // The root of a file system has the one; a start that was cut off leaves the others.
        if !matches!(name.as_str(), "lost+found" | "LOCK" | "FORMAT.new") {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn lock(path: &Path) -> anyhow::Result<File> {
    let path = path.join("LOCK");
    let shown = path.display();
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("cannot open {shown}"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Only to name it; an unreadable one is not worth an error of its own.
            let _ = file.read_to_string(&mut pid);
            anyhow::bail!(
                "{shown} is locked: process {} works in this directory",
                pid.trim()
            );
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {shown}"));
        }
    }
    file.set_len(0)
        .with_context(|| format!("cannot write {shown}"))?;
    writeln!(file, "{}", std::process::id()).with_context(|| format!("cannot write {shown}"))?;
    Ok(file)
}

/// Writes a file as a whole or not at all, a power cut included.
fn write_synced(directory: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path = directory.join(name);
    let new = directory.join(format!("{name}.new"));
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(directory)?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &Path, name: &str, create: bool) -> String {
        DataDir::open(path, name, create).map_or_else(|e| format!("{e:#}"), |_| String::new())
    }

    #[test]
    fn a_directory_belongs_to_one_node_for_ever() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("data");
        assert!(refused(&path, "a", false).contains("no data directory yet"));
        drop(DataDir::open(&path, "a", true).expect("a fresh one"));
        drop(DataDir::open(&path, "a", false).expect("the same node"));
        assert!(refused(&path, "b", false).contains("is the data directory of node \"a\""));
    }

    #[test]
    fn what_came_to_nothing_leaves_nothing_and_what_was_there_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let fresh = DataDir::open(dir.path(), "a", true).expect("free");
        fs::create_dir(fresh.raftdb()).expect("a folder");
        fs::write(fresh.raftdb().join("x"), "x").expect("a file");
        fresh.take_back().expect("it is emptied");
        let renamed = DataDir::open(dir.path(), "b", true).expect("another name");
        fs::create_dir(renamed.raftdb()).expect("a folder");
        drop(renamed);
        let old = DataDir::open(dir.path(), "b", true).expect("the same name");
        let raftdb = old.raftdb();
        old.take_back().expect("nothing to do");
        assert!(raftdb.exists());
    }

    #[test]
    fn two_processes_do_not_work_in_one_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        let held = DataDir::open(dir.path(), "a", true).expect("free");
        let refused = refused(dir.path(), "a", false);
        assert!(
            refused.contains(&format!("process {} works", std::process::id())),
            "{refused}"
        );
        drop(held);
        assert!(DataDir::open(dir.path(), "a", false).is_ok());
    }

    #[test]
    fn what_is_no_data_directory_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("photo.jpg"), "x").expect("written");
        assert!(refused(dir.path(), "a", true).contains("photo.jpg"));
        assert!(!dir.path().join("LOCK").exists());
    }

    #[test]
    fn a_directory_that_was_removed_under_a_node_is_missed_even_when_another_is_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("data");
        let held = DataDir::open(&path, "a", true).expect("fresh");
        for part in [held.raftdb(), held.msgdb()] {
            fs::create_dir(part).expect("a folder");
        }
        let presence = held.presence().expect("all there");
        presence.check().expect("still all there");
        let aside = dir.path().join("aside");
        fs::rename(held.msgdb(), &aside).expect("moved");
        let gone = presence.check().expect_err("a part is gone");
        assert!(gone.contains("msgdb was removed"), "{gone}");
        fs::create_dir(held.msgdb()).expect("another");
        assert!(presence.check().is_err(), "another is not that one");
        fs::remove_dir(held.msgdb()).expect("removed");
        fs::rename(&aside, held.msgdb()).expect("back");
        presence.check().expect("as it was");
        fs::remove_dir_all(&path).expect("removed");
        assert!(presence.check().is_err());
    }

    #[test]
    fn another_format_is_refused() {
        assert!(check(&text_of("a"), "a").is_ok());
        let later = "firebreak data, format 2, node a\n";
        assert!(check(later, "a").is_err_and(|e| e.contains("has format 2")));
        assert!(check("something else", "a").is_err_and(|e| e.contains("FORMAT")));
    }
}
