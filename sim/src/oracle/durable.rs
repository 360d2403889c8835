//! What must be there at the end, and where it was when it was acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use super::Case;
use super::content::message;
use super::evidence::Found;
use super::facts::{Claim, Room, Witness};
use crate::history::{Final, Level, SeenMessage};
use crate::outcome::{Finding, Promise};
use crate::plan::{Dc, Fault};

/// Data centers that an acknowledged message must have reached, where there are that many.
const DCS_MIN: usize = 2;

/// `acked-durable`, D: every acknowledged message is in every final of its conversation, with its
/// seq and its body. Where replicas never came to rest, a final that is not LINEARIZABLE may end
/// early: it is behind, which `replicas-equal` tells.
pub fn acked_durable(case: &Case<'_>) -> Finding {
    let acked = |claim: &Claim<'_>| claim.acked.map(|(at, append)| (at, Witness::Ack(append)));
    judge_claims(case, "acked-durable", acked)
}

/// `observed-durable`, D: every message that anybody saw, in a read of any level or in a tail, is
/// in every final of its conversation, with its seq and its body, whether or not it was
/// acknowledged. The same excuse as in [`acked_durable`].
pub fn observed_durable(case: &Case<'_>) -> Finding {
    judge_claims(case, "observed-durable", |claim| claim.seen)
}

/// Looks for the claims that have a witness in the finals of their conversations, one look in each;
/// nothing where there is no final.
fn judge_claims(
    case: &Case<'_>,
    oracle: &'static str,
    witness: impl Fn(&Claim<'_>) -> Option<(u64, Witness)>,
) -> Finding {
    let mut found = Found::of(oracle, Promise::D);
    for room in case.facts.rooms().filter(|room| !room.finals.is_empty()) {
        let finals = finals(case, room);
        for claim in &room.claims {
            let Some((at_us, witness)) = witness(claim) else {
                continue;
            };
            found.looked_at(1);
            let wrong: Vec<&Last<'_>> = finals.iter().filter(|last| last.lacks(claim)).collect();
            let Some(first) = wrong.first() else { continue };
            found.add(2, at_us, || {
                let instead = match first.at(claim.seq) {
                    Some(seen) => format!("is {}/{} #{:016x}", seen.sender, seen.id, seen.body),
                    None => format!("is missing, the last being {},", first.end),
                };
                format!(
                    "room {}: seq {}, {} ({}), {instead} on {}; so in {} of {} finals",
                    room.room,
                    claim.seq,
                    message(claim),
                    case.witness(at_us, witness),
                    case.at_rest(first.place),
                    wrong.len(),
                    finals.len()
                )
            });
        }
    }
    found.finding()
}

/// A final, ready to look up seqs in.
struct Last<'a> {
    place: usize,
    messages: &'a [SeenMessage],
    /// By seq, for a final that is not 1, 2, 3, ….
    by_seq: Option<BTreeMap<u64, &'a SeenMessage>>,
    /// Its highest seq.
    end: u64,
    /// Whether it may end early.
    may_end: bool,
}

impl Last<'_> {
    fn at(&self, seq: u64) -> Option<&SeenMessage> {
        match &self.by_seq {
            Some(by_seq) => by_seq.get(&seq).copied(),
            None => self
                .messages
                .get(usize::try_from(seq.checked_sub(1)?).ok()?),
        }
    }

    fn lacks(&self, claim: &Claim<'_>) -> bool {
        match self.at(claim.seq) {
            Some(seen) => !claim.is(&seen.sender, &seen.id, seen.body),
            None => !self.may_end || claim.seq <= self.end,
        }
    }
}

