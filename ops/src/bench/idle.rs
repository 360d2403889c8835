//! What nodes cost that nobody talks to.

use std::time::Duration;

use anyhow::Context as _;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use firebreak::cluster::Cluster;
use firebreak::cluster::usage::Usage;
use proto::v1::GetStatusResponse;
use serde::Serialize;

use super::report::round;

/// How long nodes are left alone before it counts: elections and first flushes are not idling.
const SETTLE: Duration = Duration::from_secs(5);
/// How long shards that nobody uses may take to fall asleep.
const ASLEEP_MAX: Duration = Duration::from_secs(120);

/// One node, idle.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Its name.
    pub node: String,
    /// Replicas of shards that it holds, the meta shard's included.
    pub shard_replicas: usize,
    /// Those that sleep.
    pub asleep: usize,
    /// CPU time, percent of one core.
    pub cpu_percent: f64,
    /// The same for a thousand replicas.
    pub cpu_percent_per_1000: f64,
    /// Resident memory, MB of 10^6 bytes.
    pub resident_mb: f64,
    /// Fsyncs of its log a second.
    pub fsyncs_per_s: f64,
}

/// Watches the nodes of a cluster for a while.
///
/// # Errors
/// When one of them ends or does not answer.
pub async fn watch(cluster: &mut Cluster, watched: Duration) -> anyhow::Result<Vec<Row>> {
    let bar = super::spinner("watching idle nodes");
    wait_asleep(cluster).await?;
    tokio::time::sleep(SETTLE).await;
    let before = sample(cluster).await?;
    tokio::time::sleep(watched).await;
    let after = sample(cluster).await?;
    cluster.check()?;
    bar.finish_and_clear();
    let rows = before.into_iter().zip(after).map(|(from, to)| {
        let cpu = to.used.cpu.saturating_sub(from.used.cpu);
        let cpu_percent = 100.0 * cpu.as_secs_f64() / watched.as_secs_f64();
        let fsyncs = to.fsyncs.saturating_sub(from.fsyncs) as f64;
        Row {
            node: to.name,
            shard_replicas: to.replicas,
            asleep: to.asleep,
            cpu_percent: round(cpu_percent),
            cpu_percent_per_1000: round(cpu_percent * 1_000.0 / to.replicas.max(1) as f64),
            resident_mb: round(to.used.resident_bytes as f64 / 1e6),
            fsyncs_per_s: round(fsyncs / watched.as_secs_f64()),
        }
    });
    Ok(rows.collect())
}

/// Waits until nearly all replicas of all nodes sleep; the meta shard's never do.
///
/// # Errors
/// When that takes too long.
pub async fn wait_asleep(cluster: &mut Cluster) -> anyhow::Result<()> {
    let asleep = |statuses: &[GetStatusResponse]| {
        let data = statuses.iter().flat_map(|one| &one.replicas);
        let awake = data.filter(|one| one.shard != 0 && !one.asleep).count();
        match awake {
            0 => Ok(()),
            _ => Err(format!("{awake} replicas are awake")),
        }
    };
    let limit = ASLEEP_MAX;
    cluster.wait_for(limit, "shards to sleep", asleep).await?;
    Ok(())
}

struct Sample {
    name: String,
    replicas: usize,
    asleep: usize,
    used: Usage,
    fsyncs: u64,
}

async fn sample(cluster: &mut Cluster) -> anyhow::Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for i in cluster.running() {
        let status = cluster.wait_answer(i, Duration::from_secs(10)).await?;
        let node = &cluster.nodes()[i];
        let pid = node
            .pid()
            .with_context(|| format!("{} has ended", node.name))?;
        samples.push(Sample {
            name: node.name.clone(),
            replicas: status.replicas.len(),
            asleep: status.replicas.iter().filter(|one| one.asleep).count(),
            used: Usage::of(pid)?,
            fsyncs: status.stats.map_or(0, |s| s.fsyncs),
        });
    }
    Ok(samples)
}

/// The table for people.
pub fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "node",
        "shard replicas",
        "asleep",
        "CPU % of a core",
        "per 1,000",
        "resident MB",
        "fsyncs/s",
    ]);
    for row in rows {
        table.add_row([
            row.node.clone(),
            row.shard_replicas.to_string(),
            row.asleep.to_string(),
            format!("{:.2}", row.cpu_percent),
            format!("{:.2}", row.cpu_percent_per_1000),
            format!("{:.0}", row.resident_mb),
            format!("{:.1}", row.fsyncs_per_s),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}
