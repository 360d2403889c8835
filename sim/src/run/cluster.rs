//! The machines of a run: the nodes' hosts, the client sites and the operator, who is outside of
//! every data center.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use client::Drain;
use parking_lot::Mutex;
use proto::net::Network as _;
use tokio::sync::watch;

use super::driller::Drill;
use super::forger::Forgery;
use super::operator::{self, Order, Told};
use super::verdict::Seen;
use crate::alarms::Recording;
use crate::dice::derive;
use crate::host::{self, Founding, Host};
use crate::net::{Field, Net};
use crate::plan::{self, Link, Plan, Site};
use crate::trace::What;
use crate::train::{self, Training};
use crate::watch::Watch;
use crate::workload::{self, Env, Recorder};

/// The operator's host and group.
pub(super) const OPERATOR: &str = "operator";
/// The host and group of whoever is trained.
const TRAINEE: &str = "trainee";
/// One way between a client site outside and the data center that it is near, microseconds.
const EDGE_US: u64 = 2_000;
/// One way between the operator and everything, microseconds.
const OPERATOR_US: u64 = 5_000;
/// How often the operator is told who runs, microseconds.
const LOOK_US: u64 = 20_000;
/// Between two scrapes, microseconds.
const SECOND_US: u64 = 1_000_000;
/// A node that stopped by itself is started again this much later, as systemd would, ms.
const RESTART_MS: u64 = 1_000;

/// Whether a machine of a node is meant to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Up,
    Down,
}

/// A node's host, and what is meant for it.
pub(super) struct Member {
    pub host: Arc<Host>,
    pub wanted: Wanted,
    /// Not before this moment, microseconds.
    pub start_at_us: u64,
    /// Its disk is not that of a member any more; peers may keep it out.
    pub outcast: bool,
    /// An operator was to remove it.
    pub removed: bool,
}

/// How far a client site has come.
#[derive(Default)]
pub(super) struct Progress {
    started: AtomicBool,
    loaded: AtomicBool,
    ended: AtomicBool,
    failed: Mutex<Option<String>>,
}

/// All of a run's machines.
pub(super) struct Cluster {
    pub field: Field,
    pub members: Vec<Member>,
    pub watch: Arc<Watch>,
    plan: Arc<Plan>,
    recorder: Recorder,
    sites: BTreeMap<String, Arc<Progress>>,
    stampedes: BTreeMap<String, watch::Sender<u64>>,
    began: watch::Sender<bool>,
    began_us: Option<u64>,
    /// Files of snapshots that were installed before.
    snapshots_before: u64,
    told: Told,
    founding: Option<Arc<Founding>>,
    /// Looks at what nodes keep in memory, and what was too much.
    memory: (u64, Vec<(u64, String)>),
    /// Where each node is reached, where that is not the port that all have.
    addresses: BTreeMap<String, String>,
    /// The nodes' series of each second since the load began, when they are recorded.
    pub recording: Option<Recording>,
}

/// The group of a client site: inside of its data center, or near it.
pub(super) fn group(site: &Site) -> String {
    match site.inside {
        true => site.dc.clone(),
        false => edge(&site.dc),
    }
}

/// The group of the clients near a data center.
pub(super) fn edge(dc: &str) -> String {
    format!("edge of {dc}")
}

impl Cluster {
    /// All machines, running.
    pub(super) fn build(plan: &Plan, record: bool) -> Result<Cluster, String> {
        Cluster::build_for(plan, record, None)
    }

    /// The same, and somebody from outside who calls its nodes.
    pub(super) fn build_for(
        plan: &Plan,
        record: bool,
        training: Option<Training>,
    ) -> Result<Cluster, String> {
        if let Some(why) = host::refuse(plan) {
            return Err(why);
        }
        let plan = Arc::new(plan.clone());
        let field = Field::new(
            derive(plan.seed, "field"),
            plan.tier,
            plan.topology.local,
            plan.topology.wan,
        );
        let prefix = format!("fb-{:x}-", plan.seed);
        let mut cluster = Cluster {
            field,
            members: Vec::new(),
            watch: Arc::new(Watch::new(&prefix, plan.topology.replicas)),
            recorder: Recorder::new(&plan),
            sites: BTreeMap::new(),
            stampedes: BTreeMap::new(),
            began: watch::Sender::new(false),
            began_us: None,
            snapshots_before: 0,
            told: Told::default(),
            founding: None,
            memory: (0, Vec::new()),
            addresses: BTreeMap::new(),
            recording: record.then(Recording::default),
            plan,
        };
        cluster.lay_links();
        let console = training.map(|training| cluster.add_trainee(training));
        cluster.add_nodes(console)?;
        for site in cluster.plan.workload.sites.clone() {
            cluster.add_site(site);
        }
        cluster.add_operator();
        Ok(cluster)
    }

