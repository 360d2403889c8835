//! What would be left if some nodes were lost, for every data center and for what is asked.

mod answer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::http::Uri;
use model::cluster::ClusterState;
use model::id::ShardId;
use model::placement::{Facts, Leaders, Report as Left, whatif};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::oneshot;

pub use self::answer::WhatIf;
use super::{Api, Look};
use crate::sight::report::{self, answers, newest};

/// What is said to be lost.
#[derive(Default)]
pub struct Asked {
    dcs: Vec<String>,
    nodes: Vec<String>,
}

impl Asked {
    /// Reads `dc=seoul&node=busan-1`; each may be given several times.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn parse(query: &str) -> Result<Asked, String> {
        let uri: Uri = format!("/?{query}")
            .parse()
            .map_err(|error| format!("the query cannot be read: {error}"))?;
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri);
        let pairs = pairs.map_err(|error| format!("the query cannot be read: {error}"))?;
        let mut asked = Asked::default();
        for (key, value) in pairs.0 {
            match key.as_str() {
                "dc" => asked.dcs.push(value),
                "node" => asked.nodes.push(value),
                other => return Err(format!("{other:?} is not known: say dc=NAME or node=NAME")),
            }
        }
        Ok(asked)
    }
}

/// What is known of a cluster for the question.
struct Known {
    state: ClusterState,
    facts: BTreeMap<u64, Facts>,
    leaders: Leaders,
    /// Nodes that do not answer now: who is dead already takes nothing over.
    gone: BTreeSet<u64>,
}

impl Known {
    fn of(look: &Look) -> Option<Known> {
        let newest = newest(&look.reports).filter(|status| status.map_epoch > 0)?;
        let silent = look.reports.iter().filter(|one| one.status.is_err());
        let listed = silent.filter_map(|one| one.listed.as_ref());
        Some(Known {
            state: report::state(newest),
            facts: report::facts(&look.reports),
            leaders: report::leaders(&look.reports),
            gone: listed.map(|node| node.node_id).collect(),
        })
    }

    fn name_of(&self, id: u64) -> String {
        let node = self.state.nodes.iter().find(|node| node.id == id);
        node.map_or_else(|| format!("n{id}"), |node| node.name.clone())
    }

    /// How many shards a node leads. One that nobody says to lead is led by somebody soon, if it can
    /// be.
    fn led_by(&self, node: u64) -> usize {
        let leader = |shard: &ShardId| {
            let replicas = self.state.replicas_of(*shard);
            let alive = replicas.iter().filter(|one| !self.gone.contains(*one));
            let can = alive.clone().count() * 2 > replicas.len();
            let known = self.leaders.get(shard).copied();
            known.or_else(|| alive.copied().next().filter(|_| can))
        };
        let shards = self.state.shard_ids();
        shards.filter(|shard| leader(shard) == Some(node)).count()
    }

    /// Of how many shards a node has a replica.
    fn held_by(&self, node: u64) -> usize {
        let shards = self.state.shard_ids();
        let holds = |shard: &ShardId| self.state.replicas_of(*shard).contains(&node);
        shards.filter(holds).count()
    }

    fn dc_of(&self) -> BTreeMap<u64, String> {
        let nodes = self.state.nodes.iter();
        let place = |node: &model::cluster::Node| {
            let locality = node.locality.as_ref();
            (
                node.id,
                locality.map_or_else(String::new, |place| place.dc.clone()),
            )
        };
        nodes.map(place).collect()
    }
}

/// What the loss of a data center would mean.
#[derive(Clone, Debug, Serialize)]
pub struct Lose {
    /// Everything would stay served.
    pub served: bool,
    /// Why, for people.
    pub why: String,
    /// How long some calls would wait; none = not known.
    pub gap_ms: Option<u64>,
    /// How full the fullest disk would be behind it.
    pub disk_after_pct: Option<f64>,
    /// Replicas that would find no other node.
    pub unrestorable: usize,
}

/// What the loss of each data center would mean, worked out at once.
pub fn losses_of(look: &Look) -> BTreeMap<String, Lose> {
    let known = Known::of(look);
    known.map_or_else(BTreeMap::new, |known| losses(&known, gap_ms(look)))
}

/// What was found out last for every data center, and for which map.
#[derive(Default)]
pub struct Losses(Mutex<Option<(Key, Found)>>);

/// By data center.
type Found = Arc<BTreeMap<String, Lose>>;

/// What the answer depends on; disks fill slowly.
type Key = (u64, BTreeSet<u64>, Leaders);

impl Losses {
    /// The loss of each data center, asked anew only where the map, the leaders or the living have changed.
    pub async fn of(&self, api: &Api, look: &Look) -> Arc<BTreeMap<String, Lose>> {
        let Some(known) = Known::of(look) else {
            return Arc::default();
        };
        let key = (known.state.epoch, known.gone.clone(), known.leaders.clone());
        if let Some((before, losses)) = &*self.0.lock()
            && *before == key
        {
            return losses.clone();
        }
        let gap_ms = gap_ms(look);
        let found = in_background(api, move || losses(&known, gap_ms)).await;
        let found = Arc::new(found.unwrap_or_default());
        *self.0.lock() = Some((key, found.clone()));
        found
    }
}

