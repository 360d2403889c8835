//! Which change of the drills is made how. Each may be repeated: the second time nothing changes.

use super::{
    Abort, DrillBody, DrillChange, Drills, End, HISTORY_MAX, Lever, Named, Operators, PROMISES,
    Proof, Prove, Pull, SEED_BYTES, Seed, State, TEXT_BYTES_MAX, WINDOWS_MAX, Window, approve, run,
};
use crate::cluster::ClusterState;
use crate::cluster::decide::refused;
use crate::command::Refusal;
use crate::limits::NAME_SEGMENT_BYTES_MAX;
use crate::rules;

/// A number to answer, which is that of a controller, or 0.
pub(super) type Decided = Result<u64, Refusal>;

/// Makes a change at a command time, or refuses it and leaves `state` as it was.
pub(crate) fn decide(
    state: &mut ClusterState,
    change: &DrillChange,
    now_ms: u64,
) -> Result<u64, Refusal> {
    let layout = state.layout_digest();
    let mut drills = state.drills.clone().unwrap_or_default();
    let one = &mut drills;
    let number = match &change.body {
        Some(DrillBody::Store(wanted)) => approve::store(one, wanted, layout, now_ms),
        Some(DrillBody::Approve(said)) => approve::approve(one, said, &layout, now_ms),
        Some(DrillBody::Begin(wanted)) => run::begin(one, wanted, &layout, now_ms),
        Some(DrillBody::Claim(wanted)) => run::claim(one, wanted, now_ms),
        Some(DrillBody::Beat(beat)) => run::beat(one, beat, now_ms),
        Some(DrillBody::Conclude(said)) => run::conclude(one, said, now_ms),
        Some(DrillBody::Abort(wanted)) => abort(one, wanted, now_ms),
        Some(DrillBody::Lost(lost)) => run::lost(one, lost, now_ms),
        Some(DrillBody::Pull(pull)) => pull_lever(one, pull, now_ms),
        Some(DrillBody::Release(release)) => name("operator", &release.who).map(|()| {
            one.lever = None;
            0
        }),
        Some(DrillBody::Block(window)) => block(one, window),
        Some(DrillBody::Unblock(named)) => {
            let found = one
                .windows
                .iter()
                .position(|window| window.name == named.name);
            take(&mut one.windows, found, named, "blocked window")
        }
        Some(DrillBody::Stand(wanted)) => approve::stand(one, wanted, now_ms),
        Some(DrillBody::ApproveStanding(said)) => approve::approve_standing(one, said, now_ms),
        Some(DrillBody::Unstand(named)) => {
            let found = one.standing.iter().position(|held| held.name == named.name);
            take(&mut one.standing, found, named, "standing drill")
        }
        Some(DrillBody::Operators(wanted)) => operators(one, *wanted),
        Some(DrillBody::Prove(prove)) => self::prove(one, prove, now_ms),
        Some(DrillBody::Seed(seed)) => self::seed(one, seed),
        None => Err(refused("a change of drills of no known kind")),
    }?;
    forget_old(one);
    if state.drills.as_ref().is_none_or(|before| *before != drills) {
        state.drills = Some(drills);
        state.epoch += 1;
    }
    Ok(number)
}

/// Of those that have ended the last are kept.
fn forget_old(drills: &mut Drills) {
    let ended = drills.drills.iter().filter(|one| one.is(State::Ended));
    let mut surplus = ended.count().saturating_sub(HISTORY_MAX);
    drills.drills.retain(|one| {
        let goes = surplus > 0 && one.is(State::Ended);
        surplus -= usize::from(goes);
        !goes
    });
}

fn abort(drills: &mut Drills, wanted: &Abort, now_ms: u64) -> Decided {
    name("operator", &wanted.who)?;
    text("the reason", &wanted.why)?;
    let drill = run::find(drills, &wanted.id)?;
    if drill.is(State::Ended) {
        return Ok(0);
    }
    let why = match wanted.why.as_str() {
        "" => format!("ended by {}", wanted.who),
        why => format!("ended by {}: {why}", wanted.who),
    };
    run::end(drill, End::Aborted, &why, now_ms);
    Ok(0)
}

