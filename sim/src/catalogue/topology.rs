//! `[topology]` and `[control]`: where nodes stand.

use std::collections::{BTreeMap, BTreeSet};

use model::limits::SHARDS_MAX;

use super::file::{Control, Dc, Join, Topology};
use super::links::{self, LINK_KEYS, LOCAL, Said, WAN};
use super::reader::{Reader, Section};
use super::refused::unknown;
use super::{units, values};

/// Most data centers.
const DCS_MAX: usize = 9;
/// Most nodes of a data center.
const NODES_MAX: u64 = 9;
/// Most nodes in all.
const NODES_IN_ALL_MAX: u32 = 30;
/// Most nodes that join during the load.
const JOINS_MAX: usize = 9;
/// How often everything may be read back.
const SCRUB_EVERY_MS: std::ops::RangeInclusive<u64> = 5_000..=365 * 24 * 60 * 60 * 1_000;
/// How long a node may be gone before its replicas are replaced, as the product takes it.
const REPLACE_AFTER_MS: std::ops::RangeInclusive<u64> = 1_000..=7 * 24 * 60 * 60 * 1_000;
/// Less than the product's least election timeout.
const READ_LEASE_MS_MAX: i64 = 1_499;
/// The data centers of a file that names none.
const DCS: [(&str, &str); 3] = [("seoul", "kr"), ("busan", "kr"), ("tokyo", "jp")];

/// Reads it. `aliases` are the names that [draw] gives to data centers.
pub(super) fn read(
    reader: &mut Reader<'_>,
    top: &Section<'_>,
    aliases: &[String],
    load_ms: u64,
) -> Topology {
    let section = reader.section(top, "topology");
    let keys = [
        "nodes",
        "racks",
        "shards",
        "replicas",
        "replace_after",
        "read_lease",
        "scrub_every",
        "local",
        "latency",
        "jitter",
        "loss",
        "bandwidth",
        "matrix",
        "dc",
        "link",
        "join",
    ];
    reader.known(&section, &keys);
    let nodes = reader.get(&section, "nodes", values::counts("nodes", 1..=NODES_MAX));
    let racks = reader.get(&section, "racks", values::count("racks", 1..=NODES_MAX));
    let racks = racks.unwrap_or(3);
    let local = reader.section(&section, "local");
    reader.known(&local, &LINK_KEYS);
    let shards = reader.get(
        &section,
        "shards",
        values::count("shards", 0..=SHARDS_MAX.into()),
    );
    let mut topology = Topology {
        dcs: dcs(reader, &section, racks),
        nodes: nodes.unwrap_or((3, 3)),
        local: Said::read(reader, &local).over(LOCAL),
        wan: Said::read(reader, &section).over(WAN),
        shards: shards.unwrap_or(0),
        replicas: replicas(reader, &section),
        replace_after_ms: reader
            .get(&section, "replace_after", values::ms(REPLACE_AFTER_MS))
            .unwrap_or(0),
        read_lease_ms: read_lease(reader, &section),
        scrub_every_ms: reader
            .get(&section, "scrub_every", values::ms(SCRUB_EVERY_MS))
            .unwrap_or(0),
        joins: Vec::new(),
        links: Vec::new(),
    };
    topology.links = links::read(reader, &section, &topology);
    let tables = reader.sections(&section, "join");
    if tables.len() > JOINS_MAX {
        let message = format!("{} nodes join; at most {JOINS_MAX} can", tables.len());
        reader.add(&section, "join", message);
    }
    for join in tables {
        topology
            .joins
            .extend(joins(reader, &join, &topology, aliases, load_ms));
    }
    possible(reader, &section, &topology);
    topology
}

