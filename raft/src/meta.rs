//! The node's standing tasks: learning the cluster's view, founding, laying out shards, and
//! keeping the databases in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::cluster::{
    Change, ChangeBody, ClusterState, Layout, Leave, MetaReplicas, Move, Node, Shard,
};
use model::command::Command;
use model::id::{NodeId, ShardId};
use model::placement;
use openraft::metrics::RaftServerMetrics;
use prost::Message;
use proto::net::Channel;
use proto::net::Dialer;
use proto::node as wire;
use proto::node::peer_client::PeerClient;
use store::Log;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tonic::Status;

use crate::api::{Identity, Refused, heartbeat_ms_min};
use crate::group::Group;
use crate::hello::Hello;
use crate::incarnation::Member;
use crate::node::Inner;
use crate::types::Types;
use crate::{balance, heal, index, kept, moves, quorum, search, trust};

/// Between looks at what there is to do.
pub(crate) const LOOK: Duration = Duration::from_millis(250);
/// For a step that needs other nodes.
pub(crate) const STEP_MAX: Duration = Duration::from_secs(5);
/// For one node to tell its view.
const ASK_MAX: Duration = Duration::from_secs(1);
/// Before the next node is asked for its view beside the ones that have not told theirs.
const ASK_TURN: Duration = Duration::from_millis(100);
/// Looks of housekeeping to one at a shard that sleeps.
const ASLEEP_LOOKS: u32 = 16;
/// A shard is founded by its first replica; each next one waits this much longer.
const FOUND_TURN: Duration = Duration::from_secs(3);

/// What the standing tasks need.
pub(crate) struct Tasks {
    pub(crate) node: Arc<Inner>,
    pub(crate) hello: Hello,
    pub(crate) dialer: Dialer,
    pub(crate) refusals: mpsc::UnboundedReceiver<(NodeId, Status)>,
    pub(crate) wins: mpsc::UnboundedReceiver<(ShardId, u64)>,
}

impl Tasks {
    /// Starts them; they end when the node stops.
    pub(crate) fn start(self, seeds: Vec<String>, found: Option<ClusterState>) {
        let Tasks {
            node,
            hello,
            dialer,
            refusals,
            wins,
        } = self;
        let until_stopped = |task: futures::future::BoxFuture<'static, ()>| {
            let stop = node.stop.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = task => {}
                }
            });
        };
        until_stopped(Box::pin(hear_refusals(node.clone(), refusals)));
        until_stopped(Box::pin(crate::news::tell(node.clone(), wins)));
        until_stopped(Box::pin(crate::gray::watch(node.clone())));
        until_stopped(Box::pin(crate::time::watch(node.clone())));
        until_stopped(Box::pin(follow_meta(node.clone())));
        let search = search::Search::new(node.clone(), hello.clone(), dialer.clone(), &seeds);
        until_stopped(Box::pin(search.run()));
        until_stopped(Box::pin(ask_others(node.clone(), hello, dialer, seeds)));
        until_stopped(Box::pin(reconcile(node.clone())));
        until_stopped(Box::pin(moves::carry_out(node.clone())));
        until_stopped(Box::pin(keep_house(node.clone())));
        until_stopped(Box::pin(balance::keep(node.clone())));
        until_stopped(Box::pin(crate::sleep::keep(node.clone())));
        until_stopped(Box::pin(index::keep_known(node.clone())));
        until_stopped(Box::pin(crate::scrub::keep(node.clone())));
        until_stopped(Box::pin(quorum::watch(node.clone())));
        let marks = node.marks().clone();
        until_stopped(Box::pin(async move { marks.keep().await }));
        if let Some(cluster) = found {
            until_stopped(Box::pin(found_cluster(node.clone(), cluster)));
        }
    }
}

async fn hear_refusals(node: Arc<Inner>, mut refusals: mpsc::UnboundedReceiver<(NodeId, Status)>) {
    if let Some((by, status)) = refusals.recv().await {
        let why = format!("node {by} says: {}", status.message());
        let removed = crate::hello::is_removal(&status);
        node.refused(Refused { removed, why }).await;
    }
}

/// Takes the view from the own replica of the meta shard as it is applied.
async fn follow_meta(node: Arc<Inner>) {
    loop {
        // One that is broken is rebuilt, and is another then.
        if let Some(meta) = node.group(ShardId::META) {
            follow(&node, &meta).await;
        }
        sleep(LOOK).await;
    }
}