fn pull_lever(drills: &mut Drills, pull: &Pull, now_ms: u64) -> Decided {
    name("operator", &pull.who)?;
    text("the reason", &pull.why)?;
    let why = format!("{} pulled the lever", pull.who);
    for drill in &mut drills.drills {
        if drill.is(State::Running) {
            run::end(drill, End::Aborted, &why, now_ms);
        }
    }
    if drills.lever.is_none() {
        drills.lever = Some(Lever {
            who: pull.who.clone(),
            why: pull.why.clone(),
            at_ms: now_ms,
        });
    }
    Ok(0)
}

fn block(drills: &mut Drills, window: &Window) -> Decided {
    name("window", &window.name)?;
    text("the reason", &window.why)?;
    if window.to_ms <= window.from_ms {
        return Err(refused("a window ends after it begins"));
    }
    if window.every_ms > 0 && window.every_ms <= window.to_ms - window.from_ms {
        return Err(refused("a window comes again only after it has ended"));
    }
    let at = drills
        .windows
        .partition_point(|held| held.name < window.name);
    let held = drills.windows.len();
    match drills.windows.get_mut(at) {
        Some(there) if there.name == window.name => *there = window.clone(),
        Some(_) | None if held >= WINDOWS_MAX => {
            return Err(refused(format!("there are {WINDOWS_MAX} blocked windows")));
        }
        Some(_) | None => drills.windows.insert(at, window.clone()),
    }
    Ok(0)
}

fn take<T>(held: &mut Vec<T>, found: Option<usize>, named: &Named, what: &str) -> Decided {
    let Some(at) = found else {
        return Err(refused(format!("there is no {what} {}", named.name)));
    };
    held.remove(at);
    Ok(0)
}

fn operators(drills: &mut Drills, wanted: Operators) -> Decided {
    if !(1..=2).contains(&wanted.needed) {
        return Err(refused("a drill is approved by 1 or 2 operators"));
    }
    drills.operators_needed = wanted.needed;
    Ok(0)
}

fn prove(drills: &mut Drills, prove: &Prove, now_ms: u64) -> Decided {
    if !PROMISES.contains(&prove.promise.as_str()) {
        return Err(refused(format!(
            "{:?} is not a promise; they are {}",
            prove.promise,
            PROMISES.join(" ")
        )));
    }
    text("the evidence", &prove.evidence)?;
    let at = drills
        .proofs
        .partition_point(|held| held.promise < prove.promise);
    if drills
        .proofs
        .get(at)
        .is_none_or(|held| held.promise != prove.promise)
    {
        let promise = prove.promise.clone();
        drills.proofs.insert(
            at,
            Proof {
                promise,
                ..Proof::default()
            },
        );
    }
    let proof = &mut drills.proofs[at];
    if let Some(limit) = prove.limit_ms {
        proof.limit_ms = limit;
    }
    match prove.held {
        Some(true) => {
            name("proof's origin", &prove.by)?;
            proof.shown_ms = proof.shown_ms.max(now_ms);
            proof.by.clone_from(&prove.by);
            proof.evidence.clone_from(&prove.evidence);
        }
        Some(false) => {
            name("proof's origin", &prove.by)?;
            proof.broken_ms = proof.broken_ms.max(now_ms);
            proof.broken_by = format!("{}: {}", prove.by, prove.evidence);
        }
        None => {}
    }
    Ok(0)
}

fn seed(drills: &mut Drills, seed: &Seed) -> Decided {
    if seed.seed.len() != SEED_BYTES {
        return Err(refused(format!("the seed of a key has {SEED_BYTES} bytes")));
    }
    // Who comes second uses that of the first.
    if drills.signing_seed.is_empty() {
        drills.signing_seed = seed.seed.clone();
    }
    Ok(0)
}

/// Whether a text names somebody or something.
pub(super) fn name(what: &str, given: &str) -> Result<(), Refusal> {
    match rules::text(given, 1, NAME_SEGMENT_BYTES_MAX) {
        Some(why) => Err(refused(format!("the {what}'s name {why}"))),
        None => Ok(()),
    }
}

/// Whether a text for people may be kept.
pub(super) fn text(what: &str, given: &str) -> Result<(), Refusal> {
    match rules::text(given, 0, TEXT_BYTES_MAX) {
        Some(why) => Err(refused(format!("{what} {why}"))),
        None => Ok(()),
    }
}
