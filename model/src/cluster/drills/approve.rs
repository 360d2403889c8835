//! Plans and who allows them.

use bytes::Bytes;

use super::decide::{Decided, name};
use super::run::find;
use super::{
    Approval, Approve, Drill, Drills, OPEN_MAX, PLAN_BYTES_MAX, Stand, Standing, State, Store,
    WINDOWS_MAX, valid,
};
use crate::cluster::decide::refused;
use crate::command::{Reason, Refusal};

/// Stores a plan.
pub(super) fn store(drills: &mut Drills, wanted: &Store, layout: Bytes, now_ms: u64) -> Decided {
    name("drill", &wanted.id)?;
    name("operator", &wanted.who)?;
    name("scenario", &wanted.scenario)?;
    plan_fits(&wanted.plan)?;
    let plan_digest = digest(&wanted.plan);
    if let Some(held) = drills.get(&wanted.id) {
        if held.plan_digest == plan_digest {
            return Ok(0);
        }
        return Err(Refusal::new(
            Reason::AlreadyExists,
            format!("there is a drill {} already, with another plan", wanted.id),
        ));
    }
    if !wanted.standing.is_empty() {
        let standing = standing(drills, &wanted.standing)?;
        if standing.recipe_digest != wanted.recipe_digest {
            return Err(refused(format!(
                "the plan is not that of the standing drill {}",
                wanted.standing
            )));
        }
    }
    let open = drills.drills.iter().filter(|one| !one.is(State::Ended));
    if open.count() >= OPEN_MAX {
        return Err(refused(format!(
            "{OPEN_MAX} drills are planned; `firebreak drill abort ID` takes one back"
        )));
    }
    drills.drills.push(Drill {
        id: wanted.id.clone(),
        state: State::Planned as i32,
        plan: wanted.plan.clone(),
        plan_digest,
        layout_digest: layout,
        scenario: wanted.scenario.clone(),
        target: wanted.target.clone(),
        planned_by: wanted.who.clone(),
        planned_ms: now_ms,
        standing: wanted.standing.clone(),
        recipe_digest: wanted.recipe_digest.clone(),
        ..Drill::default()
    });
    Ok(0)
}

fn plan_fits(plan: &str) -> Result<(), Refusal> {
    if plan.is_empty() || plan.len() > PLAN_BYTES_MAX {
        return Err(refused(format!("a plan has 1 to {PLAN_BYTES_MAX} bytes")));
    }
    Ok(())
}

/// blake3 of a file.
fn digest(file: &str) -> Bytes {
    Bytes::copy_from_slice(blake3::hash(file.as_bytes()).as_bytes())
}

/// An operator allows a drill.
pub(super) fn approve(drills: &mut Drills, said: &Approve, layout: &Bytes, now_ms: u64) -> Decided {
    name("operator", &said.who)?;
    let needed = drills.needed();
    let drill = find(drills, &said.id)?;
    if drill.is(State::Running) || drill.is(State::Ended) {
        let how = if drill.is(State::Ended) {
            "has ended"
        } else {
            "runs"
        };
        return Err(refused(format!("the drill {} {how} already", said.id)));
    }
    if drill.plan_digest != said.digest {
        return Err(refused(format!(
            "the plan that {} has read is not that of the drill {}",
            said.who, said.id
        )));
    }
    same_map(drill, layout)?;
    add(&mut drill.approvals, said, now_ms)?;
    if drill.valid(now_ms) >= needed {
        drill.state = State::Approved as i32;
    }
    Ok(0)
}

/// Whether the map is the one that a drill was planned for.
pub(super) fn same_map(drill: &Drill, layout: &Bytes) -> Result<(), Refusal> {
    if drill.layout_digest != *layout {
        return Err(refused(format!(
            "the cluster's map has changed since the drill {} was planned: plan it again",
            drill.id
        )));
    }
    Ok(())
}

/// Adds an approval; the same person's counts again only after the first one is too old.
fn add(approvals: &mut Vec<Approval>, said: &Approve, now_ms: u64) -> Result<(), Refusal> {
    let held = approvals.iter().position(|one| one.who == said.who);
    if let Some(at) = held {
        if valid(&approvals[at..=at], now_ms) > 0 {
            return Err(Refusal::new(
                Reason::AlreadyExists,
                format!(
                    "{} has approved {} already: the second approval is another operator's",
                    said.who, said.id
                ),
            ));
        }
        approvals.remove(at);
    }
    // Those that are too old go, so that there is an end to them.
    approvals.retain(|one| valid(std::slice::from_ref(one), now_ms) > 0);
    approvals.push(Approval {
        who: said.who.clone(),
        at_ms: now_ms,
    });
    Ok(())
}

/// Adds a standing drill.
pub(super) fn stand(drills: &mut Drills, wanted: &Stand, now_ms: u64) -> Decided {
    name("standing drill", &wanted.name)?;
    plan_fits(&wanted.recipe)?;
    if wanted.every_ms == 0 {
        return Err(refused("a standing drill comes again: every_ms is above 0"));
    }
    if wanted.until_ms <= now_ms {
        return Err(refused(
            "its approvals would hold until a time that has passed",
        ));
    }
    let at = drills
        .standing
        .partition_point(|held| held.name < wanted.name);
    let there = drills
        .standing
        .get(at)
        .is_some_and(|held| held.name == wanted.name);
    if !there && drills.standing.len() >= WINDOWS_MAX {
        return Err(refused(format!("there are {WINDOWS_MAX} standing drills")));
    }
    let standing = Standing {
        name: wanted.name.clone(),
        recipe: wanted.recipe.clone(),
        recipe_digest: digest(&wanted.recipe),
        next_ms: wanted.first_ms,
        every_ms: wanted.every_ms,
        until_ms: wanted.until_ms,
        approvals: Vec::new(),
        last_ms: 0,
    };
    match there {
        true => {
            let held = &mut drills.standing[at];
            let mut same = held.clone();
            same.approvals.clear();
            same.last_ms = 0;
            // Asked again, as after an answer that was lost, it keeps its approvals.
            if same != standing {
                *held = standing;
            }
        }
        false => drills.standing.insert(at, standing),
    }
    Ok(0)
}

/// An operator allows that a drill begins by itself.
pub(super) fn approve_standing(drills: &mut Drills, said: &Approve, now_ms: u64) -> Decided {
    name("operator", &said.who)?;
    standing(drills, &said.id)?;
    let mut held = drills.standing.iter_mut().filter(|one| one.name == said.id);
    let Some(standing) = held.next() else {
        return Ok(0);
    };
    if standing.recipe_digest != said.digest {
        return Err(refused(format!(
            "the plan that {} has read is not that of the standing drill {}",
            said.who, said.id
        )));
    }
    if standing.approvals.iter().any(|one| one.who == said.who) {
        return Err(Refusal::new(
            Reason::AlreadyExists,
            format!(
                "{} has approved {} already: the second approval is another operator's",
                said.who, said.id
            ),
        ));
    }
    standing.approvals.push(Approval {
        who: said.who.clone(),
        at_ms: now_ms,
    });
    Ok(0)
}

/// The standing drill of a name.
pub(super) fn standing<'a>(drills: &'a Drills, name: &str) -> Result<&'a Standing, Refusal> {
    let mut held = drills.standing.iter().filter(|one| one.name == name);
    held.next()
        .ok_or_else(|| refused(format!("there is no standing drill {name}")))
}
