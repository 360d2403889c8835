//! Whether the shipped alerts ring: the nodes' series are recorded each second of a run, and the rules
//! are evaluated over them as Prometheus does.
//!
//! ```text
//!  nodes' metrics ─► Recording ─► query (parse) ─► eval ─► Rung: which alert, from when
//! ```
//!
//! Prometheus stands with most of the nodes: it scrapes each second, at whole ones, those that run and
//! are not cut off from most others. Of a node that it cannot scrape it has `up` 0 and nothing else.
//! The evaluator knows what the rules use, and a test compares it with `promtool`.

pub mod eval;
pub mod promtool;
pub mod query;
pub mod recording;

use std::collections::BTreeMap;

use server::sight::alerts::Alert;

pub use query::Expr;
pub use recording::{Labels, Recording};

/// An alert that rang.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rung {
    /// Its labels.
    pub labels: Labels,
    /// The first second that it rang in, from the recording's begin.
    pub from_s: usize,
    /// The last one.
    pub until_s: usize,
}

/// What an alert did over a recording, in the order of time.
///
/// # Errors
/// When the expression is not of the language that rules are written in here.
pub fn ring(alert: &Alert, recording: &Recording) -> Result<Vec<Rung>, String> {
    let expr = query::parse(alert.expr).map_err(|why| format!("{}: {why}", alert.name))?;
    let mut holds: BTreeMap<Labels, usize> = BTreeMap::new();
    let mut rung: Vec<Rung> = Vec::new();
    for now in 0..recording.seconds {
        let series = match eval::at(&expr, recording, now) {
            eval::Value::Series(series) => series,
            eval::Value::Number(_) => {
                return Err(format!("{}: the expression is a number", alert.name));
            }
        };
        holds.retain(|labels, _| series.contains_key(labels));
        for labels in series.into_keys() {
            let since = *holds.entry(labels.clone()).or_insert(now);
            if ((now - since) as u64) < alert.for_s {
                continue;
            }
            let before = now.checked_sub(1);
            let on = rung
                .iter_mut()
                .find(|one| one.labels == labels && Some(one.until_s) == before);
            match on {
                Some(one) => one.until_s = now,
                None => rung.push(Rung {
                    labels,
                    from_s: now,
                    until_s: now,
                }),
            }
        }
    }
    Ok(rung)
}
