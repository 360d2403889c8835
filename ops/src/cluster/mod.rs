//! A cluster of real `firebreak serve` processes on this machine's loopback, for the demo, the
//! bench and the whole-system tests.
//!
//! It promises two things: nothing that it started is left behind (whatever way this process
//! ends, unless the caller asked for the opposite), and it waits for what nodes *say* through
//! their API, never for time to pass. A node that dies without having been told to is an error
//! that shows the end of its log.

pub mod port;
pub mod process;
mod tls;
pub mod usage;
pub mod view;
mod wanted;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use indicatif::HumanBytes;
use proto::net::{Channel, Dial as _, Dialer, Tcp};
use proto::v1::GetStatusResponse;

use port::PortLease;
use process::Process;

/// How long a founding, a join or a start may take before it counts as failed.
pub const START_LIMIT: Duration = Duration::from_secs(60);
/// What each shard adds to it: thousands are opened and elect.
const SHARD_LIMIT: Duration = Duration::from_millis(30);
/// Room on the disk that a node needs to begin with, bytes: two databases, their logs, and the
/// messages of a demo.
const NODE_ROOM_BYTES: u64 = 128 << 20;
/// The disk is shared with all else on this machine, so that its size says nothing of the room that
/// is the nodes'; what they need is looked at once, before they start.
const LIMITS: &str = "[limits]\ndisk_reserve_percent = 0\n";
/// Between two questions to the nodes while waiting for something, or longer: what one takes, as
/// thousands of shards are much to tell.
const POLL: Duration = Duration::from_millis(25);

/// What cluster to make.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where everything goes: for each node NAME the configuration NAME.toml, the log NAME.log
    /// and the data directory NAME.
    pub dir: PathBuf,
    /// The `firebreak` to run.
    pub binary: PathBuf,
    /// (region, data center) pairs.
    pub places: Vec<(String, String)>,
    /// Nodes in each data center.
    pub nodes_per_dc: usize,
    /// Racks that those stand in, one after the other.
    pub racks_per_dc: usize,
    /// Data shards; `None` leaves it to `firebreak init`.
    pub shards: Option<u32>,
    /// Replicas of each shard.
    pub replicas: u32,
    /// More TOML for every node's configuration, sections only.
    pub settings: String,
    /// Round trip between data centers, made up by the nodes' own transport: each data center gets
    /// a loopback address of its own then. `None`: all are at 127.0.0.1.
    pub round_trip: Option<Duration>,
    /// How the nodes begin with TLS: `off`, `optional` or `strict`, with certificates that are made
    /// for them. `None`: off, and there are none.
    pub tls: Option<&'static str>,
    /// Leave the nodes running when this process ends.
    pub outlive: bool,
}

impl Plan {
    /// Three data centers, `nodes_per_dc` nodes in each, three replicas.
    pub fn three_dcs(dir: &Path, binary: &Path, nodes_per_dc: usize) -> Plan {
        let place = |region: &str, dc: &str| (region.to_owned(), dc.to_owned());
        Plan {
            dir: dir.to_owned(),
            binary: binary.to_owned(),
            places: vec![
                place("kr", "seoul"),
                place("kr", "busan"),
                place("jp", "tokyo"),
            ],
            nodes_per_dc,
            racks_per_dc: 1,
            shards: None,
            replicas: 3,
            settings: LIMITS.to_owned(),
            round_trip: None,
            tls: None,
            outlive: false,
        }
    }
}

impl Plan {
    /// The address that the nodes of a data center have.
    pub fn host(&self, dc: &str) -> Ipv4Addr {
        let at = self.places.iter().position(|(_, name)| name == dc);
        match (self.round_trip, at.and_then(|at| u8::try_from(at).ok())) {
            // Clients come from 127.0.0.1 and are near everywhere.
            (Some(_), Some(at)) => Ipv4Addr::new(127, 0, 1, at.saturating_add(1)),
            (None, _) | (_, None) => Ipv4Addr::LOCALHOST,
        }
    }

    /// The sections of a node's configuration.
    fn settings_of(&self, node: &Node) -> String {
        let tls = node
            .tls
            .map(|mode| tls::section(&self.dir, &node.name, mode));
        [
            self.settings.clone(),
            self.distances(&node.dc),
            tls.unwrap_or_default(),
        ]
        .concat()
    }

