//! Times of a report: UTC, and KST beside it.

use std::time::{Duration, UNIX_EPOCH};

/// How far Korea's clocks are ahead of UTC, ms.
const KST_MS: u64 = 9 * 3_600_000;
/// The last millisecond that is written, 9999-12-31.
const LAST_MS: u64 = 253_402_300_799_000;

/// `2026-12-01 03:10:00.123`, of a time zone so far ahead.
fn date(ms: u64, ahead_ms: u64) -> String {
    let ms = ms.saturating_add(ahead_ms).min(LAST_MS);
    let time = UNIX_EPOCH + Duration::from_millis(ms);
    let text = humantime::format_rfc3339_millis(time).to_string();
    text.trim_end_matches('Z').replace('T', " ")
}

/// Date and time, UTC, of Unix milliseconds.
pub(super) fn utc(ms: u64) -> String {
    date(ms, 0)
}

/// Date and time in Korea.
pub(super) fn kst(ms: u64) -> String {
    date(ms, KST_MS)
}

/// The time of a day only.
pub(super) fn clock(date: &str) -> &str {
    date.split_once(' ').map_or(date, |(_, clock)| clock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn korea_is_nine_hours_ahead() {
        assert_eq!(utc(1_796_000_000_123), "2026-11-30 00:53:20.123");
        assert_eq!(kst(1_796_000_000_123), "2026-11-30 09:53:20.123");
        assert_eq!(clock(&kst(1_796_000_000_123)), "09:53:20.123");
        assert!(utc(u64::MAX).starts_with("9999-12-31"));
    }
}
