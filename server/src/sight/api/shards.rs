//! Every shard: where it lies, who leads it, how far its replicas are, and how it is used.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Api, Look, SeenBy};
use crate::sight::report::{answers, newest};
use crate::sight::verdict::is_up;
use crate::sight::view::{self, View};

/// Half minutes of the heat map that may have ended at moments this far apart, ms.
const SAME_CELL_MS: u64 = 30_000;

/// Of all shards.
#[derive(Serialize)]
pub struct Shards {
    /// Who says it.
    pub seen_by: SeenBy,
    /// Every shard.
    pub shards: Vec<Shard>,
    /// Replicas on their way.
    pub moves: Vec<Moving>,
    /// How they were used.
    pub heat: Heat,
}

/// A shard.
#[derive(Serialize)]
pub struct Shard {
    /// Its number.
    pub shard: u32,
    /// Its first slot.
    pub slot_first: u32,
    /// Its last slot, inclusive.
    pub slot_last: u32,
    /// Who leads it.
    pub leader: Option<String>,
    /// In which data center.
    pub leader_dc: Option<String>,
    /// The highest that was told.
    pub term: u64,
    /// Nobody uses it.
    pub asleep: bool,
    /// The data center that holds a majority for want of others.
    pub degraded_dc: Option<String>,
    /// Changes a second.
    pub acks_per_s: f64,
    /// Replicas above a bare quorum; -1 = there is none.
    pub margin: i64,
    /// Its replicas.
    pub replicas: Vec<Replica>,
}

/// A replica of a shard.
#[derive(Serialize)]
pub struct Replica {
    /// The data center of its node.
    pub dc: String,
    /// What it knows committed.
    pub committed_index: Option<u64>,
    /// What it has applied.
    pub applied_index: Option<u64>,
    /// When it was last read back, Unix milliseconds.
    pub scrubbed_ms: Option<u64>,
    /// Its node, state and lag.
    #[serde(flatten)]
    pub of_view: view::Replica,
}

/// A replica on its way.
#[derive(Serialize)]
pub struct Moving {
    /// The shard.
    pub shard: u32,
    /// The node that gives it up.
    pub from: String,
    /// The node that takes it.
    pub to: String,
    /// The new replica has learned; the voters are being changed.
    pub changing: bool,
    /// What it waits for.
    pub waits_for: String,
}

/// How shards were used over the last half hour.
#[derive(Default, Serialize)]
pub struct Heat {
    /// When each column ended, Unix milliseconds.
    pub at_ms: Vec<u64>,
    /// A shard each.
    pub rows: Vec<HeatRow>,
}

/// How a shard was used.
#[derive(Serialize)]
pub struct HeatRow {
    /// The shard.
    pub shard: u32,
    /// Changes a second, column by column.
    pub acks_per_s: Vec<f64>,
}

impl Shards {
    /// Of what this node saw.
    pub(super) fn of(api: &Api, look: &Look) -> Shards {
        Shards::told(api.seen_by(look), look)
    }

    /// Of what was seen.
    pub fn told(seen_by: SeenBy, look: &Look) -> Shards {
        let view = View::of(&look.reports);
        let rates: BTreeMap<u32, f64> = answers(&look.reports)
            .filter_map(|status| status.figures.as_ref())
            .flat_map(|figures| &figures.shards)
            .map(|rate| (rate.shard, rate.changes_per_s))
            .collect();
        let dcs: BTreeMap<&str, &str> = view
            .nodes
            .iter()
            .map(|node| (node.name.as_str(), node.dc.as_str()))
            .collect();
        let told = own_words(look);
        let degraded: BTreeMap<u32, &str> = newest(&look.reports)
            .into_iter()
            .flat_map(|status| &status.shards)
            .filter(|shard| !shard.degraded_dc.is_empty())
            .map(|shard| (shard.shard, shard.degraded_dc.as_str()))
            .collect();
        let shards = view.shards.iter().map(|shard| {
            let replicas = shard.replicas.iter().map(|replica| {
                let own = told.get(&(shard.shard, replica.node.as_str()));
                Replica {
                    dc: dcs
                        .get(replica.node.as_str())
                        .copied()
                        .unwrap_or_default()
                        .to_owned(),
                    committed_index: own.map(|own| own.committed_index),
                    applied_index: own.map(|own| own.applied_index),
                    scrubbed_ms: own.map(|own| own.scrubbed_ms),
                    of_view: replica.clone(),
                }
            });
            let leader = shard.leader.as_deref().unwrap_or_default();
            let led = told.get(&(shard.shard, leader));
            Shard {
                shard: shard.shard,
                slot_first: shard.slot_first,
                slot_last: shard.slot_last,
                leader: shard.leader.clone(),
                leader_dc: shard.leader_dc.clone(),
                term: shard.term,
                asleep: led.is_some_and(|own| own.asleep),
                degraded_dc: degraded.get(&shard.shard).map(|dc| (*dc).to_owned()),
                acks_per_s: rates.get(&shard.shard).copied().unwrap_or(0.0),
                margin: margin(shard),
                replicas: replicas.collect(),
            }
        });
        Shards {
            seen_by,
            shards: shards.collect(),
            moves: moves(look),
            heat: heat(look),
        }
    }
}

