//! A drill in Markdown.

use std::fmt::Write as _;

use server::drill::paper::{Moment, Paper};
use server::drill::plan::Step;
use server::drill::rehearsal::Spread;

use super::facts::{Gaps, Passed, Row, Standing};
use super::{Facts, when};
use crate::reports::words::{span, thousands};

/// All of a report.
pub(super) fn markdown(paper: &Paper, facts: &Facts) -> String {
    let plan = &paper.plan;
    let mut text = String::new();
    let mut part = |title: &str, content: String| {
        if !content.is_empty() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\n## {title}\n\n{content}");
        }
    };
    part("Predicted, simulated, measured", table_of_rows(&facts.rows));
    part("Goals and caps", goals(facts));
    part("Timeline", timeline(&facts.moments));
    part("Clients", clients(&facts.gaps));
    part("Recovery point", recovery_point(paper));
    part("Promises", promises(paper));
    part("Blast radius", blast(facts));
    part("Headroom", headroom(facts));
    part("The twin that burned", twin(paper));
    part("Rehearsal", rehearsal(paper));
    part(
        "Deviations",
        bullets(paper.deviations.iter().map(|one| one_line(one))),
    );
    part("What was done", bullets(plan.steps.iter().map(step)));
    part("Approvals", approvals(paper));
    part("The cluster", cluster(paper));
    part("Files", kept(paper));
    let target = match plan.target.is_empty() {
        true => String::new(),
        false => format!(" · {}", one_line(&plan.target)),
    };
    format!(
        "# Drill {}{target}: {}\n\n{}\n\n{}{} to {} UTC ({} to {} KST), `{}`.\n\n**Hypothesis.** {}\n{text}",
        one_line(&plan.scenario),
        paper.end.word(),
        one_line(&paper.why),
        warnings(facts),
        when::utc(paper.began_ms),
        when::clock(&when::utc(paper.ended_ms)),
        when::kst(paper.began_ms),
        when::clock(&when::kst(paper.ended_ms)),
        plan.id,
        one_line(&plan.hypothesis),
    )
}

fn warnings(facts: &Facts) -> String {
    let lines = facts.warnings.iter();
    lines
        .map(|one| format!("> **{}**\n\n", one_line(one)))
        .collect()
}

/// What stands in one line and in a cell, and is no markup.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_control() => line.push(' '),
            '<' => line.push_str("&lt;"),
            '|' | '*' | '_' | '`' | '[' | '\\' => {
                line.push('\\');
                line.push(c);
            }
            c => line.push(c),
        }
    }
    line
}

/// A table.
pub(super) fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| one_line(cell)).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text
}

fn bullets(lines: impl Iterator<Item = String>) -> String {
    lines.map(|line| format!("- {line}\n")).collect()
}

/// A spread's words: p50, p99 and worst.
pub(super) fn spread(of: Spread, unit: &str) -> String {
    let unit = match unit {
        "" => String::new(),
        unit => format!(" {unit}"),
    };
    format!(
        "{} / {} / {}{unit}",
        whole(of.p50),
        whole(of.p99),
        whole(of.max)
    )
}

/// A figure that was a whole number, with a comma between thousands.
pub(super) fn whole(of: f64) -> String {
    // As casts do: what is no number, or below zero, is zero.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "figures are far below 2^64"
    )]
    #[allow(clippy::cast_sign_loss, reason = "counts and times are not below zero")]
    let number = of.round() as u64;
    thousands(number)
}

pub(super) fn with_unit(number: u64, unit: &str) -> String {
    match unit {
        "" => thousands(number),
        unit => format!("{} {unit}", thousands(number)),
    }
}

/// Predicted, simulated, measured and how they go together.
pub(super) fn cells(row: &Row) -> [String; 4] {
    let dash = || "–".to_owned();
    [
        row.predicted.map_or_else(dash, |n| with_unit(n, row.unit)),
        row.simulated.map_or_else(dash, |of| spread(of, row.unit)),
        with_unit(row.measured, row.unit),
        match row.standing {
            Standing::Unknown => "not simulated",
            Standing::Within => "as simulated",
            Standing::Worse => "worse than its seeds",
        }
        .to_owned(),
    ]
}

fn table_of_rows(rows: &[Row]) -> String {
    let head = [
        "",
        "predicted (whatif)",
        "simulated (p50, p99, worst)",
        "measured",
        "",
    ];
    table(
        &head,
        rows.iter().map(|row| {
            let mut line = vec![row.what.to_owned()];
            line.extend(cells(row));
            line
        }),
    )
}

