//! The part of a run's page that sets the control layout, which must visibly fail, beside it.

use std::fmt::Write as _;

use super::chart;
use super::html::promises;
use super::standing::{Standing, standing};
use super::words::{escape, span, thousands};
use crate::outcome::{Outcome, Promise, Verdict};

/// Both layouts' numbers, and the control's own chart and promises.
pub(crate) fn part(outcome: &Outcome, control: &Outcome) -> String {
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
        chart::chart(control),
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
