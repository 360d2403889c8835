//! What `firebreak status` shows below its first sentence: the nodes, the shards, what is not restored.

use comfy_table::{Cell, CellAlignment, Color};
use model::id::ShardId;

use super::super::target::{bytes, colour, new_table};
use server::sight::verdict::{Judged, TOLD_MAX, Verdict, span};
use server::sight::view::{Node, Replica, View};

/// Lines about replicas that are not restored; JSON has them all.
const UNRESTORED_SHOWN: usize = 12;

/// How the cluster stands.
pub(super) fn sentence(judged: &Judged) {
    let code = match judged.verdict {
        Verdict::Whole => "32",
        Verdict::Degraded => "33",
        Verdict::NotServing => "31",
    };
    match colour() {
        true => println!("\x1b[1;{code}m{}\x1b[0m", judged.sentence),
        false => println!("{}", judged.sentence),
    }
}

/// Everything that is wrong, where the sentence does not have it all.
pub(super) fn problems(judged: &Judged) {
    if judged.problems.len() <= TOLD_MAX {
        return;
    }
    for problem in &judged.problems {
        let mark = if problem.stops {
            "stops calls"
        } else {
            "degraded"
        };
        println!("{mark}: {}", problem.what);
    }
}

/// The tables below the sentence.
pub(super) fn tables(view: &View) {
    let colours = colour();
    let paint = |text: String, colour: Color| {
        if colours {
            Cell::new(text).fg(colour)
        } else {
            Cell::new(text)
        }
    };
    let mut nodes = new_table(&[
        "node",
        "dc",
        "address",
        "reachable",
        "leads",
        "replicas",
        "disk free",
    ]);
    for node in &view.nodes {
        let reachable = match node.reachable {
            true if node.draining && node.leads > 0 => {
                paint("yes, draining".to_owned(), Color::Yellow)
            }
            true if node.draining => paint("yes, drained".to_owned(), Color::Yellow),
            true => paint("yes".to_owned(), Color::Green),
            false => paint(silent(node), Color::Red),
        };
        let disk = match node.disk_free_bytes {
            Some(free) if node.disk_reserve_reached => {
                paint(format!("{} (reserve reached)", bytes(free)), Color::Red)
            }
            Some(free) => Cell::new(bytes(free)),
            None => Cell::new("?"),
        };
        nodes.add_row(vec![
            Cell::new(&node.name),
            Cell::new(&node.dc),
            Cell::new(&node.address),
            reachable,
            Cell::new(node.leads).set_alignment(CellAlignment::Right),
            Cell::new(node.replicas).set_alignment(CellAlignment::Right),
            disk.set_alignment(CellAlignment::Right),
        ]);
    }
    println!("{nodes}");
    for node in &view.nodes {
        for line in server::sight::resources::lines(&node.name, &node.resources) {
            println!("{line}");
        }
    }
    if view.map_epoch == 0 {
        return;
    }
    let mut shards = new_table(&[
        "shard",
        "slots",
        "leader",
        "dc",
        "term",
        "replicas (entries behind)",
    ]);
    for shard in &view.shards {
        let leader = match &shard.leader {
            Some(leader) => Cell::new(leader),
            None => paint("none".to_owned(), Color::Red),
        };
        let meta = shard.shard == 0;
        let troubled = shard
            .replicas
            .iter()
            .any(|one| one.lag.is_none() || one.broken_reason.is_some());
        let replicas: Vec<String> = shard.replicas.iter().map(describe).collect();
        let replicas = replicas.join(", ");
        shards.add_row(vec![
            Cell::new(if meta {
                "meta".to_owned()
            } else {
                shard.shard.to_string()
            })
            .set_alignment(CellAlignment::Right),
            Cell::new(if meta {
                String::new()
            } else {
                format!("{}–{}", shard.slot_first, shard.slot_last)
            }),
            leader,
            Cell::new(shard.leader_dc.as_deref().unwrap_or("")),
            Cell::new(shard.term).set_alignment(CellAlignment::Right),
            if troubled {
                paint(replicas, Color::Yellow)
            } else {
                Cell::new(replicas)
            },
        ]);
    }
    println!("{shards}");
    for one in view.unrestored.iter().take(UNRESTORED_SHOWN) {
        println!("{} is not restored: {}", ShardId(one.shard).told(), one.why);
    }
    if view.unrestored.len() > UNRESTORED_SHOWN {
        let more = view.unrestored.len() - UNRESTORED_SHOWN;
        println!("and {more} more; `--json` shows all");
    }
}

/// Of a node that does not answer.
fn silent(node: &Node) -> String {
    match node.gone_ms {
        None | Some(0) => "no".to_owned(),
        Some(ms) => format!("no, for {}", span(ms)),
    }
}

fn describe(replica: &Replica) -> String {
    if let Some(reason) = &replica.broken_reason {
        return format!("{} broken: {reason}", replica.node);
    }
    match (replica.lag, replica.state.as_str()) {
        (Some(_), "leader") => replica.node.clone(),
        (Some(lag), "follower") => format!("{} {lag}", replica.node),
        (Some(lag), state) => format!("{} {lag} ({state})", replica.node),
        (None, state) => format!("{} ({state})", replica.node),
    }
}
