//! What is wrong, looked for in a view.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::kind::Kind;
use super::words::{are, list, shard_name, span};
use super::{Problem, bear, has_quorum, is_up, stop};
use crate::sight::view::{Node, Replica, Shard, View};

pub(super) fn forming(view: &View) -> Vec<Problem> {
    let (joined, expected) = (view.nodes.len(), view.nodes_expected);
    let what = match joined < expected as usize {
        true => format!("the cluster is forming: {joined} of {expected} nodes have joined"),
        false => format!(
            "the cluster is forming: {joined} nodes have joined, its shards are being laid out"
        ),
    };
    let whys = view
        .unrestored
        .iter()
        .map(|one| stop(Kind::Forming, one.why.clone()));
    std::iter::once(stop(Kind::Forming, what))
        .chain(whys)
        .collect()
}

/// Shards that nobody leads, those without a quorum apart.
pub(super) fn not_led(view: &View) -> Vec<Problem> {
    let dark = view.shards.iter().filter(|shard| shard.leader.is_none());
    let (electing, lost): (Vec<&Shard>, Vec<&Shard>) = dark.partition(|shard| has_quorum(shard));
    let mut problems = Vec::new();
    for (kind, shards, why) in [
        (Kind::NoQuorum, lost, "no quorum of their replicas answers"),
        (
            Kind::NoLeader,
            electing,
            "nobody leads them; an election takes about a second",
        ),
    ] {
        if !shards.is_empty() {
            let names: Vec<String> = shards.iter().map(|shard| shard_name(shard)).collect();
            let (of, all) = (shards.len(), view.shards.len());
            problems.push(stop(
                kind,
                format!(
                    "{of} of {all} shards are not served ({}): {why}",
                    list(&names)
                ),
            ));
        }
    }
    problems
}

/// Disks that are filled up to their reserve: appends are refused where no other node can lead, or no
/// quorum has room.
pub(super) fn full_disks(view: &View) -> Vec<Problem> {
    let full: BTreeSet<&str> = view
        .nodes
        .iter()
        .filter(|node| node.disk_reserve_reached)
        .map(|node| node.name.as_str())
        .collect();
    if full.is_empty() {
        return Vec::new();
    }
    let refuses = |shard: &&Shard| {
        let mut up = shard
            .replicas
            .iter()
            .filter(|replica| is_up(replica))
            .peekable();
        let is_full = |replica: &Replica| full.contains(replica.node.as_str());
        let all_up = up.peek().is_some() && up.all(&is_full);
        let roomy = shard.replicas.iter().filter(|replica| !is_full(replica));
        all_up || roomy.count() * 2 <= shard.replicas.len()
    };
    // The meta shard takes changes of the map, whose room is kept.
    let data = || view.shards.iter().filter(|shard| shard.shard != 0);
    let refusing: Vec<String> = data().filter(refuses).map(shard_name).collect();
    let names: Vec<&str> = full.iter().copied().collect();
    let disks = match names.len() {
        1 => format!("the disk of {} is full up to its reserve", names[0]),
        _ => format!("the disks of {} are full up to their reserve", list(&names)),
    };
    let of = data().count();
    vec![match refusing.len() {
        0 => bear(
            Kind::DiskFull,
            format!("{disks}: others lead what it would"),
        ),
        some if some == of => stop(
            Kind::DiskFull,
            format!("{disks}: every append is refused (DISK_FULL), reads are answered"),
        ),
        _ => stop(
            Kind::DiskFull,
            format!(
                "{disks}: appends to shards {} are refused (DISK_FULL), reads are answered",
                list(&refusing)
            ),
        ),
    }]
}

/// Nodes that do not answer; a data center of which all are silent is named instead of them.
pub(super) fn silent_nodes(view: &View) -> Vec<Problem> {
    let (whole_dcs, others) = by_dc(view, |node| !node.reachable);
    let dcs = whole_dcs.iter().map(|(dc, nodes)| {
        let since = nodes.iter().filter_map(|node| node.gone_ms).min();
        gone(&format!("all of data center {dc}"), since)
    });
    let others = others.iter().map(|node| gone(&node.name, node.gone_ms));
    let names: Vec<String> = dcs.chain(others).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let dark = view.nodes.iter().filter(|node| !node.reachable).count();
    let what = format!(
        "{dark} of {} nodes {} not answer: {}",
        view.nodes.len(),
        if dark == 1 { "does" } else { "do" },
        list(&names)
    );
    let missed = |shard: &Shard| {
        let mut replicas = shard.replicas.iter();
        !has_quorum(shard) && replicas.any(|replica| replica.state == "unreachable")
    };
    match view.shards.iter().any(missed) {
        true => vec![Problem {
            why: "shards have no quorum without them: enough of them must come back",
            ..stop(Kind::NodeSilent, what)
        }],
        false => vec![bear(Kind::NodeSilent, what)],
    }
}

