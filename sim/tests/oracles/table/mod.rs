//! One history that every oracle accepts, and what each says when a single thing in it is wrong, to
//! the letter. Times are ms after the load began.

mod clients;
mod content;
mod order;
mod servers;

use std::collections::BTreeMap;

use firebreak_sim::history::{
    Append, AppendEnd, Change, ChangeEnd, Cover, DrillSeen, Fade, Faded, Feed, FeedChange, Final,
    History, Level, Look, Observed, Page, Read, ReplicaSeen, SeenMessage, Shown, Tail, VoteSeen,
    VoterSeen, What,
};
use firebreak_sim::oracle::{BROKEN_MAX, NAMES};
use firebreak_sim::outcome::Promise;
use firebreak_sim::plan::Fault;

use crate::support::{Setting, event, page, plan};

const BEGAN_MS: u64 = 1_000;

fn us(ms: u64) -> u64 {
    (BEGAN_MS + ms) * 1_000
}

fn append(session: u32, message: (&str, &str, u64), span: (u64, u64), end: AppendEnd) -> Append {
    let sites = ["client-seoul", "client-busan"];
    Append {
        session,
        site: sites[session as usize % 2].to_owned(),
        room: 1,
        sender: message.0.to_owned(),
        id: message.1.to_owned(),
        body: message.2,
        invoked_us: us(span.0),
        returned_us: Some(us(span.1)),
        // The first word of a message in this history is that of its creation.
        created_ms: matches!(end, AppendEnd::Acked { .. }).then(|| at(span.1)),
        end,
        repeats: false,
    }
}

fn at(ms: u64) -> i64 {
    i64::try_from(BEGAN_MS + ms).unwrap()
}

fn acked(seq: u64) -> AppendEnd {
    AppendEnd::Acked { seq }
}

fn read(session: u32, level: Level, span: (u64, u64), page: Page) -> Read {
    Read {
        session,
        site: "client-tokyo".to_owned(),
        room: 1,
        level,
        invoked_us: us(span.0),
        returned_us: Some(us(span.1)),
        end: Ok(page),
    }
}

const M1: (&str, &str, u64) = ("ann", "m1", 0xa1);
const M2: (&str, &str, u64) = ("ann", "m2", 0xa2);
const M3: (&str, &str, u64) = ("ann", "m3", 0xa3);
const M4: (&str, &str, u64) = ("ann", "m4", 0xa4);
const B1: (&str, &str, u64) = ("bob", "b1", 0xb1);
const B2: (&str, &str, u64) = ("bob", "b2", 0xb2);

fn seen(seq: u64, message: (&str, &str, u64)) -> SeenMessage {
    SeenMessage {
        seq,
        sender: message.0.to_owned(),
        id: message.1.to_owned(),
        body: message.2,
    }
}

fn log() -> Vec<SeenMessage> {
    (1..)
        .zip([M1, B1, M2, M3, B2])
        .map(|(seq, message)| seen(seq, message))
        .collect()
}

/// What every oracle accepts.
fn good() -> Setting {
    let mut plan = plan();
    plan.events = vec![event(
        45,
        Fault::Start {
            hosts: vec!["tokyo-1".to_owned()],
        },
    )];
    Setting {
        plan,
        history: history(),
        observed: observed(),
    }
}

