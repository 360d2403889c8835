//! What follows from a drill's paper, in figures.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use server::drill::paper::{ClientSeen, Moment, Paper};
use server::drill::rehearsal::{Seeds, Spread};

use super::markdown::whole;
use crate::reports::words::thousands;

/// A client that waited longer than this has felt the drill, ms.
pub const FELT_MS: u64 = 500;
/// Ends of the ranges that clients' longest waits are counted in, ms.
const RANGES_MS: [u64; 8] = [50, 100, 200, 500, 1_000, 2_000, 5_000, u64::MAX];

/// A drill in figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Facts {
    /// What is to be known before anything else, for people: a drill that is worse than its seeds.
    pub warnings: Vec<String>,
    /// What happened, each with the time since the first fault.
    pub moments: Vec<Passed>,
    /// Predicted, simulated and measured.
    pub rows: Vec<Row>,
    /// What was to be held.
    pub goals: Vec<Goal>,
    /// Of all clients.
    pub gaps: Gaps,
    /// From the first fault until the last shard was led and the first waiting client was answered, ms.
    pub rto_ms: Option<u64>,
    /// Acknowledged messages that were lost.
    pub rpo: u64,
    /// What it reached.
    pub blast: Blast,
    /// How full disks were to become, and became.
    pub headroom: Vec<Headroom>,
}

/// A moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Passed {
    /// Which.
    pub moment: Moment,
    /// Unix milliseconds.
    pub at_ms: u64,
    /// UTC.
    pub utc: String,
    /// In Korea.
    pub kst: String,
    /// Since the first fault, ms; negative before it, none where there was no fault.
    pub since_ms: Option<i64>,
    /// For people.
    pub text: String,
}

/// One figure, as it was predicted, simulated and measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Its name.
    pub what: &'static str,
    /// `ms`, or nothing.
    pub unit: &'static str,
    /// By `whatif`.
    pub predicted: Option<u64>,
    /// By the seeds.
    pub simulated: Option<Spread>,
    /// In the drill.
    pub measured: u64,
    /// How they go together.
    pub standing: Standing,
}

/// How a measured figure stands to the simulated ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It was not simulated.
    Unknown,
    /// Not above the p99 of its seeds.
    Within,
    /// Above it: the model or the machine is wrong.
    Worse,
}

/// A goal or a cap.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Goal {
    /// Its name.
    pub what: String,
    /// What was to be held.
    pub limit: String,
    /// What was seen.
    pub measured: String,
    /// Whether it was held.
    pub held: bool,
}

/// The longest waits of all clients.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Gaps {
    /// How many clients there were.
    pub clients: u64,
    /// Of their longest waits, ms.
    pub p50_ms: u64,
    /// As above.
    pub p90_ms: u64,
    /// As above.
    pub p99_ms: u64,
    /// As above.
    pub max_ms: u64,
    /// The end of each range, ms, and how many clients are in it; the last has no end.
    pub ranges: Vec<(Option<u64>, u64)>,
    /// Who waited longest.
    pub worst: Option<ClientSeen>,
}

/// What a drill reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Blast {
    /// Nodes that something was done to.
    pub nodes: Vec<String>,
    /// Nodes of the cluster.
    pub of_nodes: u64,
    /// Their data centers.
    pub dcs: Vec<String>,
    /// Data centers of the cluster.
    pub of_dcs: u64,
    /// Clients that waited longer than [`FELT_MS`].
    pub felt: u64,
    /// Clients with a failed call.
    pub failed: u64,
    /// Each data center's clients.
    pub by_dc: BTreeMap<String, Reached>,
}

/// A data center's clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reached {
    /// How many.
    pub clients: u64,
    /// Of them, those that waited longer than [`FELT_MS`].
    pub felt: u64,
    /// The longest wait, ms.
    pub gap_ms: u64,
    /// Calls.
    pub calls: u64,
    /// Of them failed.
    pub failed: u64,
}

/// How full the fullest disk of a data center is, percent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Headroom {
    /// Which.
    pub dc: String,
    /// As `whatif` said.
    pub predicted_pct: Option<f64>,
    /// As it was at most.
    pub seen_pct: Option<f64>,
}

