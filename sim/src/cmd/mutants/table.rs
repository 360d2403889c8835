//! What became of the mutants, for the terminal.

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table};

use super::hunt::Hunt;

/// How wide the table is where there is no terminal.
const COLUMNS: u16 = 160;
/// A row for each, and how many were caught.
pub(super) fn table(hunts: &[Hunt<'_>], colour: bool) -> String {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    let columns = table.width().unwrap_or(COLUMNS);
    table.force_no_tty().set_width(columns);
    if colour {
        table.enforce_styling();
    }
    let header = ["", "mutant", "bug", "caught by", "scenario", "seeds", "ms"];
    table.set_header(header.map(|name| Cell::new(name).add_attribute(Attribute::Dim)));
    for hunt in hunts {
        let (sign, by) = match (&hunt.caught, hunt.mutant.pending) {
            (Some(caught), _) => (Cell::new("✓").fg(Color::Green), Cell::new(&caught.symptom)),
            (None, Some(why)) => (
                Cell::new("…").fg(Color::Yellow),
                Cell::new(format!("pending: {why}")),
            ),
            (None, None) => (Cell::new("✗").fg(Color::Red), Cell::new(hunt.escape())),
        };
        let result = hunt.result();
        let number = |number: u64| Cell::new(number).set_alignment(CellAlignment::Right);
        table.add_row([
            sign,
            Cell::new(hunt.mutant.name),
            Cell::new(hunt.mutant.bug),
            by,
            Cell::new(&result.scenario),
            number(hunt.tried),
            number(result.wall_ms),
        ]);
    }
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    let caught = hunts.iter().filter(|hunt| hunt.caught.is_some()).count();
    let pending = hunts.iter().filter(|hunt| hunt.mutant.pending.is_some());
    format!(
        "{}\n{} mutants: {caught} caught, {} not, {} pending",
        lines.join("\n"),
        hunts.len(),
        hunts.iter().filter(|hunt| hunt.is_open()).count(),
        pending.count()
    )
}
