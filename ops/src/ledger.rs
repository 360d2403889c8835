//! What was sent and what was acknowledged, kept outside the cluster, and what a conversation
//! that is read back says against it. Keeps the demo honest about D, O and E: the cluster's own
//! word counts for nothing here.

use std::collections::BTreeMap;

/// Examples of each fault that are kept for people.
const NOTES_MAX: usize = 5;

/// One message that a sender sent, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its client message id.
    pub id: String,
    /// Who sent it.
    pub sender: String,
    /// Hash of its content.
    pub content: u128,
    /// When it was first sent, µs on the sender's clock.
    pub sent_us: u64,
    /// The acknowledgement, if one came.
    pub ack: Option<Ack>,
}

/// An acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The number that the message got.
    pub seq: u64,
    /// When it came, µs on the sender's clock.
    pub at_us: u64,
}

/// One message as the cluster gave it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub seq: u64,
    /// Its client message id.
    pub id: String,
    /// Who sent it.
    pub sender: String,
    /// Hash of its content.
    pub content: u128,
}

/// What is wrong, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Acknowledged, and not there or there with other content.
    pub lost: u64,
    /// There more often than sent.
    pub duplicated: u64,
    /// Not in the order of the file, not where its acknowledgement said, or a hole in the numbers.
    pub reordered: u64,
    /// A few of them in words.
    pub notes: Vec<String>,
}

impl Faults {
    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.lost + self.duplicated + self.reordered == 0
    }

    /// Adds another conversation's.
    pub fn add(&mut self, other: Faults) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        for note in other.notes {
            self.note(note);
        }
    }

    /// Of two readings of one conversation, so that one fault is not counted twice.
    pub fn worse(self, other: Faults) -> Faults {
        let mut notes = self.notes;
        notes.extend(
            other
                .notes
                .into_iter()
                .filter(|n| !notes.contains(n))
                .collect::<Vec<_>>(),
        );
        notes.truncate(NOTES_MAX);
        Faults {
            lost: self.lost.max(other.lost),
            duplicated: self.duplicated.max(other.duplicated),
            reordered: self.reordered.max(other.reordered),
            notes,
        }
    }

    fn note(&mut self, note: String) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(note);
        }
    }
}

/// Compares a conversation as read back, in the order in which it came, with what was sent to it.
pub fn judge(name: &str, sent: &[Sent], found: &[Found]) -> Faults {
    let mut faults = Faults::default();
    let mut by_id: BTreeMap<(&str, &str), Vec<&Found>> = BTreeMap::new();
    for (i, one) in found.iter().enumerate() {
        by_id.entry((&one.sender, &one.id)).or_default().push(one);
        let expected = i as u64 + 1;
        if one.seq != expected {
            faults.reordered += 1;
            faults.note(format!("{name}: seq {} where {expected} belongs", one.seq));
        }
    }
    let mut highest = 0;
    for (ordinal, one) in sent.iter().enumerate() {
        let places = by_id
            .remove(&(one.sender.as_str(), one.id.as_str()))
            .unwrap_or_default();
        if let Some(extra) = places.len().checked_sub(1).filter(|&n| n > 0) {
            faults.duplicated += extra as u64;
            faults.note(format!(
                "{name}: {} is there {} times",
                one.id,
                places.len()
            ));
        }
        let Some(place) = places.first() else {
            if let Some(ack) = one.ack {
                faults.lost += 1;
                faults.note(format!(
                    "{name}: {} acked as seq {} is gone",
                    one.id, ack.seq
                ));
            }
            continue;
        };
        if place.content != one.content {
            faults.lost += 1;
            faults.note(format!(
                "{name}: {} has other content at seq {}",
                one.id, place.seq
            ));
        }
        let moved = one
            .ack
            .is_some_and(|ack| places.iter().all(|p| p.seq != ack.seq));
        if moved || place.seq < highest {
            faults.reordered += 1;
            faults.note(format!(
                "{name}: {} (line {}) is at seq {}, acked as {:?}",
                one.id,
                ordinal + 1,
                place.seq,
                one.ack.map(|a| a.seq)
            ));
        }
        highest = highest.max(place.seq);
    }
    for ((sender, id), places) in by_id {
        faults.duplicated += places.len() as u64;
        faults.note(format!(
            "{name}: {id} of {sender} is there and was never sent"
        ));
    }
    faults
}

