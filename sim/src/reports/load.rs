//! The chart's panels of what the load saw: acknowledgements, latency, failed calls.

use std::fmt::Write as _;

use super::panels::colours;
use super::svg::{self, Axis, Panel, Steps, bar, key, step_area, step_line, stretched};
use super::words::{span, thousands};
use crate::outcome::{Outcome, Second};

pub(crate) fn acked(outcome: &Outcome, axis: Axis) -> Panel {
    const HEIGHT: u32 = 132;
    let mut sites: Vec<&str> = outcome
        .plan
        .workload
        .sites
        .iter()
        .map(|s| s.name.as_str())
        .collect();
    for second in &outcome.seconds {
        for site in second.acked.keys() {
            if !sites.contains(&site.as_str()) {
                sites.push(site);
            }
        }
    }
    let total = |second: &Second| second.acked.values().sum::<u64>();
    let most = svg::round_up(outcome.seconds.iter().map(total).max().unwrap_or(0));
    let y = |value: f64| f64::from(HEIGHT) - value / most as f64 * f64::from(HEIGHT - 8);
    let colours = colours(outcome);
    let mut panel = Panel {
        title: "Acknowledged appends per second".to_owned(),
        height: HEIGHT,
        ticks: [0, most / 2, most]
            .map(|n| (thousands(n), y(n as f64)))
            .into(),
        ..Panel::default()
    };
    let mut low: Steps = vec![Some(0.0); outcome.seconds.len()];
    let mut body = String::new();
    let mut seen: Vec<&str> = Vec::new();
    for site in sites {
        let of_site = |second: &Second| second.acked.get(site).copied().unwrap_or(0);
        let colour = colours.get(site).map_or("cx", String::as_str);
        let again = seen.contains(&colour);
        seen.push(colour);
        let class = format!("{colour}{}", if again { " second" } else { "" });
        let sum = outcome.seconds.iter().map(of_site).sum();
        panel.legend.push_str(&key(&class, site, Some(sum)));
        let added = low.iter().zip(&outcome.seconds);
        let high: Steps = added
            .map(|(low, s)| low.map(|low| low + of_site(s) as f64))
            .collect();
        let _ = write!(
            body,
            "<path class=\"area {class}\" d=\"{}\"/>",
            step_area(axis, &low, &high, y)
        );
        low = high;
    }
    panel.plot = stretched(HEIGHT, &body);
    panel.plot.push_str(&second_titles(outcome, axis, HEIGHT));
    if outcome.seconds.is_empty() {
        panel
            .plot
            .push_str("<text class=\"none\" x=\"8\" y=\"70\">nothing was sent</text>");
    }
    panel
}

pub(crate) fn latency(outcome: &Outcome, axis: Axis) -> Panel {
    const HEIGHT: u32 = 132;
    let steps = |of: fn(&Second) -> Option<u64>| -> Steps {
        let seconds = outcome.seconds.iter();
        seconds
            .map(|second| of(second).map(|ms| ms as f64))
            .collect()
    };
    let (p50, p99, max) = (
        steps(|s| s.p50_ms),
        steps(|s| s.p99_ms),
        steps(|s| s.max_ms),
    );
    let most = max
        .iter()
        .chain(&p99)
        .flatten()
        .fold(100.0_f64, |a, b| a.max(*b));
    let decades = most.log10().ceil();
    let y = |ms: f64| {
        let part = ms.max(1.0).log10() / decades;
        f64::from(HEIGHT) - part * f64::from(HEIGHT - 8)
    };
    let mut ticks = Vec::new();
    let mut ms = 1_u64;
    while (ms as f64).log10() <= decades + 0.01 && ticks.len() < 12 {
        let text = match ms {
            0..1_000 => format!("{ms} ms"),
            _ => format!("{} s", thousands(ms / 1_000)),
        };
        ticks.push((text, y(ms as f64)));
        ms = ms.saturating_mul(10);
    }
    let mut body = String::new();
    let _ = write!(
        body,
        "<path class=\"p5099\" d=\"{}\"/>",
        step_area(axis, &p50, &p99, y)
    );
    for (class, steps) in [("max", &max), ("p99", &p99), ("p50", &p50)] {
        let _ = write!(
            body,
            "<path class=\"curve {class}\" d=\"{}\"/>",
            step_line(axis, steps, y)
        );
    }
    let legend = [("p50", "p50"), ("p99", "p99"), ("max", "max")];
    let mut panel = Panel {
        title: "Append latency".to_owned(),
        legend: legend
            .map(|(class, text)| key(&format!("line {class}"), text, None))
            .concat(),
        ticks,
        height: HEIGHT,
        plot: stretched(HEIGHT, &body),
        ..Panel::default()
    };
    panel.plot.push_str(&second_titles(outcome, axis, HEIGHT));
    if p50.iter().all(Option::is_none) {
        panel
            .plot
            .push_str("<text class=\"none\" x=\"8\" y=\"70\">nothing was acknowledged</text>");
    }
    panel
}

