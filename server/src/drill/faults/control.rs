//! Puts faults on, lets them live, and ends them.

use std::sync::Arc;
use std::time::Duration;

use model::cluster::ClusterState;
use model::id::NodeId;
use parking_lot::Mutex;
use proto::net::faulty::Rule;
use proto::v1;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::disk::{DiskSwitch, Syncs, Wrong};
use super::kind::{self, Kind, NAME_MAX};
use super::peers::{self, Found};
use super::permission;
use super::set::{Set, Wanted};
use super::{Refused, Stage};
use crate::access::Doors;
use crate::drill::plan::TTL_MS_MAX;
use crate::events::{Event, Told};

/// What a control is made of.
pub struct Parts {
    /// What can be done to the process.
    pub stage: Arc<dyn Stage>,
    /// The node's disk.
    pub disk: DiskSwitch,
    /// Who hears of faults.
    pub told: Told,
    /// The cluster, as the node knows it.
    pub view: watch::Receiver<Arc<ClusterState>>,
    /// This node.
    pub own: NodeId,
    /// Who may put faults on it.
    pub doors: Arc<Doors>,
    /// Where another node is reached, if it is.
    pub reached: Box<dyn Fn(NodeId) -> Option<String> + Send + Sync>,
}

/// The faults of one node.
pub struct Control {
    parts: Parts,
    set: Mutex<Set>,
    /// When the next fault ends, unless it is renewed.
    next: watch::Sender<Option<Instant>>,
    closed: watch::Sender<bool>,
}

/// The faults of a node that runs; all end when it is dropped.
pub struct Running {
    /// Them.
    pub control: Arc<Control>,
    /// host:port of their service, where there is one.
    pub address: Option<String>,
}

/// What a node tells of its faults.
#[derive(Clone)]
pub struct ToldOf {
    control: Arc<Control>,
    address: String,
}

impl ToldOf {
    /// What its status says.
    pub fn tell(&self, status: &mut v1::GetStatusResponse) {
        status.drill_allowed = true;
        status.drill_address.clone_from(&self.address);
        status.faults = self.control.told().faults;
    }
}