fn goals(facts: &Facts) -> String {
    let rows = facts.goals.iter().map(|goal| {
        let sign = if goal.held { "✓" } else { "✗" };
        vec![
            goal.what.clone(),
            goal.limit.clone(),
            goal.measured.clone(),
            sign.to_owned(),
        ]
    });
    table(&["", "limit", "measured", "held"], rows)
}

/// A moment's name.
pub(super) fn name(moment: Moment) -> &'static str {
    match moment {
        Moment::Begin => "begin",
        Moment::Inject => "fault put in",
        Moment::Detect => "detected",
        Moment::FirstLeader => "first new leader",
        Moment::LastLeader => "last new leader",
        Moment::FirstAck => "first answer again",
        Moment::Heal => "fault taken out",
        Moment::FullyReplicated => "fully replicated",
        Moment::Abort => "aborted",
        Moment::End => "end",
    }
}

/// How long after the first fault.
pub(super) fn since(passed: &Passed) -> String {
    match passed.since_ms {
        None => String::new(),
        Some(ms) => {
            let sign = if ms < 0 { "−" } else { "+" };
            format!("{sign}{}", span(ms.unsigned_abs()))
        }
    }
}

fn timeline(moments: &[Passed]) -> String {
    let rows = moments.iter().map(|passed| {
        vec![
            name(passed.moment).to_owned(),
            when::clock(&passed.utc).to_owned(),
            when::clock(&passed.kst).to_owned(),
            since(passed),
            passed.text.clone(),
        ]
    });
    table(&["", "UTC", "KST", "since the fault", "what"], rows)
}

/// The range's words.
pub(super) fn range(low_ms: u64, high_ms: Option<u64>) -> String {
    match high_ms {
        Some(high) => format!("≤ {}", span(high)),
        None => format!("> {}", span(low_ms)),
    }
}

fn clients(gaps: &Gaps) -> String {
    let mut text = format!(
        "{} clients. Their longest waits: half ≤ {}, 9 of 10 ≤ {}, 99 of 100 ≤ {}, the worst {}.\n\n",
        gaps.clients,
        span(gaps.p50_ms),
        span(gaps.p90_ms),
        span(gaps.p99_ms),
        span(gaps.max_ms)
    );
    let mut low = 0;
    let rows = gaps.ranges.iter().map(|(high, count)| {
        let words = range(low, *high);
        low = high.unwrap_or(low);
        vec![words, thousands(*count)]
    });
    text.push_str(&table(&["longest wait", "clients"], rows));
    if let Some(worst) = &gaps.worst {
        let _ = write!(
            text,
            "\n**The worst one's story:** {} ({}, {}, in {}) waited {} from {} UTC.\n\n",
            one_line(&worst.client),
            one_line(&worst.kind),
            one_line(&worst.language),
            one_line(&worst.dc),
            span(worst.gap_ms),
            when::clock(&when::utc(worst.gap_at_ms))
        );
        text.push_str(&bullets(worst.story.iter().map(|line| one_line(line))));
    }
    text
}

