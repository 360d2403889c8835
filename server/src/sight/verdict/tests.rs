//! What is said of clusters in which this and that is wrong.

use super::*;
use crate::sight::view::Node;

/// Three nodes in three data centers, two shards beside the meta shard.
fn whole_view() -> View {
    let names = ["seoul-1", "busan-1", "tokyo-1"];
    let node = |(at, name): (usize, &&str)| Node {
        node_id: at as u64 + 1,
        name: (*name).to_owned(),
        dc: name.trim_end_matches("-1").to_owned(),
        address: format!("{name}:7001"),
        reachable: true,
        gone_ms: None,
        draining: false,
        leads: 1,
        replicas: 3,
        disk_free_bytes: Some(1 << 30),
        disk_reserve_reached: false,
        ..Node::default()
    };
    let shard = |shard: u32| Shard {
        shard,
        slot_first: 0,
        slot_last: 0,
        leader: Some(names[shard as usize].to_owned()),
        leader_dc: None,
        term: 1,
        replicas: names
            .map(|node| Replica {
                node: node.to_owned(),
                state: match node == names[shard as usize] {
                    true => "leader",
                    false => "follower",
                }
                .to_owned(),
                lag: Some(0),
                broken_reason: None,
            })
            .into(),
    };
    View {
        cluster_id: "c".to_owned(),
        map_epoch: 3,
        nodes_expected: 3,
        nodes: names.iter().enumerate().map(node).collect(),
        shards: (0..3).map(shard).collect(),
        unrestored: Vec::new(),
    }
}

/// The node is gone, and what it led is led by the next one, where a majority is left.
fn lose(view: &mut View, name: &str) {
    let lost = view
        .nodes
        .iter_mut()
        .find(|node| node.name == name)
        .unwrap();
    (lost.reachable, lost.gone_ms) = (false, Some(42_000));
    for shard in &mut view.shards {
        for replica in shard.replicas.iter_mut().filter(|one| one.node == name) {
            (replica.state, replica.lag) = ("unreachable".to_owned(), None);
        }
        let up = shard.replicas.iter().find(|one| one.state != "unreachable");
        shard.leader = match has_quorum(shard) {
            true => up.map(|one| one.node.clone()),
            false => None,
        };
    }
}

#[track_caller]
fn check(change: impl FnOnce(&mut View), verdict: Verdict, says: &[&str]) {
    let mut view = whole_view();
    change(&mut view);
    let judged = Judged::view(&view);
    assert_eq!(judged.verdict, verdict, "{judged:?}");
    for part in says {
        assert!(
            judged.sentence.contains(part),
            "{part}: {}",
            judged.sentence
        );
    }
}

#[test]
fn all_in_its_place_is_whole_also_when_a_node_is_drained() {
    let all = "all 3 shards are led, 3 nodes in 3 data centers answer";
    check(|_| (), Verdict::Whole, &["whole: ", all]);
    let drain = |view: &mut View| view.nodes[1].draining = true;
    check(drain, Verdict::Whole, &[all, "drained: busan-1"]);
    let all_of_one = |view: &mut View| {
        view.nodes[1].draining = true;
        view.nodes.push(Node {
            name: "busan-2".to_owned(),
            ..view.nodes[1].clone()
        });
    };
    check(all_of_one, Verdict::Whole, &["drained: data center busan"]);
}

#[test]
fn a_lost_data_center_is_degraded_and_the_next_one_would_stop_it() {
    check(
        |view| lose(view, "busan-1"),
        Verdict::Degraded,
        &[
            "DEGRADED, but serving: 1 of 3 nodes does not answer: busan-1 (gone for 42 s)",
            "losing seoul or tokyo now would stop shards",
        ],
    );
}

#[test]
fn a_data_center_that_is_silent_is_named_instead_of_its_nodes() {
    let burnt = |view: &mut View| {
        lose(view, "busan-1");
        view.nodes.push(Node {
            name: "busan-2".to_owned(),
            gone_ms: Some(41_000),
            ..view.nodes[1].clone()
        });
    };
    let says = ["2 of 4 nodes do not answer: all of data center busan (gone for 41 s); losing"];
    check(burnt, Verdict::Degraded, &says);
}