impl Facts {
    /// Of a paper.
    pub fn of(paper: &Paper) -> Facts {
        let rows = rows(paper);
        Facts {
            warnings: warnings(paper, &rows),
            moments: moments(paper),
            rows,
            goals: goals(paper),
            gaps: gaps(&paper.measured.clients),
            rto_ms: rto_ms(paper),
            rpo: paper.measured.lost,
            blast: blast(paper),
            headroom: headroom(paper),
        }
    }
}

fn moments(paper: &Paper) -> Vec<Passed> {
    let first = first(paper, Moment::Inject);
    let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    let all = paper.timeline.iter().map(|happened| Passed {
        moment: happened.moment,
        at_ms: happened.at_ms,
        utc: super::when::utc(happened.at_ms),
        kst: super::when::kst(happened.at_ms),
        since_ms: first.map(|first| signed(happened.at_ms) - signed(first)),
        text: happened.text.clone(),
    });
    let mut all: Vec<Passed> = all.collect();
    all.sort_by_key(|passed| passed.at_ms);
    all
}

fn first(paper: &Paper, moment: Moment) -> Option<u64> {
    let those = paper.timeline.iter().filter(|one| one.moment == moment);
    those.map(|one| one.at_ms).min()
}

fn rto_ms(paper: &Paper) -> Option<u64> {
    let injected = first(paper, Moment::Inject)?;
    let led = paper.timeline.iter();
    let led = led.filter(|one| one.moment == Moment::LastLeader);
    let led = led.map(|one| one.at_ms).max();
    let acked = first(paper, Moment::FirstAck);
    let until = led.into_iter().chain(acked).max()?;
    Some(until.saturating_sub(injected))
}

fn rows(paper: &Paper) -> Vec<Row> {
    let calm = paper.rehearsal.as_ref().map(|rehearsal| &rehearsal.calm);
    let calm = calm.filter(|calm| calm.ran > 0);
    let row = |what, unit, predicted, simulated: fn(&Seeds) -> Spread, measured: u64| {
        let simulated = calm.map(simulated);
        Row {
            what,
            unit,
            predicted,
            simulated,
            measured,
            standing: match simulated {
                None => Standing::Unknown,
                // Far below 2^52.
                Some(seeds) if measured as f64 > seeds.p99 => Standing::Worse,
                Some(_) => Standing::Within,
            },
        }
    };
    let (predicted, measured) = (&paper.predicted, &paper.measured);
    vec![
        row(
            "longest gap",
            "ms",
            predicted.gap_ms,
            |seeds| seeds.gap_ms,
            measured.gap_ms,
        ),
        row(
            "failed calls",
            "",
            Some(predicted.failed),
            |seeds| seeds.failed,
            measured.failed,
        ),
        row(
            "replicas that moved",
            "",
            Some(predicted.moves),
            |seeds| seeds.moves,
            measured.moves,
        ),
    ]
}

fn warnings(paper: &Paper, rows: &[Row]) -> Vec<String> {
    let mut warnings = Vec::new();
    for row in rows.iter().filter(|row| row.standing == Standing::Worse) {
        let seeds = row.simulated.unwrap_or_default();
        let unit = match row.unit {
            "" => String::new(),
            unit => format!(" {unit}"),
        };
        warnings.push(format!(
            "The drill is worse than 99 of 100 of its seeds: {} {}{unit}, where the seeds stay at {}{unit} \
             (worst {}{unit}). The model or the machine is wrong, and both are worth knowing.",
            row.what,
            thousands(row.measured),
            whole(seeds.p99),
            whole(seeds.max)
        ));
    }
    match &paper.rehearsal {
        None => warnings
            .push("It was not rehearsed: nothing is known of what was to be expected.".to_owned()),
        Some(rehearsal) if rehearsal.calm.broken + rehearsal.beside_a_fire.broken > 0 => {
            warnings.push(format!(
                "A promise broke in {} seeds of its rehearsal.",
                rehearsal.calm.broken + rehearsal.beside_a_fire.broken
            ));
        }
        Some(rehearsal) => {
            let (then, now) = (&rehearsal.layout_digest, &paper.cluster.layout_digest);
            if !then.is_empty() && !now.is_empty() && then != now {
                warnings.push("The map had changed since it was rehearsed.".to_owned());
            }
        }
    }
    warnings
}

