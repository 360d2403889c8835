//! A run's page.

use std::fmt::Write as _;

use super::page::{again, columns, page, section};
use super::standing::{evidence, failures, goal_standing, headline, standing};
use super::words::{escape, moment, span, thousands};
use super::{chart, control, setup};
use crate::outcome::{Goal, Outcome, Promise, Verdict};
use crate::plan::Tier;

/// A run's page: verdict, key figures, a chart of faults, leaders, acknowledgements and latency on
/// one time axis, promises with evidence, goals, topology, and the command that repeats it.
pub fn html(outcome: &Outcome) -> String {
    let plan = &outcome.plan;
    let mut body = head(outcome);
    body.push_str(&figures(outcome));
    body.push_str(&again(&outcome.command()));
    body.push_str(&section("What happened", &chart::chart(outcome)));
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
            &control::part(outcome, control),
        ));
    }
    body.push_str(&columns(&[
        ("Topology", setup::topology(outcome)),
        ("The run", setup::facts(outcome)),
    ]));
    body.push_str(&setup::footer(outcome));
    page(&format!("{} · seed {}", plan.scenario, plan.seed), &body)
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
            name: "RPO",
            value: thousands(outcome.lost),
            below: "acknowledged messages lost".to_owned(),
            goal: None,
        },
        Figure {
            name: "RTO",
            value: or_dash(outcome.rto_ms),
            below: match (outcome.rto_ms, outcome.timeline.is_empty()) {
                (Some(_), _) => "first fault to all acked again",
                (None, true) => "nothing was done to the cluster",
                (None, false) => "not all were acked again",
            }
            .to_owned(),
            goal: None,
        },
        Figure {
            name: "After the last heal",
            value: or_dash(outcome.recovery_ms),
            below: match outcome.recovery_ms {
                Some(_) => "until every shard served",
                None => "nothing was healed",
            }
            .to_owned(),
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

/// Every promise with what was found.
pub(crate) fn promises(outcome: &Outcome) -> String {
    let failures = failures(outcome);
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
        let goals = failures.iter().filter(|f| f.promise == Some(promise));
        for goal in goals.filter(|f| outcome.goals.iter().any(|g| g.name == f.oracle)) {
            let (name, why) = (escape(&goal.oracle), escape(&goal.evidence));
            let _ = write!(said, "<p class=\"evidence\"><b>{name}</b> {why}</p>");
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
        let story = mark.story.as_ref().map_or_else(String::new, |story| {
            format!("<div class=\"told\">{}</div>", escape(story))
        });
        format!(
            "<tr><td class=\"n\">{}</td><td class=\"kind\">{}{}</td><td>{}{story}</td></tr>",
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
