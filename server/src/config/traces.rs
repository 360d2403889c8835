//! The section `traces`: where traced calls are told.

use super::table::{Reader, Section};

/// Where traces go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// Of a collector that speaks OTLP over gRPC, as `http://127.0.0.1:4317`; none = nothing is traced.
    pub endpoint: Option<String>,
    /// Of a million calls that bring no trace, so many begin one.
    pub sample_ppm: u32,
}

/// Reads it.
pub(super) fn read(reader: &mut Reader<'_>, top: &Section<'_>) -> Traces {
    let section = reader.section(top, "traces");
    reader.known(&section, &["endpoint", "sample_ppm"]);
    let endpoint = reader.string(&section, "endpoint", Some(""));
    if !endpoint.is_empty() {
        reader.verify(&section, "endpoint", usable(&endpoint));
    }
    let sample = reader.number(&section, "sample_ppm", 0, 0..=1_000_000, "of a million");
    Traces {
        endpoint: (!endpoint.is_empty()).then_some(endpoint),
        sample_ppm: u32::try_from(sample).unwrap_or(u32::MAX),
    }
}

fn usable(endpoint: &str) -> Result<(), String> {
    let wrong = || "must be http://host:port of a collector that speaks OTLP over gRPC".to_owned();
    let rest = endpoint.strip_prefix("http://").ok_or_else(wrong)?;
    super::address(rest.trim_end_matches('/')).map_err(|_| wrong())
}
