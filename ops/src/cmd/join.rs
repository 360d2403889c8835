//! `firebreak node join`: asks a cluster to let this node in.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use proto::net::secure::{Material, Trust};
use server::config::{Config, TlsMode};
use server::found::FoundError;
use server::node::{self, JoinResult};

use super::drain;
use super::forget::{AskAgain, ForgetBoot};
use super::init::{exit, load};
use super::members::{Add, List, Relocate, Remove};
use crate::authority;
use crate::data_dir::DataDir;
use crate::exit::Usage;
use crate::real;
use crate::tls::{self, Own};

const EXAMPLES: &str = "\
Examples:
  firebreak node join --config busan-1.toml --token fb-… --peer 10.0.0.1:7101
  FIREBREAK_TOKEN=fb-… firebreak node join --config busan-1.toml     peers from the configuration
  firebreak node join --config busan-1.toml --token fb-… --ca-fingerprint 3f9a…     it gets its certificate,
                                                     with a token of `firebreak token create --node --host`

  firebreak node join --config busan-1.toml --token fb-… --if-needed && firebreak serve --config busan-1.toml

It is safe to run again: a node that was let in before asks whether that still holds, and is told its number
again. With --if-needed it asks nobody; for scripts that run at each start, also when all nodes start at once.
With --ca-fingerprint a node whose configuration names files of TLS that are not there yet makes its key, and has a
node that has tls.authority_key sign its certificate. So it does anew in the last 30 days. The token goes only to a node whose certificate the authority
with this fingerprint has signed; `firebreak cert show ca.pem` prints it.

Exit codes: 0 it is a node of the cluster, 1 no node could be asked, 2 wrong arguments, or refused: a wrong or
expired token, another cluster, a node that was removed.";

/// Add nodes to a cluster, take them out of service, or back.
#[derive(clap::Subcommand, Debug)]
pub enum Node {
    /// Ask a cluster to let this node in.
    Join(Join),
    /// Move its leaders elsewhere, and its clients
    #[command(after_help = drain::DRAIN_EXAMPLES)]
    Drain(drain::Drain<drain::NodeName>),
    /// Let it lead and take clients again
    #[command(after_help = drain::UNDRAIN_EXAMPLES)]
    Undrain(drain::Undrain<drain::NodeName>),
    /// Show the nodes.
    List(List),
    /// Show how a node is added.
    Add(Add),
    /// Have a node give up all it holds, and remove it.
    Remove(Remove),
    /// Say that a node stands in another data center.
    Relocate(Relocate),
    /// Forget starts of a node that it never made; two operators have to say so.
    ForgetBoot(ForgetBoot),
    /// Let a node ask again whose disk the cluster has refused.
    AskAgain(AskAgain),
}

/// Ask a cluster to let this node in.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Join {
    /// The node's configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The token that `firebreak init` printed; `firebreak token create` gives another.
    #[arg(
        long,
        value_name = "TOKEN",
        env = "FIREBREAK_TOKEN",
        hide_env_values = true
    )]
    token: String,
    /// Have a certificate signed, where the node has none; SHA-256 of the authority's certificate
    #[arg(long, value_name = "SHA256")]
    ca_fingerprint: Option<String>,
    /// Do nothing when the data directory is a node's that has joined.
    #[arg(long)]
    if_needed: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
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
            Node::Drain(args) => args.run().await,
            Node::Undrain(args) => args.run().await,
            Node::List(args) => args.run().await,
            Node::Add(args) => args.run(),
            Node::Remove(args) => args.run().await,
            Node::Relocate(args) => args.run().await,
            Node::ForgetBoot(args) => args.run().await,
            Node::AskAgain(args) => args.run().await,
        }
    }
}

/// Writes what was signed where the configuration looks for it, if it is of use. The key is there already.
fn certify(config: &Config, joined: &JoinResult) -> anyhow::Result<()> {
    let Some(signed) = &joined.certificates else {
        return Ok(());
    };
    let (authorities, own) = (signed.authorities.as_bytes(), signed.own.as_bytes());
    let (key, ca) = (tls::read(&config.tls.key)?, &config.tls.ca);
    Material::read(authorities, own, &key).context("what was signed is of no use")?;
    // Whom somebody chose to trust stays.
    if !ca.exists() {
        authority::write(ca, authorities, false)?;
    }
    authority::write(&config.tls.cert, own, false)
}

impl Join {
    /// What the node speaks TLS with, and its request for a certificate, empty where it has one.
    fn own(&self, config: &Config) -> anyhow::Result<(Own, Vec<u8>)> {
        let Some(fingerprint) = &self.ca_fingerprint else {
            return Ok((Own::Keys(tls::load(config)?), Vec::new()));
        };
        if config.tls.mode == TlsMode::Off {
            let why =
                "--ca-fingerprint: tls.mode is \"off\", so that the node needs no certificate";
            return Err(Usage(why.to_owned()).into());
        }
        let cert = &config.tls.cert;
        if cert.exists() && !authority::ends_within(cert, tls::SOON) {
            return Ok((Own::Keys(tls::load(config)?), Vec::new()));
        }
        let trust = Trust::pinned(fingerprint);
        let trust = trust.map_err(|error| Usage(format!("--ca-fingerprint: {error}")))?;
        let request = authority::request(&config.name, &config.tls.key)?;
        Ok((Own::Joining(trust), request))
    }

    async fn run(self) -> anyhow::Result<ExitCode> {
        let config = load(&self.config)?;
        let (own, request) = self.own(&config)?;
        let directory = DataDir::open(&config.data_dir, &config.name, true)?;
        let world = real::world(&config, &directory, own)?;
        // Where a certificate is still to come, somebody must be asked.
        let before = match self.if_needed && request.is_empty() {
            true => node::joined(&world, &config).await.map_err(exit)?,
            false => None,
        };
        let joined = match before {
            Some(joined) => Ok(joined),
            None => {
                let (token, peers) = (&self.token, &self.peer);
                node::join(&world, &config, token, peers, request.into()).await
            }
        };
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
        certify(&config, &joined)?;
        let (name, cluster) = (&config.name, &joined.cluster_id);
        if self.json {
            let value = serde_json::json!({
                "name": name,
                "node_id": joined.node_id,
                "cluster_id": cluster,
                "before": joined.before,
                "address": config.advertise,
                "data_dir": config.data_dir,
                "certificate": joined.certificates.as_ref().map(|_| &config.tls.cert),
            });
            println!("{}", serde_json::to_string_pretty(&value)?);
            return Ok(ExitCode::SUCCESS);
        }
        let how = if joined.before {
            "had been let into"
        } else {
            "joined"
        };
        println!(
            "{name} {how} cluster {cluster} as node n{}; its data is in {}.",
            joined.node_id,
            config.data_dir.display()
        );
        if joined.certificates.is_some() {
            println!("Its certificate is in {}.", config.tls.cert.display());
        }
        println!("Next: firebreak serve --config {}", self.config.display());
        Ok(ExitCode::SUCCESS)
    }
}
