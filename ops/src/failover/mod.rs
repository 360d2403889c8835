//! `firebreak failover`: real processes lose data centers while clients of three languages are at
//! work, and what these saw is held against the goals.
//!
//! ```text
//!  nine `serve`, 30 ms apart ─► warm clients ─► a case, run by run ─► read back ─► table, JSON
//!     (made up by their own        Rust: single calls, streams, reads
//!      transport)                  Python, Node: generated, with the published options
//! ```
//!
//! The goals on gaps hold for the Rust client, which is told one address of each data center, and
//! for clients of a single node that lives through it (`kept`). Plain clients with one address of
//! each data center (`any`) may see longer gaps, shown beside them, and no failed call.

mod case;
mod foreign;
mod late;
mod load;
mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use client::Client;
use firebreak::cluster::{Cluster, Plan};

use crate::demo::fire;
use crate::exit::Usage;
use crate::stop::Stop;
use case::{Case, Victim};
use foreign::{Kit, Language};
use late::Probe;
use load::Load;

use crate::canary::{judge, now_us};
use report::{CaseReport, RunReport};

/// Round trip between data centers.
const ROUND_TRIP: Duration = Duration::from_millis(30);
/// What clients see before anything is done to the cluster; it does not count.
const CALM: Duration = Duration::from_secs(1);
/// How long a conversation may take to be read back.
const READ_LIMIT: Duration = Duration::from_secs(30);
/// Exit code when it could not run to its end.
const COULD_NOT_RUN: u8 = 3;
/// Exit code when all that was judged held, and a language or a case was missing.
const INCOMPLETE: u8 = 4;

const DETAILS: &str = "\
Exit codes: 0 every goal held, 1 one was missed, 2 wrong arguments, 3 it could not run to its end, 4 what
could be judged held, but a client's language or a case was missing.

Examples:
  firebreak failover                                    all cases, five runs each, 20 minutes
  firebreak failover --case stop --runs 1 --keep-logs   one run, and the nodes' logs";

/// Holds real processes, under load from clients of three languages, to the goals on failover.
#[derive(clap::Args, Debug)]
#[command(after_long_help = DETAILS)]
pub struct Args {
    /// Cases to play [default: all].
    #[arg(long = "case", value_enum)]
    cases: Vec<Case>,
    /// Runs of each case.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Writes the result to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Uses gRPC for Python and Node only when it is installed already.
    #[arg(long)]
    no_install: bool,
    /// Judges failed calls, losses and repetitions, not gaps: for machines that are busy.
    #[arg(long)]
    no_timing: bool,
    /// Leaves configurations, logs and data where they are, and says where.
    #[arg(long)]
    keep_logs: bool,
}

