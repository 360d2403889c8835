//! What there is to show for a drill: the paper told to people, to CI, to machines and to a regulator.
//!
//! ```text
//!  Paper, Night ─► Facts ─┬─ report.md, report.html     people
//!                         ├─ report.json, report.xml    machines, CI
//!                         └─ regulator.ko.md, .en.md    who asks for it by law
//! ```
//!
//! All of it is a pure function of its input.

pub mod facts;
#[cfg(test)]
mod fixture;
mod junit;
mod markdown;
mod page;
mod regulator;
mod strips;
mod when;

#[cfg(test)]
mod tests;

use serde_json::json;
use server::drill::paper::Paper;
use server::night::Night;

pub use facts::Facts;

/// The largest recorder's night that is drawn, bytes.
pub const NIGHT_BYTES_MAX: u64 = 1 << 30;

/// A file of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name.
    pub name: &'static str,
    /// What is in it.
    pub text: String,
}

/// All files of a drill's report; without a night the page has no lanes.
///
/// # Errors
/// What cannot be written down.
pub fn files(paper: &Paper, night: Option<&Night>) -> Result<Vec<File>, String> {
    let facts = Facts::of(paper);
    let json = serde_json::to_string_pretty(&json!({
        "kind": "firebreak-drill-report", "format": 1, "facts": facts, "paper": paper,
    }));
    let json = json.map_err(|error| format!("as JSON: {error}"))?;
    let file = |name, text| File { name, text };
    Ok(vec![
        file("report.md", markdown::markdown(paper, &facts)),
        file("report.html", page::html(paper, &facts, night)),
        file("report.json", format!("{json}\n")),
        file("report.xml", junit::junit(paper, &facts)?),
        file("regulator.ko.md", regulator::korean(paper, &facts)),
        file("regulator.en.md", regulator::english(paper, &facts)),
    ])
}
