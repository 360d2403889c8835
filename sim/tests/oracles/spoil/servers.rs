//! Disks, votes and replicas.

use super::*;

pub fn cover_by_one(world: &mut World, dice: &mut StdRng) -> Option<()> {
    let covers = &mut world.setting.observed.covers;
    let some = dice.random_range(0..covers.len().max(1));
    covers.get_mut(some)?.hosts.truncate(1);
    Some(())
}

pub fn cover_by_one_dc(world: &mut World, dice: &mut StdRng) -> Option<()> {
    let covers = &mut world.setting.observed.covers;
    let some = dice.random_range(0..covers.len().max(1));
    covers.get_mut(some)?.dcs.truncate(1);
    Some(())
}

pub fn regress(world: &mut World, _: &mut StdRng) -> Option<()> {
    world
        .setting
        .observed
        .regressed
        .push("seoul-1: shard 1 lacks entry 7".to_owned());
    Some(())
}

/// A vote to spoil: any, for which `fits`.
pub fn vote(
    world: &World,
    dice: &mut StdRng,
    fits: impl Fn(&VoteSeen) -> bool,
) -> Option<VoteSeen> {
    let votes: Vec<&VoteSeen> = world
        .setting
        .observed
        .votes
        .iter()
        .filter(|v| fits(v))
        .collect();
    votes.choose(dice).copied().cloned()
}

pub fn name_the_empty(world: &mut World, _: &mut StdRng) -> Option<()> {
    let voter = world.setting.observed.voters.first_mut()?;
    (voter.last, voter.needed) = (0, 100);
    Some(())
}

pub fn elect_two(world: &mut World, dice: &mut StdRng) -> Option<()> {
    let won = vote(world, dice, |vote| vote.committed)?;
    let other = VoteSeen {
        node: won.node + 10,
        host: "osaka-1".to_owned(),
        ..won
    };
    world.setting.observed.votes.push(other);
    Some(())
}

pub fn fall_back(world: &mut World, dice: &mut StdRng) -> Option<()> {
    world.setting.plan.events.clear();
    let vote = vote(world, dice, |vote| vote.term > 0)?;
    let at = world
        .setting
        .observed
        .votes
        .iter()
        .position(|one| *one == vote)?;
    let lower = VoteSeen {
        term: vote.term - 1,
        ..vote
    };
    world.setting.observed.votes.insert(at + 1, lower);
    Some(())
}

pub fn vote_twice(world: &mut World, dice: &mut StdRng) -> Option<()> {
    let vote = vote(world, dice, |_| true)?;
    let at = world
        .setting
        .observed
        .votes
        .iter()
        .position(|one| *one == vote)?;
    let other = VoteSeen {
        node: vote.node + 10,
        committed: false,
        ..vote
    };
    world.setting.observed.votes.insert(at + 1, other);
    Some(())
}

pub fn change_hash(world: &mut World, dice: &mut StdRng) -> Option<()> {
    world.setting.observed.unsettled = None;
    let replicas = &mut world.setting.observed.replicas;
    let some = dice.random_range(0..replicas.len().max(1));
    replicas.get_mut(some)?.rooms.first_mut()?.3 = "beef".to_owned();
    Some(())
}

pub fn fall_behind(world: &mut World, dice: &mut StdRng) -> Option<()> {
    world.setting.observed.unsettled = None;
    let replicas = &mut world.setting.observed.replicas;
    let some = dice.random_range(0..replicas.len().max(1));
    replicas.get_mut(some)?.revision -= 1;
    Some(())
}

pub fn miscount(world: &mut World, dice: &mut StdRng) -> Option<()> {
    let replicas = &mut world.setting.observed.replicas;
    let some = dice.random_range(0..replicas.len().max(1));
    replicas.get_mut(some)?.rooms.first_mut()?.1 += 1;
    Some(())
}

pub fn go_on_drilling(world: &mut World, dice: &mut StdRng) -> Option<()> {
    let drill = world.setting.observed.drills.first_mut()?;
    let late_us = dice.random_range(100_001..60_000_000);
    drill.ended_us = dice.random::<bool>().then(|| drill.until_us + late_us);
    Some(())
}

pub fn show_old_edit(world: &mut World, _: &mut StdRng) -> Option<()> {
    let mut looks = world.setting.history.looks.iter_mut();
    let shown = looks.find_map(|look| look.end.as_mut().ok().filter(|shown| !shown.redacted))?;
    shown.body ^= 1;
    Some(())
}

pub fn show_erased(world: &mut World, dice: &mut StdRng) -> Option<()> {
    let mut looks = world.setting.history.looks.iter_mut();
    let shown = looks.find_map(|look| look.end.as_mut().ok().filter(|shown| shown.redacted))?;
    match dice.random::<bool>() {
        true => shown.bare = false,
        false => drop(shown.counts.insert("k0".to_owned(), 1)),
    }
    Some(())
}

pub fn fade_early(world: &mut World, _: &mut StdRng) -> Option<()> {
    let fades = &mut world.setting.history.fades;
    let fade = fades.iter_mut().find(|fade| fade.end == Faded::Shown)?;
    fade.end = Faded::Gone;
    Some(())
}

pub fn fade_late(world: &mut World, _: &mut StdRng) -> Option<()> {
    let fades = &mut world.setting.history.fades;
    let fade = fades.iter_mut().find(|fade| fade.end == Faded::Gone)?;
    fade.end = Faded::Shown;
    Some(())
}

pub fn miss_a_change(world: &mut World, dice: &mut StdRng) -> Option<()> {
    let told = &mut world.setting.history.feed.as_mut()?.told;
    let seq = dice.random_range(1..=2);
    let last = told
        .iter()
        .filter(|one| one.seq == seq)
        .map(|one| one.revision)
        .max()?;
    told.retain(|one| one.seq != seq || one.revision < last);
    Some(())
}

pub fn make_up_a_change(world: &mut World, _: &mut StdRng) -> Option<()> {
    let mut told = world.setting.history.feed.as_mut()?.told.iter_mut();
    told.find(|one| !one.redacted)?.body ^= 1;
    Some(())
}
