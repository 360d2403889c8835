//! The page Now: what is wrong, data centers, nodes, links.

use std::collections::BTreeMap;

use ratatui::text::Line;
use server::sight::api::now::{Dc, Figures, Link, Now};
use server::sight::verdict::{Problem, span};
use server::sight::view::{self, Node};

use super::super::screen::Style;
use super::super::table::{Cell, cut, table, width, wrap};
use super::{BAD, GOOD, NONE, WARN, bytes, column, heading, ms, number, or_none, set_in};

/// What of a line the columns beside the words about a loss take, and what these words have at least.
const LOSE_BESIDE: usize = 38;
const LOSE_MIN: usize = 24;

/// The page Now.
pub fn now(now: &Now, sort: usize, room: usize, style: Style) -> Vec<Line<'static>> {
    let mut lines = figures(now, room, style);
    problems(&now.problems, room, style, &mut lines);
    if now.forming {
        return lines;
    }
    heading(&mut lines, "DATA CENTERS".to_owned(), style);
    lines.extend(set_in(dcs(&now.dcs, room - 1, style)));
    heading(&mut lines, "NODES".to_owned(), style);
    lines.extend(set_in(nodes(&now.nodes, sort, room - 1, style)));
    heading(&mut lines, "LINKS".to_owned(), style);
    lines.extend(set_in(links(&now.links, room - 1, style)));
    lines
}

fn figures(now: &Now, room: usize, style: Style) -> Vec<Line<'static>> {
    let Figures {
        acks_per_s,
        reads_per_s,
        p99_ms,
        gap_5m_ms,
        failed_5m,
        margin,
        margin_shards,
        ..
    } = &now.figures;
    let columns = [
        number("acks/s", 0),
        number("reads/s", 2),
        number("p99", 0),
        number("gap 5 min", 1),
        number("failed 5 min", 0),
        number("shards led", 1),
        number("margin", 0),
    ];
    let shards = &now.shards;
    let led = format!("{} of {}", shards.led, shards.total);
    let row = vec![
        Cell::of(format!("{acks_per_s:.1}")),
        Cell::of(format!("{reads_per_s:.1}")),
        Cell::of(or_none(p99_ms.map(ms))),
        Cell::of(ms(*gap_5m_ms)),
        Cell::styled(
            failed_5m.to_string(),
            if *failed_5m > 0 {
                style.warn()
            } else {
                style.good()
            },
        ),
        Cell::styled(
            led,
            if shards.led < shards.total {
                style.bad()
            } else {
                style.good()
            },
        ),
        match margin {
            Some(-1) => Cell::styled("no quorum", style.bad()),
            Some(0) => Cell::styled("+0", style.warn()),
            Some(above) => Cell::of(format!("+{above}")),
            None => Cell::of(NONE),
        },
    ];
    let mut lines = set_in(table(&columns, &[row], room - 1, style.dim()));
    let mut words = Vec::new();
    for (count, what) in [
        (shards.leaderless, "without leader"),
        (shards.no_quorum, "without quorum"),
        (shards.broken, "broken"),
        (shards.moving, "moving"),
        (shards.asleep, "asleep"),
    ] {
        if count > 0 {
            words.push(format!("{count} {what}"));
        }
    }
    if margin.is_some_and(|margin| margin < 1) {
        words.push(format!("{margin_shards} with the weakest margin"));
    }
    if !words.is_empty() {
        let words = format!("shards: {}", words.join(", "));
        let words = wrap(&words, room - 1, 2);
        lines.extend(words.into_iter().map(|line| Line::raw(format!(" {line}"))));
    }
    if !now.figures.gap_5m_whose.is_empty() {
        let whose = format!("the longest gap was met by {}", now.figures.gap_5m_whose);
        lines.push(Line::styled(
            format!(" {}", cut(&whose, room - 1)),
            style.dim(),
        ));
    }
    lines
}

