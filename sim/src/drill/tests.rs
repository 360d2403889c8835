use proto::v1::record::What;
use proto::v1::{
    AskedSecond, ClusterRecord, LinksRecord, Record, RecordedLink, RecordedNode, RecordedShard,
    SecondRecord,
};
use server::drill::plan::{Action, Caps, DrillPlan as Drill, Goals, Step};
use server::drill::verb::Verb;
use server::night::{FORMAT, KIND, Night, NodeNight};

use super::Stage;
use crate::plan::{Fault, Plan, Tier};

const START: u64 = 1_796_000_000_000;
const DCS: [&str; 3] = ["seoul", "busan", "tokyo"];

fn nodes() -> Vec<RecordedNode> {
    let dcs = (0_u64..).zip(DCS);
    let of = |(at, dc): (u64, &str)| {
        let dc = dc.to_owned();
        (1..=3).map(move |n| RecordedNode {
            node_id: at * 3 + n,
            name: format!("{dc}-{n}"),
            region: "kr".to_owned(),
            dc: dc.clone(),
            rack: String::new(),
        })
    };
    dcs.flat_map(of).collect()
}

/// A calm minute of three data centers with three nodes each.
pub(super) fn night() -> Night {
    let record = |at: u64, what| Record {
        unix_ms: START + at,
        what: Some(what),
        ..Record::default()
    };
    let second = || {
        What::Second(SecondRecord {
            asked: vec![AskedSecond {
                shard: 1,
                answered: 30,
                p50_us: 4_000,
                p99_us: 9_000,
                max_us: 400_000,
                ..AskedSecond::default()
            }],
            ..SecondRecord::default()
        })
    };
    let link = |to: &RecordedNode, from: &RecordedNode| RecordedLink {
        peer: to.node_id,
        up: true,
        round_us: match (to.dc == from.dc, to.dc == "tokyo" || from.dc == "tokyo") {
            (true, _) => 900,
            (false, false) => 5_000,
            (false, true) => 30_000,
        },
        limit_ms: 300,
    };
    let of = |node: &RecordedNode| NodeNight {
        node_id: node.node_id,
        name: node.name.clone(),
        head: vec![record(
            0,
            What::Links(LinksRecord {
                links: nodes()
                    .iter()
                    .filter(|other| other.node_id != node.node_id)
                    .map(|other| link(other, node))
                    .collect(),
            }),
        )],
        records: (0..60).map(|s| record(s * 1_000, second())).collect(),
        ..NodeNight::default()
    };
    let replicas = |shard: u32| {
        let at = u64::from(shard % 3) + 1;
        vec![at, at + 3, at + 6]
    };
    Night {
        kind: KIND.to_owned(),
        format: FORMAT,
        from_ms: START,
        to_ms: START + 60_000,
        cluster: ClusterRecord {
            epoch: 14,
            nodes: nodes(),
            shards: (0..=6)
                .map(|shard| RecordedShard {
                    shard,
                    replicas: replicas(shard),
                    prefer: Vec::new(),
                })
                .collect(),
            ..ClusterRecord::default()
        },
        nodes: nodes().iter().map(of).collect(),
        ..Night::default()
    }
}

