//! Faults that nodes put on themselves for drills.

use super::Case;
use super::evidence::Found;
use crate::outcome::{Finding, Promise};
use crate::plan::Fault;

/// What a node's timer and a step of the simulation may be late by, microseconds.
const LATE_US: u64 = 100_000;

/// `drill-ends`, P: no fault of a drill is on a node for longer than its controller let it live. A node
/// that was stopped or whose clocks were bent counts time differently; nothing is said of it. O(n).
pub fn drill_ends(case: &Case<'_>) -> Finding {
    let mut found = Found::of("drill-ends", Promise::P);
    for drill in &case.observed.drills {
        if bent(case, &drill.host) {
            continue;
        }
        found.looked_at(1);
        let over = drill.ended_us.unwrap_or(u64::MAX);
        if over > drill.until_us + LATE_US {
            found.add(1, drill.until_us, || {
                let [began, until] = [drill.began_us, drill.until_us].map(|us| case.ms(us));
                let over = match drill.ended_us {
                    Some(us) => format!("was on until {}", case.ms(us)),
                    None => "was on at the end of the run".to_owned(),
                };
                let host = &drill.host;
                format!(
                    "a drill's fault on {host}, since {began}, was to live until {until} and {over}"
                )
            });
        }
    }
    found.finding()
}

fn bent(case: &Case<'_>, host: &str) -> bool {
    case.plan.events.iter().any(|event| match &event.fault {
        Fault::Pause { hosts, .. }
        | Fault::Starve { hosts, .. }
        | Fault::ClockDrift { hosts, .. } => hosts.iter().any(|one| one == host),
        _ => false,
    })
}
