//! What is where, and since when: L, O and E.

use super::*;

#[test]
fn what_is_acknowledged_and_read_as_on_no_single_copy_breaks_linearizable() {
    let oracle = "linearizable";
    rejects(
        oracle,
        |it| *page_of(it, 3) = page(&log(), 4, 2, 2, None),
        "room 1: seq 5 was there by 110.000 ms (append of bob/b2 by session 2 at client-seoul, \
         100.000 ms to 110.000 ms, acknowledged as 5), but seq 5 was not before 120.000 ms \
         (LINEARIZABLE read by session 3 at client-tokyo, 120.000 ms to 125.000 ms, last_seq 4 \
         from n1)",
    );
    rejects(
        oracle,
        |it| sent(it, 1, 36),
        "room 1: seq 2 was there by 34.000 ms (LOCAL read by session 5 at client-tokyo, 33.000 \
         ms to 34.000 ms, last_seq 2 from n1), but seq 2 was not before 36.000 ms (append of \
         bob/b1 by session 2 at client-seoul, 36.000 ms to 38.000 ms, acknowledged as 2)",
    );
    rejects(
        oracle,
        |it| sent(it, 3, 111),
        "room 1: seq 4 was there by 65.000 ms (tail of session 7 at client-busan from 2), but \
         seq 4 was not before 111.000 ms (append of ann/m3 by session 1 at client-busan, 111.000 \
         ms to 113.000 ms, unknown: DEADLINE_EXCEEDED)",
    );
    let swap = |it: &mut Setting| {
        it.history.appends[0].end = acked(3);
        it.history.appends[2].end = acked(1);
        it.history.reads.clear();
        it.history.tails.clear();
        it.history.finals.clear();
    };
    rejects(
        oracle,
        swap,
        "room 1: seq 2 was there by 18.000 ms (append of bob/b1 by session 2 at client-seoul, \
         5.000 ms to 18.000 ms, acknowledged as 2), but seq 1 was not before 20.000 ms (append \
         of ann/m2 by session 1 at client-busan, 20.000 ms to 30.000 ms, acknowledged as 1)",
    );
    let nobody = |it: &mut Setting| {
        it.history.appends[6].end = acked(7);
        it.history.reads.clear();
        it.history.tails.clear();
        it.history.finals.clear();
    };
    rejects(
        oracle,
        nobody,
        "room 1: seqs up to 7 were there by 110.000 ms (append of bob/b2 by session 2 at \
         client-seoul, 100.000 ms to 110.000 ms, acknowledged as 7); 3 of them, as seq 4, are of \
         nobody known, and of those sent by then only 1 can be there unseen",
    );
    rejects(
        oracle,
        |it| it.history.appends[0].end = acked(0),
        "room 1: append of ann/m1 by session 1 at client-busan, 0.000 ms to 10.000 ms, \
         acknowledged as 0; seqs begin at 1",
    );
}

#[test]
fn overlapping_operations_and_unknown_outcomes_are_linearizable() {
    // The read begins in the microsecond in which the append returns.
    accepts(|it| {
        it.history.appends[6].returned_us = Some(us(120));
        it.history.tails[0].events[3].0 = us(121);
        *page_of(it, 3) = page(&log(), 4, 2, 2, None);
    });
    // Without its sightings, seq 4 may be the message whose outcome is unknown.
    accepts(|it| {
        it.history.tails.clear();
        it.history.finals.clear();
        for at in [3, 4, 5] {
            it.history.reads[at].end = Err("UNAVAILABLE".to_owned());
        }
    });
    // An append that never returned.
    accepts(|it| it.history.appends[3].returned_us = None);
}

#[test]
fn a_seq_that_is_two_messages_breaks_seq_function() {
    let oracle = "seq-function";
    rejects(
        oracle,
        |it| page_of(it, 0).messages[1].body = 0xff,
        "room 1: seq 2 is bob/b1 #00000000000000b1 (append of bob/b1 by session 2 at \
         client-seoul, 5.000 ms to 18.000 ms, acknowledged as 2) and bob/b1 #00000000000000ff \
         (LINEARIZABLE read by session 3 at client-tokyo, 31.000 ms to 35.000 ms, last_seq 3 \
         from n1)",
    );
    rejects(
        oracle,
        |it| it.history.tails[0].events[3].1 = seen(5, M4),
        "room 1: seq 5 is bob/b2 #00000000000000b2 (append of bob/b2 by session 2 at \
         client-seoul, 100.000 ms to 110.000 ms, acknowledged as 5) and ann/m4 #00000000000000a4 \
         (tail of session 7 at client-busan from 2, 111.000 ms)",
    );
    rejects(
        oracle,
        |it| it.history.finals[2].messages[0].id = "m9".to_owned(),
        "room 1: seq 1 is ann/m1 #00000000000000a1 (append of ann/m1 by session 1 at \
         client-busan, 0.000 ms to 10.000 ms, acknowledged as 1) and ann/m9 #00000000000000a1 \
         (tokyo-1 at the end, LOCAL)",
    );
    rejects(
        oracle,
        |it| it.history.appends[5].end = acked(1),
        "room 1: seq 1 is ann/m1 #00000000000000a1 (append of ann/m1 by session 1 at \
         client-busan, 0.000 ms to 10.000 ms, acknowledged as 1) and bob/b1 #00000000000000b1 \
         (append of bob/b1 by session 2 at client-seoul, 80.000 ms to 90.000 ms, acknowledged as \
         1)",
    );
}

