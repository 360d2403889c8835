//! Whom a fault befalls, as a file says it: names are checked here, drawn in `draw`.

use std::collections::BTreeSet;

use super::fault::Context;
use super::file::{Dc, Each, Pick, Target};
use super::reader::{Found, Reader, Section};
use super::refused::unknown;
use super::values;

/// Keys that name hosts.
pub(super) const HOST_KEYS: &[&str] = &["building", "dc", "rack", "node", "nodes", "except"];
/// Keys that name two groups of hosts, or two data centers.
pub(super) const WAY_KEYS: &[&str] = &["from", "to", "both"];
/// Keys that name client sites.
pub(super) const SITE_KEYS: &[&str] = &["site", "dc"];

/// What `from` and `to` may be, besides names.
const GROUPS: [&str; 5] = ["any", "all", "others", "outside", "world"];

/// Reads the keys that an action has.
pub(super) fn read(
    reader: &mut Reader<'_>,
    table: &Section<'_>,
    keys: &'static [&'static str],
    context: &Context<'_>,
) -> Target {
    if keys == WAY_KEYS {
        ways(reader, table, context)
    } else if keys == SITE_KEYS {
        sites(reader, table, context)
    } else {
        hosts(reader, table, context)
    }
}

fn ways(reader: &mut Reader<'_>, table: &Section<'_>, context: &Context<'_>) -> Target {
    let from = reader
        .need(table, "from", values::names)
        .unwrap_or_default();
    let to = reader.need(table, "to", values::names).unwrap_or_default();
    let link = reader
        .get(table, "action", values::text)
        .is_some_and(|a| a == "link");
    let mut known = context.dcs();
    known.extend(
        GROUPS
            .iter()
            .filter(|word| !link || !["outside", "world"].contains(word)),
    );
    if !link {
        known.extend(context.sites.iter().map(|site| site.name.as_str()));
        known.extend(context.aliases.nodes.iter().map(String::as_str));
    }
    for (key, names) in [("from", &from), ("to", &to)] {
        for name in names {
            let node = !link && context.node(name).is_some();
            if !node && !known.contains(&name.as_str()) {
                let message = unknown(name, "a place", known.iter().copied());
                reader.add(table, key, message);
            }
        }
    }
    let relative = |names: &[String]| names.iter().any(|n| n == "others" || n == "world");
    if relative(&from) && relative(&to) {
        let message = "both ends are what the other is not: one of from and to must name somebody";
        reader.add(table, "to", message);
    }
    if !from.is_empty() && from == to && from != ["any"] && from != ["all"] {
        reader.add(table, "to", "is the same as from");
    }
    Target {
        from,
        to,
        both: reader.get(table, "both", values::yes).unwrap_or(true),
        ..Target::default()
    }
}

fn sites(reader: &mut Reader<'_>, table: &Section<'_>, context: &Context<'_>) -> Target {
    let site = reader.get(table, "site", pick);
    let known: Vec<&str> = context
        .sites
        .iter()
        .map(|site| site.name.as_str())
        .collect();
    check(reader, table, "site", &site, "a client site", &known);
    let dc = reader.get(table, "dc", pick);
    check(reader, table, "dc", &dc, "a data center", &context.dcs());
    if site.is_some() && dc.is_some() {
        reader.add(
            table,
            "site",
            "does not go with dc: name the sites, or where they are",
        );
    }
    Target {
        site,
        dc,
        ..Target::default()
    }
}

fn hosts(reader: &mut Reader<'_>, table: &Section<'_>, context: &Context<'_>) -> Target {
    let building = reader.get(table, "building", pick);
    let dc = reader.get(table, "dc", pick);
    let rack = reader.get(table, "rack", pick);
    let node = reader.get(table, "node", pick);
    let nodes = reader.get(table, "nodes", picks);
    let except = reader
        .get(table, "except", values::names)
        .unwrap_or_default();
    let topology = context.topology;
    let buildings: BTreeSet<&str> = topology.dcs.iter().map(|dc| dc.building.as_str()).collect();
    let buildings: Vec<&str> = buildings.into_iter().collect();
    check(
        reader,
        table,
        "building",
        &building,
        "a building",
        &buildings,
    );
    check(reader, table, "dc", &dc, "a data center", &context.dcs());
    let racks = topology.dcs.iter().map(|dc| dc.racks).max().unwrap_or(1);
    let racks: Vec<String> = (1..=racks).map(|n| format!("r{n}")).collect();
    let racks: Vec<&str> = racks.iter().map(String::as_str).collect();
    check(reader, table, "rack", &rack, "a rack", &racks);
    for (key, pick) in [("node", &node), ("nodes", &nodes)] {
        for name in pick.iter().flat_map(Pick::names) {
            if let Some(message) = not_a_node(name, context) {
                reader.add(table, key, message);
            }
        }
    }
    for name in &except {
        let dcs = context.dcs();
        if !dcs.contains(&name.as_str())
            && let Some(message) = not_a_node(name, context)
        {
            let message = format!("{message}; nor is it a data center: {}", dcs.join(", "));
            reader.add(table, "except", message);
        }
    }
    if !["building", "dc", "node", "nodes"]
        .into_iter()
        .any(|key| table.has(key))
    {
        let message = "whom it befalls is missing: dc, building, node or nodes, as dc = \"any\"";
        reader.add(
            table,
            if table.has("rack") { "rack" } else { "action" },
            message,
        );
    }
    for (a, b) in [("building", "dc"), ("node", "nodes")] {
        if table.has(a) && table.has(b) {
            reader.add(table, b, format!("does not go with {a}: say one of them"));
        }
    }
    Target {
        building,
        dc,
        rack,
        node: node.or(nodes),
        except,
        ..Target::default()
    }
}

