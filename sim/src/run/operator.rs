//! The operator: founds nothing and moves nothing, but looks. Sees the cluster come to life, asks
//! surviving nodes for their status while a fault lasts (promise A), probes after the last heal
//! (promise P), and reads everything back at rest.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use client::v1::{
    GetStatusResponse, MoveReplicaRequest, Policy, RemoveNodeRequest, ReplicaMove, ReplicaStatus,
    ShardStatus,
};
use client::{Client, Drain, ReplicaHash};
use futures::{StreamExt as _, TryStreamExt as _};
use model::id::ShardId;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::driller::{self, Drill};
use super::forger::{self, Forgery};
use super::remembered;
use super::verdict::RunEvidence;
use crate::dice::derive;
use crate::history::{Final, ReplicaSeen};
use crate::host::Host;
use crate::net::now_us;
use crate::plan::Fault;
use crate::workload::{self, Env};

/// How long one node may take to say how it is.
const STATUS_LIMIT: Duration = Duration::from_secs(2);
/// Between two looks at the cluster.
const CLUSTER_CHECK_EVERY: Duration = Duration::from_millis(200);
/// Into a fault, when surviving nodes are asked for their status.
const ADMIN_AFTER_US: u64 = 2_000_000;
/// How long replicas may take to become equal once nothing is sent any more.
const SETTLE_MAX_US: u64 = 60_000_000;
/// Replicas that are read back at a time.
const HASHES_AT_ONCE: usize = 64;
/// How long it is waited for leaders that move to where they should be.
const PREFERRED_MAX_US: u64 = 150_000_000;
/// How long a probe goes on.
const PROBE_MAX: Duration = Duration::from_secs(60);

/// What the operator and the run tell each other. Clones share it.
#[derive(Clone)]
pub(super) struct OperatorChannel {
    /// Whether the load is over.
    pub rest: watch::Sender<bool>,
    /// Whether nothing at all is sent any more, probes included: tails can be drained.
    pub quiet: watch::Sender<bool>,
    state: Arc<Mutex<State>>,
    happened: Arc<Notify>,
    ordered: Arc<Notify>,
    forged: Arc<Notify>,
    drilled: Arc<Notify>,
}

/// What the timeline has the operator do.
#[derive(Clone, Debug)]
pub(super) enum Order {
    /// Drain somebody, or take them back.
    Drain(Drain, bool),
    /// Remove a node, by its name.
    Remove(String),
    /// Send a replica of some shard to a node from another, or take that back.
    Move { to: String, back: bool },
}

#[derive(Default)]
struct State {
    serves: bool,
    rested: bool,
    error: Option<String>,
    /// Nodes that run and belong to the cluster: host, host:port.
    running: Vec<(String, String)>,
    /// What is to be asked for, in order.
    orders: VecDeque<Order>,
    /// Forgeries to be sent.
    forgeries: Vec<Forgery>,
    /// Drills to be carried out, and whether the one that goes on is over.
    drills: VecDeque<Drill>,
    drill_over: bool,
    /// Moments when faults began that were not looked into yet.
    began: Vec<u64>,
    /// When the last fault ended, until it is probed.
    healed: Option<u64>,
    recovery: Option<Result<u64, String>>,
    /// What it took from the end of the load until the replicas were equal, ms.
    rest: Option<u64>,
    last_probe: Option<Result<u64, String>>,
    admin: (u64, Vec<String>),
    nodes: BTreeMap<u64, String>,
    replicas: Vec<ReplicaSeen>,
    unsettled: Option<String>,
    finals: Vec<Final>,
    unread: Vec<String>,
    ends: Vec<(u64, String)>,
}

impl Default for OperatorChannel {
    fn default() -> OperatorChannel {
        OperatorChannel {
            rest: watch::Sender::new(false),
            quiet: watch::Sender::new(false),
            state: Arc::default(),
            happened: Arc::default(),
            ordered: Arc::default(),
            forged: Arc::default(),
            drilled: Arc::default(),
        }
    }
}

