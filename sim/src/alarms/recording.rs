//! What a Prometheus would have of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use server::sight::alerts::{JOB, named};
use server::world::Metrics;
use tokio::time::{MissedTickBehavior, interval};

/// Labels of a series, without its name.
pub type Labels = BTreeMap<String, String>;
/// How old what a node answers may be, microseconds.
const AGE_MAX_US: u64 = 1_500_000;

/// Series by name and labels, with a value for each second that they had one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    /// How many seconds it lasts.
    pub seconds: usize,
    /// The series of each name.
    pub series: BTreeMap<String, BTreeMap<Labels, Vec<Option<f64>>>>,
}

impl Recording {
    /// Notes a value of the second `at`.
    pub fn add(&mut self, name: &str, labels: Labels, at: usize, value: f64) {
        self.seconds = self.seconds.max(at + 1);
        let series = self.series.entry(name.to_owned()).or_default();
        let values = series.entry(labels).or_default();
        values.resize(at + 1, None);
        values[at] = Some(value);
    }

    /// The series that the alerts' expressions name.
    pub fn wanted() -> BTreeSet<String> {
        let exprs = server::sight::alerts::ALERTS.iter();
        let names = exprs.flat_map(|alert| named(alert.expr));
        names.map(|(name, _)| name).collect()
    }
}

/// What a node answers to a scrape, put there by a task beside it.
#[derive(Clone, Debug, Default)]
pub struct Scraped(Arc<Mutex<Option<Answer>>>);

#[derive(Clone, Debug)]
struct Answer {
    at_us: u64,
    values: Vec<(String, Labels, f64)>,
}

impl Scraped {
    /// Has the answer of a node ready, for each second; never ends.
    pub async fn answer(&self, metrics: &Metrics, wanted: &BTreeSet<String>) -> Infallible {
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let at_us = crate::net::now_us();
            *self.0.lock() = metrics.text().map(|text| Answer {
                at_us,
                values: values(&text, wanted),
            });
        }
    }

    /// Adds what a scrape of the node called `instance` gives at the second `at`; `reached` says
    /// whether there is a way to it.
    pub fn scrape(
        &self,
        instance: &str,
        reached: bool,
        (at, now_us): (usize, u64),
        to: &mut Recording,
    ) {
        let fresh = |answer: &&Answer| now_us.saturating_sub(answer.at_us) <= AGE_MAX_US;
        let answer = self.0.lock();
        let answer = answer.as_ref().filter(fresh).filter(|_| reached);
        let target = || {
            let pairs = [("instance", instance), ("job", JOB)];
            pairs.map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        let up = f64::from(u8::from(answer.is_some()));
        to.add("up", Labels::from(target()), at, up);
        for (name, labels, value) in answer.iter().flat_map(|answer| &answer.values) {
            let mut labels = labels.clone();
            labels.extend(target());
            to.add(name, labels, at, *value);
        }
    }
}

/// The samples of a text of metrics that are wanted.
fn values(text: &str, wanted: &BTreeSet<String>) -> Vec<(String, Labels, f64)> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        if !wanted.contains(name) {
            return None;
        }
        let labels = labels.trim_end_matches('}').split("\",");
        let pair = |pair: &str| {
            let (name, value) = pair.split_once("=\"")?;
            Some((name.to_owned(), value.trim_end_matches('"').to_owned()))
        };
        let labels = labels.filter_map(pair).collect();
        Some((name.to_owned(), labels, value.parse().ok()?))
    };
    samples.filter_map(sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_from_a_text() {
        let text = "# TYPE a gauge\na 1\nb{x=\"1,2\",y=\"z\"} 2.5\nc 3\n# EOF\n";
        let wanted = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            let pairs = pairs.iter();
            pairs
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        let expected = vec![
            ("a".to_owned(), labels(&[]), 1.0),
            ("b".to_owned(), labels(&[("x", "1,2"), ("y", "z")]), 2.5),
        ];
        assert_eq!(values(text, &wanted), expected);
    }

    #[test]
    fn a_node_that_is_not_reached_is_down_and_tells_nothing() {
        let scraped = Scraped::default();
        *scraped.0.lock() = Some(Answer {
            at_us: 5_000_000,
            values: vec![("a".to_owned(), Labels::new(), 1.0)],
        });
        let up = |reached, now_us| {
            let mut recording = Recording::default();
            scraped.scrape("n", reached, (0, now_us), &mut recording);
            let ups = recording.series["up"].values().next().unwrap().clone();
            (ups[0], recording.series.contains_key("a"))
        };
        assert_eq!(up(true, 5_900_000), (Some(1.0), true));
        assert_eq!(up(false, 5_900_000), (Some(0.0), false));
        // It stands still.
        assert_eq!(up(true, 7_000_000), (Some(0.0), false));
    }
}
