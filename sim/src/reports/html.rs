//! A run's page: one file that asks for nothing from anywhere, light or dark as the reader's system
//! is, and fit for paper. It is well-formed XML too, which tests hold it to.

use std::fmt::Write as _;

use super::{
    Standing, escape, evidence, goal_standing, headline, moment, panels, span, standing, thousands,
};
use crate::outcome::{Goal, Outcome, Promise, Verdict};
use crate::plan::{DiskKind, Link, Tier};

/// A run's page: verdict, key figures, a chart of faults, leaders, acknowledgements and latency on
/// one time axis, promises with evidence, goals, topology, and the command that repeats it.
pub fn html(outcome: &Outcome) -> String {
    let plan = &outcome.plan;
    let mut body = head(outcome);
    body.push_str(&figures(outcome));
    body.push_str(&again(&outcome.command()));
    body.push_str(&section("What happened", &panels::chart(outcome)));
    body.push_str(&section("Promises", &promises(outcome)));
    body.push_str(&columns(&[
        ("Goals", goals(outcome)),
        ("What was done", timeline(outcome)),
    ]));
    if !outcome.failed.is_empty() {
        let calls = outcome
            .failed
            .iter()
            .map(|call| format!("<li>{}</li>", escape(call)));
        let list = format!("<ul class=\"calls\">{}</ul>", calls.collect::<String>());
        let title = format!(
            "Failed calls, {} of {}",
            outcome.failed.len(),
            outcome.failed_calls
        );
        body.push_str(&section(&title, &list));
    }
    if let Some(control) = &outcome.control {
        body.push_str(&section(
            "The control layout",
            &control_part(outcome, control),
        ));
    }
    body.push_str(&columns(&[
        ("Topology", topology(outcome)),
        ("The run", facts(outcome)),
    ]));
    body.push_str(&footer(outcome));
    page(&format!("{} · seed {}", plan.scenario, plan.seed), &body)
}

/// A page of the reports around `body`.
pub(crate) fn page(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\
         <meta name=\"color-scheme\" content=\"light dark\"/>\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\"/>\
         <link rel=\"icon\" href=\"data:,\"/>\
         <title>{}</title><style>{}</style></head><body>\n{HATCHES}<main>\n{body}</main>\
         <script>{}</script></body></html>\n",
        escape(title),
        include_str!("page.css"),
        include_str!("page.js"),
    )
}

/// Patterns that shapes are filled with, so that not colour alone tells them apart.
const HATCHES: &str = "<svg class=\"defs\" aria-hidden=\"true\"><defs>\
    <pattern id=\"hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
    patternTransform=\"rotate(45)\"><rect width=\"6\" height=\"6\" class=\"h0\"/>\
    <rect width=\"2.5\" height=\"6\" class=\"h1\"/></pattern>\
    <pattern id=\"fine\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\" \
    patternTransform=\"rotate(-45)\"><rect width=\"1.5\" height=\"5\" class=\"h2\"/></pattern>\
    </defs></svg>\n";

pub(crate) fn section(title: &str, content: &str) -> String {
    format!("<section><h2>{}</h2>{content}</section>\n", escape(title))
}

fn columns(parts: &[(&str, String)]) -> String {
    let parts = parts.iter().map(|(title, content)| section(title, content));
    format!(
        "<div class=\"columns\">{}</div>\n",
        parts.collect::<String>()
    )
}

/// The command that repeats something, with a button that copies it.
pub(crate) fn again(command: &str) -> String {
    let command = escape(command);
    format!(
        "<p class=\"again\"><span>again</span><code>{command}</code>\
         <button type=\"button\" data-copy=\"{command}\">copy</button></p>\n"
    )
}

