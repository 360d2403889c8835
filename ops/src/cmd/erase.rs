//! `firebreak erase status`: whether what was erased is out of the files of all nodes.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use client::{Client, v1};
use serde::Serialize;

use super::target::{Target, new_table, printable, wait_seconds};

const EXAMPLES: &str = "\
Examples:
  firebreak erase status
  firebreak erase status --wait 120
  firebreak erase status --json --target busan-1:7101

What is erased is gone from every read at once. Its bytes leave the files of a running node within two minutes:
those of the state, of the log, and of snapshots. A node whose disk is below its reserve waits until there is room.

Exit codes: 0 nothing is left, 1 something is, or a node does not answer, 2 wrong arguments.";

/// How long a node may take to answer.
const LIMIT: Duration = Duration::from_secs(5);
/// Between two looks how far an erasure is.
const ERASURE_CHECK_EVERY: Duration = Duration::from_millis(500);

/// See to what was erased.
#[derive(clap::Subcommand, Debug)]
pub enum Erase {
    /// Show what is erased and still in files, node by node
    #[command(after_help = EXAMPLES)]
    Status(Status),
}

/// Whom to ask, and how long to wait.
#[derive(clap::Args, Debug)]
pub struct Status {
    /// Wait so long, s, until nothing is left; 0 does not wait
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = wait_seconds())]
    wait: u64,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// What one node says.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Left {
    node: String,
    dc: String,
    /// None when it does not answer, or is of a version that does not know.
    erasures: Option<u64>,
}

impl Erase {
    /// Runs the subcommand.
    ///
    /// # Errors
    /// As exit codes tell.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let Erase::Status(status) = self;
        let client = status.target.client(LIMIT).await?;
        let until = Instant::now() + Duration::from_secs(status.wait);
        loop {
            let left = ask(&client, &status.target).await?;
            let none = left.iter().all(|one| one.erasures == Some(0));
            if none || Instant::now() >= until {
                status.print(&left, none)?;
                return Ok(match none {
                    true => ExitCode::SUCCESS,
                    false => ExitCode::FAILURE,
                });
            }
            tokio::time::sleep(ERASURE_CHECK_EVERY).await;
        }
    }
}

async fn ask(client: &Client, target: &Target) -> anyhow::Result<Vec<Left>> {
    let asked = v1::GetStatusRequest {
        with_erasures: true,
        ..v1::GetStatusRequest::default()
    };
    let reports = client.status_all_with(LIMIT, asked).await;
    let reports = reports.with_context(|| format!("no node answers; {}", target.asked()))?;
    let left = reports.into_iter().filter_map(|report| {
        let listed = report.listed?;
        Some(Left {
            node: listed.name,
            dc: listed.dc,
            erasures: report.status.ok().and_then(|status| status.erasures),
        })
    });
    Ok(left.collect())
}

impl Status {
    fn print(&self, left: &[Left], none: bool) -> anyhow::Result<()> {
        if self.json {
            let said = serde_json::json!({ "erased": none, "nodes": left });
            println!("{}", serde_json::to_string_pretty(&said)?);
            return Ok(());
        }
        let mut table = new_table(&["node", "dc", "still in files"]);
        for one in left {
            let count = match one.erasures {
                Some(0) => "nothing".to_owned(),
                Some(count) => format!("{count} erasures"),
                None => "unknown".to_owned(),
            };
            table.add_row([
                printable(&one.node).to_string(),
                printable(&one.dc).to_string(),
                count,
            ]);
        }
        println!("{table}");
        if none {
            println!("What was erased is in no file of any node.");
        }
        Ok(())
    }
}
