//! The flight recorders of a run say what really happened in it: who led, and what was done to whom. A test
//! process makes one run only: `cargo nextest run`, as CI does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use firebreak_sim::catalogue::{self, Variant};
use firebreak_sim::plan::{Event, Fault, Standstill, Tier};
use firebreak_sim::run::run_and_record;
use firebreak_sim::{Outcome, Plan};
use proto::v1::record::What;
use server::night::account::Account;
use server::night::felt::{Felt, Kind};
use server::night::{Night, NodeNight, at_ms};

/// What records lag behind what happens at most, ms: what a recorder had not written when its process was
/// killed, a verdict's limit, and a step.
const LAG_MS: u64 = 2_500;

/// A minute of a calm cluster of three nodes, with these faults.
fn plan(faults: Vec<(u64, Fault)>) -> Plan {
    let calm = catalogue::load("calm").unwrap();
    let mut plan = calm.plan(5, Variant::Ours, Tier::Direct);
    for dc in &mut plan.topology.dcs {
        dc.nodes.truncate(1);
    }
    plan.workload.duration_ms = 45_000;
    plan.events = faults
        .into_iter()
        .map(|(at_ms, fault)| Event {
            at_ms,
            line: 0,
            fault,
            label: None,
        })
        .collect();
    plan
}

fn first_host() -> Vec<String> {
    let plan = plan(Vec::new());
    vec![plan.topology.dcs[0].nodes[0].name.clone()]
}

/// The run, its night, and the Unix time at which its load began.
fn recorded(plan: &Plan) -> (Outcome, Night, Account, u64) {
    let (outcome, nodes) = run_and_record(plan);
    assert_eq!(outcome.stopped, None);
    let began = begin(&outcome, &nodes);
    let mut night = Night {
        from_ms: began,
        to_ms: began + plan.workload.duration_ms,
        nodes,
        ..Night::default()
    };
    for node in &mut night.nodes {
        let (before, of_load) = std::mem::take(&mut node.records)
            .into_iter()
            .partition(|record| at_ms(record) < began);
        (node.head, node.records) = (before, of_load);
        node.records.retain(|record| at_ms(record) <= night.to_ms);
    }
    night.order();
    let account = Account::of(&night);
    (outcome, night, account, began)
}

/// Terms that were won, as the recorders and as the simulator saw it.
fn own_terms(nodes: &[NodeNight]) -> BTreeMap<(u32, u64), (String, u64)> {
    let mut terms = BTreeMap::new();
    for node in nodes {
        for record in node.head.iter().chain(&node.records) {
            if let Some(What::Led(led)) = &record.what
                && led.own
            {
                let won = (node.name.clone(), at_ms(record));
                terms.insert((led.shard, led.term), won);
            }
        }
    }
    terms
}

/// The Unix time at which the load began: of what both saw.
fn begin(outcome: &Outcome, nodes: &[NodeNight]) -> u64 {
    let own = own_terms(nodes);
    let offsets = outcome.leaders.iter().filter_map(|led| {
        let (_, at) = own.get(&(led.shard, led.term))?;
        at.checked_add_signed(-led.at_ms)
    });
    let mut offsets: Vec<u64> = offsets.collect();
    offsets.sort_unstable();
    offsets[offsets.len() / 2]
}

/// Who led is what the simulator saw: nothing else, and all of it but what a killed process had not written.
fn assert_leaders(outcome: &Outcome, night: &Night, began: u64, killed: &[(String, u64)]) {
    let own = own_terms(&night.nodes);
    let seen: BTreeMap<(u32, u64), (String, i64)> = outcome
        .leaders
        .iter()
        .map(|led| ((led.shard, led.term), (led.host.clone(), led.at_ms)))
        .collect();
    let end = i64::try_from(night.to_ms - began).unwrap();
    for (term, (host, at)) in &own {
        if *at <= night.to_ms {
            let known = seen.get(term).map(|(host, _)| host);
            assert_eq!(known, Some(host), "{term:?} at {at}");
        }
    }
    for (term, (host, at)) in &seen {
        let unwritten = killed.iter().any(|(name, killed)| {
            let killed = i64::try_from(*killed).unwrap();
            name == host && (killed - 2_000..=killed).contains(at)
        });
        if !unwritten && *at + 2_000 < end {
            let known = own.get(term).map(|(host, _)| host);
            assert_eq!(known, Some(host), "{term:?} at {at} ms");
        }
    }
}

