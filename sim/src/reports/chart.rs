//! A run's chart: faults, gap, leaders, acknowledgements, latency and failed calls, one below the
//! other on one time axis, so that a fault can be read downwards.

use std::fmt::Write as _;

use super::svg::{self, Axis, Panel, bar};
use super::words::{moment, span};
use super::{load, panels};
use crate::outcome::Outcome;

/// The whole chart.
pub(crate) fn chart(outcome: &Outcome) -> String {
    let axis = axis(outcome);
    let mut panels = String::new();
    for panel in [
        Some(times(axis)),
        Some(panels::faults(outcome, axis)),
        gap(outcome, axis),
        Some(panels::leaders(outcome, axis)),
        Some(load::acked(outcome, axis)),
        Some(load::latency(outcome, axis)),
        load::failed(outcome, axis),
        Some(times(axis)),
    ]
    .into_iter()
    .flatten()
    {
        panels.push_str(&panel.html());
    }
    format!(
        "<div class=\"chart\" data-end=\"{}\">{}{panels}{}\
         <div class=\"cross\"></div><div class=\"read\"></div>\
         <script type=\"application/json\">{}</script></div>\n",
        axis.end_ms,
        behind(outcome, axis),
        over(outcome, axis),
        load::data(outcome)
    )
}

/// The load's time, or more where something happened later.
fn axis(outcome: &Outcome) -> Axis {
    let seconds = u64::try_from(outcome.seconds.len()).unwrap_or(0) * 1_000;
    let marks = outcome.timeline.iter().map(|mark| mark.at_ms).max();
    let end_ms = outcome.plan.workload.duration_ms.max(seconds);
    Axis {
        end_ms: end_ms.max(marks.unwrap_or(0)).max(1),
    }
}

/// When a run that stopped before its end did, as far as can be seen; none when it did not.
pub(crate) fn stopped_ms(outcome: &Outcome, axis: Axis) -> Option<u64> {
    outcome.stopped.as_ref()?;
    let seconds = u64::try_from(outcome.seconds.len()).unwrap_or(0) * 1_000;
    let marks = outcome.timeline.iter().map(|mark| mark.at_ms).max();
    let last = seconds.max(marks.unwrap_or(0));
    (last < axis.end_ms).then_some(last)
}

/// What lies behind all panels: the grid, and what the run did not reach.
fn behind(outcome: &Outcome, axis: Axis) -> String {
    let mut shapes = String::new();
    for tick in axis.ticks() {
        shapes.push_str(&rule("grid", axis, tick));
    }
    if let Some(at) = stopped_ms(outcome, axis) {
        shapes.push_str(&bar(axis, "never", (at, axis.end_ms), ("0", "100%"), ""));
    }
    format!("<svg class=\"layer\" aria-hidden=\"true\">{shapes}</svg>")
}

/// Begins of faults, of which more would hide what they point at.
const BEGINS_MAX: usize = 40;

/// What lies over all panels: begins of faults, and the gap.
fn over(outcome: &Outcome, axis: Axis) -> String {
    let mut shapes = String::new();
    let begins = outcome.timeline.iter().filter(|mark| !mark.ends);
    let mut begins: Vec<u64> = begins.map(|mark| mark.at_ms).collect();
    begins.dedup();
    let class = if begins.len() > 8 {
        "begin faint"
    } else {
        "begin"
    };
    if begins.len() <= BEGINS_MAX {
        begins
            .iter()
            .for_each(|at| shapes.push_str(&rule(class, axis, *at)));
    }
    if outcome.longest_gap_ms > 0 {
        let (from, to) = outcome.longest_gap_at_ms;
        shapes.push_str(&bar(axis, "gap", (from, to), ("0", "100%"), ""));
    }
    format!("<svg class=\"layer\" aria-hidden=\"true\">{shapes}</svg>")
}

fn rule(class: &str, axis: Axis, ms: u64) -> String {
    let x = axis.x(ms);
    format!("<line class=\"{class}\" x1=\"{x}\" x2=\"{x}\" y1=\"0\" y2=\"100%\"/>")
}

fn times(axis: Axis) -> Panel {
    let mut plot = String::new();
    for (at, tick) in axis.ticks().into_iter().enumerate() {
        // Half of them have room on a telephone.
        let class = if at % 2 == 0 { "tick" } else { "tick more" };
        let anchor = match axis.part(tick) {
            part if part < 0.02 => "start",
            part if part > 0.98 => "end",
            _ => "middle",
        };
        let (x, text) = (axis.x(tick), svg::tick_text(axis, tick));
        let _ = write!(
            plot,
            "<text class=\"{class}\" x=\"{x}\" y=\"14\" text-anchor=\"{anchor}\">{text}</text>"
        );
    }
    Panel {
        height: 20,
        plot,
        ..Panel::default()
    }
}

fn gap(outcome: &Outcome, axis: Axis) -> Option<Panel> {
    let (from, to) = outcome.longest_gap_at_ms;
    if outcome.longest_gap_ms == 0 || from >= to {
        return None;
    }
    let title = format!("{} to {}", moment(from), moment(to));
    let text = format!("{}, {title}", span(outcome.longest_gap_ms));
    let mut plot = bar(axis, "gapbar", (from, to), (5, 14), &title);
    // Behind the bar, before it, or in it: where there is room.
    let (x, dx, anchor) = match (axis.part(from) > 0.4, axis.part(to) > 0.6) {
        (_, false) => (axis.x(to), 6, "start"),
        (true, true) => (axis.x(from), -6, "end"),
        (false, true) => (axis.x(from), 6, "start"),
    };
    let _ = write!(
        plot,
        "<text class=\"label\" x=\"{x}\" dx=\"{dx}\" y=\"16\" text-anchor=\"{anchor}\">{text}</text>"
    );
    Some(Panel {
        rows: vec![("longest gap".to_owned(), 12.0)],
        height: 24,
        plot,
        ..Panel::default()
    })
}
