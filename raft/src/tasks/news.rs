//! Who leads, told by who has won: a new leader says so to every node, so that calls that wait
//! anywhere go to it at once instead of finding it by trial; and all leaders to a node that is back,
//! which knows only those of its own shards.

use std::sync::Arc;

use model::id::{NodeId, ShardId};
use model::limits;
use openraft::async_runtime::watch::WatchReceiver;
use proto::node as wire;
use proto::node::frame::Body;
use tokio::sync::mpsc;

use crate::replica::group::Group;
use crate::shared::Shared;

/// A shard that this node leads, and since which term.
type Won = (ShardId, u64);

/// Watches who leads one shard, until its group ends; what this node wins goes to `won`.
pub(crate) async fn watch(node: Arc<Shared>, group: Arc<Group>, won: mpsc::UnboundedSender<Won>) {
    let mut metrics = group.raft.server_metrics();
    let (shard, leaders) = (group.shard, group.leadership.leaders.clone());
    let sleep = group.leadership.sleep.clone();
    drop(group);
    let mut before = None;
    loop {
        let (term, leader) = {
            let now = metrics.borrow_and_update();
            (now.vote.leader_id().term, now.current_leader.map(NodeId))
        };
        let now = (term, leader);
        if before.replace(now).is_some_and(|before| before != now) {
            sleep.begin_anew();
        }
        let news = leader.filter(|one| leaders.lock().see(shard, node.id(), term, *one));
        if let Some(leader) = news {
            node.heard_of_leader(shard, leader);
            if leader == node.id() {
                // Nobody listens only while the node is stopping.
                let _ = won.send((shard, term));
            }
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

fn leads(won: impl Iterator<Item = Won>) -> wire::Leads {
    let led = won.map(|(shard, term)| wire::Led {
        shard: shard.0,
        term,
    });
    wire::Leads { led: led.collect() }
}

/// Tells all nodes what this one has won, all shards of a wave together.
pub(crate) async fn tell(node: Arc<Shared>, mut won: mpsc::UnboundedReceiver<Won>) {
    let mut shards = Vec::new();
    while won
        .recv_many(&mut shards, limits::SHARDS_MAX as usize)
        .await
        > 0
    {
        let leads = leads(shards.drain(..));
        for link in node.peers().all() {
            link.tell(Body::Leads(leads.clone()));
        }
    }
}

/// Tells `peer` that this node leads `led`.
pub(crate) fn tell_all(node: &Shared, peer: NodeId, led: &[Arc<Group>]) {
    let won = led.iter().map(|group| {
        let metrics = group.raft.server_metrics();
        let term = metrics.borrow_watched().vote.leader_id().term;
        (group.shard, term)
    });
    if let Some(link) = node.peers().link(peer).filter(|_| !led.is_empty()) {
        link.tell(Body::Leads(leads(won)));
    }
}

/// What `from` tells of its shards.
pub(crate) fn hear(node: &Shared, from: NodeId, leads: &wire::Leads) {
    // No more than there may be: what is heard is kept.
    for led in leads
        .led
        .iter()
        .filter(|led| led.shard <= limits::SHARDS_MAX)
    {
        node.heard_of_leader(ShardId(led.shard), from);
    }
}
