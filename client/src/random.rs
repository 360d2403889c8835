//! The client's only source of chance: seeded, so that a simulated run repeats.

use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub(crate) struct Random(Mutex<StdRng>);

impl Random {
    /// From a seed, or from the operating system when there is none.
    pub(crate) fn new(seed: Option<u64>) -> Random {
        Random(Mutex::new(
            seed.map_or_else(StdRng::from_os_rng, StdRng::seed_from_u64),
        ))
    }

    /// Between half of `wait` and the whole of it.
    pub(crate) fn jitter(&self, wait: Duration) -> Duration {
        wait.mul_f64(self.0.lock().random_range(0.5..=1.0))
    }

    /// A number for breaking ties.
    pub(crate) fn rank(&self) -> u64 {
        self.0.lock().random()
    }

    /// 32 hex digits that no other client draws.
    pub(crate) fn id(&self) -> String {
        format!("{:032x}", self.0.lock().random::<u128>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_ids() {
        let (a, b) = (Random::new(Some(7)), Random::new(Some(7)));
        assert_eq!(a.id(), b.id());
        assert_ne!(a.id(), b.rank().to_string());
        assert_ne!(Random::new(None).id(), Random::new(None).id());
    }

    #[test]
    fn jitter_stays_between_half_and_the_whole() {
        let random = Random::new(Some(1));
        for _ in 0..1_000 {
            let wait = random.jitter(Duration::from_millis(200));
            assert!(wait >= Duration::from_millis(100) && wait <= Duration::from_millis(200));
        }
    }
}
