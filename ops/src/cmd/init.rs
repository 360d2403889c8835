//! `firebreak init`: founds a cluster, once.

use std::path::PathBuf;
use std::process::ExitCode;

use server::Config;
use server::node::{self, FoundError, InitOptions};

use crate::data_dir::DataDir;
use crate::exit::Usage;
use crate::real;
use crate::tls::{self, Own};

const EXAMPLES: &str = "\
Examples:
  firebreak init --config seoul-1.toml                             three nodes, three replicas
  firebreak init --config seoul-1.toml --nodes 9 --replicas 3      nine nodes, three replicas
  firebreak init --config laptop.toml --nodes 1 --replicas 1       one node alone, for trying out";

/// Found a cluster: this node becomes its first, and the token for the others is printed.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The node's configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Nodes that must have joined before the shards are laid out, this one included.
    #[arg(long, value_name = "N", default_value_t = 3)]
    nodes: u32,
    /// Data shards [default: one per node].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    shards: Option<u32>,
    /// Replicas of each shard: 1, 3 or 5. One survives nothing.
    #[arg(long, value_name = "N", default_value_t = 3)]
    replicas: u32,
    /// How long nodes may join with the token, as 7d or 12h, or never to let it expire
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = valid_ms)]
    token_valid: u64,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Founds and says how to go on.
    ///
    /// # Errors
    /// As exit codes tell.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let config = load(&self.config)?;
        let directory = DataDir::open(&config.data_dir, &config.name, true)?;
        let world = real::world(&config, &directory, Own::Keys(tls::load(&config)?))?;
        let options = InitOptions {
            nodes_expected: self.nodes,
            shards: self.shards.unwrap_or(0),
            replicas: self.replicas,
            token_valid_ms: self.token_valid,
        };
        let founded = node::init(&world, &config, options).await.map_err(exit)?;
        let (name, peer) = (&config.name, &config.advertise);
        let expires = until(founded.token_expires_ms);
        if self.json {
            let value = serde_json::json!({
                "cluster_id": founded.cluster_id,
                "name": name,
                "node_id": founded.node_id,
                "address": peer,
                "data_dir": config.data_dir,
                "token": founded.token,
                "token_expires": expires,
                "operator_key": founded.operator_key,
            });
            println!("{}", serde_json::to_string_pretty(&value)?);
            return Ok(ExitCode::SUCCESS);
        }
        println!(
            "Founded cluster {}; {name} is its node n{}, its data is in {}.",
            founded.cluster_id,
            founded.node_id,
            config.data_dir.display()
        );
        println!();
        println!("Token  {}", founded.token);
        match expires {
            Some(expires) => println!("It lets nodes in until {expires}, and is shown this once."),
            None => println!("It lets nodes in, and is shown this once."),
        }
        println!("While the cluster runs, `firebreak token create` gives another.");
        if let Some(key) = &founded.operator_key {
            println!();
            println!("Key    {key}");
            println!(
                "It is the first operator's, and is shown this once: the cluster keeps a hash. With it in a file:"
            );
            println!("`firebreak key create` makes others, each call with `--api-key-file FILE`.");
        }
        println!();
        println!(
            "Next, here:             firebreak serve --config {}",
            self.config.display()
        );
        if self.nodes > 1 {
            println!(
                "and on the other nodes: firebreak node join --config node.toml --token {} --peer {peer}",
                founded.token
            );
            println!("                        firebreak serve --config node.toml");
            println!(
                "The shards are laid out when {} nodes have joined.",
                self.nodes
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Reads how long a token is valid, milliseconds; 0 for one that never expires.
///
/// # Errors
/// What would be right.
pub fn valid_ms(text: &str) -> Result<u64, String> {
    if text == "never" {
        return Ok(0);
    }
    let wrong = |why: String| format!("{why}; a time is right, as 7d or 12h, or never");
    let valid = humantime::parse_duration(text).map_err(|error| wrong(error.to_string()))?;
    match u64::try_from(valid.as_millis()) {
        Ok(0) => Err(wrong("that is no time at all".to_owned())),
        Ok(ms) => Ok(ms),
        Err(_) => Err(wrong("that is too long".to_owned())),
    }
}

/// A moment, Unix milliseconds, as people and JSON write it; none for 0, which never comes.
pub fn until(at_ms: u64) -> Option<String> {
    let seconds = i64::try_from(at_ms / 1_000).ok().filter(|_| at_ms > 0)?;
    Some(prost_types::Timestamp { seconds, nanos: 0 }.to_string())
}

/// Reads a configuration; what is wrong with it is a usage error.
///
/// # Errors
/// [`Usage`] with all of it.
pub fn load(path: &std::path::Path) -> anyhow::Result<Config> {
    Ok(Config::load(path).map_err(|errors| Usage(format!("wrong configuration\n{errors}")))?)
}

/// Picks the exit code of a founding or join that failed.
pub fn exit(error: FoundError) -> anyhow::Error {
    match error {
        FoundError::Option(_)
        | FoundError::Used { .. }
        | FoundError::NoPeers
        | FoundError::Refused { .. }
        | FoundError::OtherCluster { .. }
        | FoundError::Identity(server::identity::Error::OtherNode { .. }) => {
            Usage(error.to_string()).into()
        }
        FoundError::Unanswered(_)
        | FoundError::Unconfirmed { .. }
        | FoundError::Entropy(_)
        | FoundError::Identity(_) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_valid_for_a_time_or_for_ever() {
        assert_eq!(valid_ms("7d"), Ok(7 * 86_400_000));
        assert_eq!(valid_ms("90s"), Ok(90_000));
        assert_eq!(valid_ms("never"), Ok(0));
        for wrong in ["", "7", "0s", "-1d", "soon", "99999999999999y"] {
            assert!(
                valid_ms(wrong).is_err_and(|why| why.contains("as 7d")),
                "{wrong}"
            );
        }
        assert_eq!(
            until(1_665_814_740_999).as_deref(),
            Some("2022-10-15T06:19:00Z")
        );
        assert_eq!(until(0), None);
    }
}
