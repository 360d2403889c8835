//! `firebreak tenant create|show|list|set|delete`: who may call, and what they may use.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use client::{Client, v1};

use super::target::{Show, printable, verb_failed};
use crate::exit::Usage;

mod print;

use print::{Shown, list_all, one};

const EXAMPLES: &str = "\
Examples:
  firebreak tenant create acme --display-name \"Acme Chat\" --messages-per-second 2000 --ttl 90d
  firebreak tenant list
  firebreak tenant show acme --json
  firebreak tenant set acme --min-client rust=0.2.0 --upgrade-url https://acme.example/upgrade
  firebreak tenant set acme --user-messages-per-second 0     as many as they like
  firebreak tenant delete acme                               with everything in it

A tenant that was never created may be used all the same, unless node.toml says tenants.implicit = false.

Exit codes: 0 done, 1 refused with the reason, or no node answers, 2 wrong arguments.";

/// Between two looks at a removal.
const REMOVAL_CHECK_EVERY: Duration = Duration::from_millis(500);

/// See to tenants: who may call, and what they may use.
#[derive(clap::Subcommand, Debug)]
pub enum Tenant {
    /// Create a tenant.
    #[command(after_help = EXAMPLES)]
    Create(Create),
    /// Show one tenant, and while it is being deleted how far that is.
    #[command(after_help = EXAMPLES)]
    Show(Named),
    /// List the tenants that were created.
    #[command(after_help = EXAMPLES)]
    List(Show),
    /// Set what is given of a tenant; the rest stays.
    #[command(after_help = EXAMPLES)]
    Set(Set),
    /// Delete a tenant with everything in it, and show how far that is.
    #[command(after_help = EXAMPLES)]
    Delete(Delete),
}

/// One tenant.
#[derive(clap::Args, Debug)]
pub struct Named {
    /// Its name
    #[arg(value_name = "TENANT")]
    tenant: String,
    #[command(flatten)]
    show: Show,
}

/// What can be set of a tenant.
#[derive(clap::Args, Debug)]
struct Settings {
    /// What people call it
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// Messages a second of all its users; 0 = as many as they like
    #[arg(long, value_name = "COUNT")]
    messages_per_second: Option<u64>,
    /// Bytes of messages a second; 0 = as many as they like
    #[arg(long, value_name = "BYTES")]
    bytes_per_second: Option<u64>,
    /// Conversations at a time; 0 = as many as they like
    #[arg(long, value_name = "COUNT")]
    conversations: Option<u64>,
    /// Messages a second of each sender; 0 = as many as they like
    #[arg(long, value_name = "COUNT")]
    user_messages_per_second: Option<u64>,
    /// Messages a second in each conversation; 0 = as many as they like
    #[arg(long, value_name = "COUNT")]
    conversation_messages_per_second: Option<u64>,
    /// How long messages live without a ttl of their own or of their conversation, such as 90d; 0s = for ever
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    ttl: Option<Duration>,
    /// The oldest version of a kind of client that is served, such as rust=0.2.0; give it again for others.
    /// In place of all that there are
    #[arg(long, value_name = "KIND=VERSION", value_parser = kind_and_version)]
    min_client: Vec<(String, String)>,
    /// Take the versions of clients away
    #[arg(long, conflicts_with = "min_client")]
    any_client: bool,
    /// Where clients that are too old find newer ones
    #[arg(long, value_name = "URL")]
    upgrade_url: Option<String>,
}

/// A new tenant.
#[derive(clap::Args, Debug)]
pub struct Create {
    /// Its name: 1 to 128 characters of a-z A-Z 0-9 - _ . ~
    #[arg(value_name = "TENANT")]
    tenant: String,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    show: Show,
}

/// What is to be set.
#[derive(clap::Args, Debug)]
pub struct Set {
    /// Its name
    #[arg(value_name = "TENANT")]
    tenant: String,
    /// Only if the tenant's revision is still this one
    #[arg(long, value_name = "REVISION")]
    expected_revision: Option<u64>,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    show: Show,
}

/// What is to go.
#[derive(clap::Args, Debug)]
pub struct Delete {
    /// Its name
    #[arg(value_name = "TENANT")]
    tenant: String,
    /// Also when it was never created: what is there under its name goes
    #[arg(long)]
    allow_missing: bool,
    /// Do not wait until everything is gone
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    show: Show,
}

impl Tenant {
    /// Runs the subcommand.
    ///
    /// # Errors
    /// The cluster refuses it, or no node answers.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Tenant::Create(args) => args.run().await,
            Tenant::Show(Named { tenant, show }) => {
                let found = show.client().await?.get_tenant(&tenant).await;
                one(&found.with_context(|| show.target.asked())?, show.json)
            }
            Tenant::List(show) => {
                let all = all(&show.client().await?).await;
                list_all(&all.with_context(|| show.target.asked())?, show.json)
            }
            Tenant::Set(args) => args.run().await,
            Tenant::Delete(args) => args.run().await,
        }
    }
}

impl Create {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.show.client().await?;
        let created = client.create_tenant(&self.tenant, self.settings.wanted());
        let created = created.await;
        let created = created.map_err(|error| failed(error, &self.tenant, "created"))?;
        one(&created.tenant.unwrap_or_default(), self.show.json)
    }
}

