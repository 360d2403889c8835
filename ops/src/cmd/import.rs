//! `firebreak import`: brings chats from a file into the cluster, once, however often it is run.
//!
//! Here are JSON lines, whose conversations may be mixed; [`crate::import`] has all other formats.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use client::{Ack, AppendStream, StreamOptions};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use firebreak::corpus::{self, BadLine, Line};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use model::hash;
use model::id::{ConversationName, segment};
use serde::Serialize;
use tokio::sync::mpsc;

use super::target::{Target, Tenant, printable};
use crate::exit::Usage;
use crate::import::Kind;
use crate::stop::Stop;
use others::offset_ms;

mod others;

const EXAMPLES: &str = "\
What the file is, its beginning tells; --format says it. Beside JSON lines it may be what `firebreak export` wrote (a
directory), Slack's export (a ZIP file), or KakaoTalk's export of one chat (Android, iOS, Windows, macOS).

Of JSON lines each line is one message, and a conversation's messages come in order:
  {\"conversation\":\"room-1\",\"sender\":\"ann\",\"timestamp\":\"2018-05-02T19:38:15Z\",\"text\":\"Hello\"}

A line may also have \"type\" (else \"text\"), \"attributes\", \"silent\" and, instead of text, \"body_base64\"; without
a timestamp, its original_time or create_time counts, so that what `firebreak read --json` prints can be
imported. Other fields are not: the summary names them, and says in how many lines they were.

Examples:
  firebreak import chats.jsonl                        plain, .gz or .zst
  firebreak read room-1 --json | firebreak import - --tenant copy
  zcat chats.jsonl.gz | firebreak import -            from standard input
  firebreak import chats.jsonl.zst --tenant acme --report report.json
  firebreak import backup --tenant acme               what `firebreak export backup` wrote
  firebreak import slack.zip --tenant acme
  firebreak import KakaoTalkChats.txt --conversation family --utc-offset +09:00

A message's id is made of its conversation and its place there, so an import that was interrupted
is simply run again: what is in already is not appended twice. A line that is wrong is reported and
left out; mended in its place it can be imported later, and comes last in its conversation then.

Exit codes: 0 all in, 1 some lines were wrong, 2 wrong arguments or the file cannot be read to its
end, 3 the cluster refused some lines or the time ran out for them, 130 interrupted.";

/// Import chats from a file of JSON lines.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// File of JSON lines, plain, .gz or .zst, - for standard input; or another program's export
    file: PathBuf,
    /// What the file is [default: what it looks like]
    #[arg(long, value_enum)]
    format: Option<Kind>,
    /// For KakaoTalk: the conversation to import into [default: one made of the chat's title]
    #[arg(long, value_name = "ID")]
    conversation: Option<String>,
    /// For KakaoTalk: how far the chat's clock is ahead of UTC
    #[arg(long, value_name = "+HH:MM", default_value = "+09:00", value_parser = offset_ms, allow_hyphen_values = true)]
    utc_offset: i64,
    /// Messages under way at once
    #[arg(long, value_name = "N", default_value_t = 4_096, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    concurrency: u32,
    /// How long one message may take, all retries together, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    deadline: u64,
    /// Write the summary, with every line that was left out, to this file
    #[arg(long, value_name = "FILE.json")]
    report: Option<PathBuf>,
    /// Print the summary as JSON and no progress
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    tenant: Tenant,
    #[command(flatten)]
    target: Target,
}

/// Streams over which the messages go, on different nodes where there are several.
const STREAMS_MAX: usize = 4;
/// Answers that may wait to be counted behind one that is late.
const COUNTED_BEHIND: usize = 65_536;
/// Lines read ahead.
const READ_AHEAD: usize = 1_024;
/// Lines named on the terminal; all of them are in the report.
const NAMED_MAX: u64 = 20;
/// Names of fields that are counted.
const DROPPED_MAX: usize = 100;
/// Lines named in the report.
const REPORTED_MAX: usize = 100_000;

/// Exit codes of this command beside those of [`crate::exit`].
const SOME_BAD: u8 = 1;
const UNREADABLE: u8 = 2;
const SOME_FAILED: u8 = 3;
const INTERRUPTED: u8 = 130;

/// A line that is not in, and why.
#[derive(Serialize)]
struct LeftOut {
    line: u64,
    reason: String,
}

/// What became of the file.
#[derive(Default, Serialize)]
struct Summary {
    file: String,
    tenant: String,
    lines: u64,
    imported: u64,
    already_there: u64,
    bad: u64,
    failed: u64,
    conversations: usize,
    seconds: f64,
    msgs_per_s: f64,
    retries: u64,
    /// The file could not be read to its end.
    unreadable: bool,
    interrupted: bool,
    /// Fields that are not imported: in how many lines they were. Of very many names only the first.
    dropped_fields: BTreeMap<String, u64>,
    bad_lines: Vec<LeftOut>,
    failed_lines: Vec<LeftOut>,
}

