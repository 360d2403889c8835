//! `firebreak drill`: a data center burns on purpose, on the live cluster, and ends by itself.

mod all;
mod approve;
pub mod certify;
pub mod code;
mod end;
mod guard;
pub mod key;
mod plan;
mod preflight;
pub mod rehearse;
pub mod report;
mod run;
mod schedule;
mod show;
pub mod vouch;

use std::process::ExitCode;

use super::block_on;

const EXAMPLES: &str = "\
Examples:
  firebreak drill scenarios
  firebreak drill plan dc-silent --target dc=seoul --cap failed=0 --cap gap=1.5s -o plan.toml
  firebreak drill preflight plan.toml
  firebreak drill rehearse plan.toml                 the same on seeds of the simulator
  firebreak drill approve plan.toml --as kim          and by a second operator
  firebreak drill run plan.toml
  firebreak drill report drills/2026-12-01-dc-silent-seoul-3f2a/paper.json
  firebreak drill verify certificate.json
  firebreak drill abort 2026-12-01-dc-silent-seoul-3f2a
  firebreak drill stop-all --as kim --why \"a real fire\"

Exit codes of `run`: 0 passed, 1 a goal was missed, 2 bad input, nothing was done, 3 a promise broke, 4 aborted,
5 inconclusive. Of the others: 0 done, 1 not fit or not done, 2 bad input or refused.";

/// Rehearse a disaster on the live cluster: plan, approve, run, abort.
#[derive(clap::Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum Drill {
    Scenarios(plan::Scenarios),
    Plan(plan::Args),
    Preflight(preflight::Args),
    Rehearse(rehearse::Args),
    Approve(approve::Args),
    Operators(approve::Operators),
    Run(Box<run::Args>),
    Report(report::Args),
    Certify(certify::Args),
    Key(key::Args),
    Verify(vouch::Args),
    Status(show::Status),
    List(show::List),
    Show(show::One),
    Abort(end::Abort),
    StopAll(end::StopAll),
    Release(end::Release),
    #[command(subcommand)]
    Schedule(schedule::Schedule),
    Due(Box<schedule::Due>),
    All(all::Args),
    #[command(hide = true)]
    Guard(guard::Args),
}

impl Drill {
    /// Runs the verb.
    ///
    /// # Errors
    /// As exit codes tell.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Drill::Scenarios(args) => args.run(),
            Drill::Plan(args) => block_on(args.run()),
            Drill::Preflight(args) => block_on(args.run()),
            Drill::Rehearse(args) => args.run(),
            Drill::Approve(args) => block_on(args.run()),
            Drill::Operators(args) => block_on(args.run()),
            Drill::Run(args) => block_on(args.run()),
            Drill::Report(args) => args.run(),
            Drill::Certify(args) => block_on(args.run()),
            Drill::Key(args) => block_on(args.run()),
            Drill::Verify(args) => args.run(),
            Drill::Status(args) => block_on(args.run()),
            Drill::List(args) => block_on(args.run()),
            Drill::Show(args) => block_on(args.run()),
            Drill::Abort(args) => block_on(args.run()),
            Drill::StopAll(args) => block_on(args.run()),
            Drill::Release(args) => block_on(args.run()),
            Drill::Schedule(args) => block_on(args.run()),
            Drill::Due(args) => block_on(args.run()),
            Drill::All(args) => block_on(args.run()),
            Drill::Guard(args) => block_on(args.run()),
        }
    }
}

/// Who does something, as the command line has it.
#[derive(clap::Args, Clone, Debug)]
pub struct Who {
    /// Your name: names are taken as given, until there are logins
    #[arg(
        id = "operator",
        long = "as",
        value_name = "NAME",
        env = "FIREBREAK_OPERATOR"
    )]
    name: Option<String>,
}

impl Who {
    /// The name; where none is given, that of the user of this machine.
    pub fn name(&self) -> String {
        let user = || std::env::var("USER").ok().filter(|user| !user.is_empty());
        self.name
            .clone()
            .or_else(user)
            .unwrap_or_else(|| "operator".to_owned())
    }
}