impl Set {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let mut wanted = self.settings.wanted();
        if wanted.is_empty() {
            let why = "nothing to set: give what is to be set, such as --messages-per-second";
            return Err(anyhow!(Usage(why.into())));
        }
        if let Some(revision) = self.expected_revision {
            wanted = wanted.expected_revision(revision);
        }
        let client = self.show.client().await?;
        let set = client.update_tenant(&self.tenant, wanted).await;
        let set = set.map_err(|error| failed(error, &self.tenant, "changed"))?;
        one(&set.tenant.unwrap_or_default(), self.show.json)
    }
}

impl Delete {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.show.client().await?;
        let begun = client.delete_tenant(&self.tenant, self.allow_missing, "");
        let begun = begun.await;
        let begun = begun.map_err(|error| failed(error, &self.tenant, "deleted"))?;
        let mut last = begun.tenant.unwrap_or_default();
        if self.no_wait {
            return one(&last, self.show.json);
        }
        let started = Instant::now();
        let mut told = String::new();
        loop {
            match client.get_tenant(&self.tenant).await {
                Ok(now) if now.removal.is_some() => last = now,
                // Created again by somebody else: what was there is gone.
                Ok(_) => return self.done(&last, started),
                Err(error) if error.reason() == Some("TENANT_UNKNOWN") => {
                    return self.done(&last, started);
                }
                // It goes on whether anybody looks or not.
                Err(error) => {
                    return Err(anyhow::Error::new(error).context("how far it is, is not known"));
                }
            }
            let now = progress(&last);
            if now != told {
                eprintln!("{now}");
                told = now;
            }
            tokio::time::sleep(REMOVAL_CHECK_EVERY).await;
        }
    }

    fn done(&self, last: &v1::Tenant, started: Instant) -> anyhow::Result<ExitCode> {
        let seconds = started.elapsed().as_secs_f64();
        if self.show.json {
            let mut shown = serde_json::to_value(Shown::of(last))?;
            if let Some(fields) = shown.as_object_mut() {
                fields.insert("gone".into(), true.into());
            }
            println!("{}", serde_json::to_string_pretty(&shown)?);
        } else {
            let tenant = printable(&self.tenant);
            println!("Tenant {tenant} is gone with everything in it, after {seconds:.1} s.");
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Settings {
    /// What is to be set, as the client takes it.
    fn wanted(&self) -> client::Tenant {
        let mut wanted = client::Tenant::default();
        if let Some(name) = &self.display_name {
            wanted = wanted.display_name(name);
        }
        if let Some(quota) = self.messages_per_second {
            wanted = wanted.messages_per_second(quota);
        }
        if let Some(quota) = self.bytes_per_second {
            wanted = wanted.bytes_per_second(quota);
        }
        if let Some(quota) = self.conversations {
            wanted = wanted.conversations(quota);
        }
        if let Some(quota) = self.user_messages_per_second {
            wanted = wanted.user_messages_per_second(quota);
        }
        if let Some(quota) = self.conversation_messages_per_second {
            wanted = wanted.conversation_messages_per_second(quota);
        }
        if let Some(ttl) = self.ttl {
            wanted = wanted.ttl(ttl);
        }
        if self.any_client || !self.min_client.is_empty() {
            wanted = wanted.min_client_versions(self.min_client.iter().cloned().collect());
        }
        if let Some(url) = &self.upgrade_url {
            wanted = wanted.upgrade_url(url);
        }
        wanted
    }
}

fn failed(error: client::Error, tenant: &str, done: &str) -> anyhow::Error {
    let refused = format!("tenant {} was not {done}", printable(tenant));
    let look = format!("firebreak tenant show {}", printable(tenant));
    verb_failed(error, refused, &look)
}

/// All tenants, page after page.
async fn all(client: &Client) -> Result<Vec<v1::Tenant>, client::Error> {
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let (page, next) = client.list_tenants(1_000, &token).await?;
        all.extend(page);
        if next.is_empty() {
            return Ok(all);
        }
        token = next;
    }
}

/// How far a removal is, in a line.
fn progress(tenant: &v1::Tenant) -> String {
    let removal = tenant.removal.unwrap_or_default();
    let tenant = tenant.name.trim_start_matches("tenants/");
    format!(
        "{}: {} of {} shards done, {} conversations removed",
        printable(tenant),
        removal.shards_done,
        removal.shards,
        removal.conversations_removed
    )
}

/// `rust=0.2.0`.
fn kind_and_version(text: &str) -> Result<(String, String), String> {
    let (kind, version) = text
        .split_once('=')
        .ok_or("say which client and which version, such as rust=0.2.0")?;
    Ok((kind.to_owned(), version.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_is_told_in_one_line() {
        let tenant = v1::Tenant {
            name: "tenants/acme".into(),
            removal: Some(v1::Removal {
                shards: 4,
                shards_done: 1,
                conversations_removed: 7,
                ..v1::Removal::default()
            }),
            ..v1::Tenant::default()
        };
        assert_eq!(
            progress(&tenant),
            "acme: 1 of 4 shards done, 7 conversations removed"
        );
        assert!(kind_and_version("rust").is_err());
        assert_eq!(
            kind_and_version("rust=0.2.0"),
            Ok(("rust".to_owned(), "0.2.0".to_owned()))
        );
    }
}