impl OperatorChannel {
    pub(super) fn serves(&self) -> bool {
        self.state.lock().serves
    }

    pub(super) fn rested(&self) -> bool {
        self.state.lock().rested
    }

    pub(super) fn error(&self) -> Option<String> {
        self.state.lock().error.clone()
    }

    pub(super) fn set_running(&self, running: Vec<(String, String)>) {
        self.state.lock().running = running;
    }

    pub(super) fn happened(&self, at_us: u64, begins: bool, last_end: bool) {
        let mut state = self.state.lock();
        if begins {
            state.began.push(at_us);
        }
        if last_end {
            state.healed = Some(at_us);
        }
        drop(state);
        self.happened.notify_one();
    }

    /// Has the operator do something.
    pub(super) fn order(&self, order: Order) {
        self.state.lock().orders.push_back(order);
        self.ordered.notify_one();
    }

    /// Lets somebody send a forgery.
    pub(super) fn forge(&self, forgery: Forgery) {
        self.state.lock().forgeries.push(forgery);
        self.forged.notify_one();
    }

    /// The next forgery, once there is one.
    pub(super) async fn forgery(&self) -> Forgery {
        loop {
            let next = self.state.lock().forgeries.pop();
            if let Some(forgery) = next {
                return forgery;
            }
            self.forged.notified().await;
        }
    }

    /// Has a drill carried out; none: the one that goes on is over.
    pub(super) fn order_drill(&self, drill: Option<Drill>) {
        let mut state = self.state.lock();
        state.drill_over = drill.is_none();
        state.drills.extend(drill);
        drop(state);
        self.drilled.notify_one();
    }

    /// The next drill, once there is one.
    pub(super) async fn drill(&self) -> Drill {
        loop {
            let next = self.state.lock().drills.pop_front();
            if let Some(drill) = next {
                return drill;
            }
            self.drilled.notified().await;
        }
    }

    /// The run makes no sense any more.
    pub(super) fn fail(&self, why: String) {
        self.state.lock().error = Some(why);
    }

    /// Whether the drill that goes on is over.
    pub(super) fn drill_over(&self) -> bool {
        self.state.lock().drill_over
    }

    pub(super) fn note_end(&self, host: &str, ended: &Result<(), String>, at_us: u64) {
        let text = match ended {
            Ok(()) => format!("{host} stopped as asked"),
            Err(why) => format!("{host} stopped itself: {why}"),
        };
        tracing::info!(event = text);
        self.state.lock().ends.push((at_us, text));
    }

    pub(super) fn hand_over(&self, seen: &mut RunEvidence) {
        let mut state = self.state.lock();
        let state = std::mem::take(&mut *state);
        seen.history.finals = state.finals;
        seen.observed.replicas = state.replicas;
        seen.observed.unsettled = state.unsettled;
        seen.recovery = state.recovery;
        seen.rest = state.rest;
        seen.last_probe = state.last_probe;
        seen.admin = state.admin;
        seen.unread = state.unread;
        seen.ends = state.ends;
        seen.nodes = state.nodes;
    }

    pub(super) fn running(&self) -> Vec<(String, String)> {
        self.state.lock().running.clone()
    }
}

/// The operator's whole life. Beside asking, it looks at what the nodes' `hosts` hold.
pub(super) async fn live(env: Env, told: OperatorChannel, hosts: Arc<[Arc<Host>]>) {
    if let Err(why) = work(&env, &told, &hosts).await {
        told.state.lock().error = Some(why);
    }
}

