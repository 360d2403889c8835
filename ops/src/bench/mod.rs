//! `firebreak bench`: how fast a cluster acknowledges durable messages, what that costs, and what
//! an idle node costs.
//!
//! The servers are real processes and their data is on a real disk, or nothing is measured. CPU is
//! the servers' own (utime + stime of all of them) over the time that counts; write amplification
//! is what they wrote to disk (`write_bytes` of /proc/PID/io, logs and state, all nodes) per byte
//! of message body and replica.

mod compare;
mod disk;
mod idle;
mod load;
mod outage;
mod pace;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use firebreak::cluster::usage::Usage as Used;
use firebreak::cluster::{Cluster, ClusterPlan, view};
use indicatif::{ProgressBar, ProgressStyle};
use proto::net::{Channel, Dial, Tcp};
use proto::v1::GetStatusResponse;

use compare::Side;

use crate::exit::Usage;
use crate::stop::Stop;
use load::{Course, Job};
use report::{Extra, Row};

/// Largest body: the store's own limit.
const SIZE_MAX: usize = model::limits::BODY_BYTES_MAX;

const DETAILS: &str = "\
Paths: unary is AppendMessage, batch BatchAppendMessages, stream AppendStream (pipelined), list
ListMessages (LINEARIZABLE, a page of 50 from the end; msgs_per_s then counts pages).
Without --rate the loop is closed: every caller sends again when it is answered. With it the loop is
open: latency counts from the time a message was meant to be sent.
CPU is that of all servers together, per message or page. Write amplification is what all servers
wrote to disk per byte of body and replica.
Calls are plain gRPC on connections that stay where they are, and nothing is tried again, since it is
the servers that are measured: with --target, calls to a node that dies fail, and are counted.
Exit codes: 0 measured · 1 calls failed, or nothing could be measured · 2 arguments that make no sense.

Examples:
  firebreak bench                                           all four paths, 256 bytes
  firebreak bench --path stream --outstanding 1024 --json out.json
  firebreak bench --path unary --rate 5000 --duration 30s
  firebreak bench --target 127.0.0.1:7101,127.0.0.1:7102    a cluster that runs
  firebreak bench --path stream --against /old/firebreak    another version beside this one, in turns
  firebreak bench --path stream,unary --tls --rounds 3      with TLS beside without
  firebreak bench --conversations 1 --concurrency 500       one hot conversation
  firebreak bench --idle                                    300 idle shards, then a node dies
  firebreak bench --mass-election 3000                      a node dies that leads 1,000 of 3,000";

/// Measures throughput, latency, server CPU and bytes written per durable message.
#[derive(clap::Args, Debug)]
#[command(after_long_help = DETAILS)]
pub struct Args {
    /// Which calls to make, one run each.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "unary,batch,stream,list"
    )]
    path: Vec<load::Path>,
    /// Bytes of a message body, one run each.
    #[arg(long, value_delimiter = ',', default_value = "256")]
    size: Vec<usize>,
    /// Conversations that take turns.
    #[arg(long, default_value_t = 1_000)]
    conversations: usize,
    /// Callers, or for stream unanswered messages, one run each [default: 64; 1024 for stream].
    #[arg(long, visible_alias = "outstanding", value_delimiter = ',')]
    concurrency: Vec<usize>,
    /// Messages (pages) a second, whether or not they are answered in time: an open loop.
    #[arg(long)]
    rate: Option<f64>,
    /// Messages of one BatchAppendMessages.
    #[arg(long, default_value_t = 100)]
    batch: usize,
    /// Streams that share the unanswered messages.
    #[arg(long, default_value_t = 3)]
    streams: usize,
    /// How long each run counts.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// How long each run goes on before it counts.
    #[arg(long, default_value = "3s", value_parser = humantime::parse_duration)]
    warmup: Duration,
    /// Writes what was measured to this file as JSON ("-": to stdout, instead of the table).
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Nodes of a cluster that runs already (host:port); without it three are started.
    #[arg(long, value_delimiter = ',')]
    target: Vec<String>,
    /// Where the data of the started nodes goes; must be on a disk [default: a new directory in
    /// the system's place for temporary files, removed afterwards].
    #[arg(long, conflicts_with = "target")]
    dir: Option<PathBuf>,
    /// Nodes to start, each in its own data center.
    #[arg(long, default_value_t = 3, conflicts_with = "target")]
    nodes: usize,
    /// Data shards of the started cluster [default: one per node].
    #[arg(long, conflicts_with = "target")]
    shards: Option<u32>,
    /// Replicas of the started cluster.
    #[arg(long, default_value_t = 3, conflicts_with = "target")]
    replicas: u32,
    /// Instead of load: that many shards which nobody uses [300], what they cost each node, and
    /// what clients see when a node dies then.
    #[arg(
        long,
        value_name = "SHARDS",
        num_args = 0..=1,
        default_missing_value = "300",
        conflicts_with_all = ["target", "shards", "rate"]
    )]
    idle: Option<u32>,
    /// Instead of load: that many shards which nobody uses [1000], and a node dies: how long until
    /// all are led again.
    #[arg(
        long,
        value_name = "SHARDS",
        num_args = 0..=1,
        default_missing_value = "1000",
        conflicts_with_all = ["target", "shards", "rate", "idle"]
    )]
    mass_election: Option<u32>,
    /// Measures another `firebreak` beside this one, in turns, and tells the ratios of their medians.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["target", "idle", "mass_election"])]
    against: Option<PathBuf>,
    /// Measures nodes and callers with TLS, beside those without, in turns.
    #[arg(long, conflicts_with_all = ["against", "target", "idle", "mass_election"])]
    tls: bool,
    /// How often each side is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long to watch idle nodes.
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    idle_for: Duration,
}

