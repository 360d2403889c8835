//! `firebreak generate …`: what an operator puts beside a cluster, written by the binary: nothing is
//! downloaded, and it fits the version that runs.
//!
//! ```text
//!  verb ─► files (name, text) ─► output: one to standard output, or all below --out
//! ```

mod alerts;
mod compose;
mod dashboards;
mod output;
mod panels;
mod runbooks;
mod shell;
mod systemd;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

pub use output::{File, Output};

const EXAMPLES: &str = "\
Examples:
  firebreak generate alerts --out /etc/prometheus/rules
  firebreak generate runbooks no-quorum
  firebreak generate dashboards --out dashboards
  firebreak generate systemd | sudo tee /etc/systemd/system/firebreak.service
  firebreak generate completions bash > /etc/bash_completion.d/firebreak

Without --out one file goes to standard output. With --out all are written below that folder, or none:
a file that is there with another content is kept, unless --force says otherwise.
Exit codes: 0 written, 1 it could not be written, 2 wrong arguments, or a file is there already.";

/// Write alerts, runbooks, dashboards and what else stands beside a cluster.
#[derive(clap::Subcommand, Debug)]
#[command(after_help = EXAMPLES)]
pub enum Generate {
    /// Write Prometheus' alerting rules.
    Alerts(alerts::Args),
    /// Write what to do when an alert rings.
    Runbooks(runbooks::Args),
    /// Write Grafana's dashboards.
    Dashboards(dashboards::Args),
    /// Write a unit for systemd.
    Systemd(systemd::Args),
    /// Write a compose file: three data centers on this machine.
    Compose(compose::Args),
    /// Write completions for a shell.
    Completions(shell::Completions),
    /// Write man pages.
    Man(shell::Man),
}

impl Generate {
    /// Runs the subcommand.
    ///
    /// # Errors
    /// As exit codes tell.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let (files, output) = match self {
            Generate::Alerts(args) => args.files(),
            Generate::Runbooks(args) => args.files()?,
            Generate::Dashboards(args) => args.files()?,
            Generate::Systemd(args) => args.files()?,
            Generate::Compose(args) => args.files()?,
            Generate::Completions(args) => args.files(),
            Generate::Man(args) => args.files()?,
        };
        output.give(&files)
    }
}
