//! Messages that change: what LINEARIZABLE looks show of them. Each conversation has one writer, who makes
//! one change after the other, so that what may be shown follows from what it was answered.

use std::collections::BTreeMap;

use super::Case;
use super::evidence::Found;
use crate::history::{Change, ChangeEnd, Look, Shown, What};
use crate::outcome::{Finding, Promise};

/// `changes-read`, E: a LINEARIZABLE look shows the last edit that was acknowledged before it, or a later
/// one whose outcome is not known; an edit that is sent again counts once. The counts of reactions are those
/// of what was set and taken back. O(n²) for each message, of which there are few.
pub fn changes_read(case: &Case<'_>) -> Finding {
    let mut found = Found::of("changes-read", Promise::E);
    for (look, changes) in looks(case) {
        found.looked_at(1);
        let wrong = match &look.end {
            Err(reason) if reason == "MESSAGE_NOT_FOUND" => Some("is not found".to_owned()),
            Err(_) => None,
            Ok(shown) if shown.redacted => unasked(&changes),
            Ok(shown) => body(shown, look, &changes).or_else(|| counts(shown, &changes)),
        };
        if let Some(wrong) = wrong {
            found.add(2, look.returned_us, || told(case, look, &wrong));
        }
    }
    found.finding()
}

/// `erased-is-gone`, L: behind the acknowledgement of its erasure no LINEARIZABLE look shows anything of a
/// message but its numbers and times.
pub fn erased_is_gone(case: &Case<'_>) -> Finding {
    let mut found = Found::of("erased-is-gone", Promise::L);
    for (look, changes) in looks(case) {
        let erased = changes.iter().any(|one| {
            one.what == What::Redacted && one.is_done() && one.returned_us < look.invoked_us
        });
        let Ok(shown) = &look.end else { continue };
        found.looked_at(usize::from(erased));
        if erased && !(shown.redacted && shown.bare && shown.counts.is_empty()) {
            found.add(2, look.returned_us, || {
                told(case, look, "was erased before, and is shown")
            });
        }
    }
    found.finding()
}

/// Each look with the changes of its message that began before it ended, in their order.
fn looks<'c>(case: &Case<'c>) -> impl Iterator<Item = (&'c Look, Vec<&'c Change>)> {
    let mut of: BTreeMap<(u32, u64), Vec<&Change>> = BTreeMap::new();
    for change in &case.history.changes {
        of.entry((change.room, change.seq))
            .or_default()
            .push(change);
    }
    case.history.looks.iter().map(move |look| {
        let all = of.get(&(look.room, look.seq)).into_iter().flatten();
        let began = all.filter(|one| one.invoked_us < look.returned_us && !one.again);
        (look, began.copied().collect())
    })
}

fn unasked(changes: &[&Change]) -> Option<String> {
    let asked = changes
        .iter()
        .any(|one| one.what == What::Redacted && one.may_be());
    (!asked).then(|| "is erased, which nobody asked for".to_owned())
}

fn body(shown: &Shown, look: &Look, changes: &[&Change]) -> Option<String> {
    let said = |one: &&Change| match one.what {
        What::Said { body } | What::Edited { body } => Some(body),
        What::Redacted | What::Reacted { .. } => None,
    };
    let mut allowed = Vec::new();
    for change in changes.iter().filter(|one| one.may_be()) {
        let Some(body) = said(change) else { continue };
        if change.is_done() && change.returned_us < look.invoked_us {
            // What was not known to be done may still come; what was, is over.
            allowed.retain(|(_, done)| !done);
        }
        allowed.push((body, change.is_done()));
    }
    let right = allowed.iter().any(|(body, _)| *body == shown.body);
    (!right).then(|| format!("says #{:016x}, which is not what it says now", shown.body))
}

/// Whether a reaction is set: yes, no, or not known.
fn counts(shown: &Shown, changes: &[&Change]) -> Option<String> {
    let mut set: BTreeMap<(&str, &str), Option<bool>> = BTreeMap::new();
    for change in changes.iter().filter(|one| one.may_be()) {
        let What::Reacted { user, kind, remove } = &change.what else {
            continue;
        };
        let now = set.entry((kind, user)).or_insert(Some(false));
        *now = match change.is_done() && now.is_some() {
            true => Some(!remove),
            // It may come at any time.
            false => None,
        };
    }
    for kind in ["k0", "k1"] {
        let of_kind = set.iter().filter(|(who, _)| who.0 == kind);
        let states: Vec<Option<bool>> = of_kind.map(|(_, state)| *state).collect();
        let sure = states.iter().filter(|state| **state == Some(true)).count();
        let perhaps = sure + states.iter().filter(|state| state.is_none()).count();
        let told = shown.counts.get(kind).copied().unwrap_or(0) as usize;
        if !(sure..=perhaps).contains(&told) {
            return Some(format!(
                "has {told} {kind}, and {sure} to {perhaps} were set"
            ));
        }
    }
    None
}

