//! The chart's panels of what was done to the cluster and of who led it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::chart::stopped_ms;
use super::lanes;
use super::svg::{Axis, Panel, bar, key};
use super::words::{escape, moment, span};
use crate::outcome::Outcome;
use crate::reigns::{self, Held, Reign};

/// Data centers that have a colour of their own; further ones share the last.
const COLOURS: usize = 6;
/// Shards that a page shows the leaders of.
const SHARDS_SHOWN_MAX: usize = 64;

/// What colours a fault's bar.
fn family(kind: &str) -> &'static str {
    match kind {
        "burn" | "power-cut" | "crash" | "kill" | "stop" => "fire",
        "cut" | "block" | "reset" | "link" | "forge" | "drill" => "net",
        "slow-sync" | "hang-sync" | "fail-sync" | "disk-room" | "bit-flip" | "lose-record"
        | "compact" | "wipe-disk" | "image-disk" | "old-disk" => "disk",
        lanes::STORY => "story",
        _ => "time",
    }
}

pub(crate) fn faults(outcome: &Outcome, axis: Axis) -> Panel {
    const ROW: u32 = 24;
    let lanes = lanes::faults(&outcome.timeline, axis.end_ms);
    let mut panel = Panel {
        title: "Faults".to_owned(),
        ..Panel::default()
    };
    let until = stopped_ms(outcome, axis).unwrap_or(axis.end_ms);
    let mut y = 0;
    let mut named = "";
    for lane in &lanes {
        if lane.kind != named {
            let alike = lanes.iter().filter(|other| other.kind == lane.kind);
            let row = match alike.map(|lane| lane.bars.len()).sum() {
                0 | 1 => lane.kind.clone(),
                _ if lane.kind == lanes::STORY => lane.kind.clone(),
                many => format!("{} ×{many}", lane.kind),
            };
            panel.rows.push((row, f64::from(y + ROW / 2)));
            named = &lane.kind;
        }
        for bar in &lane.bars {
            let drawn = fault(bar, family(&lane.kind), axis, (y, until));
            panel.plot.push_str(&drawn);
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

fn fault_title(fault: &lanes::Bar) -> String {
    let (text, from) = (&fault.text, moment(fault.from_ms));
    match (fault.momentary, fault.to_ms) {
        (true, _) => format!("{text} · {from}"),
        (false, Some(to)) => format!(
            "{text} · {from} to {} ({}) · {}",
            moment(to),
            span(to.saturating_sub(fault.from_ms)),
            fault.end_text.as_deref().unwrap_or("ends")
        ),
        (false, None) => format!("{text} · {from} to the end"),
    }
}

/// A fault's bar, or a diamond when it took no time, in the row at `y`; `until` is when the run
/// ended.
fn fault(fault: &lanes::Bar, family: &str, axis: Axis, (y, until): (u32, u64)) -> String {
    let from = fault.from_ms;
    let title = fault_title(fault);
    let x = axis.x(from);
    let mut drawn = match fault.momentary {
        true => format!(
            "<svg x=\"{x}\" y=\"{}\" class=\"over\"><path class=\"moment {family}\" d=\"M0 1L5 8L0 15L-5 8Z\">\
             <title>{}</title></path></svg>",
            y + 4,
            escape(&title)
        ),
        false => {
            let to = fault.to_ms.unwrap_or(until);
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
        let class = match fault.label_fits_phone(axis.end_ms) {
            true => "label",
            false => "label long",
        };
        let _ = write!(
            drawn,
            "<text class=\"{class}\" x=\"{x}\" dx=\"{dx}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            y + 16,
            escape(&fault.text)
        );
    }
    drawn
}

/// The colour of each data center, and of each host and client site that is in or near one.
pub(crate) fn colours(outcome: &Outcome) -> BTreeMap<&str, String> {
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

pub(crate) fn leaders(outcome: &Outcome, axis: Axis) -> Panel {
    let end_ms = stopped_ms(outcome, axis).unwrap_or(axis.end_ms);
    let mut reigns = reigns::reigns(&outcome.leaders, &outcome.plan.events, end_ms);
    let shards = reigns.len();
    if shards > SHARDS_SHOWN_MAX {
        let mut order: Vec<u32> = reigns.keys().copied().collect();
        order.sort_by_key(|shard| Reverse(reigns.get(shard).map(|all| reigns::without_ms(all))));
        order
            .iter()
            .skip(SHARDS_SHOWN_MAX)
            .for_each(|shard| drop(reigns.remove(shard)));
    }
    let row: u32 = if reigns.len() > 24 { 11 } else { 17 };
    let colours = colours(outcome);
    let mut panel = Panel {
        title: match shards > reigns.len() {
            true => format!(
                "Leaders of the {} shards, of {shards}, that were longest without one",
                reigns.len()
            ),
            false => "Leaders per shard".to_owned(),
        },
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
