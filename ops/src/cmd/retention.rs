//! `firebreak retention plan`: what would have expired at a time, in numbers; nothing is removed.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use client::{Client, v1};
use serde::Serialize;

use super::target::{Target, new_table, printable};

const EXAMPLES: &str = "\
Examples:
  firebreak retention plan
  firebreak retention plan --at 2026-12-31T00:00:00Z
  firebreak retention plan --conversation tenants/acme/conversations/room-1 --ttl 90d
  firebreak retention plan --json --target busan-1:7101

Messages expire by their own ttl or their conversation's; a legal hold keeps them. The leaders of shards remove what
has expired about every 10 seconds. Nothing is removed by this command.

Exit codes: 0 counted, 1 a node does not answer or a shard has no leader, 2 wrong arguments.";

/// How long a node may take to count.
const LIMIT: Duration = Duration::from_secs(60);

/// See to what expires.
#[derive(clap::Subcommand, Debug)]
pub enum Retention {
    /// Count what would have expired at a time
    #[command(after_help = EXAMPLES)]
    Plan(RetentionPlan),
}

/// What to count.
#[derive(clap::Args, Debug)]
pub struct RetentionPlan {
    /// At this time, UTC, such as 2026-12-31T00:00:00Z; now when not given
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_rfc3339_weak)]
    at: Option<SystemTime>,
    /// Only in this conversation, if its messages lived for --ttl
    #[arg(long, value_name = "NAME", requires = "ttl")]
    conversation: Option<String>,
    /// How long messages of --conversation would live, such as 90d or 12h; 0s = for ever
    #[arg(long, value_name = "TIME", requires = "conversation", value_parser = humantime::parse_duration)]
    ttl: Option<Duration>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// What one shard has.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Counted {
    shard: u32,
    conversations: u64,
    messages: u64,
    bytes: u64,
    held: u64,
}

impl Retention {
    /// Runs the subcommand.
    ///
    /// # Errors
    /// As exit codes tell.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let Retention::Plan(plan) = self;
        let client = plan.target.client(LIMIT).await?;
        let (counted, missing) = plan.count(&client).await?;
        plan.print(&counted, &missing)?;
        Ok(match missing.is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}

impl RetentionPlan {
    /// What the leaders of all shards count, and what is missing.
    async fn count(&self, client: &Client) -> anyhow::Result<(Vec<Counted>, Vec<String>)> {
        let since_1970 = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let request = v1::PlanRetentionRequest {
            at: self.at.map(since_1970).map(|at| prost_types::Timestamp {
                seconds: i64::try_from(at.as_secs()).unwrap_or(i64::MAX),
                nanos: i32::try_from(at.subsec_nanos()).unwrap_or(0),
            }),
            conversation: self.conversation.clone().unwrap_or_default(),
            ttl: self.ttl.map(|ttl| prost_types::Duration {
                seconds: i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX),
                nanos: i32::try_from(ttl.subsec_nanos()).unwrap_or(0),
            }),
        };
        let seen = client.status().await;
        let seen = seen.with_context(|| format!("no node answers; {}", self.target.asked()))?;
        let asks = seen.nodes.iter().map(|node| async {
            let told = client.retention_of(&node.address, request.clone(), LIMIT);
            (node.name.clone(), told.await)
        });
        let mut counted: Vec<Counted> = Vec::new();
        let mut missing = Vec::new();
        for (node, told) in futures::future::join_all(asks).await {
            match told {
                Ok(told) => counted.extend(told.shards.into_iter().map(|one| Counted {
                    shard: one.shard,
                    conversations: one.conversations,
                    messages: one.messages,
                    bytes: one.bytes,
                    held: one.held,
                })),
                // What was asked is wrong, whomever one asks.
                Err(client::Error::Refused(refusal))
                    if refusal.code == client::Code::InvalidArgument =>
                {
                    anyhow::bail!(crate::exit::Usage(refusal.to_string()));
                }
                Err(error) => missing.push(format!("{node}: {error}")),
            }
        }
        counted.sort_by_key(|one| one.shard);
        // While a shard changes its leader two may answer.
        counted.dedup_by_key(|one| one.shard);
        let asked = seen.shards.iter().filter(|one| one.shard != 0);
        let asked = asked.filter(|_| self.conversation.is_none());
        let without = asked.filter(|one| !counted.iter().any(|of| of.shard == one.shard));
        missing
            .extend(without.map(|one| format!("shard {} has no leader that answers", one.shard)));
        Ok((counted, missing))
    }

    fn print(&self, counted: &[Counted], missing: &[String]) -> anyhow::Result<()> {
        let sum = |of: fn(&Counted) -> u64| counted.iter().map(of).sum::<u64>();
        let (messages, bytes) = (sum(|one| one.messages), sum(|one| one.bytes));
        if self.json {
            let said = serde_json::json!({
                "messages": messages, "bytes": bytes, "shards": counted, "missing": missing,
            });
            println!("{}", serde_json::to_string_pretty(&said)?);
            return Ok(());
        }
        let mut table = new_table(&["shard", "conversations", "messages", "bytes", "on hold"]);
        for one in counted {
            table.add_row([
                one.shard.to_string(),
                one.conversations.to_string(),
                one.messages.to_string(),
                one.bytes.to_string(),
                one.held.to_string(),
            ]);
        }
        println!("{table}");
        println!("{messages} messages of {bytes} bytes would have expired. Nothing was removed.");
        for one in missing {
            eprintln!("not counted: {}", printable(one));
        }
        Ok(())
    }
}