/// What is done to nodes, from when on, and for how long.
type Steps = Vec<(u64, Option<u64>, Action, Vec<&'static str>)>;

fn drill(steps: Steps) -> Drill {
    let steps = steps
        .into_iter()
        .map(|(at_ms, for_ms, action, nodes)| Step {
            at_ms,
            for_ms,
            action,
            nodes: nodes.into_iter().map(str::to_owned).collect(),
        });
    Drill {
        format: server::drill::plan::FORMAT,
        id: "test".to_owned(),
        scenario: "dc-silent".to_owned(),
        about: "A data center falls silent.".to_owned(),
        hypothesis: String::new(),
        target: "seoul".to_owned(),
        cluster_id: String::new(),
        map_epoch: 14,
        made_ms: START,
        before_ms: 2_000,
        after_ms: 8_000,
        caps: Caps::default(),
        goals: Goals::default(),
        steps: steps.collect(),
    }
}

const SEOUL: [&str; 3] = ["seoul-1", "seoul-2", "seoul-3"];

fn stage(steps: Steps) -> Stage {
    Stage::of(&drill(steps), &night(), Tier::Direct).unwrap()
}

/// Begin, and whether it ends something, of each fault of a kind.
fn events(plan: &Plan) -> Vec<(u64, bool, &'static str)> {
    let events = plan.events.iter();
    let events = events.map(|event| (event.at_ms, event.fault.ends(), event.fault.kind()));
    let mut events: Vec<_> = events.collect();
    events.dedup();
    events
}

#[test]
fn a_drill_stands_where_the_cluster_does() {
    let plan = stage(vec![(0, Some(4_000), Action::Silence, SEOUL.to_vec())]).calm(7);
    let topology = &plan.topology;
    let dcs: Vec<&str> = topology.dcs.iter().map(|dc| dc.name.as_str()).collect();
    assert_eq!(dcs, DCS);
    assert_eq!((topology.shards, topology.replicas), (6, 3));
    let way = topology.links.iter();
    let mut way = way.filter(|l| l.from == "seoul" && l.to == "tokyo");
    assert_eq!(way.next().unwrap().link.latency_us, (15_000, 15_000));
    assert_eq!(plan.workload.duration_ms, 2_000 + 4_000 + 8_000);
    assert_eq!(plan.workload.readers.linearizable, 3);
    assert_eq!(
        events(&plan),
        [(2_000, false, "cut"), (6_000, true, "heal")]
    );
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
}

#[test]
fn a_silent_node_is_silent_to_its_neighbours_and_to_clients_too() {
    let plan = stage(vec![(0, Some(4_000), Action::Silence, SEOUL.to_vec())]).calm(1);
    for (from, to) in [
        ("seoul-1", "seoul-2"),
        ("seoul-2", "busan-1"),
        ("busan-1", "seoul-2"),
        ("client-tokyo", "seoul-3"),
        ("seoul-3", "client-seoul"),
    ] {
        let cuts = |event: &&crate::plan::Event| match &event.fault {
            Fault::Cut { from: a, to: b, .. } => {
                a.iter().any(|name| name == from) && b.iter().any(|name| name == to)
            }
            _ => false,
        };
        assert!(
            plan.events.iter().any(|event| cuts(&event)),
            "{from} to {to}"
        );
    }
}

#[test]
fn every_action_has_its_like_in_the_simulator() {
    let slow = Action::Slow {
        peers: Vec::new(),
        delay_ms: 50,
        jitter_ms: 5,
        loss_ppm: 10_000,
    };
    let cut = Action::Cut {
        peers: vec!["tokyo-1".to_owned()],
        sends: true,
        hears: false,
    };
    let check = |action: Action, begin: &str, end: &str| {
        let name = action.name();
        let plan = stage(vec![(0, Some(3_000), action, SEOUL.to_vec())]).calm(1);
        assert_eq!(
            events(&plan),
            [(2_000, false, begin), (5_000, true, end)],
            "{name}"
        );
    };
    check(Action::Silence, "cut", "heal");
    check(Action::Reset, "cut", "heal");
    check(cut, "cut", "heal");
    check(slow, "link", "link");
    check(Action::Refuse, "block", "block");
    check(
        Action::SlowSync { sync_ms: Some(40) },
        "slow-sync",
        "slow-sync",
    );
    check(Action::SlowSync { sync_ms: None }, "hang-sync", "hang-sync");
    check(Action::FullDisk, "disk-room", "disk-room");
    check(Action::StandStill, "pause", "resume");
    check(Action::Sigstop, "pause", "resume");
    check(Action::Sigkill, "kill", "start");
    check(Action::Restart, "stop", "start");
    check(Action::Drain, "drain", "drain");
}

#[test]
fn a_slow_way_of_one_node_is_told_as_that_of_its_data_center() {
    let slow = Action::Slow {
        peers: vec!["busan-1".to_owned()],
        delay_ms: 50,
        jitter_ms: 0,
        loss_ppm: 0,
    };
    let stage = stage(vec![(0, Some(3_000), slow, vec!["seoul-1"])]);
    let told = stage
        .not_in_it
        .iter()
        .any(|why| why.contains("all ways to seoul"));
    assert!(told, "{:?}", stage.not_in_it);
    let plan = stage.calm(1);
    let ways = plan.events.iter().filter(|event| !event.fault.ends());
    let ways: Vec<_> = ways.map(|event| &event.fault).collect();
    let [
        Fault::Link {
            from,
            to,
            link: Some(link),
        },
    ] = ways.as_slice()
    else {
        panic!("{ways:?}");
    };
    assert_eq!((from.as_str(), to.as_str()), ("busan", "seoul"));
    assert_eq!(link.latency_us, (52_500, 52_500));
}

#[test]
fn beside_a_fire_another_data_center_burns_and_the_drill_is_undone() {
    let stage = stage(vec![(0, Some(40_000), Action::Silence, SEOUL.to_vec())]);
    let mut burned = Vec::new();
    for seed in 1..=6 {
        let plan = stage.beside_a_fire(seed).unwrap();
        let fire = plan
            .events
            .iter()
            .find(|event| event.fault.kind() == "burn")
            .unwrap();
        assert_eq!(fire.line, super::FIRE_LINE);
        assert!(
            (2_000 + 12_000..=2_000 + 28_000).contains(&fire.at_ms),
            "{}",
            fire.at_ms
        );
        let hosts = fire.fault.hosts().to_vec();
        assert_eq!(hosts.len(), 3, "a whole data center");
        assert!(
            hosts.iter().all(|host| !host.starts_with("seoul")),
            "{hosts:?}"
        );
        let healed = plan.events.iter().filter(|event| event.fault.ends());
        assert_eq!(
            healed.map(|event| event.at_ms).max(),
            Some(fire.at_ms + 10_000)
        );
        burned.push(hosts[0].clone());
    }
    burned.sort();
    burned.dedup();
    assert_eq!(burned.len(), 2, "seeds burn one as well as the other");
}

#[test]
fn what_burned_is_not_started_again_and_nothing_new_begins() {
    let kill = |at, node| (at, Some(5_000), Action::Sigkill, vec![node]);
    let steps = vec![
        kill(0, "seoul-1"),
        kill(6_000, "busan-1"),
        kill(12_000, "tokyo-1"),
        kill(18_000, "seoul-2"),
        kill(24_000, "busan-2"),
        kill(30_000, "tokyo-2"),
    ];
    let stage = stage(steps);
    for seed in 1..=9 {
        let plan = stage.beside_a_fire(seed).unwrap();
        let fire = plan
            .events
            .iter()
            .find(|event| event.fault.kind() == "burn")
            .unwrap();
        for event in plan.events.iter().filter(|event| event.at_ms > fire.at_ms) {
            assert!(event.fault.ends(), "{:?}", event.fault);
            let burned = fire.fault.hosts();
            let again = event.fault.hosts().iter().any(|host| burned.contains(host));
            assert!(!again, "seed {seed}: {:?}", event.fault);
        }
    }
}

#[test]
fn the_twin_has_everything_in_one_building() {
    let plan = stage(vec![(0, Some(4_000), Action::Sigkill, SEOUL.to_vec())]).twin();
    assert!(plan.control);
    assert_eq!(plan.events[0].fault.hosts().len(), 9);
    let buildings = plan.topology.dcs.iter().map(|dc| dc.building.as_str());
    assert_eq!(
        buildings.collect::<std::collections::BTreeSet<_>>().len(),
        1
    );
}

#[test]
fn a_step_without_an_end_lasts_to_the_last_one_and_long_stretches_are_cut() {
    let steps = vec![
        (0, None, Action::Drain, SEOUL.to_vec()),
        (1_000, Some(120_000), Action::FullDisk, vec!["busan-1"]),
    ];
    let stage = stage(steps);
    assert_eq!(
        events(&stage.calm(1)),
        [
            (2_000, false, "drain"),
            (3_000, false, "disk-room"),
            (48_000, true, "drain"),
            (48_000, true, "disk-room"),
        ]
    );
    let told = stage
        .not_in_it
        .iter()
        .any(|why| why.starts_with("75 s in which"));
    assert!(told, "{:?}", stage.not_in_it);
}

#[test]
fn what_cannot_be_rehearsed_is_refused_with_the_reason() {
    let check = |drill: Drill, night: &Night, part: &str| {
        let why = Stage::of(&drill, night, Tier::Direct).unwrap_err();
        assert!(why.contains(part), "{why}");
    };
    let silent = |node| drill(vec![(0, Some(1_000), Action::Silence, vec![node])]);
    check(
        silent("jeju-1"),
        &night(),
        "jeju-1, which the cluster does not have",
    );
    check(drill(Vec::new()), &night(), "has no steps");
    let mut empty = night();
    empty.cluster.nodes.clear();
    check(silent("seoul-1"), &empty, "no map");
    let step = |at| (at, Some(40_000), Action::StandStill, vec!["seoul-1"]);
    let long = drill((0..20).map(|at| step(at * 50_000)).collect());
    check(long, &night(), "at most 600 s are rehearsed");
}

#[test]
fn a_verb_is_done_once_and_not_taken_back() {
    let check = |verb: Verb, kind: &str, prefer: &[&str]| {
        let stage = Stage::verb(&verb, &night(), Tier::Direct).unwrap();
        let plan = stage.calm(1);
        let kinds: Vec<&str> = plan.events.iter().map(|event| event.fault.kind()).collect();
        assert_eq!(
            kinds,
            [kind]
                .iter()
                .copied()
                .filter(|kind| !kind.is_empty())
                .collect::<Vec<_>>()
        );
        assert_eq!(plan.topology.prefer, prefer);
        let fire = stage.beside_a_fire(2).unwrap();
        let burns = fire
            .events
            .iter()
            .filter(|event| event.fault.kind() == "burn");
        assert_eq!(burns.count(), 1);
        assert_eq!(fire.events.len(), plan.events.len() + 1);
    };
    let node = || "seoul-2".to_owned();
    check(
        Verb::Drain {
            nodes: SEOUL.map(str::to_owned).to_vec(),
        },
        "drain",
        &[],
    );
    check(Verb::Remove { node: node() }, "remove", &[]);
    let moved = Verb::Move {
        shard: 3,
        from: "seoul-1".to_owned(),
        to: node(),
    };
    check(moved, "move-to", &[]);
    check(
        Verb::Prefer {
            dcs: vec!["busan".to_owned()],
        },
        "",
        &["busan"],
    );
}

#[test]
fn a_verb_for_a_node_that_there_is_not_is_refused() {
    let verb = Verb::Remove {
        node: "jeju-1".to_owned(),
    };
    let why = Stage::verb(&verb, &night(), Tier::Direct).unwrap_err();
    assert!(why.contains("no node jeju-1"), "{why}");
}