impl Summary {
    /// Counts the fields of a line that are not imported.
    fn drop_fields(&mut self, names: Vec<String>) {
        for name in names {
            let known = self.dropped_fields.len();
            match self.dropped_fields.get_mut(&name) {
                Some(lines) => *lines += 1,
                None if known < DROPPED_MAX => drop(self.dropped_fields.insert(name, 1)),
                None => {}
            }
        }
    }

    /// The fields that are not imported, for people.
    fn dropped(&self) -> Option<String> {
        let fields = self.dropped_fields.iter();
        let fields: Vec<String> = fields
            .map(|(name, lines)| match lines {
                1 => format!("{} (1 line)", printable(name)),
                lines => format!("{} ({lines} lines)", printable(name)),
            })
            .collect();
        (!fields.is_empty()).then(|| format!("fields that are not imported: {}", fields.join(", ")))
    }

    fn exit_code(&self) -> u8 {
        if self.interrupted {
            INTERRUPTED
        } else if self.unreadable {
            UNREADABLE
        } else if self.failed > 0 {
            SOME_FAILED
        } else if self.bad > 0 {
            SOME_BAD
        } else {
            0
        }
    }
}

/// What the sending side hands to the counting side.
enum Step {
    Sent {
        line: u64,
        ack: Ack,
        dropped: Vec<String>,
    },
    Bad(BadLine),
}

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// Wrong arguments, or a file that cannot be opened.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        segment("tenant", &self.tenant.tenant)
            .map_err(|error| anyhow!(Usage(format!("--tenant: {error}"))))?;
        let kind = match self.format {
            Some(kind) => kind,
            None => Kind::of(&self.file)?,
        };
        if kind != Kind::Lines {
            return self.others(kind).await;
        }
        let reader = corpus::open(&self.file)
            .map_err(|error| anyhow!(Usage(format!("{}: {error}", self.file.display()))))?;
        if let Some(report) = &self.report {
            // Found out before the import, not after it.
            write_report(report, &Summary::default())?;
        }
        let client = self.client().await?;

        let begun = Instant::now();
        let stop = Arc::new(AtomicBool::new(false));
        let (lines, mut read) = mpsc::channel::<Vec<Result<Line, BadLine>>>(4);
        let reading = tokio::task::spawn_blocking({
            let stop = stop.clone();
            move || read_ahead(reader, &lines, &stop)
        });
        let streams: Vec<AppendStream> = self
            .windows()
            .map(|unanswered_max| {
                client.append_stream(&StreamOptions {
                    unanswered_max,
                    deadline: None,
                })
            })
            .collect();
        let (steps, counted) = mpsc::channel(COUNTED_BEHIND);
        let counting = tokio::spawn(count(counted, self.progress()));

        tokio::spawn(watch_interrupts(stop.clone()));
        let mut conversations = BTreeSet::new();
        'file: while let Some(batch) = read.recv().await {
            for line in batch {
                if stop.load(Ordering::Relaxed) {
                    break 'file;
                }
                let step = match line {
                    Ok(mut line) => {
                        if !conversations.contains(&line.conversation) {
                            conversations.insert(line.conversation.clone());
                        }
                        let number = line.number;
                        let dropped = std::mem::take(&mut line.dropped);
                        // The reader gives only valid conversation ids.
                        let name = ConversationName::new(&self.tenant.tenant, &line.conversation)?;
                        // One conversation stays on one stream: that keeps its order.
                        let slot = hash::conversation_key("", &line.conversation).slot();
                        let stream = &streams[usize::from(slot.0) % streams.len()];
                        let ack = stream.enqueue(name.as_str(), line.into_message()).await;
                        Step::Sent {
                            line: number,
                            ack,
                            dropped,
                        }
                    }
                    Err(bad) => Step::Bad(bad),
                };
                // The counting task ends only after this sender.
                let _ = steps.send(step).await;
            }
        }
        drop(steps);
        drop(read);
        let mut summary = counting.await.context("counting the answers failed")?;
        summary.lines = reading.await.context("reading the file failed")?;
        summary.file = self.file.display().to_string();
        summary.tenant = self.tenant.tenant.clone();
        summary.conversations = conversations.len();
        summary.interrupted = stop.load(Ordering::Relaxed);
        summary.seconds = begun.elapsed().as_secs_f64();
        let acked = summary.imported + summary.already_there;
        #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = acked as f64 / summary.seconds.max(1e-9);
        summary.msgs_per_s = rate;
        summary.retries = client.stats().retries;
        if let Some(report) = &self.report {
            write_report(report, &summary)?;
        }
        if self.json {
            println!("{}", serde_json::to_string_pretty(&summary)?);
        } else {
            println!("{}", table(&summary));
            if let Some(dropped) = summary.dropped() {
                println!("{dropped}");
            }
            if summary.interrupted {
                eprintln!(
                    "interrupted; run the same command again to go on, nothing goes in twice"
                );
            }
        }
        Ok(ExitCode::from(summary.exit_code()))
    }

    async fn client(&self) -> anyhow::Result<client::Client> {
        let deadline = Duration::from_secs(self.deadline);
        let builder = client::Client::builder().deadline(deadline).imports(true);
        let client = self.target.build(builder).await?;
        let status = client.status().await;
        status.with_context(|| format!("no node answers; {}", self.target.asked()))?;
        Ok(client)
    }

    /// The sizes of the streams' windows, together `concurrency`.
    fn windows(&self) -> impl Iterator<Item = usize> {
        let total = self.concurrency as usize;
        let streams = STREAMS_MAX.min(total);
        (0..streams).map(move |at| total / streams + usize::from(at < total % streams))
    }

    fn progress(&self) -> ProgressBar {
        if self.json || !io::stderr().is_terminal() {
            return ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        }
        let bar = ProgressBar::no_length();
        let style = ProgressStyle::with_template(
            "{spinner} {human_pos} messages in, {per_sec}, {elapsed}  {msg}",
        );
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    }
}

