//! Whether a cluster is fit for a plan now: what `firebreak drill preflight` tells, and what `run` asks
//! before it begins.

use std::collections::{BTreeMap, BTreeSet};

use client::v1::{GetDrillsResponse, GetStatusResponse, drill};
use model::placement::whatif;
use serde::Serialize;
use server::drill::certificate::hex;
use server::drill::paper::{Cluster, Node, Predicted};
use server::drill::plan::{Action, DrillPlan};
use server::sight::report::answers;

use super::quorum::{self, Shards};
use crate::cmd::map::Map;
use crate::cmd::outage::when;
use crate::cmd::target::printable;

/// A wall clock that is off by more is wrong, milliseconds.
const CLOCK_OFF_MS: i64 = 1_000;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Look {
    /// What.
    pub what: &'static str,
    /// Whether the drill may begin for all that.
    pub fit: bool,
    /// What was seen, for people.
    pub seen: String,
}

/// All that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Fit {
    /// The drill.
    pub id: String,
    /// One by one.
    pub looks: Vec<Look>,
    /// What `whatif` says of the nodes that it takes away.
    pub predicted: Predicted,
    /// The cluster.
    pub cluster: Cluster,
    /// The smallest number of replicas above a bare quorum that the plan leaves.
    pub margin: i64,
}

impl Fit {
    /// Whether the drill may begin.
    pub fn is_fit(&self) -> bool {
        self.looks.iter().all(|look| look.fit)
    }

    /// Why not.
    pub fn reasons(&self) -> Vec<String> {
        let unfit = self.looks.iter().filter(|look| !look.fit);
        unfit
            .map(|look| format!("{}: {}", look.what, look.seen))
            .collect()
    }
}

/// Which nodes hold each shard, by name.
pub fn shards(map: &Map) -> Shards {
    let shards = map.newest().shards.iter();
    shards
        .map(|shard| {
            let holders = shard.replicas.iter().map(|node| map.name(*node));
            (shard.shard, holders.collect())
        })
        .collect()
}

/// Looks at everything.
pub fn look(plan: &DrillPlan, map: &Map, told: &GetDrillsResponse) -> Fit {
    let statuses: BTreeMap<&str, &GetStatusResponse> = answers(&map.reports)
        .map(|one| (one.node_name.as_str(), one))
        .collect();
    let shards = shards(map);
    let weakest = quorum::weakest(plan, &shards);
    let (predicted, headroom) = headroom(plan, map, weakest.as_ref());
    let looks = vec![
        same_cluster(plan, map),
        nodes_known(plan, map),
        all_answer(map),
        versions(&statuses),
        restored(&statuses),
        quorums(weakest.as_ref()),
        headroom,
        clocks(&statuses),
        allowed(plan, &statuses),
        machine(plan, &statuses),
        nobody_else(plan, told, &statuses),
        windows(told),
    ];
    Fit {
        id: plan.id.clone(),
        looks,
        predicted,
        cluster: cluster(map, told),
        margin: weakest.map_or(0, |one| one.margin()),
    }
}

fn seen(what: &'static str, wrong: Vec<String>, right: impl Into<String>) -> Look {
    Look {
        what,
        fit: wrong.is_empty(),
        seen: match wrong.is_empty() {
            true => right.into(),
            false => wrong.join("; "),
        },
    }
}

fn same_cluster(plan: &DrillPlan, map: &Map) -> Look {
    let here = &map.newest().cluster_id;
    let other = format!("the plan is for {}, this is {here}", plan.cluster_id);
    let wrong = (plan.cluster_id != *here).then_some(other);
    seen("cluster", wrong.into_iter().collect(), here.clone())
}

fn nodes_known(plan: &DrillPlan, map: &Map) -> Look {
    let names: BTreeSet<&str> = map
        .newest()
        .nodes
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    let of_plan = plan.steps.iter().flat_map(|step| step.nodes.iter());
    let unknown: BTreeSet<&String> = of_plan
        .filter(|node| !names.contains(node.as_str()))
        .collect();
    let wrong = unknown
        .into_iter()
        .map(|node| format!("there is no node {node}"));
    seen("nodes", wrong.collect(), format!("{} nodes", names.len()))
}

fn all_answer(map: &Map) -> Look {
    let gone = map
        .gone()
        .into_iter()
        .map(|node| format!("{} does not answer", map.name(node)));
    seen("answers", gone.collect(), "every node answers")
}