async fn work(env: &Env, told: &OperatorChannel, hosts: &Arc<[Arc<Host>]>) -> Result<(), String> {
    let client = Client::builder()
        .endpoints(env.endpoints.clone())
        .dialer(env.dialer.clone())
        .seed(derive(env.plan.seed, "operator"))
        .build()
        .map_err(|error| error.to_string())?;
    let founders = env.plan.topology.nodes();
    let founders = founders.filter(|(_, node)| node.joins_at_ms.is_none());
    let founders = founders.count();
    loop {
        let seen = statuses(&client, &told.running()).await;
        if let Ok(seen) = seen
            && whole(&seen, founders).is_ok()
        {
            prefer(env, told, &client).await?;
            let mut state = told.state.lock();
            state.nodes = node_names(&seen);
            state.serves = true;
            break;
        }
        sleep(CLUSTER_CHECK_EVERY).await;
    }
    let orders = tokio::spawn(take_orders(told.clone(), client.clone()));
    let forger = tokio::spawn(forger::live(told.clone(), env.dialer.clone()));
    let drills = driller::live(told.clone(), env.dialer.clone(), hosts.clone());
    let driller = tokio::spawn(drills);
    watch_load(env, told, &client).await;
    orders.abort();
    forger.abort();
    driller.abort();
    let ended = now_us();
    settle(told, &client, hosts).await;
    {
        let mut state = told.state.lock();
        let settled = state.unsettled.is_none();
        state.rest = settled.then(|| (now_us() - ended).div_ceil(1_000));
    }
    let probed = probe(env).await;
    told.quiet.send_replace(true);
    let (running, rooms) = (told.running(), env.plan.workload.rooms);
    // The probe's messages have to reach all replicas, too.
    settle(told, &client, hosts).await;
    let finals = workload::finals(env, &running, rooms).await;
    let mut state = told.state.lock();
    state.last_probe = Some(probed);
    for result in finals {
        match result {
            Ok(one) => state.finals.push(one),
            Err(why) => state.unread.push(why),
        }
    }
    state.rested = true;
    Ok(())
}

/// Has the plan's data centers lead, where it names any, and waits until they do as far as they can.
async fn prefer(env: &Env, told: &OperatorChannel, client: &Client) -> Result<(), String> {
    let wanted = &env.plan.topology.prefer;
    let Some(first) = wanted.first() else {
        return Ok(());
    };
    let policy = Policy {
        prefer: wanted.clone(),
        ..Policy::default()
    };
    let set = client.set_policy(None, Some(policy)).await;
    set.map_err(|error| format!("the policy prefer={}: {error}", wanted.join(",")))?;
    let until = now_us() + PREFERRED_MAX_US;
    while now_us() < until {
        sleep(CLUSTER_CHECK_EVERY).await;
        let seen = statuses(client, &told.running()).await;
        if seen.is_ok_and(|seen| leads(&seen, first)) {
            break;
        }
    }
    Ok(())
}

/// Whether a data center leads all data shards that it has a replica of.
fn leads(statuses: &[GetStatusResponse], dc: &str) -> bool {
    statuses.iter().all(|status| {
        let there = |id: u64| {
            let mut nodes = status.nodes.iter();
            nodes.any(|node| node.node_id == id && node.dc == dc)
        };
        let mut data = status.shards.iter().filter(|shard| shard.shard != 0);
        data.all(|shard| there(shard.leader) || !shard.replicas.iter().any(|id| there(*id)))
    })
}

/// Does what the timeline wants done, through whatever node answers.
async fn take_orders(told: OperatorChannel, client: Client) {
    loop {
        let next = told.state.lock().orders.pop_front();
        let Some(order) = next else {
            told.ordered.notified().await;
            continue;
        };
        told.state.lock().admin.0 += 1;
        let asked = match &order {
            Order::Drain(whom, drain) => client.set_draining(whom, *drain).await.map(drop),
            Order::Remove(name) => remove(&client, name).await,
            Order::Move { to, back } => move_to(&client, to, *back).await,
        };
        let refused = |error: &client::Error| matches!(error, client::Error::Refused(refusal) if refusal.reason == "CHANGE_REFUSED");
        // A refusal is an answer: somebody has to be left.
        if let Err(error) = asked
            && !refused(&error)
        {
            let silent = format!("{order:?} at {} ms: {error}", now_us() / 1_000);
            told.state.lock().admin.1.push(silent);
        }
    }
}

