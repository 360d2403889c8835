//! What is lost, and what is stale: D and S.

use super::*;

#[test]
fn what_is_lost_breaks_acked_or_observed_durable() {
    let short = |it: &mut Setting| it.history.finals[2].messages.truncate(4);
    rejects(
        "acked-durable",
        short,
        "room 1: seq 5, bob/b2 #00000000000000b2 (append of bob/b2 by session 2 at client-seoul, \
         100.000 ms to 110.000 ms, acknowledged as 5), is missing, the last being 4, on tokyo-1 \
         at the end, LOCAL; so in 1 of 3 finals",
    );
    rejects(
        "observed-durable",
        short,
        "room 1: seq 5, bob/b2 #00000000000000b2 (tail of session 7 at client-busan from 2, \
         111.000 ms), is missing, the last being 4, on tokyo-1 at the end, LOCAL; so in 1 of 3 \
         finals",
    );
    let unacked = |it: &mut Setting| {
        it.history
            .finals
            .iter_mut()
            .for_each(|last| last.messages.truncate(3))
    };
    rejects(
        "observed-durable",
        unacked,
        "room 1: seq 4, ann/m3 #00000000000000a3 (tail of session 7 at client-busan from 2, \
         65.000 ms), is missing, the last being 3, on seoul-1 at the end, LINEARIZABLE; so in 3 \
         of 3 finals",
    );
    rejects(
        "acked-durable",
        |it| it.history.finals[0].messages[2] = seen(3, M4),
        "room 1: seq 3, ann/m2 #00000000000000a2 (append of ann/m2 by session 1 at client-busan, \
         20.000 ms to 30.000 ms, acknowledged as 3), is ann/m4 #00000000000000a4 on seoul-1 at \
         the end, LINEARIZABLE; so in 1 of 3 finals",
    );
    rejects(
        "acked-durable",
        |it| drop(it.history.finals[1].messages.remove(1)),
        "room 1: seq 2, bob/b1 #00000000000000b1 (append of bob/b1 by session 2 at client-seoul, \
         5.000 ms to 18.000 ms, acknowledged as 2), is missing, the last being 5, on busan-1 at \
         the end, LOCAL; so in 1 of 3 finals",
    );
    // A stale read of a replica that never came to rest is behind; what it has must be right.
    let restless = |it: &mut Setting| {
        short(it);
        it.observed.unsettled = Some("shard 1 differs".to_owned());
    };
    let mut setting = good();
    restless(&mut setting);
    assert_eq!(setting.of("acked-durable").broken, []);
    rejects(
        "acked-durable",
        |it| {
            restless(it);
            it.history.finals[2].messages[0].body = 1
        },
        "room 1: seq 1, ann/m1 #00000000000000a1 (append of ann/m1 by session 1 at client-busan, \
         0.000 ms to 10.000 ms, acknowledged as 1), is ann/m1 #0000000000000001 on tokyo-1 at \
         the end, LOCAL; so in 1 of 3 finals",
    );
    rejects(
        "acked-durable",
        |it| {
            restless(it);
            it.history.finals[0].messages.truncate(4)
        },
        "room 1: seq 5, bob/b2 #00000000000000b2 (append of bob/b2 by session 2 at client-seoul, \
         100.000 ms to 110.000 ms, acknowledged as 5), is missing, the last being 4, on seoul-1 \
         at the end, LINEARIZABLE; so in 1 of 3 finals",
    );
}

#[test]
fn an_acknowledgement_without_a_quorum_or_a_disk_that_forgets_is_told() {
    let cover = |it: &mut Setting| it.observed.covers[0].hosts.truncate(1);
    rejects(
        "quorum-at-ack",
        cover,
        "room 1: append of ann/m2 by session 1 at client-busan, 20.000 ms to 30.000 ms, \
         acknowledged as 3, when it was synced on [busan-1] in [busan, seoul] only; a quorum is \
         2, over 2 data centers",
    );
    rejects(
        "quorum-at-ack",
        |it| it.observed.covers[0].dcs.truncate(1),
        "room 1: append of ann/m2 by session 1 at client-busan, 20.000 ms to 30.000 ms, \
         acknowledged as 3, when it was synced on [busan-1, seoul-1] in [busan] only; a quorum \
         is 2, over 2 data centers",
    );
    // Where there is one data center, it is enough.
    accepts(|it| {
        it.plan.topology.dcs.truncate(1);
        it.observed.covers[0].dcs.truncate(1);
    });
    let forgets = |it: &mut Setting| {
        it.observed
            .regressed
            .push("seoul-1: entry 7 is gone".to_owned())
    };
    rejects("disk-never-regresses", forgets, "seoul-1: entry 7 is gone");
}