fn history() -> History {
    let log = log();
    let unknown = AppendEnd::Unknown {
        why: "DEADLINE_EXCEEDED".to_owned(),
    };
    let refused = AppendEnd::Refused {
        why: "UNAVAILABLE: no quorum".to_owned(),
    };
    let repeat = Append {
        repeats: true,
        created_ms: Some(at(18)),
        ..append(2, B1, (80, 90), acked(2))
    };
    let bounded = Level::Bounded { bound_ms: 50 };
    let whole = |node: &str, level| Final {
        node: node.to_owned(),
        room: 1,
        level,
        messages: log.clone(),
    };
    let given = |(ms, seq): (u64, usize)| (us(ms), log[seq - 1].clone());
    History {
        began_us: us(0),
        ended_us: us(130),
        appends: vec![
            append(1, M1, (0, 10), acked(1)),
            append(2, B1, (5, 18), acked(2)),
            append(1, M2, (20, 30), acked(3)),
            append(1, M3, (40, 60), unknown),
            append(1, M4, (70, 75), refused),
            repeat,
            append(2, B2, (100, 110), acked(5)),
        ],
        reads: vec![
            read(3, Level::Linearizable, (31, 35), page(&log, 3, 0, 10, None)),
            read(1, Level::Session, (32, 36), page(&log, 3, 1, 2, None)),
            read(5, Level::Local, (33, 34), page(&log, 2, 0, 10, Some(12))),
            read(
                3,
                Level::Linearizable,
                (120, 125),
                page(&log, 5, 2, 2, None),
            ),
            read(6, bounded, (121, 124), page(&log, 4, 3, 10, Some(30))),
            read(1, Level::Session, (126, 130), page(&log, 5, 5, 5, None)),
        ],
        tails: vec![Tail {
            session: 7,
            site: "client-busan".to_owned(),
            room: 1,
            from: 2,
            events: [(40, 2), (41, 3), (65, 4), (111, 5)].map(given).to_vec(),
            error: None,
            complete: true,
        }],
        finals: vec![
            whole("seoul-1", Level::Linearizable),
            whole("busan-1", Level::Local),
            whole("tokyo-1", Level::Local),
        ],
        witnessed: Vec::new(),
        changes: changes(),
        looks: vec![look(1, false), look(2, true)],
        fades: vec![
            fade((100, 104), Faded::Shown),
            fade((6_000, 6_003), Faded::Shown),
            fade((9_000, 9_003), Faded::Gone),
        ],
        feed: Some(Feed {
            told: vec![told(1, 10, 0xc1), told(1, 20, 0xc3), told(2, 30, 0)],
            complete: true,
            error: None,
        }),
    }
}

/// A look at a message that lives for five seconds, begun and ended at these ms.
fn fade(looked: (u64, u64), end: Faded) -> Fade {
    Fade {
        room: 0,
        seq: 1,
        ttl_ms: 5_000,
        said_us: (us(20), us(24)),
        looked_us: (us(looked.0), us(looked.1)),
        end,
    }
}

/// Two messages, the first said and edited, the second said and erased.
fn changes() -> Vec<Change> {
    let change = |seq, ms, what| Change {
        room: 0,
        seq,
        what,
        again: false,
        invoked_us: us(ms),
        returned_us: us(ms + 2),
        end: ChangeEnd::Done { revision: ms },
    };
    vec![
        change(1, 10, What::Said { body: 0xc1 }),
        change(2, 12, What::Said { body: 0xc2 }),
        change(1, 20, What::Edited { body: 0xc3 }),
        change(2, 30, What::Redacted),
    ]
}

fn told(seq: u64, revision: u64, body: u64) -> FeedChange {
    FeedChange {
        room: 0,
        seq,
        revision,
        body,
        redacted: body == 0,
        at_us: us(50),
    }
}

fn look(seq: u64, erased: bool) -> Look {
    Look {
        room: 0,
        seq,
        invoked_us: us(40),
        returned_us: us(45),
        end: Ok(Shown {
            body: if erased { 0 } else { 0xc3 },
            revision: 20,
            redacted: erased,
            bare: erased,
            counts: BTreeMap::new(),
        }),
    }
}

fn observed() -> Observed {
    let vote = |ms: u64, host: &str, term, node, committed| VoteSeen {
        at_us: ms * 1_000,
        host: host.to_owned(),
        shard: 1,
        term,
        node,
        committed,
    };
    let replica = |node: &str| ReplicaSeen {
        node: node.to_owned(),
        shard: 1,
        revision: 7,
        rooms: vec![
            ("room-0".to_owned(), 0, 0, "aa".to_owned()),
            ("room-1".to_owned(), 5, 5, "bb".to_owned()),
        ],
    };
    let names = |names: [&str; 2]| names.map(str::to_owned).to_vec();
    Observed {
        votes: vec![
            vote(500, "seoul-1", 1, 1, false),
            vote(501, "busan-1", 1, 1, false),
            vote(510, "seoul-1", 1, 1, true),
            vote(1_044, "busan-1", 3, 2, false),
            vote(1_045, "busan-1", 3, 2, true),
        ],
        regressed: Vec::new(),
        covers: vec![Cover {
            append: 2,
            hosts: names(["busan-1", "seoul-1"]),
            dcs: names(["busan", "seoul"]),
            quorum: 2,
        }],
        wiped: Vec::new(),
        voters: vec![VoterSeen {
            at_us: us(60),
            host: "tokyo-1".to_owned(),
            shard: 1,
            voted: false,
            last: 70,
            needed: 90,
        }],
        drills: vec![DrillSeen {
            host: "tokyo-1".to_owned(),
            began_us: us(70),
            until_us: us(5_070),
            ended_us: Some(us(5_072)),
        }],
        replicas: vec![replica("seoul-1"), replica("busan-1"), replica("tokyo-1")],
        unsettled: None,
    }
}