fn finals<'a>(case: &Case<'a>, room: &Room<'_>) -> Vec<Last<'a>> {
    let places = room.finals.iter();
    let finals = places.map(|&place| {
        let Final {
            messages, level, ..
        } = &case.history.finals[place];
        let dense = (1..)
            .zip(messages)
            .all(|(seq, seen): (u64, &SeenMessage)| seq == seen.seq);
        let by_seq = || messages.iter().map(|seen| (seen.seq, seen)).collect();
        Last {
            place,
            messages,
            by_seq: (!dense).then(by_seq),
            end: messages
                .iter()
                .map(|seen| seen.seq)
                .max()
                .unwrap_or_default(),
            may_end: case.observed.unsettled.is_some() && *level != Level::Linearizable,
        }
    });
    finals.collect()
}

/// `quorum-at-ack`, D: when an append was acknowledged, its entry was on the synced storage of a
/// quorum of its shard, in two data centers at least (where the topology has two, and until so many
/// are lost for good that the product says it cannot be helped). One look at each cover.
pub fn quorum_at_ack(case: &Case<'_>) -> Finding {
    let mut found = Found::of("quorum-at-ack", Promise::D);
    let spread = case.plan.topology.dcs.len().min(DCS_MIN);
    let suspended_us = suspended_us(case);
    for cover in &case.observed.covers {
        found.looked_at(1);
        let quorum = usize::try_from(cover.quorum).unwrap_or(usize::MAX);
        let append = case.history.appends.get(cover.append);
        let at_us = append.and_then(|append| append.returned_us);
        let dcs_min = match at_us.zip(suspended_us) {
            Some((at_us, from_us)) if at_us >= from_us => 1,
            Some(_) | None => spread,
        };
        if cover.hosts.len() >= quorum && cover.dcs.len() >= dcs_min {
            continue;
        }
        found.add(1, at_us.unwrap_or(u64::MAX), || {
            let room = append.map(|append| append.room).unwrap_or_default();
            format!(
                "room {room}: {}, when it was synced on [{}] in [{}] only; a quorum is {}, over \
                 {dcs_min} data centers",
                case.append(cover.append),
                cover.hosts.join(", "),
                cover.dcs.join(", "),
                cover.quorum
            )
        });
    }
    found.finding()
}

/// When too few data centers are left for replicas to be apart, and those that are lost are being
/// replaced all the same.
fn suspended_us(case: &Case<'_>) -> Option<u64> {
    let topology = &case.plan.topology;
    let mut burned: BTreeSet<&str> = BTreeSet::new();
    for event in &case.plan.events {
        let Fault::Burn { hosts } = &event.fault else {
            continue;
        };
        burned.extend(hosts.iter().map(String::as_str));
        let is_left = |dc: &&Dc| dc.nodes.iter().any(|n| !burned.contains(n.name.as_str()));
        let left = topology.dcs.iter().filter(is_left).count();
        if left < topology.replicas as usize && topology.replace_after_ms > 0 {
            let from_ms = event.at_ms.saturating_add(topology.replace_after_ms);
            return Some(case.history.began_us + from_ms.saturating_mul(1_000));
        }
    }
    None
}

/// `disk-never-regresses`, D: when a disk was opened again after a crash or a power cut, everything
/// that had been synced to it was there; no entry was durable before a vote of its term; what a disk
/// had noted as committed was never cut from the end of its log; and a disk that is not a member's any
/// more was given nothing. Who watches the disks compares; this tells what they found. Looks at each
/// start of a host in the plan.
pub fn disk_never_regresses(case: &Case<'_>) -> Finding {
    let mut found = Found::of("disk-never-regresses", Promise::D);
    let lasted_us = case.history.ended_us.saturating_sub(case.history.began_us);
    let events = case.plan.events.iter();
    for event in events.filter(|event| event.at_ms.saturating_mul(1_000) <= lasted_us) {
        if let Fault::Start { hosts } = &event.fault {
            found.looked_at(hosts.len());
        }
    }
    for (at, regressed) in (0..).zip(&case.observed.regressed) {
        found.looked_at(1);
        found.add(1, at, || regressed.clone());
    }
    found.finding()
}