/// Replicas of a shard that are up above a bare quorum; -1 = there is none.
pub fn margin(shard: &view::Shard) -> i64 {
    let up = shard
        .replicas
        .iter()
        .filter(|replica| is_up(replica))
        .count();
    let quorum = shard.replicas.len() / 2 + 1;
    match up.checked_sub(quorum) {
        Some(above) => i64::try_from(above).unwrap_or(i64::MAX),
        None => -1,
    }
}

/// What each replica says of itself, by shard and the name of its node.
fn own_words(look: &Look) -> BTreeMap<(u32, &str), &proto::v1::ReplicaStatus> {
    let said = answers(&look.reports).flat_map(|status| {
        let name = status.node_name.as_str();
        status
            .replicas
            .iter()
            .map(move |own| ((own.shard, name), own))
    });
    said.collect()
}

/// Replicas on their way, and what they wait for.
pub fn moves(look: &Look) -> Vec<Moving> {
    let Some(status) = newest(&look.reports) else {
        return Vec::new();
    };
    let name = |id: u64| {
        let known = status.nodes.iter().find(|node| node.node_id == id);
        known.map_or_else(|| format!("n{id}"), |node| node.name.clone())
    };
    let moves = status.moves.iter().map(|going| {
        let mut waits = status.unrestored.iter();
        let why = waits.find(|one| one.shard == going.shard && one.node_id == going.from);
        Moving {
            shard: going.shard,
            from: name(going.from),
            to: name(going.to),
            changing: going.changing,
            waits_for: match (why, going.changing) {
                (Some(one), _) => one.why.clone(),
                (None, true) => "the voters to be changed".to_owned(),
                (None, false) => format!("{} to have learned it", name(going.to)),
            },
        }
    });
    moves.collect()
}

/// The last half hour by half minutes, put together from the nodes that led.
fn heat(look: &Look) -> Heat {
    let cells: Vec<_> = answers(&look.reports)
        .flat_map(|status| &status.heat)
        .collect();
    // Nodes look at moments of their own; what falls into one half minute is of one column.
    let columns: BTreeSet<u64> = cells.iter().map(|cell| cell.at_ms / SAME_CELL_MS).collect();
    let places: BTreeMap<u64, usize> = columns
        .iter()
        .enumerate()
        .map(|(at, one)| (*one, at))
        .collect();
    let mut rows: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for cell in cells {
        let Some(place) = places.get(&(cell.at_ms / SAME_CELL_MS)) else {
            continue;
        };
        for (shard, changes) in cell.shards.iter().zip(&cell.changes) {
            let row = rows
                .entry(*shard)
                .or_insert_with(|| vec![0.0; columns.len()]);
            #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
            let per_s = *changes as f64 * 1_000.0 / SAME_CELL_MS as f64;
            row[*place] += per_s;
        }
    }
    let rows = rows.into_iter();
    Heat {
        at_ms: columns.iter().map(|column| column * SAME_CELL_MS).collect(),
        rows: rows
            .map(|(shard, acks_per_s)| HeatRow { shard, acks_per_s })
            .collect(),
    }
}
