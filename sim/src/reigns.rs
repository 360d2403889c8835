//! Who led what when, told from what was seen and done.

use std::collections::BTreeMap;

use crate::outcome::Led;
use crate::plan::{Event, Fault};

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
pub fn reigns(leaders: &[Led], events: &[Event], end_ms: u64) -> BTreeMap<u32, Vec<Reign>> {
    let mut shards: BTreeMap<u32, Vec<&Led>> = BTreeMap::new();
    for led in leaders {
        shards.entry(led.shard).or_default().push(led);
    }
    let mut reigns = BTreeMap::new();
    for (shard, mut leds) in shards {
        leds.sort_by_key(|led| (led.at_ms, led.term));
        leds.dedup_by_key(|led| (led.term, led.host.clone()));
        reigns.insert(shard, of_shard(events, &leds, end_ms));
    }
    reigns
}

/// The longest that any shard was without a leader, or had one in name only, once it had had one,
/// ms, and which shard that was.
pub fn leaderless(leaders: &[Led], events: &[Event], end_ms: u64) -> Option<(u64, u32)> {
    let reigns = reigns(leaders, events, end_ms);
    let waits = reigns
        .iter()
        .map(|(shard, reigns)| (without_ms(reigns), *shard));
    // Of equals the first.
    waits.max_by_key(|(ms, shard)| (*ms, std::cmp::Reverse(*shard)))
}

/// The longest that a shard was without a leader, or had one in name only, behind its first, ms.
pub fn without_ms(reigns: &[Reign]) -> u64 {
    let led = |reign: &&Reign| matches!(reign.held, Held::By(..));
    let behind = reigns.iter().skip_while(|reign| !led(reign));
    let without = behind.filter(|reign| !led(reign));
    without
        .map(|reign| reign.to_ms - reign.from_ms)
        .max()
        .unwrap_or(0)
}

fn of_shard(events: &[Event], leds: &[&Led], end_ms: u64) -> Vec<Reign> {
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
        match lost(events, &led.host, successor, from, to) {
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
    events: &[Event],
    host: &str,
    successor: Option<&str>,
    from: u64,
    to: u64,
) -> Option<(u64, bool)> {
    let within = |at: u64| from <= at && at < to;
    let events = events.iter().filter(|event| within(event.at_ms));
    let mut doubt: Option<u64> = None;
    for event in events {
        let has = |hosts: &[String]| hosts.iter().any(|h| h == host);
        match &event.fault {
            Fault::Burn { hosts }
            | Fault::PowerCut { hosts }
            | Fault::Crash { hosts, .. }
            | Fault::Kill { hosts }
            | Fault::Pause { hosts, .. }
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
            // Ends nobody's lead.
            _ => {}
        }
    }
    doubt.map(|at| (at, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn led(at_ms: i64, shard: u32, host: &str, term: u64) -> Led {
        let host = host.to_owned();
        Led {
            at_ms,
            shard,
            host,
            term,
        }
    }

    #[test]
    fn a_shard_is_without_a_leader_from_its_leaders_death_until_the_next_one_or_the_end() {
        let fire = Fault::Burn {
            hosts: vec!["a".to_owned()],
        };
        let fire = [Event {
            at_ms: 1_000,
            line: 0,
            fault: fire,
            label: None,
        }];
        let two = [
            led(-500, 1, "a", 1),
            led(-400, 2, "b", 1),
            led(1_700, 1, "b", 2),
        ];
        assert_eq!(leaderless(&two, &fire, 9_000), Some((700, 1)));
        assert_eq!(leaderless(&two[..2], &fire, 9_000), Some((8_000, 1)));
        assert_eq!(leaderless(&two[1..2], &fire, 9_000), Some((0, 2)));
        assert_eq!(leaderless(&[], &fire, 9_000), None);
    }
}
