//! `firebreak token`: what nodes join with, shown again or replaced.

use std::process::ExitCode;

use client::v1::{JoinToken, RotateJoinTokenRequest};

use super::init::{until, valid_ms};
use super::target::{Show, verb_failed};

const EXAMPLES: &str = "\
Examples:
  firebreak node join --config busan-1.toml --peer seoul-1:7101 --token \"$(firebreak token show)\"
  firebreak token rotate --valid 12h           the old one lets nobody in any more
  firebreak token show --json

Standard output has the token alone; when it expires is told on standard error.
Exit codes: 0 shown, 1 it has expired, refused or no node answers, 2 wrong arguments.";

/// Show what nodes join with, or replace it.
#[derive(clap::Subcommand, Debug)]
#[command(after_help = EXAMPLES)]
pub enum Token {
    /// Show the token that nodes join with.
    #[command(after_help = EXAMPLES)]
    Show(Show),
    /// Have nodes join with a new token; the old one lets nobody in any more.
    #[command(after_help = EXAMPLES)]
    Rotate(Rotate),
}

/// How long the new one is valid.
#[derive(clap::Args, Debug)]
pub struct Rotate {
    /// How long nodes may join with it, as 7d or 12h, or never to let it expire
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
            Token::Show(show) => {
                let client = show.client().await?;
                let token = client.join_token().await;
                let refused = |error| failed(error, "the token cannot be shown");
                let token = token.map_err(refused)?;
                print(&show, &token)?;
                Ok(match token.expired {
                    true => ExitCode::FAILURE,
                    false => ExitCode::SUCCESS,
                })
            }
            Token::Rotate(Rotate { valid, show }) => {
                let client = show.client().await?;
                let wanted = RotateJoinTokenRequest { valid_ms: valid };
                let token = client.rotate_join_token(wanted).await;
                let refused = |error| failed(error, "there is no new token");
                print(&show, &token.map_err(refused)?)?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

fn failed(error: client::Error, what: &str) -> anyhow::Error {
    verb_failed(error, what.to_owned(), "firebreak token show")
}

fn print(show: &Show, token: &JoinToken) -> anyhow::Result<()> {
    let expires = until(token.expires_ms);
    if show.json {
        let value = serde_json::json!({
            "token": token.token,
            "expires": expires,
            "expired": token.expired,
        });
        println!("{}", serde_json::to_string_pretty(&value)?);
    } else {
        println!("{}", token.token);
        match &expires {
            Some(at) if token.expired => {
                eprintln!("it expired at {at}; `firebreak token rotate` gives a new one");
            }
            Some(at) => eprintln!("it lets nodes in until {at}"),
            None => eprintln!("it does not expire"),
        }
    }
    Ok(())
}
