//! A line of the timeline becomes events: whom it befalls, when, and what ends it.

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};

use super::draw::within;
use super::file::{Action, Each, Line, LinkChange, Pick, Target};
use crate::plan::{Event, Fault, Link, Site, Topology};

/// What there is to befall.
pub(super) struct Stage<'a> {
    pub topology: &'a Topology,
    pub sites: &'a [Site],
    /// What the names of `[draw]` stand for.
    pub aliases: &'a BTreeMap<String, String>,
}

/// A host that a fault may name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Host {
    name: String,
    dc: String,
    rack: String,
}

/// What an action does at its beginning and at its end.
#[derive(Default)]
struct Deed {
    begin: Vec<Fault>,
    end: Vec<Fault>,
}

/// The events of one line that begins at `at_ms`.
pub(super) fn line(
    stage: &Stage<'_>,
    line: &Line,
    (number, at_ms): (u32, u64),
    dice: &mut StdRng,
) -> Vec<Event> {
    let mut events = Vec::new();
    let mut put = |at_ms, faults: Vec<Fault>, label: Option<&String>| {
        let mut label = label.cloned();
        events.extend(faults.into_iter().map(|fault| Event {
            at_ms,
            line: number,
            fault,
            label: label.take(),
        }));
    };
    let parts = parts(stage, line, dice);
    let times = line.repeat.times.max(1);
    let mut begin_ms = at_ms;
    for (at, (part, turn)) in parts
        .iter()
        .flat_map(|part| (0..times).map(move |turn| (part, turn)))
        .enumerate()
    {
        if at > 0 {
            begin_ms += within(dice, line.repeat.every_ms);
        }
        let deed = deed(stage, line, part, dice);
        let lasts = line.lasts_ms.map(|window| within(dice, window));
        // A fault that repeats ends between its turns, whatever chance says of the last one.
        let ends = dice.random_range(0..1_000_000) < line.ends || turn + 1 < times;
        put(
            begin_ms,
            deed.begin,
            line.story.as_ref().filter(|_| at == 0),
        );
        if let Some(lasts) = lasts.filter(|_| ends) {
            put(begin_ms + lasts, deed.end, None);
        }
    }
    events
}

/// Whom it befalls: all at once, or part by part.
fn parts(stage: &Stage<'_>, line: &Line, dice: &mut StdRng) -> Vec<Vec<Host>> {
    let hosts = hosts(stage, line, dice);
    let key = |host: &Host| match line.repeat.each {
        None => String::new(),
        Some(Each::Node) => host.name.clone(),
        Some(Each::Rack) => format!("{} {}", host.dc, host.rack),
        Some(Each::Dc) => host.dc.clone(),
    };
    let mut parts: Vec<(String, Vec<Host>)> = Vec::new();
    for host in hosts {
        let key = key(&host);
        match parts.iter_mut().find(|(name, _)| *name == key) {
            Some((_, part)) => part.push(host),
            None => parts.push((key, vec![host])),
        }
    }
    if line.repeat.shuffle {
        parts.shuffle(dice);
    }
    if parts.is_empty() {
        // Faults between places have no hosts here.
        parts.push((String::new(), Vec::new()));
    }
    parts.into_iter().map(|(_, part)| part).collect()
}

fn hosts(stage: &Stage<'_>, line: &Line, dice: &mut StdRng) -> Vec<Host> {
    let target = &line.target;
    match &line.action {
        Action::Cut { .. } | Action::Heal | Action::Reset | Action::Link(_) => Vec::new(),
        Action::Stampede => stage.stampeding(target, dice),
        // A building's clients share its fate; going rack by rack they are in none.
        Action::Burn
        | Action::PowerCut
        | Action::Crash { .. }
        | Action::Silence { .. }
        | Action::Start => {
            let whole = matches!(line.repeat.each, None | Some(Each::Dc));
            stage.befallen(target, whole, dice)
        }
        _ => stage.befallen(target, false, dice),
    }
}

