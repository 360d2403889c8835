//! The machines of a run: the nodes' hosts, the client sites and the operator, who is outside of
//! every data center.

mod build;
mod orders;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::operator::OperatorChannel;
use super::verdict::RunEvidence;
use crate::alarms::Recording;
use crate::host::{Founding, Host};
use crate::net::Field;
use crate::plan::Plan;
use crate::trace::What;
use crate::watch::Watch;
use crate::workload::Recorder;

pub(super) use self::build::edge;

/// The operator's host and group.
pub(super) const OPERATOR: &str = "operator";
/// How often the operator is told who runs, microseconds.
const RUNNING_TOLD_EVERY_US: u64 = 20_000;
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
    told: OperatorChannel,
    founding: Option<Arc<Founding>>,
    /// Looks at what nodes keep in memory, and what was too much.
    memory: (u64, Vec<(u64, String)>),
    /// Where each node is reached, where that is not the port that all have.
    addresses: BTreeMap<String, String>,
    /// The nodes' series of each second since the load began, when they are recorded.
    pub recording: Option<Recording>,
}

impl Cluster {
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
        if now.is_multiple_of(RUNNING_TOLD_EVERY_US) {
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
    pub(super) fn tell(&mut self, seen: &mut RunEvidence) {
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
