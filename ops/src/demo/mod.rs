//! `firebreak demo`: three data centers, real chat, one burns, nothing is lost.
//!
//! ```text
//!  found 9 nodes ─► import ──────────┬──────────┬────────────► read back ─► compare replicas
//!                     50 % acked: kill a DC   75 %: restart it    D O E L          H
//!                              └─ led again?  G P U  └─ caught up?
//! ```
//!
//! Everything is judged from a ledger that the demo keeps itself; the cluster's own word counts
//! only where nothing else can know it (who led which term).

pub mod fire;
mod import;
mod keep;
mod progress;
pub mod proof;
pub mod report;
mod script;
mod timed;

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use client::{Client, StreamOptions};
use firebreak::cluster::view::LeaderHistory;
use firebreak::cluster::{Cluster, ClusterPlan, Node};
use firebreak::ledger::{Faults, Found, gaps_us};
use futures::future::try_join_all;
use indicatif::ProgressBar;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::exit::Usage;
use crate::stop::Stop;
pub use import::lock;
use import::{CALL_LIMIT, Run, Way};
use progress::Progress;
use proof::Comparison;
use report::{Promises, Report, ms};
use script::Script;

/// What G allows here between two acknowledgements.
const GAP_MAX_MS: u64 = 3_000;
/// What P allows until every shard serves.
const SERVE_MAX: Duration = Duration::from_secs(10);
/// The import of a small corpus takes about this long, so that there is something to interrupt.
const IMPORT_AIM: Duration = Duration::from_secs(20);
/// The import is not slowed below this or sped above that, messages a second, unless asked to.
const RATES: (f64, f64) = (200.0, 5_000.0);
/// How long the import may stand still before the demo gives up.
const STANDSTILL: Duration = Duration::from_secs(120);
/// How long replicas may take to become equal once nothing is sent any more.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// Streams that the senders share.
const STREAMS: usize = 4;
/// Timed readers.
const READERS: usize = 6;
/// Messages sent again after the import.
const RESENT_AFTER: usize = 500;
/// Exit code when the demo could not run to its end.
const COULD_NOT_RUN: u8 = 3;

const DETAILS: &str = "\
Exit codes: 0 every promise that was judged held, 1 one was broken, 2 wrong arguments, 3 the demo
could not run to its end.

Examples:
  firebreak demo                                   the bundled sample, about a minute
  firebreak demo --corpus messages.jsonl.gz --json result.json
  firebreak demo --keep                            leaves the cluster running and says how to use it
  firebreak demo --stop /tmp/firebreak-demo-x      ends it";

/// Imports real chats into nine nodes in three data centers, burns one of these in the middle, and
/// proves that nothing was lost, repeated or reordered.
#[derive(clap::Args, Debug)]
#[command(after_long_help = DETAILS)]
pub struct Args {
    /// JSON lines {"conversation","sender","timestamp","text"}, plain, .gz or .zst [default: a
    /// bundled sample].
    #[arg(long, value_name = "FILE")]
    corpus: Option<PathBuf>,
    /// Writes the result to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Leaves the cluster running and prints how to talk to it.
    #[arg(long)]
    keep: bool,
    /// Stops a cluster that --keep left running, and does nothing else.
    #[arg(long, value_name = "DIR", exclusive = true)]
    stop: Option<PathBuf>,
    /// Where data, logs and the ledger go; must be new or empty [default: a new directory, removed
    /// again when every promise held].
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Senders at work at once; each sends one conversation after another, in the file's order.
    #[arg(long, default_value_t = 96)]
    senders: usize,
    /// Messages a second at most [default: such that a small corpus takes 20 s].
    #[arg(long)]
    rate: Option<f64>,
    /// Nodes in each of the three data centers.
    #[arg(long, default_value_t = 3)]
    nodes_per_dc: usize,
    /// Data shards [default: one per node].
    #[arg(long)]
    shards: Option<u32>,
    /// Seeds what the demo picks at random: what is read and what is sent again.
    #[arg(long)]
    seed: Option<u64>,
}

