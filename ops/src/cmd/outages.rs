//! `firebreak outages`: when callers were not served, by tenant and feature, and how many calls met it.

mod account;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use client::v1::Outage;
use client::{Client, Level, ListOptions};
use proto::v1::record::What;
use serde::Serialize;
use server::sight::outages::{KEPT_DAYS, conversation};
use tonic::Code;

use self::account::{Account, Felt};
use super::outage::when::{self, When};
use super::target::{Target, new_table, printable};
use crate::exit::Usage;

const EXAMPLES: &str = "\
Examples:
  firebreak outages --from 03:10 --to 03:25
  firebreak outages --from 2026-11-01T00:00:00Z --to 2026-12-01T00:00:00Z --tenant chat --csv > november.csv
  firebreak outages --from 00:00 --to 23:59 --json

Three witnesses are heard: what the gateways counted, the canaries of the nodes, and, of a day at most, their
flight recorders. Where they differ the wider time counts, and the last column says why. Times are UTC.
Outages are kept for 400 days, as messages of the tenant firebreak-outages.

Exit codes: 0 told (also when there were none), 1 no node answers, 2 wrong arguments.";

/// How long to look for a node that answers, and how long each may take.
const DEADLINE: Duration = Duration::from_secs(4);
const LIMIT: Duration = Duration::from_secs(2);
/// Beyond this recorders are not asked, ms.
const RECORDED_MS_MAX: u64 = 24 * 3_600_000;
/// Messages that are read at once.
const PAGE: u32 = 500;

/// Show when callers were not served, by tenant and feature.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    when: When,
    /// Only of this tenant
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    /// Print as CSV
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    #[command(flatten)]
    target: Target,
}

