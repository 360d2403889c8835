//! Drills: the one that runs, what is next, what was, and when none may begin. As this node knows the meta
//! shard, so that it needs no quorum.

use model::cluster::drills::{Drill, Drills as State, End, LOST_MS, State as Stage, Window};
use serde::Serialize;
use serde_json::Value;

use super::{Api, Look, SeenBy};
use crate::drill::live::Live;
use crate::drill::plan::DrillPlan;
use crate::sight::report::answers;

/// Blocked times that are told ahead, of each window.
const AHEAD_MAX: u64 = 60;
/// How far ahead they are told, ms.
const AHEAD_MS: u64 = 42 * 24 * 3_600_000;

/// All that the page of drills shows.
#[derive(Serialize)]
pub struct Drills {
    /// Who says it.
    pub seen_by: SeenBy,
    /// Agreed time, Unix milliseconds.
    pub now_ms: u64,
    /// No drill begins until it is released.
    pub lever: Option<Lever>,
    /// The one that runs.
    pub running: Option<Running>,
    /// What is planned or approved.
    pub open: Vec<Open>,
    /// What comes again.
    pub standing: Vec<Standing>,
    /// When none may begin, in the weeks to come.
    pub blocked: Vec<Blocked>,
    /// What was, the newest first.
    pub history: Vec<Past>,
    /// Operators that must approve.
    pub needed: usize,
}

/// The lever is pulled.
#[derive(Serialize)]
pub struct Lever {
    /// By whom.
    pub who: String,
    /// Why.
    pub why: String,
    /// When, Unix milliseconds.
    pub at_ms: u64,
}

/// The drill that runs.
#[derive(Serialize)]
pub struct Running {
    /// Its name.
    pub id: String,
    /// What is played.
    pub scenario: String,
    /// The data center that it is about; empty = all.
    pub target: String,
    /// What is expected to hold.
    pub hypothesis: String,
    /// When it began, Unix milliseconds.
    pub began_ms: u64,
    /// Who carries it out.
    pub controller: String,
    /// When that one was last heard, Unix milliseconds.
    pub heard_ms: u64,
    /// So long until it ends for want of a controller, ms.
    pub ends_unheard_ms: u64,
    /// What its controller has told of it.
    pub live: Option<Live>,
    /// Failed calls at which it ends itself.
    pub cap_failed: Option<u64>,
    /// The wait at which it ends itself, ms.
    pub cap_gap_ms: Option<u64>,
    /// The least replicas above a bare quorum.
    pub cap_margin: Option<i64>,
    /// How many the weakest shard has now.
    pub margin: Option<i64>,
    /// The faults that are on now.
    pub faults: Vec<FaultOn>,
    /// Its controller's words, the newest first.
    pub notes: Vec<Note>,
    /// What ends it.
    pub abort: String,
}

/// A fault that is on.
#[derive(Serialize)]
pub struct FaultOn {
    /// Whose node.
    pub node: String,
    /// What.
    pub kind: String,
    /// It ends by itself after this unless it is renewed, ms.
    pub left_ms: u64,
}

/// Something that a controller told.
#[derive(Serialize)]
pub struct Note {
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// For people.
    pub text: String,
}

/// A drill that has not begun.
#[derive(Serialize)]
pub struct Open {
    /// Its name.
    pub id: String,
    /// What is played.
    pub scenario: String,
    /// The data center that it is about; empty = all.
    pub target: String,
    /// `planned` or `approved`.
    pub state: &'static str,
    /// Who planned it.
    pub planned_by: String,
    /// When, Unix milliseconds.
    pub planned_ms: u64,
    /// Who has allowed it.
    pub approved_by: Vec<String>,
}

/// A drill that comes again.
#[derive(Serialize)]
pub struct Standing {
    /// Its name.
    pub name: String,
    /// When it is due, Unix milliseconds.
    pub next_ms: u64,
    /// And again each time so much later.
    pub every_ms: u64,
    /// Until when its approvals hold.
    pub until_ms: u64,
    /// Who has allowed that it begins by itself.
    pub approved_by: Vec<String>,
    /// It begins by itself.
    pub allowed: bool,
    /// The window in which it would fall.
    pub blocked_by: Option<String>,
    /// When one began under it last; 0 = none did.
    pub last_ms: u64,
}

/// A time in which none may begin.
#[derive(Serialize)]
pub struct Blocked {
    /// The window's name.
    pub name: String,
    /// Unix milliseconds.
    pub from_ms: u64,
    /// As above.
    pub to_ms: u64,
    /// Why.
    pub why: String,
}

/// A drill that was.
#[derive(Serialize)]
pub struct Past {
    /// Its name.
    pub id: String,
    /// What was played.
    pub scenario: String,
    /// The data center that it was about; empty = all.
    pub target: String,
    /// Unix milliseconds; 0 = it did not begin.
    pub began_ms: u64,
    /// Unix milliseconds.
    pub ended_ms: u64,
    /// passed, missed, broken, aborted, inconclusive, withdrawn.
    pub end: &'static str,
    /// Why.
    pub why: String,
    /// What came out, as its controller has said.
    pub summary: Option<Value>,
}

impl Drills {
    /// Of what this node saw.
    pub(super) fn of(api: &Api, look: &Look, margin: Option<i64>) -> Drills {
        let view = api.local().gateway.view();
        let known = view.drills.clone().unwrap_or_default();
        Drills::told(
            api.seen_by(look),
            &known,
            look,
            margin,
            api.local().now_ms(),
        )
    }

