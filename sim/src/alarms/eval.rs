//! Evaluates an expression at a second of a recording, as Prometheus 2.42 does.

use std::collections::BTreeMap;

use super::query::{Aggregate, Expr, Function, Matcher, Operator};
use super::recording::{Labels, Recording};

/// What an expression gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// One number.
    Number(f64),
    /// Series by their labels.
    Series(BTreeMap<Labels, f64>),
}

/// The value of `expr` at the second `now`.
pub fn at(expr: &Expr, recording: &Recording, now: usize) -> Value {
    match expr {
        Expr::Number(number) => Value::Number(*number),
        Expr::Series { name, matchers, .. } => {
            let found = series(recording, name, matchers);
            let value = |values: &[Option<f64>]| values.get(now).copied().flatten();
            Value::Series(
                found
                    .filter_map(|(labels, values)| Some((labels.clone(), value(values)?)))
                    .collect(),
            )
        }
        Expr::Call(function, inner) => call(*function, inner, recording, now),
        Expr::Gather(aggregate, by, inner) => {
            Value::Series(gather(*aggregate, by, at(inner, recording, now)))
        }
        Expr::Both(operator, left, right) => {
            let (left, right) = (at(left, recording, now), at(right, recording, now));
            both(*operator, left, right)
        }
    }
}

fn series<'r>(
    recording: &'r Recording,
    name: &str,
    matchers: &'r [Matcher],
) -> impl Iterator<Item = (&'r Labels, &'r Vec<Option<f64>>)> {
    let all = recording.series.get(name).into_iter().flatten();
    all.filter(move |(labels, _)| {
        matchers.iter().all(|one| {
            let value = labels.get(&one.label).map_or("", String::as_str);
            one.any.iter().any(|other| other == value)
        })
    })
}

fn call(function: Function, inner: &Expr, recording: &Recording, now: usize) -> Value {
    let over_time = match function {
        Function::Abs => {
            return match at(inner, recording, now) {
                Value::Number(number) => Value::Number(number.abs()),
                Value::Series(series) => Value::Series(each(series, f64::abs)),
            };
        }
        Function::Absent => {
            let gone = matches!(at(inner, recording, now), Value::Series(all) if all.is_empty());
            let labels = match inner {
                Expr::Series { matchers, .. } => matchers
                    .iter()
                    .filter(|one| one.any.len() == 1)
                    .map(|one| (one.label.clone(), one.any[0].clone()))
                    .collect(),
                _ => Labels::new(),
            };
            return Value::Series(gone.then_some((labels, 1.0)).into_iter().collect());
        }
        Function::Rate | Function::Increase => extrapolated,
        Function::MaxOverTime => largest,
        Function::Resets => resets,
    };
    let Expr::Series {
        name,
        matchers,
        range_s,
    } = inner
    else {
        // The parser lets nothing else through.
        return Value::Series(BTreeMap::new());
    };
    let unit = match function {
        Function::Rate => seconds(*range_s),
        _ => 1.0,
    };
    let found = series(recording, name, matchers).filter_map(|(labels, values)| {
        let samples = window(values, now, *range_s);
        let value = over_time(&samples, now, *range_s)?;
        Some((labels.clone(), value / unit))
    });
    Value::Series(found.collect())
}

/// The samples of a range, both ends included, as before Prometheus 3.
fn window(values: &[Option<f64>], now: usize, range_s: usize) -> Vec<(usize, f64)> {
    let from = now.saturating_sub(range_s);
    let until = values.len().min(now + 1);
    let range = from.min(until)..until;
    range
        .filter_map(|second| Some((second, values[second]?)))
        .collect()
}

#[allow(clippy::cast_precision_loss, reason = "seconds of a run are few")]
fn seconds(count: usize) -> f64 {
    count as f64
}

fn largest(samples: &[(usize, f64)], _: usize, _: usize) -> Option<f64> {
    samples.iter().map(|(_, value)| *value).reduce(f64::max)
}

fn resets(samples: &[(usize, f64)], _: usize, _: usize) -> Option<f64> {
    let falls = samples.windows(2).filter(|pair| pair[1].1 < pair[0].1);
    (!samples.is_empty()).then(|| seconds(falls.count()))
}