pub(crate) fn failed(outcome: &Outcome, axis: Axis) -> Option<Panel> {
    const HEIGHT: u32 = 44;
    let most = outcome
        .seconds
        .iter()
        .map(|second| second.failed)
        .max()
        .filter(|n| *n > 0)?;
    let most = svg::round_up(most);
    let y = |value: f64| f64::from(HEIGHT) - value / most as f64 * f64::from(HEIGHT - 8);
    let high: Steps = outcome
        .seconds
        .iter()
        .map(|s| Some(s.failed as f64))
        .collect();
    let low: Steps = vec![Some(0.0); high.len()];
    let body = format!(
        "<path class=\"failed\" d=\"{}\"/>",
        step_area(axis, &low, &high, y)
    );
    Some(Panel {
        title: "Failed calls per second".to_owned(),
        legend: key("failed", "failed", Some(outcome.failed_calls)),
        ticks: [0, most].map(|n| (thousands(n), y(n as f64))).into(),
        height: HEIGHT,
        plot: stretched(HEIGHT, &body),
        ..Panel::default()
    })
}

/// A second in words.
fn second_text(second: &Second) -> String {
    let sites = second.acked.iter().filter(|(_, n)| **n > 0);
    let sites: Vec<String> = sites.map(|(site, n)| format!("{site} {n}")).collect();
    let total: u64 = second.acked.values().sum();
    let mut text = format!("{total} acked");
    if sites.len() > 1 {
        let _ = write!(text, " ({})", sites.join(", "));
    }
    for (name, ms) in [
        ("p50", second.p50_ms),
        ("p99", second.p99_ms),
        ("max", second.max_ms),
    ] {
        if let Some(ms) = ms {
            let _ = write!(text, " · {name} {}", span(ms));
        }
    }
    if second.failed > 0 {
        let _ = write!(text, " · {} failed", second.failed);
    }
    text
}

/// Seconds that get a tooltip each; a longer run has the crosshair only.
const TITLES_MAX: usize = 1_200;

fn second_titles(outcome: &Outcome, axis: Axis, height: u32) -> String {
    let seconds = (0_u64..).zip(&outcome.seconds).take(TITLES_MAX);
    let bars = seconds.map(|(n, second)| {
        let title = format!("{n} to {} s: {}", n + 1, second_text(second));
        bar(
            axis,
            "hit",
            (n * 1_000, (n + 1) * 1_000),
            (0, height),
            &title,
        )
    });
    bars.collect()
}

/// What the crosshair reads out: a text for each second. Safe inside a `script`.
pub(crate) fn data(outcome: &Outcome) -> String {
    let texts: Vec<String> = outcome.seconds.iter().map(second_text).collect();
    let json = serde_json::to_string(&texts).unwrap_or_else(|_| "[]".to_owned());
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}
