//! Values as the simulator's files write them. What is drawn there is its middle here.

use toml::{Table, Value};

/// A time, milliseconds, of which a window's middle is taken.
pub fn time_ms(text: &str) -> Option<u64> {
    let Some((from, to)) = text.split_once("..") else {
        return one_time_ms(text);
    };
    let to_ms = one_time_ms(to)?;
    // `20..40s`: the unit is the second's.
    let unit: String = to.chars().filter(|c| c.is_alphabetic()).collect();
    let from_ms = one_time_ms(from).or_else(|| one_time_ms(&format!("{from}{unit}")))?;
    Some(from_ms.midpoint(to_ms))
}

fn one_time_ms(text: &str) -> Option<u64> {
    let text = text.trim().trim_start_matches('-');
    let parsed = humantime::parse_duration(text).ok();
    let told = parsed.or_else(|| {
        // `1.5s`, which humantime does not read.
        let unit_at = text.find(|c: char| c.is_alphabetic())?;
        let number: f64 = text[..unit_at].trim().parse().ok()?;
        let unit = humantime::parse_duration(&format!("1{}", &text[unit_at..])).ok()?;
        std::time::Duration::try_from_secs_f64(unit.as_secs_f64() * number).ok()
    })?;
    u64::try_from(told.as_millis()).ok()
}

/// The time of a key.
pub fn time_of(fault: &Table, key: &str) -> Option<u64> {
    fault.get(key).and_then(Value::as_str).and_then(time_ms)
}

/// The text of a key; empty when it has none.
pub fn text<'a>(fault: &'a Table, key: &str) -> &'a str {
    fault.get(key).and_then(Value::as_str).unwrap_or("")
}

/// The names of a key: one, or a list of them.
pub fn names(fault: &Table, key: &str) -> Vec<String> {
    match fault.get(key) {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(all)) => {
            let all = all.iter().filter_map(Value::as_str);
            all.map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

/// A share as `5%` or `200ppm`, of a million; of a window its middle.
pub fn ppm(text: &str) -> Option<u32> {
    let one = |text: &str| {
        let (number, of) = match text.trim().strip_suffix("ppm") {
            Some(number) => (number, 1.0),
            None => (text.trim().trim_end_matches('%'), 10_000.0),
        };
        number.trim().parse::<f64>().ok().map(|n| n * of)
    };
    let mean = match text.split_once("..") {
        Some((from, to)) => (one(from)? + one(to)?) / 2.0,
        None => one(text)?,
    };
    format!("{mean:.0}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_shares_are_read_as_the_simulator_writes_them() {
        for (text, ms) in [
            ("30s", 30_000),
            ("1.5s", 1_500),
            ("8s..14s", 11_000),
            ("20..40s", 30_000),
            ("1s..1400ms", 1_200),
            ("10ms..50ms", 30),
            ("5d", 432_000_000),
        ] {
            assert_eq!(time_ms(text), Some(ms), "{text}");
        }
        assert_eq!(time_ms("soon"), None);
        assert_eq!(
            (ppm("5%"), ppm("200ppm"), ppm("2%..4%")),
            (Some(50_000), Some(200), Some(30_000))
        );
    }
}
