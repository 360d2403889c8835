//! Outcomes as runs leave them, for tests of the reports and for people to look at.

use std::collections::BTreeMap;

use firebreak_sim::dice::dice;
use firebreak_sim::outcome::{Broken, Goal, Judged, Led, Mark, Outcome, Promise, Second, Verdict};
use firebreak_sim::plan::{
    Dc, DiskKind, Event, Expect, FORMAT, Fault, Link, NodeSpec, Plan, Readers, Site, Tier,
    Topology, Workload,
};
use rand::Rng as _;

const DCS: [&str; 3] = ["seoul", "busan", "tokyo"];

fn link(ms: u64) -> Link {
    Link {
        latency_us: (ms * 1_000, ms * 1_200),
        jitter_us: 400,
        loss_ppm: 0,
        bandwidth_bytes: 0,
    }
}

/// Three data centers of `nodes` each, a minute of load.
pub fn plan(scenario: &str, nodes: u32, shards: u32) -> Plan {
    let dc = |name: &&str| Dc {
        name: (*name).to_owned(),
        region: if *name == "tokyo" { "japan" } else { "korea" }.to_owned(),
        building: (*name).to_owned(),
        nodes: (1..=nodes)
            .map(|n| NodeSpec {
                name: format!("{name}-{n}"),
                rack: format!("r{n}"),
                joins_at_ms: None,
                read_lease_ms: None,
            })
            .collect(),
    };
    let site = |name: &&str| Site {
        name: format!("client-{name}"),
        dc: (*name).to_owned(),
        inside: false,
    };
    Plan {
        format: FORMAT,
        scenario: scenario.to_owned(),
        about: "A data center falls silent under load and stays away.".to_owned(),
        seed: 7,
        tier: Tier::Grpc,
        disk: DiskKind::Memory,
        control: false,
        topology: Topology {
            dcs: DCS.iter().map(dc).collect(),
            local: link(1),
            wan: link(15),
            links: Vec::new(),
            shards,
            replicas: 3,
            replace_after_ms: 0,
            scrub_every_ms: 0,
            prefer: Vec::new(),
        },
        workload: Workload {
            duration_ms: 60_000,
            sites: DCS.iter().map(site).collect(),
            rooms: 40,
            zipf_milli: 900,
            own_rooms: false,
            senders: 48,
            pause_ms: (100, 300),
            stream_percent: 50,
            burst: (1, 4),
            body_bytes: (20, 400),
            resend_percent: 5,
            readers: Readers {
                linearizable: 4,
                session: 2,
                bounded: 2,
                local: 2,
                bound_ms: 500,
                pause_ms: (50, 150),
            },
            tails: 6,
            tail_resume_ms: 5_000,
            changers: 0,
            movers: 2,
            move_every_ms: 8_000,
            deadline_ms: 5_000,
        },
        events: Vec::new(),
        expect: Expect {
            promises: "DOELUHG".to_owned(),
            gap_max_ms: Some(3_000),
            read_max_ms: None,
            tail_max_ms: None,
            failed_calls_max: Some(0),
            recovery_max_ms: None,
            refusal_max_ms: None,
            age_p99_max_ms: None,
            leaderless_max_ms: None,
            rest_max_ms: None,
            snapshots_max: None,
            acked_min: 1_000,
            pending: Vec::new(),
        },
    }
}

/// A run in which nothing was seen at all.
pub fn empty(scenario: &str) -> Outcome {
    Outcome {
        promises: BTreeMap::new(),
        ..Outcome::unseen(plan(scenario, 1, 2), Verdict::Held)
    }
}

fn goal(name: &str, limit: &str, measured: &str) -> Goal {
    Goal {
        name: name.to_owned(),
        limit: limit.to_owned(),
        measured: measured.to_owned(),
        held: true,
        pending: None,
    }
}

pub fn mark(at_ms: u64, kind: &str, ends: bool, line: u32, text: &str) -> Mark {
    Mark {
        at_ms,
        kind: kind.to_owned(),
        ends,
        line,
        hosts: Vec::new(),
        between: None,
        story: None,
        text: text.to_owned(),
    }
}