/// Data centers of more than one node of which all are such, with these, and the other such nodes.
pub(super) fn by_dc(
    view: &View,
    such: impl Fn(&Node) -> bool,
) -> (Vec<(&str, Vec<&Node>)>, Vec<&Node>) {
    let mut dcs: BTreeMap<&str, Vec<&Node>> = BTreeMap::new();
    for node in &view.nodes {
        dcs.entry(&node.dc).or_default().push(node);
    }
    let (mut whole, mut others) = (Vec::new(), Vec::new());
    for (dc, nodes) in dcs {
        match nodes.len() > 1 && nodes.iter().all(|node| such(node)) {
            true => whole.push((dc, nodes)),
            false => others.extend(nodes.into_iter().filter(|node| such(node))),
        }
    }
    (whole, others)
}

fn gone(what: &str, ms: Option<u64>) -> String {
    match ms {
        None | Some(0) => what.to_owned(),
        Some(ms) => format!("{what} (gone for {})", span(ms)),
    }
}

pub(super) fn broken(view: &View) -> Vec<Problem> {
    let replicas = view.shards.iter().flat_map(|shard| {
        let broken = shard
            .replicas
            .iter()
            .filter(|one| one.broken_reason.is_some());
        broken.map(move |one| format!("shard {} on {}", shard_name(shard), one.node))
    });
    let replicas: Vec<String> = replicas.collect();
    match replicas.is_empty() {
        true => Vec::new(),
        false => vec![bear(
            Kind::Broken,
            format!(
                "{} broken and stopped: {}",
                are(replicas.len(), "replica"),
                list(&replicas)
            ),
        )],
    }
}

/// Replicas that are not where or as they should be, besides those of nodes that do not answer and
/// those that are broken, which are told already.
pub(super) fn not_restored(view: &View) -> Vec<Problem> {
    let silent = |name: &str| view.nodes.iter().any(|n| n.name == name && !n.reachable);
    let missing = view.shards.iter().flat_map(|shard| {
        let missing = shard.replicas.iter().filter(|one| one.state == "missing");
        missing.map(|one| (shard.shard, one.node.as_str()))
    });
    let unrestored = view.unrestored.iter();
    let unrestored = unrestored.map(|one| (one.shard, one.node.as_str()));
    let broken = |shard: u32, node: &str| {
        let shard = view.shards.iter().find(|one| one.shard == shard);
        shard.is_some_and(|shard| {
            let mut replicas = shard.replicas.iter();
            replicas.any(|one| one.node == node && one.broken_reason.is_some())
        })
    };
    let replicas: BTreeSet<(u32, &str)> = missing
        .chain(unrestored)
        .filter(|(shard, node)| !silent(node) && !broken(*shard, node))
        .collect();
    let names: Vec<String> = replicas
        .iter()
        .map(|(shard, node)| match shard {
            0 => format!("meta on {node}"),
            shard => format!("{shard} on {node}"),
        })
        .collect();
    match names.is_empty() {
        true => Vec::new(),
        false => vec![bear(
            Kind::Misplaced,
            format!(
                "{} not where or as they should be: {}",
                are(names.len(), "replica"),
                list(&names)
            ),
        )],
    }
}

/// Nodes whose clock is off.
pub(super) fn clocks_off(view: &View) -> Vec<Problem> {
    let off = view.nodes.iter().filter(|node| node.clock_off_ms != 0);
    off.map(|node| bear(Kind::ClockOff, clock_off(&node.name, node.clock_off_ms)))
        .collect()
}

/// Says whose clock is off, and what that means.
pub fn clock_off(node: &str, off_ms: i64) -> String {
    let way = if off_ms < 0 { "behind" } else { "ahead of" };
    let off = Duration::from_millis(off_ms.unsigned_abs());
    let off = match off.as_secs() {
        0..10 => off,
        // Whole seconds say enough.
        s => Duration::from_secs(s),
    };
    let off = humantime::format_duration(off);
    format!(
        "the clock of {node} is {off} {way} the others': it leads nothing until it is set right"
    )
}