async fn follow(node: &Arc<Inner>, meta: &Arc<Group>) {
    let mut applied = meta.state.watch_applied();
    loop {
        let view = meta.state.cluster();
        if view.epoch > 0 {
            node.learn(view.as_ref().clone()).await;
        }
        let same = |now: &Arc<Group>| Arc::ptr_eq(now, meta);
        loop {
            match timeout(ASK_MAX, applied.changed()).await {
                Ok(Ok(())) => break,
                Ok(Err(_)) => return,
                Err(_) if node.group(ShardId::META).as_ref().is_some_and(same) => {}
                Err(_) => return,
            }
        }
    }
}

/// Asks whoever knows a newer view: peers by what their pings say, seeds while nothing is known. One
/// that is silent is not waited for before the next is asked, since it may have burned.
async fn ask_others(node: Arc<Inner>, hello: Hello, dialer: Dialer, seeds: Vec<String>) {
    let dialed = seeds.iter().filter_map(|seed| dialer.dial(seed).ok());
    let mut seeds: Vec<Channel> = dialed.collect();
    loop {
        sleep(LOOK).await;
        let epoch = node.current_view().epoch;
        let mut newer = node.peers().all();
        newer.retain(|link| link.peer_epoch() > epoch);
        newer.sort_by_key(|link| !link.is_up());
        let mut asked: Vec<Channel> = newer.iter().map(|link| link.channel()).collect();
        if epoch > 0 {
            // Peers have links of their own.
            seeds.clear();
        } else if asked.is_empty() {
            asked = seeds.clone();
        }
        let asks = (0_u32..).zip(asked).map(|(turn, channel)| {
            let hello = &hello;
            Box::pin(async move {
                sleep(ASK_TURN * turn).await;
                let answer = timeout(ASK_MAX, fetch(channel, hello, epoch)).await;
                answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")))
            })
        });
        let asks: Vec<_> = asks.collect();
        if asks.is_empty() {
            continue;
        }
        match futures::future::select_ok(asks).await {
            Ok((view, _)) => node.learn(view).await,
            // Whoever is not wanted any more hears it from whomever it asks.
            Err(status) if crate::hello::is_removal(&status) => {
                let (removed, why) = (true, status.message().to_owned());
                return node.refused(Refused { removed, why }).await;
            }
            Err(status) => tracing::debug!(%status, "no view from a peer"),
        }
    }
}

async fn fetch(channel: Channel, hello: &Hello, known_epoch: u64) -> Result<ClusterState, Status> {
    let request = hello.request(wire::WatchClusterRequest { known_epoch });
    let views = PeerClient::new(channel).watch_cluster(request).await;
    match views?.into_inner().message().await? {
        Some(view) => {
            let view = decode_view(view.state).map_err(Status::internal)?;
            let believed = trust::view(&view, hello.cluster_id(), known_epoch);
            believed.map_err(|why| Status::internal(why.to_string()))?;
            Ok(view)
        }
        None => Err(Status::unavailable("the peer ended the stream")),
    }
}

/// The newest view that the nodes of `known` and the seeds have, of those that answer at once; `known`
/// when nobody has a newer one. For a node that is about to start.
pub async fn newest_view(
    identity: &Identity,
    log: &Log,
    dialer: &Dialer,
    seeds: &[String],
    known: ClusterState,
) -> ClusterState {
    let hello = Hello::new(Arc::new(identity.clone()), log.clone());
    let me = identity.node.0;
    let others = known.nodes.iter().filter(|node| node.id != me);
    let mut addresses: Vec<&String> = others.map(|node| &node.address).chain(seeds).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let channels = addresses.into_iter().filter_map(|at| dialer.dial(at).ok());
    let asks = channels.map(|channel| timeout(ASK_MAX, fetch(channel, &hello, known.epoch)));
    let answers = futures::future::join_all(asks).await;
    let newer = answers.into_iter().filter_map(|answer| answer.ok()?.ok());
    let newest = newer.max_by_key(|view| view.epoch);
    newest
        .filter(|view| view.epoch > known.epoch)
        .unwrap_or(known)
}

/// Reads a view, from a peer or from the local record.
pub(crate) fn decode_view(bytes: Bytes) -> Result<ClusterState, String> {
    ClusterState::decode(bytes).map_err(|e| format!("the cluster's view: {e}"))
}

/// Founds the cluster, once: the meta shard with this node alone, and its first record.
async fn found_cluster(node: Arc<Inner>, cluster: ClusterState) {
    let Some(meta) = node.group(ShardId::META) else {
        return;
    };
    while meta.state.cluster().epoch == 0 {
        if !meta.raft.is_initialized().await.unwrap_or(true) {
            let members = BTreeMap::from([(node.id().0, Member::default())]);
            if let Err(error) = meta.raft.initialize(members).await {
                tracing::warn!(%error, "founding the cluster");
            }
        }
        if meta.leads() {
            let change = Change {
                body: Some(ChangeBody::Found(Box::new(cluster.clone()))),
            };
            if let Err(error) = meta.propose(&Command::meta(change), STEP_MAX).await {
                tracing::warn!(%error, "founding the cluster");
            }
        }
        sleep(LOOK).await;
    }
}