/// Ctrl-C stops the reading and lets what is under way end; a second one ends the command.
async fn watch_interrupts(stop: Arc<AtomicBool>) {
    let Ok(mut interrupts) = Stop::listen() else {
        return;
    };
    interrupts.asked().await;
    stop.store(true, Ordering::Relaxed);
    eprintln!("interrupted: waiting for what is under way; Ctrl-C again to leave at once");
    interrupts.asked().await;
    std::process::exit(i32::from(INTERRUPTED));
}

/// Reads the file on a thread of its own; gives how many lines it had.
fn read_ahead(
    mut reader: corpus::Reader,
    lines: &mpsc::Sender<Vec<Result<Line, BadLine>>>,
    stop: &AtomicBool,
) -> u64 {
    while !stop.load(Ordering::Relaxed) {
        let batch: Vec<_> = reader.by_ref().take(READ_AHEAD).collect();
        if batch.is_empty() || lines.blocking_send(batch).is_err() {
            break;
        }
    }
    reader.number()
}

/// Takes in the answers, in the order of the file.
async fn count(mut steps: mpsc::Receiver<Step>, bar: ProgressBar) -> Summary {
    let mut summary = Summary::default();
    while let Some(step) = steps.recv().await {
        match step {
            Step::Sent { line, ack, dropped } => match ack.await {
                Ok(appended) => {
                    summary.drop_fields(dropped);
                    if appended.deduplicated {
                        summary.already_there += 1;
                    } else {
                        summary.imported += 1;
                    }
                    bar.inc(1);
                }
                Err(error) => {
                    summary.failed += 1;
                    let reason = failure(&error);
                    name(
                        &bar,
                        summary.failed,
                        &format!("line {line}: not imported: {reason}"),
                    );
                    keep(&mut summary.failed_lines, line, reason);
                }
            },
            Step::Bad(bad) => {
                summary.unreadable |= bad.fatal;
                summary.bad += 1;
                name(&bar, summary.bad, &bad.to_string());
                keep(&mut summary.bad_lines, bad.number, bad.reason);
            }
        }
    }
    bar.finish_and_clear();
    summary
}

fn failure(error: &client::Error) -> String {
    if error.reason() == Some("CLIENT_MESSAGE_ID_REUSED") {
        return format!(
            "this place in the conversation holds another message, from an import of another version of the file ({error})"
        );
    }
    error.to_string()
}

/// Names a line that is left out on the terminal, above the progress; not all of very many.
fn name(bar: &ProgressBar, count: u64, text: &str) {
    let say = |text: &str| bar.suspend(|| eprintln!("{text}"));
    match count {
        0..=NAMED_MAX => say(text),
        more if more == NAMED_MAX + 1 => say("… and more; --report FILE.json names them all"),
        _ => {}
    }
}

fn keep(list: &mut Vec<LeftOut>, line: u64, reason: String) {
    if list.len() < REPORTED_MAX {
        list.push(LeftOut { line, reason });
    }
}

fn write_report(path: &Path, summary: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(summary)? + "\n";
    std::fs::write(path, text)
        .map_err(|error| anyhow!(Usage(format!("--report {}: {error}", path.display()))))
}

fn table(summary: &Summary) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header([
        "lines",
        "imported",
        "already there",
        "bad",
        "failed",
        "conversations",
        "msgs/s",
    ]);
    let cells = [
        summary.lines.to_string(),
        summary.imported.to_string(),
        summary.already_there.to_string(),
        summary.bad.to_string(),
        summary.failed.to_string(),
        summary.conversations.to_string(),
        format!("{:.0}", summary.msgs_per_s),
    ];
    table.add_row(cells);
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_tells_the_worst_that_happened() {
        let code = |change: fn(&mut Summary)| {
            let mut summary = Summary::default();
            change(&mut summary);
            summary.exit_code()
        };
        assert_eq!(code(|_| {}), 0);
        assert_eq!(code(|summary| summary.bad = 1), 1);
        assert_eq!(code(|summary| (summary.bad, summary.failed) = (1, 1)), 3);
        assert_eq!(
            code(|summary| (summary.failed, summary.unreadable) = (1, true)),
            2
        );
        assert_eq!(code(|summary| summary.interrupted = true), 130);
    }
}
