//! What puts faults on nodes, lets them live, and takes them out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use client::v1::{self, EndFaultsRequest, Fault, RenewFaultsRequest, StartFaultsRequest};
use client::{Client, Drain};
use proto::net::Channel;
use proto::v1::faults_client::FaultsClient;
use server::drill::plan::{Action, DrillPlan, Step};

use super::Options;
use super::guard::{Done, Guard, Kept};
use super::process::Found;
use crate::cmd::target::Credentials;

/// How long a fault lives without being renewed.
pub const TTL: Duration = Duration::from_secs(25);
/// How long one node may take for one call.
const CALL: Duration = Duration::from_secs(2);
/// All is undone within this.
pub const UNDO: Duration = Duration::from_secs(10);
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(250);

/// The hands.
pub struct Hands {
    drill: String,
    client: Client,
    doors: BTreeMap<String, Channel>,
    processes: BTreeMap<String, Found>,
    /// The nodes of each data center.
    dcs: BTreeMap<String, BTreeSet<String>>,
    start_with: Option<String>,
    /// Over what is done to processes; none where the plan does nothing to them.
    guard: Option<Guard>,
    /// Steps that are on, by their place in the plan, and what they are.
    on: BTreeMap<usize, Step>,
}

impl Hands {
    /// For a plan, by what its nodes say. For one that is taken over also by what was `noted` of where nodes
    /// are controlled, since one that is cut off says nothing, and by what is in its folder.
    ///
    /// # Errors
    /// When a node's address is none, or the guard over processes cannot be started.
    pub fn new(
        plan: &DrillPlan,
        client: Client,
        statuses: &[&v1::GetStatusResponse],
        noted: BTreeMap<String, String>,
        options: &Options,
    ) -> anyhow::Result<Hands> {
        let (mut doors, mut processes) = (BTreeMap::new(), BTreeMap::new());
        for (name, address) in noted {
            doors.insert(name, Credentials::default().channel(&address)?);
        }
        let mut dcs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in statuses
            .first()
            .map(|one| &one.nodes[..])
            .unwrap_or_default()
        {
            let own = dcs.entry(node.dc.clone()).or_default();
            own.insert(node.name.clone());
        }
        for status in statuses {
            if !status.drill_address.is_empty() {
                let channel = Credentials::default().channel(&status.drill_address)?;
                doors.insert(status.node_name.clone(), channel);
            }
            if let Ok(found) = super::process::of(status) {
                processes.insert(status.node_name.clone(), found);
            }
        }
        let start_with = options.start_with.clone();
        let by_signals = plan
            .steps
            .iter()
            .any(|step| step.action.needs_their_machine());
        let kept = Kept::read(&options.dir).filter(|_| options.resume);
        if let Some(kept) = kept {
            kept.relieve(&plan.id);
            for (name, found) in kept.processes {
                processes.entry(name).or_insert(found);
            }
        }
        let guard = match by_signals {
            true => Some(Guard::start(
                &plan.id,
                start_with.as_deref(),
                &processes,
                &options.dir,
            )?),
            false => None,
        };
        Ok(Hands {
            drill: plan.id.clone(),
            client,
            doors,
            processes,
            dcs,
            start_with,
            guard,
            on: BTreeMap::new(),
        })
    }

    /// Names of the nodes that a step is at now.
    pub fn touched(&self) -> BTreeSet<String> {
        self.on
            .values()
            .flat_map(|step| step.nodes.iter().cloned())
            .collect()
    }

    /// Of them those that are taken away.
    pub fn away(&self) -> BTreeSet<String> {
        let away = self.on.values().filter(|step| step.action.takes_away());
        away.flat_map(|step| step.nodes.iter().cloned()).collect()
    }

    /// Whether something is on.
    pub fn busy(&self) -> bool {
        !self.on.is_empty()
    }

    /// Whether a step is on.
    pub fn is_on(&self, at: usize) -> bool {
        self.on.contains_key(&at)
    }

    /// Says that a step is on already, as another controller began it.
    ///
    /// # Errors
    /// When nobody guards it.
    pub fn takes_over(&mut self, at: usize, step: &Step) -> anyhow::Result<()> {
        self.on.insert(at, step.clone());
        self.guarded(step)
    }

    /// Has what a step does to processes undone if this process dies.
    fn guarded(&mut self, step: &Step) -> anyhow::Result<()> {
        let (Some(done), Some(guard)) = (Done::by(&step.action), &mut self.guard) else {
            return Ok(());
        };
        let of_step = step
            .nodes
            .iter()
            .filter_map(|node| self.processes.get(node));
        all(of_step.map(|found| guard.on(found, done)).collect())
    }