fn versions(statuses: &BTreeMap<&str, &GetStatusResponse>) -> Look {
    let versions: BTreeSet<&str> = statuses.values().map(|one| one.version.as_str()).collect();
    let all: Vec<&str> = versions.iter().copied().collect();
    let wrong = (versions.len() > 1).then(|| format!("there are {}", all.join(" and ")));
    seen("versions", wrong.into_iter().collect(), all.join(""))
}

fn restored(statuses: &BTreeMap<&str, &GetStatusResponse>) -> Look {
    let mut wrong = BTreeSet::new();
    for status in statuses.values() {
        let moves = status.moves.iter();
        wrong
            .extend(moves.map(|going| format!("a replica of shard {} is on its way", going.shard)));
        let unrestored = status.unrestored.iter();
        wrong.extend(unrestored.map(|one| format!("shard {}: {}", one.shard, printable(&one.why))));
        let broken = status.replicas.iter().filter(|one| one.state == "broken");
        wrong.extend(
            broken.map(|one| format!("shard {} is broken on {}", one.shard, status.node_name)),
        );
    }
    seen(
        "replicas",
        wrong.into_iter().take(8).collect(),
        "all are where and as they should be",
    )
}

fn quorums(weakest: Option<&quorum::Weakest>) -> Look {
    let Some(one) = weakest else {
        return seen("quorums", vec!["there are no shards".to_owned()], "");
    };
    let name = match one.shard {
        0 => "the meta shard".to_owned(),
        shard => format!("shard {shard}"),
    };
    let text = format!(
        "{name} keeps {} of {} replicas at its weakest moment",
        one.left, one.of
    );
    let wrong = (one.margin() < 0).then(|| format!("{text}: no quorum"));
    seen("quorums", wrong.into_iter().collect(), text)
}

fn headroom(plan: &DrillPlan, map: &Map, weakest: Option<&quorum::Weakest>) -> (Predicted, Look) {
    let mut lost = BTreeSet::new();
    for step in plan.steps.iter().filter(|step| step.action.takes_away()) {
        let concurrent = plan.steps.len() == 1 || !plan.target.is_empty();
        for node in step.nodes.iter().filter(|_| concurrent) {
            lost.extend(map.node(node).ok().map(|one| one.node_id));
        }
    }
    let report = whatif(&map.state(), &lost, &map.facts(), &map.leaders());
    let served = weakest.is_some_and(|one| one.margin() >= 0);
    let mut wrong = Vec::new();
    if report.disks_short > 0 {
        wrong.push(format!(
            "{} nodes have no room for what they would take over",
            report.disks_short
        ));
    }
    let mut right = format!("{} shards change their leader", report.leaders_lost);
    if report.unplaced > 0 {
        right += &format!(
            "; {} replicas would find no node if it lasted",
            report.unplaced
        );
    }
    let mut disks: BTreeMap<String, f64> = BTreeMap::new();
    let totals = disk_totals(map);
    for node in &report.nodes {
        let total = totals.get(&node.node).copied().unwrap_or(0);
        if let (Some(free), true) = (node.free_bytes, total > 0) {
            let full = 100.0 - percent(free.max(0).unsigned_abs(), total);
            let dc = map.state().dc_of(node.node).to_owned();
            let most = disks.entry(dc).or_insert(0.0);
            *most = most.max(full);
        }
    }
    let predicted = Predicted {
        served,
        gap_ms: plan.goals.gap_ms,
        failed: 0,
        // Replicas are replaced only after minutes.
        moves: 0,
        disk_after_pct: disks,
        why: match served {
            true => format!("every shard keeps its quorum; {right}"),
            false => "a shard loses its quorum".to_owned(),
        },
    };
    (predicted, seen("headroom", wrong, right))
}

fn disk_totals(map: &Map) -> BTreeMap<u64, u64> {
    let stats = answers(&map.reports).map(|one| (one.node_id, one.stats.as_ref()));
    stats
        .filter_map(|(id, stats)| Some((id, stats?.disk_total_bytes)))
        .collect()
}

