//! The first page: are users hurt, what may still burn, what moves.

use std::collections::BTreeMap;

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
    /// Who says it.
    pub seen_by: SeenBy,
    /// The cluster's id.
    pub cluster_id: String,
    /// Of its map; 0 = it forms.
    pub map_epoch: u64,
    /// Of the program that tells.
    pub version: &'static str,
    /// Its shards are not laid out yet.
    pub forming: bool,
    /// How it stands.
    pub verdict: Verdict,
    /// The same in a sentence.
    pub sentence: String,
    /// What is not as it should be, the gravest first.
    pub problems: Vec<Problem>,
    /// What its users feel.
    pub figures: Figures,
    /// Its shards, counted.
    pub shards: Shards,
    /// Its data centers.
    pub dcs: Vec<Dc>,
    /// Its nodes.
    pub nodes: Vec<Node>,
    /// How nodes feel each other.
    pub links: Vec<Link>,
    /// What happened lately.
    pub recent: Vec<Happening>,
    /// The drill that runs.
    pub drill: Option<Drilling>,
    /// The safety lever is pulled, by this one.
    pub lever: Option<String>,
}

/// The drill that runs, in short.
#[derive(Serialize)]
pub struct Drilling {
    /// Its name.
    pub id: String,
    /// What is played.
    pub scenario: String,
    /// The data center that it is about; empty = all.
    pub target: String,
    /// When it began, Unix milliseconds.
    pub began_ms: u64,
    /// What ends it.
    pub abort: String,
}

impl Drilling {
    /// Of what this node knows.
    fn of(api: &Api) -> Option<Drilling> {
        let view = api.local().gateway.view();
        let drill = view.drills.as_ref()?.running()?;
        Some(Drilling {
            id: drill.id.clone(),
            scenario: drill.scenario.clone(),
            target: drill.target.clone(),
            began_ms: drill.began_ms,
            abort: format!("firebreak drill abort {}", drill.id),
        })
    }
}

/// Who has pulled the safety lever, if it is.
fn lever(api: &Api) -> Option<String> {
    let view = api.local().gateway.view();
    let lever = view.drills.as_ref()?.lever.as_ref()?;
    Some(lever.who.clone())
}

/// What the users of a cluster feel.
#[derive(Serialize)]
pub struct Figures {
    /// Messages acknowledged a second.
    pub acks_per_s: f64,
    /// Reads answered a second.
    pub reads_per_s: f64,
    /// What 99 of 100 appends took at most, at the slowest node.
    pub p99_ms: Option<f64>,
    /// The longest that an append waited within 5 minutes.
    pub gap_5m_ms: f64,
    /// Whose that was.
    pub gap_5m_whose: String,
    /// Calls that were not served within 5 minutes.
    pub failed_5m: u64,
    /// Shards that nobody leads.
    pub leaderless: usize,
    /// Shards without a quorum.
    pub no_quorum: usize,
    /// Replicas above a bare quorum, of the weakest shard; -1 = there is none.
    pub margin: Option<i64>,
    /// As many shards have no more.
    pub margin_shards: usize,
}

/// Shards, counted.
#[derive(Serialize)]
pub struct Shards {
    /// All of them.
    pub total: usize,
    /// Those with a leader.
    pub led: usize,
    /// Those without one.
    pub leaderless: usize,
    /// Those without a quorum.
    pub no_quorum: usize,
    /// Those that nobody uses.
    pub asleep: usize,
    /// Those with a replica that is broken.
    pub broken: usize,
    /// Replicas on their way.
    pub moving: usize,
}

/// A data center.
#[derive(Serialize)]
pub struct Dc {
    /// Its name.
    pub dc: String,
    /// Its region.
    pub region: String,
    /// Its nodes.
    pub nodes: usize,
    /// Those that answer.
    pub alive: usize,
    /// Those that drain.
    pub draining: usize,
    /// Shards that it leads.
    pub leads: usize,
    /// The same, percent of all that are led.
    pub leads_pct: f64,
    /// What its loss would mean; none while the cluster forms.
    pub lose: Option<Lose>,
    /// How full its fullest disk is.
    pub disk_used_pct: Option<f64>,
    /// By how much its worst clock is off.
    pub clock_off_ms: i64,
}

/// How one node feels another one.
#[derive(Serialize)]
pub struct Link {
    /// Who feels it.
    pub from: String,
    /// Whom.
    pub to: String,
    /// up, new, doubted, silent, reset.
    pub state: String,
    /// It is up.
    pub up: bool,
    /// A round, as it usually is.
    pub round_ms: Option<f64>,
    /// Nothing has come for so long.
    pub silent_ms: f64,
    /// The silence after which it is given up.
    pub limit_ms: f64,
}

impl Now {
    /// Of what this node saw.
    pub(super) async fn of(api: &Api, look: &Look) -> Now {
        let losses = api.losses.of(api, look).await;
        let told = Now::told(api.seen_by(look), api.local().version, look, &losses);
        Now {
            recent: api.recent.of(api, look).await,
            drill: Drilling::of(api),
            lever: lever(api),
            ..told
        }
    }

    /// Of what was seen, and what the loss of each data center would mean.
    pub fn told(
        seen_by: SeenBy,
        version: &'static str,
        look: &Look,
        losses: &BTreeMap<String, Lose>,
    ) -> Now {
        let view = View::of(&look.reports);
        let judged = Judged::view(&view);
        Now {
            seen_by,
            version,
            forming: view.map_epoch == 0,
            verdict: judged.verdict,
            sentence: judged.sentence,
            problems: judged.problems,
            figures: figures(&view),
            shards: shards(look, &view),
            dcs: dcs(&view, losses),
            links: links(look),
            recent: Vec::new(),
            drill: None,
            lever: None,
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

fn dcs(view: &View, losses: &BTreeMap<String, Lose>) -> Vec<Dc> {
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
