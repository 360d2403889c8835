//! `firebreak export`: writes conversations to files that others can read, and that can be imported.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use model::id::{Slot, segment};
use serde_json::json;

use super::target::{Target, Tenant, new_table};
use crate::exit::Usage;
use crate::export::{self, Counts, Outcome, Selection, verify};
use crate::stop::Stop;

const EXAMPLES: &str = "\
Examples:
  firebreak export backup --tenant acme                all conversations of a tenant
  firebreak export room --conversation room-1          one conversation
  firebreak export ann --user ann --tenant acme        what one user sent, with the reactions to it
  firebreak export verify backup                       is every byte as it was written?
  firebreak import backup --tenant acme                into this or another cluster

The directory gets parts of JSON lines, manifest.json with counts, and BLAKE3SUMS, which `b3sum -c` reads too.
The same messages give the same bytes. An export that was killed or interrupted goes on when the same command
is given again. Each conversation ends with the message that was its last when the export came to it.

Exit codes: 0 all is exported, 1 it failed, or a file is not as it was written, 2 wrong arguments, 130 interrupted.";

/// Export conversations to JSON lines.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Directory for the files; made where there is none
    #[arg(required = true)]
    dir: Option<PathBuf>,
    /// Only this conversation: its id, or a whole name tenants/{t}/conversations/{c}
    #[arg(long, value_name = "CONVERSATION", conflicts_with = "user")]
    conversation: Option<String>,
    /// Only what this user sent, in all conversations of the tenant
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Print the summary as JSON and no progress
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    tenant: Tenant,
    #[command(flatten)]
    target: Target,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Compare all of an export with its hashes
    Verify(Verify),
}

#[derive(clap::Args)]
struct Verify {
    /// Directory of the export
    dir: PathBuf,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// How long one read may take.
const DEADLINE: Duration = Duration::from_secs(30);
const INTERRUPTED: u8 = 130;

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// Wrong arguments; the cluster or the disk refuses.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(Verb::Verify(verify)) = self.verb {
            return verify.run();
        }
        let dir = self.dir.clone().unwrap_or_default();
        let (tenant, selection) = self.selection()?;
        let builder = client::Client::builder();
        let builder = builder.deadline(DEADLINE).class(client::Class::Export);
        let client = self.target.build(builder).await?;
        let status = client.status().await;
        status.with_context(|| format!("no node answers; {}", self.target.asked()))?;
        let stop = Arc::new(AtomicBool::new(false));
        tokio::spawn(watch_interrupts(stop.clone()));
        let bar = progress(self.json, BAR);
        bar.set_length(u64::from(Slot::COUNT));
        let begun = Instant::now();
        let done = export::run(client, &dir, (&tenant, selection), bar.clone(), stop).await;
        bar.finish_and_clear();
        self.tell(&done?, begun.elapsed())
    }

    /// Whose conversations, and which of them.
    fn selection(&self) -> anyhow::Result<(String, Selection)> {
        let usage = |why: String| anyhow!(Usage(why));
        let tenant = self.tenant.tenant.clone();
        segment("tenant", &tenant).map_err(|error| usage(format!("--tenant: {error}")))?;
        Ok(match (&self.conversation, &self.user) {
            (Some(text), _) => {
                let name = self.tenant.conversation(text)?;
                let id = name.conversation().to_owned();
                (name.tenant().to_owned(), Selection::Conversation(id))
            }
            (None, Some(user)) if user.is_empty() => {
                return Err(usage("--user: must be 1 to 256 bytes".into()));
            }
            (None, Some(user)) => (tenant, Selection::User(user.clone())),
            (None, None) => (tenant, Selection::Tenant),
        })
    }

    fn tell(&self, done: &Outcome, elapsed: Duration) -> anyhow::Result<ExitCode> {
        let counts = &done.manifest.counts;
        let seconds = elapsed.as_secs_f64();
        #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = (counts.messages - done.resumed.messages) as f64 / seconds.max(1e-9);
        let bytes: u64 = done.manifest.parts.iter().map(|part| part.bytes).sum();
        if self.json {
            let summary = json!({
                "tenant": done.manifest.tenant,
                "selection": done.manifest.selection,
                "counts": counts,
                "parts": done.manifest.parts.len(),
                "bytes": bytes,
                "seconds": seconds,
                "msgs_per_s": rate,
                "resumed_at_messages": done.resumed.messages,
                "interrupted": done.interrupted,
            });
            println!("{}", serde_json::to_string_pretty(&summary)?);
        } else {
            println!("{}", table(counts, bytes, Some(rate)));
        }
        if done.interrupted {
            eprintln!("interrupted; run the same command again to go on");
            return Ok(ExitCode::from(INTERRUPTED));
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Verify {
    fn run(self) -> anyhow::Result<ExitCode> {
        let bar = progress(self.json, BYTES_BAR);
        let found = verify::verify(&self.dir, &bar);
        bar.finish_and_clear();
        let found = found?;
        let (manifest, whole) = (&found.manifest, found.wrong.is_empty());
        let bytes: u64 = manifest.parts.iter().map(|part| part.bytes).sum();
        if self.json {
            let summary = json!({
                "whole": whole,
                "wrong": found.wrong,
                "tenant": manifest.tenant,
                "selection": manifest.selection,
                "counts": manifest.counts,
                "bytes": bytes,
            });
            println!("{}", serde_json::to_string_pretty(&summary)?);
        } else if whole {
            println!("{}", table(&manifest.counts, bytes, None));
            println!("every byte is as it was written");
        }
        match whole {
            true => Ok(ExitCode::SUCCESS),
            false => Err(anyhow!(found.wrong.join("\n"))),
        }
    }
}

fn table(counts: &Counts, bytes: u64, rate: Option<f64>) -> comfy_table::Table {
    let mut table = new_table(&[
        "conversations",
        "messages",
        "edited",
        "erased",
        "reactions",
        "ended early",
        "size",
        "msgs/s",
    ]);
    table.add_row([
        counts.conversations.to_string(),
        counts.messages.to_string(),
        counts.edited.to_string(),
        counts.redacted.to_string(),
        counts.reactions.to_string(),
        counts.ended.to_string(),
        super::target::bytes(bytes),
        rate.map_or_else(|| "–".to_owned(), |rate| format!("{rate:.0}")),
    ]);
    table
}

const BAR: &str = "{spinner} [{bar:32}] {percent:>3} %  {msg}  {elapsed}";
const BYTES_BAR: &str = "{spinner} [{bar:32}] {percent:>3} %  {bytes} of {total_bytes}  {elapsed}";

fn progress(hidden: bool, template: &str) -> ProgressBar {
    if hidden || !io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    }
    let bar = ProgressBar::new(1);
    let style = ProgressStyle::with_template(template);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Ctrl-C ends the export behind what is being written; a second one ends the command.
async fn watch_interrupts(stop: Arc<AtomicBool>) {
    let Ok(mut interrupts) = Stop::listen() else {
        return;
    };
    interrupts.asked().await;
    stop.store(true, Ordering::Relaxed);
    interrupts.asked().await;
    std::process::exit(i32::from(INTERRUPTED));
}
