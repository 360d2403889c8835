//! The answer to what was asked: what is left, by data center, and in a sentence.

use std::collections::{BTreeMap, BTreeSet};

use model::placement::{NodeAfter, Report as Left, ShardAfter, whatif};
use serde::Serialize;

use super::{Asked, Known, gap_ms, in_background, lost, used_pct, why};
use crate::sight::api::{Api, Look, SeenBy};

/// The answer to what was asked.
#[derive(Serialize)]
pub struct WhatIf {
    seen_by: SeenBy,
    lost: Vec<String>,
    gone_already: Vec<String>,
    served: bool,
    sentence: String,
    shards: usize,
    stopped: Vec<u32>,
    leaderless_for_ms: Option<u64>,
    leads: Vec<Counts>,
    replicas: Vec<Counts>,
    disk: Vec<Disk>,
    unrestorable: Vec<Unrestorable>,
}

#[derive(Serialize)]
struct Counts {
    dc: String,
    before: usize,
    after: usize,
}

#[derive(Serialize)]
struct Disk {
    dc: String,
    before_pct: Option<f64>,
    after_pct: Option<f64>,
}

#[derive(Serialize)]
struct Unrestorable {
    shard: u32,
    why: String,
}

impl WhatIf {
    /// Answers.
    ///
    /// # Errors
    /// A name that there is not, with those there are.
    pub async fn of(api: &Api, look: &Look, asked: &Asked) -> Result<WhatIf, String> {
        let known = Known::of(look).ok_or("the cluster's shards are not laid out yet")?;
        let asked = lost(&known, asked)?;
        let all: BTreeSet<u64> = asked.union(&known.gone).copied().collect();
        let gap_ms = gap_ms(look);
        let seen_by = api.seen_by(look);
        let answer = in_background(api, move || {
            let left = whatif(&known.state, &all, &known.facts, &known.leaders);
            WhatIf::from(&known, &asked, &left, gap_ms, seen_by)
        });
        answer
            .await
            .ok_or_else(|| "the node is stopping".to_owned())
    }

    fn from(
        known: &Known,
        asked: &BTreeSet<u64>,
        left: &Left,
        gap_ms: Option<u64>,
        seen_by: SeenBy,
    ) -> WhatIf {
        let loss = Loss {
            known,
            left,
            dc_of: known.dc_of(),
        };
        let name = |id: &u64| known.name_of(*id);
        let stopped = left.shards.iter().filter(|shard| shard.quorum_lost);
        WhatIf {
            seen_by,
            lost: asked.iter().map(name).collect(),
            gone_already: known.gone.difference(asked).map(name).collect(),
            served: left.quorums_lost == 0,
            sentence: sentence(&told(asked, &loss.dc_of, name), left, gap_ms),
            shards: known.state.shards.len() + 1,
            stopped: stopped.map(|shard| shard.shard.0).collect(),
            leaderless_for_ms: match left.leaders_lost {
                0 => Some(0),
                _ => gap_ms,
            },
            leads: loss.counts(|node| {
                let after = loss.after_of(node).map_or(0, |after| after.leaders.1);
                (known.led_by(node), after)
            }),
            replicas: loss.counts(|node| {
                let after = loss.after_of(node).map_or(0, |after| after.replicas.1);
                (known.held_by(node), after)
            }),
            disk: loss.disks(),
            unrestorable: loss.unrestorable(),
        }
    }
}

/// A loss, and what is left behind it, by data center.
struct Loss<'a> {
    known: &'a Known,
    left: &'a Left,
    dc_of: BTreeMap<u64, String>,
}