/// Works something out where it holds up nobody.
async fn in_background<T: Send + 'static>(
    api: &Api,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, result) = oneshot::channel();
    // Nobody waits when the asker is gone.
    let job = Box::new(move || drop(done.send(work())));
    api.admin.background.run(job);
    result.await.ok()
}

/// What a silent data center costs at most: until it is given up, and the election behind that.
fn gap_ms(look: &Look) -> Option<u64> {
    let links = answers(&look.reports).flat_map(|status| &status.links);
    let up = links.filter(|link| link.state == "up" && link.round_us > 0);
    let us = up.map(|link| link.limit_us + 3 * link.round_us).max()?;
    // To a tenth of a second: it is an estimate.
    Some((us / 1_000 + 100).div_ceil(100) * 100)
}

fn losses(known: &Known, gap_ms: Option<u64>) -> BTreeMap<String, Lose> {
    let mut dcs: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for (node, dc) in known.dc_of() {
        dcs.entry(dc).or_default().insert(node);
    }
    let lose = |(dc, inside): (String, BTreeSet<u64>)| {
        let lost = inside.union(&known.gone).copied().collect();
        let left = whatif(&known.state, &lost, &known.facts, &known.leaders);
        let gap_ms = gap_ms.filter(|_| left.leaders_lost > 0);
        let lose = Lose {
            served: left.quorums_lost == 0,
            why: why(&left),
            gap_ms: gap_ms.or((left.leaders_lost == 0).then_some(0)),
            disk_after_pct: fullest(known, &left),
            unrestorable: left.unplaced,
        };
        (dc, lose)
    };
    dcs.into_iter().map(lose).collect()
}

/// Why a loss would be borne, or not.
fn why(left: &Left) -> String {
    if left.quorums_lost > 0 {
        let lost = left.shards.iter().filter(|shard| shard.quorum_lost);
        let names: Vec<String> = lost.take(6).map(|shard| shard.shard.told()).collect();
        let more = match left.quorums_lost.saturating_sub(names.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        return format!("no quorum would be left of {}{more}", names.join(", "));
    }
    if left.unplaced > 0 {
        return format!(
            "every shard keeps a quorum elsewhere; {} replicas would have no other place until nodes return",
            left.unplaced
        );
    }
    if left.disks_short > 0 {
        return format!(
            "everything stays served, but {} nodes would have no room for what they take over",
            left.disks_short
        );
    }
    if left.degraded > 0 {
        return format!(
            "every shard keeps a quorum elsewhere, and can be repaired; one data center would then \
             hold a majority of {} of them",
            left.degraded
        );
    }
    "every shard keeps a quorum elsewhere, and can be repaired".to_owned()
}

/// How full the fullest disk would be, percent.
fn fullest(known: &Known, left: &Left) -> Option<f64> {
    let full = left.nodes.iter().filter_map(|node| {
        let total = known.facts.get(&node.node)?.disk_total_bytes;
        used_pct(total, node.free_bytes?)
    });
    full.max_by(f64::total_cmp)
}

#[allow(clippy::cast_precision_loss, reason = "a share for people")]
fn used_pct(total: u64, free: i64) -> Option<f64> {
    (total > 0).then(|| {
        let used = (total as f64 - free as f64) / total as f64 * 100.0;
        (used * 10.0).round() / 10.0
    })
}

/// The nodes that are said to be lost.
fn lost(known: &Known, asked: &Asked) -> Result<BTreeSet<u64>, String> {
    let dc_of = known.dc_of();
    let mut lost = BTreeSet::new();
    for dc in &asked.dcs {
        let inside = dc_of
            .iter()
            .filter(|(_, of)| *of == dc)
            .map(|(node, _)| *node);
        let before = lost.len();
        lost.extend(inside);
        if lost.len() == before {
            let mut there: Vec<&str> = dc_of.values().map(String::as_str).collect();
            there.sort_unstable();
            there.dedup();
            return Err(format!(
                "there is no data center {dc:?}; there are {}",
                there.join(", ")
            ));
        }
    }
    for name in &asked.nodes {
        let found = known.state.nodes.iter().find(|node| node.name == *name);
        let Some(node) = found else {
            let names: Vec<&str> = known
                .state
                .nodes
                .iter()
                .map(|node| node.name.as_str())
                .collect();
            return Err(format!(
                "there is no node {name:?}; there are {}",
                names.join(", ")
            ));
        };
        lost.insert(node.id);
    }
    Ok(lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_what_is_lost_and_what_it_does_not_know_is_named() {
        let asked = Asked::parse("dc=seoul&node=busan%2D1&node=x").unwrap();
        assert_eq!(asked.dcs, ["seoul"]);
        assert_eq!(asked.nodes, ["busan-1", "x"]);
        assert!(Asked::parse("").unwrap().dcs.is_empty());
        let wrong = Asked::parse("rack=1").err().unwrap();
        assert!(wrong.contains("\"rack\" is not known"), "{wrong}");
    }

    #[test]
    fn repair_that_gives_one_data_center_a_majority_is_said_beside_the_rest() {
        let mut left = Left::default();
        assert!(why(&left).ends_with("and can be repaired"));
        left.degraded = 2;
        let says = "one data center would then hold a majority of 2 of them";
        assert!(why(&left).ends_with(says), "{}", why(&left));
    }
}