fn head(outcome: &Outcome) -> String {
    let plan = &outcome.plan;
    let (class, sign, word) = match (&outcome.stopped, outcome.verdict) {
        (_, Verdict::Broken) => ("failed", "✗", "Broken"),
        (Some(_), _) => ("missed", "!", "Stopped"),
        (None, Verdict::GoalMissed) => ("missed", "!", "Goal missed"),
        (None, Verdict::Held) => ("held", "✓", "Held"),
    };
    let tier = match plan.tier {
        Tier::Grpc => "gRPC",
        Tier::Direct => "direct calls",
    };
    let mut tiles = String::new();
    for promise in Promise::ALL {
        let standing = standing(outcome, promise);
        let _ = write!(
            tiles,
            "<a class=\"tile {}\" href=\"#{letter}\" title=\"{} {}\"><b>{letter}</b>\
             <i>{}</i><span>{}</span></a>",
            standing.word(),
            promise.word(),
            standing.label(promise),
            standing.sign(),
            promise.word(),
            letter = promise.letter(),
        );
    }
    format!(
        "<header class=\"{class}\"><p class=\"kicker\">Firebreak · simulated run · {tier}</p>\
         <h1>{} <small>seed {}</small></h1><p class=\"about\">{}</p>\
         <p class=\"verdict\"><b>{sign} {word}</b> <span>{}</span></p></header>\
         <nav class=\"tiles\">{tiles}</nav>\n",
        escape(&plan.scenario),
        plan.seed,
        escape(&plan.about),
        escape(&headline(outcome)),
    )
}

/// A figure's words: its name, its value, what is said below, and how its goal stands.
struct Figure<'a> {
    name: &'a str,
    value: String,
    below: String,
    goal: Option<&'a Goal>,
}

fn figures(outcome: &Outcome) -> String {
    let goal = |name: &str| outcome.goals.iter().find(|goal| goal.name == name);
    let or_dash = |ms: Option<u64>| ms.map_or_else(|| "–".to_owned(), span);
    let (from, to) = outcome.longest_gap_at_ms;
    let gap_at = format!("at {} to {}", moment(from), moment(to));
    let mut cards = String::new();
    for figure in [
        Figure {
            name: "Longest gap",
            value: span(outcome.longest_gap_ms),
            below: if from < to { gap_at } else { String::new() },
            goal: goal("gap"),
        },
        Figure {
            name: "Failed calls",
            value: thousands(outcome.failed_calls),
            below: format!("{} retries inside", thousands(outcome.retries)),
            goal: goal("failed-calls"),
        },
        Figure {
            name: "Recovery point (RPO)",
            value: thousands(outcome.lost),
            below: "acknowledged messages lost".to_owned(),
            goal: None,
        },
        Figure {
            name: "Recovery time (RTO)",
            value: or_dash(outcome.rto_ms),
            below: "first fault to all acked again".to_owned(),
            goal: None,
        },
        Figure {
            name: "After the last heal",
            value: or_dash(outcome.recovery_ms),
            below: "until every shard served".to_owned(),
            goal: goal("recovery"),
        },
        Figure {
            name: "Acknowledged",
            value: thousands(outcome.acked),
            below: format!(
                "{} reads, {} tailed",
                thousands(outcome.reads),
                thousands(outcome.tailed)
            ),
            goal: goal("acked"),
        },
    ] {
        cards.push_str(&card(&figure));
    }
    format!("<div class=\"figures\">{cards}</div>\n")
}

fn card(figure: &Figure) -> String {
    let (class, limit) = match figure.goal {
        Some(goal) => {
            let standing = goal_standing(goal);
            let limit = format!(
                "<span class=\"limit\">{} {}</span>",
                standing.sign(),
                escape(&goal.limit)
            );
            (standing.word(), limit)
        }
        None => ("", String::new()),
    };
    format!(
        "<div class=\"figure {class}\"><h3>{}</h3><p>{}{limit}</p><small>{}</small></div>",
        figure.name,
        escape(&figure.value),
        escape(&figure.below)
    )
}