#[test]
fn nodes_without_which_there_is_no_quorum_are_not_called_borne() {
    let mut view = whole_view();
    lose(&mut view, "busan-1");
    assert!(Judged::view(&view).problems.iter().all(|one| !one.stops));
    lose(&mut view, "tokyo-1");
    assert!(Judged::view(&view).problems.iter().all(|one| one.stops));
}

#[test]
fn without_a_quorum_nothing_is_served_whoever_called_itself_leader() {
    check(
        |view| {
            lose(view, "busan-1");
            lose(view, "tokyo-1");
        },
        Verdict::NotServing,
        &[
            "NOT SERVING: 3 of 3 shards are not served (meta, 1, 2): no quorum",
            "2 of 3 nodes do not answer",
        ],
    );
    let electing = |view: &mut View| view.shards[2].leader = None;
    let says = ["1 of 3 shards are not served (2): nobody leads them"];
    check(electing, Verdict::NotServing, &says);
}

#[test]
fn full_disks_are_borne_while_another_node_can_lead() {
    let full = |nodes: &'static [usize]| {
        move |view: &mut View| {
            for at in nodes {
                view.nodes[*at].disk_reserve_reached = true;
            }
        }
    };
    let one = ["the disk of busan-1 is full up to its reserve"];
    check(full(&[1]), Verdict::Degraded, &one);
    let two = ["busan-1, tokyo-1", "every append is refused (DISK_FULL)"];
    check(full(&[1, 2]), Verdict::NotServing, &two);
    let all = [
        "busan-1, seoul-1, tokyo-1",
        "every append is refused (DISK_FULL)",
    ];
    check(full(&[0, 1, 2]), Verdict::NotServing, &all);
    let rest = |view: &mut View| {
        lose(view, "busan-1");
        full(&[0, 2])(view);
    };
    check(rest, Verdict::NotServing, &["every append is refused"]);
}

#[test]
fn replicas_that_are_broken_missing_or_on_their_way_are_degraded() {
    let broken = |view: &mut View| {
        let replica = &mut view.shards[2].replicas[0];
        replica.broken_reason = Some("raftdb/4.sst: checksum".to_owned());
    };
    let says = ["1 replica is broken and stopped: shard 2 on seoul-1"];
    check(broken, Verdict::Degraded, &says);
    let missing = |view: &mut View| view.shards[2].replicas[0].state = "missing".to_owned();
    let says = ["1 replica is not where or as they should be: 2 on seoul-1"];
    check(missing, Verdict::Degraded, &says);
    let unrestored = |view: &mut View| {
        view.unrestored.push(crate::sight::view::Unrestored {
            shard: 0,
            node: "tokyo-1".to_owned(),
            why: "osaka-1 is learning it".to_owned(),
        });
    };
    check(unrestored, Verdict::Degraded, &["meta on tokyo-1"]);
}

#[test]
fn a_clock_that_is_off_is_told_by_name() {
    let ahead = |view: &mut View| view.nodes[1].clock_off_ms = 7 * 86_400_000 + 250;
    let says = ["the clock of busan-1 is 7days ahead of the others': it leads nothing"];
    check(ahead, Verdict::Degraded, &says);
    let behind = |view: &mut View| view.nodes[0].clock_off_ms = -1_500;
    let says = ["the clock of seoul-1 is 1s 500ms behind the others'"];
    check(behind, Verdict::Degraded, &says);
}

#[test]
fn a_cluster_that_forms_or_is_silent_does_not_serve() {
    let forming = |view: &mut View| {
        view.map_epoch = 0;
        view.nodes.truncate(1);
    };
    let says = ["the cluster is forming: 1 of 3 nodes have joined"];
    check(forming, Verdict::NotServing, &says);
    let silent = Judged::silent("asked a:1");
    assert_eq!(silent.verdict.exit_code(), 1);
    assert_eq!(silent.sentence, "NOT SERVING: no node answers; asked a:1");
}

#[test]
fn long_lists_are_cut_and_times_are_rounded() {
    let names: Vec<String> = (0..9).map(|n| format!("n{n}")).collect();
    assert_eq!(list(&names), "n0, n1, n2, n3, n4, n5 and 3 more");
    assert_eq!(
        [span(1_999), span(130_000), span(7_300_000)],
        ["1 s", "2 min", "2 h"]
    );
}
