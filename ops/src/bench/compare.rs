//! Two programs, or one with TLS and without, measured in turns on the same machine: what else runs
//! there hits both alike, so that their ratio says more than either figure.

use std::path::PathBuf;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::report::Row;

/// What is measured on one side.
#[derive(Clone, Debug)]
pub struct Side {
    /// What the table calls it.
    pub name: &'static str,
    /// The `firebreak` that its nodes run.
    pub binary: PathBuf,
    /// Their TLS.
    pub tls: Option<&'static str>,
}

/// Medians of both sides for one kind of run. The field names are part of the command's interface.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compared {
    /// unary, batch, stream or list.
    pub path: String,
    /// Bytes of a message's body.
    pub size: usize,
    /// Callers, or unanswered messages.
    pub concurrency: usize,
    /// Rounds that were measured.
    pub rounds: usize,
    /// This program.
    pub this: Middle,
    /// What it is held against.
    pub against: Middle,
    /// Throughput of this one by that of the other: the median over the rounds.
    pub ratio: f64,
    /// The same of the servers' CPU for a message, where it can be seen.
    pub cpu_ratio: Option<f64>,
}

/// Medians of one side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Middle {
    /// Acknowledged messages a second, or pages.
    pub msgs_per_s: f64,
    /// Median latency.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// CPU of all servers together, per message.
    pub server_cpu_us_per_msg: Option<f64>,
}

/// The rounds of one kind of run, this side's row first.
pub type Rounds = Vec<(Row, Row)>;

/// Compares the rounds of each kind.
pub fn compare(kinds: &[Rounds]) -> Vec<Compared> {
    let compared = kinds.iter().filter_map(|rounds| {
        let (first, _) = rounds.first()?;
        let side = |of: fn(&(Row, Row)) -> &Row| {
            let rows = || rounds.iter().map(of);
            Some(Middle {
                msgs_per_s: middle(rows().map(|row| row.msgs_per_s))?,
                p50_ms: middle(rows().map(|row| row.p50_ms))?,
                p99_ms: middle(rows().map(|row| row.p99_ms))?,
                server_cpu_us_per_msg: middle(rows().filter_map(|row| row.server_cpu_us_per_msg)),
            })
        };
        Some(Compared {
            path: first.path.clone(),
            size: first.size,
            concurrency: first.concurrency,
            rounds: rounds.len(),
            this: side(|round| &round.0)?,
            against: side(|round| &round.1)?,
            ratio: middle(rounds.iter().map(|(a, b)| a.msgs_per_s / b.msgs_per_s))?,
            cpu_ratio: middle(
                rounds
                    .iter()
                    .filter_map(|(a, b)| Some(a.server_cpu_us_per_msg? / b.server_cpu_us_per_msg?)),
            ),
        })
    });
    compared.collect()
}

/// The median, rounded; none of nothing.
fn middle(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let at = values.len().checked_sub(1)? / 2;
    let (low, high) = (values[at], values[values.len() / 2]);
    Some(super::report::round(f64::midpoint(low, high)))
}

/// The table for people.
pub fn table(compared: &[Compared], this: &str, against: &str) -> String {
    let mut table = Table::new();
    let header = [
        "path".to_owned(),
        "size".to_owned(),
        "conc.".to_owned(),
        format!("{this}, per s"),
        format!("{against}, per s"),
        "ratio".to_owned(),
        "p50 ms".to_owned(),
        "p99 ms".to_owned(),
        "CPU µs".to_owned(),
        "CPU ratio".to_owned(),
    ];
    table.load_style(UTF8_FULL_CONDENSED).set_header(header);
    let some = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "–".to_owned(), |v| format!("{v:.digits$}"))
    };
    for row in compared {
        let (a, b) = (&row.this, &row.against);
        table.add_row([
            row.path.clone(),
            row.size.to_string(),
            row.concurrency.to_string(),
            format!("{:.0}", a.msgs_per_s),
            format!("{:.0}", b.msgs_per_s),
            format!("{:.2}", row.ratio),
            format!("{:.2} / {:.2}", a.p50_ms, b.p50_ms),
            format!("{:.2} / {:.2}", a.p99_ms, b.p99_ms),
            format!(
                "{} / {}",
                some(a.server_cpu_us_per_msg, 1),
                some(b.server_cpu_us_per_msg, 1)
            ),
            some(row.cpu_ratio, 2),
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

    fn row(per_s: f64, cpu: Option<f64>) -> Row {
        Row {
            path: "stream".into(),
            size: 256,
            conversations: 1_000,
            concurrency: 64,
            msgs_per_s: per_s,
            p50_ms: 1.0,
            p99_ms: 2.0,
            p999_ms: 3.0,
            server_cpu_us_per_msg: cpu,
            write_amplification: None,
        }
    }

    #[test]
    fn a_ratio_is_the_median_of_the_rounds_ratios_and_not_of_the_sides_medians() {
        let rounds = vec![
            (row(100.0, Some(10.0)), row(200.0, Some(20.0))),
            (row(300.0, Some(12.0)), row(100.0, None)),
            (row(200.0, None), row(400.0, Some(20.0))),
        ];
        let compared = &compare(&[rounds])[0];
        assert!((compared.this.msgs_per_s - 200.0).abs() < 0.1);
        assert!((compared.against.msgs_per_s - 200.0).abs() < 0.1);
        assert!((compared.ratio - 0.5).abs() < 0.001);
        assert!((compared.cpu_ratio.unwrap() - 0.5).abs() < 0.001);
        let text = table(std::slice::from_ref(compared), "this", "other");
        assert!(
            text.contains("0.50") && text.contains("11.0 / 20.0"),
            "{text}"
        );
        assert!(compare(&[Vec::new()]).is_empty());
    }
}
