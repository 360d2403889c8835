//! A line of the timeline becomes events: whom it befalls, when, and what ends it.

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

use super::deed::deed;
use super::draw::within;
use super::file::{Action, Each, Line};
use super::stage::{Host, Stage};
use crate::plan::{Event, Fault};

/// The events of one line that begins at `at_ms`.
pub(super) fn line(
    stage: &Stage<'_>,
    line: &Line,
    (number, at_ms): (u32, u64),
    dice: &mut StdRng,
) -> Vec<Event> {
    let mut events = Vec::new();
    let mut put = |at_ms, faults: Vec<Fault>, label: Option<&String>| {
        let mut label = label.cloned();
        events.extend(faults.into_iter().map(|fault| Event {
            at_ms,
            line: number,
            fault,
            label: label.take(),
        }));
    };
    let parts = parts(stage, line, dice);
    let times = line.repeat.times.max(1);
    let mut begin_ms = at_ms;
    for (at, (part, turn)) in parts
        .iter()
        .flat_map(|part| (0..times).map(move |turn| (part, turn)))
        .enumerate()
    {
        if at > 0 {
            begin_ms += within(dice, line.repeat.every_ms);
        }
        let deed = deed(stage, line, &names(part), dice);
        let lasts = line.lasts_ms.map(|window| within(dice, window));
        // A fault that repeats ends between its turns, whatever chance says of the last one.
        let ends = dice.random_range(0..1_000_000) < line.ends || turn + 1 < times;
        put(
            begin_ms,
            deed.begin,
            line.story.as_ref().filter(|_| at == 0),
        );
        if let Some(lasts) = lasts.filter(|_| ends) {
            put(begin_ms + lasts, deed.end, None);
        }
    }
    events
}

/// Whom it befalls: all at once, or part by part.
fn parts(stage: &Stage<'_>, line: &Line, dice: &mut StdRng) -> Vec<Vec<Host>> {
    let hosts = hosts(stage, line, dice);
    let key = |host: &Host| match line.repeat.each {
        None => String::new(),
        Some(Each::Node) => host.name.clone(),
        Some(Each::Rack) => format!("{} {}", host.dc, host.rack),
        Some(Each::Dc) => host.dc.clone(),
    };
    let mut parts: Vec<(String, Vec<Host>)> = Vec::new();
    for host in hosts {
        let key = key(&host);
        match parts.iter_mut().find(|(name, _)| *name == key) {
            Some((_, part)) => part.push(host),
            None => parts.push((key, vec![host])),
        }
    }
    if line.repeat.shuffle {
        parts.shuffle(dice);
    }
    if parts.is_empty() {
        // Faults between places have no hosts here.
        parts.push((String::new(), Vec::new()));
    }
    parts.into_iter().map(|(_, part)| part).collect()
}

fn hosts(stage: &Stage<'_>, line: &Line, dice: &mut StdRng) -> Vec<Host> {
    let target = &line.target;
    match &line.action {
        Action::Cut { .. } | Action::Block | Action::Heal | Action::Reset | Action::Link(_) => {
            Vec::new()
        }
        Action::Stampede => stage.stampeding(target, dice),
        // A building's clients share its fate, and its processors; going rack by rack they are in
        // none.
        Action::Burn
        | Action::PowerCut
        | Action::Crash { .. }
        | Action::Silence { .. }
        | Action::Starve(_)
        | Action::Start => {
            let whole = matches!(line.repeat.each, None | Some(Each::Dc));
            stage.befallen(target, whole, dice)
        }
        _ => stage.befallen(target, false, dice),
    }
}

fn names(part: &[Host]) -> Vec<String> {
    part.iter().map(|host| host.name.clone()).collect()
}
