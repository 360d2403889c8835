//! A scenario and a seed make a plan. Each section has streams of random numbers of its own, so
//! that a scenario that draws one thing more for its nodes draws the same faults as before.
//!
//! ```text
//!  file + seed ─► nodes ─► aliases ─► joins, timeline ─► atlas: does it leave what is promised?
//!                            ▲                             │ no: the next attempt
//!                            └─────────────────────────────┘ yes: the plan
//! ```

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

use super::Variant;
use super::atlas::{self, Unsurvivable};
use super::deed::signed;
use super::expand;
use super::file::{Line, ScenarioFile, Topology};
use super::stage::Stage;
use super::units::Window;
use crate::dice::dice;
use crate::plan::{self, Event, Fault, NodeSpec, Plan, Tier};

/// How often a timeline is drawn again until it leaves what is promised.
pub(super) const ATTEMPTS: u32 = 64;

/// What a plan is drawn with.
#[derive(Clone, Copy)]
pub(super) struct Chance {
    pub seed: u64,
    /// Which drawing of the seed this is; nearly always 0.
    pub attempt: u32,
}

impl Chance {
    /// The stream called `name` of this drawing.
    pub fn dice(self, name: &str) -> StdRng {
        dice(self.seed, &format!("{name} {}", self.attempt))
    }
}

/// Something between the two.
pub(super) fn within(dice: &mut StdRng, (low, high): Window) -> u64 {
    dice.random_range(low..=high)
}

/// The first drawing of a seed that leaves what is promised.
///
/// # Errors
/// When none does: why the last one does not.
pub(super) fn settle(file: &ScenarioFile, seed: u64) -> Result<Plan, Unsurvivable> {
    let lines: Vec<(usize, Line)> = file.lines.iter().cloned().enumerate().collect();
    let mut attempt = 0;
    loop {
        let chance = Chance { seed, attempt };
        let plan = plan(file, &lines, chance, Variant::Ours);
        match atlas::check(&plan) {
            Ok(()) => return Ok(plan),
            Err(why) if attempt + 1 == ATTEMPTS => return Err(why),
            Err(_) => attempt += 1,
        }
    }
}

/// The plan of a seed in a layout.
pub(super) fn settled(file: &ScenarioFile, seed: u64, variant: Variant, tier: Tier) -> Plan {
    let mut lines: Vec<(usize, Line)> = file.lines.iter().cloned().enumerate().collect();
    let mut plan = loop {
        let drawn = (0..ATTEMPTS).map(|attempt| {
            let chance = Chance { seed, attempt };
            (chance, self::plan(file, &lines, chance, Variant::Ours))
        });
        let mut drawn = drawn.filter(|(_, plan)| atlas::check(plan).is_ok());
        match drawn.next() {
            Some((_, plan)) if variant == Variant::Ours || file.control.is_none() => break plan,
            // The same drawing in the other layout.
            Some((chance, _)) => break self::plan(file, &lines, chance, Variant::Control),
            // Loading tried several seeds, so this is one in very many: do with less.
            None if lines.pop().is_some() => {}
            None => break self::plan(file, &[], Chance { seed, attempt: 0 }, variant),
        }
    };
    plan.tier = tier;
    plan
}

/// One drawing.
pub(super) fn plan(
    file: &ScenarioFile,
    lines: &[(usize, Line)],
    chance: Chance,
    variant: Variant,
) -> Plan {
    let mut topology = nodes(&file.topology, chance.seed);
    let control = file
        .control
        .as_ref()
        .filter(|_| variant == Variant::Control);
    for (building, dcs) in control.iter().flat_map(|control| &control.buildings) {
        for dc in topology.dcs.iter_mut().filter(|dc| dcs.contains(&dc.name)) {
            dc.building.clone_from(building);
        }
    }
    let aliases = aliases(file, &topology, chance);
    joins(file, &mut topology, &aliases, chance);
    let stage = Stage {
        topology: &topology,
        sites: &file.workload.sites,
        aliases: &aliases,
    };
    let events = timeline(&stage, lines, chance);
    Plan {
        format: plan::FORMAT,
        scenario: file.name.clone(),
        about: file.about.clone(),
        seed: chance.seed,
        tier: Tier::default(),
        disk: file.disk,
        control: control.is_some(),
        workload: file.workload.clone(),
        events,
        expect: file.expect.clone(),
        topology,
    }
}

