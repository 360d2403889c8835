//! `firebreak init`: founds a cluster, once.

use std::path::PathBuf;
use std::process::ExitCode;

use server::Config;
use server::node::{self, FoundError, InitOptions};

use crate::data_dir::DataDir;
use crate::exit::Usage;
use crate::real;

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
    #[arg(long, value_name = "N")]
    shards: Option<u32>,
    /// Replicas of each shard: 1, 3 or 5. One survives nothing.
    #[arg(long, value_name = "N", default_value_t = 3)]
    replicas: u32,
}

impl Args {
    /// Founds and says how to go on.
    ///
    /// # Errors
    /// As exit codes tell.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let config = load(&self.config)?;
        let directory = DataDir::open(&config.data_dir, &config.name, true)?;
        let world = real::world(&config, &directory)?;
        let options = InitOptions {
            nodes_expected: self.nodes,
            shards: self.shards.unwrap_or(0),
            replicas: self.replicas,
        };
        let founded = node::init(&world, &config, options).await.map_err(exit)?;
        let (name, peer) = (&config.name, &config.advertise);
        println!(
            "Founded cluster {}; {name} is its node n{}.",
            founded.cluster_id, founded.node_id
        );
        println!();
        println!("Token  {}", founded.token);
        println!("It lets nodes in and is shown this once: the cluster keeps only its hash.");
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
        | FoundError::Identity(server::identity::Error::OtherNode { .. }) => {
            Usage(error.to_string()).into()
        }
        FoundError::Unanswered(_) | FoundError::Entropy(_) | FoundError::Identity(_) => {
            error.into()
        }
    }
}
