//! Where replicas go when nodes are lost, leave and come, against what must always hold.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it cannot go on"
)]

use std::collections::{BTreeMap, BTreeSet};

use firebreak_model::cluster::{
    Change, ChangeBody, ClusterState, Locality, Move, MoveStep, Node, decide,
};
use firebreak_model::command::Answer;
use firebreak_model::id::ShardId;
use firebreak_model::placement::{
    self, Facts, Health, Leaders, NodeAfter, Policy, Why, majority_in, plan, whatif,
};
use proptest::prelude::*;

/// Nodes 1, 2, … with so many in each data center, and shards laid out on them.
fn cluster(per_dc: &[usize], shards: u32, replicas: u32) -> ClusterState {
    let mut state = ClusterState {
        epoch: 1,
        replicas,
        ..ClusterState::default()
    };
    for (dc, &count) in per_dc.iter().enumerate() {
        (0..count).for_each(|_| add(&mut state, dc));
    }
    state.shards = placement::layout(&state.nodes, shards, replicas).unwrap();
    state.meta_replicas = placement::meta_replicas(&state.nodes, &[]);
    state
}

fn add(state: &mut ClusterState, dc: usize) {
    let id = state.next_node_id.max(1);
    state.next_node_id = id + 1;
    state.nodes.push(Node {
        id,
        name: format!("n{id}"),
        locality: Some(Locality {
            dc: format!("dc{dc}"),
            ..Locality::default()
        }),
        ..Node::default()
    });
}

fn of_dc(state: &ClusterState, dc: usize) -> Vec<u64> {
    let inside = state.nodes.iter().filter(|n| n.dc() == format!("dc{dc}"));
    inside.map(|n| n.id).collect()
}

fn gone(nodes: &[u64], for_ms: u64) -> Health {
    Health {
        gone_ms: nodes.iter().map(|node| (*node, for_ms)).collect(),
        ..Health::default()
    }
}

#[track_caller]
fn make(state: &mut ClusterState, body: ChangeBody) {
    let reply = decide(state, &Change::from(body));
    assert!(matches!(reply.answer, Some(Answer::Meta(_))), "{reply:?}");
}

fn up(replicas: &[u64], health: &Health) -> usize {
    let up = replicas.iter().filter(|n| !health.gone_ms.contains_key(n));
    up.count()
}

/// Carries plans out until there is nothing to do; gives how many rounds that took.
#[track_caller]
fn settle(state: &mut ClusterState, health: &Health) -> usize {
    let policy = Policy::default();
    for round in 0..2_000 {
        let planned = plan(state, health, &policy);
        assert_eq!(planned, plan(state, health, &policy));
        let before = state.clone();
        for step in &planned.drop {
            make(state, ChangeBody::DropMove(*step));
        }
        for wanted in &planned.begin {
            make(state, ChangeBody::BeginMove(*wanted));
        }
        assert!(state.moves.len() <= policy.moves_max);
        for node in &state.nodes {
            let to = state.moves.iter().filter(|m| m.to == node.id).count();
            assert!(to <= policy.moves_to_node_max, "{to} moves to n{}", node.id);
        }
        let again = plan(state, health, &policy);
        let twice = |m: &Move| planned.begin.iter().any(|one| one.shard == m.shard);
        assert!(!again.begin.iter().any(twice), "a move is begun once");
        let Some(done) = state.moves.first().copied() else {
            assert_eq!(before, *state);
            return round;
        };
        make(state, ChangeBody::ChangeVoters(done.step()));
        make(state, ChangeBody::FinishMove(done.step()));
        for (was, is) in before.shards.iter().zip(&state.shards) {
            let quorum = is.replicas.len() / 2 + 1;
            if was.replicas != is.replicas {
                assert!(
                    up(&was.replicas, health) >= quorum,
                    "moved without a quorum"
                );
                assert!(up(&is.replicas, health) >= quorum, "moved below a quorum");
                let crowded = majority_in(state, &is.replicas);
                assert!(crowded.is_none() || done.degraded, "{done:?}");
            }
        }
    }
    panic!("it does not come to rest");
}

