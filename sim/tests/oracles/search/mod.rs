//! The search of Wing and Gong: tries every order in which the operations of a small history can
//! have taken effect. What the oracles conclude from facts in O(n log n) is compared with it.

mod small;

use std::collections::BTreeSet;

use firebreak_sim::dice::dice;
use firebreak_sim::history::{
    Append, AppendEnd, Final, History, Level, Observed, Page, Read, SeenMessage, Tail,
};
use rand::Rng as _;
use rand::rngs::StdRng;

use crate::support::{Setting, page, plan};

use small::{disturb, happened};

/// These five together say whether a history is linearizable.
const TOGETHER: [&str; 5] = [
    "linearizable",
    "seq-function",
    "one-seq-per-id",
    "no-phantom",
    "gap-free",
];
const HISTORIES: u64 = 100_000;

/// An operation and when it can have taken effect.
struct Op<'a> {
    from: u64,
    to: u64,
    what: What<'a>,
}

enum What<'a> {
    /// Seq, when it was acknowledged.
    Append(&'a Append, Option<u64>),
    Page(&'a Page),
    Tailed(&'a SeenMessage),
    Whole(&'a [SeenMessage]),
}

/// Whether some order of the operations explains the history.
fn linearizable(history: &History) -> bool {
    let mut ops = Vec::new();
    for append in &history.appends {
        let (to, seq) = match append.end {
            AppendEnd::Acked { seq } => (append.returned_us.unwrap(), Some(seq)),
            AppendEnd::Unknown { .. } => (u64::MAX, None),
            AppendEnd::Refused { .. } => continue,
        };
        let what = What::Append(append, seq);
        ops.push(Op {
            from: append.invoked_us,
            to,
            what,
        });
    }
    for read in &history.reads {
        let from = if read.level == Level::Linearizable {
            read.invoked_us
        } else {
            0
        };
        let what = What::Page(read.end.as_ref().unwrap());
        ops.push(Op {
            from,
            to: read.returned_us.unwrap(),
            what,
        });
    }
    for (at, seen) in history.tails.iter().flat_map(|tail| &tail.events) {
        ops.push(Op {
            from: 0,
            to: *at,
            what: What::Tailed(seen),
        });
    }
    for last in &history.finals {
        ops.push(Op {
            from: 0,
            to: u64::MAX,
            what: What::Whole(&last.messages),
        });
    }
    explain(&ops, 0, &mut Vec::new(), &mut BTreeSet::new())
}

type Log<'a> = Vec<&'a Append>;

/// `done` is a set of operations, `log` what they left.
fn explain<'a>(
    ops: &[Op<'a>],
    done: u32,
    log: &mut Log<'a>,
    tried: &mut BTreeSet<(u32, Vec<(&'a str, &'a str)>)>,
) -> bool {
    let open = |at: &usize| done & (1 << at) == 0;
    let unknown = |op: &Op<'_>| matches!(op.what, What::Append(_, None));
    if (0..ops.len()).filter(open).all(|at| unknown(&ops[at])) {
        return true;
    }
    let ids = log
        .iter()
        .map(|append| (append.sender.as_str(), append.id.as_str()));
    if !tried.insert((done, ids.collect())) {
        return false;
    }
    let ends = (0..ops.len())
        .filter(open)
        .map(|at| ops[at].to)
        .min()
        .unwrap();
    for at in (0..ops.len()).filter(open) {
        let op = &ops[at];
        // Whatever returned before this was invoked comes before it.
        if op.from > ends {
            continue;
        }
        let before = log.len();
        if effect(op, log) && explain(ops, done | 1 << at, log, tried) {
            return true;
        }
        log.truncate(before);
    }
    false
}

/// Does an operation; whether its answer is then right.
fn effect<'a>(op: &Op<'a>, log: &mut Log<'a>) -> bool {
    let is = |seen: &SeenMessage, append: &Append| {
        (&seen.sender, &seen.id, seen.body) == (&append.sender, &append.id, append.body)
    };
    let shows = |seen: &SeenMessage, log: &Log<'_>| {
        let at = usize::try_from(seen.seq).unwrap().checked_sub(1);
        at.and_then(|at| log.get(at))
            .is_some_and(|append| is(seen, append))
    };
    match &op.what {
        What::Append(append, seq) => {
            let same = |other: &&Append| other.sender == append.sender && other.id == append.id;
            let at = log.iter().position(same).unwrap_or_else(|| {
                log.push(append);
                log.len() - 1
            });
            seq.is_none_or(|seq| seq == at as u64 + 1)
        }
        What::Tailed(seen) => shows(seen, log),
        What::Whole(all) => {
            let whole = (1..)
                .zip(*all)
                .all(|(seq, seen)| seen.seq == seq && shows(seen, log));
            whole && all.len() <= log.len()
        }
        What::Page(page) => {
            let last_seq = log.len() as u64;
            let limit = u64::from(page.limit);
            let (begin, end) = match page.from {
                0 => (last_seq.saturating_sub(limit) + 1, last_seq),
                from => (from, last_seq.min(from + limit - 1)),
            };
            let seqs: Vec<u64> = page.messages.iter().map(|seen| seen.seq).collect();
            page.last_seq == last_seq
                && seqs == (begin..=end).collect::<Vec<_>>()
                && page.messages.iter().all(|seen| shows(seen, log))
        }
    }
}

#[test]
fn on_small_histories_the_oracles_decide_as_a_search_over_all_orders_does() {
    let (mut yes, mut no, mut by_time, mut by_hole) = (0, 0, 0, 0);
    for seed in 0..HISTORIES {
        let mut dice = dice(seed, "small history");
        let mut history = happened(&mut dice);
        for _ in 0..dice.random_range(0..8) {
            disturb(&mut history, &mut dice);
        }
        history.appends.sort_by_key(|append| append.invoked_us);
        history.reads.sort_by_key(|read| read.invoked_us);
        let expect = linearizable(&history);
        let setting = Setting {
            plan: plan(),
            history,
            observed: Observed::default(),
        };
        let mut broken = setting.broken();
        broken.retain(|one| TOGETHER.contains(&one.oracle.as_str()));
        let history = &setting.history;
        assert_eq!(
            broken.is_empty(),
            expect,
            "seed {seed}: {history:#?}\n{broken:#?}"
        );
        if expect {
            yes += 1;
            continue;
        }
        no += 1;
        by_time += usize::from(broken.iter().all(|one| one.oracle == "linearizable"));
        by_hole += usize::from(
            broken
                .iter()
                .all(|one| one.evidence.contains("of nobody known")),
        );
    }
    println!(
        "{yes} are linearizable, {no} not: {by_time} by time alone, {by_hole} by a hole alone"
    );
    assert!(yes > 20_000 && no > 20_000, "{yes} {no}");
    assert!(by_time > 8_000 && by_hole > 500, "{by_time} {by_hole}");
}

#[test]
fn what_happened_on_one_copy_is_explained() {
    for seed in 0..2_000 {
        let history = happened(&mut dice(seed, "small history"));
        assert!(linearizable(&history), "seed {seed}: {history:#?}");
    }
}
