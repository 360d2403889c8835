//! Processes are killed under load: D, O, E, H and G must hold. Everything waits for what nodes and
//! clients say; no time below is an expectation, only a limit.

use firebreak_tests::{LIMIT, Load, assert_identical, busiest_leader, client, client_of, cluster};

const SENDERS: usize = 24;

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_is_killed_under_load_and_nothing_acknowledged_is_missing() {
    let (_place, mut cluster) = cluster(1).await;
    let client = client(&cluster);
    let load = Load::start(&client, "leader", SENDERS);
    load.more(500).await;
    for _ in 0..2 {
        let leader = busiest_leader(&cluster).await;
        cluster.kill(&[leader]).unwrap();
        load.more(500).await;
        cluster.start_node(leader).unwrap();
        cluster.wait_ready(LIMIT).await.unwrap();
        load.more(500).await;
    }
    let ledger = load.stop().await;
    ledger.assert_no_call_failed();
    assert!(ledger.acked() >= 2_500);
    assert_identical(&mut cluster).await;
    for node in 0..3 {
        ledger.assert_kept(&client_of(&cluster, node)).await;
    }
    ledger.assert_stable(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_center_is_killed_under_load_and_the_others_go_on_without_a_failed_call() {
    let (_place, mut cluster) = cluster(2).await;
    let client = client(&cluster);
    let load = Load::start(&client, "dc", SENDERS);
    load.more(500).await;
    let leader = busiest_leader(&cluster).await;
    let burnt = cluster.in_dc(&cluster.nodes()[leader].dc.clone());
    cluster.kill(&burnt).unwrap();
    load.more(1_000).await;
    for &node in &burnt {
        cluster.start_node(node).unwrap();
    }
    cluster.wait_ready(LIMIT).await.unwrap();
    load.more(500).await;
    let ledger = load.stop().await;
    ledger.assert_no_call_failed();
    assert_identical(&mut cluster).await;
    ledger.assert_kept(&client_of(&cluster, burnt[0])).await;
    ledger.assert_stable(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_killed_at_once_and_comes_back_with_all_that_was_acknowledged() {
    let (_place, mut cluster) = cluster(1).await;
    for round in 0..2 {
        let client = client(&cluster);
        let load = Load::start(&client, &format!("all-{round}"), SENDERS);
        load.more(1_000).await;
        cluster.kill(&[0, 1, 2]).unwrap();
        for node in 0..3 {
            cluster.start_node(node).unwrap();
        }
        cluster.wait_ready(LIMIT).await.unwrap();
        // Senders that were waiting go on under the same ids.
        load.more(200).await;
        let ledger = load.stop().await;
        ledger.assert_no_call_failed();
        ledger.assert_kept(&client).await;
        ledger.assert_stable(&client).await;
    }
    assert_identical(&mut cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_told_to_stop_ends_well_and_no_call_fails() {
    let (_place, mut cluster) = cluster(1).await;
    let client = client(&cluster);
    let load = Load::start(&client, "stop", SENDERS);
    load.more(300).await;
    for node in 0..3 {
        let status = cluster.terminate(node, LIMIT).unwrap();
        assert_eq!(status.code(), Some(0), "{status}");
        load.more(200).await;
        cluster.start_node(node).unwrap();
        cluster.wait_ready(LIMIT).await.unwrap();
    }
    let ledger = load.stop().await;
    ledger.assert_no_call_failed();
    ledger.assert_kept(&client).await;
    assert_identical(&mut cluster).await;
}
