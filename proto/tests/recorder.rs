//! A record of each kind, as the first version wrote it: files of a recorder and recorded nights outlive the
//! version that wrote them. The lines of `golden/recorder.txt` are never changed;
//! `GOLDEN_WRITE=1 cargo test --release -p firebreak-proto --test recorder` adds those that are missing.

#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::collections::BTreeMap;
use std::path::Path;

use firebreak_proto::v1::record::What;
use firebreak_proto::v1::*;
use prost::Message as _;

fn second() -> SecondRecord {
    SecondRecord {
        shards: vec![ShardSecond {
            shard: 1,
            messages: 2,
            bytes: 3,
            entries: 4,
            failed: 5,
            p50_us: 6,
            p99_us: 7,
            max_us: 8,
            first_ms: 9,
            last_ms: 10,
            gap_ms: 11,
        }],
        asked: vec![AskedSecond {
            shard: 1,
            answered: 2,
            failed: 3,
            p50_us: 4,
            p99_us: 5,
            max_us: 6,
            reason: "NO_QUORUM".into(),
        }],
        syncs: 1,
        sync_max_us: 2,
        lateness_us: 3,
        read_rounds: 4,
        dropped: 5,
    }
}

fn cluster() -> ClusterRecord {
    ClusterRecord {
        cluster_id: "c1".into(),
        epoch: 2,
        nodes: vec![RecordedNode {
            node_id: 1,
            name: "seoul-1".into(),
            region: "kr".into(),
            dc: "seoul".into(),
            rack: "r1".into(),
        }],
        shards: vec![RecordedShard {
            shard: 1,
            replicas: vec![1, 2],
            prefer: vec!["seoul".into()],
        }],
        tuning: Some(RecordedTuning {
            heartbeat_ms: 1,
            election_min_ms: 2,
            election_max_ms: 3,
            read_lease_ms: 4,
            replace_after_ms: 5,
        }),
    }
}

fn samples() -> Vec<(&'static str, What)> {
    let text = |text: &str| text.to_owned();
    vec![
        (
            "started",
            What::Started(StartedRecord {
                version: text("1"),
                node_id: 2,
                name: text("a"),
            }),
        ),
        (
            "stop",
            What::Stop(StopRecord {
                done: true,
                died: text("fsync"),
            }),
        ),
        ("cluster", What::Cluster(cluster())),
        ("second", What::Second(second())),
        (
            "links",
            What::Links(LinksRecord {
                links: vec![RecordedLink {
                    peer: 1,
                    up: true,
                    round_us: 2,
                    limit_ms: 3,
                }],
            }),
        ),
        (
            "stood",
            What::Stood(StoodRecord {
                lasted_ms: 1,
                suspended: true,
            }),
        ),
        (
            "refusal",
            What::Refusal(RefusalRecord {
                reason: text("OVERLOAD"),
                begins: true,
                count: 2,
            }),
        ),
        ("room", What::Room(RoomRecord { step: 1, free: 2 })),
        (
            "replica",
            What::Replica(ReplicaRecord {
                shard: 1,
                what: text("broken"),
                why: text("rot"),
                incarnation: 2,
            }),
        ),
        (
            "vote",
            What::Vote(VoteRecord {
                shard: 1,
                term: 2,
                candidate: 3,
            }),
        ),
        (
            "led",
            What::Led(LedRecord {
                shard: 1,
                term: 2,
                leader: 3,
                own: true,
            }),
        ),
        (
            "election",
            What::Election(ElectionRecord {
                shard: 1,
                old: 2,
                cause: text("silent"),
                begins: true,
                took_us: 3,
                won: 4,
            }),
        ),
        (
            "hand_over",
            What::HandOver(HandOverRecord {
                shard: 1,
                cause: text("drain"),
                took_us: 2,
                to: 3,
            }),
        ),
        (
            "verdict",
            What::Verdict(VerdictRecord {
                peer: 1,
                verdict: text("silent"),
                round_us: 2,
                limit_ms: 3,
            }),
        ),
        (
            "stall",
            What::Stall(StallRecord {
                node_id: 1,
                stalled: true,
            }),
        ),
        (
            "clock",
            What::Clock(ClockRecord {
                node_id: 1,
                off: true,
                off_ms: -2,
            }),
        ),
        (
            "move",
            What::Move(MoveRecord {
                shard: 1,
                from: 2,
                to: 3,
                step: text("begun"),
            }),
        ),
        (
            "drain",
            What::Drain(DrainRecord {
                step: text("begun"),
            }),
        ),
        (
            "snapshot",
            What::Snapshot(SnapshotRecord {
                shard: 1,
                peer: 2,
                sent: true,
                took_us: 3,
                index: 4,
            }),
        ),
        (
            "quorum",
            What::Quorum(QuorumRecord {
                shard: 1,
                lost: true,
            }),
        ),
        (
            "fault",
            What::Fault(FaultRecord {
                drill: text("d"),
                id: text("f"),
                what: text("silence"),
                begins: true,
                why: text("over"),
            }),
        ),
    ]
}

#[test]
fn every_record_is_written_and_read_as_by_the_first_version() {
    let path = Path::new("tests/golden/recorder.txt");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    let mut known: BTreeMap<&str, String> =
        lines.map(|(name, hex)| (name, hex.to_owned())).collect();
    let samples = samples();
    let mut written = Vec::new();
    for (name, what) in &samples {
        let record = Record {
            unix_ms: 1_796_000_000_000,
            ahead_ms: -3,
            agreed: true,
            boot: 4,
            run_us: 5,
            what: Some(what.clone()),
        };
        let bytes = record.encode_to_vec();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        written.push(format!("{name} {hex}\n"));
        if std::env::var_os("GOLDEN_WRITE").is_none() {
            let line = known.remove(name).unwrap_or_default();
            assert_eq!(hex, line, "{name} is written differently");
        }
        assert_eq!(Record::decode(&bytes[..]).unwrap(), record, "{name}");
    }
    if std::env::var_os("GOLDEN_WRITE").is_some() {
        std::fs::write(path, written.concat()).unwrap();
    }
    assert!(
        std::env::var_os("GOLDEN_WRITE").is_some() || known.is_empty(),
        "{known:?}"
    );
}
