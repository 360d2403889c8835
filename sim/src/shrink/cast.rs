//! Fewer nodes, client sites and shards.

use super::events::without_host;
use super::{Smaller, changed};
use crate::plan::Plan;

/// With one node to a data center, or with one less in one of them.
pub(super) fn nodes(plan: &Plan) -> Vec<Smaller> {
    let keep = |plan: &mut Plan, only: Option<usize>, count: &dyn Fn(usize) -> usize| {
        let mut gone = Vec::new();
        for (at, dc) in plan.topology.dcs.iter_mut().enumerate() {
            if only.is_none_or(|only| only == at) {
                let left = count(dc.nodes.len()).max(1).min(dc.nodes.len());
                gone.extend(dc.nodes.drain(left..).map(|node| node.name));
            }
        }
        for host in gone {
            without_host(&mut plan.events, &host);
        }
    };
    let mut smaller = Vec::new();
    smaller.extend(changed(plan, "all nodes but the first of each", |plan| {
        keep(plan, None, &|_| 1);
    }));
    for (at, dc) in plan.topology.dcs.iter().enumerate() {
        let what = format!("a node of {}", dc.name);
        smaller.extend(changed(plan, &what, |plan| {
            keep(plan, Some(at), &|count| count.saturating_sub(1));
        }));
    }
    smaller
}

/// Without a client site.
pub(super) fn sites(plan: &Plan) -> Vec<Smaller> {
    if plan.workload.sites.len() < 2 {
        return Vec::new();
    }
    let sites = plan.workload.sites.iter();
    let without = sites.filter_map(|site| {
        changed(plan, &format!("the site {}", site.name), |plan| {
            plan.workload.sites.retain(|other| other.name != site.name);
            without_host(&mut plan.events, &site.name);
        })
    });
    without.collect()
}

/// With fewer shards.
pub(super) fn shards(plan: &Plan) -> Vec<Smaller> {
    let shards = plan.topology.shards;
    // 0 lets the product choose, which is more than one.
    let fewer = [1, shards / 2, shards.saturating_sub(1)].map(|fewer| fewer.max(1));
    let fewer = fewer
        .into_iter()
        .filter(|fewer| shards == 0 || *fewer < shards);
    let with =
        fewer.filter_map(|fewer| changed(plan, "shards", |plan| plan.topology.shards = fewer));
    with.collect()
}
