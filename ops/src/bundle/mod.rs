//! `firebreak debug bundle`: one archive with what is needed to find out what went wrong.
//!
//! ```text
//!  every node at once ─► gather (status, files, recorder; a limit for each) ─┐
//!  --data-dir, --config ─► offline (of a stopped node) ──────────────────────┴─► archive, manifest.json
//! ```
//!
//! What is missing is listed, and is no failure: nodes are down when this is needed.

mod archive;
mod gather;
mod json;
mod manifest;
mod offline;
mod when;

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow};
use client::Client;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use server::sight::report::Report;
use server::sight::verdict::Judged;
use server::sight::view::View;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use crate::cmd::map;
use crate::cmd::target::Target;
use crate::exit::Usage;
use crate::stop::Stop;
use archive::{Archive, Entry};
use gather::Gathered;
use manifest::{Manifest, Missing};
use when::Range;

const EXAMPLES: &str = "\
Examples:
  firebreak debug bundle                                     of all nodes that answer
  firebreak debug bundle --target seoul-1:7001,busan-1:7001 --out night.tar.gz
  firebreak debug bundle --from 03:10 --to 03:25             what the recorders have of that time (UTC)
  firebreak debug bundle --data-dir /var/lib/firebreak --config node.toml    of a stopped node, on its machine

In it, for each node: how it is set, its metrics, its status and shards, its recorder, its last log lines, the
ends of RocksDB's logs, its process and its machine. Message bodies, join tokens and values of secret keys are
never in it. manifest.json lists what is in the archive, and what is missing and why.

Exit codes: 0 it was written, also when something is missing from it (with --json: \"complete\": false);
1 there is nothing to write, as no node answers, or it cannot be written; 2 wrong arguments, or the file is
there already; 130 interrupted, and nothing is left.";

/// Gather what is needed to find out what went wrong.
#[derive(clap::Subcommand)]
pub enum Debug {
    Bundle(Args),
}

impl Debug {
    /// Runs the command.
    ///
    /// # Errors
    /// As exit codes tell.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Debug::Bundle(args) => args.run().await,
        }
    }
}

/// Write one archive with what all nodes that answer know of themselves.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The archive to write; an existing file is never overwritten [default: firebreak-debug-TIME.tar.gz]
    #[arg(long, value_name = "FILE.tar.gz")]
    out: Option<PathBuf>,
    /// How long each step may take at each node
    #[arg(long, value_name = "SECONDS", default_value_t = 5,
          value_parser = clap::value_parser!(u64).range(1..=600))]
    limit: u64,
    /// From when on the recorders tell: 15m (ago), 03:10 (UTC), or 2026-11-29T23:50:00Z
    #[arg(long, value_name = "TIME", default_value = "15m")]
    from: String,
    /// Until when they tell, in the same way [default: now]
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Also gather from this data directory of a stopped node
    #[arg(long, value_name = "DIR")]
    data_dir: Vec<PathBuf>,
    /// Also gather from a stopped node with this configuration
    #[arg(long, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// Print what is in it as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// How long a node may take to say how it is; who takes longer is skipped.