#[track_caller]
fn assert_felt(account: &Account, began: u64, kind: Kind, whom: &[String], from: u64, to: u64) {
    let names: Vec<&Felt> = account.felt.iter().collect();
    let [felt] = names[..] else {
        panic!("one thing befell it: {names:#?}");
    };
    assert_eq!(felt.kind, kind);
    assert_eq!(felt.nodes.len(), whom.len());
    let near = |a: u64, b: u64| a.abs_diff(b) <= LAG_MS;
    assert!(
        near(felt.from_ms, began + from),
        "{} {felt:#?}",
        began + from
    );
    let ended = felt.to_ms.unwrap();
    assert!(near(ended, began + to), "{} {felt:#?}", began + to);
}

#[test]
fn a_node_that_stood_still_is_known_as_such_and_so_is_who_led_meanwhile() {
    let hosts = first_host();
    let pause = Fault::Pause {
        hosts: hosts.clone(),
        clocks: Standstill::GoOn,
    };
    let resume = Fault::Resume {
        hosts: hosts.clone(),
    };
    let plan = plan(vec![(10_000, pause), (25_000, resume)]);
    let (outcome, night, account, began) = recorded(&plan);
    assert_leaders(&outcome, &night, began, &[]);
    assert_felt(&account, began, Kind::Still, &hosts, 10_000, 25_000);
    let silent = account.elections.get("silent").map(|(count, _)| *count);
    assert!(silent > Some(0), "{:?}", account.elections);
    let wait = account.longest_wait.unwrap().ms;
    assert!(wait <= outcome.longest_gap_ms + 100, "{wait}");
}

#[test]
fn a_node_that_was_killed_and_started_again_is_known_as_such() {
    let hosts = first_host();
    let kill = Fault::Kill {
        hosts: hosts.clone(),
    };
    let start = Fault::Start {
        hosts: hosts.clone(),
    };
    let plan = plan(vec![(10_000, kill), (25_000, start)]);
    let (outcome, night, account, began) = recorded(&plan);
    let killed = [(hosts[0].clone(), 10_000)];
    assert_leaders(&outcome, &night, began, &killed);
    assert_felt(&account, began, Kind::Killed, &hosts, 10_000, 25_000);
}

#[test]
fn a_cut_is_known_as_one_with_its_two_sides() {
    let hosts = first_host();
    let plan0 = plan(Vec::new());
    let others: Vec<String> = plan0
        .topology
        .nodes()
        .map(|(_, node)| node.name.clone())
        .collect();
    let others: Vec<String> = others
        .into_iter()
        .filter(|name| *name != hosts[0])
        .collect();
    let both = |from: &Vec<String>, to: &Vec<String>| {
        [(from.clone(), to.clone()), (to.clone(), from.clone())]
    };
    let mut faults = Vec::new();
    for (from, to) in both(&hosts, &others) {
        let reset = false;
        faults.push((10_000, Fault::Cut { from, to, reset }));
    }
    for (from, to) in both(&hosts, &others) {
        faults.push((25_000, Fault::Heal { from, to }));
    }
    let (outcome, night, account, began) = recorded(&plan(faults));
    assert_leaders(&outcome, &night, began, &[]);
    assert_felt(&account, began, Kind::CutOff, &hosts, 10_000, 25_000);
    let sides: BTreeSet<u64> = account.felt[0].others.clone();
    assert_eq!(sides.len(), others.len());
}