impl Args {
    /// Runs it.
    ///
    /// # Errors
    /// [`Usage`] for arguments that make no sense; else what kept it from measuring.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        self.check()?;
        let mut stop = Stop::listen().context("cannot listen for signals")?;
        tokio::select! {
            done = self.measure() => done,
            () = stop.asked() => bail!("interrupted"),
        }
    }

    fn check(&self) -> Result<(), Usage> {
        let refuse = |text: String| Err(Usage(text));
        if let Some(size) = self.size.iter().find(|&&s| s == 0 || s > SIZE_MAX) {
            return refuse(format!("--size {size}: must be 1 to {SIZE_MAX}"));
        }
        for (flag, zero) in [
            ("--conversations", self.conversations == 0),
            ("--concurrency", self.concurrency.contains(&0)),
            ("--streams", self.streams == 0),
            ("--duration", self.duration.is_zero()),
            ("--nodes", self.nodes == 0),
            ("--idle", self.idle == Some(0)),
            ("--mass-election", self.mass_election == Some(0)),
            ("--idle-for", self.idle_for.is_zero()),
        ] {
            if zero {
                return refuse(format!("{flag} must be more than 0"));
            }
        }
        let most = model::limits::SHARDS_MAX;
        for (flag, shards) in [
            ("--idle", self.idle),
            ("--mass-election", self.mass_election),
            ("--shards", self.shards),
        ] {
            if let Some(shards) = shards.filter(|shards| *shards > most) {
                return refuse(format!("{flag} {shards}: must be 1 to {most}"));
            }
        }
        if self
            .rate
            .is_some_and(|rate| !rate.is_finite() || rate <= 0.0)
        {
            return refuse("--rate must be a number above 0".to_owned());
        }
        if let Some(folder) = self.json.as_deref().and_then(Path::parent)
            && !folder.as_os_str().is_empty()
            && !folder.is_dir()
        {
            return refuse(format!("--json: there is no folder {}", folder.display()));
        }
        let most = model::limits::BATCH_MESSAGES_MAX;
        if self.batch == 0 || self.batch > most {
            return refuse(format!("--batch must be 1 to {most}"));
        }
        let bytes = self.size.iter().max().copied().unwrap_or(0) * self.batch;
        if self.path.contains(&load::Path::Batch) && bytes > model::limits::BATCH_BYTES_MAX / 2 {
            return refuse(format!(
                "--batch {} of --size {}: a batch must stay under {} bytes",
                self.batch,
                bytes / self.batch,
                model::limits::BATCH_BYTES_MAX / 2
            ));
        }
        Ok(())
    }

    async fn measure(&self) -> anyhow::Result<ExitCode> {
        if let Some(shards) = self.idle {
            let (_dir, mut cluster) = self.start(Some(shards), &this()?).await?;
            let nodes = idle::watch(&mut cluster, self.idle_for).await?;
            let outage = outage::kill_one(&mut cluster).await?;
            let text = format!("{}\n{}", idle::table(&nodes), outage::table(&outage));
            let found = serde_json::json!({ "nodes": nodes, "outage": outage });
            self.give(&found, &text)?;
            return Ok(outage.exit_code());
        }
        if let Some(shards) = self.mass_election {
            let (_dir, mut cluster) = self.start(Some(shards), &this()?).await?;
            idle::wait_asleep(&mut cluster).await?;
            let outage = outage::kill_one(&mut cluster).await?;
            self.give(&outage, &outage::table(&outage))?;
            return Ok(outage.exit_code());
        }
        if let Some((this, against)) = self.sides()? {
            return self.compare(&this, &against).await;
        }
        let mut started = None;
        let addresses = if self.target.is_empty() {
            let (_, cluster) = started.insert(self.start(self.shards, &this()?).await?);
            cluster.addresses()
        } else {
            self.target.clone()
        };
        let mut servers = Servers::find(&addresses, &Tcp).await?;
        let mut rows = Vec::new();
        for job in self.jobs() {
            rows.push(servers.measure(&job, self.warmup, self.duration).await?);
            if let Some((_, cluster)) = &mut started {
                cluster.check()?;
            }
        }
        let json: Vec<&Row> = rows.iter().map(|(row, _)| row).collect();
        self.give(&json, &report::table(&rows))?;
        let failed = rows.iter().any(|(_, extra)| extra.failed > 0);
        Ok(ExitCode::from(u8::from(failed)))
    }

    /// What is measured in turns, if anything is.
    fn sides(&self) -> anyhow::Result<Option<(Side, Side)>> {
        let this = this()?;
        if self.tls {
            let tls = Side {
                name: "TLS",
                tls: Some("strict"),
                ..this.clone()
            };
            return Ok(Some((
                tls,
                Side {
                    name: "plain",
                    ..this
                },
            )));
        }
        let against = self.against.clone().map(|binary| Side {
            name: "against",
            binary,
            tls: None,
        });
        Ok(against.map(|against| (this, against)))
    }

    async fn compare(&self, this: &Side, against: &Side) -> anyhow::Result<ExitCode> {
        let jobs = self.jobs();
        let mut kinds: Vec<compare::Rounds> = vec![Vec::new(); jobs.len()];
        let mut failed = 0;
        for round in 0..self.rounds {
            // Whoever is first in one round is second in the next.
            let turns = match round % 2 {
                0 => [this, against],
                _ => [against, this],
            };
            let mut sides = Vec::new();
            for side in turns {
                let (_dir, mut cluster) = self.start(self.shards, side).await?;
                let dialer = cluster.dialer()?;
                let mut servers = Servers::find(&cluster.addresses(), &*dialer).await?;
                let mut rows = Vec::new();
                for job in &jobs {
                    let (row, extra) = servers.measure(job, self.warmup, self.duration).await?;
                    cluster.check()?;
                    failed += extra.failed;
                    eprintln!(
                        "round {} of {}, {}, {}: {:.0} a second",
                        round + 1,
                        self.rounds,
                        side.name,
                        row.path,
                        row.msgs_per_s
                    );
                    rows.push(row);
                }
                sides.push(rows);
            }
            if round % 2 == 1 {
                sides.reverse();
            }
            if let Ok([this, against]) = <[Vec<Row>; 2]>::try_from(sides) {
                for (kind, pair) in kinds.iter_mut().zip(this.into_iter().zip(against)) {
                    kind.push(pair);
                }
            }
        }
        let compared = compare::compare(&kinds);
        let table = compare::table(&compared, this.name, against.name);
        self.give(&compared, &table)?;
        Ok(ExitCode::from(u8::from(failed > 0)))
    }

    fn jobs(&self) -> Vec<Job> {
        let mut jobs = Vec::new();
        for &path in &self.path {
            for &size in &self.size {
                let mut job = Job::new(path, size);
                job.conversations = self.conversations;
                job.rate = self.rate;
                job.batch = self.batch;
                job.streams = self.streams;
                if self.concurrency.is_empty() {
                    jobs.push(job);
                    continue;
                }
                jobs.extend(self.concurrency.iter().map(|&n| Job {
                    concurrency: n,
                    ..job.clone()
                }));
            }
        }
        jobs
    }

    /// Starts the nodes in a directory that is theirs, which is removed again unless it was given.
    async fn start(
        &self,
        shards: Option<u32>,
        side: &Side,
    ) -> anyhow::Result<(Option<tempfile::TempDir>, Cluster)> {
        let parent = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        std::fs::create_dir_all(&parent)
            .with_context(|| format!("cannot make {}", parent.display()))?;
        refuse_memory(&parent)?;
        let temporary = tempfile::Builder::new()
            .prefix("firebreak-bench-")
            .tempdir_in(&parent)?;
        let (dir, guard) = match self.dir {
            Some(_) => (temporary.keep(), None),
            None => (temporary.path().to_owned(), Some(temporary)),
        };
        let place = |n| ("bench".to_owned(), format!("dc{n}"));
        let plan = ClusterPlan {
            places: (1..=self.nodes).map(place).collect(),
            nodes_per_dc: 1,
            shards,
            replicas: self.replicas,
            tls: side.tls,
            ..ClusterPlan::three_dcs(&dir, &side.binary, 1)
        };
        let spinner = spinner(&format!(
            "starting {} nodes in {}",
            self.nodes,
            dir.display()
        ));
        let cluster = Cluster::start(plan).await?;
        spinner.finish_and_clear();
        Ok((guard, cluster))
    }

    fn give<T: serde::Serialize>(&self, found: &T, table: &str) -> anyhow::Result<()> {
        let json = serde_json::to_string_pretty(found)?;
        match &self.json {
            Some(path) if path == Path::new("-") => println!("{json}"),
            Some(path) => {
                println!("{table}");
                std::fs::write(path, json + "\n")
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
            None => println!("{table}"),
        }
        Ok(())
    }
}

