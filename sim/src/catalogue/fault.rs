//! `[[fault]]`: the timeline, line by line.

use super::action::{self, VERBS};
use super::file::{Action, Aliases, Each, Line, Repeat, Topology};
use super::reader::{Reader, Section};
use super::refused::unknown;
use super::units::show_ms;
use super::{target, values};
use crate::plan::Site;

/// Most lines of a timeline.
const LINES_MAX: usize = 64;
/// How often one of them may repeat.
const TIMES_MAX: u64 = 200;
/// What the lines may refer to.
pub(super) struct Context<'a> {
    pub topology: &'a Topology,
    pub sites: &'a [Site],
    pub aliases: &'a Aliases,
    pub load_ms: u64,
}

/// What later lines may know of one before them.
struct Before {
    name: Option<String>,
    latest_ms: u64,
}

/// The lines of the timeline, with the line of the file where each begins.
pub(super) fn read(
    reader: &mut Reader<'_>,
    top: &Section<'_>,
    context: &Context<'_>,
) -> Vec<(usize, Line)> {
    let tables = reader.sections(top, "fault");
    if tables.len() > LINES_MAX {
        let message = format!(
            "{} faults; a timeline has at most {LINES_MAX}",
            tables.len()
        );
        reader.add(top, "fault", message);
    }
    let (mut lines, mut before) = (Vec::new(), Vec::new());
    for table in &tables {
        let name = reader.get(table, "name", values::name);
        if let Some(name) = &name
            && before
                .iter()
                .any(|b: &Before| b.name.as_ref() == Some(name))
        {
            let message = format!("there are two faults \"{name}\"; names must differ");
            reader.add(table, "name", message);
        }
        let line = line(reader, table, context, &before);
        let latest_ms = line.as_ref().map_or(0, |line| latest(line, &before));
        before.push(Before { name, latest_ms });
        if let Some(line) = line {
            in_time(reader, table, context, (&line, latest_ms));
            lines.push((reader.line_of(table), line));
        }
    }
    lines
}

fn line(
    reader: &mut Reader<'_>,
    table: &Section<'_>,
    context: &Context<'_>,
    before: &[Before],
) -> Option<Line> {
    let verb = reader.need(table, "action", values::word("an action", VERBS));
    let at_ms = reader.need(table, "at", values::window_ms(0..=context.load_ms));
    let after = reader.get(table, "after", values::text);
    let after = after.and_then(|name| {
        let found = before.iter().position(|b| b.name.as_ref() == Some(&name));
        if found.is_none() {
            let names = before.iter().filter_map(|b| b.name.as_deref());
            let message = unknown(&name, "the name of a fault before this one", names);
            reader.add(table, "after", message);
        }
        found
    });
    let lasts_ms = reader.get(table, "for", values::window_ms(1..=context.load_ms));
    let chance = reader.get(table, "chance", values::parts(0..=1_000_000));
    let ends = reader.get(table, "ends", values::parts(0..=1_000_000));
    let story = reader.get(table, "story", values::text);
    let verb = verb?;
    let common = [
        "action", "at", "name", "after", "for", "chance", "ends", "story", "every", "times",
        "each", "shuffle",
    ];
    reader.known(
        table,
        &[&common[..], verb.keys(), verb.target_keys()].concat(),
    );
    let action = action::read(reader, table, verb)?;
    let repeat = repeat(reader, table, &action);
    let target = target::read(reader, table, verb.target_keys(), context);
    let why = match &action {
        Action::Crash { disks_lost: true } => Err("the disks are lost"),
        _ => verb.lasts(),
    };
    if let (true, Err(why)) = (table.has("for"), why) {
        reader.add(table, "for", format!("does not go with this action: {why}"));
    }
    if let Action::Drill { ttl_ms, renews_ms } = &action {
        // Who dies cannot end it: it must have ended by itself by then.
        let over = renews_ms.map_or(0, |renews| renews.1 + ttl_ms.1);
        if lasts_ms.is_none_or(|lasts| lasts.0 < over) {
            let message = format!(
                "a drill ends: it must last {} at least",
                show_ms(over.max(1))
            );
            reader.add(table, "for", message);
        }
    }
    if table.has("ends") && !table.has("for") {
        reader.add(
            table,
            "ends",
            "says how likely the end is, but there is no for = \"…\"",
        );
    }
    Some(Line {
        at_ms: at_ms?,
        after,
        lasts_ms,
        chance: chance.unwrap_or(1_000_000),
        ends: ends.unwrap_or(1_000_000),
        repeat,
        target,
        action,
        story,
    })
}