impl Running {
    /// What the node tells of them.
    pub fn told_of(&self) -> ToldOf {
        ToldOf {
            control: self.control.clone(),
            address: self.address.clone().unwrap_or_default(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.control.closed.send_replace(true);
        self.control.end_all("the node ends");
    }
}

impl Control {
    /// Who may put faults on the node.
    pub(super) fn doors(&self) -> &Doors {
        &self.parts.doors
    }

    /// With no fault on.
    pub fn new(parts: Parts) -> Arc<Control> {
        Arc::new(Control {
            parts,
            set: Mutex::default(),
            next: watch::Sender::new(None),
            closed: watch::Sender::new(false),
        })
    }

    /// Completes when the node ends.
    pub async fn closed(&self) {
        let mut closed = self.closed.subscribe();
        // Its sender lives in this.
        let _ = closed.wait_for(|closed| *closed).await;
    }

    /// Puts faults on; those that are on already are renewed. All or none.
    ///
    /// # Errors
    /// [`Refused`], with what is wrong.
    pub async fn start(&self, request: v1::StartFaultsRequest) -> Result<(), Refused> {
        let v1::StartFaultsRequest {
            drill,
            faults,
            ttl_ms,
        } = request;
        let ttl = ttl(ttl_ms)?;
        self.may(&drill)?;
        kind::distinct(&faults)?;
        let mut wanted: Vec<Wanted> = Vec::new();
        let nodes = match faults.iter().any(|fault| !fault.peers.is_empty()) {
            true => self.find_nodes().await,
            false => Vec::new(),
        };
        for mut fault in faults {
            fault.left_ms = 0;
            let kind = Kind::of(&fault)?;
            if let Some(why) = self.parts.stage.refuses(&kind) {
                let id = &fault.id;
                return Err(Refused::Not(format!("fault {id:?}: {why}")));
            }
            let peers = match fault.peers.is_empty() {
                true => None,
                false => Some(peers::resolve(&fault.peers, &self.own_name(), &nodes)?),
            };
            wanted.push((fault, kind, peers));
        }
        let mut set = self.set.lock();
        // Looked up names took their time.
        self.may(&drill)?;
        let now = Instant::now();
        let gone = set.expire(now);
        let started = set.start(&drill, wanted, ttl, now);
        self.apply(&set);
        drop(set);
        self.tell(&drill, gone, Some("its time is over"));
        self.tell(&drill, started?, None);
        Ok(())
    }

    /// Lets faults live longer.
    ///
    /// # Errors
    /// [`Refused`], with what is wrong; [`Refused::Gone`] for a fault that is named and has ended.
    pub fn renew(&self, request: &v1::RenewFaultsRequest) -> Result<(), Refused> {
        let ttl = ttl(request.ttl_ms)?;
        self.may(&request.drill)?;
        self.expire();
        let mut set = self.set.lock();
        let renewed = set.renew(&request.drill, &request.ids, ttl, Instant::now());
        self.apply(&set);
        renewed
    }

    /// Ends faults: of one drill or of any, those named or all.
    pub fn end(&self, request: &v1::EndFaultsRequest) {
        self.end_for(&request.drill, &request.ids, "the drill ends it");
    }

    /// Ends all, for a reason.
    pub fn end_all(&self, why: &str) {
        self.end_for("", &[], why);
    }

    fn end_for(&self, drill: &str, ids: &[String], why: &str) {
        let mut set = self.set.lock();
        let whose = set.drill().to_owned();
        let gone = set.end(drill, ids);
        self.apply(&set);
        drop(set);
        self.tell(&whose, gone, Some(why));
    }

    /// What is on, and why nothing may be.
    pub fn told(&self) -> v1::GetFaultsResponse {
        self.expire();
        let set = self.set.lock();
        v1::GetFaultsResponse {
            drill: set.drill().to_owned(),
            faults: set.told(Instant::now()),
            lever: permission::lever(&self.parts.view.borrow()),
        }
    }

    /// Ends faults when their time has come, and when the cluster says that they may not be, for as long
    /// as the node runs.
    pub async fn keep(self: Arc<Self>) {
        let mut next = self.next.subscribe();
        let mut view = self.parts.view.clone();
        loop {
            let end = *next.borrow_and_update();
            tokio::select! {
                biased;
                () = self.closed() => return,
                () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => self.expire(),
                // Its sender lives in this.
                _ = next.changed() => {}
                known = view.changed() => {
                    if known.is_err() {
                        // The node's groups are gone, and it soon.
                        self.closed().await;
                        return;
                    }
                    view.borrow_and_update();
                    self.obey();
                }
            }
        }
    }

    /// Ends faults whose drill may not have any.
    fn obey(&self) {
        let drill = self.set.lock().drill().to_owned();
        if drill.is_empty() {
            return;
        }
        if let Err(why) = self.may(&drill) {
            self.end_for(&drill, &[], &why.to_string());
        }
    }

    fn expire(&self) {
        let mut set = self.set.lock();
        let whose = set.drill().to_owned();
        let gone = set.expire(Instant::now());
        if gone.is_empty() {
            return;
        }
        self.apply(&set);
        drop(set);
        self.tell(&whose, gone, Some("its time is over"));
    }

    fn may(&self, drill: &str) -> Result<(), Refused> {
        if drill.is_empty() || drill.len() > NAME_MAX {
            let text = format!("a drill's name has 1 to {NAME_MAX} letters");
            return Err(Refused::Bad(text));
        }
        let view = self.parts.view.borrow();
        let lever = permission::lever(&view);
        if !lever.is_empty() {
            return Err(Refused::Not(lever));
        }
        permission::bar(&view, drill).map_or(Ok(()), |why| Err(Refused::Not(why)))
    }

    /// Has the process be as the set says. Under the set's lock, so that the last word is the newest.
    fn apply(&self, set: &Set) {
        let (mut rules, mut wrong) = (Vec::new(), Wrong::default());
        for one in set.on() {
            match one.kind {
                Kind::Network(harm) => rules.push(Rule {
                    peers: one.peers.clone(),
                    harm,
                }),
                Kind::SlowSync(None) => wrong.syncs = Syncs::Stalled,
                Kind::SlowSync(Some(by)) => {
                    wrong.syncs = match wrong.syncs {
                        Syncs::Stalled => Syncs::Stalled,
                        Syncs::Slow(other) => Syncs::Slow(by.max(other)),
                        Syncs::Usual => Syncs::Slow(by),
                    }
                }
                Kind::FullDisk => wrong.full = true,
                Kind::StandStill => {}
            }
        }
        self.parts.stage.network(rules);
        self.parts.disk.set(wrong);
        self.parts.stage.stand_still(set.still_until());
        self.next.send_replace(set.next_end());
    }

    /// Tells of faults that begin, or that end for a reason.
    fn tell(&self, drill: &str, faults: Vec<v1::Fault>, ends: Option<&str>) {
        for fault in faults {
            let what = kind::words(&fault);
            let id = fault.id;
            match ends {
                None => tracing::warn!(drill, fault = %id, %what, "a drill's fault is on"),
                Some(why) => {
                    tracing::warn!(drill, fault = %id, %what, why, "a drill's fault has ended")
                }
            }
            self.parts.told.tell(&Event::Fault {
                drill: drill.to_owned(),
                id,
                what,
                ended: ends.map(str::to_owned),
            });
        }
    }

    fn own_name(&self) -> String {
        let view = self.parts.view.borrow();
        let own = view.node(self.parts.own);
        own.map(|own| own.name.clone()).unwrap_or_default()
    }

    /// All nodes of the cluster, and where they are.
    async fn find_nodes(&self) -> Vec<Found> {
        let view = self.parts.view.borrow().clone();
        let mut found = Vec::new();
        for node in &view.nodes {
            let mut addresses = vec![node.address.clone()];
            addresses.extend((self.parts.reached)(NodeId(node.id)));
            addresses.sort_unstable();
            addresses.dedup();
            let mut sockets = Vec::new();
            for address in &addresses {
                let Some((host, port)) = address.rsplit_once(':') else {
                    continue;
                };
                let (host, port) = (host.trim_matches(['[', ']']), port.parse());
                let Ok(port) = port else { continue };
                // Whose name leads nowhere connects from nowhere.
                sockets.extend(
                    self.parts
                        .stage
                        .look_up(host, port)
                        .await
                        .unwrap_or_default(),
                );
            }
            found.push(Found {
                name: node.name.clone(),
                addresses,
                sockets,
            });
        }
        found
    }
}

fn ttl(ms: u64) -> Result<Duration, Refused> {
    match (1..=TTL_MS_MAX).contains(&ms) {
        true => Ok(Duration::from_millis(ms)),
        false => Err(Refused::Bad(format!(
            "ttl_ms is 1 to {TTL_MS_MAX}; it is {ms}"
        ))),
    }
}
