//! What a demo found: as a table for people, as JSON for machines, and as an exit code.

use std::time::Duration;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

/// The field names are part of the command's interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Messages acknowledged.
    pub acked: u64,
    /// Of these, not there afterwards.
    pub lost: u64,
    /// There more often than sent, or given a second number when sent again.
    pub duplicated: u64,
    /// Not in the order of the file, or not dense.
    pub reordered: u64,
    /// Calls without a good answer within their 5 s.
    pub failed_calls: u64,
    /// Longest time between acks over all clients while one waited.
    pub longest_gap_ms: u64,
    /// Longest time that one message waited for its ack.
    pub worst_conversation_gap_ms: u64,
    /// From the kill until every shard had a leader again.
    pub leaders_restored_ms: Option<u64>,
    /// From the restart until every replica had caught up.
    pub replication_restored_ms: Option<u64>,
    /// Whether all replicas of every shard hold equal records.
    pub hashes_equal: bool,
    /// Kept (`true`), broken (`false`), not judged (`null`).
    pub promises: Promises,
}

/// The promises of a run; `None` when it was not judged.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(non_snake_case, reason = "the promises' names, as everywhere")]
pub struct Promises {
    /// Durable.
    pub D: Option<bool>,
    /// Ordered.
    pub O: Option<bool>,
    /// Exactly once.
    pub E: Option<bool>,
    /// Linearizable.
    pub L: Option<bool>,
    /// One leader.
    pub U: Option<bool>,
    /// Identical.
    pub H: Option<bool>,
    /// No downtime.
    pub G: Option<bool>,
    /// Progress.
    pub P: Option<bool>,
}

impl Promises {
    fn named(&self) -> [(&'static str, &'static str, Option<bool>); 8] {
        [
            ("D", "durable: what was acknowledged is there", self.D),
            ("O", "ordered: 1, 2, 3 … in the order of the file", self.O),
            ("E", "exactly once: sent again, answered the same", self.E),
            ("L", "linearizable: timed reads fit one order", self.L),
            ("U", "one leader: no term of a shard had two", self.U),
            (
                "H",
                "identical: replicas read back from disk are equal",
                self.H,
            ),
            ("G", "no downtime: no failed call, no gap over 3 s", self.G),
            ("P", "progress: every shard served within 10 s", self.P),
        ]
    }
}

impl Report {
    /// Whether every promise that was judged held.
    pub fn held(&self) -> bool {
        self.promises
            .named()
            .iter()
            .all(|(_, _, held)| *held != Some(false))
    }

    /// The table that the demo ends with.
    pub fn table(&self) -> String {
        let seconds = |ms: Option<u64>| {
            ms.map_or_else(
                || "never".to_owned(),
                |ms| format!("{:.2} s", ms as f64 / 1_000.0),
            )
        };
        let mut numbers = Table::new();
        numbers.load_style(UTF8_FULL_CONDENSED);
        let rows: [(&str, String); 10] = [
            ("messages acked", self.acked.to_string()),
            ("lost", self.lost.to_string()),
            ("duplicated", self.duplicated.to_string()),
            ("reordered", self.reordered.to_string()),
            ("calls failed", self.failed_calls.to_string()),
            (
                "longest gap between acks",
                seconds(Some(self.longest_gap_ms)),
            ),
            (
                "worst conversation's gap",
                seconds(Some(self.worst_conversation_gap_ms)),
            ),
            (
                "all shards led again after",
                seconds(self.leaders_restored_ms),
            ),
            (
                "all replicas caught up after",
                seconds(self.replication_restored_ms),
            ),
            (
                "replicas identical",
                if self.hashes_equal { "yes" } else { "no" }.to_owned(),
            ),
        ];
        for (name, value) in rows {
            numbers.add_row([name.to_owned(), value]);
        }
        if let Some(column) = numbers.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut promises = Table::new();
        promises.load_style(UTF8_FULL_CONDENSED);
        for (name, meaning, held) in self.promises.named() {
            let mark = match held {
                Some(true) => "✔",
                Some(false) => "✘ BROKEN",
                None => "not judged",
            };
            promises.add_row([name, meaning, mark]);
        }
        format!("{numbers}\n{promises}")
    }
}

/// Milliseconds, rounded up: a number to reach is not reached by rounding.
pub fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_has_the_documented_fields_in_order() {
        let report = Report {
            promises: Promises {
                D: Some(true),
                ..Default::default()
            },
            ..Default::default()
        };
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            "{\"acked\":0,\"lost\":0,\"duplicated\":0,\"reordered\":0,\"failed_calls\":0,\
             \"longest_gap_ms\":0,\"worst_conversation_gap_ms\":0,\"leaders_restored_ms\":null,\
             \"replication_restored_ms\":null,\"hashes_equal\":false,\"promises\":{\"D\":true,\
             \"O\":null,\"E\":null,\"L\":null,\"U\":null,\"H\":null,\"G\":null,\"P\":null}}"
        );
    }

    #[test]
    fn a_broken_promise_fails_the_run_and_one_not_judged_does_not() {
        let mut report = Report::default();
        assert!(report.held());
        report.promises.G = Some(false);
        assert!(!report.held());
        let table = report.table();
        assert!(
            table.contains("✘ BROKEN") && table.contains("not judged"),
            "{table}"
        );
    }

    #[test]
    fn part_of_a_millisecond_counts_as_a_whole_one() {
        assert_eq!(ms(Duration::from_micros(3_001)), 4);
        assert_eq!(ms(Duration::from_millis(3)), 3);
    }
}