/// Lets a replica that was just opened begin. A shard that was laid out just now is founded: by its
/// first replica at once, by the others only if that one does not. All give the same members, so
/// that doing it twice does no harm.
pub(crate) async fn begin_shard(node: Arc<Inner>, group: Arc<Group>, founded: Option<Shard>) {
    let first = async {
        if let Some(shard) = founded {
            found_shard(&node, &group, &shard).await;
        }
    };
    let begins = crate::sleep::begin(&node, &group, first);
    node.stop.run_until_cancelled(begins).await;
}

async fn found_shard(node: &Inner, group: &Group, shard: &Shard) {
    let mut replicas = shard.replicas.iter();
    let rank = replicas.position(|id| *id == node.id().0).unwrap_or(0);
    if rank > 0 {
        let turn = FOUND_TURN * u32::try_from(rank).unwrap_or(u32::MAX);
        let leader = |now: &RaftServerMetrics<Types>| now.current_leader;
        if group.seen(Instant::now() + turn, leader).await.is_some() {
            return;
        }
    }
    if group.raft.is_initialized().await.unwrap_or(true) {
        return;
    }
    let members = shard.replicas.iter().map(|id| (*id, Member::default()));
    let members: BTreeMap<u64, Member> = members.collect();
    if let Err(error) = group.raft.initialize(members).await {
        tracing::debug!(%error, shard = shard.id, "the shard was founded by another replica");
    }
}

/// While this node leads the meta shard: makes what is match what should be.
async fn reconcile(node: Arc<Inner>) {
    loop {
        sleep(LOOK).await;
        let Some(meta) = node.group(ShardId::META) else {
            continue;
        };
        let view = meta.state.cluster();
        // One that is cut off takes all others for lost.
        if !meta.leads() || !meta.is_confirmed() || view.epoch == 0 {
            continue;
        }
        if let Err(why) = reconcile_once(&node, &meta, &view).await {
            tracing::warn!(%why, "the meta shard's work goes on later");
            sleep(LOOK * 2).await;
        }
    }
}

async fn reconcile_once(
    node: &Arc<Inner>,
    meta: &Group,
    view: &ClusterState,
) -> Result<(), String> {
    let voters = meta.voters();
    let current: Vec<u64> = voters.iter().copied().collect();
    let wanted = placement::meta_wanted(view, &candidates(node, view, &voters), &current);
    let wanted_set: BTreeSet<u64> = wanted.iter().copied().collect();
    let mut new = wanted_set.difference(&voters);
    let ready = new.all(|id| node.peers().reachable(NodeId(*id)));
    let me = node.id().0;
    if wanted_set != voters && ready && voters.contains(&me) && !wanted_set.contains(&me) {
        let may = |id| wanted_set.contains(&id) && voters.contains(&id);
        return moves::hand_over(node, meta, may).await;
    }
    let unfit = voters.iter().any(|id| {
        let vitals = node.peers().vitals();
        vitals.unfit(NodeId(*id), ShardId::META)
    });
    let change = (wanted_set != voters && ready) || meta.is_joint();
    if change || unfit {
        tracing::debug!(
            ?voters,
            ?wanted,
            unfit,
            "the meta shard changes its members"
        );
        if let Err(why) = heal::restore(node, meta, &wanted_set, &heal::Free).await {
            tracing::debug!(%why, "the members of the meta shard change later");
        }
        if change {
            return Ok(());
        }
    }
    if !current.is_empty() && current != sorted(&view.meta_replicas) {
        let change = ChangeBody::MetaReplicas(MetaReplicas { nodes: current });
        return decide(meta, change).await;
    }
    if let Some(said) = search::to_announce(node, view, &voters) {
        let name = view.node(NodeId(said.node)).map_or("", |node| &node.name);
        tracing::info!(%name, address = %said.address, rack = %said.rack, "a node has moved");
        return decide(meta, ChangeBody::Announce(said)).await;
    }
    let whole = wanted.iter().all(|id| node.peers().reachable(NodeId(*id)));
    if view.awaits_layout() && whole {
        let shards = placement::first_layout(view);
        let shards = shards.map_err(|e| format!("the shards cannot be laid out: {e}"))?;
        tracing::info!(shards = shards.len(), "laying out the shards");
        return decide(meta, ChangeBody::Layout(Layout { shards })).await;
    }
    place(node, meta, view).await
}

