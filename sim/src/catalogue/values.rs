//! What a value of a scenario file may be: each function takes what was found, and its error says
//! what it must be, with its unit, its bounds and an example.

use std::ops::RangeInclusive;

use super::reader::Found;
use super::refused::unknown;
use super::units::{self, Window, show_us};

type Bounds = RangeInclusive<u64>;

/// A text that says something.
pub(super) fn text(found: &Found) -> Result<String, String> {
    match found {
        Found::Text(text) if !text.trim().is_empty() => Ok(text.clone()),
        _ => Err("must be a text in quotes".to_owned()),
    }
}

/// true or false.
pub(super) fn yes(found: &Found) -> Result<bool, String> {
    match found {
        Found::Bool(yes) => Ok(*yes),
        _ => Err("must be true or false".to_owned()),
    }
}

/// A name that can be a host's: lower-case letters, digits and hyphens.
pub(super) fn name(found: &Found) -> Result<String, String> {
    let fits = |text: &&String| {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        (1..=32).contains(&text.len())
            && text.chars().all(good)
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && !text.ends_with('-')
    };
    match found {
        Found::Text(text) => Some(text).filter(fits).cloned(),
        _ => None,
    }
    .ok_or_else(|| {
        "must be a name of 1 to 32 lower-case letters, digits and hyphens, as \"seoul\"".to_owned()
    })
}

/// One of `words`.
pub(super) fn word<T: Copy>(
    what: &'static str,
    words: &'static [(&'static str, T)],
) -> impl Fn(&Found) -> Result<T, String> {
    move |found| {
        let names = words.iter().map(|(name, _)| *name);
        let Found::Text(text) = found else {
            let names: Vec<&str> = names.collect();
            return Err(format!("must be {what}: {}", names.join(", ")));
        };
        let word = words.iter().find(|(name, _)| name == text);
        word.map(|(_, word)| *word)
            .ok_or_else(|| unknown(text, what, names))
    }
}

/// A text, or a list of texts.
pub(super) fn names(found: &Found) -> Result<Vec<String>, String> {
    let one = |found: &Found| match found {
        Found::Text(text) if !text.is_empty() => Some(text.clone()),
        _ => None,
    };
    let names = match found {
        Found::List(list) => list.iter().map(one).collect(),
        found => one(found).map(|name| vec![name]),
    };
    names
        .filter(|names: &Vec<String>| !names.is_empty())
        .ok_or_else(|| "must be a name or a list of names, as [\"seoul\", \"busan\"]".to_owned())
}

/// A whole number.
pub(super) fn count(what: &'static str, bounds: Bounds) -> impl Fn(&Found) -> Result<u32, String> {
    move |found| {
        let number = match found {
            Found::Whole(number) => u64::try_from(*number).ok(),
            // From a parameter.
            Found::Text(text) => units::count(text),
            _ => None,
        };
        let number = number.filter(|number| bounds.contains(number));
        number.and_then(|n| u32::try_from(n).ok()).ok_or_else(|| {
            let (least, most) = (bounds.start(), bounds.end());
            format!("must be a whole number of {what}, {least} to {most}")
        })
    }
}

/// A whole number, or a window of them.
pub(super) fn counts(
    what: &'static str,
    bounds: Bounds,
) -> impl Fn(&Found) -> Result<(u32, u32), String> {
    move |found| {
        let window = match found {
            Found::Whole(number) => u64::try_from(*number).ok().map(|n| (n, n)),
            Found::Text(text) => units::window(text, units::count),
            _ => None,
        };
        let (least, most) = (bounds.start(), bounds.end());
        let must = || {
            format!("must be a number of {what}, {least} to {most}, as 3, or a window, \"1..2\"")
        };
        let (low, high) = window.ok_or_else(must)?;
        within((low, high), &bounds)
            .then_some(())
            .ok_or_else(must)?;
        upright((low, high))?;
        let narrow = |n| u32::try_from(n).map_err(|_| must());
        Ok((narrow(low)?, narrow(high)?))
    }
}

