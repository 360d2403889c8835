//! Judges L: whether the appends to a conversation and the LINEARIZABLE reads of it can be put in
//! one order that respects real time.
//!
//! Because numbers are dense, every operation says itself where it belongs: an append at its seq,
//! a read just behind the head it saw. So a history is linearizable exactly when no operation that
//! was answered before another was invoked belongs behind it, and a sort and one sweep that
//! carries the earliest answer seen decide it in O(n log n).

/// What an operation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A message got this seq.
    Append(u64),
    /// A read saw this as the last seq.
    Read(u64),
}

/// An operation and when it was under way, µs on one clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timed {
    /// What it did.
    pub op: Op,
    /// When it was invoked.
    pub invoked_us: u64,
    /// When it was answered; `u64::MAX` when no answer came.
    pub answered_us: u64,
}

impl Timed {
    fn place(&self) -> u64 {
        match self.op {
            Op::Append(seq) => 2 * seq,
            Op::Read(head) => 2 * head + 1,
        }
    }
}

/// A pair that breaks L: `.0` was over before `.1` began, and yet belongs behind it.
pub type Violation = (Timed, Timed);

/// The first violation found, if there is one.
pub fn violation(history: &[Timed]) -> Option<Violation> {
    let mut sorted = history.to_vec();
    sorted.sort_by_key(|t| std::cmp::Reverse(t.place()));
    let mut earliest: Option<Timed> = None;
    for group in sorted.chunk_by(|a, b| a.place() == b.place()) {
        // Against everything that belongs strictly behind this group.
        for &one in group {
            if let Some(behind) = earliest.filter(|e| e.answered_us < one.invoked_us) {
                return Some((behind, one));
            }
        }
        for &one in group {
            if earliest.is_none_or(|e| one.answered_us < e.answered_us) {
                earliest = Some(one);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    use super::*;

    fn brute_force(history: &[Timed]) -> bool {
        history.iter().any(|a| {
            history
                .iter()
                .any(|b| a.answered_us < b.invoked_us && a.place() > b.place())
        })
    }

    fn timed(op: Op, invoked_us: u64, answered_us: u64) -> Timed {
        Timed {
            op,
            invoked_us,
            answered_us,
        }
    }

    #[test]
    fn a_read_that_began_after_an_ack_must_show_it() {
        let append = timed(Op::Append(1), 0, 10);
        assert!(violation(&[append, timed(Op::Read(0), 11, 20)]).is_some());
        assert!(violation(&[append, timed(Op::Read(0), 10, 20)]).is_none());
        assert!(violation(&[append, timed(Op::Read(1), 11, 20)]).is_none());
    }

    #[test]
    fn a_read_cannot_show_what_nobody_had_sent() {
        let early = timed(Op::Read(1), 0, 5);
        assert!(violation(&[early, timed(Op::Append(1), 6, 9)]).is_some());
    }

    #[test]
    fn reads_one_after_another_never_go_back() {
        let newer = timed(Op::Read(5), 0, 5);
        assert!(violation(&[newer, timed(Op::Read(4), 6, 9)]).is_some());
        assert!(violation(&[newer, timed(Op::Read(4), 5, 9)]).is_none());
        assert!(violation(&[newer, timed(Op::Read(5), 6, 9)]).is_none());
    }

    #[test]
    fn an_append_without_an_answer_can_still_be_read() {
        let open = timed(Op::Append(1), 3, u64::MAX);
        assert!(violation(&[open, timed(Op::Read(1), 5, 9), timed(Op::Read(0), 0, 9)]).is_none());
        assert!(violation(&[open, timed(Op::Read(1), 0, 2)]).is_some());
    }

    #[test]
    fn the_sweep_agrees_with_comparing_every_pair() {
        let mut random = StdRng::seed_from_u64(7);
        let (mut broken, mut whole) = (0, 0);
        for _ in 0..20_000 {
            let history: Vec<Timed> = (0..random.random_range(0..9))
                .map(|_| {
                    let n = random.random_range(0..5);
                    let op = if random.random() {
                        Op::Append(n)
                    } else {
                        Op::Read(n)
                    };
                    let invoked_us = random.random_range(0..12);
                    timed(op, invoked_us, invoked_us + random.random_range(0..9))
                })
                .collect();
            let expect = brute_force(&history);
            let found = violation(&history);
            assert_eq!(found.is_some(), expect, "{history:?}");
            if let Some((before, after)) = found {
                assert!(before.answered_us < after.invoked_us && before.place() > after.place());
                broken += 1;
            } else {
                whole += 1;
            }
        }
        assert!(broken > 1_000 && whole > 1_000, "{broken} {whole}");
    }
}
