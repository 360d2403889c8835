//! `firebreak token`: what nodes join with, made, listed and revoked.

use std::process::ExitCode;

use client::v1::{CreateJoinTokenRequest, JoinToken, RotateJoinTokenRequest};
use model::cluster::tokens::token_id;
use serde_json::json;

use super::init::{until, valid_ms};
use super::target::{Show, new_table, printable, verb_failed};

const EXAMPLES: &str = "\
Examples:
  firebreak token create --label rack-7 --valid 12h > token
  firebreak token create --node busan-2 --host 10.0.0.7 --valid 1h      it gets its certificate, too
  firebreak node join --config busan-1.toml --peer seoul-1:7101 --token \"$(cat token)\"
  firebreak token list
  firebreak token revoke 5b1c09ae
  firebreak token rotate --valid 12h           a new one, and no other lets anybody in any more

A token is shown once, alone on standard output: the cluster keeps a hash of it. `show` is for clusters that were
founded by a version that kept the text.
Exit codes: 0 done, 1 it has expired, refused or no node answers, 2 wrong arguments.";

/// What the text of a token begins with.
const TOKEN_PREFIX: &str = "fb-";

/// Make, list and revoke what nodes join with.
#[derive(clap::Subcommand, Debug)]
#[command(after_help = EXAMPLES)]
pub enum Token {
    /// Have nodes join with another token, too, and show it this once.
    #[command(after_help = EXAMPLES)]
    Create(Create),
    /// List the tokens there are, without their texts.
    #[command(after_help = EXAMPLES)]
    List(Show),
    /// Have a token let nobody in any more.
    #[command(after_help = EXAMPLES)]
    Revoke(Revoke),
    /// Have nodes join with a new token, and with no other one any more.
    #[command(after_help = EXAMPLES)]
    Rotate(Rotate),
    /// Show the token of a cluster that keeps its text.
    #[command(after_help = EXAMPLES)]
    Show(Show),
}

/// What for, and how long it is valid.
#[derive(clap::Args, Debug)]
pub struct Create {
    /// What it is for, for people
    #[arg(long, value_name = "TEXT", default_value = "")]
    label: String,
    /// Let in only the node of this name, which gets a certificate, if it has none
    #[arg(long, value_name = "NAME", requires = "host")]
    node: Option<String>,
    /// The host name or IP address of that certificate, as the node's advertise has it
    #[arg(long, value_name = "HOST", requires = "node")]
    host: Option<String>,
    /// How long nodes may join with it, as 7d or 12h, or never to let it not expire
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = valid_ms)]
    valid: u64,
    #[command(flatten)]
    show: Show,
}

/// Which one.
#[derive(clap::Args, Debug)]
pub struct Revoke {
    /// The token's id, as in the list
    id: String,
    #[command(flatten)]
    show: Show,
}

/// How long the new one is valid.
#[derive(clap::Args, Debug)]
pub struct Rotate {
    /// How long nodes may join with it, as 7d or 12h, or never to let it not expire
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = valid_ms)]
    valid: u64,
    #[command(flatten)]
    show: Show,
}

impl Token {
    /// Runs the subcommand.
    ///
    /// # Errors
    /// As exit codes tell.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Token::Create(Create {
                label,
                node,
                host,
                valid,
                show,
            }) => {
                let client = show.client().await?;
                let wanted = CreateJoinTokenRequest {
                    label,
                    valid_ms: valid,
                    node: node.unwrap_or_default(),
                    host: host.unwrap_or_default(),
                };
                let token = client.create_join_token(wanted).await;
                print(
                    &show,
                    &token.map_err(|error| failed(error, "there is no new token"))?,
                )
            }
            Token::Rotate(Rotate { valid, show }) => {
                let client = show.client().await?;
                let wanted = RotateJoinTokenRequest { valid_ms: valid };
                let token = client.rotate_join_token(wanted).await;
                print(
                    &show,
                    &token.map_err(|error| failed(error, "there is no new token"))?,
                )
            }
            Token::Show(show) => {
                let client = show.client().await?;
                let token = client.join_token().await;
                print(
                    &show,
                    &token.map_err(|error| failed(error, "the token cannot be shown"))?,
                )
            }
            Token::List(show) => list(&show).await,
            Token::Revoke(Revoke { id, show }) => {
                let client = show.client().await?;
                // The whole token is taken, too: its text goes nowhere.
                let id = match id.starts_with(TOKEN_PREFIX) {
                    true => token_id(&id),
                    false => id,
                };
                let epoch = client.revoke_join_token(&id).await;
                let epoch = epoch.map_err(|error| failed(error, "the token was not revoked"))?;
                match show.json {
                    true => println!("{}", json!({ "id": id, "epoch": epoch })),
                    false => println!("token {} lets nobody in any more", printable(&id)),
                }
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

fn failed(error: client::Error, what: &str) -> anyhow::Error {
    verb_failed(error, what.to_owned(), "firebreak token list")
}

async fn list(show: &Show) -> anyhow::Result<ExitCode> {
    let client = show.client().await?;
    let tokens = client.join_tokens().await;
    let tokens = tokens.map_err(|error| failed(error, "the tokens are not known"))?;
    if show.json {
        let values: Vec<_> = tokens.iter().map(value).collect();
        println!("{}", serde_json::to_string_pretty(&values)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = new_table(&["Id", "Label", "For", "Made", "Lets nodes in"]);
    for token in &tokens {
        let made = until(token.created_ms).unwrap_or_else(|| "at the founding".to_owned());
        let valid = match until(token.expires_ms) {
            Some(at) if token.expired => format!("no more, since {at}"),
            Some(at) => format!("until {at}"),
            None => "for ever".to_owned(),
        };
        let node = match token.node.is_empty() {
            true => "any node".to_owned(),
            false => format!("{} at {}", printable(&token.node), printable(&token.host)),
        };
        table.add_row([token.id.clone(), printable(&token.label), node, made, valid]);
    }
    println!("{table}");
    Ok(ExitCode::SUCCESS)
}

fn value(token: &JoinToken) -> serde_json::Value {
    json!({
        "id": token.id,
        "label": token.label,
        "node": Some(&token.node).filter(|node| !node.is_empty()),
        "host": Some(&token.host).filter(|host| !host.is_empty()),
        "created": until(token.created_ms),
        "expires": until(token.expires_ms),
        "expired": token.expired,
    })
}

fn print(show: &Show, token: &JoinToken) -> anyhow::Result<ExitCode> {
    if show.json {
        let mut value = value(token);
        value["token"] = token.token.clone().into();
        println!("{}", serde_json::to_string_pretty(&value)?);
    } else {
        println!("{}", token.token);
        match until(token.expires_ms) {
            Some(at) if token.expired => {
                eprintln!("it expired at {at}; `firebreak token create` gives another");
            }
            Some(at) => eprintln!("token {} lets nodes in until {at}", token.id),
            None => eprintln!("token {} does not expire", token.id),
        }
    }
    Ok(match token.expired {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}
