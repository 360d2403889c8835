//! The oracle: compares a conversation as somebody read it with what the senders know. It is told
//! nothing by the cluster but what it reads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::load::Sent;

/// A promise of the README that a run can see broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// D: what was acknowledged is there.
    Durable,
    /// O: 1, 2, 3 … with no gap, and each sender's messages as it sent them.
    Ordered,
    /// E: a message is there once, and nothing that nobody sent.
    Once,
    /// H: all replicas hold equal records.
    Identical,
}

impl Promise {
    /// Its letter.
    pub fn letter(self) -> char {
        match self {
            Promise::Durable => 'D',
            Promise::Ordered => 'O',
            Promise::Once => 'E',
            Promise::Identical => 'H',
        }
    }
}

/// A promise that was broken, with the evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub promise: Promise,
    /// Where and how, for people.
    pub evidence: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise.letter(), self.evidence)
    }
}

/// A message that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub seq: u64,
    /// Who sent it.
    pub sender: String,
    /// Its client message id.
    pub id: String,
    /// What it says.
    pub body: Vec<u8>,
}

/// Judges `found`, the whole of a conversation in the order in which it was read, by `sent`, in
/// which each sender's messages are in the order of their sending. A message that was never
/// acknowledged may be there or not. `place` begins each evidence.
pub fn judge(place: &str, sent: &[Sent], found: &[Found]) -> Vec<Broken> {
    let mut broken = Vec::new();
    let mut fail = |promise, evidence: String| {
        broken.push(Broken {
            promise,
            evidence: format!("{place}: {evidence}"),
        });
    };
    for (expected, one) in (1..).zip(found) {
        if one.seq != expected {
            let evidence = format!("seq {} where {expected} belongs", one.seq);
            fail(Promise::Ordered, evidence);
        }
    }
    let known: BTreeMap<(&str, &str), &Sent> = sent
        .iter()
        .map(|one| ((one.sender.as_str(), one.id.as_str()), one))
        .collect();
    let mut seen: BTreeMap<(&str, &str), &Found> = BTreeMap::new();
    for one in found {
        let key = (one.sender.as_str(), one.id.as_str());
        if let Some(first) = seen.insert(key, one) {
            let evidence = format!("{} {} is both {} and {}", key.0, key.1, first.seq, one.seq);
            fail(Promise::Once, evidence);
        }
        if known
            .get(&key)
            .is_none_or(|sent| sent.body.as_bytes() != one.body)
        {
            let evidence = format!("nobody sent {} as it is: {} {}", one.seq, key.0, key.1);
            fail(Promise::Once, evidence);
        }
    }
    let mut last_of: BTreeMap<&str, u64> = BTreeMap::new();
    let mut taken = BTreeSet::new();
    for one in sent {
        let Some(seq) = one.acked else { continue };
        if !taken.insert(seq) {
            fail(Promise::Once, format!("seq {seq} was acknowledged twice"));
        }
        match seen.get(&(one.sender.as_str(), one.id.as_str())) {
            None => {
                let evidence = format!("{} {}, acknowledged as {seq}, is lost", one.sender, one.id);
                fail(Promise::Durable, evidence);
            }
            Some(found) if found.seq != seq => {
                let at = found.seq;
                let evidence = format!("{} {}, acknowledged as {seq}, is {at}", one.sender, one.id);
                fail(Promise::Ordered, evidence);
            }
            Some(_) => {}
        }
        let last = last_of.entry(&one.sender).or_default();
        if seq <= *last {
            let evidence = format!(
                "{} {} is {seq}, after {last} of the same sender",
                one.sender, one.id
            );
            fail(Promise::Ordered, evidence);
        }
        *last = seq;
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(id: &str, acked: Option<u64>) -> Sent {
        Sent {
            sender: "s0".into(),
            id: id.into(),
            body: format!("says {id}"),
            acked,
        }
    }

    fn found(seq: u64, id: &str) -> Found {
        Found {
            seq,
            sender: "s0".into(),
            id: id.into(),
            body: format!("says {id}").into_bytes(),
        }
    }

    /// The letters of what is broken.
    fn check(sent: &[Sent], found: &[Found], expect: &str) {
        let broken = judge("here", sent, found);
        let letters: String = broken.iter().map(|b| b.promise.letter()).collect();
        assert_eq!(letters, expect, "{broken:?}");
    }

    #[test]
    fn what_is_as_it_was_acknowledged_breaks_nothing() {
        check(&[], &[], "");
        let both = [sent("a", Some(1)), sent("b", Some(2))];
        check(&both, &[found(1, "a"), found(2, "b")], "");
    }

    #[test]
    fn a_message_without_an_answer_may_be_there_or_not() {
        let both = [sent("a", None), sent("b", Some(1))];
        check(&both, &[found(1, "b")], "");
        let both = [sent("a", None), sent("b", Some(2))];
        check(&both, &[found(1, "a"), found(2, "b")], "");
    }

    #[test]
    fn a_lost_message_breaks_d() {
        check(&[sent("a", Some(1))], &[], "D");
        let both = [sent("a", Some(1)), sent("b", Some(2))];
        check(&both, &[found(1, "a")], "D");
    }

    #[test]
    fn a_gap_a_wrong_place_or_a_swap_breaks_o() {
        check(&[sent("a", None)], &[found(2, "a")], "O");
        let both = [sent("a", Some(2)), sent("b", Some(1))];
        check(&both, &[found(1, "b"), found(2, "a")], "O");
        check(&[sent("a", Some(2))], &[found(1, "a")], "O");
    }

    #[test]
    fn a_repeat_a_phantom_or_another_content_breaks_e() {
        check(&[sent("a", Some(2))], &[found(1, "a"), found(2, "a")], "E");
        check(&[], &[found(1, "a")], "E");
        let mut other = found(1, "a");
        other.body = b"says b".to_vec();
        check(&[sent("a", Some(1))], &[other], "E");
    }

    #[test]
    fn one_seq_acknowledged_twice_breaks_e() {
        let broken = judge("here", &[sent("a", Some(1)), sent("b", Some(1))], &[]);
        assert!(broken.iter().any(|b| b.promise == Promise::Once));
    }
}