/// A quiet minute of `nodes` × 3 nodes and `shards` shards, in which everything held.
pub fn calm(scenario: &str, nodes: u32, shards: u32) -> Outcome {
    let mut dice = dice(7, scenario);
    let held = |looked_at| Judged {
        held: Some(true),
        looked_at,
        ..Judged::default()
    };
    let mut promises: BTreeMap<Promise, Judged> = Promise::ALL.map(|p| (p, held(11_482))).into();
    promises.insert(Promise::S, Judged::default());
    promises.insert(
        Promise::A,
        Judged {
            pending: Some("operators' verbs while a data center is gone".to_owned()),
            ..Judged::default()
        },
    );
    let leaders = (0..=shards).map(|shard| {
        let dc = DCS[(shard % 3) as usize];
        Led {
            at_ms: -1_200,
            shard,
            host: format!("{dc}-{}", shard % nodes + 1),
            term: 1,
        }
    });
    let seconds = (0..60).map(|_| Second {
        acked: DCS
            .map(|dc| (format!("client-{dc}"), dice.random_range(58..72)))
            .into(),
        p50_ms: Some(dice.random_range(33..37)),
        p99_ms: Some(dice.random_range(48..66)),
        max_ms: Some(dice.random_range(70..110)),
        failed: 0,
    });
    Outcome {
        promises,
        goals: vec![
            goal("gap", "≤ 3000 ms", "118 ms"),
            goal("failed-calls", "≤ 0", "0"),
            goal("acked", "≥ 1000", "11482"),
        ],
        oracles: [
            ("acked-lost", 11_482),
            ("dense-seq", 11_482),
            ("one-leader", 64),
            ("replica-hash", 120),
        ]
        .map(|(name, n)| (name.to_owned(), n))
        .into(),
        longest_gap_ms: 118,
        longest_gap_at_ms: (31_204, 31_322),
        acked: 11_482,
        reads: 3_201,
        tailed: 9_120,
        retries: 0,
        trace_hash: "9f3a61c07be2d418".to_owned(),
        trace: (0..62_u64)
            .map(|n| format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
            .collect(),
        trace_events: 1_204_331,
        sim_seconds: 71.4,
        wall_seconds: 6.8,
        leaders: leaders.collect(),
        seconds: seconds.collect(),
        plan: plan(scenario, nodes, shards),
        ..empty(scenario)
    }
}

/// `hosts` of a data center die at `at_ms`: acknowledgements dip, its shards are led by others.
pub fn burn(outcome: &mut Outcome, dc: &str, at_ms: u64, gap_ms: u64) {
    let hosts: Vec<String> = outcome
        .plan
        .topology
        .nodes()
        .filter(|(of, _)| of.name == dc)
        .map(|(_, node)| node.name.clone())
        .collect();
    let others: Vec<String> = outcome
        .plan
        .topology
        .nodes()
        .filter(|(of, _)| of.name != dc)
        .map(|(_, node)| node.name.clone())
        .collect();
    let led: Vec<Led> = outcome.leaders.clone();
    for (n, led) in led
        .iter()
        .filter(|led| hosts.contains(&led.host))
        .enumerate()
    {
        outcome.leaders.push(Led {
            at_ms: (at_ms + gap_ms - 60 + u64::from(led.shard) * 13 % 50).cast_signed(),
            shard: led.shard,
            host: others[(n * 5 + 1) % others.len()].clone(),
            term: led.term + 1,
        });
    }
    outcome.plan.events.push(Event {
        label: None,
        at_ms,
        line: 0,
        fault: Fault::Burn { hosts },
    });
    outcome
        .timeline
        .push(mark(at_ms, "burn", false, 0, &format!("{dc} burns")));
    outcome.longest_gap_ms = gap_ms;
    outcome.longest_gap_at_ms = (at_ms - 10, at_ms - 10 + gap_ms);
    outcome.rto_ms = Some(gap_ms + 210);
    outcome.retries = 31;
    outcome.goals[0].measured = format!("{gap_ms} ms");
    let second = &mut outcome.seconds[(at_ms / 1_000) as usize];
    second.acked.values_mut().for_each(|n| *n = *n * 6 / 10);
    second.p99_ms = Some(gap_ms + 20);
    second.max_ms = Some(gap_ms + 74);
    for second in outcome
        .seconds
        .iter_mut()
        .skip((at_ms / 1_000) as usize + 1)
    {
        second.p50_ms = second.p50_ms.map(|ms| ms + 8);
        second.p99_ms = second.p99_ms.map(|ms| ms + 14);
    }
}

/// `dc-silent`: seoul burns at 20 s, 0.4 s of gap.
pub fn silent() -> Outcome {
    let mut outcome = calm("dc-silent", 2, 8);
    burn(&mut outcome, "seoul", 20_000, 412);
    outcome
}

/// Nine nodes and sixteen shards under faults of every family.
pub fn swarm() -> Outcome {
    let mut outcome = calm("swarm", 3, 16);
    burn(&mut outcome, "busan", 24_300, 940);
    outcome.plan.about = "Random subsets of faults, one on top of the other.".to_owned();
    outcome.timeline = vec![
        mark(
            4_000,
            "slow-sync",
            false,
            1,
            "syncs on tokyo-2 take 20 to 60 ms",
        ),
        mark(
            9_500,
            "clock-jump",
            false,
            2,
            "seoul-1's wall clock jumps by +1 h",
        ),
        mark(14_000, "cut", false, 3, "nothing goes from seoul to tokyo"),
        mark(19_800, "heal", true, 3, "seoul reaches tokyo again"),
        mark(24_300, "burn", false, 0, "busan burns"),
        mark(
            31_000,
            "slow-sync",
            true,
            1,
            "syncs on tokyo-2 are as usual",
        ),
        mark(38_000, "pause", false, 4, "seoul-2 pauses"),
        mark(
            39_200,
            "reset",
            false,
            5,
            "connections between seoul and tokyo are reset",
        ),
        mark(43_000, "resume", true, 4, "seoul-2 goes on"),
        mark(
            55_500,
            "stampede",
            false,
            6,
            "all clients near seoul drop their connections and come back",
        ),
        mark(58_800, "bit-flip", false, 7, "a bit of tokyo-1's log flips"),
    ];
    outcome
}

/// A link that flaps: thirty faults, of which each ends.
pub fn flapping() -> Outcome {
    let mut outcome = calm("flap-3s", 2, 8);
    for line in 0..30_u32 {
        let at = 3_000 + u64::from(line) * 1_800;
        let cut = mark(
            at,
            "cut",
            false,
            line,
            "seoul and busan are cut off from each other",
        );
        let heal = mark(
            at + 900,
            "heal",
            true,
            line,
            "seoul and busan reach each other",
        );
        outcome.timeline.extend([cut, heal]);
    }
    outcome
}

/// Ten minutes in which one host after the other is killed and started, twice round.
pub fn rolling() -> Outcome {
    let mut outcome = calm("rolling-fire", 3, 16);
    outcome.plan.workload.duration_ms = 600_000;
    outcome.seconds = (0..10).flat_map(|_| outcome.seconds.clone()).collect();
    let names: Vec<String> = outcome
        .plan
        .topology
        .nodes()
        .map(|(_, n)| n.name.clone())
        .collect();
    let mut at_ms = 20_000;
    for (line, name) in (0_u32..).zip(names.iter().chain(&names)) {
        let hosts = vec![name.clone()];
        outcome.plan.events.push(Event {
            label: None,
            at_ms,
            line,
            fault: Fault::Kill { hosts },
        });
        let back = at_ms + 24_000;
        outcome.timeline.push(mark(
            at_ms,
            "kill",
            false,
            line,
            &format!("{name} is killed"),
        ));
        outcome
            .timeline
            .push(mark(back, "start", true, line, &format!("{name} starts")));
        let led: Vec<Led> = outcome.leaders.clone();
        for shard in 0..=16 {
            let last = led.iter().rfind(|led| led.shard == shard).unwrap();
            if last.host == *name {
                let next = names[(line as usize + 4 + shard as usize) % names.len()].clone();
                outcome.leaders.push(Led {
                    at_ms: (at_ms + 700).cast_signed(),
                    shard,
                    host: if next == *name {
                        names[(line as usize + 1) % names.len()].clone()
                    } else {
                        next
                    },
                    term: last.term + 1,
                });
            }
        }
        at_ms += 31_000;
    }
    outcome.recovery_ms = Some(1_840);
    outcome.rto_ms = Some(910);
    outcome
}

/// A run that lost messages, failed calls, and says so in words that must be escaped.
pub fn broken() -> Outcome {
    let mut outcome = silent();
    outcome.verdict = Verdict::Broken;
    outcome.plan.scenario = "second-dc-after-30s".to_owned();
    outcome.plan.about =
        "A second data center burns 30 s after the first: refuse, never acknowledge in vain."
            .to_owned();
    outcome
        .timeline
        .push(mark(50_000, "burn", false, 1, "busan burns"));
    for second in &mut outcome.seconds[50..] {
        *second = Second {
            failed: 14,
            ..Second::default()
        };
    }
    outcome.seconds[50].failed = 3;
    outcome.longest_gap_ms = 10_000;
    outcome.longest_gap_at_ms = (50_000, 60_000);
    outcome.lost = 3;
    outcome.rto_ms = None;
    outcome.failed_calls = 129;
    outcome.failed = (0..4)
        .map(|n| format!("5{n}.204 s client-tokyo append to <room-{n}>: UNAVAILABLE: shard {n} has no quorum & said so"))
        .collect();
    let broken = Judged {
        held: Some(false),
        pending: None,
        looked_at: 9_211,
        broken: vec![
            Broken {
                promise: Promise::D,
                oracle: "acked-lost".to_owned(),
                evidence: "room-7: message 0192f3a8-77c1 acknowledged as seq 214 at 49.981 s by busan-1; at 71.2 s no replica has it".to_owned(),
            },
            Broken {
                promise: Promise::D,
                oracle: "synced-quorum".to_owned(),
                evidence: "shard 3 index 1,204 was acknowledged with synced copies on busan-1 only".to_owned(),
            },
        ],
    };
    outcome.promises.insert(Promise::D, broken);
    outcome.plan.events.push(Event {
        label: None,
        at_ms: 50_000,
        line: 1,
        fault: Fault::Burn {
            hosts: vec!["busan-1".to_owned(), "busan-2".to_owned()],
        },
    });
    outcome.goals[0] = Goal {
        held: false,
        measured: "10000 ms".to_owned(),
        ..outcome.goals[0].clone()
    };
    outcome.goals[1] = Goal {
        held: false,
        measured: "129".to_owned(),
        pending: Some("refusals are told apart from failures".to_owned()),
        ..outcome.goals[1].clone()
    };
    outcome
}

/// A run that the product's panic ended at 23 s.
pub fn stopped() -> Outcome {
    let mut outcome = silent();
    outcome.verdict = Verdict::Broken;
    outcome.stopped =
        Some("tokyo-1 panicked: index out of bounds: the len is 3 but the index is 7".to_owned());
    outcome.seconds.truncate(23);
    outcome.promises = Promise::ALL.map(|p| (p, Judged::default())).into();
    outcome.goals.clear();
    outcome
}

/// The two layouts of `kakao-2022`.
pub fn kakao() -> Outcome {
    let mut outcome = silent();
    outcome.plan.scenario = "kakao-2022".to_owned();
    outcome.plan.about = "15 October 2022, compressed: fire in the main data center, then the power of the whole building.".to_owned();
    let mut control = broken();
    control.plan.scenario = "kakao-2022".to_owned();
    control.plan.about =
        "Everything that was in one building then stands in one building here.".to_owned();
    control.plan.control = true;
    control
        .plan
        .topology
        .dcs
        .iter_mut()
        .take(2)
        .for_each(|dc| dc.building = "pangyo".to_owned());
    outcome.control = Some(Box::new(control));
    outcome
}