impl Loss<'_> {
    fn dcs(&self) -> BTreeSet<&String> {
        self.dc_of.values().collect()
    }

    fn inside(&self, dc: &String) -> impl Iterator<Item = u64> {
        let nodes = self.dc_of.iter().filter(move |(_, one)| *one == dc);
        nodes.map(|(node, _)| *node)
    }

    fn after_of(&self, node: u64) -> Option<&NodeAfter> {
        self.left.nodes.iter().find(|one| one.node == node)
    }

    /// What the nodes of each data center have `of` something, before and after.
    fn counts(&self, of: impl Fn(u64) -> (usize, usize)) -> Vec<Counts> {
        let dcs = self.dcs().into_iter();
        let counts = dcs.map(|dc| {
            let (before, after) = self.inside(dc).fold((0, 0), |sum, node| {
                let (before, after) = of(node);
                (sum.0 + before, sum.1 + after)
            });
            Counts {
                dc: dc.clone(),
                before,
                after,
            }
        });
        counts.collect()
    }

    /// How full the fullest disk of each data center is, before and after.
    fn disks(&self) -> Vec<Disk> {
        let facts = &self.known.facts;
        let before = |id: u64| {
            let facts = facts.get(&id)?;
            let free = i64::try_from(facts.disk_free_bytes).ok()?;
            used_pct(facts.disk_total_bytes, free)
        };
        let after = |id: u64| {
            let free = self.after_of(id)?.free_bytes?;
            used_pct(facts.get(&id)?.disk_total_bytes, free)
        };
        let dcs = self.dcs().into_iter();
        let disks = dcs.map(|dc| Disk {
            dc: dc.clone(),
            before_pct: { self.inside(dc).filter_map(before) }.max_by(f64::total_cmp),
            after_pct: { self.inside(dc).filter_map(after) }.max_by(f64::total_cmp),
        });
        disks.collect()
    }

    /// Shards that stay without a quorum, or with one that a data center holds alone.
    fn unrestorable(&self) -> Vec<Unrestorable> {
        let shards = self.left.shards.iter();
        let bad = shards.filter(|shard| shard.degraded || shard.quorum_lost);
        let why = |shard: &ShardAfter| match shard.quorum_lost {
            true => format!("{} of {} replicas would be left", shard.left, shard.of),
            false => "one data center would hold a majority".to_owned(),
        };
        bad.map(|shard| Unrestorable {
            shard: shard.shard.0,
            why: why(shard),
        })
        .collect()
    }
}

/// What is lost, in words: a data center instead of all its nodes.
fn told(
    asked: &BTreeSet<u64>,
    dc_of: &BTreeMap<u64, String>,
    name: impl Fn(&u64) -> String,
) -> String {
    let mut dcs: BTreeMap<&String, Vec<u64>> = BTreeMap::new();
    for (node, dc) in dc_of {
        dcs.entry(dc).or_default().push(*node);
    }
    let mut names = Vec::new();
    for (dc, nodes) in dcs {
        let lost: Vec<u64> = { nodes.iter() }
            .filter(|node| asked.contains(*node))
            .copied()
            .collect();
        match lost.len() > 1 && lost.len() == nodes.len() {
            true => names.push(format!("data center {dc}")),
            false => names.extend(lost.iter().map(&name)),
        }
    }
    names.join(", ")
}

fn sentence(lost: &str, left: &Left, gap_ms: Option<u64>) -> String {
    if lost.is_empty() {
        return format!("Nothing more lost: {}.", why(left));
    }
    match (left.quorums_lost, left.leaders_lost, gap_ms) {
        (0, 0, _) => format!("Without {lost}: {}; nobody waits.", why(left)),
        (0, led, Some(ms)) => {
            #[allow(clippy::cast_precision_loss, reason = "seconds for people")]
            let seconds = ms as f64 / 1_000.0;
            format!(
                "Without {lost}: {}; the {led} shards led there wait about {seconds:.1} s.",
                why(left)
            )
        }
        (0, led, None) => format!(
            "Without {lost}: {}; {led} shards elect a leader.",
            why(left)
        ),
        _ => format!("Without {lost}: {}.", why(left)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_center_that_is_lost_whole_is_named_instead_of_its_nodes() {
        let dc_of = [(1, "seoul"), (2, "seoul"), (3, "busan"), (4, "busan")];
        let dc_of: BTreeMap<u64, String> = dc_of.map(|(node, dc)| (node, dc.to_owned())).into();
        let told = |lost: &[u64]| {
            let lost: BTreeSet<u64> = lost.iter().copied().collect();
            told(&lost, &dc_of, |node| format!("n{node}"))
        };
        assert_eq!(told(&[1, 2, 4]), "n4, data center seoul");
        assert_eq!(told(&[]), "");
    }
}