/// The latest moment at which it begins.
fn latest(line: &Line, before: &[Before]) -> u64 {
    let base = line.after.and_then(|at| before.get(at));
    line.at_ms.1 + base.map_or(0, |base| base.latest_ms)
}

/// Whether a line is over when the load is.
fn in_time(
    reader: &mut Reader<'_>,
    table: &Section<'_>,
    context: &Context<'_>,
    (line, latest_ms): (&Line, u64),
) {
    let repeat = &line.repeat;
    let parts = match repeat.each {
        Some(each) => target::parts_max(&line.target, each, context),
        None => u64::from(repeat.times),
    };
    let begins = latest_ms + repeat.every_ms.1 * parts.saturating_sub(1);
    let ends = begins + line.lasts_ms.map_or(0, |(_, most)| most);
    let load = show_ms(context.load_ms);
    if begins >= context.load_ms {
        let key = if parts > 1 { "every" } else { "at" };
        let message = format!(
            "begins at {} at the latest, but the load ends at {load} (workload.duration)",
            show_ms(begins)
        );
        reader.add(table, key, message);
    } else if ends > context.load_ms {
        let message = format!(
            "ends at {} at the latest, but the load ends at {load} (workload.duration)",
            show_ms(ends)
        );
        reader.add(table, "for", message);
    }
    if let Some((_, lasts)) = line.lasts_ms
        && repeat.times > 1
        && table.has("every")
        && lasts >= repeat.every_ms.0
    {
        let message = format!(
            "up to {} is not over when it begins again, {} later at the soonest",
            show_ms(lasts),
            show_ms(repeat.every_ms.0)
        );
        reader.add(table, "for", message);
    }
}

const EACH: &[(&str, Each)] = &[("node", Each::Node), ("rack", Each::Rack), ("dc", Each::Dc)];

fn repeat(reader: &mut Reader<'_>, table: &Section<'_>, action: &Action) -> Repeat {
    let every = reader.get(table, "every", values::window_ms(0..=3_600_000));
    let times = reader.get(table, "times", values::count("times", 2..=TIMES_MAX));
    let each = reader.get(table, "each", values::word("what goes one by one", EACH));
    let shuffle = reader.get(table, "shuffle", values::yes).unwrap_or(false);
    let ways = matches!(
        action,
        Action::Cut { .. }
            | Action::Block
            | Action::Heal
            | Action::Reset
            | Action::Link(_)
            | Action::Stampede
    );
    if each.is_some() && ways {
        reader.add(table, "each", "goes with faults of hosts only");
    }
    if each.is_some() && times.is_some() {
        reader.add(
            table,
            "times",
            "does not go with each: one by one, or again and again",
        );
    }
    if shuffle && each.is_none() {
        reader.add(
            table,
            "shuffle",
            "draws the order of each = \"…\", which is missing",
        );
    }
    match (every, times.is_some() || each.is_some()) {
        (None, true) if !table.has("every") => {
            let message = "how long it is from one to the next is missing, as every = \"5s\"";
            reader.add(
                table,
                if times.is_some() { "times" } else { "each" },
                message,
            );
        }
        (Some(_), false) if !table.has("times") && !table.has("each") => {
            let message = "needs times = 3 (again and again) or each = \"node\" (one by one)";
            reader.add(table, "every", message);
        }
        _ => {}
    }
    Repeat {
        every_ms: every.unwrap_or((0, 0)),
        times: times.unwrap_or(1),
        each: each.filter(|_| !ways),
        shuffle,
    }
}
