//! A run's machines, put together: links, nodes, client sites, the trainee, the operator.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use parking_lot::Mutex;
use proto::net::Network as _;
use tokio::sync::watch;

use super::{Cluster, Member, OPERATOR, Progress, Wanted};
use crate::alarms::Recording;
use crate::dice::derive;
use crate::host::{self, Founding, Host};
use crate::net::{Field, Net};
use crate::plan::{Link, Plan, Site};
use crate::run::operator::{self, OperatorChannel};
use crate::trace::What;
use crate::train::{self, Training};
use crate::watch::Watch;
use crate::workload::{self, Env, Recorder};

/// The host and group of whoever is trained.
const TRAINEE: &str = "trainee";
/// One way between a client site outside and the data center that it is near, microseconds.
const EDGE_US: u64 = 2_000;
/// One way between the operator and everything, microseconds.
const OPERATOR_US: u64 = 5_000;

/// The group of a client site: inside of its data center, or near it.
pub(crate) fn group(site: &Site) -> String {
    match site.inside {
        true => site.dc.clone(),
        false => edge(&site.dc),
    }
}

/// The group of the clients near a data center.
pub(crate) fn edge(dc: &str) -> String {
    format!("edge of {dc}")
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

impl Cluster {
    /// All machines, running.
    pub(crate) fn build(plan: &Plan, record: bool) -> Result<Cluster, String> {
        Cluster::build_for(plan, record, None)
    }

    /// The same, and somebody from outside who calls its nodes.
    pub(crate) fn build_for(
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
            told: OperatorChannel::default(),
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
    pub(super) fn address(&self, node: &str) -> String {
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
    pub(crate) fn with_trainee<'a>(&self, hosts: &'a [String]) -> Cow<'a, [String]> {
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
}