proptest! {
    #[test]
    fn what_is_lost_is_replaced_and_no_fire_domain_gets_a_majority_while_others_are_left(
        per_dc in proptest::collection::vec(1usize..4, 3..6),
        shards in 1u32..40,
        five in any::<bool>(),
        burning in 0usize..6,
        dead in proptest::collection::vec(any::<bool>(), 20),
        joining in proptest::collection::vec(0usize..6, 0..4),
    ) {
        let replicas = if five && per_dc.len() >= 5 { 5 } else { 3 };
        let mut state = cluster(&per_dc, shards, replicas);
        let mut lost = of_dc(&state, burning % per_dc.len());
        // Now and then a node elsewhere, too.
        let others = state.nodes.iter().map(|n| n.id).filter(|id| !lost.contains(id));
        let few = others.zip(&dead).filter(|(id, dead)| **dead && id % 5 == 0);
        let few: Vec<u64> = few.map(|(id, _)| id).collect();
        lost.extend(few);
        let health = gone(&lost, 400_000);
        let before = state.clone();
        settle(&mut state, &health);
        let left: Vec<_> = state.nodes.iter().filter(|n| !lost.contains(&n.id)).collect();
        let cap = (replicas as usize - 1) / 2;
        let mut dcs: BTreeMap<&str, usize> = BTreeMap::new();
        left.iter().for_each(|n| *dcs.entry(n.dc()).or_default() += 1);
        let fits = dcs.values().map(|n| (*n).min(cap)).sum::<usize>() >= replicas as usize;
        for (was, is) in before.shards.iter().zip(&state.shards) {
            let quorum = replicas as usize / 2 + 1;
            if up(&was.replicas, &health) < quorum {
                prop_assert_eq!(was, is, "without a quorum nothing moves");
            } else if fits || left.len() >= replicas as usize {
                prop_assert_eq!(up(&is.replicas, &health), replicas as usize, "{:?}", is);
                prop_assert!(!fits || majority_in(&state, &is.replicas).is_none());
            }
        }
        // Whatever is not restored is told, with its reason.
        let told = plan(&state, &health, &Policy::default()).unrestored;
        for shard in &state.shards {
            let bad = shard.replicas.iter().any(|n| lost.contains(n))
                || majority_in(&state, &shard.replicas).is_some();
            let says = told.iter().any(|one| one.shard == ShardId(shard.id));
            prop_assert_eq!(bad, says, "{:?}", shard);
        }
        // Nodes that come give a majority back to nobody.
        for dc in joining {
            add(&mut state, dc);
        }
        settle(&mut state, &health);
        // And the dead who return are nodes like any other.
        settle(&mut state, &Health::default());
        for (was, is) in before.shards.iter().zip(&state.shards) {
            prop_assert_eq!((was.id, was.replicas.len()), (is.id, is.replicas.len()));
            prop_assert!(majority_in(&state, &is.replicas).is_none(), "{:?}", is);
        }
    }
}

#[test]
fn a_node_that_may_come_back_is_waited_for_and_the_reason_says_how_long() {
    let mut state = cluster(&[2, 2, 2, 2], 8, 3);
    let lost = of_dc(&state, 0);
    let planned = plan(&state, &gone(&lost, 180_000), &Policy::default());
    assert!(planned.begin.is_empty());
    let told = planned.unrestored.first().unwrap().to_string();
    assert_eq!(told, "waiting: n1 has been gone 3 min of 5 min");
    settle(&mut state, &gone(&lost, 300_000));
    let held = |id: &u64| {
        state
            .shards
            .iter()
            .filter(|s| s.replicas.contains(id))
            .count()
    };
    assert_eq!(lost.iter().map(held).sum::<usize>(), 0);
    let loads: Vec<usize> = (3..=8).map(|id| held(&id)).collect();
    assert_eq!(loads, [4; 6], "the load is even");
}

#[test]
fn with_two_data_centers_left_replicas_crowd_and_go_apart_when_a_third_comes() {
    let mut state = cluster(&[2, 2, 2], 6, 3);
    let lost = of_dc(&state, 2);
    let health = gone(&lost, 300_000);
    settle(&mut state, &health);
    let crowded = |state: &ClusterState| {
        let shards = state.shards.iter();
        shards
            .filter(|s| majority_in(state, &s.replicas).is_some())
            .count()
    };
    assert_eq!(crowded(&state), 6);
    let mut told = plan(&state, &health, &Policy::default()).unrestored;
    told.retain(|one| !one.shard.is_meta());
    assert_eq!(told.len(), 6);
    assert!(matches!(told[0].why, Why::Degraded { .. }));
    assert!(told[0].to_string().starts_with("degraded: data center dc"));
    add(&mut state, 3);
    settle(&mut state, &health);
    assert_eq!(crowded(&state), 0);
}

