//! A drill that runs: who carries it out, and how it ends.

use bytes::Bytes;

use super::approve::{same_map, standing};
use super::decide::{Decided, name, text};
use super::{
    Beat, Begin, Claim, Conclude, Controller, Drill, Drills, End, LOST_MS, Lost, NOTES_MAX, Note,
    SUMMARY_BYTES_MAX, State, TAKEOVER_MS, TEXT_BYTES_MAX,
};
use crate::cluster::decide::refused;
use crate::command::{Reason, Refusal};

/// The drill of a name.
pub(super) fn find<'a>(drills: &'a mut Drills, id: &str) -> Result<&'a mut Drill, Refusal> {
    let mut held = drills.drills.iter_mut().filter(|drill| drill.id == id);
    let none = || {
        refused(format!(
            "there is no drill {id}; `firebreak drill list` names them"
        ))
    };
    held.next().ok_or_else(none)
}

/// A controller begins.
pub(super) fn begin(drills: &mut Drills, wanted: &Begin, layout: &Bytes, now_ms: u64) -> Decided {
    name("controller", &wanted.who)?;
    let drill = find(drills, &wanted.id)?.clone();
    if drill.is(State::Ended) {
        return Err(refused(format!(
            "the drill {} has ended: {}",
            drill.id, drill.why
        )));
    }
    if let Some(running) = drills.running() {
        let held = running.controller.as_ref();
        if let Some(own) = held.filter(|one| running.id == drill.id && one.who == wanted.who) {
            return Ok(own.number);
        }
        let by = held.map_or("somebody", |one| &one.who);
        return Err(Refusal::new(
            Reason::AlreadyExists,
            format!(
                "the drill {} runs already, by {by}: one at a time",
                running.id
            ),
        ));
    }
    may_begin(drills, now_ms)?;
    if drill.plan_digest != wanted.plan_digest {
        return Err(refused(format!(
            "the controller's plan is not that of the drill {}",
            drill.id
        )));
    }
    same_map(&drill, layout)?;
    match drill.standing.is_empty() || enough(drills, &drill, now_ms).is_ok() {
        true => enough(drills, &drill, now_ms)?,
        false => due(drills, &drill, now_ms)?,
    }
    drills.controllers += 1;
    let number = drills.controllers;
    let drill = find(drills, &wanted.id)?;
    drill.state = State::Running as i32;
    drill.began_ms = now_ms;
    drill.controller = Some(Controller {
        number,
        who: wanted.who.clone(),
        since_ms: now_ms,
        heard_ms: now_ms,
    });
    let of = drill.standing.clone();
    for standing in drills.standing.iter_mut().filter(|one| one.name == of) {
        standing.last_ms = now_ms;
        if standing.next_ms <= now_ms {
            let passed = (now_ms - standing.next_ms) / standing.every_ms.max(1);
            let ahead = standing.every_ms.saturating_mul(passed.saturating_add(1));
            standing.next_ms = standing.next_ms.saturating_add(ahead);
        }
    }
    Ok(number)
}

/// Whether any drill may begin now.
fn may_begin(drills: &Drills, now_ms: u64) -> Result<(), Refusal> {
    if let Some(lever) = &drills.lever {
        return Err(refused(format!(
            "{} pulled the lever ({}); `firebreak drill release` allows drills again",
            lever.who, lever.why
        )));
    }
    if let Some(window) = drills.blocked(now_ms) {
        return Err(refused(format!(
            "no drill begins within the blocked window {} ({})",
            window.name, window.why
        )));
    }
    Ok(())
}

/// Whether so many operators as are needed have allowed it, and not too long ago.
fn enough(drills: &Drills, drill: &Drill, now_ms: u64) -> Result<(), Refusal> {
    let (valid, needed) = (drill.valid(now_ms), drills.needed());
    if valid >= needed {
        return Ok(());
    }
    let old = drill.approvals.len() - valid;
    let old = match old {
        0 => String::new(),
        old => format!(" ({old} more than a day old)"),
    };
    Err(refused(format!(
        "the drill {} needs {needed} approvals and has {valid}{old}",
        drill.id
    )))
}

/// Whether a standing drill may begin by itself now.
fn due(drills: &Drills, drill: &Drill, now_ms: u64) -> Result<(), Refusal> {
    let standing = standing(drills, &drill.standing)?;
    let (name, needed) = (&standing.name, drills.needed());
    if standing.recipe_digest != drill.recipe_digest {
        return Err(refused(format!(
            "the standing drill {name} is another since {} was planned",
            drill.id
        )));
    }
    if standing.approvals.len() < needed {
        return Err(refused(format!(
            "the standing drill {name} needs {needed} approvals and has {}",
            standing.approvals.len()
        )));
    }
    if standing.until_ms <= now_ms {
        return Err(refused(format!(
            "the approvals of the standing drill {name} hold no longer"
        )));
    }
    if standing.next_ms > now_ms {
        return Err(refused(format!("the standing drill {name} is not due yet")));
    }
    Ok(())
}