/// Where the demo's files are.
struct Place {
    dir: PathBuf,
    /// Made by the demo, so removed by it when all went well.
    own: bool,
}

impl Place {
    fn remove_own(&self) {
        if self.own {
            // What is left over in a place for temporary files harms nobody.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

impl Args {
    /// Runs it.
    ///
    /// # Errors
    /// [`Usage`] for arguments that make no sense; everything else ends with its own exit code.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(dir) = &self.stop {
            keep::stop(dir)?;
            return Ok(ExitCode::SUCCESS);
        }
        self.check()?;
        let place = self.place()?;
        let mut stop = Stop::listen().context("cannot listen for signals")?;
        let outcome = tokio::select! {
            outcome = self.play(&place) => outcome,
            _ = stop.asked() => {
                place.remove_own();
                eprintln!("interrupted; all nodes are stopped");
                return Ok(ExitCode::from(COULD_NOT_RUN));
            }
        };
        match outcome {
            Ok(true) => {
                if !self.keep {
                    place.remove_own();
                }
                Ok(ExitCode::SUCCESS)
            }
            Ok(false) => {
                eprintln!(
                    "A promise was broken. Logs and the ledger are in {}",
                    place.dir.display()
                );
                Ok(ExitCode::FAILURE)
            }
            Err(e) if e.is::<Usage>() => Err(e),
            Err(e) => {
                eprintln!("error: the demo could not run to its end: {e:#}");
                eprintln!("Logs are in {}", place.dir.display());
                Ok(ExitCode::from(COULD_NOT_RUN))
            }
        }
    }

    fn check(&self) -> Result<(), Usage> {
        if self.senders == 0 || self.nodes_per_dc == 0 {
            return Err(Usage(
                "--senders and --nodes-per-dc must be more than 0".to_owned(),
            ));
        }
        if self
            .rate
            .is_some_and(|rate| !rate.is_finite() || rate <= 0.0)
        {
            return Err(Usage("--rate must be a number above 0".to_owned()));
        }
        Ok(())
    }

    fn place(&self) -> anyhow::Result<Place> {
        let Some(dir) = &self.dir else {
            let dir = tempfile::Builder::new()
                .prefix("firebreak-demo-")
                .tempdir()?
                .keep();
            return Ok(Place { dir, own: true });
        };
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        if fs::read_dir(dir)?.next().is_some() {
            let text = format!("--dir {}: the directory is not empty", dir.display());
            return Err(Usage(text).into());
        }
        // Nodes are started from elsewhere perhaps.
        Ok(Place {
            dir: dir.canonicalize()?,
            own: false,
        })
    }

    /// The whole demo; gives whether every judged promise held.
    async fn play(&self, place: &Place) -> anyhow::Result<bool> {
        let mut progress = Progress::new();
        let script = Script::read(self.corpus.as_deref())?;
        for bad in script.bad.iter().take(3) {
            progress.say(&format!("  left out: {bad}"));
        }
        progress.say(&format!(
            "▸ {} messages in {} conversations{}",
            script.messages(),
            script.chats.len(),
            if script.bad.is_empty() {
                String::new()
            } else {
                format!(", {} wrong lines left out", script.bad.len())
            }
        ));
        let mut cluster = self.found(place, &mut progress).await?;
        let (run, report) = self
            .judge_all(script, &mut cluster, &mut progress, place)
            .await?;
        progress.done();
        for note in lock(&run.notes).iter() {
            eprintln!("  {note}");
        }
        println!("{}", report.table());
        if let Some(path) = &self.json {
            fs::write(path, serde_json::to_string_pretty(&report)? + "\n")
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        if self.keep {
            keep::describe(&cluster)?;
            let conversation = run.script.chats[0].name.conversation();
            println!("{}", keep::instructions(&cluster, conversation));
            cluster.release();
        }
        Ok(report.held())
    }

    async fn found(&self, place: &Place, progress: &mut Progress) -> anyhow::Result<Cluster> {
        let binary = std::env::current_exe().context("cannot find this program itself")?;
        let plan = ClusterPlan {
            shards: self.shards,
            outlive: self.keep,
            ..ClusterPlan::three_dcs(&place.dir, &binary, self.nodes_per_dc)
        };
        let began = Instant::now();
        progress
            .phase("founding", 0)
            .set_message(place.dir.display().to_string());
        let cluster = Cluster::start(plan).await?;
        let shards = cluster
            .statuses()
            .await
            .iter()
            .map(|s| s.shards.len())
            .max()
            .unwrap_or(0);
        progress.say(&format!(
            "✔ {} nodes in seoul, busan and tokyo; {} data shards, each led ({:.1} s)",
            cluster.nodes().len(),
            shards.saturating_sub(1),
            began.elapsed().as_secs_f64()
        ));
        Ok(cluster)
    }

    async fn judge_all(
        &self,
        script: Script,
        cluster: &mut Cluster,
        progress: &mut Progress,
        place: &Place,
    ) -> anyhow::Result<(Arc<Run>, Report)> {
        let total = script.messages();
        let aimed = total as f64 / IMPORT_AIM.as_secs_f64();
        let rate = self.rate.unwrap_or_else(|| aimed.clamp(RATES.0, RATES.1));
        let gateways = cluster.nodes().iter().map(Node::channel).collect();
        let ledger = File::create(place.dir.join("ledger.jsonl"))?;
        let seed = self.seed.unwrap_or_else(|| rand::rng().random());
        let run = Run::new(script, self.senders, rate, ledger, gateways);
        let bar = progress.phase("importing", total);
        let mut story = Story::default();
        story.history.note(&cluster.statuses().await);
        let work = self.work(&run, cluster, seed)?;
        let watched = watch(&run, &bar, total);
        let directed = story.direct(&run, cluster, progress, total);
        let readers = work.readers;
        let finished = async {
            work.senders.await?;
            run.finish();
            anyhow::Ok(())
        };
        tokio::select! {
            stuck = watched => return Err(stuck),
            done = async { tokio::try_join!(finished, directed) } => { done?; }
        }
        for reader in readers {
            reader.await?;
        }
        progress.say(&format!(
            "✔ {total} messages acknowledged, {} timed reads beside them",
            lock(&run.reads).len()
        ));
        story
            .prove(&run, cluster, progress, seed)
            .await
            .map(|report| (run, report))
    }

    fn work(&self, run: &Arc<Run>, cluster: &Cluster, seed: u64) -> anyhow::Result<Work> {
        // One address of each data center is all that a client needs to be told.
        let mut addresses: Vec<(&str, &str)> = cluster
            .nodes()
            .iter()
            .map(|n| (n.dc.as_str(), n.address.as_str()))
            .collect();
        addresses.sort_unstable();
        addresses.dedup_by_key(|(dc, _)| *dc);
        let client = || {
            let endpoints: Vec<&str> = addresses.iter().map(|(_, address)| *address).collect();
            Client::builder()
                .endpoints(endpoints)
                .deadline(CALL_LIMIT)
                .imports(true)
                .build()
        };
        let mut ways = Vec::new();
        for _ in 0..STREAMS {
            ways.push(Way::Stream(
                client()?.append_stream(&StreamOptions::default()),
            ));
            ways.push(Way::Unary(client()?));
        }
        let senders = (0..self.senders).map(|n| {
            let way = ways[n % ways.len()].clone();
            tokio::spawn(run.clone().send(way, seed.wrapping_add(n as u64)))
        });
        let senders: Vec<_> = senders.collect();
        let mut readers = Vec::new();
        for n in 0..READERS {
            let seed = seed.wrapping_add(1_000_000 + n as u64);
            readers.push(tokio::spawn(run.clone().read(client()?, seed)));
        }
        let senders = async move {
            for done in try_join_all(senders).await? {
                done?;
            }
            Ok(())
        };
        Ok(Work {
            senders: Box::pin(senders),
            readers,
        })
    }
}

/// Tasks under way.
struct Work {
    senders: futures::future::BoxFuture<'static, anyhow::Result<()>>,
    readers: Vec<tokio::task::JoinHandle<()>>,
}

/// Moves the bar; ends only when the import stands still.
async fn watch(run: &Arc<Run>, bar: &ProgressBar, total: usize) -> anyhow::Error {
    let (mut last, mut moved) = (0, Instant::now());
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let acked = run.acked.load(Ordering::Relaxed);
        bar.set_position(acked);
        if acked != last || acked == total as u64 {
            (last, moved) = (acked, Instant::now());
        }
        if moved.elapsed() > STANDSTILL {
            let notes = lock(&run.notes).join("\n  ");
            return anyhow::anyhow!(
                "nothing was acknowledged for {STANDSTILL:?} after {acked} of {total} messages\n  {notes}"
            );
        }
    }
}

async fn until_acked(run: &Arc<Run>, count: u64) {
    while run.acked.load(Ordering::Relaxed) < count {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What happened to the cluster.
#[derive(Default)]
struct Story {
    history: LeaderHistory,
    burnt: Vec<usize>,
    led: Option<Duration>,
    served: Option<Duration>,
    replicated: Option<Duration>,
}

impl Story {
    /// Burns a data center at half of the import and brings it back at three quarters.
    async fn direct(
        &mut self,
        run: &Arc<Run>,
        cluster: &mut Cluster,
        progress: &Progress,
        total: usize,
    ) -> anyhow::Result<()> {
        until_acked(run, total as u64 / 2).await;
        self.history.note(&cluster.statuses().await);
        let (dc, nodes) = fire::choose(cluster).await?;
        self.burnt = nodes;
        let killed = Instant::now();
        cluster.kill(&self.burnt)?;
        progress.say(&format!(
            "✖ {dc} burns: {} killed after {} acknowledgements",
            fire::names(cluster, &self.burnt),
            run.acked.load(Ordering::Relaxed)
        ));
        self.led = fire::until_led(cluster, killed, &mut self.history).await?;
        match self.led {
            Some(led) => progress.say(&format!(
                "✔ every shard is led again by the survivors after {:.2} s",
                led.as_secs_f64()
            )),
            None => progress.say("✘ some shard is not led again"),
        }
        if self.led.is_some() {
            until_acked(run, total as u64 * 3 / 4).await;
        }
        let restarted = Instant::now();
        for &i in &self.burnt {
            cluster.start_node(i)?;
        }
        progress.say(&format!("▸ {dc} comes back"));
        let served = fire::until_served(cluster, run, &self.burnt, restarted, SERVE_MAX).await?;
        self.served = served;
        self.replicated = fire::until_caught_up(cluster, restarted, &mut self.history).await?;
        match self.replicated {
            Some(time) => progress.say(&format!(
                "✔ every replica has caught up {:.2} s after the restart",
                time.as_secs_f64()
            )),
            None => progress.say("✘ the restarted nodes do not catch up"),
        }
        Ok(())
    }

    /// Judges every promise.
    async fn prove(
        &mut self,
        run: &Arc<Run>,
        cluster: &mut Cluster,
        progress: &mut Progress,
        seed: u64,
    ) -> anyhow::Result<Report> {
        send_again(run, progress, seed).await;
        progress.phase("settling", 0);
        if let Err(e) = cluster.wait_replicated(SETTLE_MAX).await {
            // A node that died ends the demo; one that stays behind breaks H, as its hashes will
            // show, and the rest can still be judged.
            cluster.check()?;
            run.note(format!("{e:#}"));
        }
        self.history.note(&cluster.statuses().await);
        let bar = progress.phase("reading back", run.script.chats.len());
        let mut groups: [Vec<Client>; 2] = Default::default();
        for (i, node) in cluster.nodes().iter().enumerate() {
            let group = usize::from(self.burnt.contains(&i));
            groups[group].push(proof::only(node, CALL_LIMIT)?);
        }
        let (faults, found) = proof::read_back(run, &groups, || bar.inc(1)).await?;
        progress.say("✔ every conversation read back through surviving and returned nodes");
        let broken_l = judge_reads(run, &found);
        let bar = progress.phase("comparing", 0);
        let comparison = proof::compare_replicas(cluster, || bar.tick()).await;
        for text in faults
            .notes
            .iter()
            .chain(&broken_l)
            .chain(comparison.differences.iter().take(5))
        {
            run.note(text.clone());
        }
        let conflicts = self.history.conflicts();
        for text in &conflicts {
            run.note(format!("two leaders: {text}"));
        }
        Ok(self.report(run, &faults, &broken_l, &comparison, &conflicts))
    }

    fn report(
        &self,
        run: &Run,
        faults: &Faults,
        broken_l: &[String],
        comparison: &Comparison,
        conflicts: &[String],
    ) -> Report {
        let mut calls = Vec::new();
        for ledger in &run.ledger {
            calls.extend(
                lock(ledger)
                    .iter()
                    .filter_map(|s| Some((s.sent_us, s.ack?.at_us))),
            );
        }
        let (longest, worst) = gaps_us(&calls);
        let failed_calls = run.failed.load(Ordering::Relaxed);
        let resent_wrong = run.resent_wrong.load(Ordering::Relaxed);
        let longest_gap_ms = ms(Duration::from_micros(longest));
        let worst_conversation_gap_ms = ms(Duration::from_micros(worst));
        let reads = lock(&run.reads).len();
        let resent = run.resent.load(Ordering::Relaxed);
        let in_time = |time: Option<Duration>| time.is_some_and(|t| t <= SERVE_MAX);
        let gaps_held = longest_gap_ms.max(worst_conversation_gap_ms) <= GAP_MAX_MS;
        let identical = comparison.differences.is_empty();
        let promises = Promises {
            D: Some(faults.lost == 0),
            O: Some(faults.reordered == 0 && comparison.holes == 0),
            E: (resent > 0).then_some(faults.duplicated + resent_wrong == 0),
            L: (reads > 0).then_some(broken_l.is_empty()),
            U: (!self.history.is_empty()).then_some(conflicts.is_empty()),
            H: Some(identical),
            G: Some(failed_calls == 0 && gaps_held),
            P: Some(in_time(self.led) && in_time(self.served)),
        };
        Report {
            acked: run.acked.load(Ordering::Relaxed),
            lost: faults.lost,
            duplicated: faults.duplicated + resent_wrong,
            reordered: faults.reordered,
            failed_calls,
            longest_gap_ms,
            worst_conversation_gap_ms,
            leaders_restored_ms: self.led.map(ms),
            replication_restored_ms: self.replicated.map(ms),
            hashes_equal: identical,
            promises,
        }
    }
}

/// Sends a sample of everything that was acknowledged again, through any node.
async fn send_again(run: &Arc<Run>, progress: &mut Progress, seed: u64) {
    let bar = progress.phase("sending again", RESENT_AFTER);
    let callers = (0..8_u64).map(|n| {
        let bar = bar.clone();
        async move {
            let mut random = StdRng::seed_from_u64(seed.wrapping_add(2_000_000 + n));
            for _ in 0..RESENT_AFTER / 8 {
                let chat = random.random_range(0..run.script.chats.len());
                let line = random.random_range(0..run.script.chats[chat].lines.len());
                run.send_again(chat, line, &mut random).await;
                bar.inc(1);
            }
        }
    });
    futures::future::join_all(callers).await;
    let resent = run.resent.load(Ordering::Relaxed);
    progress.say(&format!(
        "✔ {resent} acknowledged messages sent again, through any node"
    ));
}

/// Judges every conversation's timed reads.
fn judge_reads(run: &Run, found: &[Vec<Found>]) -> Vec<String> {
    let reads = lock(&run.reads);
    let mut by_chat: Vec<Vec<&import::TailRead>> = vec![Vec::new(); found.len()];
    for read in reads.iter() {
        by_chat[read.chat].push(read);
    }
    let judged = by_chat
        .iter()
        .enumerate()
        .filter(|(_, reads)| !reads.is_empty());
    judged
        .filter_map(|(i, reads)| {
            let name = run.script.chats[i].name.as_str();
            proof::linearizable(name, &lock(&run.ledger[i]), &found[i], reads).err()
        })
        .collect()
}