/// Of a whole.
#[allow(clippy::cast_precision_loss, reason = "a share for people")]
pub fn percent(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

fn clocks(statuses: &BTreeMap<&str, &GetStatusResponse>) -> Look {
    let mut wrong = BTreeSet::new();
    for status in statuses.values() {
        for node in status
            .nodes
            .iter()
            .filter(|one| one.clock_off_ms.abs() > CLOCK_OFF_MS)
        {
            wrong.insert(format!(
                "the clock of {} is {} ms off",
                node.name, node.clock_off_ms
            ));
        }
    }
    seen(
        "clocks",
        wrong.into_iter().collect(),
        "no clock is off by a second",
    )
}

/// The nodes of steps of some kind.
fn nodes_of(plan: &DrillPlan, which: impl Fn(&Action) -> bool) -> BTreeSet<&str> {
    let steps = plan.steps.iter().filter(|step| which(&step.action));
    steps
        .flat_map(|step| step.nodes.iter().map(String::as_str))
        .collect()
}

fn allowed(plan: &DrillPlan, statuses: &BTreeMap<&str, &GetStatusResponse>) -> Look {
    let put = nodes_of(plan, |action| {
        !action.needs_their_machine() && !matches!(action, Action::Drain)
    });
    let bars = |name: &&str| {
        let status = statuses.get(*name)?;
        let no = !status.drill_allowed || status.drill_address.is_empty();
        no.then(|| format!("{name} does not let drills put faults on it (drill.allowed)"))
    };
    seen(
        "allowed",
        put.iter().filter_map(bars).collect(),
        format!("on {} nodes", put.len()),
    )
}

fn machine(plan: &DrillPlan, statuses: &BTreeMap<&str, &GetStatusResponse>) -> Look {
    let killed = nodes_of(plan, Action::needs_their_machine);
    let elsewhere = |name: &&str| {
        let status = statuses.get(*name)?;
        super::run::process::of(status)
            .err()
            .map(|why| format!("{name}: {why}"))
    };
    let right = match killed.is_empty() {
        true => "needs no node's machine".to_owned(),
        false => format!("{} nodes run on this machine", killed.len()),
    };
    seen(
        "machine",
        killed.iter().filter_map(elsewhere).collect(),
        right,
    )
}

fn nobody_else(
    plan: &DrillPlan,
    told: &GetDrillsResponse,
    statuses: &BTreeMap<&str, &GetStatusResponse>,
) -> Look {
    let drills = told.drills.clone().unwrap_or_default();
    let mut wrong: Vec<String> = drills
        .drills
        .iter()
        .filter(|one| one.state() == drill::State::Running && one.id != plan.id)
        .map(|one| format!("the drill {} runs", one.id))
        .collect();
    if let Some(lever) = &drills.lever {
        wrong.push(format!(
            "{} pulled the lever: {}",
            lever.who,
            printable(&lever.why)
        ));
    }
    for status in statuses.values().filter(|one| !one.faults.is_empty()) {
        wrong.push(format!("{} has faults on", status.node_name));
    }
    seen("nobody else", wrong, "no other drill runs")
}

fn windows(told: &GetDrillsResponse) -> Look {
    let now_ms = match told.now_ms {
        0 => when::now_ms(),
        now => now,
    };
    let drills = told.drills.clone().unwrap_or_default();
    let holds = |window: &&client::v1::DrillWindow| {
        let since = now_ms.checked_sub(window.from_ms);
        let since = since.map(|since| match window.every_ms {
            0 => since,
            every => since % every,
        });
        since.is_some_and(|since| since < window.to_ms.saturating_sub(window.from_ms))
    };
    let blocked = drills.windows.iter().filter(holds);
    let wrong = blocked.map(|one| format!("{} ({})", one.name, printable(&one.why)));
    seen("blocked windows", wrong.collect(), "none holds now")
}

/// The cluster for the paper.
fn cluster(map: &Map, told: &GetDrillsResponse) -> Cluster {
    let newest = map.newest();
    let versions: BTreeMap<u64, &str> = answers(&map.reports)
        .map(|one| (one.node_id, one.version.as_str()))
        .collect();
    let data = newest.shards.iter().filter(|shard| shard.shard > 0);
    let rates = answers(&map.reports).filter_map(|one| Some(one.figures.as_ref()?.acks_per_s));
    Cluster {
        cluster_id: newest.cluster_id.clone(),
        map_epoch: newest.map_epoch,
        layout_digest: hex(&told.layout_digest),
        nodes: newest
            .nodes
            .iter()
            .map(|node| Node {
                name: node.name.clone(),
                region: node.region.clone(),
                dc: node.dc.clone(),
                version: versions
                    .get(&node.node_id)
                    .map(|v| (*v).to_owned())
                    .unwrap_or_default(),
            })
            .collect(),
        shards: u32::try_from(data.clone().count()).unwrap_or(u32::MAX),
        replicas: data
            .map(|s| u32::try_from(s.replicas.len()).unwrap_or(0))
            .max()
            .unwrap_or(0),
        acks_per_s: rates.sum(),
    }
}
