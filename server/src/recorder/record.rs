//! An event as a record, and a record in words.

use std::collections::BTreeMap;

use proto::v1;
use proto::v1::record::What;
use raft::Event as Raft;

use super::seconds::micros;
use crate::events::Event;

/// The record of an event; `None` for those that are added up by the second ([`super::seconds`]).
pub fn of(event: &Event) -> Option<What> {
    Some(match event {
        Event::Raft(event) => return of_raft(event),
        Event::Asked { .. } => return None,
        // Told with its name: [`super::Recorder::named`].
        Event::Started { .. } => return None,
        Event::Stopping => What::Stop(v1::StopRecord::default()),
        Event::Stopped => What::Stop(v1::StopRecord {
            done: true,
            ..v1::StopRecord::default()
        }),
        Event::Died { why } => What::Stop(v1::StopRecord {
            done: true,
            died: why.clone(),
        }),
        Event::Room { room, free } => What::Room(v1::RoomRecord {
            step: u32::from(room.step()),
            free: *free,
        }),
        Event::Fault {
            drill,
            id,
            what,
            ended,
        } => What::Fault(v1::FaultRecord {
            drill: drill.clone(),
            id: id.clone(),
            what: what.clone(),
            begins: ended.is_none(),
            why: ended.clone().unwrap_or_default(),
        }),
        Event::Refusing {
            reason,
            begins,
            count,
        } => What::Refusal(v1::RefusalRecord {
            reason: (*reason).to_owned(),
            begins: *begins,
            count: *count,
        }),
    })
}

fn replica(shard: u32, what: &str, why: &str, incarnation: u64) -> What {
    What::Replica(v1::ReplicaRecord {
        shard,
        what: what.to_owned(),
        why: why.to_owned(),
        incarnation,
    })
}

fn of_raft(event: &Raft) -> Option<What> {
    let id = |node: &Option<model::id::NodeId>| node.map_or(0, |node| node.0);
    Some(match event {
        Raft::Decided { .. } | Raft::ReadRounds { .. } => return None,
        Raft::ReplicaOpened { shard, incarnation } => replica(shard.0, "opened", "", *incarnation),
        Raft::ReplicaClosed { shard } => replica(shard.0, "closed", "", 0),
        Raft::ReplicaBroken { shard, why } => replica(shard.0, "broken", why, 0),
        Raft::ReplicaRebuilt { shard } => replica(shard.0, "rebuilt", "", 0),
        Raft::Voted {
            shard,
            term,
            candidate,
        } => What::Vote(v1::VoteRecord {
            shard: shard.0,
            term: *term,
            candidate: candidate.0,
        }),
        Raft::Led {
            shard,
            term,
            leader,
            own,
        } => What::Led(v1::LedRecord {
            shard: shard.0,
            term: *term,
            leader: leader.0,
            own: *own,
        }),
        Raft::Leaderless { shard, term } => What::Led(v1::LedRecord {
            shard: shard.0,
            term: *term,
            ..v1::LedRecord::default()
        }),
        Raft::ElectionBegan { shard, old, cause } => What::Election(v1::ElectionRecord {
            shard: shard.0,
            old: id(old),
            cause: cause.name().to_owned(),
            begins: true,
            ..v1::ElectionRecord::default()
        }),
        Raft::ElectionEnded {
            shard,
            old,
            cause,
            took,
            won,
        } => What::Election(v1::ElectionRecord {
            shard: shard.0,
            old: id(old),
            cause: cause.name().to_owned(),
            begins: false,
            took_us: micros(*took),
            won: id(won),
        }),
        Raft::HandedOver {
            shard,
            cause,
            took,
            to,
        } => What::HandOver(v1::HandOverRecord {
            shard: shard.0,
            cause: cause.name().to_owned(),
            took_us: micros(*took),
            to: id(to),
        }),
        Raft::Verdict {
            peer,
            verdict,
            round,
            limit,
        } => What::Verdict(v1::VerdictRecord {
            peer: peer.0,
            verdict: verdict.name().to_owned(),
            round_us: micros(*round),
            limit_ms: micros(*limit) / 1_000,
        }),
        Raft::DiskStalled { node, stalled } => What::Stall(v1::StallRecord {
            node_id: node.0,
            stalled: *stalled,
        }),
        Raft::ClockOff { node, off_ms } => What::Clock(v1::ClockRecord {
            node_id: node.0,
            off: off_ms.is_some(),
            off_ms: off_ms.unwrap_or(0),
        }),
        Raft::Suspended { lasted } => What::Stood(v1::StoodRecord {
            lasted_ms: micros(*lasted) / 1_000,
            suspended: true,
        }),
        Raft::Move {
            shard,
            from,
            to,
            step,
        } => What::Move(v1::MoveRecord {
            shard: shard.0,
            from: from.0,
            to: to.0,
            step: step.name().to_owned(),
        }),
        Raft::Drain { step } => What::Drain(v1::DrainRecord {
            step: step.name().to_owned(),
        }),
        Raft::SnapshotSent { shard, to, took } => What::Snapshot(v1::SnapshotRecord {
            shard: shard.0,
            peer: to.0,
            sent: true,
            took_us: micros(*took),
            index: 0,
        }),
        Raft::SnapshotInstalled { shard, index } => What::Snapshot(v1::SnapshotRecord {
            shard: shard.0,
            index: *index,
            ..v1::SnapshotRecord::default()
        }),
        Raft::Quorum { shard, lost } => What::Quorum(v1::QuorumRecord {
            shard: shard.0,
            lost: *lost,
        }),
    })
}

