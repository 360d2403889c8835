//! Running an export: units are written in order, and where it stands is noted on the way.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use client::Client;
use indicatif::ProgressBar;
use tokio::sync::mpsc;

use super::fetch::{Fetch, Head, Stop, Unit};
use super::manifest::Manifest;
use super::part::Part;
use super::position::{self, Last, Position, Selection};
use super::walk::{Coming, Walk};
use super::{Counts, line};
use crate::exit::Usage;

/// Between two notes of where it stands.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);
/// Held while an export writes to a directory.
const LOCK: &str = "export.lock";
const GONE: &str = "the conversation was deleted while it was exported";

/// What became of an export.
pub struct Outcome {
    /// What is in the directory.
    pub manifest: Manifest,
    /// It ended before its end; running it again goes on.
    pub interrupted: bool,
    /// What was there already when it began.
    pub resumed: Counts,
}

/// Exports into a directory, or goes on with that. `bar` counts slots of 65,536, or seqs of one conversation.
///
/// # Errors
/// Usage, when the directory holds something else; when the cluster or the disk refuses.
pub async fn run(
    client: Client,
    dir: &Path,
    (tenant, selection): (&str, Selection),
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<Outcome> {
    fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let _lock = lock(dir)?;
    let position = begin(dir, tenant, &selection)?;
    let resumed = position.counts;
    let sender = match &selection {
        Selection::User(user) => Some(Arc::from(user.as_str())),
        Selection::Tenant | Selection::Conversation(_) => None,
    };
    let (walk, coming) = Walk::new(Fetch { client, sender }, tenant);
    let walking = tokio::spawn(walk.run(position.clone()));
    let writer = Writer::open(dir, position, bar, stop)?;
    let writing = tokio::task::spawn_blocking(move || writer.run(coming));
    let written = writing.await.context("writing failed")?;
    let (position, interrupted) = match written {
        Ok(written) => written,
        Err(error) => {
            walking.abort();
            return Err(error);
        }
    };
    if interrupted {
        walking.abort();
    } else {
        walking.await.context("reading failed")??;
        let manifest = Manifest::of(&position);
        manifest.save(dir)?;
        fs::remove_file(dir.join(position::FILE)).context("the position cannot be removed")?;
        fs::remove_file(dir.join(LOCK)).context("the lock cannot be removed")?;
    }
    Ok(Outcome {
        manifest: Manifest::of(&position),
        interrupted,
        resumed,
    })
}

fn lock(dir: &Path) -> anyhow::Result<File> {
    let path = dir.join(LOCK);
    let file = File::create(&path).with_context(|| path.display().to_string())?;
    file.try_lock().map_err(|_| {
        let dir = dir.display();
        anyhow!(Usage(format!("another export writes to {dir} now")))
    })?;
    Ok(file)
}

/// Where to begin.
fn begin(dir: &Path, tenant: &str, selection: &Selection) -> anyhow::Result<Position> {
    let usage = |why: &str| anyhow!(Usage(format!("{} {why}", dir.display())));
    if let Some(position) = Position::load(dir, tenant, selection)? {
        return Ok(position);
    }
    if Manifest::load(dir)?.is_some() {
        fs::remove_file(dir.join(LOCK)).context("the lock cannot be removed")?;
        return Err(usage("holds a whole export; name another directory"));
    }
    let mut entries = fs::read_dir(dir)?;
    let strange = entries.any(|entry| entry.map_or(true, |entry| entry.file_name() != LOCK));
    if strange {
        fs::remove_file(dir.join(LOCK)).context("the lock cannot be removed")?;
        return Err(usage("holds other files; name an empty directory"));
    }
    let position = Position::new(tenant.to_owned(), selection.clone());
    position.save(dir)?;
    Ok(position)
}

/// Writes units one after the other.
struct Writer {
    dir: PathBuf,
    position: Position,
    part: Part,
    noted: Instant,
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
    /// A conversation that ended early: its further units are passed over.
    gone: Option<Arc<Head>>,
}

impl Writer {
    fn open(
        dir: &Path,
        position: Position,
        bar: ProgressBar,
        stop: Arc<AtomicBool>,
    ) -> anyhow::Result<Writer> {
        Ok(Writer {
            part: Part::open(dir, position.parts.len() + 1, position.part_bytes)?,
            dir: dir.to_owned(),
            position,
            noted: Instant::now(),
            bar,
            stop,
            gone: None,
        })
    }

    /// Writes all that comes; gives where it ended, and whether it was interrupted.
    fn run(mut self, mut coming: mpsc::Receiver<Coming>) -> anyhow::Result<(Position, bool)> {
        while let Some((unit, chunks)) = coming.blocking_recv() {
            let passed_over = self
                .gone
                .as_ref()
                .is_some_and(|gone| Arc::ptr_eq(gone, &unit.head));
            if !passed_over {
                self.unit(&unit, chunks)?;
            }
            if self.part.is_full() {
                self.rotate()?;
            }
            if self.stop.load(Ordering::Relaxed) {
                self.note()?;
                return Ok((self.position, true));
            }
            if self.noted.elapsed() >= NOTE_INTERVAL {
                self.note()?;
            }
        }
        let last = self.part.end()?;
        if last.bytes > 0 || self.position.parts.is_empty() {
            self.position.parts.push(last);
        } else {
            fs::remove_file(self.dir.join(&last.file))
                .context("an empty part cannot be removed")?;
        }
        Ok((self.position, false))
    }

    fn unit(
        &mut self,
        unit: &Unit,
        mut chunks: mpsc::Receiver<Result<super::fetch::Chunk, Stop>>,
    ) -> anyhow::Result<()> {
        let mut last = self.opened(unit);
        // A conversation of which nothing is wanted is not named.
        if self.position.selection.is_whole() {
            self.begun(&mut last)?;
        }
        while let Some(chunk) = chunks.blocking_recv() {
            match chunk {
                Ok(chunk) if chunk.lines.is_empty() => {}
                Ok(chunk) => {
                    self.begun(&mut last)?;
                    self.part.write(&chunk.lines)?;
                    self.position.counts.add(chunk.counts);
                }
                Err(Stop::Gone) => {
                    self.ended(unit, &mut last)?;
                    break;
                }
                Err(Stop::Failed(error)) => {
                    // Where it stood before this unit is noted.
                    let name = &unit.head.name;
                    let told =
                        format!("{name} cannot be read; run the same command again to go on");
                    return Err(anyhow::Error::new(error).context(told));
                }
            }
        }
        last.next_seq = last.next_seq.max(unit.last + 1);
        self.show(&last);
        self.position.page_token = unit.head.page_token.to_string();
        self.position.last = Some(last);
        Ok(())
    }

    /// The conversation of a unit, as far as it is written.
    fn opened(&mut self, unit: &Unit) -> Last {
        let same = |last: &Last| last.conversation == unit.head.id && !last.is_whole();
        match self.position.last.clone().filter(same) {
            Some(last) => last,
            None => Last {
                conversation: unit.head.id.clone(),
                incarnation: unit.head.incarnation,
                next_seq: unit.first,
                last_seq: unit.head.last_seq,
                begin: unit.head.begin.clone(),
            },
        }
    }

    /// Writes the first line of a conversation, unless that was done.
    fn begun(&mut self, last: &mut Last) -> anyhow::Result<()> {
        if let Some(begin) = last.begin.take() {
            self.part.write(begin.as_bytes())?;
            self.position.counts.conversations += 1;
        }
        Ok(())
    }

    fn ended(&mut self, unit: &Unit, last: &mut Last) -> anyhow::Result<()> {
        self.gone = Some(Arc::clone(&unit.head));
        // Of one that was not begun there is nothing to end.
        if last.begin.is_none() {
            let mut why = Vec::new();
            line::ended(&mut why, &unit.head.id, GONE)?;
            self.part.write(&why)?;
            self.position.counts.ended += 1;
        }
        last.next_seq = last.last_seq + 1;
        Ok(())
    }

    fn rotate(&mut self) -> anyhow::Result<()> {
        let next = Part::open(&self.dir, self.position.parts.len() + 2, 0)?;
        let full = std::mem::replace(&mut self.part, next).end()?;
        self.position.parts.push(full);
        self.note()
    }

    fn note(&mut self) -> anyhow::Result<()> {
        self.part.sync()?;
        self.position.part_bytes = self.part.bytes();
        self.position.save(&self.dir)?;
        self.noted = Instant::now();
        Ok(())
    }

    fn show(&self, last: &Last) {
        let at = match self.position.selection {
            Selection::Conversation(_) => {
                self.bar.set_length(last.last_seq);
                last.next_seq - 1
            }
            Selection::Tenant | Selection::User(_) => {
                u64::from(last.key(&self.position.tenant).slot().0)
            }
        };
        self.bar.set_position(at);
        let counts = &self.position.counts;
        self.bar.set_message(format!(
            "{} messages of {} conversations",
            indicatif::HumanCount(counts.messages),
            indicatif::HumanCount(counts.conversations)
        ));
    }
}

impl Selection {
    /// Whether all of each conversation is wanted.
    fn is_whole(&self) -> bool {
        match self {
            Selection::Tenant | Selection::Conversation(_) => true,
            Selection::User(_) => false,
        }
    }
}
