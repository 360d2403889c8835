//! Every shard: where it lies, who leads it, how far its replicas are, and how it is used.

use std::collections::{BTreeMap, BTreeSet};

use proto::v1::HeatCell;
use serde::Serialize;

use super::{Api, Look, SeenBy};
use crate::sight::report::{answers, newest};
use crate::sight::verdict::is_up;
use crate::sight::view::{self, View};

/// A column of the heat map, and what a node tells of at once, ms.
const CELL_MS: u64 = 30_000;

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
    /// Changes a second, column by column; none where only nodes that do not answer would know.
    pub acks_per_s: Vec<Option<f64>>,
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
            heat: heat(look, &view),
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
fn heat(look: &Look, view: &View) -> Heat {
    let tapes: Vec<&[HeatCell]> = answers(&look.reports)
        .map(|status| status.heat.as_slice())
        .collect();
    let silent = view.nodes.iter().filter(|node| !node.reachable);
    let since = silent.map(|node| look.at_ms.saturating_sub(node.gone_ms.unwrap_or(0)));
    spread(&tapes, since.max().unwrap_or(0))
}

/// Nodes end their half minutes at moments of their own: each is shared out to the columns that it
/// lies in. Where nothing is told of a time before `silent_since`, a node led that cannot tell.
fn spread(tapes: &[&[HeatCell]], silent_since: u64) -> Heat {
    let ends = || tapes.iter().filter_map(|cells| Some(cells.last()?.at_ms));
    let newest = ends().max().unwrap_or(0);
    // A column is told once all have told of it, but for a node whose clock is far behind.
    let until = ends().filter(|end| newest - end < 2 * CELL_MS).min();
    let until = until.unwrap_or(0) / CELL_MS;
    let mut columns = BTreeSet::new();
    let mut rows: BTreeMap<u32, BTreeMap<u64, f64>> = BTreeMap::new();
    for cell in tapes.iter().copied().flatten() {
        let first = cell.at_ms.saturating_sub(CELL_MS) / CELL_MS;
        let behind = cell
            .at_ms
            .saturating_sub((first + 1) * CELL_MS)
            .min(CELL_MS);
        for (column, ms) in [(first, CELL_MS - behind), (first + 1, behind)] {
            if column >= until || ms == 0 {
                continue;
            }
            columns.insert(column);
            for (shard, changes) in cell.shards.iter().zip(&cell.changes) {
                #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
                let per_s = *changes as f64 * 1_000.0 * ms as f64 / (CELL_MS * CELL_MS) as f64;
                *rows.entry(*shard).or_default().entry(column).or_default() += per_s;
            }
        }
    }
    let row = |(shard, told): (u32, BTreeMap<u64, f64>)| {
        let value = |column: &u64| match told.get(column) {
            None if column * CELL_MS < silent_since => None,
            None => Some(0.0),
            told => told.copied(),
        };
        HeatRow {
            shard,
            acks_per_s: columns.iter().map(value).collect(),
        }
    };
    Heat {
        at_ms: columns.iter().map(|column| column * CELL_MS).collect(),
        rows: rows.into_iter().map(row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(at_ms: u64, changes: &[(u32, u64)]) -> HeatCell {
        HeatCell {
            at_ms,
            shards: changes.iter().map(|(shard, _)| *shard).collect(),
            changes: changes.iter().map(|(_, changes)| *changes).collect(),
        }
    }

    #[test]
    fn half_minutes_that_end_at_other_moments_are_shared_out_and_the_open_column_waits() {
        let even = [cell(60_000, &[(1, 300)]), cell(90_000, &[(1, 300)])];
        // Two thirds of each lie in the column before.
        let odd = [
            cell(70_000, &[(2, 300)]),
            cell(100_000, &[(2, 300)]),
            cell(130_000, &[(2, 300)]),
        ];
        let heat = spread(&[&even, &odd], 0);
        assert_eq!(heat.at_ms, [30_000, 60_000]);
        let told = |at: usize| -> Vec<i64> {
            let values = heat.rows[at].acks_per_s.iter();
            #[allow(clippy::cast_possible_truncation, reason = "small")]
            let whole = values.map(|value| value.unwrap().round() as i64);
            whole.collect()
        };
        assert_eq!(told(0), [10, 10]);
        assert_eq!(told(1), [7, 10]);
    }

    #[test]
    fn of_the_time_before_a_leader_fell_silent_nothing_is_not_called_zero() {
        let cells = [cell(60_000, &[(1, 30)]), cell(90_000, &[(2, 30)])];
        let heat = spread(&[&cells], 61_000);
        let told: Vec<Vec<bool>> = { heat.rows.iter() }
            .map(|row| row.acks_per_s.iter().map(Option::is_some).collect())
            .collect();
        assert_eq!(told, [[true, false], [false, true]]);
        let heat = spread(&[&cells], 0);
        let mut values = heat.rows.iter().flat_map(|row| &row.acks_per_s);
        assert!(values.all(Option::is_some));
    }
}
