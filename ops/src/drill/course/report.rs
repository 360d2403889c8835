//! What came of each drill, for people and for machines.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;
use server::drill::paper::{End, Moment, Paper};

use crate::canary::who::{ANY, Who};
use crate::canary::{Call, judge};
use crate::cmd::drill::code;

/// What the files are called.
const JSON: &str = "drills.json";
const MARKDOWN: &str = "drills.md";

/// One drill.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The scenario.
    pub scenario: String,
    /// The drill's name.
    pub drill: String,
    /// The data center that it befell; empty where it befell all.
    pub dc: String,
    /// How it ended.
    pub end: End,
    /// Why, in a sentence.
    pub why: String,
    /// What the longest wait was to be at most, ms.
    pub goal_ms: Option<u64>,
    /// Of the Rust client's appends, and of plain clients whose one gateway lives through it, ms.
    pub longest_gap_ms: u64,
    /// Whose that was.
    pub whose: String,
    /// 99 of 100 of those waits are not longer, ms.
    pub p99_gap_ms: u64,
    /// Of the Rust client's reads at LINEARIZABLE, ms.
    pub longest_read_ms: u64,
    /// Of plain clients that are told one node of each data center, ms.
    pub plain_longest_gap_ms: u64,
    /// The longest wait by kind of client, ms.
    pub clients: BTreeMap<String, u64>,
    /// What 99 of 100 seeds of the rehearsal had at most, ms.
    pub simulated_p99_gap_ms: Option<f64>,
    /// Whether the rehearsal met every goal.
    pub simulated_well: bool,
    /// Calls of all clients.
    pub calls: u64,
    /// Of them failed.
    pub failed_calls: u64,
    /// Acknowledged, and not there.
    pub lost: u64,
    /// There more than once.
    pub duplicated: u64,
    /// Not in their order.
    pub reordered: u64,
    /// Reads that showed less than their level promises.
    pub stale: u64,
    /// How late this machine was at worst, ms: waits include that.
    pub machine_late_ms: u64,
    /// What was other than planned.
    pub deviations: Vec<String>,
    #[serde(skip)]
    ended: u8,
}

impl Row {
    /// What a drill's folder tells; `ended` and `rehearsed` are exit codes.
    ///
    /// # Errors
    /// When a file of it cannot be read.
    pub fn of(dir: &Path, ended: u8, rehearsed: u8) -> anyhow::Result<Row> {
        let read = |file: &str| {
            let path = dir.join(file);
            fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))
        };
        let paper: Paper = serde_json::from_str(&read("paper.json")?).context("paper.json")?;
        let ledger = read("ledger.jsonl")?;
        let calls: Result<Vec<Call>, _> = ledger.lines().map(serde_json::from_str).collect();
        Ok(Row::new(
            &paper,
            &calls.context("ledger.jsonl")?,
            ended,
            rehearsed,
        ))
    }

    fn new(paper: &Paper, calls: &[Call], ended: u8, rehearsed: u8) -> Row {
        let inject = paper
            .timeline
            .iter()
            .find(|one| one.moment == Moment::Inject);
        let since_us = inject.map_or(0, |one| one.at_ms.saturating_mul(1_000));
        let (mut judged, mut reads) = (judge::Waits::default(), judge::Waits::default());
        let mut clients: BTreeMap<String, u64> = BTreeMap::new();
        for (name, waits) in judge::waits(calls, since_us) {
            let who = Who::of(name);
            let most = clients
                .entry(format!("{} {}", who.language, who.kind))
                .or_default();
            *most = waits.longest_ms().max(*most);
            match who.kind {
                "read-linearizable" => reads.add(&waits),
                _ if who.is_judged() => judged.add(&waits),
                _ => {}
            }
        }
        let plain = |kind: &(&String, &u64)| kind.0.ends_with(ANY);
        let measured = &paper.measured;
        Row {
            scenario: paper.plan.scenario.clone(),
            drill: paper.plan.id.clone(),
            dc: paper.plan.target.clone(),
            end: paper.end,
            why: paper.why.clone(),
            goal_ms: paper.plan.goals.gap_ms,
            longest_gap_ms: measured.gap_ms,
            whose: measured.gap_whose.clone(),
            p99_gap_ms: judged.p99_ms(),
            longest_read_ms: reads.longest_ms(),
            plain_longest_gap_ms: clients
                .iter()
                .filter(plain)
                .map(|one| *one.1)
                .max()
                .unwrap_or(0),
            clients,
            simulated_p99_gap_ms: paper.rehearsal.as_ref().map(|one| one.calm.gap_ms.p99),
            simulated_well: rehearsed == 0,
            calls: measured.calls,
            failed_calls: measured.failed,
            lost: measured.lost,
            duplicated: measured.duplicated,
            reordered: measured.reordered,
            stale: measured.stale,
            machine_late_ms: measured.late_ms,
            deviations: paper.deviations.clone(),
            ended,
        }
    }

    /// As the exit code of a drill: also a read that waits too long misses the goal.
    pub fn code(&self) -> u8 {
        let late = self.goal_ms.is_some_and(|goal| self.longest_read_ms > goal);
        match self.ended {
            0 if late => code::MISSED,
            ended => ended,
        }
    }

    /// On a line, for whoever watches.
    pub fn line(&self) -> String {
        let by_client = self.clients.iter().map(|(kind, ms)| format!("{kind} {ms}"));
        let by_client: Vec<String> = by_client.collect();
        format!(
            "{}: gap {} ms (p99 {}, {}), reads {} ms, {} calls, failed {}, lost {}, duplicated {}; by client: {}; \
             machine late by {} ms at worst",
            self.end.word(),
            self.longest_gap_ms,
            self.p99_gap_ms,
            self.whose,
            self.longest_read_ms,
            self.calls,
            self.failed_calls,
            self.lost,
            self.duplicated,
            by_client.join(", "),
            self.machine_late_ms
        )
    }
}

