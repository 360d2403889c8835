//! Streams of appends through failures: every message once, in order within its conversation.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "a test fails where it cannot go on, and its numbers are small"
)]

extern crate firebreak_client as client;

mod support;

use std::time::Duration;

use client::{AppendStream, Code, Message, StreamOptions};
use support::net::Link;
use support::{Cluster, Fault, ROOM, room, with_seeds};
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

async fn enqueue(stream: &AppendStream, parent: &str, count: usize) -> Vec<client::Ack> {
    let mut acks = Vec::new();
    for number in 0..count {
        acks.push(
            stream
                .enqueue(parent, Message::text("ann", number.to_string()))
                .await,
        );
    }
    acks
}

#[tokio::test(start_paused = true)]
async fn what_waits_goes_out_together_and_is_answered_in_order() {
    let cluster = Cluster::start(1, 1).await;
    let client = cluster.client(3, 10 * SECOND);
    let stream = client.append_stream(&StreamOptions::default());
    let acks = enqueue(&stream, ROOM, 1_000).await;
    assert_eq!(stream.unanswered(), 1_000);
    for (number, ack) in acks.into_iter().enumerate() {
        let appended = ack.await.unwrap();
        assert_eq!(appended.seq, number as u64 + 1);
        assert_eq!(appended.attempts, 1);
    }
    assert_eq!(cluster.bodies(ROOM), numbers(1_000));
    assert_eq!(stream.unanswered(), 0);
    assert_eq!((client.stats().acked, client.stats().retries), (1_000, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_goes_on_elsewhere_without_loss_or_repeat() {
    for fault in [
        Fault::Cut,
        Fault::DoAndCut,
        Fault::Reset,
        Fault::Refuse,
        Fault::DoAndRefuse,
    ] {
        let cluster = Cluster::start(1, 1).await;
        let client = cluster.client(3, 10 * SECOND);
        let stream = client.append_stream(&StreamOptions::default());
        cluster.order(&[fault, fault]);
        let acks = enqueue(&stream, ROOM, 50).await;
        for ack in acks {
            ack.await.unwrap();
        }
        assert_eq!(cluster.bodies(ROOM), numbers(50), "{fault:?}");
        assert!(client.stats().failovers >= 1, "{fault:?}");
        assert!(client.stats().retries >= 50, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_goes_away_is_left_while_it_still_serves_and_nothing_is_sent_twice() {
    let cluster = Cluster::start(1, 1).await;
    let client = cluster.client(3, 10 * SECOND);
    let stream = client.append_stream(&StreamOptions::default());
    stream.send(ROOM, Message::text("ann", "0")).await.unwrap();
    let used = client.nodes().into_iter().filter(|node| node.active > 0);
    let used: Vec<String> = used.map(|node| node.address).collect();
    cluster.going_away.lock().extend(used.iter().cloned());
    cluster.trouble(0, SECOND, 20);
    let mut acks = Vec::new();
    for number in 1..100 {
        let message = Message::text("ann", number.to_string());
        acks.push(stream.enqueue(ROOM, message).await);
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    for ack in acks {
        assert_eq!(ack.await.unwrap().attempts, 1);
    }
    assert_eq!(cluster.bodies(ROOM), numbers(100));
    assert!(client.stats().failovers >= 1);
    // Who comes later to the node finds nobody there: it is gone without anybody's noticing.
    used.iter()
        .for_each(|address| cluster.net.set(address, Link::Down));
    let last = stream
        .send(ROOM, Message::text("ann", "100"))
        .await
        .unwrap();
    assert_eq!((last.attempts, client.stats().retries), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn with_every_node_going_away_a_stream_stays_where_it_is() {
    let cluster = Cluster::start(1, 1).await;
    let client = cluster.client(3, 10 * SECOND);
    let all = cluster.nodes.iter().map(|node| node.address.clone());
    cluster.going_away.lock().extend(all);
    let stream = client.append_stream(&StreamOptions::default());
    for number in 0..20 {
        let message = Message::text("ann", number.to_string());
        assert_eq!(stream.send(ROOM, message).await.unwrap().attempts, 1);
    }
    assert!(client.stats().failovers <= 2, "once to each other node");
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_is_left_within_a_second() {
    let cluster = Cluster::start(1, 1).await;
    let client = cluster.client(3, 10 * SECOND);
    let stream = client.append_stream(&StreamOptions::default());
    stream.send(ROOM, Message::text("ann", "0")).await.unwrap();
    // The stream's, and whichever is asked for the cluster's nodes.
    let used = client.nodes().into_iter().filter(|node| node.active > 0);
    used.for_each(|node| cluster.net.set(&node.address, Link::Silent));
    let slow = stream.send(ROOM, Message::text("ann", "1")).await.unwrap();
    let (asked, left) = (Duration::from_millis(250), Duration::from_secs(1));
    assert!(asked < slow.latency && slow.latency < left, "{slow:?}");
    let next = stream.send(ROOM, Message::text("ann", "2")).await.unwrap();
    assert!(
        next.latency < Duration::from_millis(50),
        "{:?}",
        next.latency
    );
    assert_eq!(cluster.bodies(ROOM), numbers(3));
}

#[tokio::test(start_paused = true)]
async fn a_full_window_makes_callers_wait_and_no_more_than_it_holds_is_unanswered() {
    let cluster = Cluster::start(1, 1).await;
    let client = cluster.client(3, 10 * SECOND);
    let options = StreamOptions {
        unanswered_max: 4,
        ..StreamOptions::default()
    };
    let stream = client.append_stream(&options);
    let mut acks = Vec::new();
    for number in 0..4 {
        let message = Message::text("ann", number.to_string());
        acks.push(stream.try_enqueue(ROOM, message).ok().unwrap());
    }
    let back = stream
        .try_enqueue(ROOM, Message::text("ann", "4"))
        .err()
        .unwrap();
    assert_eq!(stream.unanswered(), 4);
    let fifth = stream.enqueue(ROOM, back).await;
    assert!(stream.unanswered() <= 4);
    for ack in acks {
        ack.await.unwrap();
    }
    assert_eq!(fifth.await.unwrap().seq, 5);
}

#[tokio::test(start_paused = true)]
async fn a_passed_deadline_ends_a_message_and_those_behind_it_go_on() {
    let cluster = Cluster::start(1, 1).await;
    let client = cluster.client(3, 10 * SECOND);
    let options = StreamOptions {
        deadline: Some(SECOND / 2),
        ..StreamOptions::default()
    };
    let hasty = client.append_stream(&options);
    for node in &cluster.nodes {
        cluster.net.set(&node.address, Link::Silent);
    }
    let started = Instant::now();
    let error = hasty
        .send(ROOM, Message::text("ann", "lost"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert!(!error.outcome_unknown(), "no node was reached: {error}");
    assert!(
        started.elapsed() <= SECOND * 6 / 10,
        "{:?}",
        started.elapsed()
    );
    for node in &cluster.nodes {
        cluster.net.set(&node.address, Link::Up);
    }
    tokio::time::sleep(5 * SECOND).await;
    cluster.order(&[Fault::Slow(3 * SECOND)]);
    let first = hasty.enqueue(ROOM, Message::text("ann", "late")).await;
    let error = first.await.unwrap_err();
    assert!(error.outcome_unknown(), "{error}");
    let next = hasty
        .send(&room(1), Message::text("ann", "next"))
        .await
        .unwrap();
    assert_eq!(next.seq, 1);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_by_rule_ends_one_message_only() {
    let cluster = Cluster::start(1, 1).await;
    let client = cluster.client(3, 10 * SECOND);
    let stream = client.append_stream(&StreamOptions::default());
    let one = stream
        .enqueue(ROOM, Message::text("ann", "a").id("1"))
        .await;
    let other = stream
        .enqueue(ROOM, Message::text("ann", "b").id("1"))
        .await;
    let third = stream
        .enqueue(ROOM, Message::text("ann", "c").id("2"))
        .await;
    assert_eq!(one.await.unwrap().seq, 1);
    assert_eq!(
        other.await.unwrap_err().reason(),
        Some("CLIENT_MESSAGE_ID_REUSED")
    );
    assert_eq!(third.await.unwrap().seq, 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_enqueued_is_sent_after_the_stream_is_dropped() {
    let cluster = Cluster::start(1, 1).await;
    let client = cluster.client(3, 10 * SECOND);
    let stream = client.append_stream(&StreamOptions::default());
    let acks = enqueue(&stream, ROOM, 20).await;
    drop(stream);
    for ack in acks {
        ack.await.unwrap();
    }
    assert_eq!(cluster.bodies(ROOM), numbers(20));
}

#[tokio::test(start_paused = true)]
async fn two_streams_use_two_nodes() {
    let cluster = Cluster::start(1, 1).await;
    let client = cluster.client(3, 10 * SECOND);
    let streams: Vec<AppendStream> = (0..3)
        .map(|_| client.append_stream(&StreamOptions::default()))
        .collect();
    for stream in &streams {
        stream.send(ROOM, Message::text("ann", "x")).await.unwrap();
    }
    assert!(
        client.nodes().iter().all(|node| node.active == 1),
        "{:?}",
        client.nodes()
    );
}

#[test]
fn any_mix_of_failures_gives_every_message_once_and_in_order() {
    const ROOMS: usize = 12;
    const EACH: usize = 60;
    let name = "any_mix_of_failures_gives_every_message_once_and_in_order";
    with_seeds(name, 60, |seed| async move {
        let cluster = Cluster::start(seed, 2).await;
        let client = cluster.client(seed, 90 * SECOND);
        cluster.trouble(50 + (seed as u32 % 8) * 60, 15 * SECOND, seed % 40);
        let streams = [1, 2].map(|_| {
            let options = StreamOptions {
                unanswered_max: 64,
                ..StreamOptions::default()
            };
            client.append_stream(&options)
        });
        let troubles = {
            let cluster = cluster.clone();
            tokio::spawn(async move {
                while cluster.troubled() {
                    let node = cluster.nodes[cluster.number(6)].address.clone();
                    match cluster.number(4) {
                        0 => cluster.net.set(&node, Link::Silent),
                        1 => cluster.net.set(&node, Link::Down),
                        2 => cluster.net.cut(&node),
                        _ => {}
                    }
                    let pause = Duration::from_millis(cluster.number(1_500) as u64);
                    tokio::time::sleep(pause).await;
                    cluster.net.set(&node, Link::Up);
                }
            })
        };
        let senders = (0..ROOMS).map(|at| {
            let (stream, cluster) = (streams[at % 2].clone(), cluster.clone());
            async move {
                let mut acks = Vec::new();
                for number in 0..EACH {
                    let message = Message::text("ann", number.to_string());
                    acks.push(stream.enqueue(&room(at), message).await);
                    if cluster.number(3) == 0 {
                        let pause = Duration::from_millis(cluster.number(400) as u64);
                        tokio::time::sleep(pause).await;
                    }
                }
                for (number, ack) in acks.into_iter().enumerate() {
                    assert_eq!(ack.await.unwrap().seq, number as u64 + 1, "room {at}");
                }
            }
        });
        futures::future::join_all(senders).await;
        troubles.await.unwrap();
        tokio::time::sleep(10 * SECOND).await;
        for at in 0..ROOMS {
            assert_eq!(cluster.bodies(&room(at)), numbers(EACH), "room {at}");
        }
        assert_eq!(client.stats().acked, (ROOMS * EACH) as u64);
    });
}