/// The growth of a counter, extrapolated to the ends of the range: `extrapolatedRate` of Prometheus'
/// `promql/functions.go`.
fn extrapolated(samples: &[(usize, f64)], now: usize, range_s: usize) -> Option<f64> {
    let [first, .., last] = samples else {
        return None;
    };
    let mut grown = last.1 - first.1;
    for pair in samples.windows(2) {
        if pair[1].1 < pair[0].1 {
            grown += pair[0].1;
        }
    }
    // A range may begin before the recording does.
    let begin = seconds(now) - seconds(range_s);
    let mut to_start = seconds(first.0) - begin;
    let to_end = seconds(now - last.0);
    let sampled = seconds(last.0 - first.0);
    let between = sampled / seconds(samples.len() - 1);
    if grown > 0.0 && first.1 >= 0.0 {
        to_start = to_start.min(sampled * (first.1 / grown));
    }
    let threshold = between * 1.1;
    let beyond = |gap: f64| match gap < threshold {
        true => gap,
        false => between / 2.0,
    };
    let extrapolated = sampled + beyond(to_start) + beyond(to_end);
    Some(grown * (extrapolated / sampled))
}

fn gather(aggregate: Aggregate, by: &[String], value: Value) -> BTreeMap<Labels, f64> {
    let Value::Series(series) = value else {
        return BTreeMap::new();
    };
    let mut groups: BTreeMap<Labels, Vec<f64>> = BTreeMap::new();
    for (labels, value) in series {
        let kept = labels.into_iter().filter(|(name, _)| by.contains(name));
        groups.entry(kept.collect()).or_default().push(value);
    }
    let gathered = |values: Vec<f64>| match aggregate {
        Aggregate::Sum => values.iter().sum(),
        Aggregate::Min => values.into_iter().fold(f64::INFINITY, f64::min),
        Aggregate::Max => values.into_iter().fold(f64::NEG_INFINITY, f64::max),
        Aggregate::Count => seconds(values.len()),
    };
    let groups = groups.into_iter();
    groups
        .map(|(labels, values)| (labels, gathered(values)))
        .collect()
}

fn each(series: BTreeMap<Labels, f64>, f: impl Fn(f64) -> f64) -> BTreeMap<Labels, f64> {
    let series = series.into_iter();
    series.map(|(labels, value)| (labels, f(value))).collect()
}

/// What two numbers come to; of a comparison the left one, where it holds.
fn numbers(operator: Operator, left: f64, right: f64) -> Option<f64> {
    let holds = match operator {
        Operator::Add => return Some(left + right),
        Operator::Subtract => return Some(left - right),
        Operator::Times => return Some(left * right),
        Operator::Divide => return Some(left / right),
        Operator::Equal => left == right,
        Operator::Unequal => left != right,
        Operator::Above => left > right,
        Operator::Below => left < right,
        Operator::AtLeast => left >= right,
        Operator::AtMost => left <= right,
        Operator::And | Operator::Unless | Operator::Or => return None,
    };
    holds.then_some(left)
}

fn both(operator: Operator, left: Value, right: Value) -> Value {
    let (left, right) = match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            return Value::Number(numbers(operator, left, right).unwrap_or(0.0));
        }
        (Value::Series(left), Value::Number(right)) => {
            let left = left.into_iter();
            let kept =
                left.filter_map(|(labels, value)| Some((labels, numbers(operator, value, right)?)));
            return Value::Series(kept.collect());
        }
        (Value::Number(left), Value::Series(right)) => {
            let right = right.into_iter();
            let kept = right.filter_map(|(labels, value)| {
                let result = numbers(operator, left, value)?;
                // A comparison keeps the series' own value.
                let result = if arithmetic(operator) { result } else { value };
                Some((labels, result))
            });
            return Value::Series(kept.collect());
        }
        (Value::Series(left), Value::Series(right)) => (left, right),
    };
    let left = left.into_iter();
    Value::Series(match operator {
        Operator::And => left
            .filter(|(labels, _)| right.contains_key(labels))
            .collect(),
        Operator::Unless => left
            .filter(|(labels, _)| !right.contains_key(labels))
            .collect(),
        Operator::Or => right.into_iter().chain(left).collect(),
        operator => left
            .filter_map(|(labels, value)| {
                let result = numbers(operator, value, *right.get(&labels)?)?;
                Some((labels, result))
            })
            .collect(),
    })
}

fn arithmetic(operator: Operator) -> bool {
    matches!(
        operator,
        Operator::Add | Operator::Subtract | Operator::Times | Operator::Divide
    )
}
