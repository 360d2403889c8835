//! One node: where its things are, and its process while it has one.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use proto::net::{Channel, Dial as _, Dialer, Tcp};

use super::plan::ClusterPlan;
use super::port::PortLease;
use super::process::Process;

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
    pub(super) channel: Channel,
    /// Its mode of TLS, where there are certificates.
    pub(super) tls: Option<&'static str>,
    /// What its callers are let in with, where they must have something.
    pub(super) key: Option<String>,
    pub(super) process: Option<Process>,
    pub(super) port: PortLease,
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

impl Node {
    /// The `n`th of a data center, from 1.
    pub(super) fn lay_out(
        plan: &ClusterPlan,
        region: &str,
        dc: &str,
        n: usize,
    ) -> anyhow::Result<Node> {
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

    pub(super) fn move_to(
        &mut self,
        dialer: &Dialer,
        address: String,
        port: PortLease,
    ) -> anyhow::Result<()> {
        (self.address, self.port) = (address, port);
        self.reach(dialer)
    }

    /// Has the harness reach it where it is, with its key.
    pub(super) fn reach(&mut self, dialer: &Dialer) -> anyhow::Result<()> {
        let dialer = match &self.key {
            Some(key) => client::authorized(dialer.clone(), key)?,
            None => dialer.clone(),
        };
        self.channel = dialer.dial(&self.address)?;
        Ok(())
    }

    pub(super) fn write_config(&self, peer: &str, settings: &str) -> anyhow::Result<()> {
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
