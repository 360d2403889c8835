//! Of what time the recorders are asked.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// A moment, as it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// So many ms before a node's now.
    AgoMs(u64),
    /// Unix milliseconds.
    AtMs(u64),
}

/// From when until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Range {
    /// The first moment.
    pub from: Moment,
    /// The last one.
    pub to: Moment,
}

const DAY: Duration = Duration::from_secs(86_400);

impl Range {
    /// Of what was given.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn parse(from: &str, to: Option<&str>, now: SystemTime) -> Result<Range, String> {
        let moment = |name: &str, text: &str| {
            moment(text, now).ok_or_else(|| {
                format!(
                    "{name} {text:?} is no time: say 15m (ago), 03:10 (UTC), or \
                     2026-11-29T23:50:00Z"
                )
            })
        };
        let range = Range {
            from: moment("--from", from)?,
            to: to.map_or(Ok(Moment::AgoMs(0)), |to| moment("--to", to))?,
        };
        let (from_ms, to_ms) = range.at(unix_ms(now));
        if from_ms > to_ms {
            let to = to.unwrap_or("now");
            return Err(format!(
                "--from {from} is later than --to {to}: give the earlier one first"
            ));
        }
        Ok(range)
    }

    /// In Unix milliseconds, for a node whose now this is.
    pub fn at(self, now_ms: u64) -> (u64, u64) {
        let at = |moment| match moment {
            Moment::AgoMs(ago) => now_ms.saturating_sub(ago),
            Moment::AtMs(at) => at,
        };
        (at(self.from), at(self.to))
    }
}

fn moment(text: &str, now: SystemTime) -> Option<Moment> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return u64::try_from(ago.as_millis()).ok().map(Moment::AgoMs);
    }
    let at = match text.len() {
        5 | 8 if text.is_ascii() && !text.contains('-') => {
            let seconds = if text.len() == 5 { ":00" } else { "" };
            let today = humantime::format_rfc3339_seconds(now).to_string();
            let day = today.get(..10)?;
            let at = humantime::parse_rfc3339(&format!("{day}T{text}{seconds}Z")).ok()?;
            // A time that is still to come today was yesterday.
            if at > now { at.checked_sub(DAY)? } else { at }
        }
        _ => humantime::parse_rfc3339_weak(text).ok()?,
    };
    Some(Moment::AtMs(unix_ms(at)))
}

/// Unix milliseconds.
pub fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// `20261201T031500Z`.
pub fn compact(now: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(now).to_string();
    text.chars().filter(|c| !matches!(c, '-' | ':')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_given_as_ages_as_times_of_day_or_whole() {
        // 2026-12-01T03:30:00Z
        let now = UNIX_EPOCH + Duration::from_secs(1_796_095_800);
        let day = 86_400_000;
        let midnight = 1_796_083_200_000;
        let check = |from: &str, to: Option<&str>, expect: Result<(u64, u64), &str>| match (
            Range::parse(from, to, now),
            expect,
        ) {
            (Ok(range), Ok(expect)) => assert_eq!(range.at(unix_ms(now)), expect, "{from}"),
            (Err(why), Err(says)) => assert!(why.contains(says), "{why}"),
            (found, _) => panic!("{from} {to:?}: {found:?}"),
        };
        let now_ms = unix_ms(now);
        check("15m", None, Ok((now_ms - 900_000, now_ms)));
        check(
            "03:10",
            Some("03:25:30"),
            Ok((midnight + 11_400_000, midnight + 12_330_000)),
        );
        check("23:50", None, Ok((midnight + 85_800_000 - day, now_ms)));
        check("2026-11-30T00:00:00Z", None, Ok((midnight - day, now_ms)));
        check("5m", Some("10m"), Err("give the earlier one first"));
        check("soon", None, Err("--from \"soon\" is no time: say 15m"));
        check("1h", Some("25:00"), Err("--to"));
        assert_eq!(compact(now), "20261201T033000Z");
    }
}