/// Everything that is wrong, the gravest first, each with what it means and what to do.
fn problems(problems: &[Problem], room: usize, style: Style, lines: &mut Vec<Line<'static>>) {
    if problems.is_empty() {
        heading(
            lines,
            format!("{GOOD} everything is as it should be"),
            style,
        );
        return;
    }
    let count = problems.len();
    heading(
        lines,
        format!("NOT AS IT SHOULD BE ({count}), worst first"),
        style,
    );
    for problem in problems {
        let (mark, look) = match problem.stops {
            true => (BAD, style.bad()),
            false => (WARN, style.warn()),
        };
        let says = if problem.stops {
            "stops calls"
        } else {
            "degraded"
        };
        let what = wrap(&format!("{mark} {says}: {}", problem.what), room - 1, 2);
        lines.extend(
            what.into_iter()
                .map(|line| Line::styled(format!(" {line}"), look)),
        );
        let why = wrap(problem.why, room - 3, 0);
        lines.extend(
            why.into_iter()
                .map(|line| Line::styled(format!("   {line}"), style.dim())),
        );
        lines.extend(next_step(problem, room - 3));
    }
}

/// The runbook and the command, which stays in one piece so that it can be copied.
fn next_step(problem: &Problem, room: usize) -> Vec<Line<'static>> {
    let (runbook, command) = (format!("runbook {}:", problem.runbook), problem.command);
    let together = format!("{runbook} {command}");
    match width(&together) <= room {
        true => vec![Line::raw(format!("   {together}"))],
        false => vec![
            Line::raw(format!("   {runbook}")),
            Line::raw(format!("   {command}")),
        ],
    }
}

fn dcs(dcs: &[Dc], room: usize, style: Style) -> Vec<Line<'static>> {
    let columns = [
        column(" ", 0),
        column("dc", 0),
        column("region", 4),
        number("alive", 0),
        number("leads", 0),
        number("share", 2),
        number("disk", 1),
        number("clock", 3),
        column("if it is lost now", 0),
    ];
    let mut sorted: Vec<&Dc> = dcs.iter().collect();
    let rank = |dc: &Dc| {
        let served = dc.lose.as_ref().is_none_or(|lose| lose.served);
        (dc.alive * 2 > dc.nodes, dc.alive == dc.nodes, served)
    };
    sorted.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.dc.cmp(&b.dc)));
    let row = |dc: &&Dc| {
        let (mark, look) = match (dc.alive, dc.nodes) {
            (0, _) => (BAD, style.bad()),
            (alive, nodes) if alive < nodes => (WARN, style.warn()),
            _ if dc.draining > 0 => (WARN, style.warn()),
            _ => (GOOD, style.good()),
        };
        let drains = if dc.draining > 0 { ", drains" } else { "" };
        vec![
            Cell::styled(mark, look),
            Cell::of(&dc.dc),
            Cell::of(&dc.region),
            Cell::styled(format!("{} of {}{drains}", dc.alive, dc.nodes), look),
            Cell::of(dc.leads.to_string()),
            Cell::of(format!("{:.0} %", dc.leads_pct)),
            Cell::of(or_none(dc.disk_used_pct.map(|pct| format!("{pct:.0} %")))),
            clock(dc.clock_off_ms, style),
            lose(dc, room.saturating_sub(LOSE_BESIDE).max(LOSE_MIN), style),
        ]
    };
    let rows: Vec<Vec<Cell>> = sorted.iter().map(row).collect();
    table(&columns, &rows, room, style.dim())
}

fn clock(off_ms: i64, style: Style) -> Cell {
    match off_ms {
        0 => Cell::of("right"),
        off => {
            let sign = if off > 0 { '+' } else { '-' };
            Cell::styled(format!("{sign}{}", span(off.unsigned_abs())), style.warn())
        }
    }
}

