//! The terminal's report.

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, CellAlignment, Color, Row, Table};

use super::standing::{Standing, evidence, goal_standing, headline, standing};
use super::words::{moment, span, thousands};
use crate::outcome::{Outcome, Promise, Verdict};
use crate::plan::{DiskKind, Tier};

/// What the terminal shows of a run: verdict, promises, goals, numbers, what was done, evidence and
/// the command that repeats it. With `colour`, ANSI escapes; without, none. Ends without a newline.
pub fn text(outcome: &Outcome, colour: bool) -> String {
    let mut text = head(outcome, colour);
    let mut part = |part: String| {
        if !part.is_empty() {
            text.push('\n');
            text.push_str(&part);
        }
    };
    part(promises(outcome, colour));
    part(goals(outcome, colour));
    part(numbers(outcome, colour));
    part(timeline(outcome, colour));
    part(evidence_lines(outcome));
    part(control(outcome, colour));
    text.push_str(&format!("\nagain: {}", outcome.command()));
    text
}

fn head(outcome: &Outcome, colour: bool) -> String {
    let plan = &outcome.plan;
    let tier = match plan.tier {
        Tier::Grpc => "gRPC",
        Tier::Direct => "direct calls",
    };
    let disk = match plan.disk {
        DiskKind::Memory => "simulated disks",
        DiskKind::Rocksdb => "RocksDB",
    };
    let (sign, code) = match (outcome.verdict, &outcome.stopped) {
        (Verdict::Held, None) => ("✓ HELD", "1;32"),
        (Verdict::Held | Verdict::GoalMissed, Some(_)) => ("! STOPPED", "1;33"),
        (Verdict::GoalMissed, None) => ("! GOAL MISSED", "1;33"),
        (Verdict::Broken, _) => ("✗ BROKEN", "1;31"),
    };
    let title = paint(&plan.scenario, "1", colour);
    let sign = paint(sign, code, colour);
    let about = match plan.about.is_empty() {
        true => String::new(),
        false => format!("{}\n", plan.about),
    };
    let (seed, why) = (plan.seed, headline(outcome));
    format!("{title} · seed {seed} · {tier} · {disk}\n{about}\n{sign}  {why}\n")
}

fn promises(outcome: &Outcome, colour: bool) -> String {
    let mut table = table(colour, &["", "", "promise", "looked at", ""]);
    for promise in Promise::ALL {
        let standing = standing(outcome, promise);
        let judged = outcome.promises.get(&promise);
        let looked_at = judged.map_or(0, |judged| judged.looked_at);
        let note = match (judged.and_then(|j| j.pending.as_deref()), standing) {
            (Some(why), Standing::Pending) => format!("pending: {why}"),
            (Some(why), _) => format!("{} (was pending: {why})", standing.label(promise)),
            (None, _) => standing.label(promise).to_owned(),
        };
        let looked_at = match looked_at {
            0 => String::new(),
            some => thousands(some),
        };
        table.add_row(Row::from(vec![
            sign(standing),
            Cell::new(promise.letter()).add_attribute(Attribute::Bold),
            Cell::new(promise.word()),
            Cell::new(looked_at).set_alignment(CellAlignment::Right),
            tint(Cell::new(note), standing),
        ]));
    }
    lines(&table)
}

fn goals(outcome: &Outcome, colour: bool) -> String {
    if outcome.goals.is_empty() {
        return String::new();
    }
    let mut table = table(colour, &["", "goal", "limit", "measured", ""]);
    for goal in &outcome.goals {
        let standing = goal_standing(goal);
        let note = match (&goal.pending, standing) {
            (Some(why), Standing::Pending) => format!("pending: {why}"),
            (Some(why), _) => format!("was pending: {why}"),
            (None, Standing::Failed) => "missed".to_owned(),
            (None, _) => String::new(),
        };
        table.add_row(Row::from(vec![
            sign(standing),
            Cell::new(&goal.name),
            Cell::new(&goal.limit).set_alignment(CellAlignment::Right),
            tint(Cell::new(&goal.measured), standing).set_alignment(CellAlignment::Right),
            tint(Cell::new(note), standing),
        ]));
    }
    lines(&table)
}

