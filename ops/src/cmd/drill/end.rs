//! `firebreak drill abort`, `stop-all` and `release`: from any survivor.

use std::process::ExitCode;
use std::time::Instant;

use client::v1::change_drill_request::Change;
use client::v1::{AbortDrill, PullLever, ReleaseLever};

use super::Who;
use crate::cmd::target::{Show, printable};
use crate::drill::{book, run};

const ABORT: &str = "\
Examples:
  firebreak drill abort 2026-12-01-dc-silent-seoul-3f2a
  firebreak drill abort 2026-12-01-dc-silent-seoul-3f2a --why \"customers call\" --target busan-1:7101

The cluster notes it, and the faults are ended at each node at once. A plan that has not begun is taken back.

Exit codes: 0 ended, 1 some faults end by themselves only, or no node answers, 2 there is no such drill.";

/// End a drill at once, or take a plan back.
#[derive(clap::Args, Debug)]
#[command(after_help = ABORT)]
pub struct Abort {
    /// Its name
    id: String,
    /// Why, for the history
    #[arg(long, default_value = "")]
    why: String,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    show: Show,
}

const STOP_ALL: &str = "\
Examples:
  firebreak drill stop-all --as kim --why \"a real fire\"

Pulls the safety lever: every drill is ended, every fault taken out, and none begins until `firebreak drill release`.

Exit codes: 0 pulled, 1 some faults end by themselves only, or no node answers, 2 wrong arguments.";

/// Pull the safety lever: end all drills, and bar new ones.
#[derive(clap::Args, Debug)]
#[command(after_help = STOP_ALL)]
pub struct StopAll {
    /// Why, for the history
    #[arg(long, default_value = "")]
    why: String,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    show: Show,
}

const RELEASE: &str = "\
Examples:
  firebreak drill release --as kim

Exit codes: 0 released, 1 no node answers, 2 wrong arguments.";

/// Release the safety lever: drills may begin again.
#[derive(clap::Args, Debug)]
#[command(after_help = RELEASE)]
pub struct Release {
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    show: Show,
}

impl Abort {
    /// Ends it.
    ///
    /// # Errors
    /// As exit codes tell.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.show.client().await?;
        let began = Instant::now();
        let abort = Change::Abort(AbortDrill {
            id: self.id.clone(),
            who: self.who.name(),
            why: self.why,
        });
        let (changed, swept) = tokio::join!(
            book::change(&client, abort, "the drill is not ended"),
            run::sweep(&client, &self.id)
        );
        changed?;
        told(&self.show, &self.id, began, &swept?)
    }
}

impl StopAll {
    /// Pulls it.
    ///
    /// # Errors
    /// As exit codes tell.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.show.client().await?;
        let began = Instant::now();
        let pull = Change::Pull(PullLever {
            who: self.who.name(),
            why: self.why,
        });
        let (changed, swept) = tokio::join!(
            book::change(&client, pull, "the lever is not pulled"),
            run::sweep(&client, "")
        );
        changed?;
        told(&self.show, "all drills", began, &swept?)
    }
}

impl Release {
    /// Releases it.
    ///
    /// # Errors
    /// As exit codes tell.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.show.client().await?;
        let who = self.who.name();
        let release = Change::Release(ReleaseLever { who });
        book::change(&client, release, "the lever is not released").await?;
        match self.show.json {
            true => println!("{}", serde_json::json!({"released": true})),
            false => println!("the lever is released: drills may begin again"),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn told(show: &Show, what: &str, began: Instant, left: &[String]) -> anyhow::Result<ExitCode> {
    let took_ms = began.elapsed().as_millis();
    if show.json {
        let document = serde_json::json!({"ended": what, "took_ms": took_ms, "left": left});
        println!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        println!("{what}: ended, in {took_ms} ms");
        left.iter()
            .for_each(|line| println!("  {}", printable(line)));
    }
    Ok(match left.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
