//! A sweep's index page: what failed and how to repeat it, scenario × promise, fault × phase.

use std::fmt::Write as _;

use super::page::{again, page, section};
use super::words::{escape, span, thousands};
use super::{Sweep, SweptRun, matrix};
use crate::outcome::Verdict;

/// Failing runs that are listed one by one.
const FAILURES_MAX: usize = 200;
/// Runs in the lists of the slowest and of the longest gaps.
const LISTED: usize = 10;

/// A sweep's index page, self-contained as a run's page is. Pages of runs are linked as
/// [`SweptRun::page`] says.
pub fn index_html(sweep: &Sweep) -> String {
    let mut body = head(sweep);
    body.push_str(&figures(sweep));
    if !sweep.command.is_empty() {
        body.push_str(&again(&sweep.command));
    }
    if sweep.runs.iter().any(|run| run.verdict != Verdict::Held) {
        body.push_str(&section("Failing runs", &failing(sweep)));
    }
    if !sweep.skipped.is_empty() {
        body.push_str(&section("Not run", &skipped(sweep)));
    }
    body.push_str(&section("Scenario × promise", &matrix::promises(sweep)));
    body.push_str(&section("Fault × phase", &matrix::coverage(sweep)));
    let slowest = top(
        sweep,
        |run| run.wall_seconds,
        |run| format!("{:.1} s", run.wall_seconds),
    );
    let gaps = top(
        sweep,
        |run| run.longest_gap_ms as f64,
        |run| span(run.longest_gap_ms),
    );
    let (gaps, slowest) = (
        section("Longest gaps", &gaps),
        section("Slowest runs", &slowest),
    );
    body.push_str(&format!(
        "<div class=\"columns even\">{gaps}{slowest}</div>\n"
    ));
    page(
        &format!("sweep of {} runs", thousands(count(sweep.runs.len()))),
        &body,
    )
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn with(sweep: &Sweep, verdict: Verdict) -> u64 {
    count(
        sweep
            .runs
            .iter()
            .filter(|run| run.verdict == verdict)
            .count(),
    )
}

fn head(sweep: &Sweep) -> String {
    let (broken, missed) = (
        with(sweep, Verdict::Broken),
        with(sweep, Verdict::GoalMissed),
    );
    let runs = |n: u64| match n {
        1 => "1 run".to_owned(),
        n => format!("{} runs", thousands(n)),
    };
    let scenarios = |n: u64| match n {
        1 => "1 scenario".to_owned(),
        n => format!("{} scenarios", thousands(n)),
    };
    let (class, word, said) = match (broken, missed, sweep.runs.len()) {
        (_, _, 0) => ("missed", "! Nothing was run", String::new()),
        (0, 0, _) => (
            "held",
            "✓ Held",
            match sweep.skipped.len() {
                0 => "every promise asked for held in every run".to_owned(),
                some => format!(
                    "every promise asked for held in every run; of {} not all runs were made",
                    scenarios(count(some))
                ),
            },
        ),
        (0, n, _) => (
            "missed",
            "! Goals missed",
            format!("in {}; no safety promise was broken", runs(n)),
        ),
        (n, 0, _) => (
            "failed",
            "✗ Broken",
            format!("a safety promise, in {}", runs(n)),
        ),
        (n, m, _) => (
            "failed",
            "✗ Broken",
            format!(
                "a safety promise, in {}; goals missed in {}",
                runs(n),
                runs(m)
            ),
        ),
    };
    format!(
        "<header class=\"{class}\"><p class=\"kicker\">Firebreak · sweep of simulated runs</p>\
         <h1>{}</h1><p class=\"verdict\"><b>{word}</b> <span>{said}</span></p></header>\n",
        runs(count(sweep.runs.len()))
    )
}

fn figures(sweep: &Sweep) -> String {
    let mut scenarios: Vec<&str> = sweep.runs.iter().map(|run| run.scenario.as_str()).collect();
    scenarios.sort_unstable();
    scenarios.dedup();
    let simulated: f64 = sweep.runs.iter().map(|run| run.sim_seconds).sum();
    let computed: f64 = sweep.runs.iter().map(|run| run.wall_seconds).sum();
    let speed = match computed > 0.0 {
        true => format!("{:.1} × real time on one core", simulated / computed),
        false => String::new(),
    };
    let acked = sweep.runs.iter().map(|run| run.acked).sum();
    let failed = sweep.runs.iter().map(|run| run.failed_calls).sum();
    let gap = sweep.runs.iter().map(|run| run.longest_gap_ms).max();
    let events: u64 = sweep
        .runs
        .iter()
        .flat_map(|run| &run.coverage)
        .map(|c| c.times)
        .sum();
    let mut cards = String::new();
    for (name, value, below) in [
        (
            "Runs",
            thousands(count(sweep.runs.len())),
            format!("of {} scenarios", scenarios.len()),
        ),
        (
            "Safety failures",
            thousands(with(sweep, Verdict::Broken)),
            "runs".to_owned(),
        ),
        (
            "Goals missed",
            thousands(with(sweep, Verdict::GoalMissed)),
            "runs".to_owned(),
        ),
        (
            "Longest gap",
            gap.map_or_else(|| "–".to_owned(), span),
            format!("{} failed calls in all", thousands(failed)),
        ),
        (
            "Acknowledged",
            thousands(acked),
            format!("under {} faults", thousands(events)),
        ),
        ("Simulated", format!("{:.1} h", simulated / 3_600.0), speed),
    ] {
        let bad = value != "0" && matches!(name, "Safety failures" | "Goals missed");
        let class = if bad { " failed" } else { "" };
        let _ = write!(
            cards,
            "<div class=\"figure{class}\"><h3>{name}</h3><p>{value}</p><small>{below}</small></div>"
        );
    }
    format!("<div class=\"figures\">{cards}</div>\n")
}

/// The seed, linked to its page where there is one.
fn seed(run: &SweptRun) -> String {
    match &run.page {
        Some(page) => format!("<a href=\"{}\">{}</a>", escape(page), run.seed),
        None => run.seed.to_string(),
    }
}

fn failing(sweep: &Sweep) -> String {
    let mut failing: Vec<&SweptRun> = sweep
        .runs
        .iter()
        .filter(|r| r.verdict != Verdict::Held)
        .collect();
    failing.sort_by(|a, b| {
        let key = |run: &SweptRun| {
            (
                std::cmp::Reverse(run.verdict),
                run.scenario.clone(),
                run.seed,
            )
        };
        key(a).cmp(&key(b))
    });
    let mut rows = String::new();
    for run in failing.iter().take(FAILURES_MAX) {
        let (class, sign) = match run.verdict {
            Verdict::Broken => ("failed", "✗"),
            Verdict::GoalMissed | Verdict::Held => ("pending", "!"),
        };
        let said = run.failures.iter().map(|failure| {
            let promise = failure
                .promise
                .map_or_else(String::new, |p| format!("{} ", p.letter()));
            let (oracle, evidence) = (escape(&failure.oracle), escape(&failure.evidence));
            format!("<p class=\"evidence\"><b>{promise}{oracle}</b> {evidence}</p>")
        });
        let _ = write!(
            rows,
            "<tr class=\"{class}\" id=\"{anchor}\"><td class=\"stand\"><i>{sign}</i></td><td>{}</td>\
             <td class=\"n\">{}</td><td>{}<code>{}</code></td></tr>",
            escape(&run.scenario),
            seed(run),
            said.collect::<String>(),
            escape(&run.command),
            anchor = escape(&anchor(run)),
        );
    }
    let more = match failing.len().saturating_sub(FAILURES_MAX) {
        0 => String::new(),
        more => format!("<p class=\"empty\">and {more} more, in the JSON</p>"),
    };
    format!(
        "<div class=\"wide\"><table class=\"failing\"><thead><tr><th></th><th>scenario</th><th class=\"n\">seed</th>\
         <th>evidence, and what repeats it</th></tr></thead><tbody>{rows}</tbody></table></div>{more}"
    )
}

/// What was asked for and not run.
fn skipped(sweep: &Sweep) -> String {
    let rows = sweep.skipped.iter().map(|one| {
        format!(
            "<tr class=\"pending\"><td class=\"stand\"><i>…</i></td><td>{}</td><td>{}</td></tr>",
            escape(&one.scenario),
            escape(&format!("{}: {}", one.what(), one.why))
        )
    });
    format!(
        "<div class=\"wide\"><table><tbody>{}</tbody></table></div>",
        rows.collect::<String>()
    )
}

/// Where a failing run is on the page.
pub(crate) fn anchor(run: &SweptRun) -> String {
    format!(
        "run-{}-{}",
        run.scenario.replace(char::is_whitespace, "-"),
        run.seed
    )
}

fn top(sweep: &Sweep, by: fn(&SweptRun) -> f64, said: fn(&SweptRun) -> String) -> String {
    let mut runs: Vec<&SweptRun> = sweep.runs.iter().filter(|run| by(run) > 0.0).collect();
    runs.sort_by(|a, b| by(b).total_cmp(&by(a)));
    let most = runs.first().map_or(1.0, |run| by(run));
    let rows = runs.iter().take(LISTED).map(|run| {
        format!(
            "<tr><td>{}</td><td class=\"n\">seed {}</td><td class=\"n\">{}</td>\
             <td class=\"bar\"><i style=\"width:{:.1}%\"></i></td></tr>",
            escape(&run.scenario),
            seed(run),
            said(run),
            by(run) / most * 100.0
        )
    });
    match runs.is_empty() {
        true => "<p class=\"empty\">None.</p>".to_owned(),
        false => format!("<table><tbody>{}</tbody></table>", rows.collect::<String>()),
    }
}
