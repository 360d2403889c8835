//! `firebreak audit`: what was done to the cluster, what was refused, and by whom.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use client::Client;
use model::cluster::audit::{Record, Trail, Verifier};
use server::drill::certificate::hex;

use super::init::{until, valid_ms};
use super::target::{Show, new_table, printable};

const EXAMPLES: &str = "\
Examples:
  firebreak audit --since 1d
  firebreak audit --since 30d --who ann --json
  firebreak audit --verify

Every change that an operator asks for is a record, made by the same command as the change, so that the same quorum
has both. So are refusals and erasures; of many alike one record tells how many. Each record has the hash of the one
before it: --verify follows the chain to its end, and says where it is broken. Records are kept for 400 days, 200,000
at most.

Exit codes: 0 shown, or the chain is whole; 1 it is broken, or no node answers; 2 wrong arguments.";

/// Show what was done to the cluster, what was refused, and by whom.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Only what is not older, as 1d or 12h
    #[arg(long, value_name = "TIME", value_parser = valid_ms)]
    since: Option<u64>,
    /// Only what was done, or tried, by somebody in whose name this stands
    #[arg(long, value_name = "TEXT")]
    who: Option<String>,
    /// Follow the chain of hashes from the first record that is kept to the last
    #[arg(long, conflicts_with_all = ["since", "who"])]
    verify: bool,
    #[command(flatten)]
    show: Show,
}

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// As exit codes tell.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.show.client().await?;
        let mut verifier = Verifier::default();
        let mut records = Vec::new();
        let mut broken = None;
        let trail = read(&client, |encoded| match verifier.take(encoded) {
            Ok(record) => records.push(record),
            Err(why) => {
                broken.get_or_insert(why);
            }
        });
        let asked = || format!("the audit cannot be read; {}", self.show.target.asked());
        let trail = trail.await.with_context(asked)?;
        if self.verify {
            let whole = match broken {
                Some(why) => Err(why),
                None => verifier.end(&trail),
            };
            return self.verified(whole, &trail);
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let from_ms = match self.since {
            None | Some(0) => 0,
            Some(since) => now_ms.saturating_sub(since),
        };
        records.retain(|record| {
            let named = self
                .who
                .as_ref()
                .is_none_or(|who| record.who.contains(who.as_str()));
            record.time_ms >= from_ms && named
        });
        self.print(&records)
    }

    fn verified(&self, whole: Result<u64, String>, trail: &Trail) -> anyhow::Result<ExitCode> {
        if self.show.json {
            let value = serde_json::json!({
                "whole": whole.is_ok(),
                "records": whole.as_ref().ok(),
                "first": trail.first,
                "last": trail.last,
                "head": hex(&trail.head),
                "why": whole.as_ref().err(),
            });
            println!("{}", serde_json::to_string_pretty(&value)?);
        }
        match whole {
            Ok(count) => {
                if !self.show.json {
                    let (first, last, head) = (trail.first, trail.last, hex(&trail.head));
                    match count {
                        0 => println!("there is no record yet"),
                        _ => println!(
                            "the chain is whole: {count} records, {first} to {last}, head {head}"
                        ),
                    }
                }
                Ok(ExitCode::SUCCESS)
            }
            Err(why) => Err(anyhow!("the chain of the audit is broken: {why}")),
        }
    }

    fn print(&self, records: &[Record]) -> anyhow::Result<ExitCode> {
        if self.show.json {
            let records: Vec<_> = records.iter().map(json).collect();
            println!("{}", serde_json::to_string_pretty(&records)?);
            return Ok(ExitCode::SUCCESS);
        }
        let mut table = new_table(&["#", "time", "who", "what", "target", "from", "outcome"]);
        for record in records {
            let outcome = match record.count {
                0 | 1 => printable(&record.outcome),
                count => format!("{} ({count} times)", printable(&record.outcome)),
            };
            let who = match record.role.as_str() {
                "" => printable(&record.who),
                role => format!("{}, {role}", printable(&record.who)),
            };
            table.add_row([
                record.number.to_string(),
                until(record.time_ms).unwrap_or_default(),
                who,
                printable(&record.what),
                printable(&record.target),
                printable(&record.from),
                outcome,
            ]);
        }
        println!("{table}");
        Ok(ExitCode::SUCCESS)
    }
}

/// Gives each record, as encoded, in order; the chain's end, as it was when the last page was read.
async fn read(client: &Client, mut take: impl FnMut(&[u8])) -> Result<Trail, client::Error> {
    let mut from = 0;
    loop {
        let page = client.audit(from).await?;
        page.records.iter().for_each(|record| take(record));
        if page.next == 0 {
            return Ok(Trail {
                head: page.head,
                last: page.last,
                first: page.first,
                days: Vec::new(),
            });
        }
        from = page.next;
    }
}

fn json(record: &Record) -> serde_json::Value {
    serde_json::json!({
        "number": record.number,
        "time": until(record.time_ms),
        "time_ms": record.time_ms,
        "who": record.who,
        "role": record.role,
        "what": record.what,
        "target": record.target,
        "from": record.from,
        "outcome": record.outcome,
        "count": record.count,
        "node": record.node,
    })
}
