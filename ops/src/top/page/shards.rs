//! The page Shards: who leads the slots, what moves, each shard.

use std::collections::BTreeMap;

use ratatui::text::{Line, Span};
use server::sight::api::shards::{Moving, Replica, Shard, Shards};
use server::sight::view;

use super::super::screen::Style;
use super::super::table::{Cell, table, wrap};
use super::{BAD, GOOD, WARN, column, heading, number, or_none, set_in};

/// Slots that there are.
const SLOTS: usize = 65_536;

/// The page Shards.
pub fn shards(page: &Shards, sort: usize, room: usize, style: Style) -> Vec<Line<'static>> {
    let data: Vec<&Shard> = page
        .shards
        .iter()
        .filter(|shard| shard.shard != 0)
        .collect();
    let mut lines = Vec::new();
    if data.is_empty() {
        lines.push(Line::raw(" the shards are not laid out yet"));
        return lines;
    }
    lines.extend(strip(&data, room, style));
    if !page.moves.is_empty() {
        heading(&mut lines, format!("MOVING ({})", page.moves.len()), style);
        lines.extend(set_in(moves(&page.moves, room - 1, style)));
    }
    heading(&mut lines, format!("SHARDS ({})", page.shards.len()), style);
    lines.extend(set_in(each(page, sort, room - 1, style)));
    lines
}

/// Shards in the order that was asked for.
fn sorted(shards: &[Shard], sort: usize) -> Vec<&Shard> {
    let mut sorted: Vec<&Shard> = shards.iter().collect();
    match sort {
        0 => sorted.sort_by_key(|shard| (trouble(shard), shard.margin, shard.shard)),
        1 => sorted.sort_by_key(|shard| shard.shard),
        2 => sorted.sort_by(|a, b| b.acks_per_s.total_cmp(&a.acks_per_s)),
        3 => sorted.sort_by(|a, b| (&a.leader, a.shard).cmp(&(&b.leader, b.shard))),
        _ => sorted.sort_by_key(|shard| (std::cmp::Reverse(lag(shard)), shard.shard)),
    }
    sorted
}

/// A line for each shard.
fn each(page: &Shards, sort: usize, room: usize, style: Style) -> Vec<Line<'static>> {
    let heat = page.heat.rows.iter();
    // What nobody knows is drawn as nothing.
    let heat = heat.map(|row| {
        let cells = row.acks_per_s.iter();
        (row.shard, cells.map(|cell| cell.unwrap_or(0.0)).collect())
    });
    let heat: BTreeMap<u32, Vec<f64>> = heat.collect();
    let columns = [
        column(" ", 0),
        number("shard", 0),
        column("leader", 0),
        column("dc", 2),
        number("term", 6),
        number("changes/s", 3),
        number("margin", 1),
        column("last 10 min", 8),
        column("replicas (entries behind)", 0),
        number("slots", 9),
    ];
    let row = |shard: &&Shard| {
        let (mark, look) = match trouble(shard) {
            0..=2 => (BAD, style.bad()),
            3 | 4 => (WARN, style.warn()),
            _ => (GOOD, style.good()),
        };
        let leader = match (&shard.leader, shard.asleep) {
            (None, _) => Cell::styled("nobody", look),
            (Some(leader), true) => Cell::of(format!("{leader}, asleep")),
            (Some(leader), false) => Cell::of(leader),
        };
        let slots = match shard.shard {
            0 => String::new(),
            _ => format!("{}-{}", shard.slot_first, shard.slot_last),
        };
        let heat = heat.get(&shard.shard);
        vec![
            Cell::styled(mark, look),
            Cell::of(name(shard.shard)),
            leader,
            Cell::of(or_none(shard.leader_dc.clone())),
            Cell::of(shard.term.to_string()),
            Cell::of(format!("{:.1}", shard.acks_per_s)),
            Cell::styled(margin(shard.margin), look),
            Cell::of(heat.map_or_else(String::new, |row| spark(row))),
            Cell::of(replicas(shard)),
            Cell::of(slots),
        ]
    };
    let rows: Vec<Vec<Cell>> = sorted(&page.shards, sort).iter().map(row).collect();
    table(&columns, &rows, room, style.dim())
}

fn name(shard: u32) -> String {
    match shard {
        0 => "meta".to_owned(),
        shard => shard.to_string(),
    }
}

fn margin(margin: i64) -> String {
    match margin {
        -1 => "no quorum".to_owned(),
        above => format!("+{above}"),
    }
}

