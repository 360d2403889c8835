//! Quantities as people write them: `"30s"`, `"20s..40s"`, `"0.1%"`, `"1 MiB"`, `"10 MiB/s"`.
//! All become whole numbers; one that does not is refused rather than rounded.

/// Least and most, both included; something is drawn between them.
pub(super) type Window = (u64, u64);

type Units = &'static [(&'static str, u64)];

const TIMES: Units = &[
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("min", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];
const PARTS: Units = &[("%", 10_000), ("ppm", 1)];
const BYTES: Units = &[
    ("B", 1),
    ("kB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];
const RATES: Units = &[
    ("B/s", 1),
    ("kB/s", 1_000),
    ("KiB/s", 1 << 10),
    ("MB/s", 1_000_000),
    ("MiB/s", 1 << 20),
    ("GiB/s", 1 << 30),
];

/// A time in microseconds: `"30s"`, `"1.5s"`, `"12min 30s"`.
pub(super) fn time_us(text: &str) -> Option<u64> {
    sum(text, TIMES)
}

/// Parts of a million: `"0.1%"`, `"200ppm"`.
pub(super) fn parts(text: &str) -> Option<u64> {
    single(text, PARTS)
}

/// Bytes: `"256 B"`, `"1 MiB"`.
pub(super) fn bytes(text: &str) -> Option<u64> {
    single(text, BYTES)
}

/// Bytes per second: `"10 MiB/s"`.
pub(super) fn rate(text: &str) -> Option<u64> {
    single(text, RATES)
}

/// A decimal number without a unit, times a thousand.
pub(super) fn thousandths(text: &str) -> Option<u64> {
    scaled(text, 1_000)
}

/// A count without a unit.
pub(super) fn count(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The negative of it too: `"-1h"`.
pub(super) fn signed(text: &str, one: fn(&str) -> Option<u64>) -> Option<i64> {
    let text = text.trim();
    let (negative, size) = match text.strip_prefix('-') {
        Some(size) => (true, size),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let size = i64::try_from(one(size)?).ok()?;
    Some(if negative { -size } else { size })
}

/// `"a..b"`, or a single one that is both. The unit may be written once, `"20..40s"`.
pub(super) fn window<T: Clone>(text: &str, one: impl Fn(&str) -> Option<T>) -> Option<(T, T)> {
    let Some((low, high)) = text.split_once("..") else {
        let value = one(text)?;
        return Some((value.clone(), value));
    };
    let unit = high.trim_start_matches(|c: char| !c.is_alphabetic() && c != '%');
    let with_unit = format!("{low}{unit}");
    let low = if low.trim_end().ends_with(|c: char| c.is_ascii_digit()) {
        one(&with_unit)?
    } else {
        one(low)?
    };
    Some((low, one(high)?))
}

/// A time for people: the largest unit that needs no fraction.
pub(super) fn show_us(us: u64) -> String {
    let whole = TIMES
        .iter()
        .rev()
        .find(|(_, unit)| us.is_multiple_of(*unit));
    match whole {
        Some((name, unit)) if us > 0 => format!("{}{name}", us / unit),
        _ => "0s".to_owned(),
    }
}

/// As [`show_us`].
pub(super) fn show_ms(ms: u64) -> String {
    show_us(ms.saturating_mul(1_000))
}

fn single(text: &str, units: Units) -> Option<u64> {
    let (value, rest) = term(text, units)?;
    rest.trim().is_empty().then_some(value)
}

fn sum(text: &str, units: Units) -> Option<u64> {
    let (mut total, mut rest) = term(text, units)?;
    while !rest.trim().is_empty() {
        let (value, after) = term(rest, units)?;
        total = total.checked_add(value)?;
        rest = after;
    }
    Some(total)
}

/// A number with its unit from the beginning of a text, and what follows.
fn term(text: &str, units: Units) -> Option<(u64, &str)> {
    let text = text.trim_start();
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, rest) = text.split_at(number_end);
    let rest = rest.trim_start();
    let unit_end = rest
        .find(|c: char| c.is_ascii_digit() || c.is_whitespace())
        .unwrap_or(rest.len());
    let (name, rest) = rest.split_at(unit_end);
    let (_, unit) = units.iter().find(|(unit, _)| *unit == name)?;
    Some((scaled(number, *unit)?, rest))
}

/// A decimal number times a unit, where that is whole.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.len() > 9 {
        return None;
    }
    let tens = 10_u64.pow(u32::try_from(fraction.len()).ok()?);
    let part = fraction.parse::<u64>().ok()?.checked_mul(unit)?;
    if !part.is_multiple_of(tens) {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    whole.checked_add(part / tens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_units_and_never_rounded() {
        let check = |text, expect| assert_eq!(time_us(text), expect, "{text}");
        check("30s", Some(30_000_000));
        check("0.3ms", Some(300));
        check("1.5 s", Some(1_500_000));
        check("12min 30s", Some(750_000_000));
        check("5d", Some(432_000_000_000));
        for wrong in [
            "", "30", "s", "30 sec", "-1s", "0.0001ms", "1..2", ".s", "1s x",
        ] {
            check(wrong, None);
        }
        check("99999999999999999999s", None);
        check("999999999999999d", None);
    }

    #[test]
    fn windows_take_the_unit_once_or_twice() {
        let check = |text, expect| assert_eq!(window(text, time_us), expect, "{text}");
        check("20s..40s", Some((20_000_000, 40_000_000)));
        check("20..40s", Some((20_000_000, 40_000_000)));
        check("1.5s .. 2s", Some((1_500_000, 2_000_000)));
        check("500ms..2s", Some((500_000, 2_000_000)));
        check("3s", Some((3_000_000, 3_000_000)));
        check("3s..", None);
        check("..3s", None);
        assert_eq!(window("1..3", count), Some((1, 3)));
        let jump = |text: &str| signed(text, time_us);
        assert_eq!(window("-1s..1s", jump), Some((-1_000_000, 1_000_000)));
    }

    #[test]
    fn parts_bytes_and_rates_are_read() {
        assert_eq!(parts("0.1%"), Some(1_000));
        assert_eq!(parts("200ppm"), Some(200));
        assert_eq!(parts("100%"), Some(1_000_000));
        assert_eq!(parts("0.00001%"), None);
        assert_eq!(bytes("1 MiB"), Some(1 << 20));
        assert_eq!(bytes("256B"), Some(256));
        assert_eq!(bytes("1 mib"), None);
        assert_eq!(rate("10 MiB/s"), Some(10 << 20));
        assert_eq!(rate("10 MiB"), None);
    }

    #[test]
    fn times_are_shown_in_the_largest_whole_unit() {
        for (us, text) in [(0, "0s"), (1_500_000, "1500ms"), (750_000_000, "750s")] {
            assert_eq!(show_us(us), text);
        }
        assert_eq!(show_ms(86_400_000), "1d");
    }
}
