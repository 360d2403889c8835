//! Sorted files on their way between replicas: temporary SST files beside the database.

use std::fs;
use std::io::{ErrorKind, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rocksdb::{IngestExternalFileOptions, Options, SstFileWriter};

use super::kept::Kept;
use super::{Db, Role, from_io};
use crate::Error;
use crate::engine::{IncomingFile, Order, Snapshot, SortedFile};

/// Bytes copied at once from a file of another engine.
const COPY_BYTES: usize = 1024 * 1024;

/// The directory `NAME.transfer` beside the database; emptied when the database is opened.
pub(super) struct Transfer {
    directory: PathBuf,
    next: AtomicU64,
}

impl Transfer {
    /// Removes what an earlier process left.
    pub(super) fn open(database: &Path) -> Result<Transfer, Error> {
        let directory = beside(database, ".transfer");
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(from_io("clear", &directory, &error))
            }
            Ok(()) | Err(_) => Ok(Transfer {
                directory,
                next: AtomicU64::new(0),
            }),
        }
    }

    /// A name for a new file. The directory exists when this returns.
    fn name(&self) -> Result<PathBuf, Error> {
        fs::create_dir_all(&self.directory)
            .map_err(|error| from_io("create", &self.directory, &error))?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Ok(self.directory.join(format!("{number:06}.sst")))
    }

    /// Begins a file.
    pub(super) fn receive(&self) -> Result<Incoming, Error> {
        let path = self.name()?;
        let file = fs::File::create(&path).map_err(|error| from_io("create", &path, &error))?;
        Ok(Incoming {
            file,
            path: Temporary(path),
        })
    }

    /// The file as one of this directory, which the database can link: itself or a copy.
    pub(super) fn adopt(&self, file: Box<dyn SortedFile>) -> Result<Box<dyn SortedFile>, Error> {
        match file.path() {
            Some(path) if path.parent() == Some(self.directory.as_path()) => Ok(file),
            Some(_) | None => self.copy(&*file),
        }
    }

    /// A second name for the file at `path`, or a copy where the disk knows no second names.
    fn link(&self, path: &Path, file: &dyn SortedFile) -> Result<Box<dyn SortedFile>, Error> {
        let link = Temporary(self.name()?);
        match fs::hard_link(path, &link) {
            Ok(()) => Ok(Box::new(Finished::open(link)?)),
            Err(_) => self.copy(file),
        }
    }

    fn copy(&self, file: &dyn SortedFile) -> Result<Box<dyn SortedFile>, Error> {
        let mut copy = Box::new(self.receive()?);
        let mut offset = 0;
        while offset < file.len() {
            let data = file.read_at(offset, COPY_BYTES)?;
            if data.is_empty() {
                break;
            }
            offset += data.len() as u64;
            copy.append(&data)?;
        }
        copy.finish()
    }
}

/// The path of something that lies beside the database and is named after it.
pub(super) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    database.with_file_name(name)
}

/// Removed when dropped.
pub(super) struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // Ingested files are gone already; a leftover is removed at the next opening.
        let _ = fs::remove_file(&self.0);
    }
}

impl AsRef<Path> for Temporary {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

/// A finished file.
pub(super) struct Finished<P> {
    file: fs::File,
    path: P,
    len: u64,
}

impl<P: AsRef<Path>> Finished<P> {
    pub(super) fn open(path: P) -> Result<Finished<P>, Error> {
        let at = path.as_ref();
        let file = fs::File::open(at).map_err(|error| from_io("open", at, &error))?;
        let len = file
            .metadata()
            .map_err(|error| from_io("stat", at, &error))?
            .len();
        Ok(Finished { file, path, len })
    }
}

impl<P: AsRef<Path> + Send + Sync> SortedFile for Finished<P> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, len: usize) -> Result<Bytes, Error> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut data = vec![0; len.min(left)];
        self.file
            .read_exact_at(&mut data, offset)
            .map_err(|error| from_io("read", self.path.as_ref(), &error))?;
        Ok(Bytes::from(data))
    }

    fn path(&self) -> Option<&Path> {
        Some(self.path.as_ref())
    }
}

/// A file being received.
pub(super) struct Incoming {
    file: fs::File,
    path: Temporary,
}

impl IncomingFile for Incoming {
    fn append(&mut self, data: &[u8]) -> Result<(), Error> {
        self.file
            .write_all(data)
            .map_err(|error| from_io("write", &self.path.0, &error))
    }

    fn finish(self: Box<Self>) -> Result<Box<dyn SortedFile>, Error> {
        // Not synced here: keeping syncs what it takes, and ingestion too.
        Ok(Box::new(Finished::open(self.path)?))
    }
}

/// Writes the records of a range to files of about `file_bytes_max`.
pub(super) fn export(
    db: &Db,
    transfer: &Transfer,
    options: &Options,
    read_point: &Snapshot,
    (from, to): (&[u8], &[u8]),
    file_bytes_max: usize,
) -> Result<Vec<Box<dyn SortedFile>>, Error> {
    let mut files: Vec<Box<dyn SortedFile>> = Vec::new();
    let mut open: Option<(SstFileWriter<'_>, Temporary)> = None;
    read_point.scan(from, to, Order::Ascending, &mut |key, value| {
        let (mut writer, path) = match open.take() {
            Some(open) => open,
            None => {
                let path = transfer.name()?;
                let writer = SstFileWriter::create(options);
                writer
                    .open(&path)
                    .map_err(|error| db.error("export", &error, key))?;
                (writer, Temporary(path))
            }
        };
        writer
            .put(key, value)
            .map_err(|error| db.error("export", &error, key))?;
        if writer.file_size() < file_bytes_max as u64 {
            open = Some((writer, path));
        } else {
            files.push(finish(db, writer, path)?);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if let Some((writer, path)) = open {
        files.push(finish(db, writer, path)?);
    }
    Ok(files)
}

fn finish(
    db: &Db,
    mut writer: SstFileWriter<'_>,
    path: Temporary,
) -> Result<Box<dyn SortedFile>, Error> {
    writer
        .finish()
        .map_err(|error| db.error("export", &error, &[]))?;
    Ok(Box::new(Finished::open(path)?))
}

/// Moves files into the database; kept ones stay where they are as well.
pub(super) fn ingest(
    db: &Db,
    transfer: &Transfer,
    kept: &Kept,
    files: Vec<Box<dyn SortedFile>>,
) -> Result<(), Error> {
    let mut local = Vec::with_capacity(files.len());
    for file in files {
        local.push(match file.path() {
            Some(path) if kept.holds(path) => transfer.link(path, &*file)?,
            Some(_) | None => transfer.adopt(file)?,
        });
    }
    let paths: Vec<&Path> = local.iter().filter_map(|file| file.path()).collect();
    if paths.is_empty() {
        return Ok(());
    }
    let mut options = IngestExternalFileOptions::default();
    // By hard links; and nothing is written into the files, so a kept one remains what it was.
    options.set_move_files(true);
    // A flush that ingestion causes would make other shards' state durable before their log.
    options.set_allow_blocking_flush(db.role == Role::Log);
    db.rocks
        .ingest_external_file_opts(&options, paths)
        .map_err(|error| db.error("ingest", &error, &[]))
}
