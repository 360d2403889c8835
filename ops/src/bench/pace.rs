//! When an open loop sends: at its rate, whether or not the cluster keeps up. What is sent late
//! keeps its intended time, so that latency tells of the queue too (no coordinated omission).

use std::time::Duration;

/// One worker's share of an open loop.
#[derive(Clone, Debug)]
pub struct Pace {
    step: Duration,
    next: Duration,
}

impl Pace {
    /// `per_s` messages a second shared evenly among `workers`; worker `index` begins at its own
    /// offset, so that they do not all send at once.
    pub fn new(per_s: f64, workers: usize, index: usize) -> Pace {
        let step = Duration::from_secs_f64(workers.max(1) as f64 / per_s);
        Pace {
            step,
            next: step.mul_f64(index as f64 / workers.max(1) as f64),
        }
    }

    /// The intended time of the next message, from the beginning of the run.
    pub fn take(&mut self) -> Duration {
        let now = self.next;
        self.next += self.step;
        now
    }

    /// As [`Pace::take`], if that time has come.
    pub fn take_due(&mut self, elapsed: Duration) -> Option<Duration> {
        (self.next <= elapsed).then(|| self.take())
    }

    /// When the next message is due.
    pub fn next(&self) -> Duration {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_together_send_at_the_rate_and_not_in_step() {
        let mut sent: Vec<Duration> = Vec::new();
        for index in 0..4 {
            let mut pace = Pace::new(1_000.0, 4, index);
            while let Some(at) = pace.take_due(Duration::from_millis(999)) {
                sent.push(at);
            }
        }
        sent.sort_unstable();
        assert_eq!(sent.len(), 1_000);
        assert!(
            sent.windows(2)
                .all(|w| w[1] - w[0] < Duration::from_micros(1_100))
        );
    }

    #[test]
    fn what_is_late_keeps_its_intended_time() {
        let mut pace = Pace::new(10.0, 1, 0);
        let late = Duration::from_secs(1);
        let due: Vec<_> = std::iter::from_fn(|| pace.take_due(late)).collect();
        assert_eq!(due.len(), 11);
        assert_eq!(due[1], Duration::from_millis(100));
        assert!(pace.next() > late);
    }
}
