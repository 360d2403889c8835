//! Scenario files: those that ship, what a seed makes of them, and what is said of wrong ones.

use firebreak_sim::catalogue::{self, Variant, atlas};
use firebreak_sim::plan::{Plan, Tier};

/// Seeds that every shipped scenario is drawn with.
const SEEDS: u64 = 200;

#[test]
fn every_shipped_scenario_is_taken_and_they_are_in_the_order_of_their_names() {
    let names: Vec<&str> = catalogue::all()
        .iter()
        .map(|shipped| shipped.name)
        .collect();
    assert!(names.is_sorted(), "{names:?}");
    for name in names {
        match catalogue::load(name) {
            Ok(file) => assert_eq!(file.name, name),
            Err(refused) => panic!("{refused}"),
        }
    }
}

#[test]
fn a_seed_makes_the_same_plan_again_and_it_leaves_what_it_promises() {
    for shipped in catalogue::all() {
        let file = catalogue::load(shipped.name).unwrap();
        let again = catalogue::load(shipped.name).unwrap();
        for seed in 0..SEEDS {
            let plan = file.plan(seed, Variant::Ours, Tier::Direct);
            assert_eq!(plan, again.plan(seed, Variant::Ours, Tier::Direct));
            assert_eq!((plan.seed, plan.tier), (seed, Tier::Direct));
            if let Err(why) = atlas::check(&plan) {
                panic!("{} --seed {seed}: {why}\n{:#?}", shipped.name, plan.events);
            }
            whole(&plan);
        }
    }
}

/// What holds of every plan: hosts exist, times are in order and inside the load, and it is the
/// same when it was written and read.
fn whole(plan: &Plan) {
    let mut hosts: Vec<&str> = plan
        .topology
        .nodes()
        .map(|(_, node)| node.name.as_str())
        .collect();
    hosts.extend(plan.workload.sites.iter().map(|site| site.name.as_str()));
    let json = serde_json::to_value(plan).unwrap();
    for event in json["events"].as_array().unwrap() {
        for key in ["hosts", "from", "to"] {
            for host in event["fault"][key].as_array().into_iter().flatten() {
                let host = host.as_str().unwrap();
                assert!(hosts.contains(&host), "{host} of {}", plan.scenario);
            }
        }
        if let Some(named) = event["fault"]["hosts"].as_array() {
            assert!(!named.is_empty(), "{event} of {}", plan.scenario);
        }
        assert!(event["at_ms"].as_u64().unwrap() <= plan.workload.duration_ms);
    }
    assert!(plan.events.is_sorted_by_key(|event| event.at_ms));
    assert_eq!(&serde_json::from_value::<Plan>(json).unwrap(), plan);
}