fn goals(paper: &Paper) -> Vec<Goal> {
    let (plan, measured) = (&paper.plan, &paper.measured);
    let mut goals = vec![Goal {
        what: "failed calls".to_owned(),
        limit: format!("≤ {}", plan.goals.failed),
        measured: measured.failed.to_string(),
        held: measured.failed <= plan.goals.failed,
    }];
    let mut most = |what: &str, limit: Option<u64>, seen: u64, unit: &str| {
        if let Some(limit) = limit {
            goals.push(Goal {
                what: what.to_owned(),
                limit: format!("≤ {limit}{unit}"),
                measured: format!("{seen}{unit}"),
                held: seen <= limit,
            });
        }
    };
    most("longest gap", plan.goals.gap_ms, measured.gap_ms, " ms");
    most("cap: failed calls", plan.caps.failed, measured.failed, "");
    most("cap: longest gap", plan.caps.gap_ms, measured.gap_ms, " ms");
    goals
}

fn gaps(clients: &[ClientSeen]) -> Gaps {
    let mut waits: Vec<u64> = clients.iter().map(|client| client.gap_ms).collect();
    waits.sort_unstable();
    let at = |percent: usize| {
        let rank = (waits.len() * percent).div_ceil(100).max(1);
        waits.get(rank - 1).copied().unwrap_or(0)
    };
    let mut low = 0;
    let ranges = RANGES_MS.into_iter().map(|high| {
        let among = waits
            .iter()
            .filter(|wait| (low == 0 || **wait > low) && **wait <= high);
        let count = among.count() as u64;
        low = high;
        ((high != u64::MAX).then_some(high), count)
    });
    let ranges = ranges.collect();
    Gaps {
        clients: clients.len() as u64,
        p50_ms: at(50),
        p90_ms: at(90),
        p99_ms: at(99),
        max_ms: at(100),
        ranges,
        worst: clients.iter().max_by_key(|client| client.gap_ms).cloned(),
    }
}

fn blast(paper: &Paper) -> Blast {
    let nodes: BTreeSet<&String> = paper.plan.steps.iter().flat_map(|s| &s.nodes).collect();
    let all = &paper.cluster.nodes;
    let dcs: BTreeSet<&String> = all.iter().map(|node| &node.dc).collect();
    let hit = all.iter().filter(|node| nodes.contains(&node.name));
    let hit: BTreeSet<&String> = hit.map(|node| &node.dc).collect();
    let mut by_dc: BTreeMap<String, Reached> = BTreeMap::new();
    let clients = &paper.measured.clients;
    for client in clients {
        let reached = by_dc.entry(client.dc.clone()).or_default();
        reached.clients += 1;
        reached.felt += u64::from(client.gap_ms > FELT_MS);
        reached.gap_ms = reached.gap_ms.max(client.gap_ms);
        reached.calls += client.calls;
        reached.failed += client.failed;
    }
    Blast {
        nodes: nodes.into_iter().cloned().collect(),
        of_nodes: all.len() as u64,
        dcs: hit.into_iter().cloned().collect(),
        of_dcs: dcs.len() as u64,
        felt: by_dc.values().map(|dc| dc.felt).sum(),
        failed: clients.iter().filter(|client| client.failed > 0).count() as u64,
        by_dc,
    }
}

fn headroom(paper: &Paper) -> Vec<Headroom> {
    let (predicted, seen) = (&paper.predicted.disk_after_pct, &paper.measured.disk_pct);
    let dcs: BTreeSet<&String> = predicted.keys().chain(seen.keys()).collect();
    let of = dcs.into_iter().map(|dc| Headroom {
        dc: dc.clone(),
        predicted_pct: predicted.get(dc).copied(),
        seen_pct: seen.get(dc).copied(),
    });
    of.collect()
}
