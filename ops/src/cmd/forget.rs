//! `firebreak node forget-boot` and `ask-again`: a member is refused, since somebody called in its name.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use client::v1::ForgetBootRequest;
use server::found;

use super::init::{exit, load};
use super::map::Map;
use super::target::{Target, printable, verb_failed};
use crate::data_dir::DataDir;
use crate::real;
use crate::tls::{self, Own};

const FORGET_EXAMPLES: &str = "\
Examples:
  firebreak node forget-boot busan-2 --boot 41 --operator ann    asks for it
  firebreak node forget-boot busan-2 --boot 41 --operator bob    another operator confirms it
  firebreak node ask-again --config busan-2.toml                 on its machine, if it does not start any more

A node is refused when its peers have seen a later start of it than the one it makes now: an old copy of its
disk has come back, or somebody has called in its name. Only in the second case is this right, and nothing that
was acknowledged is at stake; in the first it can lose what was acknowledged. Its last true start is one less
than the start that the refusal names first (\"it starts for the 42th time\": 41).
Exit codes: 0 asked for or done, 1 refused, 2 wrong arguments or an unknown name.";

const AGAIN_EXAMPLES: &str = "\
Examples:
  firebreak node ask-again --config busan-2.toml
  firebreak serve --config busan-2.toml

The node must be stopped. Its peers decide as ever: a disk that is not to come back is refused again.
Exit codes: 0 done, or there was nothing to do, 1 failed, 2 wrong arguments or configuration.";

/// How long to look for a node that answers.
const DEADLINE: Duration = Duration::from_secs(5);

/// Forget starts of a node that it never made; two operators have to say so.
#[derive(clap::Args, Debug)]
#[command(after_help = FORGET_EXAMPLES)]
pub struct ForgetBoot {
    /// Its name, or its number as n3.
    node: String,
    /// Its last true start.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    boot: u64,
    /// Who says so.
    #[arg(long, value_name = "NAME")]
    operator: String,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// Let a node ask again whose disk the cluster has refused.
#[derive(clap::Args, Debug)]
#[command(after_help = AGAIN_EXAMPLES)]
pub struct AskAgain {
    /// The node's configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl ForgetBoot {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.target.client(DEADLINE).await?;
        let map = Map::ask(&client, &self.target).await?;
        let node = map.node(&self.node)?;
        let (node_id, name) = (node.node_id, printable(&node.name));
        let request = ForgetBootRequest {
            node_id,
            boot: self.boot,
            operator: self.operator,
        };
        let refused = |error| {
            let refused = format!("starts of {name} cannot be forgotten");
            verb_failed(error, refused, "firebreak node list")
        };
        let holds = client.forget_boot(request).await.map_err(refused)?;
        let boot = self.boot;
        if self.json {
            let said = serde_json::json!({ "node_id": node_id, "boot": boot, "holds": holds });
            println!("{}", serde_json::to_string_pretty(&said)?);
            return Ok(ExitCode::SUCCESS);
        }
        match holds {
            true => println!(
                "Starts of {name} after its start {boot} are forgotten: it may start again now."
            ),
            false => println!(
                "Noted. It holds once another operator has said the same: \
                 firebreak node forget-boot {name} --boot {boot} --operator NAME"
            ),
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl AskAgain {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let config = load(&self.config)?;
        let directory = DataDir::open(&config.data_dir, &config.name, false)?;
        let world = real::world(&config, &directory, Own::Keys(tls::load(&config)?))?;
        let why = found::ask_again(&world, &config).await.map_err(exit)?;
        let name = &config.name;
        if self.json {
            let said = serde_json::json!({ "name": name, "was_refused": why });
            println!("{}", serde_json::to_string_pretty(&said)?);
            return Ok(ExitCode::SUCCESS);
        }
        match why {
            Some(why) => println!(
                "{name} may ask again. It was refused: {}\nNext: firebreak serve --config {}",
                printable(&why),
                self.config.display()
            ),
            None => println!("{name} was not refused: there is nothing to do."),
        }
        Ok(ExitCode::SUCCESS)
    }
}
