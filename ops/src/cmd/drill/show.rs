//! `firebreak drill status`, `list` and `show`: drills as the meta shard knows them.

use std::process::ExitCode;

use client::v1::{Drill, Drills, drill};
use server::drill::live::Live;

use crate::cmd::outage::when;
use crate::cmd::target::{Show, new_table, printable};
use crate::drill::book;

const STATUS: &str = "\
Examples:
  firebreak drill status
  firebreak drill status --json | jq .running.notes

Exit codes: 0 no drill runs and the lever is released, 1 no node answers, 3 a drill runs, 4 the lever is pulled.";

/// Show the drill that runs, if one does.
#[derive(clap::Args, Debug)]
#[command(after_help = STATUS)]
pub struct Status {
    #[command(flatten)]
    show: Show,
}

const LIST: &str = "\
Examples:
  firebreak drill list
  firebreak drill list --json

Exit codes: 0 listed, 1 no node answers.";

/// List the drills that the cluster knows.
#[derive(clap::Args, Debug)]
#[command(after_help = LIST)]
pub struct List {
    #[command(flatten)]
    show: Show,
}

const ONE: &str = "\
Examples:
  firebreak drill show 2026-12-01-dc-silent-seoul-3f2a
  firebreak drill show 2026-12-01-dc-silent-seoul-3f2a --json

Exit codes: 0 shown, 1 no node answers, 2 there is no such drill.";

/// Show one drill.
#[derive(clap::Args, Debug)]
#[command(after_help = ONE)]
pub struct One {
    /// Its name
    id: String,
    #[command(flatten)]
    show: Show,
}

impl Status {
    /// Shows it.
    ///
    /// # Errors
    /// When no node answers.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let told = book::look(&self.show.client().await?).await?;
        let drills = book::drills(&told);
        let running = drills
            .drills
            .iter()
            .find(|one| one.state() == drill::State::Running);
        let code = match (&drills.lever, running) {
            (Some(_), _) => 4,
            (None, Some(_)) => 3,
            (None, None) => 0,
        };
        if self.show.json {
            let lever = drills.lever.as_ref().map(|lever| {
                serde_json::json!({"who": lever.who, "why": lever.why, "at_ms": lever.at_ms})
            });
            let document = serde_json::json!({"running": running.map(document), "lever": lever});
            println!("{}", serde_json::to_string_pretty(&document)?);
            return Ok(ExitCode::from(code));
        }
        if let Some(lever) = &drills.lever {
            let (who, why) = (printable(&lever.who), printable(&lever.why));
            println!(
                "the lever is pulled by {who} at {}: {why}",
                when::rfc3339(lever.at_ms)
            );
        }
        match running {
            Some(one) => print(one, &drills, told.now_ms),
            None => println!("no drill runs"),
        }
        Ok(ExitCode::from(code))
    }
}