#[test]
fn a_read_older_than_it_may_be_or_says_breaks_a_promise_of_staleness() {
    rejects(
        "bounded-staleness",
        |it| *page_of(it, 4) = page(&log(), 2, 3, 10, Some(30)),
        "room 1: append of ann/m2 by session 1 at client-busan, 20.000 ms to 30.000 ms, \
         acknowledged as 3, is missed by BOUNDED 50 ms read by session 6 at client-tokyo, \
         121.000 ms to 124.000 ms, last_seq 2 from n1",
    );
    rejects(
        "bounded-staleness",
        |it| page_of(it, 4).age_ms = Some(51),
        "room 1: an age of 51 ms is admitted by BOUNDED 50 ms read by session 6 at client-tokyo, \
         121.000 ms to 124.000 ms, last_seq 4 from n1",
    );
    rejects(
        "age-honest",
        |it| page_of(it, 4).age_ms = Some(9),
        "room 1: append of bob/b2 by session 2 at client-seoul, 100.000 ms to 110.000 ms, \
         acknowledged as 5, is missed by BOUNDED 50 ms read by session 6 at client-tokyo, \
         121.000 ms to 124.000 ms, last_seq 4 from n1, age 9 ms",
    );
    rejects(
        "age-honest",
        |it| *page_of(it, 2) = page(&log(), 0, 0, 10, Some(12)),
        "room 1: append of ann/m1 by session 1 at client-busan, 0.000 ms to 10.000 ms, \
         acknowledged as 1, is missed by LOCAL read by session 5 at client-tokyo, 33.000 ms to \
         34.000 ms, last_seq 0 from n1, age 12 ms",
    );
    // An age of 10 ms may be one of 10.9; on a clock that runs at half the speed, it is twice that.
    accepts(|it| page_of(it, 4).age_ms = Some(10));
    accepts(|it| {
        let hosts = vec!["tokyo-1".to_owned()];
        it.plan.events.push(event(
            0,
            Fault::ClockDrift {
                hosts,
                ppm: -500_000,
            },
        ));
        page_of(it, 4).age_ms = Some(5);
    });
}

#[test]
fn a_session_that_forgets_breaks_session() {
    rejects(
        "session",
        |it| *page_of(it, 1) = page(&log(), 2, 1, 2, None),
        "room 1: append of ann/m2 by session 1 at client-busan, 20.000 ms to 30.000 ms, \
         acknowledged as 3, then SESSION read by session 1 at client-tokyo, 32.000 ms to 36.000 \
         ms, last_seq 2 from n1",
    );
    rejects(
        "session",
        |it| *page_of(it, 5) = page(&log(), 2, 1, 2, None),
        "room 1: append of ann/m2 by session 1 at client-busan, 20.000 ms to 30.000 ms, \
         acknowledged as 3, then SESSION read by session 1 at client-tokyo, 126.000 ms to \
         130.000 ms, last_seq 2 from n1",
    );
    rejects(
        "session",
        |it| *page_of(it, 3) = page(&log(), 2, 1, 2, None),
        "room 1: LINEARIZABLE read by session 3 at client-tokyo, 31.000 ms to 35.000 ms, \
         last_seq 3 from n1, then LINEARIZABLE read by session 3 at client-tokyo, 120.000 ms to \
         125.000 ms, last_seq 2 from n1",
    );
    // An operation that begins as another ends comes behind it; at one instant neither does.
    rejects(
        "session",
        |it| {
            it.history.reads[1].invoked_us = us(30);
            *page_of(it, 1) = page(&log(), 2, 1, 2, None);
        },
        "room 1: append of ann/m2 by session 1 at client-busan, 20.000 ms to 30.000 ms, \
         acknowledged as 3, then SESSION read by session 1 at client-tokyo, 30.000 ms to 36.000 \
         ms, last_seq 2 from n1",
    );
    let mut setting = good();
    setting.history.reads[1] = read(1, Level::Session, (30, 30), page(&log(), 2, 1, 2, None));
    setting.history.appends[2].invoked_us = us(30);
    assert_eq!(setting.of("session").broken, []);
}