fn deed(stage: &Stage<'_>, line: &Line, part: &[Host], dice: &mut StdRng) -> Deed {
    let hosts: Vec<String> = part.iter().map(|host| host.name.clone()).collect();
    let h = || hosts.clone();
    let one = |begin, end: Option<Fault>| Deed {
        begin: vec![begin],
        end: end.into_iter().collect(),
    };
    let start = Some(Fault::Start { hosts: h() });
    match &line.action {
        Action::Burn => one(Fault::Burn { hosts: h() }, None),
        Action::PowerCut => one(Fault::PowerCut { hosts: h() }, start),
        Action::Crash { disks_lost } => {
            let disks_lost = *disks_lost;
            let start = start.filter(|_| !disks_lost);
            one(
                Fault::Crash {
                    hosts: h(),
                    disks_lost,
                },
                start,
            )
        }
        Action::Kill => one(Fault::Kill { hosts: h() }, start),
        Action::Stop => one(Fault::Stop { hosts: h() }, start),
        Action::Start => one(Fault::Start { hosts: h() }, None),
        Action::Pause => one(
            Fault::Pause { hosts: h() },
            Some(Fault::Resume { hosts: h() }),
        ),
        Action::Resume => one(Fault::Resume { hosts: h() }, None),
        Action::Silence { reset } => between(&line.action, (h(), stage.all_but(&hosts)), *reset),
        Action::Cut { reset } => {
            let ways = stage.ways(&line.target, dice);
            all(ways.map(|ways| between(&line.action, ways, *reset)))
        }
        Action::Heal | Action::Reset => {
            let ways = stage.ways(&line.target, dice);
            all(ways.map(|ways| between(&line.action, ways, false)))
        }
        Action::Link(change) => stage.relink(&line.target, change, dice),
        Action::SlowSync { sync_ms } => {
            let slow = |sync_ms| Fault::SlowSync {
                hosts: h(),
                sync_ms,
            };
            one(slow(Some(*sync_ms)), Some(slow(None)))
        }
        Action::HangSync => {
            let hang = |hang| Fault::HangSync { hosts: h(), hang };
            one(hang(true), Some(hang(false)))
        }
        Action::FailSync => {
            let fail = |fail| Fault::FailSync { hosts: h(), fail };
            // The node has stopped itself.
            Deed {
                begin: vec![fail(true)],
                end: [fail(false)].into_iter().chain(start).collect(),
            }
        }
        Action::DiskRoom {
            free_percent: (low, high),
        } => {
            let free = dice.random_range(*low..=*high);
            let room = |free_percent| Fault::DiskRoom {
                hosts: h(),
                free_percent,
            };
            // Without any room left the node stops itself.
            let start = start.filter(|_| free == 0);
            let end = [room(None)].into_iter().chain(start).collect();
            Deed {
                begin: vec![room(Some(free))],
                end,
            }
        }
        Action::BitFlip { parts } => {
            let part = parts.choose(dice).copied();
            let flip = part.map(|part| Fault::BitFlip { hosts: h(), part });
            Deed {
                begin: flip.into_iter().collect(),
                end: Vec::new(),
            }
        }
        Action::WipeDisk => one(Fault::WipeDisk { hosts: h() }, None),
        Action::ImageDisk => one(Fault::ImageDisk { hosts: h() }, None),
        Action::OldDisk => one(Fault::OldDisk { hosts: h() }, None),
        Action::ClockJump { by_ms } => {
            let by_ms = signed(dice, by_ms);
            let jump = |by_ms| Fault::ClockJump { hosts: h(), by_ms };
            one(jump(by_ms), Some(jump(-by_ms)))
        }
        Action::ClockDrift { ppm } => {
            let drift = |ppm| Fault::ClockDrift { hosts: h(), ppm };
            one(drift(signed(dice, ppm)), Some(drift(0)))
        }
        Action::Stampede => one(Fault::Stampede { hosts: h() }, None),
    }
}

fn signed(dice: &mut StdRng, windows: &[(i64, i64)]) -> i64 {
    let (low, high) = windows.choose(dice).copied().unwrap_or_default();
    dice.random_range(low..=high)
}

fn all(deeds: impl Iterator<Item = Deed>) -> Deed {
    deeds.fold(Deed::default(), |mut all, deed| {
        all.begin.extend(deed.begin);
        all.end.extend(deed.end);
        all
    })
}

/// What goes on between two groups. Silence goes both ways.
fn between(action: &Action, (from, to): (Vec<String>, Vec<String>), reset: bool) -> Deed {
    let way = |from: &[String], to: &[String]| (from.to_vec(), to.to_vec());
    let mut ways = vec![way(&from, &to)];
    if matches!(action, Action::Silence { .. }) {
        ways.push(way(&to, &from));
    }
    ways.retain(|(from, to)| !from.is_empty() && !to.is_empty());
    let mut deed = Deed::default();
    for (from, to) in ways {
        let heal = Fault::Heal {
            from: from.clone(),
            to: to.clone(),
        };
        match action {
            Action::Heal => deed.begin.push(heal),
            Action::Reset => deed.begin.push(Fault::Reset { from, to }),
            _ => {
                deed.begin.push(Fault::Cut { from, to, reset });
                deed.end.push(heal);
            }
        }
    }
    deed
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
    fn befallen(&self, target: &Target, clients: bool, dice: &mut StdRng) -> Vec<Host> {
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

    fn stampeding(&self, target: &Target, dice: &mut StdRng) -> Vec<Host> {
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
    fn all_but(&self, hosts: &[String]) -> Vec<String> {
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
    fn ways(
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
    fn ends(&self, target: &Target, dice: &mut StdRng) -> (Vec<String>, Vec<String>) {
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

    /// Links between data centers change.
    fn relink(&self, target: &Target, change: &LinkChange, dice: &mut StdRng) -> Deed {
        let (from, to) = self.ends(target, dice);
        let loss = change
            .loss_ppm
            .map(|(low, high)| dice.random_range(low..=high));
        let mut pairs: BTreeSet<(String, String)> = BTreeSet::new();
        for from in &from {
            for to in to.iter().filter(|to| *to != from) {
                pairs.insert((from.clone(), to.clone()));
                pairs.extend(target.both.then(|| (to.clone(), from.clone())));
            }
        }
        let mut deed = Deed::default();
        for (from, to) in pairs {
            let usual = self.usual(&from, &to);
            let link = Link {
                latency_us: change.latency_us.unwrap_or(usual.latency_us),
                jitter_us: change.jitter_us.unwrap_or(usual.jitter_us),
                loss_ppm: loss.unwrap_or(usual.loss_ppm),
                bandwidth_bytes: change.bandwidth_bytes.unwrap_or(usual.bandwidth_bytes),
            };
            let fault = |link| Fault::Link {
                from: from.clone(),
                to: to.clone(),
                link,
            };
            deed.begin.push(fault(Some(link)));
            deed.end.push(fault(None));
        }
        deed
    }

    fn usual(&self, from: &str, to: &str) -> Link {
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
