//! What an operator sees while a drill runs.

use std::io::{IsTerminal as _, Write as _};

use server::drill::plan::DrillPlan;

use super::gauge::Gauge;
use super::now_ms;

/// One line of gauges, written over the one before; only on a terminal.
pub fn progress(
    quiet: bool,
    gauge: &Gauge,
    plan: &DrillPlan,
    margin: Option<i64>,
    steps_at_ms: u64,
) {
    let mut out = std::io::stderr();
    if quiet || !out.is_terminal() {
        return;
    }
    let now = now_ms();
    let at = match now < steps_at_ms {
        true => format!("-{} s", (steps_at_ms - now).div_ceil(1_000)),
        false => format!("+{} s", (now - steps_at_ms) / 1_000),
    };
    let margin = margin.map_or_else(|| "?".to_owned(), |margin| margin.to_string());
    // A terminal that is gone shows nothing, and the drill goes on.
    let _ = write!(
        out,
        "\r\x1b[K{at}  {}  margin {margin}\r",
        gauge.line(&plan.caps)
    );
    let _ = out.flush();
}