/// How bad a shard is: 0 has no quorum.
fn trouble(shard: &Shard) -> u8 {
    let broken = |one: &Replica| one.of_view.broken_reason.is_some();
    match () {
        () if shard.margin < 0 => 0,
        () if shard.leader.is_none() => 1,
        () if shard.replicas.iter().any(broken) => 2,
        () if shard.margin == 0 && shard.replicas.len() > 1 => 3,
        () if shard.degraded_dc.is_some()
            || shard.replicas.iter().any(|one| one.of_view.lag.is_none()) =>
        {
            4
        }
        () => 5,
    }
}

/// By how much its last replica is behind.
fn lag(shard: &Shard) -> u64 {
    let lags = shard.replicas.iter().filter_map(|one| one.of_view.lag);
    lags.max().unwrap_or(0)
}

fn replicas(shard: &Shard) -> String {
    let told = shard.replicas.iter().map(|replica| {
        let view::Replica {
            node,
            state,
            lag,
            broken_reason,
        } = &replica.of_view;
        if let Some(reason) = broken_reason {
            return format!("{node} broken: {reason}");
        }
        match (lag, state.as_str()) {
            (_, "unreachable") => format!("{node} silent"),
            (Some(_), "leader") => format!("{node} leads"),
            (Some(lag), "follower") => format!("{node} {lag}"),
            (Some(lag), state) => format!("{node} {lag} {state}"),
            (None, state) => format!("{node} {state}"),
        }
    });
    told.collect::<Vec<_>>().join(", ")
}

/// The slots from first to last, by the data center that leads them.
fn strip(shards: &[&Shard], room: usize, style: Style) -> Vec<Line<'static>> {
    let dcs: Vec<&str> = {
        let mut all: Vec<&str> = shards
            .iter()
            .flat_map(|shard| &shard.replicas)
            .map(|replica| replica.dc.as_str())
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    let letters = letters(&dcs);
    let cells = room.saturating_sub(2).max(1);
    let mut spans = vec![Span::raw(" ")];
    for cell in 0..cells {
        let slot = (cell * SLOTS + SLOTS / 2) / cells;
        let slot = u32::try_from(slot).unwrap_or(u32::MAX);
        let at = shards.partition_point(|shard| shard.slot_last < slot);
        let dc = shards.get(at).and_then(|shard| shard.leader_dc.as_deref());
        let known = dc.and_then(|dc| dcs.iter().position(|one| *one == dc));
        spans.push(match known {
            Some(n) => Span::styled(letters[n].to_string(), style.of_many(n)),
            None => Span::styled(BAD, style.bad()),
        });
    }
    let legend = dcs
        .iter()
        .zip(&letters)
        .map(|(dc, letter)| format!("{letter} {dc}"));
    let mut legend: Vec<String> = legend.collect();
    legend.push(format!("{BAD} nobody"));
    let words = wrap(
        &format!("who leads the slots: {}", legend.join(", ")),
        room - 1,
        2,
    );
    let mut lines = vec![Line::from(spans)];
    lines.extend(
        words
            .into_iter()
            .map(|line| Line::styled(format!(" {line}"), style.dim())),
    );
    lines
}

/// A letter for each, of its name where that is free.
fn letters(names: &[&str]) -> Vec<char> {
    let mut taken: Vec<char> = Vec::new();
    for name in names {
        let own = name
            .chars()
            .filter(char::is_ascii_alphabetic)
            .map(|c| c.to_ascii_uppercase());
        let free = own.chain('A'..='Z').chain('0'..='9');
        let letter = free.into_iter().find(|letter| !taken.contains(letter));
        taken.push(letter.unwrap_or('?'));
    }
    taken
}

/// The last columns of a heat map, as bars.
fn spark(row: &[f64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    const SHOWN: usize = 20;
    let row = &row[row.len().saturating_sub(SHOWN)..];
    let most = row.iter().copied().fold(0.0, f64::max);
    let bar = |value: &f64| match *value {
        value if value <= 0.0 || most <= 0.0 => ' ',
        value => {
            let step = (value / most * 8.0).ceil();
            let at = (1..=8_u8).find(|at| f64::from(*at) >= step).unwrap_or(8);
            BARS[usize::from(at) - 1]
        }
    };
    row.iter().map(bar).collect()
}

fn moves(moves: &[Moving], room: usize, style: Style) -> Vec<Line<'static>> {
    let columns = [
        number("shard", 0),
        column("from", 0),
        column("to", 0),
        column("state", 1),
        column("waits for", 0),
    ];
    let row = |going: &Moving| {
        let state = if going.changing {
            "changing the voters"
        } else {
            "learning"
        };
        vec![
            Cell::of(name(going.shard)),
            Cell::of(&going.from),
            Cell::of(&going.to),
            Cell::of(state),
            Cell::of(&going.waits_for),
        ]
    };
    let rows: Vec<Vec<Cell>> = moves.iter().map(row).collect();
    table(&columns, &rows, room, style.dim())
}
