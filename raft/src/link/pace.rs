//! How much may be on its way to another node, in bytes, fitted to the line by what pings take.
//!
//! What is on its way stands in front of all that follows: on a line of 8 Mbit/s each 100 kB are a
//! tenth of a second for every ping, vote and call behind them. So there are two windows. What can
//! wait (catching up, snapshots) fills the line and adds at most half a round to what others take. All
//! of it together, calls and new entries too, adds at most what a link's silence allows for.
//!
//! ```text
//!   a ping went out behind S bytes, its answer came:  S bytes have arrived
//!   queueing = the shorter of the last two rounds − shortest round of the last minute
//!   queueing above its bound: the window shrinks in proportion          once a round
//!   below, and the window held something back: it grows by an eighth; it doubles until it first shrank
//! ```
//!
//! Where calls and new entries leave nothing of a line, rounds are long whatever bulk does. So bulk has a
//! quarter of what arrives in any case: who lacks entries must have them before somebody else fails.
//!
//! Whoever fills a line never sees it empty: so bulk stands back for two rounds every ten seconds, as BBR
//! does (PROBE_RTT).
//!
//! That is what LEDBAT (RFC 6817) and TCP Vegas do, and for the same end. A machine whose tasks run late
//! shows it in its rounds; what nodes tell of their lag is allowed for on top.

use std::time::Duration;

use model::limits::{LINK_BULK_BYTES_MAX, LINK_WINDOW_BYTES_MAX};
use tokio::time::Instant;

/// The least that bulk adds to a round at its full speed, however short that is.
const BULK_DELAY_MIN: Duration = Duration::from_millis(10);
/// What all of it adds, which is a part of what silence allows for (`crate::link::rtt`).
const ALL_DELAY: Duration = Duration::from_millis(150);
/// Smallest windows: a message or two go through in any case.
const BULK_MIN: u64 = 4 * 1024;
const ALL_MIN: u64 = 64 * 1024;
/// First windows.
const BULK_FIRST: u64 = 16 * 1024;
const ALL_FIRST: u64 = 1024 * 1024;
/// The shortest round counts for this long at least, and for twice that at most.
const BASE_KEPT: Duration = Duration::from_secs(30);
/// What arrives of other things in a round, divided by this, is bulk's in any case: a quarter of all.
const LIVE_OF_BULK: u64 = 3;
/// Bulk stands back this often, for so many rounds.
const PROBE_EVERY: Duration = Duration::from_secs(10);
const PROBE_ROUNDS: u32 = 2;
/// Rounds of which the shortest counts: one that was late for another reason does not.
const RECENT: usize = 2;

const _: () = {
    assert!(BULK_FIRST <= LINK_BULK_BYTES_MAX);
    assert!(ALL_FIRST <= LINK_WINDOW_BYTES_MAX);
};

/// The windows of one link.
#[derive(Debug)]
pub(crate) struct Pace {
    pub(crate) bulk: Window,
    pub(crate) all: Window,
    /// The shortest round of the present period, and of the one before.
    shortest: [Option<Duration>; 2],
    since: Option<Instant>,
    recent: [Option<Duration>; RECENT],
    /// When the windows were looked at last, and what has arrived since but for bulk, bytes.
    looked: Option<Instant>,
    live: u64,
    /// Until when bulk stands back, or when it last did.
    probed: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            bulk: Window::new(BULK_FIRST, BULK_MIN, LINK_BULK_BYTES_MAX),
            all: Window::new(ALL_FIRST, ALL_MIN, LINK_WINDOW_BYTES_MAX),
            shortest: [None; 2],
            since: None,
            recent: [None; RECENT],
            looked: None,
            live: 0,
            probed: None,
        }
    }
}

impl Pace {
    /// What is known of the line, for the next connection over it: a new one would send as much as if
    /// nothing were, at the very moment when all links begin anew.
    pub(crate) fn again(self) -> Pace {
        Pace {
            bulk: Window::again(self.bulk, BULK_FIRST),
            all: Window::again(self.all, ALL_FIRST),
            shortest: self.shortest,
            since: self.since,
            ..Pace::default()
        }
    }

    /// So many bytes have arrived that were no bulk.
    pub(crate) fn arrived(&mut self, live: u64) {
        self.live += live;
    }

