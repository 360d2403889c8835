//! Who led what when, told from what was seen and done.

use std::collections::BTreeMap;

use crate::outcome::{Led, Outcome};
use crate::plan::Fault;

/// Who led a shard for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reign {
    /// ms after the load began.
    pub from_ms: u64,
    /// ms after the load began.
    pub to_ms: u64,
    /// Who; none when nobody did.
    pub held: Held,
}

/// Who led.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// A host, in a term.
    By(String, u64),
    /// The host was cut off or told to stop, and another led next: it led in name.
    InName(String, u64),
    /// Nobody: the last leader, if any, was dead.
    Nobody,
}

/// Each shard's leaders one after the other, over 0 to `end_ms`.
///
/// A leader whose host died (burned, lost power, crashed, was killed or paused) led until then;
/// after it nobody did until the next one.
pub fn reigns(outcome: &Outcome, end_ms: u64) -> BTreeMap<u32, Vec<Reign>> {
    let mut shards: BTreeMap<u32, Vec<&Led>> = BTreeMap::new();
    for led in &outcome.leaders {
        shards.entry(led.shard).or_default().push(led);
    }
    let mut reigns = BTreeMap::new();
    for (shard, mut leds) in shards {
        leds.sort_by_key(|led| (led.at_ms, led.term));
        leds.dedup_by_key(|led| (led.term, led.host.clone()));
        reigns.insert(shard, of_shard(outcome, &leds, end_ms));
    }
    reigns
}

fn of_shard(outcome: &Outcome, leds: &[&Led], end_ms: u64) -> Vec<Reign> {
    let since = |at_ms: i64| u64::try_from(at_ms).unwrap_or(0).min(end_ms);
    let mut reigns = Vec::new();
    let mut push = |from_ms: u64, to_ms: u64, held: Held| {
        if from_ms < to_ms {
            reigns.push(Reign {
                from_ms,
                to_ms,
                held,
            });
        }
    };
    let first = leds.first().map_or(end_ms, |led| since(led.at_ms));
    push(0, first, Held::Nobody);
    for (at, led) in leds.iter().enumerate() {
        let (from, next) = (since(led.at_ms), leds.get(at + 1));
        let to = next.map_or(end_ms, |next| since(next.at_ms));
        let successor = next.map(|next| next.host.as_str());
        let by = || Held::By(led.host.clone(), led.term);
        match lost(outcome, &led.host, successor, from, to) {
            Some((lost, true)) => {
                push(from, lost, by());
                push(lost, to, Held::Nobody);
            }
            Some((lost, false)) => {
                push(from, lost, by());
                push(lost, to, Held::InName(led.host.clone(), led.term));
            }
            None => push(from, to, by()),
        }
    }
    reigns
}

/// When within `from..to` `host` stopped leading in fact, and whether it was dead then.
fn lost(
    outcome: &Outcome,
    host: &str,
    successor: Option<&str>,
    from: u64,
    to: u64,
) -> Option<(u64, bool)> {
    let within = |at: u64| from <= at && at < to;
    let events = outcome
        .plan
        .events
        .iter()
        .filter(|event| within(event.at_ms));
    let mut doubt: Option<u64> = None;
    for event in events {
        let has = |hosts: &[String]| hosts.iter().any(|h| h == host);
        match &event.fault {
            Fault::Burn { hosts }
            | Fault::PowerCut { hosts }
            | Fault::Crash { hosts, .. }
            | Fault::Kill { hosts }
            | Fault::Pause { hosts }
                if has(hosts) =>
            {
                return Some((event.at_ms, true));
            }
            Fault::Stop { hosts } if has(hosts) => doubt = doubt.or(Some(event.at_ms)),
            Fault::Cut { from, to, .. } => {
                let between = |a: &[String], b: &[String]| {
                    has(a) && successor.is_some_and(|next| b.iter().any(|h| h == next))
                };
                if between(from, to) || between(to, from) {
                    doubt = doubt.or(Some(event.at_ms));
                }
            }
            _ => {}
        }
    }
    doubt.map(|at| (at, false))
}