    /// Of what was seen.
    pub fn told(
        seen_by: SeenBy,
        known: &State,
        look: &Look,
        margin: Option<i64>,
        now_ms: u64,
    ) -> Drills {
        let open = known.drills.iter();
        let open = open.filter(|drill| drill.is(Stage::Planned) || drill.is(Stage::Approved));
        let past = known.drills.iter().rev();
        let past = past.filter(|drill| drill.is(Stage::Ended));
        Drills {
            seen_by,
            now_ms,
            lever: known.lever.as_ref().map(|lever| Lever {
                who: lever.who.clone(),
                why: lever.why.clone(),
                at_ms: lever.at_ms,
            }),
            running: known
                .running()
                .map(|drill| running(drill, look, margin, now_ms)),
            open: open.map(self::open).collect(),
            standing: standing(known, now_ms),
            blocked: blocked(&known.windows, now_ms),
            history: past.map(self::past).collect(),
            needed: known.needed(),
        }
    }
}

fn running(drill: &Drill, look: &Look, margin: Option<i64>, now_ms: u64) -> Running {
    let plan: Option<DrillPlan> = toml::from_str(&drill.plan).ok();
    let caps = plan.as_ref().map(|plan| plan.caps).unwrap_or_default();
    let controller = drill.controller.clone().unwrap_or_default();
    let live = drill
        .notes
        .iter()
        .rev()
        .find_map(|note| Live::of(&note.text));
    let words = drill
        .notes
        .iter()
        .rev()
        .filter(|note| Live::of(&note.text).is_none());
    let faults = answers(&look.reports).flat_map(|status| {
        let of = status.faults.iter();
        of.map(|fault| FaultOn {
            node: status.node_name.clone(),
            kind: fault.kind.clone(),
            left_ms: fault.left_ms,
        })
    });
    Running {
        id: drill.id.clone(),
        scenario: drill.scenario.clone(),
        target: drill.target.clone(),
        hypothesis: plan.map_or_else(String::new, |plan| plan.hypothesis),
        began_ms: drill.began_ms,
        controller: controller.who,
        heard_ms: controller.heard_ms,
        ends_unheard_ms: (controller.heard_ms + LOST_MS).saturating_sub(now_ms),
        live,
        cap_failed: caps.failed,
        cap_gap_ms: caps.gap_ms,
        cap_margin: caps.margin,
        margin,
        faults: faults.collect(),
        notes: words
            .map(|note| Note {
                at_ms: note.at_ms,
                text: note.text.clone(),
            })
            .collect(),
        abort: format!("firebreak drill abort {}", drill.id),
    }
}

fn open(drill: &Drill) -> Open {
    Open {
        id: drill.id.clone(),
        scenario: drill.scenario.clone(),
        target: drill.target.clone(),
        state: match drill.is(Stage::Approved) {
            true => "approved",
            false => "planned",
        },
        planned_by: drill.planned_by.clone(),
        planned_ms: drill.planned_ms,
        approved_by: drill.approvals.iter().map(|one| one.who.clone()).collect(),
    }
}

fn standing(known: &State, now_ms: u64) -> Vec<Standing> {
    let all = known.standing.iter().map(|one| Standing {
        name: one.name.clone(),
        next_ms: one.next_ms,
        every_ms: one.every_ms,
        until_ms: one.until_ms,
        approved_by: one.approvals.iter().map(|by| by.who.clone()).collect(),
        allowed: one.approvals.len() >= known.needed() && one.until_ms > now_ms,
        blocked_by: known.blocked(one.next_ms).map(|window| window.name.clone()),
        last_ms: one.last_ms,
    });
    let mut all: Vec<Standing> = all.collect();
    all.sort_by_key(|one| one.next_ms);
    all
}

/// The blocked times that are not over, to the horizon.
fn blocked(windows: &[Window], now_ms: u64) -> Vec<Blocked> {
    let mut blocked = Vec::new();
    for window in windows {
        let lasts = window.to_ms.saturating_sub(window.from_ms);
        let passed = now_ms.saturating_sub(window.from_ms.saturating_add(lasts));
        let skip = passed.checked_div(window.every_ms).unwrap_or(0);
        let times = (skip..).take(usize::try_from(AHEAD_MAX).unwrap_or(0));
        for time in times.take(if window.every_ms == 0 { 1 } else { usize::MAX }) {
            let from_ms = window
                .from_ms
                .saturating_add(window.every_ms.saturating_mul(time));
            if from_ms > now_ms.saturating_add(AHEAD_MS) {
                break;
            }
            let to_ms = from_ms.saturating_add(lasts);
            if to_ms > now_ms {
                blocked.push(Blocked {
                    name: window.name.clone(),
                    from_ms,
                    to_ms,
                    why: window.why.clone(),
                });
            }
        }
    }
    blocked.sort_by_key(|one| one.from_ms);
    blocked
}

fn past(drill: &Drill) -> Past {
    Past {
        id: drill.id.clone(),
        scenario: drill.scenario.clone(),
        target: drill.target.clone(),
        began_ms: drill.began_ms,
        ended_ms: drill.ended_ms,
        end: match drill.end() {
            End::Passed => "passed",
            End::Missed => "missed",
            End::Broken => "broken",
            End::Aborted if drill.began_ms == 0 => "withdrawn",
            End::Aborted => "aborted",
            End::Inconclusive => "inconclusive",
            End::Unspecified => "withdrawn",
        },
        why: drill.why.clone(),
        summary: serde_json::from_str(&drill.summary).ok(),
    }
}

#[cfg(test)]
#[path = "drills_tests.rs"]
mod tests;