/// A name, a list of names, "any" or "all".
fn pick(found: &Found) -> Result<Pick, String> {
    let names = values::names(found)
        .map_err(|must| format!("{must}, or \"any\" (one, drawn), or \"all\""))?;
    Ok(match names[..] {
        [ref word] if word == "any" => Pick::Any(1),
        [ref word] if word == "all" => Pick::All,
        _ => Pick::Named(names),
    })
}

/// As [`pick`], or how many are drawn.
fn picks(found: &Found) -> Result<Pick, String> {
    match found {
        Found::Whole(_) => values::count("nodes", 1..=30)(found).map(Pick::Any),
        found => pick(found).map_err(|must| format!("{must}, or how many are drawn, as 2")),
    }
}

fn check(
    reader: &mut Reader<'_>,
    table: &Section<'_>,
    key: &str,
    pick: &Option<Pick>,
    what: &str,
    known: &[&str],
) {
    for name in pick.iter().flat_map(Pick::names) {
        if !known.contains(&name.as_str()) {
            let message = unknown(name, what, known.iter().copied().chain(["any", "all"]));
            reader.add(table, key, message);
        }
    }
}

/// Why a name is not one of a node that is always there.
fn not_a_node(name: &str, context: &Context<'_>) -> Option<String> {
    if context.aliases.nodes.iter().any(|alias| alias == name) {
        return None;
    }
    match context.node(name) {
        Some((dc, number)) => {
            let least = context.topology.least_nodes(dc);
            (number == 0 || number > least).then(|| {
                let last = format!("{}-{least}", dc.name);
                format!(
                    "\"{name}\" is not always there: the last node of {} is {last}",
                    dc.name
                )
            })
        }
        None => {
            let dcs = context.topology.dcs.iter();
            let nodes = dcs.flat_map(|dc| {
                (1..=context.topology.least_nodes(dc)).map(|n| format!("{}-{n}", dc.name))
            });
            let nodes: Vec<String> = nodes.collect();
            let aliases = context.aliases.nodes.iter();
            Some(unknown(
                name,
                "a node",
                nodes.iter().chain(aliases).map(String::as_str),
            ))
        }
    }
}

/// At most so many parts, where they go one by one.
pub(super) fn parts_max(target: &Target, each: Each, context: &Context<'_>) -> u64 {
    let all = context.topology.dcs.len() as u64;
    let dcs = match &target.dc {
        Some(Pick::Any(count)) => u64::from(*count),
        Some(Pick::Named(names)) => names.len() as u64,
        Some(Pick::All) | None => all,
    };
    let dcs = dcs.min(all);
    let nodes = |dc: &Dc| u64::from(dc.nodes.unwrap_or(context.topology.nodes).1);
    let most = |of: &dyn Fn(&Dc) -> u64| context.topology.dcs.iter().map(of).max().unwrap_or(1);
    let named = match &target.node {
        Some(Pick::Any(count)) => u64::from(*count),
        Some(Pick::Named(names)) => names.len() as u64,
        Some(Pick::All) | None => u64::MAX,
    };
    let parts = match each {
        Each::Node => dcs * most(&nodes),
        Each::Rack => dcs * most(&|dc| u64::from(dc.racks).min(nodes(dc))),
        Each::Dc => dcs,
    };
    parts.min(named).max(1)
}

impl Pick {
    /// The names that it uses.
    pub fn names(&self) -> &[String] {
        match self {
            Pick::Named(names) => names,
            Pick::All | Pick::Any(_) => &[],
        }
    }
}

impl Context<'_> {
    /// Names of data centers, drawn ones too.
    fn dcs(&self) -> Vec<&str> {
        let names = self.topology.dcs.iter().map(|dc| dc.name.as_str());
        names
            .chain(self.aliases.dcs.iter().map(String::as_str))
            .collect()
    }

    /// The data center and the number of something that is named as a node is.
    fn node(&self, name: &str) -> Option<(&Dc, u32)> {
        self.topology.dcs.iter().find_map(|dc| {
            let number = name.strip_prefix(&dc.name)?.strip_prefix('-')?;
            Some((dc, number.parse().ok()?))
        })
    }
}
