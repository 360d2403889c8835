//! A sweep's index page: what failed and how to repeat it, scenario × promise, fault × phase.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::coverage::{self, KINDS, Phase};
use super::html::{again, page, section};
use super::{Sweep, SweptRun, escape, span, thousands};
use crate::outcome::{Promise, Verdict};

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
    body.push_str(&section("Scenario × promise", &matrix(sweep)));
    body.push_str(&section("Fault × phase", &covered(sweep)));
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
    let _ = write!(
        body,
        "<div class=\"columns even\">{}{}</div>\n",
        section("Longest gaps", &gaps),
        section("Slowest runs", &slowest)
    );
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
    let (class, word, said) = match (broken, missed, sweep.runs.len()) {
        (_, _, 0) => ("missed", "! Nothing was run", String::new()),
        (0, 0, _) => (
            "held",
            "✓ Held",
            "every promise asked for held in every run".to_owned(),
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

fn anchor(run: &SweptRun) -> String {
    format!(
        "run-{}-{}",
        run.scenario.replace(char::is_whitespace, "-"),
        run.seed
    )
}

fn matrix(sweep: &Sweep) -> String {
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
            "<tr class=\"{class}\"><th>{}</th><td class=\"n\">{}</td><td class=\"stand\"><i>{sign}</i>{failing}</td>",
            escape(scenario),
            runs.len()
        );
        for promise in Promise::ALL {
            rows.push_str(&cell(runs, promise));
        }
        let per_run = wall / runs.len() as f64;
        let _ = write!(
            rows,
            "<td class=\"n\">{}</td><td class=\"n\">{per_run:.1} s</td></tr>",
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
         failed in 2 <i class=\"cell pending\">… 2</i> not kept in 2, where it is pending or not asked for \
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
    let unkept = |run: &&&SweptRun| judged(run) == Some(false) && !fails(run);
    let unkept = runs.iter().filter(unkept).count();
    let not_judged = runs.len() - held - unkept - failed.len().min(runs.len() - held - unkept);
    let title = format!(
        "{} {}: held {held}, failed {}, not kept but not a failure {unkept}, not judged {not_judged}",
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
    format!("<td class=\"c\"><span class=\"cell {class}\" title=\"{title}\">{said}</span></td>")
}

fn covered(sweep: &Sweep) -> String {
    let sums = coverage::sum(sweep.runs.iter().flat_map(|run| &run.coverage));
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
                    "<td class=\"c\"><span class=\"heat zero\" title=\"{title}\">0</span></td>"
                );
                continue;
            }
            // Counts differ by orders of magnitude.
            let shade = 0.12 + 0.5 * (times as f64).ln_1p() / most.ln_1p();
            let _ = write!(
                rows,
                "<td class=\"c\"><span class=\"heat\" title=\"{title}\" style=\"--shade:{:.0}%\">{}</span></td>",
                shade * 100.0,
                thousands(times)
            );
        }
        let _ = write!(rows, "<td class=\"n\">{}</td></tr>", thousands(total));
    }
    let heads = Phase::ALL.map(|phase| format!("<th class=\"c\">{}</th>", phase.word()));
    let cells = kinds.len() * Phase::ALL.len();
    format!(
        "<p class=\"about\">How often a fault of each kind began in each phase of a run. {empty} of {cells} \
         cells are empty: nothing has been tried there.</p>\
         <div class=\"wide\"><table class=\"matrix\"><thead><tr><th>fault</th>{}<th class=\"n\">in all</th></tr></thead>\
         <tbody>{rows}</tbody></table></div>\
         <p class=\"legend\">founding: until every shard was led and the load runs for 1 s · steady: nothing is \
         wrong · failover: within {} s after another fault began · under-fault: later than that · recovery: \
         within {} s after a fault ended · at-rest: after the load</p>",
        heads.concat(),
        coverage::FAILOVER_MS / 1_000,
        coverage::RECOVERY_MS / 1_000,
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
