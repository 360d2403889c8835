//! The page Jobs: what is under way, and what it waits for.

use ratatui::text::Line;
use server::sight::api::jobs::Jobs;

use super::super::screen::Style;
use super::super::table::{cut, width, wrap};
use super::{GOOD, heading};

/// The page Jobs.
pub fn jobs(page: &Jobs, room: usize, style: Style) -> Vec<Line<'static>> {
    if page.jobs.is_empty() {
        let nothing = "nothing is under way: no move, drain, leave or rebuild";
        return vec![Line::styled(
            format!(" {GOOD} {}", cut(nothing, room - 3)),
            style.good(),
        )];
    }
    let mut lines = Vec::new();
    heading(
        &mut lines,
        format!("UNDER WAY ({})", page.jobs.len()),
        style,
    );
    for job in &page.jobs {
        let head = format!("{:<8}{}", job.kind, job.what);
        let indent = 8.min(room.saturating_sub(20));
        let head = wrap_kept(&head, room - 1, indent);
        lines.extend(
            head.into_iter()
                .map(|line| Line::styled(format!(" {line}"), style.head())),
        );
        let pct = job.done_pct.map(|pct| format!(", {pct:.0} % done"));
        let mut words = format!("{}{}", job.state, pct.unwrap_or_default());
        if !job.waits_for.is_empty() {
            words.push_str(&format!("; waits for: {}", job.waits_for));
        }
        let blanks = " ".repeat(indent + 1);
        let words = wrap(&words, room.saturating_sub(indent + 1), 0);
        lines.extend(
            words
                .into_iter()
                .map(|line| Line::raw(format!("{blanks}{line}"))),
        );
    }
    lines
}

/// As [`wrap`], with the blanks that a short text has.
fn wrap_kept(text: &str, room: usize, indent: usize) -> Vec<String> {
    match width(text) <= room {
        true => vec![text.to_owned()],
        false => wrap(text, room, indent),
    }
}