    fn lay_links(&self) {
        let topology = &self.plan.topology;
        let plain = |us| Link {
            latency_us: (us, us),
            jitter_us: 300,
            loss_ppm: 0,
            bandwidth_bytes: 0,
        };
        let between = |from: &str, to: &str| {
            let mut links = topology.links.iter();
            let found = links.rfind(|link| link.from == from && link.to == to);
            match found {
                Some(link) => link.link,
                None if from == to => topology.local,
                None => topology.wan,
            }
        };
        let names: Vec<&str> = topology.dcs.iter().map(|dc| dc.name.as_str()).collect();
        for from in &names {
            for to in names.iter().filter(|to| *to != from) {
                self.field.set_usual(from, to, between(from, to));
            }
            for outside in [OPERATOR, TRAINEE] {
                for other in [*from, edge(from).as_str()] {
                    self.field.set_usual(outside, other, plain(OPERATOR_US));
                    self.field.set_usual(other, outside, plain(OPERATOR_US));
                }
            }
            let near = edge(from);
            for to in &names {
                let away = |mut link: Link| {
                    link.latency_us.0 += EDGE_US;
                    link.latency_us.1 += EDGE_US;
                    link
                };
                let (there, back) = match from == to {
                    true => (plain(EDGE_US), plain(EDGE_US)),
                    false => (away(between(from, to)), away(between(to, from))),
                };
                self.field.set_usual(&near, to, there);
                self.field.set_usual(to, &near, back);
            }
        }
    }

    fn add_nodes(&mut self, console: Option<Router>) -> Result<(), String> {
        let plan = self.plan.clone();
        let founders = || {
            plan.topology
                .nodes()
                .filter(|(_, node)| node.joins_at_ms.is_none())
        };
        let founder = founders().next().ok_or("a plan needs nodes")?;
        let founding = Arc::new(Founding {
            nodes: u32::try_from(founders().count()).unwrap_or(u32::MAX),
            shards: plan.topology.shards,
            replicas: plan.topology.replicas,
            founder: self.address(&founder.1.name),
            peers: self.endpoints(None),
            token: Mutex::default(),
            founded: AtomicBool::new(false),
        });
        self.founding = Some(founding.clone());
        let wanted = Arc::new(Recording::wanted());
        for (dc, spec) in plan.topology.nodes() {
            let mut host = Host::new(spec, (&dc.name, &dc.region), &plan)?;
            if self.recording.is_some() {
                host.record(wanted.clone());
            }
            if let Some(pages) = &console {
                host.show(pages.clone());
            }
            let net = self.field.net(&spec.name, &dc.name);
            if let Some(address) = self.addresses.get(&spec.name) {
                host.move_to(address.clone());
            }
            let host = Arc::new(host);
            let (mine, founding) = (host.clone(), founding.clone());
            let clocks = self.field.machine(&spec.name, &dc.name, move || {
                mine.clone().live(net.clone(), founding.clone())
            });
            host.follow(clocks);
            if let Some(address) = self.addresses.get(&spec.name) {
                self.field.settle(&spec.name, address)?;
            }
            self.watch.add(&host, self.field.tracer());
            let wanted = match spec.joins_at_ms {
                None => Wanted::Up,
                Some(_) => Wanted::Down,
            };
            if wanted == Wanted::Down {
                self.field.go_dark(&spec.name)?;
            }
            self.members.push(Member {
                host,
                wanted,
                start_at_us: 0,
                outcast: false,
                removed: false,
            });
        }
        Ok(())
    }

