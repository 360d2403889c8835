//! Small drawings of a drill's page: predicted, simulated and measured on one line, and each client's
//! longest wait. Shapes are placed in percent, so that they are as wide as the page.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use server::drill::paper::Paper;

use super::facts::{Row, Standing};
use crate::reports::words::{escape, span};

/// Waits below this stand at the left edge, ms.
const LEAST_MS: f64 = 10.0;
/// Height of a data center's row of dots.
const ROW: u32 = 26;

/// Predicted (a line), simulated (a band from p50 to p99, a line to the worst) and measured (a dot).
pub(super) fn strip(row: &Row) -> String {
    let seeds = row.simulated.unwrap_or_default();
    // Far below 2^52.
    let measured = row.measured as f64;
    let predicted = row.predicted.map(|n| n as f64);
    let most = [measured, seeds.max, predicted.unwrap_or(0.0), 1.0];
    let most = most.into_iter().fold(0.0, f64::max) * 1.06;
    let x = |value: f64| format!("{:.2}%", value / most * 100.0);
    let wide = |from: f64, to: f64| format!("{:.2}%", ((to - from) / most * 100.0).max(0.6));
    let mut shapes =
        String::from("<line class=\"base\" x1=\"0\" x2=\"100%\" y1=\"13\" y2=\"13\"/>");
    if row.simulated.is_some() {
        // Writing to a String cannot fail.
        let _ = write!(
            shapes,
            "<rect class=\"band\" x=\"{}\" width=\"{}\" y=\"8\" height=\"10\" rx=\"3\"/>\
             <line class=\"worst\" x1=\"{}\" x2=\"{}\" y1=\"13\" y2=\"13\"/>\
             <line class=\"worst\" x1=\"{}\" x2=\"{}\" y1=\"9\" y2=\"17\"/>",
            x(seeds.p50),
            wide(seeds.p50, seeds.p99),
            x(seeds.p99),
            x(seeds.max),
            x(seeds.max),
            x(seeds.max)
        );
    }
    if let Some(predicted) = predicted {
        let at = x(predicted);
        let _ = write!(
            shapes,
            "<line class=\"said\" x1=\"{at}\" x2=\"{at}\" y1=\"4\" y2=\"22\"/>"
        );
    }
    let class = match row.standing {
        Standing::Worse => "dot worse",
        Standing::Within | Standing::Unknown => "dot",
    };
    let _ = write!(
        shapes,
        "<circle class=\"{class}\" cx=\"{}\" cy=\"13\" r=\"5.5\"/>",
        x(measured)
    );
    format!("<svg class=\"strip\" height=\"26\" aria-hidden=\"true\">{shapes}</svg>")
}

/// Each client's longest wait, by data center, on a logarithmic scale.
pub(super) fn waits(paper: &Paper) -> String {
    let clients = &paper.measured.clients;
    let most = clients
        .iter()
        .map(|client| client.gap_ms)
        .max()
        .unwrap_or(0);
    if clients.is_empty() {
        return "<p class=\"empty\">No clients were there.</p>".to_owned();
    }
    let most = (most as f64 * 1.4).max(1_000.0);
    let scale = |ms: f64| (ms.max(LEAST_MS) / LEAST_MS).ln() / (most / LEAST_MS).ln();
    let x = |ms: f64| format!("{:.2}%", 1.0 + scale(ms) * 97.0);
    let mut by_dc: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for client in clients {
        by_dc.entry(&client.dc).or_default().push(client);
    }
    // The colours of the lanes: data centers in the order of the map.
    let mut order: Vec<&str> = Vec::new();
    for node in &paper.cluster.nodes {
        if !order.contains(&node.dc.as_str()) {
            order.push(&node.dc);
        }
    }
    let colour = |dc: &str| {
        order
            .iter()
            .position(|one| *one == dc)
            .map_or(5, |at| at % 6)
    };
    let rows = u32::try_from(by_dc.len()).unwrap_or(1);
    let height = rows * ROW;
    let (mut shapes, mut names) = (String::new(), String::new());
    let ticks = [10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000_u32];
    for tick in ticks.into_iter().filter(|ms| f64::from(*ms) <= most) {
        let at = x(f64::from(tick));
        let anchor = if tick == 10 { "start" } else { "middle" };
        // Writing to a String cannot fail.
        let _ = write!(
            shapes,
            "<line class=\"grid\" x1=\"{at}\" x2=\"{at}\" y1=\"0\" y2=\"{height}\"/>\
             <text class=\"tick\" x=\"{at}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            height + 14,
            span(u64::from(tick))
        );
    }
    for (row, (dc, clients)) in (0..).zip(&by_dc) {
        let y = row * ROW + ROW / 2;
        let _ = write!(
            names,
            "<li><i class=\"dot c{}\"></i>{}</li>",
            colour(dc),
            escape(dc)
        );
        for (at, client) in (0_u32..).zip(clients) {
            // So that those of one wait do not hide each other.
            let y = y - 6 + at % 3 * 6;
            let _ = write!(
                shapes,
                "<circle class=\"wait c{}\" cx=\"{}\" cy=\"{y}\" r=\"4\"><title>{}, {}: {}</title></circle>",
                colour(dc),
                x(client.gap_ms as f64),
                escape(&client.client),
                escape(&client.kind),
                span(client.gap_ms)
            );
        }
    }
    format!(
        "<div class=\"waits\"><ul style=\"--row:{ROW}px\">{names}</ul>\
         <svg height=\"{}\" role=\"img\" aria-label=\"Each client's longest wait\">{shapes}</svg></div>",
        height + 20
    )
}