/// The nodes that are there from the beginning.
fn nodes(spec: &Topology, seed: u64) -> plan::Topology {
    let read_lease_ms = |name: &str| {
        let windows = spec.read_lease_ms.as_ref()?;
        let mut dice = self::dice(seed, &format!("{name} read lease"));
        u64::try_from(signed(&mut dice, windows)).ok()
    };
    let mut dice = dice(seed, "topology");
    let shared = dice.random_range(spec.nodes.0..=spec.nodes.1);
    let mut dcs = Vec::with_capacity(spec.dcs.len());
    for dc in &spec.dcs {
        let count = dc.nodes.map(|(low, high)| dice.random_range(low..=high));
        let nodes = (1..=count.unwrap_or(shared)).map(|number| {
            let name = format!("{}-{number}", dc.name);
            NodeSpec {
                rack: format!("r{}", (number - 1) % dc.racks + 1),
                joins_at_ms: None,
                read_lease_ms: read_lease_ms(&name),
                name,
            }
        });
        dcs.push(plan::Dc {
            name: dc.name.clone(),
            region: dc.region.clone(),
            building: dc.building.clone(),
            nodes: nodes.collect(),
        });
    }
    plan::Topology {
        dcs,
        local: spec.local,
        wan: spec.wan,
        links: spec.links.clone(),
        shards: spec.shards,
        replicas: spec.replicas,
        replace_after_ms: spec.replace_after_ms,
        scrub_every_ms: spec.scrub_every_ms,
        prefer: Vec::new(),
    }
}

/// What the names of `[draw]` stand for.
fn aliases(
    file: &ScenarioFile,
    topology: &plan::Topology,
    chance: Chance,
) -> BTreeMap<String, String> {
    let mut dice = chance.dice("draw");
    let mut dcs: Vec<&String> = topology.dcs.iter().map(|dc| &dc.name).collect();
    dcs.shuffle(&mut dice);
    let mut nodes: Vec<&String> = topology.nodes().map(|(_, node)| &node.name).collect();
    nodes.shuffle(&mut dice);
    let dcs = file.aliases.dcs.iter().zip(dcs);
    let nodes = file.aliases.nodes.iter().zip(nodes);
    let pairs = dcs.chain(nodes);
    pairs
        .map(|(alias, name)| (alias.clone(), name.clone()))
        .collect()
}

/// The nodes that join later.
fn joins(
    file: &ScenarioFile,
    topology: &mut plan::Topology,
    aliases: &BTreeMap<String, String>,
    chance: Chance,
) {
    let mut dice = chance.dice("joins");
    for join in &file.topology.joins {
        let at_ms = within(&mut dice, join.at_ms);
        let name = aliases.get(&join.dc).unwrap_or(&join.dc);
        let racks = file.topology.dcs.iter().find(|dc| dc.name == *name);
        let racks = racks.map_or(1, |dc| dc.racks as usize);
        if let Some(dc) = topology.dcs.iter_mut().find(|dc| dc.name == *name) {
            dc.nodes.push(NodeSpec {
                name: format!("{name}-{}", dc.nodes.len() + 1),
                rack: format!("r{}", dc.nodes.len() % racks + 1),
                joins_at_ms: Some(at_ms),
                read_lease_ms: None,
            });
        }
    }
}

/// All events, in the order of time; at the same moment in the order of the lines.
fn timeline(stage: &Stage<'_>, lines: &[(usize, Line)], chance: Chance) -> Vec<Event> {
    let mut began: BTreeMap<usize, u64> = BTreeMap::new();
    let mut events = Vec::new();
    for (number, line) in lines {
        let mut dice = chance.dice(&format!("fault {number}"));
        let happens = dice.random_range(0..1_000_000) < line.chance;
        let base = line.after.and_then(|after| began.get(&after));
        let at_ms = within(&mut dice, line.at_ms) + base.copied().unwrap_or(0);
        began.insert(*number, at_ms);
        let line_number = u32::try_from(*number).unwrap_or(u32::MAX);
        let drawn = expand::line(stage, line, (line_number, at_ms), &mut dice);
        events.extend(drawn.into_iter().filter(|_| happens));
    }
    events.sort_by_key(|event| event.at_ms);
    only_dark_sites_start(stage, &mut events);
    events
}

/// A client site that runs is not started with the data center that it is in.
fn only_dark_sites_start(stage: &Stage<'_>, events: &mut Vec<Event>) {
    let is_site = |host: &String| stage.sites.iter().any(|site| site.name == *host);
    let mut dark: BTreeSet<String> = BTreeSet::new();
    let mut burned: BTreeSet<String> = BTreeSet::new();
    for event in events.iter_mut() {
        match &mut event.fault {
            Fault::Burn { hosts } => burned.extend(hosts.iter().cloned()),
            Fault::PowerCut { hosts } => dark.extend(hosts.iter().cloned()),
            Fault::Crash { hosts, disks_lost } => {
                let gone = if *disks_lost { &mut burned } else { &mut dark };
                gone.extend(hosts.iter().cloned());
            }
            Fault::Start { hosts } => hosts.retain(|host| {
                let was_dark = dark.remove(host);
                !is_site(host) || (was_dark && !burned.contains(host))
            }),
            // Makes nothing dark, and starts nothing.
            _ => {}
        }
    }
    events.retain(|event| !matches!(&event.fault, Fault::Start { hosts } if hosts.is_empty()));
}
