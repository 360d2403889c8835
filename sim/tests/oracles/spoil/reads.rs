//! Reads that are older, or newer, than they may be.

use super::*;

/// Gives some read, of `level`, that `wrong` has an answer for, that last_seq.
pub fn reread(
    world: &mut World,
    dice: &mut StdRng,
    wrong: impl Fn(&World, &Read, &Page) -> Option<u64>,
) -> Option<()> {
    let reads = &world.setting.history.reads;
    let places: Vec<usize> = (0..reads.len()).collect();
    let mut candidates = places
        .choose_multiple(dice, places.len())
        .filter_map(|&at| {
            let read = &reads[at];
            let page = read.end.as_ref().ok()?;
            Some((at, wrong(world, read, page)?))
        });
    let (at, last_seq) = candidates.next()?;
    drop(candidates);
    let read = &mut world.setting.history.reads[at];
    let Ok(old) = &read.end else { return None };
    let none = Vec::new();
    let log = world.logs.get(&read.room).unwrap_or(&none);
    read.end = Ok(page(log, last_seq, old.from, old.limit, old.age_ms));
    Some(())
}

/// The last seq of a page that misses some append of `room` that `ought` picks.
pub fn before_some(world: &World, room: u32, ought: impl Fn(&Append) -> bool) -> Option<u64> {
    let appends = world.setting.history.appends.iter();
    let ought = appends.filter(|append| append.room == room && ought(append));
    ought.filter_map(acked).max().map(|seq| seq - 1)
}

pub fn before(append: &Append, at_us: u64) -> bool {
    append.returned_us.is_some_and(|returned| returned < at_us)
}

pub fn miss_acked(world: &mut World, dice: &mut StdRng) -> Option<()> {
    reread(world, dice, |world, read, _| {
        let of = read.level == Level::Linearizable;
        of.then(|| before_some(world, read.room, |append| before(append, read.invoked_us)))?
    })
}

pub fn go_back(world: &mut World, dice: &mut StdRng) -> Option<()> {
    reread(world, dice, |world, read, _| {
        let earlier = world.setting.history.reads.iter().filter(|earlier| {
            let over = earlier.returned_us.is_some_and(|at| at < read.invoked_us);
            over && earlier.room == read.room && read.level == Level::Linearizable
        });
        let seen = earlier.filter_map(|earlier| Some(earlier.end.as_ref().ok()?.last_seq));
        seen.max()?.checked_sub(1)
    })
}

pub fn see_the_future(world: &mut World, dice: &mut StdRng) -> Option<()> {
    reread(world, dice, |world, read, _| {
        let log = world.logs.get(&read.room)?;
        let later = log.iter().find(|seen| {
            let appends = world.setting.history.appends.iter();
            let mut of = appends.filter(|one| (&one.sender, &one.id) == (&seen.sender, &seen.id));
            of.all(|append| append.invoked_us > read.returned_us.unwrap_or(u64::MAX))
        });
        Some(later?.seq)
    })
}

pub fn exceed_bound(world: &mut World, dice: &mut StdRng) -> Option<()> {
    world.setting.plan.events.clear();
    reread(world, dice, |world, read, _| {
        let Level::Bounded { bound_ms } = read.level else {
            return None;
        };
        let by_us = read.invoked_us - bound_ms * 1_000;
        before_some(world, read.room, |append| before(append, by_us))
    })
}

pub fn lie_about_age(world: &mut World, dice: &mut StdRng) -> Option<()> {
    world.setting.plan.events.clear();
    reread(world, dice, |world, read, page| {
        let by_us = read.invoked_us.checked_sub((page.age_ms? + 1) * 1_000)?;
        before_some(world, read.room, |append| before(append, by_us))
    })
}

pub fn forget_own(world: &mut World, dice: &mut StdRng) -> Option<()> {
    reread(world, dice, |world, read, _| {
        let of = matches!(read.level, Level::Linearizable | Level::Session);
        of.then(|| {
            before_some(world, read.room, |append| {
                append.session == read.session && before(append, read.invoked_us)
            })
        })?
    })
}

pub fn forget_read(world: &mut World, dice: &mut StdRng) -> Option<()> {
    let strong = |read: &Read| matches!(read.level, Level::Linearizable | Level::Session);
    reread(world, dice, |world, read, _| {
        let earlier = world.setting.history.reads.iter().filter(|earlier| {
            let over = earlier.returned_us.is_some_and(|at| at <= read.invoked_us);
            let same = (earlier.session, earlier.room) == (read.session, read.room);
            over && same && strong(earlier) && strong(read)
        });
        let seen = earlier.filter_map(|earlier| Some(earlier.end.as_ref().ok()?.last_seq));
        seen.max()?.checked_sub(1)
    })
}

pub fn admit_too_much(world: &mut World, _: &mut StdRng) -> Option<()> {
    let mut reads = world.setting.history.reads.iter_mut();
    reads.find_map(|read| match (read.level, &mut read.end) {
        (Level::Bounded { bound_ms }, Ok(page)) => {
            page.age_ms = Some(bound_ms + 1);
            Some(())
        }
        _ => None,
    })
}