/// Has a node removed that is in the cluster.
async fn remove(client: &Client, name: &str) -> Result<(), client::Error> {
    let status = client.status().await?;
    let Some(node) = status.nodes.iter().find(|node| node.name == *name) else {
        return Ok(());
    };
    let request = RemoveNodeRequest {
        node_id: node.node_id,
        stays: false,
    };
    client.remove_node(request).await.map(drop)
}

/// Sends a replica to a node from one of its data center, so that none comes to hold a majority; or takes
/// all back that are on their way there. Where there is nothing to do, nothing is done.
async fn move_to(client: &Client, to: &str, back: bool) -> Result<(), client::Error> {
    let status = client.status().await?;
    let node = status.nodes.iter().find(|node| node.name == to);
    let Some(node) = node else { return Ok(()) };
    if back {
        let there = |one: &&ReplicaMove| one.to == node.node_id;
        for one in status.moves.iter().filter(there) {
            let request = MoveReplicaRequest {
                shard: one.shard,
                from: one.from,
                to: one.to,
                back,
            };
            client.move_replica(request).await?;
        }
        return Ok(());
    }
    let of = |id: u64| status.nodes.iter().find(|one| one.node_id == id);
    let beside = |id: &&u64| of(**id).is_some_and(|one| one.dc == node.dc);
    let free = |shard: &&ShardStatus| {
        let is_data = !ShardId(shard.shard).is_meta();
        is_data && !shard.replicas.contains(&node.node_id)
    };
    let wanted = status.shards.iter().filter(free).find_map(|shard| {
        let from = shard.replicas.iter().find(beside)?;
        Some((shard.shard, *from))
    });
    let Some((shard, from)) = wanted else {
        return Ok(());
    };
    let request = MoveReplicaRequest {
        shard,
        from,
        to: node.node_id,
        back,
    };
    client.move_replica(request).await.map(drop)
}

/// Looks into faults until the load is over.
async fn watch_load(env: &Env, told: &OperatorChannel, client: &Client) {
    let mut rest = told.rest.subscribe();
    loop {
        tokio::select! {
            biased;
            () = told.happened.notified() => {}
            _ = rest.wait_for(|rest| *rest) => return,
        }
        let (began, healed) = {
            let mut state = told.state.lock();
            (std::mem::take(&mut state.began), state.healed.take())
        };
        if let Some(healed) = healed {
            let took = probe(env).await;
            let took = took.map(|at| at.saturating_sub(healed).div_ceil(1_000));
            told.state.lock().recovery = Some(took);
        }
        if let Some(last) = began.last() {
            let wait = (last + ADMIN_AFTER_US).saturating_sub(now_us());
            sleep(Duration::from_micros(wait)).await;
            ask_survivors(env, told, client).await;
        }
    }
}

/// Tries until every room is served; gives the moment, microseconds.
async fn probe(env: &Env) -> Result<u64, String> {
    workload::probe(env, PROBE_MAX).await
}

/// Asks each node that runs and that the plan does not harm for its status. One that is only about to
/// join, and that nobody lists yet, need not answer.
async fn ask_survivors(env: &Env, told: &OperatorChannel, client: &Client) {
    let (mut asked, mut silent) = (0, Vec::new());
    let mut listed = BTreeSet::new();
    for (host, address) in told.running() {
        if harmed(env, &host) {
            continue;
        }
        asked += 1;
        let error = match client.status_of(&address, STATUS_LIMIT).await {
            Ok(status) => {
                listed.extend(status.nodes.into_iter().map(|node| node.name));
                continue;
            }
            Err(error) => error,
        };
        // It may have been harmed meanwhile.
        let still = told.running().iter().any(|(name, _)| *name == host);
        if still && !harmed(env, &host) {
            let what = format!("{host} at {} ms: {error}", now_us() / 1_000);
            silent.push((host, what));
        }
    }
    let joins = |host: &str| {
        let mut nodes = env.plan.topology.nodes();
        nodes.any(|(_, node)| node.name == host && node.joins_at_ms.is_some())
    };
    silent.retain(|(host, _)| listed.contains(host) || !joins(host));
    let silent = silent.into_iter().map(|(_, what)| what);
    let mut state = told.state.lock();
    state.admin.0 += asked;
    state.admin.1.extend(silent);
}