/// The kinds of records, what each says, and what it is good for: the table in docs/operating.md.
pub const KINDS: &[(&str, &str)] = &[
    ("started", "the node starts: its version, number and name"),
    (
        "stop",
        "it is asked to stop, has stopped, or stops at once, with the reason",
    ),
    (
        "cluster",
        "nodes and where they stand, shards and their replicas, who should lead, the node's timing; at the head of each file and when it changes",
    ),
    (
        "second",
        "by shard that it leads: messages, bytes, entries, failures, p50, p99, longest time to the answer, when the first and last were decided, the longest pause between two; by shard that clients asked it for: answered, failed, times; syncs of the log, their longest, how late tasks ran, rounds for reads, records lost. A second in which nothing was done has none",
    ),
    (
        "links",
        "round trip and limit of silence of each other node; every ten seconds, when they change",
    ),
    (
        "stood",
        "the process or its machine stood still, and for how long",
    ),
    (
        "refusal",
        "it begins to refuse calls, or has not for 10 s: reason, how many",
    ),
    ("room", "the disk has less room than before, or more"),
    (
        "replica",
        "a replica is opened, given up, broken, or rebuilt",
    ),
    ("vote", "a replica has another term or vote on its disk"),
    (
        "led",
        "who leads a shard in which term, or that nobody does, as its replica here knows",
    ),
    (
        "election",
        "a replica begins to look for a new leader: why; or ends: how long it took, who won",
    ),
    (
        "hand_over",
        "it gave a shard away: why, to whom, how long it took",
    ),
    (
        "verdict",
        "another node is up, silent, reset or refused, as its link here says, with round trip and limit",
    ),
    (
        "stall",
        "a node's log waits for its disk, or does not any more",
    ),
    (
        "clock",
        "a node's wall clock is off, and by how much, or right again",
    ),
    (
        "move",
        "a replica's move: begun, learning, changing, ended, cancelled",
    ),
    (
        "drain",
        "the node is to drain, has given away all it leads, or may lead again",
    ),
    ("snapshot", "a snapshot was sent, or installed"),
    (
        "quorum",
        "a majority of a shard's replicas is not heard any more, or again",
    ),
    (
        "fault",
        "a drill puts a fault on the node, or it has ended: which, and why",
    ),
];

/// The kind of a record, as [`KINDS`] has it.
pub fn kind(what: &What) -> &'static str {
    match what {
        What::Started(_) => "started",
        What::Stop(_) => "stop",
        What::Cluster(_) => "cluster",
        What::Second(_) => "second",
        What::Links(_) => "links",
        What::Stood(_) => "stood",
        What::Refusal(_) => "refusal",
        What::Room(_) => "room",
        What::Replica(_) => "replica",
        What::Vote(_) => "vote",
        What::Led(_) => "led",
        What::Election(_) => "election",
        What::HandOver(_) => "hand_over",
        What::Verdict(_) => "verdict",
        What::Stall(_) => "stall",
        What::Clock(_) => "clock",
        What::Move(_) => "move",
        What::Drain(_) => "drain",
        What::Snapshot(_) => "snapshot",
        What::Quorum(_) => "quorum",
        What::Fault(_) => "fault",
    }
}