/// What the loss of a data center would mean.
fn lose(dc: &Dc, room: usize, style: Style) -> Cell {
    if dc.alive == 0 {
        return Cell::styled("it is silent now", style.bad());
    }
    let Some(lose) = &dc.lose else {
        return Cell::of(NONE);
    };
    if !lose.served {
        return Cell::styled(cut(&format!("{BAD} {}", lose.why), room), style.bad());
    }
    let gap = lose.gap_ms.map(|gap| match gap {
        0 => ", nobody waits".to_owned(),
        gap => format!(", about {:.1} s", gap_s(gap)),
    });
    let text = format!("{GOOD} served{}", gap.unwrap_or_default());
    let more = match (lose.unrestorable, lose.disk_after_pct) {
        (0, Some(pct)) => format!("; disks then {pct:.0} %"),
        (0, None) => String::new(),
        (replicas, _) => format!("; {replicas} replicas find no place"),
    };
    let look = if lose.unrestorable > 0 {
        style.warn()
    } else {
        style.good()
    };
    Cell::styled(cut(&(text + &more), room), look)
}

#[allow(clippy::cast_precision_loss, reason = "a time for people")]
fn gap_s(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

/// How bad a node is: 0 is silent.
fn badness(node: &Node) -> u8 {
    match node.health.as_ref().map(|health| health.ok) {
        _ if !node.reachable => 0,
        Some(false) => 1,
        _ if node.disk_reserve_reached => 2,
        _ if node.clock_off_ms != 0 => 3,
        _ if node.leaving || node.draining => 4,
        _ => 5,
    }
}

fn nodes(nodes: &[Node], sort: usize, room: usize, style: Style) -> Vec<Line<'static>> {
    let columns = [
        column(" ", 0),
        column("node", 0),
        column("dc", 3),
        column("state", 0),
        number("leads", 1),
        number("acks/s", 1),
        number("p99", 2),
        number("gap", 4),
        number("failed", 4),
        number("sync", 5),
        number("late", 7),
        number("disk free", 6),
        number("clock", 8),
        column("version", 9),
    ];
    let row = |node: &&Node| {
        let (mark, look) = match badness(node) {
            0 | 1 => (BAD, style.bad()),
            2..=4 => (WARN, style.warn()),
            _ => (GOOD, style.good()),
        };
        let told = |of: &dyn Fn(&view::Figures) -> Option<String>| {
            Cell::of(or_none(node.figures.as_ref().and_then(of)))
        };
        vec![
            Cell::styled(mark, look),
            Cell::of(&node.name),
            Cell::of(&node.dc),
            Cell::styled(state(node), look),
            Cell::of(node.leads.to_string()),
            told(&|one| Some(format!("{:.1}", one.acks_per_s))),
            told(&|one| one.p99_ms.map(ms)),
            told(&|one| Some(ms(one.gap_5m_ms))),
            told(&|one| Some(one.failed_5m.to_string())),
            told(&|one| one.sync_ms.map(ms)),
            told(&|one| Some(ms(one.lateness_ms))),
            Cell::of(or_none(node.disk_free_bytes.map(bytes))),
            match node.reachable {
                true => clock(node.clock_off_ms, style),
                false => Cell::of(NONE),
            },
            Cell::of(or_none(node.version.clone())),
        ]
    };
    let rows: Vec<Vec<Cell>> = by(nodes, sort).iter().map(row).collect();
    table(&columns, &rows, room, style.dim())
}

/// Nodes in the order that was asked for.
fn by(nodes: &[Node], sort: usize) -> Vec<&Node> {
    let mut sorted: Vec<&Node> = nodes.iter().collect();
    let figure =
        |node: &Node, of: fn(&view::Figures) -> f64| node.figures.as_ref().map_or(-1.0, of);
    let down = |of: fn(&view::Figures) -> f64| {
        move |a: &&Node, b: &&Node| figure(b, of).total_cmp(&figure(a, of))
    };
    sorted.sort_by(|a, b| (&a.dc, &a.name).cmp(&(&b.dc, &b.name)));
    match sort {
        0 => sorted.sort_by_key(|node| badness(node)),
        1 => sorted.sort_by(|a, b| a.name.cmp(&b.name)),
        2 => sorted.sort_by_key(|node| std::cmp::Reverse(node.leads)),
        3 => sorted.sort_by(down(|one| one.acks_per_s)),
        4 => sorted.sort_by(down(|one| one.p99_ms.unwrap_or(-1.0))),
        _ => sorted.sort_by(down(|one| one.gap_5m_ms)),
    }
    sorted
}

