//! What a run measured: rows of a table, or of JSON.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use hdrhistogram::Histogram;
use serde::Serialize;

/// One measured run. The field names are part of the command's interface.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// unary, batch, stream or list.
    pub path: String,
    /// Bytes of a message's body.
    pub size: usize,
    /// Conversations that took turns.
    pub conversations: usize,
    /// Callers (unary, batch, list) or unanswered messages (stream); the most at once in an open
    /// loop.
    pub concurrency: usize,
    /// Acknowledged messages a second; pages a second for list.
    pub msgs_per_s: f64,
    /// Median latency; from the intended time of sending in an open loop.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// 99.9th percentile.
    pub p999_ms: f64,
    /// CPU of all servers together per message (page); `null` when their processes cannot be seen.
    pub server_cpu_us_per_msg: Option<f64>,
    /// Bytes that the servers wrote to disk per byte of message body and replica; `null` for list.
    pub write_amplification: Option<f64>,
}

/// What the table shows beside a [`Row`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extra {
    /// Messages acknowledged per fsync of all nodes' logs, times replicas: how many messages one
    /// node's fsync covered on average.
    pub msgs_per_fsync: Option<f64>,
    /// Calls or items that failed.
    pub failed: u64,
    /// CPU of this process, the load generator, per message, µs.
    pub own_cpu_us_per_msg: f64,
}

/// Latencies in µs, from 1 µs to 10 minutes at three digits.
#[allow(clippy::expect_used, reason = "constant bounds, in order")]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are in order")
}

/// A percentile in milliseconds.
pub fn percentile_ms(latencies: &Histogram<u64>, percentile: f64) -> f64 {
    round(latencies.value_at_percentile(percentile) as f64 / 1_000.0)
}

/// Three digits behind the point are more than any of these numbers is worth.
pub fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// The table for people.
pub fn table(rows: &[(Row, Extra)]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "path",
        "size",
        "convs",
        "conc.",
        "per s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "CPU µs",
        "own µs",
        "write ampl.",
        "msgs/fsync",
        "failed",
    ]);
    let some = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "–".to_owned(), |v| format!("{v:.digits$}"))
    };
    for (row, extra) in rows {
        table.add_row([
            row.path.clone(),
            row.size.to_string(),
            row.conversations.to_string(),
            row.concurrency.to_string(),
            format!("{:.0}", row.msgs_per_s),
            format!("{:.2}", row.p50_ms),
            format!("{:.2}", row.p99_ms),
            format!("{:.2}", row.p999_ms),
            some(row.server_cpu_us_per_msg, 1),
            format!("{:.1}", extra.own_cpu_us_per_msg),
            some(row.write_amplification, 2),
            some(extra.msgs_per_fsync, 1),
            extra.failed.to_string(),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            path: "unary".into(),
            size: 256,
            conversations: 1_000,
            concurrency: 64,
            msgs_per_s: 8_000.0,
            p50_ms: 1.5,
            p99_ms: 9.0,
            p999_ms: 12.0,
            server_cpu_us_per_msg: Some(20.5),
            write_amplification: None,
        }
    }

    #[test]
    fn the_json_has_the_documented_fields_in_order() {
        assert_eq!(
            serde_json::to_string(&row()).unwrap(),
            "{\"path\":\"unary\",\"size\":256,\"conversations\":1000,\"concurrency\":64,\
             \"msgs_per_s\":8000.0,\"p50_ms\":1.5,\"p99_ms\":9.0,\"p999_ms\":12.0,\
             \"server_cpu_us_per_msg\":20.5,\"write_amplification\":null}"
        );
    }

    #[test]
    fn the_table_shows_what_is_not_known_as_a_dash() {
        let text = table(&[(row(), Extra::default())]);
        assert!(
            text.contains("8000") && text.contains("20.5") && text.contains('–'),
            "{text}"
        );
    }

    #[test]
    fn percentiles_are_in_milliseconds() {
        let mut latencies = histogram();
        for us in [1_000, 1_000, 1_000, 50_000] {
            latencies.record(us).unwrap();
        }
        assert!((percentile_ms(&latencies, 50.0) - 1.0).abs() < 0.01);
        assert!((percentile_ms(&latencies, 99.0) - 50.0).abs() < 0.1);
    }
}
