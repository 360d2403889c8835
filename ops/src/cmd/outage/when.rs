//! Times as operators say them: `03:10` of today or of a date, or a whole moment.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest time that is gathered, ms.
const RANGE_MS_MAX: u64 = 24 * 60 * 60 * 1_000;
/// Milliseconds of a day.
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// A time, as commands are told it.
#[derive(clap::Args, Debug)]
pub struct When {
    /// From when, UTC: 03:10, 03:10:30 or 2026-11-30T03:10:00Z
    #[arg(long, value_name = "TIME")]
    from: String,
    /// Until when
    #[arg(long, value_name = "TIME")]
    to: String,
    /// The day of times without one; today when not given
    #[arg(long, value_name = "YYYY-MM-DD")]
    date: Option<String>,
}

impl When {
    /// As [`range()`].
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn range(&self, now_ms: u64) -> Result<(u64, u64), String> {
        range(&self.from, &self.to, self.date.as_deref(), now_ms)
    }

    /// As [`range_within()`].
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn range_within(&self, now_ms: u64, longest_ms: u64) -> Result<(u64, u64), String> {
        let date = self.date.as_deref();
        range_within(&self.from, &self.to, date, now_ms, longest_ms)
    }
}

/// From when to when, Unix milliseconds. `date` is the day of times without one, UTC, today when none.
///
/// # Errors
/// What is wrong, and what would be right.
pub fn range(from: &str, to: &str, date: Option<&str>, now_ms: u64) -> Result<(u64, u64), String> {
    let (from_ms, to_ms) = range_within(from, to, date, now_ms, u64::MAX)?;
    if to_ms - from_ms > RANGE_MS_MAX {
        return Err("more than a day: record the hours that matter, one file each".to_owned());
    }
    Ok((from_ms, to_ms))
}

/// As [`range()`], of `longest_ms` at most.
///
/// # Errors
/// What is wrong, and what would be right.
pub fn range_within(
    from: &str,
    to: &str,
    date: Option<&str>,
    now_ms: u64,
    longest_ms: u64,
) -> Result<(u64, u64), String> {
    let day = match date {
        None => now_ms - now_ms % DAY_MS,
        Some(date) => moment(&format!("{date}T00:00:00Z"))
            .ok_or_else(|| format!("--date {date:?} is no day: write it as 2026-11-30"))?,
    };
    let at = |flag: &str, text: &str| {
        of_day(text).map(|ms| day + ms).or_else(|| moment(text)).ok_or_else(|| {
            format!(
                "{flag} {text:?} is no time: write 03:10 or 03:10:30 (UTC, of today or of --date), or \
                 2026-11-30T03:10:00Z"
            )
        })
    };
    let (from_ms, to_ms) = (at("--from", from)?, at("--to", to)?);
    if from_ms >= to_ms {
        return Err(format!(
            "--from {from} is not before --to {to}: give the earlier one first; a night that goes past \
             midnight needs whole moments, as 2026-11-30T23:50:00Z"
        ));
    }
    if from_ms > now_ms {
        return Err(format!(
            "--from {from} is still to come (it is {} UTC now): name the day with --date",
            clock(now_ms)
        ));
    }
    if to_ms - from_ms > longest_ms {
        let days = longest_ms / DAY_MS;
        return Err(format!(
            "more than {days} days, and nothing is kept for longer"
        ));
    }
    Ok((from_ms, to_ms.min(now_ms)))
}

/// `03:10` or `03:10:30`, ms into the day.
fn of_day(text: &str) -> Option<u64> {
    let parts: Vec<&str> = text.split(':').collect();
    let number = |text: &str, below: u64| {
        let plain = text.len() <= 2 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u64>().ok().filter(|n| plain && *n < below)
    };
    let (hour, minute, second) = match parts[..] {
        [hour, minute] => (hour, minute, "0"),
        [hour, minute, second] => (hour, minute, second),
        _ => return None,
    };
    let s = (number(hour, 24)? * 60 + number(minute, 60)?) * 60 + number(second, 60)?;
    Some(s * 1_000)
}

/// RFC 3339; without an offset it is UTC.
fn moment(text: &str) -> Option<u64> {
    let time = match text.len() {
        // With an offset, as +09:00.
        25.. if !text.ends_with('Z') => {
            let (time, offset) = text.split_at(text.len() - 6);
            let sign = match offset.as_bytes().first()? {
                b'+' => false,
                b'-' => true,
                _ => return None,
            };
            let utc = unix_ms(humantime::parse_rfc3339_weak(time).ok()?)?;
            let offset = of_day(offset.get(1..)?)?;
            return match sign {
                false => utc.checked_sub(offset),
                true => utc.checked_add(offset),
            };
        }
        _ => humantime::parse_rfc3339_weak(text).ok()?,
    };
    unix_ms(time)
}

fn unix_ms(time: SystemTime) -> Option<u64> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

/// Now.
pub fn now_ms() -> u64 {
    unix_ms(SystemTime::now()).unwrap_or(0)
}

/// A moment's time of day, UTC.
pub fn clock(ms: u64) -> String {
    let text = rfc3339(ms);
    text.get(11..23).unwrap_or(&text).to_owned()
}

/// A moment, UTC.
pub fn rfc3339(ms: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-30T04:00:00Z.
    const NOW: u64 = 1_796_011_200_000;

    fn check(from: &str, to: &str, date: Option<&str>, expect: Result<(&str, &str), &str>) {
        match (range(from, to, date, NOW), expect) {
            (Ok((a, b)), Ok((from, to))) => {
                assert_eq!((rfc3339(a).as_str(), rfc3339(b).as_str()), (from, to));
            }
            (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
            (found, _) => panic!("{from} {to} {date:?}: {found:?}"),
        }
    }

    #[test]
    fn times_are_of_today_or_of_a_date_or_whole_moments() {
        let ten = "2026-11-30T03:10:00.000Z";
        check(
            "03:10",
            "03:25:30",
            None,
            Ok((ten, "2026-11-30T03:25:30.000Z")),
        );
        let eve = ("2026-11-29T23:00:00.000Z", "2026-11-29T23:59:00.000Z");
        check("23:00", "23:59", Some("2026-11-29"), Ok(eve));
        let past = "2026-11-29T23:59:00Z";
        check(
            past,
            "00:10",
            None,
            Ok(("2026-11-29T23:59:00.000Z", "2026-11-30T00:10:00.000Z")),
        );
        check(
            "2026-11-30T12:10:00+09:00",
            "03:15",
            None,
            Ok((ten, "2026-11-30T03:15:00.000Z")),
        );
        check(
            "03:10",
            "09:00",
            None,
            Ok((ten, "2026-11-30T04:00:00.000Z")),
        );
    }

    #[test]
    fn wrong_ranges_say_what_would_be_right() {
        check("03:25", "03:10", None, Err("not before"));
        check("03:10", "03:10", None, Err("not before"));
        check("05:00", "06:00", None, Err("--date"));
        check("3am", "06:00", None, Err("write 03:10"));
        check("03:60", "06:00", None, Err("is no time"));
        check("24:00", "06:00", None, Err("is no time"));
        check("03:10", "03:20", Some("yesterday"), Err("is no day"));
        check(
            "2026-11-20T00:00:00Z",
            "03:20",
            None,
            Err("more than a day"),
        );
        check("2026-11-30T03:10:00+9:00", "04:00", None, Err("is no time"));
        check("", "04:00", None, Err("is no time"));
    }
}
