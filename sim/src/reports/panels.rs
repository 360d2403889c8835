//! A run's chart: faults, gap, leaders, acknowledgements, latency and failed calls, one below the
//! other on one time axis, so that a fault can be read downwards.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::lanes::{self, Held, Reign};
use super::svg::{self, Axis, Panel, Steps, bar, key, step_area, step_line, stretched};
use super::{escape, moment, span};
use crate::outcome::{Outcome, Second};

/// Data centers that have a colour of their own; further ones share the last.
const COLOURS: usize = 6;

/// The whole chart.
pub(crate) fn chart(outcome: &Outcome) -> String {
    let axis = axis(outcome);
    let mut panels = String::new();
    for panel in [
        Some(times(axis)),
        Some(faults(outcome, axis)),
        gap(outcome, axis),
        Some(leaders(outcome, axis)),
        Some(acked(outcome, axis)),
        Some(latency(outcome, axis)),
        failed(outcome, axis),
        Some(times(axis)),
    ]
    .into_iter()
    .flatten()
    {
        panels.push_str(&panel.html());
    }
    format!(
        "<div class=\"chart\" data-end=\"{}\">{}{panels}\
         <div class=\"cross\"></div><div class=\"read\"></div>\
         <script type=\"application/json\">{}</script></div>\n",
        axis.end_ms,
        backdrop(outcome, axis),
        data(outcome)
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
fn stopped_ms(outcome: &Outcome, axis: Axis) -> Option<u64> {
    outcome.stopped.as_ref()?;
    let seconds = u64::try_from(outcome.seconds.len()).unwrap_or(0) * 1_000;
    let marks = outcome.timeline.iter().map(|mark| mark.at_ms).max();
    let last = seconds.max(marks.unwrap_or(0));
    (last < axis.end_ms).then_some(last)
}

/// What lies behind all panels: the grid, begins of faults, the gap, and what was not reached.
fn backdrop(outcome: &Outcome, axis: Axis) -> String {
    let mut shapes = String::new();
    let full = "y=\"0\" height=\"100%\"";
    if outcome.longest_gap_ms > 0 {
        let (from, to) = outcome.longest_gap_at_ms;
        let (x, width) = (axis.x(from), axis.width(from, to));
        let _ = write!(
            shapes,
            "<rect class=\"gap\" x=\"{x}\" width=\"{width}\" {full}/>"
        );
    }
    for tick in axis.ticks() {
        let x = axis.x(tick);
        let _ = write!(
            shapes,
            "<line class=\"grid\" x1=\"{x}\" x2=\"{x}\" y1=\"0\" y2=\"100%\"/>"
        );
    }
    let mut begins: Vec<u64> = outcome
        .timeline
        .iter()
        .filter(|m| !m.ends)
        .map(|m| m.at_ms)
        .collect();
    begins.dedup();
    for at in begins {
        let x = axis.x(at);
        let _ = write!(
            shapes,
            "<line class=\"begin\" x1=\"{x}\" x2=\"{x}\" y1=\"0\" y2=\"100%\"/>"
        );
    }
    if let Some(at) = stopped_ms(outcome, axis) {
        let (x, width) = (axis.x(at), axis.width(at, axis.end_ms));
        let _ = write!(
            shapes,
            "<rect class=\"never\" x=\"{x}\" width=\"{width}\" {full}/>"
        );
    }
    format!("<svg class=\"backdrop\" aria-hidden=\"true\">{shapes}</svg>")
}

fn times(axis: Axis) -> Panel {
    let mut plot = String::new();
    for tick in axis.ticks() {
        let anchor = match axis.part(tick) {
            part if part < 0.02 => "start",
            part if part > 0.98 => "end",
            _ => "middle",
        };
        let (x, text) = (axis.x(tick), svg::tick_text(tick));
        let _ = write!(
            plot,
            "<text class=\"tick\" x=\"{x}\" y=\"14\" text-anchor=\"{anchor}\">{text}</text>"
        );
    }
    Panel {
        height: 20,
        plot,
        ..Panel::default()
    }
}

/// What colours a fault's bar.
fn family(kind: &str) -> &'static str {
    match kind {
        "burn" | "power-cut" | "crash" | "kill" | "stop" => "fire",
        "cut" | "reset" | "link" => "net",
        "slow-sync" | "hang-sync" | "fail-sync" | "disk-room" | "bit-flip" | "wipe-disk"
        | "image-disk" | "old-disk" => "disk",
        _ => "time",
    }
}

fn faults(outcome: &Outcome, axis: Axis) -> Panel {
    const ROW: u32 = 24;
    let lanes = lanes::faults(&outcome.timeline, axis.end_ms);
    let mut panel = Panel {
        title: "Faults".to_owned(),
        ..Panel::default()
    };
    let mut y = 0;
    let mut named = "";
    for lane in &lanes {
        if lane.kind != named {
            let row = match lanes
                .iter()
                .filter(|l| l.kind == lane.kind)
                .map(|l| l.bars.len())
                .sum()
            {
                0 | 1 => lane.kind.clone(),
                many => format!("{} ×{many}", lane.kind),
            };
            panel.rows.push((row, f64::from(y + ROW / 2)));
            named = &lane.kind;
        }
        for bar in &lane.bars {
            panel
                .plot
                .push_str(&fault(bar, family(&lane.kind), axis, y));
        }
        y += ROW;
    }
    if lanes.is_empty() {
        y = ROW;
        panel.plot = "<text class=\"none\" x=\"8\" y=\"16\">nothing was done to the cluster</text>"
            .to_owned();
    }
    panel.height = y;
    panel
}

fn fault(fault: &lanes::Bar, family: &str, axis: Axis, y: u32) -> String {
    let from = fault.from_ms;
    let title = match (fault.momentary, fault.to_ms) {
        (true, _) => format!("{} · {}", fault.text, moment(from)),
        (false, Some(to)) => format!(
            "{} · {} to {} ({}) · {}",
            fault.text,
            moment(from),
            moment(to),
            span(to.saturating_sub(from)),
            fault.end_text.as_deref().unwrap_or("ends")
        ),
        (false, None) => format!("{} · {} to the end", fault.text, moment(from)),
    };
    let x = axis.x(from);
    let mut drawn = match fault.momentary {
        true => format!(
            "<svg x=\"{x}\" y=\"{}\" class=\"over\"><path class=\"moment {family}\" d=\"M0 1L5 8L0 15L-5 8Z\">\
             <title>{}</title></path></svg>",
            y + 4,
            escape(&title)
        ),
        false => {
            let to = fault.to_ms.unwrap_or(axis.end_ms);
            let mut drawn = bar(
                axis,
                &format!("fault {family}"),
                (from, to),
                (y + 4, 16),
                &title,
            );
            let edges = [Some(from), fault.to_ms];
            for x in edges.into_iter().flatten().map(|ms| axis.x(ms)) {
                let (top, bottom) = (y + 4, y + 20);
                let _ = write!(
                    drawn,
                    "<line class=\"edge {family}\" x1=\"{x}\" x2=\"{x}\" y1=\"{top}\" y2=\"{bottom}\"/>"
                );
            }
            drawn
        }
    };
    if fault.labelled {
        let (anchor, dx) = match (fault.label_before(axis.end_ms), fault.momentary) {
            (true, _) => ("end", -8),
            (false, true) => ("start", 10),
            (false, false) => ("start", 6),
        };
        let _ = write!(
            drawn,
            "<text class=\"label\" x=\"{x}\" dx=\"{dx}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            y + 16,
            escape(&fault.text)
        );
    }
    drawn
}

fn gap(outcome: &Outcome, axis: Axis) -> Option<Panel> {
    let (from, to) = outcome.longest_gap_at_ms;
    if outcome.longest_gap_ms == 0 || from >= to {
        return None;
    }
    let title = format!("{} to {}", moment(from), moment(to));
    let text = format!("{}, {title}", span(outcome.longest_gap_ms));
    let mut plot = bar(axis, "gapbar", (from, to), (5, 14), &title);
    let (x, dx, anchor) = match axis.part(to) > 0.6 {
        true => (axis.x(from), -6, "end"),
        false => (axis.x(to), 6, "start"),
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

/// The colour of each data center, and of each host and client site that is in or near one.
fn colours(outcome: &Outcome) -> BTreeMap<&str, String> {
    let topology = &outcome.plan.topology;
    let mut colours = BTreeMap::new();
    for (n, dc) in topology.dcs.iter().enumerate() {
        let colour = format!("c{}", n.min(COLOURS - 1));
        for node in &dc.nodes {
            colours.insert(node.name.as_str(), colour.clone());
        }
        for site in outcome
            .plan
            .workload
            .sites
            .iter()
            .filter(|s| s.dc == dc.name)
        {
            colours.insert(site.name.as_str(), colour.clone());
        }
        colours.insert(dc.name.as_str(), colour);
    }
    colours
}

fn leaders(outcome: &Outcome, axis: Axis) -> Panel {
    let reigns = lanes::reigns(outcome, stopped_ms(outcome, axis).unwrap_or(axis.end_ms));
    let row: u32 = if reigns.len() > 24 { 11 } else { 17 };
    let colours = colours(outcome);
    let mut panel = Panel {
        title: "Leaders per shard".to_owned(),
        ..Panel::default()
    };
    for dc in &outcome.plan.topology.dcs {
        let class = colours.get(dc.name.as_str()).map_or("", String::as_str);
        panel.legend.push_str(&key(class, &dc.name, None));
    }
    panel.legend.push_str(&key("nobody", "nobody leads", None));
    let in_name = |reign: &Reign| matches!(reign.held, Held::InName(..));
    if reigns.values().flatten().any(in_name) {
        panel
            .legend
            .push_str(&key("inname", "leads in name only", None));
    }
    let mut y = 0;
    for (shard, reigns) in &reigns {
        let name = match shard {
            0 => "meta".to_owned(),
            n => format!("shard {n}"),
        };
        panel
            .rows
            .push((name.clone(), f64::from(y) + f64::from(row) / 2.0));
        for reign in reigns {
            panel
                .plot
                .push_str(&reign_drawn(reign, &name, &colours, axis, (y, row)));
        }
        y += row;
    }
    if reigns.is_empty() {
        y = 24;
        panel.plot = "<text class=\"none\" x=\"8\" y=\"16\">no leader was seen</text>".to_owned();
    }
    panel.height = y;
    panel
}

fn reign_drawn(
    reign: &Reign,
    shard: &str,
    colours: &BTreeMap<&str, String>,
    axis: Axis,
    (y, row): (u32, u32),
) -> String {
    let time = (reign.from_ms, reign.to_ms);
    let when = format!(
        "{} to {} ({})",
        moment(reign.from_ms),
        moment(reign.to_ms),
        span(reign.to_ms - reign.from_ms)
    );
    let place = (y + 1, row - 2);
    let (host, term) = match &reign.held {
        Held::Nobody => {
            let title = format!("{shard}: nobody leads · {when}");
            return bar(axis, "nobody", time, place, &title);
        }
        Held::InName(host, term) => {
            let title = format!("{shard}: {host} leads in name only, term {term} · {when}");
            return bar(axis, "inname", time, place, &title);
        }
        Held::By(host, term) => (host, term),
    };
    let class = colours.get(host.as_str()).map_or("cx", String::as_str);
    let title = format!("{shard}: {host} leads, term {term} · {when}");
    let mut drawn = bar(axis, class, time, place, &title);
    // A name of n letters in a narrow plot.
    let room = (axis.part(reign.to_ms) - axis.part(reign.from_ms)) * 540.0;
    if row >= 16 && host.chars().count() as f64 * 5.6 + 8.0 < room {
        let _ = write!(
            drawn,
            "<text class=\"host on-{class}\" x=\"{}\" dx=\"5\" y=\"{}\">{}</text>",
            axis.x(reign.from_ms),
            y + 12,
            escape(host)
        );
    }
    drawn
}

fn acked(outcome: &Outcome, axis: Axis) -> Panel {
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
            .map(|n| (super::thousands(n), y(n as f64)))
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
            "<path class=\"{class}\" d=\"{}\"/>",
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

fn latency(outcome: &Outcome, axis: Axis) -> Panel {
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
        ticks.push((span(ms).replace(".00", ""), y(ms as f64)));
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

fn failed(outcome: &Outcome, axis: Axis) -> Option<Panel> {
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
        ticks: [0, most].map(|n| (super::thousands(n), y(n as f64))).into(),
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
fn data(outcome: &Outcome) -> String {
    let texts: Vec<String> = outcome.seconds.iter().map(second_text).collect();
    let json = serde_json::to_string(&texts).unwrap_or_else(|_| "[]".to_owned());
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}
