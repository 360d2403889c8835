//! Unary calls through failures: one effect, within the deadline, or an error that says what is known.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "a test fails where it cannot go on, and its numbers are small"
)]

extern crate firebreak_client as client;

mod support;

use std::time::Duration;

use client::{AppendOptions, Client, Code, Error, Level, ListOptions, Message};
use support::net::Link;
use support::{Cluster, Fault, ROOM, room, with_seeds};
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn an_append_has_one_effect_whatever_goes_wrong_on_the_way() {
    let every = [
        Fault::Refuse,
        Fault::DoAndRefuse,
        Fault::Cut,
        Fault::DoAndCut,
        Fault::Slow(3 * SECOND),
        Fault::Reset,
    ];
    for (number, fault) in every.into_iter().enumerate() {
        let cluster = Cluster::start(1, 1).await;
        let client = cluster.client(number as u64, 10 * SECOND);
        cluster.order(&[fault, fault]);
        let appended = client
            .append(ROOM, Message::text("ann", "hi"))
            .await
            .unwrap();
        assert_eq!(appended.seq, 1, "{fault:?}");
        assert_eq!(appended.attempts, 3, "{fault:?}");
        let done = matches!(fault, Fault::DoAndRefuse | Fault::DoAndCut);
        assert_eq!(appended.deduplicated, done, "{fault:?}");
        // The slow ones are done after all, and leave no second message.
        tokio::time::sleep(5 * SECOND).await;
        assert_eq!(cluster.bodies(ROOM), ["hi"], "{fault:?}");
        assert_eq!(client.stats().retries, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_answer_says_that_it_goes_away_is_called_no_more() {
    let mut answers = 0;
    for place in 0..3 {
        let cluster = Cluster::start(1, 1).await;
        let client = cluster.client(5, 10 * SECOND);
        client
            .append(ROOM, Message::text("ann", "hi"))
            .await
            .unwrap();
        let node = &cluster.nodes[place];
        cluster.going_away.lock().insert(node.address.clone());
        let name = format!("{} ({})", node.id, node.dc);
        let mut its = 0;
        for _ in 0..40 {
            let page = client.list(ROOM, &ListOptions::default()).await.unwrap();
            its += usize::from(page.served_by == name);
            tokio::time::sleep(SECOND / 100).await;
        }
        assert!(its <= 1, "{name} answered {its} times");
        answers += its;
    }
    assert!(answers > 0, "none of the three was called");
}

#[tokio::test(start_paused = true)]
async fn a_silent_data_center_costs_one_call_a_second_and_the_next_ones_nothing() {
    let cluster = Cluster::start(1, 3).await;
    let client = cluster.client(5, 10 * SECOND);
    for _ in 0..20 {
        client
            .append(ROOM, Message::text("ann", "before"))
            .await
            .unwrap();
    }
    let used = client
        .nodes()
        .into_iter()
        .max_by_key(|node| node.latency.is_some())
        .unwrap();
    assert!(!used.dc.is_empty(), "the data centers were learnt");
    for node in cluster.nodes.iter().filter(|node| node.dc == used.dc) {
        cluster.net.set(&node.address, Link::Silent);
    }
    let slow = client
        .append(ROOM, Message::text("ann", "during"))
        .await
        .unwrap();
    assert_eq!(slow.attempts, 2);
    assert!(
        slow.latency < Duration::from_millis(1_100),
        "{:?}",
        slow.latency
    );
    for _ in 0..100 {
        let next = client
            .append(ROOM, Message::text("ann", "after"))
            .await
            .unwrap();
        assert!(
            next.latency < Duration::from_millis(50),
            "{:?}",
            next.latency
        );
        tokio::time::sleep(SECOND / 10).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_read_is_asked_of_a_second_node_and_a_slow_append_is_not() {
    let cluster = Cluster::start(1, 1).await;
    let client = cluster.client(5, 10 * SECOND);
    let hi = || Message::text("ann", "hi");
    client.append(ROOM, hi()).await.unwrap();
    let page = ListOptions::default();
    for _ in 0..40 {
        client.list(ROOM, &page).await.unwrap();
    }
    assert_eq!(client.stats().hedges, 0, "reads take 3 ms at most");
    cluster.order(&[Fault::Slow(SECOND)]);
    let began = Instant::now();
    client.list(ROOM, &page).await.unwrap();
    assert!(began.elapsed() < SECOND / 10, "{:?}", began.elapsed());
    assert_eq!(client.stats().hedges, 1);
    cluster.order(&[Fault::Slow(SECOND / 2)]);
    let slow = client.append(ROOM, hi()).await.unwrap();
    assert!(slow.latency >= SECOND / 2 && slow.attempts == 1, "{slow:?}");
    assert_eq!(client.stats().hedges, 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_node_is_used_again_when_a_probe_finds_it() {
    let cluster = Cluster::start(1, 1).await;
    let client = cluster.client(5, 10 * SECOND);
    let lost = |client: &Client| client.nodes().iter().filter(|node| node.lost).count();
    for node in &cluster.nodes[..2] {
        cluster.net.set(&node.address, Link::Down);
    }
    for _ in 0..3 {
        // All calls end at the one that is left.
        client
            .append(ROOM, Message::text("ann", "x"))
            .await
            .unwrap();
    }
    assert!(lost(&client) >= 1);
    for node in &cluster.nodes[..2] {
        cluster.net.set(&node.address, Link::Up);
    }
    tokio::time::sleep(6 * SECOND).await;
    assert_eq!(lost(&client), 0);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passes_says_whether_the_outcome_is_known() {
    let cluster = Cluster::start(1, 1).await;
    let client = cluster.client(5, 2 * SECOND);
    for node in &cluster.nodes {
        cluster.net.set(&node.address, Link::Down);
    }
    let started = Instant::now();
    let error = client
        .append(ROOM, Message::text("ann", "x"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert!(!error.outcome_unknown(), "it was never sent: {error}");
    assert!(started.elapsed() <= 2 * SECOND);

    for node in &cluster.nodes {
        cluster.net.set(&node.address, Link::Up);
    }
    tokio::time::sleep(6 * SECOND).await;
    cluster.order(&[Fault::Slow(8 * SECOND); 10]);
    let error = client
        .append(ROOM, Message::text("ann", "y").id("y"))
        .await
        .unwrap_err();
    assert!(error.outcome_unknown() && error.retryable(), "{error}");
    let error = client
        .list(ROOM, &ListOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert!(!error.outcome_unknown(), "a read leaves nothing: {error}");
    cluster.script.lock().clear();
    tokio::time::sleep(10 * SECOND).await;
    let again = client
        .append(ROOM, Message::text("ann", "y").id("y"))
        .await
        .unwrap();
    assert!(again.deduplicated);
    assert_eq!(cluster.bodies(ROOM), ["y"]);
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_refuses_is_told_at_once_with_its_reason() {
    let cluster = Cluster::start(1, 1).await;
    let client = cluster.client(5, 10 * SECOND);
    client
        .append(ROOM, Message::text("ann", "x").id("1"))
        .await
        .unwrap();
    let error = client
        .append(ROOM, Message::text("ann", "other").id("1"))
        .await
        .unwrap_err();
    assert_eq!(error.reason(), Some("CLIENT_MESSAGE_ID_REUSED"));
    assert!(!error.retryable() && !error.outcome_unknown());
    let expect = |seq| AppendOptions {
        expected_last_seq: Some(seq),
        ..AppendOptions::default()
    };
    let error = client
        .append_with(ROOM, Message::text("ann", "z"), expect(7))
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.reason()),
        (Code::Aborted, Some("SEQ_MISMATCH"))
    );
    let appended = client
        .append_with(ROOM, Message::text("ann", "z"), expect(1))
        .await
        .unwrap();
    assert_eq!(appended.seq, 2);
    assert_eq!(client.stats().retries, 0);
}

#[tokio::test(start_paused = true)]
async fn a_batch_goes_in_once_and_in_order() {
    let cluster = Cluster::start(1, 1).await;
    let client = cluster.client(5, 10 * SECOND);
    cluster.order(&[Fault::DoAndCut]);
    let batch = (0..5)
        .map(|number| Message::text("ann", number.to_string()))
        .collect();
    let done = client
        .append_batch(ROOM, batch, AppendOptions::default())
        .await
        .unwrap();
    assert_eq!(
        done.iter().map(|one| one.seq).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5]
    );
    assert_eq!(cluster.bodies(ROOM), ["0", "1", "2", "3", "4"]);
}

#[tokio::test(start_paused = true)]
async fn pages_follow_each_other_in_both_directions_through_failures() {
    let cluster = Cluster::start(1, 1).await;
    let client = cluster.client(5, 10 * SECOND);
    for number in 1..=25 {
        client
            .append(ROOM, Message::text("ann", number.to_string()))
            .await
            .unwrap();
    }
    for descending in [false, true] {
        cluster.order(&[Fault::Cut, Fault::Refuse]);
        let options = ListOptions {
            page_size: 10,
            descending,
            ..ListOptions::default()
        };
        let all = client.pages(ROOM, options).collect().await.unwrap();
        let mut expect: Vec<u64> = (1..=25).collect();
        if descending {
            expect.reverse();
        }
        assert_eq!(all.iter().map(|one| one.seq).collect::<Vec<_>>(), expect);
    }
    let missing = client
        .list(&room(9), &ListOptions::default())
        .await
        .unwrap_err();
    assert!(missing.is_not_found());
    let head = client.get_conversation(ROOM, &Level::Local).await.unwrap();
    assert_eq!(head.last_seq, 25);
}

#[tokio::test(start_paused = true)]
async fn creating_again_after_a_lost_answer_is_not_told_as_a_clash() {
    let cluster = Cluster::start(1, 1).await;
    let client = cluster.client(5, 10 * SECOND);
    cluster.order(&[Fault::DoAndCut]);
    let created = client
        .create_conversation("t", "room", Default::default(), "")
        .await
        .unwrap();
    assert_eq!(created.name, ROOM);
    let clash = client
        .create_conversation("t", "room", Default::default(), "")
        .await
        .unwrap_err();
    assert_eq!(clash.reason(), Some("ALREADY_EXISTS"));
}

#[tokio::test(start_paused = true)]
async fn every_node_is_asked_and_a_silent_one_is_told_as_such() {
    let cluster = Cluster::start(1, 1).await;
    let client = cluster.client(5, 10 * SECOND);
    cluster.net.set(&cluster.nodes[1].address, Link::Silent);
    let reports = client.status_all(SECOND).await.unwrap();
    assert_eq!(reports.len(), 3);
    assert_eq!(reports[0].status.as_ref().unwrap().node_id, 1);
    assert!(matches!(reports[1].status, Err(Error::Refused(_))));
    let hashes = client
        .hash_replica(&cluster.nodes[2].address, 4)
        .await
        .unwrap();
    assert_eq!((hashes.applied_index, hashes.conversations.len()), (4, 2));
}

#[tokio::test(start_paused = true)]
async fn what_a_recorder_has_is_taken_page_by_page_and_a_silent_node_is_left_at_once() {
    let cluster = Cluster::start(1, 1).await;
    let client = cluster.client(5, 10 * SECOND);
    let asked = client.events_of(&cluster.nodes[0].address, (1, 2), SECOND);
    let (pages, broke) = asked.await.unwrap();
    assert!(broke.is_none());
    let next: Vec<&str> = pages.iter().map(|page| page.next.as_str()).collect();
    assert_eq!(next, ["1:10", "1:20", "1:30", "1:40"]);
    cluster.net.set(&cluster.nodes[1].address, Link::Silent);
    let began = Instant::now();
    let asked = client.events_of(&cluster.nodes[1].address, (1, 2), SECOND);
    assert!(matches!(asked.await, Err(Error::Refused(_))));
    assert!(began.elapsed() <= 2 * SECOND);
}

#[test]
fn any_mix_of_failures_gives_each_call_one_effect() {
    with_seeds(
        "any_mix_of_failures_gives_each_call_one_effect",
        30,
        |seed| async move {
            let cluster = Cluster::start(seed, 2).await;
            let client = cluster.client(seed, 60 * SECOND);
            cluster.trouble(400, 20 * SECOND, 20);
            let callers = (0..8).map(|caller| {
                let (client, cluster) = (client.clone(), cluster.clone());
                async move {
                    let parent = room(caller);
                    for number in 0..20 {
                        if cluster.troubled() && cluster.number(20) == 0 {
                            let node = cluster.nodes[cluster.number(6)].address.clone();
                            let link = [Link::Silent, Link::Down][cluster.number(2)];
                            cluster.net.set(&node, link);
                            let net = cluster.net.clone();
                            tokio::spawn(async move {
                                tokio::time::sleep(2 * SECOND).await;
                                net.set(&node, Link::Up);
                            });
                        }
                        let sent = client.append(&parent, Message::text("ann", number.to_string()));
                        assert_eq!(sent.await.unwrap().seq, number + 1);
                    }
                }
            });
            futures::future::join_all(callers).await;
            tokio::time::sleep(5 * SECOND).await;
            for caller in 0..8 {
                let expect: Vec<String> = (0..20).map(|number| number.to_string()).collect();
                assert_eq!(cluster.bodies(&room(caller)), expect);
            }
            assert!(client.stats().retries > 0);
        },
    );
}