    /// A ping was answered after `round`; `lag` is by how much tasks run late at both ends.
    pub(crate) fn sample(&mut self, round: Duration, lag: Duration, now: Instant) {
        if self.since.is_none_or(|since| now - since >= BASE_KEPT) {
            self.shortest = [None, self.shortest[0]];
            self.since = Some(now);
        }
        self.shortest[0] = Some(self.shortest[0].map_or(round, |least| least.min(round)));
        self.recent.rotate_right(1);
        self.recent[0] = Some(round);
        let probed = *self.probed.get_or_insert(now);
        let over = self.bulk.stands_back && now >= probed;
        if now - probed >= PROBE_EVERY {
            self.probed = Some(now + round * PROBE_ROUNDS);
            self.bulk.stands_back = true;
        } else if over {
            self.bulk.stands_back = false;
        }
        if over || self.bulk.stands_back {
            // They say nothing of a full line.
            self.recent = [None; RECENT];
            return;
        }
        // Once a round: what was changed shows only then.
        if self.looked.is_some_and(|looked| now - looked < round) {
            return;
        }
        let since = self.looked.replace(now).map(|looked| now - looked);
        self.share(since.unwrap_or(round), round);
        let base = self.base();
        let least = self.recent.iter().flatten().min();
        let least = least.copied().unwrap_or(base);
        let lag = lag * 2;
        let bulk_delay = (base / 2).max(BULK_DELAY_MIN);
        self.bulk.look(least, base + bulk_delay + lag);
        self.all.look(least, base + ALL_DELAY + lag);
    }

    /// Fits what bulk has in any case to what arrived meanwhile.
    fn share(&mut self, since: Duration, round: Duration) {
        let live = u128::from(std::mem::take(&mut self.live));
        let in_a_round = live * round.as_micros() / since.as_micros().max(1);
        let share = u64::try_from(in_a_round).unwrap_or(u64::MAX) / LIVE_OF_BULK;
        let before = self.bulk.least;
        self.bulk.least = ((before * 3 + share) / 4).clamp(BULK_MIN, LINK_BULK_BYTES_MAX);
    }

    /// A round over an empty line.
    fn base(&self) -> Duration {
        let known = self.shortest.iter().flatten().min();
        known.copied().unwrap_or_default()
    }
}

/// A window that is fitted to its line.
#[derive(Debug)]
pub(crate) struct Window {
    bytes: u64,
    least: u64,
    most: u64,
    /// It held something back since it was looked at.
    held: bool,
    /// It has never been too large.
    opening: bool,
    /// It is as small as can be for a moment, to see the line empty.
    stands_back: bool,
}

impl Window {
    fn new(first: u64, least: u64, most: u64) -> Window {
        Window {
            bytes: first,
            least,
            most,
            held: false,
            opening: true,
            stands_back: false,
        }
    }

    fn again(before: Window, first: u64) -> Window {
        Window {
            bytes: before.bytes.min(first),
            opening: before.opening,
            ..Window::new(first, before.least.min(first), before.most)
        }
    }

    /// Bytes that may be on their way.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The same for what is `needed`, which has twice the window: bulk that somebody waits for.
    pub(crate) fn admits_needed(&mut self, on_the_way: u64, more: u64) -> bool {
        on_the_way + more <= self.bytes * 2 || self.admits(on_the_way, more)
    }

    /// Whether `more` may go when so much is on its way; something may always.
    pub(crate) fn admits(&mut self, on_the_way: u64, more: u64) -> bool {
        let bytes = if self.stands_back {
            self.least
        } else {
            self.bytes
        };
        let admits = on_the_way == 0 || on_the_way + more <= bytes;
        self.held |= !admits;
        admits
    }

