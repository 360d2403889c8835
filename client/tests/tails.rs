//! Tails through failures: every message once and in order, and resuming from a cursor anywhere.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "a test fails where it cannot go on, and its numbers are small"
)]

extern crate firebreak_client as client;

mod support;

use std::time::Duration;

use client::{Event, From, Message, Tail};
use support::net::Link;
use support::{Cluster, Fault, ROOM, with_seeds};

const SECOND: Duration = Duration::from_secs(1);

async fn messages(tail: &mut Tail, count: usize) -> Vec<u64> {
    let mut seqs = Vec::new();
    while seqs.len() < count {
        if let Event::Message(message) = tail.next().await.unwrap().unwrap() {
            seqs.push(message.seq);
        }
    }
    seqs
}

#[tokio::test(start_paused = true)]
async fn a_tail_gives_what_is_there_then_says_so_then_what_is_new() {
    let cluster = Cluster::start(1, 1).await;
    let client = cluster.client(3, 10 * SECOND);
    for _ in 0..3 {
        client
            .append(ROOM, Message::text("ann", "x"))
            .await
            .unwrap();
    }
    let mut tail = client.tail(ROOM, From::Seq(2));
    assert_eq!(messages(&mut tail, 2).await, [2, 3]);
    assert_eq!(
        tail.next().await.unwrap().unwrap(),
        Event::CaughtUp { last_seq: 3 }
    );
    client
        .append(ROOM, Message::text("ann", "new"))
        .await
        .unwrap();
    assert_eq!(messages(&mut tail, 1).await, [4]);
    assert_eq!(tail.next_seq(), Some(5));
    let mut resumed = cluster
        .client(4, 10 * SECOND)
        .tail(ROOM, From::Cursor(tail.cursor().to_owned()));
    client
        .append(ROOM, Message::text("ann", "newer"))
        .await
        .unwrap();
    assert_eq!(messages(&mut resumed, 1).await, [5]);
}

#[tokio::test(start_paused = true)]
async fn a_tail_of_what_is_new_misses_nothing_when_its_first_stream_breaks() {
    let cluster = Cluster::start(1, 1).await;
    let client = cluster.client(3, 10 * SECOND);
    client
        .append(ROOM, Message::text("ann", "old"))
        .await
        .unwrap();
    let mut tail = client.tail(ROOM, From::New);
    assert_eq!(
        tail.next().await.unwrap().unwrap(),
        Event::CaughtUp { last_seq: 1 }
    );
    for node in &cluster.nodes {
        cluster.net.cut(&node.address);
    }
    client
        .append(ROOM, Message::text("ann", "meanwhile"))
        .await
        .unwrap();
    assert_eq!(messages(&mut tail, 1).await, [2]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_leaves_a_message_out_or_repeats_one_is_corrected() {
    for fault in [Fault::DoAndRefuse, Fault::Refuse, Fault::Reset, Fault::Cut] {
        let cluster = Cluster::start(1, 1).await;
        let client = cluster.client(3, 10 * SECOND);
        for _ in 0..10 {
            client
                .append(ROOM, Message::text("ann", "x"))
                .await
                .unwrap();
        }
        let mut tail = client.tail(ROOM, From::Seq(1));
        assert_eq!(messages(&mut tail, 1).await, [1]);
        cluster.order(&[fault, fault]);
        assert_eq!(
            messages(&mut tail, 9).await,
            (2..=10).collect::<Vec<_>>(),
            "{fault:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_exist_ends_the_tail_with_an_error() {
    let cluster = Cluster::start(1, 1).await;
    let client = cluster.client(3, 10 * SECOND);
    for from in [From::New, From::Seq(1)] {
        let mut tail = client.tail(ROOM, from);
        assert!(tail.next().await.unwrap().unwrap_err().is_not_found());
        assert!(tail.next().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_is_not_there_ends_the_tail_at_the_deadline() {
    let cluster = Cluster::start(1, 1).await;
    let client = cluster.client(3, 3 * SECOND);
    for node in &cluster.nodes {
        cluster.net.set(&node.address, Link::Down);
    }
    let started = tokio::time::Instant::now();
    let error = client
        .tail(ROOM, From::Seq(1))
        .next()
        .await
        .unwrap()
        .unwrap_err();
    assert!(
        error.retryable() && started.elapsed() < 4 * SECOND,
        "{error}"
    );
}

#[test]
fn any_mix_of_failures_gives_every_message_once_and_in_order() {
    const COUNT: u64 = 150;
    let name = "any_mix_of_failures_gives_every_message_once_and_in_order";
    with_seeds(name, 40, |seed| async move {
        let cluster = Cluster::start(seed, 2).await;
        let client = cluster.client(seed, 90 * SECOND);
        client
            .append(ROOM, Message::text("ann", "first"))
            .await
            .unwrap();
        cluster.trouble(100 + (seed as u32 % 5) * 50, 20 * SECOND, 10);
        let writer = {
            let (client, cluster) = (client.clone(), cluster.clone());
            tokio::spawn(async move {
                for number in 1..COUNT {
                    client
                        .append(ROOM, Message::text("ann", number.to_string()))
                        .await
                        .unwrap();
                    if cluster.number(10) == 0 && cluster.troubled() {
                        let node = cluster.nodes[cluster.number(6)].address.clone();
                        cluster.net.set(&node, Link::Silent);
                        let net = cluster.net.clone();
                        tokio::spawn(async move {
                            tokio::time::sleep(SECOND).await;
                            net.set(&node, Link::Up);
                        });
                    }
                }
            })
        };
        let follower = cluster.client(seed + 1_000, 90 * SECOND);
        let mut tail = follower.tail(ROOM, From::Seq(1));
        assert_eq!(
            messages(&mut tail, COUNT as usize).await,
            (1..=COUNT).collect::<Vec<_>>()
        );
        writer.await.unwrap();
    });
}
