//! What a sweep came to, for the terminal: scenario × verdict, what failed and how to see it again,
//! the longest gaps and the slowest runs.

use std::collections::BTreeMap;
use std::path::Path;

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, CellAlignment, Color, Table};
use firebreak_sim::Verdict;
use firebreak_sim::reports::{Skipped, Sweep, SweptRun};

use super::progress::failure;

/// Failures that are told with their commands.
const FAILURES_MAX: usize = 20;
/// Rows of the longest gaps and of the slowest runs.
const TOP: usize = 5;

#[derive(Default)]
struct Row {
    runs: u64,
    missed: u64,
    broken: u64,
    pending: u64,
    gap_ms: u64,
    sim_seconds: f64,
    wall_seconds: f64,
}

/// The summary of a sweep whose plans of failing runs are in `plans`.
pub(super) fn text(sweep: &Sweep, plans: &Path, colour: bool) -> String {
    let mut text = verdicts(sweep, colour);
    text.push_str(&failures(sweep, plans));
    let top = |key: &dyn Fn(&SweptRun) -> f64, show: &dyn Fn(&SweptRun) -> String| {
        let mut runs: Vec<&SweptRun> = sweep.runs.iter().collect();
        runs.sort_by(|a, b| key(b).total_cmp(&key(a)));
        let lines = runs.iter().take(TOP).map(|run| {
            let (scenario, seed) = (&run.scenario, run.seed);
            format!("  {:>9}  {scenario} seed {seed}\n", show(run))
        });
        lines.collect::<String>()
    };
    text.push_str("\nlongest gaps\n");
    text.push_str(&top(&|run| run.longest_gap_ms as f64, &|run| {
        format!("{} ms", run.longest_gap_ms)
    }));
    text.push_str("\nslowest runs\n");
    text.push_str(&top(&|run| run.wall_seconds, &|run| {
        format!("{:.1} s", run.wall_seconds)
    }));
    text.push_str(&totals(sweep));
    text.push_str(&skipped(&sweep.skipped));
    text
}

/// What was asked for and not run, by name; empty when there is nothing.
pub(crate) fn skipped(skipped: &[Skipped]) -> String {
    let Some(first) = skipped.first() else {
        return String::new();
    };
    let none: Vec<&str> = skipped
        .iter()
        .filter(|one| one.made == 0)
        .map(|one| one.scenario.as_str())
        .collect();
    let mut text = format!("\nNOT RUN: {}", first.why);
    if !none.is_empty() {
        text.push_str(&format!(
            "\n  {} scenarios were not run at all: {}",
            none.len(),
            none.join(", ")
        ));
    }
    for one in skipped.iter().filter(|one| one.made > 0) {
        text.push_str(&format!("\n  {}: {}", one.scenario, one.what()));
    }
    text.push_str("\n  they are skipped in the reports; --all-or-fail makes that exit code 1");
    text
}

fn verdicts(sweep: &Sweep, colour: bool) -> String {
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    for run in &sweep.runs {
        let row = rows.entry(&run.scenario).or_default();
        row.runs += 1;
        match run.verdict {
            Verdict::Held => {}
            Verdict::GoalMissed => row.missed += 1,
            Verdict::Broken => row.broken += 1,
        }
        row.pending += u64::from(!run.pending.is_empty());
        row.gap_ms = row.gap_ms.max(run.longest_gap_ms);
        row.sim_seconds += run.sim_seconds;
        row.wall_seconds += run.wall_seconds;
    }
    let mut table = Table::new();
    table.load_style(NOTHING).force_no_tty();
    if colour {
        table.enforce_styling();
    }
    let header = [
        "scenario",
        "runs",
        "held",
        "missed",
        "broken",
        "pending",
        "worst gap",
        "speed",
    ];
    table.set_header(header.map(|name| Cell::new(name).add_attribute(Attribute::Dim)));
    for (scenario, row) in rows {
        let number = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let bad = |count: u64, colour: Color| match count {
            0 => number("·".to_owned()),
            some => number(some.to_string())
                .fg(colour)
                .add_attribute(Attribute::Bold),
        };
        let speed = match row.wall_seconds > 0.0 {
            true => format!("{:.0} ×", row.sim_seconds / row.wall_seconds),
            false => String::new(),
        };
        table.add_row([
            Cell::new(scenario),
            number(row.runs.to_string()),
            number((row.runs - row.missed - row.broken).to_string()),
            bad(row.missed, Color::Yellow),
            bad(row.broken, Color::Red),
            bad(row.pending, Color::Yellow),
            number(format!("{} ms", row.gap_ms)),
            number(speed),
        ]);
    }
    let lines = table.lines();
    lines.map(|line| format!("{}\n", line.trim_end())).collect()
}

fn failures(sweep: &Sweep, plans: &Path) -> String {
    let mut failed: Vec<&SweptRun> = sweep.runs.iter().collect();
    failed.retain(|run| run.verdict != Verdict::Held);
    if failed.is_empty() {
        return String::new();
    }
    failed.sort_by_key(|run| std::cmp::Reverse(run.verdict));
    let mut text = String::from("\nfailures\n");
    for run in failed.iter().take(FAILURES_MAX) {
        text.push_str(&format!("  {}\n    again: {}\n", failure(run), run.command));
    }
    if let Some(more) = failed
        .len()
        .checked_sub(FAILURES_MAX)
        .filter(|more| *more > 0)
    {
        text.push_str(&format!("  and {more} more\n"));
    }
    text.push_str(&format!(
        "  their plans: {}/SCENARIO-SEED.plan.json, for `firebreak sim shrink`\n",
        plans.display()
    ));
    text
}

fn totals(sweep: &Sweep) -> String {
    let runs = &sweep.runs;
    let count = |verdict| runs.iter().filter(|run| run.verdict == verdict).count();
    format!(
        "\n{} runs: {} held, {} missed a goal, {} broke a promise; {:.0} simulated seconds in {:.0} s",
        runs.len(),
        count(Verdict::Held),
        count(Verdict::GoalMissed),
        count(Verdict::Broken),
        runs.iter().map(|run| run.sim_seconds).sum::<f64>(),
        sweep.wall_seconds
    )
}
