//! What is looked at while a drill runs: whether something real happens beside it, what of each shard is
//! left, whether the cluster is seen at all, and whether somebody has ended it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use client::Client;
use server::sight::report::{Report, answers};

use super::whole;
use crate::cmd::map::{Map, told};
use crate::drill::{fit, quorum};

/// How long a node may take to say how it is.
const LIMIT: Duration = Duration::from_millis(1_500);
/// A node or a way that is silent for so long, and is not in the plan, is a real fault.
pub const REAL: Duration = Duration::from_secs(5);
/// Without any view of the cluster for so long the operator sees nothing.
pub const BLIND: Duration = Duration::from_secs(8);
/// For so long after a step a node may still be coming back.
const GRACE: Duration = Duration::from_secs(20);

/// The watch.
pub struct Watch {
    /// Nodes that steps were at lately, and until when they do not count.
    spared: BTreeMap<String, Instant>,
    /// Since when something is silent that should not be.
    silent: BTreeMap<String, Instant>,
    seen: Instant,
    planned_margin: i64,
    cap: Option<i64>,
}

/// What one look gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Looked {
    /// Why the drill must end.
    pub why: Option<String>,
    /// The smallest number of replicas above a bare quorum, of what answers.
    pub margin: Option<i64>,
    /// How full the fullest disk of each data center is, percent.
    pub disk_pct: BTreeMap<String, f64>,
    /// Replicas on their way.
    pub moves: BTreeSet<(u32, u64, u64)>,
    /// Whether every shard was led, as those that answered know it.
    pub led: bool,
    /// Nodes that the plan leaves alone and that answered, and those that did not in time.
    pub asked: (u64, u64),
}

impl Watch {
    /// Begins; the plan leaves `planned_margin` replicas above a bare quorum.
    pub fn new(planned_margin: i64, cap: Option<i64>) -> Watch {
        Watch {
            spared: BTreeMap::new(),
            silent: BTreeMap::new(),
            seen: Instant::now(),
            planned_margin,
            cap,
        }
    }

    /// Nodes that a step is at now.
    pub fn spare(&mut self, touched: &BTreeSet<String>) {
        let until = Instant::now() + GRACE;
        self.spared
            .extend(touched.iter().map(|node| (node.clone(), until)));
    }

    /// Judges a look; `away` are those that the plan takes away now.
    pub fn judge(&mut self, map: Option<&Map>, away: &BTreeSet<String>) -> Looked {
        match map {
            Some(map) => {
                self.seen = Instant::now();
                self.hold(map, away, Instant::now())
            }
            None if self.seen.elapsed() >= BLIND => Looked {
                why: Some(format!(
                    "no node has answered for {} s: nothing is seen",
                    BLIND.as_secs()
                )),
                ..Looked::default()
            },
            None => Looked::default(),
        }
    }

    fn hold(&mut self, map: &Map, away: &BTreeSet<String>, now: Instant) -> Looked {
        self.spared.retain(|_, until| *until > now);
        let mut silent = BTreeSet::new();
        let mut asked = (0, 0);
        for report in &map.reports {
            match &report.status {
                Ok(status) if !self.spared.contains_key(&status.node_name) => asked.0 += 1,
                Err(_)
                    if silent_node(report).is_some_and(|name| !self.spared.contains_key(&name)) =>
                {
                    asked.1 += 1;
                }
                Ok(_) | Err(_) => {}
            }
            if let Some(name) = silent_node(report)
                && !self.spared.contains_key(&name)
            {
                silent.insert(format!("the node {name} does not answer"));
            }
        }
        silent.extend(self.ways(map));
        self.silent.retain(|what, _| silent.contains(what));
        for what in silent {
            self.silent.entry(what).or_insert(now);
        }
        let real = self.silent.iter().find(|(_, since)| now - **since >= REAL);
        let mut why =
            real.map(|(what, _)| format!("a real fault: {what}, and the plan has none there"));
        let margin = margin(map, away);
        if let Some(margin) = margin {
            // What the plan itself takes is not counted twice.
            let least = self
                .cap
                .unwrap_or(self.planned_margin)
                .min(self.planned_margin.max(0));
            let held = self.silent.values().any(|since| now - *since >= REAL);
            if why.is_none() && margin < least && held {
                why = Some(format!(
                    "a shard has {margin} replicas above a bare quorum, {least} are due"
                ));
            }
        }
        let mut disk_pct: BTreeMap<String, f64> = BTreeMap::new();
        for status in answers(&map.reports) {
            if let Some(stats) = &status.stats {
                let used = stats.disk_total_bytes.saturating_sub(stats.disk_free_bytes);
                let most = disk_pct
                    .entry(map.state().dc_of(status.node_id).to_owned())
                    .or_insert(0.0);
                *most = most.max(fit::percent(used, stats.disk_total_bytes));
            }
        }
        let moves = answers(&map.reports).flat_map(|status| &status.moves);
        Looked {
            why,
            margin,
            disk_pct,
            moves: moves.map(|one| (one.shard, one.from, one.to)).collect(),
            led: whole::unled(map).is_none(),
            asked,
        }
    }

    /// Ways between nodes that the plan leaves alone, and that one of them does not hear.
    fn ways(&self, map: &Map) -> BTreeSet<String> {
        let mut silent = BTreeSet::new();
        for status in answers(&map.reports) {
            if self.spared.contains_key(&status.node_name) {
                continue;
            }
            for link in status
                .links
                .iter()
                .filter(|link| matches!(link.state.as_str(), "silent" | "reset"))
            {
                let peer = map.name(link.node_id);
                if !self.spared.contains_key(&peer) {
                    silent.insert(format!("{} does not hear {peer}", status.node_name));
                }
            }
        }
        silent
    }
}

/// Asks every node once how it is; none when none answers.
pub async fn ask(client: Client) -> Option<Map> {
    let asked = client.status_all(LIMIT).await.ok()?;
    Map::of(asked.into_iter().map(told).collect()).ok()
}

/// The name of a listed node that did not answer.
fn silent_node(report: &Report) -> Option<String> {
    let listed = report.listed.as_ref()?;
    report.status.is_err().then(|| listed.name.clone())
}

/// Of all shards the fewest replicas above a bare quorum: those on nodes that answer and that the plan
/// has not taken away.
fn margin(map: &Map, away: &BTreeSet<String>) -> Option<i64> {
    let silent: BTreeSet<String> = map.reports.iter().filter_map(silent_node).collect();
    let shards = fit::shards(map);
    let of = |holders: &Vec<String>| {
        let left = holders
            .iter()
            .filter(|node| !silent.contains(*node) && !away.contains(*node));
        quorum::margin(left.count(), holders.len())
    };
    shards.values().map(of).min()
}
