//! The change feed: what it tells of messages that change, against what their writers were answered.

use std::collections::BTreeMap;

use super::Case;
use super::evidence::Found;
use crate::history::{Change, ChangeEnd, FeedChange, What};
use crate::outcome::{Finding, Promise};

/// `feed-whole`, E: at the end, at rest, the feed has told each message as of its last acknowledged change or
/// of a later one, and it never told anything that nobody had asked for. O(n log n).
pub fn feed_whole(case: &Case<'_>) -> Finding {
    let mut found = Found::of("feed-whole", Promise::E);
    let Some(feed) = &case.history.feed else {
        return found.finding();
    };
    let ended_us = case.history.ended_us;
    if !feed.complete {
        let why = feed.error.as_deref().unwrap_or("it was not whole in time");
        found.looked_at(1);
        found.add(1, ended_us, || format!("the feed ended early: {why}"));
        return found.finding();
    }
    let mut of: BTreeMap<(u32, u64), Vec<&Change>> = BTreeMap::new();
    for change in &case.history.changes {
        of.entry((change.room, change.seq))
            .or_default()
            .push(change);
    }
    let mut last: BTreeMap<(u32, u64), u64> = BTreeMap::new();
    for told in &feed.told {
        let newest = last.entry((told.room, told.seq)).or_default();
        *newest = told.revision.max(*newest);
        // Of an append whose outcome is not known there is nothing to compare with.
        let Some(changes) = of.get(&(told.room, told.seq)) else {
            continue;
        };
        found.looked_at(1);
        if !was_asked_for(told, changes) {
            found.add(1, told.at_us, || {
                let (room, seq, at) = (told.room, told.seq, case.ms(told.at_us));
                format!("living-{room}/{seq}: the feed told at {at} what nobody had asked for")
            });
        }
    }
    for ((room, seq), changes) in &of {
        let done = changes.iter().filter_map(|one| match one.end {
            ChangeEnd::Done { revision } => Some((revision, one.returned_us)),
            ChangeEnd::Refused { .. } | ChangeEnd::Unknown => None,
        });
        let Some((revision, at_us)) = done.max() else {
            continue;
        };
        found.looked_at(1);
        let told = last.get(&(*room, *seq)).copied().unwrap_or(0);
        if told < revision {
            found.add(2, at_us, || {
                let at = case.ms(at_us);
                format!("living-{room}/{seq}: revision {revision}, acknowledged at {at}, was never told; the last is {told}")
            });
        }
    }
    found.finding()
}

/// Whether some change that had begun by then makes the message what was told.
fn was_asked_for(told: &FeedChange, changes: &[&Change]) -> bool {
    let mut begun = changes.iter().filter(|one| {
        one.invoked_us <= told.at_us && !matches!(one.end, ChangeEnd::Refused { .. })
    });
    begun.any(|one| match one.what {
        What::Said { body } | What::Edited { body } => !told.redacted && body == told.body,
        What::Redacted => told.redacted,
        What::Reacted { .. } => false,
    })
}
