//! `firebreak drill`: a data center burns on purpose: what is shown before and afterwards.

pub mod certify;
pub mod key;
pub mod rehearse;
pub mod report;
pub mod vouch;

use std::process::ExitCode;

use super::block_on;

/// Drills: rehearse one, tell what it showed, certify it.
#[derive(clap::Subcommand)]
pub enum Drill {
    Rehearse(rehearse::Args),
    Report(report::Args),
    Certify(certify::Args),
    Key(key::Args),
    Verify(vouch::Args),
}

impl Drill {
    /// Runs the verb.
    ///
    /// # Errors
    /// As exit codes tell.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Drill::Rehearse(args) => args.run(),
            Drill::Report(args) => args.run(),
            Drill::Certify(args) => block_on(args.run()),
            Drill::Key(args) => block_on(args.run()),
            Drill::Verify(args) => args.run(),
        }
    }
}
