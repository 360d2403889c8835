//! Waiting for what nodes say, never for time to pass.

use std::time::{Duration, Instant};

use anyhow::bail;
use proto::v1::GetStatusResponse;

use super::{Cluster, process, view};

/// Between two questions to the nodes while waiting for something, or longer: what one takes, as
/// thousands of shards are much to tell.
pub(super) const POLL: Duration = Duration::from_millis(25);

impl Cluster {
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
}
