//! Every metric, with what it reads.

use std::time::Duration;

use raft::Room;

use super::seen::{NodeSnapshot, ProcessFigures};
use super::{Kind, Metric, Number, Samples};
use crate::sight::traffic::{LEVELS, Outcome, Outcomes, Tenant, Way};

/// States of replicas that are always told, so that a rule finds a zero instead of nothing.
const STATES: [&str; 7] = [
    "leader",
    "unconfirmed",
    "follower",
    "learner",
    "candidate",
    "broken",
    "stopped",
];
/// States of links.
const LINK_STATES: [&str; 5] = ["up", "new", "doubted", "silent", "reset"];

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&NodeSnapshot<'_>, &mut Samples),
) -> Metric {
    Metric {
        name,
        kind: Kind::Counter,
        unit: None,
        labels,
        help,
        read,
    }
}

const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&NodeSnapshot<'_>, &mut Samples),
) -> Metric {
    Metric {
        kind: Kind::Gauge,
        ..counter(name, labels, help, read)
    }
}

const fn durations(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&NodeSnapshot<'_>, &mut Samples),
) -> Metric {
    Metric {
        kind: Kind::Histogram,
        unit: Some("seconds"),
        ..counter(name, labels, help, read)
    }
}

const fn seconds(metric: Metric) -> Metric {
    Metric {
        unit: Some("seconds"),
        ..metric
    }
}

const fn bytes(metric: Metric) -> Metric {
    Metric {
        unit: Some("bytes"),
        ..metric
    }
}

