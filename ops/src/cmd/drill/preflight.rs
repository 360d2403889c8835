//! `firebreak drill preflight`: whether the cluster is fit for a plan now.

use std::process::ExitCode;

use crate::cmd::map::Map;
use crate::cmd::target::{Show, new_table, printable};
use crate::drill::book;
use crate::drill::fit::{self, Fit};

const EXAMPLES: &str = "\
Examples:
  firebreak drill preflight plan.toml
  firebreak drill preflight plan.toml --json | jq '.looks[] | select(.fit | not)'

Nothing is changed. Exit codes: 0 fit, 1 not fit, with the reasons, or no node answers, 2 wrong arguments or an
unusable plan.";

/// Look whether the cluster is fit for a plan now.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The plan's file, or the name of a drill that the cluster has
    plan: String,
    #[command(flatten)]
    show: Show,
}

impl Args {
    /// Looks.
    ///
    /// # Errors
    /// As exit codes tell.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.show.client().await?;
        let planned = book::plan(&client, &self.plan).await?;
        let map = Map::ask(&client, &self.show.target).await?;
        let told = book::look(&client).await?;
        let fit = fit::look(&planned.plan, &map, &told);
        match self.show.json {
            true => println!("{}", serde_json::to_string_pretty(&document(&fit))?),
            false => print(&fit),
        }
        Ok(match fit.is_fit() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}

fn document(fit: &Fit) -> serde_json::Value {
    serde_json::json!({
        "id": fit.id, "fit": fit.is_fit(), "looks": fit.looks, "predicted": fit.predicted,
        "margin": fit.margin, "cluster": fit.cluster,
    })
}

/// As a table.
pub fn print(fit: &Fit) {
    let mut table = new_table(&["", "looked at", "seen"]);
    for look in &fit.looks {
        let mark = if look.fit { "✔" } else { "✘" };
        table.add_row([mark, look.what, &printable(&look.seen)]);
    }
    println!("{table}");
    match fit.is_fit() {
        true => println!("{}: the cluster is fit", fit.id),
        false => println!("{}: the cluster is NOT fit", fit.id),
    }
}
