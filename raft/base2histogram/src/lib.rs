//! Stands for the crate of this name, of which it has what openraft names, and counts nothing.
//!
//! Each Raft group of openraft has sixteen histograms of 2 KiB: 32 KiB of memory that nobody can
//! read, as long as its feature `runtime-stats` is off. A node has thousands of groups. If that
//! feature is ever wanted, take the patch out of the workspace's `Cargo.toml`.

use std::fmt;

/// A histogram that is always empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram<T = ()>(std::marker::PhantomData<T>);

impl<T> Histogram<T> {
    /// An empty one.
    pub fn new() -> Histogram<T> {
        Histogram(std::marker::PhantomData)
    }

    /// Forgets the value.
    pub fn record(&mut self, _: u64) {}

    /// Forgets the values.
    pub fn record_n(&mut self, _: u64, _: u64) {}

    /// How many values were kept: none.
    pub fn total(&self) -> u64 {
        0
    }

    /// Of no values.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats::default()
    }
}

/// Percentiles of a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are called what they are")]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[not counted]")
    }
}

/// A chart of histograms.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart;

impl AsciiChart {
    /// An empty one.
    pub fn new() -> AsciiChart {
        AsciiChart
    }

    /// Passes a histogram over.
    #[must_use]
    pub fn add<T>(self, _: &str, _: Histogram<T>) -> AsciiChart {
        self
    }

    /// The chart as text.
    pub fn detailed(&self) -> &'static str {
        "not counted"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_no_memory_and_keeps_nothing() {
        let mut histogram = Histogram::<()>::new();
        histogram.record(7);
        assert_eq!(size_of_val(&histogram), 0);
        assert_eq!((histogram.total(), histogram), (0, Histogram::default()));
    }
}
