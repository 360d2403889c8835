//! What follows what: O.

use super::*;

#[test]
fn a_time_that_no_clock_shows_or_that_goes_back_breaks_create_time() {
    let oracle = "create-time";
    let stamped = |at: usize, ms: i64| {
        move |it: &mut Setting| {
            it.history.appends[at].created_ms = Some(ms);
        }
    };
    rejects(
        oracle,
        stamped(6, 7_200_000),
        "room 1: append of bob/b2 by session 2 at client-seoul, 100.000 ms to 110.000 ms, \
         acknowledged as 5, is stamped 7197890 ms ahead",
    );
    rejects(
        oracle,
        stamped(0, -7_200_000),
        "room 1: append of ann/m1 by session 1 at client-busan, 0.000 ms to 10.000 ms, \
         acknowledged as 1, is stamped 7140000 ms behind",
    );
    rejects(
        oracle,
        stamped(2, 1_017),
        "room 1: append of bob/b1 by session 2 at client-seoul, 5.000 ms to 18.000 ms, \
         acknowledged as 2, then append of ann/m2 by session 1 at client-busan, 20.000 ms to \
         30.000 ms, acknowledged as 3, is 1 ms older",
    );
    // One clock of three says nothing, and all of them only little by little.
    let jump = |hosts: &[&str], by_ms| Fault::ClockJump {
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        by_ms,
    };
    let all = ["seoul-1", "busan-1", "tokyo-1"];
    for hosts in [&all[..1], &all[..]] {
        let mut setting = good();
        setting.plan.events = vec![event(0, jump(hosts, 7_200_000))];
        assert_eq!(setting.of(oracle).broken, []);
        stamped(6, 7_200_000)(&mut setting);
        assert_eq!(setting.of(oracle).broken.len(), 1, "{hosts:?}");
    }
}

#[test]
fn a_page_with_a_gap_breaks_gap_free() {
    let oracle = "gap-free";
    rejects(
        oracle,
        |it| drop(page_of(it, 0).messages.remove(1)),
        "room 1: seq 3 where 2 belongs: LINEARIZABLE read by session 3 at client-tokyo, 31.000 \
         ms to 35.000 ms, last_seq 3 from n1",
    );
    rejects(
        oracle,
        |it| drop(page_of(it, 0).messages.remove(0)),
        "room 1: 2 of 3 messages from 2: LINEARIZABLE read by session 3 at client-tokyo, 31.000 \
         ms to 35.000 ms, last_seq 3 from n1",
    );
    rejects(
        oracle,
        |it| drop(page_of(it, 0).messages.pop()),
        "room 1: ends with seq 2 where 3 is the last: LINEARIZABLE read by session 3 at \
         client-tokyo, 31.000 ms to 35.000 ms, last_seq 3 from n1",
    );
    rejects(
        oracle,
        |it| drop(page_of(it, 3).messages.pop()),
        "room 1: 1 of 2 messages from 2: LINEARIZABLE read by session 3 at client-tokyo, 120.000 \
         ms to 125.000 ms, last_seq 5 from n1",
    );
    rejects(
        oracle,
        |it| page_of(it, 3).messages.clear(),
        "room 1: none of 2 messages from 2: LINEARIZABLE read by session 3 at client-tokyo, \
         120.000 ms to 125.000 ms, last_seq 5 from n1",
    );
    rejects(
        oracle,
        |it| drop(page_of(it, 3).messages.remove(0)),
        "room 1: seq 3 where 2 belongs: LINEARIZABLE read by session 3 at client-tokyo, 120.000 \
         ms to 125.000 ms, last_seq 5 from n1",
    );
    rejects(
        oracle,
        |it| page_of(it, 1).last_seq = 1,
        "room 1: ends with seq 2 where 1 is the last: SESSION read by session 1 at client-tokyo, \
         32.000 ms to 36.000 ms, last_seq 1 from n1",
    );
    rejects(
        oracle,
        |it| drop(it.history.finals[1].messages.remove(3)),
        "room 1: seq 5 where 4 belongs: busan-1 at the end, LOCAL",
    );
    // Large messages may end a page early, but not before the first.
    let large = |it: &mut Setting| it.plan.workload.body_bytes = (1, 1 << 20);
    accepts(|it| {
        large(it);
        page_of(it, 3).messages.pop();
    });
    rejects(
        oracle,
        |it| {
            large(it);
            page_of(it, 3).messages.clear()
        },
        "room 1: none of 2 messages from 2: LINEARIZABLE read by session 3 at client-tokyo, \
         120.000 ms to 125.000 ms, last_seq 5 from n1",
    );
}

#[test]
fn messages_of_a_sender_out_of_order_break_sender_order() {
    let oracle = "sender-order";
    rejects(
        oracle,
        |it| it.history.appends[0].end = acked(4),
        "room 1: append of ann/m1 by session 1 at client-busan, 0.000 ms to 10.000 ms, \
         acknowledged as 4, then append of ann/m2 by session 1 at client-busan, 20.000 ms to \
         30.000 ms, acknowledged as 3",
    );
    // Sent again, m1 may come behind m2; and m2 was sent after m1 was *tried*, not acknowledged.
    for first in [AppendEnd::Unknown { why: String::new() }, acked(1)] {
        let mut setting = good();
        setting.history.appends[0].end = first;
        setting
            .history
            .appends
            .push(append(1, M1, (112, 115), acked(1)));
        assert_eq!(setting.of(oracle).broken, []);
    }
}

#[test]
fn a_tail_that_is_not_the_dense_suffix_breaks_tail_suffix() {
    let oracle = "tail-suffix";
    rejects(
        oracle,
        |it| drop(it.history.tails[0].events.remove(1)),
        "room 1: tail of session 7 at client-busan from 2: seq 4 where 3 belongs at 65.000 ms",
    );
    rejects(
        oracle,
        |it| drop(it.history.tails[0].events.remove(0)),
        "room 1: tail of session 7 at client-busan from 2: seq 3 where 2 belongs at 41.000 ms",
    );
    rejects(
        oracle,
        |it| it.history.tails[0].events.swap(1, 2),
        "room 1: tail of session 7 at client-busan from 2: seq 4 where 3 belongs at 65.000 ms",
    );
    rejects(
        oracle,
        |it| {
            let one = it.history.tails[0].events[1].clone();
            it.history.tails[0].events.insert(1, one)
        },
        "room 1: tail of session 7 at client-busan from 2: seq 3 where 4 belongs at 41.000 ms",
    );
    rejects(
        oracle,
        |it| drop(it.history.tails[0].events.pop()),
        "room 1: tail of session 7 at client-busan from 2: of seqs 5 to 5 nothing was given",
    );
    rejects(
        oracle,
        |it| it.history.tails[0].events.clear(),
        "room 1: tail of session 7 at client-busan from 2: of seqs 2 to 5 nothing was given",
    );
    // One that broke off need not reach the end; nor one when replicas never came to rest.
    accepts(|it| {
        it.history.tails[0].events.pop();
        it.history.tails[0].complete = false;
    });
    accepts(|it| {
        it.history.tails[0].from = 0;
        it.history.tails[0].events.remove(0);
    });
}
