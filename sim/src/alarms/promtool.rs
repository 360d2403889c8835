//! The same question for `promtool test rules`, which says whether the evaluator here is right.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use server::sight::alerts::ALERTS;

use super::recording::{Labels, Recording};
use super::ring;

/// The name of the file with the rules.
pub const RULES: &str = "alarms_rules.yml";

/// The shipped rules without their annotations.
pub fn rules() -> String {
    let mut text = String::from("groups:\n  - name: all\n    rules:\n");
    for alert in ALERTS {
        let expr = serde_json::Value::from(alert.expr);
        // A text takes all that is written to it.
        let _ = write!(
            text,
            "      - alert: {}\n        expr: {expr}\n        for: {}s\n",
            alert.name, alert.for_s
        );
    }
    text
}

/// A test of these rules: the series of a recording, and for each second which alerts ring and how many
/// of each, as the evaluator here says.
///
/// # Errors
/// As [`ring`].
pub fn test(recording: &Recording) -> Result<String, String> {
    let mut text = format!(
        "rule_files: [{RULES}]\nevaluation_interval: 1s\ntests:\n  - interval: 1s\n    input_series:\n"
    );
    for (name, series) in &recording.series {
        for (labels, values) in series {
            let series = serde_json::Value::from(format!("{name}{}", braces(labels)));
            let values = values_of(values, recording.seconds);
            let _ = write!(
                text,
                "      - series: {series}\n        values: \"{values}\"\n"
            );
        }
    }
    let mut counts: BTreeMap<usize, BTreeMap<&str, usize>> = BTreeMap::new();
    for alert in ALERTS {
        for rung in ring(alert, recording)? {
            for second in rung.from_s..=rung.until_s {
                *counts
                    .entry(second)
                    .or_default()
                    .entry(alert.name)
                    .or_default() += 1;
            }
        }
    }
    text.push_str("    promql_expr_test:\n");
    for second in 0..recording.seconds {
        let _ = write!(
            text,
            "      - expr: 'count by (alertname) (ALERTS{{alertstate=\"firing\"}})'\n        \
             eval_time: {second}s\n        exp_samples:"
        );
        let rung = counts.get(&second);
        if rung.is_none() {
            text.push_str(" []");
        }
        text.push('\n');
        for (alert, count) in rung.into_iter().flatten() {
            let _ = write!(
                text,
                "          - labels: '{{alertname=\"{alert}\"}}'\n            value: {count}\n"
            );
        }
    }
    Ok(text)
}

fn braces(labels: &Labels) -> String {
    let labels = labels.iter();
    let labels: Vec<String> = labels
        .map(|(name, value)| format!("{name}={}", serde_json::Value::from(value.as_str())))
        .collect();
    format!("{{{}}}", labels.join(","))
}

/// A value for each second; a series that ends is stale from then on, as after a scrape without it.
fn values_of(values: &[Option<f64>], seconds: usize) -> String {
    let mut before = None;
    let mut told = Vec::new();
    for second in 0..seconds {
        let value = values.get(second).copied().flatten();
        told.push(match (value, before) {
            (Some(value), _) => format!("{value}"),
            (None, Some(_)) => "stale".to_owned(),
            (None, None) => "_".to_owned(),
        });
        before = value;
    }
    told.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_stale_once() {
        let values = [None, Some(1.0), Some(2.5), None, None, Some(0.0)];
        assert_eq!(values_of(&values, 7), "_ 1 2.5 stale _ 0 stale");
    }
}
