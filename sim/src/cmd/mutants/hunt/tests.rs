#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use firebreak_sim::outcome::{Broken, Goal, Promise};
use firebreak_sim::plan::Tier;
use firebreak_sim::{Verdict, catalogue, oracle};
use model::mutants;

use super::*;

fn promise_of(oracle: &str) -> Option<Promise> {
    let mut known = oracle::NAMES.iter().chain(oracle::OF_RUNS);
    let known = known.find(|known| known.0 == oracle)?;
    Promise::of(known.1)
}

/// A run of `calm` in which these oracles raised.
fn outcome(scenario: &Scenario, raised: &[&str]) -> Outcome {
    let mut outcome = Outcome::unseen(scenario.plan(1, Tier::Direct), Verdict::Broken);
    for name in raised {
        let promise = promise_of(name).unwrap();
        let judged = outcome.promises.get_mut(&promise).unwrap();
        judged.held = Some(false);
        judged.broken.push(Broken {
            promise,
            oracle: (*name).to_owned(),
            evidence: format!("what {name} saw"),
        });
    }
    outcome
}

fn shown<'s>(scenario: &'s Scenario, mutant: &Mutant, number: u64, raised: &[&str]) -> Shown<'s> {
    Shown {
        attempt: Attempt {
            hunt: 0,
            number,
            scenario,
            seed: number,
        },
        showing: showing(&outcome(scenario, raised), mutant).unwrap(),
        command: String::new(),
    }
}

#[test]
fn every_mutant_names_oracles_that_exist_and_first_one_of_the_promise_that_it_breaks() {
    for mutant in mutants::ALL {
        for name in mutant.oracles {
            assert!(promise_of(name).is_some(), "{}: {name}", mutant.name);
        }
        let main = promise_of(mutant.oracles.first().unwrap());
        assert_eq!(main, Promise::of(mutant.promise), "{}", mutant.name);
        let once: BTreeSet<&&str> = mutant.oracles.iter().collect();
        assert_eq!(once.len(), mutant.oracles.len(), "{}", mutant.name);
    }
}

#[test]
fn every_mutant_names_scenarios_that_ship() {
    for mutant in mutants::ALL {
        for name in mutant.scenarios {
            let ships = catalogue::all().iter().any(|shipped| shipped.name == *name);
            assert!(ships, "{}: {name}", mutant.name);
        }
    }
}

#[test]
fn only_an_oracle_that_is_named_catches_a_mutant_and_others_are_told() {
    let scenarios = [Scenario::load("calm", &[], None).unwrap()];
    let mutant = mutants::named("page-boundary-skips-one").unwrap();
    let mut hunt = Hunt::new(mutant, &scenarios);
    let shown = |number, raised: &[&str]| shown(&scenarios[0], mutant, number, raised);

    hunt.tried = 1;
    hunt.note(shown(1, &["linearizable"]), Some(true));
    assert!(hunt.is_open());
    assert_eq!(hunt.result().oracle, "gap-free");
    assert_eq!(hunt.result().broken_instead["linearizable"], 1);
    let escape = hunt.escape();
    assert!(escape.contains("broke linearizable"), "{escape}");

    hunt.note(shown(2, &["gap-free"]), Some(false));
    assert!(hunt.is_open(), "the seed fails without it, too");
    assert_eq!(hunt.unsound, 1);

    hunt.note(shown(3, &["linearizable", "gap-free"]), Some(true));
    let result = hunt.result();
    assert_eq!(result.oracle, "gap-free");
    assert_eq!(result.caught_by.unwrap(), "O ordered: gap-free");
    assert_eq!(result.seeds_needed, Some(3));
    assert_eq!(result.evidence.unwrap(), "what gap-free saw");
}

#[test]
fn a_goal_of_time_tells_nothing_of_a_mutant_and_a_panic_catches_nothing() {
    let scenario = Scenario::load("calm", &[], None).unwrap();
    let mutant = mutants::named("ack-before-fsync").unwrap();
    let mut outcome = outcome(&scenario, &[]);
    outcome.promises.get_mut(&Promise::G).unwrap().held = Some(false);
    assert!(showing(&outcome, mutant).is_none());
    outcome.stopped = Some("panic: no (store/src/log.rs:1:1)".to_owned());
    let panic = showing(&outcome, mutant).unwrap();
    assert_eq!(panic.symptom.oracle, "panic");
    assert!(panic.evidence.is_none());
}

#[test]
fn a_wait_that_is_too_long_catches_what_is_to_break_no_downtime() {
    let scenario = Scenario::load("calm", &[], None).unwrap();
    let mut outcome = outcome(&scenario, &[]);
    outcome.goals.push(Goal {
        name: "gap".to_owned(),
        limit: "≤ 3000 ms".to_owned(),
        measured: "4000 ms".to_owned(),
        held: false,
        pending: None,
    });
    let named = |name| mutants::named(name).unwrap();
    let waits = showing(&outcome, named("turns-without-back-off")).unwrap();
    assert_eq!(waits.symptom.oracle, "no-downtime");
    assert!(waits.evidence.unwrap().contains("4000 ms"));
    assert!(showing(&outcome, named("ack-before-fsync")).is_none());
    outcome.goals[0].pending = Some("work to come".to_owned());
    assert!(showing(&outcome, named("turns-without-back-off")).is_none());
}