impl List {
    /// Lists them.
    ///
    /// # Errors
    /// When no node answers.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let told = book::look(&self.show.client().await?).await?;
        let drills = book::drills(&told);
        if self.show.json {
            let all: Vec<serde_json::Value> = drills.drills.iter().map(document).collect();
            println!("{}", serde_json::to_string_pretty(&all)?);
            return Ok(ExitCode::SUCCESS);
        }
        let mut table = new_table(&["drill", "state", "began (UTC)", "ended (UTC)", "why"]);
        for one in &drills.drills {
            table.add_row([
                printable(&one.id),
                word(one).to_owned(),
                time(one.began_ms),
                time(one.ended_ms),
                printable(&one.why),
            ]);
        }
        match drills.drills.is_empty() {
            true => println!("there are no drills"),
            false => println!("{table}"),
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl One {
    /// Shows it.
    ///
    /// # Errors
    /// Usage, when there is none of the name.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let told = book::look(&self.show.client().await?).await?;
        let drills = book::drills(&told);
        let one = book::find(&drills, &self.id)?;
        match self.show.json {
            true => println!("{}", serde_json::to_string_pretty(&document(one))?),
            false => print(one, &drills, told.now_ms),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn time(ms: u64) -> String {
    match ms {
        0 => "–".to_owned(),
        ms => when::rfc3339(ms),
    }
}

/// How far it is, or how it ended.
pub fn word(one: &Drill) -> &'static str {
    match (one.state(), one.end()) {
        (drill::State::Unspecified, _) => "unknown",
        (drill::State::Planned, _) => "planned",
        (drill::State::Approved, _) => "approved",
        (drill::State::Running, _) => "RUNNING",
        (drill::State::Ended, drill::End::Passed) => "passed",
        (drill::State::Ended, drill::End::Missed) => "goal missed",
        (drill::State::Ended, drill::End::Broken) => "PROMISE BROKEN",
        (drill::State::Ended, drill::End::Aborted) => "aborted",
        (drill::State::Ended, drill::End::Inconclusive) => "inconclusive",
        (drill::State::Ended, drill::End::Unspecified) => "ended",
    }
}

/// As JSON.
pub fn document(one: &Drill) -> serde_json::Value {
    let approvals: Vec<_> = one
        .approvals
        .iter()
        .map(|by| serde_json::json!({"who": by.who, "at_ms": by.at_ms}))
        .collect();
    let notes: Vec<_> = one
        .notes
        .iter()
        .map(|note| serde_json::json!({"at_ms": note.at_ms, "text": note.text}))
        .collect();
    let controller = one.controller.as_ref().map(|held| {
        serde_json::json!({
            "number": held.number, "who": held.who, "since_ms": held.since_ms, "heard_ms": held.heard_ms,
        })
    });
    let summary: serde_json::Value = serde_json::from_str(&one.summary).unwrap_or_default();
    serde_json::json!({
        "id": one.id, "state": word(one), "scenario": one.scenario, "target": one.target,
        "planned_by": one.planned_by, "planned_ms": one.planned_ms, "approvals": approvals,
        "controller": controller, "began_ms": one.began_ms, "ended_ms": one.ended_ms, "why": one.why,
        "notes": notes, "summary": summary, "standing": one.standing,
    })
}

fn print(one: &Drill, drills: &Drills, now_ms: u64) {
    println!("{}: {}", printable(&one.id), word(one));
    if !one.why.is_empty() {
        println!("  {}", printable(&one.why));
    }
    let by: Vec<String> = one.approvals.iter().map(|by| printable(&by.who)).collect();
    println!(
        "  planned by {} at {}",
        printable(&one.planned_by),
        time(one.planned_ms)
    );
    println!(
        "  approved by {} of {}: {}",
        by.len(),
        book::needed(drills),
        by.join(", ")
    );
    if let Some(held) = &one.controller {
        let ago = now_ms.saturating_sub(held.heard_ms) / 1_000;
        let heard = match one.state() == drill::State::Running {
            true => format!(", heard {ago} s ago"),
            false => String::new(),
        };
        println!(
            "  carried out by {} (number {}){heard}",
            printable(&held.who),
            held.number
        );
    }
    for note in &one.notes {
        let text =
            Live::of(&note.text).map_or_else(|| printable(&note.text), |live| figures(&live));
        println!("  {} {text}", when::clock(note.at_ms));
    }
    if !one.summary.is_empty() {
        println!("  {}", printable(&one.summary));
    }
}

/// The figures of a drill that runs, or of its last moment.
fn figures(live: &Live) -> String {
    let told = |figure: Option<u64>| figure.map_or_else(|| "–".to_owned(), |n| n.to_string());
    let measured = &live.measured;
    format!(
        "{} calls, failed {}, longest wait {} ms, replicas moved {}",
        live.calls,
        told(measured.failed),
        told(measured.gap_ms),
        told(measured.moves)
    )
}