    /// host:port of one node of each data center, the nearest to `dc` first.
    fn endpoints(&self, dc: Option<&str>) -> Vec<String> {
        let mut dcs: Vec<_> = self.plan.topology.dcs.iter().collect();
        dcs.sort_by_key(|one| Some(one.name.as_str()) != dc);
        let firsts = dcs.iter().filter_map(|dc| {
            let mut nodes = dc.nodes.iter();
            nodes.find(|node| node.joins_at_ms.is_none())
        });
        firsts.map(|node| self.address(&node.name)).collect()
    }

    /// host:port of a node when it begins.
    fn address(&self, node: &str) -> String {
        let own = self.addresses.get(node).cloned();
        own.unwrap_or_else(|| format!("{node}:{}", crate::host::PORT))
    }

    fn env(&self, site: Site, net: &Net, stampede: watch::Receiver<u64>) -> Env {
        let (watch, tracer) = (self.watch.clone(), self.field.tracer());
        let endpoints = match site.name.as_str() {
            OPERATOR => self.endpoints(None),
            _ => self.endpoints(Some(&site.dc)),
        };
        Env {
            plan: self.plan.clone(),
            site,
            dialer: net.dialer(),
            endpoints,
            now_us: Arc::new(crate::net::now_us),
            acked: Arc::new(move |append, marker| {
                watch.acked(append, marker);
                tracer.add(What::Answer, [append as u64, 0], marker.as_bytes());
            }),
            stampede,
            recorder: self.recorder.clone(),
        }
    }

    fn add_site(&mut self, site: Site) {
        let (name, group) = (site.name.clone(), group(&site));
        let net = self.field.net(&name, &group);
        let (stampede, stampeding) = watch::channel(0);
        let progress = Arc::new(Progress::default());
        let env = self.env(site, &net, stampeding);
        let (began, quiet, mine) = (
            self.began.clone(),
            self.told.quiet.clone(),
            progress.clone(),
        );
        self.field.machine(&name, &group, move || {
            let (env, mine) = (env.clone(), mine.clone());
            let (began, quiet) = (began.subscribe(), quiet.subscribe());
            async move {
                if let Err(why) = live(env, &mine, began, quiet).await {
                    *mine.failed.lock() = Some(why);
                }
            }
        });
        self.sites.insert(name.clone(), progress);
        self.stampedes.insert(name, stampede);
    }

    /// Whoever calls from outside; gives the pages that nodes show.
    fn add_trainee(&mut self, training: Training) -> Router {
        let nodes = self.plan.topology.nodes();
        let nodes = nodes.map(|(_, node)| node.name.clone());
        self.addresses = nodes.zip(training.addresses).collect();
        let notes = training.notes;
        let net = self
            .field
            .looked_at(TRAINEE, TRAINEE, Arc::new(notes.clone()));
        let wires = Arc::new(tokio::sync::Mutex::new(training.wires));
        let names = self.addresses.clone();
        self.field.machine(TRAINEE, TRAINEE, move || {
            train::carry::live(net.clone(), wires.clone(), notes.clone(), names.clone())
        });
        training.console
    }