fn told(case: &Case<'_>, look: &Look, wrong: &str) -> String {
    format!(
        "living-{}/{}: a look at {} {wrong}",
        look.room,
        look.seq,
        case.ms(look.returned_us)
    )
}

impl Change {
    fn is_done(&self) -> bool {
        matches!(self.end, ChangeEnd::Done { .. })
    }

    fn may_be(&self) -> bool {
        !matches!(self.end, ChangeEnd::Refused { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{History, Observed};
    use crate::workload::tests::plan;

    fn change(at: u64, what: What, again: bool, end: ChangeEnd) -> Change {
        Change {
            room: 0,
            seq: 1,
            what,
            again,
            invoked_us: at,
            returned_us: at + 5,
            end,
        }
    }

    fn done() -> ChangeEnd {
        ChangeEnd::Done { revision: 1 }
    }

    fn shown(body: u64) -> Shown {
        Shown {
            body,
            revision: 1,
            redacted: false,
            bare: false,
            counts: BTreeMap::new(),
        }
    }

    fn broken(changes: Vec<Change>, shown: Shown) -> [usize; 2] {
        let history = History {
            changes,
            looks: vec![Look {
                room: 0,
                seq: 1,
                invoked_us: 100,
                returned_us: 110,
                end: Ok(shown),
            }],
            ..History::default()
        };
        let (plan, observed) = (plan(1), Observed::default());
        let case = Case::new(&plan, &history, &observed);
        [changes_read(&case), erased_is_gone(&case)].map(|finding| finding.broken.len())
    }

    #[test]
    fn the_last_edit_counts_and_one_sent_again_does_not() {
        let said = || change(10, What::Said { body: 1 }, false, done());
        let edit = |at, body, again, end| change(at, What::Edited { body }, again, end);
        let edits = || {
            let first = edit(20, 2, false, done());
            vec![
                said(),
                first,
                edit(30, 3, false, done()),
                edit(40, 2, true, done()),
            ]
        };
        assert_eq!(broken(edits(), shown(3)), [0, 0]);
        assert_eq!(broken(edits(), shown(2)), [1, 0]);
        let mut unknown = edits();
        unknown.push(edit(50, 4, false, ChangeEnd::Unknown));
        assert_eq!(broken(unknown.clone(), shown(4)), [0, 0]);
        assert_eq!(broken(unknown, shown(3)), [0, 0]);
    }

    #[test]
    fn what_was_erased_shows_nothing_and_nothing_is_erased_unasked() {
        let said = || change(10, What::Said { body: 1 }, false, done());
        let erased = vec![said(), change(20, What::Redacted, false, done())];
        let gone = Shown {
            redacted: true,
            bare: true,
            ..shown(0)
        };
        let left = Shown {
            bare: false,
            ..gone.clone()
        };
        assert_eq!(broken(erased.clone(), gone.clone()), [0, 0]);
        assert_eq!(broken(erased, left), [0, 1]);
        assert_eq!(broken(vec![said()], gone), [1, 0]);
    }

    #[test]
    fn reactions_are_counted_as_they_were_set() {
        let said = change(10, What::Said { body: 1 }, false, done());
        let react = |at, user: &str, remove, end| {
            let (user, kind) = (user.to_owned(), "k0".to_owned());
            change(at, What::Reacted { user, kind, remove }, false, end)
        };
        let of = |changes: &[Change], count: u32| {
            let counts = BTreeMap::from([("k0".to_owned(), count)]);
            let mut all = vec![said.clone()];
            all.extend(changes.iter().cloned());
            broken(all, Shown { counts, ..shown(1) })[0]
        };
        let set = [react(20, "a", false, done()), react(30, "b", false, done())];
        assert_eq!([of(&set, 2), of(&set, 1), of(&set, 3)], [0, 1, 1]);
        let back = [
            set[0].clone(),
            set[1].clone(),
            react(40, "a", true, ChangeEnd::Unknown),
        ];
        assert_eq!([of(&back, 2), of(&back, 1), of(&back, 0)], [0, 0, 1]);
    }
}
