//! A drill's page: one file that asks for nothing from anywhere.

use std::fmt::Write as _;

use server::drill::paper::{End, Paper};
use server::night::Night;
use server::night::account::Account;

use super::facts::{Goal, Headroom, Row, Standing};
use super::markdown::{cells, ledger_rows, name, percent, range, since, spread};
use super::{Facts, strips, when};
use crate::night::{Counterfactual, Window, plan, recorded};
use crate::reports::chart::chart;
use crate::reports::page::{columns, page, section};
use crate::reports::words::{escape, span, thousands};

/// The page; without a night it has no lanes.
pub(super) fn html(paper: &Paper, facts: &Facts, night: Option<&Night>) -> String {
    let mut body = format!("<style>{}</style>", include_str!("page.css"));
    body.push_str(&head(paper, facts));
    body.push_str(&figures(paper, facts));
    body.push_str(&section("Predicted, simulated, measured", &sides(facts)));
    if let Some(night) = night {
        body.push_str(&lanes(night));
    }
    body.push_str(&section("Timeline", &timeline(facts)));
    body.push_str(&section("Clients", &clients(paper, facts)));
    body.push_str(&columns(&[
        ("Recovery point, by the ledger", ledger(paper)),
        ("Promises", promises(paper)),
    ]));
    body.push_str(&section("Blast radius", &blast(facts)));
    let twin = paper.rehearsal.as_ref().and_then(|one| one.twin.as_ref());
    if let Some(twin) = twin {
        let content = format!(
            "<div class=\"twin\"><p>{}</p><p class=\"about\">The same plan in the simulator, with all data \
             centers in one building: longest gap {}, {} failed calls, {} acknowledged messages lost.</p></div>",
            escape(&twin.story),
            span(twin.gap_ms),
            thousands(twin.failed),
            thousands(twin.lost)
        );
        body.push_str(&section("The twin that burned", &content));
    }
    body.push_str(&columns(&[
        ("Goals and caps", goals(&facts.goals)),
        ("Headroom", headroom(&facts.headroom)),
    ]));
    body.push_str(&section("Rehearsal", &rehearsal(paper)));
    if !paper.deviations.is_empty() {
        body.push_str(&section("Deviations", &list(&paper.deviations)));
    }
    body.push_str(&section("Plan and approvals", &plan_part(paper)));
    body.push_str(&section("The cluster", &cluster(paper)));
    body.push_str(&section("Files", &kept(paper)));
    page(&format!("Drill {}", paper.plan.id), &body)
}

