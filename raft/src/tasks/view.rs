//! How a node learns the view of the cluster: from its own replica of the meta shard, and from whoever
//! knows a newer one.

use std::sync::Arc;
use std::time::Duration;

use model::cluster::ClusterState;
use model::id::{NodeId, ShardId};
use proto::net::{Channel, Dialer};
use proto::node as wire;
use proto::node::peer_client::PeerClient;
use store::Log;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tonic::Status;

use crate::adapter::trust;
use crate::api::{Identity, Refused};
use crate::link::hello::{self, Hello};
use crate::replica::group::Group;
use crate::shared::{Shared, decode_view};
use crate::tasks::DUTIES_CHECK_EVERY;

/// For one node to tell its view.
const ASK_MAX: Duration = Duration::from_secs(1);
/// Before the next node is asked for its view beside the ones that have not told theirs.
const ASK_TURN: Duration = Duration::from_millis(100);

/// Has the node stopped when another says that the cluster does not want it.
pub(crate) async fn hear_refusals(
    node: Arc<Shared>,
    mut refusals: mpsc::UnboundedReceiver<(NodeId, Status)>,
) {
    if let Some((by, status)) = refusals.recv().await {
        let why = format!("node {by} says: {}", status.message());
        let removed = hello::is_removal(&status);
        node.refused(Refused { removed, why }).await;
    }
}

/// Takes the view from the own replica of the meta shard as it is applied.
pub(crate) async fn follow_meta(node: Arc<Shared>) {
    loop {
        // One that is broken is rebuilt, and is another then.
        if let Some(meta) = node.group(ShardId::META) {
            follow(&node, &meta).await;
        }
        sleep(DUTIES_CHECK_EVERY).await;
    }
}

async fn follow(node: &Arc<Shared>, meta: &Arc<Group>) {
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
pub(crate) async fn ask_others(
    node: Arc<Shared>,
    hello: Hello,
    dialer: Dialer,
    seeds: Vec<String>,
) {
    let dialed = seeds.iter().filter_map(|seed| dialer.dial(seed).ok());
    let mut seeds: Vec<Channel> = dialed.collect();
    loop {
        sleep(DUTIES_CHECK_EVERY).await;
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
            Err(status) if hello::is_removal(&status) => {
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
