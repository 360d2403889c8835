//! `firebreak drill key`: the public key that this cluster's certificates are signed by.

use std::process::ExitCode;
use std::time::Duration;

use server::drill::certificate::hex;

use crate::cmd::target::{Target, verb_failed};

/// How long it is looked for a node that answers.
const DEADLINE: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Examples:
  firebreak drill key
  firebreak drill verify certificate.json --key $(firebreak drill key)

The key is made when it is first asked for, and stays for the cluster's life.

Exit codes: 0 shown, 1 refused, or no node answers, 2 wrong arguments.";

/// Show the public key that certificates are signed by.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Args {
    /// Shows it.
    ///
    /// # Errors
    /// The cluster refuses, or no node answers.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.target.client(DEADLINE).await?;
        let key = client.drill_key().await;
        let key =
            key.map_err(|error| verb_failed(error, self.target.asked(), "firebreak drill key"))?;
        match self.json {
            true => println!("{}", serde_json::json!({ "public_key": hex(&key) })),
            false => println!("{}", hex(&key)),
        }
        Ok(ExitCode::SUCCESS)
    }
}
