//! `firebreak serve`: runs a node until it is told to stop.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use server::config::Auth;
use server::node::{self, RunError};

use super::init::load;
use crate::data_dir::DataDir;
use crate::evidence::Evidence;
use crate::exit::{self, FATAL, Unwanted, Usage, tell};
use crate::itself::Itself;
use crate::stop::Stop;
use crate::tls::{self, Own};
use crate::{local, logging, real};

const EXAMPLES: &str = "\
Examples:
  firebreak serve --config node.toml
  FIREBREAK_LOG=info,firebreak_raft=debug firebreak serve --config node.toml

Operators of the machine reach the node over its local socket, admin.sock in the data directory, whatever became of
keys: firebreak status --local DATA_DIR.

SIGTERM and SIGINT stop it gracefully: it hands over what it leads (4 seconds at most), closes its port,
sends clients elsewhere, gives calls 5 seconds to finish, and flushes what is in memory. A second one stops
it at once, which loses nothing that was acknowledged.

Exit codes: 0 stopped as asked, 1 could not start, 2 wrong arguments, configuration or directory,
70 it was running and had to stop at once (a failed fsync, say): starting it again is right,
77 the cluster does not want it any more (it was removed, or its disk is not the one that its peers know):
starting it again does not help. With systemd: Restart=on-failure, RestartPreventExitStatus=2 77.";

/// Run a node.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES, after_long_help = details())]
pub struct Args {
    /// The node's configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Serve although auth.mode is "open" and others than this machine reach the port: whoever does may read,
    /// write and operate everything
    #[arg(long)]
    insecure: bool,
}

/// The examples, and every key of `node.toml`.
fn details() -> String {
    let mut text = format!("{EXAMPLES}\n\nKeys of node.toml, those with a dot in sections:\n");
    let rows = server::config::REFERENCE.lines().skip(2);
    for row in rows {
        let cells: Vec<String> = row
            .trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().replace('`', ""))
            .collect();
        let [key, meaning, default, bounds] = &cells[..] else {
            continue;
        };
        let default = match default.as_str() {
            "required" => "required".to_owned(),
            default => format!("default {default}"),
        };
        let bounds = match bounds.as_str() {
            "" => String::new(),
            bounds => format!("; {bounds}"),
        };
        text.push_str(&format!("\n  {key}\n      {meaning} ({default}{bounds})"));
    }
    text
}

impl Args {
    /// Runs the node.
    ///
    /// # Errors
    /// As exit codes tell.
    pub async fn run(self) -> anyhow::Result<()> {
        let config = load(&self.config)?;
        let open = config.auth == Auth::Open && !config.listens_locally();
        if open && !self.insecure {
            return Err(Usage(format!(
                "auth.mode is \"open\" and {} is not on the loopback: whoever reaches that port could read, \
                 write and operate everything. Set auth.mode = \"required\", or listen on 127.0.0.1, or say \
                 --insecure where nobody else reaches it",
                config.listen
            ))
            .into());
        }
        let shutdown = shutdown().context("cannot wait for signals")?;
        let lines = logging::install(&config.log.level, config.log.format).map_err(Usage)?;
        lines.tell_lost();
        if open {
            tracing::warn!(
                listen = %config.listen,
                "INSECURE: whoever reaches this port may read, write and operate everything, since auth.mode is \
                 open"
            );
        }
        logging::end_on_panic(FATAL);
        let directory = DataDir::open(&config.data_dir, &config.name, false)?;
        let keys = tls::load(&config)?;
        let mut world = real::world(&config, &directory, Own::Keys(keys.clone()))?;
        world.authority = tls::authority(&config)?;
        world.process = Arc::new(Itself::new(lines.lost(), keys.clone()));
        if let Some(keys) = keys {
            tokio::spawn(tls::follow(config.tls.clone(), keys));
        }
        world.local = local::listen(directory.path())?;
        world.debug = Arc::new(Evidence::of(directory.path(), lines.kept()));
        let line = format!("{} serves on {}", config.name, config.listen);
        // Whoever started the node may not listen.
        let say = || drop(writeln!(std::io::stdout(), "{line}"));
        match node::run(world, config, shutdown, say).await {
            Ok(()) => Ok(()),
            Err(
                error @ (RunError::NotMember | RunError::Identity(_) | RunError::Elsewhere { .. }),
            ) => Err(Usage(error.to_string()).into()),
            Err(error @ RunError::Refused(_)) => Err(Unwanted(error.to_string()).into()),
            Err(error @ RunError::Fatal(_)) => {
                // Nothing is closed: a disk that failed must not be waited for, and what counts is
                // on it already.
                let words = server::telemetry::words(&error.to_string());
                tell(format_args!("error: {words}"));
                drop(lines);
                exit::end(FATAL);
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Completes at the first SIGTERM or SIGINT; the second ends the process.
fn shutdown() -> std::io::Result<impl Future<Output = ()>> {
    let mut stop = Stop::listen()?;
    Ok(async move {
        stop.asked().await;
        tokio::spawn(async move {
            stop.asked().await;
            tell(format_args!("stopped at once, as asked twice"));
            exit::end(1);
        });
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_told_with_its_default() {
        let text = details();
        let keys = server::config::REFERENCE.lines().count() - 2;
        assert_eq!(
            text.matches("(default ").count() + text.matches("(required").count(),
            keys
        );
        assert!(
            text.contains("\n  raft.heartbeat_ms\n      between heartbeats"),
            "{text}"
        );
    }
}
