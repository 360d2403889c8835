//! Messages that are not what, or where, they were.

use super::*;

/// Every place where a message is seen.
pub fn sightings(world: &mut World, room: u32) -> impl Iterator<Item = &mut SeenMessage> {
    let history = &mut world.setting.history;
    let reads = history
        .reads
        .iter_mut()
        .filter(move |read| read.room == room);
    let pages = reads.filter_map(|read| read.end.as_mut().ok());
    let tails = history
        .tails
        .iter_mut()
        .filter(move |tail| tail.room == room);
    let tailed = tails.flat_map(|tail| tail.events.iter_mut().map(|(_, seen)| seen));
    let finals = history
        .finals
        .iter_mut()
        .filter(move |last| last.room == room);
    let finals = finals.flat_map(|last| &mut last.messages);
    pages
        .flat_map(|page| &mut page.messages)
        .chain(tailed)
        .chain(finals)
}

/// Lets two messages of a room change places, for everyone alike.
pub fn swap(world: &mut World, room: u32, a: u64, b: u64) {
    let log = world.logs[&room].clone();
    let at = |seq: u64| log[usize::try_from(seq - 1).unwrap()].clone();
    let places = BTreeMap::from([(a, at(b)), (b, at(a))]);
    for seen in sightings(world, room) {
        if let Some(other) = places.get(&seen.seq) {
            *seen = SeenMessage {
                seq: seen.seq,
                ..other.clone()
            };
        }
    }
    for append in world
        .setting
        .history
        .appends
        .iter_mut()
        .filter(|one| one.room == room)
    {
        if let AppendEnd::Acked { seq } = &mut append.end {
            *seq = if *seq == a {
                b
            } else if *seq == b {
                a
            } else {
                *seq
            };
        }
    }
}

/// A pair of acknowledged messages, the second first sent after the first was acknowledged.
pub fn in_order(world: &World, dice: &mut StdRng, same: bool) -> Option<(u32, u64, u64)> {
    let acks = acks(world, dice);
    let appends = &world.setting.history.appends;
    let first_of = |one: &Append| {
        let all = appends
            .iter()
            .filter(|all| (&all.sender, &all.id) == (&one.sender, &one.id));
        all.map(|append| append.invoked_us).min()
    };
    let mut pairs = acks.iter().flat_map(|a| acks.iter().map(move |b| (a, b)));
    let found = pairs.find(|((a, _), (b, _))| {
        a.room == b.room
            && (!same || a.session == b.session)
            && first_of(b).is_some_and(|first| before(a, first))
    });
    found.map(|((a, a_seq), (_, b_seq))| (a.room, *a_seq, *b_seq))
}

pub fn swap_against_time(world: &mut World, dice: &mut StdRng) -> Option<()> {
    let (room, a, b) = in_order(world, dice, false)?;
    swap(world, room, a, b);
    Some(())
}

pub fn swap_of_sender(world: &mut World, dice: &mut StdRng) -> Option<()> {
    let (room, a, b) = in_order(world, dice, true)?;
    swap(world, room, a, b);
    Some(())
}

pub fn leave_a_hole(world: &mut World, _: &mut StdRng) -> Option<()> {
    let (room, log) = world.logs.iter().find(|(_, log)| log.len() > 1)?;
    let (room, seq, last) = (*room, log.len() as u64 - 1, log.last()?.clone());
    let gone = log[log.len() - 2].clone();
    let history = &mut world.setting.history;
    let of = |append: &Append, seen: &SeenMessage| {
        (&append.sender, &append.id) == (&seen.sender, &seen.id)
    };
    // Nobody has seen the one, somebody was acknowledged the other, and nothing could be it.
    history.finals.clear();
    history.tails.clear();
    history.appends.retain(|append| {
        let spare = append.room == room && acked(append).is_none();
        !spare && !of(append, &gone)
    });
    let lasts = history.appends.iter().any(|append| of(append, &last));
    history.reads.retain(|read| match &read.end {
        Ok(page) => page
            .messages
            .iter()
            .all(|seen| seen.seq != seq || read.room != room),
        Err(_) => false,
    });
    lasts.then_some(())
}

