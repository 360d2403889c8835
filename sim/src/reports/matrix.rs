//! The tables of a sweep's index page: scenario × promise, and fault × phase.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::coverage::{KINDS, Phase};
use super::index::anchor;
use super::words::{escape, span, thousands};
use super::{Sweep, SweptRun};
use crate::outcome::{Promise, Verdict};

/// Scenario × promise, with links to what failed.
pub(crate) fn promises(sweep: &Sweep) -> String {
    let mut scenarios: BTreeMap<&str, Vec<&SweptRun>> = BTreeMap::new();
    for run in &sweep.runs {
        scenarios.entry(&run.scenario).or_default().push(run);
    }
    if scenarios.is_empty() {
        return "<p class=\"empty\">Nothing was run.</p>".to_owned();
    }
    let mut rows = String::new();
    for (scenario, runs) in &scenarios {
        let gap = runs.iter().map(|run| run.longest_gap_ms).max().unwrap_or(0);
        let wall: f64 = runs.iter().map(|run| run.wall_seconds).sum();
        let failing = runs
            .iter()
            .filter(|run| run.verdict != Verdict::Held)
            .count();
        let (class, sign) = match runs.iter().map(|run| run.verdict).max() {
            Some(Verdict::Broken) => ("failed", "✗"),
            Some(Verdict::GoalMissed) => ("pending", "!"),
            Some(Verdict::Held) | None => ("held", "✓"),
        };
        let failing = if failing == 0 {
            String::new()
        } else {
            format!(" {failing}")
        };
        let _ = write!(
            rows,
            "<tr class=\"{class}\"><th>{}</th><td class=\"n\" data-label=\"runs\">{}</td>\
             <td class=\"stand\" data-label=\"failing\"><i>{sign}</i>{failing}</td>",
            escape(scenario),
            runs.len()
        );
        for promise in Promise::ALL {
            rows.push_str(&cell(runs, promise));
        }
        let per_run = wall / runs.len() as f64;
        let _ = write!(
            rows,
            "<td class=\"n\" data-label=\"longest gap\">{}</td>\
             <td class=\"n\" data-label=\"time per run\">{per_run:.1} s</td></tr>",
            span(gap)
        );
    }
    let heads =
        Promise::ALL.map(|p| format!("<th class=\"c\" title=\"{}\">{}</th>", p.word(), p.letter()));
    format!(
        "<div class=\"wide\"><table class=\"matrix\"><thead><tr><th>scenario</th><th class=\"n\">runs</th>\
         <th>failing</th>{}<th class=\"n\">longest gap</th><th class=\"n\">time per run</th></tr></thead>\
         <tbody>{rows}</tbody></table></div>\
         <p class=\"legend\"><i class=\"cell held\">40</i> held in 40 runs <i class=\"cell failed\">✗ 2</i> \
         failed in 2 <i class=\"cell pending\">… 2</i> pending, or not kept where it is not asked for, in 2 \
         <i class=\"cell\">–</i> never judged</p>",
        heads.concat()
    )
}

/// A promise over a scenario's runs: how often it held and, linked, where it did not.
fn cell(runs: &[&SweptRun], promise: Promise) -> String {
    let judged = |run: &SweptRun| run.promises.get(&promise).copied().flatten();
    let held = runs.iter().filter(|run| judged(run) == Some(true)).count();
    let fails = |run: &SweptRun| run.failures.iter().any(|f| f.promise == Some(promise));
    let failed: Vec<&&SweptRun> = runs.iter().filter(|run| fails(run)).collect();
    let letter = promise.letter().to_string();
    let waits = |run: &SweptRun| run.pending.contains(&letter);
    let unkept = |run: &&&SweptRun| !fails(run) && (judged(run) == Some(false) || waits(run));
    let unkept = runs.iter().filter(unkept).count();
    let not_judged = runs.len().saturating_sub(held + unkept + failed.len());
    let title = format!(
        "{} {}: held {held}, failed {}, pending or not asked for {unkept}, not judged {not_judged}",
        promise.letter(),
        promise.word(),
        failed.len()
    );
    let (class, said) = match (failed.first(), held, unkept) {
        (Some(first), _, _) => {
            let href = match (&first.page, failed.len()) {
                (Some(page), 1) => escape(page),
                _ => format!("#{}", escape(&anchor(first))),
            };
            (
                "failed",
                format!("<a href=\"{href}\">✗ {}</a>", failed.len()),
            )
        }
        (None, _, 1..) => ("pending", format!("… {unkept}")),
        (None, 0, 0) => ("", "–".to_owned()),
        (None, held, 0) => ("held", held.to_string()),
    };
    let title = escape(&title);
    format!(
        "<td class=\"c\" data-label=\"{letter}\"><span class=\"cell {class}\" title=\"{title}\">{said}</span></td>"
    )
}

/// Fault × phase, empty cells included.
pub(crate) fn coverage(sweep: &Sweep) -> String {
    let sums = super::coverage::sum(sweep.runs.iter().flat_map(|run| &run.coverage));
    let mut kinds: Vec<&str> = KINDS.to_vec();
    for one in &sums {
        if !kinds.contains(&one.kind.as_str()) {
            kinds.push(&one.kind);
        }
    }
    let most = sums.iter().map(|one| one.times).max().unwrap_or(1) as f64;
    let (mut rows, mut empty) = (String::new(), 0_usize);
    for kind in &kinds {
        let _ = write!(rows, "<tr><th>{}</th>", escape(kind));
        let mut total = 0;
        for phase in Phase::ALL {
            let times = sums
                .iter()
                .filter(|one| one.kind == *kind && one.phase == phase);
            let times: u64 = times.map(|one| one.times).sum();
            total += times;
            let title = format!("{kind} in phase {}: {}", phase.word(), thousands(times));
            let title = escape(&title);
            if times == 0 {
                empty += 1;
                let _ = write!(
                    rows,
                    "<td class=\"c\" data-label=\"{}\"><span class=\"heat zero\" title=\"{title}\">0</span></td>",
                    phase.word()
                );
                continue;
            }
            // Counts differ by orders of magnitude.
            let shade = 0.12 + 0.5 * (times as f64).ln_1p() / most.ln_1p();
            let _ = write!(
                rows,
                "<td class=\"c\" data-label=\"{}\"><span class=\"heat\" title=\"{title}\" style=\"--shade:{:.0}%\">{}</span></td>",
                phase.word(),
                shade * 100.0,
                thousands(times)
            );
        }
        let _ = write!(
            rows,
            "<td class=\"n\" data-label=\"in all\">{}</td></tr>",
            thousands(total)
        );
    }
    let heads = Phase::ALL.map(|phase| format!("<th class=\"c\">{}</th>", phase.word()));
    let cells = kinds.len() * Phase::ALL.len();
    format!(
        "<p class=\"about\">How often a fault of each kind began in each phase of a run. {empty} of {cells} \
         cells are empty: nothing has been tried there.</p>\
         <div class=\"wide\"><table class=\"matrix phases\"><thead><tr><th>fault</th>{}<th class=\"n\">in all</th></tr></thead>\
         <tbody>{rows}</tbody></table></div>\
         <p class=\"legend\">founding: until every shard was led and the load runs for 1 s · steady: nothing is \
         wrong · failover: within {} s after another fault began · under-fault: later than that · recovery: \
         within {} s after a fault ended · at-rest: after the load</p>",
        heads.concat(),
        super::coverage::FAILOVER_MS / 1_000,
        super::coverage::RECOVERY_MS / 1_000,
    )
}