/// What was held against the ledger.
pub(super) fn ledger_rows(paper: &Paper) -> [(&'static str, u64); 5] {
    let measured = &paper.measured;
    [
        ("acknowledged and lost", measured.lost),
        ("duplicated", measured.duplicated),
        ("out of order", measured.reordered),
        ("reads staler than promised", measured.stale),
        ("calls that failed", measured.failed),
    ]
}

fn recovery_point(paper: &Paper) -> String {
    let rows = ledger_rows(paper);
    let rows = rows
        .iter()
        .map(|(what, n)| vec![(*what).to_owned(), thousands(*n)]);
    let of = format!(
        "By the ledger outside of the cluster, of {} calls:\n\n",
        thousands(paper.measured.calls)
    );
    of + &table(&["", "count"], rows)
}

fn promises(paper: &Paper) -> String {
    if paper.oracles.is_empty() {
        return String::new();
    }
    let rows = paper.oracles.iter().map(|oracle| {
        let held = match oracle.held {
            Some(true) => "held",
            Some(false) => "broken",
            None => "not told",
        };
        vec![
            oracle.promise.clone(),
            held.to_owned(),
            thousands(oracle.checked),
            oracle.text.clone(),
        ]
    });
    table(&["promise", "", "looked at", "evidence"], rows)
}

fn blast(facts: &Facts) -> String {
    let blast = &facts.blast;
    let mut text = format!(
        "{} of {} nodes in {} of {} data centers: {}. {} of {} clients waited longer than {}, and {} had a \
         failed call.\n\n",
        blast.nodes.len(),
        blast.of_nodes,
        blast.dcs.len(),
        blast.of_dcs,
        one_line(&blast.nodes.join(", ")),
        blast.felt,
        facts.gaps.clients,
        span(super::facts::FELT_MS),
        blast.failed
    );
    let rows = blast.by_dc.iter().map(|(dc, reached)| {
        vec![
            dc.clone(),
            thousands(reached.clients),
            thousands(reached.felt),
            span(reached.gap_ms),
            thousands(reached.calls),
            thousands(reached.failed),
        ]
    });
    let head = [
        "clients in",
        "clients",
        "felt it",
        "longest wait",
        "calls",
        "failed",
    ];
    text.push_str(&table(&head, rows));
    text
}

/// Percent, where it is known.
pub(super) fn percent(of: Option<f64>) -> String {
    of.map_or_else(|| "–".to_owned(), |of| format!("{of:.0} %"))
}

fn headroom(facts: &Facts) -> String {
    if facts.headroom.is_empty() {
        return String::new();
    }
    let rows = facts.headroom.iter().map(|one| {
        vec![
            one.dc.clone(),
            percent(one.predicted_pct),
            percent(one.seen_pct),
        ]
    });
    table(&["fullest disk in", "predicted", "seen"], rows)
}

fn twin(paper: &Paper) -> String {
    let twin = paper.rehearsal.as_ref().and_then(|one| one.twin.as_ref());
    twin.map_or_else(String::new, |twin| {
        format!(
            "{}\n\nIts longest gap was {}, with {} failed calls and {} acknowledged messages lost.\n",
            one_line(&twin.story),
            span(twin.gap_ms),
            thousands(twin.failed),
            thousands(twin.lost)
        )
    })
}

fn rehearsal(paper: &Paper) -> String {
    let Some(rehearsal) = &paper.rehearsal else {
        return String::new();
    };
    let (calm, fire) = (&rehearsal.calm, &rehearsal.beside_a_fire);
    let rows = [("as planned", calm), ("beside a real fire", fire)].into_iter();
    let rows = rows.map(|(what, seeds)| {
        vec![
            what.to_owned(),
            seeds.ran.to_string(),
            spread(seeds.gap_ms, "ms"),
            spread(seeds.failed, ""),
            spread(seeds.moves, ""),
            seeds.broken.to_string(),
            seeds.unsettled.to_string(),
        ]
    });
    let head = [
        "",
        "seeds",
        "longest gap",
        "failed calls",
        "moves",
        "broken",
        "not at rest",
    ];
    let mut text = table(&head, rows);
    text.push_str("\nThe simulator does not know:\n\n");
    text.push_str(&bullets(
        rehearsal.not_in_it.iter().map(|one| one_line(one)),
    ));
    text
}

/// A step of the plan in words.
pub(super) fn step(step: &Step) -> String {
    let lasts = step
        .for_ms
        .map_or_else(String::new, |ms| format!(" for {}", span(ms)));
    format!(
        "after {}: {}{lasts} on {}",
        span(step.at_ms),
        step.action.name(),
        one_line(&step.nodes.join(", "))
    )
}

fn approvals(paper: &Paper) -> String {
    bullets(paper.approvals.iter().map(|approval| {
        format!(
            "{}, {} UTC",
            one_line(&approval.who),
            when::utc(approval.at_ms)
        )
    }))
}

fn cluster(paper: &Paper) -> String {
    let cluster = &paper.cluster;
    let rows = cluster.nodes.iter().map(|node| {
        vec![
            node.name.clone(),
            node.region.clone(),
            node.dc.clone(),
            node.version.clone(),
        ]
    });
    format!(
        "Cluster `{}`, map epoch {}, layout `{}`: {} shards of {} replicas, {:.0} messages a second before.\n\n{}",
        one_line(&cluster.cluster_id),
        cluster.map_epoch,
        one_line(&cluster.layout_digest),
        cluster.shards,
        cluster.replicas,
        cluster.acks_per_s,
        table(&["node", "region", "data center", "version"], rows)
    )
}

fn kept(paper: &Paper) -> String {
    let kept = [&paper.ledger, &paper.night];
    let kept = kept.into_iter().flatten();
    bullets(kept.map(|one| format!("`{}`: blake3 `{}`", one.file, one.digest)))
}