#[test]
fn a_good_history_is_accepted_by_every_oracle_after_a_look_at_it() {
    let findings = good().judge();
    let names: Vec<&str> = findings
        .iter()
        .map(|finding| finding.oracle.as_str())
        .collect();
    assert_eq!(
        names,
        NAMES.iter().map(|(name, ..)| *name).collect::<Vec<_>>()
    );
    for finding in findings {
        assert_eq!(finding.broken, [], "{}", finding.oracle);
        assert!(
            finding.looked_at > 0,
            "{} looked at nothing",
            finding.oracle
        );
    }
}

#[test]
fn a_run_in_which_nothing_happened_is_not_judged() {
    let history = History::default();
    let nothing = Setting {
        plan: plan(),
        history,
        observed: Observed::default(),
    };
    for finding in nothing.judge() {
        assert_eq!(
            (finding.looked_at, finding.broken.len()),
            (0, 0),
            "{}",
            finding.oracle
        );
    }
    let mut stopped = good();
    stopped.history.finals.clear();
    for oracle in ["acked-durable", "observed-durable"] {
        assert_eq!(stopped.of(oracle).looked_at, 0);
    }
}

/// Whether `oracle` rejects the good history when it is spoiled, with this as its first evidence.
#[track_caller]
fn rejects(oracle: &str, spoil: impl Fn(&mut Setting), expect: &str) {
    let mut setting = good();
    spoil(&mut setting);
    let found = setting.of(oracle);
    let first = found.broken.first().expect("something is wrong");
    assert_eq!(first.evidence, expect);
    let letter = NAMES
        .iter()
        .find(|(name, ..)| *name == oracle)
        .map(|(_, letter, _)| *letter);
    assert_eq!(Some(first.promise), letter.and_then(Promise::of));
    assert_eq!(first.oracle, oracle);
}

/// Whether no oracle rejects the good history when it is changed.
#[track_caller]
fn accepts(change: impl Fn(&mut Setting)) {
    let mut setting = good();
    change(&mut setting);
    assert_eq!(setting.broken(), []);
}

/// Moves an append to another time.
fn sent(setting: &mut Setting, at: usize, ms: u64) {
    let append = &mut setting.history.appends[at];
    append.invoked_us = us(ms);
    append.returned_us = Some(us(ms + 2));
}

fn page_of(setting: &mut Setting, at: usize) -> &mut Page {
    setting.history.reads[at].end.as_mut().unwrap()
}

#[test]
fn the_smallest_and_earliest_evidence_comes_first_and_a_few_pieces_are_enough() {
    let mut setting = good();
    for (at, last) in setting.history.finals.iter_mut().enumerate() {
        last.messages.truncate(at);
    }
    for at in [0, 1, 3, 4, 5] {
        page_of(&mut setting, at).messages.clear();
    }
    setting.history.finals[0].messages.push(seen(7, M1));
    let found = setting.of("gap-free");
    assert_eq!(found.broken.len(), BROKEN_MAX);
    let times = found
        .broken
        .iter()
        .map(|one| one.evidence.split("to ").nth(1).unwrap());
    let times: Vec<&str> = times
        .map(|rest| rest.split(" ms").next().unwrap())
        .collect();
    assert_eq!(times, ["35.000", "36.000", "124.000", "125.000", "130.000"]);
}