/// A time in ms.
pub(super) fn ms(bounds: Bounds) -> impl Fn(&Found) -> Result<u64, String> {
    move |found| {
        let us = quantity(found, units::time_us);
        let ms = us.filter(|us| us % 1_000 == 0).map(|us| us / 1_000);
        let ms = ms.filter(|ms| bounds.contains(ms));
        ms.ok_or_else(|| must_time("a time", "\"30s\"", &bounds, 1_000, found))
    }
}

/// A time in ms, or a window of them.
pub(super) fn window_ms(bounds: Bounds) -> impl Fn(&Found) -> Result<Window, String> {
    move |found| times(found, &bounds, 1_000)
}

/// A time in microseconds, or a window of them.
pub(super) fn window_us(bounds: Bounds) -> impl Fn(&Found) -> Result<Window, String> {
    move |found| times(found, &bounds, 1)
}

/// A time in microseconds.
pub(super) fn us(bounds: Bounds) -> impl Fn(&Found) -> Result<u64, String> {
    move |found| {
        let us = quantity(found, units::time_us).filter(|us| bounds.contains(us));
        us.ok_or_else(|| must_time("a time", "\"500us\"", &bounds, 1, found))
    }
}

fn times(found: &Found, bounds: &Bounds, unit: u64) -> Result<Window, String> {
    let must = || {
        must_time(
            "a time or a window",
            "\"30s\" or \"20s..40s\"",
            bounds,
            unit,
            found,
        )
    };
    let (low, high) = windowed(found, units::time_us).ok_or_else(must)?;
    if low % unit != 0 || high % unit != 0 {
        return Err(must());
    }
    let window = (low / unit, high / unit);
    upright(window)?;
    within(window, bounds).then_some(window).ok_or_else(must)
}

fn must_time(what: &str, example: &str, bounds: &Bounds, unit: u64, found: &Found) -> String {
    let show = |n: &u64| show_us(n.saturating_mul(unit));
    let (least, most) = (show(bounds.start()), show(bounds.end()));
    let hint = match found {
        Found::Whole(number) => format!(" (a number needs its unit: \"{number}s\")"),
        _ => String::new(),
    };
    format!("must be {what}, {least} to {most}, as {example}{hint}")
}

/// Parts of a million, given in percent.
pub(super) fn parts(bounds: Bounds) -> impl Fn(&Found) -> Result<u32, String> {
    move |found| {
        let parts = quantity(found, units::parts).filter(|parts| bounds.contains(parts));
        let parts = parts.and_then(|parts| u32::try_from(parts).ok());
        parts.ok_or_else(|| must_percent(&bounds, "\"5%\"", found))
    }
}

/// Parts of a million, given in percent, or a window of them.
pub(super) fn window_parts(bounds: Bounds) -> impl Fn(&Found) -> Result<(u32, u32), String> {
    move |found| {
        let must = || must_percent(&bounds, "\"5%\" or \"1%..5%\"", found);
        let window = windowed(found, units::parts).ok_or_else(must)?;
        upright(window)?;
        within(window, &bounds).then_some(()).ok_or_else(must)?;
        let narrow = |n| u32::try_from(n).map_err(|_| must());
        Ok((narrow(window.0)?, narrow(window.1)?))
    }
}

/// Whole percent.
pub(super) fn percent(bounds: Bounds) -> impl Fn(&Found) -> Result<u32, String> {
    move |found| {
        let ppm = bounds.start() * 10_000..=bounds.end() * 10_000;
        let parts = parts(ppm.clone())(found)?;
        let whole = parts % 10_000 == 0;
        whole
            .then_some(parts / 10_000)
            .ok_or_else(|| format!("{} without a fraction", must_percent(&ppm, "\"5%\"", found)))
    }
}

