//! The page of a recorded night, with the charts that runs have.

use std::fmt::Write as _;

use super::chart;
use super::page::{page as whole, section};
use super::words::escape;
use crate::night::compare::Compared;
use crate::outcome::Outcome;

/// A page with these charts one below the other, figures side by side, and facts.
pub(crate) fn page(
    title: &str,
    charts: &[(&str, &Outcome)],
    compared: Option<&Compared>,
    facts: &[String],
) -> String {
    let mut body = format!(
        "<header><p class=\"kicker\">Firebreak · recorded night</p><h1>{}</h1></header>\n",
        escape(title)
    );
    if let Some(compared) = compared {
        body.push_str(&section("Side by side", &table(compared)));
    }
    for (name, outcome) in charts {
        let about = match outcome.trace_events {
            0 => "As the nodes' flight recorders have it.".to_owned(),
            _ => format!("One run of the simulator, seed {}.", outcome.plan.seed),
        };
        let chart = format!("<p class=\"about\">{about}</p>{}", chart::chart(outcome));
        body.push_str(&section(name, &chart));
    }
    if !facts.is_empty() {
        let items = facts
            .iter()
            .map(|fact| format!("<li>{}</li>", escape(fact)));
        let list = format!("<ul class=\"calls\">{}</ul>", items.collect::<String>());
        let title = match compared {
            Some(_) => "Not explained, or not in it",
            None => "In words",
        };
        body.push_str(&section(title, &list));
    }
    whole(title, &body)
}

fn table(compared: &Compared) -> String {
    let mut rows = String::new();
    for row in &compared.rows {
        let (recorded, simulated) = row.words();
        // Writing to a String cannot fail.
        let _ = write!(
            rows,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            escape(&row.what),
            escape(&recorded),
            escape(&simulated)
        );
    }
    format!(
        "<table><thead><tr><th></th><th class=\"n\">recorded</th><th class=\"n\">simulated, \
         {} seeds</th></tr></thead><tbody>{rows}</tbody></table>",
        compared.runs.len()
    )
}