fn head(paper: &Paper, facts: &Facts) -> String {
    let plan = &paper.plan;
    let (class, sign) = match paper.end {
        End::Passed => ("held", "✓"),
        End::Missed => ("missed", "!"),
        End::Broken => ("failed", "✗"),
        End::Aborted => ("missed aborted", "■"),
        End::Inconclusive => ("missed inconclusive", "?"),
    };
    let warnings = facts.warnings.iter();
    let warnings = warnings.map(|one| format!("<p class=\"warn\">{}</p>", escape(one)));
    let target = match plan.target.is_empty() {
        true => String::new(),
        false => format!(" <small>{}</small>", escape(&plan.target)),
    };
    format!(
        "<header class=\"{class}\"><p class=\"kicker\">Firebreak · drill · {} UTC · {} KST</p>\
         <h1>{}{target}</h1><p class=\"about\">{}</p>\
         <p class=\"verdict\"><b>{sign} {}</b> <span>{}</span></p>{}</header>\n",
        when::utc(paper.began_ms),
        when::kst(paper.began_ms),
        escape(&plan.scenario),
        escape(&plan.hypothesis),
        escape(&capital(paper.end.word())),
        escape(&paper.why),
        warnings.collect::<String>()
    )
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

fn figures(paper: &Paper, facts: &Facts) -> String {
    let measured = &paper.measured;
    let worst = facts.gaps.worst.as_ref();
    let card = |name: &str, value: String, below: String, bad: bool| {
        let class = if bad { "failed" } else { "" };
        format!(
            "<div class=\"figure {class}\"><h3>{name}</h3><p>{}</p><small>{}</small></div>",
            escape(&value),
            escape(&below)
        )
    };
    let missed = |what: &str| {
        facts
            .goals
            .iter()
            .any(|goal| goal.what == what && !goal.held)
    };
    let cards = [
        card(
            "Longest gap",
            span(measured.gap_ms),
            worst.map_or_else(String::new, |one| format!("{}, {}", one.client, one.kind)),
            missed("longest gap"),
        ),
        card(
            "Failed calls",
            thousands(measured.failed),
            format!("of {}", thousands(measured.calls)),
            missed("failed calls"),
        ),
        card(
            "RPO",
            thousands(facts.rpo),
            "acknowledged messages lost".to_owned(),
            facts.rpo > 0,
        ),
        card(
            "RTO",
            facts.rto_ms.map_or_else(|| "–".to_owned(), span),
            "first fault to all served again".to_owned(),
            false,
        ),
        card(
            "Latency p99",
            format!("{:.1} ms", measured.p99_us as f64 / 1_000.0),
            format!("half within {:.1} ms", measured.p50_us as f64 / 1_000.0),
            false,
        ),
        card(
            "Replicas moved",
            thousands(measured.moves),
            "while it lasted".to_owned(),
            false,
        ),
    ];
    format!("<div class=\"figures\">{}</div>\n", cards.concat())
}

fn sides(facts: &Facts) -> String {
    let row = |row: &Row| {
        let [predicted, simulated, measured, said] = cells(row).map(|cell| escape(&cell));
        let class = match row.standing {
            Standing::Worse => "said worse",
            Standing::Within | Standing::Unknown => "said",
        };
        format!(
            "<tr><th>{}</th><td class=\"n\" data-label=\"predicted\">{predicted}</td>\
             <td class=\"n\" data-label=\"simulated\">{simulated}</td>\
             <td class=\"n\" data-label=\"measured\"><b>{measured}</b></td>\
             <td class=\"drawn\">{}</td><td class=\"{class}\">{said}</td></tr>",
            row.what,
            strips::strip(row)
        )
    };
    let rows: String = facts.rows.iter().map(row).collect();
    format!(
        "<table class=\"sides\"><thead><tr><th></th><th class=\"n\">predicted</th><th class=\"n\">simulated: \
         p50, p99, worst</th><th class=\"n\">measured</th><th></th><th></th></tr></thead>\
         <tbody>{rows}</tbody></table><p class=\"legend\"><span class=\"k\"><i class=\"said\"></i>predicted by \
         whatif</span><span class=\"k\"><i class=\"band\"></i>simulated, p50 to p99, and the worst seed</span>\
         <span class=\"k\"><i class=\"dot\"></i>measured</span></p>"
    )
}

/// What the recorders have of it.
fn lanes(night: &Night) -> String {
    let account = Account::of(night);
    let window = Window::whole(night);
    let as_it_was = Counterfactual::default();
    let content = match plan(night, &account, window, &as_it_was, false) {
        Ok(told) => chart(&recorded(night, &account, window, &told.plan)),
        Err(why) => format!("<p class=\"empty\">{}</p>", escape(&why)),
    };
    section("What the nodes' flight recorders have", &content)
}

fn timeline(facts: &Facts) -> String {
    let rows = facts.moments.iter().map(|passed| {
        format!(
            "<tr><th>{}</th><td class=\"n\">{}</td><td class=\"at\">{}</td><td class=\"kst\">{}</td>\
             <td class=\"text\">{}</td></tr>",
            name(passed.moment),
            since(passed),
            when::clock(&passed.utc),
            when::clock(&passed.kst),
            escape(&passed.text)
        )
    });
    format!(
        "<table class=\"when\"><thead><tr><th></th><th class=\"n\">since the fault</th><th>UTC</th>\
         <th class=\"kst\">KST</th><th>what</th></tr></thead><tbody>{}</tbody></table>",
        rows.collect::<String>()
    )
}

fn clients(paper: &Paper, facts: &Facts) -> String {
    let gaps = &facts.gaps;
    let mut text = format!(
        "<p class=\"about\">The longest wait of each of {} clients: half ≤ {}, 9 of 10 ≤ {}, 99 of 100 ≤ \
         {}, the worst {}.</p>{}",
        gaps.clients,
        span(gaps.p50_ms),
        span(gaps.p90_ms),
        span(gaps.p99_ms),
        span(gaps.max_ms),
        strips::waits(paper)
    );
    let mut low = 0;
    let ranges = gaps.ranges.iter().map(|(high, count)| {
        let words = range(low, *high);
        low = high.unwrap_or(low);
        format!("{} {words}", thousands(*count))
    });
    let ranges: Vec<String> = ranges.filter(|words| !words.starts_with("0 ")).collect();
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "<p class=\"legend\">{}</p>",
        escape(&ranges.join(" · "))
    );
    if let Some(worst) = &gaps.worst {
        let lines = worst
            .story
            .iter()
            .map(|line| format!("<li>{}</li>", escape(line)));
        let _ = write!(
            text,
            "<h3>The worst one's story: {}</h3><p class=\"about\">{}, {}, in {}: waited {} from {} \
             UTC.</p><ul class=\"story\">{}</ul>",
            escape(&worst.client),
            escape(&worst.kind),
            escape(&worst.language),
            escape(&worst.dc),
            span(worst.gap_ms),
            when::clock(&when::utc(worst.gap_at_ms)),
            lines.collect::<String>()
        );
    }
    text
}