/// Another controller takes over.
pub(super) fn claim(drills: &mut Drills, wanted: &Claim, now_ms: u64) -> Decided {
    name("controller", &wanted.who)?;
    let next = drills.controllers + 1;
    let drill = find(drills, &wanted.id)?;
    if !drill.is(State::Running) {
        let how = match drill.is(State::Ended) {
            true => format!("has ended: {}", drill.why),
            false => "has not begun".to_owned(),
        };
        return Err(refused(format!("the drill {} {how}", drill.id)));
    }
    let takeover = drill.unheard(TAKEOVER_MS, now_ms);
    match &mut drill.controller {
        Some(held) if held.who == wanted.who => {
            held.heard_ms = now_ms;
            return Ok(held.number);
        }
        Some(held) if !takeover => {
            return Err(refused(format!(
                "its controller {} was heard {} ms ago; it is replaced after {TAKEOVER_MS} ms of silence",
                held.who,
                now_ms.saturating_sub(held.heard_ms)
            )));
        }
        held => {
            *held = Some(Controller {
                number: next,
                who: wanted.who.clone(),
                since_ms: now_ms,
                heard_ms: now_ms,
            });
        }
    }
    push(drill, &format!("{} took over", wanted.who), now_ms);
    drills.controllers = next;
    Ok(next)
}

/// The drill, if the controller of this number carries it out, or did at its end.
fn held<'a>(drills: &'a mut Drills, id: &str, number: u64) -> Result<&'a mut Drill, Refusal> {
    let drill = find(drills, id)?;
    match &drill.controller {
        Some(controller) if controller.number == number => Ok(drill),
        Some(controller) => Err(refused(format!(
            "the controller of number {number} was replaced by {}, of number {}",
            controller.who, controller.number
        ))),
        None => Err(refused(format!("the drill {id} has not begun"))),
    }
}

/// The controller is there.
pub(super) fn beat(drills: &mut Drills, beat: &Beat, now_ms: u64) -> Decided {
    text("the note", &beat.note)?;
    let drill = held(drills, &beat.id, beat.number)?;
    if drill.is(State::Ended) {
        return Err(refused(format!(
            "the drill {} has ended: {}",
            drill.id, drill.why
        )));
    }
    if let Some(controller) = &mut drill.controller {
        controller.heard_ms = controller.heard_ms.max(now_ms);
    }
    let again = drill
        .notes
        .last()
        .is_some_and(|last| last.text == beat.note);
    if !beat.note.is_empty() && !again {
        push(drill, &beat.note, now_ms);
    }
    Ok(0)
}

/// The controller says how it ended. Of a drill that was ended by others it says only what came out, and
/// whether a promise broke.
pub(super) fn conclude(drills: &mut Drills, said: &Conclude, now_ms: u64) -> Decided {
    text("the reason", &said.why)?;
    if said.summary.len() > SUMMARY_BYTES_MAX {
        return Err(refused(format!(
            "a summary has at most {SUMMARY_BYTES_MAX} bytes"
        )));
    }
    let end = match End::try_from(said.end) {
        Ok(End::Unspecified) | Err(_) => {
            return Err(refused(
                "a drill ends passed, missed, broken, aborted or inconclusive",
            ));
        }
        Ok(end) => end,
    };
    let drill = held(drills, &said.id, said.number)?;
    if drill.is(State::Running) {
        self::end(drill, end, &said.why, now_ms);
    } else if !drill.summary.is_empty() {
        return Ok(0);
    } else if end == End::Broken {
        drill.end = end as i32;
        drill.why = short(&format!("{}; {}", said.why, drill.why));
    }
    drill.summary.clone_from(&said.summary);
    Ok(0)
}

/// Its controller is not heard any more.
pub(super) fn lost(drills: &mut Drills, lost: &Lost, now_ms: u64) -> Decided {
    let drill = held(drills, &lost.id, lost.number)?;
    if drill.is(State::Ended) {
        return Ok(0);
    }
    if !drill.unheard(LOST_MS, now_ms) {
        return Err(refused(format!("the controller of {} is heard", lost.id)));
    }
    let who = drill.controller.as_ref().map_or("", |one| &one.who);
    let why = format!(
        "its controller {who} was lost: nothing was heard of it for {} s, and its faults ended by themselves",
        LOST_MS / 1_000
    );
    self::end(drill, End::Inconclusive, &why, now_ms);
    Ok(0)
}

/// Ends it. What it was to do is in its folder; here its plan is needed no longer.
pub(super) fn end(drill: &mut Drill, end: End, why: &str, now_ms: u64) {
    drill.state = State::Ended as i32;
    drill.end = end as i32;
    drill.why = short(why);
    drill.ended_ms = now_ms;
    drill.plan = String::new();
}

/// Adds a note; of too many the last is replaced. Of those that are figures, as JSON, the newest is kept.
fn push(drill: &mut Drill, note: &str, now_ms: u64) {
    let is_figures = |text: &str| text.starts_with('{');
    if is_figures(note) {
        drill.notes.retain(|one| !is_figures(&one.text));
    }
    drill.notes.truncate(NOTES_MAX - 1);
    drill.notes.push(Note {
        at_ms: now_ms,
        text: short(note),
    });
}

/// What fits of a text.
fn short(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