fn numbers(outcome: &Outcome, colour: bool) -> String {
    let mut table = table(colour, &[]);
    let (from, to) = outcome.longest_gap_at_ms;
    let gap = match outcome.longest_gap_ms {
        0 => "none seen".to_owned(),
        gap => format!("{} ({} to {})", span(gap), moment(from), moment(to)),
    };
    let or_none = |ms: Option<u64>| ms.map_or_else(|| "nothing to recover".to_owned(), span);
    let speed = match outcome.wall_seconds > 0.0 {
        true => format!(
            ", {:.1} × real time",
            outcome.sim_seconds / outcome.wall_seconds
        ),
        false => String::new(),
    };
    for (name, value) in [
        (
            "load",
            format!(
                "{} acked, {} reads, {} tailed, {} retries, {} failed calls",
                thousands(outcome.acked),
                thousands(outcome.reads),
                thousands(outcome.tailed),
                thousands(outcome.retries),
                thousands(outcome.failed_calls)
            ),
        ),
        ("longest gap", gap),
        (
            "recovery point",
            format!("{} acked messages lost", thousands(outcome.lost)),
        ),
        ("recovery time", or_none(outcome.rto_ms)),
        ("after last heal", or_none(outcome.recovery_ms)),
        (
            "simulated",
            format!(
                "{:.1} s in {:.1} s{speed}",
                outcome.sim_seconds, outcome.wall_seconds
            ),
        ),
        (
            "trace",
            format!(
                "{} ({} events)",
                outcome.trace_hash,
                thousands(outcome.trace_events)
            ),
        ),
    ] {
        table.add_row(Row::from(vec![
            Cell::new(name).add_attribute(Attribute::Dim),
            Cell::new(value),
        ]));
    }
    lines(&table)
}

/// Rows that a long timeline is cut to.
const TIMELINE_MAX: usize = 12;

fn timeline(outcome: &Outcome, colour: bool) -> String {
    if outcome.timeline.is_empty() {
        return String::new();
    }
    let mut table = table(colour, &["at", "", "what"]);
    for mark in outcome.timeline.iter().take(TIMELINE_MAX) {
        let way = if mark.ends { "end" } else { "begin" };
        table.add_row(Row::from(vec![
            Cell::new(moment(mark.at_ms)).set_alignment(CellAlignment::Right),
            Cell::new(way).add_attribute(Attribute::Dim),
            Cell::new(match &mark.story {
                Some(story) => format!("{} ({story})", mark.text),
                None => mark.text.clone(),
            }),
        ]));
    }
    let mut text = lines(&table);
    let more = outcome.timeline.len().saturating_sub(TIMELINE_MAX);
    if more > 0 {
        text.push_str(&format!("  and {more} more\n"));
    }
    text
}

fn evidence_lines(outcome: &Outcome) -> String {
    let mut text = String::new();
    for promise in Promise::ALL {
        for broken in evidence(outcome, promise) {
            let (letter, oracle) = (promise.letter(), &broken.oracle);
            text.push_str(&format!("  {letter} {oracle}: {}\n", broken.evidence));
        }
    }
    for call in &outcome.failed {
        text.push_str(&format!("  failed: {call}\n"));
    }
    match text.is_empty() {
        true => text,
        false => format!("evidence\n{text}"),
    }
}

fn control(outcome: &Outcome, colour: bool) -> String {
    let Some(control) = &outcome.control else {
        return String::new();
    };
    let failed = control.verdict != Verdict::Held;
    let said = match failed {
        true => paint("fails visibly, as it must", "32", colour),
        false => paint("held, though it must fail visibly", "1;31", colour),
    };
    format!(
        "control layout {said}\n  {}\n  {} lost, longest gap {}, {} failed calls\n",
        headline(control),
        thousands(control.lost),
        span(control.longest_gap_ms),
        thousands(control.failed_calls)
    )
}

fn table(colour: bool, header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    // Whether to colour is the caller's to say, not the terminal's.
    table.force_no_tty();
    if colour {
        table.enforce_styling();
    }
    if !header.is_empty() {
        let dim = |name: &&str| Cell::new(name).add_attribute(Attribute::Dim);
        table.set_header(header.iter().map(dim));
    }
    table
}

/// The table's lines without what pads them at their ends.
fn lines(table: &Table) -> String {
    let mut text = String::new();
    for line in table.lines() {
        text.push(' ');
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn sign(standing: Standing) -> Cell {
    tint(Cell::new(standing.sign()), standing)
}

fn tint(cell: Cell, standing: Standing) -> Cell {
    match standing {
        Standing::Held => cell.fg(Color::Green),
        Standing::Failed => cell.fg(Color::Red).add_attribute(Attribute::Bold),
        Standing::Tolerated | Standing::Pending => cell.fg(Color::Yellow),
        Standing::NotJudged => cell.add_attribute(Attribute::Dim),
    }
}

fn paint(text: &str, code: &str, colour: bool) -> String {
    match colour {
        true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        false => text.to_owned(),
    }
}