#[test]
fn a_move_whose_node_is_lost_is_taken_back_also_when_its_voters_may_have_changed() {
    let mut state = cluster(&[1, 1, 1, 2], 1, 3);
    let planned = plan(&state, &gone(&[1], 300_000), &Policy::default());
    let wanted = planned.begin[0];
    assert_eq!((wanted.from, wanted.to), (1, 4));
    make(&mut state, ChangeBody::BeginMove(wanted));
    let health = gone(&[1, 4], 300_000);
    let begun = state.moves[0];
    let planned = plan(&state, &health, &Policy::default());
    let step = |lost| MoveStep {
        lost,
        ..begun.step()
    };
    assert_eq!((planned.drop, planned.begin), (vec![step(false)], vec![]));
    make(&mut state, ChangeBody::ChangeVoters(begun.step()));
    let planned = plan(&state, &health, &Policy::default());
    assert_eq!((planned.drop, planned.begin), (vec![step(true)], vec![]));
    make(&mut state, ChangeBody::DropMove(step(true)));
    let again = plan(&state, &health, &Policy::default());
    assert_eq!((again.begin[0].from, again.begin[0].to), (1, 5));
}

#[test]
fn a_broken_replica_is_told_and_counts_for_no_quorum() {
    let state = cluster(&[1, 1, 1, 1], 1, 3);
    let broken = Health {
        broken: [(2, ShardId(1))].into(),
        ..Health::default()
    };
    let planned = plan(&state, &broken, &Policy::default());
    assert_eq!((planned.begin, planned.drop), (vec![], vec![]));
    assert!(told(&state, &broken, 1, 2).contains("is broken, and is rebuilt"));
    let with_one_lost = Health {
        broken: broken.broken,
        ..gone(&[1], 300_000)
    };
    let planned = plan(&state, &with_one_lost, &Policy::default());
    assert_eq!(planned.begin, []);
    assert!(told(&state, &with_one_lost, 1, 1).contains("1 of 3 replicas"));
}

/// What is told of a shard's replica on a node.
#[track_caller]
fn told(state: &ClusterState, health: &Health, shard: u32, node: u64) -> String {
    let unrestored = plan(state, health, &Policy::default()).unrestored;
    let one = |one: &&placement::Unrestored| (one.shard, one.node) == (ShardId(shard), node);
    let mut of = unrestored.iter().filter(one);
    let found = of.next().map(ToString::to_string);
    assert!(of.next().is_none(), "told once: {unrestored:?}");
    found.unwrap_or_default()
}

#[test]
fn what_a_leaving_node_cannot_give_up_yet_is_told_with_what_is_waited_for() {
    // n1 and n2 burn together, n3, n4, n5 each alone; the one shard is on n1, n3 and n4.
    let mut state = cluster(&[2, 1, 1, 1], 1, 3);
    assert_eq!(state.shards[0].replicas, [1, 3, 4]);
    let leave = firebreak_model::cluster::Leave {
        node: 3,
        stays: false,
    };
    make(&mut state, ChangeBody::Leave(leave));
    let check = |state: &ClusterState, gone_now: &[u64], says: &str| {
        let said = told(state, &gone(gone_now, 7_000), 1, 3);
        assert_eq!(said, says, "{gone_now:?}");
    };
    check(&state, &[], "n5 is learning it in the place of n3");
    let none = "n3: no node is up that could have its replica of shard 1";
    // n2 would give the data center of n1 a majority.
    check(&state, &[5], &format!("{none}; gone now: n5"));
    let few = "n3: 1 of 3 replicas of shard 1 are up, and no change is made without a quorum";
    check(&state, &[1, 4], few);
    let wanted = plan(&state, &Health::default(), &Policy::default()).begin[0];
    make(&mut state, ChangeBody::BeginMove(wanted));
    check(&state, &[], "n5 is learning it in the place of n3");
    let gone_to = "waiting: n5, which is to take the place of n3, has been gone for 7 s";
    check(&state, &[5], gone_to);
    check(&state, &[1, 4], few);
    let step = state.moves[0].step();
    make(&mut state, ChangeBody::ChangeVoters(step));
    check(&state, &[], "n5 takes the place of n3");
    // A quorum of the old voters is there, none of the new.
    let few = "n3: 1 of 3 replicas of shard 1 are up, and no change is made without a quorum";
    check(&state, &[1, 5], few);
}

#[test]
fn the_meta_shards_replicas_are_told_too() {
    let mut state = cluster(&[1, 1, 1, 1], 1, 3);
    assert_eq!(state.meta_replicas, [1, 2, 3]);
    let says = |state: &ClusterState, health: &Health| told(state, health, 0, 2);
    assert_eq!(says(&state, &Health::default()), "");
    let waits = "waiting: n2 has been gone 7 s of 5 min";
    assert_eq!(says(&state, &gone(&[2], 7_000)), waits);
    let takes = "n4 is learning it in the place of n2";
    assert_eq!(says(&state, &gone(&[2], 300_000)), takes);
    let leave = firebreak_model::cluster::Leave {
        node: 2,
        stays: false,
    };
    make(&mut state, ChangeBody::Leave(leave));
    assert_eq!(says(&state, &Health::default()), takes);
    // One alone would hold all: it waits for a third.
    let none = "n2: no node is up that could have its replica of the meta shard; gone now: n4";
    assert_eq!(says(&state, &gone(&[4], 1_000)), none);
    let few =
        "n2: 1 of 3 replicas of the meta shard are up, and no change is made without a quorum";
    assert_eq!(says(&state, &gone(&[1, 3], 1_000)), few);
}