    fn distances(&self, dc: &str) -> String {
        let Some(round_trip) = self.round_trip else {
            return String::new();
        };
        let one_way_ms = round_trip.as_millis() / 2;
        let others = self.places.iter().filter(|(_, other)| other != dc);
        let delays: Vec<String> = others
            .map(|(_, other)| format!("\"{}\" = {one_way_ms}", self.host(other)))
            .collect();
        format!("\n[network]\ndelay_ms = {{ {} }}\n", delays.join(", "))
    }
}

/// One node: where its things are, and its process while it has one.
#[derive(Debug)]
pub struct Node {
    /// Its name, `{dc}-{n}`.
    pub name: String,
    /// Its region.
    pub region: String,
    /// Its data center.
    pub dc: String,
    /// Its rack.
    pub rack: String,
    /// host:port.
    pub address: String,
    /// Its configuration file.
    pub config: PathBuf,
    /// Its log, over all its starts.
    pub log: PathBuf,
    /// Its data directory.
    pub data_dir: PathBuf,
    channel: Channel,
    /// Its mode of TLS, where there are certificates.
    tls: Option<&'static str>,
    /// What its callers are let in with, where they must have something.
    key: Option<String>,
    process: Option<Process>,
    port: PortLease,
}

impl Node {
    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// A channel to it that reconnects by itself.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }
}

/// The nodes, killed when this is dropped unless the plan lets them outlive it.
#[derive(Debug)]
pub struct Cluster {
    plan: Plan,
    nodes: Vec<Node>,
    token: String,
    operator_key: Option<String>,
}

impl Cluster {
    /// Founds a cluster, starts all its nodes and waits until every shard is led. Must be called
    /// on a tokio runtime.
    ///
    /// # Errors
    /// What `firebreak init`, `node join` or `serve` said.
    pub async fn start(plan: Plan) -> anyhow::Result<Cluster> {
        let mut cluster = Cluster::found(plan).await?;
        for i in 1..cluster.nodes.len() {
            cluster.join(i).await?;
            cluster.start_node(i)?;
        }
        let shards = cluster.plan.shards.unwrap_or_default();
        cluster
            .wait_ready(START_LIMIT + SHARD_LIMIT * shards)
            .await?;
        Ok(cluster)
    }

