//! How far data centers are from each other: a link's keys, `[topology.matrix]` and
//! `[[topology.link]]`.

use std::collections::{BTreeMap, BTreeSet};

use super::file::Topology;
use super::reader::{Reader, Section};
use super::refused::unknown;
use super::{units, values};
use crate::plan::{DirectedLink, Link};

/// The longest way, microseconds.
pub(super) const LATENCY_US_MAX: u64 = 5_000_000;
/// Jitter stays below a tick of the simulated network, microseconds.
pub(super) const JITTER_US_MAX: u64 = 999;
/// More loss than this is a cut, parts of a million.
pub(super) const LOSS_PPM_MAX: u64 = 500_000;
/// The keys of a link.
pub(super) const LINK_KEYS: [&str; 4] = ["latency", "jitter", "loss", "bandwidth"];
/// Between hosts of one data center.
pub(super) const LOCAL: Link = Link {
    latency_us: (300, 600),
    jitter_us: 100,
    loss_ppm: 0,
    bandwidth_bytes: 0,
};
/// Between data centers.
pub(super) const WAN: Link = Link {
    latency_us: (15_000, 15_000),
    jitter_us: 500,
    loss_ppm: 0,
    bandwidth_bytes: 0,
};

/// A link's keys, as far as a file says them.
#[derive(Clone, Copy)]
pub(super) struct Said {
    latency_us: Option<units::Window>,
    jitter_us: Option<u64>,
    loss_ppm: Option<u32>,
    bandwidth_bytes: Option<u64>,
}

impl Said {
    pub fn read(reader: &mut Reader<'_>, section: &Section<'_>) -> Said {
        Said {
            latency_us: reader.get(section, "latency", values::window_us(0..=LATENCY_US_MAX)),
            jitter_us: reader.get(section, "jitter", values::us(0..=JITTER_US_MAX)),
            loss_ppm: reader.get(section, "loss", values::parts(0..=LOSS_PPM_MAX)),
            bandwidth_bytes: reader.get(section, "bandwidth", values::rate),
        }
    }

    pub fn over(self, link: Link) -> Link {
        Link {
            latency_us: self.latency_us.unwrap_or(link.latency_us),
            jitter_us: self.jitter_us.unwrap_or(link.jitter_us),
            loss_ppm: self.loss_ppm.unwrap_or(link.loss_ppm),
            bandwidth_bytes: self.bandwidth_bytes.unwrap_or(link.bandwidth_bytes),
        }
    }
}

/// The links of `[topology.matrix]`, with those of `[[topology.link]]` over them.
pub(super) fn read(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    topology: &Topology,
) -> Vec<DirectedLink> {
    let wan = topology.wan;
    let known: Vec<&str> = topology.dcs.iter().map(|dc| dc.name.as_str()).collect();
    let mut links: BTreeMap<(String, String), Link> = BTreeMap::new();
    let matrix = reader.section(section, "matrix");
    for from in matrix.keys() {
        let row = reader.section(&matrix, &from);
        if !known.contains(&from.as_str()) {
            let message = unknown(&from, "a data center", known.iter().copied());
            reader.add(&matrix, &from, message);
        }
        for to in row.keys() {
            let latency = reader.get(&row, &to, values::window_us(0..=LATENCY_US_MAX));
            pair(reader, &row, (&to, &from, &to), &known);
            let latency_us = latency.unwrap_or(wan.latency_us);
            let link = Link { latency_us, ..wan };
            // The way back is as long, unless the matrix says otherwise.
            links.entry((to.clone(), from.clone())).or_insert(link);
            links.insert((from.clone(), to), link);
        }
    }
    let mut named = BTreeSet::new();
    for table in reader.sections(section, "link") {
        reader.known(&table, &[&["from", "to", "both"], &LINK_KEYS[..]].concat());
        let from = reader.need(&table, "from", values::text);
        let to = reader.need(&table, "to", values::text);
        let both = reader.get(&table, "both", values::yes).unwrap_or(true);
        let said = Said::read(reader, &table);
        let (Some(from), Some(to)) = (from, to) else {
            continue;
        };
        if !pair(reader, &table, ("from", &from, &to), &known) {
            continue;
        }
        let mut ways = vec![(from.clone(), to.clone())];
        ways.extend(both.then_some((to, from)));
        for (from, to) in ways {
            if !named.insert((from.clone(), to.clone())) {
                let message = format!("the link from {from} to {to} is named twice");
                reader.add(&table, "from", message);
            }
            let way = (from, to);
            let link = links.get(&way).copied().unwrap_or(wan);
            links.insert(way, said.over(link));
        }
    }
    let link = |((from, to), link)| DirectedLink { from, to, link };
    links.into_iter().map(link).collect()
}

/// Whether two names are those of different data centers.
fn pair(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    (key, from, to): (&str, &str, &str),
    known: &[&str],
) -> bool {
    for (name, key) in [(from, key), (to, if key == "from" { "to" } else { key })] {
        if !known.contains(&name) {
            let message = unknown(name, "a data center", known.iter().copied());
            reader.add(section, key, message);
            return false;
        }
    }
    if from == to {
        let message = format!("a link from {from} to itself; [topology.local] says how those are");
        reader.add(section, key, message);
    }
    from != to
}
