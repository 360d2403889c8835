//! The numbers: what a wait is, what failed, and when all went on.

use firebreak_sim::history::{Append, AppendEnd, History, Level, Read, SeenMessage, Tail};
use firebreak_sim::oracle::liveness::{
    Each, Gap, failed, fated, gaps, seconds, tails, until_acked,
};
use firebreak_sim::plan::{Event, Fault};
use firebreak_sim::workload::PROBER;

use crate::support::{event, plan};

const BEGAN_US: u64 = 5_000_000;

fn history(ended_ms: u64, appends: &[(u32, &str, u64, u64, char)]) -> History {
    let appends = appends
        .iter()
        .map(|&(session, site, invoked, took, end)| Append {
            session,
            site: site.to_owned(),
            room: session % 2,
            sender: format!("s{session}"),
            id: format!("m{invoked}"),
            body: 0,
            invoked_us: BEGAN_US + invoked * 1_000,
            returned_us: (end != '.').then(|| BEGAN_US + (invoked + took) * 1_000),
            end: match end {
                'a' => AppendEnd::Acked { seq: 1 },
                'r' => AppendEnd::Refused {
                    why: "no quorum".to_owned(),
                },
                _ => AppendEnd::Unknown {
                    why: "deadline".to_owned(),
                },
            },
            repeats: false,
            created_ms: None,
        });
    History {
        began_us: BEGAN_US,
        ended_us: BEGAN_US + ended_ms * 1_000,
        appends: appends.collect(),
        ..History::default()
    }
}

fn longest(history: &History) -> Option<(u64, (u64, u64), u32, u32)> {
    let gaps = gaps(history, |_| true);
    let tell = |gap: &Gap| (gap.longest_ms, gap.at_ms, gap.session, gap.calls);
    gaps.first().map(tell)
}

#[test]
fn a_wait_is_the_time_in_calls_from_one_acknowledgement_to_the_next() {
    let check = |appends: &[_], expect| assert_eq!(longest(&history(1_000, appends)), expect);
    check(&[], None);
    check(
        &[(1, "a", 0, 10, 'a'), (1, "a", 900, 20, 'a')],
        Some((20, (900, 920), 1, 1)),
    );
    // Calls that fail are waited in, the pauses between them are not.
    let failing = [
        (1, "a", 0, 10, 'a'),
        (1, "a", 100, 50, 'r'),
        (1, "a", 250, 60, '?'),
    ];
    let to_the_end = Some((110, (100, 310), 1, 2));
    check(&failing, to_the_end);
    let then_acked = [&failing[..], &[(1, "a", 400, 5, 'a')]].concat();
    check(&then_acked, Some((115, (100, 405), 1, 3)));
    // What never returned is waited for until the end; others do not hide it.
    check(
        &[(1, "a", 700, 0, '.'), (2, "a", 710, 1, 'a')],
        Some((300, (700, 1_000), 1, 1)),
    );
}

#[test]
fn a_tail_is_behind_from_the_acknowledgement_or_from_what_it_gave_before() {
    let mut history = history(9_000, &[]);
    let append = |seq, acked_ms: u64| Append {
        session: 1,
        site: "a".to_owned(),
        room: 0,
        sender: "s".to_owned(),
        id: format!("m{seq}"),
        body: 0,
        invoked_us: BEGAN_US,
        returned_us: Some(BEGAN_US + acked_ms * 1_000),
        end: AppendEnd::Acked { seq },
        repeats: false,
        created_ms: None,
    };
    history.appends = vec![
        append(1, 100),
        append(2, 200),
        append(3, 300),
        append(4, 8_000),
    ];
    let event = |seq, at_ms: u64| {
        let seen = SeenMessage {
            seq,
            sender: "s".to_owned(),
            id: format!("m{seq}"),
            body: 0,
        };
        (BEGAN_US + at_ms * 1_000, seen)
    };
    let tail = |site: &str, events: &[(u64, u64)]| Tail {
        session: 2,
        site: site.to_owned(),
        room: 0,
        from: 1,
        events: events.iter().map(|(seq, at)| event(*seq, *at)).collect(),
        error: None,
        complete: true,
    };
    let longest = |history: &History| tails(history, |site| site != "burned");
    assert_eq!(longest(&history), None);
    // The first may be old. The third waits behind the second, and the fourth for its acknowledgement.
    history.tails = vec![tail("a", &[(1, 5_000), (2, 5_001), (3, 5_900), (4, 8_050)])];
    assert_eq!(longest(&history), Some(899));
    history.tails.push(tail("burned", &[(1, 100), (2, 8_900)]));
    assert_eq!(longest(&history), Some(899));
    history.tails.push(tail("b", &[(2, 200), (3, 2_300)]));
    assert_eq!(longest(&history), Some(2_000));
}

#[test]
fn sites_that_do_not_count_have_no_gaps_and_no_failures() {
    let history = history(1_000, &[(1, "a", 0, 500, 'r'), (2, "b", 0, 5, 'a')]);
    let others = |site: &str| site != "a";
    assert_eq!(
        gaps(&history, others).first().map(|gap| gap.longest_ms),
        Some(5)
    );
    assert_eq!(failed(&history, others), []);
    assert_eq!(failed(&history, |_| true).len(), 1);
}

#[test]
fn probes_are_nobody_s_wait_or_failure() {
    let mut history = history(1_000, &[(1, "a", 0, 500, 'r'), (1, "a", 600, 0, '.')]);
    for append in &mut history.appends {
        PROBER.clone_into(&mut append.sender);
    }
    assert_eq!(
        (longest(&history), failed(&history, |_| true)),
        (None, Vec::new())
    );
    assert_eq!(until_acked(&history, 0, Each::Room, |_| true), None);
    assert_eq!(seconds(&history)[0].failed, 0);
}

