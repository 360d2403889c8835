//! What faults have done to the nodes of a cluster, as far as the atlas has to know.

use std::collections::{BTreeMap, BTreeSet};

use super::choices::{NODES_MAX, Set};
use crate::plan::{Fault, Link, Topology};

/// Syncs that take longer than this count as hung, ms.
const SYNC_MS_MAX: u64 = 1_000;
/// Processes that wait longer for a processor count as paused, ms.
const WAIT_MS_MAX: u64 = 1_000;
/// A way that takes longer, or loses more, counts as cut.
const LATENCY_US_MAX: u64 = 400_000;
const LOSS_PPM_MAX: u32 = 250_000;
/// Disks with no more room than this refuse appends, percent.
const RESERVE_PERCENT: u32 = 5;

/// How a node goes down.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Burned,
    Dark,
    Ended,
}

/// What has become of the nodes.
pub(super) struct Damage {
    names: Vec<String>,
    at: BTreeMap<String, usize>,
    dc: Vec<String>,
    down: BTreeSet<usize>,
    paused: BTreeSet<usize>,
    /// Processes that wait for a processor for so long that they count as paused.
    starved: BTreeSet<usize>,
    /// Disks that answer late, or not at all.
    hung: BTreeSet<usize>,
    slow: BTreeSet<usize>,
    full: BTreeSet<usize>,
    /// Disks that hold less than what was synced to them.
    lost: BTreeSet<usize>,
    burned: BTreeSet<usize>,
    imaged: BTreeSet<usize>,
    cut: BTreeSet<(usize, usize)>,
    /// What a drill has cut, and whether its controller is there to end it when something happens.
    drilled: (BTreeSet<(usize, usize)>, bool),
    bad_links: BTreeSet<(String, String)>,
}

impl Damage {
    /// Of a cluster that is whole.
    pub fn new(topology: &Topology) -> Damage {
        let names: Vec<String> = topology
            .nodes()
            .map(|(_, node)| node.name.clone())
            .collect();
        let at = names
            .iter()
            .cloned()
            .enumerate()
            .map(|(at, name)| (name, at));
        let bad = |link: &&crate::plan::DirectedLink| bad(&link.link);
        let links = topology.links.iter().filter(bad);
        Damage {
            at: at.collect(),
            dc: topology.nodes().map(|(dc, _)| dc.name.clone()).collect(),
            names,
            down: BTreeSet::new(),
            paused: BTreeSet::new(),
            starved: BTreeSet::new(),
            hung: BTreeSet::new(),
            slow: BTreeSet::new(),
            full: BTreeSet::new(),
            lost: BTreeSet::new(),
            burned: BTreeSet::new(),
            imaged: BTreeSet::new(),
            cut: BTreeSet::new(),
            drilled: Default::default(),
            bad_links: links
                .map(|link| (link.from.clone(), link.to.clone()))
                .collect(),
        }
    }