/// The nodes that may replicate the meta shard: not those that are lost or leaving; and while it is
/// being repaired not those either that cannot be reached just now.
fn candidates(node: &Inner, view: &ClusterState, voters: &BTreeSet<u64>) -> Vec<Node> {
    let after = Duration::from_millis(node.placement_policy().replace_after_ms);
    let lost = |id: u64| {
        view.leaving.contains(&id) || node.absent_for(id).is_some_and(|absent| absent >= after)
    };
    let repair = voters.iter().any(|id| lost(*id));
    let may = |n: &&Node| {
        let usable = voters.contains(&n.id) || !repair || node.peers().reachable(NodeId(n.id));
        !lost(n.id) && usable
    };
    view.nodes.iter().filter(may).cloned().collect()
}

/// Begins what should move, and takes back what cannot get there any more. The shards' leaders
/// carry it out.
async fn place(node: &Inner, meta: &Group, view: &ClusterState) -> Result<(), String> {
    let plan = placement::plan(view, &node.health(), &node.placement_policy());
    for step in plan.drop {
        tracing::info!(shard = %ShardId(step.shard), "a move is taken back");
        decide(meta, ChangeBody::DropMove(step)).await?;
    }
    for wanted in plan.begin {
        let Move {
            shard, from, to, ..
        } = wanted;
        tracing::info!(
            shard = %ShardId(shard),
            from = %NodeId(from),
            to = %NodeId(to),
            degraded = wanted.degraded,
            "a replica moves"
        );
        decide(meta, ChangeBody::BeginMove(wanted)).await?;
    }
    for node in placement::Plan::removable(view) {
        tracing::info!(node = %NodeId(node), "a node is removed");
        let leave = Leave { node, stays: false };
        decide(meta, ChangeBody::Remove(leave)).await?;
    }
    Ok(())
}

fn sorted(ids: &[u64]) -> Vec<u64> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids
}

async fn decide(meta: &Group, change: ChangeBody) -> Result<(), String> {
    let command = Command::meta(Change { body: Some(change) });
    let reply = meta
        .propose(&command, STEP_MAX)
        .await
        .map_err(|e| e.to_string())?;
    match reply.answer {
        Some(model::command::Answer::Refused(refusal)) => Err(refusal.message),
        _ => Ok(()),
    }
}

/// Flushes state by size and by age, and cuts the logs behind it.
/// Tells of nodes that have become too far for heartbeats, once each time.
fn note_far(node: &Inner, far: &mut BTreeSet<NodeId>) {
    let heartbeat_ms = node.tuning().heartbeat_ms;
    for link in node.peers().all() {
        let round = link.usual_round().filter(|_| link.is_up());
        let Some(round) = round.filter(|round| heartbeat_ms_min(*round) > heartbeat_ms) else {
            far.remove(&link.node());
            continue;
        };
        if far.insert(link.node()) {
            tracing::warn!(
                peer = %link.node(),
                round_trip_ms = round.as_millis(),
                heartbeat_ms,
                "a node is so far that its answers to heartbeats may come too late for shards to be \
                 led: give all nodes a larger raft.heartbeat_ms, and election timeouts to match"
            );
        }
    }
}

async fn keep_house(node: Arc<Inner>) {
    let keep = node.keep().clone();
    let flush_age_max = Duration::from_millis(keep.flush_age_ms);
    let absent_max = Duration::from_millis(keep.absent_ms_max);
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut flushed_at = Instant::now();
    let mut far = BTreeSet::new();
    for looks in 0_u32.. {
        look.tick().await;
        note_far(&node, &mut far);
        let unflushed = node.state().unflushed_bytes();
        let old = unflushed > 0 && flushed_at.elapsed() > flush_age_max;
        // What finds no room is fatal; the log keeps what is not flushed.
        if (unflushed >= keep.flush_bytes || old) && !node.has_no_room() {
            if let Err(error) = node.state().flush().await {
                return node.die(error.to_string());
            }
            flushed_at = Instant::now();
        }
        node.note_absent();
        let view = node.current_view();
        let groups = node.groups();
        let kept = groups.iter().map(|group| group.log_bytes()).collect();
        let bytes_max = kept::cap(kept, keep.log_bytes_max);
        for group in groups {
            // Where nothing is written little is to be cut, and there may be thousands.
            if group.leadership.sleep.is_still() && looks % ASLEEP_LOOKS != 0 {
                continue;
            }
            group.tidy_snapshots();
            let absent_for = |id: &u64| node.absent_for(*id);
            let waits_for = |id: &u64| absent_for(id).is_some_and(|absent| absent < absent_max);
            let absent = view.replicas_of(group.shard).iter().any(waits_for);
            let given_up = |id: &u64| absent_for(id).is_some_and(|absent| absent >= absent_max);
            group.cut_log(absent, given_up, bytes_max).await;
        }
    }
}