#[test]
fn a_leaving_node_gives_up_all_it_holds_and_can_be_removed_then() {
    let mut state = cluster(&[2, 2, 2], 6, 3);
    let leave = firebreak_model::cluster::Leave {
        node: 2,
        stays: false,
    };
    make(&mut state, ChangeBody::Leave(leave));
    assert_eq!(placement::PlacementPlan::removable(&state).count(), 0);
    settle(&mut state, &Health::default());
    state.meta_replicas.retain(|n| *n != 2);
    assert_eq!(
        placement::PlacementPlan::removable(&state).collect::<Vec<_>>(),
        [2]
    );
    make(&mut state, ChangeBody::Remove(leave));
}

#[test]
fn what_if_a_data_center_burns_nothing_is_lost_and_two_are_too_many() {
    let state = cluster(&[2, 2, 2, 2], 8, 3);
    let one: BTreeSet<u64> = of_dc(&state, 0).into_iter().collect();
    let report = whatif(&state, &one, &BTreeMap::new(), &Leaders::new());
    assert!(!report.is_bad(), "{report:?}");
    assert_eq!(
        (report.leaders_lost, report.degraded),
        (3, 0),
        "2 of 8, and the meta shard"
    );
    // All shards, the meta shard as well, as `status` counts them.
    let leaders = |at: fn(&NodeAfter) -> usize| report.nodes.iter().map(at).sum::<usize>();
    assert_eq!(leaders(|n| n.leaders.1), 9);
    let meta = state
        .meta_replicas
        .iter()
        .filter(|n| !one.contains(n))
        .count();
    assert_eq!(leaders(|n| n.replicas.1), 24 + meta);
    // Where leaders are counts, not where they would rather be.
    let elsewhere: Leaders = state
        .shard_ids()
        .map(|id| (id, *state.replicas_of(id).last().unwrap()))
        .collect();
    let report = whatif(&state, &one, &BTreeMap::new(), &elsewhere);
    let lost = elsewhere.values().filter(|leader| one.contains(leader));
    assert_eq!(report.leaders_lost, lost.count());
    let mut two = one.clone();
    two.extend(of_dc(&state, 1));
    let report = whatif(&state, &two, &BTreeMap::new(), &Leaders::new());
    assert!(report.is_bad() && report.quorums_lost > 0, "{report:?}");
}

#[test]
fn what_if_counts_what_the_databases_take_and_not_who_else_fills_the_disks() {
    let state = cluster(&[2, 2, 2, 2], 8, 3);
    let lost: BTreeSet<u64> = of_dc(&state, 0).into_iter().collect();
    let held = |node: u64| {
        let replicas = state.shards.iter().flat_map(|shard| &shard.replicas);
        replicas.filter(|replica| **replica == node).count() as u64
    };
    // So much of each replica, on disks that are all but full.
    let told = |stored_bytes: u64| -> BTreeMap<u64, Facts> {
        let facts = |node: u64| Facts {
            disk_free_bytes: 100,
            disk_total_bytes: 1_000_000,
            stored_bytes: stored_bytes * held(node),
            appends_per_s: 5.0,
        };
        state.nodes.iter().map(|n| (n.id, facts(n.id))).collect()
    };
    let check = |facts: &BTreeMap<u64, Facts>, replica_bytes: Option<u64>, short: bool| {
        let report = whatif(&state, &lost, facts, &Leaders::new());
        assert_eq!((report.is_bad(), report.disks_short > 0), (short, short));
        for node in &report.nodes {
            let more = (node.replicas.1 - node.replicas.0) as u64;
            let takes = replica_bytes.map(|bytes| bytes * more);
            assert_eq!(node.takes_bytes, takes, "{node:?}");
            let left = takes.map(|takes| 100 - i64::try_from(takes).unwrap());
            assert_eq!(node.free_bytes, left, "{node:?}");
        }
    };
    check(&told(3), Some(3), false);
    check(&told(100_000), Some(100_000), true);
    // The lost cannot say any more: the others hold replicas of the same shards.
    let mut silent = told(4);
    silent.retain(|node, _| !lost.contains(node));
    check(&silent, Some(4), false);
    // Versions that do not tell.
    check(&told(0), None, false);
}