/// The table's head.
const HEAD: [&str; 12] = [
    "drill",
    "goal ms",
    "longest gap ms, each run",
    "p99",
    "reads",
    "plain clients",
    "simulated p99",
    "failed",
    "lost",
    "duplicated",
    "machine late",
    "",
];

/// A row for each scenario.
fn cells(rows: &[Row]) -> Vec<[String; 12]> {
    let mut by_scenario: Vec<(&str, Vec<&Row>)> = Vec::new();
    for row in rows {
        match by_scenario
            .iter_mut()
            .find(|(name, _)| *name == row.scenario)
        {
            Some((_, held)) => held.push(row),
            None => by_scenario.push((&row.scenario, vec![row])),
        }
    }
    let cells = |(scenario, runs): (&str, Vec<&Row>)| {
        let worst = |of: fn(&Row) -> u64| {
            runs.iter()
                .map(|row| of(row))
                .max()
                .unwrap_or(0)
                .to_string()
        };
        let sum = |of: fn(&Row) -> u64| runs.iter().map(|row| of(row)).sum::<u64>().to_string();
        let gaps: Vec<String> = runs
            .iter()
            .map(|row| row.longest_gap_ms.to_string())
            .collect();
        let goal = runs.first().and_then(|row| row.goal_ms);
        let simulated = runs.iter().filter_map(|row| row.simulated_p99_gap_ms);
        let simulated = simulated.reduce(f64::max);
        let bad = runs.iter().find(|row| row.code() != 0);
        [
            scenario.to_owned(),
            goal.map_or_else(|| "–".to_owned(), |goal| format!("≤ {goal}")),
            gaps.join(" "),
            worst(|row| row.p99_gap_ms),
            worst(|row| row.longest_read_ms),
            worst(|row| row.plain_longest_gap_ms),
            simulated.map_or_else(|| "–".to_owned(), |ms| format!("{ms:.0}")),
            sum(|row| row.failed_calls),
            sum(|row| row.lost),
            sum(|row| row.duplicated),
            worst(|row| row.machine_late_ms),
            match bad {
                Some(row) if row.ended == 0 => "a read waited too long".to_owned(),
                Some(row) => row.end.word().to_owned(),
                None => "passed".to_owned(),
            },
        ]
    };
    by_scenario.into_iter().map(cells).collect()
}

/// For a terminal.
pub fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(HEAD);
    for row in cells(rows) {
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1).take(10) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// Writes what is known so far.
///
/// # Errors
/// When a file cannot be written.
pub fn save(dir: &Path, rows: &[Row]) -> anyhow::Result<()> {
    let write = |file: &str, text: String| {
        let path = dir.join(file);
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))
    };
    write(JSON, serde_json::to_string_pretty(rows)? + "\n")?;
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&HEAD.map(str::to_owned));
    text += &line(&HEAD.map(|_| "---".to_owned()));
    cells(rows).iter().for_each(|row| text += &line(row));
    write(MARKDOWN, text)
}
