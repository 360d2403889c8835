//! A cluster that stays: how to talk to it, and how to stop it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use anyhow::{Context as _, bail};
use firebreak::cluster::Cluster;
use firebreak::cluster::process::send_signal;
use firebreak::cluster::usage::started_at;
use serde::{Deserialize, Serialize};

/// Where a kept cluster is described, inside its directory.
const FILE: &str = "cluster.json";
/// How long a node gets to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// The nodes of a kept cluster.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    nodes: Vec<KeptNode>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptNode {
    name: String,
    dc: String,
    address: String,
    config: PathBuf,
    pid: u32,
    /// With the pid this names the process for good: pids are used again.
    started_at: u64,
}

/// Describes the running nodes in the cluster's directory, so that [`stop`] finds them.
///
/// # Errors
/// When the file cannot be written.
pub fn describe(cluster: &Cluster) -> anyhow::Result<()> {
    let nodes = cluster.nodes().iter().filter_map(|node| {
        let pid = node.pid()?;
        Some(KeptNode {
            name: node.name.clone(),
            dc: node.dc.clone(),
            address: node.address.clone(),
            config: node.config.clone(),
            pid,
            started_at: started_at(pid).ok()?,
        })
    });
    let kept = Kept {
        nodes: nodes.collect(),
    };
    let path = cluster.plan().dir.join(FILE);
    fs::write(&path, serde_json::to_string_pretty(&kept)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// What to tell the user about a cluster that goes on.
pub fn instructions(cluster: &Cluster, conversation: &str) -> String {
    let mut text = String::from("The cluster goes on:\n");
    for node in cluster.nodes() {
        text += &format!("  {:10} {:8} {}\n", node.name, node.dc, node.address);
    }
    // One address in each data center is enough for any client.
    let mut first: Vec<(&str, &str)> = cluster
        .nodes()
        .iter()
        .map(|n| (n.dc.as_str(), n.address.as_str()))
        .collect();
    first.sort_unstable();
    first.dedup_by_key(|(dc, _)| *dc);
    let targets: Vec<&str> = first.iter().map(|(_, address)| *address).collect();
    let dir = cluster.plan().dir.display();
    text += &format!(
        "\nTalk to it:\n  export {ENV}={}\n  firebreak status\n  \
         firebreak read {conversation}\n  \
         firebreak tail {conversation}\n\n\
         Stop it:\n  firebreak demo --stop {dir}\n",
        targets.join(",")
    );
    text
}

/// The environment variable that client commands take their target from.
pub const ENV: &str = "FIREBREAK_TARGET";

/// Stops the nodes of a kept cluster: SIGTERM, and SIGKILL to those that do not end.
///
/// # Errors
/// When the directory holds no kept cluster, or a node cannot be ended.
pub fn stop(dir: &Path) -> anyhow::Result<()> {
    let path = dir.join(FILE);
    let text = fs::read_to_string(&path)
        .with_context(|| format!("{} is not the directory of a kept demo", dir.display()))?;
    let kept: Kept =
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
    let mut running: Vec<&KeptNode> = kept.nodes.iter().filter(|n| n.runs()).collect();
    let found = running.len();
    for node in &running {
        node.signal(libc::SIGTERM)?;
    }
    let asked = Instant::now();
    while !running.is_empty() && asked.elapsed() < STOP_LIMIT {
        std::thread::sleep(Duration::from_millis(20));
        running.retain(|n| n.runs());
    }
    for node in &running {
        eprintln!("{} did not end in {STOP_LIMIT:?} and is killed", node.name);
        node.signal(libc::SIGKILL)?;
    }
    println!(
        "{found} nodes stopped; their data and logs are in {}",
        dir.display()
    );
    Ok(())
}

impl KeptNode {
    fn runs(&self) -> bool {
        started_at(self.pid).is_ok_and(|at| at == self.started_at) && !self.is_zombie()
    }

    /// Ended, and not yet collected by whoever started it.
    fn is_zombie(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim_start().starts_with('Z'))
    }

    fn signal(&self, signal: libc::c_int) -> anyhow::Result<()> {
        match send_signal(self.pid, signal) {
            Err(e) if e.kind() != io::ErrorKind::NotFound && self.runs() => {
                bail!("cannot stop {} (process {}): {e}", self.name, self.pid)
            }
            // It has ended in between.
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_that_was_used_again_is_not_the_node() {
        let pid = std::process::id();
        let mut node = KeptNode {
            name: "n".into(),
            dc: "d".into(),
            address: String::new(),
            config: PathBuf::new(),
            pid,
            started_at: started_at(pid).unwrap(),
        };
        assert!(node.runs());
        node.started_at += 1;
        assert!(!node.runs());
    }

    #[test]
    fn a_directory_without_a_cluster_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = stop(dir.path()).unwrap_err();
        assert!(format!("{error:#}").contains("not the directory of a kept demo"));
    }
}