fn must_percent(bounds: &Bounds, example: &str, found: &Found) -> String {
    let show = |parts: &u64| {
        if parts.is_multiple_of(10_000) {
            format!("{}%", parts / 10_000)
        } else {
            format!("{parts}ppm")
        }
    };
    let (least, most) = (show(bounds.start()), show(bounds.end()));
    let hint = match found {
        Found::Whole(number) => format!(" (a number needs its unit: \"{number}%\")"),
        _ => String::new(),
    };
    format!("must be a share, {least} to {most}, as {example}{hint}")
}

/// Bytes, or a window of them.
pub(super) fn window_bytes(bounds: Bounds) -> impl Fn(&Found) -> Result<(u32, u32), String> {
    move |found| {
        let (least, most) = (bounds.start(), bounds.end());
        let must = || {
            format!(
                "must be a size or a window, {least} B to {most} B, as \"256 B\" or \"16 B..1 KiB\""
            )
        };
        let window = windowed(found, units::bytes).ok_or_else(must)?;
        upright(window)?;
        within(window, &bounds).then_some(()).ok_or_else(must)?;
        let narrow = |n| u32::try_from(n).map_err(|_| must());
        Ok((narrow(window.0)?, narrow(window.1)?))
    }
}

/// Bytes per second; `"unbounded"` is 0.
pub(super) fn rate(found: &Found) -> Result<u64, String> {
    let rate = match found {
        Found::Text(text) if text == "unbounded" => Some(0),
        found => quantity(found, units::rate).filter(|rate| *rate >= 1_024),
    };
    rate.ok_or_else(|| {
        "must be a rate of 1 KiB/s or more, as \"10 MiB/s\", or \"unbounded\"".to_owned()
    })
}

/// Something like a time in ms that may be negative: one, a window, or a list to choose from.
pub(super) fn signed(
    example: &'static str,
    unit: fn(&str) -> Option<u64>,
    per: i64,
    most: i64,
) -> impl Fn(&Found) -> Result<Vec<(i64, i64)>, String> {
    move |found| {
        let one = |found: &Found| match found {
            Found::Text(text) => units::window(text, |text| units::signed(text, unit)),
            _ => None,
        };
        let windows = match found {
            Found::List(list) => list.iter().map(one).collect(),
            found => one(found).map(|window| vec![window]),
        };
        let fits = |(low, high): &(i64, i64)| {
            let range = -most * per..=most * per;
            low <= high
                && range.contains(low)
                && range.contains(high)
                && low % per == 0
                && high % per == 0
        };
        let windows = windows.filter(|windows: &Vec<(i64, i64)>| !windows.is_empty());
        let windows = windows.filter(|windows| windows.iter().all(fits));
        let windows = windows.ok_or_else(|| format!("must be {example}"))?;
        Ok(windows.iter().map(|(a, b)| (a / per, b / per)).collect())
    }
}

/// A power of a law, as thousandths: 1.2 is 1200.
pub(super) fn thousandths(found: &Found) -> Result<u32, String> {
    let milli = match found {
        Found::Whole(number) => u32::try_from(*number)
            .ok()
            .and_then(|n| n.checked_mul(1_000)),
        Found::Float(number) => units::thousandths(number).and_then(|n| u32::try_from(n).ok()),
        _ => None,
    };
    milli
        .filter(|milli| *milli <= 3_000)
        .ok_or_else(|| "must be a number, 0 to 3, as 1.1".to_owned())
}

fn quantity(found: &Found, one: fn(&str) -> Option<u64>) -> Option<u64> {
    match found {
        Found::Text(text) => one(text),
        _ => None,
    }
}

fn windowed(found: &Found, one: fn(&str) -> Option<u64>) -> Option<Window> {
    match found {
        Found::Text(text) => units::window(text, one),
        _ => None,
    }
}

fn within((low, high): Window, bounds: &Bounds) -> bool {
    bounds.contains(&low) && bounds.contains(&high)
}

fn upright((low, high): Window) -> Result<(), String> {
    if low > high {
        return Err(
            "is a window upside down: the first must not be more than the second".to_owned(),
        );
    }
    Ok(())
}