/// All there are, in the order in which they are told.
pub const METRICS: &[Metric] = &[
    // Who it is.
    gauge(
        "node_info",
        &["node", "dc", "region", "version"],
        "Always 1; its labels say which node this is",
        |seen, to| {
            let me = seen.local.gateway.me();
            let node = seen.view.node(me);
            let region = node.and_then(|node| node.locality.as_ref());
            let region = region.map_or("", |place| &place.region);
            let (name, dc) = seen.name(me);
            to.of([&name, &dc, region, seen.local.version], 1_u64);
        },
    ),
    seconds(gauge(
        "uptime",
        &[],
        "Since the node's start",
        |seen, to| {
            to.one(seen.admin.started.elapsed());
        },
    )),
    gauge(
        "draining",
        &[],
        "1 while the node is drained or stops: clients should go elsewhere",
        |seen, to| to.one(seen.local.gateway.sends_away()),
    ),
    seconds(gauge(
        "clock_offset",
        &["node"],
        "By how much a node's wall clock is ahead of what most clocks say, as seen from here; 0 when right",
        |seen, to| {
            for node in &seen.view.nodes {
                let off = seen
                    .local
                    .gateway
                    .raft
                    .clock_off_ms(model::id::NodeId(node.id));
                #[allow(
                    clippy::cast_precision_loss,
                    reason = "an offset of clocks, in seconds"
                )]
                let off = off.unwrap_or(0) as f64 / 1e3;
                to.of([&node.name], off);
            }
        },
    )),
    // What callers ask.
    counter(
        "append_messages",
        &["tenant", "outcome"],
        "Messages that callers had appended through this node, by how that ended",
        |seen, to| by_tenant(seen, to, |tenant| &tenant.appends),
    ),
    durations(
        "append_duration",
        &["way"],
        "What appends took, as this node's callers waited; those that were wrong are not counted",
        |seen, to| {
            for way in Way::ALL {
                to.durations(
                    [way.name()],
                    seen.local.gateway.traffic.append_durations(way),
                );
            }
        },
    ),
    counter(
        "reads",
        &["tenant", "outcome"],
        "Reads that callers asked of this node, by how they ended",
        |seen, to| by_tenant(seen, to, |tenant| &tenant.reads),
    ),
    counter(
        "reads_by_level",
        &["level", "outcome"],
        "The same reads by read level",
        |seen, to| {
            for (place, level) in LEVELS.iter().enumerate() {
                let (_, outcomes) = seen.local.gateway.traffic.reads(place);
                by_outcome(outcomes, |outcome, count| to.of([level, outcome], count));
            }
        },
    ),
    durations(
        "read_duration",
        &["level"],
        "What reads took, as this node's callers waited",
        |seen, to| {
            for (place, level) in LEVELS.iter().enumerate() {
                to.durations([level], seen.local.gateway.traffic.reads(place).0);
            }
        },
    ),
    counter(
        "tails_opened",
        &["tenant", "outcome"],
        "Tails that callers opened, or tried to",
        |seen, to| by_tenant(seen, to, |tenant| &tenant.tails),
    ),
    gauge("tails", &[], "Tails that are open", |seen, to| {
        to.one(seen.local.gateway.traffic.tails_open());
    }),
    counter(
        "refusals",
        &["reason"],
        "Calls and items that were answered with an error, by its published reason",
        |seen, to| {
            for (reason, count) in seen.local.gateway.traffic.refusals() {
                to.of([reason], count);
            }
        },
    ),
    seconds(gauge(
        "longest_gap",
        &[],
        "The longest that an append waited for its answer within the last 5 minutes",
        |seen, to| to.one(seen.local.gateway.traffic.lately().gap),
    )),
    // Whether clients can append here.
    gauge(
        "healthy",
        &[],
        "1 while a client can append through this node, as the canary found last",
        |seen, to| to.one(seen.local.canary.health().why_not.is_none()),
    ),
    counter(
        "canary_appends",
        &["outcome"],
        "Canaries that this node appended, by how that ended",
        |seen, to| {
            let (sent, failed) = seen.local.canary.counts();
            to.of(["ok"], sent.saturating_sub(failed));
            to.of(["failed"], failed);
        },
    ),
    durations(
        "canary_duration",
        &[],
        "What canaries took that were acknowledged",
        |seen, to| to.durations([], seen.local.canary.durations().counted()),
    ),
    // Shards.
    gauge(
        "replicas",
        &["state"],
        "This node's replicas by state; `unconfirmed` is a leader without a quorum",
        |seen, to| {
            for state in STATES {
                let count = seen.replicas.states.get(state).copied().unwrap_or(0);
                to.of([state], count);
            }
        },
    ),
    gauge(
        "replicas_asleep",
        &[],
        "Replicas of this node that nobody uses: they send and expect no heartbeats",
        |seen, to| to.one(seen.replicas.asleep),
    ),
    gauge(
        "shards_without_leader",
        &[],
        "Shards with a replica here whose leader is not known here",
        |seen, to| to.one(seen.replicas.leaderless.len()),
    ),
    gauge(
        "shards_without_quorum",
        &[],
        "Shards with a replica here whose majority has not been heard for 1.5 s",
        |seen, to| to.one(seen.replicas.without_quorum.len()),
    ),
    gauge(
        "shards_at_risk",
        &[],
        "Shards with a replica here that have a quorum now, and would have none without one more data center",
        |seen, to| to.one(seen.at_risk()),
    ),
    gauge(
        "shards",
        &[],
        "Shards of the cluster, the meta shard left out",
        |seen, to| {
            to.one(seen.view.shards.len());
        },
    ),
    gauge(
        "replicas_moving",
        &[],
        "Replicas of the cluster that are on their way to another node",
        |seen, to| to.one(seen.view.moves.len()),
    ),
    gauge(
        "map_epoch",
        &[],
        "The shard map that this node knows",
        |seen, to| {
            to.one(seen.view.epoch);
        },
    ),
    gauge(
        "unapplied_entries",
        &[],
        "The most entries that a replica of this node has committed and not applied",
        |seen, to| to.one(seen.replicas.unapplied_max),
    ),
    gauge(
        "log_entries",
        &[],
        "The most entries that a replica of this node keeps in its log",
        |seen, to| to.one(seen.replicas.log_entries_max),
    ),
    // What happened.
    counter(
        "elections",
        &["cause", "outcome"],
        "Elections that ended here, by why they began and how: another leads (replaced), the old one leads \
         on (kept), nobody leads (nobody)",
        |seen, to| {
            for (cause, outcome, count) in seen.local.happened.elections() {
                to.of([cause, outcome], count);
            }
        },
    ),
    durations(
        "election_duration",
        &[],
        "From when a replica began to look for a leader until one led",
        |seen, to| to.durations([], seen.local.happened.election_durations()),
    ),
    counter(
        "hand_overs",
        &["cause", "outcome"],
        "Shards that this node gave away, or tried to, by why, and whether another took them",
        |seen, to| {
            for (cause, outcome, count) in seen.local.happened.hand_overs() {
                to.of([cause, outcome], count);
            }
        },
    ),
    durations(
        "hand_over_duration",
        &[],
        "What hand-overs took",
        |seen, to| {
            to.durations([], seen.local.happened.hand_over_durations());
        },
    ),
    counter(
        "verdicts",
        &["verdict"],
        "How often this node came to think of another as up, silent, reset or refused",
        |seen, to| {
            for (verdict, count) in seen.local.happened.verdicts() {
                to.of([verdict], count);
            }
        },
    ),
    counter(
        "move_steps",
        &["step"],
        "Steps of moves of replicas that this node carries out or decides",
        |seen, to| {
            for (step, count) in seen.local.happened.moves() {
                to.of([step], count);
            }
        },
    ),
    counter(
        "snapshots",
        &["direction"],
        "Snapshots sent and installed",
        |seen, to| {
            for (direction, count) in seen.local.happened.snapshots() {
                to.of([direction], count);
            }
        },
    ),
    counter(
        "read_rounds",
        &[],
        "Rounds among followers so that reads could be answered",
        |seen, to| to.one(seen.local.happened.read_rounds()),
    ),
    counter(
        "disk_stalls",
        &[],
        "How often a node's log began to wait for its disk, as seen from here",
        |seen, to| to.one(seen.local.happened.stalls()),
    ),
    counter(
        "quorums_lost",
        &[],
        "How often the majority of a shard was not heard any more",
        |seen, to| to.one(seen.local.happened.quorums_lost()),
    ),
    counter(
        "replicas_broken",
        &[],
        "How often a replica of this node broke",
        |seen, to| to.one(seen.local.happened.replicas_broken()),
    ),
    counter(
        "recorder_dropped",
        &[],
        "Records that the flight recorder lost",
        |seen, to| to.one(seen.admin.recorder.dropped()),
    ),
    // Links.
    gauge(
        "link_state",
        &["peer", "dc", "state"],
        "1 for the state of the link to a node, 0 for the others: up, new, doubted, silent or reset",
        |seen, to| {
            for link in &seen.links {
                let (peer, dc) = seen.name(link.node);
                for state in LINK_STATES {
                    to.of([&peer, &dc, state], link.state == state);
                }
            }
        },
    ),
    seconds(gauge(
        "link_round_trip",
        &["peer", "dc"],
        "What a round to a node usually takes; 0 before it was measured",
        |seen, to| {
            for link in &seen.links {
                let (peer, dc) = seen.name(link.node);
                to.of([&peer, &dc], link.round.unwrap_or(Duration::ZERO));
            }
        },
    )),
    seconds(gauge(
        "link_silence",
        &["peer", "dc"],
        "For how long nothing has come from a node",
        |seen, to| {
            for link in &seen.links {
                let (peer, dc) = seen.name(link.node);
                to.of([&peer, &dc], link.silent);
            }
        },
    )),
    seconds(gauge(
        "link_silence_limit",
        &["peer", "dc"],
        "The silence after which a node is given up",
        |seen, to| {
            for link in &seen.links {
                let (peer, dc) = seen.name(link.node);
                to.of([&peer, &dc], link.limit);
            }
        },
    )),
    // The disk.
    durations(
        "fsync_duration",
        &[],
        "What syncs of the log took",
        |seen, to| {
            to.durations([], seen.admin.log.sync_figures().durations.counted());
        },
    ),
    counter(
        "fsync_waiters",
        &[],
        "Appends and votes that waited for a sync; divided by the syncs it is how many share one",
        |seen, to| {
            let figures = seen.admin.log.sync_figures();
            to.one(figures.waited.load(std::sync::atomic::Ordering::Relaxed));
        },
    ),
    gauge(
        "disk_stalled",
        &[],
        "1 while the log waits for its disk for so long that the node gives its leaders away",
        |seen, to| to.one(seen.local.gateway.raft.is_stalled()),
    ),
    bytes(gauge(
        "disk_free",
        &[],
        "What can be written to the disk",
        |seen, to| {
            to.one(seen.disk.space.free);
        },
    )),
    bytes(gauge("disk_size", &[], "The disk in all", |seen, to| {
        to.one(seen.disk.space.total);
    })),
    bytes(gauge(
        "disk_reserve",
        &[],
        "What of the disk is kept free",
        |seen, to| {
            to.one(seen.disk.reserve);
        },
    )),
    gauge(
        "disk_reserve_reached",
        &[],
        "1 while less is free than the reserve: appends are refused with DISK_FULL",
        |seen, to| to.one(seen.disk.room > Room::Enough),
    ),
    bytes(gauge(
        "stored",
        &["database"],
        "What a database takes on the disk, about",
        |seen, to| {
            to.of(["raftdb"], seen.raftdb.stored_bytes);
            to.of(["msgdb"], seen.msgdb.stored_bytes);
        },
    )),
    bytes(counter(
        "database_written",
        &["database"],
        "What was handed to a database",
        |seen, to| {
            to.of(["raftdb"], seen.raftdb.bytes_written);
            to.of(["msgdb"], seen.msgdb.bytes_written);
        },
    )),
    bytes(counter(
        "database_disk_written",
        &["database"],
        "What a database wrote to the disk for it: log, flushes and compactions",
        |seen, to| {
            to.of(["raftdb"], seen.raftdb.bytes_to_disk);
            to.of(["msgdb"], seen.msgdb.bytes_to_disk);
        },
    )),
    bytes(gauge(
        "database_memory",
        &["database"],
        "Memtables and cached blocks of a database",
        |seen, to| {
            to.of(["raftdb"], seen.raftdb.memory_bytes);
            to.of(["msgdb"], seen.msgdb.memory_bytes);
        },
    )),
    counter(
        "messages_applied",
        &[],
        "Messages that this node's replicas have applied, in all shards",
        |seen, to| to.one(seen.admin.state.appended_messages()),
    ),
    // What there is only so much of.
    gauge(
        "resource_used",
        &["resource"],
        "How much of a bounded resource is in use: connections, calls, bytes, descriptors",
        |seen, to| {
            for one in &seen.resources {
                to.of([&one.name], one.used);
            }
        },
    ),
    gauge(
        "resource_limit",
        &["resource"],
        "The bound of it",
        |seen, to| {
            for one in &seen.resources {
                to.of([&one.name], one.max);
            }
        },
    ),
    counter(
        "resource_refused",
        &["resource"],
        "How often it was short",
        |seen, to| {
            for one in &seen.resources {
                to.of([&one.name], one.refused);
            }
        },
    ),
    seconds(gauge(
        "lateness",
        &[],
        "By how much this node's tasks run late: want of processor time",
        |seen, to| to.one(seen.local.gateway.raft.lateness()),
    )),
    seconds(gauge(
        "certificate_expiry",
        &[],
        "Until the node's certificate expires; 0 while it has none",
        |seen, to| process(seen, to, |process| Number::number(process.certificate_s)),
    )),
    // The process.
    seconds(counter(
        "process_cpu",
        &[],
        "Processor time of the process",
        |seen, to| process(seen, to, |process| process.cpu_seconds),
    )),
    bytes(gauge(
        "process_resident_memory",
        &[],
        "Memory of the process",
        |seen, to| process(seen, to, |process| Number::number(process.resident_bytes)),
    )),
    gauge(
        "process_descriptors",
        &[],
        "File descriptors that are open",
        |seen, to| {
            process(seen, to, |process| Number::number(process.descriptors));
        },
    ),
    gauge(
        "process_descriptors_limit",
        &[],
        "File descriptors that may be open",
        |seen, to| process(seen, to, |process| Number::number(process.descriptors_max)),
    ),
    gauge(
        "process_threads",
        &[],
        "Threads of the process",
        |seen, to| {
            process(seen, to, |process| Number::number(process.threads));
        },
    ),
    gauge(
        "runtime_workers",
        &[],
        "Threads of the async runtime",
        |seen, to| {
            process(seen, to, |process| Number::number(process.runtime_workers));
        },
    ),
    gauge(
        "runtime_tasks",
        &[],
        "Tasks of the async runtime that have not ended",
        |seen, to| process(seen, to, |process| Number::number(process.runtime_tasks)),
    ),
    gauge(
        "runtime_queued_tasks",
        &[],
        "Tasks that wait for a thread of the async runtime",
        |seen, to| process(seen, to, |process| Number::number(process.runtime_queued)),
    ),
    seconds(counter(
        "runtime_busy",
        &[],
        "For how long the threads of the async runtime have worked, all together",
        |seen, to| process(seen, to, |process| process.runtime_busy_seconds),
    )),
    counter(
        "log_lines_lost",
        &[],
        "Log lines that could not be written",
        |seen, to| {
            process(seen, to, |process| Number::number(process.log_lines_lost));
        },
    ),
];

fn by_tenant(seen: &NodeSnapshot<'_>, to: &mut Samples, of: fn(&Tenant) -> &Outcomes) {
    for tenant in seen.local.gateway.traffic.tenants() {
        by_outcome(of(&tenant), |outcome, count| {
            to.of([&tenant.name, outcome], count);
        });
    }
}

fn by_outcome(outcomes: &Outcomes, mut tell: impl FnMut(&str, u64)) {
    for outcome in Outcome::ALL {
        tell(outcome.name(), outcomes.get(outcome));
    }
}

fn process(seen: &NodeSnapshot<'_>, to: &mut Samples, of: impl Fn(&ProcessFigures) -> f64) {
    if let Some(process) = &seen.process {
        to.one(of(process));
    }
}
