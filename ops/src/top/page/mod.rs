//! What the pages say, as lines.

mod jobs;
mod now;
mod shards;

use ratatui::text::{Line, Span};

use super::screen::{Page, Style};
use super::table::Column;
use crate::cmd::target::bytes;

pub use jobs::jobs;
pub use now::now;
pub use shards::shards;

/// In front of what is well, lost, and still.
const GOOD: &str = "✓";
const WARN: &str = "!";
const BAD: &str = "✗";
/// Where nothing is known or nothing was done.
const NONE: &str = "-";

/// In which ways a page is sorted.
pub fn sorts(page: Page) -> &'static [&'static str] {
    match page {
        Page::Now => &["worst first", "name", "leads", "acks/s", "p99", "gap"],
        Page::Shards => &["worst first", "number", "changes/s", "leader", "lag"],
        Page::Jobs => &[],
    }
}

fn column(head: &'static str, rank: u8) -> Column {
    Column {
        head,
        right: false,
        rank,
    }
}

fn number(head: &'static str, rank: u8) -> Column {
    Column {
        head,
        right: true,
        rank,
    }
}

/// Moves lines one to the right.
fn set_in(lines: Vec<Line<'static>>) -> Vec<Line<'static>> {
    let shift = |mut line: Line<'static>| {
        line.spans.insert(0, Span::raw(" "));
        line
    };
    lines.into_iter().map(shift).collect()
}

fn heading(lines: &mut Vec<Line<'static>>, text: String, style: Style) {
    if !lines.is_empty() {
        lines.push(Line::default());
    }
    lines.push(Line::styled(format!(" {text}"), style.head()));
}

/// `8.1 ms`, `1.2 s`.
fn ms(ms: f64) -> String {
    match ms {
        ms if ms < 100.0 => format!("{ms:.1} ms"),
        ms if ms < 10_000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1_000.0),
    }
}

fn or_none(text: Option<String>) -> String {
    text.unwrap_or_else(|| NONE.to_owned())
}
