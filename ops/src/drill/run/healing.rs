//! How long it takes, once the last fault has ended, until every shard is led again.

use std::time::{Duration, Instant};

/// The clock of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Healing {
    healed: Option<Instant>,
    led: Option<Duration>,
}

impl Healing {
    /// A fault begins: what was seen before says nothing of what comes.
    pub fn hurt(&mut self) {
        *self = Healing::default();
    }

    /// The last fault has ended.
    pub fn healed(&mut self) {
        self.healed = Some(Instant::now());
        self.led = None;
    }

    /// Every shard is led.
    pub fn led(&mut self) {
        if let Some(healed) = self.healed {
            self.led.get_or_insert(healed.elapsed());
        }
    }

    /// What it took, if anything was to heal: none inside when it was not seen.
    pub fn took(&self) -> Option<Option<Duration>> {
        self.healed.map(|_| self.led)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_seen_behind_the_last_fault_counts() {
        let mut healing = Healing::default();
        healing.led();
        assert_eq!(healing.took(), None);
        healing.healed();
        assert_eq!(healing.took(), Some(None));
        healing.led();
        let took = healing.took().unwrap().unwrap();
        healing.led();
        assert_eq!(healing.took(), Some(Some(took)), "the first counts");
        healing.hurt();
        assert_eq!(healing.took(), None);
    }
}
