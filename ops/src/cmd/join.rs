//! `firebreak node join`: asks a cluster to let this node in.

use std::path::PathBuf;
use std::process::ExitCode;

use server::found::FoundError;
use server::node;

use super::drain::{self, Whom};
use super::init::{exit, load};
use super::members::{Add, List, Remove};
use crate::data_dir::DataDir;
use crate::real;

const EXAMPLES: &str = "\
Examples:
  firebreak node join --config busan-1.toml --token fb-… --peer 10.0.0.1:7101
  FIREBREAK_TOKEN=fb-… firebreak node join --config busan-1.toml     peers from the configuration

It is safe to run again: a node that was let in before is told its number again.";

/// Add nodes to a cluster, take them out of service, or back.
#[derive(clap::Subcommand, Debug)]
pub enum Node {
    /// Ask a cluster to let this node in.
    Join(Join),
    /// Move its leaders elsewhere, and its clients.
    Drain(drain::Args),
    /// Let it lead and take clients again.
    Undrain(drain::Args),
    /// Show the nodes.
    List(List),
    /// Show how a node is added.
    Add(Add),
    /// Have a node give up all it holds, and remove it.
    Remove(Remove),
}

/// Ask a cluster to let this node in.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Join {
    /// The node's configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The token that `firebreak init` printed.
    #[arg(
        long,
        value_name = "TOKEN",
        env = "FIREBREAK_TOKEN",
        hide_env_values = true
    )]
    token: String,
    /// Nodes to ask, one after the other [default: the configuration's peers].
    #[arg(long, value_name = "HOST:PORT", num_args = 1.., value_delimiter = ',')]
    peer: Vec<String>,
}

impl Node {
    /// Runs the subcommand.
    ///
    /// # Errors
    /// As exit codes tell.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Node::Join(args) => args.run().await,
            Node::Drain(args) => args.run(Whom::Node, true).await,
            Node::Undrain(args) => args.run(Whom::Node, false).await,
            Node::List(args) => args.run().await,
            Node::Add(args) => args.run(),
            Node::Remove(args) => args.run().await,
        }
    }
}

impl Join {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let config = load(&self.config)?;
        let directory = DataDir::open(&config.data_dir, &config.name, true)?;
        let world = real::world(&config, &directory)?;
        let joined = node::join(&world, &config, &self.token, &self.peer).await;
        let joined = match joined {
            Ok(joined) => joined,
            Err(error) => {
                drop(world);
                if matches!(error, FoundError::Refused { .. }) {
                    directory.take_back()?;
                }
                return Err(exit(error));
            }
        };
        let (name, cluster) = (&config.name, &joined.cluster_id);
        let how = if joined.before {
            "had been let into"
        } else {
            "joined"
        };
        println!(
            "{name} {how} cluster {cluster} as node n{}.",
            joined.node_id
        );
        println!("Next: firebreak serve --config {}", self.config.display());
        Ok(ExitCode::SUCCESS)
    }
}
