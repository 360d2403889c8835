//! The order in which frames go, and what waits for room.

use futures::FutureExt as _;

use super::*;
use crate::link::frame;

fn ping(sent_us: u64) -> wire::Frame {
    let ping = wire::Ping {
        sent_us,
        ..wire::Ping::default()
    };
    frame::single(0, 0, Body::Ping(ping))
}

fn call(id: u64, bytes: usize) -> wire::Frame {
    let forward = wire::Forward {
        commands: vec![vec![0; bytes].into()],
        ..wire::Forward::default()
    };
    frame::single(id, 1, Body::Forward(forward))
}

fn entries(stream: u64, bytes: usize) -> wire::Frame {
    let entry = wire::Entry {
        id: None,
        record: vec![0; bytes].into(),
        ..wire::Entry::default()
    };
    let append = wire::AppendEntries {
        entries: vec![entry],
        ..wire::AppendEntries::default()
    };
    frame::streamed(stream, 1, Some(Body::Append(append)), false)
}

/// What is taken at once, as kind and number.
fn taken(outbox: &Outbox) -> Vec<(char, u64)> {
    let frames = outbox.take(|| Some(ping(9))).now_or_never().flatten();
    let told = |frame: wire::Frame| match frame.body {
        Some(Body::Ping(ping)) => ('p', ping.sent_us),
        Some(Body::Forward(_)) => ('c', frame.id),
        Some(Body::Append(_)) => ('e', frame.stream),
        _ => ('?', 0),
    };
    frames.unwrap_or_default().into_iter().map(told).collect()
}

#[test]
fn control_goes_in_front_of_calls_and_entries_which_keep_their_order() {
    let outbox = Outbox::default();
    outbox.put(call(1, 10)).unwrap();
    outbox
        .put_entries(entries(2, 10), Wait::No)
        .now_or_never()
        .unwrap()
        .unwrap();
    outbox
        .put_entries(entries(3, 10), Wait::Yes)
        .now_or_never()
        .unwrap()
        .unwrap();
    outbox.put(call(4, 10)).unwrap();
    outbox.put(ping(5)).unwrap();
    assert_eq!(
        taken(&outbox),
        [('p', 5), ('c', 1), ('e', 2), ('e', 3), ('c', 4)]
    );
    assert_eq!(taken(&outbox), []);
}

#[test]
fn what_can_wait_does_so_until_what_was_sent_has_arrived_and_nothing_else_waits_with_it() {
    let outbox = Outbox::default();
    let bulk = |stream| outbox.put_entries(entries(stream, 40_000), Wait::Yes);
    bulk(1).now_or_never().unwrap().unwrap();
    let mut second = std::pin::pin!(bulk(2));
    assert!(second.as_mut().now_or_never().is_none());
    outbox.put(call(3, 10)).unwrap();
    assert_eq!(taken(&outbox), [('e', 1), ('c', 3), ('p', 9)]);
    assert!(second.as_mut().now_or_never().is_none());
    outbox.answered(9, Duration::from_millis(10), Duration::ZERO);
    second.now_or_never().unwrap().unwrap();
    assert_eq!(taken(&outbox), [('e', 2), ('p', 9)]);
}

#[test]
fn a_full_line_takes_control_only() {
    let outbox = Outbox::default();
    for id in 1..=5 {
        outbox.put(call(id, 300_000)).unwrap();
    }
    let mut sent = Vec::new();
    for _ in 0..5 {
        sent.extend(taken(&outbox).into_iter().filter(|(kind, _)| *kind == 'c'));
    }
    assert_eq!(sent, [('c', 1), ('c', 2), ('c', 3)]);
    outbox.put(ping(7)).unwrap();
    assert_eq!(taken(&outbox)[0], ('p', 7));
    outbox.answered(9, Duration::from_millis(10), Duration::ZERO);
    assert_eq!(taken(&outbox)[0], ('c', 4));
}

#[test]
fn calls_beyond_the_bound_are_refused_and_nothing_goes_into_one_that_is_closed() {
    let outbox = Outbox::default();
    let fit = limits::LINK_QUEUE_BYTES_MAX / 1_048_576;
    for id in 0..fit as u64 - 1 {
        outbox.put(call(id, 1_048_576)).unwrap();
    }
    assert_eq!(outbox.put(call(99, 1_048_576)), Err(Closed));
    let mut waits = std::pin::pin!(outbox.put_entries(entries(1, 10), Wait::No));
    assert!(waits.as_mut().now_or_never().is_none());
    outbox.put(ping(1)).unwrap();
    outbox.close();
    assert_eq!(waits.now_or_never(), Some(Err(Closed)));
    assert_eq!(outbox.put(ping(1)), Err(Closed));
    assert_eq!(taken(&outbox), []);
}

#[test]
fn what_stood_before_an_answered_ping_has_arrived() {
    let outbox = Outbox::default();
    let put = |stream| {
        outbox
            .put_entries(entries(stream, 10), Wait::No)
            .now_or_never()
    };
    let first = put(1).unwrap().unwrap();
    taken(&outbox);
    outbox.put(ping(3)).unwrap();
    let second = put(2).unwrap().unwrap();
    taken(&outbox);
    assert!(!outbox.has_arrived(first));
    outbox.answered(3, Duration::from_millis(10), Duration::ZERO);
    assert!(outbox.has_arrived(first) && !outbox.has_arrived(second));
}
