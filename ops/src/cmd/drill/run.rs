//! `firebreak drill run`: carries a drill out.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::anyhow;
use client::v1::GetStatusResponse;
use server::drill::paper::Paper;
use server::sight::report::answers;

use super::{certify, report};
use crate::canary::foreign::{Kit, Language};
use crate::cmd::map::Map;
use crate::cmd::target::{Show, Target, printable};
use crate::drill::book::{self, Planned};
use crate::drill::fit;
use crate::drill::run::{self, Options};
use crate::exit::Usage;

const EXAMPLES: &str = "\
Examples:
  firebreak drill run plan.toml
  firebreak drill run 2026-12-01-dc-silent-seoul-3f2a --dir /var/drills/seoul --json
  firebreak drill run plan.toml --start-with 'systemctl start firebreak@{node}'
  firebreak drill run plan.toml --with python,node                  canaries in three languages
  firebreak drill run 2026-12-01-dc-silent-seoul-3f2a --resume      its controller is lost

Run it where it reaches all nodes, best outside of the data center that burns. It aborts itself when a cap is broken,
a real fault appears beside it, or the cluster is not seen any more. Ctrl-C aborts it. Everything is undone within
10 s; when the controller dies, the faults end by themselves within 25 s.

In the folder: plan.toml, preflight.json, rehearsal.json, ledger.jsonl, night.json, paper.json, the report and
certificate.json.

Exit codes: 0 passed, 1 a goal was missed, 2 bad input, nothing was done, 3 a promise broke, 4 aborted,
5 inconclusive.";

/// Carry a drill out.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The plan's file, or the name of a drill that the cluster has
    plan: String,
    /// The drill's folder; ./drills/ID when not given
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Go on where another controller was, which is not heard any more
    #[arg(long)]
    resume: bool,
    /// What starts a node again that was killed, {node} is its name; as it was started when not given
    #[arg(long, value_name = "COMMAND")]
    start_with: Option<String>,
    /// Send also from plain gRPC clients in these languages; their libraries are installed once into the
    /// cache folder
    #[arg(
        long = "with",
        value_enum,
        value_name = "LANGUAGE",
        value_delimiter = ','
    )]
    languages: Vec<Language>,
    #[command(flatten)]
    show: Show,
}

impl Args {
    /// Runs it.
    ///
    /// # Errors
    /// As exit codes tell.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.show.client().await?;
        let planned = book::plan(&client, &self.plan).await?;
        let credentials = self.show.target.credentials.variables()?;
        let find = |language: &Language| {
            let found = Kit::find(*language, true);
            let found = found.map(|kit| kit.let_in_by(credentials.clone()));
            found.map_err(|why| anyhow!(Usage(format!("--with {}: {why}", language.name()))))
        };
        let kits: anyhow::Result<Vec<Kit>> = self.languages.iter().map(find).collect();
        let options = Options {
            dir: self.dir.unwrap_or_else(|| folder(&planned)),
            resume: self.resume,
            start_with: self.start_with,
            kits: kits?,
            quiet: self.show.json,
        };
        carry_out(&client, &planned, &options, &self.show).await
    }
}

/// The usual folder of a drill.
pub fn folder(planned: &Planned) -> PathBuf {
    PathBuf::from("drills").join(&planned.plan.id)
}

/// Carries a plan out, and tells how it ended.
///
/// # Errors
/// Usage, when the cluster is not fit or does not let it begin.
pub async fn carry_out(
    client: &client::Client,
    planned: &Planned,
    options: &Options,
    show: &Show,
) -> anyhow::Result<ExitCode> {
    let map = Map::ask(client, &show.target).await?;
    let told = book::look(client).await?;
    let fit = fit::look(&planned.plan, &map, &told);
    if !options.resume && !fit.is_fit() {
        let why = fit.reasons().join("\n  ");
        return Err(anyhow!(Usage(format!(
            "the cluster is not fit for it:\n  {}",
            printable_lines(&why)
        ))));
    }
    let statuses: Vec<&GetStatusResponse> = answers(&map.reports).collect();
    let paper = run::run(client, planned, &fit, &statuses, options).await?;
    show_for_it(&options.dir, &show.target).await;
    match show.json {
        true => println!("{}", serde_json::to_string_pretty(&paper)?),
        false => print(&paper, options),
    }
    Ok(ExitCode::from(paper.end.code()))
}

/// What there is to show for it. How the drill ended does not depend on that.
async fn show_for_it(dir: &Path, target: &Target) {
    if let Err(why) = report::write(dir).await {
        eprintln!("no report: {}", printable_lines(&format!("{why:#}")));
    }
    let (paper, out) = (
        dir.join("paper.json"),
        dir.join(server::drill::certificate::FILE),
    );
    if let Err(why) = certify::certify(target, &paper, &out).await {
        eprintln!("no certificate: {}", printable_lines(&format!("{why:#}")));
    }
}

fn printable_lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

fn print(paper: &Paper, options: &Options) {
    println!(
        "{}: {}: {}",
        paper.plan.id,
        paper.end.word().to_uppercase(),
        printable(&paper.why)
    );
    let measured = &paper.measured;
    println!(
        "  {} calls, {} failed, {} lost, {} duplicated, {} reordered, {} stale; longest wait {} ms ({})",
        measured.calls,
        measured.failed,
        measured.lost,
        measured.duplicated,
        measured.reordered,
        measured.stale,
        measured.gap_ms,
        measured.gap_whose
    );
    for oracle in &paper.oracles {
        let mark = match oracle.held {
            Some(true) => "✔",
            Some(false) => "✘",
            None => "–",
        };
        println!("  {mark} {} {}", oracle.promise, printable(&oracle.text));
    }
    for line in &paper.deviations {
        println!("  other than planned: {}", printable(line));
    }
    println!("  {}", options.dir.join("paper.json").display());
}
