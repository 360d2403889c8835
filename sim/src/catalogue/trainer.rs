//! `[trainer]`: what is right to do in a scenario, for those who are trained in it.

use super::ScenarioFile;
use super::file::{Topology, Trainer};
use super::reader::{Reader, Section};
use super::refused::unknown;
use super::values;
use crate::plan::{Event, Fault, Plan};

/// Reads it.
pub(super) fn read(
    reader: &mut Reader<'_>,
    top: &Section<'_>,
    topology: &Topology,
    load_ms: u64,
) -> Option<Trainer> {
    let section = reader.section(top, "trainer");
    if !section.exists() {
        return None;
    }
    reader.known(&section, &["drain", "at", "why"]);
    let dc = reader.need(&section, "drain", values::text);
    let at_ms = reader.need(&section, "at", values::ms(1..=load_ms));
    let why = reader.need(&section, "why", values::text);
    let known = topology.dcs.iter().map(|dc| dc.name.as_str());
    if let Some(dc) = &dc
        && !known.clone().any(|name| name == dc)
    {
        let message = unknown(dc, "a data center", known);
        reader.add(&section, "drain", message);
    }
    Some(Trainer {
        dc: dc?,
        at_ms: at_ms?,
        why: why?,
    })
}

/// What is right to do in a run.
pub struct RightAct {
    /// It.
    pub event: Event,
    /// For people.
    pub what: String,
    /// Why it is right.
    pub why: String,
}

impl ScenarioFile {
    /// What is right to do in one of its runs, where the scenario says so: behind the first event.
    pub fn right_act(&self, plan: &Plan) -> Option<RightAct> {
        let Trainer { dc, at_ms, why } = self.trainer.as_ref()?;
        let first = plan.events.iter().map(|event| event.at_ms).min()?;
        let nodes = plan.topology.nodes();
        let hosts = nodes.filter(|(of, _)| of.name == *dc);
        let hosts = hosts.map(|(_, node)| node.name.clone()).collect();
        Some(RightAct {
            event: Event {
                at_ms: first + at_ms,
                line: u32::MAX,
                fault: Fault::Drain { hosts, drain: true },
                label: None,
            },
            what: format!("drain of {dc}"),
            why: why.clone(),
        })
    }
}
