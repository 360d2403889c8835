//! `firebreak serve`: runs a node until it is told to stop.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use server::node::{self, RunError};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::init::load;
use crate::data_dir::DataDir;
use crate::exit::{FATAL, Usage};
use crate::real;

const EXAMPLES: &str = "\
Examples:
  firebreak serve --config node.toml
  FIREBREAK_LOG=info,firebreak_raft=debug firebreak serve --config node.toml

SIGTERM and SIGINT stop it gracefully: nothing new is accepted, calls get 5 seconds to finish, what
is in memory is flushed. A second one stops it at once, which loses nothing that was acknowledged.

Exit codes: 0 stopped as asked, 1 could not start, 2 wrong arguments, configuration or directory,
70 it was running and had to stop at once (a failed fsync, say): starting it again is right.";

/// Run a node.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The node's configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

impl Args {
    /// Runs the node.
    ///
    /// # Errors
    /// As exit codes tell.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let config = load(&self.config)?;
        let shutdown = shutdown().context("cannot wait for signals")?;
        server::telemetry::install(&config.log.level, config.log.format).map_err(Usage)?;
        let directory = DataDir::open(&config.data_dir, &config.name, false)?;
        let world = real::world(&config, &directory)?;
        let line = format!("{} serves on {}", config.name, config.listen);
        match node::run(world, config, shutdown, || println!("{line}")).await {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error @ (RunError::NotMember | RunError::Identity(_))) => {
                Err(Usage(error.to_string()).into())
            }
            Err(error @ RunError::Fatal(_)) => {
                // Nothing is closed: a disk that failed must not be waited for, and what counts is
                // on it already.
                eprintln!("error: {error}");
                std::process::exit(i32::from(FATAL));
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Completes at the first SIGTERM or SIGINT; the second ends the process.
fn shutdown() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        either(&mut terminate, &mut interrupt).await;
        tokio::spawn(async move {
            either(&mut terminate, &mut interrupt).await;
            eprintln!("stopped at once, as asked twice");
            std::process::exit(1);
        });
    })
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}
