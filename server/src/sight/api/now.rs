//! The first page: are users hurt, what may still burn, what moves.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::shards::margin;
use super::timeline::Happening;
use super::whatif::Lose;
use super::{Api, Look, SeenBy};
use crate::sight::report::{answers, newest};
use crate::sight::verdict::{Judged, Problem, Verdict, has_quorum};
use crate::sight::view::{self, Node, View};

/// All that the first page shows.
#[derive(Serialize)]
pub struct Now {
    seen_by: SeenBy,
    cluster_id: String,
    map_epoch: u64,
    version: &'static str,
    forming: bool,
    verdict: Verdict,
    sentence: String,
    problems: Vec<Problem>,
    figures: Figures,
    shards: Shards,
    dcs: Vec<Dc>,
    nodes: Vec<Node>,
    links: Vec<Link>,
    recent: Vec<Happening>,
}

#[derive(Serialize)]
struct Figures {
    acks_per_s: f64,
    reads_per_s: f64,
    p99_ms: Option<f64>,
    gap_5m_ms: f64,
    gap_5m_whose: String,
    failed_5m: u64,
    leaderless: usize,
    no_quorum: usize,
    margin: Option<i64>,
    margin_shards: usize,
}

#[derive(Serialize)]
struct Shards {
    total: usize,
    led: usize,
    leaderless: usize,
    no_quorum: usize,
    asleep: usize,
    broken: usize,
    moving: usize,
}

#[derive(Serialize)]
struct Dc {
    dc: String,
    region: String,
    nodes: usize,
    alive: usize,
    draining: usize,
    leads: usize,
    leads_pct: f64,
    lose: Option<Lose>,
    disk_used_pct: Option<f64>,
    clock_off_ms: i64,
}

/// How one node feels another one.
#[derive(Serialize)]
struct Link {
    from: String,
    to: String,
    state: String,
    up: bool,
    round_ms: Option<f64>,
    silent_ms: f64,
    limit_ms: f64,
}

impl Now {
    /// Of what was seen.
    pub async fn of(api: &Api, look: &Look) -> Now {
        let losses = api.losses.of(api, look).await;
        let view = View::of(&look.reports);
        let judged = Judged::view(&view);
        Now {
            seen_by: api.seen_by(look),
            version: api.local().version,
            forming: view.map_epoch == 0,
            verdict: judged.verdict,
            sentence: judged.sentence,
            problems: judged.problems,
            figures: figures(&view),
            shards: shards(look, &view),
            dcs: dcs(&view, &losses),
            links: links(look),
            recent: api.recent.of(api, look).await,
            cluster_id: view.cluster_id,
            map_epoch: view.map_epoch,
            nodes: view.nodes,
        }
    }
}

fn figures(view: &View) -> Figures {
    let nodes = &view.nodes;
    let told = || {
        nodes
            .iter()
            .filter_map(|node| Some((node, node.figures.as_ref()?)))
    };
    let sum = |of: fn(&view::Figures) -> f64| told().map(|(_, figures)| of(figures)).sum::<f64>();
    let gap = told().max_by(|a, b| a.1.gap_5m_ms.total_cmp(&b.1.gap_5m_ms));
    let margins: Vec<i64> = view.shards.iter().map(margin).collect();
    let margin = margins.iter().min().copied();
    Figures {
        acks_per_s: sum(|figures| figures.acks_per_s),
        reads_per_s: sum(|figures| figures.reads_per_s),
        p99_ms: told()
            .filter_map(|(_, one)| one.p99_ms)
            .max_by(f64::total_cmp),
        gap_5m_ms: gap.map_or(0.0, |(_, figures)| figures.gap_5m_ms),
        gap_5m_whose: match gap {
            Some((node, figures)) if !figures.gap_5m_whose.is_empty() => {
                format!("{}: {}", node.name, figures.gap_5m_whose)
            }
            Some(_) | None => String::new(),
        },
        failed_5m: told().map(|(_, figures)| figures.failed_5m).sum(),
        leaderless: view
            .shards
            .iter()
            .filter(|shard| shard.leader.is_none())
            .count(),
        no_quorum: view
            .shards
            .iter()
            .filter(|shard| !has_quorum(shard))
            .count(),
        margin_shards: margins.iter().filter(|one| Some(**one) == margin).count(),
        margin,
    }
}