fn promises(outcome: &Outcome) -> String {
    let mut rows = String::new();
    for promise in Promise::ALL {
        let standing = standing(outcome, promise);
        let judged = outcome.promises.get(&promise);
        let mut said = String::new();
        if let Some(why) = judged.and_then(|judged| judged.pending.as_deref()) {
            let _ = write!(said, "<p class=\"why\">waits for: {}</p>", escape(why));
        }
        for broken in evidence(outcome, promise) {
            let (oracle, evidence) = (escape(&broken.oracle), escape(&broken.evidence));
            let _ = write!(said, "<p class=\"evidence\"><b>{oracle}</b> {evidence}</p>");
        }
        let looked_at = match judged.map_or(0, |judged| judged.looked_at) {
            0 => String::new(),
            some => thousands(some),
        };
        let _ = write!(
            rows,
            "<tr id=\"{letter}\" class=\"{}\"><th>{letter}</th><td>{}</td>\
             <td class=\"stand\"><i>{}</i> {}</td><td class=\"n\">{looked_at}</td><td>{said}</td></tr>",
            standing.word(),
            promise.word(),
            standing.sign(),
            standing.label(promise),
            letter = promise.letter(),
        );
    }
    format!(
        "<div class=\"wide\"><table class=\"promises\"><thead><tr><th></th><th>promise</th><th>verdict</th>\
         <th class=\"n\">looked at</th><th>evidence</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
}

fn goals(outcome: &Outcome) -> String {
    if outcome.goals.is_empty() {
        return "<p class=\"empty\">No numbers were asked for.</p>".to_owned();
    }
    let rows = outcome.goals.iter().map(|goal| {
        let standing = goal_standing(goal);
        let why = goal.pending.as_deref().map_or_else(String::new, |why| {
            format!("<p class=\"why\">waits for: {}</p>", escape(why))
        });
        format!(
            "<tr class=\"{}\"><td class=\"stand\"><i>{}</i></td><td>{}{why}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            standing.word(),
            standing.sign(),
            escape(&goal.name),
            escape(&goal.measured),
            escape(&goal.limit)
        )
    });
    format!(
        "<table><thead><tr><th></th><th>goal</th><th class=\"n\">measured</th>\
         <th class=\"n\">limit</th></tr></thead><tbody>{}</tbody></table>",
        rows.collect::<String>()
    )
}

fn timeline(outcome: &Outcome) -> String {
    if outcome.timeline.is_empty() {
        return "<p class=\"empty\">Nothing was done to the cluster.</p>".to_owned();
    }
    let rows = outcome.timeline.iter().map(|mark| {
        format!(
            "<tr><td class=\"n\">{}</td><td class=\"kind\">{}{}</td><td>{}</td></tr>",
            moment(mark.at_ms),
            escape(&mark.kind),
            if mark.ends { " (end)" } else { "" },
            escape(&mark.text)
        )
    });
    let head = "<thead><tr><th class=\"n\">at</th><th>kind</th><th>what</th></tr></thead>";
    let rows: String = rows.collect();
    format!("<div class=\"tall\"><table>{head}<tbody>{rows}</tbody></table></div>")
}

fn control_part(outcome: &Outcome, control: &Outcome) -> String {
    let said = match control.verdict {
        Verdict::Held => "<p class=\"say failed\">✗ It held, though it must fail visibly.</p>",
        Verdict::GoalMissed | Verdict::Broken => {
            "<p class=\"say held\">✓ It fails visibly, as it must.</p>"
        }
    };
    let or_dash = |ms: Option<u64>| ms.map_or_else(|| "–".to_owned(), span);
    let numbers = |o: &Outcome| {
        [
            verdict_cell(o),
            thousands(o.lost),
            or_dash(o.rto_ms),
            span(o.longest_gap_ms),
            thousands(o.failed_calls),
            thousands(o.acked),
        ]
    };
    let names = [
        "verdict",
        "acknowledged messages lost (RPO)",
        "recovery time (RTO)",
        "longest gap",
        "failed calls",
        "acknowledged",
    ];
    let mut rows = String::new();
    for (name, (ours, theirs)) in names
        .into_iter()
        .zip(numbers(outcome).into_iter().zip(numbers(control)))
    {
        let _ = write!(
            rows,
            "<tr><td>{name}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            escape(&ours),
            escape(&theirs)
        );
    }
    format!(
        "{said}<p class=\"about\">{}</p><table><thead><tr><th></th><th class=\"n\">this layout</th>\
         <th class=\"n\">control</th></tr></thead><tbody>{rows}</tbody></table>{}\
         <details><summary>Promises of the control layout</summary>{}</details>",
        escape(&control.plan.about),
        panels::chart(control),
        promises(control).replace(" id=\"", " id=\"control-")
    )
}

fn verdict_cell(outcome: &Outcome) -> String {
    let unkept = Promise::ALL.into_iter().filter(|p| {
        let standing = standing(outcome, *p);
        matches!(standing, Standing::Failed | Standing::Tolerated)
    });
    let letters: Vec<String> = unkept.map(|p| p.letter().to_string()).collect();
    let word = match outcome.verdict {
        Verdict::Held => "held",
        Verdict::GoalMissed => "goal missed",
        Verdict::Broken => "broken",
    };
    match letters.is_empty() {
        true => word.to_owned(),
        false => format!("{word} (not kept: {})", letters.join(" ")),
    }
}

fn topology(outcome: &Outcome) -> String {
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

fn facts(outcome: &Outcome) -> String {
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

fn footer(outcome: &Outcome) -> String {
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
