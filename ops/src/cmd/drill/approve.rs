//! `firebreak drill approve` and `operators`: who allows a drill.

use std::process::ExitCode;

use client::v1::DrillOperators;
use client::v1::change_drill_request::Change;

use super::Who;
use crate::cmd::target::Show;
use crate::drill::book;

const EXAMPLES: &str = "\
Examples:
  firebreak drill approve plan.toml --as kim
  firebreak drill approve 2026-12-01-dc-silent-seoul-3f2a --as lee

An approval is given for the plan's bytes and the cluster's present map, and holds for a day. The cluster needs two
operators, unless `firebreak drill operators 1` says that one is enough.

Exit codes: 0 approved, 1 no node answers, 2 refused, or an unusable plan.";

/// Allow a drill.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The plan's file, or the name of a drill that the cluster has
    plan: String,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    show: Show,
}

impl Args {
    /// Approves.
    ///
    /// # Errors
    /// As exit codes tell.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.show.client().await?;
        let planned = book::plan(&client, &self.plan).await?;
        let who = self.who.name();
        book::store(&client, &planned, &who).await?;
        let id = &planned.plan.id;
        let epoch = book::approve(&client, id, &who, planned.digest()).await?;
        let told = book::look_since(&client, epoch).await?;
        let drills = book::drills(&told);
        let held = drills.drills.iter().find(|one| one.id == *id);
        let have = held.map_or(1, |one| one.approvals.len());
        let needed = book::needed(&drills);
        if self.show.json {
            let document =
                serde_json::json!({"id": id, "by": who, "approvals": have, "needed": needed});
            println!("{}", serde_json::to_string_pretty(&document)?);
        } else {
            println!("{id}: approved by {who}, {have} of {needed}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

const OPERATORS: &str = "\
Examples:
  firebreak drill operators 1         where the cluster has one operator
  firebreak drill operators 2

Exit codes: 0 set, 1 no node answers, 2 wrong arguments.";

/// Set how many operators must approve a drill.
#[derive(clap::Args, Debug)]
#[command(after_help = OPERATORS)]
pub struct Operators {
    /// 1 or 2
    #[arg(value_parser = clap::value_parser!(u32).range(1..=2))]
    needed: u32,
    #[command(flatten)]
    show: Show,
}

impl Operators {
    /// Sets it.
    ///
    /// # Errors
    /// As exit codes tell.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.show.client().await?;
        let needed = self.needed;
        let change = Change::Operators(DrillOperators { needed });
        book::change(&client, change, "it is not set").await?;
        match self.show.json {
            true => println!("{}", serde_json::json!({"operators": needed})),
            false => println!("a drill is approved by {needed} from now on"),
        }
        Ok(ExitCode::SUCCESS)
    }
}
