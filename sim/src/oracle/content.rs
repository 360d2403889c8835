//! What stands where: a seq is one message, an id has one seq, and nothing is there that nobody
//! sent. Each is O(n log n), a sort of the claims.

use super::Case;
use super::evidence::Found;
use super::facts::{Claim, Room, Witness};
use crate::history::AppendEnd;
use crate::outcome::{Finding, Promise};

/// `seq-function`, O: in each conversation, seq → (sender, id, body) is one function over all
/// acknowledgements, reads of any level and any node, tails and finals, and over all time.
pub fn seq_function(case: &Case<'_>) -> Finding {
    let mut found = Found::of("seq-function", Promise::O);
    for room in case.facts.rooms() {
        for claims in room.claims.chunk_by(|a, b| a.seq == b.seq) {
            found.looked_at(1);
            let [first, other, ..] = claims else { continue };
            found.add(2, other.first().0, || {
                format!(
                    "room {}: seq {} is {} ({}) and {} ({})",
                    room.room,
                    first.seq,
                    message(first),
                    said(case, first),
                    message(other),
                    said(case, other)
                )
            });
        }
    }
    found.finding()
}

/// `one-seq-per-id`, E: in each conversation, a (sender, id) has one seq over all
/// acknowledgements, of the first sending and of every repeat, and over all reads, tails and
/// finals.
pub fn one_seq_per_id(case: &Case<'_>) -> Finding {
    let mut found = Found::of("one-seq-per-id", Promise::E);
    for room in case.facts.rooms() {
        let mut claims: Vec<&Claim<'_>> = room.claims.iter().collect();
        claims.sort_by_key(|claim| (claim.sender, claim.id, claim.first()));
        for same in claims.chunk_by(|a, b| (a.sender, a.id) == (b.sender, b.id)) {
            found.looked_at(1);
            let Some(first) = same.first() else { continue };
            let Some(other) = same.iter().find(|other| other.seq != first.seq) else {
                continue;
            };
            found.add(2, other.first().0, || {
                format!(
                    "room {}: {}/{} is seq {} ({}) and seq {} ({})",
                    room.room,
                    first.sender,
                    first.id,
                    first.seq,
                    said(case, first),
                    other.seq,
                    said(case, other)
                )
            });
        }
    }
    found.finding()
}

/// `no-phantom`, E: every message in a read, tail or final was sent to that conversation, with that
/// body, by an append that was not refused, and was invoked not later than the message was seen.
pub fn no_phantom(case: &Case<'_>) -> Finding {
    let mut found = Found::of("no-phantom", Promise::E);
    for room in case.facts.rooms() {
        for claim in &room.claims {
            let at_rest = claim.at_rest.map(|at| (u64::MAX, Witness::Final(at)));
            let Some((at, witness)) = claim.seen.or(at_rest) else {
                continue;
            };
            found.looked_at(1);
            if let Some((operations, why)) = phantom(case, room, claim, at) {
                found.add(operations, at, || {
                    let witness = case.witness(at, witness);
                    let (room, seq) = (room.room, claim.seq);
                    format!(
                        "room {room}: seq {seq} is {} ({witness}), {why}",
                        message(claim)
                    )
                });
            }
        }
    }
    found.finding()
}

/// Why a message that was seen at `at_us` is a phantom, and by how many operations one sees it.
fn phantom(
    case: &Case<'_>,
    room: &Room<'_>,
    claim: &Claim<'_>,
    at_us: u64,
) -> Option<(usize, String)> {
    let appends = &case.history.appends;
    let all = room.sent(claim.sender, claim.id);
    if all.is_empty() {
        return Some((1, "which nobody sent".to_owned()));
    }
    let of_body = all
        .iter()
        .map(|one| one.2)
        .filter(|at| appends[*at].body == claim.body);
    let possible = of_body.clone().filter(|at| {
        let end = &appends[*at].end;
        !matches!(end, AppendEnd::Refused { .. })
    });
    let first = possible.min_by_key(|at| appends[*at].invoked_us);
    match (of_body.clone().next(), first) {
        (None, _) => Some((2, "which was sent with another body".to_owned())),
        (Some(refused), None) => Some((2, format!("which must not be: {}", case.append(refused)))),
        (_, Some(sent)) if appends[sent].invoked_us > at_us => {
            Some((2, format!("before it was sent: {}", case.append(sent))))
        }
        (_, Some(_)) => None,
    }
}

/// A message, as `s3/m17 #00000000deadbeef`.
pub(super) fn message(claim: &Claim<'_>) -> String {
    format!("{}/{} #{:016x}", claim.sender, claim.id, claim.body)
}

/// Its first witness.
fn said(case: &Case<'_>, claim: &Claim<'_>) -> String {
    let (at, witness) = claim.first();
    case.witness(at, witness)
}
