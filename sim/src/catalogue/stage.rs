//! What there is to befall, and who is meant by a target: names and drawn ones become hosts.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};

use super::file::{Pick, Target};
use crate::plan::{Link, Site, Topology};

/// What there is to befall.
pub(super) struct Stage<'a> {
    pub topology: &'a Topology,
    pub sites: &'a [Site],
    /// What the names of `[draw]` stand for.
    pub aliases: &'a BTreeMap<String, String>,
}

/// A host that a fault may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub name: String,
    pub dc: String,
    pub rack: String,
}

impl Stage<'_> {
    fn real<'n>(&'n self, name: &'n String) -> &'n String {
        self.aliases.get(name).unwrap_or(name)
    }

    /// Names of data centers that are meant.
    fn dcs(&self, pick: Option<&Pick>, dice: &mut StdRng) -> Vec<String> {
        let all = self.topology.dcs.iter().map(|dc| dc.name.clone());
        self.choose(all.collect(), pick, dice)
    }

    /// What is meant of `all`, in its order.
    fn choose(&self, all: Vec<String>, pick: Option<&Pick>, dice: &mut StdRng) -> Vec<String> {
        match pick {
            None | Some(Pick::All) => all,
            Some(Pick::Any(count)) => {
                let mut at: Vec<usize> = (0..all.len()).collect();
                at.shuffle(dice);
                at.truncate(*count as usize);
                let chosen: BTreeSet<usize> = at.into_iter().collect();
                let all = all.into_iter().enumerate();
                let chosen = all.filter(|(at, _)| chosen.contains(at));
                chosen.map(|(_, name)| name).collect()
            }
            Some(Pick::Named(names)) => {
                let names: BTreeSet<&String> = names.iter().map(|name| self.real(name)).collect();
                all.into_iter()
                    .filter(|name| names.contains(name))
                    .collect()
            }
        }
    }

    /// Hosts that a fault of hosts befalls; whole data centers with the client sites inside, where
    /// `clients` says so.
    pub fn befallen(&self, target: &Target, clients: bool, dice: &mut StdRng) -> Vec<Host> {
        let mut dcs = self.dcs(target.dc.as_ref(), dice);
        if let Some(pick) = &target.building {
            let of = self.topology.dcs.iter().map(|dc| dc.building.clone());
            let mut buildings: Vec<String> = Vec::new();
            of.for_each(|building| {
                if !buildings.contains(&building) {
                    buildings.push(building);
                }
            });
            let mut named = pick.clone();
            // In a control layout what was a building of its own is a part of another.
            if let Pick::Named(names) = &mut named {
                for name in names {
                    let dc = self.topology.dcs.iter().find(|dc| dc.name == *name);
                    if let Some(dc) = dc.filter(|_| !buildings.contains(name)) {
                        name.clone_from(&dc.building);
                    }
                }
            }
            let buildings = self.choose(buildings, Some(&named), dice);
            let inside = |name: &String| {
                let dc = self.topology.dcs.iter().find(|dc| dc.name == *name);
                dc.is_some_and(|dc| buildings.contains(&dc.building))
            };
            dcs.retain(inside);
        }
        let mut hosts: Vec<Host> = self.nodes();
        hosts.retain(|host| dcs.contains(&host.dc));
        if let Some(pick) = &target.rack {
            let racks: BTreeSet<String> = hosts.iter().map(|host| host.rack.clone()).collect();
            let racks = self.choose(racks.into_iter().collect(), Some(pick), dice);
            hosts.retain(|host| racks.contains(&host.rack));
        }
        if let Some(pick) = &target.node {
            let names = hosts.iter().map(|host| host.name.clone()).collect();
            let names = self.choose(names, Some(pick), dice);
            hosts.retain(|host| names.contains(&host.name));
        }
        let whole = target.rack.is_none() && target.node.is_none();
        if whole && clients {
            let sites = self
                .sites
                .iter()
                .filter(|site| site.inside && dcs.contains(&site.dc));
            hosts.extend(sites.map(Host::of_site));
        }
        let except: Vec<&String> = target.except.iter().map(|name| self.real(name)).collect();
        hosts.retain(|host| !except.contains(&&host.name) && !except.contains(&&host.dc));
        hosts
    }

    /// Client sites that are meant.
    pub fn stampeding(&self, target: &Target, dice: &mut StdRng) -> Vec<Host> {
        let dcs = self.dcs(target.dc.as_ref(), dice);
        let near = self.sites.iter().filter(|site| dcs.contains(&site.dc));
        let near: Vec<&Site> = near.collect();
        let names = near.iter().map(|site| site.name.clone()).collect();
        let names = self.choose(names, target.site.as_ref(), dice);
        let meant = near.into_iter().filter(|site| names.contains(&site.name));
        meant.map(Host::of_site).collect()
    }

    fn nodes(&self) -> Vec<Host> {
        let nodes = self.topology.nodes().map(|(dc, node)| Host {
            name: node.name.clone(),
            dc: dc.name.clone(),
            rack: node.rack.clone(),
        });
        nodes.collect()
    }

    /// Every host that is not one of these.
    pub fn all_but(&self, hosts: &[String]) -> Vec<String> {
        let nodes = self.topology.nodes().map(|(_, node)| &node.name);
        let all = nodes.chain(self.sites.iter().map(|site| &site.name));
        all.filter(|name| !hosts.contains(name)).cloned().collect()
    }

    /// Hosts of data centers, the clients inside included.
    fn inside(&self, dcs: &[String]) -> Vec<String> {
        let nodes = self.topology.nodes();
        let nodes = nodes.filter(|(dc, _)| dcs.contains(&dc.name));
        let sites = self.sites.iter();
        let sites = sites.filter(|site| site.inside && dcs.contains(&site.dc));
        let names = nodes
            .map(|(_, node)| &node.name)
            .chain(sites.map(|site| &site.name));
        names.cloned().collect()
    }

    /// The groups of a fault between places, one or both ways.
    pub fn ways(
        &self,
        target: &Target,
        dice: &mut StdRng,
    ) -> impl Iterator<Item = (Vec<String>, Vec<String>)> + use<> {
        let (from_dcs, to_dcs) = self.ends(target, dice);
        let group = |words: &[String], mine: &[String], other: &[String]| {
            let mut hosts = self.inside(mine);
            for word in words {
                let outside = self.sites.iter().filter(|site| !site.inside);
                match word.as_str() {
                    "outside" | "world" => hosts.extend(outside.map(|site| site.name.clone())),
                    _ => {
                        let word = self.real(word);
                        let known = self.all_but(&[]);
                        hosts.extend(known.into_iter().filter(|name| name == word));
                    }
                }
            }
            let others = self.inside(other);
            hosts.retain(|host| !others.contains(host));
            hosts
        };
        let from = group(&target.from, &from_dcs, &to_dcs);
        let to = group(&target.to, &to_dcs, &from_dcs);
        let back = target.both.then(|| (to.clone(), from.clone()));
        [(from, to)].into_iter().chain(back)
    }

    /// The data centers at both ends of a fault between places.
    pub fn ends(&self, target: &Target, dice: &mut StdRng) -> (Vec<String>, Vec<String>) {
        let all: Vec<String> = self.topology.dcs.iter().map(|dc| dc.name.clone()).collect();
        let mut taken: Vec<String> = Vec::new();
        let mut named = |words: &[String], dice: &mut StdRng| {
            let mut dcs = Vec::new();
            for word in words {
                let free: Vec<&String> = all.iter().filter(|dc| !taken.contains(dc)).collect();
                match word.as_str() {
                    "any" => dcs.extend(free.choose(dice).map(|dc| (*dc).clone())),
                    "all" => dcs.extend(all.clone()),
                    _ => dcs.extend(Some(self.real(word).clone()).filter(|dc| all.contains(dc))),
                }
                taken.extend(dcs.iter().cloned());
            }
            dcs
        };
        let mut from = named(&target.from, dice);
        let mut to = named(&target.to, dice);
        let rest = |of: &[String]| all.iter().filter(|dc| !of.contains(dc)).cloned().collect();
        let relative = |words: &[String]| words.iter().any(|w| w == "others" || w == "world");
        if relative(&target.to) {
            to = rest(&from);
        }
        if relative(&target.from) {
            from = rest(&to);
        }
        (from, to)
    }

    /// A link as the topology says it is.
    pub fn usual(&self, from: &str, to: &str) -> Link {
        let links = &self.topology.links;
        let own = links.iter().find(|link| link.from == from && link.to == to);
        own.map_or(self.topology.wan, |own| own.link)
    }
}

impl Host {
    fn of_site(site: &Site) -> Host {
        Host {
            name: site.name.clone(),
            dc: site.dc.clone(),
            rack: String::new(),
        }
    }
}