fn ledger(paper: &Paper) -> String {
    let rows = ledger_rows(paper);
    let rows = rows.iter().map(|(what, count)| {
        let class = if *count == 0 { "held" } else { "failed" };
        format!(
            "<tr class=\"{class}\"><td>{what}</td><td class=\"n\">{}</td></tr>",
            thousands(*count)
        )
    });
    format!("<table><tbody>{}</tbody></table>", rows.collect::<String>())
}

fn promises(paper: &Paper) -> String {
    let rows = paper.oracles.iter().map(|oracle| {
        let (class, stand) = match oracle.held {
            Some(true) => ("held", "<i>✓</i> held"),
            Some(false) => ("failed", "<i>✗</i> broken"),
            None => ("none", "<i>–</i> not told"),
        };
        format!(
            "<tr class=\"{class}\"><th>{}</th><td class=\"stand\">{stand}</td><td class=\"n\">{}</td>\
             <td>{}</td></tr>",
            escape(&oracle.promise),
            thousands(oracle.checked),
            escape(&oracle.text)
        )
    });
    format!(
        "<table><thead><tr><th></th><th></th><th class=\"n\">looked at</th><th>evidence</th></tr></thead>\
         <tbody>{}</tbody></table>",
        rows.collect::<String>()
    )
}

fn blast(facts: &Facts) -> String {
    let blast = &facts.blast;
    let rows = blast.by_dc.iter().map(|(dc, reached)| {
        format!(
            "<tr><th>{}</th><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            escape(dc),
            reached.clients,
            reached.felt,
            span(reached.gap_ms),
            thousands(reached.calls),
            thousands(reached.failed)
        )
    });
    format!(
        "<p class=\"about\">{} of {} nodes in {} of {} data centers: {}. {} of {} clients waited longer than \
         {}; {} had a failed call.</p><table class=\"reached\"><thead><tr><th>clients in</th>\
         <th class=\"n\">clients</th><th class=\"n\">felt it</th><th class=\"n\">longest wait</th>\
         <th class=\"n\">calls</th><th class=\"n\">failed</th></tr></thead><tbody>{}</tbody></table>",
        blast.nodes.len(),
        blast.of_nodes,
        blast.dcs.len(),
        blast.of_dcs,
        escape(&blast.nodes.join(", ")),
        blast.felt,
        facts.gaps.clients,
        span(super::facts::FELT_MS),
        blast.failed,
        rows.collect::<String>()
    )
}

fn goals(goals: &[Goal]) -> String {
    let rows = goals.iter().map(|goal| {
        let (class, sign) = match goal.held {
            true => ("held", "✓"),
            false => ("failed", "✗"),
        };
        format!(
            "<tr class=\"{class}\"><td class=\"stand\"><i>{sign}</i></td><td>{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td></tr>",
            escape(&goal.what),
            escape(&goal.measured),
            escape(&goal.limit)
        )
    });
    format!("<table><tbody>{}</tbody></table>", rows.collect::<String>())
}

fn headroom(headroom: &[Headroom]) -> String {
    if headroom.is_empty() {
        return "<p class=\"empty\">Nobody told how full disks are.</p>".to_owned();
    }
    let meter = |class: &str, of: Option<f64>| {
        let wide = of.unwrap_or(0.0).clamp(0.0, 100.0);
        format!(
            "<td class=\"n\">{}</td><td><span class=\"meter {class}\"><i style=\"width:{wide:.1}%\"></i></span></td>",
            percent(of)
        )
    };
    let rows = headroom.iter().map(|one| {
        format!(
            "<tr><th>{}</th>{}{}</tr>",
            escape(&one.dc),
            meter("", one.predicted_pct),
            meter("seen", one.seen_pct)
        )
    });
    format!(
        "<table><thead><tr><th>fullest disk in</th><th class=\"n\">predicted</th><th></th><th class=\"n\">\
         seen</th><th></th></tr></thead><tbody>{}</tbody></table>",
        rows.collect::<String>()
    )
}

