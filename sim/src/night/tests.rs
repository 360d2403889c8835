use proto::v1::{
    AskedSecond, ClusterRecord, LinksRecord, Record, RecordedLink, RecordedNode, RecordedShard,
    SecondRecord, StoodRecord,
};
use server::night::NodeNight;

use super::*;

const START: u64 = 1_796_000_000_000;

/// Three data centers of one node; seoul stood still for 20 s.
fn night() -> Night {
    let names = ["seoul", "busan", "tokyo"];
    let node = |id: u64| RecordedNode {
        node_id: id,
        name: format!("{}-1", names[usize::try_from(id).unwrap() - 1]),
        region: "kr".to_owned(),
        dc: names[usize::try_from(id).unwrap() - 1].to_owned(),
        rack: String::new(),
    };
    let record = |at: u64, what| Record {
        unix_ms: START + at,
        what: Some(what),
        ..Record::default()
    };
    let second = |answered| {
        What::Second(SecondRecord {
            asked: vec![AskedSecond {
                shard: 1,
                answered,
                p50_us: 4_000,
                p99_us: 9_000,
                max_us: 400_000,
                ..AskedSecond::default()
            }],
            ..SecondRecord::default()
        })
    };
    let link = |peer, round_us| RecordedLink {
        peer,
        up: true,
        round_us,
        limit_ms: 300,
    };
    let stood = StoodRecord {
        lasted_ms: 20_000,
        suspended: false,
    };
    let records = |id: u64| {
        let mut records: Vec<Record> = (0..10).map(|s| record(s * 1_000, second(30))).collect();
        if id == 1 {
            records.push(record(40_000, What::Stood(stood)));
        }
        records
    };
    let mut night = Night {
        kind: server::night::KIND.to_owned(),
        format: server::night::FORMAT,
        from_ms: START,
        to_ms: START + 60_000,
        cluster: ClusterRecord {
            epoch: 3,
            nodes: (1..=3).map(node).collect(),
            shards: vec![
                RecordedShard {
                    shard: 0,
                    replicas: vec![1, 2, 3],
                    prefer: Vec::new(),
                },
                RecordedShard {
                    shard: 1,
                    replicas: vec![1, 2, 3],
                    prefer: vec!["busan".to_owned()],
                },
            ],
            ..ClusterRecord::default()
        },
        nodes: (1..=3)
            .map(|id| NodeNight {
                node_id: id,
                name: node(id).name,
                records: records(id),
                ..NodeNight::default()
            })
            .collect(),
        ..Night::default()
    };
    night.nodes[0].head = vec![record(
        0,
        What::Links(LinksRecord {
            links: vec![link(2, 4_000), link(3, 30_000)],
        }),
    )];
    night
}

fn translated(other: &Counterfactual) -> Translated {
    let night = night();
    let account = Account::of(&night);
    let window = Window::around(&night, &account);
    plan(&night, &account, window, other, true).unwrap()
}

#[test]
fn a_night_is_a_plan_with_its_places_ways_load_and_faults() {
    let Translated { plan, not_in_it } = translated(&Counterfactual::default());
    let topology = &plan.topology;
    let dcs: Vec<&str> = topology.dcs.iter().map(|dc| dc.name.as_str()).collect();
    assert_eq!(dcs, ["seoul", "busan", "tokyo"]);
    assert_eq!((topology.shards, topology.replicas), (1, 3));
    assert_eq!(topology.prefer, ["busan"]);
    let way = |from: &str, to: &str| {
        let link = topology.links.iter().find(|l| l.from == from && l.to == to);
        link.unwrap().link.latency_us
    };
    assert_eq!(way("seoul", "busan"), (2_000, 2_000));
    assert_eq!(way("tokyo", "seoul"), (15_000, 15_000));
    let events: Vec<(u64, String)> = plan
        .events
        .iter()
        .map(|event| (event.at_ms, event.fault.to_string()))
        .collect();
    let still = ["seoul-1 stands still", "seoul-1 goes on"].map(str::to_owned);
    assert_eq!(
        events,
        [(8_000, still[0].clone()), (28_000, still[1].clone())]
    );
    assert_eq!(plan.workload.duration_ms, 48_000);
    let rate = u64::from(plan.workload.senders) * 1_000 / (plan.workload.pause_ms.0 + 20);
    assert!((60..=150).contains(&rate), "{rate} a second for 90");
    assert!(not_in_it.iter().any(|why| why.contains("evenly")));
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
}

#[test]
fn what_was_to_be_otherwise_is() {
    let other = Counterfactual {
        prefer: Some(vec!["tokyo".to_owned()]),
        replicas: Some(5),
    };
    let plan = translated(&other).plan;
    assert_eq!(plan.topology.prefer, ["tokyo"]);
    assert_eq!(plan.topology.replicas, 5);
}

#[test]
fn what_was_recorded_is_drawn_and_compared_as_a_run_is() {
    let night = night();
    let account = Account::of(&night);
    let window = Window::whole(&night);
    let as_it_was = Counterfactual::default();
    let told = plan(&night, &account, window, &as_it_was, false).unwrap();
    let outcome = recorded(&night, &account, window, &told.plan);
    assert_eq!(outcome.seconds.len(), 60);
    assert_eq!(outcome.seconds[0].acked["client-busan"], 30);
    assert_eq!(outcome.timeline[0].at_ms, 20_000);
    let page = page::show("03:10 to 03:25", &outcome, &["missing: x".to_owned()]);
    assert!(page.contains("stands still") && page.contains("missing: x"));
    let run = compare::Run {
        seed: 1,
        verdict: crate::Verdict::Held,
        stopped: None,
        longest_gap_ms: 300,
        leaderless_ms: 200,
        failed_calls: 0,
        changes: 1,
    };
    let compared = compare::compare(&account, &outcome, vec![run], told.not_in_it, true);
    let text = compared.text();
    assert!(
        text.contains("longest wait of a call             400 ms   300 ms"),
        "{text}"
    );
    assert!(text.contains("100 ms more than any seed gives"), "{text}");
}

#[test]
fn a_night_without_a_map_says_what_it_lacks() {
    let mut night = night();
    night.cluster = ClusterRecord::default();
    let account = Account::of(&night);
    let window = Window::whole(&night);
    let why = plan(&night, &account, window, &Counterfactual::default(), true).unwrap_err();
    assert!(why.contains("no map"), "{why}");
}