    /// Begins a step.
    ///
    /// # Errors
    /// When it cannot be done to one of its nodes. What was done is taken out by [`Hands::undo`].
    pub async fn begin(&mut self, at: usize, step: &Step) -> anyhow::Result<()> {
        self.on.insert(at, step.clone());
        if step.action.needs_their_machine() {
            self.find_again().await;
            self.guarded(step)?;
        }
        let nodes = step.nodes.iter();
        match &step.action {
            Action::Drain => self.drain(&step.nodes, true).await,
            Action::Sigstop => self.signal(&step.nodes, libc::SIGSTOP),
            Action::Sigkill => self.signal(&step.nodes, libc::SIGKILL),
            Action::Restart => {
                self.signal(&step.nodes, libc::SIGTERM)?;
                for node in nodes {
                    self.process(node)?.gone().await?;
                }
                Ok(())
            }
            _ => {
                let fault = fault(at, step)?;
                let starts = nodes.map(|node| self.start(node, fault.clone()));
                all(futures::future::join_all(starts).await)
            }
        }
    }

    /// Processes are others since they were started again.
    async fn find_again(&mut self) {
        for report in self.client.status_all(CALL).await.unwrap_or_default() {
            let found = report
                .status
                .ok()
                .and_then(|status| super::process::of(&status).ok());
            if let Some(found) = found {
                self.processes.insert(found.name.clone(), found);
            }
        }
    }