impl Args {
    /// Runs it.
    ///
    /// # Errors
    /// [`Usage`] for arguments that make no sense; everything else ends with its own exit code.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        if self.runs == 0 {
            return Err(Usage("--runs must be more than 0".to_owned()).into());
        }
        let place = tempfile::Builder::new()
            .prefix("firebreak-failover-")
            .tempdir()?;
        let mut stop = Stop::listen().context("cannot listen for signals")?;
        let outcome = tokio::select! {
            outcome = self.play(place.path()) => outcome,
            () = stop.asked() => Err(anyhow::anyhow!("interrupted; all is stopped")),
        };
        let failed = !matches!(&outcome, Ok(code) if *code == 0 || *code == INCOMPLETE);
        if failed || self.keep_logs {
            eprintln!(
                "Configurations, logs and data are in {}",
                place.keep().display()
            );
        }
        match outcome {
            Ok(code) => Ok(ExitCode::from(code)),
            Err(error) => {
                eprintln!("error: it could not run to its end: {error:#}");
                Ok(ExitCode::from(COULD_NOT_RUN))
            }
        }
    }

    async fn play(&self, place: &Path) -> anyhow::Result<u8> {
        let (kits, mut incomplete) = self.kits();
        let mut cluster = found(place).await?;
        let cases = match self.cases.as_slice() {
            [] => &Case::ALL,
            cases => cases,
        };
        let mut reports = Vec::new();
        for &case in cases {
            if let Some(why) = case.absent(&cluster)? {
                eprintln!("✘ {}: {why}", case.name());
                incomplete = true;
                reports.push(CaseReport::absent(case, why));
                continue;
            }
            let mut runs = Vec::new();
            for run in 1..=self.runs {
                let name = format!("{}-{run}", case.name());
                let report = play_once(&mut cluster, case, &name, &kits, place).await?;
                eprintln!("▸ {name} ({}): {}", report.dc, report.line());
                report.notes.iter().for_each(|note| eprintln!("    {note}"));
                runs.push(report);
            }
            reports.push(CaseReport::new(case, runs));
            self.save(&reports)?;
        }
        println!("{}", report::table(&reports));
        self.save(&reports)?;
        let played = || reports.iter().filter(|case| case.absent.is_none());
        let held = match self.no_timing {
            true => played().all(|case| case.runs.iter().all(RunReport::kept)),
            false => played().all(|case| case.held),
        };
        Ok(match (held, incomplete) {
            (false, _) => 1,
            (true, true) => INCOMPLETE,
            (true, false) => 0,
        })
    }

    /// The other languages, and whether one is missing.
    fn kits(&self) -> (Vec<Kit>, bool) {
        let (mut kits, mut missing) = (Vec::new(), false);
        for language in [Language::Python, Language::Node] {
            match Kit::find(language, !self.no_install) {
                Ok(kit) => kits.push(kit),
                Err(why) => {
                    missing = true;
                    eprintln!("✘ no client in {language:?}: {why}");
                }
            }
        }
        (kits, missing)
    }

    fn save(&self, reports: &[CaseReport]) -> anyhow::Result<()> {
        let Some(path) = &self.json else {
            return Ok(());
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, serde_json::to_string_pretty(reports)? + "\n")
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

async fn found(place: &Path) -> anyhow::Result<Cluster> {
    let binary = std::env::current_exe().context("cannot find this program itself")?;
    let plan = Plan {
        round_trip: Some(ROUND_TRIP),
        ..Plan::three_dcs(place, &binary, 3)
    };
    let began = Instant::now();
    let cluster = Cluster::start(plan).await?;
    let node = &cluster.nodes()[0];
    let config = server::Config::load(&node.config)?;
    println!(
        "Nine nodes, {} ms round trip between data centers, all else at its default but for the \
         reserve of a disk that is not theirs alone. {}:\n\n{}\n\
         raft: heartbeat {} ms, election {} to {} ms, read lease {} ms\n",
        ROUND_TRIP.as_millis(),
        node.name,
        fs::read_to_string(&node.config)?,
        config.raft.heartbeat_ms,
        config.raft.election_min_ms,
        config.raft.election_max_ms,
        config.raft.read_lease_ms,
    );
    eprintln!(
        "✔ every shard is led ({:.1} s)",
        began.elapsed().as_secs_f64()
    );
    Ok(cluster)
}

async fn play_once(
    cluster: &mut Cluster,
    case: Case,
    name: &str,
    kits: &[Kit],
    place: &Path,
) -> anyhow::Result<RunReport> {
    let (dc, nodes) = fire::choose(cluster).await?;
    let victim = Victim { dc, nodes };
    case.prepare(cluster, &victim).await?;
    let mut load = Load::start(cluster, name, case, &victim, kits, place)?;
    load.warm().await?;
    let since_us = now_us();
    tokio::time::sleep(CALM).await;
    let load_average = load_average();
    let probe = Probe::start();
    let began = Instant::now();
    case.play(cluster, &victim).await?;
    let seconds = began.elapsed().as_secs_f64();
    let late = probe.stop();
    let calls = load.stop().await?;
    case.heal(cluster, &victim).await?;
    let reader = Client::builder()
        .endpoints(cluster.addresses())
        .deadline(READ_LIMIT)
        .build()?;
    let faults = judge::read_back(&reader, &calls).await?;
    let waits = judge::waits(&calls, since_us);
    let context = report::Context {
        dc: victim.dc,
        seconds,
        load_average,
        late,
    };
    Ok(RunReport::new(&waits, faults, &calls, context))
}

/// Of the last minute; 0 where the system does not tell.
fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split_whitespace().next();
    first.and_then(|load| load.parse().ok()).unwrap_or(0.0)
}