fn shards(look: &Look, view: &View) -> Shards {
    let led = view
        .shards
        .iter()
        .filter(|shard| shard.leader.is_some())
        .count();
    let asleep = answers(&look.reports).flat_map(|status| &status.replicas);
    let asleep = asleep
        .filter(|one| one.asleep && one.state == "leader")
        .count();
    let broken = view.shards.iter().filter(|shard| {
        let mut replicas = shard.replicas.iter();
        replicas.any(|replica| replica.broken_reason.is_some())
    });
    Shards {
        total: view.shards.len(),
        led,
        leaderless: view.shards.len() - led,
        no_quorum: view
            .shards
            .iter()
            .filter(|shard| !has_quorum(shard))
            .count(),
        asleep,
        broken: broken.count(),
        moving: newest(&look.reports).map_or(0, |status| status.moves.len()),
    }
}

fn dcs(view: &View, losses: &Arc<BTreeMap<String, Lose>>) -> Vec<Dc> {
    let mut dcs: BTreeMap<&str, Vec<&Node>> = BTreeMap::new();
    for node in &view.nodes {
        dcs.entry(&node.dc).or_default().push(node);
    }
    let led: usize = view.nodes.iter().map(|node| node.leads).sum();
    let dcs = dcs.into_iter().map(|(dc, nodes)| {
        let leads = nodes.iter().map(|node| node.leads).sum();
        let used = nodes.iter().filter_map(|node| {
            let (free, total) = (node.disk_free_bytes?, node.disk_total_bytes?);
            (total > 0).then(|| pct(total.saturating_sub(free), total))
        });
        let off = nodes.iter().map(|node| node.clock_off_ms);
        Dc {
            dc: dc.to_owned(),
            region: nodes
                .first()
                .map_or_else(String::new, |node| node.region.clone()),
            nodes: nodes.len(),
            alive: nodes.iter().filter(|node| node.reachable).count(),
            draining: nodes.iter().filter(|node| node.draining).count(),
            leads,
            leads_pct: pct(leads as u64, (led as u64).max(1)),
            lose: losses.get(dc).cloned(),
            disk_used_pct: used.max_by(f64::total_cmp),
            clock_off_ms: off.max_by_key(|off| off.unsigned_abs()).unwrap_or(0),
        }
    });
    dcs.collect()
}

#[allow(clippy::cast_precision_loss, reason = "a share for people")]
fn pct(part: u64, of: u64) -> f64 {
    (part as f64 / of as f64 * 1_000.0).round() / 10.0
}

fn links(look: &Look) -> Vec<Link> {
    let names: BTreeMap<u64, &str> = look
        .reports
        .iter()
        .filter_map(|report| report.listed.as_ref())
        .map(|node| (node.node_id, node.name.as_str()))
        .collect();
    let ms = |us: u64| {
        #[allow(clippy::cast_precision_loss, reason = "a time for people")]
        let ms = us as f64 / 1_000.0;
        (ms * 100.0).round() / 100.0
    };
    let links = answers(&look.reports).flat_map(|status| {
        let from = status.node_name.clone();
        status.links.iter().map(move |link| (from.clone(), link))
    });
    links
        .filter_map(|(from, link)| {
            Some(Link {
                from,
                to: (*names.get(&link.node_id)?).to_owned(),
                up: link.state == "up",
                state: link.state.clone(),
                round_ms: (link.round_us > 0).then(|| ms(link.round_us)),
                silent_ms: ms(link.silent_us),
                limit_ms: ms(link.limit_us),
            })
        })
        .collect()
}