fn list(lines: &[String]) -> String {
    let items = lines
        .iter()
        .map(|line| format!("<li>{}</li>", escape(line)));
    format!("<ul class=\"story\">{}</ul>", items.collect::<String>())
}

fn rehearsal(paper: &Paper) -> String {
    let Some(rehearsal) = &paper.rehearsal else {
        return "<p class=\"empty\">It was not rehearsed.</p>".to_owned();
    };
    let seeds = [
        ("as planned", &rehearsal.calm),
        ("beside a real fire", &rehearsal.beside_a_fire),
    ];
    let rows = seeds.into_iter().map(|(what, seeds)| {
        format!(
            "<tr><th>{what}</th><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            seeds.ran,
            spread(seeds.gap_ms, "ms"),
            spread(seeds.failed, ""),
            seeds.broken,
            seeds.unsettled
        )
    });
    let notes = rehearsal
        .calm
        .notes
        .iter()
        .map(|note| format!("As planned, {note}"));
    let fires = rehearsal.beside_a_fire.notes.iter();
    let fires = fires.map(|note| format!("Beside a fire, {note}"));
    let notes: Vec<String> = notes.take(3).chain(fires.take(3)).collect();
    format!(
        "<div class=\"wide\"><table><thead><tr><th></th><th class=\"n\">seeds</th><th class=\"n\">longest gap: \
         p50, p99, worst</th><th class=\"n\">failed calls</th><th class=\"n\">broken</th>\
         <th class=\"n\">not at rest</th></tr></thead><tbody>{}</tbody></table></div>\
         <details><summary>The worst seeds</summary>{}</details>\
         <details><summary>What the simulator does not know</summary>{}</details>",
        rows.collect::<String>(),
        list(&notes),
        list(&rehearsal.not_in_it)
    )
}

fn plan_part(paper: &Paper) -> String {
    let steps = paper.plan.steps.iter().map(|step| {
        let lasts = step.for_ms.map_or_else(|| "–".to_owned(), span);
        format!(
            "<tr><td class=\"n\">{}</td><td class=\"kind\">{}</td><td class=\"n\">{lasts}</td><td>{}</td></tr>",
            span(step.at_ms),
            step.action.name(),
            escape(&step.nodes.join(", "))
        )
    });
    let approvals = paper.approvals.iter().map(|approval| {
        format!(
            "<tr><th>{}</th><td>{} UTC</td><td class=\"kst\">{} KST</td></tr>",
            escape(&approval.who),
            when::utc(approval.at_ms),
            when::kst(approval.at_ms)
        )
    });
    format!(
        "<p class=\"about\">{}</p><table><thead><tr><th class=\"n\">at</th><th>what</th><th class=\"n\">for\
         </th><th>nodes</th></tr></thead><tbody>{}</tbody></table><h3>Approved by</h3><table><tbody>{}</tbody>\
         </table>",
        escape(&paper.plan.about),
        steps.collect::<String>(),
        approvals.collect::<String>()
    )
}

fn cluster(paper: &Paper) -> String {
    let cluster = &paper.cluster;
    let rows = cluster.nodes.iter().map(|node| {
        format!(
            "<tr><th>{}</th><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&node.name),
            escape(&node.dc),
            escape(&node.region),
            escape(&node.version)
        )
    });
    format!(
        "<dl class=\"facts\"><dt>cluster</dt><dd><code>{}</code></dd><dt>map</dt><dd>epoch {}, layout \
         <code>{}</code></dd><dt>shards</dt><dd>{} of {} replicas</dd><dt>load before</dt><dd>{:.0} messages a \
         second</dd></dl><table><thead><tr><th>node</th><th>data center</th><th>region</th><th>version</th>\
         </tr></thead><tbody>{}</tbody></table>",
        escape(&cluster.cluster_id),
        cluster.map_epoch,
        escape(&cluster.layout_digest),
        cluster.shards,
        cluster.replicas,
        cluster.acks_per_s,
        rows.collect::<String>()
    )
}

fn kept(paper: &Paper) -> String {
    let kept = [&paper.ledger, &paper.night].into_iter().flatten();
    let rows = kept.map(|one| {
        format!(
            "<dt>{}</dt><dd><code>blake3 {}</code></dd>",
            escape(&one.file),
            escape(&one.digest)
        )
    });
    format!(
        "<p class=\"about\">Drill <code>{}</code>. A certificate signs these and this paper.</p>\
         <dl class=\"facts\">{}</dl>",
        escape(&paper.plan.id),
        rows.collect::<String>()
    )
}