/// What was heard, and from whom not.
#[derive(Default)]
struct Heard {
    outages: Vec<Outage>,
    felt: Vec<Felt>,
    missing: Vec<String>,
    stale: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    from_ms: u64,
    to_ms: u64,
    missing: &'a [String],
    outages: &'a [Account],
}

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// As exit codes tell.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let longest_ms = KEPT_DAYS * 24 * 3_600_000;
        let range = self.when.range_within(when::now_ms(), longest_ms);
        let (from_ms, to_ms) = range.map_err(Usage)?;
        let client = self.target.client(DEADLINE).await?;
        let heard = hear(&client, &self.target, (from_ms, to_ms)).await?;
        let mut accounts = account::of(&heard.outages, &heard.felt);
        accounts.retain(|one| one.from_ms < to_ms && from_ms < one.to_ms.max(one.from_ms + 1));
        if let Some(tenant) = &self.tenant {
            // What the canary alone saw is of all tenants.
            accounts.retain(|one| one.tenant == *tenant || one.tenant.is_empty());
        }
        if self.json {
            let document = Document {
                from_ms,
                to_ms,
                missing: &heard.missing,
                outages: &accounts,
            };
            println!("{}", serde_json::to_string_pretty(&document)?);
        } else if self.csv {
            print!("{}", csv(&accounts));
        } else {
            print(&accounts, &heard);
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn hear(client: &Client, target: &Target, range: (u64, u64)) -> anyhow::Result<Heard> {
    let status = client.status().await;
    let status = status.with_context(|| format!("no node answers; {}", target.asked()))?;
    let mut heard = Heard::default();
    let asked = status.nodes.iter().map(|node| async move {
        let pending = client.outages_of(&node.address, LIMIT).await;
        let recorded = match range.1 - range.0 <= RECORDED_MS_MAX && pending.is_ok() {
            true => client.events_of(&node.address, range, LIMIT).await.ok(),
            false => None,
        };
        (node.name.clone(), pending, recorded)
    });
    for (name, pending, recorded) in futures::future::join_all(asked).await {
        match pending {
            Ok(answer) => heard.outages.extend(answer.outages),
            Err(_) => heard.missing.push(printable(&name)),
        }
        let pages = recorded.map(|(pages, _)| pages).unwrap_or_default();
        for record in pages.iter().flat_map(|page| &page.records) {
            let Some(What::Second(second)) = &record.what else {
                continue;
            };
            let failed: u64 = second.asked.iter().map(|asked| asked.failed).sum();
            if failed > 0 {
                let from_ms = record.unix_ms.saturating_add_signed(record.ahead_ms);
                heard.felt.push(Felt {
                    node: name.clone(),
                    from_ms,
                    to_ms: from_ms + 1_000,
                });
            }
        }
    }
    heard.stale = stored(client, range, &mut heard.outages).await?;
    Ok(heard)
}

/// Reads what was stored in the months of a range; whether a replica that may be behind had to do.
async fn stored(
    client: &Client,
    (from_ms, to_ms): (u64, u64),
    into: &mut Vec<Outage>,
) -> anyhow::Result<bool> {
    const DAY_MS: u64 = 24 * 3_600_000;
    // A window is stored under the month of its begin.
    let days = (from_ms.saturating_sub(DAY_MS) / DAY_MS)..=(to_ms / DAY_MS);
    let names: BTreeSet<String> = days
        .filter_map(|day| conversation(day * DAY_MS))
        .map(|name| name.to_string())
        .collect();
    let mut stale = false;
    for name in names {
        let mut options = ListOptions {
            page_size: PAGE,
            level: Level::Linearizable,
            ..ListOptions::default()
        };
        loop {
            let mut page = client.list(&name, &options).await;
            if page.is_err() && !matches!(options.level, Level::Local) {
                options.level = Level::Local;
                page = client.list(&name, &options).await;
                stale |= page.is_ok();
            }
            let page = match page {
                Ok(page) => page,
                // Whether there were some is not known: nobody may be told that there were none.
                Err(error @ client::Error::Refused(_)) if is_of_access(&error) => {
                    let what = "what is stored of outages needs the role reader beside viewer";
                    return Err(anyhow::Error::new(error).context(what));
                }
                // There is none of a month without an outage.
                Err(_) => break,
            };
            let bodies = page.messages.iter().map(|message| &message.body[..]);
            into.extend(bodies.filter_map(|body| prost::Message::decode(body).ok()));
            if page.next_page_token.is_empty() {
                break;
            }
            options.page_token = page.next_page_token;
        }
    }
    Ok(stale)
}

/// Whether it is the caller who is refused.
fn is_of_access(error: &client::Error) -> bool {
    let client::Error::Refused(refusal) = error else {
        return false;
    };
    matches!(refusal.code, Code::PermissionDenied | Code::Unauthenticated)
}

fn named(tenant: &str) -> String {
    match tenant {
        "" => "all (canary)".to_owned(),
        tenant => printable(tenant),
    }
}

fn print(accounts: &[Account], heard: &Heard) {
    if accounts.is_empty() {
        println!(
            "No caller was refused service in that time, as far as the nodes that answer know."
        );
    } else {
        let mut table = new_table(&[
            "tenant",
            "feature",
            "from (UTC)",
            "to (UTC)",
            "for",
            "calls",
            "through",
            "why",
        ]);
        for one in accounts {
            let lasted = Duration::from_millis(one.to_ms.saturating_sub(one.from_ms));
            table.add_row([
                named(&one.tenant),
                one.feature.clone(),
                when::rfc3339(one.from_ms),
                when::rfc3339(one.to_ms),
                format!("{:.1} s", lasted.as_secs_f64()),
                one.calls.to_string(),
                one.nodes
                    .iter()
                    .map(|node| printable(node))
                    .collect::<Vec<_>>()
                    .join(", "),
                one.why.clone(),
            ]);
        }
        println!("{table}");
    }
    if !heard.missing.is_empty() {
        let missing = heard.missing.join(", ");
        println!("not heard: {missing}; what they counted and had not stored yet is not here");
    }
    if heard.stale {
        println!("read from a replica that may be behind: no leader could be asked");
    }
}

fn csv(accounts: &[Account]) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let mut text = String::from("tenant,feature,from,to,seconds,calls,nodes,witnesses,why\n");
    for one in accounts {
        let ms = one.to_ms.saturating_sub(one.from_ms);
        text.push_str(&format!(
            "{},{},{},{},{}.{:03},{},{},{},{}\n",
            quoted(&one.tenant),
            one.feature,
            when::rfc3339(one.from_ms),
            when::rfc3339(one.to_ms),
            ms / 1_000,
            ms % 1_000,
            one.calls,
            quoted(&one.nodes.join(" ")),
            quoted(&one.witnesses.join(" ")),
            quoted(&one.why),
        ));
    }
    text
}