    /// Fits it: rounds take so long, and should take no longer than `most`.
    fn look(&mut self, round: Duration, most: Duration) {
        let held = std::mem::take(&mut self.held);
        let bytes = self.bytes;
        self.bytes = if round > most {
            self.opening = false;
            // As much smaller as the round is too long, within bounds: half a sample is no measure.
            let part = most.as_micros() * 16 / round.as_micros().max(1);
            bytes * u64::try_from(part).unwrap_or(14).clamp(4, 14) / 16
        } else if held && self.opening {
            bytes * 2
        } else if held {
            bytes + bytes / 8
        } else {
            bytes
        }
        .clamp(self.least, self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pings over a line of this capacity and round, while bulk fills its window: what the pings of the
    /// last ten seconds took at most, and how much of the line was used, percent.
    fn filled(bytes_per_s: u64, round_ms: u64, lag_ms: u64) -> (u64, u64) {
        let mut pace = Pace::default();
        let begin = Instant::now();
        let lag = Duration::from_millis(lag_ms);
        // In microseconds: the ping that is sent stands behind a whole window.
        let (mut now_us, mut sent, mut longest_us) = (0, 0, 0);
        while now_us < 120_000_000 {
            let window = match pace.bulk.stands_back {
                true => BULK_MIN,
                false => pace.bulk.bytes(),
            };
            let on_line_us = window * 1_000_000 / bytes_per_s;
            let round_us = (round_ms * 1_000).max(on_line_us) + lag_ms * 1_000;
            assert!(!pace.bulk.admits(window, 1), "it is full");
            now_us += round_us;
            if now_us > 110_000_000 {
                sent += window;
                longest_us = longest_us.max(round_us);
            }
            let now = begin + Duration::from_micros(now_us);
            pace.sample(Duration::from_micros(round_us), lag, now);
        }
        (longest_us / 1_000, sent * 100 / (bytes_per_s * 10))
    }

    #[test]
    fn bulk_uses_a_line_and_adds_half_a_round_to_what_others_take() {
        for (mbits, round_ms) in [(1, 30), (8, 30), (8, 200), (100, 30), (100, 400), (1, 400)] {
            let (longest_ms, used) = filled(mbits * 125_000, round_ms, 0);
            // A step of the window on top, and its least size on the thinnest line.
            let most = (round_ms * 2).max(140 / mbits + 30 + round_ms);
            assert!(
                longest_ms <= most,
                "{mbits} Mbit/s, {round_ms} ms: {longest_ms} ms"
            );
            assert!(used >= 80, "{mbits} Mbit/s, {round_ms} ms: {used} % used");
        }
    }

    #[test]
    fn bulk_has_a_quarter_of_a_line_that_others_fill() {
        let mut pace = Pace::default();
        let (begin, round) = (Instant::now(), Duration::from_millis(400));
        pace.sample(Duration::from_millis(30), Duration::ZERO, begin);
        for at in 1..=60 {
            pace.arrived(90_000);
            assert!(!pace.bulk.admits(LINK_BULK_BYTES_MAX, 1));
            pace.sample(round, Duration::ZERO, begin + round * at);
        }
        let bytes = pace.bulk.bytes();
        assert!((29_000..=31_000).contains(&bytes), "{bytes}");
        for at in 61..=120 {
            pace.sample(round, Duration::ZERO, begin + round * at);
        }
        assert_eq!(pace.bulk.bytes(), BULK_MIN, "others are gone");
    }

    #[test]
    fn a_new_connection_begins_with_what_the_last_one_has_shown() {
        let mut pace = Pace::default();
        let begin = Instant::now();
        pace.sample(Duration::from_millis(30), Duration::ZERO, begin);
        for at in 1..=20 {
            let now = begin + Duration::from_millis(400) * at;
            pace.sample(Duration::from_millis(400), Duration::ZERO, now);
        }
        let mut again = pace.again();
        assert_eq!((again.bulk.bytes(), again.all.bytes()), (BULK_MIN, ALL_MIN));
        assert!(!again.bulk.admits(BULK_MIN, 1));
        assert!(again.bulk.admits_needed(BULK_MIN, BULK_MIN));
        assert!(!again.bulk.admits_needed(BULK_MIN, BULK_MIN + 1));
        assert_eq!(again.base(), Duration::from_millis(30));
        let fresh = Pace::default().again();
        assert_eq!(fresh.bulk.bytes(), BULK_FIRST);
    }

    #[test]
    fn a_busy_machine_does_not_pass_for_a_thin_line() {
        let (_, used) = filled(125_000_000, 1, 20);
        assert!(used >= 30, "{used} % used");
    }

    #[test]
    fn a_window_admits_one_thing_however_small_it_is() {
        let mut window = Window::new(8, 8, 64);
        assert!(window.admits(0, 1_000));
        assert!(!window.admits(1, 8));
        assert!(window.admits(1, 7));
    }

    #[test]
    fn one_late_answer_changes_nothing_and_a_window_that_is_not_used_does_not_grow() {
        let mut pace = Pace::default();
        let mut now = Instant::now();
        for round_ms in [30, 30, 800, 30, 30] {
            let round = Duration::from_millis(round_ms);
            now += round;
            pace.sample(round, Duration::ZERO, now);
            assert_eq!(pace.bulk.bytes(), BULK_FIRST);
        }
    }
}
