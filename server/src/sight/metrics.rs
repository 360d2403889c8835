//! What Prometheus scrapes: one registry a node, no globals, since the simulator runs many nodes in one
//! process.
//!
//! Every series is a row of [`table::METRICS`], from which the docs are made too. Series are of the
//! node, its data center, its links and its tenants (the first [`super::traffic::TENANTS_MAX`]); none is
//! of a shard or a conversation, so that their number does not grow with the data. Single shards are
//! told on request ([`Metrics::shards`]).

mod seen;
mod table;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

pub use seen::{Process, ProcessFigures, Sources};
pub use table::METRICS;

use crate::sight::traffic::TENANTS_MAX;
use model::durations::{BOUNDS_US, Counted};
use seen::NodeSnapshot;

/// Before each name.
const PREFIX: &str = "firebreak";
/// What is answered: OpenMetrics, which Prometheus asks for.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A series, or a family of them.
pub struct Metric {
    /// Its name, without the prefix, the unit and what its kind adds.
    pub name: &'static str,
    /// What it is of.
    pub kind: Kind,
    /// What it is measured in.
    pub unit: Option<&'static str>,
    /// What tells the series of the family apart.
    pub labels: &'static [&'static str],
    /// What it says; a sentence.
    pub help: &'static str,
    read: fn(&NodeSnapshot<'_>, &mut Samples),
}

/// What a metric is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, from the node's start.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It counts durations by how long they were.
    Histogram,
}

impl Kind {
    fn metric_type(self) -> MetricType {
        match self {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

impl Metric {
    /// Its name as it is scraped.
    pub fn full_name(&self) -> String {
        let unit = self
            .unit
            .map_or_else(String::new, |unit| format!("_{unit}"));
        let end = match self.kind {
            Kind::Counter => "_total",
            Kind::Gauge | Kind::Histogram => "",
        };
        format!("{PREFIX}_{}{unit}{end}", self.name)
    }

    fn unit(&self) -> Option<Unit> {
        self.unit.map(|unit| match unit {
            "seconds" => Unit::Seconds,
            "bytes" => Unit::Bytes,
            other => Unit::Other(other.to_owned()),
        })
    }
}

/// The values of one metric.
#[derive(Default)]
struct Samples(Vec<(Vec<String>, Value)>);

enum Value {
    Number(f64),
    Durations(Box<Counted>),
}

impl Samples {
    /// The only series.
    fn one(&mut self, value: impl Number) {
        self.0.push((Vec::new(), Value::Number(value.number())));
    }

    /// One of a family, with its labels' values.
    fn of<const N: usize>(&mut self, labels: [&str; N], value: impl Number) {
        let labels = labels.map(str::to_owned).to_vec();
        self.0.push((labels, Value::Number(value.number())));
    }

    fn durations<const N: usize>(&mut self, labels: [&str; N], counted: Counted) {
        let labels = labels.map(str::to_owned).to_vec();
        self.0.push((labels, Value::Durations(Box::new(counted))));
    }
}

/// What can be the value of a series.
trait Number {
    fn number(self) -> f64;
}

impl Number for f64 {
    fn number(self) -> f64 {
        self
    }
}

impl Number for u64 {
    #[allow(
        clippy::cast_precision_loss,
        reason = "Prometheus has nothing but floats"
    )]
    fn number(self) -> f64 {
        self as f64
    }
}

impl Number for usize {
    fn number(self) -> f64 {
        u64::try_from(self).unwrap_or(u64::MAX).number()
    }
}

impl Number for bool {
    fn number(self) -> f64 {
        f64::from(u8::from(self))
    }
}

impl Number for std::time::Duration {
    fn number(self) -> f64 {
        self.as_secs_f64()
    }
}

/// Looks at a node when it is asked.
struct Node(Sources);

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").finish_non_exhaustive()
    }
}

