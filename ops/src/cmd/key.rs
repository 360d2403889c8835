//! `firebreak key`: API keys, made, listed and revoked.

use std::process::ExitCode;

use client::v1::{ApiKey, CreateKeyRequest};

use super::init::{until, valid_ms};
use super::target::{Show, new_table, printable, verb_failed};

const EXAMPLES: &str = "\
Examples:
  firebreak key create --label chat-backend --tenant kakao --role writer > chat.key
  firebreak key create --label ann --role operator --role drill-approver --valid 90d
  firebreak key list
  firebreak key revoke 3f9a1c02b7d4

Roles of a tenant's key: reader, writer, tenant-admin. Of a key without a tenant also viewer, operator and
drill-approver; with reader or writer it opens the data of all tenants.
A key is shown once, alone on standard output: the cluster keeps a hash of it. Revoked, it opens nothing any more
within a moment, on every node; streams that it opened end.

Exit codes: 0 done, 1 refused or no node answers, 2 wrong arguments.";

/// Make, list and revoke API keys.
#[derive(clap::Subcommand, Debug)]
#[command(after_help = EXAMPLES)]
pub enum Key {
    /// Make a key, and show it this once.
    #[command(after_help = EXAMPLES)]
    Create(Create),
    /// List the keys there are, without their texts.
    #[command(after_help = EXAMPLES)]
    List(Show),
    /// Have a key open nothing any more.
    #[command(after_help = EXAMPLES)]
    Revoke(Revoke),
}

/// Whose key, and what for.
#[derive(clap::Args, Debug)]
pub struct Create {
    /// Whose it is, for people
    #[arg(long, value_name = "TEXT")]
    label: String,
    /// The one tenant whose data it opens; without it is a key of the cluster's operators
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// What it may do; more than once for more
    #[arg(long, value_name = "ROLE", required = true, value_delimiter = ',')]
    role: Vec<String>,
    /// How long it opens something, as 90d or 12h, or never to let it not expire
    #[arg(long, value_name = "TIME", default_value = "365d", value_parser = valid_ms)]
    valid: u64,
    #[command(flatten)]
    show: Show,
}

/// Which one.
#[derive(clap::Args, Debug)]
pub struct Revoke {
    /// The key's id: the digits behind fbk_
    id: String,
    #[command(flatten)]
    show: Show,
}

impl Key {
    /// Runs the subcommand.
    ///
    /// # Errors
    /// As exit codes tell.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Key::Create(create) => create.run().await,
            Key::List(show) => list(&show).await,
            Key::Revoke(revoke) => revoke.run().await,
        }
    }
}

impl Create {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.show.client().await?;
        let wanted = CreateKeyRequest {
            label: self.label,
            tenant: self.tenant.unwrap_or_default(),
            roles: self.role,
            valid_ms: self.valid,
        };
        let made = client.create_key(wanted).await;
        let made = made.map_err(|error| failed(error, "there is no new key"))?;
        let about = made.about.unwrap_or_default();
        if self.show.json {
            let mut value = json(&about);
            value["key"] = made.key.into();
            println!("{}", serde_json::to_string_pretty(&value)?);
            return Ok(ExitCode::SUCCESS);
        }
        println!("{}", made.key);
        let ends = match until(about.expires_ms) {
            Some(at) => format!("until {at}"),
            None => "and does not expire".to_owned(),
        };
        eprintln!(
            "key {} of {} may be {} {ends}; it is not shown again",
            about.id,
            of(&about),
            about.roles.join(", ")
        );
        Ok(ExitCode::SUCCESS)
    }
}

impl Revoke {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.show.client().await?;
        // The whole key is taken, too: who has nothing else at hand revokes it all the same.
        let id = model::cluster::access::key_id(&self.id).unwrap_or(&self.id);
        let epoch = client.revoke_key(id).await;
        let epoch = epoch.map_err(|error| failed(error, "the key was not revoked"))?;
        match self.show.json {
            true => {
                let value = serde_json::json!({ "id": id, "revoked": true, "epoch": epoch });
                println!("{}", serde_json::to_string_pretty(&value)?);
            }
            false => println!("key {} opens nothing any more", printable(id)),
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn list(show: &Show) -> anyhow::Result<ExitCode> {
    let client = show.client().await?;
    let keys = client.keys().await;
    let keys = keys.map_err(|error| failed(error, "the keys cannot be listed"))?;
    if show.json {
        let keys: Vec<_> = keys.iter().map(json).collect();
        println!("{}", serde_json::to_string_pretty(&keys)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = new_table(&["key", "label", "of", "roles", "made", "ends"]);
    for key in &keys {
        let ends = match (until(key.revoked_ms), until(key.expires_ms)) {
            (Some(at), _) => format!("revoked {at}"),
            (None, Some(at)) => at,
            (None, None) => "never".to_owned(),
        };
        table.add_row([
            key.id.clone(),
            printable(&key.label),
            of(key),
            key.roles.join(", "),
            until(key.created_ms).unwrap_or_default(),
            ends,
        ]);
    }
    println!("{table}");
    Ok(ExitCode::SUCCESS)
}

fn of(key: &ApiKey) -> String {
    match key.tenant.is_empty() {
        true => "operators".to_owned(),
        false => format!("tenant {}", printable(&key.tenant)),
    }
}

fn json(key: &ApiKey) -> serde_json::Value {
    serde_json::json!({
        "id": key.id,
        "label": key.label,
        "tenant": (!key.tenant.is_empty()).then_some(&key.tenant),
        "roles": key.roles,
        "created": until(key.created_ms),
        "expires": until(key.expires_ms),
        "revoked": until(key.revoked_ms),
    })
}

fn failed(error: client::Error, what: &str) -> anyhow::Error {
    verb_failed(error, what.to_owned(), "firebreak key list")
}
