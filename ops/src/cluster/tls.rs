//! TLS of a cluster's nodes: an authority, a certificate for each node, and one for who runs them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use proto::net::secure::{SecureDialer, Trust};
use proto::net::{Dial, Tcp};

use super::Cluster;

/// The folder of the authority and all it signs.
pub(super) fn folder(dir: &Path) -> PathBuf {
    dir.join("pki")
}

/// The section of a node's configuration.
pub(super) fn section(dir: &Path, node: &str, mode: &str) -> String {
    let file = |name: &str| {
        let path = folder(dir).join(name).display().to_string();
        toml::Value::String(path).to_string()
    };
    format!(
        "\n[tls]\nmode = \"{mode}\"\nca = {}\ncert = {}\nkey = {}\n",
        file("ca.pem"),
        file(&format!("node-{node}.pem")),
        file(&format!("node-{node}.key")),
    )
}

/// How an operator of the cluster reaches it: with TLS where a node speaks it.
///
/// # Errors
/// When a file cannot be read.
pub(super) fn dialer(dir: &Path) -> anyhow::Result<Arc<dyn Dial>> {
    let read = |name: &str| {
        let path = folder(dir).join(name);
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let (cert, key) = (read("operator-harness.pem")?, read("operator-harness.key")?);
    let trust = Trust::read(&read("ca.pem")?, Some((&cert, &key)))?;
    Ok(Arc::new(SecureDialer::new(Tcp, trust).or_plainly()))
}

impl Cluster {
    /// Makes the authority and all certificates, and reaches the nodes with them.
    pub(super) fn certify(&mut self) -> anyhow::Result<()> {
        if self.plan.tls.is_none() {
            return Ok(());
        }
        let folder = folder(&self.plan.dir).display().to_string();
        self.run_ok(&["cert", "ca", "--dir", &folder])?;
        let client = ["--operator", "--name", "harness"];
        self.run_ok(&[&["cert", "client", "--dir", &folder], &client[..]].concat())?;
        for node in &self.nodes {
            let config = node.config.display().to_string();
            self.run_ok(&["cert", "node", "--dir", &folder, "--config", &config])?;
        }
        self.reach()
    }

    /// Reaches the nodes with the files there are now.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn reach(&mut self) -> anyhow::Result<()> {
        let dialer = self.dialer()?;
        for node in &mut self.nodes {
            node.reach(&dialer)?;
        }
        Ok(())
    }

    /// How clients reach the nodes.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn dialer(&self) -> anyhow::Result<Arc<dyn Dial>> {
        match self.plan.tls {
            None => Ok(Arc::new(Tcp)),
            Some(_) => dialer(&self.plan.dir),
        }
    }

    /// The folder of the authority and of what it signed.
    pub fn pki(&self) -> PathBuf {
        folder(&self.plan.dir)
    }

    /// Sets the mode of TLS of a node, from its next start on: `off`, `optional` or `strict`.
    ///
    /// # Errors
    /// When its configuration cannot be written.
    pub fn set_tls(&mut self, i: usize, mode: &'static str) -> anyhow::Result<()> {
        self.nodes[i].tls = Some(mode);
        let peer = usize::from(i == 0);
        self.rewrite(&[i], peer)
    }
}