#[test]
fn an_id_with_two_seqs_breaks_one_seq_per_id() {
    let oracle = "one-seq-per-id";
    rejects(
        oracle,
        |it| it.history.appends[5].end = acked(6),
        "room 1: bob/b1 is seq 2 (append of bob/b1 by session 2 at client-seoul, 5.000 ms to \
         18.000 ms, acknowledged as 2) and seq 6 (append of bob/b1 by session 2 at client-seoul, \
         80.000 ms to 90.000 ms, acknowledged as 6)",
    );
    rejects(
        oracle,
        |it| it.history.finals[0].messages.push(seen(6, M1)),
        "room 1: ann/m1 is seq 1 (append of ann/m1 by session 1 at client-busan, 0.000 ms to \
         10.000 ms, acknowledged as 1) and seq 6 (seoul-1 at the end, LINEARIZABLE)",
    );
}

#[test]
fn a_message_that_was_not_sent_breaks_no_phantom() {
    let oracle = "no-phantom";
    rejects(
        oracle,
        |it| {
            it.history.finals[0]
                .messages
                .push(seen(6, ("eve", "e1", 1)))
        },
        "room 1: seq 6 is eve/e1 #0000000000000001 (seoul-1 at the end, LINEARIZABLE), which \
         nobody sent",
    );
    rejects(
        oracle,
        |it| it.history.finals[0].messages.push(seen(6, M4)),
        "room 1: seq 6 is ann/m4 #00000000000000a4 (seoul-1 at the end, LINEARIZABLE), which \
         must not be: append of ann/m4 by session 1 at client-busan, 70.000 ms to 75.000 ms, \
         refused: UNAVAILABLE: no quorum",
    );
    rejects(
        oracle,
        |it| it.history.appends[3].body = 0xff,
        "room 1: seq 4 is ann/m3 #00000000000000a3 (tail of session 7 at client-busan from 2, \
         65.000 ms), which was sent with another body",
    );
    rejects(
        oracle,
        |it| sent(it, 3, 66),
        "room 1: seq 4 is ann/m3 #00000000000000a3 (tail of session 7 at client-busan from 2, \
         65.000 ms), before it was sent: append of ann/m3 by session 1 at client-busan, 66.000 \
         ms to 68.000 ms, unknown: DEADLINE_EXCEEDED",
    );
    // Refused at first, then sent again and acknowledged.
    accepts(|it| {
        let again = append(1, M4, (112, 115), acked(6));
        it.history.appends.push(again);
        it.history
            .finals
            .iter_mut()
            .for_each(|last| last.messages.push(seen(6, M4)));
        it.history.reads.truncate(3);
        it.history.tails[0].events.push((us(116), seen(6, M4)));
    });
}

#[test]
fn what_expires_is_there_until_its_time_and_not_behind_it() {
    rejects(
        "expires-in-time",
        |it| it.history.fades[0].end = Faded::Gone,
        "fading-0/1: a look at 104.000 ms does not find it before its time; it lives for 5000 ms",
    );
    rejects(
        "expires-in-time",
        |it| it.history.fades[2].end = Faded::Shown,
        "fading-0/1: a look at 9003.000 ms shows what should be gone; it lives for 5000 ms",
    );
    // Clocks may be off by that.
    accepts(|it| it.history.fades[1].end = Faded::Gone);
}

#[test]
fn a_feed_misses_nothing_and_makes_nothing_up() {
    let oracle = "feed-whole";
    rejects(
        oracle,
        |it| {
            it.history.feed.as_mut().unwrap().told.remove(1);
        },
        "living-0/1: revision 20, acknowledged at 22.000 ms, was never told; the last is 10",
    );
    rejects(
        oracle,
        |it| it.history.feed.as_mut().unwrap().told[1].body = 0xff,
        "living-0/1: the feed told at 50.000 ms what nobody had asked for",
    );
    rejects(
        oracle,
        |it| it.history.feed.as_mut().unwrap().complete = false,
        "the feed ended early: it was not whole in time",
    );
    // What comes twice, and what is later than what was acknowledged.
    accepts(|it| {
        let told = &mut it.history.feed.as_mut().unwrap().told;
        told.push(told[0].clone());
        told[1].revision = 21;
    });
    accepts(|it| it.history.feed = None);
}

#[test]
fn an_edit_that_is_over_and_what_was_erased_are_not_shown() {
    let shown = |it: &mut Setting, at: usize, body| {
        it.history.looks[at].end.as_mut().unwrap().body = body;
    };
    rejects(
        "changes-read",
        |it| shown(it, 0, 0xc1),
        "living-0/1: a look at 45.000 ms says #00000000000000c1, which is not what it says now",
    );
    rejects(
        "erased-is-gone",
        |it| it.history.looks[1].end.as_mut().unwrap().bare = false,
        "living-0/2: a look at 45.000 ms was erased before, and is shown",
    );
    // The edit came while it was looked at.
    accepts(|it| {
        it.history.changes[2].returned_us = us(41);
        shown(it, 0, 0xc1);
    });
}
