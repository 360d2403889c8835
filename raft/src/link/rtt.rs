//! How long the other end of a link may be silent before that means something, fitted to the link.
//!
//! ```text
//!   silence = ping interval + longest round + stall        within [500, 1,500] ms
//!   longest round = max(smoothed + 4 × deviation, peak of the last 10 to 20 s)
//! ```
//!
//! The last answer before a silence may be an interval old, and the next one is a round away: that
//! is what a healthy link shows. The smoothed round and its deviation are those of RFC 6298 (gains
//! 1/8 and 1/4, k = 4), the estimator of TCP's own timer; it forgets quickly when it is sampled ten
//! times a second, as RFC 7323 (4.2) warns, hence the peak: a machine whose tasks stall for 300 ms
//! now and then, or a link that loses segments and sends them again after 200 ms, shows that in its
//! rounds, and the limit stays above it. `stall` is for what has not been seen yet: processes that
//! wait for a core for 100 to 300 ms are normal on a loaded machine, and one segment sent again
//! takes 200 ms and a round. Below the floor a false alarm would cost more than it gains; above
//! the ceiling openraft's own timers are as fast.

use std::time::Duration;

use tokio::time::Instant;

/// Between pings.
pub(crate) const PING_INTERVAL: Duration = Duration::from_millis(100);
/// What may come on top without having been seen before.
pub(crate) const STALL: Duration = Duration::from_millis(400);
/// Shortest and longest limit.
const SILENCE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_millis(1_500));
/// The limit before the first round.
const SILENCE_UNKNOWN: Duration = Duration::from_millis(1_200);
/// What a round is taken for before the first.
const ROUND_UNKNOWN: Duration = Duration::from_millis(300);
/// A peak counts for this long at least, and for twice that at most.
const PEAK_KEPT: Duration = Duration::from_secs(10);

const _: () = {
    assert!(PING_INTERVAL.as_millis() * 4 < SILENCE.0.as_millis());
    assert!(SILENCE.0.as_millis() < SILENCE.1.as_millis());
};

/// The rounds of one link.
#[derive(Debug, Default)]
pub(crate) struct Rtt {
    /// Smoothed round and deviation.
    usual: Option<(Duration, Duration)>,
    /// The longest round of the present period, and of the one before.
    peaks: [Duration; 2],
    /// When the present period began.
    since: Option<Instant>,
}

impl Rtt {
    /// A ping was answered after `round`.
    pub(crate) fn sample(&mut self, round: Duration, now: Instant) {
        // Longer than the limit can be says no more than that.
        let round = round.min(SILENCE.1);
        self.usual = Some(match self.usual {
            None => (round, round / 2),
            Some((smoothed, deviation)) => {
                let off = smoothed.abs_diff(round);
                ((smoothed * 7 + round) / 8, (deviation * 3 + off) / 4)
            }
        });
        if self.since.is_none_or(|since| now - since >= PEAK_KEPT) {
            self.peaks = [Duration::ZERO, self.peaks[0]];
            self.since = Some(now);
        }
        self.peaks[0] = self.peaks[0].max(round);
    }

    /// A round as it usually is.
    pub(crate) fn usual_round(&self) -> Option<Duration> {
        self.usual.map(|(smoothed, _)| smoothed)
    }

    /// A round as it usually is at most.
    pub(crate) fn round(&self) -> Duration {
        let usual = self.usual;
        usual.map_or(ROUND_UNKNOWN, |(smoothed, deviation)| {
            smoothed + deviation * 4
        })
    }

    /// How long the other may be silent.
    pub(crate) fn silence_max(&self) -> Duration {
        if self.usual.is_none() {
            return SILENCE_UNKNOWN;
        }
        let longest = self.round().max(self.peaks[0]).max(self.peaks[1]);
        (PING_INTERVAL + longest + STALL).clamp(SILENCE.0, SILENCE.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limit, ms, after rounds of these ms, one each interval, `then_s` seconds later.
    fn limit(rounds: &[u64], then_s: u64) -> u128 {
        let mut rtt = Rtt::default();
        let mut now = Instant::now();
        for round in rounds {
            now += PING_INTERVAL;
            rtt.sample(Duration::from_millis(*round), now);
        }
        for _ in 0..then_s * 10 {
            now += PING_INTERVAL;
            rtt.sample(Duration::from_millis(rounds[0]), now);
        }
        rtt.silence_max().as_millis()
    }

    #[test]
    fn a_steady_link_is_given_its_round_an_interval_and_a_stall() {
        assert_eq!(limit(&[30], 30), 530);
        assert_eq!(limit(&[100], 30), 600);
        assert_eq!(limit(&[1], 30), 501);
        assert_eq!(Rtt::default().silence_max(), SILENCE_UNKNOWN);
    }

    #[test]
    fn a_stall_that_was_seen_is_allowed_for_on_top_and_forgotten_later() {
        // Smoothed 67.5 ms, deviation 86.25 ms.
        assert_eq!(limit(&[30, 330], 0), 912);
        assert_eq!(limit(&[30, 330], 5), 830);
        assert_eq!(limit(&[30, 330], 25), 530);
    }

    #[test]
    fn the_limit_has_a_ceiling_whatever_a_round_took() {
        assert_eq!(limit(&[30, 60_000], 0), 1_500);
    }
}