/// The waits that clients saw, from all (sent, acknowledged) pairs in µs: the longest time without
/// an acknowledgement to anybody while at least one call was outstanding, and the longest that any
/// one message waited.
pub fn gaps_us(calls: &[(u64, u64)]) -> (u64, u64) {
    // At one instant, what is sent counts before what is acknowledged.
    let sent = calls.iter().map(|&(sent, _)| (sent, false));
    let mut events: Vec<(u64, bool)> = sent
        .chain(calls.iter().map(|&(_, acked)| (acked, true)))
        .collect();
    events.sort_unstable();
    let (mut longest, mut outstanding, mut since) = (0, 0_u64, 0);
    for (at, acked) in events {
        if acked {
            longest = longest.max(at - since);
            outstanding = outstanding.saturating_sub(1);
            since = at;
        } else {
            if outstanding == 0 {
                since = at;
            }
            outstanding += 1;
        }
    }
    let worst = calls
        .iter()
        .map(|&(sent, acked)| acked.saturating_sub(sent))
        .max()
        .unwrap_or(0);
    (longest, worst)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(n: u64, acked_as: Option<u64>) -> Sent {
        Sent {
            id: format!("m{n}"),
            sender: "s".into(),
            content: u128::from(n),
            sent_us: n,
            ack: acked_as.map(|seq| Ack { seq, at_us: n + 1 }),
        }
    }

    fn found(seq: u64, n: u64) -> Found {
        Found {
            seq,
            id: format!("m{n}"),
            sender: "s".into(),
            content: u128::from(n),
        }
    }

    fn check(sent: &[Sent], found: &[Found], lost: u64, duplicated: u64, reordered: u64) {
        let faults = judge("c", sent, found);
        assert_eq!(
            (faults.lost, faults.duplicated, faults.reordered),
            (lost, duplicated, reordered),
            "{:?}",
            faults.notes
        );
        assert_eq!(faults.is_empty(), faults.notes.is_empty());
    }

    #[test]
    fn what_is_there_as_acknowledged_is_no_fault() {
        let all = [sent(1, Some(1)), sent(2, Some(2)), sent(3, Some(3))];
        check(&all, &[found(1, 1), found(2, 2), found(3, 3)], 0, 0, 0);
        check(&[], &[], 0, 0, 0);
    }

    #[test]
    fn a_message_without_an_ack_may_be_there_or_not() {
        check(&[sent(1, Some(1)), sent(2, None)], &[found(1, 1)], 0, 0, 0);
        check(
            &[sent(1, Some(1)), sent(2, None)],
            &[found(1, 1), found(2, 2)],
            0,
            0,
            0,
        );
    }

    #[test]
    fn an_acknowledged_message_that_is_gone_or_altered_is_lost() {
        let both = [sent(1, Some(1)), sent(2, Some(2))];
        check(&both, &[found(1, 1)], 1, 0, 0);
        let mut altered = found(2, 2);
        altered.content = 77;
        check(&both, &[found(1, 1), altered], 1, 0, 0);
    }

    #[test]
    fn a_message_that_is_there_twice_or_was_never_sent_is_duplicated() {
        check(&[sent(1, Some(1))], &[found(1, 1), found(2, 1)], 0, 1, 0);
        check(&[sent(1, Some(1))], &[found(1, 1), found(2, 9)], 0, 1, 0);
    }

    #[test]
    fn another_order_than_the_files_a_moved_message_and_a_hole_are_reorderings() {
        let both = [sent(1, None), sent(2, None)];
        check(&both, &[found(1, 2), found(2, 1)], 0, 0, 1);
        check(&[sent(1, Some(2))], &[found(1, 1)], 0, 0, 1);
        check(&[sent(1, Some(2))], &[found(2, 1)], 0, 0, 1);
    }

    #[test]
    fn a_fault_that_two_readings_show_counts_once() {
        let one = judge("c", &[sent(1, Some(1))], &[]);
        assert_eq!(one.clone().worse(one.clone()), one);
        assert_eq!(one.clone().worse(Faults::default()).lost, 1);
    }

    #[test]
    fn a_gap_counts_only_while_somebody_waits() {
        assert_eq!(gaps_us(&[]), (0, 0));
        // One call of 10, nobody waiting for 90, one call of 5.
        assert_eq!(gaps_us(&[(0, 10), (100, 105)]), (10, 10));
        // The second waits all through; the first's ack divides its wait.
        assert_eq!(gaps_us(&[(0, 40), (10, 100)]), (60, 90));
        // Calls that meet at an instant leave no idle moment between them.
        assert_eq!(gaps_us(&[(0, 10), (10, 30)]), (20, 20));
    }
}
