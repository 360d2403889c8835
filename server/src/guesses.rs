//! Who guesses at the join token: one guess a second for each address, compared on this node. None of
//! it becomes an entry of any log, and the log for people says who guesses.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use model::limits;
use parking_lot::Mutex;
use tokio::time::Instant;

/// Between two guesses from one address.
pub const PAUSE: Duration = Duration::from_secs(1);

/// When each address guessed last, if it was wrong or is not compared yet.
#[derive(Default)]
pub struct Guesses(Mutex<BTreeMap<Option<IpAddr>, Instant>>);

impl Guesses {
    /// Whether somebody there may guess at `now`; if so, that is a guess until it turns out right.
    /// Callers whose address is not known share one.
    pub fn begin(&self, from: Option<IpAddr>, now: Instant) -> bool {
        let mut last = self.0.lock();
        let recent = |at: &Instant| now.saturating_duration_since(*at) < PAUSE;
        if last.get(&from).is_some_and(recent) {
            return false;
        }
        if last.len() >= limits::GUESSERS_MAX {
            last.retain(|_, at| recent(at));
        }
        if last.len() >= limits::GUESSERS_MAX {
            return false;
        }
        last.insert(from, now);
        true
    }

    /// It was right.
    pub fn right(&self, from: Option<IpAddr>) {
        self.0.lock().remove(&from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u32) -> Option<IpAddr> {
        Some(IpAddr::from(last.to_be_bytes()))
    }

    #[test]
    fn an_address_has_one_guess_a_second_and_others_theirs() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        assert!(guesses.begin(address(1), now));
        assert!(!guesses.begin(address(1), now));
        assert!(!guesses.begin(address(1), now + PAUSE / 2));
        assert!(guesses.begin(address(2), now));
        assert!(guesses.begin(None, now));
        assert!(!guesses.begin(None, now));
        assert!(guesses.begin(address(1), now + PAUSE));
    }

    #[test]
    fn who_is_right_waits_for_nothing() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        for _ in 0..10 {
            assert!(guesses.begin(address(1), now));
            guesses.right(address(1));
        }
    }

    #[test]
    fn no_more_addresses_are_kept_than_may_be() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        let most = u32::try_from(limits::GUESSERS_MAX).unwrap();
        assert!((0..most).all(|last| guesses.begin(address(last), now)));
        assert!(!guesses.begin(address(most), now));
        assert!(guesses.begin(address(most), now + PAUSE));
    }
}
