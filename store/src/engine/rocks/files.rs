//! Sorted files on their way between replicas: temporary SST files beside the database.

use std::fs;
use std::io::{ErrorKind, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rocksdb::{IngestExternalFileOptions, Options, SstFileWriter};

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
        let mut name = database.file_name().unwrap_or_default().to_owned();
        name.push(".transfer");
        let directory = database.with_file_name(name);
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
            len: 0,
        })
    }
}

/// Removed when dropped.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // Ingested files are gone already; a leftover is removed at the next opening.
        let _ = fs::remove_file(&self.0);
    }
}

/// A finished file.
struct Finished {
    file: fs::File,
    path: Temporary,
    len: u64,
}

impl SortedFile for Finished {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, len: usize) -> Result<Bytes, Error> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut data = vec![0; len.min(left)];
        self.file
            .read_exact_at(&mut data, offset)
            .map_err(|error| from_io("read", &self.path.0, &error))?;
        Ok(Bytes::from(data))
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.path.0)
    }
}

/// A file being received.
pub(super) struct Incoming {
    file: fs::File,
    path: Temporary,
    len: u64,
}

impl IncomingFile for Incoming {
    fn append(&mut self, data: &[u8]) -> Result<(), Error> {
        self.file
            .write_all(data)
            .map_err(|error| from_io("write", &self.path.0, &error))?;
        self.len += data.len() as u64;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Box<dyn SortedFile>, Error> {
        // Not synced here: ingestion syncs what it takes.
        let file =
            fs::File::open(&self.path.0).map_err(|error| from_io("open", &self.path.0, &error))?;
        Ok(Box::new(Finished {
            file,
            path: self.path,
            len: self.len,
        }))
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
    let mut put = |key: &[u8], value: &[u8]| -> Result<(), Error> {
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
        Ok(())
    };
    let mut failed = None;
    read_point.scan(
        from,
        to,
        Order::Ascending,
        &mut |key, value| match put(key, value) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        },
    )?;
    if let Some(error) = failed {
        return Err(error);
    }
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
    let file = fs::File::open(&path.0).map_err(|error| from_io("open", &path.0, &error))?;
    let len = file
        .metadata()
        .map_err(|error| from_io("stat", &path.0, &error))?
        .len();
    Ok(Box::new(Finished { file, path, len }))
}

/// Moves files into the database.
pub(super) fn ingest(
    db: &Db,
    transfer: &Arc<Transfer>,
    files: Vec<Box<dyn SortedFile>>,
) -> Result<(), Error> {
    let mut local = Vec::with_capacity(files.len());
    for file in files {
        // An SST file that this database's directory can link needs no copy.
        match file.path() {
            Some(path) if path.parent() == Some(transfer.directory.as_path()) => local.push(file),
            Some(_) | None => local.push(copy(transfer, file.as_ref())?),
        }
    }
    let paths: Vec<&Path> = local.iter().filter_map(|file| file.path()).collect();
    if paths.is_empty() {
        return Ok(());
    }
    let mut options = IngestExternalFileOptions::default();
    options.set_move_files(true);
    // A flush that ingestion causes would make other shards' state durable before their log.
    options.set_allow_blocking_flush(db.role == Role::Log);
    db.rocks
        .ingest_external_file_opts(&options, paths)
        .map_err(|error| db.error("ingest", &error, &[]))
}

fn copy(transfer: &Transfer, file: &dyn SortedFile) -> Result<Box<dyn SortedFile>, Error> {
    let mut copy = Box::new(transfer.receive()?);
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