    /// Writes the configurations, founds the cluster and runs its first node alone.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub async fn found(plan: Plan) -> anyhow::Result<Cluster> {
        fs::create_dir_all(&plan.dir)
            .with_context(|| format!("cannot make the directory {}", plan.dir.display()))?;
        check_room(&plan)?;
        let mut nodes = Vec::new();
        for (region, dc) in &plan.places {
            for n in 1..=plan.nodes_per_dc {
                nodes.push(Node::lay_out(&plan, region, dc, n)?);
            }
        }
        // Neighbours in the list are in different data centers, so that the first to join are.
        nodes.sort_by_key(|node: &Node| {
            let place = plan.places.iter().position(|(_, dc)| *dc == node.dc);
            (
                node.name[node.dc.len()..].len(),
                node.name[node.dc.len()..].to_owned(),
                place,
            )
        });
        let first = nodes
            .first()
            .map(|n| n.address.clone())
            .context("a plan without nodes")?;
        for node in &nodes {
            node.write_config(&first, &plan.settings_of(node))?;
        }
        let mut cluster = Cluster {
            plan,
            nodes,
            token: String::new(),
            operator_key: None,
        };
        cluster.certify()?;
        cluster.init()?;
        cluster.start_node(0)?;
        cluster
            .wait_for(START_LIMIT, "the cluster to be founded", |statuses| {
                let founded = statuses.iter().any(|s| !s.nodes.is_empty());
                founded
                    .then_some(())
                    .ok_or_else(|| "the first node knows no node".to_owned())
            })
            .await?;
        Ok(cluster)
    }

    fn init(&mut self) -> anyhow::Result<()> {
        let config = self.nodes[0].config.display().to_string();
        let nodes = self.nodes.len().to_string();
        let replicas = self.plan.replicas.to_string();
        let shards = self.plan.shards.map(|n| n.to_string());
        let mut args = vec![
            "init",
            "--json",
            "--config",
            &config,
            "--nodes",
            &nodes,
            "--replicas",
            &replicas,
        ];
        if let Some(shards) = &shards {
            args.extend(["--shards", shards]);
        }
        let text = self.run_ok(&args)?;
        let founded: serde_json::Value = serde_json::from_str(&text)
            .with_context(|| format!("`firebreak init --json` printed no JSON:\n{text}"))?;
        let token = founded["token"].as_str().map(str::to_owned);
        self.token =
            token.with_context(|| format!("`firebreak init` printed no token:\n{text}"))?;
        self.operator_key = founded["operator_key"].as_str().map(str::to_owned);
        if let Some(key) = &self.operator_key {
            for node in &mut self.nodes {
                node.key = Some(key.to_owned());
            }
        }
        self.reach()
    }

    /// Registers node `i`; its process is not started.
    ///
    /// # Errors
    /// What `firebreak node join` last said.
    pub async fn join(&mut self, i: usize) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            self.check()?;
            let output = self.join_once(i)?;
            if output.status.success() {
                return Ok(());
            }
            // Usage errors do not pass; a meta shard between two leaders does.
            if output.status.code() == Some(2) || started.elapsed() > START_LIMIT {
                bail!("{} cannot join: {}", self.nodes[i].name, said(&output));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn join_once(&self, i: usize) -> anyhow::Result<Output> {
        let config = self.nodes[i].config.display().to_string();
        let peer = self
            .nodes
            .iter()
            .enumerate()
            .find(|(n, node)| *n != i && node.process.is_some())
            .map(|(_, node)| node.address.as_str())
            .context("no node runs that could be asked to join")?;
        let token = self.token.as_str();
        self.run(&[
            "node", "join", "--config", &config, "--token", token, "--peer", peer,
        ])
    }

    /// Runs the `firebreak` of the plan to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(&self, args: &[&str]) -> anyhow::Result<Output> {
        let mut command = Command::new(&self.plan.binary);
        if let Some(key) = &self.operator_key {
            command.env("FIREBREAK_API_KEY", key);
        }
        command
            .args(args)
            .output()
            .with_context(|| format!("cannot run {}", self.plan.binary.display()))
    }

    /// Runs the `firebreak` of the plan and gives its stdout.
    ///
    /// # Errors
    /// When it cannot be started, or ends with another code than 0.
    pub fn run_ok(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = self.run(args)?;
        if !output.status.success() {
            bail!("`firebreak {}` failed: {}", args.join(" "), said(&output));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What it was made from.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// All nodes, running or not.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The token that `firebreak init` printed.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The first operator's key, where `auth.mode` is `required`.
    pub fn operator_key(&self) -> Option<&str> {
        self.operator_key.as_deref()
    }

    /// The addresses of all nodes.
    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|n| n.address.clone()).collect()
    }

    /// The process ids of the nodes that run.
    pub fn pids(&self) -> Vec<u32> {
        self.nodes.iter().filter_map(Node::pid).collect()
    }

    /// The positions of the nodes of a data center.
    pub fn in_dc(&self, dc: &str) -> Vec<usize> {
        (0..self.nodes.len())
            .filter(|&i| self.nodes[i].dc == dc)
            .collect()
    }

    /// The positions of the nodes that run.
    pub fn running(&self) -> Vec<usize> {
        (0..self.nodes.len())
            .filter(|&i| self.nodes[i].process.is_some())
            .collect()
    }

    /// Starts the process of node `i`, if it has none. Does not wait for it to answer.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_node(&mut self, i: usize) -> anyhow::Result<()> {
        let node = &mut self.nodes[i];
        if node.process.is_some() {
            return Ok(());
        }
        let mut command = Command::new(&self.plan.binary);
        command.arg("serve").arg("--config").arg(&node.config);
        let process = Process::start(command, &node.log, self.plan.outlive)
            .with_context(|| format!("cannot start {}", node.name))?;
        node.process = Some(process);
        Ok(())
    }

    /// Gives stopped nodes addresses of their own that are new; they ask `peer` about the cluster.
    ///
    /// # Errors
    /// When there is no free port, or a configuration cannot be written.
    pub fn readdress(&mut self, which: &[usize], peer: usize) -> anyhow::Result<()> {
        for &i in which {
            let host = self.plan.host(&self.nodes[i].dc);
            let port = PortLease::take(host).context("cannot find a free port")?;
            let dialer = self.dialer()?;
            self.nodes[i].move_to(&dialer, format!("{host}:{}", port.port()), port)?;
        }
        self.rewrite(which, peer)
    }

    /// Gives two stopped nodes each other's addresses.
    ///
    /// # Errors
    /// When a configuration cannot be written.
    pub fn swap_addresses(&mut self, one: usize, other: usize) -> anyhow::Result<()> {
        let (one, other) = (one.min(other), one.max(other));
        let (left, right) = self.nodes.split_at_mut(other);
        let (a, b) = (&mut left[one], &mut right[0]);
        std::mem::swap(&mut a.address, &mut b.address);
        std::mem::swap(&mut a.channel, &mut b.channel);
        std::mem::swap(&mut a.port, &mut b.port);
        self.rewrite(&[one, other], 0)
    }

    fn rewrite(&self, which: &[usize], peer: usize) -> anyhow::Result<()> {
        for &i in which {
            let node = &self.nodes[i];
            node.write_config(&self.nodes[peer].address, &self.plan.settings_of(node))?;
        }
        Ok(())
    }

    /// SIGKILLs nodes: all are hit before the first is waited for.
    ///
    /// # Errors
    /// When one of them had died before.
    pub fn kill(&mut self, which: &[usize]) -> anyhow::Result<()> {
        self.check()?;
        for &i in which {
            if let Some(process) = &self.nodes[i].process {
                process.signal(libc::SIGKILL)?;
            }
        }
        for &i in which {
            drop(self.nodes[i].process.take());
        }
        Ok(())
    }

    /// Sends a signal that ends nothing, such as SIGSTOP, to nodes.
    ///
    /// # Errors
    /// When one of them does not run.
    pub fn signal(&mut self, which: &[usize], signal: libc::c_int) -> anyhow::Result<()> {
        for &i in which {
            let node = &self.nodes[i];
            let process = node.process.as_ref();
            let process = process.with_context(|| format!("{} is down", node.name))?;
            process.signal(signal)?;
        }
        Ok(())
    }

    /// SIGTERMs node `i` and waits for its end.
    ///
    /// # Errors
    /// When it does not run, or does not end within `limit` (it is killed then).
    pub fn terminate(&mut self, i: usize, limit: Duration) -> anyhow::Result<ExitStatus> {
        let node = &mut self.nodes[i];
        let mut process = node
            .process
            .take()
            .with_context(|| format!("{} is down", node.name))?;
        process.signal(libc::SIGTERM)?;
        process
            .wait(limit)
            .with_context(|| format!("{}\n{}", node.name, process::tail_of(&node.log)))
    }

    /// Waits for node `i` to end by itself, as one does that refuses to start.
    ///
    /// # Errors
    /// When it does not run, or goes on running for `limit`.
    pub fn wait_end(&mut self, i: usize, limit: Duration) -> anyhow::Result<ExitStatus> {
        let node = &mut self.nodes[i];
        let process = node
            .process
            .as_mut()
            .with_context(|| format!("{} is down", node.name))?;
        let status = process
            .wait(limit)
            .with_context(|| format!("{}\n{}", node.name, process::tail_of(&node.log)))?;
        node.process = None;
        Ok(status)
    }

    /// That every node still runs that was started and not stopped.
    ///
    /// # Errors
    /// Names the first that does not, with the end of its log.
    pub fn check(&mut self) -> anyhow::Result<()> {
        for node in &mut self.nodes {
            if let Some(status) = node.process.as_mut().and_then(Process::ended) {
                node.process = None;
                bail!(
                    "{} died unexpectedly ({status}); the end of {}:\n{}",
                    node.name,
                    node.log.display(),
                    process::tail_of(&node.log)
                );
            }
        }
        Ok(())
    }

    /// Waits until node `i` answers its API.
    ///
    /// # Errors
    /// When a node dies or the limit passes.
    pub async fn wait_answer(
        &mut self,
        i: usize,
        limit: Duration,
    ) -> anyhow::Result<GetStatusResponse> {
        let started = Instant::now();
        loop {
            self.check()?;
            match view::status(self.nodes[i].channel()).await {
                Ok(status) => return Ok(status),
                Err(e) if started.elapsed() > limit => bail!(
                    "{} does not answer after {limit:?}: {}; the end of its log:\n{}",
                    self.nodes[i].name,
                    e.message(),
                    process::tail_of(&self.nodes[i].log)
                ),
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Waits until all running nodes together satisfy `wanted`, which says what is missing.
    /// Gives the time it took.
    ///
    /// # Errors
    /// When a node dies, or the limit passes; with what was missing last.
    pub async fn wait_for(
        &mut self,
        limit: Duration,
        what: &str,
        wanted: impl Fn(&[GetStatusResponse]) -> Result<(), String>,
    ) -> anyhow::Result<Duration> {
        let started = Instant::now();
        loop {
            self.check()?;
            let asked = Instant::now();
            let statuses = self.statuses().await;
            let took = asked.elapsed();
            let missing = match wanted(&statuses) {
                Ok(()) => return Ok(started.elapsed()),
                Err(missing) => missing,
            };
            if started.elapsed() > limit {
                bail!("waited {limit:?} for {what}: {missing}");
            }
            tokio::time::sleep(POLL.max(took)).await;
        }
    }

    /// Waits until every running node answers, the shards are laid out, and each is led.
    ///
    /// # Errors
    /// As [`Cluster::wait_for`].
    pub async fn wait_ready(&mut self, limit: Duration) -> anyhow::Result<Duration> {
        let running = self.running().len();
        let nodes = self.nodes.len();
        self.wait_for(limit, "every shard to be led", |statuses| {
            view::all_know(statuses, running, nodes)?;
            view::all_led(statuses)
        })
        .await
    }

    /// Waits until all replicas of every shard have applied the same, everything.
    ///
    /// # Errors
    /// As [`Cluster::wait_for`].
    pub async fn wait_replicated(&mut self, limit: Duration) -> anyhow::Result<Duration> {
        self.wait_for(limit, "every replica to catch up", view::all_replicated)
            .await
    }

    /// What every running node says, those that do not answer left out.
    pub async fn statuses(&self) -> Vec<GetStatusResponse> {
        let asked = self
            .nodes
            .iter()
            .filter(|node| node.process.is_some())
            .map(|node| view::status(node.channel()));
        futures::future::join_all(asked)
            .await
            .into_iter()
            .flatten()
            .collect()
    }

    /// Lets all nodes run on when this goes; only for a plan with `outlive`.
    pub fn release(mut self) {
        for node in &mut self.nodes {
            if let Some(process) = node.process.take() {
                process.release();
            }
        }
    }
}

impl Node {
    /// The `n`th of a data center, from 1.
    fn lay_out(plan: &Plan, region: &str, dc: &str, n: usize) -> anyhow::Result<Node> {
        let (dir, host) = (&plan.dir, plan.host(dc));
        let name = format!("{dc}-{n}");
        let port = PortLease::take(host).context("cannot find a free port")?;
        let address = format!("{host}:{}", port.port());
        Ok(Node {
            region: region.to_owned(),
            dc: dc.to_owned(),
            rack: format!("r{}", (n - 1) % plan.racks_per_dc.max(1) + 1),
            config: dir.join(format!("{name}.toml")),
            log: dir.join(format!("{name}.log")),
            data_dir: dir.join(&name),
            name,
            channel: Tcp.dial(&address)?,
            address,
            tls: plan.tls,
            key: None,
            process: None,
            port,
        })
    }

    fn move_to(&mut self, dialer: &Dialer, address: String, port: PortLease) -> anyhow::Result<()> {
        (self.address, self.port) = (address, port);
        self.reach(dialer)
    }

    /// Has the harness reach it where it is, with its key.
    fn reach(&mut self, dialer: &Dialer) -> anyhow::Result<()> {
        let dialer = match &self.key {
            Some(key) => client::authorized(dialer.clone(), key)?,
            None => dialer.clone(),
        };
        self.channel = dialer.dial(&self.address)?;
        Ok(())
    }

    fn write_config(&self, peer: &str, settings: &str) -> anyhow::Result<()> {
        let text = |value: &str| toml::Value::String(value.to_owned()).to_string();
        let config = format!(
            "name = {}\nlisten = {}\nadvertise = {}\ndata_dir = {}\npeers = [{}]\n\n\
             [locality]\nregion = {}\ndc = {}\nrack = {}\n\n{settings}",
            text(&self.name),
            text(&self.address),
            text(&self.address),
            text(&self.data_dir.display().to_string()),
            text(peer),
            text(&self.region),
            text(&self.dc),
            text(&self.rack),
        );
        fs::write(&self.config, config)
            .with_context(|| format!("cannot write {}", self.config.display()))
    }
}

/// That the disk has room for the nodes of a plan.
fn check_room(plan: &Plan) -> anyhow::Result<()> {
    let free = fs2::available_space(&plan.dir)
        .with_context(|| format!("cannot tell how much room {} has", plan.dir.display()))?;
    let nodes = plan.places.len() * plan.nodes_per_dc;
    let needed = NODE_ROOM_BYTES * nodes as u64;
    if free < needed {
        bail!(
            "{} has {} free; {nodes} nodes need at least {}. Make room, or name a directory on another \
             disk (--dir where there is one, else the environment's TMPDIR)",
            plan.dir.display(),
            HumanBytes(free),
            HumanBytes(needed),
        );
    }
    Ok(())
}

/// What a command that failed said, for people.
fn said(output: &Output) -> String {
    let err = String::from_utf8_lossy(&output.stderr);
    let out = String::from_utf8_lossy(&output.stdout);
    format!("{}; {}{}", output.status, err.trim(), out.trim())
}