    /// Whoever is trained stands outside of every data center, and is cut off with the clients there.
    pub(super) fn with_trainee<'a>(&self, hosts: &'a [String]) -> Cow<'a, [String]> {
        let mut sites = self.plan.workload.sites.iter();
        let outside = sites.any(|site| !site.inside && hosts.contains(&site.name));
        match outside && !self.addresses.is_empty() {
            true => [hosts, &[TRAINEE.to_owned()]].concat().into(),
            false => hosts.into(),
        }
    }

    fn add_operator(&mut self) {
        let net = self.field.net(OPERATOR, OPERATOR);
        let site = Site {
            name: OPERATOR.to_owned(),
            dc: String::new(),
            inside: false,
        };
        let env = self.env(site, &net, watch::channel(0).1);
        let told = self.told.clone();
        let hosts = self.members.iter().map(|member| member.host.clone());
        let hosts: Arc<[Arc<Host>]> = hosts.collect();
        self.field.machine(OPERATOR, OPERATOR, move || {
            let (env, told, hosts) = (env.clone(), told.clone(), hosts.clone());
            async move { operator::live(env, told, hosts).await }
        });
    }

    /// Lets a step pass, and does what systemd would.
    pub(super) fn step(&mut self) -> Result<(), String> {
        self.field.step()?;
        let now = self.field.now_us();
        for at in 0..self.members.len() {
            let member = &self.members[at];
            if let Some(ended) = member.host.ended() {
                let name = member.host.name.clone();
                self.told.note_end(&name, &ended, now);
                self.field.kill(&name)?;
                let member = &mut self.members[at];
                member.host.process_killed();
                if member.host.is_refused() {
                    // Its exit code says so, and systemd leaves it.
                    member.wanted = Wanted::Down;
                } else if ended.is_err() {
                    member.start_at_us = now + RESTART_MS * 1_000;
                }
            }
            let member = &self.members[at];
            let due = member.wanted == Wanted::Up && member.start_at_us <= now;
            if due && !member.host.is_destroyed() && !self.field.runs(&member.host.name) {
                let name = member.host.name.clone();
                self.watch.check(&name, &*member.host.inspect()?);
                if member.host.has_moved() {
                    let address = member.host.address();
                    self.field.settle(&name, &address)?;
                }
                self.field.start(&name)?;
                self.field
                    .trace(What::Host, [at as u64, 1], name.as_bytes());
            }
        }
        self.scrape(now);
        if now.is_multiple_of(LOOK_US) {
            self.told.set_running(self.running());
            self.look_at_memory(now);
        }
        Ok(())
    }

    /// At each whole second, what a Prometheus gets that stands with most of the nodes.
    fn scrape(&mut self, now: u64) {
        let (Some(began), true) = (self.began_us, now.is_multiple_of(SECOND_US)) else {
            return;
        };
        let Some(mut recording) = self.recording.take() else {
            return;
        };
        let reached = self.running();
        let second = usize::try_from((now - began) / SECOND_US).unwrap_or(usize::MAX);
        for member in &self.members {
            let name = &member.host.name;
            if let Some(scraped) = member.host.scraped() {
                let reached = reached.iter().any(|(other, _)| other == name);
                scraped.scrape(name, reached, (second, now), &mut recording);
            }
        }
        self.recording = Some(recording);
    }

    /// What each node keeps is within its budget, and each part of it within its share.
    fn look_at_memory(&mut self, now_us: u64) {
        let (looks, over) = &mut self.memory;
        for member in &self.members {
            let name = &member.host.name;
            let Some(account) = member.host.memory() else {
                continue;
            };
            *looks += 1;
            let whole = ("all of it", account.used, account.max);
            let parts = account.parts.iter();
            let parts = parts.filter_map(|part| Some((part.name, part.used, part.max?)));
            let too_much = parts.chain([whole]).find(|(_, used, max)| used > max);
            if let Some((what, used, max)) = too_much {
                over.push((
                    now_us,
                    format!("{name} keeps {used} of {max} bytes: {what}"),
                ));
            }
        }
    }

    /// The nodes that run, belong to the cluster and are not cut off from most of the others, with
    /// their addresses.
    fn running(&self) -> Vec<(String, String)> {
        let members = self.members.iter();
        let running: Vec<&Member> = members
            .filter(|member| !member.outcast && self.field.runs(&member.host.name))
            .collect();
        let names: Vec<&str> = running.iter().map(|one| one.host.name.as_str()).collect();
        let joined = self.field.joined(&names);
        let met = running.iter().zip(joined);
        met.filter(|(_, joined)| 2 * joined > running.len())
            .map(|(member, _)| (member.host.name.clone(), member.host.address()))
            .collect()
    }

    /// Whether the cluster serves; then the load begins.
    pub(super) fn has_begun(&mut self) -> Result<bool, String> {
        if let Some(error) = self.told.error() {
            return Err(error);
        }
        if self.began_us.is_some() {
            return Ok(true);
        }
        if !self.told.serves() {
            return Ok(false);
        }
        let now = self.field.now_us();
        self.began_us = Some(now);
        self.snapshots_before = self.snapshots();
        for (member, (_, node)) in self.members.iter_mut().zip(self.plan.topology.nodes()) {
            if let Some(joins) = node.joins_at_ms {
                member.start_at_us = now + joins * 1_000;
                member.wanted = Wanted::Up;
            }
        }
        if let Some(founding) = &self.founding {
            founding.founded.store(true, Ordering::Relaxed);
        }
        self.began.send_replace(true);
        Ok(true)
    }

    /// When the load began, microseconds since the run did; none before.
    pub(super) fn began_us(&self) -> Option<u64> {
        self.began_us
    }

    /// Since the load began, ms.
    pub(super) fn load_ms(&self) -> u64 {
        let began = self.began_us.unwrap_or_else(|| self.field.now_us());
        (self.field.now_us() - began) / 1_000
    }

    /// Whether every client site that still runs has ended its load.
    pub(super) fn loaded(&self) -> bool {
        self.sites.iter().all(|(name, progress)| {
            progress.loaded.load(Ordering::Relaxed)
                || progress.failed.lock().is_some()
                || !self.field.runs(name)
        })
    }

    /// The sites whose load has not ended.
    pub(super) fn hanging(&self) -> String {
        let sites = self.sites.iter();
        let hanging = sites.filter(|(_, progress)| !progress.loaded.load(Ordering::Relaxed));
        hanging
            .map(|(name, _)| name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// Nothing is sent any more: the operator waits until all is at rest and reads it back.
    pub(super) fn rest(&self) {
        self.told.rest.send_replace(true);
    }

    /// Whether everything was read back.
    pub(super) fn rested(&self) -> Result<bool, String> {
        if let Some(error) = self.told.error() {
            return Err(error);
        }
        let sites = self.sites.iter().all(|(name, progress)| {
            progress.ended.load(Ordering::Relaxed)
                || progress.failed.lock().is_some()
                || !self.field.runs(name)
        });
        Ok(sites && self.told.rested())
    }

    /// Drops every client connection of a site at once.
    pub(super) fn stampede(&self, site: &str) {
        if let Some(stampede) = self.stampedes.get(site) {
            stampede.send_modify(|count| *count += 1);
        }
    }

    /// Something begins that operators would look into, or the last fault ends.
    pub(super) fn tell_operator(&self, begins: bool, last_end: bool) {
        self.told.happened(self.field.now_us(), begins, last_end);
    }

    /// Gives nodes other addresses, from their next start on.
    pub(super) fn move_nodes(&self, names: &[String], swap: bool) {
        let named = |name: &String| {
            let mut members = self.members.iter();
            members.find(|member| member.host.name == *name)
        };
        let moving: Vec<&Member> = names.iter().filter_map(named).collect();
        let addresses: Vec<String> = match swap {
            true => moving.iter().map(|member| member.host.address()).collect(),
            false => moving
                .iter()
                .map(|member| member.host.fresh_address())
                .collect(),
        };
        let shift = usize::from(swap);
        let addresses = addresses.iter().cycle().skip(shift);
        for (member, address) in moving.iter().zip(addresses) {
            member.host.move_to(address.clone());
        }
        let firsts = self
            .plan
            .topology
            .dcs
            .iter()
            .filter_map(|dc| dc.nodes.first());
        let firsts = firsts.filter_map(|node| named(&node.name));
        let peers: Vec<String> = firsts.map(|member| member.host.address()).collect();
        for member in moving {
            member.host.ask(&peers);
        }
    }

    /// Has the operator drain nodes, or take them back: a whole data center as such.
    pub(super) fn order_drain(&self, hosts: &[String], drain: bool) {
        let whole = self.plan.topology.dcs.iter().find(|dc| {
            let nodes = dc.nodes.iter();
            nodes.clone().count() == hosts.len() && nodes.clone().all(|n| hosts.contains(&n.name))
        });
        let whom = match whole {
            Some(dc) => vec![Drain::Dc(dc.name.clone())],
            None => hosts.iter().cloned().map(Drain::Node).collect(),
        };
        for one in whom {
            self.told.order(Order::Drain(one, drain));
        }
    }

    /// Has a controller begin a drill, or end the one that goes on.
    pub(super) fn order_drill(&self, hosts: &[String], drill: Option<plan::Drill>) {
        self.told.order_drill(drill.map(|drill| Drill {
            hosts: hosts.to_vec(),
            ttl_ms: drill.ttl_ms,
            renews_ms: drill.renews_ms,
        }));
    }

    /// Has the operator remove nodes, which run on until they hear of it.
    pub(super) fn order_removal(&mut self, hosts: &[String]) {
        for member in &mut self.members {
            if hosts.contains(&member.host.name) {
                member.outcast = true;
                member.removed = true;
                self.told.order(Order::Remove(member.host.name.clone()));
            }
        }
    }

    /// Has somebody tell a node of a term out of nowhere, in the name of another member.
    pub(super) fn order_forgery(&self, host: &str) {
        let runs = |member: &&Member| !member.outcast && self.field.runs(&member.host.name);
        let others = self.members.iter().filter(runs);
        let mut others = others.filter(|member| member.host.name != host);
        let peer = others.find_map(|member| self.watch.identity(&member.host.name));
        let victim = self.members.iter().find(|one| one.host.name == host);
        let victim = victim.zip(self.watch.identity(host));
        if let Some((peer, (victim, record))) = peer.zip(victim) {
            self.told.forge(Forgery {
                victim: victim.host.address(),
                node: record.node,
                peer,
                shards: self.plan.topology.shards.max(1),
            });
        }
    }

    /// Has the operator send a replica to each of these nodes, or take that back.
    pub(super) fn order_moves(&self, hosts: &[String], back: bool) {
        for to in hosts.iter().cloned() {
            self.told.order(Order::Move { to, back });
        }
    }

    /// Whether a name is a client site's.
    pub(super) fn is_site(&self, name: &str) -> bool {
        self.sites.contains_key(name)
    }

    /// Files of snapshots that were installed so far.
    fn snapshots(&self) -> u64 {
        let hosts = self.members.iter().map(|member| &member.host);
        hosts.map(|host| host.snapshots()).sum()
    }

    /// Hands over what was seen.
    pub(super) fn tell(&mut self, seen: &mut Seen) {
        for (name, progress) in &self.sites {
            if let Some(why) = progress.failed.lock().take() {
                seen.site_errors.push(format!("{name}: {why}"));
            }
        }
        let hosts = || self.members.iter().map(|member| &member.host);
        seen.observed.drills = hosts().flat_map(|host| host.drilled()).collect();
        seen.recorded = hosts().filter_map(|host| host.recorded()).collect();
        seen.retries = self.recorder.retries();
        let (history, places) = self.recorder.finish();
        seen.history = history;
        self.told.hand_over(seen);
        for member in self.members.iter().filter(|member| member.removed) {
            let name = &member.host.name;
            if self.field.runs(name) {
                seen.admin.1.push(format!("{name} was removed and runs on"));
            }
        }
        let seen_on_disks = self.watch.finish();
        seen.observed.votes = seen_on_disks.votes;
        seen.observed.regressed = seen_on_disks.regressed;
        seen.observed.wiped = seen_on_disks.wiped;
        seen.observed.voters = seen_on_disks.voters;
        seen.observed.covers = seen_on_disks
            .covers
            .into_iter()
            .filter_map(|mut cover| {
                cover.append = *places.get(cover.append)?;
                Some(cover)
            })
            .collect();
        seen.snapshots = self.snapshots() - self.snapshots_before;
        seen.memory = std::mem::take(&mut self.memory);
        seen.began_us = self.began_us;
        seen.sim_us = self.field.now_us();
        let text = serde_json::to_vec(&seen.history).unwrap_or_default();
        self.field.trace(What::Answer, [u64::MAX, 0], &text);
        seen.trace = self.field.take_trace();
    }
}

/// The whole life of a client site. A site whose host was stopped and started again does not send
/// any more: its sessions died with it.
async fn live(
    env: Env,
    progress: &Progress,
    mut began: watch::Receiver<bool>,
    mut quiet: watch::Receiver<bool>,
) -> Result<(), String> {
    if progress.started.swap(true, Ordering::Relaxed) {
        progress.loaded.store(true, Ordering::Relaxed);
        progress.ended.store(true, Ordering::Relaxed);
        return Ok(());
    }
    let over = "the run is over";
    began.wait_for(|began| *began).await.map_err(|_| over)?;
    let tails = workload::site(env).await?;
    progress.loaded.store(true, Ordering::Relaxed);
    quiet.wait_for(|quiet| *quiet).await.map_err(|_| over)?;
    tails.drain(workload::DRAIN_MAX).await;
    progress.ended.store(true, Ordering::Relaxed);
    Ok(())
}