#[test]
fn everything_that_failed_is_told_in_the_order_of_time() {
    let mut history = history(900, &[(1, "a", 0, 500, 'r'), (2, "b", 10, 5, '?')]);
    history.reads.push(Read {
        session: 3,
        site: "b".to_owned(),
        room: 4,
        level: Level::Bounded { bound_ms: 5 },
        invoked_us: BEGAN_US + 20_000,
        returned_us: Some(BEGAN_US + 30_001),
        end: Err("UNAVAILABLE".to_owned()),
    });
    history.tails.push(Tail {
        session: 4,
        site: "b".to_owned(),
        room: 4,
        from: 1,
        events: Vec::new(),
        error: Some("gaps".to_owned()),
        complete: false,
    });
    let told: Vec<String> = failed(&history, |_| true)
        .into_iter()
        .map(|one| one.text)
        .collect();
    assert_eq!(
        told,
        [
            "tail of room 4 by session 4 at b: gaps (after 0 ms)",
            "append of s2/m10 to room 0 by session 2 at b: deadline (after 5 ms)",
            "BOUNDED 5 ms read of room 4 by session 3 at b: UNAVAILABLE (after 11 ms)",
            "append of s1/m0 to room 1 by session 1 at a: no quorum (after 500 ms)",
        ]
    );
}

#[test]
fn all_go_on_when_the_last_was_acknowledged_what_it_sent_since() {
    let appends = [
        (1, "a", 0, 200, 'a'),
        (2, "b", 90, 30, '?'),
        (1, "a", 210, 10, 'a'),
        (2, "b", 150, 90, 'a'),
        (3, "b", 120, 10, 'a'),
        (1, "a", 300, 10, 'a'),
    ];
    let history = history(1_000, &appends);
    let by_sender = |from| until_acked(&history, from, Each::Sender, |_| true);
    assert_eq!(by_sender(100), Some(140));
    // Rooms 0 (of session 2) and 1 (of sessions 1 and 3).
    assert_eq!(until_acked(&history, 130, Each::Room, |_| true), Some(110));
    assert_eq!(until_acked(&history, 160, Each::Room, |_| true), Some(60));
    assert_eq!(
        until_acked(&history, 100, Each::Sender, |site| site == "a"),
        Some(120)
    );
    assert_eq!(by_sender(301), None, "nobody tried");
    let cut = self::history(1_000, &appends[..2]);
    assert_eq!(
        until_acked(&cut, 50, Each::Sender, |_| true),
        None,
        "one never was"
    );
}

#[test]
fn seconds_count_acknowledgements_by_site_and_the_latency_of_each() {
    let mut appends: Vec<(u32, &str, u64, u64, char)> =
        (1..=100).map(|took| (1, "a", 0, took, 'a')).collect();
    appends.extend([
        (2, "b", 900, 200, 'a'),
        (2, "b", 1_200, 300, 'r'),
        (3, "b", 1_300, 0, '.'),
    ]);
    let seconds = seconds(&history(2_500, &appends));
    assert_eq!(seconds.len(), 3);
    let first = &seconds[0];
    assert_eq!(
        (first.p50_ms, first.p99_ms, first.max_ms),
        (Some(50), Some(99), Some(100))
    );
    assert_eq!(
        (first.acked["a"], first.acked.get("b"), first.failed),
        (100, None, 0)
    );
    assert_eq!(
        (seconds[1].acked["b"], seconds[1].max_ms, seconds[1].failed),
        (1, Some(200), 1)
    );
    assert_eq!((seconds[2].p50_ms, seconds[2].failed), (None, 1));
    assert_eq!(self::seconds(&History::default()), []);
}

#[test]
fn clients_inside_share_the_fate_of_a_data_center_that_is_taken_away_as_a_whole() {
    let check = |events: &[Event], expect: &[&str]| {
        let mut plan = plan();
        plan.events = events.to_vec();
        assert_eq!(
            fated(&plan).iter().map(String::as_str).collect::<Vec<_>>(),
            expect
        );
    };
    let names = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    let cut = |from: &[&str], to: &[&str]| {
        event(
            5,
            Fault::Cut {
                from: names(from),
                to: names(to),
                reset: false,
            },
        )
    };
    check(&[], &[]);
    check(
        &[event(
            5,
            Fault::Burn {
                hosts: names(&["seoul-1"]),
            },
        )],
        &["client-seoul"],
    );
    check(
        &[event(
            5,
            Fault::PowerCut {
                hosts: names(&["client-busan"]),
            },
        )],
        &["client-busan"],
    );
    check(
        &[event(
            5,
            Fault::Kill {
                hosts: names(&["seoul-1"]),
            },
        )],
        &[],
    );
    check(&[cut(&["seoul-1"], &["tokyo-1"])], &[]);
    check(
        &[cut(&["seoul-1"], &["tokyo-1", "busan-1"])],
        &["client-seoul"],
    );
    check(
        &[
            cut(&["seoul-1"], &["tokyo-1"]),
            cut(&["busan-1"], &["seoul-1"]),
        ],
        &["client-seoul"],
    );
    let mut outside = plan();
    outside.workload.sites[0].inside = false;
    outside.events = vec![event(
        5,
        Fault::Burn {
            hosts: names(&["seoul-1"]),
        },
    )];
    assert!(fated(&outside).is_empty());
}
