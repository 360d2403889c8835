//! Running an import: a source is read on a thread, and its conversations are brought in at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use client::{AppendStream, Client, StreamOptions};
use indicatif::ProgressBar;
use model::id::ConversationName;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::record::{Bad, Kind, Record, Source};
use super::report::{Book, Report};
use super::room::{Held, Inlet};
use super::slack::Slack;
use super::{export, kakao};

/// Conversations that are brought in at once.
const ROOMS_MAX: usize = 64;
/// Memory for records between the source and the cluster, KiB.
const HELD_KIB_MAX: usize = 32 * 1024;
/// Records of one batch of the source, and batches that wait.
const BATCH: usize = 256;
const BATCHES_MAX: usize = 4;
/// Records that wait for one conversation.
const ROOM_QUEUE: usize = 256;
const SHOW_INTERVAL: Duration = Duration::from_millis(100);

/// What to import, and where to.
pub struct Given {
    /// What the file is.
    pub kind: Kind,
    /// The file or directory.
    pub path: PathBuf,
    /// The tenant.
    pub tenant: String,
    /// Sizes of the windows of the streams to append on.
    pub windows: Vec<usize>,
    /// For KakaoTalk: what is not in the file.
    pub chat: kakao::Given,
}

/// Imports all of it, until `stop` is set. `bar` counts bytes.
///
/// # Errors
/// Usage, when the file is not what it is said to be; when it cannot be read.
pub async fn run(
    client: Client,
    given: Given,
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<Report> {
    let begun = Instant::now();
    let read = Arc::new(AtomicU64::new(0));
    let (source, bytes) = open(&given, Arc::clone(&read))?;
    bar.set_length(bytes);
    let book = Book::default();
    let stream = |unanswered_max: &usize| {
        client.append_stream(&StreamOptions {
            unanswered_max: *unanswered_max,
            deadline: None,
        })
    };
    let streams: Arc<[AppendStream]> = given.windows.iter().map(stream).collect();
    let into = Inlet {
        client,
        streams,
        tenant: given.tenant.clone(),
        book: book.clone(),
    };
    let (batches, taken) = mpsc::channel(BATCHES_MAX);
    let reading = tokio::task::spawn_blocking({
        let stop = Arc::clone(&stop);
        move || read_ahead(source, &batches, &stop)
    });
    let showing = tokio::spawn(show(bar, read, book.clone()));
    let dispatched = dispatch(&into, taken).await;
    showing.abort();
    dispatched?;
    reading.await.context("reading failed")?;
    let mut report = book.close();
    report.file = given.path.display().to_string();
    report.tenant = given.tenant;
    report.interrupted = stop.load(Ordering::Relaxed);
    report.seconds = begun.elapsed().as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = (report.imported + report.already_there) as f64 / report.seconds.max(1e-9);
    report.msgs_per_s = rate;
    Ok(report)
}

fn open(given: &Given, read: Arc<AtomicU64>) -> anyhow::Result<(Source, u64)> {
    let path: &Path = &given.path;
    Ok(match given.kind {
        Kind::Export => {
            let (source, bytes) = export::Export::open(path, read)?;
            (Box::new(source) as Source, bytes)
        }
        Kind::Slack => {
            let (source, bytes) = Slack::open(path, read)?;
            (Box::new(source) as Source, bytes)
        }
        Kind::Kakao => kakao::open(path, &given.chat, read)
            .with_context(|| format!("{} cannot be read", path.display()))?,
        Kind::Lines => anyhow::bail!("JSON lines are imported by another way"),
    })
}

type Batch = Vec<Result<Record, Bad>>;

/// Reads a source on a thread of its own.
fn read_ahead(mut source: Source, batches: &mpsc::Sender<Batch>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let batch: Batch = source.by_ref().take(BATCH).collect();
        if batch.is_empty() || batches.blocking_send(batch).is_err() {
            break;
        }
    }
}

/// Gives each conversation's records to a task of its own, and waits for all of these.
async fn dispatch(into: &Inlet, mut batches: mpsc::Receiver<Batch>) -> anyhow::Result<()> {
    let memory = Arc::new(Semaphore::new(HELD_KIB_MAX));
    let mut rooms = JoinSet::new();
    let mut open: Option<(String, mpsc::Sender<Held>)> = None;
    while let Some(batch) = batches.recv().await {
        for record in batch {
            let record = match record {
                Ok(record) => record,
                Err(bad) => {
                    into.book.bad(bad);
                    continue;
                }
            };
            let kib = record.weight().div_ceil(1_024).min(HELD_KIB_MAX / 4);
            let kib = u32::try_from(kib).unwrap_or(1);
            let held = Arc::clone(&memory).acquire_many_owned(kib).await?;
            let id = record.conversation();
            let room = match &open {
                Some((of, room)) if of == id => room,
                _ => {
                    // The one before ends behind what it was given.
                    open = None;
                    while rooms.len() >= ROOMS_MAX {
                        rooms.join_next().await.transpose()?;
                    }
                    let name = ConversationName::new(&into.tenant, id)?;
                    let (sender, records) = mpsc::channel(ROOM_QUEUE);
                    rooms.spawn(into.clone().room(name, records));
                    &open.insert((id.to_owned(), sender)).1
                }
            };
            // A room takes all that it is given.
            let _ = room.send((record, held)).await;
        }
    }
    drop(open);
    while rooms.join_next().await.transpose()?.is_some() {}
    Ok(())
}

async fn show(bar: ProgressBar, read: Arc<AtomicU64>, book: Book) {
    let mut ticks = tokio::time::interval(SHOW_INTERVAL);
    loop {
        ticks.tick().await;
        bar.set_position(read.load(Ordering::Relaxed));
        let (messages, conversations) = book.counts();
        bar.set_message(format!(
            "{} messages of {} conversations",
            indicatif::HumanCount(messages),
            indicatif::HumanCount(conversations)
        ));
    }
}
