//! `replicas-equal`, H: what replicas hold at rest.

use std::collections::BTreeMap;

use super::Case;
use super::evidence::Found;
use crate::history::ReplicaSeen;
use crate::outcome::{Finding, Promise};

/// A conversation of a replica, without its name: last seq, messages, hash.
type Records<'a> = (u64, u64, &'a str);

/// `replicas-equal`, H: replicas of a shard that have applied equally many changes hold the same
/// conversations with the same records, and in each conversation as many messages as its last seq
/// says; and at rest all replicas of a shard have applied equally many. When they did not come to
/// rest in time, that is the evidence. Looks at replicas; each is compared with the first of its
/// revision, O(n log n).
pub fn replicas_equal(case: &Case<'_>) -> Finding {
    let mut found = Found::of("replicas-equal", Promise::H);
    let (replicas, unsettled) = (&case.observed.replicas, &case.observed.unsettled);
    found.looked_at(replicas.len());
    if let Some(why) = unsettled {
        found.looked_at(1);
        found.add(2, u64::MAX, || format!("not at rest: {why}"));
    }
    let mut firsts: BTreeMap<(u32, u64), &ReplicaSeen> = BTreeMap::new();
    let mut of_shard: BTreeMap<u32, &ReplicaSeen> = BTreeMap::new();
    for replica in replicas {
        for (name, last_seq, messages, _) in &replica.rooms {
            if last_seq != messages {
                found.add(1, 0, || {
                    format!(
                        "{}: {name} has {messages} messages of {last_seq}",
                        place(replica)
                    )
                });
            }
        }
        let shard = *of_shard.entry(replica.shard).or_insert(replica);
        if shard.revision != replica.revision && unsettled.is_none() {
            found.add(2, 1, || {
                format!("{} and {} differ at rest", place(shard), place(replica))
            });
        }
        let first = *firsts
            .entry((replica.shard, replica.revision))
            .or_insert(replica);
        if first.rooms != replica.rooms
            && let Some(difference) = difference(first, replica)
        {
            found.add(2, 0, || {
                format!("{} and {}: {difference}", place(first), place(replica))
            });
        }
    }
    found.finding()
}

fn place(replica: &ReplicaSeen) -> String {
    format!(
        "shard {} on {} at revision {}",
        replica.shard, replica.node, replica.revision
    )
}

/// The first conversation, by name, that two replicas do not have alike; none when only the order
/// differs.
fn difference(a: &ReplicaSeen, b: &ReplicaSeen) -> Option<String> {
    let (a, b) = (rooms(a), rooms(b));
    let names = a.keys().chain(b.keys());
    let name = names.filter(|name| a.get(*name) != b.get(*name)).min()?;
    let tell = |records: Option<&Records<'_>>| match records {
        Some((last_seq, messages, hash)) => {
            format!("{messages} messages, last seq {last_seq}, hash {hash}")
        }
        None => "none".to_owned(),
    };
    Some(format!(
        "{name}: {}; {}",
        tell(a.get(name)),
        tell(b.get(name))
    ))
}

fn rooms(replica: &ReplicaSeen) -> BTreeMap<&str, Records<'_>> {
    let rooms = replica.rooms.iter();
    rooms
        .map(|(name, last, many, hash)| (name.as_str(), (*last, *many, hash.as_str())))
        .collect()
}