const STATUS_MAX: Duration = Duration::from_secs(1);
/// Nodes that are asked at once; each keeps its files in memory until they are written.
const NODES_AT_ONCE: usize = 32;
/// The exit code of a command that was interrupted.
const INTERRUPTED: u8 = 130;

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// As exit codes tell.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let now = SystemTime::now();
        let range = Range::parse(&self.from, self.to.as_deref(), now).map_err(Usage)?;
        let out = self.out.clone().unwrap_or_else(|| default_name(now));
        archive::is_free(&out)?;
        let client = self.target.client(self.step().max(STATUS_MAX)).await?;
        let mut stop = Stop::listen().context("cannot listen for signals")?;
        tokio::select! {
            biased;
            () = stop.asked() => {
                eprintln!("interrupted: nothing was written");
                Ok(ExitCode::from(INTERRUPTED))
            }
            ended = self.gather(client, range, &out, now) => ended,
        }
    }

    fn step(&self) -> Duration {
        Duration::from_secs(self.limit)
    }

    async fn gather(
        &self,
        client: Client,
        range: Range,
        out: &Path,
        now: SystemTime,
    ) -> anyhow::Result<ExitCode> {
        let bar = self.progress();
        bar.set_message("who answers?");
        let mut manifest = Manifest::new(now, self.limit, range, &self.target.target);
        let mut archive = Archive::begin(out, now)?;
        self.live(&client, range, &mut archive, &mut manifest, &bar)
            .await?;
        bar.set_message("stopped nodes");
        for gathered in self.offline(range).await {
            manifest.add(&gathered);
            archive.add(gathered.entries)?;
        }
        bar.finish_and_clear();
        if manifest.is_empty() {
            return Err(self.nothing(&manifest));
        }
        archive.add(vec![Entry::of("manifest.json", manifest.json()?)])?;
        let bytes = archive.finish()?;
        match self.json {
            true => println!("{}", manifest.document(out, bytes)?),
            false => manifest.print(out, bytes),
        }
        Ok(ExitCode::SUCCESS)
    }

    /// From all nodes that answer, each as soon as it is there.
    async fn live(
        &self,
        client: &Client,
        range: Range,
        archive: &mut Archive,
        manifest: &mut Manifest,
        bar: &ProgressBar,
    ) -> anyhow::Result<()> {
        let reports: Vec<Report> = match client.status_all(STATUS_MAX).await {
            Ok(reports) => reports.into_iter().map(map::told).collect(),
            Err(error) => {
                let why = format!("no node answers; {}: {error}", self.target.asked());
                manifest.missing.push(Missing::all(why));
                return Ok(());
            }
        };
        let view = View::of(&reports);
        let judged = Judged::view(&view);
        let told = Entry::of("cluster.json", json::cluster(&judged, &view)?);
        manifest.file(&told);
        archive.add(vec![told])?;
        manifest.told(&view, &judged);
        let alive = reports.iter().filter(|one| one.status.is_ok()).count();
        bar.set_length((alive * gather::STEPS) as u64);
        bar.set_message(format!("{alive} of {} nodes answer", reports.len()));
        let turns = Arc::new(Semaphore::new(NODES_AT_ONCE));
        let (gathered, mut arrived) = mpsc::channel(1);
        for report in reports {
            let (client, turns, bar) = (client.clone(), turns.clone(), bar.clone());
            let (gathered, step) = (gathered.clone(), self.step());
            tokio::spawn(async move {
                // Never closed.
                let Ok(_turn) = turns.acquire_owned().await else {
                    return;
                };
                let found = gather::node(&client, &report, range, step, &bar).await;
                // Nobody waits when the command was interrupted.
                let _ = gathered.send(found).await;
            });
        }
        drop(gathered);
        while let Some(found) = arrived.recv().await {
            manifest.add(&found);
            archive.add(found.entries)?;
        }
        Ok(())
    }

    /// From disks. On a thread of its own: one that hangs is left behind.
    async fn offline(&self, range: Range) -> Vec<Gathered> {
        let (directories, configs) = (self.data_dir.clone(), self.config.clone());
        let count = u32::try_from(directories.len() + configs.len()).unwrap_or(u32::MAX);
        if count == 0 {
            return Vec::new();
        }
        let limit = self.step().saturating_mul(count);
        let (done, result) = oneshot::channel();
        std::thread::spawn(move || {
            // Nobody waits when it took too long.
            let _ = done.send(offline::gather(&directories, &configs, range));
        });
        let why = match timeout(limit, result).await {
            Ok(Ok(gathered)) => return gathered,
            Ok(Err(_)) => "reading it failed".to_owned(),
            Err(_) => format!("not within {} s (--limit)", limit.as_secs()),
        };
        vec![Gathered::none("on disk", why)]
    }

    /// Why there is nothing to write.
    fn nothing(&self, manifest: &Manifest) -> anyhow::Error {
        let whys: Vec<String> = manifest.missing.iter().map(Missing::line).collect();
        let next = match self.data_dir.is_empty() && self.config.is_empty() {
            true => {
                "; on a node's machine, --data-dir DIR and --config FILE gather what its disk has"
            }
            false => "",
        };
        anyhow!("there is nothing to gather: {}{next}", whys.join("; "))
    }

    fn progress(&self) -> ProgressBar {
        if self.json || !io::stderr().is_terminal() {
            return ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        }
        let bar = ProgressBar::no_length();
        let style = ProgressStyle::with_template("{spinner} {pos}/{len} steps, {elapsed}  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    }
}

/// `firebreak-debug-20261201T031500Z.tar.gz`, in this folder.
fn default_name(now: SystemTime) -> PathBuf {
    PathBuf::from(format!("firebreak-debug-{}.tar.gz", when::compact(now)))
}