    async fn start(&self, node: &str, fault: Fault) -> anyhow::Result<()> {
        let request = StartFaultsRequest {
            drill: self.drill.clone(),
            faults: vec![fault],
            ttl_ms: ms(TTL),
        };
        // A node may hear of the drill a moment after the meta shard's leader.
        let began = Instant::now();
        loop {
            let mut door = self.door(node)?;
            let asked = door.start_faults(request.clone());
            let why = match tokio::time::timeout(CALL, asked).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(status)) => status.message().to_owned(),
                Err(_) => "it does not answer".to_owned(),
            };
            if began.elapsed() > CALL {
                return Err(anyhow!("the fault is not put on {node}: {why}"));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn door(&self, node: &str) -> anyhow::Result<FaultsClient<Channel>> {
        let door = self.doors.get(node);
        let door = door.with_context(|| format!("{node} lets no drill put faults on it"))?;
        Ok(FaultsClient::new(door.clone()))
    }

    fn process(&self, node: &str) -> anyhow::Result<&Found> {
        let found = self.processes.get(node);
        found.with_context(|| format!("{node} is no process of this machine"))
    }

    /// Signals all of them, whatever becomes of one.
    fn signal(&self, nodes: &[String], signal: libc::c_int) -> anyhow::Result<()> {
        let sent = nodes.iter().map(|node| self.process(node)?.signal(signal));
        all(sent.collect())
    }

    /// Waits until a process is gone, and starts it again.
    async fn start_again(&self, node: &str) -> anyhow::Result<()> {
        let found = self.process(node)?;
        found.gone().await?;
        found.start(self.start_with.as_deref())
    }

    /// Drains nodes, or takes them back: a data center as one where all of it is meant, so that its leaders go
    /// to others at once.
    async fn drain(&self, nodes: &[String], draining: bool) -> anyhow::Result<()> {
        let meant: BTreeSet<String> = nodes.iter().cloned().collect();
        let whole = self.dcs.iter().find(|(_, own)| **own == meant);
        let whom: Vec<Drain> = match whole {
            Some((dc, _)) => vec![Drain::Dc(dc.clone())],
            None => nodes.iter().cloned().map(Drain::Node).collect(),
        };
        let mut done = Vec::new();
        for whom in whom {
            let told = self.client.set_draining(&whom, draining).await;
            done.push(told.map(drop).map_err(anyhow::Error::new));
        }
        all(done)
    }

    /// Lets the faults live on. Gives the nodes whose faults have ended by themselves before their time.
    pub async fn renew(&self) -> Vec<String> {
        let by_call =
            |step: &&Step| !step.action.needs_their_machine() && step.action != Action::Drain;
        let mut undone = Vec::new();
        for step in self.on.values() {
            let by_signal = Done::by(&step.action);
            let found = step
                .nodes
                .iter()
                .filter_map(|node| self.processes.get(node));
            let other = found.filter(|found| by_signal.is_some_and(|done| !found.is(done)));
            undone.extend(other.map(|found| found.name.clone()));
        }
        let mut nodes: BTreeSet<&String> = BTreeSet::new();
        for step in self.on.values().filter(by_call) {
            nodes.extend(&step.nodes);
        }
        let renewals = nodes.into_iter().map(|node| async move {
            let request = RenewFaultsRequest {
                drill: self.drill.clone(),
                ttl_ms: ms(TTL),
                ids: Vec::new(),
            };
            let mut door = self.door(node).ok()?;
            let asked = door.renew_faults(request);
            match tokio::time::timeout(CALL, asked).await {
                Ok(Err(status)) if status.code() == tonic::Code::NotFound => Some(node.clone()),
                // One that does not answer now is asked again, and its faults end by themselves.
                Ok(_) | Err(_) => None,
            }
        });
        let gone = futures::future::join_all(renewals).await;
        undone.extend(gone.into_iter().flatten());
        undone
    }

    /// Ends a step.
    ///
    /// # Errors
    /// When a node's fault cannot be ended now; it ends by itself.
    pub async fn end(&mut self, at: usize) -> anyhow::Result<()> {
        let Some(step) = self.on.get(&at).cloned() else {
            return Ok(());
        };
        // It is on until it is out: who breaks this off has it undone with the others.
        let ended = self.take_out(&step, vec![id(at)]).await;
        self.on.remove(&at);
        self.unguarded(&step);
        ended
    }

    fn unguarded(&mut self, step: &Step) {
        if let (Some(_), Some(guard)) = (Done::by(&step.action), &mut self.guard) {
            step.nodes.iter().for_each(|node| guard.off(node));
        }
    }

    async fn take_out(&self, step: &Step, ids: Vec<String>) -> anyhow::Result<()> {
        match &step.action {
            Action::Drain => self.drain(&step.nodes, false).await,
            Action::Sigstop => self.signal(&step.nodes, libc::SIGCONT),
            Action::Sigkill | Action::Restart => {
                let starts = step.nodes.iter().map(|node| self.start_again(node));
                all(futures::future::join_all(starts).await)
            }
            _ => {
                let ends = step.nodes.iter().map(|node| self.end_at(node, ids.clone()));
                all(futures::future::join_all(ends).await)
            }
        }
    }

    async fn end_at(&self, node: &str, ids: Vec<String>) -> anyhow::Result<()> {
        let request = EndFaultsRequest {
            drill: self.drill.clone(),
            ids,
        };
        let began = Instant::now();
        loop {
            let mut door = self.door(node)?;
            let asked = door.end_faults(request.clone());
            let why = match tokio::time::timeout(CALL, asked).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(status)) => status.message().to_owned(),
                Err(_) => "it does not answer".to_owned(),
            };
            if began.elapsed() + CALL > UNDO {
                return Err(anyhow!(
                    "{node}: {why}; its faults end within {} s by themselves",
                    TTL.as_secs()
                ));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Undoes all that is on, at once. Gives what could not be.
    pub async fn undo(&mut self) -> Vec<String> {
        let on = std::mem::take(&mut self.on);
        let steps = on.values().map(|step| self.take_out(step, Vec::new()));
        let ended = futures::future::join_all(steps).await;
        for (step, ended) in on.values().zip(&ended) {
            // What could not be undone is left to the guard.
            if ended.is_ok() {
                self.unguarded(step);
            }
        }
        let wrong = ended.into_iter().filter_map(|one| one.err());
        wrong.map(|why| format!("{why:#}")).collect()
    }
}

/// What went wrong of several, if anything did.
fn all(done: Vec<anyhow::Result<()>>) -> anyhow::Result<()> {
    let wrong = done.into_iter().filter_map(|one| one.err());
    let wrong: Vec<String> = wrong.map(|why| format!("{why:#}")).collect();
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(anyhow!(wrong.join("; "))),
    }
}

/// Milliseconds of a duration.
pub fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn id(at: usize) -> String {
    format!("step-{}", at + 1)
}

/// A step as a node is told it.
fn fault(at: usize, step: &Step) -> anyhow::Result<Fault> {
    let mut fault = Fault {
        id: id(at),
        kind: step.action.name().to_owned(),
        lasts_ms: step.for_ms.unwrap_or(0),
        ..Fault::default()
    };
    match &step.action {
        Action::Cut {
            peers,
            sends,
            hears,
        } => {
            fault.peers.clone_from(peers);
            (fault.sends, fault.hears) = (*sends, *hears);
        }
        Action::Slow {
            peers,
            delay_ms,
            jitter_ms,
            loss_ppm,
        } => {
            fault.peers.clone_from(peers);
            // What comes from others is late.
            fault.hears = true;
            (fault.delay_ms, fault.jitter_ms, fault.loss_ppm) = (*delay_ms, *jitter_ms, *loss_ppm);
        }
        Action::SlowSync { sync_ms } => fault.sync_ms = *sync_ms,
        Action::Silence
        | Action::Refuse
        | Action::Reset
        | Action::FullDisk
        | Action::StandStill => {}
        Action::Sigstop | Action::Sigkill | Action::Restart | Action::Drain => {
            return Err(anyhow!("{} is no fault of a node", step.action.name()));
        }
    }
    Ok(fault)
}
