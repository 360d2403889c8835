//! `firebreak outage record`: gathers what the recorders have of a time, from all nodes that answer.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use client::Client;
use client::v1::{GetEventsResponse, GetStatusResponse};
use proto::v1::Record;
use proto::v1::record::What;
use server::night::{FORMAT, KIND, Missing, Night, NodeNight};
use server::recorder::ring::{self, Position};

use super::when::{self, When};
use crate::cmd::target::Target;
use crate::exit::Usage;
use crate::tape::Files;

/// How long a node may take to begin its answer.
const BEGIN: Duration = Duration::from_millis(1_500);
/// How long it is looked for a node that knows the others.
const DEADLINE: Duration = Duration::from_secs(4);
/// What is taken of one node's files, bytes.
const BYTES_MAX: u64 = 96 * 1024 * 1024;

const EXAMPLES: &str = "\
Examples:
  firebreak outage record --from 03:10 --to 03:25 > night.json
  firebreak outage record --from 03:10 --to 03:25 --date 2026-11-29 --out night.json
  firebreak outage record --from 2026-11-29T23:50:00Z --to 2026-11-30T00:10:00Z --out night.json
  firebreak outage record --from 03:10 --to 03:25 --data-dir /var/lib/firebreak --out night.json

Times are UTC. All nodes are asked at once, and each has 1.5 s to begin; those that do not answer are listed
in the file as missing. With --data-dir no node is asked: the recorders' files are read where they are.

Exit codes: 0 something was recorded, 1 no node answered or the file cannot be written, 2 wrong arguments.";

/// Gather what the flight recorders of all reachable nodes have of a time, as JSON.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    when: When,
    /// Where it goes; standard output when not given
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Read data directories instead of asking nodes; may be given several times
    #[arg(long, value_name = "DIR")]
    data_dir: Vec<PathBuf>,
    /// Print what was recorded as JSON; needs --out, since the record itself is JSON
    #[arg(long, requires = "out")]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Args {
    /// Gathers and writes.
    ///
    /// # Errors
    /// As exit codes tell.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let now_ms = when::now_ms();
        let (from_ms, to_ms) = self.when.range(now_ms).map_err(Usage)?;
        let (nodes, missing) = match self.data_dir.is_empty() {
            true => self.ask(from_ms, to_ms).await?,
            false => read_all(&self.data_dir, from_ms, to_ms)?,
        };
        let night = night(nodes, missing, now_ms, (from_ms, to_ms));
        self.write(&night)?;
        Ok(ExitCode::SUCCESS)
    }

    async fn ask(
        &self,
        from_ms: u64,
        to_ms: u64,
    ) -> anyhow::Result<(Vec<NodeNight>, Vec<Missing>)> {
        let client = self.target.client(DEADLINE).await?;
        let status = client.status().await.with_context(|| {
            format!(
                "no node answers ({}); where none runs, read their files: --data-dir DIR for each",
                self.target.asked()
            )
        })?;
        gather(&client, &status, (from_ms, to_ms)).await
    }

    fn write(&self, night: &Night) -> anyhow::Result<()> {
        let text = serde_json::to_string(night)?;
        let tell = |line: &str| match self.out.is_some() && !self.json {
            true => println!("{line}"),
            false => eprintln!("{line}"),
        };
        match &self.out {
            Some(path) => std::fs::write(path, text)
                .with_context(|| format!("{} cannot be written", path.display()))?,
            None => writeln!(std::io::stdout(), "{text}")?,
        }
        let records: usize = night.nodes.iter().map(|node| node.records.len()).sum();
        if self.json {
            let document = serde_json::json!({
                "file": self.out, "from_ms": night.from_ms, "to_ms": night.to_ms,
                "nodes": night.nodes.len(), "records": records, "missing": night.missing,
                "bad": bad(night),
            });
            println!("{}", serde_json::to_string_pretty(&document)?);
            return Ok(());
        }
        tell(&format!(
            "{records} records of {} nodes, {} to {} UTC",
            night.nodes.len(),
            when::rfc3339(night.from_ms),
            when::clock(night.to_ms)
        ));
        for missing in &night.missing {
            tell(&format!("missing: {}: {}", missing.name, missing.why));
        }
        bad(night).iter().for_each(|line| tell(line));
        Ok(())
    }
}

/// What the nodes of a cluster have of a time, and those that cannot be asked.
///
/// # Errors
/// When no node gives its record.
pub async fn gather(
    client: &Client,
    status: &GetStatusResponse,
    between: (u64, u64),
) -> anyhow::Result<(Vec<NodeNight>, Vec<Missing>)> {
    let asks = status.nodes.iter().map(|node| async move {
        let told = ask(client, &node.address, between).await;
        told.map_err(|why| Missing {
            name: node.name.clone(),
            why: format!("{}: {why}", node.address),
        })
    });
    let (mut nodes, mut missing) = (Vec::new(), Vec::new());
    for told in futures::future::join_all(asks).await {
        match told {
            Ok(node) => nodes.push(node),
            Err(why) => missing.push(why),
        }
    }
    if nodes.is_empty() {
        let whys: Vec<String> = missing.into_iter().map(|m| m.why).collect();
        return Err(anyhow!("no node gives its record: {}", whys.join("; ")));
    }
    Ok((nodes, missing))
}