/// Whether the plan harms a node itself at any time: what it answers then says nothing.
fn harmed(env: &Env, host: &str) -> bool {
    env.plan.events.iter().any(|event| {
        let harms = |names: &[String]| names.iter().any(|name| name == host);
        match &event.fault {
            // It goes on serving, and answers.
            Fault::Drain { .. } | Fault::MoveTo { .. } => false,
            Fault::Forge { .. } => false,
            Fault::Cut { from, to, .. } => harms(from) || harms(to),
            fault => harms(fault.hosts()),
        }
    })
}

/// What each of `nodes` says of itself.
async fn statuses(
    client: &Client,
    nodes: &[(String, String)],
) -> Result<Vec<GetStatusResponse>, String> {
    let asked = nodes.iter().map(|(host, address)| async move {
        let status = client.status_of(address, STATUS_LIMIT).await;
        status.map_err(|error| format!("{host}: {error}"))
    });
    futures::future::try_join_all(asked).await
}

fn node_names(statuses: &[GetStatusResponse]) -> BTreeMap<u64, String> {
    let nodes = statuses.iter().flat_map(|status| &status.nodes);
    nodes
        .map(|node| (node.node_id, node.name.clone()))
        .collect()
}

/// The replicas of each shard, by node id, as the newest map has them.
fn placement(statuses: &[GetStatusResponse]) -> BTreeMap<u32, BTreeSet<u64>> {
    let newest = statuses.iter().max_by_key(|status| status.map_epoch);
    let shards = newest.into_iter().flat_map(|status| &status.shards);
    shards
        .map(|shard| (shard.shard, shard.replicas.iter().copied().collect()))
        .collect()
}

/// Whether the cluster knows all its nodes, and each shard has a leader.
fn whole(statuses: &[GetStatusResponse], nodes: usize) -> Result<(), String> {
    let few = |status: &&GetStatusResponse| status.map_epoch == 0 || status.nodes.len() < nodes;
    if statuses.len() < nodes || statuses.iter().any(|status| few(&status)) {
        return Err("not all nodes know the cluster".to_owned());
    }
    led(statuses)
}

fn led(statuses: &[GetStatusResponse]) -> Result<(), String> {
    let own = statuses.iter().flat_map(|status| &status.replicas);
    let own = own.filter(|one| one.state == "leader").map(|one| one.shard);
    let own: BTreeSet<u32> = own.collect();
    let placed = placement(statuses);
    if placed.is_empty() {
        return Err("there are no shards".to_owned());
    }
    let unled = placed.keys().find(|shard| !own.contains(shard));
    unled.map_or(Ok(()), |shard| Err(format!("nobody leads s{shard}")))
}

/// Whether each replica of the map is there and votes, of the shards that have all their nodes: a broken
/// one is rebuilt from the others.
fn healed(statuses: &[GetStatusResponse], running: &[(String, String)]) -> Result<(), String> {
    let own: BTreeMap<u64, &GetStatusResponse> =
        statuses.iter().map(|one| (one.node_id, one)).collect();
    for (shard, nodes) in placement(statuses) {
        let there: Option<Vec<&GetStatusResponse>> =
            nodes.iter().map(|node| own.get(node).copied()).collect();
        for node in there.into_iter().flatten() {
            let replica = node.replicas.iter().find(|one| one.shard == shard);
            let state = replica.map_or("missing", |one| &one.state);
            if !matches!(state, "leader" | "follower") {
                let host = running.iter().find(|(host, _)| *host == node.node_name);
                let host = host.map_or("", |(host, _)| host);
                return Err(format!("the replica of s{shard} on {host} is {state}"));
            }
        }
    }
    Ok(())
}