/// This program, without TLS.
fn this() -> anyhow::Result<Side> {
    Ok(Side {
        name: "this",
        binary: std::env::current_exe().context("cannot find this program itself")?,
        tls: None,
    })
}

fn refuse_memory(dir: &Path) -> anyhow::Result<()> {
    let found = disk::in_memory(dir)
        .with_context(|| format!("cannot tell what file system holds {}", dir.display()))?;
    if let Some(name) = found {
        return Err(Usage(format!(
            "{} is on {name}, which lives in memory: nothing is durable there and an fsync costs \
             nothing, so there is nothing to measure. Name a directory on a disk with --dir.",
            dir.display()
        ))
        .into());
    }
    Ok(())
}

fn spinner(text: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message(text.to_owned());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// The nodes that are measured.
struct Servers {
    addresses: Vec<String>,
    channels: Vec<Channel>,
    /// Empty when their processes are not on this machine.
    pids: Vec<u32>,
    replicas: usize,
}

struct Totals {
    servers: Option<Used>,
    own: Used,
    fsyncs: u64,
}

impl Servers {
    async fn find(addresses: &[String], dialer: &dyn Dial) -> anyhow::Result<Servers> {
        let mut servers = Servers {
            addresses: addresses.to_vec(),
            channels: Vec::new(),
            pids: Vec::new(),
            replicas: 1,
        };
        let mut known = 0;
        for address in addresses {
            let channel = dialer.dial(address).map_err(|e| Usage(e.to_string()))?;
            servers.channels.push(channel);
        }
        for (address, status) in addresses.iter().zip(servers.statuses().await?) {
            known = known.max(status.nodes.len());
            let data = status.shards.iter().find(|s| s.shard != 0);
            let data = data.with_context(|| format!("{address} knows no shards yet"))?;
            servers.replicas = data.replicas.len().max(1);
            let host = address.rsplit_once(':').map_or("", |(host, _)| host);
            let here = host.starts_with("127.") || host == "localhost" || host == "[::1]";
            let pid = status.stats.and_then(|s| u32::try_from(s.pid).ok());
            if let Some(pid) = pid.filter(|&pid| here && Used::of(pid).is_ok()) {
                servers.pids.push(pid);
            }
        }
        // Half of the servers' CPU would pass for all of it.
        if servers.pids.len() < known {
            servers.pids.clear();
        }
        Ok(servers)
    }

    async fn statuses(&self) -> anyhow::Result<Vec<GetStatusResponse>> {
        let asked = self
            .channels
            .iter()
            .map(|channel| view::status(channel.clone()));
        let answers = futures::future::join_all(asked).await;
        let named = answers.into_iter().zip(&self.addresses);
        named
            .map(|(answer, address)| {
                answer.map_err(|e| {
                    anyhow::anyhow!("{address} does not say how it is: {}", e.message())
                })
            })
            .collect()
    }

    async fn totals(&self) -> anyhow::Result<Totals> {
        let servers = (!self.pids.is_empty())
            .then(|| Used::of_all(self.pids.iter().copied()))
            .transpose()
            .context("cannot read what the servers have used; did one of them end?")?;
        let own = Used::of(std::process::id())?;
        let statuses = self.statuses().await?;
        let fsyncs = statuses
            .iter()
            .filter_map(|s| s.stats.as_ref())
            .map(|s| s.fsyncs)
            .sum();
        Ok(Totals {
            servers,
            own,
            fsyncs,
        })
    }

    async fn measure(
        &mut self,
        job: &Job,
        warmup: Duration,
        duration: Duration,
    ) -> anyhow::Result<(Row, Extra)> {
        let bar = spinner(&format!(
            "{} · {} bytes · {} at once",
            job.path.name(),
            job.size,
            job.concurrency
        ));
        if job.path == load::Path::List {
            load::fill(&self.channels, job).await?;
        }
        let course = Course::new(warmup, duration);
        let totals = async {
            tokio::time::sleep_until(course.began + course.warm).await;
            let before = self.totals().await;
            tokio::time::sleep_until(course.began + course.end).await;
            (before, self.totals().await)
        };
        let (tally, (before, after)) = tokio::join!(load::run(&self.channels, job, course), totals);
        bar.finish_and_clear();
        if let Some(error) = &tally.first_error {
            eprintln!(
                "{}: {} failed, the first: {error}",
                job.path.name(),
                tally.failed
            );
        }
        if tally.counted == 0 {
            bail!(
                "{}: nothing was acknowledged in the time that counts",
                job.path.name()
            );
        }
        Ok(self.row(job, duration, &tally, &before?, &after?))
    }

    fn row(
        &self,
        job: &Job,
        duration: Duration,
        tally: &load::Tally,
        before: &Totals,
        after: &Totals,
    ) -> (Row, Extra) {
        let counted = tally.counted as f64;
        let per_message = |from: &Used, to: &Used| {
            report::round((to.cpu.saturating_sub(from.cpu)).as_secs_f64() * 1e6 / counted)
        };
        let servers = before.servers.as_ref().zip(after.servers.as_ref());
        let writes = job.path != load::Path::List;
        let body_bytes = counted * job.size as f64 * self.replicas as f64;
        let row = Row {
            path: job.path.name().to_owned(),
            size: job.size,
            conversations: job.conversations,
            concurrency: job.concurrency,
            msgs_per_s: report::round(counted / duration.as_secs_f64()),
            p50_ms: report::percentile_ms(&tally.latencies, 50.0),
            p99_ms: report::percentile_ms(&tally.latencies, 99.0),
            p999_ms: report::percentile_ms(&tally.latencies, 99.9),
            server_cpu_us_per_msg: servers.map(|(from, to)| per_message(from, to)),
            write_amplification: servers.filter(|_| writes).map(|(from, to)| {
                report::round(to.write_bytes.saturating_sub(from.write_bytes) as f64 / body_bytes)
            }),
        };
        let fsyncs = after.fsyncs.saturating_sub(before.fsyncs);
        let extra = Extra {
            msgs_per_fsync: (writes && fsyncs > 0)
                .then(|| counted * self.replicas as f64 / fsyncs as f64),
            failed: tally.failed,
            own_cpu_us_per_msg: per_message(&before.own, &after.own),
        };
        (row, extra)
    }
}