/// A document of what was gathered.
pub fn night(
    nodes: Vec<NodeNight>,
    missing: Vec<Missing>,
    now_ms: u64,
    (from_ms, to_ms): (u64, u64),
) -> Night {
    let mut night = Night {
        kind: KIND.to_owned(),
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        recorded_ms: now_ms,
        from_ms,
        to_ms,
        nodes,
        missing,
        ..Night::default()
    };
    night.order();
    night
}

/// What is not whole of what was recorded, for people.
pub fn bad(night: &Night) -> Vec<String> {
    let mut lines = Vec::new();
    for node in &night.nodes {
        let name = &node.name;
        if node.off {
            lines.push(format!("{name}: its recorder is off (recorder.max_mb = 0)"));
        } else if node.first_ms > night.from_ms || node.first_ms == 0 {
            let since = match node.first_ms {
                0 => "nothing".to_owned(),
                first => format!("nothing before {}", when::rfc3339(first)),
            };
            lines.push(format!("{name}: has {since}"));
        }
        if node.dropped > 0 {
            lines.push(format!(
                "{name}: has lost {} records since its start",
                node.dropped
            ));
        }
        if node.torn_bytes > 0 {
            let torn = node.torn_bytes;
            lines.push(format!(
                "{name}: {torn} bytes of its files cannot be read, as behind a kill"
            ));
        }
        if let Some(why) = &node.cut_short {
            lines.push(format!("{name}: cut short: {why}"));
        }
    }
    lines
}

/// Asks one node.
async fn ask(client: &Client, address: &str, between: (u64, u64)) -> Result<NodeNight, String> {
    let asked = client.events_of(address, between, BEGIN).await;
    let (pages, broke) = asked.map_err(|error| match error.reason() {
        Some("UNIMPLEMENTED") => "its version has no flight recorder".to_owned(),
        _ => error.to_string(),
    })?;
    let mut node = NodeNight {
        source: address.to_owned(),
        ..NodeNight::default()
    };
    let more = pages.last().is_some_and(|page| page.more);
    for page in pages {
        let GetEventsResponse {
            records,
            node_id,
            node_name,
            dropped,
            torn_bytes,
            first_ms,
            off,
            head,
            ..
        } = page;
        node.records.extend(records);
        node.head.extend(head);
        (node.node_id, node.name, node.off) = (node_id, node_name, off);
        (node.dropped, node.torn_bytes, node.first_ms) = (dropped, torn_bytes, first_ms);
    }
    node.cut_short = match (broke, more) {
        (Some(error), _) => Some(error.to_string()),
        (None, true) => Some("there is more than is taken of one node".to_owned()),
        (None, false) => None,
    };
    Ok(node)
}

/// Reads the recorders' files of data directories.
fn read_all(
    folders: &[PathBuf],
    from_ms: u64,
    to_ms: u64,
) -> anyhow::Result<(Vec<NodeNight>, Vec<Missing>)> {
    let (mut nodes, mut missing) = (Vec::new(), Vec::new());
    for folder in folders {
        match read(folder, from_ms, to_ms) {
            Ok(node) => nodes.push(node),
            Err(why) => missing.push(Missing {
                name: folder.display().to_string(),
                why,
            }),
        }
    }
    if nodes.is_empty() {
        let whys = missing.iter().map(|m| format!("{}: {}", m.name, m.why));
        let whys: Vec<String> = whys.collect();
        return Err(anyhow!("nothing to record: {}", whys.join("; ")));
    }
    Ok((nodes, missing))
}

fn read(folder: &Path, from_ms: u64, to_ms: u64) -> Result<NodeNight, String> {
    if !folder.join("FORMAT").exists() {
        return Err("is no data directory of a node".to_owned());
    }
    let files = Files::of(folder);
    let between = (from_ms, to_ms);
    let found = ring::read(&files, between, Position::default(), BYTES_MAX);
    let found = found.map_err(|error| format!("cannot be read: {error}"))?;
    if found.first_ms == 0 {
        return Err("its recorder has written nothing".to_owned());
    }
    let records: Vec<Record> = found
        .records
        .into_iter()
        .map(|(_, record)| record)
        .collect();
    let who = found.head.iter().chain(&records).rev();
    let who = who.filter_map(|record| match &record.what {
        Some(What::Started(started)) => Some((started.node_id, started.name.clone())),
        _ => None,
    });
    let (node_id, name) = { who }.next().unwrap_or_default();
    Ok(NodeNight {
        node_id,
        name,
        source: folder.display().to_string(),
        torn_bytes: found.torn_bytes,
        first_ms: found.first_ms,
        cut_short: found
            .more
            .then(|| "there is more than is taken of one node".to_owned()),
        head: found.head,
        records,
        ..NodeNight::default()
    })
}
