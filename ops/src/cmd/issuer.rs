//! `firebreak issuer`: whose tokens (JWT) are believed.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use client::v1;

use super::target::{Show, new_table, printable, verb_failed};
use crate::exit::Usage;

const EXAMPLES: &str = "\
Examples:
  firebreak issuer add https://login.example --audience chat --key k1=login.pem --tenant kakao --enforce-sender
  firebreak issuer add https://login.example --audience chat --key k1=old.pem --key k2=new.pem --tenant kakao
  firebreak issuer list
  firebreak issuer remove https://login.example

A token is believed when it is signed by one of these keys (EdDSA or ES256), its iss is the issuer's name, its aud the
audience, and its exp is not over. Its sub is the user; its claims tenant and roles say what it may, as far as the
issuer's tenant and roles let it. `add` takes the place of what was said of the issuer before: to change keys, name the
old and the new one, and leave the old one out once its tokens have expired.

Exit codes: 0 done, 1 refused or no node answers, 2 wrong arguments.";

/// Say whose tokens (JWT) are believed.
#[derive(clap::Subcommand, Debug)]
#[command(after_help = EXAMPLES)]
pub enum Issuer {
    /// Have the tokens of an issuer believed, in place of what was said of it before.
    #[command(after_help = EXAMPLES)]
    Add(Box<Add>),
    /// List the issuers whose tokens are believed.
    #[command(after_help = EXAMPLES)]
    List(Show),
    /// Have the tokens of an issuer believed no more.
    #[command(after_help = EXAMPLES)]
    Remove(Remove),
}

/// Whose tokens, and how far they reach.
#[derive(clap::Args, Debug)]
pub struct Add {
    /// What its tokens have in iss
    name: String,
    /// What its tokens must have in aud
    #[arg(long, value_name = "TEXT")]
    audience: String,
    /// A public key of it, as PEM or JWK, under the name that tokens give it in kid; a file alone is for tokens
    /// without one
    #[arg(long, value_name = "[KID=]FILE", required = true)]
    key: Vec<String>,
    /// The one tenant that its tokens are for; without, each token names its own
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// What its tokens may have at most
    #[arg(
        long,
        value_name = "ROLE",
        value_delimiter = ',',
        default_value = "reader,writer"
    )]
    role: Vec<String>,
    /// Let its users send and react in their own name alone: sender, and user, must be sub
    #[arg(long)]
    enforce_sender: bool,
    #[command(flatten)]
    show: Show,
}

/// Which one.
#[derive(clap::Args, Debug)]
pub struct Remove {
    /// The issuer's name
    name: String,
    #[command(flatten)]
    show: Show,
}

impl Issuer {
    /// Runs the subcommand.
    ///
    /// # Errors
    /// As exit codes tell.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Issuer::Add(add) => add.run().await,
            Issuer::List(show) => list(&show).await,
            Issuer::Remove(remove) => remove.run().await,
        }
    }
}

/// A key as it is named: its kid, and what its file has.
fn key(named: &str) -> anyhow::Result<v1::IssuerKey> {
    let (kid, file) = named.split_once('=').unwrap_or(("", named));
    let path = PathBuf::from(file);
    let key = std::fs::read_to_string(&path);
    let key = key.map_err(|error| Usage(format!("--key {}: {error}", path.display())))?;
    server::access::check_key(&key)
        .map_err(|why| Usage(format!("--key {}: it {why}", path.display())))?;
    Ok(v1::IssuerKey {
        kid: kid.to_owned(),
        key: key.trim().to_owned(),
    })
}

impl Add {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let keys = self.key.iter().map(|named| key(named));
        let issuer = v1::Issuer {
            name: self.name,
            audience: self.audience,
            keys: keys.collect::<anyhow::Result<_>>()?,
            tenant: self.tenant.unwrap_or_default(),
            roles: self.role,
            enforce_sender: self.enforce_sender,
        };
        let client = self.show.client().await?;
        let epoch = client.set_issuer(issuer.clone()).await;
        let epoch = epoch.map_err(|error| failed(error, "the issuer was not added"))?;
        match self.show.json {
            true => {
                let mut value = json(&issuer);
                value["epoch"] = epoch.into();
                println!("{}", serde_json::to_string_pretty(&value)?);
            }
            false => println!("tokens of {} are believed", printable(&issuer.name)),
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Remove {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.show.client().await?;
        let epoch = client.remove_issuer(&self.name).await;
        let epoch = epoch.map_err(|error| failed(error, "the issuer was not removed"))?;
        match self.show.json {
            true => {
                let value = serde_json::json!({ "name": self.name, "epoch": epoch });
                println!("{}", serde_json::to_string_pretty(&value)?);
            }
            false => println!(
                "tokens of {} are not believed any more",
                printable(&self.name)
            ),
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn list(show: &Show) -> anyhow::Result<ExitCode> {
    let client = show.client().await?;
    let issuers = client.issuers().await;
    let issuers = issuers.map_err(|error| failed(error, "the issuers cannot be listed"))?;
    if show.json {
        let issuers: Vec<_> = issuers.iter().map(json).collect();
        let text = serde_json::to_string_pretty(&issuers).context("the list is no JSON")?;
        println!("{text}");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = new_table(&["issuer", "audience", "tenant", "roles", "keys", "sender"]);
    for issuer in &issuers {
        let kids = issuer.keys.iter().map(|one| match one.kid.as_str() {
            "" => "(no kid)".to_owned(),
            kid => printable(kid),
        });
        table.add_row([
            printable(&issuer.name),
            printable(&issuer.audience),
            match issuer.tenant.as_str() {
                "" => "as tokens say".to_owned(),
                tenant => printable(tenant),
            },
            issuer.roles.join(", "),
            kids.collect::<Vec<_>>().join(", "),
            match issuer.enforce_sender {
                true => "must be sub".to_owned(),
                false => "anybody".to_owned(),
            },
        ]);
    }
    println!("{table}");
    Ok(ExitCode::SUCCESS)
}

fn json(issuer: &v1::Issuer) -> serde_json::Value {
    let kids: Vec<&str> = issuer.keys.iter().map(|one| one.kid.as_str()).collect();
    serde_json::json!({
        "name": issuer.name,
        "audience": issuer.audience,
        "tenant": (!issuer.tenant.is_empty()).then_some(&issuer.tenant),
        "roles": issuer.roles,
        "keys": kids,
        "enforce_sender": issuer.enforce_sender,
    })
}

fn failed(error: client::Error, what: &str) -> anyhow::Error {
    verb_failed(error, what.to_owned(), "firebreak issuer list")
}
