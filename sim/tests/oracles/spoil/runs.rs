//! Pages, tails and conversations at rest that lack something.

use super::*;

/// Some page that will do.
pub fn some_page(world: &mut World, fits: impl Fn(&Page) -> bool) -> Option<&mut Page> {
    let reads = world.setting.history.reads.iter_mut();
    reads
        .filter_map(|read| read.end.as_mut().ok())
        .find(|page| fits(page))
}

pub fn drop_of_page(world: &mut World, _: &mut StdRng) -> Option<()> {
    some_page(world, |page| page.messages.len() > 2)?
        .messages
        .remove(1);
    Some(())
}

pub fn repeat_in_page(world: &mut World, _: &mut StdRng) -> Option<()> {
    let page = some_page(world, |page| !page.messages.is_empty())?;
    page.messages.insert(0, page.messages.first()?.clone());
    Some(())
}

pub fn end_page_early(world: &mut World, _: &mut StdRng) -> Option<()> {
    let page = some_page(world, |page| !page.messages.is_empty())?;
    page.messages.pop();
    Some(())
}

pub fn drop_of_final(world: &mut World, _: &mut StdRng) -> Option<()> {
    let mut finals = world.setting.history.finals.iter_mut();
    finals
        .find(|last| last.messages.len() > 1)?
        .messages
        .remove(0);
    Some(())
}

/// Some append that was told its time for the first time.
fn some_stamped<'a>(world: &'a mut World, dice: &mut StdRng) -> Option<&'a mut Append> {
    let appends = world.setting.history.appends.iter_mut();
    let stamped = appends.filter(|append| append.created_ms.is_some() && !append.repeats);
    let mut stamped: Vec<&mut Append> = stamped.collect();
    let at = dice.random_range(0..stamped.len().max(1));
    (at < stamped.len()).then(|| stamped.swap_remove(at))
}

pub fn stamp_ahead(world: &mut World, dice: &mut StdRng) -> Option<()> {
    let append = some_stamped(world, dice)?;
    append.created_ms = append.created_ms.map(|ms| ms + 604_800_000);
    Some(())
}

pub fn stamp_back(world: &mut World, dice: &mut StdRng) -> Option<()> {
    let append = some_stamped(world, dice)?;
    append.created_ms = append.created_ms.map(|ms| ms - 604_800_000);
    Some(())
}

pub fn drop_of_tail(world: &mut World, dice: &mut StdRng) -> Option<()> {
    let mut tails = world.setting.history.tails.iter_mut();
    let events = &mut tails.find(|tail| tail.events.len() > 2)?.events;
    events.remove(dice.random_range(1..events.len() - 1));
    Some(())
}

pub fn repeat_in_tail(world: &mut World, dice: &mut StdRng) -> Option<()> {
    let mut tails = world.setting.history.tails.iter_mut();
    let events = &mut tails.find(|tail| !tail.events.is_empty())?.events;
    let at = dice.random_range(0..events.len());
    events.insert(at, events[at].clone());
    Some(())
}

pub fn stop_tail(world: &mut World, _: &mut StdRng) -> Option<()> {
    world.setting.observed.unsettled = None;
    let logs = &world.logs;
    let history = &mut world.setting.history;
    let strong = |room| {
        let mut finals = history.finals.iter().filter(move |last| last.room == room);
        finals.any(|last| last.messages.len() == logs[&room].len())
    };
    let mut tails = history.tails.iter_mut().filter(|tail| tail.complete);
    let tail = tails.find(|tail| tail.events.len() > 1 && strong(tail.room))?;
    tail.events.pop();
    Some(())
}

/// Cuts the finals of a message's room before it, all or the first only.
pub fn lose(world: &mut World, room: u32, seq: u64, all: bool) -> Option<()> {
    world.setting.observed.unsettled = None;
    let finals = world
        .setting
        .history
        .finals
        .iter_mut()
        .filter(|last| last.room == room);
    let cut = finals.take(if all { usize::MAX } else { 1 });
    cut.map(|last| last.messages.truncate(usize::try_from(seq - 1).unwrap()))
        .last()
}

pub fn lose_acked(world: &mut World, dice: &mut StdRng) -> Option<()> {
    let acks = acks(world, dice);
    let (append, seq) = acks.first()?;
    lose(world, append.room, *seq, false)
}

pub fn lose_seen(world: &mut World, _: &mut StdRng) -> Option<()> {
    let reads = world.setting.history.reads.iter();
    let mut seen =
        reads.filter_map(|read| Some((read.room, read.end.as_ref().ok()?.messages.last()?.seq)));
    let (room, seq) = seen.next_back()?;
    lose(world, room, seq, true)
}

pub fn replace_acked(world: &mut World, dice: &mut StdRng) -> Option<()> {
    let acks = acks(world, dice);
    let (append, seq) = acks.first()?;
    let history = &mut world.setting.history;
    let mut finals = history
        .finals
        .iter_mut()
        .filter(|last| last.room == append.room);
    let last = finals.find(|last| last.messages.len() as u64 >= *seq)?;
    last.messages[usize::try_from(seq - 1).unwrap()].id = "other".to_owned();
    Some(())
}
