//! Processes are killed under load: D, O, E, H and G must hold. Everything waits for what nodes and
//! clients say; no time below is an expectation, only a limit.

use std::collections::BTreeSet;
use std::time::Duration;

use client::{Level, ListOptions};
use firebreak::cluster::Cluster;
use firebreak_tests::{LIMIT, Load, assert_identical, busiest_leader, client, client_of, cluster};

use proto::v1;
use proto::v1::messages_client::MessagesClient;
use tonic::Request;
use tonic_types::StatusExt as _;

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

/// Appends one message through `node` alone, with one attempt; the seq, or why not.
async fn append_at(cluster: &Cluster, node: usize, room: &str, id: &str) -> Result<u64, String> {
    let message = v1::Message {
        sender: "ann".into(),
        client_message_id: id.into(),
        r#type: "text".into(),
        ..v1::Message::default()
    };
    let mut request = Request::new(v1::AppendMessageRequest {
        parent: room.into(),
        message: Some(message),
        ..v1::AppendMessageRequest::default()
    });
    request.set_timeout(Duration::from_secs(3));
    let mut client = MessagesClient::new(cluster.nodes()[node].channel());
    match client.append_message(request).await {
        Ok(answer) => Ok(answer.into_inner().message.unwrap_or_default().seq),
        Err(status) => Err(status
            .get_details_error_info()
            .map_or_else(|| status.to_string(), |info| info.reason)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_appends_are_refused_as_such_and_local_reads_go_on() {
    let (_place, mut cluster) = cluster(1).await;
    let left = busiest_leader(&cluster).await;
    let others: Vec<usize> = (0..3).filter(|node| *node != left).collect();
    let rooms: Vec<String> = (0..8)
        .map(|room| format!("tenants/t/conversations/room-{room}"))
        .collect();
    for room in &rooms {
        assert_eq!(append_at(&cluster, left, room, "1").await, Ok(1));
    }
    cluster.kill(&others).unwrap();
    let mut reasons = BTreeSet::new();
    for room in &rooms {
        let refused = append_at(&cluster, left, room, "2").await;
        reasons.insert(refused.expect_err("nothing is acknowledged without a quorum"));
    }
    // Unknown where it led: it has them in its log, and they may be committed when others return.
    reasons.remove("OUTCOME_UNKNOWN");
    assert_eq!(reasons, BTreeSet::from(["NO_QUORUM".to_owned()]));
    let local = ListOptions {
        level: Level::Local,
        ..ListOptions::default()
    };
    for room in &rooms {
        let page = client_of(&cluster, left).list(room, &local).await.unwrap();
        let seqs: Vec<u64> = page.messages.iter().map(|message| message.seq).collect();
        assert_eq!(seqs, [1], "{room}");
    }
    for &node in &others {
        cluster.start_node(node).unwrap();
    }
    cluster.wait_ready(LIMIT).await.unwrap();
    for room in &rooms {
        assert_eq!(append_at(&cluster, others[0], room, "2").await, Ok(2));
        assert_eq!(append_at(&cluster, others[1], room, "1").await, Ok(1));
    }
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
