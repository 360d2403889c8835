//! The threads of a database: one that syncs, one for long work. Nothing else in the store has
//! threads; both end when the engine is dropped.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, atomic::Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::BoxFuture;

use super::{Db, Role};
use crate::Error;

/// How often the background errors of an idle database are looked at.
const IDLE_CHECK: Duration = Duration::from_secs(1);
/// How often a running flush is looked at.
const FLUSH_CHECK: Duration = Duration::from_millis(1);

type Answer = oneshot::Sender<Result<(), Error>>;
/// A piece of long work.
pub(super) type Job = Box<dyn FnOnce(&Db) + Send>;

/// A thread that takes messages until its `Worker` is dropped.
pub(super) struct Worker<T> {
    sender: Option<Sender<T>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Worker<T> {
    fn start(
        db: &Arc<Db>,
        name: &str,
        run: impl FnOnce(&Db, &Receiver<T>) + Send + 'static,
    ) -> Result<Worker<T>, Error> {
        let (sender, receiver) = channel();
        let moved = Arc::clone(db);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(&moved, &receiver))
            .map_err(|error| db.disk_error("start a thread", &error.to_string()))?;
        Ok(Worker {
            sender: Some(sender),
            thread: Some(thread),
        })
    }

    fn send(&self, message: T) {
        if let Some(sender) = &self.sender {
            // A thread that is gone has dropped the answer's other half, which tells the caller.
            let _ = sender.send(message);
        }
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        drop(self.sender.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Worker<Answer> {
    /// The thread that completes syncs.
    pub(super) fn syncer(db: &Arc<Db>) -> Result<Worker<Answer>, Error> {
        match db.role {
            Role::Log => Worker::start(db, "raftdb-sync", sync_log),
            Role::State => Worker::start(db, "msgdb-sync", await_flushes),
        }
    }

    /// Completes when the thread has answered.
    pub(super) fn request(&self, db: &Arc<Db>) -> BoxFuture<'static, Result<(), Error>> {
        let (answer, answered) = oneshot::channel();
        self.send(answer);
        let db = Arc::clone(db);
        async move {
            answered
                .await
                .unwrap_or_else(|_| Err(db.disk_error("sync", "its thread has ended")))
        }
        .boxed()
    }
}

/// Everyone who waits when a sync begins is answered by it.
fn sync_log(db: &Db, requests: &Receiver<Answer>) {
    while let Some(first) = next(db, requests) {
        let waiting: Vec<Answer> = std::iter::once(first).chain(requests.try_iter()).collect();
        let result = db
            .rocks
            .flush_wal(true)
            .map_err(|error| db.refused("sync", &error))
            .and_then(|()| db.check_background());
        answer(db, waiting, result);
    }
}

/// A request comes after its memtable was switched, so it is done when no switched memtable is
/// left to flush. (A second flush that waits would flush newer writes as well.)
#[allow(
    clippy::disallowed_methods,
    reason = "a thread of RocksDB's own, outside the simulator"
)]
fn await_flushes(db: &Db, requests: &Receiver<Answer>) {
    while let Some(first) = next(db, requests) {
        let mut waiting = vec![first];
        let result = loop {
            waiting.extend(requests.try_iter());
            match db
                .check_background()
                .and_then(|()| db.unflushed_memtables())
            {
                Ok(0) => break Ok(()),
                Ok(_) => std::thread::sleep(FLUSH_CHECK),
                Err(error) => break Err(error),
            }
        };
        answer(db, waiting, result);
    }
}

/// Waits for a request, watching for background errors; `None` when the engine is dropped.
fn next(db: &Db, requests: &Receiver<Answer>) -> Option<Answer> {
    loop {
        match requests.recv_timeout(IDLE_CHECK) {
            Ok(request) => return Some(request),
            // It notes the error, which the next write or sync returns.
            Err(RecvTimeoutError::Timeout) => drop(db.check_background()),
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

fn answer(db: &Db, waiting: Vec<Answer>, result: Result<(), Error>) {
    match &result {
        Ok(()) => drop(db.syncs.fetch_add(1, Ordering::Relaxed)),
        Err(error) => db.fail(error),
    }
    for answer in waiting {
        let _ = answer.send(result.clone());
    }
}

impl Worker<Job> {
    /// The thread for long work: exports, ingestions, checkpoints.
    pub(super) fn long(db: &Arc<Db>) -> Result<Worker<Job>, Error> {
        let name = match db.role {
            Role::Log => "raftdb-work",
            Role::State => "msgdb-work",
        };
        Worker::start(db, name, |db, jobs: &Receiver<Job>| {
            while let Ok(job) = jobs.recv() {
                job(db);
            }
        })
    }

    /// Runs `work` on the thread and gives its result.
    pub(super) fn run<R: Send + 'static>(
        &self,
        db: &Arc<Db>,
        operation: &'static str,
        work: impl FnOnce(&Db) -> Result<R, Error> + Send + 'static,
    ) -> BoxFuture<'static, Result<R, Error>> {
        let (answer, answered) = oneshot::channel();
        self.send(Box::new(move |db| drop(answer.send(work(db)))));
        let db = Arc::clone(db);
        async move {
            answered
                .await
                .unwrap_or_else(|_| Err(db.disk_error(operation, "its thread has ended")))
        }
        .boxed()
    }
}
