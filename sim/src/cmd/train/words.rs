//! What is said to whoever is trained: where the cluster is, and at the end how it went.

use std::collections::BTreeMap;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Table};
use firebreak_sim::train::debrief::{Ended, Felt, Shows, Step};
use firebreak_sim::train::notes::What;
use firebreak_sim::train::{Debrief, Note};
use firebreak_sim::{Plan, Verdict};

/// Said where there is nothing to tell.
const NONE: &str = "–";

/// When the cluster serves.
pub(super) fn welcome(plan: &Plan, addresses: &[String], speed: f64) -> String {
    let mut dcs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for ((dc, _), address) in plan.topology.nodes().zip(addresses) {
        dcs.entry(&dc.name).or_default().push(address);
    }
    let mut text = String::from("The cluster serves. Its nodes:\n");
    for (dc, addresses) in &dcs {
        text += &format!("  {dc:<12} {}\n", addresses.join("  "));
    }
    let firsts: Vec<&str> = dcs
        .values()
        .filter_map(|all| all.first().copied())
        .collect();
    let console = firsts.first().copied().unwrap_or_default();
    let load_s = plan.workload.duration_ms / 1_000;
    text += &format!(
        "In another terminal:\n  export FIREBREAK_TARGET={}\n  firebreak status\nIn a browser: \
         http://{console}/\nIt lasts {load_s} s of its own time, {speed} to a real second. `done` and Enter, or \
         Ctrl-C, end it.",
        firsts.join(",")
    );
    text
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
}

fn after(ms: Option<u64>) -> String {
    ms.map_or_else(|| NONE.to_owned(), |ms| format!("+{}", seconds(ms)))
}

fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(head);
    table
}

fn right(text: impl Into<String>) -> Cell {
    Cell::new(text.into()).set_alignment(CellAlignment::Right)
}

/// At the end.
pub(super) fn debrief(debrief: &Debrief) -> String {
    let Debrief { scenario, seed, .. } = debrief;
    let ended = match debrief.ended {
        Ended::Over => "to its end".to_owned(),
        Ended::Done => format!("until you were done at {}", seconds(debrief.ended_at_ms)),
    };
    let mut text = format!("{scenario}, seed {seed}, {ended}.\n");
    if !debrief.saw_all() {
        text += "You did not see the first thing that happened.\n";
    }
    text += &format!("{}\n", steps(&debrief.steps));
    for Note { at_ms, what } in &debrief.asked {
        let (word, what) = match what {
            What::Rehearsed { what } => ("looked into", what),
            What::Asked { what } => ("asked for", what),
            What::Applied { what } => ("done", what),
            What::Refused { what } => ("refused", what),
            What::Looked { .. } | What::Silent { .. } => continue,
        };
        text += &format!("  {:>8}  {word}: {what}\n", seconds(*at_ms));
    }
    text += &felt(debrief);
    if let Some(best) = &debrief.best {
        let when = best
            .acts_at_ms
            .map_or_else(String::new, |ms| format!(" at {}", seconds(ms)));
        text += &format!(
            "\nThe best run of this seed: {}{when}: {}.",
            best.run, best.why
        );
    }
    if debrief.late_ms > 1_000 {
        text += &format!(
            "\nThis machine was too slow for the pace: its clock was {} behind at most.",
            seconds(debrief.late_ms)
        );
    }
    text
}

fn steps(steps: &[Step]) -> Table {
    let mut rows = table(&["what happened", "at", "to see", "to decide", "to act"]);
    for step in steps {
        let see = match step.event.shows {
            Shows::Nothing => "not shown".to_owned(),
            Shows::Gone | Shows::Back => after(step.to_see_ms()),
        };
        rows.add_row([
            Cell::new(&step.event.what),
            right(seconds(step.event.at_ms)),
            right(see),
            right(after(step.to_decide_ms())),
            right(after(step.to_act_ms())),
        ]);
    }
    rows
}

fn felt(debrief: &Debrief) -> String {
    let runs: Vec<&Felt> = std::iter::once(&debrief.felt)
        .chain(&debrief.others)
        .collect();
    let mut head = vec!["what clients felt"];
    head.extend(runs.iter().map(|run| run.run.as_str()));
    let mut rows = table(&head);
    let mut row = |name: &str, of: &dyn Fn(&Felt) -> String| {
        let cells = runs.iter().map(|run| right(of(run)));
        rows.add_row(std::iter::once(Cell::new(name)).chain(cells));
    };
    row("longest gap", &|run| format!("{} ms", run.gap_ms));
    row("failed calls", &|run| run.failed_calls.to_string());
    row("acknowledged", &|run| run.acked.to_string());
    row("of those lost", &|run| run.lost.to_string());
    row("promises", &|run| {
        let word = match run.verdict {
            Verdict::Held => "held",
            Verdict::GoalMissed => "a goal missed",
            Verdict::Broken => "broken",
        };
        word.to_owned()
    });
    let mut text = rows.to_string();
    for run in runs {
        if let Some(why) = &run.stopped {
            text += &format!("\n{}: stopped before its end: {why}", run.run);
        }
    }
    text
}
