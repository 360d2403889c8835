//! A cluster of real `firebreak serve` processes on this machine's loopback, for the demo, the
//! bench and the whole-system tests.
//!
//! It promises two things: nothing that it started is left behind (whatever way this process
//! ends, unless the caller asked for the opposite), and it waits for what nodes *say* through
//! their API, never for time to pass. A node that dies without having been told to is an error
//! that shows the end of its log.

mod node;
mod plan;
pub mod port;
pub mod process;
mod processes;
mod tls;
pub mod usage;
pub mod view;
mod waits;
mod wanted;

use std::fs;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use indicatif::HumanBytes;
use port::PortLease;

use self::waits::POLL;

pub use self::node::Node;
pub use self::plan::ClusterPlan;

/// How long a founding, a join or a start may take before it counts as failed.
pub const START_LIMIT: Duration = Duration::from_secs(60);
/// What each shard adds to it: thousands are opened and elect.
const SHARD_LIMIT: Duration = Duration::from_millis(30);
/// Room on the disk that a node needs to begin with, bytes: two databases, their logs, and the
/// messages of a demo.
const NODE_ROOM_BYTES: u64 = 128 << 20;

/// The nodes, killed when this is dropped unless the plan lets them outlive it.
#[derive(Debug)]
pub struct Cluster {
    plan: ClusterPlan,
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
    pub async fn start(plan: ClusterPlan) -> anyhow::Result<Cluster> {
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
    pub async fn found(plan: ClusterPlan) -> anyhow::Result<Cluster> {
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
    pub fn plan(&self) -> &ClusterPlan {
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
}

/// That the disk has room for the nodes of a plan.
fn check_room(plan: &ClusterPlan) -> anyhow::Result<()> {
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