impl Collector for Node {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let seen = NodeSnapshot::of(&self.0);
        for metric in METRICS {
            let mut samples = Samples::default();
            (metric.read)(&seen, &mut samples);
            let (unit, kind) = (metric.unit(), metric.kind.metric_type());
            let mut family =
                encoder.encode_descriptor(metric.name, metric.help, unit.as_ref(), kind)?;
            for (values, value) in samples.0 {
                let labels = metric.labels.iter().copied().zip(values);
                let labels: Vec<(&str, String)> = labels.collect();
                match labels.is_empty() {
                    true => encode(&mut family, metric.kind, &value)?,
                    false => {
                        let mut series = family.encode_family(&labels)?;
                        encode(&mut series, metric.kind, &value)?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn encode(series: &mut MetricEncoder<'_>, kind: Kind, value: &Value) -> Result<(), fmt::Error> {
    match (kind, value) {
        (Kind::Counter, Value::Number(value)) => {
            series.encode_counter::<NoLabelSet, f64, f64>(value, None)
        }
        (Kind::Gauge, Value::Number(value)) => series.encode_gauge(value),
        (Kind::Histogram, Value::Durations(counted)) => {
            let bounds = BOUNDS_US.iter().map(|us| {
                #[allow(clippy::cast_precision_loss, reason = "bounds are small")]
                let seconds = *us as f64 / 1e6;
                seconds
            });
            let bounds = bounds.chain([f64::MAX]);
            let buckets: Vec<(f64, u64)> = bounds.zip(counted.buckets).collect();
            #[allow(clippy::cast_precision_loss, reason = "a sum of seconds")]
            let sum = counted.sum_us as f64 / 1e6;
            series.encode_histogram::<NoLabelSet>(sum, counted.count(), &buckets, None)
        }
        // A row of the table that says one thing and reads another.
        (Kind::Counter | Kind::Gauge, Value::Durations(_))
        | (Kind::Histogram, Value::Number(_)) => Err(fmt::Error),
    }
}

/// A node's metrics. Clones are of one; empty before the node has begun and after it has ended.
#[derive(Clone, Default)]
pub struct Metrics(Arc<RwLock<Option<Registered>>>);

struct Registered {
    registry: Registry,
    sources: Sources,
    /// Series of the last scrape; 0 before the first.
    series: AtomicUsize,
}

/// The most values that labels of a metric have together, on a node of a cluster of `nodes`; `None` where
/// one of them is not known here. None grows with shards or conversations.
fn values_max(labels: &[&str], nodes: usize) -> Option<usize> {
    let values = |label: &&str| {
        Some(match *label {
            // Of one node, link, database: they go together with the others.
            "node" | "dc" | "region" | "version" => 1,
            "peer" => nodes.saturating_sub(1),
            "tenant" => TENANTS_MAX + 1,
            "direction" | "database" => 2,
            "way" | "level" => 4,
            "outcome" | "state" | "step" | "verdict" => 8,
            "cause" => 12,
            "reason" | "resource" => 32,
            _ => return None,
        })
    };
    labels.iter().map(values).product()
}

/// Lines of a metric's series.
fn lines_of(kind: Kind) -> usize {
    match kind {
        Kind::Counter | Kind::Gauge => 1,
        // Buckets, the one above all bounds, their sum and their count.
        Kind::Histogram => BOUNDS_US.len() + 3,
    }
}

/// The most series that a node of a cluster of `nodes` gives a scraper, however many shards,
/// conversations and tenants there are.
pub fn budget(nodes: usize) -> usize {
    let most = METRICS.iter().map(|metric| {
        // That every label is known is a test's.
        values_max(metric.labels, nodes).unwrap_or(0) * lines_of(metric.kind)
    });
    most.sum()
}

impl Metrics {
    /// Has them tell of a node until what is given is dropped.
    pub fn attach(&self, sources: Sources) -> Attached {
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register_collector(Box::new(Node(sources.clone())));
        *self.0.write() = Some(Registered {
            registry,
            sources,
            series: AtomicUsize::new(0),
        });
        Attached(self.clone())
    }

    /// All series as Prometheus scrapes them; `None` when no node runs.
    pub fn text(&self) -> Option<String> {
        let registered = self.0.read();
        let registered = registered.as_ref()?;
        let mut encoded = String::new();
        let told = text::encode(&mut encoded, &registered.registry);
        registered.series.store(series(&encoded), Ordering::Relaxed);
        // A row that does not fit its metric is found by a test.
        told.is_ok().then_some(encoded)
    }

    /// How many series the last scrape got; one is made where there was none. 0 when no node runs.
    pub fn series(&self) -> usize {
        let counted = || {
            let registered = self.0.read();
            let series = registered.as_ref().map(|one| &one.series);
            series.map_or(0, |series| series.load(Ordering::Relaxed))
        };
        match counted() {
            0 => self.text().map_or(0, |_| counted()),
            counted => counted,
        }
    }

    /// The series of the shards that are furthest behind or busiest, `worst` of them.
    pub fn shards(&self, worst: usize) -> Option<String> {
        let registered = self.0.read();
        Some(seen::shards(&registered.as_ref()?.sources, worst))
    }
}

/// Ends what metrics tell of a node: it holds its databases.
pub struct Attached(Metrics);

impl Drop for Attached {
    fn drop(&mut self) {
        self.0.0.write().take();
    }
}

/// The metric that a series is of, by the series' name as it is scraped.
pub fn find(series: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| {
        let full = metric.full_name();
        match metric.kind {
            Kind::Counter | Kind::Gauge => full == series,
            Kind::Histogram => series
                .strip_prefix(&full)
                .is_some_and(|end| ["_sum", "_count", "_bucket"].contains(&end)),
        }
    })
}

/// How many series there are in a text.
pub fn series(text: &str) -> usize {
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .count()
}

/// The table of all metrics, in Markdown.
pub fn reference() -> String {
    let mut text = String::from("| Name | Kind | Labels | What it says |\n|---|---|---|---|\n");
    for metric in METRICS {
        let labels: Vec<String> = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        text.push_str(&format!(
            "| `{}` | {} | {} | {} |\n",
            metric.full_name(),
            metric.kind.name(),
            labels.join(", "),
            metric.help
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_has_a_bound_that_no_data_raises() {
        for metric in METRICS {
            let values = values_max(metric.labels, 9);
            assert!(values.is_some_and(|values| values > 0), "{}", metric.name);
            assert_eq!(values_max(&["shard"], 9), None);
        }
        let (three, nine) = (budget(3), budget(9));
        assert!(three < nine && nine < 2_500, "{three} {nine}");
    }
}
