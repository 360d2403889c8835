//! The engine on a [`Disk`].

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::files::{self, File, Incoming, decode, encode};
use super::records::{Records, Value};
use super::state::State;
use super::volume::Layout;
use super::{Disk, Shared};
use crate::Error;
use crate::engine::batch::Write;
use crate::engine::{Batch, Engine, IncomingFile, Order, Read, Snapshot, SortedFile, Stats, Visit};
use crate::key::readable;

/// An engine on a [`Disk`].
pub struct Memory {
    disk: Disk,
    life: u64,
}

impl Default for Memory {
    fn default() -> Self {
        Memory::new()
    }
}

impl Memory {
    /// An empty store on a disk of its own.
    pub fn new() -> Memory {
        Memory::open(&Disk::new())
    }

    /// Opens what is durable on `disk`, and what a killed process left in the operating system
    /// ([`Disk::process_killed`]), which is durable from now on. An engine that was open on it is
    /// dead; what it had not synced is gone unless one of the disk's crashes kept it.
    pub fn open(disk: &Disk) -> Memory {
        let life = disk.shared.state.lock().open();
        Memory {
            disk: disk.clone(),
            life,
        }
    }

    /// The disk under it.
    pub fn disk(&self) -> Disk {
        self.disk.clone()
    }

    fn point(&self) -> Point {
        Point {
            records: self.disk.shared.state.lock().visible.clone(),
            shared: Arc::clone(&self.disk.shared),
        }
    }
}

/// A read point.
struct Point {
    records: Records,
    shared: Arc<Shared>,
}

impl Read for Point {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let mut state = self.shared.state.lock();
        state.readable("read")?;
        sound(&state, key, self.records.get(key))
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visit<'_>) -> Result<(), Error> {
        let name = {
            let mut state = self.shared.state.lock();
            state.readable("scan")?;
            Arc::clone(&state.name)
        };
        self.records
            .scan((from, to), order, visit, |key| damaged(&name, key))
    }
}

impl Read for Memory {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let mut state = self.disk.shared.state.lock();
        state.readable("read")?;
        sound(&state, key, state.visible.get(key))
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visit<'_>) -> Result<(), Error> {
        // `visit` may use the engine, so nothing is locked meanwhile.
        self.point().scan(from, to, order, visit)
    }
}

fn sound(state: &State, key: &[u8], found: Option<&Value>) -> Result<Option<Bytes>, Error> {
    match found {
        None => Ok(None),
        Some(Some(value)) => Ok(Some(value.clone())),
        Some(None) => Err(damaged(&state.name, key)),
    }
}

fn damaged(name: &str, key: &[u8]) -> Error {
    Error::Corrupt {
        file: name.to_owned(),
        key: readable(key),
        reason: "block checksum mismatch".to_owned(),
    }
}

impl Engine for Memory {
    fn write(&self, batch: Batch) -> Result<(), Error> {
        let mut state = self.disk.shared.state.lock();
        state.alive(self.life, "write")?;
        let bytes = batch.bytes() as u64;
        state.writable("write", bytes)?;
        state.lay_out(|layout, live| layout.write(bytes, live))?;
        state.write(batch);
        Ok(())
    }