/// Waits until the replicas on running nodes are equal, and notes them.
async fn settle(told: &OperatorChannel, client: &Client, hosts: &[Arc<Host>]) {
    let began = now_us();
    loop {
        let compared = compare(told, client, hosts).await;
        let late = now_us() - began > SETTLE_MAX_US;
        let mut state = told.state.lock();
        match compared {
            Ok(replicas) => {
                state.replicas = replicas;
                state.unsettled = None;
                return;
            }
            Err((replicas, why)) if late => {
                state.replicas = replicas;
                state.unsettled = Some(why);
                return;
            }
            Err(_) => {}
        }
        drop(state);
        sleep(CLUSTER_CHECK_EVERY).await;
    }
}

type Unequal = (Vec<ReplicaSeen>, String);

async fn compare(
    told: &OperatorChannel,
    client: &Client,
    hosts: &[Arc<Host>],
) -> Result<Vec<ReplicaSeen>, Unequal> {
    let running = told.running();
    let none = |why| (Vec::new(), why);
    let statuses = statuses(client, &running).await.map_err(none)?;
    led(&statuses).map_err(none)?;
    healed(&statuses, &running).map_err(none)?;
    let each = statuses.iter().zip(&running).flat_map(|(status, node)| {
        let counts = |one: &&ReplicaStatus| !ShardId(one.shard).is_meta() && one.state != "broken";
        let replicas = status.replicas.iter().filter(counts);
        replicas.map(move |replica| (replica.shard, node))
    });
    let hashes = each.map(|(shard, (host, address))| async move {
        let hash = client.hash_replica(address, shard).await;
        hash.map(|hash| seen(host, shard, hash))
            .map_err(|error| format!("s{shard} on {host}: {error}"))
    });
    let hashes = futures::stream::iter(hashes).buffered(HASHES_AT_ONCE);
    let replicas: Vec<ReplicaSeen> = hashes.try_collect().await.map_err(none)?;
    let replicas = alike(replicas)?;
    // Alike in what they serve; now in what they remember, all of them or none.
    match remembered(&replicas, hosts) {
        Ok(replicas) => alike(replicas),
        Err(why) => Err((replicas, why)),
    }
}

/// `replicas`, when all of a shard are at one revision and hold the same.
fn alike(replicas: Vec<ReplicaSeen>) -> Result<Vec<ReplicaSeen>, Unequal> {
    let mut first: BTreeMap<u32, &ReplicaSeen> = BTreeMap::new();
    let unlike = replicas.iter().find_map(|one| {
        let other = *first.entry(one.shard).or_insert(one);
        let differs = (other.revision, &other.rooms) != (one.revision, &one.rooms);
        differs.then(|| format!("s{} differs on {} and {}", one.shard, other.node, one.node))
    });
    match unlike {
        Some(why) => Err((replicas, why)),
        None => Ok(replicas),
    }
}

/// The replicas with what each remembers of ids.
fn remembered(replicas: &[ReplicaSeen], hosts: &[Arc<Host>]) -> Result<Vec<ReplicaSeen>, String> {
    let each = replicas.iter().map(|replica| {
        let host = hosts.iter().find(|host| host.name == replica.node);
        let state = host.and_then(|host| host.state());
        let state = state.ok_or_else(|| format!("{} does not run", replica.node))?;
        let mut replica = replica.clone();
        remembered::add(&*state, &mut replica)?;
        Ok(replica)
    });
    each.collect()
}

fn seen(host: &str, shard: u32, hash: ReplicaHash) -> ReplicaSeen {
    let rooms = hash.conversations.into_iter();
    ReplicaSeen {
        node: host.to_owned(),
        shard,
        revision: hash.revision,
        rooms: rooms
            .map(|room| {
                let hex = room
                    .disk_hash
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                // What has expired was there.
                let messages = room.messages + room.min_seq.saturating_sub(1);
                (room.name, room.last_seq, messages, hex)
            })
            .collect(),
    }
}