pub fn change_one_body(world: &mut World, dice: &mut StdRng) -> Option<()> {
    let acks = acks(world, dice);
    let (append, seq) = acks.first()?;
    let mut seen = sightings(world, append.room).filter(|seen| seen.seq == *seq);
    seen.next()?.body ^= 1;
    Some(())
}

pub fn ack_one_seq_twice(world: &mut World, dice: &mut StdRng) -> Option<()> {
    let acks = acks(world, dice);
    let (one, _) = acks.first()?;
    let (_, seq) = acks
        .iter()
        .find(|(two, _)| two.room == one.room && two.id != one.id)?;
    let appends = &mut world.setting.history.appends;
    let append = appends.iter_mut().find(|append| *append == one)?;
    append.end = AppendEnd::Acked { seq: *seq };
    Some(())
}

pub fn renumber_a_repeat(world: &mut World, _: &mut StdRng) -> Option<()> {
    let mut appends = world.setting.history.appends.iter_mut();
    let repeat = appends.find(|append| append.repeats && acked(append).is_some())?;
    repeat.end = AppendEnd::Acked {
        seq: world.logs[&repeat.room].len() as u64 + 1,
    };
    Some(())
}

/// Puts a message at the end of a conversation on every node.
pub fn put(world: &mut World, room: u32, seen: SeenMessage) -> Option<()> {
    let seq = world.logs.get(&room).map_or(0, Vec::len) as u64 + 1;
    let finals = world
        .setting
        .history
        .finals
        .iter_mut()
        .filter(|last| last.room == room);
    let whole = finals.filter(|last| last.messages.len() as u64 == seq - 1);
    whole
        .map(|last| {
            last.messages.push(SeenMessage {
                seq,
                ..seen.clone()
            })
        })
        .last()
}

pub fn store_twice(world: &mut World, dice: &mut StdRng) -> Option<()> {
    let room = *world.logs.keys().next()?;
    let seen = world.logs[&room].choose(dice)?.clone();
    put(world, room, seen)
}

pub fn invent(world: &mut World, _: &mut StdRng) -> Option<()> {
    let room = *world.logs.keys().next()?;
    let (sender, id) = ("nobody".to_owned(), "m0".to_owned());
    put(
        world,
        room,
        SeenMessage {
            seq: 0,
            sender,
            id,
            body: 7,
        },
    )
}

pub fn show_refused(world: &mut World, _: &mut StdRng) -> Option<()> {
    let appends = &world.setting.history.appends;
    let of = |a: &Append, b: &Append| (&a.sender, &a.id) == (&b.sender, &b.id);
    let refused = |append: &Append| matches!(append.end, AppendEnd::Refused { .. });
    let only = appends.iter().find(|append| {
        let mut all = appends.iter().filter(|other| of(append, other));
        all.all(refused)
    });
    let Append {
        room,
        sender,
        id,
        body,
        ..
    } = only?.clone();
    put(
        world,
        room,
        SeenMessage {
            seq: 0,
            sender,
            id,
            body,
        },
    )
}

pub fn change_all_bodies(world: &mut World, dice: &mut StdRng) -> Option<()> {
    let room = *world.logs.keys().next()?;
    let seq = world.logs[&room].choose(dice)?.seq;
    let seen = sightings(world, room).filter(|seen| seen.seq == seq);
    seen.map(|seen| seen.body ^= 1).last()
}

pub fn send_late(world: &mut World, _: &mut StdRng) -> Option<()> {
    let history = &mut world.setting.history;
    let (at, seen) = history.tails.iter().flat_map(|tail| &tail.events).next()?;
    let of = |append: &&mut Append| (&append.sender, &append.id) == (&seen.sender, &seen.id);
    let late = history.appends.iter_mut().filter(of);
    late.map(|append| {
        append.invoked_us = append.invoked_us.max(at + 1);
        append.returned_us = append.returned_us.max(Some(at + 2));
    })
    .last()?;
    history.appends.sort_by_key(|append| append.invoked_us);
    Some(())
}