/// What a record says, for people; `names` are the nodes'. None of those that only count.
pub fn words(what: &What, names: &BTreeMap<u64, String>) -> Option<String> {
    let name = |id: u64| match names.get(&id) {
        Some(name) => name.clone(),
        None => format!("n{id}"),
    };
    let shard = |shard: u32| model::id::ShardId(shard).told();
    let ms = |us: u64| format!("{} ms", us / 1_000);
    Some(match what {
        What::Cluster(_) | What::Second(_) | What::Links(_) | What::Vote(_) => return None,
        What::Started(started) => format!("starts, version {}", started.version),
        What::Stop(stop) if !stop.died.is_empty() => format!("stops at once: {}", stop.died),
        What::Stop(stop) if stop.done => "has stopped".to_owned(),
        What::Stop(_) => "is asked to stop".to_owned(),
        What::Stood(stood) if stood.suspended => {
            format!("its machine was suspended for {} ms", stood.lasted_ms)
        }
        What::Stood(stood) => format!("stood still for {} ms", stood.lasted_ms),
        What::Refusal(r) if r.begins => format!("refuses calls: {}", r.reason),
        What::Refusal(r) => format!("has refused {} calls: {}", r.count, r.reason),
        What::Room(room) if room.step == 0 => "has room on its disk again".to_owned(),
        What::Room(room) => format!("has little room on its disk: {} MiB", room.free >> 20),
        What::Replica(r) if r.why.is_empty() => {
            format!("its replica of {} is {}", shard(r.shard), r.what)
        }
        What::Replica(r) => format!("its replica of {} is {}: {}", shard(r.shard), r.what, r.why),
        What::Led(led) if led.leader == 0 => {
            format!(
                "knows no leader of {} in term {}",
                shard(led.shard),
                led.term
            )
        }
        What::Led(led) if led.own => format!("leads {} in term {}", shard(led.shard), led.term),
        What::Led(led) => format!(
            "hears that {} leads {} in term {}",
            name(led.leader),
            shard(led.shard),
            led.term
        ),
        What::Election(e) if e.begins && e.old == 0 => {
            format!("looks for a leader of {}: {}", shard(e.shard), e.cause)
        }
        What::Election(e) if e.begins => format!(
            "looks for a leader of {} in place of {}: {}",
            shard(e.shard),
            name(e.old),
            e.cause
        ),
        What::Election(e) if e.won == 0 => {
            format!("found no leader of {} in {}", shard(e.shard), ms(e.took_us))
        }
        What::Election(e) => format!(
            "found {} to lead {} after {}",
            name(e.won),
            shard(e.shard),
            ms(e.took_us)
        ),
        What::HandOver(h) if h.to == 0 => {
            format!("could not hand {} over ({})", shard(h.shard), h.cause)
        }
        What::HandOver(h) => format!(
            "handed {} to {} in {} ({})",
            shard(h.shard),
            name(h.to),
            ms(h.took_us),
            h.cause
        ),
        What::Verdict(v) => match v.verdict.as_str() {
            "up" => format!("hears {}", name(v.peer)),
            "silent" => format!("{} is silent for {} ms", name(v.peer), v.limit_ms),
            "reset" => format!("its connection to {} was reset", name(v.peer)),
            _ => format!("{} refuses connections", name(v.peer)),
        },
        What::Stall(s) if s.stalled => format!("the disk of {} does not answer", name(s.node_id)),
        What::Stall(s) => format!("the disk of {} answers again", name(s.node_id)),
        What::Clock(c) if c.off => {
            format!("the clock of {} is {} ms off", name(c.node_id), c.off_ms)
        }
        What::Clock(c) => format!("the clock of {} is right again", name(c.node_id)),
        What::Move(m) => format!(
            "a replica of {} moves from {} to {}: {}",
            shard(m.shard),
            name(m.from),
            name(m.to),
            m.step
        ),
        What::Drain(drain) => format!("drain: {}", drain.step),
        What::Snapshot(s) if s.sent => format!(
            "sent a snapshot of {} to {} in {}",
            shard(s.shard),
            name(s.peer),
            ms(s.took_us)
        ),
        What::Snapshot(s) => format!("installed a snapshot of {}", shard(s.shard)),
        What::Fault(f) if f.begins => format!("drill {} puts a fault on it: {}", f.drill, f.what),
        What::Fault(f) => format!("drill {}'s fault has ended, {}: {}", f.drill, f.why, f.what),
        What::Quorum(q) if q.lost => format!("hears no majority of {}", shard(q.shard)),
        What::Quorum(q) => format!("hears a majority of {} again", shard(q.shard)),
    })
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn the_table_in_the_docs_is_this_one() {
        let page = include_str!("../../../docs/operating.md");
        let mut table = "| record | what it says |\n|---|---|\n".to_owned();
        for (kind, says) in KINDS {
            table.push_str(&format!("| `{kind}` | {says} |\n"));
        }
        assert!(
            page.contains(&table),
            "docs/operating.md should have\n{table}"
        );
    }

    #[test]
    fn each_kind_of_record_is_in_the_table() {
        let descriptors = prost_types::FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
        let messages = descriptors.file.iter().flat_map(|file| &file.message_type);
        let record = { messages }
            .find(|message| message.name() == "Record")
            .unwrap();
        let of_oneof = record
            .field
            .iter()
            .filter(|field| field.oneof_index.is_some());
        let mut names: Vec<&str> = of_oneof.map(|field| field.name()).collect();
        let mut kinds: Vec<&str> = KINDS.iter().map(|(kind, _)| *kind).collect();
        names.sort_unstable();
        kinds.sort_unstable();
        assert_eq!(names, kinds);
    }
}