/// Of a node, in a word or two.
fn state(node: &Node) -> String {
    let unwell = node.health.as_ref().filter(|health| !health.ok);
    match (node.gone_ms, unwell) {
        _ if node.reachable && node.disk_reserve_reached => "disk full".to_owned(),
        (_, Some(health)) if node.reachable => format!("cannot append: {}", health.why),
        _ if node.reachable && node.leaving => "leaves".to_owned(),
        _ if node.reachable && node.draining && node.leads > 0 => "drains".to_owned(),
        _ if node.reachable && node.draining => "drained".to_owned(),
        _ if node.reachable => "serves".to_owned(),
        (None | Some(0), _) => "silent".to_owned(),
        (Some(gone), _) => format!("silent {}", span(gone)),
    }
}

/// The ways that are not as they should be, or that all are.
fn links(links: &[Link], room: usize, style: Style) -> Vec<Line<'static>> {
    let down: Vec<&Link> = links.iter().filter(|link| !link.up).collect();
    let slowest = links
        .iter()
        .filter(|link| link.up && link.round_ms.is_some());
    let slowest = slowest.max_by(|a, b| {
        let round = |link: &Link| link.round_ms.unwrap_or(0.0);
        round(a).total_cmp(&round(b))
    });
    let slow = slowest.map_or_else(String::new, |link| {
        let round = ms(link.round_ms.unwrap_or(0.0));
        format!(
            "; the slowest round is {round}, {} to {}",
            link.from, link.to
        )
    });
    let up = links.len() - down.len();
    let words = match down.len() {
        0 => format!("{GOOD} all {up} are up{slow}"),
        _ => format!("{up} of {} are up{slow}", links.len()),
    };
    let words = wrap(&words, room, 2);
    let look = if down.is_empty() {
        style.good()
    } else {
        style.head()
    };
    let mut lines: Vec<Line<'static>> = words
        .into_iter()
        .map(|line| Line::styled(line, look))
        .collect();
    if down.is_empty() {
        return lines;
    }
    lines.extend(set_down(&down, room, style));
    lines
}

/// Who is felt so, and by whom: a dead node is one line.
fn set_down(down: &[&Link], room: usize, style: Style) -> Vec<Line<'static>> {
    let mut down = down.to_vec();
    down.sort_by(|a, b| (&a.to, &a.from).cmp(&(&b.to, &b.from)));
    let mut felt: BTreeMap<(&str, &str), (Vec<&str>, f64)> = BTreeMap::new();
    for link in down {
        let one = felt.entry((&link.to, &link.state)).or_default();
        one.0.push(&link.from);
        one.1 = one.1.max(link.silent_ms);
    }
    let columns = [
        column(" ", 0),
        column("to", 0),
        column("is", 0),
        number("for", 1),
        column("as felt by", 0),
    ];
    let row = |((to, state), (from, silent)): ((&str, &str), (Vec<&str>, f64))| {
        let mark = if state == "silent" { BAD } else { WARN };
        let look = if state == "silent" {
            style.bad()
        } else {
            style.warn()
        };
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a time for people, never below 0"
        )]
        let silent = span(silent as u64);
        vec![
            Cell::styled(mark, look),
            Cell::of(to),
            Cell::styled(state, look),
            Cell::of(silent),
            Cell::of(from.join(", ")),
        ]
    };
    let rows: Vec<Vec<Cell>> = felt.into_iter().map(row).collect();
    table(&columns, &rows, room, style.dim())
}