    /// Names of the nodes, in the topology's order.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.names.iter()
    }

    /// The nodes among hosts; client sites are no replicas.
    fn nodes(&self, hosts: &[String]) -> Vec<usize> {
        let nodes = hosts.iter().filter_map(|host| self.at.get(host));
        nodes.copied().collect()
    }

    /// Nodes that burned are replaced: what they held is on others. Whether any of them is new.
    pub fn forget(&mut self, replaced: &BTreeSet<&str>) -> bool {
        let before = self.lost.len();
        let names = &self.names;
        self.lost
            .retain(|node| !replaced.contains(names[*node].as_str()));
        self.lost.len() < before
    }

    /// Takes a fault, or its end.
    ///
    /// # Errors
    /// When it makes no sense now: why.
    pub fn take(&mut self, fault: &Fault) -> Result<(), String> {
        match fault {
            Fault::Burn { hosts } => self.stop(hosts, How::Burned, "burns")?,
            Fault::Crash { hosts, disks_lost } => self.stop(
                hosts,
                if *disks_lost { How::Burned } else { How::Dark },
                "crashes",
            )?,
            Fault::PowerCut { hosts } => self.stop(hosts, How::Dark, "loses its power")?,
            Fault::Kill { hosts } => self.stop(hosts, How::Ended, "is killed")?,
            Fault::Stop { hosts } => self.stop(hosts, How::Ended, "is stopped")?,
            Fault::FailSync { hosts, fail: true } => {
                self.stop(hosts, How::Ended, "fails to sync")?
            }
            Fault::Start { hosts } => self.start(hosts)?,
            Fault::Pause { hosts, .. } => self.pause(hosts)?,
            Fault::Resume { hosts } => {
                for node in self.nodes(hosts) {
                    if !self.paused.remove(&node) {
                        return Err(format!("{} resumes, but it runs", self.names[node]));
                    }
                }
            }
            // A link that cannot be opened carries nothing.
            Fault::Cut { from, to, .. }
            | Fault::Block {
                from,
                to,
                block: true,
            } => {
                let pairs = self.pairs(from, to);
                self.cut.extend(pairs);
            }
            Fault::Heal { from, to }
            | Fault::Block {
                from,
                to,
                block: false,
            } => {
                for pair in self.pairs(from, to) {
                    self.cut.remove(&pair);
                }
            }
            Fault::Link { from, to, link } => {
                let way = (from.clone(), to.clone());
                let is_bad = link.as_ref().is_some_and(bad);
                self.bad_links.remove(&way);
                self.bad_links.extend(Some(way).filter(|_| is_bad));
            }
            Fault::DiskRoom {
                hosts,
                free_percent: Some(0),
            } => {
                self.stop(hosts, How::Ended, "has no room left")?;
            }
            Fault::Starve { hosts, starved } => {
                let long = starved.is_some_and(|starved| starved.wait_ms.1 > WAIT_MS_MAX);
                for node in self.nodes(hosts) {
                    match long {
                        true => self.starved.insert(node),
                        false => self.starved.remove(&node),
                    };
                }
            }
            Fault::SlowSync { .. }
            | Fault::HangSync { .. }
            | Fault::DiskRoom { .. }
            | Fault::SmallDisk { .. } => self.disk(fault),
            Fault::BitFlip { hosts, .. } | Fault::LoseRecord { hosts } => {
                let nodes = self.nodes(hosts);
                self.lost.extend(nodes);
            }
            Fault::Remove { hosts } => {
                // It holds nothing any more then, and others do.
                let nodes = self.nodes(hosts);
                self.lost.extend(nodes);
            }
            Fault::WipeDisk { hosts } => self.exchange(hosts, false)?,
            Fault::OldDisk { hosts } => self.exchange(hosts, true)?,
            Fault::ImageDisk { hosts } => {
                let nodes = self.nodes(hosts);
                self.imaged.extend(nodes);
            }
            Fault::Drill { hosts, drill } => {
                let others = |name: &&String| !hosts.contains(name);
                let others: Vec<String> = self.names.iter().filter(others).cloned().collect();
                let [mut pairs, back] = [self.pairs(hosts, &others), self.pairs(&others, hosts)];
                pairs.extend(back);
                self.drilled = match drill {
                    Some(drill) => (pairs.into_iter().collect(), drill.renews_ms.is_none()),
                    None => Default::default(),
                };
            }
            Fault::FailSync { fail: false, .. }
            | Fault::Compact { .. }
            | Fault::Reset { .. }
            | Fault::ClockJump { .. }
            | Fault::ClockDrift { .. }
            | Fault::Move { .. }
            | Fault::Forge { .. }
            | Fault::Drain { .. }
            | Fault::MoveTo { .. }
            | Fault::Stampede { .. } => {}
        }
        Ok(())
    }

    /// Disks that are slow, hung or nearly full, and those that are not any more.
    fn disk(&mut self, fault: &Fault) {
        let (set, hosts, is) = match fault {
            Fault::SlowSync { hosts, sync_ms } => {
                let slow = sync_ms.is_some_and(|(_, most)| most > SYNC_MS_MAX);
                (&mut self.slow, hosts, slow)
            }
            Fault::HangSync { hosts, hang } => (&mut self.hung, hosts, *hang),
            Fault::DiskRoom {
                hosts,
                free_percent,
            } => {
                let full = free_percent.is_some_and(|free| free <= RESERVE_PERCENT);
                (&mut self.full, hosts, full)
            }
            // It will be.
            Fault::SmallDisk { hosts, left_bytes } => (&mut self.full, hosts, left_bytes.is_some()),
            _ => return,
        };
        for node in hosts.iter().filter_map(|host| self.at.get(host)) {
            if is {
                set.insert(*node);
            } else {
                set.remove(node);
            }
        }
    }

    fn is_up(&self, node: usize, does: &str) -> Result<(), String> {
        if self.down.contains(&node) {
            return Err(format!(
                "{} {does}, but it is down already",
                self.names[node]
            ));
        }
        Ok(())
    }

    fn stop(&mut self, hosts: &[String], how: How, does: &str) -> Result<(), String> {
        for node in self.nodes(hosts) {
            match how {
                // What stands in the dark burns, and loses its power, as well.
                How::Burned | How::Dark => {}
                How::Ended => self.is_up(node, does)?,
            }
            if self.paused.contains(&node) {
                return Err(format!("{} {does} while it is paused", self.names[node]));
            }
            self.down.insert(node);
            if self.drilled.1 {
                self.drilled = Default::default();
            }
            if how == How::Burned {
                self.lost.insert(node);
                self.burned.insert(node);
            }
        }
        Ok(())
    }

    fn pause(&mut self, hosts: &[String]) -> Result<(), String> {
        for node in self.nodes(hosts) {
            self.is_up(node, "is paused")?;
            if !self.paused.insert(node) {
                return Err(format!("{} is paused twice", self.names[node]));
            }
        }
        Ok(())
    }

    fn start(&mut self, hosts: &[String]) -> Result<(), String> {
        for node in self.nodes(hosts) {
            if self.burned.contains(&node) {
                let name = &self.names[node];
                return Err(format!(
                    "{name} starts, but it burned: what burned does not come back"
                ));
            }
            if !self.down.remove(&node) {
                return Err(format!("{} starts, but it runs", self.names[node]));
            }
        }
        Ok(())
    }

    fn exchange(&mut self, hosts: &[String], image: bool) -> Result<(), String> {
        for node in self.nodes(hosts) {
            let name = &self.names[node];
            if !self.down.contains(&node) {
                return Err(format!(
                    "the disk of {name} is exchanged while it runs: stop it first"
                ));
            }
            if image && !self.imaged.contains(&node) {
                return Err(format!("there is no image of {name}: image-disk takes one"));
            }
            self.lost.insert(node);
        }
        Ok(())
    }

    fn pairs(&self, from: &[String], to: &[String]) -> Vec<(usize, usize)> {
        let (from, to) = (self.nodes(from), self.nodes(to));
        let from = from.into_iter();
        from.flat_map(|a| to.iter().map(move |b| (a, *b))).collect()
    }

    /// Data centers where a disk holds less than what was synced to it.
    pub fn dcs_without_disks<'t>(&self, topology: &'t Topology) -> BTreeSet<&'t str> {
        let nodes = topology.nodes().enumerate();
        let lost = nodes.filter(|(at, _)| self.lost.contains(at));
        lost.map(|(_, (dc, _))| dc.name.as_str()).collect()
    }

    /// For each node those that it and that reach each other, as far as they serve.
    pub fn reach(&self) -> Vec<Set> {
        let count = self.names.len().min(NODES_MAX);
        let serving: Vec<usize> = (0..count).filter(|node| self.serves(*node)).collect();
        let mut reach = vec![0; count];
        for a in &serving {
            let joined = serving.iter().filter(|b| *b == a || self.joined(*a, **b));
            reach[*a] = joined.fold(0, |set, b| set | 1 << b);
        }
        reach
    }

    /// Whether a replica on this node can be part of a quorum.
    fn serves(&self, node: usize) -> bool {
        let ill = [
            &self.down,
            &self.paused,
            &self.starved,
            &self.hung,
            &self.slow,
            &self.full,
            &self.lost,
        ];
        !ill.iter().any(|set| set.contains(&node))
    }

    /// Whether two nodes hear each other.
    fn joined(&self, a: usize, b: usize) -> bool {
        let way = |a: usize, b: usize| {
            let link = (self.dc[a].clone(), self.dc[b].clone());
            let cut = self.cut.contains(&(a, b)) || self.drilled.0.contains(&(a, b));
            !cut && !self.bad_links.contains(&link)
        };
        way(a, b) && way(b, a)
    }
}

fn bad(link: &Link) -> bool {
    link.latency_us.1 > LATENCY_US_MAX || link.loss_ppm > LOSS_PPM_MAX
}