    fn sync(&self) -> BoxFuture<'static, Result<(), Error>> {
        let (shared, life) = (Arc::clone(&self.disk.shared), self.life);
        let (upto, failed_before) = {
            let state = shared.state.lock();
            (state.written, state.failed_syncs)
        };
        async move {
            shared.served().await;
            let mut state = shared.state.lock();
            state.alive(life, "sync")?;
            state.lay_out(Layout::sync)?;
            state.end_sync(upto, failed_before)
        }
        .boxed()
    }

    fn snapshot(&self) -> Snapshot {
        Arc::new(self.point())
    }

    fn export(
        &self,
        read_point: Snapshot,
        from: Vec<u8>,
        to: Vec<u8>,
        file_bytes_max: usize,
    ) -> BoxFuture<'static, Result<Vec<Box<dyn SortedFile>>, Error>> {
        async move {
            let mut files: Vec<Box<dyn SortedFile>> = Vec::new();
            let mut open = BytesMut::new();
            read_point.scan(&from, &to, Order::Ascending, &mut |key, value| {
                encode(&mut open, key, value);
                if open.len() >= file_bytes_max {
                    files.push(Box::new(File(open.split().freeze())));
                }
                Ok(ControlFlow::Continue(()))
            })?;
            if !open.is_empty() {
                files.push(Box::new(File(open.freeze())));
            }
            Ok(files)
        }
        .boxed()
    }

    fn receive(&self) -> Result<Box<dyn IncomingFile>, Error> {
        Ok(Box::new(Incoming::default()))
    }

    fn keep(
        &self,
        files: Vec<Box<dyn SortedFile>>,
    ) -> BoxFuture<'static, Result<Vec<String>, Error>> {
        let (shared, life) = (Arc::clone(&self.disk.shared), self.life);
        async move {
            let contents = contents(&files)?;
            let bytes = contents.iter().map(|content| content.len() as u64).sum();
            shared.served().await;
            let mut state = shared.state.lock();
            state.alive(life, "keep")?;
            state.durably_writable("keep", bytes)?;
            Ok(state.keep(contents))
        }
        .boxed()
    }

    fn kept(&self) -> Result<Vec<String>, Error> {
        let state = self.disk.shared.state.lock();
        state.alive(self.life, "list")?;
        Ok(state.kept.keys().cloned().collect())
    }

    fn open_kept(&self, name: &str) -> Result<Box<dyn SortedFile>, Error> {
        let mut state = self.disk.shared.state.lock();
        state.alive(self.life, "open")?;
        state.readable("open")?;
        match state.kept.get(name) {
            Some(content) => Ok(Box::new(File(content.clone()))),
            None => Err(Error::Corrupt {
                file: state.name.to_string(),
                key: name.to_owned(),
                reason: "there is no kept file of this name".to_owned(),
            }),
        }
    }

    fn forget(&self, names: &[String]) -> Result<(), Error> {
        let mut state = self.disk.shared.state.lock();
        state.alive(self.life, "remove")?;
        for name in names {
            state.kept.remove(name);
        }
        state.note_kept();
        Ok(())
    }

    fn ingest(&self, files: Vec<Box<dyn SortedFile>>) -> BoxFuture<'static, Result<(), Error>> {
        let (shared, life) = (Arc::clone(&self.disk.shared), self.life);
        async move {
            let contents = contents(&files)?;
            let bytes = contents.iter().map(|content| content.len() as u64).sum();
            shared.served().await;
            let mut state = shared.state.lock();
            state.alive(life, "ingest")?;
            state.durably_writable("ingest", bytes)?;
            state.lay_out(|layout, live| layout.add(bytes, live))?;
            state.ingest(contents)
        }
        .boxed()
    }

    fn checkpoint(&self, directory: &Path) -> BoxFuture<'static, Result<(), Error>> {
        let mut state = self.disk.shared.state.lock();
        let result = if state.checkpoints.contains_key(directory) {
            Err(state.error("checkpoint", "the directory exists"))
        } else {
            let copy = State::with_records(Arc::clone(&state.name), state.durable());
            let copy = Disk::of(copy);
            state.checkpoints.insert(directory.to_owned(), copy);
            Ok(())
        };
        futures::future::ready(result).boxed()
    }

    /// It has no files.
    fn scour(&self, _: Vec<(Vec<u8>, Vec<u8>)>) -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn compact(&self, may: bool) {
        if let Some(layout) = &mut self.disk.shared.state.lock().layout {
            layout.compact(may);
        }
    }

    fn stats(&self) -> Stats {
        let state = self.disk.shared.state.lock();
        Stats {
            stored_bytes: state.used_bytes(),
            memory_bytes: 0,
            ..state.stats
        }
    }
}

fn contents(files: &[Box<dyn SortedFile>]) -> Result<Vec<Bytes>, Error> {
    files.iter().map(|file| files::all(&**file)).collect()
}

impl State {
    /// Adds the records of files, durable at once.
    fn ingest(&mut self, contents: Vec<Bytes>) -> Result<(), Error> {
        let mut records = Vec::new();
        for content in contents {
            let decoded = decode(content).ok_or_else(|| Error::Corrupt {
                file: self.name.to_string(),
                key: "unknown".to_owned(),
                reason: "a file to ingest is damaged".to_owned(),
            })?;
            records.extend(decoded);
        }
        let keys = || records.iter().map(|(key, _)| key);
        if let (Some(first), Some(last)) = (keys().min(), keys().max()) {
            let mut unsynced = self.unsynced.iter().flat_map(|u| u.batch().writes());
            if unsynced.any(|write| touches(write, first, last)) {
                return Err(self.error("ingest", "unsynced writes in the range of the files"));
            }
        }
        let mut sound = Batch::new();
        for (key, value) in records {
            match value {
                Some(value) => sound.put(key, value),
                None => drop(self.visible.set(key, Some(None))),
            }
        }
        self.write_durably(&sound);
        self.ingests += 1;
        Ok(())
    }
}

/// Whether a write changes anything in `[first, last]`.
fn touches(write: &Write, first: &Bytes, last: &Bytes) -> bool {
    match write {
        Write::Put(key, _) | Write::Delete(key) => key >= first && key <= last,
        Write::DeleteRange(from, to) => from <= last && to > first,
    }
}
