//! The parts of a run's page about what was set up: topology, load, time, oracles, trace.

use std::fmt::Write as _;

use super::words::{escape, moment, span, thousands};
use crate::outcome::Outcome;
use crate::plan::{DiskKind, Link};

pub(crate) fn topology(outcome: &Outcome) -> String {
    let topology = &outcome.plan.topology;
    let mut rows = String::new();
    for (n, dc) in topology.dcs.iter().enumerate() {
        let nodes = dc.nodes.iter().map(|node| {
            let joins = node.joins_at_ms.map_or_else(String::new, |at| {
                format!(" <small>joins at {}</small>", moment(at))
            });
            format!("<span class=\"node\">{}{joins}</span>", escape(&node.name))
        });
        let building = match dc.building == dc.name {
            true => String::new(),
            false => format!(" <small>in building {}</small>", escape(&dc.building)),
        };
        let _ = write!(
            rows,
            "<tr><td><i class=\"dot c{}\"></i>{}{building}</td><td>{}</td><td>{}</td></tr>",
            n.min(5),
            escape(&dc.name),
            escape(&dc.region),
            nodes.collect::<String>()
        );
    }
    let mut links = format!(
        "<li>inside a data center {}</li><li>between data centers {}</li>",
        link(&topology.local),
        link(&topology.wan)
    );
    for directed in &topology.links {
        let (from, to) = (escape(&directed.from), escape(&directed.to));
        let _ = write!(links, "<li>{from} → {to} {}</li>", link(&directed.link));
    }
    format!(
        "<table><thead><tr><th>data center</th><th>region</th><th>nodes</th></tr></thead>\
         <tbody>{rows}</tbody></table><ul class=\"links\">{links}</ul>"
    )
}

fn link(link: &Link) -> String {
    let ms = |us: u64| format!("{}", us as f64 / 1_000.0);
    let (least, most) = link.latency_us;
    let mut text = match least == most {
        true => format!("{} ms", ms(least)),
        false => format!("{} to {} ms", ms(least), ms(most)),
    };
    if link.jitter_us > 0 {
        let _ = write!(text, " + {} ms jitter", ms(link.jitter_us));
    }
    if link.loss_ppm > 0 {
        let _ = write!(text, ", {} % lost", f64::from(link.loss_ppm) / 10_000.0);
    }
    if link.bandwidth_bytes > 0 {
        let _ = write!(text, ", {} bytes/s", thousands(link.bandwidth_bytes));
    }
    text
}

pub(crate) fn facts(outcome: &Outcome) -> String {
    let (plan, load) = (&outcome.plan, &outcome.plan.workload);
    let shards = match plan.topology.shards {
        0 => "as many as the product chooses".to_owned(),
        n => n.to_string(),
    };
    let disk = match plan.disk {
        DiskKind::Memory => "simulated",
        DiskKind::Rocksdb => "RocksDB",
    };
    let speed = match outcome.wall_seconds > 0.0 {
        true => format!(
            ", {:.1} × real time",
            outcome.sim_seconds / outcome.wall_seconds
        ),
        false => String::new(),
    };
    let readers = &load.readers;
    let reading = readers.linearizable + readers.session + readers.bounded + readers.local;
    let mut rows = String::new();
    for (name, value) in [
        ("seed", plan.seed.to_string()),
        (
            "shards",
            format!("{shards}, {} replicas each", plan.topology.replicas),
        ),
        ("disks", disk.to_owned()),
        (
            "load",
            format!(
                "{} senders in {} rooms from {} sites, {reading} readers, {} tails, {}",
                load.senders,
                load.rooms,
                load.sites.len(),
                load.tails,
                span(load.duration_ms)
            ),
        ),
        (
            "time",
            format!(
                "{:.1} s simulated in {:.1} s{speed}",
                outcome.sim_seconds, outcome.wall_seconds
            ),
        ),
        (
            "trace",
            format!("{} events", thousands(outcome.trace_events)),
        ),
    ] {
        let value = escape(&value);
        let _ = write!(rows, "<tr><td>{name}</td><td>{value}</td></tr>");
    }
    let _ = write!(
        rows,
        "<tr><td>trace hash</td><td><code>{}</code></td></tr>",
        escape(&outcome.trace_hash)
    );
    format!("<table class=\"facts\"><tbody>{rows}</tbody></table>")
}

pub(crate) fn footer(outcome: &Outcome) -> String {
    let oracles = outcome.oracles.iter().map(|(oracle, looked_at)| {
        let (oracle, looked_at) = (escape(oracle), thousands(*looked_at));
        format!("<tr><td>{oracle}</td><td class=\"n\">{looked_at}</td></tr>")
    });
    let oracles: String = oracles.collect();
    let trace = (1_u64..).zip(&outcome.trace).map(|(second, hash)| {
        let hash = escape(hash);
        format!("<tr><td class=\"n\">{second}</td><td><code>{hash}</code></td></tr>")
    });
    let trace: String = trace.collect();
    let details = |title: &str, head: &str, rows: &str| match rows.is_empty() {
        true => String::new(),
        false => format!(
            "<details><summary>{title}</summary><table><thead><tr>{head}</tr></thead>\
             <tbody>{rows}</tbody></table></details>"
        ),
    };
    format!(
        "<footer>{}{}</footer>\n",
        details(
            "What each oracle looked at",
            "<th>oracle</th><th class=\"n\">cases</th>",
            &oracles
        ),
        details(
            "Trace hash at the end of each simulated second",
            "<th class=\"n\">second</th><th>hash</th>",
            &trace
        )
    )
}
