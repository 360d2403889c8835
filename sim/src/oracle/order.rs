//! What follows what: in a page, in a tail, and of one sender.

use std::collections::BTreeMap;

use super::Case;
use super::evidence::Found;
use crate::history::{AppendEnd, Level, Page, SeenMessage, Tail};
use crate::outcome::{Finding, Promise};

/// The API may end a page early, with at least one message, when its bodies are large. Pages that
/// cannot reach this must hold all that was asked for.
const PAGE_BYTES_SURE: u64 = 1024 * 1024;

/// `gap-free`, O: every page is a dense run of seqs, from the first asked for, or up to the last
/// when the newest were asked for; it shows nothing beyond the last_seq that it names, and has as
/// many messages as were asked for unless it reaches that. A whole conversation at the end is
/// 1, 2, 3, …. One look at each message.
pub fn gap_free(case: &Case<'_>) -> Finding {
    let mut found = Found::of("gap-free", Promise::O);
    let body_bytes = u64::from(case.plan.workload.body_bytes.1);
    for room in case.facts.rooms() {
        for &at in &room.reads {
            let read = &case.history.reads[at];
            let Ok(page) = &read.end else { continue };
            found.looked_at(1);
            let whole = body_bytes.saturating_mul(page.limit.into()) <= PAGE_BYTES_SURE;
            if let Some(why) = flaw(page, whole) {
                found.add(1, read.returned_us.unwrap_or(u64::MAX), || {
                    format!("room {}: {why}: {}", room.room, case.read(at))
                });
            }
        }
        for &at in &room.finals {
            found.looked_at(1);
            if let Some(why) = not_dense(&case.history.finals[at].messages, 1) {
                found.add(1, u64::MAX, || {
                    format!("room {}: {why}: {}", room.room, case.at_rest(at))
                });
            }
        }
    }
    found.finding()
}

/// What is wrong with a page; `whole` when it may not end early.
fn flaw(page: &Page, whole: bool) -> Option<String> {
    let (many, last_seq) = (page.messages.len() as u64, page.last_seq);
    let limit = u64::from(page.limit);
    let expected = match page.from {
        0 => limit.min(last_seq),
        from => limit.min(last_seq.saturating_add(1).saturating_sub(from)),
    };
    let too_few = many < expected && (whole || many == 0);
    let (Some(first), Some(last)) = (page.messages.first(), page.messages.last()) else {
        return too_few.then(|| format!("none of {expected} messages from {}", page.from));
    };
    let begin = if page.from == 0 { first.seq } else { page.from };
    if let Some(why) = not_dense(&page.messages, begin) {
        return Some(why);
    }
    if last.seq > last_seq || (page.from == 0 && last.seq < last_seq) {
        return Some(format!(
            "ends with seq {} where {last_seq} is the last",
            last.seq
        ));
    }
    too_few.then(|| format!("{many} of {expected} messages from {}", first.seq))
}

/// Where messages are not `begin`, `begin + 1`, ….
fn not_dense(messages: &[SeenMessage], begin: u64) -> Option<String> {
    // Seq 0 does not exist.
    let expected = begin.max(1)..=u64::MAX;
    let mut wrong = expected
        .zip(messages)
        .filter(|(expected, seen)| *expected != seen.seq);
    wrong
        .next()
        .map(|(expected, seen)| format!("seq {} where {expected} belongs", seen.seq))
}

/// `sender-order`, O: of two messages that a session sent to a conversation, the second after the
/// first was acknowledged, or behind it on a stream, the second has the higher seq. A message counts
/// from the first sending of its id, so that one sent again proves nothing of its first try. One pass
/// with the highest acknowledged seq of each session.
pub fn sender_order(case: &Case<'_>) -> Finding {
    /// What a session knows of a conversation.
    #[derive(Default)]
    struct Sender<'a> {
        /// The highest seq acknowledged so far, and of which append.
        highest: Option<(u64, usize)>,
        /// For each id, the highest when it was first sent.
        before: BTreeMap<&'a str, Option<(u64, usize)>>,
    }
    let mut found = Found::of("sender-order", Promise::O);
    let mut senders: BTreeMap<(u32, u32), Sender<'_>> = BTreeMap::new();
    for (at, append) in case.history.appends.iter().enumerate() {
        let sender = senders.entry((append.session, append.room)).or_default();
        let highest = sender.highest;
        let before = *sender.before.entry(&append.id).or_insert(highest);
        let AppendEnd::Acked { seq } = append.end else {
            continue;
        };
        found.looked_at(1);
        if let Some((earlier_seq, earlier)) = before
            && earlier_seq >= seq
        {
            found.add(2, append.returned_us.unwrap_or(u64::MAX), || {
                let (earlier, later) = (case.append(earlier), case.append(at));
                format!("room {}: {earlier}, then {later}", append.room)
            });
        }
        sender.highest = sender.highest.max(Some((seq, at)));
    }
    found.finding()
}

/// `tail-suffix`, O: a tail gives the messages from the seq that it asked for on (0: from any), in
/// order, each once, without a gap, over all its connections; and one that ran until the cluster
/// was at rest gave everything up to the end, which is the highest seq acknowledged or shown by a
/// LINEARIZABLE read at the end. What it gives is compared with what others saw by `seq-function`.
/// The end is not asked for when replicas never came to rest: that is `replicas-equal`'s to tell.
/// One look at each message.
pub fn tail_suffix(case: &Case<'_>) -> Finding {
    let mut found = Found::of("tail-suffix", Promise::O);
    for room in case.facts.rooms() {
        let acked = room.claims.iter().filter(|claim| claim.acked.is_some());
        let acked = acked.map(|claim| claim.seq).max();
        let finals = room.finals.iter().map(|at| &case.history.finals[*at]);
        let strong = finals.filter(|last| last.level == Level::Linearizable);
        let shown = strong
            .filter_map(|last| last.messages.last())
            .map(|seen| seen.seq)
            .max();
        let end = acked.max(shown).unwrap_or_default();
        for &at in &room.tails {
            let tail = &case.history.tails[at];
            let ends = tail.complete && case.observed.unsettled.is_none();
            found.looked_at(usize::from(ends || !tail.events.is_empty()));
            if let Some((at_us, why)) = not_suffix(tail, ends.then_some(end)) {
                found.add(1, at_us, || {
                    let when = match at_us {
                        u64::MAX => String::new(),
                        at_us => format!(" at {}", case.ms(at_us)),
                    };
                    format!("room {}: {}: {why}{when}", room.room, case.tail(at))
                });
            }
        }
    }
    found.finding()
}

/// Where and when a tail is not the dense suffix up to `end`, if it must reach one.
fn not_suffix(tail: &Tail, end: Option<u64>) -> Option<(u64, String)> {
    let begin = match (tail.from, tail.events.first()) {
        (0, Some((_, first))) => first.seq.max(1),
        (0, None) => return None,
        (from, _) => from,
    };
    let mut expected = begin;
    for (at_us, seen) in &tail.events {
        if seen.seq != expected {
            return Some((*at_us, format!("seq {} where {expected} belongs", seen.seq)));
        }
        expected = expected.saturating_add(1);
    }
    let end = end.filter(|end| *end >= expected)?;
    Some((
        u64::MAX,
        format!("of seqs {expected} to {end} nothing was given"),
    ))
}