/// What the nodes' read windows are drawn from, each node's by itself.
fn read_lease(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Vec<(i64, i64)>> {
    let example = "read windows below 1.5s, as \"150ms\", \"0ms..1s\" or [\"0ms\", \"1s\"]";
    let windows = values::signed(example, units::time_us, 1_000, READ_LEASE_MS_MAX);
    reader.get(section, "read_lease", |found| {
        let windows = windows(found)?;
        let negative = windows.iter().any(|(least, _)| *least < 0);
        match negative {
            true => Err(format!("must be {example}; none is less than nothing")),
            false => Ok(windows),
        }
    })
}

fn replicas(reader: &mut Reader<'_>, section: &Section<'_>) -> u32 {
    let replicas = reader.get(section, "replicas", |found| {
        let replicas = values::count("replicas", 3..=5)(found).unwrap_or(4);
        let odd = replicas != 4;
        odd.then_some(replicas)
            .ok_or_else(|| "must be 3 or 5".to_owned())
    });
    replicas.unwrap_or(3)
}

fn dcs(reader: &mut Reader<'_>, section: &Section<'_>, racks: u32) -> Vec<Dc> {
    let tables = reader.sections(section, "dc");
    if !section.has("dc") {
        let dc = |(name, region): (&str, &str)| Dc {
            name: name.to_owned(),
            region: region.to_owned(),
            building: name.to_owned(),
            nodes: None,
            racks,
        };
        return DCS.into_iter().map(dc).collect();
    }
    let mut dcs: Vec<Dc> = Vec::new();
    for table in &tables {
        reader.known(table, &["name", "region", "building", "nodes", "racks"]);
        let name = reader.need(table, "name", values::name);
        let region = reader.get(table, "region", values::name);
        let building = reader.get(table, "building", values::name);
        let nodes = reader.get(table, "nodes", values::counts("nodes", 1..=NODES_MAX));
        let own = reader.get(table, "racks", values::count("racks", 1..=NODES_MAX));
        let Some(name) = name else { continue };
        if dcs.iter().any(|dc| dc.name == name) {
            let message = format!("there are two data centers \"{name}\"; names must differ");
            reader.add(table, "name", message);
            continue;
        }
        if WORDS.contains(&name.as_str()) {
            let message =
                format!("\"{name}\" has a meaning of its own in faults; name it otherwise");
            reader.add(table, "name", message);
        }
        dcs.push(Dc {
            region: region.unwrap_or_else(|| "kr".to_owned()),
            building: building.unwrap_or_else(|| name.clone()),
            name,
            nodes,
            racks: own.unwrap_or(racks),
        });
    }
    if tables.len() > DCS_MAX {
        let message = format!(
            "{} data centers; at most {DCS_MAX} can be simulated",
            tables.len()
        );
        reader.add(section, "dc", message);
    }
    dcs
}

/// Words that stand for places in faults.
pub(super) const WORDS: [&str; 6] = ["any", "all", "others", "outside", "world", "none"];

fn joins(
    reader: &mut Reader<'_>,
    table: &Section<'_>,
    topology: &Topology,
    aliases: &[String],
    load_ms: u64,
) -> Option<Join> {
    reader.known(table, &["dc", "at"]);
    let dc = reader.need(table, "dc", values::text);
    let at_ms = reader.need(table, "at", values::window_ms(0..=load_ms));
    let dc = dc?;
    let names = topology.dcs.iter().map(|dc| dc.name.as_str());
    let mut known = names.chain(aliases.iter().map(String::as_str));
    if !known.clone().any(|name| name == dc) {
        let message = unknown(&dc, "a data center", &mut known);
        reader.add(table, "dc", message);
    }
    Some(Join { dc, at_ms: at_ms? })
}

/// Whether the product can be laid out there, so that it survives the loss of any building.
fn possible(reader: &mut Reader<'_>, section: &Section<'_>, topology: &Topology) {
    let (dcs, replicas) = (topology.dcs.len(), topology.replicas);
    if reader.failed() {
        return;
    }
    if dcs < replicas as usize {
        let message = format!(
            "{replicas} replicas need {replicas} data centers, each in a building of its own; \
             there are {dcs}"
        );
        reader.add(
            section,
            if section.has("dc") { "dc" } else { "replicas" },
            message,
        );
    }
    let most = |dc: &Dc| dc.nodes.unwrap_or(topology.nodes).1;
    let nodes: u32 = topology.dcs.iter().map(most).sum();
    if nodes > NODES_IN_ALL_MAX {
        let message = format!("{nodes} nodes in all; at most {NODES_IN_ALL_MAX} can be simulated");
        reader.add(section, "nodes", message);
    }
    let mut buildings: BTreeMap<&str, usize> = BTreeMap::new();
    for dc in &topology.dcs {
        *buildings.entry(&dc.building).or_default() += 1;
    }
    for (building, dcs) in buildings {
        if dcs > replicas as usize / 2 && dcs > 1 {
            let message = format!(
                "{dcs} of the {replicas} replicas of a shard could stand in the building \
                 \"{building}\", a majority; only a [control] layout may do that"
            );
            reader.add(section, "dc", message);
        }
    }
}

/// Reads `[control]`: the layout that must visibly fail.
pub(super) fn control(
    reader: &mut Reader<'_>,
    top: &Section<'_>,
    topology: &Topology,
) -> Option<Control> {
    let section = reader.section(top, "control");
    if !section.exists() {
        return None;
    }
    reader.known(&section, &["building"]);
    let known: Vec<&str> = topology.dcs.iter().map(|dc| dc.name.as_str()).collect();
    let table = reader.section(&section, "building");
    let (mut buildings, mut placed) = (Vec::new(), BTreeSet::new());
    for building in table.keys() {
        let Some(dcs) = reader.get(&table, &building, values::names) else {
            continue;
        };
        for dc in &dcs {
            if !known.contains(&dc.as_str()) {
                let message = unknown(dc, "a data center", known.iter().copied());
                reader.add(&table, &building, message);
            } else if !placed.insert(dc.clone()) {
                reader.add(&table, &building, format!("{dc} stands in two buildings"));
            }
        }
        buildings.push((building, dcs));
    }
    let crowded = |(_, dcs): &(String, Vec<String>)| dcs.len() > topology.replicas as usize / 2;
    if !buildings.iter().any(crowded) {
        let most = topology.replicas / 2 + 1;
        let message = format!(
            "no building of it holds a majority, so nothing would fail: put {most} data centers \
             into one, as building = {{ pangyo = [\"{}\"] }}",
            known.join("\", \"")
        );
        reader.add(&section, "building", message);
    }
    Some(Control { buildings })
}
